package chaos_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestPublish_VisibleOnOtherNode publishes on one node and polls another node until a scan opens the rule. It alternates with an INSERT in
// the same database whose trigger notifies a listener, and logs both latencies; bench/propagation.go compares the latency with targets.
func TestPublish_VisibleOnOtherNode(t *testing.T) {
	times := choose(60, 12)
	database := newDatabase(t)
	c := newCluster(t, database, fmt.Sprintf(`
accounts: [{appid: shop, kind: mini_program, secret: %q, versions: [release]}]
settings: {rule_rate_limit: null, verification: trust}
`, secretOf("shop")), 2)
	c.start()
	c.waitUntilReady()
	wire := c.nodes[0].connect("")
	token := wire.token("shop")
	scans := c.nodes[1].connect(c.nodes[0].admin().scanKey("app"))
	waitFor(t, "the other node to know the scan key", func() bool {
		_, err := scans.connection.scan("x")
		return err == nil
	})
	writer, listener := openSession(t, database), openSession(t, database)
	for _, query := range []string{
		`CREATE TABLE notifier (id BIGINT PRIMARY KEY, x TEXT)`,
		`CREATE FUNCTION notify() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN PERFORM pg_notify('notifier', NEW.id::text); RETURN NULL; END $$`,
		`CREATE TRIGGER notify AFTER INSERT ON notifier FOR EACH ROW EXECUTE FUNCTION notify()`,
	} {
		execSQL(t, writer, query)
	}
	execSQL(t, listener, `LISTEN notifier`)
	var publishes, notifications []time.Duration
	for n := range times {
		prefix := fmt.Sprintf("https://elsewhere.example/%d/", n)
		wire.ok("qrcodejumpadd", token, add(prefix, "pages/a"))
		began := time.Now()
		published := make(chan struct{})
		go func() {
			defer close(published)
			if got, err := wire.wire("qrcodejumppublish", token, prefixOnly(prefix)); err != nil || got.ErrCode != 0 {
				t.Errorf("qrcodejumppublish(%s) = %d %s, %v, want 0", prefix, got.ErrCode, got.ErrMsg, err)
			}
		}()
		for !scans.scan(prefix).opens() {
			if t.Failed() {
				t.FailNow() // the publish failed
			}
		}
		publishes = append(publishes, time.Since(began))
		for range 20 {
			require.True(t, scans.scan(prefix).opens(), "a scan of %s does not open the rule, which was visible before", prefix)
		}
		<-published
		began = time.Now()
		execSQL(t, writer, `INSERT INTO notifier (id, x) VALUES ($1, 'x')`, n)
		_, err := listener.WaitForNotification(t.Context())
		require.NoError(t, err)
		notifications = append(notifications, time.Since(began))
	}
	c.stop()
	quantile := func(list []time.Duration, q float64) time.Duration {
		slices.Sort(list)
		return list[int(q*float64(len(list)-1)+0.5)].Round(10 * time.Microsecond)
	}
	t.Logf(
		"publish until another node opens the rule: median %v, p99 %v; INSERT with NOTIFY to notification: median %v, p99 %v; %d each",
		quantile(publishes, 0.5), quantile(publishes, 0.99), quantile(notifications, 0.5), quantile(notifications, 0.99), times)
}
