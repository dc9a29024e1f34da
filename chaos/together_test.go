package chaos_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
)

// TestChanges_ConcurrentOwnersOnTwoNodes has many owners add and publish rules through two nodes, with a small quota, while pairs of owners
// compete for prefixes of one host and a node is killed. Every acknowledged change must survive, quotas must be exact, no rule may be below
// a prefix that another owner occupied earlier, and the audit log must be one valid chain.
func TestChanges_ConcurrentOwnersOnTwoNodes(t *testing.T) {
	const owners, adds, quota, shared = 10, 12, 8, 12
	database := newDatabase(t) // several nodes share PostgreSQL only
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
	c.nodes[1].kill() // so that both nodes read the tokens from the database
	c.nodes[1].start()

	var mu sync.Mutex
	added, published := map[string]int{}, map[string]int{} // owner of each acknowledged prefix
	unknown := map[int]int{}                               // publishes of an owner without a response
	var acknowledged atomic.Int64
	halfway := make(chan struct{})
	// call calls a node, or the other one while it is down. It returns false if the call failed or its outcome is unknown.
	call := func(client, owner int, name string, body any, lost func()) bool {
		for try := 0; ; try++ {
			p := c.nodes[(client+try)%2].running.Load()
			if p == nil {
				continue
			}
			r, err := connect(t, p.URL, "").wire(name, tokens[owner], body)
			if err != nil { // the node was killed, possibly after the change
				lost()
				return false
			}
			if r.ErrCode == 0 && acknowledged.Add(1) == owners*adds {
				close(halfway)
			}
			switch r.ErrCode {
			case 0, 85071, 85072, 886000, 40097:
			default:
				t.Errorf("%s(%v) = %d %s, want a documented errcode", name, body, r.ErrCode, r.ErrMsg)
			}
			return r.ErrCode == 0
		}
	}
	noAction := func() {}
	var clients sync.WaitGroup
	for i := range owners {
		for client := range 2 { // each owner uses both nodes
			clients.Go(func() {
				for n := client; n < 2*adds; n += 2 {
					prefix := fmt.Sprintf("https://owner%d.example/%d/", i, n)
					if !call(client, i, "qrcodejumpadd", add(prefix, "pages/a"), noAction) {
						continue
					}
					mu.Lock()
					added[prefix] = i
					mu.Unlock()
					if call(client, i, "qrcodejumppublish", prefixOnly(prefix), func() { mu.Lock(); unknown[i]++; mu.Unlock() }) {
						mu.Lock()
						published[prefix] = i
						mu.Unlock()
					}
				}
			})
		}
		clients.Go(func() {
			for n := range shared {
				below := add(fmt.Sprintf("https://shared.example/%d/", n), "pages/s")
				if i%2 == 1 {
					below["prefix"] = fmt.Sprintf("https://shared.example/%d/below/%d/", n, i)
				}
				below["permit_sub_rule"] = 2 // occupies
				if call(i, i, "qrcodejumpadd", below, noAction) {
					mu.Lock()
					added[below["prefix"].(string)] = i
					mu.Unlock()
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { clients.Wait(); close(ended) }()
	select {
	case <-halfway:
		c.nodes[1].kill()
		c.nodes[1].start()
	case <-ended:
		t.Error("all calls completed before the kill, want a kill in between")
	}
	<-ended
	c.waitUntilReady()

	stored, state := map[string]int{}, map[string]int{}
	for i := range owners {
		r := c.nodes[1].admin().ok("qrcodejumpget", tokens[i], map[string]any{"get_type": 2, "page_num": 1, "page_size": 200})
		spent := 0
		for _, rule := range r.RuleList {
			stored[rule.Prefix], state[rule.Prefix] = i, rule.State
			if rule.State == 2 {
				spent++
			}
		}
		assert.True(t, r.TotalCount == len(r.RuleList), "owner%d has %d rules, and total_count is %d", i, len(r.RuleList), r.TotalCount)
		assert.True(t, spent == quota && r.QRCodeJumpPubQuota == 0,
			"owner%d published %d times and has %d left, want %d and 0 (%d without a response)",
			i, spent, r.QRCodeJumpPubQuota, quota, unknown[i])
	}
	for prefix, owner := range added {
		assert.True(t, stored[prefix] == owner && state[prefix] != 0, "%s of owner%d was acknowledged and is missing", prefix, owner)
	}
	for prefix := range published {
		assert.True(t, state[prefix] == 2, "the publish of %s was acknowledged, and its state is %d, want 2", prefix, state[prefix])
	}
	// The ids of rules are in the order of their commits.
	assert.Equal(t, dbtest.QueryInt(t, database, `SELECT COUNT(*) FROM rules low JOIN rules up ON up.occupy = 1
		AND up.owner <> low.owner AND up.id < low.id AND starts_with(low.key, up.key)`), 0,
		"rules below a prefix that another owner had occupied")
	var checked struct {
		Changes int
		Fault   *struct{ What string }
	}
	c.nodes[0].admin().post("/admin/v1/audit/verify", map[string]any{}, &checked)
	assert.True(t, checked.Fault == nil && checked.Changes >= len(stored),
		"audit/verify = %+v, want at least %d changes without an error", checked, len(stored))
	t.Logf("%d rules, %d acknowledged, %d publishes", len(stored), len(added), len(published))
	c.stop()
}
