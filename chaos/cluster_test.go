package chaos_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// pair is a PostgreSQL primary and its synchronous replica, started by this
// test in folders of its own: what the primary acknowledges, both have.
type pair struct {
	t       testing.TB
	dirs    []string
	urls    []string
	primary int
}

const postgresScript = "../scripts/postgres.sh"

// newPair starts a primary and a replica, which end with the test.
func newPair(t testing.TB) *pair {
	t.Helper()
	p := newSingle(t)
	p.dirs = append(p.dirs, filepath.Join(filepath.Dir(p.dirs[0]), "b"))
	p.urls = append(p.urls, p.script("replica", p.dirs[1], p.dirs[0]))
	return p
}

// newSingle starts a primary without a replica, which ends with the test.
func newSingle(t testing.TB) *pair {
	t.Helper()
	dbtest.Server(t)
	// Under /tmp itself: the server's own user must get there.
	dir, err := os.MkdirTemp("/tmp", "qrjump-pair-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	p := &pair{t: t, dirs: []string{filepath.Join(dir, "a")}}
	t.Cleanup(func() {
		for _, d := range p.dirs {
			p.script("stop", d)
		}
		os.RemoveAll(dir)
	})
	p.urls = append(p.urls, p.script("start", p.dirs[0]))
	return p
}

func (p *pair) script(args ...string) string {
	p.t.Helper()
	cmd := exec.Command(postgresScript, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("postgres.sh %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// database makes an empty database and returns the URL that names both
// servers: a program finds the one that takes writes.
func (p *pair) database(name string) string {
	p.t.Helper()
	dbtest.Exec(p.t, p.urls[p.primary], "CREATE DATABASE "+name)
	var hosts []string
	var u *url.URL
	for _, text := range p.urls {
		one, err := url.Parse(text)
		require.True(p.t, err == nil, "the URL of a server cannot be read")
		u, hosts = one, append(hosts, one.Host)
	}
	u.Host, u.Path, u.RawQuery = strings.Join(hosts, ","), "/"+name, "sslmode=disable&target_session_attrs=read-write&connect_timeout=60"
	return u.String()
}

// promote makes the replica the primary, whether or not the old primary runs.
func (p *pair) promote() {
	p.primary = 1 - p.primary
	p.script("promote", p.dirs[p.primary])
}

// heal makes a new replica where the killed primary was and waits until it is
// a synchronous one.
func (p *pair) heal() {
	p.script("replica", p.dirs[1-p.primary], p.dirs[p.primary])
}

// quiet waits until no session of a node has anything under way: what a killed
// process had sent has happened by then, or never will.
func quiet(t testing.TB, database string) {
	t.Helper()
	until(t, "the database to be quiet", func() bool {
		return dbtest.Number(t, database, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
			AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle' AND query NOT LIKE 'LISTEN%'`) == 0
	})
}

// until polls for what happens in other processes, for ten minutes at most, so that a failure names what is missing and the tests
// that follow still run.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	end := time.Now().Add(10 * time.Minute)
	if t, is := t.(interface{ Deadline() (time.Time, bool) }); is {
		if last, bounded := t.Deadline(); bounded && last.Before(end) {
			end = last.Add(-10 * time.Second)
		}
	}
	for !done() {
		require.True(t, !time.Now().After(end), "waited in vain for %s", what)
		time.Sleep(20 * time.Millisecond) // between two looks at real processes
	}
}

// cluster is several nodes on one database.
type cluster struct {
	t        testing.TB
	dir      string
	logs     string // "" = beside the data of each node
	database string
	seed     string
	master   string
	emulator bool
	later    bool          // nodes that start are a later version
	clocks   bool          // the nodes' clocks can be moved
	events   string        // --scan-stream
	spans    string        // --otlp-endpoint
	looks    time.Duration // how often nodes look for two primaries; 0 = as it is
	nodes    []*node
}

// node is one place of a cluster and the process that runs there now.
type node struct {
	*cluster
	number int
	delay  time.Duration // between SIGTERM and the drain
	url    string        // of its database; "" = that of the cluster
	read   string        // of its read replica; "" = none
	// running is nil while the node is down.
	running atomic.Pointer[process]
}

// newCluster prepares nodes; none runs yet.
func newCluster(t testing.TB, database, seed string, nodes int) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "qrjump-cluster-")
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs of the nodes are kept in %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	key := make([]byte, 32)
	rand.Read(key)
	c := &cluster{t: t, dir: dir, database: database, seed: filepath.Join(dir, "seed.yaml"), master: hex.EncodeToString(key)}
	require.NoError(t, os.WriteFile(c.seed, []byte(seed), 0o600))
	for n := range nodes {
		c.nodes = append(c.nodes, &node{cluster: c, number: n})
	}
	return c
}

func (n *node) config() childConfig {
	var child childConfig
	child.Data, child.Database, child.Listen, child.LogFormat = filepath.Join(n.dir, fmt.Sprintf("node%d", n.number), "data"),
		cmp.Or(n.url, n.database),
		anyPort, "text"
	child.AdminToken, child.Seed, child.MasterKey, child.CodePrefix = adminToken, n.seed, n.master, "C.EXAMPLE/"
	if n.database != "" {
		child.Database += fmt.Sprintf("&application_name=node%d", n.number)
	}
	child.Later, child.DatabaseRead = n.later, n.read
	child.Emulator, child.ShutdownDelay, child.ScanStream, child.PrimariesEvery = n.emulator, n.delay, n.events, n.looks
	child.Collector, child.Instance = n.spans, fmt.Sprintf("node%d", n.number+1)
	if n.clocks {
		child.Clock = n.clock()
	}
	return child
}

// clock is the file that moves the node's clock.
func (n *node) clock() string { return filepath.Join(n.dir, fmt.Sprintf("clock%d", n.number)) }

// start runs the node until it is ready; while the database is away it does
// what a supervisor does, and tries again.
func (n *node) start() {
	n.t.Helper()
	child := n.config()
	require.NoError(n.t, os.MkdirAll(filepath.Dir(child.Data), 0o700))
	var p *process
	until(n.t, fmt.Sprintf("node %d to start", n.number), func() (ready bool) {
		p, ready = tryIn(n.t, child, cmp.Or(n.logs, filepath.Dir(child.Data)))
		return ready
	})
	n.running.Store(p)
}

// kill is kill -9.
func (n *node) kill() {
	p := n.running.Swap(nil)
	p.kill()
	p.gone()
}

func (n *node) stop() { n.running.Swap(nil).stop() }

func (c *cluster) start() {
	c.t.Helper()
	for _, n := range c.nodes {
		n.start()
	}
}

func (c *cluster) stop() {
	c.t.Helper()
	for _, n := range c.nodes {
		n.stop()
	}
}

// admin is the admin API of a node that runs.
func (n *node) admin() must {
	return must{connect(n.t, n.running.Load().URL, adminToken), n.t}
}

// ready reports whether a node says that its memory holds all there is.
func (n *node) ready() bool {
	p := n.running.Load()
	if p == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// allReady waits until every node says so.
func (c *cluster) allReady() {
	c.t.Helper()
	for _, n := range c.nodes {
		until(c.t, fmt.Sprintf("node %d to be ready", n.number), n.ready)
	}
}
