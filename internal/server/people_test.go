package server_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

const twoShops = `
accounts:
  - {appid: shop, kind: mini_program, secret: the-secret-of-shop, certified: true, versions: [release]}
  - {appid: other, kind: mini_program, secret: the-secret-of-other, certified: true, versions: [release]}
  - {appid: brand, kind: service_account, secret: the-secret-of-brand, certified: true, features: [marketcode],
     marketcode_key: 0123456789abcdef, linked: [other]}
rules:
  - {owner: shop, prefix: "https://shop.example/", path: p, published: true}
settings: {verification: trust}
`

// adminKey makes a key and returns its id, and a function that calls with it.
func adminKey(t *testing.T, s *servertest.Server, body string) (string, func(method, path, body string) servertest.Answer) {
	t.Helper()
	var made struct{ ID, Key string }
	s.Admin("POST", "/admin-keys", body).JSON(t, &made)
	s.Hide(made.Key)
	return made.ID, func(method, path, body string) servertest.Answer {
		return s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+made.Key, "Content-Type: application/json")
	}
}

// Issue 17, 3: a key has a role, accounts, an end and a last use, and the audit log names it.
func TestAdminKey_Role(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: twoShops})
	_, call := adminKey(t, s, `{"name":"ci","role":"operator","accounts":["shop"],"expires_at":"2026-01-16T00:00:00Z"}`)
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/accounts/shop", "", 200}, {"GET", "/accounts/other", "", 403}, {"GET", "/rules?owner=shop", "", 200},
		{"GET", "/rules", "", 200}, {"GET", "/rules?owner=other", "", 403}, {"GET", "/settings", "", 200}, {"GET", "/people", "", 403},
		{"PUT", "/accounts/shop/jump", `{"open":false}`, 200}, {"PUT", "/accounts/other/jump", `{"open":false}`, 403},
		{"PUT", "/accounts/shop/links/other", "", 403}, {"PUT", "/settings", `{}`, 403}, {"GET", "/changes", "", 403},
		{"GET", "/users/u/openid?appid=other", "", 403}, {"POST", "/admin-keys", `{"name":"x","role":"admin"}`, 403},
	} {
		if a := call(c.method, c.path, c.body); a.Status != c.want && !(c.want == 200 && a.Status == 204) {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, a.Status, a.Body, c.want)
		}
	}
	for _, path := range []string{"/accounts", "/rules"} { // a list is of its accounts
		if list := call("GET", path, "").Body; !strings.Contains(list, `"shop"`) || strings.Contains(list, `"other"`) {
			t.Errorf("of %s it sees %s", path, list)
		}
	}
	if log := s.Admin("GET", "/changes?kind=account&key=shop&newest=true&limit=1", "").Body; !strings.Contains(log, `"actor":"key:ci"`) {
		t.Errorf("the log of changes names somebody else: %s", log)
	}
	if list := s.Admin("GET", "/admin-keys", "").Body; !strings.Contains(list, `"last_seen_at":"2026-01-15T`) ||
		strings.Contains(list, "qrk_") {
		t.Errorf("the list: %s", list)
	}
	s.Clock.Step(24 * time.Hour)
	if a := call("GET", "/accounts/shop", ""); a.Status != http.StatusUnauthorized {
		t.Errorf("after its end: %d", a.Status)
	}
	id, call := adminKey(t, s, `{"name":"second","role":"viewer"}`)
	if a := call("GET", "/accounts", ""); a.Status != 200 {
		t.Errorf("a new key: %d", a.Status)
	}
	s.Admin("DELETE", "/admin-keys/"+id, "")
	if a := call("GET", "/accounts", ""); a.Status != http.StatusUnauthorized {
		t.Errorf("a key that was deleted: %d", a.Status)
	}
}

// A caller that is limited to accounts may call nothing that is not known to be theirs: an operation that is new and says
// nothing of accounts is refused.
func TestScopedKey_RejectsOtherAccounts(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: twoShops, Config: nil})
	var batch struct {
		ID int64 `json:"application_id"`
	}
	s.Do("POST", "/intp/marketcode/applycode?access_token="+s.Token("brand"),
		`{"code_count":10000,"isv_application_id":"a"}`).JSON(t, &batch)
	s.Admin("POST", fmt.Sprintf("/batches/%d/packages", batch.ID), `{"code_start":0,"code_end":9,"printer":"p"}`)
	calls := map[adminroute.Role]func(string, string, string) servertest.Answer{}
	for _, role := range roles[:len(roles)-1] {
		_, calls[role] = adminKey(t, s, fmt.Sprintf(`{"name":"k","role":%q,"accounts":["shop"]}`, role))
	}
	owned := []string{"listScans", "exportScans", "getStatistics", "listUnmatched", "exportStatistics", "exportUnmatched", "listAlarms",
		"exportAlarms", "listSharedCharts"}
	everyone := []string{"listAccounts", "listBehaviours", "getSettings", "getPackageSigner", "listOrders", "listRules", "listBatches",
		"search", "completeAccounts", "completeRules", "listGS1Links", "exportGS1Links"}
	fill := strings.NewReplacer("{appid}", "other", "{mini_program}", "other", "{application_id}", fmt.Sprint(batch.ID), "{user}", "u",
		"{rid}", "00000000-00000000-00000000", "{component}", "c", "{seq}", "1", "{host}", "h", "{code_index}", "1", "{scan_id}", "x",
		"{node}", "n", "{package}", "1", "{id}", "1", "{name}", "n", "{key...}", "01/09506000134352")
	for _, o := range servertest.Operations() {
		for role, call := range calls {
			a := call(o.Method, fill.Replace(o.Path), "")
			ok := a.Status == http.StatusForbidden
			if slices.Contains(everyone, o.ID) {
				ok = a.Status == http.StatusOK
			}
			if slices.Contains(owned, o.ID) && role.AtLeast(o.Least) { // TestScopedKey_OwnScans
				ok = a.Status == http.StatusOK
			}
			asks := []string{"lookupCode", "resolveAsOf", "getScan", "acknowledgeAlarm", "dismissAlarm", "getRuleHistory",
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

// Issues 28 and 31: the key of some accounts is told why a link opens what it opens, by the rules of these accounts and by what anybody
// sees who scans it; never that another's rule waits to be published.
func TestScopedKey_ExplainOwnRules(t *testing.T) {
	t.Parallel()
	more := `rules:
  - {owner: other, prefix: 'https://other.example/secret/', path: pages/hidden/hidden}
  - {owner: other, prefix: 'https://other.example/open/', path: pages/open/open, published: true}
  - {owner: other, prefix: 'https://other.example/open/new/', path: pages/hidden/hidden}
  - {owner: shop, prefix: 'https://other.example/o/', path: pages/mine/mine}
`
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: strings.Replace(twoShops, "rules:\n", more, 1)})
	keyOf := func(body string) string {
		var made struct{ Key string }
		s.Admin("POST", "/admin-keys", body).JSON(t, &made)
		s.Hide(made.Key)
		return "Authorization: Bearer " + made.Key
	}
	limited, all := keyOf(`{"name":"ci","role":"viewer","accounts":["shop"]}`), keyOf(`{"name":"all","role":"viewer"}`)
	for _, c := range []struct{ body, action, path string }{
		{`{"text":"https://other.example/secret/1"}`, "open_url", ""},
		{`{"text":"https://other.example/secret/1","assume_published":true}`, "open_url", ""},
		{`{"text":"https://other.example/open/7","user":"eve"}`, "open_mini_program", "pages/open/open"},
		{`{"text":"https://other.example/open/new/7"}`, "open_url", ""}, // what waits there hides the shorter one
		{`{"text":"https://other.example/o/7","assume_published":true}`, "open_mini_program", "pages/mine/mine"},
		{`{"text":"https://other.example/z","assume":[{"owner":"shop","prefix":"https://other.example/z","path":"pages/z","published":true}]}`,
			"open_mini_program", "pages/z"},
	} {
		a := s.Do("POST", "/scan/v1/explain", c.body, limited)
		var said struct{ Action, Path string }
		a.JSON(t, &said)
		assert.True(t, said.Action == c.action && strings.HasPrefix(said.Path, c.path) && !strings.Contains(a.Body, "hidden") &&
			!strings.Contains(a.Body, `"owner":"other"`), "a key of shop explains %s: %d %s", c.body, a.Status, a.Body)
		near := strings.Contains(c.body, "secret") || strings.Contains(c.body, "open/")
		a = s.Do("POST", "/scan/v1/explain", c.body, all)
		assert.True(t, a.Status == http.StatusOK && strings.Contains(a.Body, `"owner":"other"`) == near,
			"a key of all accounts explains %s: %d %s", c.body, a.Status, a.Body)
	}
	s.Do("POST", "/scan/v1/explain", `{"text":"x","assume":[{"owner":"other","prefix":"https://other.example/z"}]}`,
		limited).WantStatus(t, http.StatusForbidden, "a key of shop assumes a rule of another")
}

// A link that a body asks for is one that putLink would refuse.
func TestScopedKey_LinkOtherAccount(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: twoShops})
	_, call := adminKey(t, s, `{"name":"ci","role":"operator","accounts":["brand"]}`)
	for linked, want := range map[string]int{"shop": http.StatusForbidden, "other": http.StatusOK} { // with other it is linked already
		a := call("PUT", "/accounts/brand", fmt.Sprintf(`{"kind":"service_account","certified":true,"linked":[%q]}`, linked))
		assert.True(t, a.Status == want, "linked with %s: %d %s", linked, a.Status, a.Body)
	}
	if got := s.Admin("GET", "/accounts/brand", "").Body; strings.Contains(got, `"shop"`) {
		t.Errorf("it is linked: %s", got)
	}
}

// Issue 31, 1: whoever is limited to accounts sees the scans of these alone, whatever the question, and is not refused.
func TestScopedKey_OwnScans(t *testing.T) {
	t.Parallel()
	two := "rules:\n  - {owner: other, prefix: 'https://other.example/', path: pages/hidden/hidden, published: true}\n"
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(twoShops, "rules:\n", two, 1)})
	for _, link := range []string{"https://shop.example/", "https://other.example/", "https://other.example/",
		"http://shop.example/nothing/1", "http://other.example/hidden/2", "https://nobody.example/hidden"} {
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q}`, link))
	}
	_, call := adminKey(t, s, `{"name":"ci","role":"marketer","accounts":["shop","brand"]}`)
	for path, want := range map[string]string{
		"/statistics?wait=true":                        `"scans":1,`,
		"/statistics?wait=true&group=owner":            `"value":"shop","scans":1,`,
		"/statistics?wait=true&group=rule":             `"scans":1,`,
		"/statistics?wait=true&rule=-":                 `"rows":[]`,
		"/statistics?wait=true&owner=brand":            `"rows":[]`,
		"/statistics?wait=true&count=users&owner=shop": `"rows":[`,
		"/statistics/unmatched?wait=true":              `{"locations":[{"location":"shop.example/nothing","scans":1}]}`,
		"/statistics/export?wait=true&group=owner":     "shop,1,",
		"/statistics/unmatched/export?wait=true":       "shop.example/nothing,1",
		"/scans":                                       `https://shop.example/`,
		"/scans?newest=10":                             `https://shop.example/`,
		"/scans?owner=brand":                           `"scans":[]`,
		"/scans/export":                                "https://shop.example/",
		"/alarms":                                      `{"alarms":[],"unacknowledged":0}`,
		"/history/resolve?at=2026-01-15T00:00:00Z&text=https://shop.example/": `"owner":"shop"`,
	} {
		a := call("GET", path, "")
		assert.True(t, a.Status == http.StatusOK && strings.Contains(a.Body, want) && !strings.Contains(a.Body, "hidden") &&
			!strings.Contains(a.Body, "other.example"), "GET %s: %d %s, want %s", path, a.Status, a.Body, want)
	}
	for _, path := range []string{"/statistics?owner=other", "/statistics?owner=-", "/statistics/unmatched?owner=other",
		"/scans?owner=other",
		"/scans/export?owner=other", "/alarms?owner=other", "/statistics/export?owner=other",
		"/history/resolve?at=2026-01-15T00:00:00Z&text=https://other.example/"} {
		if a := call("GET", path, ""); a.Status != http.StatusForbidden || strings.Contains(a.Body, "hidden") {
			t.Errorf("GET %s: %d %s", path, a.Status, a.Body)
		}
	}
	var page struct {
		Scans []struct {
			ID    string `json:"scan_id"`
			Owner string
		}
	}
	s.Admin("GET", "/scans", "").JSON(t, &page)
	for _, one := range page.Scans {
		want := http.StatusForbidden
		if one.Owner == "shop" {
			want = http.StatusOK
		}
		if a := call("GET", "/scans/"+one.ID, ""); a.Status != want {
			t.Errorf("scan %s of %q: %d, want %d", one.ID, one.Owner, a.Status, want)
		}
	}
	if a := s.Admin("GET", "/statistics?wait=true&group=owner", ""); !strings.Contains(a.Body, `"value":"other","scans":2,`) {
		t.Error(a.Body)
	}
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
