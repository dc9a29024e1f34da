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

var began = time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)

// scanned is a gateway that knows one active code.
func scanned() *Gateway {
	return &Gateway{
		Resolve: func(scan.Request) scan.Decision {
			return scan.Decision{Action: scan.OpenMiniProgram, Kind: scan.ByCode,
				Code: codes.Scanned{Found: codes.Found{Batch: codes.Batch{ID: 7}, Index: 3, Code: "ABCDEF123",
					State: codes.State{Activation: &codes.Event{Binding: codes.Binding{ProductBrand: "Brew"}}}}}}
		},
		Account:  func(string) (accounts.Account, bool) { return accounts.Account{}, false },
		Prefixes: func() []string { return []string{"HTTPS://Q.EXAMPLE/"} },
		Settings: settings.NewLive(settings.Defaults()),
		Now:      func() time.Time { return began }, RealNow: func() time.Time { return began },
		ClientIP: func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
		Log:      slog.New(slog.DiscardHandler),
	}
}

func (g *Gateway) body(t *testing.T, language string) string {
	t.Helper()
	r := httptest.NewRequest("GET", "/p/?u=x", nil)
	r.Header.Set("Accept-Language", language)
	w := httptest.NewRecorder()
	g.Preview().ServeHTTP(w, r)
	require.True(t, w.Code == 200, "%d %s", w.Code, w.Body)
	return w.Body.String()
}

func TestLandingPage_CheckCount(t *testing.T) {
	t.Parallel()
	var first time.Time
	var count int64
	var fault error
	g := scanned()
	g.First = func(_ context.Context, batch, index int64) (time.Time, bool, error) {
		assert.True(t, batch == 7 && index == 3, "asked of code %d of batch %d", index, batch)
		return first, !first.IsZero(), fault
	}
	g.Checks = func(context.Context, int64, int64) (int64, error) { return count, nil }
	g.Copied = func(context.Context, int64, int64) (bool, error) { return false, nil }
	for _, c := range []struct {
		name          string
		first         time.Time
		count         int64
		fault         error
		english, says string
	}{
		{"never", time.Time{}, 0, nil, "never checked", "此前未在应用中查询过"},
		{"once", began, 1, nil, "15 January 2026, 10:00 (UTC&#43;08:00)</time>", "2026年1月15日 10:00（UTC&#43;08:00）</time>"},
		{"once, and not counted yet", began, 0, nil, "<dd>Checked once</dd>", "<dd>已查询 1 次</dd>"},
		{"often", began, 1234, nil, "Checked 1234 times", "已查询 1234 次"},
		{"nobody can tell", began, 1, errors.New("the database is away"), "not available at the moment", "暂时无法获取"},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, count, fault = c.first, c.count, c.fault
			for language, want := range map[string]string{"en-GB": c.english, "zh": c.says} {
				assert.Contains(t, g.body(t, language), want, "%s: the page does not say %q", language, want)
			}
		})
	}
}

// Issue 11, 7: only what is known to be in order is called genuine.
func TestLandingPage_GenuineOnlyIfActiveAndClean(t *testing.T) {
	t.Parallel()
	away := errors.New("the database is away")
	for _, c := range []struct {
		name            string
		copied          bool
		redeemed        time.Time
		checks, redeems error
		class, says     string
	}{
		{name: "nothing", class: "active", says: "A genuine code"},
		{name: "an alarm", copied: true, class: "copied", says: "more people checked it"},
		{name: "redeemed", redeemed: began, class: "redeemed", says: "15 January 2026, 10:00"},
		{name: "an alarm and redeemed", copied: true, redeemed: began, class: "copied", says: "15 January 2026, 10:00"},
		{name: "nobody can tell of alarms", checks: away, class: "unsure", says: "Try again in a minute"},
		{name: "redeemed, and nobody can tell of alarms", redeemed: began, checks: away, class: "redeemed", says: "15 January 2026, 10:00"},
		{name: "redeemed, and nobody can tell when", redeemed: began, redeems: away, class: "redeemed",
			says: "<dt>Redeemed at</dt><dd>not available at the moment</dd>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := scanned()
			decide := g.Resolve
			g.Resolve = func(r scan.Request) scan.Decision {
				d := decide(r)
				d.Code.State.Redeemed = !c.redeemed.IsZero()
				return d
			}
			g.First = func(context.Context, int64, int64) (time.Time, bool, error) { return time.Time{}, false, nil }
			g.Checks = func(context.Context, int64, int64) (int64, error) { return 0, nil }
			g.Copied = func(_ context.Context, batch, index int64) (bool, error) {
				return c.copied && batch == 7 && index == 3, c.checks
			}
			g.Redeemed = func(context.Context, int64, int64) (time.Time, error) { return c.redeemed, c.redeems }
			body := g.body(t, "en")
			assert.True(t, strings.Contains(body, `<h1 class="`+c.class+`">`) && strings.Contains(body, c.says),
				"want class %q and %q: %s", c.class, c.says, body)
			for _, page := range []string{body, g.body(t, "zh")} {
				genuine := strings.Contains(page, "genuine") || strings.Contains(page, "正品")
				assert.True(t, genuine == (c.class == "active"), "the page says genuine: %v: %s", genuine, page)
			}
		})
	}
}

// Reading when a code was redeemed may take longer than a page waits: that costs its date, and not the alarm.
func TestLandingPage_AlarmOnRedemptionDateTimeout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		first       error
		class, says string
	}{
		{"the counts are known", nil, "copied", "Checked 5 times"},
		{"the first scan cannot be read", errors.New("the database is away"), "copied", "not available at the moment"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := scanned()
				decide := g.Resolve
				g.Resolve = func(r scan.Request) scan.Decision {
					d := decide(r)
					d.Code.State.Redeemed = true
					return d
				}
				g.First = func(ctx context.Context, _, _ int64) (time.Time, bool, error) {
					return began, true, errors.Join(c.first, ctx.Err())
				}
				g.Checks = func(ctx context.Context, _, _ int64) (int64, error) { return 5, ctx.Err() }
				g.Copied = func(ctx context.Context, _, _ int64) (bool, error) { return ctx.Err() == nil, ctx.Err() }
				g.Redeemed = func(ctx context.Context, _, _ int64) (time.Time, error) {
					<-ctx.Done()
					return time.Time{}, ctx.Err()
				}
				for _, want := range []string{`<h1 class="` + c.class + `">`, c.says,
					"<dt>Redeemed at</dt><dd>not available at the moment</dd>"} {
					assert.Contains(t, g.body(t, "en"), want, "the page does not say %q", want)
				}
			})
		})
	}
}

func TestLandingLimits_RefillPerNetwork(t *testing.T) {
	t.Parallel()
	var l limits
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	now := began
	spend := func(ip netip.Addr) (n int) {
		for ; n < 1000 && l.draw("x", ip, 1, 30, now) == 0; n++ {
		}
		return n
	}
	assert.Equal(t, spend(a), 30, "at once")
	assert.Equal(t, l.draw("x", a, 1, 30, now), 2*time.Second, "wait")
	assert.Equal(t, spend(b), 30, "another address")
	assert.True(t, l.draw("y", a, 1, 30, now) == 0 && l.draw("x", a, 1, 0, now) > 0, "another kind of page is not limited; a limit of 0 lets none pass")
	now = now.Add(10 * time.Second)
	assert.Equal(t, spend(a), 5, "after ten seconds")
	now = now.Add(-time.Hour)
	assert.Equal(t, spend(a), 0, "after the clock went back")
	now = now.Add(24 * time.Hour)
	assert.Equal(t, spend(a), 30, "after a day")
	six, near, far := netip.MustParseAddr("2001:db8::1%eth0"), netip.MustParseAddr("2001:db8::ffff"), netip.MustParseAddr("2001:db8:0:1::1")
	assert.True(t, spend(six) == 30 && spend(near) == 0 && spend(far) == 30, "an IPv6 network is not one caller")
	mapped := netip.MustParseAddr("::ffff:192.0.2.1")
	assert.True(t, spend(mapped) == 0, "a mapped address is another caller")
	// Nobody can fill the memory.
	for i := range 3 * maxBuckets {
		l.draw("x", netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1, 30, now)
	}
	n := len(l.young) + len(l.old)
	assert.True(t, n <= 2*maxBuckets, "%d buckets", n)
}

// links is a gateway for which every text is a link that opens a Mini Program; draw stands in for the drawing of its picture.
func links(draw func(text string) (string, error)) *Gateway {
	g := scanned()
	g.Resolve = func(scan.Request) scan.Decision {
		return scan.Decision{Action: scan.OpenMiniProgram, Kind: scan.ByRule, AppID: "shop"}
	}
	g.draw = draw
	return g
}

// look asks for the landing page of a link of so many bytes.
func (g *Gateway) look(ctx context.Context, length int) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	g.answer(w, r, "http://coffee.example/"+strings.Repeat("a", length-len("http://coffee.example/")), g.Resolve(scan.Request{}))
	return w
}

// Issue 11, 8: the page of a link of 2,800 bytes cost 52 ms of processor time.
func TestLandingPage_LongLinkWithoutQRImage(t *testing.T) {
	t.Parallel()
	drawn := 0
	g := links(func(text string) (string, error) {
		drawn++
		return symbol.ForScreen(text)
	})
	for _, c := range []struct{ length, drawn int }{{30, 1}, {500, 1}, {501, 0}, {2800, 0}, {4096, 0}} {
		drawn = 0
		body := g.look(t.Context(), c.length).Body.String()
		assert.True(t, drawn == c.drawn && strings.Contains(body, "<img") == (c.drawn == 1) &&
			strings.Contains(body, "too long for a QR code") == (c.drawn == 0),
			"%d bytes: %d pictures drawn, want %d: %.900s", c.length, drawn, c.drawn, body)
	}
}

func TestLandingPage_QRImageSemaphore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most, all := 0, 0, 0
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			now += n
			most, all = max(most, now), all+max(n, 0)
		}
		done := make(chan struct{})
		g := links(func(string) (string, error) {
			count(1)
			defer count(-1)
			<-done
			return "data:,", nil
		})
		var pages sync.WaitGroup
		for range 5 {
			pages.Go(func() {
				w := g.look(t.Context(), 100)
				assert.True(t, w.Code == 200 && strings.Contains(w.Body.String(), "<img"), "%d %s", w.Code, w.Body)
			})
		}
		synctest.Wait() // all that can be drawn is being drawn
		gone, leave := context.WithCancel(t.Context())
		pages.Go(func() { g.look(gone, 100) })
		synctest.Wait()
		leave() // a caller that closes early is not drawn for
		synctest.Wait()
		close(done)
		pages.Wait()
		assert.True(t, most == 2 && all == 5, "%d pictures at once, %d in all; want 2 and 5", most, all)
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
		g := links(func(string) (string, error) { return "", nil })
		s := settings.Defaults()
		s.LandingPageRateLimit = c.limit
		g.Settings = settings.NewLive(s)
		shown := 0
		for ; shown < 1000 && g.look(t.Context(), c.length).Code == 200; shown++ {
		}
		assert.Equal(t, shown, c.pages, "landing_page_rate_limit %d, %d bytes", c.limit, c.length)
	}
	// The answer to one too many says when there is enough for this very page.
	g := links(func(string) (string, error) { return "", nil })
	for range 10 {
		g.look(t.Context(), 2800)
	}
	g.look(t.Context(), 2000)
	for length, want := range map[int]string{100: "1", 2800: "6"} { // 1 and 28 of 300 a minute
		if w := g.look(t.Context(), length); w.Code != 429 || w.Header().Get("Retry-After") != want {
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
		g := scanned()
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
