package stats

import (
	"context"
)

// AddUp is what Run does once a second.
func (c *Counter) AddUp(ctx context.Context) error { return c.addUp(ctx) }

// HoldNotes makes a recount move its notes into the file when so many bytes came.
func (c *Counter) HoldNotes(bytes int) { c.notesHeld = bytes }
