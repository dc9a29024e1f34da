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

// consistentQueries are the queries that include every scan that any node acknowledged before.
var consistentQueries = []struct{ method, path string }{
	{"GET", "/statistics?wait=true"},
	{"GET", "/statistics/unmatched?wait=true"},
	{"GET", "/scans?limit=1000"},
	{"GET", "/scans/export"},
	{"POST", "/statistics/recount"},
}

// TestScanQueries_CoverAllNodes verifies that a consistent query on one node includes the scans that another node acknowledged before, and
// that it returns 503 with the name of the node if a node does not respond.
func TestScanQueries_CoverAllNodes(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string]bool{"database": false, "stream": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, events := newPostgres(t), ""
			if stream {
				events = startStream(t)
			}
			first := p.startCounter(t, events, "")
			second := p.addNode(t).startCounter(t, events, first.key)
			nodes, total := []*scanCounter{first, second}, int64(0)
			for round := range 8 {
				nodes[round%2].scanBatch(300)
				total += 300
				queried := nodes[(round+1)%2]
				step := fmt.Sprint("round ", round)
				switch round % 4 {
				case 0:
					queried.wantScans(step, total)
				case 1:
					n := queried.countFeed()
					assert.True(t, int64(n) == total, "%s: %d scans in the feed, want %d", step, n, total)
				case 2:
					n := strings.Count(queried.Admin("GET", "/scans/export", "").Body, "\n") - 1
					assert.True(t, int64(n) == total, "%s: %d scans in the export, want %d", step, n, total)
				case 3:
					r := servertest.Decode[struct{ Scans int64 }](t, queried.Admin("POST", "/statistics/recount", ""))
					assert.True(t, r.Scans == total, "%s: %d scans in a recount, want %d", step, r.Scans, total)
				}
			}
			// A node that stops cleanly has shipped all its scans.
			second.scanBatch(50)
			second.Stop()
			first.wantScans("after the second node stopped", total+50)

			// A killed node does not respond.
			s := require.Value(store.Open(t.Context(), store.Target{URL: p.database}))(t)
			defer s.Close()
			require.NoError(t, s.PutNode(t.Context(), scanlog.Node{ID: "dead", Name: "rack-7:/data"}))
			var calls sync.WaitGroup
			for _, q := range consistentQueries {
				calls.Go(func() {
					a := first.Send(first.Request(q.method, "/admin/v1"+q.path, "", "Authorization: Bearer "+servertest.AdminToken))
					assert.True(t, a.Status == 503 && strings.Contains(a.Body, "node dead (rack-7:/data) does not respond"),
						"%s %s while a node does not respond: %d %.300s, want 503", q.method, q.path, a.Status, a.Body)
				})
			}
			calls.Wait()
			a := first.Send(first.Request("GET", "/admin/v1/statistics", "", "Authorization: Bearer "+
				servertest.AdminToken))
			assert.True(t, a.Status == 200, "statistics without wait: %d %s, want 200", a.Status, a.Body)
			first.Admin("DELETE", "/scan-nodes/dead", "")
			first.wantScans("after the killed node was deleted", total+50)
			assert.Contains(t, first.Admin("GET", "/changes?newest=true&limit=1", "").Body, "delete_node", "the last change")
		})
	}
}
