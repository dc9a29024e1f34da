package webhooks_test

import (
	"context"
	"errors"
	"fmt"
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

	"github.com/qrjump/qrjump/internal/contract/settings"
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

// streamNode is a node whose scans go to a stream.
type streamNode struct {
	name    string
	log     *stream.Log
	journal *scanlog.Journal
	ship    *scanlog.Shipper
	scanned int
}

// town is nodes, the counting and the reader of webhooks, each of which goes on when the test says so.
type town struct {
	*post
	counter *stats.Aggregator
	nats    natstest.Server
	port    int
	target  store.Target
}

const receiver = "https://a.example/"

func eachTown(t *testing.T, f func(t *testing.T, w *town)) {
	for name, target := range map[string]func(t *testing.T) store.Target{
		"sqlite":   func(t *testing.T) store.Target { return store.Target{Dir: storetest.Folder(t)} },
		"postgres": func(t *testing.T) store.Target { return store.Target{URL: storetest.Postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := target(t)
			s, err := store.Open(t.Context(), at)
			require.NoError(t, err)
			t.Cleanup(func() { s.Close() })
			free, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer free.Close()
			w := &town{post: office(t, s, &scans{}), port: free.Addr().(*net.TCPAddr).Port, target: at}
			free.Close()
			w.nats = natstest.Start(t, natstest.Options{Dir: t.TempDir(), Host: "127.0.0.1", Port: w.port})
			f(t, w)
		})
	}
}

// node starts a node. The first one counts, and tells.
func (w *town) node(name string) *streamNode {
	w.t.Helper()
	o, err := stream.Parse(fmt.Sprintf("nats://127.0.0.1:%d?flush=vouched", w.port))
	require.NoError(w.t, err)
	o.Marks, o.Patience = w.t.TempDir(), time.Minute
	o.CountedSet, o.ReportedSet, o.Counted = w.db.Origin, w.db.ReportedSet, w.db.CountedUpTo
	n := &streamNode{name: name}
	n.log, err = stream.Open(o)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { n.log.Close() })
	require.NoError(w.t, n.log.Begin(func() (scanlog.Offset, error) { return scanlog.Offset{}, nil }))
	random := rand.NewChaCha8([32]byte{name[0]})
	n.journal, err = scanlog.OpenJournal(filepath.Join(o.Marks, "scans"), scanlog.JournalOptions{Random: random})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { n.journal.Close() })
	n.ship = &scanlog.Shipper{Journal: n.journal, To: n.log, Node: name, Random: random, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(&w.logs, nil)), Batch: 25}
	if w.counter == nil {
		w.service.Log, w.service.Origins = n.log, true
		w.counter = w.newCounter(n)
	}
	return n
}

func (w *town) newCounter(n *streamNode) *stats.Aggregator {
	return &stats.Aggregator{Log: n.log, Store: w.db, Alarms: scantest.Alarms(w.db), Settings: settings.NewLive(settings.Defaults()),
		Now:    func() time.Time { return w.now },
		Logger: slog.New(slog.DiscardHandler)}
}

// scan records scans on a node and ships them.
func (w *town) scan(n *streamNode, many int) {
	w.t.Helper()
	require.NoError(w.t, n.journal.Append(w.t.Context(), n.next(many)))
	w.flush(n)
}

// next makes scans of a node, each by a user of its own.
func (n *streamNode) next(many int) (list []scanlog.Event) {
	for range many {
		e := ofRule(1)
		e.ID = scanlog.ScanID{0: 1, 10: n.name[0], 14: byte(n.scanned >> 8), 15: byte(n.scanned)}
		e.User = scanlog.UserHash(e.ID)
		n.scanned++
		list = append(list, e)
	}
	return list
}

// rest is its journal behind a position.
func (n *streamNode) rest(t *testing.T) func(int64) iter.Seq2[scanlog.Entry, error] {
	return func(after int64) iter.Seq2[scanlog.Entry, error] { return n.journal.Read(t.Context(), after) }
}

func (w *town) flush(n *streamNode) {
	w.t.Helper()
	w.works(n.ship.Flush)
}

// works retries f until it succeeds. A server that was just restarted refuses requests, or loses one, whose client would
// wait for all of Patience: an attempt has a second, and twice as long after each that was cut off.
func (w *town) works(f func(ctx context.Context) error) {
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

func (w *town) count(want int64) {
	w.t.Helper()
	require.NoError(w.t, w.counter.CatchUp(w.t.Context()))
	a, err := w.counter.Execute(w.t.Context(), stats.Question{Metric: stats.Scans, From: began.AddDate(0, -1, 0),
		To: began.AddDate(0, 1, 0), Limit: stats.MaxAnswers})
	assert.True(w.t, err == nil && a.Scans == want, "%d scans are counted, want %d: %v", a.Scans, want, err)
}

// lose deletes the stream.
func (w *town) lose() {
	w.t.Helper()
	conn, err := nats.Connect(w.nats.ClientURL())
	require.NoError(w.t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err == nil {
		err = js.DeleteStream(w.t.Context(), "QRJUMP_SCANS")
	}
	require.NoError(w.t, err)
}

// forget forgets deliveries: what is told again arrives again.
func (w *town) forget() {
	w.t.Helper()
	w.now = w.now.AddDate(0, 1, 0)
	w.step()
	list, err := w.service.Deliveries(w.t.Context(), outbox.Query{Limit: 10})
	require.True(w.t, err == nil && len(list) == 0, "%d deliveries are kept: %v", len(list), err)
}

// older is a copy of what the NATS server has now.
func (w *town) older() string {
	w.t.Helper()
	older := w.t.TempDir()
	w.stopped(func(folder string) error { return os.CopyFS(older, os.DirFS(folder)) })
	return older
}

// restart puts back such a copy.
func (w *town) restart(older string) {
	w.t.Helper()
	w.stopped(func(folder string) error {
		return errors.Join(os.RemoveAll(folder), os.CopyFS(folder, os.DirFS(older)))
	})
}

// stopped stops the NATS server, and starts it again.
func (w *town) stopped(change func(folder string) error) {
	w.t.Helper()
	folder := w.nats.StoreDir()
	if filepath.Base(folder) == "jetstream" {
		folder = filepath.Dir(folder)
	}
	w.nats.End()
	require.NoError(w.t, change(folder))
	w.nats = natstest.Start(w.t, natstest.Options{Dir: folder, Host: "127.0.0.1", Port: w.port})
}

// unlearn makes the database what a version left that notes nothing told.
func (w *town) unlearn() {
	w.t.Helper()
	address := w.target.URL
	if address == "" {
		address = "file:" + filepath.Join(w.target.Dir, "qrjump.db") + "?_busy_timeout=10000"
	}
	dbtest.Exec(w.t, address, `DELETE FROM webhook_offsets`)
	dbtest.Exec(w.t, address, `UPDATE webhook_readers SET checkpoint = ''`)
}

// told wants that the receiver was told of each scan of the nodes once.
func (w *town) told(when string, nodes ...*streamNode) {
	w.t.Helper()
	w.step()
	came := map[string]int{}
	for _, id := range w.events(receiver) {
		came[id]++
	}
	missing, again, want := 0, 0, 0
	for _, n := range nodes {
		want += n.scanned
		for i := range n.scanned {
			id := scanlog.ScanID{0: 1, 10: n.name[0], 14: byte(i >> 8), 15: byte(i)}
			switch came["scan_"+id.String()] {
			case 0:
				missing++
			case 1:
			default:
				again++
			}
		}
	}
	assert.True(w.t, missing <= 0 && again <= 0 && len(came) <= want,
		"%s: of %d scans %d were not told and %d were told again, and %d others", when, want, missing, again, len(came)-want+missing)
}

// Issue 29, 4: a stream is lost while the reader of webhooks is behind the counting, once
// and once more before it read on: it is told of every scan, and of none again.
func TestWebhookStream_LostBehindCounter(t *testing.T) {
	t.Parallel()
	eachTown(t, func(t *testing.T, w *town) {
		one := w.node("early")
		two := w.node("b")
		w.scan(one, 30)
		w.count(30)
		w.add(receiver, webhooks.Filter{Rules: []int64{1}})
		one.name, one.scanned = "a", 0 // of those from before nobody is told
		w.scan(one, 40)
		w.scan(two, 40)
		w.count(110)
		w.told("at first", one, two)
		w.forget()
		for range 2 {
			w.scan(one, 35)
			w.scan(two, 35)
			w.count(int64(30 + one.scanned + two.scanned))
			w.lose()
			w.flush(one)
			w.flush(two)
			w.count(int64(30 + one.scanned + two.scanned))
		}
		w.told("after two losses", one, two)
		n := w.counter.Counted()
		assert.True(t, n == int64(30+one.scanned+two.scanned), "the metric says that %d were counted", n)
		if n := strings.Count(w.logs.String(), "the stream lost events"); n != 4 {
			t.Errorf("%d lines of two losses on two nodes:\n%s", n, w.logs.String())
		}
		w.scan(two, 5)
		w.told("and goes on", one, two)
	})
}

// A version that notes nothing told was there until now, or an import brought the webhooks. The stream is lost before any node read a new
// scan: what that version told is not told again, and what comes from then on is told once, whatever is lost.
func TestWebhookStream_EarlierVersionNotRepeated(t *testing.T) {
	t.Parallel()
	eachTown(t, func(t *testing.T, w *town) {
		nodeA, nodeB := w.node("a"), w.node("b")
		w.add(receiver, webhooks.Filter{Rules: []int64{1}})
		w.scan(nodeA, 40)
		w.scan(nodeB, 40)
		w.count(80)
		w.told("at first", nodeA, nodeB)
		w.forget()
		w.unlearn()
		w.lose()
		w.scan(nodeA, 1) // and one that is new
		w.count(81)
		w.told("after a loss", nodeA, nodeB)
		w.forget()
		w.scan(nodeB, 1)
		w.told("and of a node that is later", nodeA, nodeB) // the counting is behind
		w.count(82)
		w.told("and counted", nodeA, nodeB)
		w.forget()
		w.scan(nodeB, 7)
		w.told("and not counted", nodeA, nodeB)
		w.forget()
		w.lose()
		w.flush(nodeA)
		w.flush(nodeB)
		w.count(89)
		w.scan(nodeB, 1)
		w.told("after another loss", nodeA, nodeB)
	})
}

// As before, with a stream that is put back older, and a node that is gone: no new scan of it is ever read.
func TestWebhookStream_EarlierVersionRemovedNode(t *testing.T) {
	t.Parallel()
	for name, learn := range map[string]bool{"looked before": true, "did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachTown(t, func(t *testing.T, w *town) {
				one := w.node("a")
				gone := w.node("b")
				w.add(receiver, webhooks.Filter{Rules: []int64{1}})
				w.scan(gone, 40)
				w.scan(one, 10)
				older := w.older()
				w.scan(one, 20)
				w.count(70)
				w.told("at first", one, gone)
				w.forget()
				w.unlearn()
				if learn {
					w.told("looked", one, gone)
				}
				w.restart(older)
				w.works(func(ctx context.Context) error { _, err := one.log.End(ctx); return err })
				w.counter = w.newCounter(one) // it cuts the ledger
				w.count(70)
				w.flush(one)
				w.count(70)
				w.told("after an older stream", one, gone)
				w.scan(one, 5)
				w.count(75)
				w.told("and goes on", one, gone)
			})
		})
	}
}

// What nobody told of a stream that is left is told from the journal, once, also where a
// kill lets it be told again; and from then on the reader tells of none of it.
func TestWebhookStream_RemainderFromJournal(t *testing.T) {
	t.Parallel()
	eachTown(t, func(t *testing.T, w *town) {
		one := w.node("a")
		w.add(receiver, webhooks.Filter{Rules: []int64{1}})
		w.scan(one, 30)
		w.count(30)
		w.told("at first", one)
		w.forget()
		w.scan(one, 30)
		w.count(60)
		w.scan(one, 15) // and these are not counted
		for range 2 {
			counted, err := w.db.Origin(t.Context(), one.name)
			require.NoError(t, err)
			require.NoError(t, assert.ErrorOf(w.service.QueueRest(t.Context(), one.name, counted, 0, one.rest(t))))
			log := w.service.Log
			w.service.Log = nil // it is left
			w.told("left", one)
			w.forget()
			w.service.Log = log
		}
		w.count(75)
		w.told("and come back to", one)
	})
}

// reads is a log that notes from where it is read.
type reads struct {
	webhooks.Scans
	after []int64
	then  func() // once that is read
}

func (r *reads) Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	r.after = append(r.after, after)
	return func(yield func(scanlog.Entry, error) bool) {
		for e, err := range r.Scans.Read(ctx, after) {
			if !yield(e, err) {
				return
			}
		}
		if r.then != nil {
			r.then()
		}
	}
}

// Issue 29, 4: one node has left a stream on which others are: the counting is turned from one ledger to the other and back
// while the reader is behind in both. Each scan is told of once, also to a webhook that is added meanwhile; nobody reads the
// stream from its beginning for that, and each user is counted.
func TestWebhookStream_MixedStreamAndJournal(t *testing.T) {
	t.Parallel()
	eachTown(t, func(t *testing.T, w *town) {
		if w.target.URL == "" {
			return // one node has the database alone
		}
		one, left := w.node("a"), &streamNode{name: "b"}
		table, err := w.db.OpenScans(t.Context(), store.ScansOptions{Random: rand.NewChaCha8([32]byte{1}), Now: time.Now,
			Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		onStream, onTable := w.counter, w.newCounter(one)
		onTable.Log = table
		reading := &reads{Scans: one.log}
		// turn lets the other node scan and count.
		turn := func(toTable bool, many int) {
			t.Helper()
			if toTable {
				w.counter, w.service.Log, w.service.Origins = onTable, table, false
				require.NoError(t, table.Append(t.Context(), left.next(many)))
			} else {
				w.counter, w.service.Log, w.service.Origins = onStream, reading, true
				w.scan(one, many)
			}
			w.count(int64(one.scanned + left.scanned))
		}
		w.add(receiver, webhooks.Filter{Rules: []int64{1}})
		turn(false, 40)
		w.told("at first", one)
		turn(false, 20)
		turn(true, 25)
		turn(true, 10)
		reading.after = nil
		turn(false, 5)
		w.step()
		w.service.Log = table // of a node whose counting was turned away
		w.add("https://late.example/", webhooks.Filter{Rules: []int64{1}})
		turn(true, 3)
		w.told("turned to and fro", one, left)
		n := len(w.events("https://late.example/"))
		assert.True(t, n >= 3, "the webhook that came late was told of %d scans, want 3 at least", n)
		w.forget()
		for range 2 {
			turn(false, 2)
			w.step()
			turn(true, 2)
			w.told("and again", one, left)
			w.forget()
		}
		assert.True(t, !slices.Contains(reading.after, 0), "the stream was read from its beginning: %v", reading.after)
		for _, toTable := range []bool{false, true} { // each brings the users to the sketches some time
			turn(toTable, 1)
			require.NoError(t, w.counter.CatchUpAndSave(t.Context()))
		}
		a, err := w.counter.Execute(t.Context(), stats.Question{Metric: stats.Users, From: began, To: began.AddDate(0, 0, 1)})
		assert.True(t, err == nil && len(a.Rows) == 1 && a.Rows[0].Users == int64(one.scanned+left.scanned),
			"the users are %+v, want %d: %v", a.Rows, one.scanned+left.scanned, err)
	})
}

// Issue 29, 4: a node leaves a stream with much that nobody counted or told, while others count and read on at each step of it:
// it looks at each scan of its journal once, and ends. What a reader notes in the middle stays noted.
func TestWebhookStream_NodeLeavesConcurrently(t *testing.T) {
	t.Parallel()
	eachTown(t, func(t *testing.T, w *town) {
		nodeA, nodeB := w.node("a"), w.node("b")
		w.add(receiver, webhooks.Filter{Rules: []int64{1}})
		w.scan(nodeA, 10)
		w.scan(nodeB, 10)
		w.count(20)
		const rest = 2500
		require.NoError(t, nodeA.journal.Append(t.Context(), nodeA.next(rest)))
		looked := 0
		journal := func(after int64) iter.Seq2[scanlog.Entry, error] {
			return func(yield func(scanlog.Entry, error) bool) {
				for e, err := range nodeA.journal.Read(t.Context(), after) {
					if looked++; looked > 2*rest {
						yield(e, errors.New("it never ends"))
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
		// A reader has read what node one brought, and notes it when the rest is told.
		between := &reads{Scans: nodeA.log}
		between.then = func() {
			between.then = nil
			counted, err := w.db.Origin(t.Context(), nodeA.name)
			require.NoError(t, err)
			n, err := w.service.QueueRest(t.Context(), nodeA.name, counted, 0, journal)
			assert.True(t, err == nil && n >= rest, "%d are told, want %d at least: %v", n, rest, err)
		}
		w.service.Log = between
		w.step()
		if told, err := w.db.ReportedSet(t.Context(), nodeA.name); err != nil || told.Missing(rest+10) > 0 {
			t.Errorf("of %d scans of the node %d are not noted as told: %v", rest+10, told.Missing(rest+10), err)
		}
		looked = 0
		c := w.newCounter(nodeA)
		c.Events = 200
		if n, err := c.BackfillJournal(t.Context(), nodeA.name, 10, journal); err != nil || n != rest || looked > rest+rest/100 {
			t.Errorf("%d are counted after %d looks, want %d: %v", n, looked, rest, err)
		}
		w.count(int64(nodeA.scanned + nodeB.scanned))
		w.told("left", nodeA, nodeB)
	})
}

// A stream is put back older, and another node fills it beyond the reader before anybody
// looks: at the place of the reader stands another scan.
func TestWebhookStream_RestoredOlder(t *testing.T) {
	t.Parallel()
	eachTown(t, func(t *testing.T, w *town) {
		nodeA, nodeB := w.node("a"), w.node("b")
		w.add(receiver, webhooks.Filter{Rules: []int64{1}})
		w.scan(nodeA, 40)
		older := w.older()
		w.scan(nodeA, 20)
		w.count(60)
		w.told("at first", nodeA)
		w.forget()
		w.scan(nodeA, 20)
		w.count(80)
		w.restart(older)
		w.scan(nodeB, 50)
		w.flush(nodeA)
		w.told("after an older stream", nodeA, nodeB)
		w.counter = w.newCounter(nodeA)
		w.count(130)
		w.scan(nodeB, 5)
		w.count(135)
		w.told("and goes on", nodeA, nodeB)
	})
}

// failing is a ledger that is away.
type failing struct {
	*scans
	asked int
}

func (f *failing) End(context.Context) (int64, error) {
	f.asked++
	return 0, errors.New("nobody answers")
}

// Where nobody wants scans, the log may be away: nothing is asked of it and nothing said,
// and alarms go on. Where somebody does, one line says so.
func TestWebhooks_LogUnavailableUnused(t *testing.T) {
	t.Parallel()
	p := open(t)
	away := &failing{scans: p.ledger}
	p.service.Log = away
	p.add(receiver, webhooks.Filter{Alarms: true})
	p.alarms = append(p.alarms, webhooks.Event{Number: 1, Type: webhooks.AlarmRaised, At: began})
	p.step()
	if got := p.events(receiver); !slices.Equal(got, []string{"alarm_1"}) || p.logs.Len() > 0 || away.asked > 0 {
		t.Errorf("told %v; asked %d times; the log says:\n%s", got, away.asked, p.logs.String())
	}
	p.service.Log = p.ledger
	p.add("https://b.example/", webhooks.Filter{Rules: []int64{1}})
	p.service.Log = away
	_, _, err := p.service.Add(t.Context(), "https://c.example/", webhooks.Filter{Rules: []int64{1}})
	assert.True(t, err != nil, "a webhook that wants scans is added while nobody knows which came before it")
	p.alarms = append(p.alarms, webhooks.Event{Number: 2, Type: webhooks.AlarmRaised, At: began})
	p.step()
	if got := p.events(receiver); !slices.Equal(got, []string{"alarm_1", "alarm_2"}) || strings.Count(p.logs.String(), "\n") != 1 {
		t.Errorf("told %v; the log says:\n%s", got, p.logs.String())
	}
	// Alarms begin to fail as well: that is another line.
	alarms := p.service.Alarms
	p.service.Alarms = func(context.Context, int64, int) ([]webhooks.Event, error) { return nil, errors.New("no alarms now") }
	p.alarms = append(p.alarms, webhooks.Event{Number: 3, Type: webhooks.AlarmRaised, At: began})
	p.step()
	n := strings.Count(p.logs.String(), "no alarms now")
	assert.True(t, n == 1 && strings.Count(p.logs.String(), "\n") == 2, "alarms fail too; the log says:\n%s", p.logs.String())
	p.service.Alarms, p.service.Log = alarms, p.ledger
	p.ledger.add(ofRule(1))
	p.step()
	got := p.events("https://b.example/")
	assert.True(t, len(got) == 1 && strings.Count(p.logs.String(), "\n") == 4, "back: told %v; the log says:\n%s", got, p.logs.String())
}
