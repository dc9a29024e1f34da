package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/behaviour"
	"github.com/qrjump/qrjump/internal/outbound"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
)

// reported lists what callers deviated in.
func reported(t *testing.T, s *servertest.Server) (list []client.Deviation) {
	t.Helper()
	var answer client.DeviationList
	s.Admin("GET", "/deviations", "").JSON(t, &answer)
	return answer.Deviations
}

// nobody is a client to whom no server answers, and who does not wait long.
func nobody() *outbound.Client {
	return &outbound.Client{Patience: time.Millisecond, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
}

// deviations are, by the row, a story in which a caller deviates so.
func deviations(t *testing.T) map[string]how {
	shop := func(path, body string) how { return typed("shop", path, body) }
	page := func(fields string) how { return shop(getPath, `{"get_type":2,"page_num":1,`+fields+`}`) }
	draft := shop(addPath, rule("https://shop.example/d/"))
	edit := shop(addPath, rule("https://shop.example/d/", `"is_edit":1`))
	traded := func(times int, token bool) how {
		return func(s *servertest.Server) servertest.Answer {
			body, path := scannedCode(t, s), tradePath
			if token {
				path += "?access_token=" + s.Token("svc")
			}
			return many(times, post(path, body))(s)
		}
	}
	wrong := shop(publishPath, prefix("https://shop.example/none/"))
	fresh := fetch("client_credential", "shop", "secret-shop")
	older := func(s *servertest.Server) servertest.Answer {
		ticket := s.Ticket("isv")
		s.Advance(10 * time.Minute)
		s.Ticket("isv")
		s.Advance(2 * time.Minute)
		return s.Do("POST", family+"api_component_token", fmt.Sprintf(
			`{"component_appid":"isv","component_appsecret":"secret-isv","component_verify_ticket":%q}`, ticket))
	}
	slow := func(s *servertest.Server) servertest.Answer {
		s.Admin("PUT", "/components/isv", `{"event_url":"http://127.0.0.1:9/"}`)
		a := s.Do("POST", family+"api_start_push_ticket", `{"component_appid":"isv","component_secret":"secret-isv"}`)
		for began := time.Now(); time.Since(began) < 3*time.Minute; {
			if slices.ContainsFunc(reported(t, s), func(d client.Deviation) bool { return d.Behaviour == "message.slow" }) {
				break
			}
		}
		return a
	}
	above := func(s *servertest.Server) servertest.Answer {
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
	}
	applied := typed("svc", applyPath, `{"code_count":10000,"isv_application_id":"again"}`)
	return map[string]how{
		"wire.method.taken":       post(tokenPath+"?grant_type=client_credential&appid=shop&secret=secret-shop", ""),
		"wire.body.type":          as("shop", getPath, "{}"),
		"wire.field.null":         shop(getPath, `{"prefix_list":null,"get_type":null}`),
		"wire.field.unknown":      shop(getPath, `{"get_typ":2}`),
		"wire.field.query":        shop(getPath+"?get_type=2&x=y", "{}"),
		"wire.rate.above":         many(6, shop(getPath, "{}")),
		"wire.retry":              many(2, wrong),
		"token.again":             many(3, fresh),
		"component.ticket.older":  older,
		"message.slow":            slow,
		"rules.add.path_unasked":  draft,
		"rules.prefix.port_taken": shop(addPath, rule("https://shop.example:8443/d/")),
		"rules.publish.above":     above,
		"link.own_token_taken": after(typed("svc", "/cgi-bin/wxopen/wxamplinkget", "{}"),
			set("/settings", `{"links_by_own_token":true}`)),
		"wire.body.empty_accepted": shop(getPath, ""),
		"wire.number.text":         page(`"page_size":"10"`),
		"wire.number.float":        page(`"page_size":1e1`),
		"wire.list.text":           shop(getPath, `{"get_type":1,"prefix_list":"https://shop.example/"}`),
		"wire.flag.word": post(stablePath,
			`{"grant_type":"client_credential","appid":"shop","secret":"secret-shop","force_refresh":0}`),
		"wire.text.number":         typed("svc", applyPath, `{"code_count":10000,"isv_application_id":7}`),
		"codes.ticket.token":       after(traded(1, false), set("/settings", `{"ticket_without_token":true}`)),
		"codes.ticket.again":       traded(2, true),
		"codes.apply.again":        after(applied, applied),
		"rules.prefix.private":     shop(addPath, rule("http://127.0.0.1/d/")),
		"rules.prefix.newer_taken": shop(addPath, rule("https://shop.ink/d/")),
		"rules.add.icp_unasked":    draft,
		"rules.confirm.vouched":    draft,
		"rules.edit.keeps_links":   after(edit, draft),
		"rules.edit.unchecked":     after(edit, draft),
		"rules.get.all":            typed("svc", getPath, `{"get_type":0}`),
		"rules.get.by_get": after(func(s *servertest.Server) servertest.Answer {
			return s.Do("GET", getPath+"?access_token="+s.Token("shop"), "")
		}, set("/settings", `{"rules_by_get":true}`)),
		"rules.publish.again": after(shop(publishPath, prefix("https://shop.example/d/")), draft,
			shop(publishPath, prefix("https://shop.example/d/"))),
		"link.end.absent": after(typed("svc", "/cgi-bin/wxopen/wxampunlink", `{"appid":"rival"}`),
			set("/settings", `{"links_by_own_token":true}`)),
		"quota.in_query": post("/cgi-bin/clear_quota/v2?appid=shop&appsecret=secret-shop", ""),
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
		"product_title":"c","product_code":"d","wxa_appid":"shop","wxa_path":"p","wxa_type":0}`, made.ApplicationID))
	text, _ := printed(t, s, made.ApplicationID, 0)
	return trade(openid(t, s, "u", "svc"), ticketOf(t, s, "u", text))
}

// Each deviation is produced through HTTP and found in the report, with what to change
// and request ids of calls that say the same.
func TestEveryDeviationIsReported(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency, Outbound: nobody()})
	stories := deviations(t)
	for _, d := range behaviour.Deviations() {
		id := d.Row.String()
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
		if found.Mark != string(d.Minds) || found.Advice != d.English || found.Chinese != d.Chinese || found.Times < 1 ||
			found.Endpoint == "" {
			t.Errorf("%s: %+v", id, found)
		}
		for _, rid := range []string{found.First, found.Last} {
			var call client.Call
			s.Admin("GET", "/calls/"+rid, "").JSON(t, &call)
			if call.Endpoint != found.Endpoint || call.Account != found.Account || !slices.Contains(call.Deviations, id) {
				t.Errorf("%s: %s is %+v", id, rid, call)
			}
		}
		if id == "rules.add.icp_unasked" && answer.Header.Get("X-Qrjump-Why") != "/admin/v1/calls/"+found.First {
			t.Errorf("%s is another call than that of %q", found.First, answer.Header)
		}
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
func TestTheReportOfDeviations(t *testing.T) {
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
		return strings.TrimPrefix(a.Header.Get("X-Qrjump-Why"), "/admin/v1/calls/")
	}
	list := of("?account=shop")
	if len(list) != 1 || list[0].Times != 4 || list[0].First != why(first) || list[0].Last != why(last) || list[0].Endpoint != getPath {
		t.Errorf("%+v; first %s, last %s", list, why(first), why(last))
	}
	if all := of(""); len(all) != 2 || all[0].Account != "rival" || all[1] != list[0] {
		t.Errorf("of all: %+v", all)
	}
	s.Admin("DELETE", "/deviations?account=rival", "")
	if all := of(""); len(all) != 1 {
		t.Errorf("without those of one: %+v", all)
	}
	var left json.RawMessage
	s.Admin("DELETE", "/deviations", "").JSON(t, &left)
	if string(left) != `{"deviations":[]}` {
		t.Errorf("nothing is left, and the answer is %s", left)
	}
	produce()
	s.Renew(t)
	if all := of(""); len(all) != 0 {
		t.Errorf("a reset left %+v", all)
	}
}

// Strict refuses what the platform is known or inferred to mind and lets the rest pass;
// a single behaviour can be turned either way, with strict and without.
func TestStrictRefusesByBehaviour(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency, Outbound: nobody(), Config: func(c *server.Config) { c.Strict = true }})
	stories := deviations(t)
	for _, d := range behaviour.Deviations() {
		if d.Refusal == 0 {
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
		try("strict", "", d.Minds.Surer(behaviour.Inferred))
		try("strict, and it is turned loose", fmt.Sprintf(`{"behaviours":{%q:"loose"}}`, id), false)
		try("not strict", `{"strict":false}`, false)
		try("it alone is strict", fmt.Sprintf(`{"strict":false,"behaviours":[%q]}`, id+"=strict"), true)
	}
}

// A name in the query of an endpoint that takes its fields there is read only if a page
// names it: a query of ten thousand names beside a body of a hundred thousand fields cost
// nine seconds. A token says nothing there and is no field that no page names.
func TestOnlyNamedFieldsAreReadFromAQuery(t *testing.T) {
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
		"": {"quota.in_query"}, "&access_token=any": {"quota.in_query"},
		"&colour=red": {"quota.in_query", "wire.field.unknown"},
	} {
		if got := clearing(query); !slices.Equal(got, want) {
			t.Errorf("with %q: %v, want %v", query, got, want)
		}
	}
}

// A link is asked for with the numbers of the platform's table; other forms are taken, and are deviations.
func TestAskingForALinkWithNumbersIsNoDeviation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value string
		want  []string
	}{{`1`, nil}, {`0`, nil}, {`"1"`, []string{"wire.number.text"}}, {`true`, []string{"wire.flag.word"}}} {
		s := servertest.Start(t, servertest.Options{Seed: town})
		byThemselves(s)
		s.Do("POST", "/cgi-bin/wxopen/wxamplink?access_token="+s.Token("svc"),
			fmt.Sprintf(`{"appid":"shop","notify_users":%s,"show_profile":0}`, c.value))
		var got []string
		for _, d := range reported(t, s) {
			if strings.HasPrefix(d.Behaviour, "wire.number.") || strings.HasPrefix(d.Behaviour, "wire.flag.") {
				got = append(got, d.Behaviour)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("notify_users %s: got %q, want %q", c.value, got, c.want)
		}
	}
}
