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
	api     huma.API
	busy    string
	running *sync.Mutex
	file    bool // the response is a File
	stale   bool // the response may come from stale reads
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
	o := Route{Method: method, Path: path, ID: id, Summary: summary, Least: role, answer: reflect.TypeFor[Out]()}
	if in, names := any(new(In)).(Changing); names && method != http.MethodGet {
		o.Matches = in.Object().Kind
	}
	o.register = func(e edge, h huma.Operation) {
		huma.Register(e.api, h, func(ctx context.Context, in *In) (*huma.StreamResponse, error) {
			return e.run(ctx, in, func(ctx context.Context) (any, error) { return f(ctx, in) })
		})
	}
	return o
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
		return nil, e.Problem(ctx, err)
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
		_ = huma.WriteErr(e.api, hctx, http.StatusInternalServerError, e.Problem(hctx.Context(), err).Error())
		return
	}
	hctx.SetHeader("Content-Type", kind)
	if tag := TagOf(out); tag != "" {
		hctx.SetHeader("ETag", `"`+tag+`"`)
	}
	hctx.SetStatus(http.StatusOK)
	if err := e.marshal(hctx, kind, body); err != nil && hctx.Context().Err() == nil {
		e.Log.ErrorContext(hctx.Context(), "an answer could not be written", "operation", hctx.Operation().OperationID, "error", err)
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

// Mount adds the operations of a table to mux. The parsers and validators of an operation are made on its first call, because making them
// for all operations is half of the processor time of a server start.
func (t Table) Mount(mux *http.ServeMux, config huma.Config) {
	for _, o := range t.Routes {
		h := o.operation()
		handler := sync.OnceValue(func() http.Handler { return t.handler(config, o, h) })
		mux.HandleFunc(h.Method+" "+h.Path, func(w http.ResponseWriter, r *http.Request) { handler().ServeHTTP(w, r) })
	}
}

// operationMux is a humago.Mux with the handler of one operation.
type operationMux struct{ http.Handler }

func (m *operationMux) HandleFunc(_ string, f func(http.ResponseWriter, *http.Request)) {
	m.Handler = http.HandlerFunc(f)
}

// handler returns the handler of one operation. The schemas that validate its calls are in no OpenAPI document.
func (t Table) handler(config huma.Config, o Route, h huma.Operation) http.Handler {
	config.OpenAPI = &huma.OpenAPI{Components: &huma.Components{Schemas: huma.NewMapRegistry("#/", func(in reflect.Type, _ string) string {
		return in.PkgPath() + " " + in.String()
	})}}
	mux := &operationMux{}
	e := edge{Table: t, api: humago.New(mux, config), busy: o.busy, running: &sync.Mutex{}, file: o.answer == reflect.TypeFor[File](),
		stale: o.readsStale(t.Guard)}
	h.Hidden, h.Middlewares = true, huma.Middlewares{func(hctx huma.Context, next func(huma.Context)) { e.admit(hctx, o, next) }}
	o.register(e, h)
	return mux
}

// admit calls next if the caller may call the operation, with a context for its reads and its preconditions.
func (e edge) admit(hctx huma.Context, o Route, next func(huma.Context)) {
	tracing.Describe(hctx.Context(), o.ID)
	if refused := Authorise(hctx.Context(), o.Least); refused != nil {
		_ = huma.WriteErr(e.api, hctx, refused.GetStatus(), refused.Error())
		return
	}
	if err := o.checkAccount(hctx); err != nil {
		status := http.StatusInternalServerError
		answered := e.Problem(hctx.Context(), err)
		if known, ok := errors.AsType[huma.StatusError](answered); ok {
			status = known.GetStatus()
		}
		_ = huma.WriteErr(e.api, hctx, status, answered.Error())
		return
	}
	if o.patient {
		_, w := humago.Unwrap(hctx)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	}
	if e.stale && hctx.Query("wait") != "true" {
		hctx = huma.WithContext(hctx, e.Guard.Stale(hctx.Context()))
	}
	if o.Method != http.MethodGet {
		var err error
		if hctx, err = withSeen(hctx, o.Matches != "" && e.Guard.Run != nil); err != nil {
			_ = huma.WriteErr(e.api, hctx, http.StatusBadRequest, err.Error())
			return
		}
	}
	next(hctx)
}

// operation returns what a mounted operation and its description have in common.
func (o Route) operation() huma.Operation {
	status := http.StatusOK
	if o.answer == reflect.TypeFor[Empty]() {
		status = http.StatusNoContent
	}
	return huma.Operation{Method: o.Method, Path: Base + o.Path, OperationID: o.ID, DefaultStatus: status, MaxBodyBytes: 1 << 20,
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
