// Package connlimit bounds how many connections are open at once: those that ask something go before those that do not.
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
	// refusedTime is the time that a connection may be idle after it showed an invalid key or token.
	refusedTime = 10 * time.Second
	// fewFiles is the assumed limit of open files where the system does not tell it.
	fewFiles = 8192
	// fewestConnections is the minimum number of connections that are admitted, however few files the process may open.
	fewestConnections = 16
	// roomPoll is the interval at which a connection that waits for room looks for one that became idle. One that ends is noticed
	// at once.
	roomPoll = 50 * time.Millisecond
)

// Budget says how many connections a process that may open so many files accepts: on the admin
// listener, if that has an address of its own (apart), and on all others together. The rest is for
// databases, the ledger and calls to others.
func Budget(files int, separate bool) (public, admin int) {
	all := max(files-min(max(64, files/8), 1024), fewestConnections)
	if !separate {
		return all, 0
	}
	admin = min(max(8, all/8), 256)
	return all - admin, admin
}

// Limiter bounds how many connections are open at once. When it is full, a new connection takes the
// place of an idle one: of the stranger that came first, else of anybody. Where requests of all are
// being served, it waits.
type Limiter struct {
	most  int
	freed chan struct{} // one entry: a connection ended

	mu               sync.Mutex
	strangers, known *list.List // of *connection, the earliest first
	cut              atomic.Int64
}

// New returns a room for so many connections.
func New(limit int) *Limiter {
	return &Limiter{most: limit, freed: make(chan struct{}, 1), strangers: list.New(), known: list.New()}
}

// Open returns the number of open connections.
func (r *Limiter) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.strangers.Len() + r.known.Len()
}

// Evicted returns the number of connections that had to give their place to another one.
func (r *Limiter) Evicted() int64 { return r.cut.Load() }

// Listener puts the connections of a listener into the room. refused is how long one may be without a request after a refused
// key; 0 = ten seconds.
func (r *Limiter) Listener(l net.Listener, refused time.Duration) net.Listener {
	return &bounded{Listener: l, room: r, refused: cmp.Or(refused, refusedTime), closed: make(chan struct{})}
}

// enter takes a connection in, or returns one whose place it may take, or does neither.
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
			group.MoveToBack(first) // so that the next search begins with others
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

// bounded is a listener whose connections share a room.
type bounded struct {
	net.Listener
	room    *Limiter
	refused time.Duration // refusedTime, or a test's
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

// connection is one that a room has.
type connection struct {
	*net.TCPConn
	room        *Limiter
	in          *list.List // the room's, both under its lock
	place       *list.Element
	asks        atomic.Bool // a request of it is being served
	known       atomic.Bool // it showed a valid key or token
	refused     atomic.Bool // the last one that it showed was invalid
	refusedTime time.Duration
	left        sync.Once
}

// Close implements net.Conn.
func (c *connection) Close() error {
	err := c.TCPConn.Close()
	c.left.Do(func() { c.room.leave(c) })
	return err
}

// SetReadDeadline implements net.Conn: after a refused key a pause must be short.
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

// Asks implements lane.Watched.
func (c *connection) Asks(isNow bool) { c.asks.Store(isNow) }

// Proven implements lane.Watched.
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

// connectionIn finds the connection below what TLS and the lane put around it.
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

// Watch makes net/http tell of its connections.
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

// Proven notes that a request showed a valid key or token.
func Proven(ctx context.Context) {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		c.Proven()
	}
}

// Refused notes that a request showed an invalid key or token.
func Refused(ctx context.Context) {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		c.refused.Store(true)
	}
}
