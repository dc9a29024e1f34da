package api_test

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
)

// An account's list holds for the calls with its secret, a service account's for those with its token too, a Mini Program's not
// for jscode2session; a platform that trades a js_code has a number of its own. Behaviour(caller.address.account)
// Behaviour(login.address).
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
}
