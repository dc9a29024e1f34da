// Package dbtest creates a separate database for each test.
package dbtest

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// ForEachDatabase runs a test on the embedded database, whose URL is "", and on the database that postgres creates.
func ForEachDatabase(t *testing.T, postgres func(testing.TB) string, f func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, "") })
	t.Run("postgres", func(t *testing.T) { f(t, postgres(t)) })
}

// Server returns the URL of the PostgreSQL server of this run (TEST_POSTGRES). Without a server it skips the test.
func Server(t testing.TB) string {
	t.Helper()
	address := os.Getenv("TEST_POSTGRES")
	if address == "" {
		require.True(t, os.Getenv("QRJUMP_REQUIRE_POSTGRES") != "1", "QRJUMP_REQUIRE_POSTGRES=1, but TEST_POSTGRES names no server")
		t.Skip("TEST_POSTGRES names no server; scripts/postgres.sh starts one")
	}
	return address
}

// Database creates an empty PostgreSQL database and returns its URL. The database is dropped when the test ends.
func Database(t testing.TB) string {
	t.Helper()
	server, name := Server(t), newName()
	onServer(t, server, `CREATE DATABASE `+name+` STRATEGY file_copy`)
	t.Cleanup(func() { onServer(t, server, `DROP DATABASE `+name+` WITH (FORCE)`) })
	return databaseURL(server, name)
}

// servers are open connections by server URL: a new connection costs as much as a database.
var servers sync.Map

// onServer runs a statement that creates or drops a database.
func onServer(t testing.TB, server, query string) {
	t.Helper()
	db, loaded := servers.Load(server)
	if !loaded {
		opened := open(t, server)
		if db, loaded = servers.LoadOrStore(server, opened); loaded {
			opened.Close()
		}
	}
	exec(t, db.(*sql.DB), query)
}

// DatabaseWithoutTimeouts is Database without limits on the time for locks and with a long limit for connections, because the machine may
// be busy with other tests.
func DatabaseWithoutTimeouts(t testing.TB) string {
	t.Helper()
	return patient(Database(t))
}

func patient(address string) string {
	return WithOption(WithOption(address, "lock_timeout", "0"), "connect_timeout", "600")
}

// shared is the database in which Schema creates schemas. Each test binary has its own, so that packages whose tests run in parallel do not
// wait for each other's locks.
var shared struct {
	sync.Mutex
	server, name string
	db           *sql.DB
	schemas      atomic.Int64
	models       []string // template databases of Copies
}

// Schema creates an empty schema and returns its URL, as DatabaseWithoutTimeouts. A schema is cheaper than a database. The package's
// TestMain must call Run.
func Schema(t testing.TB) string {
	t.Helper()
	server := Server(t)
	shared.Lock()
	if shared.db == nil {
		name := newName()
		Exec(t, server, `CREATE DATABASE `+name)
		shared.server, shared.name, shared.db = server, name, open(t, databaseURL(server, name))
	}
	shared.Unlock()
	schema := fmt.Sprintf("t%d", shared.schemas.Add(1))
	exec(t, shared.db, `CREATE SCHEMA `+schema)
	t.Cleanup(func() { exec(t, shared.db, `DROP SCHEMA `+schema+` CASCADE`) })
	return patient(WithOption(databaseURL(server, shared.name), "search_path", schema))
}

// Run runs the tests of a package and drops the databases that they share: that of Schema, and the templates of Copies.
func Run(m *testing.M) (code int) {
	code = m.Run()
	if shared.db == nil && len(shared.models) == 0 {
		return code
	}
	names := shared.models
	if shared.db != nil {
		shared.db.Close()
		names = append(names, shared.name)
	}
	db, err := sql.Open("pgx", shared.server)
	if err == nil {
		defer db.Close()
		for _, name := range names {
			_, failed := db.Exec(`DROP DATABASE ` + name + ` WITH (FORCE)`)
			err = errors.Join(err, failed)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// WithOption sets an option of a PostgreSQL URL. The value "" removes the option.
func WithOption(address, name, value string) string {
	u := parse(address)
	q := u.Query()
	q.Set(name, value)
	if value == "" {
		q.Del(name)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// Name returns the name of the database of a URL.
func Name(address string) string { return strings.TrimPrefix(parse(address).Path, "/") }

// Exec runs a statement. It retries while the database is in use: PostgreSQL waits only five seconds for sessions that end, which is too
// short on a busy machine.
func Exec(t testing.TB, address, query string) {
	t.Helper()
	db := open(t, address)
	defer db.Close()
	exec(t, db, query)
}

// QueryInt returns the number that a query selects.
func QueryInt(t testing.TB, address, query string) (n int64) {
	t.Helper()
	db := open(t, address)
	defer db.Close()
	require.NoErrorf(t, db.QueryRow(query).Scan(&n), "%s", query)
	return n
}

// QueryRows calls row for each row of a query.
func QueryRows(t testing.TB, address, query string, row func(*sql.Rows) error) {
	t.Helper()
	db := open(t, address)
	defer db.Close()
	rows, err := db.Query(query)
	require.NoErrorf(t, err, "%s", query)
	defer rows.Close()
	for rows.Next() {
		require.NoErrorf(t, row(rows), "%s", query)
	}
	require.NoErrorf(t, rows.Err(), "%s", query)
}

// open opens a PostgreSQL URL or an embedded database ("file:…"). The caller must link the driver "sqlite".
func open(t testing.TB, address string) *sql.DB {
	t.Helper()
	driver := "pgx"
	if strings.HasPrefix(address, "file:") {
		driver = "sqlite"
	}
	db := require.Value(sql.Open(driver, address))(t)
	return db
}

const objectInUse = "55006" // SQLSTATE

func exec(t testing.TB, db *sql.DB, query string) {
	t.Helper()
	for {
		_, err := db.Exec(query)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == objectInUse {
			time.Sleep(20 * time.Millisecond) // between two looks at sessions that end
			continue
		}
		require.NoErrorf(t, err, "%s", query)
		return
	}
}

func newName() string { return "qrjump_test_" + strings.ToLower(rand.Text()) }

func databaseURL(server, database string) string {
	u := parse(server)
	u.Path = "/" + database
	return u.String()
}

func parse(address string) *url.URL {
	u, err := url.Parse(address)
	if err != nil {
		panic("invalid URL of a test database")
	}
	return u
}

// Race runs n calls of f concurrently, starting at the same time, and returns their errors.
func Race(n int, f func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}
