package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/operations"
	"github.com/qrjump/qrjump/internal/server/servertest"
)

// guardedChange is a change of one thing.
type guardedChange struct {
	path, body string
	// thing is where the thing is shown, and at the field by which a list finds it.
	thing, field, value string
}

// guardedChanges are the changes that take If-Match, by their operations. BATCH and HOOK
// stand for ids.
var guardedChanges = map[string]guardedChange{
	"putAccount":            {"/accounts/shop", `{"kind":"mini_program","name":"%d","versions":["release"]}`, "/accounts/shop", "", ""},
	"setVersions":           {"/accounts/shop/versions", `{"versions":["release","trial"]}`, "/accounts/shop", "", ""},
	"setJump":               {"/accounts/shop/jump", `{"open":true}`, "/accounts/shop", "", ""},
	"deleteAccount":         {"/accounts/gone", ``, "/accounts/gone", "", ""},
	"deleteComponent":       {"/components/gone-isv", ``, "/components/gone-isv", "", ""},
	"endTokens":             {"/accounts/shop/tokens", ``, "/accounts/shop", "", ""},
	"putMember":             {"/accounts/shop/members/u%d", `{"role":"trial"}`, "/accounts/shop", "", ""},
	"deleteMember":          {"/accounts/shop/members/u", ``, "/accounts/shop", "", ""},
	"putLink":               {"/accounts/svc/links/shop", ``, "/accounts/svc", "", ""},
	"deleteLink":            {"/accounts/svc/links/shop", ``, "/accounts/svc", "", ""},
	"putAppearance":         {"/accounts/shop/appearance", `{"help":"https://help.example/%d"}`, "/accounts/shop/appearance", "", ""},
	"withdrawFromAccount":   {"/accounts/shop/authorizations/isv", ``, "/accounts/shop", "", ""},
	"putComponent":          {"/components/isv", `{"redirect_hosts":["h%d.example"]}`, "/components/isv", "", ""},
	"withdrawAuthorization": {"/components/isv/authorizations/svc", ``, "/components/isv", "", ""},
	"editRule": {"/accounts/shop/rules", `{"prefix":"https://shop.example/own/","path":"p%d"}`, "/rules?owner=shop", "prefix",
		"https://shop.example/own/"},
	"publishRule": {"/accounts/shop/rules/publish", `{"prefix":"https://shop.example/own/"}`, "/rules?owner=shop", "prefix",
		"https://shop.example/own/"},
	"deleteRule": {"/accounts/shop/rules?prefix=https://shop.example/gone/", ``, "/rules?owner=shop", "prefix",
		"https://shop.example/gone/"},
	"bindSerials": {"/batches/BATCH/serials", `{"serials":[{"code_index":%d,"serial":"number-%[1]d"}]}`, "/batches/BATCH", "", ""},
	"importCodes": {"/batches/IMPORTED/imported-codes",
		strings.Repeat("0", 361) + " 044GZ*J10 0 P.URL.CN/0ALL$V2QCNVRHYPO:K3\n", "/batches/IMPORTED", "", ""},
	"putBatchAlarm": {"/batches/BATCH/alarm", `{"threshold":%d}`, "/batches/BATCH/alarm", "", ""},
	"putWebhook":    {"/webhooks/HOOK", `{"url":"https://receiver.example/%d","alarms":true}`, "/webhooks", "id", "HOOK"},
	"deleteWebhook": {"/webhooks/HOOK", ``, "/webhooks", "id", "HOOK"},
	"putSettings":   {"/settings", `{"webhook_days":%d}`, "/settings/described", "name", "webhook_days"},
	"resetSetting":  {"/settings/rule_limit", ``, "/settings/described", "name", "rule_limit"},
	"putGS1Links": {"/gs1/links/01/09506000134352", `{"wxa_path":"p%d","wxa_appid":"shop","links":[]}`,
		"/gs1/links/01/09506000134352", "", ""},
	"deleteGS1Links": {"/gs1/links/01/09506000134369", ``, "/gs1/links/01/09506000134369", "", ""},
	"changePerson":   {"/people/alice", `{"accounts":["shop"],"password":"a very long word %d"}`, "/people", "name", "alice"},
	"signOutPerson":  {"/people/alice/sessions", ``, "/people", "name", "alice"},
	"deletePerson":   {"/people/bob", ``, "/people", "name", "bob"},
}

// unguardedChanges are those of things that have no revision, with the reason.
var unguardedChanges = map[string]string{
	"eraseUser": "what is erased is counted, not edited", "putDomain": "a word about a host, said whole", "deleteDomain": "likewise",
	"forgetScanNode": "a node comes and goes by itself", "forgetDeviations": "a list that callers fill",
	"deleteScanKey": "a key never changes", "endSharedChart": "it never changes",
	"deleteAdminKey": "likewise", "moveClock": "the emulator's", "clearFaults": "the emulator's", "setStubs": "the emulator's",
	"clearStubs": "the emulator's", "saveSnapshot": "the emulator's", "deleteSnapshot": "the emulator's",
}

// revised is a server with one of each thing, and what stands for their ids.
func revised(t *testing.T, s *servertest.Server) *strings.Replacer {
	t.Helper()
	s.Admin("PUT", "/settings", `{"verification":"trust"}`)
	s.Admin("POST", "/accounts/shop/rules", `{"prefix":"https://shop.example/own/","path":"p"}`)
	s.Admin("POST", "/accounts/shop/rules", `{"prefix":"https://shop.example/gone/","path":"p"}`)
	s.Admin("PUT", "/accounts/gone", `{"kind":"mini_program"}`)
	s.Admin("PUT", "/components/gone-isv", `{"encoding_aes_key":"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}`)
	for _, gtin := range []string{"09506000134352", "09506000134369"} {
		s.Admin("PUT", "/gs1/links/01/"+gtin, `{"links":[]}`)
	}
	for _, name := range []string{"alice", "bob"} {
		s.Admin("POST", "/people", `{"name":"`+name+`","role":"rules"}`)
	}
	var hook client.WebhookAdded
	s.Admin("POST", "/webhooks", `{"url":"https://receiver.example/","alarms":true}`).JSON(t, &hook)
	s.Hide(hook.Secret)
	var imported, batch client.Batch
	s.Admin("POST", "/accounts/svc/imported-batches", `{"isv_application_id":"old","code_count":1,"prefix":"P.URL.CN/"}`).JSON(t, &imported)
	apply := "/intp/marketcode/applycode?access_token=" + s.Token("svc")
	s.Do("POST", apply, `{"code_count":10000,"isv_application_id":"order"}`).JSON(t, &batch)
	return strings.NewReplacer("BATCH", fmt.Sprint(batch.ID), "IMPORTED", fmt.Sprint(imported.ID), "HOOK", fmt.Sprint(hook.Webhook.ID))
}

// matched makes a change with If-Match; "" = without.
func matched(s *servertest.Server, method, path, body, revision string) servertest.Answer {
	kind := "application/json"
	if strings.HasSuffix(path, "imported-codes") {
		kind = "text/plain"
	}
	header := []string{"Authorization: Bearer " + servertest.AdminToken, "Content-Type: " + kind}
	if revision != "" {
		header = append(header, `If-Match: "`+revision+`"`)
	}
	return s.Do(method, "/admin/v1"+path, body, header...)
}

// revision is the one of a thing as the server shows it now.
func (c guardedChange) revision(t *testing.T, s *servertest.Server, ids *strings.Replacer) string {
	t.Helper()
	a := s.Admin("GET", ids.Replace(c.thing), "")
	var one struct{ Revision string }
	if c.field == "" {
		if a.JSON(t, &one); one.Revision == "" || a.Header.Get("ETag") != `"`+one.Revision+`"` {
			t.Fatalf("%s shows the revision %q and the ETag %s", c.thing, one.Revision, a.Header.Get("ETag"))
		}
		return one.Revision
	}
	var lists map[string]json.RawMessage
	a.JSON(t, &lists)
	for _, list := range lists {
		var things []map[string]any
		_ = json.Unmarshal(list, &things)
		for _, thing := range things {
			if fmt.Sprint(thing[c.field]) == ids.Replace(c.value) && thing["revision"] != "" {
				return thing["revision"].(string)
			}
		}
	}
	t.Fatalf("%s shows no revision of %s: %s", c.thing, c.value, a.Body)
	return ""
}

// filled is the body or path of a change, which no other has.
func filled(text string, n int) string {
	if strings.Contains(text, "%") {
		return fmt.Sprintf(text, n)
	}
	return text
}

// Issue 28: every operation that changes an account, a rule, a component, a person, a
// webhook, a setting, a batch or an appearance takes If-Match, and every answer that
// shows one alone has its revision. A new operation that is in no table fails the test.
func TestEveryChangeOfAThingTakesIfMatch(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(brand, "authorizations: [",
		"authorizations: [{appid: svc, permission_sets: [33]}, ", 1)})
	ids := revised(t, s)
	var document struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name string }
			Responses  map[string]struct {
				Headers map[string]any
				Content map[string]struct {
					Schema struct {
						Ref        string `json:"$ref"`
						Properties map[string]any
					}
				}
			}
		}
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	s.Do("GET", "/openapi.json", "").JSON(t, &document)
	seen := map[string]bool{}
	for _, o := range servertest.Operations() {
		described := document.Paths[o.Spelled()][strings.ToLower(o.Method)]
		takes := false
		for _, p := range described.Parameters {
			takes = takes || p.Name == "If-Match"
		}
		answer := described.Responses["200"]
		schema := answer.Content["application/json"].Schema
		_, shows := document.Components.Schemas[strings.TrimPrefix(schema.Ref, "#/components/schemas/")].Properties["revision"]
		if _, tagged := answer.Headers["ETag"]; shows && !tagged {
			t.Errorf("%s answers one thing with its revision, and no ETag", o.ID)
		}
		c, guarded := guardedChanges[o.ID]
		seen[o.ID] = true
		switch {
		case takes != guarded:
			t.Errorf("%s takes If-Match: %v; the tables of this test say %v", o.ID, takes, guarded)
		case guarded:
			stale(t, s, o, c, ids)
		case o.Method != "GET" && o.Method != "POST" && unguardedChanges[o.ID] == "":
			t.Errorf("%s %s stands in no table: does it change a thing that has a revision?", o.Method, o.Path)
		}
	}
	for _, id := range append(slices.Collect(maps.Keys(guardedChanges)), slices.Collect(maps.Keys(unguardedChanges))...) {
		if !seen[id] {
			t.Errorf("there is no operation %s", id)
		}
	}
}

// stale makes a change of what it read too long ago, which changes nothing, and of what it
// has just read.
func stale(t *testing.T, s *servertest.Server, o operations.Operation, c guardedChange, ids *strings.Replacer) {
	t.Helper()
	path, body := filled(ids.Replace(c.path), 1), filled(ids.Replace(c.body), 1)
	now, before := c.revision(t, s, ids), newestChange(t, s)
	a := matched(s, o.Method, path, body, "another")
	var p client.Problem
	if a.JSON(t, &p); a.Status != http.StatusPreconditionFailed || p.Type != client.ProblemChanged || p.Revision() != now ||
		p.Changes == nil || p.Detail == "" || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s of another revision: %d %s", o.ID, a.Status, a.Body)
	}
	if after := newestChange(t, s); after != before {
		t.Errorf("%s of another revision: change %d after %d", o.ID, after, before)
	}
	if a := matched(s, o.Method, path, body, now); a.Status/100 != 2 {
		t.Errorf("%s of the revision that is there: %d %s", o.ID, a.Status, a.Body)
	}
}

func newestChange(t *testing.T, s *servertest.Server) int64 {
	t.Helper()
	var list struct{ Changes []loggedChange }
	s.Admin("GET", "/changes?newest=true&limit=1", "").JSON(t, &list)
	return list.Changes[0].Seq
}

// Issue 28, 3: a change of a platform read it before its transaction, so that one of two partial changes undid the other.
func TestTwoPartialChangesOfAPlatformBothStay(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		s := where(t).start(t, servertest.Options{Seed: brand})
		for n := range 40 {
			var both sync.WaitGroup
			for _, body := range []string{`{"redirect_hosts":["h%d.example"]}`, `{"ip_allowlist":["10.0.0.%d/32"]}`} {
				both.Go(func() { matched(s, "PUT", "/components/isv", fmt.Sprintf(body, n), "") })
			}
			both.Wait()
			if now := s.Admin("GET", "/components/isv", "").Body; !strings.Contains(now, fmt.Sprintf(`"h%d.example"`, n)) ||
				!strings.Contains(now, fmt.Sprintf(`"10.0.0.%d/32"`, n)) {
				t.Fatalf("round %d: one of two changes is gone: %s", n, now)
			}
		}
	})
}

// Two people, on one server or on two nodes, change what they both read: one of them
// does, and the other hears who did.
func TestOneOfTwoRacingChangesWins(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		p := where(t)
		one := p.start(t, servertest.Options{Seed: brand})
		both := []*servertest.Server{one, one}
		if p.database != "" {
			both[1] = p.secondOf(t).start(t, servertest.Options{Seed: brand})
		}
		ids := revised(t, one)
		for _, id := range []string{"putAccount", "putAppearance", "putComponent", "editRule", "putWebhook", "putSettings",
			"changePerson", "putBatchAlarm"} {
			c := guardedChanges[id]
			method := "PUT"
			if id == "changePerson" {
				method = "PATCH"
			}
			last := ""
			for n := range 4 {
				now := last
				eventually(t, "the other node's setting", func() bool {
					now = c.revision(t, one, ids)
					return now != last
				})
				last = now
				answers := make([]servertest.Answer, len(both))
				var racing sync.WaitGroup
				for i, s := range both {
					racing.Go(func() {
						answers[i] = matched(s, method, ids.Replace(c.path), filled(ids.Replace(c.body), 2*n+i+1), now)
					})
				}
				racing.Wait()
				won := 0
				for _, a := range answers {
					switch {
					case a.Status == http.StatusOK:
						won++
					case a.Status != http.StatusPreconditionFailed || !strings.Contains(a.Body, `"actor":"admin"`):
						t.Errorf("%s: %d %s", id, a.Status, a.Body)
					}
				}
				if won != 1 {
					t.Errorf("%s: %d of two racing changes won: %v", id, won, answers)
				}
			}
		}
	})
}
