package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// sessionLostError is the error of work whose session was ended, or could not begin.
type sessionLostError struct {
	error
	sent bool // the commit of a change was sent, and its outcome is unknown
}

func (c *sessionLostError) Unwrap() error { return c.error }

// unsentError is the error of a statement that had to be sent before a commit.
type unsentError struct{ error }

func (u *unsentError) Unwrap() error { return u.error }

// stoodStill reports whether the server ended the session because it was idle within a transaction. So it had not heard of the
// commit.
func stoodStill(err error) bool {
	refused, is := errors.AsType[*pgconn.PgError](err)
	return is && refused.Code == "25P03"
}

// onLive calls try until it meets a session that works, within the time of ctx. An operator, a
// restart of the server or a limit may end sessions while they are in the pool: work that had no
// effect on one of them is repeated on another.
func (s *Store) onLive(ctx context.Context, db beginner, try func() error) error {
	pool, is := db.(*sql.DB)
	if !is {
		return try() // this is one connection: there is no other
	}
	// Each try takes one dead session out of the pool.
	limit := pool.Stats().MaxOpenConnections + attempts
	for n := 1; ; n++ {
		err := try()
		if err == nil || n >= limit || ctx.Err() != nil {
			return err
		}
		// errors.As would also find one of another session within it.
		if c, is := err.(*sessionLostError); !is || c.sent || !s.engine.lost(err) {
			return err
		}
	}
}

// query runs outside of a transaction. first (nil = nothing) reads the first rows, and may be
// called again with other rows, when the session was lost. The error is one that because explains.
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

// single returns the error of a statement outside of a transaction.
func single(ctx context.Context, err error) error {
	if err = withCause(ctx, err); err != nil {
		return &sessionLostError{error: err}
	}
	return nil
}
