package accounts

import (
	"context"
	"sync"
	"time"
)

// maxReceivers is how many receivers are delivered to at once.
const maxReceivers = 64

// courier delivers what waits: one delivery at a time to each receiver, in
// order, so that a slow receiver holds up no other.
type courier struct {
	awake chan struct{}
	mu    sync.Mutex
	busy  map[string]bool
	wait  sync.WaitGroup
}

func newCourier() *courier {
	return &courier{awake: make(chan struct{}, 1), busy: map[string]bool{}}
}

// wake makes the next round begin at once.
func (c *courier) wake() {
	select {
	case c.awake <- struct{}{}:
	default: // it is awake
	}
}

// run makes rounds until ctx ends, and returns when nothing is on its way any
// more. What is due is asked of the server's clock, which may jump; it is
// looked at every interval of real time.
func (c *courier) run(ctx context.Context, interval time.Duration, round func(context.Context)) {
	defer c.wait.Wait()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.awake:
		}
	}
}

// start begins a delivery unless the receiver has one or all hands are busy.
// deliver reports whether something may have come meanwhile.
func (c *courier) start(receiver string, deliver func() (again bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[receiver] || len(c.busy) >= maxReceivers {
		return
	}
	c.busy[receiver] = true
	c.wait.Go(func() {
		again := deliver()
		c.mu.Lock()
		delete(c.busy, receiver)
		c.mu.Unlock()
		if again {
			c.wake()
		}
	})
}
