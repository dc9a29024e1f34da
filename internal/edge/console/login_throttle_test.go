package console_test

import (
	"cmp"
	_ "embed"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

//go:embed testdata/seeds/platform.yaml
var platform string

// A surface is a place that takes a credential.
type surface struct {
	name string
	// door is what the metrics and the list of those that keep failing call it; "" = wrong ones are not limited there.
	door string
	// show shows a credential from an address: "" is the right one, any other text a wrong one. It returns "in", "out", or "limited".
	show func(from, wrong string) string
}

// passwords are dear to compare: those of people keep their limit, which TestSignIn_ConcurrentGuessesThrottled holds.
const passwords = "person"

// Issue 28, 4: twenty wrong tokens of an address kept the right one out, at the admin API, the console and the wire, and the
// authorisation page compared as many as somebody sent, and told nobody.
func TestThrottle_ValidCredentialPasses(t *testing.T) {
	t.Parallel()
	c := crookedProvider(t)
	s := c.with(t, servertest.Options{Guarded: true, Emulator: true, Seed: platform,
		Config: func(c *server.Config) { c.TrustedProxy = []string{"127.0.0.0/8"} }})
	held := map[string]bool{passwords: true}
	status := func(got int, in ...int) string {
		if slices.Contains(in, got) {
			return "in"
		}
		if got == http.StatusTooManyRequests {
			return "limited"
		}
		return "out"
	}
	made := servertest.Decode[struct{ Key string }](t, s.Admin("POST", "/scan-keys", `{"name":"app"}`))
	scanKey := made.Key
	s.Admin("POST", "/admin-keys", `{"name":"till","role":"viewer"}`).JSON(t, &made)
	adminKey := made.Key
	var link struct{ URL string }
	s.Admin("POST", "/statistics/shared", `{"question":"by=&group=activity","title":"scans","days":7}`).JSON(t, &link)
	chart, chartSecret, _ := strings.Cut(link.URL[strings.LastIndex(link.URL, "/")+1:], ".")
	s.Hide(chartSecret)
	s.Hide(scanKey)
	s.Hide(adminKey)
	bearer := func(method, path, body, right string, header ...string) func(from, wrong string) string {
		return func(from, wrong string) string {
			if wrong == "" {
				wrong = right
			}
			a := s.Do(method, path, body, append([]string{"Authorization: Bearer " + wrong, "X-Forwarded-For: " + from}, header...)...)
			return status(a.Status, 200)
		}
	}
	wire := func(method, path, body, right string) func(from, wrong string) string {
		return func(from, wrong string) string {
			if wrong == "" {
				wrong = right
			}
			a := s.Do(method, strings.ReplaceAll(path, "SECRET", wrong), strings.ReplaceAll(body, "SECRET", wrong),
				"X-Forwarded-For: "+from)
			for _, token := range regexp.MustCompile(`"access_token":"([^"]+)"`).FindAllStringSubmatch(a.Body, -1) {
				s.Hide(token[1])
			}
			switch code := a.Code(t); code {
			case 45011:
				return "limited"
			case 40125, 40001:
				return "out"
			}
			return "in" // whatever else is wrong
		}
	}
	token := s.ComponentToken("isv")
	const json = "Content-Type: application/json"
	for i, place := range []surface{
		{"the admin API by the admin token", "admin_token", bearer("GET", "/admin/v1/settings", "", servertest.AdminToken)},
		{"the admin API by an admin key", "admin_token", bearer("GET", "/admin/v1/accounts", "", adminKey)},
		{"the metrics", "admin_token", bearer("GET", "/metrics", "", adminKey)},
		{"the console's form", "admin_token", func(from, wrong string) string {
			if wrong == "" {
				wrong = servertest.AdminToken
			}
			return status(request(t, s).post("/console/login", url.Values{"password": {wrong}}, "X-Forwarded-For: "+from).Status, 303)
		}},
		{"the authorisation page", "admin_token", func(from, wrong string) string {
			if wrong == "" {
				wrong = servertest.AdminToken
			}
			address := "/cgi-bin/componentloginpage?" + url.Values{"component_appid": {"isv"}, "auth_type": {"3"},
				"pre_auth_code": {s.PreAuthCode(token, "isv")}, "redirect_uri": {"https://isv.example/back"}}.Encode()
			return status(request(t, s).post(address,
				url.Values{"decision": {"approve"}, "appid": {"shop"}, "set": {"18"}, "admin_token": {wrong}},
				"X-Forwarded-For: "+from, "Sec-Fetch-Site: same-origin").Status, 303)
		}},
		{"a link that signs in once", "login_link", func(from, wrong string) string {
			if wrong == "" {
				link := servertest.Decode[struct{ URL string }](t, s.Admin("POST", "/login-links", `{}`))
				_, wrong, _ = strings.Cut(link.URL, "once=")
				s.Hide(wrong)
			}
			return status(request(t, s).post("/console/login", url.Values{"once": {wrong}}, "X-Forwarded-For: "+from).Status, 303)
		}},
		{"a sign-in at the provider", "provider", func(from, wrong string) string {
			v := request(t, s)
			if wrong != "" {
				return status(v.post("/console/login/callback", url.Values{"state": {wrong}}, "X-Forwarded-For: "+from).Status, 303)
			}
			asked := c.sent(v)
			return status(v.post("/console/login/callback", url.Values{"code": {"good"}, "state": {asked.Get("state")}, "iss": {c.URL}},
				"X-Forwarded-For: "+from, "Sec-Fetch-Site: same-origin").Status, 303)
		}},
		{"a code of the provider", "provider", func(from, wrong string) string {
			v := request(t, s)
			asked, code := c.sent(v), "good"
			if wrong != "" {
				code = wrong
			}
			return status(v.post("/console/login/callback", url.Values{"code": {code}, "state": {asked.Get("state")}, "iss": {c.URL}},
				"X-Forwarded-For: "+from, "Sec-Fetch-Site: same-origin").Status, 303)
		}},
		{"a scan", "scan_key", bearer("POST", "/scan/v1/resolve", `{"text":"x"}`, scanKey, json)},
		{"scans line by line", "scan_key", bearer("POST", "/scan/v1/resolve", `{"text":"x"}`, scanKey,
			"Content-Type: application/x-ndjson")},
		{"an explanation by a scan key", "scan_key", bearer("POST", "/scan/v1/explain", `{"text":"x"}`, scanKey, json)},
		{"an explanation by the admin token", "scan_key", bearer("POST", "/scan/v1/explain", `{"text":"x"}`, servertest.AdminToken, json)},
		{"an explanation by an admin key", "scan_key", bearer("POST", "/scan/v1/explain", `{"text":"x"}`, adminKey, json)},
		{"a token", "app_secret", wire("GET", "/cgi-bin/token?grant_type=client_credential&appid=shop&secret=SECRET", "", "the-secret-of-shop")},
		{"a stable token", "app_secret", wire("POST", "/cgi-bin/stable_token",
			`{"grant_type":"client_credential","appid":"shop","secret":"SECRET"}`, "the-secret-of-shop")},
		{"a clear by the secret", "app_secret", wire("POST", "/cgi-bin/clear_quota/v2?appid=shop&appsecret=SECRET", "",
			"the-secret-of-shop")},
		{"a login's code", "app_secret", wire("GET",
			"/sns/jscode2session?grant_type=authorization_code&appid=shop&secret=SECRET&js_code=x", "", "the-secret-of-shop")},
		{"a platform's pushes", "app_secret", wire("POST", "/cgi-bin/component/api_start_push_ticket",
			`{"component_appid":"isv","component_secret":"SECRET"}`, "the-secret-of-isv")},
		{"a platform's token", "app_secret", wire("POST", "/cgi-bin/component/api_component_token",
			`{"component_appid":"isv","component_appsecret":"SECRET","component_verify_ticket":"none"}`, "the-secret-of-isv")},
		// 192 random bits that end within two hours: a program refreshes one that is refused, and 45011 would stop it.
		{"an access token", "", wire("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=SECRET", `{}`, s.Token("shop"))},
		// 256 random bits; whoever has another one is asked to sign in.
		{"a session", "", func(from, wrong string) string {
			v := request(t, s)
			if wrong == "" {
				v.signIn("", servertest.AdminToken, "")
				return status(v.get("/console/rules", "X-Forwarded-For: "+from).Status, 200)
			}
			return status(v.get("/console/rules", "X-Forwarded-For: "+from, "Cookie: qrjump_session="+wrong).Status, 200)
		}},
		// 256 random bits.
		{"a link to a chart", "", func(from, wrong string) string {
			return status(request(t, s).get("/console/shared/"+chart+"."+cmp.Or(wrong, chartSecret), "X-Forwarded-For: "+from).Status, 200)
		}},
	} {
		held[place.door] = true
		guest := fmt.Sprintf("203.0.113.%d", i+1)
		for n := range 2 * accounts.GuessesPerMinute {
			want := "out"
			if place.door != "" && n >= accounts.GuessesPerMinute {
				want = "limited"
			}
			require.Equal(t, place.show(guest, fmt.Sprintf("qrs_a-wrong-one-that-is-long-enough-%d", n)), want,
				"%s, wrong for the %d. time", place.name, n+1)
		}
		assert.Equal(t, place.show(guest, ""), "in", "%s", place.name)
		logged := 0
		for line := range strings.Lines(s.Log()) {
			if strings.Contains(line, "level=WARN") && strings.HasSuffix(strings.TrimSpace(line), "ip="+guest) {
				logged++
			}
		}
		assert.Equal(t, logged, map[bool]int{true: accounts.GuessesPerMinute}[place.door != ""], "%s", place.name)
		var list struct {
			Credentials []struct {
				Kind, Name, IP string
				Count          int
			}
		}
		s.Admin("GET", "/failed-authentications", "").JSON(t, &list)
		listed := 0
		for _, one := range list.Credentials {
			if one.IP == guest && one.Kind == place.door {
				listed += one.Count
			}
			assert.True(t, (one.Kind != "scan_key" || one.Name == "qrs_a-wr…") && (one.Kind != "app_secret" || one.Name == "shop" ||
				one.Name == "isv"), "%s: it is called %q", place.name, one.Name)
		}
		assert.Equal(t, listed, map[bool]int{true: 2 * accounts.GuessesPerMinute}[place.door != ""], "%s", place.name)
	}
	metrics := s.Do("GET", "/metrics", "", "Authorization: Bearer "+servertest.AdminToken).Body
	for _, m := range regexp.MustCompile(`qrjump_auth_failures_total\{kind="([^"]+)",result="wrong"\}`).FindAllStringSubmatch(metrics, -1) {
		assert.True(t, held[m[1]], "no surface of the table takes what the metrics call %s", m[1])
	}
}
