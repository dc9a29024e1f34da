package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 31, 12: an admin sees every page as each role with a limit does, and can change nothing meanwhile; nobody sees more by it.
func TestSeenAs_ReadOnlyRoleView(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop})
	admin := request(t, s)
	admin.signIn("", servertest.AdminToken, "")
	for i, role := range adminroute.Roles[:len(adminroute.Roles)-1] {
		name := fmt.Sprint("p", i)
		person(s, name, role, "shop")
		them := request(t, s)
		them.signIn(name, password, "")
		p := admin.post("/console/see-as", url.Values{"role": {string(role)}, "accounts": {"shop"}})
		require.True(t, p.Status == http.StatusSeeOther, "%s: %d %s", role, p.Status, p.Body)
		for _, c := range pages(t) {
			if c.method != "GET" || strings.ContainsAny(c.path, "RBSP") { // those that name what is not here
				continue
			}
			mine, theirs := admin.get(c.path), them.get(c.path)
			assert.Equal(t, mine.Status, theirs.Status, "%s as %s", c.path, role)
			html := strings.Contains(mine.Header.Get("Content-Type"), "html") && mine.Body != ""
			assert.True(t, !html || strings.Contains(mine.Body, `id="seen-as"`), "%s as %s does not say so", c.path, role)
		}
		for _, c := range pages(t) {
			if c.method == "POST" && c.path != "/console/scan" {
				p := admin.post(c.path, url.Values{"did": {"add"}})
				assert.Equal(t, p.Status, http.StatusForbidden, "%s is sent while only looking as %s", c.path, role)
			}
		}
		p = admin.post("/console/see-as", url.Values{"did": {"end"}})
		require.True(t, p.Status == http.StatusSeeOther, "%d %s", p.Status, p.Body)
		p = them.post("/console/see-as", url.Values{"role": {"viewer"}})
		assert.Equal(t, p.Status, http.StatusForbidden, "%s looks as another", role)
		assert.True(t, them.get("/console/people", "Cookie: qrjump_seen_as=admin").Status != http.StatusOK, "%s sees people", role)
	}
	if p := admin.get("/console/people"); p.Status != http.StatusOK || strings.Contains(p.Body, `id="seen-as"`) {
		t.Errorf("after the end: %d %s", p.Status, p.Body)
	}
	p := admin.post("/console/see-as", url.Values{"role": {"viewer"}, "accounts": {"nobody"}})
	if !strings.Contains(p.Body, `value="nobody"`) || !strings.Contains(p.Body, `aria-describedby="seen-for-wrong accounts-hint"`) {
		t.Errorf("an account that is not there: %d %s", p.Status, p.Body)
	}
	assert.Equal(t, admin.post("/console/see-as", url.Values{"role": {"admin"}}).Status, http.StatusUnprocessableEntity, "as an admin")
}

func TestSeenAs_InBrowser(t *testing.T) {
	for _, c := range []struct {
		language string
		width    int64
	}{{"en", 320}, {"zh-CN", 1280}} {
		t.Run(c.language, func(t *testing.T) {
			s := servertest.Start(t, servertest.Options{Seed: shop})
			p := openTab(t, c.language, c.width)
			p.open(s.AdminURL + "/console/people#see-as")
			p.write("#seen-for", "shop")
			p.click(`form[action="/console/see-as"] button`)
			p.await(`!!document.getElementById('seen-as') && location.pathname !== '/console/people'`)
			p.open(s.AdminURL + "/console/rules")
			p.await(`document.getElementById('seen-as').innerText.includes('shop')`)
			n := browsertest.Run(t, p.ctx, chromedp.Evaluate[int](`document.querySelectorAll('a[href^="/console/people"]').length`))
			assert.True(t, n <= 1, "the navigation has people %d times", n)
			p.click("#seen-as button")
			p.await(`location.pathname === '/console/people' && !document.getElementById('seen-as')`)
		})
	}
}
