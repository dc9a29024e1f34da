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

// adminKey makes a key and returns its id, and a function that calls with it.
func adminKey(t *testing.T, s *servertest.Server, body string) (string, func(method, path, body string) servertest.Answer) {
	t.Helper()
	made := servertest.Decode[struct{ ID, Key string }](t, s.Admin("POST", "/admin-keys", body))
	s.Hide(made.Key)
	return made.ID, func(method, path, body string) servertest.Answer {
		return s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+made.Key, "Content-Type: application/json")
	}
}

// A caller that is limited to accounts may call nothing that is not known to be theirs: an operation that is new and says
// nothing of accounts is refused.
func TestScopedKey_RejectsOtherAccounts(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: twoShops, Config: nil})
	batch := s.Apply("brand", "a", 10_000)
	s.Admin("POST", fmt.Sprintf("/batches/%d/packages", batch), `{"code_start":0,"code_end":9,"printer":"p"}`)
	calls := map[adminroute.Role]func(string, string, string) servertest.Answer{}
	for _, role := range roles[:len(roles)-1] {
		_, calls[role] = adminKey(t, s, fmt.Sprintf(`{"name":"k","role":%q,"accounts":["shop"]}`, role))
	}
	owned := []string{"listScans", "exportScans", "getStatistics", "listUnmatched", "exportStatistics", "exportUnmatched", "listAlarms",
		"listCases", "exportAlarms", "listSharedCharts"}
	everyone := []string{"listAccounts", "listBehaviours", "getSettings", "getPackageSigner", "listOrders", "listRules", "listBatches",
		"search", "completeAccounts", "completeRules", "listGS1Links", "exportGS1Links"}
	fill := strings.NewReplacer("{appid}", "other", "{mini_program}", "other", "{application_id}", fmt.Sprint(batch), "{user}", "u",
		"{rid}", "00000000-00000000-00000000", "{component}", "c", "{seq}", "1", "{host}", "h", "{code_index}", "1", "{scan_id}", "x",
		"{node}", "n", "{package}", "1", "{id}", "1", "{name}", "n", "{key...}", "01/09506000134352")
	for _, o := range servertest.Operations() {
		for role, call := range calls {
			a := call(o.Method, fill.Replace(o.Path), "")
			ok := a.Status == http.StatusForbidden
			if slices.Contains(everyone, o.ID) {
				ok = a.Status == http.StatusOK
			}
			if slices.Contains(owned, o.ID) && role.AtLeast(o.Least) { // scoped_key_scans.txt
				ok = a.Status == http.StatusOK
			}
			asks := []string{"lookupCode", "resolveAsOf", "getScan", "acknowledgeAlarm", "dismissAlarm", "createCase", "getCase",
				"putCase", "getCaseSheet", "getRuleHistory",
				"listRuleConflicts", "replayPlan", "addGS1Links", "getGS1Links", "putGS1Links", "deleteGS1Links", "undoGS1Change",
				"importGS1Links", "shareChart", "revokeSharedChart"} // and the question is a bad one
			if slices.Contains(asks, o.ID) && role.AtLeast(o.Least) {
				ok = slices.Contains([]int{http.StatusUnprocessableEntity, http.StatusBadRequest, http.StatusNotFound,
					http.StatusUnsupportedMediaType}, a.Status)
			}
			if o.ID == "getCall" && role == adminroute.Operator {
				ok = a.Status == http.StatusNotFound // there is none
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

// Issue 42, 12: what follows the host of an address may be a secret. A caller that cannot change the address sees the host alone,
// by every operation that a viewer may call.
func TestViewerRole_URLsRedactedToHost(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: brand})
	const address = "https://receiver.example/hook/n0t-for-viewers?token=n0t-for-viewers"
	s.Admin("POST", "/webhooks", `{"url":"`+address+`","alarms":true}`)
	s.Admin("PUT", "/components/isv", `{"event_url":"`+address+`","message_token":"t","encoding_aes_key":"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}`)
	s.Admin("PUT", "/accounts/shop", `{"kind":"mini_program","message_url":"`+address+`"}`)
	values := strings.NewReplacer("{appid}", "shop", "{component}", "isv", "{name}", "alice")
	parameter := regexp.MustCompile(`\{[^}]*\}`)
	shown := map[string]int{}
	for _, role := range []string{"viewer", "marketer", "rules-editor", "operator"} {
		_, call := adminKey(t, s, `{"name":"`+role+`","role":"`+role+`"}`)
		for _, o := range servertest.Operations() {
			if o.Method != "GET" {
				continue
			}
			a := call("GET", parameter.ReplaceAllString(values.Replace(o.Path), "1"), "")
			if a.Status == http.StatusOK && strings.Contains(a.Body, "receiver.example") {
				shown[role]++
			}
			assert.True(t, role == "operator" || !strings.Contains(a.Body, "n0t-for-viewers"),
				"%s as %s: %.500s, want the host of the address alone", o.ID, role, a.Body)
		}
	}
	assert.True(t, shown["viewer"] >= 4 && shown["operator"] >= 4,
		"the host is shown by %v operations, want at least 4 each: of webhooks, platforms and accounts", shown)
}
