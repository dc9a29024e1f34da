package console

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

type visitKey struct{}

// newClient returns the client with which pages call the admin API and the scan API through the handlers of this process. The timeout is
// long, because each call ends at the latest with the page request that makes the call.
func newClient() *client.Client {
	api, err := client.New("http://inside", client.Options{HTTP: &http.Client{Transport: transport{}}, InProcess: true,
		Timeout: 24 * time.Hour})
	if err != nil {
		panic(err)
	}
	return api
}

// asking returns a context for read-only API calls of a page request.
func (v *request) asking() context.Context { return context.WithValue(v.r.Context(), visitKey{}, v) }

// ctx returns a context for API calls of a page request. In a POST request the calls carry a precondition: If-Match with the
// revision in the visitor's form, or If-None-Match for a new object.
func (v *request) ctx() context.Context {
	ctx := v.asking()
	if v.r.Method != http.MethodPost {
		return ctx
	}
	if v.fresh {
		return client.IfNoneMatch(ctx)
	}
	return client.IfMatch(ctx, cmp.Or(v.saw, v.r.PostFormValue(revisionField)))
}

// transport implements http.RoundTripper: it passes a call to a handler of this process in the name of the visitor.
type transport struct{}

func (transport) RoundTrip(r *http.Request) (*http.Response, error) {
	v := r.Context().Value(visitKey{}).(*request)
	a := &bufferedResponse{visitors: v.w, header: http.Header{}}
	v.serve(a, r)
	return &http.Response{StatusCode: cmp.Or(a.status, http.StatusOK), Header: a.header, Body: io.NopCloser(&a.body),
		ContentLength: int64(a.body.Len()), Request: r}, nil
}

// serve passes a request to an API handler in the name of the visitor.
func (v *request) serve(w http.ResponseWriter, r *http.Request) {
	h := v.c.API
	if strings.HasPrefix(r.URL.Path, "/scan/") {
		h = v.c.Scan
	}
	in, to := *r, *r.URL
	to.Scheme, to.Host = "", ""
	in.URL, in.RequestURI, in.RemoteAddr, in.Host = &to, to.RequestURI(), v.r.RemoteAddr, v.r.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	h.ServeHTTP(w, v.c.As(&in, v.caller))
}

// bufferedResponse buffers the response of a handler in memory.
type bufferedResponse struct {
	visitors http.ResponseWriter // the connection to the visitor, to which the handler's deadlines apply
	header   http.Header
	status   int
	body     bytes.Buffer
}

// SetWriteDeadline applies the write deadline of a long operation to the visitor's connection.
func (a *bufferedResponse) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(a.visitors).SetWriteDeadline(t)
}

// SetReadDeadline applies the read deadline of a long operation to the visitor's connection.
func (a *bufferedResponse) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(a.visitors).SetReadDeadline(t)
}

func (a *bufferedResponse) Header() http.Header { return a.header }
func (a *bufferedResponse) WriteHeader(s int)   { a.status = cmp.Or(a.status, s) }
func (a *bufferedResponse) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// refused returns the API error of a call as a problem; the result "is" reports whether err is an API error whose status is in statuses.
func refused(err error, statuses ...int) (said *client.Problem, is bool) {
	said, is = errors.AsType[*client.Problem](err)
	return said, is && slices.Contains(statuses, said.Status)
}

// mendable reports whether the visitor can correct the rejected values, so that the form should be shown again.
func mendable(err error) (said *client.Problem, is bool) {
	return refused(err, http.StatusUnprocessableEntity, http.StatusConflict)
}

// storeResult returns a function that stores the result of a call in *to and returns the error of the call.
func storeResult[T any](to *T) func(T, error) error {
	return func(answer T, err error) error {
		*to = answer
		return err
	}
}

// query sets the named fields of *to from the query of the URL. If a number is invalid, query shows an error page.
func (v *request) query(to any, names string) error {
	return v.showInvalid(v.decodeFrom(v.r.URL.Query(), to, names))
}

// number parses a numeric query parameter, or returns 0 if the parameter is absent. If the parameter is not a number, number shows an
// error page.
func (v *request) number(name string) (int64, error) {
	n, err := strconv.ParseInt(cmp.Or(strings.TrimSpace(v.r.URL.Query().Get(name)), "0"), 10, 64)
	if err != nil {
		return 0, v.reject("fault.form")
	}
	return n, nil
}

// forward streams a file from an admin API operation to the visitor without holding the whole file in memory, because the file may
// be long. An API error is shown as an error page.
func (v *request) forward(method, path, kind string, body io.Reader) error {
	r, err := http.NewRequestWithContext(v.r.Context(), method, adminroute.Base+path, body)
	if err != nil {
		return err
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	w := &passing{ResponseWriter: v.w, refused: &bufferedResponse{header: http.Header{}}}
	if strings.HasSuffix(v.r.URL.Path, ".csv") {
		w.prefix = byteOrderMark
	}
	v.serve(w, r)
	if w.refused.status == 0 {
		return errAnswered
	}
	v.w.Header().Del("Content-Length")
	said, _ := client.ReadProblem(w.refused.status, w.refused.body.Bytes())
	return said
}

// passing is a response writer that passes a successful response to the visitor and withholds an error response.
type passing struct {
	http.ResponseWriter
	refused *bufferedResponse
	prefix  string // bytes that are sent before the response body
}

// byteOrderMark marks a list as UTF-8 for spreadsheets; without the mark, Excel in China assumes GBK. Programs use the admin API,
// whose lists have no byte order mark.
const byteOrderMark = "\ufeff"

func (p *passing) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *passing) WriteHeader(status int) {
	if status/100 != 2 {
		p.refused.WriteHeader(status)
		return
	}
	if p.prefix != "" {
		p.Header().Del("Content-Length")
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *passing) Write(b []byte) (int, error) {
	if p.refused.status != 0 {
		return p.refused.Write(b)
	}
	if mark := p.prefix; mark != "" {
		p.prefix = ""
		if _, err := io.WriteString(p.ResponseWriter, mark); err != nil {
			return 0, err
		}
	}
	return p.ResponseWriter.Write(b)
}
