package server_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// promises are the questions that promise everything that was acknowledged before.
var promises = []struct{ method, path string }{
	{"GET", "/statistics?wait=true"},
	{"GET", "/statistics/unmatched?wait=true"},
	{"GET", "/scans?limit=1000"},
	{"GET", "/scans/export"},
	{"POST", "/statistics/recount"},
}

// Issue 12, 3: what was acknowledged on any node before a question that promises everything is in its answer; where a node does not answer,
// the question is refused and names it.
func TestScanQueries_CoverAllNodes(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string]bool{"database": false, "stream": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, events := onPostgres(t), ""
			if stream {
				events = streamServer(t)
			}
			first := p.counting(t, events, "")
			second := p.secondOf(t).counting(t, events, first.key)
			nodes, total := []*counter{first, second}, int64(0)
			for round := range 8 {
				nodes[round%2].burst(300)
				total += 300
				asked := nodes[(round+1)%2]
				when := fmt.Sprint("round ", round)
				switch round % 4 {
				case 0:
					asked.counted(when, total)
				case 1:
					n := asked.fed()
					assert.True(t, int64(n) == total, "%s: %d scans in the feed, want %d", when, n, total)
				case 2:
					n := strings.Count(asked.Admin("GET", "/scans/export", "").Body, "\n") - 1
					assert.True(t, int64(n) == total, "%s: %d scans in the export, want %d", when, n, total)
				case 3:
					r := servertest.Decode[struct{ Scans int64 }](t, asked.Admin("POST", "/statistics/recount", ""))
					assert.True(t, r.Scans == total, "%s: %d scans in a recount, want %d", when, r.Scans, total)
				}
			}
			// One that ends in order has brought all it had.
			second.burst(50)
			second.Stop()
			first.counted("with one that ended", total+50)

			// One that was killed says nothing any more.
			s, err := store.Open(t.Context(), store.Target{URL: p.database})
			require.NoError(t, err)
			defer s.Close()
			require.NoError(t, s.PutNode(t.Context(), scanlog.Node{ID: "dead", Name: "rack-7:/data"}))
			var all sync.WaitGroup
			for _, q := range promises {
				all.Go(func() {
					a := first.Send(first.Request(q.method, "/admin/v1"+q.path, "", "Authorization: Bearer "+servertest.AdminToken))
					assert.True(t, a.Status == 503 && strings.Contains(a.Body, "node dead (rack-7:/data) does not respond"),
						"%s %s beside a node that does not answer: %d %.300s", q.method, q.path, a.Status, a.Body)
				})
			}
			all.Wait()
			a := first.Send(first.Request("GET", "/admin/v1/statistics", "", "Authorization: Bearer "+
				servertest.AdminToken))
			assert.True(t, a.Status == 200, "a question that promises nothing: %d %s", a.Status, a.Body)
			first.Admin("DELETE", "/scan-nodes/dead", "")
			first.counted("without it", total+50)
			assert.Contains(t, first.Admin("GET", "/changes?newest=true&limit=1", "").Body, "delete_node", "no change says so")
		})
	}
}
