package stats_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/eventlog/stream"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/natstest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// Messages of a stream cannot be changed, and a restarted node sends some of them again much later: each scan is nevertheless read once and
// in order, also after an erasure, and the counts equal a recount, also for a new counter.
func TestStreamCounter_Dedup(t *testing.T) {
	server := natstest.Start(t, natstest.Options{})
	o, err := stream.Parse(server.Events())
	require.NoError(t, err)
	o.Marks = t.TempDir()
	o.Patience = time.Hour
	l, err := stream.Open(o)
	require.NoError(t, err)
	defer l.Close()
	journal, err := scanlog.OpenJournal(filepath.Join(o.Marks, "scans"), scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1})})
	require.NoError(t, err)
	defer journal.Close()
	ship := &scanlog.Shipper{Journal: journal, To: l, Node: "n", Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	client, err := nats.Connect(server.ClientURL())
	require.NoError(t, err)
	defer client.Close()
	s := scantest.OpenStore(t, store.Target{Dir: storetest.Folder(t)})
	c := scantest.NewCounter(s, l)
	c.Random = rand.NewChaCha8([32]byte{1})
	events, sum := &scantest.Traffic{Random: rand.New(rand.NewPCG(6, 7)), Now: began, Users: 20}, newNaive(8)
	come := func() {
		t.Helper()
		list := events.Take(200)
		for _, e := range list {
			sum.add(e)
		}
		require.NoError(t, errors.Join(journal.Append(t.Context(), list), ship.Flush(t.Context())))
		require.NoError(t, c.CatchUp(t.Context()))
	}
	// A message without an id is one that the stream does not know any more.
	again := func(list []scanlog.Event) {
		t.Helper()
		for _, e := range list {
			m := nats.NewMsg(fmt.Sprintf("qrjump.scans.%d", e.ID.Time().UnixMilli()/60_000))
			m.Data = scanlog.AppendRecord(nil, &e)
			require.NoError(t, assert.ErrorOf(client.RequestMsg(m, time.Minute)))
		}
	}
	feed := func() (list []scanlog.ScanID) {
		t.Helper()
		for e, err := range c.All(t.Context(), 0) {
			require.NoError(t, err)
			list = append(list, e.ID)
		}
		return list
	}
	come()
	again(events.Sent[50:150])
	come()
	before := feed()
	assert.Equal(t, len(before), 400, "scans in the feed")
	noDifference(t, c)
	user := events.Sent[0].User
	n, err := c.Erase(t.Context(), user)
	require.True(t, err == nil && n >= 3, "%d scans were erased: %v", n, err)
	assert.Equal(t, fmt.Sprint(feed()), fmt.Sprint(before), "the feed was\n%v, and", before)
	noDifference(t, c)
	again(events.Sent[150:250]) // also of the user who is erased
	if n, err := c.Erase(t.Context(), user); err != nil || n > 0 &&
		!slices.ContainsFunc(events.Sent[150:250], func(e scanlog.Event) bool { return e.User == user }) {
		t.Fatalf("%d scans were erased: %v", n, err)
	}
	come()
	c = scantest.NewCounter(s, l)
	come()
	assert.Equal(t, int64(len(feed())), sum.scans, "scans in the feed")
	noDifference(t, c)
}

// torn is a log that becomes another while it is read, of which the reader gets a part.
type torn struct {
	*renewed
	next    *scantest.Memory
	erasing func() // when it is first asked for the scans of users
}

func (l *torn) ForUsers(ctx context.Context, users scanlog.Users, after int64) iter.Seq2[scanlog.Entry, error] {
	if first := l.erasing; first != nil {
		l.erasing = nil
		first()
	}
	return l.renewed.ForUsers(ctx, users, after)
}

var errTorn = errors.New("the answer broke off")

func (l *torn) Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	tears := l.next != nil
	if tears {
		l.Memory, l.id, l.next = l.next, "anew", nil
	}
	return func(yield func(scanlog.Entry, error) bool) {
		for e, err := range l.renewed.Read(ctx, after) {
			// As a shipper brings them: each 250 say that the log has all before them.
			e.From = scanlog.Origin{Node: l.id, Position: e.Position, Before: (e.Position - 1) / 250 * 250}
			if !yield(e, err) {
				return
			}
			if tears && e.Position == 600 {
				yield(scanlog.Entry{}, errTorn)
				return
			}
		}
	}
}

// A log is made anew between a look at it and the reading, and the reading breaks off: nothing of it is stored as if it stood in
// the log before, where what stands before it is counted.
func TestStreamCounter_RecreatedDuringPartialRead(t *testing.T) {
	t.Parallel()
	events := &scantest.Traffic{Random: rand.New(rand.NewPCG(6, 8)), Now: began, Users: 20}
	before, anew := &scantest.Memory{}, &scantest.Memory{}
	require.NoError(t, errors.Join(before.Append(t.Context(), events.Take(300)), anew.Append(t.Context(), events.Take(700))))
	log := &torn{renewed: &renewed{before, "before"}}
	c := scantest.NewCounter(scantest.OpenStore(t, store.Target{Dir: storetest.Folder(t)}), log)
	require.NoError(t, c.CatchUp(t.Context()))
	log.erasing = func() { // between two calls of the counter that store what is pending
		require.NoError(t, before.Append(t.Context(), events.Take(1)))
		log.next = anew
		assert.ErrorIs(t, assert.ErrorOf(0, c.CatchUp(t.Context())), errTorn, "counting")
	}
	assert.True(t, assert.ErrorOf(c.Erase(t.Context(), scanlog.UserHash{1})) != nil, "a user was erased in half of a log")
	require.NoError(t, c.CatchUp(t.Context()))
	a, err := c.Execute(t.Context(), stats.Question{Metric: stats.Scans, From: began.AddDate(0, -1, 0), To: began.AddDate(0, 6, 0),
		Limit: stats.MaxAnswers})
	assert.True(t, err == nil && a.Scans == 300+700,
		"%d scans are counted, want the 300 of the log before and the 700 of the other: %v", a.Scans, err)
}

// interrupted is a stream to which something happens when a node ships to it, and the node learns nothing of how that went.
type interrupted struct {
	*stream.Log
	happens func()
}

var errInterrupted = errors.New("the answer was lost")

func (i *interrupted) Ship(ctx context.Context, node string, from, to scanlog.Offset, entries []scanlog.Entry) error {
	happens := i.happens
	if i.happens = nil; happens == nil {
		return i.Log.Ship(ctx, node, from, to, entries)
	}
	happens()
	return fmt.Errorf("%w: %v", errInterrupted, i.Log.Ship(ctx, node, from, to, entries))
}

// Scans contain the position up to which the stream is complete. They may arrive in a stream that was recreated without the earlier scans:
// the counter uses only positions that refer to the stream that it reads.
func TestStreamCounter_RecreatedDuringShipping(t *testing.T) {
	server := natstest.Start(t, natstest.Options{})
	s := scantest.OpenStore(t, store.Target{Dir: storetest.Folder(t)})
	open := func(marks string) *stream.Log {
		o, err := stream.Parse(server.Events())
		require.NoError(t, err)
		o.Marks, o.Patience, o.CountedSet = marks, time.Hour, s.Origin
		l, err := stream.Open(o)
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		return l
	}
	marks := t.TempDir()
	journal, err := scanlog.OpenJournal(filepath.Join(marks, "scans"), scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1})})
	require.NoError(t, err)
	defer journal.Close()
	to, another := &interrupted{Log: open(marks)}, open(t.TempDir())
	ship := &scanlog.Shipper{Journal: journal, To: to, Node: "n", Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	client, err := nats.Connect(server.ClientURL())
	require.NoError(t, err)
	defer client.Close()
	js, err := jetstream.New(client)
	require.NoError(t, err)
	events, c := &scantest.Traffic{Random: rand.New(rand.NewPCG(6, 7)), Now: began, Users: 20}, scantest.NewCounter(s, another)
	counted := func() int64 {
		t.Helper()
		require.NoError(t, c.CatchUp(t.Context()))
		a, err := c.Execute(t.Context(), stats.Question{Metric: stats.Scans, From: began.AddDate(0, -1, 0),
			To: began.AddDate(0, 6, 0), Limit: stats.MaxAnswers})
		require.NoError(t, err)
		return a.Scans
	}
	require.NoError(t, errors.Join(journal.Append(t.Context(), events.Take(40)), ship.Flush(t.Context())))
	to.happens = func() {
		require.NoError(t, js.DeleteStream(t.Context(), "QRJUMP_SCANS"))
		for _, err := another.End(t.Context()); err != nil; _, err = another.End(t.Context()) { // which makes it
			t.Log(err)
		}
	}
	require.NoError(t, journal.Append(t.Context(), events.Take(60)))
	err = ship.Flush(t.Context())
	require.True(t, errors.Is(err, errInterrupted), "%v", err)
	assert.Equal(t, counted(), 60, "counted")
	require.NoError(t, ship.Flush(t.Context()))
	assert.Equal(t, counted(), 100, "counted")
}
