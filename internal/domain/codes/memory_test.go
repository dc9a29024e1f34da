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

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// journal is the part of a store that a Memory reads, as plain as can be: one batch and its events in the order of commits.
type journal struct {
	codes.Store
	batch  codes.Batch
	events []codes.Event
}

func (j *journal) Batches(context.Context) iter.Seq2[codes.Batch, error] {
	return func(yield func(codes.Batch, error) bool) { yield(j.batch, nil) }
}

func (j *journal) Events(_ context.Context, batch, after int64) iter.Seq2[codes.Event, error] {
	return func(yield func(codes.Event, error) bool) {
		for _, e := range j.events {
			if e.Seq > after && (batch == 0 || e.Batch == batch) && !yield(e, nil) {
				return
			}
		}
	}
}

const indexes = 200

// plain is the definition of what governs codes: every event that is in force,
// in the order in which they took effect, written over plain arrays.
func plain(events []codes.Event, now time.Time) (list [indexes]codes.State) {
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

func same(a, b codes.State) bool {
	seq := func(e *codes.Event) int64 {
		if e == nil {
			return 0
		}
		return e.Seq
	}
	return seq(a.Activation) == seq(b.Activation) && a.Frozen == b.Frozen && a.Void == b.Void && a.Redeemed == b.Redeemed
}

// checkAll compares every index, the counts and what is listed as active.
func checkAll(t *testing.T, what string, m *codes.Memory, batch int64, events []codes.Event, now time.Time) {
	t.Helper()
	want := plain(events, now)
	var counts codes.Counts
	for i, w := range want {
		got := m.State(batch, int64(i), now)
		require.True(t, same(got, w), "%s: index %d at %s is %+v, want %+v", what, i, now.Format(time.TimeOnly), got, w)
		for flag, n := range map[*uint64]bool{&counts.Frozen: w.Frozen, &counts.Void: w.Void, &counts.Redeemed: w.Redeemed} {
			if n {
				*flag++
			}
		}
	}
	require.Equal(t, m.Counts(batch, now), counts, "%s", what)
	ranges := 0
	for _, e := range events {
		ranges += len(e.Codes)
	}
	n := m.Spans(batch)
	require.True(t, n <= 2*ranges+1, "%s: %d spans after calls of %d ranges", what, n, ranges)
	from, to := int64(now.UnixNano()%indexes), int64(indexes-1)
	runs, more := m.StateRuns(batch, codes.Range{From: from, To: to}, now, indexes)
	at := from
	for i, r := range runs {
		require.True(t, r.From == at && r.To >= at && (i <= 0 || !same(r.State, runs[i-1].State)),
			"%s: run %d is %+v, and begins at %d", what, i, r, at)
		for ; at <= r.To; at++ {
			require.True(t, same(r.State, want[at]), "%s: index %d is %+v in a run, want %+v", what, at, r.State, want[at])
		}
	}
	require.True(t, at == to+1 && !more, "%s: the runs end at %d, others follow: %v", what, at, more)
	first, more := m.StateRuns(batch, codes.Range{From: from, To: to}, now, 1)
	require.True(t, len(first) == 1 && first[0] == runs[0] && more == (len(runs) > 1),
		"%s: the first run of %d is %+v, others follow: %v", what, len(runs), first, more)
	next := from
	for _, a := range m.Active(batch, codes.Range{From: from, To: to}, now) {
		for ; next < a.From; next++ {
			require.True(t, want[next].Activation == nil, "%s: %d is not listed as active", what, next)
		}
		for ; next <= a.To; next++ {
			require.True(t, same(codes.State{Activation: a.Activation}, codes.State{Activation: want[next].Activation}),
				"%s: %d is listed under another activation", what, next)
		}
	}
	for ; next <= to; next++ {
		require.True(t, want[next].Activation == nil, "%s: %d is not listed as active", what, next)
	}
}

// history draws what may happen to a batch, one event after the other.
type history struct {
	random *rand.Rand
	now    time.Time
}

func (h *history) event(seq int64) codes.Event {
	from := h.random.Int64N(indexes)
	set := codes.NewSet(codes.Range{From: from, To: from + h.random.Int64N(indexes-from)})
	if h.random.IntN(3) == 0 { // short ones cut
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

// Memory has the same states as a model with arrays, for overlapping activations, deactivations and schedules while time passes, also
// if events are read late or all events are read again.
func TestMemory_EqualsArrayModel(t *testing.T) {
	t.Parallel()
	histories := testscope.Choose(3_000, 300)
	if testing.Short() {
		histories = 300
	}
	random := rand.New(rand.NewPCG(11, 2))
	adopted := map[string]int{}
	for n := range histories {
		h := &history{random, time.Date(2026, 1, 15, 2, 0, 0, n, time.UTC)}
		j := &journal{batch: codes.Batch{ID: 1, Count: indexes}}
		m := codes.NewMemory(j)
		require.NoError(t, m.Load(t.Context()))
		var beside *codes.Memory // all is read again
		for seq := range 1 + random.IntN(25) {
			if random.IntN(6) == 0 {
				beside = m.Rebuild()
				require.NoError(t, beside.Load(t.Context()))
			} else if beside != nil && random.IntN(3) == 0 {
				for !m.Swap(beside) {
					adopted["after more"]++
					require.NoError(t, beside.Changed(t.Context(), 1))
				}
				adopted["in all"]++
				beside = nil
			}
			h.now = h.now.Add(time.Duration(random.IntN(30)) * time.Second)
			e := h.event(int64(seq + 1))
			if random.IntN(4) == 0 {
				// A scan between the moment of a call and its commit.
				_ = m.State(1, 0, h.now.Add(time.Duration(random.IntN(5))*time.Second))
				h.now = h.now.Add(5 * time.Second)
			}
			j.events = append(j.events, e)
			if random.IntN(5) > 0 { // otherwise it is read with the next
				require.NoError(t, m.Changed(t.Context(), 1))
				checkAll(t, fmt.Sprintf("history %d, event %d", n, e.Seq), m, 1, j.events, h.now)
			}
		}
		require.NoError(t, m.Changed(t.Context(), 1))
		h.now = h.now.Add(2 * time.Minute)
		checkAll(t, fmt.Sprintf("history %d at the end", n), m, 1, j.events, h.now)
		again := codes.NewMemory(j)
		require.NoError(t, again.Load(t.Context()))
		checkAll(t, fmt.Sprintf("history %d read again", n), again, 1, j.events, h.now)
	}
	assert.True(t, adopted["in all"] >= histories/4 && adopted["after more"] >= histories/40,
		"what was read again was adopted %v times", adopted)
}

// The same through the real calls and the real store, which keeps milliseconds.
func TestMemoryCalls_EqualArrayModel(t *testing.T) {
	t.Parallel()
	histories := testscope.Choose(25, 4)
	if testing.Short() {
		histories = 4
	}
	random := rand.New(rand.NewPCG(5, 5))
	p := newPlant(t)
	p.set(func(s *settings.Settings) {
		s.Behaviours = settings.Overrides{"codes.activate.overlap_taken": settings.Allow}
	})
	for n := range histories {
		batch := p.apply(fmt.Sprintf("history %d", n), 10_000)
		h := &history{random: random, now: p.now()}
		var events []codes.Event
		for range 20 {
			p.advance(time.Duration(random.IntN(30_000))*time.Millisecond + time.Duration(random.IntN(1e6)))
			h.now = p.now()
			e := h.event(0)
			c := codes.Change{Batch: batch.ID, Action: e.Action, Codes: e.Codes}
			if !e.From.Equal(h.now) {
				c.From = e.From
			}
			if e.Action == codes.Activate {
				c.Binding = p.binding
			}
			if e.Action == codes.Redeem {
				continue // refused for frozen codes: TestRedeem…
			}
			require.NoError(t, assert.ErrorOf(p.Change(t.Context(), c)))
			events = require.All(t, p.Store.Events(t.Context(), batch.ID, 0))
			checkAll(t, fmt.Sprintf("history %d", n), p.Memory, batch.ID, events, p.now())
		}
		again := codes.NewMemory(p.Store)
		require.NoError(t, again.Load(t.Context()))
		checkAll(t, fmt.Sprintf("history %d read again", n), again, batch.ID, events, p.now())
		p.advance(time.Hour)
		checkAll(t, fmt.Sprintf("history %d when all is in force", n), p.Memory, batch.ID, events, p.now())
	}
}

// Issue 3: ten thousand scattered frozen codes cost kilobytes.
func TestMemory_ScatteredCodesFootprint(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
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
	assert.True(t, stored <= 64<<10, "%d bytes stored", stored)
	require.NoError(t, assert.ErrorOf(p.Change(t.Context(), codes.Change{Batch: batch.ID, Action: codes.Freeze, Codes: set})))
	got := p.Memory.Counts(batch.ID, p.now())
	assert.True(t, got.Frozen == uint64(set.Len()), "%d frozen, want %d", got.Frozen, set.Len())
	t.Logf("%d bytes in memory", p.Memory.Bytes(batch.ID))
	n := p.Memory.Bytes(batch.ID)
	assert.True(t, n <= 64<<10, "%d bytes in memory", n)
	// A whole batch costs next to nothing.
	all := codes.NewSet(codes.Range{From: 0, To: batch.Count - 1})
	before := p.Memory.Bytes(batch.ID)
	require.NoError(t, assert.ErrorOf(p.Change(t.Context(), codes.Change{Batch: batch.ID, Action: codes.Void, Codes: all})))
	got = p.Memory.Counts(batch.ID, p.now())
	assert.True(t, got.Void == 20_000_000 && len(all.Encode()) <= 16 && p.Memory.Bytes(batch.ID)-before <= 16<<10,
		"%d void, %d bytes stored, %d more in memory", got.Void, len(all.Encode()), p.Memory.Bytes(batch.ID)-before)
}

// A counter is found in its batch, or in none: the blocks may have gaps.
func TestMemory_FindBatchOfCounter(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
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

// A call is in force when it is answered, whatever the clock says: one that was
// set back, or that of a node behind the one that took the call.
func TestMemory_ClockBehind(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	p.activate(b, 0, 9)
	require.NoError(t, assert.ErrorOf(p.Change(t.Context(), codes.Change{Batch: b.ID, Action: codes.Deactivate, Codes: one(9),
		From: p.now().Add(time.Minute)})))
	p.advance(-time.Hour)
	assert.True(t, p.Memory.State(b.ID, 0, p.now()).Activation != nil, "the activation of before is not in force")
	p.activate(b, 10, 19)
	assert.True(t, p.Memory.State(b.ID, 10, p.now()).Activation != nil, "an activation that was answered is not in force")
	require.NoError(t, p.change(b, codes.Freeze, one(0)))
	again := codes.NewMemory(p.Store)
	require.NoError(t, again.Load(t.Context()))
	for what, m := range map[string]*codes.Memory{"here": p.Memory, "of another node": again} {
		assert.True(t, m.State(b.ID, 0, p.now()).Frozen, "the memory %s: a freeze that was answered is not in force", what)
		assert.True(t, m.State(b.ID, 9, p.now()).Activation != nil, "the memory %s: a scheduled change took effect too early", what)
	}
	_, conflict := errors.AsType[codes.Conflict](p.change(b, codes.Redeem, one(0)))
	assert.True(t, conflict, "a frozen code was redeemed")
	if got, err := p.Query(t.Context(), p.owner, codes.BatchKey{ID: b.ID}); err != nil ||
		got.Status(p.now(), p.FinishDelay()) != codes.Finish {
		t.Errorf("%s, %v: an application that was finished is not any more", got.Status(p.now(), p.FinishDelay()), err)
	}
}

// A batch that is activated over and over, and never scanned, is held as what
// governs it, also while a server starts and where much is scheduled.
func TestMemory_SupersededEventsBounded(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 9))
	for name, later := range map[string]int{"nothing scheduled": 0, "much scheduled": 3_000} {
		h := &history{random, time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)}
		j := &journal{batch: codes.Batch{ID: 1, Count: indexes}}
		live := codes.NewMemory(j)
		require.NoError(t, live.Load(t.Context()))
		for n := range later + testscope.Choose(20_000, 6_000) {
			h.now = h.now.Add(time.Duration(random.IntN(2_000)) * time.Millisecond)
			e := h.event(int64(n + 1))
			if n < later {
				e.Action, e.From = codes.Activate, h.now.Add(24*365*time.Hour)
			}
			j.events = append(j.events, e)
			if n%500 == 499 {
				require.NoError(t, live.Changed(t.Context(), 1))
			}
		}
		require.NoError(t, live.Changed(t.Context(), 1))
		again := codes.NewMemory(j)
		require.NoError(t, again.Load(t.Context()))
		for which, m := range map[string]*codes.Memory{"live": live, "read at a start": again} {
			n := m.Waits(1)
			assert.True(t, n <= 2*later+1_500, "%s, %s: %d events are kept", name, which, n)
			checkAll(t, name+", "+which, m, 1, j.events, h.now)
			checkAll(t, name+", "+which+", when all is in force", m, 1, j.events, h.now.Add(2*365*24*time.Hour))
		}
	}
}

// Should times of a batch go back all the same, a start reads them as they are.
func TestMemoryLoad_UnorderedEvents(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(8, 1))
	h := &history{random, time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)}
	j := &journal{batch: codes.Batch{ID: 1, Count: indexes}}
	began := h.now
	for n := range 5_000 {
		h.now = began.Add(time.Duration(random.IntN(3600)) * time.Second)
		j.events = append(j.events, h.event(int64(n+1)))
	}
	m := codes.NewMemory(j)
	require.NoError(t, m.Load(t.Context()))
	checkAll(t, "times that go back", m, 1, j.events, began.Add(2*time.Hour))
}

// lots is a store with many batches and no events.
type lots struct {
	codes.Store
	n int64
}

func (l lots) Batches(context.Context) iter.Seq2[codes.Batch, error] {
	return func(yield func(codes.Batch, error) bool) {
		for i := range l.n {
			if !yield(codes.Batch{ID: i + 1, Count: 10_000, Start: uint64(i) * 10_000, Prefix: "A/"}, nil) {
				return
			}
		}
	}
}

func (lots) Events(context.Context, int64, int64) iter.Seq2[codes.Event, error] {
	return func(func(codes.Event, error) bool) {}
}

// With a thousand applications a day and account, the work of a start for each batch must not grow with their number. The test is not
// parallel, because it counts the allocations of the process.
func TestMemoryLoad_EachBatchOnce(t *testing.T) {
	const n = 10_000
	m := codes.NewMemory(lots{n: n})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, m.Load(t.Context()))
	runtime.ReadMemStats(&after)
	each := (after.TotalAlloc - before.TotalAlloc) / n
	assert.True(t, each <= 4<<10, "%d bytes were taken for each batch", each)
	for _, i := range []int64{0, 4_321, n - 1} {
		b, index, ok := m.Find(uint64(i)*10_000 + 7)
		assert.True(t, ok && b.ID == i+1 && index == 7, "batch %d, index %d, %v", b.ID, index, ok)
	}
}
