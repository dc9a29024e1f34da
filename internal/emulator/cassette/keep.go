package cassette

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// seenAnswer is a line of docs/contract/seen/answers.ndjson.
type seenAnswer struct {
	ID            string          `json:"id"`
	Endpoint      string          `json:"endpoint"`
	Request       string          `json:"request"`
	Answer        json.RawMessage `json:"answer"`
	Date          string          `json:"date"`
	Source        string          `json:"source"`
	EvidenceLevel string          `json:"evidence_level"`
}

// seenDifference is a line of docs/contract/seen/differences.ndjson.
type seenDifference struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`
	Reason string `json:"reason"`
}

// Keep appends the cassette's responses that the folder (such as docs/contract/seen) does not contain yet, and returns their
// number. Keep also adds each new response to differences.ndjson, the list of responses that no test reproduces.
func Keep(lines []Recorded, report Report, folder, source string) (added int, err error) {
	answers, differences := filepath.Join(folder, "answers.ndjson"), filepath.Join(folder, "differences.ndjson")
	have, next, err := readSeen(answers)
	if err != nil {
		return 0, err
	}
	var newAnswers, newDifferences bytes.Buffer
	for i := range lines {
		r := &lines[i]
		if r.Error != "" || r.answer.kind != object || strings.HasPrefix(r.Path, "/admin/") || strings.HasPrefix(r.Path, "/scan/") {
			continue
		}
		answer := starred(r.answer)
		key := r.Path + "\n" + shapeOf(answer)
		if have[key] {
			continue
		}
		have[key] = true
		id := fmt.Sprintf("k%03d", next)
		next, added = next+1, added+1
		if err := writeLine(&newAnswers, seenAnswer{ID: id, Endpoint: r.Path, Request: requestKey(r), Answer: answer.json(),
			Date: r.OccurredAt.Format(time.RFC3339), Source: fmt.Sprintf("%s, line %d", source, r.Number),
			EvidenceLevel: "observed"}); err != nil {
			return 0, err
		}
		kind, reason := "unknown", "recorded, and no play of the test asks for it yet"
		if slices.Contains(report.Skipped, Skipped{r.Number, r.Path, noEndpoint}) {
			kind, reason = "family", noEndpoint
		}
		if err := writeLine(&newDifferences, seenDifference{id, kind, reason}); err != nil {
			return 0, err
		}
	}
	if err := appendTo(answers, newAnswers.Bytes()); err != nil {
		return 0, err
	}
	return added, appendTo(differences, newDifferences.Bytes())
}

func writeLine(to *bytes.Buffer, v any) error {
	e := json.NewEncoder(to)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func appendTo(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err = f.Write(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// readSeen returns the responses that a file already contains, and the next free number for an id.
func readSeen(name string) (have map[string]bool, next int, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, 0, err
	}
	have, next = map[string]bool{}, 1
	n := 0
	for line := range bytes.Lines(text) {
		n++
		var answer seenAnswer
		if err := json.Unmarshal(line, &answer); err != nil {
			return nil, 0, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if v, err := parseValue(answer.Answer); err == nil {
			have[answer.Endpoint+"\n"+shapeOf(v)] = true
		}
		var number int
		if _, err := fmt.Sscanf(answer.ID, "k%d", &number); err == nil {
			next = max(next, number+1)
		}
	}
	return have, next, nil
}

// starred returns a response without placeholders: zeros replace request ids and numbers, and asterisks replace other values.
func starred(v value) value {
	isNumber := false
	v.text = expand(v.text, func(m mark) string {
		isNumber = isNumber || m.number && m.kind != "rid"
		return cmp.Or(map[string]string{"rid": "00000000-00000000-00000000", "hint": "[***]"}[m.kind], "***")
	})
	if v.kind == text && isNumber {
		return value{kind: number, text: "0"}
	}
	return v.mapped(starred)
}

// shapeOf returns the shape of a response: its errcode and errmsg, or the names of its fields in order.
func shapeOf(v value) string {
	if n, ok := v.field("errcode").int(); ok && n != 0 {
		words, _, _ := strings.Cut((&Mask{}).formText(v.field("errmsg").text), "{")
		return fmt.Sprint(n, " ", strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(words), "rid:")))
	}
	return strings.Join(v.names, ",")
}

// requestKey describes a request in the notation of docs/contract/seen/answers.ndjson.
func requestKey(r *Recorded) string {
	var said strings.Builder
	said.WriteString(r.Method + " ")
	for i, name := range r.query.names {
		said.WriteString(string("?&"[min(i, 1)]) + name + "=" + starred(r.query.items[i]).text)
	}
	switch {
	case r.rawKind != "":
		said.WriteString(" a body that is no JSON: " + r.rawKind)
	case r.request.kind != absent:
		said.WriteString(" " + string(starred(r.request).json()))
	}
	return strings.TrimSpace(said.String())
}
