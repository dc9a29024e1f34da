package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// tokenCases are lists of code texts of other systems, one of each form.
var tokenCases = []struct {
	name, template, text string // text is a format for the index
	gs1                  bool
}{
	{name: "14 letters", template: "https://old.example/c/{token:14}", text: "https://old.example/c/aBcDeFgHiJkL%02d"},
	{name: "tokens of mixed lengths", template: "https://old.example/m/{token:12-64}/x", text: "https://old.example/m/6f9619ff-8b86-%d/x"},
	{name: "Chinese in a query", template: "https://old.example/q?n={token:12-20}&v=1",
		text: "https://old.example/q?n=中文编号第一批白茶第%d号&v=1"},
	{name: "a GS1 Digital Link", template: "https://id.brand.example/01/09506000134352/21/{token:14}", gs1: true,
		text: "https://id.brand.example/01/09506000134352/21/aBcDeFgHiJkL%02d"},
}

// TestTokenCodes_FullLifecycle imports lists of texts and verifies that their codes behave as generated codes do: tickets, the page for
// buyers, the resolver of GS1 keys, alarms, and an export that another server imports.
func TestTokenCodes_FullLifecycle(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p := newInstance(t)
		config := func(c *server.Config) {
			c.Database, c.DevHost = p.database, []string{"old.example", "id.brand.example"}
		}
		w := startBrand(t, servertest.Options{Data: p.data, Config: config})
		w.Admin("PUT", "/settings", `{"gs1_hosts":["id.brand.example"]}`)
		ids := make([]int64, len(tokenCases))
		for i, c := range tokenCases {
			var batch client.Batch
			w.Admin("POST", "/accounts/brand/imported-batches", toJSON(t, client.NewImport{ISV: fmt.Sprint("old-", i), Count: 10,
				Text: c.template})).JSON(t, &batch)
			var lines strings.Builder
			for n := range 10 {
				fmt.Fprintf(&lines, c.text+"\n", n)
			}
			a := importRows(w.Server, batch.ID, 1, lines.String())
			require.True(t, a.Status == http.StatusOK, "%s: %d %s", c.name, a.Status, a.Body)
			ids[i] = batch.ID
			w.activate(batch.ID, 0, 8)
		}
		for i, c := range tokenCases {
			text := fmt.Sprintf(c.text, 7)
			w.checkOpens(c.name, text, ids[i], 7)
			assert.Equal(t, w.callScan("resolve", "alice", fmt.Sprintf(c.text, 9)).Reason, "not_active", "%s: the last code", c.name)
			assert.Equal(t, w.callScan("resolve", "alice", strings.Replace(fmt.Sprintf(c.text, 10), "/x", "x/x", 1)).Reason, "unknown_code",
				"%s: a text that is not in the list", c.name)
			genuine := func() bool {
				page := w.fetchPage(text)
				require.Equal(t, page.Status, http.StatusOK, "%s: the page for buyers", c.name)
				return strings.Contains(page.Body, "A genuine code")
			}
			assert.True(t, genuine(), "%s: the page of a genuine code", c.name)
			for user := range 40 {
				body := fmt.Sprintf(`{"text":%q,"user":"user %d","ip":"10.%d.1.1"}`, text, user, user)
				a := w.Do("POST", "/scan/v1/resolve", body)
				require.True(t, strings.Contains(a.Body, "open_mini_program"), "%s: scan %d: %s", c.name, user, a.Body)
			}
			w.Admin("GET", "/statistics?wait=true", "")
			a := w.Admin("GET", fmt.Sprintf("/alarms?application_id=%d", ids[i]), "")
			assert.True(t, strings.Count(a.Body, `"kind":"copied"`) == 1 && strings.Contains(a.Body, `"code_index":7,`),
				"%s: alarms %s, want one for code 7", c.name, a.Body)
			assert.True(t, !genuine(), "%s: the page of a code with an alarm", c.name)
			a = w.TryAdmin("POST", fmt.Sprintf("/batches/%d/packages", ids[i]), `{"code_start":0,"code_end":0,"proofs":3,"printer":"acme"}`)
			assert.True(t, a.Status == 422 && strings.Contains(a.Body, "no proof codes"), "%s: a package with proof codes: %d %s", c.name,
				a.Status, a.Body)
			if !c.gs1 {
				continue
			}
			a = w.Do("POST", "/admin/v1/import/gs1", `{"key":"01/09506000134352","links":[{"linktype":"gs1:pip",`+
				`"href":"https://brand.example/tea","title":"Tea","default":true}]}`+"\n", "Authorization: Bearer "+servertest.AdminToken,
				"Content-Type: application/x-ndjson")
			require.Equal(t, a.Status, http.StatusOK, "importing a link: %s", a.Body)
			a = w.fetchPage(text)
			assert.True(t, a.Status == http.StatusTemporaryRedirect && a.Header.Get("Location") == "https://brand.example/tea",
				"%s: with a link, a browser gets %d to %q", c.name, a.Status, a.Header.Get("Location"))
			w.checkOpens(c.name+" with a link", fmt.Sprintf(c.text, 6), ids[i], 6)
		}

		file := exportArchive(t, w.Server)
		w.RegisterSecret(passphrase)
		target := newInstance(t)
		target.restore(t, file)
		restored := brandServer{target.start(t, servertest.Options{}), t}
		key := restored.NewKey("/scan-keys", `{"name":"app"}`)
		for i, c := range tokenCases {
			d := restored.callScan("resolve", "alice", fmt.Sprintf(c.text, 3), "Authorization: Bearer "+key)
			assert.True(t, d.Action == "open_mini_program" && d.Matched.ApplicationID == ids[i] && *d.Matched.CodeIndex == 3,
				"%s: a scan after the restore: %+v", c.name, d)
			list := restored.Admin("GET", fmt.Sprintf("/batches/%d/codes?from=7&to=7", ids[i]), "").Body
			assert.True(t, strings.Contains(list, fmt.Sprintf(c.text, 7)), "%s: its list after the restore is %s", c.name, list)
			body := restored.Admin("GET", fmt.Sprintf("/alarms?application_id=%d", ids[i]), "").Body
			assert.Equal(t, strings.Count(body, `"kind":"copied"`), 1, "%s: alarms after the restore", c.name)
		}
	})
}
