// Package browsertest starts a Chromium for tests.
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

// shared is the browser of all tests of a package that calls Main. The start of a Chromium takes two seconds of processor time.
var shared struct {
	sync.Mutex
	isOn bool
	page context.Context
	end  []func()
}

// Main runs the tests of a package and returns their exit code. All tests that call Start without host and options share a Chromium.
func Main(m *testing.M) int {
	shared.isOn = true
	code := m.Run()
	for _, end := range slices.Backward(shared.end) {
		end()
	}
	return code
}

// Start returns the context of a page without cookies and closes the page when the test ends. Unless host is "", requests for every name go
// to this address with port. extra are options of Chromium. Without a Chromium, Start skips the test, or ends it as failed if
// QRJUMP_REQUIRE_CHROMIUM is set.
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

// start starts a Chromium. It registers the functions that stop it with cleanup.
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
	folder := require.Value(os.MkdirTemp("", "qrjump-chromium-"))(t)
	// Not t.TempDir, which fails the test if it cannot remove the folder: a subprocess of the browser may still write there for a moment.
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
	// Not t.Context, which ends before the browser is closed. The context ends before the deadline of the test, so that the failure of a
	// test that waits for a page is printed.
	parent := context.Background()
	if end, ok := t.Deadline(); ok {
		var cancel context.CancelFunc
		parent, cancel = context.WithDeadline(parent, end.Add(-20*time.Second))
		cleanup(cancel)
	}
	ctx, stop := chromedp.NewExecAllocator(parent, append(options, extra...)...)
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
	v := require.Value(chromedp.Run(ctx, action))(t)
	return v
}

// Loaded returns the uncompressed size in bytes of the open page with all files that the browser and the page's scripts loaded.
func Loaded(t *testing.T, page context.Context) int {
	t.Helper()
	return Run(t, page, chromedp.Evaluate[int](`["navigation", "resource"].flatMap(kind => performance.getEntriesByType(kind))
		.filter(e => !e.name.startsWith("data:")).reduce((sum, e) => sum + e.decodedBodySize, 0)`))
}

// awaitTimeout is the time limit of Await, long enough for a busy machine.
const awaitTimeout = 5 * time.Minute

// Await waits until a page is loaded and a JavaScript expression is true on it. The page may navigate while Await waits: an evaluation that
// fails is repeated.
func Await(t *testing.T, page context.Context, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(page, awaitTimeout)
	defer cancel()
	for {
		done, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.readyState === "complete" && (`+value+`)`))
		if err == nil && done {
			return
		}
		if ctx.Err() != nil {
			text, cause := chromedp.Run(page, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`))
			t.Fatalf("%s was not true within %v; last error: %v\n%s %v", value, awaitTimeout, err, text, cause)
		}
		time.Sleep(10 * time.Millisecond) // between two looks, for what it waits for
	}
}
