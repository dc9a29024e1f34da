package console_test

import (
	"bufio"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/console"
	"github.com/qrjump/qrjump/internal/operations"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
)

// everybodys are the pages that anybody may see, and those that have nothing to keep from anybody who is signed in.
var everybodys = []string{"GET /console/login", "POST /console/login", "POST /console/logout", "GET /console/{$}",
	"POST /console/preferences/{of}", "GET /console/login/provider", "GET /console/login/callback", "POST /console/login/callback"}

// A page that is new is judged: it has a line in the table of pages, or it is everybody's.
func TestEveryPageIsJudged(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	for _, pattern := range console.Routes() {
		mux.Handle(pattern, http.NotFoundHandler())
	}
	judged := map[string]bool{"GET /console/calls/live": true} // TestTheStreamIsForThoseThatMay
	for _, p := range pages {
		r, err := http.NewRequestWithContext(t.Context(), p.method, p.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, pattern := mux.Handler(r)
		if pattern == "" {
			t.Errorf("%s %s is judged, and there is no such page", p.method, p.path)
		}
		judged[pattern] = true
	}
	for _, pattern := range console.Routes() {
		if judged[pattern] == slices.Contains(everybodys, pattern) {
			t.Errorf("%s: say in the table of pages which role may see it, or that it is everybody's; not both", pattern)
		}
	}
}

// stream opens the live list and returns what reads its next line that is no comment.
func (v *visitor) stream(path string) func() string {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), "GET", v.s.AdminURL+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	w, err := v.http.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { w.Body.Close() })
	if w.StatusCode != http.StatusOK {
		v.t.Fatalf("the stream: %s", w.Status)
	}
	lines := bufio.NewScanner(w.Body)
	return func() string {
		for lines.Scan() {
			if line := lines.Text(); line != "" && !strings.HasPrefix(line, ":") && !strings.HasPrefix(line, "retry:") {
				return line
			}
		}
		return "the end"
	}
}

func TestTheStreamIsForThoseThatMay(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop})
	const stream = "Accept: text/event-stream"
	if p := visit(t, s).get("/console/calls/live", stream); p.Status != http.StatusUnauthorized {
		t.Errorf("nobody's: %d", p.Status)
	}
	person(s, "alice", operations.Viewer)
	v := visit(t, s)
	v.signIn("alice", password, "")
	if p := v.get("/console/calls/live", stream, "Sec-Fetch-Site: cross-site"); p.Status != http.StatusForbidden {
		t.Errorf("from a page of another origin: %d", p.Status)
	}
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`)
	next := v.stream("/console/calls/live?after=0")
	if line := next(); !strings.HasPrefix(line, "id: ") {
		t.Errorf("a viewer's: %s", line)
	}
	s.Admin("DELETE", "/people/alice", "") // ASVS 7.4.2: a stream ends too
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`)
	for range 2 {
		next()
	}
	if line := next(); line != "event: over" {
		t.Errorf("when she is deleted: %s", line)
	}
}

// A tab that stays open, whatever comes in there, and opens its stream again and again, uses nothing: after twelve hours
// in which nobody did anything its session is over.
func TestAnOpenTabDoesNotKeepASession(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop})
	person(s, "alice", operations.Operator)
	v := visit(t, s)
	v.signIn("alice", password, "")
	next := v.stream("/console/calls/live")
	call := func() { s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`) }
	for range 2 {
		s.Clock.Step(5 * time.Hour)
		call()
		if line := next(); !strings.HasPrefix(line, "id: ") {
			t.Fatalf("a call did not come: %s", line)
		}
		next() // the event
		next() // the data
		again := v.stream("/console/calls/live?after=0")
		if line := again(); !strings.HasPrefix(line, "id: ") {
			t.Fatalf("the stream opened again: %s", line)
		}
	}
	s.Clock.Step(2 * time.Hour)
	call()
	if line := next(); line != "event: over" {
		t.Errorf("after twelve hours: %s", line)
	}
	if p := v.get("/console/calls"); p.Status != http.StatusSeeOther {
		t.Errorf("after twelve hours the page: %d", p.Status)
	}
}

// ASVS 3.3.1, 3.3.3, 3.4.1: where a browser came by TLS, it comes so for a year, and cookies are for this host and for TLS;
// on a developer's machine and over plain HTTP there is neither. Who calls the wire is never told.
func TestWhereABrowserComesByTLS(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options servertest.Options
		strict  bool
	}{
		"behind a proxy": {servertest.Options{Guarded: true, Seed: shop,
			Config: func(c *server.Config) { c.TrustedProxy = []string{"127.0.0.0/8"} }}, true},
		"with --dev": {servertest.Options{Seed: shop,
			Config: func(c *server.Config) { c.TrustedProxy = []string{"127.0.0.0/8"} }}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, c.options)
			v := visit(t, s)
			const tls = "X-Forwarded-Proto: https"
			p := v.post("/console/login?lang=zh", url.Values{"password": {servertest.AdminToken}}, tls)
			if p.Status != http.StatusSeeOther {
				t.Fatalf("signing in: %d", p.Status)
			}
			for _, cookie := range p.Header.Values("Set-Cookie") {
				session := strings.Contains(cookie, "session")
				if !strings.Contains(cookie, "; Secure") || !strings.Contains(cookie, "SameSite=Strict") ||
					!strings.Contains(cookie, "; HttpOnly") || session && !strings.HasPrefix(cookie, "__Host-qrjump_session=") {
					t.Errorf("the cookie %.20s… of %.10s…", cookie[strings.Index(cookie, ";"):], cookie)
				}
			}
			want := ""
			if c.strict {
				want = "max-age=31536000; includeSubDomains"
			}
			if got := v.get("/console/login", tls).Header.Get("Strict-Transport-Security"); got != want {
				t.Errorf("by TLS: %q, want %q", got, want)
			}
			for _, path := range []string{"/console/login", "/healthz", "/cgi-bin/token"} {
				if got := v.get(path).Header.Get("Strict-Transport-Security"); got != "" {
					t.Errorf("%s over plain HTTP: %q", path, got)
				}
			}
			if got := v.get("/cgi-bin/token", tls).Header.Get("Strict-Transport-Security"); got != "" {
				t.Errorf("the wire: %q", got)
			}
		})
	}
}
