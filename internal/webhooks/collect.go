package webhooks

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/qrjump/qrjump/internal/outbox"
)

// The sources of events, by which their positions are kept: the ledger and the
// alarms.
const (
	ScanSource  = "scans"
	alarmSource = "alarms"
)

// collected is how many events are looked at in one step.
const collected = 1000

// Collect queues what happened since the last look, for whom it concerns, and
// reports whether there may be more. The position moves in the transaction
// that queues: what was read once is queued once, whoever reads and crashes.
func (b *Book) Collect(ctx context.Context) (more bool, err error) {
	scans, err := b.collectScans(ctx)
	if err != nil {
		return false, err
	}
	alarms, err := b.collectAlarms(ctx)
	return scans || alarms, err
}

// queued is an event that is to be queued for some.
type queued struct {
	event, body string
	wants       func(Webhook) bool
}

// queue adds events to the outbox and moves a position, for the webhooks that are there in
// that transaction: one that was added meanwhile misses nothing, because it
// wants only what comes after what there was when it was added.
func (b *Book) queue(ctx context.Context, source string, from, to int64, events []queued) error {
	if from == to {
		return nil
	}
	now := b.Now()
	err := b.Store.UpdateWebhooks(ctx, func(tx Tx) error {
		ok, err := tx.Advance(ctx, source, from, to)
		if err != nil || !ok {
			return err // another node was faster, and queued them
		}
		hooks, err := tx.Webhooks(ctx)
		if err != nil {
			return err
		}
		for _, w := range hooks {
			var list []outbox.Row
			for _, e := range events {
				if !w.Enabled || !e.wants(w) {
					continue
				}
				list = append(list, outbox.Row{Receiver: number(w.ID), Event: e.event, Body: e.body, CreatedAt: now, NextAt: now})
			}
			if err := tx.AddRows(ctx, outbox.Deliveries, list); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("queueing %s for webhooks: %w", source, err)
	}
	return nil
}

// since is where reading goes on: the webhooks that want something, and the
// position.
func (b *Book) since(ctx context.Context, source string) (hooks []Webhook, position int64, err error) {
	err = b.Store.ViewWebhooks(ctx, func(tx Tx) (err error) {
		if hooks, err = tx.Webhooks(ctx); err != nil {
			return err
		}
		position, err = tx.Position(ctx, source)
		return err
	})
	hooks = slices.DeleteFunc(hooks, func(w Webhook) bool {
		return !w.Enabled || source == alarmSource && !w.Wanted.Alarms || source == ScanSource && len(w.Wanted.Codes) == 0 &&
			len(w.Wanted.Rules) == 0
	})
	return hooks, position, err
}

// restart moves what is beyond the end of a source back to it: the positions
// are of another log, as after an import or a restore of a backup.
func (b *Book) restart(ctx context.Context, source string, position, end int64) error {
	return b.Store.UpdateWebhooks(ctx, func(tx Tx) error {
		if ok, err := tx.Advance(ctx, source, position, end); err != nil || !ok {
			return err
		}
		hooks, err := tx.Webhooks(ctx)
		if err != nil {
			return err
		}
		for _, w := range hooks {
			if source == ScanSource {
				w.ScansFrom = min(w.ScansFrom, end)
			} else {
				w.AlarmsFrom = min(w.AlarmsFrom, end)
			}
			if err := tx.PutWebhook(ctx, w); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *Book) collectScans(ctx context.Context) (more bool, err error) {
	if b.Log == nil {
		return false, nil
	}
	end, err := b.scansEnd(ctx)
	if err != nil {
		return false, err
	}
	hooks, from, err := b.since(ctx, ScanSource)
	if err != nil || from == end {
		return false, err
	}
	if b.Turned != nil {
		if turned, err := b.Turned(ctx); err != nil || !turned {
			return false, err
		}
		// It may have been turned after the position was read.
		if hooks, from, err = b.since(ctx, ScanSource); err != nil || from == end {
			return false, err
		}
	}
	switch {
	case from > end:
		// Another node may have collected since the end was asked for.
		if end, err = b.scansEnd(ctx); err != nil || from <= end {
			return err == nil, err
		}
		return false, b.restart(ctx, ScanSource, from, end)
	case len(hooks) == 0:
		// Nobody wants to know of what there was until now.
		return false, b.queue(ctx, ScanSource, from, end, nil)
	}
	to, n := from, 0
	var events []queued
	for e, err := range b.Log.Read(ctx, from) {
		if err != nil {
			return false, fmt.Errorf("reading the log of scans: %w", err)
		}
		if n++; n > collected {
			more = true
			break
		}
		to = e.Position
		if e.From.Again {
			continue // it was told of in the stream that was lost
		}
		if !slices.ContainsFunc(hooks, func(w Webhook) bool { return w.Wanted.Scan(e.Event) }) {
			continue
		}
		id, body, err := scanMessage(e.Event)
		if err != nil {
			return false, err
		}
		events = append(events, queued{id, body, func(w Webhook) bool { return e.Position > w.ScansFrom && w.Wanted.Scan(e.Event) }})
	}
	return more, b.queue(ctx, ScanSource, from, to, events)
}

func (b *Book) collectAlarms(ctx context.Context) (more bool, err error) {
	if b.Alarms == nil {
		return false, nil
	}
	end, err := b.alarmsEnd(ctx)
	if err != nil {
		return false, err
	}
	_, from, err := b.since(ctx, alarmSource)
	switch {
	case err != nil || from == end:
		return false, err
	case from > end:
		// Another node may have collected since the end was asked for.
		if end, err = b.alarmsEnd(ctx); err != nil || from <= end {
			return err == nil, err
		}
		return false, b.restart(ctx, alarmSource, from, end)
	}
	list, err := b.Alarms(ctx, from, collected)
	if err != nil {
		return false, fmt.Errorf("reading alarms: %w", err)
	}
	to := from
	var events []queued
	for _, a := range list {
		kind, event := AlarmRaised, "alarm_"
		if a.Dismissed {
			kind, event = AlarmDismissed, "alarm_dismissed_"
		}
		body, err := encode(message{kind, a.At.UTC(), a.Data})
		if err != nil {
			return false, err
		}
		to = a.Number
		events = append(events, queued{event + strconv.FormatInt(a.Number, 10), body,
			func(w Webhook) bool { return a.Number > w.AlarmsFrom && w.Wanted.Alarms }})
	}
	return len(list) == collected, b.queue(ctx, alarmSource, from, to, events)
}
