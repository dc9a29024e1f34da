package auditlog

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
)

// ErrMoved is the store's: what Unchanged named changed meanwhile, and nothing of the
// transaction was stored.
var ErrMoved = errors.New("history: what was looked at changed meanwhile")

// Precondition is a condition that a transaction checks before it commits a change.
type Precondition struct {
	Since int64  // the number of the last change that the caller may have seen
	Of    []Name // Key "" = everything of the Kind; Kind "" = whatever has the Key
	met   atomic.Bool
}

// Names reports whether a change of a thing is one of those that are not expected.
func (e *Precondition) Names(changed Name) bool {
	return slices.ContainsFunc(e.Of, func(n Name) bool {
		return (n.Kind == "" || n.Kind == changed.Kind) && (n.Key == "" || n.Key == changed.Key)
	})
}

// Met says that a transaction which held the expectation is committed: what the same
// call changes afterwards follows from its own change.
func (e *Precondition) Met() { e.met.Store(true) }

type expectationKey struct{}

// WithPrecondition lets the first change that is made with the context happen only if none of
// these things changed after a change of the log; else it fails with ErrMoved.
func WithPrecondition(ctx context.Context, start int64, names ...Name) context.Context {
	return context.WithValue(ctx, expectationKey{}, &Precondition{Since: start, Of: names})
}

// PreconditionFromContext returns the last precondition that Unchanged set; nil = none, or it was met.
func PreconditionFromContext(ctx context.Context) *Precondition {
	e, _ := ctx.Value(expectationKey{}).(*Precondition)
	if e == nil || e.met.Load() {
		return nil
	}
	return e
}
