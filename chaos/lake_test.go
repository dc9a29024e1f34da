package chaos_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	apiclient "github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// TestLake_ExactlyOnceAfterKill kills servers with a lake repeatedly while clients scan: a server on SQLite, then two servers that share
// PostgreSQL and a lake. The files must have every acknowledged scan once, and the server must find no difference from its scan log.
func TestLake_ExactlyOnceAfterKill(t *testing.T) {
	seed := testdiag.Seed(t)
	runOnEachBackend(t, func(t *testing.T, database string) {
		rnd := rand.New(rand.NewPCG(seed, 56))
		dir, nodes := t.TempDir(), make([]childConfig, 1)
		if database != "" {
			nodes = make([]childConfig, 2)
		}
		servers := make([]*process, len(nodes))
		for n := range nodes {
			c := &nodes[n]
			c.Data, c.Lake, c.Database = filepath.Join(dir, fmt.Sprint("node", n), "data"), filepath.Join(dir, "lake"), database
			c.Listen, c.LogFormat, c.Dev, c.LakeEvery = loopbackAddress, "text", true, 10*time.Millisecond
			c.MasterKey = strings.Repeat("56", 32)
			require.NoError(t, os.Mkdir(filepath.Dir(c.Data), 0o700))
			servers[n] = start(t, *c)
		}
		var mu sync.Mutex
		acknowledged := map[string]bool{}
		for range choose(20, 2) {
			victim, after := rnd.IntN(len(servers)), 50+rnd.IntN(200)
			var clients sync.WaitGroup
			kill, stop := make(chan struct{}), make(chan struct{})
			for n := range 4 {
				conn := connect(t, servers[(victim+n)%len(servers)].URL, "")
				clients.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						d, err := conn.scanAs("https://nowhere.example/", fmt.Sprint("user ", n))
						if err != nil {
							return // the server was killed
						}
						mu.Lock()
						acknowledged[d.ScanID] = true
						mu.Unlock()
						if n == 0 && i == after {
							close(kill)
						}
					}
				})
			}
			select {
			case <-kill:
			case <-time.After(5 * time.Minute): // longer than a busy machine needs
				t.Errorf("the clients have not made %d scans after five minutes", after)
			}
			servers[victim].kill()
			close(stop)
			clients.Wait()
			servers[victim].wait()
			servers[victim] = start(t, nodes[victim])
		}
		admin := mustConnect(t, servers[0].URL, "")
		erased := mustSend(t, http.MethodDelete, admin.base+"/admin/v1/users/user%201/scans", "", "", "")
		require.True(t, erased.status < 300, "DELETE scans of a user = %d %s, want 2xx", erased.status, erased.body)
		for i := 0; ; i++ {
			var v apiclient.LakeVerification
			admin.get("/admin/v1/lake/verification", &v)
			total, wrong := int64(0), int64(0)
			for _, d := range v.Days {
				total += d.ScanLog
				wrong += d.Missing + d.Pending + d.Duplicates + d.Unexpected + d.NotErased
			}
			if wrong == 0 && total >= int64(len(acknowledged)) {
				break
			}
			if i == 15_000 { // at least five minutes: a part is written every 15 s, later on a busy machine
				t.Fatalf("%d scans were acknowledged, and the lake differs: %+v", len(acknowledged), v.Days)
			}
			time.Sleep(20 * time.Millisecond)
		}
		last, err := admin.scanAs("https://nowhere.example/", "last")
		require.NoError(t, err)
		acknowledged[last.ScanID] = true
		for _, server := range servers {
			server.stop() // writes the remaining scans
		}
		counts := map[string]int{}
		withUser := 0
		err = filepath.WalkDir(filepath.Join(dir, "lake", "scans"), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			rows, err := parquet.ReadFile[struct {
				ScanID   string `parquet:"scan_id"`
				UserHash string `parquet:"user_hash,optional"`
			}](path)
			for _, r := range rows {
				if counts[r.ScanID]++; r.UserHash != "" {
					withUser++
				}
			}
			return err
		})
		require.NoError(t, err)
		for id := range acknowledged {
			assert.Equal(t, counts[id], 1, "the number of rows of the acknowledged scan %s", id)
		}
		for id, n := range counts {
			assert.Equal(t, n, 1, "the number of rows of the scan %s", id)
		}
		assert.True(t, withUser != 0, "no row of the lake has a user_hash")
	})
}
