package codes

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// ScanAsOf is Scan at the past time t: it uses only codes created until t, and only events that were recorded and took effect until t.
func (s *Service) ScanAsOf(ctx context.Context, text, user string, t time.Time,
	account func(appid string) (accounts.Account, bool)) (scanned Scanned, ok bool, err error) {
	prefixes := s.prefixes()
	if len(prefixes) == 0 && s.Memory.templateCount.Load() == 0 {
		return scanned, false, nil
	}
	f, found, err := s.recognise(ctx, text)
	if err != nil {
		return scanned, true, err
	}
	if !found {
		if scanned, ok = s.classifyUnknown(ctx, text, prefixes); scanned.Err != nil {
			return scanned, true, scanned.Err
		}
		if scanned.Reason == SerialOnly && scanned.Batch.CreatedAt.After(t) {
			return Scanned{}, false, nil
		}
		return scanned, ok, nil
	}
	if f.Batch.CreatedAt.After(t) {
		return Scanned{Reason: UnknownCode}, true, nil
	}
	scanned.Found = f
	if scanned.State, err = s.StateAsOf(ctx, f.Batch, f.Index, t); err != nil {
		return scanned, true, err
	}
	s.decide(&scanned, user, account)
	return scanned, true, nil
}

// StateAsOf returns the state of a code at a past time.
func (s *Service) StateAsOf(ctx context.Context, b Batch, index int64, t time.Time) (State, error) {
	events, err := accounts.Transact(ctx, s.Store.ViewCodes, func(tx Tx) (list []Event, err error) {
		err = noLimits.eventsOf(ctx, tx, b.ID, index, func(e Event) bool {
			if !e.OccurredAt.After(t) && !e.From.After(t) {
				list = append(list, e)
			}
			return true
		})
		return list, err
	})
	if err != nil {
		return State{}, err
	}
	slices.SortFunc(events, func(a, b Event) int { return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.Seq, b.Seq)) })
	pastMemory := newBatchMemory(b)
	for _, e := range events {
		pos := slices.IndexFunc(e.Codes, func(r Range) bool { return r.From <= index && index <= r.To })
		pastMemory.applyTo(&e, e.Codes[pos])
	}
	return pastMemory.state(index), nil
}

// EventsAfter lists the events of a code that were recorded or took effect after time t, newest first.
func (s *Service) EventsAfter(ctx context.Context, batch, index int64, t time.Time) ([]Event, error) {
	list, err := s.History(ctx, batch, index)
	return slices.DeleteFunc(list, func(e Event) bool { return !e.OccurredAt.After(t) && !e.From.After(t) }), err
}
