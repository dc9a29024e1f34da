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
	// refusedTime is the time for which a connection may be idle after it sent an invalid key or token.
	refusedTime = 10 * time.Second
	// fewFiles is the assumed limit of open files if the system does not report the limit.
	fewFiles = 8192
	// fewestConnections is the minimum number of connections accepted, regardless of the limit of open files.
	fewestConnections = 16
	// roomPoll is the interval at which a waiting connection checks for an idle connection to replace. A connection that closes
	// wakes the waiting connection immediately.
	roomPoll = 50 * time.Millisecond
)

// Budget returns the number of connections to accept for a limit of open files: on the public listeners, and on the admin listener
// if it has a separate address. The remaining files are for databases, the scan log and outgoing calls.
func Budget(files int, separate bool) (public, admin int) {
	all := max(files-min(max(64, files/8), 1024), fewestConnections)
	if !separate {
		return all, 0
	}
	admin = min(max(8, all/8), 256)
	return all - admin, admin
}

// Limiter limits the number of open connections. When the limit is reached, a new connection replaces an idle connection: the
// oldest unauthenticated connection, otherwise the oldest authenticated connection. If all connections are serving requests, the
// new connection waits.
type Limiter struct {
	most  int
	freed chan struct{} // buffer of one: signals that a connection has closed

	mu               sync.Mutex
	strangers, known *list.List // unauthenticated and authenticated connections (*connection), the oldest first
	cut              atomic.Int64
}

// New returns a Limiter for the given number of connections.
func New(limit int) *Limiter {
	return &Limiter{most: limit, freed: make(chan struct{}, 1), strangers: list.New(), known: list.New()}
}

// Open returns the number of open connections.
func (r *Limiter) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.strangers.Len() + r.known.Len()
}

// Evicted returns the number of connections that were closed in favour of a new connection.
func (r *Limiter) Evicted() int64 { return r.cut.Load() }

// Listener wraps a listener so that its connections count towards the limit. refused is the idle timeout after an invalid key; 0 =
// ten seconds.
func (r *Limiter) Listener(l net.Listener, refused time.Duration) net.Listener {
	return &bounded{Listener: l, room: r, refused: cmp.Or(refused, refusedTime), closed: make(chan struct{})}
}

// enter registers a connection if there is room; otherwise it returns an idle connection to replace, or nil.
func (r *Limiter) enter(c *connection) (entered bool, replacementConnection *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.strangers.Len()+r.known.Len() < r.most {
		c.in, c.place = r.strangers, r.strangers.PushBack(c)
		return true, nil
	}
	for _, group := range []*list.List{r.strangers, r.known} {
		for n := group.Len(); n > 0; n-- {
			first := group.Front()
			if item := first.Value.(*connection); !item.asks.Load() {
				return false, item
			}
			group.MoveToBack(first) // the next search for an idle connection then begins with other connections
		}
	}
	return false, nil
}

func (r *Limiter) leave(c *connection) {
	r.mu.Lock()
	if c.place != nil {
		c.in.Remove(c.place)
		c.place = nil
	}
	r.mu.Unlock()
	select {
	case r.freed <- struct{}{}:
	default:
	}
}

// bounded is a listener whose connections are registered in a Limiter.
type bounded struct {
	net.Listener
	room    *Limiter
	refused time.Duration // refusedTime, or another value in tests
	once    sync.Once
	closed  chan struct{}
}

func (l *bounded) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

func (l *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return conn, nil
		}
		c := &connection{TCPConn: tcp, room: l.room, refusedTime: l.refused}
		for {
			entered, replacementConnection := l.room.enter(c)
			if entered {
				return c, nil
			}
			if replacementConnection != nil {
				l.room.cut.Add(1)
				_ = replacementConnection.Close()
				continue
			}
			select {
			case <-l.room.freed:
			case <-time.After(roomPoll):
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
	room        *Limiter
	in          *list.List // the list of the Limiter that contains the connection, guarded by the Limiter's lock, as is place
	place       *list.Element
	asks        atomic.Bool // a request is being served
	known       atomic.Bool // the client has sent a valid key or token
	refused     atomic.Bool // the last key or token sent was invalid
	refusedTime time.Duration
	left        sync.Once
}

// Close implements net.Conn.
func (c *connection) Close() error {
	err := c.TCPConn.Close()
	c.left.Do(func() { c.room.leave(c) })
	return err
}

// SetReadDeadline implements net.Conn; after an invalid key it limits the deadline to refusedTime.
func (c *connection) SetReadDeadline(t time.Time) error {
	return c.TCPConn.SetReadDeadline(c.earlier(t))
}

// SetDeadline implements net.Conn.
func (c *connection) SetDeadline(t time.Time) error {
	if err := c.TCPConn.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

func (c *connection) earlier(t time.Time) time.Time {
	if !c.refused.Load() {
		return t
	}
	if last := time.Now().Add(c.refusedTime); t.IsZero() || t.After(last) {
		return last
	}
	return t
}

// Asks implements fastpath.ConnState.
func (c *connection) Asks(isNow bool) { c.asks.Store(isNow) }

// Proven implements fastpath.ConnState.
func (c *connection) Proven() {
	c.refused.Store(false)
	if c.known.Swap(true) {
		return
	}
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	if c.place != nil {
		c.in.Remove(c.place)
		c.in, c.place = c.room.known, c.room.known.PushBack(c)
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
			c.Asks(state == http.StateActive)
		}
	}
}

// Proven records that a request contained a valid key or token.
func Proven(ctx context.Context) {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		c.Proven()
	}
}

// Refused records that a request contained an invalid key or token.
func Refused(ctx context.Context) {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		c.refused.Store(true)
	}
}
