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

// listTempFiles returns the temporary files that SQLite has open.
func listTempFiles(t *testing.T) (names []string) {
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

// TestSQLiteJournal_ImportInMemory verifies that SQLite keeps the statement journals of an import in memory; as files they would be nine
// tenths of what an import writes.
func TestSQLiteJournal_ImportInMemory(t *testing.T) {
	s := open(t, newEmbedded(t))
	random := rand.New(rand.NewPCG(14, 2))
	randomRules := func(n int) []rules.Rule {
		all := make([]rules.Rule, n)
		for i := range all {
			all[i] = newRule(t, fmt.Sprint("wx", random.IntN(100)),
				fmt.Sprintf("https://h%d.example/%d/%x", random.IntN(1000), i, random.Uint64()))
			all[i].Path = strings.Repeat("p", 900)
		}
		return all
	}
	update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().AddRules(ctx, randomRules(5000), addMeta) })
	update(t, s, func(ctx context.Context, tx *Tx) error {
		err := tx.rules().AddRules(ctx, randomRules(1000), addMeta)
		check(t, "temporary files after AddRules", listTempFiles(t), nil)
		return err
	})
}

// TestSQLiteJournal_MigrationOnDisk verifies that a migration, which may change all rows of a table, keeps its journal in a file.
func TestSQLiteJournal_MigrationOnDisk(t *testing.T) {
	s := open(t, newEmbedded(t))
	db := require.Value(s.migrating())(t)
	defer db.Close()
	for _, query := range []string{`CREATE TABLE long (n INTEGER PRIMARY KEY, t TEXT NOT NULL)`,
		`WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 20000)
			INSERT INTO long SELECT n, hex(zeroblob(100)) FROM many`} {
		require.NoError(t, assert.ErrorOf(db.ExecContext(t.Context(), query)))
	}
	tx := require.Value(db.BeginTx(t.Context(), nil))(t)
	defer tx.Rollback()
	require.NoError(t, assert.ErrorOf(tx.ExecContext(t.Context(), `UPDATE long SET t = t || 'x'`)))
	check(t, "temporary files of a migration", len(listTempFiles(t)), 1)
}

// TestStatistics_DaysRecomputedForTimeZone verifies that ShiftDays computes the counts of days from those of hours after a change of the
// time zone.
func TestStatistics_DaysRecomputedForTimeZone(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		const first = 24 * (20454 - 100) // hours, some months before 2026
		type countKey struct{ granularity, bucket, rule int64 }
		counts := map[countKey]int64{}
		random := rand.New(rand.NewPCG(14, 5))
		add := func(ctx context.Context, tx *Tx, granularity, hour, n int64) error {
			_, err := tx.exec(ctx, `INSERT INTO statistics_counts (granularity, bucket, rule, tuple, scans, first_scans)
				VALUES ($1, $2, 7, 1, $3, 0)
				ON CONFLICT (granularity, bucket, rule, tuple) DO UPDATE SET scans = statistics_counts.scans + excluded.scans`,
				granularity, hour, n)
			if err == nil && granularity == 0 {
				_, err = tx.exec(ctx, `INSERT INTO statistics_sums (granularity, dimension, bucket, value, scans, first_scans)
					VALUES ($1, 2, $2, 'v', $3, 0)
					ON CONFLICT (granularity, dimension, bucket, value) DO UPDATE SET scans = statistics_sums.scans + excluded.scans`,
					granularity, hour, n)
			}
			return err
		}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			clear(counts)
			for range 300 {
				for _, granularity := range []int64{0, 2} {
					hour, n := first+random.Int64N(150*24), 1+random.Int64N(9)
					counts[countKey{granularity, hour, 7}] += n
					if err := add(ctx, tx, granularity, hour, n); err != nil {
						return err
					}
				}
			}
			return nil
		})
		oldOffset := int64(5)
		for _, offset := range []int64{0, 8, -11, 14} {
			wanted := map[countKey]int64{}
			for hour, n := range counts {
				wanted[countKey{hour.granularity + 1, (hour.bucket + offset) / 24, 7}] += n
			}
			got, sums := map[countKey]int64{}, map[int64]int64{}
			update(t, s, func(ctx context.Context, tx *Tx) error {
				if err := tx.statistics().ShiftDays(ctx, first-100, oldOffset, offset, 0); err != nil {
					return err
				}
				if _, err := list(ctx, tx, func(scan func(...any) error) (key countKey, err error) {
					var n int64
					err = scan(&key.granularity, &key.bucket, &key.rule, &n)
					got[key] = n
					return key, err
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
			oldOffset = offset
			check(t, fmt.Sprint("counts of days with offset ", offset), got, wanted)
			wantedSums := map[int64]int64{}
			for day, n := range wanted {
				if day.granularity == 1 {
					wantedSums[day.bucket] = n
				}
			}
			check(t, fmt.Sprint("sums of days with offset ", offset), sums, wantedSums)
		}
	})
}
