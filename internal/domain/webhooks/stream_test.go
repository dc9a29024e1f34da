package webhooks_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/eventlog/stream"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/natstest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// streamNode is a node that ships its scans to a stream.
type streamNode struct {
	name    string
	log     *stream.Log
	journal *scanlog.Journal
	shipper *scanlog.Shipper
	scanned int
}

// cluster consists of nodes, an aggregator and a webhook publisher. Each of them advances only when the test calls it.
type cluster struct {
	*publisher
	counter *stats.Aggregator
	nats    natstest.Server
	port    int
	target  store.Target
}

const receiver = "https://a.example/"

// onEachStore runs a test on a new cluster for each database.
func onEachStore(t *testing.T, f func(t *testing.T, w *cluster)) {
	dbtest.ForEachDatabase(t, storetest.Postgres, func(t *testing.T, url string) {
		t.Parallel()
		target := store.Target{URL: url, Dir: storetest.Folder(t)}
		w := &cluster{publisher: newPublisherOn(t, scantest.OpenStore(t, target), &memoryLog{}), target: target}
		w.nats = natstest.Start(t, natstest.Options{})
		w.port = w.nats.Addr().(*net.TCPAddr).Port
		f(t, w)
	})
}

// startNode starts a node. The aggregator and the publisher read the scan log through the first node.
func (w *cluster) startNode(name string) *streamNode {
	w.t.Helper()
	o, err := stream.Parse(w.nats.URL())
	require.NoError(w.t, err)
	o.Marks, o.Patience = w.t.TempDir(), time.Minute
	o.CountedSet, o.ReportedSet, o.Counted = w.db.Origin, w.db.ReportedSet, w.db.CountedUpTo
	n := &streamNode{name: name}
	n.log = require.Value(stream.Open(o))(w.t)
	w.t.Cleanup(func() { n.log.Close() })
	require.NoError(w.t, n.log.Begin(func() (scanlog.Offset, error) { return scanlog.Offset{}, nil }))
	random := rand.NewChaCha8([32]byte{name[0]})
	n.journal = require.Value(scanlog.OpenJournal(filepath.Join(o.Marks, "scans"), scanlog.JournalOptions{Random: random}))(w.t)
	w.t.Cleanup(func() { n.journal.Close() })
	n.shipper = &scanlog.Shipper{Journal: n.journal, To: n.log, Node: name, Random: random, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(&w.logs, nil)), Batch: 25}
	if w.counter == nil {
		w.service.Log, w.service.Origins = n.log, true
		w.counter = w.newCounter(n)
	}
	return n
}

func (w *cluster) newCounter(n *streamNode) *stats.Aggregator {
	counter := scantest.NewAggregator(w.db, n.log)
	counter.Now = func() time.Time { return w.now }
	return counter
}

// scan records scans on a node and ships them.
func (w *cluster) scan(n *streamNode, count int) {
	w.t.Helper()
	require.NoError(w.t, n.journal.Append(w.t.Context(), n.newScans(count)))
	w.flush(n)
}

// newScans returns scans of a node, each by another user.
func (n *streamNode) newScans(count int) (list []scanlog.Event) {
	for range count {
		e := ruleScan(1)
		e.ID = scanlog.ScanID{0: 1, 10: n.name[0], 14: byte(n.scanned >> 8), 15: byte(n.scanned)}
		e.User = scanlog.UserHash(e.ID)
		n.scanned++
		list = append(list, e)
	}
	return list
}

func (w *cluster) flush(n *streamNode) {
	w.t.Helper()
	w.retry(n.shipper.Flush)
}

// retry calls f until it succeeds. A restarted server rejects requests or loses one, and the client would wait for all of Patience.
// The first attempt has a deadline of one second, which doubles after each timeout.
func (w *cluster) retry(f func(ctx context.Context) error) {
	w.t.Helper()
	for deadline := time.Second; ; {
		ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
		err := f(ctx)
		if ctx.Err() != nil {
			deadline *= 2
		}
		cancel()
		if err == nil {
			return
		}
		require.NoErrorf(w.t, w.t.Context().Err(), "the last attempt: %v", err)
		time.Sleep(5 * time.Millisecond) // the machine is for the server that starts
	}
}

// checkCounted runs the aggregator and checks the total number of scans.
func (w *cluster) checkCounted(want int64) {
	w.t.Helper()
	require.NoError(w.t, w.counter.CatchUp(w.t.Context()))
	a, err := w.counter.Execute(w.t.Context(), stats.Question{Metric: stats.Scans, From: began.AddDate(0, -1, 0),
		To: began.AddDate(0, 1, 0), Limit: stats.MaxAnswers})
	assert.True(w.t, err == nil && a.Scans == want, "aggregated scans = %d, %v, want %d", a.Scans, err, want)
}

func (w *cluster) deleteStream() {
	w.t.Helper()
	conn := require.Value(nats.Connect(w.nats.ClientURL()))(w.t)
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err == nil {
		err = js.DeleteStream(w.t.Context(), "QRJUMP_SCANS")
	}
	require.NoError(w.t, err)
}

// expireDeliveries removes stored deliveries, so that a repeated event reaches the receiver again instead of being deduplicated.
func (w *cluster) expireDeliveries() {
	w.t.Helper()
	w.now = w.now.AddDate(0, 1, 0)
	w.step()
	list, err := w.service.Deliveries(w.t.Context(), outbox.Query{Limit: 10})
	require.True(w.t, err == nil && len(list) == 0, "%d deliveries after their expiry, %v, want none", len(list), err)
}

// backUpStream returns a folder with a copy of the data of the NATS server.
func (w *cluster) backUpStream() string {
	w.t.Helper()
	backup := w.t.TempDir()
	w.restartNATS(func(folder string) error { return os.CopyFS(backup, os.DirFS(folder)) })
	return backup
}

func (w *cluster) restoreStream(backup string) {
	w.t.Helper()
	w.restartNATS(func(folder string) error {
		return errors.Join(os.RemoveAll(folder), os.CopyFS(folder, os.DirFS(backup)))
	})
}

// restartNATS stops the NATS server, calls change and starts the server on the same port.
func (w *cluster) restartNATS(change func(folder string) error) {
	w.t.Helper()
	folder := w.nats.StoreDir()
	if filepath.Base(folder) == "jetstream" {
		folder = filepath.Dir(folder)
	}
	w.nats.Stop()
	require.NoError(w.t, change(folder))
	w.nats = natstest.Start(w.t, natstest.Options{Dir: folder, Host: "127.0.0.1", Port: w.port})
}

// deleteReportedSets leaves the database as a version that stores no sets of reported scans does.
func (w *cluster) deleteReportedSets() {
	w.t.Helper()
	address := w.target.URL
	if address == "" {
		address = "file:" + filepath.Join(w.target.Dir, "qrjump.db") + "?_busy_timeout=10000"
	}
	dbtest.Exec(w.t, address, `DELETE FROM webhook_offsets`)
	dbtest.Exec(w.t, address, `UPDATE webhook_readers SET checkpoint = ''`)
}

// checkDelivered sends what is due and checks that the receiver got each scan of the nodes exactly once.
func (w *cluster) checkDelivered(when string, nodes ...*streamNode) {
	w.t.Helper()
	w.step()
	delivered := map[string]int{}
	for _, id := range w.events(receiver) {
		delivered[id]++
	}
	missing, repeated, want := 0, 0, 0
	for _, n := range nodes {
		want += n.scanned
		for i := range n.scanned {
			id := scanlog.ScanID{0: 1, 10: n.name[0], 14: byte(i >> 8), 15: byte(i)}
			switch delivered["scan_"+id.String()] {
			case 0:
				missing++
			case 1:
			default:
				repeated++
			}
		}
	}
	assert.True(w.t, missing <= 0 && repeated <= 0 && len(delivered) <= want,
		"%s: of %d scans %d were missing, %d were repeated, and %d unexpected events arrived, want each scan once",
		when, want, missing, repeated, len(delivered)-want+missing)
}

// TestWebhookStream_LostBehindCounter deletes the stream twice while the webhook reader is behind the aggregator. The receiver must get
// each scan exactly once.
func TestWebhookStream_LostBehindCounter(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, w *cluster) {
		nodeA, nodeB := w.startNode("early"), w.startNode("b")
		w.scan(nodeA, 30)
		w.checkCounted(30)
		w.add(receiver, webhooks.Filter{Rules: []int64{1}})
		nodeA.name, nodeA.scanned = "a", 0 // scans from before the webhook are not delivered
		w.scan(nodeA, 40)
		w.scan(nodeB, 40)
		w.checkCounted(110)
		w.checkDelivered("before the loss", nodeA, nodeB)
		w.expireDeliveries()
		for range 2 {
			w.scan(nodeA, 35)
			w.scan(nodeB, 35)
			w.checkCounted(int64(30 + nodeA.scanned + nodeB.scanned))
			w.deleteStream()
			w.flush(nodeA)
			w.flush(nodeB)
			w.checkCounted(int64(30 + nodeA.scanned + nodeB.scanned))
		}
		w.checkDelivered("after two losses", nodeA, nodeB)
		n := w.counter.Counted()
		want := int64(30 + nodeA.scanned + nodeB.scanned)
		assert.True(t, n == want, "counter.Counted() = %d, want %d", n, want)
		if n := strings.Count(w.logs.String(), "the stream lost events"); n != 4 {
			t.Errorf("%d log lines for two losses on two nodes, want 4:\n%s", n, w.logs.String())
		}
		w.scan(nodeB, 5)
		w.checkDelivered("after further scans", nodeA, nodeB)
	})
}

// TestWebhookStream_EarlierVersionNotRepeated begins with a database of a version that stores no sets of reported scans, as an import
// of webhooks leaves it too. The stream is lost before any node reads a new scan. Scans that the earlier version delivered must not be
// repeated, and each later scan must be delivered once, also after further losses.
func TestWebhookStream_EarlierVersionNotRepeated(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, w *cluster) {
		nodeA, nodeB := w.startNode("a"), w.startNode("b")
		w.add(receiver, webhooks.Filter{Rules: []int64{1}})
		w.scan(nodeA, 40)
		w.scan(nodeB, 40)
		w.checkCounted(80)
		w.checkDelivered("before the loss", nodeA, nodeB)
		w.expireDeliveries()
		w.deleteReportedSets()
		w.deleteStream()
		w.scan(nodeA, 1) // ships the lost scans and a new one
		w.checkCounted(81)
		w.checkDelivered("after a loss", nodeA, nodeB)
		w.expireDeliveries()
		w.scan(nodeB, 1)
		w.checkDelivered("after the second node shipped", nodeA, nodeB) // the aggregator is behind
		w.checkCounted(82)
		w.checkDelivered("after counting", nodeA, nodeB)
		w.expireDeliveries()
		w.scan(nodeB, 7)
		w.checkDelivered("before counting", nodeA, nodeB)
		w.expireDeliveries()
		w.deleteStream()
		w.flush(nodeA)
		w.flush(nodeB)
		w.checkCounted(89)
		w.scan(nodeB, 1)
		w.checkDelivered("after another loss", nodeA, nodeB)
	})
}

// TestWebhookStream_EarlierVersionRemovedNode restores a backup of the stream instead. One node was removed and ships no more scans.
func TestWebhookStream_EarlierVersionRemovedNode(t *testing.T) {
	t.Parallel()
	for name, readFirst := range map[string]bool{"read before restore": true, "not read before restore": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEachStore(t, func(t *testing.T, w *cluster) {
				nodeA, removedNode := w.startNode("a"), w.startNode("b")
				w.add(receiver, webhooks.Filter{Rules: []int64{1}})
				w.scan(removedNode, 40)
				w.scan(nodeA, 10)
				backup := w.backUpStream()
				w.scan(nodeA, 20)
				w.checkCounted(70)
				w.checkDelivered("before the loss", nodeA, removedNode)
				w.expireDeliveries()
				w.deleteReportedSets()
				if readFirst {
					w.checkDelivered("before the restore", nodeA, removedNode)
				}
				w.restoreStream(backup)
				w.retry(func(ctx context.Context) error { _, err := nodeA.log.End(ctx); return err })
				w.counter = w.newCounter(nodeA) // detects that the log was truncated
				w.checkCounted(70)
				w.flush(nodeA)
				w.checkCounted(70)
				w.checkDelivered("after the restore", nodeA, removedNode)
				w.scan(nodeA, 5)
				w.checkCounted(75)
				w.checkDelivered("after further scans", nodeA, removedNode)
			})
		})
	}
}

// TestWebhookStream_RemainderFromJournal queues the undelivered scans of an abandoned stream from the journal, twice as after a kill.
// Each scan must be delivered once, also when the node uses the stream again.
func TestWebhookStream_RemainderFromJournal(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, w *cluster) {
		nodeA := w.startNode("a")
		w.add(receiver, webhooks.Filter{Rules: []int64{1}})
		w.scan(nodeA, 30)
		w.checkCounted(30)
		w.checkDelivered("before the loss", nodeA)
		w.expireDeliveries()
		w.scan(nodeA, 30)
		w.checkCounted(60)
		w.scan(nodeA, 15) // not counted yet
		journal := func(after int64) iter.Seq2[scanlog.Entry, error] { return nodeA.journal.Read(t.Context(), after) }
		for range 2 {
			counted := require.Value(w.db.Origin(t.Context(), nodeA.name))(t)
			require.NoError(t, assert.ErrorOf(w.service.QueueRest(t.Context(), nodeA.name, counted, 0, journal)))
			log := w.service.Log
			w.service.Log = nil // the stream is abandoned
			w.checkDelivered("after leaving the stream", nodeA)
			w.expireDeliveries()
			w.service.Log = log
		}
		w.checkCounted(75)
		w.checkDelivered("after returning to the stream", nodeA)
	})
}

// recordingLog records the positions from which it is read.
type recordingLog struct {
	webhooks.Scans
	starts []int64
	onEnd  func() // called after a complete read
}

func (r *recordingLog) Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	r.starts = append(r.starts, after)
	return func(yield func(scanlog.Entry, error) bool) {
		for e, err := range r.Scans.Read(ctx, after) {
			if !yield(e, err) {
				return
			}
		}
		if r.onEnd != nil {
			r.onEnd()
		}
	}
}

// TestWebhookStream_MixedStreamAndJournal switches the aggregator between a stream and the scan table of the database and back, because
// one node has left the stream, while the webhook reader is behind in both logs. Each scan must be delivered once, also after a webhook
// was added in between; the stream must not be read from its beginning, and each user must be counted.
func TestWebhookStream_MixedStreamAndJournal(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, w *cluster) {
		if w.target.URL == "" {
			return // SQLite has a single node
		}
		nodeA, tableNode := w.startNode("a"), &streamNode{name: "b"}
		table := require.Value(w.db.OpenScans(t.Context(), store.ScansOptions{Random: rand.NewChaCha8([32]byte{1}), Now: time.Now,
			Log: slog.New(slog.DiscardHandler)}))(t)
		onStream, onTable := w.counter, w.newCounter(nodeA)
		onTable.Log = table
		streamLog := &recordingLog{Scans: nodeA.log}
		// scanOn switches to a log, records scans in it and counts them.
		scanOn := func(useTable bool, count int) {
			t.Helper()
			if useTable {
				w.counter, w.service.Log, w.service.Origins = onTable, table, false
				require.NoError(t, table.Append(t.Context(), tableNode.newScans(count)))
			} else {
				w.counter, w.service.Log, w.service.Origins = onStream, streamLog, true
				w.scan(nodeA, count)
			}
			w.checkCounted(int64(nodeA.scanned + tableNode.scanned))
		}
		w.add(receiver, webhooks.Filter{Rules: []int64{1}})
		scanOn(false, 40)
		w.checkDelivered("before the loss", nodeA)
		scanOn(false, 20)
		scanOn(true, 25)
		scanOn(true, 10)
		streamLog.starts = nil
		scanOn(false, 5)
		w.step()
		w.service.Log = table // of the node that does not count now
		w.add("https://late.example/", webhooks.Filter{Rules: []int64{1}})
		scanOn(true, 3)
		w.checkDelivered("after switching to the stream and back", nodeA, tableNode)
		n := len(w.events("https://late.example/"))
		assert.True(t, n >= 3, "the late webhook got %d scans, want at least 3", n)
		w.expireDeliveries()
		for range 2 {
			scanOn(false, 2)
			w.step()
			scanOn(true, 2)
			w.checkDelivered("after another switch", nodeA, tableNode)
			w.expireDeliveries()
		}
		assert.True(t, !slices.Contains(streamLog.starts, 0), "the stream was read from 0, want later positions only: %v", streamLog.starts)
		for _, useTable := range []bool{false, true} { // each aggregator saves its users in the sketches
			scanOn(useTable, 1)
			require.NoError(t, w.counter.CatchUpAndSave(t.Context()))
		}
		a, err := w.counter.Execute(t.Context(), stats.Question{Metric: stats.Users, From: began, To: began.AddDate(0, 0, 1)})
		assert.True(t, err == nil && len(a.Rows) == 1 && a.Rows[0].Users == int64(nodeA.scanned+tableNode.scanned),
			"users = %+v, %v, want %d", a.Rows, err, nodeA.scanned+tableNode.scanned)
	})
}

// TestWebhookStream_NodeLeavesConcurrently removes a node with a large backlog from a stream while other nodes count and deliver between
// its steps. The node must read each scan of its journal once, and must keep what a concurrent reader stores.
func TestWebhookStream_NodeLeavesConcurrently(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, w *cluster) {
		nodeA, nodeB := w.startNode("a"), w.startNode("b")
		w.add(receiver, webhooks.Filter{Rules: []int64{1}})
		w.scan(nodeA, 10)
		w.scan(nodeB, 10)
		w.checkCounted(20)
		const backlog = 2500
		require.NoError(t, nodeA.journal.Append(t.Context(), nodeA.newScans(backlog)))
		examined := 0
		journal := func(after int64) iter.Seq2[scanlog.Entry, error] {
			return func(yield func(scanlog.Entry, error) bool) {
				for e, err := range nodeA.journal.Read(t.Context(), after) {
					if examined++; examined > 2*backlog {
						yield(e, errors.New("the journal is read more than twice"))
						return
					}
					if !yield(e, err) {
						return
					}
					if e.Position%500 == 0 {
						w.scan(nodeB, 1)
						_, err := w.service.Collect(t.Context())
						assert.NoError(t, errors.Join(err, w.counter.CatchUp(t.Context())))
					}
				}
			}
		}
		// The reader has read the shipped scans of node a, and stores its position after the backlog was queued.
		nodeLog := &recordingLog{Scans: nodeA.log}
		nodeLog.onEnd = func() {
			nodeLog.onEnd = nil
			counted := require.Value(w.db.Origin(t.Context(), nodeA.name))(t)
			n, err := w.service.QueueRest(t.Context(), nodeA.name, counted, 0, journal)
			assert.True(t, err == nil && n >= backlog, "QueueRest() = %d, %v, want at least %d", n, err, backlog)
		}
		w.service.Log = nodeLog
		w.step()
		if reported, err := w.db.ReportedSet(t.Context(), nodeA.name); err != nil || reported.Missing(backlog+10) > 0 {
			t.Errorf("%d of %d scans of the node are not in the reported set, %v, want 0", reported.Missing(backlog+10), backlog+10, err)
		}
		examined = 0
		counter := w.newCounter(nodeA)
		counter.Events = 200
		n, err := counter.BackfillJournal(t.Context(), nodeA.name, 10, journal)
		if err != nil || n != backlog || examined > backlog+backlog/100 {
			t.Errorf("BackfillJournal() = %d, %v after reading %d scans, want %d", n, err, examined, backlog)
		}
		w.checkCounted(int64(nodeA.scanned + nodeB.scanned))
		w.checkDelivered("after leaving the stream", nodeA, nodeB)
	})
}

// TestWebhookStream_RestoredOlder restores a backup of the stream, and another node fills it beyond the reader's position before any
// node reads it. The reader must detect that another scan is stored at its position.
func TestWebhookStream_RestoredOlder(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, w *cluster) {
		nodeA, nodeB := w.startNode("a"), w.startNode("b")
		w.add(receiver, webhooks.Filter{Rules: []int64{1}})
		w.scan(nodeA, 40)
		backup := w.backUpStream()
		w.scan(nodeA, 20)
		w.checkCounted(60)
		w.checkDelivered("before the loss", nodeA)
		w.expireDeliveries()
		w.scan(nodeA, 20)
		w.checkCounted(80)
		w.restoreStream(backup)
		w.scan(nodeB, 50)
		w.flush(nodeA)
		w.checkDelivered("after the restore", nodeA, nodeB)
		w.counter = w.newCounter(nodeA)
		w.checkCounted(130)
		w.scan(nodeB, 5)
		w.checkCounted(135)
		w.checkDelivered("after further scans", nodeA, nodeB)
	})
}

// unavailableLog is a scan log that returns an error.
type unavailableLog struct {
	*memoryLog
	calls int
}

func (l *unavailableLog) End(context.Context) (int64, error) {
	l.calls++
	return 0, errors.New("unavailable")
}

// TestWebhooks_LogUnavailableUnused verifies that an unavailable scan log is neither read nor logged while no webhook wants scans, that
// alarms are delivered anyway, and that the failure is logged once if a webhook wants scans.
func TestWebhooks_LogUnavailableUnused(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	scanLog := &unavailableLog{memoryLog: p.scanLog}
	p.service.Log = scanLog
	p.add(receiver, webhooks.Filter{Alarms: true})
	p.alarms = append(p.alarms, webhooks.Event{Number: 1, Type: webhooks.AlarmRaised, At: began})
	p.step()
	if got := p.events(receiver); !slices.Equal(got, []string{"alarm_1"}) || p.logs.Len() > 0 || scanLog.calls > 0 {
		t.Errorf("events = %v after %d calls of the scan log, want alarm_1 and no call; log:\n%s", got, scanLog.calls, p.logs.String())
	}
	p.service.Log = p.scanLog
	p.add("https://b.example/", webhooks.Filter{Rules: []int64{1}})
	p.service.Log = scanLog
	_, _, err := p.service.Add(t.Context(), "https://c.example/", webhooks.Filter{Rules: []int64{1}})
	assert.True(t, err != nil, "Add() of a webhook for scans succeeds, want an error while the end of the scan log is unknown")
	p.alarms = append(p.alarms, webhooks.Event{Number: 2, Type: webhooks.AlarmRaised, At: began})
	p.step()
	if got := p.events(receiver); !slices.Equal(got, []string{"alarm_1", "alarm_2"}) || strings.Count(p.logs.String(), "\n") != 1 {
		t.Errorf("events = %v, want two alarms and one log line; log:\n%s", got, p.logs.String())
	}
	// A failure of alarms is logged separately.
	alarms := p.service.Alarms
	p.service.Alarms = func(context.Context, int64, int) ([]webhooks.Event, error) { return nil, errors.New("no alarms now") }
	p.alarms = append(p.alarms, webhooks.Event{Number: 3, Type: webhooks.AlarmRaised, At: began})
	p.step()
	n := strings.Count(p.logs.String(), "no alarms now")
	assert.True(t, n == 1 && strings.Count(p.logs.String(), "\n") == 2, "want one log line for each failure; log:\n%s", p.logs.String())
	p.service.Alarms, p.service.Log = alarms, p.scanLog
	p.scanLog.add(ruleScan(1))
	p.step()
	got := p.events("https://b.example/")
	assert.True(t, len(got) == 1 && strings.Count(p.logs.String(), "\n") == 4,
		"after recovery: events = %v, want one event and four log lines; log:\n%s", got, p.logs.String())
}
