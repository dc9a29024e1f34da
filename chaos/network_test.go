package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// netns is a Linux network namespace with a link to the database and a link for callers.
type netns struct {
	t               *testing.T
	name, link      string
	database, calls string // addresses of the near end of the database link and of the far end of the callers' link
}

func newNetns(t *testing.T) *netns {
	t.Helper()
	n := rand.IntN(250)
	p := &netns{t: t, name: fmt.Sprintf("qrjump-%d", os.Getpid()), link: fmt.Sprintf("qrd%d", os.Getpid()),
		database: fmt.Sprintf("198.18.%d.1", n), calls: fmt.Sprintf("198.18.%d.6", n)} // 198.18.0.0/15 is for tests
	if err := exec.Command("ip", "netns", "add", p.name).Run(); err != nil {
		t.Skipf("a network of its own takes root and ip netns: %v", err)
	}
	t.Cleanup(func() { p.ip("netns", "delete", p.name) })
	callers := fmt.Sprintf("qrc%d", os.Getpid())
	for _, command := range []string{
		"link add " + p.link + " type veth peer name database netns " + p.name,
		"link add " + callers + " type veth peer name callers netns " + p.name,
		"address add " + p.database + "/30 dev " + p.link,
		fmt.Sprintf("address add 198.18.%d.5/30 dev %s", n, callers),
		fmt.Sprintf("-n %s address add 198.18.%d.2/30 dev database", p.name, n),
		fmt.Sprintf("-n %s address add %s/30 dev callers", p.name, p.calls),
		"link set " + p.link + " up", "link set " + callers + " up",
		"-n " + p.name + " link set database up", "-n " + p.name + " link set callers up", "-n " + p.name + " link set lo up",
	} {
		p.ip(strings.Fields(command)...)
	}
	return p
}

// ip runs the program ip.
func (p *netns) ip(args ...string) {
	p.t.Helper()
	output, err := exec.Command("ip", args...).CombinedOutput()
	require.True(p.t, err == nil, "ip %s: %v %s", strings.Join(args, " "), err, output)
}

// TestCommit_NetworkCutDuringReplication takes the link to the database down while a commit waits for the replica, so that no packet and no
// reset arrives. The caller receives an error of unknown outcome in bounded time; when the link is up again, changes succeed.
func TestCommit_NetworkCutDuringReplication(t *testing.T) {
	testscope.RequireComplete(t, "TestSilentRead_Timeout simulates a silent link with a proxy; detection by the kernel takes half a minute")
	ns := newNetns(t)
	p := newPrimary(t)
	c := newCluster(t, p.createDatabase("cut"), spaceSeed, 1)
	n := c.nodes[0]
	n.databaseURL = newPGProxy(t, c.database, net.JoinHostPort(ns.database, "0")).URL
	child := n.config()
	child.Listen = net.JoinHostPort(ns.calls, "0")
	require.NoError(t, os.MkdirAll(child.Data, 0o700))
	node, ready := startCommand(t, proctest.Command("server", child, "ip", "netns", "exec", ns.name), filepath.Dir(child.Data))
	require.True(t, ready, "the node did not become ready\n%s", node.logTail())
	n.running.Store(node)
	writer := newRuleWriter(t, node.URL)
	writer.addSome(2)
	p.setSynchronousStandby("missing")
	result := make(chan int, 1)
	go func() {
		code := 0
		for code == 0 { // commits wait when PostgreSQL has applied the setting
			code = writer.add()
		}
		result <- code
	}()
	waitFor(t, "a commit to wait for the replica", func() bool {
		return dbtest.QueryInt(t, c.database, `SELECT count(DISTINCT pid) FROM pg_stat_activity JOIN pg_locks USING (pid)
			WHERE wait_event = 'SyncRep' AND relation = 'rules'::regclass AND mode = 'RowExclusiveLock'`) > 0
	})
	ns.ip("link", "set", ns.link, "down")
	require.Equal(t, <-result, -1, "errcode of a change whose outcome is unknown")
	p.setSynchronousStandby("")
	ns.ip("link", "set", ns.link, "up")
	writer.waitForAdd()
	writer.checkRules()
	n.stop()
}
