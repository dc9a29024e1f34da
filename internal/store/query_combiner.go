package store

import (
	"cmp"
	"context"
	"sync"
	"time"
)

// combineWait is the maximum time for which a query waits for the end of a running query.
const combineWait = 2 * time.Millisecond

// queryCombiner sends the same query of concurrent read transactions, with different arguments, as one query: PostgreSQL needs more time
// to start a query than to find a row. While a query runs, further queries collect in the next batch. A query is sent after the call of
// ask, so its result is never older than the call.
type queryCombiner struct {
	mu      sync.Mutex
	running int         // batches that were sent and not yet answered
	next    *queryGroup // batch that collects queries; nil = none

	wait time.Duration // set by tests in place of combineWait; 0 = not set
}

// queryGroup contains queries that are sent together. The caller of the first query sends them.
type queryGroup struct {
	queries []*question
	start   chan struct{} // closed when no other batch runs
	done    chan struct{} // closed after the queries have results, or err is set
	err     error
}

// ask runs q outside of the transaction t, whose BEGIN must not have been sent yet. All queries must have the same text.
func (c *queryCombiner) ask(ctx context.Context, t *Tx, q *question) error {
	c.mu.Lock()
	g := c.next
	sends := g == nil
	if sends {
		g = &queryGroup{start: make(chan struct{}), done: make(chan struct{})}
		c.next = g
		if c.running == 0 {
			close(g.start)
		}
	}
	g.queries = append(g.queries, q)
	c.mu.Unlock()
	if sends {
		c.send(ctx, t, g)
		return g.err
	}
	select {
	case <-g.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if g.err != nil { // perhaps only the session or the context of the caller that sent the batch has ended
		return t.queryOutside(ctx, q)
	}
	return nil
}

// send sends the queries of g in the session of t, as soon as no other batch runs or after combineWait.
func (c *queryCombiner) send(ctx context.Context, t *Tx, g *queryGroup) {
	late := time.NewTimer(cmp.Or(c.wait, combineWait))
	defer late.Stop()
	select {
	case <-g.start:
	case <-late.C:
	case <-ctx.Done():
	}
	c.mu.Lock()
	c.next = nil
	c.running++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.running--; c.running == 0 && c.next != nil {
			close(c.next.start)
		}
		close(g.done)
	}()
	merged, distribute := mergeQueries(g.queries)
	g.err = safely(func() error { return t.queryOutside(ctx, merged...) })
	if g.err == nil {
		distribute()
	}
}
