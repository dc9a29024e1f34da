package stream

import (
	"errors"
	"fmt"
	"math"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// TestCheckQuorum verifies which responses about the state of a stream are trusted.
func TestCheckQuorum(t *testing.T) {
	heard := &jetstream.PeerInfo{Active: 2100 * time.Millisecond}
	silent := &jetstream.PeerInfo{Active: 3100 * time.Millisecond}
	unknown := &jetstream.PeerInfo{Offline: true}
	for _, c := range []struct {
		name     string
		replicas int
		leader   string
		peers    []*jetstream.PeerInfo
		trusted  bool
	}{
		{"a server without a cluster", 1, "", nil, true},
		{"the leader with all replicas", 3, "a", []*jetstream.PeerInfo{heard, heard}, true},
		{"the leader with a majority", 3, "a", []*jetstream.PeerInfo{silent, heard}, true},
		{"a leader that hears no replica", 3, "a", []*jetstream.PeerInfo{silent, unknown}, false},
		{"a leader of five that hears one replica", 5, "a", []*jetstream.PeerInfo{silent, silent, silent, heard}, false},
		{"a leader of five that hears two replicas", 5, "a", []*jetstream.PeerInfo{silent, heard, silent, heard}, true},
		{"a follower while there is no leader", 3, "", []*jetstream.PeerInfo{heard, heard}, false},
	} {
		info := &jetstream.StreamInfo{Config: jetstream.StreamConfig{Replicas: c.replicas},
			Cluster: &jetstream.ClusterInfo{Leader: c.leader, Replicas: c.peers}}
		assert.Equal(t, checkQuorum(info) == nil, c.trusted, "checkQuorum() accepts %s", c.name)
	}
	assert.True(t, checkQuorum(&jetstream.StreamInfo{Config: jetstream.StreamConfig{Replicas: 3}}) != nil,
		"checkQuorum() accepts a replicated stream without a cluster, want an error")
}

// TestStream_EndWithoutLeader stops the servers that have the last messages, and starts a server that lacks these messages. While the group
// has no leader, NATS responds with the state of this server. The end of the log must be unknown, and the stream must be kept.
func TestStream_EndWithoutLeader(t *testing.T) {
	testscope.RequireComplete(t, "TestCheckQuorum verifies the decision on recorded responses")
	c, ctx := startCluster(t, 5), t.Context()
	open := func(i int) *Log {
		o := newOptions(t, fmt.Sprintf("nats://%s?flush=vouched&replicas=3", strings.TrimPrefix(c.servers[i].ClientURL(), "nats://")))
		o.Patience = 3 * time.Second
		return openLog(t, o)
	}
	add := func(l *Log, from, to int64) {
		t.Helper()
		for err := l.Append(ctx, events(from, to)); err != nil; err = l.Append(ctx, events(from, to)) {
			require.NoError(t, ctx.Err()) // the servers have not elected a leader yet
		}
	}
	l := open(0)
	add(l, 0, 10)
	info := require.Value(l.info(ctx))(t)
	var leader, other int
	var followers []int
	for i := range c.servers {
		name := c.options[i].ServerName
		switch {
		case name == info.Cluster.Leader:
			leader = i
		case slices.ContainsFunc(info.Cluster.Replicas, func(p *jetstream.PeerInfo) bool { return p.Name == name }):
			followers = append(followers, i)
		default:
			other = i
		}
	}
	l = open(other)
	c.stop(followers[0])
	add(l, 10, 20)
	c.stop(leader)
	c.stop(followers[1])
	c.start(t, followers[0])
	for isLeaderless := false; !isLeaderless; {
		stream, err := l.js.Stream(ctx, "QRJUMP_SCANS")
		require.NoError(t, ctx.Err())
		isLeaderless = err == nil && stream.CachedInfo().Cluster.Leader == ""
		end, err := l.End(ctx)
		require.True(t, err != nil || end == 20, "End() = %d without a majority, want 20 or an error", end)
	}
	require.True(t, l.Append(ctx, events(20, 21)) != nil, "Append() without a majority succeeds, want an error")
	c.start(t, leader)
	c.start(t, followers[1])
	end, err := l.End(ctx)
	for ; err != nil; end, err = l.End(ctx) {
		require.NoError(t, ctx.Err())
	}
	assert.True(t, end >= 20, "End() = %d after the return of the majority, want at least 20", end)
}

// wrongClockConn is a connection to a server whose clock was at 1970 when it stored the messages.
type wrongClockConn struct{ net.Conn }

func (wrongClockConn) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return wrongClockConn{c}, err
}

var (
	timeField   = regexp.MustCompile(`("(?:time|first_ts|last_ts)":")\d{4}`)
	timeSubject = regexp.MustCompile(`(\$JS\.ACK(?:\.[^. ]+){5}\.)\d(\d{18}\.)`)
)

func (c wrongClockConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	copy(b, timeField.ReplaceAll(b[:n], []byte("${1}1970")))
	copy(b, timeSubject.ReplaceAll(b[:n], []byte("${1}0${2}")))
	return n, err
}

// TestStream_RetentionWithWrongServerClock verifies that retention and reads from a point in time include all newer scans, also erased
// ones, although the server stored their messages with a time before.
func TestStream_RetentionWithWrongServerClock(t *testing.T) {
	t.Parallel()
	_, address := startNATS(t, t.TempDir())
	o, ctx := newOptions(t, address), t.Context()
	o.dialer = wrongClockConn{}
	l := openLog(t, o)
	list, now := events(0, 10), time.Now().UTC().Truncate(time.Millisecond)
	for i := range list {
		moment := now.Add(-time.Minute)
		if i < 5 {
			moment = now.AddDate(0, 0, -500)
		}
		list[i].ID, list[i].OccurredAt, list[i].User = newScanID(moment, int64(i)), moment, scanlog.UserHash{1}
		if i == 5 || i == 6 || i == 9 {
			list[i].User = scanlog.UserHash{2}
		}
	}
	require.NoError(t, l.Append(ctx, list))
	checkNew := func(got []scanlog.Entry) {
		t.Helper()
		ids := scanIDs(got)
		for i, e := range list[5:] {
			assert.True(t, ids[e.ID], "scan %d is missing", i+5)
		}
	}
	checkNew(require.All(t, l.ListRange(ctx, 0, now.Add(-time.Hour), now)))
	n, err := l.Erase(ctx, scanlog.Users{{2}: true}, math.MaxInt64)
	require.True(t, n == 3 && err == nil, "Erase() = %d, %v, want 3", n, err)
	require.NoError(t, l.Forget(ctx, now.AddDate(0, 0, -400)))
	got := require.All(t, l.Read(ctx, 0))
	checkNew(got)
	assert.Equal(t, len(got), 5, "number of scans after Forget()")
	require.NoError(t, l.Forget(ctx, now.Add(time.Hour)))
	assert.Equal(t, len(require.All(t, l.Read(ctx, 0))), 0, "number of scans after Forget() of all")
}

// TestStream_ErasureBeforeFirstMessage erases the last scans between the beginning of a read and its first message. The read must yield
// their anonymous copies, unless the reader stops before.
func TestStream_ErasureBeforeFirstMessage(t *testing.T) {
	t.Parallel()
	_, address := startNATS(t, t.TempDir())
	l, ctx := openLog(t, newOptions(t, address)), t.Context()
	list := events(0, 6)
	for i := 3; i < 6; i++ {
		list[i].User = scanlog.UserHash{9}
	}
	require.NoError(t, l.Append(ctx, list))
	read, stopped := l.Read(ctx, 0), l.Read(ctx, 0)
	n, err := l.Erase(ctx, scanlog.Users{{9}: true}, math.MaxInt64)
	require.True(t, n == 3 && err == nil, "Erase() = %d, %v, want 3", n, err)
	for i, e := range require.All(t, read) {
		assert.True(t, e.Position == int64(i+1) && e.ID == list[i].ID, "scan %d has position %d and ID %s", i, e.Position, e.ID)
	}
	assert.Equal(t, len(require.All(t, l.Read(ctx, 0))), 6, "scans of a read after the erasure")
	count := 0
	for _, err := range stopped {
		require.NoError(t, err)
		if count++; count == 5 {
			break
		}
	}
	assert.Equal(t, count, 5, "scans of a read that stops")
}

// TestStream_DeletionDuringRead deletes the messages that a read still waits for. The read must end without an error.
func TestStream_DeletionDuringRead(t *testing.T) {
	t.Parallel()
	server, address := startNATS(t, t.TempDir())
	js, o, dialer := connectJetStream(t, server), newOptions(t, address), &hookDialer{text: "$JS.API.CONSUMER.MSG.NEXT."}
	o.Patience, o.dialer = time.Second, dialer
	l, ctx := openLog(t, o), t.Context()
	for err := l.Append(ctx, events(0, 3)); err != nil; err = l.Append(ctx, events(0, 3)) {
		t.Log("the server is slow")
	}
	dialer.hook = func() {
		stream, err := js.Stream(ctx, "QRJUMP_SCANS")
		assert.NoError(t, errors.Join(err, stream.Purge(ctx)))
	}
	assert.Equal(t, len(require.All(t, l.Read(ctx, 0))), 0, "scans of a read whose messages were deleted")
	require.True(t, dialer.hook == nil, "no message was requested")
	assert.True(t, fmt.Sprint(assert.ErrorOf(l.End(ctx))) == "<nil>", "End() after the read")
}
