package store

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// RateLimits counts calls over all nodes.
type RateLimits struct{ *Store }

// RateLimits returns the counted calls of the store.
func (s *Store) RateLimits() RateLimits { return RateLimits{s} }

// Allow records a call for a key and reports whether the number of calls is within the limit per second, counted over all nodes by
// the clock of the database. Rejected calls are not counted. The database row of a key stores up to limit timestamps, one per
// allowed call, so Allow is for small limits. Allow works only on a shared store (PostgreSQL).
func (s RateLimits) Allow(ctx context.Context, key string, limit int) (bool, error) {
	allowed, err := s.count(ctx, allow, key, limit)
	if err != nil {
		return false, fmt.Errorf("counting the calls of a second: %w", err)
	}
	return allowed == 1, nil
}

// count runs a statement that counts a call, and returns the value of the column allowed; 0 = the statement changed no row. If a session is
// lost and the statement is repeated, the call may count twice.
func (s RateLimits) count(ctx context.Context, query, key string, limit int) (allowed int, err error) {
	err = s.onLive(ctx, s.write, func() error { return single(ctx, s.write.QueryRowContext(ctx, query, key, limit).Scan(&allowed)) })
	return allowed, s.outage(replaceNoRows(err, nil))
}

const (
	// A call reads the clock after it has waited for the row lock, so the timestamps in a row are in order. Timestamps up to one second in
	// the future count as recent. Timestamps further in the future, stored before the clock was set back, do not count.
	allow = `INSERT INTO rate_limits AS l (key, call_times, last_call_at, allowed) VALUES ($1, ARRAY[` + microseconds + `]::text, ` + microseconds + `, 1)
		ON CONFLICT (key) DO UPDATE SET (call_times, last_call_at, allowed) = (
			SELECT CASE WHEN cardinality(r.recent) < $2 THEN (r.recent || r.now)::text ELSE r.recent::text END, r.now,
				CASE WHEN cardinality(r.recent) < $2 THEN 1 ELSE 0 END
			FROM (SELECT c.now, ARRAY(SELECT t FROM unnest(l.call_times::bigint[]) t WHERE t > c.now - 1000000 AND t <= c.now + 1000000) recent
				FROM (SELECT ` + microseconds + ` AS now OFFSET 0) c OFFSET 0) r)
		RETURNING allowed`
)

// AllowTimes records a call for a key and reports whether the number of calls is within the limit, counted over all nodes. The key contains
// the period for which the limit applies, at most a minute, because Forget deletes rows without a call in the last minute. Rejected calls
// are not counted. AllowTimes works only on a shared store (PostgreSQL).
func (s RateLimits) AllowTimes(ctx context.Context, key string, limit int) (bool, error) {
	const query = `INSERT INTO rate_limits AS l (key, call_times, last_call_at, allowed) VALUES ($1, '{}', ` + microseconds + `, 1)
		ON CONFLICT (key) DO UPDATE SET (last_call_at, allowed) = (excluded.last_call_at, l.allowed + 1) WHERE l.allowed < $2 RETURNING allowed`
	allowed, err := s.count(ctx, query, key, limit)
	if err != nil {
		return false, fmt.Errorf("counting the calls of a minute: %w", err)
	}
	return allowed > 0, nil
}

const microseconds = `(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint`

// Forget deletes expired rows of limits, so that idle accounts use no space.
func (s RateLimits) Forget(ctx context.Context) error {
	return execute(ctx, s.Store, `DELETE FROM rate_limits WHERE last_call_at < `+microseconds+` - $1`, time.Minute.Microseconds())
}

// Clear deletes the recorded calls of the given accounts, or of all accounts if none is given. Keys have the form "wx1 /path"
// for calls per second and "minute 1: wx1 /path" for calls per minute.
func (s RateLimits) Clear(ctx context.Context, appids ...string) error {
	if !s.Shared() {
		return nil
	}
	return s.update(ctx, func(tx *Tx) error {
		if len(appids) == 0 {
			return tx.run(ctx, `DELETE FROM rate_limits`)
		}
		return forEach(slices.Values(appids), func(appid string) error {
			return tx.run(ctx, `DELETE FROM rate_limits WHERE split_part(key, ' ', 1) = $1 OR split_part(key, ' ', 3) = $1`, appid)
		})
	})
}

// Advance moves the recorded timestamps, which only the per-second limits store, back by d.
func (s RateLimits) Advance(ctx context.Context, d time.Duration) error {
	if !s.Shared() || d <= 0 {
		return nil
	}
	return execute(ctx, s.Store, `UPDATE rate_limits
		SET call_times = (SELECT ARRAY(SELECT t - $1::bigint FROM unnest(call_times::bigint[]) t)::text)`,
		d.Microseconds())
}

// unlogLimits makes the table of limits unlogged on PostgreSQL, so that calls do not wait for the disk.
func (s *Store) unlogLimits(ctx context.Context) error {
	if s.engine.name != "postgres" {
		return nil
	}
	err := s.update(ctx, func(t *Tx) error {
		return t.runIf(ctx, "limits unlogged", `ALTER TABLE rate_limits SET UNLOGGED`,
			`SELECT relpersistence = 'p' FROM pg_class WHERE oid = 'rate_limits'::regclass`)
	})
	if err != nil {
		return fmt.Errorf("making the rate limit table unlogged: %w", err)
	}
	return nil
}
