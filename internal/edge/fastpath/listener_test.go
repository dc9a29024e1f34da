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
)

// slow answers hold, or not, when a test says so.
type slow struct {
	mu    sync.Mutex
	then  func(error)
	body  string
	done  chan struct{}
	err   error
	asked chan struct{} // closed when somebody waits
	once  sync.Once
}

func (a *slow) Draft(to []byte) ([]byte, string, bool) {
	return append(to, a.body...), "text/plain", true
}

func (a *slow) OnDurable(f func(error)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.then = f
	a.once.Do(func() { close(a.asked) })
	return true
}

func (a *slow) Sent() {}

func (a *slow) Wait(ctx context.Context, to []byte) ([]byte, string, int) {
	a.once.Do(func() { close(a.asked) })
	select {
	case <-a.done:
	case <-ctx.Done():
		return append(to, "cut"...), "text/plain", http.StatusServiceUnavailable
	}
	if a.err != nil {
		return append(to, a.err.Error()...), "text/plain", http.StatusServiceUnavailable
	}
	return append(to, a.body...), "text/plain", http.StatusOK
}

// end makes it hold, or not.
func (a *slow) end(err error) {
	<-a.asked
	a.err = err
	close(a.done)
	a.mu.Lock()
	then := a.then
	a.mu.Unlock()
	if then != nil {
		then(err)
	}
}

// echo is an answer that is known at once: the body again.
type echo string

func (e echo) Draft(to []byte) ([]byte, string, bool) { return to, "", false }
func (e echo) OnDurable(func(error)) bool             { panic("a draft was never made") }
func (e echo) Sent()                                  { panic("a draft was never sent") }
func (e echo) Wait(_ context.Context, to []byte) ([]byte, string, int) {
	return append(to, e...), "text/plain", http.StatusOK
}

// echoing is a lane that says again what it is told.
func echoing() *Listener {
	return &Listener{Path: "/say", MaxBody: 64, Streams: "ndjson", AnswerTime: time.Minute, IdleTime: time.Minute,
		Log:   slog.New(slog.DiscardHandler),
		Begin: func(_ context.Context, _ string, body []byte) Response { return echo(body) }}
}

// listening begins to accept on an address of its own. dial is a client.
func listening(t *testing.T, l *Listener) (dial func() *net.TCPConn) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	if l.Try == nil {
		l.Try = func(ctx context.Context, who string, body []byte) Response { return l.Begin(ctx, who, body) }
	}
	l.Listen(inner)
	t.Cleanup(func() { l.Close() })
	return func() *net.TCPConn {
		conn, err := net.Dial("tcp", inner.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn.(*net.TCPConn)
	}
}

// slowly is a lane whose answers come when a test says so.
func slowly(t *testing.T) (*Listener, chan *slow, func() *net.TCPConn) {
	came, l := make(chan *slow, 100), echoing()
	l.Begin = func(_ context.Context, _ string, body []byte) Response {
		a := &slow{body: string(body), done: make(chan struct{}), asked: make(chan struct{})}
		came <- a
		return a
	}
	return l, came, listening(t, l)
}

// say is a plain request.
func say(text string) string {
	return "POST /say HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + strconv.Itoa(len(text)) + "\r\n\r\n" + text
}

func nextAnswer(t *testing.T, in *bufio.Reader) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

func wantAnswer(t *testing.T, in *bufio.Reader, status int, text string) *http.Response {
	t.Helper()
	resp, body := nextAnswer(t, in)
	require.True(t, resp.StatusCode == status && body == text, "%d %q, want %d %q", resp.StatusCode, body, status, text)
	return resp
}

// Nothing leaves before it holds, answers keep their order, and one that does not hold is said on a connection that goes on.
func TestLane_AnswersOrderedAndDurable(t *testing.T) {
	t.Parallel()
	lane, came, dial := slowly(t)
	client := dial()
	in := bufio.NewReader(client)
	for _, text := range []string{"a", "b"} {
		io.WriteString(client, say(text))
		a := <-came
		<-a.asked
		sent := false
		lane.visit(func(c *conn) { sent = len(c.free) > 0 })
		require.True(t, !sent, "the answer left before it held")
		a.end(nil)
		wantAnswer(t, in, 200, text)
	}
	io.WriteString(client, say("c"))
	(<-came).end(errors.New("no space left on device"))
	assert.True(t, !wantAnswer(t, in, 503, "no space left on device").Close, "the connection ended")
	// The second comes while the first one waits.
	io.WriteString(client, say("d"))
	first := <-came
	<-first.asked
	io.WriteString(client, say("e"))
	first.end(nil)
	(<-came).end(nil)
	// Two at once.
	io.WriteString(client, say("f")+say("g"))
	first = <-came
	<-first.asked
	assert.True(t, len(came) == 0, "the second was begun before the first was answered")
	first.end(nil)
	(<-came).end(nil)
	for _, text := range []string{"d", "e", "f", "g"} {
		wantAnswer(t, in, 200, text)
	}
}

// A stop waits for the answer that is under way; a cut does not.
func TestLaneDrain_WaitsForAnswers(t *testing.T) {
	t.Parallel()
	lane, came, dial := slowly(t)
	client := dial()
	io.WriteString(client, say("a"))
	a := <-came
	<-a.asked
	drained := make(chan error, 1)
	go func() { drained <- lane.Drain(context.Background()) }()
	for !lane.draining.Load() {
		runtime.Gosched()
	}
	a.end(nil)
	wantAnswer(t, bufio.NewReader(client), 200, "a")
	require.NoError(t, <-drained)
	// Somebody else may have the port by now, so it is not dialed.
	conn, err := lane.inner.Accept()
	assert.ErrorIs(t, err, net.ErrClosed, "after the drain it still listens: %v", conn)

	lane, came, dial = slowly(t)
	io.WriteString(dial(), say("a"))
	a = <-came
	<-a.asked
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err = lane.Drain(ended)
	require.True(t, errors.Is(err, context.Canceled), "%v", err)
	a.end(nil) // to a connection that is gone
}

// A client that does not read delays no other client: the rest of its response is sent when it reads.
func TestLane_ClientNotReading(t *testing.T) {
	t.Parallel()
	lane, came, dial := slowly(t)
	client := dial()
	io.WriteString(client, say("a"))
	a := <-came
	<-a.asked
	// The way to the client is filled up.
	filler, filled := make([]byte, 64<<10), int64(0)
	lane.visit(func(c *conn) {
		for n := len(filler); n == len(filler); {
			n = c.direct.write(filler)
			filled += int64(n)
		}
	})
	a.end(nil) // it returns, or this test does not end
	in := bufio.NewReader(client)
	n, err := io.CopyN(io.Discard, in, filled)
	require.NoErrorf(t, err, "%v", n)
	wantAnswer(t, in, 200, "a")
	// The connection goes on.
	io.WriteString(client, say("b"))
	(<-came).end(nil)
	wantAnswer(t, in, 200, "b")
}

// A scan that was begun ends also where nobody waits for the answer any more.
func TestLane_ClientDisconnects(t *testing.T) {
	t.Parallel()
	lane, came, dial := slowly(t)
	for _, err := range []error{nil, errors.New("no space left on device")} {
		client := dial()
		io.WriteString(client, say("a"))
		a := <-came
		<-a.asked
		client.SetLinger(0)
		client.Close()
		a.end(err)
	}
	require.NoError(t, lane.Drain(t.Context()))
}

// piped is a listener of connections in memory; errors are those of Accept.
type piped chan any

func (l piped) Accept() (net.Conn, error) {
	switch next := (<-l).(type) {
	case net.Conn:
		return next, nil
	case error:
		return nil, next
	}
	return nil, net.ErrClosed
}

func (l piped) Close() error { close(l); return nil }
func (piped) Addr() net.Addr { return &net.TCPAddr{} }

// Plain requests are the lane's also when they come in pieces, as long as they are there in time; others are handed over with every byte.
func TestLane_RequestInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := make(piped)
		var handed atomic.Int32
		lane := echoing()
		lane.OnHandoff = func() { handed.Add(1) }
		lane.Listen(inner)
		client, server := net.Pipe()
		defer client.Close()
		inner <- server
		in := bufio.NewReader(client)
		whole := say("abc")
		at := strings.Index(whole, "\r\n\r\n") + 4
		for _, cuts := range [][]int{{}, {at}, {7, 30, at, at + 1}, {1, 2, 3, len(whole) - 1}, {}} {
			from := 0
			for _, to := range append(cuts, len(whole)) {
				io.WriteString(client, whole[from:to])
				if from = to; to < len(whole) {
					time.Sleep(defaultReadTimeout/4 - 1)
				}
			}
			wantAnswer(t, in, 200, "abc")
			time.Sleep(time.Minute - time.Second) // nearly as long as it may be idle
		}
		n := handed.Load()
		assert.True(t, n <= 0, "%d were handed over", n)
		io.WriteString(client, whole[:at])
		other, err := lane.Accept()
		synctest.Wait()
		require.True(t, err == nil && handed.Load() == 1, "%v %v", handed.Load(), err)
		go io.WriteString(client, whole[at:])
		if got := make([]byte, len(whole)); true {
			_, err := io.ReadFull(other, got)
			assert.True(t, err == nil && string(got) == whole, "handed over: %q %v", got, err)
		}
		other.Close()

		// A client that sends nothing, at first or between two requests.
		for _, first := range []string{"", whole} {
			client, server := net.Pipe()
			inner <- server
			in, began := bufio.NewReader(client), time.Now()
			wait := firstByteTimeout
			if io.WriteString(client, first); first != "" {
				wantAnswer(t, in, 200, "abc")
				wait = time.Minute
			}
			if more, err := io.ReadAll(in); err != nil || len(more) > 0 || time.Since(began) != wait {
				t.Errorf("it ended after %v: %q %v", time.Since(began), more, err)
			}
		}
		assert.NoError(t, lane.Drain(t.Context()))
	})
}

// served lets net/http answer what is not the lane's with what it read of it.
func served(t *testing.T, l net.Listener) {
	h := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s of %d bytes: %.9s", r.Proto, r.Method, len(body), body)
		})}
	go h.Serve(l)
	t.Cleanup(func() { h.Close() })
}

func TestLane_PartialRequestHandedOver(t *testing.T) {
	t.Parallel()
	lane := echoing()
	dial := listening(t, lane)
	for _, half := range []string{"POST /sa", "POST /say HTTP/1.1\r\nHost: loc", say("abc")[:len(say("abc"))-1]} {
		client := dial()
		io.WriteString(client, half)
		client.CloseWrite()
		other, err := lane.Accept()
		require.NoError(t, err)
		got, err := io.ReadAll(other)
		assert.True(t, err == nil && string(got) == half, "%q: handed over %q, %v", half, got, err)
		other.Close()
	}
}

func TestFastPath_HandsOverNonPlainRequests(t *testing.T) {
	t.Parallel()
	lane := echoing()
	lane.KnownHost = func(host string) bool { return host == "localhost" }
	lane.Key = func(_ context.Context, key string) (string, bool) { return "", key == "right" }
	dial := listening(t, lane)
	served(t, lane)
	right := strings.Replace(say("abc"), "\r\n", "\r\nAuthorization: Bearer right\r\n", 1)
	with := func(old, new string) string { return strings.Replace(right, old, new, 1) }
	long := strings.Replace(say(strings.Repeat("x", 65)), "\r\n", "\r\nAuthorization: Bearer right\r\n", 1)
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
		"no key":            {say("abc"), "HTTP/1.1 POST of 3 bytes: abc"},
	} {
		t.Run(name, func(t *testing.T) {
			client := dial()
			in := bufio.NewReader(client)
			// Behind a plain one, and then net/http's for ever.
			io.WriteString(client, right+c.request+right)
			wantAnswer(t, in, 200, "abc")
			wantAnswer(t, in, 200, c.want)
			wantAnswer(t, in, 200, map[bool]string{true: "abc", false: "HTTP/1.1 POST of 3 bytes: abc"}[c.want == "abc"])
		})
	}
}

func TestTLS_HandshakeAndRequests(t *testing.T) {
	t.Parallel()
	lane := echoing()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	about := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	require.NoError(t, err)
	lane.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}},
		NextProtos: []string{"h2", "http/1.1"}}
	dial := listening(t, lane)
	served(t, lane)
	secure := func(protocol string) *tls.Conn {
		return tls.Client(dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}) // nothing else is on that port
	}
	client := secure("http/1.1")
	in := bufio.NewReader(client)
	io.WriteString(client, say("a"))
	wantAnswer(t, in, 200, "a")
	io.WriteString(client, say("b")+"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	wantAnswer(t, in, 200, "b")
	wantAnswer(t, in, 200, "HTTP/1.1 GET of 0 bytes: ")

	two := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		client := secure("h2")
		return client, client.Handshake()
	}}
	defer two.CloseIdleConnections()
	resp, err := (&http.Client{Transport: two}).Post("https://localhost/say", "text/plain", strings.NewReader("abc"))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	assert.True(t, err == nil && string(body) == "HTTP/2.0 POST of 3 bytes: abc", "%q %v", body, err)

	forgot := dial()
	io.WriteString(forgot, say("a"))
	got, err := io.ReadAll(forgot)
	assert.True(t, err == nil && bytes.Contains(got, []byte("HTTP request to an HTTPS server")), "without TLS: %q %v", got, err)
}

// broken is an answer that fails at one of its steps.
type broken struct {
	echo
	at string
}

func (b broken) Draft(to []byte) ([]byte, string, bool) {
	if b.at == "Draft" {
		panic("in Draft")
	}
	return append(to, b.echo...), "text/plain", b.at != "Wait"
}

func (b broken) OnDurable(f func(error)) bool {
	if b.at == "Then" {
		panic("in Then")
	}
	var err error
	if b.at == "Wait, later" {
		err = errors.New("it does not hold")
	}
	go f(err)
	return true
}

func (b broken) Sent() {
	if b.at == "Sent" {
		panic("in Sent")
	}
}

func (b broken) Wait(context.Context, []byte) ([]byte, string, int) { panic("in Wait") }

func TestFastPath_PanicClosesOneConnection(t *testing.T) {
	t.Parallel()
	var logged lockedBuffer
	lane := echoing()
	lane.Log = slog.New(slog.NewTextHandler(&logged, nil))
	lane.Begin = func(_ context.Context, _ string, body []byte) Response {
		if string(body) == "Begin" {
			panic("in Begin")
		}
		return broken{echo(body), string(body)}
	}
	dial := listening(t, lane)
	other := dial()
	for _, at := range []string{"Begin", "Draft", "Then", "Wait", "Wait, later", "Sent"} {
		client := dial()
		io.WriteString(client, say(at))
		got, err := io.ReadAll(client)
		assert.True(t, err == nil && (len(got) == 0 || at == "Sent"), "%s: %q %v", at, got, err)
		want := `panic="in ` + strings.TrimSuffix(at, ", later") + `"`
		assert.Contains(t, logged.String(), want, "the log has no %s", want)
	}
	io.WriteString(other, say("nowhere"))
	wantAnswer(t, bufio.NewReader(other), 200, "nowhere")
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tooMany is an error that passes, as net/http knows it.
type tooMany struct{ error }

func (tooMany) Timeout() bool   { return false }
func (tooMany) Temporary() bool { return true }

// Errors of Accept are net/http's: one that passes costs a pause, another one ends the listener.
func TestFastPath_AcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := make(piped)
		lane := echoing().Listen(inner)
		ended := make(chan error, 1)
		h := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		go func() { ended <- h.Serve(lane) }()
		began := time.Now()
		for range 3 {
			inner <- tooMany{errors.New("too many open files")}
		}
		client, server := net.Pipe()
		defer client.Close()
		inner <- server
		paused := time.Since(began)
		assert.True(t, paused >= 10*time.Millisecond && paused <= time.Second, "it paused for %v", paused)
		io.WriteString(client, say("a"))
		wantAnswer(t, bufio.NewReader(client), 200, "a")
		gone := errors.New("the network is gone")
		inner <- gone
		err := <-ended
		assert.True(t, err == gone, "%v", err)
	})
}

// Issue 14: a request on a connection that asked before makes nothing new.
func TestFastPath_RequestZeroAllocs(t *testing.T) {
	l := echoing()
	same := Response(echo("all the same"))
	l.Begin = func(context.Context, string, []byte) Response { return same }
	l.Key = func(_ context.Context, key string) (string, bool) { return "app", len(key) == 40 }
	conn := listening(t, l)()
	request := []byte("POST /say HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + strings.Repeat("k", 40) +
		"\r\nContent-Length: 2\r\n\r\nhi")
	answer := make([]byte, 4096)
	ask := func() {
		require.NoError(t, assert.ErrorOf(conn.Write(request)))
		n, err := conn.Read(answer)
		for err == nil && !bytes.HasSuffix(answer[:n], []byte("all the same")) {
			var more int
			more, err = conn.Read(answer[n:])
			n += more
		}
		require.NoError(t, err)
	}
	ask()
	n := testing.AllocsPerRun(2000, ask)
	assert.True(t, !(n > 0), "a request allocates %v times", n)
}
