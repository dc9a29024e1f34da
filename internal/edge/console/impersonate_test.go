package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestSeenAs_ReadOnlyRoleView verifies that an admin who impersonates a role sees every page as that role does, cannot change anything
// meanwhile, and that other roles gain nothing by it.
func TestSeenAs_ReadOnlyRoleView(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop})
	admin := newVisitor(t, s)
	admin.signIn("", servertest.AdminToken, "")
	for i, role := range adminroute.Roles[:len(adminroute.Roles)-1] {
		name := fmt.Sprint("p", i)
		visitor := newUser(t, s, name, role, "shop")
		p := admin.post("/console/see-as", url.Values{"role": {string(role)}, "accounts": {"shop"}})
		p.wantStatus(t, http.StatusSeeOther, "%s", role)
		for _, c := range readPageRoles(t) {
			if c.method != "GET" || strings.ContainsAny(c.path, "RBSP") { // a path with a placeholder
				continue
			}
			adminPage, rolePage := admin.get(c.path), visitor.get(c.path)
			assert.Equal(t, adminPage.Status, rolePage.Status, "status of %s as %s", c.path, role)
			html := strings.Contains(adminPage.Header.Get("Content-Type"), "html") && adminPage.Body != ""
			_, notice, found := strings.Cut(adminPage.Body, `id="seen-as"`)
			assert.True(t, !html || found && strings.Contains(notice[:min(len(notice), 1000)], "shop"),
				"%s as %s has no notice of the impersonation", c.path, role)
		}
		for _, c := range readPageRoles(t) {
			if c.method == "POST" && c.path != "/console/scan" {
				p := admin.post(c.path, url.Values{"did": {"add"}})
				assert.Equal(t, p.Status, http.StatusForbidden, "POST %s while impersonating %s", c.path, role)
			}
		}
		p = admin.post("/console/see-as", url.Values{"did": {"end"}})
		require.True(t, p.Status == http.StatusSeeOther, "status %d, want 303: %s", p.Status, p.Body)
		p = visitor.post("/console/see-as", url.Values{"role": {"viewer"}})
		assert.Equal(t, p.Status, http.StatusForbidden, "impersonation by %s", role)
		assert.True(t, visitor.get("/console/people", "Cookie: qrjump_seen_as=admin").Status != http.StatusOK,
			"%s opens /console/people with a forged cookie", role)
	}
	if p := admin.get("/console/people"); p.Status != http.StatusOK || strings.Contains(p.Body, `id="seen-as"`) {
		t.Errorf("after the end: status %d, want 200: %s", p.Status, p.Body)
	}
	p := admin.post("/console/see-as", url.Values{"role": {"viewer"}, "accounts": {"nobody"}})
	if !strings.Contains(p.Body, `value="nobody"`) || !strings.Contains(p.Body, `aria-describedby="seen-for-wrong accounts-hint"`) {
		t.Errorf("unknown account: status %d, want the marked field: %s", p.Status, p.Body)
	}
	assert.Equal(t, admin.post("/console/see-as", url.Values{"role": {"admin"}}).Status, http.StatusUnprocessableEntity, "as an admin")
}
