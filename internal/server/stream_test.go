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

// startStream starts a NATS server and returns its address for --scan-stream.
func startStream(t *testing.T) string {
	t.Helper()
	return natstest.Start(t, natstest.Options{}).URL()
}

// scanCounter is a server with calls to make scans and to verify their count.
type scanCounter struct {
	*servertest.Server
	t   *testing.T
	key string
}

// startCounter starts a server with a scan stream, "" = none, and a scan key; it creates the key if key is "".

func (p instance) startCounter(t *testing.T, events, key string) *scanCounter {
	t.Helper()
	c := &scanCounter{p.start(t, servertest.Options{Seed: brand, Config: func(c *server.Config) { c.ScanStream = events }}), t, key}
	if key == "" {
		c.key = c.NewKey("/scan-keys", `{"name":"app"}`)
	}
	c.RegisterSecret(c.key)
	return c
}

// scan makes n scans and returns the id of the last.
func (c *scanCounter) scan(n int) (id string) {
	c.t.Helper()
	for range n {
		id = c.scanUser("")
	}
	return id
}

// scanUser makes a scan as a user, "" = anonymous, and returns its id.
func (c *scanCounter) scanUser(user string) (id string) {
	c.t.Helper()
	body := `{"text":"https://nowhere.example/"}`
	if user != "" {
		body = `{"text":"https://nowhere.example/","user":"` + user + `"}`
	}
	a := c.Do("POST", "/scan/v1/resolve", body, "Authorization: Bearer "+c.key)
	id = a.Text(c.t, "scan_id")
	require.True(c.t, a.Status == 200 && id != "", "resolve = %d %s, want 200 with a scan_id", a.Status, a.Body)
	return id
}

// wantScans verifies that the statistics have this number of scans, unless it is 0, and that a recount finds no difference.
func (c *scanCounter) wantScans(step string, want int64) {
	c.t.Helper()
	var a struct {
		Rows []struct{ Scans int64 }
	}
	c.Admin("GET", "/statistics?wait=true", "").JSON(c.t, &a)
	assert.True(c.t, want <= 0 || len(a.Rows) == 1 && a.Rows[0].Scans == want, "%s: statistics = %+v, want %d scans", step, a, want)
	var r struct {
		Differences *int64 `json:"difference_count"`
	}
	if b := c.Admin("POST", "/statistics/recount", ""); b.Status != 200 {
		c.t.Errorf("%s: recount = %d %s, want 200", step, b.Status, b.Body)
	} else if b.JSON(c.t, &r); r.Differences == nil || *r.Differences != 0 {
		c.t.Errorf("%s: recount = %s, want no differences", step, b.Body)
	}
}

// TestScanStream_SwitchBackAndForth switches a server repeatedly between its database and several streams. Every scan must count once.
func TestScanStream_SwitchBackAndForth(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p, first, second, key, total := newInstance(t), startStream(t), startStream(t), "", int64(0)
		streams := testscope.Select([]string{"", first, "", first, second, "", second, first, ""}, []string{"", first, second, ""})
		for n, events := range streams {
			step := fmt.Sprint("start ", n)
			c := p.startCounter(t, events, key)
			key = c.key
			c.wantScans(step, total)
			c.scan(3 + n)
			total += int64(3 + n)
			c.wantScans(step+", after scans", total)
			// Scans that are not aggregated before the stop are counted after the next start.
			c.scan(2)
			total += 2
			c.Stop()
			if n%2 == 0 {
				c = p.startCounter(t, events, key)
				c.wantScans(step+", again", total)
				c.Stop()
			}
		}
	})
}

// TestScanStream_LeaveUncounted verifies that a server that detaches from a stream counts once the scans that it shipped there and that
// were not yet counted, also if it is killed before it saves the checkpoint, and if it returns to the stream later.
func TestScanStream_LeaveUncounted(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p, nats := newInstance(t), natstest.Start(t, natstest.Options{PublishOnly: true})
		c := p.startCounter(t, "", "")
		c.scan(4)
		c.wantScans("before", 4)
		c.Stop()
		c = p.startCounter(t, nats.URL(), c.key)
		c.scan(3)
		c.wantScans("from the stream", 7)
		c.Stop()
		// The scans in the stream are not read from here on.
		c = p.startCounter(t, nats.PublishOnlyURL(), c.key)
		c.scan(5)
		waitForStream(t, nats.URL(), 8)
		c.Stop()
		shipped := filepath.Join(p.data, "scans", "shipped")
		checkpoint := require.Value(os.ReadFile(shipped))(t)
		c = p.startCounter(t, "", c.key)
		assert.Contains(t, c.Log(), "counted=5", "the log")
		c.wantScans("left", 12)
		c.Stop()
		require.NoError(t, os.WriteFile(shipped, checkpoint, 0o600))
		c = p.startCounter(t, "", c.key)
		c.wantScans("left, and killed before that was noted", 12)
		c.scan(2)
		c.wantScans("and scanned", 14)
		c.Stop()
		c = p.startCounter(t, nats.URL(), c.key)
		c.wantScans("in the stream again", 14)
		c.scan(1)
		c.wantScans("and scanned there", 15)
		c.Stop()
		c = p.startCounter(t, "", c.key)
		c.wantScans("left again", 15)
	})
}

// TestScanStream_KilledBeforeMarkSaved simulates a crash after the stream acknowledged a batch and before the checkpoint was saved,
// followed by a detach from the stream. A later reader of the stream must not count the batch again.
func TestScanStream_KilledBeforeMarkSaved(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p, nats := newInstance(t), natstest.Start(t, natstest.Options{PublishOnly: true})
		c := p.startCounter(t, nats.URL(), "")
		c.scan(3)
		c.wantScans("from the stream", 3)
		c.Stop()
		shipped := filepath.Join(p.data, "scans", "shipped")
		before := require.Value(os.ReadFile(shipped))(t)
		c = p.startCounter(t, nats.PublishOnlyURL(), c.key) // the scans in the stream are not read
		c.scan(5)
		waitForStream(t, nats.URL(), 8)
		c.Stop()
		after := require.Value(os.ReadFile(shipped))(t)
		// The offset and the scan id are old, the rest describes the batch that is being shipped.
		killed := append(strings.Fields(string(before))[:2], strings.Fields(string(after))[2:]...)
		require.NoError(t, os.WriteFile(shipped, []byte(strings.Join(killed, " ")+"\n"), 0o600))
		c = p.startCounter(t, "", c.key)
		c.wantScans("left", 8)
		c.Stop()
		c = p.startCounter(t, nats.URL(), c.key)
		c.wantScans("in the stream again", 8)
		c.scan(1)
		c.wantScans("and scanned", 9)
	})
}

// TestScanStream_ErasureWhileLeavingNodeDown erases a user while a node with uncounted scans in the stream is down. When the node detaches
// from the stream and counts the scans from its journal, the user must not be counted.
func TestScanStream_ErasureWhileLeavingNodeDown(t *testing.T) {
	t.Parallel()
	p, nats := newPostgres(t), natstest.Start(t, natstest.Options{PublishOnly: true})
	c := p.startCounter(t, nats.PublishOnlyURL(), "")
	for _, user := range []string{"bob", "eve"} {
		c.scanUser(user)
	}
	waitForStream(t, nats.URL(), 2)
	c.Stop()
	other := p.addNode(t).startCounter(t, "", c.key)
	other.Admin("DELETE", "/users/bob/scans", "")
	c = p.startCounter(t, "", c.key)
	c.wantScans("left", 2)
	a := c.Admin("GET", "/statistics?count=users", "")
	assert.Contains(t, a.Body, `"users":1}`, "statistics of users")
}

// TestScanStream_LeaveEmpty verifies that a server can attach to streams and detach from them without scans in between.
func TestScanStream_LeaveEmpty(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p, stream := newInstance(t), startStream(t)
		c := p.startCounter(t, "", "")
		c.scan(4)
		c.wantScans("before", 4)
		for _, events := range []string{stream, "", stream, startStream(t), ""} {
			c.Stop()
			c = p.startCounter(t, events, c.key)
			c.wantScans(fmt.Sprintf("with --scan-stream %q", events), 4)
		}
		c.scan(3)
		c.wantScans("afterwards", 7)
	})
}

// TestScanStream_RollingMigration moves nodes to a stream one after the other. Scans that a killed node wrote to the database must count,
// although another node already counts the stream.
func TestScanStream_RollingMigration(t *testing.T) {
	t.Parallel()
	p, stream := newPostgres(t), startStream(t)
	c := p.startCounter(t, "", "")
	c.scan(4)
	c.wantScans("before", 4)
	c.Stop()
	c = p.startCounter(t, stream, c.key)
	c.scan(3)
	c.wantScans("from the stream", 7)
	q := p.addNode(t)
	next := q.startCounter(t, "", c.key)
	next.scan(2)
	next.wantScans("from the database", 9)
	next.Stop()
	c.scan(1)
	c.wantScans("from the stream again", 10)
	s := require.Value(store.Open(t.Context(), store.Target{URL: p.database}))(t)
	defer s.Close()
	other, err := s.OpenScans(t.Context(), store.ScansOptions{Random: rand.Reader, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	occurredAt := servertest.Began
	events := []scanlog.Event{{ID: scanlog.ScanID{0, 1}, OccurredAt: occurredAt}, {ID: scanlog.ScanID{0, 2}, OccurredAt: occurredAt}}
	require.NoError(t, other.Append(t.Context(), events))
	next = q.startCounter(t, stream, c.key)
	next.wantScans("with the scans of the killed node", 12)
	c.scan(1)
	c.wantScans("after a scan on the first node", 13)
	next.scan(1)
	next.wantScans("after a scan on the second node", 14)
}

// TestScanStream_ErasureReachesOlderScans verifies that the erasure of a user on a server with a stream includes scans from before the
// stream, and that a later archive does not contain the user.
func TestScanStream_ErasureReachesOlderScans(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p := newInstance(t)
		c := p.startCounter(t, "", "")
		c.scanUser("bob")
		c.scanUser("eve")
		c.wantScans("before", 2)
		c.Stop()
		c = p.startCounter(t, startStream(t), c.key)
		c.scanUser("bob")
		c.scanUser("eve")
		c.wantScans("from the stream", 4)
		erased := servertest.Decode[struct{ Scans int64 }](t, c.Admin("DELETE", "/users/bob/scans", ""))
		assert.Equal(t, erased.Scans, 2, "erased scans")
		tables := readTables(t, exportArchive(t, c.Server))
		assert.Equal(t, strings.Count(tables["scan_events"], "\n"), 4, "scans in the archive")
		n := strings.Count(tables["scan_events"], `"user_hash":""`)
		assert.True(t, n == 2, "%d scans without a user in the archive, want 2:\n%s", n, tables["scan_events"])
		c.wantScans("afterwards", 4)
	})
}

// TestScanStream_BackupIncludesAllScans verifies that an archive contains the scans of a stream and those from before it, and that every
// scan counts once after a restore, with or without the stream.
func TestScanStream_BackupIncludesAllScans(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p, events := newInstance(t), startStream(t)
		c := p.startCounter(t, "", "")
		ids := []string{c.scan(4)}
		c.wantScans("before", 4)
		c.Stop()
		c = p.startCounter(t, events, c.key)
		ids = append(ids, c.scan(5))
		c.wantScans("from the stream", 9)
		file := exportArchive(t, c.Server)
		c.scan(1)
		c.wantScans("afterwards", 10)
		c.Stop()
		added := int64(1) // scans in the stream since the export
		for name, newTarget := range map[string]func(*testing.T) instance{"sqlite": newSQLite, "postgres": newPostgres} {
			if source := map[bool]string{true: "sqlite", false: "postgres"}[p.database == ""]; name == source && !testscope.IsComplete() {
				continue // a restore into the other kind of database covers more
			}
			for _, stream := range []string{"", events} {
				step := fmt.Sprintf("on %s, --scan-stream %q", name, stream)
				q := newTarget(t)
				require.NoErrorf(t, assert.ErrorOf(server.Import(t.Context(), q.config(), file, prompt(passphrase))), "%v", step)
				r, total := q.startCounter(t, stream, c.key), int64(9)
				if stream != "" {
					total += added
					added += 2
				}
				r.wantScans("restored "+step, total)
				r.scan(2)
				r.wantScans("and scanned "+step, total+2)
				if stream == "" {
					for _, id := range ids {
						r.Admin("GET", "/scans/"+id, "").WantStatus(t, 200, "%s: a scan from before the export", step)
					}
					feed := servertest.Decode[struct{ Scans []struct{} }](t, r.Admin("GET", "/scans", ""))
					assert.Equal(t, len(feed.Scans), 11, "%s: scans in the feed", step)
				}
				secondFile := exportArchive(t, r.Server)
				r.Stop()
				last := newSQLite(t)
				require.NoErrorf(t, assert.ErrorOf(server.Import(t.Context(), last.config(), secondFile, prompt(passphrase))), "%v", step)
				r = last.startCounter(t, "", c.key)
				r.wantScans("restored once more "+step, total+2)
				r.Stop()
				if stream != "" {
					break
				}
			}
		}
	})
}
