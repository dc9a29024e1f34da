package store

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestStoreLimit_PerSecondAcrossNodes calls Allow concurrently on two nodes. No interval of a second has more allowed calls than the limit,
// by the times that the database records.
func TestStoreLimit_PerSecondAcrossNodes(t *testing.T) {
	target := newPostgres(t)
	nodes := [2]*Store{open(t, target), open(t, target)}
	const limit, callers, each = 5, 8, 40
	unlogged := queryInt(t, nodes[0], `SELECT COUNT(*) FROM pg_class WHERE oid = 'rate_limits'::regclass AND relpersistence = 'u'`)
	check(t, "unlogged tables", unlogged, 1)
	mustExec(t, nodes[0], `CREATE TABLE allowed (last_call_at BIGINT NOT NULL)`)
	mustExec(t, nodes[0], `CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN IF NEW.allowed = 1 THEN INSERT INTO allowed VALUES (NEW.last_call_at); END IF; RETURN NEW; END'`)
	mustExec(t, nodes[0], `CREATE TRIGGER note AFTER INSERT OR UPDATE ON rate_limits FOR EACH ROW EXECUTE FUNCTION note()`)
	var mu sync.Mutex
	passed := 0
	errs := race(callers, func(i int) error {
		for range each {
			ok, err := nodes[i%2].RateLimits().Allow(t.Context(), "wxa /cgi-bin/x", limit)
			if err != nil {
				return err
			}
			if ok {
				mu.Lock()
				passed++
				mu.Unlock()
			}
		}
		return nil
	})
	countSuccesses(t, errs, nil)
	times := queryColumn[int64](t, nodes[0], `SELECT last_call_at FROM allowed ORDER BY last_call_at`)
	check(t, "recorded calls", len(times), passed)
	assert.True(t, passed >= limit, "%d of %d calls are allowed, want at least %d", passed, callers*each, limit)
	for i := limit; i < len(times); i++ {
		assert.True(t, times[i]-times[i-limit] >= time.Second.Microseconds(),
			"%d calls are allowed within a second: %v", limit+1, times[i-limit:i+1])
	}
	ok, err := nodes[1].RateLimits().Allow(t.Context(), "other", 1)
	assert.True(t, err == nil && ok, "Allow() of another key = %v, %v, want true", ok, err)
	// As if all calls were a second ago.
	mustExec(t, nodes[0], `UPDATE rate_limits SET allowed = 0,
		call_times = (SELECT ARRAY(SELECT t - 1000000 FROM unnest(call_times::bigint[]) t)::text)`)
	for i := range limit {
		ok, err := nodes[i%2].RateLimits().Allow(t.Context(), "wxa /cgi-bin/x", limit)
		assert.True(t, err == nil && ok, "Allow() a second later = %v, %v, want true", ok, err)
	}
}

// TestStoreLimit_WindowAcrossNodes calls AllowTimes concurrently on two nodes. Exactly limit calls are allowed in each window.
func TestStoreLimit_WindowAcrossNodes(t *testing.T) {
	target := newPostgres(t)
	nodes := [2]*Store{open(t, target), open(t, target)}
	const limit = 50
	for _, window := range []string{"minute 1", "minute 2"} {
		var passed atomic.Int64
		errs := race(8, func(i int) error {
			for range limit {
				ok, err := nodes[i%2].RateLimits().AllowTimes(t.Context(), window, limit)
				if err != nil {
					return err
				}
				if ok {
					passed.Add(1)
				}
			}
			return nil
		})
		countSuccesses(t, errs, nil)
		check(t, window, passed.Load(), limit)
	}
}

// TestStoreLimit_ClockSetBack verifies that calls are allowed if the recorded times are in the future, after the clock is set back.
func TestStoreLimit_ClockSetBack(t *testing.T) {
	s := open(t, newPostgres(t))
	for range 3 {
		require.NoError(t, assert.ErrorOf(s.RateLimits().Allow(t.Context(), "k", 3)))
	}
	mustExec(t, s, `UPDATE rate_limits SET call_times = (SELECT ARRAY(SELECT t + 3600000000 FROM unnest(call_times::bigint[]) t)::text)`)
	ok, err := s.RateLimits().Allow(t.Context(), "k", 3)
	assert.True(t, err == nil && ok, "Allow() = %v, %v, want true", ok, err)
	mustExec(t, s, `UPDATE rate_limits SET last_call_at = last_call_at - 120000000`)
	require.NoError(t, s.RateLimits().Forget(t.Context()))
	check(t, "rows", queryInt(t, s, `SELECT COUNT(*) FROM rate_limits`), 0)
}
