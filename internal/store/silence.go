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

// silence is the time for which PostgreSQL may send nothing for a statement, except a commit, before its connection is given up.
// Without it a call would wait for ever when the network has lost its way, and would hold its connection and its locks all that
// time. It is no statement_timeout: that would also end the wait of a commit for the replica, and PostgreSQL calls such a commit a
// success.
const silence = time.Minute

// connectTime is the timeout of a connection attempt, if the URL does not say connect_timeout.
const connectTime = 5 * time.Second

// dialer finds dead peers within half a minute: those of idle connections, and those that take nothing of what was sent.
var dialer = net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	Control: untaken}

// deadlines holds the read timeouts of the connections of a store. While it is true they wait as long as it takes.
type deadlines struct {
	atomic.Bool
	limit atomic.Int64 // nanoseconds; 0 = silence

	mu    sync.Mutex
	lines map[*deadlineConn]struct{} // that are open
}

// At the end of a process a word may take lastWord. After one that did not come, others have nextWord: they would wait for the same.
const lastWord, nextWord = time.Second, 100 * time.Millisecond

// errStopping is returned to callers that want another connection when the process has no more time.
var errStopping = errors.New("the process ends: it makes no connection any more")

// end shortens all waits, those that have begun included, and refuses new connections.
func (p *deadlines) end() {
	p.limit.CompareAndSwap(0, int64(lastWord))
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.lines {
		c.end()
	}
}

// ending reports whether there is no more time.
func (p *deadlines) ending() bool { return p.limit.Load() != 0 }

// current returns the current read timeout.
func (p *deadlines) current() time.Duration { return cmp.Or(time.Duration(p.limit.Load()), silence) }

// listening returns the dialer of one connection to PostgreSQL that ends after a silence. pgx dials once more to cancel what a
// connection was about when that ended. A commit is never cancelled: PostgreSQL would show it to everybody without its replica.
//
// stands notes on the line what the server said of itself.
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

// closeTo closes the connections to servers of a kind. A statement that waits there fails: its connection is lost.
func (p *deadlines) closeTo(old func(serverStatus) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.lines {
		if st := c.stand.Load(); st != nil && old(*st) {
			_ = c.Conn.Close()
		}
	}
}

// deadlineConn is a connection whose reads end after a silence.
type deadlineConn struct {
	net.Conn
	patience *deadlines
	stand    atomic.Pointer[serverStatus] // what its server said of itself; nil = it was not asked
	waits    atomic.Bool                  // for the statement that was sent last, however long it is silent
	// A commit was sent, and its outcome is not known yet. It waits for the replica as long as that takes: given up, it would go on
	// waiting in the server, and the next one beside it, until no connection is free.
	commits atomic.Bool

	mu sync.Mutex
	// until is the deadline of the user of the connection; zero = none.
	until time.Time
	// since is the time at which the waiting read began; zero = none does.
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

// begin sets the deadline of one read.
func (c *deadlineConn) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Now() // of a socket: real time
	return c.bound()
}

// end bounds the read that waits, if one does.
func (c *deadlineConn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.since.IsZero() {
		_ = c.bound() // a connection that is closed waits no more
	}
}

// bound lets a read wait from since on as long as its user wants, or until the silence is too long.
func (c *deadlineConn) bound() error {
	end := c.since.Add(c.patience.current())
	if !c.patience.ending() && (c.patience.Load() || c.waits.Load() || c.commits.Load()) || !c.until.IsZero() && c.until.Before(end) {
		end = c.until
	}
	return c.Conn.SetReadDeadline(end)
}
