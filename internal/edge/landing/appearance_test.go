package landing_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/pagetest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// logoFile is a picture of one colour as somebody sends it, with words behind it.
func logoFile(t *testing.T, c color.Color, width, height int) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := range m.Pix {
		r, g, b, a := c.RGBA()
		m.Pix[i] = []byte{byte(r >> 8), byte(g >> 8), byte(b >> 8), byte(a >> 8)}[i%4]
	}
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, m))
	return append(b.Bytes(), "<script>alert(1)</script>"...)
}

// dress says how an account looks.
func (p place) dress(appid string, look map[string]any) servertest.Answer {
	p.t.Helper()
	body, err := json.Marshal(look)
	require.NoError(p.t, err)
	return p.Do("PUT", "/admin/v1/accounts/"+appid+"/appearance", string(body), "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json")
}

// has checks what a page has and has not: words that begin with "-".
func (p place) has(what string, a servertest.Answer, words ...string) {
	p.t.Helper()
	for _, word := range words {
		if bad, not := strings.CutPrefix(word, "-"); not && strings.Contains(a.Body, bad) || !not && !strings.Contains(a.Body, word) {
			p.t.Errorf("%s: the page and %q: %s", what, word, a.Body)
		}
	}
}

// Issue 17, 4.
func TestLandingPage_AccountAppearance(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{})
	p.Admin("PUT", "/settings", `{"landing_page_rate_limit":null}`)
	link := func() servertest.Answer { return p.get("coffee.example", "/t/7") }
	p.has("before", link(), "-/qrjump/logo/", ";--accent:#0b6b45;", "This link opens a Mini Program.", "此链接将打开小程序。")
	file := logoFile(t, color.NRGBA{200, 30, 30, 255}, 800, 200)
	var shown struct {
		OnAccent string `json:"on_accent"`
		Logo     struct {
			Path          string
			Width, Height int
			PNG           []byte
		}
	}
	look := map[string]any{"accent": "#ffcc00", "help": "https://help.example/?a=b&c=d", "logo": file, "texts": map[string]any{
		"en": map[string]string{"app": "Coffee <b>App</b>", "landing": "Order \"here\" & now", "code": "Thank you."},
		"zh": map[string]string{"app": "咖啡应用", "landing": "在此点单", "code": "谢谢。"}}}
	a := p.dress("shop", look)
	require.True(t, a.Status == 200, "%d %s", a.Status, a.Body)
	a.JSON(t, &shown)
	assert.True(t, shown.OnAccent == "#000000" && shown.Logo.Width == 384 && shown.Logo.Height == 96, "%s", a.Body)
	a = link()
	p.isPage("dressed", a, 200)
	p.has("dressed", a, `<img class="logo" src="`+shown.Logo.Path+`" width="192" height="48" alt="">`,
		":root{--accent:#ffcc00;--on-accent:#000000}",
		`href="https://help.example/?a=b&amp;c=d"`, "Order &#34;here&#34; &amp; now", "在此点单",
		"open Coffee &lt;b&gt;App&lt;/b&gt;, choose Scan", "打开咖啡应用的", "-Thank you")
	// The picture is the server's own, wherever it is asked for.
	for _, host := range []string{"coffee.example", "q.example", "127.0.0.1"} {
		logo := p.get(host, shown.Logo.Path)
		assert.True(t, logo.Status == 200 && logo.Header.Get("Content-Type") == "image/png" &&
			logo.Header.Get("X-Content-Type-Options") == "nosniff" &&
			logo.Header.Get("Cache-Control") == "public, max-age=31536000, immutable" &&
			logo.Header.Get("Content-Security-Policy") == "default-src 'none'; sandbox", "%s: %d %v", host, logo.Status, logo.Header)
		assert.True(t, logo.Body == string(shown.Logo.PNG) && !strings.Contains(logo.Body, "<script"), "%s: another picture", host)
		bytes, loaded := pagetest.Weigh(t, a.Body, func(address string) string { return p.get(host, address).Body })
		assert.True(t, bytes <= pagetest.Budget && len(loaded) == 1 && bytes == len(a.Body)+len(logo.Body),
			"the page has %d bytes with %q", bytes, loaded)
	}
	none := p.get("coffee.example", "/qrjump/logo/"+strings.Repeat("0", 64)+".png")
	p.isPage("no such logo", none, 404)
	// Without a new logo the old one stays; an empty one removes it. Both are seen at once.
	delete(look, "logo")
	look["accent"] = "#101010"
	p.dress("shop", look)
	p.has("another colour", link(), shown.Logo.Path, ":root{--accent:#101010;--on-accent:#ffffff}", "-#ffcc00")
	look["no_logo"] = true
	a = p.dress("shop", look)
	assert.True(t, a.Status == 200 && !strings.Contains(a.Body, "png"), "%d %s", a.Status, a.Body)
	p.has("no logo", link(), "-/qrjump/logo/", ":root{--accent:#101010;")
	a = p.dress("shop", map[string]any{})
	assert.True(t, a.Status == 200, "%d %s", a.Status, a.Body)
	p.has("as before", link(), "-#101010", "-help.example", "-Order", "open the app, choose Scan")
}

func TestLandingPage_CodeIssuerAppearance(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{})
	p.Admin("PUT", "/settings", `{"landing_page_rate_limit":null}`)
	batch, paths := p.codes(2)
	p.activate(batch, 1, 1)
	p.Admin("PUT", "/accounts/brand",
		`{"kind":"service_account","name":"Brew & Co","certified":true,"features":["marketcode"],"linked":["shop"]}`)
	a := p.dress("brand", map[string]any{"logo": logoFile(t, color.Black, 50, 50), "help": "https://help.example/",
		"texts": map[string]any{"en": map[string]string{"code": "Look for the seal.", "landing": "Not here."}}})
	require.True(t, a.Status == 200, "%d %s", a.Status, a.Body)
	for i, verdict := range []string{"not_active", "active"} {
		a := p.get("q.example", paths[i])
		p.isPage(verdict, a, 200)
		p.has(verdict, a, `<div class="verdict `+verdict+`"><svg `, "/qrjump/logo/", "<b>Brew &amp; Co</b>", "Look for the seal.",
			"https://help.example/", "-Not here")
	}
	// A code that nobody made has no maker: its page is as any other that is not found.
	a = p.get("q.example", "/A000000000000000000")
	p.isPage("unknown", a, 404)
	p.has("unknown", a, "-help.example", "-/qrjump/logo/", `<div class="verdict missing"><svg `, "What to do", "您可以这样做")
}

// Issue 17, 4: the page names the app and has a button; an operator may do without the page.
func TestLandingPage_ButtonOrDirectOpen(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{})
	const link = "/a?x=%22%3E%3Cscript%3E"
	a := p.get("tea.example", link)
	p.isPage("the page", a, 200)
	p.has("the page", a, "打开茶馆</a>", "Open 茶馆</a>", `<h1>茶馆</h1>`)
	address := regexp.MustCompile(`<a class="button" href="(teaapp://open\?app=tea&amp;page=pages%2Ftea&amp;query=[^"]*)"`).
		FindStringSubmatch(a.Body)
	assert.True(t, address != nil && !strings.ContainsAny(address[1], "<> "), "%q: %s", address, a.Body)
	assert.Equal(t, qrText(t, a.Body), "http://tea.example/a?x=%22%3E%3Cscript%3E", "the QR code is of")
	p.dress("tea", map[string]any{"open_at_once": true})
	if a := p.get("tea.example", link); a.Status != http.StatusFound || !strings.HasPrefix(a.Header.Get("Location"), "teaapp://open?") {
		t.Errorf("at once: %d %q", a.Status, a.Header.Get("Location"))
	}
	// An account without an address that opens it has its page all the same.
	p.dress("shop", map[string]any{"open_at_once": true})
	a = p.get("coffee.example", "/t/7")
	p.isPage("no address", a, 200)
	p.has("no address", a, `<button class="button" type="button" data-copy`, `-<a class="button"`)
	p.dress("tea", map[string]any{})
	p.isPage("the page again", p.get("tea.example", link), 200)
}

// A browser's language is a preference: the page holds the other one too, behind a
// link that needs no script and leaves the printed address alone.
func TestLandingPage_LanguageSwitchWithoutScript(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{})
	for header, order := range map[string][2]string{"en": {"en", "zh-CN"}, "zh": {"zh-CN", "en"}} {
		a := p.get("coffee.example", "/t/7", "Accept-Language: "+header)
		p.isPage(header, a, 200)
		second, _, _ := strings.Cut(order[1], "-")
		p.has(header, a, `<html lang="`+order[0]+`">`, `<div class="first" lang="`+order[0]+`">`,
			`<div class="second" lang="`+order[1]+`">`, fmt.Sprintf(`<span class="other" id="%s">`, second),
			fmt.Sprintf(`<a class="switch first" href="#%s" lang="%s" hreflang="%[2]s">`, second, order[1]))
	}
}

func TestAppearance_RejectsInvalid(t *testing.T) {
	t.Parallel()
	p := open(t, servertest.Options{})
	for says, look := range map[string]map[string]any{
		"accent": {"accent": "red"}, "help": {"help": "http://help.example/"},
		"texts has the language": {"texts": map[string]any{"fr": map[string]string{}}},
		"texts.en.code":          {"texts": map[string]any{"en": map[string]string{"code": strings.Repeat("x", 301)}}},
		"SVG":                    {"logo": []byte("<svg onload=alert(1)>")}, "cannot be read": {"logo": []byte("hello")},
		"524289 bytes": {"logo": make([]byte, 512<<10+1)},
	} {
		a := p.dress("shop", look)
		assert.True(t, a.Status == 422 && strings.Contains(a.Body, says), "%s: %d %s", says, a.Status, a.Body)
	}
	a := p.dress("shop", map[string]any{"logo": logoFile(t, color.Black, 5, 5), "no_logo": true})
	assert.True(t, a.Status == 422, "%d %s", a.Status, a.Body)
	a = p.dress("nobody", map[string]any{})
	assert.True(t, a.Status == 404, "%d %s", a.Status, a.Body)
	a = p.dress("shop", map[string]any{"logo": base64.StdEncoding})
	assert.True(t, a.Status == 422, "%d %s", a.Status, a.Body)
}
