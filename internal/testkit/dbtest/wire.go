package dbtest

import (
	"bytes"
	"net"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Wire is a proxy to a PostgreSQL server that counts round trips.
type Wire struct {
	URL string

	mu    sync.Mutex
	trips int
	conns []net.Conn
}

// NewWire starts a proxy to the server of a URL and stops it when the test ends. accept wraps each client connection; it may be nil.
func NewWire(t testing.TB, address string, accept func(net.Conn) (net.Conn, error)) *Wire {
	t.Helper()
	u := parse(address)
	target := u.Host
	l := require.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	u.Host = l.Addr().String()
	w := &Wire{URL: u.String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			if accept != nil {
				wrapped, err := accept(client)
				if err != nil {
					client.Close()
					continue
				}
				client = wrapped
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, client, server)
			w.mu.Unlock()
			requestPending := false // the client sent the last bytes
			running.Go(func() { w.forward(server, client, true, &requestPending) })
			running.Go(func() { w.forward(client, server, false, &requestPending) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.Cut()
		running.Wait()
	})
	return w
}

// readEnd is the message that ends a read-only transaction. No caller waits for its response.
var readEnd = []byte("Q\x00\x00\x00\x08END\x00")

// forward copies one direction of a connection until it ends. A round trip counts when its response arrives. The check of an idle
// connection and the end of a read-only transaction do not count.
func (w *Wire) forward(to, from net.Conn, isClient bool, requestPending *bool) {
	defer to.Close()
	b := make([]byte, 1<<16)
	for {
		n, err := from.Read(b)
		if n > 0 {
			w.mu.Lock()
			if *requestPending && !isClient {
				w.trips++
			}
			*requestPending = isClient && !bytes.Contains(b[:n], []byte("-- ping")) && !bytes.Equal(b[:n], readEnd)
			w.mu.Unlock()
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Cut closes all connections.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// Count returns the number of round trips while f runs, on all connections.
func (w *Wire) Count(f func()) int {
	w.mu.Lock()
	before := w.trips
	w.mu.Unlock()
	f()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trips - before
}
