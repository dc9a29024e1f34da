package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Snapshot is a consistent view of the whole database at one moment.
type Snapshot struct {
	// Schema is the version of the schema.
	Schema int64
	// Keys are the sealed keys by name.
	Keys map[string]string

	tx       *Tx
	appids   []string       // accounts and platforms whose rows are exported; empty = all rows
	external *externalScans // scans in a scan log outside of table scan_events; nil = all scans are in the table
}

// Snapshot runs f on one consistent state, while other transactions continue to write.
func (s *Store) Snapshot(ctx context.Context, f func(*Snapshot) error) error {
	// prev, the end of the scan log, is read before the snapshot starts. The server stores the first scan of a code in the database before
	// it appends the scan to the log, so the snapshot contains the first scan of every code that the log has up to prev.
	prev := int64(0)
	if s.embedded != nil {
		var err error
		if prev, err = s.embedded.End(ctx); err != nil {
			return err
		}
	}
	return s.view(ctx, func(tx *Tx) (err error) {
		if err := tx.DisableTimeout(ctx); err != nil {
			return err
		}
		p := &Snapshot{tx: tx}
		if err := tx.row(ctx, `SELECT MAX(version_id) FROM goose_db_version`).Scan(&p.Schema); err != nil {
			return fmt.Errorf("reading the version of the schema: %w", err)
		}
		// A node with a newer version of the program may have created tables that this version would leave out of the archive.
		if newest := NewestSchema(); p.Schema != newest {
			return fmt.Errorf("the database has schema %d, and this qrjump supports up to %d: export with the newer qrjump", p.Schema,
				newest)
		}
		if p.Keys, err = pairs[string, string](ctx, tx, `SELECT name, sealed FROM sealing_keys`); err != nil {
			return fmt.Errorf("reading the keys: %w", err)
		}
		if p.external, err = tx.findOutside(ctx, s, prev); err != nil {
			return err
		}
		return f(p)
	})
}

// Tables lists the tables of an archive in the order of the archive.
func (p *Snapshot) Tables() (names []string) {
	for _, t := range schema {
		if t.order != "" && (len(p.appids) == 0 || t.moves()) {
			names = append(names, t.name)
		}
	}
	return names
}

// WriteRows writes the rows of a table as JSON lines and returns their number. For equal rows WriteRows writes the same bytes from
// SQLite and from PostgreSQL.
func (p *Snapshot) WriteRows(ctx context.Context, table string, w io.Writer) (n int64, err error) {
	known, ok := tableOf(table)
	if !ok {
		return 0, fmt.Errorf("table %q is not part of an archive", table)
	}
	columns, err := p.tx.columns(ctx, table)
	if err != nil {
		return 0, err
	}
	from, args := table, []any(nil)
	switch {
	case len(p.appids) > 0:
		from, args = known.ownedBy(p.appids), appendArgs(nil, p.appids)
	case table == "sequences" && p.external != nil:
		from, args = sequencesUpTo, []any{p.external.base + p.external.upTo}
	case table == "scan_logs" && p.external != nil && p.external.counted > 0:
		from, args = countedLocally, []any{p.external.counted}
	}
	err = p.tx.patiently(func() (err error) {
		n, err = p.tx.writeRows(ctx, w, table, columns, `SELECT `+strings.Join(columns, ", ")+` FROM `+from+` ORDER BY `+known.order, args)
		return err
	})
	if err == nil && table == "scan_events" && p.external != nil {
		var extra int64
		extra, err = p.external.rows(ctx, w)
		n += extra
	}
	return n, err
}

// writeRows writes the rows of a query as JSON lines.
func (t *Tx) writeRows(ctx context.Context, w io.Writer, table string, columns []string, query string, args []any) (n int64, err error) {
	rows, err := t.query(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", table, err)
	}
	defer rows.Close()
	values, dst := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		dst[i] = &values[i]
	}
	lines := newRowWriter(columns, w)
	for rows.Next() {
		if err := rows.Scan(dst...); err != nil {
			return lines.n, fmt.Errorf("reading %s: %w", table, err)
		}
		for i, value := range values {
			if err := lines.value(value); err != nil {
				return lines.n, fmt.Errorf("row %d of %s: %s %w", lines.n+1, table, columns[i], err)
			}
		}
		if err := lines.end(); err != nil {
			return lines.n, err
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return lines.n, fmt.Errorf("reading %s: %w", table, err)
	}
	return lines.n, nil
}

// countedLocally selects the rows of table scan_logs for an archive. Even if the server counted scans from a stream, the selected rows
// state that the archive's scans were counted from the local scan log.
const countedLocally = `(SELECT id, is_local, last_scan_id, checkpoint, CASE WHEN is_local = 1 THEN CAST($1 AS BIGINT) ELSE counted_offset END AS counted_offset,
	CASE WHEN is_local = 1 THEN -1 ELSE sketch_offset END AS sketch_offset, CASE WHEN is_local = 1 THEN -1 ELSE webhook_offset END AS webhook_offset FROM scan_logs) AS l`

// sequencesUpTo selects the rows of table sequences, with the argument $1 in place of the value of the sequence "scan".
const sequencesUpTo = `(SELECT name, CASE WHEN name = 'scan' THEN CAST($1 AS BIGINT) ELSE value END AS value FROM sequences) AS s`

// columns lists the columns of a table in alphabetical order: the physical order depends on the migration history.
func (t *Tx) columns(ctx context.Context, table string) ([]string, error) {
	rows, err := t.query(ctx, `SELECT * FROM `+table+` WHERE 1 = 0`)
	if err != nil {
		return nil, fmt.Errorf("inspecting %s: %w", table, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, fmt.Errorf("inspecting %s: %w", table, err)
	}
	slices.Sort(columns)
	return columns, rows.Err()
}

// ErrNotEmpty is returned by the method Load if the database contains data.
var ErrNotEmpty = errors.New("the database is not empty")

// OpenEmpty opens an empty database for the method Load, with an archive's schema version, which may be older than the program's.
func OpenEmpty(ctx context.Context, t Target, schema int64) (*Store, error) {
	t.alone = true
	if err := Imports(schema); err != nil {
		return nil, err
	}
	s, err := connect(ctx, t)
	if err != nil {
		return nil, err
	}
	if err := s.migrateTo(ctx, schema); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Migrate upgrades the schema to the newest version, after the method Load has filled a database with an older schema.
func (s *Store) Migrate(ctx context.Context) error { return s.migrateTo(ctx, NewestSchema()) }

// Restore loads an archive into an empty database.
type Restore struct {
	tx     *Tx
	conn   *sql.Conn // connection of tx if the database has COPY; otherwise nil
	tables []string
	loaded map[string]bool
	// KeysOnly loads no tables: the cell is empty, and has the keys of another one.
	KeysOnly bool

	scansInto func(id string) (*scanlog.Restoring, error) // opens a scan log for the archive's scans; nil = the scans go to scan_events
	restoring *scanlog.Restoring
	days      map[int64]bool // days of scans that already have a partition

	// change returns a function that changes each row of a table before it is stored; nil = no row is changed.
	change func(ctx context.Context, table string, columns []string) (func([]any) error, error)
}

// Load runs f on an empty database in one transaction, or returns ErrNotEmpty or ErrInUse. f may run again after a conflict.
func (s *Store) Load(ctx context.Context, f func(*Restore) error) error {
	defer s.withoutReadTimeouts()() // the database server sends no data during a COPY
	db, end, err := s.loading(ctx)
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	defer end()
	conn, err := db.Conn(ctx)
	if err != nil {
		return withCause(ctx, fmt.Errorf("connecting to the database: %w", err))
	}
	defer conn.Close()
	return retryWhileInUse(ctx, func() error { return s.loadOn(ctx, conn, f) })
}

func (s *Store) loadOn(ctx context.Context, conn *sql.Conn, f func(*Restore) error) error {
	return s.updateOn(ctx, conn, func(tx *Tx) error {
		if err := tx.lasting(ctx); err != nil {
			return err
		}
		if err := tx.engine.lockOut(ctx, tx); err != nil {
			return err
		}
		tables, err := list(ctx, tx, scanText, tx.engine.tablesQuery)
		if err != nil {
			return fmt.Errorf("inspecting the database: %w", err)
		}
		slices.Sort(tables)
		// Tables of other programs in the same database are ignored.
		tables = slices.DeleteFunc(tables, func(name string) bool {
			_, known := tableOf(name)
			return !known && name != "sealing_keys"
		})
		for _, name := range tables {
			if known, _ := tableOf(name); known.prefilled {
				continue
			}
			var n int
			switch err := tx.row(ctx, `SELECT 1 FROM `+name+` LIMIT 1`).Scan(&n); {
			case err == nil:
				return fmt.Errorf("%w: table %s has rows: specify a new data directory or an empty database", ErrNotEmpty, name)
			case !errors.Is(err, sql.ErrNoRows):
				return fmt.Errorf("inspecting %s: %w", name, err)
			}
		}
		l := &Restore{tx: tx, tables: tables, loaded: map[string]bool{"sealing_keys": true}, scansInto: s.scansInto, days: map[int64]bool{}}
		if tx.engine.name == "postgres" {
			l.conn = conn
		}
		defer l.cancel()
		index, err := tx.engine.unindex(ctx, tx)
		if err != nil {
			return err
		}
		if err := f(l); err != nil {
			return err
		}
		for _, name := range tables {
			if !l.loaded[name] && !l.KeysOnly {
				return fmt.Errorf("the archive has no table %s", name)
			}
		}
		if err := index(); err != nil {
			return err
		}
		return l.finish(ctx)
	})
}

// Key stores a sealed key.
func (l *Restore) Key(ctx context.Context, name, sealed string) error {
	_, err := l.tx.exec(ctx, `INSERT INTO sealing_keys (name, sealed) VALUES ($1, $2)`, name, sealed)
	return err
}

// LoadRows stores the rows that WriteRows wrote and returns their number.
func (l *Restore) LoadRows(ctx context.Context, table string, r io.Reader) (n int64, err error) {
	if !slices.Contains(l.tables, table) || l.loaded[table] {
		return 0, fmt.Errorf("the archive has a table %q, which does not exist in the database", table)
	}
	l.loaded[table] = true
	if table == "scan_events" && l.scansInto != nil {
		return l.loadScans(ctx, r)
	}
	columns, err := l.tx.columns(ctx, table)
	if err != nil {
		return 0, err
	}
	rows := newRowReader(table, columns, r)
	known, _ := tableOf(table)
	if l.change != nil {
		if rows.change, err = l.change(ctx, table, columns); err != nil {
			return 0, err
		}
	}
	shared := l.change != nil && table == "scan_keys" // cells have the same scan keys
	if l.conn != nil && !known.prefilled && !shared {
		err := l.copyRows(ctx, rows)
		return rows.n, err
	}
	query := `INSERT INTO ` + table + ` (` + strings.Join(columns, ", ") + `) VALUES (` + l.tx.marks(1, len(columns)) + `)`
	if known.prefilled {
		var set []string
		for _, c := range columns {
			set = append(set, c+` = excluded.`+c)
		}
		query += ` ON CONFLICT (` + known.order + `) DO UPDATE SET ` + strings.Join(set, ", ")
	}
	if shared {
		query += ` ON CONFLICT (hash) DO NOTHING`
	}
	for ; ; n++ {
		args, err := rows.next()
		if errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
		_, err = l.tx.exec(ctx, query, args...)
		if err != nil && shared && !l.tx.passing(ctx, err) {
			return n, accounts.Invalid(fmt.Sprintf("nothing was imported: this cell has another scan key with the name %s: "+
				"delete this key, or delete that of the other cell and export again", args[slices.Index(columns, "name")]))
		}
		if err != nil {
			return n, fmt.Errorf("storing row %d of %s: %w", n+1, table, err)
		}
	}
}

// arguments returns the values of a row, in the order of the columns.
func arguments(columns []string, row map[string]any) ([]any, error) {
	if len(row) != len(columns) {
		return nil, fmt.Errorf("got %d columns, want %d", len(row), len(columns))
	}
	args := make([]any, len(columns))
	for i, name := range columns {
		switch v := row[name].(type) {
		case string:
			args[i] = v
		case json.Number:
			total, err := v.Int64()
			if err != nil {
				return nil, fmt.Errorf("%s is not a whole number", name)
			}
			args[i] = total
		default:
			return nil, fmt.Errorf("%s is neither a text nor a number", name)
		}
	}
	return args, nil
}
