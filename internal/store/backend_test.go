package store

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The tests of this package are the conformance suite: what they say holds for both databases. PostgreSQL comes from TEST_POSTGRES
// (scripts/test.sh starts one); each test gets a copy of the newest schema.

func TestMain(m *testing.M) {
	proctest.Roles{"open a folder": proctest.Role(openFolder)}.Play()
	os.Exit(dbtest.Run(m))
}

// at is when most things in these tests happen, to the millisecond.
var at = time.Date(2026, 1, 31, 15, 59, 59, 123e6, time.UTC)

// eachTarget runs f once for each database, on one that is empty.
func eachTarget(t *testing.T, f func(t *testing.T, target Target)) {
	dbtest.OnEach(t, dbtest.Schema, func(t *testing.T, url string) { f(t, Target{URL: url, Dir: t.TempDir()}) })
}

// copies are databases of the newest schema without a row of anybody's.
var copies = dbtest.CopiesOf(func(url, folder string) error {
	s, err := Open(context.Background(), Target{URL: url, Dir: folder})
	if err != nil {
		return err
	}
	return s.Close()
})

// eachCopy runs f once for each database, on one that has its schema already.
func eachCopy(t *testing.T, f func(t *testing.T, target Target)) {
	dbtest.OnEach(t, copies.Postgres, func(t *testing.T, url string) {
		target := Target{URL: url, Dir: t.TempDir()}
		if url == "" {
			copies.Embedded(t, target.Dir)
		}
		f(t, target)
	})
}

// eachBackend is eachCopy with the store opened.
func eachBackend(t *testing.T, f func(t *testing.T, s *Store)) {
	eachCopy(t, func(t *testing.T, target Target) { f(t, open(t, target)) })
}

// eachCluster gives the stores of two nodes: on PostgreSQL two processes share the database, on SQLite there is one.
func eachCluster(t *testing.T, f func(t *testing.T, nodes [2]*Store)) {
	eachCopy(t, func(t *testing.T, target Target) {
		s := open(t, target)
		nodes := [2]*Store{s, s}
		if target.URL != "" {
			nodes[1] = open(t, target)
		}
		f(t, nodes)
	})
}

func open(t *testing.T, target Target) *Store {
	t.Helper()
	s, err := Open(t.Context(), target)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoErrorf(t, s.Close(), "closing") })
	return s
}

// newPostgres is a database of the newest schema that is dropped after the test.
func newPostgres(t *testing.T) Target {
	t.Helper()
	return Target{URL: copies.Postgres(t), Dir: t.TempDir()}
}

// newEmbedded is a folder with a database of the newest schema.
func newEmbedded(t *testing.T) Target {
	t.Helper()
	target := Target{Dir: t.TempDir()}
	copies.Embedded(t, target.Dir)
	return target
}

// emptyPostgres is a schema without tables that is dropped after the test.
func emptyPostgres(t *testing.T) Target {
	t.Helper()
	return Target{URL: dbtest.Schema(t), Dir: t.TempDir()}
}

// update and view run f in a transaction that must succeed.
func update(t *testing.T, s *Store, f func(ctx context.Context, tx *Tx) error) {
	t.Helper()
	require.NoError(t, s.update(t.Context(), func(tx *Tx) error { return f(t.Context(), tx) }))
}

func view(t *testing.T, s *Store, f func(ctx context.Context, tx *Tx) error) {
	t.Helper()
	require.NoError(t, s.view(t.Context(), func(tx *Tx) error { return f(t.Context(), tx) }))
}

// want compares what came back. A Link has fields of its package alone that follow from its text.
func want[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	assert.Equal(t, cmp.Diff(want, got, cmp.AllowUnexported(rules.Link{})), "", "%s (-want +got)", what)
}

// wantSame is want where nil and empty lists are the same.
func wantSame[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	assert.Equal(t, cmp.Diff(want, got, cmp.AllowUnexported(rules.Link{}), cmpopts.EquateEmpty()), "", "%s (-want +got)", what)
}

func prefixOf(t *testing.T, text string, kind rules.Kind) rules.Prefix {
	t.Helper()
	p, err := rules.ParsePrefix(text, kind, true)
	require.NoError(t, err)
	return p
}

// aRule is an ordinary rule that says little.
func aRule(t *testing.T, owner, prefix string) rules.Rule {
	t.Helper()
	return rules.Rule{Kind: rules.Ordinary, Owner: owner, Target: owner, Prefix: prefixOf(t, prefix, rules.Ordinary), Path: "p",
		OpenVersion: rules.OpenRelease, CreatedAt: at, UpdatedAt: at}
}

var someone = rules.ChangeMeta{At: at, Action: "add"}

// addRules adds rules in one transaction and returns them with their IDs.
func addRules(t *testing.T, s *Store, list ...rules.Rule) []rules.Rule {
	t.Helper()
	var added []rules.Rule
	update(t, s, func(ctx context.Context, tx *Tx) error {
		added = nil
		for _, r := range list {
			r, err := tx.rules().AddRule(ctx, r, someone)
			if err != nil {
				return err
			}
			added = append(added, r)
		}
		return nil
	})
	return added
}

// waitFor returns once holds returns true; after a minute the test fails.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		require.True(t, !time.Now().After(deadline), "waited in vain for %s", what)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// sessionsThatWait returns how many sessions of the database wait for a lock; SQLite has none.
func sessionsThatWait(t *testing.T, s *Store) int64 {
	t.Helper()
	if s.Engine() == "sqlite" {
		return 0
	}
	return number(t, s, `SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`)
}

// number asks the database directly.
func number(t *testing.T, s *Store, query string, args ...any) (n int64) {
	t.Helper()
	require.NoError(t, s.read.QueryRowContext(t.Context(), query, args...).Scan(&n))
	return n
}

// tables lists the tables of the schema, without the one of the migrations.
func tables(t *testing.T, s *Store) []string {
	t.Helper()
	query := `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`
	if s.Engine() == "postgres" {
		query = `SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition`
	}
	var list []string
	for _, name := range texts(t, s, query) {
		if name != "goose_db_version" {
			list = append(list, name)
		}
	}
	return list
}

func texts(t *testing.T, s *Store, query string, args ...any) []string {
	t.Helper()
	rows, err := s.read.QueryContext(t.Context(), query, args...)
	require.NoError(t, err)
	defer rows.Close()
	var list []string
	for rows.Next() {
		var one string
		require.NoError(t, rows.Scan(&one))
		list = append(list, one)
	}
	require.NoError(t, rows.Err())
	return list
}
