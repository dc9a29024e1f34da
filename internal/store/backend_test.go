package store

import (
	"context"
	"encoding/json"
	"os"
	"slices"
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

// The tests of this package are a conformance suite for SQLite and PostgreSQL. TEST_POSTGRES is the URL of a PostgreSQL server
// (scripts/test.sh starts one); each test gets a new database with the newest schema.

func TestMain(m *testing.M) {
	proctest.Roles{"open a folder": proctest.Role(openFolder)}.Run()
	os.Exit(dbtest.Run(m))
}

// t0 is the time of most events in these tests. It has milliseconds, the precision of the database.
var t0 = time.Date(2026, 1, 31, 15, 59, 59, 123e6, time.UTC)

// forEachEmptyDatabase runs f with an empty SQLite database and an empty PostgreSQL schema.
func forEachEmptyDatabase(t *testing.T, f func(t *testing.T, target Target)) {
	dbtest.ForEachDatabase(t, dbtest.Schema, func(t *testing.T, url string) { f(t, Target{URL: url, Dir: t.TempDir()}) })
}

// databaseCopies makes databases that have the newest schema and no rows.
var databaseCopies = dbtest.NewCopies(func(url, folder string) error {
	s, err := Open(context.Background(), Target{URL: url, Dir: folder})
	if err != nil {
		return err
	}
	return s.Close()
})

// forEachDatabase runs f with a SQLite and a PostgreSQL database that have the newest schema.
func forEachDatabase(t *testing.T, f func(t *testing.T, target Target)) {
	dbtest.ForEachDatabase(t, databaseCopies.Postgres, func(t *testing.T, url string) {
		if url == "" {
			f(t, newEmbedded(t))
		} else {
			f(t, Target{URL: url, Dir: t.TempDir()})
		}
	})
}

// forEachBackend runs f with a store on each database.
func forEachBackend(t *testing.T, f func(t *testing.T, s *Store)) {
	forEachDatabase(t, func(t *testing.T, target Target) { f(t, open(t, target)) })
}

// forEachCluster runs f with the stores of two nodes: on PostgreSQL two stores that share a database, on SQLite the same store twice.
func forEachCluster(t *testing.T, f func(t *testing.T, nodes [2]*Store)) {
	forEachDatabase(t, func(t *testing.T, target Target) {
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
	s := require.Value(Open(t.Context(), target))(t)
	t.Cleanup(func() { assert.NoErrorf(t, s.Close(), "Close()") })
	return s
}

// newPostgres creates a PostgreSQL database with the newest schema, which is dropped after the test.
func newPostgres(t *testing.T) Target {
	t.Helper()
	return Target{URL: databaseCopies.Postgres(t), Dir: t.TempDir()}
}

// newEmbedded creates a data directory that holds a SQLite database with the newest schema.
func newEmbedded(t *testing.T) Target {
	t.Helper()
	target := Target{Dir: t.TempDir()}
	databaseCopies.Embedded(t, target.Dir)
	return target
}

// newEmptyPostgres creates a PostgreSQL schema without tables, which is dropped after the test.
func newEmptyPostgres(t *testing.T) Target {
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

// check reports an error with the difference if got is not equal to want.
func check[T any](t *testing.T, name string, got, want T, options ...cmp.Option) {
	t.Helper()
	options = append(options, cmp.AllowUnexported(rules.Link{}))
	assert.Equal(t, cmp.Diff(want, got, options...), "", "%s (-want +got)", name)
}

// checkList is check for values whose nil and empty lists are equal.
func checkList[T any](t *testing.T, name string, got, want T) {
	t.Helper()
	check(t, name, got, want, cmpopts.EquateEmpty())
}

func parsePrefix(t *testing.T, text string, kind rules.Kind) rules.Prefix {
	t.Helper()
	return require.Value(rules.ParsePrefix(text, kind, true))(t)
}

// newRule returns an unpublished ordinary rule.
func newRule(t *testing.T, owner, prefix string) rules.Rule {
	t.Helper()
	return rules.Rule{Kind: rules.Ordinary, Owner: owner, Target: owner, Prefix: parsePrefix(t, prefix, rules.Ordinary), Path: "p",
		OpenVersion: rules.OpenRelease, CreatedAt: t0, UpdatedAt: t0}
}

// addMeta describes the change that adds a rule.
var addMeta = rules.ChangeMeta{At: t0, Action: "add"}

// addRules adds rules in one transaction and returns them with their IDs.
func addRules(t *testing.T, s *Store, list ...rules.Rule) []rules.Rule {
	t.Helper()
	var added []rules.Rule
	update(t, s, func(ctx context.Context, tx *Tx) error {
		added = nil
		for _, r := range list {
			r, err := tx.rules().AddRule(ctx, r, addMeta)
			if err != nil {
				return err
			}
			added = append(added, r)
		}
		return nil
	})
	return added
}

// waitFor blocks until condition returns true. After a minute it fails the test.
func waitFor(t *testing.T, name string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		require.True(t, !time.Now().After(deadline), "timeout of one minute: %s", name)
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

// countLockWaiters returns the number of PostgreSQL sessions that wait for a lock. On SQLite it returns 0.
func countLockWaiters(t *testing.T, s *Store) int64 {
	t.Helper()
	if s.Engine() == "sqlite" {
		return 0
	}
	return queryInt(t, s, `SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`)
}

// mustExec runs a statement outside of the store's transactions.
func mustExec(t *testing.T, s *Store, query string, args ...any) {
	t.Helper()
	require.NoErrorf(t, assert.ErrorOf(s.write.ExecContext(t.Context(), query, args...)), "%s", query)
}

// queryInt returns the single integer that a query selects.
func queryInt(t *testing.T, s *Store, query string, args ...any) (n int64) {
	t.Helper()
	require.NoError(t, s.read.QueryRowContext(t.Context(), query, args...).Scan(&n))
	return n
}

// tableNames returns the tables of the schema without the table of the migrations.
func tableNames(t *testing.T, s *Store) []string {
	t.Helper()
	query := `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`
	if s.Engine() == "postgres" {
		query = `SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition`
	}
	names := queryColumn[string](t, s, query)
	return slices.DeleteFunc(names, func(name string) bool { return name == "goose_db_version" })
}

// queryColumn returns the values of the last column that a query selects.
func queryColumn[T any](t *testing.T, s *Store, query string, args ...any) (values []T) {
	t.Helper()
	rows := require.Value(s.read.QueryContext(t.Context(), query, args...))(t)
	defer rows.Close()
	columns := require.Value(rows.Columns())(t)
	for rows.Next() {
		var value T
		row := make([]any, len(columns))
		for i := range row {
			row[i] = new(any)
		}
		row[len(row)-1] = &value
		require.NoError(t, rows.Scan(row...))
		values = append(values, value)
	}
	require.NoError(t, rows.Err())
	return values
}

// queryPlan returns the steps with which SQLite runs a query.
func queryPlan(t *testing.T, s *Store, query string, args ...any) []string {
	t.Helper()
	return queryColumn[string](t, s, `EXPLAIN QUERY PLAN `+query, args...)
}

// planNode is a node of a query plan of PostgreSQL.
type planNode struct {
	Relation string  `json:"Relation Name"`
	Rows     float64 `json:"Actual Rows"`
	Loops    float64 `json:"Actual Loops"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Plans    []planNode
}

// explainAnalyze runs a query on PostgreSQL and returns all nodes of its plan.
func explainAnalyze(t *testing.T, s *Store, query string, args ...any) []planNode {
	t.Helper()
	var plans []struct{ Plan planNode }
	text := queryColumn[string](t, s, `EXPLAIN (ANALYZE, FORMAT JSON) `+query, args...)[0]
	require.NoError(t, json.Unmarshal([]byte(text), &plans))
	nodes := []planNode{plans[0].Plan}
	for i := 0; i < len(nodes); i++ {
		nodes = append(nodes, nodes[i].Plans...)
	}
	return nodes
}

// countRowsScanned returns how many rows of tables a query reads on PostgreSQL.
func countRowsScanned(t *testing.T, s *Store, query string, args ...any) (rows float64) {
	t.Helper()
	for _, n := range explainAnalyze(t, s, query, args...) {
		if n.Relation != "" {
			rows += n.Rows + n.Removed
		}
	}
	return rows
}

// mapSlice returns the results of f for each element.
func mapSlice[T, V any](list []T, f func(T) V) (results []V) {
	for _, element := range list {
		results = append(results, f(element))
	}
	return results
}

func ruleID(r rules.Rule) int64 { return r.ID }
