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

type testServer struct {
	*servertest.Server
	t *testing.T
}

func startServer(t *testing.T, o servertest.Options) testServer {
	t.Helper()
	o.Seed, o.Guarded = town, true
	config := o.Config
	o.Config = func(c *server.Config) {
		c.CodePrefix = "HTTPS://Q.EXAMPLE/"
		if config != nil {
			config(c)
		}
	}
	return testServer{servertest.Start(t, o), t}
}

// startUnlimited starts a server without the rate limit of landing pages.
func startUnlimited(t *testing.T, o servertest.Options) testServer {
	t.Helper()
	p := startServer(t, o)
	p.Admin("PUT", "/settings", `{"landing_page_rate_limit":null}`)
	return p
}

// get requests a page of a host.
func (p testServer) get(host, path string, header ...string) servertest.Answer {
	p.t.Helper()
	return p.Do("GET", path, "", append([]string{"Host: " + host}, header...)...)
}

// applyForCodes applies for codes and returns the paths of the first n.
func (p testServer) applyForCodes(n int) (batch int64, paths []string) {
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

func (p testServer) activate(batch int64, from, to int) {
	p.t.Helper()
	a := p.CodeCall("brand", "codeactive", fmt.Sprintf(
		`{"application_id":%d,"code_start":%d,"code_end":%d,"activity_name":"a","product_brand":"Brew \"& Sons\"","product_title":"Beans <250 g>","product_code":"6901234567892","wxa_appid":"shop","wxa_path":"pages/index/index"}`,
		batch, from, to))
	require.True(p.t, a.Code(p.t) == 0, "%v", a.Body)
}

func (p testServer) changeStates(batch int64, action string, from, to int) {
	p.t.Helper()
	p.Admin("POST", fmt.Sprintf("/batches/%d/states", batch), fmt.Sprintf(`{"action":%q,"ranges":[{"from":%d,"to":%d}]}`, action, from, to))
}

// inlineHash returns the CSP source of an inline text.
func inlineHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// checkPage verifies status, headers, policy and size of a page.
func (p testServer) checkPage(name string, a servertest.Answer, status int) {
	p.t.Helper()
	if a.Status != status || a.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		p.t.Errorf("%s: %d %s, want %d: %.300s", name, a.Status, a.Header.Get("Content-Type"), status, a.Body)
		return
	}
	bytes, loaded := pagetest.MeasurePage(p.t, a.Body, func(address string) string { return p.get("coffee.example", address).Body })
	assert.True(p.t, bytes <= pagetest.Budget, "%s: %d bytes with %q", name, bytes, loaded)
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(a.Body)
	require.True(p.t, style != nil, "%s: no style", name)
	want := "default-src 'none'; style-src " + inlineHash(style[1])
	script := regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindStringSubmatch(a.Body)
	if script != nil {
		want += "; script-src " + inlineHash(script[1])
	}
	want += "; img-src data: 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
	for header, value := range map[string]string{"Content-Security-Policy": want, "X-Content-Type-Options": "nosniff",
		"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Vary": "Accept-Language"} {
		assert.Equal(p.t, a.Header.Get(header), value, "%s: %s", name, header)
	}
	assert.True(p.t, len(a.Body) <= 30<<10, "%s: %d bytes, more than 30 KiB", name, len(a.Body))
	if n := strings.Count(strings.ToLower(a.Body), "<script"); n > 1 || n == 1 != strings.Contains(a.Body, `id="link"`) {
		p.t.Errorf("%s: %d scripts, want one on the page of a link and none elsewhere: %s", name, n, a.Body)
	}
	for _, unwanted := range []string{"javascript:", "onerror=", "<iframe", "ZgotmplZ"} {
		assert.True(p.t, !strings.Contains(strings.ToLower(a.Body), strings.ToLower(unwanted)),
			"%s: the page has %s: %s", name, unwanted, a.Body)
	}
}

var picture = regexp.MustCompile(`<img src="data:image/png;base64,([^"]+)"`)

// qrText returns the text of the QR code of a page, or "".
func qrText(t *testing.T, body string) string {
	t.Helper()
	match := picture.FindStringSubmatch(body)
	if match == nil {
		return ""
	}
	// html/template writes "+" as an entity.
	raw := require.Value(base64.StdEncoding.DecodeString(strings.ReplaceAll(match[1], "&#43;", "+")))(t)
	img := require.Value(png.Decode(bytes.NewReader(raw)))(t)
	text, err := symbol.FindQR(img)
	require.NoErrorf(t, err, "the QR code cannot be read")
	return text
}

func TestLandingPage_RuleLink(t *testing.T) {
	t.Parallel()
	p := startServer(t, servertest.Options{})
	a := p.get("coffee.example", "/t/7?from=door&x=%3Cb%3E")
	p.checkPage("english", a, 200)
	assert.Equal(t, qrText(t, a.Body), "http://coffee.example/t/7?from=door&x=%3Cb%3E", "the QR code is of")
	p.checkText("english", a, `<html lang="en">`, "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Co</h1>",
		"http://coffee.example/t/7?from=door&amp;x=%3Cb%3E", "This link opens a Mini Program")
	a = p.get("Coffee.Example:80", "/t/7", "Accept-Language: fr, zh-TW;q=0.8, en;q=0.7")
	p.checkPage("chinese", a, 200)
	got := qrText(t, a.Body)
	assert.True(t, got == "http://coffee.example/t/7" && strings.Contains(a.Body, `<html lang="zh-CN">`) &&
		strings.Contains(a.Body, "扫一扫"), "%q %s", got, a.Body)
	head := p.Do("HEAD", "/t/7", "", "Host: coffee.example")
	assert.True(t, head.Status == 200 && head.Body == "" && head.Header.Get("Content-Length") != "0" &&
		head.Header.Get("Content-Security-Policy") != "", "HEAD: %+v", head)
	for _, path := range []string{"/", "/draft/1", "/other", "/t"} {
		p.checkPage(path, p.get("coffee.example", path), 404)
	}
	// A page view is no scan.
	if m := p.Do("GET", "/metrics", "", "Authorization: Bearer "+
		servertest.AdminToken); regexp.MustCompile(`qrjump_scans_(total\{[^}]*\}|recorded_total) [1-9]`).MatchString(m.Body) {
		t.Errorf("metrics count a page view as a scan: %s", m.Body)
	} else if !strings.Contains(m.Body, `qrjump_page_views_total{page="landing"} 3`) ||
		!strings.Contains(m.Body, `qrjump_page_views_total{page="not_found"} 4`) {
		t.Errorf("metrics lack the page views: %s", m.Body)
	}
}

func TestLandingPage_URLSchemeOpensDirectly(t *testing.T) {
	t.Parallel()
	p := startServer(t, servertest.Options{})
	p.setAppearance("tea", map[string]any{"open_at_once": true})
	a := p.get("tea.example", "/a?b=c&d=javascript:alert(1)")
	if want := regexp.MustCompile(
		`^teaapp://open\?app=tea&page=pages%2Ftea&query=x%3D1%26q%3Dhttp%253A%252F%252Ftea\.example%252Fa%253Fb%253Dc%2526d%253Djavascript%253Aalert\(1\)%26scancode_time%3D\d+$`); a.Status != 302 ||
		!want.MatchString(strings.NewReplacer("%28", "(", "%29", ")", "%2528", "(", "%2529", ")").Replace(a.Header.Get("Location"))) {
		t.Errorf("status %d, want 302, Location %q", a.Status, a.Header.Get("Location"))
	}
	assert.True(t, a.Header.Get("Cache-Control") == "no-store" && a.Header.Get("Referrer-Policy") == "no-referrer", "headers %v", a.Header)
	for _, scheme := range []string{"https://evil.example/{path}", "javascript:alert(1)", "data:text/html,{path}", "JavaScript:alert(1)",
		"intent://x#Intent;end", "tea app:x", "//evil.example", "noscheme",
		"tea://{host}", "tea://{", "{path}://x", "tea:", "téa://x", "tea://<b>", "tea://x\ny", "tea:" + strings.Repeat("x", 600)} {
		body := fmt.Sprintf(`{"kind":"mini_program","versions":["release"],"url_scheme":%q}`, scheme)
		a := p.Do("PUT", "/admin/v1/accounts/tea", body, "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
		assert.True(t, a.Status == 422 && strings.Contains(a.Body, "url_scheme"), "%q: status %d, want 422: %s", scheme, a.Status, a.Body)
	}
}

func TestLandingPage_HostDispatch(t *testing.T) {
	t.Parallel()
	p := startServer(t, servertest.Options{})
	isAPIError := func(a servertest.Answer) bool { return strings.Contains(a.Body, `"errcode"`) }
	local := p.Do("GET", "/t/7", "")
	for name, a := range map[string]servertest.Answer{
		"this machine":                local,
		"an unknown host":             p.get("other.example", "/t/7"),
		"a path of the API":           p.get("coffee.example", "/cgi-bin/t/7"),
		"a post":                      p.Do("POST", "/t/7", "{}", "Host: coffee.example"),
		"a name of the platform":      p.get("api.weixin.qq.com", "/t/7"),
		"a header that lies":          p.Do("GET", "/t/7", "", "X-Forwarded-Host: coffee.example"),
		"https that is not":           p.get("secure.example:443", "/x", "X-Forwarded-Proto: https"),
		"a host with a rule's suffix": p.get("evil.coffee.example", "/t/7"),
	} {
		assert.True(t, isAPIError(a) && a.Status == local.Status, "%s: %d %.200s", name, a.Status, a.Body)
	}
	p.checkPage("http where the rule says https", p.get("secure.example", "/t/7", "X-Forwarded-Proto: https"), 404)
	// The authorisation page keeps its paths under every host, and nothing below their first segment.
	p.checkPage("a rule beside the authorisation page", p.get("cup.example", "/safe/7"), 200)
	for _, path := range []string{"/safe/bindcomponent", "/wxaopen/safe/bindcomponent", "/cgi-bin/componentloginpage"} {
		a := p.get("coffee.example", path)
		assert.True(t, a.Status == 400 && strings.Contains(a.Body, "third-party platform"), "%s: %d %.300s", path, a.Status, a.Body)
	}
	assert.Equal(t, p.get("coffee.example", "/healthz").Body, "ok\n", "healthz")

	// With api_hosts set, every other host serves pages.
	p.Admin("PUT", "/settings", `{"api_hosts":["Api.Example"],"landing_page_rate_limit":null}`)
	p.checkPage("a path of the API on a brand's host", p.get("coffee.example", "/cgi-bin/t/7"), 200)
	p.checkPage("the API on a brand's host", p.get("coffee.example", "/admin/v1/accounts", "Authorization: Bearer "+servertest.AdminToken),
		404)
	p.checkPage("an unknown host", p.get("other.example", "/t/7"), 404)
	p.checkPage("a post", p.Do("POST", "/t/7", "{}", "Host: coffee.example"), 405)
	a := p.get("api.example", "/t/7")
	assert.True(t, isAPIError(a), "the API's own host: %s", a.Body)
	a = p.Do("GET", "/t/7", "")
	assert.True(t, isAPIError(a), "this machine: %s", a.Body)
	a = p.Do("PUT", "/admin/v1/settings", `{"api_hosts":["a b"]}`, "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json")
	assert.True(t, a.Status == 422, "status %d, want 422: %s", a.Status, a.Body)
}

func TestLandingPage_ForwardedProtoOfTrustedProxy(t *testing.T) {
	t.Parallel()
	p := startServer(t, servertest.Options{Config: func(c *server.Config) { c.TrustedProxy = []string{"127.0.0.0/8"} }})
	a := p.get("secure.example", "/t/7", "X-Forwarded-Proto: https, http", "X-Forwarded-For: 203.0.113.9")
	p.checkPage("https", a, 200)
	assert.Equal(t, qrText(t, a.Body), "https://secure.example/t/7", "the QR code is of")
	p.checkPage("http", p.get("secure.example", "/t/7", "X-Forwarded-Proto: ftp"), 404)
}

func TestLandingPage_CodeState(t *testing.T) {
	t.Parallel()
	p := startUnlimited(t, servertest.Options{})
	batch, paths := p.applyForCodes(6)
	p.activate(batch, 1, 3)
	for i, action := range map[int]string{2: "freeze", 3: "void"} {
		p.changeStates(batch, action, i, i)
	}
	for i, want := range []string{"not active", "genuine", "on hold", "no longer valid"} {
		a := p.get("q.example", paths[i])
		p.checkPage(want, a, 200)
		p.checkText(want, a, want, "<code>"+paths[i][len(paths[i])-4:]+"</code>", "-"+strings.TrimPrefix(paths[i], "/"),
			"-"+p.LookupCode(batch, int64(i)).Text(t, "code"))
	}
	active := p.get("q.example", paths[1], "Accept-Language: zh-CN")
	p.checkPage("chinese", active, 200)
	p.checkText("active", active, "Brew &#34;&amp; Sons&#34;", "Beans &lt;250 g&gt;", "正品", `lang="zh-CN"`)
	p.checkText("before any scan of the app", active, "此前未在应用中查询过")
	require.Contains(t, p.scan(paths[1], 1).Body, "open_mini_program", "scan")
	for range 3 {
		p.checkText("after one scan", p.get("q.example", paths[1]), "<dd>Checked once</dd>",
			"<time datetime=\"2026-01-15T10:00:00&#43;08:00\">15 January 2026, 10:00 (UTC&#43;08:00)</time>")
	}
	// Letter case and escapes do not matter; extra parameters and other hosts do.
	p.checkPage("lower case", p.get("q.example", strings.ToLower(paths[1])), 200)
	p.checkPage("escaped", p.get("q.example", "/%"+fmt.Sprintf("%02X", paths[1][1])+paths[1][2:]), 200)
	p.checkPage("with a parameter", p.get("q.example", paths[1]+"?a=b"), 404)
	p.checkPage("on another host", p.get("coffee.example", paths[1]), 404)
}

// checkCodePage verifies the heading of a code's page and its class in both languages, and returns both pages.
func (p testServer) checkCodePage(name, path, class, english, chinese string) (pages [2]servertest.Answer) {
	p.t.Helper()
	for i, language := range []string{"en", "zh-CN"} {
		pages[i] = p.get("q.example", path, "Accept-Language: "+language)
		p.checkPage(name, pages[i], 200)
		p.checkText(name+", "+language, pages[i], fmt.Sprintf(`<h1 class="%s">%s</h1>`, class, []string{english, chinese}[i]))
	}
	return pages
}

// scan scans a code as a number of users and returns the last result.
func (p testServer) scan(path string, users int) (last servertest.Answer) {
	p.t.Helper()
	key := p.NewKey("/scan-keys", `{"name":"phone"}`)
	for user := range users {
		last = p.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":"https://q.example%s","user":"u%d"}`, path, user),
			"Authorization: Bearer "+key)
	}
	return last
}

// scanAsCopy scans a code as 40 users, which raises an alarm.
func (p testServer) scanAsCopy(path string) {
	p.t.Helper()
	p.scan(path, 40)
	p.Admin("GET", "/statistics?wait=true", "")
}

// TestLandingPage_SuspectedCopy verifies that a code with an alarm is not shown as genuine, whether the alarm is open or acknowledged,
// until it is dismissed.
func TestLandingPage_SuspectedCopy(t *testing.T) {
	t.Parallel()
	p := startUnlimited(t, servertest.Options{Emulator: true})
	batch, paths := p.applyForCodes(3)
	p.activate(batch, 0, 2)
	p.checkCodePage("before any scan", paths[1], "active", "A genuine code", "此码为正品码")
	p.scanAsCopy(paths[1])
	checkSuspected := func(name string) {
		t.Helper()
		for _, page := range p.checkCodePage(name, paths[1], "copied", "This code may have been copied", "此码可能已被复制") {
			p.checkText(name, page, "-genuine", "-正品", "Beans &lt;250 g&gt;")
		}
	}
	checkSuspected("an open alarm")
	a := p.Admin("POST", "/alarms/1/acknowledge", `{}`)
	require.True(t, strings.Contains(a.Body, `"acknowledged_by":"admin"`), "%v", a.Body)
	checkSuspected("an acknowledged alarm")
	// A second acknowledgement adds no audit entry.
	p.Admin("POST", "/alarms/1/acknowledge", `{}`)
	log := p.Admin("GET", "/changes?kind=alarm&key=1", "").Body
	assert.True(t, strings.Count(log, `"action":"acknowledge"`) == 1 && strings.Contains(log, `"detail":{"actor":"admin"}`),
		"audit log of an acknowledged alarm = %s, want one entry", log)
	// Dismissing a false alarm restores the page.
	a = p.Admin("POST", "/alarms/1/dismiss", `{"note":"on show at the fair"}`)
	require.True(t, strings.Contains(a.Body, `"note":"on show at the fair"`), "%v", a.Body)
	p.checkCodePage("a dismissed alarm", paths[1], "active", "A genuine code", "此码为正品码")
	p.Advance(time.Minute)
	p.scanAsCopy(paths[1])
	checkSuspected("a new alarm")
	p.checkCodePage("another code", paths[0], "active", "A genuine code", "此码为正品码")
	p.changeStates(batch, "void", 1, 1)
	p.checkCodePage("void", paths[1], "void", "This code is no longer valid", "此码已作废")
}

// TestLandingPage_RedeemedCodeDate verifies that the page of a redeemed code shows the time of its first redemption, also with an alarm or
// after a freeze.
func TestLandingPage_RedeemedCodeDate(t *testing.T) {
	t.Parallel()
	p := startUnlimited(t, servertest.Options{Emulator: true})
	batch, paths := p.applyForCodes(3)
	p.activate(batch, 0, 2)
	checkRedeemed := func(name string, pages [2]servertest.Answer) {
		t.Helper()
		p.checkText(name, pages[0],
			`<dt>Redeemed at</dt><dd><time datetime="2026-01-15T10:00:00&#43;08:00">15 January 2026, 10:00 (UTC&#43;08:00)</time></dd>`)
		p.checkText(name, pages[1],
			`<dt>核销时间</dt><dd><time datetime="2026-01-15T10:00:00&#43;08:00">2026年1月15日 10:00（UTC&#43;08:00）</time></dd>`)
	}
	p.changeStates(batch, "redeem", 1, 1)
	p.Advance(time.Hour)
	p.changeStates(batch, "redeem", 0, 2) // includes a redeemed code, which keeps its first time
	checkRedeemed("redeemed", p.checkCodePage("redeemed", paths[1], "redeemed", "This code was already redeemed", "此码已核销"))
	p.scanAsCopy(paths[1])
	checkRedeemed("redeemed and copied", p.checkCodePage("redeemed and copied", paths[1],
		"copied", "This code may have been copied", "此码可能已被复制"))
	a := p.Admin("POST", "/alarms/2/dismiss", `{"note":"on show at the fair"}`)
	require.Contains(t, a.Body, `"kind":"copied"`, "the dismissed alarm")
	require.Contains(t, p.Admin("GET", "/alarms?state=open", "").Body, `"kind":"after_redemption"`, "the open alarm")
	p.checkCodePage("an alarm of another kind", paths[1], "copied", "This code may have been copied", "此码可能已被复制")
	p.changeStates(batch, "freeze", 1, 1)
	checkRedeemed("redeemed and frozen", p.checkCodePage("redeemed and frozen", paths[1], "frozen", "This code is on hold", "此码已冻结"))
}

func TestLandingPage_CodeEnumeration(t *testing.T) {
	t.Parallel()
	p := startUnlimited(t, servertest.Options{})
	_, paths := p.applyForCodes(1)
	unknown := p.get("q.example", "/A000000000000000000")
	p.checkPage("unknown", unknown, 404)
	for name, path := range map[string]string{"another": "/B111111111111111111", "malformed": "/x", "too short": paths[0][:len(paths[0])-1],
		"nothing":                "/",
		"the bare code's length": "/ABCDEF123", "hostile": "/%3Cscript%3Ealert(1)%3C/script%3E", "invalid": "/%ff%00",
		"dots": "/../../etc/passwd"} {
		a := p.get("q.example", path)
		a.Header.Del("Date")
		unknown.Header.Del("Date")
		assert.True(t, a.Status == unknown.Status && a.Body == unknown.Body && fmt.Sprint(a.Header) == fmt.Sprint(unknown.Header),
			"%s: differs from the response for an unknown code: %d %v %s", name, a.Status, a.Header, a.Body)
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
			p.checkPage("too many", a, 429)
			assert.Equal(t, a.Header.Get("Retry-After"), "2", "Retry-After")
		}
	}
	// The limit of code pages does not apply to landing pages of links.
	p.checkPage("landing", p.get("coffee.example", "/t/1"), 200)
	p.Clock.Step(2 * time.Second)
	assert.Equal(t, p.get("q.example", paths[0]).Status, 200, "code page after two seconds")
	assert.Equal(t, p.get("q.example", paths[0]).Status, 429, "second code page after two seconds")
}

// sendRaw sends bytes over TCP and returns the response.
func (p testServer) sendRaw(text string) string {
	p.t.Helper()
	c := require.Value(net.Dial("tcp", strings.TrimPrefix(p.URL, "http://")))(p.t)
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Minute))
	// The server may close the connection before it has read everything.
	_, _ = io.WriteString(c, text)
	answer, _ := io.ReadAll(c)
	return string(answer)
}

func TestLandingPage_EscapesHostileInput(t *testing.T) {
	t.Parallel()
	p := startUnlimited(t, servertest.Options{})
	p.setAppearance("tea", map[string]any{"open_at_once": true})
	hostile := `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	// Raw requests, because net/http rejects some of them on the client side.
	for name, request := range map[string]string{
		"raw brackets":      "GET /t/" + strings.ReplaceAll(hostile, " ", "%20") + " HTTP/1.1\r\nHost: coffee.example\r\n",
		"in the parameters": "GET /t/1?" + strings.ReplaceAll(hostile, " ", "+") + " HTTP/1.1\r\nHost: coffee.example\r\n",
		"user agent": "GET /t/1 HTTP/1.1\r\nHost: coffee.example\r\nUser-Agent: " + hostile + "\r\nReferer: " + hostile +
			"\r\nAccept-Language: " + hostile + "\r\nX-Forwarded-Host: " + hostile + "\r\n",
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
		answer := p.sendRaw(request + "Connection: close\r\n\r\n")
		head, body, _ := strings.Cut(answer, "\r\n\r\n")
		assert.True(t, !strings.Contains(body, "<script>alert") && !strings.Contains(body, "<img src=x") &&
			!strings.Contains(head, "\r\nSet-Cookie") && !strings.Contains(head, "alert(1)"),
			"%s: the response echoes the input: %s", name, answer)
		assert.True(t, strings.HasPrefix(answer, "HTTP/1.") && !strings.Contains(answer[:min(15, len(answer))], " 5"),
			"%s: %.300s", name, answer)
		location := regexp.MustCompile(`(?m)^Location: (.*)$`).FindStringSubmatch(head)
		assert.True(t, location == nil || strings.HasPrefix(location[1], "teaapp://open?app=tea&"),
			"%s: redirect to %q, want the app", name, location)
	}
	for _, n := range []int{4000, 4097, 60 << 10, 200 << 10} {
		answer := p.sendRaw("GET /t/" + strings.Repeat("<", n) + " HTTP/1.1\r\nHost: coffee.example\r\nConnection: close\r\n\r\n")
		assert.True(t, len(answer) <= 40<<10 && regexp.MustCompile(`^HTTP/1.1 (200|414|431|400) `).MatchString(answer),
			"%d bytes: response of %d bytes, want at most 40 KiB with 200, 414, 431 or 400: %.200s", n, len(answer), answer)
	}
}

// TestLandingPage_MaxSize verifies the size of the page for the longest links and the least compressible QR codes.
func TestLandingPage_MaxSize(t *testing.T) {
	t.Parallel()
	p := startUnlimited(t, servertest.Options{})
	chance := rand.New(rand.NewPCG(1, 2))
	var path strings.Builder
	path.WriteString("/t/")
	for range 2900 {
		path.WriteString(string("'&+"[chance.IntN(3)])) // five characters each in HTML, and a QR code that compresses badly
	}
	p.checkPage("the largest", p.get("coffee.example", path.String()), 200)
	for _, char := range []string{"'", "a", "%C3%A9"} {
		for _, length := range []int{100, 470, 1000, 2331, 2900, 4000} {
			path := "/t/" + strings.Repeat(char, length/len(char))
			a := p.get("coffee.example", path)
			p.checkPage(fmt.Sprint(char, length), a, 200)
			hasQR := strings.Contains(a.Body, "<img")
			if link := "http://coffee.example" + path; len(link) <= 500 != hasQR {
				t.Errorf("%s × %d: has a QR code = %v", char, length, hasQR)
			} else if hasQR && qrText(t, a.Body) != link {
				t.Errorf("%s × %d: the QR code has another text", char, length)
			}
		}
	}
}

func TestLandingPage_DevPreview(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{})
	p := testServer{s, t}
	preview := func(text string) servertest.Answer { return s.Do("GET", "/p/?u="+url.QueryEscape(text), "") }
	a := preview("https://coffee.example/t/7?a=b")
	p.checkPage("a link", a, 200)
	assert.Equal(t, qrText(t, a.Body), "https://coffee.example/t/7?a=b", "the QR code is of")
	// The preview equals the page of the printed link: a button, or a redirect to the app.
	p.Admin("PUT", "/accounts/wxc0ffee0000000001", `{"kind":"mini_program","versions":["release"],"url_scheme":"cup://go?to={path}"}`)
	a = preview("https://coffee.example/t/7")
	p.checkPage("a button", a, 200)
	p.checkText("a button", a, `<a class="button" href="cup://go?to=pages%2F`)
	p.setAppearance("wxc0ffee0000000001", map[string]any{"open_at_once": true})
	a = preview("https://coffee.example/t/7")
	assert.True(t, a.Status == http.StatusFound && strings.HasPrefix(a.Header.Get("Location"), "cup://go?to=pages%2F"),
		"open_at_once: status %d, want 302, Location %q", a.Status, a.Header.Get("Location"))
	p.checkPage("no rule", preview("https://coffee.example/x"), 404)
	p.checkPage("no link", preview("javascript:alert(1)"), 404)
	p.checkPage("invalid", preview("\xff\x00"), 404)
	p.checkPage("nothing", s.Do("GET", "/p/", ""), 404)
	assert.Contains(t, s.Do("GET", "/p/x", "").Body, `"errcode"`, "path below /p/")
	guarded := startServer(t, servertest.Options{})
	a = guarded.Do("GET", "/p/?u=http://coffee.example/t/7", "")
	assert.True(t, a.Status == http.StatusOK && strings.Contains(a.Body, `"errcode"`),
		"without --dev: status %d, want 200: %s", a.Status, a.Body)
}
