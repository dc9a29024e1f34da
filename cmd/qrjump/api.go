package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type apiCommand struct {
	operator
	Operation string   `arg:"" optional:""`
	Fields    []string `arg:"" optional:"" name:"field=value" placeholder:"field=value"`
	Input     string   `placeholder:"FILE" file:"in"`
	confirmFlag
}

// apiOperation is an operation in the server's OpenAPI document.
type apiOperation struct {
	ID         string         `json:"operationId"`
	Summary    string         `json:"summary"`
	Parameters []apiParameter `json:"parameters"`
	Body       struct {
		Content map[string]struct{ Schema apiSchema } `json:"content"`
	} `json:"requestBody"`

	method, path string
}

type apiParameter struct {
	Name, In, Description string
	Required              bool
	Schema                apiSchema
}

type apiSchema struct {
	Ref         string `json:"$ref"`
	Type        any    // the name of a JSON type, or a list of such names
	Description string
	Enum        []any
	Properties  map[string]apiSchema
	Required    []string
}

// The method "is" reports whether the schema allows values of the named JSON type, such as "string".
func (t apiSchema) is(name string) bool {
	list, _ := t.Type.([]any)
	return t.Type == name || slices.Contains(list, any(name))
}

// apiField describes one input of an operation: a path or query parameter, or a property of the body.
type apiField struct {
	name, in, means string
	required        bool
	schema          apiSchema
}

// apiTable holds the operations of a server's admin API.
type apiTable struct {
	operations []apiOperation
	schemas    map[string]apiSchema
}

// readAPI reads the operations from a server's OpenAPI document, sorted by id.
func readAPI(ctx context.Context, qrjump *client.Client) (apiTable, error) {
	answer, err := qrjump.Do(ctx, client.OperationRequest{Method: http.MethodGet, Path: "/openapi.json"})
	if err != nil {
		return apiTable{}, err
	}
	defer answer.Body.Close()
	var document struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Schemas map[string]apiSchema }
	}
	err = json.NewDecoder(answer.Body).Decode(&document)
	if err != nil || len(document.Paths) == 0 || len(document.Components.Schemas) == 0 {
		return apiTable{}, &client.WrongServer{URL: qrjump.URL(), API: "admin API", Call: "GET /openapi.json",
			Reason: "(no document of its operations)"}
	}
	table := apiTable{schemas: document.Components.Schemas}
	for path, methods := range document.Paths {
		for method, described := range methods {
			o := apiOperation{method: strings.ToUpper(method), path: path}
			if !strings.HasPrefix(path, "/admin/") || json.Unmarshal(described, &o) != nil || o.ID == "" {
				continue
			}
			table.operations = append(table.operations, o)
		}
	}
	slices.SortFunc(table.operations, func(a, b apiOperation) int { return strings.Compare(a.ID, b.ID) })
	return table, nil
}

// find returns an operation by its id, or an error that suggests a similar id.
func (t apiTable) find(id string) (apiOperation, error) {
	return named(t.operations, nil, func(o apiOperation) string { return o.ID }, "call", id, "operation", "qrjump api")
}

// contentType returns the content type of an operation's body: JSON, or else the first accepted type; "" = no body.
func (o apiOperation) contentType() string {
	kinds := slices.Sorted(maps.Keys(o.Body.Content))
	if len(kinds) == 0 || slices.Contains(kinds, "application/json") {
		return strings.Join(kinds[:min(len(kinds), 1)], "")
	}
	return kinds[0]
}

// fields returns the inputs of an operation: path parameters, then query parameters, then body properties.
func (t apiTable) fields(o apiOperation) (list []apiField) {
	for _, in := range []string{"path", "query"} {
		for _, p := range o.Parameters {
			if p.In == in {
				list = append(list, apiField{p.Name, in, p.Description, p.Required, p.Schema})
			}
		}
	}
	body := t.resolve(o.Body.Content["application/json"].Schema)
	for _, name := range slices.Sorted(maps.Keys(body.Properties)) {
		property := body.Properties[name]
		if name == "$schema" || slices.ContainsFunc(list, func(f apiField) bool { return f.name == name }) {
			continue
		}
		list = append(list, apiField{name, "body", property.Description, slices.Contains(body.Required, name), t.resolve(property)})
	}
	return list
}

// resolve follows the $ref of a schema.
func (t apiTable) resolve(schema apiSchema) apiSchema {
	if name, ok := strings.CutPrefix(schema.Ref, "#/components/schemas/"); ok {
		return t.schemas[name]
	}
	return schema
}

// fieldNames lists the names of fields for use in a message: required fields first, each marked with a star.
func fieldNames(fields []apiField) string {
	var words []string
	for _, required := range []bool{true, false} {
		for _, f := range fields {
			switch {
			case f.required != required:
			case required:
				words = append(words, f.name+"*")
			default:
				words = append(words, f.name)
			}
		}
	}
	return cmp.Or(strings.Join(words, ", "), tr("api.no_field"))
}

// destructive lists the operations that are no DELETE and whose own commands ask for a confirmation.
var destructive = []string{"changeCodes", "deactivateCodes", "forceDeleteRules", "loadSnapshot", "markCodesSpoiled", "recallPackage",
	"resetEmulator", "transferGS1", "undoImport"}

// Run calls an operation of the admin API, or lists the operations.
func (c *apiCommand) Run(s *session, qrjump *client.Client) error {
	table, err := readAPI(s.ctx, qrjump)
	if err != nil {
		return err
	}
	if c.Operation == "" {
		return listing[apiOperation]{name: "operations", heads: []string{"OPERATION", "CALL", "FIELDS", "MEANING"},
			row: func(o apiOperation) []string {
				return []string{o.ID, o.method + " " + o.path, fieldNames(table.fields(o)), o.Summary}
			}}.print(s, c.outputFlags, table.operations, nil)
	}
	o, err := table.find(c.Operation)
	if err != nil {
		return err
	}
	call, err := c.call(table, o)
	if err != nil {
		return err
	}
	if o.method == http.MethodDelete || slices.Contains(destructive, o.ID) || s.inProduction() && o.method != http.MethodGet {
		if err := c.confirmed(s, tr("api.deletes", call.Method, plain(call.Path))); err != nil {
			return err
		}
	}
	answer, err := qrjump.Do(s.ctx, call)
	if err != nil {
		return fault("batch.of_2", o.ID, err)
	}
	defer answer.Body.Close()
	return c.show(s, o, answer)
}

// call returns the request for an operation with the given values.
func (c *apiCommand) call(table apiTable, o apiOperation) (client.OperationRequest, error) {
	call := client.OperationRequest{Method: o.method, Path: o.path, Query: url.Values{}}
	fields, body, seen := table.fields(o), map[string]any{}, map[string]bool{}
	for _, text := range c.Fields {
		name, value, ok := strings.Cut(text, "=")
		i := slices.IndexFunc(fields, func(f apiField) bool { return f.name == name })
		switch {
		case !ok:
			return call, misused("api.want_field", plain(text), o.ID, fieldNames(fields))
		case i < 0:
			known := mapped(fields, func(f apiField) string { return f.name })
			return call, misused("api.no_such_field", o.ID, plain(name), didYouMean(name, known...), fieldNames(fields))
		case fields[i].in == "path" && value == "":
			return call, misused("api.field_is_missing", o.ID, name, fieldNames(fields))
		case seen[name] && !fields[i].schema.is("array"):
			return call, misused("api.field_twice", plain(name), o.ID)
		case fields[i].in == "path":
			if o.path != "/admin/v1"+client.OpListGS1Links.Path+"/{key}" { // a GS1 key has slashes, and its values are already escaped
				value = url.PathEscape(value)
			}
			call.Path = strings.ReplaceAll(call.Path, "{"+name+"}", value)
		case fields[i].in == "query":
			call.Query.Add(name, value)
		case c.Input != "":
			return call, misused("api.input_is_the_body", plain(name))
		default:
			body[name] = fields[i].schema.value(body[name], value)
		}
		seen[name] = true
	}
	if _, rest, open := strings.Cut(call.Path, "{"); open {
		name, _, _ := strings.Cut(rest, "}")
		return call, misused("api.field_is_missing", o.ID, name, fieldNames(fields))
	}
	kind := o.contentType()
	switch {
	case c.Input != "" && kind == "":
		return call, misused("api.takes_no_input", o.ID)
	case c.Input != "":
		f, err := os.Open(c.Input)
		if err != nil {
			return call, usageError(inReader(err).Error())
		}
		call.Body, call.ContentType = f, kind // the HTTP transport closes the file
	case kind == "application/json":
		text, err := json.Marshal(body)
		if err != nil {
			return call, err
		}
		call.Body, call.ContentType = bytes.NewReader(text), kind
	case kind != "":
		return call, misused("api.wants_input", o.ID, kind)
	}
	return call, nil
}

// value converts text from the command line to a JSON value; the text stays a string if the field accepts strings. If the field is a list,
// value appends the new value, or the values of a new list, to v, the current list.
func (t apiSchema) value(v any, text string) any {
	var typed any
	if json.Unmarshal([]byte(text), &typed) != nil || t.is("string") && typed != nil {
		typed = text
	}
	list, _ := v.([]any)
	switch items := typed.(type) {
	case []any:
		return slices.Insert(items, 0, list...)
	case float64:
		typed = json.RawMessage(text) // keeps all digits
	}
	if t.is("array") && typed != nil {
		return append(list, typed)
	}
	return typed
}

// show prints a response: JSON in the chosen format, any other content unchanged.
func (c *apiCommand) show(s *session, o apiOperation, answer *http.Response) error {
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if answer.StatusCode == http.StatusNoContent {
		printMsg(s.err, "api.done", o.ID)
		return nil
	}
	if kind != "application/json" {
		if !c.isTable() {
			return misused("api.is_no_json", o.ID, kind, c.Output)
		}
		_, err := io.Copy(s.out, answer.Body)
		return err
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return &client.Unreachable{URL: c.Server, Err: err}
	}
	if !c.isTable() {
		var fullBuffer bytes.Buffer
		if err := json.Indent(&fullBuffer, text, "", "  "); err != nil {
			return err
		}
		_, err := io.WriteString(s.out, strings.TrimSpace(fullBuffer.String())+"\n")
		return err
	}
	return printAnswer(s.out, text, c.lists())
}

// lists reports whether the output of the command is a list, which CSV prints with a row per element.
func (c *apiCommand) lists() bool { return c.Operation == "" || strings.HasPrefix(c.Operation, "list") }

// printAnswer prints a response of the admin API: its fields, and below them its only list as a table; isList = without the fields.
func printAnswer(w io.Writer, answer json.RawMessage, isList bool) error {
	rows, _ := (&converter{list: true}).onlyList(answer) // an answer without a list has no rows
	if len(rows) == 0 || !isList && !bytes.HasPrefix(answer, []byte("[")) {
		fields, err := cellsOf(answer, "")
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			fields = slices.DeleteFunc(fields, func(f jsonField) bool { return bytes.HasPrefix(f.value, []byte("[{")) })
		}
		printFields(w, mapped(fields, func(f jsonField) [2]string { return [2]string{f.name, cellForPeople(f.value)} })...)
	}
	if len(rows) == 0 {
		return nil
	}
	heads, lines, err := tabulate(nil, rows, cellForPeople)
	if err != nil {
		return err
	}
	titles := mapped(heads, func(head string) string { return strings.ToUpper(strings.ReplaceAll(head, "_", " ")) })
	printRows(w, titles, lines, func(line []string) []string { return mapped(line, orDash) })
	return nil
}

// cellForPeople formats a value for a table cell, with times in the reader's time zone.
func cellForPeople(value json.RawMessage) string {
	var t time.Time
	if json.Unmarshal(value, &t) == nil && !t.IsZero() && value[0] == '"' {
		return formatTime(t)
	}
	return cellOf(value)
}

// apiWords returns completions for the word after the words in given: the ids of operations, or the fields of the operation in given[0].
func apiWords(ctx context.Context, qrjump *client.Client, given []string) (list []candidate) {
	table, err := readAPI(ctx, qrjump)
	if err != nil {
		return nil
	}
	if len(given) == 0 {
		return mapped(table.operations, func(o apiOperation) candidate { return candidate{o.ID, o.Summary} })
	}
	o, err := table.find(given[0])
	if err != nil {
		return nil
	}
	for _, f := range table.fields(o) {
		if len(f.schema.Enum) == 0 {
			list = append(list, candidate{f.name + "=", f.means})
		}
		for _, value := range f.schema.Enum {
			if text, is := value.(string); is {
				list = append(list, candidate{f.name + "=" + text, f.means})
			}
		}
	}
	return list
}
