package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// spilled are the files that SQLite has open of what it does not keep in memory.
func spilled(t *testing.T) (names []string) {
	t.Helper()
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(open) == 0 {
		t.Skip("the system does not say which files a process has open")
	}
	for _, fd := range open {
		if name, err := os.Readlink(fd); err == nil && strings.Contains(name, "etilqs_") {
			names = append(names, name)
		}
	}
	return names
}

// Issue 14: nine tenths of what an import wrote was how to take each of its statements back.
func TestSQLiteJournal_ImportInMemory(t *testing.T) {
	s := open(t, newEmbedded(t))
	random := rand.New(rand.NewPCG(14, 2))
	some := func(n int) []rules.Rule {
		all := make([]rules.Rule, n)
		for i := range all {
			all[i] = aRule(t, fmt.Sprint("wx", random.IntN(100)),
				fmt.Sprintf("https://h%d.example/%d/%x", random.IntN(1000), i, random.Uint64()))
			all[i].Path = strings.Repeat("p", 900)
		}
		return all
	}
	update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().AddRules(ctx, some(5000), someone) })
	update(t, s, func(ctx context.Context, tx *Tx) error {
		err := tx.rules().AddRules(ctx, some(1000), someone)
		want(t, "files after rules were added", spilled(t), nil)
		return err
	})
}

// A migration may change every row of a table, for which there would be no memory.
func TestSQLiteJournal_MigrationOnDisk(t *testing.T) {
	s := open(t, newEmbedded(t))
	db, err := s.migrating()
	require.NoError(t, err)
	defer db.Close()
	for _, query := range []string{`CREATE TABLE long (n INTEGER PRIMARY KEY, t TEXT NOT NULL)`,
		`WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 20000)
			INSERT INTO long SELECT n, hex(zeroblob(100)) FROM many`} {
		require.NoError(t, assert.ErrorOf(db.ExecContext(t.Context(), query)))
	}
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer tx.Rollback()
	require.NoError(t, assert.ErrorOf(tx.ExecContext(t.Context(), `UPDATE long SET t = t || 'x'`)))
	want(t, "files of what a migration changes", len(spilled(t)), 1)
}

// In another zone days are counted again from their hours, some days at once.
func TestStatistics_DaysRecomputedForTimeZone(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		const first = 24 * (20454 - 100) // hours, some months before 2026
		type at struct{ per, at, rule int64 }
		counts := map[at]int64{}
		random := rand.New(rand.NewPCG(14, 5))
		add := func(ctx context.Context, tx *Tx, per, hour, n int64) error {
			_, err := tx.exec(ctx, `INSERT INTO statistics_counts (granularity, bucket, rule, tuple, scans, first_scans) VALUES ($1, $2, 7, 1, $3, 0)
				ON CONFLICT (granularity, bucket, rule, tuple) DO UPDATE SET scans = statistics_counts.scans + excluded.scans`, per, hour, n)
			if err == nil && per == 0 {
				_, err = tx.exec(ctx, `INSERT INTO statistics_sums (granularity, dimension, bucket, value, scans, first_scans) VALUES ($1, 2, $2, 'v', $3, 0)
					ON CONFLICT (granularity, dimension, bucket, value) DO UPDATE SET scans = statistics_sums.scans + excluded.scans`, per, hour, n)
			}
			return err
		}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			clear(counts)
			for range 300 {
				for _, per := range []int64{0, 2} {
					hour, n := first+random.Int64N(150*24), 1+random.Int64N(9)
					counts[at{per, hour, 7}] += n
					if err := add(ctx, tx, per, hour, n); err != nil {
						return err
					}
				}
			}
			return nil
		})
		was := int64(5)
		for _, offset := range []int64{0, 8, -11, 14} {
			wanted := map[at]int64{}
			for hour, n := range counts {
				wanted[at{hour.per + 1, (hour.at + offset) / 24, 7}] += n
			}
			got, sums := map[at]int64{}, map[int64]int64{}
			update(t, s, func(ctx context.Context, tx *Tx) error {
				if err := tx.statistics().ShiftDays(ctx, first-100, was, offset, 0); err != nil {
					return err
				}
				if _, err := list(ctx, tx, func(scan func(...any) error) (a at, err error) {
					var n int64
					err = scan(&a.per, &a.at, &a.rule, &n)
					got[a] = n
					return a, err
				}, `SELECT granularity, bucket, rule, scans FROM statistics_counts WHERE granularity IN (1, 3)`); err != nil {
					return err
				}
				_, err := list(ctx, tx, func(scan func(...any) error) (day int64, err error) {
					var n int64
					err = scan(&day, &n)
					sums[day] = n
					return day, err
				}, `SELECT bucket, scans FROM statistics_sums WHERE granularity = 1 AND dimension = 2`)
				return err
			})
			was = offset
			want(t, fmt.Sprint("days at ", offset), got, wanted)
			wantedSums := map[int64]int64{}
			for day, n := range wanted {
				if day.per == 1 {
					wantedSums[day.at] = n
				}
			}
			want(t, fmt.Sprint("sums at ", offset), sums, wantedSums)
		}
	})
}
