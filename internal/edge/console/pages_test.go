package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/internal/edge/console"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/pagetest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// hostileText becomes an element and runs a script on a page that does not escape it.
const hostileText = `'"></textarea><img class=pwned src=x onerror=pwned=1>`

// pageCase is a page to inspect: its path, or the form that it answers.
type pageCase struct {
	path string
	form string // fields as a query; "" = GET
	// showsHostile reports that the page shows hostileText.
	showsHostile   bool
	withoutScripts bool // the scripts would leave the page
	runsAxe        bool // axe-core checks it, though it is not the first of its template
}

// startWithHostileText starts a server with data for every page, in which every text that a caller can set is hostileText.
func startWithHostileText(t *testing.T) (s *servertest.Server, fill *strings.Replacer) {
	t.Helper()
	quote := func(text string) string {
		b := require.Value(json.Marshal(text))(t)
		return string(b)
	}
	x, body := url.PathEscape(hostileText), quote(hostileText)
	s = servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }, Seed: `
accounts:
  - {appid: shop, kind: mini_program, name: ` + body + `, secret: the-secret-of-shop, certified: true, versions: [release],
     members: {` + body + `: admin}}
  - {appid: press, kind: service_account, secret: the-secret-of-press, certified: true, features: [marketcode],
     marketcode_key: 0123456789abcdef, linked: [shop]}
rules:
  - {owner: shop, prefix: "https://shop.example/", path: ` + quote("pages/"+hostileText) + `, published: true}
  - {owner: shop, prefix: "https://gone.example/", path: pages/a, published: true}
components:
  - {appid: plat, secret: the-secret-of-plat, message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE, redirect_hosts: [plat.example]}
settings: {verification: trust, rule_rate_limit: null}
`})
	values := s.RunStoryFile("testdata/strangers.txt", "TEXT", body[1:len(body)-1], "PATH", x, "PASSWORD", password)
	for !strings.Contains(s.Admin("GET", "/deliveries", "").Body, `"attempts":1`) && t.Context().Err() == nil {
		// the first delivery attempt of the webhook fails, so that the health page lists it
	}
	query := "?" + url.Values{"component_appid": {"plat"}, "redirect_uri": {"https://plat.example/"},
		"pre_auth_code": {values["agreed"]}}.Encode()
	return s, strings.NewReplacer("CHART", values["chart"], "ASKED", url.QueryEscape(query), "RID", values["rid"], "BATCH", values["batch"],
		"SCAN", values["scan"], "PACKAGE", values["package"], "CASE", values["case"],
		"TEXT", url.QueryEscape(values["code"]), "STRANGER", url.QueryEscape(hostileText))
}

// openPages are the pages of a server without sign-in, guardedPages those of a server with sign-in, in their order.
var openPages, guardedPages = readPages("testdata/pages.txt"), readPages("testdata/guarded_pages.txt")

func readPages(name string) (list []pageCase) {
	text, err := os.ReadFile(name)
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(fields) > 1 {
			p := pageCase{path: fields[1], form: strings.ReplaceAll(strings.Join(fields[2:], ""), `\n`, "\n")}
			p.showsHostile, p.withoutScripts, p.runsAxe = strings.Contains(fields[0], "tells"), strings.Contains(fields[0], "still"),
				strings.Contains(fields[0], "judged")
			list = append(list, p)
		}
	}
	return list
}

// nonPageRoutes are the routes that serve no page: files, a stream and redirects.
var nonPageRoutes = []string{"GET /console/{$}", "GET /console/calls/live", "GET /console/rules/file", "GET /console/rules/export",
	"GET /console/codes/{batch}/list.csv", "GET /console/statistics/{table}", "GET /console/operate/bulk/{file}",
	"GET /console/login/provider", "GET /console/switch", "GET /console/account-names",
	"GET /console/cases/{case}/{sheet}"}

// TestPages_InChromium opens every page in both languages, narrow and wide, light and dark. A page must not violate its policy, be wider
// than the window, have a serious finding of axe-core, or render a hostile text as an element; a new route must be listed in testdata or in
// nonPageRoutes. In make test the browser opens one page of each template, with a hostile text where the template shows one, and axe-core
// checks each sixth of them; of the others only the HTML is read.
func TestPages_InChromium(t *testing.T) {
	axe := require.Value(os.ReadFile("../landing/testdata/axe/axe.min.js"))(t)
	openServer, fill := startWithHostileText(t)
	guarded := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop, Config: func(c *server.Config) {
		c.OIDC = server.OIDC{Issuer: "https://login.example", ClientID: "console", ClientSecret: clientSecret, RolesClaim: "roles"}
	}})
	guarded.RegisterSecret(clientSecret)
	createPerson(guarded, "alice", adminroute.Viewer)
	otherBrowser := newVisitor(t, guarded)
	otherBrowser.send("POST", "/console/login", "application/x-www-form-urlencoded",
		strings.NewReader(url.Values{"name": {"alice"}, "password": {password}}.Encode()), "User-Agent: "+hostileText)
	ctx := browsertest.Start(t, "")
	e := &inspector{ctx: ctx, axe: string(axe), screenshotDir: os.Getenv("PAGES_DIR"), seen: map[string]bool{},
		texts: readMessages(t, "en"), routes: http.NewServeMux()}
	for _, pattern := range console.Routes() {
		e.routes.Handle(pattern, http.NotFoundHandler())
	}
	i := 0
	inspectAll := func(s *servertest.Server, pages []pageCase, v *visitor) {
		for _, p := range pages {
			p.path, p.form = fill.Replace(p.path), strings.ReplaceAll(fill.Replace(p.form), "PASSWORD", url.QueryEscape(password))
			if i++; v != nil && !p.runsAxe && !testscope.IsComplete() && e.readHTML(v, p) {
				continue
			}
			for j, c := range []scene{{"en", "light", 320}, {"zh-CN", "dark", 1280}, {"en", "dark", 1280}, {"zh-CN", "light", 320}} {
				// A complete run inspects each page in two of four scenes, otherwise in one.
				if step := testscope.Select(2, 4); (i+j)%step != 0 && (step == 4 || p.path != "/console/calls" && p.path != "/") {
					continue
				}
				e.inspect(t, s.AdminURL, p, c)
			}
		}
	}
	inspectAll(openServer, openPages, newVisitor(t, openServer))
	inspectAll(guarded, guardedPages, nil)
	names, err := filepath.Glob("templates/*.html")
	require.True(t, err == nil && len(names) >= 30, "%v %v", names, err)
	for _, name := range names {
		name = strings.TrimSuffix(filepath.Base(name), ".html")
		assert.True(t, name == "layout" || e.seen[name], "no page of the template %s was inspected", name)
	}
	for _, pattern := range console.Routes() {
		assert.True(t, !strings.HasPrefix(pattern, "GET ") || e.seen[pattern] != slices.Contains(nonPageRoutes, pattern),
			"%s: add it either to testdata/pages.txt or to nonPageRoutes", pattern)
	}
}

// scene is a language, a colour scheme and a window width.
type scene struct {
	language, scheme string
	width            int64
}

// inspector opens pages in the browser and records the templates and routes that it has seen.
type inspector struct {
	ctx           context.Context
	axe           string
	screenshotDir string // "" = no screenshots
	seen          map[string]bool
	texts         map[string]string
	routes        *http.ServeMux
	// templates counts the templates with an opened page.
	templates int
}

// textKey matches an element whose text may be a key of the catalog.
var textKey = regexp.MustCompile(`<(\w+)[^>]*>\s*([a-z_]+(?:\.[a-z_]+)+)\s*<`)

// open opens a page in the browser.
func (e *inspector) open(t *testing.T, base string, p pageCase) {
	t.Helper()
	if p.form == "" {
		require.NoError(t, chromedp.Do(e.ctx, chromedp.Navigate(base+p.path)))
		return
	}
	// A form must be sent from a page of this server.
	origin := browsertest.Run(t, e.ctx, chromedp.Evaluate[string](`location.origin`))
	if origin != base {
		require.NoError(t, chromedp.Do(e.ctx, chromedp.Navigate(base+"/console/login")))
	}
	form := require.Value(url.ParseQuery(p.form))(t)
	fields := require.Value(json.Marshal(form))(t)
	browsertest.Run(t, e.ctx, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`(() => {
		window.before = true;
		const form = document.createElement("form");
		form.method = "post"; form.action = %q;
		for (const [name, values] of Object.entries(%s)) for (const value of values) {
			const field = document.createElement("textarea");
			field.name = name; field.value = value; form.append(field);
		}
		document.body.append(form); form.submit();
	})()`, p.path, fields)))
	browsertest.Await(t, e.ctx, `!window.before && document.readyState === "complete"`)
}

// readHTML requests a page without the browser and reports whether a page of its template was already inspected.
func (e *inspector) readHTML(v *visitor, p pageCase) bool {
	v.t.Helper()
	answer := v.get(p.path)
	if p.form != "" {
		answer = v.send("POST", p.path, "application/x-www-form-urlencoded", strings.NewReader(p.form))
	} else {
		e.recordRoute(p)
	}
	if answer.Status/100 == 3 {
		answer = v.get(answer.Header.Get("Location"))
	}
	for _, word := range textKey.FindAllStringSubmatch(answer.Body, -1) {
		_, isKey := e.texts[word[2]]
		assert.True(v.t, !isKey || word[1] == "code", "%s %s shows the key %s instead of its text", p.path, p.form, word[2])
	}
	assert.True(v.t, !strings.Contains(answer.Body, "<img class=pwned"), "%s %s renders a hostile text as HTML", p.path, p.form)
	_, name, _ := strings.Cut(answer.Body, `data-page="`)
	name, _, _ = strings.Cut(name, `"`)
	withText := name + " with a stranger's text"
	inspected := e.seen[withText] || e.seen[name] && !p.showsHostile
	e.seen[withText] = e.seen[withText] || p.showsHostile
	return inspected
}

// recordRoute records the route of a page.
func (e *inspector) recordRoute(p pageCase) {
	if r, err := http.NewRequest("GET", p.path, nil); err == nil && p.form == "" {
		_, pattern := e.routes.Handler(r)
		e.seen[pattern] = true
	}
}

// recordPage records the template of the open page, verifies that a hostile text is shown as text, and reports whether the page is the
// first of its template.
func (e *inspector) recordPage(t *testing.T, p pageCase) (first bool) {
	t.Helper()
	seen := browsertest.Run(t, e.ctx, chromedp.Evaluate[struct {
		Page, Text string
		Elements   int
		Ran        bool
	}](`({page: document.getElementById("main")?.dataset.page ?? "", elements: document.querySelectorAll(".pwned").length,
		ran: "pwned" in window, text: document.body.innerText + [...document.querySelectorAll("input, textarea")].map(e => e.value).join(" ") +
			[...document.querySelectorAll("details, .part")].map(e => e.textContent).join(" ")})`))
	first = !e.seen[seen.Page]
	e.seen[seen.Page] = true
	e.recordRoute(p)
	assert.True(t, !leakedValue.MatchString(seen.Text), "the page shows the internal value %q", leakedValue.FindString(seen.Text))
	assert.True(t, seen.Elements <= 0 && !seen.Ran,
		"%d elements of a hostile text, its script ran = %v; want none", seen.Elements, seen.Ran)
	assert.Equal(t, strings.Contains(seen.Text, "class=pwned"), p.showsHostile, "the page shows a hostile text")
	return first
}

func (e *inspector) inspect(t *testing.T, base string, p pageCase, s scene) {
	path := regexp.MustCompile(`[^a-z]+`).ReplaceAllString(p.path[:min(len(p.path), 60)], "-")
	name := fmt.Sprintf("%s-%s-%d-%s", strings.Trim(path, "-"), s.language, s.width, s.scheme)
	t.Run(name, func(t *testing.T) {
		check := func(err error) {
			t.Helper()
			require.NoError(t, err)
		}
		_, err := chromedp.Call(e.ctx, network.SetExtraHTTPHeaders,
			network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": s.language}})
		check(err)
		_, err = chromedp.Call(e.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s.scheme}}})
		check(err)
		browsertest.Run(t, e.ctx, chromedp.EmulateViewport(s.width, 900))
		_, err = chromedp.Call(e.ctx, cdppage.SetBypassCSP, cdppage.SetBypassCSPParams{Enabled: false})
		check(err)
		const endMark = "end of the page's messages"
		blocked := []*network.BlockPattern{}
		if p.withoutScripts {
			blocked = append(blocked, &network.BlockPattern{URLPattern: "*://*:*/console/*.js", Block: true})
		}
		_, err = chromedp.Call(e.ctx, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: p.withoutScripts})
		check(err)
		_, err = chromedp.Call(e.ctx, network.SetBlockedURLs, network.SetBlockedURLsParams{URLPatterns: blocked})
		check(err)
		messages := chromedp.Console(e.ctx)
		e.open(t, base, p)
		assert.Equal(t, browsertest.Run(t, e.ctx, chromedp.Evaluate[string](`document.documentElement.lang`)), s.language,
			"language of the page")
		const wider = `document.documentElement.scrollWidth - document.documentElement.clientWidth`
		excess := browsertest.Run(t, e.ctx, chromedp.Evaluate[int](wider))
		assert.True(t, excess <= 0, "the page is %d pixels wider than the window, want 0", excess)
		bytes := browsertest.Loaded(t, e.ctx)
		t.Logf("%d bytes with all that the page loaded, want at most %d", bytes, pagetest.Budget)
		if bytes > pagetest.Budget || bytes < 15<<10 && !p.withoutScripts { // less: the measurement failed
			t.Fail()
		}
		const unmarked = `[...document.querySelectorAll("summary")].filter(s => getComputedStyle(s, "::before").content === "none").length`
		n := browsertest.Run(t, e.ctx, chromedp.Evaluate[int](unmarked))
		assert.True(t, n <= 0, "%d <details> have no visible marker, want 0", n)
		first := e.recordPage(t, p)
		if e.screenshotDir != "" {
			check(os.WriteFile(filepath.Join(e.screenshotDir, "console-"+name+".png"),
				browsertest.Run(t, e.ctx, chromedp.FullScreenshot(100)), 0o644))
		}
		browsertest.Run(t, e.ctx, chromedp.Evaluate[chromedp.Void](`console.debug("`+endMark+`")`))
		for m, err := range messages {
			check(err)
			if m.Text == endMark {
				break
			}
			// Allowed: hints of the browser about forms, and the status of error pages.
			text := m.String()
			assert.True(t, strings.HasPrefix(text, "debug: [DOM] ") || strings.Contains(text, "the server responded with a status of 4") ||
				p.withoutScripts && strings.Contains(text, "ERR_BLOCKED_BY_CLIENT"), "console: %s", text)
		}
		if first {
			e.templates++
		}
		if first && e.templates%6 == 0 || p.runsAxe || testscope.IsComplete() {
			e.checkAxe(t, check)
		}
		check(assert.ErrorOf(chromedp.Call(e.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})))
		const buttons = `[...document.querySelectorAll("button:not(.sorts), .button")].filter(b => b.checkVisibility()).length`
		assert.Equal(t, browsertest.Run(t, e.ctx, chromedp.Evaluate[int](buttons)), 0, "buttons of the printed page")
	})
}

// checkAxe runs axe-core on the open page, in an isolated world, because the policy of the page blocks the script.
func (e *inspector) checkAxe(t *testing.T, check func(error)) {
	t.Helper()
	tree, err := chromedp.Call(e.ctx, cdppage.GetFrameTree, cdp.Empty{})
	check(err)
	world, err := chromedp.Call(e.ctx, cdppage.CreateIsolatedWorld, cdppage.CreateIsolatedWorldParams{FrameID: tree.FrameTree.Frame.ID})
	check(err)
	evaluate := func(text string) *runtime.RemoteObject {
		t.Helper()
		r, err := chromedp.Call(e.ctx, runtime.Evaluate, runtime.EvaluateParams{Expression: text, ContextID: world.ExecutionContextID,
			AwaitPromise: new(true), ReturnByValue: new(true)})
		check(err)
		require.True(t, r.ExceptionDetails == nil, "%v", r.ExceptionDetails)
		return r.Result
	}
	evaluate(e.axe + `; document.querySelectorAll("details").forEach(d => d.open = true);
		document.querySelectorAll(".part").forEach(p => p.style.display = "block"); 0`)
	var text string
	check(json.Unmarshal(evaluate(`axe.run(document).then(r => JSON.stringify({
		violations: r.violations.map(v => v.id + ": " + v.help + ": " +
			v.nodes.slice(0, 3).map(n => n.html + " " + n.failureSummary).join("; ")),
		passes: r.passes.length}))`).Value, &text))
	var result struct {
		Violations []string
		Passes     int
	}
	check(json.Unmarshal([]byte(text), &result))
	assert.True(t, result.Passes >= 10, "axe-core passed %d rules, want at least 10", result.Passes)
	for _, v := range result.Violations {
		t.Errorf("axe: %s", v)
	}
}
