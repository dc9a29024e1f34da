package stats

import (
	"context"
	"time"
)

// AddUp is what Run does once a second.
func (c *Counter) AddUp(ctx context.Context) error { return c.addUp(ctx) }

// Patiently gives a server as long as the test has.
func (o *JetStreamOptions) Patiently() { o.patience = time.Hour }
