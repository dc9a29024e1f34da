package scanapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// streamGroup is the maximum number of lines that are decided before they are recorded and answered together.
	streamGroup = 256
	streamRead  = 64 << 10
)

// stream writes one response line per request line, in order of arrival; lines that arrive together are recorded together. For an
// invalid line the response line is {"error": …}, and the stream continues.
func (a *API) stream(w http.ResponseWriter, r *http.Request, namespace string) {
	control := http.NewResponseController(w)
	// Without full duplex, HTTP/1 reads the rest of the body before the first response line.
	if err := control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		a.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", streamType)
	w.Header().Set("Cache-Control", "no-store")
	in := bufio.NewReaderSize(r.Body, streamRead)
	group := make([]pendingScan, 0, 8)
	answered := false
	var out []byte
	for {
		// The deadline applies only to the next line, because a stream may last long.
		_ = control.SetReadDeadline(time.Now().Add(a.BodyTimeout))
		group = group[:0]
		var readErr error
		for readErr == nil && len(group) < streamGroup && (len(group) == 0 || hasLine(in)) {
			line, tooLong, err := readLine(in)
			if readErr = err; readErr != nil && readErr != io.EOF {
				break // the rest of this line may not have arrived yet
			}
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			group = append(group, pendingScan{})
			s := &group[len(group)-1]
			if tooLong {
				s.err = problem{http.StatusRequestEntityTooLarge, fmt.Sprintf("the line is longer than %d bytes", MaxRequest)}
			} else {
				s.err = a.decide(s, namespace, line)
			}
		}
		if len(group) > 0 {
			out = a.answerLines(context.WithoutCancel(r.Context()), group, out[:0])
			_ = control.SetWriteDeadline(time.Now().Add(a.BodyTimeout))
			answered = true
			if _, err := w.Write(out); err != nil {
				return
			}
		}
		if readErr == io.EOF {
			return
		}
		if readErr != nil {
			a.abortStream(w, control, readErr, answered)
			return
		}
		if !hasLine(in) && control.Flush() != nil {
			return
		}
	}
}

// abortStream ends a stream whose body did not arrive completely. With full duplex the handler must close the connection itself,
// because net/http would read the rest of the body as the next request.
func (a *API) abortStream(w http.ResponseWriter, control *http.ResponseController, readErr error, answered bool) {
	if answered {
		_ = control.Flush()
		panic(http.ErrAbortHandler) // net/http closes the connection, so that the client notices missing response lines
	}
	w.Header().Set("Connection", "close")
	a.fail(w, bodyProblem(readErr))
}

// hasLine reports whether a complete line is already buffered.
func hasLine(in *bufio.Reader) bool {
	buffered, _ := in.Peek(in.Buffered())
	return bytes.IndexByte(buffered, '\n') >= 0
}

// answerLines records a group of decided scans and appends one response line for each.
func (a *API) answerLines(ctx context.Context, group []pendingScan, out []byte) []byte {
	parent := ctx
	for i := range group {
		if group[i].err == nil && group[i].isCode() {
			var cancel context.CancelFunc
			parent, cancel = context.WithTimeout(ctx, ticketTimeout)
			defer cancel()
			break
		}
	}
	for i := range group {
		if group[i].err == nil {
			a.visit(parent, &group[i])
		}
	}
	for i := range group {
		if group[i].err == nil {
			a.record(parent, &group[i])
		}
	}
	for i := range group {
		s := &group[i]
		if s.err == nil {
			_ = a.await(parent, s)
		}
		if s.err != nil {
			out = append(appendString(append(out, `{"error":`...), a.asProblem(a.ticketProblem(s.err)).detail), '}', '\n')
			continue
		}
		out = s.append(out)
	}
	return out
}

// readLine returns a line of at most MaxRequest bytes. For a longer line readLine returns only tooLong = true.
func readLine(in *bufio.Reader) (line []byte, tooLong bool, err error) {
	line, err = in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, len(bytes.TrimRight(line, "\r\n")) > MaxRequest, err
	}
	blank := len(bytes.TrimSpace(line)) == 0
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = in.ReadSlice('\n')
		blank = blank && len(bytes.TrimSpace(line)) == 0
	}
	if blank {
		return nil, false, err
	}
	return []byte("…"), true, err
}
