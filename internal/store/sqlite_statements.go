package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"slices"
	"strings"

	"modernc.org/sqlite"
)

const (
	maxPrepared     = 100  // maximum number of prepared statements of a connection that are not in use
	maxPreparedText = 4096 // maximum length of the text of a prepared statement, in bytes
)

// openPool opens a pool of SQLite connections that keep statements prepared, because SQLite takes longer to parse most statements of
// this package than to run them.
func openPool(source string) (*sql.DB, error) {
	connector, err := sqlite.NewConnector(source)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(preparing{connector}), nil
}

// preparing is a connector whose connections keep statements prepared.
type preparing struct{ driver.Connector }

// Connect opens a connection.
func (p preparing) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &preparedConn{sqliteConn: conn.(sqliteConn), idle: map[string]sqliteStmt{}}, nil
}

// sqliteConn has the methods of the driver's connections that database/sql and this package call.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
	sqlite.DBStatus
}

type sqliteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// preparedConn is a connection with prepared statements. A statement is in idle unless it runs or its rows are open, so that the same
// query can run again while its rows are read. Only one goroutine uses a connection at a time.
type preparedConn struct {
	sqliteConn
	idle map[string]sqliteStmt // keyed by the SQL text
}

// take returns a statement for a query, or nil if the query must not stay prepared: SQLite runs some pragmas when it prepares them, and
// long texts such as an INSERT of many rows would replace frequent statements.
func (c *preparedConn) take(ctx context.Context, query string) (sqliteStmt, error) {
	if stmt, ok := c.idle[query]; ok {
		delete(c.idle, query)
		return stmt, nil
	}
	verb, _, _ := strings.Cut(query, " ")
	if len(query) > maxPreparedText || !slices.Contains([]string{"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}, verb) {
		return nil, nil
	}
	// SQLite reads a plain parameter as a limit when it plans, and so plans the statement again for each value; it does not read "+$1".
	stmt, err := c.PrepareContext(ctx, strings.ReplaceAll(query, "LIMIT $", "LIMIT +$"))
	if err != nil {
		return nil, err
	}
	return stmt.(sqliteStmt), nil
}

// put keeps a statement for the next run of its query. If maxPrepared statements are idle, put closes one of them.
func (c *preparedConn) put(query string, stmt sqliteStmt) {
	closing := c.idle[query]
	if closing == nil && len(c.idle) == maxPrepared {
		for name := range c.idle {
			closing = c.idle[name]
			delete(c.idle, name)
			break
		}
	}
	c.idle[query] = stmt
	if closing != nil {
		_ = closing.Close() // the error of its last run, which the caller of that run has received
	}
}

// ExecContext implements driver.ExecerContext.
func (c *preparedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	stmt, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	if stmt == nil {
		return c.sqliteConn.ExecContext(ctx, query, args)
	}
	defer c.put(query, stmt)
	return stmt.ExecContext(ctx, args)
}

// QueryContext implements driver.QueryerContext.
func (c *preparedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	stmt, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	if stmt == nil {
		return c.sqliteConn.QueryContext(ctx, query, args)
	}
	rows, err := stmt.QueryContext(ctx, args)
	if err != nil {
		c.put(query, stmt)
		return nil, err
	}
	return &preparedRows{sqliteRows: rows.(sqliteRows), close: func() { c.put(query, stmt) }}, nil
}

// Close closes the idle statements and the connection.
func (c *preparedConn) Close() error {
	for _, stmt := range c.idle {
		_ = stmt.Close()
	}
	clear(c.idle)
	return c.sqliteConn.Close()
}

type sqliteRows interface {
	driver.Rows
	driver.RowsColumnTypeDatabaseTypeName
}

// preparedRows makes the statement idle when the rows are closed.
type preparedRows struct {
	sqliteRows
	close func()
}

// Close implements driver.Rows. database/sql calls it once.
func (r *preparedRows) Close() error {
	err := r.sqliteRows.Close()
	r.close()
	return err
}
