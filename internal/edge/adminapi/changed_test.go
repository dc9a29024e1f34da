package adminapi

import (
	"strings"
	"testing"
)

// Next steps print revisions as words of a command line.
func TestRevisionOf_IsNoFlag(t *testing.T) {
	t.Parallel()
	for i := range 500 {
		if got := revisionOf(i).Revision; strings.HasPrefix(got, "-") {
			t.Errorf("revisionOf(%d) = %s, want no - before it", i, got)
		}
	}
}
