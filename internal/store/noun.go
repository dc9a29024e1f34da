package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// mapper is a table whose rows are values of T. It names once which column holds which field.
type mapper[T any] struct {
	table string
	key   string // the columns of its key, as in ON CONFLICT
	// fields are the columns of a row, each with the variable that holds its value.
	fields func(*T) []field
	none   error // the error where a row is asked for and there is none; nil = sql.ErrNoRows

	columns string // all of them; rows fills it in
}

// rows completes a noun.
func (n mapper[T]) rows() mapper[T] {
	var names []string
	for _, f := range n.fields(new(T)) {
		names = append(names, f.column)
	}
	n.columns = strings.Join(names, ", ")
	return n
}

// field is a column and its variable: a pointer to a text, a number or a flag, a
// moment, or inJSON.
type field struct {
	column string
	at     any
}

// args returns the values of a row in the order of its columns.
func (n mapper[T]) args(v *T) []any {
	all := n.targets(v)
	for i, value := range all {
		all[i] = stored(value)
	}
	return all
}

// stored returns the value of a column for a variable.
func stored(value any) any {
	switch at := value.(type) {
	case moment:
		return millis(*at.t)
	case interface{ text() string }:
		return at.text()
	}
	switch v := reflect.ValueOf(value).Elem(); v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return flag(v.Bool())
	default:
		return v.Int()
	}
}

// targets returns the variables that a row is read into, in the order of its columns.
func (n mapper[T]) targets(v *T) []any {
	fields := n.fields(v)
	all := make([]any, len(fields))
	for i, f := range fields {
		all[i] = f.at
	}
	return all
}

// scan reads a row.
func (n mapper[T]) scan(scan func(...any) error) (v T, err error) {
	if err = scan(n.targets(&v)...); errors.Is(err, sql.ErrNoRows) && n.none != nil {
		err = n.none
	}
	return v, err
}

func (n mapper[T]) query(rest string) string {
	return `SELECT ` + n.columns + ` FROM ` + n.table + ` ` + rest
}

// find reads the row that where selects.
func (n mapper[T]) find(ctx context.Context, t *Tx, location string, args ...any) (T, error) {
	return n.scan(t.row(ctx, n.query(`WHERE `+location), args...).Scan)
}

// findQueued is find that sends its query together with the statements that wait.
func (n mapper[T]) findQueued(ctx context.Context, t *Tx, location string, args ...any) (T, error) {
	return n.scan(t.rowQueued(ctx, n.query(`WHERE `+location), args...).Scan)
}

// all reads rows; rest is what follows FROM table.
func (n mapper[T]) all(ctx context.Context, t *Tx, rest string, args ...any) ([]T, error) {
	return list(ctx, t, n.scan, n.query(rest), args...)
}

// add stores a new row.
func (n mapper[T]) add(ctx context.Context, t *Tx, v T) error { return n.insert(ctx, t, v, ``) }

// put stores a row, or replaces the one with the same key except for the columns in kept.
func (n mapper[T]) put(ctx context.Context, t *Tx, v T, kept ...string) error {
	return n.insert(ctx, t, v, n.replacing(kept...))
}

// putAll is put of rows with different keys, many a statement.
func (n mapper[T]) putAll(ctx context.Context, t *Tx, list []T) error {
	return t.insertMany(ctx, `INSERT INTO `+n.table+` (`+n.columns+`)`, n.replacing(), len(n.fields(new(T))), len(list),
		func(i int, args []any) []any { return append(args, n.args(&list[i])...) })
}

// replacing returns the end of an INSERT that replaces the row with the same key.
func (n mapper[T]) replacing(kept ...string) string {
	kept = append(kept, strings.Split(n.key, ", ")...)
	var set []string
	for _, f := range n.fields(new(T)) {
		if !slices.Contains(kept, f.column) {
			set = append(set, f.column+` = excluded.`+f.column)
		}
	}
	return ` ON CONFLICT (` + n.key + `) DO UPDATE SET ` + strings.Join(set, ", ")
}

func (n mapper[T]) insert(ctx context.Context, t *Tx, v T, tail string) error {
	args := n.args(&v)
	_, err := t.exec(ctx, `INSERT INTO `+n.table+` (`+n.columns+`) VALUES (`+placeholders(1, len(args))+`)`+tail, args...)
	return err
}

// moment is a column that holds a time.
type moment struct{ t *time.Time }

// Scan implements sql.Scanner.
func (m moment) Scan(src any) error {
	ms, is := src.(int64)
	if !is {
		return fmt.Errorf("a time is stored as %T", src)
	}
	*m.t = fromMillis(ms)
	return nil
}
