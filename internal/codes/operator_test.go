package codes_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/errcode"
	"github.com/qrjump/qrjump/internal/settings"
)

func (p *plant) change(b codes.Batch, did codes.Did, set codes.Set) error {
	c := codes.Change{Batch: b.ID, Did: did, Codes: set, Actor: "op"}
	if did == codes.Activate {
		c.Binding = p.binding
	}
	return p.Change(p.t.Context(), c)
}

func one(index int64) codes.Set { return codes.NewSet(codes.Range{From: index, To: index}) }

func TestChangesThatCannotBe(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	later := p.now().Add(time.Hour)
	for _, c := range []struct {
		name, want string
		change     codes.Change
	}{
		{"no codes", "no codes are named", codes.Change{Did: codes.Freeze}},
		{"behind the end", "code_end 10000: the application has the indexes 0 to 9999", codes.Change{Did: codes.Freeze, Codes: one(10_000)}},
		{"before the beginning", "an index is 0 or more", codes.Change{Did: codes.Freeze, Codes: codes.Set{{From: -1, To: 4}}}},
		{"a scheduled freeze", "only an activation or a withdrawal can be scheduled, not freeze", codes.Change{Did: codes.Freeze, Codes: one(1), From: later}},
		{"a schedule in the past", "is in the past", codes.Change{Did: codes.Withdraw, Codes: one(1), From: p.now().Add(-time.Second)}},
		{"an activation of nothing", "activity_name invalid", codes.Change{Did: codes.Activate, Codes: one(1)}},
		{"a note of 257 characters", "note and actor", codes.Change{Did: codes.Freeze, Codes: one(1), Note: strings.Repeat("n", 257)}},
		{"a note with a line feed", "note and actor", codes.Change{Did: codes.Freeze, Codes: one(1), Note: "a\nb"}},
	} {
		c.change.Batch, c.change.Actor = b.ID, "op"
		wantCode(t, c.name, p.Change(t.Context(), c.change), errcode.InvalidArgs, c.want)
	}
	if err := p.Change(t.Context(), codes.Change{Batch: 7, Did: codes.Freeze, Codes: one(1), Actor: "op"}); !errors.Is(err, codes.ErrNoBatch) {
		t.Errorf("an unknown batch: %v", err)
	}
	if _, err := p.Retarget(t.Context(), 7, codes.Range{}, "shop", "p", 0, "op"); !errors.Is(err, codes.ErrNoBatch) {
		t.Errorf("a re-target of an unknown batch: %v", err)
	}
}

// A single code is redeemed once: of 32 calls at once one wins, and each of the
// others learns who and when.
func TestACodeIsRedeemedOnce(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	errs := race(32, func(i int) error {
		return p.Change(t.Context(), codes.Change{Batch: b.ID, Did: codes.Redeem, Codes: one(7), Actor: fmt.Sprintf("till %d", i), Note: "x"})
	})
	winner := -1
	for i, err := range errs {
		if err == nil {
			if winner >= 0 {
				t.Fatalf("%d and %d both won", winner, i)
			}
			winner = i
		}
	}
	if winner < 0 {
		t.Fatal(errs)
	}
	want := fmt.Sprintf("code 7 was redeemed by till %d at 2026-01-15T02:00:00Z", winner)
	for i, err := range errs {
		if conflict, ok := errors.AsType[codes.Conflict](err); i != winner && (!ok || conflict.Error() != want) {
			t.Errorf("%d: %v, want %s", i, err, want)
		}
	}
	// It stays redeemed by the first, whatever comes after, and other codes of
	// a range are not held up by it.
	p.advance(time.Hour)
	for _, did := range []codes.Did{codes.Freeze, codes.Unfreeze, codes.Activate, codes.Withdraw} {
		if err := p.change(b, did, one(7)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.change(b, codes.Redeem, codes.NewSet(codes.Range{From: 5, To: 9})); err != nil {
		t.Fatal(err)
	}
	if err := p.change(b, codes.Redeem, one(7)); err == nil || err.Error() != want {
		t.Errorf("a day later: %v", err)
	}
	if got := p.Memory.Counts(b.ID, p.now()); got.Redeemed != 5 {
		t.Errorf("%d redeemed", got.Redeemed)
	}
}

func TestFrozenAndVoidCodesAreNotRedeemed(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	for _, err := range []error{p.change(b, codes.Freeze, codes.NewSet(codes.Range{From: 10, To: 19})), p.change(b, codes.Void, one(30)), p.change(b, codes.Freeze, one(30))} {
		if err != nil {
			t.Fatal(err)
		}
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
		if conflict, ok := errors.AsType[codes.Conflict](err); c.want != "" && (!ok || string(conflict) != c.want) || c.want == "" && err != nil {
			t.Errorf("%v: %v, want %q", c.set, err, c.want)
		}
	}
	// Unfrozen it can be; void is for ever.
	for _, err := range []error{p.change(b, codes.Unfreeze, codes.NewSet(codes.Range{From: 1, To: 9_999})), p.change(b, codes.Redeem, one(10))} {
		if err != nil {
			t.Error(err)
		}
	}
	if s := p.Memory.State(b.ID, 30, p.now()); !s.Void || s.Frozen {
		t.Errorf("%+v", s)
	}
}

// A batch's own freeze overrides, and lifting it does not bring back a code
// that was frozen by itself.
func TestABatchIsFrozenApartFromItsCodes(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	all := codes.NewSet(codes.Range{From: 0, To: 9_999})
	frozen := func(index int64) bool { return p.Memory.State(b.ID, index, p.now()).Frozen }
	for _, step := range []struct {
		did       codes.Did
		set       codes.Set
		five, six bool
		count     uint64
	}{
		{codes.Freeze, one(5), true, false, 1}, {codes.Freeze, all, true, true, 10_000}, {codes.Unfreeze, one(6), true, true, 10_000},
		{codes.Unfreeze, all, true, false, 1}, {codes.Unfreeze, one(5), false, false, 0},
	} {
		if err := p.change(b, step.did, step.set); err != nil {
			t.Fatal(err)
		}
		if n := p.Memory.Counts(b.ID, p.now()).Frozen; frozen(5) != step.five || frozen(6) != step.six || n != step.count {
			t.Errorf("after %s of %d codes: 5 frozen %v, 6 frozen %v, %d in all", step.did, step.set.Len(), frozen(5), frozen(6), n)
		}
	}
	if err := p.change(b, codes.Freeze, all); err != nil {
		t.Fatal(err)
	}
	if _, conflict := errors.AsType[codes.Conflict](p.change(b, codes.Redeem, one(7))); !conflict {
		t.Error("a code of a frozen batch was redeemed")
	}
}

// Scattered sets have bounds that hold nearly every code. Who redeemed is found
// behind any number of them, and the history misses nothing.
func TestTheHistoryOfACodeIsWhole(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	p.activate(b, 0, 9_999)
	if err := p.Change(t.Context(), codes.Change{Batch: b.ID, Did: codes.Redeem, Codes: one(5_000), Actor: "till", Note: "receipt 1"}); err != nil {
		t.Fatal(err)
	}
	at := p.now()
	p.advance(time.Second)
	err := p.Store.UpdateCodes(t.Context(), func(tx codes.Tx) error {
		for range 2_100 {
			// One transaction instead of two thousand calls.
			if _, err := tx.AddEvent(t.Context(), codes.Event{Batch: b.ID, Did: codes.Unfreeze, Codes: codes.NewSet(codes.Range{From: 0, To: 0}, codes.Range{From: 9_999, To: 9_999}), At: p.now(), From: p.now(), Actor: "op"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.change(b, codes.Redeem, one(5_000)); err == nil || err.Error() != "code 5000 was redeemed by till at "+at.Format(time.RFC3339) {
		t.Errorf("%v", err)
	}
	list, err := p.History(t.Context(), b.ID, 5_000)
	if err != nil || len(list) != 2 || list[0].Did != codes.Redeem || list[0].Actor != "till" || list[0].Note != "receipt 1" || !list[0].At.Equal(at) ||
		list[1].Did != codes.Activate || list[1].Actor != "svc" || list[1].RID != "rid" {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := p.History(t.Context(), b.ID, 9_999); err != nil || len(list) != 1_000 {
		t.Errorf("%d events are shown, %v", len(list), err)
	}
}

func TestRetargetKeepsWhatTheCodesCountFor(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	p.set(func(s *settings.Settings) { s.ActivationOverlap = settings.Reject })
	b := p.apply("x", 10_000)
	p.activate(b, 0, 99)
	p.binding.ActivityName = "second"
	p.activate(b, 200, 299)
	n, err := p.Retarget(t.Context(), b.ID, codes.Range{From: 50, To: 249}, "bare", "pages/new", codes.WxaTrial, "op")
	if err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	for index, want := range map[int64]string{
		0: "a shop pages/index/index 0", 49: "a shop pages/index/index 0", 50: "a bare pages/new 2", 99: "a bare pages/new 2", 100: "", 199: "",
		200: "second bare pages/new 2", 249: "second bare pages/new 2", 250: "second shop pages/index/index 0", 299: "second shop pages/index/index 0", 300: "",
	} {
		got := ""
		if by := p.Memory.State(b.ID, index, p.now()).Activation; by != nil {
			got = fmt.Sprint(by.Binding.ActivityName, " ", by.Binding.WxaAppID, " ", by.Binding.WxaPath, " ", by.Binding.WxaType)
		}
		if got != want {
			t.Errorf("index %d: %s, want %s", index, got, want)
		}
	}
	if _, err := p.Retarget(t.Context(), b.ID, codes.Range{From: 50, To: 249}, "nobody", "p", 0, "op"); err == nil {
		t.Error("re-targeted to an unknown Mini Program")
	}
}

// With activation_overlap reject a code is activated once, also by a schedule.
func TestRejectedOverlaps(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	p.activate(b, 0, 99)
	p.activate(b, 0, 99) // replaced by default
	p.set(func(s *settings.Settings) { s.ActivationOverlap = settings.Reject })
	activate := func(from, to int64) error {
		return p.Activate(t.Context(), p.owner, codes.Activation{Batch: b.ID, Range: codes.Range{From: from, To: to}, Binding: p.binding})
	}
	wantCode(t, "the same", activate(0, 99), errcode.InvalidArgs, "code 0 is active already")
	wantCode(t, "the last", activate(99, 200), errcode.InvalidArgs, "code 99 is active already")
	if err := activate(100, 200); err != nil {
		t.Error(err)
	}
	if err := p.change(b, codes.Withdraw, one(50)); err != nil {
		t.Error(err)
	}
	if err := activate(50, 50); err != nil {
		t.Error("withdrawn before:", err)
	}
	err := p.Change(t.Context(), codes.Change{Batch: b.ID, Did: codes.Activate, Codes: one(300), Binding: p.binding, Actor: "op", From: p.now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "before a schedule", activate(290, 310), errcode.InvalidArgs, "code 300 is to be activated by a schedule")
	p.advance(2 * time.Hour)
	wantCode(t, "after the schedule", activate(290, 310), errcode.InvalidArgs, "code 300 is active already")
	// Of many that want one range one gets it.
	won := 0
	for _, err := range race(16, func(int) error { return activate(1_000, 1_999) }) {
		if err == nil {
			won++
		} else {
			wantCode(t, "a later one", err, errcode.InvalidArgs, "active already")
		}
	}
	if won != 1 {
		t.Errorf("%d activations won", won)
	}
}

// Activations that many send at once are all kept, and the memory agrees with
// what is read again.
func TestActivationsAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	random := rand.New(rand.NewPCG(1, 1))
	var ranges [64]codes.Range
	for i := range ranges {
		from := random.Int64N(180)
		ranges[i] = codes.Range{From: from, To: from + random.Int64N(20)}
	}
	for _, err := range race(len(ranges), func(i int) error {
		if i%4 == 0 {
			return p.change(b, codes.Withdraw, codes.NewSet(ranges[i]))
		}
		return p.Activate(t.Context(), p.owner, codes.Activation{Batch: b.ID, Range: ranges[i], Binding: p.binding})
	}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var events []codes.Event
	for e, err := range p.Store.Events(t.Context(), b.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if len(events) != len(ranges) {
		t.Fatalf("%d events of %d calls", len(events), len(ranges))
	}
	checkAll(t, "after all", p.Memory, b.ID, events, p.now())
	again := codes.NewMemory(p.Store)
	if err := again.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkAll(t, "read again", again, b.ID, events, p.now())
}

// Who withdraws what is scheduled at its very moment takes it back, and a
// re-target does not bring it again.
func TestRetargetLeavesWithdrawnSchedulesWithdrawn(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	later := p.now().Add(time.Hour)
	schedule := func(did codes.Did, from, to int64, activity string) {
		t.Helper()
		c := codes.Change{Batch: b.ID, Did: did, Codes: codes.NewSet(codes.Range{From: from, To: to}), Actor: "op", From: later}
		if did == codes.Activate {
			c.Binding = p.binding
			c.Binding.ActivityName = activity
		}
		if err := p.Change(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	schedule(codes.Activate, 0, 99, "first")
	schedule(codes.Withdraw, 40, 59, "")
	schedule(codes.Activate, 90, 109, "second")
	if n, err := p.Retarget(t.Context(), b.ID, codes.Range{From: 0, To: 9_999}, "bare", "pages/new", codes.WxaTrial, "op"); err != nil || n != 3 {
		t.Fatalf("%d, %v", n, err)
	}
	p.advance(2 * time.Hour)
	for index, want := range map[int64]string{0: "first", 39: "first", 40: "", 59: "", 60: "first", 89: "first", 90: "second", 109: "second", 110: ""} {
		got := ""
		if by := p.Memory.State(b.ID, index, p.now()).Activation; by != nil {
			if got = by.Binding.ActivityName; by.Binding.WxaAppID != "bare" {
				t.Errorf("index %d opens %s", index, by.Binding.WxaAppID)
			}
		}
		if got != want {
			t.Errorf("index %d: %q, want %q", index, got, want)
		}
	}
	if _, err := p.Retarget(t.Context(), b.ID, codes.Range{From: 0, To: 9}, "bare", "p", 0, strings.Repeat("x", 257)); err == nil {
		t.Error("an actor of 257 characters was taken")
	}
}
