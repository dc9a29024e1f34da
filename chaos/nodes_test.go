package chaos_test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestScanQuery_StoppedNode verifies that statistics of all scans fail while a node is stopped or dead, that the error names the node, and
// that they are complete when the node is back.
func TestScanQuery_StoppedNode(t *testing.T) {
	database := newDatabase(t) // several nodes share PostgreSQL only
	c := newCluster(t, database, "accounts: []\n", 2)
	c.start()
	queried, other := c.nodes[0], c.nodes[1]
	key := queried.admin().scanKey("app")
	total := 0
	scan := func(n *node) {
		t.Helper()
		for range 20 {
			waitFor(t, "the node to know the scan key", func() bool {
				r := mustSend(t, http.MethodPost, n.serverURL()+"/scan/v1/resolve", "application/json",
					`{"text":"https://nowhere.example/"}`, key)
				require.True(t, r.status == http.StatusOK || r.status == http.StatusUnauthorized, "a scan = %d %s, want 200 or 401",
					r.status, r.body)
				return r.status == http.StatusOK
			})
			total++
		}
	}
	check := func(when string, status int, text string) {
		t.Helper()
		r := mustSend(t, http.MethodGet, queried.serverURL()+"/admin/v1/statistics?wait=true", "", "", adminToken)
		assert.True(t, r.status == status && strings.Contains(r.body, text), "%s: statistics = %d %s, want %d and %s", when, r.status,
			r.body, status, text)
	}
	checkComplete := func(when string) {
		t.Helper()
		check(when, http.StatusOK, fmt.Sprintf(`"scans":%d`, total))
	}
	checkRefused := func(when string) {
		t.Helper()
		check(when, http.StatusServiceUnavailable, other.config().Data+") does not respond")
	}
	scan(queried)
	scan(other)
	checkComplete("both nodes run")
	scan(other)
	other.running.Load().signal(syscall.SIGSTOP)
	checkRefused("a node is stopped")
	other.running.Load().signal(syscall.SIGCONT)
	checkComplete("the node continues")
	scan(other)
	other.kill()
	checkRefused("the node was killed")
	other.start()
	checkComplete("the node was restarted")
	scan(other)
	other.stop()
	checkComplete("the node shut down")
	queried.stop()
}
