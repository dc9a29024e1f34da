package chaos_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
)

// metric is the value of one line of GET /metrics of a node.
func (n *node) metric(name string) float64 {
	n.t.Helper()
	m := n.admin()
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, m.base+"/metrics", nil)
	m.check(err)
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := http.DefaultClient.Do(req)
	m.check(err)
	defer resp.Body.Close()
	var text strings.Builder
	_, err = io.Copy(&text, resp.Body)
	m.check(err)
	for line := range strings.Lines(text.String()) {
		if value, is := strings.CutPrefix(line, name+" "); is {
			is, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			m.check(err)
			return is
		}
	}
	n.t.Fatalf("there is no %s", name)
	return 0
}

// Issue 29, 3: a node whose URL names two servers says how many replicas confirm its changes, and at its start that none does.
func TestReplicaStatus_NoneConfirming(t *testing.T) {
	p := newPair(t)
	c := newCluster(t, p.database("confirmed"), chaosSeed, 1)
	n := c.nodes[0]
	n.start()
	if hosts, replicas := n.metric("qrjump_db_hosts"), n.metric("qrjump_db_replicas"); hosts != 2 || replicas != 1 {
		t.Errorf("%v servers, %v replicas", hosts, replicas)
	}
	const warned = "no synchronous database replica"
	const waits = "no database replica is connected"
	if log := string(n.running.Load().wholeLog()); strings.Contains(log, warned) || strings.Contains(log, waits) {
		t.Errorf("beside a replica it says\n%s", log)
	}
	p.script("kill", p.dirs[1])
	until(t, "the replica to be gone", func() bool { return n.metric("qrjump_db_replicas") == 0 })
	assert.Equal(t, n.metric(`qrjump_ready{kind="scan"}`), 1, "without a replica it is not ready for scans")
	dbtest.Exec(t, p.urls[0], `ALTER SYSTEM SET synchronous_standby_names = ''`)
	dbtest.Exec(t, p.urls[0], `SELECT pg_reload_conf()`)
	until(t, "changes to wait for nobody", func() bool { return n.metric(`qrjump_ready{kind="change"}`) == 1 })
	n.stop()
	n.start()
	if log := string(n.running.Load().wholeLog()); !strings.Contains(log, warned) {
		t.Errorf("without a replica it says\n%s", log)
	}
	assert.Equal(t, n.metric("qrjump_db_replicas"), 0, "replicas")
	n.stop()
}
