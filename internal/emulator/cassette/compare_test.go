package cassette_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/emulator/cassette"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// injected is a difference that a test injects into the response of the nth call of an endpoint.
type injected struct {
	path   string
	nth    int
	change func(status *int, header http.Header, body string) string
	kind   cassette.Kind
	fields string // locations of the reported differences
}

// replaceBody returns a change that replaces a regular expression in a body.
func replaceBody(pattern, by string) func(*int, http.Header, string) string {
	return func(_ *int, _ http.Header, body string) string {
		return regexp.MustCompile(pattern).ReplaceAllString(body, by)
	}
}

var injectedDifferences = []injected{
	{"/cgi-bin/get_api_domain_ip", 1, func(_ *int, h http.Header, body string) string {
		h.Set("Content-Type", "application/json; charset=utf-8")
		return body
	}, cassette.Header, "Content-Type"},
	{"/cgi-bin/getcallbackip", 1, func(_ *int, h http.Header, body string) string {
		h.Del("Cache-Control")
		return body
	}, cassette.Header, "Cache-Control"},
	{"/cgi-bin/clear_quota", 1, func(status *int, _ http.Header, body string) string {
		*status = 201
		return body
	}, cassette.Status, "status"},
	{"/cgi-bin/wxopen/qrcodejumpadd", 5, replaceBody("85071", "85072"), cassette.Number, "errcode"},
	{"/cgi-bin/wxopen/qrcodejumppublish", 2, replaceBody("40097", "85066"), cassette.Number, "errcode"},
	{"/cgi-bin/component/api_create_preauthcode", 1, replaceBody(`^.*"pre_auth_code"(.*)$`, `{"errcode":0,"errmsg":"ok","pre_auth_code"$1`),
		cassette.Field, "errcode errmsg"},
	{"/cgi-bin/token", 5, replaceBody("invalid appid", "appid is invalid"), cassette.Text, "errmsg"},
	{"/cgi-bin/wxopen/qrcodejumpadd", 2, replaceBody("empty post data", "empty data"), cassette.Text, "errmsg"},
	{"/cgi-bin/wxopen/qrcodejumpget", 3, replaceBody(` rid: [-0-9a-f]+`, ""), cassette.Text, "errmsg"},
	{"/sns/jscode2session", 3, replaceBody(", rid:", " rid:"), cassette.Text, "errmsg"},
	{"/cgi-bin/wxopen/qrcodejumpget", 4, replaceBody(`"list_size":[0-9]+,`, ""), cassette.Field, "list_size"},
	{"/cgi-bin/wxopen/qrcodejumpdownload", 1, replaceBody(`}$`, `,"file_size":32}`), cassette.Field, "file_size"},
	{"/cgi-bin/component/api_get_authorizer_info", 1, replaceBody(`"idc":1,`, ""), cassette.Field, "authorizer_info.idc"},
	{"/cgi-bin/wxopen/qrcodejumpget", 5, replaceBody(`"qrcodejump_open":1`, `"qrcodejump_open":"1"`), cassette.Type, "qrcodejump_open"},
	{"/intp/marketcode/applycodequery", 1, replaceBody(`"application_id":([0-9]+)`, `"application_id":"$1"`), cassette.Type,
		"application_id"},
	{"/cgi-bin/wxopen/wxamplinkget", 1, replaceBody(`"released":1(.*)"released":1`, `"released":true${1}"released":1`), cassette.Type,
		"wxopens.items[0].released"},
	{"/sns/jscode2session", 1, replaceBody(`^{("session_key":"[^"]*"),("openid":"[^"]*")`, `{$2,$1`), cassette.Order, "answer"},
	{"/cgi-bin/openapi/quota/get", 1, replaceBody(`("used":[0-9]+),("remain":[0-9]+)`, `$2,$1`), cassette.Order, "quota"},
	{"/intp/marketcode/codeactivequery", 1, replaceBody(`"code_end":199`, `"code_end":198`), cassette.Value, "code_end"},
	{"/cgi-bin/stable_token", 2, replaceBody(`"access_token":"109_`, `"access_token":"109_another`), cassette.Value, "access_token"},
	{"/cgi-bin/token", 2, replaceBody(`7200`, `7000`), cassette.Value, "expires_in"},
	{"/cgi-bin/wxopen/qrcodejumpget", 5, replaceBody(`"state":2`, `"state":1`), cassette.Value, "rule_list[0].state"},
	{"/cgi-bin/showqrcode", 1, func(_ *int, h http.Header, _ string) string { return "<html>busy</html>" }, cassette.Type, "answer"},
	{"/cgi-bin/qrcode/create", 1, replaceBody(`"url":"http:`, `"url":"https:`), cassette.Value, "url"},
}

// newDifferingServer starts a proxy that injects differences into the responses of a server. done checks that all were injected.
func newDifferingServer(t *testing.T, upstream string, list []injected) (base string, done func()) {
	t.Helper()
	var mu sync.Mutex
	calls, applied := map[string]int{}, map[int]bool{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, _ := url.Parse(upstream + r.URL.String())
		out := r.Clone(r.Context())
		out.URL, out.Host, out.RequestURI = to, to.Host, ""
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(out)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		body, status := string(b), resp.StatusCode
		mu.Lock()
		calls[r.URL.Path]++
		for i, p := range list {
			if p.path == r.URL.Path && p.nth == calls[r.URL.Path] {
				before, header := body, resp.Header.Clone()
				body = p.change(&status, resp.Header, body)
				assert.True(t, body != before || status != resp.StatusCode || !maps.EqualFunc(header, resp.Header, slices.Equal),
					"response of call %d of %s = %s, want it changed", p.nth, p.path, body)
				applied[i] = true
			}
		}
		mu.Unlock()
		resp.Header.Del("Content-Length")
		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() {
		assert.True(t, len(applied) == len(list), "%d of %d differences were injected, want all", len(applied), len(list))
	}
}

// TestCassetteCompare_PlantedDifferences injects more than twenty differences. Compare must find exactly these.
func TestCassetteCompare_PlantedDifferences(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown, Undeclared: true})
	base, done := newDifferingServer(t, s.URL, injectedDifferences)
	proxy, out := record(t, base, s.Clock.Now)
	(&caller{t: t, base: proxy, s: s}).callEverything()
	done()
	report := compare(t, out.String())
	var got, want []string
	for _, d := range report.Differences {
		got = append(got, strings.TrimSpace(fmt.Sprint(d.Endpoint, " ", d.Kind, " ", d.Location)))
	}
	for _, p := range injectedDifferences {
		path := p.path + " "
		if p.kind == cassette.Header {
			path = ""
		}
		for location := range strings.FieldsSeq(p.fields) {
			want = append(want, fmt.Sprint(path, p.kind, " ", location))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("differences =\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		for _, d := range report.Differences {
			t.Logf("%+v", d)
		}
	}
	for _, d := range report.Differences {
		assert.True(t, d.Location != "errcode" || d.Endpoint != "/cgi-bin/wxopen/qrcodejumppublish" || d.EvidenceLevel == "assumed" &&
			slices.Contains(d.Behaviours, "rules.prefix.unknown") && strings.HasPrefix(d.Platform, "85066 ") &&
			strings.HasPrefix(d.Server, "40097 "), "difference of a publish = %+v, want rules.prefix.unknown", d)
		assert.True(t, d.Kind != cassette.Header || d.Location != "Content-Type" ||
			slices.Equal(d.Behaviours, []string{"wire.answer.type"}), "difference of a header = %+v, want wire.answer.type", d)
	}
	report.Filter("rules.prefix.unknown")
	assert.True(t, len(report.Differences) == 1, "differences of one behaviour = %+v, want one", report.Differences)
}

// TestCassetteCompare_AcceptedDifference verifies that a difference that the cassette accepts is reported as known.
func TestCassetteCompare_AcceptedDifference(t *testing.T) {
	t.Parallel()
	const line = `{"occurred_at":"2026-01-15T02:00:00Z","method":"GET","path":"/cgi-bin/token","status":200,` +
		`"headers":{"Cache-Control":"no-store","Content-Type":"application/json; encoding=utf-8"},"response":{"errcode":40002,"errmsg":"x"}%s}` + "\n"
	for known, want := range map[string]int{"": 1, `,"accepted":["token.appid.missing"]`: 0, `,"accepted":["wire.fault"]`: 1} {
		report := compare(t, fmt.Sprintf(line, known))
		assert.True(t, len(report.Differences) == 1 && report.Unknown() == want, "%s: %+v", known, report)
	}
}

// TestCassetteCompare_PartialRecording verifies that Compare restores a token and rules from before the recording.
func TestCassetteCompare_PartialRecording(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown})
	tea, ours := s.Token(shop), s.Token(brand)
	s.OK(shop, "add", `{"prefix":"https://tea.example/u/","path":"pages/u/u","is_edit":0,"permit_sub_rule":2,"open_version":1}`)
	s.Clock.Step(time.Minute)
	proxy, out := record(t, s.URL, s.Clock.Now)
	c := &caller{t: t, base: proxy, s: s}
	const rules = "/cgi-bin/wxopen/qrcodejump"
	c.do("POST", rules+"get?access_token="+tea, `{}`)
	c.do("POST", rules+"publish?access_token="+tea, `{"prefix":"https://tea.example/u/"}`)
	c.do("POST", rules+"get?access_token="+tea, `{}`)
	c.do("POST", rules+"add?access_token="+ours, `{"prefix":"http://weixin.qq.com/q/02AbCdEfGhIjKl","appid":"`+shop+
		`","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
	platform := "?component_access_token=" + s.ComponentToken(isv)
	c.do("POST", "/cgi-bin/component/api_create_preauthcode"+platform, `{"component_appid":"`+isv+`"}`)
	report := compare(t, out.String())
	assert.True(t, len(report.Differences) == 0 && report.Compared == 5, "%+v\n%s", report, out.String())
}

// TestCassetteCompare_TokenRefreshedDuringRecording verifies that calls with a token and with its successor belong to the same account.
func TestCassetteCompare_TokenRefreshedDuringRecording(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown})
	before := s.Token(shop)
	proxy, out := record(t, s.URL, s.Clock.Now)
	c := &caller{t: t, base: proxy, s: s}
	const rules = "/cgi-bin/wxopen/qrcodejump"
	c.do("POST", rules+"add?access_token="+before,
		`{"prefix":"https://tea.example/u/","path":"p","is_edit":0,"permit_sub_rule":2,"open_version":3}`)
	c.do("POST", rules+"get?access_token="+before, `{"get_type":0}`)
	after := c.token(shop)
	c.do("POST", rules+"publish?access_token="+after, `{"prefix":"https://tea.example/u/"}`)
	c.do("POST", rules+"get?access_token="+after, `{"get_type":0}`)
	report := compare(t, out.String())
	assert.True(t, len(report.Differences) == 0 && len(report.Skipped) == 0, "%+v\n%s", report, out.String())
}

// TestCassetteCompare_EmulatorClockAndFaults verifies that Compare repeats the clock and the faults of a recorded emulator, and changes of
// accounts outside of the recorded calls.
func TestCassetteCompare_EmulatorClockAndFaults(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown, Undeclared: true})
	proxy, out := record(t, s.URL, s.Clock.Now)
	c := &caller{t: t, base: proxy, s: s}
	const rules = "/cgi-bin/wxopen/qrcodejump"
	tea := c.token(shop)
	c.do("POST", "/admin/v1/emulator/faults", `{"path":"`+rules+`get","errcode":-1,"remaining":1}`)
	c.do("POST", "/admin/v1/emulator/faults", `{"path":"`+rules+`download","errcode":-1}`)
	c.do("POST", rules+"get?access_token="+tea, `{}`)
	c.do("POST", rules+"get?access_token="+tea, `{}`)
	c.do("DELETE", "/admin/v1/emulator/faults?id=1", "") // the other fault stays
	c.do("POST", rules+"download?access_token="+tea, `{}`)
	c.do("PUT", "/admin/v1/emulator/clock", `{"advance":"2h0m1s"}`)
	c.do("POST", rules+"get?access_token="+tea, `{}`)
	component := s.ComponentToken(isv)
	s.Authorize(component, isv, shop, "[18,33]")
	platform := "?component_access_token=" + component
	both := `{"component_appid":"` + isv + `","authorizer_appid":"` + shop + `"}`
	c.do("POST", "/cgi-bin/component/api_get_authorizer_info"+platform, both)
	c.do("POST", "/cgi-bin/component/api_authorizer_token"+platform, strings.Replace(both, "}", `,"authorizer_refresh_token":"`+
		c.field("authorizer_refresh_token")+`"}`, 1))
	acts := c.field("authorizer_access_token")
	s.Admin("DELETE", "/components/"+isv+"/authorizations/"+shop, "")
	c.do("POST", rules+"get?access_token="+acts, `{}`)
	report := compare(t, out.String())
	assert.True(t, len(report.Differences) == 0 && report.Compared == 8 && len(report.Skipped) == 4, "%+v\n%s", report, out.String())
}

// TestCassetteKeep_Dedup verifies that the observations kept from a cassette have the form of docs/contract/seen, without duplicates.
func TestCassetteKeep_Dedup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"answers.ndjson", "differences.ndjson"} {
		text := require.Value(os.ReadFile(filepath.Join("../../../docs/contract/seen", name)))(t)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	const line = `{"occurred_at":"2026-01-15T02:00:00Z","method":"POST","path":"%s","query":{"access_token":"{token:1:130}"},"request":{"get_type":0},` +
		`"status":200,"response":{"errcode":%d,"errmsg":"%s rid: {rid:2:26}"}}` + "\n"
	text := fmt.Sprintf(line, "/cgi-bin/wxopen/qrcodejumpget", 85099, "new {word:3:5}") +
		fmt.Sprintf(line, "/cgi-bin/wxopen/qrcodejumpget", 85099, "new {word:4:5}") +
		fmt.Sprintf(line, "/cgi-bin/menu/get", 46003, "menu no exist") +
		fmt.Sprintf(line, "/cgi-bin/token", 40013, "invalid appid") // s001
	list := lines(t, text)
	report := cassette.Report{Skipped: []cassette.Skipped{{Line: 3, Endpoint: "/cgi-bin/menu/get", Reason: "no endpoint of this server"}}}
	for round, want := range []int{2, 0} {
		added, err := cassette.Keep(list, report, dir, "calls.ndjson")
		assert.True(t, err == nil && added == want, "round %d: %d added, %v; want %d", round, added, err, want)
	}
	last := func(name string, n int) (list []string) {
		text := require.Value(os.ReadFile(filepath.Join(dir, name)))(t)
		all := strings.Split(strings.TrimSpace(string(text)), "\n")
		return all[len(all)-n:]
	}
	got := strings.Join(append(last("answers.ndjson", 2), last("differences.ndjson", 2)...), "\n")
	want := `{"id":"k001","endpoint":"/cgi-bin/wxopen/qrcodejumpget","request":"POST ?access_token=*** {\"get_type\":0}","answer":{"errcode":85099,"errmsg":"new *** rid: 00000000-00000000-00000000"},"date":"2026-01-15T02:00:00Z","source":"calls.ndjson, line 1","evidence_level":"observed"}
{"id":"k002","endpoint":"/cgi-bin/menu/get","request":"POST ?access_token=*** {\"get_type\":0}","answer":{"errcode":46003,"errmsg":"menu no exist rid: 00000000-00000000-00000000"},"date":"2026-01-15T02:00:00Z","source":"calls.ndjson, line 3","evidence_level":"observed"}
{"id":"k001","kind":"unknown","reason":"recorded, and no play of the test asks for it yet"}
{"id":"k002","kind":"family","reason":"no endpoint of this server"}`
	assert.True(t, got == want, "kept observations =\n%s\nwant\n%s", got, want)
}

// newPlayer starts a server that replays a cassette.
func newPlayer(t *testing.T, text string, byContent bool) (base string, p *cassette.Player) {
	t.Helper()
	p = cassette.NewPlayer(lines(t, text), byContent)
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return s.URL, p
}

// TestCassetteReplay_Offline verifies that a caller that repeats the recorded calls gets the recorded responses, with placeholders that it
// can send back.
func TestCassetteReplay_Offline(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown})
	proxy, out := record(t, s.URL, s.Clock.Now)
	const rules = "/cgi-bin/wxopen/qrcodejump"
	run := func(base string, reversed bool) (answers []string) {
		c := &caller{t: t, base: base, s: s}
		tea, other := c.token(shop), c.token(rival)
		calls := []func() string{
			func() string { return c.do("POST", rules+"get?access_token="+tea, `{"get_type":0}`) },
			func() string {
				return c.do("POST", rules+"publish?access_token="+other, `{"prefix":"https://tea.example/old/"}`)
			},
			func() string { return c.do("POST", rules+"get?access_token="+other, `{"get_type":0}`) },
		}
		for i := range calls {
			if reversed {
				i = len(calls) - 1 - i
			}
			answers = append(answers, regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}`).ReplaceAllString(calls[i](), "RID"))
		}
		return answers
	}
	want := run(proxy, false)
	withoutLinks := func(list []string) (masked []string) {
		links := regexp.MustCompile(`"(prefix|path|debug_url)":(\[[^\]]*\]|"[^"]*")`)
		for _, answer := range list {
			masked = append(masked, links.ReplaceAllString(answer, `"$1":…`))
		}
		return masked
	}
	base, p := newPlayer(t, out.String(), false)
	got := run(base, false)
	assert.True(t, slices.Equal(withoutLinks(got), withoutLinks(want)), "responses in order = %v\nwant %v", got, want)
	wrong, unused := p.Unreplayed()
	assert.True(t, len(wrong) == 0 && unused == 0, "Unreplayed() in order = %v, %d, want none", wrong, unused)
	base, p = newPlayer(t, out.String(), true)
	got = run(base, true)
	slices.Reverse(got)
	assert.True(t, slices.Equal(withoutLinks(got), withoutLinks(want)), "responses by content = %v\nwant %v", got, want)
	wrong, unused = p.Unreplayed()
	assert.True(t, len(wrong) == 0 && unused == 0, "Unreplayed() by content = %v, %d, want none", wrong, unused)
}

// TestCassetteReplay_UnexpectedCall verifies that a call that is not the next line, or in no line, is reported.
func TestCassetteReplay_UnexpectedCall(t *testing.T) {
	t.Parallel()
	const text = `{"occurred_at":"2026-01-15T02:00:00Z","method":"POST","path":"/cgi-bin/a","request":{"count":1},"status":200,"response":{"errcode":0}}` + "\n" +
		`{"occurred_at":"2026-01-15T02:00:00Z","method":"GET","path":"/cgi-bin/token","query":{"appid":"{appid:1:18}"},"error":"the upstream cannot be reached"}` + "\n"
	ask := func(base, method, path, body string) string {
		req := require.Value(http.NewRequest(method, base+path, bytes.NewReader([]byte(body))))(t)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			return "no answer"
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(b)))
	}
	base, p := newPlayer(t, text, false)
	for _, step := range []struct{ method, path, body, want string }{
		{"GET", "/cgi-bin/token", "", "501 qrjump cassette replay: line 1 of the cassette is POST /cgi-bin/a, got GET /cgi-bin/token"},
		{"POST", "/cgi-bin/a", `{"count":2}`, "501 qrjump cassette replay: line 1 of the cassette is POST /cgi-bin/a, got another body"},
		{"POST", "/cgi-bin/a", ``, "501 qrjump cassette replay: line 1 of the cassette is POST /cgi-bin/a, got another body"},
		{"POST", "/cgi-bin/a", `{"count":1}`, `200 {"errcode":0}`},
		{"GET", "/cgi-bin/token?secret=x", "", "501 qrjump cassette replay: line 2 of the cassette is GET /cgi-bin/token, got another query"},
		{"GET", "/cgi-bin/token?appid=wx1", "", "no answer"},
		{"GET", "/cgi-bin/token?appid=wx1", "", "501 qrjump cassette replay: the cassette has ended"},
	} {
		assert.Equal(t, ask(base, step.method, step.path, step.body), step.want, "%s %s %s", step.method, step.path, step.body)
	}
	wrong, unused := p.Unreplayed()
	assert.True(t, len(wrong) == 5 && unused == 0, "%q, %d unused", wrong, unused)
	base, p = newPlayer(t, text, true)
	for range 2 {
		assert.Equal(t, ask(base, "POST", "/cgi-bin/a", `{"count":1}`), `200 {"errcode":0}`, "by content, again")
	}
	assert.Equal(t, ask(base, "GET", "/cgi-bin/b", ""), "501 qrjump cassette replay: no line of the cassette asks this: GET /cgi-bin/b",
		"by content")
	wrong, unused = p.Unreplayed()
	assert.True(t, len(wrong) == 1 && unused == 1, "%q, %d unused", wrong, unused)
}

// TestCompare_RateLimit records a server with the platform's rate limit, which quota/get returns and a player does not have.
func TestCompare_RateLimit(t *testing.T) {
	t.Parallel()
	seed := strings.Replace(theTown, "rule_rate_limit: null", "rule_rate_limit: 5, default_rate_limit: 7", 1)
	s := servertest.Start(t, servertest.Options{Seed: seed,
		Undeclared: true})
	proxy, out := record(t, s.URL, s.Clock.Now)
	c := &caller{t: t, base: proxy, s: s}
	tea := c.token(shop)
	const rules = "/cgi-bin/wxopen/qrcodejump"
	quota := func(path string) {
		c.do("POST", "/cgi-bin/openapi/quota/get?access_token="+tea, `{"cgi_path":"`+path+`"}`)
	}
	for _, path := range []string{rules + "get", "/cgi-bin/clear_quota", "/cgi-bin/stable_token", "/cgi-bin/nothing"} {
		quota(path)
	}
	for range 5 {
		c.do("POST", rules+"get?access_token="+tea, `{"get_type":0}`)
	}
	quota(rules + "get")
	report := compare(t, out.String())
	for _, d := range report.Differences {
		t.Errorf("line %d %s %s %s: there %s, here %s, want none", d.Line, d.Endpoint, d.Kind, d.Location, d.Platform, d.Server)
	}
	assert.True(t, report.Compared == 11 && strings.Contains(out.String(), `"call_count":5,"refresh_second":1`) &&
		strings.Contains(out.String(), `"call_count":7,"refresh_second":1`),
		"compared %d of %d calls, want 11 with both limits:\n%s", report.Compared, report.Calls, out)
}
