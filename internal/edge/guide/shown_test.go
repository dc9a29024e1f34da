package guide_test

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

// tableRows returns the rows of the table under a heading of a page, each as its first cell and the rest.
func tableRows(t *testing.T, page, heading string) (rows [][2]string) {
	t.Helper()
	text := require.Value(os.ReadFile("../../../docs/" + page))(t)
	_, section, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, ok, "%s has no section %q", page, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if line, ok := strings.CutPrefix(line, "| "); ok {
			first, rest, _ := strings.Cut(line, " | ")
			rows = append(rows, [2]string{first, rest})
		}
	}
	require.True(t, len(rows) >= 3, "%s has no table under %q", page, heading)
	return rows[2:]
}

// TestShownBy_CoversFailureTable verifies that docs/handbook-tests.md lists tests for each row of the table "Failures and their effects" of
// the handbook. The first cell of a row is its name.
func TestShownBy_CoversFailureTable(t *testing.T) {
	t.Parallel()
	handbook, chinese := tableRows(t, "en/handbook.md", "Failures and their effects"), tableRows(t, "zh/handbook.md", "故障及影响")
	tested := tableRows(t, "handbook-tests.md", "Failures and their effects")
	names := func(rows [][2]string) (list []string) {
		for _, row := range rows {
			list = append(list, row[0])
		}
		return list
	}
	if want, got := names(handbook), names(tested); !slices.Equal(want, got) {
		t.Errorf("docs/handbook-tests.md has the rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	assert.Equal(t, len(chinese), len(handbook), "rows of the Chinese handbook")
	for _, row := range tested {
		assert.True(t, strings.Contains(row[1], "`"), "%s: no test", row[0])
	}
}

// TestShownBy_TestsExist verifies that every test and story that docs/handbook-tests.md names exists.
func TestShownBy_TestsExist(t *testing.T) {
	t.Parallel()
	tests, stories := listTestsAndStories(t)
	text := require.Value(os.ReadFile("../../../docs/handbook-tests.md"))(t)
	for _, name := range regexp.MustCompile("`(Test\\w+|\\w+\\.txtar)`").FindAllStringSubmatch(string(text), -1) {
		assert.True(t, tests[name[1]] != nil || stories[name[1]] != "", "docs/handbook-tests.md names %s, want a test or a story", name[1])
	}
}

// listTestsAndStories returns the test functions of the repository with the directories that declare them, and its scripts with their
// paths.
func listTestsAndStories(t *testing.T) (tests map[string][]string, stories map[string]string) {
	t.Helper()
	tests, stories = map[string][]string{}, map[string]string{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	require.NoError(t, filepath.WalkDir("../../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case strings.HasSuffix(path, ".txtar"):
			stories[filepath.Base(path)] = path
		case strings.HasSuffix(path, "_test.go"):
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, match := range function.FindAllSubmatch(text, -1) {
				name := string(match[1])
				tests[name] = append(tests[name], filepath.Dir(path))
			}
		}
		return nil
	}))
	return tests, stories
}
