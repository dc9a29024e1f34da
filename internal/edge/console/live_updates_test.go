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

// TestLiveList_EightTabs opens the live list in eight tabs over plain HTTP, where a browser has six connections to a server. Each tab must
// load and become live when it is visible, because a hidden tab holds no stream; a tab that becomes visible again must show the calls made
// meanwhile.
func TestLiveList_EightTabs(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Seed: shop})
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`)
	window := browsertest.Start(t, "")
	const live = `document.getElementById('live-state')?.textContent === document.getElementById('live')?.dataset.opened`
	// A headless browser reports every tab as visible, so the test overrides document.hidden. The limit of six connections is real.
	setVisible := func(tab context.Context, visible bool) {
		t.Helper()
		browsertest.Run(t, tab, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`Object.defineProperty(document, 'hidden',
			{configurable: true, get: () => %t}), document.dispatchEvent(new Event('visibilitychange'))`, !visible)))
	}
	var tabs []context.Context
	for i := range 8 {
		tab := window
		if i > 0 {
			var end context.CancelFunc
			tab, end = chromedp.NewContext(window)
			defer end()
		}
		tabs = append(tabs, tab)
		require.NoErrorf(t, chromedp.Do(tab, chromedp.Navigate(s.AdminURL+"/console/calls")), "tab %d", i+1)
		browsertest.Await(t, tab, live)
		setVisible(tab, false)
	}
	rows := browsertest.Run(t, tabs[0], chromedp.Evaluate[int](`document.querySelectorAll('#calls tbody tr').length`))
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=none", `{}`)
	setVisible(tabs[0], true)
	browsertest.Await(t, tabs[0], fmt.Sprintf(`document.querySelectorAll('#calls tbody tr').length === %d`, rows+1))
}

// TestLiveList_InChromium verifies that a new call appears in an open list without a reload, and that a click on it shows why it failed.
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
		"elements from the text of a call")
	browsertest.Await(t, ctx, `(document.querySelector('#calls tbody a').click(), true)`)
	// The call opens in a drawer with a copy button, and from there as a page.
	browsertest.Await(t, ctx, `!!document.querySelector('dialog.drawer .copied #curl') && !!document.querySelector('dialog.drawer .copies')`)
	browsertest.Await(t, ctx, `(document.querySelector('dialog.drawer a').click(), true)`)
	browsertest.Await(t, ctx, `/calls\/[0-9a-f-]{26}$/.test(location.pathname) && !!document.getElementById('curl')`)
	text := browsertest.Run(t, ctx, chromedp.Evaluate[string](`document.body.innerText`))
	assert.Contains(t, text, "Problem", "page of the call")
}
