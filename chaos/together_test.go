package chaos_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// TestChanges_ConcurrentOwnersOnTwoNodes hammers two nodes: many owners add and publish, one has a small quota, and pairs of owners want
// the same host. One node is killed in the middle. Everything that was acknowledged is there, quotas are exact,
// nobody has what another one occupies, and the log of changes is one chain.
func TestChanges_ConcurrentOwnersOnTwoNodes(t *testing.T) {
	const owners, each, quota, shared = 10, 12, 8, 12
	database := ownDatabase(t) // several nodes share PostgreSQL only
	var seed strings.Builder
	fmt.Fprintf(&seed, "settings: {rule_rate_limit: null, verification: trust, publish_quota: %d}\naccounts:\n", quota)
	for i := range owners {
		name := fmt.Sprint("owner", i)
		fmt.Fprintf(&seed, "  - {appid: %s, kind: mini_program, secret: %q, versions: [release]}\n", name, secretOf(name))
	}
	c := newCluster(t, database, seed.String(), 2)
	c.start()
	tokens := make([]string, owners)
	for i := range tokens {
		tokens[i] = c.nodes[0].admin().token(fmt.Sprint("owner", i))
	}
	c.nodes[1].kill() // and both have the tokens: they are in the database
	c.nodes[1].start()

	var mu sync.Mutex
	added, published := map[string]int{}, map[string]int{} // acknowledged, by prefix: the owner
	maybe := map[int]int{}                                 // publishes of an owner without an answer
	var acked atomic.Int64
	halfway := make(chan struct{})
	// call asks a node, and the other one while that is away; false = it was refused, or nobody knows.
	call := func(client, owner int, name string, body any, lost func()) bool {
		for try := 0; ; try++ {
			p := c.nodes[(client+try)%2].running.Load()
			if p == nil {
				continue
			}
			r, err := connect(t, p.URL, "").wire(name, tokens[owner], body)
			if err != nil { // the node was killed, and may have done it
				lost()
				return false
			}
			if r.ErrCode == 0 && acked.Add(1) == owners*each {
				close(halfway)
			}
			switch r.ErrCode {
			case 0, 85071, 85072, 886000, 40097:
			default:
				t.Errorf("%s %v: %d %s", name, body, r.ErrCode, r.ErrMsg)
			}
			return r.ErrCode == 0
		}
	}
	nothing := func() {}
	var all sync.WaitGroup
	for i := range owners {
		for client := range 2 { // both nodes work for each owner
			all.Go(func() {
				for n := client; n < 2*each; n += 2 {
					prefix := fmt.Sprintf("https://owner%d.example/%d/", i, n)
					if !call(client, i, "qrcodejumpadd", add(prefix, "pages/a"), nothing) {
						continue
					}
					mu.Lock()
					added[prefix] = i
					mu.Unlock()
					if call(client, i, "qrcodejumppublish", prefixOnly(prefix), func() { mu.Lock(); maybe[i]++; mu.Unlock() }) {
						mu.Lock()
						published[prefix] = i
						mu.Unlock()
					}
				}
			})
		}
		all.Go(func() {
			for n := range shared {
				below := add(fmt.Sprintf("https://shared.example/%d/", n), "pages/s")
				if i%2 == 1 {
					below["prefix"] = fmt.Sprintf("https://shared.example/%d/below/%d/", n, i)
				}
				below["permit_sub_rule"] = 2 // it occupies
				if call(i, i, "qrcodejumpadd", below, nothing) {
					mu.Lock()
					added[below["prefix"].(string)] = i
					mu.Unlock()
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	select {
	case <-halfway:
		c.nodes[1].kill()
		c.nodes[1].start()
	case <-ended:
		t.Error("everything had ended before a node was killed")
	}
	<-ended
	c.allReady()

	there, state := map[string]int{}, map[string]int{}
	for i := range owners {
		r := c.nodes[1].admin().ok("qrcodejumpget", tokens[i], map[string]any{"get_type": 2, "page_num": 1, "page_size": 200})
		spent := 0
		for _, rule := range r.RuleList {
			there[rule.Prefix], state[rule.Prefix] = i, rule.State
			if rule.State == 2 {
				spent++
			}
		}
		assert.True(t, r.TotalCount == len(r.RuleList), "owner%d has %d rules, and a count of %d", i, len(r.RuleList), r.TotalCount)
		if spent != quota || r.QRCodeJumpPubQuota != 0 {
			t.Errorf("owner%d published %d times, and has %d left of %d (%d without an answer)", i, spent, r.QRCodeJumpPubQuota, quota,
				maybe[i])
		}
	}
	for prefix, owner := range added {
		assert.True(t, there[prefix] == owner && state[prefix] != 0, "%s of owner%d was acknowledged, and is not there", prefix, owner)
	}
	for prefix := range published {
		assert.True(t, state[prefix] == 2, "the publish of %s was acknowledged, and it is in state %d", prefix, state[prefix])
	}
	// Numbers of rules are in the order of their commits.
	var wrong int
	if err := operator(t, database).QueryRow(t.Context(), `SELECT COUNT(*) FROM rules low JOIN rules up ON up.occupy = 1
			AND up.owner <> low.owner AND up.id < low.id AND starts_with(low.key, up.key)`).Scan(&wrong); err != nil || wrong > 0 {
		t.Errorf("%d rules were added below what another owner occupied already (%v)", wrong, err)
	}
	var checked struct {
		Changes int
		Fault   *struct{ What string }
	}
	c.nodes[0].admin().check(c.nodes[0].admin().do(http.MethodPost, "/admin/v1/audit/verify", map[string]any{}, &checked))
	assert.True(t, checked.Fault == nil && checked.Changes >= len(there), "the log of changes: %+v", checked)
	t.Logf("%d rules, %d acknowledged, %d publishes", len(there), len(added), len(published))
	c.stop()
}
