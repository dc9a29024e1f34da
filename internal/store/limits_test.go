package store

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Many callers on two nodes: no second, wherever it begins, has more allowed
// calls than the limit. When each was allowed the database itself says.
func TestStoreLimit_PerSecondAcrossNodes(t *testing.T) {
	target := newPostgres(t)
	nodes := [2]*Store{open(t, target), open(t, target)}
	const limit, callers, each = 5, 8, 40
	want(t, "persistence", texts(t, nodes[0], `SELECT relpersistence::text FROM pg_class WHERE oid = 'rate_limits'::regclass`), []string{"u"})
	direct(t, nodes[0], `CREATE TABLE allowed (last_call_at BIGINT NOT NULL)`)
	direct(t, nodes[0],
		`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.allowed = 1 THEN INSERT INTO allowed VALUES (NEW.last_call_at); END IF; RETURN NEW; END'`)
	direct(t, nodes[0], `CREATE TRIGGER note AFTER INSERT OR UPDATE ON rate_limits FOR EACH ROW EXECUTE FUNCTION note()`)
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
	succeeded(t, errs, nil)
	times := numbers(t, nodes[0], `SELECT last_call_at FROM allowed ORDER BY last_call_at`)
	want(t, "allowed", len(times), passed)
	assert.True(t, passed >= limit, "%d calls were allowed of %d", passed, callers*each)
	for i := limit; i < len(times); i++ {
		assert.True(t, times[i]-times[i-limit] >= time.Second.Microseconds(), "%v: %d calls within a second", times[i-limit:i+1], limit+1)
	}
	ok, err := nodes[1].RateLimits().Allow(t.Context(), "other", 1)
	assert.True(t, err == nil && ok, "another key has its own limit: %v %v", ok, err)
	// As if all were a second ago.
	direct(t, nodes[0], `UPDATE rate_limits SET call_times = (SELECT ARRAY(SELECT t - 1000000 FROM unnest(call_times::bigint[]) t)::text), allowed = 0`)
	for i := range limit {
		ok, err := nodes[i%2].RateLimits().Allow(t.Context(), "wxa /cgi-bin/x", limit)
		assert.True(t, err == nil && ok, "a second later: %v %v", ok, err)
	}
}

// Many callers on two nodes: exactly the limit of a while is allowed, and the next while begins anew.
func TestStoreLimit_WindowAcrossNodes(t *testing.T) {
	target := newPostgres(t)
	nodes := [2]*Store{open(t, target), open(t, target)}
	const limit = 50
	for _, while := range []string{"minute 1", "minute 2"} {
		var passed atomic.Int64
		errs := race(8, func(i int) error {
			for range limit {
				ok, err := nodes[i%2].RateLimits().AllowTimes(t.Context(), while, limit)
				if err != nil {
					return err
				}
				if ok {
					passed.Add(1)
				}
			}
			return nil
		})
		succeeded(t, errs, nil)
		want(t, while, passed.Load(), limit)
	}
}

// numbers asks the database directly.
func numbers(t *testing.T, s *Store, query string) (list []int64) {
	t.Helper()
	rows, err := s.read.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var n int64
		require.NoError(t, rows.Scan(&n))
		list = append(list, n)
	}
	require.NoError(t, rows.Err())
	return list
}

// A clock that was set back does not lock anybody out for longer than a second.
func TestStoreLimit_ClockSetBack(t *testing.T) {
	s := open(t, newPostgres(t))
	for range 3 {
		require.NoError(t, assert.ErrorOf(s.RateLimits().Allow(t.Context(), "k", 3)))
	}
	direct(t, s, `UPDATE rate_limits SET call_times = (SELECT ARRAY(SELECT t + 3600000000 FROM unnest(call_times::bigint[]) t)::text)`)
	ok, err := s.RateLimits().Allow(t.Context(), "k", 3)
	assert.True(t, err == nil && ok, "%v %v", ok, err)
	direct(t, s, `UPDATE rate_limits SET last_call_at = last_call_at - 120000000`)
	require.NoError(t, s.RateLimits().Forget(t.Context()))
	want(t, "rows", number(t, s, `SELECT COUNT(*) FROM rate_limits`), 0)
}
