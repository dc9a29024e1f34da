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
)

// Deviation is an action of an account at an endpoint that the platform may mind: a row of package behaviour, its count, and its
// first and last call.
type Deviation struct {
	Account   string // "" = a caller that showed no token and no secret
	Endpoint  string
	Behaviour string // the row's id
	Times     int64
	FirstRID  string
	FirstAt   time.Time
	LastRID   string
	LastAt    time.Time
}

// add counts what came after it.
func (d *Deviation) add(laterDeviation Deviation) {
	d.Times += laterDeviation.Times
	d.LastRID, d.LastAt = laterDeviation.LastRID, laterDeviation.LastAt
}

const (
	// deviationsMax is the maximum number of different deviations that wait to be written; beyond it, new ones are not counted.
	deviationsMax = 10_000
	// ListedDeviations is the maximum number of deviations in a list.
	ListedDeviations = 10_000
)

// deviations holds those that are not written yet. Its zero value is ready.
type deviations struct {
	writing sync.Mutex // held by the one who moves them to the store, or removes them there

	mu      sync.Mutex // guards what follows; never held while the store works
	waiting map[deviating]*Deviation
	noted   int64 // since the start or the last reset
	kinds   map[behaviour.Row]struct{}
	once    map[string]struct{} // whose missing list was told
}

// FirstNotice reports whether nothing was told yet of what is told once an account, such as a missing list of addresses.
func (b *Book) FirstNotice(account string) bool {
	d := &b.deviations
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, told := d.once[account]; told || len(d.once) >= deviationsMax {
		return false
	}
	if d.once == nil {
		d.once = map[string]struct{}{}
	}
	d.once[account] = struct{}{}
	return true
}

type deviating struct {
	account, endpoint string
	row               behaviour.Row
}

func (d *deviations) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting, d.noted, d.kinds, d.once = nil, 0, nil, nil
}

func (d *deviations) forgetOf(appids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.waiting, func(item deviating, _ *Deviation) bool { return slices.Contains(appids, item.account) })
	maps.DeleteFunc(d.once, func(account string, _ struct{}) bool { return slices.Contains(appids, account) })
}

// Deviate counts what a call deviated in by its notes. One that deviated in nothing
// costs a look at the notes, one that did what was counted since the last write no memory.
func (b *Book) Deviate(account, endpoint, rid string, t time.Time, notes *behaviour.Notes) {
	if !notes.Deviates() {
		return
	}
	d := &b.deviations
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

// Deviated returns the number of deviations that this process noted since its start or the last reset, and the number of distinct
// behaviours.
func (b *Book) Deviated() (times int64, behaviours int) {
	b.deviations.mu.Lock()
	defer b.deviations.mu.Unlock()
	return b.deviations.noted, len(b.deviations.kinds)
}

// Deviations lists the deviations of an account, or of all where account is "", by
// account, endpoint and behaviour: those of this process up to now, those of others
// as of their last write. At most ListedDeviations.
func (b *Book) Deviations(ctx context.Context, account string) (list []Deviation, err error) {
	if err := b.flushDeviations(ctx); err != nil {
		return nil, err
	}
	err = b.Store.ViewCalls(ctx, func(tx Tx) error {
		list, err = tx.Deviations(ctx, account, ListedDeviations)
		return err
	})
	return list, err
}

// ForgetDeviations removes the deviations of an account, or all where account is "".
func (b *Book) ForgetDeviations(ctx context.Context, account string) error {
	d := &b.deviations
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	for key := range d.waiting {
		if account == "" || key.account == account {
			delete(d.waiting, key)
		}
	}
	maps.DeleteFunc(d.once, func(told string, _ struct{}) bool { return account == "" || told == account })
	d.mu.Unlock()
	return b.Store.UpdateCalls(ctx, func(tx Tx) error { return tx.ForgetDeviations(ctx, account) })
}

func (b *Book) flushDeviations(ctx context.Context) error {
	d := &b.deviations
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
	// One order for all processes, so that none waits for another in a circle.
	slices.SortFunc(list, func(a, b Deviation) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Behaviour, b.Behaviour))
	})
	err := b.Store.UpdateCalls(ctx, func(tx Tx) error { return tx.AddDeviations(ctx, list) })
	if err == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, laterDeviation := range d.waiting { // those that came meanwhile
		if oldDeviation := taken[key]; oldDeviation != nil {
			oldDeviation.add(*laterDeviation)
		} else if len(taken) < deviationsMax {
			taken[key] = laterDeviation
		}
	}
	d.waiting = taken
	return fmt.Errorf("writing the deviations: %w", err)
}
