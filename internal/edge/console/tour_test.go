package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// tab is a browser tab with a language.
type tab struct {
	t        *testing.T
	ctx      context.Context
	messages map[string]string // of its language, by key
	clicks   *int
}

// readMessages returns the messages of a language by key.
func readMessages(t *testing.T, language string) (texts map[string]string) {
	t.Helper()
	file, _, _ := strings.Cut(language, "-")
	names := require.Value(filepath.Glob("locale/*" + file + ".json"))(t)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(text, &texts)
		}
		require.NoError(t, err)
	}
	return texts
}

// resetTab clears the cookies of a browser and sets its language and width in pixels.
func resetTab(t *testing.T, browser context.Context, language string, width int64) tab {
	t.Helper()
	p := tab{t, browser, readMessages(t, language), new(int)}
	require.NoError(t, assert.ErrorOf(chromedp.Call(p.ctx, network.ClearBrowserCookies, cdp.Empty{})))
	require.NoError(t, assert.ErrorOf(chromedp.Call(p.ctx, network.SetExtraHTTPHeaders,
		network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": language}})))
	browsertest.Run(t, p.ctx, chromedp.EmulateViewport(width, 900))
	return p
}

// open goes to an address.
func (p tab) open(address string) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.Navigate(address)))
}

func (p tab) await(condition string) {
	p.t.Helper()
	browsertest.Await(p.t, p.ctx, condition)
}

// click waits for an element and clicks it.
func (p tab) click(selector string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`(e => !!e && (e.click(), true))(document.querySelector(%q))`, selector))
	*p.clicks++
}

// navigate opens a page by the navigation, which is behind a button on a phone; pages of operators are behind another button.
func (p tab) navigate(page string) {
	p.t.Helper()
	if p.isVisible(".burger") {
		p.click(".burger")
	}
	link := fmt.Sprintf(`nav a[href=%q]`, page)
	if !p.isVisible(link) {
		p.click("nav summary")
	}
	p.click(link)
	p.await(fmt.Sprintf(`location.pathname === %q`, page))
}

// isVisible waits for an element and reports whether it is visible.
func (p tab) isVisible(selector string) bool {
	p.t.Helper()
	p.await(fmt.Sprintf(`!!document.querySelector(%q)`, selector))
	return browsertest.Run(p.t, p.ctx, chromedp.Evaluate[bool](fmt.Sprintf(`document.querySelector(%q).checkVisibility()`, selector)))
}

// waitFor repeats f until it returns true.
func (p tab) waitFor(f func() bool) {
	p.t.Helper()
	for !f() {
		require.NoErrorf(p.t, p.ctx.Err(), "the server did not reach the expected state")
	}
}

// signIn signs in with the form.
func (p tab) signIn(s *servertest.Server, name string) {
	p.t.Helper()
	p.open(s.AdminURL + "/console/login")
	p.write("#name", name)
	p.write("#password", password)
	p.click("main button.primary")
	p.await(`location.pathname === '/console/home'`)
}

// choose selects a value of a select field.
func (p tab) choose(selector, value string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`(e => !!e && (e.value = %q, e.value === %[1]q) && e.dispatchEvent(new Event('input', { bubbles: true })))(document.querySelector(%q))`, value, selector))
}

// write replaces the text of a field.
func (p tab) write(selector, text string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`(e => !!e && (e.select(), true))(document.querySelector(%q))`, selector))
	browsertest.Run(p.t, p.ctx, chromedp.SendKeys(selector, text))
}

// waitMessage waits until the page shows a message of its language.
func (p tab) waitMessage(key string) {
	p.t.Helper()
	require.True(p.t, p.messages[key] != "", "the catalog has no %s", key)
	p.waitText(p.messages[key])
}

func (p tab) waitText(text string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`!!document.getElementById('main') && document.getElementById('main').innerText.includes(%q)`, text))
}

// TestTour_InBrowser follows the tour by clicks: adds a rule whose verification fails at first, publishes it, scans it with a picture,
// finds the scan in the statistics, activates and freezes codes, and undoes the last change of the rule. A complete run repeats it in both
// languages and at both widths.
func TestTour_InBrowser(t *testing.T) {
	for _, c := range testscope.Select([]screen{{"en", 320}, {"zh-CN", 1280}}, []screen{{"en", 320}}) {
		t.Run(c.language, func(t *testing.T) {
			s := servertest.Start(t, servertest.Options{Seed: shop})
			s.Admin("PUT", "/settings", `{"verification":"fetch"}`)
			batch := fmt.Sprint(s.Apply("press", "<b>order", 10_000))
			web := newFileHost(t)
			p := resetTab(t, browsertest.Start(t, ""), c.language, c.width)
			prefix := web.URL + "/t/"
			require.NoError(t, chromedp.Do(p.ctx, chromedp.Navigate(s.AdminURL+"/console/")))
			p.click(`nav a[href="/console/rules"]`)
			p.click(`a[href^="/console/rules/new"]`)
			p.await(`location.pathname === '/console/rules/new'`)
			p.write("#owner", "shop")
			p.write("#path", "pages/tour/tour")
			p.write("#prefix", prefix)
			// The preview appears before the form is sent.
			p.await(`document.getElementById('tried').innerText.includes('pages/tour/tour')`)
			p.waitMessage("rule.can")
			p.click("#rule-form button.primary")
			p.await(`!!document.querySelector('#main [role="alert"]')`)
			p.waitMessage("file.missing")
			p.waitMessage("cure.status_404")
			content := browsertest.Run(t, p.ctx, chromedp.Evaluate[string](`document.querySelector('#tried .copy').textContent`))
			web.file.Store(&content)
			p.click("#rule-form button.primary")
			p.waitMessage("done.rule.added")
			p.click(`button[value="publish"]`)
			p.click(`button[value="publish-sure"]`) // the confirmation shows the effect on last week's scans
			p.waitMessage("done.rule.published")

			link := prefix + "7?from=<b>door</b>"
			file := filepath.Join(t.TempDir(), "code.png")
			require.NoError(t, os.WriteFile(file, qrPicture(t, link), 0o600))
			p.click(`nav a[href="/console/scan"]`)
			p.await(`!!document.getElementById('picture')`)
			browsertest.Run(t, p.ctx, chromedp.SetUploadFiles("#picture", []string{file}))
			p.click("#picture-form button")
			p.waitMessage("action.open_mini_program")
			p.waitText("pages/tour/tour")
			scan := `{"text":"` + strings.ReplaceAll(link, `"`, ``) + `","user":"<i>eve</i>"}`
			require.Equal(t, s.Do("POST", "/scan/v1/resolve", scan).Status, 200, "scan of %s", link)
			s.Admin("GET", "/statistics?wait=true", "") // aggregation is asynchronous
			p.waitFor(func() bool {
				p.click(`nav a[href="/console/statistics"]`)
				p.await(`document.readyState === 'complete' && location.pathname === '/console/statistics'`)
				return browsertest.Run(t, p.ctx, chromedp.Evaluate[bool](
					`[...document.querySelectorAll('td.num')].some(e => e.textContent === '1')`))
			})

			p.click(`nav a[href="/console/codes"]`)
			p.click(`a[href="/console/codes/` + batch + `"]`)
			p.click(`.tabs a[href="#activate"]`)
			p.write("#a-from", "0")
			p.write("#a-to", "4999")
			for selector, text := range map[string]string{"#target": "shop", "#path": "pages/code/code", "#activity": "tour", "#brand": "b",
				"#titled": "t", "#product": "4006381333931"} {
				p.write(selector, text)
			}
			p.click(`input[value="activate"] ~ p button`)
			p.waitText("5,000")
			p.click("form.notice button.danger")
			p.waitMessage("done.codes")
			p.click(`.tabs a[href="#change"]`)
			p.write("#from", "100")
			p.write("#to", "199")
			p.choose("#did", "freeze")
			p.click("#did ~ p button, form.row:has(#did) button")
			p.click("form.notice button.danger")
			p.waitMessage("done.codes")
			p.await(`document.querySelectorAll('.runs:not(.key) .is-frozen').length === 1`)
			p.await(`document.querySelectorAll('.runs:not(.key) .is-active').length === 2`)

			p.click(`nav a[href="/console/rules"]`)
			p.await(`location.pathname === '/console/rules' && !!document.querySelector('tbody')`)
			p.click(`a[href*="` + strings.NewReplacer(":", "%3a", "/", "%2f").Replace(web.URL) + `"]`)
			p.click(`td form[action="/console/rules/undo"] button`)
			p.click(`button[value="undo-sure"]`)
			p.waitMessage("done.undone")
			p.waitMessage("rules.draft")
			assert.Equal(t, browsertest.Run(t, p.ctx, chromedp.Evaluate[int](`document.querySelectorAll('b, i').length`)), 0,
				"elements from hostile text")
		})
	}
}
