package cassette

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// kind is the type of a JSON value.
type kind byte

const (
	absent kind = iota
	null
	boolean
	number
	text
	list
	object
)

func (k kind) String() string {
	return [...]string{"nothing", "null", "true or false", "a number", "a text", "a list", "an object"}[k]
}

// value is a JSON value that keeps the order and the repetitions of field names.
type value struct {
	kind kind
	text string // the text, the number as written, or true or false
	// escaped is true if the slashes of a text were written as \/: some JSON encoders do so, and some clients depend on this form.
	escaped bool
	names   []string
	items   []value
}

// deepest is the maximum nesting depth of a value.
const deepest = 100

var errTooDeep = errors.New("nested too deeply")

// parseValue parses exactly one JSON value.
func parseValue(from []byte) (value, error) {
	if !json.Valid(from) {
		return value{}, errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(from))
	d.UseNumber()
	return readValue(d, from, deepest)
}

// readValue reads the next value from valid JSON.
func readValue(d *json.Decoder, from []byte, deep int) (value, error) {
	if deep == 0 {
		return value{}, errTooDeep
	}
	begin := d.InputOffset()
	tok, err := d.Token()
	if err != nil {
		return value{}, err
	}
	switch tok := tok.(type) {
	case nil:
		return value{kind: null}, nil
	case bool:
		if tok {
			return value{kind: boolean, text: "true"}, nil
		}
		return value{kind: boolean, text: "false"}, nil
	case json.Number:
		return value{kind: number, text: tok.String()}, nil
	case string:
		return value{kind: text, text: tok, escaped: escapesSlashes(from[begin:d.InputOffset()])}, nil
	case json.Delim:
		v := value{kind: list}
		if tok == '{' {
			v.kind = object
		}
		for d.More() {
			if v.kind == object {
				name, err := d.Token()
				if err != nil {
					return value{}, err
				}
				v.names = append(v.names, name.(string))
			}
			item, err := readValue(d, from, deep-1)
			if err != nil {
				return value{}, err
			}
			v.items = append(v.items, item)
		}
		_, err := d.Token() // the closing bracket
		return v, err
	}
	return value{}, errors.New("not JSON")
}

// mapped returns v with the results of f in place of its items.
func (v value) mapped(f func(value) value) value {
	items := make([]value, len(v.items))
	for i, item := range v.items {
		items[i] = f(item)
	}
	v.items = items
	return v
}

// texts yields the text values in v: v itself, or those in its items, in order.
func (v value) texts(yield func(value) bool) { v.walk(yield) }

func (v value) walk(yield func(value) bool) bool {
	if v.kind == text {
		return yield(v)
	}
	return !slices.ContainsFunc(v.items, func(item value) bool { return !item.walk(yield) })
}

// escapedTexts returns the number of texts in v that contain slashes written as \/.
func (v value) escapedTexts() (n int) {
	for t := range v.texts {
		if t.escaped {
			n++
		}
	}
	return n
}

// escapesSlashes reports whether a JSON text contains the escape sequence \/.
func escapesSlashes(raw []byte) bool {
	for i := 0; i+1 < len(raw); i++ {
		if raw[i] == '\\' {
			i++
			if raw[i] == '/' {
				return true
			}
		}
	}
	return false
}

// json returns the value as JSON.
func (v value) json() []byte {
	var b bytes.Buffer
	v.write(&b)
	return b.Bytes()
}

func (v value) write(b *bytes.Buffer) {
	switch v.kind {
	case absent, null:
		b.WriteString("null")
	case boolean, number:
		b.WriteString(v.text)
	case text:
		begin := b.Len()
		writeText(b, v.text)
		if v.escaped && strings.Contains(v.text, "/") {
			plain := bytes.Clone(b.Bytes()[begin:])
			b.Truncate(begin)
			b.Write(bytes.ReplaceAll(plain, []byte("/"), []byte(`\/`)))
		}
	case list, object:
		open, end := byte('['), byte(']')
		if v.kind == object {
			open, end = '{', '}'
		}
		b.WriteByte(open)
		for i, item := range v.items {
			if i > 0 {
				b.WriteByte(',')
			}
			if v.kind == object {
				writeText(b, v.names[i])
				b.WriteByte(':')
			}
			item.write(b)
		}
		b.WriteByte(end)
	}
}

func writeText(b *bytes.Buffer, s string) {
	if writeLine(b, s) == nil {
		b.Truncate(b.Len() - 1) // its line feed
	}
}

// field returns the value of a field. If the name is repeated, field returns the last value, as JSON decoders do.
func (v value) field(name string) value {
	for i := len(v.names) - 1; i >= 0; i-- {
		if v.names[i] == name {
			return v.items[i]
		}
	}
	return value{}
}

// lookup returns the value at a path of nested field names.
func (v value) lookup(names ...string) value {
	for _, name := range names {
		v = v.field(name)
	}
	return v
}

// int returns the integer in v, which is a number or a text; ok is false for other values.
func (v value) int() (n int, ok bool) {
	if v.kind != number && v.kind != text {
		return 0, false
	}
	err := json.Unmarshal([]byte(strings.TrimSpace(v.text)), &n)
	return n, err == nil
}
