package store

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// pipes makes connections to PostgreSQL that do not wait for an answer that
// nobody needs yet: what a transaction has to say is kept and goes out with the
// first statement whose answer is wanted, in one round trip. The server runs it
// one after the other, in this order, as if it had come piece by piece.
type pipes struct{ driver.Connector }

// Connect implements driver.Connector.
func (p pipes) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn := c.(*stdlib.Conn)
	line := conn.Conn().PgConn().Conn()
	if secure, is := line.(*tls.Conn); is {
		line = secure.NetConn()
	}
	below, _ := line.(*impatient)
	return &pipe{Conn: conn, line: below}, nil
}

// pipe is one connection. What it adds holds for a transaction of a Store, whose
// context says so (inPipe); all else is as it was. A statement that was made
// with Prepare does not push what waits: who prepares queues nothing after it.
type pipe struct {
	*stdlib.Conn
	piped   bool        // a transaction is open that may wait
	waiting []statement // of it, not sent yet
	line    *impatient  // what is below it; nil = no silence ends a statement
}

// statement is one that waits.
type statement struct {
	query string
	args  []any
	// check judges how many rows it changed; nil = any number.
	check func(rows int64) error
}

type (
	pipeKey  struct{} // the context is of a transaction that may wait
	laterKey struct{} // the statement may wait; the value is its check
	withKey  struct{} // the query's few rows come with what waited
	aloneKey struct{} // the query needs no transaction
	longKey  struct{} // the statement may say nothing for long
)

// session is where a transaction of a pipe runs.
type session struct {
	pipe *pipe // nil = the connection is somebody else's
	over bool  // what was known when it was given back
}

// ended reports whether it is known that the session is no more.
func (s *session) ended() bool {
	if s.pipe == nil {
		return s.over
	}
	return s.pipe.Conn.Conn().IsClosed()
}

// leave ends the look at the connection: once the commit returns, the pool gives
// it to others.
func (s *session) leave() { s.over, s.pipe = s.ended(), nil }

// inPipe lets a transaction that is begun with the context wait; on is told where
// it runs.
func inPipe(ctx context.Context, on *session) context.Context {
	return context.WithValue(ctx, pipeKey{}, on)
}

// later lets a statement wait until an answer is wanted; a failure is that
// one's. check may be nil.
func later(ctx context.Context, check func(rows int64) error) context.Context {
	return context.WithValue(ctx, laterKey{}, check)
}

// together lets a query that has few rows, of numbers and texts alone, go out
// together with what waits.
func together(ctx context.Context) context.Context {
	return context.WithValue(ctx, withKey{}, true)
}

// alone lets a query go out by itself if the transaction was not begun yet, and
// begin none: it sees the state of this moment, not that of the transaction.
func alone(ctx context.Context) context.Context {
	return context.WithValue(ctx, aloneKey{}, true)
}

// patiently lets a statement read and sort as long as there is much, without a
// word: no silence ends it.
func patiently(ctx context.Context) context.Context {
	return context.WithValue(ctx, longKey{}, true)
}

// bound bounds the silence of what is sent next, unless it is sent patiently.
func (p *pipe) bound(ctx context.Context) {
	if p.line != nil {
		p.line.waits.Store(ctx.Value(longKey{}) != nil)
	}
}

// ResetSession implements driver.SessionResetter.
func (p *pipe) ResetSession(ctx context.Context) error {
	p.bound(ctx)
	return p.Conn.ResetSession(ctx)
}

// deferred is the result of a statement that waits.
type deferred struct{}

func (deferred) LastInsertId() (int64, error) { return 0, errors.ErrUnsupported }
func (deferred) RowsAffected() (int64, error) { return -1, nil }

// BeginTx implements driver.ConnBeginTx.
func (p *pipe) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	p.bound(context.Background())
	on, is := ctx.Value(pipeKey{}).(*session)
	if !is {
		return p.Conn.BeginTx(ctx, o)
	}
	if p.Conn.Conn().IsClosed() {
		return nil, driver.ErrBadConn
	}
	begin := "begin isolation level read committed"
	switch sql.IsolationLevel(o.Isolation) {
	case sql.LevelReadCommitted:
	case sql.LevelRepeatableRead:
		begin = "begin isolation level repeatable read"
	default:
		return nil, fmt.Errorf("no transaction of a pipe is %v", sql.IsolationLevel(o.Isolation))
	}
	if o.ReadOnly {
		begin += " read only"
	}
	p.piped, p.waiting, on.pipe = true, []statement{{query: begin}}, p
	return &pipedTx{p: p, on: on, ctx: ctx}, nil
}

// ExecContext implements driver.ExecerContext.
func (p *pipe) ExecContext(ctx context.Context, query string, named []driver.NamedValue) (driver.Result, error) {
	check, may := ctx.Value(laterKey{}).(func(int64) error)
	if may && p.piped {
		p.waiting = append(p.waiting, statement{query, plain(named), check})
		return deferred{}, nil
	}
	p.bound(ctx)
	if len(p.waiting) == 0 {
		return p.Conn.ExecContext(ctx, query, named)
	}
	tag, _, err := p.send(ctx, statement{query: query, args: plain(named)}, false)
	return driver.RowsAffected(tag.RowsAffected()), err
}

// QueryContext implements driver.QueryerContext.
func (p *pipe) QueryContext(ctx context.Context, query string, named []driver.NamedValue) (driver.Rows, error) {
	p.bound(ctx)
	if len(p.waiting) > 0 && ctx.Value(withKey{}) != nil {
		_, rows, err := p.send(ctx, statement{query: query, args: plain(named)}, true)
		if err != nil {
			return nil, err
		}
		return rows, nil
	}
	if len(p.waiting) == 1 && p.idle() && ctx.Value(aloneKey{}) != nil {
		return p.Conn.QueryContext(ctx, query, named) // what waits is the beginning
	}
	if err := p.push(ctx); err != nil {
		return nil, err
	}
	return p.Conn.QueryContext(ctx, query, named)
}

// PrepareContext implements driver.ConnPrepareContext.
func (p *pipe) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	p.bound(ctx)
	if err := p.push(ctx); err != nil {
		return nil, err
	}
	return p.Conn.PrepareContext(ctx, query)
}

func plain(named []driver.NamedValue) []any {
	args := make([]any, len(named))
	for i, v := range named {
		args[i] = v.Value
	}
	return args
}

// push sends what waits.
func (p *pipe) push(ctx context.Context) error {
	n := len(p.waiting)
	if n == 0 {
		return nil
	}
	last := p.waiting[n-1]
	p.waiting = p.waiting[:n-1]
	_, _, err := p.send(ctx, last, false)
	return err
}

// send sends what waits and one statement more, and returns what that one did,
// or the rows it has. After a failure the server does nothing that follows.
func (p *pipe) send(ctx context.Context, last statement, wanted bool) (tag pgconn.CommandTag, rows *fewRows, err error) {
	all := append(p.waiting, last)
	p.waiting = nil
	var b pgx.Batch
	for _, s := range all {
		b.Queue(s.query, s.args...)
	}
	results := p.Conn.Conn().SendBatch(ctx, &b)
	defer func() {
		if closed := results.Close(); err == nil {
			err = closed
		}
	}()
	for i, s := range all {
		if wanted && i == len(all)-1 {
			found, err := results.Query()
			if err != nil {
				return tag, nil, err
			}
			rows, err = gather(found)
			return tag, rows, err
		}
		if tag, err = results.Exec(); err == nil && s.check != nil {
			err = s.check(tag.RowsAffected())
		}
		if err != nil {
			return tag, nil, err
		}
	}
	return tag, nil, nil
}

// pipedTx is a transaction whose beginning may not have been sent.
type pipedTx struct {
	p   *pipe
	on  *session
	ctx context.Context
}

// Commit implements driver.Tx.
func (t *pipedTx) Commit() error {
	defer t.on.leave()
	p := t.p
	p.bound(context.Background())
	if p.idle() && len(p.waiting) == 1 {
		p.piped, p.waiting = false, nil // nothing was asked or said
		return nil
	}
	// Everything is answered and judged before the commit, which goes out by
	// itself: only then it is known what an answer that is lost was to.
	err := p.push(t.ctx)
	if err != nil {
		err = &unsent{err}
	} else {
		var tag pgconn.CommandTag
		if tag, err = p.Conn.Conn().Exec(t.ctx, "commit"); err == nil && tag.String() != "COMMIT" {
			err = pgx.ErrTxCommitRollback
		}
	}
	if err != nil {
		return errors.Join(err, t.Rollback())
	}
	p.piped = false
	return nil
}

// Rollback implements driver.Tx.
func (t *pipedTx) Rollback() error {
	p := t.p
	p.bound(context.Background())
	p.piped, p.waiting = false, nil
	if p.idle() || p.Conn.Conn().IsClosed() {
		return nil
	}
	if _, err := p.Conn.Conn().Exec(t.ctx, "rollback"); err != nil {
		// Nobody knows in which state it is.
		return errors.Join(err, p.Conn.Conn().Close(t.ctx))
	}
	return nil
}

// idle reports whether the server knows of no transaction.
func (p *pipe) idle() bool { return p.Conn.Conn().PgConn().TxStatus() == 'I' }

// fewRows are the rows of a query, all read.
type fewRows struct {
	columns []string
	rows    [][]driver.Value
}

func gather(found pgx.Rows) (*fewRows, error) {
	defer found.Close()
	few := &fewRows{}
	for _, f := range found.FieldDescriptions() {
		few.columns = append(few.columns, f.Name)
	}
	for found.Next() {
		values, err := found.Values()
		if err != nil {
			return nil, err
		}
		row := make([]driver.Value, len(values))
		for i, v := range values {
			switch v := v.(type) {
			case nil, int64, string, bool:
				row[i] = v
			case int32:
				row[i] = int64(v)
			default:
				return nil, fmt.Errorf("column %s is a %T, which no pipe carries", few.columns[i], v)
			}
		}
		few.rows = append(few.rows, row)
	}
	return few, found.Err()
}

// Columns implements driver.Rows.
func (r *fewRows) Columns() []string { return r.columns }

// Close implements driver.Rows.
func (r *fewRows) Close() error { return nil }

// Next implements driver.Rows.
func (r *fewRows) Next(into []driver.Value) error {
	if len(r.rows) == 0 {
		return io.EOF
	}
	copy(into, r.rows[0])
	r.rows = r.rows[1:]
	return nil
}
