package accounts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
)

// MaxMessages is the maximum number of pending events of one account. Above this limit the oldest events are discarded, so that an
// unreachable or slow receiver cannot fill the disk.
const MaxMessages = 100_000

// MessageTx is the part of a transaction that stores followers.
type MessageTx interface {
	Follower(ctx context.Context, account, openid string) (bool, error)
	// AddFollower stores a follower of an account and reports whether the follower is new.
	AddFollower(ctx context.Context, account, openid string, since time.Time) (added bool, err error)
}

// CodeOf returns the parametric code in a scanned text, whether or not the code exists; ok is false for a text in another format.
func CodeOf(text string) (code string, ok bool) {
	code, ok = strings.CutPrefix(text, QRStart)
	return code, ok && len(code) == 22
}

// ScannedCode records that a user scanned a text that opened no Mini Program. If the text is the content of a valid parametric code, the
// user becomes a follower of the account of the code. If the account has a message URL, it receives an event: "subscribe" for a new
// follower, "SCAN" for an existing follower. The follower and the event are durable when ScannedCode returns. openID returns the openid of
// the user for an account. Contract: rules §3.5.
func (d *Service) ScannedCode(ctx context.Context, text string, openID func(account string) string, t time.Time) error {
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
	case !q.Works(t), follows && account.MessageURL == "":
		return nil
	}
	err = d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		account, err := tx.KeepAccount(ctx, q.Account)
		if errors.Is(err, ErrNoAccount) {
			return nil
		}
		if err != nil {
			return err
		}
		added, err := tx.AddFollower(ctx, account.AppID, user, t)
		if err != nil || account.MessageURL == "" {
			return err
		}
		return QueueMessage(ctx, tx, account.AppID, scanEvent(account, q, user, added, t), t, d.Now())
	})
	if err == nil && d.Queued != nil {
		d.Queued()
	}
	return err
}

// scanEvent returns the event that account a receives after a user scanned its parametric code q.
func scanEvent(a Account, q QRCode, openid string, isNew bool, t time.Time) string {
	event, key := "SCAN", q.Scene
	if isNew {
		event, key = "subscribe", "qrscene_"+q.Scene
	}
	return message([]element{
		{name: "ToUserName", text: a.UserName()}, {name: "FromUserName", text: openid},
		{name: "CreateTime", text: strconv.FormatInt(t.Unix(), 10)},
		{name: "MsgType", text: "event"}, {name: "Event", text: event}, {name: "EventKey", text: key}, {name: "Ticket", text: q.Ticket},
	}, false)
}

// QueueMessage stores an event for an account; the event is sent at the time "due" or later.
func QueueMessage(ctx context.Context, tx outbox.Adder, account, event string, t, due time.Time) error {
	return tx.AddRows(ctx, outbox.Messages, []outbox.Row{{Receiver: account, Body: event, CreatedAt: t, NextAt: due}})
}

// MessagePolicy returns the delivery policy for events to accounts: events are sent in order, each with at most five attempts.
func (d *Service) MessagePolicy() outbox.Policy {
	return outbox.Policy{Kind: outbox.Messages, Batch: 1, Lease: sendLease, MaxWaiting: MaxMessages, NextAttempt: backOff(5),
		Open: func(ctx context.Context, account string) (func(*outbox.Row) (safehttp.Request, error), error) {
			var a Account
			err := d.Store.ViewAccounts(ctx, func(tx Tx) (err error) {
				if a, err = tx.Account(ctx, account); errors.Is(err, ErrNoAccount) {
					return nil
				}
				return err
			})
			return func(r *outbox.Row) (safehttp.Request, error) {
				if a.MessageURL == "" {
					return safehttp.Request{}, outbox.ErrSkip("the account no longer has a message URL")
				}
				query, err := messageQuery(d.Random, d.realNow())
				return postXML(a.MessageURL, query, []byte(r.Body)), err
			}, err
		},
		// Any response with status 200 acknowledges the event. On the Weixin platform the response body is a reply to the user; this server
		// has no chat and ignores the body.
		Refusal: func(_ *outbox.Row, a safehttp.Answer, err error) string {
			switch {
			case err != nil:
				return err.Error()
			case a.Status != http.StatusOK:
				return fmt.Sprintf("the response status is %d, want 200", a.Status)
			}
			return ""
		},
	}
}

// messageQuery returns the signed query parameters that the receiver of an event verifies. Assumed(message.signature): accounts on
// this server have no message token, so the signature uses an empty token.
func messageQuery(random io.Reader, now time.Time) (url.Values, error) {
	var raw [4]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return nil, fmt.Errorf("generating a nonce: %w", err)
	}
	timestamp, nonce := strconv.FormatInt(now.Unix(), 10), strconv.FormatUint(uint64(binary.BigEndian.Uint32(raw[:])), 10)
	return url.Values{"signature": {signature("", timestamp, nonce)}, "timestamp": {timestamp}, "nonce": {nonce}}, nil
}
