package chaos_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestScanQuery_StoppedNode: a question for everything that was scanned is refused
// while a node stands still or is dead, names it, and is answered whole when it is
// there again.
func TestScanQuery_StoppedNode(t *testing.T) {
	database := ownDatabase(t) // several nodes share PostgreSQL only
	c := newCluster(t, database, "accounts: []\n", 2)
	c.start()
	asked, other := c.nodes[0], c.nodes[1]
	call := func(n *node, method, path, body, bearer string) (int, string) {
		t.Helper()
		return sends(t, http.DefaultClient, method, n.running.Load().URL+path, "application/json", body, bearer)
	}
	var made struct{ Key string }
	if status, text := call(asked, "POST", "/admin/v1/scan-keys", `{"name":"app"}`, adminToken); json.Unmarshal([]byte(text),
		&made) != nil || made.Key == "" {
		t.Fatal(status, text)
	}
	total := 0
	scan := func(n *node) {
		t.Helper()
		for range 20 {
			until(t, "the key to be known on the other node", func() bool {
				status, text := call(n, "POST", "/scan/v1/resolve", `{"text":"https://nowhere.example/"}`, made.Key)
				if status != 200 && status != 401 {
					t.Fatal(status, text)
				}
				return status == 200
			})
			total++
		}
	}
	whole := func(when string) {
		t.Helper()
		status, text := call(asked, "GET", "/admin/v1/statistics?wait=true", "", adminToken)
		assert.True(t, status == 200 && strings.Contains(text, fmt.Sprintf(`"scans":%d`, total)),
			"%s: %d %s, want %d scans", when, status, text, total)
	}
	refused := func(when string) {
		t.Helper()
		status, text := call(asked, "GET", "/admin/v1/statistics?wait=true", "", adminToken)
		assert.True(t, status == 503 && strings.Contains(text, other.config().Data+") does not respond"),
			"%s: %d %s, want a refusal that names the node", when, status, text)
	}
	scan(asked)
	scan(other)
	whole("both run")
	scan(other)
	signal := func(s os.Signal) {
		t.Helper()
		require.NoError(t, other.running.Load().Process.Signal(s))
	}
	signal(syscall.SIGSTOP)
	refused("one stands still")
	signal(syscall.SIGCONT)
	whole("it goes on")
	scan(other)
	other.kill()
	refused("one was killed")
	other.start()
	whole("it is there again")
	scan(other)
	other.stop()
	whole("it ended in order")
	asked.stop()
}
