package api_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
)

var anyRID = regexp.MustCompile(`rid: [0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}`)

// Answers of the platform that others published, of calls whose request is known
// well enough to make it here. Ours are the same to the letter, but for the
// request id and the address. Contract: README, Seen. What was answered before
// 2023 without the advice, and is answered with it since, stands in the newer form.
// Behaviour(wire.answer.comma) Behaviour(wire.answer.rid).
func TestOurTextsAreThoseOfLiveAnswers(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	const (
		codesPath = "/intp/marketcode/"
		advice    = ", could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
		dead      = `{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest`
		spent     = `{"errcode":45009,"errmsg":"reach max api daily quota limit`
		fake      = "?access_token=fake_token_0000000000"
		grant     = "?grant_type=authorization_code&"
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
	login := func(s *servertest.Server) servertest.Answer {
		var made struct {
			JSCode string `json:"js_code"`
		}
		s.Do("POST", "/scan/v1/login", `{"user":"u","appid":"shop"}`).JSON(t, &made)
		return many(2, get(sessionPath+grant+"appid=shop&secret=secret-shop&js_code="+made.JSCode))(s)
	}
	for _, c := range []struct {
		years, live string
		how         how
	}{
		{"2026", `{"errcode":40013,"errmsg":"invalid appid rid: R"}`, get(tokenPath + "?grant_type=client_credential&appid=wx_t&secret=x")},
		{"2026", `{"errcode":40013,"errmsg":"invalid appid rid: R"}`, get(tokenPath + "?appid=wx_t&secret=x")},
		{"2026", `{"errcode":40013,"errmsg":"invalid appid rid: R"}`,
			post(stablePath, `{"grant_type":"client_credential","appid":"wx_t","secret":"x","force_refresh":false}`)},
		{"2026", dead + advice + ` rid: R"}`, get("/cgi-bin/getcallbackip" + fake)},
		{"2026", dead + advice + ` rid: R"}`, get("/cgi-bin/get_api_domain_ip" + fake)},
		{"2026", dead + advice + ` rid: R"}`, post("/cgi-bin/clear_quota"+fake, `{"appid":"wx_t"}`)},
		{"2021, one character", dead + advice + ` rid: R"}`, post(getPath+"?access_token=2", "{}")},
		{"2023 to 2026, seven", `{"errcode":40125,"errmsg":"invalid appsecret rid: R"}`, fetch("client_credential", "shop", "wrong")},
		{"2021 to 2026, five", `{"errcode":40125,"errmsg":"invalid appsecret, rid: R"}`,
			get(sessionPath + grant + "appid=shop&secret=wrong&js_code=x")},
		{"2025", `{"errcode":40125,"errmsg":"invalid appsecret rid: R"}`, trade("isv", "wrong", "null")},
		{"2024", `{"errcode":41002,"errmsg":"appid missing rid: R"}`, post(tokenPath, "")},
		{"2026", `{"errcode":41002,"errmsg":"appid missing rid: R"}`, get(tokenPath)},
		{"2022, three", `{"errcode":41002,"errmsg":"appid missing, rid: R"}`, get(sessionPath + grant + "appid=&secret=x&js_code=x")},
		{"2022, 2026", `{"errcode":41004,"errmsg":"appsecret missing, rid: R"}`, get(sessionPath + grant + "appid=shop&secret=&js_code=x")},
		{"2021, 2024", `{"errcode":41008,"errmsg":"missing code, rid: R"}`,
			get(sessionPath + grant + "appid=shop&secret=secret-shop&js_code=")},
		{"2026", `{"errcode":40002,"errmsg":"invalid grant_type, rid: R"}`,
			get(sessionPath + "?grant_type=code&appid=shop&secret=secret-shop&js_code=x")},
		{"2024, three", `{"errcode":40029,"errmsg":"invalid code, rid: R"}`,
			get(sessionPath + grant + "appid=shop&secret=secret-shop&js_code=x")},
		{"2022, 2024", `{"errcode":40163,"errmsg":"code been used, rid: R"}`, login},
		{"2022, 2026", `{"errcode":42001,"errmsg":"access_token expired rid: R"}`, func(s *servertest.Server) servertest.Answer {
			old := s.Token("shop")
			s.Advance(2 * time.Hour)
			return s.Do("POST", getPath+"?access_token="+old, "{}")
		}},
		{"2023", `{"errcode":41001,"errmsg":"access_token missing rid: R"}`, post("/cgi-bin/qrcode/create", "{}")},
		{"2023", spent + advice + ` rid: R"}`, after(fetch("client_credential", "shop", "secret-shop"),
			set("/settings", `{"token_daily_limit":1}`), fetch("client_credential", "shop", "secret-shop"))},
		{"2023, of a neighbour", spent + advice + ` rid: R"}`,
			after(many(2, as("shop", getPath, "{}")), set("/settings", fmt.Sprintf(`{"daily_limits":{%q:1}}`, getPath)))},
		{"2023 to 2025, seven", spent + ` rid: R"}`,
			after(many(2, post(stablePath, stable("shop"))), set("/settings", fmt.Sprintf(`{"daily_limits":{%q:1}}`, stablePath)))},
		{"2020 to 2023, six", `{"errcode":61004,"errmsg":"access clientip is not registered requestIP: 127.0.0.1 rid: R"}`,
			after(trade("isv", "secret-isv", `"x"`), fenced)},
		{"2022", `{"errcode":61004,"errmsg":"access clientip is not registered requestIP: 127.0.0.1 rid: R"}`,
			after(component("api_authorizer_token", `"authorizer_appid":"shop","authorizer_refresh_token":"x"`), fenced)},
		{"2024", `{"errcode":61004,"errmsg":"access clientip is not registered requestIP: 127.0.0.1 rid: R"}`,
			after(component("api_query_auth", `"authorization_code":"x"`), fenced)},
		{"2023, by a fault", `{"errcode":61004,"errmsg":"access clientip is not registered requestIP: 127.0.0.1 rid: R"}`,
			after(trade("isv", "secret-isv", `"x"`), fault(family+"api_component_token", 61004))},
		{"2023, by a fault", `{"errcode":40164,"errmsg":"invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist rid: R"}`,
			after(fetch("client_credential", "shop", "secret-shop"), fault(tokenPath, 40164))},
		{"2025", `{"errcode":61011,"errmsg":"invalid component rid: R"}`, trade("svc", "x", "null")},
		{"2023, two", `{"errcode":61011,"errmsg":"invalid component rid: R"}`, trade("shop", "x", `"x"`)},
		{"2022", `{"errcode":61011,"errmsg":"invalid component rid: R"}`,
			post(family+"api_start_push_ticket", `{"component_appid":"shop","component_secret":"x"}`)},
		{"2020", `{"errcode":40013,"errmsg":"invalid appid rid: R"}`, trade("Component_Appid", "x", `""`)},
		{"2023, two", `{"errcode":61006,"errmsg":"component ticket is invalid rid: R"}`, trade("isv", "secret-isv", "null")},
		{"2019", `{"errcode":61005,"errmsg":"component ticket is expired rid: R"}`, after(func(s *servertest.Server) servertest.Answer {
			return trade("isv", "secret-isv", quoted(ticket))(s)
		}, later(12*time.Hour))},
		{"2021 to 2023, three", `{"errcode":41018,"errmsg":"missing component_appid rid: R"}`,
			post(family+"api_component_token", "component_appid=isv&component_appsecret=secret-isv")},
		{"2021", `{"errcode":61009,"errmsg":"code is invalid rid: R"}`, func(s *servertest.Server) servertest.Answer {
			return component("api_query_auth", `"authorization_code":`+quoted(s.PreAuthCode(token, "isv")))(s)
		}},
		{"2020, 2023", `{"errcode":61010,"errmsg":"code is expired rid: R"}`, func(s *servertest.Server) servertest.Answer {
			code := s.Authorize(token, "isv", "shop", "[33]")
			return many(2, component("api_query_auth", `"authorization_code":`+quoted(code)))(s)
		}},
		{"2021", `{"errcode":61023,"errmsg":"refresh_token is invalid rid: R"}`, func(s *servertest.Server) servertest.Answer {
			s.Authorize(token, "isv", "shop", "[33]")
			return component("api_authorizer_token", `"authorizer_appid":"shop","authorizer_refresh_token":`+quoted(shopRefresh))(s)
		}},
		{"2022", `{"errcode":61023,"errmsg":"refresh_token is invalid rid: R"}`, func(s *servertest.Server) servertest.Answer {
			return component("api_authorizer_token", `"authorizer_appid":"shop","authorizer_refresh_token":`+quoted(shopToken))(s)
		}},
		{"2018", `{"errcode":61003,"errmsg":"component is not authorized by this account rid: R"}`,
			func(s *servertest.Server) servertest.Answer {
				s.Admin("DELETE", "/components/isv/authorizations/shop", "")
				return component("api_get_authorizer_info", `"authorizer_appid":"shop"`)(s)
			}},
		{"2023", `{"errcode":40164,"errmsg":"invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist rid: R"}`,
			after(fetch("client_credential", "shop", "secret-shop"),
				set("/accounts/shop", `{"kind":"mini_program","ip_allowlist":["203.0.113.0/24"]}`))},
		{"2022, 2024", `{"errcode":44002,"errmsg":"empty post data rid: R"}`, as("shop", publishPath, "")},
		{"2021, two", `{"errcode":47001,"errmsg":"data format error rid: R"}`, as("shop", publishPath, "{'")},
		{"2022", `{"errcode":85066,"errmsg":"illegal prefix rid: R"}`,
			as("shop", addPath, rule("https://shop.example/?canteen=1&name=食堂"))},
		{"2022", `{"errcode":85066,"errmsg":"illegal prefix rid: R"}`, as("svc", addPath, code("http://weixin.qq.com/r/a", "shop"))},
		{"2023", `{"errcode":85072,"errmsg":"prefix owned by other rid: R"}`,
			after(as("rival", addPath, rule("https://shop.example/have/")), as("shop", addPath, rule("https://shop.example/have/")))},
		{"2020 to 2024, five", `{"errcode":85069,"errmsg":"check confirm file fail rid: R"}`,
			after(as("shop", addPath, rule("http://127.0.0.1:1/a/")), set("/settings", `{"verification":"fetch"}`))},
		{"2023", `{"errcode":0,"errmsg":"ok","rule_list":[],"qrcodejump_open":1,"list_size":0,"qrcodejump_pub_quota":100,"total_count":0}`,
			as("shop", getPath, "{}")},
		{"2022", `{"errcode":48001,"errmsg":"api unauthorized rid: R"}`, func(s *servertest.Server) servertest.Answer {
			sub, _ := s.AuthorizerToken(token, "isv", "sub")
			return s.Do("POST", getPath+"?access_token="+sub, "{}")
		}},
		{"2024", `{"errcode":61007,"errmsg":"api is unauthorized to component rid: R"}`, func(s *servertest.Server) servertest.Answer {
			return s.Do("POST", codesPath+"applycodequery?access_token="+shopToken, `{"application_id":1}`)
		}},
		{"2021", `{"errcode":1005,"errmsg":" rid: R"}`,
			after(as("svc", "/cgi-bin/wxopen/wxamplink", `{"appid":"rival","notify_users":1,"show_profile":1}`),
				fault("/cgi-bin/wxopen/wxamplink", 1005))},
	} {
		number, _, _ := strings.Cut(strings.TrimPrefix(c.live, `{"errcode":`), ",")
		t.Run(number+" of "+c.years, func(t *testing.T) {
			s.Renew(t)
			token, ticket = s.ComponentToken("isv"), s.Ticket("isv")
			shopToken, shopRefresh = s.AuthorizerToken(token, "isv", "shop")
			a := c.how(s)
			if got := anyRID.ReplaceAllString(strings.TrimSpace(a.Body), "rid: R"); got != c.live {
				t.Errorf("got  %s\nlive %s", got, c.live)
			}
		})
	}
}
