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
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/domain/stats/verify"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/eventlog/stream"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/natstest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// TestStreamCounter_Dedup sends messages of a stream again, as a restarted node does much later, and erases a user. Each scan must be read
// once and in order, and the counts must equal a recount, also for a new counter.
func TestStreamCounter_Dedup(t *testing.T) {
	server := natstest.Start(t, natstest.Options{})
	o := require.Value(stream.Parse(server.URL()))(t)
	o.Marks = t.TempDir()
	o.Patience = time.Hour
	l := require.Value(stream.Open(o))(t)
	defer l.Close()
	journal, err := scanlog.OpenJournal(filepath.Join(o.Marks, "scans"), scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1})})
	require.NoError(t, err)
	defer journal.Close()
	shipper := &scanlog.Shipper{Journal: journal, To: l, Node: "n", Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	client := require.Value(nats.Connect(server.ClientURL()))(t)
	defer client.Close()
	s := scantest.OpenStore(t, store.Target{Dir: storetest.Folder(t)})
	c := scantest.NewAggregator(s, l)
	c.Random = rand.NewChaCha8([32]byte{1})
	events, sum := &scantest.Traffic{Random: rand.New(rand.NewPCG(6, 7)), Now: began, Users: 20}, newNaive()
	count := func() {
		t.Helper()
		list := events.Take(200)
		sum.add(list...)
		require.NoError(t, errors.Join(journal.Append(t.Context(), list), shipper.Flush(t.Context())))
		require.NoError(t, c.CatchUp(t.Context()))
	}
	// resend publishes messages without a message ID, which the stream does not deduplicate.
	resend := func(list []scanlog.Event) {
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
	count()
	resend(events.Sent[50:150])
	count()
	before := feed()
	assert.Equal(t, len(before), 400, "scans in the feed")
	checkRecount(t, c)
	user := events.Sent[0].User
	n, err := c.Erase(t.Context(), user)
	require.True(t, err == nil && n >= 3, "Erase() = %d, %v, want at least 3", n, err)
	assert.Equal(t, fmt.Sprint(feed()), fmt.Sprint(before), "the feed after the erasure")
	checkRecount(t, c)
	resend(events.Sent[150:250]) // includes scans of the erased user
	n, err = c.Erase(t.Context(), user)
	resent := slices.ContainsFunc(events.Sent[150:250], func(e scanlog.Event) bool { return e.User == user })
	require.True(t, err == nil && (n <= 0 || resent), "Erase() = %d, %v, want 0 unless scans of the user were sent again", n, err)
	count()
	c = scantest.NewAggregator(s, l)
	count()
	assert.Equal(t, int64(len(feed())), sum.scans, "scans in the feed")
	checkRecount(t, c)
}

// recreatedLog is replaced by the log next when it is read. This read fails after 600 entries.
type recreatedLog struct {
	*scantest.Memory
	next    *scantest.Memory
	onErase func() // runs in the first call of ForUsers
}

func (l *recreatedLog) ForUsers(ctx context.Context, users scanlog.Users, after int64) iter.Seq2[scanlog.Entry, error] {
	if f := l.onErase; f != nil {
		l.onErase = nil
		f()
	}
	return l.Memory.ForUsers(ctx, users, after)
}

var errPartialRead = errors.New("connection lost")

func (l *recreatedLog) Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	fails := l.next != nil
	if fails {
		l.Memory, l.next = l.next, nil
	}
	return func(yield func(scanlog.Entry, error) bool) {
		for e, err := range l.Memory.Read(ctx, after) {
			// As from a shipper with chunks of 250 entries, each of which states that all earlier entries are in the log.
			e.From = scanlog.Origin{Node: l.Name, Position: e.Position, Before: (e.Position - 1) / 250 * 250}
			if !yield(e, err) {
				return
			}
			if fails && e.Position == 600 {
				yield(scanlog.Entry{}, errPartialRead)
				return
			}
		}
	}
}

// TestStreamCounter_RecreatedDuringPartialRead recreates the log between the check of its ID and a read that fails in the middle. The
// counter must not store the scans of the new log at positions of the previous one, where all earlier scans are counted.
func TestStreamCounter_RecreatedDuringPartialRead(t *testing.T) {
	t.Parallel()
	events := &scantest.Traffic{Random: rand.New(rand.NewPCG(6, 8)), Now: began, Users: 20}
	before, after := &scantest.Memory{Name: "before"}, &scantest.Memory{Name: "after"}
	require.NoError(t, errors.Join(before.Append(t.Context(), events.Take(300)), after.Append(t.Context(), events.Take(700))))
	log := &recreatedLog{Memory: before}
	c := scantest.NewAggregator(scantest.OpenStore(t, store.Target{Dir: storetest.Folder(t)}), log)
	require.NoError(t, c.CatchUp(t.Context()))
	log.onErase = func() { // between two calls that store pending counts
		require.NoError(t, before.Append(t.Context(), events.Take(1)))
		log.next = after
		assert.ErrorIs(t, c.CatchUp(t.Context()), errPartialRead, "CatchUp()")
	}
	assert.True(t, assert.ErrorOf(c.Erase(t.Context(), scanlog.UserHash{1})) != nil, "Erase() in a partially read log succeeds")
	require.NoError(t, c.CatchUp(t.Context()))
	assert.Equal(t, totalScans(t, c), 300+700, "scans of the previous and of the new log")
}

// lossyStream is a stream that runs onShip before the next Ship and loses the result of this call.
type lossyStream struct {
	*stream.Log
	onShip func()
}

var errResultLost = errors.New("result lost")

func (s *lossyStream) Ship(ctx context.Context, node string, from, to scanlog.Offset, entries []scanlog.Entry) error {
	onShip := s.onShip
	if s.onShip = nil; onShip == nil {
		return s.Log.Ship(ctx, node, from, to, entries)
	}
	onShip()
	return fmt.Errorf("%w: %v", errResultLost, s.Log.Ship(ctx, node, from, to, entries))
}

// TestStreamCounter_RecreatedDuringShipping verifies that the counter uses only positions that refer to the stream that it reads. Scans
// contain the position up to which the stream is complete, but may arrive in a stream that was recreated without the earlier scans.
func TestStreamCounter_RecreatedDuringShipping(t *testing.T) {
	server := natstest.Start(t, natstest.Options{})
	s := scantest.OpenStore(t, store.Target{Dir: storetest.Folder(t)})
	open := func(marks string) *stream.Log {
		o := require.Value(stream.Parse(server.URL()))(t)
		o.Marks, o.Patience, o.CountedSet = marks, time.Hour, s.Origin
		l := require.Value(stream.Open(o))(t)
		t.Cleanup(func() { l.Close() })
		return l
	}
	marks := t.TempDir()
	journal, err := scanlog.OpenJournal(filepath.Join(marks, "scans"), scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1})})
	require.NoError(t, err)
	defer journal.Close()
	to, reader := &lossyStream{Log: open(marks)}, open(t.TempDir())
	shipper := &scanlog.Shipper{Journal: journal, To: to, Node: "n", Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	client := require.Value(nats.Connect(server.ClientURL()))(t)
	defer client.Close()
	js := require.Value(jetstream.New(client))(t)
	events, c := &scantest.Traffic{Random: rand.New(rand.NewPCG(6, 7)), Now: began, Users: 20}, scantest.NewAggregator(s, reader)
	checkCounted := func(want int64) {
		t.Helper()
		require.NoError(t, c.CatchUp(t.Context()))
		assert.Equal(t, totalScans(t, c), want, "counted scans")
	}
	require.NoError(t, errors.Join(journal.Append(t.Context(), events.Take(40)), shipper.Flush(t.Context())))
	to.onShip = func() {
		require.NoError(t, js.DeleteStream(t.Context(), "QRJUMP_SCANS"))
		for _, err := reader.End(t.Context()); err != nil; _, err = reader.End(t.Context()) { // End recreates the stream
			t.Log(err)
		}
	}
	require.NoError(t, journal.Append(t.Context(), events.Take(60)))
	require.ErrorIs(t, shipper.Flush(t.Context()), errResultLost, "Flush()")
	checkCounted(60)
	require.NoError(t, shipper.Flush(t.Context()))
	checkCounted(100)
}

// shortLog is a log whose End and Read extend to the result of end, like a server of a stream that lacks the last events.
type shortLog struct {
	*scantest.Memory
	end func() int64
}

func (l *shortLog) End(context.Context) (int64, error) { return l.end(), nil }

func (l *shortLog) Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	return func(yield func(scanlog.Entry, error) bool) {
		end := l.end()
		for e, err := range l.Memory.Read(ctx, after) {
			if e.Position > end || !yield(e, err) {
				return
			}
		}
	}
}

// TestStreamCounter_ShortLog reads from a log that ends before the counted position. Reads of all counted scans must return an error.
func TestStreamCounter_ShortLog(t *testing.T) {
	t.Parallel()
	events, end := &scantest.Traffic{Random: rand.New(rand.NewPCG(6, 9)), Now: began, Users: 20}, int64(100)
	log := &shortLog{&scantest.Memory{Name: "log"}, func() int64 { return end }}
	s := scantest.OpenStore(t, store.Target{Dir: storetest.Folder(t)})
	c := scantest.NewAggregator(s, log)
	for range 3 { // the users of the later scans are not in the sketches yet
		require.NoError(t, errors.Join(log.Append(t.Context(), events.Take(100)), c.CatchUp(t.Context())))
		end += 100
	}
	end = 300
	checkRecount(t, c)
	end = 200
	var err error
	for _, err = range c.All(t.Context(), 0) {
		if err != nil {
			break
		}
	}
	assert.True(t, err != nil, "a read of all scans from a short log succeeds, want an error")
	r, err := verify.Recounter{Counter: c}.Run(t.Context())
	assert.True(t, err != nil && strings.Contains(err.Error(), "ends at position 200"),
		"recount of a short log = %d scans, %v, want an error", r.Scans, err)
	first := true
	log.end = func() int64 { // only the counter's own check of the end gets a complete response
		if first {
			first = false
			return 300
		}
		return 200
	}
	assert.True(t, scantest.NewAggregator(s, log).CatchUp(t.Context()) != nil, "a start with a short log succeeds, want an error")
}
