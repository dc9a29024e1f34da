package store

import (
	"context"
	"database/sql"
	"errors"
)

// cut is what failed because its session was ended, or never came to be.
type cut struct {
	error
	sent bool // the commit of a change, and nobody knows what became of it
}

func (c *cut) Unwrap() error { return c.error }

// unsent is a failure of what a commit had to send before itself.
type unsent struct{ error }

func (u *unsent) Unwrap() error { return u.error }

// onLive tries until it meets a session that lives, within the time of ctx. An
// operator, a server that is restarted or a limit may end sessions while they
// are in the pool: what had no effect on one of them is done on another.
func (s *Store) onLive(ctx context.Context, db beginner, try func() error) error {
	pool, is := db.(*sql.DB)
	if !is {
		return try() // on this connection, or nowhere
	}
	// Each try takes one dead session out of the pool.
	most := pool.Stats().MaxOpenConnections + attempts
	for n := 1; ; n++ {
		err := try()
		if err == nil || n >= most || ctx.Err() != nil {
			return err
		}
		// Not one within: that was of another session.
		if c, is := err.(*cut); !is || c.sent || !s.engine.lost(err) {
			return err
		}
	}
}

// query asks outside of a transaction; first (nil = nothing) reads the first
// rows, and may be called again on other rows. The error is told.
func (s *Store) query(ctx context.Context, first func(*sql.Rows) error, query string, args ...any) (rows *sql.Rows, err error) {
	err = s.onLive(ctx, s.read, func() error {
		if rows, err = s.read.QueryContext(ctx, query, args...); err == nil && first != nil {
			if err = first(rows); err != nil {
				err = errors.Join(err, rows.Close())
			}
		}
		return single(ctx, err)
	})
	return rows, s.outage(err)
}

// single is the error of a statement outside of a transaction.
func single(ctx context.Context, err error) error {
	if err = because(ctx, err); err != nil {
		return &cut{error: err}
	}
	return nil
}
