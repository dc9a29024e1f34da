// Package adminroute knows what an operation of the admin API is: a line of a
// table and a function.
package adminroute

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Base is the prefix of the paths of all operations.
const Base = "/admin/v1"

// Route is one line of a table.
type Route struct {
	Method, Path, ID, Summary string
	Least                     Role   // who may call it
	Matches                   string // the kind of thing of which it takes a revision as If-Match; "" = it takes none

	described huma.Operation // what only some of them say
	wants     func(huma.Registry) *huma.Schema
	patient   bool
	everyone  bool // a caller that is limited to accounts gets its part
	of        func(context.Context, func(string) string) (string, error)
	busy      string // the answer while it runs already; "" = it may run twice at once
	mount     func(edge, huma.Operation)
}

// edge holds the dependencies of a mounted operation.
type edge struct {
	api     huma.API
	log     *slog.Logger
	problem func(context.Context, error) error
	busy    string
	running *sync.Mutex
	file    bool // the answer is a File
	guard   Guard
}

// Empty is the answer of an operation that has nothing to tell: 204.
type Empty struct{}

// Get, Post, Put, Patch and Delete make a line of a table. In says what the caller gives
// (see huma), Out is the JSON that is answered, Nothing or a File.
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

// line is generic no longer than it must be: what stands below huma.Register is compiled
// anew for every operation, and that is most of what building this program costs.
func line[In, Out any](method, path, id string, role Role, f func(context.Context, *In) (Out, error), summary string) Route {
	o := Route{Method: method, Path: path, ID: id, Summary: summary, Least: role}
	if in, names := any(new(In)).(Changing); names && method != http.MethodGet {
		o.Matches = in.Thing().Kind
	}
	o.mount = func(e edge, h huma.Operation) {
		e.describe(&h, reflect.TypeFor[Out](), o.Matches)
		huma.Register(e.api, h, func(ctx context.Context, in *In) (*huma.StreamResponse, error) {
			return e.run(ctx, in, func(ctx context.Context) (any, error) { return f(ctx, in) })
		})
	}
	return o
}

// describe says in the document what is answered: JSON of a type, nothing, or what
// Answers said of a file.
func (e *edge) describe(h *huma.Operation, out reflect.Type, matches string) {
	defer func() { e.describeMatch(h, out, matches) }()
	switch out {
	case reflect.TypeFor[Empty]():
		h.DefaultStatus = http.StatusNoContent
	case reflect.TypeFor[File]():
		e.file = true
	default:
		schema := e.api.OpenAPI().Components.Schemas.Schema(out, true, h.OperationID+"Response")
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

// run calls the function of an operation; what it answers is written when it has returned.
func (e edge) run(ctx context.Context, in any, call func(context.Context) (any, error)) (*huma.StreamResponse, error) {
	if !e.file { // a file runs while it is sent
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
		return nil, nil // huma answers the status alone
	case File:
		return &huma.StreamResponse{Body: func(hctx huma.Context) { e.send(hctx, out) }}, nil
	default:
		return &huma.StreamResponse{Body: func(hctx huma.Context) { e.write(hctx, out) }}, nil
	}
}

// write answers JSON, as huma does where it knows the type.
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
	if err := e.api.Marshal(hctx.BodyWriter(), kind, body); err != nil && hctx.Context().Err() == nil {
		e.log.ErrorContext(hctx.Context(), "an answer could not be written", "operation", hctx.Operation().OperationID, "error", err)
	}
}

// begin reports whether an operation may run now; end says that it is over.
func (e edge) begin() bool { return e.busy == "" || e.running.TryLock() }

func (e edge) end() {
	if e.busy != "" {
		e.running.Unlock()
	}
}

// Exclusive lets an operation run once at a time; others are answered 409.
func (o Route) Exclusive(busy string) Route { o.busy = busy; return o }

// AnyAccount admits callers that are limited to accounts: the function filters by account, or its data belongs to none.
func (o Route) AnyAccount() Route { o.everyone = true; return o }

// Concerns says which account a call concerns, from its parameters by their names. Callers
// that are limited to others may not call; an operation whose path has no {appid} and
// that says neither this nor Everyone, they may not call at all.
func (o Route) Concerns(account func(ctx context.Context, parameter func(string) string) (string, error)) Route {
	o.of = account
	return o
}

// OfQuery is Of for an account that stands in the query.
func (o Route) OfQuery(name string) Route {
	return o.Concerns(func(_ context.Context, parameter func(string) string) (string, error) { return parameter(name), nil })
}

// checkAccount returns the problem of a caller that may not call for this account.
func (o Route) checkAccount(hctx huma.Context) error {
	ctx := hctx.Context()
	caller := CallerFromContext(ctx)
	if !caller.Scoped() || o.everyone {
		return nil
	}
	refused := huma.NewError(http.StatusForbidden, "you may see "+strings.Join(caller.Accounts, ", ")+" only: name one of them")
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
		if named = true; !caller.CanAccess(hctx.Param(name)) {
			return refused
		}
	}
	if named {
		return nil
	}
	return unlimited(ctx)
}

// Patient lets an answer take as long as there is much to do.
func (o Route) Patient() Route { o.patient = true; return o }

// Wants says in the document what the body of a Put is; the function itself says
// what is wrong with it.
func (o Route) Wants(schema func(huma.Registry) *huma.Schema) Route {
	o.wants = schema
	return o
}

// Description adds sentences to the summary.
func (o Route) Description(text string) Route { o.described.Description = text; return o }

// Takes says what the body is, where no type does.
func (o Route) Takes(kind, description string) Route {
	o.described.RequestBody = &huma.RequestBody{Required: true, Description: description, Content: binary(kind)}
	return o
}

// Answers says what the answer is; kinds are the types of a File.
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

// Mount serves a table and describes it in the API's document. An error that a
// function returns is answered as problem says; guard compares what comes with If-Match.
func Mount(api huma.API, tag string, log *slog.Logger, problem func(context.Context, error) error, guard Guard, table []Route) {
	for _, o := range table {
		h := o.described
		h.Method, h.Path, h.OperationID, h.Summary, h.Tags = o.Method, Base+o.Path, o.ID, o.Summary, []string{tag}
		h.Description = strings.TrimSpace(h.Description + " It wants the role " + string(o.Least) + ", or one that may do what it may.")
		h.Security, h.MaxBodyBytes, h.BodyReadTimeout = []map[string][]string{{"admin": {}}}, 1<<20, 10*time.Second
		h.DefaultStatus = http.StatusOK
		h.Middlewares = huma.Middlewares{func(hctx huma.Context, next func(huma.Context)) {
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
			if o.Method != http.MethodGet {
				var err error
				if hctx, err = withSeen(hctx, o.Matches != "" && guard.Run != nil); err != nil {
					_ = huma.WriteErr(api, hctx, http.StatusBadRequest, err.Error())
					return
				}
			}
			next(hctx)
		}}
		e := edge{api: api, log: log, problem: problem, busy: o.busy, running: &sync.Mutex{}, guard: guard}
		o.mount(e, h)
		nameWhole(api.OpenAPI(), h.Path, o.Spelled())
		if o.wants != nil {
			api.OpenAPI().Paths[h.Path].Put.RequestBody.Content["application/json"].Schema = o.wants(api.OpenAPI().Components.Schemas)
		}
	}
}

// Spelled returns the path as the document has it.
func (o Route) Spelled() string { return Base + strings.ReplaceAll(o.Path, "...}", "}") }

// nameWhole describes a parameter that is the rest of a path, {key...} for the router, as the document spells parameters.
func nameWhole(document *huma.OpenAPI, path, plain string) {
	item := document.Paths[path]
	if plain == path || item == nil {
		return
	}
	delete(document.Paths, path)
	if storedPathItem := document.Paths[plain]; storedPathItem != nil {
		storedPathItem.Get, storedPathItem.Put, storedPathItem.Delete = cmp.Or(storedPathItem.Get, item.Get), cmp.Or(storedPathItem.Put, item.Put), cmp.Or(storedPathItem.Delete, item.Delete)
		item = storedPathItem
	}
	document.Paths[plain] = item
}
