package verify_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
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
	proctest.Roles{"recount": proctest.Role(recountForEver)}.Play()
	os.Exit(dbtest.Run(m))
}

var began = scantest.Began

// lookingStore knows whether a transaction that reads is open, and calls before first.
type lookingStore struct {
	stats.Store
	before func()
	open   int
}

func (s *lookingStore) ViewStatistics(ctx context.Context, f func(stats.Tx) error) error {
	if s.before != nil {
		s.before()
	}
	return s.Store.ViewStatistics(ctx, func(tx stats.Tx) error {
		s.open++
		defer func() { s.open-- }()
		return f(tx)
	})
}

// onceLog is a log that is read outside of transactions.
type onceLog struct {
	*scantest.Memory
	t     *testing.T
	store *lookingStore
}

func (l *onceLog) Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	assert.True(l.t, l.store.open <= 0, "the ledger is read while a transaction stands still")
	return l.Memory.Read(ctx, after)
}

// Issue 14: a recount reads the ledger once, however much it holds in memory, and no transaction lasts as long as that.
func TestRecount_SinglePass(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		for _, held := range []int{0, 1, 1000} {
			require.NoError(t, s.Reset(t.Context()))
			looking := &lookingStore{Store: s}
			log := &onceLog{&scantest.Memory{Gaps: rand.New(rand.NewPCG(1, 2))}, t, looking}
			events := &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 1)), Now: began, Users: 300}
			require.NoError(t, log.Append(t.Context(), events.Take(3000)))
			c := scantest.NewCounter(looking, log)
			require.NoError(t, c.CatchUpAndSave(t.Context()))
			log.Reads, log.Yielded = 0, 0
			r, err := verify.Recounter{Counter: c, Scratch: t.TempDir(), Compared: held}.Run(t.Context())
			assert.True(t, err == nil && r.Differences <= 0 && r.Scans == 3000 && r.Compared >= 1000, "held %d: %+v, %v", held, r, err)
			assert.True(t, log.Yielded == 3000, "held %d: %d scans were read of 3000, in %d passes", held, log.Yielded, log.Reads)
		}
	})
}

// Issue 14: what a recount holds of what it read does not grow with what it read: neither its records nor the combinations that the records
// speak of, and the parts that it compares are small however many there are.
func TestRecount_MemoryBounded(t *testing.T) {
	const held, aCombination = 2000, 10 // bytes
	s, err := store.Open(t.Context(), store.Target{Dir: storetest.Folder(t)})
	require.NoError(t, err)
	defer s.Close()
	events := &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 7)), Now: began, Users: 300}
	for _, scans := range []int{1000, 10_000} {
		log, list := &scantest.Memory{}, events.Take(scans)
		for i := range list {
			list[i].OccurredAt = began.Add(time.Duration(i) * 3 * time.Hour)
		}
		require.NoError(t, log.Append(t.Context(), list))
		c := scantest.NewCounter(s, log)
		most := 0
		left, days, bytes, err := verify.Recounter{Counter: c, Scratch: t.TempDir(), Compared: held}.Read(t.Context(), func(n verify.Held) {
			most = max(most, n.Combinations)
			assert.True(t, n.Bytes < held, "%d scans: %d bytes of records are held", scans, n.Bytes)
		})
		require.NoError(t, err)
		// A combination is written out where it comes first: with the lengths of its texts at least.
		assert.True(t, most != 0 && most <= held/aCombination, "%d scans: %d combinations were held", scans, most)
		assert.Equal(t, left, verify.Held{}, "%d scans", scans)
		for i := range days {
			assert.True(t, days[i] <= 1 || bytes[i] <= held, "%d scans: a part has %d bytes of %d days", scans, bytes[i], days[i])
		}
		assert.True(t, len(days) >= 2 && slices.Max(days) >= 2, "%d scans: the parts are of %d days", scans, days)
	}
}

// Issue 14: what is counted while a recount runs is in what it compares.
func TestRecount_ConcurrentCounting(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 2)), Now: began, Users: 100}
		other := scantest.NewCounter(s, log)
		came, views := 0, 0
		more := func() {
			if views++; views%2 == 1 || views > 60 {
				return // a recount gets on when nothing is counted for a moment
			}
			came += 20
			assert.NoError(t, log.Append(t.Context(), events.Take(20)))
			assert.NoError(t, other.CatchUpAndSave(t.Context()))
		}
		more()
		more()
		c := scantest.NewCounter(&lookingStore{Store: s, before: more}, log)
		r, err := verify.Recounter{Counter: c, Compared: 500}.Run(t.Context())
		assert.True(t, err == nil && r.Differences <= 0 && r.Compared != 0, "%+v, %v", r, err)
		assert.True(t, r.Scans == int64(came) && came >= 100, "%d of %d scans were compared", r.Scans, came)
	})
}

// A recount finds what is counted and in no scan, and what is not as the scans say.
func TestRecount_DetectsDifferences(t *testing.T) {
	for what, alter := range map[string]func(context.Context, stats.Tx) error{
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
		t.Run(what, func(t *testing.T) {
			scantest.EachStore(t, func(t *testing.T, s *store.Store) {
				log, events := &scantest.Memory{}, &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 3)), Now: began, Users: 10}
				require.NoError(t, log.Append(t.Context(), events.Take(200)))
				c := scantest.NewCounter(s, log)
				require.NoError(t, c.CatchUpAndSave(t.Context()))
				if r, err := (verify.Recounter{Counter: c}).Run(t.Context()); err != nil || r.Differences > 0 || r.Compared < 100 {
					t.Fatalf("%+v, %v", r, err)
				}
				require.NoError(t, s.UpdateStatistics(t.Context(), func(tx stats.Tx) error { return alter(t.Context(), tx) }))
				r, err := verify.Recounter{Counter: c}.Run(t.Context())
				assert.True(t, err == nil && r.Differences != 0 && len(r.Shown) != 0 && r.Shown[0].Counted == 1, "%+v, %v", r, err)
			})
		})
	}
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 4)), Now: began, Users: 10}
		require.NoError(t, log.Append(t.Context(), events.Take(200)))
		c := scantest.NewCounter(s, log)
		require.NoError(t, c.CatchUpAndSave(t.Context()))
		log.Entries[0].App = "wx of another" // the ledger says otherwise
		r, err := (verify.Recounter{Counter: c}).Run(t.Context())
		assert.True(t, err == nil && r.Differences != 0, "%+v, %v", r, err)
	})
}

// recounting says of which ledger a process recounts, for ever.
type recounting struct{ Dir, URL string }

func recountForEver(ctx context.Context, o recounting) error {
	s, err := store.Open(ctx, store.Target{URL: o.URL, Dir: o.Dir})
	if err != nil {
		return err
	}
	j, err := scanlog.OpenJournal(filepath.Join(o.Dir, "scans"), scanlog.JournalOptions{})
	if err != nil {
		return err
	}
	c := &stats.Aggregator{Log: j, SingleNode: true, Store: s, Alarms: scantest.Alarms(s),
		Settings: settings.NewLive(settings.Defaults()), Now: func() time.Time { return began },
		Logger: slog.New(slog.DiscardHandler)}
	again := verify.Recounter{Counter: c, Scratch: filepath.Join(o.Dir, "scratch"), Compared: 1000}
	for {
		fmt.Println("begun")
		if r, err := again.Run(ctx); err != nil || r.Differences > 0 {
			return fmt.Errorf("%+v: %w", r, err)
		}
	}
}

// Issue 14: a recount that is killed on its way leaves nothing, and the next one finds no difference.
func TestRecount_KilledLeavesNoState(t *testing.T) {
	dbtest.OnEach(t, dbtest.Schema, func(t *testing.T, url string) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "scratch"), 0o700))
		chance := rand.New(rand.NewPCG(14, 5))
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 6)), Now: began, Users: 100}
		for round := range 3 {
			func() {
				s, err := store.Open(t.Context(), store.Target{URL: url, Dir: dir})
				require.NoError(t, err)
				defer s.Close()
				j, err := scanlog.OpenJournal(filepath.Join(dir, "scans"),
					scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1}), SegmentSize: 20_000})
				require.NoError(t, err)
				defer j.Close()
				require.NoError(t, j.Append(t.Context(), events.Take(700)))
				c := scantest.NewCounter(s, j)
				require.NoError(t, c.CatchUpAndSave(t.Context()))
				r, err := verify.Recounter{Counter: c}.Run(t.Context())
				assert.True(t, err == nil && r.Differences <= 0 && r.Scans == int64(700*(round+1)), "round %d: %+v, %v", round, r, err)
			}()
			p := proctest.Start(t, proctest.Command("recount", recounting{dir, url}))
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
			assert.Equal(t, p.Log(), "", "round %d", round)
			left, err := os.ReadDir(filepath.Join(dir, "scratch"))
			require.NoError(t, err)
			for _, file := range left { // it was killed before it took the name
				info, err := file.Info()
				assert.True(t, err == nil && info.Size() <= 0, "round %d: it left %v, %v", round, info, err)
			}
		}
	})
}
