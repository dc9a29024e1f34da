package console_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

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
