package verify_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/verify"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

func TestMain(m *testing.M) {
	proctest.Roles{"recount": proctest.Role(recountRepeatedly)}.Run()
	os.Exit(dbtest.Run(m))
}

var began = scantest.Began

// viewStore counts the open read transactions, and calls onView before each.
type viewStore struct {
	stats.Store
	onView func()
	open   int
}

func (s *viewStore) ViewStatistics(ctx context.Context, f func(stats.Tx) error) error {
	if s.onView != nil {
		s.onView()
	}
	return s.Store.ViewStatistics(ctx, func(tx stats.Tx) error {
		s.open++
		defer func() { s.open-- }()
		return f(tx)
	})
}

// checkedLog is a scan log that fails the test if it is read within a read transaction.
type checkedLog struct {
	*scantest.Memory
	t     *testing.T
	store *viewStore
}

func (l *checkedLog) Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	assert.True(l.t, l.store.open <= 0, "Read() is called within a transaction, want no open transaction")
	return l.Memory.Read(ctx, after)
}

// TestRecount_SinglePass verifies that a recount reads the scan log once and outside of transactions, whatever its memory limit.
func TestRecount_SinglePass(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		for _, limit := range []int{0, 1, 1000} {
			require.NoError(t, s.Reset(t.Context()))
			views := &viewStore{Store: s}
			log := &checkedLog{&scantest.Memory{Gaps: rand.New(rand.NewPCG(1, 2))}, t, views}
			events := &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 1)), Now: began, Users: 300}
			require.NoError(t, log.Append(t.Context(), events.Take(3000)))
			c := scantest.NewAggregator(views, log)
			require.NoError(t, c.CatchUpAndSave(t.Context()))
			log.Reads, log.Yielded = 0, 0
			r, err := verify.Recounter{Counter: c, Scratch: t.TempDir(), Compared: limit}.Run(t.Context())
			assert.True(t, err == nil && r.Differences <= 0 && r.Scans == 3000 && r.Compared >= 1000,
				"limit %d: recount = %+v, %v, want 3000 scans without a difference", limit, r, err)
			assert.True(t, log.Yielded == 3000, "limit %d: %d scans were read in %d passes, want 3000", limit, log.Yielded, log.Reads)
		}
	})
}

// TestRecount_MemoryBounded verifies that the records and combinations that a recount has in memory do not grow with the number of scans,
// and that the parts that it compares stay small.
func TestRecount_MemoryBounded(t *testing.T) {
	const limit, combinationBytes = 2000, 10
	s := require.Value(store.Open(t.Context(), store.Target{Dir: storetest.Folder(t)}))(t)
	defer s.Close()
	events := &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 7)), Now: began, Users: 300}
	for _, scans := range []int{1000, 10_000} {
		log, list := &scantest.Memory{}, events.Take(scans)
		for i := range list {
			list[i].OccurredAt = began.Add(time.Duration(i) * 3 * time.Hour)
		}
		require.NoError(t, log.Append(t.Context(), list))
		c := scantest.NewAggregator(s, log)
		highest, recounter := 0, verify.Recounter{Counter: c, Scratch: t.TempDir(), Compared: limit}
		atEnd, days, bytes, err := recounter.Read(t.Context(), func(n verify.MemoryUse) {
			highest = max(highest, n.Combinations)
			assert.True(t, n.Bytes < limit, "%d scans: %d bytes of records in memory, want less than %d", scans, n.Bytes, limit)
		})
		require.NoError(t, err)
		// The first record of a combination contains at least the lengths of its texts.
		assert.True(t, highest != 0 && highest <= limit/combinationBytes, "%d scans: %d combinations in memory, want 1 to %d",
			scans, highest, limit/combinationBytes)
		assert.Equal(t, atEnd, verify.MemoryUse{}, "memory use after reading %d scans", scans)
		for i := range days {
			assert.True(t, days[i] <= 1 || bytes[i] <= limit, "%d scans: a part of %d days has %d bytes, want at most %d",
				scans, days[i], bytes[i], limit)
		}
		assert.True(t, len(days) >= 2 && slices.Max(days) >= 2, "%d scans: days of the parts = %d, want parts of several days", scans, days)
	}
}

// TestRecount_ConcurrentCounting verifies that a recount includes the scans that are counted while it runs.
func TestRecount_ConcurrentCounting(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 2)), Now: began, Users: 100}
		other := scantest.NewAggregator(s, log)
		recorded, views := 0, 0
		more := func() {
			if views++; views%2 == 1 || views > 60 {
				return // a recount makes progress only while nothing is counted
			}
			recorded += 20
			assert.NoError(t, log.Append(t.Context(), events.Take(20)))
			assert.NoError(t, other.CatchUpAndSave(t.Context()))
		}
		more()
		more()
		c := scantest.NewAggregator(&viewStore{Store: s, onView: more}, log)
		r, err := verify.Recounter{Counter: c, Compared: 500}.Run(t.Context())
		assert.True(t, err == nil && r.Differences <= 0 && r.Compared != 0, "recount = %+v, %v, want no difference", r, err)
		assert.True(t, r.Scans == int64(recorded) && recorded >= 100, "%d of %d scans were compared, want all", r.Scans, recorded)
	})
}

// TestRecount_DetectsDifferences verifies that a recount finds stored counts that have no scan, and counts that differ from the scans.
func TestRecount_DetectsDifferences(t *testing.T) {
	for name, alter := range map[string]func(context.Context, stats.Tx) error{
		"scans": func(ctx context.Context, tx stats.Tx) error {
			t := stats.Tuple{App: "wx of nobody"}
			if err := tx.NameTuples(ctx, []stats.Tuple{t}); err != nil {
				return err
			}
			return tx.AddScanCounts(ctx, []stats.CountRow{{Granularity: stats.PerDayOfAll, Bucket: 1, Tuple: t.ID(),
				Count: stats.Count{Scans: 1}}})
		},
		"a sum": func(ctx context.Context, tx stats.Tx) error {
			return tx.AddSums(ctx, []stats.SumRow{{Granularity: stats.PerHour, Dimension: stats.App, Bucket: 1 << 21, Value: "wx",
				Count: stats.Count{Scans: 1}}})
		},
		"a place": func(ctx context.Context, tx stats.Tx) error {
			return tx.AddMisses(ctx, []stats.UnmatchedRow{{Bucket: 7, Location: "nowhere.example/", Scans: 1}})
		},
		"users": func(ctx context.Context, tx stats.Tx) error {
			return tx.PutUsers(ctx, []stats.UsersRow{{UsersKey: stats.UsersKey{Day: 1 << 20, Dimension: stats.Source, Value: "scan"},
				Users: 1}})
		},
		"a code": func(ctx context.Context, tx stats.Tx) error {
			return tx.PutCodes(ctx, []alarms.Row{{CodeName: alarms.CodeName{Batch: 600_000_000, Index: 1 << 40}, Scans: 1, State: "{}"}})
		},
		"another code": func(ctx context.Context, tx stats.Tx) error {
			return tx.PutCodes(ctx, []alarms.Row{{CodeName: alarms.CodeName{Batch: 1}, Scans: 1, State: "{}"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
				log, events := &scantest.Memory{}, &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 3)), Now: began, Users: 10}
				require.NoError(t, log.Append(t.Context(), events.Take(200)))
				c := scantest.NewAggregator(s, log)
				require.NoError(t, c.CatchUpAndSave(t.Context()))
				r, err := (verify.Recounter{Counter: c}).Run(t.Context())
				require.True(t, err == nil && r.Differences <= 0 && r.Compared >= 100, "recount = %+v, %v, want no difference", r, err)
				require.NoError(t, s.UpdateStatistics(t.Context(), func(tx stats.Tx) error { return alter(t.Context(), tx) }))
				r, err = verify.Recounter{Counter: c}.Run(t.Context())
				assert.True(t, err == nil && r.Differences != 0 && len(r.Shown) != 0 && r.Shown[0].Counted == 1,
					"recount after the change = %+v, %v, want a difference of a count of 1", r, err)
			})
		})
	}
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 4)), Now: began, Users: 10}
		require.NoError(t, log.Append(t.Context(), events.Take(200)))
		c := scantest.NewAggregator(s, log)
		require.NoError(t, c.CatchUpAndSave(t.Context()))
		log.Entries[0].App = "wx of another" // differs from the counted scan
		r, err := (verify.Recounter{Counter: c}).Run(t.Context())
		assert.True(t, err == nil && r.Differences != 0, "recount of a changed log = %+v, %v, want a difference", r, err)
	})
}

// recountOptions are the options of the recount process.
type recountOptions struct{ Dir, URL string }

// recountRepeatedly runs recounts until the process is killed.
func recountRepeatedly(ctx context.Context, o recountOptions) error {
	s, err := store.Open(ctx, store.Target{URL: o.URL, Dir: o.Dir})
	if err != nil {
		return err
	}
	j, err := scanlog.OpenJournal(filepath.Join(o.Dir, "scans"), scanlog.JournalOptions{})
	if err != nil {
		return err
	}
	recounter := verify.Recounter{Counter: scantest.NewAggregator(s, j), Scratch: filepath.Join(o.Dir, "scratch"), Compared: 1000}
	for {
		fmt.Println("begun")
		if r, err := recounter.Run(ctx); err != nil || r.Differences > 0 {
			return fmt.Errorf("%+v: %w", r, err)
		}
	}
}

// TestRecount_KilledLeavesNoState kills a process during a recount. The recount must leave no files with content, and the next recount
// must find no difference.
func TestRecount_KilledLeavesNoState(t *testing.T) {
	dbtest.ForEachDatabase(t, dbtest.Schema, func(t *testing.T, url string) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "scratch"), 0o700))
		chance := rand.New(rand.NewPCG(14, 5))
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 6)), Now: began, Users: 100}
		for round := range 3 {
			func() {
				s := require.Value(store.Open(t.Context(), store.Target{URL: url, Dir: dir}))(t)
				defer s.Close()
				j := require.Value(scanlog.OpenJournal(filepath.Join(dir, "scans"),
					scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1}), SegmentSize: 20_000}))(t)
				defer j.Close()
				require.NoError(t, j.Append(t.Context(), events.Take(700)))
				c := scantest.NewAggregator(s, j)
				require.NoError(t, c.CatchUpAndSave(t.Context()))
				r, err := verify.Recounter{Counter: c}.Run(t.Context())
				assert.True(t, err == nil && r.Differences <= 0 && r.Scans == int64(700*(round+1)),
					"round %d: recount = %+v, %v, want all scans without a difference", round, r, err)
			}()
			p := proctest.Start(t, proctest.Command("recount", recountOptions{dir, url}))
			kill := chance.IntN(3)
			for n := 0; ; n++ {
				if _, more := p.Line(); !more {
					break
				}
				if n == kill {
					p.Process.Kill()
				}
			}
			p.Wait()
			assert.Equal(t, p.Log(), "", "error output in round %d", round)
			files := require.Value(os.ReadDir(filepath.Join(dir, "scratch")))(t)
			for _, file := range files { // created, but not unlinked yet when the process was killed
				info, err := file.Info()
				assert.True(t, err == nil && info.Size() <= 0, "round %d: the recount leaves %v, %v, want an empty file", round, info, err)
			}
		}
	})
}
