package stats

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
)

// MonthSketches is added to the number of a month, so that the sketches of months are in the same table as the sketches of days, after all
// days. MonthSketches is stored in the database, so it must never change.
const MonthSketches = 1 << 41

// rollAfter is the delay after the end of a month before the month is rolled up. Scans of a month may arrive after its end.
const rollAfter = 3 * 24 * time.Hour

// One transaction rolls up at most rolledRows rows or rolledSketches sketches of each day, or removes at most removedRows rows.
const (
	rolledRows     = 600
	rolledSketches = 30
	removedRows    = 10_000
	// aMonth is an upper bound for the number of days in a month.
	aMonth = 32
)

// batchSize returns the batch size: limit, or RowsAtOnce if that is less.
func (c *Aggregator) batchSize(limit int) int { return min(limit, cmp.Or(c.RowsAtOnce, limit)) }

// rolledDays returns the first day that is not rolled up: counts of earlier days are also added to their month.
func (s *State) rolledDays() int64 {
	if s.RollupCursor != "" {
		return timebucket.FirstDay(s.RollupMonth + 1)
	}
	return timebucket.FirstDay(s.RollupMonth)
}

// keeps reports whether the hour or day of a row is still retained.
func (s *State) keeps(per Granularity, pos int64) bool {
	if per.Hours() {
		return pos >= s.OldestHour
	}
	return pos >= s.OldestDay
}

// rolledMonth returns the month to which the row of a day is also added; ok is false for an hour, and for the day "rolled" and later days.
func rolledMonth(per Granularity, pos, rolled int64) (month int64, ok bool) {
	return timebucket.Month(pos), !per.Hours() && pos < rolled
}

// counting is implemented by pointers to rows that contain a Count.
type counting[R any] interface {
	*R
	compare(*R) int
	fields() (per *Granularity, bucket *int64, count *Count)
}

func (r *CountRow) fields() (*Granularity, *int64, *Count) {
	return &r.Granularity, &r.Bucket, &r.Count
}

func (r *SumRow) fields() (*Granularity, *int64, *Count) { return &r.Granularity, &r.Bucket, &r.Count }

// placeRows drops rows of hours and days that were removed, and adds rows for months that are rolled up. The rows stay sorted by key.
func placeRows[R any, P counting[R]](s *State, rows []R) []R {
	kept, months, rolled := make([]R, 0, len(rows)), []R(nil), s.rolledDays()
	for i := range rows {
		per, bucket, _ := P(&rows[i]).fields()
		if s.keeps(*per, *bucket) {
			kept = append(kept, rows[i])
		}
		if month, ok := rolledMonth(*per, *bucket, rolled); ok {
			*per, *bucket = per.month(), month
			months = append(months, rows[i])
		}
	}
	slices.SortFunc(months, func(a, b R) int { return P(&a).compare(&b) })
	return append(kept, addedUp[R, P](months)...)
}

// placeUsers assigns the users of days to days and months in the same way as placeRows assigns counts.
func (s *State) placeUsers(days map[UsersKey]*hyperloglog.Users) map[UsersKey]*hyperloglog.Users {
	rolled, all := s.rolledDays(), make(map[UsersKey]*hyperloglog.Users, len(days))
	for key, users := range days {
		if key.Day >= s.OldestDay {
			all[key] = users
		}
		if key.Day >= rolled {
			continue
		}
		key.Day = MonthSketches + timebucket.Month(key.Day)
		hyperloglog.Entry(all, key).Merge(*users)
	}
	return all
}

// addedUp sums adjacent rows with the same key, in place.
func addedUp[R any, P counting[R]](rows []R) []R {
	n := 0
	for i := range rows {
		_, _, count := P(&rows[i]).fields()
		if n > 0 && P(&rows[n-1]).compare(&rows[i]) == 0 {
			_, _, sum := P(&rows[n-1]).fields()
			sum.Add(*count)
			continue
		}
		rows[n] = rows[i]
		n++
	}
	return rows[:n]
}

// RollKey is a position within the roll-up of a month. A roll-up processes the tables one after the other, each in key order.
type RollKey struct {
	Table     rollTable
	Dimension Dimension `json:",omitempty"` // of sums and users; for rollCountsOfAll: Owner = counts by owner, Total = sums over all rules
	Rule      int64     `json:",omitempty"` // for counts
	Tuple     int64     `json:",omitempty"`
	Value     string    `json:",omitempty"`
}

type rollTable int

const (
	rollCounts rollTable = iota
	rollCountsOfAll
	rollSums
	rollUsers
	rollEnd
)

// next returns the first key of the next table or, for sums and users, of the next dimension.
func (k RollKey) next() RollKey {
	switch {
	case k.Table == rollCountsOfAll && k.Dimension == Total:
		return RollKey{Table: rollCountsOfAll, Dimension: Owner}
	case k.Table < rollSums || k.Dimension >= Dims-1:
		return RollKey{Table: k.Table + 1}
	}
	k.Dimension++
	if k.Table == rollSums && k.Dimension == Rule {
		k.Dimension++
	}
	return RollKey{Table: k.Table, Dimension: k.Dimension}
}

// compare compares keys in the order of a roll-up.
func (k RollKey) compare(o RollKey) int {
	return cmp.Or(cmp.Compare(k.Table, o.Table), cmp.Compare(k.Dimension, o.Dimension), cmp.Compare(k.Rule, o.Rule),
		cmp.Compare(k.Tuple, o.Tuple), cmp.Compare(k.Value, o.Value))
}

// ofCount, ofSum and ofUsers return the key of a row in the table of the key k.
func (k RollKey) ofCount(r *CountRow) RollKey {
	return RollKey{Table: k.Table, Dimension: k.Dimension, Rule: r.Rule, Tuple: r.Tuple}
}

func (k RollKey) ofSum(r *SumRow) RollKey {
	return RollKey{Table: k.Table, Dimension: r.Dimension, Value: r.Value}
}

func (k RollKey) ofUsers(r *UsersKey) RollKey {
	return RollKey{Table: k.Table, Dimension: r.Dimension, Value: r.Value}
}

// rowsBefore removes the rows at or after the key next from a list; key returns the key of a row.
func rowsBefore[R any](rows []R, next RollKey, key func(*R) RollKey) []R {
	return slices.DeleteFunc(rows, func(r R) bool { return key(&r).compare(next) >= 0 })
}

// IsEnd reports whether the key marks the end of the roll-up.
func (k RollKey) IsEnd() bool { return k.Table == rollEnd }

// Roll rolls up a part of the first complete month that is not rolled up yet; hasMore reports whether more work is left. As soon as the
// first part is rolled up, new counts for days of the month are also added to the month; rolling up a part adds its earlier counts.
func (c *Aggregator) Roll(ctx context.Context, now time.Time) (hasMore bool, err error) {
	_, err = c.change(ctx, func(tx Tx, s *State) (err error) {
		hasMore = false
		var key RollKey
		if s.RollupCursor == "" {
			first, found, err := tx.FirstCounted(ctx, PerDayOfAll, timebucket.FirstDay(s.RollupMonth))
			month := timebucket.Month(first)
			if err != nil || !found || PerMonth.Start(month+1, s.Offset).Add(rollAfter).After(now) {
				return err
			}
			s.RollupMonth = month
		} else if err := json.Unmarshal([]byte(s.RollupCursor), &key); err != nil {
			return fmt.Errorf("reading the roll-up position of a month: %w", err)
		}
		hasMore = true
		if key, err = c.rollPart(ctx, tx, s.RollupMonth, key); err != nil {
			return fmt.Errorf("rolling up the days of a month: %w", err)
		}
		if key.IsEnd() {
			s.RollupMonth, s.RollupCursor = s.RollupMonth+1, ""
			return nil
		}
		cursor, err := json.Marshal(key)
		s.RollupCursor = string(cursor)
		return err
	})
	return hasMore, err
}

// rollPart rolls up a part of a month, starting at a key, and returns the next key.
func (c *Aggregator) rollPart(ctx context.Context, tx Tx, month int64, key RollKey) (next RollKey, err error) {
	part, next, err := c.OfDays(ctx, tx, month, key)
	if err == nil {
		err = tx.PutScanCounts(ctx, part.Counts)
	}
	if err == nil {
		err = tx.PutSums(ctx, part.Sums)
	}
	if err == nil {
		err = tx.PutUsers(ctx, part.Users)
	}
	return next, err
}

// MonthPart holds a part of a month's counts, from one table.
type MonthPart struct {
	Counts []CountRow
	Sums   []SumRow
	Users  []UsersRow
}

// OfDays sums the days of a month for a limited number of keys from the given key on; the next call must continue with the key "next".
func (c *Aggregator) OfDays(ctx context.Context, tx Tx, month int64, key RollKey) (part MonthPart, next RollKey, err error) {
	limit := c.batchSize(rolledRows)
	switch key.Table {
	case rollCounts, rollCountsOfAll:
		part.Counts, err = tx.CountsFrom(ctx, daysOfMonth(key.per(), month), key.Rule, key.Tuple, limit)
		part.Counts, next = sumOfDays(part.Counts, limit, month, key.ofCount, key)
	case rollSums:
		part.Sums, err = tx.SumsFrom(ctx, daysOfMonth(PerDay, month), key.Dimension, key.Value, limit)
		part.Sums, next = sumOfDays(part.Sums, limit, month, key.ofSum, key)
	default:
		part.Users, next, err = c.usersOfDays(ctx, tx, month, key)
	}
	return part, next, err
}

// OfMonth returns the stored rows of a rolled-up month, in a half-open range of keys.
func (c *Aggregator) OfMonth(ctx context.Context, tx Tx, month int64, key, next RollKey) (part MonthPart, err error) {
	rows := aMonth * c.batchSize(rolledRows)
	switch key.Table {
	case rollCounts, rollCountsOfAll:
		part.Counts, err = tx.CountsFrom(ctx, Span{key.per().month(), month, month + 1}, key.Rule, key.Tuple, rows)
		part.Counts = rowsBefore(part.Counts, next, key.ofCount)
	case rollSums:
		part.Sums, err = tx.SumsFrom(ctx, Span{PerMonth, month, month + 1}, key.Dimension, key.Value, rows)
		part.Sums = rowsBefore(part.Sums, next, key.ofSum)
	default:
		keys, err := tx.UsersFrom(ctx, Span{PerDay, MonthSketches + month, MonthSketches + month + 1}, key.Dimension, key.Value,
			aMonth*c.batchSize(rolledSketches))
		if err != nil {
			return part, err
		}
		have, err := tx.UsersRows(ctx, rowsBefore(keys, next, key.ofUsers))
		return MonthPart{Users: slices.Collect(maps.Values(have))}, err
	}
	return part, err
}

// daysOfMonth returns the span of days of a month.
func daysOfMonth(per Granularity, month int64) Span {
	return Span{per, timebucket.FirstDay(month), timebucket.FirstDay(month + 1)}
}

// per returns the granularity of the daily rows that are rolled up at the key k.
func (k RollKey) per() Granularity {
	switch {
	case k.Table != rollCountsOfAll:
		return PerDay
	case k.Dimension == Owner:
		return PerDayOfOwner
	}
	return PerDayOfAll
}

// ofAllDays merges the first rows of several days in key order, and returns the key at which the next part begins ("after" if there is no
// further row). A day of which "limit" rows were read may have more rows: ofAllDays stops at the last key read from such a day.
func ofAllDays[R any](rows []R, limit int, day func(*R) int64, key func(*R) RollKey, after RollKey) ([]R, RollKey) {
	slices.SortFunc(rows, func(a, b R) int { return key(&a).compare(key(&b)) })
	read := map[int64]int{}
	for i := range rows {
		read[day(&rows[i])]++
		if read[day(&rows[i])] < limit {
			continue
		}
		for ; i > 0 && key(&rows[i-1]) == key(&rows[i]); i-- {
		}
		return rows[:i], key(&rows[i])
	}
	return rows, after
}

// sumOfDays returns the rows of a month, summed from the rows of its days, and the next key.
func sumOfDays[R any, P counting[R]](rows []R, limit int, month int64, toKey func(*R) RollKey, from RollKey) ([]R, RollKey) {
	rows, next := ofAllDays(rows, limit, func(r *R) int64 { _, bucket, _ := P(r).fields(); return *bucket }, toKey, from.next())
	for i := range rows {
		per, bucket, _ := P(&rows[i]).fields()
		*per, *bucket = per.month(), month
	}
	return addedUp[R, P](rows), next
}

// usersOfDays returns user sketches of a month, merged from its days.
func (c *Aggregator) usersOfDays(ctx context.Context, tx Tx, month int64, key RollKey) ([]UsersRow, RollKey, error) {
	keys, err := tx.UsersFrom(ctx, daysOfMonth(PerDay, month), key.Dimension, key.Value, c.batchSize(rolledSketches))
	if err != nil {
		return nil, key, err
	}
	keys, next := ofAllDays(keys, c.batchSize(rolledSketches), func(k *UsersKey) int64 { return k.Day }, key.ofUsers, key.next())
	have, err := tx.UsersRows(ctx, keys)
	if err != nil {
		return nil, key, err
	}
	var rows []UsersRow
	for n := 0; n < len(keys); {
		row, users := UsersRow{UsersKey: UsersKey{Day: MonthSketches + month, Dimension: key.Dimension, Value: keys[n].Value}},
			hyperloglog.Users{}
		for ; n < len(keys) && keys[n].Value == row.Value; n++ {
			day := have[keys[n]]
			item, err := day.Merged()
			if err != nil {
				return nil, key, err
			}
			users.Merge(item)
			row.Erased += day.Erased
		}
		row.Users, row.Sketch = users.Count(), users.Encode()
		rows = append(rows, row)
	}
	return rows, next, nil
}

// PruneRollups removes a part of the hourly counts from before the argument "hours", and of the daily counts from before the argument
// "days"; a zero time removes none. hasMore reports whether more rows are left to remove. Days are removed only in whole rolled-up months;
// together with these months, PruneRollups removes the hours of the two days that follow.
func (c *Aggregator) PruneRollups(ctx context.Context, hours, days time.Time) (hasMore bool, err error) {
	_, err = c.change(ctx, func(tx Tx, s *State) error {
		hasMore = false
		if err := s.end(ctx, tx, hours, days); err != nil {
			return err
		}
		left := min(20*c.batchSize(removedRows), removedRows)
		for _, span := range [...]Span{{Granularity: PerHour, To: s.OldestHour}, {Granularity: PerDay, To: s.OldestDay}} {
			if span.To == 0 || left == 0 {
				continue
			}
			n, err := tx.RemoveCounted(ctx, span.Granularity, span.To, left)
			left -= n
			if err != nil {
				return fmt.Errorf("removing old counts: %w", err)
			}
		}
		if s.OldestDay > 0 && left > 0 {
			n, err := tx.RemoveMisses(ctx, s.missesKept(), left)
			left -= n
			if err != nil {
				return fmt.Errorf("removing old counts of unmatched scans: %w", err)
			}
		}
		hasMore = left == 0
		return nil
	})
	return hasMore, err
}

// end stores the first hour and the first day to be retained, if the counts have older hours or days to remove.
func (s *State) end(ctx context.Context, tx Tx, hours, days time.Time) error {
	older := func(per Granularity, than int64) (bool, error) {
		first, found, err := tx.FirstCounted(ctx, per, 0)
		return found && first < than, err
	}
	if !days.IsZero() {
		from := timebucket.FirstDay(min(timebucket.Month(timebucket.Day(timebucket.Hour(days), s.Offset)), s.RollupMonth))
		ok, err := older(PerDayOfAll, from)
		if err != nil {
			return err
		}
		if ok {
			s.OldestDay = max(s.OldestDay, from)
		}
	}
	from := int64(0)
	if !hours.IsZero() {
		from = timebucket.Day(timebucket.Hour(hours), s.Offset)*24 - s.Offset
		ok, err := older(PerHourOfAll, from)
		if err != nil {
			return err
		}
		if !ok {
			from = 0
		}
	}
	if s.OldestDay > 0 { // retained hours begin two days after OldestDay, so that their days are retained in any time zone
		from = max(from, (s.OldestDay+2)*24-s.Offset)
	}
	s.OldestHour = max(s.OldestHour, from)
	return nil
}

// MissesFrom returns the first hour for which scans without a result can be queried: the start of the first retained day in the
// current time zone.
func (s *State) MissesFrom() int64 {
	if s.OldestDay == 0 {
		return 0
	}
	return s.OldestDay*24 - s.Offset
}

// eastmost is the time zone in which a day begins first, and westmost the one in which it begins last, in hours east of UTC.
const eastmost, westmost = 14, -12

// missesKept returns the first hour for which scans without a result are retained: the earliest start of the first retained day in any time
// zone, so that the day is complete even after a change of the time zone.
func (s *State) missesKept() int64 {
	if s.OldestDay == 0 {
		return 0
	}
	return s.OldestDay*24 - eastmost
}
