package guide

import (
	"testing"

	"github.com/qrjump/qrjump/docs"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Words that lead to a place which is not there would lead nobody.
func TestGuideSearch_SynonymTargetsExist(t *testing.T) {
	g, err := New(docs.Pages, "", "test")
	require.NoError(t, err)
	there := map[string]bool{}
	for _, p := range g.index["en"]().places {
		there[p.name()] = true
	}
	for name := range sought {
		assert.True(t, there[name], "nothing is called %q", name)
	}
}
