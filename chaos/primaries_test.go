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

// askFor is what GET /readyz?for= answers.
func askFor(t *testing.T, n *node, kind string) (status int, said string) {
	t.Helper()
	return sends(t, http.DefaultClient, http.MethodGet, n.running.Load().URL+"/readyz?for="+kind, "", "", "")
}

// on is a URL of a cluster's database with one of the servers alone, or with several, as a user.
func on(t *testing.T, database string, user *url.Userinfo, hosts ...string) string {
	t.Helper()
	u, err := url.Parse(database)
	require.True(t, err == nil, "the URL of the database cannot be read")
	u.User = user
	if len(hosts) > 0 {
		u.Host = strings.Join(hosts, ",")
	}
	return u.String()
}

// Issue 29, 6: the replica is promoted, and nobody stops the old primary, which takes writes and confirms them. No node changes
// anything there from then on: one that reaches both uses the new one, one that sees the old one alone hears of it there. As a role
// that may do nothing special.
func TestFailover_SplitBrainFenced(t *testing.T) {
	p := newPair(t)
	database := p.database("two")
	dbtest.Exec(t, p.urls[0], `CREATE ROLE plain LOGIN PASSWORD 'plain'`)
	dbtest.Exec(t, p.urls[0], `ALTER DATABASE two OWNER TO plain`)
	hosts := []string{hostOf(t, p.urls[0]), hostOf(t, p.urls[1])}
	plain := url.UserPassword("plain", "plain")
	c := newCluster(t, on(t, database, plain), spaceSeed, 2)
	c.looks = 100 * time.Millisecond // nothing here is about the ten seconds
	both, one := c.nodes[0], c.nodes[1]
	one.url = on(t, database, plain, hosts[0])
	c.start()
	c.allReady()
	rules := func(host string) int64 {
		t.Helper()
		return dbtest.Number(t, on(t, database, plain, host), `SELECT count(*) FROM rules`)
	}
	first, second := newShopkeeper(t, both.running.Load().URL), newShopkeeper(t, one.running.Load().URL)
	second.n = 1000
	for range 3 {
		require.True(t, first.add() == 0 && second.add() == 0, "changes before the promotion fail")
	}
	assert.Equal(t, both.metric("qrjump_db_primaries"), 1, "primaries at first")

	// The old one goes on waiting for its replica, and so does what it had begun: nobody waits for that with it.
	p.script("promote", p.dirs[1])
	until(t, "the node that reaches both to see both", func() bool { return both.metric("qrjump_db_primaries") == 2 })
	until(t, "the node that sees the old one alone to hear of the other", func() bool {
		status, said := askFor(t, one, "change")
		return status == http.StatusServiceUnavailable && strings.Contains(said,
			"is an old primary: stop it permanently (it is on timeline 1, another server is on 2)")
	})
	before := rules(hosts[0])
	for range 5 {
		assert.Equal(t, first.add(), 0, "a change through the node that reaches the new primary")
		assert.Equal(t, second.add(), -1, "a change through the node that sees the old primary alone")
	}
	if after := rules(hosts[0]); after != before {
		t.Errorf("the old primary got %d rules", after-before)
	}
	first.has()
	for _, kind := range []string{"scan", "change"} {
		if status, said := askFor(t, both, kind); status != http.StatusOK {
			t.Errorf("the node that reaches the new primary is not ready for a %s: %s", kind, said)
		}
	}
	if status, said := askFor(t, one, "scan"); status != http.StatusOK {
		t.Errorf("the node that sees the old primary alone is not ready for a scan: %s", said)
	}
	if n := one.metric("qrjump_db_primaries"); n != 2 {
		t.Errorf("the node that sees the old primary alone knows of %v", n)
	}
	// The operator reads what to do.
	status, problem := sends(t, http.DefaultClient, http.MethodPut, one.running.Load().URL+"/admin/v1/settings", "application/json",
		`{"publish_quota":7}`, adminToken)
	assert.True(t, status == http.StatusServiceUnavailable && strings.Contains(problem, "an old primary: stop it"),
		"%d %s", status, problem)
	if n := one.metric(`qrjump_db_write_errors_total{cause="primaries"}`); n == 0 {
		t.Error("no change is counted as refused for that")
	}
	if log := string(both.running.Load().wholeLog()); !strings.Contains(log, "several database servers accept writes") ||
		!strings.Contains(log, hosts[0]+" (timeline 1)") || !strings.Contains(log, hosts[1]+" (timeline 2)") {
		t.Errorf("the log does not name both\n%s", log)
	}

	// A start knows it as well.
	both.kill()
	both.start()
	first.base = both.running.Load().URL
	assert.Equal(t, first.add(), 0, "a change after a start")
	one.kill()
	if started, ready := try(t, one.config()); ready {
		t.Error("a node starts on the old primary")
	} else if !strings.Contains(string(started.lastLog()), "is an old primary") {
		t.Errorf("a node that does not start says\n%s", started.lastLog())
	}
	if after := rules(hosts[0]); after != before {
		t.Errorf("the old primary got %d rules", after-before)
	}

	p.script("kill", p.dirs[0])
	until(t, "one primary to be left", func() bool { return both.metric("qrjump_db_primaries") == 1 })
	p.script("again", p.dirs[0]) // it comes back by itself
	until(t, "it to be seen", func() bool { return both.metric("qrjump_db_primaries") == 2 })
	for range 5 {
		assert.Equal(t, first.add(), 0, "a change after the old primary came back")
	}
	first.has()
	if after := rules(hosts[0]); after != before {
		t.Errorf("the old primary got %d rules", after-before)
	}
	both.stop()
}

// Issue 29, 6: a node is told to end while a commit of it waits for a replica that is gone. It ends in order, without an answer to
// the caller that would be a yes; and it does not cancel the commit, which PostgreSQL would show to all without its replica.
func TestNodeShutdown_CommitPendingOnReplica(t *testing.T) {
	p := newSingle(t)
	c := newCluster(t, p.database("waits"), spaceSeed, 1)
	n := c.nodes[0]
	n.start()
	keeper := newShopkeeper(t, n.running.Load().URL)
	for range 2 {
		if got := keeper.add(); got != 0 {
			t.Fatal(got)
		}
	}
	dbtest.Exec(t, p.urls[0], `ALTER SYSTEM SET synchronous_standby_names = 'nobody'`)
	dbtest.Exec(t, p.urls[0], `SELECT pg_reload_conf()`)
	// PostgreSQL takes the setting up a moment later: from the first commit on that waits.
	var enough atomic.Bool
	var commits sync.WaitGroup
	commits.Go(func() {
		for !enough.Load() {
			dbtest.Exec(t, p.urls[0], `CREATE TABLE comes (); DROP TABLE comes`)
		}
	})
	until(t, "the first commit to wait", func() bool {
		return dbtest.Number(t, p.urls[0], `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = 'postgres'`) > 0
	})
	// Of the change itself: a commit that waits has its locks still.
	const waiting = `SELECT count(DISTINCT pid) FROM pg_stat_activity JOIN pg_locks USING (pid)
		WHERE wait_event = 'SyncRep' AND relation = 'rules'::regclass AND mode = 'RowExclusiveLock'`
	const rules = `SELECT count(*) FROM rules`
	before := dbtest.Number(t, c.database, rules)
	answer := make(chan error, 1)
	go func() {
		// The operator's call: one of the wire is counted first, by a commit of its own.
		answer <- n.admin().do(http.MethodDelete, "/admin/v1/accounts/shop/rules?prefix="+url.QueryEscape(keeper.added[1]), nil, nil)
	}()
	until(t, "a commit to wait for the replica", func() bool { return dbtest.Number(t, c.database, waiting) > 0 })
	began := time.Now()
	n.stop() // wants 0
	t.Logf("ended after %v", time.Since(began).Round(100*time.Millisecond))
	if err := <-answer; err == nil {
		t.Error("a change that no replica has was acknowledged")
	}
	assert.True(t, dbtest.Number(t, c.database, waiting) != 0 && dbtest.Number(t, c.database, rules) == before,
		"the commit was cancelled: all see it, and no replica has it")
	enough.Store(true)
	dbtest.Exec(t, p.urls[0], `ALTER SYSTEM SET synchronous_standby_names = ''`)
	dbtest.Exec(t, p.urls[0], `SELECT pg_reload_conf()`)
	commits.Wait()
	until(t, "the commit to come to its end", func() bool { return dbtest.Number(t, c.database, waiting) == 0 })
	if after := dbtest.Number(t, c.database, rules); after != before-1 {
		t.Errorf("%d rules when the commit came to its end, %d before", after, before)
	}
	n.start()
	n.stop()
}

// Issue 29, 6: a start that waits for a replica, with the tables of an empty database, ends when it is told to.
func TestNodeStart_TerminatedWaitingForReplica(t *testing.T) {
	p := newSingle(t)
	c := newCluster(t, p.database("begins"), spaceSeed, 1)
	dbtest.Exec(t, p.urls[0], `ALTER SYSTEM SET synchronous_standby_names = 'nobody'`)
	dbtest.Exec(t, p.urls[0], `SELECT pg_reload_conf()`)
	child := c.nodes[0].config()
	require.NoError(t, os.MkdirAll(child.Data, 0o700))
	starting := proctest.Start(t, proctest.Command("server", child))
	until(t, "the start to wait for the replica", func() bool {
		return dbtest.Number(t, p.urls[0], `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = 'begins'`) > 0
	})
	if _, err := starting.Stop(); err == nil {
		t.Error("a start that did not come to its end says that it did")
	}
	dbtest.Exec(t, p.urls[0], `ALTER SYSTEM SET synchronous_standby_names = ''`)
	dbtest.Exec(t, p.urls[0], `SELECT pg_reload_conf()`)
	c.nodes[0].start()
	c.nodes[0].stop()
}

// Issue 29, 6: the database is put back to an earlier moment, and the node keeps its folder. Every scan that was acknowledged since
// comes back out of its journal and is counted; changes do not, and numbers of applications are given out again.
func TestJournal_ReplayAfterPointInTimeRestore(t *testing.T) {
	testscope.WholeOnly(t, "TestFailover_SplitBrainFenced promotes a replica, and TestScanFolder_OlderThanDatabase replays a journal")
	p := newPair(t)
	c := newCluster(t, p.database("earlier"), spaceSeed, 1)
	n := c.nodes[0]
	n.start()
	keeper, admin := newShopkeeper(t, n.running.Load().URL), n.admin()
	key := admin.scanKey("app")
	scans := must{connect(t, n.running.Load().URL, key), t}
	counted := func() (sum int) {
		t.Helper()
		var all struct{ Rows []struct{ Scans int } }
		if err := admin.do(http.MethodGet, "/admin/v1/statistics?wait=true", nil, &all); err != nil {
			t.Log(err) // the database is away
		}
		for _, row := range all.Rows {
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
	apply := func(name string) reply {
		t.Helper()
		applied, err := admin.codes("applycode", brand, map[string]any{"code_count": 10_000, "isv_application_id": name})
		admin.check(err)
		return applied
	}
	kept := keeper.add()
	scan(30)
	until(t, "the first scans to be counted", func() bool { return counted() == 30 })

	p.script("kill", p.dirs[1]) // the moment
	dbtest.Exec(t, p.urls[0], `ALTER SYSTEM SET synchronous_standby_names = ''`)
	dbtest.Exec(t, p.urls[0], `SELECT pg_reload_conf()`)
	lost, first := keeper.add(), apply("printed")
	if kept != 0 || lost != 0 || first.ErrCode != 0 {
		t.Fatal(kept, lost, first)
	}
	scan(70)
	until(t, "all scans to be counted", func() bool { return counted() == 100 })

	p.script("kill", p.dirs[0])
	p.script("again", p.dirs[1])
	p.script("promote", p.dirs[1])
	until(t, "all scans to be counted again", func() bool { return counted() == 100 })
	keeper.added = keeper.added[:1]
	keeper.has()
	assert.Equal(t, dbtest.Number(t, on(t, c.database, userOf(t, p.urls[1]), hostOf(t, p.urls[1])), `SELECT count(*) FROM rules`), 2,
		"rules")
	brand = admin.stableToken("brand") // that of before may be gone as well
	if second := apply("another"); second.ApplicationID != first.ApplicationID {
		t.Errorf("application %d, %d before: nodes.md says that numbers are given out again", second.ApplicationID, first.ApplicationID)
	}
	n.stop()
}

func hostOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.True(t, err == nil, "the URL of a server cannot be read")
	return u.Host
}

func userOf(t *testing.T, address string) *url.Userinfo {
	t.Helper()
	u, err := url.Parse(address)
	require.True(t, err == nil, "the URL of a server cannot be read")
	return u.User
}
