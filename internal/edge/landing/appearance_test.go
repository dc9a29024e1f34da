package landing_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/draw"
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

// logoFile returns a PNG of one colour with trailing data.
func logoFile(t *testing.T, c color.Color, width, height int) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	draw.Draw(m, m.Bounds(), image.NewUniform(c), image.Point{}, draw.Src)
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, m))
	return append(b.Bytes(), "<script>alert(1)</script>"...)
}

// setAppearance sets the appearance of an account.
func (p testServer) setAppearance(appid string, look map[string]any) servertest.Answer {
	p.t.Helper()
	body := require.Value(json.Marshal(look))(p.t)
	return p.Do("PUT", "/admin/v1/accounts/"+appid+"/appearance", string(body), "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json")
}

// checkText verifies that a page contains each text, and none of the texts that begin with "-".
func (p testServer) checkText(name string, a servertest.Answer, words ...string) {
	p.t.Helper()
	for _, word := range words {
		text, isUnwanted := strings.CutPrefix(word, "-")
		found := strings.Contains(a.Body, text)
		assert.True(p.t, found != isUnwanted, "%s: the page contains %q = %v, want %v: %s", name, text, found, !isUnwanted, a.Body)
	}
}

// TestLandingPage_AccountAppearance sets the colour, logo, help link and texts of an account and verifies the landing page after each
// change. The server must serve the logo re-encoded, under every host.
func TestLandingPage_AccountAppearance(t *testing.T) {
	t.Parallel()
	p := startUnlimited(t, servertest.Options{})
	getLink := func() servertest.Answer { return p.get("coffee.example", "/t/7") }
	p.checkText("before", getLink(), "-/qrjump/logo/", ";--accent:#0b6b45;", "This link opens a Mini Program.", "此链接将打开小程序。")
	file := logoFile(t, color.NRGBA{200, 30, 30, 255}, 800, 200)
	var stored struct {
		OnAccent string `json:"on_accent"`
		Logo     struct {
			Path          string
			Width, Height int
			PNG           []byte
		}
	}
	appearance := map[string]any{"accent": "#ffcc00", "help": "https://help.example/?a=b&c=d", "logo": file, "texts": map[string]any{
		"en": map[string]string{"app": "Coffee <b>App</b>", "landing": "Order \"here\" & now", "code": "Thank you."},
		"zh": map[string]string{"app": "咖啡应用", "landing": "在此点单", "code": "谢谢。"}}}
	a := p.setAppearance("shop", appearance)
	require.True(t, a.Status == 200, "status %d, want 200: %s", a.Status, a.Body)
	a.JSON(t, &stored)
	assert.True(t, stored.OnAccent == "#000000" && stored.Logo.Width == 384 && stored.Logo.Height == 96, "%s", a.Body)
	a = getLink()
	p.checkPage("dressed", a, 200)
	p.checkText("dressed", a, `<img class="logo" src="`+stored.Logo.Path+`" width="192" height="48" alt="">`,
		":root{--accent:#ffcc00;--on-accent:#000000}",
		`href="https://help.example/?a=b&amp;c=d"`, "Order &#34;here&#34; &amp; now", "在此点单",
		"open Coffee &lt;b&gt;App&lt;/b&gt;, choose Scan", "打开咖啡应用的", "-Thank you")
	// Every host serves the logo as the server encoded it.
	for _, host := range []string{"coffee.example", "q.example", "127.0.0.1"} {
		logo := p.get(host, stored.Logo.Path)
		assert.True(t, logo.Status == 200 && logo.Header.Get("Content-Type") == "image/png" &&
			logo.Header.Get("X-Content-Type-Options") == "nosniff" &&
			logo.Header.Get("Cache-Control") == "public, max-age=31536000, immutable" &&
			logo.Header.Get("Content-Security-Policy") == "default-src 'none'; sandbox",
			"logo of %s: status %d, headers %v", host, logo.Status, logo.Header)
		assert.True(t, logo.Body == string(stored.Logo.PNG) && !strings.Contains(logo.Body, "<script"), "%s serves another picture", host)
		bytes, loaded := pagetest.MeasurePage(t, a.Body, func(address string) string { return p.get(host, address).Body })
		assert.True(t, bytes <= pagetest.Budget && len(loaded) == 1 && bytes == len(a.Body)+len(logo.Body),
			"the page has %d bytes with %q, want the page and the logo", bytes, loaded)
	}
	none := p.get("coffee.example", "/qrjump/logo/"+strings.Repeat("0", 64)+".png")
	p.checkPage("no such logo", none, 404)
	// A change without a logo keeps the old one; no_logo removes it.
	delete(appearance, "logo")
	appearance["accent"] = "#101010"
	p.setAppearance("shop", appearance)
	p.checkText("another colour", getLink(), stored.Logo.Path, ":root{--accent:#101010;--on-accent:#ffffff}", "-#ffcc00")
	appearance["no_logo"] = true
	a = p.setAppearance("shop", appearance)
	assert.True(t, a.Status == 200 && !strings.Contains(a.Body, "png"), "status %d, want 200: %s", a.Status, a.Body)
	p.checkText("no logo", getLink(), "-/qrjump/logo/", ":root{--accent:#101010;")
	a = p.setAppearance("shop", map[string]any{})
	assert.True(t, a.Status == 200, "status %d, want 200: %s", a.Status, a.Body)
	p.checkText("as before", getLink(), "-#101010", "-help.example", "-Order", "open the app, choose Scan")
}

// TestLandingPage_CodeIssuerAppearance verifies that the page of a code has the appearance of its issuer, and that the page of an unknown
// code has none.
func TestLandingPage_CodeIssuerAppearance(t *testing.T) {
	t.Parallel()
	p := startUnlimited(t, servertest.Options{})
	batch, paths := p.applyForCodes(2)
	p.activate(batch, 1, 1)
	p.Admin("PUT", "/accounts/brand",
		`{"kind":"service_account","name":"Brew & Co","certified":true,"features":["marketcode"],"linked":["shop"]}`)
	a := p.setAppearance("brand", map[string]any{"logo": logoFile(t, color.Black, 50, 50), "help": "https://help.example/",
		"texts": map[string]any{"en": map[string]string{"code": "Look for the seal.", "landing": "Not here."}}})
	require.True(t, a.Status == 200, "status %d, want 200: %s", a.Status, a.Body)
	for i, verdict := range []string{"not_active", "active"} {
		a := p.get("q.example", paths[i])
		p.checkPage(verdict, a, 200)
		p.checkText(verdict, a, `<div class="verdict `+verdict+`"><svg `, "/qrjump/logo/", "<b>Brew &amp; Co</b>", "Look for the seal.",
			"https://help.example/", "-Not here")
	}
	// An unknown code has no issuer.
	a = p.get("q.example", "/A000000000000000000")
	p.checkPage("unknown", a, 404)
	p.checkText("unknown", a, "-help.example", "-/qrjump/logo/", `<div class="verdict missing"><svg `, "What to do", "您可以这样做")
}

// TestLandingPage_ButtonOrDirectOpen verifies that the page names the app and has a button that opens it, and that with open_at_once the
// link redirects to the app without the page.
func TestLandingPage_ButtonOrDirectOpen(t *testing.T) {
	t.Parallel()
	p := startServer(t, servertest.Options{})
	const link = "/a?x=%22%3E%3Cscript%3E"
	a := p.get("tea.example", link)
	p.checkPage("the page", a, 200)
	p.checkText("the page", a, "打开茶馆</a>", "Open 茶馆</a>", `<h1>茶馆</h1>`)
	address := regexp.MustCompile(`<a class="button" href="(teaapp://open\?app=tea&amp;page=pages%2Ftea&amp;query=[^"]*)"`).
		FindStringSubmatch(a.Body)
	assert.True(t, address != nil && !strings.ContainsAny(address[1], "<> "), "%q: %s", address, a.Body)
	assert.Equal(t, qrText(t, a.Body), "http://tea.example/a?x=%22%3E%3Cscript%3E", "the QR code is of")
	p.setAppearance("tea", map[string]any{"open_at_once": true})
	if a := p.get("tea.example", link); a.Status != http.StatusFound || !strings.HasPrefix(a.Header.Get("Location"), "teaapp://open?") {
		t.Errorf("open_at_once: status %d, want 302, Location %q", a.Status, a.Header.Get("Location"))
	}
	// An account without a URL scheme keeps its page.
	p.setAppearance("shop", map[string]any{"open_at_once": true})
	a = p.get("coffee.example", "/t/7")
	p.checkPage("no address", a, 200)
	p.checkText("no address", a, `<button class="button" type="button" data-copy`, `-<a class="button"`)
	p.setAppearance("tea", map[string]any{})
	p.checkPage("the page again", p.get("tea.example", link), 200)
}

// TestLandingPage_LanguageSwitchWithoutScript verifies that the page contains both languages and a link that switches between them without
// a script or another URL.
func TestLandingPage_LanguageSwitchWithoutScript(t *testing.T) {
	t.Parallel()
	p := startServer(t, servertest.Options{})
	for header, languages := range map[string][2]string{"en": {"en", "zh-CN"}, "zh": {"zh-CN", "en"}} {
		a := p.get("coffee.example", "/t/7", "Accept-Language: "+header)
		p.checkPage(header, a, 200)
		second, _, _ := strings.Cut(languages[1], "-")
		p.checkText(header, a, `<html lang="`+languages[0]+`">`, `<div class="first" lang="`+languages[0]+`">`,
			`<div class="second" lang="`+languages[1]+`">`, fmt.Sprintf(`<span class="other" id="%s">`, second),
			fmt.Sprintf(`<a class="switch first" href="#%s" lang="%s" hreflang="%[2]s">`, second, languages[1]))
	}
}

func TestAppearance_RejectsInvalid(t *testing.T) {
	t.Parallel()
	p := startServer(t, servertest.Options{})
	for want, appearance := range map[string]map[string]any{
		"accent": {"accent": "red"}, "help": {"help": "http://help.example/"},
		"texts has the language": {"texts": map[string]any{"fr": map[string]string{}}},
		"texts.en.code":          {"texts": map[string]any{"en": map[string]string{"code": strings.Repeat("x", 301)}}},
		"SVG":                    {"logo": []byte("<svg onload=alert(1)>")}, "cannot be read": {"logo": []byte("hello")},
		"524289 bytes": {"logo": make([]byte, 512<<10+1)},
	} {
		a := p.setAppearance("shop", appearance)
		assert.True(t, a.Status == 422 && strings.Contains(a.Body, want), "%s: status %d, want 422: %s", want, a.Status, a.Body)
	}
	a := p.setAppearance("shop", map[string]any{"logo": logoFile(t, color.Black, 5, 5), "no_logo": true})
	assert.True(t, a.Status == 422, "status %d, want 422: %s", a.Status, a.Body)
	a = p.setAppearance("nobody", map[string]any{})
	assert.True(t, a.Status == 404, "status %d, want 404: %s", a.Status, a.Body)
	a = p.setAppearance("shop", map[string]any{"logo": base64.StdEncoding})
	assert.True(t, a.Status == 422, "status %d, want 422: %s", a.Status, a.Body)
}
