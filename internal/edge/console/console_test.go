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

// visitor is a browser without scripts.
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

func request(t *testing.T, s *servertest.Server) *visitor {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &visitor{t, s, &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (v *visitor) send(method, path, kind string, body io.Reader, header ...string) page {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.s.AdminURL+path, body)
	require.NoError(v.t, err)
	r.Header.Set("Content-Type", kind)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	w, err := v.http.Do(r)
	require.NoError(v.t, err)
	defer w.Body.Close()
	text, err := io.ReadAll(w.Body)
	require.NoError(v.t, err)
	for _, c := range w.Cookies() {
		if len(c.Value) > 20 {
			v.s.Hide(c.Value)
		}
	}
	return page{w.StatusCode, string(text), w.Header}
}

func (v *visitor) get(path string, header ...string) page {
	v.t.Helper()
	return v.send("GET", path, "", nil, header...)
}

// small checks that a page is within the budget with all that a browser loads for it at first.
func (v *visitor) small(path string, p page) {
	v.t.Helper()
	bytes, loaded := pagetest.Weigh(v.t, p.Body, func(address string) string {
		got := v.get(address)
		assert.Equal(v.t, got.Status, http.StatusOK, "%s loads %s", path, address)
		return got.Body
	})
	if bytes > pagetest.Budget || len(loaded) < 3 { // two styles and a script
		v.t.Errorf("%s: %d bytes with %q", path, bytes, loaded)
	}
}

// later is what comes after a page, the first of it.
func (v *visitor) later(p page) page { return v.get(laterOf(p)) }

func laterOf(p page) string {
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

// signIn signs a person in and returns what came back.
func (v *visitor) signIn(name, word, code string) page {
	v.t.Helper()
	return v.post("/console/login", url.Values{"name": {name}, "password": {word}, "code": {code}, "next": {"/console/rules"}})
}

// person creates a person who signs in with password. The server stores argon2id at its lowest cost for it: a sign-in with a password that
// was set through the API computes for 20 ms.
func person(s *servertest.Server, name string, role adminroute.Role, accounts ...string) {
	body, _ := json.Marshal(client.PersonPut{Name: name, Role: string(role), Accounts: accounts}) // texts: no error
	s.Admin("POST", "/people", string(body))
	s.Exec(fmt.Sprintf(`UPDATE people SET password = '%s' WHERE name = '%s'`, cheapHash(), name))
}

// cheapHash returns the hash of password.
var cheapHash = sync.OnceValue(func() string {
	salt := []byte("0123456789abcdef")
	key := argon2.IDKey([]byte(password), salt, 1, 8, 1, 32)
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=8,t=1,p=1$%s$%s", argon2.Version, text(salt), text(key))
})

// pageRole is a page with the least role that may see it.
type pageRole struct {
	method, path string
	least        adminroute.Role
}

// pages returns every page.
func pages(t *testing.T) (list []pageRole) {
	for _, row := range testtable.Rows(t, "testdata/roles.txt", 3) {
		role := adminroute.Role(row[2])
		require.True(t, role.Known(), "there is no role %s", role)
		list = append(list, pageRole{row[0], row[1], role})
	}
	return list
}

// Every page against every role and none: nobody sees what the table of operations keeps from them.
func TestPages_RoleMatrix(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch := fmt.Sprint(applied(t, s))
	rid := regexp.MustCompile(`rid: ([0-9a-f-]{26})`).FindStringSubmatch(s.Do("POST", "/cgi-bin/wxopen/qrcodejumppublish?access_token="+
		s.Token("shop"), `{"prefix":"https://none.example/"}`).Body)[1]
	role := map[string]*visitor{"": request(t, s)}
	for _, r := range adminroute.Roles {
		person(s, "a-"+string(r), r)
		v := request(t, s)
		if p := v.signIn("a-"+string(r), password, ""); p.Status != http.StatusSeeOther || p.Header.Get("Location") != "/console/rules" {
			t.Fatalf("%s signs in: %d %s", r, p.Status, p.Body)
		}
		role[string(r)] = v
	}
	did := map[string]string{"/console/calls/" + rid: "fault", "/console/people": "delete-key", "/console/emulator": "fault",
		"/console/codes": "freeze", "/console/rules/do": "publish-sure", "/console/accounts/shop": "jump-on",
		"/console/statistics": "end", "/console/alarms": "acknowledge",
		"/console/operate/webhooks": "test", "/console/operate/checks": "domain",
		"/console/platforms/plat": "put"}
	var scan struct {
		ID string `json:"scan_id"`
	}
	var pack struct{ Package int64 }
	key := "Authorization: Bearer " + scanKey(t, s)
	s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/7","user":"ann"}`, key).JSON(t, &scan)
	code := codeText(t, s, batch, 7)
	for i := range 60 { // an alarm
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u%d","ip":"10.%d.%d.1"}`, code, i, i, i), key)
	}
	s.Admin("GET", "/statistics?wait=true", "")
	s.Admin("POST", "/cases", `{"title":"Market stall","account":"press","alarms":[1]}`)
	s.Admin("POST", "/batches/"+batch+"/packages", `{"code_start":5000,"code_end":5999,"printer":"Press"}`).JSON(t, &pack)
	fill := strings.NewReplacer("RID", rid, "BATCH", batch, "SCAN", scan.ID, "PACKAGE", fmt.Sprint(pack.Package))
	// What a form says besides, by its page.
	also := map[string]url.Values{
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
	for _, c := range pages(t) {
		for name, v := range role {
			var p page
			target := fill.Replace(c.path)
			if c.method == "GET" {
				p = v.get(target)
			} else {
				form := url.Values{"seq": {"999999"}, "did": {did[target]}, "errcode": {"-1"}, "count": {"1"}, "id": {"999"},
					"path": {"/cgi-bin/token"}, "batch": {"999"}, "from": {"0"}, "to": {"0"}, "sure": {"1"},
					"appid": {"by-" + name + strings.ReplaceAll(target, "/", "-")}, "kind": {"mini_program"}, "name": {"rule_limit"},
					"host": {"a.example"}, "status": {"trusted"}, "node": {"1"}, "component": {"plat"}, "owner": {"nobody"},
					"text": {"rules: []"}, "prefix": {"https://none.example/"},
					"secret": {"0123456789abcdef0123456789abcdef"}, "message_token": {"tok"},
					"encoding_aes_key": {"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}}
				maps.Copy(form, also[c.path])
				p = v.post(target, form)
			}
			var ok bool
			switch may := adminroute.Role(name).AtLeast(c.least); {
			case name == "" && c.method == "GET":
				ok = p.Status == http.StatusSeeOther && strings.HasPrefix(p.Header.Get("Location"), "/console/login?next=%2Fconsole%2F")
			case name == "":
				ok = p.Status == http.StatusUnauthorized
			case may && c.method == "GET":
				ok = p.Status == http.StatusOK
				if strings.HasPrefix(p.Header.Get("Content-Type"), "text/html") { // the others are files
					v.small(target, p)
				}
			case may:
				ok = p.Status == http.StatusSeeOther || p.Status == http.StatusNotFound || // there is no such change
					p.Status == http.StatusOK && slices.Contains([]string{"/console/operate/audit", "/console/statistics/scans",
						"/console/packages/PACKAGE/file", "/console/packages/job", "/console/operate/bulk", "/console/accounts/selected",
						"/console/health"}, c.path)
			default:
				ok = p.Status == http.StatusForbidden
			}
			assert.True(t, ok, "%s %s by %q: %d %s", c.method, c.path, name, p.Status, p.Header.Get("Location"))
			h, strict := p.Header, "default-src 'none'; script-src 'self'; style-src 'self';"
			assert.True(t, strings.Contains(h.Get("Content-Security-Policy"), strict) && h.Get("Cache-Control") == "no-store" &&
				h.Get("X-Content-Type-Options") == "nosniff", "%s %s: %v", c.method, c.path, h)
		}
	}
}

// scanKey is a key of an app that scans.
func scanKey(t *testing.T, s *servertest.Server) string {
	return s.NewKey("/scan-keys", `{"name":"till","namespace":"default"}`)
}

//go:embed testdata/seeds/shop.yaml
var shop string

// ASVS 7.2.4, 7.4.1, 7.5.2, 3.3, 3.7.2: what a session is worth, and when it ends.
func TestSession_Lifetime(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "alice", adminroute.Viewer)
	v := request(t, s)
	v.http.Jar.SetCookies(&url.URL{Scheme: "http", Host: strings.TrimPrefix(s.AdminURL, "http://"), Path: "/"},
		[]*http.Cookie{{Name: "qrjump_session", Value: "chosen-by-a-stranger"}})
	p := v.signIn("alice", password, "")
	cookie := p.Header.Get("Set-Cookie")
	if strings.Contains(cookie, "chosen-by-a-stranger") || !strings.Contains(cookie, "HttpOnly") ||
		!strings.Contains(cookie, "SameSite=Strict") ||
		!regexp.MustCompile(`^qrjump_session=[0-9A-Za-z_-]{43};`).MatchString(cookie) {
		t.Errorf("the cookie: %s", strings.Replace(cookie, "qrjump_session=", "", 1)[40:])
	}
	old := strings.TrimPrefix(strings.SplitN(cookie, ";", 2)[0], "qrjump_session=")
	v.signIn("alice", password, "")
	stale := request(t, s)
	p = stale.get("/console/rules", "Cookie: qrjump_session="+old)
	assert.Equal(t, p.Status, http.StatusSeeOther, "the session of before a new sign-in")
	other := request(t, s)
	other.signIn("alice", password, "")
	p = v.get("/console/sessions")
	assert.True(t, strings.Count(p.Body, "<time") == 4, "two sessions are not listed: %s", p.Body)
	v.post("/console/sessions", url.Values{"id": {"others"}})
	assert.Equal(t, other.get("/console/rules").Status, http.StatusSeeOther, "a session that another one ended")
	assert.Equal(t, v.post("/console/logout", nil).Status, http.StatusSeeOther, "signing out")
	assert.Equal(t, v.get("/console/rules").Status, http.StatusSeeOther, "after signing out")
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
		assert.Equal(t, p.Header.Get("Location"), "/console/", "next=%s leads to", next)
	}
	// The cookie opens the console and nothing else.
	assert.Equal(t, v.get("/admin/v1/accounts").Status, http.StatusUnauthorized, "the admin API by a cookie")
	for _, header := range []string{"Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"} {
		for _, path := range []string{"/console/login", "/console/logout", "/console/rules/undo", "/console/sessions"} {
			p := v.post(path, url.Values{"name": {"alice"}, "password": {password}}, header)
			assert.Equal(t, p.Status, http.StatusForbidden, "POST %s with %s", path, header)
		}
	}
}

// The ways in: the admin token, a link that works once, a second factor whose codes work once; and a limit of guesses that
// keeps nobody else out.
func TestSignIn_TokenLinkAndSecondFactor(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	v := request(t, s)
	assert.Equal(t, v.signIn("", servertest.AdminToken, "").Status, http.StatusSeeOther, "the admin token")
	p := v.get("/console/accounts")
	assert.True(t, p.Status == http.StatusOK && !strings.Contains(p.Body, "<b>Tea") && strings.Contains(p.Body, "&lt;b&gt;Tea"),
		"%d %s", p.Status, p.Body)
	person(s, "alice", adminroute.Viewer)
	link := servertest.Decode[struct{ URL string }](t, s.Admin("POST", "/login-links", `{"name":"alice"}`))
	once := strings.SplitN(link.URL, "once=", 2)[1]
	s.Hide(once)
	v = request(t, s)
	for range 2 { // a program that only looks at the link does not use it up
		p := v.get("/console/login?once=" + once)
		require.True(t, p.Status == http.StatusOK && strings.Contains(p.Body, once), "%d %s", p.Status, p.Body)
	}
	assert.Equal(t, v.post("/console/login", url.Values{"once": {once}}).Status, http.StatusSeeOther, "the link")
	assert.Equal(t, request(t, s).post("/console/login", url.Values{"once": {once}}).Status, http.StatusForbidden, "the link again")
	var made struct {
		Recovery []string `json:"recovery_codes"`
	}
	s.Admin("PATCH", "/people/alice", `{"second_factor":"new"}`).JSON(t, &made)
	for _, code := range made.Recovery {
		s.Hide(code)
	}
	v = request(t, s)
	for _, c := range []struct {
		code string
		want int
	}{{"", http.StatusUnauthorized}, {"000000", http.StatusForbidden}, {made.Recovery[0], http.StatusSeeOther},
		{made.Recovery[0], http.StatusForbidden},
		{strings.ToUpper(made.Recovery[1][:8]) + " " + made.Recovery[1][8:], http.StatusSeeOther}} {
		assert.Equal(t, v.signIn("alice", password, c.code).Status, c.want, "code %.3q", c.code)
	}
	// Name by name, so that what a stranger sends for another keeps nobody out.
	person(s, "bob", adminroute.Viewer)
	for i := range 30 {
		p := request(t, s).signIn("nobody", "wrong", "")
		require.True(t, (i >= 15 || p.Status == http.StatusForbidden) && (i <= 25 || p.Status == http.StatusTooManyRequests),
			"attempt %d: %d", i, p.Status)
	}
	s.Clock.Step(time.Minute)
	assert.Equal(t, request(t, s).signIn("bob", password, "").Status, http.StatusSeeOther, "a minute later")
}

// A call is opened, copied, made again and edited; the list follows as calls come.
func TestCallPage_CopyRepeatAndEdit(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := request(t, s)
	assert.True(t, strings.Contains(v.get("/console/calls").Body, `id="empty"`), "an empty list does not say how to fill it")
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumppublish?access_token="+s.Token("shop"), `{"prefix":"https://none.example/<script>"}`)
	list := v.get("/console/calls?failed=true").Body
	rid := regexp.MustCompile(`/console/calls/([0-9a-f-]{26})`).FindStringSubmatch(list)
	require.True(t, rid != nil && !strings.Contains(list, "<script>"), "%v", list)
	one := v.get(rid[0]).Body
	assert.True(t, strings.Contains(one, "https://none.example/&lt;script&gt;") && strings.Contains(one, "curl -s") &&
		strings.Contains(one, `name="did" value="again"`), "%v", one)
	var har struct {
		Log struct {
			Entries []struct {
				Request struct{ Method string }
			}
		}
	}
	err := json.Unmarshal([]byte(v.get(rid[0]+".har").Body), &har)
	assert.True(t, err == nil && len(har.Log.Entries) == 1 && har.Log.Entries[0].Request.Method == "POST", "%v %+v", err, har)
	again := v.post(rid[0], url.Values{"did": {"again"}, "body": {`{"prefix":"https://shop.example/"}`}})
	to := again.Header.Get("Location")
	require.True(t, again.Status == http.StatusSeeOther && to != rid[0], "again: %d %s %s", again.Status, to, again.Body)
	p := v.get(to)
	assert.True(t, strings.Contains(p.Body, "https://shop.example/") && !strings.Contains(p.Body, "none.example"), "edited: %s", p.Body)
	v.post(rid[0], url.Values{"did": {"fault"}})
	a := s.Do("POST", "/cgi-bin/wxopen/qrcodejumppublish?access_token="+s.Token("shop"), `{"prefix":"https://shop.example/"}`)
	assert.True(t, a.Code(t) != 0, "no fault was injected: %s", a.Body)
	p = v.get("/console/calls?view=errors")
	assert.True(t, strings.Contains(p.Body, "/cgi-bin/wxopen/qrcodejumppublish"), "the errors are not grouped")
	assert.Equal(t, v.get("/console/calls/live", "Sec-Fetch-Site: cross-site").Status, http.StatusForbidden, "a stream for another site")
}

// A picture's code is read on the server; what is none, or too large, is told from it.
func TestPictureUpload_DecodesCode(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := request(t, s)
	answer := func(content []byte, header ...string) page {
		t.Helper()
		var b bytes.Buffer
		form := multipart.NewWriter(&b)
		file, err := form.CreateFormFile("picture", "code.png")
		if err == nil {
			_, err = file.Write(content)
		}
		if err == nil {
			err = form.Close()
		}
		require.NoError(t, err)
		return v.send("POST", "/console/scan", form.FormDataContentType(), &b, header...)
	}
	send := func(content []byte) string {
		t.Helper()
		p := answer(content)
		require.True(t, p.Status == http.StatusSeeOther, "%d %s", p.Status, p.Body)
		return p.Header.Get("Location")
	}
	sent := picture(t, "https://shop.example/7?a=<b>")
	to := send(sent)
	assert.Equal(t, to, "/console/scan?text="+url.QueryEscape("https://shop.example/7?a=<b>"), "read as")
	if p := v.get(to); p.Status != http.StatusOK || !strings.Contains(p.Body, "pages/index/index") ||
		!strings.Contains(p.Body, `<img class="qr"`) {
		t.Errorf("%d %s", p.Status, p.Body)
	}
	p := v.get("/console/scan?text=" + url.QueryEscape("https://new.example/x?y=1"))
	address := regexp.MustCompile(`href="(/console/rules/new[^"]*)"`).FindStringSubmatch(p.Body)
	require.True(t, address != nil, "a link that opens nothing begins no rule: %s", p.Body)
	p = v.get(html.UnescapeString(address[1]))
	assert.True(t, p.Status == http.StatusOK && strings.Contains(p.Body, `value="https://new.example/x"`),
		"%s: %d %s", address[1], p.Status, p.Body)
	large := bytes.Clone(sent)
	copy(large[16:24], []byte{0, 1, 0, 0, 0, 1, 0, 0}) // a header of 65,536 by 65,536
	for want, content := range map[string][]byte{"kind": []byte("no picture"), "large": bytes.Repeat([]byte{1}, 5<<20)} {
		assert.Equal(t, send(content), "/console/scan?fault="+want, "%s", want)
	}
	to = send(large)
	assert.True(t, to == "/console/scan?fault=large" || to == "/console/scan?fault=kind", "a picture that says that it is huge: %s", to)
	// A script gets the same as JSON.
	for want, content := range map[string][]byte{`{"text":"https://shop.example/7?a=\u003cb\u003e"}`: sent,
		`{"fault":"kind","says":"The file is not a PNG, JPEG or GIF."}`: []byte("no picture")} {
		p := answer(content, "Accept: application/json")
		assert.True(t, p.Status == http.StatusOK && p.Header.Get("Content-Type") == "application/json" && strings.TrimSpace(p.Body) == want,
			"%d %s, want %s", p.Status, p.Body, want)
	}
}

// No template has a text of its own: each is in both languages.
func TestTemplates_AllTextTranslated(t *testing.T) {
	names, err := filepath.Glob("templates/*.html")
	require.True(t, err == nil && len(names) >= 5, "%v %v", names, err)
	parts, err := filepath.Glob("templates/parts/*.html")
	require.NoError(t, err)
	for _, name := range append(append(names, parts...), "../welcome/page.html") {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		bare := regexp.MustCompile(`(?s)<pre.*?</pre>`).ReplaceAllString(string(text), "")
		bare = regexp.MustCompile(`(?s)\{\{.*?\}\}`).ReplaceAllString(bare, "")
		bare = regexp.MustCompile(`(?s)<[^>]*>`).ReplaceAllString(bare, "\n")
		bare = regexp.MustCompile(`[a-z-]+="[^"]*"`).ReplaceAllString(bare, "") // of a part that is attributes
		for line := range strings.Lines(bare) {
			word := strings.TrimSpace(line)
			assert.True(t, !regexp.MustCompile(`\pL`).MatchString(word) || strings.Trim(word, " ·") == "qrjump" || word == "/openapi.json",
				"%s says %q", name, word)
		}
	}
}

// What a stranger sends becomes no file and no command of the one that copies the line.
func TestCopiedCommand_ShellQuoting(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := request(t, s)
	for sent, want := range map[string]string{
		"@/etc/passwd":  "--data-raw &#39;@/etc/passwd&#39;",
		"it's":          `--data-raw &#39;it&#39;\&#39;&#39;s&#39;`,
		"\x1b[201~\nid": `--data-raw $&#39;\033[201~\012id&#39;`,
	} {
		a := s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+s.Token("shop"), sent)
		rid := regexp.MustCompile(`rid: ([0-9a-f-]{26})`).FindStringSubmatch(a.Body)
		require.True(t, rid != nil, "%v", a.Body)
		if p := v.get("/console/calls/" + rid[1]); !strings.Contains(p.Body, want) {
			t.Errorf("%q: want %s in %s", sent, want, p.Body[strings.Index(p.Body, "curl -s"):])
		}
	}
}

// Guesses that come at once are no more than those that come one after another.
func TestSignIn_ConcurrentGuessesThrottled(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "alice", adminroute.Viewer)
	var looked atomic.Int32
	var all sync.WaitGroup
	for range 6 * accounts.GuessesPerMinute {
		v := request(t, s)
		all.Go(func() {
			if v.signIn("alice", "not the password", "").Status == http.StatusForbidden {
				looked.Add(1)
			}
		})
	}
	all.Wait()
	n := looked.Load()
	assert.True(t, n >= 1 && n <= 2*accounts.GuessesPerMinute, "%d of %d guesses were answered", n, 6*accounts.GuessesPerMinute)
	assert.Equal(t, request(t, s).signIn("a\x00", password, "").Status, http.StatusTooManyRequests, "after them")
	s.Clock.Step(time.Minute)
	assert.Equal(t, request(t, s).signIn("a\x00", password, "").Status, http.StatusForbidden, "a name that nobody can have")
}

// A link that nobody used yet ends with what it would have begun.
func TestSignInLink_RevokedWithSessions(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "alice", adminroute.Viewer)
	for name, end := range map[string]func(){
		"another password": func() { s.Admin("PATCH", "/people/alice", `{"password":"eleven grey cranes by the lake"}`) },
		"deleted":          func() { s.Admin("DELETE", "/people/alice", ""); person(s, "alice", adminroute.Viewer) },
	} {
		link := servertest.Decode[struct{ URL string }](t, s.Admin("POST", "/login-links", `{"name":"alice"}`))
		_, once, _ := strings.Cut(link.URL, "once=")
		s.Hide(once)
		end()
		assert.Equal(t, request(t, s).post("/console/login", url.Values{"once": {once}}).Status, http.StatusForbidden, "%s", name)
	}
}
