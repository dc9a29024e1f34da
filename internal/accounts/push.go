package accounts

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Push is one message to a platform's event URL: to send, or sent.
type Push struct {
	ID        int64
	Component string
	InfoType  string
	AppID     string // the account that it is about; "" for a ticket
	URL       string
	Sealed    string // the message; "" once nothing more will be sent
	Shown     string // the message without its secrets
	CreatedAt time.Time
	Attempts  int
	NextAt    time.Time // zero = nothing more is sent
	Delivered bool
	SentAt    time.Time // the last attempt
	Status    int       // the HTTP status of its answer; 0 = there was none
	Answer    string
	Fault     string
}

// The messages that a platform gets. Contract: rules 3.2.
const (
	TicketPush       = "component_verify_ticket"
	AuthorizedPush   = "authorized"
	UpdatedPush      = "updateauthorized"
	UnauthorizedPush = "unauthorized"
)

// keptPushes is how many finished pushes of a platform are kept for a look.
const keptPushes = 200

func pushPlace(id int64) string { return "pushes/" + strconv.FormatInt(id, 10) }

// element is one field of a message.
type element struct {
	name, text string
	secret     bool
}

// message writes a push as XML with at least the given length.
func message(elements []element, hide bool) string {
	var b strings.Builder
	b.WriteString("<xml>")
	for _, e := range elements {
		text := cdata(e.text)
		if e.secret && hide {
			text = cdata("[masked]")
		} else if e.name == "CreateTime" || strings.HasSuffix(e.name, "ExpiredTime") {
			text = e.text
		}
		b.WriteString("<" + e.name + ">" + text + "</" + e.name + ">")
	}
	b.WriteString("</xml>")
	return b.String()
}

// header is what every message begins with.
func (p Push) header() []element {
	return []element{{name: "AppId", text: p.Component}, {name: "CreateTime", text: strconv.FormatInt(p.CreatedAt.Unix(), 10)},
		{name: "InfoType", text: p.InfoType}}
}

// addPush puts a message on its way. Contract: clients: its length is ours to
// choose, and padding of at most 16 bytes is right for every reader.
func (d *Directory) addPush(ctx context.Context, tx Tx, p Push, elements []element) error {
	elements = append(p.header(), elements...)
	text := message(elements, false)
	if spare := (Envelope{AppID: p.Component}).spare(len(text)); spare > 0 {
		// White space between elements means nothing.
		text = strings.TrimSuffix(text, "</xml>") + strings.Repeat("\n", spare) + "</xml>"
	}
	id, err := tx.NextPush(ctx)
	if err != nil {
		return err
	}
	p.ID, p.NextAt = id, p.CreatedAt
	p.Sealed, p.Shown = d.Key.Seal(pushPlace(id), []byte(text)), message(elements, true)
	if err := tx.AddPush(ctx, p); err != nil {
		return err
	}
	return tx.ForgetPushes(ctx, p.Component, keptPushes)
}

// Pushes lists what was and will be sent to a platform, newest first.
// ErrNoComponent.
func (d *Directory) Pushes(ctx context.Context, component string, limit int) ([]Push, error) {
	var list []Push
	err := d.Store.ViewAccounts(ctx, func(tx Tx) error {
		if _, err := tx.ComponentAlone(ctx, component); err != nil {
			return err
		}
		var err error
		list, err = tx.Pushes(ctx, component, limit)
		return err
	})
	return list, err
}

// wakePusher tells whoever sends that there is something to send.
func (d *Directory) wakePusher() {
	if d.Wake != nil {
		d.Wake()
	}
}

// backOff is how long after an attempt the next one comes. A ticket is
// replaced by the next one before the longer waits.
func backOff(attempts int) (wait time.Duration, more bool) {
	waits := []time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
		15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour}
	if attempts > len(waits) {
		return 0, false
	}
	return waits[attempts-1], true
}

// open returns the message of a push.
func (d *Directory) openPush(p Push) ([]byte, error) {
	text, err := d.Key.Open(pushPlace(p.ID), p.Sealed)
	if err != nil {
		return nil, fmt.Errorf("push %d of %s: %w", p.ID, p.Component, err)
	}
	return text, nil
}
