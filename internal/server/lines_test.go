package server_test

import (
	"go/parser"
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// maxColumns is the maximum number of columns of a line of Go; a tab counts as four.
const maxColumns = 140

// TestSource_MaxLineLength verifies that only lines with an unbreakable literal or field tag are longer than maxColumns.
func TestSource_MaxLineLength(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "ls-files", "-z", "--", "*.go", ":!bench", ":!compat").Output()
	if err != nil {
		t.Skip("the files of the repository are not known here: ", err) // an unpacked archive
	}
	files := strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 })
	require.True(t, len(files) >= 200, "found %d files, want at least 200", len(files))
	for _, name := range files {
		source, err := os.ReadFile("../../" + name)
		if os.IsNotExist(err) {
			continue // removed, but the removal is not committed
		}
		require.NoError(t, err)
		texts := unbreakableLines(source)
		for i, line := range strings.Split(string(source), "\n") {
			n := countColumns(line)
			assert.True(t, n <= maxColumns || texts[i+1], "%s:%d has %d columns, want at most %d", name, i+1, n, maxColumns)
		}
	}
}

// TestFolder_HasOnePackage verifies that all files of a directory have the same package name, including files for other operating systems,
// which the compiler ignores when a package is renamed.
func TestFolder_HasOnePackage(t *testing.T) {
	files, err := filepath.Glob("../*/*/*.go")
	require.True(t, err == nil && len(files) >= 200, "%d files, %v", len(files), err)
	packages := map[string]string{} // by folder
	for _, name := range files {
		file := require.Value(parser.ParseFile(token.NewFileSet(), name, nil, parser.PackageClauseOnly))(t)
		folder, got := filepath.Dir(name), strings.TrimSuffix(file.Name.Name, "_test")
		if got == "main" {
			continue // a generator, which is excluded from builds
		}
		want, ok := packages[folder]
		assert.True(t, !ok || got == want, "%s has package %s, want %s as the other files of its directory", name, got, want)
		packages[folder] = got
	}
}

func countColumns(line string) int {
	return utf8.RuneCountInString(strings.ReplaceAll(line, "\t", "    "))
}

// unbreakableLines returns the numbers of the lines with a literal of more than 60 columns.
func unbreakableLines(source []byte) map[int]bool {
	files := token.NewFileSet()
	file := files.AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, 0)
	lines := map[int]bool{}
	for {
		pos, kind, text := s.Scan()
		if kind == token.EOF {
			return lines
		}
		if kind != token.STRING || countColumns(text) <= 60 {
			continue
		}
		first := file.Line(pos)
		for line := first; line <= first+strings.Count(text, "\n"); line++ {
			lines[line] = true
		}
	}
}
