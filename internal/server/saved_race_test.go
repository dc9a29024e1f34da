package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// TestSnapshotLoad_UnderTraffic loads a snapshot while every node receives scans. The statistics must equal the scan log afterwards.
func TestSnapshotLoad_UnderTraffic(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		p, o := newInstance(t), servertest.Options{Seed: everythingSeed, Config: func(c *server.Config) { c.Emulator = true }}
		nodes := []*servertest.Server{p.start(t, o)}
		if p.database != "" {
			nodes = append(nodes, p.addNode(t).start(t, o))
		}
		key := nodes[0].NewKey("/scan-keys", `{"name":"app"}`)
		for _, s := range nodes {
			s.RegisterSecret(key)
		}
		scan := func(s *servertest.Server, n int) int {
			a, err := s.TrySend(s.Request("POST", "/scan/v1/resolve",
				fmt.Sprintf(`{"text":"https://shop.example/seeded/%d","user":"u%d"}`, n, n), "Authorization: Bearer "+key))
			assert.True(t, err == nil, "%v", err)
			return a.Status
		}
		for _, s := range nodes {
			eventually(t, "the scan key", func() bool { return scan(s, 0) == http.StatusOK })
		}
		nodes[0].Admin("PUT", "/emulator/snapshots/base", "")
		stop := make(chan struct{})
		var traffic sync.WaitGroup
		for _, s := range nodes {
			for range 2 {
				traffic.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						default:
							scan(s, n)
						}
					}
				})
			}
		}
		for range 6 {
			for _, s := range nodes { // so that both nodes have aggregates in memory
				s.Admin("POST", "/statistics/recount", "{}")
			}
			nodes[0].Admin("POST", "/emulator/snapshots/base/load", "")
		}
		close(stop)
		traffic.Wait()
		p.execSQL(t, `UPDATE snapshots SET data = SUBSTR(data, 1, LENGTH(data) / 2)`)
		a := nodes[0].Do("POST", "/admin/v1/emulator/snapshots/base/load", "", adminAuth)
		assert.True(t, a.Status == http.StatusConflict && strings.Contains(a.Body, "the snapshot is corrupted"),
			"load of a corrupted snapshot: %d %s, want 409", a.Status, a.Body)
		for _, s := range nodes {
			a := s.Admin("POST", "/statistics/recount", "{}")
			var recount struct {
				Scans, Duplicates int64
				Differences       int64 `json:"difference_count"`
			}
			a.JSON(t, &recount)
			assert.True(t, recount.Differences == 0 && recount.Duplicates == 0, "recount = %s, want no difference", a.Body)
		}
	})
}
