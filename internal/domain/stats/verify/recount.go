// Package verify counts a whole ledger again, one by one, and compares that with what is counted.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Result compares a plain count of the whole ledger with what is counted.
type Result struct {
	Position int64 // up to which both counted
	Scans    int64
	Compared int64 // numbers that were compared
	// Lacking is the number of scans that are counted and not in the log, although nothing removed them; if there are any, they are
	// one difference.
	Lacking int64
	// Differences is the number of differing counts, Shown the first ones.
	Differences int64
	Shown       []Difference
	// Since is from when on days were compared: what is older may be gone from
	// the ledger, where codes are not compared either, or from the counts.
	// Zero = everything.
	Since time.Time
}

// Difference is a number that is not what the ledger says.
type Difference struct {
	What      string
	Counted   int64
	Recounted int64
}

const maxShown = 100

func (r *Result) compare(counted, recounted int64, describe func() string) {
	r.Compared++
	if counted == recounted {
		return
	}
	if r.Differences++; len(r.Shown) < maxShown {
		r.Shown = append(r.Shown, Difference{describe(), counted, recounted})
	}
}

// Recounter counts again what a counter counted.
type Recounter struct {
	Counter *stats.Aggregator
	// Scratch is the folder of notes that do not fit in memory; "" = the system's for such files.
	Scratch string
	// Held is the number of bytes of notes that are held in memory, and about the number that are compared at once; 0 = 32 MiB and
	// 2 MiB. Added up, a part is up to twenty times as large; a day, or a stretch of codes, is one part at least.
	Held int
}

// errBehind says that more was counted than was read of the ledger.
var errBehind = errors.New("stats: more is counted meanwhile")

// errTurned says that the counts are of another ledger or zone than at the beginning.
var errTurned = errors.New("stats: the ledger or the zone of days was changed meanwhile")

// Run counts the whole ledger again, one by one, and compares the result with what is counted,
// while the counting goes on. It reads the ledger once, from its beginning to its end, and notes
// what it read by days and by codes. Then it compares one part after the other, each in a
// transaction of its own: it reads what came meanwhile, and compares with what is counted by then.
// It compares what it read only with counts that are as young or younger; so an erasure, which
// takes a user out of the counts first, makes no difference. It changes nothing, so a recount that
// is interrupted leaves nothing behind.
func (o Recounter) Run(ctx context.Context) (Result, error) {
	for {
		r, err := o.run(ctx)
		if !errors.Is(err, errTurned) || ctx.Err() != nil {
			return r, err
		}
	}
}

func (o Recounter) run(ctx context.Context) (r Result, err error) {
	if err := o.Counter.CatchUpAll(ctx); err != nil {
		return r, err
	}
	n, err := o.begin(ctx, &r)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, n.notes.close()) }()
	if err := n.readUpTo(ctx, n.began.Position); err != nil {
		return r, err
	}
	if err := n.notes.letGo(); err != nil { // comparing wants the memory
		return r, err
	}
	for _, phase := range []func(context.Context) error{n.compareCodes, n.compareDays, n.compareMonths, n.compareMisses} {
		if err := phase(ctx); err != nil {
			return r, err
		}
	}
	return r, n.compareWith(ctx, func(_ stats.Tx, state stats.State) error {
		r.Position, r.Scans = state.Position, n.scans
		if start := n.firstCompleteDay(state); start != math.MinInt64 {
			r.Since = stats.PerDay.Start(start, state.Offset)
		}
		r.Lacking = state.Lacking + n.c.Missing(state)
		r.compare(r.Lacking, 0, func() string { return "counted scans that the ledger lacks" })
		if state.Forgotten.IsZero() {
			r.compare(state.Scans, r.Scans, func() string { return "scans" })
		}
		return nil
	})
}

// begin begins a recount of what is counted by now.
func (o Recounter) begin(ctx context.Context, r *Result) (*recounting, error) {
	n := &recounting{c: o.Counter, r: r, seen: map[int64]*roaring64.Bitmap{}, fresh: map[int64]*dayNotes{}}
	n.notes = scratch{dir: o.Scratch, most: cmp.Or(o.Held, 32<<20), moved: func() { clear(n.fresh) }}
	n.part = int64(cmp.Or(o.Held, 2<<20))
	err := o.Counter.Store.ViewStatistics(ctx, func(tx stats.Tx) (err error) {
		n.began, err = tx.StatisticsState(ctx)
		return err
	})
	if err != nil {
		err = fmt.Errorf("reading how far scans are counted: %w", err)
	}
	return n, err
}

// recounting is a recount while it runs.
type recounting struct {
	c       *stats.Aggregator
	r       *Result
	began   stats.State
	notes   scratch
	reached int64                       // up to where the ledger was read
	scans   int64                       // up to there
	seen    map[int64]*roaring64.Bitmap // the codes that were scanned, of each batch
	fresh   map[int64]*dayNotes         // by day: what is known of notes that are not in the file yet
	part    int64                       // bytes of notes that are compared at once
	note    []byte
}

// What the drawers hold: scans of codes by batch and stretches of codes, all scans by
// days, and those that found nothing by days of UTC.
const (
	ofCodes = iota
	ofDays
	ofMisses
)

// codesInDrawer is the number of codes of a batch that share a drawer.
const codesInDrawer = 1 << 16

// firstCompleteDay returns the first day that is whole after what was forgotten in the ledger, kept of
// the counts, and cut by no former zone.
func (n *recounting) firstCompleteDay(state stats.State) int64 {
	start := max(state.DaysFrom, state.Seam)
	if start == 0 {
		start = math.MinInt64
	}
	if state.Forgotten.IsZero() {
		return start
	}
	return max(start, timebucket.Day(timebucket.Hour(state.Forgotten)+24, state.Offset))
}

// readUpTo reads further in the ledger, up to a position.
func (n *recounting) readUpTo(ctx context.Context, position int64) error {
	for e, err := range n.c.Log.Read(ctx, n.reached) {
		if err != nil {
			return fmt.Errorf("reading the ledger: %w", err)
		}
		if e.Position > position {
			break
		}
		if err := n.read(ctx, &e); err != nil {
			return err
		}
	}
	n.reached = position
	return nil
}

// read notes one event.
func (n *recounting) read(ctx context.Context, e *scanlog.Entry) error {
	n.scans++
	if _, err := n.c.Owner(ctx, e.RuleID, e.Batch); err != nil { // known by heart when the users are compared
		return err
	}
	first := false
	if e.Batch != 0 {
		if n.seen[e.Batch] == nil {
			n.seen[e.Batch] = roaring64.New()
		}
		first = n.seen[e.Batch].CheckedAdd(uint64(e.Index))
		if n.began.Forgotten.IsZero() { // else the first scans of a code may be gone
			if err := n.noteCode(e); err != nil {
				return err
			}
		}
	}
	hour := timebucket.Hour(e.At)
	if place, missed := stats.PlaceOf(&e.Event); missed {
		if err := n.noteMiss(hour, place); err != nil {
			return err
		}
	}
	if timebucket.Day(hour, n.began.Offset) < n.firstCompleteDay(n.began) {
		return nil
	}
	return n.noteScan(ctx, e, first)
}

// compareWith lets f compare with what is counted up to where the ledger was read, in
// one transaction. The comparison may run again, and then counts once.
func (n *recounting) compareWith(ctx context.Context, f func(stats.Tx, stats.State) error) error {
	oldResult, position := *n.r, n.reached
	for {
		err := n.c.Store.ViewStatistics(ctx, func(tx stats.Tx) error {
			*n.r = oldResult
			state, err := tx.StatisticsState(ctx)
			switch position = state.Position; {
			case err != nil:
				return err
			case state.Ledger != n.began.Ledger || state.Offset != n.began.Offset || position < n.reached:
				return errTurned
			case position > n.reached:
				return errBehind
			}
			if err := tx.DisableTimeout(ctx); err != nil { // a part is added up between two questions
				return err
			}
			return f(tx, state)
		})
		if !errors.Is(err, errBehind) {
			return err
		}
		if err := n.readUpTo(ctx, position); err != nil {
			return err
		}
	}
}

// inParts calls f for neighbouring drawers of a kind, as many at once as fit in memory: from the
// first of them up to the first one of the next part, which is excluded. The first part begins
// before everything, the last one ends after it. Drawers that are opened meanwhile belong to the
// part that they lie in.
func (n *recounting) inParts(total int, f func(from, to partition) error) error {
	list := n.notes.list(total)
	from := partition{total, math.MinInt64, math.MinInt64}
	size := int64(0)
	for _, d := range list {
		extra := n.notes.drawers[d].size
		if size > 0 && size+extra > n.part {
			if err := f(from, d); err != nil {
				return err
			}
			from, size = d, 0
		}
		size += extra
	}
	return f(from, partition{total, math.MaxInt64, math.MaxInt64})
}

// drawersBetween yields the drawers of a part with their notes.
func (n *recounting) drawersBetween(from, to partition) iter.Seq2[partition, iter.Seq2[[]byte, error]] {
	return func(yield func(partition, iter.Seq2[[]byte, error]) bool) {
		for _, d := range n.notes.list(from.of) {
			if d.compare(from) >= 0 && d.compare(to) < 0 && !yield(d, n.notes.read(d)) {
				return
			}
		}
	}
}

// usersKnown reports whether the users of a day are counted by days of this
// zone.
func usersKnown(state stats.State, day int64) bool {
	return state.Turned.IsZero() || day > timebucket.Day(timebucket.Hour(state.Turned)+24, state.Offset)
}

// compareUsers allows for users whose data were erased: the log no longer has them, but they stay
// counted.
func (r *Result) compareUsers(counted, recounted, erased int64, describe func() string) {
	if erased > 0 && recounted <= counted && (recounted+erased >= counted || counted > hyperloglog.Exact) {
		recounted = counted
	}
	r.compare(counted, recounted, describe)
}
