package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// newLogger returns a logger that writes in the given format. As JSON, durations are numbers of seconds.
func newLogger(w io.Writer, format string) *slog.Logger {
	var h slog.Handler = slog.NewTextHandler(w, nil)
	if format == "json" {
		h = slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration {
				a.Value = slog.Float64Value(a.Value.Duration().Seconds())
			}
			return a
		}})
	}
	if l, ok := w.(*bufferedWriter); ok {
		h = flushOnErrorWriter{h, l}
	}
	return slog.New(downgradeHandler{h})
}

// bufferedWriter buffers log lines for logFlushInterval and writes them together: a write per line would double the cost of logging.
type bufferedWriter struct {
	to io.Writer

	mu      sync.Mutex // also locked during each write, so that lines keep their order and fast callers have to wait
	waiting []byte
	timer   *time.Timer // set while lines are buffered
	closed  bool
}

const (
	// logFlushInterval is the time for which a log line is buffered. A killed process loses the log lines of the last logFlushInterval.
	logFlushInterval = 10 * time.Millisecond
	// logBufferSize is the size of the buffer in bytes.
	logBufferSize = 64 << 10
)

func (l *bufferedWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := len(l.waiting) == 0
	l.waiting = append(l.waiting, line...)
	switch {
	case l.closed || len(l.waiting) >= logBufferSize:
		return len(line), l.write()
	case l.timer == nil:
		l.timer = time.AfterFunc(logFlushInterval, func() { _ = l.Flush() })
	case first:
		l.timer.Reset(logFlushInterval)
	}
	return len(line), nil
}

// write writes the buffered lines.
func (l *bufferedWriter) write() error {
	_, err := l.to.Write(l.waiting)
	l.waiting = l.waiting[:0]
	return err
}

// Flush writes the buffered lines immediately.
func (l *bufferedWriter) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return nil
	}
	return l.write()
}

// Close writes the buffered lines and disables buffering.
func (l *bufferedWriter) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return l.Flush()
}

// flushOnErrorWriter flushes the buffer after each line that reports a warning or an error.
type flushOnErrorWriter struct {
	slog.Handler
	lines *bufferedWriter
}

// Handle implements slog.Handler.
func (h flushOnErrorWriter) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level > slog.LevelInfo {
		err = h.lines.Flush()
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h flushOnErrorWriter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return flushOnErrorWriter{h.Handler.WithAttrs(attrs), h.lines}
}

// WithGroup implements slog.Handler.
func (h flushOnErrorWriter) WithGroup(name string) slog.Handler {
	return flushOnErrorWriter{h.Handler.WithGroup(name), h.lines}
}

// downgradeHandler is a log handler that lowers the level of a context.Canceled error to info, because such an error only means that a
// client disconnected or the process ends. downgradeHandler also adds the trace id of the request to each log line.
type downgradeHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h downgradeHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError && calledOff(r) {
		r = r.Clone()
		r.Level = slog.LevelInfo
		r.AddAttrs(slog.String("because", "the caller hung up, or the server ends"))
	}
	if id := tracing.ID(ctx); id != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

// traced puts the trace context of a request into the request's Go context, for log lines and outbound requests; with --otlp-endpoint,
// traced also records a span for each request.
func (s *Server) traced(next http.Handler) http.Handler {
	recorder := s.config.Tracing
	stored := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if recorder != nil {
			r = r.WithContext(tracing.WithRecorder(r.Context(), recorder))
		} else if header := r.Header.Get("Traceparent"); header != "" {
			r = r.WithContext(tracing.WithParent(r.Context(), header))
		}
		next.ServeHTTP(w, r)
	})
	if recorder != nil {
		return recorder.Handler(stored)
	}
	return stored
}

// tracingComponent returns the component that exports spans.
func (s *Server) tracingComponent() component {
	recorder := s.config.Tracing
	if recorder == nil {
		return component{name: "tracing"}
	}
	recorder.SetLogger(s.log)
	return component{name: "tracing", stop: recorder.Close}
}

// calledOff reports whether the error in a log line is a cancelled context. calledOff returns false if the error also says that the
// database is unavailable, so that the line keeps its level.
func calledOff(r slog.Record) (off bool) {
	r.Attrs(func(a slog.Attr) bool {
		err, is := a.Value.Any().(error)
		if !is {
			return true
		}
		_, outage := errors.AsType[*errcode.Unavailable](err)
		off = !outage && errors.Is(err, context.Canceled)
		return false
	})
	return off
}

// WithAttrs implements slog.Handler.
func (h downgradeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return downgradeHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h downgradeHandler) WithGroup(name string) slog.Handler {
	return downgradeHandler{h.Handler.WithGroup(name)}
}
