package console_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// screen is a language and a width in pixels.
type screen struct {
	language string
	width    int64
}

// screens returns a phone, a tablet and a desktop in both languages in a complete run, otherwise the given screen.
func screens(language string, width int64) []screen {
	return testscope.Select([]screen{{"en", 390}, {"zh-CN", 1600}, {"en", 1024}, {"zh-CN", 390}, {"en", 1600}, {"zh-CN", 1024}},
		[]screen{{language, width}})
}

// checkClicks checks the number of clicks so far. Below 960 pixels each navigation takes one click more.
func (p tab) checkClicks(s screen, narrow, wide int) {
	p.t.Helper()
	want := wide
	if s.width < 960 {
		want = narrow
	}
	p.t.Logf("%s, %d pixels wide: %d clicks", s.language, s.width, *p.clicks)
	assert.True(p.t, *p.clicks == want, "%d clicks, want %d", *p.clicks, want)
}

// TestStory_BrandManager orders codes as the manager of a brand, limited to its account, sets what they open, sends labels to a printer,
// sees the scans, and finds and dismisses the alarm of a copied code. All screens share one server and one browser; each has its own brand.
func TestStory_BrandManager(t *testing.T) {
	screens := screens("zh-CN", 1600)
	var seed strings.Builder
	seed.WriteString("accounts:\n  - {appid: shop, kind: mini_program, secret: the-secret-of-shop, certified: true, versions: [release]}\n")
	for i := range screens {
		seed.WriteString(fmt.Sprintf("  - {appid: brand%d, kind: service_account, secret: the-secret-of-brand%[1]d, certified: true, "+
			"features: [marketcode], marketcode_key: 0123456789abcdef, linked: [shop]}\n", i))
	}
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: seed.String() + "settings: {rule_rate_limit: null}\n",
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	key, window := newScanKey(s), browsertest.Start(t, "")
	require.NoError(t, assert.ErrorOf(chromedp.Call(window, browser.SetDownloadBehavior,
		browser.SetDownloadBehaviorParams{Behavior: "allow", DownloadPath: t.TempDir()})))
	for i, c := range screens {
		t.Run(fmt.Sprint(c.language, c.width), func(t *testing.T) {
			name, brand := fmt.Sprintf("mia%d", i), fmt.Sprintf("brand%d", i)
			createPerson(s, name, adminroute.Marketer, brand)
			p := resetTab(t, window, c.language, c.width)
			p.signIn(s, name)
			p.navigate("/console/codes")
			p.click(`.tabs a[href^="/console/orders"]`)
			p.write("#isv_application_id", "spring")
			p.click(`button[value="ask"]`)
			p.waitMessage("done.order.generated")
			p.await(`document.getElementById('a-to')?.checkVisibility()`)
			for selector, text := range map[string]string{"#a-from": "0", "#a-to": "4999", "#target": "shop", "#path": "pages/code/code",
				"#activity": "tour", "#brand": "b", "#titled": "t", "#product": "4006381333931"} {
				p.write(selector, text)
			}
			p.click(`input[value="activate"] ~ p button`)
			p.click("form.notice button.danger")
			p.waitMessage("done.codes")
			p.click(`.tabs a[href="#lists"]`)
			p.click(`#lists a[href^="/console/packages?"]`)
			p.await(`!!document.getElementById('printer')`)
			p.write("#from", "0")
			p.write("#to", "99")
			p.write("#printer", "Press")
			p.click(`input[name="format"][value="sheet"]`)
			p.click(`form[action^="/console/packages"][method="post"]:not([enctype]) > p:last-child button`)
			p.write("#passphrase", "a passphrase of the story")
			p.click(`form[action$="/file"] button`)
			p.waitFor(func() bool { // the download does not change the page
				return strings.Contains(s.Admin("GET", "/packages?account="+brand, "").Body, `"download_count":1`)
			})
			p.navigate("/console/packages")
			p.await(`[...document.querySelectorAll('td.num')].some(e => e.textContent === '1')`)
			scanAsCopy(t, s, brand, key)
			p.navigate("/console/home")
			p.waitText("60")
			p.navigate("/console/alarms")
			p.click(`li a[href^="/console/alarms/"]`)
			p.await(fmt.Sprintf(`!!document.querySelector('dialog.drawer')?.innerText.includes(%q)`, p.messages["alarm.buyer.copied"]))
			p.write(`dialog.drawer input[name="note"]`, "a fair")
			p.click(`dialog.drawer button[value="dismiss"]`)
			p.await(`!document.querySelector('button[value="dismiss"]')`)
			p.navigate("/console/alarms")
			p.waitMessage("stats.alarms.none")
			p.checkClicks(c, 22, 17)
		})
	}
}

// scanAsCopy scans a code of an account's order as 60 users in 60 networks, which raises an alarm.
func scanAsCopy(t *testing.T, s *servertest.Server, account, key string) {
	t.Helper()
	list := servertest.Decode[struct{ Batches []client.Batch }](t, s.Admin("GET", "/batches?account="+account, ""))
	code := s.CodeText(list.Batches[0].ID, 7)
	scanByUsers(s, code, 60, "Authorization: Bearer "+key)
	s.Admin("GET", "/statistics?wait=true", "")
}

// TestStory_Viewer reads the figures of the week, the statistics with the table of the chart, unmatched scans, scans and an alarm as a
// viewer of one account. No page may have a button that changes data, and the server must refuse a form of the session.
func TestStory_Viewer(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: strings.Replace(shop, "rules:\n", `rules:
  - {owner: press, prefix: "http://weixin.qq.com/q/press", appid: shop, path: pages/press, published: true}
`, 1), Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch, key, window := s.Apply("press", "<b>order", 10_000), newScanKey(s), browsertest.Start(t, "")
	s.Do("POST", "/scan/v1/resolve", `{"text":"http://weixin.qq.com/q/old/7"}`, "Authorization: Bearer "+key)
	scanAsCopy(t, s, "press", key)
	createPerson(s, "vera", "viewer", "press")
	for _, c := range screens("en", 390) {
		t.Run(fmt.Sprint(c.language, c.width), func(t *testing.T) {
			p := resetTab(t, window, c.language, c.width)
			checkPage := func(texts ...string) {
				t.Helper()
				for _, text := range texts {
					p.waitText(text)
				}
				p.await(`![...document.querySelectorAll('main form[method="post"] button')].some(b => b.checkVisibility())`)
			}
			p.signIn(s, "vera")
			checkPage(p.messages["home.seven"], "60", "weixin.qq.com/q", p.messages["home.alarms"], fmt.Sprint("press ", batch, ":7"))
			p.click("main details:has(table) > summary")
			checkPage("2026-01-15")
			p.navigate("/console/statistics")
			checkPage("2026-01-15", "60", "weixin.qq.com/q")
			p.navigate("/console/statistics/scans")
			checkPage(fmt.Sprint(batch, ":7"))
			p.navigate("/console/alarms")
			p.click(`li a[href^="/console/alarms/"]`)
			p.await(fmt.Sprintf(`!!document.querySelector('dialog.drawer')?.innerText.includes(%q)`, p.messages["alarm.known.users"]))
			checkPage()
			p.await(`(fetch('/console/alarms', {method: 'POST', body: new URLSearchParams({did: 'dismiss', id: 1, note: 'x'})})
				.then(r => { window.refusal = r.status }), true)`)
			p.await(`window.refusal === 403`)
			p.checkClicks(c, 9, 6)
		})
	}
}

// TestStory_OperatorDuringIncident handles failing webhook deliveries as an operator: finds the failing check, its cause, the failed calls
// and the actor that disabled another webhook, repeats the delivery once the receiver works, and enables the other webhook. The health page
// must be good in the end.
func TestStory_OperatorDuringIncident(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop, Began: time.Now(), Outbound: &safehttp.Client{}})
	var status atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	t.Cleanup(receiver.Close)
	s.Admin("PUT", "/settings", `{"allow_private_hosts":true}`)
	s.Admin("POST", "/export", `{"passphrase":"a passphrase of the test"}`)
	hook := fmt.Sprintf(`{"url":%q,"alarms":true,"enabled":false}`, receiver.URL+"/alarms")
	for range 2 {
		var made struct{ Secret string }
		s.Admin("POST", "/webhooks", strings.Replace(hook, `,"enabled":false`, "", 1)).JSON(t, &made)
		s.RegisterSecret(made.Secret)
	}
	createPerson(s, "olga", adminroute.Operator)
	window := browsertest.Start(t, "")
	for _, c := range screens("zh-CN", 390) {
		t.Run(fmt.Sprint(c.language, c.width), func(t *testing.T) {
			p := resetTab(t, window, c.language, c.width)
			delivery := func(state string) {
				t.Helper()
				p.waitFor(func() bool { return strings.Contains(s.Admin("GET", "/deliveries?limit=1", "").Body, state) })
			}
			status.Store(http.StatusServiceUnavailable)
			s.Admin("POST", "/webhooks/1/test", "")
			s.Admin("PUT", "/webhooks/2", hook)
			s.Rule("shop", "publish", `{"prefix":"https://none.example/"}`)
			delivery(`"status":503`)

			p.signIn(s, "olga")
			p.waitText(receiver.URL)
			p.waitText("40097 /cgi-bin/wxopen/qrcodejumppublish")
			p.navigate("/console/health")
			p.waitMessage("health.bad")
			p.click(`td a[href*="webhook=1&state=pending"]`)
			p.await(`location.pathname === '/console/operate/webhooks'`)
			p.waitText("503")
			p.navigate("/console/calls")
			p.click(`main a[href*="view=errors"]`)
			p.waitText("40097")
			p.navigate("/console/operate/audit")
			p.await(fmt.Sprintf(`/admin\s+webhook\s+2\s+%s/.test(document.querySelector('tbody tr').innerText)`, p.messages["did.put"]))
			status.Store(http.StatusNoContent)
			p.navigate("/console/operate/webhooks")
			p.click(`button[value="on"]`)
			p.waitMessage("done.operate")
			p.click(`button[value="again"]`)
			delivery(`"delivered"`)
			p.navigate("/console/health")
			p.await(fmt.Sprintf(`document.querySelectorAll('.tag.good').length > 3 &&
				![...document.querySelectorAll('tr:has(.tag.bad, .tag.warn)')].some(r => !r.innerText.includes(%q))`,
				p.messages["health.disk"]))
			p.checkClicks(c, 17, 12)
		})
	}
}

// TestStory_ServiceProvider finds one of 200 Mini Programs as a service provider, compares scanned ones, publishes 30 rules together, and
// authorizes a platform from a page of that platform.
func TestStory_ServiceProvider(t *testing.T) {
	s, site, link := startWithPlatform(t)
	key, window := newScanKey(s), browsertest.Start(t, "")
	for i, c := range screens("en", 1600) {
		t.Run(fmt.Sprint(c.language, c.width), func(t *testing.T) {
			for n := range 30 {
				s.Admin("POST", fmt.Sprintf("/accounts/wx%03d/rules", n),
					fmt.Sprintf(`{"prefix":"https://tea%d.example/%d/","path":"pages/tea/tea"}`, n, i))
			}
			link()
			p := resetTab(t, window, c.language, c.width)
			p.signIn(s, "alice")
			if field := "#find"; p.isVisible(field) {
				p.write(field, "Tea 123\r")
			} else {
				p.click(".find-link")
				p.write("#q", "Tea 123\r")
			}
			p.click(`td a[href="/console/accounts/wx123"]`)
			p.await(`location.pathname === '/console/accounts/wx123'`)

			p.navigate("/console/rules")
			p.choose("#state", "draft")
			p.await(`document.querySelectorAll('input[name="selected"]').length === 30`)
			p.click(".every input")
			p.click(`button[value="publish"]`)
			p.click(`input[name="sure"] ~ p button`)
			p.waitText(fmt.Sprintf(p.messages["selected.done"], 30, 30))
			p.checkClicks(c, 8, 6) // at most 9
			for n, times := range []int{3, 5} {
				for range times {
					s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":"https://tea%d.example/%d/7"}`, n+20, i),
						"Authorization: Bearer "+key)
				}
			}
			s.Admin("GET", "/statistics?wait=true", "")

			p.navigate("/console/statistics")
			p.await(`document.querySelector('.boxes section') && !document.querySelector('.later')`)
			p.choose("#by", "")
			p.choose("#group", "owner")
			p.waitText("Tea 021")
			p.waitText("Tea 020")
			p.authorizePlatform(s, site.URL, fmt.Sprintf("wx12%d", i), link)
			p.checkClicks(c, 16, 13)
		})
	}
}

// authorizePlatform follows the link on a platform's page and authorizes the platform for one of 200 accounts. It then declines a second
// request after a sign-in.
func (p tab) authorizePlatform(s *servertest.Server, site, appid string, link func() string) {
	t := p.t
	t.Helper()
	p.open(site)
	p.click("#begin")
	// The page redirects itself, because the browser withholds the SameSite=Strict cookie at first.
	p.click(`a.button.primary[href*="/console/agree?ref="]`)
	p.await(`location.pathname === '/console/agree' && !!document.getElementById('part')`)
	p.waitMessage("agree.more")
	p.click(`input[name="set"][value="18"]`)
	p.write("#part", "tea 12")
	p.click(`button[value="find"]`)
	p.await(`document.querySelectorAll('input[name="appid"]').length === 10`)
	p.click(fmt.Sprintf(`input[name="appid"][value=%q]`, appid))
	p.await(`!document.querySelector('input[name="set"][value="18"]').checked`)
	p.click(`button[value="approve"]`)
	p.waitText("came back with \"queryauthcode")
	location := browsertest.Run(t, p.ctx, chromedp.Evaluate[string](`location.origin + location.search`))
	assert.True(t, strings.HasPrefix(location, site+"?state=7&auth_code="), "redirect to %s, want the platform with a code", location)
	log := s.Admin("GET", "/changes?kind=grant", "").Body
	assert.True(t, strings.Contains(log, `"actor":"person:alice"`) && strings.Contains(log, appid), "audit log = %s, want the actors", log)

	// A second request signs in first and is declined.
	second := p
	second.clicks = new(int)
	require.NoError(t, assert.ErrorOf(chromedp.Call(p.ctx, network.ClearBrowserCookies, cdp.Empty{})))
	second.open(link())
	second.click(`a.button.primary`)
	second.await(`location.pathname === '/console/login' && !!document.getElementById('name')`)
	second.write("#name", "alice")
	second.write("#password", password)
	second.click("main button.primary")
	second.click(`button[value="refuse"]`)
	second.waitMessage("agree.refused")
}
