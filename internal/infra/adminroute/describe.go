package adminroute

import (
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Wants sets the documented schema of a PUT body. The handler, not huma, validates the body.
func (o Route) Wants(schema func(huma.Registry) *huma.Schema) Route {
	o.wants = schema
	return o
}

// Description sets a text that supplements the summary.
func (o Route) Description(text string) Route { o.described.Description = text; return o }

// Takes describes a request body that has no Go type.
func (o Route) Takes(kind, description string) Route {
	o.described.RequestBody = &huma.RequestBody{Required: true, Description: description, Content: binary(kind)}
	return o
}

// Answers describes the response; kinds are the media types of a File.
func (o Route) Answers(description string, kinds ...string) Route {
	o.described.Responses = map[string]*huma.Response{"200": {Description: description, Content: binary(kinds...)}}
	return o
}

func binary(kinds ...string) map[string]*huma.MediaType {
	var content map[string]*huma.MediaType
	for _, kind := range kinds {
		if content == nil {
			content = map[string]*huma.MediaType{}
		}
		content[kind] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	}
	return content
}

// Describe adds the operations of a table to an OpenAPI document. It may be called while the operations are served.
func (t Table) Describe(document *huma.OpenAPI) {
	api := humago.New(&operationMux{}, huma.Config{OpenAPI: document})
	for _, o := range t.Routes {
		h := o.operation()
		h.Path, h.Summary, h.Tags = o.Spelled(), o.Summary, []string{t.Tag}
		h.Description = strings.TrimSpace(o.described.Description + " It wants the role " + string(o.Least) +
			", or one that may do what it may.")
		h.Security = []map[string][]string{{"admin": {}}}
		h.RequestBody = o.described.RequestBody
		o.describeAnswer(&h, t.Guard, document.Components.Schemas)
		o.describeMatch(&h, t.Guard, document.Components.Schemas)
		o.register(edge{api: api}, h)
		if o.wants != nil {
			document.Paths[h.Path].Put.RequestBody.Content["application/json"].Schema = o.wants(document.Components.Schemas)
		}
	}
}

// describeAnswer documents the response of an operation: JSON of a type, an empty response, or the File described by Answers.
func (o Route) describeAnswer(h *huma.Operation, g Guard, schemas huma.Registry) {
	h.Responses = map[string]*huma.Response{}
	for status, response := range o.described.Responses {
		h.Responses[status] = new(*response)
	}
	if o.answer == reflect.TypeFor[Empty]() || o.answer == reflect.TypeFor[File]() {
		return
	}
	schema := schemas.Schema(o.answer, true, h.OperationID+"Response")
	if o.readsStale(g) {
		schemas.SchemaFromRef(schema.Ref).Properties["as_of"] = &huma.Schema{Type: huma.TypeString, Format: "date-time",
			Description: "The response was read from a replica and has all changes up to this time; absent = it is current."}
	}
	if h.Responses["200"] == nil {
		h.Responses["200"] = &huma.Response{}
	}
	if h.Responses["200"].Content == nil {
		h.Responses["200"].Content = map[string]*huma.MediaType{"application/json": {Schema: schema}}
	}
}

// describeMatch documents If-Match and the ETag header of an operation in the OpenAPI document.
func (o Route) describeMatch(h *huma.Operation, g Guard, schemas huma.Registry) {
	if o.Matches != "" && g.Run != nil {
		text := &huma.Schema{Type: huma.TypeString}
		h.Parameters = append(h.Parameters,
			&huma.Param{Name: "If-Match", In: "header", Schema: text, Example: `"Xk2sQ0b7mE4uJ1pVt9aLhw"`,
				Description: "The `revision` that was read of the " + o.Matches + ", in quotes: where it is another meanwhile, nothing is changed and " +
					"the answer is 412. `*`: any, where there is one. Left out: whatever it is, it is changed."},
			&huma.Param{Name: "If-None-Match", In: "header", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"*"}},
				Description: "`*`: only where there is none yet."})
		h.Responses["412"] = &huma.Response{
			Description: "It is another than the one that was read, and nothing was changed: who changed what, and how it is now",
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schemas.Schema(g.Problem, true, "")}}}
	}
	if tagged(o.answer) && h.Responses["200"] != nil {
		h.Responses["200"].Headers = map[string]*huma.Param{"ETag": {Schema: &huma.Schema{Type: huma.TypeString},
			Description: "its `revision`, for If-Match"}}
	}
}

// Spelled returns the path as written in the OpenAPI document: only the router knows the syntax {key...} for the last parameter.
func (o Route) Spelled() string { return Base + strings.ReplaceAll(o.Path, "...}", "}") }
