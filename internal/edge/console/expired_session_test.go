package console_test

import (
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

// A form that is sent after its session ended comes back after signing in, whole, and is sent by a button of its own: nothing
// of it was done before.
func TestForms_SurviveSessionExpiry(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "rita", adminroute.RulesEditor)
	v := request(t, s)
	v.signIn("rita", password, "")
	s.Clock.Step(13 * time.Hour)
	const typed = "\n<script>alert(1)</script>/\"x'\n"
	form := url.Values{"owner": {"shop"}, "prefix": {"https://shop.example/kept/"}, "path": {typed}, "links": {""}}
	p := v.post("/console/rules/new", form)
	kept := regexp.MustCompile(`name="kept" value="([^"]*)"`).FindStringSubmatch(p.Body)
	require.True(t, p.Status == http.StatusUnauthorized && kept != nil && !strings.Contains(p.Body, "<script>alert"),
		"%d %s", p.Status, p.Body)
	again := func(word string) page {
		t.Helper()
		return v.post("/console/login", url.Values{"name": {"rita"}, "password": {word}, "kept": {html.UnescapeString(kept[1])}})
	}
	if p = again("wrong"); p.Status != http.StatusForbidden || !strings.Contains(p.Body, `name="kept" value="`+kept[1]) {
		t.Fatalf("a wrong password loses it: %d %s", p.Status, p.Body)
	}
	if p = again(password); p.Status != http.StatusOK || !strings.Contains(p.Body, `action="/console/rules/new"`) ||
		strings.Contains(p.Body, "<script>alert") {
		t.Fatalf("%d %s", p.Status, p.Body)
	}
	back := url.Values{}
	for _, m := range regexp.MustCompile(`(?s)<textarea class="hide" name="([^"]*)"[^>]*>\n(.*?)</textarea>`).
		FindAllStringSubmatch(p.Body, -1) {
		back.Add(m[1], html.UnescapeString(m[2]))
	}
	assert.True(t, back.Encode() == form.Encode(), "what came back is %q, want %q", back, form)
	p = v.get("/console/rules?prefix=https://shop.example/kept/")
	assert.True(t, strings.Contains(p.Body, "No rule has the prefix"), "something was done before the button")
	back.Set("path", "pages/x")
	p = v.post("/console/rules/new", back)
	assert.True(t, p.Status == http.StatusSeeOther, "sent: %d %s", p.Status, p.Body)
	// It leads nowhere else, whatever a page of signing in is made to carry.
	for _, to := range []string{"https://evil.example/", "//evil.example/x", "/admin/v1/people", "/console/login"} {
		v = request(t, s)
		p := v.post("/console/login", url.Values{"name": {"rita"}, "password": {password},
			"kept": {`{"to":"` + to + `","fields":[{"name":"a","value":"b"}]}`}})
		assert.True(t, p.Status == http.StatusSeeOther && p.Header.Get("Location") == "/console/",
			"a form for %s: %d %s", to, p.Status, p.Body)
	}
}
