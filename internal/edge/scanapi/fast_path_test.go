package scanapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// readCounter returns the value of a counter in /metrics.
func readCounter(t *testing.T, s *servertest.Server, name string) string {
	t.Helper()
	metrics := s.Do("GET", "/metrics", "", "Authorization: Bearer "+servertest.AdminToken).Body
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(metrics)
	require.True(t, found != nil, "/metrics has no counter %s", name)
	return found[1]
}

func dial(t *testing.T, s *servertest.Server) net.Conn {
	t.Helper()
	conn := require.Value(net.Dial("tcp", strings.TrimPrefix(s.ScanURL, "http://")))(t)
	t.Cleanup(func() { conn.Close() })
	return conn
}

var volatileParts = regexp.MustCompile(`"scan_id":"[0-9a-f]{32}"|scancode_time=\d+`)

// exchange sends raw bytes and returns the responses: status, headers without the date, bodies with volatile parts replaced, and whether
// the connection is closed.
func exchange(t *testing.T, s *servertest.Server, raw string) string {
	t.Helper()
	conn := dial(t, s)
	defer conn.Close()
	go func() { // the server may close before it has read everything
		_, _ = io.WriteString(conn, raw)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	var responses strings.Builder
	for in := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(in, &http.Request{Method: "POST"})
		if err != nil {
			return responses.String()
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			fmt.Fprintf(&responses, "truncated body: %v\n", err)
		}
		if date := resp.Header.Get("Date"); resp.StatusCode == 200 {
			assert.NoErrorf(t, assert.ErrorOf(http.ParseTime(date)), "Date: %q", date)
		}
		resp.Header.Del("Date")
		resp.Header.Del("Content-Length") // net/http sends longer responses in chunks
		fmt.Fprintf(&responses, "%d close=%v %v %s\n", resp.StatusCode, resp.Close, resp.Header,
			volatileParts.ReplaceAllString(string(body), "~"))
	}
}

// TestScanFastPath_PlainRequests verifies that the fast path serves plain requests on one connection. For requests in pieces see
// TestLane_RequestInPieces.
func TestScanFastPath_PlainRequests(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: townSeed, ScanListener: true})
	conn := dial(t, s)
	in := bufio.NewReader(conn)
	for n := range 4 {
		_, err := io.WriteString(conn, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nUser-Agent: app/1\r\nAccept: */*\r\n"+
			"Content-Type: application/json\r\nContent-Length: 35\r\n\r\n"+`{"text":"https://shop.example/t/7"}`)
		require.NoError(t, err)
		resp, err := http.ReadResponse(in, nil)
		require.NoErrorf(t, err, "response %d", n)
		answer, err := io.ReadAll(resp.Body)
		require.True(t, err == nil && resp.StatusCode == 200 && strings.Contains(string(answer), `"appid":"shop"`) &&
			resp.Header.Get("Content-Type") == "application/json" && resp.Header.Get("Cache-Control") == "no-store",
			"response %d = %d %v %s, %v", n, resp.StatusCode, resp.Header, answer, err)
	}
	assert.Equal(t, readCounter(t, s, "qrjump_scan_fastpath_requests_total"), "4", "requests served by the fast path")
	assert.Equal(t, readCounter(t, s, "qrjump_scan_fastpath_fallbacks_total"), "0", "requests handed to net/http")
}

// TestScanListener_SlowBodyTimeout verifies that a request with a stalled body receives 408, after which the connection is closed.
func TestScanListener_SlowBodyTimeout(t *testing.T) {
	onBothListeners(t, func(t *testing.T, dedicated bool) {
		s := servertest.Start(t, servertest.Options{Seed: townSeed, ScanListener: dedicated, BodyTimeout: 50 * time.Millisecond})
		conn := dial(t, s)
		io.WriteString(conn, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 35\r\n\r\n{")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.True(t, err == nil && resp.StatusCode == 408 && resp.Close, "response %+v, %v, want 408 with close", resp, err)
	})
}

// TestScanStream_StalledBodyClosesConnection verifies that a stream with a stalled body closes its connection, so that later bytes of the
// body are not served as a smuggled request.
func TestScanStream_StalledBodyClosesConnection(t *testing.T) {
	const (
		line     = `{"text":"1"}` + "\n"
		half     = `{"text":"2`
		smuggled = "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Length: 12\r\n\r\n" +
			`{"text":"x"}`
	)
	fixedLength := func(sent string) (string, string) {
		return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(sent)+len(smuggled), sent), smuggled
	}
	chunked := func(sent string) (string, string) {
		if sent != "" {
			sent = fmt.Sprintf("%x\r\n%s\r\n", len(sent), sent)
		}
		return "Transfer-Encoding: chunked\r\n\r\n" + sent, smuggled
	}
	for _, c := range []struct {
		name    string
		body    func(sent string) (now, later string)
		sent    string
		answers int
	}{
		{"a length, nothing", fixedLength, "", 0},
		{"a length, half a line", fixedLength, half, 0},
		{"a length, a line and a half", fixedLength, line + half, 1},
		{"chunks, nothing", chunked, "", 0},
		{"chunks, half a line", chunked, half, 0},
		{"chunks, a line and a half", chunked, line + half, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBothListeners(t, func(t *testing.T, dedicated bool) {
				s := servertest.Start(t, servertest.Options{Seed: townSeed, ScanListener: dedicated, BodyTimeout: 50 * time.Millisecond})
				conn := dial(t, s)
				now, later := c.body(c.sent)
				io.WriteString(conn, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"+now)
				in := bufio.NewReader(conn)
				resp := require.Value(http.ReadResponse(in, nil))(t)
				answer, err := io.ReadAll(resp.Body)
				// The timeout may expire before the first line is read.
				answered := strings.Count(string(answer), "\n")
				if resp.StatusCode == 408 && resp.Close && err == nil {
					answered = 0
				} else if c.answers == 0 || resp.StatusCode != 200 || answered != c.answers || err != io.ErrUnexpectedEOF {
					t.Errorf("response %d close=%v %s, %v, want %d lines and an unexpected EOF", resp.StatusCode, resp.Close, answer, err,
						c.answers)
				}
				io.WriteString(conn, later) // the connection may be closed already
				_ = conn.(*net.TCPConn).CloseWrite()
				rest, _ := io.ReadAll(in)
				assert.Equal(t, string(rest), "", "response to the rest of the body")
				assert.Equal(t, readCounter(t, s, `qrjump_scans_total{action="show_text"}`), strconv.Itoa(answered), "counted scans")
			})
		})
	}
}

// TestScanStream_Interleaved verifies that each line of a stream is answered before the client sends the next one.
func TestScanStream_Interleaved(t *testing.T) {
	onBothListeners(t, func(t *testing.T, dedicated bool) {
		s := servertest.Start(t, servertest.Options{Seed: townSeed, ScanListener: dedicated})
		body, send := io.Pipe()
		r := s.Request("POST", "/scan/v1/resolve", "", "Content-Type: application/x-ndjson")
		r.Body = body
		first := make(chan struct{})
		go func() { defer close(first); io.WriteString(send, "{\"text\":\"0\"}\n") }()
		resp := require.Value(http.DefaultTransport.RoundTrip(r))(t)
		defer resp.Body.Close()
		in := bufio.NewReader(resp.Body)
		for n := range 5 {
			line, err := in.ReadString('\n')
			require.True(t, err == nil && strings.Contains(line, fmt.Sprintf(`"text":"%d"`, n)), "answer %d: %q %v", n, line, err)
			fmt.Fprintf(send, "{\"text\":\"%d\"}\n", n+1)
		}
		send.Close()
		<-first
	})
}

// TestScanFastPath_Drain verifies that a stop closes idle connections and completes running scans.
func TestScanFastPath_Drain(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: townSeed, ScanListener: true})
	idle, half := dial(t, s), dial(t, s)
	sendPartialRequest(t, idle, "")
	responses := sendPartialRequest(t, half, scanHead+`{"text"`)
	var stopping sync.WaitGroup
	stopping.Go(s.Stop)
	rest, err := io.ReadAll(idle)
	assert.True(t, len(rest) == 0 && err == nil, "idle connection after the stop: %q, %v, want EOF", rest, err)
	io.WriteString(half, `:"x"}`)
	resp, err := http.ReadResponse(responses, nil)
	assert.True(t, err == nil && resp.StatusCode == 200 && resp.Close,
		"response to the running scan: %+v, %v, want 200 with close", resp, err)
	stopping.Wait()
}

// scanHead is the head of a request with a body of 12 bytes.
const scanHead = "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n"

// sendPartialRequest sends a complete request and the beginning of another in one write. It returns after the response to the first, when
// the server has read both.
func sendPartialRequest(t *testing.T, conn net.Conn, beginning string) (responses *bufio.Reader) {
	t.Helper()
	io.WriteString(conn, scanHead+`{"text":"x"}`+beginning)
	responses = bufio.NewReader(conn)
	resp, err := http.ReadResponse(responses, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	require.True(t, err == nil && resp.StatusCode == 200, "response %v, %v, want 200", resp, err)
	return responses
}

// TestScanFastPath_DrainHandsOverNonPlainRequest verifies that a request that is not plain is served while the server stops.
func TestScanFastPath_DrainHandsOverNonPlainRequest(t *testing.T) {
	t.Parallel()
	// Long timeouts, because net/http drops half a head on shutdown if the connection is handed over before the drain begins.
	s := servertest.Start(t, servertest.Options{Seed: townSeed, ScanListener: true, FastPathTimeout: time.Hour, BodyTimeout: time.Hour})
	idle, half := dial(t, s), dial(t, s)
	sendPartialRequest(t, idle, "")
	responses := sendPartialRequest(t, half, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n")
	var stopping sync.WaitGroup
	stopping.Go(s.Stop)
	io.Copy(io.Discard, idle) // EOF: the drain has begun
	io.WriteString(half, "Transfer-Encoding: chunked\r\n\r\nc\r\n"+`{"text":"x"}`+"\r\n0\r\n\r\n")
	resp, err := http.ReadResponse(responses, nil)
	assert.True(t, err == nil && resp.StatusCode == 200, "response to the chunked scan: %+v, %v, want 200", resp, err)
	stopping.Wait()
}

// TestScanListener_SlowClientDuringDrain verifies that the other listeners refuse connections during a drain while a slow client of the
// scan listener is still served.
func TestScanListener_SlowClientDuringDrain(t *testing.T) {
	t.Parallel()
	// The account distinguishes this server from one that reuses its port.
	s := servertest.Start(t, servertest.Options{Seed: strings.ReplaceAll(townSeed, "rival", "slowpoke"), ScanListener: true})
	slow := dial(t, s)
	responses := sendPartialRequest(t, slow, scanHead+`{"text"`)
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.Stop() }()
	for refused := false; !refused; runtime.Gosched() {
		select {
		case <-stopped:
			t.Fatal("server accepted connections until it stopped, want refused while the slow scan runs")
		default:
		}
		a, err := s.TrySend(s.Request("GET", "/admin/v1/accounts/slowpoke", "", "Authorization: Bearer "+servertest.AdminToken))
		refused = err != nil || a.Status != http.StatusOK
	}
	io.WriteString(slow, `:"x"}`)
	resp, err := http.ReadResponse(responses, nil)
	assert.True(t, err == nil && resp.StatusCode == 200, "response to the slow scan: %+v, %v, want 200", resp, err)
	<-stopped
}
