package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// hunk is a changed range of a file: count lines from line became newCount lines from newLine. If count is 0, the new lines follow
// line.
type hunk struct{ line, count, newLine, newCount int }

// fileDiff is the difference of one file.
type fileDiff struct {
	name    string
	deleted bool
	hunks   []hunk
}

var hunkHeader = regexp.MustCompile(`^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@`)

// carry returns the mutants with their positions in the working tree. It maps an unchanged line by git's diff, and a line of a hunk that
// keeps its number of lines by its position in the hunk. Mutants without a position get a reason in invalid.
func carry(ctx context.Context, s settings, drawn []mutant) ([]mutant, error) {
	diff, err := output(ctx, s.root, "git", "diff", "--no-color", "--no-ext-diff", "-M", "-l0", "-U0", s.commit, "--", "*.go")
	if err != nil {
		return nil, err
	}
	files := parseDiff(diff)
	found := map[string][]mutant{}
	var carried []mutant
	for _, m := range drawn {
		number := m.Number
		if to, ok := files[m.File]; ok {
			m = to.mapLine(m)
		}
		if m.invalid == "" {
			if _, ok := found[m.File]; !ok {
				src, err := os.ReadFile(filepath.Join(s.root, m.File))
				if err != nil {
					return nil, err
				}
				if found[m.File], err = candidates(m.File, src); err != nil {
					return nil, err
				}
			}
			m = match(m, found[m.File])
		}
		m.Number = number
		carried = append(carried, m)
	}
	return carried, markUncompilable(ctx, s, s.root, carried)
}

func parseDiff(diff string) map[string]*fileDiff {
	files := map[string]*fileDiff{}
	var file *fileDiff
	for line := range strings.Lines(diff) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "diff --git a/"):
			from, to, _ := strings.Cut(strings.TrimPrefix(line, "diff --git a/"), " b/")
			file = &fileDiff{name: to}
			files[from] = file
		case strings.HasPrefix(line, "deleted file"):
			file.deleted = true
		default:
			if h := hunkHeader.FindStringSubmatch(line); h != nil {
				file.hunks = append(file.hunks, hunk{number(h[1]), number(h[2]), number(h[3]), number(h[4])})
			}
		}
	}
	return files
}

// number returns a number of a hunk header, where an absent count means 1.
func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 1
	}
	return n
}

// mapLine maps a mutant to its line in the changed file.
func (f *fileDiff) mapLine(m mutant) mutant {
	if f.deleted {
		m.invalid = "its file was deleted"
		return m
	}
	m.File = f.name
	shift := 0
	for _, h := range f.hunks {
		if m.Line < h.line || h.count == 0 && m.Line == h.line {
			break
		}
		if m.Line < h.line+h.count {
			if h.count != h.newCount {
				m.invalid = "its lines were rewritten"
				return m
			}
			m.Line += h.newLine - h.line
			return m
		}
		shift += h.newCount - h.count
	}
	m.Line += shift
	return m
}

func match(m mutant, list []mutant) mutant {
	for _, other := range list {
		if other.Line == m.Line && other.Kind == m.Kind && other.Nth == m.Nth {
			return other
		}
	}
	m.invalid = "the statement no longer exists"
	return m
}
