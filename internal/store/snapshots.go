package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
)

// Saved describes a saved state (snapshot) of an emulator's data.
type Saved struct {
	Name    string
	At      time.Time
	Program string // program that saved the state
	Schema  int64

	Accounts, Rules, Batches, Bytes int64
}

// MaxSaved is the maximum number of saved states.
const MaxSaved = 20

// maxState is the maximum size of the rows of a saved state in bytes.
const maxState = 128 << 20

// The reasons for which a state cannot be saved or loaded.
var (
	ErrNotSaved     = errors.New("there is no snapshot with this name")
	ErrManySaved    = fmt.Errorf("the maximum of %d snapshots is reached: delete one", MaxSaved)
	ErrLargeState   = fmt.Errorf("the state has more than %d MiB of rows, the maximum size of a snapshot", maxState>>20)
	ErrSavedByNewer = errors.New("the snapshot was saved by a newer qrjump: load it with that version")
	ErrDamaged      = errors.New("the snapshot is corrupted: delete it, and save the state again")
)

var savedRows = mapper[Saved]{table: "snapshots", columns: "name, created_at, program, schema, accounts, rules, batches, LENGTH(data)",
	targets: func(s *Saved) []any {
		return []any{&s.Name, moment{&s.At}, &s.Program, &s.Schema, &s.Accounts, &s.Rules, &s.Batches, &s.Bytes}
	}}

// SaveState saves the state under a name, and replaces an earlier state with this name. ErrManySaved, ErrLargeState.
func (s *Store) SaveState(ctx context.Context, name, program string, t time.Time) (Saved, error) {
	item := Saved{Name: name, At: t, Program: program}
	var data string
	err := s.Snapshot(ctx, func(p *Snapshot) (err error) {
		state, err := stateOf(ctx, p)
		if err != nil {
			return err
		}
		item.Schema, data = p.Schema, state.text
		item.Accounts, item.Rules, item.Batches = state.rows["accounts"], state.rows["rules"], state.rows["batches"]
		return nil
	})
	if err != nil {
		return Saved{}, err
	}
	item.Bytes = int64(len(data))
	return item, s.update(ctx, func(tx *Tx) error {
		if err := tx.lock(ctx, "snapshots", ""); err != nil {
			return err
		}
		var n int
		if err := tx.row(ctx, `SELECT COUNT(*) FROM snapshots WHERE name <> $1`, name).Scan(&n); err != nil {
			return err
		}
		if n >= MaxSaved {
			return ErrManySaved
		}
		return tx.run(ctx, `INSERT INTO snapshots (name, created_at, program, schema, accounts, rules, batches, data)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO UPDATE SET created_at = excluded.created_at, program = excluded.program,
			schema = excluded.schema, accounts = excluded.accounts, rules = excluded.rules, batches = excluded.batches,
			data = excluded.data`, name, millis(t), program, item.Schema, item.Accounts, item.Rules, item.Batches, data)
	})
}

// SavedStates lists the saved states by name.
func (s *Store) SavedStates(ctx context.Context) ([]Saved, error) {
	return viewed(ctx, s, func(tx *Tx) ([]Saved, error) {
		return savedRows.all(ctx, tx, `ORDER BY name`)
	})
}

// DeleteSaved removes a saved state. ErrNotSaved.
func (s *Store) DeleteSaved(ctx context.Context, name string) error {
	return s.update(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, `DELETE FROM snapshots WHERE name = $1`, name)
		if err == nil && n == 0 {
			return ErrNotSaved
		}
		return err
	})
}

// LoadState replaces all current data by a saved state, in one transaction. A state that an earlier program saved is migrated
// first. Keys and sequence numbers are kept; logs and statistics are emptied, and the audit log gets one entry for each loaded
// object. ErrNotSaved, ErrSavedByNewer, ErrDamaged.
func (s *Store) LoadState(ctx context.Context, name string) (item Saved, err error) {
	var data string
	err = s.view(ctx, func(tx *Tx) error {
		item, err = savedRows.find(ctx, tx, `name = $1`, name)
		if err == nil {
			err = tx.row(ctx, `SELECT data FROM snapshots WHERE name = $1`, name).Scan(&data)
		}
		return err
	})
	switch newest := NewestSchema(); {
	case errors.Is(err, sql.ErrNoRows):
		return item, ErrNotSaved
	case err == nil && item.Schema > newest:
		err = ErrSavedByNewer
	case err == nil && item.Schema < newest:
		data, err = migrated(ctx, data, item.Schema)
	}
	if err == nil {
		err = s.view(ctx, func(tx *Tx) error { return tx.checkSaved(ctx, data) })
	}
	if err != nil {
		return item, err
	}
	defer s.withoutReadTimeouts()() // the database server sends no data during a COPY
	return item, s.update(ctx, func(tx *Tx) error { return tx.becomes(ctx, name, data) })
}

// checkSaved returns ErrDamaged if rows of a state cannot be read.
func (t *Tx) checkSaved(ctx context.Context, data string) error {
	tables := stateTables()
	return eachSaved(data, func(table, text string) error {
		if !slices.Contains(tables, table) {
			return fmt.Errorf("%w: table %.40q", ErrDamaged, table)
		}
		columns, err := t.columns(ctx, table)
		if err != nil {
			return err
		}
		rows := newRowReader(table, columns, strings.NewReader(text))
		for err == nil {
			_, err = rows.next()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	})
}

// The method "becomes" replaces all data by the saved state in the argument data; it returns ErrDamaged if the database rejects a row, or a
// row has an invalid value.
func (t *Tx) becomes(ctx context.Context, name, data string) error {
	if err := t.empty(ctx); err != nil {
		return err
	}
	err := t.fill(ctx, name, data)
	if err == nil || t.passing(ctx, err) {
		return err
	}
	return fmt.Errorf("%w: %v", ErrDamaged, err)
}

// passing reports whether an error is not the fault of the rows: an outage, a conflict of transactions, or the end of ctx.
func (t *Tx) passing(ctx context.Context, err error) bool {
	_, outage := errors.AsType[*errcode.Unavailable](outageOf(t.engine, err))
	return outage || ctx.Err() != nil || t.engine.retryable(err) || t.engine.lost(err)
}

func (t *Tx) fill(ctx context.Context, name, data string) error {
	l := &Restore{tx: t, tables: stateTables(), loaded: map[string]bool{}}
	if t.pipe != nil {
		l.conn = t.pipe.conn
	}
	if err := eachSaved(data, func(table, rows string) error {
		_, err := l.LoadRows(ctx, table, strings.NewReader(rows))
		return err
	}); err != nil {
		return err
	}
	// The earlier scans are deleted; webhooks receive only new scans.
	if err := t.webhooks().LockReader(ctx, webhooks.ScanSource); err != nil {
		return err
	}
	if err := t.webhooks().StartReader(ctx); err != nil {
		return err
	}
	if err := t.beginLog(ctx, "load", map[string]string{"snapshot": name}); err != nil {
		return err
	}
	return t.noteFound(ctx)
}

// noteFound adds an entry for each existing object, or for each object of some accounts, to an audit log that has none about it, so that
// each object's history in this log is complete.
func (t *Tx) noteFound(ctx context.Context, appids ...string) error {
	instant, did, args := t.keeping.clockNow(), "found", appendArgs(nil, appids)
	from := func(name string) string {
		if known, _ := tableOf(name); len(appids) > 0 {
			name = known.ownedBy(appids)
		}
		return ` FROM ` + name + ` ORDER BY `
	}
	err := noteEach(ctx, t, scanRule, `SELECT `+ruleColumns+from("rules")+`id`, func(r rules.Rule) error {
		return t.rules().noteRule(ctx, r, rules.ChangeMeta{At: instant, Action: did})
	}, args...)
	if err != nil {
		return err
	}
	err = noteEach(ctx, t, accountRows.scan, `SELECT `+accountRows.columns+from("accounts")+`appid`, func(a accounts.Account) error {
		return t.note(ctx, ofAccount, a.AppID, did, accountRecordOf(a, a))
	}, args...)
	if err != nil {
		return err
	}
	err = noteEach(ctx, t, linkRows.scan, `SELECT `+linkRows.columns+from("links")+`service, mini_program`,
		func(l accounts.Link) error {
			return t.note(ctx, ofLink, linkKey(l.Service, l.MiniProgram), did, linkRecordOf(l))
		}, args...)
	if err != nil {
		return err
	}
	err = noteEach(ctx, t, eventRows.scan, `SELECT `+eventColumns+from("code_events")+`seq`, func(r eventRow) error {
		set, err := codes.DecodeSet(r.codes)
		if err != nil {
			return err
		}
		return t.note(ctx, ofCodes, strconv.FormatInt(r.batch, 10), did, r.record(set))
	}, args...)
	if err != nil {
		return err
	}
	// The entry of a GS1 key has the action "put" instead of "found": the number of a key is the sequence number of its first "put" entry.
	return noteEach(ctx, t, gs1Rows.scan, `SELECT `+gs1Rows.columns+from("gs1_links")+`key`, func(r gs1Row) error {
		return t.note(ctx, ofGS1, r.Key, "put", r.Entry)
	}, args...)
}

// noteEach records an audit entry for each row of a query.
func noteEach[T any](ctx context.Context, t *Tx, scan func(func(...any) error) (T, error), query string, note func(T) error,
	args ...any) error {
	rows, err := list(ctx, t, scan, query, args...)
	for i := range rows {
		if err == nil {
			err = note(rows[i])
		}
	}
	if err != nil {
		return err
	}
	return t.writeQueued(ctx)
}

// stateTables returns the names of the tables in a saved state.
func stateTables() (names []string) {
	for _, t := range schema {
		if t.order != "" && !t.keptOnReset && !t.log {
			names = append(names, t.name)
		}
	}
	return names
}

// savedTable is a table of a saved state, with its rows as JSON lines.
type savedTable struct{ Table, Rows string }

// state is the encoded text of a saved state, with the rows of all its tables, and the number of rows of each table.
type state struct {
	text string
	rows map[string]int64
}

func stateOf(ctx context.Context, p *Snapshot) (state, error) {
	st, left := state{rows: map[string]int64{}}, maxState
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	lines := json.NewEncoder(zip)
	for _, table := range stateTables() {
		rows := &limited{left: left}
		n, err := p.WriteRows(ctx, table, rows)
		if err == nil {
			err = lines.Encode(savedTable{table, rows.String()})
		}
		if err != nil {
			return st, err
		}
		st.rows[table], left = n, rows.left
	}
	err := zip.Close()
	st.text = base64.StdEncoding.EncodeToString(packed.Bytes())
	return st, err
}

// limited is a buffer with a maximum size; Write returns ErrLargeState for data beyond this size.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	if l.left -= len(b); l.left < 0 {
		return 0, ErrLargeState
	}
	return l.Buffer.Write(b)
}

// eachSaved calls f for each table of a state.
func eachSaved(data string, f func(table, rows string) error) error {
	// The errors are not wrapped, because a wrapped unexpected EOF would be treated as a lost connection.
	zip, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(data)))
	if err != nil {
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	for lines := json.NewDecoder(zip); ; {
		var s savedTable
		if err := lines.Decode(&s); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%w: %v", ErrDamaged, err)
		}
		if err := f(s.Table, s.Rows); err != nil {
			return err
		}
	}
}

// migrated converts a state of an earlier schema to this program's schema: it loads the state into a temporary embedded database,
// migrates this database and reads it back.
func migrated(ctx context.Context, data string, schema int64) (text string, err error) {
	dir, err := os.MkdirTemp("", "qrjump-snapshot-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	s, err := OpenEmpty(ctx, Target{Dir: dir}, schema)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	err = s.Load(ctx, func(l *Restore) error {
		err := eachSaved(data, func(table, rows string) error {
			_, err := l.LoadRows(ctx, table, strings.NewReader(rows))
			if _, outage := errors.AsType[*errcode.Unavailable](outageOf(s.engine, err)); err != nil && !outage && ctx.Err() == nil {
				err = fmt.Errorf("%w: %v", ErrDamaged, err)
			}
			return err
		})
		for _, table := range l.tables {
			if err == nil && !l.loaded[table] {
				_, err = l.LoadRows(ctx, table, strings.NewReader(""))
			}
		}
		return err
	})
	if err == nil {
		err = s.Migrate(ctx)
	}
	if err != nil {
		return "", err
	}
	err = s.Snapshot(ctx, func(p *Snapshot) error {
		state, err := stateOf(ctx, p)
		text = state.text
		return err
	})
	return text, err
}
