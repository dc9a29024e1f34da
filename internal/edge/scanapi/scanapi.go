// Package scanapi implements the API for scanning apps under /scan/v1: it parses requests and writes responses, and package scan makes the
// decisions.
package scanapi

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/infra/tracing"
)

const resolvePath = "/scan/v1/resolve"

// MaxRequest is the maximum size in bytes of one request, alone or as a line of a stream.
const MaxRequest = 16 << 10

// API serves the scan API.
type API struct {
	Resolver scan.Resolver
	Near     func(context.Context, rules.Link) ([]rules.Rule, error)
	Codes    *codes.Service
	// TicketWriter records each scan of a code before the response is sent.
	TicketWriter *codes.TicketWriter
	// Record puts a scan into the queue of the scan log; nil = scans are not recorded.
	Record EnqueueFunc
	// RespondEarly reports whether scans that matched no code are answered before they are durable; nil = never.
	RespondEarly func() bool
	// IsDiskSlow reports whether the disk is so slow that a response before the scan is durable could lose scans beyond the loss window.
	IsDiskSlow func() bool
	// UserHash returns the hash that identifies a user in the scan log.
	UserHash func(namespace, user string) scanlog.UserHash
	// Region returns the region of an IP address; nil = unknown.
	Region func(netip.Addr) string
	// Unrecorded counts scans that the scan log lost or rejected, by cause.
	Unrecorded func(cause string)
	// Accounts is notified of each scan of a parametric code, with the openid of the user.
	Accounts *accounts.Service
	OpenIDs  *accounts.OpenIDs
	// Key checks a scan key; nil allows all callers (with --dev).
	Key func(context.Context, string) (accounts.ScanKey, error)
	// Operator returns the accounts whose rules the holder of an admin token may see; such callers may use explain without a scan
	// key, as a user of the default namespace. An empty list means all accounts; for an invalid token Operator returns
	// accounts.ErrNoScanKey; nil = tokens are not accepted.
	Operator func(context.Context, string) (appids []string, err error)
	// OnInvalidKey is called for an invalid key and reports whether the same address sent too many invalid keys before; nil = no call.
	OnInvalidKey func(r *http.Request, key string) (tooMany bool)
	Now          func() time.Time
	Random       io.Reader
	// Replay allows requests to set the time of a scan (emulator only).
	Replay bool
	// BodyTimeout is the timeout for reading a body, or for the next line of a stream.
	BodyTimeout time.Duration
	Log         *slog.Logger
	Observe     func(scan.Action)
	// OnAuthenticated is called, with the request's context, for a request with a valid key, and OnRejected for a request without a valid
	// key; nil = no callback.
	OnAuthenticated, OnRejected func(context.Context)
}

// Request is one scan as received.
type Request struct {
	Text   *string     `json:"text" doc:"text read by the camera" required:"true" nullable:"false"`
	User   string      `json:"user,omitempty" doc:"user ID of the app; default: an anonymous scan, which gets no ticket and opens no test link"`
	Source scan.Source `json:"source,omitempty" enum:"scan,press,album" doc:"source of the scan; default: scan"`
	IP     string      `json:"ip,omitempty"`
	Client string      `json:"client,omitempty"`
	At     string      `json:"at,omitempty" format:"date-time" doc:"time of the scan; emulator only"`
}

// Decision is the response to one scan. Decision and Request are exported, so that the API document also describes their fields in types
// that embed them.
type Decision struct {
	ScanID  string           `json:"scan_id,omitempty"`
	Action  scan.Action      `json:"action" enum:"open_mini_program,open_url,show_text,show_message"`
	AppID   string           `json:"appid,omitempty"`
	Version accounts.Version `json:"version,omitempty" enum:"release,trial,development"`
	Path    string           `json:"path,omitempty" doc:"page with its query"`
	Scene   int              `json:"scene,omitempty"`
	Matched *client.Matched  `json:"matched,omitempty"`
	Message string           `json:"message,omitempty" doc:"message for the user, in English and Chinese"`
	Reason  codes.Reason     `json:"reason,omitempty" enum:"not_active,unknown_code,frozen,void,no_release,serial_only"`
	URL     string           `json:"url,omitempty"`
	Text    *string          `json:"text,omitempty"`
}

// problem is an RFC 9457 problem document.
type problem struct {
	status int
	detail string
}

func (p problem) Error() string { return p.detail }

// WriteProblem writes a problem document as the response.
func WriteProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", problemType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(problem{status, detail}.document())
}

const (
	jsonType    = "application/json"
	streamType  = "application/x-ndjson"
	problemType = "application/problem+json"
	maxDetail   = 2000 // maximum number of bytes of a problem's detail
)

func (p problem) document() []byte {
	var b bytes.Buffer
	detail := strings.ToValidUTF8(p.detail[:min(len(p.detail), maxDetail)], "") // the detail may quote invalid UTF-8
	_ = json.NewEncoder(&b).Encode(huma.ErrorModel{Title: http.StatusText(p.status), Status: p.status, Detail: detail})
	return b.Bytes()
}

// Register adds the routes of the API to mux.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST "+resolvePath, a.authenticated(a.resolve, nil))
	mux.HandleFunc("POST /scan/v1/explain", a.authenticated(a.explain, a.Operator))
	mux.HandleFunc("POST /scan/v1/login", a.authenticated(a.login, nil))
}

// Describe adds the operations of the API to an OpenAPI document.
func Describe(document *huma.OpenAPI) {
	describe[loginRequest, loginResponse](document, "/scan/v1/login", "login",
		"Create a js_code, with which the server of a Mini Program gets the user's openid", "the js_code")
	describe[Request, Decision](document, resolvePath, "resolve",
		"Resolve a scanned text; with application/x-ndjson, one request and one response per line",
		`the decision; in a stream, one line for each request line, which is {"error": …} for an invalid line`)
	describe[explainRequest, explanation](document, "/scan/v1/explain", "explain",
		"Explain the decision for a scanned text, with the rules considered; records nothing", "the decision and its explanation")
}

func describe[In, Out any](document *huma.OpenAPI, path, id, summary, result string) {
	registry := document.Components.Schemas
	body := func(t reflect.Type) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{jsonType: {Schema: registry.Schema(t, true, id)}}
	}
	requests := body(reflect.TypeFor[In]())
	registry.SchemaFromRef(requests[jsonType].Schema.Ref).AdditionalProperties = true // unknown fields are ignored
	document.AddOperation(&huma.Operation{
		Method: http.MethodPost, Path: path, OperationID: id, Summary: summary, Tags: []string{"scan"},
		Description: "Requires the scan key of a scanning app; with --dev, no key is required.",
		Security:    []map[string][]string{{"scan": {}}},
		RequestBody: &huma.RequestBody{Required: true, Content: requests},
		Responses: map[string]*huma.Response{
			"200": {Description: result, Content: body(reflect.TypeFor[Out]())},
			"default": {Description: "a problem (RFC 9457)",
				Content: map[string]*huma.MediaType{problemType: {Schema: registry.Schema(reflect.TypeFor[huma.ErrorModel](),
					true, "problem")}}},
		},
	})
}

// keyAdvice tells callers how to create a scan key.
const keyAdvice = "qrjump scan-key add NAME creates one (POST /admin/v1/scan-keys)"

// authenticated passes only requests with a valid scan key or, if operators may call too, with an operator's token.
func (a *API) authenticated(next func(w http.ResponseWriter, r *http.Request, namespace string),
	operator func(context.Context, string) ([]string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, hasKey := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if a.Key == nil {
			next(w, r, accounts.DefaultNamespace)
			return
		}
		if !hasKey {
			a.report(a.OnRejected, r)
			w.Header().Set("WWW-Authenticate", "Bearer")
			WriteProblem(w, http.StatusUnauthorized, "send a scan key: Authorization: Bearer …; "+keyAdvice)
			return
		}
		key, err := a.Key(r.Context(), text)
		if errors.Is(err, accounts.ErrNoScanKey) && operator != nil {
			var owners []string
			owners, err = operator(r.Context(), text)
			key.Namespace, r = accounts.DefaultNamespace, r.WithContext(WithAccounts(r.Context(), owners))
		}
		switch {
		case errors.Is(err, accounts.ErrNoScanKey):
			a.report(a.OnRejected, r)
			if a.OnInvalidKey != nil && a.OnInvalidKey(r, text) {
				w.Header().Set("Retry-After", "60")
				WriteProblem(w, http.StatusTooManyRequests, "too many wrong scan keys from this address: correct the key "+
					"in the client; a valid key is accepted immediately")
				return
			}
			w.Header().Set("WWW-Authenticate", "Bearer")
			WriteProblem(w, http.StatusUnauthorized, "this scan key does not exist or was revoked; "+keyAdvice)
		case err != nil:
			a.Log.ErrorContext(r.Context(), "checking a scan key failed", "error", err)
			WriteProblem(w, http.StatusServiceUnavailable, "the scan key cannot be checked now")
		default:
			a.report(a.OnAuthenticated, r)
			next(w, r, key.Namespace)
		}
	}
}

func (a *API) report(callback func(context.Context), r *http.Request) {
	if callback != nil {
		callback(r.Context())
	}
}

func (a *API) resolve(w http.ResponseWriter, r *http.Request, namespace string) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == streamType {
		a.stream(w, r, namespace)
		return
	}
	tracing.Describe(r.Context(), "resolve scan")
	body, err := a.readBody(w, r, MaxRequest)
	if err != nil {
		a.fail(w, err)
		return
	}
	// The scan has happened, so it is recorded even if the client disconnects.
	answer, err := a.answer(context.WithoutCancel(r.Context()), namespace, body, nil)
	if err != nil {
		a.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	_, _ = w.Write(answer)
}

func (a *API) fail(w http.ResponseWriter, err error) {
	p := a.asProblem(err)
	WriteProblem(w, p.status, p.detail)
}

// asProblem returns the part of an error that the caller may see.
func (a *API) asProblem(err error) problem {
	if p, ok := errors.AsType[problem](err); ok {
		return p
	}
	a.Log.Error("scan call failed", "error", err)
	if out, ok := errors.AsType[*errcode.Unavailable](err); ok {
		return problem{http.StatusServiceUnavailable, "the database " + out.Condition + ": try again later; the server's log says more"}
	}
	return problem{http.StatusInternalServerError, "internal error: see the server's log"}
}

func (a *API) readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.BodyTimeout)); err != nil &&
		!errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return nil, problem{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is longer than %d bytes", limit)}
	}
	if err != nil {
		return nil, bodyProblem(err)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, nil
}

// bodyProblem returns the error response for a request whose body could not be read.
func bodyProblem(err error) problem {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return problem{http.StatusRequestTimeout, "the request did not arrive in time"}
	}
	return problem{http.StatusBadRequest, "the request ended early"}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// replaced reports whether encoding/json replaced invalid Unicode with U+FFFD: invalid UTF-8, or half of a surrogate pair.
func replaced(body []byte, text string) bool {
	return !utf8.Valid(body) || strings.ContainsRune(text, utf8.RuneError) &&
		!bytes.ContainsRune(body, utf8.RuneError) && !bytes.Contains(bytes.ToLower(body), []byte(`\ufffd`))
}

func readRequest(body []byte) (parsedRequest, error) {
	if q, ok := parseRequest(string(body)); ok {
		return q, nil
	}
	var q parsedRequest
	if err := unmarshal(body, &q.Request); err != nil {
		return q, err
	}
	if q.Text != nil {
		q.text, q.hasText = *q.Text, true
	}
	q.replaced, q.userReplaced = replaced(body, q.text), userReplaced(body, q.User)
	return q, nil
}

// userReplaced reports whether encoding/json replaced invalid Unicode in the user of a request with U+FFFD. Different invalid users would
// become the same user, so this check is exact, unlike replaced(): U+FFFD elsewhere in the request does not affect the result.
func userReplaced(body []byte, user string) bool {
	if !strings.ContainsRune(user, utf8.RuneError) {
		return false
	}
	var request struct {
		User rawUser `json:"user"`
	}
	_ = json.NewDecoder(bytes.NewReader(body)).Decode(&request) // the same body was already decoded without an error
	return bool(request.User)
}

// rawUser becomes true when a JSON string with invalid Unicode is decoded into it.
type rawUser bool

// UnmarshalJSON implements json.Unmarshaler.
func (u *rawUser) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" { // encoding/json ignores null: an earlier value of user remains
		return nil
	}
	*u = rawUser(!utf8.Valid(raw))
	for i := 0; i+1 < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++
		first, ok := escapedUnit(raw[i:])
		if !ok {
			continue
		}
		i += 4
		if !utf16.IsSurrogate(first) {
			continue
		}
		var second rune
		if i+2 < len(raw) && raw[i+1] == '\\' {
			second, _ = escapedUnit(raw[i+2:])
		}
		if utf16.DecodeRune(first, second) == utf8.RuneError {
			*u = true
			return nil
		}
		i += 6
	}
	return nil
}

// escapedUnit decodes the uXXXX part of an escape.
func escapedUnit(raw []byte) (rune, bool) {
	if len(raw) < 5 || raw[0] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(raw[1:5]), 16, 16)
	return rune(n), err == nil
}

// kindNames maps the kinds of the fields of requests to the words for their JSON values.
var kindNames = map[reflect.Kind]string{reflect.String: "a string", reflect.Int: "a whole number", reflect.Bool: "true or false",
	reflect.Slice: "an array", reflect.Struct: "a JSON object"}

func unmarshal(body []byte, dst any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	err := d.Decode(dst)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := cmp.Or(wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:], "the request")
		return problem{http.StatusBadRequest, field + ": want " + kindNames[wrong.Type.Kind()] + ", not " + wrong.Value}
	}
	switch {
	case errors.Is(err, io.EOF):
		return problem{http.StatusBadRequest, "the request is empty: want a JSON object"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return problem{http.StatusBadRequest, "the request ends in the middle of its JSON"}
	case err != nil:
		return problem{http.StatusBadRequest, "the request is not JSON: " + err.Error()}
	}
	if _, err := d.Token(); err != io.EOF {
		return problem{http.StatusBadRequest, "the request goes on after the JSON object"}
	}
	return nil
}

// member returns the name of a user in an account's list of members: namespace, slash, user id. A namespace contains no slash, so
// users of two namespaces never share a name.
func member(namespace, user string) string {
	if user == "" || namespace == accounts.DefaultNamespace && !strings.Contains(user, "/") {
		return user
	}
	return namespace + "/" + user
}

const notUnicode = "user is no Unicode: half of a surrogate pair, or bytes that are not UTF-8"

func (a *API) newRequest(namespace string, req parsedRequest) (scan.Request, error) {
	in := scan.Request{User: member(namespace, req.User), Source: req.Source, At: a.Now()}
	if !req.hasText {
		return in, problem{http.StatusUnprocessableEntity, "text is missing: say what the camera read"}
	}
	in.Text = req.text
	if _, ok := req.Source.Scene(); !ok {
		return in, problem{http.StatusUnprocessableEntity, fmt.Sprintf("source is %.20q: want scan, press or album", string(req.Source))}
	}
	if _, err := netip.ParseAddr(req.IP); req.IP != "" && err != nil {
		return in, problem{http.StatusUnprocessableEntity, fmt.Sprintf("ip is %.40q: want an address such as 192.0.2.7", req.IP)}
	}
	if len(req.User) > 512 {
		return in, problem{http.StatusUnprocessableEntity, "user is longer than 512 bytes"}
	}
	if req.userReplaced {
		return in, problem{http.StatusUnprocessableEntity, notUnicode}
	}
	if req.At == "" {
		return in, nil
	}
	if !a.Replay {
		return in, problem{http.StatusUnprocessableEntity, "at is for replays with the emulator only"}
	}
	// The ids of scans before 1970 would not sort by time; the emulator's clock ends with 2105.
	var err error
	if in.At, err = time.Parse(time.RFC3339, req.At); err != nil || in.At.UTC().Year() < 1970 || in.At.UTC().Year() > 2105 {
		return in, problem{http.StatusUnprocessableEntity,
			fmt.Sprintf("at is %.40q: want a time from 1970 to 2105 in RFC 3339, such as 2026-01-15T09:00:00Z", req.At)}
	}
	return in, nil
}

func newDecision(d scan.Decision) Decision {
	result := Decision{Action: d.Action, AppID: d.AppID, Version: d.Version, Path: d.Path, Scene: d.Scene, URL: d.URL}
	if d.Action == scan.ShowText {
		result.Text = &d.Text
	}
	switch d.Kind {
	case "":
		result.Reason, result.Message = d.Reason, message(&d, d.Reason)
	case scan.ByCode:
		// The code itself is never shown: the account's server exchanges a ticket for the code.
		result.Matched = &client.Matched{Kind: string(d.Kind), ApplicationID: d.Code.Batch.ID, CodeIndex: &d.Code.Index}
	default:
		result.Matched = &client.Matched{Kind: string(d.Kind), Prefix: d.Matched.Prefix}
	}
	return result
}

//go:embed locale
var locale embed.FS

var catalog = i18n.Open(locale)

// messages maps the reasons why a code opens nothing to a text for users in both languages.
var messages = sync.OnceValue(func() map[codes.Reason]string {
	texts := map[codes.Reason]string{}
	for _, reason := range []codes.Reason{codes.NotActive, codes.UnknownCode, codes.IsFrozen, codes.IsVoid, codes.NoRelease,
		codes.SerialOnly, scratchLayer} {
		text := catalog.Text("code." + string(reason))
		texts[reason] = text.English() + " " + text.Chinese()
	}
	return texts
})

// scratchLayer is the message, in place of that of SerialOnly, for codes whose texts contain only the serial number.
const scratchLayer codes.Reason = "scratch_layer"

// message returns the text for users about a reason, "" for no reason.
func message(d *scan.Decision, reason codes.Reason) string {
	if reason == codes.SerialOnly && d.Code.Batch.HasPublicTexts() {
		reason = scratchLayer
	}
	return messages()[reason]
}
