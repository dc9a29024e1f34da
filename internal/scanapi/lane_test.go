package scanapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
)

// counter is a counter of /metrics.
func counter(t *testing.T, s *servertest.Server, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(s.Do("GET", "/metrics", "", "Authorization: Bearer "+servertest.AdminToken).Body)
	if found == nil {
		t.Fatalf("no counter %s", name)
	}
	return found[1]
}

func dial(t *testing.T, s *servertest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.ScanURL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

var changing = regexp.MustCompile(`"scan_id":"[0-9a-f]{32}"|scancode_time=\d+`)

// told is what comes back: status, headers without the date, body without what
// differs from scan to scan, and whether the connection stays open.
func told(t *testing.T, s *servertest.Server, raw string) string {
	t.Helper()
	conn := dial(t, s)
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
			fmt.Fprintf(&all, "the body broke off: %v\n", err)
		}
		if date := resp.Header.Get("Date"); resp.StatusCode == 200 {
			if _, err := http.ParseTime(date); err != nil {
				t.Errorf("Date: %q", date)
			}
		}
		resp.Header.Del("Date")
		resp.Header.Del("Content-Length") // longer answers of net/http come in chunks
		fmt.Fprintf(&all, "%d close=%v %v %s\n", resp.StatusCode, resp.Close, resp.Header, changing.ReplaceAllString(string(body), "~"))
	}
}

// Whatever is sent, both listeners answer the same.
func TestBothListenersAnswerTheSame(t *testing.T) {
	t.Parallel()
	shared := servertest.Start(t, servertest.Options{Seed: scanTown})
	own := servertest.Start(t, servertest.Options{Seed: scanTown, ScanListener: true})
	const shop = `{"text":"https://shop.example/t/7"}`
	post := func(body string, lines ...string) string {
		return "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(append(lines, ""), "\r\n") + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	for name, raw := range map[string]string{
		"a scan":                    post(shop),
		"two, pipelined":            post(shop) + post(`{"text":"x"}`),
		"two hundred, pipelined":    strings.Repeat(post(shop), 200),
		"close":                     post(shop, "Connection: close") + post(shop),
		"keep-alive":                post(shop, "Connection: Keep-Alive") + post(shop),
		"another connection header": post(shop, "Connection: keep-alive, x") + post(shop),
		"names in capitals":         strings.Replace(post(shop), "Content-Length", "CONTENT-LENGTH", 1),
		"no length":                 "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"chunks":                    "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + `{"text":"https:/` + "\r\n12\r\n" + `/shop.example/t/7"` + "\r\n1\r\n}\r\n0\r\n\r\n",
		"chunks and a length":       "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"broken chunks":             "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"two lengths":               post(shop, "Content-Length: 3"),
		"two equal lengths":         post(shop, fmt.Sprintf("Content-Length: %d", len(shop))),
		"a signed length":           "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: +2\r\n\r\n{}",
		"a negative length":         "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n{}",
		"a length of nothing":       "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length:\r\n\r\n{}",
		"a length with zeros":       "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 00002\r\n\r\n{}",
		"a length of 0":             "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
		"less than the length":      "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{}",
		"16 KiB":                    post(`{"text":"` + strings.Repeat("x", 16<<10-11) + `"}`),
		"above 16 KiB":              post(`{"text":"` + strings.Repeat("x", 16<<10-10) + `"}`),
		"64 KiB":                    post(`{"text":"https://shop.example/t/` + strings.Repeat("/", 64<<10) + `"}`),
		"thousands of slashes":      post(`{"text":"https://shop.example/t` + strings.Repeat("/", 4000) + `"}`),
		"no host":                   "POST /scan/v1/resolve HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
		"two hosts":                 post(shop, "Host: localhost"),
		"a strange host":            "POST /scan/v1/resolve HTTP/1.1\r\nHost: a/b\r\nContent-Length: 2\r\n\r\n{}",
		"a host that is not ours":   "POST /scan/v1/resolve HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n{}",
		"a host with a port":        "POST /scan/v1/resolve HTTP/1.1\r\nHost: 127.0.0.1:99\r\nContent-Length: 2\r\n\r\n{}",
		"another origin":            post(shop, "Origin: https://evil.example"),
		"a browser's other site":    post(shop, "Sec-Fetch-Site: cross-site"),
		"a browser's own site":      post(shop, "Sec-Fetch-Site: same-origin"),
		"expects a permission":      post(shop, "Expect: 100-continue"),
		"expects something else":    post(shop, "Expect: a-pony"),
		"an upgrade":                post(shop, "Connection: Upgrade", "Upgrade: websocket"),
		"HTTP/1.0":                  strings.Replace(post(shop), "HTTP/1.1", "HTTP/1.0", 1),
		"HTTP/2.0":                  strings.Replace(post(shop), "HTTP/1.1", "HTTP/2.0", 1),
		"bare newlines":             strings.ReplaceAll(post(shop), "\r\n", "\n"),
		"a folded line":             post(shop, "X-A: b\r\n c"),
		"a space before the colon":  post(shop, "X-A : b"),
		"no colon":                  post(shop, "X-A"),
		"a control character":       post(shop, "X-A: \x01"),
		"a name with a byte":        post(shop, "X-\xff: a"),
		"a value with a byte":       post(shop, "X-A: \xff"),
		"a long name":               post(shop, strings.Repeat("X", 300)+": a"),
		"a long head":               post(shop, "X-A: "+strings.Repeat("a", 20_000)),
		"a head that is too long":   post(shop, "X-A: "+strings.Repeat("a", 100_000)),
		"many lines":                post(shop, strings.TrimSuffix(strings.Repeat("X-A: b\r\n", 500), "\r\n")),
		"GET":                       "GET /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"OPTIONS *":                 "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"with a query":              strings.Replace(post(shop), "resolve", "resolve?a=b", 1),
		"with a slash more":         strings.Replace(post(shop), "/scan", "//scan", 1),
		"with dots":                 strings.Replace(post(shop), "/v1", "/./v1", 1),
		"an absolute path":          strings.Replace(post(shop), "/scan", "http://localhost/scan", 1),
		"another call":              strings.Replace(post(shop), "resolve", "resolv", 1),
		"a longer call":             strings.Replace(post(shop), "resolve", "resolves", 1),
		"explain, then resolve":     strings.Replace(post(shop), "resolve", "explain", 1) + post(shop),
		"resolve, then explain":     post(shop) + strings.Replace(post(shop), "resolve", "explain", 1) + post(shop),
		"NDJSON":                    post(shop+"\n"+shop, "Content-Type: application/x-ndjson"),
		"NDJSON in capitals":        post(shop+"\n"+shop, "Content-Type: APPLICATION/X-NDJSON;a=b"),
		"another type":              post(shop, "Content-Type: text/plain"),
		"two types":                 post(shop, "Content-Type: application/json", "Content-Type: application/x-ndjson"),
		"a wrong body":              post(`{"text":7}`) + post(shop),
		"no JSON":                   post(`hello`) + post(shop),
		"a key although none wants": post(shop, "Authorization: Bearer x"),
		"another authorization":     post(shop, "Authorization: Basic eDp5"),
		"nothing":                   "",
		"TLS":                       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"garbage":                   "\x00\x00\x00\x00\r\n\r\n",
		"half a line":               "POST /scan",
		"half a head":               "POST /scan/v1/resolve HTTP/1.1\r\nHost: local",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, got := told(t, shared, raw), told(t, own, raw)
			if got != want {
				t.Errorf("%.200q\nshared %.3000s\nown    %.3000s", raw, want, got)
			}
		})
	}
}

// Plain requests are answered by the lane, on one connection. Those that come in
// pieces: TestPieces.
func TestTheLaneAnswersPlainRequests(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: scanTown, ScanListener: true})
	conn := dial(t, s)
	in := bufio.NewReader(conn)
	for n := range 4 {
		if _, err := io.WriteString(conn, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nUser-Agent: app/1\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 35\r\n\r\n"+`{"text":"https://shop.example/t/7"}`); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(n, err)
		}
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(answer), `"appid":"shop"`) || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d: %d %v %s %v", n, resp.StatusCode, resp.Header, answer, err)
		}
	}
	if answered, handed := counter(t, s, "qrjump_scan_lane_answers_total"), counter(t, s, "qrjump_scan_lane_handed_total"); answered != "4" || handed != "0" {
		t.Errorf("answered %s, handed %s", answered, handed)
	}
}

// What is slow goes to net/http, which bounds it: an answer 408, then the end.
func TestSlowBodies(t *testing.T) {
	onBoth(t, func(t *testing.T, own bool) {
		s := servertest.Start(t, servertest.Options{Seed: scanTown, ScanListener: own, BodyTimeout: 50 * time.Millisecond})
		conn := dial(t, s)
		io.WriteString(conn, "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 35\r\n\r\n{")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 408 || !resp.Close {
			t.Fatalf("%+v %v", resp, err)
		}
	})
}

// One line is answered before the next is sent, on both listeners.
func TestAStreamAnswersAsItComes(t *testing.T) {
	onBoth(t, func(t *testing.T, own bool) {
		s := servertest.Start(t, servertest.Options{Seed: scanTown, ScanListener: own})
		body, send := io.Pipe()
		r := s.Request("POST", "/scan/v1/resolve", "", "Content-Type: application/x-ndjson")
		r.Body = body
		first := make(chan struct{})
		go func() { defer close(first); io.WriteString(send, "{\"text\":\"0\"}\n") }()
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		in := bufio.NewReader(resp.Body)
		for n := range 5 {
			line, err := in.ReadString('\n')
			if err != nil || !strings.Contains(line, fmt.Sprintf(`"text":"%d"`, n)) {
				t.Fatalf("answer %d: %q %v", n, line, err)
			}
			fmt.Fprintf(send, "{\"text\":\"%d\"}\n", n+1)
		}
		send.Close()
		<-first
	})
}

// A stop lets the scans that run end and closes idle connections. That it listens
// no more: TestADrainWaitsForTheDisk.
func TestTheLaneDrains(t *testing.T) {
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
	if rest, err := io.ReadAll(idle); len(rest) > 0 || err != nil {
		t.Errorf("the idle connection: %q %v", rest, err)
	}
	io.WriteString(half, `:"x"}`)
	resp, err := http.ReadResponse(answers, nil)
	if err != nil || resp.StatusCode != 200 || !resp.Close {
		t.Errorf("the running scan: %+v %v", resp, err)
	}
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
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	return answers
}

// What is not plain is still answered while the server stops.
func TestADrainHandsOver(t *testing.T) {
	t.Parallel()
	// What is handed over before the drain begins is net/http's alone, which drops
	// half a head when it is shut down.
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
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("the scan in chunks: %+v %v", resp, err)
	}
	stopped.Wait()
}

// A slow client of the scan listener costs the other listeners nothing of their
// drain: they refuse who comes while it is still answered.
func TestASlowScanHoldsUpNoOtherListener(t *testing.T) {
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
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("the slow scan: %+v %v", resp, err)
	}
	<-stopped
}
