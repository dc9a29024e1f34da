package stats_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// dying is a store whose next transactions are ended before they are stored, as by a kill, when so many were done.
type dying struct {
	*store.Store
	lives int // -1 = for ever
}

var errKilled = errors.New("killed")

func (s *dying) UpdateStatistics(ctx context.Context, f func(stats.Tx) error) error {
	return s.Store.UpdateStatistics(ctx, func(tx stats.Tx) error {
		if err := f(tx); err != nil || s.lives < 0 {
			return err
		}
		if s.lives == 0 {
			return errKilled
		}
		s.lives--
		return nil
	})
}

// longTraffic is scans of months, some of them days late and some months.
type longTraffic struct {
	scantest.Traffic
	*naive
	first []bool // of each that was sent: it was the first scan of its code
	dims  []map[stats.Dimension]string
}

func newLongTraffic(r *rand.Rand) *longTraffic {
	return &longTraffic{scantest.Traffic{Random: r, Now: began, Users: 60}, newNaive(8), nil, nil}
}

// come appends scans to a log.
func (l *longTraffic) come(t *testing.T, log *scantest.Memory, n, hours int) {
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
		l.first = append(l.first, e.Batch != 0 && l.codes[name] == 0)
		l.dims = append(l.dims, l.values(e))
		l.add(e)
	}
	require.NoError(t, log.Append(t.Context(), l.Sent[from:]))
}

// at is the hour, day, week or month of a moment, cut by the calendar.
func (l *longTraffic) begins(by stats.Interval, at time.Time) time.Time {
	at = at.In(time.FixedZone("", int(l.offset)*3600))
	y, m, d := at.Date()
	switch by {
	case stats.ByHour:
		return at.Truncate(time.Hour).UTC()
	case stats.ByWeek:
		d -= (int(at.Weekday()) + 6) % 7
	case stats.ByMonth:
		d = 1
	case stats.AllTime:
		return time.Unix(0, 0).UTC()
	}
	return time.Date(y, m, d, 0, 0, 0, 0, at.Location()).UTC()
}

// ask adds up one by one what a question is answered with.
func (l *longTraffic) ask(q stats.Question, from, to time.Time) map[string]int64 {
	all, users := map[string]int64{}, map[string]map[scanlog.UserHash]bool{}
next:
	for i, e := range l.Sent {
		if e.OccurredAt.Before(from) || !e.OccurredAt.Before(to) {
			continue
		}
		values := l.dims[i]
		for dim, wanted := range q.Filter {
			if values[dim] != wanted {
				continue next
			}
		}
		key := fmt.Sprint(l.begins(q.Interval, e.OccurredAt).Format(time.RFC3339), " ", values[q.Group])
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

// question makes one up.
func (l *longTraffic) question() stats.Question {
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
	if q.Metric == stats.Users { // of one dimension
		clear(q.Filter)
		if q.Interval == stats.ByHour {
			q.Interval = stats.ByMonth
		}
	}
	return q
}

// shown is an answer in the words of ask.
func shown(q stats.Question, a stats.QueryResult) map[string]int64 {
	all := map[string]int64{}
	for _, row := range a.Rows {
		at := time.Unix(0, 0).UTC()
		if q.Interval != stats.AllTime {
			at = q.Interval.Start(row.Bucket, a.Offset)
		}
		all[fmt.Sprint(at.Format(time.RFC3339), " ", row.Value)] = map[stats.Metric]int64{stats.Scans: row.Scans,
			stats.FirstScans: row.FirstScans, stats.Users: row.Users}[q.Metric]
	}
	return all
}

func answer(t *testing.T, c *stats.Aggregator, q stats.Question) map[string]int64 {
	t.Helper()
	a, err := c.Execute(t.Context(), q)
	require.True(t, err == nil && !a.More, "%v %v", err, a.More)
	return shown(q, a)
}

// holds asks questions, and wants the right answers or a reason for none.
func (l *longTraffic) holds(t *testing.T, c *stats.Aggregator, n int, state stats.State) {
	t.Helper()
	kept := map[stats.Interval]time.Time{stats.ByHour: stats.PerHour.Start(state.OldestHour, l.offset),
		stats.ByDay: stats.PerDay.Start(state.OldestDay, l.offset), stats.ByWeek: stats.PerDay.Start(state.OldestDay, l.offset)}
	for i := range n + 2 {
		q := stats.Question{From: began, To: l.Now.Add(time.Hour), Group: stats.App, Metric: stats.Scans, Limit: stats.MaxAnswers}
		if i == n { // the same days as before, with late scans
			q.To = began.AddDate(0, 1, 0)
		} else if i < n {
			q = l.question()
		}
		a, err := c.Execute(t.Context(), q)
		if bad := stats.BadQuestion(""); errors.As(err, &bad) {
			since, can := kept[q.Interval]
			can = can && l.begins(q.Interval, q.From).Before(since)
			require.True(t, can && strings.Contains(bad.Error(), "begin at 20"), "%+v is refused: %v", q, err)
			continue
		}
		require.True(t, err == nil && !a.More, "%+v: %d rows, %v", q, len(a.Rows), err)
		got := shown(q, a)
		diff := cmp.Diff(l.ask(q, a.From, a.To), got)
		require.True(t, diff == "", "%+v: %v to %v (-want +got):\n%s\n%+v", q, a.From, a.To, diff, state)
		if page := q; q.Interval == stats.AllTime && q.Metric != stats.Users {
			page.Offset, page.Limit = 1, 2
			part, err := c.Execute(t.Context(), page)
			require.NoError(t, err)
			require.Equal(t, cmp.Diff(a.Rows[min(1, len(a.Rows)):min(3, len(a.Rows))], part.Rows), "", "rows 1 and 2 of %+v", q)
		}
		// No further than the ends of what is kept at both ends.
		wider := func(by stats.Interval, from time.Time) time.Time { return l.begins(by, from) }
		by := q.Interval
		if by == stats.AllTime {
			if by = stats.ByHour; q.Metric == stats.Users {
				by = stats.ByDay
			}
			if q.From.Before(kept[stats.ByHour]) {
				by = stats.ByDay
			}
			if q.From.Before(kept[stats.ByDay]) {
				by = stats.ByMonth
			}
		}
		want := wider(by, q.From)
		require.True(t, a.From.Equal(want), "%+v is answered from %v, want %v, %+v", q, a.From, want, state)
		require.True(t, !a.To.Before(q.To) && a.To.Sub(q.To) <= 32*24*time.Hour, "%+v is answered up to %v", q, a.To)
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

// TestMonths_RollUpEqualsDays: a query has the same result before, during and after the roll-up of a month, and after the removal of its
// hours and days unless the query is rejected; also with late scans and killed processes.
func TestMonths_RollUpEqualsDays(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		rolled, removed, refused := int64(0), 0, 0
		for seed := range uint64(testscope.Choose(3, 1)) {
			r := rand.New(rand.NewPCG(seed, 39))
			require.NoError(t, s.Reset(t.Context()))
			log, events := &scantest.Memory{}, newLongTraffic(r)
			mortal := &dying{s, -1}
			born := func() *stats.Aggregator {
				c := scantest.NewCounter(mortal, log)
				c.Now = func() time.Time { return events.Now }
				c.RowsAtOnce = 2 + r.IntN(5)
				mortal.lives = -1
				if r.IntN(2) == 0 {
					mortal.lives = r.IntN(12)
				}
				return c
			}
			c := born()
			// may is whether a step ended well; else another process goes on.
			may := func(err error) bool {
				t.Helper()
				require.True(t, err == nil || errors.Is(err, errKilled), "%v", err)
				if err != nil {
					c = born()
				}
				return err == nil
			}
			for range 20 {
				switch r.IntN(5) {
				case 0, 1:
					events.come(t, log, 200, 5)
				case 2:
					more, err := c.Roll(t.Context(), events.Now)
					for n := r.IntN(60); may(err) && more && n > 0; n-- {
						more, err = c.Roll(t.Context(), events.Now)
					}
				case 3:
					days := 20 + r.IntN(100)
					hours, old := events.Now.AddDate(0, 0, -days/2), events.Now.AddDate(0, 0, -days)
					if r.IntN(3) == 0 {
						old = time.Time{}
					}
					more, err := c.PruneRollups(t.Context(), hours, old)
					for n := r.IntN(60); may(err) && more && n > 0; n-- {
						more, err = c.PruneRollups(t.Context(), hours, old)
					}
				}
				if len(events.Sent) == 0 {
					continue
				}
				catchUp := (*stats.Aggregator).CatchUp
				if r.IntN(2) == 0 {
					catchUp = (*stats.Aggregator).CatchUpAndSave // and the users
				}
				for !may(catchUp(c, t.Context())) {
				}
				events.holds(t, c, 8, stateOf(t, s))
			}
			mortal.lives = -1
			for more := true; more; {
				var err error
				more, err = c.PruneRollups(t.Context(), events.Now.AddDate(0, 0, -20), events.Now.AddDate(0, 0, -40))
				require.NoError(t, err)
			}
			events.come(t, log, 200, 1)
			require.NoError(t, c.CatchUpAndSave(t.Context()))
			state := stateOf(t, s)
			events.holds(t, c, 20, state)
			// Nothing is kept of removed hours and days, however late.
			for per, from := range map[stats.Granularity]int64{stats.PerHour: state.OldestHour, stats.PerHourOfAll: state.OldestHour,
				stats.PerDay: state.OldestDay, stats.PerDayOfAll: state.OldestDay} {
				require.NoError(t, s.ViewStatistics(t.Context(), func(tx stats.Tx) error {
					first, found, err := tx.FirstCounted(t.Context(), per, 0)
					assert.True(t, !found || first >= from, "something is kept of %d of sort %d, before %d", first, per, from)
					return err
				}))
			}
			rolled += state.RollupMonth
			if state.OldestDay > 0 {
				removed++
			}
			if state.OldestHour > 0 {
				refused++
			}
			noDifference(t, c)
		}
		require.True(t, rolled != 0 && removed != 0 && refused != 0, "the test tried nothing: %d %d %d", rolled, removed, refused)
	})
}

// TestMonths_LateScansDuringRollUp: scans of a month come after each part of it that is
// rolled up; before the next one the process is killed.
func TestMonths_LateScansDuringRollUp(t *testing.T) {
	scantest.OneStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, newLongTraffic(rand.New(rand.NewPCG(3, 9)))
		mortal := &dying{s, -1}
		c := scantest.NewCounter(mortal, log)
		events.come(t, log, 150, 8)
		later, parts := events.Now.AddDate(0, 3, 0), 0
		roll := func(lives int) (bool, error) {
			mortal.lives = lives
			defer func() { mortal.lives = -1 }()
			c = scantest.NewCounter(mortal, log)
			c.RowsAtOnce = 3
			return c.Roll(t.Context(), later)
		}
		require.NoError(t, c.CatchUp(t.Context()))
		for more := true; more; parts++ {
			if _, err := roll(0); !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			var err error
			more, err = roll(-1)
			require.NoError(t, err)
			events.Now = began.AddDate(0, 0, parts%20)
			events.come(t, log, 3, 4)
			require.NoError(t, c.CatchUpAndSave(t.Context()))
		}
		require.True(t, parts >= 30, "%d parts", parts)
		for d := stats.Total; d <= stats.Region; d++ {
			for _, what := range []stats.Metric{stats.Scans, stats.FirstScans, stats.Users} {
				q := stats.Question{From: began.AddDate(-1, 0, 0), To: later, Interval: stats.ByMonth, Group: d, Metric: what,
					Limit: stats.MaxAnswers}
				if want, got := events.ask(q, q.From, q.To), answer(t, c, q); !maps.Equal(want, got) {
					t.Errorf("%s by %s: %s", what, d, cmp.Diff(want, got))
				}
			}
		}
		noDifference(t, c)
	})
}

// rolledAll rolls up and removes all that is due.
func rolledAll(t *testing.T, c *stats.Aggregator, now, hours, days time.Time) {
	t.Helper()
	for more := true; more; {
		var err error
		more, err = c.Roll(t.Context(), now)
		require.NoError(t, err)
	}
	for more := true; more; {
		var err error
		more, err = c.PruneRollups(t.Context(), hours, days)
		require.NoError(t, err)
	}
}

// TestMonths_ZoneChangeAfterHoursRemoved: days of hours that are there are cut by the new zone,
// and months from them; each scan counts once all the same, and to and fro.
func TestMonths_ZoneChangeAfterHoursRemoved(t *testing.T) {
	scantest.OneStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, newLongTraffic(rand.New(rand.NewPCG(11, 12)))
		c := scantest.NewCounter(s, log)
		events.come(t, log, 300, 30)
		require.NoError(t, c.CatchUpAndSave(t.Context()))
		now := events.Now.AddDate(0, 1, 0)
		end := now.AddDate(0, 0, -110)
		rolledAll(t, c, now, time.Time{}, end)
		state := stateOf(t, s)
		require.True(t, state.OldestDay != 0 && state.OldestHour != 0, "%+v", state)
		for _, zone := range testscope.Choose([]int{-12, 14, 0, 8, -5}, []int{-12, 14, 8}) {
			set := settings.Defaults()
			set.UTCOffsetHours = zone
			c.Settings.Set(set)
			events.offset = int64(zone)
			events.come(t, log, 30, 2)
			require.NoError(t, c.CatchUpAndSave(t.Context()))
			for n := range 2 { // before and after months are rolled up again
				if n == 1 {
					rolledAll(t, c, now, time.Time{}, time.Time{})
				}
				for _, by := range []stats.Interval{stats.AllTime, stats.ByMonth} {
					q := stats.Question{From: began.AddDate(-1, 0, 0), To: now.AddDate(1, 0, 0), Interval: by, Group: stats.Rule,
						Metric: stats.Scans,
						Limit:  stats.MaxAnswers}
					sum := int64(0)
					for _, n := range answer(t, c, q) {
						sum += n
					}
					require.True(t, sum == events.scans, "zone %d: %d scans by %q, want %d", zone, sum, by, events.scans)
				}
				state = stateOf(t, s)
				for _, what := range []stats.Metric{stats.Scans, stats.FirstScans} {
					q := stats.Question{From: stats.PerDay.Start(state.ZoneChangeDay, events.offset), To: now, Interval: stats.ByDay,
						Group: stats.App, Metric: what, Limit: stats.MaxAnswers}
					if want, got := events.ask(q, q.From, q.To), answer(t, c, q); !maps.Equal(want, got) {
						t.Fatalf("zone %d: %s", zone, cmp.Diff(want, got))
					}
					// The hours at the seam and the days behind it are all there is since then.
					q.Interval, q.From = stats.AllTime, stats.PerHour.Start(state.OldestHour, 0)
					if want, got := events.ask(q, q.From, q.To), answer(t, c, q); !maps.Equal(want, got) {
						t.Fatalf("zone %d: %s", zone, cmp.Diff(want, got))
					}
				}
				noDifference(t, c)
			}
		}
	})
}

// TestMonths_ZoneChangeKeepsFirstDay: where old days are removed, a zone in which the
// first day that is kept begins later takes nothing from one in which it begins sooner.
func TestMonths_ZoneChangeKeepsFirstDay(t *testing.T) {
	scantest.OneStore(t, func(t *testing.T, s *store.Store) {
		log, r, first := &scantest.Memory{}, rand.New(rand.NewPCG(21, 22)), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		c, sent := scantest.NewCounter(s, log), []scanlog.Event(nil)
		come := func(hours int) {
			t.Helper()
			from := len(sent)
			for n := range hours {
				at := first.Add(time.Duration(n-24) * time.Hour)
				sent = append(sent, scanlog.Event{ID: scantest.ID(at, r), OccurredAt: at, Source: "scan",
					Text: "https://shop.example/lost/1"})
			}
			require.NoError(t, errors.Join(log.Append(t.Context(), sent[from:]), c.CatchUpAndSave(t.Context())))
		}
		come(240)
		rolledAll(t, c, first.AddDate(0, 2, 0), time.Time{}, first.AddDate(0, 0, 10))
		day := timebucket.Day(timebucket.Hour(first), 0)
		require.Equal(t, stateOf(t, s).OldestDay, day, "stateOf(t, s).DaysFrom")
		for _, zone := range []int{-12, 14, -5, 8} {
			set := settings.Defaults()
			set.UTCOffsetHours = zone
			c.Settings.Set(set)
			come(240)
			rolledAll(t, c, first.AddDate(0, 2, 0), time.Time{}, time.Time{})
			from, want := stats.PerDay.Start(day, int64(zone)), int64(0)
			for _, e := range sent {
				if !e.OccurredAt.Before(from) {
					want++
				}
			}
			misses, err := c.UnmatchedRows(t.Context(), nil, "", from, first.AddDate(1, 0, 0))
			assert.True(t, err == nil && len(misses) == 1 && misses[0].Scans == want, "zone %d: %+v, want %d: %v", zone, misses, want, err)
			_, err = c.UnmatchedRows(t.Context(), nil, "", from.Add(-time.Hour), first.AddDate(1, 0, 0))
			assert.True(t, err != nil, "zone %d: a query for removed rows succeeds", zone)
			noDifference(t, c)
		}
	})
}

// TestMonths_ErasureReachesRollUp: after an erasure, a month has as many users as before, but does not identify the erased user.
func TestMonths_ErasureReachesRollUp(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, newLongTraffic(rand.New(rand.NewPCG(13, 14)))
		c := scantest.NewCounter(s, log)
		c.Random = rand.NewChaCha8([32]byte{1})
		events.come(t, log, 600, 10)
		require.NoError(t, c.CatchUpAndSave(t.Context()))
		now := events.Now.AddDate(0, 2, 0)
		q := stats.Question{From: began.AddDate(-1, 0, 0), To: now, Interval: stats.ByMonth, Group: stats.Source, Metric: stats.Users,
			Limit: stats.MaxAnswers}
		rolledAll(t, c, began.AddDate(0, 2, 0), time.Time{}, time.Time{})
		want := answer(t, c, q)
		var somebody scanlog.Event
		for _, e := range events.Sent {
			if e.User != (scanlog.UserHash{}) && e.OccurredAt.Before(began.AddDate(0, 0, 15)) && e.OccurredAt.After(began) {
				somebody = e
			}
		}
		n, err := c.Erase(t.Context(), somebody.User)
		require.True(t, n != 0 && err == nil, "%v %v", n, err)
		rolledAll(t, c, now, time.Time{}, time.Time{})
		noDifference(t, c)
		rolledAll(t, c, now, now, now) // months alone are left
		if got := answer(t, c, q); !maps.Equal(want, got) {
			t.Error(cmp.Diff(want, got))
		}
		// The same user again is somebody else.
		somebody.ID = scantest.ID(somebody.OccurredAt, events.Random)
		require.NoError(t, errors.Join(log.Append(t.Context(), []scanlog.Event{somebody}), c.CatchUpAndSave(t.Context())))
		month := "2025-12-31T16:00:00Z " + somebody.Source
		got := answer(t, c, q)
		assert.True(t, got[month] == want[month]+1, "%d users, want one more than %d", got[month], want[month])
	})
}
