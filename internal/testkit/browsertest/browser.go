// Package browsertest knows how a test gets a real browser of its own.
package browsertest

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// shared is the browser of all tests of a package that calls Main: starting a Chromium takes two seconds of processor time.
var shared struct {
	sync.Mutex
	isOn bool
	page context.Context
	end  []func()
}

// Main runs the tests of a package with one Chromium for all that start it without switches, and returns their exit code.
func Main(m *testing.M) int {
	shared.isOn = true
	code := m.Run()
	for _, end := range slices.Backward(shared.end) {
		end()
	}
	return code
}

// Start returns the context of a page in a Chromium without cookies; the page closes with the test. Requests for every name go to host,
// an address with a port, where it is not "". Without a Chromium the test is skipped, unless QRJUMP_REQUIRE_CHROMIUM is set. More are
// switches of Chromium's own.
func Start(t *testing.T, host string, extra ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	if host != "" || len(extra) > 0 || !shared.isOn {
		return start(t, t.Cleanup, host, extra...)
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.page == nil {
		shared.page = start(t, func(end func()) { shared.end = append(shared.end, end) }, "")
	}
	ctx, end := chromedp.NewContext(shared.page)
	t.Cleanup(end)
	require.NoErrorf(t, chromedp.Do(ctx), "opening a page")
	_, err := chromedp.Call(ctx, network.ClearBrowserCookies, cdp.Empty{})
	require.NoError(t, err)
	return ctx
}

// start starts a Chromium, and gives cleanup what ends it.
func start(t *testing.T, cleanup func(func()), host string, extra ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		require.True(t, os.Getenv("QRJUMP_REQUIRE_CHROMIUM") == "", "no Chromium: scripts/install-test-deps.sh installs it")
		t.Skip("no Chromium: scripts/install-test-deps.sh installs it")
	}
	folder, err := os.MkdirTemp("", "qrjump-chromium-")
	require.NoError(t, err)
	// A helper of the browser may outlive it for a moment and still write there, so it is no folder of the test, which has to go.
	cleanup(func() { _ = os.RemoveAll(folder) })
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(program), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.UserDataDir(folder), chromedp.WSURLReadTimeout(3 * time.Minute),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-extensions", true),
		chromedp.Flag("disable-features",
			"HttpsUpgrades,HttpsFirstBalancedModeAutoEnable,Translate,OptimizationHints,MediaRouter,NetworkTimeServiceQuerying"),
		chromedp.Flag("no-proxy-server", true)}
	if host != "" {
		options = append(options, chromedp.Flag("host-resolver-rules", "MAP * "+host))
	}
	// The context of the test ends before the browser is closed. A page on a busy machine takes its time: it is given
	// up shortly before the test itself would end, so that what it showed is told.
	bounded := context.Background()
	if end, is := t.Deadline(); is {
		var cancel context.CancelFunc
		bounded, cancel = context.WithDeadline(bounded, end.Add(-20*time.Second))
		cleanup(cancel)
	}
	ctx, stop := chromedp.NewExecAllocator(bounded, append(options, extra...)...)
	cleanup(stop)
	ctx, end := chromedp.NewContext(ctx)
	cleanup(func() {
		_ = chromedp.Cancel(ctx)
		end()
	})
	require.NoErrorf(t, chromedp.Do(ctx), "starting %s", program)
	return ctx
}

// Run runs an action in a browser and returns its result.
func Run[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, action)
	require.NoError(t, err)
	return v
}

// Loaded returns the number of bytes of the open page with all that the browser loaded for it, scripts' own requests too, unzipped.
func Loaded(t *testing.T, page context.Context) int {
	t.Helper()
	return Run(t, page, chromedp.Evaluate[int](`["navigation", "resource"].flatMap(kind => performance.getEntriesByType(kind))
		.filter(e => !e.name.startsWith("data:")).reduce((sum, e) => sum + e.decodedBodySize, 0)`))
}

// patience is the time that Await waits for what may never be: so long that no busy machine needs it.
const patience = 5 * time.Minute

// Await waits until a page is loaded and a JavaScript expression is true on it. It may become another page meanwhile: a
// question that goes under with its page is asked again.
func Await(t *testing.T, page context.Context, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(page, patience)
	defer cancel()
	for {
		isNow, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.readyState === "complete" && (`+value+`)`))
		if err == nil && isNow {
			return
		}
		if ctx.Err() != nil {
			text, cause := chromedp.Run(page, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`))
			t.Fatalf("it never was so: %s\nlast: %v\n%s %v", value, err, text, cause)
		}
		time.Sleep(10 * time.Millisecond) // between two looks, for what it waits for
	}
}
