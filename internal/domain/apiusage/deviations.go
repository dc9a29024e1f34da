package apiusage

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Deviation counts calls of one account to one endpoint that the Weixin platform may reject for one reason; the reason is a row of package
// behaviour. A Deviation contains the request IDs and times of the first and the last call.
type Deviation struct {
	Account   string // "" = a caller without a token or secret
	Endpoint  string
	Behaviour string // ID of the row of package behaviour
	Times     int64
	FirstRID  string
	FirstAt   time.Time
	LastRID   string
	LastAt    time.Time
}

// add adds the count of a later deviation of the same kind.
func (d *Deviation) add(newer Deviation) {
	d.Times += newer.Times
	d.LastRID, d.LastAt = newer.LastRID, newer.LastAt
}

const (
	// deviationsMax is the maximum number of distinct deviations that wait to be written; beyond it, new kinds of deviations are
	// not counted.
	deviationsMax = 10_000
	// ListedDeviations is the maximum number of deviations in a list.
	ListedDeviations = 10_000
)

// deviations holds the deviations that are not written to the store yet. The zero value of deviations is ready to use.
type deviations struct {
	writing sync.Mutex // held while deviations are moved to the store or deleted there

	mu       sync.Mutex // guards the following fields; never held during a store operation
	waiting  map[deviating]*Deviation
	noted    int64 // number of deviations since the start or the last reset
	kinds    map[behaviour.Row]struct{}
	reported map[string]struct{} // accounts whose missing allowlist was already reported
}

// FirstNotice returns true only at its first call for an account. Callers use it to log a warning, such as that an IP allowlist is missing,
// only once for each account.
func (s *Service) FirstNotice(account string) bool {
	d := &s.deviations
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, told := d.reported[account]; told || len(d.reported) >= deviationsMax {
		return false
	}
	if d.reported == nil {
		d.reported = map[string]struct{}{}
	}
	d.reported[account] = struct{}{}
	return true
}

type deviating struct {
	account, endpoint string
	row               behaviour.Row
}

func (d *deviations) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting, d.noted, d.kinds, d.reported = nil, 0, nil, nil
}

func (d *deviations) forgetOf(appids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.waiting, func(item deviating, _ *Deviation) bool { return slices.Contains(appids, item.account) })
	maps.DeleteFunc(d.reported, func(account string, _ struct{}) bool { return slices.Contains(appids, account) })
}

// Deviate counts the deviations in the notes of a call. A call without deviations costs one check of its notes. A deviation that was
// already counted since the last write allocates no memory.
func (s *Service) Deviate(account, endpoint, rid string, t time.Time, notes *behaviour.Notes) {
	if !notes.Deviates() {
		return
	}
	d := &s.deviations
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting = map[deviating]*Deviation{}
	}
	if d.kinds == nil {
		d.kinds = map[behaviour.Row]struct{}{}
	}
	notes.EachDeviation(func(row behaviour.Row) {
		d.noted++
		d.kinds[row] = struct{}{}
		key := deviating{account, endpoint, row}
		if deviation := d.waiting[key]; deviation != nil {
			deviation.Times, deviation.LastRID, deviation.LastAt = deviation.Times+1, rid, t
		} else if len(d.waiting) < deviationsMax {
			d.waiting[key] = &Deviation{Account: account, Endpoint: endpoint, Behaviour: row.String(), Times: 1, FirstRID: rid, FirstAt: t,
				LastRID: rid, LastAt: t}
		}
	})
}

// Deviated returns the number of deviations that this process counted since its start or the last reset, and the number of distinct
// behaviours.
func (s *Service) Deviated() (times int64, behaviours int) {
	s.deviations.mu.Lock()
	defer s.deviations.mu.Unlock()
	return s.deviations.noted, len(s.deviations.kinds)
}

// Deviations lists the deviations of an account ("" = all accounts), sorted by account, endpoint and behaviour: all deviations of this
// process, and the deviations that other processes have written. At most ListedDeviations.
func (s *Service) Deviations(ctx context.Context, account string) ([]Deviation, error) {
	if err := s.flushDeviations(ctx); err != nil {
		return nil, err
	}
	return accounts.Transact(ctx, s.Store.View, func(tx Tx) ([]Deviation, error) {
		return tx.Deviations(ctx, account, ListedDeviations)
	})
}

// ForgetDeviations deletes the deviations of an account; "" = all accounts.
func (s *Service) ForgetDeviations(ctx context.Context, account string) error {
	d := &s.deviations
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	for key := range d.waiting {
		if account == "" || key.account == account {
			delete(d.waiting, key)
		}
	}
	maps.DeleteFunc(d.reported, func(told string, _ struct{}) bool { return account == "" || told == account })
	d.mu.Unlock()
	return s.Store.Update(ctx, func(tx Tx) error { return tx.ForgetDeviations(ctx, account) })
}

func (s *Service) flushDeviations(ctx context.Context) error {
	d := &s.deviations
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	taken := d.waiting
	d.waiting = nil
	d.mu.Unlock()
	if len(taken) == 0 {
		return nil
	}
	list := make([]Deviation, 0, len(taken))
	for _, deviation := range taken {
		list = append(list, *deviation)
	}
	// All processes write in the same order, which prevents deadlocks.
	slices.SortFunc(list, func(a, b Deviation) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Behaviour, b.Behaviour))
	})
	err := s.Store.Update(ctx, func(tx Tx) error { return tx.AddDeviations(ctx, list) })
	if err == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, laterDeviation := range d.waiting { // deviations that were counted during the failed write
		if oldDeviation := taken[key]; oldDeviation != nil {
			oldDeviation.add(*laterDeviation)
		} else if len(taken) < deviationsMax {
			taken[key] = laterDeviation
		}
	}
	d.waiting = taken
	return fmt.Errorf("storing deviations: %w", err)
}
