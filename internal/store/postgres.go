package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// oldestPostgres is the first server version that is supported.
const oldestPostgres = 150000

func openPostgres(ctx context.Context, t Target) (*Store, error) {
	config, err := pgx.ParseConfig(t.URL)
	if err != nil {
		// The error of the parser may quote the password.
		return nil, fmt.Errorf("database: the postgres:// URL cannot be read")
	}
	// A copy that was not flushed is not acknowledged.
	config.RuntimeParams["synchronous_commit"] = "on"
	config.RuntimeParams["application_name"] = "qrjump"
	fence := &atomic.Pointer[fence]{}
	var db *sql.DB
	closing := []func() error{func() error { return db.Close() }}
	if t.alone {
		// The files of the folder are this process's too.
		lock, err := lockFolder(t.Dir)
		if err != nil {
			return nil, err
		}
		closing = append(closing, lock.Unlock)
		db = stdlib.OpenDB(*config)
	} else {
		db = stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error { return enter(ctx, c, fence.Load()) }))
	}
	db.SetMaxOpenConns(32)
	db.SetMaxIdleConns(32)
	db.SetConnMaxIdleTime(5 * time.Minute)
	var version int
	if err := db.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s:%d does not answer: %w", config.Host, config.Port, err), shut(closing))
	}
	if version < oldestPostgres {
		return nil, errors.Join(fmt.Errorf("database %s:%d is PostgreSQL %d: 15 or later is needed", config.Host, config.Port, version/10000), shut(closing))
	}
	return &Store{write: db, read: db, engine: postgresEngine{}, fence: fence, close: closing}, nil
}

// users is the number of the lock that every connection of a running server
// shares, one for each schema of a database.
const users = `hashtextextended('qrjump uses ' || coalesce(current_schema(), ''), 0)`

// enter lets a new connection in: not while somebody works alone, and not into
// a database whose keys are no longer those that this process knows.
func enter(ctx context.Context, c *pgx.Conn, known *fence) error {
	var free bool
	if err := c.QueryRow(ctx, `SELECT pg_try_advisory_lock_shared(`+users+`)`).Scan(&free); err != nil {
		return err
	}
	if !free {
		return errors.New("the master key of the database is being turned: try again when that is done")
	}
	if known == nil {
		return nil
	}
	var sealed string
	if err := c.QueryRow(ctx, `SELECT sealed FROM vault_keys WHERE name = $1`, known.name).Scan(&sealed); err != nil {
		return fmt.Errorf("looking at the key %s: %w", known.name, err)
	}
	if sealed != known.sealed {
		return errors.New("the master key of the database was turned while this process was cut off from it: start it again")
	}
	return nil
}

// makeBinary makes the collation "binary", which SQLite has built in.
func makeBinary(ctx context.Context, t *Tx) error {
	// One process at a time; and who finds it needs no right to make it.
	if err := t.engine.lock(ctx, t.tx, "collation binary"); err != nil {
		return err
	}
	var missing bool
	if err := t.row(ctx, `SELECT to_regcollation('"binary"') IS NULL`).Scan(&missing); err != nil || !missing {
		return err
	}
	_, err := t.exec(ctx, `CREATE COLLATION "binary" FROM pg_catalog."C"`)
	return err
}

type postgresEngine struct{}

func (postgresEngine) name() string { return "postgres" }

// lock takes an advisory lock until the transaction ends. Two texts with the
// same hash only wait for each other.
func (postgresEngine) lock(ctx context.Context, tx *sql.Tx, text string) error {
	h := fnv.New64a()
	h.Write([]byte(text))
	_, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(h.Sum64()))
	return err
}

func (postgresEngine) lockOut(ctx context.Context, tx *sql.Tx) error {
	var alone bool
	if err := tx.QueryRowContext(ctx, `SELECT pg_try_advisory_xact_lock(`+users+`)`).Scan(&alone); err != nil {
		return err
	}
	if !alone {
		return ErrInUse
	}
	return nil
}

// overwrite: what PostgreSQL keeps of old rows is for its VACUUM to remove.
func (postgresEngine) overwrite(context.Context, *sql.DB) error { return nil }

// writeOptions: each statement sees the latest commit; what must not change
// between two statements is locked first.
func (postgresEngine) writeOptions() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
}

func (postgresEngine) viewOptions() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
}

// again: serialization failure and deadlock.
func (postgresEngine) again(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "40001" || e.Code == "40P01")
}

func (postgresEngine) tablesQuery() string {
	return `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'`
}
