package auditlog

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
)

// ErrMoved is returned by the store if an object named in a Precondition changed after the change that the caller has seen; the
// transaction is rolled back.
var ErrMoved = errors.New("auditlog: what was looked at changed meanwhile")

// Precondition is a condition that a transaction checks before it commits a change.
type Precondition struct {
	Since int64  // number of the last change that the caller has seen
	Of    []Name // with Key "": all objects of the Kind; with Kind "": objects of any kind with the Key
	met   atomic.Bool
}

// Names reports whether the precondition covers the changed object.
func (e *Precondition) Names(changed Name) bool {
	return slices.ContainsFunc(e.Of, func(n Name) bool {
		return (n.Kind == "" || n.Kind == changed.Kind) && (n.Key == "" || n.Key == changed.Key)
	})
}

// Met records that a transaction has checked the precondition and committed. Later changes by the same request are not checked, because
// they follow from the request's first change.
func (e *Precondition) Met() { e.met.Store(true) }

type preconditionKey struct{}

// WithPrecondition returns a context for a request. The first change with this context fails with ErrMoved if any of the named objects
// changed after change number start.
func WithPrecondition(ctx context.Context, start int64, names ...Name) context.Context {
	return context.WithValue(ctx, preconditionKey{}, &Precondition{Since: start, Of: names})
}

// PreconditionFromContext returns the precondition that WithPrecondition set last; nil = none, or already met.
func PreconditionFromContext(ctx context.Context) *Precondition {
	e, _ := ctx.Value(preconditionKey{}).(*Precondition)
	if e == nil || e.met.Load() {
		return nil
	}
	return e
}
