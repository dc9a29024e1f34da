// Package adminroute defines the operations of the admin API: each operation is a Route in a table and a function.
package adminroute

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// Base is the prefix of the paths of all operations.
const Base = "/admin/v1"

// Route is one operation of the admin API.
type Route struct {
	Method, Path, ID, Summary string
	Least                     Role         // the least privileged role that may call the operation
	Matches                   string       // the kind of object whose revision the operation accepts in If-Match; "" = none
	Input                     reflect.Type // the type of the input of the client's call: a query or a JSON body

	described huma.Operation // optional parts of the operation's description in the OpenAPI document
	wants     func(huma.Registry) *huma.Schema
	patient   bool
	everyone  bool // callers restricted to some accounts may call the operation, and see only the data of their accounts
	of        func(context.Context, func(string) string) (string, error)
	busy      string       // the error message if the operation is already running; "" = concurrent calls are allowed
	answer    reflect.Type // Out
	register  func(edge, huma.Operation)
}

// Table is the operations with one tag of the OpenAPI document, and what they have in common.
type Table struct {
	Tag     string
	Routes  []Route
	Guard   Guard                              // checks the preconditions of If-Match
	Problem func(context.Context, error) error // converts the errors of the functions to responses
	Log     *slog.Logger
}

// edge holds the dependencies of a mounted operation.
type edge struct {
	Table
	Route
	api     huma.API
	running *sync.Mutex
	stale   bool // the response may come from stale reads
}

// Serve returns a Route for an operation of the client. Request is the type of the parameters and the body (see huma); it has at least the
// fields of In, and fields for the parameters of the path.
func Serve[In, Out, Request any](op client.Op[In, Out], role Role, f func(context.Context, *Request) (Out, error), summary string) Route {
	return ServeAs(op, role, f, summary)
}

// ServeAs is like Serve, for a response of another type than the client's. It is File if the operation returns a file. ServeAs contains
// little generic code, because that is compiled separately for every operation; huma.Register alone takes most of the build time.
func ServeAs[In, Out, Request, Response any](op client.Op[In, Out], role Role, f func(context.Context, *Request) (Response, error),
	summary string) Route {
	o := Route{Method: op.Method, Path: op.Path, ID: op.ID, Summary: summary, Least: role, Input: reflect.TypeFor[In](),
		answer: reflect.TypeFor[Response]()}
	if in, names := any(new(Request)).(Changing); names && op.Method != http.MethodGet {
		o.Matches = in.Object().Kind
	}
	o.register = func(e edge, h huma.Operation) {
		huma.Register(e.api, h, func(ctx context.Context, in *Request) (*huma.StreamResponse, error) {
			return e.run(ctx, in, func(ctx context.Context) (any, error) { return f(ctx, in) })
		})
	}
	return o
}

// run calls the function of an operation, and returns a response that is written afterwards.
func (e edge) run(ctx context.Context, in any, call func(context.Context) (any, error)) (*huma.StreamResponse, error) {
	if e.answer != reflect.TypeFor[File]() { // the function of a File runs while the file is sent
		if !e.begin() {
			return nil, huma.Error409Conflict(e.busy)
		}
		defer e.end()
	}
	out, err := e.guarded(ctx, in, call)
	if err != nil {
		return nil, e.Problem(ctx, err)
	}
	if file, is := out.(File); is {
		return &huma.StreamResponse{Body: func(hctx huma.Context) { e.send(hctx, file) }}, nil
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) { e.write(hctx, out) }}, nil
}

// write sends a JSON response, as huma does for types that it knows.
func (e edge) write(hctx huma.Context, out any) {
	kind, err := e.api.Negotiate(hctx.Header("Accept"))
	if err != nil {
		_ = huma.WriteErr(e.api, hctx, http.StatusNotAcceptable, "unable to marshal response", err)
		return
	}
	body, err := e.api.Transform(hctx, "200", out)
	if err != nil {
		_ = huma.WriteErr(e.api, hctx, http.StatusInternalServerError, e.Problem(hctx.Context(), err).Error())
		return
	}
	hctx.SetHeader("Content-Type", kind)
	if tag := TagOf(out); tag != "" {
		hctx.SetHeader("ETag", `"`+tag+`"`)
	}
	hctx.SetStatus(http.StatusOK)
	if err := e.marshal(hctx, kind, body); err != nil && hctx.Context().Err() == nil {
		e.Log.ErrorContext(hctx.Context(), "response not written", "operation", hctx.Operation().OperationID, "error", err)
	}
}

// marshal writes a JSON object; the object of a response from stale reads has the field as_of as well.
func (e edge) marshal(hctx huma.Context, kind string, body any) error {
	var asOf time.Time
	if e.stale {
		asOf = e.Guard.AsOf(hctx.Context())
	}
	if asOf.IsZero() {
		return e.api.Marshal(hctx.BodyWriter(), kind, body)
	}
	var text bytes.Buffer
	if err := e.api.Marshal(&text, kind, body); err != nil {
		return err
	}
	fields, separator := bytes.TrimPrefix(text.Bytes(), []byte("{")), ","
	if bytes.HasPrefix(fields, []byte("}")) {
		separator = ""
	}
	_, err := fmt.Fprintf(hctx.BodyWriter(), `{"as_of":%q%s%s`, asOf.Format(time.RFC3339Nano), separator, fields)
	return err
}

// begin reports whether an operation may run now. If begin returns true, the caller must call end after the operation.
func (e edge) begin() bool { return e.busy == "" || e.running.TryLock() }

func (e edge) end() {
	if e.busy != "" {
		e.running.Unlock()
	}
}

// Exclusive allows only one call of an operation at a time; concurrent calls get HTTP 409.
func (o Route) Exclusive(busy string) Route { o.busy = busy; return o }

// AnyAccount admits restricted callers to an operation that filters its data by account, or whose data belongs to no account.
func (o Route) AnyAccount() Route { o.everyone = true; return o }

// Concerns sets a function that returns the account of a call from the call's parameters. Callers restricted to other accounts are
// rejected. An operation with no Concerns, no AnyAccount, and no {appid} or {mini_program} in its path rejects all restricted callers.
func (o Route) Concerns(account func(ctx context.Context, parameter func(string) string) (string, error)) Route {
	o.of = account
	return o
}

// OfQuery declares that the account of a call is in the query parameter with this name.
func (o Route) OfQuery(name string) Route {
	return o.Concerns(func(_ context.Context, parameter func(string) string) (string, error) { return parameter(name), nil })
}

// checkAccount returns an error if the caller may not access the account of the call.
func (o Route) checkAccount(hctx huma.Context) error {
	ctx := hctx.Context()
	caller := CallerFromContext(ctx)
	if !caller.Scoped() || o.everyone {
		return nil
	}
	refused := huma.NewError(http.StatusForbidden, "you have access to "+strings.Join(caller.Accounts, ", ")+" only: give one of them")
	if o.of != nil {
		appid, err := o.of(ctx, func(name string) string { return cmp.Or(hctx.Param(name), hctx.Query(name)) })
		if err == nil && !caller.CanAccess(appid) {
			return refused
		}
		return err
	}
	named := slices.DeleteFunc([]string{"appid", "mini_program"}, func(name string) bool { return !strings.Contains(o.Path, "{"+name+"}") })
	if slices.ContainsFunc(named, func(name string) bool { return !caller.CanAccess(hctx.Param(name)) }) {
		return refused
	}
	if len(named) == 0 {
		return unlimited(ctx)
	}
	return nil
}

// Patient removes the write deadline of the response.
func (o Route) Patient() Route { o.patient = true; return o }

// Mount adds the operations of a table to mux. The parsers and validators of an operation are made on its first call, because making them
// for all operations is half of the processor time of a server start.
func (t Table) Mount(mux *http.ServeMux) {
	for _, o := range t.Routes {
		handler := sync.OnceValue(func() http.Handler { return t.handler(o) })
		mux.HandleFunc(o.Method+" "+Base+o.Path, func(w http.ResponseWriter, r *http.Request) { handler().ServeHTTP(w, r) })
	}
}

// operationMux is a humago.Mux with the handler of one operation.
type operationMux struct{ http.Handler }

func (m *operationMux) HandleFunc(_ string, f func(http.ResponseWriter, *http.Request)) {
	m.Handler = http.HandlerFunc(f)
}

// handler returns the handler of one operation. The schemas that validate its calls are in no OpenAPI document.
func (t Table) handler(o Route) http.Handler {
	mux, config := &operationMux{}, bounded()
	config.Components.Schemas = huma.NewMapRegistry("#/", func(in reflect.Type, _ string) string { return in.PkgPath() + in.String() })
	e := edge{Table: t, Route: o, api: humago.New(mux, config), running: &sync.Mutex{}, stale: o.readsStale(t.Guard)}
	h := o.operation()
	h.Hidden, h.Middlewares = true, huma.Middlewares{func(hctx huma.Context, next func(huma.Context)) {
		admitted, err := e.admit(hctx)
		if err != nil {
			e.fail(hctx, err)
			return
		}
		next(admitted)
	}}
	o.register(e, h)
	return mux
}

// admit returns an error if the caller may not call the operation, else the context for its reads and its preconditions.
func (e edge) admit(hctx huma.Context) (huma.Context, error) {
	tracing.Describe(hctx.Context(), e.ID)
	if refused := Authorise(hctx.Context(), e.Least); refused != nil {
		return nil, refused
	}
	if err := e.checkAccount(hctx); err != nil {
		return nil, err
	}
	if e.patient {
		_, w := humago.Unwrap(hctx)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	}
	if e.stale && hctx.Query("wait") != "true" {
		hctx = huma.WithContext(hctx, e.Guard.Stale(hctx.Context()))
	}
	if e.Method == http.MethodGet {
		return hctx, nil
	}
	return withSeen(hctx, e.Matches != "" && e.Guard.Run != nil)
}

// fail sends an error response.
func (e edge) fail(hctx huma.Context, err error) {
	problem, status := e.Problem(hctx.Context(), err), http.StatusInternalServerError
	if known, ok := errors.AsType[huma.StatusError](problem); ok {
		status = known.GetStatus()
	}
	_ = huma.WriteErr(e.api, hctx, status, problem.Error())
}

// operation returns what a mounted operation and its description have in common.
func (o Route) operation() huma.Operation {
	return huma.Operation{Method: o.Method, Path: Base + o.Path, OperationID: o.ID, DefaultStatus: http.StatusOK, MaxBodyBytes: 1 << 20,
		BodyReadTimeout: 10 * time.Second}
}

// readsStale reports whether a read replica serves the operation: lists, statistics and history. Clients expect the present from the
// feed of scans and the list of nodes, and a list of codes is a file, which cannot have the field as_of.
func (o Route) readsStale(g Guard) bool {
	switch o.ID {
	case "listScans", "listScanNodes", "listCodes":
		return false
	case "getStatistics", "getRuleHistory":
		return g.Stale != nil
	}
	return g.Stale != nil && o.Method == http.MethodGet && strings.HasPrefix(o.ID, "list")
}

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
	content := map[string]*huma.MediaType{}
	for _, kind := range kinds {
		content[kind] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	}
	return content
}

// Describe adds the operations of a table to an OpenAPI document. It may be called while the operations are served.
func (t Table) Describe(document *huma.OpenAPI) {
	api := humago.New(&operationMux{}, huma.Config{OpenAPI: document})
	for _, o := range t.Routes {
		h := o.operation()
		h.Path, h.Summary, h.RequestBody = o.Spelled(), o.Summary, o.described.RequestBody
		h.Description = strings.TrimSpace(o.described.Description + " Requires the role " + string(o.Least) +
			", or a role with all its permissions.")
		h.Tags, h.Security = []string{t.Tag}, []map[string][]string{{"admin": {}}}
		o.describeAnswer(&h, t.Guard, document.Components.Schemas)
		o.register(edge{api: api}, h)
		if o.wants != nil {
			document.Paths[h.Path].Put.RequestBody.Content["application/json"].Schema = o.wants(document.Components.Schemas)
		}
	}
}

// describeAnswer documents the response of an operation (JSON of a type, or the File described by Answers) and its headers.
func (o Route) describeAnswer(h *huma.Operation, g Guard, schemas huma.Registry) {
	h.Responses = map[string]*huma.Response{}
	for status, response := range o.described.Responses {
		h.Responses[status] = new(*response)
	}
	if o.answer != reflect.TypeFor[File]() {
		schema := schemas.Schema(o.answer, true, h.OperationID+"Response")
		if o.readsStale(g) {
			schemas.SchemaFromRef(schema.Ref).Properties["as_of"] = &huma.Schema{Type: huma.TypeString, Format: "date-time",
				Description: "The response was read from a replica and has all changes up to this time; absent = it is current."}
		}
		h.Responses["200"] = cmp.Or(h.Responses["200"], &huma.Response{})
		if len(h.Responses["200"].Content) == 0 {
			h.Responses["200"].Content = map[string]*huma.MediaType{"application/json": {Schema: schema}}
		}
	}
	if o.Matches != "" && g.Run != nil {
		text := &huma.Schema{Type: huma.TypeString}
		h.Parameters = append(h.Parameters,
			&huma.Param{Name: "If-Match", In: "header", Schema: text, Example: `"Xk2sQ0b7mE4uJ1pVt9aLhw"`,
				Description: "The `revision` of the " + o.Matches + " as last read, in quotes. If it has changed since then, nothing is " +
					"changed and the response is 412. `*` matches any revision. Without this header, the change is unconditional."},
			&huma.Param{Name: "If-None-Match", In: "header", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"*"}},
				Description: "`*` creates the object only if it does not exist."})
		h.Responses["412"] = &huma.Response{
			Description: "The object has changed since it was read. Nothing was changed; the response has the changes and the object.",
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schemas.Schema(g.Problem, true, "")}}}
	}
	if tagged(o.answer) && h.Responses["200"] != nil {
		h.Responses["200"].Headers = map[string]*huma.Param{"ETag": {Schema: &huma.Schema{Type: huma.TypeString},
			Description: "its `revision`, for If-Match"}}
	}
}

// Spelled returns the path as written in the OpenAPI document: only the router knows the syntax {key...} for the last parameter.
func (o Route) Spelled() string { return Base + strings.ReplaceAll(o.Path, "...}", "}") }
