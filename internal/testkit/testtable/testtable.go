// Package testtable reads the cases of a table test from a text file.
package testtable

import (
	"os"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Rows returns the rows of a file, as Parse does.
func Rows(t require.T, name string, cells int) [][]string {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return Parse(t, string(text), cells)
}

// Parse returns the rows of a text. Tabs separate cells. A cell has the escapes of a Go string; "" is an empty cell. Empty lines and lines
// that begin with # are comments. A text without rows, or a row without the given number of cells, ends the test.
func Parse(t require.T, text string, cells int) (rows [][]string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		row := strings.Split(line, "\t")
		require.Equal(t, len(row), cells, "cells of %q", line)
		for i, cell := range row {
			if cell == `""` {
				row[i] = ""
			} else if strings.Contains(cell, `\`) {
				var err error
				row[i], err = strconv.Unquote(`"` + strings.ReplaceAll(cell, `"`, `\"`) + `"`)
				require.NoErrorf(t, err, "%s", cell)
			}
		}
		rows = append(rows, row)
	}
	require.True(t, len(rows) > 0, "a table without rows: %q", text)
	return rows
}

// Map returns the second cell of each row by the first, which no two rows share.
func Map(t require.T, name string) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, row := range Rows(t, name, 2) {
		require.Equal(t, values[row[0]], "", "a row of %s before: %s", name, row[0])
		values[row[0]] = row[1]
	}
	return values
}

// List returns the parts of a cell that " | " separates; nil for "-".
func List(cell string) []string {
	if cell == "-" {
		return nil
	}
	return strings.Split(cell, " | ")
}
