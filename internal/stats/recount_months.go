package stats

import (
	"context"
	"fmt"
	"slices"
)

// compareMonths compares months that are rolled up with their days, where all of these
// are kept, a part at a time: the days were compared with the ledger.
func (n *recounting) compareMonths(ctx context.Context) error {
	month := int64(0)
	err := n.c.Store.ViewStatistics(ctx, func(tx Tx) error {
		state, err := tx.StatisticsState(ctx)
		if err != nil {
			return err
		}
		first, _, err := tx.FirstCounted(ctx, PerDayOfAll, state.DaysFrom)
		month = MonthOf(first)
		return err
	})
	for last := false; err == nil && !last; month++ {
		for at := (rollKey{}); err == nil && at.Table != rollEnd; {
			before, next := *n.r, at
			err = n.c.Store.ViewStatistics(ctx, func(tx Tx) error {
				*n.r = before
				state, err := tx.StatisticsState(ctx)
				if err != nil {
					return err
				}
				if last = month >= state.Months; last || firstDay(month) < state.DaysFrom {
					next.Table = rollEnd
					return nil
				}
				next, err = n.compareMonth(ctx, tx, month, at)
				return err
			})
			at = next
		}
	}
	return err
}

// compareMonth compares a part of a month from a key on, and returns the next.
func (n *recounting) compareMonth(ctx context.Context, tx Tx, month int64, at rollKey) (next rollKey, err error) {
	what := func(what string, of any) func() string {
		return func() string {
			return fmt.Sprintf("%s of %s, %v, as the sum of its days", what, PerMonth.Start(month, 0).Format("2006-01"), of)
		}
	}
	compare := func(of string, key any, counted, added Count) {
		n.r.compare(counted.Scans, added.Scans, what("scans "+of, key))
		n.r.compare(counted.Firsts, added.Firsts, what("first scans "+of, key))
	}
	switch at.Table {
	case rollCounts, rollCountsOfAll:
		type key struct{ Rule, Tuple int64 }
		rows, next, err := n.c.countsOfDays(ctx, tx, month, at)
		if err != nil {
			return next, err
		}
		days := map[key]Count{}
		for _, row := range rows {
			days[key{row.Rule, row.Tuple}] = row.Count
		}
		rows, err = tx.CountsFrom(ctx, Span{at.per().month(), month, month + 1}, at.Rule, at.Tuple, aMonth*n.c.part(rolledRows))
		for _, row := range rows {
			k := key{row.Rule, row.Tuple}
			if next.Table == at.Table && (k.Rule > next.Rule || k.Rule == next.Rule && k.Tuple >= next.Tuple) {
				continue
			}
			compare("of a rule and a combination", k, row.Count, days[k])
			delete(days, k)
		}
		for k, count := range days {
			compare("of a rule and a combination", k, Count{}, count)
		}
		return next, err
	case rollSums:
		rows, next, err := n.c.sumsOfDays(ctx, tx, month, at)
		if err != nil {
			return next, err
		}
		days := map[string]Count{}
		for _, row := range rows {
			days[row.Value] = row.Count
		}
		rows, err = tx.SumsFrom(ctx, Span{PerMonth, month, month + 1}, at.Dim, at.Value, aMonth*n.c.part(rolledRows))
		for _, row := range rows {
			if next.Dim == at.Dim && next.Table == at.Table && row.Value >= next.Value {
				continue
			}
			compare("of "+at.Dim.String(), row.Value, row.Count, days[row.Value])
			delete(days, row.Value)
		}
		for value, count := range days {
			compare("of "+at.Dim.String(), value, Count{}, count)
		}
		return next, err
	default:
		return n.compareUsersOfMonth(ctx, tx, month, at, what)
	}
}

// compareUsersOfMonth is compareMonth for users.
func (n *recounting) compareUsersOfMonth(ctx context.Context, tx Tx, month int64, at rollKey,
	what func(string, any) func() string) (rollKey, error) {
	rows, next, err := n.c.usersOfDays(ctx, tx, month, at)
	if err != nil {
		return next, err
	}
	days := map[UsersKey]UsersRow{}
	for _, row := range rows {
		days[row.UsersKey] = row
	}
	keys, err := tx.UsersFrom(ctx, Span{PerDay, MonthSketches + month, MonthSketches + month + 1}, at.Dim, at.Value,
		aMonth*n.c.part(rolledSketches))
	if err != nil {
		return next, err
	}
	if next.Dim == at.Dim && next.Table == at.Table {
		keys = slices.DeleteFunc(keys, func(k UsersKey) bool { return k.Value >= next.Value })
	}
	have, err := tx.UsersRows(ctx, keys)
	if err != nil {
		return next, err
	}
	for key, row := range have {
		users, err := row.whole()
		if err != nil {
			return next, err
		}
		counted, added := users.Count(), days[key].Users
		if row.Erased > 0 && max(counted, added) > sketchExact {
			added = counted // one may know of a user by registers of whom the other has but a number
		}
		n.r.compare(counted, added, what("users of "+at.Dim.String(), key.Value))
		delete(days, key)
	}
	for key, row := range days {
		n.r.compare(0, row.Users, what("users of "+at.Dim.String(), key.Value))
	}
	return next, nil
}
