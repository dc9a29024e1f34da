package chaos_test

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// withHosts returns a database URL with another user, and with other hosts unless there are none.
func withHosts(t *testing.T, database string, user *url.Userinfo, hosts ...string) string {
	t.Helper()
	u := parseURL(t, database)
	u.User = user
	if len(hosts) > 0 {
		u.Host = strings.Join(hosts, ",")
	}
	return u.String()
}

// TestFailover_SplitBrainFenced promotes the replica while the old primary still accepts writes. From then on no node writes to the old
// primary: a node that reaches both servers uses the new one, and a node that reaches the old primary alone finds the fence there. The
// database role has no special privileges.
func TestFailover_SplitBrainFenced(t *testing.T) {
	p := newPrimaryWithReplica(t)
	database := p.createDatabase("two")
	dbtest.Exec(t, p.urls[0], `CREATE ROLE plain LOGIN PASSWORD 'plain'`)
	dbtest.Exec(t, p.urls[0], `ALTER DATABASE two OWNER TO plain`)
	hosts := []string{parseURL(t, p.urls[0]).Host, parseURL(t, p.urls[1]).Host}
	plain := url.UserPassword("plain", "plain")
	c := newCluster(t, withHosts(t, database, plain), spaceSeed, 2)
	c.primariesInterval = 100 * time.Millisecond // the default of ten seconds would only slow the test down
	both, isolated := c.nodes[0], c.nodes[1]     // isolated reaches the old primary alone
	isolated.databaseURL = withHosts(t, database, plain, hosts[0])
	c.start()
	c.waitUntilReady()
	rules := func(host string) int64 {
		t.Helper()
		return dbtest.QueryInt(t, withHosts(t, database, plain, host), `SELECT count(*) FROM rules`)
	}
	first, second := newRuleWriter(t, both.serverURL()), newRuleWriter(t, isolated.serverURL())
	second.n = 1000
	for range 3 {
		require.True(t, first.add() == 0 && second.add() == 0, "changes before the promotion failed")
	}
	assert.Equal(t, both.metric("qrjump_db_primaries"), 1, "primaries before the promotion")

	// Transactions on the old primary keep waiting for its replica; no caller waits for them.
	p.script("promote", p.dirs[1])
	waitFor(t, "the node that reaches both servers to see two primaries", func() bool { return both.metric("qrjump_db_primaries") == 2 })
	waitFor(t, "the isolated node to find the fence", func() bool {
		ready := isolated.readyz("?for=change")
		return ready.status == http.StatusServiceUnavailable && strings.Contains(ready.body,
			"is an old primary: stop it permanently (it is on timeline 1, another server is on 2)")
	})
	before := rules(hosts[0])
	for range 5 {
		assert.Equal(t, first.add(), 0, "errcode of a change through the node that reaches the new primary")
		assert.Equal(t, second.add(), -1, "errcode of a change through the isolated node")
	}
	assert.Equal(t, rules(hosts[0]), before, "rules on the old primary")
	first.checkRules()
	for _, kind := range []string{"scan", "change"} {
		ready := both.readyz("?for=" + kind)
		assert.Equal(t, ready.status, http.StatusOK, "status of /readyz?for=%s of the node that reaches the new primary: %s", kind,
			ready.body)
	}
	ready := isolated.readyz("?for=scan")
	assert.Equal(t, ready.status, http.StatusOK, "status of /readyz?for=scan of the isolated node: %s", ready.body)
	assert.Equal(t, isolated.metric("qrjump_db_primaries"), 2, "primaries of the isolated node")
	// The error tells the operator what to do.
	refused := mustSend(t, http.MethodPut, isolated.serverURL()+"/admin/v1/settings", "application/json", `{"publish_quota":7}`, adminToken)
	assert.True(t, refused.status == http.StatusServiceUnavailable && strings.Contains(refused.body, "an old primary: stop it"),
		"PUT /admin/v1/settings on the isolated node = %d %s, want 503 and the cause", refused.status, refused.body)
	assert.True(t, isolated.metric(`qrjump_db_write_errors_total{cause="primaries"}`) != 0, "no write error has the cause primaries")
	if log := both.running.Load().readLog(); !strings.Contains(log, "several database servers accept writes") ||
		!strings.Contains(log, hosts[0]+" (timeline 1)") || !strings.Contains(log, hosts[1]+" (timeline 2)") {
		t.Errorf("the log does not name both primaries\n%s", log)
	}

	// The fence also holds after a restart.
	both.kill()
	both.start()
	first.base = both.serverURL()
	assert.Equal(t, first.add(), 0, "errcode of a change after a restart")
	isolated.kill()
	restarted, ok := tryStart(t, isolated.config())
	assert.True(t, !ok, "a node became ready on the old primary")
	assert.Contains(t, restarted.logTail(), "is an old primary", "the log of the failed start")
	assert.Equal(t, rules(hosts[0]), before, "rules on the old primary")

	p.script("kill", p.dirs[0])
	waitFor(t, "the killed primary to be noticed", func() bool { return both.metric("qrjump_db_primaries") == 1 })
	p.script("again", p.dirs[0]) // the old primary restarts
	waitFor(t, "the restarted primary to be noticed", func() bool { return both.metric("qrjump_db_primaries") == 2 })
	for range 5 {
		assert.Equal(t, first.add(), 0, "errcode of a change after the restart of the old primary")
	}
	first.checkRules()
	assert.Equal(t, rules(hosts[0]), before, "rules on the old primary")
	both.stop()
}

// TestNodeShutdown_CommitPendingOnReplica stops a node while its commit waits for a missing replica. The node exits with 0 without
// acknowledging the change, and does not cancel the commit, because PostgreSQL would then show the change although no replica has it.
func TestNodeShutdown_CommitPendingOnReplica(t *testing.T) {
	p := newPrimary(t)
	c := newCluster(t, p.createDatabase("waits"), spaceSeed, 1)
	n := c.nodes[0]
	n.start()
	writer := newRuleWriter(t, n.serverURL())
	writer.addSome(2)
	p.setSynchronousStandby("missing")
	// PostgreSQL applies the setting after a delay: from the first commit that waits.
	var applied atomic.Bool
	var commits sync.WaitGroup
	commits.Go(func() {
		for !applied.Load() {
			dbtest.Exec(t, p.urls[0], `CREATE TABLE probe (); DROP TABLE probe`)
		}
	})
	waitFor(t, "the first commit to wait", func() bool {
		return dbtest.QueryInt(t, p.urls[0],
			`SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = 'postgres'`) > 0
	})
	// The transaction of the change holds its locks while its commit waits.
	const waiting = `SELECT count(DISTINCT pid) FROM pg_stat_activity JOIN pg_locks USING (pid)
		WHERE wait_event = 'SyncRep' AND relation = 'rules'::regclass AND mode = 'RowExclusiveLock'`
	const rules = `SELECT count(*) FROM rules`
	before := dbtest.QueryInt(t, c.database, rules)
	result := make(chan error, 1)
	go func() {
		// A call of the platform API would first count itself in another transaction.
		result <- n.admin().do(http.MethodDelete, "/admin/v1/accounts/shop/rules?prefix="+url.QueryEscape(writer.added[1]), nil, nil)
	}()
	waitFor(t, "a commit to wait for the replica", func() bool { return dbtest.QueryInt(t, c.database, waiting) > 0 })
	began := time.Now()
	n.stop()
	t.Logf("stopped after %v", time.Since(began).Round(100*time.Millisecond))
	assert.True(t, <-result != nil, "a change that no replica has was acknowledged")
	assert.True(t, dbtest.QueryInt(t, c.database, waiting) != 0 && dbtest.QueryInt(t, c.database, rules) == before,
		"the commit was cancelled: the change is visible although no replica has it")
	applied.Store(true)
	p.setSynchronousStandby("")
	commits.Wait()
	waitFor(t, "the commit to complete", func() bool { return dbtest.QueryInt(t, c.database, waiting) == 0 })
	assert.Equal(t, dbtest.QueryInt(t, c.database, rules), before-1, "rules after the commit")
	n.start()
	n.stop()
}

// TestNodeStart_TerminatedWaitingForReplica verifies that SIGTERM ends a start whose migrations wait for a missing replica, and that the
// next start succeeds.
func TestNodeStart_TerminatedWaitingForReplica(t *testing.T) {
	p := newPrimary(t)
	c := newCluster(t, p.createDatabase("begins"), spaceSeed, 1)
	p.setSynchronousStandby("missing")
	child := c.nodes[0].config()
	require.NoError(t, os.MkdirAll(child.Data, 0o700))
	starting := proctest.Start(t, proctest.Command("server", child))
	waitFor(t, "the start to wait for the replica", func() bool {
		return dbtest.QueryInt(t, p.urls[0], `
			SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = 'begins'`) > 0
	})
	if _, err := starting.Stop(); err == nil {
		t.Error("an interrupted start exited with 0, want an error")
	}
	p.setSynchronousStandby("")
	c.nodes[0].start()
	c.nodes[0].stop()
}

// TestJournal_ReplayAfterPointInTimeRestore restores the database to an earlier time while the node keeps its data directory. The journal
// replays every scan that was acknowledged since then, so all are counted; changes are lost, and application ids are reused.
func TestJournal_ReplayAfterPointInTimeRestore(t *testing.T) {
	testscope.RequireComplete(t, "TestFailover_SplitBrainFenced promotes a replica, and TestScanFolder_OlderThanDatabase replays a journal")
	p := newPrimaryWithReplica(t)
	c := newCluster(t, p.createDatabase("earlier"), spaceSeed, 1)
	n := c.nodes[0]
	n.start()
	writer, admin := newRuleWriter(t, n.serverURL()), n.admin()
	key := admin.scanKey("app")
	scans := mustConnect(t, n.serverURL(), key)
	counted := func() (sum int) {
		t.Helper()
		var statistics struct{ Rows []struct{ Scans int } }
		if err := admin.do(http.MethodGet, "/admin/v1/statistics?wait=true", nil, &statistics); err != nil {
			t.Log(err) // the database is down
		}
		for _, row := range statistics.Rows {
			sum += row.Scans
		}
		return sum
	}
	scan := func(times int) {
		t.Helper()
		for range times {
			scans.scan("https://shop.example/open/7")
		}
	}
	brand := admin.stableToken("brand")
	writer.addSome(1)
	scan(30)
	waitFor(t, "the first scans to be counted", func() bool { return counted() == 30 })

	p.script("kill", p.dirs[1]) // the replica keeps the state of this time
	p.setSynchronousStandby("")
	writer.addSome(1)
	first := admin.apply(brand, "printed", 10_000)
	scan(70)
	waitFor(t, "all scans to be counted", func() bool { return counted() == 100 })

	p.script("kill", p.dirs[0])
	p.script("again", p.dirs[1])
	p.script("promote", p.dirs[1])
	waitFor(t, "all scans to be counted again", func() bool { return counted() == 100 })
	writer.added = writer.added[:1]
	writer.checkRules()
	assert.Equal(t, dbtest.QueryInt(t, withHosts(t, c.database, parseURL(t, p.urls[1]).User, parseURL(t, p.urls[1]).Host),
		`SELECT count(*) FROM rules`), 2,
		"rules")
	brand = admin.stableToken("brand") // the previous token may be lost
	assert.Equal(t, admin.apply(brand, "another", 10_000), first,
		"the application id after the restore, which nodes.md documents as reused")
	n.stop()
}
