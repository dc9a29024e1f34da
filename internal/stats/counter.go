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
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

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
		// Another node may have counted on; and the zone may have changed.
		if int64(c.Settings.Get().UTCOffsetHours) == c.state.Offset {
			return nil
		}
	}
	var rows []SeenRow
	err := c.Store.UpdateStatistics(ctx, func(ctx context.Context, tx Tx) error {
		if err := tx.LockStatistics(ctx); err != nil {
			return err
		}
		state, err := tx.StatisticsState(ctx)
		if err != nil {
			return err
		}
		before := state
		if offset := int64(c.Settings.Get().UTCOffsetHours); state.Offset != offset {
			if state.Scans > 0 {
				if err := tx.TurnDays(ctx, offset); err != nil {
					return err
				}
				// Users are counted again, where their scans are still there.
				if state.Forgotten.IsZero() {
					if err := tx.ForgetUsers(ctx); err != nil {
						return err
					}
					state.UsersPosition = 0
				} else {
					state.Turned = c.Now()
				}
			}
			state.Offset = offset
		}
		if ledger := c.ledger(); state.Ledger != ledger || end < state.Position {
			if state.Position > 0 {
				// An import brings the counts, and the ledger begins anew.
				state.Position, state.UsersPosition, state.Forgotten = 0, 0, c.Now()
				if err := tx.AnotherLedger(ctx); err != nil {
					return err
				}
			}
			state.Ledger = ledger
		}
		if state != before {
			if err := tx.PutStatisticsState(ctx, state); err != nil {
				return err
			}
		}
		if rows, err = tx.Seen(ctx); err != nil {
			return err
		}
		c.state = state
		return nil
	})
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

// readUsers reads what the sketches of users lack; where that is much, it
// writes them on the way.
func (c *Counter) readUsers(ctx context.Context) error {
	for {
		c.tail = newTail()
		reached := c.state.Position
		err := c.readTail(ctx, c.state, func(e *Entry) (bool, error) {
			g, err := c.group(ctx, &e.Event)
			if err != nil {
				return false, err
			}
			c.tail.add(DayOf(HourOf(e.At), c.state.Offset), g, &e.Event)
			if c.tail.full() {
				reached = e.Position
			}
			return !c.tail.full(), nil
		})
		if err != nil || reached == c.state.Position {
			return err
		}
		if err := c.foldUpTo(ctx, reached); err != nil {
			return err
		}
	}
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

// readTail visits the events that are counted and not in the sketches of
// users yet, some of them twice, until visit returns false.
func (c *Counter) readTail(ctx context.Context, s State, visit func(*Entry) (bool, error)) error {
	if s.UsersPosition >= s.Position {
		return nil
	}
	for e, err := range c.Log.Read(ctx, s.UsersPosition) {
		if err != nil {
			return fmt.Errorf("reading the scans since position %d: %w", s.UsersPosition, err)
		}
		if e.Position > s.Position {
			break
		}
		if more, err := visit(&e); err != nil || !more {
			return err
		}
	}
	return nil
}

// tail are the users of scans that are not in the stored sketches yet. Each
// user is entered for the rule and for all else once: what the dimensions have
// in common is taken apart when the sketches are written.
type tail struct {
	rules  map[ruleDay]*Sketch
	groups map[groupDay]*Sketch
	events int64
	bytes  int
}

type ruleDay struct{ day, rule int64 }

type groupDay struct {
	day int64
	*group
}

func newTail() *tail { return &tail{rules: map[ruleDay]*Sketch{}, groups: map[groupDay]*Sketch{}} }

func (t *tail) full() bool {
	return t.events >= maxTail || len(t.rules)+len(t.groups) >= maxSketchesHeld || t.bytes >= maxTailBytes
}

func (t *tail) add(day int64, g *group, e *Event) {
	t.events++
	if e.User == (UserHash{}) {
		return
	}
	n := userNumber(e.User)
	rule := t.rules[ruleDay{day, e.RuleID}]
	if rule == nil {
		rule = &Sketch{}
		t.rules[ruleDay{day, e.RuleID}] = rule
	}
	of := t.groups[groupDay{day, g}]
	if of == nil {
		of = &Sketch{}
		t.groups[groupDay{day, g}] = of
	}
	for _, s := range [...]*Sketch{rule, of} {
		before := s.size()
		if s.add(n) {
			t.bytes += s.size() - before
		}
	}
}

// of calls visit with the users of each day and value of a dimension, some of
// them in parts.
func (t *tail) of(d Dim, visit func(day int64, value string, s *Sketch)) {
	if d == Rule {
		for k, s := range t.rules {
			visit(k.day, number(k.rule), s)
		}
		return
	}
	for k, s := range t.groups {
		visit(k.day, k.Value(d), s)
	}
}

// sketches are the users by what they are stored by.
func (t *tail) sketches() map[UsersKey]*Sketch {
	all := make(map[UsersKey]*Sketch, len(t.rules)+8*len(t.groups))
	for d := range dims {
		t.of(d, func(day int64, value string, s *Sketch) {
			key := UsersKey{Day: day, Dim: d, Value: value}
			switch {
			case d == Rule:
				all[key] = s
			case all[key] == nil:
				all[key] = &Sketch{}
				fallthrough
			default:
				all[key].Merge(*s)
			}
		})
	}
	return all
}

// group is what a scan is counted by beside its rule and its time.
type group struct {
	Tuple       // Rule is 0
	id    int64 // of Tuple
	named bool  // in the store
}

// groupKey is what decides a scan's group.
type groupKey struct {
	batch, activation                         int64
	app, source, action, kind, reason, region string
}

// group returns the group of a scan.
func (c *Counter) group(ctx context.Context, e *Event) (*group, error) {
	key := groupKey{e.Batch, e.Activation, e.App, e.Source, e.Action, e.Kind, e.Reason, e.Region}
	if g := c.groups[key]; g != nil {
		return g, nil
	}
	t, err := c.tuple(ctx, e)
	if err != nil {
		return nil, err
	}
	t.Rule = 0
	id := t.ID()
	g := c.byID[id]
	if g == nil {
		g = &group{Tuple: t, id: id}
		c.byID[id] = g
	}
	c.groups[key] = g
	return g, nil
}

// pending is what was added up in memory and is not stored yet.
type pending struct {
	to         int64 // position of the last event
	scan       ScanID
	scanAt     time.Time
	age        int // in seconds
	events     int // that count
	duplicates []int64
	cells      map[cell]int32 // where in counts
	counts     []cellCount
	codes      []codeScan
	byCode     map[CodeName][]int32 // where in codes
	misses     map[missOf]int64
	stretches  []SeenRow
}

// cell is what a stored number counts: an hour, a rule and all else.
type cell struct {
	hour, rule int64
	group      *group
}

type cellCount struct {
	cell
	Count
}

// codeScan is a scan of a code with its cell.
type codeScan struct {
	Event
	cell int32
}

type missOf struct {
	hour  int64
	place string
}

func newPending(position int64) *pending {
	return &pending{to: position, cells: map[cell]int32{}, byCode: map[CodeName][]int32{}, misses: map[missOf]int64{}}
}

// size is how many events there are.
func (p *pending) size() int { return p.events + len(p.duplicates) }

// collect adds up the next events, as many as limit, and returns how many.
func (c *Counter) collect(ctx context.Context, limit int) (n int, err error) {
	for e, err := range c.Log.Read(ctx, c.pending.to) {
		if err != nil {
			return n, fmt.Errorf("reading the ledger after position %d: %w", c.pending.to, err)
		}
		if err := c.take(ctx, &e); err != nil {
			return n, err
		}
		if n++; n >= limit || c.full() {
			break
		}
		if n%yieldEvery == 0 {
			runtime.Gosched() // whoever answers goes first
		}
	}
	return n, nil
}

// take adds one event. After an error nothing of it is added.
func (c *Counter) take(ctx context.Context, e *Entry) error {
	p, hour := c.pending, HourOf(e.At)
	if !c.Unique {
		twice, err := c.seen.has(ctx, e.ID)
		if err != nil {
			return err
		}
		if twice {
			p.to, p.scan, p.scanAt = e.Position, e.ID, e.At
			p.duplicates = append(p.duplicates, e.Position)
			return nil
		}
	}
	g, err := c.group(ctx, &e.Event)
	if err != nil {
		return err
	}
	if e.Kind == "" {
		if place, missed := PlaceOf(&e.Event); missed {
			if place, err = c.place(ctx, DayOf(hour, 0), place); err != nil {
				return err
			}
			p.misses[missOf{hour, place}]++
		}
	}
	p.to, p.scan, p.scanAt = e.Position, e.ID, e.At
	p.events++
	if !c.Unique {
		c.seen.note(e.ID)
		if row, full := c.seen.full(e.Position); full {
			p.stretches = append(p.stretches, row)
		}
	}
	key := cell{hour, e.RuleID, g}
	at, have := p.cells[key]
	if !have {
		at = int32(len(p.counts))
		p.cells[key] = at
		p.counts = append(p.counts, cellCount{cell: key})
	}
	p.counts[at].Scans++
	if e.Batch != 0 {
		name := CodeName{e.Batch, e.Index}
		p.byCode[name] = append(p.byCode[name], int32(len(p.codes)))
		p.codes = append(p.codes, codeScan{e.Event, at})
	}
	c.tail.add(DayOf(hour, c.state.Offset), g, &e.Event)
	return nil
}

// place says under which place a scan that found nothing counts: the first
// ones of a day of UTC under their own, in the order of the log.
func (c *Counter) place(ctx context.Context, day int64, name string) (string, error) {
	places := c.places[day]
	if places == nil {
		if len(c.places) >= maxPlaceDays && len(c.pending.misses) == 0 {
			clear(c.places)
		}
		var list []string
		err := c.Store.ViewStatistics(ctx, func(tx Tx) (err error) {
			list, err = tx.Places(ctx, day*24, day*24+24, maxPlaces+1)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("reading what was scanned and found nothing: %w", err)
		}
		places = map[string]bool{}
		for _, one := range list {
			places[one] = true
		}
		delete(places, OtherPlaces)
		c.places[day] = places
	}
	if places[name] {
		return name, nil
	}
	if len(places) >= maxPlaces {
		return OtherPlaces, nil
	}
	places[name] = true
	return name, nil
}

// rows are the counts with what follows from them: of days, of all rules
// together, and of each dimension alone, all in the order of their keys.
func (p *pending) rows(firsts map[int32]int64, offset int64) ([]CountRow, []SumRow) {
	type groupAt struct {
		hour int64
		*group
	}
	type sumAt struct {
		per   Per
		dim   Dim
		at    int64
		value string
	}
	list := make([]CountRow, 0, 2*len(p.counts))
	ofAll, sums := map[groupAt]Count{}, map[sumAt]Count{}
	for i := range p.counts {
		one := p.counts[i]
		one.Firsts = firsts[int32(i)]
		list = append(list, CountRow{PerHour, one.hour, one.rule, one.group.id, one.Count},
			CountRow{PerDay, DayOf(one.hour, offset), one.rule, one.group.id, one.Count})
		sum := ofAll[groupAt{one.hour, one.group}]
		sum.add(one.Count)
		ofAll[groupAt{one.hour, one.group}] = sum
	}
	for key, count := range ofAll {
		day := DayOf(key.hour, offset)
		list = append(list, CountRow{PerHourOfAll, key.hour, 0, key.id, count}, CountRow{PerDayOfAll, day, 0, key.id, count})
		for d := range dims {
			if d == Rule {
				continue
			}
			value := key.Value(d)
			for _, at := range [...]sumAt{{PerHour, d, key.hour, value}, {PerDay, d, day, value}} {
				sum := sums[at]
				sum.add(count)
				sums[at] = sum
			}
		}
	}
	slices.SortFunc(list, func(a, b CountRow) int { return a.compare(&b) })
	n := 0
	for i := range list {
		if n > 0 && list[n-1].compare(&list[i]) == 0 {
			list[n-1].add(list[i].Count)
			continue
		}
		list[n] = list[i]
		n++
	}
	all := make([]SumRow, 0, len(sums))
	for key, count := range sums {
		all = append(all, SumRow{Per: key.per, Dim: key.dim, At: key.at, Value: key.value, Count: count})
	}
	slices.SortFunc(all, func(a, b SumRow) int {
		return cmp.Or(cmp.Compare(a.Per, b.Per), cmp.Compare(a.Dim, b.Dim), cmp.Compare(a.At, b.At), cmp.Compare(a.Value, b.Value))
	})
	return list[:n], all
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
		if now.Position != c.state.Position || now.Offset != c.state.Offset {
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

// PlaceOf is the group of a scan that found nothing: the host and the first
// segment of the path of its link; false for a scan that found something.
func PlaceOf(e *Event) (string, bool) {
	if e.Kind != "" || e.Batch != 0 {
		return "", false
	}
	if e.Reason != "" {
		return "(" + e.Reason + ")", true
	}
	_, rest, ok := strings.Cut(e.Text, "://")
	if !ok {
		return "(no link)", true
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, path := strings.ToLower(rest[:end]), rest[end:]
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = host[at+1:]
	}
	if path == "" || path[0] != '/' {
		return clean(host), true
	}
	if end = strings.IndexAny(path[1:], "/?#"); end >= 0 {
		path = path[:end+1]
	}
	return clean(host + path), true
}

// maxValue bounds the value of a dimension in bytes.
const maxValue = 512

// clean makes a text one that both databases keep.
func clean(text string) string {
	if len(text) > maxValue {
		text = text[:maxValue]
	}
	if utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
		return text
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// tuple is what an event is counted by.
func (c *Counter) tuple(ctx context.Context, e *Event) (Tuple, error) {
	t := Tuple{Batch: e.Batch, Rule: e.RuleID, App: clean(e.App), Source: clean(e.Source), Result: clean(ResultOf(e)), Region: clean(e.Region)}
	if e.Activation == 0 {
		return t, nil
	}
	b, err := c.binding(ctx, e.Activation)
	if err != nil {
		return t, err
	}
	t.Activity, t.Brand, t.Product = clean(b.ActivityName), clean(b.ProductBrand), clean(b.ProductCode)
	return t, nil
}

// binding is what an activation bound; nothing where there is no such
// activation. An activation never changes.
func (c *Counter) binding(ctx context.Context, activation int64) (b codes.Binding, err error) {
	c.bindings.Lock()
	defer c.bindings.Unlock()
	if b, ok := c.bindings.known[activation]; ok {
		return b, nil
	}
	err = c.Store.ViewStatistics(ctx, func(tx Tx) error {
		b, err = tx.Binding(ctx, activation)
		return err
	})
	if errors.Is(err, ErrNoActivation) {
		return codes.Binding{}, nil
	}
	if err != nil {
		return b, fmt.Errorf("reading activation %d: %w", activation, err)
	}
	if c.bindings.known == nil || len(c.bindings.known) >= maxKnown {
		c.bindings.known = map[int64]codes.Binding{}
	}
	c.bindings.known[activation] = b
	return b, nil
}

// fold brings the sketches of users up to what is stored; nothing must be
// pending. Without need it waits until a minute has passed.
func (c *Counter) fold(ctx context.Context, need bool) error {
	if c.tail.events == 0 {
		return nil
	}
	if now := c.Now(); !need && now.Sub(c.foldedAt).Abs() < time.Minute {
		return nil
	}
	return c.foldUpTo(ctx, c.state.Position)
}

// foldUpTo brings the sketches up to a position, to which c.tail reaches.
func (c *Counter) foldUpTo(ctx context.Context, position int64) error {
	sketches := c.tail.sketches()
	keys := slices.SortedFunc(maps.Keys(sketches), UsersKey.Compare)
	var state State
	err := c.Store.UpdateStatistics(ctx, func(ctx context.Context, tx Tx) error {
		if err := tx.LockStatistics(ctx); err != nil {
			return err
		}
		var err error
		if state, err = tx.StatisticsState(ctx); err != nil {
			return err
		}
		if state.Position != c.state.Position || state.UsersPosition != c.state.UsersPosition {
			return errMoved
		}
		state.UsersPosition = position
		if err := c.mergeUsers(ctx, tx, keys, sketches); err != nil {
			return err
		}
		return tx.PutStatisticsState(ctx, state)
	})
	if err != nil {
		c.loaded = c.loaded && !errors.Is(err, errMoved)
		return fmt.Errorf("writing the distinct users: %w", err)
	}
	c.state, c.tail, c.foldedAt = state, newTail(), c.Now()
	return nil
}

// usersAtOnce bounds how many sketches are in memory together.
const usersAtOnce = 1000

func (c *Counter) mergeUsers(ctx context.Context, tx Tx, keys []UsersKey, sketches map[UsersKey]*Sketch) error {
	for some := range slices.Chunk(keys, usersAtOnce) {
		have, err := tx.UsersRows(ctx, some)
		if err != nil {
			return err
		}
		changed := make([]UsersRow, 0, len(some))
		for _, key := range some {
			row := have[key]
			s, err := DecodeSketch(row.Sketch)
			if err != nil {
				return fmt.Errorf("the users of day %d, %s %q: %w", key.Day, key.Dim, key.Value, err)
			}
			s.Merge(*sketches[key])
			row.UsersKey, row.Users, row.Sketch = key, s.Count(), s.Encode()
			changed = append(changed, row)
		}
		if err := tx.PutUsers(ctx, changed); err != nil {
			return err
		}
	}
	return nil
}

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
