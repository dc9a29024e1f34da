package store

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"slices"
	"strconv"
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

// rowMarks returns the placeholders of a VALUES list with the given numbers of rows and columns: $1, $2, …, or "?" on SQLite.
func (t *Tx) rowMarks(rows, columns int) string {
	if t.engine.name != "sqlite" {
		return values(rows, columns)
	}
	name := "(" + t.marks(1, columns) + ")"
	return strings.Repeat(name+", ", rows-1) + name
}

// insertMany inserts rows, as many as possible per statement; head is INSERT INTO … (columns), tail is the text after the values.
func (t *Tx) insertMany(ctx context.Context, head, tail string, columns, rows int, row func(i int, args []any) []any) error {
	limit := t.argumentsAtOnce() / columns
	var full *sql.Stmt
	var args []any
	for i := 0; i < rows; {
		n := min(limit, rows-i)
		args = args[:0]
		for range n {
			args = row(i, args)
			i++
		}
		if n < limit {
			if err := t.pipe.push(ctx); err != nil {
				return err
			}
			_, err := t.sql.ExecContext(ctx, head+` VALUES `+t.rowMarks(n, columns)+tail, args...)
			return err
		}
		if full == nil {
			var err error
			if full, err = t.prepare(ctx, head+` VALUES `+t.rowMarks(n, columns)+tail); err != nil {
				return err
			}
			defer full.Close()
		}
		if _, err := full.ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	return nil
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

// addMany inserts rows like insertMany, and returns the number of stored rows. Transactions call addMany many times with some hundred rows
// each: in bulk mode, the statements of addMany stay prepared between the calls.
func (t *Tx) addMany(ctx context.Context, head, tail string, columns, rows int, row func(i int) []any) (stored int64, err error) {
	limit := t.engine.rowsAtOnce
	var args []any
	for i := 0; i < rows; {
		n := min(limit, rows-i)
		args = args[:0]
		for range n {
			args = append(args, row(i)...)
			i++
		}
		done, err := t.exec(ctx, head+` VALUES `+t.rowMarks(n, columns)+tail, args...)
		if err != nil {
			return stored, err
		}
		stored += done
	}
	return stored, nil
}

// keptMost is the maximum number of statements that a transaction keeps prepared.
const keptMost = 100

// preparedFor returns a prepared statement for a query of bulk work. preparedFor returns nil if the query must run unprepared: outside of
// bulk work, with a driver that caches statements, or if keptMost statements are prepared.
func (t *Tx) preparedFor(ctx context.Context, query string) (*sql.Stmt, error) {
	if !t.lasts || t.pipe != nil {
		return nil, nil
	}
	if stmt, known := t.prepared[query]; known || len(t.prepared) == keptMost {
		return stmt, nil
	}
	stmt, err := t.sql.PrepareContext(ctx, query) // database/sql closes the statement at the end of the transaction
	if err != nil {
		return nil, err
	}
	if t.prepared == nil {
		t.prepared = map[string]*sql.Stmt{}
	}
	t.prepared[query] = stmt
	return stmt, nil
}

// values returns placeholders such as "($1, $2), ($3, $4)" for a number of rows and columns.
func values(rows, columns int) string {
	var b strings.Builder
	for n := range rows * columns {
		switch {
		case n == 0:
			b.WriteString("($")
		case n%columns == 0:
			b.WriteString("), ($")
		default:
			b.WriteString(", $")
		}
		b.WriteString(strconv.Itoa(n + 1))
	}
	b.WriteByte(')')
	return b.String()
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
