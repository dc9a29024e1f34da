package chaos_test

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// TestReplicaStatus_NoneConfirming verifies that a node whose database URL names two servers reports the number of synchronous replicas,
// and warns at its start when there is none.
func TestReplicaStatus_NoneConfirming(t *testing.T) {
	p := newPrimaryWithReplica(t)
	c := newCluster(t, p.createDatabase("confirmed"), killTestSeed, 1)
	n := c.nodes[0]
	n.start()
	assert.Equal(t, n.metric("qrjump_db_hosts"), 2, "database servers")
	assert.Equal(t, n.metric("qrjump_db_replicas"), 1, "replicas")
	const warning = "no synchronous database replica"
	if log := n.running.Load().readLog(); strings.Contains(log, warning) || strings.Contains(log, "no database replica is connected") {
		t.Errorf("the log has a warning although there is a replica:\n%s", log)
	}
	p.script("kill", p.dirs[1])
	waitFor(t, "the replica to be missing", func() bool { return n.metric("qrjump_db_replicas") == 0 })
	assert.Equal(t, n.metric(`qrjump_ready{kind="scan"}`), 1, "readiness for scans without a replica")
	p.setSynchronousStandby("")
	waitFor(t, "changes to be ready without a replica", func() bool { return n.metric(`qrjump_ready{kind="change"}`) == 1 })
	n.stop()
	n.start()
	assert.Contains(t, n.running.Load().readLog(), warning, "the log of a start without a replica")
	assert.Equal(t, n.metric("qrjump_db_replicas"), 0, "replicas")
	n.stop()
}
