package stats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/settings"
)

// Counter counts what a log holds and answers questions about it. What it
// counts and how far it is are stored in one transaction, so that every event
// counts once whatever happens to the process. On many nodes each may count;
// one at a time does.
type Counter struct {
	Log      Log
	Store    Store
	Settings *settings.Live // where days begin
	Now      func() time.Time
	Logger   *slog.Logger
	Random   io.Reader // nil = the machine's
	// Earlier are the logs of this store from before Log: nothing of them is counted
	// any more, and an erasure reaches them.
	Earlier []Log
	// Unique: the log never has an event twice, so nobody needs to look.
	Unique bool
	// Places finds out where a network is; nil = nobody knows.
	Places interface {
		Coordinates(netip.Addr) (lat, lon float64, ok bool)
	}
	// Flush brings into the log what is durable and waits to get there; nil =
	// nothing ever waits.
	Flush func(context.Context) error
	// OnAlarm is told of a new alarm within the transaction that stores it.
	OnAlarm func(context.Context, Alarm) error
	// Events is how many events one transaction counts at most; 0 = 2,000,000.
	Events int
	// Stretch is how many ids are known one by one; 0 = 250,000.
	Stretch int

	mu       sync.Mutex // held while counting
	loaded   bool       // the rest is what the store says, and what came since
	state    State      // as stored
	pending  *pending   // what came since
	seen     *seen
	groups   map[groupKey]*group
	byID     map[int64]*group
	places   map[int64]map[string]bool
	tail     *tail // users since state.UsersPosition
	foldedAt time.Time

	counted atomic.Int64

	bindings struct {
		sync.Mutex
		known map[int64]codes.Binding
	}
}

const (
	// What is added up in memory is stored when it is maxEvents events, has
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
	// maxPlaces is how many places of a day (of UTC) are kept apart; further ones
	// count under OtherPlaces.
	maxPlaces = 2_000
	// maxPlaceDays bounds how many days' places are known by heart.
	maxPlaceDays = 40

	// sliceEvents are read in one go, then answers go first for slicePause: the
	// counting takes a fifth of a core at most while it adds up.
	sliceEvents = 20_000
	slicePause  = 80 * time.Millisecond
	yieldEvery  = 256
	// While more than quietScans come in a second, what they count is added up in
	// memory, for maxAge at most.
	quietScans = 500
	maxAge     = 60 // seconds
)

// errMoved says that another node counted meanwhile.
var errMoved = errors.New("stats: another node counts")

// Run counts until ctx ends. Every second it adds up in memory what came. It
// stores that at once while little comes; on a busy process once a minute,
// since a transaction costs by the row and not by the scan.
func (c *Counter) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	failing := false
	for {
		err := c.addUp(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errMoved):
			// Whoever counts goes on; look again later, not at once.
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
		failing = err != nil && !errors.Is(err, errMoved)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// addUp adds up what came since the last time, and stores it when it is due.
func (c *Counter) addUp(ctx context.Context) error {
	end, err := c.Log.End(ctx)
	if err != nil {
		return fmt.Errorf("looking for the end of the ledger: %w", err)
	}
	came := 0
	for {
		n, more, err := c.slice(ctx, end)
		if err != nil {
			return err
		}
		if came += n; !more {
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
		return nil // somebody else's call failed; the next one begins anew
	}
	if c.pending.size() > 0 {
		if c.pending.age++; came > quietScans && c.pending.age < maxAge {
			return nil
		}
	}
	return c.settle(ctx, false)
}

// slice adds up some events; more: there are further ones.
func (c *Counter) slice(ctx context.Context, end int64) (n int, more bool, err error) {
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
		err = c.settle(ctx, false)
	}
	return n, n > 0 && c.pending.to < end, err
}

// CatchUp counts everything that was durable when it was called.
func (c *Counter) CatchUp(ctx context.Context) error {
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
		_, more, err := c.slice(ctx, end)
		if err == nil && !more {
			c.mu.Lock()
			if c.loaded {
				err = c.settle(ctx, false)
			} else {
				err = errMoved
			}
			c.mu.Unlock()
		}
		switch {
		case errors.Is(err, errMoved) && ctx.Err() == nil:
			continue
		case err != nil || !more:
			return err
		}
	}
}

// Settle counts everything that was durable when it was called and stores all
// of it, the users too: a copy of the store then has what a restart would show.
func (c *Counter) Settle(ctx context.Context) error {
	if err := c.CatchUp(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		return nil // another node counts
	}
	return c.settle(ctx, true)
}

// settle stores what was added up, and the users too where that is due.
func (c *Counter) settle(ctx context.Context, users bool) error {
	if c.pending.size() > 0 {
		if err := c.save(ctx); err != nil {
			return err
		}
	}
	return c.fold(ctx, users || c.tail.full())
}

// full reports whether the memory wants what was added up to be stored.
func (c *Counter) full() bool {
	p, most := c.pending, c.Events
	if most == 0 {
		most = maxEvents
	}
	return p.size() >= most || len(p.counts) >= maxCells || len(p.codes) >= maxCodeScans || len(c.groups) >= maxKnown || c.tail.full()
}

// load reads the state where it is not known, and begins anew where the store
// speaks of another log.
func (c *Counter) load(ctx context.Context, end int64) error {
	if c.loaded {
		// Another node may have counted on; the zone may have changed; and a stream
		// may have been made anew.
		if int64(c.Settings.Get().UTCOffsetHours) == c.state.Offset && c.ledger() == c.state.Ledger {
			return nil
		}
	}
	rows, err := c.loadState(ctx, end)
	if err != nil {
		return fmt.Errorf("reading how far scans are counted: %w", err)
	}
	c.loaded = false
	c.groups, c.byID, c.places = map[groupKey]*group{}, map[int64]*group{}, map[int64]map[string]bool{}
	c.pending = newPending(c.state.Position)
	c.seen = &seen{log: c.Log, stretch: c.Stretch, filterOf: c.filter}
	if c.seen.stretch == 0 {
		c.seen.stretch = stretchIDs
	}
	if !c.Unique {
		if err := c.seen.load(ctx, rows, c.state.Position); err != nil {
			return err
		}
	}
	c.loaded = true
	if err := c.readUsers(ctx); err != nil {
		c.loaded = false
		return err
	}
	return nil
}

// errPassed says that more is counted than the log had when it was asked.
var errPassed = errors.New("stats: more is counted than the log has")

// loadState reads the state and where each stretch of counted scans is. end is
// where the log ended a while ago: somebody else may have counted beyond it
// since. So a log that is shorter than what is counted is another one only if
// it still is when asked after that was seen.
func (c *Counter) loadState(ctx context.Context, end int64) (rows []SeenRow, err error) {
	for passed := int64(-1); ; {
		position := int64(0)
		err = c.Store.UpdateStatistics(ctx, func(ctx context.Context, tx Tx) error {
			rows, position, err = c.readState(ctx, tx, end, passed)
			return err
		})
		if !errors.Is(err, errPassed) {
			return rows, err
		}
		passed = position
		if end, err = c.Log.End(ctx); err != nil {
			return nil, fmt.Errorf("looking for the end of the ledger: %w", err)
		}
	}
}

// readState is loadState in one transaction. passed is a position that was
// stored before the log was asked for its end.
func (c *Counter) readState(ctx context.Context, tx Tx, end, passed int64) (rows []SeenRow, position int64, err error) {
	if err := tx.LockStatistics(ctx); err != nil {
		return nil, 0, err
	}
	state, err := tx.StatisticsState(ctx)
	if err != nil {
		return nil, 0, err
	}
	before := state
	ledger := c.ledger()
	if state.Ledger == ledger && end < state.Position && state.Position != passed {
		return nil, state.Position, errPassed
	}
	if offset := int64(c.Settings.Get().UTCOffsetHours); state.Offset != offset {
		if state.Scans > 0 {
			if err := tx.TurnDays(ctx, offset); err != nil {
				return nil, 0, err
			}
			// Users are counted again, where their scans are still there.
			if state.Forgotten.IsZero() {
				if err := tx.ForgetUsers(ctx); err != nil {
					return nil, 0, err
				}
				state.UsersPosition = 0
			} else {
				state.Turned = c.Now()
			}
		}
		state.Offset = offset
	}
	if state.Ledger != ledger || end < state.Position {
		// Nothing may be counted of the one that is left, and yet of this one before.
		if state.Position > 0 || state.Ledger != "" {
			if state, err = c.another(ctx, tx, state, ledger); err != nil {
				return nil, 0, err
			}
		}
		state.Ledger = ledger
	}
	if state != before {
		if err := tx.PutStatisticsState(ctx, state); err != nil {
			return nil, 0, err
		}
	}
	if rows, err = tx.Seen(ctx); err != nil {
		return nil, 0, err
	}
	c.state = state
	return rows, state.Position, nil
}

// another turns from the ledger that was counted to another one, or to the same
// that is shorter.
func (c *Counter) another(ctx context.Context, tx Tx, state State, ledger string) (State, error) {
	if err := tx.ForgetPositions(ctx); err != nil {
		return state, err
	}
	left, lack := state, state.Position-state.UsersPosition
	state.Position, state.UsersPosition = 0, 0
	if state.Scans > 0 {
		state.Forgotten = c.Now()
	}
	if left.Ledger == ledger {
		return state, nil
	}
	if left.Ledger != "" {
		if err := tx.RememberLedger(ctx, left.Ledger, left.Position); err != nil {
			return state, err
		}
	}
	_, fromJournal := c.Log.(*Journal)
	var err error
	if state.Position, err = c.countedBefore(ctx, tx, left, ledger, fromJournal); err != nil {
		return state, err
	}
	state.UsersPosition = state.Position
	read := int64(0)
	if fromJournal {
		// The scans whose users are not in the sketches stand here as well, as
		// close together at least. Who is added twice changes nothing.
		state.UsersPosition, read = max(0, state.Position-lack), left.Position
	}
	if err := tx.TurnReaders(ctx, read, state.Position); err != nil {
		return state, fmt.Errorf("turning who reads scans to another ledger: %w", err)
	}
	return state, nil
}

// countedBefore is up to where a ledger is counted that is turned to: to its
// beginning after an import without scans, but further where it was counted
// before, or where the scans that were counted came from it, as those of a
// stream came from the journal.
func (c *Counter) countedBefore(ctx context.Context, tx Tx, left State, ledger string, fromJournal bool) (int64, error) {
	position, last, err := tx.RecallLedger(ctx, ledger)
	if err != nil {
		return 0, err
	}
	if fromJournal {
		last = left.Scan
	}
	if id, err := ParseScanID(last); err == nil {
		switch at, err := c.Log.Find(ctx, id); {
		case err == nil:
			position = max(position, at)
		case !errors.Is(err, ErrNoScan):
			return 0, fmt.Errorf("looking for the last scan that was counted: %w", err)
		}
	}
	if position == 0 || c.Unique {
		return position, nil
	}
	// What is counted of it is not read again for its ids: none is of this stretch.
	now := c.Now().UnixMilli()
	return position, tx.AddSeen(ctx, SeenRow{Position: position, Oldest: now + 1, Newest: now})
}

// Turned reports whether positions in the store are of this log: not yet, where
// another ledger was counted until now.
func (c *Counter) Turned(ctx context.Context) (bool, error) {
	var state State
	err := c.Store.ViewStatistics(ctx, func(tx Tx) (err error) {
		state, err = tx.StatisticsState(ctx)
		return err
	})
	return state.Ledger == c.ledger(), err
}

// ledger is the id of the log, "" where it has none.
func (c *Counter) ledger() string {
	if l, ok := c.Log.(interface{ ID() string }); ok {
		return l.ID()
	}
	return ""
}

func (c *Counter) filter(ctx context.Context, after int64) (filter string, err error) {
	err = c.Store.ViewStatistics(ctx, func(tx Tx) error {
		filter, err = tx.SeenFilter(ctx, after)
		return err
	})
	return filter, err
}

// save stores what was added up and how far that is, in one transaction.
func (c *Counter) save(ctx context.Context) error {
	p := c.pending
	names := slices.SortedFunc(maps.Keys(p.byCode), CodeName.Compare)
	counts, sums := p.rows(nil, c.state.Offset)
	var fresh []*group
	var tuples []Tuple
	for i := range p.counts {
		if g := p.counts[i].group; !g.named {
			g.named = true // unless the transaction fails: then nothing is known
			fresh = append(fresh, g)
		}
	}
	slices.SortFunc(fresh, func(a, b *group) int { return cmp.Compare(a.id, b.id) })
	for _, g := range fresh {
		tuples = append(tuples, g.Tuple)
	}
	misses := make([]MissRow, 0, len(p.misses))
	for key, n := range p.misses {
		misses = append(misses, MissRow{Hour: key.hour, Place: key.place, Scans: n})
	}
	slices.SortFunc(misses, func(a, b MissRow) int { return cmp.Or(cmp.Compare(a.Hour, b.Hour), cmp.Compare(a.Place, b.Place)) })
	var state State
	err := c.Store.UpdateStatistics(ctx, func(ctx context.Context, tx Tx) error {
		if err := tx.LockStatistics(ctx); err != nil {
			return err
		}
		now, err := tx.StatisticsState(ctx)
		if err != nil {
			return err
		}
		// A position says nothing without its ledger: one of another may be the same.
		if now.Ledger != c.state.Ledger || now.Position != c.state.Position || now.Offset != c.state.Offset {
			return errMoved
		}
		state = now
		state.Position, state.Scan, state.ScanAt = p.to, p.scan.String(), p.scanAt
		state.Scans, state.Duplicates = now.Scans+int64(p.events), now.Duplicates+int64(len(p.duplicates))

		firsts, err := c.saveCodes(ctx, tx, names)
		if err != nil {
			return fmt.Errorf("counting codes: %w", err)
		}
		counts, sums := counts, sums
		if len(firsts) > 0 {
			counts, sums = p.rows(firsts, state.Offset)
		}
		if err := tx.NameTuples(ctx, tuples); err != nil {
			return fmt.Errorf("naming combinations: %w", err)
		}
		if err := tx.AddScanCounts(ctx, counts); err != nil {
			return fmt.Errorf("counting combinations: %w", err)
		}
		if err := tx.AddSums(ctx, sums); err != nil {
			return fmt.Errorf("counting sums: %w", err)
		}
		if err := tx.AddMisses(ctx, misses); err != nil {
			return fmt.Errorf("counting scans that found nothing: %w", err)
		}
		if !c.Unique {
			if err := tx.AddDuplicates(ctx, p.duplicates); err != nil {
				return fmt.Errorf("noting which scans came twice: %w", err)
			}
			for _, stretch := range p.stretches {
				if err := tx.AddSeen(ctx, stretch); err != nil {
					return fmt.Errorf("noting which scans were counted: %w", err)
				}
			}
		}
		return tx.PutStatisticsState(ctx, state)
	})
	if err != nil {
		// What is known by heart is ahead of what is stored.
		c.loaded = false
		return err
	}
	c.state = state
	c.seen.stored()
	c.counted.Add(int64(p.size()))
	c.pending = newPending(state.Position)
	if len(c.groups) >= maxKnown {
		c.groups, c.byID = map[groupKey]*group{}, map[int64]*group{}
	}
	return nil
}

// saveCodes adds the scans to their codes and returns how many of them
// were the first of a code.
func (c *Counter) saveCodes(ctx context.Context, tx Tx, names []CodeName) (map[int32]int64, error) {
	p := c.pending
	have, err := tx.Codes(ctx, names)
	if err != nil {
		return nil, err
	}
	firsts := map[int32]int64{} // by cell
	changed := make([]CodeRow, 0, len(names))
	for _, name := range names {
		one := &CodeScans{CodeName: name}
		if row, ok := have[name]; ok {
			if one, err = readCode(row); err != nil {
				return nil, err
			}
		}
		before := one.Score()
		for _, i := range p.byCode[name] {
			e := &p.codes[i]
			if one.Scans == 0 {
				firsts[e.cell]++
			}
			c.addToCode(one, &e.Event, c.state.Offset)
			score := one.Score()
			if before < AlarmScore && score >= AlarmScore {
				if err := c.alarm(ctx, tx, one, &e.Event); err != nil {
					return nil, err
				}
			}
			before = score
		}
		changed = append(changed, one.row())
	}
	return firsts, tx.PutCodes(ctx, changed)
}

func (c *Counter) addToCode(one *CodeScans, e *Event, offset int64) {
	hour := HourOf(e.At)
	at := place{Region: e.Region}
	if c.Places != nil && e.Network.IsValid() {
		at.Lat, at.Lon, at.Known = c.Places.Coordinates(e.Network.Addr())
	}
	one.add(e, DayOf(hour, offset), int(((hour+offset)%24+24)%24), at)
}

func (c *Counter) alarm(ctx context.Context, tx Tx, one *CodeScans, e *Event) error {
	a, fresh, err := tx.AddAlarm(ctx, Alarm{Kind: Copied, CodeName: one.CodeName, At: e.At, Scan: e.ID.String(), Score: int64(one.Score()), Why: one.why()})
	if err != nil || !fresh {
		return err
	}
	c.Logger.WarnContext(ctx, "a code looks as if it was copied", "application_id", a.Batch, "code_index", a.Index, "score", a.Score, "alarm", a.ID)
	if c.OnAlarm == nil {
		return nil
	}
	return c.OnAlarm(ctx, a)
}

// OtherPlaces counts the places of a day beyond those that are kept apart.
const OtherPlaces = "*"

// maxValue bounds the value of a dimension in bytes.
const maxValue = 512

// usersAtOnce bounds how many sketches are in memory together.
const usersAtOnce = 1000

// Counted is how many events this process has counted since it started.
func (c *Counter) Counted() int64 { return c.counted.Load() }

// Reset forgets what is known by heart, after the store and the log were
// emptied by f.
func (c *Counter) Reset(f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded = false
	c.bindings.Lock()
	c.bindings.known = nil
	c.bindings.Unlock()
	return f()
}
