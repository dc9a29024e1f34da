package stats

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Question is a query on the counts. A query reads only the counts, so its duration does not depend on the number of scans.
type Question struct {
	// From and To limit the time of the scans, extended to whole intervals: the first hour, day, week or month is the one that contains
	// From, and the last is the one that contains the last moment before To.
	From, To time.Time
	Interval Interval
	Group    Dimension            // dimension to group by, one row per value; Total = a single row
	Filter   map[Dimension]string // only scans with these values of dimensions
	Owners   []string             // only scans of these owners; "" = scans without an owner; empty = all owners
	Metric   Metric
	Limit    int // maximum number of rows, 1 to MaxAnswers; 0 = 100
	Offset   int // number of rows to skip
}

// Interval is the time unit by which a query divides its time range.
type Interval string

// The intervals.
const (
	AllTime Interval = ""
	ByHour  Interval = "hour"
	ByDay   Interval = "day"
	ByWeek  Interval = "week"  // weeks begin on Monday and are summed from days
	ByMonth Interval = "month" // of the calendar
)

// Start returns the time at which an hour, day, week or month of a result begins.
func (b Interval) Start(pos, offset int64) time.Time {
	switch b {
	case ByHour:
		return PerHour.Start(pos, offset)
	case ByWeek:
		return PerDay.Start(timebucket.Monday(pos), offset)
	case ByMonth:
		return PerMonth.Start(pos, offset)
	}
	return PerDay.Start(pos, offset)
}

// Metric is a quantity that is counted.
type Metric string

// The available metrics.
const (
	Scans      Metric = "scans"
	FirstScans Metric = "first" // scans that were the first scan of their code
	Users      Metric = "users" // distinct users in each day, week or month, or in the whole time range; not by hour
)

// MaxAnswers is the maximum number of rows in one result; so many rows take about 80 MB of memory.
const MaxAnswers = 200_000

// BadQuestion is the error for an invalid query: the reason in one sentence.
type BadQuestion string

func (b BadQuestion) Error() string { return string(b) }

// Answer is one row of a result.
type Answer struct {
	Bucket int64 // number of the hour, day, week or month; 0 for AllTime
	Value  string
	Count
	Users int64
}

// QueryResult is the result of a query.
type QueryResult struct {
	// From and To are the queried time range, extended to whole hours, days, weeks or months.
	From, To time.Time
	// Rows are sorted by time, and rows of the same time by their count, the largest first.
	Rows []Answer
	More bool // more rows follow
	// Scan is the last counted scan and ScanAt is its time; Position is its position in the scan log, and Scans is the number of
	// counted scans.
	Scan     string
	ScanAt   time.Time
	Position int64
	Scans    int64
	// Offset is the time zone of the days, in hours east of UTC.
	Offset int64
}

// Span is a half-open range of hours, days or months: From is included, To is excluded.
type Span struct {
	Granularity Granularity
	From, To    int64
}

// Query is a query in the form in which the store executes it: the time range is Spans, and Limit is not 0.
type Query struct {
	Question
	Spans []Span
}

// OnlyDimension returns the single dimension that a query uses; false if it uses several.
func (q Query) OnlyDimension() (Dimension, bool) {
	d := q.Group
	if len(q.Owners) > 0 {
		if d != Total && d != Owner {
			return 0, false
		}
		d = Owner
	}
	for dimension := range q.Filter {
		if d != Total && d != dimension {
			return 0, false
		}
		d = dimension
	}
	return d, true
}

// Start returns the time at which an hour, day or month begins.
func (p Granularity) Start(pos, offset int64) time.Time {
	if !p.Hours() {
		pos = p.day(pos)*24 - offset
	}
	return time.Unix(pos*3600, 0).UTC()
}

// day returns the first day of a month, and returns a day unchanged.
func (p Granularity) day(pos int64) int64 {
	if p == PerMonth || p == PerMonthOfAll || p == PerMonthOfOwner {
		return timebucket.FirstDay(pos)
	}
	return pos
}

// query translates a Question into a Query; the error is BadQuestion if the question is invalid.
func (q Question) query(s State) (Query, error) {
	if !q.From.Before(q.To) {
		return Query{}, BadQuestion("from must be before to")
	}
	if q.From.Year() < 1970 || q.To.Year() > 9999 {
		return Query{}, BadQuestion("from and to must be between the years 1970 and 9999")
	}
	q.Limit = cmp.Or(q.Limit, 100)
	out := Query{Question: q}
	switch q.Metric {
	case Scans, FirstScans:
	case Users:
		if q.Interval == ByHour {
			return Query{}, BadQuestion("distinct users are counted per day: use by=day, or leave by out")
		}
		if _, ok := out.OnlyDimension(); !ok {
			return Query{}, BadQuestion(
				"distinct users are counted for one dimension at a time: use one filter, or a group without a filter of another " +
					"dimension. For one account, leave out group; for a rule or batch of one account, filter by the rule or batch " +
					"and leave out owner")
		}
	default:
		return Query{}, BadQuestion("count is scans, first or users")
	}
	first, last := timebucket.Hour(q.From), timebucket.Hour(q.To.Add(-time.Millisecond))+1
	day, end := timebucket.Day(first, s.Offset), timebucket.Day(last-1, s.Offset)+1
	switch q.Interval {
	case ByHour:
		if first < s.OldestHour {
			return Query{}, BadQuestion("hourly statistics begin at " + s.moment(PerHour, s.OldestHour) +
				": choose a later start, or by=day, week or month")
		}
		out.Spans = []Span{{PerHour, first, last}}
	case ByDay:
		if day < s.OldestDay {
			return Query{}, BadQuestion("daily statistics begin at " + s.moment(PerDay, s.OldestDay) +
				": choose a later start, or by=month")
		}
		out.Spans = []Span{{PerDay, day, end}}
	case ByWeek:
		if day, end = timebucket.Monday(timebucket.Week(day)), timebucket.Monday(timebucket.Week(end-1)+1); day < s.OldestDay {
			return Query{}, BadQuestion("weeks are sums of daily statistics, which begin at " + s.moment(PerDay, s.OldestDay) +
				": choose a start of " + s.moment(PerDay, timebucket.Monday(timebucket.Week(s.OldestDay-1)+1)) + " or later, or by=month")
		}
		out.Spans = []Span{{PerDay, day, end}}
	case ByMonth:
		out.Spans = s.inDays(timebucket.FirstDay(timebucket.Month(day)), timebucket.FirstDay(timebucket.Month(end-1)+1))
	case AllTime:
		if q.Metric == Users {
			out.Spans = s.inDays(day, end)
		} else {
			out.Spans = s.inHours(first, last)
		}
	default:
		return Query{}, BadQuestion("by is hour, day, week or month")
	}
	return out, nil
}

// moment returns the time at which an hour or day begins, in the time zone of the days.
func (s *State) moment(per Granularity, pos int64) string {
	return per.Start(pos, s.Offset).In(time.FixedZone("", int(s.Offset)*3600)).Format(time.RFC3339)
}

// inHours splits a range of hours into spans to read. Whole days are read from the counts of days and months, and the other hours at both
// ends from the counts of hours. If the hours at the start or the end were already removed, the range is extended to whole days.
func (s *State) inHours(first, last int64) (list []Span) {
	if first < s.OldestHour {
		first = timebucket.Day(first, s.Offset)*24 - s.Offset
	}
	if day := timebucket.Day(last, s.Offset)*24 - s.Offset; day < last && day < s.OldestHour {
		last = day + 24
	}
	total, end := timebucket.Day(first+23, s.Offset), timebucket.Day(last, s.Offset)
	if total >= end {
		return []Span{{PerHour, first, last}}
	}
	if hours := (Span{PerHour, first, total*24 - s.Offset}); hours.From < hours.To {
		list = append(list, hours)
	}
	list = append(list, s.inDays(total, end)...)
	if hours := (Span{PerHour, end*24 - s.Offset, last}); hours.From < hours.To {
		list = append(list, hours)
	}
	return list
}

// inDays splits a range of days into spans to read: whole months are read from rolled-up months. If days at an end were already removed,
// the range is extended to whole months.
func (s *State) inDays(day, end int64) (list []Span) {
	if day < s.OldestDay {
		day = timebucket.FirstDay(timebucket.Month(day))
	}
	if end <= s.OldestDay {
		end = timebucket.FirstDay(timebucket.Month(end-1) + 1)
	}
	total, rest := timebucket.Month(day-1)+1, min(timebucket.Month(end), s.RollupMonth)
	if total >= rest {
		return []Span{{PerDay, day, end}}
	}
	oldSpan, newSpan := Span{PerDay, day, timebucket.FirstDay(total)}, Span{PerDay, timebucket.FirstDay(rest), end}
	for _, span := range [...]Span{oldSpan, {PerMonth, total, rest}, newSpan} {
		if span.From < span.To {
			list = append(list, span)
		}
	}
	return list
}

// Execute runs a query. Execute returns BadQuestion for an invalid query.
func (c *Aggregator) Execute(ctx context.Context, q Question) (a QueryResult, err error) {
	var users *usersAsked
	var query Query
	var state State
	group := q.Group
	text, isOwned, err := c.narrow(ctx, &q)
	if err != nil {
		return a, err
	}
	err = c.Store.ViewStatistics(ctx, func(tx Tx) error {
		if state, err = tx.StatisticsState(ctx); err != nil {
			return err
		}
		if state.CountedOffset == 0 {
			state.Offset = int64(c.Settings.Get().UTCOffsetHours)
		}
		if query, err = q.query(state); err != nil {
			return err
		}
		ask := query
		ask.Limit++ // one extra row shows whether more rows follow
		switch {
		case !isOwned:
		case q.Metric == Users:
			users = newUsersAsked(query)
			err = tx.UsersOf(ctx, query, users.row)
		case q.Interval == AllTime && q.Group != Total && len(q.Filter)+len(q.Owners) == 0 && q.Metric == Scans:
			a.Rows, err = c.largest(ctx, tx, ask, state.Offset)
		default:
			a.Rows, err = ask.read(ctx, tx)
		}
		return err
	})
	if err != nil {
		return a, err
	}
	if users != nil {
		if a.Rows, err = c.countUsers(ctx, users, state); err != nil {
			return a, err
		}
	}
	if len(a.Rows) > query.Limit {
		a.Rows, a.More = a.Rows[:query.Limit], true
	}
	first, last := query.Spans[0], query.Spans[len(query.Spans)-1]
	a.From, a.To = first.Granularity.Start(first.From, state.Offset), last.Granularity.Start(last.To, state.Offset)
	a.Scan, a.ScanAt, a.Position, a.Scans, a.Offset = state.LastScanID, state.LastScanAt, state.CountedOffset, state.Scans, state.Offset
	if group == Owner && q.Group != Owner {
		for i := range a.Rows {
			a.Rows[i].Value = text
		}
	}
	return a, nil
}

// narrow removes the owners from a query about a single rule or application, and returns the owner of this rule or application. isOwned is
// false if the owner is not among the queried owners.
func (c *Aggregator) narrow(ctx context.Context, q *Question) (text string, isOwned bool, err error) {
	rule, ofRule := q.Filter[Rule]
	batch, ofBatch := q.Filter[Batch]
	ruleNumber, err := strconv.ParseInt(cmp.Or(rule, "0"), 10, 64)
	batchNumber, wrong := strconv.ParseInt(cmp.Or(batch, "0"), 10, 64)
	asked, single := len(q.Owners) > 0 || q.Group == Owner, ruleNumber != 0 || batchNumber != 0 || ofRule && ofBatch
	if !asked || !single || err != nil || wrong != nil {
		return "", true, nil
	}
	if text, err = c.Owner(ctx, ruleNumber, batchNumber); err != nil {
		return "", false, err
	}
	isOwned = len(q.Owners) == 0 || slices.Contains(q.Owners, text)
	if q.Owners = nil; q.Group == Owner {
		q.Group = Total
	}
	return text, isOwned, nil
}

// maxSketches and maxSketchBytes limit how many sketches one query reads and how much memory they use: a sketch of many users is 128 KiB.
const (
	maxSketches    = 20_000
	maxSketchBytes = 256 << 20
)

const tooManyUsers = BadQuestion("distinct users of too many days and values were requested at once: request fewer days, or one value")

// usersAsked computes the distinct users for a query.
type usersAsked struct {
	Query
	dim      Dimension
	filtered bool // only one value is selected (the field "value") or, if several is true, the values in Owners
	value    string
	several  bool // Owners selects more than one value

	rows   int
	bytes  int
	counts map[UsersKey]int64 // numbers of users in stored rows that are complete rows of the result (isComplete)
	users  map[UsersKey]*hyperloglog.Users
}

func newUsersAsked(q Query) *usersAsked {
	u := &usersAsked{Query: q, counts: map[UsersKey]int64{}, users: map[UsersKey]*hyperloglog.Users{}}
	u.dim, _ = q.OnlyDimension()
	u.value, u.filtered = q.Filter[u.dim]
	if u.dim == Owner && len(q.Owners) > 0 {
		u.value, u.filtered, u.several = q.Owners[0], true, len(q.Owners) > 1
	}
	return u
}

// key returns the key of the result row to which the users of a day and value belong; its Day is the day, week or month of the row.
func (u *usersAsked) key(day int64, value string) UsersKey {
	k := UsersKey{Dimension: u.dim, Value: u.value}
	switch u.Interval {
	case ByDay:
		k.Day = day
	case ByWeek:
		k.Day = timebucket.Week(day)
	case ByMonth:
		if k.Day = day - MonthSketches; k.Day < 0 {
			k.Day = timebucket.Month(day)
		}
	}
	if u.Group != Total {
		k.Value = value
	}
	return k
}

// includes reports whether the query covers the users of a day and value.
func (u *usersAsked) includes(day int64, value string) bool {
	first, last := u.Spans[0], u.Spans[len(u.Spans)-1]
	if day < first.Granularity.day(first.From) || day >= last.Granularity.day(last.To) {
		return false
	}
	return !u.filtered || value == u.value || u.several && slices.Contains(u.Owners, value)
}

// isComplete reports whether a stored row is a complete row of the result, so that it need not be merged with other stored rows.
func (u *usersAsked) isComplete(row *UsersRow) bool {
	return row.Since == nil && (!u.several || u.Group != Total) &&
		(u.Interval == ByDay || u.Interval == ByMonth && row.Day >= MonthSketches)
}

// row adds one stored row. The sketch of a complete row is not needed here; join reads it if later scans add users.
func (u *usersAsked) row(row UsersRow) error {
	if row.Since == nil {
		u.rows++
	}
	if u.rows > maxSketches {
		return tooManyUsers
	}
	if u.isComplete(&row) {
		u.counts[u.key(row.Day, row.Value)] = row.Users
		return nil
	}
	s, err := row.Merged()
	if err != nil {
		return err
	}
	return u.change(u.key(row.Day, row.Value), func(all *hyperloglog.Users) { all.Merge(s) })
}

// change adds users to a result row.
func (u *usersAsked) change(k UsersKey, add func(*hyperloglog.Users)) error {
	s := hyperloglog.Entry(u.users, k)
	u.bytes -= s.Size()
	add(s)
	if u.bytes += s.Size(); u.bytes > maxSketchBytes {
		return tooManyUsers
	}
	return nil
}

// countUsers counts the users of a query from the stored sketches and from the scans that are not in the sketches yet.
func (c *Aggregator) countUsers(ctx context.Context, u *usersAsked, state State) ([]Answer, error) {
	var err error
	known := c.visitTail(state, u.dim, func(day int64, value string, s *hyperloglog.Users) {
		if err == nil && u.includes(day, value) {
			err = u.change(u.key(day, value), func(all *hyperloglog.Users) { all.Merge(*s) })
		}
	})
	if !known {
		err = c.readTail(ctx, state, func(e *scanlog.Entry) (bool, error) {
			t, err := c.Tuple(ctx, &e.Event)
			if err == nil && u.dim == Owner {
				t.Owner, err = c.Owner(ctx, e.RuleID, e.Batch)
			}
			if err != nil {
				return false, err
			}
			day, value := timebucket.Day(timebucket.Hour(e.OccurredAt), state.Offset), t.Value(u.dim)
			if e.User != (scanlog.UserHash{}) && u.includes(day, value) && (u.dim != Owner || value != "") {
				err = u.change(u.key(day, value), func(all *hyperloglog.Users) { all.Add(e.User) })
			}
			return err == nil, err
		})
	}
	if err == nil && len(u.counts) > 0 {
		err = c.join(ctx, u)
	}
	if err != nil {
		return nil, err
	}
	q := u.Query
	all := make([]Answer, 0, len(u.users)+len(u.counts))
	answer := func(k UsersKey, n int64) {
		item := Answer{Bucket: k.Day, Value: k.Value, Users: n}
		if q.Group == Total {
			item.Value = ""
		}
		all = append(all, item)
	}
	for k, s := range u.users {
		answer(k, s.Count())
	}
	for k, n := range u.counts {
		if u.users[k] == nil {
			answer(k, n)
		}
	}
	slices.SortFunc(all, func(a, b Answer) int {
		return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(b.Users, a.Users), cmp.Compare(a.Value, b.Value))
	})
	return all[min(q.Offset, len(all)):min(q.Offset+q.Limit+1, len(all))], nil
}

// join merges the stored sketches into result rows that also have users from later scans.
func (c *Aggregator) join(ctx context.Context, u *usersAsked) error {
	keys := slices.SortedFunc(maps.Keys(u.users), UsersKey.Compare)
	keys = slices.DeleteFunc(keys, func(k UsersKey) bool { _, stored := u.counts[k]; return !stored })
	if u.Interval == ByMonth {
		for i := range keys {
			keys[i].Day += MonthSketches
		}
	}
	for usersKeys := range slices.Chunk(keys, usersAtOnce) {
		have, err := view(ctx, c, func(tx Tx) (map[UsersKey]UsersRow, error) { return tx.UsersRows(ctx, usersKeys) })
		if err != nil {
			return err
		}
		for k, row := range have {
			k = u.key(k.Day, k.Value)
			s, err := row.Merged()
			if err == nil {
				err = u.change(k, func(all *hyperloglog.Users) { all.Merge(s) })
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// visitTail calls visit with the users of counted scans, and of a few later scans, that are not in the stored sketches yet. visitTail
// returns false if this process does not have these users in memory: if another node counts, and shortly after the program start.
func (c *Aggregator) visitTail(state State, dim Dimension, visit func(day int64, value string, s *hyperloglog.Users)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded || c.state.SketchOffset != state.SketchOffset || c.state.Offset != state.Offset || c.pending.to < state.CountedOffset {
		return false
	}
	c.tail.visitUsers(dim, visit)
	return true
}

// UnmatchedRows returns at most MaxMisses link prefixes of scans that opened nothing, most scanned first. The time range from "from" to
// "to" is extended to whole hours. "owners" limits the result to hosts with rules of these owners, and "parent" to links below this prefix.
func (c *Aggregator) UnmatchedRows(ctx context.Context, owners []string, parent string, from, to time.Time) (
	[]Answer, error) {
	if !from.Before(to) {
		return nil, BadQuestion("from must be before to")
	}
	return view(ctx, c, func(tx Tx) ([]Answer, error) {
		s, err := tx.StatisticsState(ctx)
		if err != nil {
			return nil, err
		}
		if timebucket.Hour(from) < s.MissesFrom() {
			return nil, BadQuestion("statistics of unmatched scans begin at " + s.moment(PerHour, s.MissesFrom()) +
				": choose a later start")
		}
		list, err := c.unmatched(ctx, tx, timebucket.Hour(from), timebucket.Hour(to.Add(-time.Millisecond))+1)
		if err == nil && parent != "" {
			list = missesBelow(parent, list)
		}
		if err == nil && len(owners) > 0 {
			list, err = missesOf(ctx, tx, owners, list)
		}
		return list, err
	})
}

// unmatched reads the unmatched scans of a half-open range of hours. Up to now it reads the last day, which has fewer rows than its hours.
func (c *Aggregator) unmatched(ctx context.Context, tx Tx, from, to int64) ([]Answer, error) {
	now := timebucket.Hour(c.Now())
	if to > now {
		to = 24 * timebucket.Day(to+23, 0)
	}
	today := min(max(from, 24*timebucket.Day(now, 0)), to)
	past, err := tx.UnmatchedTotal(ctx, from, today)
	if err != nil {
		return nil, err
	}
	r, err := c.ranking(fmt.Sprint("unmatched ", from, " ", today), Count{Scans: past},
		func() ([]Answer, error) { return tx.UnmatchedRows(ctx, from, today) })
	if err != nil {
		return nil, err
	}
	if r.rows == nil {
		today = from
	}
	list, err := tx.UnmatchedRows(ctx, today, to)
	return r.add(list, MaxMisses), err
}

// MaxMisses is the maximum number of link prefixes of unmatched scans that are examined or exported. MaxMisses suffices for several days,
// because at most MaxPlaces link prefixes are counted per day.
const MaxMisses = 100_000

// missesBelow returns the rows that count links below a prefix: those with the prefix's host and first path segment, or all rows of its
// host if the prefix has no path.
func missesBelow(prefix string, list []Answer) []Answer {
	place := placeOfLink(prefix)
	host, segment, _ := strings.Cut(place, "/")
	return slices.DeleteFunc(list, func(m Answer) bool {
		return m.Value != place && (segment != "" || m.Value != host && !strings.HasPrefix(m.Value, host+"/"))
	})
}

// missesOf returns the link prefixes of unmatched scans on hosts on which the owners currently have rules.
func missesOf(ctx context.Context, tx Tx, owners []string, list []Answer) ([]Answer, error) {
	pairs, err := tx.OwnersOfHosts(ctx, slices.Sorted(maps.Keys(scansByHost(list))))
	owned := map[string]bool{}
	for _, pair := range pairs {
		owned[pair[0]] = owned[pair[0]] || slices.Contains(owners, pair[1])
	}
	return slices.DeleteFunc(list, func(m Answer) bool { return !owned[hostOf(m.Value)] }), err
}

func scansByHost(list []Answer) map[string]int64 {
	scans := map[string]int64{}
	for _, m := range list {
		scans[hostOf(m.Value)] += m.Scans
	}
	return scans
}

func hostOf(place string) string { host, _, _ := strings.Cut(place, "/"); return host }
