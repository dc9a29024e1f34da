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

// appCode returns the code of an authenticator app for an otpauth address at a time.
func appCode(t *testing.T, address string, at time.Time) string {
	t.Helper()
	u := require.Value(url.Parse(address))(t)
	secret := require.Value(base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret")))(t)
	mac := hmac.New(sha1.New, secret)
	binary.Write(mac, binary.BigEndian, at.Unix()/30)
	sum := mac.Sum(nil)
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[sum[19]&15:])&^(1<<31))%1_000_000)
}

// TestSelfService_ChangeSignIn changes a person's own password and second factor. Each change must require a proof of identity, end the
// other sessions and renew the token of this one (ASVS 6.2.2, 6.2.3, 7.2.4, 7.4.3, 7.5.1).
func TestSelfService_ChangeSignIn(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	createPerson(s, "alice", adminroute.Viewer)
	v, other := newVisitor(t, s), newVisitor(t, s)
	v.signIn("alice", password, "")
	other.signIn("alice", password, "")
	const better = "eleven grey cranes by the lake"
	for method, want := range map[string]int{"GET": http.StatusSeeOther, "POST": http.StatusUnauthorized} {
		assert.Equal(t, newVisitor(t, s).send(method, "/console/self", "", nil).Status, want, "%s without a session", method)
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
		assert.True(t, p.Status == c.status && strings.Contains(p.Body, c.says),
			"%s: status %d, want %d with %q: %s", name, p.Status, c.status, c.says, p.Body)
	}
	require.Equal(t, other.get("/console/self").Status, http.StatusOK, "other session after rejected changes")
	p := change(v, url.Values{"did": {"password"}, "password": {password}, "new-password": {better}})
	require.True(t, p.Status == http.StatusSeeOther && strings.Contains(p.Header.Get("Set-Cookie"), "qrjump_session="),
		"new password: status %d, want 303: %s", p.Status, p.Body)
	assert.Equal(t, v.get("/console/self?done=self").Status, http.StatusOK, "session that changed the password")
	assert.Equal(t, other.get("/console/self").Status, http.StatusSeeOther, "other session after the change")
	assert.Equal(t, other.signIn("alice", password, "").Status, http.StatusForbidden, "sign-in with the old password")
	assert.Contains(t, s.Admin("GET", "/changes?kind=person&newest=true&limit=1", "").Body, `"actor":"person:alice"`, "audit log")
	newFactor := func(form url.Values) (uri, sealed string, recovery []string) {
		t.Helper()
		body := change(v, form).Body
		match := regexp.MustCompile(`(?s)(otpauth://[^<]*)<.*<code class="copy">([a-z2-7\s]*)</code>.*name="waits" value="([^"]*)"`).
			FindStringSubmatch(body)
		require.True(t, match != nil && strings.Contains(body, `src="data:image/png;base64,`), "page without a second factor: %s", body)
		recovery = strings.Fields(match[2])
		for _, code := range recovery {
			s.RegisterSecret(code)
		}
		return html.UnescapeString(match[1]), html.UnescapeString(match[3]), recovery
	}
	request := url.Values{"did": {"factor"}, "password": {better}}
	uri, sealed, _ := newFactor(request)
	assert.Equal(t, other.signIn("alice", better, "").Status, http.StatusSeeOther, "sign-in before the factor is confirmed")
	confirm := func(sealed, code string) int {
		return change(v, url.Values{"did": {"confirm"}, "waits": {sealed}, "code": {code}}).Status
	}
	for name, got := range map[string]int{"a wrong code": confirm(sealed, "000000"),
		"no factor":       confirm("", appCode(t, uri, s.Clock.Now())),
		"a forged factor": confirm("AAAA", "000000")} {
		assert.Equal(t, got, http.StatusForbidden, "confirmation with %s", name)
	}
	s.Clock.Step(10 * time.Minute)
	assert.Equal(t, confirm(sealed, appCode(t, uri, s.Clock.Now())), http.StatusForbidden, "confirmation ten minutes later")
	uri, sealed, recovery := newFactor(request)
	code := appCode(t, uri, s.Clock.Now())
	require.Equal(t, confirm(sealed, code), http.StatusSeeOther, "confirmation with the valid code")
	assert.Equal(t, other.get("/console/self").Status, http.StatusSeeOther, "other session after the new factor")
	for given, want := range map[string]int{"": http.StatusUnauthorized, code: http.StatusForbidden, recovery[0]: http.StatusSeeOther} {
		assert.Equal(t, other.signIn("alice", better, given).Status, want, "sign-in with the code %.3q", given)
	}
	removal := url.Values{"did": {"no-factor"}, "password": {better}}
	if p := change(v, removal); p.Status != http.StatusForbidden || !strings.Contains(p.Body, "second factor") {
		t.Errorf("removal of the factor without a code: status %d, want 403: %s", p.Status, p.Body)
	}
	removal.Set("code", recovery[1])
	p = change(v, removal)
	p.wantStatus(t, http.StatusSeeOther, "removal of the factor with a code")
	// A person without a password needs a recent sign-in as proof. The admin token belongs to no person.
	s.Admin("POST", "/people", `{"name":"bob","role":"viewer"}`)
	token := newLoginLink(t, s, `{"name":"bob"}`)
	v.post("/console/login", url.Values{"once": {token}})
	form := url.Values{"did": {"password"}, "new-password": {better}}
	s.Clock.Step(10 * time.Minute)
	assert.Equal(t, change(v, form).Status, http.StatusForbidden, "change ten minutes after the sign-in")
	v.signIn("", servertest.AdminToken, "")
	assert.Equal(t, change(v, form).Status, http.StatusForbidden, "change with the admin token")
}

// TestSecondFactor_Required verifies that a person without a required second factor can only set one up, and that other people are
// unaffected (ASVS 6.3.3).
func TestSecondFactor_Required(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	createPerson(s, "ada", adminroute.Admin)
	createPerson(s, "vera", adminroute.Viewer)
	ada, vera, token := newVisitor(t, s), newVisitor(t, s), newVisitor(t, s)
	ada.signIn("ada", password, "")
	vera.signIn("vera", password, "")
	token.post("/console/login", url.Values{"password": {servertest.AdminToken}})
	checkHeld := func(v *visitor, what string, want bool) {
		t.Helper()
		p := v.get("/console/rules")
		location := p.Header.Get("Location")
		got := p.Status == http.StatusSeeOther && location == "/console/self?done=factor"
		assert.True(t, got == want && (got || p.Status == http.StatusOK), "%s: %d %s", what, p.Status, location)
	}
	setRequired := func(value string) { s.Admin("PUT", "/settings", `{"second_factor":"`+value+`"}`) }
	checkHeld(ada, "by default", false)
	setRequired("admins")
	checkHeld(ada, "an admin, required for admins", true)
	checkHeld(vera, "a viewer, required for admins", false)
	setRequired("everyone")
	checkHeld(vera, "a viewer, required for everyone", true)
	checkHeld(token, "the admin token", false)
	undo := url.Values{"reset": {"second_factor"}}
	assert.Equal(t, vera.post("/console/operate/settings", undo).Status, http.StatusForbidden, "form before the factor is set up")
	assert.Equal(t, vera.get("/console/calls/live", "Accept: text/event-stream").Status, http.StatusForbidden,
		"stream before the factor is set up")
	vera.get("/console/self?done=factor&lang=zh").wantText(t, "本服务器要求启用两步验证", `value="factor"`)
	p := vera.post("/console/self", url.Values{"did": {"factor"}, "password": {password}})
	uri := html.UnescapeString(regexp.MustCompile(`otpauth://[^<"]*`).FindString(p.Body))
	sealed := regexp.MustCompile(`name="waits" value="([^"]*)"`).FindStringSubmatch(p.Body)
	require.True(t, uri != "" && sealed != nil, "new factor: status %d without an address: %s", p.Status, p.Body)
	address := require.Value(url.Parse(uri))(t)
	s.RegisterSecret(address.Query().Get("secret"))
	vera.post("/console/self", url.Values{"did": {"confirm"}, "waits": {html.UnescapeString(sealed[1])},
		"code": {appCode(t, uri, s.Clock.Now())}})
	checkHeld(vera, "with a factor", false)
	assert.Equal(t, s.Do("PUT", "/admin/v1/settings", `{"second_factor":"nobody"}`, "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json").Status, http.StatusUnprocessableEntity, "second_factor with an unknown value")
}
