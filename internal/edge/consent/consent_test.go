package consent_test

import (
	_ "embed"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

//go:embed testdata/seeds/two_platforms.yaml
var seed string

const redirectURI = "https://isv.example/back?state=7"

// testServer is a server with the platform isv, and an access token of that platform.
type testServer struct {
	*servertest.Server
	t     *testing.T
	token string
}

func startServer(t *testing.T, o servertest.Options) *testServer {
	o.Seed = seed
	s := servertest.Start(t, o)
	return &testServer{s, t, s.ComponentToken("isv")}
}

// consentPath returns the path of the consent page. The extra query parameters begin with "&".
func consentPath(code, redirect, extra string) string {
	return "/cgi-bin/componentloginpage?" + url.Values{"component_appid": {"isv"}, "pre_auth_code": {code},
		"redirect_uri": {redirect}}.Encode() + extra
}

// newConsentPath returns the path of the consent page with a new pre-authorisation code.
func (s *testServer) newConsentPath(redirect, extra string) string {
	s.t.Helper()
	return consentPath(s.PreAuthCode(s.token, "isv"), redirect, extra)
}

func (s *testServer) submit(path string, form url.Values, header ...string) servertest.Answer {
	s.t.Helper()
	return s.Do("POST", path, form.Encode(), append([]string{"Content-Type: application/x-www-form-urlencoded",
		"Sec-Fetch-Site: same-origin"}, header...)...)
}

func approvalForm(appid string, sets ...string) url.Values {
	return url.Values{"decision": {"approve"}, "appid": {appid}, "set": sets}
}

// checkErrorPage verifies that the answer is an error page in both languages without a redirect.
func (s *testServer) checkErrorPage(name string, a servertest.Answer, status int) {
	s.t.Helper()
	location := a.Header.Get("Location")
	assert.True(s.t, a.Status == status && location == "" && strings.Contains(a.Body, "No authorisation") &&
		regexp.MustCompile(`\p{Han}`).MatchString(a.Body), "%s: status %d, Location %q, want the error page with %d: %.600s",
		name, a.Status, location, status, a.Body)
}

// Behaviour(consent.kinds).
func TestConsentPage_PlatformAndPermissions(t *testing.T) {
	t.Parallel()
	s := startServer(t, servertest.Options{})
	a := s.Do("GET", s.newConsentPath(redirectURI, "&auth_type=3"), "")
	for _, want := range []string{`<code>isv</code>`, `<code>isv.example</code>`, `value="shop"`, `value="svc"`,
		"&lt;b&gt;Shop &amp; Co&lt;/b&gt;",
		`name="set" value="3" checked`, `name="set" value="18" checked`, `value="33"`, `value="46"`, "one platform only", "Authorise",
		`lang="en"`} {
		assert.Contains(t, a.Body, want, "consent page")
	}
	assert.True(t, !strings.Contains(a.Body, "<script") && !strings.Contains(a.Body, "admin_token") && !strings.Contains(a.Body, "<b>Shop"),
		"the page has a script, the field admin_token or an unescaped name: %s", a.Body)
	style := regexp.MustCompile(`<link rel="stylesheet" href="([^"]+)">`).FindStringSubmatch(a.Body)
	require.True(t, style != nil && s.Do("GET", style[1], "").Status == 200, "the page has no style sheet that can be loaded")
	const want = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self' https://isv.example; base-uri 'none'; " +
		"frame-ancestors 'none'"
	assert.Equal(t, a.Header.Get("Content-Security-Policy"), want, "Content-Security-Policy")
	assert.True(t, a.Status == 200 && a.Header.Get("Content-Type") == "text/html; charset=utf-8" &&
		a.Header.Get("Cache-Control") == "no-store", "status %d, headers %v; want an HTML page that is not stored", a.Status, a.Header)
	for extra, want := range map[string]string{"&auth_type=1": "svc", "&auth_type=2": "shop", "": "shop svc", "&auth_type=6": "shop svc",
		"&auth_type=4": "shop svc", "&auth_type=5": "shop svc", "&auth_type=8": "shop svc",
		"&auth_type=3&biz_appid=svc": "svc", "&biz_appid=shop&auth_type=2": "shop"} {
		a := s.Do("GET", s.newConsentPath(redirectURI, extra), "")
		var list []string
		for _, m := range regexp.MustCompile(`name="appid" value="([^"]*)"`).FindAllStringSubmatch(a.Body, -1) {
			list = append(list, m[1])
		}
		assert.Equal(t, strings.Join(list, " "), want, "accounts listed with %q", extra)
	}
	s.checkErrorPage("an account of the other kind", s.Do("GET", s.newConsentPath(redirectURI, "&auth_type=1&biz_appid=shop"), ""), 400)
	a = s.Do("GET", s.newConsentPath(redirectURI, "&category_id_list=18|999"), "")
	assert.True(t, strings.Contains(a.Body, `value="999"`) && !strings.Contains(a.Body, `value="46"`),
		"page with category_id_list=18|999 lists other permission sets: %s", a.Body)
}

func TestConsent_RedirectWithCode(t *testing.T) {
	t.Parallel()
	s := startServer(t, servertest.Options{})
	path := s.newConsentPath(redirectURI+"#here", "&auth_type=3")
	a := s.submit(path, approvalForm("shop", "18", "33"))
	m := regexp.MustCompile(`^https://isv\.example/back\?state=7&auth_code=([^&]+)&expires_in=600#here$`).FindStringSubmatch(
		a.Header.Get("Location"))
	require.True(t, a.Status == http.StatusSeeOther && m != nil, "approval: status %d, Location %q, want a redirect with a code: %s",
		a.Status, a.Header.Get("Location"), a.Body)
	code := require.Value(url.QueryUnescape(m[1]))(t)
	s.RegisterSecret(code)
	got := s.Component(s.token, "api_query_auth", fmt.Sprintf(`{"component_appid":"isv","authorization_code":%q}`, code))
	assert.True(t, strings.Contains(got.Body, `"authorizer_appid":"shop"`) &&
		strings.Contains(got.Body, `"func_info":[{"funcscope_category":{"id":18}},{"funcscope_category":{"id":33}}]`),
		"api_query_auth = %s, want shop with the permission sets 18 and 33", got.Body)
	s.checkErrorPage("second approval", s.submit(path, approvalForm("shop", "18")), 400)
	s.checkErrorPage("page after the approval", s.Do("GET", path, ""), 400)

	// An auth_code in the redirect_uri is replaced.
	a = s.submit(s.newConsentPath("http://isv.example?auth_code=evil&x=1", ""), approvalForm("shop", "33"))
	location := a.Header.Get("Location")
	assert.True(t, !strings.Contains(location, "evil") && strings.HasPrefix(location, "http://isv.example/?x=1&auth_code=queryauthcode"),
		"Location %q, want the new auth_code instead of evil", location)
}

// TestConsentPage_LibraryPaths opens and approves the links that seven client libraries build, for phones and for computers, under the
// platform's host names and under the server's own.
func TestConsentPage_LibraryPaths(t *testing.T) {
	t.Parallel()
	for _, guarded := range []bool{false, true} {
		s := startServer(t, servertest.Options{Guarded: guarded, Emulator: guarded})
		for _, host := range []string{"mp.weixin.qq.com", "open.weixin.qq.com", "127.0.0.1"} {
			for _, path := range []string{"/cgi-bin/componentloginpage", "/safe/bindcomponent", "/wxaopen/safe/bindcomponent"} {
				_, query, _ := strings.Cut(s.newConsentPath(redirectURI, "&auth_type=3"), "?")
				link := path + "?action=bindcomponent&no_scan=1&" + query
				a := s.Do("GET", link, "", "Host: "+host)
				assert.True(t, a.Status == 200 && strings.Contains(a.Body, "<code>isv.example</code>"),
					"guarded %v, %s%s: status %d, want the consent page: %.300s", guarded, host, path, a.Status, a.Body)
				form := approvalForm("shop", "33")
				form.Set("admin_token", servertest.AdminToken)
				a = s.submit(link, form, "Host: "+host)
				got := a.Header.Get("Location")
				assert.True(t, a.Status == http.StatusSeeOther && strings.HasPrefix(got, redirectURI+"&auth_code=queryauthcode"),
					"guarded %v, approval at %s%s: status %d, Location %q, want a code: %.300s", guarded, host, path, a.Status, got, a.Body)
			}
		}
	}
}

func TestConsent_GrantsRequestedOnly(t *testing.T) {
	t.Parallel()
	s := startServer(t, servertest.Options{})
	path := s.newConsentPath(redirectURI, "&auth_type=2&category_id_list=33")
	for name, form := range map[string]url.Values{
		"no account": approvalForm("", "33"), "an unknown account": approvalForm("nobody", "33"),
		"an account of the other kind": approvalForm("svc", "33"), "no set": approvalForm("shop"),
		"a set that was not asked for": approvalForm("shop", "18"), "a set that is no number": approvalForm("shop", "x"),
	} {
		a := s.submit(path, form)
		assert.True(t, a.Status == http.StatusUnprocessableEntity && a.Header.Get("Location") == "" &&
			strings.Contains(a.Body, `role="alert"`), "%s: status %d, Location %q, want 422", name, a.Status, a.Header.Get("Location"))
	}
	for _, decision := range []string{"refuse", "", "Agree"} {
		form := approvalForm("shop", "33")
		form.Set("decision", decision)
		a := s.submit(path, form)
		assert.True(t, a.Status == 200 && a.Header.Get("Location") == "" && strings.Contains(a.Body, "declined"),
			"decision %q: status %d, want the page of a declined request: %s", decision, a.Status, a.Body)
	}
	var list struct {
		Total int `json:"total_count"`
	}
	s.Component(s.token, "api_get_authorizer_list", `{"component_appid":"isv","offset":0,"count":10}`).JSON(t, &list)
	assert.Equal(t, list.Total, 0, "authorizations before the approval")
	s.submit(path, approvalForm("shop", "18", "33")).WantStatus(t, http.StatusSeeOther, "approval")
}

func TestConsent_ExclusiveSetNeedsConfirmation(t *testing.T) {
	t.Parallel()
	s := startServer(t, servertest.Options{})
	s.Authorize(s.ComponentToken("isv2"), "isv2", "shop", "[18]")
	path := s.newConsentPath(redirectURI, "")
	a := s.submit(path, approvalForm("shop", "18"))
	require.True(t, a.Status == http.StatusUnprocessableEntity && strings.Contains(a.Body, "<code>isv2</code> currently holds it") &&
		strings.Contains(a.Body, `name="move"`), "set that isv2 holds: status %d, want 422 with a confirmation: %s", a.Status, a.Body)
	b := s.Do("POST", "/admin/v1/emulator/authorize",
		fmt.Sprintf(`{"component":"isv","pre_auth_code":%q,"appid":"shop","permission_sets":[18]}`,
			s.PreAuthCode(s.token, "isv")), "Content-Type: application/json")
	assert.True(t, b.Status == http.StatusConflict && strings.Contains(b.Body, "isv2 has it"),
		"authorization by the emulator: status %d, want 409: %s", b.Status, b.Body)
	form := approvalForm("shop", "18")
	form.Set("move", "1")
	s.submit(path, form).WantStatus(t, http.StatusSeeOther, "confirmed approval")
	var isv2 struct {
		Total int `json:"total_authorizations"`
	}
	s.Admin("GET", "/components/isv2", "").JSON(t, &isv2)
	assert.Equal(t, isv2.Total, 0, "authorizations of isv2 after the move")
}

// TestConsent_RequiresAdminToken verifies that without the admin token the page reveals no account and grants nothing. Contract: design 8.
func TestConsent_RequiresAdminToken(t *testing.T) {
	t.Parallel()
	s := startServer(t, servertest.Options{Guarded: true, Emulator: true})
	path := s.newConsentPath(redirectURI, "&auth_type=3")
	reference := regexp.MustCompile(`agree\?ref=[^"]*`)
	a := s.Do("GET", path, "")
	assert.True(t, reference.MatchString(a.Body), "the page has no reference to the console: %s", a.Body)
	text := reference.ReplaceAllString(a.Body, "")
	assert.True(t, !strings.Contains(text, "shop") && !strings.Contains(text, "Shop") &&
		strings.Contains(a.Body, `type="password" id="admin_token"`), "page without a token = %s, want no account", a.Body)
	for _, token := range []string{"", "x", servertest.AdminToken + " "} {
		form := approvalForm("shop", "33")
		form.Set("admin_token", token)
		a := s.submit(path, form)
		assert.True(t, a.Status == http.StatusUnprocessableEntity && a.Header.Get("Location") == "" &&
			!strings.Contains(a.Body, `value="`+token+`x`), "token %q: status %d, want 422: %s", token, a.Status, a.Body)
		form.Set("appid", "wxnone")
		b := s.submit(path, form)
		assert.Equal(t, strings.ReplaceAll(reference.ReplaceAllString(b.Body, ""), "wxnone", "shop"),
			reference.ReplaceAllString(a.Body, ""), "page for a missing account, compared with that for an existing one")
	}
	form := approvalForm("shop", "33")
	form.Set("admin_token", servertest.AdminToken)
	s.submit(path, form).WantStatus(t, http.StatusSeeOther, "approval with the token")
}

func TestConsent_CSRF(t *testing.T) {
	t.Parallel()
	s := startServer(t, servertest.Options{})
	path := s.newConsentPath(redirectURI, "")
	for _, header := range []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"} {
		s.checkErrorPage(header, s.submit(path, approvalForm("shop", "33"), header), http.StatusForbidden)
	}
	s.checkErrorPage("another origin", s.Do("POST", path, approvalForm("shop", "33").Encode(),
		"Content-Type: application/x-www-form-urlencoded", "Origin: https://evil.example"), http.StatusForbidden)
	s.checkErrorPage("another method", s.Do("PUT", path, ""), http.StatusMethodNotAllowed)
	s.checkErrorPage("too long a form", s.submit(path, url.Values{"decision": {"approve"}, "x": {strings.Repeat("x", 100_000)}}), 400)
}

// TestConsent_NoOpenRedirect verifies that invalid requests, and redirect addresses outside of the platform's hosts, get an error page
// without a redirect.
func TestConsent_NoOpenRedirect(t *testing.T) {
	t.Parallel()
	s := startServer(t, servertest.Options{})
	code := s.PreAuthCode(s.token, "isv")
	long := []string{"https://" + strings.Repeat("a", 3000) + ".example/"}
	for _, row := range append(testtable.Rows(t, "testdata/refused_redirects.txt", 1), long) {
		redirect := row[0]
		path := consentPath(code, redirect, "")
		s.checkErrorPage("GET "+redirect, s.Do("GET", path, ""), 400)
		s.checkErrorPage("POST "+redirect, s.submit(path, approvalForm("shop", "33")), 400)
	}
	for redirect, want := range map[string]string{
		"https://isv.example": "https://isv.example/?", "HTTPS://ISV.example/Back": "https://isv.example/Back?",
		"http://isv.example:80/":    "http://isv.example/?",
		"https://isv.example:443/x": "https://isv.example/x?", "https://isv.example:8443/x": "https://isv.example:8443/x?",
		"http://127.0.0.1/": "http://127.0.0.1/?",
		"https://isv.example/a?u=https://evil.example/@x": "https://isv.example/a?u=https://evil.example/@x&",
		"https://isv.example//evil.example/":              "https://isv.example//evil.example/?",
	} {
		a := s.submit(s.newConsentPath(redirect, ""), approvalForm("shop", "33"))
		assert.True(t, strings.HasPrefix(a.Header.Get("Location"), want+"auth_code="),
			"%s: status %d, Location %q, want %sauth_code=", redirect, a.Status, a.Header.Get("Location"), want)
	}

	for name, path := range map[string]string{
		"no address at all": "/cgi-bin/componentloginpage",
		"an unknown platform": "/cgi-bin/componentloginpage?component_appid=nobody&pre_auth_code=" + code + "&redirect_uri=" +
			url.QueryEscape(redirectURI),
		"a platform without hosts": "/cgi-bin/componentloginpage?component_appid=isv2&pre_auth_code=" + code + "&redirect_uri=" +
			url.QueryEscape(redirectURI),
		"no code":                  consentPath("", redirectURI, ""),
		"a made-up code":           consentPath("preauthcode@@@x", redirectURI, ""),
		"a type there is not":      consentPath(code, redirectURI, "&auth_type=9"),
		"a type that is a text":    consentPath(code, redirectURI, "&auth_type=x"),
		"sets that are no numbers": consentPath(code, redirectURI, "&category_id_list=1,2"),
		"NUL":                      consentPath("\x00", redirectURI, "&biz_appid=%00"),
	} {
		s.checkErrorPage(name, s.Do("GET", path, ""), 400)
		s.checkErrorPage(name+", approval", s.submit(path, approvalForm("shop", "33")), 400)
	}
	s.Advance(30 * time.Minute)
	s.checkErrorPage("an expired code", s.Do("GET", consentPath(code, redirectURI, ""), ""), 400)
	s.checkErrorPage("an expired code, approval", s.submit(consentPath(code, redirectURI, ""), approvalForm("shop", "33")), 400)
}

// TestConsentPage_SearchAccounts verifies that the page lists 50 of 200 accounts in one language, and that the search keeps the selected
// account and the permission sets.
func TestConsentPage_SearchAccounts(t *testing.T) {
	t.Parallel()
	s := startServer(t, servertest.Options{})
	for i := range 200 {
		s.Admin("PUT", fmt.Sprintf("/accounts/wx%03d", i), fmt.Sprintf(`{"kind":"mini_program","name":"茶 %03d"}`, i))
	}
	path := s.newConsentPath(redirectURI, "&auth_type=2")
	a := s.Do("GET", path, "", "Accept-Language: zh-CN")
	n := strings.Count(a.Body, `name="appid"`)
	require.True(t, n == 50 && strings.Contains(a.Body, `name="part"`) && strings.Contains(a.Body, "还有更多") &&
		!strings.Contains(a.Body, "Permission sets"), "%d accounts, want 50 in Chinese with a search field: %s", n, a.Body)
	search := func(part, selected string) (list []string) {
		a := s.submit(path, url.Values{"decision": {"find"}, "part": {part}, "appid": {selected}, "set": {"33"}})
		assert.True(t, a.Status == 200 && strings.Contains(a.Body, `value="33" checked`) && !strings.Contains(a.Body, `value="18" checked`),
			"search for %q: status %d, want 200 with only set 33 checked: %s", part, a.Status, a.Body)
		for _, m := range regexp.MustCompile(`name="appid" value="([^"]*)" required( checked)?`).FindAllStringSubmatch(a.Body, -1) {
			list = append(list, m[1]+m[2])
		}
		return list
	}
	for _, c := range []struct{ part, selected, want string }{
		{"茶 19", "", "wx190 wx191 wx192 wx193 wx194 wx195 wx196 wx197 wx198 wx199"}, {"WX007", "", "wx007"}, {"nothing", "", ""},
		{"wx007", "wx123", "wx123 checked wx007"}, {"wx007", "svc", "wx007"}, {"shop &", "", "shop"},
	} {
		assert.Equal(t, strings.Join(search(c.part, c.selected), " "), c.want, "search for %q with %q selected", c.part, c.selected)
	}
	s.submit(path, approvalForm("wx123", "33")).WantStatus(t, http.StatusSeeOther, "approval of an account that is not listed")
}
