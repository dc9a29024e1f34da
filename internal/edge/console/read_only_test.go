package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// A viewer and an editor of rules, each limited to one account, read statistics, scans, alarms, unmatched scans and codes of that account,
// but neither the text of a code nor anything of another account, and have no button that the server would refuse.
func TestReadOnlyRoles_SeeDataOfTheirAccounts(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch := applied(t, s)
	var code struct {
		Text string `json:"code_url"`
	}
	s.Admin("POST", "/codes/lookup", fmt.Sprintf(`{"application_id":%d,"code_index":7}`, batch)).JSON(t, &code)
	key := scanKey(t, s)
	for i := range 60 {
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u%d","ip":"10.%d.%d.1"}`, code.Text, i, i, i),
			"Authorization: Bearer "+key)
	}
	s.Admin("GET", "/statistics?wait=true", "")
	for _, role := range []adminroute.Role{adminroute.Viewer, adminroute.RulesEditor} {
		for _, account := range []string{"press", "shop"} {
			name := string(role) + "-" + account
			s.Admin("POST", "/people", fmt.Sprintf(`{"name":%q,"role":%q,"accounts":[%q],"password":%q}`, name, role, account, password))
			v := request(t, s)
			v.signIn(name, password, "")
			own := account == "press"
			for path, shows := range map[string]string{"/console/alarms": fmt.Sprint(batch, ":7"),
				"/console/statistics/scans":           fmt.Sprint(batch, ":7"),
				"/console/statistics?by=&group=batch": fmt.Sprint(batch)} {
				if p := v.get(path); p.Status != http.StatusOK || strings.Contains(p.Body, shows) != own {
					t.Errorf("%s reads %s: status %d, shows %s = %v, want %v", name, path, p.Status, shows, !own, own)
				}
			}
			want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[own]
			for _, path := range []string{"/console/alarms/1", fmt.Sprint("/console/codes?code=", batch, ":7"),
				fmt.Sprint("/console/codes/", batch)} {
				p := v.get(path)
				if p.Status != want && (own || p.Status != http.StatusNotFound) {
					t.Errorf("%s reads %s: status %d, want %d", name, path, p.Status, want)
				}
				for _, hidden := range []string{code.Text, `value="dismiss"`, `value="freeze"`, `value="share"`} {
					if strings.Contains(p.Body, hidden) {
						t.Errorf("%s reads %s: the page has %s", name, path, hidden)
					}
				}
			}
			for path, form := range map[string]string{"/console/alarms": "did=dismiss&id=1&note=x",
				"/console/statistics": "did=share&lasts=7",
				"/console/codes":      fmt.Sprint("did=freeze&from=7&to=7&sure=1&batch=", batch)} {
				if p := v.post(path, fieldsIn(t, form)); p.Status != http.StatusForbidden {
					t.Errorf("%s sends %s to %s: status %d, want 403", name, form, path, p.Status)
				}
			}
		}
	}
}

// fieldsIn is a form as a query has it.
func fieldsIn(t *testing.T, form string) url.Values {
	t.Helper()
	values, err := url.ParseQuery(form)
	require.NoError(t, err)
	return values
}
