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

// fields contains the fields of a call, parsed as leniently as on the platform: numbers may be strings, a list may be a single string, null
// and "" count as absent, and unknown fields are ignored. If a field has a type that no leniency covers, the call fails with error 40097.
// Contract: rules §0, clients §3, §4.
//
// Observed(wire.field.unknown): a recorded live edit contained undocumented fields.
type fields struct {
	list  []field
	err   error
	notes *behaviour.Notes // the behaviours on which the call depends; may be nil
	// settings determine which leniencies the operator disabled; nil = none.
	settings       *settings.Live
	duplicate      string // a field name that occurs twice
	numberAsString string // name of a number field that the documentation page's sample writes as a string
}

// noteOrRefuse records that a field is accepted because of a behaviour in the behaviour table. If the operator disabled the lenient
// behaviour of the row, the field counts as invalid.
func (f *fields) noteOrRefuse(row behaviour.Row, name, want string) {
	f.notes.Add(row)
	if f.settings.Refuses(row) {
		f.setError(row, name, want)
	}
}

// field is a field as received; name excludes its quotes.
type field struct {
	name []byte
	raw  json.RawMessage
}

// parseFields parses a JSON object; any other text is error 47001.
func parseFields(body []byte) (*fields, error) {
	if f, ok := parsePlainFields(body); ok {
		return f, nil
	}
	if !utf8.Valid(body) {
		return nil, errcode.DataFormat.WithDetail(behaviour.WireBodyNoUTF, "the body is not UTF-8")
	}
	var object map[string]json.RawMessage
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&object); err != nil {
		row := behaviour.WireBodyNotJSON
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			row = behaviour.WireBodyNotObject
		}
		return nil, errcode.DataFormat.WithDetail(row, "the body is not a JSON object: %v", err)
	}
	if object == nil {
		return nil, errcode.DataFormat.WithDetail(behaviour.WireBodyNotObject, "the body is null, not a JSON object")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errcode.DataFormat.WithDetail(behaviour.WireBodyTrailing, "the body has data after the JSON object")
	}
	f := &fields{duplicate: duplicateName(body)}
	for name, raw := range object {
		f.list = append(f.list, field{[]byte(name), raw})
	}
	return f, nil
}

// duplicateName returns a name that occurs twice in a JSON object; "" = none.
func duplicateName(body []byte) string {
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		return ""
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		text, ok := name.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return ""
		}
		if seen[text] {
			return text
		}
		seen[text] = true
	}
	return ""
}

// parsePlainFields is a fast path for the most common bodies: an object of plain strings, lists of plain strings, whole numbers, true,
// false and null; ok is false for any other body.
func parsePlainFields(body []byte) (*fields, bool) {
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
		name, end := scanPlainString(body, pos)
		if pos = skipSpace(body, end); name == nil || pos == len(body) || body[pos] != ':' || len(f.list) == maxPlainFields {
			return nil, false
		}
		pos = skipSpace(body, pos+1)
		value, end := scanPlainValue(body, pos)
		if value == nil {
			if end = scanPlainStrings(body, pos, func([]byte) {}); end < 0 {
				return nil, false
			}
			value = body[pos:end]
		}
		if f.set(name[1:len(name)-1], value) { // for a duplicate name, the last value counts
			f.duplicate = string(name[1 : len(name)-1])
		}
		pos = skipSpace(body, end)
	}
	return f, pos < len(body) && skipSpace(body, pos+1) == len(body)
}

// scanPlainStrings calls the function visit for each string (without quotes) in a list of plain strings and returns the position after the
// list; -1 = there is no such list at pos.
func scanPlainStrings(b []byte, pos int, visit func(text []byte)) int {
	if pos == len(b) || b[pos] != '[' {
		return -1
	}
	pos = skipSpace(b, pos+1)
	for first := true; pos < len(b) && (b[pos] != ']' || !first); first = false {
		text, end := scanPlainString(b, pos)
		if pos = skipSpace(b, end); text == nil || pos == len(b) {
			return -1
		}
		visit(text[1 : len(text)-1])
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

// queryFields returns the parameters of a query as fields, all of them strings.
func queryFields(query url.Values) *fields {
	f := &fields{}
	for name, values := range query {
		quoted, err := json.Marshal(query.Get(name))
		if err != nil {
			continue
		}
		if len(values) > 1 {
			f.duplicate = name
		}
		f.list = append(f.list, field{[]byte(name), quoted})
	}
	return f
}

// raw returns a field as received; nil = the field is absent.
func (f *fields) raw(name string) json.RawMessage {
	for i := range f.list {
		if string(f.list[i].name) == name {
			return f.list[i].raw
		}
	}
	return nil
}

// set adds or replaces a field; replaced reports whether a field with the same name existed.
func (f *fields) set(name []byte, raw json.RawMessage) (replaced bool) {
	for i := range f.list {
		if bytes.Equal(f.list[i].name, name) {
			f.list[i].raw = raw
			return true
		}
	}
	f.list = append(f.list, field{name, raw})
	return false
}

func (f *fields) setError(row behaviour.Row, name, want string) {
	if f.err != nil {
		return
	}
	got := "something else"
	if !isSecretName(name) {
		got = fmt.Sprintf("%.60s", f.raw(name))
	}
	f.err = errcode.InvalidArgs.WithDetail(row, "%s: want %s, got %s", name, want, got)
}

// peek returns a string field; ok is false if the field is not a string. peek never records a deviation.
func (f *fields) peek(name string) (s string, ok bool) { return unquote(f.raw(name)) }

// isAbsent reports whether a field is missing or empty. Assumed(wire.field.null): clients send null and "" for fields that they do not use.
func (f *fields) isAbsent(name string) bool {
	switch string(bytes.TrimSpace(f.raw(name))) {
	case "null", `""`:
		f.noteOrRefuse(behaviour.WireFieldNull, name, "a value, or no such field")
		return true
	case "":
		return true
	}
	return false
}

// stringValue returns the content of a JSON string; ok is false for other JSON values.
func stringValue(raw json.RawMessage) (s string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	return unquote(raw)
}

func unquote(raw json.RawMessage) (s string, ok bool) {
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// text returns a string field, or "" if the field is absent.
func (f *fields) text(name string) string {
	if f.isAbsent(name) {
		return ""
	}
	s, ok := stringValue(f.raw(name))
	if !ok {
		f.setError(behaviour.WireFieldType, name, "a string")
	}
	if strings.Contains(s, "\x00") {
		f.setError(behaviour.WireFieldNUL, name, "a string without NUL") // databases cannot store a NUL character
		return ""
	}
	return s
}

// required returns a string field, and sets error 40097 with the given row if the field is absent or empty.
func (f *fields) required(name string, row behaviour.Row) string {
	text := f.text(name)
	if f.err == nil && text == "" {
		f.err = errcode.InvalidArgs.WithDetail(row, "%s is missing", name)
	}
	return text
}

// requiring returns a function for reading, which returns a required string field.
func requiring(name string, row behaviour.Row) func(*fields) (string, error) {
	return func(f *fields) (string, error) { return f.required(name, row), f.err }
}

// targetAppID returns the AppID of the Mini Program that a service account's call concerns. If the caller is not a service account, the
// field appid is ignored and may have any value. Contract: clients §3.
func (f *fields) targetAppID(caller accounts.Kind) string {
	if caller != accounts.ServiceAccount || strings.TrimSpace(string(f.raw("appid"))) == "0" {
		return ""
	}
	return f.text("appid")
}

// number returns an integer field; ok is false if the field is absent.
func (f *fields) number(name string) (n int, ok bool) {
	if f.isAbsent(name) {
		return 0, false
	}
	literal := string(f.raw(name))
	if s, ok := stringValue(f.raw(name)); ok {
		if literal = strings.TrimSpace(s); !isDecimal(literal) {
			f.setError(behaviour.WireNumberForm, name, "a whole number")
			return 0, false
		}
		if name != f.numberAsString {
			f.noteOrRefuse(behaviour.WireNumberText, name, "a number")
		}
	}
	if n, err := strconv.Atoi(literal); err == nil {
		return n, true
	}
	// 1.0 and 1e4 are integers too; above 2^53 a float is not exact.
	x, err := strconv.ParseFloat(literal, 64)
	if err != nil || x != math.Trunc(x) || math.Abs(x) > 1<<53 {
		f.setError(behaviour.WireFieldType, name, "a whole number")
		return 0, false
	}
	f.noteOrRefuse(behaviour.WireNumberFloat, name, "a number without point or exponent")
	return int(x), true
}

// isDecimal reports whether a text is a decimal number: digits with an optional sign and decimal point; ParseFloat accepts many other
// forms. Contract: rules §0.
func isDecimal(s string) bool {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	integer, fraction, hasPoint := strings.Cut(s, ".")
	return isDigits(integer) && (!hasPoint || isDigits(fraction))
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// flag returns a boolean field, which may also be sent as 1 or 0; false if the field is absent.
func (f *fields) flag(name string) bool {
	if f.isAbsent(name) {
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
	f.setError(behaviour.WireFieldType, name, "true or false")
	return false
}

// numericFlag returns a field that the platform documents as the number 1 or 0; true and false are accepted too. An absent field counts as
// false. Contract: rules §3.4.
func (f *fields) numericFlag(name string) bool {
	if f.isAbsent(name) {
		return false
	}
	literal := string(f.raw(name))
	if s, ok := stringValue(f.raw(name)); ok {
		literal = strings.TrimSpace(s)
		if s != "1" && s != "0" { // the documentation page's sample sends the string "1"
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
	f.setError(behaviour.WireFieldType, name, "1 or 0")
	return false
}

// texts returns a list of strings; a single string counts as a list of one. given is false if the field is absent.
func (f *fields) texts(name string) (list []string, given bool) {
	if f.isAbsent(name) {
		return nil, false
	}
	if item, ok := stringValue(f.raw(name)); ok {
		f.noteOrRefuse(behaviour.WireListText, name, "a list of strings")
		return []string{item}, true
	}
	raw := f.raw(name)
	list = []string{}
	if pos := skipSpace(raw, 0); scanPlainStrings(raw, pos, func(text []byte) { list = append(list, string(text)) }) >= 0 {
		return list, true
	}
	var names []*string
	if json.Unmarshal(raw, &names) != nil {
		f.setError(behaviour.WireFieldType, name, "a list of strings")
		return nil, false
	}
	list = []string{}
	for _, s := range names {
		if s == nil {
			f.setError(behaviour.WireFieldType, name, "a list of strings")
			return nil, false
		}
		list = append(list, *s)
	}
	return list, true
}

// textOrNumber returns a string field that some callers send as a number; it returns the digits of a number unchanged.
func (f *fields) textOrNumber(name string) string {
	if f.isAbsent(name) {
		return ""
	}
	var n json.Number
	if raw := f.raw(name); raw[0] != '"' && json.Unmarshal(raw, &n) == nil {
		f.noteOrRefuse(behaviour.WireTextNumber, name, "a string")
		return n.String()
	}
	return f.text(name)
}
