package server_test

import (
	_ "embed"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

//go:embed testdata/seeds/two_shops.yaml
var twoShops string

// newAdminKey creates an admin key and returns a function that calls the admin API with it.
func newAdminKey(t *testing.T, s *servertest.Server, body string) func(method, path, body string) servertest.Answer {
	t.Helper()
	created := servertest.Decode[struct{ Key string }](t, s.Admin("POST", "/admin-keys", body))
	s.RegisterSecret(created.Key)
	return func(method, path, body string) servertest.Answer {
		return s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+created.Key, "Content-Type: application/json")
	}
}

// TestScopedKey_RejectsOtherAccounts verifies that a key limited to accounts is rejected by every operation except those that are known to
// check the account. It would find a new operation without that check.
func TestScopedKey_RejectsOtherAccounts(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: twoShops, Config: nil})
	batch := s.Apply("brand", "a", 10_000)
	s.Admin("POST", fmt.Sprintf("/batches/%d/packages", batch), `{"code_start":0,"code_end":9,"printer":"p"}`)
	calls := map[adminroute.Role]func(string, string, string) servertest.Answer{}
	for _, role := range roles[:len(roles)-1] {
		calls[role] = newAdminKey(t, s, fmt.Sprintf(`{"name":%q,"role":%[1]q,"accounts":["shop"]}`, role))
	}
	owned := []string{"listScans", "exportScans", "getStatistics", "listUnmatched", "exportStatistics", "exportUnmatched", "listAlarms",
		"listCases", "exportAlarms", "listSharedCharts"}
	forAll := []string{"listAccounts", "listBehaviours", "getSettings", "getPackageSigner", "listOrders", "listRules", "listBatches",
		"search", "completeAccounts", "completeRules", "listGS1Links", "exportGS1Links"}
	fill := strings.NewReplacer("{appid}", "other", "{mini_program}", "other", "{application_id}", fmt.Sprint(batch), "{user}", "u",
		"{rid}", "00000000-00000000-00000000", "{component}", "c", "{seq}", "1", "{host}", "h", "{code_index}", "1", "{scan_id}", "x",
		"{node}", "n", "{package}", "1", "{id}", "1", "{name}", "n", "{key...}", "01/09506000134352")
	for _, o := range servertest.Operations() {
		for role, call := range calls {
			a := call(o.Method, fill.Replace(o.Path), "")
			ok := a.Status == http.StatusForbidden
			if slices.Contains(forAll, o.ID) {
				ok = a.Status == http.StatusOK
			}
			if slices.Contains(owned, o.ID) && role.AtLeast(o.Least) { // scoped_key_scans.txt
				ok = a.Status == http.StatusOK
			}
			withInput := []string{"lookupCode", "resolveAsOf", "getScan", "acknowledgeAlarm", "dismissAlarm", "createCase", "getCase",
				"putCase", "getCaseSheet", "getRuleHistory",
				"listRuleConflicts", "replayPlan", "addGS1Links", "getGS1Links", "putGS1Links", "deleteGS1Links", "undoGS1Change",
				"importGS1Links", "shareChart", "revokeSharedChart"} // permitted, but the request is invalid
			if slices.Contains(withInput, o.ID) && role.AtLeast(o.Least) {
				ok = slices.Contains([]int{http.StatusUnprocessableEntity, http.StatusBadRequest, http.StatusNotFound,
					http.StatusUnsupportedMediaType}, a.Status)
			}
			if o.ID == "getCall" && role == adminroute.Operator {
				ok = a.Status == http.StatusNotFound // the call log has no such call
			}
			if slices.Contains([]string{"lookupAuthorization", "grantAuthorization"}, o.ID) && role == adminroute.Operator {
				ok = a.Status == http.StatusBadRequest // the account is in the body: TestAgreeReference_SingleUse
			}
			assert.True(t, ok, "%s %s (%s) by %s of shop: %d %.200s", o.Method, o.Path, o.ID, role, a.Status, a.Body)
		}
	}
	calls[adminroute.Operator]("POST", "/rules/plan/replay", `{"days":1,"changes":[{"action":"delete","owner":"other","prefix":"https://o.x/"}]}`).
		WantStatus(t, http.StatusForbidden, "a replay of another account's rule")
}

// TestViewerRole_URLsRedactedToHost verifies that every GET operation shows only the host of receiver URLs to roles that cannot change
// them, because the rest of the URL may contain a secret.
func TestViewerRole_URLsRedactedToHost(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: brand})
	const address = "https://receiver.example/hook/n0t-for-viewers?token=n0t-for-viewers"
	s.Admin("POST", "/webhooks", `{"url":"`+address+`","alarms":true}`)
	s.Admin("PUT", "/components/isv", `{"event_url":"`+address+`","message_token":"t","encoding_aes_key":"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}`)
	s.Admin("PUT", "/accounts/shop", `{"kind":"mini_program","message_url":"`+address+`"}`)
	values := strings.NewReplacer("{appid}", "shop", "{component}", "isv", "{name}", "alice")
	parameter := regexp.MustCompile(`\{[^}]*\}`)
	counts := map[string]int{}
	for _, role := range []string{"viewer", "marketer", "rules-editor", "operator"} {
		call := newAdminKey(t, s, `{"name":"`+role+`","role":"`+role+`"}`)
		for _, o := range servertest.Operations() {
			if o.Method != "GET" {
				continue
			}
			a := call("GET", parameter.ReplaceAllString(values.Replace(o.Path), "1"), "")
			if a.Status == http.StatusOK && strings.Contains(a.Body, "receiver.example") {
				counts[role]++
			}
			assert.True(t, role == "operator" || !strings.Contains(a.Body, "n0t-for-viewers"),
				"%s as %s: %.500s, want the host of the address alone", o.ID, role, a.Body)
		}
	}
	assert.True(t, counts["viewer"] >= 4 && counts["operator"] >= 4,
		"the host is shown by %v operations, want at least 4 each: of webhooks, platforms and accounts", counts)
}
