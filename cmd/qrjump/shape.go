package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// shape returns the flags themselves. YAML and CSV are made of the JSON of a command, so that each command that has JSON has them.
func (o *outputFlags) shape() *outputFlags { return o }

// withoutHeads says that tables have no heads. A process runs one command, which sets it.
var withoutHeads bool

// A shaper makes YAML or CSV of the JSON that a command writes.
type shaper struct {
	to     io.Writer
	form   string
	list   bool   // the verb lists things
	text   []byte // of a value that is not whole yet
	values int
	heads  []string // of CSV; nil = not known yet
	err    error
}

// Write takes JSON: whole answers, indented, or an object a line.
func (p *shaper) Write(b []byte) (int, error) {
	p.text = append(p.text, b...)
	for p.err == nil && len(bytes.TrimSpace(p.text)) > 0 {
		var raw json.RawMessage
		d := json.NewDecoder(bytes.NewReader(p.text))
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break // the rest comes later
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

// makes says whether it has something to do.
func (p *shaper) makes() bool { return p.form == "yaml" || p.form == "csv" }

// end says whether all of the answer was written. Of an answer that failed it writes what came before.
func (p *shaper) end() error {
	if p.err == nil && len(bytes.TrimSpace(p.text)) > 0 {
		p.err = misused("output.no_other_form", p.form)
	}
	return p.err
}

func (p *shaper) value(raw json.RawMessage) error {
	if p.form == "yaml" {
		text, err := yaml.JSONToYAML(raw)
		if err == nil && p.values > 0 {
			text = append([]byte("---\n"), text...)
		}
		if err == nil {
			_, err = p.to.Write(text)
		}
		return err
	}
	rows := []json.RawMessage{raw}
	if bytes.ContainsRune(raw, '\n') { // a whole answer
		var err error
		if rows, err = p.onlyList(raw); err != nil {
			return err
		}
	}
	return p.rows(rows)
}

// onlyList returns the list of an answer; an answer without one is a row by itself, unless it is that of a list where nothing stands.
func (p *shaper) onlyList(answer json.RawMessage) ([]json.RawMessage, error) {
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

// A jsonField is one of an object, with the names of those above it.
type jsonField struct {
	name  string
	value json.RawMessage
}

// fieldsOf returns the fields of an object, in their order.
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

// cellsOf returns the fields of a row, those of objects within it as NAME.NAME.
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

// rows writes lines of CSV. The first call says the heads: a later row may not have others.
func (p *shaper) rows(rows []json.RawMessage) error {
	cells := make([][]jsonField, len(rows))
	known := p.heads != nil
	for i, row := range rows {
		var err error
		if cells[i], err = cellsOf(row, ""); err != nil {
			return err
		}
		for _, f := range cells[i] {
			if slices.Contains(p.heads, f.name) {
				continue
			}
			if known {
				return fault("output.another_field", f.name)
			}
			p.heads = append(p.heads, f.name)
		}
	}
	w := csv.NewWriter(p.to)
	if !known && len(p.heads) > 0 && !withoutHeads {
		if err := w.Write(p.heads); err != nil {
			return err
		}
	}
	for _, row := range cells {
		if len(row) == 0 {
			continue
		}
		line := make([]string, len(p.heads))
		for _, f := range row {
			line[slices.Index(p.heads, f.name)] = cellOf(f.value)
		}
		if err := w.Write(line); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// cellOf returns a value as a cell: texts without quotes, several with semicolons between them, nothing for null.
func cellOf(value json.RawMessage) string {
	var text string
	var list []json.RawMessage
	switch {
	case string(value) == "null":
		return ""
	case json.Unmarshal(value, &text) == nil:
		return csvSafe(text)
	case json.Unmarshal(value, &list) == nil && !slices.ContainsFunc(list, func(raw json.RawMessage) bool { return raw[0] == '{' }):
		var texts []string
		for _, raw := range list {
			texts = append(texts, cellOf(raw))
		}
		return strings.Join(texts, ";")
	}
	if _, err := strconv.ParseFloat(string(value), 64); err == nil {
		return string(value) // -1 is no formula
	}
	var short bytes.Buffer
	_ = json.Compact(&short, value) // it was decoded before
	return short.String()
}
