package docgen

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/edge/guide"
)

// errorEnvelope is the name of the schema that every response includes.
const errorEnvelope = "ErrorEnvelope"

func schemaRef(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// object is a JSON object of the OpenAPI document. The keys of an object are printed in alphabetical order.
type object = map[string]any

// The OpenAPI document of the wire API is for programs and their developers, so it is only in English, like the document of the admin API.
const (
	wireTitle = "Scan a QR code, open a Mini Program: the platform's calls"
	wireAbout = "Calls of the Weixin Open Platform that qrjump implements. The HTTP status is always 200; errcode is 0 or absent on " +
		"success. The version is the date of the newest evidence."
	wireServerHere     = "this server"
	wireServerPlatform = "the platform"
	wireToken          = "the token of the caller"
	wirePicture        = "the image of the code"
	wireAnswer         = "success if errcode is 0 or absent, otherwise an error"
	wireEnvelope       = "errcode and errmsg, which every response can contain"
	wireNumbersNone    = "This call has only the error codes that all calls have."
	wireNumbers        = "Error codes, in addition to those that all calls have:"
)

// limits maps a field name or "page.name" to the constraints of the request field in JSON Schema. Constraints that the platform
// does not enforce are omitted: the platform accepts more than its pages document.
var limits = map[string]object{
	"is_edit":                       {"minimum": 0, "maximum": 1},
	"permit_sub_rule":               {"minimum": 1, "maximum": 2},
	"open_version":                  {"minimum": 1, "maximum": 3},
	"get_type":                      {"minimum": 0, "maximum": 2},
	"page_num":                      {"minimum": 1},
	"page_size":                     {"minimum": 1, "maximum": 200},
	"prefix_list":                   {"minItems": 1, "maxItems": 200},
	"debug_url":                     {"maxItems": 5},
	"qrcodejumpadd.path":            {"minLength": 1, "maxLength": 1024},
	"code_count":                    {"minimum": 10_000, "multipleOf": 10_000},
	"isv_application_id":            {"minLength": 1, "maxLength": 128},
	"code_start":                    {"minimum": 0},
	"code_end":                      {"minimum": 0},
	"code_index":                    {"minimum": 0},
	"openid":                        {"minLength": 28, "maxLength": 28},
	"expire_seconds":                {"minimum": 1, "maximum": 2_592_000},
	"offset":                        {"minimum": 0},
	"cgi_path":                      {"pattern": "^/"},
	"api_get_authorizer_list.count": {"minimum": 1, "maximum": 500},
}

// wireDocument returns docs/openapi-wire.json: all calls of the wire API as OpenAPI 3.1. The platform itself does not publish an
// OpenAPI document of its wire API.
func (p *press) wireDocument() string {
	l := languages[0]
	paths, tags := object{}, []object{}
	p.wireSchemas = object{errorEnvelope: object{"type": "object", "description": wireEnvelope, "properties": object{
		"errcode": object{"type": "integer", "format": "int64", "description": p.text(l, "field.errcode")},
		"errmsg":  object{"type": "string", "description": p.text(l, "field.errmsg")}}}}
	for _, section := range guide.CallSections() {
		tags = append(tags, object{"name": section.Name, "description": section.About})
		for _, c := range section.Calls {
			e := p.endpoints[c.Path]
			paths[c.Path] = object{strings.ToLower(e.Method): p.operation(l, c, section.Name)}
		}
	}
	document := object{
		"openapi": "3.1.0",
		"info": object{"title": wireTitle, "version": behaviour.Newest().Format("2006.1.2"), "description": wireAbout,
			"license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"contact": object{"name": "qrjump", "url": "https://github.com/qrjump/qrjump"}},
		"servers": []object{{"url": "/", "description": wireServerHere},
			{"url": "https://api.weixin.qq.com", "description": wireServerPlatform}},
		"tags": tags, "paths": paths, "components": object{"schemas": p.wireSchemas}, "security": []object{{}},
	}
	var b bytes.Buffer
	to := json.NewEncoder(&b)
	to.SetEscapeHTML(false)
	to.SetIndent("", " ")
	if err := to.Encode(document); err != nil {
		p.reportMissing("the document of the wire: %w", err)
	}
	return b.String()
}

// operation returns a call as an OpenAPI operation.
func (p *press) operation(l language, c guide.Call, tag string) object {
	e := p.endpoints[c.Path]
	op := object{"operationId": operationID(c.Page), "tags": []string{tag}, "summary": p.requiredText(l, c, "call."+c.Page)}
	parameters := []object{}
	if e.Token {
		name := "access_token"
		if c.Token == "component" {
			name = "component_access_token"
		}
		parameters = append(parameters, object{"name": name, "in": "query", "required": !strings.HasSuffix(c.Path, "/tickettocode"),
			"description": wireToken, "schema": object{"type": "string"}})
	}
	fields, required := schemas{}, []string{}
	for _, f := range e.Fields {
		schema := p.fieldSchema(l, c, f.Name)
		for _, subject := range []string{f.Name, c.Page + "." + f.Name} {
			maps.Copy(schema, limits[subject])
		}
		if e.Method == "GET" {
			says := schema["description"]
			delete(schema, "description")
			parameters = append(parameters, object{"name": f.Name, "in": "query", "required": f.Must, "description": says,
				"schema": schema})
			continue
		}
		if fields[f.Name] = schema; f.Must {
			required = append(required, f.Name)
		}
	}
	asked := wireExamples(p, c.Path, e.Method, fields, required)
	if e.Method == "POST" {
		name := upper(operationID(c.Page)) + "Body"
		body := object{"type": "object", "properties": fields}
		p.wireSchemas[name] = body
		if len(required) > 0 {
			body["required"] = required
		}
		media := object{"schema": schemaRef(name)}
		if len(asked.requests) > 0 {
			media["examples"] = asked.requests
		}
		op["requestBody"] = object{"required": true, "content": object{"application/json": media}}
	}
	if len(parameters) > 0 {
		op["parameters"] = parameters
	}
	op["responses"] = object{"200": p.answer(l, c, asked.answers)}
	numbers, text := p.ownNumbers(l, c)
	op["x-error-numbers"] = numbers
	op["description"] = p.requiredText(l, c, "call."+c.Page+".about") + "\n\n" + text
	return op
}

// answer returns the schema of a call's response, for success and for errors, because the platform's status is 200 for both.
func (p *press) answer(l language, c guide.Call, examples object) object {
	if c.Save != "" {
		return object{"description": wirePicture, "content": object{"image/jpeg": object{}}}
	}
	fields := schemas{}
	for name := range strings.FieldsSeq(c.Answer) {
		fields.put(name, p.fieldSchema(l, c, name))
	}
	name := errorEnvelope
	if len(fields) > 0 {
		name = upper(operationID(c.Page)) + "Response"
		p.wireSchemas[name] = object{"allOf": []object{schemaRef(errorEnvelope), {"type": "object", "properties": fields}}}
	}
	media := object{"schema": schemaRef(name)}
	if len(examples) > 0 {
		media["examples"] = examples
	}
	contentType := "application/json"
	if strings.HasPrefix(c.Path, "/sns/") {
		contentType = "text/plain"
	}
	return object{"description": wireAnswer, "content": object{contentType: media}}
}

// ownNumbers returns the error numbers of a call in addition to the common ones, as data and as text.
func (p *press) ownNumbers(l language, c guide.Call) (numbers []object, text string) {
	numbers = []object{}
	for _, code := range p.endpoints[c.Path].Codes {
		row := p.number(l, code)
		numbers = append(numbers, object{"number": row.Number, "text": strings.TrimSpace(row.Text), "evidence": string(code.Evidence),
			"meaning": row.Why, "remedy": row.Do})
		text += fmt.Sprintf("- `%d` %s: %s\n", row.Number, strings.TrimSpace(row.Text), row.Why)
	}
	if text == "" {
		return numbers, wireNumbersNone
	}
	return numbers, wireNumbers + "\n\n" + text
}

// schemas maps the properties of an object to their schemas.
type schemas map[string]any

// put sets the schema of a field; the name of a nested field has the names of its parent fields as a prefix.
func (s schemas) put(name string, schema object) {
	in, rest, nested := strings.Cut(name, ".")
	if !nested {
		s[name] = schema
		return
	}
	values := s[in].(object)
	if items, list := values["items"].(object); list {
		values = items
	}
	if rest == "*" {
		return // Any field is allowed, which a schema without properties expresses.
	}
	childSchemas, has := values["properties"].(schemas)
	if !has {
		childSchemas = schemas{}
		values["properties"] = childSchemas
	}
	childSchemas.put(rest, schema)
}

// fieldSchema returns the schema of a field without its nested fields.
func (p *press) fieldSchema(l language, c guide.Call, name string) object {
	s := object{"description": p.fieldText(l, c, name)}
	switch kind, list := strings.CutPrefix(c.FieldType(name), "array of "); {
	case list:
		s["type"], s["items"] = "array", object{"type": kind}
	case kind == "number":
		s["type"], s["format"] = "integer", "int64"
	case kind != "any":
		s["type"] = kind
	}
	return s
}

// examples holds the requests and responses of a call from the transcripts, keyed by name.
type examples struct{ requests, answers object }

var blockHead = regexp.MustCompile(`^(GET|POST) (/[^? ]*)`)

// wireExamples returns the first successful call in the transcripts, and the first call for each returned error number. A request
// with field types other than the documented types is not used as an example, although the wire API accepts it.
func wireExamples(p *press, path, method string, fields schemas, required []string) examples {
	found := examples{object{}, object{}}
	files, err := filepath.Glob(filepath.Join(p.root, "internal/edge/api/testdata/wire/*.txt"))
	if err != nil || len(files) == 0 {
		p.reportMissing("no transcripts in internal/edge/api/testdata/wire")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			p.reportMissing("a transcript: %w", err)
		}
		for block := range strings.SplitSeq(string(text), "\n\n") {
			found.take(block, path, method, fields, required)
		}
	}
	return found
}

func (e *examples) take(block, path, method string, fields schemas, required []string) {
	asked, answered, _ := strings.Cut(block, "\n-> ")
	var request string
	called := false
	for line := range strings.SplitSeq(asked, "\n") {
		if m := blockHead.FindStringSubmatch(line); m != nil {
			called = m[1] == method && m[2] == path
		}
		if strings.HasPrefix(line, "{") {
			request = strings.TrimSuffix(line, `\n`)
		}
	}
	status, body, _ := strings.Cut(answered, "\n")
	var answer map[string]any
	if !called || !strings.HasPrefix(status, "200 ") || json.Unmarshal([]byte(strings.TrimSpace(body)), &answer) != nil {
		return
	}
	name, number := "done", 0.0
	if answer["errcode"] != nil {
		number, _ = answer["errcode"].(float64)
	}
	if number != 0 {
		name = "refused" + strconv.Itoa(int(number))
	}
	if e.answers[name] == nil {
		e.answers[name] = object{"value": answer}
	}
	var sent map[string]any
	if number == 0 && e.requests["done"] == nil && json.Unmarshal([]byte(request), &sent) == nil && fits(sent, fields, required) {
		e.requests["done"] = object{"value": sent}
	}
}

// fits reports whether the fields of a request have the documented types.
func fits(sent map[string]any, fields schemas, required []string) bool {
	for _, name := range required {
		if sent[name] == nil {
			return false
		}
	}
	for name, value := range sent {
		schema, named := fields[name].(object)
		if !named {
			return false
		}
		kind := "object"
		switch v := value.(type) {
		case string:
			if minimum, is := schema["minLength"].(int); is && len(v) < minimum {
				return false
			}
			kind = "string"
		case float64:
			kind = "integer"
		case bool:
			kind = "boolean"
		case []any:
			kind = "array"
		case nil:
			return false
		}
		if kind != schema["type"] {
			return false
		}
	}
	return true
}

// operationID returns the name of a call in the form of a generated client's method name.
func operationID(page string) string {
	words := strings.FieldsFunc(page, func(r rune) bool { return r == '-' || r == '_' })
	for i := range words[1:] {
		words[i+1] = upper(words[i+1])
	}
	return strings.Join(words, "")
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
