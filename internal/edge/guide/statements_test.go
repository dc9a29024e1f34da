package guide_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// statement is a row of docs/contract-tests.md.
type statement struct {
	page, section, text string
	tests               []string
}

// TestStatements_EachIsHeld verifies that each statement of the contract in docs/contract-tests.md names an existing section and existing
// tests and cases, and that each numbered section has either a statement or a reason to have none.
func TestStatements_EachIsHeld(t *testing.T) {
	t.Parallel()
	var rows []statement
	quoted := regexp.MustCompile("`([^`]+)`")
	for _, page := range []string{"rules", "marketcode"} {
		for _, cells := range tableRows(t, "contract-tests.md", page+".md") {
			text, tests, ok := strings.Cut(strings.TrimSuffix(strings.TrimSpace(cells[1]), " |"), " | ")
			row := statement{page: page, section: cells[0], text: text}
			for _, name := range quoted.FindAllStringSubmatch(tests, -1) {
				row.tests = append(row.tests, name[1])
			}
			assert.True(t, ok && len(row.tests) != 0, "%s %s %q names no test", page, row.section, text)
			rows = append(rows, row)
		}
	}
	covered := map[string]bool{}
	seen := map[string]bool{}
	tests, stories := listTestsAndStories(t)
	cases := &caseIndex{t: t, tests: tests, stories: stories, names: map[string][]string{}}
	for _, row := range rows {
		section := row.page + " " + row.section
		covered[section] = true
		assert.True(t, !seen[section+row.text], "%s %q is listed twice", section, row.text)
		seen[section+row.text] = true
		for _, name := range row.tests {
			assert.Equal(t, cases.missing(name), "", "%s %q: %s", section, row.text, name)
		}
	}
	sectionsWithoutStatements := testtable.Map(t, "testdata/sections_without_statements.txt")
	heading := regexp.MustCompile(`(?m)^#{2,3} ([0-9]+(?:\.[0-9]+)?)\.? `)
	var all []string
	for _, page := range []string{"rules", "marketcode"} {
		text := require.Value(os.ReadFile("../../../docs/contract/" + page + ".md"))(t)
		for _, match := range heading.FindAllSubmatch(text, -1) {
			section := page + " " + string(match[1])
			all = append(all, section)
			_, exempt := sectionsWithoutStatements[section]
			assert.True(t, exempt != covered[section],
				"%s: statements in docs/contract-tests.md = %v, exempt = %v; want one", section, covered[section], exempt)
		}
	}
	for section := range covered {
		assert.True(t, slices.Contains(all, section), "docs/contract-tests.md cites %s, which the contract does not have", section)
	}
	for section := range sectionsWithoutStatements {
		assert.True(t, slices.Contains(all, section), "sections_without_statements.txt has %s, which the contract does not have", section)
	}
}

// caseIndex looks up the tests that a row names: a test function with a case of its table, or a file with a text in it.
type caseIndex struct {
	t       *testing.T
	tests   map[string][]string // name -> directories
	stories map[string]string
	names   map[string][]string // directory -> string literals of its tests
}

// missing returns the reason why no test has the name, or "" if there is one.
func (x *caseIndex) missing(name string) string {
	if !strings.HasPrefix(name, "Test") {
		file, text, _ := strings.Cut(name, ": ")
		return x.missingInFile(file, text)
	}
	test, tableCase, _ := strings.Cut(name, "/")
	dirs := x.tests[test]
	if len(dirs) == 0 {
		return "there is no such test"
	}
	if tableCase == "" {
		return ""
	}
	for _, dir := range dirs {
		if slices.ContainsFunc(x.caseNames(dir), func(literal string) bool { return strings.Contains(literal, tableCase) }) {
			return ""
		}
	}
	return "its package has no case of that name"
}

func (x *caseIndex) missingInFile(file, text string) string {
	path := x.stories[file]
	switch {
	case path != "":
	case strings.HasSuffix(file, ".txt"):
		for _, folder := range []string{"../../server", "../adminapi", "../scanapi", "../api"} {
			for _, candidate := range []string{folder + "/testdata/calls/" + file, folder + "/testdata/wire/" + file} {
				if _, err := os.Stat(candidate); err == nil {
					path = candidate
				}
			}
		}
	case file == "match-vectors.json":
		path, text = "../../../docs/contract/"+file, strconv.Quote(text)
	default:
		return "there is no such file"
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if !strings.Contains(string(content), text) {
		return "the file has no such text"
	}
	return ""
}

// caseNames returns the string literals of the tests in a directory, the names of its stories and the first cells of its tables.
func (x *caseIndex) caseNames(dir string) []string {
	if list, ok := x.names[dir]; ok {
		return list
	}
	var list []string
	files := require.Value(filepath.Glob(filepath.Join(dir, "*_test.go")))(x.t)
	for _, file := range files {
		parsed := require.Value(parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution))(x.t)
		ast.Inspect(parsed, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if value, err := strconv.Unquote(literal.Value); err == nil {
					list = append(list, value)
				}
			}
			return true
		})
	}
	stories := require.Value(filepath.Glob(filepath.Join(dir, "testdata/stories/*.txt")))(x.t)
	for _, file := range stories {
		text := require.Value(os.ReadFile(file))(x.t)
		for _, heading := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllSubmatch(text, -1) {
			list = append(list, string(heading[1]))
		}
	}
	tables := require.Value(filepath.Glob(filepath.Join(dir, "testdata/*.txt")))(x.t)
	for _, file := range tables {
		text := require.Value(os.ReadFile(file))(x.t)
		for line := range strings.Lines(string(text)) {
			name, _, _ := strings.Cut(line, "\t")
			list = append(list, name)
		}
	}
	x.names[dir] = list
	return list
}
