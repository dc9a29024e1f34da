package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// town is who lives on the server of these tests.
const town = `
accounts:
  - {appid: shop, kind: mini_program, secret: secret-shop, versions: [release, trial, development], members: {dev: developer, tri: trial, adm: admin}}
  - {appid: rival, kind: mini_program, secret: secret-rival, versions: [release]}
  - {appid: third, kind: mini_program, secret: secret-third, versions: [release]}
  - {appid: draft, kind: mini_program, secret: secret-draft, versions: [trial]}
  - {appid: person, kind: mini_program, subject: personal, secret: secret-person, versions: [release]}
  - {appid: svc, kind: service_account, secret: secret-svc, certified: true, linked: [shop, rival, draft, person]}
  - {appid: svc2, kind: service_account, secret: secret-svc2, certified: true, linked: [shop]}
  - {appid: plain, kind: service_account, secret: secret-plain, linked: [shop]}
  - {appid: sub, kind: subscription_account, secret: secret-sub, certified: true}
  - {appid: fenced, kind: mini_program, secret: secret-fenced, ip_allowlist: [203.0.113.0/24]}
components:
  - {appid: isv, secret: secret-isv, message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE}
settings: {verification: trust, rule_rate_limit: null}
`

const (
	addPath      = "/cgi-bin/wxopen/qrcodejumpadd"
	getPath      = "/cgi-bin/wxopen/qrcodejumpget"
	publishPath  = "/cgi-bin/wxopen/qrcodejumppublish"
	deletePath   = "/cgi-bin/wxopen/qrcodejumpdelete"
	downloadPath = "/cgi-bin/wxopen/qrcodejumpdownload"
	tokenPath    = "/cgi-bin/token"
	stablePath   = "/cgi-bin/stable_token"
)

// The texts of a call that takes or makes an ordinary token, spelt as they were met
// live. Contract: rules 3.6.
const (
	badToken = "invalid credential, access_token is invalid or not latest, could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
	dayQuota = "reach max api daily quota limit, could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
)

// quoted is a text as JSON; fmt's %q writes control characters as Go does.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// rule is the body of an add of an ordinary rule; extra fields come last and win.
func rule(prefix string, extra ...string) string {
	fields := append([]string{`"prefix":` + quoted(prefix) +
		`,"path":"pages/index/index","is_edit":0,"permit_sub_rule":1,"open_version":3`}, extra...)
	return "{" + strings.Join(fields, ",") + "}"
}

// code is the body of an add of a service-account rule.
func code(prefix, appid string, extra ...string) string {
	fields := append([]string{fmt.Sprintf(`"prefix":%q,"appid":%q,"path":"pages/index/index","is_edit":0`, prefix, appid)}, extra...)
	return "{" + strings.Join(fields, ",") + "}"
}

func prefix(p string) string { return fmt.Sprintf(`{"prefix":%q}`, p) }

const q = "http://weixin.qq.com/q/"

type how func(s *servertest.Server) servertest.Answer

// as makes one call of a rule endpoint.
func as(appid, path, body string) how {
	return func(s *servertest.Server) servertest.Answer {
		return s.Do("POST", path+"?access_token="+s.Token(appid), body)
	}
}

// after runs calls that must succeed, then the one that counts.
func after(last how, first ...how) how {
	return func(s *servertest.Server) servertest.Answer {
		for _, call := range first {
			if a := call(s); strings.HasPrefix(a.Body, `{"errcode":`) && !strings.HasPrefix(a.Body, `{"errcode":0,`) {
				panic("a preparation failed: " + a.Body)
			}
		}
		return last(s)
	}
}

// set changes settings or domains through the admin API.
func set(path, body string) how {
	return func(s *servertest.Server) servertest.Answer { return s.Admin("PUT", path, body) }
}

// unlink ends a link through the admin API.
func unlink(service, mini string) how {
	return func(s *servertest.Server) servertest.Answer {
		return s.Admin("DELETE", "/accounts/"+service+"/links/"+mini, "")
	}
}

// fault makes the next call of an endpoint answer a code.
func fault(path string, number int) how {
	return func(s *servertest.Server) servertest.Answer {
		return s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":%d,"count":1}`, path, number))
	}
}

func get(path string) how {
	return func(s *servertest.Server) servertest.Answer { return s.Do("GET", path, "") }
}

func post(path, body string) how {
	return func(s *servertest.Server) servertest.Answer { return s.Do("POST", path, body) }
}

func fetch(grant, appid, secret string) how {
	return get(tokenPath + "?grant_type=" + grant + "&appid=" + appid + "&secret=" + secret)
}

func stable(appid string) string {
	return fmt.Sprintf(`{"grant_type":"client_credential","appid":%q,"secret":"secret-%s"}`, appid, appid)
}

// many makes one call n times and answers what the last one got.
func many(n int, call how) how {
	return func(s *servertest.Server) (a servertest.Answer) {
		for range n {
			a = call(s)
		}
		return a
	}
}

// have is a rule of shop that exists.
var have = as("shop", addPath, rule("https://shop.example/have/"))

type errorRow struct {
	code int
	text string // errmsg before the request id
	path string
	name string
	how  how
}

// stories are those of a file of testdata/stories, each after the lines of a preamble.
func stories(t *testing.T, file, preamble string) map[string]how {
	t.Helper()
	list := map[string]how{}
	for name, text := range servertest.ReadStories(t, "testdata/stories/"+file+".txt") {
		list[name] = func(s *servertest.Server) servertest.Answer { return s.Tell(preamble+text, nil) }
	}
	return list
}

// errorRows are those of testdata/stories/errors.txt.
func errorRows(t *testing.T) (rows []errorRow) {
	t.Helper()
	for head, how := range stories(t, "errors", "") {
		number, rest, _ := strings.Cut(head, " ")
		path, rest, _ := strings.Cut(rest, ": ")
		name, text, ok := strings.Cut(rest, " | ")
		code, err := strconv.Atoi(number)
		require.True(t, err == nil && ok, "errors.txt: %q, %v", head, err)
		rows = append(rows, errorRow{code, text, path, name, how})
	}
	return rows
}

var ridText = regexp.MustCompile(`^(.*) rid: ([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{8})$`)

func TestErrorCodes_EachProduced(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	for _, r := range errorRows(t) {
		t.Run(fmt.Sprintf("%d %s %s", r.code, r.path[strings.LastIndex(r.path, "/")+1:], r.name), func(t *testing.T) {
			s.Renew(t)
			s.Advance(36 * time.Hour) // the time of a request id is the server's, not the world's
			a := r.how(s)
			if a.Status != http.StatusOK || a.Header.Get("Content-Type") != contentType(a) {
				t.Errorf("status %d, Content-Type %q", a.Status, a.Header.Get("Content-Type"))
			}
			if r.code == 0 {
				assert.True(t, strings.HasPrefix(a.Body, `{"errcode":0,"errmsg":"ok"`), "got %s", a.Body)
				return
			}
			var e struct{ ErrMsg string }
			a.JSON(t, &e)
			m := ridText.FindStringSubmatch(e.ErrMsg)
			require.True(t, m != nil && a.Code(t) == r.code && m[1] == r.text,
				"got %s, want %d %q and a request id", a.Body, r.code, r.text)
			if want := fmt.Sprintf(`{"errcode":%d,"errmsg":"%s rid: %s-%s-%s"}`, r.code, r.text, m[2], m[3], m[4]); a.Body != want {
				t.Errorf("got  %s\nwant %s", a.Body, want)
			}
			var clock struct{ Now time.Time }
			s.Admin("GET", "/emulator/clock", "").JSON(t, &clock)
			assert.Equal(t, strconv.FormatInt(clock.Now.Unix(), 16), m[2], "the request id begins with %s, the server's second", m[2])
			assert.True(t, !clock.Now.Before(servertest.Began.Add(36*time.Hour)), "the clock shows %s", clock.Now)
		})
	}
}

const ofCodes = "its text has a hint: TestApplyCodeQuery_Cases and others of the code family, TestCodeCalls_CommonErrors where it is injected"

// elsewhere are the codes that the table above cannot produce.
var elsewhere = map[int]string{
	40090: "TestAddressesOffTheList_EachCall",
	40170: "of third-party platforms: TestComponentAPI_EveryErrorCode",
	41018: "of third-party platforms: TestComponentAPI_EveryErrorCode",
	40014: "only as an injected fault: TestErrorCodes_ByFaultInjectionOnly",
	42007: "only as an injected fault: TestErrorCodes_ByFaultInjectionOnly",
	40226: "only as an injected fault: TestErrorCodes_ByFaultInjectionOnly",
	61003: "of third-party platforms: TestComponentAPI_EveryErrorCode",
	61004: "of third-party platforms: TestComponentAPI_EveryErrorCode",
	61005: "of third-party platforms: TestComponentAPI_EveryErrorCode",
	61006: "of third-party platforms: TestComponentAPI_EveryErrorCode",
	61007: "TestPermissionSets_OpenFamilies",
	61009: "of third-party platforms: TestComponentAPI_EveryErrorCode",
	61010: "of third-party platforms: TestComponentAPI_EveryErrorCode",
	61011: "of third-party platforms: TestComponentAPI_EveryErrorCode",
	61014: "of third-party platforms: TestComponentAPI_EveryErrorCode",
	61023: "of third-party platforms: TestComponentAPI_EveryErrorCode",
	45011: "TestRateLimit_PerMinute makes the 10,001 calls",
	80300: ofCodes,
	80301: ofCodes,
	80302: ofCodes,
	80303: ofCodes,
	80304: ofCodes,
	80305: ofCodes,
	80306: ofCodes,
	80307: ofCodes,
	80308: ofCodes,
	80309: ofCodes,
	80310: ofCodes,
	80311: ofCodes,
	80312: ofCodes,
	80313: ofCodes,
}

func TestErrorCodes_TableComplete(t *testing.T) {
	rows := errorRows(t)
	for _, c := range errcode.All() {
		if _, named := elsewhere[c.Number]; !named && !slices.ContainsFunc(rows, func(r errorRow) bool { return r.code == c.Number }) {
			t.Errorf("no row produces %d %s", c.Number, c.Text)
		}
	}
}

// TestErrorCodes_NeverReturned holds the numbers that pages list for a call by mistake. Contract: rules 1.8; marketcode 2, 7.
func TestErrorCodes_NeverReturned(t *testing.T) {
	if code, known := errcode.ByNumber(45112); known {
		t.Errorf("ByNumber(45112) = %v, want none", code)
	}
	for _, e := range api.Describe() {
		assert.True(t, !strings.HasPrefix(e.Path, codeFamily) || !slices.Contains(e.Codes, errcode.InvalidGrantType),
			"%s may answer 40002, want never", e.Path)
	}
}

// Contract: rules 1.8, the order of checks. Every request has two faults, or
// more; the earlier one wins.
func TestRuleCalls_ErrorPrecedence(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	bad := rule("https://shop.example/have/", `"debug_url":["https://x.example/"]`)
	occupied := as("rival", addPath, rule("https://shop.example/", `"permit_sub_rule":2`))
	full, denied, noICP := set("/settings", `{"rule_limit":0}`), set("/domains/shop.example", `{"status":"denied"}`),
		set("/domains/shop.example", `{"status":"no_icp"}`)
	check := set("/settings", `{"verification":"fetch"}`)
	for _, c := range []struct {
		name string
		want int
		how  how
	}{
		{"the method before the token", 43002, get(addPath)},
		{"the token before the body", 41001, post(addPath, "{'")},
		{"the token's form before the body", 40001, post(addPath+"?access_token=T", "{'")},
		{"the limit of calls before the body", 44990, after(many(2, as("shop", getPath, "{'")), set("/settings", `{"rule_rate_limit":1}`))},
		{"JSON before required fields", 47001, as("shop", addPath, `{"path":"p"`)},
		{"an empty body before required fields", 44002, as("shop", addPath, "")},
		{"the kind of account before the body: subscription", 48001, as("sub", addPath, "{'")},
		{"the kind of account before an empty body", 48001, as("sub", getPath, "")},
		{"required fields before the kind of account: personal", 40097,
			as("person", addPath, rule("https://shop.example/", `"open_version":9`))},
		{"certification before the body", 48001, as("plain", addPath, "{'")},
		{"certification before the body of a parametric code", 48001, as("plain", "/cgi-bin/qrcode/create", "{'")},
		{"a token of its own before the body of a link", 48001, as("svc", "/cgi-bin/wxopen/wxamplink", "{'")},
		{"the feature before the body of a code call", 48001, as("svc", "/intp/marketcode/applycode", "{'")},
		{"a wrong type before the kind of account", 40097, as("person", publishPath, `{"prefix":[]}`)},
		{"ranges of a list before the kind of account", 40097, as("person", getPath, `{"get_type":9}`)},
		{"certification before appid", 48001, as("plain", addPath, code(q+"a", "nobody"))},
		{"personal before the prefix", 85075, as("person", addPath, rule("ftp://x"))},
		{"subscription account before the prefix", 48001, as("sub", addPath, rule("ftp://x"))},
		{"appid before the prefix", 40166, as("svc", addPath, code("ftp://x", "nobody"))},
		{"a personal target before the prefix", 85075, as("svc", addPath, code("ftp://x", "person"))},
		{"the prefix before test links", 85066, as("shop", addPath, rule("ftp://x", `"debug_url":["https://x.example/"]`))},
		{"test links before a duplicate", 85068, after(as("shop", addPath, bad), have)},
		{"test links before another owner", 85068, after(as("shop", addPath, bad), occupied)},
		{"an own duplicate before another's occupation", 85071, after(have, have, occupied)},
		{"a duplicate before the limit", 85071, after(have, have, full)},
		{"another owner before the limit", 85072, after(have, occupied, full)},
		{"another owner before a denied host", 85072, after(have, occupied, denied)},
		{"the limit before a denied host", 85073, after(have, full, denied)},
		{"the limit before ICP", 85073, after(have, full, noICP)},
		{"a denied host before the file", 85070, after(have, check, denied)},
		{"ICP before the file", 85076, after(have, check, noICP)},
		{"an unknown rule before the release", 40097, as("draft", publishPath, prefix("https://draft.example/"))},
		{"the release before the quota", 85074, after(as("shop", publishPath, prefix("https://shop.example/2")), have,
			as("shop", addPath, rule("https://shop.example/2")),
			set("/settings", `{"publish_quota":1}`), as("shop", publishPath, prefix("https://shop.example/have/")),
			set("/accounts/shop/versions", `{"versions":["trial"]}`))},
		{"an edit: the prefix before the rule", 85066, as("shop", addPath, rule("ftp://x", `"is_edit":1`))},
		{"an edit: the rule before its test links", 40097,
			as("shop", addPath, rule("https://shop.example/none/", `"is_edit":1,"debug_url":["https://x.example/"]`))},
		{"an edit: test links before what may not change", 85068,
			after(as("shop", addPath, rule("https://shop.example/have/", `"is_edit":1,"path":"pages/other","debug_url":["https://x.example/"]`)),
				have, as("shop", publishPath, prefix("https://shop.example/have/")))},
		{"a missing appid before grant_type", 41002, fetch("x", "", "")},
		{"an unknown appid before grant_type", 40013, get(tokenPath + "?appid=nobody&secret=s")},
		{"a component's appid before grant_type", 61024, fetch("x", "isv", "")},
		{"grant_type before a missing secret", 40002, fetch("x", "shop", "")},
		{"grant_type before a wrong secret", 40002, fetch("x", "shop", "wrong")},
		{"appid before secret", 41002, fetch("client_credential", "", "")},
		{"an unknown appid before a missing secret", 40013, fetch("client_credential", "nobody", "")},
		{"the secret before the address", 40125, fetch("client_credential", "fenced", "wrong")},
		{"login: a missing appid before grant_type", 41002, get(sessionPath + "?secret=s&js_code=x")},
		{"login: an unknown appid before grant_type", 40013, get(sessionPath + "?appid=nobody&secret=s&js_code=x")},
		{"login: grant_type before the secret", 40002, get(sessionPath + "?appid=shop&secret=wrong&js_code=x")},
		{"login: the secret before the code", 40125, get(sessionPath + "?grant_type=authorization_code&appid=shop&secret=wrong")},
		{"the link before the release, and before what is published already", 40166, after(as("svc", publishPath, prefix(q+"a")),
			as("svc", addPath, code(q+"a", "draft")), unlink("svc", "draft"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Renew(t)
			if a := c.how(s); a.Code(t) != c.want {
				t.Errorf("got %s, want %d", a.Body, c.want)
			}
		})
	}
}

// Contract: rules 0: digits, with a sign or a point.
func TestNumberField_NumericString(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	for i, number := range []string{`"1"`, `" 1 "`, `"+1"`, `"01"`, `"1.0"`, `"+1.00"`, `1`, `1.0`, `1e0`, `10e-1`} {
		as("shop", addPath, rule(fmt.Sprintf("https://shop.example/%d/", i), `"open_version":`+number))(s).WantCode(t, 0, "%s", number)
	}
}

// A monitor that probes an address must neither end a token nor use a login up.
// Contract: rules 3.1.
func TestMonitorProbe_NoTokenIssued(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	var first, again struct {
		Token  string `json:"access_token"`
		JSCode string `json:"js_code"`
	}
	s.Do("POST", stablePath, stable("shop")).JSON(t, &first)
	s.Hide(first.Token)
	plain := s.NewToken("shop")
	s.Do("POST", "/scan/v1/login", `{"user":"u","appid":"shop"}`).JSON(t, &first)
	paths := map[string]string{
		tokenPath:   tokenPath + "?grant_type=client_credential&appid=shop&secret=secret-shop",
		stablePath:  stablePath + "?grant_type=client_credential&appid=shop&secret=secret-shop",
		sessionPath: sessionPath + "?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code=" + first.JSCode,
	}
	for name, path := range paths {
		for _, method := range []string{"HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "PROBE"} {
			body := ""
			if name == stablePath {
				body = strings.Replace(stable("shop"), "{", `{"force_refresh":true,`, 1)
			}
			a := s.Do(method, path, body)
			if method == "HEAD" && a.Body == "" && a.Status == http.StatusOK {
				continue // what it did shows below
			}
			text := "require POST method"
			if name == sessionPath {
				text += ","
			}
			t.Run(method+" "+name, func(t *testing.T) { checkText(t, a, 43002, text) })
		}
	}
	if a := s.Do("GET", paths[sessionPath], ""); !strings.Contains(a.Body, `"openid"`) {
		t.Errorf("the login was used up: %s", a.Body)
	}
	s.Advance(5 * time.Minute) // a token that was replaced has ended
	s.Do("POST", getPath+"?access_token="+plain, "{}").WantCode(t, 0, "the token of before")
	if s.Do("POST", stablePath, stable("shop")).JSON(t, &again); again.Token != first.Token {
		t.Error("the stable token is another one")
	}
}

// Contract: rules 3.2, 3.6: 40014 and 42007 do not happen by themselves.
func TestErrorCodes_ByFaultInjectionOnly(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	shop := s.Token("shop")
	for _, text := range []string{"2", "undefined", strings.Repeat("0", 40), "ACCESS_TOKEN", shop[:60], shop + "x", shop + "%20", "109_" +
		strings.Repeat("x", 128)} {
		for _, path := range []string{addPath, tradePath, "/cgi-bin/get_api_domain_ip", "/cgi-bin/clear_quota", family +
			"api_create_preauthcode"} {
			checkText(t, s.Do("POST", path+"?access_token="+text, "{}"), 40001, badToken)
		}
	}
	s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":40014,"count":1}`, getPath))
	checkText(t, s.Do("POST", getPath+"?access_token="+shop, "{}"), 40014, "invalid access_token")
	s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":40226,"count":1}`, sessionPath))
	blocked := s.Do("GET", sessionPath+"?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code=x", "")
	checkText(t, blocked, 40226, "code blocked,")
	s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":42007,"count":1}`, family+"api_authorizer_token"))
	refresh := `{"component_appid":"isv","authorizer_appid":"shop","authorizer_refresh_token":"x"}`
	token := s.ComponentToken("isv")
	checkText(t, s.Component(token, "api_authorizer_token", refresh), 42007, "access_token and refresh_token exception")
	checkText(t, s.Component(token, "api_authorizer_token", refresh), 61023, "refresh_token is invalid")
}

// The advice to use stable_token stands behind 40001 and 45009 on the calls
// that take or make an ordinary token, and nowhere else. Contract: rules 3.6.
// Behaviour(wire.answer.advice) Behaviour(wire.answer.no_advice).
func TestErrmsg_StableTokenAdvice(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	const dead, spent = "invalid credential, access_token is invalid or not latest", "reach max api daily quota limit"
	secret := `{"component_appid":"isv","component_secret":"secret-isv"}`
	for _, c := range []struct {
		path, behind string
		call         how
	}{
		{tokenPath, errcode.StableTokenAdvice, fetch("client_credential", "shop", "secret-shop")},
		{getPath, errcode.StableTokenAdvice, as("shop", getPath, "{}")},
		{"/intp/marketcode/applycodequery", errcode.StableTokenAdvice,
			as("svc", "/intp/marketcode/applycodequery", `{"application_id":1}`)},
		{stablePath, "", post(stablePath, stable("shop"))},
		{family + "api_start_push_ticket", "", post(family+"api_start_push_ticket", secret)},
		{sessionPath, ",", get(sessionPath + "?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code=x")},
	} {
		checkText(t, after(c.call, fault(c.path, 40001))(s), 40001, dead+c.behind)
		checkText(t, after(c.call, fault(c.path, 45009))(s), 45009, spent+c.behind)
	}
	assert.True(t, errcode.InvalidCredential.Text+errcode.StableTokenAdvice == badToken && errcode.DailyLimit.Text+
		errcode.StableTokenAdvice == dayQuota, "the texts are not those that were met live")
}

// Contract: rules 0: five calls a second per account per interface.
func TestRateLimit_FivePerSecond(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	s.Admin("PUT", "/settings", `{"rule_rate_limit":5}`)
	call := func(want int, appid, path, body string) {
		t.Helper()
		if a := as(appid, path, body)(s); a.Code(t) != want {
			t.Fatalf("%s as %s: got %s, want %d", path, appid, a.Body, want)
		}
	}
	for range 5 {
		call(0, "shop", getPath, "{}")
	}
	call(44990, "shop", getPath, "{}")
	call(44990, "shop", getPath, "not even JSON")
	call(0, "rival", getPath, "{}")
	call(0, "shop", downloadPath, "{}")
	// A refused call counts for nothing, and the window is no calendar second.
	s.Clock.Step(time.Second - 1)
	call(44990, "shop", getPath, "{}")
	s.Clock.Step(1)
	for range 5 {
		call(0, "shop", getPath, "{}")
	}
	call(44990, "shop", getPath, "{}")
	// The emulator's clock counts as well as the machine's.
	s.Advance(time.Hour)
	for range 5 {
		call(0, "shop", getPath, "{}")
	}
	call(44990, "shop", getPath, "{}")
	// Another limit holds at once; 0 is none.
	s.Admin("PUT", "/settings", `{"rule_rate_limit":null}`)
	for range 12 {
		call(0, "shop", getPath, "{}")
	}
	// No limit of calls to the token endpoints but their own.
	s.Admin("PUT", "/settings", `{"rule_rate_limit":1}`)
	for range 3 {
		s.NewToken("shop")
	}
}

// Issue 11, 2: the platform refused them from 2021 to 2023, and its console took them.
func TestPrefix_NewTLDSetting(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town + `rules: [{owner: shop, prefix: "https://seed.ink/", path: p}]` + "\n"})
	wants := func(link string, want int) {
		t.Helper()
		as("shop", addPath, rule(link))(s).WantCode(t, want, "%s", link)
	}
	newer := []string{"https://jg.ink/nutcards/8", "http://a.b.PLUS/", "https://x.media?a=b", "https://x.run"}
	for _, link := range newer {
		wants(link, 0)
		as("shop", deletePath, prefix(link))(s)
	}
	s.Admin("PUT", "/settings", `{"behaviours":{"rules.prefix.newer_taken":"reject"}}`)
	for _, link := range newer {
		wants(link, 85066)
	}
	wants("https://x.ink:8443/", 85066)
	for _, link := range []string{"https://ink.example/", "https://x.inks/", "https://x.trunk/", "https://x.example/a.ink",
		"https://x.ink.example/"} {
		wants(link, 0)
	}
	// Rules that exist stay, and can be published and edited.
	wants("https://seed.ink/", 85066)
	for _, call := range []how{as("shop", addPath, rule("https://seed.ink/", `"is_edit":1`)),
		as("shop", publishPath, prefix("https://seed.ink/"))} {
		call(s).WantCode(t, 0, "a rule from before")
	}
}

// Issue 11, 2: twenty codes in a row gave fifteen errors, and a shop trades a ticket for every scan.
func TestRateLimit_DefaultJumpRulesOnly(t *testing.T) {
	t.Parallel()
	granted := strings.Replace(town, "secret: secret-svc,", "secret: secret-svc, features: [marketcode],", 1)
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(granted, ", rule_rate_limit: null", "", 1)})
	often := func(appid, path, body string) (refused int) {
		for range 20 {
			if as(appid, path, body)(s).Code(t) == 44990 {
				refused++
			}
		}
		return refused
	}
	perSecond := func(appid, path string) string {
		a := as(appid, quotaOf, fmt.Sprintf(`{"cgi_path":%q}`, path))(s)
		_, rate, _ := strings.Cut(a.Body, `"rate_limit":`)
		rate, _, _ = strings.Cut(rate, "}")
		return rate + "}"
	}
	const tradePath = "/intp/marketcode/tickettocode"
	rest := map[string]string{createPath: wanted("QR_SCENE", `"scene_id":1`, ""), tradePath: "{}", "/cgi-bin/get_api_domain_ip": "{}"}
	for path, body := range rest {
		assert.Equal(t, often("svc", path, body), 0, "%s", path)
	}
	for _, path := range []string{addPath, getPath, publishPath, deletePath, downloadPath} {
		assert.Equal(t, often("shop", path, "{}"), 15, "%s", path)
	}
	assert.Equal(t, perSecond("svc", getPath), `{"call_count":5,"refresh_second":1}`, "quota/get of a jump rule's call")
	assert.Equal(t, perSecond("svc", createPath), `{"call_count":500000,"refresh_second":86400}`, "quota/get of qrcode/create")

	// The setting for the rest leaves the jump rules alone.
	s.Admin("PUT", "/settings", `{"rule_rate_limit":null,"default_rate_limit":7}`)
	s.Clock.Step(time.Minute)
	for path, body := range rest {
		assert.Equal(t, often("svc", path, body), 13, "%s", path)
	}
	assert.Equal(t, often("shop", getPath, "{}"), 0, "%s", getPath)
	s.Clock.Step(time.Minute)
	assert.Equal(t, perSecond("svc", createPath), `{"call_count":7,"refresh_second":1}`, "quota/get of qrcode/create with a limit")
	s.Admin("PUT", "/settings", `{"rule_rate_limit":0}`)
	assert.Equal(t, often("shop", getPath, "{}"), 20, "%s with a limit of 0", getPath)
}

func TestRateLimit_PerMinute(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand calls, one after the other")
	}
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	a := s.Do("POST", stablePath, stable("shop"))
	var issued struct {
		Token string `json:"access_token"`
	}
	a.JSON(t, &issued)
	s.Hide(issued.Token)
	client := &http.Client{}
	send := func() int {
		resp, err := client.Do(s.Request("POST", stablePath, stable("shop")))
		require.NoError(t, err)
		defer resp.Body.Close()
		b := make([]byte, 4096)
		n, _ := resp.Body.Read(b)
		return servertest.Answer{Body: string(b[:n])}.Code(t)
	}
	for n := range 9_999 {
		require.Equal(t, send(), 0, "call %d", n+2)
	}
	a = s.Do("POST", stablePath, stable("shop"))
	checkText(t, a, 45011, "api minute-quota reach limit, must slower, retry next minute")
	s.Do("POST", stablePath, stable("rival")).WantCode(t, 0, "another account")
	s.Advance(time.Minute)
	s.Do("POST", stablePath, stable("shop")).WantCode(t, 0, "in the next minute")
}

func checkText(t *testing.T, a servertest.Answer, code int, text string) {
	t.Helper()
	if want := fmt.Sprintf(`{"errcode":%d,"errmsg":"%s rid: `, code, text); !strings.HasPrefix(a.Body, want) {
		t.Errorf("got %s, want %s…", a.Body, want)
	}
}
