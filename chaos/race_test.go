package chaos_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestPublishQuota_RaceAcrossNodes has 256 clients on three nodes publish concurrently: in every round exactly 100 may succeed.
//
//	RACE_ROUNDS=1000 go test -run 'TestPublishQuota_RaceAcrossNodes$' -timeout 60m ./chaos
func TestPublishQuota_RaceAcrossNodes(t *testing.T) {
	const publishers, granted = 256, 100
	more, rounds := moreRounds(t, "RACE_ROUNDS", choose(5, 2), 7), 0
	c := newCluster(t, newDatabase(t), fmt.Sprintf(`
accounts: [{appid: shop, kind: mini_program, secret: %q, versions: [release]}]
settings: {rule_rate_limit: null, verification: trust, rule_limit: %d, publish_quota: %d}
`, secretOf("shop"), publishers, granted), 3)
	c.emulator = true
	c.nodes[0].start()
	c.nodes[0].admin().freezeNextMonth(0) // the other nodes start with this clock
	for _, n := range c.nodes[1:] {
		n.start()
	}
	defer c.stop()
	var clients []mustConnection
	for n := range publishers {
		clients = append(clients, c.nodes[n%3].connect(""))
	}
	token := clients[0].stableToken("shop")
	prefix := func(n int) string { return fmt.Sprintf("https://shop.example/%d/", n) }
	for n := range publishers {
		clients[n].ok("qrcodejumpadd", token, add(prefix(n), "pages/a"))
	}
	began := time.Now()
	for round := 0; more(round); round++ {
		rounds++
		replies := make([]reply, publishers)
		for _, err := range dbtest.Race(publishers, func(n int) (err error) {
			// -1 is a timeout on a busy disk; a repeated call is safe whether or not the rule was published.
			for replies[n].ErrCode = -1; err == nil && replies[n].ErrCode == -1; {
				replies[n], err = clients[n].wire("qrcodejumppublish", token, prefixOnly(prefix(n)))
			}
			return err
		}) {
			require.NoErrorf(t, err, "round %d", round)
		}
		published, refused := 0, 0
		for _, r := range replies {
			switch r.ErrCode {
			case 0:
				published++
			case 886000:
				refused++
			default:
				t.Fatalf("round %d: qrcodejumppublish = %d %s, want 0 or 886000", round, r.ErrCode, r.ErrMsg)
			}
		}
		require.True(t, published == granted && refused == publishers-granted,
			"round %d: %d published, %d refused, want %d and %d", round, published, refused, granted, publishers-granted)
		for _, client := range clients[:3] { // a client of each node
			require.Equal(t, client.ok("qrcodejumpget", token,
				map[string]any{"get_type": 2, "page_num": 1, "page_size": 1}).QRCodeJumpPubQuota, 0, "publishes left in round %d", round)
		}
		// Begins the next month without 100 deletes and adds.
		dbtest.Exec(t, c.database, `DELETE FROM publishes`)
		dbtest.Exec(t, c.database, `DELETE FROM publish_counts`) // the product keeps both until the end of the month
		dbtest.Exec(t, c.database, `UPDATE rules SET published = 0, published_at = 0`)
	}
	t.Logf("%d rounds in %v: %d publishers on three nodes, exactly %d published in each", rounds, time.Since(began).Round(time.Second),
		publishers, granted)
}

// TestPrefix_RaceAcrossNodes has two owners on two nodes race for one prefix, for a prefix and one below it that the first owner occupies,
// and for one below an occupied prefix. Exactly one owner wins; parent and child both win only if the child was added first.
//
//	PREFIX_ROUNDS=10000 go test -run 'TestPrefix_RaceAcrossNodes$' -timeout 60m ./chaos
func TestPrefix_RaceAcrossNodes(t *testing.T) {
	more, rounds := moreRounds(t, "PREFIX_ROUNDS", choose(50, 12), 5), 0
	c := newCluster(t, newDatabase(t), strings.ReplaceAll(visibleSeed, "rule_rate_limit", "token_daily_limit: 1000000, rule_rate_limit"), 3)
	c.start()
	defer c.stop()
	left, right := newRacer(t, c.nodes[0].serverURL(), "left"), newRacer(t, c.nodes[1].serverURL(), "right")
	adds := func(r *racer, prefix string, permitSubRule int, won *bool) func() error {
		return func() error {
			body := add(prefix, "pages/a")
			body["permit_sub_rule"] = permitSubRule
			got, err := r.wire("qrcodejumpadd", r.token, body)
			if err == nil && got.ErrCode != 0 && got.ErrCode != 85072 {
				err = fmt.Errorf("qrcodejumpadd(%s) = %d, want 0 or 85072", prefix, got.ErrCode)
			}
			*won = got.ErrCode == 0
			return err
		}
	}
	const shared, occupying = 1, 2
	var l, r bool // whether left and right have won
	drop := func(r *racer, prefix string) { r.ok("qrcodejumpdelete", r.token, prefixOnly(prefix)) }
	began := time.Now()
	wins, below := map[bool]int{}, 0
	for round := 0; more(round); round++ {
		rounds++
		base := fmt.Sprintf("https://race%d.example/", round%100)
		same, parent, child, inside := base+"same/", base+"x/", base+"x/y/", base+"x/z/"

		race(t, adds(left, same, shared, &l), adds(right, same, shared, &r))
		require.True(t, l != r, "round %d for one prefix: left %v, right %v, want one winner", round, l, r)
		wins[l]++
		if l {
			drop(left, same)
		} else {
			drop(right, same)
		}

		race(t, adds(left, parent, occupying, &l), adds(right, child, shared, &r))
		require.True(t, l, "round %d: a rule below prevented the parent", round)
		if r {
			below++
			order := dbtest.QueryInt(t, c.database, fmt.Sprintf(
				`SELECT p.id - c.id FROM rules p, rules c WHERE p.prefix = '%s' AND c.prefix = '%s'`, parent, child))
			require.True(t, order >= 0, "round %d: a rule was added below an occupied prefix", round)
			drop(right, child)
		}

		race(t, adds(left, inside, shared, &l), adds(right, inside, shared, &r))
		require.True(t, l && !r, "round %d below an occupied prefix: owner %v, other %v, want the owner alone", round, l, r)
		drop(left, inside)
		drop(left, parent)
	}
	t.Logf("%d rounds in %v: left won %d, right %d; the child was first %d times", rounds, time.Since(began).Round(time.Second),
		wins[true], wins[false], below)
}
