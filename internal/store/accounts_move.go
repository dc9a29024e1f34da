package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

// renumbered lists the tables whose rows get new numbers in another cell: the columns with a number, and the sequence that it comes from.
// Followers of these tables read "all numbers after n", so that a number of another cell would hide the rows that follow it. The numbers
// of rules come from the audit log.
var renumbered = map[string]struct {
	columns  []string
	sequence string
}{
	"alarms":        {[]string{"id", "confirmation", "dismissal", "assignment"}, "alarm"},
	"code_events":   {[]string{"seq"}, "code_event"},
	"notifications": {[]string{"id"}, "notification"},
	"pushes":        {[]string{"id"}, "push"},
	"rules":         {[]string{"id"}, ""},
}

// moves reports whether the rows of an account move with it to another cell.
func (t table) moves() bool { return t.owned != "" && t.order != "" && !t.stays }

// ownedBy returns the table with a condition that selects the rows of accounts and platforms; the arguments of the query are appids.
func (t table) ownedBy(appids []string) string {
	marks := placeholders(1, len(appids))
	if t.owned == "batch" {
		return t.name + ` WHERE batch IN (SELECT id FROM batches WHERE account IN (` + marks + `))`
	}
	return t.name + ` WHERE ` + t.owned + ` IN (` + marks + `)`
}

// appendArgs appends values to the arguments of a statement.
func appendArgs[T any](args []any, values []T) []any {
	for _, value := range values {
		args = append(args, value)
	}
	return args
}

// Select limits a snapshot to accounts and platforms. accounts.Invalid if one of them does not exist, or has a link or a grant with an
// account that is not among them.
func (p *Snapshot) Select(ctx context.Context, appids []string) error {
	p.appids = appids
	marks := placeholders(1, len(appids))
	known, err := list(ctx, p.tx, scanText, `SELECT appid FROM accounts WHERE appid IN (`+marks+`) UNION SELECT appid FROM components WHERE
		appid IN (`+marks+`)`, appendArgs(nil, appids)...)
	for _, appid := range appids {
		if err == nil && !slices.Contains(known, appid) {
			err = accounts.Invalid("there is no account " + appid)
		}
	}
	if err != nil {
		return err
	}
	tied, err := list(ctx, p.tx, scanText, `SELECT service || ' and ' || mini_program FROM links WHERE
		(service IN (`+marks+`)) <> (mini_program IN (`+marks+`)) UNION SELECT component || ' and ' || appid FROM grants WHERE
		(component IN (`+marks+`)) <> (appid IN (`+marks+`)) ORDER BY 1 LIMIT 1`, appendArgs(nil, appids)...)
	if err == nil && len(tied) > 0 {
		err = accounts.Invalid(fmt.Sprintf("%s are linked, so both must be in one cell: specify both, or unlink them", tied[0]))
	}
	return err
}

// Move describes accounts and platforms that come from another cell.
type Move struct {
	AppIDs []string
	// Tables calls its argument for each table of the archive; it is called twice.
	Tables func(func(table string, rows io.Reader) error) error
	// Reseal seals a text of the other cell, which was sealed for the location from, with the key of this cell for the location to.
	Reseal func(from, to, sealed string) (string, error)
	// FirstCounter and EndCounter limit the counters of the codes that this cell issues.
	FirstCounter, EndCounter uint64
}

// Load loads the rows in one transaction. Other changes wait only while the rules are loaded, which come last. The caller has checked that
// both cells hash with the same keys. accounts.Invalid if an account is in this cell already, if a row cannot be stored, or if other
// accounts use the same host or the same codes.
func (m Move) Load(ctx context.Context, s *Store) error {
	defer s.withoutReadTimeouts()() // the database server sends no data during a COPY
	return s.update(ctx, func(tx *Tx) error {
		err := tx.loadAccounts(ctx, m)
		if _, refused := errors.AsType[accounts.Invalid](err); err == nil || refused || tx.passing(ctx, err) {
			return err
		}
		return accounts.Invalid(fmt.Sprintf("nothing was imported: %v", err))
	})
}

func (t *Tx) loadAccounts(ctx context.Context, m Move) error {
	t.touched.AddAll()
	marks, args := placeholders(1, len(m.AppIDs)), appendArgs(nil, m.AppIDs)
	refuse := func(text, query string, more ...any) error {
		names, err := list(ctx, t, scanText, strings.ReplaceAll(query, "@", marks), append(slices.Clone(args), more...)...)
		if err == nil && len(names) > 0 {
			err = accounts.Invalid(fmt.Sprintf(text, names[0]))
		}
		return err
	}
	if err := refuse("nothing was imported: %s is in this cell already", `SELECT appid FROM accounts WHERE appid IN (@)
		UNION SELECT appid FROM components WHERE appid IN (@)`); err != nil {
		return err
	}
	l := &Restore{tx: t, loaded: map[string]bool{}}
	if t.pipe != nil {
		l.conn = t.pipe.conn
	}
	for _, table := range schema {
		if table.moves() {
			l.tables = append(l.tables, table.name)
		}
	}
	l.change = func(ctx context.Context, table string, columns []string) (func([]any) error, error) {
		return t.forThisCell(ctx, table, columns, m.Reseal)
	}
	for _, last := range []bool{false, true} {
		if last { // until the end of this transaction, no other account gets a rule on a host of the moved rules
			if err := t.rules().LockForShow(ctx); err != nil {
				return err
			}
		}
		if err := m.Tables(func(table string, rows io.Reader) error {
			if _, numbered := renumbered[table]; numbered != last {
				return nil
			}
			_, err := l.LoadRows(ctx, table, rows)
			return err
		}); err != nil {
			return err
		}
	}
	for table, numbers := range renumbered {
		for _, column := range numbers.columns {
			if _, err := t.exec(ctx, `UPDATE sequences SET value = n FROM (SELECT MAX(`+column+`) AS n FROM `+table+`) AS last
				WHERE name = $1 AND value < n`, numbers.sequence); err != nil {
				return err
			}
		}
	}
	if err := refuse("nothing was imported: other accounts of this cell have rules on the host %s", `SELECT host FROM rules WHERE
		owner IN (@) AND host IN (SELECT host FROM rules WHERE owner NOT IN (@)) ORDER BY host LIMIT 1`); err != nil {
		return err
	}
	n := len(args)
	if err := refuse("nothing was imported: this cell issues the same codes as application %s: set --min-code-counter", fmt.Sprintf(
		`SELECT CAST(b.id AS TEXT) FROM batches b WHERE account IN (@) AND b.start >= 0 AND (b.start < $%d AND b.start + b.codes > $%d AND
		b.start + b.codes > (SELECT value FROM sequences WHERE name = 'code_counter') OR EXISTS (SELECT 1 FROM batches o WHERE o.id <> b.id
		AND o.start >= 0 AND o.start < b.start + b.codes AND b.start < o.start + o.codes)) ORDER BY b.id LIMIT 1`, n+1, n+2),
		int64(m.EndCounter), int64(m.FirstCounter)); err != nil {
		return err
	}
	// The entries of the rules come first, because the number of a rule is the sequence number of its first entry.
	err := t.noteFound(ctx, m.AppIDs...)
	if err == nil {
		batches, _ := tableOf("batches")
		err = noteEach(ctx, t, scanBatch, `SELECT `+batchColumns+` FROM `+batches.ownedBy(m.AppIDs), func(b codes.Batch) error {
			return t.codes().noteBatch(ctx, b, int64(b.Start), "found")
		}, args...)
	}
	for _, appid := range m.AppIDs {
		if err == nil {
			err = t.note(ctx, ofAppearance, appid, "found", nil)
		}
	}
	if err != nil {
		return err
	}
	return t.note(ctx, ofScanKey, "", "found", nil)
}

// forThisCell returns a function that seals the texts of a row for this cell, and gives the row new numbers.
func (t *Tx) forThisCell(ctx context.Context, table string, columns []string, reseal func(from, to, sealed string) (string, error)) (
	change func([]any) error, err error) {
	next, numbers := int64(0), renumbered[table]
	if table == "rules" {
		next, err = t.nextChange(ctx)
	} else if numbers.sequence != "" {
		next, err = t.next(ctx, numbers.sequence)
	}
	secrets := slices.DeleteFunc(slices.Clone(sealed), func(c sealedColumn) bool { return c.table != table })
	location := func(c sealedColumn, row []any) string {
		names := make([]string, len(c.keys))
		for i, key := range c.keys {
			names[i] = fmt.Sprint(row[slices.Index(columns, key)])
		}
		return c.place + strings.Join(names, "/")
	}
	return func(row []any) (err error) {
		from := make([]string, len(secrets)) // with the old numbers
		for i, c := range secrets {
			from[i] = location(c, row)
		}
		for _, column := range numbers.columns {
			i := slices.Index(columns, column)
			if n, _ := row[i].(int64); n > 0 { // negative numbers are random
				row[i] = next
				next++
			}
		}
		for i, c := range secrets {
			text := &row[slices.Index(columns, c.column)]
			if *text != "" && err == nil {
				*text, err = reseal(from[i], location(c, row), fmt.Sprint(*text))
			}
		}
		return err
	}, err
}

// RaiseNumbers makes the numbers of applications, packages and cases differ from those of the cells before it; 0 = the first cell.
func RaiseNumbers(ctx context.Context, s *Store, cell uint64) error {
	return s.update(ctx, func(tx *Tx) error {
		return tx.run(ctx, `UPDATE sequences SET value = $1 WHERE name IN ('application', 'case', 'package') AND value < $1`,
			int64(500_000_000+cell*150_000_000))
	})
}
