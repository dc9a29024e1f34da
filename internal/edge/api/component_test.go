package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// agency is two platforms and those whom they act for. fencedisv may not call
// from here.
const agency = `
accounts:
  - {appid: shop, kind: mini_program, secret: secret-shop, name: Shop, certified: true, versions: [release]}
  - {appid: rival, kind: mini_program, secret: secret-rival, versions: [release]}
  - {appid: svc, kind: service_account, secret: secret-svc, name: Service, certified: true, features: [marketcode], marketcode_key: 0123456789abcdef, linked: [shop]}
  - {appid: plain, kind: service_account, secret: secret-plain}
  - {appid: sub, kind: subscription_account, secret: secret-sub, certified: true}
  - {appid: person, kind: mini_program, subject: personal, secret: secret-person, versions: [release]}
components:
  - appid: isv
    secret: secret-isv
    message_token: tok
    encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE
    authorizations:
      - {appid: shop, permission_sets: [18, 33]}
      - {appid: svc, permission_sets: [3, 46]}
      - {appid: plain, permission_sets: [3, 46]}
      - {appid: sub, permission_sets: [3, 46, 18]}
  - {appid: isv2, secret: secret-isv2, message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE}
settings: {verification: trust, rule_rate_limit: null}
`

const family = "/cgi-bin/component/"

func TestComponentAPI_EveryErrorCode(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	var token, token2, ticket, shopToken, shopRefresh string
	setUp := func() {
		s.Renew(t)
		ticket = s.Ticket("isv")
		token, token2 = s.ComponentToken("isv"), s.ComponentToken("isv2")
		shopToken, shopRefresh = s.AuthorizerToken(token, "isv", "shop")
	}
	trade := func(extra string) servertest.Answer {
		body := fmt.Sprintf(`{"component_appid":"isv","component_appsecret":"secret-isv","component_verify_ticket":%q%s}`, ticket, extra)
		return s.Do("POST", family+"api_component_token", body)
	}
	call := func(name, fields string) servertest.Answer { return s.Component(token, name, "{"+fields+"}") }
	fence := func() {
		s.Admin("PUT", "/components/isv", `{"ip_allowlist":["203.0.113.0/24"]}`)
	}
	const me = `"component_appid":"isv"`
	info := func(appid string) string { return me + `,"authorizer_appid":"` + appid + `"` }
	tokenCalls := map[string]string{
		"api_create_preauthcode": "", "api_query_auth": `,"authorization_code":"x"`,
		"api_authorizer_token":    `,"authorizer_appid":"shop","authorizer_refresh_token":"x"`,
		"api_get_authorizer_info": `,"authorizer_appid":"shop"`, "api_get_authorizer_list": `,"offset":0,"count":10`,
		"clear_quota": "", "api_get_authorizer_option": `,"authorizer_appid":"shop","option_name":"voice_recognize"`,
		"api_set_authorizer_option": `,"authorizer_appid":"shop","option_name":"voice_recognize","option_value":"1"`,
	}
	type row struct {
		want int
		text string
		name string
		how  func() servertest.Answer
	}
	rows := []row{
		{40125, "invalid appsecret", "another secret", func() servertest.Answer { return trade(`,"component_appsecret":"x"`) }},
		{40013, "invalid appid", "nobody", func() servertest.Answer { return trade(`,"component_appid":"nobody"`) }},
		{40125, "invalid appsecret", "an endless secret", func() servertest.Answer {
			return trade(`,"component_appsecret":"` + strings.Repeat("x", 300) + `"`)
		}},
		{41004, "appsecret missing", "no secret", func() servertest.Answer { return trade(`,"component_appsecret":null`) }},
		{41018, "missing component_appid", "no component_appid", func() servertest.Answer { return trade(`,"component_appid":""`) }},
		{41018, "missing component_appid", "no JSON", func() servertest.Answer { return s.Do("POST", family+"api_component_token", "{'") }},
		{41018, "missing component_appid", "a form", func() servertest.Answer {
			return s.Do("POST", family+"api_component_token", "component_appid=isv&component_appsecret=secret-isv&component_verify_ticket="+
				ticket)
		}},
		{41018, "missing component_appid", "a form for a ticket", func() servertest.Answer {
			return s.Do("POST", family+"api_start_push_ticket", "component_appid=isv&component_secret=secret-isv")
		}},
		{61006, "component ticket is invalid", "a ticket that is null",
			func() servertest.Answer { return trade(`,"component_verify_ticket":null`) }},
		{44002, "empty post data", "no body", func() servertest.Answer { return s.Do("POST", family+"api_component_token", "") }},
		{43002, "require POST method", "GET", func() servertest.Answer { return s.Do("GET", family+"api_component_token", "") }},
		{45009, "reach max api daily quota limit", "the day's calls are used up", func() servertest.Answer {
			s.Admin("PUT", "/settings", `{"token_daily_limit":1}`)
			return trade("")
		}},
		{61004, "access clientip is not registered requestIP: 127.0.0.1", "a strange address for a token",
			func() servertest.Answer { fence(); return trade("") }},
		{61004, "access clientip is not registered requestIP: 127.0.0.1", "a strange address for a ticket", func() servertest.Answer {
			fence()
			return s.Do("POST", family+"api_start_push_ticket", `{"component_appid":"isv","component_secret":"secret-isv"}`)
		}},
		{61004, "access clientip is not registered requestIP: 127.0.0.1", "a strange address for an account", func() servertest.Answer {
			fence()
			return s.Do("POST", getPath+"?access_token="+shopToken, "{}")
		}},
		{61005, "component ticket is expired", "a ticket after twelve hours",
			func() servertest.Answer { s.Advance(12 * time.Hour); return trade("") }},
		{61006, "component ticket is invalid", "a made-up ticket",
			func() servertest.Answer { return trade(`,"component_verify_ticket":"ticket@@@x"`) }},
		{61006, "component ticket is invalid", "another platform's ticket", func() servertest.Answer {
			return trade(`,"component_verify_ticket":"` + s.Ticket("isv2") + `"`)
		}},
		{61011, "invalid component", "an account asks for tickets", func() servertest.Answer {
			return s.Do("POST", family+"api_start_push_ticket", `{"component_appid":"shop","component_secret":"x"}`)
		}},
		{61011, "invalid component", "an account without a secret", func() servertest.Answer {
			return trade(`,"component_appid":"svc","component_appsecret":"","component_verify_ticket":null`)
		}},
		{40013, "invalid appid", "nobody without a secret", func() servertest.Answer {
			return trade(`,"component_appid":"Component_Appid","component_appsecret":"","component_verify_ticket":""`)
		}},
		{40125, "invalid appsecret", "another secret without a ticket", func() servertest.Answer {
			return trade(`,"component_appsecret":"x","component_verify_ticket":null`)
		}},
		{61011, "invalid component", "an account", func() servertest.Answer { return trade(`,"component_appid":"shop"`) }},
		{61011, "invalid component", "another platform",
			func() servertest.Answer { return call("api_create_preauthcode", `"component_appid":"isv2"`) }},
		{61011, "invalid component", "an account as the platform",
			func() servertest.Answer { return call("api_create_preauthcode", `"component_appid":"shop"`) }},
		{40013, "invalid appid", "nobody as the platform",
			func() servertest.Answer { return call("api_create_preauthcode", `"component_appid":"nobody"`) }},
		{41018, "missing component_appid", "no platform named", func() servertest.Answer { return call("api_create_preauthcode", ``) }},
		{61024, "must use api(api_component_token) to get token for component acct", "an account's call for a token",
			func() servertest.Answer {
				return s.Do("GET", tokenPath+"?grant_type=client_credential&appid=isv&secret=secret-isv", "")
			}},
		{61009, "code is invalid", "a made-up code", func() servertest.Answer {
			return call("api_query_auth", me+`,"authorization_code":"queryauthcode@@@x"`)
		}},
		{61009, "code is invalid", "another platform's code", func() servertest.Answer {
			return call("api_query_auth", me+`,"authorization_code":"`+s.Authorize(token2, "isv2", "shop", "[33]")+`"`)
		}},
		{61010, "code is expired", "a code used twice", func() servertest.Answer {
			body := me + `,"authorization_code":"` + s.Authorize(token, "isv", "shop", "[33]") + `"`
			if a := call("api_query_auth", body); strings.Contains(a.Body, "errcode") {
				t.Fatal(a.Body)
			}
			return call("api_query_auth", body)
		}},
		{61010, "code is expired", "a code after ten minutes", func() servertest.Answer {
			body := me + `,"authorization_code":"` + s.Authorize(token, "isv", "shop", "[33]") + `"`
			s.Advance(10 * time.Minute)
			return call("api_query_auth", body)
		}},
		{61003, "component is not authorized by this account", "an option of a stranger", func() servertest.Answer {
			return call("api_get_authorizer_option", info("rival")+`,"option_name":"voice_recognize"`)
		}},
		{61003, "component is not authorized by this account", "a stranger's option set", func() servertest.Answer {
			return call("api_set_authorizer_option", info("rival")+`,"option_name":"voice_recognize","option_value":"1"`)
		}},
		{40013, "invalid appid", "an option of nobody", func() servertest.Answer {
			return call("api_get_authorizer_option", info("nobody")+`,"option_name":"voice_recognize"`)
		}},
		{40097, "invalid args", "an option of no account", func() servertest.Answer {
			return call("api_get_authorizer_option", me+`,"option_name":"voice_recognize"`)
		}},
		{40097, "invalid args", "an option that there is not", func() servertest.Answer {
			return call("api_get_authorizer_option", info("shop")+`,"option_name":"colour"`)
		}},
		{40097, "invalid args", "an option set to what it cannot be", func() servertest.Answer {
			return call("api_set_authorizer_option", info("shop")+`,"option_name":"customer_service","option_value":"2"`)
		}},
		{40097, "invalid args", "an option set to nothing", func() servertest.Answer {
			return call("api_set_authorizer_option", info("shop")+`,"option_name":"customer_service"`)
		}},
		{48006, "forbid to clear quota because of reaching the limit", "the eleventh clear of a month, both ways together",
			func() (a servertest.Answer) {
				for n := range 11 {
					if a = call("clear_quota", me); n%2 == 1 {
						a = s.Do("POST", family+"clear_quota/v2", `{"component_appid":"isv","appsecret":"secret-isv"}`)
					}
				}
				return a
			}},
		{40097, "invalid args", "no code", func() servertest.Answer { return call("api_query_auth", me) }},
		{61003, "component is not authorized by this account", "info of a stranger",
			func() servertest.Answer { return call("api_get_authorizer_info", info("rival")) }},
		{61003, "component is not authorized by this account", "a token for a stranger", func() servertest.Answer {
			return call("api_authorizer_token", info("rival")+`,"authorizer_refresh_token":"`+shopRefresh+`"`)
		}},
		{61003, "component is not authorized by this account", "a token whose grant was withdrawn", func() servertest.Answer {
			s.Admin("DELETE", "/components/isv/authorizations/shop", "")
			return s.Do("POST", getPath+"?access_token="+shopToken, "{}")
		}},
		{61003, "component is not authorized by this account", "a code whose grant was withdrawn", func() servertest.Answer {
			code := s.Authorize(token, "isv", "shop", "[33]")
			s.Admin("DELETE", "/accounts/shop/authorizations/isv", "")
			return call("api_query_auth", me+`,"authorization_code":"`+code+`"`)
		}},
		{40013, "invalid appid", "info of nobody", func() servertest.Answer { return call("api_get_authorizer_info", info("nobody")) }},
		{40097, "invalid args", "info of no account", func() servertest.Answer { return call("api_get_authorizer_info", me) }},
		{40001, badToken, "a token from before a new authorisation", func() servertest.Answer {
			s.Advance(time.Second)
			s.Authorize(token, "isv", "shop", "[18]")
			return s.Do("POST", getPath+"?access_token="+shopToken, "{}")
		}},
		{40001, badToken, "a token from before a new authorisation that changed nothing", func() servertest.Answer {
			s.Authorize(token, "isv", "shop", "[18,33]")
			return s.Do("POST", getPath+"?access_token="+shopToken, "{}")
		}},
		{61023, "refresh_token is invalid", "another account's refresh token", func() servertest.Answer {
			return call("api_authorizer_token", info("svc")+`,"authorizer_refresh_token":"`+shopRefresh+`"`)
		}},
		{61023, "refresh_token is invalid", "a made-up refresh token", func() servertest.Answer {
			return call("api_authorizer_token", info("svc")+`,"authorizer_refresh_token":"x"`)
		}},
		{61023, "refresh_token is invalid", "no refresh token",
			func() servertest.Answer { return call("api_authorizer_token", info("svc")) }},
		{61023, "refresh_token is invalid", "a refresh token that is null", func() servertest.Answer {
			return call("api_authorizer_token", info("shop")+`,"authorizer_refresh_token":null`)
		}},
		{61023, "refresh_token is invalid", "a refresh token that is empty", func() servertest.Answer {
			return call("api_authorizer_token", info("shop")+`,"authorizer_refresh_token":""`)
		}},
		{61023, "refresh_token is invalid", "a refresh token that a newer authorisation replaced", func() servertest.Answer {
			s.Authorize(token, "isv", "shop", "[33]")
			return call("api_authorizer_token", info("shop")+`,"authorizer_refresh_token":"`+shopRefresh+`"`)
		}},
		{40097, "invalid args", "no account to refresh for", func() servertest.Answer {
			return call("api_authorizer_token", me+`,"authorizer_refresh_token":"`+shopRefresh+`"`)
		}},
		{40170, "args count exceed count limit", "501 accounts at once",
			func() servertest.Answer { return call("api_get_authorizer_list", me+`,"offset":0,"count":501`) }},
		{40097, "invalid args", "an offset below 0",
			func() servertest.Answer { return call("api_get_authorizer_list", me+`,"offset":-1,"count":1`) }},
		{40097, "invalid args", "a count that is a list",
			func() servertest.Answer { return call("api_get_authorizer_list", me+`,"offset":0,"count":[]`) }},

		// A missing right of a platform is no fault of its token.
		{48001, "api unauthorized", "a platform's own token on an account's endpoint",
			func() servertest.Answer { return s.Do("POST", downloadPath+"?access_token="+token, "{}") }},
	}
	for name, fields := range tokenCalls {
		body := "{" + me + fields + "}"
		rows = append(rows,
			row{41001, "access_token missing", name + " without a token",
				func() servertest.Answer { return s.Do("POST", family+name, body) }},
			row{40001, badToken, name + " with a text that is no token", func() servertest.Answer { return s.Component("T", name, body) }},
			row{40001, badToken, name + " with a token that nobody issued", func() servertest.Answer {
				return s.Component("109_"+strings.Repeat("x", 128), name, body)
			}},
			row{40001, badToken, name + " with a replaced token", func() servertest.Answer {
				s.ComponentToken("isv")
				s.Advance(5 * time.Minute)
				return s.Component(token, name, body)
			}},
			row{42001, "access_token expired", name + " after two hours", func() servertest.Answer {
				s.Advance(2 * time.Hour)
				return s.Component(token, name, body)
			}},
			row{61004, "access clientip is not registered requestIP: 127.0.0.1", name + " from a strange address",
				func() servertest.Answer { fence(); return s.Component(token, name, body) }},
			row{61014, "must use component token for component api", name + " with an account's own token",
				func() servertest.Answer { return s.Component(s.Token("shop"), name, body) }},
			row{61014, "must use component token for component api", name + " with an authorizer's token",
				func() servertest.Answer { return s.Component(shopToken, name, body) }},
			row{41018, "missing component_appid", name + " with a list",
				func() servertest.Answer { return s.Component(token, name, "[]") }},
			row{44002, "empty post data", name + " without a body", func() servertest.Answer { return s.Component(token, name, "") }},
			row{40097, "invalid args", name + " with a list for component_appid",
				func() servertest.Answer { return s.Component(token, name, `{"component_appid":[]}`) }},
			row{-1, "system error", name + " with a fault", func() servertest.Answer {
				s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":-1,"count":1,"appid":"isv"}`, family+name))
				return s.Component(token, name, body)
			}},
		)
	}
	for _, r := range rows {
		t.Run(fmt.Sprint(r.want, " ", r.name), func(t *testing.T) {
			setUp()
			checkText(t, r.how(), r.want, r.text)
		})
	}
}

// Contract: rules 3.3: 61007 when the set is missing, 48001 when the account
// cannot whatever it granted.
func TestPermissionSets_OpenFamilies(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	token := s.ComponentToken("isv")
	tokens := map[string]string{}
	for _, appid := range []string{"shop", "svc", "plain", "sub"} {
		tokens[appid], _ = s.AuthorizerToken(token, "isv", appid)
	}
	// A new authorisation ends the token from before.
	agree := func(appid, sets string) {
		s.Authorize(token, "isv", appid, sets)
		tokens[appid], _ = s.AuthorizerToken(token, "isv", appid)
	}
	const codes = "/intp/marketcode/"
	families := map[string][]string{
		"rules": {addPath, getPath, publishPath, deletePath, downloadPath},
		"codes": {codes + "applycode", codes + "applycodequery", codes + "applycodedownload", codes + "codeactive", codes +
			"codeactivequery", codes + "tickettocode"},
	}
	is := func(appid, path, body string, want int) {
		t.Helper()
		s.Do("POST", path+"?access_token="+tokens[appid], body).WantCode(t, want, "%s for %s", path, appid)
	}
	each := func(appid, family string, want func(code int) bool, say string) {
		t.Helper()
		for _, path := range families[family] {
			if a := s.Do("POST", path+"?access_token="+tokens[appid], `{"prefix":"https://x.example/"}`); !want(a.Code(t)) {
				t.Errorf("%s for %s: got %s, want %s", path, appid, a.Body, say)
			}
		}
	}
	granted := func(code int) bool { return code != 61007 && code != 61003 && code != 40001 }
	missing := func(code int) bool { return code == 61007 }
	each("shop", "rules", granted, "not 61007")
	each("shop", "codes", missing, "61007")
	each("svc", "rules", granted, "not 61007")
	each("svc", "codes", granted, "not 61007")
	is("plain", getPath, "{}", 48001)
	is("plain", codes+"applycodequery", `{"application_id":1}`, 48001)
	is("sub", getPath, "{}", 48001)
	// The platform acts for the account: what it adds is the account's.
	is("shop", addPath, rule("https://shop.example/by-isv/"), 0)
	if a := s.OK("shop", "get", "{}"); !strings.Contains(a.Body, "by-isv") {
		t.Errorf("the account does not have the rule: %s", a.Body)
	}
	// The account itself needs no permission of its own.
	agree("shop", "[33]")
	agree("svc", "[33]")
	each("shop", "rules", missing, "61007")
	each("svc", "rules", missing, "61007")
	each("svc", "codes", missing, "61007")
	// The set is judged before the body, and after the token.
	is("shop", addPath, "{'", 61007)
	s.OK("shop", "get", "{}")
	// The sets of the other kind do not count.
	agree("shop", "[3]")
	each("shop", "rules", missing, "61007")
	agree("svc", "[18]")
	each("svc", "rules", missing, "61007")
}

// A call above the day's limit does nothing.
func TestComponentAPI_DailyLimit(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	s.Admin("PUT", "/components/isv", `{"event_url":"http://127.0.0.1/"}`)
	s.Admin("PUT", "/settings", `{"daily_limits":{"`+family+`api_start_push_ticket":1}}`)
	start := func() (errcode, tickets int) {
		a := s.Do("POST", family+"api_start_push_ticket", `{"component_appid":"isv","component_secret":"secret-isv"}`)
		return a.Code(t), strings.Count(s.Admin("GET", "/components/isv/pushes", "").Body, `"component_verify_ticket"`)
	}
	code, tickets := start()
	require.True(t, code == 0 && tickets >= 1, "the first: errcode %d, %d tickets", code, tickets)
	if code, again := start(); code != 45009 || again != tickets {
		t.Errorf("the second: errcode %d, %d tickets after %d", code, again, tickets)
	}
}

// From line to line what stood first is mended, and all that comes later is still wrong. Contract: rules 3.2.
func TestComponentLogin_ErrorPrecedence(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	token := s.ComponentToken("isv")
	for _, c := range []struct {
		name, query string
		want        int
	}{
		{"nothing", "", 41002},
		{"an AppID of nobody", "appid=nobody", 40013},
		{"no grant_type", "appid=rival", 40002},
		{"no token", "appid=rival&grant_type=authorization_code", 41001},
		{"a text that is no token", "appid=rival&grant_type=authorization_code&component_access_token=T", 40001},
		{"no platform", "appid=rival&grant_type=authorization_code&component_access_token=" + token, 41018},
		{"another platform", "appid=rival&grant_type=authorization_code&component_appid=isv2&component_access_token=" + token, 61011},
		{"an account that did not authorise it", "appid=rival&grant_type=authorization_code&component_appid=isv&component_access_token=" +
			token, 61003},
		{"no js_code", "appid=shop&grant_type=authorization_code&component_appid=isv&component_access_token=" + token, 41008},
		{"a made-up js_code", "appid=shop&grant_type=authorization_code&component_appid=isv&js_code=x&component_access_token=" + token, 40029},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Do("GET", "/sns/component/jscode2session?"+c.query, "").WantCode(t, c.want, "GET(%q)", c.query)
		})
	}
}

// A refresh answers the same refresh token again, and leaves the token from before its five minutes.
// Behaviour(component.refresh.same).
func TestAuthorizerToken_RefreshKeepsOverlap(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	token := s.ComponentToken("isv")
	before, refresh := s.AuthorizerToken(token, "isv", "shop")
	a := s.Component(token, "api_authorizer_token",
		fmt.Sprintf(`{"component_appid":"isv","authorizer_appid":"shop","authorizer_refresh_token":%q}`, refresh))
	assert.True(t, strings.Contains(a.Body, `"authorizer_refresh_token":"`+refresh+`"`), "the refresh token was %s: %s", refresh, a.Body)
	s.Do("POST", getPath+"?access_token="+before, "{}").WantCode(t, 0, "the token from before")
}
