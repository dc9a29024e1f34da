package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// seenLine is a line of docs/contract/seen/answers.ndjson.
type seenLine struct {
	ID, Endpoint, Request, Date, Source, Play string
	EvidenceLevel                             string `json:"evidence_level"`
	Answer                                    json.RawMessage
}

// difference is a line of docs/contract/seen/differences.ndjson.
type difference struct{ ID, Kind, Reason string }

func readLines[T any](t *testing.T, name string) (list []T) {
	t.Helper()
	f, err := os.Open("../../../docs/contract/seen/" + name)
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var one T
		d := json.NewDecoder(strings.NewReader(lines.Text()))
		d.DisallowUnknownFields()
		err := d.Decode(&one)
		require.NoErrorf(t, err, "%s: %v in %s", name, err, lines.Text())
		list = append(list, one)
	}
	require.True(t, lines.Err() == nil && len(list) != 0, "%s: %d lines, %v", name, len(list), lines.Err())
	return list
}

var (
	anyRID     = regexp.MustCompile(` ?rid: ?[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}| rid:[0-9a-f]{8}-… \(copied without the space\)`)
	anyHint    = regexp.MustCompile(` hint: \[[^\]]*\](\[[^\]]*\])?`)
	anyAddress = regexp.MustCompile(`\b127\.0\.0\.1\b`)
	anyYear    = regexp.MustCompile(`20\d\d(-\d\d(-\d\d)?)?`)
	escaped    = regexp.MustCompile(`\\+/`)
)

// shape is an answer as names in their order, types, and numbers: of a list only the first entry. An errmsg is there with its words.
func shape(t *testing.T, answer string) string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(answer))
	d.UseNumber()
	var value func(name string) string
	value = func(name string) string {
		tok, err := d.Token()
		require.True(t, err == nil, "%v in %s", err, answer)
		switch tok := tok.(type) {
		case json.Delim:
			var parts []string
			for d.More() {
				if tok == '[' {
					parts = append(parts, value(""))
					continue
				}
				key, err := d.Token()
				require.True(t, err == nil, "%v in %s", err, answer)
				parts = append(parts, fmt.Sprintf("%v:%s", key, value(fmt.Sprint(key))))
			}
			_, err := d.Token()
			require.NoErrorf(t, err, "%v in %s", err, answer)
			if tok == '[' {
				parts = parts[:min(1, len(parts))]
			}
			return fmt.Sprintf("%v%s", tok, strings.Join(parts, " "))
		case json.Number:
			if name == "id" {
				return "number"
			}
			return tok.String()
		case string:
			if name == "errmsg" {
				tok = anyHint.ReplaceAllString(anyRID.ReplaceAllString(tok, " R"), " H") // what changes is masked where it stands
				return anyAddress.ReplaceAllString(tok, "a.b.*.*")
			}
			return "text"
		}
		return fmt.Sprintf("%T", tok)
	}
	return value("")
}

var dayOf = regexp.MustCompile(`^20[0-9]{2}(-[0-9]{2}(-[0-9]{2})?)?`)

// Every answer of the platform that others published is answered so here, or is a
// difference with a reason. What agrees is evidence of the row that decided.
// Behaviour(wire.answer.comma) Behaviour(wire.answer.rid).
// What the platform left since is answered so as of its day: Behaviour(wire.answer.hint_alone)
// Behaviour(wire.answer.unadvised) Behaviour(wire.answer.textless).
func TestWireResponses_EqualPublished(t *testing.T) {
	t.Parallel()
	differ := map[string]difference{}
	for _, d := range readLines[difference](t, "differences.ndjson") {
		assert.True(t, slices.Contains([]string{"family", "unknown", "differs", "earlier"}, d.Kind) && d.Reason != "" &&
			differ[d.ID].ID == "", "the difference %+v", d)
		differ[d.ID] = d
	}
	s := servertest.Start(t, servertest.Options{Seed: agency})
	asked := map[string]servertest.Answer{}
	newest := map[behaviour.Row]string{}
	seen, dates := map[string]bool{}, map[string]bool{}
	plays := stories(t, "plays", `component = component isv
ticket = ticket isv
access = access <component> isv shop
`)
	then := map[string]*servertest.Server{} // by the day as of which it answers
	for _, line := range readLines[seenLine](t, "answers.ndjson") {
		d, named := differ[line.ID]
		assert.True(t, !seen[line.ID] && line.ID != "" && line.Source != "", "%s is there twice, or has no source", line.ID)
		seen[line.ID] = true
		dates[dayOf.FindString(line.Date)] = true // a line of another family may be newer evidence
		if line.Play == "" {
			assert.True(t, named && d.Kind != "differs" && d.Kind != "earlier", "%s says neither how to ask for it nor why not", line.ID)
			assert.True(t, d.Kind != "family" || !slices.Contains(api.Paths(), line.Endpoint),
				"%s: %s is an endpoint of ours: say how to ask for the answer", line.ID, line.Endpoint)
			continue
		}
		if line.Play == "table of codes" {
			checkTableRow(t, line)
			continue
		}
		a, known := asked[line.Play]
		if !known {
			play := plays[line.Play]
			if play == nil {
				t.Errorf("%s: there is no play %q", line.ID, line.Play)
				continue
			}
			s.Renew(t)
			a = play(s)
			asked[line.Play] = a
		}
		agrees := agree(t, line, a)
		if named && d.Kind == "earlier" {
			day := anyYear.FindString(line.Date)
			if then[day] == nil {
				then[day] = servertest.Start(t, servertest.Options{Seed: agency, Config: func(c *server.Config) { c.AsOf = day }})
			}
			then[day].Renew(t)
			if b := plays[line.Play](then[day]); agree(t, line, b) {
				evidence(t, then[day], line, b, newest)
			} else {
				t.Errorf("%s, %s, as of %s:\nlive %s\nours %s", line.ID, line.Play, day, line.Answer, b.Body)
			}
		}
		switch {
		case agrees && named:
			t.Errorf("%s is answered as the platform did: it is no difference any more (%s)", line.ID, d.Reason)
		case !agrees && (!named || d.Kind != "differs" && d.Kind != "earlier"):
			t.Errorf("%s, %s, %s:\nlive %s\nours %s", line.ID, line.Play, line.Date, line.Answer, a.Body)
		case agrees:
			evidence(t, s, line, a, newest)
		}
	}
	for id := range differ {
		assert.True(t, seen[id], "there is no line %s to differ from", id)
	}
	for play := range plays {
		_, was := asked[play]
		assert.True(t, was, "no line is asked for by %q", play)
	}
	for row, date := range newest {
		b := row.Get()
		assert.True(t, b.Date >= date && dates[b.Date], "the newest evidence of %s is of %s, its row says %s", b.ID, date, b.Date)
	}
}

// agree reports whether our answer is the platform's: names, types, numbers and words, and how slashes are
// written. Behaviour(wire.answer.slash).
func agree(t *testing.T, line seenLine, a servertest.Answer) bool {
	t.Helper()
	live, ours := shape(t, string(line.Answer)), shape(t, a.Body)
	if !strings.Contains(live, "errcode:") && strings.Contains(live, "errmsg:") {
		ours = "{" + ours[strings.Index(ours, "errmsg:"):] // the number was not printed
	}
	bare := strings.Contains(escaped.ReplaceAllString(a.Body, ""), "/")
	return live == ours && !(bare && escaped.Match(line.Answer))
}

// checkTableRow compares a row of the platform's table of codes with ours.
func checkTableRow(t *testing.T, line seenLine) {
	t.Helper()
	var row struct {
		ErrCode int
		ErrMsg  string
	}
	require.NoError(t, json.Unmarshal(line.Answer, &row))
	c, known := errcode.ByNumber(row.ErrCode)
	assert.True(t, known && c.Text == row.ErrMsg, "%s: the platform's table has %d %s", line.ID, row.ErrCode, row.ErrMsg)
}

// evidence notes a line's date for the rows that decided our answer, of which one must have been seen.
func evidence(t *testing.T, s *servertest.Server, line seenLine, a servertest.Answer, newest map[behaviour.Row]string) {
	t.Helper()
	rid := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}`).FindString(a.Body)
	if rid == "" {
		return
	}
	var met []behaviour.Row
	for logged := range strings.Lines(s.Log()) {
		_, rows, ok := strings.Cut(logged, ` behaviours="`)
		if !ok || !strings.Contains(logged, "rid="+rid) {
			_, rows, ok = strings.Cut(logged, ` behaviours=`)
		}
		if !ok || !strings.Contains(logged, "rid="+rid) {
			continue
		}
		rows, _, _ = strings.Cut(strings.TrimPrefix(rows, "["), "]")
		for id := range strings.FieldsSeq(rows) {
			if row, known := behaviour.ByID(id); known {
				met = append(met, row)
			}
		}
	}
	if slices.Contains(met, behaviour.WireFault) {
		return
	}
	assert.True(t, slices.ContainsFunc(met, func(r behaviour.Row) bool { return r.Get().Evidence == behaviour.Observed }),
		"%s was seen, and no row that decided our answer says so: %v", line.ID, met)
	date := dayOf.FindString(line.Date)
	for _, row := range met {
		if b := row.Get(); b.Evidence == behaviour.Observed && b.Source == "docs/contract/seen" && date > newest[row] {
			newest[row] = date
		}
	}
}
