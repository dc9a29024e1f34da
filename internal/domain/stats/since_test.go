package stats_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/verify"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
)

// writingStore counts what is written of sketches.
type writingStore struct {
	stats.Store
	bytes  int
	whole  map[stats.UsersKey]int // how often each was written
	beside int                    // rows
}

func (s *writingStore) UpdateStatistics(ctx context.Context, f func(stats.Tx) error) error {
	return s.Store.UpdateStatistics(ctx, func(tx stats.Tx) error { return f(&writingTx{tx, s}) })
}

type writingTx struct {
	stats.Tx
	s *writingStore
}

func (t *writingTx) PutUsers(ctx context.Context, rows []stats.UsersRow) error {
	for _, r := range rows {
		t.s.bytes += len(r.Sketch)
		t.s.whole[r.UsersKey]++
	}
	return t.Tx.PutUsers(ctx, rows)
}

func (t *writingTx) AddUsers(ctx context.Context, rows []stats.UsersSince) error {
	for _, r := range rows {
		t.s.bytes += len(r.Sketch)
	}
	t.s.beside += len(rows)
	return t.Tx.AddUsers(ctx, rows)
}

// Issue 14: a minute in which a few users came writes as much as they are, however many came before.
func TestSketchStore_WritesDelta(t *testing.T) {
	const many, few, dims = 6000, 5, 11
	scantest.OneStore(t, func(t *testing.T, s *store.Store) {
		log, r, now := &scantest.Memory{}, rand.New(rand.NewPCG(14, 5)), began
		var all, today hyperloglog.Users
		come := func(n int) {
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
		wants := func(c *stats.Aggregator) {
			t.Helper()
			for _, by := range []stats.Interval{stats.AllTime, stats.ByDay} {
				want := all.Count()
				if by == stats.ByDay {
					want = today.Count()
				}
				for d := range stats.Dimension(dims) {
					a, err := c.Execute(t.Context(), stats.Question{From: began, To: now.Add(time.Hour), Metric: stats.Users,
						Interval: by, Group: d})
					require.NoError(t, err)
					last := a.Rows[len(a.Rows)-1]
					assert.True(t, last.Users == want, "by %q: %d users are counted of %s, want %d", by, last.Users, d, want)
				}
			}
		}
		written := &writingStore{Store: s, whole: map[stats.UsersKey]int{}}
		c := scantest.NewCounter(written, log)
		c.Now = func() time.Time { return now }
		come(many)
		require.NoError(t, c.RunOnce(t.Context()))
		require.NoError(t, c.CatchUpAndSave(t.Context()))
		wants(c)
		large := written.bytes
		written.bytes, written.whole = 0, map[stats.UsersKey]int{}
		minute := func() {
			t.Helper()
			now = now.Add(time.Minute)
			come(few)
			require.NoError(t, c.RunOnce(t.Context()))
		}
		for range 60 {
			minute()
		}
		if most := 60 * dims * (few + 1) * 4; written.bytes > most || written.beside != 60*dims {
			t.Errorf("60 minutes wrote %d bytes of sketches in %d parts, want %d at most; whole they are %d", written.bytes, written.beside,
				most, large)
		}
		wants(c)
		wants(scantest.NewCounter(s, log)) // as after a start
		if r, err := (verify.Recounter{Counter: c}).Run(t.Context()); err != nil || r.Differences > 0 {
			t.Errorf("%+v, %v", r, err)
		}
		for range 70 {
			minute()
		}
		assert.True(t, len(written.whole) == dims, "in 130 minutes %d of %d sketches were written again", len(written.whole), dims)
		for key, times := range written.whole {
			assert.True(t, times == 2, "in 130 minutes %+v was written %d times, want 2", key, times)
		}
		// An erasure writes them whole, and the end of the day does.
		minute()
		require.NoError(t, assert.ErrorOf(c.Erase(t.Context(), log.Entries[0].User)))
		minute()
		wants(c)
		written.whole, written.beside = map[stats.UsersKey]int{}, 0
		minute()
		now, today = now.Add(48*time.Hour), hyperloglog.Users{}
		minute()
		assert.True(t, len(written.whole) == 2*dims && written.beside == dims,
			"at the end of a day %d sketches were written whole, and %d parts beside them", len(written.whole), written.beside)
		wants(c)
		wants(scantest.NewCounter(s, log))
	})
}

// Issue 14: the hourly removal of old scans lets the counting go on where it is.
func TestRetention_KeepsCounterPosition(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 6)), Now: began, Users: 50}
		c, sum := scantest.NewCounter(s, log), newNaive(8)
		come := func(n int) {
			t.Helper()
			list := events.Take(n)
			require.NoError(t, log.Append(t.Context(), list))
			for _, e := range list {
				sum.add(e)
			}
			require.NoError(t, c.RunOnce(t.Context()))
		}
		come(10)
		come(300) // whose users are written after a minute
		require.NoError(t, c.Forget(t.Context(), began.AddDate(0, -1, 0)))
		log.Yielded = 0
		come(1)
		assert.Equal(t, log.Yielded, 1, "scans were read after old ones were removed, and one came")
		check(t, c, sum)
	})
}
