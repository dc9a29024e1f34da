package webhooks

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/sealer"
)

// Scans is the part of the scan log that is read. See ledger.Log.
type Scans interface {
	ID() string
	Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error]
	End(ctx context.Context) (int64, error)
}

// Alarm tells receivers that an alarm was raised, or that it was dismissed.
type Alarm struct {
	Number    int64 // in the order in which that happened
	Dismissed bool
	At        time.Time
	// Data is the payload for receivers.
	Data any
}

// Book holds the transactions on webhooks.
type Book struct {
	Store  Store
	Vault  *sealer.Key
	Now    func() time.Time
	Random io.Reader
	// Log is the scan log to read; nil = no scans.
	Log Scans
	// Origins says that the events of Log name the journal from which they came.
	Origins bool
	// Alarms returns what happened to alarms after a number, oldest first, and LastAlarm
	// the number of the last; nil = no alarms.
	Alarms    func(ctx context.Context, after int64, limit int) ([]Alarm, error)
	LastAlarm func(ctx context.Context) (int64, error)
	// Check says whether an address may be sent to.
	Check func(ctx context.Context, url string) error
	// Unknown returns those of some rules and applications that do not exist; nil = all are taken
	// to exist.
	Unknown func(ctx context.Context, rules, batches []int64) (noRules, noBatches []int64, err error)
	// Wake is called when a delivery may be due.
	Wake func()
	// RealNow is the time in a signature, which a receiver compares with its own clock.
	RealNow func() time.Time
	// Life returns the time for which a delivery is retried.
	Life func() time.Duration
	// ClockBelieved reports whether the clock is good enough to give up and remove what is old by
	// it; nil = always.
	ClockBelieved func() bool
}

// secretBytes is the length of a secret: the specification wants 24 to 64.
const secretBytes = 32

// secretMark begins the text of a secret, as the specification wants it.
const secretMark = "whsec_"

// secretPlace returns the purpose for which a webhook's secret is sealed.
func secretPlace(id int64) string { return "webhooks/secret/" + number(id) }

// number returns a webhook as a receiver of the outbox.
func number(id int64) string { return strconv.FormatInt(id, 10) }

// Add makes a webhook and returns the text of its secret, which is shown only now. The webhook is
// told of what happens from now on.
func (b *Book) Add(ctx context.Context, url string, wanted Wanted) (w Webhook, secret string, err error) {
	if err := wanted.Validate(); err != nil {
		return w, "", err
	}
	if err := b.Check(ctx, url); err != nil {
		return w, "", err
	}
	if err := b.known(ctx, wanted, Wanted{}); err != nil {
		return w, "", err
	}
	var raw [secretBytes]byte
	if _, err := io.ReadFull(b.Random, raw[:]); err != nil {
		return w, "", fmt.Errorf("drawing the secret of a webhook: %w", err)
	}
	w = Webhook{URL: url, Wanted: wanted, Enabled: true}
	if w.HearsScans() { // a webhook for alarms alone can be made while the log does not answer
		if w.ScansFrom, err = b.scansEnd(ctx); err != nil {
			return w, "", err
		}
	}
	if w.AlarmsFrom, err = b.alarmsEnd(ctx); err != nil {
		return w, "", err
	}
	err = b.Store.UpdateWebhooks(ctx, func(tx Tx) (err error) {
		// The number comes first: another call at the same time waits for it, and then counts this
		// webhook too.
		if w.ID, err = tx.NewWebhookID(ctx); err != nil {
			return err
		}
		storedWebhooks, err := tx.Webhooks(ctx)
		if err != nil {
			return err
		}
		if len(storedWebhooks) >= MaxWebhooks {
			return accounts.Invalid(fmt.Sprintf("there are %d webhooks, which is the most there can be: remove or change one", len(storedWebhooks)))
		}
		w.Secret = b.Vault.Seal(secretPlace(w.ID), raw[:])
		w.CreatedAt = b.Now()
		if err := b.beginTelling(ctx, tx, &w); err != nil {
			return err
		}
		return tx.PutWebhook(ctx, w)
	})
	return w, secretMark + base64.StdEncoding.EncodeToString(raw[:]), err
}

// beginTelling lets the reader of scans begin, if this webhook is the first that wants scans.
func (b *Book) beginTelling(ctx context.Context, tx Tx, w *Webhook) error {
	if !w.HearsScans() {
		return nil
	}
	if err := tx.HoldReader(ctx, ScanSource); err != nil {
		return err
	}
	// Where nodes with and without --events run together, the reader may begin behind a scan of the other
	// ledger.
	switch counting, err := tx.Counting(ctx); {
	case err != nil:
		return err
	case b.Log != nil && counting != "" && counting != b.Log.ID():
		w.ScansFrom = 0
	}
	storedWebhooks, err := tx.Webhooks(ctx)
	if err != nil || slices.ContainsFunc(storedWebhooks, Webhook.HearsScans) {
		return err
	}
	return tx.BeginTelling(ctx)
}

// known returns an error for a rule or an application that does not exist: its receiver would never be told of it.
// Those that the webhook named before may have been deleted since.
func (b *Book) known(ctx context.Context, w, oldWanted Wanted) error {
	if b.Unknown == nil {
		return nil
	}
	var ids, batches []int64
	for _, id := range w.Rules {
		if !slices.Contains(oldWanted.Rules, id) {
			ids = append(ids, id)
		}
	}
	for _, c := range w.Codes {
		if !slices.ContainsFunc(oldWanted.Codes, func(oldCodes Codes) bool { return oldCodes.Batch == c.Batch }) {
			batches = append(batches, c.Batch)
		}
	}
	noRules, noBatches, err := b.Unknown(ctx, ids, batches)
	switch {
	case err != nil:
		return err
	case len(noRules) > 0:
		return accounts.Invalid(fmt.Sprintf("rules: there is no rule %d; GET /admin/v1/rules and qrjump rule list list them with their ids",
			noRules[0]))
	case len(noBatches) > 0:
		return accounts.Invalid(fmt.Sprintf("codes: there is no application %d; GET /admin/v1/batches and qrjump batch list list them",
			noBatches[0]))
	}
	return nil
}

func (b *Book) scansEnd(ctx context.Context) (int64, error) {
	if b.Log == nil {
		return 0, nil
	}
	end, err := b.Log.End(ctx)
	if err != nil {
		return 0, fmt.Errorf("where the log of scans ends: %w", err)
	}
	return end, nil
}

func (b *Book) alarmsEnd(ctx context.Context) (int64, error) {
	if b.LastAlarm == nil {
		return 0, nil
	}
	last, err := b.LastAlarm(ctx)
	if err != nil {
		return 0, fmt.Errorf("which alarm is the last: %w", err)
	}
	return last, nil
}

// Change changes the address of a webhook, what it wants, and whether it is enabled. ErrNoWebhook.
func (b *Book) Change(ctx context.Context, id int64, f func(*Webhook) error) (w Webhook, err error) {
	err = b.Store.ViewWebhooks(ctx, func(tx Tx) (err error) {
		w, err = tx.Webhook(ctx, id)
		return err
	})
	if err != nil {
		return w, err
	}
	url, oldWanted, heard := w.URL, w.Wanted, w.HearsScans()
	if err := f(&w); err != nil {
		return w, err
	}
	if err := w.Wanted.Validate(); err != nil {
		return w, err
	}
	if err := b.known(ctx, w.Wanted, oldWanted); err != nil {
		return w, err
	}
	if w.URL != url {
		if err := b.Check(ctx, w.URL); err != nil {
			return w, err
		}
	}
	// The webhook is not told of scans from the time when it wanted none. Where the end of the log
	// is not known, it is told of the last earlier scans too.
	end, unknown := int64(0), error(nil)
	if !heard && w.HearsScans() {
		end, unknown = b.scansEnd(ctx)
	}
	err = b.Store.UpdateWebhooks(ctx, func(tx Tx) (err error) {
		if w, err = tx.Webhook(ctx, id); err != nil {
			return err
		}
		if err := f(&w); err != nil {
			return err
		}
		if !heard && w.HearsScans() && unknown == nil {
			w.ScansFrom = max(w.ScansFrom, end)
		}
		if err := b.beginTelling(ctx, tx, &w); err != nil {
			return err
		}
		return tx.PutWebhook(ctx, w)
	})
	b.wake()
	return w, err
}

// List returns all webhooks, oldest first.
func (b *Book) List(ctx context.Context) (list []Webhook, err error) {
	err = b.Store.ViewWebhooks(ctx, func(tx Tx) (err error) {
		list, err = tx.Webhooks(ctx)
		return err
	})
	return list, err
}

// Delete removes a webhook and what waits for it. ErrNoWebhook.
func (b *Book) Delete(ctx context.Context, id int64) error {
	return b.Store.UpdateWebhooks(ctx, func(tx Tx) error {
		if _, err := tx.Webhook(ctx, id); err != nil {
			return err
		}
		return tx.DeleteWebhook(ctx, id)
	})
}

// Deliveries lists deliveries, newest first.
func (b *Book) Deliveries(ctx context.Context, q outbox.Query) (list []outbox.Row, err error) {
	err = b.Store.ViewWebhooks(ctx, func(tx Tx) (err error) {
		list, err = tx.Rows(ctx, outbox.Deliveries, q)
		return err
	})
	return list, err
}

// Replay sends a delivery again with the same event id, whether it was delivered or given up.
// ErrNoDelivery.
func (b *Book) Replay(ctx context.Context, id int64) (d outbox.Row, err error) {
	err = b.Store.UpdateWebhooks(ctx, func(tx Tx) (err error) {
		list, err := tx.Rows(ctx, outbox.Deliveries, outbox.Query{ID: id, Limit: 1})
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return ErrNoDelivery
		}
		d = list[0]
		previous := d.NextAt
		d.Attempts, d.NextAt, d.DeliveredAt, d.Fault = 0, b.Now(), time.Time{}, ""
		// It lives as long as a new one.
		d.CreatedAt = b.Now()
		ok, err := tx.SaveRow(ctx, outbox.Deliveries, d, previous)
		if err == nil && !ok {
			err = fmt.Errorf("webhooks: delivery %d changed meanwhile", id)
		}
		return err
	})
	b.wake()
	return d, err
}

// SendTest queues a message without a scan or an alarm, and returns its event.
// ErrNoWebhook.
func (b *Book) SendTest(ctx context.Context, id int64) (event string, err error) {
	var raw [8]byte
	if _, err := io.ReadFull(b.Random, raw[:]); err != nil {
		return "", fmt.Errorf("drawing an event id: %w", err)
	}
	now := b.Now()
	body, err := encode(message{Test, now.UTC(), map[string]int64{"webhook": id}})
	if err != nil {
		return "", err
	}
	event = fmt.Sprintf("test_%x", raw)
	err = b.Store.UpdateWebhooks(ctx, func(tx Tx) error {
		if _, err := tx.Webhook(ctx, id); err != nil {
			return err
		}
		return tx.AddRows(ctx, outbox.Deliveries, []outbox.Row{{Receiver: number(id), Event: event, Body: body,
			CreatedAt: now, NextAt: now}})
	})
	b.wake()
	return event, err
}

func (b *Book) wake() {
	if b.Wake != nil {
		b.Wake()
	}
}
