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

// mapper maps the rows of a table to values of T.
type mapper[T any] struct {
	table   string
	key     string // columns of the key, as in ON CONFLICT
	columns string // all columns, separated by ", "
	// targets returns the variable of each column, in the order of columns: a pointer to a string, an integer or a bool, or a value of
	// type moment or asJSON.
	targets  func(*T) []any
	notFound error // error for a missing row; nil = sql.ErrNoRows
}

// scanner returns a scan function that stores the columns of a row in the variables that targets returns.
func scanner[T any](targets func(*T) []any) func(scan func(...any) error) (T, error) {
	return func(scan func(...any) error) (v T, err error) {
		err = scan(targets(&v)...)
		return v, err
	}
}

// args returns the values of a row in column order.
func (n *mapper[T]) args(v *T) []any {
	all := n.targets(v)
	for i, value := range all {
		all[i] = stored(value)
	}
	return all
}

// stored returns the column value for an element of the list that the function targets returns.
func stored(value any) any {
	switch at := value.(type) {
	case *string:
		return *at
	case *int64:
		return *at
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

// scan reads a row.
func (n *mapper[T]) scan(scan func(...any) error) (v T, err error) {
	if err = scan(n.targets(&v)...); errors.Is(err, sql.ErrNoRows) && n.notFound != nil {
		err = n.notFound
	}
	return v, err
}

func (n *mapper[T]) query(rest string) string {
	return `SELECT ` + n.columns + ` FROM ` + n.table + ` ` + rest
}

// find reads the row for which the WHERE condition in "location" is true.
func (n *mapper[T]) find(ctx context.Context, t *Tx, location string, args ...any) (T, error) {
	return n.scan(t.row(ctx, n.query(`WHERE `+location), args...).Scan)
}

// all reads rows; rest is the SQL after FROM table.
func (n *mapper[T]) all(ctx context.Context, t *Tx, rest string, args ...any) ([]T, error) {
	return list(ctx, t, n.scan, n.query(rest), args...)
}

// add inserts a new row.
func (n *mapper[T]) add(ctx context.Context, t *Tx, v T) error { return n.insert(ctx, t, v, ``) }

// put inserts a row; if a row with the same key exists, put replaces its values in all columns that are not in kept.
func (n *mapper[T]) put(ctx context.Context, t *Tx, v T, kept ...string) error {
	return n.insert(ctx, t, v, n.replacing(kept...))
}

// putAll inserts or replaces rows like put, with several rows per statement; all rows must have different keys.
func (n *mapper[T]) putAll(ctx context.Context, t *Tx, list []T) error {
	return n.addAll(ctx, t, list, n.replacing())
}

// addAll inserts rows, with several rows per statement; tail is the SQL after the values.
func (n *mapper[T]) addAll(ctx context.Context, t *Tx, list []T, tail string) error {
	return t.insertMany(ctx, `INSERT INTO `+n.table+` (`+n.columns+`)`, tail, strings.Count(n.columns, ",")+1, len(list),
		func(i int, args []any) []any { return append(args, n.args(&list[i])...) })
}

// addPrepared inserts rows like insertPrepared.
func (n *mapper[T]) addPrepared(ctx context.Context, t *Tx, list []T, tail string) (stored int64, err error) {
	return insertPrepared(ctx, t, `INSERT INTO `+n.table+` (`+n.columns+`)`, tail, list, func(v T) []any { return n.args(&v) })
}

// replacing returns the end of an INSERT that replaces a row with the same key.
func (n *mapper[T]) replacing(kept ...string) string {
	kept = append(kept, strings.Split(n.key, ", ")...)
	var set []string
	for column := range strings.SplitSeq(n.columns, ", ") {
		if !slices.Contains(kept, column) {
			set = append(set, column+` = excluded.`+column)
		}
	}
	return ` ON CONFLICT (` + n.key + `) DO UPDATE SET ` + strings.Join(set, ", ")
}

// adding returns the end of an INSERT that adds the values of some columns to a row with the same key.
func (n *mapper[T]) adding(columns ...string) string {
	for i, column := range columns {
		columns[i] = column + ` = ` + n.table + `.` + column + ` + excluded.` + column
	}
	return ` ON CONFLICT (` + n.key + `) DO UPDATE SET ` + strings.Join(columns, ", ")
}

func (n *mapper[T]) insert(ctx context.Context, t *Tx, v T, tail string) error {
	args := n.args(&v)
	return t.run(ctx, `INSERT INTO `+n.table+` (`+n.columns+`) VALUES (`+placeholders(1, len(args))+`)`+tail, args...)
}

// moment maps an integer column with Unix milliseconds to a time.Time.
type moment struct{ t *time.Time }

// Scan implements sql.Scanner.
func (m moment) Scan(src any) error {
	ms, is := src.(int64)
	if !is {
		return fmt.Errorf("unexpected column type %T of a time", src)
	}
	*m.t = fromMillis(ms)
	return nil
}
