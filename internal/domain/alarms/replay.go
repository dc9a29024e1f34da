package alarms

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Replay says which alarms a threshold would have raised in a time.
type Replay struct {
	Threshold int64
	From, To  time.Time
	Scanned   int64     // codes of the batch that were scanned in this time
	Alarms    int64     // that the threshold would have raised in it
	First     []Crossed // the first of them
	// Raised is the number of alarms that were in fact raised in this time because a code looked copied, and Dismissed the number
	// of these that were dismissed. StillDismissed is for how many codes of dismissed alarms the threshold would have raised one
	// too.
	Raised, Dismissed, StillDismissed int64
	// Since: scans from before this moment are gone from the ledger, so the replay gives a code
	// that was scanned then fewer points than it has; zero = none are gone.
	Since time.Time
}

// Counted is a ledger, with the position up to which it is counted.
type Counted struct {
	Log       scanlog.Log
	Position  int64
	Offset    int64     // the zone of days, in hours east of UTC
	Forgotten time.Time // scans from before it may be gone
}

// Crossed is a code whose score reached a threshold.
type Crossed struct {
	Index int64
	At    time.Time // of the scan that did it
	Score int64     // then
}

const (
	// ReplayDays is the number of days that a replay examines.
	ReplayDays = 90
	// maxCrossed is the number of codes that a replay reports.
	maxCrossed = 100
	// replayedAtOnce is the number of codes that are replayed in one pass over the scan log, in about a hundred megabytes at most.
	replayedAtOnce = 50_000
)

// Replay says for which codes of a batch a threshold would have raised alarms in the last days.
// Only codes whose score is so high by now can have reached it; all their scans are read from the
// ledger again. It changes nothing.
func (b *Book) Replay(ctx context.Context, counted Counted, batch, threshold int64) (r Replay, err error) {
	r = Replay{Threshold: threshold, To: b.Now()}
	r.From = r.To.AddDate(0, 0, -ReplayDays)
	dismissed := map[int64]bool{}
	var reached []Row
	err = b.Store.ViewAlarms(ctx, func(tx Tx) (err error) {
		r.Raised, r.Dismissed = 0, 0
		clear(dismissed)
		if reached, r.Scanned, err = tx.CodesScoring(ctx, batch, threshold, r.From); err != nil {
			return err
		}
		q := Query{Batch: batch, Limit: 1000}
		for {
			list, err := tx.Alarms(ctx, q)
			if err != nil {
				return err
			}
			for _, a := range list {
				if q.After = a.ID; a.Kind != Copied || a.At.Before(r.From) {
					continue
				}
				if r.Raised++; !a.DismissedAt.IsZero() {
					r.Dismissed++
					dismissed[a.Index] = true
				}
			}
			if len(list) < q.Limit {
				return nil
			}
		}
	})
	if err != nil {
		return r, fmt.Errorf("which codes of application %d have %d points: %w", batch, threshold, err)
	}
	for rows := range slices.Chunk(reached, replayedAtOnce) {
		if err := b.replay(ctx, &r, counted, rows, dismissed); err != nil {
			return r, err
		}
	}
	slices.SortFunc(r.First, func(a, b Crossed) int { return a.At.Compare(b.At) })
	r.First = r.First[:min(len(r.First), maxCrossed)]
	return r, nil
}

// replay reads the scans of some codes again.
func (b *Book) replay(ctx context.Context, r *Replay, counted Counted, rows []Row, dismissed map[int64]bool) error {
	codes, first := map[CodeName]*Scans{}, r.To
	for _, row := range rows {
		codes[row.CodeName] = &Scans{CodeName: row.CodeName}
		if row.FirstAt.Before(first) {
			first = row.FirstAt
		}
	}
	if first.Before(counted.Forgotten) {
		r.Since = counted.Forgotten
	}
	for e, err := range counted.Log.ListRange(ctx, 0, first, r.To.Add(time.Millisecond)) {
		if err != nil {
			return fmt.Errorf("reading the ledger: %w", err)
		}
		if e.Position > counted.Position {
			break
		}
		scans := codes[CodeName{e.Batch, e.Index}]
		if scans == nil || e.At.After(r.To) {
			continue
		}
		scans.Add(&e.Event, counted.Offset, b.Places)
		score := int64(scans.Score())
		if score < r.Threshold {
			continue
		}
		delete(codes, scans.CodeName)
		if e.At.Before(r.From) {
			continue
		}
		if r.Alarms++; dismissed[e.Index] {
			r.StillDismissed++
		}
		if r.First = append(r.First, Crossed{e.Index, e.At, score}); len(r.First) == 2*maxCrossed {
			slices.SortFunc(r.First, func(a, b Crossed) int { return a.At.Compare(b.At) })
			r.First = r.First[:maxCrossed]
		}
	}
	return nil
}
