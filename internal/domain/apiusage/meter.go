package apiusage

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/ratelimit"
)

// PerDay is the default daily limit of calls of an account to one API path. Contract: rules §3.1 (a sample of a real response).
const PerDay = 500_000

// remembered is the retention of a count in days. The retention exceeds a month: a month's quota resets are stored under its first day.
const remembered = 62

// batch is the number of rows written in one transaction.
const batch = 1000

// meter holds the call counts that are not written to the store yet.
type meter struct {
	// writing is locked while counts move from memory to the store, and read-locked while a count in memory and a count in the store are
	// added. The sum of the two counts thus contains each call exactly once.
	writing sync.RWMutex

	mu     sync.Mutex // guards the following fields; never held during a store operation
	counts map[key]*count
	dirty  map[key]struct{} // keys with counts that are not written yet
	day    int64            // day of the last deletion of old counts
}

type key struct {
	appid, path string
	day         int64
}

// count is the number of calls of one account to one API path on one day.
type count struct {
	stored  int // count in the store, of all processes, when it was last read
	pending int // calls of this process that are not written to the store yet
}

func (m *meter) counter(k key) *count {
	if m.counts == nil {
		m.counts, m.dirty = map[key]*count{}, map[key]struct{}{}
	}
	c := m.counts[k]
	if c == nil {
		c = &count{}
		m.counts[k] = c
	}
	return c
}

// doubt is called after a failed write, which may have changed the store nevertheless: it discards the counts read from the store. A count
// that includes unwritten calls is kept, because these calls exist only in memory; the next write returns the stored count.
func (m *meter) doubt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.counts, func(_ key, c *count) bool { return c.pending == 0 })
}

func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts, m.dirty, m.day = nil, nil, 0
}

func (m *meter) forgetOf(appids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.counts, func(k key, _ *count) bool { return slices.Contains(appids, k.appid) })
	maps.DeleteFunc(m.dirty, func(k key, _ struct{}) bool { return slices.Contains(appids, k.appid) })
}

// Limit returns the daily limit of an account's calls to an API path.
func (s *Service) Limit(path string) int {
	conf := s.Settings.Get()
	if limit, ok := s.Exact[path]; ok {
		return limit(conf)
	}
	if n, ok := conf.DailyLimits[path]; ok {
		return n
	}
	return PerDay
}

// Spend counts one call of an account to an API path; above the daily limit Spend returns 45009 and does not count the call. Spend reads
// the store at the first call of a day. Spend also reads the store before it rejects a call: another process may have reset the count.
func (s *Service) Spend(ctx context.Context, appid, path string) error {
	if _, ok := s.Exact[path]; ok {
		return nil
	}
	conf, limit, m := s.Settings.Get(), s.Limit(path), &s.meter
	k := key{appid, path, conf.Day(s.Now())}
	for looked := false; ; looked = true {
		m.mu.Lock()
		row := behaviour.WireRateDay
		c, known := m.counts[k]
		if known {
			row = conf.Exceeds(ctx, c.stored+c.pending+1, limit, PerDay, row)
		}
		if row == behaviour.NoRow {
			c.pending++
			m.dirty[k] = struct{}{}
			m.mu.Unlock()
			return nil
		}
		m.mu.Unlock()
		if looked {
			return errcode.DailyLimit.WithDetail(row, "%s called %s %d times today", appid, path, limit)
		}
		if _, err := s.totalCount(ctx, k); err != nil {
			return err
		}
	}
}

// totalCount returns the count in the store plus the calls that this process has not written yet.
func (s *Service) totalCount(ctx context.Context, k key) (int, error) {
	m := &s.meter
	m.writing.RLock()
	defer m.writing.RUnlock()
	stored, err := accounts.Transact(ctx, s.Store.View, func(tx Tx) (int, error) { return tx.Count(ctx, k.appid, k.path, k.day) })
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.counter(k)
	c.stored = stored
	return stored + c.pending, nil
}

// Quota is an account's daily limit for an API path and the number of calls today.
type Quota struct {
	Limit, Used int
}

// Quota counts the calls of all processes; calls of other processes are included as of their last write. If only one process uses the
// store, this process has counted all calls itself.
func (s *Service) Quota(ctx context.Context, appid, path string) (q Quota, err error) {
	k := key{appid, path, s.Settings.Get().Day(s.Now())}
	q.Limit = s.Limit(path)
	if _, isElsewhere := s.Exact[path]; s.SingleNode && !isElsewhere {
		s.meter.mu.Lock()
		c, known := s.meter.counts[k]
		if known {
			q.Used = c.stored + c.pending
		}
		s.meter.mu.Unlock()
		if known {
			return q, nil
		}
	}
	q.Used, err = s.totalCount(ctx, k)
	return q, err
}

func (s *Service) flushCounts(ctx context.Context) error {
	for {
		hasMore, err := s.flushSome(ctx)
		if err != nil || !hasMore {
			return err
		}
	}
}

type delta struct {
	key
	n int
}

// flushSome writes one batch and reports whether more counts are waiting.
func (s *Service) flushSome(ctx context.Context) (hasMore bool, err error) {
	m := &s.meter
	m.writing.Lock()
	defer m.writing.Unlock()
	deltas, tidy := s.deltas()
	forget := tidy != 0 && s.mayForget()
	if len(deltas) == 0 && tidy == 0 {
		return false, nil
	}
	sums := make([]int, len(deltas))
	err = s.Store.Update(ctx, func(tx Tx) (err error) {
		if forget {
			if err := tx.ForgetCounts(ctx, tidy-remembered); err != nil {
				return err
			}
		}
		for i, d := range deltas {
			if sums[i], err = tx.AddCounts(ctx, d.appid, d.path, d.day, d.n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, d := range deltas {
		c := m.counter(d.key)
		c.stored, c.pending = sums[i], c.pending-d.n
		if c.pending == 0 {
			delete(m.dirty, d.key)
		}
	}
	if tidy != 0 {
		m.day = tidy
		for k, c := range m.counts {
			if k.day != tidy && c.pending == 0 {
				delete(m.counts, k)
			}
		}
	}
	return len(deltas) == batch, nil
}

// deltas returns the counts to write; their order is the same in all processes, which prevents deadlocks. tidy is the current day if old
// counts must still be deleted on this day.
func (s *Service) deltas() (deltas []delta, tidy int64) {
	m := &s.meter
	today := s.Settings.Get().Day(s.Now())
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.counts) > 0 && m.day != today {
		tidy = today
	}
	for k := range m.dirty {
		deltas = append(deltas, delta{k, m.counts[k].pending})
		if len(deltas) == batch {
			break
		}
	}
	slices.SortFunc(deltas, func(a, b delta) int {
		return cmp.Or(cmp.Compare(a.appid, b.appid), cmp.Compare(a.path, b.path), cmp.Compare(a.day, b.day))
	})
	return deltas, tidy
}

// ClearsPerMonth is the maximum number of quota resets of an account per calendar month, over all kinds of reset. Contract: rules §3.1.
const ClearsPerMonth = 10

// clears is the counter name for the quota resets of a month, stored under the month's first day.
const clears = "clears of the month"

// Clear resets today's counts of an account, for one API path or, if path is "", for all paths. After ten successful resets in a calendar
// month, Clear returns 48006.
func (s *Service) Clear(ctx context.Context, appid, path string) error {
	paths := slices.Sorted(slices.Values(s.Interfaces)) // in the order of deltas, which prevents deadlocks
	if path != "" {
		paths = []string{path}
	}
	conf, now, m := s.Settings.Get(), s.Now(), &s.meter
	today, month := conf.Day(now), conf.Day(conf.MonthStart(now))
	// A call that was counted before the reset must not be written after the reset.
	m.writing.Lock()
	defer m.writing.Unlock()
	err := s.Store.Update(ctx, func(tx Tx) error {
		n, err := tx.AddCounts(ctx, appid, clears, month, 1) // concurrent resets of the account wait here
		if err != nil {
			return err
		}
		if n > ClearsPerMonth {
			return errcode.ClearLimit.WithDetail(behaviour.QuotaClears, "%s was cleared %d times this month", appid, ClearsPerMonth)
		}
		for _, p := range paths {
			if err := tx.ClearCount(ctx, appid, p, today); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		m.doubt()
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range paths {
		k := key{appid, p, today}
		delete(m.counts, k)
		delete(m.dirty, k)
	}
	return nil
}

// Minutes counts the calls of a key in the current minute. The zero value of Minutes is ready to use.
type Minutes struct {
	// Shared counts a call of a key over all nodes and reports whether the count is within limit; nil = there is only one node.
	Shared func(ctx context.Context, key string, limit int) (bool, error)

	local ratelimit.FixedWindow[string] // of this node
}

// Allow counts a call and reports whether the number of calls in the minute of now is within limit. A rejected call is not counted. If the
// calls on this node alone exceed the limit, Shared is not called.
func (m *Minutes) Allow(ctx context.Context, key string, limit int, now time.Time) (bool, error) {
	if !m.local.Allow(key, limit, now) {
		return false, nil
	}
	if m.Shared == nil {
		return true, nil
	}
	return m.Shared(ctx, fmt.Sprintf("minute %d: %s", now.Unix()/60, key), limit)
}

// Reset discards the counts of this node.
func (m *Minutes) Reset() { m.local.Forget() }
