package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// These tests run in synctest bubbles: a sleep advances the bubble's fake clock, which fires the flush timer, without real time.

// countingWriter records what is written to it and counts the writes. It is safe for concurrent use.
type countingWriter struct {
	mu    sync.Mutex
	all   []byte
	count int
	err   error
}

func (w *countingWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count++
	if w.err != nil {
		return 0, w.err
	}
	w.all = append(w.all, b...)
	return len(b), nil
}

func (w *countingWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.all)
}

func (w *countingWriter) writeCount() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

func TestServerLog_BatchedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &countingWriter{}
		l := &bufferedWriter{to: w}
		log := newLogger(l, "text")
		for range 100 {
			log.Info("call")
		}
		time.Sleep(logFlushInterval - time.Nanosecond)
		synctest.Wait()
		assert.Equal(t, w.writeCount(), 0, "writes before the flush interval")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		n := strings.Count(w.String(), "\n")
		assert.True(t, n == 100 && w.writeCount() == 1, "%d lines in %d writes", n, w.writeCount())
		log.Info("one more")
		time.Sleep(logFlushInterval)
		synctest.Wait()
		assert.True(t, w.writeCount() == 2 && strings.Contains(w.String(), "one more"), "%d writes: %s", w.writeCount(), w.String())
	})
}

func TestServerLog_WarningsFlushedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, format := range []string{"text", "json"} {
			w := &countingWriter{}
			log := newLogger(&bufferedWriter{to: w}, format)
			log.Info("first")
			log.With("part", "one").WithGroup("of").Warn("second", "two", 2)
			i := strings.Index(w.String(), "first")
			assert.True(t, w.writeCount() == 1 && i >= 0 && i <= strings.Index(w.String(), "second"), "%d writes: %s", w.writeCount(), w)
			log.Error("third")
			assert.True(t, w.writeCount() == 2, "%d writes: %s", w.writeCount(), w.String())
			time.Sleep(logFlushInterval) // the timer finds an empty buffer
		}
	})
}

func TestServerLog_BoundedBufferFlushedOnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &countingWriter{}
		l := &bufferedWriter{to: w}
		log := newLogger(l, "text")
		log.Info(strings.Repeat("x", logBufferSize))
		assert.Equal(t, w.writeCount(), 1, "writes of a long line")
		log.Info("last")
		if err := l.Close(); err != nil || !strings.HasSuffix(w.String(), "msg=last\n") {
			t.Errorf("%v, the log ends with %s", err, w.String()[max(0, len(w.String())-20):])
		}
		log.Info("after")
		assert.True(t, strings.HasSuffix(w.String(), "msg=after\n"), "a line after Close was not written: %s", w.String())
		w.err = errors.New("no room")
		_, err := l.Write([]byte("line\n"))
		assert.True(t, errors.Is(err, w.err) && len(l.waiting) == 0, "%v, and %d bytes wait", err, len(l.waiting))
		time.Sleep(logFlushInterval)
	})
}

// TestServerLog_CanceledContextLevel verifies that an error because the client disconnected has the level INFO, and others ERROR.
func TestServerLog_CanceledContextLevel(t *testing.T) {
	t.Parallel()
	canceled := fmt.Errorf("reading an account: %w", context.Canceled)
	for _, c := range []struct {
		err   error
		level string
	}{{canceled, "INFO"}, {errors.New("no such table"), "ERROR"}, {context.DeadlineExceeded, "ERROR"},
		{&errcode.Unavailable{Location: "database", Condition: "does not respond", Do: "look at it", Err: canceled}, "ERROR"}} {
		w := &countingWriter{}
		newLogger(w, "text").With("rid", "1").Error("call", "endpoint", "/x", "error", c.err)
		assert.True(t, strings.Contains(w.String(), "level="+c.level+" msg=call "), "%v: %s", c.err, w)
	}
}
