package stats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// Aggregator counts the scans in a log and answers queries on the counts. The counts and the log position are stored in one transaction, so
// that every event counts exactly once even after a crash. Any of several nodes may count, but only one node counts at a time.
type Aggregator struct {
	Log      scanlog.Log
	Store    Store
	Alarms   *alarms.Service // alarms of the same store
	Settings *settings.Live  // contains the time zone of the days
	Now      func() time.Time
	Logger   *slog.Logger
	Random   io.Reader // source of random bytes; nil = crypto/rand
	// Earlier lists the logs that this store used before Log. Earlier logs are no longer counted, but users are erased from them too.
	Earlier []scanlog.Log
	// SingleNode is true if Log is the journal of the only node: such a journal contains every scan that this store ever counted, even if
	// the scan was counted in another log.
	SingleNode bool
	// Flush moves durable events into the log; nil = the log already contains every durable event.
	Flush func(context.Context) error
	// Tracing records a span for each counted event that has a trace; nil = none.
	Tracing tracing.Recorder
	// Nodes requests other nodes to ship their events; nil = there are no other nodes.
	Nodes *scanlog.Nodes
	// Announce announces to other copies of the scans that a user is about to be erased, if the logs do not do so themselves; nil = there
	// are no other copies.
	Announce func(ctx context.Context, user scanlog.UserHash) error
	// Events is the maximum number of events that one transaction counts; 0 = 2,000,000.
	Events int
	// RowsAtOnce is the maximum number of rows that one transaction rolls up or removes, and MinRanked the minimum number of scans of
	// a ranking in memory; 0 = the default.
	RowsAtOnce int
	MinRanked  int64

	mu          sync.Mutex                    // held while counting
	loaded      bool                          // true if the fields below hold the stored state plus the changes since that state was stored
	state       State                         // state in the store
	pending     *pending                      // events counted since state was stored
	countedSets map[string]*scanlog.OffsetSet // counted offsets in each node's journal
	groups      map[groupKey]*group
	byID        map[int64]*group
	places      map[int64]map[string]bool
	tail        *tail                 // users since state.SketchOffset
	large       map[UsersKey]tailSize // sizes of the additions to large sketches of distinct users
	foldedAt    time.Time
	// window contains the scans of the log windowLog up to the position windowTo, even if they are not counted yet.
	window    alarms.Window
	windowLog string
	windowTo  int64

	counted  atomic.Int64
	erasures erasures

	owners owners

	bindings struct {
		sync.Mutex
		known map[int64]codes.Binding
	}
	rankings struct {
		sync.Mutex
		known map[string]ranking // by dimension, days and time zone
		rows  int                // of all rankings
	}
}

const (
	// The sums in memory are stored when they contain maxEvents events, maxCells different rows or maxCodeScans scans of codes
	// (about 60 MiB).
	maxEvents    = 2_000_000
	maxCells     = 100_000
	maxCodeScans = 20_000
	// maxTail, maxSketchesHeld and maxTailBytes limit the users in memory that are not yet part of the stored sketches.
	maxTail         = 1_000_000
	maxSketchesHeld = 100_000
	maxTailBytes    = 64 << 20
	// maxKnown limits the size of the caches of combinations and activations.
	maxKnown = 200_000
	// MaxPlaces is the maximum number of places (link prefixes of unmatched scans) per day (UTC) that are counted separately; all
	// other places count under OtherPlaces.
	MaxPlaces = 2_000
	// maxPlaceDays is the maximum number of days whose link prefixes of unmatched scans are held in memory.
	maxPlaceDays = 40

	// After each sliceEvents events, counting pauses for slicePause to leave CPU time to requests: counting uses at most a fifth of a core.
	sliceEvents = 20_000
	slicePause  = 80 * time.Millisecond
	yieldEvery  = 256
	// While more than quietScans scans arrive per second, counts are accumulated in memory for at most maxAge.
	quietScans = 500
	maxAge     = 60 // seconds
)

// errMoved reports that another node has counted since this node read the state.
var errMoved = errors.New("stats: another node counts")

// Run counts scans until ctx ends. Every second, Run adds the new events to the counts in memory. While few events arrive, the counts are
// stored at once; otherwise they are stored once a minute, because adding many scans to a row costs no more than adding one.
func (c *Aggregator) Run(ctx context.Context) {
	tick := time.Tick(time.Second)
	failing := false
	for {
		ticks := 1
		err := c.RunOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errMoved):
			ticks = 4 // another node is counting, so retry after a delay
		case err != nil && !failing:
			c.Logger.ErrorContext(ctx, "scan counting failed", "will_retry", true, "error", err)
		case err == nil && failing:
			c.Logger.InfoContext(ctx, "scan counting recovered")
		}
		if failing = err != nil && !errors.Is(err, errMoved); failing {
			// A log that was unreachable may have been replaced by an older copy: the next count compares the stored state with the log.
			c.mu.Lock()
			c.loaded = false
			c.mu.Unlock()
		}
		for range ticks {
			select {
			case <-ctx.Done():
				return
			case <-tick:
			}
		}
	}
}

// RunOnce counts the events since the last call in memory, and stores the sums when they are due.
func (c *Aggregator) RunOnce(ctx context.Context) error {
	end, err := c.Log.End(ctx)
	if err != nil {
		return fmt.Errorf("reading the end of the scan log: %w", err)
	}
	came := 0
	for {
		n, hasMore, err := c.slice(ctx, end)
		if err != nil {
			return err
		}
		came += n
		if !hasMore {
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
		return nil // another call failed in the meantime; the next call starts from the stored state
	}
	if c.pending.size() > 0 {
		c.pending.age++
		if came > quietScans && c.pending.age < maxAge {
			return nil
		}
	}
	return c.saveAll(ctx, false)
}

// slice counts the next events; hasMore reports that more events follow.
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
	if c.isFull() {
		err = c.saveAll(ctx, false)
	}
	return n, n > 0 && c.pending.to < end, err
}

// CatchUp counts all events that were durable when it was called.
func (c *Aggregator) CatchUp(ctx context.Context) error {
	if c.Flush != nil {
		if err := c.Flush(ctx); err != nil {
			return fmt.Errorf("moving scans into the scan log: %w", err)
		}
	}
	end, err := c.Log.End(ctx)
	if err != nil {
		return fmt.Errorf("reading the end of the scan log: %w", err)
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

// CatchUpAll counts all events that any node acknowledged before the call. CatchUpAll returns UnreachableError if a node may still have
// unshipped events.
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

// CatchUpAndSave counts all events that were durable when it was called, and stores the counts and the users, so that a copy of the store
// contains all of these events.
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

// BackfillJournal is called when a node stops using a stream: from the node's journal, it counts the events that belonged in the stream,
// and returns the number of newly counted events. BackfillJournal processes the events after the position start; journal returns an
// iterator over the events after a position. BackfillJournal reads no log other than this journal.
func (c *Aggregator) BackfillJournal(ctx context.Context, node string, start int64,
	journal func(start int64) iter.Seq2[scanlog.Entry, error]) (
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

// countRest counts a part of a journal, and returns the position up to which the events are counted. If another node counts some of the
// events at the same time, countRest counts nothing and returns start, so that the caller tries again.
func (c *Aggregator) countRest(ctx context.Context, node string, start int64, journal iter.Seq2[scanlog.Entry, error]) (
	n, reached int64, hasMore bool, err error) {
	err = c.Store.ViewStatistics(ctx, func(tx Tx) error {
		if c.state, err = tx.StatisticsState(ctx); err == nil {
			c.countedSets, err = tx.Origins(ctx)
		}
		return err
	})
	if err != nil {
		return 0, start, false, fmt.Errorf("reading the counted offset: %w", err)
	}
	c.groups, c.byID, c.places, c.large = map[groupKey]*group{}, map[int64]*group{}, map[int64]map[string]bool{}, nil
	c.pending, c.tail = newPending(c.state.CountedOffset), newTail()
	reached = start
	for e, err := range journal {
		if err != nil {
			return 0, start, false, fmt.Errorf("reading the scan journal: %w", err)
		}
		if hasMore = len(c.pending.uncounted) == sliceEvents || c.isFull(); hasMore {
			break
		}
		reached = e.Position
		if c.countedSets[node].Has(e.Position) {
			continue
		}
		e.From = scanlog.Origin{Node: node, Position: e.Position}
		if err := c.count(ctx, &e); err != nil {
			return 0, start, false, err
		}
		c.pending.uncounted = append(c.pending.uncounted, e.From)
	}
	n = int64(c.pending.events)
	if n == 0 {
		return 0, reached, hasMore, nil
	}
	// Users are stored before the counts: if storing the counts fails, the users are added again later, which is harmless.
	sketches := c.tail.sketches()
	if _, err := c.change(ctx, func(tx Tx, s *State) error {
		_, err := c.mergeUsers(ctx, tx, s.placeUsers(sketches))
		return err
	}); err != nil {
		return 0, start, false, fmt.Errorf("storing distinct users: %w", err)
	}
	if err = c.save(ctx); errors.Is(err, errMoved) {
		return 0, start, true, context.Cause(ctx)
	}
	return n, reached, hasMore, err
}

// saveAll stores the pending counts, and the users if that is requested or due.
func (c *Aggregator) saveAll(ctx context.Context, users bool) error {
	if c.pending.size() > 0 {
		if err := c.save(ctx); err != nil {
			return err
		}
	}
	return c.fold(ctx, users || c.tail.isFull())
}

// isFull reports whether the counts in memory have reached a limit and must be stored.
func (c *Aggregator) isFull() bool {
	p := c.pending
	return p.size() >= cmp.Or(c.Events, maxEvents) || len(p.counts) >= maxCells || len(p.codes) >= maxCodeScans ||
		len(c.groups) >= maxKnown || c.tail.isFull()
}

// OtherPlaces is the name under which unmatched scans are counted if their link prefix is not among the first MaxPlaces of the day.
const OtherPlaces = "*"

// maxValue is the maximum length of a dimension's value in bytes.
const maxValue = 512

// usersAtOnce is the maximum number of sketches that are read at once.
const usersAtOnce = 1000

// Counted returns the number of events that this process has counted since it started.
func (c *Aggregator) Counted() int64 { return c.counted.Load() }

// Reset calls f, which empties the store and the log, and discards the state in memory.
func (c *Aggregator) Reset(f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded, c.windowLog = false, ""
	c.bindings.Lock()
	c.bindings.known = nil
	c.owners.reset()
	c.bindings.Unlock()
	err := f()
	c.rankings.Lock()
	defer c.rankings.Unlock()
	c.rankings.known = nil
	return err
}
