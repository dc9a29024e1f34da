package stats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Aggregator counts what a log holds and answers questions about it. Its counts and its position are
// stored in one transaction, so that every event counts once whatever happens to the process. Of
// many nodes any may count, and one at a time does.
type Aggregator struct {
	Log      scanlog.Log
	Store    Store
	Alarms   *alarms.Book   // of the same store
	Settings *settings.Live // where days begin
	Now      func() time.Time
	Logger   *slog.Logger
	Random   io.Reader // nil = the machine's
	// Earlier are the logs that this store had before Log. They are counted no more, but erasures
	// are made in them too.
	Earlier []scanlog.Log
	// Alone says that the log is the journal of the only node. It has every scan that this store
	// ever counted, in whatever log.
	Alone bool
	// Flush brings durable events into the log that are not there yet; nil = every durable event is
	// there.
	Flush func(context.Context) error
	// Nodes makes other nodes ship what they have; nil = there are no others.
	Nodes *scanlog.Nodes
	// Announce is called with a user who is about to be erased, if the logs do not announce it themselves; nil = there are no other
	// copies of scans.
	Announce func(ctx context.Context, user scanlog.UserHash) error
	// Events is the maximum number of events that one transaction counts; 0 = 2,000,000.
	Events int

	mu       sync.Mutex                    // held while counting
	loaded   bool                          // the fields below are what the store has, and what came since
	state    State                         // as stored
	pending  *pending                      // what came since
	taken    map[string]*scanlog.OffsetSet // of each node's journal
	groups   map[groupKey]*group
	byID     map[int64]*group
	places   map[int64]map[string]bool
	tail     *tail                 // users since state.UsersPosition
	large    map[UsersKey]tailSize // what was stored beside large sketches
	foldedAt time.Time

	counted  atomic.Int64
	erasures erasures
	parts    int // how many rows a part has that is rolled up or removed; 0 = the usual number

	owners owners

	bindings struct {
		sync.Mutex
		known map[int64]codes.Binding
	}
}

const (
	// The sums in memory are stored when they hold maxEvents events,
	// maxCells different rows or maxCodeScans scans of codes (about 60 MiB).
	maxEvents    = 2_000_000
	maxCells     = 100_000
	maxCodeScans = 20_000
	// maxTail, maxSketchesHeld and maxTailBytes bound the users that are not in
	// the stored sketches yet.
	maxTail         = 1_000_000
	maxSketchesHeld = 100_000
	maxTailBytes    = 64 << 20
	// maxKnown bounds the caches of combinations and activations.
	maxKnown = 200_000
	// MaxPlaces is the number of places of a day (of UTC) that are counted separately; further ones count under OtherPlaces.
	MaxPlaces = 2_000
	// maxPlaceDays bounds for how many days the places are held in memory.
	maxPlaceDays = 40

	// After each sliceEvents events the counting rests for slicePause, so that answers go first: it
	// takes a fifth of a core at most.
	sliceEvents = 20_000
	slicePause  = 80 * time.Millisecond
	yieldEvery  = 256
	// While more than quietScans scans come in a second, counts are added up in memory, for maxAge
	// at most.
	quietScans = 500
	maxAge     = 60 // seconds
)

// errMoved says that another node counted meanwhile.
var errMoved = errors.New("stats: another node counts")

// Run counts until ctx ends. Every second it adds up in memory what came. It
// stores that at once while little comes; on a busy process once a minute,
// since a transaction costs by the row and not by the scan.
func (c *Aggregator) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	failing := false
	for {
		err := c.addUp(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errMoved):
			// Another node counts: try again later, not at once.
			for range 3 {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		case err != nil && !failing:
			c.Logger.ErrorContext(ctx, "scans are not counted; they stay in the ledger and are counted later", "error", err)
		case err == nil && failing:
			c.Logger.InfoContext(ctx, "scans are counted again")
		}
		if failing = err != nil && !errors.Is(err, errMoved); failing {
			c.lookAgain() // a log that was away may be an older one when it is back
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lookAgain lets the next count compare what is counted with the log.
func (c *Aggregator) lookAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded = false
}

// addUp adds up the events since the last call, and stores the sums when that is due.
func (c *Aggregator) addUp(ctx context.Context) error {
	end, err := c.Log.End(ctx)
	if err != nil {
		return fmt.Errorf("looking for the end of the ledger: %w", err)
	}
	came := 0
	for {
		n, hasMore, err := c.slice(ctx, end)
		if err != nil {
			return err
		}
		if came += n; !hasMore {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(slicePause):
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		return nil // another call failed meanwhile; the next one begins anew
	}
	if c.pending.size() > 0 {
		if c.pending.age++; came > quietScans && c.pending.age < maxAge {
			return nil
		}
	}
	return c.saveAll(ctx, false)
}

// slice adds up some events; hasMore reports that there are further ones.
func (c *Aggregator) slice(ctx context.Context, end int64) (n int, hasMore bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(ctx, end); err != nil {
		return 0, false, err
	}
	if c.pending.to >= end {
		return 0, false, nil
	}
	if n, err = c.collect(ctx, sliceEvents); err != nil {
		return n, false, err
	}
	if c.full() {
		err = c.saveAll(ctx, false)
	}
	return n, n > 0 && c.pending.to < end, err
}

// CatchUp counts everything that was durable when it was called.
func (c *Aggregator) CatchUp(ctx context.Context) error {
	if c.Flush != nil {
		if err := c.Flush(ctx); err != nil {
			return fmt.Errorf("moving scans into the ledger: %w", err)
		}
	}
	end, err := c.Log.End(ctx)
	if err != nil {
		return fmt.Errorf("looking for the end of the ledger: %w", err)
	}
	for {
		_, hasMore, err := c.slice(ctx, end)
		if err == nil && !hasMore {
			c.mu.Lock()
			if c.loaded {
				err = c.saveAll(ctx, false)
			} else {
				err = errMoved
			}
			c.mu.Unlock()
		}
		switch {
		case errors.Is(err, errMoved) && ctx.Err() == nil:
			continue
		case err != nil || !hasMore:
			return err
		}
	}
}

// CatchUpAll counts everything that was acknowledged before it was called, on any node. Unreached
// where a node may have events that it did not ship.
func (c *Aggregator) CatchUpAll(ctx context.Context) error {
	if c.Nodes == nil {
		return c.CatchUp(ctx)
	}
	if err := c.Nodes.SyncAll(ctx); err != nil {
		return err
	}
	if err := c.CatchUp(ctx); err != nil {
		return err
	}
	return c.Nodes.Counted(ctx)
}

// CatchUpAndSave counts everything that was durable when it was called and stores all
// of it, the users too: a copy of the store then has what a restart would show.
func (c *Aggregator) CatchUpAndSave(ctx context.Context) error {
	if err := c.CatchUp(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		return nil // another node counts
	}
	return c.saveAll(ctx, true)
}

// BackfillJournal counts the events of a node's journal that were meant for a stream which is no longer counted, and returns the number
// of those that were not counted yet. They are those after a position; journal yields the events after one. It reads no log.
func (c *Aggregator) BackfillJournal(ctx context.Context, node string, start int64, journal func(start int64) iter.Seq2[scanlog.Entry, error]) (
	n int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.loaded = false }()
	for hasMore := true; hasMore && err == nil; {
		var part int64
		part, start, hasMore, err = c.countRest(ctx, node, start, journal(start))
		n += part
	}
	return n, err
}

// countRest counts some of them, and returns the position up to which it did. Where another node counts some from the
// stream at the same time, it starts anew with those that are left.
func (c *Aggregator) countRest(ctx context.Context, node string, start int64, journal iter.Seq2[scanlog.Entry, error]) (
	n, reached int64, hasMore bool, err error) {
	err = c.Store.ViewStatistics(ctx, func(tx Tx) error {
		if c.state, err = tx.StatisticsState(ctx); err == nil {
			c.taken, err = tx.Origins(ctx)
		}
		return err
	})
	if err != nil {
		return 0, start, false, fmt.Errorf("reading how far scans are counted: %w", err)
	}
	c.groups, c.byID, c.places, c.large = map[groupKey]*group{}, map[int64]*group{}, map[int64]map[string]bool{}, nil
	c.pending, c.tail = newPending(c.state.Position), newTail()
	reached = start
	for e, err := range journal {
		if err != nil {
			return 0, start, false, fmt.Errorf("reading the journal of scans: %w", err)
		}
		if hasMore = len(c.pending.rest) == sliceEvents || c.full(); hasMore {
			break
		}
		if reached = e.Position; c.taken[node].Has(e.Position) {
			continue
		}
		e.From = scanlog.Origin{Node: node, Position: e.Position}
		if err := c.count(ctx, &e); err != nil {
			return 0, start, false, err
		}
		c.pending.rest = append(c.pending.rest, e.From)
	}
	n = int64(c.pending.events)
	if n == 0 {
		return 0, reached, hasMore, nil
	}
	// Users are stored first: to add one twice changes nothing.
	sketches := c.tail.sketches()
	if _, err := c.change(ctx, func(ctx context.Context, tx Tx, s *State) error {
		sketches := s.placeUsers(sketches)
		_, err := c.mergeUsers(ctx, tx, slices.SortedFunc(maps.Keys(sketches), UsersKey.Compare), sketches)
		return err
	}); err != nil {
		return 0, start, false, fmt.Errorf("writing the distinct users: %w", err)
	}
	if err = c.save(ctx); errors.Is(err, errMoved) {
		return 0, start, true, context.Cause(ctx)
	}
	return n, reached, hasMore, err
}

// saveAll stores what was added up, and the users too where that is due.
func (c *Aggregator) saveAll(ctx context.Context, users bool) error {
	if c.pending.size() > 0 {
		if err := c.save(ctx); err != nil {
			return err
		}
	}
	return c.fold(ctx, users || c.tail.full())
}

// full reports whether so much was added up that it must be stored.
func (c *Aggregator) full() bool {
	p, limit := c.pending, c.Events
	if limit == 0 {
		limit = maxEvents
	}
	return p.size() >= limit || len(p.counts) >= maxCells || len(p.codes) >= maxCodeScans || len(c.groups) >= maxKnown || c.tail.full()
}

// OtherPlaces counts the places of a day beyond those that are kept apart.
const OtherPlaces = "*"

// maxValue bounds the value of a dimension in bytes.
const maxValue = 512

// usersAtOnce bounds how many sketches are in memory together.
const usersAtOnce = 1000

// Counted returns the number of events that this process has counted since it started.
func (c *Aggregator) Counted() int64 { return c.counted.Load() }

// Reset forgets what is in memory, after f emptied the store and the log.
func (c *Aggregator) Reset(f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded = false
	c.bindings.Lock()
	c.bindings.known = nil
	c.owners.forget()
	c.bindings.Unlock()
	return f()
}
