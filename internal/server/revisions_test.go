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

// guardedChange is a change of one thing.
type guardedChange struct {
	path, body string
	// thing is where the thing is shown, and at the field by which a list finds it.
	thing, field, value string
}

// guardedChanges returns the changes that take If-Match, by their operations.
func guardedChanges(t *testing.T) map[string]guardedChange {
	list := map[string]guardedChange{}
	for _, row := range testtable.Rows(t, "testdata/guarded_changes.txt", 6) {
		list[row[0]] = guardedChange{row[1], row[2], row[3], row[4], row[5]}
	}
	return list
}

// named are the parts of a path that name what has a revision: an operation that changes it there takes If-Match, apart from checkRule,
// which changes nothing.
var named = regexp.MustCompile(`^/(accounts|users|components|batches|webhooks|people|settings|cases)/\{|^/gs1/links/\{|^/settings$`)

// revised is a server with one of each thing, and what stands for their ids.
func revised(t *testing.T, s *servertest.Server) *strings.Replacer {
	t.Helper()
	got := s.Plant("testdata/revised.txt")
	assert.Contains(t, s.Admin("GET", "/people", "").Body, `"revision":"`+got["people"]+`"`, "a POST of a person")
	assert.Contains(t, s.Admin("GET", "/webhooks", "").Body, `"revision":"`+got["webhooks"]+`"`, "a POST of a webhook")
	return strings.NewReplacer("BATCH", got["batch"], "IMPORTED", got["imported"], "HOOK", got["hook"], "GONE", got["gone"])
}

// matched makes a change with If-Match, * or a revision; "" = without.
func matched(s *servertest.Server, method, path, body, revision string) servertest.Answer {
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

// revision is the one of a thing as the server shows it now; "" = there is no such thing.
func (c guardedChange) revision(t *testing.T, s *servertest.Server, ids *strings.Replacer) string {
	t.Helper()
	a := matched(s, "GET", ids.Replace(c.thing), "", "")
	var one struct{ Revision string }
	if a.Status == http.StatusNotFound {
		return ""
	}
	if c.field == "" {
		if a.JSON(t, &one); one.Revision == "" || a.Header.Get("ETag") != `"`+one.Revision+`"` {
			t.Fatalf("%s shows the revision %q and the ETag %s", c.thing, one.Revision, a.Header.Get("ETag"))
		}
		return one.Revision
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

// filled is the body or path of a change, which no other has.
func filled(text string, n int) string {
	if strings.Contains(text, "%") {
		return fmt.Sprintf(text, n)
	}
	return text
}

// Issues 28 and 42: every operation that changes something evaluates If-Match where it names an account, a rule, a component, a person, a
// webhook, a setting, a batch, a case, a GS1 key or an appearance, rejects the header elsewhere, and ignores it nowhere. Every answer that
// shows one thing alone has its revision as ETag. The operations are those of the table itself: a new one that takes If-Match without a
// line in guarded_changes.txt fails the test, and so does one that takes none although its path names a thing.
func TestIfMatch_EveryMutation(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(brand, "authorizations: [",
		"authorizations: [{appid: svc, permission_sets: [33]}, ", 1)})
	ids, changes := revised(t, s), guardedChanges(t)
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
		assert.True(t, !shows || tagged, "%s answers one thing with its revision, and no ETag", o.ID)
		if o.Method == "GET" {
			continue
		}
		c, guarded := changes[o.ID]
		seen[o.ID] = true
		switch {
		case takes != guarded:
			t.Errorf("%s takes If-Match: %v; guarded_changes.txt says %v", o.ID, takes, guarded)
		case guarded:
			evaluates(t, s, o, c, ids)
		case named.MatchString(o.Path) && o.ID != "checkRule" && o.ID != "eraseUser":
			t.Errorf("%s %s names a thing that has a revision, and takes no If-Match", o.Method, o.Path)
		default:
			rejects(t, s, o)
		}
	}
	for id := range changes {
		assert.True(t, seen[id], "there is no operation %s", id)
	}
}

// evaluates makes a change of what it read too long ago, which changes nothing, of what it has just read, and of whatever there is.
func evaluates(t *testing.T, s *servertest.Server, o adminroute.Route, c guardedChange, ids *strings.Replacer) {
	t.Helper()
	call := func(n int, revision string) servertest.Answer {
		return matched(s, o.Method, filled(ids.Replace(c.path), n), filled(ids.Replace(c.body), n), revision)
	}
	now, before := c.revision(t, s, ids), newest(t, s)
	a := call(1, "another")
	var p client.Problem
	if a.JSON(t, &p); a.Status != 412 || p.Type != client.ProblemPreconditionFailed || p.Revision() != now || now == "" ||
		p.Changes == nil || p.Detail == "" || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s of another revision: %d %s, want 412 with the revision %q", o.ID, a.Status, a.Body, now)
	}
	assert.Equal(t, newest(t, s), before, "%s of another revision", o.ID)
	a = call(1, now)
	assert.True(t, a.Status/100 == 2, "%s of the revision that is there: %d %s, want success", o.ID, a.Status, a.Body)
	// What is done once only is refused the second time, with the header as without.
	there := c.revision(t, s, ids) != ""
	any, without := call(2, "*"), call(3, "")
	want := without.Status
	assert.True(t, (!there || any.Status == want || any.Status/100 == 2) && (there || any.Status == http.StatusPreconditionFailed),
		"%s of any revision: %d %s, want %d as without it, or 412 where nothing is there", o.ID, any.Status, any.Body, want)
}

// rejects makes a call with each precondition, which the operation does not evaluate. Its parameters are never read.
func rejects(t *testing.T, s *servertest.Server, o adminroute.Route) {
	t.Helper()
	path, before := regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(o.Path, "1"), newest(t, s)
	for _, header := range []string{`If-Match: "another"`, "If-Match: *", "If-None-Match: *", `If-None-Match: "another"`} {
		a := s.Do(o.Method, "/admin/v1"+path, "{}", "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json",
			header)
		var p client.Problem
		const want = "this operation has no preconditions: send it without If-Match and If-None-Match"
		if a.JSON(t, &p); a.Status != http.StatusBadRequest || p.Detail != want {
			t.Errorf("%s with %s: %d %s, want 400 %q", o.ID, header, a.Status, a.Body, want)
		}
	}
	assert.Equal(t, newest(t, s), before, "%s rejected", o.ID)
}

// newest is the number of the last change and that of the last delivery to a webhook.
func newest(t *testing.T, s *servertest.Server) (last [2]int64) {
	t.Helper()
	var list struct {
		Changes    []loggedChange
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

// Issue 28, 3: a change of a platform read it before its transaction, so that one of two partial changes undid the other.
func TestPlatformUpdate_ConcurrentPartialUpdates(t *testing.T) {
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
			now := s.Admin("GET", "/components/isv", "").Body
			require.True(t, strings.Contains(now, fmt.Sprintf(`"h%d.example"`, n)) &&
				strings.Contains(now, fmt.Sprintf(`"10.0.0.%d/32"`, n)), "round %d: one of two changes is gone: %s", n, now)
		}
	})
}

// Two people, on one server or on two nodes, change what they both read: one of them does, and the other hears who did.
func TestIfMatch_ConcurrentUpdatesOneWins(t *testing.T) {
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
			"updatePerson", "putBatchAlarm", "putCase"} {
			c := guardedChanges(t)[id]
			method := "PUT"
			if id == "updatePerson" {
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
				assert.True(t, won == 1, "%s: %d of two racing changes won: %v", id, won, answers)
			}
		}
	})
}
