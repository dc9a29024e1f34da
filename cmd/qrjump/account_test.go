package main

import (
	"slices"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// Issue 11, 6: a feature is added or taken away by its name, and no other is dropped, also one that this program does not know.
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
		assert.True(t, err == nil && slices.Equal(got, c.want), "%v of %v: %v, %v, want %v", c.change, c.have, got, err, c.want)
		assert.True(t, slices.Equal(c.have, before), "%v changed what it was given: %v", c.change, c.have)
	}
	for _, change := range [][]string{{"beta"}, {"+markecode"}, {"-markecode"}, {""}, {"+"}, {"+marketcode", "-marketcode"},
		{"-marketcode", "marketcode"}} {
		got, err := changedFeatures([]string{"marketcode"}, change)
		assert.True(t, err != nil, "%q: %v", change, got)
	}
}
