package chaos_test

import (
	"encoding/json"
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

// TestLake_ExactlyOnceAfterKill kills a server with a lake again and again while scans
// come: one with its own database, then two that share PostgreSQL and a lake. Every scan
// that was answered is in the files once, and the server finds no difference to its ledger.
func TestLake_ExactlyOnceAfterKill(t *testing.T) {
	seed := testdiag.Seed(t)
	eachBackend(t, func(t *testing.T, database string) {
		rnd := rand.New(rand.NewPCG(seed, 56))
		dir, nodes := t.TempDir(), make([]childConfig, 1)
		if database != "" {
			nodes = make([]childConfig, 2)
		}
		servers := make([]*process, len(nodes))
		for n := range nodes {
			c := &nodes[n]
			c.Data, c.Lake, c.Database = filepath.Join(dir, fmt.Sprint("node", n), "data"), filepath.Join(dir, "lake"), database
			c.Listen, c.LogFormat, c.Dev, c.LakeEvery = anyPort, "text", true, 10*time.Millisecond
			c.MasterKey = strings.Repeat("56", 32)
			require.NoError(t, os.Mkdir(filepath.Dir(c.Data), 0o700))
			servers[n] = start(t, *c)
		}
		var mu sync.Mutex
		answered := map[string]bool{}
		for range amount(20, 4) {
			dying, after := rnd.IntN(len(servers)), 50+rnd.IntN(200)
			var clients sync.WaitGroup
			kill, stop := make(chan struct{}), make(chan struct{})
			for n := range 4 {
				server := servers[(dying+n)%len(servers)]
				clients.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						id, err := scanOnce(server.URL, fmt.Sprint("user ", n))
						if err != nil {
							return // the server is dead
						}
						mu.Lock()
						answered[id] = true
						mu.Unlock()
						if n == 0 && i == after {
							close(kill)
						}
					}
				})
			}
			select {
			case <-kill:
			case <-time.After(5 * time.Minute): // so long that no busy machine needs it
				t.Error("the scans did not come to an end in five minutes")
			}
			servers[dying].kill()
			close(stop)
			clients.Wait()
			servers[dying].gone()
			servers[dying] = start(t, nodes[dying])
		}
		server := servers[0]
		request(t, "DELETE", server.URL+"/admin/v1/users/user%201/scans")
		for i := 0; ; i++ {
			var v apiclient.LakeVerification
			require.NoError(t, json.Unmarshal(request(t, "GET", server.URL+"/admin/v1/lake/verification"), &v))
			total, wrong := int64(0), int64(0)
			for _, d := range v.Days {
				total += d.ScanLog
				wrong += d.Missing + d.Pending + d.Duplicates + d.Unexpected + d.NotErased
			}
			if wrong == 0 && total >= int64(len(answered)) {
				break
			}
			if i == 15_000 { // five minutes at least: a part is written every 15 s, and later where others want the machine
				t.Fatalf("answered were %d scans, the lake differs: %+v", len(answered), v.Days)
			}
			time.Sleep(20 * time.Millisecond)
		}
		last, err := scanOnce(server.URL, "somebody")
		require.NoError(t, err)
		answered[last] = true
		for _, server := range servers {
			server.stop() // it writes what is left
		}
		found := map[string]int{}
		named := 0
		err = filepath.WalkDir(filepath.Join(dir, "lake", "scans"), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			rows, err := parquet.ReadFile[struct {
				ScanID   string `parquet:"scan_id"`
				UserHash string `parquet:"user_hash,optional"`
			}](path)
			for _, r := range rows {
				if found[r.ScanID]++; r.UserHash != "" {
					named++
				}
			}
			return err
		})
		require.NoError(t, err)
		for id := range answered {
			assert.True(t, found[id] == 1, "the scan %s was answered, and is in the lake %d times", id, found[id])
		}
		for id, n := range found {
			assert.True(t, n == 1, "the scan %s is in the lake %d times", id, n)
		}
		assert.True(t, named != 0, "nobody is named in the lake")
	})
}

// scanOnce makes a scan and returns its id.
func scanOnce(server, user string) (string, error) {
	resp, err := http.Post(server+"/scan/v1/resolve", "application/json",
		strings.NewReader(fmt.Sprintf(`{"text":"https://nowhere.example/","user":%q}`, user)))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var d struct {
		ID string `json:"scan_id"`
	}
	err = json.NewDecoder(resp.Body).Decode(&d)
	if err == nil && d.ID == "" {
		err = fmt.Errorf("a scan was answered with %s", resp.Status)
	}
	return d.ID, err
}

// request makes a request of the admin API.
func request(t *testing.T, method, url string) []byte {
	t.Helper()
	status, body := sends(t, http.DefaultClient, method, url, "", "", "")
	require.True(t, status < 300, "%s %s: %d %s", method, url, status, body)
	return []byte(body)
}
