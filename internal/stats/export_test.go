package stats

import (
	"context"
	"runtime"
)

// AddUp is what Run does once a second.
func (c *Counter) AddUp(ctx context.Context) error { return c.addUp(ctx) }

// HoldNotes makes a recount move its notes into the file when so many bytes came.
func (c *Counter) HoldNotes(bytes int) { c.notesHeld = bytes }

// InParts makes a part that is rolled up or removed have so many rows.
func (c *Counter) InParts(rows int) { c.parts = rows }

// AwaitErasures returns once so many erasures wait.
func (c *Counter) AwaitErasures(n int) {
	for waiting := 0; waiting < n; runtime.Gosched() {
		c.erasures.mu.Lock()
		waiting = len(c.erasures.waiting)
		c.erasures.mu.Unlock()
	}
}
