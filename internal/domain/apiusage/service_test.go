package apiusage_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// memory is an in-memory store that can fail or block. Package store tests the real stores.
type memory struct {
	mu         sync.Mutex
	counts     map[string]int
	blocks     []apiusage.Block
	calls      []apiusage.Call // of all blocks
	deviations []apiusage.Deviation
	cleared    []string // paths of the cleared counts
	writes     int
	err        error         // of writes that fail
	lost       error         // of writes that succeed although they return an error
	block      chan struct{} // writes block until it is closed, unless nil
	written    chan int      // receives the total number of calls with every write, unless nil
}

func (m *memory) Update(ctx context.Context, f func(apiusage.Tx) error) error {
	if m.block != nil {
		select {
		case <-m.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.writes++
	err := cmp.Or(f(m), m.lost)
	if m.written != nil {
		m.written <- len(m.calls)
	}
	return err
}

func (m *memory) View(_ context.Context, f func(apiusage.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return f(m)
}

func (m *memory) Count(_ context.Context, appid, path string, day int64) (int, error) {
	return m.counts[fmt.Sprint(appid, path, day)], nil
}

func (m *memory) AddCounts(_ context.Context, appid, path string, day int64, n int) (int, error) {
	key := fmt.Sprint(appid, path, day)
	m.counts[key] += n
	return m.counts[key], nil
}

func (m *memory) ClearCount(_ context.Context, appid, path string, day int64) error {
	m.cleared = append(m.cleared, path)
	delete(m.counts, fmt.Sprint(appid, path, day))
	return nil
}

func (m *memory) ForgetCounts(context.Context, int64) error { return nil }

func (m *memory) Calls(_ context.Context, second int64) (blocks []apiusage.Block, err error) {
	for _, b := range m.blocks {
		if b.Second == second {
			blocks = append(blocks, b)
		}
	}
	return blocks, nil
}

func (m *memory) Call(context.Context, string) (apiusage.Call, error) {
	return apiusage.Call{}, apiusage.ErrNoCall
}

func (m *memory) AddCalls(_ context.Context, blocks []apiusage.Block) (int64, error) {
	m.blocks = append(m.blocks, blocks...)
	for _, b := range blocks {
		for line := range strings.Lines(b.Text) {
			var c apiusage.Call
			if err := json.Unmarshal([]byte(line), &c); err != nil {
				return 0, err
			}
			m.calls = append(m.calls, c)
		}
	}
	return int64(len(m.calls)), nil
}

func (m *memory) NewestCalls(context.Context, int64, int) ([]apiusage.Block, error) { return nil, nil }

func (m *memory) AddDeviations(_ context.Context, list []apiusage.Deviation) error {
	m.deviations = append(m.deviations, list...)
	return nil
}

func (m *memory) Deviations(context.Context, string, int) ([]apiusage.Deviation, error) {
	return m.deviations, nil
}

func (m *memory) ForgetDeviations(context.Context, string) error {
	m.deviations = nil
	return nil
}

func (m *memory) ForgetCalls(context.Context, int64, int64, int) error { return nil }

var now = time.Date(2026, 1, 15, 10, 0, 0, 0, time.FixedZone("", 8*3600))

func newService() (*apiusage.Service, *memory) {
	m := &memory{counts: map[string]int{}}
	return &apiusage.Service{Store: m, Settings: settings.NewLive(settings.Defaults()), Now: func() time.Time { return now },
		Log: slog.New(slog.DiscardHandler), Interfaces: []string{"/b", "/a"}}, m
}

// rid returns a request ID of the current second.
func rid(n int) string { return fmt.Sprintf("%08x-%08x-00000000", now.Unix(), n) }

func record(b *apiusage.Service, from, to int) {
	for n := from; n < to; n++ {
		b.Record(apiusage.Call{RID: rid(n), Account: "wxa"})
	}
}

func used(t *testing.T, b *apiusage.Service, path string) int {
	t.Helper()
	q := require.Value(b.Quota(t.Context(), "wxa", path))(t)
	return q.Used
}

func TestBook_CountWithoutWrite(t *testing.T) {
	b, m := newService()
	for range 1000 {
		require.NoError(t, b.Spend(t.Context(), "wxa", "/a"))
	}
	record(b, 0, 500)
	assert.Equal(t, m.writes, 0, "writes before Flush()")
	assert.Equal(t, used(t, b, "/a"), 1000, "used quota before Flush()")
	require.NoError(t, b.Flush(t.Context()))
	assert.True(t, m.writes == 2 && len(m.calls) == 500 && len(m.blocks) == 1,
		"%d writes, %d calls in %d blocks, want 2, 500, 1", m.writes, len(m.calls), len(m.blocks))
	err := b.Flush(t.Context())
	assert.True(t, err == nil && m.writes == 2, "%d writes after a Flush() without changes, %v, want 2", m.writes, err)
	assert.Equal(t, used(t, b, "/a"), 1000, "used quota after Flush()")
}

// countingStore counts its read transactions.
type countingStore struct {
	*memory
	views int
}

func (s *countingStore) View(ctx context.Context, f func(apiusage.Tx) error) error {
	s.views++
	return s.memory.View(ctx, f)
}

// TestBook_QuotaReadOnceBySingleNode verifies that a single node reads a count once, and that a count that other nodes or transactions
// change is read for each query.
func TestBook_QuotaReadOnceBySingleNode(t *testing.T) {
	for _, single := range []bool{true, false} {
		b, m := newService()
		s := &countingStore{memory: m}
		b.Store, b.SingleNode = s, single
		b.Exact = map[string]func(settings.Settings) int{"/exact": func(settings.Settings) int { return 9 }}
		checkQuota := func(name, path string, want, used int) {
			t.Helper()
			before := s.views
			q, err := b.Quota(t.Context(), "wxa", path)
			assert.True(t, err == nil && q.Used == used && s.views-before == want,
				"single node %t, %s of %s: %d used, %v after %d reads, want %d after %d", single, name, path, q.Used, err, s.views-before,
				used, want)
		}
		later := 1
		if single {
			later = 0
		}
		checkQuota("first query", "/a", 1, 0)
		checkQuota("second query", "/a", later, 0)
		require.NoError(t, b.Spend(t.Context(), "wxa", "/a"))
		checkQuota("query after a call", "/a", later, 1)
		require.NoError(t, b.Flush(t.Context()))
		checkQuota("query after a write", "/a", later, 1)
		require.NoError(t, b.Clear(t.Context(), "wxa", "/a"))
		checkQuota("query after a clear", "/a", 1, 0)
		checkQuota("first query", "/exact", 1, 0)
		checkQuota("second query", "/exact", 1, 0)
	}
}

// TestBook_FailedWriteRetried verifies that a failed write loses neither counts nor logged calls.
func TestBook_FailedWriteRetried(t *testing.T) {
	b, m := newService()
	spend := func(n int) {
		for range n {
			require.NoError(t, b.Spend(t.Context(), "wxa", "/a"))
		}
	}
	m.err = errors.New("the disk is full")
	spend(5)
	record(b, 0, 5)
	assert.ErrorIs(t, b.Flush(t.Context()), m.err, "Flush()")
	spend(5)
	record(b, 5, 10)
	assert.Equal(t, used(t, b, "/a"), 10, "used quota while writes fail")
	c, err := b.Find(t.Context(), "wxa", rid(3))
	assert.True(t, err == nil && c.RID == rid(3), "Find() of a pending call = %+v, %v, want %s", c, err, rid(3))
	m.err = nil
	require.NoError(t, b.Flush(t.Context()))
	got := used(t, b, "/a")
	assert.True(t, got == 10 && len(m.calls) == 10 && b.Waiting() == 0 && b.Dropped() == 0,
		"%d used, %d logged, %d waiting, %d dropped, want 10, 10, 0, 0", got, len(m.calls), b.Waiting(), b.Dropped())
}

// TestBook_QueueFullDropsOldest verifies that Record does not block on a slow store: the oldest waiting calls are dropped and counted.
func TestBook_QueueFullDropsOldest(t *testing.T) {
	const capacity = 10_000
	b, m := newService()
	m.block = make(chan struct{})
	done := make(chan error)
	record(b, 0, 10)
	go func() { done <- b.Flush(context.Background()) }()
	record(b, 10, capacity+25)
	assert.True(t, b.Waiting() == capacity && b.Dropped() == 25, "%d waiting, %d dropped, want %d, 25", b.Waiting(), b.Dropped(), capacity)
	close(m.block)
	require.NoError(t, <-done)
	require.NoError(t, b.Flush(t.Context()))
	// Calls that were being written when they were dropped from the queue may be in the log.
	have := map[string]bool{}
	for _, c := range m.calls {
		assert.True(t, !have[c.RID], "call %s is written twice, want once", c.RID)
		have[c.RID] = true
	}
	for n := 25; n < capacity+25; n++ {
		require.True(t, have[rid(n)], "call %d is missing from the log", n)
	}
	assert.Equal(t, b.Waiting(), 0, "waiting calls after Flush()")
}

// TestBook_DailyLimitExact verifies that concurrent calls and writes never exceed the daily limit, and use it completely.
func TestBook_DailyLimitExact(t *testing.T) {
	b, _ := newService()
	s := settings.Defaults()
	s.DailyLimits = settings.Limits{"/a": 777}
	b.Settings.Set(s)
	var clients sync.WaitGroup
	var allowed atomic.Int64
	for i := range 32 {
		clients.Go(func() {
			for n := range 50 {
				err := b.Spend(context.Background(), "wxa", "/a")
				switch {
				case err == nil:
					allowed.Add(1)
				case !errors.Is(err, errcode.DailyLimit):
					t.Error(err)
				}
				if n%16 == i%16 {
					assert.NoError(t, b.Flush(context.Background()))
				}
			}
		})
	}
	clients.Wait()
	assert.True(t, allowed.Load() == 777 && used(t, b, "/a") == 777, "%d allowed, %d used, want 777", allowed.Load(), used(t, b, "/a"))
}

// TestBook_ClearDuringCounts verifies that the next write does not restore counts from before a clear, and that later calls count.
func TestBook_ClearDuringCounts(t *testing.T) {
	b, m := newService()
	for range 3 {
		for _, path := range []string{"/a", "/b"} {
			require.NoError(t, b.Spend(t.Context(), "wxa", path))
		}
		if used(t, b, "/b")%2 == 0 {
			require.NoError(t, b.Flush(t.Context()))
		}
	}
	require.NoError(t, b.Clear(t.Context(), "wxa", "/a"))
	require.NoError(t, b.Spend(t.Context(), "wxa", "/a"))
	for range 2 {
		a, other := used(t, b, "/a"), used(t, b, "/b")
		assert.True(t, a == 1 && other == 3, "used quota after the clear = %d and %d, want 1 and 3", a, other)
		require.NoError(t, b.Flush(t.Context()))
	}
	m.cleared = nil
	require.NoError(t, b.Clear(t.Context(), "wxa", ""))
	assert.Equal(t, fmt.Sprint(m.cleared), "[/a /b]", "cleared counts, in the order in which Flush adds to them")
	require.NoError(t, b.Reset(func() error {
		clear(m.counts)
		return nil
	}))
	assert.True(t, used(t, b, "/a") == 0 && used(t, b, "/b") == 0, "quota is used after a reset")
}

// TestBook_ClearWithLostResponse verifies that counts are read again after a clear or reset whose result is unknown.
func TestBook_ClearWithLostResponse(t *testing.T) {
	b, m := newService()
	b.SingleNode = true
	for name, run := range map[string]func() error{
		"clear": func() error { return b.Clear(t.Context(), "wxa", "/a") },
		"reset": func() error {
			return b.Reset(func() error {
				clear(m.counts)
				return m.lost
			})
		},
	} {
		require.NoError(t, b.Spend(t.Context(), "wxa", "/a"))
		require.NoError(t, b.Flush(t.Context()))
		require.Equal(t, used(t, b, "/a"), 1, "used quota before the %s", name)
		m.lost = errors.New("the answer is lost")
		require.ErrorIs(t, run(), m.lost, "%s", name)
		m.lost = nil
		assert.Equal(t, used(t, b, "/a"), 0, "used quota after a %s with a lost result", name)
	}
}

// TestBookRun_WritesWithinWindow verifies that Run writes calls within the window, and many calls immediately. Calls after its end are
// written by Flush.
func TestBookRun_WritesWithinWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newService()
		m.written = make(chan int)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			b.Run(ctx)
			close(done)
		}()
		for n := range 3 {
			began := time.Now()
			record(b, n, n+1)
			<-m.written
			waited := time.Since(began)
			assert.True(t, waited <= apiusage.Window, "a call was written after %s, want at most %s", waited, apiusage.Window)
			synctest.Wait() // for the end of this write
		}
		// Many calls are written immediately.
		began := time.Now()
		record(b, 3, 3000)
		written := <-m.written
		assert.Equal(t, time.Since(began), 0, "delay of many calls")
		for written < 3000 { // calls that were recorded during that write
			written = <-m.written
		}
		synctest.Wait()
		m.written = nil
		stop()
		<-done
		record(b, 3000, 3001)
		err := b.Flush(context.Background())
		assert.True(t, err == nil && len(m.calls) == 3001, "%d calls in the log, %v, want 3001", len(m.calls), err)
	})
}

// TestBook_InvalidTextIsolated verifies that texts that a database rejects are replaced, so that they do not block the log.
func TestBook_InvalidTextIsolated(t *testing.T) {
	b, m := newService()
	b.Record(apiusage.Call{RID: rid(1), Request: "a\x00b\xff", Response: string(make([]byte, 2*apiusage.MaxText)), Query: "\xed\xa0\x80"})
	require.NoError(t, b.Flush(t.Context()))
	c := m.calls[0]
	assert.True(t, c.Request == "a\uFFFDb\uFFFD" && len(c.Response) <= 4*apiusage.MaxText && c.Query == "\uFFFD",
		"call = %.80q %.80q %q, want valid and bounded texts", c.Request, c.Response, c.Query)
}

// TestBook_InvalidTimeIsolated verifies that a call with a time that JSON cannot represent does not block the log.
func TestBook_InvalidTimeIsolated(t *testing.T) {
	b, m := newService()
	b.Record(apiusage.Call{RID: rid(1), OccurredAt: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)})
	record(b, 2, 3)
	err := b.Flush(t.Context())
	assert.True(t, err == nil && len(m.calls) == 2, "%d calls in the log, %v, want 2", len(m.calls), err)
}

// Contract: rules 3.1: seven days by the second in the request id.
func TestBook_RequestIDRetention(t *testing.T) {
	b, _ := newService()
	current := now
	b.Now = func() time.Time { return current }
	record(b, 1, 2)
	for _, c := range []struct {
		since time.Duration
		want  error
	}{
		{0, nil}, {apiusage.Retention - time.Second, nil}, {apiusage.Retention, nil}, {apiusage.Retention + 1, errcode.RIDTooOld},
		{apiusage.Retention + time.Second, errcode.RIDTooOld}, {-time.Hour, nil},
	} {
		current = now.Add(c.since)
		assert.ErrorIs(t, assert.ErrorOf(b.Find(t.Context(), "wxa", rid(1))), c.want, "Find() after %s", c.since)
	}
}
