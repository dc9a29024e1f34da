package adminapi

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// Next steps print revisions as words of a command line.
func TestRevisionOf_IsNoFlag(t *testing.T) {
	t.Parallel()
	for i := range 500 {
		got := revisionOf(i).Revision
		assert.True(t, !strings.HasPrefix(got, "-"), "revisionOf(%d) = %s, want no - before it", i, got)
	}
}
