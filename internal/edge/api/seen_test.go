package api_test

import (
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

// publishedAnswer is a line of docs/contract/seen/answers.ndjson: a response of the platform.
type publishedAnswer struct {
	ID, Endpoint, Request, Date, Source, Play string
	EvidenceLevel                             string `json:"evidence_level"`
	Answer                                    json.RawMessage
}

// difference is a line of docs/contract/seen/differences.ndjson: why the response of this server differs.
type difference struct{ ID, Kind, Reason string }

func readLines[T any](t *testing.T, name string) (list []T) {
	t.Helper()
	text := require.Value(os.ReadFile("../../../docs/contract/seen/" + name))(t)
	for line := range strings.Lines(string(text)) {
		var value T
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		require.NoErrorf(t, d.Decode(&value), "%s: %s", name, line)
		list = append(list, value)
	}
	require.True(t, len(list) != 0, "%s has no lines", name)
	return list
}

var (
	anyRID       = regexp.MustCompile(` ?rid: ?[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}| rid:[0-9a-f]{8}-… \(copied without the space\)`)
	anyHint      = regexp.MustCompile(` hint: \[[^\]]*\](\[[^\]]*\])?`)
	anyAddress   = regexp.MustCompile(`\b127\.0\.0\.1\b`)
	anyYear      = regexp.MustCompile(`20\d\d(-\d\d(-\d\d)?)?`)
	escapedSlash = regexp.MustCompile(`\\+/`)
)

// responseShape returns a response with names in their order, types, numbers, the text of errmsg, and only the first element of lists.
func responseShape(t *testing.T, answer string) string {
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
				tok = anyHint.ReplaceAllString(anyRID.ReplaceAllString(tok, " R"), " H") // the variable parts are masked in place
				return anyAddress.ReplaceAllString(tok, "a.b.*.*")
			}
			return "text"
		}
		return fmt.Sprintf("%T", tok)
	}
	return value("")
}

var datePattern = regexp.MustCompile(`^20[0-9]{2}(-[0-9]{2}(-[0-9]{2})?)?`)

// TestWireResponses_EqualPublished verifies that this server answers like every published response of the platform, or that the
// difference is listed with a reason. Equal responses are evidence for the rows that decided. A form that the platform has given up is
// compared as of its date. Behaviour(wire.answer.comma) Behaviour(wire.answer.rid).
// Behaviour(wire.answer.hint_alone) Behaviour(wire.answer.unadvised) Behaviour(wire.answer.textless).
func TestWireResponses_EqualPublished(t *testing.T) {
	t.Parallel()
	differences := map[string]difference{}
	for _, d := range readLines[difference](t, "differences.ndjson") {
		assert.True(t, slices.Contains([]string{"family", "unknown", "differs", "earlier"}, d.Kind) && d.Reason != "" &&
			differences[d.ID].ID == "", "invalid or repeated difference %+v", d)
		differences[d.ID] = d
	}
	s := servertest.Start(t, servertest.Options{Seed: agency})
	answers := map[string]servertest.Answer{} // by play
	newest := map[behaviour.Row]string{}
	seen, dates := map[string]bool{}, map[string]bool{}
	plays := readStories(t, "plays", `component = component isv
ticket = ticket isv
access = access <component> isv shop
`)
	past := map[string]*servertest.Server{} // by the date that they emulate
	for _, line := range readLines[publishedAnswer](t, "answers.ndjson") {
		d, listed := differences[line.ID]
		assert.True(t, !seen[line.ID] && line.ID != "" && line.Source != "", "%s is repeated or has no source", line.ID)
		seen[line.ID] = true
		dates[datePattern.FindString(line.Date)] = true // a line of another family may be newer evidence
		if line.Play == "" {
			assert.True(t, listed && d.Kind != "differs" && d.Kind != "earlier",
				"%s has neither a play nor a difference without one", line.ID)
			assert.True(t, d.Kind != "family" || !slices.Contains(api.Paths(), line.Endpoint),
				"%s: %s is implemented here, but the line has no play", line.ID, line.Endpoint)
			continue
		}
		if line.Play == "table of codes" {
			checkTableRow(t, line)
			continue
		}
		a, ok := answers[line.Play]
		if !ok {
			play := plays[line.Play]
			if play == nil {
				t.Errorf("%s names an unknown play %q", line.ID, line.Play)
				continue
			}
			s.Reset(t)
			a = play(s)
			answers[line.Play] = a
		}
		equal := hasPublishedShape(t, line, a)
		if listed && d.Kind == "earlier" {
			day := anyYear.FindString(line.Date)
			if past[day] == nil {
				past[day] = servertest.Start(t, servertest.Options{Seed: agency, Config: func(c *server.Config) { c.AsOf = day }})
			}
			past[day].Reset(t)
			if b := plays[line.Play](past[day]); hasPublishedShape(t, line, b) {
				recordEvidence(t, past[day], line, b, newest)
			} else {
				t.Errorf("%s, %s, as of %s:\ngot  %s\nwant %s", line.ID, line.Play, day, b.Body, line.Answer)
			}
		}
		switch {
		case equal && listed:
			t.Errorf("%s is answered as published, but listed as a difference (%s)", line.ID, d.Reason)
		case !equal && (!listed || d.Kind != "differs" && d.Kind != "earlier"):
			t.Errorf("%s, %s, %s:\ngot  %s\nwant %s", line.ID, line.Play, line.Date, a.Body, line.Answer)
		case equal:
			recordEvidence(t, s, line, a, newest)
		}
	}
	for id := range differences {
		assert.True(t, seen[id], "difference %s has no line in answers.ndjson", id)
	}
	for play := range plays {
		_, ok := answers[play]
		assert.True(t, ok, "no line uses the play %q", play)
	}
	for row, date := range newest {
		b := row.Get()
		assert.True(t, b.Date >= date && dates[b.Date], "row %s has the date %s, want that of its newest evidence, %s", b.ID, b.Date, date)
	}
}

// hasPublishedShape reports whether the response a equals the platform's in names, types, numbers, texts and escaped slashes.
// Behaviour(wire.answer.slash).
func hasPublishedShape(t *testing.T, line publishedAnswer, a servertest.Answer) bool {
	t.Helper()
	got, want := responseShape(t, a.Body), responseShape(t, string(line.Answer))
	if !strings.Contains(want, "errcode:") && strings.Contains(want, "errmsg:") {
		got = "{" + got[strings.Index(got, "errmsg:"):] // published without its number
	}
	unescaped := strings.Contains(escapedSlash.ReplaceAllString(a.Body, ""), "/")
	return got == want && !(unescaped && escapedSlash.Match(line.Answer))
}

// checkTableRow compares a row of the platform's table of codes with errcode.
func checkTableRow(t *testing.T, line publishedAnswer) {
	t.Helper()
	var row struct {
		ErrCode int
		ErrMsg  string
	}
	require.NoError(t, json.Unmarshal(line.Answer, &row))
	c, ok := errcode.ByNumber(row.ErrCode)
	require.True(t, ok, "%s: ByNumber(%d) found nothing", line.ID, row.ErrCode)
	assert.Equal(t, c.Text, row.ErrMsg, "%s: text of %d", line.ID, row.ErrCode)
}

// recordEvidence stores the line's date in newest for the rows that decided the response, one of which must be observed.
func recordEvidence(t *testing.T, s *servertest.Server, line publishedAnswer, a servertest.Answer, newest map[behaviour.Row]string) {
	t.Helper()
	rid := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}`).FindString(a.Body)
	if rid == "" {
		return
	}
	var rows []behaviour.Row
	for logged := range strings.Lines(s.Log()) {
		_, ids, ok := strings.Cut(logged, ` behaviours=`)
		if !ok || !strings.Contains(logged, "rid="+rid) {
			continue
		}
		ids, _, _ = strings.Cut(strings.TrimLeft(ids, `"[`), "]")
		for id := range strings.FieldsSeq(ids) {
			if row, ok := behaviour.ByID(id); ok {
				rows = append(rows, row)
			}
		}
	}
	if slices.Contains(rows, behaviour.WireFault) {
		return
	}
	assert.True(t, slices.ContainsFunc(rows, func(r behaviour.Row) bool { return r.Get().Evidence == behaviour.Observed }),
		"%s is a published response, but no row that decided it is observed: %v", line.ID, rows)
	date := datePattern.FindString(line.Date)
	for _, row := range rows {
		if b := row.Get(); b.Evidence == behaviour.Observed && b.Source == "docs/contract/seen" && date > newest[row] {
			newest[row] = date
		}
	}
}
