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

// TestSnapshotLoad_UnderTraffic loads a snapshot while every node takes scans. What is counted then is what the scan log has.
func TestSnapshotLoad_UnderTraffic(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		p, o := where(t), servertest.Options{Seed: everything, Config: func(c *server.Config) { c.Emulator = true }}
		nodes := []*servertest.Server{p.start(t, o)}
		if p.database != "" {
			nodes = append(nodes, p.secondOf(t).start(t, o))
		}
		key := nodes[0].NewKey("/scan-keys", `{"name":"app"}`)
		for _, s := range nodes {
			s.Hide(key)
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
			for _, s := range nodes { // both have counted something, and add up more
				s.Admin("POST", "/statistics/recount", "{}")
			}
			nodes[0].Admin("POST", "/emulator/snapshots/base/load", "")
		}
		close(stop)
		traffic.Wait()
		p.tamper(t, `UPDATE snapshots SET data = SUBSTR(data, 1, LENGTH(data) / 2)`)
		a := nodes[0].Do("POST", "/admin/v1/emulator/snapshots/base/load", "", asAdmin)
		assert.True(t, a.Status == http.StatusConflict && strings.Contains(a.Body, "the snapshot is corrupted"),
			"load of a damaged snapshot: %d %s, want 409", a.Status, a.Body)
		for _, s := range nodes {
			a := s.Admin("POST", "/statistics/recount", "{}")
			var found struct {
				Scans, Duplicates int64
				Differences       int64 `json:"difference_count"`
			}
			a.JSON(t, &found)
			assert.True(t, found.Differences == 0 && found.Duplicates == 0, "recount = %s, want no difference", a.Body)
		}
	})
}
