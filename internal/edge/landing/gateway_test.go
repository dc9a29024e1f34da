package landing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var testTime = time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)

// newCodeGateway returns a gateway for which every link is one active code.
func newCodeGateway() *Gateway {
	return &Gateway{
		Resolve: func(scan.Request) scan.Decision {
			return scan.Decision{Action: scan.OpenMiniProgram, Kind: scan.ByCode,
				Code: codes.Scanned{Found: codes.Found{Batch: codes.Batch{ID: 7}, Index: 3, Code: "ABCDEF123",
					State: codes.State{Activation: &codes.Event{Binding: codes.Binding{ProductBrand: "Brew"}}}}}}
		},
		Account:  func(string) (accounts.Account, bool) { return accounts.Account{}, false },
		Prefixes: func() []string { return []string{"HTTPS://Q.EXAMPLE/"} }, Links: func() []codes.Link { return nil },
		Scheme:   func(*http.Request) string { return "https" },
		Settings: settings.NewLive(settings.Defaults()), LinkHost: func(string, string) bool { return false },
		Now: func() time.Time { return testTime }, RealNow: func() time.Time { return testTime },
		ClientIP: func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
		Log:      slog.New(slog.DiscardHandler),
	}
}

func (g *Gateway) getPreview(t *testing.T, language string) string {
	t.Helper()
	r := httptest.NewRequest("GET", "/p/?u=x", nil)
	r.Header.Set("Accept-Language", language)
	w := httptest.NewRecorder()
	g.Preview().ServeHTTP(w, r)
	require.True(t, w.Code == 200, "status %d, want 200: %s", w.Code, w.Body)
	return w.Body.String()
}

func TestLandingPage_CheckCount(t *testing.T) {
	t.Parallel()
	var first time.Time
	var count int64
	var err error
	g := newCodeGateway()
	g.First = func(_ context.Context, batch, index int64) (time.Time, bool, error) {
		assert.True(t, batch == 7 && index == 3, "First is called for code %d of batch %d, want code 3 of batch 7", index, batch)
		return first, !first.IsZero(), err
	}
	g.Checks = func(context.Context, int64, int64) (int64, error) { return count, nil }
	g.Copied = func(context.Context, int64, int64) (bool, error) { return false, nil }
	for _, c := range []struct {
		name             string
		first            time.Time
		count            int64
		err              error
		english, chinese string
	}{
		{"never", time.Time{}, 0, nil, "never checked", "此前未在应用中查询过"},
		{"once", testTime, 1, nil, "15 January 2026, 10:00 (UTC&#43;08:00)</time>", "2026年1月15日 10:00（UTC&#43;08:00）</time>"},
		{"once, and not counted yet", testTime, 0, nil, "<dd>Checked once</dd>", "<dd>已查询 1 次</dd>"},
		{"often", testTime, 1234, nil, "Checked 1234 times", "已查询 1234 次"},
		{"unknown", testTime, 1, errors.New("the database is away"), "not available at the moment", "暂时无法获取"},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, count, err = c.first, c.count, c.err
			for language, want := range map[string]string{"en-GB": c.english, "zh": c.chinese} {
				assert.Contains(t, g.getPreview(t, language), want, "page in %s", language)
			}
		})
	}
}

// TestLandingPage_GenuineOnlyIfActiveAndClean verifies that a page says genuine only if the code is active and known to have no alarm and
// no redemption.
func TestLandingPage_GenuineOnlyIfActiveAndClean(t *testing.T) {
	t.Parallel()
	errDatabase := errors.New("the database is away")
	for _, c := range []struct {
		name                   string
		copied                 bool
		redeemed               time.Time
		checksErr, redeemedErr error
		class, want            string
	}{
		{name: "nothing", class: "active", want: "A genuine code"},
		{name: "an alarm", copied: true, class: "copied", want: "more people checked it"},
		{name: "redeemed", redeemed: testTime, class: "redeemed", want: "15 January 2026, 10:00"},
		{name: "an alarm and redeemed", copied: true, redeemed: testTime, class: "copied", want: "15 January 2026, 10:00"},
		{name: "unknown alarms", checksErr: errDatabase, class: "unsure", want: "Try again in a minute"},
		{name: "redeemed, unknown alarms", redeemed: testTime, checksErr: errDatabase, class: "redeemed", want: "15 January 2026, 10:00"},
		{name: "redeemed, unknown date", redeemed: testTime, redeemedErr: errDatabase, class: "redeemed",
			want: "<dt>Redeemed at</dt><dd>not available at the moment</dd>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newCodeGateway()
			decide := g.Resolve
			g.Resolve = func(r scan.Request) scan.Decision {
				d := decide(r)
				d.Code.State.Redeemed = !c.redeemed.IsZero()
				return d
			}
			g.First = func(context.Context, int64, int64) (time.Time, bool, error) { return time.Time{}, false, nil }
			g.Checks = func(context.Context, int64, int64) (int64, error) { return 0, nil }
			g.Copied = func(_ context.Context, batch, index int64) (bool, error) {
				return c.copied && batch == 7 && index == 3, c.checksErr
			}
			g.Redeemed = func(context.Context, int64, int64) (time.Time, error) { return c.redeemed, c.redeemedErr }
			body := g.getPreview(t, "en")
			assert.True(t, strings.Contains(body, `<h1 class="`+c.class+`">`) && strings.Contains(body, c.want),
				"want class %q and %q: %s", c.class, c.want, body)
			for _, page := range []string{body, g.getPreview(t, "zh")} {
				genuine := strings.Contains(page, "genuine") || strings.Contains(page, "正品")
				assert.True(t, genuine == (c.class == "active"), "page says genuine = %v, want %v: %s", genuine, c.class == "active", page)
			}
		})
	}
}

// TestLandingPage_AlarmOnRedemptionDateTimeout verifies that a timeout of the redemption date removes only the date from the page and keeps
// the alarm.
func TestLandingPage_AlarmOnRedemptionDateTimeout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		firstErr    error
		class, want string
	}{
		{"known counts", nil, "copied", "Checked 5 times"},
		{"failed read of the first scan", errors.New("the database is away"), "copied", "not available at the moment"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newCodeGateway()
				decide := g.Resolve
				g.Resolve = func(r scan.Request) scan.Decision {
					d := decide(r)
					d.Code.State.Redeemed = true
					return d
				}
				g.First = func(ctx context.Context, _, _ int64) (time.Time, bool, error) {
					return testTime, true, errors.Join(c.firstErr, ctx.Err())
				}
				g.Checks = func(ctx context.Context, _, _ int64) (int64, error) { return 5, ctx.Err() }
				g.Copied = func(ctx context.Context, _, _ int64) (bool, error) { return ctx.Err() == nil, ctx.Err() }
				g.Redeemed = func(ctx context.Context, _, _ int64) (time.Time, error) {
					<-ctx.Done()
					return time.Time{}, ctx.Err()
				}
				for _, want := range []string{`<h1 class="` + c.class + `">`, c.want,
					"<dt>Redeemed at</dt><dd>not available at the moment</dd>"} {
					assert.Contains(t, g.getPreview(t, "en"), want, "the page does not say %q", want)
				}
			})
		})
	}
}

func TestLandingLimits_RefillPerNetwork(t *testing.T) {
	t.Parallel()
	var l limits
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	now := testTime
	draws := func(ip netip.Addr) (n int) {
		for ; n < 1000 && l.draw("x", ip, 1, 30, now) == 0; n++ {
		}
		return n
	}
	assert.Equal(t, draws(a), 30, "draws of a new address")
	assert.Equal(t, l.draw("x", a, 1, 30, now), 2*time.Second, "wait of an empty bucket")
	assert.Equal(t, draws(b), 30, "another address")
	assert.True(t, l.draw("y", a, 1, 30, now) == 0 && l.draw("x", a, 1, 0, now) > 0, "another kind of page is not limited; a limit of 0 lets none pass")
	now = now.Add(10 * time.Second)
	assert.Equal(t, draws(a), 5, "after ten seconds")
	now = now.Add(-time.Hour)
	assert.Equal(t, draws(a), 0, "after the clock went back")
	now = now.Add(24 * time.Hour)
	assert.Equal(t, draws(a), 30, "after a day")
	assert.Equal(t, draws(netip.MustParseAddr("2001:db8::1%eth0")), 30, "draws of an IPv6 address")
	assert.Equal(t, draws(netip.MustParseAddr("2001:db8::ffff")), 0, "draws of another address of its /64")
	assert.Equal(t, draws(netip.MustParseAddr("2001:db8:0:1::1")), 30, "draws of another /64")
	assert.Equal(t, draws(netip.MustParseAddr("::ffff:192.0.2.1")), 0, "draws of an IPv4-mapped address with an empty bucket")
	// The number of buckets is bounded.
	for i := range 3 * maxBuckets {
		l.draw("x", netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1, 30, now)
	}
	n := len(l.young) + len(l.old)
	assert.True(t, n <= 2*maxBuckets, "%d buckets, want at most %d", n, 2*maxBuckets)
}

// newLinkGateway returns a gateway for which every link opens a Mini Program; draw replaces the drawing of the QR code.
func newLinkGateway(draw func(text string) (string, error)) *Gateway {
	g := newCodeGateway()
	g.Resolve = func(scan.Request) scan.Decision {
		return scan.Decision{Action: scan.OpenMiniProgram, Kind: scan.ByRule, AppID: "shop"}
	}
	g.draw = draw
	return g
}

// getPage requests the landing page of a link of length bytes.
func (g *Gateway) getPage(ctx context.Context, length int) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	g.answer(w, r, "http://coffee.example/"+strings.Repeat("a", length-len("http://coffee.example/")), g.Resolve(scan.Request{}))
	return w
}

// TestLandingPage_LongLinkWithoutQRImage verifies that links of more than 500 bytes get no QR code: drawing one for 2,800 bytes takes 52 ms
// of processor time.
func TestLandingPage_LongLinkWithoutQRImage(t *testing.T) {
	t.Parallel()
	drawings := 0
	g := newLinkGateway(func(text string) (string, error) {
		drawings++
		return symbol.ForScreen(text)
	})
	for _, c := range []struct{ length, drawings int }{{30, 1}, {500, 1}, {501, 0}, {2800, 0}, {4096, 0}} {
		drawings = 0
		body := g.getPage(t.Context(), c.length).Body.String()
		assert.True(t, drawings == c.drawings && strings.Contains(body, "<img") == (c.drawings == 1) &&
			strings.Contains(body, "too long for a QR code") == (c.drawings == 0),
			"%d bytes: %d pictures drawn, want %d: %.900s", c.length, drawings, c.drawings, body)
	}
}

func TestLandingPage_QRImageSemaphore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		active, peak, total := 0, 0, 0
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			active += n
			peak, total = max(peak, active), total+max(n, 0)
		}
		done := make(chan struct{})
		g := newLinkGateway(func(string) (string, error) {
			count(1)
			defer count(-1)
			<-done
			return "data:,", nil
		})
		var pages sync.WaitGroup
		for range 5 {
			pages.Go(func() {
				w := g.getPage(t.Context(), 100)
				assert.True(t, w.Code == 200 && strings.Contains(w.Body.String(), "<img"), "status %d, want 200: %s", w.Code, w.Body)
			})
		}
		synctest.Wait() // until both slots are in use
		ctx, cancel := context.WithCancel(t.Context())
		pages.Go(func() { g.getPage(ctx, 100) })
		synctest.Wait()
		cancel() // a cancelled request must not draw
		synctest.Wait()
		close(done)
		pages.Wait()
		assert.True(t, peak == 2 && total == 5, "%d concurrent drawings, %d in total; want 2 and 5", peak, total)
	})
}

func TestLandingLimits_CostByLinkLength(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit         settings.Limit
		length, pages int
	}{
		{30, 100, 300}, {30, 101, 150}, {30, 500, 60}, {30, 1000, 30}, {30, 2800, 10}, {30, 4096, 7}, {1, 30, 10}, {1, 4096, 1},
		{settings.Unlimited, 4096, 1000}, {0, 30, 0},
	} {
		g := newLinkGateway(func(string) (string, error) { return "", nil })
		s := settings.Defaults()
		s.LandingPageRateLimit = c.limit
		g.Settings = settings.NewLive(s)
		pages := 0
		for ; pages < 1000 && g.getPage(t.Context(), c.length).Code == 200; pages++ {
		}
		assert.Equal(t, pages, c.pages, "landing_page_rate_limit %d, %d bytes", c.limit, c.length)
	}
	// Retry-After is the time until the bucket covers the cost of the requested page.
	g := newLinkGateway(func(string) (string, error) { return "", nil })
	for range 10 {
		g.getPage(t.Context(), 2800)
	}
	g.getPage(t.Context(), 2000)
	for length, want := range map[int]string{100: "1", 2800: "6"} { // 1 and 28 of 300 a minute
		if w := g.getPage(t.Context(), length); w.Code != 429 || w.Header().Get("Retry-After") != want {
			t.Errorf("%d bytes: %d, Retry-After %q, want %s", length, w.Code, w.Header().Get("Retry-After"), want)
		}
	}
}

func TestLandingPage_HostHeader(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"Coffee.Example": "coffee.example", "coffee.example:80": "coffee.example", "coffee.example:8080": "coffee.example:8080",
		"coffee.example:443": "coffee.example:443",
		"localhost":          "", "localhost:8080": "", "x.localhost": "", "127.0.0.1": "", "127.0.0.1:80": "", "[::1]:80": "", "::1": "",
		"":                  "",
		"api.weixin.qq.com": "", "open.weixin.qq.com:443": "", "HK.api.weixin.qq.com": "",
		"a b": "", "a/b": "", "<script>": "", "é.example": "", "a%00": "", strings.Repeat("a", 300): "",
	} {
		got, ok := pageHost(header, "http")
		assert.True(t, ok == (want != "") && (!ok || got == want), "%q: %q %v, want %q", header, got, ok, want)
	}
	got, _ := pageHost("coffee.example:443", "https")
	assert.Equal(t, got, "coffee.example", "https")
}

func FuzzPages(f *testing.F) {
	for _, s := range []string{"", "/", "/x?<script>", "/%ff", strings.Repeat("a", 5000)} {
		f.Add(s, "zh", "q.example")
	}
	f.Fuzz(func(t *testing.T, text, language, name string) {
		g := newCodeGateway()
		g.Resolve = func(scan.Request) scan.Decision {
			return scan.Decision{Action: scan.OpenMiniProgram, Kind: scan.ByRule, AppID: name}
		}
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Language", language)
		g.Account = func(string) (accounts.Account, bool) { return accounts.Account{Name: name}, true }
		g.answer(w, r, text, g.Resolve(scan.Request{}))
		got := fmt.Sprint(w.Code, strings.Count(w.Body.String(), "<script"), strings.Count(w.Body.String(), "<style>"),
			strings.Count(w.Body.String(), "</main>"))
		assert.True(t, got == "200 1 1 1", "%q %q: %s: %s", text, name, got, w.Body)
	})
}
