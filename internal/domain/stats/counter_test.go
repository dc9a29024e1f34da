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

// naive is the reference implementation of the counts: it adds up events one by one.
type naive struct {
	seen     map[scanlog.ScanID]bool
	codes    map[alarms.CodeName]int64
	counts   map[string]stats.Count
	users    map[string]map[scanlog.UserHash]bool
	perCode  map[alarms.CodeName]map[scanlog.UserHash]bool
	scans    int64
	offset   int64
	bindings map[int64][3]string
	unowned  bool // the rules and applications have no owner
}

func newNaive() *naive {
	return &naive{seen: map[scanlog.ScanID]bool{}, codes: map[alarms.CodeName]int64{}, counts: map[string]stats.Count{},
		users:   map[string]map[scanlog.UserHash]bool{},
		perCode: map[alarms.CodeName]map[scanlog.UserHash]bool{}, offset: 8}
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

func (n *naive) add(events ...scanlog.Event) {
	for _, e := range events {
		if !n.seen[e.ID] {
			n.seen[e.ID] = true
			n.addNew(e)
		}
	}
}

func (n *naive) addNew(e scanlog.Event) {
	n.scans++
	firstScans := int64(0)
	name := alarms.CodeName{Batch: e.Batch, Index: e.Index}
	if e.IdentifiesCode() {
		if n.codes[name]++; n.codes[name] == 1 {
			firstScans = 1
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
			c.Scans, c.FirstScans = c.Scans+1, c.FirstScans+firstScans
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

// allTime returns a query whose range includes all generated scans.
func allTime(metric stats.Metric) stats.Question {
	return stats.Question{From: began.AddDate(0, -1, 0), To: began.AddDate(0, 6, 0), Metric: metric, Limit: stats.MaxAnswers}
}

// totalScans returns the number of scans that the aggregator has counted.
func totalScans(t *testing.T, c *stats.Aggregator) int64 {
	t.Helper()
	a := require.Value(c.Execute(t.Context(), allTime(stats.Scans)))(t)
	return a.Scans
}

// checkCounts compares the counts of all dimensions and the users of all codes with the reference counts.
func checkCounts(t *testing.T, c *stats.Aggregator, n *naive) {
	t.Helper()
	counts, users := map[string]stats.Count{}, map[string]int64{}
	for d := stats.Total; d <= stats.Owner; d++ {
		for _, by := range []stats.Interval{stats.ByHour, stats.ByDay} {
			q := allTime(stats.Scans)
			q.Interval, q.Group = by, d
			for {
				a := require.Value(c.Execute(t.Context(), q))(t)
				require.Equal(t, a.Scans, n.scans, "total scans by %s and %s", by, d)
				for _, row := range a.Rows {
					counts[fmt.Sprintf("%s %d %s %s", by, row.Bucket, d, row.Value)] = row.Count
				}
				if !a.More {
					break
				}
				q.Offset += len(a.Rows)
			}
		}
		q := allTime(stats.Users)
		q.Interval, q.Group = stats.ByDay, d
		a := require.Value(c.Execute(t.Context(), q))(t)
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
		code := require.Value(c.Alarms.Code(t.Context(), name))(t)
		require.True(t, code.Scans == scans && code.Users.Count() == int64(len(n.perCode[name])),
			"code %v: %d scans by %d users, want %d by %d", name, code.Scans, code.Users.Count(), scans, len(n.perCode[name]))
	}
}

// TestCounter_EqualsNaiveCount verifies that counts equal the reference counts with late scans, two nodes and killed nodes.
func TestCounter_EqualsNaiveCount(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		for seed := range uint64(testscope.Select(4, 1)) {
			r := rand.New(rand.NewPCG(seed, 7))
			require.NoError(t, s.Reset(t.Context()))
			log, events := &scantest.Memory{Gaps: r}, &scantest.Traffic{Random: r, Now: began, Users: 200}
			newCounter := func() *stats.Aggregator {
				c := scantest.NewAggregator(s, log)
				c.Events = 1 + r.IntN(300)
				return c
			}
			nodes := []*stats.Aggregator{newCounter(), newCounter()}
			sum := newNaive()
			sum.unowned = true // a reset removes the rules
			for range 8 {
				list := events.Take(1 + r.IntN(400))
				require.NoError(t, log.Append(t.Context(), list))
				sum.add(list...)
				n := r.IntN(len(nodes))
				if r.IntN(3) == 0 {
					nodes[n] = newCounter() // as after a kill
				}
				require.NoError(t, nodes[n].CatchUp(t.Context()))
			}
			checkCounts(t, nodes[r.IntN(len(nodes))], sum)
			checkRecount(t, nodes[0])
		}
	})
}

// checkRecount verifies that the stored counts equal a recount of the scan log.
func checkRecount(t *testing.T, c *stats.Aggregator) {
	t.Helper()
	r := require.Value(verify.Recounter{Counter: c}.Run(t.Context()))(t)
	require.True(t, r.Differences <= 0 && r.Compared >= 100, "%d of %d counts differ, want none of at least 100: %+v",
		r.Differences, r.Compared, r.Shown)
}

// TestCounter_DefersStoreUnderLoad verifies that scans are summed in memory under load. The sums must be stored exactly once, when the load
// ends, after a minute or when a caller waits for them, even if another node counts first or the process dies.
func TestCounter_DefersStoreUnderLoad(t *testing.T) {
	scantest.WithStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: rand.New(rand.NewPCG(5, 6)), Now: began, Users: 50}
		sum := newNaive()
		record := func(n int) {
			t.Helper()
			list := events.Take(n)
			require.NoError(t, log.Append(t.Context(), list))
			sum.add(list...)
		}
		busy := scantest.NewAggregator(s, log)
		// recordAndRun records n scans and runs the step that the counter runs each second.
		recordAndRun := func(n int) {
			t.Helper()
			record(n)
			require.NoError(t, busy.RunOnce(t.Context()))
		}
		recordAndRun(600)
		assert.Equal(t, totalScans(t, busy), 0, "stored scans of a busy counter")
		recordAndRun(400)
		assert.Equal(t, totalScans(t, busy), sum.scans, "stored scans of an idle counter")
		checkCounts(t, busy, sum)
		before := sum.scans
		for range 59 {
			recordAndRun(501)
		}
		assert.Equal(t, totalScans(t, busy), before, "stored scans before the end of the minute")
		recordAndRun(501)
		assert.Equal(t, totalScans(t, busy), sum.scans, "stored scans after a minute")
		recordAndRun(700)
		// Another node counts, as after the death of this one.
		other := scantest.NewAggregator(s, log)
		require.NoError(t, other.CatchUp(t.Context()))
		checkCounts(t, other, sum)
		record(700)
		require.NoError(t, busy.CatchUp(t.Context()))
		checkCounts(t, busy, sum)
		checkRecount(t, other)
	})
}

// TestCounter_ErasureAndRetentionKeepCounts verifies that an erasure and the removal of old scans change no counts, and that a recount of
// the remaining scans finds no difference.
func TestCounter_ErasureAndRetentionKeepCounts(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		r := rand.New(rand.NewPCG(3, 4))
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: r, Now: began, Users: 50}
		c := scantest.NewAggregator(s, log)
		c.Random = rand.NewChaCha8([32]byte{1})
		sum := newNaive()
		more := func() {
			t.Helper()
			list := events.Take(1000)
			require.NoError(t, log.Append(t.Context(), list))
			sum.add(list...)
			require.NoError(t, c.CatchUp(t.Context()))
		}
		more()
		var user scanlog.UserHash
		binary.BigEndian.PutUint64(user[:], 7)
		n, err := c.Erase(t.Context(), user)
		require.True(t, err == nil && n != 0, "Erase() = %d, %v, want at least one scan", n, err)
		checkCounts(t, c, sum)
		checkRecount(t, c)
		n, err = c.Erase(t.Context(), user)
		assert.True(t, n == 0 && err == nil, "second Erase() = %d, %v, want 0", n, err)
		more()
		more()
		// A recount compares the scans that remain after the removal of old ones.
		require.NoError(t, c.Forget(t.Context(), began.Add(8*time.Hour)))
		a, err := c.Execute(t.Context(), allTime(stats.Scans))
		assert.True(t, err == nil && len(a.Rows) == 1 && a.Rows[0].Scans == sum.scans, "result = %+v, %v, want %d scans", a, err, sum.scans)
		recount, err := verify.Recounter{Counter: c}.Run(t.Context())
		assert.True(t, err == nil && recount.Differences <= 0 && recount.Compared != 0 && !recount.Since.IsZero(),
			"recount = %+v, %v, want no difference since the oldest scan", recount, err)
	})
}

// TestCounter_ImportedLedgerAdds verifies that the scans of another log add to counts whose scans are not in that log, as after an import.
func TestCounter_ImportedLedgerAdds(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		for n := 1; n <= 2; n++ {
			log := &scantest.Memory{Name: fmt.Sprint(n)}
			events := &scantest.Traffic{Random: rand.New(rand.NewPCG(uint64(n), 4)), Now: began, Users: 50}
			list := events.Take(300 / n)
			require.NoError(t, log.Append(t.Context(), list))
			c := scantest.NewAggregator(s, log)
			require.NoError(t, c.CatchUp(t.Context()))
			inLog := newNaive()
			inLog.add(list...)
			a, err := c.Execute(t.Context(), allTime(stats.Scans))
			require.True(t, err == nil && len(a.Rows) == 1, "result = %+v, %v, want one row", a, err)
			rows := a.Rows[0].Scans
			assert.True(t, a.Scans == rows && rows >= inLog.scans && (n != 2 || rows != inLog.scans),
				"log %d: total = %d, scans in rows = %d, want the same and at least %d (log 2: more)", n, a.Scans, rows, inLog.scans)
		}
	})
}

// staleEndLog is a log whose first result of End is outdated when End returns, because afterEnd runs before the return.
type staleEndLog struct {
	*scantest.Memory
	afterEnd func()
}

func (l *staleEndLog) End(ctx context.Context) (int64, error) {
	end, err := l.Memory.End(ctx)
	if f := l.afterEnd; f != nil {
		l.afterEnd = nil
		f()
	}
	return end, err
}

// TestCounter_OvertakenByOtherNode lets another node count while one node reads the end of the log. The node must not mistake the larger
// position for another log and count its scans a second time.
func TestCounter_OvertakenByOtherNode(t *testing.T) {
	scantest.WithStore(t, func(t *testing.T, s *store.Store) {
		log, events := &scantest.Memory{}, &scantest.Traffic{Random: rand.New(rand.NewPCG(6, 7)), Now: began, Users: 50}
		stale := &staleEndLog{Memory: log}
		node, other := scantest.NewAggregator(s, stale), scantest.NewAggregator(s, log)
		sum := newNaive()
		count := func(c *stats.Aggregator) {
			t.Helper()
			list := events.Take(300)
			sum.add(list...)
			require.NoError(t, errors.Join(log.Append(t.Context(), list), c.CatchUp(t.Context())))
		}
		count(other)
		for range 3 {
			stale.afterEnd = func() {
				stale.afterEnd = func() { count(other) } // also during the second call of End
				count(other)
			}
			require.NoError(t, node.CatchUp(t.Context()))
			stale.afterEnd = nil // the check of the counts calls End too
			checkCounts(t, node, sum)
			count(other) // so that node reads the state again
			count(node)
		}
		checkCounts(t, node, sum)
		checkRecount(t, node)
	})
}

// TestCounter_RecreatedLog recreates the log while the counter runs. The counter must count each new log from its beginning.
func TestCounter_RecreatedLog(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(8, 9)), Now: began, Users: 50}
		log := &scantest.Memory{}
		c := scantest.NewAggregator(s, log)
		sum := int64(0)
		for n, name := range []string{"first", "second", "third"} {
			log.Name, log.Entries = name, nil
			list, ids := events.Take(300/(n+1)), map[scanlog.ScanID]bool{}
			for _, e := range list {
				ids[e.ID] = true
			}
			sum += int64(len(ids))
			require.NoError(t, errors.Join(log.Append(t.Context(), list), c.CatchUp(t.Context())))
			require.Equal(t, totalScans(t, c), sum, "scans after counting the %s log", name)
		}
	})
}

// TestCounter_SamePositionOtherLedger lets two nodes count different logs that reach the same position, as while nodes switch to a stream
// one after the other. A position must not be mistaken for the same position of the other log.
func TestCounter_SamePositionOtherLedger(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(8, 9)), Now: began, Users: 50}
		first := scantest.NewAggregator(s, &scantest.Memory{Name: "first"})
		second := scantest.NewAggregator(s, &scantest.Memory{Name: "second"})
		sum := int64(0)
		for n, c := range []*stats.Aggregator{first, second, first, second, second, first} {
			list := events.Take(100)
			for i := range list {
				list[i].ID = scantest.ID(began, events.Random)
			}
			sum += int64(len(list))
			require.NoError(t, errors.Join(c.Log.(*scantest.Memory).Append(t.Context(), list), c.CatchUp(t.Context())))
			require.Equal(t, totalScans(t, c), sum, "scans after step %d", n)
		}
	})
}

// TestCounter_KillAfterLeavingStream kills the counter of a stream, and another counter counts the journal from which the stream was
// shipped. Each scan must be counted once, with the users that the sketches did not include yet.
func TestCounter_KillAfterLeavingStream(t *testing.T) {
	scantest.WithStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(8, 9)), Now: began, Users: 5000}
		journal := require.Value(scanlog.OpenJournal(filepath.Join(t.TempDir(), "scans"),
			scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1})}))(t)
		defer journal.Close()
		stream := &scantest.Memory{Name: "stream"}
		c, sum := scantest.NewAggregator(s, stream), newNaive()
		for n := range 4 {
			list := events.Take(200)
			sum.add(list...)
			require.NoError(t, journal.Append(t.Context(), list))
			if n < 3 {
				require.NoError(t, stream.Append(t.Context(), list))
			} else {
				c = scantest.NewAggregator(s, journal)
			}
			require.NoError(t, c.CatchUp(t.Context()))
		}
		checkCounts(t, c, sum)
	})
}

// TestLedgerReader_ContinuesAcrossLedgers verifies that the webhook reader continues at the same scan after a change of the scan log.
func TestLedgerReader_ContinuesAcrossLedgers(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(8, 9)), Now: began, Users: 50}
		journal := require.Value(scanlog.OpenJournal(filepath.Join(t.TempDir(), "scans"),
			scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1})}))(t)
		defer journal.Close()
		stream := &scantest.Memory{Name: "stream"}
		require.NoError(t, s.Webhooks().Update(t.Context(), func(tx webhooks.Tx) error {
			return tx.PutWebhook(t.Context(), webhooks.Webhook{ID: 1, URL: "https://a.example/", AfterScanOffset: 40})
		}))
		// read lets a counter switch to its log, checks that the reader is at position want, and advances it to position to.
		read := func(log scanlog.Log, want, to int64) {
			t.Helper()
			counted, err := s.Counting(t.Context())
			require.True(t, err == nil && (want <= 0 || counted != log.ID()), "Counting() = %s, %v, want the other log", counted, err)
			require.NoError(t, scantest.NewAggregator(s, log).CatchUp(t.Context()))
			counted, err = s.Counting(t.Context())
			require.True(t, err == nil && counted == log.ID(), "Counting() = %s, %v, want %s", counted, err, log.ID())
			got := readerPositions(t, s)
			require.True(t, got.reader == want && got.webhook <= max(40, want), "positions = %+v, want the reader at %d and at most %d",
				got, want, max(40, want))
			require.NoError(t, s.Webhooks().Update(t.Context(), func(tx webhooks.Tx) error {
				return assert.ErrorOf(tx.Advance(t.Context(), webhooks.ScanSource, want, to))
			}))
		}
		require.NoError(t, journal.Append(t.Context(), events.Take(100)))
		read(journal, 0, 100)
		both := events.Take(30)
		require.NoError(t, errors.Join(journal.Append(t.Context(), both), stream.Append(t.Context(), both)))
		read(stream, 0, 20)     // all but the last 10 counted scans
		read(journal, 120, 130) // 120 of 130 scans are read, as 20 of 30 of the stream
	})
}

// addScanWebhook adds a webhook for scans after the position from, and moves the reader to position reader.
func addScanWebhook(t *testing.T, s *store.Store, from, reader int64) {
	t.Helper()
	require.NoError(t, s.Webhooks().Update(t.Context(), func(tx webhooks.Tx) error {
		_, err := tx.Advance(t.Context(), webhooks.ScanSource, 0, reader)
		return errors.Join(err, tx.PutWebhook(t.Context(), webhooks.Webhook{ID: 1, URL: "https://a.example/", AfterScanOffset: from}))
	}))
}

// positions are the position after which the webhook wants scans, and the position of the webhook reader.
type positions struct{ webhook, reader int64 }

func readerPositions(t *testing.T, s *store.Store) (p positions) {
	t.Helper()
	require.NoError(t, s.Webhooks().Update(t.Context(), func(tx webhooks.Tx) error {
		w, err := tx.Webhook(t.Context(), 1)
		reader, positionErr := tx.Position(t.Context(), webhooks.ScanSource)
		p = positions{w.AfterScanOffset, reader}
		return errors.Join(err, positionErr)
	}))
	return p
}

// TestCounter_OlderLedgerContinued restores an earlier scan log that grows again. Events that webhooks received must not be sent again. If
// events name their journal, exactly the events that were not counted yet must be counted.
func TestCounter_OlderLedgerContinued(t *testing.T) {
	type counts struct{ scans, missing int64 }
	for name, test := range map[string]struct {
		origins, longer bool
		counts          counts
		positions       positions
	}{
		"longer":                         {longer: true, counts: counts{200, 1}, positions: positions{40, 120}},
		"shorter than reader position":   {counts: counts{200, 90}, positions: positions{40, 110}},
		"longer, reshipped by journals":  {origins: true, longer: true, counts: counts{280, 0}, positions: positions{40, 100}},
		"shorter, reshipped by journals": {origins: true, counts: counts{210, 0}, positions: positions{40, 100}},
	} {
		t.Run(name, func(t *testing.T) {
			scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
				events := &scantest.Traffic{Random: rand.New(rand.NewPCG(8, 9)), Now: began, Users: 50}
				log := &scantest.Memory{}
				counter := scantest.NewAggregator(s, log)
				// ship appends events that begin at a position of the journal of node n.
				ship := func(from int64, reshipped bool, list []scanlog.Event) []scanlog.Event {
					t.Helper()
					require.NoError(t, log.Append(t.Context(), list))
					for i := range list {
						if test.origins {
							e := &log.Entries[len(log.Entries)-len(list)+i]
							e.From = scanlog.Origin{Node: "n", Position: from + int64(i), Before: from - 1, Reshipped: reshipped}
						}
					}
					return list
				}
				count := func() counts {
					t.Helper()
					require.NoError(t, counter.CatchUp(t.Context()))
					state := stateOf(t, s)
					return counts{state.Scans, state.MissingCount}
				}
				ship(1, false, events.Take(100))
				backup := slices.Clone(log.Entries)
				lost := ship(101, false, events.Take(100))
				require.Equal(t, count(), counts{scans: 200}, "counts before the restore")
				addScanWebhook(t, s, 40, 120)
				log.Entries = backup
				switch {
				case test.origins && test.longer: // in another order: new scans first
					ship(201, false, events.Take(80))
					ship(101, true, lost)
				case test.longer:
					ship(0, false, events.Take(180))
				default:
					ship(201, false, events.Take(10))
				}
				counter = scantest.NewAggregator(s, log)
				got := count()
				if test.origins && !test.longer {
					assert.Equal(t, got.missing, 100, "missing scans before they are reshipped")
					ship(101, true, lost)
					got = count()
				}
				assert.Equal(t, got, test.counts, "counts after the restore")
				assert.Equal(t, readerPositions(t, s), test.positions, "positions of the webhook and its reader")
			})
		})
	}
}

// TestNewestScans_TailOfFeed verifies that the newest scans equal the end of the complete feed, each once, and are found without reading
// the complete scan log.
func TestNewestScans_TailOfFeed(t *testing.T) {
	scantest.WithStore(t, func(t *testing.T, s *store.Store) {
		r := rand.New(rand.NewPCG(11, 6))
		log, events := &scantest.Memory{Gaps: r}, &scantest.Traffic{Random: r, Now: began, Users: 200}
		c := scantest.NewAggregator(s, log)
		checkNewest := func(n, limit int, all []stats.Counted) {
			t.Helper()
			list, older, err := c.Newest(t.Context(), nil, n, limit)
			require.NoError(t, err)
			want := all[max(0, len(all)-n):]
			want = want[:min(limit, len(want))]
			assert.True(t, older == (len(all) > n) && slices.EqualFunc(list, want,
				func(a, b stats.Counted) bool { return a.ID == b.ID && a.Activity == b.Activity }),
				"Newest(%d, limit %d) = %d scans, older %v; want %d of %d", n, limit, len(list), older, len(want), len(all))
		}
		checkNewest(5, 5, nil)
		for range 6 {
			require.NoError(t, log.Append(t.Context(), events.Take(500)))
			require.NoError(t, c.CatchUp(t.Context()))
			all := require.All(t, c.All(t.Context(), 0))
			for _, n := range []int{1, 2, 7, 100, 499, len(all) - 1, len(all), len(all) + 1, 100_000} {
				checkNewest(n, 1000, all)
				checkNewest(n, 3, all)
			}
		}
		log.Yielded = 0
		if _, _, err := c.Newest(t.Context(), nil, 10, 10); err != nil || log.Yielded > 500 {
			t.Errorf("Newest(10) reads %d of %d entries, %v, want at most 500", log.Yielded, len(log.Entries), err)
		}
	})
}

// TestLargest_UnmatchedLateScan verifies that the unmatched scans of past days include a late scan.
func TestLargest_UnmatchedLateScan(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		log, r := &scantest.Memory{}, rand.New(rand.NewPCG(1, 2))
		c := scantest.NewAggregator(s, log)
		c.Now = func() time.Time { return began.AddDate(0, 0, 3) }
		for n, text := range []string{"https://a.example/1", "https://b.example/1", "https://b.example/2", "https://b.example/2"} {
			scanned := []time.Time{began, began, began.AddDate(0, 0, 1), began.AddDate(0, 0, 3)}[n]
			require.NoError(t, log.Append(t.Context(), []scanlog.Event{{ID: scantest.ID(scanned, r), OccurredAt: scanned, Text: text}}))
			require.NoError(t, c.CatchUp(t.Context()))
			for range 2 { // the second query uses the cached sums
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

// TestLargest_Reset verifies that sums of past days are read again after a reset, although their total is the same.
func TestLargest_Reset(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		log, r := &scantest.Memory{}, rand.New(rand.NewPCG(1, 2))
		c := scantest.NewAggregator(s, log)
		c.Now = func() time.Time { return began.AddDate(0, 0, 3) }
		checkLargest := func(app string) {
			event := scanlog.Event{ID: scantest.ID(began, r), OccurredAt: began, Action: "none", App: app}
			require.NoError(t, log.Append(t.Context(), []scanlog.Event{event}))
			require.NoError(t, c.CatchUp(t.Context()))
			q := stats.Question{From: began.AddDate(0, 0, -1), To: began.AddDate(0, 0, 2), Group: stats.App, Metric: stats.Scans}
			a, err := c.Execute(t.Context(), q)
			require.True(t, err == nil && len(a.Rows) == 1, "rows = %+v, %v, want one", a.Rows, err)
			assert.Equal(t, a.Rows[0].Value, app, "the scanned Mini Program")
		}
		checkLargest("a")
		require.NoError(t, c.Reset(func() error {
			log.Entries = nil
			return s.Reset(t.Context())
		}))
		checkLargest("b")
	})
}
