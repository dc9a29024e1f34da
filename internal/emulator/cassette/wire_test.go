package cassette_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
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

	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/emulator/cassette"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const (
	shop    = "wx1111222233334444"
	rival   = "wx2222333344445555"
	brand   = "wx3333444455556666"
	isv     = "wx4444555566667777"
	nobody  = "wx5555666677778888"
	person  = "wx6666777788889999"
	theTown = `
accounts:
  - {appid: wx1111222233334444, kind: mini_program, open_platform: tea, name: Tea and more, secret: a1b2c3d4e5f60718293a4b5c6d7e8f90, certified: true, versions: [release]}
  - {appid: wx2222333344445555, kind: mini_program, secret: b1b2c3d4e5f60718293a4b5c6d7e8f90, certified: true, versions: [release]}
  - {appid: wx3333444455556666, kind: service_account, secret: c1b2c3d4e5f60718293a4b5c6d7e8f90, certified: true,
     features: [marketcode], marketcode_key: 0123456789abcdef, linked: [wx1111222233334444]}
  - {appid: wx6666777788889999, kind: mini_program, subject: personal, secret: d1b2c3d4e5f60718293a4b5c6d7e8f90, certified: true, versions: [release]}
components:
  - {appid: wx4444555566667777, secret: e1b2c3d4e5f60718293a4b5c6d7e8f90, message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE}
rules:
  - {owner: wx1111222233334444, prefix: "https://tea.example/old/", path: pages/old/old, published: true, test_links: ["https://tea.example/old/7?k=1"]}
settings: {verification: trust, rate_limit: 0, behaviours: {link.own_token_taken: allow}}
`
)

var secrets = map[string]string{shop: "a1b2c3d4e5f60718293a4b5c6d7e8f90", rival: "b1b2c3d4e5f60718293a4b5c6d7e8f90",
	brand: "c1b2c3d4e5f60718293a4b5c6d7e8f90", person: "d1b2c3d4e5f60718293a4b5c6d7e8f90", isv: "e1b2c3d4e5f60718293a4b5c6d7e8f90"}

// file is a cassette in memory.
type file struct {
	mu sync.Mutex
	bytes.Buffer
}

func (f *file) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Buffer.Write(b)
}

func (f *file) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Buffer.String()
}

// record starts a recorder before an upstream.
func record(t *testing.T, upstream string, now func() time.Time) (proxy string, r *cassette.Recorder, out *file) {
	t.Helper()
	at, err := url.Parse(upstream)
	require.NoError(t, err)
	out = &file{}
	r = &cassette.Recorder{Upstream: at, Out: out, Log: slog.New(slog.DiscardHandler), Now: now, Timeout: time.Minute}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return s.URL, r, out
}

// lines reads a cassette that is in memory.
func lines(t *testing.T, text string) []cassette.Recorded {
	t.Helper()
	name := filepath.Join(t.TempDir(), "cassette.ndjson")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	list, err := cassette.ReadFile(name)
	require.NoError(t, err)
	return list
}

// compare plays a cassette on a server that is new.
func compare(t *testing.T, text string) cassette.Report {
	t.Helper()
	stage := cassette.NewStage(lines(t, text))
	s := servertest.Start(t, servertest.Options{Seed: string(stage.Seed()), Began: stage.Began(), Undeclared: true})
	reach := func(at time.Time) { s.Clock.Step(max(0, at.Sub(s.Clock.Now()))) }
	report, err := cassette.Compare(t.Context(), stage, cassette.Server{URL: s.URL, Token: servertest.AdminToken, Reach: reach})
	require.NoError(t, err)
	return report
}

// caller makes calls through a recorder.
type caller struct {
	t    *testing.T
	base string
	s    *servertest.Server
	last string
	done map[string]bool // the paths that were called
}

func (c *caller) do(method, path, body string) string {
	c.t.Helper()
	var send io.Reader
	if body != "" {
		send = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, c.base+path, send)
	require.NoError(c.t, err)
	if c.done == nil {
		c.done = map[string]bool{}
	}
	c.done[req.URL.Path] = true
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(c.t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	c.last = string(answer)
	return c.last
}

// take is what a field of the last answer says.
func (c *caller) take(name string) string {
	c.t.Helper()
	found := regexp.MustCompile(`"` + name + `":"?([^",}]+)`).FindStringSubmatch(c.last)
	if found == nil {
		c.t.Fatalf("no %s in %s", name, c.last)
	}
	return found[1]
}

func (c *caller) token(appid string) string {
	c.do("GET", "/cgi-bin/token?grant_type=client_credential&appid="+appid+"&secret="+secrets[appid], "")
	return c.take("access_token")
}

// everything calls every endpoint, well and badly.
func (c *caller) everything() {
	rule := func(prefix, more string) string {
		return fmt.Sprintf(`{"prefix":%q,"path":"pages/t/t","is_edit":0,"permit_sub_rule":1,"open_version":3%s}`, prefix, more)
	}
	const rules, codes, component = "/cgi-bin/wxopen/qrcodejump", "/intp/marketcode/", "/cgi-bin/component/"
	tea, other, ours, alone := c.token(shop), c.token(rival), c.token(brand), c.token(person)
	with := func(path, token string) string { return path + "?access_token=" + token }
	c.do("GET", "/cgi-bin/token?grant_type=client_credential&appid="+nobody+"&secret=x", "")
	c.do("GET", "/cgi-bin/token?grant_type=client_credential&appid="+shop+"&secret=not-the-secret", "")
	c.do("GET", "/cgi-bin/token", "")
	c.do("POST", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"`+shop+`","secret":"`+secrets[shop]+`"}`)
	stable := c.take("access_token")
	c.do("POST", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"`+shop+`","secret":"`+secrets[shop]+`"}`)
	c.do("POST", "/cgi-bin/stable_token", "appid=x")
	c.do("POST", with(rules+"get", stable), `{}`)
	c.s.Clock.Step(7 * time.Second)
	c.do("POST", with(rules+"get", "no-token"), `{}`)
	c.do("POST", rules+"get", `{}`)
	c.do("GET", with(rules+"add", tea), "")
	c.do("POST", with(rules+"add", tea), "")
	c.do("POST", with(rules+"add", tea), `{"prefix":`)
	c.do("POST", with(rules+"add", tea), rule("https://tea.example/t/", `,"debug_url":["https://tea.example/t/9"],"colour_of_it":"red"`))
	c.do("POST", with(rules+"add", tea), rule("https://tea.example/t/", ""))
	c.do("POST", with(rules+"add", other), rule("https://tea.example/t/", ""))
	c.do("POST", with(rules+"add", tea), rule("ftp://tea.example/t/", ""))
	c.do("POST", with(rules+"add", tea), rule("https://tea.example/茶/", ""))
	c.do("POST", with(rules+"add", alone), rule("https://alone.example/", ""))
	c.do("POST", with(rules+"add", tea),
		`{"prefix":"https://tea.example/u/","path":"pages/u/u","is_edit":"0","permit_sub_rule":"2","open_version":"1"}`)
	c.do("POST", with(rules+"add", ours), rule("http://weixin.qq.com/q/02AbCdEfGhIjKl", `,"appid":"`+shop+`"`))
	c.do("POST", with(rules+"publish", tea), `{"prefix":"https://tea.example/t/"}`)
	c.do("POST", with(rules+"publish", tea), `{"prefix":"https://tea.example/none/"}`)
	c.do("POST", with(rules+"get", tea), `{"get_type":0}`)
	c.do("POST", with(rules+"get", tea), `{"get_type":1,"prefix_list":["https://tea.example/t/"]}`)
	c.do("POST", with(rules+"get", ours), `{"appid":"`+shop+`","get_type":0}`)
	c.do("POST", with(rules+"get", tea), `{"get_type":2,"page_num":1.0,"page_size":1e0}`)
	c.do("POST", with(rules+"delete", tea), `{"prefix":"https://tea.example/u/"}`)
	c.do("POST", with(rules+"download", tea), "")
	c.do("POST", with("/cgi-bin/wxopen/wxamplink", ours), `{"appid":"`+rival+`","notify_users":1,"show_profile":1}`)
	c.do("POST", with("/cgi-bin/wxopen/wxamplink", ours), `{"appid":"`+rival+`","notify_users":1,"show_profile":1}`)
	c.do("POST", with("/cgi-bin/wxopen/wxamplinkget", ours), `{}`)
	c.do("POST", with("/cgi-bin/wxopen/wxampunlink", ours), `{"appid":"`+rival+`"}`)
	c.do("POST", with("/cgi-bin/qrcode/create", ours),
		`{"action_name":"QR_LIMIT_STR_SCENE","action_info":{"scene":{"scene_str":"table 7"}}}`)
	c.do("GET", "/cgi-bin/showqrcode?ticket="+url.QueryEscape(c.take("ticket")), "")
	c.do("POST", with("/cgi-bin/qrcode/create", ours), `{"action_name":"QR_NONE"}`)

	c.do("POST", with(codes+"applycode", ours), `{"code_count":10000,"isv_application_id":"order 2026-7"}`)
	id := c.take("application_id")
	c.do("POST", with(codes+"applycode", ours), `{"code_count":20000,"isv_application_id":"order 2026-7"}`)
	c.do("POST", with(codes+"applycode", ours), `{"code_count":9999,"isv_application_id":"x"}`)
	c.do("POST", with(codes+"applycode", ours), `{"code_count":"plenty9","isv_application_id":"order 2026-7"}`)
	c.do("POST", with(codes+"applycode", tea), `{"code_count":10000,"isv_application_id":"order 2026-7"}`)
	c.do("POST", with(codes+"applycodequery", ours), `{"application_id":`+id+`}`)
	c.do("POST", with(codes+"applycodequery", ours), `{"isv_application_id":"order 2026-7"}`)
	c.do("POST", with(codes+"applycodequery", ours), `{"application_id":77}`)
	c.do("POST", with(codes+"applycodedownload", ours), `{"application_id":`+id+`,"code_start":0,"code_end":9999}`)
	active := `{"application_id":` + id +
		`,"activity_name":"春天","product_brand":"Tea 7","product_title":"A tin of tea","product_code":"6901234567892",` +
		`"wxa_appid":"` + shop + `","wxa_path":"pages/item/item","code_start":%d,"code_end":%d}`
	c.do("POST", with(codes+"codeactive", ours), fmt.Sprintf(active, 0, 199))
	c.do("POST", with(codes+"codeactive", ours), fmt.Sprintf(active, 100, 299))
	c.do("POST", with(codes+"codeactivequery", ours), `{"application_id":`+id+`,"code_index":7}`)
	c.do("POST", with(codes+"codeactivequery", ours), `{"application_id":"`+id+`","code_index":200}`)
	at := c.s.Admin("POST", "/codes/lookup", `{"application_id":`+id+`,"code_index":7}`)
	found := regexp.MustCompile(`"code_url":"([^"]+)"`).FindStringSubmatch(at.Body)[1]
	c.do("POST", with(codes+"codeactivequery", ours), `{"code_url":`+quoted(found)+`}`)
	c.do("POST", with(codes+"codeactivequery", ours), `{"code_url":`+quoted("http://"+found)+`}`)
	c.do("POST", with(codes+"codeactivequery", ours), `{"code_url":"no code at all"}`)
	scanned := c.s.Do("POST", "/scan/v1/resolve", `{"text":`+quoted(found)+`,"user":"alice"}`)
	ticket := regexp.MustCompile(`code_ticket=([0-9a-f]{32})`).FindStringSubmatch(scanned.Body)[1]
	known := regexp.MustCompile(`"openid":"([^"]+)"`).FindStringSubmatch(c.s.Admin("GET", "/users/alice/openid?appid="+brand, "").Body)[1]
	c.do("POST", with(codes+"tickettocode", ours), `{"openid":"`+known+`","code_ticket":"`+ticket+`"}`)
	c.do("POST", with(codes+"tickettocode", ours), `{"openid":"`+known+`","code_ticket":"0123456789abcdef0123456789abcdef"}`)

	login := c.s.Do("POST", "/scan/v1/login", `{"user":"alice","appid":"`+shop+`"}`)
	js := regexp.MustCompile(`"js_code":"([^"]+)"`).FindStringSubmatch(login.Body)[1]
	session := "/sns/jscode2session?grant_type=authorization_code&appid=" + shop + "&secret=" + secrets[shop] + "&js_code="
	c.do("GET", session+js, "")
	c.do("GET", session+js, "")
	c.do("GET", session+"made-up-code", "")

	c.s.Clock.Step(time.Minute)
	ticketOf := c.s.Ticket(isv)
	c.do("POST", component+"api_start_push_ticket", `{"component_appid":"`+isv+`","component_secret":"`+secrets[isv]+`"}`)
	c.do("POST", component+"api_component_token", `{"component_appid":"`+isv+`","component_appsecret":"`+secrets[isv]+
		`","component_verify_ticket":"x"}`)
	c.do("POST", component+"api_component_token", `{"component_appid":"`+shop+`","component_appsecret":"x","component_verify_ticket":"x"}`)
	c.do("POST", component+"api_component_token", `{"component_appid":"`+isv+`","component_appsecret":"`+secrets[isv]+
		`","component_verify_ticket":"`+ticketOf+`"}`)
	platformToken := c.take("component_access_token")
	platform := "?component_access_token=" + platformToken
	c.do("POST", component+"api_create_preauthcode"+platform, `{"component_appid":"`+isv+`"}`)
	agreed := c.s.Admin("POST", "/emulator/authorize",
		fmt.Sprintf(`{"component":%q,"pre_auth_code":%q,"appid":%q,"permission_sets":[18,33]}`, isv,
			c.take("pre_auth_code"), shop))
	auth := regexp.MustCompile(`"auth_code":"([^"]+)"`).FindStringSubmatch(agreed.Body)[1]
	c.do("POST", component+"api_query_auth"+platform, `{"component_appid":"`+isv+`","authorization_code":"`+auth+`"}`)
	refresh, acts := c.take("authorizer_refresh_token"), c.take("authorizer_access_token")
	c.do("POST", component+"api_query_auth"+platform, `{"component_appid":"`+isv+`","authorization_code":"`+auth+`"}`)
	c.do("POST", with(rules+"get", acts), `{}`)
	c.do("POST", component+"api_authorizer_token"+platform, `{"component_appid":"`+isv+`","authorizer_appid":"`+shop+
		`","authorizer_refresh_token":"`+refresh+`"}`)
	c.do("POST", component+"api_authorizer_token"+platform, `{"component_appid":"`+isv+`","authorizer_appid":"`+rival+
		`","authorizer_refresh_token":"`+refresh+`"}`)
	c.do("POST", component+"api_get_authorizer_info"+platform, `{"component_appid":"`+isv+`","authorizer_appid":"`+shop+`"}`)
	c.do("POST", component+"api_get_authorizer_list"+platform, `{"component_appid":"`+isv+`","offset":0,"count":100}`)
	option := func(verb, appid, name, more string) {
		c.do("POST", component+"api_"+verb+"_authorizer_option"+platform, `{"component_appid":"`+isv+`","authorizer_appid":"`+appid+
			`","option_name":"`+name+`"`+more+`}`)
	}
	option("get", shop, "voice_recognize", "")
	option("set", shop, "voice_recognize", `,"option_value":"1"`)
	option("get", shop, "voice_recognize", "")
	option("set", shop, "customer_service", `,"option_value":"2"`)
	option("get", rival, "location_report", "")
	c.do("POST", component+"api_create_preauthcode"+platform, `{"component_appid":"`+isv+`"}`)
	agreed = c.s.Admin("POST", "/emulator/authorize",
		fmt.Sprintf(`{"component":%q,"pre_auth_code":%q,"appid":%q,"permission_sets":[1,6]}`, isv, c.take("pre_auth_code"), brand))
	auth = regexp.MustCompile(`"auth_code":"([^"]+)"`).FindStringSubmatch(agreed.Body)[1]
	c.do("POST", component+"api_query_auth"+platform, `{"component_appid":"`+isv+`","authorization_code":"`+auth+`"}`)
	brandActs := c.take("authorizer_access_token")
	option("set", brand, "voice_recognize", `,"option_value":"1"`)
	option("get", brand, "voice_recognize", "")
	option("get", brand, "location_report", "")
	newest := func(verb, token, fields string) {
		c.do("POST", with(component+verb+"_authorizer_option", token), "{"+fields+"}")
	}
	named := `"component_appid":"` + isv + `","authorizer_appid":"` + brand + `","option_name":"voice_recognize"`
	newest("get", platformToken, named)
	newest("set", platformToken, named+`,"option_value":"0"`)
	newest("get", brandActs, `"option_name":"customer_service"`)
	newest("set", brandActs, `"option_name":"customer_service","option_value":"1"`)
	newest("get", brandActs, `"option_name":"customer_service"`)
	newest("get", brandActs, `"option_name":"location_report"`)
	again := c.s.Do("POST", "/scan/v1/login", `{"user":"alice","appid":"`+shop+`"}`)
	js = regexp.MustCompile(`"js_code":"([^"]+)"`).FindStringSubmatch(again.Body)[1]
	byPlatform := func(appid, code string) {
		c.do("GET", "/sns/component/jscode2session"+platform+"&component_appid="+isv+"&appid="+appid+
			"&grant_type=authorization_code&js_code="+code, "")
	}
	byPlatform(shop, js)
	byPlatform(shop, js)
	byPlatform(rival, js)
	c.do("POST", component+"clear_quota"+platform, `{"component_appid":"`+isv+`"}`)
	c.do("POST", "/cgi-bin/component/clear_quota/v2"+"?component_appid="+isv+"&appid="+shop+"&appsecret="+secrets[isv], "")

	c.do("POST", with("/cgi-bin/clear_quota", tea), `{"appid":"`+shop+`"}`)
	c.do("POST", "/cgi-bin/clear_quota/v2?appid="+rival+"&appsecret="+secrets[rival], "")
	c.do("POST", with("/cgi-bin/openapi/quota/get", tea), `{"cgi_path":"/cgi-bin/wxopen/qrcodejumpget"}`)
	c.do("POST", with("/cgi-bin/openapi/quota/get", tea), `{"cgi_path":"/cgi-bin/nothing"}`)
	c.do("POST", with("/cgi-bin/openapi/quota/clear", tea), `{"cgi_path":"/cgi-bin/wxopen/qrcodejumpget"}`)
	c.do("POST", with(rules+"publish", tea), `{"prefix":"https://tea.example/gone/"}`)
	rid := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}`).FindString(c.last)
	c.do("POST", with("/cgi-bin/openapi/rid/get", tea), `{"rid":"`+rid+`"}`)
	c.do("POST", with("/cgi-bin/openapi/rid/get", other), `{"rid":"`+rid+`"}`)
	c.do("GET", with("/cgi-bin/get_api_domain_ip", tea), "")
	c.do("GET", with("/cgi-bin/getcallbackip", tea), "")
	c.do("GET", with("/cgi-bin/user/info", tea)+"&openid=oAbCdEfGh", "")
	for _, e := range api.Describe() { // what has no story above, such as an endpoint that is new
		switch {
		case c.done[e.Path]:
		case e.Method == "GET":
			c.do("GET", with(e.Path, tea), "")
		default:
			c.do("POST", with(e.Path, tea), "{}")
		}
	}
	c.s.Clock.Step(2 * time.Hour)
	c.do("POST", with(rules+"get", tea), `{}`)
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// wholeWire is a cassette of everything, of which several tests want one.
func wholeWire(t *testing.T) string {
	t.Helper()
	s := servertest.Start(t, servertest.Options{Seed: theTown, Undeclared: true})
	proxy, _, out := record(t, s.URL, s.Clock.Now)
	(&caller{t: t, base: proxy, s: s}).everything()
	return out.String()
}

// Issue 15: a cassette of a run over the whole wire, compared with a new server,
// has no difference.
func TestARunOverTheWholeWireIsAnsweredTheSameAgain(t *testing.T) {
	t.Parallel()
	text := wholeWire(t)
	report := compare(t, text)
	for _, d := range report.Differences {
		t.Errorf("line %d %s %s %s: there %s, here %s (%v)\n%s", d.Line, d.Endpoint, d.Kind, d.Where, d.Platform, d.Ours, d.Behaviours,
			strings.Split(text, "\n")[d.Line-1])
	}
	for _, s := range report.Skipped {
		if s.Endpoint != "/cgi-bin/user/info" {
			t.Errorf("line %d %s was not compared (a word that docs/contract lacks is masked): %s\n%s", s.Line, s.Endpoint, s.Reason,
				strings.Split(text, "\n")[s.Line-1])
		}
	}
	var called []string
	for _, line := range lines(t, text) {
		called = append(called, line.Path)
	}
	for _, path := range api.Paths() {
		if !slices.Contains(called, path) {
			t.Errorf("the run does not call %s: add a call to caller.everything", path)
		}
	}
	if t.Failed() {
		t.Logf("%d calls", report.Calls)
	}
}
