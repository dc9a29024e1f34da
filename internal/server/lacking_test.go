package server_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// lacks wants so many scans counted, and so many of them told as missing in the ledger by whatever tells of it.
func (c *counter) lacks(when string, total, lacking int64) {
	c.t.Helper()
	var a struct {
		Rows []struct{ Scans int64 }
	}
	c.Admin("GET", "/statistics?wait=true", "").JSON(c.t, &a)
	assert.True(c.t, len(a.Rows) == 1 && a.Rows[0].Scans == total, "%s: counted %+v, want %d", when, a.Rows, total)
	var r struct {
		Missing     int64
		Differences int64 `json:"difference_count"`
	}
	if b := c.Admin("POST", "/statistics/recount", ""); b.Status != 200 {
		c.t.Errorf("%s: a recount: %d %s", when, b.Status, b.Body)
	} else if b.JSON(c.t, &r); r.Missing != lacking || r.Differences == 0 != (lacking == 0) {
		c.t.Errorf("%s: a recount: %s, want %d lacking", when, b.Body, lacking)
	}
	want := "ready\n"
	if lacking > 0 {
		want += "the scan log lacks " + strconv.FormatInt(lacking, 10) + " counted scans"
	}
	if b := c.Send(c.Request("GET", "/readyz", "")); b.Status != 200 || !strings.HasPrefix(b.Body, want) || lacking == 0 && b.Body != want {
		c.t.Errorf("%s: /readyz: %d %q, want %q", when, b.Status, b.Body, want)
	}
	b := c.Send(c.Request("GET", "/metrics", "", "Authorization: Bearer "+servertest.AdminToken))
	assert.True(c.t, strings.Contains(b.Body, "\nqrjump_scans_missing "+strconv.FormatInt(lacking, 10)+"\n"),
		"%s: no metric says that %d are lacking", when, lacking)
}

// Issue 12, 8: an older or a cut folder of scans beside a newer database. What was
// counted counts once, and everybody who asks is told what the ledger lacks.
func TestScanFolder_OlderThanDatabase(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		change  func(t *testing.T, older, other, scans string)
		lacking int64
	}{
		"older":                        {func(t *testing.T, older, _, scans string) { replace(t, older, scans) }, 50},
		"older, and went on elsewhere": {func(t *testing.T, _, other, scans string) { replace(t, other, scans) }, 1}, // at least
		"the last file is gone":        {func(t *testing.T, _, _, scans string) { remove(t, scans, 2) }, 20},
		"a file is gone":               {func(t *testing.T, _, _, scans string) { remove(t, scans, 1) }, 30},
		"the first file is gone":       {func(t *testing.T, _, _, scans string) { remove(t, scans, 0) }, 100},
		"the folder is gone":           {func(t *testing.T, _, _, scans string) { require.NoError(t, os.RemoveAll(scans)) }, 150},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := onSQLite(t)
			c := p.counting(t, "", "")
			c.scan(100)
			c.lacks("at first", 100, 0)
			c.Stop()
			scans, older, twin := filepath.Join(p.data, "scans"), filepath.Join(t.TempDir(), "scans"), onSQLite(t)
			replace(t, scans, older)
			replace(t, p.data, twin.data)
			for n, more := range []int{30, 20} {
				c = p.counting(t, "", c.key)
				c.scan(more)
				c.lacks("later", []int64{130, 150}[n], 0)
				c.Stop()
			}
			other := twin.counting(t, "", c.key)
			other.scan(60)
			other.lacks("elsewhere", 160, 0)
			other.Stop()

			one.change(t, older, filepath.Join(twin.data, "scans"), scans)
			c = p.counting(t, "", c.key)
			assert.True(t, strings.Contains(c.Log(), "level=ERROR") && strings.Contains(c.Log(), "missing"),
				"no error says that scans are missing")
			c.lacks("with the changed folder", 150, one.lacking)
			c.scan(5)
			c.lacks("and after scans", 155, one.lacking)
			c.Stop()
			c = p.counting(t, "", c.key)
			c.lacks("and after another start", 155, one.lacking)
		})
	}
}

// replace puts a copy of a folder in the place of another.
func replace(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(to))
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
}

// remove removes a file of scans.
func remove(t *testing.T, folder string, number int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.scans"))
	require.True(t, err == nil && len(files) > number, "%v %v", files, err)
	slices.Sort(files)
	require.NoError(t, os.Remove(files[number]))
}
