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
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// withActor returns a context whose changes have the actor name.
func withActor(t *testing.T, name string) context.Context {
	return accounts.WithActor(t.Context(), accounts.Actor{ActorID: name})
}

func (p *fixture) change(b codes.Batch, action codes.EventType, set codes.Set) error {
	c := codes.Change{Batch: b.ID, Action: action, Codes: set}
	if action == codes.Activate {
		c.Binding = p.binding
	}
	return assert.ErrorOf(p.Change(p.t.Context(), c))
}

func single(index int64) codes.Set { return codes.NewSet(codes.Range{From: index, To: index}) }

func TestCodeChange_Invalid(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 0)
	later := p.now().Add(time.Hour)
	for _, c := range []struct {
		name, want string
		change     codes.Change
	}{
		{"no codes", "no codes are given", codes.Change{Action: codes.Freeze}},
		{"after the end", "code_end 10000: the application has the indexes 0 to 9999",
			codes.Change{Action: codes.Freeze, Codes: single(10_000)}},
		{"before the beginning", "an index is 0 or more", codes.Change{Action: codes.Freeze, Codes: codes.Set{{From: -1, To: 4}}}},
		{"a scheduled freeze", "only an activation or a deactivation can be scheduled, not freeze",
			codes.Change{Action: codes.Freeze, Codes: single(1), From: later}},
		{"a past schedule", "is in the past", codes.Change{Action: codes.Deactivate, Codes: single(1), From: p.now().Add(-time.Second)}},
		{"an activation of nothing", "activity_name invalid", codes.Change{Action: codes.Activate, Codes: single(1)}},
		{"a note of 257 characters", "note and actor", codes.Change{Action: codes.Freeze, Codes: single(1),
			Note: strings.Repeat("n", 257)}},
		{"a note with a line feed", "note and actor", codes.Change{Action: codes.Freeze, Codes: single(1), Note: "a\nb"}},
	} {
		c.change.Batch = b.ID
		number := errcode.InvalidArgs
		if c.name == "after the end" {
			number = errcode.IndexBeyond
		}
		assertCode(t, c.name, assert.ErrorOf(p.Change(t.Context(), c.change)), number, c.want)
	}
	_, err := p.Change(t.Context(), codes.Change{Batch: 7, Action: codes.Freeze, Codes: single(1)})
	assert.ErrorIs(t, err, codes.ErrNoBatch, "Change of an unknown batch")
	_, err = p.Retarget(t.Context(), 7, codes.Range{}, "shop", "p", 0)
	assert.ErrorIs(t, err, codes.ErrNoBatch, "Retarget of an unknown batch")
}

// TestCodeChange_ScheduledBeforeLastChange verifies that a change is rejected if it is scheduled before the last change of the batch, which
// a fast clock has dated: it would take effect at once.
func TestCodeChange_ScheduledBeforeLastChange(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 0)
	p.advance(24 * time.Hour)
	require.NoError(t, p.change(b, codes.Freeze, single(9)))
	p.advance(-24 * time.Hour)
	activation := codes.Change{Batch: b.ID, Action: codes.Activate, Binding: p.binding, Codes: single(1), From: p.now().Add(time.Hour)}
	_, err := p.Change(t.Context(), activation)
	assert.True(t, errors.As(err, new(codes.Conflict)) && strings.Contains(err.Error(), "2026-01-16T02:00:00Z"), "%v, want a Conflict", err)
	assert.Equal(t, p.scan(p.Text(b, 1), "u"), "not_active", "scan of the code")
	activation.From = p.now().Add(25 * time.Hour)
	assert.NoError(t, assert.ErrorOf(p.Change(t.Context(), activation)))
}

// TestRedeem_ConcurrentOnce verifies that one of 32 concurrent redemptions of a code succeeds and that the others return its actor and
// time.
func TestRedeem_ConcurrentOnce(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 0)
	errs := dbtest.Race(32, func(i int) error {
		return assert.ErrorOf(p.Change(withActor(t, fmt.Sprint("till ", i)), codes.Change{Batch: b.ID, Action: codes.Redeem,
			Codes: single(7), Note: "x"}))
	})
	winner := -1
	for i, err := range errs {
		if err == nil {
			require.True(t, winner < 0, "calls %d and %d both succeeded, want one", winner, i)
			winner = i
		}
	}
	require.True(t, winner >= 0, "no redemption succeeded: %v", errs)
	want := fmt.Sprintf("code 7 was redeemed by till %d at 2026-01-15T02:00:00Z", winner)
	for i, err := range errs {
		conflict, ok := errors.AsType[codes.Conflict](err)
		assert.True(t, i == winner || ok && conflict.Error() == want, "call %d: %v, want %s", i, err, want)
	}
	// Later changes keep the first redemption, and a range that contains the redeemed code can be redeemed.
	p.advance(time.Hour)
	for _, action := range []codes.EventType{codes.Freeze, codes.Unfreeze, codes.Activate, codes.Deactivate} {
		require.NoError(t, p.change(b, action, single(7)))
	}
	require.NoError(t, p.change(b, codes.Redeem, codes.NewSet(codes.Range{From: 5, To: 9})))
	err := p.change(b, codes.Redeem, single(7))
	assert.True(t, err != nil && err.Error() == want, "redemption an hour later: %v, want %s", err, want)
	assert.Equal(t, p.Memory.Counts(b.ID, p.now()).Redeemed, 5, "redeemed codes")
}

func TestRedeem_FrozenOrVoid(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 0)
	for _, err := range []error{p.change(b, codes.Freeze, codes.NewSet(codes.Range{From: 10, To: 19})), p.change(b, codes.Void, single(30)),
		p.change(b, codes.Freeze, single(30))} {
		require.NoError(t, err)
	}
	for _, c := range []struct {
		set  codes.Set
		want string
	}{
		{single(10), "code 10 is frozen and cannot be redeemed"}, {single(30), "code 30 is void and cannot be redeemed"},
		{codes.NewSet(codes.Range{From: 0, To: 9_999}), "code 10 is frozen and cannot be redeemed"},
		{codes.NewSet(codes.Range{From: 20, To: 99}), "code 30 is void and cannot be redeemed"},
		{codes.NewSet(codes.Range{From: 0, To: 9}, codes.Range{From: 20, To: 29}, codes.Range{From: 31, To: 9_999}), ""},
	} {
		err := p.change(b, codes.Redeem, c.set)
		conflict, ok := errors.AsType[codes.Conflict](err)
		assert.True(t, (c.want == "" || ok && string(conflict) == c.want) && (c.want != "" || err == nil),
			"%v: %v, want %q", c.set, err, c.want)
	}
	// An unfrozen code can be redeemed; a void code stays void.
	assert.NoError(t, p.change(b, codes.Unfreeze, codes.NewSet(codes.Range{From: 1, To: 9_999})))
	assert.NoError(t, p.change(b, codes.Redeem, single(10)))
	s := p.Memory.State(b.ID, 30, p.now())
	assert.True(t, s.Void && !s.Frozen, "state of code 30 = %+v, want void and unfrozen", s)
}

// TestBatchFreeze_IndependentOfCodes verifies that a frozen batch freezes all its codes, and that after the batch is unfrozen those codes
// are frozen that were frozen individually.
func TestBatchFreeze_IndependentOfCodes(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 0)
	all := codes.NewSet(codes.Range{From: 0, To: 9_999})
	frozen := func(index int64) bool { return p.Memory.State(b.ID, index, p.now()).Frozen }
	for _, step := range []struct {
		action    codes.EventType
		set       codes.Set
		five, six bool
		count     uint64
	}{
		{codes.Freeze, single(5), true, false, 1}, {codes.Freeze, all, true, true, 10_000}, {codes.Unfreeze, single(6), true, true, 10_000},
		{codes.Unfreeze, all, true, false, 1}, {codes.Unfreeze, single(5), false, false, 0},
	} {
		require.NoError(t, p.change(b, step.action, step.set))
		if n := p.Memory.Counts(b.ID, p.now()).Frozen; frozen(5) != step.five || frozen(6) != step.six || n != step.count {
			t.Errorf("after %s of %d codes: code 5 frozen %v, code 6 frozen %v, %d frozen codes; want %v, %v, %d", step.action,
				step.set.Len(),
				frozen(5), frozen(6), n, step.five, step.six, step.count)
		}
	}
	require.NoError(t, p.change(b, codes.Freeze, all))
	_, conflict := errors.AsType[codes.Conflict](p.change(b, codes.Redeem, single(7)))
	assert.True(t, conflict, "a code of a frozen batch was redeemed, want a conflict")
}

// TestCodeHistory_Complete stores 2,100 events of scattered sets whose bounds include the redeemed code, and verifies that the code's
// redemption and history are found although the events of the sets are newer.
func TestCodeHistory_Complete(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 10_000)
	require.NoError(t, assert.ErrorOf(p.Change(withActor(t, "till"), codes.Change{Batch: b.ID, Action: codes.Redeem, Codes: single(5_000),
		Note: "receipt 1"})))
	redeemedAt := p.now()
	got, err := p.RedeemedAt(t.Context(), b.ID, 5_000)
	assert.True(t, err == nil && got.Equal(redeemedAt), "RedeemedAt() = %s, %v, want %s", got, err, redeemedAt)
	p.advance(time.Second)
	err = p.Store.UpdateCodes(t.Context(), func(tx codes.Tx) error {
		for range 2_100 {
			// One transaction is faster than 2,100 calls.
			if _, err := tx.AddEvent(t.Context(), codes.Event{Batch: b.ID, Action: codes.Unfreeze,
				Codes: codes.NewSet(codes.Range{From: 0, To: 0}, codes.Range{From: 9_999, To: 9_999}), OccurredAt: p.now(),
				From: p.now()}); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, err)
	err = p.change(b, codes.Redeem, single(5_000))
	assert.True(t, err != nil && err.Error() == "code 5000 was redeemed by till at "+redeemedAt.Format(time.RFC3339),
		"second redemption: %v, want the conflict with the first", err)
	// A public page reads a bounded number of events.
	rows := 0
	public := &codes.Service{Store: eventCounter{p.Store, &rows}}
	got, err = public.RedeemedAt(t.Context(), b.ID, 5_000)
	assert.True(t, err != nil && rows != 0 && rows <= 2_000,
		"RedeemedAt of a page = %s, %v after %d rows, want an error after at most 2000",
		got, err, rows)
	list, err := p.History(t.Context(), b.ID, 5_000)
	assert.True(t, err == nil && len(list) == 2 && list[0].Action == codes.Redeem && list[0].Actor == "till" &&
		list[0].Note == "receipt 1" && list[0].OccurredAt.Equal(redeemedAt) && list[1].Action == codes.Activate && list[1].Actor == "svc" &&
		list[1].RID == "rid", "History(5000) = %+v, %v, want the redemption and the activation", list, err)
	list, err = p.History(t.Context(), b.ID, 9_999)
	assert.True(t, err == nil && len(list) == 1_000, "History(9999) has %d events, %v, want 1000", len(list), err)
}

// eventCounter adds the number of events that EventsAt returns to n.
type eventCounter struct {
	codes.Store
	n *int
}

func (s eventCounter) ViewCodes(ctx context.Context, f func(codes.Tx) error) error {
	return s.Store.ViewCodes(ctx, func(tx codes.Tx) error { return f(eventCounterTx{tx, s.n}) })
}

type eventCounterTx struct {
	codes.Tx
	n *int
}

func (t eventCounterTx) EventsAt(ctx context.Context, batch, index, before int64, limit int) ([]codes.Event, error) {
	list, err := t.Tx.EventsAt(ctx, batch, index, before, limit)
	*t.n += len(list)
	return list, err
}

func TestRetarget_KeepsActivityAttribution(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 100)
	p.binding.ActivityName = "second"
	p.activate(b, 200, 299)
	n, err := p.Retarget(t.Context(), b.ID, codes.Range{From: 50, To: 249}, "bare", "pages/new", codes.WxaTrial)
	require.True(t, err == nil && n == (codes.Retargeted{Activations: 2, Codes: 100}), "Retarget = %v, %v, want 2 activations, 100 codes",
		n, err)
	for index, want := range map[int64]string{
		0: "a shop pages/index/index 0", 49: "a shop pages/index/index 0", 50: "a bare pages/new 2", 99: "a bare pages/new 2", 100: "",
		199: "",
		200: "second bare pages/new 2", 249: "second bare pages/new 2", 250: "second shop pages/index/index 0",
		299: "second shop pages/index/index 0", 300: "",
	} {
		got := ""
		if a := p.Memory.State(b.ID, index, p.now()).Activation; a != nil {
			got = fmt.Sprint(a.Binding.ActivityName, " ", a.Binding.WxaAppID, " ", a.Binding.WxaPath, " ", a.Binding.WxaType)
		}
		assert.Equal(t, got, want, "binding of index %d", index)
	}
	_, err = p.Retarget(t.Context(), b.ID, codes.Range{From: 50, To: 249}, "unknown", "p", 0)
	assert.True(t, err != nil, "Retarget to an unknown Mini Program succeeded, want an error")
}

// TestActivate_RejectsOverlap verifies that a range that contains an active code, or one with a scheduled activation, is rejected, and that
// the same range can be activated again.
func TestActivate_RejectsOverlap(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 0)
	activate := func(from, to int64) error {
		return p.Activate(t.Context(), p.owner, codes.Activation{Batch: b.ID, Range: codes.Range{From: from, To: to}, Binding: p.binding})
	}
	schedule := func(action codes.EventType, from, to int64, in time.Duration) error {
		return assert.ErrorOf(p.Change(t.Context(), codes.Change{Batch: b.ID, Action: action,
			Codes:   codes.NewSet(codes.Range{From: from, To: to}),
			Binding: p.binding, From: p.now().Add(in)}))
	}
	assertOK := func(name string, err error) {
		t.Helper()
		assert.NoErrorf(t, err, "%s", name)
	}
	assertOverlap := func(name string, err error, detail string) {
		t.Helper()
		assertCode(t, name, err, errcode.ActivationOverlaps, detail)
	}
	p.activate(b, 0, 99)
	p.activate(b, 0, 99)
	assertOverlap("the last code", activate(99, 200), "code_start 99, code_end 200: code 99 is active with 0 to 99")
	assertOK("an adjacent range", activate(100, 200))
	assertOK("a deactivation", p.change(b, codes.Deactivate, single(50)))
	assertOK("a deactivated code", activate(50, 50))
	assertOverlap("the first range with a code of another", activate(0, 99), "code 50 is active with 50 to 50")

	assertOK("a schedule", schedule(codes.Activate, 300, 300, time.Hour))
	assertOverlap("before a schedule", activate(290, 310), "code 300 is to be activated by a schedule with 300 to 300")
	assertOverlap("an earlier schedule", schedule(codes.Activate, 290, 310, time.Minute), "code 300 is to be activated by a schedule")
	assertOK("the same range before its schedule", activate(300, 300))
	p.advance(2 * time.Hour)
	assertOverlap("after the schedule", activate(290, 310), "code 300 is active with 300 to 300")
	assertOverlap("a schedule over an active code", schedule(codes.Activate, 250, 350, time.Hour), "code 300 is active")
	assertOK("a scheduled deactivation", schedule(codes.Deactivate, 300, 300, time.Hour))
	assertOverlap("a schedule before the deactivation", schedule(codes.Activate, 250, 350, time.Minute), "code 300 is active")
	assertOK("a schedule after the deactivation", schedule(codes.Activate, 250, 350, time.Hour))
	p.advance(2 * time.Hour)
	a := p.Memory.State(b.ID, 300, p.now()).Activation
	assert.True(t, a != nil && a.Codes.Bounds() == (codes.Range{From: 250, To: 350}), "activation of code 300 = %+v, want 250 to 350", a)

	// One of 16 concurrent activations of overlapping ranges succeeds.
	succeeded := 0
	for i, err := range dbtest.Race(16, func(i int) error { return activate(1_000+int64(i), 1_999) }) {
		if err == nil {
			succeeded++
		} else {
			assertOverlap(fmt.Sprint("call ", i), err, "is active with")
		}
	}
	assert.Equal(t, succeeded, 1, "successful concurrent activations")
}

// TestActivate_OverlapIgnoresRetarget compares random activations, deactivations and re-targets with an array of activated ranges, which a
// re-target leaves unchanged: it changes the binding of codes and keeps the ranges that they were activated with.
func TestActivate_OverlapIgnoresRetarget(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 0)
	const count = 24
	var none codes.Range
	var activated [count]codes.Range // none where a code is not active: every range of this test has To > 0
	random := rand.New(rand.NewPCG(1, 2))
	succeeded, repeated := 0, 0
	for n := range 400 {
		from := random.Int64N(count - 1)
		r := codes.Range{From: from, To: from + 1 + random.Int64N(min(8, count-1-from))}
		if active := activated[from]; n%2 == 0 && active != none {
			r = active // a repeated activation
		}
		part := activated[r.From : r.To+1]
		switch random.IntN(4) {
		case 0:
			require.NoError(t, p.change(b, codes.Deactivate, codes.NewSet(r)))
			clear(part)
		case 1:
			require.NoError(t, assert.ErrorOf(p.Retarget(t.Context(), b.ID, r, "bare", fmt.Sprint("pages/", n), 0)))
		default:
			free := !slices.ContainsFunc(part, func(active codes.Range) bool { return active != none && active != r })
			err := p.Activate(t.Context(), p.owner, codes.Activation{Batch: b.ID, Range: r, Binding: p.binding})
			require.True(t, free == (err == nil) && (err == nil || errors.Is(err, errcode.ActivationOverlaps)),
				"step %d: activation of %v over %v: %v, want success %t", n, r, part, err, free)
			if free {
				succeeded++
				if slices.Contains(part, r) {
					repeated++
				}
				for i := range part {
					part[i] = r
				}
			}
		}
	}
	require.True(t, succeeded >= 20 && repeated >= 20, "%d activations, %d of them repeated, want at least 20 of each", succeeded, repeated)
	reloaded := p.reloadMemory()
	for i, want := range activated {
		asOf := require.Value(p.StateAsOf(t.Context(), b, int64(i), p.now()))(t)
		for source, s := range map[string]codes.State{"memory": p.Memory.State(b.ID, int64(i), p.now()),
			"reloaded memory": reloaded.State(b.ID, int64(i), p.now()), "StateAsOf": asOf} {
			got := none
			if s.Activation != nil {
				got = s.Activation.Activated()
			}
			assert.Equal(t, got, want, "%s: activated range of code %d", source, i)
		}
	}
}

// TestActivate_Concurrent verifies that concurrent activations are all stored and that memory agrees with the stored events.
func TestActivate_Concurrent(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	p.allowOverlap()
	b := p.apply("x", 10_000)
	random := rand.New(rand.NewPCG(1, 1))
	var ranges [64]codes.Range
	for i := range ranges {
		from := random.Int64N(180)
		ranges[i] = codes.Range{From: from, To: from + random.Int64N(20)}
	}
	for _, err := range dbtest.Race(len(ranges), func(i int) error {
		if i%4 == 0 {
			return p.change(b, codes.Deactivate, codes.NewSet(ranges[i]))
		}
		return p.Activate(t.Context(), p.owner, codes.Activation{Batch: b.ID, Range: ranges[i], Binding: p.binding})
	}) {
		require.NoError(t, err)
	}
	events := require.All(t, p.Store.Events(t.Context(), b.ID, 0))
	require.Equal(t, len(events), len(ranges), "stored events")
	checkMemory(t, "memory", p.Memory, b.ID, events, p.now())
	checkMemory(t, "reloaded memory", p.reloadMemory(), b.ID, events, p.now())
}

// TestRetarget_DeactivatedSchedule schedules an activation and a deactivation for the same time and verifies that a re-target keeps the
// deactivation.
func TestRetarget_DeactivatedSchedule(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	p.allowOverlap()
	b := p.apply("x", 10_000)
	later := p.now().Add(time.Hour)
	schedule := func(action codes.EventType, from, to int64, activity string) {
		t.Helper()
		c := codes.Change{Batch: b.ID, Action: action, Codes: codes.NewSet(codes.Range{From: from, To: to}), From: later}
		if action == codes.Activate {
			c.Binding = p.binding
			c.Binding.ActivityName = activity
		}
		require.NoError(t, assert.ErrorOf(p.Change(t.Context(), c)))
	}
	schedule(codes.Activate, 0, 99, "first")
	schedule(codes.Deactivate, 40, 59, "")
	schedule(codes.Activate, 90, 109, "second")
	n, err := p.Retarget(t.Context(), b.ID, codes.Range{From: 0, To: 9_999}, "bare", "pages/new", codes.WxaTrial)
	require.True(t, err == nil && n.Activations == 3, "Retarget = %v, %v, want 3 activations", n, err)
	p.advance(2 * time.Hour)
	for index, want := range map[int64]string{0: "first", 39: "first", 40: "", 59: "", 60: "first", 89: "first", 90: "second",
		109: "second", 110: ""} {
		got := ""
		if a := p.Memory.State(b.ID, index, p.now()).Activation; a != nil {
			got = a.Binding.ActivityName
			assert.Equal(t, a.Binding.WxaAppID, "bare", "Mini Program of index %d", index)
		}
		assert.Equal(t, got, want, "activity of index %d", index)
	}
	_, err = p.Retarget(withActor(t, strings.Repeat("x", 257)), b.ID, codes.Range{From: 0, To: 9}, "bare", "p", 0)
	assert.True(t, err != nil, "Retarget by an actor of 257 characters succeeded, want an error")
}

// TestCodeChange_ChangedCount verifies that Change returns the number of codes whose state changed, which may be less than the number of
// codes in the request, by comparing the states before and after random changes.
func TestCodeChange_ChangedCount(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	p.allowOverlap()
	b := p.apply("x", 10_000)
	random := rand.New(rand.NewPCG(11, 5))
	const indexes = 60 // small sets contain these; some sets contain the entire batch
	state := func(index int64) codes.State { return p.Memory.State(b.ID, index, p.now()) }
	flags := map[codes.EventType]func(codes.State) bool{
		codes.Freeze: func(s codes.State) bool { return s.Frozen }, codes.Unfreeze: func(s codes.State) bool { return s.Frozen },
		codes.Void: func(s codes.State) bool { return s.Void }, codes.Redeem: func(s codes.State) bool { return s.Redeemed },
		codes.Deactivate: func(s codes.State) bool { return s.Activation != nil },
	}
	partial := map[codes.EventType]int{}
	for range 400 {
		action := []codes.EventType{codes.Freeze, codes.Unfreeze, codes.Void, codes.Redeem, codes.Deactivate,
			codes.Activate}[random.IntN(6)]
		from := random.Int64N(indexes)
		ranges := []codes.Range{{From: from, To: min(indexes, from+random.Int64N(4))}}
		if action != codes.Activate {
			from = random.Int64N(indexes)
			ranges = append(ranges, codes.Range{From: from, To: from})
		}
		if random.IntN(8) == 0 && (action == codes.Freeze || action == codes.Unfreeze) {
			ranges = []codes.Range{{From: 0, To: 9_999}}
		}
		set := codes.NewSet(ranges...)
		before := map[int64]bool{}
		for _, r := range set {
			for i := r.From; i <= r.To; i++ {
				before[i] = action != codes.Activate && flags[action](state(i))
			}
		}
		c := codes.Change{Batch: b.ID, Action: action, Codes: set}
		if action == codes.Activate {
			c.Binding = p.binding
		}
		changed, err := p.Change(t.Context(), c)
		if _, conflict := errors.AsType[codes.Conflict](err); conflict {
			continue // frozen, void, or a single code that was redeemed
		}
		require.NoError(t, err)
		var want int64
		for i, flag := range before {
			if action == codes.Activate || flags[action](state(i)) != flag {
				want++
			}
		}
		require.Equal(t, changed, want, "codes changed by %s of %v", action, set)
		if want > 0 && want < set.Len() {
			partial[action]++
		}
	}
	for action := range flags {
		assert.True(t, partial[action] != 0 || action == codes.Unfreeze, "no %s changed only a part of its codes, want at least one",
			action)
	}
}
