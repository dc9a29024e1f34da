package verify

import (
	"context"
	"fmt"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
)

// compareMonths compares months that are rolled up with their days, where all of these
// are kept, a part at a time: the days were compared with the ledger.
func (n *recounting) compareMonths(ctx context.Context) error {
	month := int64(0)
	err := n.c.Store.ViewStatistics(ctx, func(tx stats.Tx) error {
		state, err := tx.StatisticsState(ctx)
		if err != nil {
			return err
		}
		first, _, err := tx.FirstCounted(ctx, stats.PerDayOfAll, state.DaysFrom)
		month = timebucket.Month(first)
		return err
	})
	for more := true; err == nil && more; month++ {
		more, err = n.compareMonth(ctx, month)
	}
	return err
}

// compareMonth compares a month; more says whether the next one may be rolled up as well.
func (n *recounting) compareMonth(ctx context.Context, month int64) (more bool, err error) {
	for at := (stats.RollKey{}); err == nil && !at.Ended(); {
		before, next, kept := *n.r, at, false
		err = n.c.Store.ViewStatistics(ctx, func(tx stats.Tx) error {
			*n.r = before
			state, err := tx.StatisticsState(ctx)
			if err != nil {
				return err
			}
			more = month < state.Months
			if kept = more && timebucket.FirstDay(month) >= state.DaysFrom; kept {
				next, err = n.comparePart(ctx, tx, month, at)
			}
			return err
		})
		if !kept {
			break
		}
		at = next
	}
	return more, err
}

// comparePart compares a part of a month from a key on, and returns the next.
func (n *recounting) comparePart(ctx context.Context, tx stats.Tx, month int64, at stats.RollKey) (next stats.RollKey, err error) {
	days, next, err := n.c.OfDays(ctx, tx, month, at)
	if err != nil {
		return next, err
	}
	counted, err := n.c.OfMonth(ctx, tx, month, at, next)
	if err != nil {
		return next, err
	}
	what := func(what string, of any) func() string {
		return func() string {
			return fmt.Sprintf("%s of %s, %v, as the sum of its days", what, stats.PerMonth.Start(month, 0).Format("2006-01"), of)
		}
	}
	type key struct {
		of    string
		value any
	}
	sums := map[key]stats.Count{}
	compare := func(k key, counted stats.Count) {
		n.r.compare(counted.Scans, sums[k].Scans, what("scans "+k.of, k.value))
		n.r.compare(counted.Firsts, sums[k].Firsts, what("first scans "+k.of, k.value))
		delete(sums, k)
	}
	combination := func(r stats.CountRow) key { return key{"of a rule and a combination", [2]int64{r.Rule, r.Tuple}} }
	value := func(r stats.SumRow) key { return key{"of " + r.Dim.String(), r.Value} }
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
	return next, n.compareUsersOfMonth(days.Users, counted.Users, what)
}

// compareUsersOfMonth is comparePart for users.
func (n *recounting) compareUsersOfMonth(days, month []stats.UsersRow, what func(string, any) func() string) error {
	added := map[stats.UsersKey]int64{}
	for _, row := range days {
		added[row.UsersKey] = row.Users
	}
	for _, row := range month {
		users, err := row.Whole()
		if err != nil {
			return err
		}
		counted, sum := users.Count(), added[row.UsersKey]
		if row.Erased > 0 && max(counted, sum) > hyperloglog.Exact {
			sum = counted // one may know a user by registers of whom the other has but a number
		}
		n.r.compare(counted, sum, what("users of "+row.Dim.String(), row.Value))
		delete(added, row.UsersKey)
	}
	for key, users := range added {
		n.r.compare(0, users, what("users of "+key.Dim.String(), key.Value))
	}
	return nil
}
