// Package fastpath answers plain HTTP/1.1 requests on a listener; net/http answers all other requests on the same listener.
//
// A request is plain if its URL path is that of the fast path and its head uses only a small, strict subset of HTTP/1.1 (head.go). The
// first request that is not plain goes to net/http, with all bytes read so far; net/http then keeps the connection for the rest of its
// life. So only net/http defines the handling of such requests. The caller provides the content of responses (Begin, Response).
//
// An idle connection has no goroutine: the connection is parked with a loop (park.go), which answers requests that need no waiting
// (Try), and starts a goroutine for all other requests.
//
// The package handles failures as follows; the tests in brackets demonstrate each case:
//
//   - If a request stops in the middle or is slower than ReadTimeout, net/http takes over the connection with its own timeouts for heads
//     and bodies (TestLane_RequestInPieces, TestLane_PartialRequestHandedOver).
//   - If a head or body is too long, a head is not plain, or a host or key is refused, net/http writes the error response
//     (TestFastPath_HandsOverNonPlainRequests).
//   - Pipelined requests are answered in order: a request begins after the previous response (TestLane_AnswersOrderedAndDurable).
//   - The connection of a client that sends nothing is closed after IdleTime, a new connection after firstByteTimeout
//     (TestLane_RequestInPieces, TestParkedConnection_Close).
//   - If a client does not read its response, other clients do not wait for it, and its connection is closed after AnswerTime
//     (TestLane_ClientNotReading, TestFastPath_SlowReaderLongResponse).
//   - A request that has begun is completed even if its client disconnects (TestLane_ClientDisconnects).
//   - The package makes the TLS handshake within firstByteTimeout. HTTP/2 connections, and clients that send no TLS, fall back to net/http
//     (TestTLS_HandshakeAndRequests).
//   - A panic in Begin or in a Response is logged and closes only its own connection (TestFastPath_PanicClosesOneConnection).
//   - If no file descriptors are left, net/http waits and tries again, as on its own listeners (TestFastPath_AcceptErrors).
//   - During a stop, the listener accepts no connections and closes idle ones; requests that have begun are answered, and slow
//     requests fall back to net/http. When the deadline of Drain expires, the remaining connections are closed
//     (TestLaneDrain_WaitsForAnswers, TestScanFastPath_DrainHandsOverNonPlainRequest in package scanapi).
package fastpath

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Listener is a net.Listener for net/http that answers plain requests itself.
type Listener struct {
	// Path is the URL path of plain requests, which are POST requests. A request with a body longer than MaxBody, or with a
	// Content-Type that contains Streams, goes to net/http.
	Path    string
	MaxBody int
	Streams string
	// KnownHost reports whether a Host belongs to this server; nil = all hosts do. Key returns the owner of a key, or ok = false if
	// net/http must check the key; nil allows all requests.
	KnownHost func(host string) bool
	Key       func(ctx context.Context, key string) (owner string, ok bool)
	// Begin starts the response to a request with this body; Begin must not use body after it has returned.
	Begin func(ctx context.Context, owner string, body []byte) Response
	// Try does the same as Begin if no waiting is needed and the response is complete or will be signalled through OnDurable;
	// otherwise it returns nil without any effect. Without Try, idle connections keep their goroutines.
	Try func(ctx context.Context, owner string, body []byte) Response
	// TLS is the TLS configuration of the listener; nil = plain TCP.
	TLS *tls.Config
	// ReadTimeout is the maximum time for receiving the rest of a request on the fast path; 0 = one second. IdleTime is how long a
	// connection may stay without a request, and AnswerTime how long a client may take to read a response.
	ReadTimeout, IdleTime, AnswerTime time.Duration
	// OnResponse is called for each response, and OnHandoff for each connection that is handed to net/http; both may be nil.
	OnResponse, OnHandoff func()
	Log                   *slog.Logger

	requestLine   string
	inner         net.Listener
	handoffs      chan net.Conn
	acceptErrors  chan error
	closed, ended chan struct{} // the channel closed is closed when net/http stops accepting, ended when l does
	once          sync.Once

	mu           sync.Mutex
	conns        map[*conn]struct{}
	loopsStarted bool // the start of the loops was attempted
	loops        []*loop
	lastLoop     int
	draining     atomic.Bool
	running      sync.WaitGroup
	lateHandoffs sync.WaitGroup // connections handed to net/http during a drain
	cancel       context.CancelFunc
	ctx          context.Context
}

// Response is the response to one request. The last call on a Response is Sent or Wait.
type Response interface {
	// Draft appends the response that is sent in case of success; ok is false if only Wait can provide the response.
	Draft(dst []byte) (doc []byte, contentType string, ok bool)
	// OnDurable registers f, which must not block. After Draft, f is called once it is known whether the request succeeded. OnDurable
	// returns false if f will not be called.
	OnDurable(f func(error)) bool
	// Sent is called when the request has succeeded and the response from Draft is being sent.
	Sent()
	// Wait blocks until the result is known and appends the response.
	Wait(ctx context.Context, dst []byte) (doc []byte, contentType string, status int)
}

// ConnState is a connection that is notified about its requests.
type ConnState interface {
	// SetBusy notifies the connection that a request starts (true) or ends (false).
	SetBusy(busy bool)
	// Authenticated notifies the connection that a request carried a valid key.
	Authenticated()
}

// Listen starts accepting connections.
func (l *Listener) Listen(inner net.Listener) *Listener {
	l.requestLine = "POST " + l.Path + " HTTP/1.1\r\n"
	l.inner, l.handoffs, l.acceptErrors, l.conns = inner, make(chan net.Conn), make(chan error), map[*conn]struct{}{}
	l.closed, l.ended = make(chan struct{}), make(chan struct{})
	l.ctx, l.cancel = context.WithCancel(context.Background())
	go l.accept()
	return l
}

// Accept implements net.Listener: it returns the connections that net/http must serve.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.handoffs:
		return c, nil
	case err := <-l.acceptErrors:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close implements net.Listener: it stops accepting and handing over connections.
func (l *Listener) Close() error {
	err := l.inner.Close()
	l.once.Do(func() { close(l.closed) })
	if errors.Is(err, net.ErrClosed) {
		return nil // Drain has already closed the inner listener
	}
	return err
}

// Drain stops accepting, finishes running requests and closes their connections. net/http still gets slow requests: the caller must turn
// off keep-alives of net/http before, and shut it down after Drain. When ctx ends, the remaining connections are closed.
func (l *Listener) Drain(ctx context.Context) error {
	l.draining.Store(true)
	_ = l.inner.Close()
	l.visit(func(c *conn) {
		if c.idle.Load() {
			_ = c.conn.SetReadDeadline(time.Unix(1, 0))
		}
		c.unpark()
	})
	l.mu.Lock()
	for _, p := range l.loops {
		p.stop()
	}
	l.mu.Unlock()
	served, done := make(chan struct{}), make(chan struct{})
	go func() {
		<-l.ended // once l.ended is closed, no connection is accepted and nothing is added to l.running
		l.running.Wait()
		close(served)
		l.lateHandoffs.Wait()
		close(done)
	}()
	defer l.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	l.cancel()
	l.visit(func(c *conn) { _ = c.conn.Close() })
	<-served // wait for the fast path only: net/http closes the connections that it owns
	return ctx.Err()
}

func (l *Listener) visit(f func(*conn)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		f(c)
	}
}

func (l *Listener) accept() {
	defer close(l.ended)
	for {
		conn, err := l.inner.Accept()
		switch {
		case err == nil:
			l.begin(conn)
			continue
		case l.draining.Load() && errors.Is(err, net.ErrClosed):
			return // net/http still accepts handed-over connections until it is shut down
		}
		// An accept error is passed to net/http, which then stops, or calls Accept again after a pause.
		select {
		case l.acceptErrors <- err:
		case <-l.closed:
			return
		}
	}
}

func (l *Listener) begin(inner net.Conn) {
	c := newConn(l, inner)
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	l.running.Go(c.serve)
}

// handOff passes a connection to net/http, or closes the connection if net/http accepts no more.
func (l *Listener) handOff(conn net.Conn) {
	select {
	case l.handoffs <- conn:
		if l.OnHandoff != nil {
			l.OnHandoff()
		}
	case <-l.closed:
		_ = conn.Close()
	}
}

// replayConn is a connection that first returns bytes that were already read.
type replayConn struct {
	net.Conn
	reader io.Reader
	closed func()
}

func (c *replayConn) Read(b []byte) (int, error) { return c.reader.Read(b) }

func (c *replayConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

// NetConn returns the underlying connection.
func (c *replayConn) NetConn() net.Conn { return c.Conn }

// CloseWrite lets net/http half-close the connection, so that a client reads the last response before the connection ends.
func (c *replayConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
