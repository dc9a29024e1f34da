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
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// parseNavigation returns the paths of the navigation of a page.
func parseNavigation(p page) (list []string) {
	menu := regexp.MustCompile(`(?s)<nav class="side".*?</nav>`).FindString(p.Body)
	for _, found := range regexp.MustCompile(`<a href="(/console/[^"?]*)"`).FindAllStringSubmatch(menu, -1) {
		list = append(list, html.UnescapeString(found[1]))
	}
	return list
}

// TestNavigation_MatchesPermissions verifies that the navigation lists exactly the pages that the caller may open: for each role, with and
// without a limit to accounts, on a server with an emulator and on one without.
func TestNavigation_MatchesPermissions(t *testing.T) {
	t.Parallel()
	limits := testscope.Select([][]string{nil, {"shop"}, {"shop", "press"}}, [][]string{nil, {"shop", "press"}})
	for _, emulator := range []bool{true, false} {
		s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: emulator, Seed: shop,
			Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
		admin := newVisitor(t, s)
		createPerson(s, "root", adminroute.Admin)
		admin.signIn("root", password, "")
		paths := parseNavigation(admin.get("/console/rules"))
		require.True(t, len(paths) >= 15 && slices.Contains(paths, "/console/emulator") == emulator,
			"emulator %v: navigation of an admin = %q", emulator, paths)
		for _, role := range adminroute.Roles {
			for _, limit := range limits {
				if role == adminroute.Admin && len(limit) > 0 {
					continue // an admin cannot be limited
				}
				name := "a-" + string(role) + "-" + strings.Join(limit, "-")
				v := newUser(t, s, name, role, limit...)
				listedPaths := parseNavigation(v.get("/console/rules"))
				for _, path := range paths {
					status, listed := v.get(path).Status, slices.Contains(listedPaths, path)
					assert.True(t, listed == (status == http.StatusOK),
						"emulator %v, %s: %s is listed = %v, its status is %d", emulator, name, path, listed, status)
				}
			}
		}
	}
}
