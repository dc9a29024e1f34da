package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// NewestSchema is the version of the schema that this program works with.
func NewestSchema() int64 {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(names) == 0 {
		panic("store: no migrations") // they are part of the program
	}
	version, err := goose.NumericComponent(slices.Max(names))
	if err != nil {
		panic(err)
	}
	return version
}

// migrateTo brings the schema up to a version. Many processes may do so at once.
func (s *Store) migrateTo(ctx context.Context, want int64) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	dialect := goose.DialectSQLite3
	options := []goose.ProviderOption{goose.WithLogger(goose.NopLogger())}
	if s.engine.name() == "postgres" {
		dialect = goose.DialectPostgres
		if err := s.update(ctx, func(tx *Tx) error { return makeBinary(ctx, tx) }); err != nil {
			return fmt.Errorf(`making the collation "binary": %w`, err)
		}
		// Asks once a second, for five minutes.
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(dialect, s.write, files, options...)
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("reading the version of the schema: %w", err)
	}
	if newest := NewestSchema(); have > newest {
		return fmt.Errorf("the database has schema %d, this qrjump knows %d: use a newer qrjump", have, newest)
	}
	if have > want {
		return fmt.Errorf("the database has schema %d already, not %d: use a new one", have, want)
	}
	if _, err := p.UpTo(ctx, want); err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	return nil
}
