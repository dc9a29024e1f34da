package apiusage

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// PerDay is the default daily limit of an account's calls to an interface. Contract: rules 3.1 (the live sample).
const PerDay = 500_000

// remembered is the retention of a count in days: more than a month, because the clears of a month are stored under its first day.
const remembered = 62

// batch is the number of rows written in one transaction.
const batch = 1000

// meter holds the calls that are not written yet.
type meter struct {
	// writing is held by who moves counts between memory and store, and shared
	// by who adds up both: no call is seen twice or not at all.
	writing sync.RWMutex

	mu     sync.Mutex // guards what follows; never held while the store works
	counts map[key]*count
	dirty  map[key]struct{} // those with calls that are not written
	day    int64            // of the latest tidying
}

type key struct {
	appid, path string
	day         int64
}

// count is one account's calls to one interface on one day.
type count struct {
	stored  int // in the store, all processes together, as of the last look
	pending int // made here since then
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

// doubt forgets what the store has of the counts, where a change of them failed that may have happened nevertheless. Calls
// that are not written yet are only here: with them the store says anew what it has.
func (m *meter) doubt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.counts, func(_ key, c *count) bool { return c.pending == 0 })
}

func (m *meter) forget() {
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

// Limit returns the daily limit of an account's calls to an interface.
func (b *Book) Limit(path string) int {
	s := b.Settings.Get()
	if limit, ok := b.Exact[path]; ok {
		return limit(s)
	}
	if n, ok := s.DailyLimits[path]; ok {
		return n
	}
	return PerDay
}

// Spend counts one call of an account to an interface; 45009 when the day's are
// used up, and such a call counts for nothing. It reads the store at the first
// call of a day and before it refuses one: another process may have cleared.
func (b *Book) Spend(ctx context.Context, appid, path string) error {
	if _, ok := b.Exact[path]; ok {
		return nil
	}
	s, limit, m := b.Settings.Get(), b.Limit(path), &b.meter
	k := key{appid, path, s.Day(b.Now())}
	for looked := false; ; looked = true {
		m.mu.Lock()
		row := behaviour.WireRateDay
		c, known := m.counts[k]
		if known {
			row = s.Exceeds(ctx, c.stored+c.pending+1, limit, PerDay, row)
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
		if _, err := b.look(ctx, k); err != nil {
			return err
		}
	}
}

// look reads what all processes have written and adds what this one has not.
func (b *Book) look(ctx context.Context, k key) (int, error) {
	m := &b.meter
	m.writing.RLock()
	defer m.writing.RUnlock()
	var stored int
	err := b.Store.ViewCalls(ctx, func(tx Tx) (err error) {
		stored, err = tx.Count(ctx, k.appid, k.path, k.day)
		return err
	})
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.counter(k)
	c.stored = stored
	return stored + c.pending, nil
}

// Quota is an account's limit and use of an interface today.
type Quota struct {
	Limit, Used int
}

// Quota counts the calls of all processes, those of the others as of their last
// write. A process that is alone has counted all that there are.
func (b *Book) Quota(ctx context.Context, appid, path string) (q Quota, err error) {
	k := key{appid, path, b.Settings.Get().Day(b.Now())}
	q.Limit = b.Limit(path)
	if _, isElsewhere := b.Exact[path]; b.Alone && !isElsewhere {
		b.meter.mu.Lock()
		c, known := b.meter.counts[k]
		if known {
			q.Used = c.stored + c.pending
		}
		b.meter.mu.Unlock()
		if known {
			return q, nil
		}
	}
	q.Used, err = b.look(ctx, k)
	return q, err
}

func (b *Book) flushCounts(ctx context.Context) error {
	for {
		hasMore, err := b.flushSome(ctx)
		if err != nil || !hasMore {
			return err
		}
	}
}

type delta struct {
	key
	n int
}

// flushSome writes one batch and reports whether there is more.
func (b *Book) flushSome(ctx context.Context) (hasMore bool, err error) {
	m := &b.meter
	m.writing.Lock()
	defer m.writing.Unlock()
	deltas, tidy := b.deltas()
	forget := tidy != 0 && b.mayForget()
	if len(deltas) == 0 && tidy == 0 {
		return false, nil
	}
	sums := make([]int, len(deltas))
	err = b.Store.UpdateCalls(ctx, func(tx Tx) (err error) {
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

// deltas returns the calls to write, in one order for all processes, so that none
// waits for another in a circle; tidy is the day if it is a new one.
func (b *Book) deltas() (deltas []delta, tidy int64) {
	m := &b.meter
	today := b.Settings.Get().Day(b.Now())
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

// ClearsPerMonth is the number of times per calendar month that an account's counts may be cleared, all ways together. Contract:
// rules 3.1.
const ClearsPerMonth = 10

// clears is the name under which the clears of a month are counted, at its first day.
const clears = "clears of the month"

// Clear sets an account's counts of today to 0, of one interface or, where path
// is "", of all. 48006 above ten a calendar month; only a success counts.
func (b *Book) Clear(ctx context.Context, appid, path string) error {
	paths := b.Interfaces
	if path != "" {
		paths = []string{path}
	}
	s, now, m := b.Settings.Get(), b.Now(), &b.meter
	today, month := s.Day(now), s.Day(s.MonthStart(now))
	// A call that was counted before the clear must not be written after it.
	m.writing.Lock()
	defer m.writing.Unlock()
	err := b.Store.UpdateCalls(ctx, func(tx Tx) error {
		n, err := tx.AddCounts(ctx, appid, clears, month, 1) // others wait here
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
