package docgen_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/docs/docgen"
	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestEvidence_RowsAndCounts(t *testing.T) {
	rows, numbers, found := strings.Cut(docgen.Evidence(), "\n## ")
	require.True(t, found, "Evidence() has one section, want two:\n%s", rows)
	var dates []string
	for _, row := range regexp.MustCompile("(?m)^\\| (\\S+) \\| `([^`]+)`").FindAllStringSubmatch(rows, -1) {
		dates = append(dates, row[1])
		known, ok := behaviour.ByID(row[2])
		assert.True(t, ok && known.Get().Date == row[1], "Evidence() dates %s %s, want %q", row[2], row[1], known.Get().Date)
	}
	dated := slices.DeleteFunc(slices.Clone(behaviour.All()), func(b behaviour.Behaviour) bool { return b.Date == "" })
	assert.True(t, len(dates) == len(dated) && slices.IsSorted(dates),
		"Evidence() lists %d behaviours, sorted by date: %v; want %d, sorted", len(dates), slices.IsSorted(dates), len(dated))
	for _, code := range errcode.All() {
		assert.Equal(t, strings.Contains(numbers, "\n| "+strconv.Itoa(code.Number)+" |"), code.Evidence != errcode.Observed,
			"Evidence() lists %d among the numbers without a live answer", code.Number)
	}
}
