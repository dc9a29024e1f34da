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
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// memory is a store in memory that can fail or hang; package store tests the real stores.
type memory struct {
	mu         sync.Mutex
	counts     map[string]int
	blocks     []apiusage.Block
	calls      []apiusage.Call // of the blocks
	deviations []apiusage.Deviation
	writes     int
	broken     error
	lost       error         // of a write that is made nevertheless
	hang       chan struct{} // closed = no more
	wrote      chan int      // told with every write how many calls are written, unless nil
}

func (m *memory) Update(ctx context.Context, f func(apiusage.Tx) error) error {
	if m.hang != nil {
		select {
		case <-m.hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	m.writes++
	err := cmp.Or(f(m), m.lost)
	if m.wrote != nil {
		m.wrote <- len(m.calls)
	}
	return err
}

func (m *memory) View(_ context.Context, f func(apiusage.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return f(m)
}

func (m *memory) at(appid, what string, day int64) string { return fmt.Sprint(appid, what, day) }

func (m *memory) Count(_ context.Context, appid, what string, day int64) (int, error) {
	return m.counts[m.at(appid, what, day)], nil
}

func (m *memory) AddCounts(_ context.Context, appid, what string, day int64, n int) (int, error) {
	m.counts[m.at(appid, what, day)] += n
	return m.counts[m.at(appid, what, day)], nil
}

func (m *memory) ClearCount(_ context.Context, appid, what string, day int64) error {
	delete(m.counts, m.at(appid, what, day))
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

func (m *memory) ForgetDeviations(context.Context, string) error { m.deviations = nil; return nil }

func (m *memory) ForgetCalls(context.Context, int64, int64, int) error { return nil }

var now = time.Date(2026, 1, 15, 10, 0, 0, 0, time.FixedZone("", 8*3600))

func newBook() (*apiusage.Service, *memory) {
	m := &memory{counts: map[string]int{}}
	return &apiusage.Service{Store: m, Settings: settings.NewLive(settings.Defaults()), Now: func() time.Time { return now },
		Log: slog.New(slog.DiscardHandler), Interfaces: []string{"/a", "/b"}}, m
}

func rid(n int) string { return fmt.Sprintf("%08x-%08x-00000000", now.Unix(), n) }

func record(b *apiusage.Service, from, to int) {
	for n := from; n < to; n++ {
		b.Record(apiusage.Call{RID: rid(n), Account: "wxa"})
	}
}

func used(t *testing.T, b *apiusage.Service, path string) int {
	t.Helper()
	q, err := b.Quota(t.Context(), "wxa", path)
	require.NoError(t, err)
	return q.Used
}

func TestBook_CountWithoutWrite(t *testing.T) {
	b, m := newBook()
	for range 1000 {
		require.NoError(t, b.Spend(t.Context(), "wxa", "/a"))
	}
	record(b, 0, 500)
	assert.Equal(t, m.writes, 0, "writes")
	assert.Equal(t, used(t, b, "/a"), 1000, "counted before they are written")
	require.NoError(t, b.Flush(t.Context()))
	if m.writes != 2 || len(m.calls) != 500 || len(m.blocks) != 1 {
		t.Errorf("%d writes, %d calls in %d rows of the log; want one for the counts and one for the log, of one row", m.writes, len(m.calls),
			len(m.blocks))
	}
	err := b.Flush(t.Context())
	assert.True(t, err == nil && m.writes == 2, "with nothing to write: %d writes, %v", m.writes-2, err)
	assert.Equal(t, used(t, b, "/a"), 1000, "counted after they were written")
}

// looks counts the transactions that only look.
type looks struct {
	*memory
	n int
}

func (l *looks) View(ctx context.Context, f func(apiusage.Tx) error) error {
	l.n++
	return l.memory.View(ctx, f)
}

// A process that is alone reads a count once, and counts on from there. Where another one
// writes too, or another transaction counts, the store is asked each time.
func TestBook_QuotaReadOnceBySingleNode(t *testing.T) {
	for _, alone := range []bool{true, false} {
		b, m := newBook()
		m.counts = map[string]int{}
		counted := &looks{memory: m}
		b.Store, b.SingleNode = counted, alone
		b.Exact = map[string]func(settings.Settings) int{"/exact": func(settings.Settings) int { return 9 }}
		reads := func(what, path string, want, used int) {
			t.Helper()
			before := counted.n
			q, err := b.Quota(t.Context(), "wxa", path)
			if err != nil || q.Used != used || counted.n-before != want {
				t.Errorf("alone %t, %s of %s: %d used after %d reads: want %d after %d (%v)", alone, what, path, q.Used,
					counted.n-before, used, want, err)
			}
		}
		again := 1
		if alone {
			again = 0
		}
		reads("the first", "/a", 1, 0)
		reads("the second", "/a", again, 0)
		require.NoError(t, b.Spend(t.Context(), "wxa", "/a"))
		reads("after a call", "/a", again, 1)
		require.NoError(t, b.Flush(t.Context()))
		reads("after a write", "/a", again, 1)
		require.NoError(t, b.Clear(t.Context(), "wxa", "/a"))
		reads("after a clear", "/a", 1, 0)
		reads("the first", "/exact", 1, 0)
		reads("the second", "/exact", 1, 0)
	}
}

// A store that fails costs no count, and the log waits for it.
func TestBook_FailedWriteRetried(t *testing.T) {
	b, m := newBook()
	spend := func(n int) {
		for range n {
			require.NoError(t, b.Spend(t.Context(), "wxa", "/a"))
		}
	}
	m.broken = errors.New("the disk is full")
	spend(5)
	record(b, 0, 5)
	assert.ErrorIs(t, b.Flush(t.Context()), m.broken, "a flush that fails says")
	spend(5)
	record(b, 5, 10)
	assert.Equal(t, used(t, b, "/a"), 10, "counted while nothing can be written")
	c, err := b.Find(t.Context(), "wxa", rid(3))
	assert.True(t, err == nil && c.RID == rid(3), "a call that waits: %+v, %v", c, err)
	m.broken = nil
	require.NoError(t, b.Flush(t.Context()))
	if got := used(t, b, "/a"); got != 10 || len(m.calls) != 10 || b.Waiting() != 0 || b.Dropped() != 0 {
		t.Errorf("afterwards %d counted, %d in the log, %d waiting, %d dropped", got, len(m.calls), b.Waiting(), b.Dropped())
	}
}

// When the store is slower than the calls, the oldest that wait are dropped and
// counted; who records never waits, not even for a store that hangs.
func TestBook_QueueFullDropsOldest(t *testing.T) {
	const room = 10_000
	b, m := newBook()
	m.hang = make(chan struct{})
	done := make(chan error)
	record(b, 0, 10)
	go func() { done <- b.Flush(context.Background()) }()
	record(b, 10, room+25)
	assert.True(t, b.Waiting() == room && b.Dropped() == 25, "%d wait, %d were dropped", b.Waiting(), b.Dropped())
	close(m.hang)
	require.NoError(t, <-done)
	require.NoError(t, b.Flush(t.Context()))
	// Those that were being written when they were dropped from the queue may be there.
	have := map[string]bool{}
	for _, c := range m.calls {
		assert.True(t, !have[c.RID], "%s is written twice", c.RID)
		have[c.RID] = true
	}
	for n := 25; n < room+25; n++ {
		require.True(t, have[rid(n)], "call %d is lost", n)
	}
	assert.Equal(t, b.Waiting(), 0, "still wait")
}

// The day's limit is exact however many calls come at once and however the writes fall between them.
func TestBook_DailyLimitExact(t *testing.T) {
	b, _ := newBook()
	s := settings.Defaults()
	s.DailyLimits = settings.Limits{"/a": 777}
	b.Settings.Set(s)
	var all sync.WaitGroup
	var mu sync.Mutex
	let := 0
	for i := range 32 {
		all.Go(func() {
			for n := range 50 {
				err := b.Spend(context.Background(), "wxa", "/a")
				switch {
				case err == nil:
					mu.Lock()
					let++
					mu.Unlock()
				case !errors.Is(err, errcode.DailyLimit):
					t.Error(err)
				}
				if n%16 == i%16 {
					assert.NoError(t, b.Flush(context.Background()))
				}
			}
		})
	}
	all.Wait()
	assert.True(t, let == 777 && used(t, b, "/a") == 777, "%d were let through, %d are counted", let, used(t, b, "/a"))
}

// Counts under a clear: nothing that came before it comes back with the next write, and each call after it counts.
func TestBook_ClearDuringCounts(t *testing.T) {
	b, m := newBook()
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
		assert.True(t, a == 1 && other == 3, "after the clear of one %d and %d", a, other)
		require.NoError(t, b.Flush(t.Context()))
	}
	require.NoError(t, b.Reset(func() error { m.counts, m.blocks, m.calls = map[string]int{}, nil, nil; return nil }))
	assert.True(t, used(t, b, "/a") == 0 && used(t, b, "/b") == 0, "a reset left something")
}

// A clear or a reset whose answer is lost may have happened: what is left is asked anew, and not remembered.
func TestBook_ClearWithLostResponse(t *testing.T) {
	b, m := newBook()
	b.SingleNode = true
	spent := func() {
		t.Helper()
		require.NoError(t, b.Spend(t.Context(), "wxa", "/a"))
		require.NoError(t, b.Flush(t.Context()))
		require.Equal(t, used(t, b, "/a"), 1, "calls")
	}
	for what, clears := range map[string]func() error{
		"clear": func() error { return b.Clear(t.Context(), "wxa", "/a") },
		"reset": func() error { return b.Reset(func() error { clear(m.counts); return m.lost }) },
	} {
		spent()
		m.lost = errors.New("the answer is lost")
		err := clears()
		require.True(t, errors.Is(err, m.lost), "%v", err)
		m.lost = nil
		n := used(t, b, "/a")
		assert.True(t, n == 0, "after a %s that happened %d calls are remembered", what, n)
	}
}

// Run writes within the window, and when it ends what is left is for Flush.
func TestBookRun_WritesWithinWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook()
		m.wrote = make(chan int)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { b.Run(ctx); close(done) }()
		for n := range 3 {
			began := time.Now()
			record(b, n, n+1)
			<-m.wrote
			waited := time.Since(began)
			assert.True(t, waited <= apiusage.Window, "a call was written after %s", waited)
			synctest.Wait() // what comes next is not of this write
		}
		// Much at once does not wait for the window.
		began := time.Now()
		record(b, 3, 3000)
		written := <-m.wrote
		assert.Equal(t, time.Since(began), 0, "many calls were written after")
		for written < 3000 { // those that came during that write
			written = <-m.wrote
		}
		synctest.Wait()
		m.wrote = nil
		stop()
		<-done
		record(b, 3000, 3001)
		err := b.Flush(context.Background())
		assert.True(t, err == nil && len(m.calls) == 3001, "%d calls in the log, %v", len(m.calls), err)
	})
}

// A call that a database refuses must not hold the other calls from the log.
func TestBook_InvalidTextIsolated(t *testing.T) {
	b, m := newBook()
	b.Record(apiusage.Call{RID: rid(1), Request: "a\x00b\xff", Response: string(make([]byte, 2*apiusage.MaxText)), Query: "\xed\xa0\x80"})
	require.NoError(t, b.Flush(t.Context()))
	c := m.calls[0]
	assert.True(t, c.Request == "a\uFFFDb\uFFFD" && len(c.Response) <= 4*apiusage.MaxText && c.Query == "\uFFFD",
		"%.80q %.80q %q", c.Request, c.Response, c.Query)
}

// Nor must one that was made at a time that JSON does not have.
func TestBook_InvalidTimeIsolated(t *testing.T) {
	b, m := newBook()
	b.Record(apiusage.Call{RID: rid(1), OccurredAt: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)})
	record(b, 2, 3)
	err := b.Flush(t.Context())
	assert.True(t, err == nil && len(m.calls) == 2, "%d calls in the log, %v", len(m.calls), err)
}

// Contract: rules 3.1: seven days by the second in the request id.
func TestBook_RequestIDRetention(t *testing.T) {
	b, _ := newBook()
	at := now
	b.Now = func() time.Time { return at }
	record(b, 1, 2)
	for _, c := range []struct {
		since time.Duration
		want  error
	}{
		{0, nil}, {apiusage.Retention - time.Second, nil}, {apiusage.Retention, nil}, {apiusage.Retention + 1, errcode.RIDTooOld},
		{apiusage.Retention + time.Second, errcode.RIDTooOld}, {-time.Hour, nil},
	} {
		at = now.Add(c.since)
		_, err := b.Find(t.Context(), "wxa", rid(1))
		assert.ErrorIs(t, err, c.want, "after %s: %v, want %v", c.since, err, c.want)
	}
}
