package stats

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// view runs a read-only function on a consistent snapshot and returns its result.
func view[T any](ctx context.Context, c *Aggregator, f func(Tx) (T, error)) (T, error) {
	return accounts.Transact(ctx, c.Store.ViewStatistics, f)
}

// stored returns the state from the store.
func (c *Aggregator) stored(ctx context.Context) (State, error) {
	return view(ctx, c, func(tx Tx) (State, error) { return tx.StatisticsState(ctx) })
}

// change calls f in a transaction that locks the counts, stores the state as modified by f, and returns it.
func (c *Aggregator) change(ctx context.Context, f func(Tx, *State) error) (state State, err error) {
	err = c.Store.UpdateStatistics(ctx, func(tx Tx) error {
		if err := tx.LockStatistics(ctx); err != nil {
			return err
		}
		oldState, err := tx.StatisticsState(ctx)
		state = oldState
		if err != nil {
			return err
		}
		if err = f(tx, &state); err != nil || state == oldState {
			return err
		}
		return tx.PutStatisticsState(ctx, state)
	})
	return state, err
}

// save stores the pending counts and the log position in one transaction.
func (c *Aggregator) save(ctx context.Context) error {
	p := c.pending
	names, tuples := slices.SortedFunc(maps.Keys(p.byCode), alarms.CodeName.Compare), p.unnamed()
	state, err := c.change(ctx, func(tx Tx, s *State) error {
		// A position is only meaningful together with its scan log, because another scan log may have the same position. The scans of
		// p.uncounted come from a journal, for which the state has no position.
		if s.Offset != c.state.Offset ||
			p.uncounted == nil && (s.LogID != c.state.LogID || s.CountedOffset != c.state.CountedOffset || s.Scans != c.state.Scans) {
			return errMoved
		}
		origins := p.origins(c.countedSets)
		s.Scans += int64(p.events)
		if p.uncounted == nil {
			s.CountedOffset, s.Checkpoint, s.LastScanID, s.LastScanAt = p.to, p.scan.String(), p.scan.String(), p.scanAt
			s.KeptCount, s.MissingCount = s.KeptCount+int64(p.size()), max(0, s.MissingCount-int64(p.recounted))
		} else {
			// switchLog keeps the distance from SketchOffset to CountedOffset, which in the journal must also cover the pending events.
			s.SketchOffset = max(0, s.SketchOffset-int64(p.events))
			s.RetentionFloor = c.Now() // the pending events are not in the shared scan log, so a recount cannot find them
			currentSets, err := tx.Origins(ctx)
			if err != nil {
				return err
			}
			for _, o := range p.uncounted {
				if currentSets[o.Node].Has(o.Position) {
					return errMoved
				}
				origins[o.Node] = currentSets[o.Node].Extended(o)
				currentSets[o.Node] = origins[o.Node]
			}
		}
		if err := tx.PutOrigins(ctx, origins); err != nil {
			return fmt.Errorf("recording the counted offsets of each node: %w", err)
		}
		firsts, err := c.saveCodes(ctx, tx, names)
		if err != nil {
			return fmt.Errorf("storing counts of codes: %w", err)
		}
		if err := c.Alarms.RaiseFrom(ctx, tx, &c.window); err != nil {
			return fmt.Errorf("raising the alarms of the last hour: %w", err)
		}
		counts, sums := p.rows(firsts, s.Offset)
		if err := tx.NameOwners(ctx, slices.Sorted(maps.Values(p.owners))); err != nil {
			return fmt.Errorf("storing names of owners: %w", err)
		}
		if err := tx.NameTuples(ctx, tuples); err != nil {
			return fmt.Errorf("storing combinations of dimensions: %w", err)
		}
		counts, sums = placeRows(s, counts), placeRows(s, sums)
		if err := tx.AddScanCounts(ctx, counts); err != nil {
			return fmt.Errorf("storing counts of combinations: %w", err)
		}
		if err := tx.AddSums(ctx, sums); err != nil {
			return fmt.Errorf("storing sums: %w", err)
		}
		if err := tx.AddMisses(ctx, p.missRows(s)); err != nil {
			return fmt.Errorf("storing counts of unmatched scans: %w", err)
		}
		return nil
	})
	if err != nil {
		// The memory may differ from the store, so the state must be loaded again.
		c.loaded = false
		return err
	}
	c.window.Saved()
	c.state = state
	c.counted.Add(int64(p.events))
	c.pending = newPending(state.CountedOffset)
	if len(c.groups) >= maxKnown {
		c.groups, c.byID = map[groupKey]*group{}, map[int64]*group{}
	}
	return nil
}

// unnamed returns the combinations of dimension values that the store may not have yet, in the store's order.
func (p *pending) unnamed() (tuples []Tuple) {
	var fresh []*group
	for i := range p.counts {
		if g := p.counts[i].group; !g.named {
			g.named = true // setting named before the commit is safe, because the state is loaded again if the transaction fails
			fresh = append(fresh, g)
		}
	}
	slices.SortFunc(fresh, func(a, b *group) int { return cmp.Compare(a.id, b.id) })
	for _, g := range fresh {
		tuples = append(tuples, g.Tuple)
	}
	return tuples
}

// missRows returns the counts of scans without a result from hours that are retained, and their sums by UTC day, in the store's order.
func (p *pending) missRows(s *State) (rows []UnmatchedRow) {
	sums := map[UnmatchedRow]int64{}
	for key, n := range p.unmatched {
		if from := s.missesKept(); from == 0 || key.hour >= from {
			sums[UnmatchedRow{Granularity: PerHour, Bucket: key.hour, Location: key.place}] = n
			sums[UnmatchedRow{Granularity: PerDay, Bucket: timebucket.Day(key.hour, 0), Location: key.place}] += n
		}
	}
	for row, n := range sums {
		row.Scans = n
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b UnmatchedRow) int {
		return cmp.Or(cmp.Compare(a.Granularity, b.Granularity), cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Location, b.Location))
	})
	return rows
}

// saveCodes adds the scans to the counters of their codes, and returns for each cell the number of first scans of a code.
func (c *Aggregator) saveCodes(ctx context.Context, tx Tx, names []alarms.CodeName) (map[int32]int64, error) {
	p := c.pending
	scans := func(name alarms.CodeName) iter.Seq[*scanlog.Event] {
		return func(yield func(*scanlog.Event) bool) {
			for _, i := range p.byCode[name] {
				if !yield(&p.codes[i].Event) {
					return
				}
			}
		}
	}
	codeNames, err := c.Alarms.Count(ctx, tx, names, scans, c.state.Offset)
	firsts := map[int32]int64{}
	for _, name := range codeNames {
		firsts[p.codes[p.byCode[name][0]].cell]++
	}
	return firsts, err
}
