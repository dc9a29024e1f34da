// Package api translates the platform's wire: paths, tokens, lenient JSON in,
// envelopes, request ids out.
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
)

// MaxBody is the maximum size in bytes of a call's body.
const MaxBody = 1 << 20

// API serves the platform's wire.
type API struct {
	Accounts *accounts.Service
	Rules    *rules.Book
	Codes    *codes.Service
	Calls    *apiusage.Book
	Settings *settings.Live
	Log      *slog.Logger
	Now      func() time.Time // the server's clock, which an emulator moves
	RealNow  func() time.Time // for durations and the limit of calls a second
	Random   io.Reader
	ClientIP func(*http.Request) netip.Addr
	// BodyTimeout is the timeout for reading a body.
	BodyTimeout time.Duration
	// Faults returns the fault to inject into a call; nil outside the emulator.
	Faults func(path, appid string) Fault
	// Stub is the answer that an operator set for a path; nil outside the emulator.
	Stub func(method, path string) (Stub, bool)
	// Record is called for every call with its secrets masked; may be nil.
	Record func(Record)
	// WhyBelow is the path below which the record of a call can be asked for by its
	// request id: a developer's server names it in a header of each answer. "" = no header.
	WhyBelow string
	// PageOf is the address of the page that shows a call; the log line of a refused one ends in
	// it. nil = there is no page that a reader of the log may open.
	PageOf func(rid string) string
	// Shared does over all nodes what limiter does for one: it counts the calls of a second, up to
	// SharedMost of them. nil = there is one node.
	Shared func(ctx context.Context, key string, limit int) (bool, error)
	// Observe counts calls; path is an endpoint's, or "" for an unknown one.
	Observe func(path string, errcode int, d time.Duration)
	// Proven is called, with the request's context, for a call that showed a valid token or secret;
	// Refused for one that showed none and failed. nil = nothing is called.
	Proven, Refused func(context.Context)

	limiter  limiter
	pictures limiter
	pace     limiter // counts by the platform's own limit, where a setting allows more
	habits   recentCalls
	table    map[string]endpoint
}

// Fault is an injected fault of one call. The zero value is nothing.
type Fault struct {
	Code      *errcode.Code // answered instead of the call; nil = none
	After     bool          // with Code: do the call, then answer Code all the same
	Delay     time.Duration
	Drop      bool // close the connection instead of a call
	DropAfter bool // do the call, then close the connection instead of an answer
}

// Handler returns the handler of every path that no other part of the server serves. It answers
// 40066 to an unknown one.
func (a *API) Handler() http.Handler {
	a.table = map[string]endpoint{}
	for _, e := range a.endpoints() {
		e.fields = strings.Fields(strings.ReplaceAll(e.page, "!", ""))
		a.table[e.path] = e
	}
	return http.HandlerFunc(a.serve)
}

// needs says what an endpoint demands before its function runs, and how its calls differ from
// others.
type needs int

const (
	open         needs = 0
	token        needs = 1 << iota // an access token in the query
	emptyBody                      // an empty body counts as {}, although the platform was seen to refuse it
	withoutBody                    // the page has no body: an empty one counts as {}
	anyMethod                      // GET, with the fields in the query
	makes                          // with anyMethod: the call makes something or uses it up, so only GET and POST are taken
	ticketOnly                     // an override allows the call without a token
	listing                        // an override allows the call by GET
	platform                       // a third-party platform's own token, and its AppID in component_appid
	platformLast                   // the same, but the endpoint itself checks it, after the account
	eitherToken                    // with token: a platform's own token is taken too
	queryToo                       // fields may stand in the query, and the body be empty
	slashes                        // the platform writes \/ for / in the answer
	reads                          // the log of changes gets nothing: the call reads, or only counts, issues tokens, uses up codes
)

type endpoint struct {
	path  string
	needs needs
	serve func(context.Context, *call, *fields) (any, error)
	codes []*errcode.Code
	sets  sets
	page  string // the fields that the platform's page names, in body or query, with ! behind those that it requires
	// fields are those of page, from Handler on.
	fields []string
	// may returns why an account cannot use the endpoint's family at all; nil error = it can. It is
	// asked after the token and before the body. nil = every account may.
	may func(*API, *call) error
}

// post makes an endpoint that takes a JSON object.
func post(path string, n needs, page string, f func(context.Context, *call, *fields) (any, error), codes ...*errcode.Code) endpoint {
	return endpoint{path: path, needs: n, page: page, serve: f, codes: codes}
}

// get makes an endpoint that takes its fields from the query.
func get(path string, n needs, page string, f func(context.Context, *call, *fields) (any, error), codes ...*errcode.Code) endpoint {
	return post(path, n|anyMethod, page, f, codes...)
}

// gated makes an endpoint refuse the accounts that may not use its family, before it looks at the
// body. Contract: rules 1.8, 3.4, 3.5, marketcode 1. Inferred(codes.gate): 48001 has no hint, so it
// is the gate that speaks.
func (e endpoint) gated(allowed func(*API, *call) error) endpoint {
	e.may = allowed
	return e
}

// The gates of the families.
var (
	// A personal Mini Program is refused later, after the fields were read, with a number of its
	// own.
	forRules = func(_ *API, c *call) error {
		if err := c.caller.JumpRules(); !errors.Is(err, errcode.PersonalSubject) {
			return err
		}
		return nil
	}
	forLinks   = (*API).mayLink
	forQRCodes = func(_ *API, c *call) error { return c.caller.MayMakeQRCodes() }
	forCodes   = func(_ *API, c *call) error { return codes.Granted(c.caller) }
)

// ofRules, ofLinks and ofCodes make an endpoint one of a family.
func (e endpoint) ofRules() endpoint { return e.requireSets(ruleSets).gated(forRules) }
func (e endpoint) ofLinks() endpoint {
	return e.requireSets(sameSets(accounts.Linking)).gated(forLinks)
}
func (e endpoint) ofCodes() endpoint {
	return e.requireSets(sameSets(accounts.OneItemOneCode)).gated(forCodes)
}

// streamed is an answer that writes itself, in place of one JSON value.
type streamed interface {
	// masked returns the answer as it may be recorded.
	masked() []byte
	write(ctx context.Context, w http.ResponseWriter) error
}

// call is one call while it is served.
type call struct {
	rid string
	ip  netip.Addr
	// address is ip as it is shown.
	address string
	query   url.Values
	body    []byte
	caller  accounts.Account // zero where the endpoint wants no token
	needs   needs            // of the endpoint, as the settings have it
	// granted returns 61007 unless the caller may use a permission set; nil = the call showed no
	// token of an account.
	granted func(set int) error
	// component is the platform that calls for itself or for caller; "" where
	// an account calls with a token of its own.
	component string
	// proven is the account that gave its right secret where the endpoint wants no token.
	proven string
	// notes are the behaviours on which a call rests that was not refused: where the server was
	// lenient, and where no page says what the platform does.
	notes behaviour.Notes
	// gated says that the gate of the family refused the call before its body was read.
	gated bool
	// done says that the endpoint did what was asked, even where an injected fault answers
	// something else.
	done bool
}

func (a *API) newCall(r *http.Request, t time.Time) *call {
	c := &call{rid: a.newRID(t), ip: a.ClientIP(r), query: r.URL.Query()}
	c.address = c.ip.String()
	return c
}

// noEndpoint refuses a path that is not offered; the detail says whether the platform has it.
func noEndpoint(path string) error {
	if _, known := unsupported.Lookup(path); known {
		return errcode.InvalidURL.WithDetail(behaviour.WirePathUnknown, "the platform has this path, and this server does not offer it")
	}
	return errcode.InvalidURL.WithDetail(behaviour.WirePathUnknown, "no endpoint at this path")
}

func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	if a.Stub != nil {
		if stub, ok := a.Stub(r.Method, r.URL.Path); ok {
			a.serveStub(w, r, stub)
			return
		}
	}
	began, t := a.RealNow(), a.Now()
	c := a.newCall(r, t)
	e, known := a.table[r.URL.Path]
	var reply any
	var fault Fault
	var err error
	if known {
		reply, fault, err = a.run(w, r, e, c)
	} else {
		err = noEndpoint(r.URL.Path)
	}
	err = a.renumbered(err)
	code, detail := errcode.FromError(err)
	if code != errcode.OK && !c.done {
		c.notes.Clear() // what was noted before the refusal decided nothing
	}
	if c.notes.Take(behaviour.CallerAddressUnlisted) && a.Calls.FirstNotice(cmp.Or(c.component, c.account())) {
		c.notes.Add(behaviour.CallerAddressUnlisted)
	}
	c.notes.Add(errcode.RowOf(err))
	if c.gated {
		c.notes.Add(behaviour.CodesGate)
	}
	if known && a.repeatsRefusal(r, e, c, code) {
		c.notes.Add(behaviour.WireRetry)
	}
	detail = truncate(detail, maxDetail) // it may quote the caller
	if a.WhyBelow != "" {
		w.Header().Set("X-Qrjump-Trace", a.WhyBelow+c.rid)
	}
	var body []byte
	stream, streams := reply.(streamed)
	if streams = streams && err == nil && !fault.DropAfter; streams {
		body = stream.masked()
		err = stream.write(r.Context(), w)
	} else {
		shown := detail
		if strings.HasPrefix(detail, injected) {
			shown = "" // the platform would not say so; log and record do
		}
		body = a.encodeReply(e, c, reply, code, shown)
	}
	switch {
	case c.account() != "" && a.Proven != nil:
		a.Proven(r.Context())
	case c.account() == "" && code != errcode.OK && a.Refused != nil:
		a.Refused(r.Context())
	}
	took := a.RealNow().Sub(began)
	a.log(r, e, c, code, detail, err, took)
	if a.Observe != nil {
		a.Observe(e.path, code.Number, took)
	}
	if known && c.account() == "" {
		a.Calls.RefuseToken(e.path, code, c.rid)
	}
	if a.Record != nil || c.account() != "" {
		a.Calls.Deviate(c.account(), e.path, c.rid, t, &c.notes)
		record := newRecord(t, r, e, c, body, code, detail, took)
		if a.Record != nil {
			a.Record(record)
		}
		a.remember(record)
	}
	if fault.Drop || fault.DropAfter || streams && err != nil {
		panic(http.ErrAbortHandler) // net/http closes the connection
	}
	if streams {
		return
	}
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = answerType, answerCache
	if strings.HasPrefix(e.path, "/sns/") {
		h["Content-Type"] = answerPlain
	}
	w.Write(body)
}

// The headers that all answers share: these slices are immutable.
var (
	// Observed(wire.answer.type): the word is "encoding" on the platform, not "charset".
	answerType = []string{"application/json; encoding=utf-8"}
	// Observed(wire.answer.plain): of the calls under /sns/.
	answerPlain = []string{"text/plain"}
	answerCache = []string{"no-store"}
)

// do returns the endpoint itself.
func (a *API) do(ctx context.Context, e endpoint, c *call, f *fields) (any, error) {
	if e.needs&platform != 0 {
		if err := a.ownComponent(ctx, c, f); err != nil {
			return nil, err
		}
	}
	reply, err := e.serve(accounts.WithActor(ctx, c.author()), c, f)
	// A wrong type is reported before what the endpoint made of it.
	if f.err != nil {
		err = f.err
	}
	c.done = err == nil
	return reply, err
}

// readFields reads the body, or the query of an endpoint that takes one.
func (a *API) readFields(w http.ResponseWriter, r *http.Request, e endpoint, c *call) (*fields, error) {
	if e.needs&anyMethod != 0 {
		return queryFields(c.query), nil
	}
	// The deadline is the connection's, so it is real time whatever the server's clock says. A
	// recorder in a test has none.
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
		return nil, errcode.DataFormat.WithDetail(behaviour.WireBodyBroken, "the body broke off: %v", err)
	}
	_ = control.SetReadDeadline(time.Time{})
	c.body = body
	if len(bytes.TrimSpace(body)) == 0 {
		row := behaviour.WireBodyEmptyAccepted
		if e.needs&withoutBody != 0 {
			row = behaviour.WireBodyNone
		}
		switch {
		case e.needs&queryToo != 0:
		case e.needs&(emptyBody|withoutBody) == 0 || !a.lets(c, row):
			return nil, errcode.EmptyPostData.WithDetail(behaviour.WireBodyEmpty, "the body is empty: want a JSON object")
		}
		body = []byte("{}")
	}
	f, err := parseFields(body)
	if err != nil && strings.HasPrefix(e.path, "/cgi-bin/component/") {
		// A token of another kind names no platform. Contract: rules 3.2.
		return nil, errcode.ComponentMissing.WithDetail(behaviour.WireBodyComponent, "%v", err)
	}
	if err == nil && e.needs&queryToo != 0 {
		// Of a query only the fields that pages name are kept: it may be as long as a body, and a
		// look-up walks all fields.
		for _, name := range e.fields {
			if !c.query.Has(name) || !f.absent(name) {
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

// log writes the one line of a call. Texts of the caller are quoted and cut.
func (a *API) log(r *http.Request, e endpoint, c *call, code *errcode.Code, detail string, err error, took time.Duration) {
	attrs := append(make([]slog.Attr, 0, 12),
		slog.String("rid", c.rid), slog.String("endpoint", e.path), slog.Int("errcode", code.Number),
		slog.String("account", c.account()), slog.String("ip", c.address), slog.Duration("took", took))
	level := slog.LevelInfo
	if c.component != "" {
		attrs = append(attrs, slog.String("component", c.component))
	}
	if e.path == "" {
		attrs = append(attrs, slog.String("path", LoggedPath(r.URL.Path)))
	}
	if detail != "" {
		attrs = append(attrs, slog.String("detail", detail))
	}
	if rows := c.notes.Rows(); rows != nil {
		attrs = append(attrs, slog.Any("behaviours", rows))
	}
	switch {
	case code == errcode.SystemError && detail == "":
		level = slog.LevelError
		attrs = append(attrs, slog.Any("error", err))
	case e.path != "" && !declared(e, code) && !strings.HasPrefix(detail, injected) && detail != stubbed:
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("undeclared", "the endpoint's line does not name this code"))
	}
	if a.PageOf != nil && code.Number != 0 {
		attrs = append(attrs, slog.String("page", a.PageOf(c.rid)))
	}
	// This is Log.LogAttrs without the search for the line of code that logs, which is always this
	// one.
	if h := a.Log.Handler(); h.Enabled(r.Context(), level) {
		line := slog.NewRecord(time.Now(), level, "call", 0)
		line.AddAttrs(attrs...)
		_ = h.Handle(r.Context(), line)
	}
}

func declared(e endpoint, code *errcode.Code) bool {
	sameCallback := func(c *errcode.Code) bool { return c.Number == code.Number }
	return slices.ContainsFunc(shared, sameCallback) || slices.ContainsFunc(e.codes, sameCallback) ||
		e.needs&token != 0 && slices.ContainsFunc(behalf, sameCallback)
}
