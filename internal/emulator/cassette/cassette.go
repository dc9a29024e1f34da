// Package cassette knows recorded calls of the platform, with nothing secret in
// them.
package cassette

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

// Line is one recorded call. Every value in it that is on no list of what may be
// kept is a stand-in.
type Line struct {
	OccurredAt time.Time         `json:"occurred_at"`
	Method     string            `json:"method"`
	Path       string            `json:"path"`
	Query      json.RawMessage   `json:"query,omitempty"`   // an object, its names in their order
	Type       string            `json:"type,omitempty"`    // Content-Type of the request
	Request    json.RawMessage   `json:"request,omitempty"` // absent = no body
	Status     int               `json:"status,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	Response   json.RawMessage   `json:"response,omitempty"` // absent = no body
	// Fault says why there is no answer, or not all of it; "" = there is one.
	Error string `json:"error,omitempty"`
	// Escaped counts the texts of the answer whose slashes are written as \/: a JSON tool that rewrites the line takes that away.
	Escaped int `json:"escaped,omitempty"`
	// Known are behaviours whose differences a person has accepted.
	Known []string `json:"known,omitempty"`
}

// Recorded is a line that was read, with its number in the file.
type Recorded struct {
	Line
	Number        int
	query         value
	request       value
	answer        value
	rawKind       string // of a request that is no JSON; "" = JSON, or none
	answerRawKind string
	rewritten     bool // a JSON tool changed how its slashes are written
}

// longest is the maximum length of a line.
const longest = 64 << 20

// ReadFile reads a cassette. Each error names the file, and the line where one is
// at fault.
func ReadFile(file string) ([]Recorded, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return read(file, f)
}

// What a stand-in stands for is made again when a cassette is compared or replayed. It may
// cost so many characters for each byte of the cassette, and some for the first lines.
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
			return nil, fmt.Errorf("%s:%d: the stand-ins until here stand for more than %d characters a byte: no recording does that", file, n,
				standInsPerByte)
		}
		recorded.Number = n
		list = append(list, recorded)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", file, n+1, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: no call is in it", file)
	}
	return list, nil
}

// price returns the number of characters for which the stand-ins of a line stand.
func (r *Recorded) price() (n int) {
	masked := []string{r.Method, r.Path, r.Type}
	for _, header := range r.Headers {
		masked = append(masked, header)
	}
	for _, name := range masked {
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

// headerNames are the headers of an answer that are kept.
var headerNames = []string{"Cache-Control", "Content-Disposition", "Content-Type", "Location"}

func parseLine(raw []byte) (r Recorded, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&r.Line); err != nil {
		if !json.Valid(raw) {
			return r, fmt.Errorf("no whole JSON object: the line is cut or was edited (%v)", err)
		}
		return r, fmt.Errorf("no call of a cassette: %v", err)
	}
	switch {
	case d.More():
		return r, fmt.Errorf("something stands behind the call")
	case r.OccurredAt.IsZero() || r.Method == "" || !strings.HasPrefix(r.Path, "/"):
		return r, fmt.Errorf("no call of a cassette: want occurred_at, method and path")
	case r.Error == "" && (r.Status < 100 || r.Status > 999):
		return r, fmt.Errorf("no call of a cassette: want status, or error for a call without an answer")
	}
	for name := range r.Headers {
		if !slices.Contains(headerNames, name) {
			return r, fmt.Errorf("the header %.40q: want one of %s", name, strings.Join(headerNames, ", "))
		}
	}
	for _, id := range r.Known {
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
				return r, fmt.Errorf("%s: want an object, a list, or a stand-in such as {html:1:512}", field.name)
			}
			*field.raw = m.kind
		default:
			return r, fmt.Errorf("%s: want an object, a list, or a stand-in such as {html:1:512}", field.name)
		}
	}
	escaped, plain := r.answer.slashes()
	r.rewritten = r.answer.escapedTexts() != r.Escaped && r.Escaped > 0 || escaped && plain || bytes.Contains(raw, []byte(`"path":"\/`))
	return r, nil
}

// rawKinds are the kinds of bodies that are no JSON.
var rawKinds = []string{"blank", "broken", "bytes", "html", "plain"}

// almostMark is a text that looks like a stand-in.
var almostMark = regexp.MustCompile(`^\{[#/]?[A-Za-z]+:[^{}]*\}$`)

// checkMarks finds malformed stand-ins of edited files.
func checkMarks(v value) error {
	if v.kind == text && almostMark.MatchString(v.text) {
		if _, ok := wholeMark(v.text); !ok {
			return fmt.Errorf("%.60q is no stand-in: want {KIND:NUMBER:LENGTH}", v.text)
		}
	}
	for _, item := range v.items {
		if err := checkMarks(item); err != nil {
			return err
		}
	}
	return nil
}

// CheckRow says which behaviour a name was meant to be, where there is none.
func CheckRow(id string) error {
	if _, ok := behaviour.ByID(id); ok {
		return nil
	}
	var names []string
	for _, b := range behaviour.All() {
		names = append(names, b.ID)
	}
	return fmt.Errorf("there is no behaviour %.60q%s", id, suggest.DidYouMean(id, names...))
}
