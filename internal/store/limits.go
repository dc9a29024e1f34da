package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Allow notes a call of a key and reports whether it is one of at most limit within any second,
// counted over all nodes by the one clock of the database. A refused call is not counted. A row
// holds limit times, so this is for small limits. Only for a Shared store.
func (s *Store) Allow(ctx context.Context, key string, limit int) (bool, error) {
	// Calls of one key wait for its row, and the clock is read after that: the times of a row are
	// in order. Times that lie in the future, because the clock was set back, count for a second at
	// most.
	const query = `INSERT INTO limits AS l (key, times, at, ok) VALUES ($1, ARRAY[` + microseconds + `]::text, ` + microseconds + `, 1)
		ON CONFLICT (key) DO UPDATE SET (times, at, ok) = (
			SELECT CASE WHEN cardinality(r.recent) < $2 THEN (r.recent || r.now)::text ELSE r.recent::text END, r.now,
				CASE WHEN cardinality(r.recent) < $2 THEN 1 ELSE 0 END
			FROM (SELECT c.now, ARRAY(SELECT t FROM unnest(l.times::bigint[]) t WHERE t > c.now - 1000000 AND t <= c.now + 1000000) recent
				FROM (SELECT ` + microseconds + ` AS now OFFSET 0) c OFFSET 0) r)
		RETURNING ok`
	var ok int
	// Where a session was ended and this is repeated, the call may count twice within its second.
	err := s.onLive(ctx, s.write, func() error { return single(ctx, s.write.QueryRowContext(ctx, query, key, limit).Scan(&ok)) })
	if err != nil {
		return false, fmt.Errorf("counting the calls of a second: %w", s.outage(err))
	}
	return ok == 1, nil
}

// AllowTimes notes a call of a key and reports whether it is one of at most limit, counted over all
// nodes. The key names the span of time that is limited, of a minute at most: see ForgetLimits. A
// refused call is not counted. Only for a Shared store.
func (s *Store) AllowTimes(ctx context.Context, key string, limit int) (bool, error) {
	const query = `INSERT INTO limits AS l (key, times, at, ok) VALUES ($1, '{}', ` + microseconds + `, 1)
		ON CONFLICT (key) DO UPDATE SET (at, ok) = (excluded.at, l.ok + 1) WHERE l.ok < $2 RETURNING ok`
	var n int
	err := s.onLive(ctx, s.write, func() error { return single(ctx, s.write.QueryRowContext(ctx, query, key, limit).Scan(&n)) })
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("counting the calls of a minute: %w", s.outage(err))
	}
	return true, nil
}

const microseconds = `(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint`

// ForgetLimits removes rows that no limit needs any more, so that quiet accounts take no room.
func (s *Store) ForgetLimits(ctx context.Context) error {
	return s.update(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, `DELETE FROM limits WHERE at < `+microseconds+` - $1`, time.Minute.Microseconds())
		return err
	})
}

// ClearLimits forgets the calls of some accounts, or of all where none is named. Keys are those of the API ("wx1 /path")
// and of its minutes ("minute 1: wx1 /path").
func (s *Store) ClearLimits(ctx context.Context, appids ...string) error {
	if !s.Shared() {
		return nil
	}
	return s.update(ctx, func(tx *Tx) error {
		if len(appids) == 0 {
			_, err := tx.exec(ctx, `DELETE FROM limits`)
			return err
		}
		for _, appid := range appids {
			if _, err := tx.exec(ctx, `DELETE FROM limits WHERE split_part(key, ' ', 1) = $1 OR split_part(key, ' ', 3) = $1`,
				appid); err != nil {
				return err
			}
		}
		return nil
	})
}

// AdvanceLimits makes the calls of a second older by d.
func (s *Store) AdvanceLimits(ctx context.Context, d time.Duration) error {
	if !s.Shared() || d <= 0 {
		return nil
	}
	return s.update(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, `UPDATE limits SET times = (SELECT ARRAY(SELECT t - $1::bigint FROM unnest(times::bigint[]) t)::text)`,
			d.Microseconds())
		return err
	})
}

// unlog makes the table of limits unlogged, so that no call waits for the disk.
func (t *Tx) unlog(ctx context.Context) error {
	// One process at a time. A process that finds it done needs no right to do it.
	if err := t.lock(ctx, "limits unlogged", ""); err != nil {
		return err
	}
	var logged bool
	if err := t.row(ctx, `SELECT relpersistence = 'p' FROM pg_class WHERE oid = 'limits'::regclass`).Scan(&logged); err != nil || !logged {
		return err
	}
	_, err := t.exec(ctx, `ALTER TABLE limits SET UNLOGGED`)
	return err
}
