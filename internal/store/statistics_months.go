package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
)

// daysTurned is the number of days that one statement recounts: a statement for all days would need too much memory.
const daysTurned = 31

func (t statisticsQueries) TurnDays(ctx context.Context, hour, previous, offset, month int64) error {
	first := timebucket.Day(hour, previous) // some hours of this first day may have been deleted
	run := func(query string, args ...any) error {
		err := t.patiently(func() error {
			_, err := t.exec(ctx, query, args...)
			return err
		})
		if err != nil {
			err = fmt.Errorf("counting the days again: %w", err)
		}
		return err
	}
	// The function cut adds hours to the days of a time zone, or subtracts them.
	cut := func(sign string, offset, from, to int64) error {
		// SQL division truncates towards zero, so an offset first makes hours before 1970 positive.
		const day = `(at + $1 + 24000000000) / 24 - 1000000000`
		sums := sign + `SUM(scans), ` + sign + `SUM(firsts)`
		add := ` DO UPDATE SET scans = o.scans + excluded.scans, firsts = o.firsts + excluded.firsts`
		for _, per := range []int64{0, 2, 7} {
			if err := run(`INSERT INTO statistics_counts AS o (per, at, rule, tuple, scans, firsts)
				SELECT per + 1, `+day+`, rule, tuple, `+sums+` FROM statistics_counts WHERE at >= $2 AND at < $3 AND per = $4
				GROUP BY per, `+day+`, rule, tuple ON CONFLICT (per, at, rule, tuple)`+add, offset, from, to, per); err != nil {
				return err
			}
		}
		for _, dim := range stats.AllDims() {
			if err := run(`INSERT INTO statistics_sums AS o (per, dim, at, value, scans, firsts)
				SELECT 1, dim, `+day+`, value, `+sums+` FROM statistics_sums WHERE at >= $2 AND at < $3 AND per = 0 AND dim = $4
				GROUP BY dim, `+day+`, value ON CONFLICT (per, dim, at, value)`+add, offset, from, to, int64(dim)); err != nil {
				return err
			}
		}
		return nil
	}
	for query, from := range map[string]int64{`DELETE FROM statistics_counts WHERE per IN (1, 3, 8) AND at > $1`: first,
		`DELETE FROM statistics_sums WHERE per = 1 AND at > $1`: first, `DELETE FROM statistics_counts WHERE per IN (4, 6, 11) AND at >= $1`: month,
		`DELETE FROM statistics_sums WHERE per = 4 AND at >= $1`: month} {
		if err := run(query, from); err != nil {
			return err
		}
	}
	if err := cut(`-`, previous, hour, (first+1)*24-previous); err != nil {
		return err
	}
	begin, end := int64(math.MaxInt64), int64(math.MinInt64)
	for _, per := range []int64{0, 2} {
		var from, to sql.NullInt64
		if err := t.row(ctx, `SELECT (SELECT MIN(at) FROM statistics_counts WHERE per = $1 AND at >= $2),
			(SELECT MAX(at) FROM statistics_counts WHERE per = $1 AND at >= $2)`, per, hour).Scan(&from, &to); err != nil {
			return fmt.Errorf("looking for hours: %w", err)
		}
		if from.Valid {
			begin, end = min(begin, from.Int64), max(end, to.Int64)
		}
	}
	for from := max(hour, begin); from <= end; from += daysTurned * 24 {
		if err := cut(``, offset, from, from+daysTurned*24); err != nil {
			return err
		}
	}
	for _, query := range []string{`DELETE FROM statistics_counts WHERE per IN (1, 3, 8) AND at = $1 AND scans = 0`,
		`DELETE FROM statistics_sums WHERE per = 1 AND at = $1 AND scans = 0`} {
		if err := run(query, first); err != nil {
			return err
		}
	}
	return nil
}

func (t statisticsQueries) FirstCounted(ctx context.Context, per stats.Granularity, from int64) (pos int64, found bool, err error) {
	var first sql.NullInt64
	err = t.row(ctx, `SELECT MIN(at) FROM statistics_counts WHERE per = $1 AND at >= $2`, int64(per), from).Scan(&first)
	return first.Int64, first.Valid, err
}

// dayByDay returns a query that reads the first rows of each day of a span, in key order.
func dayByDay(span stats.Span, day func(location string) string, order string, limit int) string {
	var parts []string
	for pos := span.From; pos < span.To; pos++ {
		parts = append(parts, `SELECT * FROM (`+day(strconv.FormatInt(pos, 10))+` ORDER BY `+order+` LIMIT `+strconv.Itoa(limit)+
			`) AS day`+strconv.Itoa(len(parts)))
	}
	return strings.Join(parts, ` UNION ALL `)
}

func (t statisticsQueries) CountsFrom(ctx context.Context, span stats.Span, rule, tuple int64, limit int) ([]stats.CountRow, error) {
	return list(ctx, t.Tx, func(scan func(...any) error) (r stats.CountRow, err error) {
		err = scan(&r.Per, &r.At, &r.Rule, &r.Tuple, &r.Scans, &r.Firsts)
		return r, err
	}, dayByDay(span, func(location string) string {
		return `SELECT per, at, rule, tuple, scans, firsts FROM statistics_counts WHERE per = $1 AND at = ` + location +
			` AND (rule, tuple) >= ($2, $3)`
	}, `rule, tuple`, limit), int64(span.Per), rule, tuple)
}

func (t statisticsQueries) SumsFrom(ctx context.Context, span stats.Span, dim stats.Dimension, value string,
	limit int) ([]stats.SumRow, error) {
	return list(ctx, t.Tx, func(scan func(...any) error) (r stats.SumRow, err error) {
		err = scan(&r.Per, &r.Dim, &r.At, &r.Value, &r.Scans, &r.Firsts)
		return r, err
	}, dayByDay(span, func(location string) string {
		return `SELECT per, dim, at, value, scans, firsts FROM statistics_sums WHERE per = $1 AND dim = $2 AND at = ` + location +
			` AND value >= $3`
	}, `value`, limit), int64(span.Per), int64(dim), value)
}

func (t statisticsQueries) UsersFrom(ctx context.Context, span stats.Span, dim stats.Dimension, value string,
	limit int) ([]stats.UsersKey, error) {
	return list(ctx, t.Tx, func(scan func(...any) error) (k stats.UsersKey, err error) {
		err = scan(&k.Day, &k.Dim, &k.Value)
		return k, err
	}, dayByDay(span, func(location string) string {
		return `SELECT day, dim, value FROM statistics_users WHERE dim = $1 AND day = ` + location + ` AND value >= $2`
	}, `value`, limit), int64(dim), value)
}

func (t statisticsQueries) PutScanCounts(ctx context.Context, list []stats.CountRow) error {
	return t.putCounts(ctx, ` scans = excluded.scans, firsts = excluded.firsts`, list)
}

func (t statisticsQueries) PutSums(ctx context.Context, list []stats.SumRow) error {
	return t.putSums(ctx, ` scans = excluded.scans, firsts = excluded.firsts`, list)
}

// remove deletes the rows of a table that meet a condition, in key order, at most *left rows.
func (t statisticsQueries) remove(ctx context.Context, table, key, location string, left *int, args ...any) error {
	if *left <= 0 {
		return nil
	}
	n, err := t.exec(ctx, `DELETE FROM `+table+` WHERE (`+key+`) IN (SELECT `+key+` FROM `+table+` WHERE `+location+` ORDER BY `+key+
		` LIMIT `+strconv.Itoa(*left)+`)`, args...)
	*left -= int(n)
	return err
}

func (t statisticsQueries) RemoveCounted(ctx context.Context, per stats.Granularity, prev int64, limit int) (n int, err error) {
	left := limit
	for _, granularity := range [...]stats.Granularity{per, per + stats.PerHourOfAll, per + stats.PerHourOfOwner} {
		if err := t.remove(ctx, `statistics_counts`, `per, at, rule, tuple`, `per = $1 AND at < $2`, &left,
			int64(granularity), prev); err != nil {
			return limit - left, err
		}
	}
	for _, dim := range stats.AllDims() {
		if err := t.remove(ctx, `statistics_sums`, `per, dim, at, value`, `per = $1 AND dim = $2 AND at < $3`, &left, int64(per),
			int64(dim), prev); err != nil {
			return limit - left, err
		}
		if per != stats.PerDay {
			continue
		}
		if err := t.remove(ctx, `statistics_users_since`, `dim, day, value, part`, `dim = $1 AND day < $2`, &left, int64(dim),
			prev); err != nil {
			return limit - left, err
		}
		if err := t.remove(ctx, `statistics_users`, `dim, day, value`, `dim = $1 AND day < $2`, &left, int64(dim), prev); err != nil {
			return limit - left, err
		}
	}
	return limit - left, nil
}

func (t statisticsQueries) RemoveMisses(ctx context.Context, prev int64, limit int) (n int, err error) {
	left := limit
	err = t.remove(ctx, `statistics_misses`, `hour, place`, `hour < $1`, &left, prev)
	return limit - left, err
}
