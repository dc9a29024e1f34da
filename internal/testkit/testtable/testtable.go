// Package testtable reads the cases of a table test from a text file.
package testtable

import (
	"os"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Rows returns the rows of a file. Tabs separate cells, and a cell in quotes is a Go string literal. Empty lines and lines that begin with #
// are comments. A file without rows, or a row without the given number of cells, ends the test.
func Rows(t require.T, name string, cells int) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		row := strings.Split(line, "\t")
		require.Equal(t, len(row), cells, "%s: cells of %q", name, line)
		for i, cell := range row {
			if strings.HasPrefix(cell, `"`) {
				row[i], err = strconv.Unquote(cell)
				require.NoErrorf(t, err, "%s: %s", name, cell)
			}
		}
		rows = append(rows, row)
	}
	require.True(t, len(rows) > 0, "%s has no rows", name)
	return rows
}

// List returns the parts of a cell that " | " separates; nil for "-".
func List(cell string) []string {
	if cell == "-" {
		return nil
	}
	return strings.Split(cell, " | ")
}
