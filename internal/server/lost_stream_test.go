package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// connectStream connects to the NATS server of a scan stream.
func connectStream(t *testing.T, events string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	conn := require.Value(nats.Connect(strings.Split(events, "?")[0]))(t)
	js := require.Value(jetstream.New(conn))(t)
	return conn, js
}

// waitForStream waits until the stream has n scans.
func waitForStream(t *testing.T, events string, n uint64) {
	t.Helper()
	conn, js := connectStream(t, events)
	defer conn.Close()
	eventually(t, "the scans in the stream", func() bool {
		stream, err := js.Stream(t.Context(), "QRJUMP_SCANS")
		return err == nil && stream.CachedInfo().State.Msgs == n
	})
}

// scanBatch makes n scans in one request.
func (c *scanCounter) scanBatch(n int) {
	c.t.Helper()
	a := c.Send(c.Request("POST", "/scan/v1/resolve", strings.Repeat(`{"text":"https://nowhere.example/"}`+"\n", n),
		"Authorization: Bearer "+c.key, "Content-Type: application/x-ndjson"))
	got := strings.Count(a.Body, `"scan_id":"`)
	require.True(c.t, a.Status == 200 && got == n, "status %d, %d scans acknowledged, want %d", a.Status, got, n)
}

// queryStatistics requests the statistics of all acknowledged scans. The response may be an error.
func (c *scanCounter) queryStatistics() servertest.Answer {
	c.t.Helper()
	return c.Send(c.Request("GET", "/admin/v1/statistics?wait=true", "", "Authorization: Bearer "+servertest.AdminToken))
}

// countFeed returns the number of scans in the feed, and verifies that there are no duplicates.
func (c *scanCounter) countFeed() int {
	c.t.Helper()
	seen := map[string]bool{}
	for after := ""; ; {
		var page struct {
			Scans []struct {
				ID string `json:"scan_id"`
			}
			Next string
			More bool
		}
		c.Admin("GET", "/scans?limit=1000&after="+after, "").JSON(c.t, &page)
		for _, s := range page.Scans {
			assert.True(c.t, !seen[s.ID], "scan %s is in the feed twice", s.ID)
			seen[s.ID] = true
		}
		if after = page.Next; !page.More {
			return len(seen)
		}
	}
}

// TestScanStream_Lost deletes the stream during shipping. Nodes must ship their journals again, and every scan must count once.
func TestScanStream_Lost(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p, events := newInstance(t), startStream(t)
		conn, js := connectStream(t, events)
		defer conn.Close()
		countMessages := func() uint64 {
			stream, err := js.Stream(t.Context(), "QRJUMP_SCANS")
			if err != nil {
				return 0
			}
			return stream.CachedInfo().State.Msgs
		}
		c, total := p.startCounter(t, "", ""), int64(0)
		c.scanBatch(40) // from before the stream
		total += 40
		c.wantScans("before the stream", total)
		c.Stop()
		c = p.startCounter(t, events, c.key)
		inStream := 0
		for _, round := range testscope.Select([]int{0, 1, 2, 3}, []int{2, 1}) {
			c.scanBatch(700)
			total, inStream = total+700, inStream+700
			for n := uint64(1 + round%2*600); countMessages() < n; { // in the middle of the shipping, or near its end
				time.Sleep(time.Millisecond)
			}
			require.NoError(t, js.DeleteStream(t.Context(), "QRJUMP_SCANS"))
			switch round {
			case 1:
				c.scanBatch(30)
				total, inStream = total+30, inStream+30
			case 2:
				c.Stop()
				c = p.startCounter(t, events, c.key)
			}
			// A query while the stream is being restored fails; it must not return fewer scans.
			for a := c.queryStatistics(); a.Status != 200; a = c.queryStatistics() {
				require.True(t, a.Status >= 500, "%d %s", a.Status, a.Body)
			}
			c.wantScans(fmt.Sprint("after loss ", round+1), total)
			assert.Equal(t, c.countFeed(), inStream, "scans in the feed after loss %d", round+1)
		}
		assert.Contains(t, c.Log(), "the stream lost events", "the log")
		c.Stop()
		c = p.startCounter(t, "", c.key)
		c.wantScans("without the stream", total)
	})
}

// TestScanStream_LostAfterClockJump verifies that a clock that was 25 hours ahead deletes nothing from the journals, which are the only
// copy of the scans after the stream is lost.
func TestScanStream_LostAfterClockJump(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p, events := newInstance(t), startStream(t)
		conn, js := connectStream(t, events)
		defer conn.Close()
		c := p.startCounter(t, events, "")
		c.scanBatch(700)
		c.wantScans("before", 700)
		c.Stop()
		c = p.startCounter(t, events, c.key) // begins a new journal file
		c.scanBatch(700)
		c.wantScans("in two files", 1400)
		c.Clock.Step(25 * time.Hour)
		for n := range 10 { // each scan may start the journal's maintenance
			c.scanBatch(1)
			c.queryStatistics().WantStatus(t, 200, "ahead, scan %d", n)
		}
		c.Clock.Step(-25 * time.Hour)
		require.NoError(t, js.DeleteStream(t.Context(), "QRJUMP_SCANS"))
		for a := c.queryStatistics(); a.Status != 200; a = c.queryStatistics() {
			require.True(t, a.Status >= 500, "%d %s", a.Status, a.Body)
		}
		assert.Equal(t, c.countFeed(), 1410, "scans in the feed")
	})
}

// TestScanStream_ExportLackingScansFails verifies that an export fails if acknowledged scans of the stream cannot be counted, or if the
// scans of a stopped node were lost with the stream before they were counted.
func TestScanStream_ExportLackingScansFails(t *testing.T) {
	t.Parallel()
	p, events := newPostgres(t), startStream(t)
	first := p.startCounter(t, events, "")
	second := p.addNode(t).startCounter(t, events, first.key)
	p.execSQL(t, `ALTER TABLE statistics_state ADD CONSTRAINT uncountable CHECK (counted_offset = 0)`)
	first.scan(3)
	second.scan(2)
	conn, js := connectStream(t, events)
	defer conn.Close()
	waitForStream(t, events, 5)
	export := func() servertest.Answer {
		return first.Send(first.Request("POST", "/admin/v1/export", `{"passphrase":"`+passphrase+`"}`,
			"Authorization: Bearer "+servertest.AdminToken))
	}
	assert.Equal(t, export().Status, 500, "status of an export while scans cannot be counted")
	second.Stop()
	first.Stop()
	require.NoError(t, js.DeleteStream(t.Context(), "QRJUMP_SCANS"))
	p.execSQL(t, `ALTER TABLE statistics_state DROP CONSTRAINT uncountable`)
	first = p.startCounter(t, events, first.key)
	a := export()
	assert.True(t, a.Status == 503 && strings.Contains(a.Body, "2 of its scans were lost with the stream"),
		"export after the loss of a stopped node's scans = %d %.300q, want 503 and the node", a.Status, a.Body)
}
