package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// seenLine is a line of docs/contract/seen/answers.ndjson.
type seenLine struct {
	ID, Endpoint, Request, Date, Source, Play string
	EvidenceLevel                             string `json:"evidence_level"`
	Answer                                    json.RawMessage
}

// difference is a line of docs/contract/seen/differences.ndjson.
type difference struct{ ID, Kind, Reason string }

func readLines[T any](t *testing.T, name string) (list []T) {
	t.Helper()
	f, err := os.Open("../../../docs/contract/seen/" + name)
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var one T
		d := json.NewDecoder(strings.NewReader(lines.Text()))
		d.DisallowUnknownFields()
		if err := d.Decode(&one); err != nil {
			t.Fatalf("%s: %v in %s", name, err, lines.Text())
		}
		list = append(list, one)
	}
	if lines.Err() != nil || len(list) == 0 {
		t.Fatalf("%s: %d lines, %v", name, len(list), lines.Err())
	}
	return list
}

var (
	anyRID     = regexp.MustCompile(` ?rid: ?[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}| rid:[0-9a-f]{8}-… \(copied without the space\)`)
	anyHint    = regexp.MustCompile(` hint: \[[^\]]*\](\[[^\]]*\])?`)
	anyAddress = regexp.MustCompile(`\b127\.0\.0\.1\b`)
	anyYear    = regexp.MustCompile(`20\d\d(-\d\d(-\d\d)?)?`)
	escaped    = regexp.MustCompile(`\\+/`)
)

// plain is an errmsg with its rid, hint and address masked where they stand.
func plain(errmsg string) string {
	errmsg = anyHint.ReplaceAllString(anyRID.ReplaceAllString(errmsg, " R"), " H")
	return anyAddress.ReplaceAllString(errmsg, "a.b.*.*")
}

// shape is an answer as names in their order, types, and numbers: of a list only
// the first entry. An errmsg is there with its words.
func shape(t *testing.T, answer string) string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(answer))
	d.UseNumber()
	var value func(name string) string
	value = func(name string) string {
		tok, err := d.Token()
		if err != nil {
			t.Fatalf("%v in %s", err, answer)
		}
		switch tok := tok.(type) {
		case json.Delim:
			var parts []string
			for d.More() {
				if tok == '[' {
					parts = append(parts, value(""))
					continue
				}
				key, err := d.Token()
				if err != nil {
					t.Fatalf("%v in %s", err, answer)
				}
				parts = append(parts, fmt.Sprintf("%v:%s", key, value(fmt.Sprint(key))))
			}
			if _, err := d.Token(); err != nil {
				t.Fatalf("%v in %s", err, answer)
			}
			if tok == '[' {
				parts = parts[:min(1, len(parts))]
			}
			return fmt.Sprintf("%v%s", tok, strings.Join(parts, " "))
		case json.Number:
			if name == "id" {
				return "number"
			}
			return tok.String()
		case string:
			if name == "errmsg" {
				return plain(tok)
			}
			return "text"
		}
		return fmt.Sprintf("%T", tok)
	}
	return value("")
}

var dayOf = regexp.MustCompile(`^20[0-9]{2}(-[0-9]{2}(-[0-9]{2})?)?`)

// Every answer of the platform that others published is answered so here, or is a
// difference with a reason. What agrees is evidence of the row that decided.
// Behaviour(wire.answer.comma) Behaviour(wire.answer.rid).
// What the platform left since is answered so as of its day: Behaviour(wire.answer.hint_alone)
// Behaviour(wire.answer.unadvised) Behaviour(wire.answer.textless).
func TestOurAnswersAreThoseThatOthersHaveSeen(t *testing.T) {
	t.Parallel()
	differ := map[string]difference{}
	for _, d := range readLines[difference](t, "differences.ndjson") {
		if !slices.Contains([]string{"family", "unknown", "differs", "earlier"}, d.Kind) || d.Reason == "" || differ[d.ID].ID != "" {
			t.Errorf("the difference %+v", d)
		}
		differ[d.ID] = d
	}
	s := servertest.Start(t, servertest.Options{Seed: agency})
	asked := map[string]servertest.Answer{}
	newest := map[behaviour.Row]string{}
	seen, dates := map[string]bool{}, map[string]bool{}
	plays := playsOf(s)
	then := map[string]*servertest.Server{} // by the day as of which it answers
	for _, line := range readLines[seenLine](t, "answers.ndjson") {
		d, named := differ[line.ID]
		if seen[line.ID] || line.ID == "" || line.Source == "" {
			t.Errorf("%s is there twice, or has no source", line.ID)
		}
		seen[line.ID] = true
		dates[dayOf.FindString(line.Date)] = true // a line of another family may be newer evidence
		if line.Play == "" {
			if !named || d.Kind == "differs" || d.Kind == "earlier" {
				t.Errorf("%s says neither how to ask for it nor why not", line.ID)
			}
			if d.Kind == "family" && slices.Contains(api.Paths(), line.Endpoint) {
				t.Errorf("%s: %s is an endpoint of ours: say how to ask for the answer", line.ID, line.Endpoint)
			}
			continue
		}
		if line.Play == "table of codes" {
			checkTableRow(t, line)
			continue
		}
		a, known := asked[line.Play]
		if !known {
			play := plays[line.Play]
			if play == nil {
				t.Errorf("%s: there is no play %q", line.ID, line.Play)
				continue
			}
			s.Renew(t)
			a = play()
			asked[line.Play] = a
		}
		agrees := agree(t, line, a)
		if named && d.Kind == "earlier" {
			day := anyYear.FindString(line.Date)
			if then[day] == nil {
				then[day] = servertest.Start(t, servertest.Options{Seed: agency, Config: func(c *server.Config) { c.AsOf = day }})
			}
			then[day].Renew(t)
			if b := playsOf(then[day])[line.Play](); agree(t, line, b) {
				evidence(t, then[day], line, b, newest)
			} else {
				t.Errorf("%s, %s, as of %s:\nlive %s\nours %s", line.ID, line.Play, day, line.Answer, b.Body)
			}
		}
		switch {
		case agrees && named:
			t.Errorf("%s is answered as the platform did: it is no difference any more (%s)", line.ID, d.Reason)
		case !agrees && (!named || d.Kind != "differs" && d.Kind != "earlier"):
			t.Errorf("%s, %s, %s:\nlive %s\nours %s", line.ID, line.Play, line.Date, line.Answer, a.Body)
		case agrees:
			evidence(t, s, line, a, newest)
		}
	}
	for id := range differ {
		if !seen[id] {
			t.Errorf("there is no line %s to differ from", id)
		}
	}
	for play := range plays {
		if _, was := asked[play]; !was {
			t.Errorf("no line is asked for by %q", play)
		}
	}
	for row, date := range newest {
		if b := row.Get(); b.Date < date || !dates[b.Date] {
			t.Errorf("the newest evidence of %s is of %s, its row says %s", b.ID, date, b.Date)
		}
	}
}

// agree reports whether our answer is the platform's: names, types, numbers and words, and how slashes are
// written. Behaviour(wire.answer.slash).
func agree(t *testing.T, line seenLine, a servertest.Answer) bool {
	t.Helper()
	live, ours := shape(t, string(line.Answer)), shape(t, a.Body)
	if !strings.Contains(live, "errcode:") && strings.Contains(live, "errmsg:") {
		ours = "{" + ours[strings.Index(ours, "errmsg:"):] // the number was not printed
	}
	bare := strings.Contains(escaped.ReplaceAllString(a.Body, ""), "/")
	return live == ours && !(bare && escaped.Match(line.Answer))
}

// checkTableRow compares a row of the platform's table of codes with ours.
func checkTableRow(t *testing.T, line seenLine) {
	t.Helper()
	var row struct {
		ErrCode int
		ErrMsg  string
	}
	require.NoError(t, json.Unmarshal(line.Answer, &row))
	if c, known := errcode.ByNumber(row.ErrCode); !known || c.Text != row.ErrMsg {
		t.Errorf("%s: the platform's table has %d %s", line.ID, row.ErrCode, row.ErrMsg)
	}
}

// evidence notes a line's date for the rows that decided our answer, of which one
// must have been seen.
func evidence(t *testing.T, s *servertest.Server, line seenLine, a servertest.Answer, newest map[behaviour.Row]string) {
	t.Helper()
	rid := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}`).FindString(a.Body)
	if rid == "" {
		return
	}
	var met []behaviour.Row
	for logged := range strings.Lines(s.Log()) {
		_, rows, ok := strings.Cut(logged, ` behaviours="`)
		if !ok || !strings.Contains(logged, "rid="+rid) {
			_, rows, ok = strings.Cut(logged, ` behaviours=`)
		}
		if !ok || !strings.Contains(logged, "rid="+rid) {
			continue
		}
		rows, _, _ = strings.Cut(strings.TrimPrefix(rows, "["), "]")
		for id := range strings.FieldsSeq(rows) {
			if row, known := behaviour.ByID(id); known {
				met = append(met, row)
			}
		}
	}
	if slices.Contains(met, behaviour.WireFault) {
		return
	}
	if !slices.ContainsFunc(met, func(r behaviour.Row) bool { return r.Get().Evidence == behaviour.Observed }) {
		t.Errorf("%s was seen, and no row that decided our answer says so: %v", line.ID, met)
	}
	date := dayOf.FindString(line.Date)
	for _, row := range met {
		if b := row.Get(); b.Evidence == behaviour.Observed && b.Source == "docs/contract/seen" && date > newest[row] {
			newest[row] = date
		}
	}
}

// playsOf are the calls by which lines are asked for, each on a server that is new.
func playsOf(s *servertest.Server) map[string]func() servertest.Answer {
	const (
		codesPath = "/intp/marketcode/"
		fake      = "?access_token=fake_token_0000000000"
		grant     = "?grant_type=authorization_code&"
		refreshOf = family + "api_authorizer_token"
		tokenOf   = family + "api_component_token"
	)
	var token, shopToken, shopRefresh, ticket string
	component := func(name, fields string) how {
		return func(s *servertest.Server) servertest.Answer {
			return s.Component(token, name, `{"component_appid":"isv",`+fields+`}`)
		}
	}
	trade := func(appid, secret, ticket string) how {
		return post(family+"api_component_token",
			fmt.Sprintf(`{"component_appid":%q,"component_appsecret":%q,"component_verify_ticket":%s}`, appid, secret, ticket))
	}
	fenced := set("/components/isv", `{"ip_allowlist":["203.0.113.0/24"]}`)
	later := func(d time.Duration) how {
		return func(s *servertest.Server) servertest.Answer {
			s.Advance(d)
			return servertest.Answer{}
		}
	}
	login := func(times int) how {
		return func(s *servertest.Server) servertest.Answer {
			var made struct {
				JSCode string `json:"js_code"`
			}
			a := s.Do("POST", "/scan/v1/login", `{"user":"u","appid":"shop"}`)
			if err := json.Unmarshal([]byte(a.Body), &made); err != nil {
				panic(err)
			}
			return many(times, get(sessionPath+grant+"appid=shop&secret=secret-shop&js_code="+made.JSCode))(s)
		}
	}
	old := func(s *servertest.Server) servertest.Answer {
		before := s.Token("shop")
		s.Advance(2 * time.Hour)
		return s.Do("POST", getPath+"?access_token="+before, "{}")
	}
	limited := func(path string) how { return set("/settings", fmt.Sprintf(`{"daily_limits":{%q:1}}`, path)) }
	form := post(tokenOf, "component_appid=isv&component_appsecret=secret-isv")
	refresh := component("api_authorizer_token", `"authorizer_appid":"shop","authorizer_refresh_token":"x"`)
	replaced := func(s *servertest.Server) servertest.Answer {
		s.Authorize(token, "isv", "shop", "[33]")
		return component("api_authorizer_token", `"authorizer_appid":"shop","authorizer_refresh_token":`+quoted(shopRefresh))(s)
	}
	missing := func(extra ...string) how {
		return after(as("shop", addPath, rule("http://127.0.0.1:1/a/", extra...)), set("/settings", `{"verification":"fetch"}`))
	}
	byPlatform := func(appid, path, body string) how {
		return func(s *servertest.Server) servertest.Answer {
			access, _ := s.AuthorizerToken(token, "isv", appid)
			return s.Do("POST", path+"?access_token="+access, body)
		}
	}
	session := func(query string) how { return get(sessionPath + query) }
	ofTheFamily := map[string]how{
		"token, unknown AppID":                    get(tokenPath + "?grant_type=client_credential&appid=wx_t&secret=x"),
		"token, unknown AppID without grant_type": get(tokenPath + "?appid=wx_t&secret=x"),
		"stable_token, unknown AppID": post(stablePath,
			`{"grant_type":"client_credential","appid":"wx_t","secret":"x","force_refresh":false}`),
		"qrcodejumpget, empty body":          as("shop", getPath, ""),
		"qrcodejumpdownload, empty body":     as("shop", downloadPath, ""),
		"getcallbackip, no token at all":     get("/cgi-bin/getcallbackip" + fake),
		"get_api_domain_ip, no token at all": get("/cgi-bin/get_api_domain_ip" + fake),
		"clear_quota, no token at all":       post("/cgi-bin/clear_quota"+fake, `{"appid":"wx_t"}`),
		"one character as token":             post(getPath+"?access_token=2", "{}"),

		"token, wrong secret":              fetch("client_credential", "shop", "wrong"),
		"token, POST with nothing":         post(tokenPath, ""),
		"token, GET with nothing":          get(tokenPath),
		"token, appId with a capital I":    get(tokenPath + "?grant_type=client_credential&appId=shop&secret=secret-shop"),
		"jscode2session, wrong secret":     session(grant + "appid=shop&secret=wrong&js_code=x"),
		"jscode2session, empty appid":      session(grant + "appid=&secret=x&js_code=x"),
		"jscode2session, empty secret":     session(grant + "appid=shop&secret=&js_code=x"),
		"jscode2session, empty js_code":    session(grant + "appid=shop&secret=secret-shop&js_code="),
		"jscode2session, wrong grant_type": session("?grant_type=code&appid=shop&secret=secret-shop&js_code=x"),
		"jscode2session, bad js_code":      session(grant + "appid=shop&secret=secret-shop&js_code=x"),
		"jscode2session, js_code twice":    login(2),
		"jscode2session":                   login(1),
		"a token two hours old":            old,
		"qrcode/create without a token":    post("/cgi-bin/qrcode/create", "{}"),
		"publish, body not JSON":           as("shop", publishPath, "{'"),
		"token, fault 50002":               after(fetch("client_credential", "shop", "secret-shop"), fault(tokenPath, 50002)),
		"authorizer token, fault 50002":    after(refresh, fault(refreshOf, 50002)),
		"authorizer token, fault 48004":    after(refresh, fault(refreshOf, 48004)),
		"wxamplink, fault 1005": after(as("svc", "/cgi-bin/wxopen/wxamplink",
			`{"appid":"rival","notify_users":1,"show_profile":1}`), byThemselves, fault("/cgi-bin/wxopen/wxamplink", 1005)),
		"quota of stable_token": as("shop", "/cgi-bin/openapi/quota/get", `{"cgi_path":"/cgi-bin/stable_token"}`),
		"getcallbackip": after(func(s *servertest.Server) servertest.Answer {
			return get("/cgi-bin/getcallbackip?access_token=" + s.Token("shop"))(s)
		}, set("/settings", `{"callback_ips":["192.0.2.0/24","198.51.100.0/24"]}`)),
		"qrcode/create, temporary": as("svc", "/cgi-bin/qrcode/create",
			`{"expire_seconds":1800,"action_name":"QR_SCENE","action_info":{"scene":{"scene_id":1}}}`),
		"qrcode/create, permanent": as("svc", "/cgi-bin/qrcode/create",
			`{"action_name":"QR_LIMIT_SCENE","action_info":{"scene":{"scene_id":1}}}`),
		"token, above the limit of a day": after(fetch("client_credential", "shop", "secret-shop"),
			set("/settings", `{"token_daily_limit":1}`), fetch("client_credential", "shop", "secret-shop")),
		"stable_token, above the limit of a day":     after(many(2, post(stablePath, stable("shop"))), limited(stablePath)),
		"authorizer token, above the limit of a day": after(many(2, refresh), limited(refreshOf)),
		"token, address off the list": after(fetch("client_credential", "shop", "secret-shop"),
			set("/accounts/shop", `{"kind":"mini_program","ip_allowlist":["203.0.113.0/24"]}`)),

		"component token, wrong secret":         trade("isv", "wrong", "null"),
		"component token, service account":      trade("svc", "x", "null"),
		"component token, Mini Program":         trade("shop", "x", `"x"`),
		"component token, unknown AppID":        trade("Component_Appid", "x", `""`),
		"component token, null ticket":          trade("isv", "secret-isv", "null"),
		"component token, no secret":            post(tokenOf, `{"component_appid":"isv","component_verify_ticket":"x"}`),
		"component token, a form":               form,
		"component token, address off the list": after(trade("isv", "secret-isv", `"x"`), fenced),
		"component token, old ticket": after(func(s *servertest.Server) servertest.Answer {
			return trade("isv", "secret-isv",
				quoted(ticket))(s)
		}, later(12*time.Hour)),
		"start_push_ticket, Mini Program": post(family+"api_start_push_ticket",
			`{"component_appid":"shop","component_secret":"x"}`),
		"authorizer token, address off the list":   after(refresh, fenced),
		"query_auth, address off the list":         after(component("api_query_auth", `"authorization_code":"x"`), fenced),
		"authorizer token, replaced refresh token": replaced,
		"authorizer token, an access token as refresh token": func(s *servertest.Server) servertest.Answer {
			return component("api_authorizer_token", `"authorizer_appid":"shop","authorizer_refresh_token":`+quoted(shopToken))(s)
		},
		"authorizer token, replaced component token": func(s *servertest.Server) servertest.Answer {
			before := token
			s.ComponentToken("isv")
			s.Advance(10 * time.Minute)
			token = before
			return refresh(s)
		},
		"query_auth, a pre_auth_code": func(s *servertest.Server) servertest.Answer {
			return component("api_query_auth", `"authorization_code":`+quoted(s.PreAuthCode(token, "isv")))(s)
		},
		"query_auth, another platform's code": func(s *servertest.Server) servertest.Answer {
			theirs := s.Authorize(s.ComponentToken("isv2"), "isv2", "rival", "[33]")
			return component("api_query_auth", `"component_access_token":"x","authorization_code":`+quoted(theirs))(s)
		},
		"query_auth, a code twice": func(s *servertest.Server) servertest.Answer {
			return many(2, component("api_query_auth", `"authorization_code":`+quoted(s.Authorize(token, "isv", "shop", "[33]"))))(s)
		},
		"query_auth": func(s *servertest.Server) servertest.Answer {
			return component("api_query_auth", `"authorization_code":`+quoted(s.Authorize(token, "isv", "shop", "[18,33]")))(s)
		},
		"authorizer_info, withdrawn": after(component("api_get_authorizer_info", `"authorizer_appid":"shop"`),
			func(s *servertest.Server) servertest.Answer {
				return s.Admin("DELETE", "/components/isv/authorizations/shop", "")
			}),
		"a call without the permission set":       byPlatform("shop", codesPath+"applycodequery", `{"application_id":1}`),
		"wxamplinkget without the permission set": byPlatform("svc", "/cgi-bin/wxopen/wxamplinkget", "{}"),

		"add under .run": as("shop", addPath, rule("https://shop.run/")),
		"add under .plus": as("shop", addPath,
			rule("https://shop.plus/", `"debug_url":["https://shop.plus?k=1"]`, `"open_version":2`)),
		"add under .ink":              as("shop", addPath, rule("http://shop.ink/cards/1")),
		"add under www and .ink":      as("shop", addPath, rule("http://www.shop.ink/cards/1")),
		"add under .media":            as("shop", addPath, rule("https://admin.shop.media/pay_3", `"permit_sub_rule":2`)),
		"add, unexplained":            as("shop", addPath, rule("https://e.shop.example/qrcodejump/99", `"open_version":1`)),
		"add with Chinese characters": as("shop", addPath, rule("https://shop.example/?canteen=1&name=食堂")),
		"add of /r/":                  as("svc", addPath, code("http://weixin.qq.com/r/a", "shop")),
		"add with a query": as("shop", addPath,
			rule("https://shop.example/c/m193384/4/?qr=123", `"debug_url":[]`, `"open_version":"3"`)),
		"add, file missing":                     missing(),
		"add, file missing, debug_url one text": missing(`"debug_url":"http://127.0.0.1:1/a/"`, `"permit_sub_rule":2`),
		"add, file missing, numbers as text":    missing(`"permit_sub_rule":"2"`, `"open_version":"3"`, `"is_edit":"0"`),
		"add without an ICP record": after(as("shop", addPath, rule("https://mini.shop.example/boxapp/")),
			set("/domains/mini.shop.example", `{"status":"no_icp"}`)),
		"add below an occupied prefix": after(as("rival", addPath, rule("https://shop.example/have/1")),
			as("shop", addPath, rule("https://shop.example/have/", `"permit_sub_rule":2`))),
		"list of no rules": as("shop", getPath, "{}"),

		"applycodequery, unknown": as("svc", codesPath+"applycodequery", `{"application_id":1,"isv_application_id":"x"}`),
		"applycodequery, another account's": func(s *servertest.Server) servertest.Answer {
			s.Admin("PUT", "/accounts/plain", `{"kind":"service_account","certified":true,"features":["marketcode"]}`)
			var made struct{ Application_id int64 }
			a := as("plain", codesPath+"applycode", `{"code_count":10000,"isv_application_id":"x"}`)(s)
			if err := json.Unmarshal([]byte(a.Body), &made); err != nil {
				panic(err)
			}
			return as("svc", codesPath+"applycodequery", fmt.Sprintf(`{"application_id":%d}`, made.Application_id))(s)
		},
		"tickettocode, impossible openid": as("svc", codesPath+"tickettocode",
			`{"openid":"x","code_ticket":"0123456789abcdef0123456789abcdef"}`),
	}
	all := map[string]func() servertest.Answer{}
	for name, call := range ofTheFamily {
		all[name] = func() servertest.Answer {
			token, ticket = s.ComponentToken("isv"), s.Ticket("isv")
			shopToken, shopRefresh = s.AuthorizerToken(token, "isv", "shop")
			return call(s)
		}
	}
	return all
}
