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

// wantMissing verifies that total scans are counted, and that recount, /readyz and metrics report missing ones.
func (c *scanCounter) wantMissing(step string, total, missing int64) {
	c.t.Helper()
	var a struct {
		Rows []struct{ Scans int64 }
	}
	c.Admin("GET", "/statistics?wait=true", "").JSON(c.t, &a)
	assert.True(c.t, len(a.Rows) == 1 && a.Rows[0].Scans == total, "%s: statistics = %+v, want %d scans", step, a.Rows, total)
	var r struct {
		Missing     int64
		Differences int64 `json:"difference_count"`
	}
	if b := c.Admin("POST", "/statistics/recount", ""); b.Status != 200 {
		c.t.Errorf("%s: a recount: %d %s", step, b.Status, b.Body)
	} else if b.JSON(c.t, &r); r.Missing != missing || r.Differences == 0 != (missing == 0) {
		c.t.Errorf("%s: a recount: %s, want %d lacking", step, b.Body, missing)
	}
	want := "ready\n"
	if missing > 0 {
		want += "the scan log lacks " + strconv.FormatInt(missing, 10) + " counted scans"
	}
	if b := c.Send(c.Request("GET", "/readyz", "")); b.Status != 200 || !strings.HasPrefix(b.Body, want) || missing == 0 && b.Body != want {
		c.t.Errorf("%s: /readyz: %d %q, want %q", step, b.Status, b.Body, want)
	}
	b := c.Send(c.Request("GET", "/metrics", "", "Authorization: Bearer "+servertest.AdminToken))
	assert.True(c.t, strings.Contains(b.Body, "\nqrjump_scans_missing "+strconv.FormatInt(missing, 10)+"\n"),
		"%s: want qrjump_scans_missing %d in the metrics", step, missing)
}

// TestScanFolder_OlderThanDatabase starts a server with a scan log that is older than its database or lacks files. Counted scans must count
// once, and the server must report how many the scan log lacks.
func TestScanFolder_OlderThanDatabase(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change  func(t *testing.T, older, other, scans string)
		missing int64
	}{
		"older":                        {func(t *testing.T, older, _, scans string) { replaceDir(t, older, scans) }, 50},
		"older, and went on elsewhere": {func(t *testing.T, _, other, scans string) { replaceDir(t, other, scans) }, 1}, // at least
		"the last file is gone":        {func(t *testing.T, _, _, scans string) { removeScanFile(t, scans, 2) }, 20},
		"a file is gone":               {func(t *testing.T, _, _, scans string) { removeScanFile(t, scans, 1) }, 30},
		"the first file is gone":       {func(t *testing.T, _, _, scans string) { removeScanFile(t, scans, 0) }, 100},
		"the folder is gone":           {func(t *testing.T, _, _, scans string) { require.NoError(t, os.RemoveAll(scans)) }, 150},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newSQLite(t)
			c := p.startCounter(t, "", "")
			c.scan(100)
			c.wantMissing("at first", 100, 0)
			c.Stop()
			scans, older, copied := filepath.Join(p.data, "scans"), filepath.Join(t.TempDir(), "scans"), newSQLite(t)
			replaceDir(t, scans, older)
			replaceDir(t, p.data, copied.data)
			for i, n := range []int{30, 20} {
				c = p.startCounter(t, "", c.key)
				c.scan(n)
				c.wantMissing("later", []int64{130, 150}[i], 0)
				c.Stop()
			}
			other := copied.startCounter(t, "", c.key)
			other.scan(60)
			other.wantMissing("elsewhere", 160, 0)
			other.Stop()

			test.change(t, older, filepath.Join(copied.data, "scans"), scans)
			c = p.startCounter(t, "", c.key)
			assert.True(t, strings.Contains(c.Log(), "level=ERROR") && strings.Contains(c.Log(), "missing"),
				"the log has no error about missing scans")
			c.wantMissing("with the changed folder", 150, test.missing)
			c.scan(5)
			c.wantMissing("and after scans", 155, test.missing)
			c.Stop()
			c = p.startCounter(t, "", c.key)
			c.wantMissing("and after another start", 155, test.missing)
		})
	}
}

// replaceDir replaces the directory to by a copy of from.
func replaceDir(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(to))
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
}

// removeScanFile removes a file of a scan log, by its number from 0.
func removeScanFile(t *testing.T, folder string, number int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.scans"))
	require.True(t, err == nil && len(files) > number, "%v %v", files, err)
	slices.Sort(files)
	require.NoError(t, os.Remove(files[number]))
}
