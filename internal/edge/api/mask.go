package api

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"sync"
	"unicode/utf8"
)

// maskedFew is the number of fields of an object that maskPlain examines, maskedDeep the depth.
const (
	maskedFew  = 16
	maskedDeep = 5
)

// maskPlain is maskBody for what most calls are, at a fraction of the cost:
// objects of a few fields, and lists, of plain texts, whole numbers, true, false
// and null. ok is false for everything else.
func maskPlain(body []byte) (shown string, ok bool) {
	at := skipSpace(body, 0)
	if at == len(body) || body[at] != '{' {
		return "", false
	}
	room := maskRoom.Get().(*[]byte)
	defer func() {
		if cap(*room) <= 4*maxRecorded { // a long body was the exception
			maskRoom.Put(room)
		}
	}()
	*room, at = appendMasked((*room)[:0], body, at, maskedDeep)
	if at < 0 || skipSpace(body, at) != len(body) {
		return "", false
	}
	return string(*room), true
}

// maskRoom are slices in which a body is shown.
var maskRoom = sync.Pool{New: func() any { return new([]byte) }}

// appendMasked appends the value at a place, masked, and returns the place after it; -1 where the
// value is not plain.
func appendMasked(shown, body []byte, at, deep int) ([]byte, int) {
	switch {
	case at == len(body) || deep == 0:
		return shown, -1
	case body[at] == '{':
		return appendMaskedObject(shown, body, at, deep)
	case body[at] == '[':
		return appendMaskedList(shown, body, at, deep)
	}
	value, at := plainValue(body, at)
	if value == nil {
		return shown, -1
	}
	return append(shown, value...), at
}

func appendMaskedList(shown, body []byte, at, deep int) ([]byte, int) {
	shown = append(shown, '[')
	at = skipSpace(body, at+1)
	for first := true; at < len(body) && body[at] != ']'; first = false {
		if !first {
			if body[at] != ',' {
				return shown, -1
			}
			shown = append(shown, ',')
			at = skipSpace(body, at+1)
		}
		if shown, at = appendMasked(shown, body, at, deep-1); at < 0 {
			return shown, -1
		}
		at = skipSpace(body, at)
	}
	if at == len(body) || shown[len(shown)-1] == ',' {
		return shown, -1
	}
	return append(shown, ']'), at + 1
}

// shownField is a field of an object that is shown.
type shownField struct {
	name       []byte // as it stands there, without its quotes
	first      uint64 // the first bytes of name, in their order
	start, end int    // where in shown name and value are
}

func (f *shownField) compare(other *shownField) int {
	if f.first != other.first {
		return cmp.Compare(f.first, other.first)
	}
	return bytes.Compare(f.name, other.name)
}

func firstBytes(name []byte) uint64 {
	var first [8]byte
	copy(first[:], name)
	return binary.BigEndian.Uint64(first[:])
}

func appendMaskedObject(shown, body []byte, at, deep int) ([]byte, int) {
	var room [maskedFew]shownField
	fields, sorted := room[:0], true
	shown = append(shown, '{')
	start := len(shown)
	at = skipSpace(body, at+1)
	for at < len(body) && body[at] != '}' {
		if len(fields) > 0 {
			if body[at] != ',' {
				return shown, -1
			}
			shown = append(shown, ',')
			at = skipSpace(body, at+1)
		}
		name, behind := plainText(body, at)
		if at = skipSpace(body, behind); name == nil || len(fields) == maskedFew || at == len(body) || body[at] != ':' {
			return shown, -1
		}
		f := shownField{name: name[1 : len(name)-1], start: len(shown)}
		shown = append(append(shown, name...), ':')
		value := len(shown)
		if shown, at = appendMasked(shown, body, skipSpace(body, at+1), deep-1); at < 0 {
			return shown, -1
		}
		if isHidden(string(f.name)) {
			shown = append(append(append(shown[:value], '"'), masked...), '"')
		}
		f.end = len(shown)
		f.first = firstBytes(f.name)
		sorted = sorted && (len(fields) == 0 || fields[len(fields)-1].compare(&f) < 0)
		fields = append(fields, f)
		at = skipSpace(body, at)
	}
	if at == len(body) {
		return shown, -1
	}
	if !sorted { // as encoding/json writes a map
		for i := range fields { // they are few
			for j := i; j > 0 && fields[j].compare(&fields[j-1]) < 0; j-- {
				fields[j], fields[j-1] = fields[j-1], fields[j]
			}
		}
		end := len(shown)
		for i, f := range fields {
			if i > 0 {
				if bytes.Equal(f.name, fields[i-1].name) {
					return shown, -1 // the last one counts
				}
				shown = append(shown, ',')
			}
			shown = append(shown, shown[f.start:f.end]...)
		}
		shown = shown[:start+copy(shown[start:], shown[end:])]
	}
	return append(shown, '}'), at + 1
}

func skipSpace(b []byte, at int) int {
	for at < len(b) && (b[at] == ' ' || b[at] == '\t' || b[at] == '\n' || b[at] == '\r') {
		at++
	}
	return at
}

// plainText returns the text at a place, with its quotes, and the place after it. A text with
// escapes, or with bytes that JSON would escape, is none.
func plainText(b []byte, at int) ([]byte, int) {
	if at == len(b) || b[at] != '"' {
		return nil, at
	}
	foreign := false
	for end := at + 1; end < len(b); end++ {
		switch c := b[end]; {
		case c == '"':
			text := b[at : end+1]
			if foreign && (!utf8.Valid(text) || bytes.Contains(text, []byte("\u2028")) || bytes.Contains(text, []byte("\u2029"))) {
				return nil, at
			}
			return text, end + 1
		case c >= utf8.RuneSelf:
			foreign = true
		case c == '\\' || c < ' ':
			return nil, at
		}
	}
	return nil, at
}

// plainValue returns a text, a whole number of at most 15 digits, true, false
// or null.
func plainValue(b []byte, at int) ([]byte, int) {
	if at < len(b) && b[at] == '"' {
		return plainText(b, at)
	}
	end := at
	for end < len(b) && (b[end] == '-' || b[end] >= '0' && b[end] <= '9' || b[end] >= 'a' && b[end] <= 'z') {
		end++
	}
	word := b[at:end]
	switch string(word) {
	case "true", "false", "null", "0":
		return word, end
	}
	digits := bytes.TrimPrefix(word, []byte("-"))
	if len(digits) < 1 || len(digits) > 15 || digits[0] == '0' {
		return nil, at
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return nil, at
		}
	}
	return word, end
}
