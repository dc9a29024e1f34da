package adminapi_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

const shop = `
accounts:
  - {appid: shop, kind: mini_program, name: Shop, secret: the-secret-of-shop, versions: [release], members: {ann: admin}}
  - {appid: rival, kind: mini_program, secret: the-secret-of-rival, versions: [release]}
  - {appid: odd, kind: mini_program, features: [later]}
  - {appid: svc, kind: service_account, secret: the-secret-of-svc, certified: true, linked: [shop]}
components:
  - {appid: isv, secret: the-secret-of-isv, message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE}
settings: {verification: trust, rule_rate_limit: null}
`

// call makes a call that may fail and checks that a failure is a problem
// document.
func call(t *testing.T, s *servertest.Server, method, path, body string) servertest.Answer {
	t.Helper()
	a := s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
	if a.Status/100 != 2 {
		var p struct{ Status int }
		if a.JSON(t, &p); p.Status != a.Status || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %s %s", method, path, a.Header.Get("Content-Type"), a.Body)
		}
	}
	return a
}

func TestAdminAccounts_CRUD(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true})
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string // in the answer
	}{
		{"GET", "/accounts", "", 200, `"appid":"rival"`},
		{"GET", "/accounts?after=shop", "", 200, `{"accounts":[{"appid":"svc"`},
		{"GET", "/accounts?after=svc", "", 200, `{"accounts":[],"total":4}`},
		{"GET", "/accounts?limit=1", "", 200, `"appid":"odd"`},
		{"GET", "/accounts?limit=0", "", 422, "limit"},
		{"GET", "/accounts?limit=1001", "", 422, "limit"},
		{"GET", "/accounts/shop", "", 200, `"members":{"ann":"admin"}`},
		{"GET", "/accounts/nobody", "", 404, "no account"},
		{"PUT", "/accounts/new",
			`{"kind":"mini_program","name":"New","secret":"the-secret-of-new","versions":["trial"],"ip_allowlist":["127.0.0.1/32"]}`, 200,
			`"jump_open":true`},
		{"PUT", "/accounts/new", `{"kind":"mini_program","name":"Newer","versions":["release"]}`, 200, `"name":"Newer"`},
		{"PUT", "/accounts/new", `{"kind":"service_account"}`, 422, "cannot be changed"},
		{"PUT", "/accounts/isv", `{"kind":"mini_program"}`, 422, "component"},
		{"PUT", "/accounts/x", `{"kind":"robot"}`, 422, "kind"},
		{"PUT", "/accounts/x", `{"kind":"mini_program","subject":"robot"}`, 422, "subject"},
		{"PUT", "/accounts/x", `{"kind":"mini_program","versions":["beta"]}`, 422, "beta"},
		{"PUT", "/accounts/x", `{"kind":"mini_program","members":{"u":"king"}}`, 422, "king"},
		{"PUT", "/accounts/x", `{"kind":"mini_program","ip_allowlist":["here"]}`, 422, "ip_allowlist"},
		{"PUT", "/accounts/x", `{"kind":"mini_program","message_url":"ftp://x"}`, 422, "http"},
		{"PUT", "/accounts/x", `{"kind":"mini_program","marketcode_key":"short"}`, 422, "16 characters"},
		{"PUT", "/accounts/x", `{"kind":"mini_program","linked":["shop"]}`, 422, "linked"},
		{"PUT", "/accounts/x", `{"kind":"mini_program","unknown":1}`, 422, "unknown"},
		{"PUT", "/accounts/x", `{"kind":"mini_program","name":"a\u0000"}`, 422, "name"},
		{"PUT", "/accounts/x", `{"kind":"mini_program","features":["marketcodes"]}`, 422, "did you mean marketcode?"},
		{"PUT", "/accounts/odd", `{"kind":"mini_program","features":["later","marketcode"]}`, 200, `"features":["later","marketcode"]`},
		{"PUT", "/accounts/odd", `{"kind":"mini_program","features":["later","colour"]}`, 422, `there is no \"colour\""`},
		{"PUT", "/accounts/x", `{"kind":`, 400, ""},
		{"PUT", "/accounts/x", `[]`, 422, ""},
		{"PUT", "/accounts/a%20b", `{"kind":"mini_program"}`, 422, "spaces"},
		{"PUT", "/accounts/" + strings.Repeat("x", 33), `{"kind":"mini_program"}`, 422, "32"},
		{"PUT", "/accounts/svc2", `{"kind":"service_account","certified":true,"linked":["shop"]}`, 200, `"linked":["shop"]`},
		{"PUT", "/accounts/svc3", `{"kind":"service_account","linked":["nobody"]}`, 422, "no account nobody"},
		{"GET", "/accounts/svc3", "", 404, ""},
		{"PUT", "/accounts/shop/versions", `{"versions":["release","trial"]}`, 200, `"versions":["release","trial"]`},
		{"PUT", "/accounts/shop/versions", `{"versions":["beta"]}`, 422, "beta"},
		{"PUT", "/accounts/nobody/versions", `{"versions":[]}`, 404, ""},
		{"PUT", "/accounts/shop/jump", `{"open":false}`, 200, `"jump_open":false`},
		{"PUT", "/accounts/shop/jump", `{}`, 422, "open"},
		{"PUT", "/accounts/shop/members/b%2Fb", `{"role":"trial"}`, 200, `"b/b":"trial"`},
		{"PUT", "/accounts/shop/members/ann", `{"role":"developer"}`, 200, `"ann":"developer"`},
		{"PUT", "/accounts/shop/members/ann", `{"role":"king"}`, 422, "role"},
		{"DELETE", "/accounts/shop/members/ann", "", 200, `"members":{"b/b":"trial"}`},
		{"DELETE", "/accounts/shop/members/nobody", "", 200, `"b/b"`},
		{"PUT", "/accounts/svc/links/rival", "", 200, `"linked":["rival","shop"]`},
		{"PUT", "/accounts/svc/links/nobody", "", 422, "no account nobody"},
		{"PUT", "/accounts/shop/links/rival", "", 422, "not a service_account"},
		{"PUT", "/accounts/svc/links/svc2", "", 422, "not a mini_program"},
		{"DELETE", "/accounts/svc/links/shop", "", 200, `"linked":["rival"]`},
		{"DELETE", "/accounts/svc/links/shop", "", 200, `"linked":["rival"]`},
		{"GET", "/accounts/shop/quota", "", 200, `{"publishes_left":100}`},
		{"GET", "/accounts/nobody/quota", "", 404, ""},
		{"GET", "/nothing", "", 404, "openapi"},
		{"DELETE", "/accounts", "", 405, ""},
		{"POST", "/accounts/shop", "{}", 405, ""},
	} {
		a := call(t, s, c.method, c.path, c.body)
		assert.True(t, a.Status == c.status && strings.Contains(a.Body, c.want),
			"%s %s %s: %d %s; want %d with %s", c.method, c.path, c.body, a.Status, a.Body, c.status, c.want)
		for _, hidden := range []string{"the-secret-of-", "hash", "$schema"} {
			assert.True(t, !strings.Contains(a.Body, hidden), "%s %s shows %s: %s", c.method, c.path, hidden, a.Body)
		}
	}
	// A replaced account keeps its secret and its file.
	s.NewToken("new")
	if log := s.Log(); strings.Contains(log, "level=ERROR") {
		t.Error("a wrong input is no error of ours")
	}
}

func TestAdminSettings_GetAndPatch(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	o := servertest.Options{Seed: shop, Data: data, Guarded: true}
	s := servertest.Start(t, o)
	for _, c := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"rule_rate_limit":7}`, 200, `"rule_rate_limit":7`},
		{`{}`, 200, `"rule_rate_limit":7`},
		{`{"publish_quota":0,"utc_offset_hours":-12}`, 200, `"utc_offset_hours":-12`},
		{`{"rule_rate_limit":null,"max_links_per_mini_program":0}`, 200, `"max_links_per_mini_program":0`},
		{`{}`, 200, `"rule_rate_limit":null`},
		{`{"rule_rate_limit":0}`, 200, `"rule_rate_limit":0`},
		{`{"rule_rate_limit":2147483647}`, 422, "rule_rate_limit is a number 2147483647: want 0 to 1000000, or unlimited (null)"},
		{`{"scan_retention_days":0}`, 422, "scan_retention_days is 0: want 1 to 36500, or unlimited (null)"},
		{`{"rule_rate_limit":7}`, 200, `"rule_rate_limit":7`},
		{`{"verification":"fetch"}`, 200, `"verification":"fetch"`},
		{`{"verification":["A.example"]}`, 200, `"verification":["a.example"]`},
		{`{"RULE_LIMIT":9}`, 200, `"rule_limit":9`},
		{`{"rule_limit":8}`, 200, `"rule_limit":8`},
		{`{"RULE_LIMIT":3}`, 200, `"rule_limit":3`},
		{`{"verification":"maybe"}`, 422, "maybe"},
		{`{"verification":null}`, 200, `"verification":["a.example"]`},
		{`{"rule_rate_limit":-1}`, 422, "rule_rate_limit"},
		{`{"rule_rate_limit":"5"}`, 422, "rule_rate_limit"},
		{`{"rule_rate_limit":1.5}`, 422, "rule_rate_limit"},
		{`{"rule_rate_limit":99999999999}`, 422, "rule_rate_limit"},
		{`{"token_daily_limit":0}`, 422, "token_daily_limit"},
		{`{"utc_offset_hours":15}`, 422, "utc_offset_hours"},
		{`{"rule_rate_limi":5}`, 422, `there is no \"rule_rate_limi\": did you mean rule_rate_limit?`},
		{`{"colour":5}`, 422, `there is no \"colour\""`},
		{`{"daily_limits":{"/cgi-bin/stabel_token":5}}`, 422, "did you mean /cgi-bin/stable_token?"},
		{`{"rule_rate_limit":4,"rate_limi":5}`, 422, "rate_limi"},
		{`{"behaviours":{"wire.list.text":"allow","rules.get.all":"reject"}}`, 200,
			`"behaviours":{"rules.get.all":"reject","wire.list.text":"allow"}`},
		{`{"activation_overlap":"replace"}`, 422, `there is no \"activation_overlap\"`},
		{`{"behaviours":{"wire.list.txt":"reject"}}`, 422, `there is no behaviour \"wire.list.txt\": did you mean wire.list.text?`},
		{`{"behaviours":{"rules.publish.abov":"reject"}}`, 422, `did you mean rules.publish.above?`},
		{`{"behaviours":{"wire.retry":"reject"}}`, 422, "wire.retry lets nothing pass that could be rejected"},
		{`{"behaviours":["wire.list.text"]}`, 422, "behaviours: want an object"},
		{`{"behaviours":{"wire.list.text":true}}`, 422, "wire.list.text is true: want allow or reject"},
		{`{"behaviours":{"wire.list.text":"severe"}}`, 422, "wire.list.text is severe: want allow or reject"},
		{`{"behaviours":7}`, 422, "behaviours: want an object"},
		{`{"behaviours":null}`, 200, `"behaviours":{"rules.get.all":"reject","wire.list.text":"allow"}`},
		{`{"behaviours":{}}`, 200, `"behaviours":{}`},
		{`null`, 422, "object"},
		{`[]`, 422, "object"},
		{`"x"`, 422, "object"},
		{`{"rule_rate_limit":4} x`, 400, ""},
		{``, 400, ""},
	} {
		if a := call(t, s, "PUT", "/settings", c.body); a.Status != c.status || !strings.Contains(a.Body, c.want) {
			t.Errorf("%s: %d %s; want %d with %s", c.body, a.Status, a.Body, c.status, c.want)
		}
	}
	before := s.Admin("GET", "/settings", "").Body
	assert.True(t, strings.Contains(before, `"rule_rate_limit":7`) && !strings.Contains(s.Log(), "level=ERROR"),
		"a refused change changed something, or was logged as ours: %s", before)
	s.Stop()
	s = servertest.Start(t, o)
	if after := s.Admin("GET", "/settings", "").Body; after != before {
		t.Errorf("after a restart\n%swas\n%s", after, before)
	}
}

func TestAdminDomains_SetAndDelete(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true})
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/domains", "", 200, `{"domains":[]}`},
		{"PUT", "/domains/EVIL.example", `{"status":"denied"}`, 200, `"host":"evil.example","status":"denied"`},
		{"PUT", "/domains/127.0.0.1:9000", `{"status":"trusted"}`, 200, `"host":"127.0.0.1:9000"`},
		{"PUT", "/domains/evil.example", `{"status":"no_icp"}`, 200, `"host":"evil.example","status":"no_icp"`},
		{"PUT", "/domains/evil.example", `{"status":"friendly"}`, 422, "status"},
		{"PUT", "/domains/evil.example", `{}`, 422, "status"},
		{"PUT", "/domains/a%2Fb", `{"status":"denied"}`, 422, "host"},
		{"PUT", "/domains/" + strings.Repeat("x", 301), `{"status":"denied"}`, 422, ""},
		{"DELETE", "/domains/evil.example", "", 200, `{"domains":[{"host":"127.0.0.1:9000"`},
		{"DELETE", "/domains/evil.example", "", 404, "this host has no status"},
	} {
		if a := call(t, s, c.method, c.path, c.body); a.Status != c.status || !strings.Contains(a.Body, c.want) {
			t.Errorf("%s %s %s: %d %s; want %d with %s", c.method, c.path, c.body, a.Status, a.Body, c.status, c.want)
		}
	}
}

func TestScanKeys_Lifecycle(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true})
	for _, c := range []struct {
		body   string
		status int
	}{
		{`{"name":"app"}`, 200}, {`{"name":"app-2","namespace":"ns"}`, 200}, {`{}`, 422}, {`{"name":""}`, 422}, {`{"name":"a b"}`, 422},
		{`{"name":"` + strings.Repeat("x", 65) + `"}`, 422}, {`{"name":"x","namespace":"a b"}`, 422},
	} {
		a := call(t, s, "POST", "/scan-keys", c.body)
		assert.True(t, a.Status == c.status, "%s: %d %s", c.body, a.Status, a.Body)
		var made struct{ Key string }
		if a.JSON(t, &made); made.Key != "" {
			s.Hide(made.Key)
		}
	}
	var list struct {
		Keys []struct{ Name, Namespace, Key string }
	}
	s.Admin("GET", "/scan-keys", "").JSON(t, &list)
	if got := fmt.Sprint(list.Keys); len(list.Keys) != 2 || !strings.Contains(got, "{app default }") ||
		!strings.Contains(got, "{app-2 ns }") {
		t.Errorf("got %s", got)
	}
	for range 2 { // ending a key that is not there changes nothing
		if a := call(t, s, "DELETE", "/scan-keys/app", ""); a.Status/100 != 2 {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
	s.Admin("GET", "/scan-keys", "").JSON(t, &list)
	assert.True(t, len(list.Keys) == 1, "left: %v", list.Keys)
}

func TestAdminRules_CRUD(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	rule := func(p, extra string) string {
		return `{"prefix":"` + p + `","path":"p","is_edit":0,"permit_sub_rule":2,"open_version":3` + extra + `}`
	}
	s.OK("shop", "add", rule("https://shop.example/a/", ""))
	s.OK("svc", "add", `{"prefix":"http://weixin.qq.com/q/a","appid":"shop","path":"p","is_edit":0}`)
	s.OK("rival", "add", rule("https://rival.example/", ""))
	s.OK("shop", "publish", `{"prefix":"https://shop.example/a/"}`)
	var first struct{ Rules []struct{ ID int64 } }
	s.Admin("GET", "/rules?limit=1", "").JSON(t, &first)
	for _, c := range []struct {
		path   string
		status int
		want   string // the prefixes' ends, or a part of the answer
	}{
		{"/rules", 200, "a/ q/a rival.example/"},
		{"/rules?owner=shop", 200, "a/"},
		{"/rules?target=shop", 200, "a/ q/a"},
		{"/rules?owner=svc&target=shop", 200, "q/a"},
		{"/rules?limit=1", 200, "a/"},
		{fmt.Sprintf("/rules?after=%d&limit=1", first.Rules[0].ID), 200, "q/a"},
		{"/rules?after=-1", 422, "after"},
		{"/rules?limit=1001", 422, "limit"},
		{"/rules/conflicts?prefix=https://shop.example/a/b", 200, "a/"},
		{"/rules/conflicts?prefix=https://shop.example/", 200, ""},
		{"/rules/conflicts?prefix=http://weixin.qq.com/q/a", 200, "q/a"},
		{"/rules/conflicts?prefix=nothing", 422, "not an http or https link"},
		{"/rules/conflicts?prefix=https://a.example/%00", 422, "not an http or https link"},
		{"/rules/conflicts", 422, "prefix"},
		{"/rules/history?prefix=nothing", 422, "not an http or https link"},
		{"/rules/history", 422, "prefix"},
	} {
		a := call(t, s, "GET", c.path, "")
		var list struct{ Rules []struct{ Prefix string } }
		a.JSON(t, &list)
		got := a.Body
		if a.Status == 200 {
			var ends []string
			for _, r := range list.Rules {
				ends = append(ends, strings.NewReplacer("https://shop.example/", "", "http://weixin.qq.com/", "", "https://",
					"").Replace(r.Prefix))
			}
			got = strings.Join(ends, " ")
		}
		assert.True(t, a.Status == c.status && (a.Status != 200 || got == c.want) && strings.Contains(got, c.want),
			"%s: %d %s; want %d %s", c.path, a.Status, got, c.status, c.want)
	}

	// The history outlives the rule and its owner.
	s.OK("shop", "delete", `{"prefix":"https://shop.example/a/"}`)
	s.OK("rival", "add", rule("https://shop.example/a/", ""))
	var history struct {
		Changes []struct {
			Actor, RID, Action string
			Rule               struct {
				Owner     string
				Published bool
			}
		}
	}
	s.Admin("GET", "/rules/history?prefix=HTTPS://SHOP.example/a/", "").JSON(t, &history)
	var got []string
	for _, c := range history.Changes {
		assert.True(t, c.RID != "", "a change without the request id of its call")
		got = append(got, fmt.Sprintf("%s %s %s %v", c.Actor, c.Action, c.Rule.Owner, c.Rule.Published))
	}
	if want := "rival add rival false|shop delete shop true|shop publish shop true|shop add shop false"; strings.Join(got, "|") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
	}
	assert.True(t, !strings.Contains(s.Log(), "level=ERROR"), "a wrong question is no error of ours")
}
