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

	"github.com/qrjump/qrjump/internal/ledger"
)

// openSQLite opens DIR/qrjump.db: one writer, WAL, every commit flushed to the
// disk before it is acknowledged. A folder has one process.
func openSQLite(ctx context.Context, dir string) (*Store, error) {
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	own(filepath.Join(dir, "qrjump.db"))
	// Short keys are checked by the driver, _pragma=… are not.
	path := (&url.URL{Path: filepath.Join(dir, "qrjump.db")}).EscapedPath()
	writing := "file:" + path + "?_txlock=immediate&_busy_timeout=10000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1"
	// Writers wait in the pool of one, in order and where a context ends the
	// wait, not inside SQLite. What a statement needs to take itself back, and what it
	// sorts, stays in memory: of theirs none sorts a whole table, or changes all its rows
	// but to delete them.
	write, err := sql.Open("sqlite", writing+"&_pragma=temp_store(memory)")
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	write.SetMaxOpenConns(1)
	if err := write.PingContext(ctx); err != nil {
		// SQLite says no more than that it cannot open it.
		return nil, errors.Join(fmt.Errorf("opening the database in %s: %w", dir, cmp.Or(writable(dir), err)), write.Close(), lock.Unlock())
	}
	read, err := sql.Open("sqlite", "file:"+path+"?_busy_timeout=10000&_query_only=1")
	if err != nil {
		return nil, errors.Join(err, write.Close(), lock.Unlock())
	}
	const readers = 8
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	// A migration changes and sorts whole tables, with files.
	migrating := func() (*sql.DB, error) {
		db, err := sql.Open("sqlite", writing)
		if err == nil {
			db.SetMaxOpenConns(1)
		}
		return db, err
	}
	// What fills a database is alone: it writes new pages into the file at once, and into a
	// journal those that were there before.
	loading := func(ctx context.Context) (*sql.DB, func(), error) {
		db, err := migrating()
		if err != nil {
			return nil, nil, err
		}
		read.SetMaxIdleConns(0)
		write.SetMaxIdleConns(0)
		mode := func(ctx context.Context, mode string) {
			// Where somebody else is there, it stays as it is: everything is written twice.
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

// own makes a database and its companions readable by their owner alone, whatever
// the umask was when they were made: SQLite gives new companions the mode of the
// database. Where the owner is another, they stay as they are.
func own(path string) {
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); err == nil {
		f.Close()
	}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if info, err := os.Stat(path + suffix); err == nil && info.Mode().Perm() != 0o600 {
			os.Chmod(path+suffix, 0o600) // of what stays readable a start warns
		}
	}
}

// writable returns why no file can be made in a folder.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// ErrFolderInUse says that another process works in a data folder.
var ErrFolderInUse = errors.New("is in use by another qrjump process")

// lockFolder makes this process the only one in a data folder.
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

// lock: an immediate transaction is alone.
func (sqliteEngine) lock(string, string) (query string, args []any) { return "", nil }

func (sqliteEngine) begin(ctx context.Context, db beginner, t *Tx) error {
	tx, err := db.BeginTx(ctx, nil)
	if err == nil {
		t.sql, t.end = tx, tx
	}
	return err
}

// rowsAtOnce: more do not make it faster.
func (sqliteEngine) rowsAtOnce() int { return 8 }

// unindex: an index of sorted entries is written once from its beginning to its end.
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

func (sqliteEngine) again(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// lost: there is no session that somebody could end.
func (sqliteEngine) lost(error) bool { return false }

// lasting: nothing ends a transaction that stands still. Rows that come in another
// order than that of their keys change pages again and again: 64 MiB of them stay in
// memory meanwhile, not 2.
func (sqliteEngine) lasting() string { return "PRAGMA cache_size = -65536" }

// holding: only this process could wait.
func (sqliteEngine) holding() string  { return "" }
func (sqliteEngine) sharesRows() bool { return false }

func (sqliteEngine) lasted() string { return "PRAGMA cache_size = -2000; PRAGMA shrink_memory" }

// room looks beside the database: in its own files there may be some that the
// next change does not find.
func (e sqliteEngine) room(context.Context, *Tx) error { return ledger.Room(e.dir) }

// lockOut does nothing: the folder has one process.
func (sqliteEngine) lockOut(context.Context, *Tx) error { return nil }

// overwrite: the file keeps no old texts in its free space, and its log is
// taken in when the database is closed.
func (sqliteEngine) overwrite(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "PRAGMA secure_delete = ON")
	return err
}

// readOnlyQuery: that a file cannot be written shows when it is.
func (sqliteEngine) replication() (hosts int, query string) { return 0, "" }

func (sqliteEngine) readOnlyQuery() string { return `SELECT 0` }

func (sqliteEngine) tablesQuery() string {
	return `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`
}

// headQuery needs no lock: an immediate transaction is alone.
func (sqliteEngine) sameHead() string { return `UPDATE change_head SET seq = seq WHERE id = 1` }

func (sqliteEngine) headQuery() string { return `SELECT seq, hash FROM change_head WHERE id = 1` }

// writeLast calls nobody: the folder has one process.
func (sqliteEngine) writeLast(ctx context.Context, t *Tx, h head, insert string, args []any) error {
	if insert != "" {
		if _, err := t.exec(ctx, insert, args...); err != nil {
			return err
		}
	}
	_, err := t.exec(ctx, `UPDATE change_head SET seq = $1, hash = $2 WHERE id = 1`, h.seq, h.hash)
	return err
}
