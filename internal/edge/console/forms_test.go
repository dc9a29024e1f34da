package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// TestForms_RejectedKeepsInput verifies that a rejected form keeps its input, marks the field and gives the reason in the reader's
// language, and that a secret is not sent back.
func TestForms_RejectedKeepsInput(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	v := newUser(t, s, "ada", adminroute.Admin)
	for _, c := range testtable.Rows(t, "testdata/rejected_forms.txt", 6) {
		path := c[0]
		form := require.Value(url.ParseQuery(strings.ReplaceAll(c[1], "PASSWORD", password)))(t)
		for language, reason := range map[string]string{"en": c[4], "zh": c[5]} {
			v.get("/console/self?lang=" + language)
			p := v.post(path, form)
			assert.True(t, p.Status == http.StatusUnprocessableEntity && (!strings.Contains(p.Body, form.Get("password")) ||
				!form.Has("password")), "%s in %s: %d, or the password is on the page", path, language, p.Status)
			p.wantText(t, append(testtable.List(c[3]), `aria-invalid="true"`, `id="`+c[2]+`-wrong"`, `role="alert"`, reason)...)
		}
	}
	v.get("/console/self?lang=en")

	// Settings are found by their meaning. Times are relative and in the reader's zone.
	v.get("/console/operate/settings?q=retention+of+scan").wantText(t, `id="scan_retention_days"`)
	v.get("/console/operate/settings?q=max_packages_per_code").wantNoText(t, `id="scan_retention_days"`)
	v.submit("/console/preferences/theme", url.Values{"theme": {""}, "zone": {"UTC"}, "back": {"/console/people"}})
	v.get("/console/self").wantText(t, `<option value="UTC" selected>UTC</option>`)
	if p := v.get("/console/operate/audit"); !regexp.
		MustCompile(`<time datetime="[^"]+Z" title="[^"]+ \+00:00">just now<`).MatchString(p.Body) {
		t.Error("the audit log has no relative time in the reader's zone")
	}
	// An invitation link works once and leads to the choice of a password.
	p := v.post("/console/people", url.Values{"did": {"add"}, "name": {"carol"}, "role": {"viewer"}, "invite_days": {"3"}})
	link := regexp.MustCompile(`/console/login\?once=([^&<]+)&amp;next=([^<]+)`).FindStringSubmatch(p.Body)
	require.True(t, link != nil, "invitation: status %d without a link", p.Status)
	s.RegisterSecret(link[1])
	next, _ := url.QueryUnescape(link[2])
	carol := newVisitor(t, s)
	once := url.Values{"once": {link[1]}, "next": {next}}
	assert.Equal(t, carol.post("/console/login", once).Header.Get("Location"), "/console/self?done=invited", "redirect of the invitation")
	assert.Equal(t, newVisitor(t, s).post("/console/login", once).Status, http.StatusForbidden, "second use of the invitation")
	carol.submit("/console/self", url.Values{"did": {"password"}, "new-password": {password}})
	// Edits are saved; a deletion asks for the name first.
	v.submit("/console/people", url.Values{"did": {"change"}, "name": {"carol"}, "role": {"rules-editor"}, "accounts": {"shop"}})
	v.get("/console/people").wantText(t, `value="shop"`, `value="rules-editor" selected`)
	v.post("/console/people", url.Values{"did": {"delete"}, "name": {"carol"}}).wantText(t, `id="sure"`, "carol can no longer sign in")
	v.submit("/console/people", url.Values{"did": {"delete"}, "name": {"carol"}, "sure": {"carol"}})
	v.get("/console/operate/audit?kind=person&key=carol&lang=zh").wantText(t, "<td>邀请</td>", "<td>删除</td>")
}
