// Package verify recounts a whole scan log scan by scan and compares the result with the stored counts.
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

// Result is the result of comparing a recount of the whole scan log with the stored counts.
type Result struct {
	Position int64 // position up to which the recount and the stored counts extend
	Scans    int64
	Compared int64 // number of values that were compared
	// Missing is the number of counted scans that are missing in the log although they were not removed; any positive number counts as one
	// difference.
	Missing int64
	// Differences is the number of differing values; Shown holds the first of them.
	Differences int64
	Shown       []Difference
	// Since is the start of the compared days: earlier data may be missing in the scan log or in the counts. Zero = all days and codes were
	// compared; otherwise codes were not compared.
	Since time.Time
}

// Difference is a stored value that differs from the scan log.
type Difference struct {
	Subject   string
	Counted   int64
	Recounted int64
}

const maxShown = 100

func (r *Result) compare(counted, recounted int64, describe func() string) {
	r.Compared++
	if counted == recounted {
		return
	}
	r.Differences++
	if len(r.Shown) < maxShown {
		r.Shown = append(r.Shown, Difference{describe(), counted, recounted})
	}
}

// Recounter verifies the counts of an Aggregator by a recount.
type Recounter struct {
	Counter *stats.Aggregator
	// Scratch is the directory for records that do not fit in memory; "" = the system's directory for temporary files.
	Scratch string
	// Compared is the maximum number of bytes of records in memory (0 = 32 MiB), and the approximate number of bytes of records that are
	// compared at once, as one part (0 = 2 MiB). The counts of a part take up to twenty times as much memory. A part has at least the
	// records of one day or of one block of codes.
	Compared int
}

// errBehind reports that events were counted which the recount has not read from the scan log yet.
var errBehind = errors.New("stats: new scans were counted concurrently")

// errTurned reports that the scan log or the time zone changed since the recount began.
var errTurned = errors.New("stats: the scan log or the time zone was changed concurrently")

// Run recounts the whole scan log scan by scan and compares the result with the stored counts, while counting continues. Run reads the scan
// log once, from start to end, and writes records by day and by code. Run then compares one part after the other, each in its own
// transaction, after it has read the events that arrived in the meantime: counts are compared with exactly the events that they contain. An
// erasure first removes the user from the counts, so it causes no difference. Run changes no stored data, so an interrupted recount leaves
// nothing behind.
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
	defer func() { err = errors.Join(err, n.records.close()) }()
	if err := n.readUpTo(ctx, n.startState.CountedOffset); err != nil {
		return r, err
	}
	if err := n.records.flush(); err != nil { // frees memory for the comparison
		return r, err
	}
	for _, phase := range []func(context.Context) error{n.compareCodes, n.compareDays, n.compareMonths, n.compareMisses} {
		if err := phase(ctx); err != nil {
			return r, err
		}
	}
	return r, n.compareWith(ctx, func(_ stats.Tx, state stats.State) error {
		r.Position, r.Scans = state.CountedOffset, n.scans
		if start := n.firstCompleteDay(state); start != math.MinInt64 {
			r.Since = stats.PerDay.Start(start, state.Offset)
			if now := n.c.Now(); r.Since.After(now) { // no day is complete since the scan log was lost
				r.Since = now
			}
		}
		r.Missing = state.MissingCount + n.c.Missing(state)
		r.compare(r.Missing, 0, func() string { return "counted scans missing in the scan log" })
		if state.RetentionFloor.IsZero() {
			r.compare(state.Scans, r.Scans, func() string { return "scans" })
		}
		return nil
	})
}

// begin starts a recount of everything that is currently counted.
func (o Recounter) begin(ctx context.Context, r *Result) (*recounting, error) {
	n := &recounting{c: o.Counter, r: r, scanned: map[int64]*roaring64.Bitmap{}, fresh: map[int64]*dayTuples{}}
	n.records = scratch{dir: o.Scratch, maxBytes: cmp.Or(o.Compared, 32<<20), moved: func() { clear(n.fresh) }}
	n.maxBytes = int64(cmp.Or(o.Compared, 2<<20))
	err := o.Counter.Store.ViewStatistics(ctx, func(tx stats.Tx) (err error) {
		n.startState, err = tx.StatisticsState(ctx)
		return err
	})
	if err != nil {
		err = fmt.Errorf("reading the counted offset: %w", err)
	}
	return n, err
}

// recounting is the state of a running recount.
type recounting struct {
	c          *stats.Aggregator
	r          *Result
	startState stats.State
	records    scratch
	reached    int64                       // position up to which the scan log was read
	scans      int64                       // number of scans up to the position in the field reached
	scanned    map[int64]*roaring64.Bitmap // the scanned codes of each batch
	fresh      map[int64]*dayTuples        // by day: the combinations of values in records that are not in the file yet
	maxBytes   int64                       // maximum bytes of records that are compared at once
	record     []byte
}

// The kinds of partitions: scans of codes by batch and block of codes, all scans by day, and scans without a result by UTC day.
const (
	ofCodes = iota
	ofDays
	ofMisses
)

// codesInPartition is the number of codes of a batch that share a partition.
const codesInPartition = 1 << 16

// firstCompleteDay returns the first day whose scans are all in the scan log, whose counts are retained, and which was counted entirely in
// the current time zone.
func (n *recounting) firstCompleteDay(state stats.State) int64 {
	start := max(state.OldestDay, state.ZoneChangeDay)
	if start == 0 {
		start = math.MinInt64
	}
	if state.RetentionFloor.IsZero() {
		return start
	}
	return max(start, timebucket.Day(timebucket.Hour(state.RetentionFloor)+24, state.Offset))
}

// readUpTo continues reading the scan log up to a position.
func (n *recounting) readUpTo(ctx context.Context, position int64) error {
	if err := scanlog.CheckEnd(ctx, n.c.Log, n.startState.LogID, position); err != nil {
		return err
	}
	for e, err := range n.c.Log.Read(ctx, n.reached) {
		if err != nil {
			return fmt.Errorf("reading the scan log: %w", err)
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

// read adds one event to the records.
func (n *recounting) read(ctx context.Context, e *scanlog.Entry) error {
	n.scans++
	if _, err := n.c.Owner(ctx, e.RuleID, e.Batch); err != nil { // caches the owner for the later comparison of users
		return err
	}
	first := false
	if e.IdentifiesCode() {
		if n.scanned[e.Batch] == nil {
			n.scanned[e.Batch] = roaring64.New()
		}
		first = n.scanned[e.Batch].CheckedAdd(uint64(e.Index))
		if n.startState.RetentionFloor.IsZero() { // otherwise scans are missing in the log, possibly the first scans of a code
			if err := n.recordCode(e); err != nil {
				return err
			}
		}
	}
	hour := timebucket.Hour(e.OccurredAt)
	if place, missed := stats.PlaceOf(&e.Event); missed {
		if err := n.recordMiss(hour, place); err != nil {
			return err
		}
	}
	if timebucket.Day(hour, n.startState.Offset) < n.firstCompleteDay(n.startState) {
		return nil
	}
	return n.recordScan(ctx, e, first)
}

// compareWith calls f in one transaction in which the counts extend exactly to the position up to which the scan log was read. If
// the comparison is repeated, its result counts only once.
func (n *recounting) compareWith(ctx context.Context, f func(stats.Tx, stats.State) error) error {
	oldResult, position := *n.r, n.reached
	for {
		err := n.c.Store.ViewStatistics(ctx, func(tx stats.Tx) error {
			*n.r = oldResult
			state, err := tx.StatisticsState(ctx)
			switch position = state.CountedOffset; {
			case err != nil:
				return err
			case state.LogID != n.startState.LogID || state.Offset != n.startState.Offset || position < n.reached:
				return errTurned
			case position > n.reached:
				return errBehind
			}
			if err := tx.DisableTimeout(ctx); err != nil { // the counts of a part are computed between two queries
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

// inParts calls f for consecutive ranges of the partitions of a kind. A range includes its bound "from" and excludes its bound "to". A
// range consists of a single partition, or has at most maxBytes. The first range begins before all partitions, and the last range ends
// after all partitions. Partitions that are created during the comparison belong to the range that contains them.
func (n *recounting) inParts(total int, f func(from, to partition) error) error {
	list := n.records.list(total)
	from := partition{total, math.MinInt64, math.MinInt64}
	size := int64(0)
	for _, d := range list {
		extra := n.records.partitions[d].size
		if size > 0 && size+extra > n.maxBytes {
			if err := f(from, d); err != nil {
				return err
			}
			from, size = d, 0
		}
		size += extra
	}
	return f(from, partition{total, math.MaxInt64, math.MaxInt64})
}

// partitionsBetween iterates over the partitions in a range, with their records.
func (n *recounting) partitionsBetween(from, to partition) iter.Seq2[partition, iter.Seq2[[]byte, error]] {
	return func(yield func(partition, iter.Seq2[[]byte, error]) bool) {
		for _, d := range n.records.list(from.of) {
			if d.compare(from) >= 0 && d.compare(to) < 0 && !yield(d, n.records.read(d)) {
				return
			}
		}
	}
}

// usersKnown reports whether the users of a day were counted in the current time zone.
func usersKnown(state stats.State, day int64) bool {
	return state.ZoneChangedAt.IsZero() || day > timebucket.Day(timebucket.Hour(state.ZoneChangedAt)+24, state.Offset)
}

// compareUsers compares numbers of users, allowing for users whose data were erased: the log no longer has them, but they stay counted.
func (r *Result) compareUsers(counted, recounted, erased int64, describe func() string) {
	if erased > 0 && recounted <= counted && (recounted+erased >= counted || counted > hyperloglog.Exact) {
		recounted = counted
	}
	r.compare(counted, recounted, describe)
}
