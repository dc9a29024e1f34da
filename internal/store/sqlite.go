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
	restrictToOwner(filepath.Join(dir, "qrjump.db"))
	// The driver checks the short option names, but not _pragma=….
	path := (&url.URL{Path: filepath.Join(dir, "qrjump.db")}).EscapedPath()
	writing := "file:" + path + "?_txlock=immediate&_busy_timeout=10000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1"
	// There is a single connection for writing. Writers queue for the single connection in the connection pool, where they keep
	// their order and a context can end the wait, not inside SQLite. Temporary data, for undoing a statement and for sorting, stays
	// in memory: no statement of these writers sorts a whole table, or changes all its rows except to delete them.
	write, err := sql.Open("sqlite", writing+"&_pragma=temp_store(memory)")
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	write.SetMaxOpenConns(1)
	if err := write.PingContext(ctx); err != nil {
		// SQLite's error only reports that the file cannot be opened.
		return nil, errors.Join(fmt.Errorf("opening the database in %s: %w", dir, cmp.Or(writable(dir), err)), write.Close(), lock.Unlock())
	}
	read, err := sql.Open("sqlite", "file:"+path+"?_busy_timeout=10000&_query_only=1")
	if err != nil {
		return nil, errors.Join(err, write.Close(), lock.Unlock())
	}
	const readers = 8
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	// A migration changes and sorts whole tables, and uses temporary files for this purpose.
	migrating := func() (*sql.DB, error) {
		db, err := sql.Open("sqlite", writing)
		if err == nil {
			db.SetMaxOpenConns(1)
		}
		return db, err
	}
	// A load has exclusive use of the database. With a rollback journal, pages are written directly to the database file, and only
	// their old content to the journal.
	loading := func(ctx context.Context) (*sql.DB, func(), error) {
		db, err := migrating()
		if err != nil {
			return nil, nil, err
		}
		read.SetMaxIdleConns(0)
		write.SetMaxIdleConns(0)
		mode := func(ctx context.Context, mode string) {
			// If another connection is open, the pragma has no effect, and all data is written twice.
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
	return &Store{write: write, read: read, engine: sqliteEngine{dir}, fence: &atomic.Pointer[fence]{}, migrating: migrating,
		loading: loading,
		close:   []func() error{read.Close, write.Close, lock.Unlock}}, nil
}

// restrictToOwner makes a database and its companion files readable only by their owner, regardless of the umask at their creation.
// SQLite creates companion files with the mode of the database file. The mode of files with another owner is not changed.
func restrictToOwner(path string) {
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); err == nil {
		f.Close()
	}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if info, err := os.Stat(path + suffix); err == nil && info.Mode().Perm() != 0o600 {
			os.Chmod(path+suffix, 0o600) // the start logs a warning for files that stay readable
		}
	}
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
var ErrFolderInUse = errors.New("is in use by another qrjump process")

// lockFolder locks a data folder for this process.
func lockFolder(dir string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(dir, "lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking the data folder %s: %w", dir, err)
	}
	if !locked {
		return nil, fmt.Errorf("the data folder %s %w", dir, ErrFolderInUse)
	}
	return lock, nil
}

type sqliteEngine struct{ dir string }

func (sqliteEngine) name() string { return "sqlite" }

// lock returns no statement: an immediate transaction is already exclusive.
func (sqliteEngine) lock(string, string) (query string, args []any) { return "", nil }

func (sqliteEngine) begin(ctx context.Context, db beginner, t *Tx) error {
	tx, err := db.BeginTx(ctx, nil)
	if err == nil {
		t.sql, t.end = tx, tx
	}
	return err
}

// rowsAtOnce returns 8, because more rows per statement are not faster.
func (sqliteEngine) rowsAtOnce() int { return 8 }

// unindex drops indexes and recreates them at the end: an index built from sorted entries is written once, from start to end.
func (sqliteEngine) unindex(ctx context.Context, t *Tx) (func() error, error) {
	type index struct{ name, made string }
	all, err := list(ctx, t, func(scan func(...any) error) (i index, err error) {
		err = scan(&i.name, &i.made)
		return i, err
	}, `SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("looking for indexes: %w", err)
	}
	for _, i := range all {
		if _, err := t.exec(ctx, `DROP INDEX `+i.name); err != nil {
			return nil, fmt.Errorf("taking the index %s away: %w", i.name, err)
		}
	}
	return func() error {
		for _, i := range all {
			if _, err := t.sql.ExecContext(ctx, i.made); err != nil {
				return fmt.Errorf("making the index %s: %w", i.name, err)
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

// lasting only enlarges the page cache, because no timeout ends an idle transaction. Rows stored in an order different from their
// keys change the same pages many times, so 64 MiB of pages stay in memory instead of 2.
func (sqliteEngine) lasting() string { return "PRAGMA cache_size = -65536" }

// holding returns no statement: no other process can wait.
func (sqliteEngine) holding() string  { return "" }
func (sqliteEngine) sharesRows() bool { return false }

func (sqliteEngine) lasted() string { return "PRAGMA cache_size = -2000; PRAGMA shrink_memory" }

// room creates a test file beside the database: free space inside the database file proves nothing, since the next change may be
// unable to use it.
func (e sqliteEngine) room(context.Context, *Tx) error { return scanlog.CheckFreeSpace(e.dir) }

// lockOut does nothing: only one process uses the data folder.
func (sqliteEngine) lockOut(context.Context, *Tx) error { return nil }

// overwrite makes SQLite overwrite freed space in the file. SQLite deletes the write-ahead log when the database is closed.
func (sqliteEngine) overwrite(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "PRAGMA secure_delete = ON")
	return err
}

// replication returns 0 and "", because the embedded database has no replicas.
func (sqliteEngine) replication() (hosts int, query string) { return 0, "" }

func (sqliteEngine) readOnlyQuery() string { return `SELECT 0` }

func (sqliteEngine) tablesQuery() string {
	return `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`
}

// sameHead needs no lock clause: an immediate transaction is already exclusive.
func (sqliteEngine) sameHead() string { return `UPDATE audit_log_head SET seq = seq WHERE id = 1` }

func (sqliteEngine) headQuery() string { return `SELECT seq, hash FROM audit_log_head WHERE id = 1` }

// writeLast sends no notification: only one process uses the data folder.
func (sqliteEngine) writeLast(ctx context.Context, t *Tx, h head, insert string, args []any) error {
	if insert != "" {
		if _, err := t.exec(ctx, insert, args...); err != nil {
			return err
		}
	}
	_, err := t.exec(ctx, `UPDATE audit_log_head SET seq = $1, hash = $2 WHERE id = 1`, h.seq, h.hash)
	return err
}
