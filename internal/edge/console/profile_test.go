package console_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// appCode is what an authenticator app shows for an address at a time.
func appCode(t *testing.T, address string, at time.Time) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret"))
	require.NoError(t, err)
	mac := hmac.New(sha1.New, secret)
	binary.Write(mac, binary.BigEndian, at.Unix()/30)
	sum := mac.Sum(nil)
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[sum[19]&15:])&^(1<<31))%1_000_000)
}

// ASVS 6.2.2, 6.2.3, 7.2.4, 7.4.3, 7.5.1: people change what they sign in by themselves, and prove before who they are; their other
// sessions end, and so does the text of this one.
func TestSelfService_ChangeSignIn(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "alice", adminroute.Viewer)
	v, other := request(t, s), request(t, s)
	v.signIn("alice", password, "")
	other.signIn("alice", password, "")
	const better = "eleven grey cranes by the lake"
	for method, want := range map[string]int{"GET": http.StatusSeeOther, "POST": http.StatusUnauthorized} {
		assert.Equal(t, request(t, s).send(method, "/console/self", "", nil).Status, want, "%s by nobody", method)
	}
	change := func(v *visitor, form url.Values) page { return v.post("/console/self", form) }
	for name, c := range map[string]struct {
		form   url.Values
		status int
		says   string
	}{
		"without the old one": {url.Values{"did": {"password"}, "new-password": {better}}, http.StatusForbidden, "is wrong"},
		"a wrong old one": {url.Values{"did": {"password"}, "password": {"wrong"}, "new-password": {better}}, http.StatusForbidden,
			"is wrong"},
		"a common one": {url.Values{"did": {"password"}, "password": {password}, "new-password": {"Liverpool2026!"}},
			http.StatusUnprocessableEntity, "too easy to guess"},
		"a factor without proof": {url.Values{"did": {"factor"}}, http.StatusForbidden, "is wrong"},
		"none of the forms":      {url.Values{"did": {"x"}}, http.StatusUnprocessableEntity, ""},
	} {
		p := change(v, c.form)
		assert.True(t, p.Status == c.status && strings.Contains(p.Body, c.says), "%s: %d %s", name, p.Status, p.Body)
	}
	require.Equal(t, other.get("/console/self").Status, http.StatusOK, "nothing was changed")
	p := change(v, url.Values{"did": {"password"}, "password": {password}, "new-password": {better}})
	require.True(t, p.Status == http.StatusSeeOther && strings.Contains(p.Header.Get("Set-Cookie"), "qrjump_session="),
		"another password: %d %s", p.Status, p.Body)
	assert.Equal(t, v.get("/console/self?done=self").Status, http.StatusOK, "whoever changed it is signed in")
	assert.Equal(t, other.get("/console/self").Status, http.StatusSeeOther, "another session goes on")
	assert.Equal(t, other.signIn("alice", password, "").Status, http.StatusForbidden, "the old password")
	assert.Contains(t, s.Admin("GET", "/changes?kind=person&newest=true&limit=1", "").Body, `"actor":"person:alice"`, "the log of changes")
	draw := func(form url.Values) (uri, waits string, recovery []string) {
		t.Helper()
		body := change(v, form).Body
		found := regexp.MustCompile(`(?s)(otpauth://[^<]*)<.*<code class="copy">([a-z2-7\s]*)</code>.*name="waits" value="([^"]*)"`).
			FindStringSubmatch(body)
		require.True(t, found != nil && strings.Contains(body, `src="data:image/png;base64,`), "no factor: %s", body)
		recovery = strings.Fields(found[2])
		for _, code := range recovery {
			s.Hide(code)
		}
		return html.UnescapeString(found[1]), html.UnescapeString(found[3]), recovery
	}
	proof := url.Values{"did": {"factor"}, "password": {better}}
	uri, waits, _ := draw(proof)
	assert.Equal(t, other.signIn("alice", better, "").Status, http.StatusSeeOther, "a factor counts before a code showed that it is there")
	confirm := func(waits, code string) int {
		return change(v, url.Values{"did": {"confirm"}, "waits": {waits}, "code": {code}}).Status
	}
	for name, got := range map[string]int{"a wrong code": confirm(waits, "000000"),
		"no factor":    confirm("", appCode(t, uri, s.Clock.Now())),
		"a forged one": confirm("AAAA", "000000")} {
		assert.Equal(t, got, http.StatusForbidden, "%s", name)
	}
	s.Clock.Step(10 * time.Minute)
	assert.Equal(t, confirm(waits, appCode(t, uri, s.Clock.Now())), http.StatusForbidden, "ten minutes later")
	uri, waits, recovery := draw(proof)
	code := appCode(t, uri, s.Clock.Now())
	require.Equal(t, confirm(waits, code), http.StatusSeeOther, "the right code")
	assert.Equal(t, other.get("/console/self").Status, http.StatusSeeOther, "another session goes on beside the new factor")
	for given, want := range map[string]int{"": http.StatusUnauthorized, code: http.StatusForbidden, recovery[0]: http.StatusSeeOther} {
		assert.Equal(t, other.signIn("alice", better, given).Status, want, "signing in with the code %.3q", given)
	}
	off := url.Values{"did": {"no-factor"}, "password": {better}}
	if p := change(v, off); p.Status != http.StatusForbidden || !strings.Contains(p.Body, "second factor") {
		t.Errorf("without a code the factor goes: %d %s", p.Status, p.Body)
	}
	off.Set("code", recovery[1])
	p = change(v, off)
	assert.True(t, p.Status == http.StatusSeeOther, "with a code: %d %s", p.Status, p.Body)
	// Whoever has no password proves it by a new sign-in; the admin token is nobody.
	s.Admin("POST", "/people", `{"name":"bob","role":"viewer"}`)
	link := servertest.Decode[struct{ URL string }](t, s.Admin("POST", "/login-links", `{"name":"bob"}`))
	_, once, _ := strings.Cut(link.URL, "once=")
	s.Hide(once)
	v.post("/console/login", url.Values{"once": {once}})
	set := url.Values{"did": {"password"}, "new-password": {better}}
	s.Clock.Step(10 * time.Minute)
	assert.Equal(t, change(v, set).Status, http.StatusForbidden, "ten minutes after the link")
	v.signIn("", servertest.AdminToken, "")
	assert.Equal(t, change(v, set).Status, http.StatusForbidden, "the admin token has a password")
}

// ASVS 6.3.3, issue 17: where a second factor is demanded, who has none can do nothing before one is set up; others are not concerned.
func TestSecondFactor_Required(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "ada", adminroute.Admin)
	person(s, "vera", adminroute.Viewer)
	ada, vera, token := request(t, s), request(t, s), request(t, s)
	ada.signIn("ada", password, "")
	vera.signIn("vera", password, "")
	token.post("/console/login", url.Values{"password": {servertest.AdminToken}})
	held := func(v *visitor, what string, want bool) {
		t.Helper()
		p := v.get("/console/rules")
		to := p.Header.Get("Location")
		got := p.Status == http.StatusSeeOther && to == "/console/self?done=factor"
		assert.True(t, got == want && (got || p.Status == http.StatusOK), "%s: %d %s", what, p.Status, to)
	}
	demand := func(of string) { s.Admin("PUT", "/settings", `{"second_factor":"`+of+`"}`) }
	held(ada, "by default", false)
	demand("admins")
	held(ada, "an admin, where admins must", true)
	held(vera, "a viewer, where admins must", false)
	demand("everyone")
	held(vera, "a viewer, where everybody must", true)
	held(token, "the admin token", false)
	undo := url.Values{"reset": {"second_factor"}}
	assert.Equal(t, vera.post("/console/operate/settings", undo).Status, http.StatusForbidden, "a form before the factor")
	assert.Equal(t, vera.get("/console/calls/live", "Accept: text/event-stream").Status, http.StatusForbidden, "a stream before the factor")
	vera.get("/console/self?done=factor&lang=zh").wants(t, "本服务器要求启用两步验证", `value="factor"`)
	p := vera.post("/console/self", url.Values{"did": {"factor"}, "password": {password}})
	uri := html.UnescapeString(regexp.MustCompile(`otpauth://[^<"]*`).FindString(p.Body))
	waits := regexp.MustCompile(`name="waits" value="([^"]*)"`).FindStringSubmatch(p.Body)
	require.True(t, uri != "" && waits != nil, "no factor: %d %s", p.Status, p.Body)
	secret, err := url.Parse(uri)
	require.NoError(t, err)
	s.Hide(secret.Query().Get("secret"))
	vera.post("/console/self", url.Values{"did": {"confirm"}, "waits": {html.UnescapeString(waits[1])},
		"code": {appCode(t, uri, s.Clock.Now())}})
	held(vera, "with a factor", false)
	assert.Equal(t, s.Do("PUT", "/admin/v1/settings", `{"second_factor":"nobody"}`, "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json").Status, http.StatusUnprocessableEntity, "no such word")
}
