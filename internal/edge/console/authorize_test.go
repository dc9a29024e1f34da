package console_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// startWithPlatform starts a guarded server with 200 Mini Programs, of which alice may authorize all but the last, and a platform with a
// site of its own. The returned function creates a new authorization link and puts it on that site.
func startWithPlatform(t *testing.T) (s *servertest.Server, site *httptest.Server, newLink func() string) {
	t.Helper()
	var link string
	site = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if r.URL.Path == "/back" {
			fmt.Fprintf(w, `<!DOCTYPE html><main id="main">came back with %q</main>`, r.URL.Query().Get("auth_code"))
			return
		}
		fmt.Fprintf(w, `<!DOCTYPE html><a id="begin" href="%s">begin</a>`, strings.ReplaceAll(link, "&", "&amp;"))
	}))
	t.Cleanup(site.Close)
	siteURL := strings.Replace(site.URL, "127.0.0.1", "localhost", 1)
	var seed strings.Builder
	seed.WriteString("accounts:\n")
	var permitted []string
	for i := range 200 {
		fmt.Fprintf(&seed, "  - {appid: wx%03d, kind: mini_program, name: \"Tea %03d\", secret: the-secret-of-wx%03d, "+
			"versions: [release]}\n", i, i, i)
		if i < 199 {
			permitted = append(permitted, fmt.Sprintf("%q", fmt.Sprintf("wx%03d", i)))
		}
	}
	seed.WriteString(`
components:
  - {appid: isv, secret: the-secret-of-isv, message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE,
     redirect_hosts: ["` + strings.TrimPrefix(siteURL, "http://") + `"]}
settings: {verification: trust, rule_rate_limit: null}
`)
	s = servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: seed.String()})
	s.Admin("POST", "/people",
		fmt.Sprintf(`{"name":"alice","role":"operator","password":%q,"accounts":[%s]}`, password, strings.Join(permitted, ",")))
	token := s.ComponentToken("isv")
	newLink = func() string {
		link = s.URL + "/cgi-bin/componentloginpage?" + url.Values{"component_appid": {"isv"}, "auth_type": {"2"},
			"pre_auth_code": {s.PreAuthCode(token, "isv")}, "redirect_uri": {siteURL + "/back?state=7"}}.Encode()
		return link
	}
	newLink()
	site.URL = siteURL
	return s, site, newLink
}

// TestAgreeReference_SingleUse verifies that a reference to an authorization request works once, for an account within the limits of the
// person, and only for roles that may authorize.
func TestAgreeReference_SingleUse(t *testing.T) {
	t.Parallel()
	s, _, link := startWithPlatform(t)
	newReference := func() string {
		t.Helper()
		a := s.Do("GET", strings.TrimPrefix(link(), s.URL), "")
		_, after, ok := strings.Cut(a.Body, "/console/agree?ref=")
		ref, _, _ := strings.Cut(after, `"`)
		ref, err := url.QueryUnescape(ref)
		require.True(t, ok && err == nil && !strings.Contains(ref, "preauth"),
			"reference %q, %v; want one without the pre_auth_code", ref, err)
		return ref
	}
	ref := newReference()
	alice := newVisitor(t, s)
	alice.signIn("alice", password, "")
	for _, role := range adminroute.Roles {
		v := newUser(t, s, "a-"+string(role), role)
		want := map[bool][2]int{true: {http.StatusOK, http.StatusSeeOther}, false: {http.StatusForbidden, http.StatusForbidden}}
		viewStatus := v.get("/console/agree?ref=" + url.QueryEscape(newReference())).Status
		approveStatus := v.post("/console/agree",
			url.Values{"ref": {newReference()}, "did": {"approve"}, "appid": {"wx150"}, "set": {"33"}}).Status
		got := [2]int{viewStatus, approveStatus}
		assert.True(t, got == want[role.AtLeast(adminroute.Operator)],
			"%s: status of the page = %d, of the approval = %d", role, got[0], got[1])
	}
	p := newVisitor(t, s).get("/console/agree?here=1&ref=" + url.QueryEscape(ref))
	assert.True(t, p.Status == http.StatusSeeOther && strings.HasPrefix(p.Header.Get("Location"), "/console/login?next="),
		"without a session: status %d, want 303, Location %q", p.Status, p.Header.Get("Location"))
	form := func(appid string, sets ...string) url.Values {
		return url.Values{"ref": {ref}, "did": {"approve"}, "appid": {appid}, "set": sets, "part": {"x"}}
	}
	for name, c := range map[string]struct {
		form   url.Values
		status int
	}{
		"no account": {form("", "33"), 422}, "no set": {form("wx001"), 422}, "a set outside of the request": {form("wx001", "17"), 422},
		"an account of another person": {form("wx199", "33"), 403}, "an unknown account": {form("wxnone", "33"), 403},
	} {
		p := alice.post("/console/agree", c.form)
		assert.True(t, p.Status == c.status && (strings.Contains(p.Body, `aria-invalid="true"`) || c.form.Get("appid") == "" ||
			c.status != 422) && strings.Contains(p.Body, `name="part" value="x"`) && !strings.Contains(p.Body, "wx199"),
			"%s: %d %s", name, p.Status, p.Body)
	}
	p = alice.post("/console/agree", form("wx001", "33"))
	require.True(t, p.Status == http.StatusSeeOther && strings.Contains(p.Header.Get("Location"), "/back?state=7&auth_code=queryauthcode"),
		"status %d, want 303, Location %q: %s", p.Status, p.Header.Get("Location"), p.Body)
	p = alice.post("/console/agree", form("wx002", "33"))
	assert.True(t, p.Status == 422 && p.Header.Get("Location") == "", "second approval: status %d, want 422: %s", p.Status, p.Body)
	for name, text := range map[string]string{"used": ref, "made up": "x", "none": "", "cut": ref[:len(ref)-1]} {
		p := alice.get("/console/agree?ref=" + url.QueryEscape(text))
		p.wantStatus(t, 422, "%s", name)
	}

	// An exclusive set moves only after a confirmation.
	ref = newReference()
	s.Admin("PUT", "/components/other", `{"secret":"the-secret-of-other","message_token":"tok",`+
		`"encoding_aes_key":"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}`)
	s.Authorize(s.ComponentToken("other"), "other", "wx003", "[18]")
	p = alice.post("/console/agree", form("wx003", "18"))
	assert.True(t, p.Status == 409 && strings.Contains(p.Body, `name="force_exclusive"`), "status %d, want 409: %s", p.Status, p.Body)
	force := form("wx003", "18")
	force.Set("force_exclusive", "1")
	p = alice.post("/console/agree", force)
	assert.True(t, p.Status == http.StatusSeeOther, "status %d, want 303: %s", p.Status, p.Body)
}
