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
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// Base is the prefix of the paths of all operations.
const Base = "/admin/v1"

// Route is one operation of the admin API.
type Route struct {
	Method, Path, ID, Summary string
	Least                     Role   // the least privileged role that may call the operation
	Matches                   string // the kind of object whose revision the operation accepts in If-Match; "" = none

	described huma.Operation // optional parts of the operation's description
	wants     func(huma.Registry) *huma.Schema
	patient   bool
	everyone  bool // callers restricted to some accounts may call the operation, and see only the data of their accounts
	of        func(context.Context, func(string) string) (string, error)
	busy      string // the error message if the operation is already running; "" = concurrent calls are allowed
	mount     func(edge, huma.Operation)
}

// edge holds the dependencies of a mounted operation.
type edge struct {
	api     huma.API
	log     *slog.Logger
	problem func(context.Context, error) error
	busy    string
	running *sync.Mutex
	file    bool // the response is a File
	stale   bool // the response may come from stale reads
	guard   Guard
}

// Empty is the response of an operation without a result: HTTP 204.
type Empty struct{}

// Get, Post, Put, Patch and Delete return a Route for the HTTP method. In is the type of the parameters and the body (see huma);
// Out is the type of the JSON response, Empty or File.
func Get[In, Out any](path, id string, role Role, f func(context.Context, *In) (Out, error), summary string) Route {
	return line(http.MethodGet, path, id, role, f, summary)
}

func Post[In, Out any](path, id string, role Role, f func(context.Context, *In) (Out, error), summary string) Route {
	return line(http.MethodPost, path, id, role, f, summary)
}

func Put[In, Out any](path, id string, role Role, f func(context.Context, *In) (Out, error), summary string) Route {
	return line(http.MethodPut, path, id, role, f, summary)
}

func Patch[In, Out any](path, id string, role Role, f func(context.Context, *In) (Out, error), summary string) Route {
	return line(http.MethodPatch, path, id, role, f, summary)
}

func Delete[In, Out any](path, id string, role Role, f func(context.Context, *In) (Out, error), summary string) Route {
	return line(http.MethodDelete, path, id, role, f, summary)
}

// line returns a Route. line contains little generic code, because the compiler compiles generic code separately for every
// operation; huma.Register alone takes most of the build time.
func line[In, Out any](method, path, id string, role Role, f func(context.Context, *In) (Out, error), summary string) Route {
	o := Route{Method: method, Path: path, ID: id, Summary: summary, Least: role}
	if in, names := any(new(In)).(Changing); names && method != http.MethodGet {
		o.Matches = in.Object().Kind
	}
	o.mount = func(e edge, h huma.Operation) {
		e.describe(&h, reflect.TypeFor[Out](), o.Matches)
		huma.Register(e.api, h, func(ctx context.Context, in *In) (*huma.StreamResponse, error) {
			return e.run(ctx, in, func(ctx context.Context) (any, error) { return f(ctx, in) })
		})
	}
	return o
}

// describe documents the response of an operation: JSON of a type, an empty response, or the File described by Answers.
func (e *edge) describe(h *huma.Operation, out reflect.Type, matches string) {
	defer func() { e.describeMatch(h, out, matches) }()
	switch out {
	case reflect.TypeFor[Empty]():
		h.DefaultStatus = http.StatusNoContent
	case reflect.TypeFor[File]():
		e.file = true
	default:
		schemas := e.api.OpenAPI().Components.Schemas
		schema := schemas.Schema(out, true, h.OperationID+"Response")
		if e.stale {
			schemas.SchemaFromRef(schema.Ref).Properties["as_of"] = &huma.Schema{Type: huma.TypeString, Format: "date-time",
				Description: "The response was read from a replica and has all changes up to this time; absent = it is current."}
		}
		described := h.Responses["200"]
		if described == nil {
			described = &huma.Response{}
			h.Responses = map[string]*huma.Response{"200": described}
		}
		if described.Content == nil {
			described.Content = map[string]*huma.MediaType{"application/json": {Schema: schema}}
		}
	}
}

// run calls the function of an operation, and returns a response that is written afterwards.
func (e edge) run(ctx context.Context, in any, call func(context.Context) (any, error)) (*huma.StreamResponse, error) {
	if !e.file { // the function of a File runs while the file is sent
		if !e.begin() {
			return nil, huma.Error409Conflict(e.busy)
		}
		defer e.end()
	}
	out, err := e.guarded(ctx, in, call)
	if err != nil {
		return nil, e.problem(ctx, err)
	}
	switch out := out.(type) {
	case Empty:
		return nil, nil // for a nil response, huma sends only the status
	case File:
		return &huma.StreamResponse{Body: func(hctx huma.Context) { e.send(hctx, out) }}, nil
	default:
		return &huma.StreamResponse{Body: func(hctx huma.Context) { e.write(hctx, out) }}, nil
	}
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
		_ = huma.WriteErr(e.api, hctx, http.StatusInternalServerError, e.problem(hctx.Context(), err).Error())
		return
	}
	hctx.SetHeader("Content-Type", kind)
	if tag := TagOf(out); tag != "" {
		hctx.SetHeader("ETag", `"`+tag+`"`)
	}
	hctx.SetStatus(http.StatusOK)
	if err := e.marshal(hctx, kind, body); err != nil && hctx.Context().Err() == nil {
		e.log.ErrorContext(hctx.Context(), "an answer could not be written", "operation", hctx.Operation().OperationID, "error", err)
	}
}

// marshal writes a JSON object; the object of a response from stale reads has the field as_of as well.
func (e edge) marshal(hctx huma.Context, kind string, body any) error {
	var asOf time.Time
	if e.stale {
		asOf = e.guard.AsOf(hctx.Context())
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
		if err != nil {
			return err
		}
		if !caller.CanAccess(appid) {
			return refused
		}
		return nil
	}
	named := false
	for _, name := range []string{"appid", "mini_program"} {
		if !strings.Contains(o.Path, "{"+name+"}") {
			continue
		}
		named = true
		if !caller.CanAccess(hctx.Param(name)) {
			return refused
		}
	}
	if named {
		return nil
	}
	return unlimited(ctx)
}

// Patient removes the write deadline of the response.
func (o Route) Patient() Route { o.patient = true; return o }

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

// Mount registers the operations of a table and adds them to the OpenAPI document. problem converts the errors of the functions to
// responses; guard checks the preconditions of If-Match.
func Mount(api huma.API, tag string, log *slog.Logger, problem func(context.Context, error) error, guard Guard, table []Route) {
	for _, o := range table {
		e := edge{api: api, log: log, problem: problem, busy: o.busy, running: &sync.Mutex{}, stale: guard.Stale != nil && o.mayBeStale(),
			guard: guard}
		h := o.described
		h.Method, h.Path, h.OperationID, h.Summary, h.Tags = o.Method, Base+o.Path, o.ID, o.Summary, []string{tag}
		h.Description = strings.TrimSpace(h.Description + " It wants the role " + string(o.Least) + ", or one that may do what it may.")
		h.Security, h.MaxBodyBytes, h.BodyReadTimeout = []map[string][]string{{"admin": {}}}, 1<<20, 10*time.Second
		h.DefaultStatus = http.StatusOK
		h.Middlewares = huma.Middlewares{func(hctx huma.Context, next func(huma.Context)) {
			tracing.Describe(hctx.Context(), o.ID)
			if refused := Authorise(hctx.Context(), o.Least); refused != nil {
				_ = huma.WriteErr(api, hctx, refused.GetStatus(), refused.Error())
				return
			}
			if err := o.checkAccount(hctx); err != nil {
				status := http.StatusInternalServerError
				answered := problem(hctx.Context(), err)
				if known, ok := errors.AsType[huma.StatusError](answered); ok {
					status = known.GetStatus()
				}
				_ = huma.WriteErr(api, hctx, status, answered.Error())
				return
			}
			if o.patient {
				_, w := humago.Unwrap(hctx)
				_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
			}
			if e.stale && hctx.Query("wait") != "true" {
				hctx = huma.WithContext(hctx, guard.Stale(hctx.Context()))
			}
			if o.Method != http.MethodGet {
				var err error
				if hctx, err = withSeen(hctx, o.Matches != "" && guard.Run != nil); err != nil {
					_ = huma.WriteErr(api, hctx, http.StatusBadRequest, err.Error())
					return
				}
			}
			next(hctx)
		}}
		o.mount(e, h)
		nameWhole(api.OpenAPI(), h.Path, o.Spelled())
		if o.wants != nil {
			api.OpenAPI().Paths[h.Path].Put.RequestBody.Content["application/json"].Schema = o.wants(api.OpenAPI().Components.Schemas)
		}
	}
}

// mayBeStale reports whether a read replica may serve the operation: lists, statistics and history. Clients expect the present from the
// feed of scans and the list of nodes, and a list of codes is a file, which cannot have the field as_of.
func (o Route) mayBeStale() bool {
	switch o.ID {
	case "listScans", "listScanNodes", "listCodes":
		return false
	case "getStatistics", "getRuleHistory":
		return true
	}
	return o.Method == http.MethodGet && strings.HasPrefix(o.ID, "list")
}

// Spelled returns the path as written in the OpenAPI document.
func (o Route) Spelled() string { return Base + strings.ReplaceAll(o.Path, "...}", "}") }

// nameWhole replaces the path in the argument "path" by the argument "plain" in the OpenAPI document. Only the router knows the syntax
// {key...} for the last parameter of path.
func nameWhole(document *huma.OpenAPI, path, plain string) {
	item := document.Paths[path]
	if plain == path || item == nil {
		return
	}
	delete(document.Paths, path)
	if storedPathItem := document.Paths[plain]; storedPathItem != nil {
		storedPathItem.Get, storedPathItem.Put, storedPathItem.Delete = cmp.Or(storedPathItem.Get, item.Get),
			cmp.Or(storedPathItem.Put, item.Put), cmp.Or(storedPathItem.Delete, item.Delete)
		item = storedPathItem
	}
	document.Paths[plain] = item
}
