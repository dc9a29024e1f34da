package server

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
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
	return slog.New(h)
}

// lines writes lines of a log together with those that come within linesWait: to write
// one costs the system as much as all else that a line costs.
type lines struct {
	to io.Writer

	mu      sync.Mutex // held while to is written too: lines keep their order, and who is faster than it waits
	waiting []byte
	timer   *time.Timer // runs where something is waiting
	closed  bool
}

const (
	// linesWait is how long a line waits: so much a process that is killed may lose.
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

// urgent lets no line wait that tells of trouble.
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
