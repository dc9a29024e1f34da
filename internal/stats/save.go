package stats

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/ledger"
	"github.com/qrjump/qrjump/internal/stats/calendar"
)

// view answers from a consistent state.
func view[T any](ctx context.Context, c *Counter, f func(Tx) (T, error)) (answer T, err error) {
	err = c.Store.ViewStatistics(ctx, func(tx Tx) (err error) {
		answer, err = f(tx)
		return err
	})
	return answer, err
}

// stored is the state that the store has.
func (c *Counter) stored(ctx context.Context) (State, error) {
	return view(ctx, c, func(tx Tx) (State, error) { return tx.StatisticsState(ctx) })
}

// change lets f change the state while nobody else counts, in one transaction with
// what f does besides, and returns what is stored then.
func (c *Counter) change(ctx context.Context, f func(context.Context, Tx, *State) error) (state State, err error) {
	err = c.Store.UpdateStatistics(ctx, func(ctx context.Context, tx Tx) error {
		if err := tx.LockStatistics(ctx); err != nil {
			return err
		}
		before, err := tx.StatisticsState(ctx)
		if state = before; err != nil {
			return err
		}
		if err = f(ctx, tx, &state); err != nil || state == before {
			return err
		}
		return tx.PutStatisticsState(ctx, state)
	})
	return state, err
}

// save stores what was added up and how far that is, in one transaction.
func (c *Counter) save(ctx context.Context) error {
	p := c.pending
	names, tuples, misses := slices.SortedFunc(maps.Keys(p.byCode), CodeName.Compare), p.unnamed(), p.missRows()
	state, err := c.change(ctx, func(ctx context.Context, tx Tx, s *State) error {
		// A position says nothing without its ledger: one of another may be the same.
		// A node that leaves a stream counts scans of it without a position.
		if s.Offset != c.state.Offset ||
			p.rest == nil && (s.Ledger != c.state.Ledger || s.Position != c.state.Position || s.Scans != c.state.Scans) {
			return errMoved
		}
		origins := p.origins(c.taken)
		if s.Scans += int64(p.events); p.rest == nil {
			s.Position, s.Mark, s.Scan, s.ScanAt = p.to, p.scan.String(), p.scan.String(), p.scanAt
			s.Held, s.Lacking = s.Held+int64(p.size()), max(0, s.Lacking-int64(p.again))
		} else {
			// In the journal they stand behind those whose users are not in the sketches yet.
			s.UsersPosition = max(0, s.UsersPosition-int64(p.events))
			s.Forgotten = c.Now() // no recount finds them in a ledger of all nodes
			now, err := tx.Origins(ctx)
			if err != nil {
				return err
			}
			for _, o := range p.rest {
				if now[o.Node].Has(o.Position) {
					return errMoved
				}
				origins[o.Node] = now[o.Node].With(o)
				now[o.Node] = origins[o.Node]
			}
		}
		if err := tx.PutOrigins(ctx, origins); err != nil {
			return fmt.Errorf("noting which scans of each node are counted: %w", err)
		}
		firsts, err := c.saveCodes(ctx, tx, names)
		if err != nil {
			return fmt.Errorf("counting codes: %w", err)
		}
		counts, sums := p.rows(firsts, s.Offset)
		if err := tx.NameTuples(ctx, tuples); err != nil {
			return fmt.Errorf("naming combinations: %w", err)
		}
		counts, sums = s.placeCounts(counts), s.placeSums(sums)
		if err := tx.AddScanCounts(ctx, counts); err != nil {
			return fmt.Errorf("counting combinations: %w", err)
		}
		if err := tx.AddSums(ctx, sums); err != nil {
			return fmt.Errorf("counting sums: %w", err)
		}
		if err := tx.AddMisses(ctx, s.placeMisses(misses)); err != nil {
			return fmt.Errorf("counting scans that found nothing: %w", err)
		}
		return nil
	})
	if err != nil {
		// The memory is ahead of the store.
		c.loaded = false
		return err
	}
	c.state = state
	c.counted.Add(int64(p.events))
	c.pending = newPending(state.Position)
	if len(c.groups) >= maxKnown {
		c.groups, c.byID = map[groupKey]*group{}, map[int64]*group{}
	}
	return nil
}

// unnamed are the combinations that the store may not know yet, in its order.
func (p *pending) unnamed() (tuples []Tuple) {
	var fresh []*group
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
	return tuples
}

// missRows are the scans that found nothing, in the order of the store.
func (p *pending) missRows() []MissRow {
	rows := make([]MissRow, 0, len(p.misses))
	for key, n := range p.misses {
		rows = append(rows, MissRow{Hour: key.hour, Place: key.place, Scans: n})
	}
	slices.SortFunc(rows, func(a, b MissRow) int { return cmp.Or(cmp.Compare(a.Hour, b.Hour), cmp.Compare(a.Place, b.Place)) })
	return rows
}

// saveCodes adds the scans to their codes and returns how many of them
// were the first of a code.
func (c *Counter) saveCodes(ctx context.Context, tx Tx, names []CodeName) (map[int32]int64, error) {
	p := c.pending
	have, err := tx.Codes(ctx, names)
	if err != nil {
		return nil, err
	}
	thresholds, err := c.thresholds(ctx, tx, names)
	if err != nil {
		return nil, err
	}
	firsts := map[int32]int64{} // by cell
	changed := make([]CodeRow, 0, len(names))
	for _, name := range names {
		one := &CodeScans{CodeName: name}
		if row, ok := have[name]; ok {
			if one, err = ReadCode(row); err != nil {
				return nil, err
			}
		}
		asked, raised := false, false
		for _, i := range p.byCode[name] {
			e := &p.codes[i]
			if one.Scans == 0 {
				firsts[e.cell]++
			}
			c.AddToCode(one, &e.Event, c.state.Offset)
			if threshold := thresholds(name.Batch); !raised && threshold != NoAlarm && one.after(&e.Event) &&
				int64(one.AlarmScore()) >= threshold {
				raised = true // now, or it stands already
				if err := c.alarm(ctx, tx, Copied, one, &e.Event); err != nil {
					return nil, err
				}
			}
			if e.Reason != string(codes.IsVoid) || asked {
				continue
			}
			asked = true
			if spoiled, err := tx.Spoiled(ctx, name); err != nil {
				return nil, err
			} else if !spoiled {
				continue
			}
			if err := c.alarm(ctx, tx, Spoiled, one, &e.Event); err != nil {
				return nil, err
			}
		}
		changed = append(changed, one.row())
	}
	return firsts, tx.PutCodes(ctx, changed)
}

func (c *Counter) AddToCode(one *CodeScans, e *ledger.Event, offset int64) {
	hour := calendar.Hour(e.At)
	at := place{Region: e.Region}
	if c.Places != nil && e.Network.IsValid() {
		at.Lat, at.Lon, at.Known = c.Places.Coordinates(e.Network.Addr())
	}
	one.add(e, calendar.Day(hour, offset), int(((hour+offset)%24+24)%24), at)
}

// alarmed is what the log says of an alarm of a kind.
var alarmed = map[string]string{Copied: "a code looks as if it was copied", Spoiled: "a code that a printer spoiled was scanned"}

func (c *Counter) alarm(ctx context.Context, tx Tx, kind string, one *CodeScans, e *ledger.Event) error {
	a, fresh, err := tx.AddAlarm(ctx, Alarm{Kind: kind, CodeName: one.CodeName, At: e.At, Scan: e.ID.String(),
		Score: int64(one.AlarmScore()), Why: one.judged().why()})
	if err != nil || !fresh {
		return err
	}
	c.Logger.WarnContext(ctx, alarmed[kind], "application_id", a.Batch, "code_index", a.Index, "score", a.Score, "alarm", a.ID)
	if c.OnAlarm == nil {
		return nil
	}
	return c.OnAlarm(ctx, a)
}
