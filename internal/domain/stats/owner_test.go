package stats_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
)

// TestOwnerStats_DuringRollUpAndRetention compares the scans and users of owners with all scans one by one, after months were rolled up
// and the scan log removed old scans.
func TestOwnerStats_DuringRollUpAndRetention(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		r := rand.New(rand.NewPCG(31, 1))
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: r, Now: began, Users: 100}
		sum := newNaive()
		c := scantest.NewAggregator(s, log)
		c.Now = func() time.Time { return events.Now }
		for range 12 {
			list := events.Take(300)
			require.NoError(t, log.Append(t.Context(), list))
			sum.add(list...)
			require.NoError(t, c.CatchUpAndSave(t.Context()))
			for more := true; more; {
				more = require.Value(c.Roll(t.Context(), events.Now))(t)
			}
			events.Now = events.Now.Add(9 * 24 * time.Hour)
		}
		require.NoError(t, log.Forget(t.Context(), events.Now.AddDate(0, -2, 0)))
		checkCounts(t, c, sum)
		sent := events.Sent
		values := map[stats.Dimension]func(*scanlog.Event) string{
			stats.Total:  func(*scanlog.Event) string { return "" },
			stats.Region: func(e *scanlog.Event) string { return e.Region },
			stats.App:    func(e *scanlog.Event) string { return e.App },
			stats.Owner:  scantest.OwnerOf,
			stats.Rule:   func(e *scanlog.Event) string { return stats.Tuple{Rule: e.RuleID}.Value(stats.Rule) },
			stats.Batch:  func(e *scanlog.Event) string { return stats.Tuple{Batch: e.Batch}.Value(stats.Batch) },
		}
		filters := []map[stats.Dimension]string{nil, {stats.Region: "CN-31"}, {stats.Rule: "5"}, {stats.Rule: ""},
			{stats.Batch: "500000001"}, {stats.Batch: "", stats.App: "wx1"}}
		for _, owners := range [][]string{nil, {"wxa"}, {"wxgone"}, {"wxb", "wxc"}, {""}, {"wx of nobody"}} {
			for _, filter := range filters {
				for group, value := range values {
					for _, by := range []stats.Interval{stats.AllTime, stats.ByMonth} {
						want := map[string]int64{}
						for i := range sent {
							e := &sent[i]
							matches := owners == nil || slices.Contains(owners, scantest.OwnerOf(e))
							for d, v := range filter {
								matches = matches && values[d](e) == v
							}
							if !matches {
								continue
							}
							month := ""
							if by == stats.ByMonth {
								month = e.OccurredAt.Add(8 * time.Hour).UTC().Format("2006-01 ")
							}
							want[month+value(e)]++
						}
						got := map[string]int64{}
						a := require.Value(c.Execute(t.Context(), stats.Question{From: began.AddDate(0, -1, 0), To: began.AddDate(1, 0, 0),
							Interval: by, Group: group, Filter: filter, Owners: owners, Metric: stats.Scans, Limit: stats.MaxAnswers}))(t)
						for _, row := range a.Rows {
							month := ""
							if by == stats.ByMonth {
								month = stats.ByMonth.Start(row.Bucket, 8).Add(8 * time.Hour).UTC().Format("2006-01 ")
							}
							got[month+row.Value] += row.Scans
						}
						assert.Equal(t, cmp.Diff(want, got), "", "scans of %q by %q, %s, with %v (-want +got)", owners, by, group, filter)
					}
				}
			}
			checkUsers(t, c, sent, owners)
		}
	})
}

// checkUsers compares the number of distinct users of owners with the users of all scans.
func checkUsers(t *testing.T, c *stats.Aggregator, sent []scanlog.Event, owners []string) {
	t.Helper()
	if owners == nil || owners[0] == "" {
		return
	}
	layouts := map[stats.Interval]string{stats.ByDay: "2006-01-02", stats.ByMonth: "2006-01"}
	for _, group := range []stats.Dimension{stats.Total, stats.Owner} {
		for _, by := range []stats.Interval{stats.AllTime, stats.ByDay, stats.ByMonth} {
			users := map[string]map[scanlog.UserHash]bool{}
			for i := range sent {
				e := &sent[i]
				if e.User == (scanlog.UserHash{}) || !slices.Contains(owners, scantest.OwnerOf(e)) {
					continue
				}
				key := ""
				if by != stats.AllTime {
					key = e.OccurredAt.Add(8 * time.Hour).UTC().Format(layouts[by])
				}
				if group == stats.Owner {
					key += scantest.OwnerOf(e)
				}
				if users[key] == nil {
					users[key] = map[scanlog.UserHash]bool{}
				}
				users[key][e.User] = true
			}
			want, got := map[string]int64{}, map[string]int64{}
			for key, set := range users {
				want[key] = int64(len(set))
			}
			a, err := c.Execute(t.Context(), stats.Question{From: began.AddDate(0, -1, 0), To: began.AddDate(1, 0, 0), Interval: by,
				Group: group, Owners: owners, Metric: stats.Users, Limit: stats.MaxAnswers})
			require.NoError(t, err)
			for _, row := range a.Rows {
				key := ""
				if by != stats.AllTime {
					key = by.Start(row.Bucket, 8).Add(8 * time.Hour).UTC().Format(layouts[by])
				}
				got[key+row.Value] = row.Users
			}
			assert.Equal(t, cmp.Diff(want, got), "", "users of %q by %q, %s (-want +got)", owners, by, group)
		}
	}
}

// TestOwnerStats_RulesAndApplications verifies the owners of rules and applications, also of deleted and of unknown ones.
func TestOwnerStats_RulesAndApplications(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		c := scantest.NewAggregator(s, &scantest.Memory{})
		for ids, want := range map[[2]int64]string{{1}: "wxa", {2}: "wxb", {5}: "wxgone", {77}: "",
			{0, 500000001}: "wxa", {0, 500000002}: "wxc", {0, 7}: "", {}: ""} {
			got, err := c.Owner(t.Context(), ids[0], ids[1])
			assert.True(t, err == nil && got == want, "Owner(rule %d, application %d) = %q, %v, want %q", ids[0], ids[1], got, err, want)
		}
		assert.Equal(t, fmt.Sprint(stats.OwnerNumber("wxa"), stats.OwnerNumber("")), "7620581168144079669 0",
			"OwnerNumber, which is stored and must not change,")
	})
}
