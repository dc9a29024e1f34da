package chaos_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

// TestPublishQuota_ConcurrentAtMonthEnd spends the 100 publishes of a month from many concurrent clients, and checks the quota immediately
// before and after the end of the month at +08:00.
func TestPublishQuota_ConcurrentAtMonthEnd(t *testing.T) {
	runOnEachBackend(t, func(t *testing.T, database string) {
		srv := qrjumptest.Start(t, qrjumptest.Database(database), qrjumptest.Seed(fmt.Sprintf(`
accounts: [{appid: shop, kind: mini_program, secret: %q, versions: [release]}]
settings: {rule_rate_limit: null, verification: trust}
`, secretOf("shop"))))
		wire := mustConnect(t, srv.URL, "")
		wire.freezeNextMonth(0)
		token := wire.token("shop")
		left := func() int { return wire.ok("qrcodejumpget", token, map[string]any{}).QRCodeJumpPubQuota }
		prefix := func(n int) string { return fmt.Sprintf("https://shop.example/%d/", n) }

		for n := range 60 {
			wire.ok("qrcodejumpadd", token, add(prefix(n), "pages/a"))
			wire.ok("qrcodejumppublish", token, prefixOnly(prefix(n)))
			wire.ok("qrcodejumpdelete", token, prefixOnly(prefix(n)))
		}
		require.Equal(t, left(), 40, "publishes left after 60 publishes of rules that were deleted")
		for n := range 100 {
			wire.ok("qrcodejumpadd", token, add(prefix(n), "pages/b"))
		}
		var mu sync.Mutex
		var published, refused []string
		connections := make(chan *connection, 32)
		for range cap(connections) {
			connections <- connect(t, srv.URL, "")
		}
		for _, err := range dbtest.Race(100, func(i int) error {
			c := <-connections
			defer func() { connections <- c }()
			got, err := c.wire("qrcodejumppublish", token, prefixOnly(prefix(i)))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				return err
			case got.ErrCode == 0:
				published = append(published, prefix(i))
			case got.ErrCode == 886000:
				refused = append(refused, prefix(i))
			default:
				return fmt.Errorf("qrcodejumppublish(%s) = %d, want 0 or 886000", prefix(i), got.ErrCode)
			}
			return nil
		}) {
			require.NoError(t, err)
		}
		require.True(t, len(published) == 40 && len(refused) == 60,
			"%d published, %d refused, want 40 and 60", len(published), len(refused))
		assert.Equal(t, left(), 0, "publishes left")
		for _, p := range published {
			wire.ok("qrcodejumppublish", token, prefixOnly(p)) // a repeated publish is free
		}

		beijing := time.FixedZone("", 8*3600)
		end := wire.now().In(beijing)
		end = time.Date(end.Year(), end.Month()+1, 1, 0, 0, 0, 0, beijing)
		for _, before := range []time.Duration{time.Second, time.Millisecond} {
			wire.freezeClock(end.Add(-before))
			token = wire.token("shop") // the previous token has expired
			if got := wire.code("qrcodejumppublish", token, prefixOnly(refused[0])); got.ErrCode != 886000 || left() != 0 {
				t.Errorf("%v before the month ends: qrcodejumppublish = %d %s, %d left, want 886000 and 0", before, got.ErrCode,
					got.ErrMsg, left())
			}
		}
		wire.freezeClock(end)
		assert.Equal(t, left(), 100, "publishes left in the first second of the month")
		for _, p := range refused {
			wire.ok("qrcodejumppublish", token, prefixOnly(p))
		}
		assert.Equal(t, left(), 40, "publishes left after 60 in the new month")
	})
}
