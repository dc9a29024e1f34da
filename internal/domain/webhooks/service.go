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

// Scans is the interface for reading the scan log. See scanlog.Log.
type Scans interface {
	ID() string
	Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error]
	End(ctx context.Context) (int64, error)
}

// Event is a change of an alarm, or the end of a print package's deadline.
type Event struct {
	Number int64  // sequence number of the event, or ID of the package
	Type   string // type of the message; "" = nothing is sent, because the package is not overdue
	At     time.Time
	// Data is the payload for receivers.
	Data any
}

// Service implements the transactions on webhooks.
type Service struct {
	Store  accounts.Transactions[Tx]
	Vault  *sealer.Key
	Now    func() time.Time
	Random io.Reader
	// Log is the scan log to read; nil = no scans.
	Log Scans
	// Origins is true if the events of Log contain the names of the journals that they came from.
	Origins bool
	// Alarms returns the alarm events after a number, oldest first; LastAlarm returns the number of the last alarm event; nil = no alarms.
	Alarms    func(ctx context.Context, after int64, limit int) ([]Event, error)
	LastAlarm func(ctx context.Context) (int64, error)
	// Packages returns the packages after an ID whose deadline has passed, oldest first; kind is PackageNotDownloaded or
	// PackageNotActivated; nil = no reminders.
	Packages func(ctx context.Context, kind string, after int64) ([]Event, error)
	// Check returns an error if deliveries to an address are not allowed.
	Check func(ctx context.Context, url string) error
	// Unknown returns the given rules and applications that do not exist; nil = all are assumed to exist.
	Unknown func(ctx context.Context, rules, batches []int64) (noRules, noBatches []int64, err error)
	// Wake is called when a delivery may be due.
	Wake func()
	// RealNow returns the time for signatures, which a receiver compares with its own clock.
	RealNow func() time.Time
	// Life returns the duration for which a delivery is retried.
	Life func() time.Duration
	// ClockBelieved reports whether the clock is reliable enough to give up and delete old deliveries; nil = always.
	ClockBelieved func() bool
}

// secretBytes is the length of a secret in bytes: the Standard Webhooks specification requires 24 to 64.
const secretBytes = 32

// secretPrefix is the prefix of the text of a secret, as the Standard Webhooks specification requires.
const secretPrefix = "whsec_"

// secretPurpose returns the purpose under which a webhook's secret is encrypted.
func secretPurpose(id int64) string { return "webhooks/secret/" + receiverName(id) }

// receiverName returns the name of a webhook as a receiver in the outbox.
func receiverName(id int64) string { return strconv.FormatInt(id, 10) }

// Add creates a webhook and returns the text of its secret, which is shown only once. The webhook receives only events that occur
// after the call.
func (s *Service) Add(ctx context.Context, url string, filter Filter) (w Webhook, secret string, err error) {
	if err := filter.Validate(); err != nil {
		return w, "", err
	}
	if err := s.Check(ctx, url); err != nil {
		return w, "", err
	}
	if err := s.checkExists(ctx, filter, Filter{}); err != nil {
		return w, "", err
	}
	var raw [secretBytes]byte
	if _, err := io.ReadFull(s.Random, raw[:]); err != nil {
		return w, "", fmt.Errorf("generating the secret of a webhook: %w", err)
	}
	w = Webhook{URL: url, Filter: filter, Enabled: true}
	if w.WantsScans() { // a webhook that wants only alarms can be created while the scan log is unavailable
		if w.AfterScanOffset, err = s.scansEnd(ctx); err != nil {
			return w, "", err
		}
	}
	if w.AfterAlarmID, err = s.alarmsEnd(ctx); err != nil {
		return w, "", err
	}
	err = s.Store.Update(ctx, func(tx Tx) (err error) {
		// The ID is assigned first: a concurrent call waits for this transaction, and then counts this webhook too.
		if w.ID, err = tx.NewWebhookID(ctx); err != nil {
			return err
		}
		storedWebhooks, err := tx.Webhooks(ctx)
		if err != nil {
			return err
		}
		if len(storedWebhooks) >= MaxWebhooks {
			return accounts.Invalid(fmt.Sprintf("there are %d webhooks, the maximum: delete or change one", len(storedWebhooks)))
		}
		w.Secret = s.Vault.Seal(secretPurpose(w.ID), raw[:])
		w.CreatedAt = s.Now().UTC().Truncate(time.Millisecond) // as it is stored
		if err := s.startReader(ctx, tx, &w); err != nil {
			return err
		}
		return tx.PutWebhook(ctx, w)
	})
	return w, secretPrefix + base64.StdEncoding.EncodeToString(raw[:]), err
}

// startReader starts the reader of scans if this webhook is the first webhook that wants scans.
func (s *Service) startReader(ctx context.Context, tx Tx, w *Webhook) error {
	if !w.WantsScans() {
		return nil
	}
	if err := tx.LockReader(ctx, ScanSource); err != nil {
		return err
	}
	// If only some nodes run with --scan-stream, the reader may start at a position of the scan log that the other nodes use.
	switch counting, err := tx.Counting(ctx); {
	case err != nil:
		return err
	case s.Log != nil && counting != "" && counting != s.Log.ID():
		w.AfterScanOffset = 0
	}
	storedWebhooks, err := tx.Webhooks(ctx)
	if err != nil || slices.ContainsFunc(storedWebhooks, Webhook.WantsScans) {
		return err
	}
	return tx.StartReader(ctx)
}

// checkExists returns an error for a rule or an application that does not exist, because the webhook would never receive an event for it.
// The rules and applications of the old filter are not checked, because they may have been deleted since.
func (s *Service) checkExists(ctx context.Context, w, old Filter) error {
	if s.Unknown == nil {
		return nil
	}
	var ids, batches []int64
	for _, id := range w.Rules {
		if !slices.Contains(old.Rules, id) {
			ids = append(ids, id)
		}
	}
	for _, c := range w.Codes {
		if !slices.ContainsFunc(old.Codes, func(oldCodes Codes) bool { return oldCodes.Batch == c.Batch }) {
			batches = append(batches, c.Batch)
		}
	}
	noRules, noBatches, err := s.Unknown(ctx, ids, batches)
	switch {
	case err != nil:
		return err
	case len(noRules) > 0:
		return accounts.Invalid(fmt.Sprintf("rules: there is no rule %d; GET /admin/v1/rules and qrjump rule list show rules with ids",
			noRules[0]))
	case len(noBatches) > 0:
		return accounts.Invalid(fmt.Sprintf("codes: there is no application %d; GET /admin/v1/batches and qrjump batch list list them",
			noBatches[0]))
	}
	return nil
}

func (s *Service) scansEnd(ctx context.Context) (int64, error) {
	if s.Log == nil {
		return 0, nil
	}
	end, err := s.Log.End(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the end of the scan log: %w", err)
	}
	return end, nil
}

func (s *Service) alarmsEnd(ctx context.Context) (int64, error) {
	if s.LastAlarm == nil {
		return 0, nil
	}
	last, err := s.LastAlarm(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the last alarm: %w", err)
	}
	return last, nil
}

// Change changes the URL of a webhook, its filter, and whether it is enabled. ErrNoWebhook.
func (s *Service) Change(ctx context.Context, id int64, f func(*Webhook) error) (w Webhook, err error) {
	w, err = accounts.Transact(ctx, s.Store.View, func(tx Tx) (Webhook, error) { return tx.Webhook(ctx, id) })
	if err != nil {
		return w, err
	}
	url, old, wantedScans := w.URL, w.Filter, w.WantsScans()
	if err := f(&w); err != nil {
		return w, err
	}
	if err := w.Filter.Validate(); err != nil {
		return w, err
	}
	if err := s.checkExists(ctx, w.Filter, old); err != nil {
		return w, err
	}
	if w.URL != url {
		if err := s.Check(ctx, w.URL); err != nil {
			return w, err
		}
	}
	// A webhook that wanted no scans until now receives only later scans. If the end of the scan log is unknown, the webhook also receives
	// the last scans from before the change.
	end, unknown := int64(0), error(nil)
	if !wantedScans && w.WantsScans() {
		end, unknown = s.scansEnd(ctx)
	}
	err = s.update(ctx, func(tx Tx) (err error) {
		if w, err = tx.Webhook(ctx, id); err != nil {
			return err
		}
		if err := f(&w); err != nil {
			return err
		}
		if !wantedScans && w.WantsScans() && unknown == nil {
			w.AfterScanOffset = max(w.AfterScanOffset, end)
		}
		if err := s.startReader(ctx, tx, &w); err != nil {
			return err
		}
		return tx.PutWebhook(ctx, w)
	})
	s.wake()
	return w, err
}

// update runs f in a transaction that holds the lock of all webhooks.
func (s *Service) update(ctx context.Context, f func(Tx) error) error {
	return s.Store.Update(ctx, func(tx Tx) error {
		if err := tx.LockWebhooks(ctx); err != nil {
			return err
		}
		return f(tx)
	})
}

// List returns all webhooks, oldest first.
func (s *Service) List(ctx context.Context) ([]Webhook, error) {
	return accounts.Transact(ctx, s.Store.View, func(tx Tx) ([]Webhook, error) { return tx.Webhooks(ctx) })
}

// Delete deletes a webhook and its pending deliveries. ErrNoWebhook.
func (s *Service) Delete(ctx context.Context, id int64) error {
	return s.update(ctx, func(tx Tx) error {
		if _, err := tx.Webhook(ctx, id); err != nil {
			return err
		}
		return tx.DeleteWebhook(ctx, id)
	})
}

// Deliveries lists deliveries, newest first.
func (s *Service) Deliveries(ctx context.Context, q outbox.Query) ([]outbox.Row, error) {
	return accounts.Transact(ctx, s.Store.View, func(tx Tx) ([]outbox.Row, error) { return tx.Rows(ctx, outbox.Deliveries, q) })
}

// Replay queues a delivery again with the same event ID, whether it was delivered or given up. ErrNoDelivery.
func (s *Service) Replay(ctx context.Context, id int64) (d outbox.Row, err error) {
	err = s.Store.Update(ctx, func(tx Tx) (err error) {
		list, err := tx.Rows(ctx, outbox.Deliveries, outbox.Query{ID: id, Limit: 1})
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return ErrNoDelivery
		}
		d = list[0]
		previous := d.NextAt
		d.Attempts, d.NextAt, d.DeliveredAt, d.Error = 0, s.Now(), time.Time{}, ""
		// The replayed delivery is retried for as long as a new delivery.
		d.CreatedAt = s.Now()
		ok, err := tx.SaveRow(ctx, outbox.Deliveries, d, previous)
		if err == nil && !ok {
			err = fmt.Errorf("webhooks: delivery %d was changed concurrently", id)
		}
		return err
	})
	s.wake()
	return d, err
}

// SendTest queues a test message, and returns its event ID. ErrNoWebhook.
func (s *Service) SendTest(ctx context.Context, id int64) (event string, err error) {
	var raw [8]byte
	if _, err := io.ReadFull(s.Random, raw[:]); err != nil {
		return "", fmt.Errorf("generating an event ID: %w", err)
	}
	now := s.Now()
	body, err := encode(message{Test, now.UTC(), map[string]int64{"webhook": id}})
	if err != nil {
		return "", err
	}
	event = fmt.Sprintf("test_%x", raw)
	err = s.Store.Update(ctx, func(tx Tx) error {
		if _, err := tx.Webhook(ctx, id); err != nil {
			return err
		}
		return tx.AddRows(ctx, outbox.Deliveries, []outbox.Row{{Receiver: receiverName(id), Event: event, Body: body,
			CreatedAt: now, NextAt: now}})
	})
	s.wake()
	return event, err
}

func (s *Service) wake() {
	if s.Wake != nil {
		s.Wake()
	}
}
