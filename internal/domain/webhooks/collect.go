package webhooks

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// The event sources under which reader positions are stored: the scan log and the alarms.
const (
	ScanSource  = "scans"
	alarmSource = "alarms"
)

// batchSize is the number of events that one step examines.
const batchSize = 1000

// Collect queues new events for the webhooks that want them, and reports whether there may be more events. The reader position is stored in
// the same transaction as the queued events, so that each event is queued exactly once, even if several nodes read or a node crashes.
func (s *Service) Collect(ctx context.Context) (hasMore bool, err error) {
	var errs []error
	for _, source := range []struct {
		name    string
		collect func(context.Context) (bool, error)
	}{{"scans", s.collectScans}, {"alarms", s.collectAlarms}, {"packages", s.collectPackages}} {
		// A source is collected even if another source cannot be read.
		more, err := source.collect(ctx)
		hasMore = hasMore || more
		// If another reader moved the position, that reader has queued the events; if the scan log was replaced, the events are read again.
		if !errors.Is(err, errMoved) {
			errs = append(errs, outbox.WrapTask(source.name, err))
		}
	}
	return hasMore, errors.Join(errs...)
}

// pendingEvent is an event for the webhooks for which wants returns true.
type pendingEvent struct {
	event, body string
	wants       func(Webhook) bool
}

// errMoved reports that another reader moved the position, or that the scan log was replaced.
var errMoved = errors.New("webhooks: the offset was changed concurrently")

// cursor is the position of a webhook reader in an event source.
type cursor struct {
	position   int64
	checkpoint string                        // identifies the scan at the position, see markOf
	logID      string                        // scan log to which the position belongs (Tx.Counting); only for scans
	queued     map[string]*scanlog.OffsetSet // events of each node's journal that were queued for webhooks; only for scans
	all        bool                          // true = queued contains every journal from which any event was queued
	learn      bool                          // true = the field read contains every event after the previous position, up to this position
	read       []scanlog.Origin
}

// Unmarked is the mark of the position after a scan log was truncated, or after the server switched to another scan log. A reader that
// finds this mark searches for the first event that was not queued.
const Unmarked = "?"

// markOf returns the mark for an event at a position. The mark includes the position, so that it is recognized as outdated if an older
// program version has changed only the position.
func markOf(position int64, id scanlog.ScanID) string { return fmt.Sprintf("%d %s", position, id) }

// queue adds events to the outbox and moves the reader's position, in one transaction. queue selects the webhooks that exist in
// that transaction. A webhook that was added in the meantime misses no events, because it wants only events after its creation.
func (s *Service) queue(ctx context.Context, source string, from, to cursor, events []pendingEvent) error {
	now := s.Now()
	err := s.Store.Update(ctx, func(tx Tx) error {
		if err := s.move(ctx, tx, source, from, to); err != nil {
			return err
		}
		hooks, err := tx.Webhooks(ctx)
		if err != nil {
			return err
		}
		return enqueue(ctx, tx, hooks, events, now)
	})
	if err != nil {
		return fmt.Errorf("queueing %s for webhooks: %w", source, err)
	}
	return nil
}

// enqueue adds events to the outbox for the webhooks that want them.
func enqueue(ctx context.Context, tx Tx, hooks []Webhook, events []pendingEvent, now time.Time) error {
	for _, w := range hooks {
		var list []outbox.Row
		for _, e := range events {
			if !w.Enabled || !e.wants(w) {
				continue
			}
			list = append(list, outbox.Row{Receiver: receiverName(w.ID), Event: e.event, Body: e.body, OrderKey: orderKey(e.body),
				CreatedAt: now, NextAt: now})
		}
		if err := tx.AddRows(ctx, outbox.Deliveries, list); err != nil {
			return err
		}
	}
	return nil
}

// move moves the position of a reader; the error is errMoved if another reader moved the position first.
func (s *Service) move(ctx context.Context, tx Tx, source string, from, to cursor) error {
	ok, err := tx.Advance(ctx, source, from.position, to.position)
	if err == nil && !ok {
		err = errMoved
	}
	if err != nil || source != ScanSource {
		return err
	}
	// After Advance, the counted scan log cannot change until the transaction ends.
	if counting, err := tx.Counting(ctx); err != nil {
		return err
	} else if counting != from.logID {
		return errMoved
	}
	if err := tx.PutMark(ctx, source, to.checkpoint); err != nil {
		return err
	}
	// After an import, the queued events of some journals are unknown, because exports do not contain them. If the counted position is
	// between the reader's old and new positions, all counted events are queued, as are the events read in this step.
	if to.learn && !from.all {
		if err := tx.AdoptCountedOffsets(ctx, from.position, to.position); err != nil {
			return err
		}
	}
	return recordQueued(ctx, tx, to.read, nil)
}

// recordQueued records, for each journal, that events were queued. recordQueued skips journals whose queued events are unknown, unless
// initial contains the events that were queued before. The transaction's lock prevents concurrent changes of the record.
func recordQueued(ctx context.Context, tx Tx, read []scanlog.Origin, initial *scanlog.OffsetSet) error {
	if len(read) == 0 {
		return nil
	}
	current, changed := cursor{}, map[string]*scanlog.OffsetSet{}
	var err error
	if current.queued, current.all, err = tx.ReportedSets(ctx); err != nil {
		return err
	}
	for _, o := range read {
		if initial != nil && !current.knowsJournal(o.Node) {
			current.queued[o.Node] = initial.Clone()
		}
		if current.knowsJournal(o.Node) {
			changed[o.Node] = current.markQueued(o)
		}
	}
	return tx.PutQueuedOffsets(ctx, changed)
}

// resumePosition returns the position from which to continue reading, and the webhooks that want events of a source.
func (s *Service) resumePosition(ctx context.Context, source string) (hooks []Webhook, loc cursor, err error) {
	err = s.Store.View(ctx, func(tx Tx) (err error) {
		if hooks, err = tx.Webhooks(ctx); err != nil {
			return err
		}
		hooks = slices.DeleteFunc(hooks, func(w Webhook) bool {
			return !w.Enabled || source != ScanSource && !w.Filter.Alarms || source == ScanSource && !w.WantsScans()
		})
		if loc.position, err = tx.Position(ctx, source); err != nil || source != ScanSource || len(hooks) == 0 {
			return err
		}
		if loc.checkpoint, err = tx.Checkpoint(ctx, source); err != nil {
			return err
		}
		if loc.logID, err = tx.Counting(ctx); err != nil {
			return err
		}
		loc.queued, loc.all, err = tx.ReportedSets(ctx)
		return err
	})
	return hooks, loc, err
}

// restart moves positions that are beyond the end of a source back to its end. A position beyond the end belongs to another log, as after
// an import or a restored backup.
func (s *Service) restart(ctx context.Context, source string, from cursor, end int64) error {
	return s.update(ctx, func(tx Tx) error {
		if err := s.move(ctx, tx, source, from, cursor{position: end, checkpoint: Unmarked}); err != nil {
			return err
		}
		hooks, err := tx.Webhooks(ctx)
		if err != nil {
			return err
		}
		for _, w := range hooks {
			if source == ScanSource {
				w.AfterScanOffset = min(w.AfterScanOffset, end)
			} else {
				w.AfterAlarmID = min(w.AfterAlarmID, end)
			}
			if err := tx.PutWebhook(ctx, w); err != nil {
				return err
			}
		}
		return nil
	})
}

// knowsJournal reports whether the queued events of a journal are known.
func (c *cursor) knowsJournal(node string) bool { return c.all || c.queued[node] != nil }

// markQueued records an event as queued, and returns the queued events of its journal.
func (c *cursor) markQueued(o scanlog.Origin) *scanlog.OffsetSet {
	c.queued[o.Node] = c.queued[o.Node].Extended(o)
	return c.queued[o.Node]
}

// wasQueued reports whether an event was already queued. If the queued events of the event's journal are unknown, an event that is
// shipped again counts as queued.
func (c *cursor) wasQueued(e *scanlog.Entry) bool {
	if c.knowsJournal(e.From.Node) {
		return c.queued[e.From.Node].Has(e.From.Position)
	}
	return e.From.Reshipped
}

func (s *Service) collectScans(ctx context.Context) (hasMore bool, err error) {
	if s.Log == nil {
		return false, nil
	}
	// Without a webhook that wants scans, the log is not read: it may be unavailable without consequences.
	hooks, from, err := s.resumePosition(ctx, ScanSource)
	if err != nil || len(hooks) == 0 {
		return false, err
	}
	end, err := s.scansEnd(ctx)
	switch {
	case err != nil:
		return false, err
	case from.logID != s.Log.ID(): // right after a start with another scan log, the stored log ID is still that of the old log
		return false, nil
	case from.position == end && (from.all || !s.Origins):
		return false, nil
	case from.position == end:
		to := from
		to.learn = true
		return false, s.queue(ctx, ScanSource, from, to, nil)
	case from.position > end:
		return false, s.restart(ctx, ScanSource, from, end)
	case s.Origins && from.checkpoint == Unmarked:
		return true, s.rewindToUnqueued(ctx, from)
	}
	to, start := cursor{position: from.position, learn: s.Origins}, from.position
	if s.Origins && strings.HasPrefix(from.checkpoint, strconv.FormatInt(start, 10)+" ") {
		start-- // the event at the position shows whether this is the log that was read before
	}
	var events []pendingEvent
	n := 0
	for e, err := range s.Log.Read(ctx, start) {
		if err != nil {
			return false, fmt.Errorf("reading the scan log: %w", err)
		}
		if e.Position == from.position {
			if markOf(e.Position, e.ID) != from.checkpoint {
				return true, s.rewindToUnqueued(ctx, from)
			}
			continue
		}
		n++
		if n > batchSize {
			hasMore = true
			break
		}
		to.position, to.checkpoint = e.Position, markOf(e.Position, e.ID)
		alreadyQueued := from.wasQueued(&e)
		if node := e.From.Node; node != "" {
			to.read = append(to.read, e.From)
			if from.knowsJournal(node) {
				from.markQueued(e.From)
			}
		}
		if alreadyQueued || !slices.ContainsFunc(hooks, func(w Webhook) bool { return w.Filter.Scan(e.Event) }) {
			continue
		}
		id, body, err := scanMessage(e.Event)
		if err != nil {
			return false, err
		}
		wants := func(w Webhook) bool { return e.Position > w.AfterScanOffset && w.Filter.Scan(e.Event) }
		events = append(events, pendingEvent{id, body, wants})
	}
	if s.Log.ID() != from.logID || to.position == from.position {
		return false, nil // the events that were read may be from another log
	}
	return hasMore, s.queue(ctx, ScanSource, from, to, events)
}

// rewindToUnqueued moves the reader's position before the first event that was not queued. An event whose journal is not stated, or whose
// journal has unknown queued events, counts as queued if it is at or before the reader's position.
func (s *Service) rewindToUnqueued(ctx context.Context, from cursor) error {
	to := cursor{}
	for e, err := range s.Log.Read(ctx, 0) {
		if err != nil {
			return fmt.Errorf("finding the first scan that is not queued: %w", err)
		}
		isQueued := e.Position <= from.position && (e.From.Node == "" || !from.knowsJournal(e.From.Node))
		if !isQueued && (e.From.Node == "" || !from.wasQueued(&e)) {
			break
		}
		to.position = e.Position
	}
	if s.Log.ID() != from.logID {
		return nil
	}
	return s.queue(ctx, ScanSource, from, to, nil)
}

// QueueRest is called for a node that no longer uses a stream. QueueRest queues the node's journal events after the position start that
// were not queued before, and returns their number. journal returns an iterator over the events after a position. If the queued events of
// the journal are unknown, the counted events are assumed to be queued. The position of the webhook reader does not change.
func (s *Service) QueueRest(ctx context.Context, node string, counted *scanlog.OffsetSet, start int64,
	journal func(start int64) iter.Seq2[scanlog.Entry, error]) (n int, err error) {
	hooks, from, err := s.resumePosition(ctx, ScanSource)
	if err != nil || len(hooks) == 0 {
		return 0, err
	}
	queued := from.queued[node]
	if !from.knowsJournal(node) {
		queued = counted
	}
	var entries []scanlog.Entry
	for e, err := range journal(max(start, queued.From())) {
		if err != nil {
			return n, fmt.Errorf("reading the scan journal: %w", err)
		}
		if queued.Has(e.Position) {
			continue
		}
		e.From = scanlog.Origin{Node: node, Position: e.Position}
		if entries = append(entries, e); len(entries) == batchSize {
			if err := s.queueRest(ctx, counted, entries); err != nil {
				return n, err
			}
			n, entries = n+len(entries), entries[:0]
		}
	}
	if len(entries) > 0 {
		err = s.queueRest(ctx, counted, entries)
		n += len(entries)
	}
	return n, err
}

func (s *Service) queueRest(ctx context.Context, counted *scanlog.OffsetSet, entries []scanlog.Entry) error {
	now := s.Now()
	err := s.Store.Update(ctx, func(tx Tx) error {
		if err := tx.LockReader(ctx, ScanSource); err != nil {
			return err
		}
		hooks, err := tx.Webhooks(ctx)
		if err != nil {
			return err
		}
		var events []pendingEvent
		var origins []scanlog.Origin
		for _, e := range entries {
			id, body, err := scanMessage(e.Event)
			if err != nil {
				return err
			}
			origins = append(origins, e.From)
			events = append(events, pendingEvent{id, body, func(w Webhook) bool { return w.Filter.Scan(e.Event) }})
		}
		if err := recordQueued(ctx, tx, origins, counted); err != nil {
			return err
		}
		return enqueue(ctx, tx, hooks, events, now)
	})
	if err != nil {
		return fmt.Errorf("queueing scans for webhooks: %w", err)
	}
	return nil
}

func (s *Service) collectAlarms(ctx context.Context) (hasMore bool, err error) {
	if s.Alarms == nil {
		return false, nil
	}
	end, err := s.alarmsEnd(ctx)
	if err != nil {
		return false, err
	}
	_, from, err := s.resumePosition(ctx, alarmSource)
	switch {
	case err != nil || from.position == end:
		return false, err
	case from.position > end:
		// Another node may have collected alarms since the end was read.
		if end, err = s.alarmsEnd(ctx); err != nil || from.position <= end {
			return err == nil, err
		}
		return false, s.restart(ctx, alarmSource, from, end)
	}
	list, err := s.Alarms(ctx, from.position, batchSize)
	if err != nil {
		return false, fmt.Errorf("reading alarms: %w", err)
	}
	return len(list) == batchSize, s.queueEvents(ctx, alarmSource, from, list,
		func(e Event, w Webhook) bool { return e.Number > w.AfterAlarmID })
}

// collectPackages queues reminders of packages that are overdue. If no webhook wants reminders, no package is read.
func (s *Service) collectPackages(ctx context.Context) (hasMore bool, err error) {
	for _, kind := range []string{PackageNotDownloaded, PackageNotActivated} {
		hooks, from, err := s.resumePosition(ctx, kind)
		if err != nil || len(hooks) == 0 || s.Packages == nil {
			return hasMore, err
		}
		list, err := s.Packages(ctx, kind, from.position)
		if err != nil {
			return hasMore, fmt.Errorf("reading packages: %w", err)
		}
		err = s.queueEvents(ctx, kind, from, list, func(e Event, w Webhook) bool { return e.At.After(w.CreatedAt) })
		if err != nil {
			return hasMore, err
		}
		hasMore = hasMore || len(list) > 0
	}
	return hasMore, nil
}

// queueEvents queues events of a source for the webhooks that want alarms, if an event is after the creation of the webhook.
func (s *Service) queueEvents(ctx context.Context, source string, from cursor, list []Event, isAfter func(Event, Webhook) bool) error {
	to := from
	var events []pendingEvent
	for _, e := range list {
		if to.position = e.Number; e.Type == "" {
			continue
		}
		body, err := encode(message{e.Type, e.At.UTC(), e.Data})
		if err != nil {
			return err
		}
		events = append(events, pendingEvent{eventPrefixes[e.Type] + strconv.FormatInt(e.Number, 10), body,
			func(w Webhook) bool { return w.Filter.Alarms && isAfter(e, w) }})
	}
	if to.position == from.position {
		return nil
	}
	return s.queue(ctx, source, from, to, events)
}
