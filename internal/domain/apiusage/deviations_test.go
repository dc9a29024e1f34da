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

func noted(rows ...behaviour.Row) *behaviour.Notes {
	var n behaviour.Notes
	for _, row := range rows {
		n.Add(row)
	}
	return &n
}

// Each account, endpoint and behaviour is a line, with its first and last call; rows that are no deviation are none.
func TestDeviationCounts_PerAccountAndEndpoint(t *testing.T) {
	b, m := newBook()
	rows := noted(behaviour.WireNumberText, behaviour.CodesGrant, behaviour.RulesAddICPUnasked)
	for n := range 3 {
		b.Deviate("wxa", "/a", rid(n), now, rows)
	}
	b.Deviate("wxa", "/b", rid(3), now, noted(behaviour.WireNumberText))
	b.Deviate("wxb", "/a", rid(4), now, noted(behaviour.CodesGrant))
	assert.Equal(t, m.writes, 0, "writes")
	list, err := b.Deviations(t.Context(), "")
	require.True(t, err == nil && m.writes == 1, "%v %v", m.writes, err)
	line := func(endpoint string, row behaviour.Row, times int64, first, last int) apiusage.Deviation {
		return apiusage.Deviation{Account: "wxa", Endpoint: endpoint, Behaviour: row.String(), Times: times, FirstRID: rid(first),
			FirstAt: now,
			LastRID: rid(last), LastAt: now}
	}
	want := []apiusage.Deviation{line("/a", behaviour.RulesAddICPUnasked, 3, 0, 2), line("/a", behaviour.WireNumberText, 3, 0, 2),
		line("/b", behaviour.WireNumberText, 1, 3, 3)}
	assert.True(t, fmt.Sprint(list) == fmt.Sprint(want), "got  %v\nwant %v", list, want)
	times, kinds := b.Deviated()
	assert.True(t, times == 7 && kinds == 2, "%d times in %d behaviours", times, kinds)
	err = b.Flush(t.Context())
	assert.True(t, err == nil && m.writes == 1, "with nothing to write: %d writes, %v", m.writes, err)
}

// What could not be written is not lost, and what comes meanwhile is counted on.
func TestDeviationCounts_StoreFailure(t *testing.T) {
	b, m := newBook()
	m.broken = errors.New("the disk is full")
	for n := range 3 {
		b.Deviate("wxa", "/a", rid(n), now, noted(behaviour.WireNumberText))
		err := b.Flush(t.Context())
		require.True(t, errors.Is(err, m.broken), "%v", err)
	}
	m.broken = nil
	list, err := b.Deviations(t.Context(), "")
	assert.True(t, err == nil && len(list) == 1 && list[0].Times == 3 && list[0].FirstRID == rid(0) && list[0].LastRID == rid(2),
		"%+v, %v", list, err)
	b.Deviate("wxa", "/a", rid(3), now, noted(behaviour.WireNumberText))
	require.NoError(t, b.Reset(func() error { m.deviations = nil; return nil }))
	list, err = b.Deviations(t.Context(), "")
	assert.True(t, err == nil && list == nil, "after a reset %v, %v", list, err)
	b.Deviate("wxa", "/a", rid(4), now, noted(behaviour.WireNumberText))
	b.Deviate("wxb", "/a", rid(5), now, noted(behaviour.WireNumberText))
	require.NoError(t, b.ForgetDeviations(t.Context(), "wxa"))
	list, err = b.Deviations(t.Context(), "")
	assert.True(t, err == nil && len(list) == 1 && list[0].Account == "wxb", "after those of wxa were removed %v, %v", list, err)
}

// However many accounts deviate while nothing can be written, memory is bounded.
func TestDeviationCounts_PendingBounded(t *testing.T) {
	b, _ := newBook()
	for n := range 12_000 {
		b.Deviate(fmt.Sprint("wx", n), "/a", rid(n), now, noted(behaviour.WireNumberText))
	}
	b.Deviate("wx7", "/a", rid(12_000), now, noted(behaviour.WireNumberText))
	list, err := b.Deviations(t.Context(), "")
	require.True(t, err == nil && len(list) == 10_000, "%d lines, %v", len(list), err)
	for _, d := range list {
		assert.True(t, d.Account != "wx7" || d.Times == 2, "of what was there already %+v", d)
	}
}

// A call without a deviation, and one that deviates as one before it, need no memory.
func TestDeviationCounts_NoAllocation(t *testing.T) {
	b, _ := newBook()
	plain, deviating := noted(behaviour.CodesGrant), noted(behaviour.WireNumberText, behaviour.WireListText)
	id := rid(1)
	b.Deviate("wxa", "/a", id, now, deviating)
	assert.Equal(t, testing.AllocsPerRun(100, func() {
		b.Deviate("wxa", "/a", id, now, plain)
		b.Deviate("wxa", "/a", id, now, deviating)
	}), 0, "allocations")
}
