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

const back = "https://isv.example/back?state=7"

type world struct {
	*servertest.Server
	t     *testing.T
	token string
}

func start(t *testing.T, o servertest.Options) *world {
	o.Seed = seed
	s := servertest.Start(t, o)
	return &world{s, t, s.ComponentToken("isv")}
}

func address(code, redirect, more string) string {
	return "/cgi-bin/componentloginpage?" + url.Values{"component_appid": {"isv"}, "pre_auth_code": {code},
		"redirect_uri": {redirect}}.Encode() + more
}

func (w *world) page(redirect, more string) string {
	w.t.Helper()
	return address(w.PreAuthCode(w.token, "isv"), redirect, more)
}

func (w *world) submit(path string, form url.Values, header ...string) servertest.Answer {
	w.t.Helper()
	return w.Do("POST", path, form.Encode(), append([]string{"Content-Type: application/x-www-form-urlencoded",
		"Sec-Fetch-Site: same-origin"}, header...)...)
}

func agree(appid string, sets ...string) url.Values {
	return url.Values{"decision": {"approve"}, "appid": {appid}, "set": sets}
}

// isError checks an error page: no redirect, and a way to the other language.
func (w *world) isError(what string, a servertest.Answer, status int) {
	w.t.Helper()
	assert.True(w.t, a.Status == status && a.Header.Get("Location") == "" && strings.Contains(a.Body, "No authorisation") &&
		regexp.MustCompile(`\p{Han}`).MatchString(a.Body), "%s: %d, Location %q, %.600s", what, a.Status, a.Header.Get("Location"), a.Body)
}

// Behaviour(consent.kinds).
func TestConsentPage_PlatformAndPermissions(t *testing.T) {
	t.Parallel()
	w := start(t, servertest.Options{})
	a := w.Do("GET", w.page(back, "&auth_type=3"), "")
	for _, want := range []string{`<code>isv</code>`, `<code>isv.example</code>`, `value="shop"`, `value="svc"`,
		"&lt;b&gt;Shop &amp; Co&lt;/b&gt;",
		`name="set" value="3" checked`, `name="set" value="18" checked`, `value="33"`, `value="46"`, "one platform only", "Authorise",
		`lang="en"`} {
		assert.True(t, strings.Contains(a.Body, want), "the page does not say %s: %s", want, a.Body)
	}
	assert.True(t, !strings.Contains(a.Body, "<script") && !strings.Contains(a.Body, "admin_token") && !strings.Contains(a.Body, "<b>Shop"),
		"the page has what it should not: %s", a.Body)
	style := regexp.MustCompile(`<link rel="stylesheet" href="([^"]+)">`).FindStringSubmatch(a.Body)
	require.True(t, style != nil && w.Do("GET", style[1], "").Status == 200, "no style")
	const want = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self' https://isv.example; base-uri 'none'; " +
		"frame-ancestors 'none'"
	assert.Equal(t, a.Header.Get("Content-Security-Policy"), want, "policy")
	assert.True(t, a.Status == 200 && a.Header.Get("Content-Type") == "text/html; charset=utf-8" &&
		a.Header.Get("Cache-Control") == "no-store", "%d %v", a.Status, a.Header)
	// Which accounts.
	for more, want := range map[string]string{"&auth_type=1": "svc", "&auth_type=2": "shop", "": "shop svc", "&auth_type=6": "shop svc",
		"&auth_type=4": "shop svc", "&auth_type=5": "shop svc", "&auth_type=8": "shop svc",
		"&auth_type=3&biz_appid=svc": "svc", "&biz_appid=shop&auth_type=2": "shop"} {
		a := w.Do("GET", w.page(back, more), "")
		var list []string
		for _, m := range regexp.MustCompile(`name="appid" value="([^"]*)"`).FindAllStringSubmatch(a.Body, -1) {
			list = append(list, m[1])
		}
		assert.Equal(t, strings.Join(list, " "), want, "%q", more)
	}
	w.isError("an account of the other kind", w.Do("GET", w.page(back, "&auth_type=1&biz_appid=shop"), ""), 400)
	a = w.Do("GET", w.page(back, "&category_id_list=18|999"), "")
	assert.True(t, strings.Contains(a.Body, `value="999"`) && !strings.Contains(a.Body, `value="46"`),
		"the sets that were asked for: %s", a.Body)
}

func TestConsent_RedirectWithCode(t *testing.T) {
	t.Parallel()
	w := start(t, servertest.Options{})
	path := w.page(back+"#here", "&auth_type=3")
	a := w.submit(path, agree("shop", "18", "33"))
	m := regexp.MustCompile(`^https://isv\.example/back\?state=7&auth_code=([^&]+)&expires_in=600#here$`).FindStringSubmatch(
		a.Header.Get("Location"))
	require.True(t, a.Status == http.StatusSeeOther && m != nil, "%d %q %s", a.Status, a.Header.Get("Location"), a.Body)
	code, err := url.QueryUnescape(m[1])
	require.NoError(t, err)
	w.Hide(code)
	got := w.Component(w.token, "api_query_auth", fmt.Sprintf(`{"component_appid":"isv","authorization_code":%q}`, code))
	assert.True(t, strings.Contains(got.Body, `"authorizer_appid":"shop"`) &&
		strings.Contains(got.Body, `"func_info":[{"funcscope_category":{"id":18}},{"funcscope_category":{"id":33}}]`), "got %s", got.Body)
	w.isError("the same page again", w.submit(path, agree("shop", "18")), 400)
	w.isError("the same address again", w.Do("GET", path, ""), 400)

	// A code of somebody else in the address does not stay there.
	a = w.submit(w.page("http://isv.example?auth_code=evil&x=1", ""), agree("shop", "33"))
	if got := a.Header.Get("Location"); strings.Contains(got, "evil") ||
		!strings.HasPrefix(got, "http://isv.example/?x=1&auth_code=queryauthcode") {
		t.Errorf("Location %q", got)
	}
}

// Issue 11, 2: the links that seven libraries build, for a phone and for a computer, under both names.
func TestConsentPage_LibraryPaths(t *testing.T) {
	t.Parallel()
	for _, guarded := range []bool{false, true} {
		w := start(t, servertest.Options{Guarded: guarded, Emulator: guarded})
		for _, host := range []string{"mp.weixin.qq.com", "open.weixin.qq.com", "127.0.0.1"} {
			for _, path := range []string{"/cgi-bin/componentloginpage", "/safe/bindcomponent", "/wxaopen/safe/bindcomponent"} {
				_, query, _ := strings.Cut(w.page(back, "&auth_type=3"), "?")
				link := path + "?action=bindcomponent&no_scan=1&" + query
				if a := w.Do("GET", link, "", "Host: "+host); a.Status != 200 || !strings.Contains(a.Body, "<code>isv.example</code>") {
					t.Errorf("guarded %v, %s%s: %d %.300s", guarded, host, path, a.Status, a.Body)
				}
				form := agree("shop", "33")
				form.Set("admin_token", servertest.AdminToken)
				a := w.submit(link, form, "Host: "+host)
				got := a.Header.Get("Location")
				assert.True(t, a.Status == http.StatusSeeOther && strings.HasPrefix(got, back+"&auth_code=queryauthcode"),
					"guarded %v, agreed on %s%s: %d %q %.300s", guarded, host, path, a.Status, got, a.Body)
			}
		}
	}
}

func TestConsent_GrantsRequestedOnly(t *testing.T) {
	t.Parallel()
	w := start(t, servertest.Options{})
	path := w.page(back, "&auth_type=2&category_id_list=33")
	for name, form := range map[string]url.Values{
		"no account": agree("", "33"), "an unknown account": agree("nobody", "33"), "an account of the other kind": agree("svc", "33"),
		"no set": agree("shop"), "a set that was not asked for": agree("shop", "18"), "a set that is no number": agree("shop", "x"),
	} {
		a := w.submit(path, form)
		assert.True(t, a.Status == http.StatusUnprocessableEntity && a.Header.Get("Location") == "" &&
			strings.Contains(a.Body, `role="alert"`), "%s: %d %q", name, a.Status, a.Header.Get("Location"))
	}
	for _, decision := range []string{"refuse", "", "Agree"} {
		form := agree("shop", "33")
		form.Set("decision", decision)
		a := w.submit(path, form)
		assert.True(t, a.Status == 200 && a.Header.Get("Location") == "" && strings.Contains(a.Body, "declined"),
			"decision %q: %d %s", decision, a.Status, a.Body)
	}
	var list struct {
		Total int `json:"total_count"`
	}
	w.Component(w.token, "api_get_authorizer_list", `{"component_appid":"isv","offset":0,"count":10}`).JSON(t, &list)
	assert.Equal(t, list.Total, 0, "accounts authorised the platform")
	a := w.submit(path, agree("shop", "18", "33"))
	assert.True(t, a.Status == http.StatusSeeOther, "%d %s", a.Status, a.Body)
}

func TestConsent_ExclusiveSetNeedsConfirmation(t *testing.T) {
	t.Parallel()
	w := start(t, servertest.Options{})
	w.Authorize(w.ComponentToken("isv2"), "isv2", "shop", "[18]")
	path := w.page(back, "")
	a := w.submit(path, agree("shop", "18"))
	require.True(t, a.Status == http.StatusUnprocessableEntity && strings.Contains(a.Body, "<code>isv2</code> currently holds it") &&
		strings.Contains(a.Body, `name="move"`), "%d %s", a.Status, a.Body)
	b := w.Do("POST", "/admin/v1/emulator/authorize",
		fmt.Sprintf(`{"component":"isv","pre_auth_code":%q,"appid":"shop","permission_sets":[18]}`,
			w.PreAuthCode(w.token, "isv")), "Content-Type: application/json")
	assert.True(t, b.Status == http.StatusConflict && strings.Contains(b.Body, "isv2 has it"), "the emulator: %d %s", b.Status, b.Body)
	form := agree("shop", "18")
	form.Set("move", "1")
	a = w.submit(path, form)
	assert.True(t, a.Status == http.StatusSeeOther, "%d %s", a.Status, a.Body)
	var isv2 struct {
		Total int `json:"total_authorizations"`
	}
	w.Admin("GET", "/components/isv2", "").JSON(t, &isv2)
	assert.Equal(t, isv2.Total, 0, "the other platform still has the set")
}

// A stranger can do nothing. Contract: design 8.
func TestConsent_RequiresAdminToken(t *testing.T) {
	t.Parallel()
	w := start(t, servertest.Options{Guarded: true, Emulator: true})
	path := w.page(back, "&auth_type=3")
	reference := regexp.MustCompile(`agree\?ref=[^"]*`)
	a := w.Do("GET", path, "")
	assert.True(t, reference.MatchString(a.Body), "nothing is handed over: %s", a.Body)
	said := reference.ReplaceAllString(a.Body, "")
	assert.True(t, !strings.Contains(said, "shop") && !strings.Contains(said, "Shop") &&
		strings.Contains(a.Body, `type="password" id="admin_token"`), "a stranger sees %s", a.Body)
	for _, token := range []string{"", "x", servertest.AdminToken + " "} {
		form := agree("shop", "33")
		form.Set("admin_token", token)
		a := w.submit(path, form)
		assert.True(t, a.Status == http.StatusUnprocessableEntity && a.Header.Get("Location") == "" &&
			!strings.Contains(a.Body, `value="`+token+`x`), "token %q: %d %s", token, a.Status, a.Body)
		form.Set("appid", "wxnone")
		if b := w.submit(path, form); strings.ReplaceAll(reference.ReplaceAllString(b.Body, ""), "wxnone", "shop") !=
			reference.ReplaceAllString(a.Body, "") {
			t.Error("without the token the page tells which accounts there are")
		}
	}
	form := agree("shop", "33")
	form.Set("admin_token", servertest.AdminToken)
	a = w.submit(path, form)
	assert.True(t, a.Status == http.StatusSeeOther, "%d %s", a.Status, a.Body)
}

func TestConsent_CSRF(t *testing.T) {
	t.Parallel()
	w := start(t, servertest.Options{})
	path := w.page(back, "")
	for _, header := range []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"} {
		w.isError(header, w.submit(path, agree("shop", "33"), header), http.StatusForbidden)
	}
	a := w.Do("POST", path, agree("shop", "33").Encode(), "Content-Type: application/x-www-form-urlencoded", "Origin: https://evil.example")
	w.isError("another origin", a, http.StatusForbidden)
	w.isError("another method", w.Do("PUT", path, ""), http.StatusMethodNotAllowed)
	w.isError("a form that is too long", w.submit(path, url.Values{"decision": {"approve"}, "x": {strings.Repeat("x", 100_000)}}), 400)
}

// An error page, never a redirect.
func TestConsent_NoOpenRedirect(t *testing.T) {
	t.Parallel()
	w := start(t, servertest.Options{})
	code := w.PreAuthCode(w.token, "isv")
	long := []string{"https://" + strings.Repeat("a", 3000) + ".example/"}
	for _, row := range append(testtable.Rows(t, "testdata/refused_redirects.txt", 1), long) {
		redirect := row[0]
		path := address(code, redirect, "")
		w.isError("GET "+redirect, w.Do("GET", path, ""), 400)
		w.isError("POST "+redirect, w.submit(path, agree("shop", "33")), 400)
	}
	for redirect, want := range map[string]string{
		"https://isv.example": "https://isv.example/?", "HTTPS://ISV.example/Back": "https://isv.example/Back?",
		"http://isv.example:80/":    "http://isv.example/?",
		"https://isv.example:443/x": "https://isv.example/x?", "https://isv.example:8443/x": "https://isv.example:8443/x?",
		"http://127.0.0.1/": "http://127.0.0.1/?",
		"https://isv.example/a?u=https://evil.example/@x": "https://isv.example/a?u=https://evil.example/@x&",
		"https://isv.example//evil.example/":              "https://isv.example//evil.example/?",
	} {
		a := w.submit(w.page(redirect, ""), agree("shop", "33"))
		assert.True(t, strings.HasPrefix(a.Header.Get("Location"), want+"auth_code="),
			"%s: %d %q", redirect, a.Status, a.Header.Get("Location"))
	}

	for name, path := range map[string]string{
		"no address at all": "/cgi-bin/componentloginpage",
		"an unknown platform": "/cgi-bin/componentloginpage?component_appid=nobody&pre_auth_code=" + code + "&redirect_uri=" +
			url.QueryEscape(back),
		"a platform without hosts": "/cgi-bin/componentloginpage?component_appid=isv2&pre_auth_code=" + code + "&redirect_uri=" +
			url.QueryEscape(back),
		"no code":                  address("", back, ""),
		"a made-up code":           address("preauthcode@@@x", back, ""),
		"a type there is not":      address(code, back, "&auth_type=9"),
		"a type that is a text":    address(code, back, "&auth_type=x"),
		"sets that are no numbers": address(code, back, "&category_id_list=1,2"),
		"NUL":                      address("\x00", back, "&biz_appid=%00"),
	} {
		w.isError(name, w.Do("GET", path, ""), 400)
		w.isError(name+", agreed", w.submit(path, agree("shop", "33")), 400)
	}
	w.Advance(30 * time.Minute)
	w.isError("a code that expired", w.Do("GET", address(code, back, ""), ""), 400)
	w.isError("a code that expired, agreed", w.submit(address(code, back, ""), agree("shop", "33")), 400)
}

// Issue 31, 8: one language at a time, and a choice among many accounts.
func TestConsentPage_SearchAccounts(t *testing.T) {
	t.Parallel()
	w := start(t, servertest.Options{})
	for i := range 200 {
		w.Admin("PUT", fmt.Sprintf("/accounts/wx%03d", i), fmt.Sprintf(`{"kind":"mini_program","name":"茶 %03d"}`, i))
	}
	path := w.page(back, "&auth_type=2")
	a := w.Do("GET", path, "", "Accept-Language: zh-CN")
	n := strings.Count(a.Body, `name="appid"`)
	require.True(t, n == 50 && strings.Contains(a.Body, `name="part"`) && strings.Contains(a.Body, "还有更多") &&
		!strings.Contains(a.Body, "Permission sets"), "%d choices: %s", n, a.Body)
	find := func(part, chosen string) (list []string) {
		a := w.submit(path, url.Values{"decision": {"find"}, "part": {part}, "appid": {chosen}, "set": {"33"}})
		assert.True(t, a.Status == 200 && strings.Contains(a.Body, `value="33" checked`) && !strings.Contains(a.Body, `value="18" checked`),
			"%q: %d, what was ticked is lost: %s", part, a.Status, a.Body)
		for _, m := range regexp.MustCompile(`name="appid" value="([^"]*)" required( checked)?`).FindAllStringSubmatch(a.Body, -1) {
			list = append(list, m[1]+m[2])
		}
		return list
	}
	for _, c := range []struct{ part, chosen, want string }{
		{"茶 19", "", "wx190 wx191 wx192 wx193 wx194 wx195 wx196 wx197 wx198 wx199"}, {"WX007", "", "wx007"}, {"nothing", "", ""},
		{"wx007", "wx123", "wx123 checked wx007"}, {"wx007", "svc", "wx007"}, {"shop &", "", "shop"},
	} {
		assert.Equal(t, strings.Join(find(c.part, c.chosen), " "), c.want, "%q, after %q was chosen", c.part, c.chosen)
	}
	a = w.submit(path, agree("wx123", "33"))
	assert.True(t, a.Status == http.StatusSeeOther, "%d %s", a.Status, a.Body)
}
