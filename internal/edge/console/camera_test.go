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
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// cameraFile writes a video of one frame that Chromium uses as its camera: the QR code of a text, or a grey frame.
func cameraFile(t *testing.T, text string) []chromedp.ExecAllocatorOption {
	t.Helper()
	const width, height, dot = 640, 480, 8
	light := bytes.Repeat([]byte{200}, width*height)
	if text != "" {
		code := require.Value(symbol.QR(text, 'M'))(t)
		n := code.Width
		left, top := (width-n*dot)/2, (height-n*dot)/2
		require.True(t, top >= 4*dot, "the code has %d modules, too many for the frame", n)
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

// cameraProbe records in the session storage what the camera page does, across navigations: tracks obtained and ended, concurrent frames,
// and violations of its policy.
//
//go:embed testdata/camera_seen.js
var cameraProbe string

type cameraStats struct {
	Got, Ended, Frames, Together int
	Violated                     string
}

func readCameraStats(t *testing.T, ctx context.Context) (stats cameraStats) {
	t.Helper()
	text := browsertest.Run(t, ctx, chromedp.Evaluate[string](`sessionStorage.getItem("seen") ?? "{}"`))
	require.NoError(t, json.Unmarshal([]byte(text), &stats))
	return stats
}

// openScan opens the page that tries a scan, in a language.
func openScan(t *testing.T, ctx context.Context, address, language string) {
	t.Helper()
	require.NoError(t, assert.ErrorOf(chromedp.Call(ctx, network.SetExtraHTTPHeaders,
		network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": language}})))
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(address+"/console/scan")))
	browsertest.Await(t, ctx, `!document.getElementById("camera").hidden`)
}

// waitCameraMessage waits until the page shows the message camera.<key> of the catalog.
func waitCameraMessage(t *testing.T, ctx context.Context, language, key string) {
	t.Helper()
	text := require.Value(os.ReadFile("locale/camera." + language[:2] + ".json"))(t)
	words := map[string]string{}
	require.NoError(t, json.Unmarshal(text, &words))
	want := words["camera."+key]
	require.True(t, want != "", "the catalog has no camera.%s", key)
	browsertest.Await(t, ctx, fmt.Sprintf(`document.getElementById("camera-said").textContent === %q`, want))
}

// TestCamera_ReadsCode verifies that a code in front of the camera is read, that the other fields of the form are kept, and that the camera
// is switched off.
func TestCamera_ReadsCode(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Seed: shop})
	const text = "https://shop.example/7?a=<b>"
	ctx := browsertest.Start(t, "", cameraFile(t, text)...)
	openScan(t, ctx, s.AdminURL, "en")
	browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](cameraProbe))
	browsertest.Run(t, ctx, chromedp.SetValue("#user", "ann"))
	browsertest.Run(t, ctx, chromedp.Click("#camera-switch"))
	browsertest.Await(t, ctx, `new URLSearchParams(location.search).has("text")`)
	location := require.Value(url.Parse(browsertest.Run(t, ctx, chromedp.Evaluate[string](`location.href`))))(t)
	q := location.Query()
	assert.True(t, location.Path == "/console/scan" && q.Get("text") == text && q.Get("user") == "ann",
		"location = %s, want the scan page with the text and the user", location)
	page := browsertest.Run(t, ctx, chromedp.Evaluate[string](`document.body.innerText`))
	assert.Contains(t, page, "pages/index/index", "page of the scan")
	stats := readCameraStats(t, ctx)
	assert.True(t, stats.Got == 1 && stats.Ended == 1 && stats.Frames >= 1 && stats.Together == 1 && stats.Violated == "",
		"stats = %+v, want one track and one frame at a time", stats)
}

// TestCamera_StopsOnHideOrLeave verifies that the camera reads one frame after another until the page is stopped, hidden or left, and that
// errors of the camera are shown.
func TestCamera_StopsOnHideOrLeave(t *testing.T) {
	testscope.RequireComplete(t, "TestCamera_ReadsCode checks the stop after a code, TestCamera_PermissionsPolicy the policy")
	s := servertest.Start(t, servertest.Options{Seed: shop})
	ctx := browsertest.Start(t, "", cameraFile(t, "")...)
	axe := require.Value(os.ReadFile("../landing/testdata/axe/axe.min.js"))(t)
	inspector := &inspector{ctx: ctx, axe: string(axe)}
	clickSwitch := func() { browsertest.Run(t, ctx, chromedp.Click("#camera-switch")) }
	checkStream := func(name string, on bool) {
		t.Helper()
		browsertest.Await(t, ctx, fmt.Sprintf(`document.getElementById("camera-view").hidden === %t`, !on))
		assert.Equal(t, browsertest.Run(t, ctx, chromedp.Evaluate[bool](`!!document.getElementById("camera-view").srcObject`)), on,
			"%s: the video has a stream", name)
	}
	waitFrames := func(n int) {
		t.Helper()
		browsertest.Await(t, ctx, fmt.Sprintf(`(JSON.parse(sessionStorage.getItem("seen") ?? "{}").frames ?? 0) >= %d`, n))
	}
	for _, language := range []string{"en", "zh-CN"} {
		openScan(t, ctx, s.AdminURL, language)
		browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`sessionStorage.clear()`))
		browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](cameraProbe))
		clickSwitch()
		waitCameraMessage(t, ctx, language, "looking")
		checkStream("pressed", true)
		waitFrames(2)
		assert.Equal(t, browsertest.Run(t, ctx, chromedp.Evaluate[string](`document.activeElement.id`)), "camera-switch",
			"%s: focused element", language)
		inspector.checkAxe(t, func(err error) {
			t.Helper()
			require.NoError(t, err)
		})
		clickSwitch()
		waitCameraMessage(t, ctx, language, "stopped")
		checkStream("pressed again", false)
		// A headless browser reports every tab as visible, so the test overrides document.hidden.
		clickSwitch()
		waitCameraMessage(t, ctx, language, "looking")
		browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`Object.defineProperty(document, "hidden", {configurable: true,
			get: () => true}), document.dispatchEvent(new Event("visibilitychange"))`))
		waitCameraMessage(t, ctx, language, "unseen")
		checkStream("hidden", false)
		browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`delete document.hidden`))
		stats := readCameraStats(t, ctx)
		assert.True(t, stats.Got == 2 && stats.Ended == 2 && stats.Together == 1 && stats.Violated == "",
			"%s: stats = %+v, want 2 tracks, both ended", language, stats)
		for name, key := range map[string]string{"NotAllowedError": "denied", "NotFoundError": "none", "NotReadableError": "used",
			"TypeError": "failed"} {
			browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`window.refuses = %q`, name)))
			clickSwitch()
			waitCameraMessage(t, ctx, language, key)
			checkStream(name, false)
		}
		browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`window.refuses = ""`))
		clickSwitch()
		waitCameraMessage(t, ctx, language, "looking")
		require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(s.AdminURL+"/console/rules")))
		stats = readCameraStats(t, ctx)
		assert.True(t, stats.Got == 3 && stats.Ended == 3, "%s, page left: stats = %+v, want 3 tracks, all ended", language, stats)
	}
}

// TestCamera_UnavailableReason verifies that the page shows a reason and no button where the browser offers no camera.
func TestCamera_UnavailableReason(t *testing.T) {
	testscope.RequireComplete(t, "TestCamera_ReadsCode opens the same page with a camera")
	s := servertest.Start(t, servertest.Options{Seed: shop})
	ctx := browsertest.Start(t, strings.TrimPrefix(s.AdminURL, "http://"), cameraFile(t, "")...)
	for _, language := range []string{"en", "zh-CN"} {
		openScan(t, ctx, "http://host.docker.internal", language)
		waitCameraMessage(t, ctx, language, "insecure")
		assert.True(t, browsertest.Run(t, ctx, chromedp.Evaluate[bool](`document.getElementById("camera-switch").hidden`)),
			"%s: the button is visible, want it hidden", language)
	}
}

// TestCamera_PermissionsPolicy verifies that only the scan page may request the camera.
func TestCamera_PermissionsPolicy(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := newVisitor(t, s)
	for path, want := range map[string]string{"/console/scan": "camera=(self), ", "/console/rules": "camera=(), ",
		"/console/none": "camera=(), "} {
		got := v.get(path).Header.Get("Permissions-Policy")
		assert.True(t, strings.HasPrefix(got, want), "%s: %q", path, got)
	}
}
