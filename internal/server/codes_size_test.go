package server_test

import (
	"database/sql"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestCodes_TwentyMillionStorageSize verifies that an application for twenty million codes and their activation add one row each.
func TestCodes_TwentyMillionStorageSize(t *testing.T) {
	t.Parallel()
	const maxGrowth = 64 << 10 // bytes
	dir := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Data: dir})
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: filepath.Join(dir, "qrjump.db")}).EscapedPath()+"?_busy_timeout=10000")
	require.NoError(t, err)
	defer db.Close()
	dataDir := dataDir{t, dir, db}
	call := func(name, body string) servertest.Answer {
		t.Helper()
		a := s.CodeCall("wxserviceacct0001", name, body)
		require.True(t, a.Code(t) == 0, "%s %s: %s", name, body, a.Body)
		return a
	}
	s.Token("wxserviceacct0001") // creates a row itself, so before the first measurement

	bytes, rows := dataDir.size(), dataDir.countRows()
	checkGrowth := func(step string, want map[string]int) {
		t.Helper()
		nowBytes, nowRows := dataDir.size(), dataDir.countRows()
		got := map[string]int{}
		for table, n := range nowRows {
			if n != rows[table] {
				got[table] = n - rows[table]
			}
		}
		assert.True(t, maps.Equal(got, want), "%s: the tables grew by %v rows, want %v", step, got, want)
		t.Logf("%s: the data directory has %d bytes, %d more", step, nowBytes, nowBytes-bytes)
		assert.True(t, nowBytes-bytes <= maxGrowth, "%s: the directory grew by %d bytes, want at most %d", step, nowBytes-bytes, maxGrowth)
		rows = nowRows
	}

	var batch struct {
		ID     int64  `json:"application_id"`
		Status string `json:"status"`
	}
	call("applycode", `{"code_count":20000000,"isv_application_id":"size"}`).JSON(t, &batch)
	call("applycodequery", `{"isv_application_id":"size"}`).JSON(t, &batch)
	assert.True(t, batch.Status == "FINISH", "got the status %s, want FINISH", batch.Status)
	checkGrowth("applied", map[string]int{"batches": 1, "changes": 1, "counters": 1}) // the last row counts the applications of the day

	call("codeactive", fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":19999999,"activity_name":"a","product_brand":"b","product_title":"t",
		"product_code":"4006381333931","wxa_appid":"wxminiprogram0001","wxa_path":"pages/index/index"}`, batch.ID))
	checkGrowth("activated", map[string]int{"changes": 1, "code_events": 1})

	// The last code exists and is activated.
	last := call("codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":19999999}`, batch.ID)).Text(t, "wxa_path")
	assert.True(t, last == "pages/index/index", "the last code opens %q", last)
}

// dataDir is the data directory of a running server, with a second connection to its database.
type dataDir struct {
	t   testing.TB
	dir string
	db  *sql.DB
}

// size returns the total size of the files in bytes, after a checkpoint that truncates the write-ahead log.
func (f dataDir) size() int64 {
	f.t.Helper()
	var busy, frames, moved int
	err := f.db.QueryRowContext(f.t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved)
	require.True(f.t, err == nil && busy == 0, "checkpoint: busy %d, %v, want 0", busy, err)
	var sum int64
	require.NoError(f.t, filepath.WalkDir(f.dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	}))
	return sum
}

// periodicTables are the tables that background jobs write every second or minute of real time.
var periodicTables = []string{"calls", "domain_reverifications", "statistics_state", "webhook_readers"}

// countRows returns the number of rows of each table that calls write.
func (f dataDir) countRows() map[string]int {
	f.t.Helper()
	var tables []string
	found := require.Value(f.db.QueryContext(f.t.Context(), "SELECT name FROM sqlite_schema WHERE type = 'table'"))(f.t)
	defer found.Close()
	for found.Next() {
		var table string
		require.NoError(f.t, found.Scan(&table))
		tables = append(tables, table)
	}
	require.NoError(f.t, found.Err())
	counts := map[string]int{}
	for _, table := range tables {
		if slices.Contains(periodicTables, table) {
			continue
		}
		query := `SELECT count(*) FROM "` + table + `"`
		if table == "counters" { // those of other endpoints are written with the call log
			query += ` WHERE counter = '/intp/marketcode/applycode'`
		}
		var n int
		require.NoError(f.t, f.db.QueryRowContext(f.t.Context(), query).Scan(&n))
		counts[table] = n
	}
	return counts
}
