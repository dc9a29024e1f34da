package cassette

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// standIn is a value of a mark's kind and length, another for every number of a
// mark. Where the length is too short for that it is longer.
func (m mark) standIn(at time.Time) string {
	fill := func(begin, with string) string {
		return begin + strings.Repeat(with, max(0, m.length-utf8.RuneCountInString(begin)))
	}
	switch {
	case m.slashes: // the reader of an answer meets them again
		plain := m
		plain.slashes, plain.length = false, m.length-2
		return plain.standIn(at) + "/x"
	case m.kind == "rid":
		return fmt.Sprintf("%08x-%08x-%08x", uint32(at.Unix()), m.n, m.n)
	case m.kind == "ip":
		return fmt.Sprintf("198.51.%d.%d", 100+m.n/250%100, 1+m.n%250)
	case m.number || m.kind == "number":
		return fmt.Sprintf("1%0*d", max(0, m.length-1), m.n)
	case m.kind == "appid" && m.length == 18:
		return fmt.Sprintf("wx%016x", m.n)
	case m.kind == "wide":
		var b strings.Builder
		for _, digit := range fmt.Sprint(m.n) {
			b.WriteRune([]rune("零一二三四五六七八九")[digit-'0'])
		}
		return fill("字"+b.String(), "字")
	case m.kind == "control":
		return fill(fmt.Sprintf("\x00c%d", m.n), "x")
	}
	return fill(fmt.Sprintf("%c%d", m.kind[0], m.n), "x")
}

// rawBody is a body of a kind that is no JSON.
func (m mark) rawBody() []byte {
	begin := map[string]string{"blank": " ", "broken": "{", "bytes": "\xff", "html": "<", "plain": "a=b"}[m.kind]
	with := []byte("x")
	if m.kind == "blank" {
		with = []byte(" ")
	}
	return append([]byte(begin), bytes.Repeat(with, max(0, min(m.length, longestBody)-len(begin)))...)
}
