package console_test

import (
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// navigated are the entries of a page's navigation.
func navigated(p page) (list []string) {
	menu := regexp.MustCompile(`(?s)<nav class="side".*?</nav>`).FindString(p.Body)
	for _, found := range regexp.MustCompile(`<a href="(/console/[^"?]*)"`).FindAllStringSubmatch(menu, -1) {
		list = append(list, html.UnescapeString(found[1]))
	}
	return list
}

// Everybody is shown what opens for them, and nothing else: each role, with and without a limit to accounts, on a server with an
// emulator and on one without.
func TestNavigation_MatchesPermissions(t *testing.T) {
	t.Parallel()
	for _, emulator := range []bool{true, false} {
		s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: emulator, Seed: shop,
			Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
		admin := request(t, s)
		person(s, "root", adminroute.Admin)
		admin.signIn("root", password, "")
		all := navigated(admin.get("/console/rules"))
		require.True(t, len(all) >= 15 && slices.Contains(all, "/console/emulator") == emulator,
			"with an emulator %v, an admin sees %q", emulator, all)
		for _, role := range adminroute.Roles {
			for _, limit := range [][]string{nil, {"shop"}, {"shop", "press"}} {
				if role == adminroute.Admin && len(limit) > 0 {
					continue // an admin is for all accounts
				}
				name := "a-" + string(role) + "-" + strings.Join(limit, "-")
				person(s, name, role, limit...)
				v := request(t, s)
				v.signIn(name, password, "")
				shown := navigated(v.get("/console/rules"))
				for _, path := range all {
					got, is := v.get(path).Status, slices.Contains(shown, path)
					assert.True(t, is == (got == http.StatusOK),
						"with an emulator %v, %s: %s is shown: %v, and answers %d", emulator, name, path, is, got)
				}
			}
		}
	}
}
