package server_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const travelled = `
accounts:
  - {appid: shop, kind: mini_program, secret: the-secret-of-shop, certified: true, versions: [release, trial], members: {ann: admin}}
  - {appid: svc, kind: service_account, secret: the-secret-of-svc, certified: true, features: [marketcode], marketcode_key: a-16-byte-secret, linked: [shop]}
  - {appid: m0, kind: mini_program, secret: the-secret-of-m0, certified: true, versions: [release]}
  - {appid: m1, kind: mini_program, secret: the-secret-of-m1, certified: true, versions: [release]}
  - {appid: m2, kind: mini_program, secret: the-secret-of-m2, certified: true, versions: [release]}
  - {appid: m3, kind: mini_program, secret: the-secret-of-m3, certified: true, versions: [release]}
  - {appid: m4, kind: mini_program, secret: the-secret-of-m4, certified: true, versions: [release]}
  - {appid: s1, kind: service_account, secret: the-secret-of-s1, certified: true, linked: [m0, m1]}
  - {appid: s2, kind: service_account, secret: the-secret-of-s2, certified: true, linked: [m2]}
  - {appid: s3, kind: service_account, secret: the-secret-of-s3, certified: true}
components:
  - {appid: isv, secret: the-secret-of-isv, message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE, authorizations: [{appid: shop, permission_sets: [18]}, {appid: svc, permission_sets: [1, 6]}]}
settings: {verification: trust, rule_rate_limit: 1000, behaviours: {link.own_token_taken: allow}}
`

// A call runs at least minRuns times, and up to maxRuns times until its count is within the limit: background work of the server, and
// the preparation of statements on another connection, only add round trips.
const minRuns, maxRuns = 3, 500

// Each call may take at most the given number of round trips to PostgreSQL, counted on the network while the call runs. Rules are called
// with a limit of calls per second, which is counted in the database.
func TestCalls_RoundTrips(t *testing.T) {
	p := onPostgres(t)
	direct := p.database
	wire := dbtest.NewWire(t, p.database, nil)
	p.database = wire.URL
	s := p.start(t, servertest.Options{Seed: travelled, Config: func(c *server.Config) { c.Emulator = true }})
	shop, svc, m3, platform := s.Token("shop"), s.Token("svc"), s.Token("m3"), s.ComponentToken("isv")
	acts, refresh := s.AuthorizerToken(platform, "isv", "svc")
	var batch struct {
		ID int64 `json:"application_id"`
	}
	key := s.NewKey("/scan-keys", `{"name":"app"}`)
	post := func(token, path, body string) func() servertest.Answer {
		return func() servertest.Answer { return s.Do("POST", path+"?access_token="+token, body) }
	}
	get := func(path string) func() servertest.Answer {
		return func() servertest.Answer { return s.Do("GET", path, "") }
	}
	component := func(call, body string) func() servertest.Answer {
		return func() servertest.Answer { return s.Component(platform, call, body) }
	}
	scan := func(path, body string) servertest.Answer {
		return s.Send(s.Request("POST", "/scan/v1/"+path, body, "Authorization: Bearer "+key, "Content-Type: application/json"))
	}
	login := func() string {
		a := scan("login", `{"user":"ann","appid":"shop"}`)
		code := a.Text(t, "js_code")
		require.True(t, code != "", "login: %d %s", a.Status, a.Body)
		s.Hide(code)
		return code
	}
	linked := func(n int, ok bool) {
		path := fmt.Sprintf("/accounts/svc/links/m%d", n%5)
		if s.Admin("PUT", path, ""); !ok {
			s.Admin("DELETE", path, "")
		}
	}
	cleared := func() { dbtest.Exec(t, direct, `DELETE FROM counters`) } // ten a month
	rule := func(n int) string { return fmt.Sprintf("https://shop.example/%d/", n) }
	add := func(n int) string {
		return fmt.Sprintf(`{"prefix":%q,"path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`, rule(n))
	}
	activation := func(n int) string {
		return fmt.Sprintf(`{"application_id":%d,"code_start":%d,"code_end":%d,"activity_name":"a","product_brand":"b","product_title":"t",
			"product_code":"4006381333931","wxa_appid":"shop","wxa_path":"p"}`, batch.ID, 100*n, 100*n+99)
	}
	var ticket, openid string
	ticketed := func() {
		a := scan("resolve", fmt.Sprintf(`{"text":%q,"user":"ann"}`, s.CodeText(batch.ID, 7)))
		made := regexp.MustCompile(`code_ticket=([0-9a-f]{32})`).FindStringSubmatch(a.Body)
		require.True(t, made != nil, "resolve: %d %s", a.Status, a.Body)
		ticket = made[1]
		known := servertest.Decode[struct{ OpenID string }](t, s.Admin("GET", "/users/ann/openid?appid=shop", ""))
		openid = known.OpenID
		s.Hide(ticket)
	}
	rid := s.Rule("shop", "publish", `{"prefix":"https://shop.example/unknown/"}`).RID(t)
	calls := []struct {
		name  string
		limit int
		run   func(n int) func() servertest.Answer // prepares run n
	}{
		{"/cgi-bin/token", 2, func(int) func() servertest.Answer {
			return get("/cgi-bin/token?grant_type=client_credential&appid=m0&secret=the-secret-of-m0")
		}},
		{"/cgi-bin/stable_token", 3, func(int) func() servertest.Answer {
			return post("", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"m1","secret":"the-secret-of-m1"}`)
		}},
		{"/cgi-bin/wxopen/qrcodejumpadd", 4, func(n int) func() servertest.Answer {
			return post(shop, "/cgi-bin/wxopen/qrcodejumpadd", add(n))
		}},
		{"/cgi-bin/wxopen/qrcodejumpget", 2, func(int) func() servertest.Answer {
			return post(shop, "/cgi-bin/wxopen/qrcodejumpget", `{"get_type":2,"page_num":1,"page_size":20}`)
		}},
		{"/cgi-bin/wxopen/qrcodejumppublish", 4, func(n int) func() servertest.Answer {
			s.OK("shop", "add", add(1000+n))
			return post(shop, "/cgi-bin/wxopen/qrcodejumppublish", fmt.Sprintf(`{"prefix":%q}`, rule(1000+n)))
		}},
		{"/cgi-bin/wxopen/qrcodejumpdelete", 4, func(n int) func() servertest.Answer {
			s.OK("shop", "add", add(2000+n))
			return post(shop, "/cgi-bin/wxopen/qrcodejumpdelete", fmt.Sprintf(`{"prefix":%q}`, rule(2000+n)))
		}},
		{"/cgi-bin/wxopen/qrcodejumpdownload", 2, func(int) func() servertest.Answer {
			return post(shop, "/cgi-bin/wxopen/qrcodejumpdownload", "{}")
		}},
		{"/cgi-bin/wxopen/wxamplinkget", 4, func(int) func() servertest.Answer { return post(svc, "/cgi-bin/wxopen/wxamplinkget", "{}") }},
		{"/cgi-bin/wxopen/wxamplink", 15, func(n int) func() servertest.Answer {
			linked(n, false)
			return post(svc, "/cgi-bin/wxopen/wxamplink", fmt.Sprintf(`{"appid":"m%d","notify_users":0,"show_profile":0}`, n%5))
		}},
		{"/cgi-bin/wxopen/wxampunlink", 15, func(n int) func() servertest.Answer {
			linked(n, true)
			return post(svc, "/cgi-bin/wxopen/wxampunlink", fmt.Sprintf(`{"appid":"m%d"}`, n%5))
		}},
		{"/cgi-bin/qrcode/create", 6, func(n int) func() servertest.Answer {
			return post(svc, "/cgi-bin/qrcode/create",
				fmt.Sprintf(`{"expire_seconds":600,"action_name":"QR_SCENE","action_info":{"scene":{"scene_id":%d}}}`, n+1))
		}},
		{"/cgi-bin/showqrcode", 2, func(n int) func() servertest.Answer {
			var made struct{ Ticket string }
			post(svc, "/cgi-bin/qrcode/create", `{"action_name":"QR_LIMIT_SCENE","action_info":{"scene":{"scene_id":7}}}`)().JSON(t, &made)
			s.Hide(made.Ticket)
			return get("/cgi-bin/showqrcode?ticket=" + made.Ticket)
		}},
		{"/intp/marketcode/applycode", 17, func(n int) func() servertest.Answer {
			return func() servertest.Answer {
				a := post(svc, "/intp/marketcode/applycode", fmt.Sprintf(`{"code_count":10000,"isv_application_id":"o%d"}`, n))()
				a.JSON(t, &batch)
				return a
			}
		}},
		{"/intp/marketcode/applycodequery", 2, func(int) func() servertest.Answer {
			return post(svc, "/intp/marketcode/applycodequery", fmt.Sprintf(`{"application_id":%d}`, batch.ID))
		}},
		{"/intp/marketcode/applycodedownload", 2, func(int) func() servertest.Answer {
			return post(svc, "/intp/marketcode/applycodedownload",
				fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":99}`, batch.ID))
		}},
		{"/intp/marketcode/codeactive", 16, func(n int) func() servertest.Answer {
			return post(svc, "/intp/marketcode/codeactive", activation(n))
		}},
		{"/intp/marketcode/codeactivequery", 2, func(int) func() servertest.Answer {
			return post(svc, "/intp/marketcode/codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":7}`, batch.ID))
		}},
		{"/intp/marketcode/tickettocode", 2, func(int) func() servertest.Answer {
			ticketed()
			return post(svc, "/intp/marketcode/tickettocode", fmt.Sprintf(`{"openid":%q,"code_ticket":%q}`, openid, ticket))
		}},
		{"/sns/jscode2session", 6, func(int) func() servertest.Answer {
			return get("/sns/jscode2session?grant_type=authorization_code&appid=shop&secret=the-secret-of-shop&js_code=" + login())
		}},
		{"/sns/component/jscode2session", 10, func(int) func() servertest.Answer {
			return get("/sns/component/jscode2session?component_access_token=" + platform +
				"&component_appid=isv&appid=shop&grant_type=authorization_code&js_code=" + login())
		}},
		{"/cgi-bin/component/api_start_push_ticket", 10, func(int) func() servertest.Answer {
			return component("api_start_push_ticket", `{"component_appid":"isv","component_secret":"the-secret-of-isv"}`)
		}},
		{"/cgi-bin/component/api_component_token", 12, func(int) func() servertest.Answer {
			return component("api_component_token", fmt.Sprintf(
				`{"component_appid":"isv","component_appsecret":"the-secret-of-isv","component_verify_ticket":%q}`, s.Ticket("isv")))
		}},
		{"/cgi-bin/component/api_create_preauthcode", 7, func(int) func() servertest.Answer {
			return component("api_create_preauthcode", `{"component_appid":"isv"}`)
		}},
		{"/cgi-bin/component/api_query_auth", 16, func(int) func() servertest.Answer {
			return component("api_query_auth", fmt.Sprintf(`{"component_appid":"isv","authorization_code":%q}`,
				s.Authorize(platform, "isv", "m4", "[18]")))
		}},
		{"/cgi-bin/component/api_authorizer_token", 11, func(int) func() servertest.Answer {
			return component("api_authorizer_token",
				fmt.Sprintf(`{"component_appid":"isv","authorizer_appid":"svc","authorizer_refresh_token":%q}`, refresh))
		}},
		{"/cgi-bin/component/api_get_authorizer_info", 6, func(int) func() servertest.Answer {
			return component("api_get_authorizer_info", `{"component_appid":"isv","authorizer_appid":"svc"}`)
		}},
		{"/cgi-bin/component/api_get_authorizer_list", 6, func(int) func() servertest.Answer {
			return component("api_get_authorizer_list", `{"component_appid":"isv","offset":0,"count":10}`)
		}},
		{"/cgi-bin/component/api_get_authorizer_option", 6, func(int) func() servertest.Answer {
			return component("api_get_authorizer_option", `{"component_appid":"isv","authorizer_appid":"svc","option_name":"voice_recognize"}`)
		}},
		{"/cgi-bin/component/api_set_authorizer_option", 15, func(n int) func() servertest.Answer {
			return component("api_set_authorizer_option",
				fmt.Sprintf(`{"component_appid":"isv","authorizer_appid":"svc","option_name":"voice_recognize","option_value":"%d"}`, n%2))
		}},
		{"/cgi-bin/component/get_authorizer_option", 8, func(int) func() servertest.Answer {
			return post(acts, "/cgi-bin/component/get_authorizer_option", `{"option_name":"voice_recognize"}`)
		}},
		{"/cgi-bin/component/set_authorizer_option", 15, func(n int) func() servertest.Answer {
			return post(acts, "/cgi-bin/component/set_authorizer_option",
				fmt.Sprintf(`{"option_name":"customer_service","option_value":"%d"}`, n%2))
		}},
		{"/cgi-bin/component/clear_quota", 8, func(int) func() servertest.Answer {
			cleared()
			return component("clear_quota", `{"component_appid":"isv"}`)
		}},
		{"/cgi-bin/component/clear_quota/v2", 6, func(int) func() servertest.Answer {
			cleared()
			return func() servertest.Answer {
				return s.Do("POST", "/cgi-bin/component/clear_quota/v2?component_appid=isv&appid=shop&appsecret=the-secret-of-isv", "")
			}
		}},
		{"/cgi-bin/clear_quota", 6, func(int) func() servertest.Answer {
			cleared()
			return post(shop, "/cgi-bin/clear_quota", `{"appid":"shop"}`)
		}},
		{"/cgi-bin/clear_quota/v2", 6, func(int) func() servertest.Answer {
			cleared()
			return func() servertest.Answer {
				return s.Do("POST", "/cgi-bin/clear_quota/v2?appid=m1&appsecret=the-secret-of-m1", "")
			}
		}},
		{"/cgi-bin/openapi/quota/get", 2, func(int) func() servertest.Answer {
			return post(shop, "/cgi-bin/openapi/quota/get", `{"cgi_path":"/cgi-bin/wxopen/qrcodejumpget"}`)
		}},
		{"/cgi-bin/openapi/quota/clear", 5, func(int) func() servertest.Answer {
			cleared()
			return post(m3, "/cgi-bin/openapi/quota/clear", `{"cgi_path":"/cgi-bin/wxopen/qrcodejumpget"}`)
		}},
		{"/cgi-bin/openapi/rid/get", 2, func(int) func() servertest.Answer {
			return post(shop, "/cgi-bin/openapi/rid/get", fmt.Sprintf(`{"rid":%q}`, rid))
		}},
		{"/cgi-bin/get_api_domain_ip", 2, func(int) func() servertest.Answer {
			return get("/cgi-bin/get_api_domain_ip?access_token=" + shop)
		}},
		{"/cgi-bin/getcallbackip", 2, func(int) func() servertest.Answer { return get("/cgi-bin/getcallbackip?access_token=" + shop) }},
	}
	var table strings.Builder
	defer func() { t.Log("\n| call | round trips |\n| --- | --: |\n" + table.String()) }()
	measure := func(name string, limit int, run func(n int) func() servertest.Answer, ok func(servertest.Answer) bool) {
		least := -1
		for n := 0; n < minRuns || n < maxRuns && least > limit; n++ {
			call := run(n)
			var a servertest.Answer
			trips := wire.Count(func() { a = call() })
			if !ok(a) {
				t.Errorf("%s: %d %s", name, a.Status, a.Body)
				return
			}
			if least < 0 || trips < least {
				least = trips
			}
		}
		fmt.Fprintf(&table, "| %s | %d |\n", name, least)
		assert.True(t, least <= limit, "%s: %d round trips, want at most %d", name, least, limit)
	}
	measured := map[string]bool{}
	for _, c := range calls {
		measured[c.name] = true
		measure(c.name, c.limit, c.run, func(a servertest.Answer) bool {
			return a.Status == 200 && (strings.HasPrefix(a.Header.Get("Content-Type"), "image/") || a.Code(t) == 0)
		})
	}
	for _, path := range api.Paths() {
		assert.True(t, measured[path], "%s: not measured", path)
	}
	for _, c := range []struct {
		name, path string
		limit      int
	}{
		{"listAccounts", "/accounts?limit=10", 2},
		{"getAccount", "/accounts/s1", 2},
		{"listLinks", "/accounts/s1/links", 2}, {"listAccountAuthorizations", "/accounts/shop/authorizations", 2},
		{"listNotifications", "/accounts/shop/notifications", 2}, {"listComponents", "/components", 2},
		{"getComponent", "/components/isv", 2},
		{"listPushes", "/components/isv/pushes", 2}, {"listRules", "/rules?owner=shop", 2},
		{"listVerifications", "/verifications", 2}, {"listReverifications", "/reverifications", 2},
		{"listDomains", "/domains", 2}, {"listGS1Links", "/gs1/links", 2}, {"listOrders", "/orders", 2},
		{"listBatches", "/batches", 2},
		{"listCodeEvents", fmt.Sprintf("/batches/%d/events", batch.ID), 2},
		{"listCodeRuns", fmt.Sprintf("/batches/%d/runs", batch.ID), 2},
		{"listPackages", "/packages", 2}, {"listScans", "/scans", 11}, {"listAlarms", "/alarms", 2},
		{"listWebhooks", "/webhooks", 2}, {"listCalls", "/calls", 2}, {"listDeviations", "/deviations", 2},
		{"listScanKeys", "/scan-keys", 2}, {"listPeople", "/people", 2}, {"listAdminKeys", "/admin-keys", 2},
		{"listChanges", "/changes", 2},
	} {
		measure(c.name, c.limit, func(int) func() servertest.Answer {
			return func() servertest.Answer { return s.Admin("GET", c.path, "") }
		}, func(a servertest.Answer) bool { return a.Status == 200 })
	}
}

// A token that has ended is counted at most once towards the calls of its account: then the node reads it before it counts.
func TestRateLimit_EndedTokenNotCounted(t *testing.T) {
	t.Parallel()
	p := onPostgres(t)
	s := p.start(t, servertest.Options{Seed: travelled})
	list := func(code int) (counted int64) {
		t.Helper()
		s.Rule("shop", "get", "{}").WantCode(t, code, "a list")
		return dbtest.Number(t, p.database, `SELECT COALESCE(MAX(last_call_at), 0) FROM rate_limits WHERE key = 'shop /cgi-bin/wxopen/qrcodejumpget'`)
	}
	first := list(0)
	second := list(0)
	assert.True(t, first > 0 && second > first, "calls were counted at %d and %d, want two times", first, second)
	s.Admin("DELETE", "/accounts/shop/tokens", "")
	ended := list(40001)
	assert.Equal(t, list(40001), ended, "time of the last counted call after the second call with an ended token")
}
