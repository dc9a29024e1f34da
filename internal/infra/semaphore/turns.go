// Package semaphore limits the number of concurrent expensive operations.
package semaphore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// Semaphore limits the concurrent operations of one kind on one server. The zero value is valid. A Semaphore belongs to a server,
// never to a package, so that two servers in one process are independent.
type Semaphore struct {
	once     sync.Once
	places   chan struct{}
	inFlight atomic.Int32 // number of callers that have a slot or wait for a slot
}

// ErrQueueFull is returned to a caller if too many other callers wait.
var ErrQueueFull = errors.New("too many requests waiting; retry later")

// Acquire blocks until a slot is free or ctx is done; calling done releases the slot. Acquire returns ErrQueueFull if maxWaiting
// callers already wait (0 = unlimited), and the cause of ctx if ctx ends. All callers of one Semaphore must pass the same values of
// places and maxWaiting.
func (t *Semaphore) Acquire(ctx context.Context, places, maxWaiting int) (done func(), err error) {
	t.once.Do(func() { t.places = make(chan struct{}, places) })
	if n := int(t.inFlight.Add(1)); maxWaiting > 0 && n > places+maxWaiting {
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
