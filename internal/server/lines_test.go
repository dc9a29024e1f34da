package server_test

import (
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"
)

// widest is how many columns a line of Go has at most, a tab being four.
const widest = 140

// A line is longer only for a text that cannot be broken: a literal of more than 60
// columns, the tag of a field among them.
func TestNoLineOfGoIsTooLong(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "ls-files", "-z", "--", "*.go", ":!bench", ":!compat").Output()
	if err != nil {
		t.Skip("the files of the repository are not known here: ", err) // an unpacked archive
	}
	files := strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 })
	if len(files) < 200 {
		t.Fatalf("only %d files", len(files))
	}
	for _, name := range files {
		source, err := os.ReadFile("../../" + name)
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		} else if err != nil {
			t.Fatal(err)
		}
		texts := longTexts(source)
		for i, line := range strings.Split(string(source), "\n") {
			if n := columns(line); n > widest && !texts[i+1] {
				t.Errorf("%s:%d has %d columns", name, i+1, n)
			}
		}
	}
}

func columns(line string) int {
	return utf8.RuneCountInString(strings.ReplaceAll(line, "\t", "    "))
}

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
