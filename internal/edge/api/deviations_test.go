package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// reported lists what callers deviated in.
func reported(t *testing.T, s *servertest.Server) (list []client.Deviation) {
	t.Helper()
	var answer client.DeviationList
	s.Admin("GET", "/deviations", "").JSON(t, &answer)
	return answer.Deviations
}

// nobody is a client to whom no server answers, and who does not wait long.
func nobody() *safehttp.Client {
	return &safehttp.Client{Patience: time.Millisecond, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
}

// deviations are, by the row, a story in which a caller deviates so.
func deviations(t *testing.T) map[string]how {
	t.Helper()
	stories := stories(t, "deviations", "")
	for id, long := range longDeviations {
		stories[id] = func(s *servertest.Server) servertest.Answer { return long(t, s) }
	}
	return stories
}

var longDeviations = map[string]func(*testing.T, *servertest.Server) servertest.Answer{
	"codes.query.two": func(t *testing.T, s *servertest.Server) servertest.Answer {
		return named(t, `{"code_url":"%s","code":"%s"}`, same)(s)
	},
	"codes.query.form": func(t *testing.T, s *servertest.Server) servertest.Answer {
		return named(t, `{"code_url":"https://%s"}`, same)(s)
	},
	"codes.ticket.token": func(t *testing.T, s *servertest.Server) servertest.Answer {
		s.Tell("allow codes.ticket.token", nil)
		return s.Do("POST", tradePath, scannedCode(t, s))
	},
	"codes.ticket.again": func(t *testing.T, s *servertest.Server) servertest.Answer {
		return many(2, post(tradePath+"?access_token="+s.Token("svc"), scannedCode(t, s)))(s)
	},
	"message.slow": func(t *testing.T, s *servertest.Server) servertest.Answer {
		s.Admin("PUT", "/components/isv", `{"event_url":"http://127.0.0.1:9/"}`)
		a := s.Do("POST", family+"api_start_push_ticket", `{"component_appid":"isv","component_secret":"secret-isv"}`)
		for began := time.Now(); time.Since(began) < 3*time.Minute; {
			if slices.ContainsFunc(reported(t, s), func(d client.Deviation) bool { return d.Behaviour == "message.slow" }) {
				break
			}
		}
		return a
	},
	"rules.publish.above": func(t *testing.T, s *servertest.Server) servertest.Answer {
		s.Admin("PUT", "/settings", `{"publish_quota":200}`)
		var a servertest.Answer
		for n := range 101 {
			s.Clock.Step(time.Second) // no more calls a second than the platform grants
			s.OK("shop", "add", rule(fmt.Sprintf("https://shop.example/%d/", n)))
			if a = s.Rule("shop", "publish", prefix(fmt.Sprintf("https://shop.example/%d/", n))); a.Code(t) != 0 {
				break
			}
			s.OK("shop", "delete", prefix(fmt.Sprintf("https://shop.example/%d/", n)))
		}
		return a
	},
	"rules.add.above": func(t *testing.T, s *servertest.Server) servertest.Answer {
		s.Admin("PUT", "/settings", `{"rule_limit":200}`)
		importHundred(t, s, `{"owner":"shop","prefix":"https://shop.example/%d/","path":"p"}`)
		return typed("shop", addPath, rule("https://shop.example/d/"))(s)
	},
	"rules.publish.service": func(t *testing.T, s *servertest.Server) servertest.Answer {
		importHundred(t, s, `{"owner":"svc","appid":"shop","prefix":"`+q+`%d","path":"p"}`)
		return s.Tell(`100 seconds POST /cgi-bin/wxopen/qrcodejumppublish as=svc typed {"prefix":"http://weixin.qq.com/q/%d"}
try POST /cgi-bin/wxopen/qrcodejumpadd as=svc typed {"prefix":"http://weixin.qq.com/q/a","appid":"shop","path":"p","is_edit":0}
POST /cgi-bin/wxopen/qrcodejumppublish as=svc typed {"prefix":"http://weixin.qq.com/q/a"}`, nil)
	},
}

// importHundred imports a hundred rules; %d in the line is their number.
func importHundred(t *testing.T, s *servertest.Server, line string) {
	t.Helper()
	var lines strings.Builder
	for n := range 100 {
		fmt.Fprintf(&lines, line+"\n", n)
	}
	s.Send(s.Request("POST", "/admin/v1/import/rules", lines.String(), "Content-Type: application/x-ndjson",
		"Authorization: Bearer "+servertest.AdminToken)).WantStatus(t, 200, "an import of a hundred rules")
}

// named activates codes of svc, and asks for the first by its text and its nine characters, written into a body.
func named(t *testing.T, body string, spelled func(string) string) how {
	return func(s *servertest.Server) servertest.Answer {
		scannedCode(t, s)
		var made told
		codeCall(s, "svc", "applycodequery", `{"isv_application_id":"scanned"}`).JSON(t, &made)
		text, code := printed(t, s, made.ApplicationID, 0)
		body := strings.Replace(strings.Replace(body, "%s", spelled(text), 1), "%s", code, 1)
		return codeCall(s, "svc", "codeactivequery", body)
	}
}

func same(text string) string { return text }

// spent is a call with settings, after n of its account to an interface today.
func spent(call how, settings, account, path string, n int) how {
	return func(s *servertest.Server) servertest.Answer {
		s.Admin("PUT", "/settings", settings)
		s.Exec(fmt.Sprintf(`INSERT INTO counters (appid, counter, day, value) VALUES ('%s', '%s', %d, %d)`, account, path,
			servertest.Began.Add(8*time.Hour).Unix()/86400, n))
		return call(s)
	}
}

// typed is a call as a client library makes it.
func typed(appid, path, body string) how {
	mark := "?"
	if strings.Contains(path, "?") {
		mark = "&"
	}
	return func(s *servertest.Server) servertest.Answer {
		return s.Do("POST", path+mark+"access_token="+s.Token(appid), body, "Content-Type: application/json")
	}
}

// scannedCode applies for codes of svc, activates them and has one scanned: the body of
// a trade of its ticket.
func scannedCode(t *testing.T, s *servertest.Server) string {
	t.Helper()
	var made told
	codeCall(s, "svc", "applycode", `{"code_count":10000,"isv_application_id":"scanned"}`).JSON(t, &made)
	codeCall(s, "svc", "codeactive", fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":9,"activity_name":"a","product_brand":"b",
		"product_title":"c","product_code":"6901234567892","wxa_appid":"shop","wxa_path":"p","wxa_type":0}`, made.ApplicationID))
	text, _ := printed(t, s, made.ApplicationID, 0)
	return trade(openid(t, s, "u", "svc"), ticketOf(t, s, "u", text))
}

// Each deviation is produced through HTTP and found in the report, with what to change
// and request ids of calls that say the same.
func TestDeviationReport_EveryDeviation(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency, Outbound: nobody()})
	stories := deviations(t)
	for _, d := range behaviour.Deviations() {
		id := d.Row.String()
		if strings.HasPrefix(id, "rules.confirm.") && id != "rules.confirm.vouched" {
			continue // a file must be fetched: TestConfirm_NearMatchReported
		}
		story := stories[id]
		if story == nil {
			t.Errorf("no story deviates in %s", id)
			continue
		}
		s.Renew(t)
		answer := story(s)
		list := reported(t, s)
		i := slices.IndexFunc(list, func(one client.Deviation) bool { return one.Behaviour == id })
		if i < 0 {
			t.Errorf("%s is not reported: %s %+v", id, answer.Body, list)
			continue
		}
		found := list[i]
		assert.True(t, found.EvidenceLevel == string(d.Minds) && found.Advice == d.Advice().English() &&
			found.Chinese == d.Advice().Chinese() && found.Count >= 1 &&
			found.Endpoint != "", "%s: %+v", id, found)
		for _, rid := range []string{found.FirstRID, found.LastRID} {
			var call client.Call
			s.Admin("GET", "/calls/"+rid, "").JSON(t, &call)
			assert.True(t, call.Endpoint == found.Endpoint && call.Account == found.Account && slices.Contains(call.Deviations, id),
				"%s: %s is %+v", id, rid, call)
		}
		assert.True(t, id != "rules.add.icp_unasked" || answer.Header.Get("X-Qrjump-Trace") == "/admin/v1/calls/"+found.FirstRID,
			"%s is another call than that of %q", found.FirstRID, answer.Header)
	}
	for id := range stories {
		row, known := behaviour.ByID(id)
		if _, deviates := row.Deviation(); !known || !deviates {
			t.Errorf("the story of %s is of no deviation", id)
		}
	}
}

// The report counts by account and endpoint, can be asked for by account, and begins
// anew where the operator or a reset wants it so.
func TestDeviationReport_FilterAndReset(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	story := deviations(t)["wire.number.text"]
	var first, last servertest.Answer
	produce := func() {
		first = story(s)
		for range 3 {
			last = story(s)
		}
		as("rival", getPath, `{"get_type":"0"}`)(s)
	}
	produce()
	of := func(query string) (list []client.Deviation) {
		t.Helper()
		var answer client.DeviationList
		s.Admin("GET", "/deviations"+query, "").JSON(t, &answer)
		return slices.DeleteFunc(answer.Deviations, func(d client.Deviation) bool { return d.Behaviour != "wire.number.text" })
	}
	why := func(a servertest.Answer) string {
		return strings.TrimPrefix(a.Header.Get("X-Qrjump-Trace"), "/admin/v1/calls/")
	}
	list := of("?account=shop")
	if len(list) != 1 || list[0].Count != 4 || list[0].FirstRID != why(first) || list[0].LastRID != why(last) ||
		list[0].Endpoint != getPath {
		t.Errorf("%+v; first %s, last %s", list, why(first), why(last))
	}
	if all := of(""); len(all) != 2 || all[0].Account != "rival" || all[1] != list[0] {
		t.Errorf("of all: %+v", all)
	}
	s.Admin("DELETE", "/deviations?account=rival", "")
	assert.Equal(t, len(of("")), 1, "without those of one")
	var left json.RawMessage
	s.Admin("DELETE", "/deviations", "").JSON(t, &left)
	assert.True(t, string(left) == `{"deviations":[]}`, "nothing is left, and the answer is %s", left)
	produce()
	s.Renew(t)
	if all := of(""); len(all) != 0 {
		t.Errorf("a reset left %+v", all)
	}
}

// Strict refuses what the platform is known or inferred to mind and lets the rest pass;
// a single behaviour can be turned either way, with strict and without.
func TestStrict_RejectsByBehaviour(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency, Outbound: nobody(),
		Config: func(c *server.Config) { c.Strict = behaviour.Inferred }})
	stories := deviations(t)
	for _, d := range behaviour.Deviations() {
		if d.Refusal == 0 || d.Row == behaviour.RulesConfirmTrim {
			continue
		}
		id, story := d.Row.String(), stories[d.Row.String()]
		try := func(what, settings string, refused bool) {
			t.Helper()
			s.Renew(t)
			if settings != "" {
				s.Admin("PUT", "/settings", settings)
			}
			if a := story(s); (a.Code(t) == d.Refusal) != refused {
				t.Errorf("%s, %s: %s", id, what, a.Body)
			}
		}
		try("strict", "", d.Minds.Surer(behaviour.Inferred) || d.Closed())
		try("strict, and it is allowed", fmt.Sprintf(`{"behaviours":{%q:"allow"}}`, id), false)
		try("not strict", `{"strict":false}`, false)
		try("it alone is rejected", fmt.Sprintf(`{"strict":false,"behaviours":{%q:"reject"}}`, id), true)
	}
}

// Each way in which a row lets something pass is answered as ever and reported; rejected, it is answered with the row's number.
func TestDeviationReport_EveryLeniency(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	scene := func(action, info string) how {
		return typed("svc", createPath, fmt.Sprintf(`{"action_name":%q,"action_info":%s}`, action, info))
	}
	token := func(query string) how {
		return func(s *servertest.Server) servertest.Answer {
			return s.Do("POST", getPath+"?access_token="+s.Token("shop")+query, "{}", "Content-Type: application/json")
		}
	}
	link := func(text string) how {
		return typed("shop", addPath, rule("https://shop.example/d/", fmt.Sprintf(`"debug_url":[%q]`, text)))
	}
	unreleased := func(call how, version string) how {
		return after(call, set("/accounts/shop", `{"kind":"mini_program","name":"Shop","versions":[`+version+`]}`))
	}
	active := func(fields string) how {
		return func(s *servertest.Server) servertest.Answer {
			var made told
			codeCall(s, "svc", "applycode", `{"code_count":10000,"isv_application_id":"coded"}`).JSON(t, &made)
			return codeCall(s, "svc", "codeactive", fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":9,"activity_name":"a",
				"product_brand":"b","product_title":"c","wxa_appid":"shop","wxa_path":"p",%s}`, made.ApplicationID, fields))
		}
	}
	ean := `"product_code":"6901234567892"`
	for _, c := range []struct {
		name, row string
		number    int
		story     how
	}{
		{"scene_id as a text", "wire.number.text", 40097, scene("QR_SCENE", `{"scene":{"scene_id":"1"}}`)},
		{"scene_id with a point", "wire.number.float", 40097, scene("QR_SCENE", `{"scene":{"scene_id":1.0}}`)},
		{"scene_str as a number", "wire.text.number", 40097, scene("QR_STR_SCENE", `{"scene":{"scene_str":1}}`)},
		{"an unknown field of a scene", "wire.field.unknown", 40097, scene("QR_SCENE", `{"scene":{"scene_id":1,"x":1}}`)},
		{"an unknown field of action_info", "wire.field.unknown", 40097, scene("QR_SCENE", `{"x":1,"scene":{"scene_id":1}}`)},
		{"a field of a scene twice", "wire.field.doubled", 40097, scene("QR_SCENE", `{"scene":{"scene_id":1,"scene_id":1}}`)},
		{"a scene twice", "wire.field.doubled", 40097, scene("QR_SCENE", `{"scene":{"scene_id":2},"scene":{"scene_id":1}}`)},
		{"access_token twice", "wire.field.doubled", 40097, token("&access_token=x")},
		{"access_token beside component_access_token", "wire.field.doubled", 40097, token("&component_access_token=x")},
		{"two tokens of a platform", "wire.field.doubled", 40097, func(s *servertest.Server) servertest.Answer {
			token := s.ComponentToken("isv")
			s.Admin("DELETE", "/deviations", "")
			return s.Do("POST", family+"api_create_preauthcode?access_token="+token+"&component_access_token="+token,
				`{"component_appid":"isv"}`, "Content-Type: application/json")
		}},
		{"a doubled slash in front", "wire.path.form", 40066, typed("shop", "/"+getPath, "{}")},
		{"a doubled slash inside", "wire.path.form", 40066, typed("shop", "/cgi-bin//wxopen/qrcodejumpget", "{}")},
		{"a letter as an escape", "wire.path.form", 40066, typed("shop", "/cgi-bin/wxopen/qrcodejump%67et", "{}")},
		{"a slash as an escape", "wire.path.form", 40066, typed("shop", "/cgi-bin/wxopen%2Fqrcodejumpget", "{}")},
		{"application/jsonp", "wire.body.type", 47001, func(s *servertest.Server) servertest.Answer {
			return s.Do("POST", getPath+"?access_token="+s.Token("shop"), "{}", "Content-Type: application/jsonp")
		}},
		{"a test link with a host in capitals", "rules.test_link.form", 85068, link("https://SHOP.example/d/1")},
		{"a test link with a blank", "rules.test_link.form", 85068, link("https://shop.example/d/a b")},
		{"a test link with Chinese letters", "rules.test_link.form", 85068, link("https://shop.example/d/中")},
		{"an edit with such a link", "rules.test_link.form", 85068, after(typed("shop", addPath,
			strings.Replace(rule("https://shop.example/d/", `"debug_url":["https://shop.example/d/中"]`), `"is_edit":0`, `"is_edit":1`, 1)),
			typed("shop", addPath, rule("https://shop.example/d/")))},
		{"a release wanted where there is none", "rules.add.unreleased", 40097,
			unreleased(typed("shop", addPath, rule("https://shop.example/d/")), `"trial"`)},
		{"codes for a release that is none", "rules.add.unreleased", 40097, unreleased(active(ean), `"trial"`)},
		{"a product_code of letters", "codes.activate.product_code", 40097, active(`"product_code":"beans"`)},
		{"an EAN with a wrong check digit", "codes.activate.product_code", 40097, active(`"product_code":"6901234567893"`)},
		{"code_url in small letters", "codes.query.form", 80303, named(t, `{"code_url":"%s"}`, strings.ToLower)},
		{"code_url with https://", "codes.query.form", 80303, named(t, `{"code_url":"https://%s"}`, same)},
		{"code_url with an escape", "codes.query.form", 80303, named(t, `{"code_url":"%s"}`,
			func(text string) string { return strings.Replace(text, "/0", "/%30", 1) })},
		{"code_url beside code", "codes.query.two", 40097, named(t, `{"code_url":"%s","code":"%s"}`, same)},
		{"more codes than the platform lets", "codes.apply.above", 40097, deviations(t)["codes.apply.above"]},

		{"more tokens of a platform a day", "wire.limit.above", 45009, spent(func(s *servertest.Server) servertest.Answer {
			ticket := s.Ticket("isv")
			return s.Do("POST", family+"api_component_token", fmt.Sprintf(`{"component_appid":"isv","component_appsecret":"secret-isv",
				"component_verify_ticket":%q}`, ticket), "Content-Type: application/json")
		}, `{"token_daily_limit":2001}`, "isv", family+"api_component_token", 2000)},
		{"more calls a day", "wire.limit.above", 45009, spent(typed("shop", getPath, "{}"), `{"daily_limits":{"`+getPath+`":500001}}`,
			"shop", getPath, 500_000)},
		{"more permanent codes", "wire.limit.above", 45029, func(s *servertest.Server) servertest.Answer {
			s.Admin("PUT", "/settings", `{"qrcode_limit":100001}`)
			s.Exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
				INSERT INTO qrcodes SELECT 'c' || i, 't' || i, 'svc', 'QR_LIMIT_STR_SCENE', i, 0, 0 FROM n`)
			return scene("QR_LIMIT_SCENE", `{"scene":{"scene_id":1}}`)(s)
		}},

		{"the last token that the platform lets", "", 0, spent(fetch("client_credential", "shop", "secret-shop"),
			`{"token_daily_limit":2001}`, "shop", tokenPath, 1999)},
		{"a plain scene", "", 0, scene("QR_SCENE", `{"scene":{"scene_id":1}}`)},
		{"the scene that does not count", "", 0, scene("QR_SCENE", `{"scene":{"scene_id":1,"scene_str":2}}`)},
		{"JSON with its character set", "", 0, func(s *servertest.Server) servertest.Answer {
			return s.Do("POST", getPath+"?access_token="+s.Token("shop"), "{}", "Content-Type: Application/JSON ; charset=utf-8")
		}},
		{"a test link with an escape and a star", "", 0, link("https://shop.example/d/%E4%B8%AD*?q=A")},
		{"a test range that exists", "", 0, unreleased(typed("shop", addPath,
			strings.Replace(rule("https://shop.example/d/"), `"open_version":3`, `"open_version":2`, 1)), `"trial"`)},
		{"codes for a trial", "", 0, unreleased(active(ean+`,"wxa_type":2`), `"trial"`)},
		{"the product_code of the sample", "", 0, active(`"product_code":"test_code"`)},
		{"code_url as it is printed", "", 0, named(t, `{"code_url":"%s"}`, same)},
		{"code_url as a scan returns it", "", 0, named(t, `{"code_url":"http://%s"}`, same)},
		{"the most codes that the platform lets", "", 0, after(typed("svc", applyPath,
			`{"code_count":20000000,"isv_application_id":"most"}`), set("/settings", `{"max_codes_per_application":200000000}`))},
	} {
		s.Renew(t)
		if a := c.story(s); strings.HasPrefix(a.Body, `{"errcode":`) && a.Code(t) != 0 {
			t.Errorf("%s: it is refused: %s", c.name, a.Body)
		}
		var got []string
		for _, d := range reported(t, s) {
			switch d.Behaviour { // what these stories do beside
			case "rules.add.path_unasked", "codes.activate.path_unasked", "rules.edit.unchecked", "rules.add.icp_unasked",
				"rules.confirm.vouched":
			default:
				got = append(got, d.Behaviour)
			}
		}
		var want []string
		if c.row != "" {
			want = []string{c.row}
		}
		assert.True(t, slices.Equal(got, want), "%s: reported %q, want %q", c.name, got, want)
		if c.row == "" {
			continue
		}
		s.Renew(t)
		s.Admin("PUT", "/settings", fmt.Sprintf(`{"behaviours":{%q:"reject"}}`, c.row))
		c.story(s).WantCode(t, c.number, "%s, rejected", c.name)
	}
}

// A name in the query of an endpoint that takes its fields there is read only if a page
// names it: a query of ten thousand names beside a body of a hundred thousand fields cost
// nine seconds. A token says nothing there and is no field that no page names.
func TestQueryFields_DocumentedOnly(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	clearing := func(query string) []string {
		s.Admin("DELETE", "/deviations", "")
		s.Do("POST", "/cgi-bin/clear_quota/v2?appid=shop&appsecret=secret-shop"+query, "")
		var rows []string
		for _, d := range reported(t, s) {
			rows = append(rows, d.Behaviour)
		}
		return rows
	}
	for query, want := range map[string][]string{
		"": nil, "&access_token=any": nil, "&colour=red": {"wire.field.unknown"},
	} {
		if got := clearing(query); !slices.Equal(got, want) {
			t.Errorf("with %q: %v, want %v", query, got, want)
		}
	}
}

// A link is asked for with the numbers of the platform's table; other forms are taken, and are deviations.
func TestLinkCall_NumericFormNoDeviation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value string
		want  []string
	}{{`1`, nil}, {`0`, nil}, {`"1"`, nil}, {`"0"`, nil}, {`" 1"`, []string{"wire.number.text"}}, {`true`, []string{"wire.flag.word"}}} {
		s := servertest.Start(t, servertest.Options{Seed: town})
		byThemselves(s)
		s.Do("POST", "/cgi-bin/wxopen/wxamplink?access_token="+s.Token("svc"),
			fmt.Sprintf(`{"appid":"third","notify_users":%s,"show_profile":0}`, c.value))
		var got []string
		for _, d := range reported(t, s) {
			if strings.HasPrefix(d.Behaviour, "wire.number.") || strings.HasPrefix(d.Behaviour, "wire.flag.") {
				got = append(got, d.Behaviour)
			}
		}
		assert.True(t, slices.Equal(got, c.want), "notify_users %s: got %q, want %q", c.value, got, c.want)
	}
}

// A caller that is right in everything is reported nothing, where the operator said what can be
// known: which pages there are, and whose the host is. So --fail-on assumed can be green.
func TestDeviationReport_CorrectCallerEmpty(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: `
accounts:
  - {appid: shop, kind: mini_program, secret: secret-shop, versions: [release], pages: [pages/index/index]}
  - {appid: svc, kind: service_account, secret: secret-svc, certified: true, features: [marketcode], marketcode_key: 0123456789abcdef, linked: [shop]}
settings: {verification: [shop.example], rule_rate_limit: null}
`})
	const here = "https://shop.example/t/"
	links := `"debug_url":["https://shop.example/t/1"]`
	for _, call := range []how{
		typed("shop", downloadPath, "{}"), typed("shop", addPath, rule(here, links)),
		typed("shop", addPath, fmt.Sprintf(`{"prefix":%q,"path":"pages/index/index?a=1","is_edit":1,"permit_sub_rule":1,"open_version":2,%s}`,
			here, links)),
		typed("shop", publishPath, prefix(here)), typed("shop", getPath, `{"get_type":0}`), typed("shop", deletePath, prefix(here)),
	} {
		call(s).WantCode(t, 0, "it is refused")
	}
	var code madeCode
	typed("svc", createPath, wanted("QR_LIMIT_SCENE", `"scene_id":1`, ""))(s).JSON(t, &code)
	body := fmt.Sprintf(`{"prefix":%q,"appid":"shop","path":"pages/index/index","is_edit":0}`, code.URL)
	var made told
	codeCall(s, "svc", "applycode", `{"code_count":10000,"isv_application_id":"scanned"}`).JSON(t, &made)
	active := fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":9,"activity_name":"a","product_brand":"b","product_title":"c",
		"product_code":"6901234567892","wxa_appid":"shop","wxa_path":"pages/index/index","wxa_type":0}`, made.ApplicationID)
	for _, call := range []how{typed("svc", addPath, body), typed("svc", publishPath, prefix(code.URL)),
		typed("svc", "/intp/marketcode/codeactive", active)} {
		call(s).WantCode(t, 0, "it is refused")
	}
	if list := reported(t, s); len(list) != 0 {
		t.Errorf("reported %+v", list)
	}
}

// The sample of each page, with AppIDs, tokens and numbers that exist here, is reported nothing. Without a body qrcodejumpget is
// a deviation nevertheless, and tickettocode without a token is rejected. Contract: rules 1.1 to 1.6, 3.1 to 3.5, marketcode 3.
func TestDeviationReport_PageSamplesEmpty(t *testing.T) {
	t.Parallel()
	seed := strings.NewReplacer("name: Shop,", "name: Shop, pages: [pages/index/index],", "[3, 46]", "[3, 33, 46]",
		"verification: trust", "verification: [weixin.qq.com], link_approval_required: true").Replace(agency)
	s := servertest.Start(t, servertest.Options{Seed: seed})
	send := func(path, body string) servertest.Answer {
		t.Helper()
		a := s.Do("POST", path, body, "Content-Type: application/json")
		assert.True(t, !strings.HasPrefix(a.Body, `{"errcode":`) || a.Code(t) == 0, "%s is refused: %s", path, a.Body)
		return a
	}
	read := func(path string) {
		t.Helper()
		if a := s.Do("GET", path, ""); strings.HasPrefix(a.Body, `{"errcode":`) {
			t.Errorf("%s is refused: %s", path, a.Body)
		}
	}
	by := func(appid, path, body string) servertest.Answer {
		t.Helper()
		return send(path+"?access_token="+s.Token(appid), body)
	}
	sample := `{"prefix":"https://weixin.qq.com/qrcodejump","permit_sub_rule":1,"path":"pages/index/index","open_version":1,
		"debug_url":["https://weixin.qq.com/qrcodejump?a=1","https://weixin.qq.com/qrcodejump?a=2"],"is_edit":0}`
	one := prefix("https://weixin.qq.com/qrcodejump")
	by("shop", addPath, sample)
	by("shop", getPath, "{}")
	by("shop", getPath, `{"get_type":1,"prefix_list":["https://weixin.qq.com/qrcodejump"]}`)
	by("shop", getPath, `{"get_type":2,"page_num":1,"page_size":200}`)
	by("shop", publishPath, one)
	by("shop", deletePath, one)
	by("shop", downloadPath, "{}")
	var made madeCode
	by("svc", createPath, `{"expire_seconds":604800,"action_name":"QR_SCENE","action_info":{"scene":{"scene_id":123}}}`).JSON(t, &made)
	by("svc", createPath, `{"action_name":"QR_LIMIT_STR_SCENE","action_info":{"scene":{"scene_str":"test"}}}`)
	by("svc", addPath, fmt.Sprintf(`{"prefix":%q,"appid":"shop","path":"pages/index/index","is_edit":0}`, made.URL))
	by("svc", getPath, `{"appid":"shop","get_type":0}`)
	by("svc", publishPath, prefix(made.URL))
	by("svc", deletePath, fmt.Sprintf(`{"prefix":%q,"appid":"shop"}`, made.URL))

	var applied told
	by("svc", applyPath, `{"code_count":100000,"isv_application_id":"testid124"}`).JSON(t, &applied)
	id := applied.ApplicationID
	by("svc", codeFamily+"applycodequery", fmt.Sprintf(`{"application_id":"%d"}`, id))
	by("svc", codeFamily+"applycodedownload", fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":49999}`, id))
	by("svc", codeFamily+"codeactive", fmt.Sprintf(`{"application_id":%d,"activity_name":"test_name","product_brand":"test_brand",
		"product_title":"test_title","product_code":"test_code","wxa_appid":"shop","wxa_path":"pages/index/index","code_start":0,
		"code_end":200}`, id))
	text, code := printed(t, s, id, 0)
	for _, body := range []string{fmt.Sprintf(`{"code_url":%q}`, text), fmt.Sprintf(`{"code":%q}`, code),
		fmt.Sprintf(`{"application_id":%d,"code_index":0}`, id)} {
		by("svc", codeFamily+"codeactivequery", body)
	}
	by("svc", tradePath, trade(openid(t, s, "u", "svc"), ticketOf(t, s, "u", text)))

	send(stablePath, `{"grant_type":"client_credential","appid":"shop","secret":"secret-shop"}`)
	read("/cgi-bin/get_api_domain_ip?access_token=" + s.Token("shop"))
	read("/cgi-bin/getcallbackip?access_token=" + s.Token("shop"))
	by("shop", "/cgi-bin/clear_quota", sameSets("shop"))
	by("shop", "/cgi-bin/openapi/quota/get", `{"cgi_path":"`+getPath+`"}`)
	by("shop", "/cgi-bin/openapi/quota/clear", `{"cgi_path":"`+getPath+`"}`)
	by("shop", "/cgi-bin/openapi/rid/get", fmt.Sprintf(`{"rid":%q}`, as("shop", publishPath, one)(s).RID(t)))
	send("/cgi-bin/clear_quota/v2?appid=shop&appsecret=secret-shop", "")

	var platform struct {
		Token string `json:"component_access_token"`
	}
	send(family+"api_start_push_ticket", `{"component_appid":"isv","component_secret":"secret-isv"}`)
	send(family+"api_component_token", fmt.Sprintf(`{"component_appid":"isv","component_appsecret":"secret-isv",
		"component_verify_ticket":%q}`, s.Ticket("isv"))).JSON(t, &platform)
	of := func(call, more string, into any) {
		t.Helper()
		for _, name := range []string{"access_token", "component_access_token"} {
			a := send(family+call+"?"+name+"="+platform.Token, `{"component_appid":"isv"`+more+`}`)
			if into != nil {
				a.JSON(t, into)
			}
		}
	}
	of("api_create_preauthcode", "", nil)
	var agreed struct {
		Info struct {
			Refresh string `json:"authorizer_refresh_token"`
		} `json:"authorization_info"`
	}
	var access struct {
		Token string `json:"authorizer_access_token"`
	}
	of("api_get_authorizer_info", `,"authorizer_appid":"svc"`, &agreed)
	of("api_authorizer_token", fmt.Sprintf(`,"authorizer_appid":"svc","authorizer_refresh_token":%q`, agreed.Info.Refresh), &access)
	of("api_get_authorizer_list", `,"offset":0,"count":100`, nil)
	of("clear_quota", "", nil)
	s.Hide(access.Token)
	send("/cgi-bin/wxopen/wxamplink?access_token="+access.Token, `{"appid":"rival","notify_users":"1","show_profile":"1"}`)
	send("/cgi-bin/wxopen/wxamplinkget?access_token="+access.Token, "")
	send("/cgi-bin/wxopen/wxampunlink?access_token="+access.Token, sameSets("shop"))

	for _, d := range reported(t, s) {
		t.Errorf("reported %s of %s: %s", d.Behaviour, d.Endpoint, d.Advice)
	}
}

// A call that is refused rested on none of the leniencies that it met on its way.
func TestDeviationReport_RefusedCall(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	a := typed("shop", addPath, rule("ftp://shop.example/", `"open_version":"3","colour":"red"`))(s)
	var call client.Call
	s.Admin("GET", "/calls/"+a.RID(t), "").JSON(t, &call)
	if len(call.Behaviours) != 1 || call.Behaviours[0] != "rules.prefix.scheme" || len(call.Deviations) != 0 || len(reported(t, s)) != 0 {
		t.Errorf("%s rested on %q, and is reported %+v", a.Body, call.Behaviours, reported(t, s))
	}
	// What a fault answers after the call was done does not unmake it.
	s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":-1,"count":1,"after":true}`, addPath))
	s.Rule("shop", "add", rule("https://shop.example/", `"open_version":"3"`))
	if !slices.ContainsFunc(reported(t, s), func(d client.Deviation) bool { return d.Behaviour == "wire.number.text" }) {
		t.Errorf("the add was done, and reported is %+v", reported(t, s))
	}
}

// Strict holds a link until both administrators agreed, and takes no notice of one that the operator made.
func TestStrict_HoldsLinks(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	for _, settings := range []string{`{"strict":true}`, `{"behaviours":{"link.at_once":"reject"}}`} {
		s.Renew(t)
		byThemselves(s)
		s.Admin("PUT", "/settings", strings.Replace(settings, `{"link`, `{"link.own_token_taken":"allow","link`, 1))
		if a := typed("svc", linkPath, askFor("third"))(s); a.Code(t) != 0 {
			t.Fatalf("%s: %s", settings, a.Body)
		}
		assert.Equal(t, linkState(t, s, "svc", "third"), 12, "%s", settings)
		confirm("svc", "third", "account", true)(s)
		confirm("svc", "third", "mini_program", true)(s)
		s.Admin("DELETE", "/deviations", "")
		s.Rule("svc", "add", code(q+"held", "third"))
		for _, d := range reported(t, s) {
			assert.True(t, d.Behaviour != "link.at_once", "%s: both agreed, and reported is %+v", settings, d)
		}
	}
	// By default it is done at once, and what rests on it is reported too.
	s.Renew(t)
	byThemselves(s)
	typed("svc", linkPath, askFor("third"))(s)
	s.Rule("svc", "add", code(q+"once", "third"))
	got := map[string]int{}
	for _, d := range reported(t, s) {
		if d.Behaviour == "link.at_once" {
			got[d.Endpoint] = int(d.Count)
		}
	}
	assert.True(t, len(got) == 2 && got[linkPath] == 1 && got[addPath] == 1, "reported %v", got)
}

// White space round the content of a verification file, and a # in front of its directory, are
// reported; strict may refuse the first.
func TestConfirm_NearMatchReported(t *testing.T) {
	t.Parallel()
	o := &owner{}
	plain := httptest.NewServer(o)
	t.Cleanup(plain.Close)
	s := servertest.Start(t, servertest.Options{Seed: strict, Outbound: abroad(plain, &resolver{answers: []string{"93.184.216.34"}})})
	f := file(t, s)
	o.answer(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, f.Content+"\n") })
	s.OK("shop", "add", rule("http://shop.example/#/d/"))
	var got []string
	for _, d := range reported(t, s) {
		if strings.HasPrefix(d.Behaviour, "rules.confirm.") {
			got = append(got, d.Behaviour)
		}
	}
	if slices.Sort(got); !slices.Equal(got, []string{"rules.confirm.fragment", "rules.confirm.trim"}) {
		t.Errorf("reported %q", got)
	}
	s.Admin("PUT", "/settings", `{"behaviours":{"rules.confirm.trim":"reject"}}`)
	s.Rule("shop", "add", rule("http://shop.example/e/")).WantCode(t, 85069, "strict")
}
