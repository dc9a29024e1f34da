package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// sessionLostError is the error of work whose database session was ended or could not start.
type sessionLostError struct {
	error
	sent bool // the COMMIT was sent, and its outcome is unknown
}

func (c *sessionLostError) Unwrap() error { return c.error }

// unsentError is the error of a statement that should have been sent before the commit.
type unsentError struct{ error }

func (u *unsentError) Unwrap() error { return u.error }

// stoodStill reports whether the server ended the session because it was idle in a transaction. If the session was ended because it
// was idle, the server had not received the commit.
func stoodStill(err error) bool {
	refused, is := errors.AsType[*pgconn.PgError](err)
	return is && refused.Code == "25P03"
}

// onLive retries a function until it runs on a working session, or ctx ends. An operator, a server restart or a timeout may end
// sessions in the pool; work that had no effect on a lost session is repeated on another.
func (s *Store) onLive(ctx context.Context, db beginner, try func() error) error {
	pool, is := db.(*sql.DB)
	if !is {
		return try() // a single connection: there is no alternative
	}
	// Each attempt removes one dead session from the pool.
	limit := pool.Stats().MaxOpenConnections + attempts
	for n := 1; ; n++ {
		err := try()
		if err == nil || n >= limit || ctx.Err() != nil {
			return err
		}
		// errors.As would also find the error of another session inside the chain.
		if c, is := err.(*sessionLostError); !is || c.sent || !s.engine.lost(err) {
			return err
		}
	}
}

// query runs outside of a transaction; first (nil = none) reads the first rows, and may be called again with other rows if the
// session was lost. If the database is at fault, query returns an outage error.
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

// single returns the error of a statement that ran outside of a transaction.
func single(ctx context.Context, err error) error {
	if err = withCause(ctx, err); err != nil {
		return &sessionLostError{error: err}
	}
	return nil
}
