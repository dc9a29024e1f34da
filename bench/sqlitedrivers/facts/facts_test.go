// Package facts shows how the two drivers behave where the product depends on it (go test -v), and fails when
// the chosen one changes.
package facts

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

const (
	modernc = "sqlite"
	ncruces = "sqlite3"
)

func each(t *testing.T, f func(t *testing.T, driver string)) {
	for _, d := range []string{modernc, ncruces} {
		t.Run(map[string]string{modernc: "modernc", ncruces: "ncruces"}[d], func(t *testing.T) { f(t, d) })
	}
}

func open(t *testing.T, driver, path string, more string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(300)&_pragma=journal_mode(wal)"+
		"&_pragma=synchronous(full)&_pragma=foreign_keys(1)"+more)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	return db
}

func show(t *testing.T, name string, v ...any) { t.Log(append([]any{name + ":"}, v...)...) }

func TestPlaceholders(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		db := open(t, driver, filepath.Join(t.TempDir(), "a.db"), "")
		defer db.Close()
		for _, q := range []string{`SELECT $2 || $1`, `SELECT ?2 || ?1`, `SELECT ? || ?`, `SELECT $1 || $2 || $1`, `SELECT ?1 || ?2 || ?1`} {
			var s string
			err := db.QueryRow(q, "a", "b").Scan(&s)
			show(t, q, s, err)
			if driver == modernc && q == `SELECT $2 || $1` && s != "ba" {
				t.Error("$2 is not the second argument")
			}
		}
		for _, n := range []int{0, 1, 3} {
			args := []any{"a", "b", "c"}[:n]
			var s sql.NullString
			show(t, "?1||?2 with args", n, db.QueryRow(`SELECT ?1 || ?2`, args...).Scan(&s), s)
			show(t, "?||? with args", n, db.QueryRow(`SELECT ? || ?`, args...).Scan(&s), s)
		}
		var x any
		for _, v := range []any{true, time.UnixMilli(1763600000123).UTC(), uint64(1 << 63), []byte(nil), []byte{}} {
			var typ string
			show(t, "value", v, db.QueryRow(`SELECT ?1, typeof(?1)`, v).Scan(&x, &typ), x, typ)
		}
	})
}

func TestPragmasAndImmediate(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		path := filepath.Join(t.TempDir(), "a b#c?d%.db")
		esc := filepath.Dir(path) + "/a%20b%23c%3Fd%25.db"
		db := open(t, driver, esc, "")
		defer db.Close()
		for _, p := range []string{"journal_mode", "synchronous", "foreign_keys", "busy_timeout"} {
			var s string
			show(t, p, db.QueryRow("PRAGMA "+p).Scan(&s), s)
		}
		m, _ := filepath.Glob(filepath.Dir(path) + "/*")
		show(t, "files", m)
		bad, _ := sql.Open(driver, "file:"+esc+"?_txlock=nonsense")
		if bad != nil {
			show(t, "bad txlock", bad.Ping())
			bad.Close()
		}
		for _, more := range []string{"&_pragma=nonsense(1)", "&_pragma=synchronous(nonsense)", "&_synchronous=nonsense", "&nonsense=1"} {
			bad, err := sql.Open(driver, "file:"+esc+"?_pragma=busy_timeout(1)"+more)
			if err == nil {
				err = bad.Ping()
				bad.Close()
			}
			show(t, "bad "+more, err)
		}
		// mode=ro and query_only readers
		db.Exec(`CREATE TABLE t (id BIGINT PRIMARY KEY, k TEXT NOT NULL UNIQUE, p BIGINT REFERENCES t(id))`)
		ro, _ := sql.Open(driver, "file:"+esc+"?mode=ro&_pragma=busy_timeout(300)&_pragma=query_only(1)")
		var n int
		show(t, "ro read", ro.QueryRow(`SELECT count(*) FROM t`).Scan(&n), n)
		_, err := ro.Exec(`INSERT INTO t VALUES (1,'a',NULL)`)
		show(t, "ro write", err)
		ro.Close()
		// immediate: a second writer is refused at BEGIN
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = db.Begin()
		show(t, "second BEGIN", err, time.Since(start).Round(50*time.Millisecond))
		if !IsBusy(err) {
			t.Error("busy is not recognised")
		}
		show(t, "busy", IsBusy(err), "primary/extended:", code(err))
		tx.Rollback()
		// read only transaction
		ctx := context.Background()
		rtx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		show(t, "BeginTx ReadOnly", err)
		if err == nil {
			_, err = rtx.Exec(`INSERT INTO t VALUES (9,'z',NULL)`)
			show(t, "write in ReadOnly tx", err)
			w, err := db.Begin()
			show(t, "writer while ReadOnly tx is open", err)
			if err == nil {
				w.Rollback()
			}
			rtx.Rollback()
		}
		for _, l := range []sql.IsolationLevel{sql.LevelSerializable, sql.LevelReadCommitted} {
			tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: l})
			show(t, l.String(), err)
			if err == nil {
				tx.Rollback()
			}
		}
	})
}

func code(err error) []int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return []int{e.Code() & 0xff, e.Code()}
	}
	if e, ok := errors.AsType[*sqlite3.Error](err); ok {
		return []int{int(e.Code()), int(e.ExtendedCode())}
	}
	return nil
}

// IsBusy says that another writer holds the database.
func IsBusy(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()&0xff == lib.SQLITE_BUSY
	}
	return errors.Is(err, sqlite3.BUSY)
}

// IsDuplicate says that a key exists already.
func IsDuplicate(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() == lib.SQLITE_CONSTRAINT_UNIQUE || e.Code() == lib.SQLITE_CONSTRAINT_PRIMARYKEY
	}
	return errors.Is(err, sqlite3.CONSTRAINT_UNIQUE) || errors.Is(err, sqlite3.CONSTRAINT_PRIMARYKEY)
}

func TestErrors(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		db := open(t, driver, filepath.Join(t.TempDir(), "a.db"), "")
		defer db.Close()
		_, err := db.Exec(`CREATE TABLE t (id BIGINT PRIMARY KEY, k TEXT NOT NULL UNIQUE, p BIGINT REFERENCES t(id)); CREATE TABLE i (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1,'a',NULL); INSERT INTO i VALUES (1)`)
		show(t, "several statements", err)
		for _, q := range []string{`INSERT INTO t VALUES (2,'a',NULL)`, `INSERT INTO t VALUES (1,'b',NULL)`, `INSERT INTO i VALUES (1)`, `INSERT INTO t VALUES (3,'c',99)`, `INSERT INTO t VALUES (3,NULL,NULL)`} {
			_, err := db.Exec(q)
			show(t, q, err, code(err), "duplicate:", IsDuplicate(err))
			if err == nil || IsDuplicate(err) == strings.Contains(q, "(3,") {
				t.Error(q, "is not recognised")
			}
			var rid int
			err = db.QueryRow(q + ` RETURNING id`).Scan(&rid)
			show(t, "... RETURNING", err, code(err), IsDuplicate(err))
		}
		var n int
		show(t, "ON CONFLICT RETURNING none", db.QueryRow(`INSERT INTO t VALUES (2,'a',NULL) ON CONFLICT (k) DO NOTHING RETURNING id`).Scan(&n))
		db.QueryRow(`SELECT count(*) FROM t`).Scan(&n)
		show(t, "rows", n)
	})
}

const long = `WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 5000000) SELECT max(x) FROM c`
const late = `WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 5000000) SELECT x FROM c WHERE x = 1 OR x = 5000000`

func TestCancel(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		db := open(t, driver, filepath.Join(t.TempDir(), "a.db"), "")
		defer db.Close()
		db.SetMaxOpenConns(1)
		run := func(name string, f func(ctx context.Context) error) {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			start := time.Now()
			err := f(ctx)
			show(t, name, time.Since(start).Round(50*time.Millisecond), err, "deadline:", errors.Is(err, context.DeadlineExceeded), code(err))
			var n int
			if err := db.QueryRow(`SELECT 1`).Scan(&n); err != nil {
				t.Error("afterwards", err)
			}
		}
		run("before the first row", func(ctx context.Context) error {
			var n int
			return db.QueryRowContext(ctx, long).Scan(&n)
		})
		run("between rows", func(ctx context.Context) error {
			rows, err := db.QueryContext(ctx, late)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
			}
			return rows.Err()
		})
		run("in a transaction", func(ctx context.Context) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			_, err = tx.ExecContext(ctx, `CREATE TABLE x AS `+long)
			return err
		})
		other := open(t, driver, dsnPath(t, db), "")
		defer other.Close()
		tx, err := other.Begin()
		if err != nil {
			t.Fatal(err)
		}
		run("while busy (timeout 300 ms)", func(ctx context.Context) error {
			_, err := db.BeginTx(ctx, nil)
			return err
		})
		tx.Rollback()
	})
}

func dsnPath(t *testing.T, db *sql.DB) string {
	var seq int
	var name, file string
	if err := db.QueryRow(`PRAGMA database_list`).Scan(&seq, &name, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestSynctest(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		dir := t.TempDir()
		outside := open(t, driver, filepath.Join(dir, "outside.db"), "")
		defer outside.Close()
		t.Run("all inside", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t, driver, filepath.Join(dir, "inside.db"), "")
				defer w.Close()
				w.SetMaxOpenConns(1)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if _, err := w.ExecContext(ctx, `CREATE TABLE t (id BIGINT PRIMARY KEY)`); err != nil {
					t.Fatal(err)
				}
				tx, err := w.BeginTx(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan error)
				go func() { // waits in the Go pool, on the fake clock
					_, err := w.ExecContext(ctx, `INSERT INTO t VALUES (2)`)
					done <- err
				}()
				time.Sleep(30 * time.Minute)
				if _, err := tx.ExecContext(ctx, `INSERT INTO t VALUES (1)`); err != nil {
					t.Fatal(err)
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Error("waiter in the pool", err)
				}
			})
		})
		t.Run("opened outside", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				var n int
				show(t, "query", outside.QueryRowContext(ctx, `SELECT 1`).Scan(&n))
			})
		})
		t.Run("busy handler", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := open(t, driver, filepath.Join(dir, "busy.db"), "")
				defer a.Close()
				b := open(t, driver, filepath.Join(dir, "busy.db"), "")
				defer b.Close()
				tx, err := a.Begin()
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					time.Sleep(100 * time.Millisecond) // less than the busy timeout
					tx.Rollback()
				}()
				start := time.Now()
				tx2, err := b.Begin()
				show(t, "second writer, busy timeout 300 ms, first one leaves after 100 ms", err, "fake time passed:", time.Since(start))
				if err == nil {
					tx2.Rollback()
				}
				time.Sleep(time.Second)
			})
		})
	})
}

func TestVersions(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		db := open(t, driver, filepath.Join(t.TempDir(), "a.db"), "")
		defer db.Close()
		var v string
		show(t, "SQLite", db.QueryRow(`SELECT sqlite_version()`).Scan(&v), v)
	})
}
