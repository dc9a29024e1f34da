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

// widest is how many columns a line of Go has at most, a tab being four.
const widest = 140

// A line is longer only for a text that cannot be broken: a literal of more than 60 columns, the tag of a field among them.
func TestSource_MaxLineLength(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "ls-files", "-z", "--", "*.go", ":!bench", ":!compat").Output()
	if err != nil {
		t.Skip("the files of the repository are not known here: ", err) // an unpacked archive
	}
	files := strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 })
	require.True(t, len(files) >= 200, "only %d files", len(files))
	for _, name := range files {
		source, err := os.ReadFile("../../" + name)
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		require.NoError(t, err)
		texts := longTexts(source)
		for i, line := range strings.Split(string(source), "\n") {
			n := columns(line)
			assert.True(t, n <= widest || texts[i+1], "%s:%d has %d columns", name, i+1, n)
		}
	}
}

// A compiler reads only the files for its own system: the others keep the name of a package that was renamed.
func TestFolder_HasOnePackage(t *testing.T) {
	files, err := filepath.Glob("../*/*/*.go")
	require.True(t, err == nil && len(files) >= 200, "%d files, %v", len(files), err)
	packages := map[string]string{} // by folder
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.PackageClauseOnly)
		require.NoError(t, err)
		folder, got := filepath.Dir(name), strings.TrimSuffix(file.Name.Name, "_test")
		if got == "main" {
			continue // a generator, which no build reads
		}
		want, known := packages[folder]
		assert.True(t, !known || got == want, "%s is of package %s, and others in its folder of %s", name, got, want)
		packages[folder] = got
	}
}

func columns(line string) int { return utf8.RuneCountInString(strings.ReplaceAll(line, "\t", "    ")) }

// longTexts are the lines on which a literal cannot be broken.
func longTexts(source []byte) map[int]bool {
	files := token.NewFileSet()
	file := files.AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, 0)
	lines := map[int]bool{}
	for {
		at, kind, text := s.Scan()
		if kind == token.EOF {
			return lines
		}
		if kind != token.STRING || columns(text) <= 60 {
			continue
		}
		first := file.Line(at)
		for line := first; line <= first+strings.Count(text, "\n"); line++ {
			lines[line] = true
		}
	}
}
