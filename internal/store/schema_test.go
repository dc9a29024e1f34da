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

// describeSchema returns the definitions of the schema in the format of the database.
func describeSchema(t *testing.T, s *Store) []string {
	t.Helper()
	if s.Engine() == "sqlite" {
		return queryColumn[string](t, s, `SELECT type || ' ' || name || ' ' || COALESCE(sql, '') FROM sqlite_schema ORDER BY type, name`)
	}
	columns := queryColumn[string](t, s, `SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' ||
		COALESCE(column_default, '') || ' ' || COALESCE(collation_name, '')
		FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1`)
	// The definitions have the name of the schema, which differs for each test.
	indexes := queryColumn[string](t, s,
		`SELECT replace(indexdef, current_schema() || '.', '') FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1`)
	constraints := queryColumn[string](t, s, `SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
		FROM pg_constraint WHERE connamespace = current_schema()::regnamespace ORDER BY 1`)
	return slices.Concat(columns, indexes, constraints)
}

func TestSchema_ReopenIdempotent(t *testing.T) {
	forEachEmptyDatabase(t, func(t *testing.T, target Target) {
		s := require.Value(Open(t.Context(), target))(t)
		before := describeSchema(t, s)
		rule := addRules(t, s, newRule(t, "wxa", "https://h.example/"))[0]
		require.NoError(t, s.Close())
		s = open(t, target)
		check(t, "schema", describeSchema(t, s), before)
		for r, err := range s.AllRules(t.Context()) {
			require.NoError(t, err)
			check(t, "rule", r, rule)
		}
		check(t, "ID of the next rule", addRules(t, s, newRule(t, "wxa", "https://i.example/"))[0].ID, rule.ID+1)
	})
}

func TestSchema_SameTablesAcrossDatabases(t *testing.T) {
	pg, lite := open(t, newEmptyPostgres(t)), open(t, Target{Dir: t.TempDir()})
	columns := func(s *Store) (list []string) {
		t.Helper()
		for _, table := range tableNames(t, s) {
			query := `SELECT name || ' ' || type || CASE "notnull" WHEN 1 THEN '' ELSE ' may be NULL' END FROM pragma_table_info($1)`
			if s == pg {
				query = `SELECT column_name || ' ' || upper(data_type) || CASE is_nullable WHEN 'NO' THEN '' ELSE ' may be NULL' END
					FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1`
			}
			for _, c := range queryColumn[string](t, s, query, table) {
				list = append(list, table+"."+c)
				assert.True(t, !strings.HasSuffix(c, "NULL"), "%s.%s", table, c)
			}
		}
		slices.Sort(list)
		return list
	}
	check(t, "columns", columns(pg), columns(lite))
}

// TestSchema_IndexedTextCollation verifies that the order of indexed texts does not depend on the locale of the server: pages would differ,
// and an update of the locale corrupts the index.
func TestSchema_IndexedTextCollation(t *testing.T) {
	s := open(t, newPostgres(t))
	list := queryColumn[string](t, s, `SELECT DISTINCT i.indexrelid::regclass || ': ' || a.attname
		FROM pg_index i
		JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = current_schema()::regnamespace
		JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attcollation <> 0
		JOIN pg_collation l ON l.oid = a.attcollation
		WHERE l.collcollate <> 'C'`)
	checkList(t, "indexes with another collation than C", list, nil)
}

func TestSchema_RejectsNewer(t *testing.T) {
	forEachEmptyDatabase(t, func(t *testing.T, target Target) {
		s := require.Value(Open(t.Context(), target))(t)
		files := require.Value(fs.Glob(Migrations, "migrations/*.sql"))(t)
		var latest int64
		require.NoError(t, assert.ErrorOf(fmt.Sscanf(slices.Max(files), "migrations/%d_", &latest)))
		mustExec(t, s, `INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, $2)`, latest+1, true)
		require.NoError(t, s.Close())
		for range 2 { // a rejected Open leaves no lock
			_, err := Open(t.Context(), target)
			require.True(t, err != nil, "Open() of a newer schema succeeds")
			check(t, "error", err.Error(), fmt.Sprintf("the database has schema %d, and this qrjump supports up to %d: use a newer qrjump",
				latest+1, latest))
		}
	})
}

func TestSchema_RejectsPreRelease(t *testing.T) {
	forEachEmptyDatabase(t, func(t *testing.T, target Target) {
		s, err := Open(t.Context(), target)
		require.NoError(t, err)
		before := describeSchema(t, s)
		mustExec(t, s, `UPDATE goose_db_version SET version_id = $1 WHERE version_id > 0`, firstSchema-1)
		require.NoError(t, s.Close())
		_, err = Open(t.Context(), target)
		check(t, "error", fmt.Sprint(err), fmt.Sprintf("the database has schema %d of a build from before 0.1.0, "+
			"which this qrjump does not migrate: use an empty folder or database", firstSchema-1))
		s = require.Value(connect(t.Context(), target))(t)
		defer s.Close()
		check(t, "schema", describeSchema(t, s), before)
	})
}

func TestSchema_ConcurrentCreation(t *testing.T) {
	target := newEmptyPostgres(t)
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
		addRules(t, s, newRule(t, "wxa", fmt.Sprintf("https://h%d.example/", i)))
		assert.NoError(t, s.Close())
	}
}

func TestStoreReset_KeepsKeysOnly(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		for _, table := range tableNames(t, s) {
			if table == "sequences" || table == "rules" || table == "changes" || table == "audit_log_head" {
				continue
			}
			var names, values []string
			for _, c := range slices.SortedFunc(slices.Values(listColumns(t, s, table)), cmp.Compare) {
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
			mustExec(t, s, query)
		}
		addRules(t, s, newRule(t, "wxa", "https://h.example/"))
		for _, table := range tableNames(t, s) { // otherwise the reset is not tested
			require.True(t, queryInt(t, s, `SELECT COUNT(*) FROM `+table) != 0, "%s is empty", table)
		}
		require.NoError(t, s.Reset(t.Context()))
		for _, table := range schema {
			// The audit log begins with the reset.
			n := queryInt(t, s, `SELECT COUNT(*) FROM `+table.name)
			assert.True(t, (table.keptOnReset || table.name == "changes") == (n > 0), "table %s has %d rows after the reset", table.name, n)
		}
		sealed := require.Value(s.SealedKey(t.Context(), "data"))(t)
		check(t, "key", sealed, "sealed")
		// Seqs are not used again, so that replicas detect the reset.
		check(t, "seq of the next change", addRules(t, s, newRule(t, "wxa", "https://h.example/"))[0].ID, 3)
	})
}

// listColumns returns the columns of a table as "name type".
func listColumns(t *testing.T, s *Store, table string) []string {
	t.Helper()
	if s.Engine() == "postgres" {
		return queryColumn[string](t, s, `SELECT column_name || ' ' || data_type FROM information_schema.columns
			WHERE table_schema = current_schema() AND table_name = $1`, table)
	}
	return queryColumn[string](t, s, `SELECT name || ' ' || type FROM pragma_table_info($1)`, table)
}
