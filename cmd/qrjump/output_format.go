package main

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/safeyaml"
)

// shape gives the function run access to the output flags of any command. The converter makes YAML and CSV from the JSON output, so every
// command with JSON output also supports YAML and CSV.
func (o *outputFlags) shape() *outputFlags { return o }

// withoutHeads means that tables are printed without a header row (--no-headers); it is global because a process runs a single command.
var withoutHeads bool

// converter is a writer that converts the JSON output of a command to YAML or CSV.
type converter struct {
	to     io.Writer
	form   string
	list   bool   // The command prints a list.
	text   []byte // The bytes of an incomplete JSON value.
	values int
	heads  []string // The CSV header; nil before the first row.
	err    error
}

// Write accepts JSON: complete indented documents, or one object per line.
func (p *converter) Write(b []byte) (int, error) {
	p.text = append(p.text, b...)
	for p.err == nil && len(bytes.TrimSpace(p.text)) > 0 {
		var raw json.RawMessage
		d := json.NewDecoder(bytes.NewReader(p.text))
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break // The rest of the JSON value follows in a later call.
		}
		if err != nil {
			p.err = misused("output.no_other_form", p.form)
			break
		}
		p.text = p.text[d.InputOffset():]
		p.err = p.value(raw)
		p.values++
	}
	return len(b), p.err
}

// isRenderer reports whether the output is converted, to YAML or CSV.
func (p *converter) isRenderer() bool { return p.form == "yaml" || p.form == "csv" }

// end returns the converter's error, or an error if the output ended in the middle of a JSON value. Complete values are already written at
// this point, even if end returns an error.
func (p *converter) end() error {
	if p.err == nil && len(bytes.TrimSpace(p.text)) > 0 {
		p.err = misused("output.no_other_form", p.form)
	}
	return p.err
}

func (p *converter) value(raw json.RawMessage) error {
	if p.form == "yaml" {
		var value any
		err := yaml.UnmarshalWithOptions(raw, &value, yaml.UseOrderedMap())
		text, wrong := safeyaml.Marshal(value)
		err = cmp.Or(err, wrong)
		if err == nil && p.values > 0 {
			text = append([]byte("---\n"), text...)
		}
		if err == nil {
			_, err = p.to.Write(text)
		}
		return err
	}
	rows := []json.RawMessage{raw}
	if bytes.ContainsRune(raw, '\n') || raw[0] == '[' { // a whole answer
		var err error
		if rows, err = p.onlyList(raw); err != nil {
			return err
		}
	}
	return p.rows(rows)
}

// onlyList returns the rows of a response: the objects of an array, or of its only list of objects. Without such a list, a response of a
// list command has no rows, and any other response is a single row.
func (p *converter) onlyList(answer json.RawMessage) ([]json.RawMessage, error) {
	var array []json.RawMessage
	if json.Unmarshal(answer, &array) == nil && !slices.ContainsFunc(array, func(raw json.RawMessage) bool { return raw[0] != '{' }) {
		return array, nil
	}
	fields, err := fieldsOf(answer)
	if err != nil {
		return nil, err
	}
	var lists [][]json.RawMessage
	for _, f := range fields {
		var list []json.RawMessage
		if json.Unmarshal(f.value, &list) == nil && len(list) > 0 && list[0][0] == '{' {
			lists = append(lists, list)
		}
	}
	switch {
	case len(lists) == 1:
		return lists[0], nil
	case len(lists) > 1:
		return nil, misused("output.many_lists")
	case p.list:
		return nil, nil
	}
	return []json.RawMessage{answer}, nil
}

// jsonField is a field of a JSON object; the name of a nested field begins with the names of its parent fields.
type jsonField struct {
	name  string
	value json.RawMessage
}

// fieldsOf returns the fields of a JSON object in document order.
func fieldsOf(object json.RawMessage) (list []jsonField, err error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, misused("output.no_list")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		list = append(list, jsonField{name.(string), value})
	}
	return list, nil
}

// cellsOf returns the fields of a row; fields of nested objects are named NAME.NAME.
func cellsOf(row json.RawMessage, parent string) (list []jsonField, err error) {
	fields, err := fieldsOf(row)
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		f.name = parent + f.name
		if f.value[0] != '{' {
			list = append(list, f)
			continue
		}
		jsonFields, err := cellsOf(f.value, f.name+".")
		if err != nil {
			return nil, err
		}
		list = append(list, jsonFields...)
	}
	return list, nil
}

// rows writes JSON rows as lines of CSV. The first call determines the fields of the header; later, a row with another field is an error.
func (p *converter) rows(rows []json.RawMessage) error {
	known := p.heads
	heads, lines, err := tabulate(known, rows, cellOf)
	if err != nil {
		return err
	}
	if known != nil && len(heads) > len(known) {
		return fault("output.another_field", heads[len(known)])
	}
	p.heads = heads
	return printCSV(p.to, known == nil && len(heads) > 0, heads, lines)
}

// tabulate returns the columns of JSON rows, which begin with known, and a line of cells for each row that has fields.
func tabulate(known []string, rows []json.RawMessage, format func(json.RawMessage) string) (heads []string, lines [][]string, err error) {
	heads = slices.Clone(known)
	cells := make([][]jsonField, len(rows))
	for i, row := range rows {
		if cells[i], err = cellsOf(row, ""); err != nil {
			return nil, nil, err
		}
		for _, f := range cells[i] {
			if !slices.Contains(heads, f.name) {
				heads = append(heads, f.name)
			}
		}
	}
	for _, row := range cells {
		if len(row) == 0 {
			continue
		}
		line := make([]string, len(heads))
		for _, f := range row {
			line[slices.Index(heads, f.name)] = format(f.value)
		}
		lines = append(lines, line)
	}
	return heads, lines, nil
}

// printCSV writes rows as CSV, below the header if begins is true and headers are wanted.
func printCSV(w io.Writer, begins bool, heads []string, rows [][]string) error {
	out := csv.NewWriter(w)
	if begins && !withoutHeads {
		if err := out.Write(heads); err != nil {
			return err
		}
	}
	return out.WriteAll(rows)
}

// cellOf converts a JSON value to a cell: texts without quotes, list elements separated by semicolons, and an empty cell for null.
func cellOf(value json.RawMessage) string {
	var text string
	var list []json.RawMessage
	switch {
	case string(value) == "null":
		return ""
	case json.Unmarshal(value, &text) == nil:
		return adminroute.EscapeCSVFormula(text)
	case json.Unmarshal(value, &list) == nil && !slices.ContainsFunc(list, func(raw json.RawMessage) bool { return raw[0] == '{' }):
		return strings.Join(mapped(list, cellOf), ";")
	}
	if _, err := strconv.ParseFloat(string(value), 64); err == nil {
		return string(value) // a number such as -1 is no formula, so no apostrophe is added
	}
	var short bytes.Buffer
	_ = json.Compact(&short, value) // The value has been decoded before, so it is valid JSON.
	return short.String()
}
