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

// waitUntil waits until a condition holds for the only connection of l. It fails the test if the connection is closed.
func waitUntil(t *testing.T, l *Listener, condition func(*conn) bool) {
	t.Helper()
	for done := false; !done; runtime.Gosched() {
		open := false
		l.visit(func(c *conn) { open, done = true, condition(c) })
		require.True(t, open, "connection was closed")
	}
}

// waitClosed waits until l has no connections.
func waitClosed(l *Listener) {
	for n := 1; n > 0; runtime.Gosched() {
		n = 0
		l.visit(func(*conn) { n++ })
	}
}

func isParked(c *conn) bool { return c.parked.Load() }

// TestFastPath_IdleConnectionParked verifies that an idle connection has no goroutine. A request that waits or arrives in pieces gets
// one, and a connection whose requests repeatedly arrive in pieces keeps it.
func TestFastPath_IdleConnectionParked(t *testing.T) {
	t.Parallel()
	listener := newEchoListener()
	listener.ReadTimeout = time.Minute // on a machine that stalls, the default would hand half a request to net/http
	var tried atomic.Int32
	listener.Try = func(ctx context.Context, key string, body []byte) Response {
		if tried.Add(1); string(body) == "wait" {
			return nil
		}
		return echo(body)
	}
	dial := startListener(t, listener)
	client := dial()
	in := bufio.NewReader(client)
	roundTrip := func(text string) {
		t.Helper()
		io.WriteString(client, plainRequest(text))
		wantResponse(t, in, 200, text)
	}
	roundTrip("first")
	for i := range int32(20) {
		waitUntil(t, listener, isParked)
		roundTrip("again")
		require.Equal(t, tried.Load(), i+1, "requests served by the event loop")
	}
	waitUntil(t, listener, isParked)
	roundTrip("wait") // a request that waits is served by a goroutine
	waitUntil(t, listener, isParked)
	roundTrip("on")
	request := plainRequest("pieces")
	kept := false
	for range 100 * maxMisses { // spurious events count as a first piece, and the event loop serves requests that arrive complete
		waitUntil(t, listener, func(c *conn) bool { kept = c.idle.Load(); return kept || c.parked.Load() })
		if kept {
			break
		}
		io.WriteString(client, request[:20])
		waitUntil(t, listener, func(c *conn) bool { return !c.parked.Load() && !c.idle.Load() })
		io.WriteString(client, request[20:])
		wantResponse(t, in, 200, "pieces")
	}
	require.True(t, kept, "connection whose requests arrive in pieces was parked, want it to keep its goroutine")
	roundTrip("kept")
	require.NoError(t, listener.Drain(t.Context()))
}

// TestParkedConnection_Close verifies that a parked connection is removed after its idle time, when the client or the server closes it,
// and in a drain.
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
			listener := newEchoListener()
			switch name {
			case "idle":
				listener.IdleTime = 100 * time.Millisecond
			case "closed":
				listener.IdleTime = 4 * time.Second // checked every second; must not expire first on a machine that stalls
			}
			dial := startListener(t, listener)
			client := dial()
			in := bufio.NewReader(client)
			io.WriteString(client, plainRequest("a"))
			wantResponse(t, in, 200, "a")
			if name != "idle" {
				waitUntil(t, listener, isParked)
			}
			end(listener, client)
			_, err := in.ReadByte()
			assert.True(t, name == "client" || errors.Is(err, io.EOF), "read after %s: %v, want EOF", name, err)
			waitClosed(listener)
		})
	}
}

// TestParkedConnection_HalfCloseWithRequest verifies that a client that half-closes the connection with its request receives the response
// and then EOF. The request and the half-close may be one epoll event.
func TestParkedConnection_HalfCloseWithRequest(t *testing.T) {
	t.Parallel()
	listener := newEchoListener()
	dial := startListener(t, listener)
	for range 20 {
		client := dial()
		in := bufio.NewReader(client)
		io.WriteString(client, plainRequest("a"))
		wantResponse(t, in, 200, "a")
		waitUntil(t, listener, isParked)
		io.WriteString(client, plainRequest("b"))
		client.CloseWrite()
		wantResponse(t, in, 200, "b")
		require.ErrorIs(t, assert.ErrorOf(in.ReadByte()), io.EOF, "read after the response")
		waitClosed(listener)
	}
}

// TestFastPath_SlowReaderLongResponse verifies that a goroutine sends the rest of a long response to a client that does not read, so that
// other clients do not wait.
func TestFastPath_SlowReaderLongResponse(t *testing.T) {
	t.Parallel()
	listener := newEchoListener()
	long := strings.Repeat("long ", 1<<20)
	listener.Begin = func(_ context.Context, _ string, body []byte) Response {
		if string(body) == "long" {
			return echo(long)
		}
		return echo(body)
	}
	dial := startListener(t, listener)
	client, other := dial(), dial()
	in, inOther := bufio.NewReader(client), bufio.NewReader(other)
	for range 3 {
		io.WriteString(client, plainRequest("short"))
		wantResponse(t, in, 200, "short")
		io.WriteString(client, plainRequest("long"))
		for range 5 {
			io.WriteString(other, plainRequest("other"))
			wantResponse(t, inOther, 200, "other")
		}
		_, body := readResponse(t, in)
		require.True(t, body == long, "response of %d bytes, want the %d sent", len(body), len(long))
	}
}

// TestFastPath_ConcurrentClientsPipelined runs clients that send whole, split and pipelined requests to responses that finish in any
// order. Each client must receive its responses in the order of its requests.
func TestFastPath_ConcurrentClientsPipelined(t *testing.T) {
	t.Parallel()
	listener := newEchoListener()
	pending := make(chan *pendingResponse, 1000)
	listener.Begin = func(_ context.Context, _ string, body []byte) Response {
		if len(body)%2 == 0 {
			return echo(body)
		}
		a := newPendingResponse(body)
		pending <- a
		return a
	}
	for range 3 {
		go func() {
			for a := range pending {
				a.finish(nil)
			}
		}()
	}
	defer close(pending)
	dial := startListener(t, listener)
	var clients sync.WaitGroup
	for id := range 24 {
		client, r := dial(), rand.New(rand.NewPCG(uint64(id), 1))
		clients.Go(func() {
			in := bufio.NewReader(client)
			for n := 0; n < 150; {
				var wants []string
				text := ""
				for range 1 + r.IntN(4)/3*r.IntN(3) {
					wants = append(wants, fmt.Sprintf("%d of %d%s", n, id, strings.Repeat(".", r.IntN(8))))
					text += plainRequest(wants[len(wants)-1])
					n++
				}
				for r.IntN(6) == 0 && len(text) > 40 {
					cut := 1 + r.IntN(len(text)-1)
					io.WriteString(client, text[:cut])
					text = text[cut:]
					runtime.Gosched()
				}
				io.WriteString(client, text)
				for _, want := range wants {
					wantResponse(t, in, 200, want)
				}
			}
		})
	}
	clients.Wait()
	require.NoError(t, listener.Drain(t.Context()))
}
