package stream

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// cluster is a NATS cluster.
type cluster struct {
	options []server.Options
	servers []*server.Server
}

// startCluster starts a cluster of n servers and stops it when the test ends.
func startCluster(t *testing.T, n int) *cluster {
	t.Helper()
	c, dir := &cluster{make([]server.Options, n), make([]*server.Server, n)}, t.TempDir()
	var routes []*url.URL
	for i := range c.options {
		// The kernel does not reuse the port of a closed listener soon.
		l := require.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
		c.options[i] = server.Options{ServerName: fmt.Sprint("server", i), Host: "127.0.0.1", Port: -1, JetStream: true,
			StoreDir: filepath.Join(dir, fmt.Sprint(i)), SyncAlways: true, NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "scans", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}}
		require.NoError(t, l.Close())
	}
	for i := range c.options {
		c.options[i].Routes = routes
		c.start(t, i)
		t.Cleanup(func() { c.stop(i) })
	}
	return c
}

func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	s := require.Value(server.NewServer(c.options[i].Clone()))(t)
	s.Start()
	require.True(t, s.ReadyForConnections(3*time.Minute), "server %d is not ready", i)
	c.servers[i] = s
}

func (c *cluster) stop(i int) {
	c.servers[i].Shutdown()
	c.servers[i].WaitForShutdown()
}

// TestStream_ReadsWhileServerCatchesUp reads the stream while a server that lost its folder receives the messages from the other servers.
// A read may fail, but must not lack scans.
func TestStream_ReadsWhileServerCatchesUp(t *testing.T) {
	testscope.RequireComplete(t, "TestStream_ConsumerBehind verifies the same with one server whose consumers report no messages")
	c, ctx := startCluster(t, 3), t.Context()
	o := newOptions(t, fmt.Sprintf("nats://%s?flush=vouched&replicas=3", strings.TrimPrefix(c.servers[0].ClientURL(), "nats://")))
	o.Patience = 5 * time.Second
	l := openLog(t, o)
	add := func(from, to int64) {
		t.Helper()
		for err := l.Append(ctx, events(from, to)); err != nil; err = l.Append(ctx, events(from, to)) {
			require.NoError(t, ctx.Err()) // the servers have not elected a leader yet
		}
	}
	add(0, 1)
	c.stop(2)
	require.NoError(t, os.RemoveAll(c.options[2].StoreDir))
	add(1, 20_000)
	c.start(t, 2)
	complete := 0
	for range 40 {
		end, err := l.End(ctx)
		got := 0
		for _, fault := range l.Read(ctx, end-100) {
			if err = fault; err != nil {
				break
			}
			got++
		}
		if err == nil {
			complete++
			require.True(t, end == 20_000 && got == 100, "%d of the last 100 scans read, up to position %d", got, end)
		}
	}
	require.True(t, complete > 20, "%d of 40 reads succeeded", complete)
}
