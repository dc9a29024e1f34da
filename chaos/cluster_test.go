package chaos_test

import (
	"cmp"
	cryptorand "crypto/rand"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// postgresServers are a PostgreSQL primary and possibly its synchronous replica, which a test starts in directories of its own. Both
// servers have what the primary acknowledged.
type postgresServers struct {
	t       testing.TB
	dirs    []string
	urls    []string
	primary int
}

const postgresScript = "../scripts/postgres.sh"

// newPrimaryWithReplica starts a primary and a synchronous replica, which end with the test.
func newPrimaryWithReplica(t testing.TB) *postgresServers {
	t.Helper()
	p := newPrimary(t)
	p.dirs = append(p.dirs, filepath.Join(filepath.Dir(p.dirs[0]), "b"))
	p.urls = append(p.urls, p.script("replica", p.dirs[1], p.dirs[0]))
	return p
}

// newPrimary starts a primary without a replica, which ends with the test.
func newPrimary(t testing.TB) *postgresServers {
	t.Helper()
	dbtest.Server(t)
	// In /tmp: the user that runs the server needs access to the parent directories.
	dir, err := os.MkdirTemp("/tmp", "qrjump-postgres-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	p := &postgresServers{t: t, dirs: []string{filepath.Join(dir, "a")}}
	t.Cleanup(func() {
		for _, d := range p.dirs {
			p.script("stop", d)
		}
		os.RemoveAll(dir)
	})
	p.urls = append(p.urls, p.script("start", p.dirs[0]))
	return p
}

func (p *postgresServers) script(args ...string) string {
	p.t.Helper()
	cmd := exec.Command(postgresScript, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.True(p.t, err == nil, "postgres.sh %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	return strings.TrimSpace(string(out))
}

// createDatabase creates an empty database and returns a URL that names all servers, so that a client finds the primary.
func (p *postgresServers) createDatabase(name string) string {
	p.t.Helper()
	dbtest.Exec(p.t, p.urls[p.primary], "CREATE DATABASE "+name)
	var hosts []string
	for _, address := range p.urls {
		hosts = append(hosts, parseURL(p.t, address).Host)
	}
	u := parseURL(p.t, p.urls[p.primary])
	u.Host, u.Path, u.RawQuery = strings.Join(hosts, ","), "/"+name, "sslmode=disable&target_session_attrs=read-write&connect_timeout=60"
	return u.String()
}

// parseURL parses the URL of a database. The message has no URL, because it contains a password.
func parseURL(t testing.TB, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	require.True(t, err == nil, "the URL of a database server is invalid")
	return u
}

// setSynchronousStandby sets synchronous_standby_names of the first server. With the name of a replica that does not exist, commits wait.
func (p *postgresServers) setSynchronousStandby(name string) {
	p.t.Helper()
	dbtest.Exec(p.t, p.urls[0], `ALTER SYSTEM SET synchronous_standby_names = '`+name+`'`)
	dbtest.Exec(p.t, p.urls[0], `SELECT pg_reload_conf()`)
}

// promote promotes the replica, whether or not the old primary runs.
func (p *postgresServers) promote() {
	p.primary = 1 - p.primary
	p.script("promote", p.dirs[p.primary])
}

// rebuildReplica creates a new replica in the directory of the killed primary and waits until it is synchronous.
func (p *postgresServers) rebuildReplica() {
	p.script("replica", p.dirs[1-p.primary], p.dirs[p.primary])
}

// waitFor polls a condition on other processes. It ends the test after ten minutes or shortly before the test's deadline, so that the
// failure names the condition and later tests still run.
func waitFor(t testing.TB, condition string, done func() bool) {
	t.Helper()
	end := time.Now().Add(10 * time.Minute)
	if t, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if deadline, ok := t.Deadline(); ok && deadline.Before(end) {
			end = deadline.Add(-10 * time.Second)
		}
	}
	for !done() {
		require.True(t, !time.Now().After(end), "timed out waiting for %s", condition)
		time.Sleep(20 * time.Millisecond) // between two polls of real processes
	}
}

// waitForMore waits until a counter of acknowledged calls has grown by n or the test has failed.
func waitForMore(t testing.TB, acknowledged *atomic.Int64, n int) {
	t.Helper()
	want := acknowledged.Load() + int64(n)
	waitFor(t, "clients to make progress", func() bool { return acknowledged.Load() >= want || t.Failed() })
}

// cluster is a number of nodes that share a database. A changed field applies to nodes that start afterwards.
type cluster struct {
	t                 testing.TB
	dir               string
	logDir            string // "" = next to the data of each node
	database          string
	seed              string
	masterKey         string
	emulator          bool
	laterVersion      bool // nodes that start from now on are a later version
	movableClocks     bool // node.setClock moves the nodes' clocks
	scanStream        string
	otlpEndpoint      string
	primariesInterval time.Duration // between two searches for a second primary; 0 = default
	nodes             []*node
}

// node is a member of a cluster and its current process.
type node struct {
	*cluster
	number         int
	shutdownDelay  time.Duration
	databaseURL    string // "" = that of the cluster
	readReplicaURL string // "" = none
	// running is nil while the node is down.
	running atomic.Pointer[process]
}

// newCluster creates a cluster whose nodes are not started.
func newCluster(t testing.TB, database, seed string, nodes int) *cluster {
	t.Helper()
	dir, key := keptDir(t), make([]byte, 32)
	cryptorand.Read(key)
	c := &cluster{t: t, dir: dir, database: database, seed: filepath.Join(dir, "seed.yaml"), masterKey: hex.EncodeToString(key)}
	require.NoError(t, os.WriteFile(c.seed, []byte(seed), 0o600))
	for n := range nodes {
		c.nodes = append(c.nodes, &node{cluster: c, number: n})
	}
	return c
}

func (n *node) config() (c childConfig) {
	c.Data, c.Database = filepath.Join(n.dir, fmt.Sprintf("node%d", n.number), "data"), cmp.Or(n.databaseURL, n.database)
	c.Listen, c.LogFormat, c.logDir = loopbackAddress, "text", n.logDir
	c.AdminToken, c.Seed, c.MasterKey, c.CodePrefix = adminToken, n.seed, n.masterKey, "C.EXAMPLE/"
	if n.database != "" {
		c.Database += fmt.Sprintf("&application_name=node%d", n.number)
	}
	c.LaterVersion, c.DatabaseRead, c.Collector, c.Instance = n.laterVersion, n.readReplicaURL, n.otlpEndpoint, fmt.Sprintf("node%d",
		n.number+1)
	c.Emulator, c.ShutdownDelay, c.ScanStream, c.PrimariesEvery = n.emulator, n.shutdownDelay, n.scanStream, n.primariesInterval
	if n.movableClocks {
		c.Clock = n.clockFile()
	}
	return c
}

// clockFile returns the file that sets the node's clock.
func (n *node) clockFile() string { return filepath.Join(n.dir, fmt.Sprintf("clock%d", n.number)) }

// start starts the node and waits until it is ready. While the database is down it retries, like a supervisor.
func (n *node) start() {
	n.t.Helper()
	var p *process
	waitFor(n.t, fmt.Sprintf("node %d to start", n.number), func() (ready bool) {
		p, ready = tryStart(n.t, n.config())
		return ready
	})
	n.running.Store(p)
}

// kill sends SIGKILL and waits until the process has ended.
func (n *node) kill() {
	p := n.running.Swap(nil)
	p.kill()
	p.wait()
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

// randomNode returns one of the nodes.
func (c *cluster) randomNode(rnd *rand.Rand) *node { return c.nodes[rnd.IntN(len(c.nodes))] }

// serverURL returns the URL of the running process.
func (n *node) serverURL() string { return n.running.Load().URL }

// connect returns a connection to the running process.
func (n *node) connect(bearer string) mustConnection { return mustConnect(n.t, n.serverURL(), bearer) }

// admin returns a connection to the admin API of the running process.
func (n *node) admin() mustConnection { return n.connect(adminToken) }

// isReady reports whether the node runs and GET /readyz returns 200.
func (n *node) isReady() bool {
	p := n.running.Load()
	if p == nil {
		return false
	}
	r, err := send(&http.Client{Timeout: 20 * time.Second}, http.MethodGet, p.URL+"/readyz", "", "", "")
	return err == nil && r.status == http.StatusOK
}

// readyz returns the response of GET /readyz; query is "" or "?for=" with a kind of calls.
func (n *node) readyz(query string) response {
	n.t.Helper()
	return mustSend(n.t, http.MethodGet, n.serverURL()+"/readyz"+query, "", "", "")
}

// waitUntilReady waits until every node is ready.
func (c *cluster) waitUntilReady() {
	c.t.Helper()
	for _, n := range c.nodes {
		waitFor(c.t, fmt.Sprintf("node %d to be ready", n.number), n.isReady)
	}
}

// metric returns the value of a line of GET /metrics.
func (n *node) metric(name string) float64 {
	n.t.Helper()
	for line := range strings.Lines(mustSend(n.t, http.MethodGet, n.serverURL()+"/metrics", "", "", adminToken).body) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			require.NoError(n.t, err)
			return value
		}
	}
	n.t.Fatalf("GET /metrics has no %s", name)
	return 0
}
