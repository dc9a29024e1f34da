package safehttp_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// public stands for a public address; no packet is sent there.
const public = "93.184.216.34"

// fakeResolver resolves a few names and records the look-ups. A name may have several answers, returned one after the other.
type fakeResolver struct {
	answers map[string][][]netip.Addr
	mu      sync.Mutex
	lookups []string
}

// newResolver returns a resolver for one name, which returns the answers one after the other and the last one repeatedly.
func newResolver(name string, answers ...[]string) *fakeResolver {
	n := &fakeResolver{answers: map[string][][]netip.Addr{}}
	for _, answer := range answers {
		var addrs []netip.Addr
		for _, text := range answer {
			addrs = append(addrs, netip.MustParseAddr(text))
		}
		n.answers[name] = append(n.answers[name], addrs)
	}
	return n
}

func (n *fakeResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookups = append(n.lookups, host)
	answers, ok := n.answers[host]
	if !ok {
		return nil, errors.New("no such host")
	}
	if len(answers) > 1 {
		n.answers[host] = answers[1:]
	}
	return answers[0], nil
}

// fakeDialer has a Dial hook that connects every address to one listener and records the addresses. Addresses in dead refuse connections.
type fakeDialer struct {
	to     string
	dead   []string
	mu     sync.Mutex
	dialed []string
}

func (w *fakeDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dialed = append(w.dialed, address)
	w.mu.Unlock()
	if slices.Contains(w.dead, address) {
		return nil, errors.New("connection refused")
	}
	var d net.Dialer
	// A slow machine may need more than the second that an address has.
	return d.DialContext(context.WithoutCancel(ctx), network, w.to)
}

// do sends a request without a practical timeout, unless req has one; slow_test.go tests timeouts.
func do(t *testing.T, client *safehttp.Client, req safehttp.Request) (safehttp.Answer, []safehttp.Step, error) {
	t.Helper()
	req.Timeout = cmp.Or(req.Timeout, time.Hour)
	return client.Do(t.Context(), req)
}

// startServer starts a server and returns a client for which it is h.example.
func startServer(t *testing.T, serve http.HandlerFunc) (*safehttp.Client, *fakeDialer) {
	t.Helper()
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	w := &fakeDialer{to: server.Listener.Addr().String()}
	return &safehttp.Client{Resolver: newResolver("h.example", []string{public}), Dial: w.dial}, w
}

// newPipeClient returns a client for which a function serves h.example over a pipe. The test waits for its calls to return.
func newPipeClient(t *testing.T, serve func(net.Conn)) *safehttp.Client {
	t.Helper()
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	dial := func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		serving.Go(func() {
			defer server.Close()
			serve(server)
		})
		return client, nil
	}
	return &safehttp.Client{Resolver: newResolver("h.example", []string{public}), Dial: dial}
}

// newRawClient returns a client for which h.example answers every request with the given bytes.
func newRawClient(t *testing.T, answer string) *safehttp.Client {
	t.Helper()
	return newPipeClient(t, func(conn net.Conn) {
		readRequest(conn)
		io.WriteString(conn, answer)
	})
}

// readRequest reads the header of a request.
func readRequest(conn net.Conn) string {
	var text strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(text.String(), "\r\n\r\n"); {
		if _, err := conn.Read(b); err != nil {
			break
		}
		text.Write(b)
	}
	return text.String()
}

func failureReason(t *testing.T, err error) safehttp.Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*safehttp.Error](err)
	require.True(t, ok, "error %v is %T, want *safehttp.Error", err, err)
	return e.Reason
}

// wantFailure verifies reason and text of an error, and that only the last step is marked as failed, with the same text.
func wantFailure(t *testing.T, steps []safehttp.Step, err error, reason safehttp.Reason, errText string) {
	t.Helper()
	require.True(t, failureReason(t, err) == reason, "error %v, want reason %s", err, reason)
	assert.True(t, strings.Contains(err.Error(), errText), "error %q, want one with %q", err, errText)
	for i, step := range steps {
		last := i == len(steps)-1
		assert.Equal(t, step.Failed, last, "step %d of %d: failed", i+1, len(steps))
	}
	if len(steps) == 0 {
		t.Error("no steps, want a failed one")
	} else if want := string(reason) + ": " + steps[len(steps)-1].Detail; err.Error() != want {
		t.Errorf("error %q, want that of the last step, %q", err, want)
	}
}

func TestSafeHTTP_TraceSteps(t *testing.T) {
	client, w := startServer(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		rw.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(rw, "%s %s %s", r.Method, r.Host, r.RequestURI)
	})
	now := time.Date(2026, 1, 31, 23, 59, 0, 0, time.UTC)
	client.Now = func() time.Time { return now }

	answer, steps, err := do(t, client, safehttp.Request{URL: "HTTP://H.Example:80/t/FILE.txt?k=hush#part"})
	require.NoError(t, err)
	if got, want := string(answer.Body), "GET h.example /t/FILE.txt?k=hush"; got != want {
		t.Errorf("server received %q, want %q", got, want)
	}
	assert.True(t, answer.Status == http.StatusTeapot && answer.Header.Get("Content-Type") == "text/plain",
		"response %d %v, want 418 text/plain", answer.Status, answer.Header)
	if want := []string{public + ":80"}; !slices.Equal(w.dialed, want) {
		t.Errorf("dialed %v, want %v", w.dialed, want)
	}
	want := []safehttp.Step{
		{OccurredAt: now, Action: "url", Detail: "GET http://h.example/t/FILE.txt"},
		{OccurredAt: now, Action: "resolve", Detail: "h.example is 93.184.216.34"},
		{OccurredAt: now, Action: "connect", Detail: "connected to 93.184.216.34:80"},
		{OccurredAt: now, Action: "send", Detail: "GET with a body of 0 bytes"},
		{OccurredAt: now, Action: "answer", Detail: "status 418"},
		{OccurredAt: now, Action: "body", Detail: "32 bytes"},
	}
	assert.True(t, slices.Equal(steps, want), "steps\n%v\nwant\n%v", steps, want)
}

func TestSafeHTTP_RequestHeaders(t *testing.T) {
	var received http.Header
	var body string
	client, _ := startServer(t, func(rw http.ResponseWriter, r *http.Request) {
		received = r.Header
		data, _ := io.ReadAll(r.Body)
		body = string(data)
		assert.True(t, r.Close, "request keeps the connection alive, want close")
		assert.True(t, r.ContentLength == int64(len(data)), "Content-Length = %d, want %d", r.ContentLength, len(data))
	})
	sent := http.Header{
		"content-type":    {"application/json"},
		"Accept-Encoding": {"gzip"},
		"Connection":      {"Upgrade"},
		"Upgrade":         {"websocket"},
		"Expect":          {"100-continue"},
		"X-Many":          {"1", "2"},
		"Host":            {"other.example"},
	}
	req := safehttp.Request{Method: "POST", URL: "http://h.example/", Header: sent, Body: []byte(`{"a":1}`)}
	_, _, err := do(t, client, req)
	require.NoError(t, err)
	want := map[string]string{
		"Accept":          "*/*",
		"Accept-Encoding": "identity",
		"Content-Type":    "application/json",
		"Content-Length":  "7",
		"User-Agent":      "Mozilla/5.0 (compatible; qrjump)",
		"X-Many":          "1|2",
		"Connection":      "close",
		"Upgrade":         "",
		"Expect":          "",
	}
	for name, value := range want {
		assert.Equal(t, strings.Join(received.Values(name), "|"), value, "header %s", name)
	}
	assert.Equal(t, body, `{"a":1}`, "body")
	assert.True(t, len(sent["Accept-Encoding"]) == 1 && sent["Accept-Encoding"][0] == "gzip", "Do changed the caller's header to %v", sent)

	client.UserAgent = "test-agent"
	_, _, err = do(t, client, safehttp.Request{URL: "http://h.example/"})
	require.NoError(t, err)
	assert.Equal(t, received.Get("User-Agent"), "test-agent", "User-Agent")
}

func TestSafeHTTP_IgnoresProxyEnvironment(t *testing.T) {
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://127.0.0.1:1/")
	}
	client, _ := startServer(t, func(http.ResponseWriter, *http.Request) {})
	_, _, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
	assert.NoError(t, err)
}

func TestSafeHTTP_RedirectsNotFollowed(t *testing.T) {
	for status, want := range map[int]string{
		301: "301 sends us to https://h.example;",
		302: "302 sends us to http://127.0.0.1:8080;",
		303: "303 sends us to http://h.example;",
		304: "304 sends us to nowhere;",
		307: "307 sends us to gopher://x;",
		308: "308 sends us to http://169.254.169.254;",
	} {
		to := map[int]string{
			301: "https://h.example/", 302: "http://user:hush@127.0.0.1:8080/?hush", 303: "/other", 307: "gopher://x/",
			308: "http://169.254.169.254/latest/meta-data/",
		}[status]
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			client, w := startServer(t, func(rw http.ResponseWriter, _ *http.Request) {
				if to != "" {
					rw.Header().Set("Location", to)
				}
				rw.WriteHeader(status)
			})
			_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
			wantFailure(t, steps, err, safehttp.Redirected, want)
			assert.True(t, !strings.Contains(err.Error(), "hush"), "error %q contains the secret", err)
			assert.True(t, len(w.dialed) == 1, "dialed %v, want one address", w.dialed)
		})
	}
}

func TestSafeHTTP_DNSRebinding(t *testing.T) {
	t.Run("a name that changes its address is dialed at the one checked", func(t *testing.T) {
		client, w := startServer(t, func(http.ResponseWriter, *http.Request) {})
		resolver := newResolver("h.example", []string{public}, []string{"127.0.0.1"})
		client.Resolver = resolver
		_, _, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		require.NoError(t, err)
		assert.True(t, len(resolver.lookups) == 1 && slices.Equal(w.dialed, []string{public + ":80"}),
			"looked up %v, dialed %v, want one look-up and the first address", resolver.lookups, w.dialed)
		// The next request repeats the look-up and is rejected.
		_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		wantFailure(t, steps, err, safehttp.AddressRefused, "127.0.0.1 refused: Loopback (RFC 1122), 127.0.0.0/8")
		assert.True(t, len(resolver.lookups) == 2 && len(w.dialed) == 1,
			"looked up %v, dialed %v, want no second dial", resolver.lookups, w.dialed)
	})
	t.Run("a failed connection does not repeat the look-up", func(t *testing.T) {
		client, w := startServer(t, func(http.ResponseWriter, *http.Request) {})
		resolver := newResolver("h.example", []string{public}, []string{"127.0.0.1"})
		client.Resolver = resolver
		w.dead = []string{public + ":80"}
		_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		wantFailure(t, steps, err, safehttp.ConnectFailed, public)
		assert.True(t, len(resolver.lookups) == 1 && len(w.dialed) == 1,
			"looked up %v, dialed %v, want one of each", resolver.lookups, w.dialed)
	})
}

func TestSafeHTTP_LookupWithoutAddress(t *testing.T) {
	client, w := startServer(t, func(http.ResponseWriter, *http.Request) {})
	_, steps, err := do(t, client, safehttp.Request{URL: "http://unknown.example/"})
	wantFailure(t, steps, err, safehttp.NotResolved, "no such host")

	client.Resolver = newResolver("h.example", []string{})
	_, steps, err = do(t, client, safehttp.Request{URL: "http://h.example/"})
	wantFailure(t, steps, err, safehttp.NotResolved, "no address for h.example")
	assert.True(t, len(w.dialed) == 0, "dialed %v, want none", w.dialed)
}

func TestSafeDial_SingleFallback(t *testing.T) {
	const a6, b6, a4, b4, c4 = "2606:4700::1", "2606:4700::2", "93.184.216.1", "93.184.216.2", "93.184.216.3"
	for _, c := range []struct {
		name   string
		addrs  []string
		dead   []string
		dialed string
		fails  bool
	}{
		{name: "IPv6 first", addrs: []string{a4, a6}, dialed: "[2606:4700::1]:80"},
		{name: "IPv4 after a dead IPv6", addrs: []string{a4, b4, a6, b6}, dead: []string{"[2606:4700::1]:80"},
			dialed: "[2606:4700::1]:80 93.184.216.1:80"},
		{name: "two dead addresses are enough", addrs: []string{a6, b6, a4, b4}, dead: []string{"[2606:4700::1]:80", "93.184.216.1:80"},
			dialed: "[2606:4700::1]:80 93.184.216.1:80", fails: true},
		{name: "the second of one family", addrs: []string{a4, b4, c4}, dead: []string{"93.184.216.1:80"},
			dialed: "93.184.216.1:80 93.184.216.2:80"},
		{name: "no address twice", addrs: []string{a4, a4}, dead: []string{"93.184.216.1:80"},
			dialed: "93.184.216.1:80", fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, w := startServer(t, func(http.ResponseWriter, *http.Request) {})
			client.Resolver = newResolver("h.example", c.addrs)
			w.dead = c.dead
			_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
			if c.fails {
				wantFailure(t, steps, err, safehttp.ConnectFailed, "connection refused")
			} else if err != nil {
				t.Error(err)
			}
			assert.Equal(t, strings.Join(w.dialed, " "), c.dialed, "dialed addresses")
		})
	}

	t.Run("none once connected", func(t *testing.T) {
		client := newRawClient(t, "")
		client.Resolver = newResolver("h.example", []string{a4, b4})
		pipe, dials := client.Dial, 0
		client.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials++
			return pipe(ctx, network, address)
		}
		_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		wantFailure(t, steps, err, safehttp.ReadFailed, "closed before the end of the header")
		assert.Equal(t, dials, 1, "dials")
	})
}

func TestSafeHTTP_Methods(t *testing.T) {
	client, w := startServer(t, func(rw http.ResponseWriter, r *http.Request) { rw.Header().Set("Content-Length", "999999999") })
	for _, method := range []string{"CONNECT", "get", "DELETE", "GET / HTTP/1.1\r\nX: y", " "} {
		_, steps, err := do(t, client, safehttp.Request{Method: method, URL: "http://h.example/"})
		wantFailure(t, steps, err, safehttp.BadRequest, "none of GET, HEAD and POST")
	}
	assert.True(t, len(w.dialed) == 0, "dialed %v, want none", w.dialed)
	answer, _, err := do(t, client, safehttp.Request{Method: "HEAD", URL: "http://h.example/"})
	assert.True(t, err == nil && len(answer.Body) == 0, "HEAD = %v, %v, want no body", answer, err)
}

func TestSafeHTTP_HeaderInjection(t *testing.T) {
	var got string
	client := newPipeClient(t, func(conn net.Conn) {
		got = readRequest(conn)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	})
	header := http.Header{"X-A": {"1\r\nX-Evil: 1"}, "X-B\r\nX-Evil": {"1"}}
	_, _, err := do(t, client, safehttp.Request{URL: "http://h.example/%0d%0aX-Evil:1", Header: header})
	require.NoError(t, err)
	assert.True(t, !strings.Contains(got, "\nX-Evil"), "request %q contains an injected header", got)
}
