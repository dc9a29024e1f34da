package console_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/internal/server/servertest"
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
