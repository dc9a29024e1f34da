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

// used is how many calls of an interface an account made today.
func used(t *testing.T, s *servertest.Server, appid, path string) int {
	t.Helper()
	a := as(appid, quotaOf, fmt.Sprintf(`{"cgi_path":%q}`, path))(s)
	var reply struct {
		Quota struct{ Daily_limit, Used, Remain int }
	}
	if a.JSON(t, &reply); a.Code(t) != 0 || reply.Quota.Used+reply.Quota.Remain != reply.Quota.Daily_limit {
		t.Fatalf("quota of %s: %s", path, a.Body)
	}
	return reply.Quota.Used
}

func wantUsed(t *testing.T, s *servertest.Server, appid, path string, want int) {
	t.Helper()
	if got := used(t, s, appid, path); got != want {
		t.Errorf("%s called %s %d times today, want %d", appid, path, got, want)
	}
}

// Contract: rules 3.1: what quota/get shows is what was called, each account
// and interface for itself, whatever the call answered; who is not let in
// counts for nothing.
func TestQuotaGet_CountsEveryCall(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	for range 3 {
		as("shop", getPath, "{}")(s)
	}
	as("shop", getPath, "not JSON")(s)
	as("shop", getPath, `{"get_type":9}`)(s)
	as("rival", getPath, "{}")(s)
	as("person", getPath, "{}")(s)
	post(getPath, "{}")(s)
	post(getPath+"?access_token=109_"+strings.Repeat("x", 128), "{}")(s)
	wantUsed(t, s, "shop", getPath, 5)
	wantUsed(t, s, "rival", getPath, 1)
	wantUsed(t, s, "third", getPath, 0)

	// With a secret: a right one counts.
	for range 2 {
		s.Hide(tokenOf(t, post(stablePath, stable("shop"))(s)))
	}
	post(stablePath, `{"grant_type":"client_credential","appid":"shop","secret":"wrong"}`)(s)
	wantUsed(t, s, "shop", stablePath, 2)
	before := used(t, s, "shop", tokenPath)
	fetch("client_credential", "shop", "wrong")(s)
	wantUsed(t, s, "shop", tokenPath, before)
	s.NewToken("shop")
	wantUsed(t, s, "shop", tokenPath, before+1)
	// The operator's look at the token is no call of the account.
	post(clearBySecret+"?appid=shop&appsecret=wrong", "")(s)
	wantUsed(t, s, "shop", clearBySecret, 0)
	// A call that is refused for its rate counts for nothing.
	s.Admin("PUT", "/settings", `{"rule_rate_limit":1}`)
	for range 3 {
		as("third", getPath, "{}")(s)
	}
	s.Admin("PUT", "/settings", `{"rule_rate_limit":null}`)
	wantUsed(t, s, "third", getPath, 1)
}

func tokenOf(t *testing.T, a servertest.Answer) string {
	t.Helper()
	var issued struct {
		Token string `json:"access_token"`
	}
	if a.JSON(t, &issued); issued.Token == "" {
		t.Fatalf("no token: %s", a.Body)
	}
	return issued.Token
}

// The day's limit lets exactly so many through, however many come at once, and
// a call that it refuses counts for nothing.
func TestDailyQuota_ConcurrentExact(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	s.Admin("PUT", "/settings", fmt.Sprintf(`{"daily_limits":{%q:100,%q:3}}`, getPath, stablePath))
	codes := atOnce(t, s, 32, 5, "POST", getPath+"?access_token="+s.Token("shop"), "{}")
	assert.True(t, codes[0] == 100 && codes[45009] == 60, "160 calls at once: %v", codes)
	wantUsed(t, s, "shop", getPath, 100)
	as("rival", getPath, "{}")(s).WantCode(t, 0, "another account")
	for n, want := range []int{0, 0, 0, 45009, 45009} {
		a := post(stablePath, stable("shop"))(s)
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

// The limit of an account's day ends with the day of the settings' zone.
func TestDailyQuota_ResetAtMidnight(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	for _, zone := range []int{8, 0} {
		s.Renew(t)
		s.Admin("PUT", "/settings", fmt.Sprintf(`{"utc_offset_hours":%d,"daily_limits":{%q:1}}`, zone, getPath))
		midnight := time.Date(2026, 1, 16, 0, 0, 0, 0, time.FixedZone("", zone*3600))
		s.Admin("PUT", "/emulator/clock", fmt.Sprintf(`{"now":%q}`, midnight.Add(-time.Second).Format(time.RFC3339)))
		for n, want := range []int{0, 45009} {
			as("shop", getPath, "{}")(s).WantCode(t, want, "zone %d, call %d before midnight", zone, n+1)
		}
		s.Advance(time.Second)
		wantUsed(t, s, "shop", getPath, 0)
		as("shop", getPath, "{}")(s).WantCode(t, 0, "zone %d, after midnight", zone)
	}
}

// Contract: rules 3.1: the account's own limit opens again with a clear.
func TestClearQuota_ReopensDay(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	s.Admin("PUT", "/settings", fmt.Sprintf(`{"token_daily_limit":2,"daily_limits":{%q:1,%q:1}}`, getPath, downloadPath))
	for _, clear := range []struct {
		name  string
		how   how
		opens bool // the other interface as well
	}{
		{"all, by token", as("shop", clearQuota, `{"appid":"shop"}`), true},
		{"all, by secret", post(clearBySecret+"?appid=shop&appsecret=secret-shop", ""), true},
		{"one", as("shop", clearOne, fmt.Sprintf(`{"cgi_path":%q}`, getPath)), false},
	} {
		as("shop", getPath, "{}")(s)
		as("shop", downloadPath, "{}")(s)
		if a := as("shop", getPath, "{}")(s); a.Code(t) != 45009 {
			t.Fatalf("%s: before: %s", clear.name, a.Body)
		}
		require.Equal(t, clear.how(s).Body, `{"errcode":0,"errmsg":"ok"}`, "%s", clear.name)
		as("shop", getPath, "{}")(s).WantCode(t, 0, "%s: after", clear.name)
		want := 45009
		if clear.opens {
			want = 0
		}
		as("shop", downloadPath, "{}")(s).WantCode(t, want, "%s: the other interface", clear.name)
	}
	// The limit of tokens, which is counted elsewhere, opens too: without it
	// nobody could come back.
	for range 3 {
		fetch("client_credential", "rival", "secret-rival")(s)
	}
	if a := fetch("client_credential", "rival", "secret-rival")(s); a.Code(t) != 45009 {
		t.Fatalf("before: %s", a.Body)
	}
	post(clearBySecret+"?appid=rival&appsecret=secret-rival", "")(s)
	s.NewToken("rival")
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
		post(clearBySecret+"?appid=rival&appsecret=wrong", "")(s)
	}
	for n := range 11 {
		if a, want := as("rival", clearQuota, `{"appid":"rival"}`)(s), map[bool]int{true: 0, false: 48006}[n < 10]; a.Code(t) != want {
			t.Errorf("clear %d of another account: %s, want %d", n+1, a.Body, want)
		}
	}
	// The month is the settings' zone's: it ends here, and not eight hours later.
	end := time.Date(2026, 2, 1, 0, 0, 0, 0, time.FixedZone("", 8*3600))
	for _, c := range []struct {
		at   time.Time
		want int
	}{{end.Add(-time.Second), 48006}, {end, 0}} {
		s.Admin("PUT", "/emulator/clock", fmt.Sprintf(`{"now":%q}`, c.at.Format(time.RFC3339)))
		post(clearBySecret+"?appid=shop&appsecret=secret-shop", "")(s).WantCode(t, c.want, "at %s", c.at)
	}
}

// atOnce makes a call from many connections, some times on each, and counts
// what came.
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
	if again := ask(s); again != shown {
		t.Errorf("before the stop\n%s\nafter\n%s", shown, again)
	}
	for n, want := range []int{0, 45009} {
		as("shop", getPath, "{}")(s).WantCode(t, want, "call %d after the start", n+8)
	}
	for n := range 10 { // one of the ten was used before
		if a, want := as("shop", clearQuota, `{"appid":"shop"}`)(s), map[bool]int{true: 0, false: 48006}[n < 9]; a.Code(t) != want {
			t.Errorf("clear %d: %s, want %d", n+2, a.Body, want)
		}
	}
}

// Settings of the quotas that cannot be are refused with one line that names
// what is wrong, and change nothing.
func TestQuotaSettings_Invalid(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	put := func(body string) servertest.Answer {
		return s.Do("PUT", "/admin/v1/settings", body, "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
	}
	before := s.Admin("GET", "/settings", "").Body
	for body, want := range map[string]string{
		`{"daily_limits":{"/cgi-bin/nothing":5}}`:              "no endpoint has the path /cgi-bin/nothing",
		`{"daily_limits":{"cgi-bin/stable_token":5}}`:          "want the path of an interface",
		`{"daily_limits":{"/cgi-bin/stable_token":0}}`:         "is 0: want 1 to",
		`{"daily_limits":{"/cgi-bin/stable_token":-1}}`:        "is -1: want 1 to",
		`{"daily_limits":{"/cgi-bin/stable_token":"5"}}`:       "want an object of numbers",
		`{"daily_limits":[]}`:                                  "want an object of numbers",
		`{"daily_limits":{"/cgi-bin/token":5}}`:                "token_daily_limit",
		`{"daily_limits":{"/intp/marketcode/applycode":5}}`:    "1000 a day",
		`{"DAILY_LIMITS":{"/cgi-bin/nothing":5}}`:              "no endpoint has the path",
		`{"call_log_max_rows":-1}`:                             "call_log_max_rows is -1",
		`{"api_ips":["nowhere"]}`:                              `api_ips has \"nowhere\"`,
		`{"api_ips":"127.0.0.1"}`:                              "want a list of addresses",
		`{"callback_ips":["10.0.0.0/33"]}`:                     "callback_ips has",
		`{"callback_ips":["` + strings.Repeat("1", 99) + `"]}`: "callback_ips has",
	} {
		if a := put(body); a.Status != http.StatusUnprocessableEntity || !strings.Contains(a.Body, want) {
			t.Errorf("%s: %d %s, want 422 with %s", body, a.Status, a.Body, want)
		}
	}
	if after := s.Admin("GET", "/settings", "").Body; after != before {
		t.Errorf("before %s\nafter %s", before, after)
	}
	// A map is replaced, not mixed; null changes nothing.
	put(fmt.Sprintf(`{"daily_limits":{%q:5}}`, getPath))
	if a := put(fmt.Sprintf(`{"daily_limits":{%q:6}}`, addPath)); strings.Contains(a.Body, getPath) ||
		!strings.Contains(a.Body, `"`+addPath+`":6`) {
		t.Errorf("%s", a.Body)
	}
	if a := put(`{"daily_limits":null,"api_ips":null}`); !strings.Contains(a.Body, `"`+addPath+`":6`) ||
		!strings.Contains(a.Body, `"api_ips":[]`) {
		t.Errorf("%s", a.Body)
	}
	bad := strings.Replace(town, "rule_rate_limit: null", `rule_rate_limit: null, daily_limits: {"/cgi-bin/nothing": 5}`, 1)
	if _, err := servertest.Try(t, servertest.Options{Seed: bad}); err == nil || !strings.Contains(err.Error(), "line ") ||
		!strings.Contains(err.Error(), "/cgi-bin/nothing") {
		t.Errorf("a seed: %v", err)
	}
}

// Contract: rules 1.9, marketcode 1: 45011 only where a setting limits the
// minute of service accounts.
func TestRateLimit_ServiceAccountMinute(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	s.Admin("PUT", "/emulator/clock", `{"freeze":true}`)
	call := func(name, appid, path string, want int) {
		t.Helper()
		as(appid, path, "{}")(s).WantCode(t, want, "%s", name)
	}
	for range 5 {
		call("without the setting", "svc", getPath, 0)
	}
	s.Admin("PUT", "/settings", `{"service_rate_limit_per_minute":2}`)
	call("the first", "svc", getPath, 0)
	call("the second", "svc", getPath, 0)
	checkText(t, as("svc", getPath, "{}")(s), 45011, "api minute-quota reach limit, must slower, retry next minute")
	call("another interface", "svc", "/cgi-bin/wxopen/qrcodejumpdownload", 0)
	for range 5 {
		call("a Mini Program", "shop", getPath, 0)
	}
	token, _ := s.AuthorizerToken(s.ComponentToken("isv"), "isv", "svc")
	s.Do("POST", getPath+"?access_token="+token, "{}").WantCode(t, 45011, "a platform for it")
	s.Advance(time.Minute)
	call("the next minute", "svc", getPath, 0)
	assert.True(t, !strings.Contains(s.Log(), "undeclared"), "45011 is not declared")
}
