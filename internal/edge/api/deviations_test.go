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
)

// reported lists what callers deviated in.
func reported(t *testing.T, s *servertest.Server) (list []client.Deviation) {
	t.Helper()
	answer := servertest.Decode[client.DeviationList](t, s.Admin("GET", "/deviations", ""))
	return answer.Deviations
}

// nobody is a client to whom no server answers, and who does not wait long.
func nobody() *safehttp.Client {
	return &safehttp.Client{Patience: time.Millisecond, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
}

// deviations are, by the row, a story in which a caller deviates so.
func deviations(t *testing.T) map[string]how {
	t.Helper()
	stories := map[string]how{}
	for id, text := range servertest.ReadStories(t, "testdata/stories/deviations.txt") {
		stories[id] = func(s *servertest.Server) servertest.Answer {
			return s.Tell(text, servertest.Verbs{"import": func(line string) servertest.Answer { // a hundred rules; %n is their number
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
	for id, long := range longDeviations {
		stories[id] = func(s *servertest.Server) servertest.Answer { return long(t, s) }
	}
	return stories
}

var longDeviations = map[string]func(*testing.T, *servertest.Server) servertest.Answer{
	"message.slow": func(t *testing.T, s *servertest.Server) servertest.Answer {
		s.Admin("PUT", "/components/isv", `{"event_url":"http://127.0.0.1:9/"}`)
		a := s.Do("POST", family+"api_start_push_ticket", `{"component_appid":"isv","component_secret":"secret-isv"}`)
		for began := time.Now(); time.Since(began) < 3*time.Minute; {
			if slices.ContainsFunc(reported(t, s), func(d client.Deviation) bool { return d.Behaviour == "message.slow" }) {
				break
			}
		}
		return a
	},
	"rules.publish.above": func(t *testing.T, s *servertest.Server) servertest.Answer {
		s.Admin("PUT", "/settings", `{"publish_quota":200}`)
		var a servertest.Answer
		for n := range 101 {
			s.Clock.Step(time.Second) // no more calls a second than the platform grants
			s.OK("shop", "add", rule(fmt.Sprintf("https://shop.example/%d/", n)))
			if a = s.Rule("shop", "publish", prefix(fmt.Sprintf("https://shop.example/%d/", n))); a.Code(t) != 0 {
				break
			}
			s.OK("shop", "delete", prefix(fmt.Sprintf("https://shop.example/%d/", n)))
		}
		return a
	},
}

// Each deviation is produced through HTTP and found in the report, with what to change and request ids of calls that say the same.
func TestDeviationReport_EveryDeviation(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency, Outbound: nobody()})
	stories := deviations(t)
	for _, d := range behaviour.Deviations() {
		id := d.Row.String()
		if strings.HasPrefix(id, "rules.confirm.") && id != "rules.confirm.vouched" {
			continue // a file must be fetched: TestConfirm_NearMatchReported
		}
		story := stories[id]
		if story == nil {
			t.Errorf("no story deviates in %s", id)
			continue
		}
		s.Renew(t)
		answer := story(s)
		list := reported(t, s)
		i := slices.IndexFunc(list, func(one client.Deviation) bool { return one.Behaviour == id })
		if i < 0 {
			t.Errorf("%s is not reported: %s %+v", id, answer.Body, list)
			continue
		}
		found := list[i]
		assert.True(t, found.EvidenceLevel == string(d.Minds) && found.Advice == d.Advice().English() &&
			found.Chinese == d.Advice().Chinese() && found.Count >= 1 && found.Endpoint != "", "%s: %+v", id, found)
		for _, rid := range []string{found.FirstRID, found.LastRID} {
			call := servertest.Decode[client.Call](t, s.Admin("GET", "/calls/"+rid, ""))
			assert.True(t, call.Endpoint == found.Endpoint && call.Account == found.Account && slices.Contains(call.Deviations, id),
				"%s: %s is %+v", id, rid, call)
		}
		assert.True(t, id != "rules.add.icp_unasked" || answer.Header.Get("X-Qrjump-Trace") == "/admin/v1/calls/"+found.FirstRID,
			"%s is another call than that of %q", found.FirstRID, answer.Header)
	}
	for id := range stories {
		row, known := behaviour.ByID(id)
		_, deviates := row.Deviation()
		assert.True(t, known && deviates, "the story of %s is of no deviation", id)
	}
}

// The report counts by account and endpoint, can be asked for by account, and begins anew where the operator or a reset wants it so.
func TestDeviationReport_FilterAndReset(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	story := deviations(t)["wire.number.text"]
	var first, last servertest.Answer
	produce := func() {
		first = story(s)
		for range 3 {
			last = story(s)
		}
		as("rival", getPath, `{"get_type":"0"}`)(s)
	}
	produce()
	of := func(query string) (list []client.Deviation) {
		t.Helper()
		answer := servertest.Decode[client.DeviationList](t, s.Admin("GET", "/deviations"+query, ""))
		return slices.DeleteFunc(answer.Deviations, func(d client.Deviation) bool { return d.Behaviour != "wire.number.text" })
	}
	why := func(a servertest.Answer) string {
		return strings.TrimPrefix(a.Header.Get("X-Qrjump-Trace"), "/admin/v1/calls/")
	}
	list := of("?account=shop")
	if len(list) != 1 || list[0].Count != 4 || list[0].FirstRID != why(first) || list[0].LastRID != why(last) ||
		list[0].Endpoint != getPath {
		t.Errorf("%+v; first %s, last %s", list, why(first), why(last))
	}
	all := of("")
	assert.True(t, len(all) == 2 && all[0].Account == "rival" && all[1] == list[0], "of all: %+v", all)
	s.Admin("DELETE", "/deviations?account=rival", "")
	assert.Equal(t, len(of("")), 1, "without those of one")
	left := servertest.Decode[json.RawMessage](t, s.Admin("DELETE", "/deviations", ""))
	assert.True(t, string(left) == `{"deviations":[]}`, "nothing is left, and the answer is %s", left)
	produce()
	s.Renew(t)
	all = of("")
	assert.True(t, len(all) == 0, "a reset left %+v", all)
}

// Strict refuses what the platform is known or inferred to mind and lets the rest pass;
// a single behaviour can be turned either way, with strict and without.
func TestStrict_RejectsByBehaviour(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency, Outbound: nobody(),
		Config: func(c *server.Config) { c.Strict = behaviour.Inferred }})
	stories := deviations(t)
	for _, d := range behaviour.Deviations() {
		if d.Refusal == 0 || d.Row == behaviour.RulesConfirmTrim {
			continue
		}
		id, story := d.Row.String(), stories[d.Row.String()]
		try := func(what, settings string, refused bool) {
			t.Helper()
			s.Renew(t)
			if settings != "" {
				s.Admin("PUT", "/settings", settings)
			}
			a := story(s)
			assert.True(t, (a.Code(t) == d.Refusal) == refused, "%s, %s: %s", id, what, a.Body)
		}
		try("strict", "", d.Minds.Surer(behaviour.Inferred) || d.Closed())
		try("strict, and it is allowed", fmt.Sprintf(`{"behaviours":{%q:"allow"}}`, id), false)
		try("not strict", `{"strict":false}`, false)
		try("it alone is rejected", fmt.Sprintf(`{"strict":false,"behaviours":{%q:"reject"}}`, id), true)
	}
}

// Each way in which a row lets something pass is answered as ever and reported; rejected, it is answered with the row's number.
func TestDeviationReport_EveryLeniency(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	always := []string{"rules.add.path_unasked", "codes.activate.path_unasked", "rules.edit.unchecked", "rules.add.icp_unasked",
		"rules.confirm.vouched"} // reported by each of these stories
	for head, story := range servertest.ReadStories(t, "testdata/stories/leniencies.txt") {
		s.Renew(t)
		row, name, _ := strings.Cut(head, ": ")
		row, number, _ := strings.Cut(row, " ")
		tell := func() servertest.Answer {
			return s.Tell(story, servertest.Verbs{"exec": func(query string) (a servertest.Answer) { s.Exec(query); return a }})
		}
		a := tell()
		assert.True(t, !strings.HasPrefix(a.Body, `{"errcode":`) || a.Code(t) == 0, "%s: it is refused: %s", name, a.Body)
		var got []string
		for _, d := range reported(t, s) {
			if !slices.Contains(always, d.Behaviour) {
				got = append(got, d.Behaviour)
			}
		}
		if row == "none" {
			assert.Equal(t, len(got), 0, "%s: reported %q", name, got)
			continue
		}
		assert.True(t, slices.Equal(got, []string{row}), "%s: reported %q, want %s", name, got, row)
		s.Renew(t)
		s.Admin("PUT", "/settings", fmt.Sprintf(`{"behaviours":{%q:"reject"}}`, row))
		want, err := strconv.Atoi(number)
		require.NoError(t, err)
		tell().WantCode(t, want, "%s, rejected", name)
	}
}

// A call that is refused rested on none of the leniencies that it met on its way.
func TestDeviationReport_RefusedCall(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	a := s.Rule("shop", "add", rule("ftp://shop.example/", `"open_version":"3","colour":"red"`))
	call := servertest.Decode[client.Call](t, s.Admin("GET", "/calls/"+a.RID(t), ""))
	if len(call.Behaviours) != 1 || call.Behaviours[0] != "rules.prefix.scheme" || len(call.Deviations) != 0 || len(reported(t, s)) != 0 {
		t.Errorf("%s rested on %q, and is reported %+v", a.Body, call.Behaviours, reported(t, s))
	}
	// What a fault answers after the call was done does not unmake it.
	s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":-1,"remaining":1,"after":true}`, addPath))
	s.Rule("shop", "add", rule("https://shop.example/", `"open_version":"3"`))
	if !slices.ContainsFunc(reported(t, s), func(d client.Deviation) bool { return d.Behaviour == "wire.number.text" }) {
		t.Errorf("the add was done, and reported is %+v", reported(t, s))
	}
}

// White space round the content of a verification file, and a # in front of its directory, are reported; strict may refuse the first.
func TestConfirm_NearMatchReported(t *testing.T) {
	t.Parallel()
	o := &owner{}
	plain := httptest.NewServer(o)
	t.Cleanup(plain.Close)
	s := servertest.Start(t, servertest.Options{Seed: strict, Outbound: abroad(plain, &resolver{answers: []string{"93.184.216.34"}})})
	f := file(t, s)
	o.answer(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, f.Content+"\n") })
	s.OK("shop", "add", rule("http://shop.example/#/d/"))
	var got []string
	for _, d := range reported(t, s) {
		if strings.HasPrefix(d.Behaviour, "rules.confirm.") {
			got = append(got, d.Behaviour)
		}
	}
	slices.Sort(got)
	assert.True(t, slices.Equal(got, []string{"rules.confirm.fragment", "rules.confirm.trim"}), "reported %q", got)
	s.Admin("PUT", "/settings", `{"behaviours":{"rules.confirm.trim":"reject"}}`)
	s.Rule("shop", "add", rule("http://shop.example/e/")).WantCode(t, 85069, "strict")
}
