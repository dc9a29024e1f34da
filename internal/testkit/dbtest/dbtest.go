// Package dbtest gives each test a database of its own.
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

// OnEach runs a test on the embedded database, whose URL is "", then on what postgres makes.
func OnEach(t *testing.T, postgres func(testing.TB) string, f func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, "") })
	t.Run("postgres", func(t *testing.T) { f(t, postgres(t)) })
}

// Server returns the PostgreSQL server of this run (TEST_POSTGRES); without one the test is skipped.
func Server(t testing.TB) string {
	t.Helper()
	address := os.Getenv("TEST_POSTGRES")
	if address == "" {
		require.True(t, os.Getenv("QRJUMP_REQUIRE_POSTGRES") != "1", "QRJUMP_REQUIRE_POSTGRES=1, but TEST_POSTGRES names no server")
		t.Skip("TEST_POSTGRES names no server; scripts/postgres.sh starts one")
	}
	return address
}

// Database makes an empty PostgreSQL database that ends with the test.
func Database(t testing.TB) string {
	t.Helper()
	server, name := Server(t), newName()
	onServer(t, server, `CREATE DATABASE `+name)
	t.Cleanup(func() { onServer(t, server, `DROP DATABASE `+name+` WITH (FORCE)`) })
	return in(server, name)
}

// servers are connections to servers, which are kept: a new one costs as much as a database.
var servers sync.Map

// onServer makes and drops databases.
func onServer(t testing.TB, server, query string) {
	t.Helper()
	db, known := servers.Load(server)
	if !known {
		fresh := open(t, server)
		if db, known = servers.LoadOrStore(server, fresh); known {
			fresh.Close()
		}
	}
	exec(t, db.(*sql.DB), query)
}

// Patient is Database for tests in which waiting for locks or for a connection is no fault: the machine may be busy with other tests.
func Patient(t testing.TB) string {
	t.Helper()
	return patient(Database(t))
}

func patient(address string) string {
	return WithOption(WithOption(address, "lock_timeout", "0"), "connect_timeout", "600")
}

// ran is the database in which Schema makes schemas: packages that are tested side by
// side neither see each other's tables nor wait for each other's locks.
var ran struct {
	sync.Mutex
	server, name string
	db           *sql.DB
	schemas      atomic.Int64
	models       []string // databases that Copies copy
}

// Schema makes an empty schema, which is cheaper than a database, and patient as well. The package's TestMain must call Run.
func Schema(t testing.TB) string {
	t.Helper()
	server := Server(t)
	ran.Lock()
	if ran.db == nil {
		name := newName()
		Exec(t, server, `CREATE DATABASE `+name)
		ran.server, ran.name, ran.db = server, name, open(t, in(server, name))
	}
	ran.Unlock()
	schema := fmt.Sprintf("t%d", ran.schemas.Add(1))
	exec(t, ran.db, `CREATE SCHEMA `+schema)
	t.Cleanup(func() { exec(t, ran.db, `DROP SCHEMA `+schema+` CASCADE`) })
	return patient(WithOption(in(server, ran.name), "search_path", schema))
}

// Run runs the tests of a package and drops what they share: the database of their schemas, and the models that they copied.
func Run(m *testing.M) (code int) {
	code = m.Run()
	if ran.db == nil && len(ran.models) == 0 {
		return code
	}
	shared := ran.models
	if ran.db != nil {
		ran.db.Close()
		shared = append(shared, ran.name)
	}
	db, err := sql.Open("pgx", ran.server)
	if err == nil {
		defer db.Close()
		for _, name := range shared {
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

// WithOption changes one option of a PostgreSQL URL; "" removes it.
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

// Name returns the name of the database that a URL leads to.
func Name(address string) string { return strings.TrimPrefix(parse(address).Path, "/") }

// Exec runs one statement. PostgreSQL waits five seconds for sessions that end and are
// in its way, which can be too short on a busy machine.
func Exec(t testing.TB, address, query string) {
	t.Helper()
	db := open(t, address)
	defer db.Close()
	exec(t, db, query)
}

// Number asks for one number.
func Number(t testing.TB, address, query string) (n int64) {
	t.Helper()
	db := open(t, address)
	defer db.Close()
	require.NoErrorf(t, db.QueryRow(query).Scan(&n), "%s", query)
	return n
}

// Rows hands over the rows of an answer.
func Rows(t testing.TB, address, query string, row func(*sql.Rows) error) {
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

// open opens a PostgreSQL URL, or the file of an embedded database ("file:…", with the driver that the caller links).
func open(t testing.TB, address string) *sql.DB {
	t.Helper()
	driver := "pgx"
	if strings.HasPrefix(address, "file:") {
		driver = "sqlite"
	}
	db, err := sql.Open(driver, address)
	require.NoError(t, err)
	return db
}

const inUse = "55006"

func exec(t testing.TB, db *sql.DB, query string) {
	t.Helper()
	for {
		_, err := db.Exec(query)
		if said, is := errors.AsType[*pgconn.PgError](err); is && said.Code == inUse {
			time.Sleep(20 * time.Millisecond) // between two looks at sessions that end
			continue
		}
		require.NoErrorf(t, err, "%s", query)
		return
	}
}

func newName() string { return "qrjump_test_" + strings.ToLower(rand.Text()) }

func in(server, database string) string {
	u := parse(server)
	u.Path = "/" + database
	return u.String()
}

func parse(address string) *url.URL {
	u, err := url.Parse(address)
	if err != nil {
		panic("the URL of a test's database cannot be read")
	}
	return u
}

// Race runs n calls that start together and returns their errors.
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
