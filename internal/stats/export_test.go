package stats

import (
	"context"
)

// AddUp is what Run does once a second.
func (c *Counter) AddUp(ctx context.Context) error { return c.addUp(ctx) }
