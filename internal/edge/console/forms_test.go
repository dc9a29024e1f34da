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

// Whatever is refused: what was typed is still there, the field is marked and says why, in the reader's language, and a secret is not
// sent back.
func TestForms_RejectedKeepsInput(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	person(s, "ada", adminroute.Admin)
	v := request(t, s)
	v.signIn("ada", password, "")
	for _, c := range testtable.Rows(t, "testdata/rejected_forms.txt", 6) {
		path := c[0]
		form, err := url.ParseQuery(strings.ReplaceAll(c[1], "PASSWORD", password))
		require.NoError(t, err)
		for language, says := range map[string]string{"en": c[4], "zh": c[5]} {
			v.get("/console/self?lang=" + language)
			p := v.post(path, form)
			assert.True(t, p.Status == http.StatusUnprocessableEntity && (!strings.Contains(p.Body, form.Get("password")) ||
				!form.Has("password")), "%s in %s: %d, or the password is on the page", path, language, p.Status)
			p.wants(t, append(testtable.List(c[3]), `aria-invalid="true"`, `id="`+c[2]+`-wrong"`, `role="alert"`, says)...)
		}
	}
	v.get("/console/self?lang=en")

	// Settings are found by what they mean, and what would be lost is said first; times are how long ago, in the reader's zone.
	v.get("/console/operate/settings?q=retention+of+scan").wants(t, `id="scan_retention_days"`)
	assert.True(t, !strings.Contains(v.get("/console/operate/settings?q=max_packages_per_code").Body, `id="scan_retention_days"`),
		"settings that were not looked for are shown")
	v.did("/console/preferences/theme", url.Values{"theme": {""}, "zone": {"UTC"}, "back": {"/console/people"}})
	v.get("/console/self").wants(t, `<option value="UTC" selected>UTC</option>`)
	if p := v.get("/console/operate/audit"); !regexp.
		MustCompile(`<time datetime="[^"]+Z" title="[^"]+ \+00:00">just now<`).MatchString(p.Body) {
		t.Error("the audit log does not say how long ago, in the reader's zone")
	}
	// An invitation admits its person once, to choose a password.
	p := v.post("/console/people", url.Values{"did": {"add"}, "name": {"carol"}, "role": {"viewer"}, "invite_days": {"3"}})
	link := regexp.MustCompile(`/console/login\?once=([^&<]+)&amp;next=([^<]+)`).FindStringSubmatch(p.Body)
	require.True(t, link != nil, "no link: %d", p.Status)
	s.Hide(link[1])
	next, _ := url.QueryUnescape(link[2])
	carol := request(t, s)
	once := url.Values{"once": {link[1]}, "next": {next}}
	assert.Equal(t, carol.post("/console/login", once).Header.Get("Location"), "/console/self?done=invited", "the invitation leads to")
	assert.Equal(t, request(t, s).post("/console/login", once).Status, http.StatusForbidden, "the invitation, once more")
	carol.did("/console/self", url.Values{"did": {"password"}, "new-password": {password}})
	// What is edited counts; who would be deleted is named first.
	v.did("/console/people", url.Values{"did": {"change"}, "name": {"carol"}, "role": {"rules-editor"}, "accounts": {"shop"}})
	v.get("/console/people").wants(t, `value="shop"`, `value="rules-editor" selected`)
	v.post("/console/people", url.Values{"did": {"delete"}, "name": {"carol"}}).wants(t, `id="sure"`, "carol can no longer sign in")
	v.did("/console/people", url.Values{"did": {"delete"}, "name": {"carol"}, "sure": {"carol"}})
	v.get("/console/operate/audit?kind=person&key=carol&lang=zh").wants(t, "<td>邀请</td>", "<td>删除</td>")
}
