package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync/atomic"

	"github.com/gofrs/flock"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// openSQLite opens DIR/qrjump.db: one writer, WAL, every commit flushed to the
// disk before it is acknowledged. A folder has one process.
func openSQLite(ctx context.Context, dir string) (*Store, error) {
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	// Short keys are checked by the driver, _pragma=… are not.
	path := (&url.URL{Path: filepath.Join(dir, "qrjump.db")}).EscapedPath()
	// Writers wait in the pool of one, in order and where a context ends the
	// wait, not inside SQLite.
	write, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_busy_timeout=10000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1")
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	write.SetMaxOpenConns(1)
	if err := write.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database in %s: %w", dir, err), write.Close(), lock.Unlock())
	}
	read, err := sql.Open("sqlite", "file:"+path+"?_busy_timeout=10000&_query_only=1")
	if err != nil {
		return nil, errors.Join(err, write.Close(), lock.Unlock())
	}
	read.SetMaxOpenConns(8)
	read.SetMaxIdleConns(8)
	return &Store{write: write, read: read, engine: sqliteEngine{}, fence: &atomic.Pointer[fence]{}, close: []func() error{read.Close, write.Close, lock.Unlock}}, nil
}

// lockFolder makes this process the only one in a data folder.
func lockFolder(dir string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(dir, "lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking the data folder %s: %w", dir, err)
	}
	if !locked {
		return nil, fmt.Errorf("the data folder %s is in use by another qrjump process", dir)
	}
	return lock, nil
}

type sqliteEngine struct{}

func (sqliteEngine) name() string { return "sqlite" }

// lock does nothing: an immediate transaction is alone.
func (sqliteEngine) lock(context.Context, *sql.Tx, string) error { return nil }

func (sqliteEngine) writeOptions() *sql.TxOptions { return nil }

func (sqliteEngine) viewOptions() *sql.TxOptions { return nil }

func (sqliteEngine) again(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// lockOut does nothing: the folder has one process.
func (sqliteEngine) lockOut(context.Context, *sql.Tx) error { return nil }

// overwrite: the file keeps no old texts in its free space, and its log is
// taken in when the database is closed.
func (sqliteEngine) overwrite(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "PRAGMA secure_delete = ON")
	return err
}

func (sqliteEngine) tablesQuery() string {
	return `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`
}
