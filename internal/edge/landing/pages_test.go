package landing_test

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"image/png"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/pagetest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

//go:embed testdata/seeds/town.yaml
var town string

type place struct {
	*servertest.Server
	t *testing.T
}

func open(t *testing.T, o servertest.Options) place {
	t.Helper()
	o.Seed, o.Guarded = town, true
	config := o.Config
	o.Config = func(c *server.Config) {
		c.CodePrefix = "HTTPS://Q.EXAMPLE/"
		if config != nil {
			config(c)
		}
	}
	return place{servertest.Start(t, o), t}
}

// get asks for a page of a host.
func (p place) get(host, path string, header ...string) servertest.Answer {
	p.t.Helper()
	return p.Do("GET", path, "", append([]string{"Host: " + host}, header...)...)
}

// codes applies for codes and returns the paths of the first n.
func (p place) codes(n int) (batch int64, paths []string) {
	p.t.Helper()
	batch = p.Apply("brand", "one", 10_000)
	for i := range n {
		c := p.CodeText(batch, int64(i))
		path, ok := strings.CutPrefix(c, "HTTPS://Q.EXAMPLE")
		require.True(p.t, ok, "code text %q", c)
		paths = append(paths, path)
	}
	return batch, paths
}

func (p place) activate(batch int64, from, to int) {
	p.t.Helper()
	a := p.CodeCall("brand", "codeactive", fmt.Sprintf(
		`{"application_id":%d,"code_start":%d,"code_end":%d,"activity_name":"a","product_brand":"Brew \"& Sons\"","product_title":"Beans <250 g>","product_code":"6901234567892","wxa_appid":"shop","wxa_path":"pages/index/index"}`,
		batch, from, to))
	require.True(p.t, a.Code(p.t) == 0, "%v", a.Body)
}

// inline is a text as a policy names it.
func inline(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// isPage checks what is true of every page.
func (p place) isPage(what string, a servertest.Answer, status int) {
	p.t.Helper()
	if a.Status != status || a.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		p.t.Errorf("%s: %d %s, want %d: %.300s", what, a.Status, a.Header.Get("Content-Type"), status, a.Body)
		return
	}
	bytes, loaded := pagetest.Weigh(p.t, a.Body, func(address string) string { return p.get("coffee.example", address).Body })
	assert.True(p.t, bytes <= pagetest.Budget, "%s: %d bytes with %q", what, bytes, loaded)
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(a.Body)
	require.True(p.t, style != nil, "%s: no style", what)
	want := "default-src 'none'; style-src " + inline(style[1])
	script := regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindStringSubmatch(a.Body)
	if script != nil {
		want += "; script-src " + inline(script[1])
	}
	want += "; img-src data: 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
	for name, value := range map[string]string{"Content-Security-Policy": want, "X-Content-Type-Options": "nosniff",
		"Referrer-Policy": "no-referrer",
		"Cache-Control":   "no-store", "Vary": "Accept-Language"} {
		assert.Equal(p.t, a.Header.Get(name), value, "%s: %s", what, name)
	}
	assert.True(p.t, len(a.Body) <= 30<<10, "%s: %d bytes, more than 30 KiB", what, len(a.Body))
	if n := strings.Count(strings.ToLower(a.Body), "<script"); n > 1 || n == 1 != strings.Contains(a.Body, `id="link"`) {
		p.t.Errorf("%s: %d scripts, want one on the page of a link and none elsewhere: %s", what, n, a.Body)
	}
	for _, bad := range []string{"javascript:", "onerror=", "<iframe", "ZgotmplZ"} {
		assert.True(p.t, !strings.Contains(strings.ToLower(a.Body), strings.ToLower(bad)), "%s: the page has %s: %s", what, bad, a.Body)
	}
}

var picture = regexp.MustCompile(`<img src="data:image/png;base64,([^"]+)"`)

// qrText reads the QR code of a page.
func qrText(t *testing.T, body string) string {
	t.Helper()
	m := picture.FindStringSubmatch(body)
	if m == nil {
		return ""
	}
	// html/template writes "+" as an entity.
	raw, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(m[1], "&#43;", "+"))
	require.NoError(t, err)
	m2, err := png.Decode(bytes.NewReader(raw))
	require.NoError(t, err)
	text, err := symbol.FindQR(m2)
	require.NoErrorf(t, err, "the QR code cannot be read")
	return text
}

func TestLandingPage_RuleLink(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{})
	a := p.get("coffee.example", "/t/7?from=door&x=%3Cb%3E")
	p.isPage("english", a, 200)
	assert.Equal(t, qrText(t, a.Body), "http://coffee.example/t/7?from=door&x=%3Cb%3E", "the QR code is of")
	for _, want := range []string{`<html lang="en">`, "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Co</h1>",
		"http://coffee.example/t/7?from=door&amp;x=%3Cb%3E", "This link opens a Mini Program"} {
		assert.True(t, strings.Contains(a.Body, want), "the page does not say %s: %s", want, a.Body)
	}
	a = p.get("Coffee.Example:80", "/t/7", "Accept-Language: fr, zh-TW;q=0.8, en;q=0.7")
	p.isPage("chinese", a, 200)
	got := qrText(t, a.Body)
	assert.True(t, got == "http://coffee.example/t/7" && strings.Contains(a.Body, `<html lang="zh-CN">`) &&
		strings.Contains(a.Body, "扫一扫"), "%q %s", got, a.Body)
	head := p.Do("HEAD", "/t/7", "", "Host: coffee.example")
	assert.True(t, head.Status == 200 && head.Body == "" && head.Header.Get("Content-Length") != "0" &&
		head.Header.Get("Content-Security-Policy") != "", "HEAD: %+v", head)
	for _, path := range []string{"/", "/draft/1", "/other", "/t"} {
		p.isPage(path, p.get("coffee.example", path), 404)
	}
	// Nothing was scanned.
	if m := p.Do("GET", "/metrics", "", "Authorization: Bearer "+
		servertest.AdminToken); regexp.MustCompile(`qrjump_scans_(total\{[^}]*\}|recorded_total) [1-9]`).MatchString(m.Body) {
		t.Errorf("looking was counted as scanning: %s", m.Body)
	} else if !strings.Contains(m.Body, `qrjump_page_views_total{page="landing"} 3`) ||
		!strings.Contains(m.Body, `qrjump_page_views_total{page="not_found"} 4`) {
		t.Errorf("the views are not counted: %s", m.Body)
	}
}

func TestLandingPage_URLSchemeOpensDirectly(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{})
	p.dress("tea", map[string]any{"open_at_once": true})
	a := p.get("tea.example", "/a?b=c&d=javascript:alert(1)")
	if want := regexp.MustCompile(
		`^teaapp://open\?app=tea&page=pages%2Ftea&query=x%3D1%26q%3Dhttp%253A%252F%252Ftea\.example%252Fa%253Fb%253Dc%2526d%253Djavascript%253Aalert\(1\)%26scancode_time%3D\d+$`); a.Status != 302 ||
		!want.MatchString(strings.NewReplacer("%28", "(", "%29", ")", "%2528", "(", "%2529", ")").Replace(a.Header.Get("Location"))) {
		t.Errorf("%d %q", a.Status, a.Header.Get("Location"))
	}
	assert.True(t, a.Header.Get("Cache-Control") == "no-store" && a.Header.Get("Referrer-Policy") == "no-referrer", "headers %v", a.Header)
	for _, bad := range []string{"https://evil.example/{path}", "javascript:alert(1)", "data:text/html,{path}", "JavaScript:alert(1)",
		"intent://x#Intent;end", "tea app:x", "//evil.example", "noscheme",
		"tea://{host}", "tea://{", "{path}://x", "tea:", "téa://x", "tea://<b>", "tea://x\ny", "tea:" + strings.Repeat("x", 600)} {
		body := fmt.Sprintf(`{"kind":"mini_program","versions":["release"],"url_scheme":%q}`, bad)
		a := p.Do("PUT", "/admin/v1/accounts/tea", body, "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
		assert.True(t, a.Status == 422 && strings.Contains(a.Body, "url_scheme"), "%q: %d %s", bad, a.Status, a.Body)
	}
}

func TestLandingPage_HostDispatch(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{})
	apiSays := func(a servertest.Answer) bool { return strings.Contains(a.Body, `"errcode"`) }
	local := p.Do("GET", "/t/7", "")
	for what, a := range map[string]servertest.Answer{
		"this machine":                local,
		"an unknown host":             p.get("other.example", "/t/7"),
		"a path of the API":           p.get("coffee.example", "/cgi-bin/t/7"),
		"a post":                      p.Do("POST", "/t/7", "{}", "Host: coffee.example"),
		"a name of the platform":      p.get("api.weixin.qq.com", "/t/7"),
		"a header that lies":          p.Do("GET", "/t/7", "", "X-Forwarded-Host: coffee.example"),
		"https that is not":           p.get("secure.example:443", "/x", "X-Forwarded-Proto: https"),
		"a host with a rule's suffix": p.get("evil.coffee.example", "/t/7"),
	} {
		assert.True(t, apiSays(a) && a.Status == local.Status, "%s: %d %.200s", what, a.Status, a.Body)
	}
	p.isPage("http where the rule says https", p.get("secure.example", "/t/7", "X-Forwarded-Proto: https"), 404)
	// The authorisation page keeps its paths under every host, and nothing below their first segment.
	p.isPage("a rule beside the authorisation page", p.get("cup.example", "/safe/7"), 200)
	for _, path := range []string{"/safe/bindcomponent", "/wxaopen/safe/bindcomponent", "/cgi-bin/componentloginpage"} {
		a := p.get("coffee.example", path)
		assert.True(t, a.Status == 400 && strings.Contains(a.Body, "third-party platform"), "%s: %d %.300s", path, a.Status, a.Body)
	}
	assert.Equal(t, p.get("coffee.example", "/healthz").Body, "ok\n", "healthz")

	// The operator says which hosts are the API's: everything else is pages.
	p.Admin("PUT", "/settings", `{"api_hosts":["Api.Example"],"landing_page_rate_limit":null}`)
	p.isPage("a path of the API on a brand's host", p.get("coffee.example", "/cgi-bin/t/7"), 200)
	p.isPage("the API on a brand's host", p.get("coffee.example", "/admin/v1/accounts", "Authorization: Bearer "+servertest.AdminToken),
		404)
	p.isPage("an unknown host", p.get("other.example", "/t/7"), 404)
	p.isPage("a post", p.Do("POST", "/t/7", "{}", "Host: coffee.example"), 405)
	a := p.get("api.example", "/t/7")
	assert.True(t, apiSays(a), "the API's own host: %s", a.Body)
	a = p.Do("GET", "/t/7", "")
	assert.True(t, apiSays(a), "this machine: %s", a.Body)
	a = p.Do("PUT", "/admin/v1/settings", `{"api_hosts":["a b"]}`, "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json")
	assert.True(t, a.Status == 422, "%d %s", a.Status, a.Body)
}

func TestLandingPage_ForwardedProtoOfTrustedProxy(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{Config: func(c *server.Config) { c.TrustedProxy = []string{"127.0.0.0/8"} }})
	a := p.get("secure.example", "/t/7", "X-Forwarded-Proto: https, http", "X-Forwarded-For: 203.0.113.9")
	p.isPage("https", a, 200)
	assert.Equal(t, qrText(t, a.Body), "https://secure.example/t/7", "the QR code is of")
	p.isPage("http", p.get("secure.example", "/t/7", "X-Forwarded-Proto: ftp"), 404)
}

func TestLandingPage_CodeState(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{})
	p.Admin("PUT", "/settings", `{"landing_page_rate_limit":null}`)
	batch, paths := p.codes(6)
	p.activate(batch, 1, 3)
	for i, did := range map[int]string{2: "freeze", 3: "void"} {
		p.Admin("POST", fmt.Sprintf("/batches/%d/states", batch), fmt.Sprintf(`{"action":%q,"ranges":[{"from":%d,"to":%d}]}`, did, i, i))
	}
	for i, want := range []string{"not active", "genuine", "on hold", "no longer valid"} {
		a := p.get("q.example", paths[i])
		p.isPage(want, a, 200)
		assert.True(t, strings.Contains(a.Body, want), "code %d: the page does not say %q: %s", i, want, a.Body)
		assert.True(t, !strings.Contains(a.Body, strings.TrimPrefix(paths[i], "/")), "code %d stands on its page: %s", i, a.Body)
		end := paths[i][len(paths[i])-4:]
		assert.Contains(t, a.Body, "<code>"+end+"</code>", "code %d: the page does not say that it ends with %s", i, end)
		code := p.LookupCode(batch, int64(i)).Text(t, "code")
		assert.True(t, !strings.Contains(a.Body, code), "code %d: the bare code stands on the page: %s", i, a.Body)
	}
	active := p.get("q.example", paths[1], "Accept-Language: zh-CN")
	p.isPage("chinese", active, 200)
	for _, want := range []string{"Brew &#34;&amp; Sons&#34;", "Beans &lt;250 g&gt;", "正品", `lang="zh-CN"`} {
		assert.True(t, strings.Contains(active.Body, want), "the page does not say %s: %s", want, active.Body)
	}
	// Only what the app scans is counted.
	assert.True(t, strings.Contains(active.Body, "此前未在应用中查询过"), "before any scan: %s", active.Body)
	scanned := p.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":"https://q.example%s","user":"u"}`, paths[1]),
		"Authorization: Bearer "+p.scanKey())
	require.True(t, strings.Contains(scanned.Body, "open_mini_program"), "%v", scanned.Body)
	for range 3 {
		if a := p.get("q.example", paths[1]); !strings.Contains(a.Body,
			"<time datetime=\"2026-01-15T10:00:00&#43;08:00\">15 January 2026, 10:00 (UTC&#43;08:00)</time>") ||
			!strings.Contains(a.Body, "<dd>Checked once</dd>") {
			t.Errorf("after one scan: %s", a.Body)
		}
	}
	// In any spelling, but whole and by itself.
	p.isPage("lower case", p.get("q.example", strings.ToLower(paths[1])), 200)
	p.isPage("escaped", p.get("q.example", "/%"+fmt.Sprintf("%02X", paths[1][1])+paths[1][2:]), 200)
	p.isPage("with a parameter", p.get("q.example", paths[1]+"?a=b"), 404)
	p.isPage("on another host", p.get("coffee.example", paths[1]), 404)
}

// isCode checks the heading of a code's page in both languages: its words, and whether it is the green one.
func (p place) isCode(what, path, class, english, chinese string) (inEnglish, inChinese string) {
	p.t.Helper()
	for language, want := range map[string]string{"en": english, "zh-CN": chinese} {
		a := p.get("q.example", path, "Accept-Language: "+language)
		p.isPage(what, a, 200)
		heading := fmt.Sprintf(`<h1 class="%s">%s</h1>`, class, want)
		assert.Contains(p.t, a.Body, heading, "%s, %s: the page does not have %s", what, language, heading)
		if language == "en" {
			inEnglish = a.Body
		} else {
			inChinese = a.Body
		}
	}
	return inEnglish, inChinese
}

// copied has 40 users scan a code, and waits until that is counted.
func (p place) copied(path string) {
	p.t.Helper()
	key := p.scanKey()
	for user := range 40 {
		p.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":"https://q.example%s","user":"u%d"}`, path, user), "Authorization: Bearer "+
			key)
	}
	p.Admin("GET", "/statistics?wait=true", "")
}

// Issue 11, 7: 400 checks by 400 users were "genuine" in green.
func TestLandingPage_SuspectedCopy(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{Emulator: true})
	p.Admin("PUT", "/settings", `{"landing_page_rate_limit":null}`)
	batch, paths := p.codes(3)
	p.activate(batch, 0, 2)
	p.isCode("before any scan", paths[1], "active", "A genuine code", "此码为正品码")
	p.copied(paths[1])
	notGenuine := func(what string) {
		t.Helper()
		english, chinese := p.isCode(what, paths[1], "copied", "This code may have been copied", "此码可能已被复制")
		for _, page := range []string{english, chinese} {
			assert.True(t, !strings.Contains(page, "genuine") && !strings.Contains(page, "正品") &&
				strings.Contains(page, "Beans &lt;250 g&gt;"), "%s: %s", what, page)
		}
	}
	notGenuine("an open alarm")
	a := p.Admin("POST", "/alarms/1/acknowledge", `{}`)
	require.True(t, strings.Contains(a.Body, `"acknowledged_by":"admin"`), "%v", a.Body)
	notGenuine("an acknowledged alarm")
	// Issue 28, 3: who has seen an alarm was noted in a transaction of its own, and again with each call that changed nothing.
	p.Admin("POST", "/alarms/1/acknowledge", `{}`)
	log := p.Admin("GET", "/changes?kind=alarm&key=1", "").Body
	assert.True(t, strings.Count(log, `"action":"acknowledge"`) == 1 && strings.Contains(log, `"detail":{"actor":"admin"}`),
		"the log of an alarm that was seen once: %s", log)
	// Issue 28, 2: an alarm that was wrong was for ever, and the buyers of an honest item were told of a copy.
	a = p.Admin("POST", "/alarms/1/dismiss", `{"note":"on show at the fair"}`)
	require.True(t, strings.Contains(a.Body, `"note":"on show at the fair"`), "%v", a.Body)
	p.isCode("a dismissed alarm", paths[1], "active", "A genuine code", "此码为正品码")
	p.Advance(time.Minute)
	p.copied(paths[1])
	notGenuine("a new alarm")
	p.isCode("another code", paths[0], "active", "A genuine code", "此码为正品码")
	p.Admin("POST", fmt.Sprintf("/batches/%d/states", batch), `{"action":"void","ranges":[{"from":1,"to":1}]}`)
	p.isCode("void", paths[1], "void", "This code is no longer valid", "此码已作废")
}

// Issue 11, 7.
func TestLandingPage_RedeemedCodeDate(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{Emulator: true})
	p.Admin("PUT", "/settings", `{"landing_page_rate_limit":null}`)
	batch, paths := p.codes(3)
	p.activate(batch, 0, 2)
	change := func(did string, from, to int) {
		p.Admin("POST", fmt.Sprintf("/batches/%d/states", batch), fmt.Sprintf(`{"action":%q,"ranges":[{"from":%d,"to":%d}]}`, did, from,
			to))
	}
	redeemed := func(what, english, chinese string) {
		t.Helper()
		for page, want := range map[string]string{english: `<dt>Redeemed at</dt><dd><time datetime="2026-01-15T10:00:00&#43;08:00">15 January 2026, 10:00 (UTC&#43;08:00)</time></dd>`,
			chinese: `<dt>核销时间</dt><dd><time datetime="2026-01-15T10:00:00&#43;08:00">2026年1月15日 10:00（UTC&#43;08:00）</time></dd>`} {
			assert.True(t, strings.Contains(page, want), "%s: the page does not say %s: %s", what, want, page)
		}
	}
	change("redeem", 1, 1)
	p.Advance(time.Hour)
	change("redeem", 0, 2) // a range may hold codes that were redeemed: the first time counts
	english, chinese := p.isCode("redeemed", paths[1], "redeemed", "This code was already redeemed", "此码已核销")
	redeemed("redeemed", english, chinese)
	p.copied(paths[1])
	english, chinese = p.isCode("redeemed and copied", paths[1], "copied", "This code may have been copied", "此码可能已被复制")
	redeemed("redeemed and copied", english, chinese)
	a := p.Admin("POST", "/alarms/2/dismiss", `{"note":"on show at the fair"}`)
	require.Contains(t, a.Body, `"kind":"copied"`, "the dismissed alarm")
	require.Contains(t, p.Admin("GET", "/alarms?state=open", "").Body, `"kind":"after_redemption"`, "the open alarm")
	p.isCode("an alarm of another kind", paths[1], "copied", "This code may have been copied", "此码可能已被复制")
	change("freeze", 1, 1)
	english, chinese = p.isCode("redeemed and frozen", paths[1], "frozen", "This code is on hold", "此码已冻结")
	redeemed("redeemed and frozen", english, chinese)
}

func TestLandingPage_CodeEnumeration(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{})
	p.Admin("PUT", "/settings", `{"landing_page_rate_limit":null}`)
	_, paths := p.codes(1)
	unknown := p.get("q.example", "/A000000000000000000")
	p.isPage("unknown", unknown, 404)
	for what, path := range map[string]string{"another": "/B111111111111111111", "malformed": "/x", "too short": paths[0][:len(paths[0])-1],
		"nothing":                "/",
		"the bare code's length": "/ABCDEF123", "hostile": "/%3Cscript%3Ealert(1)%3C/script%3E", "invalid": "/%ff%00",
		"dots": "/../../etc/passwd"} {
		a := p.get("q.example", path)
		a.Header.Del("Date")
		unknown.Header.Del("Date")
		assert.True(t, a.Status == unknown.Status && a.Body == unknown.Body && fmt.Sprint(a.Header) == fmt.Sprint(unknown.Header),
			"%s: another answer than for an unknown code: %d %v %s", what, a.Status, a.Header, a.Body)
	}
	p.Admin("PUT", "/settings", `{"landing_page_rate_limit":30}`)
	for i := range 35 {
		path := "/A00000000000000000" + string(rune('A'+i%26))
		if i%3 == 0 {
			path = paths[0]
		}
		a := p.get("q.example", path, fmt.Sprintf("X-Forwarded-For: 203.0.113.%d", i))
		switch {
		case i < 30 && a.Status == 429, i >= 30 && a.Status != 429:
			t.Fatalf("page %d: %d", i, a.Status)
		case i >= 30:
			p.isPage("too many", a, 429)
			assert.Equal(t, a.Header.Get("Retry-After"), "2", "Retry-After")
		}
	}
	// A page of a Mini Program is no code.
	p.isPage("landing", p.get("coffee.example", "/t/1"), 200)
	p.Clock.Step(2 * time.Second)
	assert.Equal(t, p.get("q.example", paths[0]).Status, 200, "after two seconds")
	assert.Equal(t, p.get("q.example", paths[0]).Status, 429, "and one more")
}

// raw sends bytes and returns the answer's.
func (p place) raw(text string) string {
	p.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
	require.NoError(p.t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Minute))
	// A server that has answered may close before it read everything.
	_, _ = io.WriteString(c, text)
	answer, _ := io.ReadAll(c)
	return string(answer)
}

func TestLandingPage_EscapesHostileInput(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{})
	p.Admin("PUT", "/settings", `{"landing_page_rate_limit":null}`)
	p.dress("tea", map[string]any{"open_at_once": true})
	evil := `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	// Requests that no browser sends, past the client's own checks.
	for what, request := range map[string]string{
		"raw brackets":      "GET /t/" + strings.ReplaceAll(evil, " ", "%20") + " HTTP/1.1\r\nHost: coffee.example\r\n",
		"in the parameters": "GET /t/1?" + strings.ReplaceAll(evil, " ", "+") + " HTTP/1.1\r\nHost: coffee.example\r\n",
		"user agent": "GET /t/1 HTTP/1.1\r\nHost: coffee.example\r\nUser-Agent: " + evil + "\r\nReferer: " + evil +
			"\r\nAccept-Language: " + evil + "\r\nX-Forwarded-Host: " + evil + "\r\n",
		"a host of odd bytes":  "GET /t/1 HTTP/1.1\r\nHost: coffee.example\xff\x01<script>\r\n",
		"a host of script":     "GET /t/1 HTTP/1.1\r\nHost: <script>alert(1)</script>\r\n",
		"an absolute line":     "GET http://coffee.example/t/%3Cscript%3E HTTP/1.1\r\nHost: evil.example\r\n",
		"encoded slashes":      "GET /t%2f..%2f..%2fx HTTP/1.1\r\nHost: coffee.example\r\n",
		"invalid UTF-8":        "GET /t/%ff%fe HTTP/1.1\r\nHost: coffee.example\r\n",
		"raw invalid UTF-8":    "GET /t/\xff\xfe HTTP/1.1\r\nHost: coffee.example\r\n",
		"an escape of nothing": "GET /t/%zz HTTP/1.1\r\nHost: coffee.example\r\n",
		"a new line":           "GET /t/%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: tea.example\r\n",
		"no host":              "GET /t/1 HTTP/1.0\r\n",
	} {
		answer := p.raw(request + "Connection: close\r\n\r\n")
		head, body, _ := strings.Cut(answer, "\r\n\r\n")
		assert.True(t, !strings.Contains(body, "<script>alert") && !strings.Contains(body, "<img src=x") &&
			!strings.Contains(head, "\r\nSet-Cookie") && !strings.Contains(head, "alert(1)"), "%s: echoed: %s", what, answer)
		assert.True(t, strings.HasPrefix(answer, "HTTP/1.") && !strings.Contains(answer[:min(15, len(answer))], " 5"),
			"%s: %.300s", what, answer)
		location := regexp.MustCompile(`(?m)^Location: (.*)$`).FindStringSubmatch(head)
		assert.True(t, location == nil || strings.HasPrefix(location[1], "teaapp://open?app=tea&"), "%s: sent to %q", what, location)
	}
	for _, n := range []int{4000, 4097, 60 << 10, 200 << 10} {
		answer := p.raw("GET /t/" + strings.Repeat("<", n) + " HTTP/1.1\r\nHost: coffee.example\r\nConnection: close\r\n\r\n")
		assert.True(t, len(answer) <= 40<<10 && regexp.MustCompile(`^HTTP/1.1 (200|414|431|400) `).MatchString(answer),
			"%d bytes: %d bytes came: %.200s", n, len(answer), answer)
	}
}

// The longest link that is one is the largest page.
func TestLandingPage_MaxSize(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{})
	p.Admin("PUT", "/settings", `{"landing_page_rate_limit":null}`)
	chance := rand.New(rand.NewPCG(1, 2))
	var odd strings.Builder
	odd.WriteString("/t/")
	for range 2900 {
		odd.WriteString(string("'&+"[chance.IntN(3)])) // five characters each in HTML, and a picture that does not compress
	}
	p.isPage("the largest", p.get("coffee.example", odd.String()), 200)
	for _, char := range []string{"'", "a", "%C3%A9"} {
		for _, length := range []int{100, 470, 1000, 2331, 2900, 4000} {
			path := "/t/" + strings.Repeat(char, length/len(char))
			a := p.get("coffee.example", path)
			p.isPage(fmt.Sprint(char, length), a, 200)
			hasQR := strings.Contains(a.Body, "<img")
			if link := "http://coffee.example" + path; len(link) <= 500 != hasQR {
				t.Errorf("%s × %d: a QR code: %v", char, length, hasQR)
			} else if hasQR && qrText(t, a.Body) != link {
				t.Errorf("%s × %d: another QR code", char, length)
			}
		}
	}
}

func TestLandingPage_DevPreview(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{})
	p := place{s, t}
	at := func(text string) servertest.Answer { return s.Do("GET", "/p/?u="+url.QueryEscape(text), "") }
	a := at("https://coffee.example/t/7?a=b")
	p.isPage("a link", a, 200)
	assert.Equal(t, qrText(t, a.Body), "https://coffee.example/t/7?a=b", "the QR code is of")
	// It is the page that a browser gets of the printed link: a button, or the app at once.
	p.Admin("PUT", "/accounts/wxc0ffee0000000001", `{"kind":"mini_program","versions":["release"],"url_scheme":"cup://go?to={path}"}`)
	a = at("https://coffee.example/t/7")
	p.isPage("a button", a, 200)
	p.has("a button", a, `<a class="button" href="cup://go?to=pages%2F`)
	p.dress("wxc0ffee0000000001", map[string]any{"open_at_once": true})
	a = at("https://coffee.example/t/7")
	assert.True(t, a.Status == http.StatusFound && strings.HasPrefix(a.Header.Get("Location"), "cup://go?to=pages%2F"),
		"at once: %d %q", a.Status, a.Header.Get("Location"))
	p.isPage("no rule", at("https://coffee.example/x"), 404)
	p.isPage("no link", at("javascript:alert(1)"), 404)
	p.isPage("invalid", at("\xff\x00"), 404)
	p.isPage("nothing", s.Do("GET", "/p/", ""), 404)
	assert.Contains(t, s.Do("GET", "/p/x", "").Body, `"errcode"`, "below")
	guarded := open(t, servertest.Options{})
	a = guarded.Do("GET", "/p/?u=http://coffee.example/t/7", "")
	assert.True(t, a.Status == http.StatusOK && strings.Contains(a.Body, `"errcode"`), "without --dev: %d %s", a.Status, a.Body)
}
