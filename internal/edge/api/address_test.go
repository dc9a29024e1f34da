package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// An account's list holds for the calls with its secret, a service account's for those with its token too, a Mini Program's not
// for jscode2session; a platform that trades a js_code has a number of its own. Behaviour(caller.address.account)
// Behaviour(login.address) Behaviour(login.address.account).
func TestAddressesOffTheList_EachCall(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	svc, shop, platform := s.Token("svc"), s.Token("shop"), s.ComponentToken("isv")
	const fence = `"ip_allowlist":["203.0.113.0/24"]}`
	s.Admin("PUT", "/accounts/svc", `{"kind":"service_account",`+fence)
	s.Admin("PUT", "/accounts/shop", `{"kind":"mini_program",`+fence)
	s.Admin("PUT", "/components/isv", `{`+fence)
	const offAccount = `{"errcode":40164,"errmsg":"invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist`
	byPlatform := "/sns/component/jscode2session?appid=shop&js_code=x&grant_type=authorization_code&component_appid=isv&component_access_token="
	for _, c := range []struct{ name, method, path, body, want string }{
		{"a service account's token", "POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=" + svc, `{}`, offAccount},
		{"a Mini Program's token", "POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=" + shop, `{}`, `{"errcode":0,`},
		{"a service account's secret", "GET", "/cgi-bin/token?grant_type=client_credential&appid=svc&secret=secret-svc", "", offAccount},
		{"a Mini Program's secret", "GET", "/cgi-bin/token?grant_type=client_credential&appid=shop&secret=secret-shop", "", offAccount},
		{"a login", "GET", "/sns/jscode2session?appid=shop&secret=secret-shop&js_code=x&grant_type=authorization_code", "",
			`{"errcode":40029,"errmsg":"invalid code`},
		{"a platform's login", "GET", byPlatform + platform, "",
			`{"errcode":40090,"errmsg":"invalid request source (bad client ip), requestIP: 127.0.0.1, rid: `},
	} {
		t.Run(c.name, func(t *testing.T) {
			if a := s.Do(c.method, c.path, c.body); !strings.HasPrefix(a.Body, c.want) {
				t.Errorf("%s(%q) = %s, want %s", c.method, c.path, a.Body, c.want)
			}
		})
	}
	var login struct {
		JSCode string `json:"js_code"`
	}
	s.Do("POST", "/scan/v1/login", `{"user":"alice","appid":"shop"}`).JSON(t, &login)
	a := s.Do("GET", "/sns/jscode2session?appid=shop&secret=secret-shop&grant_type=authorization_code&js_code="+login.JSCode, "")
	assert.True(t, strings.Contains(a.Body, `"openid":"`), "a login off the list = %s, want an openid", a.Body)
	decidedBy(t, s, "login.address.account")
}

// unlisted is an agency in which a service account and a platform have no list; a Mini Program needs none.
var unlisted = strings.NewReplacer("{appid: svc, kind", "{appid: svc, ip_allowlist: [], kind",
	"  - appid: isv\n", "  - appid: isv\n    ip_allowlist: []\n",
	"{appid: shop, kind", "{appid: shop, ip_allowlist: [], kind").Replace(agency)

// A service account or platform without any list is served and told once, and rejected by strict; each number is among the
// trials of coverage.
func TestIPAllowlist_Missing(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: unlisted})
	svc, shop, platform := s.Token("svc"), s.Token("shop"), s.ComponentToken("isv")
	acts, _ := s.AuthorizerToken(platform, "isv", "shop")
	get := func(token string) servertest.Answer { return s.Do("POST", getPath+"?access_token="+token, "{}") }
	preAuth := func() servertest.Answer {
		return s.Component(platform, "api_create_preauthcode", `{"component_appid":"isv"}`)
	}
	calls := func() {
		t.Helper()
		for _, a := range []servertest.Answer{get(svc), get(svc), get(shop), get(acts), preAuth()} {
			assert.True(t, !strings.Contains(a.Body, `"errcode":`) || a.Code(t) == 0, "without a list: %s", a.Body)
		}
	}
	told := func() (accounts []string) {
		for _, d := range reported(t, s) {
			if d.Behaviour == "caller.address.unlisted" && d.EvidenceLevel == "documented" && d.Count == 1 {
				accounts = append(accounts, d.Account)
			}
		}
		return accounts
	}
	get("nobody") // a refusal is not the call that is told
	calls()
	if got := told(); !slices.Equal(got, []string{"isv", "svc"}) {
		t.Errorf("told of %v, want once of isv and once of svc", got)
	}
	s.Do("DELETE", "/admin/v1/deviations", "")
	calls()
	if got := told(); len(got) != 2 {
		t.Errorf("told of %v after the list was begun anew, want of two", got)
	}

	s.Admin("PUT", "/settings", `{"strict":true}`)
	for _, c := range []struct {
		name string
		want int
		how  how
	}{
		{"a service account's token", 40164, func(*servertest.Server) servertest.Answer { return get(svc) }},
		{"a service account's secret", 40164, fetch("client_credential", "svc", "secret-svc")},
		{"a stable token", 40164, post("/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"svc","secret":"secret-svc"}`)},
		{"a platform's token", 61004, func(*servertest.Server) servertest.Answer { return preAuth() }},
		{"a platform's secret", 61004, post(family+"api_component_token",
			`{"component_appid":"isv","component_appsecret":"secret-isv","component_verify_ticket":"x"}`)},
		{"a platform for a Mini Program", 61004, func(*servertest.Server) servertest.Answer { return get(acts) }},
		{"a Mini Program's token", 0, func(*servertest.Server) servertest.Answer { return get(shop) }},
	} {
		c.how(s).WantCode(t, c.want, "%s, strict", c.name)
	}
	var found client.Coverage
	s.Do("GET", "/admin/v1/deviations/coverage", "").JSON(t, &found)
	for row, number := range map[string]int{"token.address": 40164, "caller.address": 61004} {
		if !slices.ContainsFunc(found.Trials, func(one client.Trial) bool {
			return one.Behaviour == row && one.ErrCode == number && one.Occurred
		}) {
			t.Errorf("coverage has no %s (%d) that was met: %+v", row, number, found.Trials)
		}
	}
}

// A person has one unionid under all accounts of one open-platform account, by both ways of trading a js_code, and none under
// others. Contract: rules 3.2.
func TestUnionID_SharedWithinOpenPlatform(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: strings.NewReplacer("{appid: shop, kind", "{appid: shop, open_platform: tea, kind",
		"{appid: rival, kind", "{appid: rival, open_platform: tea, kind").Replace(agency)})
	platform := s.ComponentToken("isv")
	type told struct{ OpenID, UnionID string }
	trade := func(user, appid, path string) (got told) {
		t.Helper()
		var login struct {
			JSCode string `json:"js_code"`
		}
		s.Do("POST", "/scan/v1/login", `{"user":"`+user+`","appid":"`+appid+`"}`).JSON(t, &login)
		s.Do("GET", path+"&grant_type=authorization_code&appid="+appid+"&js_code="+login.JSCode, "").JSON(t, &got)
		return got
	}
	own := func(user, appid string) told { return trade(user, appid, "/sns/jscode2session?secret=secret-"+appid) }
	alice := own("alice", "shop")
	assert.True(t, len(alice.UnionID) == 28 && alice.UnionID != alice.OpenID, "alice under shop = %+v, want a unionid", alice)
	for name, got := range map[string]told{"another account of the same": own("alice", "rival"),
		"by the platform": trade("alice", "shop", "/sns/component/jscode2session?component_appid=isv&component_access_token="+platform)} {
		assert.Equal(t, got.UnionID, alice.UnionID, "%s", name)
	}
	if bob := own("bob", "shop"); bob.UnionID == alice.UnionID || bob.UnionID == "" {
		t.Errorf("bob's unionid = %q, want one of his own", bob.UnionID)
	}
	if got := own("alice", "person"); got.OpenID == "" || got.UnionID != "" {
		t.Errorf("under an account that is not bound = %+v, want an openid alone", got)
	}
	s.Admin("PUT", "/accounts/person", `{"kind":"mini_program","subject":"personal","open_platform":"other"}`)
	if got := own("alice", "person"); got.UnionID == "" || got.UnionID == alice.UnionID {
		t.Errorf("under another open-platform account = %+v, want another unionid", got)
	}
	long := s.Do("PUT", "/admin/v1/accounts/person", `{"kind":"mini_program","open_platform":"`+strings.Repeat("x", 65)+`"}`,
		"Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
	if a := long; a.Status != 422 || !strings.Contains(a.Body, "open_platform") {
		t.Errorf("a long open_platform = %d %s, want 422 that names the field", a.Status, a.Body)
	}
}
