package alarms

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Replay reports the alarms that a threshold would have raised in a past period.
type Replay struct {
	Threshold int64
	From, To  time.Time
	Scanned   int64     // number of codes of the batch that were scanned in the period
	Alarms    int64     // number of alarms that the threshold would have raised in the period
	First     []Crossed // the first alarms that the threshold would have raised in the period
	// Raised is the number of alarms of kind Copied that were raised in the period, and Dismissed is the number of them that were
	// dismissed. StillDismissed is the number of codes that have a dismissed alarm and would also raise an alarm with the threshold.
	Raised, Dismissed, StillDismissed int64
	// Scans before Since were deleted from the scan log, so the computed score of a code that was scanned before Since is too low; zero =
	// no scans were deleted.
	Since time.Time
}

// Counted is a scan log with the position up to which its scans are counted.
type Counted struct {
	Log       scanlog.Log
	Position  int64
	Offset    int64     // time zone that defines days, in hours east of UTC
	Forgotten time.Time // time before which scans may have been deleted
}

// Crossed is a code whose score reached a threshold.
type Crossed struct {
	Index int64
	At    time.Time // time of the scan that reached the threshold
	Score int64     // score of the code, including this scan
}

const (
	// ReplayDays is the number of days that a replay covers.
	ReplayDays = 90
	// maxCrossed is the maximum number of codes that a replay lists.
	maxCrossed = 100
	// replayChunk is the number of codes that are replayed in one pass over the scan log; a pass needs at most about 100 MB of memory.
	replayChunk = 50_000
)

// Replay reports the codes of a batch for which a threshold would have raised alarms in the last ReplayDays days. Replay reads all scans of
// codes whose current score reaches the threshold from the scan log again; other codes cannot have raised an alarm. Replay changes nothing.
func (s *Service) Replay(ctx context.Context, counted Counted, batch, threshold int64) (r Replay, err error) {
	r = Replay{Threshold: threshold, To: s.Now()}
	r.From = r.To.AddDate(0, 0, -ReplayDays)
	dismissed := map[int64]bool{}
	var reached []Row
	err = s.Store.ViewAlarms(ctx, func(tx Tx) (err error) {
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
				q.After = a.ID
				if a.Kind != Copied || a.CreatedAt.Before(r.From) {
					continue
				}
				r.Raised++
				if !a.DismissedAt.IsZero() {
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
		return r, fmt.Errorf("listing codes of application %d with a score of at least %d: %w", batch, threshold, err)
	}
	for rows := range slices.Chunk(reached, replayChunk) {
		if err := s.replay(ctx, &r, counted, rows, dismissed); err != nil {
			return r, err
		}
	}
	slices.SortFunc(r.First, func(a, b Crossed) int { return a.At.Compare(b.At) })
	r.First = r.First[:min(len(r.First), maxCrossed)]
	return r, nil
}

// replay recomputes the statistics of the codes in rows from the scan log, and adds the alarms that the threshold would have raised to r.
func (s *Service) replay(ctx context.Context, r *Replay, counted Counted, rows []Row, dismissed map[int64]bool) error {
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
			return fmt.Errorf("reading the scan log: %w", err)
		}
		if e.Position > counted.Position {
			break
		}
		scans := codes[CodeName{e.Batch, e.Index}]
		if scans == nil || e.OccurredAt.After(r.To) {
			continue
		}
		scans.Add(&e.Event, counted.Offset, s.Places)
		score := int64(scans.Score())
		if score < r.Threshold {
			continue
		}
		delete(codes, scans.CodeName)
		if e.OccurredAt.Before(r.From) {
			continue
		}
		r.Alarms++
		if dismissed[e.Index] {
			r.StillDismissed++
		}
		r.First = append(r.First, Crossed{e.Index, e.OccurredAt, score})
		if len(r.First) == 2*maxCrossed {
			slices.SortFunc(r.First, func(a, b Crossed) int { return a.At.Compare(b.At) })
			r.First = r.First[:maxCrossed]
		}
	}
	return nil
}
