package store

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
)

// argumentsAtOnce returns the maximum number of arguments of a statement of many rows: fewer than either database's limit.
func (t *Tx) argumentsAtOnce() int {
	if t.engine.name() == "sqlite" {
		return 800
	}
	return 8000
}

// marks are n placeholders for arguments from a number on. On SQLite they have no numbers, because
// its driver would look for each number among all of them, which takes longer than everything else.
func (t *Tx) marks(first, n int) string {
	if t.engine.name() == "sqlite" {
		return strings.Repeat("?, ", n-1) + "?"
	}
	return placeholders(first, n)
}

// rowMarks returns the placeholders of so many rows, of arguments from the first on.
func (t *Tx) rowMarks(rows, columns int) string {
	if t.engine.name() != "sqlite" {
		return values(rows, columns)
	}
	name := "(" + t.marks(1, columns) + ")"
	return strings.Repeat(name+", ", rows-1) + name
}

// insertMany stores rows of so many columns, as many as possible in each
// statement. head is INSERT INTO … (columns), tail what follows the values.
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

// addMany is insertMany of some hundred rows, again and again in one transaction, which
// keeps the statement prepared. It returns how many rows it stored.
func (t *Tx) addMany(ctx context.Context, head, tail string, columns, rows int,
	row func(i int) []any) (stored int64, err error) {
	limit := t.engine.rowsAtOnce()
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

// keptMost is the number of statements that a transaction keeps prepared.
const keptMost = 100

// kept returns a statement that bulk work repeats, prepared. nil = run it without that: because
// this is other work, because the driver keeps statements itself, or because keptMost others are
// kept.
func (t *Tx) kept(ctx context.Context, query string) (*sql.Stmt, error) {
	if !t.lasts || t.pipe != nil {
		return nil, nil
	}
	if stmt, known := t.prepared[query]; known || len(t.prepared) == keptMost {
		return stmt, nil
	}
	stmt, err := t.sql.PrepareContext(ctx, query) // its transaction closes it
	if err != nil {
		return nil, err
	}
	if t.prepared == nil {
		t.prepared = map[string]*sql.Stmt{}
	}
	t.prepared[query] = stmt
	return stmt, nil
}

// values is "($1, $2), ($3, $4)" for so many rows of so many columns.
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

// inPieces cuts all into pieces whose lengths are powers of two, at most 128. So there are few
// different statements, and the database keeps every one of them prepared.
func inPieces[T any](all []T, f func([]T) error) error {
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
