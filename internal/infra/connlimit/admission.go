// Package connlimit limits the number of open connections; connections with a request take precedence over idle connections.
package connlimit

import (
	"cmp"
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// rejectedIdleTimeout is the time for which a connection may be idle after it sent an invalid key or token.
	rejectedIdleTimeout = 10 * time.Second
	// defaultMaxFiles is the assumed limit of open files if the system does not report the limit.
	defaultMaxFiles = 8192
	// minConnections is the minimum number of connections accepted, regardless of the limit of open files.
	minConnections = 16
	// pollInterval is the interval at which a waiting connection checks for an idle connection to replace. A connection that closes
	// wakes the waiting connection immediately.
	pollInterval = 50 * time.Millisecond
)

// Budget returns the numbers of connections that the public listeners and a separate admin listener accept if the process may open
// this many files. Budget reserves the other files for databases, the scan log and outgoing calls.
func Budget(files int, separate bool) (public, admin int) {
	total := max(files-min(max(64, files/8), 1024), minConnections)
	if !separate {
		return total, 0
	}
	admin = min(max(8, total/8), 256)
	return total - admin, admin
}

// Limiter limits the number of open connections. When the limit is reached, a new connection replaces an idle connection: the
// oldest unauthenticated connection, otherwise the oldest authenticated connection. A new connection waits while all open
// connections are serving requests.
type Limiter struct {
	limit int
	freed chan struct{} // buffer of one: signals that a connection has closed

	mu                             sync.Mutex
	unauthenticated, authenticated *list.List // unauthenticated and authenticated connections (*connection), the oldest first
	evicted                        atomic.Int64
}

// New returns a Limiter for the given number of connections.
func New(limit int) *Limiter {
	return &Limiter{limit: limit, freed: make(chan struct{}, 1), unauthenticated: list.New(), authenticated: list.New()}
}

// Open returns the number of open connections.
func (r *Limiter) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unauthenticated.Len() + r.authenticated.Len()
}

// Evicted returns the number of connections that were closed in favour of a new connection.
func (r *Limiter) Evicted() int64 { return r.evicted.Load() }

// Listener wraps a listener so that its connections count towards the limit. rejected is the idle timeout after an invalid key; 0 =
// ten seconds.
func (r *Limiter) Listener(l net.Listener, rejected time.Duration) net.Listener {
	return &limitedListener{Listener: l, limiter: r, rejected: cmp.Or(rejected, rejectedIdleTimeout), closed: make(chan struct{})}
}

// register registers a connection if there is room; otherwise it returns an idle connection to replace, or nil.
func (r *Limiter) register(c *connection) (ok bool, idle *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unauthenticated.Len()+r.authenticated.Len() < r.limit {
		c.list, c.element = r.unauthenticated, r.unauthenticated.PushBack(c)
		return true, nil
	}
	for _, group := range []*list.List{r.unauthenticated, r.authenticated} {
		for n := group.Len(); n > 0; n-- {
			first := group.Front()
			if item := first.Value.(*connection); !item.busy.Load() {
				return false, item
			}
			group.MoveToBack(first) // a busy connection moves to the back, so that the next search begins with the connections behind it
		}
	}
	return false, nil
}

func (r *Limiter) unregister(c *connection) {
	r.mu.Lock()
	if c.element != nil {
		c.list.Remove(c.element)
		c.element = nil
	}
	r.mu.Unlock()
	select {
	case r.freed <- struct{}{}:
	default:
	}
}

// limitedListener is a listener whose connections are registered in a Limiter.
type limitedListener struct {
	net.Listener
	limiter  *Limiter
	rejected time.Duration // idle timeout of a connection after an invalid key
	once     sync.Once
	closed   chan struct{}
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return conn, nil
		}
		c := &connection{TCPConn: tcp, limiter: l.limiter, rejectedIdleTimeout: l.rejected}
		for {
			ok, idle := l.limiter.register(c)
			if ok {
				return c, nil
			}
			if idle != nil {
				l.limiter.evicted.Add(1)
				_ = idle.Close()
				continue
			}
			select {
			case <-l.limiter.freed:
			case <-time.After(pollInterval):
			case <-l.closed:
				_ = tcp.Close()
				return nil, net.ErrClosed
			}
		}
	}
}

// connection is a connection registered in a Limiter.
type connection struct {
	*net.TCPConn
	limiter             *Limiter
	list                *list.List // the list of the Limiter that contains the connection; the Limiter's lock guards list and element
	element             *list.Element
	busy                atomic.Bool // a request is being served
	authenticated       atomic.Bool // the client has sent a valid key or token
	rejected            atomic.Bool // the last key or token sent was invalid
	rejectedIdleTimeout time.Duration
	closeOnce           sync.Once
}

// Close implements net.Conn.
func (c *connection) Close() error {
	err := c.TCPConn.Close()
	c.closeOnce.Do(func() { c.limiter.unregister(c) })
	return err
}

// SetReadDeadline implements net.Conn; after an invalid key it limits the deadline to rejectedIdleTimeout.
func (c *connection) SetReadDeadline(t time.Time) error {
	return c.TCPConn.SetReadDeadline(c.limitDeadline(t))
}

// SetDeadline implements net.Conn.
func (c *connection) SetDeadline(t time.Time) error {
	if err := c.TCPConn.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

func (c *connection) limitDeadline(t time.Time) time.Time {
	if !c.rejected.Load() {
		return t
	}
	if last := time.Now().Add(c.rejectedIdleTimeout); t.IsZero() || t.After(last) {
		return last
	}
	return t
}

// SetBusy implements fastpath.ConnState.
func (c *connection) SetBusy(busy bool) { c.busy.Store(busy) }

// Authenticated implements fastpath.ConnState.
func (c *connection) Authenticated() {
	c.rejected.Store(false)
	if c.authenticated.Swap(true) {
		return
	}
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	if c.element != nil {
		c.list.Remove(c.element)
		c.list, c.element = c.limiter.authenticated, c.limiter.authenticated.PushBack(c)
	}
}

// connectionIn returns the connection inside the wrappers that TLS and the fast path have added.
func connectionIn(conn net.Conn) (*connection, bool) {
	for {
		if c, ok := conn.(*connection); ok {
			return c, true
		}
		value, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return nil, false
		}
		conn = value.NetConn()
	}
}

type connectionKey struct{}

// Watch makes an HTTP server report the state of its connections to the Limiter.
func Watch(h *http.Server) {
	h.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if c, ok := connectionIn(conn); ok {
			return context.WithValue(ctx, connectionKey{}, c)
		}
		return ctx
	}
	h.ConnState = func(conn net.Conn, state http.ConnState) {
		if c, ok := connectionIn(conn); ok {
			c.SetBusy(state == http.StateActive)
		}
	}
}

// Authenticated records that a request contained a valid key or token.
func Authenticated(ctx context.Context) {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		c.Authenticated()
	}
}

// Rejected records that a request contained an invalid key or token.
func Rejected(ctx context.Context) {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		c.rejected.Store(true)
	}
}
