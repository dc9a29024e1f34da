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
)

// streams is a client of the server of a stream.
func streams(t *testing.T, events string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	conn, err := nats.Connect(strings.Split(events, "?")[0])
	require.NoError(t, err)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return conn, js
}

// burst makes scans in one request.
func (c *counter) burst(n int) {
	c.t.Helper()
	a := c.Send(c.Request("POST", "/scan/v1/resolve", strings.Repeat(`{"text":"https://nowhere.example/"}`+"\n", n),
		"Authorization: Bearer "+c.key, "Content-Type: application/x-ndjson"))
	got := strings.Count(a.Body, `"scan_id":"`)
	require.True(c.t, a.Status == 200 && got == n, "%d: %d scans of %d were acknowledged", a.Status, got, n)
}

// wait asks for everything.
func (c *counter) wait() servertest.Answer {
	c.t.Helper()
	return c.Send(c.Request("GET", "/admin/v1/statistics?wait=true", "", "Authorization: Bearer "+servertest.AdminToken))
}

// fed is how many scans the feed has; each stands in it once.
func (c *counter) fed() int {
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
			assert.True(c.t, !seen[s.ID], "%s stands in the feed twice", s.ID)
			seen[s.ID] = true
		}
		if after = page.Next; !page.More {
			return len(seen)
		}
	}
}

// Issue 12, 3: a stream that is lost, as when its server lost its folder, costs no
// acknowledged scan: what the journals have is in it again, and counts once.
func TestScanStream_Lost(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p, events := where(t), streamServer(t)
		conn, js := streams(t, events)
		defer conn.Close()
		held := func() uint64 { // so many are in the stream
			stream, err := js.Stream(t.Context(), "QRJUMP_SCANS")
			if err != nil {
				return 0
			}
			return stream.CachedInfo().State.Msgs
		}
		c, total := p.counting(t, "", ""), int64(0)
		c.burst(40) // from before the stream
		total += 40
		c.counted("before the stream", total)
		c.Stop()
		c = p.counting(t, events, c.key)
		inStream := 0
		for round := range 4 {
			c.burst(700)
			total, inStream = total+700, inStream+700
			for n := uint64(1 + round%2*600); held() < n; { // in the middle of the shipping, or near its end
				time.Sleep(time.Millisecond)
			}
			require.NoError(t, js.DeleteStream(t.Context(), "QRJUMP_SCANS"))
			switch round {
			case 1:
				c.burst(30) // and goes on at once
				total, inStream = total+30, inStream+30
			case 2:
				c.Stop() // or is started again
				c = p.counting(t, events, c.key)
			}
			// A scan that is under way while the stream goes is refused, and never short.
			for a := c.wait(); a.Status != 200; a = c.wait() {
				require.True(t, a.Status >= 500, "%d %s", a.Status, a.Body)
			}
			c.counted(fmt.Sprint("lost for the time ", round+1), total)
			assert.Equal(t, c.fed(), inStream, "lost for the time %d", round+1)
		}
		assert.True(t, strings.Contains(c.Log(), "the stream lost events"), "nothing in the log")
		c.Stop()
		c = p.counting(t, "", c.key)
		c.counted("without the stream", total)
	})
}

// Issue 12, 2: a clock that jumps ahead takes nothing from the journals that only they have when the stream is lost.
func TestScanStream_LostAfterClockJump(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p, events := where(t), streamServer(t)
		conn, js := streams(t, events)
		defer conn.Close()
		c := p.counting(t, events, "")
		c.burst(700)
		c.counted("before", 700)
		c.Stop()
		c = p.counting(t, events, c.key) // and writes the next file
		c.burst(700)
		c.counted("in two files", 1400)
		c.Clock.Step(25 * time.Hour)
		for n := range 10 { // each of them may wake who tidies up
			c.burst(1)
			a := c.wait()
			assert.True(t, a.Status == 200, "ahead, scan %d: %d %s", n, a.Status, a.Body)
		}
		c.Clock.Step(-25 * time.Hour)
		require.NoError(t, js.DeleteStream(t.Context(), "QRJUMP_SCANS"))
		for a := c.wait(); a.Status != 200; a = c.wait() {
			require.True(t, a.Status >= 500, "%d %s", a.Status, a.Body)
		}
		assert.Equal(t, c.fed(), 1410, "scans in the feed")
	})
}
