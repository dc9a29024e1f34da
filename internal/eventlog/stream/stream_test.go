package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/natstest"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// startNATS starts a server with a monitoring port and sync_interval: always.
func startNATS(t *testing.T, dir string) (s natstest.Server, address string) {
	t.Helper()
	s = natstest.Start(t, natstest.Options{Dir: dir, Monitors: true})
	return s, s.MonitoredURL()
}

// serverDialer connects a client to the current server, whose port changes with each start because a port may not be free twice.
type serverDialer struct{ address atomic.Pointer[string] }

func (d *serverDialer) Dial(network, _ string) (net.Conn, error) {
	address := d.address.Load()
	if address == nil {
		return nil, syscall.ECONNREFUSED
	}
	return net.Dial(network, *address)
}

func (d *serverDialer) setServer(s natstest.Server) { d.address.Store(new(s.Addr().String())) }

// scanIDs returns the set of the scans of entries.
func scanIDs(entries []scanlog.Entry) map[scanlog.ScanID]bool {
	ids := map[scanlog.ScanID]bool{}
	for _, e := range entries {
		ids[e.ID] = true
	}
	return ids
}

// TestStream_LedgerContract verifies reads, finds, erasure and retention of the scan log that is stored in a stream.
func TestStream_LedgerContract(t *testing.T) {
	_, address := startNATS(t, t.TempDir())
	l := openLog(t, newOptions(t, address))
	ctx := t.Context()
	end, err := l.End(ctx)
	require.True(t, err == nil && end == 0, "End() of an empty log = %d, %v, want 0", end, err)
	for n := int64(0); n < 3000; n += 100 { // small chunks: each message has its own fsync, which is slow on some disks
		require.NoError(t, l.Append(ctx, events(n, n+100)))
	}
	require.NoError(t, l.Append(ctx, events(0, 50)))
	checkEntries(t, require.All(t, l.Read(ctx, 0)), 0, 1, 3000)
	checkEntries(t, require.All(t, l.Read(ctx, 2345)), 2345, 2346, 3000)
	assert.Equal(t, len(require.All(t, l.Read(ctx, 3000))), 0, "number of scans after the end")
	for range l.Read(ctx, 0) {
		break
	}
	for _, n := range []int64{0, 1, 1777, 2999} {
		p, err := l.Find(ctx, newEvent(n).ID)
		assert.True(t, err == nil && p == n+1, "Find(scan %d) = %d, %v, want %d", n, p, err, n+1)
	}
	// One unknown ID is of a minute with scans, the other of a minute without.
	for _, unknown := range []scanlog.ScanID{newScanID(begin, 1<<40), newScanID(begin.Add(-time.Hour), 0)} {
		assert.ErrorIs(t, assert.ErrorOf(l.Find(ctx, unknown)), scanlog.ErrNoScan, "Find() of an unknown ID")
	}
	id, other := l.ID(), openLog(t, newOptions(t, address))
	assert.True(t, assert.ErrorOf(other.End(ctx)) == nil && id != "" && other.ID() == id, "ID() = %q, of another log %q, want equal IDs",
		id, other.ID())

	// The server stores messages with the current time, whatever the time of their events.
	for since, want := range map[time.Duration]int64{0: 0, 48 * time.Hour: 3000} {
		p, err := l.PositionBefore(ctx, time.Now().Add(since))
		assert.True(t, err == nil && p == want, "PositionBefore(now + %s) = %d, %v, want %d", since, p, err, want)
	}

	// After an erasure no scan has the user, and each scan is read once.
	user := scanlog.UserHash{4, 1}
	n, err := l.Erase(ctx, scanlog.Users{user: true}, math.MaxInt64)
	require.True(t, err == nil && n != 0, "Erase() = %d, %v, want at least one scan", n, err)
	seen := map[scanlog.ScanID]bool{}
	wantPosition := int64(0)
	for _, e := range require.All(t, other.Read(ctx, 0)) {
		wantPosition++
		require.Equal(t, e.Position, wantPosition, "position after the erasure")
		want := newEvent(e.RuleID)
		if want.User == user {
			want.User, want.Client, want.Network = scanlog.UserHash{}, "", netip.Prefix{}
		}
		require.True(t, e.Event == want && !seen[e.ID], "position %d after the erasure has %+v, want %+v once", e.Position, e.Event, want)
		seen[e.ID] = true
	}
	assert.Equal(t, len(seen), 3000, "number of scans")
	for _, after := range []int64{0, 1, 1500, 2999} {
		got := require.All(t, l.Read(ctx, after))
		assert.True(t, len(got) == int(3000-after) && got[0].Position == after+1,
			"Read(%d) = %d scans, want %d", after, len(got), 3000-after)
	}
	for _, n := range []int64{0, 1, 3, 4, 2999} {
		p, err := l.Find(ctx, newEvent(n).ID)
		assert.True(t, err == nil && p == n+1, "Find(scan %d) after the erasure = %d, %v, want %d", n, p, err, n+1)
	}
	n, err = l.Erase(ctx, scanlog.Users{user: true}, math.MaxInt64)
	assert.True(t, n == 0 && err == nil, "second Erase() = %d, %v, want 0", n, err)
	end, _ = l.End(ctx)
	require.NoError(t, l.Forget(ctx, time.Now().Add(-time.Hour)))
	assert.Equal(t, len(require.All(t, l.Read(ctx, 0))), 3000, "number of scans after Forget() of older ones")
	require.NoError(t, l.Forget(ctx, time.Now().Add(time.Hour)))
	assert.Equal(t, len(require.All(t, l.Read(ctx, 0))), 0, "number of scans after Forget() of all")
	last, _ := l.End(ctx)
	assert.Equal(t, last, end, "End() after Forget()")
}

// TestStream_ErasedScansByTime verifies that PositionBefore finds scans whose messages an erasure replaced.
func TestStream_ErasedScansByTime(t *testing.T) {
	_, address := startNATS(t, t.TempDir())
	l := openLog(t, newOptions(t, address))
	list, user := events(0, 6), scanlog.UserHash{7}
	for i := range list {
		list[i].User, list[i].OccurredAt = user, time.Now().UTC().Truncate(time.Millisecond)
	}
	require.NoError(t, l.Append(t.Context(), list))
	n, err := l.Erase(t.Context(), scanlog.Users{user: true}, math.MaxInt64)
	require.True(t, n == 6 && err == nil, "Erase() = %d, %v, want 6", n, err)
	after := require.Value(l.PositionBefore(t.Context(), time.Now().Add(-time.Hour)))(t)
	got := require.All(t, l.Read(t.Context(), after))
	assert.True(t, len(got) == 6, "%d scans after position %d, want 6", len(got), after)
}

// TestStream_DedupAfterRepublish publishes messages again after the deduplication window of the stream. Each scan must be read once,
// wherever a read begins, and an erasure must reach all copies.
func TestStream_DedupAfterRepublish(t *testing.T) {
	_, address := startNATS(t, t.TempDir())
	l, ctx := openLog(t, newOptions(t, address)), t.Context()
	republish := func(from, to int64) {
		t.Helper()
		for _, e := range events(from, to) {
			// Without a message ID, which the stream would not know after its deduplication window.
			_, err := l.js.PublishMsg(ctx, &nats.Msg{Subject: l.subject(e.ID), Data: scanlog.AppendRecord(nil, &e)})
			require.NoError(t, err)
		}
	}
	require.NoError(t, l.Append(ctx, events(0, 100)))
	republish(60, 100)
	require.NoError(t, l.Append(ctx, events(100, 150)))
	republish(90, 120)
	checkReads := func() {
		t.Helper()
		for _, after := range []int64{0, 99, 100, 120, 140, 200} {
			got, next := require.All(t, l.Read(ctx, after)), min(after, 100)
			if after > 140 {
				next = after - 40
			}
			assert.True(t, len(got) == int(max(0, 150-next)), "Read(%d) yields %d scans, want %d", after, len(got), 150-next)
			for i, e := range got {
				require.Equal(t, e.RuleID, next+int64(i), "scan %d of Read(%d)", i, after)
			}
		}
		for n, want := range map[int64]int64{0: 1, 60: 61, 99: 100, 100: 141, 149: 190} {
			p, err := l.Find(ctx, newEvent(n).ID)
			assert.True(t, err == nil && p == want, "Find(scan %d) = %d, %v, want %d", n, p, err, want)
		}
	}
	checkReads()
	user := newEvent(92).User // the stream has three copies of event 92
	require.NoError(t, assert.ErrorOf(l.Erase(ctx, scanlog.Users{user: true}, math.MaxInt64)))
	checkReads()
	for e, err := range l.read(ctx, 0, false) {
		require.True(t, err == nil && e.User != user, "position %d, %v, has the erased user, want no user", e.Position, err)
	}
}

// TestStream_ErasureDuringRead erases a user during a read. The reader must get each scan once.
func TestStream_ErasureDuringRead(t *testing.T) {
	_, address := startNATS(t, t.TempDir())
	l := openLog(t, newOptions(t, address))
	user := scanlog.UserHash{7}
	list := events(0, 3)
	for i := range list {
		now := begin.Add(time.Duration(i) * time.Hour) // another subject for each scan
		list[i].ID, list[i].OccurredAt, list[i].User = newScanID(now, int64(i)), now, user
	}
	require.NoError(t, l.Append(t.Context(), list))
	var got []int64
	for e, err := range l.Read(t.Context(), 0) {
		require.NoError(t, err)
		if got = append(got, e.Position); len(got) == 1 {
			n, err := l.Erase(t.Context(), scanlog.Users{user: true}, math.MaxInt64)
			require.True(t, n == 3 && err == nil, "Erase() = %d, %v, want 3", n, err)
		}
	}
	assert.True(t, slices.Equal(got, []int64{1, 2, 3}), "positions = %d, want 1, 2 and 3", got)
}

// TestStream_RequiresSyncAlways verifies that Append rejects a server without sync_interval: always, which it reads from the monitoring
// port, unless the operator vouches for the server.
func TestStream_RequiresSyncAlways(t *testing.T) {
	server := natstest.Start(t, natstest.Options{Lazy: true, Monitors: true})
	l := openLog(t, newOptions(t, server.MonitoredURL()))
	err := l.Append(t.Context(), events(0, 1))
	assert.True(t, errors.Is(err, ErrNotFlushed) && strings.Contains(err.Error(), "sync_interval: always"),
		"Append() = %v, want ErrNotFlushed with the required setting", err)
	_, err = Parse(strings.Split(server.MonitoredURL(), "?")[0])
	assert.True(t, err != nil && strings.Contains(err.Error(), "monitor="), "Parse() without monitor and flush = %v, want an error", err)
	vouched := openLog(t, newOptions(t, server.URL()))
	assert.NoErrorf(t, vouched.Append(t.Context(), events(0, 1)), "Append() with flush=vouched")

	_, address := startNATS(t, t.TempDir())
	l = openLog(t, newOptions(t, address))
	assert.NoErrorf(t, l.Append(t.Context(), events(0, 1)), "Append() with sync_interval: always")
	// The monitoring address must belong to a NATS server with JetStream.
	for _, monitor := range []string{"http://127.0.0.1:1", "http://" + strings.TrimPrefix(strings.Split(address, "?")[0], "nats://")} {
		l := openLog(t, newOptions(t, strings.Split(address, "?")[0]+"?monitor="+monitor))
		assert.ErrorIs(t, l.Append(t.Context(), events(1, 2)), ErrNotFlushed, "Append() with monitor=%s", monitor)
	}
}

// TestStream_FsyncPerMessage counts the fsync calls of a server: with sync_interval: always there is one for each message.
func TestStream_FsyncPerMessage(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	const messages = 30
	syncs := map[string]int{}
	for setting, lazy := range map[string]bool{"always": false, "default": true} {
		trace := filepath.Join(t.TempDir(), "trace")
		p := proctest.Start(t, proctest.Command("publisher", publisherOptions{lazy, t.TempDir()}, strace, "-f", "-o", trace, "-e",
			"trace=fsync,fdatasync"))
		if _, err := p.End(); err != nil {
			if strings.Contains(p.Log(), "ptrace") {
				t.Skip("this system does not let strace look")
			}
			t.Fatalf("%v: %s", err, p.Log())
		}
		b := require.Value(os.ReadFile(trace))(t)
		syncs[setting] = strings.Count(string(b), "sync(")
	}
	assert.True(t, syncs["always"] >= messages && syncs["default"] < messages,
		"fsync calls for %d messages = %d with sync_interval: always, %d without, want one for each message only with the setting",
		messages, syncs["always"], syncs["default"])
}

// publisherOptions are the options of the process that TestStream_FsyncPerMessage traces.
type publisherOptions struct {
	Lazy bool
	Dir  string
}

func TestMain(m *testing.M) {
	proctest.Roles{"publisher": proctest.Role(publishEvents)}.Run()
	os.Exit(m.Run())
}

// publishEvents starts a server and publishes 30 events.
func publishEvents(ctx context.Context, p publisherOptions) error {
	server, err := natstest.Run(natstest.Options{Dir: filepath.Join(p.Dir, "stream"), Lazy: p.Lazy})
	if err != nil {
		return err
	}
	defer server.Stop()
	o, err := Parse(server.URL())
	if err != nil {
		return err
	}
	o.Marks, o.Patience = p.Dir, time.Hour
	l, err := Open(o)
	if err != nil {
		return err
	}
	defer l.Close()
	for n := range int64(30) {
		if err := l.Append(ctx, events(n, n+1)); err != nil {
			return err
		}
	}
	return nil
}

// TestStream_ShipAcrossServerRestarts ships to a server that restarts. The log must contain each scan once.
func TestStream_ShipAcrossServerRestarts(t *testing.T) {
	dir, marks := t.TempDir(), t.TempDir()
	server, _ := startNATS(t, dir)
	var dialer serverDialer
	dialer.setServer(server)
	o := newOptions(t, server.URL()) // without monitoring, because the monitoring port changes with each start
	o.dialer, o.Marks = &dialer, marks
	l := openLog(t, o)
	j := openJournal(t, filepath.Join(marks, "scans"))
	shipper := newShipper(l, j)
	shipper.Batch = 100
	require.NoError(t, j.Append(t.Context(), events(0, 450)))
	require.NoError(t, shipper.Flush(t.Context()))
	connected := l.conn.StatusChanged(nats.CONNECTED)
	dialer.address.Store(nil)
	server.Stop()
	require.NoError(t, j.Append(t.Context(), events(450, 700)))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	err := shipper.Flush(ctx)
	assert.True(t, err != nil && shipper.Backlog() == 250, "Flush() without a server = %v, backlog %d, want 250", err, shipper.Backlog())
	cancel()
	server, _ = startNATS(t, dir)
	dialer.setServer(server)
	// As after a crash between the acknowledgement and the write of the position.
	os.Remove(filepath.Join(marks, "shipped"))
	restarted := newShipper(l, j)
	restarted.Batch = 100
	<-connected
	// A batch that is in flight while the client connects may fail once more.
	for err := restarted.Flush(t.Context()); err != nil; err = restarted.Flush(t.Context()) {
		t.Log(err)
	}
	checkEntries(t, require.All(t, l.Read(t.Context(), 0)), 0, 1, 700)
}

// TestStream_RestoredOlderFilledByOtherNode restores a backup of the stream, and another node fills it beyond the last scan that a node
// shipped. The node must detect the loss by the scan at that position, and ship its lost scans again.
func TestStream_RestoredOlderFilledByOtherNode(t *testing.T) {
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "older")
	var dialer serverDialer
	var server natstest.Server
	start := func() {
		server, _ = startNATS(t, dir)
		dialer.setServer(server)
	}
	stop := func() {
		dialer.address.Store(nil)
		server.Stop()
	}
	startNode := func(name string) (*Log, *scanlog.Shipper) {
		o := newOptions(t, "nats://127.0.0.1:4222?flush=vouched")
		o.dialer = &dialer
		o.Patience = time.Minute // a request that is lost with the server is sent again
		l := openLog(t, o)
		beginLog(t, l)
		shipper := newShipper(l, openJournal(t, filepath.Join(o.Marks, "scans")))
		shipper.Node, shipper.Batch = name, 100
		return l, shipper
	}
	ship := func(s *scanlog.Shipper, from, to int64) {
		t.Helper()
		require.NoError(t, s.Journal.Append(t.Context(), events(from, to)))
		// A batch that is in flight while the client connects may fail once more.
		for err := s.Flush(t.Context()); err != nil; err = s.Flush(t.Context()) {
			require.True(t, t.Context().Err() == nil, "Flush() = %v, want success before the end of the test", err)
		}
	}
	start()
	l, shipper := startNode("one")
	_, other := startNode("other")
	ship(shipper, 0, 100)
	stop()
	require.NoError(t, os.CopyFS(backup, os.DirFS(dir)))
	start()
	ship(shipper, 100, 200)
	stop()
	require.NoError(t, errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(backup))))
	start()
	ship(other, 1000, 1300)
	ship(shipper, 200, 201)
	ids, missing := scanIDs(require.All(t, l.Read(t.Context(), 0))), 0
	for _, e := range append(events(0, 201), events(1000, 1300)...) {
		if !ids[e.ID] {
			missing++
		}
	}
	assert.True(t, missing <= 0, "%d scans are missing from the stream, want 0", missing)
}

// TestStream_ErasureDuringShipping erases a user while scans are shipped. The stream must contain no scan with the user, also if the first
// attempt fails after the scans arrived.
func TestStream_ErasureDuringShipping(t *testing.T) {
	_, address := startNATS(t, t.TempDir())
	user := scanlog.UserHash{7}
	for _, fails := range []bool{false, true} {
		o := newOptions(t, fmt.Sprintf("%s&stream=S%t", address, fails))
		calls := 0
		o.Erased = func(context.Context, int64) ([]scanlog.Erasure, error) {
			switch calls++; {
			case calls == 1:
				return nil, nil
			case calls == 2 && fails:
				return nil, errors.New("the database is unavailable")
			}
			return []scanlog.Erasure{{User: user, ErasedAt: math.MaxInt64}}, nil
		}
		l := openLog(t, o)
		j := openJournal(t, filepath.Join(o.Marks, "scans"))
		list := events(0, 20)
		for i := range list {
			if i%4 == 0 {
				list[i].User = user
			}
		}
		require.NoError(t, j.Append(t.Context(), list))
		shipper := newShipper(l, j)
		shipper.Batch = 100
		err := shipper.Flush(t.Context())
		if fails {
			require.True(t, err != nil, "Flush() with an unavailable database succeeds, want an error")
			err = shipper.Flush(t.Context())
		}
		require.NoError(t, err)
		got := require.All(t, l.Read(t.Context(), 0))
		require.Equal(t, len(got), len(list), "number of scans in the stream")
		for i, e := range got {
			assert.True(t, e.ID == list[i].ID && e.User != user, "first attempt fails %t: scan %d = %+v, want no user", fails, i, e)
		}
	}
}

func TestStreamParse_EventsURL(t *testing.T) {
	o, err := Parse("tls://me:secret@a:4222,b:4222?monitor=http://a:8222/&monitor=http://b:8222&stream=S&replicas=3&creds=/f")
	assert.True(t, err == nil && len(o.Servers) == 2 && o.Servers[1] == "tls://me:secret@b:4222" && len(o.Monitors) == 2 &&
		o.Monitors[0] == "http://a:8222" && o.Stream == "S" && o.Replicas == 3 && o.Credentials == "/f",
		"Parse() = %+v, %v, want all fields of the URL", o, err)
	for _, text := range []string{"", "nats://", "http://h", "nats://u:topsecret@h:1?monitor=x", "nats://h?flush=yes",
		"nats://h?replicas=0&flush=vouched", "nats://h?sync=1", "nats://u:topsecret@h:%"} {
		_, err := Parse(text)
		assert.True(t, err != nil && !strings.Contains(err.Error(), "topsecret"), "Parse(%q) = %v, want no password", text, err)
	}
}

// hookDialer opens connections that call hook before the first write that contains text.
type hookDialer struct {
	text string
	hook func()
}

func (d *hookDialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &hookConn{c, d}, err
}

type hookConn struct {
	net.Conn
	*hookDialer
}

func (c *hookConn) Write(b []byte) (int, error) {
	if hook := c.hook; hook != nil && strings.Contains(string(b), c.text) {
		c.hook = nil
		hook()
	}
	return c.Conn.Write(b)
}

// connectJetStream returns a client for changes of the stream by the test.
func connectJetStream(t *testing.T, s natstest.Server) jetstream.JetStream {
	t.Helper()
	conn := require.Value(nats.Connect(s.ClientURL()))(t)
	t.Cleanup(conn.Close)
	return require.Value(jetstream.New(conn))(t)
}

// TestStream_ErasureDuringRecreation recreates the stream during an erasure, and another node fills it. The erasure must neither delete
// scans of the new stream nor add any.
func TestStream_ErasureDuringRecreation(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"$JS.API.STREAM.MSG.GET.", "PUB qrjump.scans.erased", "$JS.API.STREAM.MSG.DELETE."} {
		t.Run(before, func(t *testing.T) {
			t.Parallel()
			server, address := startNATS(t, t.TempDir())
			js := connectJetStream(t, server)
			o, dialer := newOptions(t, address), &hookDialer{text: before}
			o.Patience, o.dialer = time.Minute, dialer
			l := openLog(t, o)
			require.NoError(t, l.Append(t.Context(), events(0, 20)))
			o.Marks, o.dialer = t.TempDir(), nil
			o.Counted = func(context.Context) (int64, error) { return 20, nil }
			other := openLog(t, o)
			dialer.hook = func() {
				assert.NoError(t, js.DeleteStream(t.Context(), "QRJUMP_SCANS"))
				assert.NoError(t, other.Append(t.Context(), events(100, 130)))
			}
			n, err := l.Erase(t.Context(), scanlog.Users{newEvent(1).User: true}, math.MaxInt64)
			assert.True(t, err != nil, "Erase() = %d, nil during a recreation of the stream, want an error", n)
			require.True(t, dialer.hook == nil, "the stream was not recreated during the erasure")
			got := require.All(t, other.Read(t.Context(), 0))
			require.True(t, len(got) != 0, "the new stream has no scans, want 30")
			checkEntries(t, got, 100, got[0].Position, 130)
		})
	}
}

// TestStream_LossDetectedOnce deletes the stream, and shipping fails several times afterwards. The loss must be detected once, and
// acknowledged scans must not be shipped again.
func TestStream_LossDetectedOnce(t *testing.T) {
	t.Parallel()
	server, address := startNATS(t, t.TempDir())
	js, o := connectJetStream(t, server), newOptions(t, address)
	l := openLog(t, o)
	beginLog(t, l)
	j := openJournal(t, filepath.Join(o.Marks, "scans"))
	var logs strings.Builder
	ship := newShipper(l, j)
	ship.Log = slog.New(slog.NewTextHandler(&logs, nil))
	require.NoError(t, errors.Join(j.Append(t.Context(), events(0, 700)), ship.Flush(t.Context()),
		js.DeleteStream(t.Context(), "QRJUMP_SCANS")))
	small := jetstream.StreamConfig{Name: "QRJUMP_SCANS", Subjects: []string{"qrjump.scans.*"}, Discard: jetstream.DiscardNew, MaxMsgs: 100}
	require.NoError(t, assert.ErrorOf(js.CreateStream(t.Context(), small)))
	setCapacity := func(n int64) {
		t.Helper()
		small.MaxMsgs = n
		require.NoError(t, assert.ErrorOf(js.UpdateStream(t.Context(), small)))
	}
	for _, acknowledged := range []int64{0, 0, publishAtOnce, publishAtOnce} {
		setCapacity(100 + acknowledged)
		require.True(t, ship.Flush(t.Context()) != nil, "Flush() to a full stream succeeds, want an error")
		shipped, err := readShipped(l.markFile())
		assert.True(t, err == nil && shipped.Position == acknowledged, "position = %d, %v, want %d", shipped.Position, err, acknowledged)
	}
	setCapacity(-1)
	require.NoError(t, ship.Flush(t.Context()))
	got := require.All(t, l.Read(t.Context(), 0)) // messages of a failed attempt may arrive late
	ids := scanIDs(got)
	assert.True(t, len(got) == 700 && len(ids) == 700, "%d scans in the stream, %d of them different, want 700", len(got), len(ids))
	n := strings.Count(logs.String(), "the stream lost events")
	assert.True(t, n == 1, "%d log lines for one loss, want 1:\n%s", n, logs.String())
}

// TestStream_RestoredOlderJournal restores a backup of a journal, with or without its stored position in the stream. The journal had scans
// before its node used the stream. It must get another node name, and the stream must not get the scans from before.
func TestStream_RestoredOlderJournal(t *testing.T) {
	t.Parallel()
	for name, withMark := range map[string]bool{"with its mark": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, address := startNATS(t, t.TempDir())
			o := newOptions(t, address)
			o.Patience = time.Minute
			counted := map[string]*scanlog.OffsetSet{}
			o.CountedSet = func(_ context.Context, node string) (*scanlog.OffsetSet, error) {
				return cmp.Or(counted[node], &scanlog.OffsetSet{}), nil
			}
			l := openLog(t, o)
			scans, backup := filepath.Join(o.Marks, "scans"), filepath.Join(t.TempDir(), "older")
			run := func(lists ...[]scanlog.Event) {
				t.Helper()
				j := openJournal(t, scans)
				node := require.Value(j.NodeID(newRandom(5)))(t)
				ship := newShipper(l, j)
				ship.Node, ship.Random = node, newRandom(6)
				for _, list := range lists {
					require.NoError(t, errors.Join(j.Append(t.Context(), list), ship.Flush(t.Context())))
				}
				counted[node] = &scanlog.OffsetSet{ContiguousTo: ship.Reached()}
				require.NoError(t, j.Close())
			}
			j := openJournal(t, scans)
			require.NoError(t, errors.Join(j.Append(t.Context(), events(0, 200)),
				l.Begin(func() (scanlog.Offset, error) { return j.Last(t.Context()) }), j.Close()))
			run(events(200, 230))
			mark, err := os.ReadFile(l.markFile())
			require.NoError(t, errors.Join(err, os.CopyFS(backup, os.DirFS(scans))))
			run(events(230, 260))
			require.NoError(t, errors.Join(os.RemoveAll(scans), os.CopyFS(scans, os.DirFS(backup))))
			if withMark {
				require.NoError(t, os.WriteFile(l.markFile(), mark, 0o600))
			}
			run(events(1000, 1010), events(1010, 1020))
			ids := scanIDs(require.All(t, l.Read(t.Context(), 0)))
			for _, e := range append(events(200, 260), events(1000, 1020)...) {
				require.True(t, ids[e.ID], "scan %d is missing from the stream", e.RuleID)
			}
			assert.Equal(t, len(ids), 80, "number of scans in the stream, without those from before")
		})
	}
}

// TestStream_HighWaterMarkBeforePublish verifies that the last position that may reach the stream is stored before a batch is published,
// because a kill may interrupt the batch.
func TestStream_HighWaterMarkBeforePublish(t *testing.T) {
	t.Parallel()
	_, address := startNATS(t, t.TempDir())
	o, dialer := newOptions(t, address), &hookDialer{text: "PUB qrjump.scans."}
	o.Patience, o.dialer = time.Minute, dialer
	l := openLog(t, o)
	beginLog(t, l)
	j := openJournal(t, filepath.Join(o.Marks, "scans"))
	require.NoError(t, j.Append(t.Context(), events(0, 5)))
	killed := t.TempDir()
	dialer.hook = func() {
		text, err := os.ReadFile(filepath.Join(o.Marks, "shipped"))
		if err == nil {
			err = os.WriteFile(filepath.Join(killed, "shipped"), text, 0o600)
		}
		assert.NoError(t, err)
	}
	require.NoError(t, newShipper(l, j).Flush(t.Context()))
	m, err := readMark(filepath.Join(killed, "shipped"))
	assert.True(t, err == nil && m.Position == 0, "stored position during the batch = %+v, %v, want 0", m, err)
	var got Unshipped
	require.NoError(t, Leave(killed, func(u Unshipped) error {
		got = u
		return nil
	}))
	assert.Equal(t, got, Unshipped{To: scanlog.Offset{Position: 5, ID: newEvent(4).ID}}, "unshipped range after a kill")
}

// oldVersionConn is a connection to a server that reports an old version.
type oldVersionConn struct{ net.Conn }

func (oldVersionConn) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return oldVersionConn{c}, err
}

var versionField = regexp.MustCompile(`"version":"[^"]*"`)

func (c oldVersionConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	copy(b, versionField.ReplaceAllFunc(b[:n], func(field []byte) []byte {
		return []byte(`"version":"2.9.` + strings.Repeat("1", len(field)-len(`"version":"2.9."`)) + `"`)
	}))
	return n, err
}

// TestStream_RejectsSettings verifies that a stream that may lose acknowledged scans, or responds without its leader, is rejected.
func TestStream_RejectsSettings(t *testing.T) {
	t.Parallel()
	s, address := startNATS(t, t.TempDir())
	js := connectJetStream(t, s)
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"storage":   func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"retention": func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
		"discard":   func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"direct":    func(c *jetstream.StreamConfig) { c.AllowDirect = true },
		"age":       func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"subject":   func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 9 },
		"async":     func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode },
	} {
		for _, rejected := range []bool{false, true} {
			name := fmt.Sprint(name, rejected) // a server may fail to create a stream under the name of a deleted one
			config := jetstream.StreamConfig{Name: name, Subjects: []string{name + ".*"}, Discard: jetstream.DiscardNew}
			o := newOptions(t, address+"&stream="+name)
			if rejected {
				change(&config)
			}
			_, err := js.CreateStream(t.Context(), config)
			require.NoError(t, err)
			err = openLog(t, o).Ready(t.Context())
			assert.True(t, (err != nil) == rejected && (!rejected || strings.Contains(err.Error(), "want file storage")),
				"%s: Ready() = %v, want an error: %t", name, err, rejected)
		}
	}
}

// behindConn is a connection to a server that reports, like a consumer on a server that lacks messages of the stream, that no message is
// pending.
type behindConn struct{ net.Conn }

func (behindConn) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return behindConn{c}, err
}

var (
	pendingField   = regexp.MustCompile(`"num_pending":\d\b`)
	pendingSubject = regexp.MustCompile(`(\$JS\.ACK\.\S+\.)\d( \d)`)
)

func (c behindConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	copy(b, pendingField.ReplaceAll(b[:n], []byte(`"num_pending":0`)))
	copy(b, pendingSubject.ReplaceAll(b[:n], []byte("${1}0${2}")))
	return n, err
}

// TestStream_ConsumerBehind verifies that reads, erasure and retention cover the stream although its consumers report that no message is
// pending, which is true of the messages that the server of a consumer has.
func TestStream_ConsumerBehind(t *testing.T) {
	t.Parallel()
	_, address := startNATS(t, t.TempDir())
	o, ctx := newOptions(t, address), t.Context()
	o.dialer = behindConn{}
	l := openLog(t, o)
	list := events(0, 6)
	for i := range list {
		list[i].User = scanlog.UserHash{byte(1 + i%2)}
	}
	require.NoError(t, l.Append(ctx, list[:5]))
	first, err := l.PositionBefore(ctx, time.Now().Add(-time.Hour))
	require.True(t, err == nil && first == 0, "PositionBefore() = %d, %v, want 0", first, err)
	n, err := l.Erase(ctx, scanlog.Users{{1}: true}, math.MaxInt64)
	require.True(t, err == nil && n == 3, "Erase() = %d, %v, want 3", n, err)
	got := require.All(t, l.Read(ctx, 0))
	require.True(t, len(got) == 5 && len(scanIDs(got)) == 5, "%d scans read, want 5", len(got))
	for i, e := range got {
		require.Equal(t, e.User == scanlog.UserHash{}, i%2 == 0, "scan %d is anonymous", i)
	}
	position, err := l.Find(ctx, list[4].ID)
	require.True(t, err == nil && position == 5, "Find() = %d, %v, want 5", position, err)
	before := time.Now()
	require.NoError(t, l.Append(ctx, list[5:]))
	require.NoError(t, l.Forget(ctx, before))
	got = require.All(t, l.Read(ctx, 0))
	require.True(t, len(got) == 1 && got[0].ID == list[5].ID, "%d scans after Forget(), want the last", len(got))
}

// TestStream_RejectsOldServer verifies that a server that cannot create a stream with a first sequence number is rejected with its version.
func TestStream_RejectsOldServer(t *testing.T) {
	t.Parallel()
	_, address := startNATS(t, t.TempDir())
	o := newOptions(t, address)
	o.dialer = oldVersionConn{}
	err := openLog(t, o).Ready(t.Context())
	assert.True(t, errors.Is(err, ErrTooOld) && strings.Contains(err.Error(), "this server is 2.9."), "Ready() = %v, want ErrTooOld", err)
	for version, want := range map[string]bool{"2.10.0": false, "2.9.25": true, "1.4.1": true, "3.0.0": false, "": false, "next": false} {
		assert.Equal(t, tooOld(version) != nil, want, "tooOld(%q)", version)
	}
}
