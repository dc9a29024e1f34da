package stats_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/verify"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
)

// sketchStore counts the writes of sketches.
type sketchStore struct {
	stats.Store
	bytes  int
	full   map[stats.UsersKey]int // number of writes of each complete sketch
	deltas int                    // number of written deltas
}

func (s *sketchStore) UpdateStatistics(ctx context.Context, f func(stats.Tx) error) error {
	return s.Store.UpdateStatistics(ctx, func(tx stats.Tx) error { return f(&sketchTx{tx, s}) })
}

type sketchTx struct {
	stats.Tx
	s *sketchStore
}

func (t *sketchTx) PutUsers(ctx context.Context, rows []stats.UsersRow) error {
	for _, r := range rows {
		t.s.bytes += len(r.Sketch)
		t.s.full[r.UsersKey]++
	}
	return t.Tx.PutUsers(ctx, rows)
}

func (t *sketchTx) AddUsers(ctx context.Context, rows []stats.UsersSince) error {
	for _, r := range rows {
		t.s.bytes += len(r.Sketch)
	}
	t.s.deltas += len(rows)
	return t.Tx.AddUsers(ctx, rows)
}

// TestSketchStore_WritesDelta verifies that a minute with a few users writes only these users, however large the sketches are.
func TestSketchStore_WritesDelta(t *testing.T) {
	const many, few, dims = 6000, 5, 11
	scantest.WithStore(t, func(t *testing.T, s *store.Store) {
		log, r, now := &scantest.Memory{}, rand.New(rand.NewPCG(14, 5)), began
		var all, today hyperloglog.Users
		record := func(n int) {
			t.Helper()
			list := make([]scanlog.Event, n)
			for i := range list {
				e := scanlog.Event{ID: scantest.ID(now, r), OccurredAt: now, Source: "scan", Action: "open_mini_program",
					Kind: "rule", RuleID: 1, App: "wx1"}
				binary.BigEndian.PutUint64(e.User[:], r.Uint64N(2*many)+1)
				all.Add(e.User)
				today.Add(e.User)
				list[i] = e
			}
			require.NoError(t, log.Append(t.Context(), list))
		}
		checkUserCounts := func(c *stats.Aggregator) {
			t.Helper()
			for _, by := range []stats.Interval{stats.AllTime, stats.ByDay} {
				want := all.Count()
				if by == stats.ByDay {
					want = today.Count()
				}
				for d := range stats.Dimension(dims) {
					a := require.Value(c.Execute(t.Context(), stats.Question{From: began, To: now.Add(time.Hour), Metric: stats.Users,
						Interval: by, Group: d}))(t)
					last := a.Rows[len(a.Rows)-1]
					assert.Equal(t, last.Users, want, "users by %q and %s", by, d)
				}
			}
		}
		written := &sketchStore{Store: s, full: map[stats.UsersKey]int{}}
		c := scantest.NewAggregator(written, log)
		c.Now = func() time.Time { return now }
		record(many)
		require.NoError(t, c.RunOnce(t.Context()))
		require.NoError(t, c.CatchUpAndSave(t.Context()))
		checkUserCounts(c)
		written.bytes, written.full = 0, map[stats.UsersKey]int{}
		runMinute := func() {
			t.Helper()
			now = now.Add(time.Minute)
			record(few)
			require.NoError(t, c.RunOnce(t.Context()))
		}
		for range 60 {
			runMinute()
		}
		limit := 60 * dims * (few + 1) * 4
		assert.True(t, written.bytes <= limit && written.deltas == 60*dims,
			"60 minutes write %d bytes in %d deltas, want at most %d in %d", written.bytes, written.deltas, limit, 60*dims)
		checkUserCounts(c)
		checkUserCounts(scantest.NewAggregator(s, log)) // as after a restart
		recount, err := (verify.Recounter{Counter: c}).Run(t.Context())
		assert.True(t, err == nil && recount.Differences <= 0, "recount = %+v, %v, want no difference", recount, err)
		for range 70 {
			runMinute()
		}
		assert.Equal(t, len(written.full), dims, "number of sketches written completely in 130 minutes")
		for key, times := range written.full {
			assert.Equal(t, times, 2, "complete writes of %+v in 130 minutes", key)
		}
		// An erasure and the end of the day write complete sketches.
		runMinute()
		require.NoError(t, assert.ErrorOf(c.Erase(t.Context(), log.Entries[0].User)))
		runMinute()
		checkUserCounts(c)
		written.full, written.deltas = map[stats.UsersKey]int{}, 0
		runMinute()
		now, today = now.Add(48*time.Hour), hyperloglog.Users{}
		runMinute()
		assert.Equal(t, len(written.full), 2*dims, "number of sketches that the end of a day writes")
		assert.Equal(t, written.deltas, dims, "number of deltas that the end of a day writes")
		checkUserCounts(c)
		checkUserCounts(scantest.NewAggregator(s, log))
	})
}

// TestRetention_KeepsCounterPosition verifies that the counter continues at its position after the removal of old scans. If no scan was
// old enough, a recount compares all numbers, also those of users in another time zone.
func TestRetention_KeepsCounterPosition(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 6)), Now: began, Users: 50}
		c, sum := scantest.NewAggregator(s, log), newNaive()
		count := func(n int) {
			t.Helper()
			list := events.Take(n)
			require.NoError(t, log.Append(t.Context(), list))
			sum.add(list...)
			require.NoError(t, c.RunOnce(t.Context()))
		}
		count(10)
		count(300) // their users are written after a minute
		require.NoError(t, c.Forget(t.Context(), began.AddDate(0, -1, 0)))
		log.Yielded = 0
		count(1)
		assert.Equal(t, log.Yielded, 1, "scans read for one new scan after the removal")
		checkCounts(t, c, sum)
		set := settings.Defaults()
		set.UTCOffsetHours = -5
		c.Settings.Set(set)
		recount, err := verify.Recounter{Counter: c}.Run(t.Context())
		assert.True(t, err == nil && recount.Differences == 0 && recount.Since.IsZero(),
			"recount = %+v, %v, want no difference since the first scan", recount, err)
		assert.True(t, stateOf(t, s).ZoneChangedAt.IsZero(), "the users of past days keep the former time zone")
	})
}
