package stats

import (
	"context"
	"runtime"
)

// AddUp is what Run does once a second.
func (c *Aggregator) AddUp(ctx context.Context) error { return c.addUp(ctx) }

// StoreAddedUp is how every AddUp and CatchUp ends: what is added up by then is stored, whoever added it up.
func (c *Aggregator) StoreAddedUp(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		return nil
	}
	return c.saveAll(ctx, false)
}

// InParts makes a part that is rolled up or removed have so many rows.
func (c *Aggregator) InParts(rows int) { c.parts = rows }

// AwaitErasures returns once so many erasures wait.
func (c *Aggregator) AwaitErasures(n int) {
	for waiting := 0; waiting < n; runtime.Gosched() {
		c.erasures.mu.Lock()
		waiting = len(c.erasures.waiting)
		c.erasures.mu.Unlock()
	}
}

func init() { minRanked = 0 } // tests count few scans
