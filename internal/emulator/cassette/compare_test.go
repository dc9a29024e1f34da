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

// planted is a difference of another server: the nth call of an endpoint is answered otherwise than ours.
type planted struct {
	path   string
	nth    int
	change func(status *int, header http.Header, body string) string
	kind   cassette.Kind
	where  string
}

// instead is another text in an answer's body.
func instead(pattern, by string) func(*int, http.Header, string) string {
	return func(_ *int, _ http.Header, body string) string {
		return regexp.MustCompile(pattern).ReplaceAllString(body, by)
	}
}

var plantedDifferences = []planted{
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
	{"/cgi-bin/wxopen/qrcodejumpadd", 5, instead("85071", "85072"), cassette.Number, "errcode"},
	{"/cgi-bin/wxopen/qrcodejumppublish", 2, instead("40097", "85066"), cassette.Number, "errcode"},
	{"/cgi-bin/component/api_create_preauthcode", 1, instead(`^.*"pre_auth_code"(.*)$`, `{"errcode":0,"errmsg":"ok","pre_auth_code"$1`),
		cassette.Field, "errcode errmsg"},
	{"/cgi-bin/token", 5, instead("invalid appid", "appid is invalid"), cassette.Text, "errmsg"},
	{"/cgi-bin/wxopen/qrcodejumpadd", 2, instead("empty post data", "empty data"), cassette.Text, "errmsg"},
	{"/cgi-bin/wxopen/qrcodejumpget", 3, instead(` rid: [-0-9a-f]+`, ""), cassette.Text, "errmsg"},
	{"/sns/jscode2session", 3, instead(", rid:", " rid:"), cassette.Text, "errmsg"},
	{"/cgi-bin/wxopen/qrcodejumpget", 4, instead(`"list_size":[0-9]+,`, ""), cassette.Field, "list_size"},
	{"/cgi-bin/wxopen/qrcodejumpdownload", 1, instead(`}$`, `,"file_size":32}`), cassette.Field, "file_size"},
	{"/cgi-bin/component/api_get_authorizer_info", 1, instead(`"idc":1,`, ""), cassette.Field, "authorizer_info.idc"},
	{"/cgi-bin/wxopen/qrcodejumpget", 5, instead(`"qrcodejump_open":1`, `"qrcodejump_open":"1"`), cassette.Type, "qrcodejump_open"},
	{"/intp/marketcode/applycodequery", 1, instead(`"application_id":([0-9]+)`, `"application_id":"$1"`), cassette.Type, "application_id"},
	{"/cgi-bin/wxopen/wxamplinkget", 1, instead(`"released":1(.*)"released":1`, `"released":true${1}"released":1`), cassette.Type,
		"wxopens.items[0].released"},
	{"/sns/jscode2session", 1, instead(`^{("session_key":"[^"]*"),("openid":"[^"]*")`, `{$2,$1`), cassette.Order, "answer"},
	{"/cgi-bin/openapi/quota/get", 1, instead(`("used":[0-9]+),("remain":[0-9]+)`, `$2,$1`), cassette.Order, "quota"},
	{"/intp/marketcode/codeactivequery", 1, instead(`"code_end":199`, `"code_end":198`), cassette.Value, "code_end"},
	{"/cgi-bin/stable_token", 2, instead(`"access_token":"109_`, `"access_token":"109_another`), cassette.Value, "access_token"},
	{"/cgi-bin/token", 2, instead(`7200`, `7000`), cassette.Value, "expires_in"},
	{"/cgi-bin/wxopen/qrcodejumpget", 5, instead(`"state":2`, `"state":1`), cassette.Value, "rule_list[0].state"},
	{"/cgi-bin/showqrcode", 1, func(_ *int, h http.Header, _ string) string { return "<html>busy</html>" }, cassette.Type, "answer"},
	{"/cgi-bin/qrcode/create", 1, instead(`"url":"http:`, `"url":"https:`), cassette.Value, "url"},
}

// elsewhere is a server of ours that answers some calls otherwise.
func elsewhere(t *testing.T, upstream string, list []planted) (base string, done func()) {
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
					"%s, call %d, was not changed: %s", p.path, p.nth, body)
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
		assert.True(t, len(applied) == len(list), "%d of %d differences were planted", len(applied), len(list))
	}
}

// Issue 15: of a server that differs from ours in more than twenty ways, each way is found, and no other.
func TestCassetteCompare_PlantedDifferences(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown, Undeclared: true})
	base, done := elsewhere(t, s.URL, plantedDifferences)
	proxy, _, out := record(t, base, s.Clock.Now)
	(&caller{t: t, base: proxy, s: s}).everything()
	done()
	report := compare(t, out.String())
	var got, want []string
	for _, d := range report.Differences {
		got = append(got, strings.TrimSpace(fmt.Sprint(d.Endpoint, " ", d.Kind, " ", d.Location)))
	}
	for _, p := range plantedDifferences {
		path := p.path + " "
		if p.kind == cassette.Header {
			path = ""
		}
		for where := range strings.FieldsSeq(p.where) {
			want = append(want, fmt.Sprint(path, p.kind, " ", where))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("found\n%s\nplanted\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		for _, d := range report.Differences {
			t.Logf("%+v", d)
		}
	}
	for _, d := range report.Differences {
		assert.True(t, d.Location != "errcode" || d.Endpoint != "/cgi-bin/wxopen/qrcodejumppublish" || d.EvidenceLevel == "assumed" &&
			slices.Contains(d.Behaviours, "rules.prefix.unknown") && strings.HasPrefix(d.Platform, "85066 ") &&
			strings.HasPrefix(d.Server, "40097 "), "the difference of a publish is %+v", d)
		assert.True(t, d.Kind != cassette.Header || d.Location != "Content-Type" ||
			slices.Equal(d.Behaviours, []string{"wire.answer.type"}), "the difference of a header is %+v", d)
	}
	if rows := report; true {
		rows.Filter("rules.prefix.unknown")
		assert.True(t, len(rows.Differences) == 1, "of one behaviour: %+v", rows.Differences)
	}
}

// A difference that a person has accepted in the cassette is shown as known.
func TestCassetteCompare_AcceptedDifference(t *testing.T) {
	t.Parallel()
	const line = `{"occurred_at":"2026-01-15T02:00:00Z","method":"GET","path":"/cgi-bin/token","status":200,` +
		`"headers":{"Cache-Control":"no-store","Content-Type":"application/json; encoding=utf-8"},"response":{"errcode":40002,"errmsg":"x"}%s}` + "\n"
	for known, want := range map[string]int{"": 1, `,"accepted":["token.appid.missing"]`: 0, `,"accepted":["wire.fault"]`: 1} {
		report := compare(t, fmt.Sprintf(line, known))
		assert.True(t, len(report.Differences) == 1 && report.Unknown() == want, "%s: %+v", known, report)
	}
}

// A token and rules from before the recording began are there again.
func TestCassetteCompare_PartialRecording(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown})
	tea, ours := s.Token(shop), s.Token(brand)
	s.OK(shop, "add", `{"prefix":"https://tea.example/u/","path":"pages/u/u","is_edit":0,"permit_sub_rule":2,"open_version":1}`)
	s.Clock.Step(time.Minute)
	proxy, _, out := record(t, s.URL, s.Clock.Now)
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

// Issue 28, 7: a program that fetched another token while it was recorded was two accounts, of which the second knew nothing
// of the rules and publishes of the first.
func TestCassetteCompare_TokenRefreshedDuringRecording(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown})
	before := s.Token(shop)
	proxy, _, out := record(t, s.URL, s.Clock.Now)
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

// A recording of an emulator has its clock and its faults, and what was done to an account beside the wire is done again.
func TestCassetteCompare_EmulatorClockAndFaults(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown, Undeclared: true})
	proxy, _, out := record(t, s.URL, s.Clock.Now)
	c := &caller{t: t, base: proxy, s: s}
	const rules = "/cgi-bin/wxopen/qrcodejump"
	tea := c.token(shop)
	c.do("POST", "/admin/v1/emulator/faults", `{"path":"`+rules+`get","errcode":-1,"remaining":1}`)
	c.do("POST", rules+"get?access_token="+tea, `{}`)
	c.do("POST", rules+"get?access_token="+tea, `{}`)
	c.do("PUT", "/admin/v1/emulator/clock", `{"advance":"2h0m1s"}`)
	c.do("POST", rules+"get?access_token="+tea, `{}`)
	component := s.ComponentToken(isv)
	s.Authorize(component, isv, shop, "[18,33]")
	platform := "?component_access_token=" + component
	both := `{"component_appid":"` + isv + `","authorizer_appid":"` + shop + `"}`
	c.do("POST", "/cgi-bin/component/api_get_authorizer_info"+platform, both)
	c.do("POST", "/cgi-bin/component/api_authorizer_token"+platform, strings.Replace(both, "}", `,"authorizer_refresh_token":"`+
		c.take("authorizer_refresh_token")+`"}`, 1))
	acts := c.take("authorizer_access_token")
	s.Admin("DELETE", "/components/"+isv+"/authorizations/"+shop, "")
	c.do("POST", rules+"get?access_token="+acts, `{}`)
	report := compare(t, out.String())
	assert.True(t, len(report.Differences) == 0 && report.Compared == 7 && len(report.Skipped) == 2, "%+v\n%s", report, out.String())
}

// What is kept of a cassette has the form of docs/contract/seen, and is there once.
func TestCassetteKeep_Dedup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"answers.ndjson", "differences.ndjson"} {
		text, err := os.ReadFile(filepath.Join("../../../docs/contract/seen", name))
		require.NoError(t, err)
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
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		all := strings.Split(strings.TrimSpace(string(text)), "\n")
		return all[len(all)-n:]
	}
	got := strings.Join(append(last("answers.ndjson", 2), last("differences.ndjson", 2)...), "\n")
	want := `{"id":"k001","endpoint":"/cgi-bin/wxopen/qrcodejumpget","request":"POST ?access_token=*** {\"get_type\":0}","answer":{"errcode":85099,"errmsg":"new *** rid: 00000000-00000000-00000000"},"date":"2026-01-15T02:00:00Z","source":"calls.ndjson, line 1","evidence_level":"observed"}
{"id":"k002","endpoint":"/cgi-bin/menu/get","request":"POST ?access_token=*** {\"get_type\":0}","answer":{"errcode":46003,"errmsg":"menu no exist rid: 00000000-00000000-00000000"},"date":"2026-01-15T02:00:00Z","source":"calls.ndjson, line 3","evidence_level":"observed"}
{"id":"k001","kind":"unknown","reason":"recorded, and no play of the test asks for it yet"}
{"id":"k002","kind":"family","reason":"no endpoint of this server"}`
	assert.True(t, got == want, "got\n%s\nwant\n%s", got, want)
}

// replayed answers calls from a cassette.
func replayed(t *testing.T, text string, byContent bool) (base string, p *cassette.Player) {
	t.Helper()
	p = cassette.NewPlayer(lines(t, text), byContent)
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return s.URL, p
}

// A caller that makes the recorded calls again gets the recorded answers, with stand-ins that it can send back.
func TestCassetteReplay_Offline(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: theTown})
	proxy, _, out := record(t, s.URL, s.Clock.Now)
	const rules = "/cgi-bin/wxopen/qrcodejump"
	run := func(base string, turned bool) (answers []string) {
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
			if turned {
				i = len(calls) - 1 - i
			}
			answers = append(answers, regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}`).ReplaceAllString(calls[i](), "RID"))
		}
		return answers
	}
	want := run(proxy, false)
	forms := func(list []string) (shown []string) {
		for _, one := range list {
			shown = append(shown, regexp.MustCompile(`"(prefix|path|debug_url)":(\[[^\]]*\]|"[^"]*")`).ReplaceAllString(one, `"$1":…`))
		}
		return shown
	}
	base, p := replayed(t, out.String(), false)
	got := run(base, false)
	assert.True(t, slices.Equal(forms(got), forms(want)), "in order: %v\nwant %v", got, want)
	wrong, unused := p.Unreplayed()
	assert.True(t, len(wrong) == 0 && unused == 0, "in order: %v, %d left", wrong, unused)
	base, p = replayed(t, out.String(), true)
	got = run(base, true)
	slices.Reverse(got)
	assert.True(t, slices.Equal(forms(got), forms(want)), "by content: %v\nwant %v", got, want)
	wrong, unused = p.Unreplayed()
	assert.True(t, len(wrong) == 0 && unused == 0, "by content: %v, %d left", wrong, unused)
}

// A call that is not the next line, or no line at all, is said so.
func TestCassetteReplay_UnexpectedCall(t *testing.T) {
	t.Parallel()
	const text = `{"occurred_at":"2026-01-15T02:00:00Z","method":"POST","path":"/cgi-bin/a","request":{"count":1},"status":200,"response":{"errcode":0}}` + "\n" +
		`{"occurred_at":"2026-01-15T02:00:00Z","method":"GET","path":"/cgi-bin/token","query":{"appid":"{appid:1:18}"},"error":"the upstream cannot be reached"}` + "\n"
	ask := func(base, method, path, body string) string {
		req, err := http.NewRequest(method, base+path, bytes.NewReader([]byte(body)))
		require.NoError(t, err)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			return "no answer"
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(b)))
	}
	base, p := replayed(t, text, false)
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
	base, p = replayed(t, text, true)
	for range 2 {
		assert.Equal(t, ask(base, "POST", "/cgi-bin/a", `{"count":1}`), `200 {"errcode":0}`, "by content, again")
	}
	assert.Equal(t, ask(base, "GET", "/cgi-bin/b", ""), "501 qrjump cassette replay: no line of the cassette asks this: GET /cgi-bin/b",
		"by content")
	wrong, unused = p.Unreplayed()
	assert.True(t, len(wrong) == 1 && unused == 1, "%q, %d unused", wrong, unused)
}

// TestCompare_RateLimit records a server with the platform's limit a second, which quota/get shows and a player does not have.
func TestCompare_RateLimit(t *testing.T) {
	t.Parallel()
	seed := strings.Replace(theTown, "rule_rate_limit: null", "rule_rate_limit: 5, default_rate_limit: 7", 1)
	s := servertest.Start(t, servertest.Options{Seed: seed,
		Undeclared: true})
	proxy, _, out := record(t, s.URL, s.Clock.Now)
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
