package console_test

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
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

// publicRoutes are the routes without a required role: those open to all callers, and those that show nothing protected to a signed-in
// person.
var publicRoutes = []string{"GET /console/login", "POST /console/login", "POST /console/logout", "GET /console/{$}",
	"POST /console/preferences/{of}", "GET /console/login/provider", "GET /console/login/callback", "POST /console/login/callback",
	"GET /console/shared/{text}"} // TestSharedChart_AccessAndExpiry

// TestPageTable_CoversEveryRoute verifies that each route is either in the table of pages with its role, or in publicRoutes.
func TestPageTable_CoversEveryRoute(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	for _, pattern := range console.Routes() {
		mux.Handle(pattern, http.NotFoundHandler())
	}
	listed := map[string]bool{"GET /console/calls/live": true, // TestEventStream_Permissions
		"GET /console/switch":  true,                              // TestPages_KeepSelectedAccount
		"POST /console/see-as": true,                              // TestSeenAs_ReadOnlyRoleView
		"GET /console/agree":   true, "POST /console/agree": true, // TestAgreeReference_SingleUse
		"GET /console/self": true, "POST /console/self": true} // TestSelfService_ChangeSignIn
	for _, p := range readPageRoles(t) {
		r := require.Value(http.NewRequestWithContext(t.Context(), p.method, p.path, nil))(t)
		_, pattern := mux.Handler(r)
		assert.True(t, pattern != "", "testdata/roles.txt has %s %s, which is no route", p.method, p.path)
		listed[pattern] = true
	}
	for _, pattern := range console.Routes() {
		assert.True(t, listed[pattern] != slices.Contains(publicRoutes, pattern),
			"%s: add it either to testdata/roles.txt or to publicRoutes", pattern)
	}
}

// stream opens the live list and returns a function that reads its next line other than a comment.
func (v *visitor) stream(path string) func() string {
	v.t.Helper()
	r := require.Value(http.NewRequestWithContext(v.t.Context(), "GET", v.s.AdminURL+path, nil))(v.t)
	r.Header.Set("Accept", "text/event-stream")
	w := require.Value(v.http.Do(r))(v.t)
	v.t.Cleanup(func() { w.Body.Close() })
	require.True(v.t, w.StatusCode == http.StatusOK, "stream: %s, want 200", w.Status)
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
	assert.Equal(t, newVisitor(t, s).get("/console/calls/live", stream).Status, http.StatusUnauthorized, "stream without a session")
	v := newUser(t, s, "alice", adminroute.Viewer)
	p := v.get("/console/calls/live", stream, "Sec-Fetch-Site: cross-site")
	assert.Equal(t, p.Status, http.StatusForbidden, "stream for a page of another origin")
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`)
	next := v.stream("/console/calls/live?after=0")
	line := next()
	assert.True(t, strings.HasPrefix(line, "id: "), "first line of a viewer's stream = %s, want an id", line)
	s.Admin("DELETE", "/people/alice", "") // ASVS 7.4.2: the stream ends too
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`)
	for range 2 {
		next()
	}
	assert.Equal(t, next(), "event: over", "stream of a deleted person")
}

// TestSession_IdleTimeoutWithOpenTab verifies that an open tab does not keep the session alive, whatever events it receives and however
// often it reconnects: the session ends after twelve idle hours.
func TestSession_IdleTimeoutWithOpenTab(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop})
	v := newUser(t, s, "alice", adminroute.Operator)
	next := v.stream("/console/calls/live")
	call := func() { s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`) }
	for range 2 {
		s.Clock.Step(5 * time.Hour)
		call()
		line := next()
		require.True(t, strings.HasPrefix(line, "id: "), "line after a call = %s, want an id", line)
		next() // event line
		next() // data line
		reconnected := v.stream("/console/calls/live?after=0")
		line = reconnected()
		require.True(t, strings.HasPrefix(line, "id: "), "first line of a reconnected stream = %s, want an id", line)
	}
	s.Clock.Step(2 * time.Hour)
	call()
	assert.Equal(t, next(), "event: over", "stream after twelve hours")
	assert.Equal(t, v.get("/console/calls").Status, http.StatusSeeOther, "page after twelve hours")
}

// TestTLS_HSTSAndSecureCookies verifies that a server behind TLS sends Strict-Transport-Security for a year and cookies for this host and
// TLS only, that a developer's server and plain HTTP do neither, and that wire calls never get the header (ASVS 3.3.1, 3.3.3, 3.4.1).
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
			v := newVisitor(t, s)
			const tls = "X-Forwarded-Proto: https"
			p := v.post("/console/login?lang=zh", url.Values{"password": {servertest.AdminToken}}, tls)
			require.Equal(t, p.Status, http.StatusSeeOther, "sign-in")
			for _, cookie := range p.Header.Values("Set-Cookie") {
				session := strings.Contains(cookie, "session")
				if !strings.Contains(cookie, "; Secure") || !strings.Contains(cookie, "SameSite=Strict") ||
					!strings.Contains(cookie, "; HttpOnly") || session && !strings.HasPrefix(cookie, "__Host-qrjump_session=") {
					t.Errorf("attributes %.20s… of the cookie %.10s…, want Secure, HttpOnly and SameSite=Strict",
						cookie[strings.Index(cookie, ";"):], cookie)
				}
			}
			want := ""
			if c.strict {
				want = "max-age=31536000; includeSubDomains"
			}
			assert.Equal(t, v.get("/console/login", tls).Header.Get("Strict-Transport-Security"), want, "header over TLS")
			for _, path := range []string{"/console/login", "/healthz", "/cgi-bin/token"} {
				assert.Equal(t, v.get(path).Header.Get("Strict-Transport-Security"), "", "header of %s over plain HTTP", path)
			}
			assert.Equal(t, v.get("/cgi-bin/token", tls).Header.Get("Strict-Transport-Security"), "", "header of a wire call over TLS")
		})
	}
}

// pageParams fills path parameters with objects that a server may lack.
var pageParams = strings.NewReplacer("RID", "00000000-00000000-00000000", "BATCH", "1", "PACKAGE", "1", "SCAN", strings.Repeat("0", 32))

// dumpTables returns all rows of a server's database as text.
func dumpTables(t *testing.T, file string) string {
	t.Helper()
	db := require.Value(sql.Open("sqlite", "file:"+file+"?mode=ro"))(t)
	defer db.Close()
	queryRows := func(query string) (list []string) {
		rows := require.Value(db.QueryContext(t.Context(), query))(t)
		defer rows.Close()
		columns := require.Value(rows.Columns())(t)
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
	for _, table := range queryRows(`SELECT name FROM sqlite_master WHERE type = 'table'`) {
		for _, row := range queryRows(`SELECT * FROM` + table) {
			fmt.Fprintln(&b, table, row)
		}
	}
	return b.String()
}

// TestGET_NoSideEffects sends every GET of the console and of the admin API and verifies that the database stays the same (ASVS 3.5.3).
func TestGET_NoSideEffects(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop, Data: folder})
	v := newVisitor(t, s)
	v.signIn("", servertest.AdminToken, "")
	token := newLoginLink(t, s, `{}`)
	fill := strings.NewReplacer("{$}", "", "{appid}", "shop", "{rid}", "00000000-00000000-00000000", "{batch}", "1", "{id}", "1",
		"{user}", "u", "{mini_program}", "shop", "{component}", "c", "{application_id}", "1", "{code_index}", "0", "{scan_id}", "x",
		"{scan}", "x", "{package}", "1", "{file}", "rules.ndjson", "{table}", "numbers.csv",
		"{name}", "n", "{node}", "n", "{host}", "h", "{seq}", "1", "{alarm}", "1")
	before, requests := dumpTables(t, filepath.Join(folder, "qrjump.db")), 0
	get := func(path string, header ...string) {
		requests++
		assert.True(t, v.get(path, header...).Status < 500, "GET %s: status of 500 or more", path)
	}
	for _, pattern := range console.Routes() {
		if path, ok := strings.CutPrefix(pattern, "GET "); ok && !strings.HasSuffix(path, "/live") {
			get(fill.Replace(path))
			get(fill.Replace(path) + "?once=" + token + "&code=a&state=b&did=delete&name=shop&id=1&sure=1&lang=zh")
		}
	}
	for _, p := range readPageRoles(t) {
		if p.method == "GET" {
			get(pageParams.Replace(p.path))
		}
	}
	for _, o := range servertest.Operations() {
		if o.Method == "GET" {
			get("/admin/v1"+fill.Replace(o.Path)+"?appid=shop&prefix=https://shop.example/&text=x&at=2026-01-15T00:00:00Z",
				"Authorization: Bearer "+servertest.AdminToken)
		}
	}
	after := dumpTables(t, filepath.Join(folder, "qrjump.db"))
	assert.True(t, after == before && requests >= 60,
		"after %d GETs, want at least 60, the database =\n%s\nwant\n%s", requests, after, before)
	p := newVisitor(t, s).post("/console/login", url.Values{"once": {token}})
	assert.Equal(t, p.Status, http.StatusSeeOther, "use of the sign-in link after the GETs")
}

// TestDevServer_DNSRebinding verifies that a developer's server, which has no sign-in, answers no request for a foreign host name that
// resolves to this machine.
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
					t.Errorf("%s %s as %s: status %d, want 421: %s", method, path, host, a.Status, a.Body)
				}
			}
		}
	}
}

// TestForms_RejectCrossOrigin verifies that forms of the console and changing calls of the admin API are refused from pages of another
// origin (CSRF).
func TestForms_RejectCrossOrigin(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop}) // with --dev no other check applies
	v, requests := newVisitor(t, s), 0
	fill := strings.NewReplacer("{rid}", "x", "{of}", "theme", "{appid}", "shop", "{batch}", "1", "{id}", "1")
	for _, header := range []string{"Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site",
		"Sec-Fetch-Site: same-site"} {
		for _, pattern := range console.Routes() {
			if path, ok := strings.CutPrefix(pattern, "POST "); ok {
				requests++
				p := v.post(fill.Replace(path), url.Values{"did": {"reset"}}, header)
				assert.Equal(t, p.Status, http.StatusForbidden, "POST %s with %s", path, header)
			}
		}
		for _, o := range servertest.Operations() {
			if o.Method != "GET" {
				requests++
				path := regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(o.Path, "1")
				p := v.send(o.Method, "/admin/v1"+path, "text/plain", strings.NewReader("{}"), header)
				assert.Equal(t, p.Status, http.StatusForbidden, "%s %s with %s", o.Method, path, header)
			}
		}
	}
	assert.True(t, requests >= 200, "%d requests were sent, want at least 200", requests)
}

// TestSecretFields_MaskedAndSignOut verifies that fields for secrets are masked, accept pasted text and password managers, and that every
// page has a sign-out form (ASVS 6.2.6, 6.2.7, 7.4.4).
func TestSecretFields_MaskedAndSignOut(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop})
	v := newUser(t, s, "alice", adminroute.Admin)
	inputs, secrets := regexp.MustCompile(`<input[^>]*>`), 0
	autocomplete := regexp.MustCompile(`autocomplete="(current|new)-password"`)
	checkFields := func(path, body string) {
		for _, input := range inputs.FindAllString(body, -1) {
			if !strings.Contains(input, "password") || strings.Contains(input, `type="hidden"`) {
				continue
			}
			secrets++
			assert.True(t, strings.Contains(input, `type="password"`) && autocomplete.MatchString(input) &&
				!strings.Contains(input, "onpaste") &&
				!regexp.MustCompile(`(minlength|pattern)=`).MatchString(input) && (!strings.Contains(input, `password" type=`) ||
				strings.Contains(input, `maxlength="1024"`)), "%s: %s", path, input)
		}
	}
	checkFields("/console/login", newVisitor(t, s).get("/console/login").Body)
	for _, p := range readPageRoles(t) {
		if p.method != "GET" {
			continue
		}
		page := v.get(pageParams.Replace(p.path))
		if !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
			continue // a download
		}
		body := page.Body
		checkFields(p.path, body)
		assert.True(t, regexp.MustCompile(`action="/console/logout[?"]`).MatchString(body), "%s has no sign-out form", p.path)
	}
	assert.True(t, secrets >= 4, "%d fields of secrets, want at least 4", secrets)
}

// TestPages_SecurityHeaders verifies that every response, also without a session, sends no referrer and cannot be framed (ASVS 3.4.5,
// 3.4.6).
func TestPages_SecurityHeaders(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	v := newVisitor(t, s)
	for _, p := range []page{v.get("/console/login"), v.get("/console/rules"), v.get("/console/nowhere"), v.post("/console/login", nil),
		v.post("/console/logout", nil, "Sec-Fetch-Site: cross-site"), v.get("/console/login/callback")} {
		policy := p.Header.Get("Content-Security-Policy")
		assert.True(t, p.Header.Get("Referrer-Policy") == "no-referrer" && p.Header.Get("X-Content-Type-Options") == "nosniff",
			"page with status %d: headers %v", p.Status, p.Header)
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "object-src 'none'",
			"form-action 'self'"} {
			assert.Contains(t, policy, part, "policy of the page with status %d", p.Status)
		}
	}
}

// TestConsoleListener_Separate verifies that the console can have a listener apart from pages of buyers and wire calls (ASVS 3.5.4).
func TestConsoleListener_Separate(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop,
		Config: func(c *server.Config) { c.AdminListen = "localhost:0" }})
	require.True(t, s.AdminURL != s.URL, "console and wire calls share one listener")
	for base, want := range map[string]int{s.AdminURL: http.StatusOK, s.URL: http.StatusMisdirectedRequest} {
		r := require.Value(http.NewRequestWithContext(t.Context(), "GET", base+"/console/login", nil))(t)
		s.Send(r).WantStatus(t, want, "%s", base)
	}
}

// TestSessions_BoundedPerPerson verifies that a new server has no person, that passwords do not expire, that a person has at most twenty
// sessions, and that an admin ends all of them with pending links (ASVS 6.2.10, 6.3.2, 7.1.2, 7.4.5).
func TestSessions_BoundedPerPerson(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	assert.Contains(t, s.Admin("GET", "/people", "").Body, `"people":[]`, "people of a new server")
	for _, name := range []string{"admin", "root", "qrjump"} {
		for _, word := range []string{"", "admin", "password", "qrjump", name} {
			if p := newVisitor(t, s).signIn(name, word, ""); p.Status != http.StatusForbidden && p.Status != http.StatusTooManyRequests {
				t.Errorf("sign-in as %s with %q: status %d, want 403 or 429", name, word, p.Status)
			}
		}
	}
	createPerson(s, "alice", adminroute.Viewer)
	s.Clock.Step(400 * 24 * time.Hour)
	first := newVisitor(t, s)
	require.Equal(t, first.signIn("alice", password, "").Status, http.StatusSeeOther, "sign-in after a year")
	var last *visitor
	for i := range iam.MaxSessions {
		s.Clock.Step(time.Second)
		require.Equal(t, first.get("/console/sessions").Status, http.StatusOK, "first session with %d others", i)
		last = newVisitor(t, s)
		last.signIn("alice", password, "")
	}
	assert.Equal(t, first.get("/console/sessions").Status, http.StatusSeeOther, "oldest of %d sessions", iam.MaxSessions+1)
	token := newLoginLink(t, s, `{"name":"alice"}`)
	s.Admin("DELETE", "/people/alice/sessions", "")
	assert.Equal(t, last.get("/console/sessions").Status, http.StatusSeeOther, "session revoked by an admin")
	assert.Equal(t, last.post("/console/login", url.Values{"once": {token}}).Status, http.StatusForbidden,
		"sign-in link from before the revocation")
}

// TestForms_BodyLimit verifies that a form without an upload does not accept the body of a large upload.
func TestForms_BodyLimit(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	v := newUser(t, s, "vera", adminroute.Viewer)
	body, w := io.Pipe() // sends nothing: the server does not read the body
	defer w.Close()
	r := require.Value(http.NewRequestWithContext(t.Context(), "POST", s.AdminURL+"/console/preferences/theme", body))(t)
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	r.ContentLength = 150 << 20
	a := require.Value(v.http.Do(r))(t)
	defer a.Body.Close()
	assert.Equal(t, a.StatusCode, http.StatusRequestEntityTooLarge, "form of 150 MiB")
}
