package server_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// TestWrongSecrets_Throttled verifies that wrong secrets are logged and limited per address and account, and valid ones never.
func TestWrongSecrets_Throttled(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: everythingSeed, Guarded: true, Emulator: true,
		Config: func(c *server.Config) { c.TrustedProxy, c.SeedAllow = []string{"127.0.0.0/8"}, nil }})
	from := func(ip string) string { return "X-Forwarded-For: " + ip }
	token := func(ip, appid, secret string) int {
		t.Helper()
		a := s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid="+appid+"&secret="+secret, "", from(ip))
		if found := regexp.MustCompile(`"access_token":"([^"]+)"`).FindStringSubmatch(a.Body); found != nil {
			s.RegisterSecret(found[1])
			return 0
		}
		return a.Code(t)
	}
	want := func(call string, got, want int) {
		t.Helper()
		assert.Equal(t, got, want, "%s", call)
	}
	for n := range accounts.GuessesPerMinute {
		want(fmt.Sprint("guess ", n), token("203.0.113.9", "shop", fmt.Sprint("guess", n)), 40125)
	}
	want("one more", token("203.0.113.9", "shop", "guess"), 45011)
	want("by another call", s.Do("POST", "/cgi-bin/stable_token",
		`{"grant_type":"client_credential","appid":"shop","secret":"guess"}`, from("203.0.113.9")).Code(t), 45011)
	want("the right one, from there", token("203.0.113.9", "shop", "the-secret-of-shop"), 0)
	want("the right one, from elsewhere", token("203.0.113.10", "shop", "the-secret-of-shop"), 0)
	want("another account, from there", token("203.0.113.9", "svc", "the-secret-of-svc"), 0)
	platform := func(ip, secret string) int {
		return s.Do("POST", "/cgi-bin/component/api_start_push_ticket", `{"component_appid":"isv","component_secret":"`+secret+`"}`,
			from(ip)).Code(t)
	}
	for range accounts.GuessesPerMinute {
		want("a platform's", platform("2001:db8::1", "guess"), 40125)
	}
	want("a platform's, from the same network", platform("2001:db8::2:3", "guess"), 45011)
	want("a platform's right one, from there", platform("2001:db8::2:3", "the-secret-of-isv"), 0)
	want("a platform's, from elsewhere", platform("2001:db8:0:1::1", "the-secret-of-isv"), 0)

	admin := func(ip, token string) int {
		return s.Do("GET", "/admin/v1/settings", "", "Authorization: Bearer "+token, from(ip)).Status
	}
	for range 3 * accounts.GuessesPerMinute { // a call without a token does not count as a guess
		want("no token", s.Do("GET", "/admin/v1/settings", "", from("203.0.113.11")).Status, 401)
	}
	want("the right token", admin("203.0.113.11", servertest.AdminToken), 200)
	for range accounts.GuessesPerMinute {
		want("a wrong token", admin("203.0.113.11", "guess"), 401)
	}
	want("a wrong token more", admin("203.0.113.11", "guess"), 429)
	want("the right token, from there", admin("203.0.113.11", servertest.AdminToken), 200)
	want("the right token, from elsewhere", admin("203.0.113.12", servertest.AdminToken), 200)

	metrics := s.Do("GET", "/metrics", "", "Authorization: Bearer "+servertest.AdminToken).Body
	for _, line := range []string{
		fmt.Sprintf(`qrjump_auth_failures_total{kind="app_secret",result="wrong"} %d`, 2*accounts.GuessesPerMinute),
		`qrjump_auth_failures_total{kind="app_secret",result="refused"} 3`,
		fmt.Sprintf(`qrjump_auth_failures_total{kind="admin_token",result="wrong"} %d`, accounts.GuessesPerMinute),
		`qrjump_auth_failures_total{kind="admin_token",result="refused"} 1`,
	} {
		assert.True(t, strings.Contains(metrics, line+"\n"), "no line %s", line)
	}
	n := strings.Count(s.Log(), `level=WARN msg="wrong AppSecret" account=shop ip=203.0.113.9`)
	assert.Equal(t, n, accounts.GuessesPerMinute, "warnings of wrong secrets of shop")
	assert.Equal(t, strings.Count(s.Log(), `level=WARN msg="wrong admin token" ip=203.0.113.11`), accounts.GuessesPerMinute,
		"warnings of wrong admin tokens")
	s.Do("POST", "/scan/v1/resolve", `{"text":"x"}`, "Authorization: Bearer "+servertest.AdminToken).WantStatus(t, 401, "an admin token")
	assert.True(t, strings.Contains(s.Log(), `msg="wrong scan key" ip=`), "an admin token as scan key is logged as %s", s.Log())
	s.Admin("PUT", "/emulator/clock", `{"freeze":true}`)
	s.Clock.Step(time.Minute)
	want("a minute later, with a frozen emulator clock", token("203.0.113.9", "shop", "guess"), 40125)
	want("a wrong admin token a minute later", admin("203.0.113.11", "guess"), 401)
}
