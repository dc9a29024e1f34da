package api

import (
	"context"
	"sync"
	"time"
)

// lazyDeadline is a context with a deadline, like a context from context.WithDeadline. The timer starts only when a caller first waits
// for Done, because most calls are served from memory.
type lazyDeadline struct {
	context.Context // the parent context: lazyDeadline is done when the parent is done, or earlier
	deadline        time.Time

	mu       sync.Mutex
	timedCtx context.Context // nil until a caller waits for Done
	cancel   context.CancelFunc
	closed   bool // the context has ended, so callers of Done need not wait
}

func newLazyDeadline(ctx context.Context, d time.Duration) *lazyDeadline {
	return &lazyDeadline{Context: ctx, deadline: time.Now().Add(d)}
}

// close ends the context for all current and future waiters.
func (c *lazyDeadline) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.cancel != nil {
		c.cancel()
	}
}

func (c *lazyDeadline) inner() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timedCtx == nil {
		c.timedCtx, c.cancel = context.WithDeadline(c.Context, c.deadline)
		if c.closed {
			c.cancel()
		}
	}
	return c.timedCtx
}

// Deadline implements context.Context.
func (c *lazyDeadline) Deadline() (time.Time, bool) { return c.inner().Deadline() }

// Done implements context.Context.
func (c *lazyDeadline) Done() <-chan struct{} { return c.inner().Done() }

// Err implements context.Context.
func (c *lazyDeadline) Err() error { return c.inner().Err() }

// Value implements context.Context; context.Cause reads the reason from timedCtx.
func (c *lazyDeadline) Value(key any) any {
	c.mu.Lock()
	timedCtx := c.timedCtx
	c.mu.Unlock()
	if timedCtx != nil {
		return timedCtx.Value(key)
	}
	return c.Context.Value(key)
}
