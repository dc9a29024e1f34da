package store

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
)

// argumentsAtOnce returns the maximum number of arguments in a multi-row INSERT, which is below the limit of the database.
func (t *Tx) argumentsAtOnce() int {
	if t.engine.name == "sqlite" {
		return 800
	}
	return 8000
}

// marks returns n placeholders, numbered from first. On SQLite the placeholders have no numbers: the SQLite driver would search all
// arguments for each number, which takes longer than the execution of the statement.
func (t *Tx) marks(first, n int) string {
	if t.engine.name == "sqlite" {
		return strings.Repeat("?, ", n-1) + "?"
	}
	return placeholders(first, n)
}

// rowMarks returns the placeholders of a VALUES list with the given numbers of rows and columns: "($1, $2), ($3, $4)", or "?" on SQLite.
func (t *Tx) rowMarks(rows, columns int) string {
	list := make([]string, rows)
	for i := range list {
		list[i] = "(" + t.marks(1+i*columns, columns) + ")"
	}
	return strings.Join(list, ", ")
}

// insertMany inserts rows, as many as possible per statement; head is INSERT INTO … (columns), tail is the text after the values.
func (t *Tx) insertMany(ctx context.Context, head, tail string, columns, rows int, row func(i int, args []any) []any) error {
	_, err := t.insertLimited(ctx, t.argumentsAtOnce()/columns, head, tail, columns, rows, row)
	return err
}

// addMany inserts rows like insertMany, and returns the number of stored rows. Transactions call addMany many times with some hundred rows
// each, so each statement has a number of rows for which the database keeps it prepared.
func (t *Tx) addMany(ctx context.Context, head, tail string, columns, rows int, row func(i int) []any) (stored int64, err error) {
	return t.insertLimited(ctx, t.engine.rowsAtOnce, head, tail, columns, rows, func(i int, a []any) []any { return append(a, row(i)...) })
}

// insertLimited inserts rows, at most limit per statement, and returns the number of stored rows.
func (t *Tx) insertLimited(ctx context.Context, limit int, head, tail string, columns, rows int,
	row func(i int, args []any) []any) (stored int64, err error) {
	var args []any
	for i := 0; i < rows; {
		n := min(limit, rows-i)
		args = args[:0]
		for range n {
			args = row(i, args)
			i++
		}
		added, err := t.exec(ctx, head+` VALUES `+t.rowMarks(n, columns)+tail, args...)
		if err != nil {
			return stored, err
		}
		stored += added
	}
	return stored, nil
}

// insertRows returns the statement that inserts rows of texts and integers; insert is INSERT INTO … (columns). On PostgreSQL each column is
// one array, so that the text of the statement does not depend on the number of rows and each connection prepares the statement once.
func (t *Tx) insertRows(insert string, rows [][]any) (query string, args []any) {
	if t.pipe == nil {
		return insert + ` VALUES ` + t.rowMarks(len(rows), len(rows[0])), slices.Concat(rows...)
	}
	source, args := unnest(rows)
	return insert + ` SELECT * FROM ` + source, args
}

// unnest returns a table function for rows of texts and integers, and one array for each column as its arguments.
func unnest(rows [][]any) (function string, args []any) {
	types := make([]string, len(rows[0]))
	for i, first := range rows[0] {
		if _, is := first.(string); is {
			column := make([]*string, len(rows)) // nil = a text that PostgreSQL cannot store
			for n, row := range rows {
				if text, is := sanitizeText(row[i : i+1])[0].(string); is {
					column[n] = &text
				}
			}
			types[i], args = fmt.Sprintf("$%d::text[]", i+1), append(args, column)
			continue
		}
		column := make([]int64, len(rows))
		for n, row := range rows {
			column[n] = reflect.ValueOf(row[i]).Int()
		}
		types[i], args = fmt.Sprintf("$%d::bigint[]", i+1), append(args, column)
	}
	return `unnest(` + strings.Join(types, ", ") + `)`, args
}

// insertPrepared inserts rows like addMany, for callers whose numbers of rows vary: see inChunks.
func insertPrepared[T any](ctx context.Context, t *Tx, head, tail string, all []T, row func(T) []any) (stored int64, err error) {
	columns := strings.Count(head, ",") + 1
	err = inChunks(all, func(part []T) error {
		added, err := t.insertLimited(ctx, len(part), head, tail, columns, len(part), func(i int, args []any) []any {
			return append(args, row(part[i])...)
		})
		stored += added
		return err
	})
	return stored, err
}

// forEach calls f for each element of a sequence until f returns an error.
func forEach[T any](all iter.Seq[T], f func(T) error) error {
	for item := range all {
		if err := f(item); err != nil {
			return err
		}
	}
	return nil
}

// inChunks splits a slice into chunks whose lengths are powers of two, at most 128, and calls f for each chunk. Lengths of powers
// of two keep the number of different statements small, so the database keeps all of them prepared.
func inChunks[T any](all []T, f func([]T) error) error {
	for size := 128; len(all) > 0; size /= 2 {
		for len(all) >= size {
			if err := f(all[:size]); err != nil {
				return err
			}
			all = all[size:]
		}
	}
	return nil
}
