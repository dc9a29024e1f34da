package console_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// asvsClauses are the clauses of OWASP ASVS 5.0 that docs/asvs.md covers.
var asvsClauses = strings.Fields(`3.3.1 3.3.2 3.3.3 3.3.4 3.4.1 3.4.3 3.4.4 3.4.5 3.4.6 3.5.1 3.5.3 3.5.4 3.7.2
	6.2.1 6.2.2 6.2.3 6.2.4 6.2.5 6.2.6 6.2.7 6.2.8 6.2.9 6.2.10 6.2.11 6.2.12 6.3.1 6.3.2 6.3.3 6.4.1 6.4.3 6.5.1 6.5.5 6.8.4
	7.1.1 7.1.2 7.2.3 7.2.4 7.3.1 7.3.2 7.4.1 7.4.2 7.4.3 7.4.4 7.4.5 7.5.1 7.5.2 7.6.1 7.6.2
	10.1.2 10.2.1 10.5.1 10.5.2 10.5.3 10.5.4`)

// TestASVSTable_ClausesHaveTests verifies that docs/asvs.md lists each clause once, with existing tests, and no other clause.
func TestASVSTable_ClausesHaveTests(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/asvs.md")
	require.NoError(t, err)
	tests := map[string]bool{}
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
			tests[string(found[1])] = true
		}
		return err
	})
	require.NoError(t, err)
	var seen []string
	for _, row := range regexp.MustCompile(`(?m)^\| ([0-9.]+) \| (.+) \| (.+) \|$`).FindAllSubmatch(page, -1) {
		clause := string(row[1])
		seen = append(seen, clause)
		names := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(row[3], -1)
		assert.True(t, len(names) != 0, "%s has no test", clause)
		for _, name := range names {
			assert.True(t, tests[string(name[1])], "%s: there is no test %s", clause, name[1])
		}
	}
	want := slices.Sorted(slices.Values(asvsClauses))
	got := slices.Sorted(slices.Values(seen))
	assert.True(t, slices.Equal(got, want), "the table has the clauses %s, want %s", got, want)
}
