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

	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// owner is the host of somebody who adds rules.
type owner struct {
	mu    sync.Mutex
	asked []string // as they came over the wire
	serve http.HandlerFunc
	ended chan struct{}
}

func (o *owner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.asked = append(o.asked, r.Host+r.RequestURI)
	serve := o.serve
	o.mu.Unlock()
	serve(w, r)
}

func (o *owner) answer(f http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.serve, o.asked = f, nil
}

func (o *owner) requests() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked
}

// resolver answers look-ups in turn; the last answer stays.
type resolver struct {
	mu      sync.Mutex
	answers []string // addresses; "" = there is none
	asked   int
}

func (r *resolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := r.answers[min(r.asked, len(r.answers)-1)]
	r.asked++
	if answer == "" {
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr(answer)}, nil
}

// abroad makes every name public and brings every connection to one server.
func abroad(server *httptest.Server, r *resolver) *safehttp.Client {
	pool := x509.NewCertPool()
	if server.Certificate() != nil {
		pool.AddCert(server.Certificate())
	}
	return &safehttp.Client{Resolver: r, RootCAs: pool, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}}
}

const strict = `
accounts:
  - {appid: shop, kind: mini_program, secret: secret-shop, versions: [release]}
settings: {verification: fetch, allow_private_hosts: false, rule_rate_limit: null}
`

type confirmFile struct {
	Name    string `json:"file_name"`
	Content string `json:"file_content"`
}

func file(t *testing.T, s *servertest.Server) (f confirmFile) {
	t.Helper()
	s.OK("shop", "download", "{}").JSON(t, &f)
	return f
}

type confirmations struct {
	Verifications []struct {
		RID, Owner, Prefix, URL, Reason string
		OK                              bool
		Steps                           []struct {
			Action, Detail string
			Failed         bool
		}
	}
}

func confirmed(t *testing.T, s *servertest.Server, query string) (c confirmations) {
	t.Helper()
	s.Admin("GET", "/verifications?"+query, "").JSON(t, &c)
	return c
}

// Contract: rules 2.7: the last sub-directory named in the URL.
// Behaviour(rules.confirm.fragment).
func TestConfirm_FileLocation(t *testing.T) {
	t.Parallel()
	o := &owner{}
	plain := httptest.NewServer(o)
	t.Cleanup(plain.Close)
	s := servertest.Start(t, servertest.Options{Seed: strict, Outbound: abroad(plain, &resolver{answers: []string{"93.184.216.34"}})})
	f := file(t, s)
	o.answer(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, f.Content) })
	for prefix, want := range testtable.Map(t, "testdata/file_locations.txt") {
		o.answer(o.serve)
		s.OK("shop", "add", rule(prefix))
		got := o.requests()
		assert.True(t, len(got) == 1 && got[0] == want+f.Name, "%s: asked for %q, want %q", prefix, got, want+f.Name)
	}

	secure := httptest.NewUnstartedServer(o)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // a handshake fails on purpose
	secure.StartTLS()
	t.Cleanup(secure.Close)
	s = servertest.Start(t, servertest.Options{Seed: strict, Outbound: abroad(secure, &resolver{answers: []string{"93.184.216.34"}})})
	f = file(t, s)
	s.OK("shop", "add", rule("https://example.com/index.html")) // the name in the test server's certificate
	checkText(t, s.Rule("shop", "add", rule("https://example.org/index.html")), 85069, "check confirm file fail")
}

// Contract: rules 2.7: exactly the content and nothing else, no redirect.
// Behaviour(rules.confirm.trim).
func TestConfirm_FileContent(t *testing.T) {
	t.Parallel()
	o := &owner{ended: make(chan struct{})}
	host := httptest.NewServer(o)
	t.Cleanup(host.Close)
	t.Cleanup(func() { close(o.ended) })
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(strict, "false", "true", 1)})
	f := file(t, s)
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
		reason string // in the record and the log; "" = it passes
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
		{"compressed, though not asked for", func(w http.ResponseWriter, r *http.Request) {
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
		{"no answer within three seconds", func(http.ResponseWriter, *http.Request) { <-o.ended }, "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o.answer(c.serve)
			s.Clock.Step(time.Second) // so that the newest record is known
			prefix := fmt.Sprintf("%s/%d/x", host.URL, n)
			a := s.Rule("shop", "add", rule(prefix))
			if c.reason != "" {
				checkText(t, a, 85069, "check confirm file fail")
				failedBecause(t, s, a, c.reason)
				return
			}
			require.True(t, a.Code(t) == 0, "%v", a.Body)
			record := confirmed(t, s, "owner=shop&limit=1").Verifications[0]
			assert.True(t, record.OK && record.Prefix == prefix && record.URL == fmt.Sprintf("%s/%d/%s", host.URL, n, f.Name) &&
				len(record.Steps) != 0, "the record of a check that passed: %+v", record)
		})
	}
	l := list(t, s, "shop", "{}")
	assert.True(t, l.Total == 5, "%d rules, want the five that passed", l.Total)
	metrics := s.Do("GET", "/metrics", "").Body
	for _, line := range []string{`qrjump_domain_verifications_total{result="timeout"} 1`,
		`qrjump_domain_verifications_total{result="redirect"} 2`} {
		assert.True(t, strings.Contains(metrics, line), "/metrics has no %s", line)
	}
}

// failedBecause checks that the operator finds why, by the request id of the
// answer: in the record, in the log and in the emulator's list of calls.
func failedBecause(t *testing.T, s *servertest.Server, a servertest.Answer, reason string) {
	t.Helper()
	rid := a.RID(t)
	list := confirmed(t, s, "rid="+rid).Verifications
	require.True(t, len(list) == 1, "%d records of %s", len(list), rid)
	record := list[0]
	assert.True(t, !record.OK && record.RID == rid && record.Owner == "shop" && strings.Contains(record.Reason, reason),
		"the record says %+v, want %q", record, reason)
	assert.True(t, len(record.Steps) != 0, "no steps")
	logged := false
	for line := range strings.SplitSeq(s.Log(), "\n") {
		logged = logged || strings.Contains(line, "rid="+rid) && strings.Contains(line, "errcode=85069") && strings.Contains(line, reason)
	}
	assert.True(t, logged, "no log line has %s with %q", rid, reason)
	var calls struct {
		Calls []struct{ RID, Detail string }
	}
	s.Admin("GET", "/emulator/calls?rid="+rid, "").JSON(t, &calls)
	assert.True(t, len(calls.Calls) == 1 && strings.Contains(calls.Calls[0].Detail, reason), "the emulator's calls: %+v", calls)
}

// Design 8: addresses are checked at dial; private ones only by setting.
func TestConfirm_PrivateAddressRefused(t *testing.T) {
	t.Parallel()
	o := &owner{}
	host := httptest.NewServer(o)
	t.Cleanup(host.Close)
	for _, c := range []struct {
		name, reason string
		answers      []string // of the look-ups
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
					return nil, errors.New("dialled what was not checked: " + address)
				}
				return nil, errors.New("nobody there")
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &resolver{answers: c.answers}
			client := abroad(host, r)
			if c.dial != nil {
				client.Dial = c.dial
			}
			s := servertest.Start(t, servertest.Options{Seed: strict, Outbound: client})
			f := file(t, s)
			o.answer(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, f.Content) })
			a := s.Rule("shop", "add", rule("http://a.example/x"))
			checkText(t, a, 85069, "check confirm file fail")
			failedBecause(t, s, a, c.reason)
			assert.True(t, r.asked == 1 && !strings.Contains(s.Log(), "what was not checked"),
				"looked up %d times; a second look may answer what was not checked", r.asked)
		})
	}
}

// Contract: rules 2.7, 6 (19, 20): who is not asked, and when.
func TestConfirm_FetchSkipped(t *testing.T) {
	t.Parallel()
	o := &owner{}
	host := httptest.NewServer(o)
	t.Cleanup(host.Close)
	name := strings.TrimPrefix(host.URL, "http://")
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(strict, "false", "true", 1)})
	f := file(t, s)
	o.answer(func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	asked := func(want int) {
		t.Helper()
		s.Clock.Step(time.Second)
		got := len(o.requests())
		assert.True(t, got == want, "the host was asked %d times, want %d", got, want)
		o.answer(o.serve)
	}
	checkText(t, s.Rule("shop", "add", rule(host.URL+"/1")), 85069, "check confirm file fail")
	asked(1)
	// Trusted by the list of hosts, with its port; by settings, for one host or all.
	s.Admin("PUT", "/domains/"+url.PathEscape(name), `{"status":"trusted"}`)
	s.OK("shop", "add", rule(host.URL+"/2"))
	s.Admin("DELETE", "/domains/"+url.PathEscape(name), "")
	checkText(t, s.Rule("shop", "add", rule(host.URL+"/3")), 85069, "check confirm file fail")
	asked(1)
	s.Admin("PUT", "/settings", `{"verification":["other.example","`+strings.ToUpper(name)+`"]}`)
	s.OK("shop", "add", rule(host.URL+"/4"))
	s.Admin("PUT", "/settings", `{"verification":"trust"}`)
	s.OK("shop", "add", rule(host.URL+"/5"))
	s.Admin("PUT", "/settings", `{"verification":"fetch"}`)
	// Edits, publishes and deletes do not look again; refused adds never look.
	s.OK("shop", "add", rule(host.URL+"/5", `"is_edit":1,"path":"pages/new"`))
	s.OK("shop", "publish", prefix(host.URL+"/5"))
	s.OK("shop", "delete", prefix(host.URL+"/4"))
	checkText(t, s.Rule("shop", "add", rule(host.URL+"/5")), 85071, "prefix has been added")
	asked(0)
	if c := confirmed(t, s, "owner=shop"); len(c.Verifications) != 5 || c.Verifications[4].Prefix != host.URL+"/1" {
		t.Errorf("records of %d adds that came this far: %+v", len(c.Verifications), c)
	}
	o.answer(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, f.Content) })
	s.OK("shop", "add", rule(host.URL+"/6"))
	asked(1)
	c := confirmed(t, s, "limit=1")
	assert.True(t, c.Verifications[0].Prefix == host.URL+"/6" && c.Verifications[0].OK, "the newest record is of %+v", c)
	c = confirmed(t, s, "owner=nobody")
	assert.True(t, len(c.Verifications) == 0, "another owner's records: %+v", c)
}
