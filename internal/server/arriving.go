package server

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/edge/api"
)

// unread is the number of bytes that are read of a body without a handler: as many as the longest body of the wire has.
const unread = api.MaxBody

// unreadHTTP2 is the same over HTTP/2, where curl 7.88 (Debian 12) loses an answer below 400 that comes before its whole body is sent: a
// file of rules with a wrong token must be answered, too. It stops sending at an error that it has whole, so that before a longer body an
// error is sent in one piece, with its length, and any other answer becomes a 413. Over HTTP/1.1 curl reads the answer in any case.
const unreadHTTP2 = 64 << 20

// longestHeld is the maximum size of an answer that is held until it is whole.
const longestHeld = 64 << 10

// timelyBody reads the body of a request, within a bounded time and length, before its answer is sent: a client that is
// still sending may miss the answer, as curl 7.88 (Debian 12) does over HTTP/2. Handlers that read the body move the
// deadline.
func (s access) timelyBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control, now := http.NewResponseController(w), time.Now()
		// A client that stops reading must not keep an answer in memory. A stream sets this anew
		// with every piece.
		_ = control.SetWriteDeadline(now.Add(answerTime))
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		_ = control.SetReadDeadline(now.Add(s.seams.BodyTimeout))
		if strings.EqualFold(r.Header.Get("Expect"), "100-continue") && r.ProtoMajor == 1 {
			next.ServeHTTP(w, r) // a client that expects 100 Continue sends no body before a handler reads it
			return
		}
		a := &drainingBody{ResponseWriter: w, control: control, body: r.Body, patience: s.seams.BodyTimeout, unread: unread}
		if r.ProtoMajor == 2 {
			a.unread, a.mayHold = unreadHTTP2, true
		}
		a.left.Store(r.ContentLength)
		r.Body = a
		next.ServeHTTP(a, r)
		if a.status != 0 {
			if a.status < 400 || a.left.Load() >= 0 {
				a.rest()
			}
			if missed := int(a.missed.Load()); missed != 0 && a.status < 400 {
				a.status = missed
			}
			if a.held.Len() > 0 {
				a.Header().Set("Content-Length", strconv.Itoa(a.held.Len()))
			}
			a.send()
			_ = a.control.Flush()
		}
		a.rest()
	})
}

// drainingBody is the body of a request and its answer, which waits for the body where no handler reads it.
type drainingBody struct {
	http.ResponseWriter
	control  *http.ResponseController
	body     io.ReadCloser
	patience time.Duration // for the rest of the body
	unread   int64         // how many bytes of it are read and dropped

	left     atomic.Int64 // how many bytes are left of the length that the client named; negative where it named none
	begun    atomic.Bool  // a handler reads it
	ended    atomic.Bool  // it is complete, or no more of it will come
	missed   atomic.Int32 // the status that says why the rest was not read; 0 = nothing is missing
	answered atomic.Bool

	mayHold bool         // over HTTP/2 an answer is held until the body was read
	status  int          // of an answer that is held; 0 = none is
	held    bytes.Buffer // its body
}

// Read implements io.Reader.
func (a *drainingBody) Read(b []byte) (int, error) {
	a.begun.Store(true)
	n, err := a.body.Read(b)
	a.left.Add(-int64(n))
	if err != nil {
		if err != io.EOF {
			a.missed.CompareAndSwap(0, http.StatusRequestTimeout)
		}
		a.ended.Store(true)
	}
	return n, err
}

// Close implements io.Closer.
func (a *drainingBody) Close() error { return a.body.Close() }

// WriteHeader implements http.ResponseWriter.
func (a *drainingBody) WriteHeader(status int) {
	if a.beforeAnswer(status); a.status == 0 {
		a.ResponseWriter.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter.
func (a *drainingBody) Write(b []byte) (int, error) {
	a.beforeAnswer(http.StatusOK)
	if a.status != 0 && a.held.Len()+len(b) <= longestHeld {
		return a.held.Write(b)
	}
	a.release()
	return a.ResponseWriter.Write(b)
}

// FlushError is for http.ResponseController.
func (a *drainingBody) FlushError() error {
	a.beforeAnswer(http.StatusOK)
	a.release()
	return a.control.Flush()
}

// send sends what is held.
func (a *drainingBody) send() {
	status := a.status
	a.status = 0
	a.ResponseWriter.WriteHeader(status)
	_, _ = a.ResponseWriter.Write(a.held.Bytes())
}

// release sends what is held of an answer that is too long to be held, or comes in pieces.
func (a *drainingBody) release() {
	if a.status != 0 {
		if a.status >= 400 || !a.begun.Load() {
			a.rest()
		}
		a.send()
	}
}

// Unwrap is for http.ResponseController.
func (a *drainingBody) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// beforeAnswer reads the rest of the body before the first byte of an answer is sent, or holds the answer. A handler that answers while it
// reads, line by line, reads its body itself.
func (a *drainingBody) beforeAnswer(status int) {
	if status < 200 || a.answered.Swap(true) {
		return
	}
	switch {
	case a.mayHold && (!a.ended.Load() || a.missed.Load() != 0):
		a.status = status
	case status >= 400 || !a.begun.Load() || a.left.Load() == 0:
		a.rest()
	}
}

// rest reads the rest of the body and drops it. Where that is too long, or does not come, missed says so, and the connection ends with
// the answer.
func (a *drainingBody) rest() {
	if !a.ended.Load() && a.left.Load() <= a.unread {
		_ = a.control.SetReadDeadline(time.Now().Add(a.patience))
		if _, err := io.CopyN(io.Discard, a, a.unread+1); err == io.EOF {
			_ = a.control.SetReadDeadline(time.Time{}) // of an answer that takes long
			return
		}
	}
	if !a.ended.Swap(true) {
		a.missed.Store(http.StatusRequestEntityTooLarge)
	}
	if a.missed.Load() != 0 && !a.mayHold {
		a.Header().Set("Connection", "close")
	}
}
