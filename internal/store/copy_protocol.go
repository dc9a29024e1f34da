package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
)

// copyRows stores rows by COPY, which only PostgreSQL has. copyRows uses the text format, because a server error then contains the line
// number. During a COPY, the connection cannot run another statement. If the partition for a row must be created first, the COPY ends
// before this row, and a new COPY starts with this row.
func (l *Restore) copyRows(ctx context.Context, rows *rowReader) error {
	kinds, err := l.tx.kinds(ctx, rows.table, rows.columns)
	if err != nil {
		return err
	}
	// Only the table scan_events has partitions.
	day := -1
	for i, name := range rows.columns {
		if rows.table == "scan_events" && name == "day" {
			day = i
		}
	}
	dst := `COPY ` + rows.table + ` (` + strings.Join(rows.columns, ", ") + `) FROM STDIN`
	var waiting []any // first row of the next COPY; nil = none
	for {
		prev := rows.n
		if waiting != nil {
			prev--
		}
		source := &copySource{next: func() ([]any, error) {
			row := waiting
			waiting = nil
			if row == nil {
				var err error
				if row, err = rows.next(); err != nil {
					return nil, err
				}
			}
			if day >= 0 && l.lacksRoom(row[day]) {
				waiting = row
				return nil, io.EOF
			}
			for i, value := range row {
				if _, number := value.(int64); number && kinds[i] == "TEXT" {
					return nil, fmt.Errorf("row %d of %s: %s is not a text", rows.n, rows.table, rows.columns[i])
				}
			}
			return row, nil
		}}
		err := l.conn.Raw(func(driver any) error {
			_, err := pgxOf(driver).PgConn().CopyFrom(ctx, source, dst)
			return err
		})
		if broken := source.end(); err != nil || broken != nil {
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

// kinds returns the types of the columns, TEXT or INT8.
func (t *Tx) kinds(ctx context.Context, table string, columns []string) ([]string, error) {
	rows, err := t.query(ctx, `SELECT `+strings.Join(columns, ", ")+` FROM `+table+` WHERE 1 = 0`)
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", table, err)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", table, err)
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
	return fmt.Errorf("storing row %d of %s or one before it: %w", rows.n, rows.table, err)
}

// copyFailed is the SQLSTATE for a COPY that the client cancelled.
const copyFailed = "57014"

// copyLine returns the line number from the context of a server error in any language, or 0. copyLine first removes the name of the table,
// which may contain digits; the first number in the rest is the line number.
func copyLine(location, table string) int64 {
	location = strings.Replace(location, table, "", 1)
	from := strings.IndexFunc(location, isDigit)
	if from < 0 {
		return 0
	}
	location = location[from:]
	if to := strings.IndexFunc(location, func(r rune) bool { return !isDigit(r) }); to >= 0 {
		location = location[:to]
	}
	line, _ := strconv.ParseInt(location, 10, 64)
	return line
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

// copySource provides rows in the text format of COPY. The goroutine of CopyFrom that reads the rows may still run after the connection of
// a COPY is lost; the method end stops it.
type copySource struct {
	next func() ([]any, error)

	mu    sync.Mutex
	text  []byte // remaining text of the current chunk
	space []byte
	err   error // why no row follows: io.EOF, or the error of the row that could not be read
	ended bool
}

// copyText is the approximate size in bytes of a chunk of COPY text.
const copyText = 32 << 10

// errBroken is the error with which the client aborts a COPY; it has no details, because it appears in the log of the database server.
var errBroken = errors.New("a row cannot be read")

func (c *copySource) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return 0, errBroken
	}
	if len(c.text) == 0 {
		c.text = c.space[:0]
		for c.err == nil && len(c.text) < copyText {
			var row []any
			if row, c.err = c.next(); c.err == nil {
				c.text = appendCopy(c.text, row)
			}
		}
		c.space = c.text
	}
	n := copy(p, c.text)
	c.text = c.text[n:]
	if n > 0 || c.err == nil || c.err == io.EOF {
		if n == 0 {
			return 0, c.err
		}
		return n, nil
	}
	return 0, errBroken
}

// end stops the reading of rows and returns the error of the row that could not be read; nil = no such row.
func (c *copySource) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.err == io.EOF {
		return nil
	}
	return c.err
}

// appendCopy appends a row in the COPY text format. A text that PostgreSQL cannot store becomes NULL, as in sanitizeText.
func appendCopy(b []byte, row []any) []byte {
	for i, value := range row {
		if i > 0 {
			b = append(b, '\t')
		}
		switch v := value.(type) {
		case int64:
			b = strconv.AppendInt(b, v, 10)
		case string:
			if !utf8.ValidString(v) || strings.IndexByte(v, 0) >= 0 {
				b = append(b, `\N`...)
				continue
			}
			for {
				special := strings.IndexAny(v, "\\\t\n\r")
				if special < 0 {
					break
				}
				b = append(b, v[:special]...)
				b = append(b, '\\', copyEscapes[v[special]])
				v = v[special+1:]
			}
			b = append(b, v...)
		}
	}
	return append(b, '\n')
}

var copyEscapes = map[byte]byte{'\\': '\\', '\t': 't', '\n': 'n', '\r': 'r'}
