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

// counter is a counter of /metrics.
func counter(t *testing.T, s *servertest.Server, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) +
		` (\S+)$`).FindStringSubmatch(s.Do("GET", "/metrics", "", "Authorization: Bearer "+servertest.AdminToken).Body)
	require.True(t, found != nil, "no counter %s", name)
	return found[1]
}

func dial(t *testing.T, s *servertest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.ScanURL, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

var changing = regexp.MustCompile(`"scan_id":"[0-9a-f]{32}"|scancode_time=\d+`)

// told is what comes back: status, headers without the date, body without what
// differs from scan to scan, and whether the connection stays open.
func told(t *testing.T, s *servertest.Server, raw string) string {
	t.Helper()
	conn := dial(t, s)
	defer conn.Close()
	go func() { // the server may close before it read everything
		_, _ = io.WriteString(conn, raw)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	var all strings.Builder
	for in := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(in, &http.Request{Method: "POST"})
		if err != nil {
			return all.String()
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			fmt.Fprintf(&all, "the body ended early: %v\n", err)
		}
		if date := resp.Header.Get("Date"); resp.StatusCode == 200 {
			assert.NoErrorf(t, assert.ErrorOf(http.ParseTime(date)), "Date: %q", date)
		}
		resp.Header.Del("Date")
		resp.Header.Del("Content-Length") // longer answers of net/http come in chunks
		fmt.Fprintf(&all, "%d close=%v %v %s\n", resp.StatusCode, resp.Close, resp.Header, changing.ReplaceAllString(string(body), "~"))
	}
}

// Plain requests are answered by the lane, on one connection. Those that come in pieces: TestLane_RequestInPieces.
func TestScanFastPath_PlainRequests(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: scanTown, ScanListener: true})
	conn := dial(t, s)
	in := bufio.NewReader(conn)
	for n := range 4 {
		_, err := io.WriteString(conn, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nUser-Agent: app/1\r\nAccept: */*\r\n"+
			"Content-Type: application/json\r\nContent-Length: 35\r\n\r\n"+`{"text":"https://shop.example/t/7"}`)
		require.NoError(t, err)
		resp, err := http.ReadResponse(in, nil)
		require.NoErrorf(t, err, "%v", n)
		answer, err := io.ReadAll(resp.Body)
		require.True(t, err == nil && resp.StatusCode == 200 && strings.Contains(string(answer), `"appid":"shop"`) &&
			resp.Header.Get("Content-Type") == "application/json" && resp.Header.Get("Cache-Control") == "no-store",
			"%d: %d %v %s %v", n, resp.StatusCode, resp.Header, answer, err)
	}
	answered, handed := counter(t, s, "qrjump_scan_fastpath_requests_total"),
		counter(t, s, "qrjump_scan_fastpath_fallbacks_total")
	assert.True(t, answered == "4" && handed == "0", "answered %s, handed %s", answered, handed)
}

// A slow request goes to net/http, which bounds it: an answer 408, then the end.
func TestScanListener_SlowBodyTimeout(t *testing.T) {
	onBoth(t, func(t *testing.T, own bool) {
		s := servertest.Start(t, servertest.Options{Seed: scanTown, ScanListener: own, BodyTimeout: 50 * time.Millisecond})
		conn := dial(t, s)
		io.WriteString(conn, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 35\r\n\r\n{")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.True(t, err == nil && resp.StatusCode == 408 && resp.Close, "%+v %v", resp, err)
	})
}

// A stream whose body stands still ends its connection: whatever comes of that body later is no request. Issue 12, 5.
func TestScanStream_StalledBodyClosesConnection(t *testing.T) {
	const (
		line     = `{"text":"1"}` + "\n"
		half     = `{"text":"2`
		smuggled = "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Length: 12\r\n\r\n" +
			`{"text":"x"}`
	)
	length := func(sent string) (string, string) {
		return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(sent)+len(smuggled), sent), smuggled
	}
	chunks := func(sent string) (string, string) {
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
		{"a length, nothing", length, "", 0},
		{"a length, half a line", length, half, 0},
		{"a length, a line and a half", length, line + half, 1},
		{"chunks, nothing", chunks, "", 0},
		{"chunks, half a line", chunks, half, 0},
		{"chunks, a line and a half", chunks, line + half, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, own bool) {
				s := servertest.Start(t, servertest.Options{Seed: scanTown, ScanListener: own, BodyTimeout: 50 * time.Millisecond})
				conn := dial(t, s)
				now, later := c.body(c.sent)
				io.WriteString(conn, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"+now)
				in := bufio.NewReader(conn)
				resp, err := http.ReadResponse(in, nil)
				require.NoError(t, err)
				answer, err := io.ReadAll(resp.Body)
				// The time may be over before the first line is read.
				answered := strings.Count(string(answer), "\n")
				if late := resp.StatusCode == 408 && resp.Close && err == nil; late {
					answered = 0
				} else if c.answers == 0 || resp.StatusCode != 200 || answered != c.answers || err != io.ErrUnexpectedEOF {
					t.Errorf("of %d lines: %d close=%v %s %v", c.answers, resp.StatusCode, resp.Close, answer, err)
				}
				io.WriteString(conn, later) // the server may be gone already
				_ = conn.(*net.TCPConn).CloseWrite()
				more, _ := io.ReadAll(in)
				assert.True(t, len(more) == 0, "what came later of the body was answered: %s", more)
				assert.Equal(t, counter(t, s, `qrjump_scans_total{action="show_text"}`), strconv.Itoa(answered), "scans were counted")
			})
		})
	}
}

// One line is answered before the next is sent, on both listeners.
func TestScanStream_Interleaved(t *testing.T) {
	onBoth(t, func(t *testing.T, own bool) {
		s := servertest.Start(t, servertest.Options{Seed: scanTown, ScanListener: own})
		body, send := io.Pipe()
		r := s.Request("POST", "/scan/v1/resolve", "", "Content-Type: application/x-ndjson")
		r.Body = body
		first := make(chan struct{})
		go func() { defer close(first); io.WriteString(send, "{\"text\":\"0\"}\n") }()
		resp, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
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

// A stop lets the scans that run end and closes idle connections. That it listens no more: TestADrainWaitsForTheDisk.
func TestScanFastPath_Drain(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: scanTown, ScanListener: true})
	idle, half := dial(t, s), dial(t, s)
	ask := "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n"
	io.WriteString(idle, ask+`{"text":"x"}`)
	if resp, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	answers := begun(t, half, ask+`{"text"`)
	var stopped sync.WaitGroup
	stopped.Go(s.Stop)
	rest, err := io.ReadAll(idle)
	assert.True(t, len(rest) == 0 && err == nil, "the idle connection: %q %v", rest, err)
	io.WriteString(half, `:"x"}`)
	resp, err := http.ReadResponse(answers, nil)
	assert.True(t, err == nil && resp.StatusCode == 200 && resp.Close, "the running scan: %+v %v", resp, err)
	stopped.Wait()
}

// begun sends the beginning of a request, and returns when the server has read it:
// it comes in one piece with a whole request, whose answer is there.
func begun(t *testing.T, conn net.Conn, beginning string) (answers *bufio.Reader) {
	t.Helper()
	io.WriteString(conn, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n"+`{"text":"x"}`+beginning)
	answers = bufio.NewReader(conn)
	resp, err := http.ReadResponse(answers, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	require.True(t, err == nil && resp.StatusCode == 200, "%v %v", resp, err)
	return answers
}

// A request that is not plain is still answered while the server stops.
func TestScanFastPath_DrainHandsOverNonPlainRequest(t *testing.T) {
	t.Parallel()
	// A connection that is handed over before the drain begins is net/http's alone, which drops half a head when it is shut down.
	s := servertest.Start(t, servertest.Options{Seed: scanTown, ScanListener: true, LanePatience: time.Hour, BodyTimeout: time.Hour})
	idle, half := dial(t, s), dial(t, s)
	io.WriteString(idle, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n"+`{"text":"x"}`)
	if resp, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	answers := begun(t, half, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n")
	var stopped sync.WaitGroup
	stopped.Go(s.Stop)
	io.Copy(io.Discard, idle) // closed: the drain began
	io.WriteString(half, "Transfer-Encoding: chunked\r\n\r\nc\r\n"+`{"text":"x"}`+"\r\n0\r\n\r\n")
	resp, err := http.ReadResponse(answers, nil)
	assert.True(t, err == nil && resp.StatusCode == 200, "the scan in chunks: %+v %v", resp, err)
	stopped.Wait()
}

// A slow client of the scan listener costs the other listeners nothing of their drain: they refuse who comes while it is still answered.
func TestScanListener_SlowClientDuringDrain(t *testing.T) {
	t.Parallel()
	// By this name it is known: who has the port later is somebody else.
	s := servertest.Start(t, servertest.Options{Seed: strings.ReplaceAll(scanTown, "rival", "slowpoke"), ScanListener: true})
	slow := dial(t, s)
	answers := begun(t, slow, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n"+`{"text"`)
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.Stop() }()
	for refused := false; !refused; runtime.Gosched() {
		select {
		case <-stopped:
			t.Fatal("it listened until the slow scan was cut")
		default:
		}
		a, err := s.TrySend(s.Request("GET", "/admin/v1/accounts/slowpoke", "", "Authorization: Bearer "+servertest.AdminToken))
		refused = err != nil || a.Status != http.StatusOK
	}
	io.WriteString(slow, `:"x"}`)
	resp, err := http.ReadResponse(answers, nil)
	assert.True(t, err == nil && resp.StatusCode == 200, "the slow scan: %+v %v", resp, err)
	<-stopped
}
