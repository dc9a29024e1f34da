// Package semaphore bounds how many at once do what costs a server much.
package semaphore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// Semaphore are the places of one server for one kind of work. The zero value is ready. It belongs to the server that
// it protects, never to a package: two servers in one process hinder each other nowhere.
type Semaphore struct {
	once     sync.Once
	places   chan struct{}
	inFlight atomic.Int32 // have a place, or wait for one
}

// ErrQueueFull is returned to a caller that would wait behind too many others.
var ErrQueueFull = errors.New("too many wait for their turn")

// Acquire waits for one of so many places, which done gives back. ErrFull where mostWaiting wait already (0 = any
// number may), and the cause of a context that ends. Every caller of one Turns names the same numbers.
func (t *Semaphore) Acquire(ctx context.Context, places, mostWaiting int) (done func(), err error) {
	t.once.Do(func() { t.places = make(chan struct{}, places) })
	if n := int(t.inFlight.Add(1)); mostWaiting > 0 && n > places+mostWaiting {
		t.inFlight.Add(-1)
		return nil, ErrQueueFull
	}
	select {
	case t.places <- struct{}{}:
		return func() {
			<-t.places
			t.inFlight.Add(-1)
		}, nil
	case <-ctx.Done():
		t.inFlight.Add(-1)
		return nil, context.Cause(ctx)
	}
}
