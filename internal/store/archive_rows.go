package store

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// rowWriter writes rows as JSON lines, with the columns in a fixed order.
type rowWriter struct {
	w     io.Writer
	n     int64    // number of rows written
	heads []string // JSON text before each value
	line  []byte
	at    int // index of the next column
}

func newRowWriter(columns []string, w io.Writer) *rowWriter {
	return &rowWriter{w: w, heads: headsOf(columns)}
}

// value writes the value of the next column: a text or an integer, the only types that both databases store in the same way.
func (r *rowWriter) value(value any) error {
	switch v := value.(type) {
	case int64:
		r.number(v)
		return nil
	case string:
		if !utf8.ValidString(v) {
			return errors.New("is not UTF-8")
		}
		r.text(v)
		return nil
	}
	return fmt.Errorf("is a %T", value)
}

func (r *rowWriter) number(n int64) { r.line = strconv.AppendInt(r.next(), n, 10) }

func (r *rowWriter) text(s string) { r.line = appendText(r.next(), s) }

// hex writes bytes in hexadecimal digits.
func (r *rowWriter) hex(b []byte) { r.line = append(hex.AppendEncode(append(r.next(), '"'), b), '"') }

// next appends to the row the JSON text in front of the next column's value.
func (r *rowWriter) next() []byte {
	line := append(r.line, r.heads[r.at]...)
	r.at++
	return line
}

// end writes the row, which must have a value in every column.
func (r *rowWriter) end() error {
	_, err := r.w.Write(append(r.line, "}\n"...))
	r.line, r.at = r.line[:0], 0
	r.n++
	return err
}

// appendText appends a text as a JSON string, exactly as encoding/json without HTML escaping does, but several times as fast.
func appendText(line []byte, s string) []byte {
	if !utf8.ValidString(s) {
		return appendAnyText(line, s)
	}
	begun, from := len(line), 0
	line = append(line, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"', c == '\\':
			line = append(append(line, s[from:i]...), '\\', c)
			from = i + 1
		case c < ' ', c == lineSeparator[0] && i+2 < len(s) && s[i+1] == lineSeparator[1] && s[i+2]&^1 == lineSeparator[2]:
			return appendAnyText(line[:begun], s)
		}
	}
	return append(append(line, s[from:]...), '"')
}

// lineSeparator (U+2028) is a line terminator in JavaScript, like U+2029, the next character; encoding/json escapes both.
const lineSeparator = "\u2028"

func appendAnyText(line []byte, s string) []byte {
	b := bytes.NewBuffer(line)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)              // encoding a string cannot fail
	return b.Bytes()[:b.Len()-1] // without the trailing newline
}

// headsOf returns the text in front of each value of a row.
func headsOf(columns []string) []string {
	heads := make([]string, len(columns))
	for i, name := range columns {
		heads[i] = `,"` + name + `":`
		if i == 0 {
			heads[i] = `{"` + name + `":`
		}
	}
	return heads
}

// maxRow is the maximum size of a row in bytes. The longest row that WriteRows writes is a block of the call log, of less than one MiB.
const maxRow = 16 << 20

// rowReader reads the JSON lines that WriteRows wrote, and has one row in memory at a time.
type rowReader struct {
	table   string
	columns []string
	n       int64 // number of rows read

	lines *bufio.Reader
	long  []byte   // the current line, if it is longer than the buffer of the field lines
	heads []string // JSON text that WriteRows writes before each value
	args  []any

	change func([]any) error // changes the values of each row; nil = none
}

func newRowReader(table string, columns []string, r io.Reader) *rowReader {
	return &rowReader{table: table, columns: columns, lines: bufio.NewReaderSize(r, 1<<16), heads: headsOf(columns),
		args: make([]any, len(columns))}
}

// next returns the values of the next row, strings and int64, in the order of the columns. The values that next returns are valid
// until the following call of next. After the last row next returns io.EOF; any other error contains the row's number and table.
func (r *rowReader) next() ([]any, error) {
	for {
		line, err := r.line()
		if len(bytes.TrimSpace(line)) == 0 && err == nil {
			continue
		}
		if len(bytes.TrimSpace(line)) == 0 && errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		if err == nil || errors.Is(err, io.EOF) {
			err = nil
			if !writtenRow(line, r.heads, r.args) {
				r.args, err = anyRow(line, r.columns)
			}
		}
		if err == nil && r.change != nil {
			err = r.change(r.args)
		}
		if err != nil {
			return nil, fmt.Errorf("row %d of %s: %w", r.n+1, r.table, err)
		}
		r.n++
		return r.args, nil
	}
}

// line returns the next line of the file; the line is valid until the following call of line.
func (r *rowReader) line() ([]byte, error) {
	line, err := r.lines.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	r.long = r.long[:0]
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(r.long) > maxRow {
			return nil, fmt.Errorf("longer than %d MiB", maxRow>>20)
		}
		r.long = append(r.long, line...)
		line, err = r.lines.ReadSlice('\n')
	}
	r.long = append(r.long, line...)
	return r.long, err
}

// anyRow parses a line in any JSON form: one object with all columns and nothing else.
func anyRow(line []byte, columns []string) ([]any, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	// The line is parsed token by token, so that an invalid nested value is rejected before it uses memory: a gzip file can expand
	// to a thousand times its length.
	word := func() (json.Token, error) {
		w, err := d.Token()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the line ends in the middle of a row
		}
		return w, err
	}
	if begin, err := word(); err != nil || begin != json.Delim('{') {
		return nil, cmp.Or(err, errors.New("not a JSON object"))
	}
	row := make(map[string]any, len(columns))
	for d.More() {
		name, err := word()
		if err != nil {
			return nil, err
		}
		column, _ := name.(string)
		if !slices.Contains(columns, column) {
			return nil, fmt.Errorf("unknown column %.40q", column)
		}
		if row[column], err = word(); err != nil {
			return nil, err
		}
		if _, nested := row[column].(json.Delim); nested {
			return nil, fmt.Errorf("%s is neither a text nor a number", column)
		}
	}
	if _, err := word(); err != nil { // the closing brace of the object
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("unexpected data after the JSON object")
	}
	return arguments(columns, row)
}

// writtenRow is a fast version of anyRow for lines exactly as WriteRows writes them; it returns false for every other line.
func writtenRow(line []byte, heads []string, args []any) bool {
	for i, head := range heads {
		if len(line) <= len(head) || string(line[:len(head)]) != head {
			return false
		}
		line = line[len(head):]
		var n int
		if line[0] == '"' {
			args[i], n = writtenText(line)
		} else {
			args[i], n = writtenNumber(line)
		}
		if n == 0 {
			return false
		}
		line = line[n:]
	}
	return len(heads) > 0 && (string(line) == "}\n" || string(line) == "}")
}

// writtenText parses the JSON string at the start of a line and returns it with its encoded length; 0 = none.
func writtenText(line []byte) (string, int) {
	plain := true
	for i := 1; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			text := line[1:i]
			if plain {
				return string(text), i + 1
			}
			if !bytes.ContainsRune(text, '\\') {
				if !utf8.Valid(text) {
					return "", 0
				}
				return string(text), i + 1
			}
			s, ok := unescaped(text)
			if !ok && json.Unmarshal(line[:i+1], &s) != nil {
				return "", 0
			}
			return s, i + 1
		case c == '\\':
			plain = false
			i++
		case c < ' ':
			return "", 0
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	return "", 0
}

// unescaped decodes a JSON string that escapes only quotes and backslashes; it returns false for every other string.
func unescaped(text []byte) (string, bool) {
	var b strings.Builder
	b.Grow(len(text))
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			b.Write(text)
			return b.String(), utf8.ValidString(b.String())
		}
		if i+1 == len(text) || text[i+1] != '"' && text[i+1] != '\\' {
			return "", false
		}
		b.Write(text[:i])
		b.WriteByte(text[i+1])
		text = text[i+2:]
	}
}

// writtenNumber parses the integer at the start of a line and returns it with its encoded length; 0 = none.
func writtenNumber(line []byte) (int64, int) {
	n := 0
	for n < len(line) && (line[n] == '-' || line[n] >= '0' && line[n] <= '9') {
		n++
	}
	digits := bytes.TrimPrefix(line[:n], []byte("-"))
	if len(digits) > 1 && digits[0] == '0' {
		return 0, 0
	}
	total, err := strconv.ParseInt(string(line[:n]), 10, 64)
	if err != nil {
		return 0, 0
	}
	return total, n
}
