package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/gofrs/flock"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// openSQLite opens DIR/qrjump.db with one writer and WAL; every commit is flushed to disk before it is acknowledged. Only one
// process uses a data folder.
func openSQLite(ctx context.Context, dir string) (*Store, error) {
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	unusable := restrictToOwner(filepath.Join(dir, "qrjump.db"))
	// The driver checks the values of options such as _synchronous, but not the text of _pragma=….
	path := (&url.URL{Path: filepath.Join(dir, "qrjump.db")}).EscapedPath()
	writing := "file:" + path + "?_txlock=immediate&_busy_timeout=10000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1"
	// There is a single connection for writing. Writers wait for this connection in the pool of database/sql instead of inside SQLite,
	// because in the pool they keep their order and a context can end the wait. SQLite's temporary data stays in memory, because it
	// is small: no statement on this connection sorts a whole table, or updates all rows of a table.
	write, err := openPool(writing + "&_pragma=temp_store(memory)")
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	write.SetMaxOpenConns(1)
	if err := write.PingContext(ctx); err != nil {
		// SQLite's error contains neither the file nor the reason, so the error of opening the files is returned instead.
		err = fmt.Errorf("opening the database in %s: %w", dir, cmp.Or(writable(dir), unusable, err))
		return nil, errors.Join(err, write.Close(), lock.Unlock())
	}
	read, err := openPool("file:" + path + "?_busy_timeout=10000&_query_only=1")
	if err != nil {
		return nil, errors.Join(err, write.Close(), lock.Unlock())
	}
	const readers = 8
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	// A migration changes and sorts whole tables, and uses temporary files for this purpose.
	migrating := func() (*sql.DB, error) {
		db, err := openPool(writing)
		if err == nil {
			db.SetMaxOpenConns(1)
		}
		return db, err
	}
	// A load has exclusive use of the database. With a rollback journal instead of a write-ahead log, new pages are written once,
	// to the database file.
	loading := func(ctx context.Context) (*sql.DB, func(), error) {
		db, err := migrating()
		if err != nil {
			return nil, nil, err
		}
		read.SetMaxIdleConns(0)
		write.SetMaxIdleConns(0)
		mode := func(ctx context.Context, mode string) {
			// If another connection is open, the pragma has no effect, and all data is written to the write-ahead log first.
			_, _ = db.ExecContext(ctx, "PRAGMA journal_mode = "+mode)
		}
		mode(ctx, "DELETE")
		return db, func() {
			mode(context.WithoutCancel(ctx), "WAL")
			db.Close()
			read.SetMaxIdleConns(readers)
			write.SetMaxIdleConns(1)
		}, nil
	}
	return &Store{database: &database{write: write, read: read, engine: sqliteDialect(dir), fence: &atomic.Pointer[fence]{},
		migrating: migrating, loading: loading,
		close: []func() error{read.Close, write.Close, lock.Unlock}}}, nil
}

// restrictToOwner makes a database and its companion files readable only by their owner, regardless of the umask at their creation.
// SQLite creates companion files with the mode of the database file. The mode of files with another owner is not changed. restrictToOwner
// returns an error if the database cannot be opened for writing.
func restrictToOwner(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		f.Close()
	}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if info, err := os.Stat(path + suffix); err == nil && info.Mode().Perm() != 0o600 {
			os.Chmod(path+suffix, 0o600) // the start logs a warning for files that stay readable
		}
	}
	return err
}

// writable returns an error if files cannot be created in a folder.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// ErrFolderInUse is returned if another process uses the data folder.
var ErrFolderInUse = errors.New("is in use by another qrjump process: stop it first, or specify another directory")

// lockFolder locks a data folder for this process.
func lockFolder(dir string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(dir, "lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking the data directory %s: %w", dir, err)
	}
	if !locked {
		return nil, fmt.Errorf("the data directory %s %w", dir, ErrFolderInUse)
	}
	return lock, nil
}

func sqliteDialect(dir string) *dialect {
	return &dialect{engine: sqliteEngine{dir}, name: "sqlite",
		rowsAtOnce: 8, // more rows per statement are not faster
		// No timeout ends an idle transaction, so the statement in the field lasting only enlarges the page cache. If rows are not stored
		// in key order, the same pages change many times, so the cache has 64 MiB instead of 2 MiB.
		lasting:       "PRAGMA cache_size = -65536",
		lasted:        "PRAGMA cache_size = -2000; PRAGMA shrink_memory",
		readOnlyQuery: `SELECT 0`,
		tablesQuery:   `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`,
		headQuery:     `SELECT seq, hash FROM audit_log_head WHERE id = 1`,
		// A transaction with BEGIN IMMEDIATE is the only writer, so the statement needs no lock clause.
		sameHead: `UPDATE audit_log_head SET seq = seq WHERE id = 1`}
}

type sqliteEngine struct{ dir string }

// lock returns no statement, because a transaction with BEGIN IMMEDIATE is the only writer.
func (sqliteEngine) lock(string, string) (query string, args []any) { return "", nil }

func (sqliteEngine) begin(ctx context.Context, db beginner, t *Tx) error {
	tx, err := db.BeginTx(ctx, nil)
	if err == nil {
		t.sql, t.end = tx, tx
	}
	return err
}

// unindex drops all indexes; the returned function builds each index from sorted entries, so that each page is written only once.
func (sqliteEngine) unindex(ctx context.Context, t *Tx) (func() error, error) {
	type index struct{ name, made string }
	scan := scanner(func(i *index) []any { return []any{&i.name, &i.made} })
	all, err := list(ctx, t, scan, `SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("listing indexes: %w", err)
	}
	for _, i := range all {
		if _, err := t.exec(ctx, `DROP INDEX `+i.name); err != nil {
			return nil, fmt.Errorf("dropping index %s: %w", i.name, err)
		}
	}
	return func() error {
		for _, i := range all {
			if _, err := t.sql.ExecContext(ctx, i.made); err != nil {
				return fmt.Errorf("creating index %s: %w", i.name, err)
			}
		}
		return nil
	}, nil
}

func (sqliteEngine) retryable(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// lost returns false, because a SQLite session cannot be ended from outside.
func (sqliteEngine) lost(error) bool { return false }

// room creates a test file beside the database, because the next change may be unable to use free pages inside the database file.
func (e sqliteEngine) room(context.Context, *Tx) error { return scanlog.CheckFreeSpace(e.dir) }

// lockOut does nothing: only one process uses the data folder.
func (sqliteEngine) lockOut(context.Context, *Tx) error { return nil }

// overwrite makes SQLite overwrite freed space in the file. The write-ahead log keeps old texts until SQLite deletes this log on closing.
func (sqliteEngine) overwrite(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "PRAGMA secure_delete = ON")
	return err
}

// writeLast sends no notification: only one process uses the data folder.
func (sqliteEngine) writeLast(ctx context.Context, t *Tx, h head, insert string, args []any) error {
	if insert != "" {
		if _, err := t.exec(ctx, insert, args...); err != nil {
			return err
		}
	}
	return t.run(ctx, `UPDATE audit_log_head SET seq = $1, hash = $2 WHERE id = 1`, h.seq, h.hash)
}
