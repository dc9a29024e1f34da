package codes_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// by is a context in which somebody does something.
func by(t *testing.T, name string) context.Context {
	return accounts.WithActor(t.Context(), accounts.Actor{ActorID: name})
}

func (p *plant) change(b codes.Batch, did codes.EventType, set codes.Set) error {
	c := codes.Change{Batch: b.ID, Action: did, Codes: set}
	if did == codes.Activate {
		c.Binding = p.binding
	}
	return failure(p.Change(p.t.Context(), c))
}

// failure leaves out how many codes were changed.
func failure(_ int64, err error) error { return err }

func one(index int64) codes.Set { return codes.NewSet(codes.Range{From: index, To: index}) }

func TestCodeChange_Invalid(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	later := p.now().Add(time.Hour)
	for _, c := range []struct {
		name, want string
		change     codes.Change
	}{
		{"no codes", "no codes are given", codes.Change{Action: codes.Freeze}},
		{"behind the end", "code_end 10000: the application has the indexes 0 to 9999",
			codes.Change{Action: codes.Freeze, Codes: one(10_000)}},
		{"before the beginning", "an index is 0 or more", codes.Change{Action: codes.Freeze, Codes: codes.Set{{From: -1, To: 4}}}},
		{"a scheduled freeze", "only an activation or a deactivation can be scheduled, not freeze",
			codes.Change{Action: codes.Freeze, Codes: one(1), From: later}},
		{"a past schedule", "is in the past", codes.Change{Action: codes.Deactivate, Codes: one(1), From: p.now().Add(-time.Second)}},
		{"an activation of nothing", "activity_name invalid", codes.Change{Action: codes.Activate, Codes: one(1)}},
		{"a note of 257 characters", "note and actor", codes.Change{Action: codes.Freeze, Codes: one(1), Note: strings.Repeat("n", 257)}},
		{"a note with a line feed", "note and actor", codes.Change{Action: codes.Freeze, Codes: one(1), Note: "a\nb"}},
	} {
		c.change.Batch = b.ID
		number := errcode.InvalidArgs
		if c.name == "behind the end" {
			number = errcode.IndexBeyond
		}
		wantCode(t, c.name, failure(p.Change(t.Context(), c.change)), number, c.want)
	}
	_, err := p.Change(t.Context(), codes.Change{Batch: 7, Action: codes.Freeze, Codes: one(1)})
	assert.ErrorIs(t, err, codes.ErrNoBatch, "an unknown batch")
	_, err = p.Retarget(t.Context(), 7, codes.Range{}, "shop", "p", 0)
	assert.ErrorIs(t, err, codes.ErrNoBatch, "a re-target of an unknown batch")
}

// A code is redeemed once: of 32 concurrent calls one succeeds, and the others return the actor and the time of the redemption.
func TestRedeem_ConcurrentOnce(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	errs := race(32, func(i int) error {
		return failure(p.Change(by(t, fmt.Sprint("till ", i)), codes.Change{Batch: b.ID, Action: codes.Redeem, Codes: one(7), Note: "x"}))
	})
	winner := -1
	for i, err := range errs {
		if err == nil {
			require.True(t, winner < 0, "%d and %d both won", winner, i)
			winner = i
		}
	}
	require.True(t, winner >= 0, "%v", errs)
	want := fmt.Sprintf("code 7 was redeemed by till %d at 2026-01-15T02:00:00Z", winner)
	for i, err := range errs {
		conflict, ok := errors.AsType[codes.Conflict](err)
		assert.True(t, i == winner || ok && conflict.Error() == want, "%d: %v, want %s", i, err, want)
	}
	// It stays redeemed by the first, whatever comes after, and other codes of a range are not held up by it.
	p.advance(time.Hour)
	for _, did := range []codes.EventType{codes.Freeze, codes.Unfreeze, codes.Activate, codes.Deactivate} {
		require.NoError(t, p.change(b, did, one(7)))
	}
	require.NoError(t, p.change(b, codes.Redeem, codes.NewSet(codes.Range{From: 5, To: 9})))
	err := p.change(b, codes.Redeem, one(7))
	assert.True(t, err != nil && err.Error() == want, "a day later: %v", err)
	assert.Equal(t, p.Memory.Counts(b.ID, p.now()).Redeemed, 5, "redeemed")
}

func TestRedeem_FrozenOrVoid(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	for _, err := range []error{p.change(b, codes.Freeze, codes.NewSet(codes.Range{From: 10, To: 19})), p.change(b, codes.Void, one(30)),
		p.change(b, codes.Freeze, one(30))} {
		require.NoError(t, err)
	}
	for _, c := range []struct {
		set  codes.Set
		want string
	}{
		{one(10), "code 10 is frozen and cannot be redeemed"}, {one(30), "code 30 is void and cannot be redeemed"},
		{codes.NewSet(codes.Range{From: 0, To: 9_999}), "code 10 is frozen and cannot be redeemed"},
		{codes.NewSet(codes.Range{From: 20, To: 99}), "code 30 is void and cannot be redeemed"},
		{codes.NewSet(codes.Range{From: 0, To: 9}, codes.Range{From: 20, To: 29}, codes.Range{From: 31, To: 9_999}), ""},
	} {
		err := p.change(b, codes.Redeem, c.set)
		conflict, ok := errors.AsType[codes.Conflict](err)
		assert.True(t, (c.want == "" || ok && string(conflict) == c.want) && (c.want != "" || err == nil),
			"%v: %v, want %q", c.set, err, c.want)
	}
	// Unfrozen it can be; void is for ever.
	for _, err := range []error{p.change(b, codes.Unfreeze, codes.NewSet(codes.Range{From: 1, To: 9_999})),
		p.change(b, codes.Redeem, one(10))} {
		assert.True(t, err == nil, "%v", err)
	}
	s := p.Memory.State(b.ID, 30, p.now())
	assert.True(t, s.Void && !s.Frozen, "%+v", s)
}

// A batch's own freeze overrides, and lifting it does not bring back a code that was frozen by itself.
func TestBatchFreeze_IndependentOfCodes(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	all := codes.NewSet(codes.Range{From: 0, To: 9_999})
	frozen := func(index int64) bool { return p.Memory.State(b.ID, index, p.now()).Frozen }
	for _, step := range []struct {
		did       codes.EventType
		set       codes.Set
		five, six bool
		count     uint64
	}{
		{codes.Freeze, one(5), true, false, 1}, {codes.Freeze, all, true, true, 10_000}, {codes.Unfreeze, one(6), true, true, 10_000},
		{codes.Unfreeze, all, true, false, 1}, {codes.Unfreeze, one(5), false, false, 0},
	} {
		require.NoError(t, p.change(b, step.did, step.set))
		if n := p.Memory.Counts(b.ID, p.now()).Frozen; frozen(5) != step.five || frozen(6) != step.six || n != step.count {
			t.Errorf("after %s of %d codes: 5 frozen %v, 6 frozen %v, %d in all", step.did, step.set.Len(), frozen(5), frozen(6), n)
		}
	}
	require.NoError(t, p.change(b, codes.Freeze, all))
	_, conflict := errors.AsType[codes.Conflict](p.change(b, codes.Redeem, one(7)))
	assert.True(t, conflict, "a code of a frozen batch was redeemed")
}

// Scattered sets have bounds that hold nearly every code. A redeemed code is found
// behind any number of them, and the history misses nothing.
func TestCodeHistory_Complete(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	p.activate(b, 0, 9_999)
	require.NoError(t, assert.ErrorOf(p.Change(by(t, "till"), codes.Change{Batch: b.ID, Action: codes.Redeem, Codes: one(5_000),
		Note: "receipt 1"})))
	at := p.now()
	got, err := p.RedeemedAt(t.Context(), b.ID, 5_000)
	assert.True(t, err == nil && got.Equal(at), "redeemed at %s, %v, want %s", got, err, at)
	p.advance(time.Second)
	err = p.Store.UpdateCodes(t.Context(), func(tx codes.Tx) error {
		for range 2_100 {
			// One transaction instead of two thousand calls.
			if _, err := tx.AddEvent(t.Context(), codes.Event{Batch: b.ID, Action: codes.Unfreeze,
				Codes: codes.NewSet(codes.Range{From: 0, To: 0}, codes.Range{From: 9_999, To: 9_999}), OccurredAt: p.now(),
				From: p.now()}); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, err)
	err = p.change(b, codes.Redeem, one(5_000))
	assert.True(t, err != nil && err.Error() == "code 5000 was redeemed by till at "+at.Format(time.RFC3339), "%v", err)
	// A public page asks too, and reads a bounded number of them.
	rows := 0
	public := &codes.Service{Store: rowsRead{p.Store, &rows}}
	got, err = public.RedeemedAt(t.Context(), b.ID, 5_000)
	assert.True(t, err != nil && rows != 0 && rows <= 2_000, "a page read %d rows and says %s, %v", rows, got, err)
	list, err := p.History(t.Context(), b.ID, 5_000)
	assert.True(t, err == nil && len(list) == 2 && list[0].Action == codes.Redeem && list[0].Actor == "till" &&
		list[0].Note == "receipt 1" && list[0].OccurredAt.Equal(at) && list[1].Action == codes.Activate && list[1].Actor == "svc" &&
		list[1].RID == "rid", "%+v, %v", list, err)
	list, err = p.History(t.Context(), b.ID, 9_999)
	assert.True(t, err == nil && len(list) == 1_000, "%d events are shown, %v", len(list), err)
}

// rowsRead counts the events that are read around one code.
type rowsRead struct {
	codes.Store
	n *int
}

func (s rowsRead) ViewCodes(ctx context.Context, f func(codes.Tx) error) error {
	return s.Store.ViewCodes(ctx, func(tx codes.Tx) error { return f(rowsReadTx{tx, s.n}) })
}

type rowsReadTx struct {
	codes.Tx
	n *int
}

func (t rowsReadTx) EventsAt(ctx context.Context, batch, index, before int64, limit int) ([]codes.Event, error) {
	list, err := t.Tx.EventsAt(ctx, batch, index, before, limit)
	*t.n += len(list)
	return list, err
}

func TestRetarget_KeepsActivityAttribution(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	p.set(func(s *settings.Settings) { s.Behaviours = nil })
	b := p.apply("x", 10_000)
	p.activate(b, 0, 99)
	p.binding.ActivityName = "second"
	p.activate(b, 200, 299)
	n, err := p.Retarget(t.Context(), b.ID, codes.Range{From: 50, To: 249}, "bare", "pages/new", codes.WxaTrial)
	require.True(t, err == nil && n == (codes.Retargeted{Activations: 2, Codes: 100}), "%v, %v", n, err)
	for index, want := range map[int64]string{
		0: "a shop pages/index/index 0", 49: "a shop pages/index/index 0", 50: "a bare pages/new 2", 99: "a bare pages/new 2", 100: "",
		199: "",
		200: "second bare pages/new 2", 249: "second bare pages/new 2", 250: "second shop pages/index/index 0",
		299: "second shop pages/index/index 0", 300: "",
	} {
		got := ""
		if by := p.Memory.State(b.ID, index, p.now()).Activation; by != nil {
			got = fmt.Sprint(by.Binding.ActivityName, " ", by.Binding.WxaAppID, " ", by.Binding.WxaPath, " ", by.Binding.WxaType)
		}
		assert.Equal(t, got, want, "index %d", index)
	}
	_, err = p.Retarget(t.Context(), b.ID, codes.Range{From: 50, To: 249}, "nobody", "p", 0)
	assert.True(t, err != nil, "re-targeted to an unknown Mini Program")
}

// An active code is not covered by another range, now or by a schedule; the very same range replaces. Issue 11, 2.
func TestActivate_RejectsOverlap(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	activate := func(from, to int64) error {
		return p.Activate(t.Context(), p.owner, codes.Activation{Batch: b.ID, Range: codes.Range{From: from, To: to}, Binding: p.binding})
	}
	schedule := func(did codes.EventType, from, to int64, in time.Duration) error {
		return failure(p.Change(t.Context(), codes.Change{Batch: b.ID, Action: did, Codes: codes.NewSet(codes.Range{From: from, To: to}),
			Binding: p.binding, From: p.now().Add(in)}))
	}
	works := func(what string, err error) {
		t.Helper()
		assert.True(t, err == nil, "%s: %v", what, err)
	}
	refused := func(what string, err error, detail string) {
		t.Helper()
		wantCode(t, what, err, errcode.ActivationOverlaps, detail)
	}
	p.activate(b, 0, 99)
	p.activate(b, 0, 99)
	refused("the last", activate(99, 200), "code_start 99, code_end 200: code 99 is active with 0 to 99")
	works("beside it", activate(100, 200))
	works("a deactivation", p.change(b, codes.Deactivate, one(50)))
	works("deactivated before", activate(50, 50))
	refused("of old, around another", activate(0, 99), "code 50 is active with 50 to 50")

	works("a schedule", schedule(codes.Activate, 300, 300, time.Hour))
	refused("before a schedule", activate(290, 310), "code 300 is to be activated by a schedule with 300 to 300")
	refused("a schedule before a schedule", schedule(codes.Activate, 290, 310, time.Minute), "code 300 is to be activated by a schedule")
	works("the same range before its schedule", activate(300, 300))
	p.advance(2 * time.Hour)
	refused("after the schedule", activate(290, 310), "code 300 is active with 300 to 300")
	// A schedule that is deactivated before it takes effect prevents nothing.
	refused("a schedule over what stays active", schedule(codes.Activate, 250, 350, time.Hour), "code 300 is active")
	works("a scheduled end", schedule(codes.Deactivate, 300, 300, time.Hour))
	refused("a schedule before that end", schedule(codes.Activate, 250, 350, time.Minute), "code 300 is active")
	works("a schedule after that end", schedule(codes.Activate, 250, 350, time.Hour))
	p.advance(2 * time.Hour)
	by := p.Memory.State(b.ID, 300, p.now()).Activation
	assert.True(t, by != nil && by.Codes.Bounds() == (codes.Range{From: 250, To: 350}), "%+v", by)

	// Of many that want overlapping ranges one gets its own.
	won := 0
	for i, err := range race(16, func(i int) error { return activate(1_000+int64(i), 1_999) }) {
		if err == nil {
			won++
		} else {
			refused(fmt.Sprint("call ", i), err, "is active with")
		}
	}
	assert.Equal(t, won, 1, "activations won")
}

// A re-target changes what codes open, and nothing of the ranges that they were
// activated with: those of a plain array, which re-targets leave alone.
func TestActivate_OverlapIgnoresRetarget(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	const codesInPlay = 24
	var nothing codes.Range
	var sent [codesInPlay]codes.Range // To is 0 where a code is not active: no range here ends with it
	random := rand.New(rand.NewPCG(1, 2))
	worked, again := 0, 0
	for n := range 400 {
		from := random.Int64N(codesInPlay - 1)
		r := codes.Range{From: from, To: from + 1 + random.Int64N(min(8, codesInPlay-1-from))}
		if have := sent[from]; n%2 == 0 && have != nothing {
			r = have // sent again
		}
		part := sent[r.From : r.To+1]
		switch random.IntN(4) {
		case 0:
			require.NoError(t, p.change(b, codes.Deactivate, codes.NewSet(r)))
			clear(part)
		case 1:
			require.NoError(t, assert.ErrorOf(p.Retarget(t.Context(), b.ID, r, "bare", fmt.Sprint("pages/", n), 0)))
		default:
			free := !slices.ContainsFunc(part, func(have codes.Range) bool { return have != nothing && have != r })
			err := p.Activate(t.Context(), p.owner, codes.Activation{Batch: b.ID, Range: r, Binding: p.binding})
			require.True(t, free == (err == nil) && (err == nil || errors.Is(err, errcode.ActivationOverlaps)),
				"step %d: %v again over %v: %v", n, r, part, err)
			if free {
				worked++
				if slices.Contains(part, r) {
					again++
				}
				for i := range part {
					part[i] = r
				}
			}
		}
	}
	require.True(t, worked >= 20 && again >= 20, "%d activations, %d of them again: the steps try too little", worked, again)
	reread := codes.NewMemory(p.Store)
	require.NoError(t, reread.Load(t.Context()))
	for i, want := range sent {
		then, err := p.StateAsOf(t.Context(), b, int64(i), p.now())
		require.NoError(t, err)
		for where, s := range map[string]codes.State{"memory": p.Memory.State(b.ID, int64(i), p.now()),
			"read again": reread.State(b.ID, int64(i), p.now()), "then": then} {
			got := nothing
			if s.Activation != nil {
				got = s.Activation.Activated()
			}
			assert.True(t, got == want, "%s: code %d was activated with %v, want %v", where, i, got, want)
		}
	}
}

// Concurrent activations are all stored, and memory agrees with the events in the store.
func TestActivate_Concurrent(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	p.set(func(s *settings.Settings) {
		s.Behaviours = settings.Overrides{"codes.activate.overlap_taken": settings.Allow}
	})
	b := p.apply("x", 10_000)
	random := rand.New(rand.NewPCG(1, 1))
	var ranges [64]codes.Range
	for i := range ranges {
		from := random.Int64N(180)
		ranges[i] = codes.Range{From: from, To: from + random.Int64N(20)}
	}
	for _, err := range race(len(ranges), func(i int) error {
		if i%4 == 0 {
			return p.change(b, codes.Deactivate, codes.NewSet(ranges[i]))
		}
		return p.Activate(t.Context(), p.owner, codes.Activation{Batch: b.ID, Range: ranges[i], Binding: p.binding})
	}) {
		require.NoError(t, err)
	}
	events := require.All(t, p.Store.Events(t.Context(), b.ID, 0))
	require.True(t, len(events) == len(ranges), "%d events of %d calls", len(events), len(ranges))
	checkAll(t, "after all", p.Memory, b.ID, events, p.now())
	again := codes.NewMemory(p.Store)
	require.NoError(t, again.Load(t.Context()))
	checkAll(t, "read again", again, b.ID, events, p.now())
}

// An operator that deactivates codes at the moment of their schedule cancels it, and a re-target does not bring it again.
func TestRetarget_DeactivatedSchedule(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	p.set(func(s *settings.Settings) {
		s.Behaviours = settings.Overrides{"codes.activate.overlap_taken": settings.Allow}
	})
	b := p.apply("x", 10_000)
	later := p.now().Add(time.Hour)
	schedule := func(did codes.EventType, from, to int64, activity string) {
		t.Helper()
		c := codes.Change{Batch: b.ID, Action: did, Codes: codes.NewSet(codes.Range{From: from, To: to}), From: later}
		if did == codes.Activate {
			c.Binding = p.binding
			c.Binding.ActivityName = activity
		}
		require.NoError(t, assert.ErrorOf(p.Change(t.Context(), c)))
	}
	schedule(codes.Activate, 0, 99, "first")
	schedule(codes.Deactivate, 40, 59, "")
	schedule(codes.Activate, 90, 109, "second")
	n, err := p.Retarget(t.Context(), b.ID, codes.Range{From: 0, To: 9_999}, "bare", "pages/new", codes.WxaTrial)
	require.True(t, err == nil && n.Activations == 3, "%v, %v", n, err)
	p.advance(2 * time.Hour)
	for index, want := range map[int64]string{0: "first", 39: "first", 40: "", 59: "", 60: "first", 89: "first", 90: "second",
		109: "second", 110: ""} {
		got := ""
		if by := p.Memory.State(b.ID, index, p.now()).Activation; by != nil {
			got = by.Binding.ActivityName
			assert.True(t, by.Binding.WxaAppID == "bare", "index %d opens %s", index, by.Binding.WxaAppID)
		}
		assert.Equal(t, got, want, "index %d", index)
	}
	_, err = p.Retarget(by(t, strings.Repeat("x", 257)), b.ID, codes.Range{From: 0, To: 9}, "bare", "p", 0)
	assert.True(t, err != nil, "an actor of 257 characters was taken")
}

// The codes asked for and the codes changed are two numbers, as the plain states before and after say. Issue 11, 5.
func TestCodeChange_ChangedCount(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	p.set(func(s *settings.Settings) {
		s.Behaviours = settings.Overrides{"codes.activate.overlap_taken": settings.Allow}
	})
	b := p.apply("x", 10_000)
	random := rand.New(rand.NewPCG(11, 5))
	const shown = 60 // indexes that small sets name; the whole batch is named too
	state := func(index int64) codes.State { return p.Memory.State(b.ID, index, p.now()) }
	said := map[codes.EventType]func(codes.State) bool{
		codes.Freeze: func(s codes.State) bool { return s.Frozen }, codes.Unfreeze: func(s codes.State) bool { return s.Frozen },
		codes.Void: func(s codes.State) bool { return s.Void }, codes.Redeem: func(s codes.State) bool { return s.Redeemed },
		codes.Deactivate: func(s codes.State) bool { return s.Activation != nil },
	}
	counted := map[codes.EventType]int{}
	for range 400 {
		did := []codes.EventType{codes.Freeze, codes.Unfreeze, codes.Void, codes.Redeem, codes.Deactivate, codes.Activate}[random.IntN(6)]
		from := random.Int64N(shown)
		ranges := []codes.Range{{From: from, To: min(shown, from+random.Int64N(4))}}
		if did != codes.Activate {
			from = random.Int64N(shown)
			ranges = append(ranges, codes.Range{From: from, To: from})
		}
		if random.IntN(8) == 0 && (did == codes.Freeze || did == codes.Unfreeze) {
			ranges = []codes.Range{{From: 0, To: 9_999}}
		}
		set := codes.NewSet(ranges...)
		before := map[int64]bool{}
		for _, r := range set {
			for i := r.From; i <= r.To; i++ {
				before[i] = did != codes.Activate && said[did](state(i))
			}
		}
		c := codes.Change{Batch: b.ID, Action: did, Codes: set}
		if did == codes.Activate {
			c.Binding = p.binding
		}
		changed, err := p.Change(t.Context(), c)
		if _, conflict := errors.AsType[codes.Conflict](err); conflict {
			continue // frozen, void, or a single one that was redeemed
		}
		require.NoError(t, err)
		var want int64
		for i, was := range before {
			if did == codes.Activate || said[did](state(i)) != was {
				want++
			}
		}
		require.Equal(t, changed, want, "%s %v changed %d codes, it", did, set, want)
		if want > 0 && want < set.Len() {
			counted[did]++
		}
	}
	for did := range said {
		assert.True(t, counted[did] != 0 || did == codes.Unfreeze, "no %s changed a part of what was named", did)
	}
}
