package chaos_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

// inProcess starts a server in this process, with the emulator.
func inProcess(t *testing.T, database, seed string) *qrjumptest.Server {
	t.Helper()
	options := []qrjumptest.Option{qrjumptest.Seed(seed)}
	if database != "" {
		options = append(options, qrjumptest.Database(database))
	}
	return qrjumptest.Start(t, options...)
}

// TestPublishQuota_ConcurrentAtMonthEnd spends a month's 100 publishes at once from many clients, and
// looks at the second in which the month ends at +08:00.
func TestPublishQuota_ConcurrentAtMonthEnd(t *testing.T) {
	eachBackend(t, func(t *testing.T, database string) {
		srv := inProcess(t, database, fmt.Sprintf(`
accounts: [{appid: shop, kind: mini_program, secret: %q, versions: [release]}]
settings: {rule_rate_limit: null, verification: trust}
`, secretOf("shop")))
		wire := must{connect(t, srv.URL, ""), t}
		// In the middle of a month, and standing still: the end of the real
		// month must not come in between.
		now := wire.now()
		wire.setClock(time.Date(now.Year(), now.Month()+1, 15, 0, 0, 0, 0, time.UTC), true)
		token := wire.token("shop")
		left := func() int { return wire.ok("qrcodejumpget", token, map[string]any{}).QRCodeJumpPubQuota }
		prefix := func(n int) string { return fmt.Sprintf("https://shop.example/%d/", n) }

		for n := range 60 {
			wire.ok("qrcodejumpadd", token, add(prefix(n), "pages/a"))
			wire.ok("qrcodejumppublish", token, prefixOnly(prefix(n)))
			wire.ok("qrcodejumpdelete", token, prefixOnly(prefix(n)))
		}
		require.True(t, left() == 40, "%d publishes left after 60: a deleted rule gives none back", left())
		for n := range 100 {
			wire.ok("qrcodejumpadd", token, add(prefix(n), "pages/b"))
		}
		published, refused := publishAtOnce(t, srv.URL, token, 32, 100, prefix)
		require.True(t, len(published) == 40 && len(refused) == 60,
			"%d published, %d refused: want 40 and 60", len(published), len(refused))
		assert.Equal(t, left(), 0, "publishes left")
		for _, p := range published {
			wire.ok("qrcodejumppublish", token, prefixOnly(p)) // again is free
		}

		beijing := time.FixedZone("", 8*3600)
		end := wire.now().In(beijing)
		end = time.Date(end.Year(), end.Month()+1, 1, 0, 0, 0, 0, beijing)
		for _, before := range []time.Duration{time.Second, time.Millisecond} {
			wire.setClock(end.Add(-before), true)
			token = wire.token("shop") // the one before has expired
			if got := wire.code("qrcodejumppublish", token, prefixOnly(refused[0])); got.ErrCode != 886000 || left() != 0 {
				t.Errorf("%v before the month ends: %d %s, %d left", before, got.ErrCode, got.ErrMsg, left())
			}
		}
		wire.setClock(end, true)
		assert.Equal(t, left(), 100, "publishes left in the first second of the month")
		for _, p := range refused {
			wire.ok("qrcodejumppublish", token, prefixOnly(p))
		}
		assert.Equal(t, left(), 40, "publishes left after 60 in the new month")
	})
}

// publishAtOnce publishes rules from many clients and says which were
// published and which were refused with 886000.
func publishAtOnce(t *testing.T, base, token string, clients, rules int, prefix func(int) string) (published, refused []string) {
	type result struct {
		prefix string
		code   int
		err    error
	}
	work, results := make(chan string, rules), make(chan result, rules)
	for n := range rules {
		work <- prefix(n)
	}
	close(work)
	var all sync.WaitGroup
	for range clients {
		c := connect(t, base, "")
		all.Go(func() {
			for p := range work {
				got, err := c.wire("qrcodejumppublish", token, prefixOnly(p))
				results <- result{p, got.ErrCode, err}
			}
		})
	}
	all.Wait()
	close(results)
	for r := range results {
		switch {
		case r.err != nil:
			t.Fatal(r.err)
		case r.code == 0:
			published = append(published, r.prefix)
		case r.code == 886000:
			refused = append(refused, r.prefix)
		default:
			t.Errorf("%s: %d", r.prefix, r.code)
		}
	}
	return published, refused
}
