package main

import (
	"slices"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// TestChangedFeatures_KeepsUnknown verifies that a change adds or removes only the named features, and keeps those unknown to the program.
func TestChangedFeatures_KeepsUnknown(t *testing.T) {
	for _, c := range []struct{ have, change, want []string }{
		{nil, []string{"marketcode"}, []string{"marketcode"}},
		{nil, []string{"+marketcode", "marketcode"}, []string{"marketcode"}},
		{[]string{"beta"}, []string{"marketcode"}, []string{"beta", "marketcode"}},
		{[]string{"beta", "marketcode"}, nil, []string{"beta", "marketcode"}},
		{[]string{"beta", "marketcode"}, []string{"-marketcode"}, []string{"beta"}},
		{[]string{"beta", "marketcode"}, []string{"-beta", "+marketcode"}, []string{"marketcode"}},
		{[]string{"beta"}, []string{"-marketcode"}, []string{"beta"}},
	} {
		before := slices.Clone(c.have)
		got, err := changedFeatures(c.have, c.change)
		assert.True(t, err == nil && slices.Equal(got, c.want),
			"changedFeatures(%v, %v) = %v, %v, want %v", before, c.change, got, err, c.want)
		assert.True(t, slices.Equal(c.have, before), "changedFeatures changed its argument to %v, want %v", c.have, before)
	}
	for _, change := range [][]string{{"beta"}, {"+markecode"}, {"-markecode"}, {""}, {"+"}, {"+marketcode", "-marketcode"},
		{"-marketcode", "marketcode"}} {
		got, err := changedFeatures([]string{"marketcode"}, change)
		assert.True(t, err != nil, "changedFeatures(marketcode, %q) = %v, want an error", change, got)
	}
}
