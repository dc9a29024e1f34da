package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
)

// maxShiftedDays is the maximum number of days that one statement recounts, because one statement for all days would need too much memory.
const maxShiftedDays = 31

func (t statisticsQueries) ShiftDays(ctx context.Context, hour, previous, offset, month int64) error {
	first := timebucket.Day(hour, previous) // hourly counts of this day may be missing, so its daily counts are corrected, not recounted
	run := func(query string, args ...any) error {
		err := t.patiently(func() error { return t.run(ctx, query, args...) })
		if err != nil {
			err = fmt.Errorf("recomputing daily statistics: %w", err)
		}
		return err
	}
	// The function cut adds the counts of the hours in [from, to) to the counts of their days, or subtracts them if sign is "-".
	cut := func(sign string, offset, from, to int64) error {
		// SQL division truncates towards zero, so 24000000000 is added before the division, to make hours before 1970 positive.
		const day = `(bucket + $1 + 24000000000) / 24 - 1000000000`
		sums := sign + `SUM(scans), ` + sign + `SUM(first_scans)`
		add := ` DO UPDATE SET scans = o.scans + excluded.scans, first_scans = o.first_scans + excluded.first_scans`
		for _, per := range []int64{0, 2, 7} {
			if err := run(`INSERT INTO statistics_counts AS o (granularity, bucket, rule, tuple, scans, first_scans)
				SELECT granularity + 1, `+day+`, rule, tuple, `+sums+` FROM statistics_counts WHERE bucket >= $2 AND bucket < $3 AND granularity = $4
				GROUP BY granularity, `+day+`, rule, tuple ON CONFLICT (granularity, bucket, rule, tuple)`+add, offset, from, to, per); err != nil {
				return err
			}
		}
		return forEach(slices.Values(stats.AllDims()), func(dim stats.Dimension) error {
			return run(`INSERT INTO statistics_sums AS o (granularity, dimension, bucket, value, scans, first_scans)
				SELECT 1, dimension, `+day+`, value, `+sums+` FROM statistics_sums WHERE bucket >= $2 AND bucket < $3 AND granularity = 0 AND dimension = $4
				GROUP BY dimension, `+day+`, value ON CONFLICT (granularity, dimension, bucket, value)`+add, offset, from, to, int64(dim))
		})
	}
	for query, from := range map[string]int64{`DELETE FROM statistics_counts WHERE granularity IN (1, 3, 8) AND bucket > $1`: first,
		`DELETE FROM statistics_sums WHERE granularity = 1 AND bucket > $1`: first, `DELETE FROM statistics_counts WHERE granularity IN (4, 6, 11) AND bucket >= $1`: month,
		`DELETE FROM statistics_sums WHERE granularity = 4 AND bucket >= $1`: month} {
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
		if err := t.row(ctx, `SELECT (SELECT MIN(bucket) FROM statistics_counts WHERE granularity = $1 AND bucket >= $2),
			(SELECT MAX(bucket) FROM statistics_counts WHERE granularity = $1 AND bucket >= $2)`, per, hour).Scan(&from, &to); err != nil {
			return fmt.Errorf("finding hourly statistics: %w", err)
		}
		if from.Valid {
			begin, end = min(begin, from.Int64), max(end, to.Int64)
		}
	}
	for from := max(hour, begin); from <= end; from += maxShiftedDays * 24 {
		if err := cut(``, offset, from, from+maxShiftedDays*24); err != nil {
			return err
		}
	}
	for _, query := range []string{`DELETE FROM statistics_counts WHERE granularity IN (1, 3, 8) AND bucket = $1 AND scans = 0`,
		`DELETE FROM statistics_sums WHERE granularity = 1 AND bucket = $1 AND scans = 0`} {
		if err := run(query, first); err != nil {
			return err
		}
	}
	return nil
}

func (t statisticsQueries) FirstCounted(ctx context.Context, per stats.Granularity, from int64) (pos int64, found bool, err error) {
	var first sql.NullInt64
	err = t.row(ctx, `SELECT MIN(bucket) FROM statistics_counts WHERE granularity = $1 AND bucket >= $2`, int64(per), from).Scan(&first)
	return first.Int64, first.Valid, err
}

// dayByDay returns a query that reads the first limit rows of each day of a span, in key order.
func dayByDay(span stats.Span, day func(location string) string, order string, limit int) string {
	var parts []string
	for pos := span.From; pos < span.To; pos++ {
		parts = append(parts, `SELECT * FROM (`+day(strconv.FormatInt(pos, 10))+` ORDER BY `+order+` LIMIT `+strconv.Itoa(limit)+
			`) AS day`+strconv.Itoa(len(parts)))
	}
	return strings.Join(parts, ` UNION ALL `)
}

func (t statisticsQueries) CountsFrom(ctx context.Context, span stats.Span, rule, tuple int64, limit int) ([]stats.CountRow, error) {
	return list(ctx, t.Tx, countRows.scan, dayByDay(span, func(location string) string {
		return countRows.query(`WHERE granularity = $1 AND bucket = ` + location + ` AND (rule, tuple) >= ($2, $3)`)
	}, `rule, tuple`, limit), int64(span.Granularity), rule, tuple)
}

func (t statisticsQueries) SumsFrom(ctx context.Context, span stats.Span, dim stats.Dimension, value string,
	limit int) ([]stats.SumRow, error) {
	return list(ctx, t.Tx, sumRows.scan, dayByDay(span, func(location string) string {
		return sumRows.query(`WHERE granularity = $1 AND dimension = $2 AND bucket = ` + location + ` AND value >= $3`)
	}, `value`, limit), int64(span.Granularity), int64(dim), value)
}

func (t statisticsQueries) UsersFrom(ctx context.Context, span stats.Span, dim stats.Dimension, value string,
	limit int) ([]stats.UsersKey, error) {
	scan := scanner(func(k *stats.UsersKey) []any { return []any{&k.Day, &k.Dimension, &k.Value} })
	return list(ctx, t.Tx, scan, dayByDay(span, func(location string) string {
		return `SELECT day, dimension, value FROM statistics_users WHERE dimension = $1 AND day = ` + location + ` AND value >= $2`
	}, `value`, limit), int64(dim), value)
}

func (t statisticsQueries) PutScanCounts(ctx context.Context, list []stats.CountRow) error {
	return countRows.putAll(ctx, t.Tx, list)
}

func (t statisticsQueries) PutSums(ctx context.Context, list []stats.SumRow) error {
	return sumRows.putAll(ctx, t.Tx, list)
}

// remove deletes, in key order, at most *left rows of a table for which "location" is true, and subtracts their number from *left.
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
	remove := func(table, key, location string, args ...any) {
		if err == nil {
			err = t.remove(ctx, table, key, location, &left, args...)
		}
	}
	for _, granularity := range [...]stats.Granularity{per, per + stats.PerHourOfAll, per + stats.PerHourOfOwner} {
		remove(`statistics_counts`, `granularity, bucket, rule, tuple`, `granularity = $1 AND bucket < $2`, int64(granularity), prev)
	}
	for _, dim := range stats.AllDims() {
		remove(`statistics_sums`, `granularity, dimension, bucket, value`, `granularity = $1 AND dimension = $2 AND bucket < $3`,
			int64(per), int64(dim), prev)
		if per == stats.PerDay {
			remove(`statistics_user_deltas`, `dimension, day, value, part`, `dimension = $1 AND day < $2`, int64(dim), prev)
			remove(`statistics_users`, `dimension, day, value`, `dimension = $1 AND day < $2`, int64(dim), prev)
		}
	}
	return limit - left, err
}

func (t statisticsQueries) RemoveMisses(ctx context.Context, prev int64, limit int) (n int, err error) {
	left := limit
	for per, before := range [...]int64{stats.PerHour: prev, stats.PerDay: timebucket.Day(prev, 0)} {
		if err == nil {
			err = t.remove(ctx, `statistics_unmatched`, `granularity, bucket, location`, `granularity = $1 AND bucket < $2`, &left,
				int64(per), before)
		}
	}
	return limit - left, err
}
