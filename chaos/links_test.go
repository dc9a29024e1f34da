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

// TestGS1Links_KillDuringImport kills a node while links of GS1 keys are written to it, one by one and by imports, and to another
// node beside
// it. Each acknowledged link is there afterwards, in the store and in what every node resolves; of the one call of each writer that
// was under way all is there or nothing.
func TestGS1Links_KillDuringImport(t *testing.T) {
	seed := testdiag.Seed(t)
	eachBackend(t, func(t *testing.T, database string) {
		nodes := 1
		if database != "" {
			nodes = 2
		}
		c := newCluster(t, database, fmt.Sprintf(`
accounts: [{appid: shop, kind: mini_program, secret: %q, versions: [release]}]
settings: {rule_rate_limit: null, gs1_hosts: [id.example]}
`, secretOf("shop")), nodes)
		c.start()
		c.allReady()
		var writers []*linkWriter
		for n := range 2 * nodes {
			writers = append(writers, &linkWriter{t: t, node: c.nodes[n%nodes], n: n, chance: rand.New(rand.NewPCG(seed, uint64(n))),
				said: map[string]string{}})
		}
		chance := rand.New(rand.NewPCG(seed, 99))
		for round := range amount(8, 1) {
			var left atomic.Int64 // acknowledgements of the first node until it is killed
			left.Store(int64(10 + chance.IntN(30)))
			var dead atomic.Bool
			victim := c.nodes[0].running.Load()
			var all sync.WaitGroup
			for _, w := range writers {
				all.Go(func() {
					w.write(&dead, func() {
						if w.node == c.nodes[0] && left.Add(-1) == 0 {
							dead.Store(true)
							victim.kill()
						}
					})
				})
			}
			all.Wait()
			c.nodes[0].kill()
			if database != "" { // a COMMIT that was under way ends before or never
				dbtest.Exec(t, database, `SELECT pg_terminate_backend(pid, 3600000) FROM pg_stat_activity
					WHERE datname = current_database() AND application_name = 'node0'`)
			}
			if t.Failed() {
				return
			}
			for _, n := range c.nodes[1:] { // it goes on without the other one
				for _, w := range writers {
					w.compare(n)
				}
			}
			c.nodes[0].start()
			c.allReady()
			for _, w := range writers {
				for _, n := range c.nodes {
					w.compare(n)
				}
			}
			require.True(t, !t.Failed(), "in round %d", round)
		}
		c.stop()
	})
}

// linkWriter says things of GTINs of its own.
type linkWriter struct {
	t       *testing.T
	node    *node
	n, made int
	chance  *rand.Rand
	said    map[string]string // address by key, as acknowledged
	under   map[string]string // the same with the call that was under way; nil = none was
}

func (w *linkWriter) keys() (list []string) {
	for i := range 4 {
		digits := fmt.Sprintf("0950600%02d%04d", w.n, i)
		sum := 0
		for at, d := range digits {
			sum += int(d-'0') * (3 - 2*(at%2))
		}
		gtin := fmt.Sprintf("01/%s%d", digits, (10-sum%10)%10)
		list = append(list, gtin, gtin+"/10/LOT")
	}
	return list
}

// write writes until the node is dead, and tells of each acknowledgement.
func (w *linkWriter) write(dead *atomic.Bool, acknowledged func()) {
	qrjump, err := api.New(w.node.running.Load().URL, api.Options{AdminToken: adminToken})
	keys := w.keys()
	for err == nil && !dead.Load() {
		w.made++
		address := fmt.Sprintf("https://shop.example/%d/%d", w.n, w.made)
		links := []api.GS1Link{{LinkType: "gs1:pip", Href: address, Title: "x", Default: true}}
		key := keys[w.chance.IntN(len(keys))]
		w.under = maps.Clone(w.said)
		switch act := w.chance.IntN(10); {
		case act == 0 && w.n == 0: // one import at a time
			var lines strings.Builder
			for _, key := range keys {
				line, _ := json.Marshal(map[string]any{"key": key, "owner": "shop", "links": links})
				lines.Write(append(line, '\n'))
				w.under[key] = address
			}
			_, err = qrjump.GS1.Import(w.t.Context(), strings.NewReader(lines.String()), false)
		case act < 3 && w.said[key] != "":
			delete(w.under, key)
			_, err = qrjump.GS1.Delete(w.t.Context(), key)
		default:
			w.under[key] = address
			_, err = qrjump.GS1.Set(w.t.Context(), key, api.GS1Put{Owner: "shop", Links: links})
		}
		if err == nil {
			w.said, w.under = w.under, nil
			acknowledged()
		}
	}
	if refused := new(api.Problem); errors.As(err, &refused) || err != nil && !dead.Load() {
		w.t.Errorf("writer %d: %v", w.n, err)
	}
}

// compare compares what a node has with what was acknowledged. A node that follows another one may need a moment.
func (w *linkWriter) compare(n *node) {
	qrjump, err := api.New(n.running.Load().URL, api.Options{AdminToken: adminToken})
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
			w.t.Errorf("%s: %+v, %v", key, e, err)
			return
		}
		stored[key] = e.Links[0].Href
	}
	if !maps.Equal(stored, w.said) && (w.under == nil || !maps.Equal(stored, w.under)) {
		w.t.Errorf("node %d, writer %d: acknowledged was\n%v\nwith the call under way\n%v\nstored is\n%v", n.number, w.n, w.said, w.under, stored)
		return
	}
	w.said, w.under = stored, nil
	for _, key := range w.keys() {
		gtin, _, _ := strings.Cut(key, "/10/")
		want := stored[key]
		if want == "" {
			want = stored[gtin]
		}
		until(w.t, fmt.Sprintf("node %d to lead %s to %q", n.number, key, want), func() bool {
			status, location := resolved(w.t, n, key)
			return location == want && (want != "" || status == http.StatusNotFound)
		})
	}
}

// resolved is how a node answers a browser.
func resolved(t *testing.T, n *node, key string) (status int, location string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodHead, n.running.Load().URL+"/"+key, nil)
	require.NoError(t, err)
	q.Host = "id.example"
	a, err := http.DefaultTransport.RoundTrip(q)
	require.NoError(t, err)
	a.Body.Close()
	return a.StatusCode, a.Header.Get("Location")
}
