package console_test

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/pagetest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

func TestMain(m *testing.M) { os.Exit(browsertest.Main(m)) }

const password = "four wild geese over Urumqi"

// visitor is an HTTP client with cookies that does not follow redirects, as a browser without scripts.
type visitor struct {
	t    *testing.T
	s    *servertest.Server
	http *http.Client
}

type page struct {
	Status int
	Body   string
	Header http.Header
}

func newVisitor(t *testing.T, s *servertest.Server) *visitor {
	jar := require.Value(cookiejar.New(nil))(t)
	return &visitor{t, s, &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (v *visitor) send(method, path, kind string, body io.Reader, header ...string) page {
	v.t.Helper()
	r := require.Value(http.NewRequestWithContext(v.t.Context(), method, v.s.AdminURL+path, body))(v.t)
	r.Header.Set("Content-Type", kind)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	w := require.Value(v.http.Do(r))(v.t)
	defer w.Body.Close()
	text := require.Value(io.ReadAll(w.Body))(v.t)
	for _, c := range w.Cookies() {
		if len(c.Value) > 20 {
			v.s.RegisterSecret(c.Value)
		}
	}
	return page{w.StatusCode, string(text), w.Header}
}

func (v *visitor) get(path string, header ...string) page {
	v.t.Helper()
	return v.send("GET", path, "", nil, header...)
}

// checkSize verifies that a page and the files that it loads at first fit the size budget.
func (v *visitor) checkSize(path string, p page) {
	v.t.Helper()
	bytes, loaded := pagetest.MeasurePage(v.t, p.Body, func(address string) string {
		got := v.get(address)
		assert.Equal(v.t, got.Status, http.StatusOK, "%s loads %s", path, address)
		return got.Body
	})
	assert.True(v.t, bytes <= pagetest.Budget && len(loaded) >= 3, // two styles and a script
		"%s: %d bytes with the files %q, want at most %d bytes and at least 3 files", path, bytes, loaded, pagetest.Budget)
}

// getDeferred returns the first part of a page that the browser loads after the page.
func (v *visitor) getDeferred(p page) page { return v.get(deferredPath(p)) }

func deferredPath(p page) string {
	link := regexp.MustCompile(`<p class="later"><a href="([^"]*)">`).FindStringSubmatch(p.Body)
	if link == nil {
		return "/console/nothing-comes-later"
	}
	return html.UnescapeString(link[1])
}

func (v *visitor) post(path string, form url.Values, header ...string) page {
	v.t.Helper()
	return v.send("POST", path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), header...)
}

// upload sends a multipart form with a file; fileField "" means none.
func (v *visitor) upload(path string, fields url.Values, fileField string, content []byte, header ...string) page {
	v.t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for name, values := range fields {
		for _, value := range values {
			require.NoError(v.t, form.WriteField(name, value))
		}
	}
	if fileField != "" {
		file := require.Value(form.CreateFormFile(fileField, "file"))(v.t)
		require.NoError(v.t, assert.ErrorOf(file.Write(content)))
	}
	require.NoError(v.t, form.Close())
	return v.send("POST", path, form.FormDataContentType(), &b, header...)
}

// signIn sends the sign-in form.
func (v *visitor) signIn(name, secret, code string) page {
	v.t.Helper()
	return v.post("/console/login", url.Values{"name": {name}, "password": {secret}, "code": {code}, "next": {"/console/rules"}})
}

// newUser creates a person and returns a visitor that is signed in as this person.
func newUser(t *testing.T, s *servertest.Server, name string, role adminroute.Role, accounts ...string) *visitor {
	t.Helper()
	createPerson(s, name, role, accounts...)
	v := newVisitor(t, s)
	v.signIn(name, password, "")
	return v
}

// newLoginLink creates a sign-in link and returns its single-use token.
func newLoginLink(t *testing.T, s *servertest.Server, body string) string {
	t.Helper()
	link := servertest.Decode[struct{ URL string }](t, s.Admin("POST", "/login-links", body))
	_, token, _ := strings.Cut(link.URL, "once=")
	s.RegisterSecret(token)
	return token
}

// createPerson creates a person that signs in with password. It stores a hash of the lowest argon2id cost, because the hash of a password
// that was set through the API takes 20 ms to verify.
func createPerson(s *servertest.Server, name string, role adminroute.Role, accounts ...string) {
	body, _ := json.Marshal(client.PersonPut{Name: name, Role: string(role), Accounts: accounts}) // texts: no error
	s.Admin("POST", "/people", string(body))
	s.Exec(fmt.Sprintf(`UPDATE people SET password = '%s' WHERE name = '%s'`, cheapHash(), name))
}

// cheapHash returns a hash of password at the lowest cost.
var cheapHash = sync.OnceValue(func() string {
	salt := []byte("0123456789abcdef")
	key := argon2.IDKey([]byte(password), salt, 1, 8, 1, 32)
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=8,t=1,p=1$%s$%s", argon2.Version, text(salt), text(key))
})

// pageRole is a page with the lowest role that may open it.
type pageRole struct {
	method, path string
	minRole      adminroute.Role
}

// readPageRoles returns every page with its role.
func readPageRoles(t *testing.T) (list []pageRole) {
	for _, row := range testtable.Rows(t, "testdata/roles.txt", 3) {
		role := adminroute.Role(row[2])
		require.True(t, role.Known(), "unknown role %s", role)
		list = append(list, pageRole{row[0], row[1], role})
	}
	return list
}

// TestPages_RoleMatrix opens every page as each role and without a session, and verifies the status, the size and the security headers.
func TestPages_RoleMatrix(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch := fmt.Sprint(s.Apply("press", "<b>order", 10_000))
	rid := regexp.MustCompile(`rid: ([0-9a-f-]{26})`).FindStringSubmatch(s.Do("POST", "/cgi-bin/wxopen/qrcodejumppublish?access_token="+
		s.Token("shop"), `{"prefix":"https://none.example/"}`).Body)[1]
	visitors := map[string]*visitor{"": newVisitor(t, s)}
	for _, r := range adminroute.Roles {
		createPerson(s, "a-"+string(r), r)
		v := newVisitor(t, s)
		p := v.signIn("a-"+string(r), password, "")
		require.True(t, p.Status == http.StatusSeeOther && p.Header.Get("Location") == "/console/rules",
			"sign-in as %s: status %d, want a redirect to /console/rules: %s", r, p.Status, p.Body)
		visitors[string(r)] = v
	}
	actions := map[string]string{"/console/calls/" + rid: "fault", "/console/people": "delete-key", "/console/emulator": "fault",
		"/console/codes": "freeze", "/console/rules/do": "publish-sure", "/console/accounts/shop": "jump-on",
		"/console/statistics": "end", "/console/alarms": "acknowledge",
		"/console/operate/webhooks": "test", "/console/operate/checks": "domain",
		"/console/platforms/plat": "put"}
	var scan struct {
		ID string `json:"scan_id"`
	}
	var pack struct{ Package int64 }
	key := "Authorization: Bearer " + newScanKey(s)
	s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/7","user":"ann"}`, key).JSON(t, &scan)
	code := codeText(t, s, batch, 7)
	scanByUsers(s, code, 60, key)
	s.Admin("GET", "/statistics?wait=true", "")
	s.Admin("POST", "/cases", `{"title":"Market stall","account":"press","alarms":[1]}`)
	s.Admin("POST", "/batches/"+batch+"/packages", `{"code_start":5000,"code_end":5999,"printer":"Press"}`).JSON(t, &pack)
	fill := strings.NewReplacer("RID", rid, "BATCH", batch, "SCAN", scan.ID, "PACKAGE", fmt.Sprint(pack.Package))
	// Further form fields by page.
	extraFields := map[string]url.Values{
		"/console/statistics/scans":      {"did": {"erase"}, "user": {"1"}},
		"/console/packages":              {"printer": {"Press"}, "batch": {batch}},
		"/console/packages/job":          {"text": {"batch: " + batch + "\nrange: 0-9\n"}},
		"/console/packages/PACKAGE":      {"did": {"spoil"}, "ranges": {"5000"}, "sure": {fill.Replace("PACKAGE")}},
		"/console/packages/PACKAGE/file": {"passphrase": {"a passphrase of the test"}},
		"/console/codes/BATCH/serials":   {"serials": {"7,TEA-0007"}},
		"/console/codes/BATCH/alarm":     {"did": {"off"}},
		"/console/cases":                 {"title": {"Market stall"}},
		"/console/cases/1":               {"did": {"save"}, "title": {"Market stall"}, "state": {"open"}},
		"/console/operate/apps":          {"did": {"delete"}, "name": {"nobody"}, "sure": {"nobody"}},
		"/console/operate/settings":      {"reset": {"rule_limit"}},
		"/console/emulator":              {"appid": {"shop"}},
		"/console/operate/bulk":          {"did": {"check"}, "what": {"accounts"}, "text": {`{"appid":"bulk","kind":"mini_program"}`}},
		"/console/people":                {"name": {"nobody"}, "sure": {"nobody"}},
		"/console/orders": {"did": {"ask"}, "account": {"press"}, "isv_application_id": {"wish"}, "code_count": {"10000"},
			"text": {""}},
		"/console/orders/texts": {"account": {"press"}, "isv_application_id": {"old"}, "text": {"https://old.example/c/{token:8}"},
			"list": {"https://old.example/c/12345678"}},
		"/console/rules":             {"did": {"publish"}, "selected": {"shop https://none.example/"}},
		"/console/accounts/selected": {"did": {"jump-on"}, "selected": {"shop"}},
		"/console/calls/deviations":  {"did": {"forget"}, "account": {"shop"}},
		"/console/gs1/key":           {"did": {"save"}, "key": {"01/09506000134352"}, "owner": {""}, "archived": {"yes"}},
		"/console/gs1/transfer":      {"of": {"9506"}, "to": {"shop"}, "sure": {"9506"}},
	}
	for _, c := range readPageRoles(t) {
		for name, v := range visitors {
			var p page
			target := fill.Replace(c.path)
			if c.method == "GET" {
				p = v.get(target)
			} else {
				form := url.Values{"seq": {"999999"}, "did": {actions[target]}, "errcode": {"-1"}, "count": {"1"}, "id": {"999"},
					"path": {"/cgi-bin/token"}, "batch": {"999"}, "from": {"0"}, "to": {"0"}, "sure": {"1"},
					"appid": {"by-" + name + strings.ReplaceAll(target, "/", "-")}, "kind": {"mini_program"}, "name": {"rule_limit"},
					"host": {"a.example"}, "status": {"trusted"}, "node": {"1"}, "component": {"plat"}, "owner": {"nobody"},
					"text": {"rules: []"}, "prefix": {"https://none.example/"},
					"secret": {"0123456789abcdef0123456789abcdef"}, "message_token": {"tok"},
					"encoding_aes_key": {"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}}
				maps.Copy(form, extraFields[c.path])
				p = v.post(target, form)
			}
			var ok bool
			switch permitted := adminroute.Role(name).AtLeast(c.minRole); {
			case name == "" && c.method == "GET":
				ok = p.Status == http.StatusSeeOther && strings.HasPrefix(p.Header.Get("Location"), "/console/login?next=%2Fconsole%2F")
			case name == "":
				ok = p.Status == http.StatusUnauthorized
			case permitted && c.method == "GET":
				ok = p.Status == http.StatusOK
				if strings.HasPrefix(p.Header.Get("Content-Type"), "text/html") { // the others are files
					v.checkSize(target, p)
				}
			case permitted:
				ok = p.Status == http.StatusSeeOther || p.Status == http.StatusNotFound || // the change does not exist
					p.Status == http.StatusOK && slices.Contains([]string{"/console/operate/audit", "/console/statistics/scans",
						"/console/packages/PACKAGE/file", "/console/packages/job", "/console/operate/bulk", "/console/accounts/selected",
						"/console/health"}, c.path)
			default:
				ok = p.Status == http.StatusForbidden
			}
			assert.True(t, ok, "%s %s as %q: status %d, Location %q; the page requires %s",
				c.method, c.path, name, p.Status, p.Header.Get("Location"), c.minRole)
			h, policy := p.Header, "default-src 'none'; script-src 'self'; style-src 'self';"
			assert.True(t, strings.Contains(h.Get("Content-Security-Policy"), policy) && h.Get("Cache-Control") == "no-store" &&
				h.Get("X-Content-Type-Options") == "nosniff", "%s %s: headers %v, want the security headers", c.method, c.path, h)
		}
	}
}

// newScanKey creates a key of the scan API.
func newScanKey(s *servertest.Server) string {
	return s.NewKey("/scan-keys", `{"name":"till","namespace":"default"}`)
}

//go:embed testdata/seeds/shop.yaml
var shop string

// TestSession_Lifetime verifies when a session starts and ends, that its cookie opens the console only, and that forms of other origins are
// rejected (ASVS 7.2.4, 7.4.1, 7.5.2, 3.3, 3.7.2).
func TestSession_Lifetime(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	createPerson(s, "alice", adminroute.Viewer)
	v := newVisitor(t, s)
	v.http.Jar.SetCookies(&url.URL{Scheme: "http", Host: strings.TrimPrefix(s.AdminURL, "http://"), Path: "/"},
		[]*http.Cookie{{Name: "qrjump_session", Value: "chosen-by-a-stranger"}})
	p := v.signIn("alice", password, "")
	cookie := p.Header.Get("Set-Cookie")
	if strings.Contains(cookie, "chosen-by-a-stranger") || !strings.Contains(cookie, "HttpOnly") ||
		!strings.Contains(cookie, "SameSite=Strict") ||
		!regexp.MustCompile(`^qrjump_session=[0-9A-Za-z_-]{43};`).MatchString(cookie) {
		t.Errorf("session cookie ends with %s, want a new text, HttpOnly and SameSite=Strict",
			strings.Replace(cookie, "qrjump_session=", "", 1)[40:])
	}
	old := strings.TrimPrefix(strings.SplitN(cookie, ";", 2)[0], "qrjump_session=")
	v.signIn("alice", password, "")
	stale := newVisitor(t, s)
	p = stale.get("/console/rules", "Cookie: qrjump_session="+old)
	assert.Equal(t, p.Status, http.StatusSeeOther, "session from before a second sign-in")
	other := newVisitor(t, s)
	other.signIn("alice", password, "")
	p = v.get("/console/sessions")
	assert.Equal(t, strings.Count(p.Body, "<time"), 4, "times on the page of two sessions")
	v.post("/console/sessions", url.Values{"id": {"others"}})
	assert.Equal(t, other.get("/console/rules").Status, http.StatusSeeOther, "session ended by another session")
	assert.Equal(t, v.post("/console/logout", nil).Status, http.StatusSeeOther, "sign-out")
	assert.Equal(t, v.get("/console/rules").Status, http.StatusSeeOther, "after the sign-out")
	v.signIn("alice", password, "")
	s.Clock.Step(11 * time.Hour)
	assert.Equal(t, v.get("/console/rules").Status, http.StatusOK, "after eleven idle hours")
	s.Clock.Step(12 * time.Hour)
	assert.Equal(t, v.get("/console/rules").Status, http.StatusSeeOther, "after twelve idle hours")
	v.signIn("alice", password, "")
	for range 16 { // seven days, never idle
		s.Clock.Step(11 * time.Hour)
		v.get("/console/rules")
	}
	assert.Equal(t, v.get("/console/rules").Status, http.StatusSeeOther, "after seven days")
	v.signIn("alice", password, "")
	s.Admin("PATCH", "/people/alice", `{"role":"rules-editor"}`)
	assert.Equal(t, v.get("/console/rules").Status, http.StatusSeeOther, "after the role changed")
	for _, next := range []string{"https://evil.example/", "//evil.example", "/console/login", "/\\evil.example",
		"/admin/v1/accounts", "javascript:x"} {
		p := v.post("/console/login", url.Values{"name": {"alice"}, "password": {password}, "next": {next}})
		assert.Equal(t, p.Header.Get("Location"), "/console/", "redirect with next=%s", next)
	}
	assert.Equal(t, v.get("/admin/v1/accounts").Status, http.StatusUnauthorized, "admin API with a session cookie")
	for _, header := range []string{"Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"} {
		for _, path := range []string{"/console/login", "/console/logout", "/console/rules/undo", "/console/sessions"} {
			p := v.post(path, url.Values{"name": {"alice"}, "password": {password}}, header)
			assert.Equal(t, p.Status, http.StatusForbidden, "POST %s with %s", path, header)
		}
	}
}

// TestSignIn_TokenLinkAndSecondFactor signs in with the admin token, with a single-use link and with a second factor, whose codes are valid
// once. The throttle of failed attempts for one name must leave other names alone.
func TestSignIn_TokenLinkAndSecondFactor(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	v := newVisitor(t, s)
	assert.Equal(t, v.signIn("", servertest.AdminToken, "").Status, http.StatusSeeOther, "sign-in with the admin token")
	p := v.get("/console/accounts")
	assert.True(t, p.Status == http.StatusOK && !strings.Contains(p.Body, "<b>Tea") && strings.Contains(p.Body, "&lt;b&gt;Tea"),
		"accounts: status %d, want the escaped name: %s", p.Status, p.Body)
	createPerson(s, "alice", adminroute.Viewer)
	token := newLoginLink(t, s, `{"name":"alice"}`)
	v = newVisitor(t, s)
	for range 2 { // GET does not use up the link: link scanners of mail programs open it
		p := v.get("/console/login?once=" + token)
		require.True(t, p.Status == http.StatusOK && strings.Contains(p.Body, token), "GET of the link: status %d: %s", p.Status, p.Body)
	}
	assert.Equal(t, v.post("/console/login", url.Values{"once": {token}}).Status, http.StatusSeeOther, "first use of the link")
	assert.Equal(t, newVisitor(t, s).post("/console/login", url.Values{"once": {token}}).Status, http.StatusForbidden, "second use")
	var factor struct {
		Recovery []string `json:"recovery_codes"`
	}
	s.Admin("PATCH", "/people/alice", `{"second_factor":"new"}`).JSON(t, &factor)
	for _, code := range factor.Recovery {
		s.RegisterSecret(code)
	}
	v = newVisitor(t, s)
	for _, c := range []struct {
		code string
		want int
	}{{"", http.StatusUnauthorized}, {"000000", http.StatusForbidden}, {factor.Recovery[0], http.StatusSeeOther},
		{factor.Recovery[0], http.StatusForbidden},
		{strings.ToUpper(factor.Recovery[1][:8]) + " " + factor.Recovery[1][8:], http.StatusSeeOther}} {
		assert.Equal(t, v.signIn("alice", password, c.code).Status, c.want, "sign-in with the code %.3q", c.code)
	}
	// Attempts are limited by name: failed attempts for one name do not lock another one.
	createPerson(s, "bob", adminroute.Viewer)
	for i := range 30 {
		p := newVisitor(t, s).signIn("nobody", "wrong", "")
		require.True(t, (i >= 15 || p.Status == http.StatusForbidden) && (i <= 25 || p.Status == http.StatusTooManyRequests),
			"attempt %d: status %d, want 403 at first and 429 in the end", i, p.Status)
	}
	s.Clock.Step(time.Minute)
	assert.Equal(t, newVisitor(t, s).signIn("bob", password, "").Status, http.StatusSeeOther, "a minute later")
}

// TestCallPage_CopyRepeatAndEdit opens a recorded call, exports it as HAR, repeats it with another body and injects a fault.
func TestCallPage_CopyRepeatAndEdit(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := newVisitor(t, s)
	assert.Contains(t, v.get("/console/calls").Body, `id="empty"`, "hint of the empty list")
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumppublish?access_token="+s.Token("shop"), `{"prefix":"https://none.example/<script>"}`)
	list := v.get("/console/calls?failed=true").Body
	rid := regexp.MustCompile(`/console/calls/([0-9a-f-]{26})`).FindStringSubmatch(list)
	require.True(t, rid != nil && !strings.Contains(list, "<script>"), "list of failed calls = %v, want the call with escaped text", list)
	v.get(rid[0]).wantText(t, "https://none.example/&lt;script&gt;", "curl -s", `name="did" value="again"`)
	var har struct {
		Log struct {
			Entries []struct {
				Request struct{ Method string }
			}
		}
	}
	err := json.Unmarshal([]byte(v.get(rid[0]+".har").Body), &har)
	assert.True(t, err == nil && len(har.Log.Entries) == 1 && har.Log.Entries[0].Request.Method == "POST", "HAR = %+v, %v", har, err)
	repeated := v.post(rid[0], url.Values{"did": {"again"}, "body": {`{"prefix":"https://shop.example/"}`}})
	to := repeated.Header.Get("Location")
	require.True(t, repeated.Status == http.StatusSeeOther && to != rid[0],
		"repeated call: status %d, Location %q, want the page of a new call: %s", repeated.Status, to, repeated.Body)
	p := v.get(to)
	assert.True(t, strings.Contains(p.Body, "https://shop.example/") && !strings.Contains(p.Body, "none.example"),
		"page of the repeated call = %s, want the edited body", p.Body)
	v.post(rid[0], url.Values{"did": {"fault"}})
	a := s.Do("POST", "/cgi-bin/wxopen/qrcodejumppublish?access_token="+s.Token("shop"), `{"prefix":"https://shop.example/"}`)
	assert.True(t, a.Code(t) != 0, "call with an injected fault = %s, want an error", a.Body)
	v.get("/console/calls?view=errors").wantText(t, "/cgi-bin/wxopen/qrcodejumppublish")
	assert.Equal(t, v.get("/console/calls/live", "Sec-Fetch-Site: cross-site").Status, http.StatusForbidden, "stream for another site")
}

// TestPictureUpload_DecodesCode verifies that the server decodes the QR code of an uploaded picture, and rejects other files and pictures
// that are too large.
func TestPictureUpload_DecodesCode(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := newVisitor(t, s)
	send := func(content []byte) string {
		t.Helper()
		p := v.upload("/console/scan", nil, "picture", content)
		require.True(t, p.Status == http.StatusSeeOther, "upload: status %d, want 303: %s", p.Status, p.Body)
		return p.Header.Get("Location")
	}
	valid := qrPicture(t, "https://shop.example/7?a=<b>")
	to := send(valid)
	assert.Equal(t, to, "/console/scan?text="+url.QueryEscape("https://shop.example/7?a=<b>"), "redirect of a QR code")
	p := v.get(to)
	assert.Equal(t, p.Status, http.StatusOK, "status of %s", to)
	p.wantText(t, "pages/index/index", `<img class="qr"`)
	p = v.get("/console/scan?text=" + url.QueryEscape("https://new.example/x?y=1"))
	link := regexp.MustCompile(`href="(/console/rules/new[^"]*)"`).FindStringSubmatch(p.Body)
	require.True(t, link != nil, "page of an unmatched link has no link to a new rule: %s", p.Body)
	p = v.get(html.UnescapeString(link[1]))
	assert.Equal(t, p.Status, http.StatusOK, "status of %s", link[1])
	p.wantText(t, `value="https://new.example/x"`)
	large := bytes.Clone(valid)
	copy(large[16:24], []byte{0, 1, 0, 0, 0, 1, 0, 0}) // the header claims 65,536 by 65,536 pixels
	for want, content := range map[string][]byte{"kind": []byte("no picture"), "large": bytes.Repeat([]byte{1}, 5<<20)} {
		assert.Equal(t, send(content), "/console/scan?fault="+want, "redirect of an invalid file")
	}
	to = send(large)
	assert.True(t, to == "/console/scan?fault=large" || to == "/console/scan?fault=kind", "huge picture: redirect to %s, want a fault", to)
	for want, content := range map[string][]byte{`{"text":"https://shop.example/7?a=\u003cb\u003e"}`: valid,
		`{"fault":"kind","says":"The file is not a PNG, JPEG or GIF."}`: []byte("no picture")} {
		p := v.upload("/console/scan", nil, "picture", content, "Accept: application/json")
		assert.True(t, p.Status == http.StatusOK && p.Header.Get("Content-Type") == "application/json" && strings.TrimSpace(p.Body) == want,
			"upload by a script: status %d, %s, want %s", p.Status, p.Body, want)
	}
}

// TestTemplates_AllTextTranslated verifies that no template contains text itself: all text comes from the catalogs of both languages.
func TestTemplates_AllTextTranslated(t *testing.T) {
	names, err := filepath.Glob("templates/*.html")
	require.True(t, err == nil && len(names) >= 5, "%d templates, %v; want at least 5", len(names), err)
	parts := require.Value(filepath.Glob("templates/parts/*.html"))(t)
	for _, name := range append(append(names, parts...), "../welcome/page.html") {
		text := require.Value(os.ReadFile(name))(t)
		bare := regexp.MustCompile(`(?s)<pre.*?</pre>`).ReplaceAllString(string(text), "")
		bare = regexp.MustCompile(`(?s)\{\{.*?\}\}`).ReplaceAllString(bare, "")
		bare = regexp.MustCompile(`(?s)<[^>]*>`).ReplaceAllString(bare, "\n")
		bare = regexp.MustCompile(`[a-z-]+="[^"]*"`).ReplaceAllString(bare, "") // some parts consist of attributes
		for line := range strings.Lines(bare) {
			word := strings.TrimSpace(line)
			assert.True(t, !regexp.MustCompile(`\pL`).MatchString(word) || strings.Trim(word, " ·") == "qrjump" || word == "/openapi.json",
				"%s contains the text %q, want it in the catalogs", name, word)
		}
	}
}

// TestCopiedCommand_ShellQuoting verifies that the curl command of a call quotes the request body, so that it neither reads a file nor runs
// a command.
func TestCopiedCommand_ShellQuoting(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := newVisitor(t, s)
	for body, want := range map[string]string{
		"@/etc/passwd":  "--data-raw &#39;@/etc/passwd&#39;",
		"it's":          `--data-raw &#39;it&#39;\&#39;&#39;s&#39;`,
		"\x1b[201~\nid": `--data-raw $&#39;\033[201~\012id&#39;`,
	} {
		a := s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+s.Token("shop"), body)
		v.get("/console/calls/"+a.RID(t)).wantText(t, want)
	}
}

// TestSignIn_ConcurrentGuessesThrottled verifies that concurrent attempts share the limit of sequential ones.
func TestSignIn_ConcurrentGuessesThrottled(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	createPerson(s, "alice", adminroute.Viewer)
	var compared atomic.Int32
	var attempts sync.WaitGroup
	for range 6 * accounts.GuessesPerMinute {
		v := newVisitor(t, s)
		attempts.Go(func() {
			if v.signIn("alice", "not the password", "").Status == http.StatusForbidden {
				compared.Add(1)
			}
		})
	}
	attempts.Wait()
	n := compared.Load()
	assert.True(t, n >= 1 && n <= 2*accounts.GuessesPerMinute, "%d of %d attempts were compared with the password, want at most %d",
		n, 6*accounts.GuessesPerMinute, 2*accounts.GuessesPerMinute)
	assert.Equal(t, newVisitor(t, s).signIn("a\x00", password, "").Status, http.StatusTooManyRequests, "invalid name above the limit")
	s.Clock.Step(time.Minute)
	assert.Equal(t, newVisitor(t, s).signIn("a\x00", password, "").Status, http.StatusForbidden, "invalid name a minute later")
}

// TestSignInLink_RevokedWithSessions verifies that an unused sign-in link is revoked when the person's sessions are.
func TestSignInLink_RevokedWithSessions(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	createPerson(s, "alice", adminroute.Viewer)
	for name, revoke := range map[string]func(){
		"another password": func() { s.Admin("PATCH", "/people/alice", `{"password":"eleven grey cranes by the lake"}`) },
		"deleted":          func() { s.Admin("DELETE", "/people/alice", ""); createPerson(s, "alice", adminroute.Viewer) },
	} {
		token := newLoginLink(t, s, `{"name":"alice"}`)
		revoke()
		assert.Equal(t, newVisitor(t, s).post("/console/login", url.Values{"once": {token}}).Status, http.StatusForbidden, "%s", name)
	}
}

// TestSignIn_ClockAhead verifies that a clock that is a year ahead ends no session of another person, and that the credentials it dated end
// once it is right again.
func TestSignIn_ClockAhead(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	createPerson(s, "bob", adminroute.Viewer)
	alice, bob := newUser(t, s, "alice", "viewer"), newVisitor(t, s)
	s.Clock.Step(year)
	bob.signIn("bob", password, "")
	token := newLoginLink(t, s, `{"name":"alice"}`)
	chart := servertest.Decode[struct{ URL string }](t, s.Admin("POST", "/statistics/shared", `{"question":"by=day","days":7}`))
	s.Clock.Step(-year)
	assert.Equal(t, alice.get("/console/rules").Status, http.StatusOK, "page with a session from before the jump")
	assert.Equal(t, bob.get("/console/rules").Status, http.StatusSeeOther, "page with a session that the wrong clock dated")
	v := newVisitor(t, s)
	assert.Equal(t, v.post("/console/login", url.Values{"once": {token}}).Status, http.StatusForbidden, "login link of the wrong clock")
	_, path, _ := strings.Cut(chart.URL, "/console/")
	assert.Equal(t, v.get("/console/"+path).Status, http.StatusNotFound, "chart that was shared by the wrong clock")
}
