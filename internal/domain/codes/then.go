package codes

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// ScanAsOf is Scan at a past time: with the codes that existed then, and the events that had been recorded and had taken effect by
// then.
func (p *Service) ScanAsOf(ctx context.Context, text, user string, t time.Time,
	account func(appid string) (accounts.Account, bool)) (s Scanned, ok bool, err error) {
	prefixes := p.prefixes()
	if len(prefixes) == 0 && p.Memory.written.Load() == 0 {
		return s, false, nil
	}
	f, found, err := p.recognise(ctx, text)
	if err != nil {
		return s, true, err
	}
	if !found {
		if s, ok = p.unknown(ctx, text, prefixes); s.Err != nil {
			return s, true, s.Err
		}
		if s.Reason == SerialOnly && s.Batch.CreatedAt.After(t) {
			return Scanned{}, false, nil
		}
		return s, ok, nil
	}
	if f.Batch.CreatedAt.After(t) {
		return Scanned{Reason: UnknownCode}, true, nil
	}
	s.Found = f
	if s.State, err = p.StateAsOf(ctx, f.Batch, f.Index, t); err != nil {
		return s, true, err
	}
	p.decide(&s, user, account)
	return s, true, nil
}

// StateAsOf returns the state of a code at a past time.
func (p *Service) StateAsOf(ctx context.Context, b Batch, index int64, t time.Time) (State, error) {
	var events []Event
	err := p.Store.ViewCodes(ctx, func(tx Tx) error {
		events = nil
		return eventsOf(ctx, tx, b.ID, index, func(e Event) bool {
			if !e.At.After(t) && !e.From.After(t) {
				events = append(events, e)
			}
			return true
		})
	})
	if err != nil {
		return State{}, err
	}
	slices.SortFunc(events, func(a, b Event) int { return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.Seq, b.Seq)) })
	pastMemory := newBatchMemory(b)
	for _, e := range events {
		pos := slices.IndexFunc(e.Codes, func(r Range) bool { return r.From <= index && index <= r.To })
		pastMemory.does(&e, e.Codes[pos])
	}
	return pastMemory.state(index), nil
}

// EventsAfter lists the events of a code after a point in time, newest first.
func (p *Service) EventsAfter(ctx context.Context, batch, index int64, t time.Time) ([]Event, error) {
	list, err := p.History(ctx, batch, index)
	return slices.DeleteFunc(list, func(e Event) bool { return !e.At.After(t) && !e.From.After(t) }), err
}
