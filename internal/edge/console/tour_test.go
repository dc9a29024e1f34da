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

// tab is a page of a browser that a person uses, in a language.
type tab struct {
	t   *testing.T
	ctx context.Context
	say map[string]string // the texts of its language
	// clicked counts the clicks of the person.
	clicked *int
}

// openTab is a tab of a browser of its own, whose reader prefers a language, en or zh-CN.
func openTab(t *testing.T, language string, width int64) tab {
	t.Helper()
	return sitDown(t, browsertest.Start(t, ""), language, width)
}

// texts reads the texts of the pages in a language by their key.
func texts(t *testing.T, language string) (texts map[string]string) {
	t.Helper()
	file, _, _ := strings.Cut(language, "-")
	names, err := filepath.Glob("locale/*" + file + ".json")
	require.NoError(t, err)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(text, &texts)
		}
		require.NoError(t, err)
	}
	return texts
}

// sitDown opens the browser without cookies, in a language and with a width in pixels.
func sitDown(t *testing.T, browser context.Context, language string, width int64) tab {
	t.Helper()
	p := tab{t, browser, texts(t, language), new(int)}
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

func (p tab) await(so string) {
	p.t.Helper()
	browsertest.Await(p.t, p.ctx, so)
}

// click clicks what a selector names, once it is there.
func (p tab) click(selector string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`(e => !!e && (e.click(), true))(document.querySelector(%q))`, selector))
	*p.clicked++
}

// to goes to a page by the navigation, which is behind a button on a phone; the pages of operators are behind another button.
func (p tab) to(page string) {
	p.t.Helper()
	if p.shown(".burger") {
		p.click(".burger")
	}
	link := fmt.Sprintf(`nav a[href=%q]`, page)
	if !p.shown(link) {
		p.click("nav summary")
	}
	p.click(link)
	p.await(fmt.Sprintf(`location.pathname === %q`, page))
}

// shown reports whether somebody can see what a selector names.
func (p tab) shown(selector string) bool {
	p.t.Helper()
	p.await(fmt.Sprintf(`!!document.querySelector(%q)`, selector))
	return browsertest.Run(p.t, p.ctx, chromedp.Evaluate[bool](fmt.Sprintf(`document.querySelector(%q).checkVisibility()`, selector)))
}

// until repeats f until it returns true.
func (p tab) until(f func() bool) {
	p.t.Helper()
	for !f() {
		require.NoErrorf(p.t, p.ctx.Err(), "the server never reached the expected state")
	}
}

// signIn signs the person in by the form.
func (p tab) signIn(s *servertest.Server, name string) {
	p.t.Helper()
	p.open(s.AdminURL + "/console/login")
	p.write("#name", name)
	p.write("#password", password)
	p.click("main button.primary")
	p.await(`location.pathname === '/console/home'`)
}

// choose chooses a value of a field that has several.
func (p tab) choose(selector, value string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`(e => !!e && (e.value = %q, e.value === %[1]q) && e.dispatchEvent(new Event('input', { bubbles: true })))(document.querySelector(%q))`, value, selector))
}

// write types into a field, over what is in it.
func (p tab) write(selector, text string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`(e => !!e && (e.select(), true))(document.querySelector(%q))`, selector))
	browsertest.Run(p.t, p.ctx, chromedp.SendKeys(selector, text))
}

// reads waits until a page shows a text of its language.
func (p tab) reads(key string) {
	p.t.Helper()
	require.True(p.t, p.say[key] != "", "there is no text %s", key)
	p.shows(p.say[key])
}

func (p tab) shows(text string) {
	p.t.Helper()
	p.await(fmt.Sprintf(`!!document.getElementById('main') && document.getElementById('main').innerText.includes(%q)`, text))
}

// The whole tour, by clicks: a rule is added, its verification fails and says why, the file is put, the rule is published, scanned by a
// picture and counted, codes are activated and frozen, and the rule's last change is undone. In both languages and at both
// widths in a whole run.
func TestTour_InBrowser(t *testing.T) {
	for _, c := range testscope.Choose([]screen{{"en", 320}, {"zh-CN", 1280}}, []screen{{"en", 320}}) {
		t.Run(c.language, func(t *testing.T) {
			s := servertest.Start(t, servertest.Options{Seed: shop})
			s.Admin("PUT", "/settings", `{"verification":"fetch"}`)
			batch := fmt.Sprint(applied(t, s))
			web := newHost(t)
			p := openTab(t, c.language, c.width)
			prefix := web.URL + "/t/"
			require.NoError(t, chromedp.Do(p.ctx, chromedp.Navigate(s.AdminURL+"/console/")))
			p.click(`nav a[href="/console/rules"]`)
			p.click(`a[href^="/console/rules/new"]`)
			p.await(`location.pathname === '/console/rules/new'`)
			p.write("#owner", "shop")
			p.write("#path", "pages/tour/tour")
			p.write("#prefix", prefix)
			// What the rule would do is there before anything is sent.
			p.await(`document.getElementById('tried').innerText.includes('pages/tour/tour')`)
			p.reads("rule.can")
			p.click("#rule-form button.primary")
			p.await(`!!document.querySelector('#main [role="alert"]')`)
			p.reads("file.missing")
			p.reads("cure.status_404")
			content := browsertest.Run(t, p.ctx, chromedp.Evaluate[string](`document.querySelector('#tried .copy').textContent`))
			web.file.Store(&content)
			p.click("#rule-form button.primary")
			p.reads("done.rule.added")
			p.click(`button[value="publish"]`)
			p.click(`button[value="publish-sure"]`) // after what it would do to last week's scans
			p.reads("done.rule.published")

			link := prefix + "7?from=<b>door</b>"
			file := filepath.Join(t.TempDir(), "code.png")
			require.NoError(t, os.WriteFile(file, picture(t, link), 0o600))
			p.click(`nav a[href="/console/scan"]`)
			p.await(`!!document.getElementById('picture')`)
			browsertest.Run(t, p.ctx, chromedp.SetUploadFiles("#picture", []string{file}))
			p.click("#picture-form button")
			p.reads("action.open_mini_program")
			p.shows("pages/tour/tour")
			scan := `{"text":"` + strings.ReplaceAll(link, `"`, ``) + `","user":"<i>eve</i>"}`
			require.Equal(t, s.Do("POST", "/scan/v1/resolve", scan).Status, 200, "the scan of %s", link)
			s.Admin("GET", "/statistics?wait=true", "") // it is counted a moment later
			p.until(func() bool {
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
			p.shows("5,000")
			p.click("form.notice button.danger")
			p.reads("done.codes")
			p.click(`.tabs a[href="#change"]`)
			p.write("#from", "100")
			p.write("#to", "199")
			p.choose("#did", "freeze")
			p.click("#did ~ p button, form.row:has(#did) button")
			p.click("form.notice button.danger")
			p.reads("done.codes")
			p.await(`document.querySelectorAll('.runs:not(.key) .is-frozen').length === 1`)
			p.await(`document.querySelectorAll('.runs:not(.key) .is-active').length === 2`)

			p.click(`nav a[href="/console/rules"]`)
			p.await(`location.pathname === '/console/rules' && !!document.querySelector('tbody')`)
			p.click(`a[href*="` + strings.NewReplacer(":", "%3a", "/", "%2f").Replace(web.URL) + `"]`)
			p.click(`td form[action="/console/rules/undo"] button`)
			p.click(`button[value="undo-sure"]`)
			p.reads("done.undone")
			p.reads("rules.draft")
			assert.Equal(t, browsertest.Run(t, p.ctx, chromedp.Evaluate[int](`document.querySelectorAll('b, i').length`)), 0,
				"elements are of what strangers sent")
		})
	}
}
