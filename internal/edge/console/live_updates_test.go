package console_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Eight tabs of the live list on plain HTTP, where a browser has six connections to a server: each loads and is live when somebody
// looks at it, since a tab that nobody sees has no stream; and the first has what came meanwhile when it is seen again.
func TestLiveList_EightTabs(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Seed: shop})
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`)
	whole := browsertest.Start(t, "")
	const live = `document.getElementById('live-state')?.textContent === document.getElementById('live')?.dataset.opened`
	// A browser without a screen takes every tab for visible, so the test says which one is; the six connections are the browser's.
	seen := func(tab context.Context, is bool) {
		t.Helper()
		browsertest.Run(t, tab, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`Object.defineProperty(document, 'hidden',
			{configurable: true, get: () => %t}), document.dispatchEvent(new Event('visibilitychange'))`, !is)))
	}
	var tabs []context.Context
	for i := range 8 {
		tab := whole
		if i > 0 {
			var end context.CancelFunc
			tab, end = chromedp.NewContext(whole)
			defer end()
		}
		tabs = append(tabs, tab)
		require.NoErrorf(t, chromedp.Do(tab, chromedp.Navigate(s.AdminURL+"/console/calls")), "tab %d", i+1)
		browsertest.Await(t, tab, live)
		seen(tab, false)
	}
	rows := browsertest.Run(t, tabs[0], chromedp.Evaluate[int](`document.querySelectorAll('#calls tbody tr').length`))
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`)
	seen(tabs[0], true)
	browsertest.Await(t, tabs[0], fmt.Sprintf(`document.querySelectorAll('#calls tbody tr').length === %d`, rows+1))
}

// A developer leaves the list of calls open: a call appears there by itself, is opened by a click, and its page tells why it failed.
func TestLiveList_InChromium(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Seed: shop})
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumppublish?access_token="+s.Token("shop"),
		`{"prefix":"https://none.example/<script>alert(1)</script>"}`)
	ctx := browsertest.Start(t, "")
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(s.AdminURL+"/console/calls")))
	browsertest.Await(t, ctx, `!!document.getElementById('live') && document.getElementById('live-state').textContent ===
		document.getElementById('live')?.dataset.opened`)
	before := browsertest.Run(t, ctx, chromedp.Evaluate[int](`document.querySelectorAll('#calls tbody tr').length`))
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpadd?access_token="+s.Token("shop"), `{"prefix":"no link <b>at all</b>"}`)
	browsertest.Await(t, ctx, fmt.Sprintf(`document.querySelectorAll('#calls tbody tr').length === %d`, before+1))
	assert.Equal(t, browsertest.Run(t, ctx, chromedp.Evaluate[int](`document.querySelectorAll('#calls b, #calls script').length`)), 0,
		"what a caller sent is HTML in the list")
	browsertest.Await(t, ctx, `(document.querySelector('#calls tbody a').click(), true)`)
	// Beside the list, with a button that copies, and from there as a page.
	browsertest.Await(t, ctx, `!!document.querySelector('dialog.drawer .copied #curl') && !!document.querySelector('dialog.drawer .copies')`)
	browsertest.Await(t, ctx, `(document.querySelector('dialog.drawer a').click(), true)`)
	browsertest.Await(t, ctx, `/calls\/[0-9a-f-]{26}$/.test(location.pathname) && !!document.getElementById('curl')`)
	text := browsertest.Run(t, ctx, chromedp.Evaluate[string](`document.body.innerText`))
	assert.Contains(t, text, "Problem", "the call's page does not say why")
}
