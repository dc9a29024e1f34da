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

// maxDrained is the maximum number of bytes of a request body that are read and dropped if no handler reads the body. maxDrained equals the
// size of the longest valid body in the wire API.
const maxDrained = api.MaxBody

// maxDrainedHTTP2 replaces maxDrained for HTTP/2, for example for an upload of a large rules file with a wrong token. Over HTTP/2, curl
// 7.88 (Debian 12) loses a response with a status below 400 that arrives before curl has sent the whole body. A complete error response
// makes curl stop sending. So if a body exceeds maxDrainedHTTP2, an error response is sent in one piece with a Content-Length, and any
// other response is replaced by a 413. Over HTTP/1.1, curl always reads the response.
const maxDrainedHTTP2 = 64 << 20

// longestHeld is the maximum size in bytes of a response that is buffered until it is complete.
const longestHeld = 64 << 10

// limitBodyTime reads the rest of the request body before the response is sent, because a client that is still sending may miss the
// response (see maxDrainedHTTP2). The time for reading and the length are limited. Handlers that read the body extend the read deadline.
func (s access) limitBodyTime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control, now := http.NewResponseController(w), time.Now()
		// Without this deadline, a client that stops reading keeps a response in memory. A streaming handler sets a new deadline per chunk.
		_ = control.SetWriteDeadline(now.Add(answerTime))
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		_ = control.SetReadDeadline(now.Add(s.testHooks.BodyTimeout))
		if strings.EqualFold(r.Header.Get("Expect"), "100-continue") && r.ProtoMajor == 1 {
			next.ServeHTTP(w, r) // the client sends the body only when a handler reads it
			return
		}
		a := &drainingBody{ResponseWriter: w, control: control, body: r.Body, patience: s.testHooks.BodyTimeout, maxDrained: maxDrained}
		if r.ProtoMajor == 2 {
			a.maxDrained, a.mayHold = maxDrainedHTTP2, true
		}
		a.remaining.Store(r.ContentLength)
		r.Body = a
		next.ServeHTTP(a, r)
		if a.status != 0 {
			if a.status < 400 || a.remaining.Load() >= 0 {
				a.drain()
			}
			if missed := int(a.missed.Load()); missed != 0 && a.status < 400 {
				a.status = missed
			}
			if a.buffered.Len() > 0 {
				a.Header().Set("Content-Length", strconv.Itoa(a.buffered.Len()))
			}
			a.send()
			_ = a.control.Flush()
		}
		a.drain()
	})
}

// drainingBody is a request body and its response writer; an unread body is drained (read and dropped) before the response is sent.
type drainingBody struct {
	http.ResponseWriter
	control    *http.ResponseController
	body       io.ReadCloser
	patience   time.Duration // timeout for draining the rest of the body
	maxDrained int64         // maximum number of body bytes that are read and dropped

	remaining atomic.Int64 // remaining bytes of the request's Content-Length; negative without a Content-Length
	started   atomic.Bool  // a handler has started to read the body
	finished  atomic.Bool  // the body is complete, or no more bytes will arrive
	missed    atomic.Int32 // status 408 or 413 if the rest of the body was not read; 0 = it was read
	answered  atomic.Bool

	mayHold  bool         // true over HTTP/2: the response is buffered until the body is read
	status   int          // status code of the buffered response; 0 = none is buffered
	buffered bytes.Buffer // body of the buffered response
}

// Read implements io.Reader.
func (a *drainingBody) Read(b []byte) (int, error) {
	a.started.Store(true)
	n, err := a.body.Read(b)
	a.remaining.Add(-int64(n))
	if err != nil {
		if err != io.EOF {
			a.missed.CompareAndSwap(0, http.StatusRequestTimeout)
		}
		a.finished.Store(true)
	}
	return n, err
}

// Close implements io.Closer.
func (a *drainingBody) Close() error { return a.body.Close() }

// WriteHeader implements http.ResponseWriter.
func (a *drainingBody) WriteHeader(status int) {
	a.beforeAnswer(status)
	if a.status == 0 {
		a.ResponseWriter.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter.
func (a *drainingBody) Write(b []byte) (int, error) {
	a.beforeAnswer(http.StatusOK)
	if a.status != 0 && a.buffered.Len()+len(b) <= longestHeld {
		return a.buffered.Write(b)
	}
	a.release()
	return a.ResponseWriter.Write(b)
}

// FlushError lets http.ResponseController flush the response.
func (a *drainingBody) FlushError() error {
	a.beforeAnswer(http.StatusOK)
	a.release()
	return a.control.Flush()
}

// send sends the buffered response.
func (a *drainingBody) send() {
	status := a.status
	a.status = 0
	a.ResponseWriter.WriteHeader(status)
	_, _ = a.ResponseWriter.Write(a.buffered.Bytes())
}

// release ends the buffering of a response that is too long or that a handler flushes: it sends the buffered part.
func (a *drainingBody) release() {
	if a.status != 0 {
		if a.status >= 400 || !a.started.Load() {
			a.drain()
		}
		a.send()
	}
}

// Unwrap returns the underlying writer, for http.ResponseController.
func (a *drainingBody) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// beforeAnswer is called before the first byte of a response. beforeAnswer drains the rest of the request body, or marks the response as
// buffered. If a handler writes its response while it reads the body, the rest of the body is left to the handler.
func (a *drainingBody) beforeAnswer(status int) {
	if status < 200 || a.answered.Swap(true) {
		return
	}
	switch {
	case a.mayHold && (!a.finished.Load() || a.missed.Load() != 0):
		a.status = status
	case status >= 400 || !a.started.Load() || a.remaining.Load() == 0:
		a.drain()
	}
}

// drain reads and drops the remaining request body. If the body is too long or does not arrive in time, drain sets missed; over HTTP/1.1,
// the connection is then closed after the response.
func (a *drainingBody) drain() {
	if !a.finished.Load() && a.remaining.Load() <= a.maxDrained {
		_ = a.control.SetReadDeadline(time.Now().Add(a.patience))
		if _, err := io.CopyN(io.Discard, a, a.maxDrained+1); err == io.EOF {
			_ = a.control.SetReadDeadline(time.Time{}) // a long response must not end at the read deadline
			return
		}
	}
	if !a.finished.Swap(true) {
		a.missed.Store(http.StatusRequestEntityTooLarge)
	}
	if a.missed.Load() != 0 && !a.mayHold {
		a.Header().Set("Connection", "close")
	}
}
