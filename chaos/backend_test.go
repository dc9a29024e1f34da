package chaos_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// runOnEachBackend runs a test on both databases. database is "" for SQLite, otherwise the URL of a PostgreSQL database with empty tables.
func runOnEachBackend(t *testing.T, f func(t *testing.T, database string)) {
	dbtest.ForEachDatabase(t, newDatabase, f)
}

// newDatabase creates a PostgreSQL database with empty tables, which is dropped at the end of the test.
func newDatabase(t testing.TB) string {
	t.Helper()
	return withConnectTimeout(dbtest.WithOption(storetest.Postgres(t), "lock_timeout", ""))
}

// newEmptyDatabase is newDatabase without tables.
func newEmptyDatabase(t testing.TB) string {
	t.Helper()
	return withConnectTimeout(dbtest.Database(t))
}

// withConnectTimeout sets a connect timeout that ten nodes which connect together on a busy machine do not reach.
func withConnectTimeout(database string) string {
	return dbtest.WithOption(database, "connect_timeout", "60")
}

// terminateSessions ends the PostgreSQL sessions of a killed process and waits until they are closed: afterwards, a COMMIT that was in
// progress has either happened or never will.
func terminateSessions(t testing.TB, database string) {
	t.Helper()
	if database != "" {
		dbtest.Exec(t, database, `SELECT pg_terminate_backend(pid, 3600000) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
}

// openSession opens a database session that no node uses.
func openSession(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(context.Background(), database)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func execSQL(t testing.TB, c *pgx.Conn, query string, args ...any) {
	t.Helper()
	_, err := c.Exec(context.Background(), query, args...)
	require.NoErrorf(t, err, "%s", query)
}

// queryMap returns the rows of a query with two columns as a map from the first column to the second.
func queryMap[K comparable, V any](t testing.TB, database, query string) map[K]V {
	t.Helper()
	found := map[K]V{}
	dbtest.QueryRows(t, database, query, func(rows *sql.Rows) error {
		var key K
		var value V
		err := rows.Scan(&key, &value)
		found[key] = value
		return err
	})
	return found
}
