package api

import (
	"context"
	"sync"
	"time"
)

// patience is a context with a deadline, like a context from context.WithDeadline. The timer starts only when a caller first waits
// for Done, because most calls are served from memory.
type patience struct {
	context.Context // the parent context: patience is done when the parent is done, or earlier
	at              time.Time

	mu    sync.Mutex
	timed context.Context // nil until a caller waits for Done
	end   context.CancelFunc
	over  bool // true after the context ended; later callers need not wait
}

func newPatience(ctx context.Context, d time.Duration) *patience {
	return &patience{Context: ctx, at: time.Now().Add(d)}
}

// close ends the context for all current and future waiters.
func (p *patience) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	if p.end != nil {
		p.end()
	}
}

func (p *patience) inner() context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timed == nil {
		p.timed, p.end = context.WithDeadline(p.Context, p.at)
		if p.over {
			p.end()
		}
	}
	return p.timed
}

// Deadline implements context.Context.
func (p *patience) Deadline() (time.Time, bool) { return p.inner().Deadline() }

// Done implements context.Context.
func (p *patience) Done() <-chan struct{} { return p.inner().Done() }

// Err implements context.Context.
func (p *patience) Err() error { return p.inner().Err() }

// Value implements context.Context; context.Cause reads the reason from the timed context.
func (p *patience) Value(key any) any {
	p.mu.Lock()
	timed := p.timed
	p.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return p.Context.Value(key)
}
