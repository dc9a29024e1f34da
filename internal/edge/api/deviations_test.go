package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// listDeviations returns the report of deviations.
func listDeviations(t *testing.T, s *servertest.Server) []client.Deviation {
	t.Helper()
	return servertest.Decode[client.DeviationList](t, s.Admin("GET", "/deviations", "")).Deviations
}

// unreachableClient returns a client whose dials hang until its short timeout.
func unreachableClient() *safehttp.Client {
	return &safehttp.Client{Patience: time.Millisecond, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
}

// deviationStories returns by behaviour row a story in which a caller deviates from it.
func deviationStories(t *testing.T) map[string]callFunc {
	t.Helper()
	stories := map[string]callFunc{}
	for id, text := range servertest.ReadStories(t, "testdata/stories/deviations.txt") {
		stories[id] = func(s *servertest.Server) servertest.Answer {
			return s.RunStory(text,
				servertest.Commands{"import": func(line string) servertest.Answer { // imports a hundred rules; %n is the number of each
					var lines strings.Builder
					for n := range 100 {
						lines.WriteString(strings.ReplaceAll(line, "%n", strconv.Itoa(n)) + "\n")
					}
					a := s.Do("POST", "/admin/v1/import/rules", lines.String(), "Content-Type: application/x-ndjson",
						"Authorization: Bearer "+servertest.AdminToken)
					a.WantStatus(t, 200, "an import of a hundred rules")
					return a
				}})
		}
	}
	for id, story := range slowStories {
		stories[id] = func(s *servertest.Server) servertest.Answer { return story(t, s) }
	}
	return stories
}

var slowStories = map[string]func(*testing.T, *servertest.Server) servertest.Answer{
	"message.slow": func(t *testing.T, s *servertest.Server) servertest.Answer {
		s.Admin("PUT", "/components/isv", `{"event_url":"http://127.0.0.1:9/"}`)
		a := s.Do("POST", componentPath+"api_start_push_ticket", `{"component_appid":"isv","component_secret":"secret-isv"}`)
		for start := time.Now(); time.Since(start) < 3*time.Minute; {
			if slices.ContainsFunc(listDeviations(t, s), func(d client.Deviation) bool { return d.Behaviour == "message.slow" }) {
				break
			}
		}
		return a
	},
	"rules.publish.above": func(t *testing.T, s *servertest.Server) servertest.Answer {
		s.Admin("PUT", "/settings", `{"publish_quota":200}`)
		var a servertest.Answer
		for n := range 101 {
			s.Clock.Step(time.Second) // stays below the limit of calls per second
			s.OK("shop", "add", addRuleBody(fmt.Sprintf("https://shop.example/%d/", n)))
			if a = s.Rule("shop", "publish", prefixBody(fmt.Sprintf("https://shop.example/%d/", n))); a.Code(t) != 0 {
				break
			}
			s.OK("shop", "delete", prefixBody(fmt.Sprintf("https://shop.example/%d/", n)))
		}
		return a
	},
}

// TestDeviationReport_EveryDeviation runs the story of every deviation and verifies that the report has it with its advice, and that the
// calls under the reported request ids have it too.
func TestDeviationReport_EveryDeviation(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency, Outbound: unreachableClient()})
	stories := deviationStories(t)
	for _, d := range behaviour.Deviations() {
		id := d.Row.String()
		if strings.HasPrefix(id, "rules.confirm.") && id != "rules.confirm.vouched" {
			continue // a file must be fetched: TestConfirm_NearMatchReported
		}
		story := stories[id]
		if story == nil {
			t.Errorf("deviation %s has no story", id)
			continue
		}
		s.Reset(t)
		answer := story(s)
		list := listDeviations(t, s)
		i := slices.IndexFunc(list, func(d client.Deviation) bool { return d.Behaviour == id })
		if i < 0 {
			t.Errorf("report after %s lacks %s: %+v", answer.Body, id, list)
			continue
		}
		found := list[i]
		assert.True(t, found.EvidenceLevel == string(d.Minds) && found.Advice == d.Advice().English() &&
			found.Chinese == d.Advice().Chinese() && found.Count >= 1 && found.Endpoint != "", "report of %s = %+v", id, found)
		for _, rid := range []string{found.FirstRID, found.LastRID} {
			call := servertest.Decode[client.Call](t, s.Admin("GET", "/calls/"+rid, ""))
			assert.True(t, call.Endpoint == found.Endpoint && call.Account == found.Account && slices.Contains(call.Deviations, id),
				"%s: call %s = %+v, want the reported endpoint, account and deviation", id, rid, call)
		}
		assert.True(t, id != "rules.add.icp_unasked" || answer.Header.Get("X-Qrjump-Trace") == "/admin/v1/calls/"+found.FirstRID,
			"first request id %s differs from that in the header %q", found.FirstRID, answer.Header)
	}
	for id := range stories {
		row, known := behaviour.ByID(id)
		_, deviates := row.Deviation()
		assert.True(t, known && deviates, "the story %s is not a deviation", id)
	}
}

// TestDeviationReport_FilterAndReset verifies that the report counts by account and endpoint, can be filtered by account, and is cleared
// by a DELETE and by a reset.
func TestDeviationReport_FilterAndReset(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	story := deviationStories(t)["wire.number.text"]
	var first, last servertest.Answer
	produce := func() {
		first = story(s)
		for range 3 {
			last = story(s)
		}
		post(s, "rival", getPath, `{"get_type":"0"}`)
	}
	produce()
	listReported := func(query string) []client.Deviation {
		t.Helper()
		answer := servertest.Decode[client.DeviationList](t, s.Admin("GET", "/deviations"+query, ""))
		return slices.DeleteFunc(answer.Deviations, func(d client.Deviation) bool { return d.Behaviour != "wire.number.text" })
	}
	tracedRID := func(a servertest.Answer) string {
		return strings.TrimPrefix(a.Header.Get("X-Qrjump-Trace"), "/admin/v1/calls/")
	}
	list := listReported("?account=shop")
	if len(list) != 1 || list[0].Count != 4 || list[0].FirstRID != tracedRID(first) || list[0].LastRID != tracedRID(last) ||
		list[0].Endpoint != getPath {
		t.Errorf("report of shop = %+v, want 4 calls from %s to %s", list, tracedRID(first), tracedRID(last))
	}
	all := listReported("")
	assert.True(t, len(all) == 2 && all[0].Account == "rival" && all[1] == list[0], "report of all accounts = %+v", all)
	s.Admin("DELETE", "/deviations?account=rival", "")
	assert.Equal(t, len(listReported("")), 1, "deviations after those of rival were deleted")
	left := servertest.Decode[json.RawMessage](t, s.Admin("DELETE", "/deviations", ""))
	assert.Equal(t, string(left), `{"deviations":[]}`, "response to DELETE /deviations")
	produce()
	s.Reset(t)
	assert.Equal(t, len(listReported("")), 0, "deviations after a reset")
}

// TestStrict_RejectsByBehaviour verifies that strict mode rejects the deviations that the platform is known or inferred to reject and
// accepts the rest, and that a setting overrides a single behaviour with and without strict mode.
func TestStrict_RejectsByBehaviour(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency, Outbound: unreachableClient(),
		Config: func(c *server.Config) { c.Strict = behaviour.Inferred }})
	stories := deviationStories(t)
	for n, d := range behaviour.Deviations() {
		if d.Refusal == 0 || d.Row == behaviour.RulesConfirmTrim {
			continue
		}
		id, story := d.Row.String(), stories[d.Row.String()]
		for i, c := range []struct {
			name, settings string
			rejected       bool
		}{
			{"strict", `{}`, d.Minds.Surer(behaviour.Inferred) || d.Closed()},
			{"strict, but allowed", fmt.Sprintf(`{"behaviours":{%q:"allow"}}`, id), false},
			{"not strict", `{"strict":false}`, false},
			{"not strict, but rejected", fmt.Sprintf(`{"strict":false,"behaviours":{%q:"reject"}}`, id), true},
		} {
			if !testscope.IsComplete() && i%2 != n%2 {
				continue // half of them
			}
			s.Reset(t)
			s.Admin("PUT", "/settings", c.settings)
			a := story(s)
			assert.True(t, (a.Code(t) == d.Refusal) == c.rejected, "%s, %s = %s, want rejected %v", id, c.name, a.Body, c.rejected)
		}
	}
}

// TestDeviationReport_EveryLeniency verifies that a call that depends on a leniency succeeds and is reported, and that it receives the
// error number of the row once the behaviour is set to reject.
func TestDeviationReport_EveryLeniency(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	ignored := []string{"rules.add.path_unasked", "codes.activate.path_unasked", "rules.edit.unchecked", "rules.add.icp_unasked",
		"rules.confirm.vouched"} // reported by each of these stories
	for head, story := range servertest.ReadStories(t, "testdata/stories/leniencies.txt") {
		s.Reset(t)
		row, name, _ := strings.Cut(head, ": ")
		row, number, _ := strings.Cut(row, " ")
		runStory := func() servertest.Answer {
			return s.RunStory(story, servertest.Commands{"exec": func(query string) (a servertest.Answer) { s.Exec(query); return a }})
		}
		a := runStory()
		assert.True(t, !strings.HasPrefix(a.Body, `{"errcode":`) || a.Code(t) == 0, "%s = %s, want success", name, a.Body)
		var got []string
		for _, d := range listDeviations(t, s) {
			if !slices.Contains(ignored, d.Behaviour) {
				got = append(got, d.Behaviour)
			}
		}
		if row == "none" {
			assert.Equal(t, len(got), 0, "%s: reported %q", name, got)
			continue
		}
		assert.True(t, slices.Equal(got, []string{row}), "%s: reported %q, want %s", name, got, row)
		s.Reset(t)
		s.Admin("PUT", "/settings", fmt.Sprintf(`{"behaviours":{%q:"reject"}}`, row))
		want := require.Value(strconv.Atoi(number))(t)
		runStory().WantCode(t, want, "%s, rejected", name)
	}
}

// TestDeviationReport_RefusedCall verifies that a rejected call reports none of the leniencies that were recorded before its rejection.
func TestDeviationReport_RefusedCall(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	a := s.Rule("shop", "add", addRuleBody("ftp://shop.example/", `"open_version":"3","colour":"red"`))
	call := servertest.Decode[client.Call](t, s.Admin("GET", "/calls/"+a.RID(t), ""))
	if len(call.Behaviours) != 1 || call.Behaviours[0] != "rules.prefix.scheme" || len(call.Deviations) != 0 ||
		len(listDeviations(t, s)) != 0 {
		t.Errorf("%s has the behaviours %q and the report %+v, want only rules.prefix.scheme", a.Body, call.Behaviours,
			listDeviations(t, s))
	}
	// A fault that replaces the response of a completed call does not undo its deviations.
	s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":-1,"remaining":1,"after":true}`, addPath))
	s.Rule("shop", "add", addRuleBody("https://shop.example/", `"open_version":"3"`))
	if !slices.ContainsFunc(listDeviations(t, s), func(d client.Deviation) bool { return d.Behaviour == "wire.number.text" }) {
		t.Errorf("report after a completed add = %+v, want wire.number.text", listDeviations(t, s))
	}
}

// TestConfirm_NearMatchReported verifies that white space around the content of a verification file and a fragment before its directory
// are reported, and that the first can be rejected by a setting.
func TestConfirm_NearMatchReported(t *testing.T) {
	t.Parallel()
	files := &fileHost{}
	plain := httptest.NewServer(files)
	t.Cleanup(plain.Close)
	s := servertest.Start(t, servertest.Options{Seed: fetchSeed, Outbound: publicClient(plain,
		&resolver{answers: []string{"93.184.216.34"}})})
	f := downloadFile(t, s)
	files.setHandler(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, f.Content+"\n") })
	s.OK("shop", "add", addRuleBody("http://shop.example/#/d/"))
	var got []string
	for _, d := range listDeviations(t, s) {
		if strings.HasPrefix(d.Behaviour, "rules.confirm.") {
			got = append(got, d.Behaviour)
		}
	}
	slices.Sort(got)
	assert.True(t, slices.Equal(got, []string{"rules.confirm.fragment", "rules.confirm.trim"}), "reported %q", got)
	s.Admin("PUT", "/settings", `{"behaviours":{"rules.confirm.trim":"reject"}}`)
	s.Rule("shop", "add", addRuleBody("http://shop.example/e/")).WantCode(t, 85069, "strict")
}
