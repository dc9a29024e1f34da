package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// rowsOf is every table as an archive has it.
func rowsOf(t *testing.T, s *Store) map[string]string {
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
			assert.True(t, int64(lines) == n, "%s: %d lines for %d rows", table, lines, n)
			all[table] = b.String()
		}
		return nil
	}))
	return all
}

// load fills an empty store with what rowsOf returned.
func load(t *testing.T, s *Store, all map[string]string) error {
	t.Helper()
	return loadInto(t.Context(), s, func(l *Restore) error {
		for _, table := range slices.Sorted(maps.Keys(all)) {
			n, err := l.LoadRows(t.Context(), table, strings.NewReader(all[table]))
			if err != nil {
				return err
			}
			lines := strings.Count(all[table], "\n")
			assert.True(t, int64(lines) == n, "%s: %d rows of %d lines", table, n, lines)
		}
		return nil
	})
}

// loadInto is Load of a store that is open for use. It has more connections than an import, those that migrated among them, which count as
// users until PostgreSQL has seen them go.
func loadInto(ctx context.Context, s *Store, f func(*Restore) error) error {
	for {
		if err := s.Load(ctx, f); !errors.Is(err, ErrInUse) {
			return err
		}
	}
}

// fillAll puts three rows into every table, whatever its columns.
func fillAll(t *testing.T, s *Store) {
	t.Helper()
	f := filler{spice: spice}
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
				args, places := make([]any, len(columns)), make([]string, len(columns))
				for i := range columns {
					places[i] = fmt.Sprintf("$%d", i+1)
					// "TEXT" and "BIGINT" in one database, "TEXT" and "INT8" in the other.
					if types[i].DatabaseTypeName() == "TEXT" {
						args[i] = f.text()
					} else {
						f.n++
						args[i] = []int64{int64(f.n), math.MaxInt64 - int64(f.n), math.MinInt64 + int64(f.n)}[n]
					}
				}
				if _, err := tx.exec(ctx, `INSERT INTO `+table+` (`+strings.Join(columns, ", ")+`) VALUES (`+strings.Join(places, ", ")+`)`,
					args...); err != nil {
					return fmt.Errorf("%s: %w", table, err)
				}
			}
		}
		return nil
	})
}

func TestStoreArchive_SameAcrossDatabases(t *testing.T) {
	eachCopy(t, func(t *testing.T, first Target) {
		s := open(t, first)
		fillAll(t, s)
		all := rowsOf(t, s)
		for table, rows := range all {
			assert.True(t, strings.Count(rows, "\n") >= 3, "%s has only %q", table, rows)
		}
		eachCopy(t, func(t *testing.T, second Target) {
			other := open(t, second)
			require.NoError(t, load(t, other, all))
			want(t, "rows", rowsOf(t, other), all)
		})
	})
}

func TestLoad_RequiresEmptyDatabase(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		empty := rowsOf(t, s)
		require.NoError(t, assert.ErrorOf(s.FirstSealedKey(t.Context(), "data", "x")))
		err := load(t, s, empty)
		assert.True(t, errors.Is(err, ErrNotEmpty) && strings.Contains(err.Error(), "sealing_keys"), "%v", err)
	})
}

// PostgreSQL may not have noticed yet that a process has ended.
func TestLoad_WaitsForEndingSession(t *testing.T) {
	target := emptyPostgres(t)
	s, err := OpenEmpty(t.Context(), target, NewestSchema())
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	late, watch := admin(t, target), admin(t, target)
	mustDo(t, late, `SELECT pg_advisory_lock_shared(`+users+`)`)
	free := errors.New("nobody else is there")
	done := make(chan error, 1)
	go func() { done <- s.Load(t.Context(), func(*Restore) error { return free }) }()
	for tried := false; !tried; {
		require.NoError(t, watch.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND (query LIKE '%pg_try_advisory_xact_lock%' OR query = 'rollback')`).Scan(&tried))
	}
	mustDo(t, late, `SELECT pg_advisory_unlock_shared(`+users+`)`)
	err = <-done
	assert.True(t, errors.Is(err, free), "%v", err)
}

func TestLoad_FailureRollsBack(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		empty := rowsOf(t, s)
		full := maps.Clone(empty)
		full["seeds"] = `{"applied_at":1,"hash":"a"}` + "\n"
		full["sequences"] = `{"name":"change","value":77}` + "\n"
		for name, broken := range map[string]struct{ table, rows string }{
			"a row that is none":        {"tickets", "{]\n"},
			"a row that is cut off":     {"tickets", `{"hash":"x"`},
			"a column that is not":      {"seeds", `{"applied_at":1,"hash":"a","x":1}` + "\n"},
			"another column":            {"seeds", `{"applied_at":1,"hush":"a"}` + "\n"},
			"a text for a number":       {"seeds", `{"applied_at":true,"hash":"a"}` + "\n"},
			"a broken number":           {"seeds", `{"applied_at":1.5,"hash":"a"}` + "\n"},
			"a number that is large":    {"seeds", `{"applied_at":9223372036854775808,"hash":"a"}` + "\n"},
			"nothing in a column":       {"seeds", `{"applied_at":1,"hash":null}` + "\n"},
			"what no text can be":       {"seeds", `{"applied_at":1,"hash":"\u0000"}` + "\n"},
			"the same row twice":        {"seeds", strings.Repeat(`{"applied_at":1,"hash":"a"}`+"\n", 2)},
			"a table that there is not": {"nothing; DROP TABLE seeds", ""},
			"the keys":                  {"sealing_keys", `{"name":"a","sealed":"b"}` + "\n"},
			"a table of the database":   {"goose_db_version", ""},
		} {
			all := maps.Clone(full)
			all[broken.table] = broken.rows
			err := load(t, s, all)
			assert.True(t, err != nil && !errors.Is(err, ErrNotEmpty), "%s: %v", name, err)
		}
		for table := range full {
			all := maps.Clone(full)
			delete(all, table)
			err := load(t, s, all)
			assert.True(t, err != nil && strings.Contains(err.Error(), table), "without %s: %v", table, err)
		}
		want(t, "rows", rowsOf(t, s), empty)
		assert.NoError(t, load(t, s, full))
	})
}

func TestLoad_RejectsOldSchema(t *testing.T) {
	s, err := OpenEmpty(t.Context(), Target{Dir: t.TempDir()}, firstSchema-1)
	assert.True(t, err != nil && strings.Contains(err.Error(), "has schema 108 of a build from before 0.1.0"), "got %v, %v", s, err)
}

// A change that is written meanwhile is in a snapshot as a whole or not at all.
func TestExport_ConsistentSnapshot(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
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
					r := aRule(t, "wxa", fmt.Sprintf("https://s%d.example/%d/", w, n))
					if err := nodes[w].UpdateRules(t.Context(), func(tx rules.Tx) error {
						_, err := tx.AddRule(t.Context(), r, someone)
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
			all := rowsOf(t, nodes[0])
			n := strings.Count(all["rules"], "\n")
			changes := strings.Count(all["changes"], "\n")
			assert.True(t, changes == n && strings.Contains(all["audit_log_head"], fmt.Sprintf(`"seq":%d}`, n)),
				"%d rules, %d changes, %s", n, changes, all["audit_log_head"])
		}
	})
}

func TestExport_ReaderClosed(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		fillAll(t, s)
		gone := errors.New("the reader is gone")
		err := s.Snapshot(t.Context(), func(p *Snapshot) error {
			_, err := p.WriteRows(t.Context(), "rules", failing{gone})
			return err
		})
		assert.True(t, errors.Is(err, gone), "%v", err)
		rowsOf(t, s)
	})
}

type failing struct{ err error }

var _ io.Writer = failing{}

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// Issue 14: rows of an archive are stored without the indexes that are made faster behind them, and each page is written once.
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
	all := rowsOf(t, s)
	for _, broken := range []error{errors.New("broken"), nil} {
		err := s.Load(t.Context(), func(l *Restore) error {
			want(t, "journal meanwhile", mode(l.tx), "delete")
			for _, table := range slices.Sorted(maps.Keys(all)) {
				if _, err := l.LoadRows(t.Context(), table, strings.NewReader(all[table])); err != nil {
					return err
				}
			}
			want(t, "indexes meanwhile", len(indexes(l.tx)), 0)
			return broken
		})
		require.True(t, errors.Is(err, broken), "%v", err)
		view(t, s, func(_ context.Context, tx *Tx) error {
			want(t, "indexes", indexes(tx), before)
			want(t, "journal", mode(tx), "wal")
			return nil
		})
	}
	assert.True(t, len(before) >= 10, "only %d indexes", len(before))
}
