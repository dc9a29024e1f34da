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

// linesOf are the lines of the table under a heading of a page, each as its first cell and the rest.
func linesOf(t *testing.T, page, heading string) (lines [][2]string) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/" + page)
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, found, "%s has no section %q", page, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if line, is := strings.CutPrefix(line, "| "); is {
			first, rest, _ := strings.Cut(line, " | ")
			lines = append(lines, [2]string{first, rest})
		}
	}
	require.True(t, len(lines) >= 3, "%s has no table under %q", page, heading)
	return lines[2:]
}

// docs/handbook-tests.md lists tests for each line of the table "Failures and their effects" of the handbook. The first cell of a line is
// its name.
func TestShownBy_CoversFailureTable(t *testing.T) {
	t.Parallel()
	handbook, chinese := linesOf(t, "en/handbook.md", "Failures and their effects"), linesOf(t, "zh/handbook.md", "故障及影响")
	shown := linesOf(t, "handbook-tests.md", "Failures and their effects")
	names := func(lines [][2]string) (list []string) {
		for _, line := range lines {
			list = append(list, line[0])
		}
		return list
	}
	if want, got := names(handbook), names(shown); !slices.Equal(want, got) {
		t.Errorf("the handbook has the lines\n%s\ndocs/handbook-tests.md has\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	assert.True(t, len(chinese) == len(handbook), "the Chinese handbook has %d lines, the English one %d", len(chinese), len(handbook))
	for _, line := range shown {
		assert.True(t, strings.Contains(line[1], "`"), "%s: no test", line[0])
	}
}

// Every test and story that docs/handbook-tests.md names is there.
func TestShownBy_TestsExist(t *testing.T) {
	t.Parallel()
	tests, stories := testsAndStories(t)
	text, err := os.ReadFile("../../../docs/handbook-tests.md")
	require.NoError(t, err)
	for _, name := range regexp.MustCompile("`(Test\\w+|\\w+\\.txtar)`").FindAllStringSubmatch(string(text), -1) {
		assert.True(t, tests[name[1]] != nil || stories[name[1]] != "", "docs/handbook-tests.md names %s, want a test or a story", name[1])
	}
}

// testsAndStories returns the test functions of the repository with the directories that declare them, and its scripts with their
// paths.
func testsAndStories(t *testing.T) (tests map[string][]string, stories map[string]string) {
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
			for _, found := range function.FindAllSubmatch(text, -1) {
				name := string(found[1])
				tests[name] = append(tests[name], filepath.Dir(path))
			}
		}
		return nil
	}))
	return tests, stories
}
