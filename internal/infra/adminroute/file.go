package adminroute

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// File is a response whose content is written in pieces.
type File struct {
	Name, Type string
	// Policy is the Content-Security-Policy under which a browser shows the file; "" = a browser stores the file.
	Policy string
	// Write writes the content; if Write fails before it has written a byte, the client gets an error response.
	Write func(context.Context, io.Writer) error
}

// EscapeCSVFormula puts an apostrophe before the text of a CSV cell if a spreadsheet might treat the text as a formula. In some
// locales, full-width signs start a formula, too.
func EscapeCSVFormula(text string) string {
	if first, _ := utf8.DecodeRuneInString(text); text != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) {
		return "'" + text
	}
	return text
}

// send writes a file to the client. If the content cannot be written completely, the connection is aborted, so that the client
// detects the incomplete file.
func (e edge) send(hctx huma.Context, f File) {
	if !e.begin() {
		_ = huma.WriteErr(e.api, hctx, http.StatusConflict, e.busy)
		return
	}
	defer e.end()
	r, w := humago.Unwrap(hctx)
	out := &sending{pacer: newPacer(w), file: f}
	err := f.Write(r.Context(), out)
	if err == nil && !out.began {
		_, err = out.Write(nil)
	}
	out.end()
	if err == nil {
		return
	}
	if out.lost != nil {
		e.Log.InfoContext(r.Context(), "client disconnected during an export", "file", f.Name, "error", out.lost)
		panic(http.ErrAbortHandler)
	}
	if out.began {
		e.Log.ErrorContext(r.Context(), "export aborted", "file", f.Name, "error", err)
		panic(http.ErrAbortHandler)
	}
	e.fail(hctx, err)
}

// sending is a file that is being sent; the headers are sent with its first byte.
type sending struct {
	pacer
	file  File
	began bool
}

func (s *sending) Write(b []byte) (int, error) {
	if !s.began {
		s.began = true
		h := s.w.Header()
		h.Set("Content-Type", s.file.Type)
		disposition := "attachment"
		if s.file.Policy != "" {
			disposition = "inline"
			h.Set("Content-Security-Policy", s.file.Policy)
		}
		h.Set("Content-Disposition", disposition+`; filename="`+s.file.Name+`"`)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
	}
	return s.write(b)
}

// StreamBody is a request body that the operation reads itself, in pieces.
type StreamBody struct {
	r       *http.Request
	control *http.ResponseController
}

// Resolve stores the request; huma calls it before the operation.
func (a *StreamBody) Resolve(hctx huma.Context) []error {
	r, w := humago.Unwrap(hctx)
	a.r, a.control = r, http.NewResponseController(w)
	return nil
}

// Header returns the headers of the request.
func (a *StreamBody) Header() http.Header { return a.r.Header }

// Read reads from the body, with a separate timeout for each call.
func (a *StreamBody) Read(b []byte) (int, error) {
	_ = a.control.SetReadDeadline(time.Now().Add(pieceTimeout))
	return a.r.Body.Read(b)
}

// Arrived removes the read deadline after the body is complete; the operation may then run without a deadline until it calls Answering.
func (a *StreamBody) Arrived() { _ = a.control.SetReadDeadline(time.Time{}) }

// Answering starts the write deadline of the response.
func (a *StreamBody) Answering() { _ = a.control.SetWriteDeadline(time.Now().Add(pieceTimeout)) }

const (
	// pieceTimeout is the timeout for sending one part of an export to the client, because the database keeps a snapshot until the
	// export ends.
	pieceTimeout = time.Minute
	// minPace is the minimum transfer rate of an export in bytes per second; a client may be late by one pieceTimeout in total.
	// Without a minimum, a slow client could hold the database snapshot forever.
	minPace = 16 << 10
)

var errTooSlow = errors.New("the client reads slower than 16 KiB per second")

// pacer sends an export in parts, and aborts the export if the client is too slow.
type pacer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	sent    int64
	lost    error         // the client's failure: disconnected or too slow
	waited  time.Duration // time spent waiting for the client, without the time to produce the data
}

func newPacer(w http.ResponseWriter) pacer {
	c := http.NewResponseController(w)
	// The read deadline of the request body would abort the request during the export.
	_ = c.SetReadDeadline(time.Time{})
	return pacer{w: w, control: c}
}

func (p *pacer) write(b []byte) (int, error) {
	left := pieceTimeout + time.Duration((p.sent+int64(len(b)))/minPace)*time.Second - p.waited
	if left <= 0 {
		p.lost = errTooSlow
		return 0, errTooSlow
	}
	began := time.Now()
	_ = p.control.SetWriteDeadline(began.Add(min(left, pieceTimeout)))
	n, err := p.w.Write(b)
	p.waited += time.Since(began)
	p.sent += int64(n)
	if err != nil {
		p.lost = err
	}
	return n, err
}

// end removes the write deadline.
func (p *pacer) end() { _ = p.control.SetWriteDeadline(time.Time{}) }
