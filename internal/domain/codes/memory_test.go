package codes_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// eventStore implements the methods of Store that a Memory calls: one batch and its events in the order of commits.
type eventStore struct {
	codes.Store
	batch  codes.Batch
	events []codes.Event
}

func (s *eventStore) Batches(context.Context) iter.Seq2[codes.Batch, error] {
	return func(yield func(codes.Batch, error) bool) { yield(s.batch, nil) }
}

func (s *eventStore) Events(_ context.Context, batch, after int64) iter.Seq2[codes.Event, error] {
	return func(yield func(codes.Event, error) bool) {
		for _, e := range s.events {
			if e.Seq > after && (batch == 0 || e.Batch == batch) && !yield(e, nil) {
				return
			}
		}
	}
}

const indexes = 200

// arrayModel returns the state of each index by definition: it applies the events in force to an array in the order of their effect.
func arrayModel(events []codes.Event, now time.Time) (list [indexes]codes.State) {
	inForce := slices.DeleteFunc(slices.Clone(events), func(e codes.Event) bool { return e.From.After(now) })
	slices.SortStableFunc(inForce, func(a, b codes.Event) int { return a.From.Compare(b.From) })
	for _, e := range inForce {
		for _, r := range e.Codes {
			for i := r.From; i <= r.To; i++ {
				s := &list[i]
				switch e.Action {
				case codes.Activate:
					s.Activation = &e
				case codes.Deactivate:
					s.Activation = nil
				case codes.Freeze, codes.Unfreeze:
					s.Frozen = e.Action == codes.Freeze
				case codes.Void:
					s.Void = true
				case codes.Redeem:
					s.Redeemed = true
				}
			}
		}
	}
	return list
}

func equalStates(a, b codes.State) bool {
	seq := func(e *codes.Event) int64 {
		if e == nil {
			return 0
		}
		return e.Seq
	}
	return seq(a.Activation) == seq(b.Activation) && a.Frozen == b.Frozen && a.Void == b.Void && a.Redeemed == b.Redeemed
}

// checkMemory compares the state of every index, the counts, the runs and the active ranges of m with arrayModel.
func checkMemory(t *testing.T, name string, m *codes.Memory, batch int64, events []codes.Event, now time.Time) {
	t.Helper()
	want := arrayModel(events, now)
	var counts codes.Counts
	for i, w := range want {
		got := m.State(batch, int64(i), now)
		require.True(t, equalStates(got, w), "%s: index %d at %s is %+v, want %+v", name, i, now.Format(time.TimeOnly), got, w)
		for flag, n := range map[*uint64]bool{&counts.Frozen: w.Frozen, &counts.Void: w.Void, &counts.Redeemed: w.Redeemed} {
			if n {
				*flag++
			}
		}
	}
	require.Equal(t, m.Counts(batch, now), counts, "%s: counts", name)
	ranges := 0
	for _, e := range events {
		ranges += len(e.Codes)
	}
	n := m.Spans(batch)
	require.True(t, n <= 2*ranges+1, "%s: %d spans for %d ranges, want at most 2n+1", name, n, ranges)
	from, to := int64(now.UnixNano()%indexes), int64(indexes-1)
	runs, more := m.StateRuns(batch, codes.Range{From: from, To: to}, now, indexes)
	next := from
	for i, r := range runs {
		require.True(t, r.From == next && r.To >= next && (i <= 0 || !equalStates(r.State, runs[i-1].State)),
			"%s: run %d is %+v, want another state from %d", name, i, r, next)
		for ; next <= r.To; next++ {
			require.True(t, equalStates(r.State, want[next]), "%s: index %d is %+v in a run, want %+v", name, next, r.State, want[next])
		}
	}
	require.True(t, next == to+1 && !more, "%s: the runs end before %d, want %d; more = %v", name, next, to+1, more)
	first, more := m.StateRuns(batch, codes.Range{From: from, To: to}, now, 1)
	require.True(t, len(first) == 1 && first[0] == runs[0] && more == (len(runs) > 1),
		"%s: StateRuns with limit 1 = %+v, more %v, want the first of %d runs", name, first, more, len(runs))
	next = from
	for _, a := range m.Active(batch, codes.Range{From: from, To: to}, now) {
		for ; next < a.From; next++ {
			require.True(t, want[next].Activation == nil, "%s: active index %d is missing from Active", name, next)
		}
		for ; next <= a.To; next++ {
			require.True(t, equalStates(codes.State{Activation: a.Activation}, codes.State{Activation: want[next].Activation}),
				"%s: index %d has another activation in Active, want %+v", name, next, want[next].Activation)
		}
	}
	for ; next <= to; next++ {
		require.True(t, want[next].Activation == nil, "%s: active index %d is missing from Active", name, next)
	}
}

// eventGenerator generates random events of one batch.
type eventGenerator struct {
	random *rand.Rand
	now    time.Time
}

func (h *eventGenerator) next(seq int64) codes.Event {
	from := h.random.Int64N(indexes)
	set := codes.NewSet(codes.Range{From: from, To: from + h.random.Int64N(indexes-from)})
	if h.random.IntN(3) == 0 { // short ranges split earlier ones
		set = codes.NewSet(codes.Range{From: from, To: min(from+h.random.Int64N(4), indexes-1)},
			codes.Range{From: indexes - 1 - from, To: indexes - 1 - from})
	}
	e := codes.Event{Seq: seq, Batch: 1, Codes: set, OccurredAt: h.now, From: h.now, Binding: codes.Binding{ActivityName: fmt.Sprint(seq)}}
	switch n := h.random.IntN(20); {
	case n < 10:
		e.Action = codes.Activate
	case n < 14:
		e.Action = codes.Deactivate
	default:
		e.Action = []codes.EventType{codes.Freeze, codes.Unfreeze, codes.Freeze, codes.Unfreeze, codes.Redeem, codes.Void}[n-14]
		return e
	}
	if h.random.IntN(3) == 0 {
		e.From = h.now.Add(time.Duration(h.random.IntN(60)) * time.Second)
	}
	return e
}

// TestMemory_EqualsArrayModel verifies that Memory has the states of arrayModel for overlapping activations, deactivations and schedules
// while time passes, and also if events are read late or all events are read again.
func TestMemory_EqualsArrayModel(t *testing.T) {
	t.Parallel()
	histories := testscope.Select(3_000, 300)
	if testing.Short() {
		histories = 300
	}
	random := rand.New(rand.NewPCG(11, 2))
	swaps, retriedSwaps := 0, 0
	for n := range histories {
		h := &eventGenerator{random, time.Date(2026, 1, 15, 2, 0, 0, n, time.UTC)}
		j := &eventStore{batch: codes.Batch{ID: 1, Count: indexes}}
		m := codes.NewMemory(j)
		require.NoError(t, m.Load(t.Context()))
		var rebuilt *codes.Memory // reads all events again
		for seq := range 1 + random.IntN(25) {
			if random.IntN(6) == 0 {
				rebuilt = m.Rebuild()
				require.NoError(t, rebuilt.Load(t.Context()))
			} else if rebuilt != nil && random.IntN(3) == 0 {
				for !m.Swap(rebuilt) {
					retriedSwaps++
					require.NoError(t, rebuilt.Changed(t.Context(), 1))
				}
				swaps++
				rebuilt = nil
			}
			h.now = h.now.Add(time.Duration(random.IntN(30)) * time.Second)
			e := h.next(int64(seq + 1))
			if random.IntN(4) == 0 {
				// A scan between the time of a change and its commit.
				_ = m.State(1, 0, h.now.Add(time.Duration(random.IntN(5))*time.Second))
				h.now = h.now.Add(5 * time.Second)
			}
			j.events = append(j.events, e)
			if random.IntN(5) > 0 { // otherwise the event is read with the next one
				require.NoError(t, m.Changed(t.Context(), 1))
				checkMemory(t, fmt.Sprintf("history %d, event %d", n, e.Seq), m, 1, j.events, h.now)
			}
		}
		require.NoError(t, m.Changed(t.Context(), 1))
		h.now = h.now.Add(2 * time.Minute)
		checkMemory(t, fmt.Sprintf("history %d at the end", n), m, 1, j.events, h.now)
		reloaded := codes.NewMemory(j)
		require.NoError(t, reloaded.Load(t.Context()))
		checkMemory(t, fmt.Sprintf("history %d reloaded", n), reloaded, 1, j.events, h.now)
	}
	assert.True(t, swaps >= histories/4 && retriedSwaps >= histories/40,
		"%d swaps, %d retried, want at least %d and %d", swaps, retriedSwaps, histories/4, histories/40)
}

// TestMemoryCalls_EqualArrayModel is TestMemory_EqualsArrayModel through the Service and a real store, which keeps milliseconds.
func TestMemoryCalls_EqualArrayModel(t *testing.T) {
	t.Parallel()
	histories := testscope.Select(25, 4)
	if testing.Short() {
		histories = 4
	}
	random := rand.New(rand.NewPCG(5, 5))
	p := newFixture(t)
	p.allowOverlap()
	for n := range histories {
		batch := p.apply(fmt.Sprintf("history %d", n), 10_000)
		h := &eventGenerator{random: random, now: p.now()}
		var events []codes.Event
		for range 20 {
			p.advance(time.Duration(random.IntN(30_000))*time.Millisecond + time.Duration(random.IntN(1e6)))
			h.now = p.now()
			e := h.next(0)
			c := codes.Change{Batch: batch.ID, Action: e.Action, Codes: e.Codes}
			if !e.From.Equal(h.now) {
				c.From = e.From
			}
			if e.Action == codes.Activate {
				c.Binding = p.binding
			}
			if e.Action == codes.Redeem {
				continue // frozen codes cannot be redeemed: TestRedeem_FrozenOrVoid
			}
			require.NoError(t, assert.ErrorOf(p.Change(t.Context(), c)))
			events = require.All(t, p.Store.Events(t.Context(), batch.ID, 0))
			checkMemory(t, fmt.Sprintf("history %d", n), p.Memory, batch.ID, events, p.now())
		}
		checkMemory(t, fmt.Sprintf("history %d reloaded", n), p.reloadMemory(), batch.ID, events, p.now())
		p.advance(time.Hour)
		checkMemory(t, fmt.Sprintf("history %d with all events in force", n), p.Memory, batch.ID, events, p.now())
	}
}

// TestMemory_ScatteredCodesFootprint verifies that 10,000 scattered frozen codes take at most 64 KiB each in the store and in memory, and
// that a range of an entire batch takes nearly nothing.
func TestMemory_ScatteredCodesFootprint(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	batch := p.apply("scattered", 20_000_000)
	random := rand.New(rand.NewPCG(1, 1))
	var ranges []codes.Range
	for range 10_000 {
		i := random.Int64N(batch.Count)
		ranges = append(ranges, codes.Range{From: i, To: i})
	}
	set := codes.NewSet(ranges...)
	stored := len(set.Encode())
	t.Logf("%d scattered codes: %d bytes stored", set.Len(), stored)
	assert.True(t, stored <= 64<<10, "%d bytes stored, want at most 64 KiB", stored)
	require.NoError(t, assert.ErrorOf(p.Change(t.Context(), codes.Change{Batch: batch.ID, Action: codes.Freeze, Codes: set})))
	got := p.Memory.Counts(batch.ID, p.now())
	assert.Equal(t, got.Frozen, uint64(set.Len()), "frozen codes")
	n := p.Memory.Bytes(batch.ID)
	t.Logf("%d bytes in memory", n)
	assert.True(t, n <= 64<<10, "%d bytes in memory, want at most 64 KiB", n)
	all := codes.NewSet(codes.Range{From: 0, To: batch.Count - 1})
	require.NoError(t, assert.ErrorOf(p.Change(t.Context(), codes.Change{Batch: batch.ID, Action: codes.Void, Codes: all})))
	got = p.Memory.Counts(batch.ID, p.now())
	assert.True(t, got.Void == 20_000_000 && len(all.Encode()) <= 16 && p.Memory.Bytes(batch.ID)-n <= 16<<10,
		"%d void codes, %d bytes stored, %d more in memory, want 20000000, at most 16 and at most 16 KiB",
		got.Void, len(all.Encode()), p.Memory.Bytes(batch.ID)-n)
}

// TestMemory_FindBatchOfCounter verifies that Find returns the batch of a counter, or none for a counter in a gap between blocks.
func TestMemory_FindBatchOfCounter(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	p.Floor = 500_000
	first := p.apply("a", 10_000)
	p.Floor = 900_000
	second := p.apply("b", 20_000)
	third := p.apply("c", 10_000)
	require.True(t, first.Start == 500_000 && second.Start == 900_000 && third.Start == 920_000,
		"the blocks begin at %d, %d, %d", first.Start, second.Start, third.Start)
	for counter, want := range map[uint64]struct {
		batch int64
		index int64
	}{
		0: {}, 499_999: {}, 500_000: {first.ID, 0}, 509_999: {first.ID, 9_999}, 510_000: {}, 899_999: {},
		900_000: {second.ID, 0}, 919_999: {second.ID, 19_999}, 920_000: {third.ID, 0}, 929_999: {third.ID, 9_999}, 930_000: {},
		codes.Space - 1: {}, 1<<64 - 1: {},
	} {
		b, index, ok := p.Memory.Find(counter)
		assert.True(t, ok == (want.batch != 0) && b.ID == want.batch && index == want.index,
			"counter %d: batch %d, index %d, %t; want %+v", counter, b.ID, index, ok, want)
	}
}

// TestMemory_ClockBehind verifies that a change is in force when its call returns, even if the clock was set back or if another node with a
// slower clock reads it.
func TestMemory_ClockBehind(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 10)
	require.NoError(t, assert.ErrorOf(p.Change(t.Context(), codes.Change{Batch: b.ID, Action: codes.Deactivate, Codes: single(9),
		From: p.now().Add(time.Minute)})))
	p.advance(-time.Hour)
	assert.True(t, p.Memory.State(b.ID, 0, p.now()).Activation != nil,
		"activation before the clock was set back: not in force, want in force")
	p.activate(b, 10, 19)
	assert.True(t, p.Memory.State(b.ID, 10, p.now()).Activation != nil,
		"activation after the clock was set back: not in force, want in force")
	require.NoError(t, p.change(b, codes.Freeze, single(0)))
	for node, m := range map[string]*codes.Memory{"this node": p.Memory, "another node": p.reloadMemory()} {
		assert.True(t, m.State(b.ID, 0, p.now()).Frozen, "%s: acknowledged freeze is not in force, want in force", node)
		assert.True(t, m.State(b.ID, 9, p.now()).Activation != nil, "%s: scheduled deactivation is in force before its time", node)
	}
	_, conflict := errors.AsType[codes.Conflict](p.change(b, codes.Redeem, single(0)))
	assert.True(t, conflict, "a frozen code was redeemed, want a conflict")
	if got, err := p.Query(t.Context(), p.owner, codes.BatchKey{ID: b.ID}); err != nil ||
		got.Status(p.now(), p.FinishDelay()) != codes.Finish {
		t.Errorf("status of a finished application = %s, %v, want %s", got.Status(p.now(), p.FinishDelay()), err, codes.Finish)
	}
}

// TestMemory_SupersededEventsBounded activates a batch repeatedly without a scan and verifies that Memory keeps a bounded number of events,
// also during a start and with many scheduled events.
func TestMemory_SupersededEventsBounded(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 9))
	for name, scheduled := range map[string]int{"no scheduled events": 0, "many scheduled events": 3_000} {
		h := &eventGenerator{random, time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)}
		j := &eventStore{batch: codes.Batch{ID: 1, Count: indexes}}
		live := codes.NewMemory(j)
		require.NoError(t, live.Load(t.Context()))
		for n := range scheduled + testscope.Select(20_000, 6_000) {
			h.now = h.now.Add(time.Duration(random.IntN(2_000)) * time.Millisecond)
			e := h.next(int64(n + 1))
			if n < scheduled {
				e.Action, e.From = codes.Activate, h.now.Add(24*365*time.Hour)
			}
			j.events = append(j.events, e)
			if n%500 == 499 {
				require.NoError(t, live.Changed(t.Context(), 1))
			}
		}
		require.NoError(t, live.Changed(t.Context(), 1))
		reloaded := codes.NewMemory(j)
		require.NoError(t, reloaded.Load(t.Context()))
		for source, m := range map[string]*codes.Memory{"live": live, "loaded at start": reloaded} {
			n := m.PendingEvents(1)
			assert.True(t, n <= 2*scheduled+1_500, "%s, %s: %d events are kept, want at most %d", name, source, n, 2*scheduled+1_500)
			checkMemory(t, name+", "+source, m, 1, j.events, h.now)
			checkMemory(t, name+", "+source+", all in force", m, 1, j.events, h.now.Add(2*365*24*time.Hour))
		}
	}
}

// TestMemoryLoad_UnorderedEvents verifies that Load applies events whose times are not in the order of commits.
func TestMemoryLoad_UnorderedEvents(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(8, 1))
	h := &eventGenerator{random, time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)}
	j := &eventStore{batch: codes.Batch{ID: 1, Count: indexes}}
	start := h.now
	for n := range 5_000 {
		h.now = start.Add(time.Duration(random.IntN(3600)) * time.Second)
		j.events = append(j.events, h.next(int64(n+1)))
	}
	m := codes.NewMemory(j)
	require.NoError(t, m.Load(t.Context()))
	checkMemory(t, "unordered times", m, 1, j.events, start.Add(2*time.Hour))
}

// manyBatchStore is a store with n batches and no events.
type manyBatchStore struct {
	codes.Store
	n int64
}

func (s manyBatchStore) Batches(context.Context) iter.Seq2[codes.Batch, error] {
	return func(yield func(codes.Batch, error) bool) {
		for i := range s.n {
			if !yield(codes.Batch{ID: i + 1, Count: 10_000, Start: uint64(i) * 10_000, Prefix: "A/"}, nil) {
				return
			}
		}
	}
}

func (manyBatchStore) Events(context.Context, int64, int64) iter.Seq2[codes.Event, error] {
	return func(func(codes.Event, error) bool) {}
}

// TestMemoryLoad_EachBatchOnce verifies that Load allocates a bounded number of bytes for each batch, because an account may create a
// thousand batches a day. The test is not parallel, because it counts the allocations of the process.
func TestMemoryLoad_EachBatchOnce(t *testing.T) {
	const n = 10_000
	m := codes.NewMemory(manyBatchStore{n: n})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, m.Load(t.Context()))
	runtime.ReadMemStats(&after)
	perBatch := (after.TotalAlloc - before.TotalAlloc) / n
	assert.True(t, perBatch <= 4<<10, "Load allocates %d bytes per batch, want at most 4 KiB", perBatch)
	for _, i := range []int64{0, 4_321, n - 1} {
		b, index, ok := m.Find(uint64(i)*10_000 + 7)
		assert.True(t, ok && b.ID == i+1 && index == 7, "Find = batch %d, index %d, %v, want batch %d, index 7", b.ID, index, ok, i+1)
	}
}
