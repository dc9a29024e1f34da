package store

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// describe is the schema in the words of its database.
func describe(t *testing.T, s *Store) []string {
	t.Helper()
	if s.Engine() == "sqlite" {
		return texts(t, s, `SELECT type || ' ' || name || ' ' || COALESCE(sql, '') FROM sqlite_schema ORDER BY type, name`)
	}
	columns := texts(t, s, `SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || COALESCE(column_default, '') || ' ' || COALESCE(collation_name, '')
		FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1`)
	// The definitions name the schema, which each test has its own of.
	indexes := texts(t, s,
		`SELECT replace(indexdef, current_schema() || '.', '') FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1`)
	constraints := texts(t, s, `SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
		WHERE connamespace = current_schema()::regnamespace ORDER BY 1`)
	return slices.Concat(columns, indexes, constraints)
}

func TestSchema_ReopenIdempotent(t *testing.T) {
	eachTarget(t, func(t *testing.T, target Target) {
		s, err := Open(t.Context(), target)
		require.NoError(t, err)
		before := describe(t, s)
		rule := addRules(t, s, aRule(t, "wxa", "https://h.example/"))[0]
		require.NoError(t, s.Close())
		s = open(t, target)
		want(t, "schema", describe(t, s), before)
		for r, err := range s.AllRules(t.Context()) {
			require.NoError(t, err)
			want(t, "rule", r, rule)
		}
		want(t, "number of the next rule", addRules(t, s, aRule(t, "wxa", "https://i.example/"))[0].ID, rule.ID+1)
	})
}

func TestSchema_SameTablesAcrossDatabases(t *testing.T) {
	pg, lite := open(t, emptyPostgres(t)), open(t, Target{Dir: t.TempDir()})
	columns := func(s *Store) (list []string) {
		t.Helper()
		for _, table := range tables(t, s) {
			query := `SELECT name || ' ' || type || CASE "notnull" WHEN 1 THEN '' ELSE ' may be NULL' END FROM pragma_table_info($1)`
			if s == pg {
				query = `SELECT column_name || ' ' || upper(data_type) || CASE is_nullable WHEN 'NO' THEN '' ELSE ' may be NULL' END
					FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1`
			}
			for _, c := range texts(t, s, query, table) {
				list = append(list, table+"."+c)
				assert.True(t, !strings.HasSuffix(c, "NULL"), "%s.%s", table, c)
			}
		}
		slices.Sort(list)
		return list
	}
	want(t, "columns", columns(pg), columns(lite))
}

// A text that an index sorts must not depend on the language of the server:
// pages would differ, and an update of its language tables breaks the index.
func TestSchema_IndexedTextCollation(t *testing.T) {
	s := open(t, newPostgres(t))
	list := texts(t, s, `SELECT DISTINCT i.indexrelid::regclass || ': ' || a.attname
		FROM pg_index i
		JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = current_schema()::regnamespace
		JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attcollation <> 0
		JOIN pg_collation l ON l.oid = a.attcollation
		WHERE l.collcollate <> 'C'`)
	wantSame(t, "indexes with another order", list, nil)
}

func TestSchema_RejectsNewer(t *testing.T) {
	eachTarget(t, func(t *testing.T, target Target) {
		s, err := Open(t.Context(), target)
		require.NoError(t, err)
		files, err := fs.Glob(Migrations, "migrations/*.sql")
		require.NoError(t, err)
		var latest int64
		require.NoError(t, assert.ErrorOf(fmt.Sscanf(slices.Max(files), "migrations/%d_", &latest)))
		if _, err := s.write.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, $2)`, latest+1,
			true); err != nil {
			t.Fatal(err)
		}
		require.NoError(t, s.Close())
		for range 2 { // the refusal leaves nothing locked
			_, err = Open(t.Context(), target)
			require.True(t, err != nil, "a newer schema was opened")
			want(t, "error", err.Error(), fmt.Sprintf("the database has schema %d, and this qrjump supports up to %d: use a newer qrjump",
				latest+1,
				latest))
		}
	})
}

func TestSchema_RejectsPreRelease(t *testing.T) {
	eachTarget(t, func(t *testing.T, target Target) {
		s, err := Open(t.Context(), target)
		require.NoError(t, err)
		before := describe(t, s)
		_, err = s.write.ExecContext(t.Context(), `UPDATE goose_db_version SET version_id = $1 WHERE version_id > 0`, firstSchema-1)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		_, err = Open(t.Context(), target)
		want(t, "error", fmt.Sprint(err), fmt.Sprintf("the database has schema %d of a build from before 0.1.0, which this qrjump does not migrate: "+
			"use an empty folder or database", firstSchema-1))
		s, err = connect(t.Context(), target)
		require.NoError(t, err)
		defer s.Close()
		want(t, "schema", describe(t, s), before)
	})
}

func TestSchema_ConcurrentCreation(t *testing.T) {
	target := emptyPostgres(t)
	var stores [4]*Store
	errs := race(len(stores), func(i int) (err error) {
		stores[i], err = Open(t.Context(), target)
		return err
	})
	for i, s := range stores {
		if errs[i] != nil {
			t.Error(errs[i])
			continue
		}
		addRules(t, s, aRule(t, "wxa", fmt.Sprintf("https://h%d.example/", i)))
		assert.NoError(t, s.Close())
	}
}

func TestStoreReset_KeepsKeysOnly(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		for _, table := range tables(t, s) {
			if table == "sequences" || table == "rules" || table == "changes" || table == "audit_log_head" {
				continue
			}
			var names, values []string
			for _, c := range slices.SortedFunc(slices.Values(columnsOf(t, s, table)), cmp.Compare) {
				name, kind, _ := strings.Cut(c, " ")
				value := "'x'"
				switch {
				case table == "sealing_keys" && name == "name":
					value = "'data'"
				case table == "sealing_keys":
					value = "'sealed'"
				case strings.EqualFold(kind, "bigint"):
					value = "1"
				}
				names, values = append(names, name), append(values, value)
			}
			query := `INSERT INTO ` + table + ` (` + strings.Join(names, ", ") + `) VALUES (` + strings.Join(values, ", ") + `)`
			require.NoErrorf(t, assert.ErrorOf(s.write.ExecContext(t.Context(), query)), "%s", query)
		}
		addRules(t, s, aRule(t, "wxa", "https://h.example/"))
		for _, table := range tables(t, s) { // no table is empty, so that what follows says something
			require.True(t, number(t, s, `SELECT COUNT(*) FROM `+table) != 0, "%s is empty", table)
		}
		require.NoError(t, s.Reset(t.Context()))
		for _, table := range schema {
			// The log begins again with the reset itself.
			n := number(t, s, `SELECT COUNT(*) FROM `+table.name)
			assert.True(t, (table.keptOnReset || table.name == "changes") == (n > 0), "%s has %d rows after the reset", table.name, n)
		}
		sealed, err := s.SealedKey(t.Context(), "data")
		require.NoError(t, err)
		want(t, "key", sealed, "sealed")
		// The history is gone, but no number comes back: who follows the changes sees a later one.
		want(t, "number of the next change", addRules(t, s, aRule(t, "wxa", "https://h.example/"))[0].ID, 3)
	})
}

// columnsOf lists "name type".
func columnsOf(t *testing.T, s *Store, table string) []string {
	t.Helper()
	if s.Engine() == "postgres" {
		return texts(t, s, `SELECT column_name || ' ' || data_type FROM information_schema.columns
			WHERE table_schema = current_schema() AND table_name = $1`, table)
	}
	return texts(t, s, `SELECT name || ' ' || type FROM pragma_table_info($1)`, table)
}
