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
)

const (
	yearFrom  = 20454 // 2026-01-01
	yearRules = 100
)

// newAggregator returns an aggregator that has no sums in memory.
func newAggregator(s *Store) *stats.Aggregator {
	return &stats.Aggregator{Store: s, Settings: settings.NewLive(settings.Defaults()), Logger: slog.New(slog.DiscardHandler),
		Now: time.Now}
}

// TestStatistics_YearReadsMonthlyRollUps: a year by rule reads the 11 months that are whole and the days at
// its ends; a part of a month that is rolled up reads its own rows.
func TestStatistics_YearReadsMonthlyRollUps(t *testing.T) {
	dbtest.OnEach(t, copies.Postgres, func(t *testing.T, url string) {
		target := newEmbedded(t)
		target.URL = url
		s := open(t, target)
		s.read.SetMaxOpenConns(1)
		c := newAggregator(s)
		update(t, s, func(ctx context.Context, tx *Tx) error {
			var days []stats.CountRow // of two years in which each of 100 rules is scanned every day and hour
			for day := int64(yearFrom - 365); day < yearFrom+365; day++ {
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
		settled(t, s)
		ask := func() ([]stats.Answer, read) {
			q := stats.Question{From: stats.PerDay.Start(yearFrom-14, 8), To: stats.PerDay.Start(yearFrom+351, 8), Group: stats.Rule,
				Metric: stats.Scans, Limit: yearRules}
			if _, err := c.Execute(t.Context(), q); err != nil { // reads the schema, too
				t.Fatal(err)
			}
			before := reads(t, s)
			a, err := newAggregator(s).Execute(t.Context(), q)
			require.True(t, err == nil && len(a.Rows) == yearRules && a.Rows[0].Scans == 24*365, "%v %v", err, a)
			after := reads(t, s)
			return a.Rows, read{after.rows - before.rows, after.pages - before.pages}
		}
		days, cost := ask()
		for more := true; more; {
			var err error
			more, err = c.Roll(t.Context(), time.Date(2027, 1, 10, 0, 0, 0, 0, time.UTC))
			require.NoError(t, err)
		}
		part := func() (read read) {
			before := reads(t, s)
			var rows []stats.CountRow
			err := s.view(t.Context(), func(tx *Tx) (err error) {
				rows, err = tx.statistics().CountsFrom(t.Context(), stats.Span{Granularity: stats.PerDay, From: yearFrom,
					To: yearFrom + 31}, 50, 0, 10)
				return err
			})
			require.True(t, err == nil && len(rows) == 310, "%v %v", err, rows)
			after := reads(t, s)
			read.rows, read.pages = after.rows-before.rows, after.pages-before.pages
			return read
		}
		if part(); part().rows > 310+20 || part().pages > 500 {
			t.Errorf("310 rows of a month cost %+v, of %d", part(), 31*yearRules)
		}
		months, less := ask()
		diff := cmp.Diff(days, months)
		assert.True(t, diff == "", "%v", diff)
		// 14 days, 11 months, 17 days.
		if want := int64(yearRules * (14 + 11 + 17)); s.Engine() == "postgres" && (less.rows > want+20 || cost.rows < yearRules*365) {
			t.Errorf("a year by rule reads %d rows, want %d; by days alone %d", less.rows, want, cost.rows)
		}
		assert.True(t, less.pages*4 <= cost.pages, "a year by rule reads %d pages, by days alone %d", less.pages, cost.pages)
		t.Logf("a year by rule: %+v, by days alone: %+v", less, cost)
	})
}
