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

// screen is a width in pixels and a language.
type screen struct {
	language string
	width    int64
}

// screens returns a phone, a tablet and a desktop in both languages; the given one alone unless the run is a whole one.
func screens(language string, width int64) []screen {
	return testscope.Choose([]screen{{"en", 390}, {"zh-CN", 1600}, {"en", 1024}, {"zh-CN", 390}, {"en", 1600}, {"zh-CN", 1024}},
		[]screen{{language, width}})
}

// counted checks the number of clicks so far. Below 960 pixels each way by the navigation takes one more.
func (p tab) counted(s screen, narrow, wide int) {
	p.t.Helper()
	want := wide
	if s.width < 960 {
		want = narrow
	}
	p.t.Logf("%s, %d pixels wide: %d clicks", s.language, s.width, *p.clicked)
	assert.True(p.t, *p.clicked == want, "%d clicks, and they were %d", *p.clicked, want)
}

// The manager of a brand, who may see the brand's account alone: she orders codes, says what they open, hands labels to a printer, sees
// them scanned, finds the alarm of one that was copied, and dismisses it. One server and one browser for all: each screen is another
// brand's.
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
	key, window := scanKey(t, s), browsertest.Start(t, "")
	require.NoError(t, assert.ErrorOf(chromedp.Call(window, browser.SetDownloadBehavior,
		browser.SetDownloadBehaviorParams{Behavior: "allow", DownloadPath: t.TempDir()})))
	for i, c := range screens {
		t.Run(fmt.Sprint(c.language, c.width), func(t *testing.T) {
			name, brand := fmt.Sprintf("mia%d", i), fmt.Sprintf("brand%d", i)
			person(s, name, adminroute.Marketer, brand)
			p := sitDown(t, window, c.language, c.width)
			p.signIn(s, name)
			p.to("/console/codes")
			p.click(`.tabs a[href^="/console/orders"]`)
			p.write("#isv_application_id", "spring")
			p.click(`button[value="ask"]`)
			p.reads("done.order.generated")
			p.await(`document.getElementById('a-to')?.checkVisibility()`)
			for selector, text := range map[string]string{"#a-from": "0", "#a-to": "4999", "#target": "shop", "#path": "pages/code/code",
				"#activity": "tour", "#brand": "b", "#titled": "t", "#product": "4006381333931"} {
				p.write(selector, text)
			}
			p.click(`input[value="activate"] ~ p button`)
			p.click("form.notice button.danger")
			p.reads("done.codes")
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
			p.until(func() bool { // the browser saves the file while the page stays
				return strings.Contains(s.Admin("GET", "/packages?account="+brand, "").Body, `"download_count":1`)
			})
			p.to("/console/packages")
			p.await(`[...document.querySelectorAll('td.num')].some(e => e.textContent === '1')`)
			scannedByMany(t, s, brand, key)
			p.to("/console/home")
			p.shows("60")
			p.to("/console/alarms")
			p.click(`li a[href^="/console/alarms/"]`)
			p.await(fmt.Sprintf(`!!document.querySelector('dialog.drawer')?.innerText.includes(%q)`, p.say["alarm.buyer.copied"]))
			p.write(`dialog.drawer input[name="note"]`, "a fair")
			p.click(`dialog.drawer button[value="dismiss"]`)
			p.await(`!document.querySelector('button[value="dismiss"]')`)
			p.to("/console/alarms")
			p.reads("stats.alarms.none")
			p.counted(c, 22, 17)
		})
	}
}

// scannedByMany scans a code of an account's order by 60 people in 60 networks, as only a copy is.
func scannedByMany(t *testing.T, s *servertest.Server, account, key string) {
	t.Helper()
	list := servertest.Decode[struct{ Batches []client.Batch }](t, s.Admin("GET", "/batches?account="+account, ""))
	code := s.CodeText(list.Batches[0].ID, 7)
	for i := range 60 {
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u%d","ip":"10.%d.0.1"}`, code, i, i),
			"Authorization: Bearer "+key)
	}
	s.Admin("GET", "/statistics?wait=true", "")
}

// A viewer of one account reads the numbers of the week, the statistics with the table of the chart, unmatched scans, scans and an alarm.
// No page has a button that changes data, and the server refuses a form of the session.
func TestStory_Viewer(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: strings.Replace(shop, "rules:\n", `rules:
  - {owner: press, prefix: "http://weixin.qq.com/q/press", appid: shop, path: pages/press, published: true}
`, 1), Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch, key, window := applied(t, s), scanKey(t, s), browsertest.Start(t, "")
	s.Do("POST", "/scan/v1/resolve", `{"text":"http://weixin.qq.com/q/old/7"}`, "Authorization: Bearer "+key)
	scannedByMany(t, s, "press", key)
	person(s, "vera", "viewer", "press")
	for _, c := range screens("en", 390) {
		t.Run(fmt.Sprint(c.language, c.width), func(t *testing.T) {
			p := sitDown(t, window, c.language, c.width)
			reads := func(texts ...string) {
				t.Helper()
				for _, text := range texts {
					p.shows(text)
				}
				p.await(`![...document.querySelectorAll('main form[method="post"] button')].some(b => b.checkVisibility())`)
			}
			p.signIn(s, "vera")
			reads(p.say["home.seven"], "60", "weixin.qq.com/q", p.say["home.alarms"], fmt.Sprint("press ", batch, ":7"))
			p.click("main details:has(table) > summary")
			reads("2026-01-15")
			p.to("/console/statistics")
			reads("2026-01-15", "60", "weixin.qq.com/q")
			p.to("/console/statistics/scans")
			reads(fmt.Sprint(batch, ":7"))
			p.to("/console/alarms")
			p.click(`li a[href^="/console/alarms/"]`)
			p.await(fmt.Sprintf(`!!document.querySelector('dialog.drawer')?.innerText.includes(%q)`, p.say["alarm.known.users"]))
			reads()
			p.await(`(fetch('/console/alarms', {method: 'POST', body: new URLSearchParams({did: 'dismiss', id: 1, note: 'x'})})
				.then(r => { window.refusal = r.status }), true)`)
			p.await(`window.refusal === 403`)
			p.counted(c, 9, 6)
		})
	}
}

// An operator sees on the home page that the deliveries of a webhook fail, finds the failing check, its cause, the failed calls and who
// disabled another webhook, sends the delivery again once the receiver works, enables the other webhook, and the health page is good.
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
		s.Hide(made.Secret)
	}
	person(s, "olga", adminroute.Operator)
	window := browsertest.Start(t, "")
	for _, c := range screens("zh-CN", 390) {
		t.Run(fmt.Sprint(c.language, c.width), func(t *testing.T) {
			p := sitDown(t, window, c.language, c.width)
			delivery := func(state string) {
				t.Helper()
				p.until(func() bool { return strings.Contains(s.Admin("GET", "/deliveries?limit=1", "").Body, state) })
			}
			status.Store(http.StatusServiceUnavailable)
			s.Admin("POST", "/webhooks/1/test", "")
			s.Admin("PUT", "/webhooks/2", hook)
			s.Rule("shop", "publish", `{"prefix":"https://none.example/"}`)
			delivery(`"status":503`)

			p.signIn(s, "olga")
			p.shows(receiver.URL)
			p.shows("40097 /cgi-bin/wxopen/qrcodejumppublish")
			p.to("/console/health")
			p.reads("health.bad")
			p.click(`td a[href*="webhook=1&state=pending"]`)
			p.await(`location.pathname === '/console/operate/webhooks'`)
			p.shows("503")
			p.to("/console/calls")
			p.click(`main a[href*="view=errors"]`)
			p.shows("40097")
			p.to("/console/operate/audit")
			p.await(fmt.Sprintf(`/admin\s+webhook\s+2\s+%s/.test(document.querySelector('tbody tr').innerText)`, p.say["did.put"]))
			status.Store(http.StatusNoContent)
			p.to("/console/operate/webhooks")
			p.click(`button[value="on"]`)
			p.reads("done.operate")
			p.click(`button[value="again"]`)
			delivery(`"delivered"`)
			p.to("/console/health")
			p.await(fmt.Sprintf(`document.querySelectorAll('.tag.good').length > 3 &&
				![...document.querySelectorAll('tr:has(.tag.bad, .tag.warn)')].some(r => !r.innerText.includes(%q))`, p.say["health.disk"]))
			p.counted(c, 17, 12)
		})
	}
}

// A provider of 200 Mini Programs: she finds one, compares those that were scanned, publishes 30 rules together, and from a platform's
// own page, at another site, lets that platform act for one of them.
func TestStory_ServiceProvider(t *testing.T) {
	s, site, link := asking(t)
	key, window := scanKey(t, s), browsertest.Start(t, "")
	for i, c := range screens("en", 1600) {
		t.Run(fmt.Sprint(c.language, c.width), func(t *testing.T) {
			for n := range 30 {
				s.Admin("POST", fmt.Sprintf("/accounts/wx%03d/rules", n),
					fmt.Sprintf(`{"prefix":"https://tea%d.example/%d/","path":"pages/tea/tea"}`, n, i))
			}
			link()
			p := sitDown(t, window, c.language, c.width)
			p.signIn(s, "alice")
			if field := "#find"; p.shown(field) {
				p.write(field, "Tea 123\r")
			} else {
				p.click(".find-link")
				p.write("#q", "Tea 123\r")
			}
			p.click(`td a[href="/console/accounts/wx123"]`)
			p.await(`location.pathname === '/console/accounts/wx123'`)

			p.to("/console/rules")
			p.choose("#state", "draft")
			p.await(`document.querySelectorAll('input[name="selected"]').length === 30`)
			p.click(".every input")
			p.click(`button[value="publish"]`)
			p.click(`input[name="sure"] ~ p button`)
			p.shows(fmt.Sprintf(p.say["selected.done"], 30, 30))
			p.counted(c, 8, 6) // at most 9
			for n, times := range []int{3, 5} {
				for range times {
					s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":"https://tea%d.example/%d/7"}`, n+20, i),
						"Authorization: Bearer "+key)
				}
			}
			s.Admin("GET", "/statistics?wait=true", "")

			p.to("/console/statistics")
			p.await(`document.querySelector('.boxes section') && !document.querySelector('.later')`)
			p.choose("#by", "")
			p.choose("#group", "owner")
			p.shows("Tea 021")
			p.shows("Tea 020")
			p.agrees(s, site.URL, fmt.Sprintf("wx12%d", i), link)
			p.counted(c, 16, 13)
		})
	}
}

// agrees decides on the page to which a platform's own page leads, for one of 200 accounts.
func (p tab) agrees(s *servertest.Server, site, appid string, link func() string) {
	t := p.t
	t.Helper()
	p.open(site)
	p.click("#begin")
	p.click(`a.button.primary[href*="/console/agree?ref="]`) // the strict cookie stays behind: the page goes on by itself
	p.await(`location.pathname === '/console/agree' && !!document.getElementById('part')`)
	p.reads("agree.more")
	p.click(`input[name="set"][value="18"]`)
	p.write("#part", "tea 12")
	p.click(`button[value="find"]`)
	p.await(`document.querySelectorAll('input[name="appid"]').length === 10`)
	p.click(fmt.Sprintf(`input[name="appid"][value=%q]`, appid))
	p.await(`!document.querySelector('input[name="set"][value="18"]').checked`)
	p.click(`button[value="approve"]`)
	p.shows("came back with \"queryauthcode")
	at := browsertest.Run(t, p.ctx, chromedp.Evaluate[string](`location.origin + location.search`))
	assert.True(t, strings.HasPrefix(at, site+"?state=7&auth_code="), "came back to %s", at)
	log := s.Admin("GET", "/changes?kind=grant", "").Body
	assert.True(t, strings.Contains(log, `"actor":"person:alice"`) && strings.Contains(log, appid), "the audit log says %s", log)

	// Whoever is not signed in signs in first, and may refuse.
	other := p
	other.clicked = new(int)
	require.NoError(t, assert.ErrorOf(chromedp.Call(p.ctx, network.ClearBrowserCookies, cdp.Empty{})))
	other.open(link())
	other.click(`a.button.primary`)
	other.await(`location.pathname === '/console/login' && !!document.getElementById('name')`)
	other.write("#name", "alice")
	other.write("#password", password)
	other.click("main button.primary")
	other.click(`button[value="refuse"]`)
	other.reads("agree.refused")
}
