package apiusage_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func newNotes(rows ...behaviour.Row) *behaviour.Notes {
	var n behaviour.Notes
	for _, row := range rows {
		n.Add(row)
	}
	return &n
}

// TestDeviationCounts_PerAccountAndEndpoint verifies that deviations are counted by account, endpoint and behaviour, with the first and the
// last call, and that behaviours without a deviation are not counted.
func TestDeviationCounts_PerAccountAndEndpoint(t *testing.T) {
	b, m := newService()
	rows := newNotes(behaviour.WireNumberText, behaviour.CodesGrant, behaviour.RulesAddICPUnasked)
	for n := range 3 {
		b.Deviate("wxa", "/a", rid(n), now, rows)
	}
	b.Deviate("wxa", "/b", rid(3), now, newNotes(behaviour.WireNumberText))
	b.Deviate("wxb", "/a", rid(4), now, newNotes(behaviour.CodesGrant))
	assert.Equal(t, m.writes, 0, "writes")
	list, err := b.Deviations(t.Context(), "")
	require.True(t, err == nil && m.writes == 1, "%d writes, %v, want 1", m.writes, err)
	deviation := func(endpoint string, row behaviour.Row, times int64, first, last int) apiusage.Deviation {
		return apiusage.Deviation{Account: "wxa", Endpoint: endpoint, Behaviour: row.String(), Times: times, FirstRID: rid(first),
			FirstAt: now, LastRID: rid(last), LastAt: now}
	}
	want := []apiusage.Deviation{deviation("/a", behaviour.RulesAddICPUnasked, 3, 0, 2),
		deviation("/a", behaviour.WireNumberText, 3, 0, 2), deviation("/b", behaviour.WireNumberText, 1, 3, 3)}
	assert.Equal(t, fmt.Sprint(list), fmt.Sprint(want), "deviations")
	times, kinds := b.Deviated()
	assert.True(t, times == 7 && kinds == 2, "Deviated() = %d, %d, want 7, 2", times, kinds)
	err = b.Flush(t.Context())
	assert.True(t, err == nil && m.writes == 1, "%d writes after a Flush() without changes, %v, want 1", m.writes, err)
}

// TestDeviationCounts_StoreFailure verifies that a failed write loses no counts, and that counting continues meanwhile.
func TestDeviationCounts_StoreFailure(t *testing.T) {
	b, m := newService()
	m.err = errors.New("the disk is full")
	for n := range 3 {
		b.Deviate("wxa", "/a", rid(n), now, newNotes(behaviour.WireNumberText))
		require.ErrorIs(t, b.Flush(t.Context()), m.err, "Flush()")
	}
	m.err = nil
	list, err := b.Deviations(t.Context(), "")
	assert.True(t, err == nil && len(list) == 1 && list[0].Times == 3 && list[0].FirstRID == rid(0) && list[0].LastRID == rid(2),
		"Deviations() = %+v, %v, want one counted 3 times", list, err)
	b.Deviate("wxa", "/a", rid(3), now, newNotes(behaviour.WireNumberText))
	require.NoError(t, b.Reset(func() error {
		m.deviations = nil
		return nil
	}))
	list, err = b.Deviations(t.Context(), "")
	assert.True(t, err == nil && list == nil, "Deviations() after a reset = %v, %v, want none", list, err)
	b.Deviate("wxa", "/a", rid(4), now, newNotes(behaviour.WireNumberText))
	b.Deviate("wxb", "/a", rid(5), now, newNotes(behaviour.WireNumberText))
	require.NoError(t, b.ForgetDeviations(t.Context(), "wxa"))
	list, err = b.Deviations(t.Context(), "")
	assert.True(t, err == nil && len(list) == 1 && list[0].Account == "wxb", "Deviations() = %v, %v, want those of wxb", list, err)
}

// TestDeviationCounts_PendingBounded verifies that the number of pending counts is bounded.
func TestDeviationCounts_PendingBounded(t *testing.T) {
	b, _ := newService()
	for n := range 12_000 {
		b.Deviate(fmt.Sprint("wx", n), "/a", rid(n), now, newNotes(behaviour.WireNumberText))
	}
	b.Deviate("wx7", "/a", rid(12_000), now, newNotes(behaviour.WireNumberText))
	list, err := b.Deviations(t.Context(), "")
	require.True(t, err == nil && len(list) == 10_000, "%d deviations, %v, want 10,000", len(list), err)
	for _, d := range list {
		assert.True(t, d.Account != "wx7" || d.Times == 2, "deviation of wx7 = %+v, want it counted twice", d)
	}
}

// TestDeviationCounts_NoAllocation verifies that a call without a deviation, or with the deviations of an earlier call, does not allocate.
func TestDeviationCounts_NoAllocation(t *testing.T) {
	b, _ := newService()
	plain, deviating := newNotes(behaviour.CodesGrant), newNotes(behaviour.WireNumberText, behaviour.WireListText)
	id := rid(1)
	b.Deviate("wxa", "/a", id, now, deviating)
	assert.Equal(t, testing.AllocsPerRun(100, func() {
		b.Deviate("wxa", "/a", id, now, plain)
		b.Deviate("wxa", "/a", id, now, deviating)
	}), 0, "allocations")
}
