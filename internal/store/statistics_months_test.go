package store

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

const (
	yearStart = 20454 // 2026-01-01
	yearRules = 100
)

// newAggregator returns an aggregator that has no sums in memory.
func newAggregator(s *Store) *stats.Aggregator {
	return &stats.Aggregator{Store: s, Settings: settings.NewLive(settings.Defaults()), Logger: slog.New(slog.DiscardHandler),
		Now: time.Now}
}

// TestStatistics_YearReadsMonthlyRollUps verifies that a query of a year by rule reads the roll-ups of 11 complete months and the days at
// both ends, and that a query of a part of a month with a roll-up reads the rows of the part only.
func TestStatistics_YearReadsMonthlyRollUps(t *testing.T) {
	dbtest.ForEachDatabase(t, databaseCopies.Postgres, func(t *testing.T, url string) {
		target := newEmbedded(t)
		target.URL = url
		s := open(t, target)
		s.read.SetMaxOpenConns(1)
		c := newAggregator(s)
		update(t, s, func(ctx context.Context, tx *Tx) error {
			var days []stats.CountRow // of up to two years in which each of 100 rules is scanned every day and hour
			for day := yearStart - testscope.Select[int64](365, 45); day < yearStart+365; day++ {
				for rule := int64(1); rule <= yearRules; rule++ {
					days = append(days, stats.CountRow{Granularity: stats.PerDay, Bucket: day, Rule: rule, Tuple: 7,
						Count: stats.Count{Scans: 24, FirstScans: rule % 2}})
				}
				days = append(days, stats.CountRow{Granularity: stats.PerDayOfAll, Bucket: day, Tuple: 7,
					Count: stats.Count{Scans: 24 * yearRules}})
			}
			if err := tx.statistics().AddScanCounts(ctx, days); err != nil {
				return err
			}
			return tx.statistics().PutStatisticsState(ctx, stats.State{CountedOffset: 1, Scans: 1, Offset: 8})
		})
		analyzeTables(t, s)
		query := func() ([]stats.Answer, readCost) {
			q := stats.Question{From: stats.PerDay.Start(yearStart-14, 8), To: stats.PerDay.Start(yearStart+351, 8), Group: stats.Rule,
				Metric: stats.Scans, Limit: yearRules}
			if _, err := c.Execute(t.Context(), q); err != nil { // reads the schema too
				t.Fatal(err)
			}
			before := measureReads(t, s)
			a, err := newAggregator(s).Execute(t.Context(), q)
			require.True(t, err == nil && len(a.Rows) == yearRules && a.Rows[0].Scans == 24*365, "Execute() = %v, %v", a, err)
			return a.Rows, measureReads(t, s).sub(before)
		}
		days, dayCost := query()
		for more := true; more; {
			more = require.Value(c.Roll(t.Context(), time.Date(2027, 1, 10, 0, 0, 0, 0, time.UTC)))(t)
		}
		part := func() readCost {
			before := measureReads(t, s)
			var rows []stats.CountRow
			err := s.view(t.Context(), func(tx *Tx) (err error) {
				rows, err = tx.statistics().CountsFrom(t.Context(), stats.Span{Granularity: stats.PerDay, From: yearStart,
					To: yearStart + 31}, 50, 0, 10)
				return err
			})
			require.True(t, err == nil && len(rows) == 310, "CountsFrom() = %v, %v, want 310 rows", rows, err)
			return measureReads(t, s).sub(before)
		}
		if part(); part().rows > 310+20 || part().pages > 500 {
			t.Errorf("a query of 310 of %d rows of a month reads %+v", 31*yearRules, part())
		}
		months, monthCost := query()
		assert.Equal(t, cmp.Diff(days, months), "", "answers by days and by months (-days +months)")
		// 14 days, 11 months, 17 days.
		if want := int64(yearRules * (14 + 11 + 17)); s.Engine() == "postgres" &&
			(monthCost.rows > want+20 || dayCost.rows < yearRules*365) {
			t.Errorf("a year by rule reads %d rows, want %d; without roll-ups %d", monthCost.rows, want, dayCost.rows)
		}
		assert.True(t, monthCost.pages*4 <= dayCost.pages, "a year by rule reads %d pages, without roll-ups %d, want a quarter",
			monthCost.pages, dayCost.pages)
		t.Logf("a year by rule: %+v, without roll-ups: %+v", monthCost, dayCost)
	})
}
