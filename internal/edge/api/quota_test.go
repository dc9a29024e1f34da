package api_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const (
	clearQuota    = "/cgi-bin/clear_quota"
	clearBySecret = "/cgi-bin/clear_quota/v2"
	clearOne      = "/cgi-bin/openapi/quota/clear"
	quotaOf       = "/cgi-bin/openapi/quota/get"
	ridOfCall     = "/cgi-bin/openapi/rid/get"
)

// ridOf is the request id at the end of an error's text.
func ridOf(a servertest.Answer) string {
	m := regexp.MustCompile(`rid: ([0-9a-f-]{26})"`).FindStringSubmatch(a.Body)
	if m == nil {
		return "no request id in " + a.Body
	}
	return m[1]
}

func wantUsed(t *testing.T, s *servertest.Server, appid, path string, want int) {
	t.Helper()
	a := as(appid, quotaOf, fmt.Sprintf(`{"cgi_path":%q}`, path))(s)
	var reply struct {
		Quota struct{ Daily_limit, Used, Remain int }
	}
	a.JSON(t, &reply)
	require.True(t, a.Code(t) == 0 && reply.Quota.Used+reply.Quota.Remain == reply.Quota.Daily_limit, "quota of %s: %s", path, a.Body)
	got := reply.Quota.Used
	assert.True(t, got == want, "%s called %s %d times today, want %d", appid, path, got, want)
}

func tokenOf(t *testing.T, a servertest.Answer) string {
	t.Helper()
	issued := a.Text(t, "access_token")
	require.True(t, issued != "", "no token: %s", a.Body)
	return issued
}

// The day's limit lets exactly so many through, however many come at once, and a call that it refuses counts for nothing.
func TestDailyQuota_ConcurrentExact(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	s.Admin("PUT", "/settings", fmt.Sprintf(`{"daily_limits":{%q:100,%q:3}}`, getPath, stablePath))
	codes := atOnce(t, s, 32, 5, "POST", getPath+"?access_token="+s.Token("shop"), "{}")
	assert.True(t, codes[0] == 100 && codes[45009] == 60, "160 calls at once: %v", codes)
	wantUsed(t, s, "shop", getPath, 100)
	as("rival", getPath, "{}")(s).WantCode(t, 0, "another account")
	for n, want := range []int{0, 0, 0, 45009, 45009} {
		a := s.Do("POST", stablePath, stable("shop"))
		if a.Code(t) != want {
			t.Errorf("stable_token call %d: %s", n+1, a.Body)
		} else if want == 0 {
			s.Hide(tokenOf(t, a))
		}
	}
	// A higher limit holds at once, a lower one as well.
	s.Admin("PUT", "/settings", fmt.Sprintf(`{"daily_limits":{%q:101}}`, getPath))
	for n, want := range []int{0, 45009} {
		as("shop", getPath, "{}")(s).WantCode(t, want, "call %d above the old limit", n+1)
	}
	s.Admin("PUT", "/settings", `{"daily_limits":{}}`)
	as("shop", getPath, "{}")(s).WantCode(t, 0, "without a limit of its own")
	wantUsed(t, s, "shop", getPath, 102)
}

// Contract: rules 3.1: ten a calendar month for all ways together. Of many at
// once exactly ten succeed.
func TestClearQuota_TenPerMonth(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	token := s.Token("shop")
	codes := map[int]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			ways := []*http.Request{
				s.Request("POST", clearQuota+"?access_token="+token, `{"appid":"shop"}`),
				s.Request("POST", clearOne+"?access_token="+token, fmt.Sprintf(`{"cgi_path":%q}`, getPath)),
				s.Request("POST", clearBySecret+"?appid=shop&appsecret=secret-shop", ""),
			}
			a, err := s.TrySend(ways[i%len(ways)])
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			codes[a.Code(t)]++
		})
	}
	all.Wait()
	assert.True(t, codes[0] == 10 && codes[48006] == 22, "32 clears at once: %v", codes)
	// One that fails for another reason uses none.
	for range 12 {
		as("rival", clearQuota, `{"appid":"shop"}`)(s)
		as("rival", clearOne, `{"cgi_path":"/cgi-bin/nothing"}`)(s)
		s.Do("POST", clearBySecret+"?appid=rival&appsecret=wrong", "")
	}
	for n := range 11 {
		a, want := as("rival", clearQuota, `{"appid":"rival"}`)(s), map[bool]int{true: 0, false: 48006}[n < 10]
		assert.True(t, a.Code(t) == want, "clear %d of another account: %s, want %d", n+1, a.Body, want)
	}
	// The month is the settings' zone's: it ends here, and not eight hours later.
	end := time.Date(2026, 2, 1, 0, 0, 0, 0, time.FixedZone("", 8*3600))
	for _, c := range []struct {
		at   time.Time
		want int
	}{{end.Add(-time.Second), 48006}, {end, 0}} {
		s.Admin("PUT", "/emulator/clock", fmt.Sprintf(`{"now":%q}`, c.at.Format(time.RFC3339)))
		s.Do("POST", clearBySecret+"?appid=shop&appsecret=secret-shop", "").WantCode(t, c.want, "at %s", c.at)
	}
}

// atOnce makes a call from many connections, some times on each, and counts what came.
func atOnce(t *testing.T, s *servertest.Server, clients, times int, method, path, body string) map[int]int {
	t.Helper()
	codes := map[int]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range times {
				a, err := s.TrySend(s.Request(method, path, body))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				codes[a.Code(t)]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return codes
}

// The counts and the log of a server are there after it stopped and started.
func TestCountsAndCallLog_AfterRestart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := servertest.Start(t, servertest.Options{Seed: town, Data: folder})
	s.Admin("PUT", "/settings", fmt.Sprintf(`{"daily_limits":{%q:8}}`, getPath))
	var last string
	for range 7 {
		last = ridOf(as("shop", getPath, `{"get_type":9}`)(s))
	}
	as("shop", clearQuota, `{"appid":"shop"}`)(s)
	for range 7 {
		last = ridOf(as("shop", getPath, `{"get_type":9}`)(s))
	}
	ask := func(s *servertest.Server) string {
		t.Helper()
		a := as("shop", ridOfCall, fmt.Sprintf(`{"rid":%q}`, last))(s)
		require.True(t, a.Code(t) == 0, "%s: %s", last, a.Body)
		return a.Body
	}
	shown := ask(s)
	s.Stop()
	s = servertest.Start(t, servertest.Options{Seed: town, Data: folder})
	wantUsed(t, s, "shop", getPath, 7)
	assert.Equal(t, ask(s), shown, "before the stop\n%s\nafter", shown)
	for n, want := range []int{0, 45009} {
		as("shop", getPath, "{}")(s).WantCode(t, want, "call %d after the start", n+8)
	}
	for n := range 10 { // one of the ten was used before
		a, want := as("shop", clearQuota, `{"appid":"shop"}`)(s), map[bool]int{true: 0, false: 48006}[n < 9]
		assert.True(t, a.Code(t) == want, "clear %d: %s, want %d", n+2, a.Body, want)
	}
}

func TestSeed_InvalidQuotaSetting(t *testing.T) {
	t.Parallel()
	bad := strings.Replace(town, "rule_rate_limit: null", `rule_rate_limit: null, daily_limits: {"/cgi-bin/nothing": 5}`, 1)
	_, err := servertest.Try(t, servertest.Options{Seed: bad})
	assert.True(t, err != nil && strings.Contains(err.Error(), "line ") && strings.Contains(err.Error(), "/cgi-bin/nothing"),
		"a seed: %v", err)
}
