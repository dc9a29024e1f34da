package cassette

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// longestStandIn is the maximum length, in characters, of a generated value. A generated body that is not JSON may be longer: it
// has its recorded length, up to longestBody.
const longestStandIn = 64 << 10

// standIn returns a value of the mark's kind and length; marks with different numbers get different values. The value is longer
// than m.length if that is too short for a unique value, and shorter if m.length exceeds longestStandIn.
func (m mark) standIn(t time.Time) string {
	m.length = min(m.length, longestStandIn)
	fill := func(begin, thisText string) string {
		return begin + strings.Repeat(thisText, max(0, m.length-utf8.RuneCountInString(begin)))
	}
	switch {
	case m.capitals:
		plain := m
		plain.capitals = false
		return strings.ToUpper(plain.standIn(t))
	case m.slashes: // the recorded value contained escaped slashes
		plain := m
		plain.slashes, plain.length = false, m.length-2
		return plain.standIn(t) + "/x"
	case m.kind == "rid":
		return fmt.Sprintf("%08x-%08x-%08x", uint32(t.Unix()), m.n, m.n)
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

// writeRaw writes a non-JSON body of the mark's kind in pieces, to save memory for long bodies.
func (m mark) writeRaw(to io.Writer) error {
	begin := map[string]string{"blank": " ", "broken": "{", "bytes": "\xff", "html": "<", "plain": "a=b"}[m.kind]
	data := []byte("x")
	if m.kind == "blank" {
		data = []byte(" ")
	}
	left := max(0, min(m.length, longestBody)-len(begin))
	_, err := io.WriteString(to, begin)
	for piece := bytes.Repeat(data, min(left, 32<<10)); left > 0 && err == nil; left -= len(piece) {
		piece = piece[:min(left, len(piece))]
		_, err = to.Write(piece)
	}
	return err
}

// rawBody returns the body that writeRaw writes.
func (m mark) rawBody() []byte {
	var b bytes.Buffer
	_ = m.writeRaw(&b) // a bytes.Buffer never returns an error
	return b.Bytes()
}

// longest returns the length of the longest value that the placeholders in v stand for.
func (v value) longest() (n int) {
	for t := range v.texts {
		for _, parseMark := range parseMarks(t.text) {
			n = max(n, parseMark.mark.length)
		}
	}
	return n
}
