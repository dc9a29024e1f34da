package stats

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
)

// ranking contains the sums of some days by value, largest first.
type ranking struct {
	total Count
	rows  []Answer // nil = more than maxRanked values
}

const (
	maxRankings   = 1_000   // rankings in memory
	maxRankedRows = 400_000 // their values
	maxRanked     = 50_000  // values of a ranking
	maxTop        = 1_000   // values of a ranking that includes today
)

// minRanked is the minimum number of scans of a ranking: the rows of fewer scans are read fast. After a reset of an emulator with several
// nodes, the total of the past days may equal the one before by chance, but not that of so many scans.
const minRanked = 1_000

// read runs a query on the store.
func (q Query) read(ctx context.Context, tx Tx) ([]Answer, error) {
	if dim, exclusive := q.OnlyDimension(); exclusive && dim != Rule {
		return tx.Sums(ctx, q)
	}
	return tx.Tuples(ctx, q)
}

// largest returns the values of a dimension with the most scans. Counts only grow, so the result stays in memory while the total of the
// days is the same.
func (c *Aggregator) largest(ctx context.Context, tx Tx, q Query, offset int64) ([]Answer, error) {
	end := q.Offset + q.Limit
	if end > maxTop {
		return c.computeLargest(ctx, tx, q, offset)
	}
	sum, err := total(ctx, tx, q.Spans...)
	if err != nil {
		return nil, err
	}
	top := q
	top.Offset, top.Limit = 0, maxTop
	r, err := c.ranking(fmt.Sprint("top ", q.Group, q.Spans, offset), sum,
		func() ([]Answer, error) { return c.computeLargest(ctx, tx, top, offset) })
	if err != nil || r.rows == nil {
		return q.read(ctx, tx)
	}
	return slices.Clone(r.rows[min(q.Offset, len(r.rows)):min(end, len(r.rows))]), nil
}

// computeLargest computes the values of a dimension with the most scans. The counts of past days rarely change: their sums stay in memory
// while the total of these days is the same.
func (c *Aggregator) computeLargest(ctx context.Context, tx Tx, q Query, offset int64) ([]Answer, error) {
	today := timebucket.Day(timebucket.Hour(c.Now()), offset)
	past, rest := q, q
	past.Spans, rest.Spans = nil, nil
	past.Offset, rest.Offset, past.Limit, rest.Limit = 0, 0, maxRanked+1, maxRanked+1
	for _, s := range q.Spans {
		switch {
		case s.Granularity == PerHour && s.From == today*24-offset:
			// The day has fewer rows than its hours.
			day := Span{PerDay, today, today + 1}
			ofHours, err := total(ctx, tx, s)
			if ofDay, failed := total(ctx, tx, day); cmp.Or(err, failed) == nil && ofDay == ofHours {
				s = day
			}
			rest.Spans = append(rest.Spans, s)
		case s.Granularity == PerDay && s.From < today:
			past.Spans = append(past.Spans, Span{PerDay, s.From, min(s.To, today)})
			if s.To > today {
				rest.Spans = append(rest.Spans, Span{PerDay, today, s.To})
			}
		case s.Granularity == PerMonth, s.Granularity == PerHour && s.To <= today*24-offset:
			past.Spans = append(past.Spans, s)
		default:
			rest.Spans = append(rest.Spans, s)
		}
	}
	if len(past.Spans) == 0 {
		return q.read(ctx, tx)
	}
	all, err := total(ctx, tx, past.Spans...)
	if err != nil {
		return nil, err
	}
	r, err := c.ranking(fmt.Sprint(q.Group, past.Spans, offset), all, func() ([]Answer, error) { return past.read(ctx, tx) })
	if err != nil || r.rows == nil {
		return q.read(ctx, tx)
	}
	var list []Answer
	if len(rest.Spans) > 0 {
		if list, err = rest.read(ctx, tx); err != nil || len(list) > maxRanked {
			return q.read(ctx, tx)
		}
	}
	list = r.add(list, q.Offset+q.Limit)
	return list[min(q.Offset, len(list)):], nil
}

// add adds the sums of r to a list, and returns the largest values, at most limit.
func (r ranking) add(list []Answer, limit int) []Answer {
	index, added := map[string]int{}, 0
	for i := range list {
		index[list[i].Value] = i
	}
	for _, row := range r.rows {
		if i, known := index[row.Value]; known {
			list[i].Scans += row.Scans
			list[i].FirstScans += row.FirstScans
		} else if added < limit {
			list = append(list, row)
			added++
		}
	}
	slices.SortFunc(list, func(a, b Answer) int { return cmp.Or(cmp.Compare(b.Scans, a.Scans), cmp.Compare(a.Value, b.Value)) })
	return list[:min(limit, len(list))]
}

// total returns the number of all scans in some spans.
func total(ctx context.Context, tx Tx, spans ...Span) (n Count, err error) {
	list, err := Query{Question{Metric: Scans, Limit: 1}, spans}.read(ctx, tx)
	for _, row := range list {
		n = row.Count
	}
	return n, err
}

// ranking returns the sums of some days, which read returns, from memory if the total of these days has not changed.
func (c *Aggregator) ranking(key string, total Count, read func() ([]Answer, error)) (r ranking, err error) {
	if total.Scans < cmp.Or(c.MinRanked, minRanked) {
		return r, nil
	}
	c.rankings.Lock()
	r, known := c.rankings.known[key]
	c.rankings.Unlock()
	if known && r.total == total {
		return r, nil
	}
	r = ranking{total: total}
	if r.rows, err = read(); err != nil {
		return r, err
	}
	if len(r.rows) > maxRanked {
		r.rows = nil
	}
	c.rankings.Lock()
	defer c.rankings.Unlock()
	if len(c.rankings.known) >= maxRankings || c.rankings.rows+len(r.rows) > maxRankedRows || c.rankings.known == nil {
		c.rankings.known, c.rankings.rows = map[string]ranking{}, 0
	}
	c.rankings.rows += len(r.rows) - len(c.rankings.known[key].rows)
	c.rankings.known[key] = r
	return r, nil
}
