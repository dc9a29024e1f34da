package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
)

// A developer leaves the list of calls open: a call appears there by itself, is opened by a click, and its page tells why
// it failed. Then every page is looked at, in both languages, narrow and wide, light and dark: nothing breaks the policy,
// nothing is wider than the window, and axe-core finds nothing serious.
func TestInChromium(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Seed: shop})
	axe, err := os.ReadFile("../gateway/testdata/axe/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumppublish?access_token="+s.Token("shop"),
		`{"prefix":"https://none.example/<script>alert(1)</script>"}`)
	whole, cancel := context.WithTimeout(browsertest.Start(t, ""), 8*time.Minute)
	defer cancel()
	ctx := whole
	if err := chromedp.Do(ctx, chromedp.Navigate(s.AdminURL+"/console/calls")); err != nil {
		t.Fatal(err)
	}
	browsertest.Await(t, ctx, `!!document.getElementById('live') && document.getElementById('live-state').textContent ===
		document.getElementById('live')?.dataset.opened`)
	before := browsertest.Run(t, ctx, chromedp.Evaluate[int](`document.querySelectorAll('#calls tbody tr').length`))
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpadd?access_token="+s.Token("shop"), `{"prefix":"no link <b>at all</b>"}`)
	browsertest.Await(t, ctx, fmt.Sprintf(`document.querySelectorAll('#calls tbody tr').length === %d`, before+1))
	if bold := browsertest.Run(t, ctx, chromedp.Evaluate[int](`document.querySelectorAll('#calls b, #calls script').length`)); bold != 0 {
		t.Error("what a caller sent is HTML in the list")
	}
	browsertest.Await(t, ctx, `(document.querySelector('#calls tbody a').click(), true)`)
	browsertest.Await(t, ctx, `/calls\/[0-9a-f-]{26}$/.test(location.pathname) && !!document.getElementById('curl')`)
	if text := browsertest.Run(t, ctx, chromedp.Evaluate[string](`document.body.innerText`)); !strings.Contains(text, "What was wrong") {
		t.Errorf("the call's page does not say why: %s", text)
	}
	rid := regexp.MustCompile(`/console/calls/([0-9a-f-]{26})`).FindString(visit(t, s).get("/console/calls").Body)
	for range 3 {
		s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/7","user":"ann"}`)
	}
	s.Admin("GET", "/statistics?wait=true", "")
	s.Admin("POST", "/webhooks", `{"url":"https://hooks.example/x","alarms":true}`)
	folder := os.Getenv("PAGES_DIR")
	for i, path := range []string{"/", "/console/calls", "/console/calls?view=errors", rid, "/console/scan?text=https://shop.example/7",
		"/console/rules", "/console/rules?prefix=https://shop.example/",
		"/console/rules/import", "/console/rules/new", "/console/rules/new?owner=shop&prefix=https://shop.example/x/&path=p",
		"/console/rules/edit?owner=shop&prefix=https://shop.example/", "/console/codes", "/console/statistics", "/console/accounts",
		"/console/accounts/shop", "/console/accounts?make=mini_program", "/console/accounts/shop/edit",
		"/console/accounts/shop/appearance",
		"/console/platforms", "/console/platforms/plat",
		"/console/statistics?by=&group=result", "/console/operate", "/console/operate/settings", "/console/operate/webhooks",
		"/console/operate/checks", "/console/operate/audit", "/console/people", "/console/emulator", "/console/sessions",
		"/console/login"} {
		for j, c := range []struct {
			language, scheme string
			width            int64
		}{{"en", "light", 320}, {"zh-CN", "dark", 1280}, {"en", "dark", 1280}, {"zh-CN", "light", 320}} {
			if (i+j)%2 == 1 && path != "/console/calls" && path != "/" { // half of them: each page has both languages or both widths
				continue
			}
			name := fmt.Sprintf("%s-%s-%d-%s", strings.Trim(regexp.MustCompile(`[^a-z]+`).ReplaceAllString(path, "-"), "-"), c.language,
				c.width, c.scheme)
			t.Run(name, func(t *testing.T) {
				look(t, ctx, s.AdminURL+path, c.language, c.scheme, c.width, string(axe), folder, name)
			})
		}
	}
}

func look(t *testing.T, ctx context.Context, url, language, scheme string, width int64, axe, folder, name string) {
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := chromedp.Call(ctx, network.SetExtraHTTPHeaders,
		network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": language}})
	do(err)
	_, err = chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	do(err)
	browsertest.Run(t, ctx, chromedp.EmulateViewport(width, 900))
	_, err = chromedp.Call(ctx, cdppage.SetBypassCSP, cdppage.SetBypassCSPParams{Enabled: false})
	do(err)
	const theEnd = "the page was looked at"
	messages := chromedp.Console(ctx)
	do(chromedp.Do(ctx, chromedp.Navigate(url)))
	if got := browsertest.Run(t, ctx, chromedp.Evaluate[string](`document.documentElement.lang`)); got != language {
		t.Errorf("the page is in %q", got)
	}
	over := browsertest.Run(t, ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - document.documentElement.clientWidth`))
	if over > 0 {
		t.Errorf("the page is %d pixels wider than the window", over)
	}
	if folder != "" {
		do(os.WriteFile(filepath.Join(folder, "console-"+name+".png"), browsertest.Run(t, ctx, chromedp.FullScreenshot(100)), 0o644))
	}
	browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`console.debug("`+theEnd+`")`))
	for m, err := range messages {
		do(err)
		if m.Text == theEnd {
			break
		}
		if text := m.String(); !strings.HasPrefix(text, "debug: [DOM] ") { // advice about forms, from the browser
			t.Errorf("console: %s", text)
		}
	}
	// The policy keeps axe-core out, so it is told to look away.
	_, err = chromedp.Call(ctx, cdppage.SetBypassCSP, cdppage.SetBypassCSPParams{Enabled: true})
	do(err)
	do(chromedp.Do(ctx, chromedp.Navigate(url)))
	browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](axe))
	text := browsertest.Run(t, ctx, chromedp.Evaluate[string](`axe.run(document).then(r => JSON.stringify({
		violations: r.violations.filter(v => v.impact !== "minor").map(v => v.id + ": " + v.help + ": " +
			v.nodes.slice(0, 3).map(n => n.html + " " + n.failureSummary).join("; ")),
		passes: r.passes.length}))`, chromedp.EvalAwaitPromise))
	var found struct {
		Violations []string
		Passes     int
	}
	do(json.Unmarshal([]byte(text), &found))
	if found.Passes < 10 {
		t.Errorf("axe-core passed only %d rules: it did not look", found.Passes)
	}
	for _, v := range found.Violations {
		t.Errorf("axe: %s", v)
	}
}
