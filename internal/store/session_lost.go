package store

import (
	"context"
	"database/sql"
)

// sessionLostError is the error of a statement or transaction whose database session ended, or could not be started.
type sessionLostError struct {
	error
	sent bool // the COMMIT was sent, and its outcome is unknown
}

func (c *sessionLostError) Unwrap() error { return c.error }

// unsentError is the error of queued statements that failed before COMMIT was sent.
type unsentError struct{ error }

func (u *unsentError) Unwrap() error { return u.error }

// onLive calls try, and calls it again if the database session was lost before COMMIT was sent, until ctx ends. An operator, a server
// restart or a timeout may end sessions in the pool; work that had no effect in a lost session can be repeated in another session.
func (s *Store) onLive(ctx context.Context, db beginner, try func() error) error {
	pool, is := db.(*sql.DB)
	if !is {
		return try() // db is one connection, so there is no other session
	}
	// Each failed attempt removes one lost session from the pool; all sessions in the pool may be lost.
	limit := pool.Stats().MaxOpenConnections + attempts
	for n := 1; ; n++ {
		err := try()
		if err == nil || n >= limit || ctx.Err() != nil {
			return err
		}
		// The type of err itself is tested, because errors.As would also find the wrapped error of another session.
		if c, is := err.(*sessionLostError); !is || c.sent || !s.engine.lost(err) {
			return err
		}
	}
}

// single wraps the error of a statement that ran outside of a transaction in a sessionLostError; nil stays nil.
func single(ctx context.Context, err error) error {
	if err = withCause(ctx, err); err != nil {
		return &sessionLostError{error: err}
	}
	return nil
}
