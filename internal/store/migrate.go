package store

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var embedded embed.FS

// Migrations holds the migration files of all schema versions. A test that simulates a later version adds another file before it
// opens a store.
var Migrations fs.FS = embedded

// firstSchema is the schema version of release 0.1.0. Earlier builds, which were never released, have lower schema versions.
const firstSchema = 109

// NewestSchema returns the schema version that this program works with.
func NewestSchema() int64 {
	names, err := fs.Glob(Migrations, "migrations/*.sql")
	if err != nil || len(names) == 0 {
		panic("store: no migrations") // the migrations are embedded in the program
	}
	version, err := goose.NumericComponent(slices.Max(names))
	if err != nil {
		panic(err)
	}
	return version
}

// checkedSchema returns the schema version of the database; 0 = no schema. checkedSchema returns an error for a schema that is
// newer than this program's. checkedSchema does not change the database.
func (s *Store) checkedSchema(ctx context.Context) (schema int64, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		tables, err := list(ctx, tx, scanText, tx.engine.tablesQuery)
		if err != nil || !slices.Contains(tables, "goose_db_version") {
			return err
		}
		return tx.row(ctx, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version`).Scan(&schema)
	})
	if err != nil {
		return 0, fmt.Errorf("reading the version of the schema: %w", err)
	}
	return schema, fitting(schema)
}

// fitting returns an error for a schema that this program cannot use.
func fitting(schema int64) error {
	switch newest := NewestSchema(); {
	case schema > newest:
		return fmt.Errorf("the database has schema %d, and this qrjump supports up to %d: use a newer qrjump", schema, newest)
	case schema > 0 && schema < firstSchema:
		return fmt.Errorf("the database has schema %d of a build from before 0.1.0, which this qrjump does not migrate: "+
			"use an empty folder or database", schema)
	}
	return nil
}

// Imports returns an error if this program cannot load the rows of an archive with the given schema.
func Imports(schema int64) error {
	if schema < firstSchema {
		return fmt.Errorf("it has schema %d of a build from before 0.1.0, whose exports this qrjump does not read", schema)
	}
	return nil
}

// migrateTo migrates the schema to a version. Many processes may call migrateTo at the same time.
func (s *Store) migrateTo(ctx context.Context, want int64) error {
	files, err := fs.Sub(cmp.Or(s.migration.files, Migrations), "migrations")
	if err != nil {
		return err
	}
	defer s.withoutReadTimeouts()() // an index over many rows takes long
	schema, err := s.checkedSchema(ctx)
	if err != nil {
		return err
	}
	if schema == want { // goose would open further connections and repeat the query
		return s.unlogLimits(ctx)
	}
	db, err := s.migrating()
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	defer db.Close()
	dialect := goose.DialectSQLite3
	options := []goose.ProviderOption{goose.WithLogger(goose.NopLogger())}
	lines, first := []string{s.engine.name}, ""
	if s.engine.name == "postgres" {
		dialect = goose.DialectPostgres
		if err := s.update(ctx, func(tx *Tx) error { return makeBinary(ctx, tx) }); err != nil {
			return fmt.Errorf(`creating the collation "binary": %w`, err)
		}
		// The session lock is retried once a second, for five minutes.
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
		if schema > 0 {
			lines = append(lines, inUse, strongest)
			first = fmt.Sprintf("SET LOCAL lock_timeout = %d;\n", cmp.Or(s.migration.patience, migrationPatience).Milliseconds())
		}
	}
	p, err := goose.NewProvider(dialect, db, withLinesFor{files, lines, first}, options...)
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("reading the version of the schema: %w", s.outage(err))
	}
	if err := fitting(have); err != nil {
		return err
	}
	if have > want {
		return fmt.Errorf("the database already has schema %d, not %d: use an empty database", have, want)
	}
	if err := s.migrateBeside(ctx, p, want); err != nil {
		return fmt.Errorf("migrating the database: %w", s.outage(err))
	}
	return s.unlogLimits(ctx)
}

// A migration that changes whole tables waits migrationPatience for a lock. Other transactions that need the same tables queue behind the
// waiting migration. After a lock timeout the migration lets these transactions run, and tries again until migrationBudget has passed since
// the first attempt.
const (
	migrationPatience = 2 * time.Second
	migrationBudget   = 5 * time.Minute
)

// migrateBeside runs migrations while other nodes write to the database. migrateBeside repeats a migration that failed because of another
// node's lock; this is safe even if a part of the migration took effect.
func (s *Store) migrateBeside(ctx context.Context, p *goose.Provider, want int64) error {
	until := time.Now().Add(migrationBudget)
	for {
		_, err := p.UpTo(ctx, want)
		if state := sqlState(err); state == "" || state != "55P03" && !s.engine.retryable(err) || time.Now().After(until) {
			return err
		}
		if s.migration.waits != nil {
			s.migration.waits(fmt.Sprintf("%v; %s", err, s.longest(ctx)), until)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		// a random delay, so that nodes that start together alternate
		case <-time.After(100*time.Millisecond + rand.N(400*time.Millisecond)):
		}
	}
}

// longest describes the oldest open transaction of the database: a migration that waits for a lock most likely waits for this transaction.
func (s *Store) longest(ctx context.Context) string {
	var session int64
	var program string
	var since time.Time
	err := s.write.QueryRowContext(ctx, `SELECT pid, application_name, xact_start FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1`).
		Scan(&session, &program, &since)
	if err != nil {
		return "no other transaction is open now"
	}
	return fmt.Sprintf("session %d (%s) has the oldest transaction, open since %s", session, cmp.Or(program, "without a name"),
		since.UTC().Format(time.RFC3339))
}

// withLinesFor is a file system of migrations that shows the lines for the current database, such as "-- postgres: …", and hides the lines
// for the other database. Lines marked inUse or strongest run only if the schema already has tables, to which other nodes may write. If the
// schema has tables, a migration that contains lines marked inUse runs without a transaction. Lines marked strongest take the strongest
// lock that the migration needs, before other statements take weaker locks.
type withLinesFor struct {
	fs.FS
	lines []string
	first string // first statement of every migration; "" = none
}

const (
	inUse     = "postgres in use"
	strongest = "postgres strongest lock"
)

func (f withLinesFor) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return file, err
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		subject, local, is := strings.Cut(strings.TrimPrefix(line, "-- "), ": ")
		switch {
		case strings.HasPrefix(line, "-- +goose Up"):
			b.WriteString(line + f.first)
		case !is || !slices.Contains([]string{"sqlite", "postgres", inUse, strongest}, subject):
			b.WriteString(line)
		case slices.Contains(f.lines, subject):
			b.WriteString(local)
		}
	}
	if slices.Contains(f.lines, inUse) && strings.Contains(string(text), "\n-- "+inUse+": ") {
		b.WriteString("-- +goose NO TRANSACTION\n")
	}
	return &migration{Reader: strings.NewReader(b.String()), info: info}, nil
}

// migration is an fs.File with the text of a migration after withLinesFor has selected its lines.
type migration struct {
	*strings.Reader
	info fs.FileInfo
}

func (m *migration) Stat() (fs.FileInfo, error) { return m.info, nil }
func (m *migration) Close() error               { return nil }
