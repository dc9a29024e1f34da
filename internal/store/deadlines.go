package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// silence is the read timeout of a PostgreSQL connection: the time for which the server may send nothing while it executes a
// statement other than COMMIT. Without this timeout, a call would wait forever after a network failure, and would keep its
// connection and its locks. A statement_timeout is no alternative: it would also interrupt a commit that waits for the replica, and
// PostgreSQL reports such a commit as a success.
const silence = time.Minute

// connectTime is the timeout of a connection attempt, unless the URL sets connect_timeout.
const connectTime = 5 * time.Second

// dialer detects dead peers within half a minute: peers of idle connections, and peers that do not acknowledge sent data.
var dialer = net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	Control: limitUnacknowledged}

// deadlines holds the read timeouts of the connections of a store. While the embedded Bool is true, reads wait without a timeout.
type deadlines struct {
	atomic.Bool
	limit atomic.Int64 // read timeout in nanoseconds; 0 = the constant silence

	mu    sync.Mutex
	lines map[*deadlineConn]struct{} // open connections
}

// stopReadTimeout is the read timeout of all connections while the process stops. After the first read has timed out, the read timeout
// becomes nextReadTimeout, because the reads of all connections wait for the same server.
const stopReadTimeout, nextReadTimeout = time.Second, 100 * time.Millisecond

// errStopping is returned to callers that need a new connection after Abort was called because the process ends.
var errStopping = errors.New("the process is stopping: it opens no new connections")

// end sets the read timeout of all connections to stopReadTimeout, also for running reads, and makes dial reject new connections.
func (p *deadlines) end() {
	p.limit.CompareAndSwap(0, int64(stopReadTimeout))
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.lines {
		c.end()
	}
}

// ending reports whether the process is stopping, which sets a final time limit for every connection.
func (p *deadlines) ending() bool { return p.limit.Load() != 0 }

// listening returns the dial function for one PostgreSQL connection with the silence timeout. pgx also calls dial to cancel a running
// statement. While a COMMIT runs, dial fails, because PostgreSQL shows the changes of a cancelled COMMIT before the replica has them.
//
// The second result, the function "stands", stores, in the deadlineConn, the status that the server has reported.
func (p *deadlines) listening() (dial func(ctx context.Context, network, address string) (net.Conn, error), stands func(*pgconn.PgConn)) {
	var line atomic.Pointer[deadlineConn]
	stands = func(c *pgconn.PgConn) {
		if st, is := c.CustomData()[statusKey].(serverStatus); is {
			line.Load().stand.Store(&st)
		}
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if c := line.Load(); c != nil && c.commits.Load() {
			return nil, errors.New("a running COMMIT cannot be cancelled")
		}
		if p.ending() {
			return nil, errStopping
		}
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &deadlineConn{Conn: conn, patience: p}
		line.Store(c)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.lines == nil {
			p.lines = map[*deadlineConn]struct{}{}
		}
		p.lines[c] = struct{}{}
		return c, nil
	}, stands
}

// closeTo closes the connections to servers for which old returns true. A statement that waits on a closed connection fails.
func (p *deadlines) closeTo(old func(serverStatus) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.lines {
		if st := c.stand.Load(); st != nil && old(*st) {
			_ = c.Conn.Close()
		}
	}
}

// deadlineConn is a network connection whose reads time out if the server sends nothing for too long.
type deadlineConn struct {
	net.Conn
	patience *deadlines
	stand    atomic.Pointer[serverStatus] // status reported by the server; nil = not queried
	waits    atomic.Bool                  // the statement that was sent last has no read timeout
	// A COMMIT was sent, and its outcome is unknown. A COMMIT may wait for a replica, so its response has no timeout: a COMMIT that the
	// client abandons keeps waiting in the server, and so do all later COMMITs, until no connection is free.
	commits atomic.Bool

	mu sync.Mutex
	// until is the read deadline set by the user of the connection; zero = none.
	until time.Time
	// since is the time at which the current read started; zero = no read is waiting.
	since time.Time
}

// Close ends the connection.
func (c *deadlineConn) Close() error {
	c.patience.mu.Lock()
	delete(c.patience.lines, c)
	c.patience.mu.Unlock()
	return c.Conn.Close()
}

func (c *deadlineConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	return c.Conn.SetDeadline(t)
}

func (c *deadlineConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	return c.Conn.SetReadDeadline(t)
}

func (c *deadlineConn) Read(p []byte) (int, error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	began := c.since
	c.since = time.Time{}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && (c.until.IsZero() || time.Now().Before(c.until)) {
		err = fmt.Errorf("no response within %v: %w", time.Since(began).Round(time.Millisecond), err)
		if c.patience.ending() {
			c.patience.limit.Store(int64(nextReadTimeout))
		}
	}
	return n, err
}

// begin sets the deadline of a read.
func (c *deadlineConn) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Now() // socket deadlines use the real clock, not an emulated clock
	return c.bound()
}

// end sets the deadline of a waiting read again after the read timeout has changed.
func (c *deadlineConn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.since.IsZero() {
		_ = c.bound() // an error means that the connection is closed and no read waits
	}
}

// bound sets the deadline of a read to c.since plus the read timeout, or to c.until if c.until is earlier or if no read timeout applies.
func (c *deadlineConn) bound() error {
	end := c.since.Add(cmp.Or(time.Duration(c.patience.limit.Load()), silence))
	if !c.patience.ending() && (c.patience.Load() || c.waits.Load() || c.commits.Load()) || !c.until.IsZero() && c.until.Before(end) {
		end = c.until
	}
	return c.Conn.SetReadDeadline(end)
}
