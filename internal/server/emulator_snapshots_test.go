package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestSnapshot_RestoresAllNodes verifies that loading a snapshot restores the complete state on every node, in the database and in memory.
func TestSnapshot_RestoresAllNodes(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		p, o := newInstance(t), servertest.Options{Seed: everythingSeed, Config: func(c *server.Config) { c.Emulator = true }}
		s := p.start(t, o)
		other := s
		if p.database != "" {
			other = p.addNode(t).start(t, o)
		}
		key := s.NewKey("/scan-keys", `{"name":"app"}`)
		other.RegisterSecret(key)
		var batch struct {
			ID int64 `json:"application_id"`
		}
		resolve := func(s *servertest.Server, link string) (d struct{ Action, Path string }) {
			a := s.Send(s.Request("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q}`, link), "Authorization: Bearer "+key))
			if a.Status == http.StatusOK {
				a.JSON(t, &d)
			}
			d.Path, _, _ = strings.Cut(d.Path, "?")
			return d
		}
		state := func(s *servertest.Server) string {
			clock := servertest.Decode[struct{ Now string }](t, s.Admin("GET", "/emulator/clock", ""))
			batches := s.Admin("GET", "/batches", "").Body
			return fmt.Sprint(clock.Now, resolve(s, "https://shop.example/seeded/x"), resolve(s, "https://shop.example/mine/"),
				s.Admin("GET", "/accounts/shop", "").Body, s.Admin("GET", "/settings", "").Body, batches,
				s.Do("GET", fmt.Sprintf("/admin/v1/batches/%d/events", batch.ID), "", adminAuth).Body,
				ruleIDPattern.ReplaceAllString(s.Do("GET", "/admin/v1/gs1/links/01/09506000134352", "", adminAuth).Body, ""))
		}
		seedBody := `{"seed":"settings: {publish_quota: 77}\n"}`
		s.Admin("POST", "/accounts/shop/rules", `{"prefix":"https://shop.example/mine/","path":"mine"}`)
		s.Admin("POST", "/accounts/shop/rules/publish", `{"prefix":"https://shop.example/mine/"}`)
		s.Admin("POST", "/emulator/seed", seedBody)
		s.Admin("PUT", "/emulator/clock", `{"now":"2031-01-01T00:00:00Z","freeze":true}`)
		token := s.Token("svc")
		apply := func(order string) servertest.Answer {
			return s.Do("POST", "/intp/marketcode/applycode?access_token="+token, `{"code_count":10000,"isv_application_id":"`+order+`"}`)
		}
		apply("first").JSON(t, &batch)
		s.Activate(batch.ID, 0, 9, "shop")
		s.Admin("PUT", "/gs1/links/01/09506000134352", `{"links":[]}`)
		want := state(s)
		require.True(t, strings.Contains(want, "mine}") && strings.Contains(want, "2031-01-01") && strings.Contains(want, "first"),
			"%v", want)
		saved := servertest.Decode[client.Snapshot](t, s.Admin("PUT", "/emulator/snapshots/base", ""))
		assert.True(t, saved.Name == "base" && saved.Rules == 2 && saved.Batches == 1, "%+v", saved)
		for range 2 { // a snapshot can be loaded repeatedly
			s.Admin("POST", "/emulator/reset", "")
			apply("second")
			s.Admin("PUT", "/emulator/clock", `{"now":"2040-01-01T00:00:00Z"}`)
			s.Admin("PUT", "/accounts/shop/jump", `{"open":false}`)
			require.True(t, state(s) != want, "the state before the load equals the snapshot, want changes")
			s.Admin("POST", "/emulator/snapshots/base/load", "")
			got := state(s)
			require.True(t, got == want, "after the load\n%s, want\n%s", got, want)
			eventually(t, "the other node", func() bool { return state(other) == want })
		}
		// The token from before the snapshot is valid, numbers continue, and the seed from before it is not applied again.
		a := apply("third")
		assert.True(t, a.Status == http.StatusOK && a.Code(t) == 0, "%d %s", a.Status, a.Body)
		seeded := servertest.Decode[struct{ Applied bool }](t, s.Admin("POST", "/emulator/seed", seedBody))
		assert.True(t, !seeded.Applied, "the seed was applied again")
		var verified struct {
			Fault any `json:"first_error"`
		}
		if s.Admin("POST", "/audit/verify", "").JSON(t, &verified); verified.Fault != nil {
			t.Error(verified.Fault)
		}
		checkRejectedNames(t, s)
	})
}

// TestSnapshot_RestoredWebhooksNewScansOnly verifies that a webhook restored by a snapshot gets only the scans after the load.
func TestSnapshot_RestoredWebhooksNewScansOnly(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		deliveries := make(chan string, 100)
		receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			assert.True(t, err == nil, "%v", err)
			deliveries <- string(body)
		}))
		t.Cleanup(receiver.Close)
		s := newInstance(t).start(t, servertest.Options{Seed: everythingSeed, Outbound: &safehttp.Client{},
			Config: func(c *server.Config) { c.Emulator = true }})
		s.Admin("PUT", "/settings", `{"allow_private_hosts":true}`)
		var key, hook struct{ Key, Secret string }
		s.Admin("POST", "/scan-keys", `{"name":"app"}`).JSON(t, &key)
		s.RegisterSecret(key.Key)
		list := servertest.Decode[struct{ Rules []struct{ ID int64 } }](t, s.Admin("GET", "/rules", ""))
		s.Admin("POST", "/webhooks", fmt.Sprintf(`{"url":%q,"rules":[%d]}`, receiver.URL, list.Rules[0].ID)).JSON(t, &hook)
		s.RegisterSecret(hook.Secret)
		scan := func(path string) {
			t.Helper()
			a := s.Send(s.Request("POST", "/scan/v1/resolve", `{"text":"https://shop.example/seeded/`+path+`"}`,
				"Authorization: Bearer "+key.Key))
			require.True(t, a.Status == http.StatusOK, "%v %v", a.Status, a.Body)
		}
		wantDelivery := func(path string) {
			t.Helper()
			require.Contains(t, (<-deliveries), "/seeded/"+path, "want the scan of %s", path)
		}
		scan("before")
		wantDelivery("before")
		// The load would send a pending delivery again.
		eventually(t, "the delivery", func() bool { return !strings.Contains(s.Admin("GET", "/deliveries", "").Body, `"pending"`) })
		s.Admin("PUT", "/emulator/snapshots/base", "")
		scan("saved")
		wantDelivery("saved")
		s.Admin("POST", "/emulator/reset", "")
		scan("reset") // there is no webhook
		s.Admin("POST", "/emulator/snapshots/base/load", "")
		for _, path := range []string{"after", "later"} {
			scan(path)
			wantDelivery(path)
		}
	})
}

const adminAuth = "Authorization: Bearer " + servertest.AdminToken

// ruleIDPattern matches the id of a GS1 key in the scan log, which a load assigns again.
var ruleIDPattern = regexp.MustCompile(`"rule_id":\d+`)

// checkRejectedNames verifies the status for unknown snapshots and invalid names.
func checkRejectedNames(t *testing.T, s *servertest.Server) {
	t.Helper()
	for call, want := range map[string]int{"POST /none/load": 404, "DELETE /none": 404, "PUT /..": 404, "PUT /.hidden": 422,
		"PUT /a%2Fb": 422, "PUT /" + strings.Repeat("a", 65): 422} {
		method, path, _ := strings.Cut(call, " ")
		s.Do(method, "/admin/v1/emulator/snapshots"+path, "", adminAuth).WantStatus(t, want, "%s", call)
	}
}
