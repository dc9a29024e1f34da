package chaos_test

import (
	"fmt"
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
