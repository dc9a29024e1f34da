package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// conditionalChange is a request that changes one object and takes If-Match.
type conditionalChange struct {
	path, body string
	// getPath returns the object; if it returns a list, field and value select the object.
	getPath, field, value string
}

// readConditionalChanges returns the changes that take If-Match, by operation id.
func readConditionalChanges(t *testing.T) map[string]conditionalChange {
	list := map[string]conditionalChange{}
	for _, row := range testtable.Rows(t, "testdata/guarded_changes.txt", 6) {
		list[row[0]] = conditionalChange{row[1], row[2], row[3], row[4], row[5]}
	}
	return list
}

// revisionedPath matches paths of objects with a revision. An operation that changes one takes If-Match, except checkRule, which changes
// nothing.
var revisionedPath = regexp.MustCompile(`^/(accounts|users|components|batches|webhooks|people|settings|cases)/\{|^/gs1/links/\{|^/settings$`)

// createRevisioned creates an object of each kind and returns a replacer for the placeholders of their ids.
func createRevisioned(t *testing.T, s *servertest.Server) *strings.Replacer {
	t.Helper()
	got := s.RunStoryFile("testdata/revised.txt")
	assert.Contains(t, s.Admin("GET", "/people", "").Body, `"revision":"`+got["people"]+`"`, "a POST of a person")
	assert.Contains(t, s.Admin("GET", "/webhooks", "").Body, `"revision":"`+got["webhooks"]+`"`, "a POST of a webhook")
	return strings.NewReplacer("BATCH", got["batch"], "IMPORTED", got["imported"], "HOOK", got["hook"], "GONE", got["gone"])
}

// callIfMatch calls the admin API with If-Match: * or a revision; "" = without the header.
func callIfMatch(s *servertest.Server, method, path, body, revision string) servertest.Answer {
	kind := "application/json"
	if strings.HasSuffix(path, "imported-codes") {
		kind = "text/plain"
	}
	header := []string{"Authorization: Bearer " + servertest.AdminToken, "Content-Type: " + kind}
	switch revision {
	case "":
	case "*":
		header = append(header, "If-Match: *")
	default:
		header = append(header, `If-Match: "`+revision+`"`)
	}
	return s.Do(method, "/admin/v1"+path, body, header...)
}

// revision returns the current revision of the object; "" = there is no such object.
func (c conditionalChange) revision(t *testing.T, s *servertest.Server, ids *strings.Replacer) string {
	t.Helper()
	a := callIfMatch(s, "GET", ids.Replace(c.getPath), "", "")
	var object struct{ Revision string }
	if a.Status == http.StatusNotFound {
		return ""
	}
	if c.field == "" {
		if a.JSON(t, &object); object.Revision == "" || a.Header.Get("ETag") != `"`+object.Revision+`"` {
			t.Fatalf("%s shows the revision %q and the ETag %s", c.getPath, object.Revision, a.Header.Get("ETag"))
		}
		return object.Revision
	}
	lists := servertest.Decode[map[string]json.RawMessage](t, a)
	for _, list := range lists {
		var things []map[string]any
		_ = json.Unmarshal(list, &things)
		for _, thing := range things {
			if fmt.Sprint(thing[c.field]) == ids.Replace(c.value) && thing["revision"] != "" {
				return thing["revision"].(string)
			}
		}
	}
	return ""
}

// formatUnique returns a body or path with n in it, so that each change differs.
func formatUnique(text string, n int) string {
	if strings.Contains(text, "%") {
		return fmt.Sprintf(text, n)
	}
	return text
}

// TestIfMatch_EveryMutation verifies that every operation that changes something either evaluates If-Match (if its path names an account, a
// rule, a component, a person, a webhook, settings, a batch, a case, a GS1 key or a branding) or rejects the header, and that every
// response with one object has its revision as ETag. It would find a new operation that takes If-Match without a row in
// guarded_changes.txt, and one that lacks If-Match although its path names such an object.
func TestIfMatch_EveryMutation(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(brand, "authorizations: [",
		"authorizations: [{appid: svc, permission_sets: [33]}, ", 1)})
	ids, changes := createRevisioned(t, s), readConditionalChanges(t)
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
		_, tagged := answer.Headers["ETag"]
		assert.True(t, !shows || tagged, "%s returns one object with its revision, want an ETag as well", o.ID)
		if o.Method == "GET" {
			continue
		}
		c, guarded := changes[o.ID]
		seen[o.ID] = true
		switch {
		case takes != guarded:
			t.Errorf("%s takes If-Match: %v, has a row in guarded_changes.txt: %v; want the same", o.ID, takes, guarded)
		case guarded:
			checkEvaluates(t, s, o, c, ids)
		case revisionedPath.MatchString(o.Path) && o.ID != "checkRule" && o.ID != "eraseUser":
			t.Errorf("%s %s changes an object with a revision, want it to take If-Match", o.Method, o.Path)
		default:
			checkRejects(t, s, o)
		}
	}
	for id := range changes {
		assert.True(t, seen[id], "guarded_changes.txt has the operation %s, which does not exist", id)
	}
}

// checkEvaluates makes a change with an outdated revision, which must change nothing, with the current one, and with any revision.
func checkEvaluates(t *testing.T, s *servertest.Server, o adminroute.Route, c conditionalChange, ids *strings.Replacer) {
	t.Helper()
	call := func(n int, revision string) servertest.Answer {
		return callIfMatch(s, o.Method, formatUnique(ids.Replace(c.path), n), formatUnique(ids.Replace(c.body), n), revision)
	}
	now, before := c.revision(t, s, ids), newestIDs(t, s)
	a := call(1, "another")
	var p client.Problem
	if a.JSON(t, &p); a.Status != 412 || p.Type != client.ProblemPreconditionFailed || p.Revision() != now || now == "" ||
		p.Changes == nil || p.Detail == "" || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s of another revision: %d %s, want 412 with the revision %q", o.ID, a.Status, a.Body, now)
	}
	assert.Equal(t, newestIDs(t, s), before, "%s of another revision", o.ID)
	a = call(1, now)
	assert.True(t, a.Status/100 == 2, "%s of the revision that is there: %d %s, want success", o.ID, a.Status, a.Body)
	// A change that is possible only once is rejected the second time, both with If-Match: * and without.
	exists := c.revision(t, s, ids) != ""
	anyRev, unconditional := call(2, "*"), call(3, "")
	want := unconditional.Status
	assert.True(t, (!exists || anyRev.Status == want || anyRev.Status/100 == 2) && (exists || anyRev.Status == 412),
		"%s of any revision: %d %s, want %d as without it, or 412 where nothing is there", o.ID, anyRev.Status, anyRev.Body, want)
}

// checkRejects verifies that an operation without preconditions rejects each precondition before it reads its parameters.
func checkRejects(t *testing.T, s *servertest.Server, o adminroute.Route) {
	t.Helper()
	path, before := regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(o.Path, "1"), newestIDs(t, s)
	for _, header := range []string{`If-Match: "another"`, "If-Match: *", "If-None-Match: *", `If-None-Match: "another"`} {
		a := s.Do(o.Method, "/admin/v1"+path, "{}", "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json",
			header)
		var p client.Problem
		const want = "this operation has no preconditions: send it without If-Match and If-None-Match"
		if a.JSON(t, &p); a.Status != http.StatusBadRequest || p.Detail != want {
			t.Errorf("%s with %s: %d %s, want 400 %q", o.ID, header, a.Status, a.Body, want)
		}
	}
	assert.Equal(t, newestIDs(t, s), before, "%s rejected", o.ID)
}

// newestIDs returns the seq of the last change and the id of the last delivery to a webhook.
func newestIDs(t *testing.T, s *servertest.Server) (last [2]int64) {
	t.Helper()
	var list struct {
		Changes    []auditEntry
		Deliveries []client.Delivery
	}
	s.Admin("GET", "/changes?newest=true&limit=1", "").JSON(t, &list)
	s.Admin("GET", "/deliveries?limit=1", "").JSON(t, &list)
	last[0] = list.Changes[0].Seq
	if len(list.Deliveries) > 0 {
		last[1] = list.Deliveries[0].ID
	}
	return last
}

// TestPlatformUpdate_ConcurrentPartialUpdates changes different fields of a component concurrently. It would find an update that reads the
// component before its transaction, so that one change undoes the other.
func TestPlatformUpdate_ConcurrentPartialUpdates(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		s := newInstance(t).start(t, servertest.Options{Seed: brand})
		for n := range 40 {
			var both sync.WaitGroup
			for _, body := range []string{`{"redirect_hosts":["h%d.example"]}`, `{"ip_allowlist":["10.0.0.%d/32"]}`} {
				both.Go(func() { callIfMatch(s, "PUT", "/components/isv", fmt.Sprintf(body, n), "") })
			}
			both.Wait()
			now := s.Admin("GET", "/components/isv", "").Body
			require.True(t, strings.Contains(now, fmt.Sprintf(`"h%d.example"`, n)) &&
				strings.Contains(now, fmt.Sprintf(`"10.0.0.%d/32"`, n)), "round %d: component = %s, want both changes", n, now)
		}
	})
}

// TestIfMatch_ConcurrentUpdatesOneWins runs two updates of the same revision concurrently, on one server or on two nodes. One must succeed,
// and the other return 412 with the actor of the first.
func TestIfMatch_ConcurrentUpdatesOneWins(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		p := newInstance(t)
		first := p.start(t, servertest.Options{Seed: brand})
		both := []*servertest.Server{first, first}
		if p.database != "" {
			both[1] = p.addNode(t).start(t, servertest.Options{Seed: brand})
		}
		ids := createRevisioned(t, first)
		for _, id := range []string{"putAccount", "putAppearance", "putComponent", "editRule", "putWebhook", "putSettings",
			"updatePerson", "putBatchAlarm", "putCase"} {
			c := readConditionalChanges(t)[id]
			method := "PUT"
			if id == "updatePerson" {
				method = "PATCH"
			}
			last := ""
			for n := range 4 {
				now := last
				eventually(t, "the other node's setting", func() bool {
					now = c.revision(t, first, ids)
					return now != last
				})
				last = now
				answers := make([]servertest.Answer, len(both))
				var racing sync.WaitGroup
				for i, s := range both {
					racing.Go(func() {
						answers[i] = callIfMatch(s, method, ids.Replace(c.path), formatUnique(ids.Replace(c.body), 2*n+i+1), now)
					})
				}
				racing.Wait()
				won := 0
				for _, a := range answers {
					switch {
					case a.Status == http.StatusOK:
						won++
					case a.Status != http.StatusPreconditionFailed || !strings.Contains(a.Body, `"actor":"admin"`):
						t.Errorf("%s: %d %s, want 200, or 412 with the actor", id, a.Status, a.Body)
					}
				}
				assert.True(t, won == 1, "%s: %d of two concurrent changes succeeded, want 1: %v", id, won, answers)
			}
		}
	})
}
