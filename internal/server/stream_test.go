package server_test

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/natstest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// streamServer is a NATS server that flushes what it takes; its address is for
// --scan-stream.
func streamServer(t *testing.T) string {
	t.Helper()
	return natstest.Start(t, natstest.Options{}).Events()
}

// counter is a server whose scans are counted.
type counter struct {
	*servertest.Server
	t   *testing.T
	key string
}

func (p place) counting(t *testing.T, events, key string) *counter {
	t.Helper()
	c := &counter{p.start(t, servertest.Options{Seed: brand, Config: func(c *server.Config) { c.ScanStream = events }}), t, key}
	if key == "" {
		made := c.NewKey("/scan-keys", `{"name":"app"}`)
		c.key = made
	}
	c.Hide(c.key)
	return c
}

// scan makes scans and returns the id of the last.
func (c *counter) scan(n int) (id string) {
	c.t.Helper()
	for range n {
		a := c.Send(c.Request("POST", "/scan/v1/resolve", `{"text":"https://nowhere.example/"}`, "Authorization: Bearer "+c.key))
		d := a.Text(c.t, "scan_id")
		require.True(c.t, a.Status == 200 && d != "", "%d %s", a.Status, a.Body)
		id = d
	}
	return id
}

// counted wants so many scans in the statistics, and no difference to a recount.
func (c *counter) counted(when string, want int64) {
	c.t.Helper()
	var a struct {
		Rows []struct{ Scans int64 }
	}
	c.Admin("GET", "/statistics?wait=true", "").JSON(c.t, &a)
	assert.True(c.t, want <= 0 || len(a.Rows) == 1 && a.Rows[0].Scans == want, "%s: counted %+v, want %d", when, a, want)
	var r struct {
		Differences *int64 `json:"difference_count"`
	}
	if b := c.Admin("POST", "/statistics/recount", ""); b.Status != 200 {
		c.t.Errorf("%s: a recount: %d %s", when, b.Status, b.Body)
	} else if b.JSON(c.t, &r); r.Differences == nil || *r.Differences != 0 {
		c.t.Errorf("%s: a recount: %s", when, b.Body)
	}
}

// A server may go to a stream and come back, as often as it likes: every scan counts once.
func TestScanStream_SwitchBackAndForth(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p, first, second, key, total := where(t), streamServer(t), streamServer(t), "", int64(0)
		ways := testscope.Choose([]string{"", first, "", first, second, "", second, first, ""}, []string{"", first, second, ""})
		for n, events := range ways {
			when := fmt.Sprint("start ", n)
			c := p.counting(t, events, key)
			key = c.key
			c.counted(when, total)
			c.scan(3 + n)
			total += int64(3 + n)
			c.counted(when+", after scans", total)
			// A scan that is not counted before the end is counted after the next start.
			c.scan(2)
			total += 2
			c.Stop()
			if n%2 == 0 {
				c = p.counting(t, events, key)
				c.counted(when+", again", total)
				c.Stop()
			}
		}
	})
}

// A server that leaves a stream counts what it brought there and nobody counted, once:
// also where it was killed after that and before it noted it, and where it comes back.
func TestScanStream_LeaveUncounted(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p, nats := where(t), natstest.Start(t, natstest.Options{Blind: true})
		c := p.counting(t, "", "")
		c.scan(4)
		c.counted("before", 4)
		c.Stop()
		c = p.counting(t, nats.Events(), c.key)
		c.scan(3)
		c.counted("from the stream", 7)
		c.Stop()
		// From here on what comes into the stream is read by nobody.
		c = p.counting(t, nats.Unread(), c.key)
		c.scan(5)
		conn, js := streams(t, nats.Events())
		defer conn.Close()
		eventually(t, "the scans in the stream", func() bool {
			stream, err := js.Stream(t.Context(), "QRJUMP_SCANS")
			return err == nil && stream.CachedInfo().State.Msgs == 8
		})
		c.Stop()
		shipped := filepath.Join(p.data, "scans", "shipped")
		mark, err := os.ReadFile(shipped)
		require.NoError(t, err)
		c = p.counting(t, "", c.key)
		assert.Contains(t, c.Log(), "counted=5", "the log does not say so")
		c.counted("left", 12)
		c.Stop()
		require.NoError(t, os.WriteFile(shipped, mark, 0o600))
		c = p.counting(t, "", c.key)
		c.counted("left, and killed before that was noted", 12)
		c.scan(2)
		c.counted("and scanned", 14)
		c.Stop()
		c = p.counting(t, nats.Events(), c.key)
		c.counted("in the stream again", 14)
		c.scan(1)
		c.counted("and scanned there", 15)
		c.Stop()
		c = p.counting(t, "", c.key)
		c.counted("left again", 15)
	})
}

// Issue 29, 4: a server is killed after the stream took a batch and before that was noted, and leaves the stream. Whoever reads
// the stream later counts none of it again.
func TestScanStream_KilledBeforeMarkSaved(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p, nats := where(t), natstest.Start(t, natstest.Options{Blind: true})
		c := p.counting(t, nats.Events(), "")
		c.scan(3)
		c.counted("from the stream", 3)
		c.Stop()
		shipped := filepath.Join(p.data, "scans", "shipped")
		before, err := os.ReadFile(shipped)
		require.NoError(t, err)
		c = p.counting(t, nats.Unread(), c.key) // nobody reads what comes
		c.scan(5)
		conn, js := streams(t, nats.Events())
		defer conn.Close()
		eventually(t, "the scans in the stream", func() bool {
			stream, err := js.Stream(t.Context(), "QRJUMP_SCANS")
			return err == nil && stream.CachedInfo().State.Msgs == 8
		})
		c.Stop()
		after, err := os.ReadFile(shipped)
		require.NoError(t, err)
		// Position and scan are those of before, and the rest says what was about to be brought.
		killed := append(strings.Fields(string(before))[:2], strings.Fields(string(after))[2:]...)
		require.NoError(t, os.WriteFile(shipped, []byte(strings.Join(killed, " ")+"\n"), 0o600))
		c = p.counting(t, "", c.key)
		c.counted("left", 8)
		c.Stop()
		c = p.counting(t, nats.Events(), c.key)
		c.counted("in the stream again", 8)
		c.scan(1)
		c.counted("and scanned", 9)
	})
}

// Issue 29, 4: a user is erased while a node is down whose scans in the stream nobody counted. The node leaves the stream: the
// user is in nothing that it counts from its journal.
func TestScanStream_ErasureWhileLeavingNodeDown(t *testing.T) {
	t.Parallel()
	p, nats := onPostgres(t), natstest.Start(t, natstest.Options{Blind: true})
	c := p.counting(t, nats.Unread(), "")
	for _, user := range []string{"bob", "eve"} {
		a := c.Send(c.Request("POST", "/scan/v1/resolve", `{"text":"https://nowhere.example/","user":"`+user+`"}`,
			"Authorization: Bearer "+c.key))
		require.True(t, a.Status == 200, "%d %s", a.Status, a.Body)
	}
	conn, js := streams(t, nats.Events())
	defer conn.Close()
	eventually(t, "the scans in the stream", func() bool {
		stream, err := js.Stream(t.Context(), "QRJUMP_SCANS")
		return err == nil && stream.CachedInfo().State.Msgs == 2
	})
	c.Stop()
	other := p.secondOf(t).counting(t, "", c.key)
	other.Admin("DELETE", "/users/bob/scans", "")
	c = p.counting(t, "", c.key)
	c.counted("left", 2)
	a := c.Admin("GET", "/statistics?count=users", "")
	assert.True(t, strings.Contains(a.Body, `"users":1}`), "the users are %s, want one", a.Body)
}

// A stream that nothing came to is left as well, by whoever comes from it.
func TestScanStream_LeaveEmpty(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p, stream := where(t), streamServer(t)
		c := p.counting(t, "", "")
		c.scan(4)
		c.counted("before", 4)
		for _, events := range []string{stream, "", stream, streamServer(t), ""} {
			c.Stop()
			c = p.counting(t, events, c.key)
			c.counted(fmt.Sprintf("with --scan-stream %q", events), 4)
		}
		c.scan(3)
		c.counted("afterwards", 7)
	})
}

// Nodes go to a stream one after the other. The scans that one brought to the database
// last, before it was killed, counts although others count the stream already.
func TestScanStream_RollingMigration(t *testing.T) {
	t.Parallel()
	p, stream := onPostgres(t), streamServer(t)
	c := p.counting(t, "", "")
	c.scan(4)
	c.counted("before", 4)
	c.Stop()
	c = p.counting(t, stream, c.key)
	c.scan(3)
	c.counted("from the stream", 7)
	q := p.secondOf(t)
	next := q.counting(t, "", c.key)
	next.scan(2)
	next.counted("from the database", 9)
	next.Stop()
	c.scan(1)
	c.counted("from the stream again", 10)
	s, err := store.Open(t.Context(), store.Target{URL: p.database})
	require.NoError(t, err)
	defer s.Close()
	other, err := s.OpenScans(t.Context(), store.ScansOptions{Random: rand.Reader, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	at := servertest.Began
	late := []scanlog.Event{{ID: scanlog.ScanID{0, 1}, OccurredAt: at}, {ID: scanlog.ScanID{0, 2}, OccurredAt: at}}
	require.NoError(t, other.Append(t.Context(), late))
	next = q.counting(t, stream, c.key)
	next.counted("with what the killed one left", 12)
	c.scan(1)
	c.counted("and from the first", 13)
	next.scan(1)
	next.counted("and from both", 14)
}

// A user that is erased beside a stream is in no scan of the time before it either, and in no archive from that moment on.
func TestScanStream_ErasureReachesOlderScans(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p := where(t)
		c := p.counting(t, "", "")
		scan := func() {
			t.Helper()
			for _, user := range []string{"bob", "eve"} {
				a := c.Send(c.Request("POST", "/scan/v1/resolve", `{"text":"https://nowhere.example/","user":"`+user+`"}`,
					"Authorization: Bearer "+c.key))
				require.True(t, a.Status == 200, "%d %s", a.Status, a.Body)
			}
		}
		scan()
		c.counted("before", 2)
		c.Stop()
		c = p.counting(t, streamServer(t), c.key)
		scan()
		c.counted("from the stream", 4)
		erased := servertest.Decode[struct{ Scans int64 }](t, c.Admin("DELETE", "/users/bob/scans", ""))
		assert.True(t, erased.Scans == 2, "%d scans were erased", erased.Scans)
		all := rowsIn(t, exported(t, c.Server))
		assert.Equal(t, strings.Count(all["scan_events"], "\n"), 4, "scans in the archive")
		n := strings.Count(all["scan_events"], `"user_hash":""`)
		assert.True(t, n == 2, "%d scans of nobody in the archive:\n%s", n, all["scan_events"])
		c.counted("afterwards", 4)
	})
}

// An archive has the scans of a stream and those from before, and where it is restored every scan counts once.
func TestScanStream_BackupIncludesAllScans(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p, events := where(t), streamServer(t)
		c := p.counting(t, "", "")
		ids := []string{c.scan(4)}
		c.counted("before", 4)
		c.Stop()
		c = p.counting(t, events, c.key)
		ids = append(ids, c.scan(5))
		c.counted("from the stream", 9)
		file := exported(t, c.Server)
		c.scan(1)
		c.counted("afterwards", 10)
		c.Stop()
		gone := int64(1) // how far the stream has gone on
		for name, place := range map[string]func(*testing.T) place{"sqlite": onSQLite, "postgres": onPostgres} {
			if was := map[bool]string{true: "sqlite", false: "postgres"}[p.database == ""]; name == was && !testscope.Run() {
				continue // on the other kind of database is more to go wrong
			}
			for _, same := range []string{"", events} {
				when := fmt.Sprintf("on %s, --scan-stream %q", name, same)
				q := place(t)
				require.NoErrorf(t, assert.ErrorOf(server.Import(t.Context(), q.config(), file, say(passphrase))), "%v", when)
				r, total := q.counting(t, same, c.key), int64(9)
				if same != "" {
					total += gone
					gone += 2
				}
				r.counted("restored "+when, total)
				r.scan(2)
				r.counted("and scanned "+when, total+2)
				if same == "" {
					for _, id := range ids {
						a := r.Admin("GET", "/scans/"+id, "")
						assert.True(t, a.Status == 200, "%s: a scan of before: %d %s", when, a.Status, a.Body)
					}
					feed := servertest.Decode[struct{ Scans []struct{} }](t, r.Admin("GET", "/scans", ""))
					assert.True(t, len(feed.Scans) == 11, "%s: %d scans in the feed", when, len(feed.Scans))
				}
				again := exported(t, r.Server)
				r.Stop()
				last := onSQLite(t)
				require.NoErrorf(t, assert.ErrorOf(server.Import(t.Context(), last.config(), again, say(passphrase))), "%v", when)
				r = last.counting(t, "", c.key)
				r.counted("restored once more "+when, total+2)
				r.Stop()
				if same != "" {
					break
				}
			}
		}
	})
}
