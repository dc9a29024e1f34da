package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// fields are the fields of a call, read with the leniency of the platform:
// numbers may be strings, a list may be one string, null and "" count as
// absent, unknown fields do not matter. The first field of a type that no
// leniency covers makes the call 40097. Contract: rules 0, clients 3, 4.
//
// Observed(wire.field.unknown): a live edit carried fields that no page names.
type fields struct {
	list  []field
	err   error
	notes *behaviour.Notes // of the call; may be nil
	// settings say which leniency the operator refuses; nil = none.
	settings *settings.Live
	doubled  string // a name that stands twice
	textToo  string // a number that the page's own sample writes as a text
}

// noteOrRefuse notes that a field is taken as a row of behaviours says. Where the operator refuses
// that, the field is wrong.
func (f *fields) noteOrRefuse(row behaviour.Row, name, want string) {
	f.notes.Add(row)
	if f.settings.Refuses(row) {
		f.wrong(row, name, want)
	}
}

// field is a field as it came; name is without its quotes.
type field struct {
	name []byte
	raw  json.RawMessage
}

// parseFields reads a JSON object: 47001 for anything else.
func parseFields(body []byte) (*fields, error) {
	if f, ok := plainFields(body); ok {
		return f, nil
	}
	if !utf8.Valid(body) {
		return nil, errcode.DataFormat.WithDetail(behaviour.WireBodyNoUTF, "the body is not UTF-8")
	}
	var object map[string]json.RawMessage
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&object); err != nil {
		row := behaviour.WireBodyNotJSON
		if _, is := errors.AsType[*json.UnmarshalTypeError](err); is {
			row = behaviour.WireBodyNotObject
		}
		return nil, errcode.DataFormat.WithDetail(row, "the body is not a JSON object: %v", err)
	}
	if object == nil {
		return nil, errcode.DataFormat.WithDetail(behaviour.WireBodyNotObject, "the body is null, not a JSON object")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errcode.DataFormat.WithDetail(behaviour.WireBodyTrailing, "the body goes on after the JSON object")
	}
	f := &fields{doubled: doubledName(body)}
	for name, raw := range object {
		f.list = append(f.list, field{[]byte(name), raw})
	}
	return f, nil
}

// doubledName returns a name that occurs twice in a JSON object; "" = none does.
func doubledName(body []byte) string {
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		return ""
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		text, is := name.(string)
		var value json.RawMessage
		if err != nil || !is || d.Decode(&value) != nil {
			return ""
		}
		if seen[text] {
			return text
		}
		seen[text] = true
	}
	return ""
}

// plainFields reads, at a fraction of the cost, what most bodies are: an object of plain texts, lists of them,
// whole numbers, true, false and null. ok is false for everything else.
func plainFields(body []byte) (*fields, bool) {
	pos := skipSpace(body, 0)
	if pos == len(body) || body[pos] != '{' {
		return nil, false
	}
	f := &fields{list: make([]field, 0, 4)}
	pos = skipSpace(body, pos+1)
	for first := true; pos < len(body) && body[pos] != '}'; first = false {
		if !first {
			if body[pos] != ',' {
				return nil, false
			}
			pos = skipSpace(body, pos+1)
		}
		name, lag := plainText(body, pos)
		if pos = skipSpace(body, lag); name == nil || pos == len(body) || body[pos] != ':' || len(f.list) == maskedFew {
			return nil, false
		}
		pos = skipSpace(body, pos+1)
		value, lag := plainValue(body, pos)
		if value == nil {
			if lag = plainTexts(body, pos, func([]byte) {}); lag < 0 {
				return nil, false
			}
			value = body[pos:lag]
		}
		if f.set(name[1:len(name)-1], value) { // of two with one name the last one counts
			f.doubled = string(name[1 : len(name)-1])
		}
		pos = skipSpace(body, lag)
	}
	return f, pos < len(body) && skipSpace(body, pos+1) == len(body)
}

// plainTexts calls put with each text, without its quotes, of a list of plain texts, and returns the place after the list; -1 = there is
// something else at that place.
func plainTexts(b []byte, pos int, put func(text []byte)) int {
	if pos == len(b) || b[pos] != '[' {
		return -1
	}
	pos = skipSpace(b, pos+1)
	for first := true; pos < len(b) && (b[pos] != ']' || !first); first = false {
		text, lag := plainText(b, pos)
		if pos = skipSpace(b, lag); text == nil || pos == len(b) {
			return -1
		}
		put(text[1 : len(text)-1])
		if b[pos] == ']' {
			break
		}
		if b[pos] != ',' {
			return -1
		}
		pos = skipSpace(b, pos+1)
	}
	if pos == len(b) {
		return -1
	}
	return pos + 1
}

// queryFields reads fields from a query: every value is a text.
func queryFields(query url.Values) *fields {
	f := &fields{}
	for name, values := range query {
		quoted, err := json.Marshal(query.Get(name))
		if err != nil {
			continue
		}
		if len(values) > 1 {
			f.doubled = name
		}
		f.list = append(f.list, field{[]byte(name), quoted})
	}
	return f
}

// raw returns a field as it came; nil = it did not.
func (f *fields) raw(name string) json.RawMessage {
	for i := range f.list {
		if string(f.list[i].name) == name {
			return f.list[i].raw
		}
	}
	return nil
}

// set adds a field, or replaces the one with the same name; had reports that there was one.
func (f *fields) set(name []byte, raw json.RawMessage) (had bool) {
	for i := range f.list {
		if bytes.Equal(f.list[i].name, name) {
			f.list[i].raw = raw
			return true
		}
	}
	f.list = append(f.list, field{name, raw})
	return false
}

func (f *fields) wrong(row behaviour.Row, name, want string) {
	if f.err != nil {
		return
	}
	got := "something else"
	if !isHidden(name) {
		got = fmt.Sprintf("%.60s", f.raw(name))
	}
	f.err = errcode.InvalidArgs.WithDetail(row, "%s: want %s, got %s", name, want, got)
}

// peek returns a text field, and notes nothing where it is none.
func (f *fields) peek(name string) (s string, ok bool) { return unquoted(f.raw(name)) }

// absent reports whether a field is missing or empty. Assumed(wire.field.null): clients send null
// and "" for what they do not mean.
func (f *fields) absent(name string) bool {
	switch string(bytes.TrimSpace(f.raw(name))) {
	case "null", `""`:
		f.noteOrRefuse(behaviour.WireFieldNull, name, "a value, or no such field")
		return true
	case "":
		return true
	}
	return false
}

// isText returns the text that a field is, and false where it is something else.
func isText(raw json.RawMessage) (s string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	return unquoted(raw)
}

func unquoted(raw json.RawMessage) (s string, ok bool) {
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// text returns a text field, "" where it is absent.
func (f *fields) text(name string) string {
	if f.absent(name) {
		return ""
	}
	s, ok := isText(f.raw(name))
	if !ok {
		f.wrong(behaviour.WireFieldType, name, "a string")
	}
	if strings.Contains(s, "\x00") {
		f.wrong(behaviour.WireFieldNUL, name, "a string without NUL") // no database keeps one
		return ""
	}
	return s
}

// target returns the Mini Program that a service account's call is about. The
// calls of others may carry anything there. Contract: clients 3.
func (f *fields) target(caller accounts.Kind) string {
	if caller != accounts.ServiceAccount || strings.TrimSpace(string(f.raw("appid"))) == "0" {
		return ""
	}
	return f.text("appid")
}

// number returns a whole number; ok is false where it is absent.
func (f *fields) number(name string) (n int, ok bool) {
	if f.absent(name) {
		return 0, false
	}
	literal := string(f.raw(name))
	if s, ok := isText(f.raw(name)); ok {
		if literal = strings.TrimSpace(s); !decimal(literal) {
			f.wrong(behaviour.WireNumberForm, name, "a whole number")
			return 0, false
		}
		if name != f.textToo {
			f.noteOrRefuse(behaviour.WireNumberText, name, "a number")
		}
	}
	if n, err := strconv.Atoi(literal); err == nil {
		return n, true
	}
	// 1.0 and 1e4 are whole numbers too; above 2^53 a float is not exact.
	x, err := strconv.ParseFloat(literal, 64)
	if err != nil || x != math.Trunc(x) || math.Abs(x) > 1<<53 {
		f.wrong(behaviour.WireFieldType, name, "a whole number")
		return 0, false
	}
	f.noteOrRefuse(behaviour.WireNumberFloat, name, "a number without point or exponent")
	return int(x), true
}

// decimal reports whether a text that stands for a number is written in digits,
// with a sign and a decimal point if it likes: ParseFloat takes far more.
// Contract: rules 0.
func decimal(s string) bool {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	full, fraction, point := strings.Cut(s, ".")
	return digits(full) && (!point || digits(fraction))
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// flag returns a true/false field, which may also be written 1/0; false where it is absent.
func (f *fields) flag(name string) bool {
	if f.absent(name) {
		return false
	}
	var b bool
	if json.Unmarshal(f.raw(name), &b) == nil {
		return b
	}
	f.noteOrRefuse(behaviour.WireFlagWord, name, "true or false")
	switch strings.Trim(string(f.raw(name)), `" `) {
	case "1", "true":
		return true
	case "0", "false":
		return false
	}
	f.wrong(behaviour.WireFieldType, name, "true or false")
	return false
}

// switched returns a field that the platform's table has as the number 1 or 0, also written true or false; false where it
// is absent. Contract: rules 3.4.
func (f *fields) switched(name string) bool {
	if f.absent(name) {
		return false
	}
	literal := string(f.raw(name))
	if s, ok := isText(f.raw(name)); ok {
		if literal = strings.TrimSpace(s); s != "1" && s != "0" { // the sample of the page has "1"
			f.noteOrRefuse(behaviour.WireNumberText, name, "a number")
		}
	}
	switch literal {
	case "true", "false":
		f.noteOrRefuse(behaviour.WireFlagWord, name, "1 or 0")
		return literal == "true"
	case "1", "0":
		return literal == "1"
	}
	f.wrong(behaviour.WireFieldType, name, "1 or 0")
	return false
}

// texts returns a list of texts, also written as one text; given is false
// where the field is absent.
func (f *fields) texts(name string) (list []string, given bool) {
	if f.absent(name) {
		return nil, false
	}
	if item, ok := isText(f.raw(name)); ok {
		f.noteOrRefuse(behaviour.WireListText, name, "a list of strings")
		return []string{item}, true
	}
	raw := f.raw(name)
	list = []string{}
	if pos := skipSpace(raw, 0); plainTexts(raw, pos, func(text []byte) { list = append(list, string(text)) }) >= 0 {
		return list, true
	}
	var names []*string
	if json.Unmarshal(raw, &names) != nil {
		f.wrong(behaviour.WireFieldType, name, "a list of strings")
		return nil, false
	}
	list = []string{}
	for _, s := range names {
		if s == nil {
			f.wrong(behaviour.WireFieldType, name, "a list of strings")
			return nil, false
		}
		list = append(list, *s)
	}
	return list, true
}

// textOrNumber returns a text that some callers send as a number, with its
// digits as they came.
func (f *fields) textOrNumber(name string) string {
	if f.absent(name) {
		return ""
	}
	var n json.Number
	if raw := f.raw(name); raw[0] != '"' && json.Unmarshal(raw, &n) == nil {
		f.noteOrRefuse(behaviour.WireTextNumber, name, "a string")
		return n.String()
	}
	return f.text(name)
}
