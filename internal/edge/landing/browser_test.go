package landing_test

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/pagetest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

//go:embed testdata/axe/axe.min.js
var axe string

// callBrowser runs a browser command.
func callBrowser[P, R any](t *testing.T, ctx context.Context, command cdp.Command[P, R], params P) {
	t.Helper()
	require.NoErrorf(t, assert.ErrorOf(chromedp.Call(ctx, command, params)), "%s", command.Method)
}

// TestPages_InChromium opens the pages in both languages, narrow and wide, light and dark, and checks policy, layout, QR code and axe-core
// findings. It writes screenshots to PAGES_DIR, if set.
func TestPages_InChromium(t *testing.T) {
	p := startUnlimited(t, servertest.Options{})
	p.Admin("PUT", "/accounts/shop", `{"kind":"mini_program","versions":["release"],"name":"咖啡 Coffee & Co"}`)
	batch, codes := p.applyForCodes(6)
	p.activate(batch, 1, 5)
	p.scanAsCopy(codes[4])
	for i, action := range map[int]string{2: "freeze", 3: "void", 5: "redeem"} {
		p.changeStates(batch, action, i, i)
	}
	p.scan(codes[1], 1)
	appearance := map[string]any{"accent": "#7a3e00", "help": "https://help.example/",
		"logo": logoFile(t, color.NRGBA{122, 62, 0, 255}, 300, 100),
		"texts": map[string]any{"en": map[string]string{"app": "Coffee App", "landing": "Order at your table."},
			"zh": map[string]string{"app": "咖啡应用", "landing": "在桌边点单。"}}}
	for _, appid := range []string{"tea", "brand"} {
		a := p.setAppearance(appid, appearance)
		require.True(t, a.Status == 200, "%v", a.Body)
	}
	folder := cmp.Or(os.Getenv("PAGES_DIR"), t.TempDir())
	require.NoError(t, os.MkdirAll(folder, 0o755))
	ctx := browsertest.Start(t, strings.TrimPrefix(p.URL, "http://"))
	long := "/t/" + strings.Repeat("abcdefghij", 30) + "?q=" + strings.Repeat("1234567890", 10)
	for i, c := range []struct {
		name, url string
		fails     bool // status of 400 or more
		english   string
		chinese   string
		link      string // text of the QR code
	}{
		{name: "landing", url: "http://coffee.example/t/7?from=door", english: "This link opens a Mini Program.", chinese: "此链接将打开小程序。",
			link: "http://coffee.example/t/7?from=door"},
		{name: "landing-long", url: "http://coffee.example" + long, english: "How to open it", chinese: "打开方式",
			link: "http://coffee.example" + long},
		{name: "landing-dressed", url: "http://tea.example/7", english: "Order at your table.", chinese: "在桌边点单。",
			link: "http://tea.example/7"},
		{name: "landing-no-code", url: "http://coffee.example/t/" + strings.Repeat("abcdefghij", 50), english: "too long for a QR code",
			chinese: "链接过长"},
		{name: "code-active", url: "http://q.example" + codes[1], english: "A genuine code", chinese: "此码为正品码"},
		{name: "code-not-active", url: "http://q.example" + codes[0], english: "This code is not active", chinese: "此码尚未激活"},
		{name: "code-frozen", url: "http://q.example" + codes[2], english: "This code is on hold", chinese: "此码已冻结"},
		{name: "code-void", url: "http://q.example" + codes[3], english: "This code is no longer valid", chinese: "此码已作废"},
		{name: "code-copied", url: "http://q.example" + codes[4], english: "This code may have been copied", chinese: "此码可能已被复制"},
		{name: "code-redeemed", url: "http://q.example" + codes[5], english: "This code was already redeemed", chinese: "此码已核销"},
		{name: "not-found", url: "http://q.example/A000000000000000000", fails: true, english: "Nothing was found", chinese: "未找到内容"},
	} {
		for l, language := range []string{"en-GB", "zh-CN"} {
			want := []string{c.english, c.chinese}[l]
			for w, width := range []int64{320, 1280} {
				for s, scheme := range []string{"light", "dark"} {
					// An incomplete run takes each page once; four neighbours cover all widths and schemes.
					if !testscope.IsComplete() && (l != i/4%2 || (l+w)%2 != i%2 || (l+s)%2 != i/2%2) {
						continue
					}
					name := fmt.Sprintf("%s-%s-%d-%s", c.name, language[:2], width, scheme)
					t.Run(name, func(t *testing.T) {
						callBrowser(t, ctx, network.SetExtraHTTPHeaders,
							network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": language}})
						callBrowser(t, ctx, emulation.SetEmulatedMedia,
							emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme",
								Value: scheme}}})
						browsertest.Run(t, ctx, chromedp.EmulateViewport(width, 900))
						callBrowser(t, ctx, cdppage.SetBypassCSP, cdppage.SetBypassCSPParams{Enabled: false})
						v := visit(t, ctx, c.url)
						assert.True(t, strings.Contains(v.text, want), "page lacks %q: %s", want, v.text)
						for _, request := range v.requests {
							permitted := strings.HasPrefix(request, "data:") || strings.Contains(request, ".example/qrjump/logo/")
							assert.True(t, request == c.url || permitted, "the page requests %s", request)
						}
						for _, message := range v.console {
							assert.True(t, c.fails && strings.Contains(message,
								"Failed to load resource: the server responded with a status of 404"), "console: %s", message)
						}
						assert.True(t, v.overflow <= 0, "the page is %d pixels wider than the window, want 0", v.overflow)
						require.NoError(t, os.WriteFile(filepath.Join(folder, name+".png"), v.picture, 0o644))
						if c.link != "" {
							screen := require.Value(png.Decode(bytes.NewReader(v.picture)))(t)
							text, err := symbol.Find(screen)
							assert.True(t, err == nil && text == c.link, "QR code of the screenshot = %q, %v, want %q", text, err, c.link)
						}
						for _, violation := range violations(t, ctx, c.url) {
							t.Errorf("axe: %s", violation)
						}
					})
				}
			}
		}
	}
	t.Logf("screenshots in %s", folder)
}

// TestLandingPage_ChromiumLanguageAndCopy verifies that a link switches the language, and that the button copies the printed link in either
// language.
func TestLandingPage_ChromiumLanguageAndCopy(t *testing.T) {
	p := startServer(t, servertest.Options{})
	ctx := browsertest.Start(t, strings.TrimPrefix(p.URL, "http://"))
	callBrowser(t, ctx, network.SetExtraHTTPHeaders,
		network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": "zh-CN"}})
	const link = "http://coffee.example/t/7?from=door"
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(link)))
	pageText := func() string { return browsertest.Run(t, ctx, chromedp.Evaluate[string](`document.body.innerText`)) }
	text := pageText()
	assert.True(t, strings.Contains(text, "此链接将打开小程序") && !strings.Contains(text, "This link opens"), "in Chinese: %s", text)
	browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`document.querySelector("a.switch.first").click()`))
	text = pageText()
	assert.True(t, !strings.Contains(text, "此链接将打开小程序") && strings.Contains(text, "This link opens"), "in English: %s", text)
	// Plain HTTP has no clipboard API: the page selects the link and copies the selection.
	browsertest.Run(t, ctx, chromedp.Click(".second button[data-copy]"))
	status := browsertest.Run(t, ctx, chromedp.Poll[string](`document.querySelector(".second [role=status]").textContent`))
	selection := browsertest.Run(t, ctx, chromedp.Evaluate[string](`getSelection().toString()`))
	assert.True(t, status == "Copied." && selection == link, "status = %q, copied text = %q, want %q", status, selection, link)
	browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`document.querySelector("a.switch.second").click()`))
	text = pageText()
	assert.True(t, strings.Contains(text, "此链接将打开小程序") && !strings.Contains(text, "This link opens"), "in Chinese again: %s", text)
}

// pageVisit records the effects of a page in the browser.
type pageVisit struct {
	text     string
	overflow int
	picture  []byte
	requests []string
	console  []string
}

const endMark = "end of the page's messages"

func visit(t *testing.T, parent context.Context, url string) (v pageVisit) {
	t.Helper()
	ctx, cancel := context.WithCancel(parent) // ends both streams
	defer cancel()
	// Both streams are in the order of the browser, so a known last entry ends them.
	requests, messages := chromedp.Events(ctx, network.RequestWillBeSent), chromedp.Console(ctx)
	require.NoErrorf(t, chromedp.Do(ctx, chromedp.Navigate(url)), "%s", url)
	if bytes := browsertest.Loaded(t, ctx); bytes > pagetest.Budget || bytes < 4<<10 { // less: the measurement failed
		t.Errorf("%s: %d bytes with its files, want 4 KiB to %d bytes", url, bytes, pagetest.Budget)
	}
	v.text = browsertest.Run(t, ctx, chromedp.Evaluate[string](`document.body.innerText`))
	v.overflow = browsertest.Run(t, ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - document.documentElement.clientWidth`))
	v.picture = browsertest.Run(t, ctx, chromedp.FullScreenshot(100))
	browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`console.debug("`+endMark+`")`))
	for m, err := range messages {
		require.NoError(t, err)
		if m.Text == endMark {
			break
		}
		v.console = append(v.console, m.String())
	}
	const last = "http://q.example/-last-"
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(last)))
	for r, err := range requests {
		require.NoError(t, err)
		if r.Request.URL == last {
			break
		}
		v.requests = append(v.requests, r.Request.URL)
	}
	assert.True(t, len(v.requests) != 0, "the page made no request, want at least its own")
	return v
}

// violations returns the findings of axe-core on a page. The browser ignores the policy of the page, which allows no scripts.
func violations(t *testing.T, ctx context.Context, url string) (list []string) {
	t.Helper()
	callBrowser(t, ctx, cdppage.SetBypassCSP, cdppage.SetBypassCSPParams{Enabled: true})
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(url)))
	browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](axe))
	text := browsertest.Run(t, ctx, chromedp.Evaluate[string](`axe.run(document).then(r => JSON.stringify({
		violations: r.violations.map(v => v.id + ": " + v.help + ": " + v.nodes.map(n => n.html + " " + n.failureSummary).join("; ")),
		passes: r.passes.length}))`, chromedp.EvalAwaitPromise))
	var result struct {
		Violations []string
		Passes     int
	}
	require.NoError(t, json.Unmarshal([]byte(text), &result))
	assert.True(t, result.Passes >= 10, "axe-core passed %d rules, want at least 10", result.Passes)
	return result.Violations
}
