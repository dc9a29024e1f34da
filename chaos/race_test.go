package chaos_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestPublishQuota_RaceAcrossNodes: 256 publishers on three nodes race for the publishes of a
// month. Exactly 100 get one, in every round.
//
//	RACE_ROUNDS=1000 go test -run 'TestPublishQuota_RaceAcrossNodes$' -timeout 60m ./chaos
func TestPublishQuota_RaceAcrossNodes(t *testing.T) {
	const publishers, granted = 256, 100
	more, rounds := another(t, "RACE_ROUNDS", amount(5, 2), 7), 0
	c := newCluster(t, ownDatabase(t), fmt.Sprintf(`
accounts: [{appid: shop, kind: mini_program, secret: %q, versions: [release]}]
settings: {rule_rate_limit: null, verification: trust, rule_limit: %d, publish_quota: %d}
`, secretOf("shop"), publishers, granted), 3)
	// In the middle of a month, and standing still: the end of the real month
	// must not come in between. The others begin with the clock of the first.
	c.emulator = true
	c.nodes[0].start()
	now := c.nodes[0].admin().now()
	c.nodes[0].admin().setClock(time.Date(now.Year(), now.Month()+1, 15, 0, 0, 0, 0, time.UTC), true)
	for _, n := range c.nodes[1:] {
		n.start()
	}
	defer c.stop()
	var clients []must
	for n := range publishers {
		clients = append(clients, must{connect(t, c.nodes[n%3].running.Load().URL, ""), t})
	}
	token := clients[0].stableToken("shop")
	prefix := func(n int) string { return fmt.Sprintf("https://shop.example/%d/", n) }
	for n := range publishers {
		clients[n].ok("qrcodejumpadd", token, add(prefix(n), "pages/a"))
	}
	began := time.Now()
	for round := 0; more(round); round++ {
		rounds++
		answers, errs := make([]reply, publishers), make([]error, publishers)
		var all sync.WaitGroup
		gate := make(chan struct{})
		for n, one := range clients {
			all.Go(func() {
				<-gate
				// -1: on a busy disk the turn did not come in the time that a call
				// has. Whether it was published or not, it can be asked for again.
				for answers[n].ErrCode = -1; errs[n] == nil && answers[n].ErrCode == -1; {
					answers[n], errs[n] = one.wire("qrcodejumppublish", token, prefixOnly(prefix(n)))
				}
			})
		}
		close(gate)
		all.Wait()
		won, lost := 0, 0
		for n := range answers {
			switch {
			case errs[n] != nil:
				t.Fatalf("round %d: %v", round, errs[n])
			case answers[n].ErrCode == 0:
				won++
			case answers[n].ErrCode == 886000:
				lost++
			default:
				t.Fatalf("round %d: %d %s", round, answers[n].ErrCode, answers[n].ErrMsg)
			}
		}
		require.True(t, won == granted && lost == publishers-granted,
			"round %d: %d published, %d refused: want %d and %d", round, won, lost, granted, publishers-granted)
		for _, one := range clients[:3] { // one on each node
			require.Equal(t, one.ok("qrcodejumpget", token,
				map[string]any{"get_type": 2, "page_num": 1, "page_size": 1}).QRCodeJumpPubQuota, 0, "round %d", round)
		}
		// The next month, without the 100 deletes and adds.
		dbtest.Exec(t, c.database, `DELETE FROM publishes`)
		dbtest.Exec(t, c.database, `DELETE FROM publish_counts`) // the product removes neither before its month is over
		dbtest.Exec(t, c.database, `UPDATE rules SET published = 0, published_at = 0`)
	}
	t.Logf("%d rounds in %v: %d publishers on three nodes, exactly %d published in each", rounds, time.Since(began).Round(time.Second),
		publishers, granted)
}

// TestPrefix_RaceAcrossNodes: two owners on two nodes race for one prefix, for a prefix
// and one below it that the first occupies, and for one below what is occupied
// already. Exactly one wins; of parent and child both only when the child was
// there first.
//
//	PREFIX_ROUNDS=10000 go test -run 'TestPrefix_RaceAcrossNodes$' -timeout 60m ./chaos
func TestPrefix_RaceAcrossNodes(t *testing.T) {
	more, rounds := another(t, "PREFIX_ROUNDS", amount(50, 12), 5), 0
	c := newCluster(t, ownDatabase(t), strings.ReplaceAll(visibleSeed, "rule_rate_limit", "token_daily_limit: 1000000, rule_rate_limit"), 3)
	c.start()
	defer c.stop()
	type owner struct {
		must
		token string
	}
	var left, right owner
	for side, name := range map[*owner]string{&left: "left", &right: "right"} {
		node := c.nodes[0]
		if side == &right {
			node = c.nodes[1]
		}
		side.must = must{connect(t, node.running.Load().URL, ""), t}
		side.token = side.must.token(name)
	}
	adds := func(o owner, prefix string, occupy bool) func() (int, error) {
		body := add(prefix, "pages/a")
		if occupy {
			body["permit_sub_rule"] = 2
		}
		return func() (int, error) {
			r, err := o.wire("qrcodejumpadd", o.token, body)
			return r.ErrCode, err
		}
	}
	// at once returns who got what it wanted.
	atOnce := func(l, r func() (int, error)) (leftWon, rightWon bool) {
		won := [2]bool{}
		settle := func(n int, f func() (int, error)) func() error {
			return func() error {
				code, err := f()
				if err == nil && code != 0 && code != 85072 {
					err = fmt.Errorf("it was answered %d", code)
				}
				won[n] = code == 0
				return err
			}
		}
		race(t, settle(0, l), settle(1, r))
		return won[0], won[1]
	}
	drop := func(o owner, prefix string) { o.ok("qrcodejumpdelete", o.token, prefixOnly(prefix)) }
	began := time.Now()
	wins, below := map[bool]int{}, 0
	for round := 0; more(round); round++ {
		rounds++
		base := fmt.Sprintf("https://race%d.example/", round%100)
		same, parent, child, inside := base+"same/", base+"x/", base+"x/y/", base+"x/z/"

		l, r := atOnce(adds(left, same, false), adds(right, same, false))
		require.True(t, l != r, "round %d for one prefix: left %v, right %v", round, l, r)
		wins[l]++
		if l {
			drop(left, same)
		} else {
			drop(right, same)
		}

		l, r = atOnce(adds(left, parent, true), adds(right, child, false))
		require.True(t, l, "round %d: what lies below was in the way of its parent", round)
		if r {
			below++
			order := dbtest.Number(t, c.database, fmt.Sprintf(
				`SELECT p.id - c.id FROM rules p, rules c WHERE p.prefix = '%s' AND c.prefix = '%s'`, parent, child))
			require.True(t, order >= 0, "round %d: a rule was added below one that was occupied before", round)
			drop(right, child)
		}

		if l, r = atOnce(adds(left, inside, false), adds(right, inside, false)); !l || r {
			t.Fatalf("round %d below an occupied prefix: its owner %v, the other %v", round, l, r)
		}
		drop(left, inside)
		drop(left, parent)
	}
	t.Logf("%d rounds in %v: left won %d, right %d; below before it was occupied %d times", rounds, time.Since(began).Round(time.Second),
		wins[true], wins[false], below)
}
