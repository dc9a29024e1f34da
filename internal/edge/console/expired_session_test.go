package console_test

import (
	"html"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestForms_SurviveSessionExpiry verifies that a form sent after the session expired is restored after the sign-in, and that only a button
// of the restored form sends it.
func TestForms_SurviveSessionExpiry(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	v := newUser(t, s, "rita", adminroute.RulesEditor)
	s.Clock.Step(13 * time.Hour)
	const text = "\n<script>alert(1)</script>/\"x'\n"
	form := url.Values{"owner": {"shop"}, "prefix": {"https://shop.example/kept/"}, "path": {text}, "links": {""}}
	p := v.post("/console/rules/new", form)
	kept := regexp.MustCompile(`name="kept" value="([^"]*)"`).FindStringSubmatch(p.Body)
	require.True(t, p.Status == http.StatusUnauthorized && kept != nil && !strings.Contains(p.Body, "<script>alert"),
		"status %d, want 401: %s", p.Status, p.Body)
	signIn := func(secret string) page {
		t.Helper()
		return v.post("/console/login", url.Values{"name": {"rita"}, "password": {secret}, "kept": {html.UnescapeString(kept[1])}})
	}
	if p = signIn("wrong"); p.Status != http.StatusForbidden || !strings.Contains(p.Body, `name="kept" value="`+kept[1]) {
		t.Fatalf("sign-in with a wrong password: status %d, want 403: %s", p.Status, p.Body)
	}
	if p = signIn(password); p.Status != http.StatusOK || !strings.Contains(p.Body, `action="/console/rules/new"`) ||
		strings.Contains(p.Body, "<script>alert") {
		t.Fatalf("status %d, want 200: %s", p.Status, p.Body)
	}
	restored := url.Values{}
	for _, m := range regexp.MustCompile(`(?s)<textarea class="hide" name="([^"]*)"[^>]*>\n(.*?)</textarea>`).
		FindAllStringSubmatch(p.Body, -1) {
		restored.Add(m[1], html.UnescapeString(m[2]))
	}
	assert.True(t, restored.Encode() == form.Encode(), "what came back is %q, want %q", restored, form)
	p = v.get("/console/rules?prefix=https://shop.example/kept/")
	p.wantText(t, "No rule has the prefix")
	restored.Set("path", "pages/x")
	p = v.post("/console/rules/new", restored)
	p.wantStatus(t, http.StatusSeeOther, "sent")
	// A forged pending form redirects only to pages of the console.
	for _, target := range []string{"https://evil.example/", "//evil.example/x", "/admin/v1/people", "/console/login"} {
		v = newVisitor(t, s)
		p := v.post("/console/login", url.Values{"name": {"rita"}, "password": {password},
			"kept": {`{"to":"` + target + `","fields":[{"name":"a","value":"b"}]}`}})
		assert.True(t, p.Status == http.StatusSeeOther && p.Header.Get("Location") == "/console/",
			"pending form for %s: status %d, want 303: %s", target, p.Status, p.Body)
	}
}

// TestForms_SecretsHiddenAfterSessionExpiry verifies that the page of a restored form shows no field that a template marks as a password.
func TestForms_SecretsHiddenAfterSessionExpiry(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	v := newUser(t, s, "rita", adminroute.RulesEditor)
	s.Clock.Step(13 * time.Hour)
	form := url.Values{"did": {"password"}}
	files := require.Value(filepath.Glob("templates/*.html"))(t)
	for _, file := range files {
		text := require.Value(os.ReadFile(file))(t)
		for _, m := range regexp.MustCompile(`\.Field "([^"]+)"[^}]*type=password`).FindAllStringSubmatch(string(text), -1) {
			form.Set(m[1], "the words of "+m[1])
		}
	}
	require.True(t, form.Has("new-password") && form.Has("passphrase"), "password fields of the templates: %v", form)
	kept := regexp.MustCompile(`name="kept" value="([^"]*)"`).FindStringSubmatch(v.post("/console/self", form).Body)
	require.True(t, kept != nil, "the sign-in page has no form to restore")
	p := v.post("/console/login", url.Values{"name": {"rita"}, "password": {password}, "kept": {html.UnescapeString(kept[1])}})
	shown := regexp.MustCompile(`<dd>[^<]*the words of [^<]*`).FindAllString(p.Body, -1)
	assert.True(t, p.Status == http.StatusOK && len(shown) == 0, "status %d, secrets shown: %v", p.Status, shown)
}
