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

// stranger is a text that would be an element, and run, where a page took it for HTML.
const stranger = `'"></textarea><img class=pwned src=x onerror=pwned=1>`

// looked is a page that is looked at: by its address, or as the answer to a form.
type looked struct {
	path string
	form string // fields as a query; "" = none is sent
	// tells says that the page shows what a stranger sent.
	tells  bool
	still  bool // without its scripts, which would lead on
	judged bool // axe-core looks at it, though not the first page of its template
}

// brought is a server on which strangers left their text wherever they can, with something on every page.
func brought(t *testing.T) (s *servertest.Server, fill *strings.Replacer) {
	t.Helper()
	quoted := func(text string) string {
		b, err := json.Marshal(text)
		require.NoError(t, err)
		return string(b)
	}
	x, body := url.PathEscape(stranger), quoted(stranger)
	s = servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }, Seed: `
accounts:
  - {appid: shop, kind: mini_program, name: ` + body + `, secret: the-secret-of-shop, certified: true, versions: [release],
     members: {` + body + `: admin}}
  - {appid: press, kind: service_account, secret: the-secret-of-press, certified: true, features: [marketcode],
     marketcode_key: 0123456789abcdef, linked: [shop]}
rules:
  - {owner: shop, prefix: "https://shop.example/", path: ` + quoted("pages/"+stranger) + `, published: true}
  - {owner: shop, prefix: "https://gone.example/", path: pages/a, published: true}
components:
  - {appid: plat, secret: the-secret-of-plat, message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE, redirect_hosts: [plat.example]}
settings: {verification: trust, rule_rate_limit: null}
`})
	got := s.Plant("testdata/strangers.txt", "TEXT", body[1:len(body)-1], "PATH", x, "PASSWORD", password)
	for !strings.Contains(s.Admin("GET", "/deliveries", "").Body, `"attempts":1`) && t.Context().Err() == nil {
		// the first attempt of the webhook's test message fails: the health page shows the webhook
	}
	asked := "?" + url.Values{"component_appid": {"plat"}, "redirect_uri": {"https://plat.example/"},
		"pre_auth_code": {got["agreed"]}}.Encode()
	return s, strings.NewReplacer("CHART", got["chart"], "ASKED", url.QueryEscape(asked), "RID", got["rid"], "BATCH", got["batch"],
		"SCAN", got["scan"], "PACKAGE", got["package"], "CASE", got["case"],
		"TEXT", url.QueryEscape(got["code"]), "STRANGER", url.QueryEscape(stranger))
}

// everyPage are the pages of a server on which people do not sign in, guardedPages those of one on which they do, in their order.
var everyPage, guardedPages = readPages("testdata/pages.txt"), readPages("testdata/guarded_pages.txt")

func readPages(name string) (list []looked) {
	text, err := os.ReadFile(name)
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(fields) > 1 {
			p := looked{path: fields[1], form: strings.ReplaceAll(strings.Join(fields[2:], ""), `\n`, "\n")}
			p.tells, p.still, p.judged = strings.Contains(fields[0], "tells"), strings.Contains(fields[0], "still"),
				strings.Contains(fields[0], "judged")
			list = append(list, p)
		}
	}
	return list
}

// files are the addresses of what is no page: files, a stream, and ways elsewhere.
var files = []string{"GET /console/{$}", "GET /console/calls/live", "GET /console/rules/file", "GET /console/rules/export",
	"GET /console/codes/{batch}/list.csv", "GET /console/statistics/{table}", "GET /console/operate/bulk/{file}",
	"GET /console/login/provider", "GET /console/switch", "GET /console/account-names",
	"GET /console/cases/{case}/{sheet}"}

// Every page is looked at, in both languages, narrow and wide, light and dark: nothing breaks the policy, nothing is wider than the window,
// axe-core finds nothing serious, and no text that a stranger left is an element. A page that is new is looked at, or it is said that it
// is none. In make test the browser opens one page of each template, with a stranger's text where one shows it, and axe-core looks at
// each third of them; of the others the HTML alone is read.
func TestPages_InChromium(t *testing.T) {
	axe, err := os.ReadFile("../landing/testdata/axe/axe.min.js")
	require.NoError(t, err)
	open, fill := brought(t)
	guarded := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop, Config: func(c *server.Config) {
		c.OIDC = server.OIDC{Issuer: "https://login.example", ClientID: "console", ClientSecret: clientSecret, RolesClaim: "roles"}
	}})
	guarded.Hide(clientSecret)
	person(guarded, "alice", adminroute.Viewer)
	elsewhere := request(t, guarded)
	elsewhere.send("POST", "/console/login", "application/x-www-form-urlencoded",
		strings.NewReader(url.Values{"name": {"alice"}, "password": {password}}.Encode()), "User-Agent: "+stranger)
	ctx := browsertest.Start(t, "")
	e := &eyes{ctx: ctx, axe: string(axe), folder: os.Getenv("PAGES_DIR"), seen: map[string]bool{}, texts: texts(t, "en"),
		routes: http.NewServeMux()}
	for _, pattern := range console.Routes() {
		e.routes.Handle(pattern, http.NotFoundHandler())
	}
	i := 0
	walk := func(s *servertest.Server, pages []looked, v *visitor) {
		for _, p := range pages {
			p.path, p.form = fill.Replace(p.path), strings.ReplaceAll(fill.Replace(p.form), "PASSWORD", url.QueryEscape(password))
			if i++; v != nil && !p.judged && !testscope.Run() && e.knows(v, p) {
				continue
			}
			for j, c := range []scene{{"en", "light", 320}, {"zh-CN", "dark", 1280}, {"en", "dark", 1280}, {"zh-CN", "light", 320}} {
				// Half of them, both languages or both widths; outside of whole runs each fourth page alike.
				if of := testscope.Choose(2, 4); (i+j)%of != 0 && p.path != "/console/calls" && p.path != "/" {
					continue
				}
				e.look(t, s.AdminURL, p, c)
			}
		}
	}
	walk(open, everyPage, request(t, open))
	walk(guarded, guardedPages, nil)
	names, err := filepath.Glob("templates/*.html")
	require.True(t, err == nil && len(names) >= 30, "%v %v", names, err)
	for _, name := range names {
		name = strings.TrimSuffix(filepath.Base(name), ".html")
		assert.True(t, name == "layout" || e.seen[name], "no page of the template %s was looked at", name)
	}
	for _, pattern := range console.Routes() {
		assert.True(t, !strings.HasPrefix(pattern, "GET ") || e.seen[pattern] != slices.Contains(files, pattern),
			"%s: look at it, or say that it is no page; not both", pattern)
	}
}

// scene is how a page is looked at.
type scene struct {
	language, scheme string
	width            int64
}

// eyes look at pages, and note which they saw.
type eyes struct {
	ctx    context.Context
	axe    string
	folder string // for pictures; "" = none are made
	seen   map[string]bool
	texts  map[string]string
	routes *http.ServeMux
	// templates counts the templates of which a page was opened.
	templates int
}

// textKey matches an element whose text may be the key of a text.
var textKey = regexp.MustCompile(`<(\w+)[^>]*>\s*([a-z_]+(?:\.[a-z_]+)+)\s*<`)

// open brings a page into the browser.
func (e *eyes) open(t *testing.T, base string, p looked) {
	t.Helper()
	if p.form == "" {
		require.NoError(t, chromedp.Do(e.ctx, chromedp.Navigate(base+p.path)))
		return
	}
	// As somebody sends it: from a page of this server.
	at := browsertest.Run(t, e.ctx, chromedp.Evaluate[string](`location.origin`))
	if at != base {
		require.NoError(t, chromedp.Do(e.ctx, chromedp.Navigate(base+"/console/login")))
	}
	form, err := url.ParseQuery(p.form)
	require.NoError(t, err)
	fields, err := json.Marshal(form)
	require.NoError(t, err)
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

// knows asks for a page without the browser and reports whether a page of its template was looked at.
func (e *eyes) knows(v *visitor, p looked) bool {
	v.t.Helper()
	answer := v.get(p.path)
	if p.form != "" {
		answer = v.send("POST", p.path, "application/x-www-form-urlencoded", strings.NewReader(p.form))
	} else {
		e.visited(p)
	}
	if answer.Status/100 == 3 {
		answer = v.get(answer.Header.Get("Location"))
	}
	for _, word := range textKey.FindAllStringSubmatch(answer.Body, -1) {
		_, is := e.texts[word[2]]
		assert.True(v.t, !is || word[1] == "code", "%s %s shows the key %s instead of its text", p.path, p.form, word[2])
	}
	assert.True(v.t, !strings.Contains(answer.Body, "<img class=pwned"), "%s %s takes a stranger's text for HTML", p.path, p.form)
	_, name, _ := strings.Cut(answer.Body, `data-page="`)
	name, _, _ = strings.Cut(name, `"`)
	told := name + " with a stranger's text"
	known := e.seen[told] || e.seen[name] && !p.tells
	e.seen[told] = e.seen[told] || p.tells
	return known
}

// visited notes which route a page is of.
func (e *eyes) visited(p looked) {
	if r, err := http.NewRequest("GET", p.path, nil); err == nil && p.form == "" {
		_, pattern := e.routes.Handler(r)
		e.seen[pattern] = true
	}
}

// note remembers which page it was, and whether it shows what a stranger sent as the text that it is. It says whether the page is the
// first of its template.
func (e *eyes) note(t *testing.T, p looked) (first bool) {
	t.Helper()
	found := browsertest.Run(t, e.ctx, chromedp.Evaluate[struct {
		Page, Text string
		Elements   int
		Ran        bool
	}](`({page: document.getElementById("main")?.dataset.page ?? "", elements: document.querySelectorAll(".pwned").length,
		ran: "pwned" in window, text: document.body.innerText + [...document.querySelectorAll("input, textarea")].map(e => e.value).join(" ") +
			[...document.querySelectorAll("details, .part")].map(e => e.textContent).join(" ")})`))
	first = !e.seen[found.Page]
	e.seen[found.Page] = true
	e.visited(p)
	assert.True(t, !leak.MatchString(found.Text), "the page shows %q", leak.FindString(found.Text))
	assert.True(t, found.Elements <= 0 && !found.Ran, "%d elements of what a stranger sent, which ran: %v", found.Elements, found.Ran)
	assert.Equal(t, strings.Contains(found.Text, "class=pwned"), p.tells, "the page shows what a stranger sent")
	return first
}

func (e *eyes) look(t *testing.T, base string, p looked, s scene) {
	path := regexp.MustCompile(`[^a-z]+`).ReplaceAllString(p.path[:min(len(p.path), 60)], "-")
	name := fmt.Sprintf("%s-%s-%d-%s", strings.Trim(path, "-"), s.language, s.width, s.scheme)
	t.Run(name, func(t *testing.T) {
		do := func(err error) {
			t.Helper()
			require.NoError(t, err)
		}
		_, err := chromedp.Call(e.ctx, network.SetExtraHTTPHeaders,
			network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": s.language}})
		do(err)
		_, err = chromedp.Call(e.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s.scheme}}})
		do(err)
		browsertest.Run(t, e.ctx, chromedp.EmulateViewport(s.width, 900))
		_, err = chromedp.Call(e.ctx, cdppage.SetBypassCSP, cdppage.SetBypassCSPParams{Enabled: false})
		do(err)
		const theEnd = "the page was looked at"
		blocked := []*network.BlockPattern{}
		if p.still {
			blocked = append(blocked, &network.BlockPattern{URLPattern: "*://*:*/console/*.js", Block: true})
		}
		_, err = chromedp.Call(e.ctx, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: p.still})
		do(err)
		_, err = chromedp.Call(e.ctx, network.SetBlockedURLs, network.SetBlockedURLsParams{URLPatterns: blocked})
		do(err)
		messages := chromedp.Console(e.ctx)
		e.open(t, base, p)
		assert.Equal(t, browsertest.Run(t, e.ctx, chromedp.Evaluate[string](`document.documentElement.lang`)), s.language, "the page is in")
		const wider = `document.documentElement.scrollWidth - document.documentElement.clientWidth`
		over := browsertest.Run(t, e.ctx, chromedp.Evaluate[int](wider))
		assert.True(t, over <= 0, "the page is %d pixels wider than the window", over)
		bytes := browsertest.Loaded(t, e.ctx)
		t.Logf("%d bytes with all that the page loaded, want at most %d", bytes, pagetest.Budget)
		if bytes > pagetest.Budget || bytes < 15<<10 && !p.still { // less: it did not count
			t.Fail()
		}
		const unmarked = `[...document.querySelectorAll("summary")].filter(s => getComputedStyle(s, "::before").content === "none").length`
		n := browsertest.Run(t, e.ctx, chromedp.Evaluate[int](unmarked))
		assert.True(t, n <= 0, "%d <details> have no visible marker", n)
		first := e.note(t, p)
		if e.folder != "" {
			do(os.WriteFile(filepath.Join(e.folder, "console-"+name+".png"),
				browsertest.Run(t, e.ctx, chromedp.FullScreenshot(100)), 0o644))
		}
		browsertest.Run(t, e.ctx, chromedp.Evaluate[chromedp.Void](`console.debug("`+theEnd+`")`))
		for m, err := range messages {
			do(err)
			if m.Text == theEnd {
				break
			}
			// Advice about forms is the browser's own; that a page says what went wrong is its status.
			text := m.String()
			assert.True(t, strings.HasPrefix(text, "debug: [DOM] ") || strings.Contains(text, "the server responded with a status of 4") ||
				p.still && strings.Contains(text, "ERR_BLOCKED_BY_CLIENT"), "console: %s", text)
		}
		if first {
			e.templates++
		}
		if first && e.templates%3 == 0 || p.judged || testscope.Run() {
			e.axeFindsNothing(t, do)
		}
		do(assert.ErrorOf(chromedp.Call(e.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})))
		const buttons = `[...document.querySelectorAll("button:not(.sorts), .button")].filter(b => b.checkVisibility()).length`
		assert.Equal(t, browsertest.Run(t, e.ctx, chromedp.Evaluate[int](buttons)), 0, "buttons of the printed page")
	})
}

// axeFindsNothing lets axe-core look at the page that is open. The policy keeps it out, so it runs in a world of its own.
func (e *eyes) axeFindsNothing(t *testing.T, do func(error)) {
	t.Helper()
	tree, err := chromedp.Call(e.ctx, cdppage.GetFrameTree, cdp.Empty{})
	do(err)
	world, err := chromedp.Call(e.ctx, cdppage.CreateIsolatedWorld, cdppage.CreateIsolatedWorldParams{FrameID: tree.FrameTree.Frame.ID})
	do(err)
	evaluate := func(text string) *runtime.RemoteObject {
		t.Helper()
		r, err := chromedp.Call(e.ctx, runtime.Evaluate, runtime.EvaluateParams{Expression: text, ContextID: world.ExecutionContextID,
			AwaitPromise: new(true), ReturnByValue: new(true)})
		do(err)
		require.True(t, r.ExceptionDetails == nil, "%v", r.ExceptionDetails)
		return r.Result
	}
	evaluate(e.axe + `; document.querySelectorAll("details").forEach(d => d.open = true);
		document.querySelectorAll(".part").forEach(p => p.style.display = "block"); 0`)
	var text string
	do(json.Unmarshal(evaluate(`axe.run(document).then(r => JSON.stringify({
		violations: r.violations.map(v => v.id + ": " + v.help + ": " +
			v.nodes.slice(0, 3).map(n => n.html + " " + n.failureSummary).join("; ")),
		passes: r.passes.length}))`).Value, &text))
	var found struct {
		Violations []string
		Passes     int
	}
	do(json.Unmarshal([]byte(text), &found))
	assert.True(t, found.Passes >= 10, "axe-core passed only %d rules: it did not look", found.Passes)
	for _, v := range found.Violations {
		t.Errorf("axe: %s", v)
	}
}
