package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// copyRows stores rows by COPY, which only PostgreSQL has. During a COPY, the connection cannot run another statement. If the partition
// for a row must be created first, the COPY ends before this row, and a new COPY starts with this row.
func (l *Restore) copyRows(ctx context.Context, rows *rowReader) error {
	kinds, err := l.tx.kinds(ctx, rows.table, rows.columns)
	if err != nil {
		return err
	}
	// Only the table scan_events has partitions.
	day := -1
	if rows.table == "scan_events" {
		day = slices.Index(rows.columns, "day")
	}
	var waiting []any // first row of the next COPY; nil = none
	for {
		prev := rows.n
		if waiting != nil {
			prev--
		}
		var broken error // why a row cannot be read
		source := pgx.CopyFromFunc(func() (row []any, err error) {
			if row, waiting = waiting, nil; row == nil {
				row, err = rows.next()
			}
			switch {
			case errors.Is(err, io.EOF):
				return nil, nil
			case err == nil && day >= 0 && l.lacksRoom(row[day]):
				waiting = row
				return nil, nil
			case err == nil:
				err = rows.fit(row, kinds)
			}
			if err != nil {
				broken = err
				return nil, errBroken
			}
			return sanitizeText(row), nil
		})
		err := l.conn.Raw(func(driver any) error {
			_, err := pgxOf(driver).CopyFrom(ctx, pgx.Identifier{rows.table}, rows.columns, source)
			return err
		})
		if err != nil {
			return copyFault(err, broken, rows, prev)
		}
		if waiting == nil {
			return nil
		}
		if err := l.makeRoom(ctx, waiting[day].(int64)); err != nil {
			return fmt.Errorf("row %d of %s: %w", rows.n, rows.table, err)
		}
	}
}

// errBroken is the error with which the client aborts a COPY; it has no details, because it appears in the log of the database server.
var errBroken = errors.New("invalid row")

// fit returns an error if a value of a row has another type than its column.
func (r *rowReader) fit(row []any, kinds []string) error {
	for i, value := range row {
		if _, number := value.(int64); number != (kinds[i] == "INT8") {
			return fmt.Errorf("row %d of %s: %s has the wrong type: want %s", r.n, r.table, r.columns[i], kinds[i])
		}
	}
	return nil
}

// kinds returns the types of the columns, TEXT or INT8.
func (t *Tx) kinds(ctx context.Context, table string, columns []string) ([]string, error) {
	rows, err := t.query(ctx, `SELECT `+strings.Join(columns, ", ")+` FROM `+table+` WHERE 1 = 0`)
	if err != nil {
		return nil, fmt.Errorf("inspecting %s: %w", table, err)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, fmt.Errorf("inspecting %s: %w", table, err)
	}
	kinds := make([]string, len(types))
	for i, t := range types {
		kinds[i] = t.DatabaseTypeName()
	}
	return kinds, rows.Err()
}

// copyFault returns the error of a failed COPY with the number of the row that caused it: the row that could not be read, or an earlier row
// that the server rejected.
func copyFault(err, broken error, rows *rowReader, prev int64) error {
	e, refused := errors.AsType[*pgconn.PgError](err)
	if broken != nil && (!refused || e.Code == copyFailed) {
		return broken
	}
	if refused {
		if line := copyLine(e.Where, rows.table); line > 0 {
			return fmt.Errorf("storing row %d of %s: %w", prev+line, rows.table, err)
		}
	}
	return fmt.Errorf("storing row %d of %s or an earlier row: %w", rows.n, rows.table, err)
}

// copyFailed is the SQLSTATE for a COPY that the client cancelled.
const copyFailed = "57014"

// copyLine returns the line number from the context of a server error in any language, or 0. copyLine first removes the name of the table,
// which may contain digits; the first number in the rest is the line number.
func copyLine(location, table string) int64 {
	line, _ := strconv.ParseInt(digits.FindString(strings.Replace(location, table, "", 1)), 10, 64)
	return line
}

var digits = regexp.MustCompile(`[0-9]+`)
