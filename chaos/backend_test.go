package chaos_test

import (
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// eachBackend runs a test on both databases. database is "" for the embedded
// one, else the URL of a PostgreSQL database without rows.
func eachBackend(t *testing.T, f func(t *testing.T, database string)) {
	dbtest.OnEach(t, ownDatabase, f)
}

// ownDatabase makes a PostgreSQL database that ends with the test. It has its tables and no rows.
func ownDatabase(t testing.TB) string {
	t.Helper()
	return busy(dbtest.WithOption(storetest.Postgres(t), "lock_timeout", ""))
}

// emptyDatabase is ownDatabase without tables.
func emptyDatabase(t testing.TB) string {
	t.Helper()
	return busy(dbtest.Database(t))
}

// busy lets a server wait for a connection: on a busy machine ten nodes connect at once.
func busy(database string) string { return dbtest.WithOption(database, "connect_timeout", "60") }

// endSessions waits until PostgreSQL has dropped the sessions of a killed
// process: a COMMIT that was under way there ends before or never, on a busy
// disk after a long time.
func endSessions(t testing.TB, database string) {
	t.Helper()
	if database != "" {
		dbtest.Exec(t, database, `SELECT pg_terminate_backend(pid, 3600000) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
}
