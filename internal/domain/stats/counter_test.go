package stats_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/verify"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

var began = scantest.Began

// naive counts events by adding them up one by one.
type naive struct {
	seen     map[scanlog.ScanID]bool
	codes    map[alarms.CodeName]int64
	counts   map[string]stats.Count
	users    map[string]map[scanlog.UserHash]bool
	perCode  map[alarms.CodeName]map[scanlog.UserHash]bool
	scans    int64
	offset   int64
	bindings map[int64][3]string
	unowned  bool // the rules and applications are nobody's
}

func newNaive(offset int64) *naive {
	return &naive{seen: map[scanlog.ScanID]bool{}, codes: map[alarms.CodeName]int64{}, counts: map[string]stats.Count{},
		users:   map[string]map[scanlog.UserHash]bool{},
		perCode: map[alarms.CodeName]map[scanlog.UserHash]bool{}, offset: offset}
}

func (n *naive) values(e scanlog.Event) map[stats.Dimension]string {
	v := map[stats.Dimension]string{stats.Total: "", stats.App: e.App, stats.Source: e.Source, stats.Region: e.Region,
		stats.Result:   e.Action,
		stats.Activity: n.bindings[e.Activation][0], stats.Brand: n.bindings[e.Activation][1], stats.Product: n.bindings[e.Activation][2]}
	if e.Kind != "" {
		v[stats.Result] += "/" + e.Kind
	}
	if e.Reason != "" {
		v[stats.Result] += "/" + e.Reason
	}
	v[stats.Batch], v[stats.Rule] = "", ""
	if e.Batch != 0 {
		v[stats.Batch] = fmt.Sprint(e.Batch)
	}
	if e.RuleID != 0 {
		v[stats.Rule] = fmt.Sprint(e.RuleID)
	}
	if v[stats.Owner] = ""; !n.unowned {
		v[stats.Owner] = scantest.OwnerOf(&e)
	}
	return v
}

func (n *naive) add(e scanlog.Event) {
	if n.seen[e.ID] {
		return
	}
	n.seen[e.ID] = true
	n.scans++
	one := stats.Count{Scans: 1}
	name := alarms.CodeName{Batch: e.Batch, Index: e.Index}
	if e.Batch != 0 {
		if n.codes[name]++; n.codes[name] == 1 {
			one.FirstScans = 1
			n.perCode[name] = map[scanlog.UserHash]bool{}
		}
		if e.User != (scanlog.UserHash{}) {
			n.perCode[name][e.User] = true
		}
	}
	hour := e.OccurredAt.Unix() / 3600
	day := (hour + n.offset) / 24
	for d, value := range n.values(e) {
		for _, key := range []string{fmt.Sprintf("hour %d %s %s", hour, d, value), fmt.Sprintf("day %d %s %s", day, d, value)} {
			c := n.counts[key]
			c.Scans, c.FirstScans = c.Scans+1, c.FirstScans+one.FirstScans
			n.counts[key] = c
		}
		if key := fmt.Sprintf("day %d %s %s", day, d, value); e.User != (scanlog.UserHash{}) && (d != stats.Owner || value != "") {
			if n.users[key] == nil {
				n.users[key] = map[scanlog.UserHash]bool{}
			}
			n.users[key][e.User] = true
		}
	}
}

func TestMain(m *testing.M) {
	os.Exit(dbtest.Run(m))
}

// check compares everything that is counted with a count one by one.
func check(t *testing.T, c *stats.Aggregator, n *naive) {
	t.Helper()
	long := stats.Question{From: began.AddDate(0, -1, 0), To: began.AddDate(0, 6, 0), Limit: stats.MaxAnswers}
	counts, users := map[string]stats.Count{}, map[string]int64{}
	for d := stats.Total; d <= stats.Owner; d++ {
		for _, by := range []stats.Interval{stats.ByHour, stats.ByDay} {
			q := long
			q.Interval, q.Group, q.Metric = by, d, stats.Scans
			for {
				a, err := c.Execute(t.Context(), q)
				require.NoError(t, err)
				require.Equal(t, a.Scans, n.scans, "scans are counted")
				for _, row := range a.Rows {
					counts[fmt.Sprintf("%s %d %s %s", by, row.Bucket, d, row.Value)] = row.Count
				}
				if !a.More {
					break
				}
				q.Offset += len(a.Rows)
			}
		}
		q := long
		q.Interval, q.Group, q.Metric = stats.ByDay, d, stats.Users
		a, err := c.Execute(t.Context(), q)
		require.NoError(t, err)
		for _, row := range a.Rows {
			users[fmt.Sprintf("day %d %s %s", row.Bucket, d, row.Value)] = row.Users
		}
	}
	require.Equal(t, cmp.Diff(n.counts, counts), "", "counts (-want +got)")
	wantUsers := map[string]int64{}
	for key, set := range n.users {
		wantUsers[key] = int64(len(set))
	}
	require.Equal(t, cmp.Diff(wantUsers, users), "", "users (-want +got)")
	for name, scans := range n.codes {
		one, err := c.Alarms.Code(t.Context(), name)
		require.NoError(t, err)
		require.True(t, one.Scans == scans && one.Users.Count() == int64(len(n.perCode[name])),
			"code %v: %d scans of %d users, want %d of %d", name, one.Scans, one.Users.Count(), scans, len(n.perCode[name]))
	}
}

// TestCounter_EqualsNaiveCount: counts equal a naive count with late scans and interrupted counting, on one node or two.
func TestCounter_EqualsNaiveCount(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		for seed := range uint64(testscope.Choose(4, 1)) {
			r := rand.New(rand.NewPCG(seed, 7))
			require.NoError(t, s.Reset(t.Context()))
			log, events := &scantest.Memory{Gaps: r}, &scantest.Traffic{Random: r, Now: began, Users: 200}
			counter := func() *stats.Aggregator {
				c := scantest.NewCounter(s, log)
				c.Events = 1 + r.IntN(300)
				return c
			}
			nodes := []*stats.Aggregator{counter(), counter()}
			sum := newNaive(8)
			sum.unowned = true // a reset removes the rules
			for range 8 {
				list := events.Take(1 + r.IntN(400))
				require.NoError(t, log.Append(t.Context(), list))
				for _, e := range list {
					sum.add(e)
				}
				n := r.IntN(len(nodes))
				if r.IntN(3) == 0 {
					nodes[n] = counter() // it was killed
				}
				require.NoError(t, nodes[n].CatchUp(t.Context()))
			}
			check(t, nodes[r.IntN(len(nodes))], sum)
			noDifference(t, nodes[0])
		}
	})
}

// noDifference wants a recount of the log to be what is counted.
func noDifference(t *testing.T, c *stats.Aggregator) {
	t.Helper()
	r, err := verify.Recounter{Counter: c}.Run(t.Context())
	require.NoError(t, err)
	require.True(t, r.Differences <= 0 && r.Compared >= 100, "%d of %d numbers differ: %+v", r.Differences, r.Compared, r.Shown)
}

// TestCounter_DefersStoreUnderLoad: under load, scans are summed in memory. The sums are stored when the load ends, after a minute, or when
// a caller waits for them, and exactly once, even if another node counts first or the process dies.
func TestCounter_DefersStoreUnderLoad(t *testing.T) {
	scantest.OneStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: rand.New(rand.NewPCG(5, 6)), Now: began, Users: 50}
		sum := newNaive(8)
		come := func(n int) {
			t.Helper()
			list := events.Take(n)
			require.NoError(t, log.Append(t.Context(), list))
			for _, e := range list {
				sum.add(e)
			}
		}
		counted := func(c *stats.Aggregator) int64 {
			t.Helper()
			a, err := c.Execute(t.Context(), stats.Question{From: began, To: began.AddDate(0, 1, 0), Metric: stats.Scans})
			require.NoError(t, err)
			return a.Scans
		}
		second := func(c *stats.Aggregator) {
			t.Helper()
			require.NoError(t, c.RunOnce(t.Context()))
		}
		busy := scantest.NewCounter(s, log)
		come(600)
		second(busy)
		n := counted(busy)
		assert.True(t, n == 0, "a busy counter stored %d scans", n)
		come(400)
		second(busy)
		n = counted(busy)
		assert.True(t, n == sum.scans, "a quiet counter stored %d of %d scans", n, sum.scans)
		check(t, busy, sum)
		before := sum.scans
		for range 59 {
			come(501)
			second(busy)
		}
		assert.Equal(t, counted(busy), before, "scans are stored before the minute is over")
		come(501)
		second(busy)
		n = counted(busy)
		assert.True(t, n == sum.scans, "after a minute %d of %d scans are stored", n, sum.scans)
		come(700)
		second(busy)
		// Another node is asked, and this one dies.
		other := scantest.NewCounter(s, log)
		require.NoError(t, other.CatchUp(t.Context()))
		check(t, other, sum)
		come(700)
		require.NoError(t, busy.CatchUp(t.Context()))
		check(t, busy, sum)
		noDifference(t, other)
	})
}

// TestCounter_ErasureAndRetentionKeepCounts: what is counted stays, also where the
// ledger no longer says why, and what can be compared with it is equal.
func TestCounter_ErasureAndRetentionKeepCounts(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		r := rand.New(rand.NewPCG(3, 4))
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: r, Now: began, Users: 50}
		c := scantest.NewCounter(s, log)
		c.Random = rand.NewChaCha8([32]byte{1})
		sum := newNaive(8)
		more := func() {
			t.Helper()
			list := events.Take(1000)
			require.NoError(t, log.Append(t.Context(), list))
			for _, e := range list {
				sum.add(e)
			}
			require.NoError(t, c.CatchUp(t.Context()))
		}
		more()
		var user scanlog.UserHash
		binary.BigEndian.PutUint64(user[:], 7)
		n, err := c.Erase(t.Context(), user)
		require.True(t, err == nil && n != 0, "%d scans were erased: %v", n, err)
		check(t, c, sum)
		noDifference(t, c)
		n, err = c.Erase(t.Context(), user)
		assert.True(t, n == 0 && err == nil, "erased twice: %d, %v", n, err)
		more()
		more()
		// Old scans go; the others are still compared.
		require.NoError(t, c.Forget(t.Context(), began.Add(8*time.Hour)))
		a, err := c.Execute(t.Context(), stats.Question{From: began.AddDate(0, -1, 0), To: began.AddDate(0, 1, 0), Metric: stats.Scans})
		assert.True(t, err == nil && len(a.Rows) == 1 && a.Rows[0].Scans == sum.scans, "%+v, %v", a, err)
		rc, err := verify.Recounter{Counter: c}.Run(t.Context())
		assert.True(t, err == nil && rc.Differences <= 0 && rc.Compared != 0 && !rc.Since.IsZero(), "%+v, %v", rc, err)
	})
}

// TestCounter_ImportedLedgerAdds: an import brings counts whose scans are elsewhere.
func TestCounter_ImportedLedgerAdds(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		for n := 1; n <= 2; n++ {
			log := &scantest.Memory{Name: fmt.Sprint(n)}
			events := &scantest.Traffic{Random: rand.New(rand.NewPCG(uint64(n), 4)), Now: began, Users: 50}
			list := events.Take(300 / n)
			require.NoError(t, log.Append(t.Context(), list))
			c := scantest.NewCounter(s, log)
			require.NoError(t, c.CatchUp(t.Context()))
			one := newNaive(8)
			for _, e := range list {
				one.add(e)
			}
			a, err := c.Execute(t.Context(), stats.Question{From: began.AddDate(0, -1, 0), To: began.AddDate(0, 1, 0), Metric: stats.Scans})
			require.True(t, err == nil && len(a.Rows) == 1, "%+v, %v", a, err)
			if want := a.Rows[0].Scans; a.Scans != want || want < one.scans || n == 2 && want == one.scans {
				t.Errorf("ledger %d: %d scans are counted, %d in the rows, %d in the ledger", n, a.Scans, want, one.scans)
			}
		}
	})
}

// slowEnd is a log whose end is known late: meanwhile something happens, once.
type slowEnd struct {
	*scantest.Memory
	meanwhile func()
}

func (l *slowEnd) End(ctx context.Context) (int64, error) {
	end, err := l.Memory.End(ctx)
	if f := l.meanwhile; f != nil {
		l.meanwhile = nil
		f()
	}
	return end, err
}

// TestCounter_OvertakenByOtherNode: another node counts on while one asks where the log
// ends. That is no reason to take it for another log and count all again.
func TestCounter_OvertakenByOtherNode(t *testing.T) {
	scantest.OneStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: rand.New(rand.NewPCG(6, 7)), Now: began, Users: 50}
		slow := &slowEnd{Memory: log}
		one, other := scantest.NewCounter(s, slow), scantest.NewCounter(s, log)
		sum := newNaive(8)
		come := func(c *stats.Aggregator) {
			t.Helper()
			list := events.Take(300)
			for _, e := range list {
				sum.add(e)
			}
			require.NoError(t, errors.Join(log.Append(t.Context(), list), c.CatchUp(t.Context())))
		}
		come(other)
		for range 3 {
			slow.meanwhile = func() {
				// And again, while the end is asked for once more.
				slow.meanwhile = func() { come(other) }
				come(other)
			}
			require.NoError(t, one.CatchUp(t.Context()))
			check(t, one, sum)
			come(other) // one has to read the state again
			come(one)
		}
		check(t, one, sum)
		noDifference(t, one)
	})
}

// renewed is a log that can be made anew.
type renewed struct {
	*scantest.Memory
	id string
}

func (l *renewed) ID() string { return l.id }

// TestCounter_RecreatedLog: also while the counter runs, and from its beginning.
func TestCounter_RecreatedLog(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(8, 9)), Now: began, Users: 50}
		log := &renewed{&scantest.Memory{}, "first"}
		c := scantest.NewCounter(s, log)
		sum := int64(0)
		for n, id := range []string{"first", "second", "third"} {
			log.Memory, log.id = &scantest.Memory{}, id
			list, ids := events.Take(300/(n+1)), map[scanlog.ScanID]bool{}
			for _, e := range list {
				ids[e.ID] = true
			}
			sum += int64(len(ids))
			require.NoError(t, errors.Join(log.Append(t.Context(), list), c.CatchUp(t.Context())))
			a, err := c.Execute(t.Context(), stats.Question{From: began.AddDate(0, -1, 0), To: began.AddDate(0, 1, 0), Metric: stats.Scans})
			require.True(t, err == nil && a.Scans == sum, "the %s log: %d scans are counted, want %d (%v)", id, a.Scans, sum, err)
		}
	})
}

// Two nodes that count different ledgers for a while, as when one after the
// other goes to a stream, meet at the same position: it is not the same place.
func TestCounter_SamePositionOtherLedger(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(8, 9)), Now: began, Users: 50}
		one := scantest.NewCounter(s, &renewed{&scantest.Memory{}, "one"})
		other := scantest.NewCounter(s, &renewed{&scantest.Memory{}, "other"})
		sum := int64(0)
		for n, c := range []*stats.Aggregator{one, other, one, other, other, one} {
			list := events.Take(100)
			for i := range list {
				list[i].ID = scantest.ID(began, events.Random)
			}
			sum += int64(len(list))
			require.NoError(t, errors.Join(c.Log.(*renewed).Append(t.Context(), list), c.CatchUp(t.Context())))
			a, err := c.Execute(t.Context(), stats.Question{From: began.AddDate(0, -1, 0), To: began.AddDate(0, 1, 0), Metric: stats.Scans})
			require.True(t, err == nil && a.Scans == sum, "step %d: %d scans are counted, want %d (%v)", n, a.Scans, sum, err)
		}
	})
}

// A counter of a stream is killed, and the next one counts the journal from which the stream came: scans count once, and the users of those
// that the sketches lacked are counted too.
func TestCounter_KillAfterLeavingStream(t *testing.T) {
	scantest.OneStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(8, 9)), Now: began, Users: 5000}
		journal, err := scanlog.OpenJournal(filepath.Join(t.TempDir(), "scans"),
			scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1})})
		require.NoError(t, err)
		defer journal.Close()
		there := &renewed{&scantest.Memory{}, "there"}
		c, sum := scantest.NewCounter(s, there), newNaive(8)
		for n := range 4 {
			var list []scanlog.Event
			for range 200 {
				list = append(list, events.Next())
				sum.add(list[len(list)-1])
			}
			require.NoError(t, journal.Append(t.Context(), list))
			switch n {
			case 0, 1, 2:
				err = errors.Join(there.Append(t.Context(), list), c.CatchUp(t.Context()))
			case 3:
				c = scantest.NewCounter(s, journal)
				err = c.CatchUp(t.Context())
			}
			require.NoError(t, err)
		}
		check(t, c, sum)
	})
}

// A reader of the scan feed continues at the same scan after a change of the scan log.
func TestLedgerReader_ContinuesAcrossLedgers(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(8, 9)), Now: began, Users: 50}
		journal, err := scanlog.OpenJournal(filepath.Join(t.TempDir(), "scans"),
			scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1})})
		require.NoError(t, err)
		defer journal.Close()
		there, reached := &renewed{&scantest.Memory{}, "there"}, int64(0)
		fresh := func(n int) (list []scanlog.Event) {
			for range n {
				list = append(list, events.Next())
			}
			return list
		}
		webhook := func(f func(context.Context, webhooks.Tx) error) {
			t.Helper()
			require.NoError(t, s.Webhooks().Update(t.Context(), func(tx webhooks.Tx) error { return f(t.Context(), tx) }))
		}
		webhook(func(ctx context.Context, tx webhooks.Tx) error {
			return tx.PutWebhook(ctx, webhooks.Webhook{ID: 1, URL: "https://a.example/", AfterScanOffset: 40})
		})
		// The reader lacks the last 10 that are counted.
		read := func(count *stats.Aggregator, to int64) {
			t.Helper()
			counted, err := s.Counting(t.Context())
			require.True(t, err == nil && (reached <= 0 || counted != count.Log.ID()), "turned before it is counted: %s, %v", counted, err)
			require.NoError(t, count.CatchUp(t.Context()))
			counted, err = s.Counting(t.Context())
			require.True(t, err == nil && counted == count.Log.ID(), "turned: %s, %v", counted, err)
			webhook(func(ctx context.Context, tx webhooks.Tx) error {
				at, err := tx.Position(ctx, webhooks.ScanSource)
				require.True(t, err == nil && at == reached, "the reader is at %d, want %d (%v)", at, reached, err)
				if w, err := tx.Webhook(ctx, 1); err != nil || w.AfterScanOffset > max(40, at) {
					t.Fatalf("it wants scans after %d, and the reader is at %d (%v)", w.AfterScanOffset, at, err)
				}
				_, err = tx.Advance(ctx, webhooks.ScanSource, at, to)
				return err
			})
		}
		require.NoError(t, journal.Append(t.Context(), fresh(100)))
		read(scantest.NewCounter(s, journal), 100)
		both := fresh(30)
		require.NoError(t, errors.Join(journal.Append(t.Context(), both), there.Append(t.Context(), both)))
		reached = 0
		read(scantest.NewCounter(s, there), 20)
		reached = 120 // of 130, as 20 of 30
		read(scantest.NewCounter(s, journal), 130)
	})
}

// scansWebhook adds a webhook for scans after a position, with its reader at another position; told returns both positions.
func scansWebhook(t *testing.T, s *store.Store, from, at int64) (told func() [2]int64) {
	t.Helper()
	do := func(f func(tx webhooks.Tx) error) {
		t.Helper()
		require.NoError(t, s.Webhooks().Update(t.Context(), f))
	}
	do(func(tx webhooks.Tx) error {
		_, err := tx.Advance(t.Context(), webhooks.ScanSource, 0, at)
		return errors.Join(err, tx.PutWebhook(t.Context(), webhooks.Webhook{ID: 1, URL: "https://a.example/", AfterScanOffset: from}))
	})
	return func() (is [2]int64) {
		t.Helper()
		do(func(tx webhooks.Tx) error {
			w, err := tx.Webhook(t.Context(), 1)
			at, other := tx.Position(t.Context(), webhooks.ScanSource)
			is = [2]int64{w.AfterScanOffset, at}
			return errors.Join(err, other)
		})
		return is
	}
}

// During an upgrade, nodes of the previous version and of this version count in turn. The previous version stores no checkpoint, so the
// checkpoint of another position says nothing about the scan log.
func TestCounter_MixedVersionsDuringUpgrade(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		events, sum := &scantest.Traffic{Random: rand.New(rand.NewPCG(8, 9)), Now: began, Users: 50}, newNaive(8)
		log := &renewed{&scantest.Memory{}, "one"}
		c, earlier := scantest.NewCounter(s, log), scantest.NewCounter(s, log)
		come := func(c *stats.Aggregator) {
			t.Helper()
			list := events.Take(200)
			for _, e := range list {
				sum.add(e)
			}
			require.NoError(t, errors.Join(log.Append(t.Context(), list), c.CatchUp(t.Context())))
		}
		state := func(f func(*stats.State)) (state stats.State) {
			t.Helper()
			require.NoError(t, s.UpdateStatistics(t.Context(), func(tx stats.Tx) (err error) {
				if state, err = tx.StatisticsState(t.Context()); err != nil || f == nil {
					return err
				}
				f(&state)
				return tx.PutStatisticsState(t.Context(), state)
			}))
			return state
		}
		come(c)
		told := scansWebhook(t, s, 40, 120)
		for range 2 {
			before := state(nil)
			require.True(t, before.Checkpoint != "", "no scan is noted that stands at the position")
			come(earlier)
			// As its statement leaves the row: the columns of schema 15 keep what they had.
			state(func(s *stats.State) {
				s.Checkpoint, s.KeptCount, s.MissingCount = before.Checkpoint, before.KeptCount, before.MissingCount
			})
			// And more that nobody has counted yet.
			come(c)
			check(t, c, sum)
			n, err := c.MissingScans(t.Context())
			require.True(t, err == nil && n == 0, "%d scans are lacking, %v", n, err)
			got, want := told(), [2]int64{40, 120}
			require.True(t, got == want, "the webhook wants the scans after %d, and its reader is at %d; want %d", got[0], got[1], want)
		}
		noDifference(t, c)
	})
}

// An earlier scan log is used again after it grew. Events that webhooks received are not sent again. If events name their journal, those
// that were not counted yet are counted, and no others.
func TestCounter_OlderLedgerContinued(t *testing.T) {
	for name, c := range map[string]struct {
		origins, longer bool
		scans, lacking  int64
		told            [2]int64
	}{
		"longer":                        {longer: true, scans: 200, lacking: 1, told: [2]int64{40, 120}},
		"shorter than webhooks are":     {scans: 200, lacking: 90, told: [2]int64{40, 110}},
		"longer, filled from journals":  {origins: true, longer: true, scans: 280, told: [2]int64{40, 100}},
		"shorter, filled from journals": {origins: true, scans: 210, told: [2]int64{40, 100}},
	} {
		t.Run(name, func(t *testing.T) {
			scantest.EachStore(t, func(t *testing.T, s *store.Store) {
				events := &scantest.Traffic{Random: rand.New(rand.NewPCG(8, 9)), Now: began, Users: 50}
				log := &renewed{&scantest.Memory{}, "one"}
				count := scantest.NewCounter(s, log)
				// A node brings events of its journal, from one position on.
				bring := func(n int, from int64, list []scanlog.Event, again int) []scanlog.Event {
					t.Helper()
					for len(list) < n {
						list = append(list, events.Next())
					}
					require.NoError(t, log.Append(t.Context(), list))
					for i := range list {
						if c.origins {
							e := &log.Entries[len(log.Entries)-len(list)+i]
							e.From = scanlog.Origin{Node: "n", Position: from + int64(i), Before: from - 1, Reshipped: i < again}
						}
					}
					return list
				}
				state := func() (scans, lacking int64) {
					t.Helper()
					require.NoError(t, count.CatchUp(t.Context()))
					require.NoError(t, s.ViewStatistics(t.Context(), func(tx stats.Tx) error {
						state, err := tx.StatisticsState(t.Context())
						scans, lacking = state.Scans, state.MissingCount
						return err
					}))
					return scans, lacking
				}
				bring(100, 1, nil, 0)
				older := slices.Clone(log.Entries)
				lost := bring(100, 101, nil, 0)
				if scans, lacking := state(); scans != 200 || lacking != 0 {
					t.Fatalf("%d scans are counted and %d are lacking", scans, lacking)
				}
				told := scansWebhook(t, s, 40, 120)
				log.Entries = older
				switch {
				case c.origins && c.longer: // in another order: what is new comes first
					bring(80, 201, nil, 0)
					bring(100, 101, lost, 100)
				case c.origins:
					bring(10, 201, nil, 0)
				case c.longer:
					bring(180, 0, nil, 0)
				default:
					bring(10, 0, nil, 0)
				}
				count = scantest.NewCounter(s, log)
				scans, lacking := state()
				if c.origins && !c.longer {
					assert.Equal(t, lacking, 100, "scans are lacking before they are brought again")
					bring(100, 101, lost, 100)
					scans, lacking = state()
				}
				assert.True(t, scans == c.scans && lacking == c.lacking,
					"%d scans are counted and %d are lacking, want %d and %d", scans, lacking, c.scans, c.lacking)
				if got := told(); got != c.told {
					t.Errorf("the webhook wants the scans after %d, and its reader is at %d; want %d", got[0], got[1], c.told)
				}
			})
		})
	}
}

// The newest scans equal the end of the complete feed, each once, and are found without reading the complete scan log.
func TestNewestScans_TailOfFeed(t *testing.T) {
	scantest.OneStore(t, func(t *testing.T, s *store.Store) {
		r := rand.New(rand.NewPCG(11, 6))
		log, events := &scantest.Memory{Gaps: r}, &scantest.Traffic{Random: r, Now: began, Users: 200}
		c := scantest.NewCounter(s, log)
		same := func(n, limit int, all []stats.Counted) {
			t.Helper()
			list, older, err := c.Newest(t.Context(), nil, n, limit)
			require.NoError(t, err)
			want := all[max(0, len(all)-n):]
			want = want[:min(limit, len(want))]
			assert.True(t, older == (len(all) > n) && slices.EqualFunc(list, want,
				func(a, b stats.Counted) bool { return a.ID == b.ID && a.Activity == b.Activity }),
				"the newest %d, at most %d: %d scans, older %v; want %d of %d", n, limit, len(list), older, len(want), len(all))
		}
		same(5, 5, nil)
		for range 6 {
			require.NoError(t, log.Append(t.Context(), events.Take(500)))
			require.NoError(t, c.CatchUp(t.Context()))
			all := require.All(t, c.All(t.Context(), 0))
			for _, n := range []int{1, 2, 7, 100, 499, len(all) - 1, len(all), len(all) + 1, 100_000} {
				same(n, 1000, all)
				same(n, 3, all)
			}
		}
		log.Yielded = 0
		if _, _, err := c.Newest(t.Context(), nil, 10, 10); err != nil || log.Yielded > 500 {
			t.Errorf("%d of %d entries were read for the newest ten, %v", log.Yielded, len(log.Entries), err)
		}
	})
}

// The unmatched scans of past days include a late scan.
func TestLargest_UnmatchedLateScan(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		log, r := &scantest.Memory{}, rand.New(rand.NewPCG(1, 2))
		c := scantest.NewCounter(s, log)
		c.Now = func() time.Time { return began.AddDate(0, 0, 3) }
		for n, text := range []string{"https://a.example/1", "https://b.example/1", "https://b.example/2", "https://b.example/2"} {
			scanned := []time.Time{began, began, began.AddDate(0, 0, 1), began.AddDate(0, 0, 3)}[n]
			require.NoError(t, log.Append(t.Context(), []scanlog.Event{{ID: scantest.ID(scanned, r), OccurredAt: scanned, Text: text}}))
			require.NoError(t, c.CatchUp(t.Context()))
			for range 2 { // the second query finds the sums in memory
				list, err := c.UnmatchedRows(t.Context(), nil, "", began.AddDate(0, 0, -1), began.AddDate(0, 0, 4))
				scans := map[string]int64{}
				for _, row := range list {
					scans[row.Value] += row.Scans
				}
				want := []map[string]int64{{"a.example/1": 1}, {"a.example/1": 1, "b.example/1": 1},
					{"a.example/1": 1, "b.example/1": 1, "b.example/2": 1}, {"a.example/1": 1, "b.example/1": 1, "b.example/2": 2}}[n]
				assert.True(t, err == nil && maps.Equal(scans, want), "after scan %d: %v, want %v: %v", n, scans, want, err)
			}
		}
	})
}

// After a reset, sums of past days are read again, although their total is the same.
func TestLargest_Reset(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		log, r := &scantest.Memory{}, rand.New(rand.NewPCG(1, 2))
		c := scantest.NewCounter(s, log)
		c.Now = func() time.Time { return began.AddDate(0, 0, 3) }
		scanned := func(app string) {
			event := scanlog.Event{ID: scantest.ID(began, r), OccurredAt: began, Action: "none", App: app}
			require.NoError(t, log.Append(t.Context(), []scanlog.Event{event}))
			require.NoError(t, c.CatchUp(t.Context()))
			q := stats.Question{From: began.AddDate(0, 0, -1), To: began.AddDate(0, 0, 2), Group: stats.App, Metric: stats.Scans}
			a, err := c.Execute(t.Context(), q)
			require.True(t, err == nil && len(a.Rows) == 1, "%+v %v", a.Rows, err)
			assert.Equal(t, a.Rows[0].Value, app, "the scanned Mini Program")
		}
		scanned("a")
		require.NoError(t, c.Reset(func() error { log.Entries = nil; return s.Reset(t.Context()) }))
		scanned("b")
	})
}
