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

// public is an address that the tests treat as the public internet; no packet is ever sent there.
const public = "93.184.216.34"

// names is a resolver that knows a few names and remembers what it was asked. A name may have several answers, given in turn.
type names struct {
	answers map[string][][]netip.Addr
	mu      sync.Mutex
	asked   []string
}

// knows makes a resolver with one name.
func knows(name string, answers ...[]string) *names {
	n := &names{answers: map[string][][]netip.Addr{}}
	for _, answer := range answers {
		var addrs []netip.Addr
		for _, text := range answer {
			addrs = append(addrs, netip.MustParseAddr(text))
		}
		n.answers[name] = append(n.answers[name], addrs)
	}
	return n
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, host)
	answers, ok := n.answers[host]
	if !ok {
		return nil, errors.New("no such host")
	}
	if len(answers) > 1 {
		n.answers[host] = answers[1:]
	}
	return answers[0], nil
}

// wire is a Dial hook that leads every address to one listener and remembers which address was meant. An address in dead does not answer.
type wire struct {
	to     string
	dead   []string
	mu     sync.Mutex
	dialed []string
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dialed = append(w.dialed, address)
	w.mu.Unlock()
	if slices.Contains(w.dead, address) {
		return nil, errors.New("connection refused")
	}
	var d net.Dialer
	// The second that an address has is not enough for every machine.
	return d.DialContext(context.WithoutCancel(ctx), network, w.to)
}

// do sends a request whose answer may take as long as it takes, unless it says otherwise: that the time is bounded is for slow_test.go.
func do(t *testing.T, client *safehttp.Client, req safehttp.Request) (safehttp.Answer, []safehttp.Step, error) {
	t.Helper()
	req.Timeout = cmp.Or(req.Timeout, time.Hour)
	return client.Do(t.Context(), req)
}

// site starts a server and returns a client that finds it as h.example.
func site(t *testing.T, serve http.HandlerFunc) (*safehttp.Client, *wire) {
	t.Helper()
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	w := &wire{to: server.Listener.Addr().String()}
	return &safehttp.Client{Resolver: knows("h.example", []string{public}), Dial: w.dial}, w
}

// piped returns a client for which h.example is served by a function, over a pipe. The test ends after all of its calls.
func piped(t *testing.T, serve func(net.Conn)) *safehttp.Client {
	t.Helper()
	var served sync.WaitGroup
	t.Cleanup(served.Wait)
	dial := func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		served.Go(func() {
			defer there.Close()
			serve(there)
		})
		return here, nil
	}
	return &safehttp.Client{Resolver: knows("h.example", []string{public}), Dial: dial}
}

// raw answers every request with the given bytes, as they are.
func raw(t *testing.T, answer string) *safehttp.Client {
	t.Helper()
	return piped(t, func(conn net.Conn) {
		readRequest(conn)
		io.WriteString(conn, answer)
	})
}

// readRequest reads to the empty line after the header of a request.
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

func reasonOf(t *testing.T, err error) safehttp.Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*safehttp.Error](err)
	require.True(t, ok, "error %v is %T, want *outbound.Error", err, err)
	return e.Reason
}

// wantFailure checks reason and text of an error, and that the last step, and only that one, is marked as failed and says the same.
func wantFailure(t *testing.T, steps []safehttp.Step, err error, reason safehttp.Reason, says string) {
	t.Helper()
	require.True(t, reasonOf(t, err) == reason, "error %v, want reason %s", err, reason)
	assert.True(t, strings.Contains(err.Error(), says), "error %q does not say %q", err, says)
	for i, step := range steps {
		last := i == len(steps)-1
		assert.Equal(t, step.Failed, last, "step %d of %d: failed", i+1, len(steps))
	}
	if len(steps) == 0 {
		t.Error("no steps")
	} else if want := string(reason) + ": " + steps[len(steps)-1].Detail; err.Error() != want {
		t.Errorf("error %q, last step says %q", err, want)
	}
}

func TestSafeHTTP_TraceSteps(t *testing.T) {
	client, w := site(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		rw.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(rw, "%s %s %s", r.Method, r.Host, r.RequestURI)
	})
	at := time.Date(2026, 1, 31, 23, 59, 0, 0, time.UTC)
	client.Now = func() time.Time { return at }

	answer, steps, err := do(t, client, safehttp.Request{URL: "HTTP://H.Example:80/t/FILE.txt?k=hush#part"})
	require.NoError(t, err)
	if got, want := string(answer.Body), "GET h.example /t/FILE.txt?k=hush"; got != want {
		t.Errorf("the server saw %q, want %q", got, want)
	}
	assert.True(t, answer.Status == http.StatusTeapot && answer.Header.Get("Content-Type") == "text/plain",
		"answer %d %v", answer.Status, answer.Header)
	if want := []string{public + ":80"}; !slices.Equal(w.dialed, want) {
		t.Errorf("dialed %v, want %v", w.dialed, want)
	}
	want := []safehttp.Step{
		{OccurredAt: at, Action: "url", Detail: "GET http://h.example/t/FILE.txt"},
		{OccurredAt: at, Action: "resolve", Detail: "h.example is 93.184.216.34"},
		{OccurredAt: at, Action: "connect", Detail: "connected to 93.184.216.34:80"},
		{OccurredAt: at, Action: "send", Detail: "GET with a body of 0 bytes"},
		{OccurredAt: at, Action: "answer", Detail: "status 418"},
		{OccurredAt: at, Action: "body", Detail: "32 bytes"},
	}
	assert.True(t, slices.Equal(steps, want), "steps\n%v\nwant\n%v", steps, want)
}

func TestSafeHTTP_RequestHeaders(t *testing.T) {
	var seen http.Header
	var body string
	client, _ := site(t, func(rw http.ResponseWriter, r *http.Request) {
		seen = r.Header
		data, _ := io.ReadAll(r.Body)
		body = string(data)
		assert.True(t, r.Close, "the connection would be kept")
		assert.True(t, r.ContentLength == int64(len(data)), "Content-Length %d, body of %d bytes", r.ContentLength, len(data))
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
		assert.Equal(t, strings.Join(seen.Values(name), "|"), value, "%s", name)
	}
	assert.True(t, body == `{"a":1}`, "body %q", body)
	assert.True(t, len(sent["Accept-Encoding"]) == 1 && sent["Accept-Encoding"][0] == "gzip", "the caller's header was changed")

	client.UserAgent = "someone"
	_, _, err = do(t, client, safehttp.Request{URL: "http://h.example/"})
	require.NoError(t, err)
	assert.Equal(t, seen.Get("User-Agent"), "someone", "User-Agent")
}

func TestSafeHTTP_IgnoresProxyEnvironment(t *testing.T) {
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://127.0.0.1:1/")
	}
	client, _ := site(t, func(http.ResponseWriter, *http.Request) {})
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
			client, w := site(t, func(rw http.ResponseWriter, _ *http.Request) {
				if to != "" {
					rw.Header().Set("Location", to)
				}
				rw.WriteHeader(status)
			})
			_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
			wantFailure(t, steps, err, safehttp.Redirected, want)
			assert.True(t, !strings.Contains(err.Error(), "hush"), "secret in %q", err)
			assert.True(t, len(w.dialed) == 1, "dialed %v", w.dialed)
		})
	}
}

func TestSafeHTTP_DNSRebinding(t *testing.T) {
	t.Run("a name that changes its address is dialed at the one checked", func(t *testing.T) {
		client, w := site(t, func(http.ResponseWriter, *http.Request) {})
		resolver := knows("h.example", []string{public}, []string{"127.0.0.1"})
		client.Resolver = resolver
		_, _, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		require.NoError(t, err)
		assert.True(t, len(resolver.asked) == 1 && slices.Equal(w.dialed, []string{public + ":80"}),
			"asked %v, dialed %v", resolver.asked, w.dialed)
		// The next request asks again and is refused.
		_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		wantFailure(t, steps, err, safehttp.AddressRefused, "127.0.0.1 refused: Loopback (RFC 1122), 127.0.0.0/8")
		assert.True(t, len(resolver.asked) == 2 && len(w.dialed) == 1, "asked %v, dialed %v", resolver.asked, w.dialed)
	})
	t.Run("a failed connection does not ask again", func(t *testing.T) {
		client, w := site(t, func(http.ResponseWriter, *http.Request) {})
		resolver := knows("h.example", []string{public}, []string{"127.0.0.1"})
		client.Resolver = resolver
		w.dead = []string{public + ":80"}
		_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		wantFailure(t, steps, err, safehttp.ConnectFailed, public)
		assert.True(t, len(resolver.asked) == 1 && len(w.dialed) == 1, "asked %v, dialed %v", resolver.asked, w.dialed)
	})
}

func TestSafeHTTP_LookupWithoutAddress(t *testing.T) {
	client, w := site(t, func(http.ResponseWriter, *http.Request) {})
	_, steps, err := do(t, client, safehttp.Request{URL: "http://unknown.example/"})
	wantFailure(t, steps, err, safehttp.NotResolved, "no such host")

	client.Resolver = knows("h.example", []string{})
	_, steps, err = do(t, client, safehttp.Request{URL: "http://h.example/"})
	wantFailure(t, steps, err, safehttp.NotResolved, "no address for h.example")
	assert.True(t, len(w.dialed) == 0, "dialed %v", w.dialed)
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
			client, w := site(t, func(http.ResponseWriter, *http.Request) {})
			client.Resolver = knows("h.example", c.addrs)
			w.dead = c.dead
			_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
			if c.fails {
				wantFailure(t, steps, err, safehttp.ConnectFailed, "connection refused")
			} else if err != nil {
				t.Error(err)
			}
			assert.Equal(t, strings.Join(w.dialed, " "), c.dialed, "dialed")
		})
	}

	t.Run("none once connected", func(t *testing.T) {
		client := raw(t, "")
		client.Resolver = knows("h.example", []string{a4, b4})
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
	client, w := site(t, func(rw http.ResponseWriter, r *http.Request) { rw.Header().Set("Content-Length", "999999999") })
	for _, method := range []string{"CONNECT", "get", "DELETE", "GET / HTTP/1.1\r\nX: y", " "} {
		_, steps, err := do(t, client, safehttp.Request{Method: method, URL: "http://h.example/"})
		wantFailure(t, steps, err, safehttp.BadRequest, "none of GET, HEAD and POST")
	}
	assert.True(t, len(w.dialed) == 0, "dialed %v", w.dialed)
	answer, _, err := do(t, client, safehttp.Request{Method: "HEAD", URL: "http://h.example/"})
	assert.True(t, err == nil && len(answer.Body) == 0, "HEAD: %v, %v", answer, err)
}

func TestSafeHTTP_HeaderInjection(t *testing.T) {
	var got string
	client := piped(t, func(conn net.Conn) {
		got = readRequest(conn)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	})
	header := http.Header{"X-A": {"1\r\nX-Evil: 1"}, "X-B\r\nX-Evil": {"1"}}
	_, _, err := do(t, client, safehttp.Request{URL: "http://h.example/%0d%0aX-Evil:1", Header: header})
	require.NoError(t, err)
	assert.True(t, !strings.Contains(got, "\nX-Evil"), "sent %q", got)
}
