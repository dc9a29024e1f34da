package fastpath

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// until waits for what other goroutines make true of the one connection of a lane, and fails when that has ended.
func until(t *testing.T, l *Listener, is func(*conn) bool) {
	t.Helper()
	for done := false; !done; runtime.Gosched() {
		here := false
		l.visit(func(c *conn) { here, done = true, is(c) })
		require.True(t, here, "the connection has ended")
	}
}

func isParked(c *conn) bool { return c.parked.Load() }

// An idle connection has no goroutine. One whose client writes in pieces has one for each such request, and keeps it in the end.
func TestFastPath_IdleConnectionParked(t *testing.T) {
	t.Parallel()
	lane := echoing()
	// a machine that stands still for a second would hand half a request on, and no connection were left here
	lane.ReadTimeout = time.Minute
	var tried atomic.Int32
	lane.Try = func(ctx context.Context, who string, body []byte) Response {
		if tried.Add(1); string(body) == "wait" {
			return nil
		}
		return echo(body)
	}
	dial := listening(t, lane)
	client := dial()
	in := bufio.NewReader(client)
	ask := func(text string) {
		t.Helper()
		io.WriteString(client, say(text))
		wantAnswer(t, in, 200, text)
	}
	ask("first")
	for i := range int32(20) {
		until(t, lane, isParked)
		ask("again")
		require.Equal(t, tried.Load(), i+1, "answered by the loop")
	}
	until(t, lane, isParked)
	ask("wait") // what would wait is begun on a goroutine
	until(t, lane, isParked)
	ask("on")
	whole := say("pieces")
	kept := false
	for range 100 * maxMisses { // an event without bytes looks like the first piece, and the loop answers what arrives whole
		until(t, lane, func(c *conn) bool { kept = c.idle.Load(); return kept || c.parked.Load() })
		if kept {
			break
		}
		io.WriteString(client, whole[:20])
		until(t, lane, func(c *conn) bool { return !c.parked.Load() && !c.idle.Load() })
		io.WriteString(client, whole[20:])
		wantAnswer(t, in, 200, "pieces")
	}
	require.Equal(t, kept, true, "a connection whose requests arrive in pieces keeps its goroutine")
	ask("kept")
	require.NoError(t, lane.Drain(t.Context()))
}

// A parked connection ends after its idle time, with its client, when the server closes it, and in a drain.
func TestParkedConnection_Close(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Listener, net.Conn){
		"idle":   func(*Listener, net.Conn) {},
		"client": func(_ *Listener, client net.Conn) { client.Close() },
		"closed": func(l *Listener, _ net.Conn) { l.visit(func(c *conn) { c.conn.Close() }) },
		"drain":  func(l *Listener, _ net.Conn) { l.Drain(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lane := echoing()
			switch name {
			case "idle":
				lane.IdleTime = 100 * time.Millisecond
			case "closed":
				lane.IdleTime = 4 * time.Second // looked at every second; a machine that stands still must not end it before
			}
			dial := listening(t, lane)
			client := dial()
			in := bufio.NewReader(client)
			io.WriteString(client, say("a"))
			wantAnswer(t, in, 200, "a")
			if name != "idle" {
				until(t, lane, isParked)
			}
			end(lane, client)
			_, err := in.ReadByte()
			assert.True(t, name == "client" || errors.Is(err, io.EOF), "%v, want the end", err)
			for n := 1; n > 0; runtime.Gosched() { // and it is forgotten
				n = 0
				lane.visit(func(*conn) { n++ })
			}
		})
	}
}

// A client that says with its request that it is the last sees the end of its answers. The request and its end are one event.
func TestParkedConnection_HalfCloseWithRequest(t *testing.T) {
	t.Parallel()
	lane := echoing()
	dial := listening(t, lane)
	for range 20 {
		client := dial()
		in := bufio.NewReader(client)
		io.WriteString(client, say("a"))
		wantAnswer(t, in, 200, "a")
		until(t, lane, isParked)
		io.WriteString(client, say("b"))
		client.CloseWrite()
		wantAnswer(t, in, 200, "b")
		_, err := in.ReadByte()
		require.ErrorIs(t, err, io.EOF, "%v, want the end", err)
		for n := 1; n > 0; runtime.Gosched() {
			n = 0
			lane.visit(func(*conn) { n++ })
		}
	}
}

// A client that does not read what the loop has for it gets the rest from a goroutine, and nobody else waits.
func TestFastPath_SlowReaderLongResponse(t *testing.T) {
	t.Parallel()
	lane := echoing()
	long := strings.Repeat("long ", 1<<20)
	lane.Begin = func(_ context.Context, _ string, body []byte) Response {
		if string(body) == "long" {
			return echo(long)
		}
		return echo(body)
	}
	dial := listening(t, lane)
	client, other := dial(), dial()
	in, inOther := bufio.NewReader(client), bufio.NewReader(other)
	for range 3 {
		io.WriteString(client, say("short"))
		wantAnswer(t, in, 200, "short")
		io.WriteString(client, say("long"))
		for range 5 {
			io.WriteString(other, say("other"))
			wantAnswer(t, inOther, 200, "other")
		}
		_, body := nextAnswer(t, in)
		require.True(t, body == long, "another answer")
	}
}

// Many clients write whole requests, pieces and several at once, while answers come when they come; each client gets its own
// answers in its order, also while the lane drains.
func TestFastPath_ConcurrentClientsPipelined(t *testing.T) {
	t.Parallel()
	lane := echoing()
	known := make(chan *slow, 1000)
	lane.Begin = func(_ context.Context, _ string, body []byte) Response {
		if len(body)%2 == 0 {
			return echo(body)
		}
		a := &slow{body: string(body), done: make(chan struct{}), asked: make(chan struct{})}
		known <- a
		return a
	}
	for range 3 {
		go func() {
			for a := range known {
				a.end(nil)
			}
		}()
	}
	defer close(known)
	dial := listening(t, lane)
	var clients sync.WaitGroup
	for who := range 24 {
		client, r := dial(), rand.New(rand.NewPCG(uint64(who), 1))
		clients.Go(func() {
			in := bufio.NewReader(client)
			for n := 0; n < 150; {
				var wants []string
				text := ""
				for range 1 + r.IntN(4)/3*r.IntN(3) {
					wants = append(wants, fmt.Sprintf("%d of %d%s", n, who, strings.Repeat(".", r.IntN(8))))
					text += say(wants[len(wants)-1])
					n++
				}
				for r.IntN(6) == 0 && len(text) > 40 {
					at := 1 + r.IntN(len(text)-1)
					io.WriteString(client, text[:at])
					text = text[at:]
					runtime.Gosched()
				}
				io.WriteString(client, text)
				for _, want := range wants {
					wantAnswer(t, in, 200, want)
				}
			}
		})
	}
	clients.Wait()
	require.NoError(t, lane.Drain(t.Context()))
}
