package scanapi

import (
	"strconv"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/scan"
)

// The functions of this file parse and write the JSON of resolve requests without reflection; encoding/json parses everything that
// parseRequest does not, and fuzz tests compare the results.

// parsedRequest is one parsed request.
type parsedRequest struct {
	Request
	text    string
	hasText bool
	// replaced reports whether encoding/json replaced invalid Unicode in the request with U+FFFD.
	replaced bool
	// userReplaced reports whether the replacement concerned the user field.
	userReplaced bool
}

// parseRequest parses a request that is one plain object: known names at most once, in lower case, with string values; ok is false for
// anything else, valid or not.
func parseRequest(s string) (q parsedRequest, ok bool) {
	if !utf8.ValidString(s) {
		return q, false
	}
	i := skipSpace(s, 0)
	if i == len(s) || s[i] != '{' {
		return q, false
	}
	var seen [5]bool
	for i = skipSpace(s, i+1); ; {
		var name, value string
		if name, i, ok = parseString(s, i); !ok {
			return q, false
		}
		if i = skipSpace(s, i); i == len(s) || s[i] != ':' {
			return q, false
		}
		if value, i, ok = parseString(s, skipSpace(s, i+1)); !ok {
			return q, false
		}
		field := -1
		switch name {
		case "text":
			field, q.text, q.hasText = 0, value, true
		case "user":
			field, q.User = 1, value
		case "source":
			field, q.Source = 2, scan.Source(value)
		case "ip":
			field, q.IP = 3, value
		case "client":
			field, q.Client = 4, value
		}
		// "at" is rare, and an unknown name may be a known name in upper case, so encoding/json handles requests with either name.
		if field < 0 || seen[field] {
			return q, false
		}
		seen[field] = true
		if i = skipSpace(s, i); i == len(s) {
			return q, false
		}
		if s[i] == '}' {
			return q, skipSpace(s, i+1) == len(s)
		}
		if s[i] != ',' {
			return q, false
		}
		i = skipSpace(s, i+1)
	}
}

// skipSpace returns the index of the first byte from i on that is not white space.
func skipSpace(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\r' || s[i] == '\t') {
		i++
	}
	return i
}

// parseString parses the string that starts at i in valid UTF-8, and returns the position of its end.
func parseString(s string, i int) (text string, end int, ok bool) {
	if i == len(s) || s[i] != '"' {
		return "", i, false
	}
	i++
	for j := i; j < len(s); j++ {
		switch c := s[j]; {
		case c == '"':
			return s[i:j], j + 1, true
		case c == '\\':
			return parseEscaped(s, i, j)
		case c < ' ':
			return "", i, false
		}
	}
	return "", i, false
}

// parseEscaped parses the rest of a string from its first escape, which is at j.
func parseEscaped(s string, i, j int) (text string, end int, ok bool) {
	out := make([]byte, 0, len(s)-i)
	out = append(out, s[i:j]...)
	for j < len(s) {
		c := s[j]
		switch {
		case c == '"':
			return string(out), j + 1, true
		case c < ' ':
			return "", j, false
		case c != '\\':
			out = append(out, c)
			j++
			continue
		case j+1 == len(s):
			return "", j, false
		}
		switch c = s[j+1]; c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			if j+6 > len(s) {
				return "", j, false
			}
			r, err := strconv.ParseUint(s[j+2:j+6], 16, 16)
			if err != nil || 0xd800 <= r && r < 0xe000 { // encoding/json handles surrogate pairs
				return "", j, false
			}
			out = utf8.AppendRune(out, rune(r))
			j += 4
		default:
			return "", j, false
		}
		j += 2
	}
	return "", j, false
}

// appendDecision appends the same JSON that an encoder writes for show(d) with an id, including the newline.
func appendDecision(b []byte, id string, d *scan.Decision) []byte {
	b = append(b, `{"scan_id":"`...)
	b = append(b, id...)
	b = append(b, `","action":`...)
	b = appendString(b, string(d.Action))
	b = appendField(b, `,"appid":`, d.AppID)
	b = appendField(b, `,"version":`, string(d.Version))
	b = appendField(b, `,"path":`, d.Path)
	if d.Scene != 0 {
		b = append(b, `,"scene":`...)
		b = strconv.AppendInt(b, int64(d.Scene), 10)
	}
	var reason codes.Reason
	switch d.Kind {
	case "":
		reason = d.Reason
	case scan.ByCode:
		b = append(b, `,"matched":{"kind":"code"`...)
		if id := d.Code.Batch.ID; id != 0 {
			b = append(b, `,"application_id":`...)
			b = strconv.AppendInt(b, id, 10)
		}
		b = append(b, `,"code_index":`...)
		b = strconv.AppendInt(b, d.Code.Index, 10)
		b = append(b, '}')
	default:
		b = append(b, `,"matched":{"kind":`...)
		b = appendString(b, string(d.Kind))
		b = appendField(b, `,"prefix":`, d.Matched.Prefix)
		b = append(b, '}')
	}
	b = appendField(b, `,"message":`, message(d, reason))
	b = appendField(b, `,"reason":`, string(reason))
	b = appendField(b, `,"url":`, d.URL)
	if d.Action == scan.ShowText {
		b = append(b, `,"text":`...)
		b = appendString(b, d.Text)
	}
	return append(b, '}', '\n')
}

// appendField appends a JSON field, or nothing if value is empty.
func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value)
}

const hexDigits = "0123456789abcdef"

// appendString appends a JSON string as encoding/json does without HTML escaping.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\b':
				b = append(b, '\\', 'b')
			case '\f':
				b = append(b, '\\', 'f')
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			from = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(append(b, s[from:i]...), `\ufffd`...)
			from = i + size
		case r == '\u2028' || r == '\u2029': // JavaScript treats U+2028 and U+2029 as line terminators
			b = append(append(b, s[from:i]...), `\u202`...)
			b = append(b, hexDigits[r&15])
			from = i + size
		}
		i += size
	}
	return append(append(b, s[from:]...), '"')
}
