package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestDrillDatabase_RestoredCopy verifies that a restore drill tests the rules and codes of a database, and that it rejects a database in
// use, another master key, and wrong counts.
func TestDrillDatabase_RestoredCopy(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	w := brandServer{p.start(t, servertest.Options{Seed: brewery}), t}
	w.apply("order-1", 10_000)
	text := require.Value(os.ReadFile(filepath.Join(p.data, "master.key")))(t)
	key := strings.TrimSpace(string(text))
	keys := dbtest.QueryInt(t, p.database, `SELECT COUNT(*) FROM scan_keys`)
	drill := func(key, want string) server.DrillReport {
		t.Helper()
		r, err := server.DrillDatabase(t.Context(), p.database, key)
		switch {
		case want == "":
			require.NoError(t, err)
		case err == nil || !strings.Contains(err.Error(), want):
			t.Errorf("DrillDatabase = %v, want an error with %q", err, want)
		}
		return r
	}
	drill(key, "(qrjump) uses the database "+dbtest.Name(p.database))
	w.Stop()
	unused := func() bool { // PostgreSQL ends a session with a delay after its client closed the connection
		return dbtest.QueryInt(t, dbtest.Server(t), `SELECT COUNT(*) FROM pg_stat_activity WHERE usesysid IS NOT NULL AND datname = '`+
			dbtest.Name(p.database)+`'`) == 0
	}
	eventually(t, "the sessions end", unused)
	drill(strings.Repeat("5a", 32), "QRJUMP_MASTER_KEY")
	assert.Equal(t, dbtest.QueryInt(t, p.database, `SELECT COUNT(*) FROM scan_keys`), keys, "scan keys after refused drills")
	eventually(t, "the sessions end", unused)
	r := drill(key, "")
	assert.True(t, r.Rules == 1 && r.Opened == 1 && r.Batches == 1 && r.Codes == 3, "DrillDatabase = %+v", r)
	dbtest.Exec(t, p.database, `UPDATE rule_counts SET rules = rules + 1`)
	eventually(t, "the sessions end", unused)
	drill(key, "count")
}
