package accounts

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"time"
)

// Messenger sends accounts the events that wait for them. It keeps nothing
// that a restart could lose.
type Messenger struct {
	Directory *Directory
	// Send posts a body to an address; nil is success.
	Send func(ctx context.Context, address string, body []byte) error
	// RealNow is the time in the query, which receivers compare with theirs.
	RealNow func() time.Time
	Log     *slog.Logger
	// Most is how many events may wait for one account; 0 = MaxMessages.
	Most int

	courier *courier
}

// NewMessenger returns a messenger for a directory, which wakes it.
func NewMessenger(d *Directory, log *slog.Logger, realNow func() time.Time, send func(context.Context, string, []byte) error) *Messenger {
	m := &Messenger{Directory: d, Send: send, RealNow: realNow, Log: log, courier: newCourier()}
	d.Queued = m.courier.wake
	return m
}

// Run sends until ctx ends, and returns when nothing is on its way any more.
func (m *Messenger) Run(ctx context.Context, interval time.Duration) {
	m.courier.run(ctx, interval, m.round)
}

// round starts to send to every account that has events due.
func (m *Messenger) round(ctx context.Context) {
	due, err := m.Directory.MessagesDue(ctx, 1000)
	if err != nil && ctx.Err() == nil {
		m.Log.ErrorContext(ctx, "events for accounts could not be read", "error", err)
	}
	for _, account := range due {
		m.courier.start(account, func() bool { return m.deliver(ctx, account) })
	}
}

// deliver sends what is due to an account until something fails, and reports
// whether something may have come meanwhile.
func (m *Messenger) deliver(ctx context.Context, account string) (again bool) {
	most := cmp.Or(m.Most, MaxMessages)
	if n, err := m.Directory.GiveUpMessages(ctx, account, most); err != nil && ctx.Err() == nil {
		m.Log.ErrorContext(ctx, "events of an account could not be counted", "account", account, "error", err)
	} else if n > 0 {
		m.Log.WarnContext(ctx, "more events wait for an account than are kept: the oldest were given up; its message URL does not take them, or not fast enough",
			"account", account, "given_up", n, "kept", most)
	}
	for ctx.Err() == nil {
		sent, err := m.Directory.SendMessage(ctx, account, m.send)
		failed, ok := errors.AsType[*Unsent](err)
		switch {
		case err == nil && sent:
			again = true
		case err == nil, ctx.Err() != nil:
			return again
		case ok:
			m.Log.WarnContext(ctx, "an event was not accepted by the message URL of its account", "account", account, "event", failed.ID,
				"try", failed.Tries, "again", !failed.GaveUp, "reason", failed.Cause.Error())
			return true
		default:
			m.Log.ErrorContext(ctx, "an event could not be sent", "account", account, "error", err)
			return false
		}
	}
	return false
}

func (m *Messenger) send(ctx context.Context, address string, body []byte) error {
	query, err := messageQuery(m.Directory.Random, m.RealNow())
	if err != nil {
		return err
	}
	return m.Send(ctx, withQuery(address, query.Encode()), body)
}

// messageQuery is what a receiver checks. Choice: an account has no message
// token here, so the signature is over an empty one.
func messageQuery(random io.Reader, now time.Time) (url.Values, error) {
	var raw [4]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return nil, fmt.Errorf("drawing a nonce: %w", err)
	}
	timestamp, nonce := strconv.FormatInt(now.Unix(), 10), strconv.FormatUint(uint64(binary.BigEndian.Uint32(raw[:])), 10)
	return url.Values{"signature": {signature("", timestamp, nonce)}, "timestamp": {timestamp}, "nonce": {nonce}}, nil
}
