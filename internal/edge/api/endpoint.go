// Package api implements the platform's wire protocol: paths, tokens, lenient JSON requests, response envelopes and request ids.
package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/contract/unsupported"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// MaxBody is the maximum size in bytes of a call's body.
const MaxBody = 1 << 20

// API serves the platform's wire API.
type API struct {
	Accounts *accounts.Service
	Rules    *rules.Service
	Codes    *codes.Service
	Calls    *apiusage.Service
	Settings *settings.Live
	Log      *slog.Logger
	Now      func() time.Time // the server's clock, which an emulator moves
	RealNow  func() time.Time // measures durations and the limit of calls per second
	Random   io.Reader
	ClientIP func(*http.Request) netip.Addr
	// BodyTimeout is the timeout for reading a body.
	BodyTimeout time.Duration
	// Faults returns the fault to inject into a call; nil outside the emulator.
	Faults func(path, appid string) Fault
	// Canned returns the canned response that an operator set for a path; nil outside the emulator.
	Canned func(method, path string) (CannedResponse, bool)
	// Record is called for every call, with secrets masked; may be nil.
	Record func(Record)
	// TracePathPrefix, followed by a request id, is the path of the record of a call; a header of every response contains this path. If
	// TracePathPrefix is empty, responses contain no path of a record.
	TracePathPrefix string
	// PageOf returns the address of the page that shows a call; the log line of a failed call ends with this address; nil = no such page.
	PageOf func(rid string) string
	// Shared counts calls per second over all nodes, for limits up to MaxSharedLimit; nil = there is only one node.
	Shared func(ctx context.Context, key string, limit int) (bool, error)
	// Observe records a call for metrics; path is the path of an endpoint, or "" for an unknown endpoint.
	Observe func(path string, code int, d time.Duration)
	// OnAuthenticated is called, with the request's context, for a call with a valid token or secret, and OnRejected for a failed call
	// without a valid token or secret; nil = no callback.
	OnAuthenticated, OnRejected func(context.Context)

	limiter         limiter
	pictureLimiter  limiter
	platformLimiter limiter // counts calls against the platform's own limit, if the settings allow more calls
	recent          recentCalls
	table           map[string]endpoint
}

// Fault is a fault that is injected into one call. The zero value of Fault injects nothing.
type Fault struct {
	Code      *errcode.Code // error code to return instead of executing the call; nil = none
	After     bool          // execute the call, then return Code in spite of the result
	Delay     time.Duration
	Drop      bool // close the connection instead of executing the call
	DropAfter bool // execute the call, then close the connection instead of responding
}

// Handler returns the HTTP handler for all paths that no other part of the server serves. For an unknown path the handler returns
// error 40066.
func (a *API) Handler() http.Handler {
	a.table = map[string]endpoint{}
	for _, e := range a.endpoints() {
		e.fields = strings.Fields(strings.ReplaceAll(e.page, "!", ""))
		a.table[e.path] = e
	}
	return http.HandlerFunc(a.serve)
}

// needs is a set of flags: what an endpoint requires before its function runs, and how its calls differ from the default.
type needs int

const (
	open           needs = 0
	token          needs = 1 << iota // an access token in the query
	emptyBody                        // an empty body counts as {}, although the platform was observed to reject an empty body
	withoutBody                      // the endpoint's documentation page shows no body: an empty body counts as {}
	anyMethod                        // any HTTP method is accepted, and the fields are in the query
	mutates                          // restricts anyMethod to GET and POST: the call creates or consumes something
	ticketOnly                       // the call is accepted without a token, unless the operator disabled this leniency
	getAllowed                       // the call is accepted by GET, unless the operator disabled this leniency
	platform                         // a third-party platform's own token, and the platform's AppID in component_appid
	platformLast                     // a platform's own token; the endpoint function checks the account first and then the token
	eitherToken                      // a platform's own token is accepted as well as an account's token
	queryAllowed                     // fields may be given in the query, and the body may be empty
	escapedSlashes                   // the platform writes / as \/ in the response
	unaudited                        // the call leaves no entry in the audit log: it only reads, counts, issues tokens or consumes codes
)

type endpoint struct {
	path           string
	needs          needs
	serve          func(context.Context, *call, *fields) (any, error)
	codes          []*errcode.Code
	permissionSets permissionSets
	page           string // the fields that the documentation page lists, in body or query, with ! after each required field
	// fields are the parsed fields of page, set by Handler.
	fields []string
	// checkAccess returns an error if an account cannot use the endpoint's family at all, else nil. The check of the account runs after the
	// token check and before the body is read; a nil function allows every account.
	checkAccess func(*API, *call) error
}

// post returns an endpoint that accepts a JSON object.
func post(path string, n needs, page string, f func(context.Context, *call, *fields) (any, error), codes ...*errcode.Code) endpoint {
	return endpoint{path: path, needs: n, page: page, serve: f, codes: codes}
}

// get returns an endpoint that accepts its fields from the query.
func get(path string, n needs, page string, f func(context.Context, *call, *fields) (any, error), codes ...*errcode.Code) endpoint {
	return post(path, n|anyMethod, page, f, codes...)
}

// reading returns an endpoint function that calls serve with the request that read parses from the fields of a call.
func reading[T any](read func(*fields) (T, error), serve func(context.Context, *call, T) (any, error),
) func(context.Context, *call, *fields) (any, error) {
	return func(ctx context.Context, c *call, f *fields) (any, error) {
		request, err := read(f)
		if err != nil {
			return nil, err
		}
		return serve(ctx, c, request)
	}
}

// inFamily assigns an endpoint to a family: a platform needs one of the permission sets to call the endpoint, and accounts that may not use
// the family are rejected before the body is read. Contract: rules §1.8, §3.4, §3.5, marketcode §1. Inferred(codes.gate): error 48001
// lacks the code service's hint, so access is checked before the code service is called.
func (e endpoint) inFamily(sets permissionSets, check func(*API, *call) error) endpoint {
	e.permissionSets, e.checkAccess = sets, check
	return e
}

func (e endpoint) ofRules() endpoint {
	// A personal Mini Program passes this check: it is rejected after the fields are read, with a different error number.
	return e.inFamily(ruleSets, func(_ *API, c *call) error {
		if err := c.caller.JumpRules(); !errors.Is(err, errcode.PersonalSubject) {
			return err
		}
		return nil
	})
}
func (e endpoint) ofLinks() endpoint {
	return e.inFamily(samePermissionSet(accounts.Linking), (*API).checkLinks)
}
func (e endpoint) ofQRCodes() endpoint {
	return e.inFamily(samePermissionSet(accounts.AccountService), func(_ *API, c *call) error { return c.caller.MayMakeQRCodes() })
}
func (e endpoint) ofCodes() endpoint {
	return e.inFamily(samePermissionSet(accounts.OneItemOneCode), func(_ *API, c *call) error { return codes.CheckPermission(c.caller) })
}

// streamed is a response that writes itself piece by piece instead of being one JSON value.
type streamed interface {
	// masked returns the response without secrets, for the call log.
	masked() []byte
	write(ctx context.Context, w http.ResponseWriter) error
}

// call contains the state of one call while it is served.
type call struct {
	rid string
	ip  netip.Addr
	// address is the client IP address in the form shown in messages.
	address string
	// underSNS reports whether the path, which may be unknown, begins with /sns/: responses to such calls have a form of their own.
	underSNS bool
	query    url.Values
	body     []byte
	caller   accounts.Account // zero if the endpoint requires no token
	needs    needs            // flags of the endpoint, as modified by the settings
	// granted returns error 61007 unless the calling platform has the given permission set; nil = the call has no account token.
	granted func(set int) error
	// component is the platform that makes the call, for itself or in the name of caller; "" if an account calls with its own token.
	component string
	rate      *accounts.Rate // limit of calls per second over all nodes; nil = no limit over all nodes
	bearer    string         // the token of the call; "" if the field rate is nil
	// secretOwner is the account that sent its valid secret to an endpoint that requires no token.
	secretOwner string
	// notes are the behaviours on which a successful call depends: leniencies of the server, and undocumented cases.
	notes behaviour.Notes
	// accessDenied reports whether the call was rejected before its body was read, because the account may not use the endpoint's family.
	accessDenied bool
	// done reports whether the endpoint function succeeded, even if an injected fault changes the response.
	done bool
}

func (a *API) newCall(r *http.Request, now time.Time) *call {
	// Inferred(wire.answer.rid_time): eight recorded live request ids match this format. Contract: rules §0.
	c := &call{rid: NewRID(a.Random, now), ip: a.ClientIP(r), query: r.URL.Query()}
	c.address, c.underSNS = c.ip.String(), strings.HasPrefix(r.URL.Path, "/sns/")
	return c
}

// unknownPathError returns the error for a path that this server does not offer; the detail says whether the platform offers the path.
func unknownPathError(path string) error {
	if _, known := unsupported.Lookup(path); known {
		return errcode.InvalidURL.WithDetail(behaviour.WirePathUnknown, "the platform has this path, and this server does not offer it")
	}
	return errcode.InvalidURL.WithDetail(behaviour.WirePathUnknown, "no endpoint at this path")
}

func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	if a.Canned != nil {
		if canned, ok := a.Canned(r.Method, r.URL.Path); ok {
			a.serveCanned(w, r, canned)
			return
		}
	}
	start, now := a.RealNow(), a.Now()
	c := a.newCall(r, now)
	e, known := a.table[r.URL.Path]
	var reply any
	var fault Fault
	var err error
	if known {
		tracing.Describe(r.Context(), r.Method+" "+e.path, slog.String("qrjump.rid", c.rid))
		reply, fault, err = a.run(w, r, e, c)
	} else {
		err = unknownPathError(r.URL.Path)
	}
	err = a.renumber(err)
	code, detail := errcode.FromError(err)
	a.noteResult(r, e, c, err, code)
	detail = truncate(detail, maxDetail) // the detail may quote text of the caller
	if a.TracePathPrefix != "" {
		w.Header().Set("X-Qrjump-Trace", a.TracePathPrefix+c.rid)
	}
	var body []byte
	stream, isStream := reply.(streamed)
	if isStream = isStream && err == nil && !fault.DropAfter; isStream {
		body = stream.masked()
		err = stream.write(r.Context(), w)
	} else {
		shownDetail := detail
		if strings.HasPrefix(detail, injectedDetail) {
			shownDetail = "" // the platform would omit the error detail in the response; log and record include the detail
		}
		body = a.encodeReply(e, c, reply, code, shownDetail)
	}
	switch {
	case c.account() != "" && a.OnAuthenticated != nil:
		a.OnAuthenticated(r.Context())
	case c.account() == "" && code != errcode.OK && a.OnRejected != nil:
		a.OnRejected(r.Context())
	}
	took := a.RealNow().Sub(start)
	result := outcome{code, detail, err, took}
	a.log(r, e, c, result)
	if a.Observe != nil {
		a.Observe(e.path, code.Number, took)
	}
	if known && c.account() == "" {
		a.Calls.RefuseToken(e.path, code, c.rid)
	}
	if a.Record != nil || c.account() != "" {
		a.Calls.Deviate(c.account(), e.path, c.rid, now, &c.notes)
		record := newRecord(now, r, e, c, body, result)
		if a.Record != nil {
			a.Record(record)
		}
		a.recordCall(record)
	}
	if fault.Drop || fault.DropAfter || isStream && err != nil {
		panic(http.ErrAbortHandler) // net/http closes the connection on this panic
	}
	if isStream {
		return
	}
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = answerType, answerCache
	if c.underSNS {
		h["Content-Type"] = answerPlain
	}
	w.Write(body)
}

// noteResult completes c.notes, the behaviours on which the result of the call depends.
func (a *API) noteResult(r *http.Request, e endpoint, c *call, err error, code *errcode.Code) {
	if code != errcode.OK && !c.done {
		c.notes.Clear() // notes recorded before the rejection did not affect the result
	}
	if c.notes.Take(behaviour.CallerAddressUnlisted) && a.Calls.FirstNotice(cmp.Or(c.component, c.account())) {
		c.notes.Add(behaviour.CallerAddressUnlisted)
	}
	c.notes.Add(errcode.RowOf(err))
	if c.accessDenied {
		c.notes.Add(behaviour.CodesGate)
	}
	if e.path != "" && a.isRepeatedRejection(r, e, c, code) {
		c.notes.Add(behaviour.WireRetry)
	}
}

// Headers shared by all responses; these slices are never modified.
var (
	// Observed(wire.answer.type): the platform writes "encoding" instead of "charset".
	answerType = []string{"application/json; encoding=utf-8"}
	// Observed(wire.answer.plain): responses under /sns/ have this type.
	answerPlain = []string{"text/plain"}
	answerCache = []string{"no-store"}
)

// do calls the function of the endpoint.
func (a *API) do(ctx context.Context, e endpoint, c *call, f *fields) (any, error) {
	if e.needs&platform != 0 {
		if err := a.checkOwnComponent(ctx, c, f); err != nil {
			return nil, err
		}
	}
	reply, err := e.serve(accounts.WithActor(ctx, c.actor()), c, f)
	// If a field has a wrong type, the error of this field replaces the result of the endpoint function.
	if f.err != nil {
		err = f.err
	}
	c.done = err == nil
	return reply, err
}

// readFields parses the fields from the body, or from the query if the endpoint uses the query.
func (a *API) readFields(w http.ResponseWriter, r *http.Request, e endpoint, c *call) (*fields, error) {
	if e.needs&anyMethod != 0 {
		return queryFields(c.query), nil
	}
	// The deadline belongs to the connection, so it is set in real time, not in the time of the server's clock. A response recorder in a
	// test has no deadline.
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(a.BodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return nil, errcode.DataFormat.WithDetail(behaviour.WireBodyLong, "the body is longer than %d bytes", MaxBody)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.Header().Set("Connection", "close")
		return nil, errcode.DataFormat.WithDetail(behaviour.WireBodySlow, "the body did not arrive within %s", a.BodyTimeout)
	}
	if err != nil {
		return nil, errcode.DataFormat.WithDetail(behaviour.WireBodyBroken, "the body ended early: %v", err)
	}
	_ = control.SetReadDeadline(time.Time{})
	c.body = body
	if len(bytes.TrimSpace(body)) == 0 {
		row := behaviour.WireBodyEmptyAccepted
		if e.needs&withoutBody != 0 {
			row = behaviour.WireBodyNone
		}
		switch {
		case e.needs&queryAllowed != 0:
		case e.needs&(emptyBody|withoutBody) == 0 || !a.isAllowed(c, row):
			return nil, errcode.EmptyPostData.WithDetail(behaviour.WireBodyEmpty, "the body is empty: want a JSON object")
		}
		body = []byte("{}")
	}
	f, err := parseFields(body)
	if err != nil && strings.HasPrefix(e.path, "/cgi-bin/component/") && errcode.RowOf(err) != behaviour.WireBodyNotObject {
		// If the body is not JSON, the component_appid is missing. Contract: corrections of 2026-11-20.
		return nil, errcode.ComponentMissing.WithDetail(behaviour.WireBodyComponent, "%v", err)
	}
	if err == nil && e.needs&queryAllowed != 0 {
		// Only documented fields of a query are kept, because a query may be as long as a body and each lookup scans all fields.
		for _, name := range e.fields {
			if !c.query.Has(name) || !f.isAbsent(name) {
				continue
			}
			if err := a.noteOrRefuse(c, behaviour.QuotaInQuery, "%s is in the query", name); err != nil {
				return nil, err
			}
			quoted, err := json.Marshal(c.query.Get(name))
			if err != nil {
				return nil, err
			}
			f.set([]byte(name), quoted)
		}
	}
	return f, err
}

// outcome is the result of a call, for the log and the record of calls.
type outcome struct {
	code   *errcode.Code
	detail string
	err    error // cause of a SystemError
	took   time.Duration
}

// log writes one log line per call. Texts from the caller are quoted and truncated.
func (a *API) log(r *http.Request, e endpoint, c *call, o outcome) {
	attrs := append(make([]slog.Attr, 0, 12),
		slog.String("rid", c.rid), slog.String("endpoint", e.path), slog.Int("errcode", o.code.Number),
		slog.String("account", c.account()), slog.String("ip", c.address), slog.Duration("took", o.took))
	level := slog.LevelInfo
	if c.component != "" {
		attrs = append(attrs, slog.String("component", c.component))
	}
	if e.path == "" {
		attrs = append(attrs, slog.String("path", LoggedPath(r.URL.Path)))
	}
	if o.detail != "" {
		attrs = append(attrs, slog.String("detail", o.detail))
	}
	if rows := c.notes.Rows(); rows != nil {
		attrs = append(attrs, slog.Any("behaviours", rows))
	}
	switch {
	case o.code == errcode.SystemError && o.detail == "":
		level = slog.LevelError
		attrs = append(attrs, slog.Any("error", o.err))
	case e.path != "" && !isDeclared(e, o.code) && !strings.HasPrefix(o.detail, injectedDetail) && o.detail != cannedDetail:
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("undeclared", "the endpoint's line does not name this code"))
	}
	if a.PageOf != nil && o.code.Number != 0 {
		attrs = append(attrs, slog.String("page", a.PageOf(c.rid)))
	}
	// These lines replace Log.LogAttrs, which would also look up the source line; the source line would always be this one.
	if h := a.Log.Handler(); h.Enabled(r.Context(), level) {
		line := slog.NewRecord(time.Now(), level, "call", 0)
		line.AddAttrs(attrs...)
		_ = h.Handle(r.Context(), line)
	}
}

func isDeclared(e endpoint, code *errcode.Code) bool {
	hasNumber := func(c *errcode.Code) bool { return c.Number == code.Number }
	return slices.ContainsFunc(commonErrors, hasNumber) || slices.ContainsFunc(e.codes, hasNumber) ||
		e.needs&token != 0 && slices.ContainsFunc(accountTokenErrors, hasNumber)
}
