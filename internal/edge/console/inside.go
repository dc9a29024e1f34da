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

// newClient returns the client by which pages call the admin API and the scan API: the handlers of this process answer it. A call
// lasts as long as its page does.
func newClient() *client.Client {
	api, err := client.New("http://inside", client.Options{HTTP: &http.Client{Transport: transport{}}, Inside: true,
		Timeout: 24 * time.Hour})
	if err != nil {
		panic(err)
	}
	return api
}

// asking returns the context of calls of a visit that change nothing.
func (v *request) asking() context.Context { return context.WithValue(v.r.Context(), visitKey{}, v) }

// ctx returns the context of the calls of a visit. They change a thing only if it is still as the
// visitor's form showed it.
func (v *request) ctx() context.Context {
	ctx := v.asking()
	if v.r.Method != http.MethodPost {
		return ctx
	}
	if v.fresh {
		return client.IfNone(ctx)
	}
	return client.IfMatch(ctx, cmp.Or(v.saw, v.r.PostFormValue(revisionField)))
}

// transport is the client's transport: it hands a call to a handler of this process, in the name of
// the visitor.
type transport struct{}

func (transport) RoundTrip(r *http.Request) (*http.Response, error) {
	v := r.Context().Value(visitKey{}).(*request)
	a := &answered{visitors: v.w, header: http.Header{}}
	v.serve(a, r)
	return &http.Response{StatusCode: cmp.Or(a.status, http.StatusOK), Header: a.header, Body: io.NopCloser(&a.body),
		ContentLength: int64(a.body.Len()), Request: r}, nil
}

// serve lets the handler of an API answer a request in the name of the visitor.
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

// answered keeps the answer of a handler in memory.
type answered struct {
	visitors http.ResponseWriter // its deadlines follow the handler's
	header   http.Header
	status   int
	body     bytes.Buffer
}

// SetWriteDeadline passes on the deadline of an operation that takes long, so that the visitor's
// connection waits.
func (a *answered) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(a.visitors).SetWriteDeadline(t)
}

// SetReadDeadline returns the same for what a visitor sends.
func (a *answered) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(a.visitors).SetReadDeadline(t)
}

func (a *answered) Header() http.Header { return a.header }
func (a *answered) WriteHeader(s int) {
	if a.status == 0 {
		a.status = s
	}
}
func (a *answered) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// refused returns the problem with which an API refused a call; is = false for other errors, or other
// statuses than these.
func refused(err error, statuses ...int) (said *client.Problem, is bool) {
	said, is = errors.AsType[*client.Problem](err)
	return said, is && slices.Contains(statuses, said.Status)
}

// mendable reports whether the visitor can mend what was refused, so that the form should be shown
// again.
func mendable(err error) (said *client.Problem, is bool) {
	return refused(err, http.StatusUnprocessableEntity, http.StatusConflict)
}

// storeResult makes a function that stores a call's answer and returns its error.
func storeResult[T any](to *T) func(T, error) error {
	return func(answer T, err error) error {
		*to = answer
		return err
	}
}

// number returns a number in the address, 0 where it has none. Where it is no number, a page says so and
// ok is false.
func (v *request) number(name string) (n int64, ok bool) {
	text := strings.TrimSpace(v.r.URL.Query().Get(name))
	if text == "" {
		return 0, true
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
	}
	return n, err == nil
}

// forward answers with the file that an operation of the admin API writes, piece by piece as it comes: it may be long. A
// refusal becomes a page.
func (v *request) forward(method, path, kind string, body io.Reader) {
	r, err := http.NewRequestWithContext(v.r.Context(), method, adminroute.Base+path, body)
	if v.failed(err) {
		return
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	w := &passing{ResponseWriter: v.w, refused: &answered{header: http.Header{}}}
	if strings.HasSuffix(v.r.URL.Path, ".csv") {
		w.mark = byteOrderMark
	}
	v.serve(w, r)
	if w.refused.status != 0 {
		v.w.Header().Del("Content-Length")
		said, _ := client.ReadProblem(w.refused.status, w.refused.body.Bytes())
		v.failed(said)
	}
}

// passing passes an answer on to the visitor, except a refusal.
type passing struct {
	http.ResponseWriter
	refused *answered
	mark    string // stands before what comes
}

// byteOrderMark tells spreadsheets that a list is UTF-8: without it Excel in China reads GBK. Programs ask the admin API, whose lists
// have none.
const byteOrderMark = "\ufeff"

func (p *passing) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *passing) WriteHeader(status int) {
	if status/100 != 2 {
		p.refused.WriteHeader(status)
		return
	}
	if p.mark != "" {
		p.Header().Del("Content-Length")
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *passing) Write(b []byte) (int, error) {
	if p.refused.status != 0 {
		return p.refused.Write(b)
	}
	if mark := p.mark; mark != "" {
		p.mark = ""
		if _, err := io.WriteString(p.ResponseWriter, mark); err != nil {
			return 0, err
		}
	}
	return p.ResponseWriter.Write(b)
}

// unfit reports whether an API refused a call because of its content, and not because of who sent
// it or because it came too late.
func unfit(err error) (said *client.Problem, is bool) {
	said, is = errors.AsType[*client.Problem](err)
	return said, is && said.Status/100 == 4 && said.Status != http.StatusForbidden && client.ChangedMeanwhile(err) == nil
}
