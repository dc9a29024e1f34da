package chaos_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestDatabaseRead_StaleListsReportAsOf verifies that a node with --database-read lists what the replica has replayed and reports as_of.
// The node's own changes are visible immediately, because it then reads from the primary, as it does when the replica is down.
func TestDatabaseRead_StaleListsReportAsOf(t *testing.T) {
	p := newPrimaryWithReplica(t)
	c := newCluster(t, p.createDatabase("reads"), spaceSeed, 2)
	near, far := c.nodes[0], c.nodes[1]
	near.readReplicaURL = withHosts(t, c.database, parseURL(t, p.urls[1]).User, parseURL(t, p.urls[1]).Host)
	near.readReplicaURL = strings.Replace(near.readReplicaURL, "target_session_attrs=read-write", "connect_timeout=2", 1)
	c.start()
	c.waitUntilReady()
	nearWriter, farWriter := newRuleWriter(t, near.serverURL()), newRuleWriter(t, far.serverURL())
	farWriter.n = 1000
	lists := func() (prefixes []string, asOf time.Time) {
		t.Helper()
		var got struct {
			Rules []struct{ Prefix string }
			AsOf  time.Time `json:"as_of"`
		}
		near.admin().get("/admin/v1/rules?owner=shop&limit=100", &got)
		for _, r := range got.Rules {
			prefixes = append(prefixes, r.Prefix)
		}
		return prefixes, got.AsOf
	}
	require.Equal(t, farWriter.add(), 0, "errcode of the first change")
	waitFor(t, "the replica to replay the change", func() bool {
		prefixes, asOf := lists()
		return slices.Contains(prefixes, farWriter.added[0]) && !asOf.IsZero()
	})

	dbtest.Exec(t, p.urls[1], `SELECT pg_wal_replay_pause()`)
	waitFor(t, "the replay to stop", func() bool {
		return dbtest.QueryInt(t, p.urls[1], `SELECT CASE pg_get_wal_replay_pause_state() WHEN 'paused' THEN 1 ELSE 0 END`) == 1
	})
	before := time.Now()
	require.Equal(t, farWriter.add(), 0, "errcode of a change through the other node")
	prefixes, asOf := lists()
	assert.True(t, !slices.Contains(prefixes, farWriter.added[1]) && !asOf.IsZero() && asOf.Before(before),
		"rules as of %v: %q, want those before the change at %v", asOf, prefixes, before)
	require.Equal(t, nearWriter.add(), 0, "errcode of a change through this node")
	prefixes, asOf = lists()
	assert.True(t, slices.Contains(prefixes, nearWriter.added[0]) && slices.Contains(prefixes, farWriter.added[1]) && asOf.IsZero(),
		"after a change through this node, rules as of %v: %q, want both changes and no as_of", asOf, prefixes)
	var statistics map[string]any
	near.admin().get("/admin/v1/statistics?wait=true", &statistics)
	assert.True(t, statistics["as_of"] == nil, "statistics with wait=true are %v, want no as_of", statistics)
	dbtest.Exec(t, p.urls[1], `SELECT pg_wal_replay_resume()`)
	waitFor(t, "the replica to be used again", func() bool {
		prefixes, asOf := lists()
		return slices.Contains(prefixes, nearWriter.added[0]) && !asOf.IsZero()
	})
	near.admin().get("/admin/v1/statistics", &statistics)
	assert.True(t, statistics["as_of"] != nil, "statistics without wait are %v, want as_of", statistics)
	var document struct {
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	near.admin().get("/openapi.json", &document)
	for schema, want := range map[string]bool{"StoredRuleList": true, "StatisticsResponse": true, "Account": false} {
		_, got := document.Components.Schemas[schema].Properties["as_of"]
		assert.Equal(t, got, want, "as_of in the schema %s", schema)
	}
	var account map[string]any
	near.admin().get("/admin/v1/accounts/shop", &account)
	assert.True(t, account["as_of"] == nil, "an account is %v, want no as_of", account)

	p.setSynchronousStandby("")
	p.script("kill", p.dirs[1])
	require.Equal(t, farWriter.add(), 0, "errcode of a change without the replica")
	prefixes, asOf = lists()
	assert.True(t, slices.Contains(prefixes, farWriter.added[2]) && asOf.IsZero(),
		"without the replica, rules as of %v: %q, want the change and no as_of", asOf, prefixes)
	password, _ := parseURL(t, near.readReplicaURL).User.Password()
	if log := near.running.Load().readLog(); !strings.Contains(log, "the read replica failed") ||
		strings.Contains(log, url.QueryEscape(password)) {
		t.Errorf("the log does not report the replica, or contains its password:\n%s", log)
	}
	c.stop()
}
