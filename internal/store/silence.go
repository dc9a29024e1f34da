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

// silence is the time that PostgreSQL may send nothing for a statement, except a commit, before its connection is closed. Without
// this timeout, a call would wait forever after a network failure, and would hold its connection and its locks. A statement_timeout
// is no alternative: it would also interrupt a commit that waits for the replica, and PostgreSQL reports such a commit as a
// success.
const silence = time.Minute

// connectTime is the timeout of a connection attempt, unless the URL sets connect_timeout.
const connectTime = 5 * time.Second

// dialer detects dead peers within half a minute: peers of idle connections, and peers that do not acknowledge sent data.
var dialer = net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	Control: untaken}

// deadlines holds the read timeouts of the connections of a store. While the embedded Bool is true, reads wait without a timeout.
type deadlines struct {
	atomic.Bool
	limit atomic.Int64 // read timeout in nanoseconds; 0 = the constant silence

	mu    sync.Mutex
	lines map[*deadlineConn]struct{} // that are open
}

// At the end of a process a response may take lastWord. After one response timed out, other responses get nextWord, because they
// would wait for the same server.
const lastWord, nextWord = time.Second, 100 * time.Millisecond

// errStopping is returned to callers that need a new connection after the process has run out of time.
var errStopping = errors.New("the process ends: it makes no connection any more")

// end shortens all waits, including those in progress, and rejects new connections.
func (p *deadlines) end() {
	p.limit.CompareAndSwap(0, int64(lastWord))
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.lines {
		c.end()
	}
}

// ending reports whether the process is stopping, which sets a final time limit for every connection.
func (p *deadlines) ending() bool { return p.limit.Load() != 0 }

// current returns the current read timeout.
func (p *deadlines) current() time.Duration { return cmp.Or(time.Duration(p.limit.Load()), silence) }

// listening returns the dialer for one PostgreSQL connection with a silence timeout; pgx dials again to cancel a running statement
// after a timeout. A commit is never cancelled: PostgreSQL would make the commit visible before its replica has it.
//
// The returned function stands records the server's reported status on the connection.
func (p *deadlines) listening() (dial func(ctx context.Context, network, address string) (net.Conn, error), stands func(*pgconn.PgConn)) {
	var line atomic.Pointer[deadlineConn]
	stands = func(c *pgconn.PgConn) {
		if st, is := c.CustomData()[standing].(serverStatus); is {
			line.Load().stand.Store(&st)
		}
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if c := line.Load(); c != nil && c.commits.Load() {
			return nil, errors.New("a commit is not cancelled")
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

// closeTo closes the connections to matching servers. A statement that waits on such a connection fails with a lost connection.
func (p *deadlines) closeTo(old func(serverStatus) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.lines {
		if st := c.stand.Load(); st != nil && old(*st) {
			_ = c.Conn.Close()
		}
	}
}

// deadlineConn is a connection whose reads time out after a silence.
type deadlineConn struct {
	net.Conn
	patience *deadlines
	stand    atomic.Pointer[serverStatus] // status reported by the server; nil = not queried
	waits    atomic.Bool                  // no timeout for the statement that was sent last
	// A COMMIT was sent, and its outcome is unknown. A COMMIT waits for the replica without a timeout: an abandoned COMMIT would
	// keep waiting in the server, and the next COMMIT beside it, until all connections are in use.
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
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() && (c.until.IsZero() || time.Now().Before(c.until)) {
		err = fmt.Errorf("no answer in %v: %w", time.Since(began).Round(time.Millisecond), err)
		if c.patience.ending() {
			c.patience.limit.Store(int64(nextWord))
		}
	}
	return n, err
}

// begin sets the deadline of a read.
func (c *deadlineConn) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Now() // socket deadlines use real time
	return c.bound()
}

// end shortens the deadline of a waiting read.
func (c *deadlineConn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.since.IsZero() {
		_ = c.bound() // a closed connection has no waiting read
	}
}

// bound sets the deadline of a read to the user's deadline or to the end of the silence timeout, counted from since.
func (c *deadlineConn) bound() error {
	end := c.since.Add(c.patience.current())
	if !c.patience.ending() && (c.patience.Load() || c.waits.Load() || c.commits.Load()) || !c.until.IsZero() && c.until.Before(end) {
		end = c.until
	}
	return c.Conn.SetReadDeadline(end)
}
