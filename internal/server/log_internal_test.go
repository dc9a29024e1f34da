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

// These tests live in bubbles of synctest: a sleep there moves the bubble's own clock to the moment that is named, in which
// the timer of lines runs. It takes no time, and no busy machine changes the outcome.

// writes counts how often it was written to.
type writes struct {
	mu    sync.Mutex
	all   []byte
	count int
	err   error
}

func (w *writes) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count++
	if w.err != nil {
		return 0, w.err
	}
	w.all = append(w.all, b...)
	return len(b), nil
}

func (w *writes) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.all)
}

func (w *writes) times() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

func TestServerLog_BatchedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &writes{}
		l := &bufferedWriter{to: to}
		log := newLogger(l, "text")
		for range 100 {
			log.Info("call")
		}
		time.Sleep(logFlushInterval - time.Nanosecond)
		synctest.Wait()
		assert.Equal(t, to.times(), 0, "writes before the time")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		n := strings.Count(to.String(), "\n")
		assert.True(t, n == 100 && to.times() == 1, "%d lines in %d writes", n, to.times())
		log.Info("one more")
		time.Sleep(logFlushInterval)
		synctest.Wait()
		assert.True(t, to.times() == 2 && strings.Contains(to.String(), "one more"), "%d writes: %s", to.times(), to.String())
	})
}

func TestServerLog_WarningsFlushedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, format := range []string{"text", "json"} {
			to := &writes{}
			log := newLogger(&bufferedWriter{to: to}, format)
			log.Info("first")
			log.With("part", "one").WithGroup("of").Warn("second", "two", 2)
			i := strings.Index(to.String(), "first")
			assert.True(t, to.times() == 1 && i >= 0 && i <= strings.Index(to.String(), "second"), "%d writes: %s", to.times(), to.String())
			log.Error("third")
			assert.True(t, to.times() == 2, "%d writes: %s", to.times(), to.String())
			time.Sleep(logFlushInterval) // the timer finds nothing
		}
	})
}

func TestServerLog_BoundedBufferFlushedOnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &writes{}
		l := &bufferedWriter{to: to}
		log := newLogger(l, "text")
		log.Info(strings.Repeat("x", logBufferSize))
		assert.Equal(t, to.times(), 1, "writes of a long line")
		log.Info("last")
		if err := l.Close(); err != nil || !strings.HasSuffix(to.String(), "msg=last\n") {
			t.Errorf("%v, the log ends with %s", err, to.String()[max(0, len(to.String())-20):])
		}
		log.Info("after")
		assert.True(t, strings.HasSuffix(to.String(), "msg=after\n"), "a line waits after the end")
		to.err = errors.New("no room")
		_, err := l.Write([]byte("line\n"))
		assert.True(t, errors.Is(err, to.err) && len(l.waiting) == 0, "%v, and %d bytes wait", err, len(l.waiting))
		time.Sleep(logFlushInterval)
	})
}

// Issue 28, 9: a caller that hangs up wrote an ERROR, 1,200 of them in seven minutes.
func TestServerLog_CanceledContextLevel(t *testing.T) {
	t.Parallel()
	gone := fmt.Errorf("reading an account: %w", context.Canceled)
	for _, c := range []struct {
		err   error
		level string
	}{{gone, "INFO"}, {errors.New("no such table"), "ERROR"}, {context.DeadlineExceeded, "ERROR"},
		{&errcode.Unavailable{Location: "database", Condition: "does not respond", Do: "look at it", Err: gone}, "ERROR"}} {
		to := &writes{}
		newLogger(to, "text").With("rid", "1").Error("call", "endpoint", "/x", "error", c.err)
		assert.True(t, strings.Contains(to.String(), "level="+c.level+" msg=call "), "%v: %s", c.err, to)
	}
}
