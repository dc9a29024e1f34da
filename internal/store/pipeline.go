package store

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// pipe is the PostgreSQL connection of one transaction, with a queue of statements; the first queued statement is BEGIN. The queued
// statements wait until the result of a statement is needed, and are then sent together with this statement in one round trip. The server
// executes the statements in the order in which they were queued.
type pipe struct {
	conn           *sql.Conn // nil = the transaction has ended
	pooled         bool      // true if conn came from the pool; release returns conn to the pool
	pg             *pgx.Conn // the underlying connection of conn
	line           *deadlineConn
	life           context.Context // ends with the transaction
	waiting        []statement
	lastWithCommit bool // the last statements are sent together with COMMIT, unless one of them has a check
	slow           *slowStatements
}

// statement is a queued statement.
type statement struct {
	query string
	args  []any
	// check receives the number of changed rows and may return an error; nil = no check.
	check  func(rows int64) error
	result *question // receives the result; nil = the result is not needed
}

// maxQueued is the maximum number of queued statements.
const maxQueued = 500

// newPipe queues the statement "begin" without sending it. The pipe uses the connection db or, if db is a pool, a connection from it.
func newPipe(ctx context.Context, db beginner, begin string) (*pipe, error) {
	p := &pipe{life: ctx, waiting: []statement{{query: begin}}}
	var err error
	switch db := db.(type) {
	case *sql.Conn:
		p.conn = db
	case *sql.DB:
		p.pooled = true
		if p.conn, err = db.Conn(ctx); err != nil {
			return nil, err
		}
	}
	err = p.conn.Raw(func(raw any) error {
		p.pg = pgxOf(raw)
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, p.release())
	}
	p.line = lineOf(p.pg)
	return p, nil
}

// pgxOf returns the pgx connection of a database/sql driver connection.
func pgxOf(raw any) *pgx.Conn { return raw.(*stdlib.Conn).Conn() }

// lineOf returns the network connection of a pgx connection; nil = no silence timeout applies.
func lineOf(c *pgx.Conn) *deadlineConn {
	line := c.PgConn().Conn()
	if secure, is := line.(*tls.Conn); is {
		line = secure.NetConn()
	}
	inner, _ := line.(*deadlineConn)
	return inner
}

// ended reports whether the session is known to have ended.
func (p *pipe) ended() bool { return p != nil && p.pg.IsClosed() }

// errLate returns sql.ErrTxDone if the transaction has ended, and nil while statements can still run.
func (p *pipe) errLate() error {
	if p != nil && p.life.Err() != nil {
		return sql.ErrTxDone
	}
	return nil
}

// unbegun reports whether nothing was sent to the server yet and only BEGIN is queued.
func (p *pipe) unbegun() bool { return p.idle() && len(p.waiting) == 1 }

// idle reports whether no transaction is open on the server.
func (p *pipe) idle() bool { return p.pg.PgConn().TxStatus() == 'I' }

// push sends the queued statements and reads their results. On a nil pipe (SQLite) push does nothing.
func (p *pipe) push(ctx context.Context) error {
	if err := p.errLate(); err != nil || p == nil || len(p.waiting) == 0 {
		return err
	}
	return p.answer(ctx)
}

// question is a statement whose result is needed.
type question struct {
	statement
	changed int64 // number of changed rows
	rows    []fewValues
}

// first returns the first row of the result.
func (q *question) first(err error) row {
	if err == nil && len(q.rows) == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		return failed{err}
	}
	return q.rows[0]
}

// answer sends the queued statements and the statements in asked, in one round trip, and stores the results in asked. After a
// failed statement the server skips the following statements.
func (p *pipe) answer(ctx context.Context, asked ...*question) error {
	all := make([]*question, 0, len(p.waiting)+len(asked))
	for _, s := range p.waiting {
		q := s.result
		if q == nil {
			q = &question{statement: s}
		}
		all = append(all, q)
	}
	p.waiting = nil
	all = append(all, asked...)
	var b pgx.Batch
	for _, q := range all {
		b.Queue(q.query, q.args...)
	}
	return p.conn.Raw(func(any) (err error) {
		results := p.pg.SendBatch(ctx, &b)
		defer func() { err = cmp.Or(err, results.Close()) }()
		for _, q := range all {
			began := time.Now() // results arrive in the order of the statements
			err := q.read(results)
			p.slow.add(q.query, began)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (q *question) read(results pgx.BatchResults) error {
	found, err := results.Query()
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		values, err := found.Values()
		if err != nil {
			return err
		}
		for i, v := range values {
			if values[i], err = plain(v); err != nil {
				return err
			}
		}
		q.rows = append(q.rows, values)
	}
	if found.Err() != nil {
		return found.Err()
	}
	if q.changed = found.CommandTag().RowsAffected(); q.check != nil {
		return q.check(q.changed)
	}
	return nil
}

// Commit commits the transaction.
func (p *pipe) Commit() error {
	if p.unbegun() {
		p.waiting = nil // nothing was sent to the server, so no COMMIT is needed
		return nil
	}
	if p.lastWithCommit && len(p.waiting) > 0 && !slices.ContainsFunc(p.waiting, func(s statement) bool { return s.check != nil }) {
		p.waiting = append(p.waiting, statement{query: "COMMIT"})
		return committing(p.pg, func() error { return p.push(p.life) })
	}
	// COMMIT is sent in a separate round trip, after all results were read and checked: only the response to COMMIT can then be lost.
	if err := p.push(p.life); err != nil {
		return &unsentError{err}
	}
	return committing(p.pg, func() error { return p.exchange("commit", "COMMIT") })
}

// committing runs f, which sends a COMMIT, without the silence timeout and without cancellation while the outcome of COMMIT is unknown.
func committing(c *pgx.Conn, f func() error) error {
	line := lineOf(c)
	if line == nil {
		return f()
	}
	line.commits.Store(true)
	err := f()
	if !c.IsClosed() {
		line.commits.Store(false)
	}
	return err
}

func (p *pipe) exchange(query, answer string) error {
	defer p.slow.add(query, time.Now())
	return p.conn.Raw(func(any) error {
		tag, err := p.pg.Exec(p.life, query)
		if err == nil && tag.String() != answer {
			err = pgx.ErrTxCommitRollback
		}
		return err
	})
}

// finish ends a read-only transaction, and returns the connection to the pool when the server has ended the transaction. The caller
// of the transaction has all results already and does not wait for finish.
func (p *pipe) finish(ctx context.Context) {
	p.life = ctx
	if p.idle() || p.pg.IsClosed() || p.exchange("END", "COMMIT") != nil {
		_ = p.Rollback()
		return
	}
	_ = p.release()
}

// Rollback undoes uncommitted changes and returns the connection to the pool.
func (p *pipe) Rollback() error {
	if p.conn == nil {
		return nil
	}
	p.waiting = nil
	var err error
	if !p.pg.IsClosed() && !p.idle() {
		if err = p.exchange("rollback", "ROLLBACK"); err != nil {
			// After a failed ROLLBACK the state of the session is unknown, so the connection is closed.
			err = errors.Join(err, p.conn.Raw(func(any) error { return p.pg.Close(p.life) }))
		}
	}
	return errors.Join(err, p.release())
}

func (p *pipe) release() (err error) {
	if p.pooled {
		err = p.conn.Close()
	}
	p.conn = nil
	return err
}

// The following methods of Tx run or queue statements; on SQLite every statement runs at once.

// Prefetch runs f, which calls reading methods of t, and sends the queries of these calls in one round trip. The calls in f return
// invalid results; when the caller repeats a call after Prefetch, the call returns the prefetched result, until the transaction
// writes. f must not take new locks. On SQLite, Prefetch does nothing.
func (t *Tx) Prefetch(ctx context.Context, f func()) error {
	if t.pipe == nil && t.groupChange == nil {
		return nil
	}
	t.recording = true
	f()
	t.recording = false
	asked := t.known
	t.known = nil
	var err error
	if t.groupChange != nil {
		err = t.groupChange.askAll(asked)
	} else {
		err = t.pipe.answer(ctx, asked...)
	}
	if err == nil {
		t.known = asked
	}
	return err
}

// enqueue returns the result of a prefetched query, or sends the query with the queued statements; nil = the caller must send the query.
func (t *Tx) enqueue(ctx context.Context, query string, args []any) (*question, error) {
	q := &question{statement: statement{query: query, args: sanitizeText(args)}}
	i := slices.IndexFunc(t.known, func(k *question) bool { return k.query == query && reflect.DeepEqual(k.args, q.args) })
	switch {
	case t.recording:
		t.known = append(t.known, q)
		return q, nil
	case i >= 0:
		return t.known[i], nil
	case t.groupChange != nil:
		return q, t.groupChange.askAll([]*question{q})
	case t.pipe != nil && len(t.pipe.waiting) > 0 && t.pipe.errLate() == nil: // there are queued statements
		return q, t.pipe.answer(ctx, q)
	}
	return nil, nil
}

// row is one row of a result.
type row interface{ Scan(into ...any) error }

type failed struct{ error }

func (f failed) Scan(...any) error { return f.error }

func (t *Tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	args = sanitizeText(args)
	t.known = nil
	if t.groupChange != nil {
		return 0, t.groupChange.rejectGrouping()
	}
	if err := t.pipe.errLate(); err != nil {
		return 0, err
	}
	if t.pipe != nil && len(t.pipe.waiting) > 0 {
		q := &question{statement: statement{query: query, args: args}}
		err := t.pipe.answer(ctx, q)
		return q.changed, err
	}
	result, err := t.result(ctx, query, args)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (t *Tx) result(ctx context.Context, query string, args []any) (sql.Result, error) {
	defer t.slow.add(query, time.Now())
	if t.lasts && t.pipe == nil { // SQLite needs only a moment for a row, so no goroutine watches for the end of ctx.
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		ctx = context.WithoutCancel(ctx)
	}
	return t.sql.ExecContext(ctx, query, args...)
}

// run executes a statement whose number of changed rows does not matter.
func (t *Tx) run(ctx context.Context, query string, args ...any) error {
	_, err := t.exec(ctx, query, args...)
	return err
}

// runAll executes statements in order, until one fails.
func (t *Tx) runAll(ctx context.Context, all ...statement) error {
	return forEach(slices.Values(all), func(s statement) error { return t.run(ctx, s.query, s.args...) })
}

// write returns a statement for runAll.
func write(query string, args ...any) statement { return statement{query: query, args: args} }

// execQueued queues a statement whose result is not needed now; check (nil = none) receives the number of changed rows. If check or
// the statement fails, the next statement whose result is needed, or the commit, returns the error.
func (t *Tx) execQueued(ctx context.Context, check func(rows int64) error, query string, args ...any) error {
	t.known = nil
	if t.groupChange != nil {
		t.groupChange.writes = append(t.groupChange.writes, statement{query: query, args: args, check: check})
		return nil
	}
	if t.pipe != nil {
		t.pipe.waiting = append(t.pipe.waiting, statement{query: query, args: sanitizeText(args), check: check})
		if len(t.pipe.waiting) >= maxQueued {
			return t.pipe.push(ctx)
		}
		return t.pipe.errLate()
	}
	n, err := t.exec(ctx, query, args...)
	if err != nil || check == nil {
		return err
	}
	return check(n)
}

// row queries a single row. On PostgreSQL the query is sent in one round trip with the queued statements.
func (t *Tx) row(ctx context.Context, query string, args ...any) row {
	if q, err := t.enqueue(ctx, query, args); q != nil {
		return q.first(err)
	}
	if err := t.pipe.errLate(); err != nil {
		return failed{err}
	}
	defer t.slow.add(query, time.Now())
	return t.sql.QueryRowContext(ctx, query, sanitizeText(args)...)
}

// queue queues a query of a single row. The returned function sends the queue and returns the row; it must be called before the
// transaction ends. On SQLite the query runs when the returned function is called.
func (t *Tx) queue(ctx context.Context, query string, args ...any) func() row {
	if t.pipe == nil || t.groupChange != nil {
		return func() row { return t.row(ctx, query, args...) }
	}
	q := &question{statement: statement{query: query, args: sanitizeText(args)}}
	q.result = q
	t.pipe.waiting = append(t.pipe.waiting, q.statement)
	return func() row { return q.first(t.pipe.push(ctx)) }
}

// queryOutside runs queries on PostgreSQL in one round trip, outside of the transaction t. The BEGIN of t must not have been sent yet.
func (t *Tx) queryOutside(ctx context.Context, asked ...*question) error {
	begin := t.pipe.waiting
	t.pipe.waiting = nil
	defer func() { t.pipe.waiting = begin }()
	return t.pipe.answer(ctx, asked...)
}

// rows is the result of a query. The rows become invalid when the transaction ends.
type rows struct {
	*sql.Rows
	stop func() bool
}

// Close ends the result, so that the connection can run the next statement.
func (r *rows) Close() error {
	r.stop()
	return r.Rows.Close()
}

func (t *Tx) query(ctx context.Context, query string, args ...any) (*rows, error) {
	if t.groupChange != nil {
		return nil, t.groupChange.rejectGrouping()
	}
	if err := t.pipe.push(ctx); err != nil {
		return nil, err
	}
	found, err := t.found(ctx, query, sanitizeText(args))
	if err != nil {
		return nil, err
	}
	stop := func() bool { return true }
	if t.pipe != nil {
		stop = context.AfterFunc(t.pipe.life, func() { _ = found.Close() })
	}
	return &rows{found, stop}, nil
}

// cursor is the common interface of rows and bufferedRows.
type cursor interface {
	Next() bool
	Scan(into ...any) error
	Err() error
	Close() error
}

// bufferedRows is a query result whose rows are all in memory; at is the index of the row after the current row.
type bufferedRows struct {
	rows []fewValues
	at   int
}

func (c *bufferedRows) Next() bool            { c.at++; return c.at <= len(c.rows) }
func (c *bufferedRows) Scan(dst ...any) error { return c.rows[c.at-1].Scan(dst...) }
func (*bufferedRows) Err() error              { return nil }
func (*bufferedRows) Close() error            { return nil }

// queryQueued runs a query with few result rows: on PostgreSQL the query is sent in one round trip with the queued statements.
func (t *Tx) queryQueued(ctx context.Context, query string, args ...any) (cursor, error) {
	if q, err := t.enqueue(ctx, query, args); q != nil {
		return &bufferedRows{rows: q.rows}, err
	}
	return t.query(ctx, query, args...)
}

func (t *Tx) found(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	defer t.slow.add(query, time.Now())
	return t.sql.QueryContext(ctx, query, args...)
}

// patiently runs f without the silence timeout, so that its queries may read and sort as long as they need.
func (t *Tx) patiently(f func() error) error {
	if t.pipe != nil && t.pipe.line != nil {
		t.pipe.line.waits.Store(true)
		defer t.pipe.line.waits.Store(false)
	}
	return f()
}

// fewValues is a row of a pipelined result, with each value in the form that database/sql would return.
type fewValues []any

// plain converts a column value that pgx returns to the value that database/sql would return.
func plain(v any) (any, error) {
	switch v := v.(type) {
	case int16:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case float32:
		return float64(v), nil
	case driver.Valuer: // for example the result of SUM, which has the SQL type numeric
		return v.Value()
	}
	return v, nil
}

// Scan copies the values like (*sql.Row).Scan.
func (v fewValues) Scan(dst ...any) error {
	if len(dst) != len(v) {
		return fmt.Errorf("%d columns for %d variables", len(v), len(dst))
	}
	for i := range v {
		if err := setTo(dst[i], v[i]); err != nil {
			return fmt.Errorf("column %d: %w", i, err)
		}
	}
	return nil
}

func setTo(dst, value any) error {
	if scanner, is := dst.(sql.Scanner); is {
		return scanner.Scan(value)
	}
	variable, found := reflect.ValueOf(dst).Elem(), reflect.ValueOf(value)
	switch {
	case value != nil && found.Type().AssignableTo(variable.Type()):
		variable.Set(found)
	case found.Kind() == reflect.String && variable.Kind() == reflect.String:
		variable.SetString(found.String())
	case found.CanInt() && variable.CanInt() && !variable.OverflowInt(found.Int()):
		variable.SetInt(found.Int())
	case found.CanInt() && variable.Kind() == reflect.Bool && found.Int()&^1 == 0:
		variable.SetBool(found.Int() == 1)
	case found.CanInt() && variable.Kind() == reflect.String:
		variable.SetString(strconv.FormatInt(found.Int(), 10))
	case found.Kind() == reflect.String && variable.CanInt():
		n, err := strconv.ParseInt(found.String(), 10, variable.Type().Bits())
		variable.SetInt(n)
		return err
	default:
		return fmt.Errorf("cannot store a %T in a %s", value, variable.Type())
	}
	return nil
}
