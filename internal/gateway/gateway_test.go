package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/scan"
	"github.com/qrjump/qrjump/internal/settings"
)

var began = time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)

// scanned is a gateway that knows one active code.
func scanned() *Gateway {
	return &Gateway{
		Resolve: func(scan.Request) scan.Decision {
			return scan.Decision{Action: scan.OpenMiniProgram, Kind: scan.ByCode, Code: codes.Scanned{Found: codes.Found{Batch: codes.Batch{ID: 7}, Index: 3, Code: "ABCDEF123",
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
	g.Try().ServeHTTP(w, r)
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestAPageTellsHowOftenACodeWasChecked(t *testing.T) {
	t.Parallel()
	var first time.Time
	var count int64
	var fault error
	g := scanned()
	g.First = func(_ context.Context, batch, index int64) (time.Time, bool, error) {
		if batch != 7 || index != 3 {
			t.Errorf("asked of code %d of batch %d", index, batch)
		}
		return first, !first.IsZero(), fault
	}
	g.Checks = func(context.Context, int64, int64) (int64, error) { return count, nil }
	for _, c := range []struct {
		name          string
		first         time.Time
		count         int64
		fault         error
		english, says string
	}{
		{"never", time.Time{}, 0, nil, "never checked", "尚未被应用查询过"},
		{"once", began, 1, nil, "15 January 2026, 10:00 (UTC&#43;08:00)</time>", "2026年1月15日 10:00（UTC&#43;08:00）</time>"},
		{"once, and not counted yet", began, 0, nil, "<dd>Checked once</dd>", "已查询 1 次"},
		{"often", began, 1234, nil, "Checked 1234 times", "已查询 1234 次"},
		{"nobody can tell", began, 1, errors.New("the database is away"), "not available at the moment", "暂时无法获取"},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, count, fault = c.first, c.count, c.fault
			for language, want := range map[string]string{"en-GB": c.english, "zh": c.says} {
				if got := g.body(t, language); !strings.Contains(got, want) {
					t.Errorf("%s: the page does not say %q: %s", language, want, got)
				}
			}
		})
	}
}

func TestTheLanguageIsTheOneThatTheBrowserPrefers(t *testing.T) {
	t.Parallel()
	for header, chinese := range map[string]bool{
		"": false, "zh": true, "zh-CN,zh;q=0.9,en;q=0.8": true, "ZH-hant-TW": true, "en-US,en;q=0.9,zh;q=0.8": false, "en;q=0.1, zh;q=0.2": true,
		"fr-FR, de": false, "fr, zh;q=0.1": true, "*": false, "zh;q=0": false, "zh;q=x": false, "zh;Q=0.1, en": false, "zh;\tq=0.1,en": false, "zh;q=NaN": false, "zh;q=2, en;q=0.1": false, "zhx": false, ";;;,,,": false,
	} {
		if got := wantsChinese(header); got != chinese {
			t.Errorf("%q: %v", header, got)
		}
	}
}

func TestALimitRefillsEvenlyAndKnowsNetworks(t *testing.T) {
	t.Parallel()
	var l limits
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	now := began
	spend := func(ip netip.Addr) (n int) {
		for ; n < 1000 && l.take("x", ip, 30, now) == 0; n++ {
		}
		return n
	}
	if n := spend(a); n != 30 {
		t.Errorf("%d at once", n)
	}
	if wait := l.take("x", a, 30, now); wait != 2*time.Second {
		t.Errorf("wait %v", wait)
	}
	if n := spend(b); n != 30 {
		t.Errorf("another address: %d", n)
	}
	if l.take("y", a, 30, now) != 0 || l.take("x", a, 0, now) != 0 {
		t.Error("another kind of page, or no limit, is not limited")
	}
	now = now.Add(10 * time.Second)
	if n := spend(a); n != 5 {
		t.Errorf("%d after ten seconds", n)
	}
	now = now.Add(-time.Hour)
	if n := spend(a); n != 0 {
		t.Errorf("%d after the clock went back", n)
	}
	now = now.Add(24 * time.Hour)
	if n := spend(a); n != 30 {
		t.Errorf("%d after a day", n)
	}
	six, near, far := netip.MustParseAddr("2001:db8::1%eth0"), netip.MustParseAddr("2001:db8::ffff"), netip.MustParseAddr("2001:db8:0:1::1")
	if spend(six) != 30 || spend(near) != 0 || spend(far) != 30 {
		t.Error("an IPv6 network is not one caller")
	}
	if mapped := netip.MustParseAddr("::ffff:192.0.2.1"); spend(mapped) != 0 {
		t.Error("a mapped address is another caller")
	}
	// Nobody can fill the memory.
	for i := range 3 * maxBuckets {
		l.take("x", netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 30, now)
	}
	if n := len(l.young) + len(l.old); n > 2*maxBuckets {
		t.Errorf("%d buckets", n)
	}
}

func TestOnlyNamesOfOthersArePageHosts(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"Coffee.Example": "coffee.example", "coffee.example:80": "coffee.example", "coffee.example:8080": "coffee.example:8080", "coffee.example:443": "coffee.example:443",
		"localhost": "", "localhost:8080": "", "x.localhost": "", "127.0.0.1": "", "127.0.0.1:80": "", "[::1]:80": "", "::1": "", "": "", "api.weixin.qq.com": "",
		"a b": "", "a/b": "", "<script>": "", "é.example": "", "a%00": "", strings.Repeat("a", 300): "",
	} {
		got, ok := pageHost(header, "http")
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q %v, want %q", header, got, ok, want)
		}
	}
	if got, _ := pageHost("coffee.example:443", "https"); got != "coffee.example" {
		t.Errorf("https: %q", got)
	}
}

func TestATemplateGivesOneAddress(t *testing.T) {
	t.Parallel()
	for scheme, want := range map[string]string{
		"app://{appid}/{path}?{query}": "app://a%2Fb/p%2Fq%20r?x%3D%7Bpath%7D%26y%3D%2520", "app:open": "app:open", "": "", "https://x": "",
	} {
		got, ok := launchAddress(accounts.Account{AppID: "a/b", URLScheme: scheme}, "p/q r?x={path}&y=%20")
		if ok != (want != "") || got != want {
			t.Errorf("%q: %q %v", scheme, got, ok)
		}
	}
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
		if got := fmt.Sprint(w.Code, strings.Count(w.Body.String(), "<script"), strings.Count(w.Body.String(), "<style>"), strings.Count(w.Body.String(), "</main>")); got != "200 0 1 1" {
			t.Errorf("%q %q: %s: %s", text, name, got, w.Body)
		}
	})
}
