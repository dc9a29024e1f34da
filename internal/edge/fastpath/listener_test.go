package fastpath

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// pendingResponse is a response that a test makes durable, or fails, with finish.
type pendingResponse struct {
	mu        sync.Mutex
	onDurable func(error)
	body      string
	done      chan struct{}
	err       error
	waiting   chan struct{} // closed when the listener waits for the response
	once      sync.Once
}

func newPendingResponse(body []byte) *pendingResponse {
	return &pendingResponse{body: string(body), done: make(chan struct{}), waiting: make(chan struct{})}
}

func (a *pendingResponse) Draft(to []byte) ([]byte, string, bool) {
	return append(to, a.body...), "text/plain", true
}

func (a *pendingResponse) OnDurable(f func(error)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.onDurable = f
	a.once.Do(func() { close(a.waiting) })
	return true
}

func (a *pendingResponse) Sent() {}

func (a *pendingResponse) Wait(ctx context.Context, to []byte) ([]byte, string, int) {
	a.once.Do(func() { close(a.waiting) })
	select {
	case <-a.done:
	case <-ctx.Done():
		return append(to, "canceled"...), "text/plain", http.StatusServiceUnavailable
	}
	if a.err != nil {
		return append(to, a.err.Error()...), "text/plain", http.StatusServiceUnavailable
	}
	return append(to, a.body...), "text/plain", http.StatusOK
}

// finish makes the response durable, or fails it with err.
func (a *pendingResponse) finish(err error) {
	<-a.waiting
	a.err = err
	close(a.done)
	a.mu.Lock()
	onDurable := a.onDurable
	a.mu.Unlock()
	if onDurable != nil {
		onDurable(err)
	}
}

// echo is an immediate response with the body of the request.
type echo string

func (e echo) Draft(to []byte) ([]byte, string, bool) { return to, "", false }
func (e echo) OnDurable(func(error)) bool             { panic("OnDurable without a draft") }
func (e echo) Sent()                                  { panic("Sent without a draft") }
func (e echo) Wait(_ context.Context, to []byte) ([]byte, string, int) {
	return append(to, e...), "text/plain", http.StatusOK
}

// newEchoListener returns a listener whose responses repeat the body of the request.
func newEchoListener() *Listener {
	return &Listener{Path: "/say", MaxBody: 64, Streams: "ndjson", AnswerTime: time.Minute, IdleTime: time.Minute,
		Log:   slog.New(slog.DiscardHandler),
		Begin: func(_ context.Context, _ string, body []byte) Response { return echo(body) }}
}

// startListener listens on a loopback port and returns a function that connects a client.
func startListener(t *testing.T, l *Listener) (dial func() *net.TCPConn) {
	inner := require.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	if l.Try == nil {
		l.Try = l.Begin
	}
	l.Listen(inner)
	t.Cleanup(func() { l.Close() })
	return func() *net.TCPConn {
		conn := require.Value(net.Dial("tcp", inner.Addr().String()))(t)
		t.Cleanup(func() { conn.Close() })
		return conn.(*net.TCPConn)
	}
}

// newPendingListener starts a listener whose responses a test receives from the channel and finishes.
func newPendingListener(t *testing.T) (*Listener, chan *pendingResponse, func() *net.TCPConn) {
	responses, l := make(chan *pendingResponse, 100), newEchoListener()
	l.Begin = func(_ context.Context, _ string, body []byte) Response {
		a := newPendingResponse(body)
		responses <- a
		return a
	}
	return l, responses, startListener(t, l)
}

// plainRequest returns a request that the listener handles itself.
func plainRequest(text string) string {
	return "POST /say HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + strconv.Itoa(len(text)) + "\r\n\r\n" + text
}

func readResponse(t *testing.T, in *bufio.Reader) (*http.Response, string) {
	t.Helper()
	resp := require.Value(http.ReadResponse(in, nil))(t)
	body := require.Value(io.ReadAll(resp.Body))(t)
	return resp, string(body)
}

func wantResponse(t *testing.T, in *bufio.Reader, status int, text string) *http.Response {
	t.Helper()
	resp, body := readResponse(t, in)
	require.True(t, resp.StatusCode == status && body == text, "response %d %q, want %d %q", resp.StatusCode, body, status, text)
	return resp
}

// TestLane_AnswersOrderedAndDurable verifies that no response is sent before it is durable, that responses keep the order of their
// requests, and that a failed response is a 503 that leaves the connection open.
func TestLane_AnswersOrderedAndDurable(t *testing.T) {
	t.Parallel()
	listener, responses, dial := newPendingListener(t)
	client := dial()
	in := bufio.NewReader(client)
	for _, text := range []string{"a", "b"} {
		io.WriteString(client, plainRequest(text))
		a := <-responses
		<-a.waiting
		sent := false
		listener.visit(func(c *conn) { sent = len(c.free) > 0 })
		require.True(t, !sent, "response was sent before it was durable")
		a.finish(nil)
		wantResponse(t, in, 200, text)
	}
	io.WriteString(client, plainRequest("c"))
	(<-responses).finish(errors.New("no space left on device"))
	assert.True(t, !wantResponse(t, in, 503, "no space left on device").Close, "connection closes after a 503, want keep-alive")
	// The second request arrives while the first one waits.
	io.WriteString(client, plainRequest("d"))
	first := <-responses
	<-first.waiting
	io.WriteString(client, plainRequest("e"))
	first.finish(nil)
	(<-responses).finish(nil)
	// Two requests arrive in one write.
	io.WriteString(client, plainRequest("f")+plainRequest("g"))
	first = <-responses
	<-first.waiting
	assert.True(t, len(responses) == 0, "second request began before the first response was sent")
	first.finish(nil)
	(<-responses).finish(nil)
	for _, text := range []string{"d", "e", "f", "g"} {
		wantResponse(t, in, 200, text)
	}
}

// TestLaneDrain_WaitsForAnswers verifies that Drain waits for a pending response and closes the listener, and that it returns when its
// context is canceled.
func TestLaneDrain_WaitsForAnswers(t *testing.T) {
	t.Parallel()
	listener, responses, dial := newPendingListener(t)
	client := dial()
	io.WriteString(client, plainRequest("a"))
	a := <-responses
	<-a.waiting
	drained := make(chan error, 1)
	go func() { drained <- listener.Drain(context.Background()) }()
	for !listener.draining.Load() {
		runtime.Gosched()
	}
	a.finish(nil)
	wantResponse(t, bufio.NewReader(client), 200, "a")
	require.NoError(t, <-drained)
	// The port is not dialed because another process may have it by now.
	conn, err := listener.inner.Accept()
	assert.ErrorIs(t, err, net.ErrClosed, "Accept after Drain: %v", conn)

	listener, responses, dial = newPendingListener(t)
	io.WriteString(dial(), plainRequest("a"))
	a = <-responses
	<-a.waiting
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	err = listener.Drain(canceled)
	require.ErrorIs(t, err, context.Canceled, "Drain")
	a.finish(nil) // for a closed connection
}

// TestLane_ClientNotReading verifies that finishing a response does not block on a client that does not read, and that the rest of the
// response is sent when the client reads.
func TestLane_ClientNotReading(t *testing.T) {
	t.Parallel()
	listener, responses, dial := newPendingListener(t)
	client := dial()
	io.WriteString(client, plainRequest("a"))
	a := <-responses
	<-a.waiting
	// Fill the send buffer.
	filler, filled := make([]byte, 64<<10), int64(0)
	listener.visit(func(c *conn) {
		for n := len(filler); n == len(filler); {
			n = c.direct.write(filler)
			filled += int64(n)
		}
	})
	a.finish(nil) // blocks if the listener writes synchronously
	in := bufio.NewReader(client)
	n, err := io.CopyN(io.Discard, in, filled)
	require.NoErrorf(t, err, "filler: read %d of %d bytes", n, filled)
	wantResponse(t, in, 200, "a")
	// The connection stays usable.
	io.WriteString(client, plainRequest("b"))
	(<-responses).finish(nil)
	wantResponse(t, in, 200, "b")
}

// TestLane_ClientDisconnects verifies that a request whose client has closed the connection still completes, so that Drain returns.
func TestLane_ClientDisconnects(t *testing.T) {
	t.Parallel()
	listener, responses, dial := newPendingListener(t)
	for _, err := range []error{nil, errors.New("no space left on device")} {
		client := dial()
		io.WriteString(client, plainRequest("a"))
		a := <-responses
		<-a.waiting
		client.SetLinger(0)
		client.Close()
		a.finish(err)
	}
	require.NoError(t, listener.Drain(t.Context()))
}

// memListener is a listener of in-memory connections: Accept returns the net.Conn or error that is sent to it.
type memListener chan any

func (l memListener) Accept() (net.Conn, error) {
	switch next := (<-l).(type) {
	case net.Conn:
		return next, nil
	case error:
		return nil, next
	}
	return nil, net.ErrClosed
}

func (l memListener) Close() error { close(l); return nil }
func (memListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestLane_RequestInPieces verifies that the listener handles a plain request that arrives in pieces within ReadTimeout, hands an
// incomplete one to net/http with all of its bytes, and closes idle connections.
func TestLane_RequestInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := make(memListener)
		var handoffs atomic.Int32
		listener := newEchoListener()
		listener.OnHandoff = func() { handoffs.Add(1) }
		listener.Listen(inner)
		client, server := net.Pipe()
		defer client.Close()
		inner <- server
		in := bufio.NewReader(client)
		request := plainRequest("abc")
		headEnd := strings.Index(request, "\r\n\r\n") + 4
		for _, cuts := range [][]int{{}, {headEnd}, {7, 30, headEnd, headEnd + 1}, {1, 2, 3, len(request) - 1}, {}} {
			from := 0
			for _, to := range append(cuts, len(request)) {
				io.WriteString(client, request[from:to])
				if from = to; to < len(request) {
					time.Sleep(defaultReadTimeout/4 - 1)
				}
			}
			wantResponse(t, in, 200, "abc")
			time.Sleep(time.Minute - time.Second) // just below IdleTime
		}
		assert.Equal(t, handoffs.Load(), 0, "requests handed to net/http")
		io.WriteString(client, request[:headEnd])
		other, err := listener.Accept()
		synctest.Wait()
		require.True(t, err == nil && handoffs.Load() == 1, "Accept after half a request: %v, %d handoffs, want 1", err, handoffs.Load())
		go io.WriteString(client, request[headEnd:])
		got := make([]byte, len(request))
		_, err = io.ReadFull(other, got)
		assert.True(t, err == nil && string(got) == request, "handed over %q, %v, want the whole request", got, err)
		other.Close()

		// A client that sends nothing, initially or after a request.
		for _, first := range []string{"", request} {
			client, server := net.Pipe()
			inner <- server
			in, start := bufio.NewReader(client), time.Now()
			wait := firstByteTimeout
			if io.WriteString(client, first); first != "" {
				wantResponse(t, in, 200, "abc")
				wait = time.Minute
			}
			if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 || time.Since(start) != wait {
				t.Errorf("connection closed after %v with %q, %v, want after %v with nothing", time.Since(start), rest, err, wait)
			}
		}
		assert.NoError(t, listener.Drain(t.Context()))
	})
}

// serveNetHTTP serves the connections that l hands over with responses that describe the request.
func serveNetHTTP(t *testing.T, l net.Listener) {
	h := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s of %d bytes: %.9s", r.Proto, r.Method, len(body), body)
		})}
	go h.Serve(l)
	t.Cleanup(func() { h.Close() })
}

// TestLane_PartialRequestHandedOver verifies that a request cut off by the client is handed over with all of its bytes.
func TestLane_PartialRequestHandedOver(t *testing.T) {
	t.Parallel()
	listener := newEchoListener()
	dial := startListener(t, listener)
	for _, half := range []string{"POST /sa", "POST /say HTTP/1.1\r\nHost: loc", plainRequest("abc")[:len(plainRequest("abc"))-1]} {
		client := dial()
		io.WriteString(client, half)
		client.CloseWrite()
		conn := require.Value(listener.Accept())(t)
		got, err := io.ReadAll(conn)
		assert.True(t, err == nil && string(got) == half, "handed over %q, %v, want %q", got, err, half)
		conn.Close()
	}
}

// TestFastPath_HandsOverNonPlainRequests verifies for each kind of request whether the listener or net/http responds, and that a
// connection that was handed over stays with net/http.
func TestFastPath_HandsOverNonPlainRequests(t *testing.T) {
	t.Parallel()
	listener := newEchoListener()
	listener.KnownHost = func(host string) bool { return host == "localhost" }
	listener.Key = func(_ context.Context, key string) (string, bool) { return "", key == "right" }
	dial := startListener(t, listener)
	serveNetHTTP(t, listener)
	right := strings.Replace(plainRequest("abc"), "\r\n", "\r\nAuthorization: Bearer right\r\n", 1)
	with := func(old, new string) string { return strings.Replace(right, old, new, 1) }
	long := strings.Replace(plainRequest(strings.Repeat("x", 65)), "\r\n", "\r\nAuthorization: Bearer right\r\n", 1)
	for name, c := range map[string]struct{ request, want string }{
		"a plain request": {right, "abc"},
		"another method":  {"GET /say HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 GET of 0 bytes: "},
		"another path":    {with("/say", "/sing"), "HTTP/1.1 POST of 3 bytes: abc"},
		"a long body":     {long, "HTTP/1.1 POST of 65 bytes: xxxxxxxxx"},
		"a long head":     {with("\r\n", "\r\nX-A: "+strings.Repeat("a", 10*maxHead)+"\r\n"), "HTTP/1.1 POST of 3 bytes: abc"},
		"chunks": {with("Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
			"HTTP/1.1 POST of 3 bytes: abc"},
		"a stream":          {with("\r\n", "\r\nContent-Type: application/x-NDJSON\r\n"), "HTTP/1.1 POST of 3 bytes: abc"},
		"another host":      {with("localhost", "elsewhere"), "HTTP/1.1 POST of 3 bytes: abc"},
		"a key that is not": {with("right", "wrong"), "HTTP/1.1 POST of 3 bytes: abc"},
		"no key":            {plainRequest("abc"), "HTTP/1.1 POST of 3 bytes: abc"},
	} {
		t.Run(name, func(t *testing.T) {
			client := dial()
			in := bufio.NewReader(client)
			// The first request is plain; the third is net/http's if the second was handed over.
			io.WriteString(client, right+c.request+right)
			wantResponse(t, in, 200, "abc")
			wantResponse(t, in, 200, c.want)
			wantResponse(t, in, 200, map[bool]string{true: "abc", false: "HTTP/1.1 POST of 3 bytes: abc"}[c.want == "abc"])
		})
	}
}

func TestTLS_HandshakeAndRequests(t *testing.T) {
	t.Parallel()
	listener := newEchoListener()
	key := require.Value(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	certificate := require.Value(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
	listener.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}},
		NextProtos: []string{"h2", "http/1.1"}}
	dial := startListener(t, listener)
	serveNetHTTP(t, listener)
	secure := func(protocol string) *tls.Conn {
		return tls.Client(dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}) // the port is this test's
	}
	client := secure("http/1.1")
	in := bufio.NewReader(client)
	io.WriteString(client, plainRequest("a"))
	wantResponse(t, in, 200, "a")
	io.WriteString(client, plainRequest("b")+"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	wantResponse(t, in, 200, "b")
	wantResponse(t, in, 200, "HTTP/1.1 GET of 0 bytes: ")

	http2 := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		client := secure("h2")
		return client, client.Handshake()
	}}
	defer http2.CloseIdleConnections()
	resp := require.Value((&http.Client{Transport: http2}).Post("https://localhost/say", "text/plain", strings.NewReader("abc")))(t)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	assert.True(t, err == nil && string(body) == "HTTP/2.0 POST of 3 bytes: abc", "response over HTTP/2 = %q, %v", body, err)

	unencrypted := dial()
	io.WriteString(unencrypted, plainRequest("a"))
	got, err := io.ReadAll(unencrypted)
	assert.True(t, err == nil && bytes.Contains(got, []byte("HTTP request to an HTTPS server")), "without TLS: %q %v", got, err)
}

// panickingResponse is a response that panics in one of its steps.
type panickingResponse struct {
	echo
	step string
}

func (b panickingResponse) Draft(to []byte) ([]byte, string, bool) {
	if b.step == "Draft" {
		panic("in Draft")
	}
	return append(to, b.echo...), "text/plain", b.step != "Wait"
}

func (b panickingResponse) OnDurable(f func(error)) bool {
	if b.step == "OnDurable" {
		panic("in OnDurable")
	}
	var err error
	if b.step == "Wait, later" {
		err = errors.New("not durable")
	}
	go f(err)
	return true
}

func (b panickingResponse) Sent() {
	if b.step == "Sent" {
		panic("in Sent")
	}
}

func (b panickingResponse) Wait(context.Context, []byte) ([]byte, string, int) { panic("in Wait") }

// TestFastPath_PanicClosesOneConnection verifies that a panic in any step of a response is logged and closes only its connection.
func TestFastPath_PanicClosesOneConnection(t *testing.T) {
	t.Parallel()
	var logged testdiag.Buffer
	listener := newEchoListener()
	listener.Log = slog.New(slog.NewTextHandler(&logged, nil))
	listener.Begin = func(_ context.Context, _ string, body []byte) Response {
		if string(body) == "Begin" {
			panic("in Begin")
		}
		return panickingResponse{echo(body), string(body)}
	}
	dial := startListener(t, listener)
	other := dial()
	for _, step := range []string{"Begin", "Draft", "OnDurable", "Wait", "Wait, later", "Sent"} {
		client := dial()
		io.WriteString(client, plainRequest(step))
		got, err := io.ReadAll(client)
		assert.True(t, err == nil && (len(got) == 0 || step == "Sent"), "panic in %s: response %q, %v, want the end", step, got, err)
		assert.Contains(t, logged.String(), `panic="in `+strings.TrimSuffix(step, ", later")+`"`, "log")
	}
	io.WriteString(other, plainRequest("nowhere"))
	wantResponse(t, bufio.NewReader(other), 200, "nowhere")
}

// temporaryError is a temporary error of Accept, as net/http recognizes it.
type temporaryError struct{ error }

func (temporaryError) Timeout() bool   { return false }
func (temporaryError) Temporary() bool { return true }

// TestFastPath_AcceptErrors verifies that temporary errors of Accept delay the next one and that other errors end Serve, as in net/http.
func TestFastPath_AcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := make(memListener)
		listener := newEchoListener().Listen(inner)
		served := make(chan error, 1)
		h := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		go func() { served <- h.Serve(listener) }()
		start := time.Now()
		for range 3 {
			inner <- temporaryError{errors.New("too many open files")}
		}
		client, server := net.Pipe()
		defer client.Close()
		inner <- server
		paused := time.Since(start)
		assert.True(t, paused >= 10*time.Millisecond && paused <= time.Second,
			"three temporary errors paused for %v, want 10 ms to 1 s", paused)
		io.WriteString(client, plainRequest("a"))
		wantResponse(t, bufio.NewReader(client), 200, "a")
		permanent := errors.New("network is down")
		inner <- permanent
		assert.ErrorIs(t, <-served, permanent, "Serve")
	})
}

// TestFastPath_RequestZeroAllocs verifies that a further request on a connection allocates nothing.
func TestFastPath_RequestZeroAllocs(t *testing.T) {
	l := newEchoListener()
	response := Response(echo("all the same"))
	l.Begin = func(context.Context, string, []byte) Response { return response }
	l.Key = func(_ context.Context, key string) (string, bool) { return "app", len(key) == 40 }
	conn := startListener(t, l)()
	request := []byte("POST /say HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + strings.Repeat("k", 40) +
		"\r\nContent-Length: 2\r\n\r\nhi")
	buffer := make([]byte, 4096)
	roundTrip := func() {
		require.NoError(t, assert.ErrorOf(conn.Write(request)))
		n, err := conn.Read(buffer)
		for err == nil && !bytes.HasSuffix(buffer[:n], []byte("all the same")) {
			var more int
			more, err = conn.Read(buffer[n:])
			n += more
		}
		require.NoError(t, err)
	}
	roundTrip()
	assert.Equal(t, testing.AllocsPerRun(2000, roundTrip), 0, "allocations of a request")
}
