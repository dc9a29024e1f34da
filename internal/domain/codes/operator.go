package codes

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// This file contains the operator's actions on codes of any account. The errors of the operator's actions are errors of the
// platform API with a detail, or a Conflict.

// Conflict is a one-line error for a change that the state of a code does not allow.
type Conflict string

func (c Conflict) Error() string { return string(c) }

// Change describes a change of codes by the operator.
type Change struct {
	Batch   int64
	Action  EventType
	Codes   Set
	Binding Binding   // Activate only
	From    time.Time // time at which the change takes effect; zero = at once
	Note    string
}

// maxCodesNote is the maximum length of notes and actor names.
const maxCodesNote = 256

// checkNote checks a note and the name of the caller that writes it.
func checkNote(ctx context.Context, note string) error {
	if !accounts.IsPlain(note, 0, maxCodesNote) || !accounts.IsPlain(accounts.ActorFromContext(ctx).ActorID, 1, maxCodesNote) {
		return errcode.InvalidArgs.WithDetail(behaviour.NoRow,
			"note and actor: want at most %d characters, none of them a control character", maxCodesNote)
	}
	return nil
}

// Change activates or deactivates codes, at once or later, or freezes, unfreezes, voids or redeems codes at once. Voiding is permanent.
// Redeeming a single code a second time fails. Change returns the number of codes that were not yet in the requested state.
func (s *Service) Change(ctx context.Context, c Change) (changed int64, err error) {
	b, err := s.Memory.BatchOrLoad(ctx, c.Batch)
	switch {
	case err != nil:
		return 0, err
	case len(c.Codes) == 0:
		return 0, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "no codes are given")
	case checkNote(ctx, c.Note) != nil:
		return 0, checkNote(ctx, c.Note)
	case !c.From.IsZero() && c.Action != Activate && c.Action != Deactivate:
		return 0, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "only an activation or a deactivation can be scheduled, not %s", c.Action)
	case !c.From.IsZero() && c.From.Before(s.Now()):
		return 0, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "%s is in the past", c.From.Format(time.RFC3339))
	}
	if err := b.CheckRange(c.Codes.Bounds()); err != nil {
		return 0, err
	}
	if b.IsProof && (c.Action == Activate || c.Action == Redeem) {
		return 0, Conflict(fmt.Sprintf("application %d has the proof codes of a print package: they cannot be activated", c.Batch))
	}
	if c.Action == Activate {
		if err := c.Binding.check(); err != nil {
			return 0, err
		}
	}
	if err := s.requireComplete(ctx, b); err != nil {
		return 0, err
	}
	return s.addEvent(ctx, Event{Batch: c.Batch, Action: c.Action, Codes: c.Codes, Binding: c.Binding, From: c.From, Note: c.Note}, lenient)
}

// checkRedeem returns a Conflict if e redeems only one code and the code is already redeemed, or if any code of e is frozen or void. The
// Memory is up to date within the transaction: see inBatch.
func (s *Service) checkRedeem(ctx context.Context, tx Tx, e Event) error {
	if e.Codes.Len() == 1 {
		index := e.Codes[0].From
		if s.Memory.State(e.Batch, index, e.OccurredAt).Redeemed {
			event, err := FirstEvent(ctx, tx, e.Batch, index, Redeem)
			if err != nil {
				return err
			}
			return Conflict(fmt.Sprintf("code %d was redeemed by %s at %s", index, event.Actor, event.OccurredAt.Format(time.RFC3339)))
		}
	}
	if index, state, found := s.Memory.FirstBlocked(e.Batch, e.Codes, e.OccurredAt); found {
		return Conflict(fmt.Sprintf("code %d is %s and cannot be redeemed", index, state))
	}
	return nil
}

// FirstEvent returns the first event of a type on a code; the zero Event = there is none.
func FirstEvent(ctx context.Context, tx Tx, batch, index int64, action EventType) (Event, error) {
	return noLimits.firstEvent(ctx, tx, batch, index, action)
}

func (l readLimits) firstEvent(ctx context.Context, tx Tx, batch, index int64, action EventType) (first Event, err error) {
	err = l.eventsOf(ctx, tx, batch, index, func(e Event) bool {
		if e.Action == action {
			first = e
		}
		return true
	})
	return first, err
}

// publicPageLimits limits the events that a public page may read, so that each page uses only a few megabytes at a time.
var publicPageLimits = readLimits{page: 100, total: 2_000}

// RedeemedAt returns the time at which a code was first redeemed; zero = never. RedeemedAt returns an error if it would have to
// read more events than publicPageLimits allows.
func (s *Service) RedeemedAt(ctx context.Context, batch, index int64) (time.Time, error) {
	first, err := accounts.Transact(ctx, s.Store.ViewCodes, func(tx Tx) (Event, error) {
		return publicPageLimits.firstEvent(ctx, tx, batch, index, Redeem)
	})
	return first.OccurredAt, err
}

// maxHistory is the maximum number of events in the displayed history of one code.
const maxHistory = 1000

// History lists the events of a code, newest first.
func (s *Service) History(ctx context.Context, batch, index int64) ([]Event, error) {
	return accounts.Transact(ctx, s.Store.ViewCodes, func(tx Tx) (list []Event, err error) {
		err = noLimits.eventsOf(ctx, tx, batch, index, func(e Event) bool {
			list = append(list, e)
			return len(list) < maxHistory
		})
		return list, err
	})
}

// readLimits limits the number of events that a search for a code's events reads, per page and in total.
type readLimits struct{ page, total int }

var noLimits = readLimits{page: 1_000, total: math.MaxInt}

// eventsOf yields the events of one code within the limits l, newest first, until yield returns false. The store returns every event whose
// bounds contain the index, even if the set of the event does not contain it; eventsOf therefore reads page by page and skips such events.
func (l readLimits) eventsOf(ctx context.Context, tx Tx, batch, index int64, yield func(Event) bool) error {
	read := 0
	for prev := int64(0); ; {
		if read >= l.total {
			return fmt.Errorf("the limit of %d events was reached in application %d around code %d", l.total, batch, index)
		}
		events, err := tx.EventsAt(ctx, batch, index, prev, min(l.page, l.total-read))
		if err != nil {
			return err
		}
		read += len(events)
		for _, e := range events {
			prev = e.Seq
			if e.Codes.Contains(index) && !yield(e) {
				return nil
			}
		}
		if len(events) < l.page {
			return nil
		}
	}
}

// Retargeted is the result of Retarget.
type Retargeted struct {
	Activations int   // number of renewed activations
	Codes       int64 // number of codes that open the new page, now or when their schedule takes effect
}

// Retarget changes the page that the active codes of a range open. Retarget keeps the activity and product of the codes, and the
// ranges with which they were activated.
func (s *Service) Retarget(ctx context.Context, batch int64, r Range, appid, path string, wxaType int) (Retargeted, error) {
	b, err := s.Memory.BatchOrLoad(ctx, batch)
	if err != nil {
		return Retargeted{}, err
	}
	if !accounts.IsPlain(accounts.ActorFromContext(ctx).ActorID, 1, maxCodesNote) {
		return Retargeted{}, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "actor: want at most %d characters, none of them a control character",
			maxCodesNote)
	}
	if err := b.CheckRange(r); err != nil {
		return Retargeted{}, err
	}
	const maxSpans = 1000
	var done Retargeted
	err = s.inBatch(ctx, batch, func(tx Tx, b Batch, t time.Time) error {
		// A scheduled activation would restore the old page, so Retarget changes scheduled activations too.
		spans := append(s.Memory.Active(batch, r, t), s.Memory.Waiting(batch, r, t)...)
		if n := len(spans); n > maxSpans {
			return errcode.InvalidArgs.WithDetail(behaviour.NoRow,
				"%d activations apply to this range: change the target of at most %d at once", n, maxSpans)
		}
		var changed []Range
		for _, active := range spans {
			changed = append(changed, active.Range)
			e := Event{Batch: batch, Action: Activate, Codes: NewSet(active.Range), Binding: active.Activation.Binding, OccurredAt: t,
				From: t, Note: "re-target"}
			if active.Activation.From.After(t) {
				e.From = active.Activation.From
			}
			// The event keeps the originally activated range, because a caller that repeats its activation names that range.
			if fullRange := active.Activation.Activated(); fullRange != active.Range {
				e.Renews = &fullRange
			}
			e.Binding.WxaAppID, e.Binding.WxaPath, e.Binding.WxaType = appid, path, wxaType
			if err := e.Binding.check(); err != nil {
				return err
			}
			if err := checkBinding(ctx, tx, b, e.Binding, lenient); err != nil {
				return err
			}
			if _, err := tx.AddEvent(ctx, e); err != nil {
				return err
			}
		}
		done = Retargeted{Activations: len(spans), Codes: NewSet(changed...).Len()}
		return nil
	})
	return done, err
}

// ActiveRange is a range of codes with the same activation.
type ActiveRange struct {
	Range
	Activation *Event
}

// Active lists the active parts of a range in order, each with its activation.
func (m *Memory) Active(batch int64, r Range, now time.Time) []ActiveRange {
	b := m.upToDate(batch, now)
	defer b.mu.Unlock()
	return b.active.activeIn(r)
}

// ActiveFrom lists the parts of a range that will be active at time t according to the events known at time now, followed by the parts with
// an activation scheduled after t.
func (m *Memory) ActiveFrom(batch int64, r Range, now, t time.Time) []ActiveRange {
	b := m.batch(batch)
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.activeAt(now, t).activeIn(r)
	for _, e := range b.waiting {
		if e.Action == Activate && e.From.After(t) {
			var scheduled coverage
			scheduled.apply(&e)
			list = append(list, scheduled.activeIn(r)...)
		}
	}
	return list
}

// activeAt returns the codes that will be active at time t if no further events are added. The caller must hold b.mu and must not
// modify the result.
func (b *batchMemory) activeAt(now, t time.Time) *coverage {
	b.applyUntil(now)
	if len(b.waiting) == 0 || b.waiting[0].From.After(t) {
		return &b.active
	}
	future := &coverage{spans: *b.active.spans.Copy()}
	for _, e := range b.waiting {
		if e.From.After(t) {
			break // the events are sorted by the time at which they take effect
		}
		future.apply(&e)
	}
	return future
}

// Affected returns the number of codes of a set that an event will change when it takes effect, according to the current state:
// codes that already have the resulting state are not counted.
func (m *Memory) Affected(e Event, now time.Time) int64 {
	b := m.batch(e.Batch)
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	active, all := b.activeAt(now, e.From), e.Codes.Len()
	countIn := func(bits *roaring.Bitmap) (n int64) {
		for _, r := range e.Codes {
			n += int64(bits.CardinalityInRange(uint64(r.From), uint64(r.To)+1))
		}
		return n
	}
	entireBatch := all == b.Count
	switch {
	case e.Action == Deactivate:
		var n int64
		for _, r := range e.Codes {
			for _, have := range active.activeIn(r) {
				n += have.To - have.From + 1
			}
		}
		return n
	case e.Action == Void:
		return all - countIn(b.void)
	case e.Action == Redeem:
		return all - countIn(b.redeemed)
	case e.Action == Freeze && b.allFrozen, e.Action == Unfreeze && entireBatch != b.allFrozen:
		// A frozen batch is separate from frozen codes (see allFrozen), so this event changes the state of no code.
		return 0
	case e.Action == Freeze, e.Action == Unfreeze && entireBatch:
		return all - countIn(b.frozen)
	case e.Action == Unfreeze:
		return countIn(b.frozen)
	}
	return all // an activation changes every code
}

// CountOpening returns the number of codes that open a Mini Program now or by a scheduled activation; it first reads the latest events.
func (s *Service) CountOpening(ctx context.Context, tx Tx, appid string) (int, error) {
	last, err := tx.LastEvents(ctx)
	for id, seq := range last {
		if known := s.Memory.batch(id); err != nil || known != nil && known.lastSeq() >= seq {
			continue
		}
		var b Batch
		if b, err = tx.Batch(ctx, id); err == nil {
			err = s.Memory.catchUpTx(ctx, tx, b)
		}
	}
	return s.Memory.Targets(s.Now())[appid], err
}

// Targets returns, for each Mini Program, the number of codes that open it now or by a scheduled activation.
func (m *Memory) Targets(now time.Time) map[string]int {
	n := map[string]int{}
	for _, batch := range m.Batches() {
		if b := m.batch(batch.ID); b != nil {
			b.countTargets(now, n)
		}
	}
	return n
}

// countTargets adds to n, per Mini Program, the number of codes of the batch that open the Mini Program.
func (b *batchMemory) countTargets(now time.Time, n map[string]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.applyUntil(now)
	b.active.spans.Scan(func(from int64, s span) bool {
		if s.activation != nil {
			n[s.activation.Binding.WxaAppID] += int(s.to - from + 1)
		}
		return true
	})
	for _, e := range b.waiting {
		if e.Action == Activate {
			n[e.Binding.WxaAppID] += int(e.Codes.Len())
		}
	}
}

// Waiting lists the scheduled activations of a range in the order in which they take effect. Of several events that take effect at the same
// time, the one that was stored last applies.
func (m *Memory) Waiting(batch int64, r Range, now time.Time) []ActiveRange {
	b := m.upToDate(batch, now)
	defer b.mu.Unlock()
	var list []ActiveRange
	for events := b.waiting; len(events) > 0; {
		n := 1
		for n < len(events) && events[n].From.Equal(events[0].From) {
			n++
		}
		var scheduled coverage
		for _, e := range events[:n] {
			scheduled.apply(&e)
		}
		list = append(list, scheduled.activeIn(r)...)
		events = events[n:]
	}
	return list
}

// FirstBlocked returns the first void or frozen code of a set.
func (m *Memory) FirstBlocked(batch int64, codes Set, now time.Time) (index int64, state string, found bool) {
	b := m.upToDate(batch, now)
	defer b.mu.Unlock()
	for _, r := range codes {
		for _, s := range []struct {
			name string
			bits interface {
				NextValue(uint32) int64
			}
		}{{"void", b.void}, {"frozen", b.frozen}} {
			if n := s.bits.NextValue(uint32(r.From)); n >= 0 && n <= r.To && (!found || n < index) {
				index, state, found = n, s.name, true
			}
		}
		if b.allFrozen && (!found || r.From < index) {
			return r.From, "frozen", true
		}
		if found {
			return index, state, true
		}
	}
	return 0, "", false
}
