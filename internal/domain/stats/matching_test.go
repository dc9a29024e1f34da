package stats_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// TestMatching_EqualsFullScan verifies that the pages of a filtered feed equal a filter over all scans, and that a call examines at most
// stats.MaxLooked scans.
func TestMatching_EqualsFullScan(t *testing.T) {
	s := scantest.OpenStore(t, store.Target{Dir: storetest.Folder(t)})
	log := &scantest.Memory{}
	c := scantest.NewAggregator(s, log)
	events := (&scantest.Traffic{Random: rand.New(rand.NewPCG(16, 2)), Now: began, Users: 40}).Take(stats.MaxLooked + 300)
	for i := range events {
		events[i].RuleID = int64(i % 7)
	}
	require.NoError(t, log.Append(t.Context(), events))
	require.NoError(t, c.CatchUpAll(t.Context()))
	first, last := events[0].OccurredAt, events[len(events)-1].OccurredAt
	middle := first.Add(last.Sub(first) / 2)
	for name, test := range map[string]struct {
		filter stats.Filter
		limit  int
		match  func(e scanlog.Event) bool
	}{
		"one rule":  {stats.Filter{Rules: []int64{3}}, 1000, func(e scanlog.Event) bool { return e.RuleID == 3 }},
		"two rules": {stats.Filter{Rules: []int64{3, 5}}, 700, func(e scanlog.Event) bool { return e.RuleID == 3 || e.RuleID == 5 }},
		"one user": {stats.Filter{Users: scanlog.Users{events[9].User: true}}, 1000,
			func(e scanlog.Event) bool { return e.User == events[9].User }},
		"from": {stats.Filter{From: middle}, 1000, func(e scanlog.Event) bool { return !e.OccurredAt.Before(middle) }},
		"to":   {stats.Filter{To: middle}, 1000, func(e scanlog.Event) bool { return e.OccurredAt.Before(middle) }},
		"from, to and rule": {stats.Filter{From: first.Add(time.Minute), To: middle, Rules: []int64{1}}, 1000, func(e scanlog.Event) bool {
			return !e.OccurredAt.Before(first.Add(time.Minute)) && e.OccurredAt.Before(middle) && e.RuleID == 1
		}},
		"rule without scans": {stats.Filter{Rules: []int64{99}}, 1000, func(scanlog.Event) bool { return false }},
	} {
		t.Run(name, func(t *testing.T) {
			var want, got []scanlog.ScanID
			for _, e := range events {
				if test.match(e) {
					want = append(want, e.ID)
				}
			}
			after, calls := scanlog.ScanID{}, 0
			for more := true; more; calls++ {
				var page []stats.Counted
				var examined int
				var err error
				page, after, examined, more, err = c.Matching(t.Context(), after, test.filter, test.limit)
				require.NoError(t, err)
				require.True(t, examined <= stats.MaxLooked && len(page) <= test.limit && (!more || examined != 0),
					"Matching() examined %d scans and returned %d, more: %v, want at most %d and %d",
					examined, len(page), more, stats.MaxLooked, test.limit)
				for _, scan := range page {
					got = append(got, scan.ID)
				}
			}
			assert.True(t, slices.Equal(got, want), "Matching() returned %d scans, want %d", len(got), len(want))
			assert.True(t, len(want) != 0 || calls == 2, "%d calls for %d scans without a match, want 2", calls, len(events))
		})
	}
}

// TestPlace_HostAndFirstSegment verifies that PlaceOf omits the user name and the password of a URL.
func TestPlace_HostAndFirstSegment(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://A.example/B/c?d":           "a.example/B",
		"https://a.example":                 "a.example",
		"https://a.example?b":               "a.example",
		"https://user:password@a.example":   "a.example",
		"https://user:password@a.example/b": "a.example/b",
		"https://user:password@a.example?b": "a.example",
		"a text":                            "(no link)",
	} {
		got, ok := stats.PlaceOf(&scanlog.Event{Text: text})
		assert.True(t, ok && got == want, "PlaceOf(%q) = %q, %v, want %q", text, got, ok, want)
	}
}
