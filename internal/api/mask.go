package api

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// maskedFew is how many fields maskPlain looks at.
const maskedFew = 16

// maskPlain is maskBody for what most calls are, at a fraction of the cost: an
// object of a few fields with plain texts, whole numbers, true, false and null.
// ok is false for everything else.
func maskPlain(body []byte) (shown []byte, ok bool) {
	type pair struct{ name, value []byte } // as they stand there
	var room [maskedFew]pair
	pairs := room[:0]
	at := skipSpace(body, 0)
	if at == len(body) || body[at] != '{' {
		return nil, false
	}
	at = skipSpace(body, at+1)
	for at < len(body) && body[at] != '}' {
		if len(pairs) > 0 {
			if body[at] != ',' {
				return nil, false
			}
			at = skipSpace(body, at+1)
		}
		var p pair
		if p.name, at = plainText(body, at); p.name == nil || len(pairs) == maskedFew {
			return nil, false
		}
		if at = skipSpace(body, at); at == len(body) || body[at] != ':' {
			return nil, false
		}
		at = skipSpace(body, at+1)
		if p.value, at = plainValue(body, at); p.value == nil {
			return nil, false
		}
		pairs = append(pairs, p)
		at = skipSpace(body, at)
	}
	if at == len(body) || skipSpace(body, at+1) != len(body) {
		return nil, false
	}
	// As a map is written.
	slices.SortFunc(pairs, func(a, b pair) int {
		return bytes.Compare(a.name[1:len(a.name)-1], b.name[1:len(b.name)-1])
	})
	shown = append(make([]byte, 0, len(body)+len(masked)+8), '{')
	for i, p := range pairs {
		if i > 0 {
			if bytes.Equal(p.name, pairs[i-1].name) {
				return nil, false // the last one counts
			}
			shown = append(shown, ',')
		}
		shown = append(append(shown, p.name...), ':')
		if isHidden(string(p.name[1 : len(p.name)-1])) {
			p.value = []byte(`"` + masked + `"`)
		}
		shown = append(shown, p.value...)
	}
	return append(shown, '}'), true
}

func skipSpace(b []byte, at int) int {
	for at < len(b) && (b[at] == ' ' || b[at] == '\t' || b[at] == '\n' || b[at] == '\r') {
		at++
	}
	return at
}

// plainText returns the text at a place with its quotes, if it is one that is
// written as it stands there, and the place behind it.
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
