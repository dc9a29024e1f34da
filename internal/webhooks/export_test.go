package webhooks

import "context"

// Step is one round, with everything that it started.
func (p *Postman) Step(ctx context.Context) {
	p.round(ctx)
	p.wait.Wait()
}

// SetMaxWaiting makes fewer deliveries wait at most.
func (b *Book) SetMaxWaiting(n int) { b.maxWaiting = n }
