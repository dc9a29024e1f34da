package endurance_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// eachBackend runs a test on both databases. database is "" for the embedded
// one, else the URL of an empty PostgreSQL database of the test's own.
func eachBackend(t *testing.T, f func(t *testing.T, database string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, "") })
	t.Run("postgres", func(t *testing.T) { f(t, ownDatabase(t)) })
}

// ownDatabase makes a PostgreSQL database that ends with the test.
func ownDatabase(t *testing.T) string {
	t.Helper()
	server := os.Getenv("TEST_POSTGRES")
	if server == "" {
		if os.Getenv("QRJUMP_REQUIRE_POSTGRES") == "1" {
			t.Fatal("TEST_POSTGRES is not set, and QRJUMP_REQUIRE_POSTGRES=1 wants it")
		}
		t.Skip("TEST_POSTGRES is not set")
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal("TEST_POSTGRES is not a URL")
	}
	name := "endurance_" + strings.ToLower(rand.Text())
	run(t, server, "CREATE DATABASE "+name)
	t.Cleanup(func() { run(t, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	u.Path = "/" + name
	query := u.Query()
	query.Set("connect_timeout", "60") // on a busy machine ten nodes connect at once
	u.RawQuery = query.Encode()
	return u.String()
}

// run runs one statement on a database. PostgreSQL waits five seconds for sessions
// that end and are in its way, which can be too short on a busy machine.
func run(t testing.TB, database, query string) {
	t.Helper()
	db, err := sql.Open("pgx", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	until(t, query, func() bool {
		_, err := db.ExecContext(context.Background(), query)
		if said, is := errors.AsType[*pgconn.PgError](err); is && said.Code == "55006" {
			return false // the database is being used
		}
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		return true
	})
}

// endSessions waits until PostgreSQL has dropped the sessions of a killed
// process: a COMMIT that was under way there ends before or never, on a busy
// disk after a long time.
func endSessions(t testing.TB, database string) {
	t.Helper()
	if database != "" {
		run(t, database, `SELECT pg_terminate_backend(pid, 3600000) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
}

// count runs a query that answers one number.
func count(t testing.TB, database, query string) (n int64) {
	t.Helper()
	db, err := sql.Open("pgx", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(context.Background(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// each runs a query and hands over its rows.
func each(t testing.TB, database, query string, row func(scan func(...any) error) error) {
	t.Helper()
	db, err := sql.Open("pgx", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(context.Background(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}
