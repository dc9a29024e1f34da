package console_test

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// film is a file of one frame, which a browser takes for its camera: the code of a text, or grey.
func film(t *testing.T, text string) []chromedp.ExecAllocatorOption {
	t.Helper()
	const width, height, dot = 640, 480, 8
	light := bytes.Repeat([]byte{200}, width*height)
	if text != "" {
		code, err := symbol.QR(text, 'M')
		require.NoError(t, err)
		n := code.Width
		left, top := (width-n*dot)/2, (height-n*dot)/2
		require.True(t, top >= 4*dot, "the code has %d dots: too many for a frame", n)
		for y := range n * dot {
			for x := range n * dot {
				if code.Dark(x/dot, y/dot) {
					light[(top+y)*width+left+x] = 30
				}
			}
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "YUV4MPEG2 W%d H%d F10:1 Ip A1:1 C420jpeg\nFRAME\n", width, height)
	b.Write(light)
	b.Write(bytes.Repeat([]byte{128}, width*height/2))
	name := filepath.Join(t.TempDir(), "camera.y4m")
	require.NoError(t, os.WriteFile(name, b.Bytes(), 0o600))
	return []chromedp.ExecAllocatorOption{chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("use-fake-device-for-media-stream", true), chromedp.Flag("use-file-for-fake-video-capture", name)}
}

// watched notes, for the pages that follow too, what a page of the camera does: tracks that it got and ended, frames that were under way
// at once, and what its policy kept from it.
//
//go:embed testdata/camera_seen.js
var watched string

type cameraSeen struct {
	Got, Ended, Frames, Together int
	Violated                     string
}

func seenOf(t *testing.T, ctx context.Context) (seen cameraSeen) {
	t.Helper()
	text := browsertest.Run(t, ctx, chromedp.Evaluate[string](`sessionStorage.getItem("seen") ?? "{}"`))
	require.NoError(t, json.Unmarshal([]byte(text), &seen))
	return seen
}

// openScan opens the page for trying a scan in a language.
func openScan(t *testing.T, ctx context.Context, address, language string) {
	t.Helper()
	require.NoError(t, assert.ErrorOf(chromedp.Call(ctx, network.SetExtraHTTPHeaders,
		network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": language}})))
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(address+"/console/scan")))
	browsertest.Await(t, ctx, `!document.getElementById("camera").hidden`)
}

// cameraSays waits until the page says what the book has of the camera under a key.
func cameraSays(t *testing.T, ctx context.Context, language, key string) {
	t.Helper()
	text, err := os.ReadFile("locale/camera." + language[:2] + ".json")
	require.NoError(t, err)
	words := map[string]string{}
	require.NoError(t, json.Unmarshal(text, &words))
	want := words["camera."+key]
	require.True(t, want != "", "the book has no camera.%s", key)
	browsertest.Await(t, ctx, fmt.Sprintf(`document.getElementById("camera-said").textContent === %q`, want))
}

// Issue 17, 2: a code before the camera is read, what else the form holds stays, and the camera is off.
func TestCamera_ReadsCode(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Seed: shop})
	const text = "https://shop.example/7?a=<b>"
	ctx := browsertest.Start(t, "", film(t, text)...)
	openScan(t, ctx, s.AdminURL, "en")
	browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](watched))
	browsertest.Run(t, ctx, chromedp.SetValue("#user", "ann"))
	browsertest.Run(t, ctx, chromedp.Click("#camera-switch"))
	browsertest.Await(t, ctx, `new URLSearchParams(location.search).has("text")`)
	at, err := url.Parse(browsertest.Run(t, ctx, chromedp.Evaluate[string](`location.href`)))
	require.NoError(t, err)
	q := at.Query()
	assert.True(t, at.Path == "/console/scan" && q.Get("text") == text && q.Get("user") == "ann", "the form went to %s", at)
	page := browsertest.Run(t, ctx, chromedp.Evaluate[string](`document.body.innerText`))
	assert.Contains(t, page, "pages/index/index", "the decision is not shown")
	seen := seenOf(t, ctx)
	assert.True(t, seen.Got == 1 && seen.Ended == 1 && seen.Frames >= 1 && seen.Together == 1 && seen.Violated == "", "%+v", seen)
}

// A camera that sees no code goes on frame by frame until it is stopped, hidden or left; and what keeps it from a page is said.
func TestCamera_StopsOnHideOrLeave(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Seed: shop})
	ctx := browsertest.Start(t, "", film(t, "")...)
	axe, err := os.ReadFile("../landing/testdata/axe/axe.min.js")
	require.NoError(t, err)
	eye := &eyes{ctx: ctx, axe: string(axe)}
	press := func() { browsertest.Run(t, ctx, chromedp.Click("#camera-switch")) }
	is := func(what string, on bool) {
		t.Helper()
		browsertest.Await(t, ctx, fmt.Sprintf(`document.getElementById("camera-view").hidden === %t`, !on))
		assert.Equal(t, browsertest.Run(t, ctx, chromedp.Evaluate[bool](`!!document.getElementById("camera-view").srcObject`)), on,
			"%s: the page has a stream", what)
	}
	frames := func(n int) {
		t.Helper()
		browsertest.Await(t, ctx, fmt.Sprintf(`(JSON.parse(sessionStorage.getItem("seen") ?? "{}").frames ?? 0) >= %d`, n))
	}
	for _, language := range []string{"en", "zh-CN"} {
		openScan(t, ctx, s.AdminURL, language)
		browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`sessionStorage.clear()`))
		browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](watched))
		press()
		cameraSays(t, ctx, language, "looking")
		is("pressed", true)
		frames(2)
		assert.Equal(t, browsertest.Run(t, ctx, chromedp.Evaluate[string](`document.activeElement.id`)), "camera-switch", "%s", language)
		eye.axeFindsNothing(t, func(err error) {
			t.Helper()
			require.NoError(t, err)
		})
		press()
		cameraSays(t, ctx, language, "stopped")
		is("pressed again", false)
		// Out of sight: a browser without a screen takes every tab for visible, so the test says that it is not.
		press()
		cameraSays(t, ctx, language, "looking")
		browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`Object.defineProperty(document, "hidden", {configurable: true,
			get: () => true}), document.dispatchEvent(new Event("visibilitychange"))`))
		cameraSays(t, ctx, language, "unseen")
		is("hidden", false)
		browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`delete document.hidden`))
		seen := seenOf(t, ctx)
		assert.True(t, seen.Got == 2 && seen.Ended == 2 && seen.Together == 1 && seen.Violated == "", "%s: %+v", language, seen)
		for name, key := range map[string]string{"NotAllowedError": "denied", "NotFoundError": "none", "NotReadableError": "used",
			"TypeError": "failed"} {
			browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`window.refuses = %q`, name)))
			press()
			cameraSays(t, ctx, language, key)
			is(name, false)
		}
		browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`window.refuses = ""`))
		press()
		cameraSays(t, ctx, language, "looking")
		require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(s.AdminURL+"/console/rules")))
		seen = seenOf(t, ctx)
		assert.True(t, seen.Got == 3 && seen.Ended == 3, "%s, left: %+v", language, seen)
	}
}

// Where a browser gives no page a camera, the page says so and has no button.
func TestCamera_UnavailableReason(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Seed: shop})
	ctx := browsertest.Start(t, strings.TrimPrefix(s.AdminURL, "http://"), film(t, "")...)
	for _, language := range []string{"en", "zh-CN"} {
		openScan(t, ctx, "http://host.docker.internal", language)
		cameraSays(t, ctx, language, "insecure")
		assert.True(t, browsertest.Run(t, ctx, chromedp.Evaluate[bool](`document.getElementById("camera-switch").hidden`)),
			"%s: there is a button all the same", language)
	}
}

// No other page may ask for a camera.
func TestCamera_PermissionsPolicy(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := request(t, s)
	for path, want := range map[string]string{"/console/scan": "camera=(self), ", "/console/rules": "camera=(), ",
		"/console/none": "camera=(), "} {
		got := v.get(path).Header.Get("Permissions-Policy")
		assert.True(t, strings.HasPrefix(got, want), "%s: %q", path, got)
	}
}
