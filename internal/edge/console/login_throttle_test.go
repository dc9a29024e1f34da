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

// credentialCase is an endpoint that accepts a credential.
type credentialCase struct {
	name string
	// kind is the name in the metrics and in the list of failed authentications; "" means that failures are not limited.
	kind string
	// present sends a credential from an IP address; wrong "" means the valid one. It returns "in", "out" or "limited".
	present func(from, wrong string) string
}

// passwordKind is the kind of passwords. They are slow to compare and have a limit of their own: see TestSignIn_ConcurrentGuessesThrottled.
const passwordKind = "person"

// TestThrottle_ValidCredentialPasses sends twice the limit of wrong credentials from one address to each endpoint. Wrong credentials must
// be limited, logged and counted, and the valid credential must pass afterwards.
func TestThrottle_ValidCredentialPasses(t *testing.T) {
	t.Parallel()
	provider := newFakeProvider(t)
	s := provider.startServer(t, servertest.Options{Guarded: true, Emulator: true, Seed: platform,
		Config: func(c *server.Config) { c.TrustedProxy = []string{"127.0.0.0/8"} }})
	kinds := map[string]bool{passwordKind: true}
	status := func(got int, in ...int) string {
		if slices.Contains(in, got) {
			return "in"
		}
		if got == http.StatusTooManyRequests {
			return "limited"
		}
		return "out"
	}
	key := servertest.Decode[struct{ Key string }](t, s.Admin("POST", "/scan-keys", `{"name":"app"}`))
	scanKey := key.Key
	s.Admin("POST", "/admin-keys", `{"name":"till","role":"viewer"}`).JSON(t, &key)
	adminKey := key.Key
	var link struct{ URL string }
	s.Admin("POST", "/statistics/shared", `{"question":"by=&group=activity","title":"scans","days":7}`).JSON(t, &link)
	chart, chartSecret, _ := strings.Cut(link.URL[strings.LastIndex(link.URL, "/")+1:], ".")
	s.RegisterSecret(chartSecret)
	s.RegisterSecret(scanKey)
	s.RegisterSecret(adminKey)
	bearer := func(method, path, body, valid string, header ...string) func(ip, wrong string) string {
		return func(ip, wrong string) string {
			header := append([]string{"Authorization: Bearer " + cmp.Or(wrong, valid), "X-Forwarded-For: " + ip}, header...)
			return status(s.Do(method, path, body, header...).Status, 200)
		}
	}
	callback := func(v *visitor, ip, code, state string) string {
		return status(v.post("/console/login/callback", url.Values{"code": {code}, "state": {state}, "iss": {provider.URL}},
			"X-Forwarded-For: "+ip, "Sec-Fetch-Site: same-origin").Status, 303)
	}
	wire := func(method, path, body, valid string) func(ip, wrong string) string {
		return func(ip, wrong string) string {
			secret := cmp.Or(wrong, valid)
			a := s.Do(method, strings.ReplaceAll(path, "SECRET", secret), strings.ReplaceAll(body, "SECRET", secret),
				"X-Forwarded-For: "+ip)
			for _, token := range regexp.MustCompile(`"access_token":"([^"]+)"`).FindAllStringSubmatch(a.Body, -1) {
				s.RegisterSecret(token[1])
			}
			switch code := a.Code(t); code {
			case 45011:
				return "limited"
			case 40125, 40001:
				return "out"
			}
			return "in" // another error after the authentication
		}
	}
	token := s.ComponentToken("isv")
	const json = "Content-Type: application/json"
	for i, c := range []credentialCase{
		{"the admin API by the admin token", "admin_token", bearer("GET", "/admin/v1/settings", "", servertest.AdminToken)},
		{"the admin API by an admin key", "admin_token", bearer("GET", "/admin/v1/accounts", "", adminKey)},
		{"the metrics", "admin_token", bearer("GET", "/metrics", "", adminKey)},
		{"the console's form", "admin_token", func(ip, wrong string) string {
			form := url.Values{"password": {cmp.Or(wrong, servertest.AdminToken)}}
			return status(newVisitor(t, s).post("/console/login", form, "X-Forwarded-For: "+ip).Status, 303)
		}},
		{"the authorisation page", "admin_token", func(ip, wrong string) string {
			address := "/cgi-bin/componentloginpage?" + url.Values{"component_appid": {"isv"}, "auth_type": {"3"},
				"pre_auth_code": {s.PreAuthCode(token, "isv")}, "redirect_uri": {"https://isv.example/back"}}.Encode()
			form := url.Values{"decision": {"approve"}, "appid": {"shop"}, "set": {"18"},
				"admin_token": {cmp.Or(wrong, servertest.AdminToken)}}
			return status(newVisitor(t, s).post(address, form, "X-Forwarded-For: "+ip, "Sec-Fetch-Site: same-origin").Status, 303)
		}},
		{"a link that signs in once", "login_link", func(ip, wrong string) string {
			if wrong == "" {
				wrong = newLoginLink(t, s, `{}`)
			}
			return status(newVisitor(t, s).post("/console/login", url.Values{"once": {wrong}}, "X-Forwarded-For: "+ip).Status, 303)
		}},
		{"a sign-in at the provider", "provider", func(ip, wrong string) string {
			v := newVisitor(t, s)
			if wrong != "" {
				return status(v.post("/console/login/callback", url.Values{"state": {wrong}}, "X-Forwarded-For: "+ip).Status, 303)
			}
			request := provider.beginSignIn(v)
			return callback(v, ip, "good", request.Get("state"))
		}},
		{"a code of the provider", "provider", func(ip, wrong string) string {
			v := newVisitor(t, s)
			request := provider.beginSignIn(v)
			return callback(v, ip, cmp.Or(wrong, "good"), request.Get("state"))
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
		// 192 random bits, valid for two hours. A client renews a rejected token; 45011 would stop it.
		{"an access token", "", wire("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token=SECRET", `{}`, s.Token("shop"))},
		// 256 random bits; a wrong one redirects to the sign-in.
		{"a session", "", func(ip, wrong string) string {
			v := newVisitor(t, s)
			if wrong == "" {
				v.signIn("", servertest.AdminToken, "")
				return status(v.get("/console/rules", "X-Forwarded-For: "+ip).Status, 200)
			}
			return status(v.get("/console/rules", "X-Forwarded-For: "+ip, "Cookie: qrjump_session="+wrong).Status, 200)
		}},
		// 256 random bits.
		{"a link to a chart", "", func(ip, wrong string) string {
			return status(newVisitor(t, s).get("/console/shared/"+chart+"."+cmp.Or(wrong, chartSecret), "X-Forwarded-For: "+ip).Status, 200)
		}},
	} {
		kinds[c.kind] = true
		ip := fmt.Sprintf("203.0.113.%d", i+1)
		for n := range 2 * accounts.GuessesPerMinute {
			want := "out"
			if c.kind != "" && n >= accounts.GuessesPerMinute {
				want = "limited"
			}
			require.Equal(t, c.present(ip, fmt.Sprintf("qrs_a-wrong-one-that-is-long-enough-%d", n)), want,
				"%s, attempt %d with a wrong credential", c.name, n+1)
		}
		assert.Equal(t, c.present(ip, ""), "in", "%s, valid credential", c.name)
		logged := 0
		for line := range strings.Lines(s.Log()) {
			if strings.Contains(line, "level=WARN") && strings.HasSuffix(strings.TrimSpace(line), "ip="+ip) {
				logged++
			}
		}
		assert.Equal(t, logged, map[bool]int{true: accounts.GuessesPerMinute}[c.kind != ""], "%s, logged warnings", c.name)
		var list struct {
			Credentials []struct {
				Kind, Name, IP string
				Count          int
			}
		}
		s.Admin("GET", "/failed-authentications", "").JSON(t, &list)
		listed := 0
		for _, entry := range list.Credentials {
			if entry.IP == ip && entry.Kind == c.kind {
				listed += entry.Count
			}
			assert.True(t, (entry.Kind != "scan_key" || entry.Name == "qrs_a-wr…") && (entry.Kind != "app_secret" || entry.Name == "shop" ||
				entry.Name == "isv"), "%s: name of the credential = %q, want it redacted", c.name, entry.Name)
		}
		assert.Equal(t, listed, map[bool]int{true: 2 * accounts.GuessesPerMinute}[c.kind != ""], "%s, listed failures", c.name)
	}
	metrics := s.Do("GET", "/metrics", "", "Authorization: Bearer "+servertest.AdminToken).Body
	for _, m := range regexp.MustCompile(`qrjump_auth_failures_total\{kind="([^"]+)",result="wrong"\}`).FindAllStringSubmatch(metrics, -1) {
		assert.True(t, kinds[m[1]], "the table has no case for the kind %s of the metrics", m[1])
	}
}
