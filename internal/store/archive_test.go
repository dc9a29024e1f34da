package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// exportTables returns the rows of each table in the format of an archive.
func exportTables(t *testing.T, s *Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, s.Snapshot(t.Context(), func(p *Snapshot) error {
		clear(all)
		for _, table := range p.Tables() {
			var b bytes.Buffer
			n, err := p.WriteRows(t.Context(), table, &b)
			if err != nil {
				return err
			}
			lines := strings.Count(b.String(), "\n")
			assert.True(t, int64(lines) == n, "WriteRows(%s) = %d for %d lines", table, n, lines)
			all[table] = b.String()
		}
		return nil
	}))
	return all
}

// loadTables fills an empty store with the result of exportTables.
func loadTables(t *testing.T, s *Store, all map[string]string) error {
	t.Helper()
	return retryLoad(t.Context(), s, func(l *Restore) error {
		for _, table := range slices.Sorted(maps.Keys(all)) {
			n, err := l.LoadRows(t.Context(), table, strings.NewReader(all[table]))
			if err != nil {
				return err
			}
			lines := strings.Count(all[table], "\n")
			assert.True(t, int64(lines) == n, "LoadRows(%s) = %d for %d lines", table, n, lines)
		}
		return nil
	})
}

// retryLoad calls Load until PostgreSQL has closed the other connections of the store, which count as other users of the database.
func retryLoad(ctx context.Context, s *Store, f func(*Restore) error) error {
	for {
		if err := s.Load(ctx, f); !errors.Is(err, ErrInUse) {
			return err
		}
	}
}

// fillTables inserts three rows into each table.
func fillTables(t *testing.T, s *Store) {
	t.Helper()
	f := filler{}
	update(t, s, func(ctx context.Context, tx *Tx) error {
		for _, table := range (&Snapshot{}).Tables() {
			columns, err := tx.columns(ctx, table)
			if err != nil {
				return err
			}
			rows, err := tx.query(ctx, `SELECT `+strings.Join(columns, ", ")+` FROM `+table)
			if err != nil {
				return err
			}
			types, err := rows.ColumnTypes()
			if err != nil {
				return err
			}
			rows.Close()
			for n := range 3 {
				args := make([]any, len(columns))
				for i := range columns {
					// "TEXT" and "BIGINT" in SQLite, "TEXT" and "INT8" in PostgreSQL.
					if types[i].DatabaseTypeName() == "TEXT" {
						args[i] = f.text()
					} else {
						f.n++
						args[i] = []int64{int64(f.n), math.MaxInt64 - int64(f.n), math.MinInt64 + int64(f.n)}[n]
					}
				}
				if _, err := tx.exec(ctx, `INSERT INTO `+table+` (`+strings.Join(columns, ", ")+`) VALUES (`+
					placeholders(1, len(columns))+`)`, args...); err != nil {
					return fmt.Errorf("%s: %w", table, err)
				}
			}
		}
		return nil
	})
}

func TestStoreArchive_SameAcrossDatabases(t *testing.T) {
	forEachDatabase(t, func(t *testing.T, first Target) {
		s := open(t, first)
		fillTables(t, s)
		all := exportTables(t, s)
		for table, rows := range all {
			assert.True(t, strings.Count(rows, "\n") >= 3, "rows of %s = %q, want at least 3", table, rows)
		}
		forEachDatabase(t, func(t *testing.T, second Target) {
			restored := open(t, second)
			require.NoError(t, loadTables(t, restored, all))
			check(t, "rows", exportTables(t, restored), all)
		})
	})
}

func TestLoad_RequiresEmptyDatabase(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		empty := exportTables(t, s)
		require.NoError(t, assert.ErrorOf(s.FirstSealedKey(t.Context(), "data", "x")))
		err := loadTables(t, s, empty)
		assert.True(t, errors.Is(err, ErrNotEmpty) && strings.Contains(err.Error(), "sealing_keys"),
			"Load() = %v, want %v with sealing_keys", err, ErrNotEmpty)
	})
}

// TestLoad_WaitsForEndingSession verifies that Load waits for the session of a process that has ended.
func TestLoad_WaitsForEndingSession(t *testing.T) {
	target := newEmptyPostgres(t)
	s := require.Value(OpenEmpty(t.Context(), target, NewestSchema()))(t)
	t.Cleanup(func() { s.Close() })
	ending, conn := connectAdmin(t, target), connectAdmin(t, target)
	mustExecConn(t, ending, `SELECT pg_advisory_lock_shared(`+users+`)`)
	loading := errors.New("the load began")
	done := make(chan error, 1)
	go func() { done <- s.Load(t.Context(), func(*Restore) error { return loading }) }()
	for waits := false; !waits; {
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND (query LIKE '%pg_try_advisory_xact_lock%' OR query = 'rollback')`).Scan(&waits))
	}
	mustExecConn(t, ending, `SELECT pg_advisory_unlock_shared(`+users+`)`)
	assert.ErrorIs(t, <-done, loading, "Load")
}

func TestLoad_FailureRollsBack(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		empty := exportTables(t, s)
		full := maps.Clone(empty)
		full["seeds"] = `{"applied_at":1,"hash":"a"}` + "\n"
		full["sequences"] = `{"name":"change","value":77}` + "\n"
		for name, broken := range map[string]struct{ table, rows string }{
			"an invalid row":          {"tickets", "{]\n"},
			"a truncated row":         {"tickets", `{"hash":"x"`},
			"an unknown column":       {"seeds", `{"applied_at":1,"hash":"a","x":1}` + "\n"},
			"another column":          {"seeds", `{"applied_at":1,"hush":"a"}` + "\n"},
			"a boolean for a number":  {"seeds", `{"applied_at":true,"hash":"a"}` + "\n"},
			"a fraction":              {"seeds", `{"applied_at":1.5,"hash":"a"}` + "\n"},
			"a number above 64 bits":  {"seeds", `{"applied_at":9223372036854775808,"hash":"a"}` + "\n"},
			"null in a column":        {"seeds", `{"applied_at":1,"hash":null}` + "\n"},
			"a NUL in a text":         {"seeds", `{"applied_at":1,"hash":"\u0000"}` + "\n"},
			"a duplicate row":         {"seeds", strings.Repeat(`{"applied_at":1,"hash":"a"}`+"\n", 2)},
			"an unknown table":        {"nothing; DROP TABLE seeds", ""},
			"the keys":                {"sealing_keys", `{"name":"a","sealed":"b"}` + "\n"},
			"the table of migrations": {"goose_db_version", ""},
		} {
			all := maps.Clone(full)
			all[broken.table] = broken.rows
			err := loadTables(t, s, all)
			assert.True(t, err != nil && !errors.Is(err, ErrNotEmpty), "Load() of %s = %v, want an error", name, err)
		}
		for i, table := range slices.Sorted(maps.Keys(full)) {
			if i%testscope.Select(1, 6) != 0 {
				continue
			}
			all := maps.Clone(full)
			delete(all, table)
			err := loadTables(t, s, all)
			assert.True(t, err != nil && strings.Contains(err.Error(), table),
				"Load() without %s = %v, want an error with the table", table, err)
		}
		check(t, "rows", exportTables(t, s), empty)
		assert.NoError(t, loadTables(t, s, full))
	})
}

func TestLoad_RejectsOldSchema(t *testing.T) {
	s, err := OpenEmpty(t.Context(), Target{Dir: t.TempDir()}, firstSchema-1)
	assert.True(t, err != nil && strings.Contains(err.Error(), "has schema 108 of a build from before 0.1.0"),
		"OpenEmpty() = %v, %v", s, err)
}

// TestExport_ConsistentSnapshot exports tables while rules are added. Each export has the rules of its audit log.
func TestExport_ConsistentSnapshot(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		var writers sync.WaitGroup
		began, stop := make(chan struct{}), make(chan struct{})
		var once sync.Once
		for w := range 2 {
			writers.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					r := newRule(t, "wxa", fmt.Sprintf("https://s%d.example/%d/", w, n))
					if err := nodes[w].UpdateRules(t.Context(), func(tx rules.Tx) error {
						_, err := tx.AddRule(t.Context(), r, addMeta)
						return err
					}); err != nil {
						t.Error(err)
						once.Do(func() { close(began) })
						return
					}
					once.Do(func() { close(began) })
				}
			})
		}
		defer writers.Wait()
		defer close(stop)
		<-began
		for range 10 {
			all := exportTables(t, nodes[0])
			n := strings.Count(all["rules"], "\n")
			changes := strings.Count(all["changes"], "\n")
			assert.True(t, changes == n && strings.Contains(all["audit_log_head"], fmt.Sprintf(`"seq":%d}`, n)),
				"export has %d rules, %d changes and head %s, want equal numbers", n, changes, all["audit_log_head"])
		}
	})
}

func TestExport_ReaderClosed(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		fillTables(t, s)
		closed := errors.New("the reader closed the connection")
		err := s.Snapshot(t.Context(), func(p *Snapshot) error {
			_, err := p.WriteRows(t.Context(), "rules", failingWriter{closed})
			return err
		})
		assert.ErrorIs(t, err, closed, "an export to a failing writer")
		exportTables(t, s)
	})
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

// TestLoad_SQLitePagesWrittenOnce verifies that Load drops the indexes and the write-ahead log of SQLite, and restores both at the end. It
// creates the indexes after the rows, which is faster and writes each page once.
func TestLoad_SQLitePagesWrittenOnce(t *testing.T) {
	s := open(t, newEmbedded(t))
	indexes := func(tx *Tx) []string {
		t.Helper()
		all, err := list(t.Context(), tx, scanText, `SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name`)
		require.NoError(t, err)
		return all
	}
	mode := func(tx *Tx) (mode string) {
		t.Helper()
		require.NoError(t, tx.row(t.Context(), `PRAGMA journal_mode`).Scan(&mode))
		return mode
	}
	var before []string
	view(t, s, func(_ context.Context, tx *Tx) error {
		before = indexes(tx)
		return nil
	})
	all := exportTables(t, s)
	for _, broken := range []error{errors.New("broken"), nil} {
		err := s.Load(t.Context(), func(l *Restore) error {
			check(t, "journal mode during Load", mode(l.tx), "delete")
			for _, table := range slices.Sorted(maps.Keys(all)) {
				if _, err := l.LoadRows(t.Context(), table, strings.NewReader(all[table])); err != nil {
					return err
				}
			}
			check(t, "indexes during Load", len(indexes(l.tx)), 0)
			return broken
		})
		require.ErrorIs(t, err, broken, "Load")
		view(t, s, func(_ context.Context, tx *Tx) error {
			check(t, "indexes", indexes(tx), before)
			check(t, "journal mode", mode(tx), "wal")
			return nil
		})
	}
	assert.True(t, len(before) >= 10, "%d indexes, want at least 10", len(before))
}
