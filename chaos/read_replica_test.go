package chaos_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 48, 4: a node with --database-read lists what the replica has replayed and reports as_of. Its own changes are visible at once,
// because it then reads from the primary, as it does when the replica is down.
func TestDatabaseRead_StaleListsReportAsOf(t *testing.T) {
	p := newPair(t)
	c := newCluster(t, p.database("reads"), spaceSeed, 2)
	near, far := c.nodes[0], c.nodes[1]
	near.read = on(t, c.database, userOf(t, p.urls[1]), hostOf(t, p.urls[1]))
	near.read = strings.Replace(near.read, "target_session_attrs=read-write", "connect_timeout=2", 1)
	c.start()
	c.allReady()
	ours, theirs := newShopkeeper(t, near.running.Load().URL), newShopkeeper(t, far.running.Load().URL)
	theirs.n = 1000
	lists := func() (prefixes []string, asOf time.Time) {
		t.Helper()
		var got struct {
			Rules []struct{ Prefix string }
			AsOf  time.Time `json:"as_of"`
		}
		near.admin().check(near.admin().do(http.MethodGet, "/admin/v1/rules?owner=shop&limit=100", nil, &got))
		for _, r := range got.Rules {
			prefixes = append(prefixes, r.Prefix)
		}
		return prefixes, got.AsOf
	}
	require.Equal(t, theirs.add(), 0, "the first change")
	until(t, "the replica to have it", func() bool {
		prefixes, asOf := lists()
		return slices.Contains(prefixes, theirs.added[0]) && !asOf.IsZero()
	})

	dbtest.Exec(t, p.urls[1], `SELECT pg_wal_replay_pause()`)
	until(t, "the replay to stop", func() bool {
		return dbtest.Number(t, p.urls[1], `SELECT CASE pg_get_wal_replay_pause_state() WHEN 'paused' THEN 1 ELSE 0 END`) == 1
	})
	before := time.Now()
	require.Equal(t, theirs.add(), 0, "a change through the other node")
	prefixes, asOf := lists()
	assert.True(t, !slices.Contains(prefixes, theirs.added[1]) && !asOf.IsZero() && asOf.Before(before),
		"rules as of %v, before the change of %v: %q", asOf, before, prefixes)
	require.Equal(t, ours.add(), 0, "a change through this node")
	prefixes, asOf = lists()
	assert.True(t, slices.Contains(prefixes, ours.added[0]) && slices.Contains(prefixes, theirs.added[1]) && asOf.IsZero(),
		"after a change of its own, rules as of %v: %q", asOf, prefixes)
	var statistics map[string]any
	near.admin().check(near.admin().do(http.MethodGet, "/admin/v1/statistics?wait=true", nil, &statistics))
	assert.True(t, statistics["as_of"] == nil, "statistics with wait=true are %v", statistics)
	dbtest.Exec(t, p.urls[1], `SELECT pg_wal_replay_resume()`)
	until(t, "the replica to be used again", func() bool {
		prefixes, asOf := lists()
		return slices.Contains(prefixes, ours.added[0]) && !asOf.IsZero()
	})
	near.admin().check(near.admin().do(http.MethodGet, "/admin/v1/statistics", nil, &statistics))
	assert.True(t, statistics["as_of"] != nil, "statistics without wait are %v", statistics)
	var document struct {
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	near.admin().check(near.admin().do(http.MethodGet, "/openapi.json", nil, &document))
	for schema, has := range map[string]bool{"StoredRuleList": true, "StatisticsResponse": true, "Account": false} {
		_, is := document.Components.Schemas[schema].Properties["as_of"]
		assert.True(t, is == has, "as_of in the schema %s: %v, want %v", schema, is, has)
	}
	var rule map[string]any
	near.admin().check(near.admin().do(http.MethodGet, "/admin/v1/accounts/shop", nil, &rule))
	assert.True(t, rule["as_of"] == nil, "one account is %v", rule)

	dbtest.Exec(t, p.urls[0], `ALTER SYSTEM SET synchronous_standby_names = ''`)
	dbtest.Exec(t, p.urls[0], `SELECT pg_reload_conf()`)
	p.script("kill", p.dirs[1])
	require.Equal(t, theirs.add(), 0, "a change without the replica")
	prefixes, asOf = lists()
	assert.True(t, slices.Contains(prefixes, theirs.added[2]) && asOf.IsZero(), "without the replica, rules as of %v: %q", asOf, prefixes)
	password, _ := userOf(t, near.read).Password()
	if log := string(near.running.Load().wholeLog()); !strings.Contains(log, "the read replica failed") ||
		strings.Contains(log, url.QueryEscape(password)) {
		t.Errorf("the log does not report the replica, or has its password:\n%s", log)
	}
	c.stop()
}
