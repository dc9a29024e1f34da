package codes

import (
	"context"
	"fmt"
	"time"

	"github.com/qrjump/qrjump/internal/errcode"
)

// What an operator may do to codes, whoever owns them. Faults are the rows of
// the wire with a detail, or a Conflict.

// Conflict is a change that the state of a code does not allow, in one line.
type Conflict string

func (c Conflict) Error() string { return string(c) }

// Change is a change of codes by the operator.
type Change struct {
	Batch   int64
	Did     Did
	Codes   Set
	Binding Binding   // Activate only
	From    time.Time // when it takes effect; zero = at once
	Actor   string
	Note    string
}

// maxCodesNote bounds notes and actors.
const maxCodesNote = 256

// Change does what a Change says: activate (now or later), withdraw, freeze,
// unfreeze, void, redeem. Void is for ever; a single code is redeemed once.
func (p *Press) Change(ctx context.Context, c Change) error {
	b, err := p.Memory.Know(ctx, c.Batch)
	switch {
	case err != nil:
		return err
	case len(c.Codes) == 0:
		return errcode.InvalidArgs.With("no codes are named")
	case !plain(c.Note, 0, maxCodesNote) || !plain(c.Actor, 1, maxCodesNote):
		return errcode.InvalidArgs.With("note and actor: want at most %d characters, none of them a control character", maxCodesNote)
	case !c.From.IsZero() && c.Did != Activate && c.Did != Withdraw:
		return errcode.InvalidArgs.With("only an activation or a withdrawal can be scheduled, not %s", c.Did)
	case !c.From.IsZero() && c.From.Before(p.Now()):
		return errcode.InvalidArgs.With("%s is in the past", c.From.Format(time.RFC3339))
	}
	if err := b.Within(c.Codes.Bounds()); err != nil {
		return err
	}
	if c.Did == Activate {
		if err := c.Binding.check(); err != nil {
			return err
		}
	}
	return p.record(ctx, Event{Batch: c.Batch, Did: c.Did, Codes: c.Codes, Binding: c.Binding, From: c.From, Actor: c.Actor, Note: c.Note}, p.Settings.Get().ActivationOverlap)
}

// checkRedeem returns a Conflict for a single code that is redeemed already,
// and for any that is frozen or void. The memory is up to date: see record.
func (p *Press) checkRedeem(ctx context.Context, tx Tx, e Event) error {
	if e.Codes.Len() == 1 {
		index := e.Codes[0].From
		if p.Memory.State(e.Batch, index, e.At).Redeemed {
			by, err := p.redeemed(ctx, tx, e.Batch, index)
			if err != nil {
				return err
			}
			return Conflict(fmt.Sprintf("code %d was redeemed by %s at %s", index, by.Actor, by.At.Format(time.RFC3339)))
		}
	}
	if index, state, found := p.Memory.FirstBlocked(e.Batch, e.Codes, e.At); found {
		return Conflict(fmt.Sprintf("code %d is %s and cannot be redeemed", index, state))
	}
	return nil
}

// redeemed finds the event that redeemed a code first.
func (p *Press) redeemed(ctx context.Context, tx Tx, batch, index int64) (first Event, err error) {
	err = eventsOf(ctx, tx, batch, index, func(e Event) bool {
		if e.Did == Redeem {
			first = e
		}
		return true
	})
	return first, err
}

// maxHistory bounds the history of one code that is shown.
const maxHistory = 1000

// History lists what happened to a code, newest first.
func (p *Press) History(ctx context.Context, batch, index int64) ([]Event, error) {
	var list []Event
	err := p.Store.ViewCodes(ctx, func(tx Tx) error {
		list = nil
		return eventsOf(ctx, tx, batch, index, func(e Event) bool {
			list = append(list, e)
			return len(list) < maxHistory
		})
	})
	return list, err
}

// eventsOf gives what happened to one code, newest first, until yield returns
// false. The store finds events whose bounds hold the index; scattered sets
// have wide bounds and few members, so it is asked page by page.
func eventsOf(ctx context.Context, tx Tx, batch, index int64, yield func(Event) bool) error {
	const page = 1000
	for before := int64(0); ; {
		near, err := tx.EventsAt(ctx, batch, index, before, page)
		if err != nil {
			return err
		}
		for _, e := range near {
			if before = e.Seq; e.Codes.Has(index) && !yield(e) {
				return nil
			}
		}
		if len(near) < page {
			return nil
		}
	}
}

// Retarget opens another page for what is active in a range, and keeps what
// the codes count for. It returns how many activations were renewed.
func (p *Press) Retarget(ctx context.Context, batch int64, r Range, appid, path string, wxaType int, actor string) (int, error) {
	b, err := p.Memory.Know(ctx, batch)
	if err != nil {
		return 0, err
	}
	if !plain(actor, 1, maxCodesNote) {
		return 0, errcode.InvalidArgs.With("actor: want at most %d characters, none of them a control character", maxCodesNote)
	}
	if err := b.Within(r); err != nil {
		return 0, err
	}
	const most = 1000
	n := 0
	err = p.inBatch(ctx, batch, func(tx Tx, b Batch, at time.Time) error {
		// What is scheduled would bring the old page back, so it changes too.
		spans := append(p.Memory.Active(batch, r, at), p.Memory.Waiting(batch, r, at)...)
		if n = len(spans); n > most {
			return errcode.InvalidArgs.With("%d activations govern this range: re-target at most %d at once", n, most)
		}
		for _, s := range spans {
			e := Event{Batch: batch, Did: Activate, Codes: NewSet(s.Range), Binding: s.Activation.Binding, At: at, From: at, Actor: actor, Note: "re-target"}
			if s.Activation.From.After(at) {
				e.From = s.Activation.From
			}
			e.Binding.WxaAppID, e.Binding.WxaPath, e.Binding.WxaType = appid, path, wxaType
			if err := e.Binding.check(); err != nil {
				return err
			}
			if err := checkBinding(ctx, tx, b, e.Binding, p.Settings.Get()); err != nil {
				return err
			}
			if _, err := tx.AddEvent(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// ActiveRange is a run of codes that one activation governs.
type ActiveRange struct {
	Range
	Activation *Event
}

// Active lists what governs a range, in order, without what is not active.
func (m *Memory) Active(batch int64, r Range, now time.Time) []ActiveRange {
	b := m.batch(batch)
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until(now)
	return b.active.within(r)
}

// Scheduled returns a code of a range that an event will activate.
func (m *Memory) Scheduled(batch int64, r Range) (index int64, found bool) {
	b := m.batch(batch)
	if b == nil {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.waiting {
		for _, later := range e.Codes {
			if e.Did == Activate && later.From <= r.To && later.To >= r.From {
				return max(later.From, r.From), true
			}
		}
	}
	return 0, false
}

// Waiting lists activations of a range that are not in force yet, by when
// they take effect, as they will be then: what comes later at the same moment
// covers or withdraws what comes before it.
func (m *Memory) Waiting(batch int64, r Range, now time.Time) []ActiveRange {
	b := m.batch(batch)
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until(now)
	var list []ActiveRange
	for events := b.waiting; len(events) > 0; {
		n := 1
		for n < len(events) && events[n].From.Equal(events[0].From) {
			n++
		}
		var then coverage
		for _, e := range events[:n] {
			for _, c := range e.Codes {
				switch e.Did {
				case Activate:
					then.cover(c, &e)
				case Withdraw:
					then.cover(c, nil)
				}
			}
		}
		list = append(list, then.within(r)...)
		events = events[n:]
	}
	return list
}

// FirstBlocked returns the first code of a set that is void or frozen.
func (m *Memory) FirstBlocked(batch int64, codes Set, now time.Time) (index int64, state string, found bool) {
	b := m.batch(batch)
	if b == nil {
		return 0, "", false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until(now)
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
