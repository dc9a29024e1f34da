package verify

import (
	"context"
	"fmt"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
)

// compareMonths compares each rolled-up month with the sum of its days, one part at a time, if all of its days are retained. The days
// themselves have already been compared with the scan log.
func (n *recounting) compareMonths(ctx context.Context) error {
	month := int64(0)
	err := n.c.Store.ViewStatistics(ctx, func(tx stats.Tx) error {
		state, err := tx.StatisticsState(ctx)
		if err != nil {
			return err
		}
		first, _, err := tx.FirstCounted(ctx, stats.PerDayOfAll, state.OldestDay)
		month = timebucket.Month(first)
		return err
	})
	for hasMore := true; err == nil && hasMore; month++ {
		hasMore, err = n.compareMonth(ctx, month)
	}
	return err
}

// compareMonth compares one month; hasMore reports whether the next month may be rolled up as well.
func (n *recounting) compareMonth(ctx context.Context, month int64) (hasMore bool, err error) {
	for key := (stats.RollKey{}); err == nil && !key.IsEnd(); {
		oldResult, next, kept := *n.r, key, false
		err = n.c.Store.ViewStatistics(ctx, func(tx stats.Tx) error {
			*n.r = oldResult
			state, err := tx.StatisticsState(ctx)
			if err != nil {
				return err
			}
			hasMore = month < state.RollupMonth
			if kept = hasMore && timebucket.FirstDay(month) >= state.OldestDay; kept {
				next, err = n.comparePart(ctx, tx, month, key)
			}
			return err
		})
		if !kept {
			break
		}
		key = next
	}
	return hasMore, err
}

// comparePart compares a part of a month, starting at a key, and returns the next key.
func (n *recounting) comparePart(ctx context.Context, tx stats.Tx, month int64, rollKey stats.RollKey) (next stats.RollKey, err error) {
	days, next, err := n.c.OfDays(ctx, tx, month, rollKey)
	if err != nil {
		return next, err
	}
	counted, err := n.c.OfMonth(ctx, tx, month, rollKey, next)
	if err != nil {
		return next, err
	}
	describe := func(kind string, v any) func() string {
		return func() string {
			return fmt.Sprintf("%s of %s, %v, as the sum of its days", kind, stats.PerMonth.Start(month, 0).Format("2006-01"), v)
		}
	}
	type key struct {
		key   string
		value any
	}
	sums := map[key]stats.Count{}
	compare := func(k key, counted stats.Count) {
		n.r.compare(counted.Scans, sums[k].Scans, describe("scans "+k.key, k.value))
		n.r.compare(counted.FirstScans, sums[k].FirstScans, describe("first scans "+k.key, k.value))
		delete(sums, k)
	}
	combination := func(r stats.CountRow) key { return key{"of a rule and a combination", [2]int64{r.Rule, r.Tuple}} }
	value := func(r stats.SumRow) key { return key{"of " + r.Dimension.String(), r.Value} }
	for _, r := range days.Counts {
		sums[combination(r)] = r.Count
	}
	for _, r := range days.Sums {
		sums[value(r)] = r.Count
	}
	for _, r := range counted.Counts {
		compare(combination(r), r.Count)
	}
	for _, r := range counted.Sums {
		compare(value(r), r.Count)
	}
	for k := range sums {
		compare(k, stats.Count{})
	}
	return next, n.compareUsersOfMonth(days.Users, counted.Users, describe)
}

// compareUsersOfMonth compares the users of a part of a month.
func (n *recounting) compareUsersOfMonth(days, month []stats.UsersRow, describe func(string, any) func() string) error {
	added := map[stats.UsersKey]int64{}
	for _, row := range days {
		added[row.UsersKey] = row.Users
	}
	for _, row := range month {
		users, err := row.Merged()
		if err != nil {
			return err
		}
		counted, sum := users.Count(), added[row.UsersKey]
		if row.Erased > 0 && max(counted, sum) > hyperloglog.Exact {
			sum = counted // registers of one sketch may still contain an erased user, whose number was replaced in the other sketch
		}
		n.r.compare(counted, sum, describe("users of "+row.Dimension.String(), row.Value))
		delete(added, row.UsersKey)
	}
	for key, users := range added {
		n.r.compare(0, users, describe("users of "+key.Dimension.String(), key.Value))
	}
	return nil
}
