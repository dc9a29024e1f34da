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

// copyRows stores rows by COPY, which PostgreSQL alone has: a stream in the text format, in which a
// server's error says the line. The connection does nothing else meanwhile. So where a row needs
// something done first, the stream ends, and another one begins with that row.
func (l *Restore) copyRows(ctx context.Context, rows *rowReader) error {
	kinds, err := l.tx.kinds(ctx, rows.table, rows.columns)
	if err != nil {
		return err
	}
	// Only scan_events has partitions.
	day := -1
	for i, name := range rows.columns {
		if rows.table == "scan_events" && name == "day" {
			day = i
		}
	}
	dst := `COPY ` + rows.table + ` (` + strings.Join(rows.columns, ", ") + `) FROM STDIN`
	var waiting []any // the first row of the next stream
	for {
		prev := rows.n
		if waiting != nil {
			prev--
		}
		source := &copySource{next: func() ([]any, error) {
			row := waiting
			if waiting = nil; row == nil {
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

// kinds returns the types of columns, TEXT or INT8.
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

// copyFault names the row because of which a COPY failed: one that could not be read, or an earlier
// one that the server refused.
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

// copyFailed is the code of an error that says that the client stopped.
const copyFailed = "57014"

// copyLine returns the line that an error's context names, in whatever language: the
// first number, because no table that is copied has one in its name. 0 = none.
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

// copySource is rows in the text format of COPY. It is read by a goroutine that
// outlives a COPY whose connection is lost, until end.
type copySource struct {
	next func() ([]any, error)

	mu    sync.Mutex
	text  []byte // the rest that is still to be read
	space []byte
	err   error // after text
	ended bool
}

// copyText is about how much text is made at a time, in bytes.
const copyText = 32 << 10

// errBroken is the part of an error that the server and its log see: they need no more.
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

// end stops the reading and returns what was wrong with the rows.
func (c *copySource) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.err == io.EOF {
		return nil
	}
	return c.err
}

// appendCopy appends a row. A text that PostgreSQL cannot hold becomes NULL, as in storable.
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
