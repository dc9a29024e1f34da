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

// startNATS starts a real server; always is its sync_interval: always.
func startNATS(t *testing.T, dir string, always bool) (s natstest.Server, address string) {
	t.Helper()
	s = natstest.Start(t, natstest.Options{Dir: dir, Lazy: !always, Monitors: true})
	return s, s.Monitored()
}

// mooring leads a client to the server that there is at the moment, whose port
// is another one after each start: none is free for sure twice.
type mooring struct{ at atomic.Pointer[string] }

func (m *mooring) Dial(network, _ string) (net.Conn, error) {
	at := m.at.Load()
	if at == nil {
		return nil, syscall.ECONNREFUSED
	}
	return net.Dial(network, *at)
}

func (m *mooring) lead(s natstest.Server) {
	at := s.Addr().String()
	m.at.Store(&at)
}

func openLog(t *testing.T, events, marks string) *Log {
	t.Helper()
	o, err := Parse(events)
	require.NoError(t, err)
	o.Marks = marks
	o.Patience = time.Hour
	l, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func TestStream_LedgerContract(t *testing.T) {
	_, address := startNATS(t, t.TempDir(), true)
	l := openLog(t, address, t.TempDir())
	ctx := t.Context()
	if end, err := l.End(ctx); err != nil || end != 0 {
		t.Fatal(end, err)
	}
	for n := int64(0); n < 3000; n += 100 { // each of them is flushed by itself, and some disks are slow
		require.NoError(t, l.Append(ctx, events(n, n+100)))
	}
	require.NoError(t, l.Append(ctx, events(0, 50)))
	wantRun(t, require.All(t, l.Read(ctx, 0)), 0, 1, 3000)
	wantRun(t, require.All(t, l.Read(ctx, 2345)), 2345, 2346, 3000)
	assert.Equal(t, len(require.All(t, l.Read(ctx, 3000))), 0, "after the end")
	for range l.Read(ctx, 0) {
		break
	}
	for _, n := range []int64{0, 1, 1777, 2999} {
		p, err := l.Find(ctx, anEvent(n).ID)
		assert.True(t, err == nil && p == n+1, "scan %d is found at %d, %v", n, p, err)
	}
	for _, forged := range []scanlog.ScanID{idAt(begin, 1<<40), idAt(begin.Add(-time.Hour), 0)} { // of a minute with scans, and without
		assert.ErrorIs(t, assert.ErrorOf(l.Find(ctx, forged)), scanlog.ErrNoScan, "a forged id")
	}
	id, other := l.ID(), openLog(t, address, t.TempDir())
	assert.True(t, assert.ErrorOf(other.End(ctx)) == nil && id != "" && other.ID() == id, "the ledger is %q, and %q", id, other.ID())

	// Messages came now, whatever the time of their events.
	for since, want := range map[time.Duration]int64{0: 0, 48 * time.Hour: 3000} {
		p, err := l.PositionBefore(ctx, time.Now().Add(since))
		assert.True(t, err == nil && p == want, "before %s from now: %d, %v; want %d", since, p, err, want)
	}

	// An erased user is nowhere; each scan is there once.
	user := scanlog.UserHash{4, 1}
	n, err := l.Erase(ctx, scanlog.Users{user: true}, math.MaxInt64)
	require.True(t, err == nil && n != 0, "%v %v", n, err)
	seen := map[scanlog.ScanID]bool{}
	wantPosition := int64(0)
	for _, e := range require.All(t, other.Read(ctx, 0)) {
		wantPosition++
		require.True(t, e.Position == wantPosition, "after the erasure, position %d follows %d", e.Position, wantPosition-1)
		was := anEvent(e.RuleID)
		if was.User == user {
			was.User, was.Client, was.Network = scanlog.UserHash{}, "", netip.Prefix{}
		}
		require.True(t, e.Event == was && !seen[e.ID], "after the erasure, position %d holds %+v", e.Position, e.Event)
		seen[e.ID] = true
	}
	assert.Equal(t, len(seen), 3000, "scans")
	for _, after := range []int64{0, 1, 1500, 2999} {
		got := require.All(t, l.Read(ctx, after))
		assert.True(t, len(got) == int(3000-after) && got[0].Position == after+1, "after %d: %d scans", after, len(got))
	}
	for _, n := range []int64{0, 1, 3, 4, 2999} {
		p, err := l.Find(ctx, anEvent(n).ID)
		assert.True(t, err == nil && p == n+1, "after the erasure, scan %d is found at %d, %v", n, p, err)
	}
	n, err = l.Erase(ctx, scanlog.Users{user: true}, math.MaxInt64)
	assert.True(t, n == 0 && err == nil, "erased again: %d, %v", n, err)
	end, _ := l.End(ctx)
	require.NoError(t, l.Forget(ctx, time.Now().Add(-time.Hour)))
	assert.Equal(t, len(require.All(t, l.Read(ctx, 0))), 3000, "left of what is young")
	require.NoError(t, l.Forget(ctx, time.Now().Add(time.Hour)))
	assert.Equal(t, len(require.All(t, l.Read(ctx, 0))), 0, "left")
	now, _ := l.End(ctx)
	assert.Equal(t, now, end, "the end was %d and", end)
}

// Whose messages are gone by an erasure, their scans are found by time as well.
func TestStream_ErasedScansByTime(t *testing.T) {
	_, address := startNATS(t, t.TempDir(), true)
	l := openLog(t, address, t.TempDir())
	list, user := events(0, 6), scanlog.UserHash{7}
	for i := range list {
		list[i].User, list[i].OccurredAt = user, time.Now().UTC().Truncate(time.Millisecond)
	}
	require.NoError(t, l.Append(t.Context(), list))
	if n, err := l.Erase(t.Context(), scanlog.Users{user: true}, math.MaxInt64); n != 6 || err != nil {
		t.Fatal(n, err)
	}
	after, err := l.PositionBefore(t.Context(), time.Now().Add(-time.Hour))
	require.NoError(t, err)
	got := require.All(t, l.Read(t.Context(), after))
	assert.True(t, len(got) == 6, "%d of 6 scans stand after position %d", len(got), after)
}

// A message that comes again after the stream has forgotten its id is read once,
// from wherever a reader begins, and an erasure reaches both.
func TestStream_DedupAfterRepublish(t *testing.T) {
	_, address := startNATS(t, t.TempDir(), true)
	l, ctx := openLog(t, address, t.TempDir()), t.Context()
	again := func(from, to int64) {
		t.Helper()
		for _, e := range events(from, to) {
			// Without an id, as the stream does not know it any more.
			_, err := l.js.PublishMsg(ctx, &nats.Msg{Subject: l.subject(e.ID), Data: scanlog.AppendRecord(nil, &e)})
			require.NoError(t, err)
		}
	}
	come := func(from, to int64) {
		t.Helper()
		require.NoError(t, l.Append(ctx, events(from, to)))
	}
	come(0, 100)
	again(60, 100)
	come(100, 150)
	again(90, 120)
	wantOnce := func() {
		t.Helper()
		for _, after := range []int64{0, 99, 100, 120, 140, 200} {
			got, next := require.All(t, l.Read(ctx, after)), min(after, 100)
			if after > 140 {
				next = after - 40
			}
			assert.True(t, len(got) == int(max(0, 150-next)), "after %d: %d scans, want %d", after, len(got), 150-next)
			for i, e := range got {
				want := next + int64(i)
				require.True(t, e.RuleID == want, "after %d: scan %d where %d is due", after, e.RuleID, want)
			}
		}
		for n, want := range map[int64]int64{0: 1, 60: 61, 99: 100, 100: 141, 149: 190} {
			p, err := l.Find(ctx, anEvent(n).ID)
			assert.True(t, err == nil && p == want, "scan %d is found at %d, %v; want %d", n, p, err, want)
		}
	}
	wantOnce()
	user := anEvent(92).User // stands there three times
	require.NoError(t, assert.ErrorOf(l.Erase(ctx, scanlog.Users{user: true}, math.MaxInt64)))
	wantOnce()
	for e, err := range l.read(ctx, 0, false) {
		require.True(t, err == nil && e.User != user, "position %d has the user who is erased: %v", e.Position, err)
	}
}

// A scan whose user is erased while a reader has its message in hand is read all the same, and once.
func TestStream_ErasureDuringRead(t *testing.T) {
	_, address := startNATS(t, t.TempDir(), true)
	l := openLog(t, address, t.TempDir())
	user := scanlog.UserHash{7}
	list := events(0, 3)
	for i := range list {
		at := begin.Add(time.Duration(i) * time.Hour) // a subject for each
		list[i].ID, list[i].OccurredAt, list[i].User = idAt(at, int64(i)), at, user
	}
	require.NoError(t, l.Append(t.Context(), list))
	var got []int64
	for e, err := range l.Read(t.Context(), 0) {
		require.NoError(t, err)
		if got = append(got, e.Position); len(got) == 1 {
			n, err := l.Erase(t.Context(), scanlog.Users{user: true}, math.MaxInt64)
			require.True(t, n == 3 && err == nil, "%v %v", n, err)
		}
	}
	assert.True(t, slices.Equal(got, []int64{1, 2, 3}), "a reader gets the positions %d, want 1, 2 and 3", got)
}

// The server is asked for its setting.
func TestStream_RequiresSyncAlways(t *testing.T) {
	_, address := startNATS(t, t.TempDir(), false)
	l := openLog(t, address, t.TempDir())
	err := l.Append(t.Context(), events(0, 1))
	assert.True(t, errors.Is(err, ErrNotFlushed) && strings.Contains(err.Error(), "sync_interval: always"), "published to it: %v", err)
	_, err = Parse(strings.Split(address, "?")[0])
	assert.True(t, err != nil && strings.Contains(err.Error(), "monitor="), "nobody vouches for it: %v", err)
	vouched := openLog(t, strings.Split(address, "?")[0]+"?flush=vouched", t.TempDir())
	assert.NoErrorf(t, vouched.Append(t.Context(), events(0, 1)), "the operator trusts it")

	_, address = startNATS(t, t.TempDir(), true)
	l = openLog(t, address, t.TempDir())
	assert.NoErrorf(t, l.Append(t.Context(), events(0, 1)), "it flushes")
	// The server that is asked has to be a NATS server with JetStream.
	for _, monitor := range []string{"http://127.0.0.1:1", "http://" + strings.TrimPrefix(strings.Split(address, "?")[0], "nats://")} {
		l := openLog(t, strings.Split(address, "?")[0]+"?monitor="+monitor, t.TempDir())
		assert.ErrorIs(t, l.Append(t.Context(), events(1, 2)), ErrNotFlushed, "%s vouches for it", monitor)
	}
}

// TestStream_FsyncPerMessage counts the flushes of a real server: with the setting there is one for every message, and without it none.
func TestStream_FsyncPerMessage(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	const messages = 30
	flushed := map[string]int{}
	for setting, lazy := range map[string]bool{"always": false, "default": true} {
		trace := filepath.Join(t.TempDir(), "trace")
		p := proctest.Start(t, proctest.Command("publisher", publisher{lazy, t.TempDir()}, strace, "-f", "-o", trace, "-e",
			"trace=fsync,fdatasync"))
		if _, err := p.End(); err != nil {
			if strings.Contains(p.Log(), "ptrace") {
				t.Skip("this system does not let strace look")
			}
			t.Fatalf("%v: %s", err, p.Log())
		}
		b, err := os.ReadFile(trace)
		require.NoError(t, err)
		flushed[setting] = strings.Count(string(b), "sync(")
	}
	assert.True(t, flushed["always"] >= messages && flushed["default"] < messages,
		"%d messages were flushed %d times with sync_interval: always, %d times without", messages, flushed["always"], flushed["default"])
}

// publisher is what TestStream_FsyncPerMessage looks at.
type publisher struct {
	Lazy bool
	Dir  string
}

func TestMain(m *testing.M) {
	proctest.Roles{"publisher": proctest.Role(publishSome)}.Play()
	os.Exit(m.Run())
}

func publishSome(ctx context.Context, p publisher) error {
	server, err := natstest.Run(natstest.Options{Dir: filepath.Join(p.Dir, "stream"), Lazy: p.Lazy})
	if err != nil {
		return err
	}
	defer server.End()
	o, err := Parse(server.Events())
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

// A node ships to a server that comes and goes; each scan is in the stream once, or can be told by its id.
func TestStream_ShipAcrossServerRestarts(t *testing.T) {
	dir, marks := t.TempDir(), t.TempDir()
	server, address := startNATS(t, dir, true)
	var moored mooring
	moored.lead(server)
	o, _ := Parse(address)
	o.dialer = &moored
	o.Patience = time.Hour
	o.Monitors, o.Vouched, o.Marks = nil, true, marks // the monitoring port changes with a start
	l, err := Open(o)
	require.NoError(t, err)
	defer l.Close()
	j := openJournal(t, filepath.Join(marks, "scans"), scanlog.JournalOptions{})
	ship := &scanlog.Shipper{Journal: j, To: l, Node: "n", Random: seeded(3), Now: time.Now, Batch: 100,
		Log: slog.New(slog.DiscardHandler)}
	require.NoError(t, j.Append(t.Context(), events(0, 450)))
	require.NoError(t, ship.Flush(t.Context()))
	connected := l.conn.StatusChanged(nats.CONNECTED)
	moored.at.Store(nil)
	server.End()
	require.NoError(t, j.Append(t.Context(), events(450, 700)))
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	err = ship.Flush(short)
	assert.True(t, err != nil && ship.Backlog() == 250, "shipped to nobody: %v, %d behind", err, ship.Backlog())
	cancel()
	server, _ = startNATS(t, dir, true)
	moored.lead(server)
	// As after a crash between the acknowledgement and the mark.
	os.Remove(filepath.Join(marks, "shipped"))
	again := &scanlog.Shipper{Journal: j, To: l, Node: "n", Random: seeded(3), Now: time.Now, Batch: 100,
		Log: slog.New(slog.DiscardHandler)}
	<-connected
	// A batch that is under way while the client connects may be given up once more.
	for err := again.Flush(t.Context()); err != nil; err = again.Flush(t.Context()) {
		t.Log(err)
	}
	wantRun(t, require.All(t, l.Read(t.Context(), 0)), 0, 1, 700)
}

// A stream that is put back older, and that another node filled beyond what this one had brought before this one looked, has not all of it:
// what stands at the place of the last scan that was brought says so.
func TestStream_RestoredOlderFilledByOtherNode(t *testing.T) {
	dir, older := t.TempDir(), filepath.Join(t.TempDir(), "older")
	var moored mooring
	var server natstest.Server
	start := func() {
		server, _ = startNATS(t, dir, true)
		moored.lead(server)
	}
	stop := func() {
		moored.at.Store(nil)
		server.End()
	}
	node := func(name string) (*Log, *scanlog.Journal, *scanlog.Shipper) {
		o, err := Parse("nats://127.0.0.1:4222?flush=vouched")
		require.NoError(t, err)
		o.dialer, o.Marks = &moored, t.TempDir()
		o.Patience = time.Minute // a request that is lost with the server is sent again
		l, err := Open(o)
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		j := openJournal(t, filepath.Join(o.Marks, "scans"), scanlog.JournalOptions{})
		require.NoError(t, l.Begin(func() (scanlog.Offset, error) { return scanlog.Offset{}, nil }))
		return l, j, &scanlog.Shipper{Journal: j, To: l, Node: name, Random: seeded(3), Now: time.Now, Log: slog.New(slog.DiscardHandler),
			Batch: 100}
	}
	bring := func(s *scanlog.Shipper, from, to int64) {
		t.Helper()
		require.NoError(t, s.Journal.Append(t.Context(), events(from, to)))
		// A batch that is under way while the client connects may be given up once more.
		for err := s.Flush(t.Context()); err != nil; err = s.Flush(t.Context()) {
			require.True(t, t.Context().Err() == nil, "%v", err)
		}
	}
	start()
	one, _, ship := node("one")
	_, _, other := node("other")
	bring(ship, 0, 100)
	stop()
	require.NoError(t, os.CopyFS(older, os.DirFS(dir)))
	start()
	bring(ship, 100, 200)
	stop()
	require.NoError(t, errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(older))))
	start()
	bring(other, 1000, 1300)
	bring(ship, 200, 201)
	there := map[scanlog.ScanID]bool{}
	for _, e := range require.All(t, one.Read(t.Context(), 0)) {
		there[e.ID] = true
	}
	missing := 0
	for _, e := range append(events(0, 201), events(1000, 1300)...) {
		if !there[e.ID] {
			missing++
		}
	}
	assert.True(t, missing <= 0, "%d scans are not in the stream", missing)
}

// A user who is erased while scans are on their way to the stream is in none of
// them, also where the first attempt broke off after they had come there.
func TestStream_ErasureDuringShipping(t *testing.T) {
	_, address := startNATS(t, t.TempDir(), true)
	user := scanlog.UserHash{7}
	for _, broken := range []bool{false, true} {
		o, err := Parse(fmt.Sprintf("%s&stream=S%t", address, broken))
		require.NoError(t, err)
		o.Marks = t.TempDir()
		asked := 0
		o.Erased = func(context.Context, int64) ([]scanlog.Erasure, error) {
			switch asked++; {
			case asked == 1:
				return nil, nil
			case asked == 2 && broken:
				return nil, errors.New("the database is away")
			}
			return []scanlog.Erasure{{User: user, ErasedAt: math.MaxInt64}}, nil
		}
		o.Patience = time.Hour
		l, err := Open(o)
		require.NoError(t, err)
		defer l.Close()
		j := openJournal(t, filepath.Join(o.Marks, "scans"), scanlog.JournalOptions{})
		list := events(0, 20)
		for i := range list {
			if i%4 == 0 {
				list[i].User = user
			}
		}
		require.NoError(t, j.Append(t.Context(), list))
		ship := &scanlog.Shipper{Journal: j, To: l, Node: "n", Random: seeded(3), Now: time.Now, Log: slog.New(slog.DiscardHandler),
			Batch: 100}
		err = ship.Flush(t.Context())
		if broken {
			require.True(t, err != nil, "it did not break off")
			err = ship.Flush(t.Context())
		}
		require.NoError(t, err)
		got := require.All(t, l.Read(t.Context(), 0))
		require.Equal(t, len(got), len(list), "scans are in the stream")
		for i, e := range got {
			assert.True(t, e.ID == list[i].ID && e.User != user, "broken off %t: the scan %d of the user is in the stream", broken, i)
		}
	}
}

func TestStreamParse_EventsURL(t *testing.T) {
	o, err := Parse("tls://me:secret@a:4222,b:4222?monitor=http://a:8222/&monitor=http://b:8222&stream=S&replicas=3&creds=/f")
	assert.True(t, err == nil && len(o.Servers) == 2 && o.Servers[1] == "tls://me:secret@b:4222" && len(o.Monitors) == 2 &&
		o.Monitors[0] == "http://a:8222" && o.Stream == "S" && o.Replicas == 3 && o.Credentials == "/f", "%+v, %v", o, err)
	for _, text := range []string{"", "nats://", "http://h", "nats://u:topsecret@h:1?monitor=x", "nats://h?flush=yes",
		"nats://h?replicas=0&flush=vouched", "nats://h?sync=1", "nats://u:topsecret@h:%"} {
		_, err := Parse(text)
		assert.True(t, err != nil && !strings.Contains(err.Error(), "topsecret"), "%q: %v", text, err)
	}
}

// tap is a way to the server on which something happens before certain bytes leave, once.
type tap struct {
	before string
	happen func()
}

func (p *tap) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &tapped{c, p}, err
}

type tapped struct {
	net.Conn
	*tap
}

func (c *tapped) Write(b []byte) (int, error) {
	if happen := c.happen; happen != nil && strings.Contains(string(b), c.before) {
		c.happen = nil
		happen()
	}
	return c.Conn.Write(b)
}

// anew lets a test delete the stream.
func anew(t *testing.T, s natstest.Server) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(s.ClientURL())
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return js
}

// Issue 29, 4: a stream is made anew, and filled by another node, while a user is erased:
// the erasure takes nothing of the scans that stand there now, and puts nothing among them.
func TestStream_ErasureDuringRecreation(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"$JS.API.STREAM.MSG.GET.", "PUB qrjump.scans.erased", "$JS.API.STREAM.MSG.DELETE."} {
		t.Run(before, func(t *testing.T) {
			t.Parallel()
			server, address := startNATS(t, t.TempDir(), true)
			js := anew(t, server)
			o, err := Parse(address)
			require.NoError(t, err)
			way := &tap{before: before}
			o.Marks, o.Patience, o.dialer = t.TempDir(), time.Minute, way
			l, err := Open(o)
			require.NoError(t, err)
			t.Cleanup(func() { l.Close() })
			require.NoError(t, l.Append(t.Context(), events(0, 20)))
			o.Marks, o.dialer = t.TempDir(), nil
			o.Counted = func(context.Context) (int64, error) { return 20, nil }
			other, err := Open(o)
			require.NoError(t, err)
			t.Cleanup(func() { other.Close() })
			way.happen = func() {
				err := errors.Join(js.DeleteStream(t.Context(), "QRJUMP_SCANS"), other.Append(t.Context(), events(100, 130)))
				assert.True(t, err == nil, "%v", err)
			}
			n, err := l.Erase(t.Context(), scanlog.Users{anEvent(1).User: true}, math.MaxInt64)
			assert.True(t, err != nil, "%d scans were erased, and the stream has another address", n)
			require.True(t, way.happen == nil, "the stream was not made anew")
			got := require.All(t, other.Read(t.Context(), 0))
			require.True(t, len(got) != 0, "nothing is left")
			wantRun(t, got, 100, got[0].Position, 130)
		})
	}
}

// Issue 29, 4: a loss is found once, however often the shipping breaks off afterwards, and
// what is acknowledged meanwhile is not brought again.
func TestStream_LossDetectedOnce(t *testing.T) {
	t.Parallel()
	server, address := startNATS(t, t.TempDir(), true)
	js, marks := anew(t, server), t.TempDir()
	l := openLog(t, address, marks)
	require.NoError(t, l.Begin(func() (scanlog.Offset, error) { return scanlog.Offset{}, nil }))
	j := openJournal(t, filepath.Join(marks, "scans"), scanlog.JournalOptions{})
	var logs strings.Builder
	ship := &scanlog.Shipper{Journal: j, To: l, Node: "n", Random: seeded(3), Now: time.Now, Log: slog.New(slog.NewTextHandler(&logs, nil))}
	require.NoError(t, errors.Join(j.Append(t.Context(), events(0, 700)), ship.Flush(t.Context()),
		js.DeleteStream(t.Context(), "QRJUMP_SCANS")))
	small := jetstream.StreamConfig{Name: "QRJUMP_SCANS", Subjects: []string{"qrjump.scans.*"}, Discard: jetstream.DiscardNew, MaxMsgs: 100}
	require.NoError(t, assert.ErrorOf(js.CreateStream(t.Context(), small)))
	room := func(n int64) {
		t.Helper()
		small.MaxMsgs = n
		require.NoError(t, assert.ErrorOf(js.UpdateStream(t.Context(), small)))
	}
	for _, noted := range []int64{0, 0, publishAtOnce, publishAtOnce} {
		room(100 + noted)
		require.True(t, ship.Flush(t.Context()) != nil, "all of it came into a stream that is full")
		was, err := readShipped(l.markFile())
		assert.True(t, err == nil && was.Position == noted, "%d are acknowledged, and %d noted: %v", noted, was.Position, err)
	}
	room(-1)
	require.NoError(t, ship.Flush(t.Context()))
	got, seen := require.All(t, l.Read(t.Context(), 0)), map[scanlog.ScanID]bool{} // what broke off may have come late
	for _, e := range got {
		seen[e.ID] = true
	}
	assert.True(t, len(got) == 700 && len(seen) == 700, "%d scans are in the stream, %d different ones", len(got), len(seen))
	n := strings.Count(logs.String(), "the stream lost events")
	assert.True(t, n == 1, "%d lines of one loss:\n%s", n, logs.String())
}

// A journal had scans before it was shipped, and an older one is put back, with its mark or
// without: it gets another name, and what is not for the stream does not come there.
func TestStream_RestoredOlderJournal(t *testing.T) {
	t.Parallel()
	for name, withMark := range map[string]bool{"with its mark": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, address := startNATS(t, t.TempDir(), true)
			o, err := Parse(address)
			require.NoError(t, err)
			o.Marks, o.Patience = t.TempDir(), time.Minute
			counted := map[string]*scanlog.OffsetSet{}
			o.CountedSet = func(_ context.Context, node string) (*scanlog.OffsetSet, error) {
				return cmp.Or(counted[node], &scanlog.OffsetSet{}), nil
			}
			l, err := Open(o)
			require.NoError(t, err)
			t.Cleanup(func() { l.Close() })
			scans, older := filepath.Join(o.Marks, "scans"), filepath.Join(t.TempDir(), "older")
			run := func(lists ...[]scanlog.Event) {
				t.Helper()
				j := openJournal(t, scans, scanlog.JournalOptions{})
				node, err := j.NodeID(seeded(5))
				require.NoError(t, err)
				ship := &scanlog.Shipper{Journal: j, To: l, Node: node, Random: seeded(6), Now: time.Now,
					Log: slog.New(slog.DiscardHandler)}
				for _, list := range lists {
					require.NoError(t, errors.Join(j.Append(t.Context(), list), ship.Flush(t.Context())))
				}
				counted[node] = &scanlog.OffsetSet{ContiguousTo: ship.Reached()}
				require.NoError(t, j.Close())
			}
			j := openJournal(t, scans, scanlog.JournalOptions{})
			require.NoError(t, errors.Join(j.Append(t.Context(), events(0, 200)),
				l.Begin(func() (scanlog.Offset, error) { return j.Last(t.Context()) }), j.Close()))
			run(events(200, 230))
			mark, err := os.ReadFile(l.markFile())
			require.NoError(t, errors.Join(err, os.CopyFS(older, os.DirFS(scans))))
			run(events(230, 260))
			require.NoError(t, errors.Join(os.RemoveAll(scans), os.CopyFS(scans, os.DirFS(older))))
			if withMark {
				require.NoError(t, os.WriteFile(l.markFile(), mark, 0o600))
			}
			run(events(1000, 1010), events(1010, 1020))
			there := map[scanlog.ScanID]bool{}
			for _, e := range require.All(t, l.Read(t.Context(), 0)) {
				there[e.ID] = true
			}
			for _, e := range append(events(200, 260), events(1000, 1020)...) {
				require.True(t, there[e.ID], "the scan of %v is not in the stream", e.OccurredAt)
			}
			assert.True(t, len(there) == 80, "%d scans are in the stream that were counted before", len(there)-80)
		})
	}
}

// Issue 29, 4: a kill may come while a batch is on its way: by then it is noted up to where the journal may be in the stream.
func TestStream_HighWaterMarkBeforePublish(t *testing.T) {
	t.Parallel()
	_, address := startNATS(t, t.TempDir(), true)
	o, err := Parse(address)
	require.NoError(t, err)
	way := &tap{before: "PUB qrjump.scans."}
	o.Marks, o.Patience, o.dialer = t.TempDir(), time.Minute, way
	l, err := Open(o)
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, l.Begin(func() (scanlog.Offset, error) { return scanlog.Offset{}, nil }))
	j := openJournal(t, filepath.Join(o.Marks, "scans"), scanlog.JournalOptions{})
	require.NoError(t, j.Append(t.Context(), events(0, 5)))
	killed := t.TempDir()
	way.happen = func() {
		text, err := os.ReadFile(filepath.Join(o.Marks, "shipped"))
		if err == nil {
			err = os.WriteFile(filepath.Join(killed, "shipped"), text, 0o600)
		}
		assert.True(t, err == nil, "%v", err)
	}
	ship := &scanlog.Shipper{Journal: j, To: l, Node: "n", Random: seeded(3), Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	require.NoError(t, ship.Flush(t.Context()))
	m, err := readMark(filepath.Join(killed, "shipped"))
	assert.True(t, err == nil && m.Position == 0, "the mark was noted before: %+v, %v", m, err)
	var left Unshipped
	require.NoError(t, Leave(killed, func(l Unshipped) error { left = l; return nil }))
	want := (Unshipped{To: scanlog.Offset{Position: 5, ID: anEvent(4).ID}})
	assert.Equal(t, left, want, "left")
}

// aged is a way to a server that says that it is of an old version.
type aged struct{ net.Conn }

func (aged) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return aged{c}, err
}

var version = regexp.MustCompile(`"version":"[^"]*"`)

func (c aged) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	copy(b, version.ReplaceAllFunc(b[:n], func(is []byte) []byte {
		return []byte(`"version":"2.9.` + strings.Repeat("1", len(is)-len(`"version":"2.9."`)) + `"`)
	}))
	return n, err
}

// Issue 29, 4: a server that cannot begin a stream at a number gets no scan, and says so.
func TestStream_RejectsOldServer(t *testing.T) {
	t.Parallel()
	_, address := startNATS(t, t.TempDir(), true)
	o, err := Parse(address)
	require.NoError(t, err)
	o.Marks, o.dialer = t.TempDir(), aged{}
	l, err := Open(o)
	require.NoError(t, err)
	defer l.Close()
	err = l.Ready(t.Context())
	assert.True(t, errors.Is(err, ErrTooOld) && strings.Contains(err.Error(), "this server is 2.9."), "%v", err)
	for is, want := range map[string]bool{"2.10.0": false, "2.9.25": true, "1.4.1": true, "3.0.0": false, "": false, "next": false} {
		assert.Equal(t, tooOld(is) != nil, want, "%q", is)
	}
}
