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
	text := require.Value(os.ReadFile(name))(t)
	return Parse(t, string(text), cells)
}

// Parse returns the rows of a text. Tabs separate cells. A cell has the escapes of a Go string; "" is an empty cell. Empty lines and lines
// that begin with # are comments. Parse ends the test if the text has no rows, or if a row has a different number of cells.
func Parse(t require.T, text string, cells int) (rows [][]string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		row := strings.Split(line, "\t")
		require.Equal(t, len(row), cells, "number of cells of %q", line)
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
	require.True(t, len(rows) > 0, "the table has no rows: %q", text)
	return rows
}

// Map returns the second cell of each row by the first, which must be unique.
func Map(t require.T, name string) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, row := range Rows(t, name, 2) {
		require.Equal(t, values[row[0]], "", "earlier value of %s in %s", row[0], name)
		values[row[0]] = row[1]
	}
	return values
}

// List splits a cell at " | ". It returns nil for "-".
func List(cell string) []string {
	if cell == "-" {
		return nil
	}
	return strings.Split(cell, " | ")
}
