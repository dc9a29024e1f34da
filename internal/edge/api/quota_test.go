package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const (
	clearQuotaPath         = "/cgi-bin/clear_quota"
	clearQuotaV2Path       = "/cgi-bin/clear_quota/v2"
	clearEndpointQuotaPath = "/cgi-bin/openapi/quota/clear"
	quotaGetPath           = "/cgi-bin/openapi/quota/get"
	ridGetPath             = "/cgi-bin/openapi/rid/get"
)

func wantUsed(t *testing.T, s *servertest.Server, appid, path string, want int) {
	t.Helper()
	a := post(s, appid, quotaGetPath, fmt.Sprintf(`{"cgi_path":%q}`, path))
	var reply struct {
		Quota struct{ Daily_limit, Used, Remain int }
	}
	a.JSON(t, &reply)
	require.True(t, a.Code(t) == 0 && reply.Quota.Used+reply.Quota.Remain == reply.Quota.Daily_limit, "quota of %s: %s", path, a.Body)
	got := reply.Quota.Used
	assert.True(t, got == want, "used quota of %s for %s = %d, want %d", appid, path, got, want)
}

// TestDailyQuota_ConcurrentExact verifies that concurrent calls succeed exactly up to the daily limit, that rejected calls do not
// count, and that a changed limit takes effect with the next call.
func TestDailyQuota_ConcurrentExact(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	s.Admin("PUT", "/settings", fmt.Sprintf(`{"daily_limits":{%q:100,%q:3}}`, getPath, stablePath))
	path := getPath + "?access_token=" + s.Token("shop")
	codes := callConcurrently(t, s, 32, 5, func(int) *http.Request { return s.Request("POST", path, "{}") })
	assert.True(t, codes[0] == 100 && codes[45009] == 60, "responses to 160 calls by errcode: %v, want 100 of 0 and 60 of 45009", codes)
	wantUsed(t, s, "shop", getPath, 100)
	post(s, "rival", getPath, "{}").WantCode(t, 0, "another account")
	for n, want := range []int{0, 0, 0, 45009, 45009} {
		a := s.Do("POST", stablePath, stableTokenBody("shop"))
		if a.Code(t) != want {
			t.Errorf("stable_token call %d = %s, want errcode %d", n+1, a.Body, want)
		} else if want == 0 {
			s.RegisterSecret(a.Text(t, "access_token"))
		}
	}
	s.Admin("PUT", "/settings", fmt.Sprintf(`{"daily_limits":{%q:101}}`, getPath))
	for n, want := range []int{0, 45009} {
		post(s, "shop", getPath, "{}").WantCode(t, want, "call %d above the old limit", n+1)
	}
	s.Admin("PUT", "/settings", `{"daily_limits":{}}`)
	post(s, "shop", getPath, "{}").WantCode(t, 0, "without a limit for the endpoint")
	wantUsed(t, s, "shop", getPath, 102)
}

// TestClearQuota_TenPerMonth sends 32 concurrent clears through all three endpoints, of which exactly ten must succeed. A clear that
// fails for another reason does not count. Contract: rules 3.1: ten a calendar month for all endpoints together.
func TestClearQuota_TenPerMonth(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	token := s.Token("shop")
	codes := callConcurrently(t, s, 32, 1, func(client int) *http.Request {
		switch client % 3 {
		case 0:
			return s.Request("POST", clearQuotaPath+"?access_token="+token, `{"appid":"shop"}`)
		case 1:
			return s.Request("POST", clearEndpointQuotaPath+"?access_token="+token, fmt.Sprintf(`{"cgi_path":%q}`, getPath))
		}
		return s.Request("POST", clearQuotaV2Path+"?appid=shop&appsecret=secret-shop", "")
	})
	assert.True(t, codes[0] == 10 && codes[48006] == 22, "responses to 32 clears by errcode: %v, want 10 of 0 and 22 of 48006", codes)
	for range 12 {
		post(s, "rival", clearQuotaPath, `{"appid":"shop"}`)
		post(s, "rival", clearEndpointQuotaPath, `{"cgi_path":"/cgi-bin/nothing"}`)
		s.Do("POST", clearQuotaV2Path+"?appid=rival&appsecret=wrong", "")
	}
	for n := range 11 {
		a, want := post(s, "rival", clearQuotaPath, `{"appid":"rival"}`), map[bool]int{true: 0, false: 48006}[n < 10]
		assert.True(t, a.Code(t) == want, "clear %d of another account = %s, want errcode %d", n+1, a.Body, want)
	}
	// The month ends in the time zone of the settings, eight hours before it ends in UTC.
	end := time.Date(2026, 2, 1, 0, 0, 0, 0, time.FixedZone("", 8*3600))
	for _, c := range []struct {
		now  time.Time
		want int
	}{{end.Add(-time.Second), 48006}, {end, 0}} {
		s.Admin("PUT", "/emulator/clock", fmt.Sprintf(`{"now":%q}`, c.now.Format(time.RFC3339)))
		s.Do("POST", clearQuotaV2Path+"?appid=shop&appsecret=secret-shop", "").WantCode(t, c.want, "at %s", c.now)
	}
}

// callConcurrently sends requests from concurrent clients, each so many times in a row, and counts the responses by errcode.
func callConcurrently(t *testing.T, s *servertest.Server, clients, times int, request func(client int) *http.Request) map[int]int {
	t.Helper()
	codes := map[int]int{}
	var mu sync.Mutex
	var running sync.WaitGroup
	for client := range clients {
		running.Go(func() {
			for range times {
				a, err := s.TrySend(request(client))
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
	running.Wait()
	return codes
}

// TestCountsAndCallLog_AfterRestart verifies that daily counts, the monthly count of clears and the call log survive a restart.
func TestCountsAndCallLog_AfterRestart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := servertest.Start(t, servertest.Options{Seed: town, Data: folder})
	s.Admin("PUT", "/settings", fmt.Sprintf(`{"daily_limits":{%q:8}}`, getPath))
	var last string
	for range 7 {
		last = post(s, "shop", getPath, `{"get_type":9}`).RID(t)
	}
	post(s, "shop", clearQuotaPath, `{"appid":"shop"}`)
	for range 7 {
		last = post(s, "shop", getPath, `{"get_type":9}`).RID(t)
	}
	request := fmt.Sprintf(`{"rid":%q}`, last)
	before := post(s, "shop", ridGetPath, request)
	before.WantCode(t, 0, "rid/get before the restart")
	s.Stop()
	s = servertest.Start(t, servertest.Options{Seed: town, Data: folder})
	wantUsed(t, s, "shop", getPath, 7)
	assert.Equal(t, post(s, "shop", ridGetPath, request).Body, before.Body, "rid/get after the restart")
	for n, want := range []int{0, 45009} {
		post(s, "shop", getPath, "{}").WantCode(t, want, "call %d after the start", n+8)
	}
	for n := range 10 { // one of the ten was used before the restart
		a, want := post(s, "shop", clearQuotaPath, `{"appid":"shop"}`), map[bool]int{true: 0, false: 48006}[n < 9]
		assert.True(t, a.Code(t) == want, "clear %d = %s, want errcode %d", n+2, a.Body, want)
	}
}

func TestSeed_InvalidQuotaSetting(t *testing.T) {
	t.Parallel()
	bad := strings.Replace(town, "rule_rate_limit: null", `rule_rate_limit: null, daily_limits: {"/cgi-bin/nothing": 5}`, 1)
	_, err := servertest.TryStart(t, servertest.Options{Seed: bad})
	assert.True(t, err != nil && strings.Contains(err.Error(), "line ") && strings.Contains(err.Error(), "/cgi-bin/nothing"),
		"Start with an unknown path in daily_limits = %v, want an error with its line", err)
}
