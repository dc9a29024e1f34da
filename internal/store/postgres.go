package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// oldestPostgres is the first server version that is supported.
const oldestPostgres = 150000

func openPostgres(ctx context.Context, url string) (*Store, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		// The error of the parser may quote the password.
		return nil, fmt.Errorf("database: the postgres:// URL cannot be read")
	}
	// A copy that was not flushed is not acknowledged.
	config.RuntimeParams["synchronous_commit"] = "on"
	config.RuntimeParams["application_name"] = "qrjump"
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(32)
	db.SetMaxIdleConns(32)
	db.SetConnMaxIdleTime(5 * time.Minute)
	var version int
	if err := db.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s:%d does not answer: %w", config.Host, config.Port, err), db.Close())
	}
	if version < oldestPostgres {
		return nil, errors.Join(fmt.Errorf("database %s:%d is PostgreSQL %d: 15 or later is needed", config.Host, config.Port, version/10000), db.Close())
	}
	return &Store{write: db, read: db, engine: postgresEngine{}, close: []func() error{db.Close}}, nil
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
