package api

import (
	"context"
	"sync"
	"time"
)

// patience is a context with a deadline, like that of context.WithDeadline. It sets its timer when a caller first waits for its
// end, since most calls are answered from memory.
type patience struct {
	context.Context // the parent: patience ends with it at the latest
	at              time.Time

	mu    sync.Mutex
	timed context.Context // nil until a caller waits for the end
	end   context.CancelFunc
	over  bool // no caller waits any more
}

func newPatience(ctx context.Context, d time.Duration) *patience {
	return &patience{Context: ctx, at: time.Now().Add(d)}
}

// close ends it for everybody who waits, now or later.
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

// Value implements context.Context: why it ended, context.Cause asks the timed one.
func (p *patience) Value(key any) any {
	p.mu.Lock()
	timed := p.timed
	p.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return p.Context.Value(key)
}
