package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/edge/console"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestReadOnlyRoles_SeeDataOfTheirAccounts verifies that a viewer and an editor of rules, each limited to one account, read statistics,
// scans, alarms, unmatched scans and codes of that account only, without the texts of codes and without buttons that the server would
// refuse.
func TestReadOnlyRoles_SeeDataOfTheirAccounts(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch := s.Apply("press", "<b>order", 10_000)
	code := s.CodeText(batch, 7)
	key := newScanKey(s)
	scanByUsers(s, code, 60, "Authorization: Bearer "+key)
	s.Admin("GET", "/statistics?wait=true", "")
	for _, role := range []adminroute.Role{adminroute.Viewer, adminroute.RulesEditor} {
		for _, account := range []string{"press", "shop"} {
			name := string(role) + "-" + account
			v := newUser(t, s, name, role, account)
			permitted := account == "press"
			for path, text := range map[string]string{"/console/alarms": fmt.Sprint(batch, ":7"),
				"/console/statistics/scans":           fmt.Sprint(batch, ":7"),
				"/console/statistics?by=&group=batch": fmt.Sprint(batch)} {
				if p := v.get(path); p.Status != http.StatusOK || strings.Contains(p.Body, text) != permitted {
					t.Errorf("%s reads %s: status %d, shows %s = %v, want %v", name, path, p.Status, text, !permitted, permitted)
				}
			}
			want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[permitted]
			for _, path := range []string{"/console/alarms/1", fmt.Sprint("/console/codes?code=", batch, ":7"),
				fmt.Sprint("/console/codes/", batch)} {
				p := v.get(path)
				assert.True(t, p.Status == want || !permitted && p.Status == http.StatusNotFound,
					"%s reads %s: status %d, want %d", name, path, p.Status, want)
				for _, hidden := range []string{code, `value="dismiss"`, `value="freeze"`, `value="share"`} {
					p.wantNoText(t, hidden)
				}
			}
			v.changesNothing(s, name, strings.NewReplacer("{batch}", fmt.Sprint(batch), "{appid}", account), role)
		}
	}
}

// changesNothing sends a form to each route that accepts changes and verifies that the server refuses it. It skips forms that concern only
// the sender or only look something up.
func (v *visitor) changesNothing(s *servertest.Server, name string, fill *strings.Replacer, role adminroute.Role) {
	v.t.Helper()
	exempt := []string{"/login", "/login/callback", "/logout", "/preferences/{of}", "/self", "/sessions", "/see-as", "/scan", "/scan/frame"}
	rules := []string{"/rules", "/rules/new", "/rules/edit", "/rules/do", "/rules/undo", "/rules/import", "/operate/bulk", "/gs1/key",
		"/gs1/import"}
	forms := map[string]string{"/alarms": "did=dismiss&id=1&note=x", "/statistics": "did=share&lasts=7",
		"/codes": "did=freeze&from=7&to=7&sure=1&batch={batch}", "/codes/{batch}/alarm": "did=set&threshold=7",
		"/codes/{batch}/serials": "serials=7,TEA-7", "/orders": "did=ask&account={appid}&code_count=10000&isv_application_id=x",
		"/packages": "batch={batch}&from=0&to=9&printer=x", "/accounts/{appid}": "did=delete&sure=1&revision=1",
		"/rules": "did=delete&sure=1&selected={appid}+https://shop.example/", "/accounts": "appid=new&kind=mini_program&name=x",
		"/people": "did=add&name=x&role=viewer", "/operate/settings": "publish_quota=1"}
	sent := 0
	for _, route := range console.Routes() {
		path, accepts := strings.CutPrefix(route, "POST /console")
		if !accepts || slices.Contains(exempt, path) || role == adminroute.RulesEditor && slices.Contains(rules, path) {
			continue
		}
		sent++
		before := s.Admin("GET", "/changes?newest=true&limit=1", "").Body
		form := require.Value(url.ParseQuery(fill.Replace(forms[path])))(v.t)
		p := v.post("/console"+fill.Replace(path), form)
		assert.True(v.t, forms[path] == "" || p.Status == http.StatusForbidden,
			"%s sends %q to %s: status %d, want 403", name, forms[path], path, p.Status)
		after := s.Admin("GET", "/changes?newest=true&limit=1", "").Body
		assert.Equal(v.t, after, before, "%s sends %q to %s: the audit log has a new entry", name, forms[path], path)
	}
	assert.True(v.t, sent >= 20, "%d forms were sent, want at least 20", sent)
}
