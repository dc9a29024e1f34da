package console_test

import (
	"bufio"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/edge/console"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// everybodys are the pages that anybody may see, and those that have nothing to keep from anybody who is signed in.
var everybodys = []string{"GET /console/login", "POST /console/login", "POST /console/logout", "GET /console/{$}",
	"POST /console/preferences/{of}", "GET /console/login/provider", "GET /console/login/callback", "POST /console/login/callback",
	"GET /console/shared/{text}"} // TestSharedChart_AccessAndExpiry

// A page that is new is judged: it has a line in the table of pages, or it is everybody's.
func TestPageTable_CoversEveryRoute(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	for _, pattern := range console.Routes() {
		mux.Handle(pattern, http.NotFoundHandler())
	}
	judged := map[string]bool{"GET /console/calls/live": true, // TestEventStream_Permissions
		"GET /console/switch":  true,                              // TestPages_KeepSelectedAccount
		"POST /console/see-as": true,                              // TestSeenAs_ReadOnlyRoleView
		"GET /console/agree":   true, "POST /console/agree": true, // TestAgreeReference_SingleUse
		"GET /console/self": true, "POST /console/self": true} // TestSelfService_ChangeSignIn
	for _, p := range pages(t) {
		r, err := http.NewRequestWithContext(t.Context(), p.method, p.path, nil)
		require.NoError(t, err)
		_, pattern := mux.Handler(r)
		assert.True(t, pattern != "", "%s %s is judged, and there is no such page", p.method, p.path)
		judged[pattern] = true
	}
	for _, pattern := range console.Routes() {
		assert.True(t, judged[pattern] != slices.Contains(everybodys, pattern),
			"%s: say in the table of pages which role may see it, or that it is everybody's; not both", pattern)
	}
}

// stream opens the live list and returns what reads its next line that is no comment.
func (v *visitor) stream(path string) func() string {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), "GET", v.s.AdminURL+path, nil)
	require.NoError(v.t, err)
	r.Header.Set("Accept", "text/event-stream")
	w, err := v.http.Do(r)
	require.NoError(v.t, err)
	v.t.Cleanup(func() { w.Body.Close() })
	require.True(v.t, w.StatusCode == http.StatusOK, "the stream: %s", w.Status)
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

func TestEventStream_Permissions(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop})
	const stream = "Accept: text/event-stream"
	assert.Equal(t, request(t, s).get("/console/calls/live", stream).Status, http.StatusUnauthorized, "nobody's")
	person(s, "alice", adminroute.Viewer)
	v := request(t, s)
	v.signIn("alice", password, "")
	p := v.get("/console/calls/live", stream, "Sec-Fetch-Site: cross-site")
	assert.Equal(t, p.Status, http.StatusForbidden, "from a page of another origin")
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`)
	next := v.stream("/console/calls/live?after=0")
	line := next()
	assert.True(t, strings.HasPrefix(line, "id: "), "a viewer's: %s", line)
	s.Admin("DELETE", "/people/alice", "") // ASVS 7.4.2: a stream ends too
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`)
	for range 2 {
		next()
	}
	assert.Equal(t, next(), "event: over", "when she is deleted")
}

// A tab that stays open, whatever comes in there, and opens its stream again and again, uses nothing: after twelve hours
// in which nobody did anything its session is over.
func TestSession_IdleTimeoutWithOpenTab(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop})
	person(s, "alice", adminroute.Operator)
	v := request(t, s)
	v.signIn("alice", password, "")
	next := v.stream("/console/calls/live")
	call := func() { s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`) }
	for range 2 {
		s.Clock.Step(5 * time.Hour)
		call()
		line := next()
		require.True(t, strings.HasPrefix(line, "id: "), "a call did not come: %s", line)
		next() // the event
		next() // the data
		again := v.stream("/console/calls/live?after=0")
		line = again()
		require.True(t, strings.HasPrefix(line, "id: "), "the stream opened again: %s", line)
	}
	s.Clock.Step(2 * time.Hour)
	call()
	assert.Equal(t, next(), "event: over", "after twelve hours")
	assert.Equal(t, v.get("/console/calls").Status, http.StatusSeeOther, "after twelve hours the page")
}

// ASVS 3.3.1, 3.3.3, 3.4.1: where a browser came by TLS, it comes so for a year, and cookies are for this host and for TLS;
// on a developer's machine and over plain HTTP there is neither. Who calls the wire is never told.
func TestTLS_HSTSAndSecureCookies(t *testing.T) {
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
			v := request(t, s)
			const tls = "X-Forwarded-Proto: https"
			p := v.post("/console/login?lang=zh", url.Values{"password": {servertest.AdminToken}}, tls)
			require.Equal(t, p.Status, http.StatusSeeOther, "signing in")
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
			assert.Equal(t, v.get("/console/login", tls).Header.Get("Strict-Transport-Security"), want, "by TLS")
			for _, path := range []string{"/console/login", "/healthz", "/cgi-bin/token"} {
				assert.Equal(t, v.get(path).Header.Get("Strict-Transport-Security"), "", "%s over plain HTTP", path)
			}
			assert.Equal(t, v.get("/cgi-bin/token", tls).Header.Get("Strict-Transport-Security"), "", "the wire")
		})
	}
}

// fillPage names things that a server may not have.
var fillPage = strings.NewReplacer("RID", "00000000-00000000-00000000", "BATCH", "1", "PACKAGE", "1", "SCAN", strings.Repeat("0", 32))

// dump is all rows of a server's database.
func dump(t *testing.T, file string) string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	require.NoError(t, err)
	defer db.Close()
	texts := func(query string) (list []string) {
		rows, err := db.QueryContext(t.Context(), query)
		require.NoError(t, err)
		defer rows.Close()
		columns, err := rows.Columns()
		require.NoError(t, err)
		for rows.Next() {
			row := make([]any, len(columns))
			for i := range row {
				row[i] = new(any)
			}
			require.NoError(t, rows.Scan(row...))
			var text strings.Builder
			for i := range row {
				fmt.Fprintf(&text, " %v", *row[i].(*any))
			}
			list = append(list, text.String())
		}
		require.NoError(t, rows.Err())
		slices.Sort(list)
		return list
	}
	var b strings.Builder
	for _, table := range texts(`SELECT name FROM sqlite_master WHERE type = 'table'`) {
		for _, row := range texts(`SELECT * FROM` + table) {
			fmt.Fprintln(&b, table, row)
		}
	}
	return b.String()
}

// ASVS 3.5.3: a link, a picture or a program that looks at links changes nothing here: after every GET of the console and of the
// admin API the database is what it was.
func TestGET_NoSideEffects(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop, Data: folder})
	v := request(t, s)
	v.signIn("", servertest.AdminToken, "")
	link := servertest.Decode[struct{ URL string }](t, s.Admin("POST", "/login-links", `{}`))
	_, once, _ := strings.Cut(link.URL, "once=")
	s.Hide(once)
	fill := strings.NewReplacer("{$}", "", "{appid}", "shop", "{rid}", "00000000-00000000-00000000", "{batch}", "1", "{id}", "1",
		"{user}", "u", "{mini_program}", "shop", "{component}", "c", "{application_id}", "1", "{code_index}", "0", "{scan_id}", "x",
		"{scan}", "x", "{package}", "1", "{file}", "rules.ndjson", "{table}", "numbers.csv",
		"{name}", "n", "{node}", "n", "{host}", "h", "{seq}", "1", "{alarm}", "1")
	before, walked := dump(t, filepath.Join(folder, "qrjump.db")), 0
	get := func(path string, header ...string) {
		walked++
		assert.True(t, v.get(path, header...).Status < 500, "GET %s fails", path)
	}
	for _, pattern := range console.Routes() {
		if path, is := strings.CutPrefix(pattern, "GET "); is && !strings.HasSuffix(path, "/live") {
			get(fill.Replace(path))
			get(fill.Replace(path) + "?once=" + once + "&code=a&state=b&did=delete&name=shop&id=1&sure=1&lang=zh")
		}
	}
	for _, p := range pages(t) {
		if p.method == "GET" {
			get(fillPage.Replace(p.path))
		}
	}
	for _, o := range servertest.Operations() {
		if o.Method == "GET" {
			get("/admin/v1"+fill.Replace(o.Path)+"?appid=shop&prefix=https://shop.example/&text=x&at=2026-01-15T00:00:00Z",
				"Authorization: Bearer "+servertest.AdminToken)
		}
	}
	after := dump(t, filepath.Join(folder, "qrjump.db"))
	assert.True(t, after == before && walked >= 60, "after %d GETs the database is another one:\n%s\nwas\n%s", walked, after, before)
	p := request(t, s).post("/console/login", url.Values{"once": {once}})
	assert.Equal(t, p.Status, http.StatusSeeOther, "the link is used up by looking")
}

// A page of another origin, whose name was pointed at this machine, gets nothing of a developer's server, where nobody signs in.
func TestDevServer_DNSRebinding(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	for _, host := range []string{"evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.1"} {
		for _, path := range []string{"/console/calls", "/console/calls/live", "/console/people", "/console/login", "/admin/v1/accounts",
			"/openapi.json", "/metrics", "/"} {
			for _, method := range []string{"GET", "POST"} {
				r := s.Request(method, path, "")
				r.Host = host
				r.Header.Set("Origin", "http://"+host)
				r.Header.Set("Sec-Fetch-Site", "same-origin")
				if a := s.Send(r); a.Status != http.StatusMisdirectedRequest || strings.Contains(a.Body, "the-secret-of-shop") {
					t.Errorf("%s %s as %s: %d %s", method, path, host, a.Status, a.Body)
				}
			}
		}
	}
}

// CSRF: no form of the console, and no call of the admin API that changes something, is taken from a page of another origin.
func TestForms_RejectCrossOrigin(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop}) // with --dev nothing else stands in the way
	v, tried := request(t, s), 0
	fill := strings.NewReplacer("{rid}", "x", "{of}", "theme", "{appid}", "shop", "{batch}", "1", "{id}", "1")
	for _, header := range []string{"Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site",
		"Sec-Fetch-Site: same-site"} {
		for _, pattern := range console.Routes() {
			if path, is := strings.CutPrefix(pattern, "POST "); is {
				tried++
				p := v.post(fill.Replace(path), url.Values{"did": {"reset"}}, header)
				assert.Equal(t, p.Status, http.StatusForbidden, "POST %s with %s", path, header)
			}
		}
		for _, o := range servertest.Operations() {
			if o.Method != "GET" {
				tried++
				path := regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(o.Path, "1")
				p := v.send(o.Method, "/admin/v1"+path, "text/plain", strings.NewReader("{}"), header)
				assert.Equal(t, p.Status, http.StatusForbidden, "%s %s with %s", o.Method, path, header)
			}
		}
	}
	assert.True(t, tried >= 200, "only %d were tried", tried)
}

// ASVS 6.2.6, 6.2.7, 7.4.4: what is typed of a secret is masked, may be pasted and kept by a browser; every page has its way out.
func TestSecretFields_MaskedAndSignOut(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop})
	person(s, "alice", adminroute.Admin)
	v := request(t, s)
	v.signIn("alice", password, "")
	inputs, secrets := regexp.MustCompile(`<input[^>]*>`), 0
	kept := regexp.MustCompile(`autocomplete="(current|new)-password"`)
	look := func(path, body string) {
		for _, input := range inputs.FindAllString(body, -1) {
			if !strings.Contains(input, "password") || strings.Contains(input, `type="hidden"`) {
				continue
			}
			secrets++
			assert.True(t, strings.Contains(input, `type="password"`) && kept.MatchString(input) && !strings.Contains(input, "onpaste") &&
				!regexp.MustCompile(`(minlength|pattern)=`).MatchString(input) && (!strings.Contains(input, `password" type=`) ||
				strings.Contains(input, `maxlength="1024"`)), "%s: %s", path, input)
		}
	}
	look("/console/login", request(t, s).get("/console/login").Body)
	for _, p := range pages(t) {
		if p.method != "GET" {
			continue
		}
		got := v.get(fillPage.Replace(p.path))
		if !strings.HasPrefix(got.Header.Get("Content-Type"), "text/html") {
			continue // a file
		}
		body := got.Body
		look(p.path, body)
		assert.True(t, regexp.MustCompile(`action="/console/logout[?"]`).MatchString(body), "%s has no way out", p.path)
	}
	assert.True(t, secrets >= 4, "only %d fields of secrets were seen", secrets)
}

// ASVS 3.4.5, 3.4.6: every answer of the console, of the ways in too, keeps its address to itself and is in no frame.
func TestPages_SecurityHeaders(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	v := request(t, s)
	for _, p := range []page{v.get("/console/login"), v.get("/console/rules"), v.get("/console/nowhere"), v.post("/console/login", nil),
		v.post("/console/logout", nil, "Sec-Fetch-Site: cross-site"), v.get("/console/login/callback")} {
		policy := p.Header.Get("Content-Security-Policy")
		assert.True(t, p.Header.Get("Referrer-Policy") == "no-referrer" && p.Header.Get("X-Content-Type-Options") == "nosniff",
			"%d: %v", p.Status, p.Header)
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "object-src 'none'",
			"form-action 'self'"} {
			assert.Contains(t, policy, part, "%d lacks %s", p.Status, part)
		}
	}
}

// ASVS 3.5.4: what buyers and clients of the wire see is on another listener than the console.
func TestConsoleListener_Separate(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop,
		Config: func(c *server.Config) { c.AdminListen = "localhost:0" }})
	require.True(t, s.AdminURL != s.URL, "one listener")
	for base, want := range map[string]int{s.AdminURL: http.StatusOK, s.URL: http.StatusMisdirectedRequest} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", base+"/console/login", nil)
		require.NoError(t, err)
		s.Send(r).WantStatus(t, want, "%s", base)
	}
}

// ASVS 6.2.10, 6.3.2, 7.1.2, 7.4.5: nobody is there at first; a password has no end; a person has twenty sessions, the oldest of
// which ends; an admin ends them all, and the links that could begin one.
func TestSessions_BoundedPerPerson(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	assert.Contains(t, s.Admin("GET", "/people", "").Body, `"people":[]`, "at first")
	for _, name := range []string{"admin", "root", "qrjump"} {
		for _, word := range []string{"", "admin", "password", "qrjump", name} {
			if p := request(t, s).signIn(name, word, ""); p.Status != http.StatusForbidden && p.Status != http.StatusTooManyRequests {
				t.Errorf("%s with %q: %d", name, word, p.Status)
			}
		}
	}
	person(s, "alice", adminroute.Viewer)
	s.Clock.Step(400 * 24 * time.Hour)
	first := request(t, s)
	require.Equal(t, first.signIn("alice", password, "").Status, http.StatusSeeOther, "a year later the password is good")
	var last *visitor
	for i := range iam.MaxSessions {
		s.Clock.Step(time.Second)
		require.Equal(t, first.get("/console/sessions").Status, http.StatusOK, "with %d others", i)
		last = request(t, s)
		last.signIn("alice", password, "")
	}
	assert.Equal(t, first.get("/console/sessions").Status, http.StatusSeeOther, "the oldest of %d", iam.MaxSessions+1)
	link := servertest.Decode[struct{ URL string }](t, s.Admin("POST", "/login-links", `{"name":"alice"}`))
	_, once, _ := strings.Cut(link.URL, "once=")
	s.Hide(once)
	s.Admin("DELETE", "/people/alice/sessions", "")
	assert.Equal(t, last.get("/console/sessions").Status, http.StatusSeeOther, "an admin ended it")
	assert.Equal(t, last.post("/console/login", url.Values{"once": {once}}).Status, http.StatusForbidden, "a link of before")
}
