package api

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"sync"
	"unicode/utf8"
)

// maskedFew is the maximum number of fields of an object that maskPlain handles, and maskedDeep the maximum nesting depth.
const (
	maskedFew  = 16
	maskedDeep = 5
)

// maskPlain is a fast path of maskBody for most calls: objects with few fields, and lists, of plain strings, integers, true, false
// and null; ok is false for other bodies.
func maskPlain(body []byte) (shown string, ok bool) {
	pos := skipSpace(body, 0)
	if pos == len(body) || body[pos] != '{' {
		return "", false
	}
	room := maskRoom.Get().(*[]byte)
	defer func() {
		if cap(*room) <= 4*maxRecorded { // buffers of exceptionally long bodies are discarded
			maskRoom.Put(room)
		}
	}()
	*room, pos = appendMasked((*room)[:0], body, pos, maskedDeep)
	if pos < 0 || skipSpace(body, pos) != len(body) {
		return "", false
	}
	return string(*room), true
}

// maskRoom is a pool of buffers for masked bodies.
var maskRoom = sync.Pool{New: func() any { return new([]byte) }}

// appendMasked appends the masked value at pos to shown and returns the position after the value; -1 if the value is not plain.
func appendMasked(shown, body []byte, pos, deep int) ([]byte, int) {
	switch {
	case pos == len(body) || deep == 0:
		return shown, -1
	case body[pos] == '{':
		return appendMaskedObject(shown, body, pos, deep)
	case body[pos] == '[':
		return appendMaskedList(shown, body, pos, deep)
	}
	value, pos := plainValue(body, pos)
	if value == nil {
		return shown, -1
	}
	return append(shown, value...), pos
}

func appendMaskedList(shown, body []byte, pos, deep int) ([]byte, int) {
	shown = append(shown, '[')
	pos = skipSpace(body, pos+1)
	for first := true; pos < len(body) && body[pos] != ']'; first = false {
		if !first {
			if body[pos] != ',' {
				return shown, -1
			}
			shown = append(shown, ',')
			pos = skipSpace(body, pos+1)
		}
		if shown, pos = appendMasked(shown, body, pos, deep-1); pos < 0 {
			return shown, -1
		}
		pos = skipSpace(body, pos)
	}
	if pos == len(body) || shown[len(shown)-1] == ',' {
		return shown, -1
	}
	return append(shown, ']'), pos + 1
}

// shownField is a field of a masked object.
type shownField struct {
	name       []byte // the raw name without its quotes
	first      uint64 // the first bytes of name as a number that sorts like name
	start, end int    // the position of the field, name and value, in shown
}

func (f *shownField) compare(otherField *shownField) int {
	if f.first != otherField.first {
		return cmp.Compare(f.first, otherField.first)
	}
	return bytes.Compare(f.name, otherField.name)
}

func firstBytes(name []byte) uint64 {
	var first [8]byte
	copy(first[:], name)
	return binary.BigEndian.Uint64(first[:])
}

func appendMaskedObject(shown, body []byte, pos, deep int) ([]byte, int) {
	var room [maskedFew]shownField
	fields, sorted := room[:0], true
	shown = append(shown, '{')
	start := len(shown)
	pos = skipSpace(body, pos+1)
	for pos < len(body) && body[pos] != '}' {
		if len(fields) > 0 {
			if body[pos] != ',' {
				return shown, -1
			}
			shown = append(shown, ',')
			pos = skipSpace(body, pos+1)
		}
		name, lag := plainText(body, pos)
		if pos = skipSpace(body, lag); name == nil || len(fields) == maskedFew || pos == len(body) || body[pos] != ':' {
			return shown, -1
		}
		f := shownField{name: name[1 : len(name)-1], start: len(shown)}
		shown = append(append(shown, name...), ':')
		value := len(shown)
		if shown, pos = appendMasked(shown, body, skipSpace(body, pos+1), deep-1); pos < 0 {
			return shown, -1
		}
		if isHidden(string(f.name)) {
			shown = append(append(append(shown[:value], '"'), masked...), '"')
		}
		f.end = len(shown)
		f.first = firstBytes(f.name)
		sorted = sorted && (len(fields) == 0 || fields[len(fields)-1].compare(&f) < 0)
		fields = append(fields, f)
		pos = skipSpace(body, pos)
	}
	if pos == len(body) {
		return shown, -1
	}
	if !sorted { // sort fields as encoding/json sorts map keys
		for i := range fields { // they are few
			for j := i; j > 0 && fields[j].compare(&fields[j-1]) < 0; j-- {
				fields[j], fields[j-1] = fields[j-1], fields[j]
			}
		}
		end := len(shown)
		for i, f := range fields {
			if i > 0 {
				if bytes.Equal(f.name, fields[i-1].name) {
					return shown, -1 // duplicate names: the last value counts, which the slow path handles
				}
				shown = append(shown, ',')
			}
			shown = append(shown, shown[f.start:f.end]...)
		}
		shown = shown[:start+copy(shown[start:], shown[end:])]
	}
	return append(shown, '}'), pos + 1
}

func skipSpace(b []byte, pos int) int {
	for pos < len(b) && (b[pos] == ' ' || b[pos] == '\t' || b[pos] == '\n' || b[pos] == '\r') {
		pos++
	}
	return pos
}

// plainText returns the string at pos, with quotes, and the position after the string. A string with escapes, or with bytes that
// JSON would escape, is not plain.
func plainText(b []byte, pos int) ([]byte, int) {
	if pos == len(b) || b[pos] != '"' {
		return nil, pos
	}
	foreign := false
	for end := pos + 1; end < len(b); end++ {
		switch c := b[end]; {
		case c == '"':
			text := b[pos : end+1]
			if foreign && (!utf8.Valid(text) || bytes.Contains(text, []byte("\u2028")) || bytes.Contains(text, []byte("\u2029"))) {
				return nil, pos
			}
			return text, end + 1
		case c >= utf8.RuneSelf:
			foreign = true
		case c == '\\' || c < ' ':
			return nil, pos
		}
	}
	return nil, pos
}

// plainValue returns a string, an integer of at most 15 digits, true, false or null.
func plainValue(b []byte, pos int) ([]byte, int) {
	if pos < len(b) && b[pos] == '"' {
		return plainText(b, pos)
	}
	end := pos
	for end < len(b) && (b[end] == '-' || b[end] >= '0' && b[end] <= '9' || b[end] >= 'a' && b[end] <= 'z') {
		end++
	}
	word := b[pos:end]
	switch string(word) {
	case "true", "false", "null", "0":
		return word, end
	}
	digits := bytes.TrimPrefix(word, []byte("-"))
	if len(digits) < 1 || len(digits) > 15 || digits[0] == '0' {
		return nil, pos
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return nil, pos
		}
	}
	return word, end
}
