package cassette_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/emulator/cassette"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// skipReasons are the allowed reasons for skipping a call: it refers to something that was created before the recording.
var skipReasons = []string{"the application was made before the recording began", "the ticket was made before the recording began",
	"the code was used before the recording began", "the code was made before the recording began",
	"the token was fetched before the recording began", "the call of this rid was made before the recording began",
	"our server cannot be brought to where the platform was: the application was made before the recording began",
	"no endpoint of this server"}

// checkReport fails the test for each difference of a report, and for each call that was skipped for a reason missing from skipReasons.
func checkReport(t *testing.T, name, text string, report cassette.Report) {
	t.Helper()
	recorded := strings.Split(text, "\n")
	for _, d := range report.Differences {
		t.Errorf("%s: difference in %s %s %s: platform %s, server %s (%v)\n%s", name, d.Endpoint, d.Kind, d.Location, d.Platform, d.Server,
			d.Behaviours, recorded[d.Line-1])
	}
	for _, skipped := range report.Skipped {
		assert.True(t, slices.Contains(skipReasons, skipped.Reason), "%s: %s is skipped, want it compared: %s\n%s", name, skipped.Endpoint,
			skipped.Reason, recorded[skipped.Line-1])
	}
}

// TestCompare_EachCallAlone compares each line as a separate cassette, with a server that has only what the line implies. make test plays
// lines of an endpoint until one is compared; TestCassette_WholeWireRoundTrip compares all of them together.
func TestCompare_EachCallAlone(t *testing.T) {
	t.Parallel()
	compared, seen := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(recordEverything(t)) {
		r := lines(t, line)[0]
		key := fmt.Sprint(r.Path, string(r.Response)[:min(len(r.Response), 60)], len(r.Query) > 0, len(r.Request) > 0)
		if seen[key] || compared[r.Path] && !testscope.IsComplete() {
			continue
		}
		seen[key] = true
		report := compare(t, line)
		checkReport(t, "line alone", line, report)
		if report.Compared > 0 {
			compared[r.Path] = true
		}
	}
	for _, path := range api.Paths() {
		needsEarlierCalls := strings.HasPrefix(path, "/intp/marketcode/") || path == "/cgi-bin/openapi/rid/get" ||
			path == "/cgi-bin/showqrcode"
		assert.True(t, needsEarlierCalls || compared[path], "no call of %s is compared alone, want at least one", path)
	}
}

// TestCompare_BeginsAnywhere begins a recording at different lines. Compare must infer earlier tokens, rules, links and authorisations from
// the lines that follow.
func TestCompare_BeginsAnywhere(t *testing.T) {
	t.Parallel()
	all := strings.SplitAfter(recordEverything(t), "\n")
	for i := 8; i < len(all)-1; i += testscope.Select(10, 40) {
		text := strings.Join(all[i:], "")
		checkReport(t, fmt.Sprint("from line ", i+1), text, compare(t, text))
	}
}

// linkedTown is theTown with accounts of several kinds, for links of several states before a recording begins.
var linkedTown = strings.Replace(theTown, "components:", `  - {appid: wx1111000022223333, kind: mini_program, name: Draft,
     secret: f1b2c3d4e5f60718293a4b5c6d7e8f91}
  - {appid: wx2222000022223333, kind: mini_program, name: Waiting, secret: f1b2c3d4e5f60718293a4b5c6d7e8f92, certified: true}
  - {appid: wx3333000022223333, kind: mini_program, name: 茶, secret: f1b2c3d4e5f60718293a4b5c6d7e8f93, certified: true,
     versions: [release]}
  - {appid: wx4444000022223333, kind: subscription_account, name: News, secret: f1b2c3d4e5f60718293a4b5c6d7e8f94}
components:`, 1)

// TestCompare_LinksFromBefore verifies that links, names and kinds of accounts from before a recording are inferred from the cassette.
func TestCompare_LinksFromBefore(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: linkedTown, Undeclared: true})
	token := s.Token(brand)
	link := func(appid string, show int, approvals ...bool) {
		s.Do("POST", "/cgi-bin/wxopen/wxamplink?access_token="+token,
			fmt.Sprintf(`{"appid":%q,"notify_users":0,"show_profile":%d}`, appid, show))
		for _, approve := range approvals {
			s.Admin("POST", "/accounts/"+brand+"/links/"+appid+"/confirm", fmt.Sprintf(`{"side":"account","approve":%t}`, approve))
		}
	}
	link(rival, 1)
	s.Clock.Step(time.Minute)
	s.Admin("PUT", "/settings", `{"link_approval_required":true}`)
	link("wx1111000022223333", 0)
	link("wx2222000022223333", 1, true)
	link("wx3333000022223333", 0, false)
	s.Admin("PUT", "/settings", `{"link_approval_required":false}`)
	platform := s.ComponentToken(isv)
	for _, appid := range []string{shop, brand, "wx4444000022223333", "wx1111000022223333"} {
		s.Authorize(platform, isv, appid, "[3]")
	}
	s.Clock.Step(time.Minute)
	proxy, out := record(t, s.URL, s.Clock.Now)
	c := &caller{t: t, base: proxy, s: s}
	c.do("POST", "/cgi-bin/wxopen/wxamplinkget?access_token="+token, `{}`)
	n := strings.Count(c.last, `"appid"`)
	require.True(t, n == 5, "wxamplinkget lists %d links, want 5: %s", n, c.last)
	for _, appid := range []string{shop, brand, "wx4444000022223333", "wx1111000022223333"} {
		c.do("POST", "/cgi-bin/component/api_get_authorizer_info?component_access_token="+platform,
			fmt.Sprintf(`{"component_appid":%q,"authorizer_appid":%q}`, isv, appid))
	}
	c.do("POST", "/cgi-bin/wxopen/wxamplink?access_token="+token, fmt.Sprintf(`{"appid":%q,"notify_users":0,"show_profile":1}`, rival))
	c.do("POST", "/cgi-bin/wxopen/wxampunlink?access_token="+token, fmt.Sprintf(`{"appid":%q}`, shop))
	c.do("POST", "/cgi-bin/wxopen/wxamplinkget?access_token="+token, `{}`)
	checkEqual(t, out.String(), 0)
}

// TestCompare_BusyAndStable verifies that Compare repeats calls that took effect although the platform returned -1, and that a stable token
// has the same age as on the platform.
func TestCompare_BusyAndStable(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown, Undeclared: true})
	stable := `{"grant_type":"client_credential","appid":"` + shop + `","secret":"` + secrets[shop] + `"}`
	s.Do("POST", "/cgi-bin/stable_token", stable, "Content-Type: application/json")
	s.Clock.Step(10 * time.Minute)
	proxy, out := record(t, s.URL, s.Clock.Now)
	c := &caller{t: t, base: proxy, s: s}
	const rules = "/cgi-bin/wxopen/qrcodejump"
	c.do("POST", "/cgi-bin/stable_token", stable)
	token := c.field("access_token")
	c.do("POST", rules+"get?access_token="+token, `{}`)
	for i, after := range []bool{true, false} {
		s.Admin("POST", "/emulator/faults",
			fmt.Sprintf(`{"path":"/cgi-bin/wxopen/qrcodejumpadd","errcode":-1,"after":%t,"remaining":1}`, after))
		c.do("POST", rules+"add?access_token="+token,
			fmt.Sprintf(`{"prefix":"https://tea.example/%d/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`, i))
	}
	c.do("POST", rules+"get?access_token="+token, `{}`)
	s.Clock.Step(time.Minute)
	c.do("POST", "/cgi-bin/stable_token", stable)
	s.Admin("POST", "/emulator/faults", `{"path":"/cgi-bin/wxopen/qrcodejumpdelete","errcode":-1,"after":true,"remaining":1}`)
	for range 2 {
		c.do("POST", rules+"delete?access_token="+token, `{"prefix":"https://tea.example/0/"}`)
	}
	c.do("POST", rules+"get?access_token="+token, `{}`)
	checkEqual(t, out.String(), 3)
}

// TestCompare_RefusedPreparation verifies that a call which took effect although the platform returned -1 is reported as skipped if this
// server issues no token for it.
func TestCompare_RefusedPreparation(t *testing.T) {
	t.Parallel()
	const call = `{"occurred_at":"2026-01-15T02:00:00Z","method":"POST","path":"/cgi-bin/wxopen/qrcodejump%s",` +
		`"query":{"access_token":"{token:1:130}"},"request":{"prefix":"https://{host:2:9}.example/{path:3:4}/"%s},"status":200,"headers":{},` +
		`"response":{"errcode":%s"}}` + "\n"
	stage := cassette.NewStage(lines(t, fmt.Sprintf(call, "add", `,"path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3`,
		`-1,"errmsg":"system error rid: {rid:4:26}`)+fmt.Sprintf(call, "publish", "", `0,"errmsg":"ok`)))
	s := servertest.Start(t, servertest.Options{Seed: string(stage.Seed()), Began: stage.Began(), Undeclared: true})
	s.Admin("PUT", "/settings", `{"token_daily_limit":1}`)
	account := regexp.MustCompile(`"appid":"([^"]+)".*?"secret":"([^"]+)"`).FindStringSubmatch(string(stage.Seed()))
	token := "/cgi-bin/token?grant_type=client_credential&appid=" + account[1] + "&secret=" + account[2]
	s.RegisterSecret(s.Do("GET", token, "").Text(t, "access_token"))
	here := cassette.Server{URL: s.URL, Token: servertest.AdminToken, Reach: func(time.Time) {}}
	report, err := cassette.Compare(t.Context(), stage, here)
	assert.True(t, err == nil && report.Compared == 0 && len(report.Skipped) == 2 && strings.Contains(report.Skipped[0].Reason, "45009"),
		"%+v, %v, want two skipped calls", report, err)
}

// TestCompare_HostInCapitals verifies that the host of a prefix is compared without case, and its path with case.
func TestCompare_HostInCapitals(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown, Undeclared: true})
	proxy, out := record(t, s.URL, s.Clock.Now)
	run := func(base string) *caller {
		c := &caller{t: t, base: base, s: s}
		const rules = "/cgi-bin/wxopen/qrcodejump"
		token := c.token(shop)
		for _, one := range [][2]string{
			{"add", `{"prefix":"HTTPS://Kaffee-haus.Example/Zimt/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`},
			{"get", `{"get_type":1,"prefix_list":["https://kaffee-HAUS.example/Zimt/"]}`},
			{"get", `{"get_type":1,"prefix_list":["https://kaffee-haus.eXample/zimt/"]}`},
			{"publish", `{"prefix":"https://kaffee-haus.example/Zimt/"}`},
			{"delete", `{"prefix":"https://KAFFEE-HAUS.example/Zimt/"}`},
		} {
			c.do("POST", rules+one[0]+"?access_token="+token, one[1])
		}
		return c
	}
	run(proxy)
	assert.True(t, !strings.Contains(strings.ToLower(out.String()), "haus"), "the cassette contains the host, want it masked:\n%s", out)
	checkEqual(t, out.String(), 0)
	base, p := newPlayer(t, out.String(), false)
	run(base)
	wrong, unused := p.Unreplayed()
	assert.True(t, len(wrong) == 0 && unused == 0, "Unreplayed() = %v, %d, want none", wrong, unused)
}

// TestCompare_RewrittenCassette verifies that a cassette in which a JSON tool changed the escaping of slashes is reported as rewritten,
// without differences.
func TestCompare_RewrittenCassette(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown, Undeclared: true})
	proxy, out := record(t, s.URL, s.Clock.Now)
	c := &caller{t: t, base: proxy, s: s}
	token := c.token(brand)
	for range 2 {
		c.do("POST", "/cgi-bin/qrcode/create?access_token="+token,
			`{"action_name":"QR_LIMIT_STR_SCENE","action_info":{"scene":{"scene_str":"table 7"}}}`)
	}
	unescaped := strings.ReplaceAll(out.String(), `\/`, "/")
	require.True(t, unescaped != out.String(), "no response contains \\/, want at least one:\n%s", unescaped)
	for name, test := range map[string]struct {
		text string
		want []int
	}{"as recorded": {out.String(), nil}, "no slash escaped": {unescaped, []int{2, 3}},
		"all slashes escaped": {strings.ReplaceAll(unescaped, "/", `\/`), []int{1, 2, 3}}} {
		report := compare(t, test.text)
		assert.True(t, len(report.Differences) == 0 && slices.Equal(report.Rewritten, test.want),
			"%s: rewritten lines %v, want %v; differences %+v", name, report.Rewritten, test.want, report.Differences)
	}
}

// TestCompare_TokenLength verifies that tokens of another length are reported as one difference for each field.
func TestCompare_TokenLength(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown, Undeclared: true})
	base, done := newDifferingServer(t, s.URL, []injected{
		{"/cgi-bin/token", 1, replaceBody(`"access_token":"`, `"access_token":"longer`), cassette.Value, "access_token"}})
	proxy, out := record(t, base, s.Clock.Now)
	c := &caller{t: t, base: proxy, s: s}
	long := c.token(shop)
	c.token(rival)
	done()
	report := compare(t, out.String())
	assert.True(t, len(report.Differences) == 1 && report.Differences[0].Location == "access_token" &&
		report.Differences[0].Platform == fmt.Sprint(len(long), " characters"),
		"compare = %+v, want one difference, of the %d characters of line 1", report.Differences, len(long))
}
