package accounts

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Message is an event that waits to be sent to an account's message URL.
type Message struct {
	ID        int64
	Account   string
	Body      string // XML
	CreatedAt time.Time
	Tries     int
	DueAt     time.Time
}

// MessageTries is how often an event is sent until it is given up.
const MessageTries = 5

// MaxMessages is how many events wait for one account at most. Above it the
// oldest are given up: a receiver that is gone, or slower than its codes are
// scanned, must not fill the disk.
const MaxMessages = 100_000

// messageLease is how long an event that is being sent belongs to one sender.
const messageLease = time.Minute

// ErrNoMessage is a sentinel of the store; never for callers of the wire.
var ErrNoMessage = errors.New("accounts: no such message")

// MessageTx is what a transaction keeps of followers and of events for accounts.
type MessageTx interface {
	Follower(ctx context.Context, account, openid string) (bool, error)
	// AddFollower reports whether the user is a new one.
	AddFollower(ctx context.Context, account, openid string, since time.Time) (added bool, err error)

	// AddMessage stores an event and gives it its ID.
	AddMessage(ctx context.Context, m Message) error
	// NextMessage returns the oldest event of an account that is due, or
	// ErrNoMessage.
	NextMessage(ctx context.Context, account string, now time.Time) (Message, error)
	// PostponeMessage stores the tries and the next time of an event.
	PostponeMessage(ctx context.Context, m Message) error
	DropMessage(ctx context.Context, id int64) error
	// MoreMessages reports whether more than so many events of an account wait.
	MoreMessages(ctx context.Context, account string, than int) (bool, error)
	// DropOldMessages removes an account's oldest events but for so many.
	DropOldMessages(ctx context.Context, account string, keep int) (int, error)
	// MessagesDue lists accounts that have events to be sent.
	MessagesDue(ctx context.Context, now time.Time, limit int) ([]string, error)
}

// CodeOf returns the code that a scanned text is the content of; ok is false
// for another text. It knows the form only, not whether there is such a code.
func CodeOf(text string) (code string, ok bool) {
	code, ok = strings.CutPrefix(text, QRStart)
	return code, ok && len(code) == 22
}

// ScannedCode takes note that a user scanned a text that opened no Mini
// Program. If it is the content of a parametric code that works, the user
// follows its account from then on, and the account's message URL, if it has
// one, will get a subscribe event from a new follower, a SCAN event from an old
// one. Both are durable when it returns. openID is the user's openid under an
// account. Contract: rules 3.5.
func (d *Directory) ScannedCode(ctx context.Context, text string, openID func(account string) string, at time.Time) error {
	code, ok := CodeOf(text)
	if !ok {
		return nil
	}
	var q QRCode
	var account Account
	var user string
	follows := false
	err := d.Store.ViewAccounts(ctx, func(tx Tx) (err error) {
		if q, err = tx.QRCode(ctx, code); err != nil {
			return err
		}
		if account, err = tx.Account(ctx, q.Account); err != nil {
			return err
		}
		user = openID(account.AppID)
		follows, err = tx.Follower(ctx, account.AppID, user)
		return err
	})
	switch {
	case errors.Is(err, ErrNoQRCode), errors.Is(err, ErrNoAccount):
		return nil
	case err != nil:
		return err
	case !q.Works(at), follows && account.MessageURL == "":
		return nil
	}
	err = d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		account, err := tx.Account(ctx, q.Account)
		if errors.Is(err, ErrNoAccount) {
			return nil
		}
		if err != nil {
			return err
		}
		added, err := tx.AddFollower(ctx, account.AppID, user, at)
		if err != nil || account.MessageURL == "" {
			return err
		}
		return tx.AddMessage(ctx, Message{Account: account.AppID, Body: scanEvent(account, q, user, added, at), CreatedAt: at, DueAt: d.Now()})
	})
	if err == nil && d.Queued != nil {
		d.Queued()
	}
	return err
}

// scanEvent is what an account is told of a scan of its code.
func scanEvent(a Account, q QRCode, openid string, isNew bool, at time.Time) string {
	event, key := "SCAN", q.Scene
	if isNew {
		event, key = "subscribe", "qrscene_"+q.Scene
	}
	return message([]element{
		{name: "ToUserName", text: a.UserName()}, {name: "FromUserName", text: openid}, {name: "CreateTime", text: strconv.FormatInt(at.Unix(), 10)},
		{name: "MsgType", text: "event"}, {name: "Event", text: event}, {name: "EventKey", text: key}, {name: "Ticket", text: q.Ticket},
	}, false)
}

// MessagesDue lists at most limit accounts that have events to be sent now.
func (d *Directory) MessagesDue(ctx context.Context, limit int) ([]string, error) {
	var list []string
	err := d.Store.ViewAccounts(ctx, func(tx Tx) (err error) {
		list, err = tx.MessagesDue(ctx, d.Now(), limit)
		return err
	})
	return list, err
}

// GiveUpMessages gives up an account's oldest events but for so many, and
// returns how many those were.
func (d *Directory) GiveUpMessages(ctx context.Context, account string, keep int) (int, error) {
	more := false
	// Nearly always there are not: that must not wait for the one writer.
	err := d.Store.ViewAccounts(ctx, func(tx Tx) (err error) {
		more, err = tx.MoreMessages(ctx, account, keep)
		return err
	})
	if err != nil || !more {
		return 0, err
	}
	n := 0
	err = d.Store.UpdateAccounts(ctx, func(tx Tx) (err error) {
		n, err = tx.DropOldMessages(ctx, account, keep)
		return err
	})
	return n, err
}

// Unsent is an event that could not be sent this time.
type Unsent struct {
	Message
	GaveUp bool
	Cause  error
}

func (u *Unsent) Error() string {
	return fmt.Sprintf("event %d of %s, try %d: %v", u.ID, u.Account, u.Tries, u.Cause)
}

// Unwrap returns what went wrong.
func (u *Unsent) Unwrap() error { return u.Cause }

// SendMessage sends the oldest event of an account that is due. sent is false
// where there is none. An *Unsent says that it will be tried again, or no
// more. An event may come twice: after a crash nobody knows whether it came.
func (d *Directory) SendMessage(ctx context.Context, account string, send func(ctx context.Context, address string, body []byte) error) (sent bool, err error) {
	var m Message
	var claimed time.Time
	address := ""
	err = d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		address = ""
		if err := tx.LockAccount(ctx, account); err != nil {
			return err
		}
		claimed = d.Now()
		var err error
		if m, err = tx.NextMessage(ctx, account, claimed); err != nil {
			return err
		}
		a, err := tx.Account(ctx, account)
		if err != nil && !errors.Is(err, ErrNoAccount) {
			return err
		}
		if a.MessageURL == "" {
			return tx.DropMessage(ctx, m.ID) // nobody wants it any more
		}
		address = a.MessageURL
		m.Tries++
		m.DueAt = claimed.Add(messageLease)
		return tx.PostponeMessage(ctx, m)
	})
	switch {
	case errors.Is(err, ErrNoMessage):
		return false, nil
	case err != nil:
		return false, err
	case address == "":
		return true, nil
	}
	err = send(ctx, address, []byte(m.Body))
	// What became of it is noted even while the server stops. The next try is
	// counted from the beginning of this one, however the clock moved meanwhile.
	settle := context.WithoutCancel(ctx)
	wait, more := backOff(m.Tries)
	failed := &Unsent{Message: m, GaveUp: m.Tries >= MessageTries || !more, Cause: err}
	failed.DueAt = claimed.Add(wait)
	if err != nil && ctx.Err() != nil {
		failed.GaveUp, failed.Tries, failed.DueAt = false, m.Tries-1, claimed
	}
	saved := d.Store.UpdateAccounts(settle, func(tx Tx) error {
		if err == nil || failed.GaveUp {
			return tx.DropMessage(settle, m.ID)
		}
		return tx.PostponeMessage(settle, failed.Message)
	})
	switch {
	case saved != nil:
		return true, saved
	case err != nil:
		return true, failed
	}
	return true, nil
}
