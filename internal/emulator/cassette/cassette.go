// Package cassette records, replays and compares calls to the platform. Placeholders replace all secrets in a recording.
package cassette

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

// Line is one recorded call with its response. Every value that is not on an allowlist is replaced with a placeholder.
type Line struct {
	OccurredAt time.Time         `json:"occurred_at"`
	Method     string            `json:"method"`
	Path       string            `json:"path"`
	Query      json.RawMessage   `json:"query,omitempty"`   // JSON object with the parameters in their original order
	Type       string            `json:"type,omitempty"`    // Content-Type header of the request
	Request    json.RawMessage   `json:"request,omitempty"` // JSON body of the request; absent = no body
	Status     int               `json:"status,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	Response   json.RawMessage   `json:"response,omitempty"` // JSON body of the response; absent = no body
	// Error is the reason why the response is missing or incomplete; "" = complete.
	Error string `json:"error,omitempty"`
	// Escaped is the number of response strings whose slashes are written as \/. If the stored response contains more or fewer
	// strings with \/, a JSON tool has rewritten the line.
	Escaped int `json:"escaped,omitempty"`
	// Accepted lists the behaviours whose differences a person has accepted.
	Accepted []string `json:"accepted,omitempty"`
}

// Recorded is a parsed line with its number in the file.
type Recorded struct {
	Line
	Number        int
	query         value
	request       value
	answer        value
	rawKind       string // kind of a request body that is not JSON; "" = JSON, or no body
	answerRawKind string
	rewritten     bool // a JSON tool changed the escaping of slashes
}

// longest is the maximum length of a line in bytes.
const longest = 64 << 20

// ReadFile parses a cassette file. Each error names the file and, if applicable, the line.
func ReadFile(file string) ([]Recorded, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return read(file, f)
}

// A comparison or replay expands the placeholders. read rejects a cassette whose placeholders expand to more than standInsPerByte
// characters per byte of the cassette, plus standInsBefore characters.
const (
	standInsPerByte = 512
	standInsBefore  = 1 << 20
)

func read(file string, from io.Reader) (list []Recorded, err error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, longest)
	n, price := 0, -standInsBefore
	for lines.Scan() {
		n++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		recorded, err := parseLine(slices.Clone(lines.Bytes()))
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		if price += recorded.price() - standInsPerByte*len(lines.Bytes()); price > 0 {
			return nil, fmt.Errorf("%s:%d: the placeholders up to this line expand to more than %d characters per byte, which is not "+
				"possible in a recording", file, n,
				standInsPerByte)
		}
		recorded.Number = n
		list = append(list, recorded)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", file, n+1, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: the file contains no calls", file)
	}
	return list, nil
}

// price returns the number of characters to which the placeholders of a line expand.
func (r *Recorded) price() (n int) {
	for _, name := range slices.AppendSeq([]string{r.Method, r.Path, r.Type}, maps.Values(r.Headers)) {
		n += priceOf(name)
	}
	return n + r.query.price() + r.request.price() + r.answer.price()
}

func (v value) price() (n int) {
	if v.kind == text {
		n = priceOf(v.text)
	}
	for _, name := range v.names {
		n += priceOf(name)
	}
	for _, item := range v.items {
		n += item.price()
	}
	return n
}

func priceOf(masked string) (n int) {
	if !strings.Contains(masked, "{") {
		return 0
	}
	for _, parseMark := range parseMarks(masked) {
		n += min(parseMark.mark.length, longestStandIn)
	}
	return n
}

// headerNames lists the response headers that are recorded.
var headerNames = []string{"Cache-Control", "Content-Disposition", "Content-Type", "Location"}

func parseLine(raw []byte) (r Recorded, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&r.Line); err != nil {
		if !json.Valid(raw) {
			return r, fmt.Errorf("not a complete JSON object: the line is truncated or was edited (%v)", err)
		}
		return r, fmt.Errorf("not a call of a cassette: %v", err)
	}
	switch {
	case d.More():
		return r, fmt.Errorf("unexpected data after the call")
	case r.OccurredAt.IsZero() || r.Method == "" || !strings.HasPrefix(r.Path, "/"):
		return r, fmt.Errorf("not a call of a cassette: want occurred_at, method and path")
	case r.Error == "" && (r.Status < 100 || r.Status > 999):
		return r, fmt.Errorf("not a call of a cassette: want status, or error for a call without an answer")
	}
	for name := range r.Headers {
		if !slices.Contains(headerNames, name) {
			return r, fmt.Errorf("the header %.40q: want one of %s", name, strings.Join(headerNames, ", "))
		}
	}
	for _, id := range r.Accepted {
		if err := CheckRow(id); err != nil {
			return r, err
		}
	}
	for _, field := range []struct {
		name string
		from json.RawMessage
		into *value
		raw  *string
	}{{"query", r.Query, &r.query, nil}, {"request", r.Request, &r.request, &r.rawKind},
		{"answer", r.Response, &r.answer, &r.answerRawKind}} {
		if field.from == nil {
			continue
		}
		if *field.into, err = parseValue(field.from); err != nil {
			return r, fmt.Errorf("%s: %w", field.name, err)
		}
		if err := checkMarks(*field.into); err != nil {
			return r, fmt.Errorf("%s: %w", field.name, err)
		}
		switch field.into.kind {
		case object:
		case list:
			if field.raw == nil {
				return r, fmt.Errorf("query: want an object")
			}
		case text:
			m, ok := wholeMark(field.into.text)
			if field.raw == nil || !ok || !slices.Contains(rawKinds, m.kind) {
				return r, fmt.Errorf("%s: want an object, a list, or a placeholder such as {html:1:512}", field.name)
			}
			*field.raw = m.kind
		default:
			return r, fmt.Errorf("%s: want an object, a list, or a placeholder such as {html:1:512}", field.name)
		}
	}
	r.rewritten = r.answer.escapedTexts() != r.Escaped && r.Escaped > 0 || r.answer.slashes() == slashes{true, true} ||
		bytes.Contains(raw, []byte(`"path":"\/`))
	return r, nil
}

// rawKinds lists the kinds of bodies that are not JSON.
var rawKinds = []string{"blank", "broken", "bytes", "html", "plain"}

// almostMark matches a text that looks like a placeholder.
var almostMark = regexp.MustCompile(`^\{[#/]?[A-Za-z]+:[^{}]*\}$`)

// checkMarks finds malformed placeholders in edited files.
func checkMarks(v value) error {
	for t := range v.texts {
		if _, ok := wholeMark(t.text); !ok && almostMark.MatchString(t.text) {
			return fmt.Errorf("%.60q is not a valid placeholder: want {KIND:NUMBER:LENGTH}", t.text)
		}
	}
	return nil
}

// CheckRow returns an error if no behaviour has this id. The error suggests the most similar known id.
func CheckRow(id string) error {
	if _, ok := behaviour.ByID(id); ok {
		return nil
	}
	var names []string
	for _, b := range behaviour.All() {
		names = append(names, b.ID)
	}
	return fmt.Errorf("unknown behaviour %.60q%s", id, suggest.DidYouMean(id, names...))
}
