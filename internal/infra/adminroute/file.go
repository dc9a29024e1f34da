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

// File is an answer that is written piece by piece.
type File struct {
	Name, Type string
	// Write writes it; an error before the first byte is answered as a problem.
	Write func(context.Context, io.Writer) error
}

// EscapeCSVFormula returns a text as a cell of a CSV file: no spreadsheet takes it for a formula, which in
// some languages also begins with a wide sign.
func EscapeCSVFormula(text string) string {
	if first, _ := utf8.DecodeRuneInString(text); text != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) {
		return "'" + text
	}
	return text
}

// send writes a file. One that breaks off ends its connection, so that the client
// sees it.
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
		e.log.InfoContext(r.Context(), "a client did not take an export to its end", "file", f.Name, "error", out.lost)
		panic(http.ErrAbortHandler)
	}
	if out.began {
		e.log.ErrorContext(r.Context(), "an export broke off", "file", f.Name, "error", err)
		panic(http.ErrAbortHandler)
	}
	problem, status := e.problem(hctx.Context(), err), http.StatusInternalServerError
	if known, ok := errors.AsType[huma.StatusError](problem); ok {
		status = known.GetStatus()
	}
	_ = huma.WriteErr(e.api, hctx, status, problem.Error())
}

// sending is a file on its way: nothing is sent before its first byte.
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
		h.Set("Content-Disposition", `attachment; filename="`+s.file.Name+`"`)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
	}
	return s.write(b)
}

// StreamBody is the body of a request that a function reads itself, piece by piece.
type StreamBody struct {
	r       *http.Request
	control *http.ResponseController
}

// Resolve is called by huma before the function is.
func (a *StreamBody) Resolve(hctx huma.Context) []error {
	r, w := humago.Unwrap(hctx)
	a.r, a.control = r, http.NewResponseController(w)
	return nil
}

// Header returns the request's.
func (a *StreamBody) Header() http.Header { return a.r.Header }

// Read gives each piece of the body its own time.
func (a *StreamBody) Read(b []byte) (int, error) {
	_ = a.control.SetReadDeadline(time.Now().Add(pieceTimeout))
	return a.r.Body.Read(b)
}

// Arrived ends the time of the body, and gives the answer as long as it wants
// until Answering.
func (a *StreamBody) Arrived() { _ = a.control.SetReadDeadline(time.Time{}) }

// Answering gives the answer its time from now on.
func (a *StreamBody) Answering() { _ = a.control.SetWriteDeadline(time.Now().Add(pieceTimeout)) }
