package stats_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// killedStore is a store that rolls back all transactions after a number of commits, as if the process were killed.
type killedStore struct {
	*store.Store
	commits int // remaining commits; -1 = unlimited
}

var errKilled = errors.New("killed")

func (s *killedStore) UpdateStatistics(ctx context.Context, f func(stats.Tx) error) error {
	return s.Store.UpdateStatistics(ctx, func(tx stats.Tx) error {
		if err := f(tx); err != nil || s.commits < 0 {
			return err
		}
		if s.commits == 0 {
			return errKilled
		}
		s.commits--
		return nil
	})
}

// longTraffic generates scans of several months, some of them days or months late, and keeps what a reference query needs.
type longTraffic struct {
	scantest.Traffic
	*naive
	first []bool                       // for each scan: whether it was the first scan of its code
	dims  []map[stats.Dimension]string // for each scan: its value of each dimension
}

func newLongTraffic(r *rand.Rand) *longTraffic {
	return &longTraffic{scantest.Traffic{Random: r, Now: began, Users: 60}, newNaive(), nil, nil}
}

// record appends n scans to a log. The time between two scans is below the given number of hours.
func (l *longTraffic) record(t *testing.T, log *scantest.Memory, n, hours int) {
	t.Helper()
	from := len(l.Sent)
	for range n {
		l.Now = l.Now.Add(time.Duration(l.Random.IntN(hours*3600)) * time.Second)
		l.Next()
		if e := &l.Sent[len(l.Sent)-1]; l.Random.IntN(12) == 0 {
			e.OccurredAt = e.OccurredAt.Add(-time.Duration(l.Random.IntN(100*24*3600)) * time.Second)
			e.ID = scantest.ID(e.OccurredAt, l.Random)
		}
	}
	for _, e := range l.Sent[from:] {
		name := alarms.CodeName{Batch: e.Batch, Index: e.Index}
		l.first = append(l.first, e.IdentifiesCode() && l.codes[name] == 0)
		l.dims = append(l.dims, l.values(e))
		l.add(e)
	}
	require.NoError(t, log.Append(t.Context(), l.Sent[from:]))
}

// startOf returns the start of the hour, day, week or month of tm by the calendar.
func (l *longTraffic) startOf(by stats.Interval, tm time.Time) time.Time {
	tm = tm.In(time.FixedZone("", int(l.offset)*3600))
	y, m, d := tm.Date()
	switch by {
	case stats.ByHour:
		return tm.Truncate(time.Hour).UTC()
	case stats.ByWeek:
		d -= (int(tm.Weekday()) + 6) % 7
	case stats.ByMonth:
		d = 1
	case stats.AllTime:
		return time.Unix(0, 0).UTC()
	}
	return time.Date(y, m, d, 0, 0, 0, 0, tm.Location()).UTC()
}

// query is the reference implementation of Execute: it adds up scans one by one. Keys of the result are a start and a value.
func (l *longTraffic) query(q stats.Question, from, to time.Time) map[string]int64 {
	all, users := map[string]int64{}, map[string]map[scanlog.UserHash]bool{}
next:
	for i, e := range l.Sent {
		if e.OccurredAt.Before(from) || !e.OccurredAt.Before(to) {
			continue
		}
		values := l.dims[i]
		for dim, value := range q.Filter {
			if values[dim] != value {
				continue next
			}
		}
		key := fmt.Sprint(l.startOf(q.Interval, e.OccurredAt).Format(time.RFC3339), " ", values[q.Group])
		switch {
		case q.Metric == stats.Scans:
			all[key]++
		case q.Metric == stats.FirstScans && l.first[i]:
			all[key]++
		case q.Metric == stats.Users && e.User != (scanlog.UserHash{}):
			if users[key] == nil {
				users[key] = map[scanlog.UserHash]bool{}
			}
			users[key][e.User] = true
			all[key] = int64(len(users[key]))
		}
	}
	return all
}

// randomQuery returns a random valid query.
func (l *longTraffic) randomQuery() stats.Question {
	dim := func() stats.Dimension { return stats.Dimension(l.Random.IntN(int(stats.Region) + 1)) }
	span := l.Now.Sub(began) + 150*24*time.Hour
	from := began.AddDate(0, -4, 0).Add(time.Duration(l.Random.Int64N(int64(span))).Truncate(time.Minute))
	q := stats.Question{From: from, To: from.Add(time.Hour + time.Duration(l.Random.Int64N(int64(span)))), Group: dim(),
		Interval: []stats.Interval{stats.AllTime, stats.AllTime, stats.AllTime, stats.ByHour, stats.ByDay, stats.ByWeek, stats.ByMonth,
			stats.ByMonth}[l.Random.IntN(8)],
		Metric: []stats.Metric{stats.Scans, stats.FirstScans, stats.Users}[l.Random.IntN(3)],
		Limit:  stats.MaxAnswers, Filter: map[stats.Dimension]string{}}
	values := l.dims[l.Random.IntN(len(l.Sent))]
	for range l.Random.IntN(3) {
		if d := dim(); d != stats.Total {
			q.Filter[d] = values[d]
		}
	}
	if q.Metric == stats.Users { // allows neither filters nor hours
		clear(q.Filter)
		if q.Interval == stats.ByHour {
			q.Interval = stats.ByMonth
		}
	}
	return q
}

// resultMap returns the rows of a result in the form of longTraffic.query.
func resultMap(q stats.Question, a stats.QueryResult) map[string]int64 {
	all := map[string]int64{}
	for _, row := range a.Rows {
		start := time.Unix(0, 0).UTC()
		if q.Interval != stats.AllTime {
			start = q.Interval.Start(row.Bucket, a.Offset)
		}
		all[fmt.Sprint(start.Format(time.RFC3339), " ", row.Value)] = map[stats.Metric]int64{stats.Scans: row.Scans,
			stats.FirstScans: row.FirstScans, stats.Users: row.Users}[q.Metric]
	}
	return all
}

func execute(t *testing.T, c *stats.Aggregator, q stats.Question) map[string]int64 {
	t.Helper()
	a, err := c.Execute(t.Context(), q)
	require.True(t, err == nil && !a.More, "Execute(%+v) has more rows: %v, %v, want all rows", q, a.More, err)
	return resultMap(q, a)
}

// checkQueries executes n random queries and two fixed ones. Each must have the result of the reference query, or be rejected because
// the requested hours or days were removed.
func (l *longTraffic) checkQueries(t *testing.T, c *stats.Aggregator, n int, state stats.State) {
	t.Helper()
	oldest := map[stats.Interval]time.Time{stats.ByHour: stats.PerHour.Start(state.OldestHour, l.offset),
		stats.ByDay: stats.PerDay.Start(state.OldestDay, l.offset), stats.ByWeek: stats.PerDay.Start(state.OldestDay, l.offset)}
	for i := range n + 2 {
		q := stats.Question{From: began, To: l.Now.Add(time.Hour), Group: stats.App, Metric: stats.Scans, Limit: stats.MaxAnswers}
		if i == n { // the same days in each call, with more and more late scans
			q.To = began.AddDate(0, 1, 0)
		} else if i < n {
			q = l.randomQuery()
		}
		a, err := c.Execute(t.Context(), q)
		if bad, ok := errors.AsType[stats.BadQuestion](err); ok {
			since, found := oldest[q.Interval]
			require.True(t, found && l.startOf(q.Interval, q.From).Before(since) && strings.Contains(bad.Error(), "begin at 20"),
				"Execute(%+v) = %v, want a result: rows are stored since %v", q, err, since)
			continue
		}
		require.True(t, err == nil && !a.More, "Execute(%+v) = %d rows, %v, want all rows", q, len(a.Rows), err)
		diff := cmp.Diff(l.query(q, a.From, a.To), resultMap(q, a))
		require.True(t, diff == "", "Execute(%+v) from %v to %v (-want +got):\n%s\n%+v", q, a.From, a.To, diff, state)
		if page := q; q.Interval == stats.AllTime && q.Metric != stats.Users {
			page.Offset, page.Limit = 1, 2
			part := require.Value(c.Execute(t.Context(), page))(t)
			require.Equal(t, cmp.Diff(a.Rows[min(1, len(a.Rows)):min(3, len(a.Rows))], part.Rows), "", "rows 1 and 2 of %+v", q)
		}
		// The range is extended to the finest stored interval, and no further.
		by := q.Interval
		if by == stats.AllTime {
			if by = stats.ByHour; q.Metric == stats.Users {
				by = stats.ByDay
			}
			if q.From.Before(oldest[stats.ByHour]) {
				by = stats.ByDay
			}
			if q.From.Before(oldest[stats.ByDay]) {
				by = stats.ByMonth
			}
		}
		want := l.startOf(by, q.From)
		require.True(t, a.From.Equal(want), "Execute(%+v).From = %v, want %v, %+v", q, a.From, want, state)
		require.True(t, !a.To.Before(q.To) && a.To.Sub(q.To) <= 32*24*time.Hour, "Execute(%+v).To = %v, want at most 32 days more", q, a.To)
	}
}

func stateOf(t *testing.T, s stats.Store) (state stats.State) {
	t.Helper()
	require.NoError(t, s.ViewStatistics(t.Context(), func(tx stats.Tx) (err error) {
		state, err = tx.StatisticsState(t.Context())
		return err
	}))
	return state
}

// rollUpRandomly runs random steps of recording, rolling up, pruning and counting, whose process is killed at random, and checks queries
// after each step. It returns an aggregator that is not killed.
func (l *longTraffic) rollUpRandomly(t *testing.T, s *store.Store, log *scantest.Memory) *stats.Aggregator {
	t.Helper()
	r, killed := l.Random, &killedStore{s, -1}
	newCounter := func() *stats.Aggregator {
		c := scantest.NewAggregator(killed, log)
		c.Now = func() time.Time { return l.Now }
		c.RowsAtOnce = 2 + r.IntN(5)
		killed.commits = -1
		if r.IntN(2) == 0 {
			killed.commits = r.IntN(12)
		}
		return c
	}
	c := newCounter()
	// survived reports whether a step succeeded. After a kill it starts another process.
	survived := func(err error) bool {
		t.Helper()
		require.True(t, err == nil || errors.Is(err, errKilled), "step fails with %v, want errKilled or no error", err)
		if err != nil {
			c = newCounter()
		}
		return err == nil
	}
	for range 20 {
		switch r.IntN(5) {
		case 0, 1:
			l.record(t, log, 200, 5)
		case 2:
			more, err := c.Roll(t.Context(), l.Now)
			for n := r.IntN(60); survived(err) && more && n > 0; n-- {
				more, err = c.Roll(t.Context(), l.Now)
			}
		case 3:
			days := 20 + r.IntN(100)
			hours, old := l.Now.AddDate(0, 0, -days/2), l.Now.AddDate(0, 0, -days)
			if r.IntN(3) == 0 {
				old = time.Time{}
			}
			more, err := c.PruneRollups(t.Context(), hours, old)
			for n := r.IntN(60); survived(err) && more && n > 0; n-- {
				more, err = c.PruneRollups(t.Context(), hours, old)
			}
		}
		if len(l.Sent) == 0 {
			continue
		}
		catchUp := (*stats.Aggregator).CatchUp
		if r.IntN(2) == 0 {
			catchUp = (*stats.Aggregator).CatchUpAndSave // saves the users too
		}
		for !survived(catchUp(c, t.Context())) {
		}
		l.checkQueries(t, c, 8, stateOf(t, s))
	}
	killed.commits = -1
	return c
}

// TestMonths_RollUpEqualsDays verifies that a query has the same result before, during and after the roll-up of a month, and after the
// removal of its hours and days unless the query is rejected; also with late scans and killed processes.
func TestMonths_RollUpEqualsDays(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		rolledUp, prunedDays, prunedHours := int64(0), 0, 0
		for seed := range uint64(testscope.Select(3, 1)) {
			r := rand.New(rand.NewPCG(seed, 39))
			require.NoError(t, s.Reset(t.Context()))
			log, events := &scantest.Memory{}, newLongTraffic(r)
			c := events.rollUpRandomly(t, s, log)
			for more := true; more; {
				more = require.Value(c.PruneRollups(t.Context(), events.Now.AddDate(0, 0, -20), events.Now.AddDate(0, 0, -40)))(t)
			}
			events.record(t, log, 200, 1)
			require.NoError(t, c.CatchUpAndSave(t.Context()))
			state := stateOf(t, s)
			events.checkQueries(t, c, 20, state)
			// Late scans restore no rows of removed hours and days.
			for per, from := range map[stats.Granularity]int64{stats.PerHour: state.OldestHour, stats.PerHourOfAll: state.OldestHour,
				stats.PerDay: state.OldestDay, stats.PerDayOfAll: state.OldestDay} {
				require.NoError(t, s.ViewStatistics(t.Context(), func(tx stats.Tx) error {
					first, found, err := tx.FirstCounted(t.Context(), per, 0)
					assert.True(t, !found || first >= from, "oldest bucket of granularity %d = %d, want at least %d", per, first, from)
					return err
				}))
			}
			rolledUp += state.RollupMonth
			if state.OldestDay > 0 {
				prunedDays++
			}
			if state.OldestHour > 0 {
				prunedHours++
			}
			checkRecount(t, c)
		}
		require.True(t, rolledUp != 0 && prunedDays != 0 && prunedHours != 0,
			"months rolled up, runs with pruned days and hours = %d, %d, %d, want none to be 0", rolledUp, prunedDays, prunedHours)
	})
}

// TestMonths_LateScansDuringRollUp records late scans of a month after each part of its roll-up, and kills the process during each part.
func TestMonths_LateScansDuringRollUp(t *testing.T) {
	scantest.WithStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, newLongTraffic(rand.New(rand.NewPCG(3, 9)))
		killed := &killedStore{s, -1}
		c := scantest.NewAggregator(killed, log)
		events.record(t, log, 150, 8)
		later, parts := events.Now.AddDate(0, 3, 0), 0
		roll := func(commits int) (bool, error) {
			killed.commits = commits
			defer func() { killed.commits = -1 }()
			c = scantest.NewAggregator(killed, log)
			c.RowsAtOnce = 3
			return c.Roll(t.Context(), later)
		}
		require.NoError(t, c.CatchUp(t.Context()))
		for more := true; more; parts++ {
			require.ErrorIs(t, assert.ErrorOf(roll(0)), errKilled, "Roll() in a killed process")
			more = require.Value(roll(-1))(t)
			events.Now = began.AddDate(0, 0, parts%20)
			events.record(t, log, 3, 4)
			require.NoError(t, c.CatchUpAndSave(t.Context()))
		}
		require.True(t, parts >= 30, "the roll-up has %d parts, want at least 30", parts)
		for d := stats.Total; d <= stats.Region; d++ {
			for _, metric := range []stats.Metric{stats.Scans, stats.FirstScans, stats.Users} {
				q := stats.Question{From: began.AddDate(-1, 0, 0), To: later, Interval: stats.ByMonth, Group: d, Metric: metric,
					Limit: stats.MaxAnswers}
				diff := cmp.Diff(events.query(q, q.From, q.To), execute(t, c, q))
				assert.Equal(t, diff, "", "%s by %s (-want +got)", metric, d)
			}
		}
		checkRecount(t, c)
	})
}

// rollUpAll rolls up all complete months, and removes the rows of hours and days before the given times.
func rollUpAll(t *testing.T, c *stats.Aggregator, now, hours, days time.Time) {
	t.Helper()
	for more := true; more; {
		more = require.Value(c.Roll(t.Context(), now))(t)
	}
	for more := true; more; {
		more = require.Value(c.PruneRollups(t.Context(), hours, days))(t)
	}
}

// TestMonths_ZoneChangeAfterHoursRemoved changes the time zone repeatedly after hours were removed. Days whose hours are still stored, and
// their months, follow the new zone, and each scan must be counted once.
func TestMonths_ZoneChangeAfterHoursRemoved(t *testing.T) {
	scantest.WithStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, newLongTraffic(rand.New(rand.NewPCG(11, 12)))
		c := scantest.NewAggregator(s, log)
		events.record(t, log, 300, 30)
		require.NoError(t, c.CatchUpAndSave(t.Context()))
		now := events.Now.AddDate(0, 1, 0)
		end := now.AddDate(0, 0, -110)
		rollUpAll(t, c, now, time.Time{}, end)
		state := stateOf(t, s)
		require.True(t, state.OldestDay != 0 && state.OldestHour != 0, "state = %+v, want days and hours to be removed", state)
		for _, zone := range testscope.Select([]int{-12, 14, 0, 8, -5}, []int{-12, 14, 8}) {
			set := settings.Defaults()
			set.UTCOffsetHours = zone
			c.Settings.Set(set)
			events.offset = int64(zone)
			events.record(t, log, 30, 2)
			require.NoError(t, c.CatchUpAndSave(t.Context()))
			for n := range 2 { // before and after months are rolled up again
				if n == 1 {
					rollUpAll(t, c, now, time.Time{}, time.Time{})
				}
				for _, by := range []stats.Interval{stats.AllTime, stats.ByMonth} {
					sum := int64(0)
					q := stats.Question{From: began.AddDate(-1, 0, 0), To: now.AddDate(1, 0, 0), Interval: by, Group: stats.Rule,
						Metric: stats.Scans, Limit: stats.MaxAnswers}
					for _, scans := range execute(t, c, q) {
						sum += scans
					}
					require.Equal(t, sum, events.scans, "scans by %q in zone %d", by, zone)
				}
				state = stateOf(t, s)
				for _, metric := range []stats.Metric{stats.Scans, stats.FirstScans} {
					q := stats.Question{From: stats.PerDay.Start(state.ZoneChangeDay, events.offset), To: now, Interval: stats.ByDay,
						Group: stats.App, Metric: metric, Limit: stats.MaxAnswers}
					diff := cmp.Diff(events.query(q, q.From, q.To), execute(t, c, q))
					require.Equal(t, diff, "", "%s by day in zone %d (-want +got)", metric, zone)
					// Hours up to the zone change and the days after it make up the total since the oldest hour.
					q.Interval, q.From = stats.AllTime, stats.PerHour.Start(state.OldestHour, 0)
					diff = cmp.Diff(events.query(q, q.From, q.To), execute(t, c, q))
					require.Equal(t, diff, "", "total %s in zone %d (-want +got)", metric, zone)
				}
				checkRecount(t, c)
			}
		}
	})
}

// TestMonths_ZoneChangeKeepsFirstDay verifies after the removal of old days that a zone in which the oldest stored day begins later
// removes no rows that a zone in which it begins earlier needs.
func TestMonths_ZoneChangeKeepsFirstDay(t *testing.T) {
	scantest.WithStore(t, func(t *testing.T, s *store.Store) {
		log, r, first := &scantest.Memory{}, rand.New(rand.NewPCG(21, 22)), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		c, sent := scantest.NewAggregator(s, log), []scanlog.Event(nil)
		record := func() {
			t.Helper()
			from := len(sent)
			for n := range 240 {
				now := first.Add(time.Duration(n-24) * time.Hour)
				sent = append(sent, scanlog.Event{ID: scantest.ID(now, r), OccurredAt: now, Source: "scan",
					Text: "https://shop.example/lost/1"})
			}
			require.NoError(t, errors.Join(log.Append(t.Context(), sent[from:]), c.CatchUpAndSave(t.Context())))
		}
		record()
		rollUpAll(t, c, first.AddDate(0, 2, 0), time.Time{}, first.AddDate(0, 0, 10))
		day := timebucket.Day(timebucket.Hour(first), 0)
		require.Equal(t, stateOf(t, s).OldestDay, day, "oldest stored day")
		for _, zone := range []int{-12, 14, -5, 8} {
			set := settings.Defaults()
			set.UTCOffsetHours = zone
			c.Settings.Set(set)
			record()
			rollUpAll(t, c, first.AddDate(0, 2, 0), time.Time{}, time.Time{})
			from, want := stats.PerDay.Start(day, int64(zone)), int64(0)
			for _, e := range sent {
				if !e.OccurredAt.Before(from) {
					want++
				}
			}
			rows, err := c.UnmatchedRows(t.Context(), nil, "", from, first.AddDate(1, 0, 0))
			assert.True(t, err == nil && len(rows) == 1 && rows[0].Scans == want, "zone %d: UnmatchedRows() = %+v, %v, want %d scans",
				zone, rows, err, want)
			_, err = c.UnmatchedRows(t.Context(), nil, "", from.Add(-time.Hour), first.AddDate(1, 0, 0))
			assert.True(t, err != nil, "zone %d: UnmatchedRows() for removed rows succeeds, want an error", zone)
			checkRecount(t, c)
		}
	})
}

// TestMonths_ErasureReachesRollUp verifies that a month has as many users after an erasure as before, and that it no longer identifies
// the erased user.
func TestMonths_ErasureReachesRollUp(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, newLongTraffic(rand.New(rand.NewPCG(13, 14)))
		c := scantest.NewAggregator(s, log)
		c.Random = rand.NewChaCha8([32]byte{1})
		events.record(t, log, 600, 10)
		require.NoError(t, c.CatchUpAndSave(t.Context()))
		now := events.Now.AddDate(0, 2, 0)
		q := stats.Question{From: began.AddDate(-1, 0, 0), To: now, Interval: stats.ByMonth, Group: stats.Source, Metric: stats.Users,
			Limit: stats.MaxAnswers}
		rollUpAll(t, c, began.AddDate(0, 2, 0), time.Time{}, time.Time{})
		want := execute(t, c, q)
		var scan scanlog.Event // of the user who is erased
		for _, e := range events.Sent {
			if e.User != (scanlog.UserHash{}) && e.OccurredAt.Before(began.AddDate(0, 0, 15)) && e.OccurredAt.After(began) {
				scan = e
			}
		}
		n, err := c.Erase(t.Context(), scan.User)
		require.True(t, n != 0 && err == nil, "Erase() = %d, %v, want at least one scan", n, err)
		rollUpAll(t, c, now, time.Time{}, time.Time{})
		checkRecount(t, c)
		rollUpAll(t, c, now, now, now) // keeps only months
		assert.Equal(t, cmp.Diff(want, execute(t, c, q)), "", "users after the erasure (-want +got)")
		// Another scan of the erased user counts as one of a new user.
		scan.ID = scantest.ID(scan.OccurredAt, events.Random)
		require.NoError(t, errors.Join(log.Append(t.Context(), []scanlog.Event{scan}), c.CatchUpAndSave(t.Context())))
		month := "2025-12-31T16:00:00Z " + scan.Source
		assert.Equal(t, execute(t, c, q)[month], want[month]+1, "users after another scan of the erased user")
	})
}
