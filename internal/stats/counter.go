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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/settings"

	"github.com/qrjump/qrjump/internal/ledger"
)

// Counter counts what a log holds and answers questions about it. What it
// counts and how far it is are stored in one transaction, so that every event
// counts once whatever happens to the process. On many nodes each may count;
// one at a time does.
type Counter struct {
	Log      ledger.Log
	Store    Store
	Settings *settings.Live // where days begin
	Now      func() time.Time
	Logger   *slog.Logger
	Random   io.Reader // nil = the machine's
	// Earlier are the logs of this store from before Log: nothing of them is counted
	// any more, and an erasure reaches them.
	Earlier []ledger.Log
	// Unique: the log never has an event twice, so nobody needs to look.
	Unique bool
	// Places finds out where a network is; nil = nobody knows.
	Places interface {
		Coordinates(netip.Addr) (lat, lon float64, ok bool)
	}
	// Flush brings into the log what is durable and waits to get there; nil =
	// nothing ever waits.
	Flush func(context.Context) error
	// Nodes brings what other nodes have; nil = there are no others.
	Nodes *ledger.Nodes
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
	taken    map[string]*ledger.Taken // of each node's journal
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

// CatchUpAll counts everything that was acknowledged before it was called, on any
// node. Unreached where a node may have something that it did not bring.
func (c *Counter) CatchUpAll(ctx context.Context) error {
	if c.Nodes == nil {
		return c.CatchUp(ctx)
	}
	if err := c.Nodes.Gather(ctx); err != nil {
		return err
	}
	if err := c.CatchUp(ctx); err != nil {
		return err
	}
	return c.Nodes.Counted(ctx)
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
	rows, taken, err := c.loadState(ctx, end)
	if err != nil {
		return fmt.Errorf("reading how far scans are counted: %w", err)
	}
	c.loaded, c.taken = false, taken
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

// errChanged says that the state is another than the one that was judged.
var errChanged = errors.New("stats: somebody else counted meanwhile")

// turn is what was found out of a state and the log before the state is changed:
// nothing asks the log within a transaction.
type turn struct {
	ledger   string
	state    State // as it was
	other    bool  // another ledger was counted until now
	cut      int64 // the ledger is the same and ends here, or is another from somewhere on; -1 = neither
	strange  bool  // the scan at the position is not the one that was counted there
	origins  bool  // its events say from which journal they came: that tells where to go on
	position int64 // up to where the other ledger is counted
}

// loadState reads the state and where each stretch of counted scans is. end is
// where the log ended a while ago: somebody else may have counted beyond it
// since. So a log that is shorter than what is counted lacks something only if it
// still is when asked after that was seen.
func (c *Counter) loadState(ctx context.Context, end int64) (rows []SeenRow, taken map[string]*ledger.Taken, err error) {
	for passed := int64(-1); ; {
		t, err := c.judge(ctx, end)
		if err != nil {
			return nil, nil, err
		}
		if t.cut >= 0 && !t.strange && t.state.Position != passed {
			passed = t.state.Position
			if end, err = c.Log.End(ctx); err != nil {
				return nil, nil, fmt.Errorf("looking for the end of the ledger: %w", err)
			}
			continue
		}
		if t.cut >= 0 {
			if t.cut, t.origins, err = c.uncounted(ctx, t.cut); err != nil {
				return nil, nil, err
			}
		}
		err = c.Store.UpdateStatistics(ctx, func(ctx context.Context, tx Tx) error {
			if rows, err = c.readState(ctx, tx, t); err == nil {
				taken, err = tx.Origins(ctx)
			}
			return err
		})
		if errors.Is(err, errChanged) {
			continue
		}
		if err == nil {
			c.tellOfTurn(ctx, t)
		}
		return rows, taken, err
	}
}

// judge compares the state with the log.
func (c *Counter) judge(ctx context.Context, end int64) (t turn, err error) {
	if t.ledger, t.cut = c.ledger(), -1; t.ledger == "" && c.named() {
		return t, errors.New("the ledger does not say which one it is")
	}
	var recalled int64
	var last string
	err = c.Store.ViewStatistics(ctx, func(tx Tx) error {
		if t.state, err = tx.StatisticsState(ctx); err != nil {
			return err
		}
		recalled, last, err = tx.RecallLedger(ctx, t.ledger)
		return err
	})
	if err != nil {
		return t, err
	}
	switch {
	case t.state.Ledger != t.ledger:
		// Nothing may be counted of the one that is left, and yet of this one before.
		if t.other = t.state.Position > 0 || t.state.Ledger != ""; t.other {
			t.position, err = c.countedBefore(ctx, t.state, recalled, last)
		}
	case end < t.state.Position:
		t.cut = end
	case t.state.Mark != "" && t.state.Mark == t.state.Scan:
		// A version that knows no mark counted last where it is not the scan.
		if t.strange, err = c.strange(ctx, t.state); t.strange {
			t.cut = end
		}
	}
	return t, err
}

// strange reports whether another scan stands where the last counted one stood:
// the ledger is an older one that went on.
func (c *Counter) strange(ctx context.Context, state State) (bool, error) {
	for e, err := range c.Log.Read(ctx, state.Position-1) {
		if err != nil {
			return false, fmt.Errorf("looking at the last scan that was counted: %w", err)
		}
		return e.Position == state.Position && e.ID.String() != state.Mark, nil
	}
	return false, nil
}

// uncounted is up to where everything is counted that a ledger has up to its end,
// by the journals from which its events came; the end where they do not say.
func (c *Counter) uncounted(ctx context.Context, end int64) (upTo int64, origins bool, err error) {
	if !c.Unique {
		return end, false, nil // a journal itself
	}
	var taken map[string]*ledger.Taken
	err = c.Store.ViewStatistics(ctx, func(tx Tx) error {
		taken, err = tx.Origins(ctx)
		return err
	})
	if err != nil || len(taken) == 0 {
		return end, false, err
	}
	for e, err := range c.Log.Read(ctx, 0) {
		if err != nil {
			return end, false, fmt.Errorf("looking for the first scan that is not counted: %w", err)
		}
		if e.Position > end {
			break
		}
		if e.From.Node == "" {
			continue // of an earlier version
		}
		if origins = true; !taken[e.From.Node].Has(e.From.Position) {
			return e.Position - 1, true, nil
		}
	}
	return end, origins, nil
}

// readState is loadState in one transaction.
func (c *Counter) readState(ctx context.Context, tx Tx, t turn) ([]SeenRow, error) {
	if err := tx.LockStatistics(ctx); err != nil {
		return nil, err
	}
	state, err := tx.StatisticsState(ctx)
	if err != nil {
		return nil, err
	}
	before := state
	if (t.other || t.cut >= 0 || state.Ledger != t.ledger) && state != t.state {
		return nil, errChanged
	}
	if offset := int64(c.Settings.Get().UTCOffsetHours); state.Offset != offset {
		if state.Scans > 0 {
			if err := tx.TurnDays(ctx, offset); err != nil {
				return nil, err
			}
			// Users are counted again, where their scans are still there.
			if state.Forgotten.IsZero() {
				if err := tx.ForgetUsers(ctx); err != nil {
					return nil, err
				}
				state.UsersPosition = 0
			} else {
				state.Turned = c.Now()
			}
		}
		state.Offset = offset
	}
	switch {
	case t.other:
		if state, err = c.another(ctx, tx, state, t); err != nil {
			return nil, err
		}
	case t.cut >= 0:
		if state, err = c.cut(ctx, tx, state, t); err != nil {
			return nil, err
		}
	}
	state.Ledger = t.ledger
	if state != before {
		if err := tx.PutStatisticsState(ctx, state); err != nil {
			return nil, err
		}
	}
	c.state = state
	return tx.Seen(ctx)
}

// cut goes on behind what is counted of a ledger that lacks scans which were
// counted: none of it is counted again.
func (c *Counter) cut(ctx context.Context, tx Tx, state State, t turn) (State, error) {
	lost := max(state.Position-t.cut, 1)
	if t.origins { // nothing is lost for sure
		lost = max(state.Position-t.cut, 0)
	}
	keep := t.cut
	if t.strange {
		keep = 0
	}
	if err := tx.CutPositions(ctx, keep, t.cut); err != nil {
		return state, err
	}
	if t.strange && t.cut > 0 && !c.Unique {
		// From where on it is another one is not known: none of it is read for its ids.
		now := c.Now().UnixMilli()
		if err := tx.AddSeen(ctx, SeenRow{Position: t.cut, Oldest: now + 1, Newest: now}); err != nil {
			return state, err
		}
	}
	state.Position, state.UsersPosition, state.Mark = t.cut, min(state.UsersPosition, t.cut), ""
	state.Held, state.Lacking, state.Forgotten = max(0, state.Held-lost), state.Lacking+lost, c.Now()
	return state, nil
}

// another turns from the ledger that was counted to another one.
func (c *Counter) another(ctx context.Context, tx Tx, left State, t turn) (State, error) {
	if err := tx.ForgetPositions(ctx); err != nil {
		return left, err
	}
	state, lack := left, left.Position-left.UsersPosition
	state.Position, state.UsersPosition, state.Mark, state.Held = t.position, t.position, "", 0
	if state.Scans > 0 {
		state.Forgotten = c.Now()
	}
	if left.Ledger != "" {
		if err := tx.RememberLedger(ctx, left.Ledger, left.Position); err != nil {
			return state, err
		}
	}
	if c.lost(left.Ledger) {
		state.Lacking += left.Held
	}
	if t.position > 0 && !c.Unique {
		// What is counted of it is not read again for its ids: none is of this stretch.
		now := c.Now().UnixMilli()
		if err := tx.AddSeen(ctx, SeenRow{Position: t.position, Oldest: now + 1, Newest: now}); err != nil {
			return state, err
		}
	}
	read := int64(0)
	if c.fromJournal() {
		// The scans whose users are not in the sketches stand here as well, as
		// close together at least. Who is added twice changes nothing.
		state.UsersPosition, read = max(0, state.Position-lack), left.Position
	}
	if err := tx.TurnReaders(ctx, read, state.Position); err != nil {
		return state, fmt.Errorf("turning who reads scans to another ledger: %w", err)
	}
	return state, nil
}

func (c *Counter) fromJournal() bool {
	_, is := c.Log.(*ledger.Journal)
	return is
}

// lost reports whether a ledger that is left is nowhere any more: the journal of
// an embedded database, which is another now, or a stream that was made anew. A
// stream elsewhere can be gone back to.
func (c *Counter) lost(ledger string) bool {
	if l, ok := c.Log.(interface{ Lost(ledger string) bool }); ok {
		return l.Lost(ledger)
	}
	return c.fromJournal() && ledger != "" && !strings.Contains(ledger, " ")
}

// tellOfTurn logs what the ledger lacks.
func (c *Counter) tellOfTurn(ctx context.Context, t turn) {
	switch {
	case t.strange:
		c.Logger.ErrorContext(ctx, "the ledger is not the one whose scans were counted, but an older one that went on: what it has is not counted again, and what it lacks stays counted",
			"position", t.state.Position, "scan counted", t.state.Mark, "counted scans lacking in all, at least", c.state.Lacking)
	case t.cut >= 0:
		c.Logger.ErrorContext(ctx, "the ledger lacks scans that were counted, as an older or a cut one does: what it has is not counted again, and what it lacks stays counted",
			"lacking", c.state.Lacking-t.state.Lacking, "goes on behind", t.cut, "counted up to", t.state.Position, "counted scans lacking in all", c.state.Lacking)
	case t.other && c.state.Lacking > t.state.Lacking:
		c.Logger.ErrorContext(ctx, "the ledger that was counted is gone, and another one is in its place: its scans stay counted",
			"was", t.state.Ledger, "is", t.ledger, "counted scans lacking in all, at most", c.state.Lacking)
	}
}

// countedBefore is up to where a ledger is counted that is turned to: to its
// beginning after an import without scans, but further where it was counted
// before, or where the scans that were counted came from it, as those of a
// stream came from the journal.
func (c *Counter) countedBefore(ctx context.Context, left State, position int64, last string) (int64, error) {
	if c.fromJournal() {
		last = left.Scan
	}
	if id, err := ledger.ParseScanID(last); err == nil {
		switch at, err := c.Log.Find(ctx, id); {
		case err == nil:
			position = max(position, at)
		case !errors.Is(err, ledger.ErrNoScan):
			return 0, fmt.Errorf("looking for the last scan that was counted: %w", err)
		}
	}
	return position, nil
}

// Begin compares what is counted with the ledger before anything new comes into
// it, so that an older or a cut one is seen to be shorter.
func (c *Counter) Begin(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	end, err := c.Log.End(ctx)
	if err != nil {
		return fmt.Errorf("looking for the end of the ledger: %w", err)
	}
	if _, _, err := c.loadState(ctx, end); err != nil {
		return fmt.Errorf("reading how far scans are counted: %w", err)
	}
	if n := c.missing(c.state); n > 0 {
		c.Logger.ErrorContext(ctx, "the ledger lacks scans that were counted, as when a file of it is gone: they stay counted", "lacking", n)
	}
	return nil
}

// missing is how many counted scans the files of a ledger lack at the moment.
func (c *Counter) missing(state State) int64 {
	if l, ok := c.Log.(interface{ Missing(upTo int64) int64 }); ok && state.Ledger == c.ledger() {
		return l.Missing(state.Position)
	}
	return 0
}

// Lacking is how many counted scans the ledger lacks although nothing removed
// them: those of an older or a cut ledger, of a file that is gone, of a stream
// that was lost and that no journal had any more.
func (c *Counter) Lacking(ctx context.Context) (n int64, err error) {
	err = c.Store.ViewStatistics(ctx, func(tx Tx) error {
		state, err := tx.StatisticsState(ctx)
		n = state.Lacking + c.missing(state)
		return err
	})
	return n, err
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

// named reports whether the log has an id.
func (c *Counter) named() bool {
	_, named := c.Log.(interface{ ID() string })
	return named
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
		state.Position, state.Mark, state.Scan, state.ScanAt = p.to, p.scan.String(), p.scan.String(), p.scanAt
		state.Scans, state.Duplicates, state.Held = now.Scans+int64(p.events), now.Duplicates+int64(len(p.duplicates)), now.Held+int64(p.events+p.again)
		state.Lacking = max(0, now.Lacking-int64(p.again))

		if err := tx.PutOrigins(ctx, p.origins(c.taken)); err != nil {
			return fmt.Errorf("noting which scans of each node are counted: %w", err)
		}
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

func (c *Counter) addToCode(one *CodeScans, e *ledger.Event, offset int64) {
	hour := HourOf(e.At)
	at := place{Region: e.Region}
	if c.Places != nil && e.Network.IsValid() {
		at.Lat, at.Lon, at.Known = c.Places.Coordinates(e.Network.Addr())
	}
	one.add(e, DayOf(hour, offset), int(((hour+offset)%24+24)%24), at)
}

func (c *Counter) alarm(ctx context.Context, tx Tx, one *CodeScans, e *ledger.Event) error {
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
