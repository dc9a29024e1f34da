package api_test

import (
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// fileHost is the web host of a prefix: it serves the verification file and records the requests.
type fileHost struct {
	mu      sync.Mutex
	uris    []string // host and request URI, as received
	handler http.HandlerFunc
}

func (h *fileHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.uris = append(h.uris, r.Host+r.RequestURI)
	handler := h.handler
	h.mu.Unlock()
	handler(w, r)
}

// setHandler replaces the handler and forgets the recorded requests.
func (h *fileHost) setHandler(f http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handler, h.uris = f, nil
}

func (h *fileHost) requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.uris
}

// resolver returns its answers one after the other, the last one repeatedly.
type resolver struct {
	mu      sync.Mutex
	answers []string // addresses; "" = no such host
	lookups int
}

func (r *resolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := r.answers[min(r.lookups, len(r.answers)-1)]
	r.lookups++
	if answer == "" {
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr(answer)}, nil
}

// publicClient returns a client that resolves names with r and connects to server, whatever the address.
func publicClient(server *httptest.Server, r *resolver) *safehttp.Client {
	pool := x509.NewCertPool()
	if server.Certificate() != nil {
		pool.AddCert(server.Certificate())
	}
	return &safehttp.Client{Resolver: r, RootCAs: pool, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}}
}

const fetchSeed = `
accounts:
  - {appid: shop, kind: mini_program, secret: secret-shop, versions: [release]}
settings: {verification: fetch, allow_private_hosts: false, rule_rate_limit: null}
`

// verificationFile is the response of qrcodejumpdownload.
type verificationFile struct {
	Name    string `json:"file_name"`
	Content string `json:"file_content"`
}

func downloadFile(t *testing.T, s *servertest.Server) verificationFile {
	t.Helper()
	return servertest.Decode[verificationFile](t, s.OK("shop", "download", "{}"))
}

func listVerifications(t *testing.T, s *servertest.Server, query string) client.DomainVerificationList {
	t.Helper()
	return servertest.Decode[client.DomainVerificationList](t, s.Admin("GET", "/verifications?"+query, ""))
}

// TestConfirm_FileLocation verifies that the file is fetched from the last sub-directory in the URL, and over TLS only with a valid
// certificate. Contract: rules 2.7.
// Behaviour(rules.confirm.fragment).
func TestConfirm_FileLocation(t *testing.T) {
	t.Parallel()
	files := &fileHost{}
	plain := httptest.NewServer(files)
	t.Cleanup(plain.Close)
	s := servertest.Start(t, servertest.Options{Seed: fetchSeed, Outbound: publicClient(plain,
		&resolver{answers: []string{"93.184.216.34"}})})
	f := downloadFile(t, s)
	files.setHandler(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, f.Content) })
	for prefix, want := range testtable.Map(t, "testdata/file_locations.txt") {
		files.setHandler(files.handler)
		s.OK("shop", "add", addRuleBody(prefix))
		got := files.requests()
		assert.True(t, len(got) == 1 && got[0] == want+f.Name, "%s: requested %q, want %q", prefix, got, want+f.Name)
	}

	secure := httptest.NewUnstartedServer(files)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // one handshake fails
	secure.StartTLS()
	t.Cleanup(secure.Close)
	s = servertest.Start(t, servertest.Options{Seed: fetchSeed, Outbound: publicClient(secure,
		&resolver{answers: []string{"93.184.216.34"}})})
	f = downloadFile(t, s)
	s.OK("shop", "add", addRuleBody("https://example.com/index.html")) // the name in the test server's certificate
	checkText(t, s.Rule("shop", "add", addRuleBody("https://example.org/index.html")), 85069, "check confirm file fail")
}

// TestConfirm_FileContent verifies which responses of the host confirm a prefix, and the recorded reason for each of the others.
// Contract: rules 2.7: exactly the content and nothing else, no redirect.
// Behaviour(rules.confirm.trim).
func TestConfirm_FileContent(t *testing.T) {
	t.Parallel()
	files, done := &fileHost{}, make(chan struct{})
	host := httptest.NewServer(files)
	t.Cleanup(host.Close)
	t.Cleanup(func() { close(done) })
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(fetchSeed, "false", "true", 1)})
	f := downloadFile(t, s)
	text := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) }
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "https://elsewhere.example/")
			w.WriteHeader(code)
			io.WriteString(w, f.Content)
		}
	}
	for n, c := range []struct {
		name   string
		serve  http.HandlerFunc
		reason string // in the record and the log; "" = confirmed
	}{
		{"exactly the content", text(f.Content), ""},
		{"a line feed behind it", text(f.Content + "\n"), ""},
		{"white space around it", text(" \r\n\t" + f.Content + "\r\n "), ""},
		{"no Content-Type", func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, f.Content)
		}, ""},
		{"white space up to 64 bytes", text(f.Content + strings.Repeat(" ", 64-len(f.Content))), ""},
		{"one byte more", text(f.Content + strings.Repeat(" ", 65-len(f.Content))), "body_too_long"},
		{"another content", text(strings.Repeat("0", 32)), "want exactly"},
		{"capitals", text(strings.ToUpper(f.Content)), "want exactly"},
		{"a byte order mark", text("\ufeff" + f.Content), "want exactly"},
		{"HTML round it", text("<p>" + f.Content + "</p>"), "want exactly"},
		{"an empty answer", text(""), "want exactly"},
		{"a page", text(strings.Repeat("<html>", 1000)), "body_too_long"},
		{"404", status(404), "404"},
		{"500", status(500), "500"},
		{"204", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, "204"},
		{"301 to https", status(301), "redirect"},
		{"302", status(302), "redirect"},
		{"compressed without Accept-Encoding", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, f.Content)
			z.Close()
		}, "Content-Encoding"},
		{"the connection lost", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "read_failed"},
		{"the body broken off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "32")
			io.WriteString(w, f.Content[:8])
		}, "read_failed"},
		{"no answer within three seconds", func(http.ResponseWriter, *http.Request) { <-done }, "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files.setHandler(c.serve)
			s.Clock.Step(time.Second) // gives each record a time of its own
			prefix := fmt.Sprintf("%s/%d/x", host.URL, n)
			a := s.Rule("shop", "add", addRuleBody(prefix))
			if c.reason != "" {
				checkText(t, a, 85069, "check confirm file fail")
				wantFailureReason(t, s, a, c.reason)
				return
			}
			require.True(t, a.Code(t) == 0, "add = %s, want errcode 0", a.Body)
			record := listVerifications(t, s, "owner=shop&limit=1").Verifications[0]
			assert.True(t, record.OK && record.Prefix == prefix && record.URL == fmt.Sprintf("%s/%d/%s", host.URL, n, f.Name) &&
				len(record.Steps) != 0, "record of a successful check: %+v", record)
		})
	}
	l := listRules(t, s, "shop", "{}")
	assert.True(t, l.Total == 5, "%d rules, want the five that were confirmed", l.Total)
	metrics := s.Do("GET", "/metrics", "").Body
	for _, line := range []string{`qrjump_domain_verifications_total{result="timeout"} 1`,
		`qrjump_domain_verifications_total{result="redirect"} 2`} {
		assert.True(t, strings.Contains(metrics, line), "/metrics has no %s", line)
	}
}

// wantFailureReason verifies that the record, the log and the emulator's calls have the reason under the request id of response a.
func wantFailureReason(t *testing.T, s *servertest.Server, a servertest.Answer, reason string) {
	t.Helper()
	rid := a.RID(t)
	list := listVerifications(t, s, "rid="+rid).Verifications
	require.True(t, len(list) == 1, "%d records of %s, want 1", len(list), rid)
	record := list[0]
	assert.True(t, !record.OK && record.RID == rid && record.Owner == "shop" && strings.Contains(record.Reason, reason),
		"record %+v, want the reason %q", record, reason)
	assert.True(t, len(record.Steps) != 0, "record %+v has no steps", record)
	logged := false
	for line := range strings.SplitSeq(s.Log(), "\n") {
		logged = logged || strings.Contains(line, "rid="+rid) && strings.Contains(line, "errcode=85069") && strings.Contains(line, reason)
	}
	assert.True(t, logged, "no log line of %s has the reason %q", rid, reason)
	var calls struct {
		Calls []struct{ RID, Detail string }
	}
	s.Admin("GET", "/emulator/calls?rid="+rid, "").JSON(t, &calls)
	assert.True(t, len(calls.Calls) == 1 && strings.Contains(calls.Calls[0].Detail, reason),
		"/emulator/calls = %+v, want one call with the reason %q", calls, reason)
}

// TestConfirm_PrivateAddressRefused verifies that the address is checked when the client dials, and that private addresses are refused
// unless a setting allows them.
func TestConfirm_PrivateAddressRefused(t *testing.T) {
	t.Parallel()
	files := &fileHost{}
	host := httptest.NewServer(files)
	t.Cleanup(host.Close)
	for _, c := range []struct {
		name, reason string
		answers      []string // of the resolver
		dial         func(context.Context, string, string) (net.Conn, error)
	}{
		{"no address", "not_resolved", []string{""}, nil},
		{"a loopback address", "address_refused", []string{"127.0.0.1"}, nil},
		{"a private address", "address_refused", []string{"10.1.2.3"}, nil},
		{"the address of cloud metadata", "address_refused", []string{"169.254.169.254"}, nil},
		{"a loopback address mapped to version 6", "address_refused", []string{"::ffff:127.0.0.1"}, nil},
		{"another answer after the check", "connect_failed", []string{"93.184.216.34", "127.0.0.1"},
			func(ctx context.Context, network, address string) (net.Conn, error) {
				if address != "93.184.216.34:80" {
					return nil, errors.New("dialed an unchecked address: " + address)
				}
				return nil, errors.New("connection refused")
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &resolver{answers: c.answers}
			client := publicClient(host, r)
			if c.dial != nil {
				client.Dial = c.dial
			}
			s := servertest.Start(t, servertest.Options{Seed: fetchSeed, Outbound: client})
			f := downloadFile(t, s)
			files.setHandler(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, f.Content) })
			a := s.Rule("shop", "add", addRuleBody("http://a.example/x"))
			checkText(t, a, 85069, "check confirm file fail")
			wantFailureReason(t, s, a, c.reason)
			assert.True(t, r.lookups == 1 && !strings.Contains(s.Log(), "unchecked address"),
				"%d look-ups, want 1: the answer of a second one is not checked", r.lookups)
		})
	}
}

// TestConfirm_FetchSkipped verifies that trusted hosts, edits, publishes, deletes and rejected adds cause no fetch.
// Contract: rules 2.7, 6 (19, 20).
func TestConfirm_FetchSkipped(t *testing.T) {
	t.Parallel()
	files := &fileHost{}
	host := httptest.NewServer(files)
	t.Cleanup(host.Close)
	name := strings.TrimPrefix(host.URL, "http://")
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(fetchSeed, "false", "true", 1)})
	f := downloadFile(t, s)
	files.setHandler(func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	wantRequests := func(want int) {
		t.Helper()
		s.Clock.Step(time.Second)
		got := len(files.requests())
		assert.True(t, got == want, "%d requests to the host, want %d", got, want)
		files.setHandler(files.handler)
	}
	checkText(t, s.Rule("shop", "add", addRuleBody(host.URL+"/1")), 85069, "check confirm file fail")
	wantRequests(1)
	// A host is trusted by the list of domains, with its port, or by the settings.
	s.Admin("PUT", "/domains/"+url.PathEscape(name), `{"status":"trusted"}`)
	s.OK("shop", "add", addRuleBody(host.URL+"/2"))
	s.Admin("DELETE", "/domains/"+url.PathEscape(name), "")
	checkText(t, s.Rule("shop", "add", addRuleBody(host.URL+"/3")), 85069, "check confirm file fail")
	wantRequests(1)
	s.Admin("PUT", "/settings", `{"verification":["other.example","`+strings.ToUpper(name)+`"]}`)
	s.OK("shop", "add", addRuleBody(host.URL+"/4"))
	s.Admin("PUT", "/settings", `{"verification":"trust"}`)
	s.OK("shop", "add", addRuleBody(host.URL+"/5"))
	s.Admin("PUT", "/settings", `{"verification":"fetch"}`)
	// Edits, publishes, deletes and rejected adds do not fetch.
	s.OK("shop", "add", addRuleBody(host.URL+"/5", `"is_edit":1,"path":"pages/new"`))
	s.OK("shop", "publish", prefixBody(host.URL+"/5"))
	s.OK("shop", "delete", prefixBody(host.URL+"/4"))
	checkText(t, s.Rule("shop", "add", addRuleBody(host.URL+"/5")), 85071, "prefix has been added")
	wantRequests(0)
	if c := listVerifications(t, s, "owner=shop"); len(c.Verifications) != 5 || c.Verifications[4].Prefix != host.URL+"/1" {
		t.Errorf("%d records of verifications, want 5: %+v", len(c.Verifications), c)
	}
	files.setHandler(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, f.Content) })
	s.OK("shop", "add", addRuleBody(host.URL+"/6"))
	wantRequests(1)
	c := listVerifications(t, s, "limit=1")
	assert.True(t, c.Verifications[0].Prefix == host.URL+"/6" && c.Verifications[0].OK,
		"newest record = %+v, want a successful one of /6", c)
	c = listVerifications(t, s, "owner=nobody")
	assert.True(t, len(c.Verifications) == 0, "records of an unknown owner: %+v", c)
}
