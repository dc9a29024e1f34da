package chaos_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	api "github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// TestGS1Links_KillDuringImport kills a node while clients write GS1 links to it, one by one and by imports, and to another node. The store
// and every node must have each acknowledged link; the interrupted call of each writer takes effect completely or not at all.
func TestGS1Links_KillDuringImport(t *testing.T) {
	seed := testdiag.Seed(t)
	runOnEachBackend(t, func(t *testing.T, database string) {
		nodes := 1
		if database != "" {
			nodes = 2
		}
		c := newCluster(t, database, fmt.Sprintf(`
accounts: [{appid: shop, kind: mini_program, secret: %q, versions: [release]}]
settings: {rule_rate_limit: null, gs1_hosts: [id.example]}
`, secretOf("shop")), nodes)
		c.start()
		c.waitUntilReady()
		var writers []*linkWriter
		for n := range 2 * nodes {
			writers = append(writers, &linkWriter{t: t, node: c.nodes[n%nodes], n: n, chance: rand.New(rand.NewPCG(seed, uint64(n))),
				acknowledged: map[string]string{}})
		}
		chance := rand.New(rand.NewPCG(seed, 99))
		for round := range choose(8, 1) {
			var left atomic.Int64 // acknowledgements of the first node until the kill
			left.Store(int64(10 + chance.IntN(30)))
			var killed atomic.Bool
			victim := c.nodes[0].running.Load()
			var clients sync.WaitGroup
			for _, w := range writers {
				clients.Go(func() {
					w.write(&killed, func() {
						if w.node == c.nodes[0] && left.Add(-1) == 0 {
							killed.Store(true)
							victim.kill()
						}
					})
				})
			}
			clients.Wait()
			c.nodes[0].kill()
			if database != "" { // afterwards, a COMMIT in progress has happened or never will
				dbtest.Exec(t, database, `SELECT pg_terminate_backend(pid, 3600000) FROM pg_stat_activity
					WHERE datname = current_database() AND application_name = 'node0'`)
			}
			if t.Failed() {
				return
			}
			for _, n := range c.nodes[1:] { // still running
				for _, w := range writers {
					w.check(n)
				}
			}
			c.nodes[0].start()
			c.waitUntilReady()
			for _, w := range writers {
				for _, n := range c.nodes {
					w.check(n)
				}
			}
			require.True(t, !t.Failed(), "round %d failed", round)
		}
		c.stop()
	})
}

// linkWriter writes links of GTINs that no other writer uses.
type linkWriter struct {
	t            *testing.T
	node         *node
	n, count     int
	chance       *rand.Rand
	acknowledged map[string]string // address by key
	pending      map[string]string // acknowledged with the effect of the interrupted call; nil = none
}

func (w *linkWriter) keys() (list []string) {
	for i := range 4 {
		digits := fmt.Sprintf("0950600%02d%04d", w.n, i)
		sum := 0
		for i, d := range digits {
			sum += int(d-'0') * (3 - 2*(i%2))
		}
		gtin := fmt.Sprintf("01/%s%d", digits, (10-sum%10)%10)
		list = append(list, gtin, gtin+"/10/LOT")
	}
	return list
}

// write writes until the node is killed, and calls onAcknowledged after each acknowledgement.
func (w *linkWriter) write(killed *atomic.Bool, onAcknowledged func()) {
	qrjump, err := api.New(w.node.serverURL(), api.Options{AdminToken: adminToken})
	keys := w.keys()
	for err == nil && !killed.Load() {
		w.count++
		address := fmt.Sprintf("https://shop.example/%d/%d", w.n, w.count)
		links := []api.GS1Link{{LinkType: "gs1:pip", Href: address, Title: "x", Default: true}}
		key := keys[w.chance.IntN(len(keys))]
		w.pending = maps.Clone(w.acknowledged)
		switch act := w.chance.IntN(10); {
		case act == 0 && w.n == 0: // one import at a time
			var lines strings.Builder
			for _, key := range keys {
				line, _ := json.Marshal(map[string]any{"key": key, "owner": "shop", "links": links})
				lines.Write(append(line, '\n'))
				w.pending[key] = address
			}
			_, err = qrjump.GS1.Import(w.t.Context(), strings.NewReader(lines.String()), false)
		case act < 3 && w.acknowledged[key] != "":
			delete(w.pending, key)
			_, err = qrjump.GS1.Delete(w.t.Context(), key)
		default:
			w.pending[key] = address
			_, err = qrjump.GS1.Set(w.t.Context(), key, api.GS1Put{Owner: "shop", Links: links})
		}
		if err == nil {
			w.acknowledged, w.pending = w.pending, nil
			onAcknowledged()
		}
	}
	if refused := new(api.Problem); errors.As(err, &refused) || err != nil && !killed.Load() {
		w.t.Errorf("writer %d: %v before the kill", w.n, err)
	}
}

// check compares the links of a node with the acknowledged ones. The replica of another node may lag.
func (w *linkWriter) check(n *node) {
	qrjump, err := api.New(n.serverURL(), api.Options{AdminToken: adminToken})
	if err != nil {
		w.t.Error(err)
		return
	}
	stored := map[string]string{}
	for _, key := range w.keys() {
		e, err := qrjump.GS1.Get(w.t.Context(), key)
		if refused := new(api.Problem); errors.As(err, &refused) && refused.Status == http.StatusNotFound {
			continue
		}
		if err != nil || e.Owner != "shop" || len(e.Links) != 1 {
			w.t.Errorf("GS1.Get(%s) = %+v, %v, want a link of shop", key, e, err)
			return
		}
		stored[key] = e.Links[0].Href
	}
	if !maps.Equal(stored, w.acknowledged) && (w.pending == nil || !maps.Equal(stored, w.pending)) {
		w.t.Errorf("node %d, writer %d has\n%v\nwant the acknowledged links\n%v\nor, with the interrupted call,\n%v", n.number, w.n,
			stored, w.acknowledged, w.pending)
		return
	}
	w.acknowledged, w.pending = stored, nil
	for _, key := range w.keys() {
		gtin, _, _ := strings.Cut(key, "/10/")
		want := stored[key]
		if want == "" {
			want = stored[gtin]
		}
		waitFor(w.t, fmt.Sprintf("node %d to redirect %s to %q", n.number, key, want), func() bool {
			r, err := http.NewRequestWithContext(w.t.Context(), http.MethodHead, n.serverURL()+"/"+key, nil)
			require.NoError(w.t, err)
			r.Host = "id.example"
			resp, err := http.DefaultTransport.RoundTrip(r)
			require.NoError(w.t, err)
			resp.Body.Close()
			return resp.Header.Get("Location") == want && (want != "" || resp.StatusCode == http.StatusNotFound)
		})
	}
}
