package chaos_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestPublish_VisibleOnOtherNode publishes on one node and asks another one without pause
// until it opens the rule; in turn a row is inserted whose trigger notifies a
// listener, in the same database. It prints both; bench/propagation.go measures
// the same against targets.
func TestPublish_VisibleOnOtherNode(t *testing.T) {
	times := amount(60, 12)
	database := ownDatabase(t)
	c := newCluster(t, database, fmt.Sprintf(`
accounts: [{appid: shop, kind: mini_program, secret: %q, versions: [release]}]
settings: {rule_rate_limit: null, verification: trust}
`, secretOf("shop")), 2)
	c.start()
	c.allReady()
	wire := must{connect(t, c.nodes[0].running.Load().URL, ""), t}
	token := wire.token("shop")
	admin := c.nodes[0].admin()
	key := admin.scanKey("elsewhere")
	scans := must{connect(t, c.nodes[1].running.Load().URL, key), t}
	until(t, "the other node to know the scan key", func() bool {
		_, err := scans.connection.scan("x")
		return err == nil
	})
	bell := newBell(t, database)
	var ours, theirs []time.Duration
	for n := range times {
		prefix := fmt.Sprintf("https://elsewhere.example/%d/", n)
		wire.ok("qrcodejumpadd", token, add(prefix, "pages/a"))
		began := time.Now()
		published := make(chan struct{})
		go func() {
			defer close(published)
			if got, err := wire.wire("qrcodejumppublish", token, prefixOnly(prefix)); err != nil || got.ErrCode != 0 {
				t.Errorf("publish %s: %d %s %v", prefix, got.ErrCode, got.ErrMsg, err)
			}
		}()
		for !scans.scan(prefix).opens() {
			if t.Failed() {
				t.FailNow() // it was not published
			}
		}
		ours = append(ours, time.Since(began))
		for range 20 {
			require.True(t, scans.scan(prefix).opens(), "%s was visible, and is not any more", prefix)
		}
		<-published
		theirs = append(theirs, bell.ring())
	}
	c.stop()
	at := func(list []time.Duration, part float64) time.Duration {
		slices.Sort(list)
		return list[int(part*float64(len(list)-1)+0.5)].Round(10 * time.Microsecond)
	}
	t.Logf(
		"publish on a node until another opens the rule: median %v, p99 %v; insert + trigger NOTIFY: median %v, p99 %v; %d of each in turn",
		at(ours, 0.5), at(ours, 0.99), at(theirs, 0.5), at(theirs, 0.99), times)
}

// bell is a row whose insert notifies a listener.
type bell struct {
	t                testing.TB
	writer, listener *pgx.Conn
	n                int
}

func newBell(t testing.TB, database string) *bell {
	t.Helper()
	b := &bell{t: t}
	for _, conn := range []**pgx.Conn{&b.writer, &b.listener} {
		var err error
		if *conn, err = pgx.Connect(t.Context(), database); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*conn).Close(context.Background()) })
	}
	for _, query := range []string{
		`CREATE TABLE bell (id BIGINT PRIMARY KEY, x TEXT)`,
		`CREATE FUNCTION ring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('bell', NEW.id::text); RETURN NULL; END $$`,
		`CREATE TRIGGER ring AFTER INSERT ON bell FOR EACH ROW EXECUTE FUNCTION ring()`,
	} {
		if _, err := b.writer.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.listener.Exec(t.Context(), `LISTEN bell`); err != nil {
		t.Fatal(err)
	}
	return b
}

// ring inserts a row and returns how long it took until the listener heard it.
func (b *bell) ring() time.Duration {
	b.t.Helper()
	b.n++
	began := time.Now()
	if _, err := b.writer.Exec(b.t.Context(), `INSERT INTO bell (id, x) VALUES ($1, 'x')`, b.n); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.listener.WaitForNotification(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return time.Since(began)
}
