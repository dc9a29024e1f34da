package api

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"sync"
	"unicode/utf8"
)

// maxPlainFields is the maximum number of fields of an object that maskPlain handles, and maxPlainDepth the maximum nesting depth.
const (
	maxPlainFields = 16
	maxPlainDepth  = 5
)

// maskPlain is a fast path of maskBody for most calls: objects with few fields, whose values are plain strings, integers, true, false,
// null, or such objects or lists. For other bodies ok is false.
func maskPlain(body []byte) (dst string, ok bool) {
	pos := skipSpace(body, 0)
	if pos == len(body) || body[pos] != '{' {
		return "", false
	}
	buf := maskBuffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= 4*maxRecorded { // buffers of exceptionally long bodies are discarded
			maskBuffers.Put(buf)
		}
	}()
	*buf, pos = appendMasked((*buf)[:0], body, pos, maxPlainDepth)
	if pos < 0 || skipSpace(body, pos) != len(body) {
		return "", false
	}
	return string(*buf), true
}

// maskBuffers is a pool of buffers for masked bodies.
var maskBuffers = sync.Pool{New: func() any { return new([]byte) }}

// appendMasked appends the masked value at pos to dst and returns the position after the value; -1 if the value is not plain.
func appendMasked(dst, body []byte, pos, depth int) ([]byte, int) {
	switch {
	case pos == len(body) || depth == 0:
		return dst, -1
	case body[pos] == '{':
		return appendMaskedObject(dst, body, pos, depth)
	case body[pos] == '[':
		return appendMaskedList(dst, body, pos, depth)
	}
	value, pos := scanPlainValue(body, pos)
	if value == nil {
		return dst, -1
	}
	return append(dst, value...), pos
}

func appendMaskedList(dst, body []byte, pos, depth int) ([]byte, int) {
	dst = append(dst, '[')
	pos = skipSpace(body, pos+1)
	for first := true; pos < len(body) && body[pos] != ']'; first = false {
		if !first {
			if body[pos] != ',' {
				return dst, -1
			}
			dst = append(dst, ',')
			pos = skipSpace(body, pos+1)
		}
		if dst, pos = appendMasked(dst, body, pos, depth-1); pos < 0 {
			return dst, -1
		}
		pos = skipSpace(body, pos)
	}
	if pos == len(body) || dst[len(dst)-1] == ',' {
		return dst, -1
	}
	return append(dst, ']'), pos + 1
}

// maskedField is a field of a masked object.
type maskedField struct {
	name       []byte // the raw name without its quotes
	sortKey    uint64 // the first bytes of name as a number that sorts like name
	start, end int    // the range of bytes in dst that contains the name and the value
}

func (f *maskedField) compare(other *maskedField) int {
	if f.sortKey != other.sortKey {
		return cmp.Compare(f.sortKey, other.sortKey)
	}
	return bytes.Compare(f.name, other.name)
}

func sortKey(name []byte) uint64 {
	var key [8]byte
	copy(key[:], name)
	return binary.BigEndian.Uint64(key[:])
}

func appendMaskedObject(dst, body []byte, pos, depth int) ([]byte, int) {
	var buf [maxPlainFields]maskedField
	fields, sorted := buf[:0], true
	dst = append(dst, '{')
	start := len(dst)
	pos = skipSpace(body, pos+1)
	for pos < len(body) && body[pos] != '}' {
		if len(fields) > 0 {
			if body[pos] != ',' {
				return dst, -1
			}
			dst = append(dst, ',')
			pos = skipSpace(body, pos+1)
		}
		name, end := scanPlainString(body, pos)
		if pos = skipSpace(body, end); name == nil || len(fields) == maxPlainFields || pos == len(body) || body[pos] != ':' {
			return dst, -1
		}
		f := maskedField{name: name[1 : len(name)-1], start: len(dst)}
		dst = append(append(dst, name...), ':')
		value := len(dst)
		if dst, pos = appendMasked(dst, body, skipSpace(body, pos+1), depth-1); pos < 0 {
			return dst, -1
		}
		if isSecretName(string(f.name)) {
			dst = append(append(append(dst[:value], '"'), masked...), '"')
		}
		f.end = len(dst)
		f.sortKey = sortKey(f.name)
		sorted = sorted && (len(fields) == 0 || fields[len(fields)-1].compare(&f) < 0)
		fields = append(fields, f)
		pos = skipSpace(body, pos)
	}
	if pos == len(body) {
		return dst, -1
	}
	if !sorted { // sort fields as encoding/json sorts map keys
		for i := range fields { // they are few
			for j := i; j > 0 && fields[j].compare(&fields[j-1]) < 0; j-- {
				fields[j], fields[j-1] = fields[j-1], fields[j]
			}
		}
		end := len(dst)
		for i, f := range fields {
			if i > 0 {
				if bytes.Equal(f.name, fields[i-1].name) {
					return dst, -1 // for duplicate names the last value counts; the slow path handles this case
				}
				dst = append(dst, ',')
			}
			dst = append(dst, dst[f.start:f.end]...)
		}
		dst = dst[:start+copy(dst[start:], dst[end:])]
	}
	return append(dst, '}'), pos + 1
}

func skipSpace(b []byte, pos int) int {
	for pos < len(b) && (b[pos] == ' ' || b[pos] == '\t' || b[pos] == '\n' || b[pos] == '\r') {
		pos++
	}
	return pos
}

// scanPlainString returns the string at pos, with quotes, and the position after the string. A string with escapes, or with bytes that
// JSON would escape, is not plain.
func scanPlainString(b []byte, pos int) ([]byte, int) {
	if pos == len(b) || b[pos] != '"' {
		return nil, pos
	}
	hasNonASCII := false
	for end := pos + 1; end < len(b); end++ {
		switch c := b[end]; {
		case c == '"':
			text := b[pos : end+1]
			if hasNonASCII && (!utf8.Valid(text) || bytes.Contains(text, []byte("\u2028")) || bytes.Contains(text, []byte("\u2029"))) {
				return nil, pos
			}
			return text, end + 1
		case c >= utf8.RuneSelf:
			hasNonASCII = true
		case c == '\\' || c < ' ':
			return nil, pos
		}
	}
	return nil, pos
}

// scanPlainValue returns the value at pos (a plain string, an integer of at most 15 digits, true, false or null) and the position after it.
func scanPlainValue(b []byte, pos int) ([]byte, int) {
	if pos < len(b) && b[pos] == '"' {
		return scanPlainString(b, pos)
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
