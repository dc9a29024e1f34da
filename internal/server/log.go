package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// newLogger writes logs of one format.
func newLogger(w io.Writer, format string) *slog.Logger {
	var h slog.Handler = slog.NewTextHandler(w, nil)
	if format == "json" {
		h = slog.NewJSONHandler(w, nil)
	}
	if l, ok := w.(*lines); ok {
		h = urgent{h, l}
	}
	return slog.New(calm{h})
}

// lines collects the lines of a log for linesWait and writes them together: a write of a single
// line would cost as much as everything else about it.
type lines struct {
	to io.Writer

	mu      sync.Mutex // held while to is written too: lines keep their order, and who is faster than it waits
	waiting []byte
	timer   *time.Timer // runs where something is waiting
	closed  bool
}

const (
	// linesWait is how long a line waits. A process that is killed loses the lines of that time.
	linesWait = 10 * time.Millisecond
	// linesMost is how much waits, in bytes.
	linesMost = 64 << 10
)

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := len(l.waiting) == 0
	l.waiting = append(l.waiting, line...)
	switch {
	case l.closed || len(l.waiting) >= linesMost:
		return len(line), l.write()
	case l.timer == nil:
		l.timer = time.AfterFunc(linesWait, func() { _ = l.Flush() })
	case first:
		l.timer.Reset(linesWait)
	}
	return len(line), nil
}

// write writes what is waiting.
func (l *lines) write() error {
	_, err := l.to.Write(l.waiting)
	l.waiting = l.waiting[:0]
	return err
}

// Flush writes what is waiting now.
func (l *lines) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return nil
	}
	return l.write()
}

// Close writes what is waiting; from here on no line waits.
func (l *lines) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return l.Flush()
}

// urgent writes a line that reports trouble at once.
type urgent struct {
	slog.Handler
	lines *lines
}

// Handle implements slog.Handler.
func (h urgent) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level > slog.LevelInfo {
		err = h.lines.Flush()
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h urgent) WithAttrs(attrs []slog.Attr) slog.Handler {
	return urgent{h.Handler.WithAttrs(attrs), h.lines}
}

// WithGroup implements slog.Handler.
func (h urgent) WithGroup(name string) slog.Handler {
	return urgent{h.Handler.WithGroup(name), h.lines}
}

// calm lowers the level of errors that need no attention: when a caller hangs up, or the process ends, work for a caller
// fails with context.Canceled.
type calm struct{ slog.Handler }

// Handle implements slog.Handler.
func (h calm) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError && calledOff(r) {
		r = r.Clone()
		r.Level = slog.LevelInfo
		r.AddAttrs(slog.String("because", "the caller hung up, or the server ends"))
	}
	return h.Handler.Handle(ctx, r)
}

// calledOff reports whether a line tells of nothing but a context that was ended. A fault of the database that was seen
// meanwhile stays one.
func calledOff(r slog.Record) (off bool) {
	r.Attrs(func(a slog.Attr) bool {
		err, is := a.Value.Any().(error)
		if !is {
			return true
		}
		_, outage := errors.AsType[*errcode.Outage](err)
		off = !outage && errors.Is(err, context.Canceled)
		return false
	})
	return off
}

// WithAttrs implements slog.Handler.
func (h calm) WithAttrs(attrs []slog.Attr) slog.Handler { return calm{h.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (h calm) WithGroup(name string) slog.Handler { return calm{h.Handler.WithGroup(name)} }
