package fastpath

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// firstTime is the time that a new connection may take to its first byte, and to the end of its TLS handshake.
	firstTime = 10 * time.Second
	// patience is the default of Lane.Patience.
	patience = time.Second
	// grace is the time for which a drain checks whether a request arrived just now.
	grace = 5 * time.Millisecond
	// buffer holds a head and what most bodies need.
	buffer = 4 << 10
	// maxHead is the maximum size of a plain head.
	maxHead = 4 << 10
	// maxBlank is the number of bytes of empty lines that may precede a request.
	maxBlank = 4
	// coarse is the precision of the long deadlines: moving one costs as much as reading a request.
	coarse = 10 * time.Second
)

// conn is one connection on the lane.
type conn struct {
	lane    *Listener
	conn    net.Conn
	watched ConnState
	proven  bool   // and that it is
	key     string // of the last request: most have the same
	handed  bool   // it is net/http's
	// answered: its goroutine answered a request, so the connection may be parked.
	answered bool
	idle     atomic.Bool // it waits for the first byte of a request

	in   []byte // in[r:w] was read and not used
	r, w int

	// free is full while no answer is under way. The goroutine that empties it uses
	// the fields below: the connection's own, or the one that sends an answer later.
	free     chan struct{}
	out, doc []byte
	answer   Response    // leaves later
	holds    func(error) // c.known; made once
	direct   *direct     // nil where it is read and written by the library
	second   int64       // of date, which answers carry
	date     []byte

	readUntil, writeUntil time.Time // the deadlines as they are set

	parked atomic.Bool // a loop waits for it; who makes that false has the connection
	loop   *loop
	fd     int32        // in the loop
	misses int          // see maxMisses
	quiet  atomic.Int32 // looks of sweep since the last request
}

func newConn(l *Listener, inner net.Conn) *conn {
	c := &conn{lane: l, conn: inner, free: make(chan struct{}, 1)}
	c.free <- struct{}{}
	c.watched, _ = inner.(ConnState)
	if l.TLS != nil {
		c.conn = tls.Server(inner, l.TLS)
	} else {
		c.direct, c.holds = directly(inner), c.known
	}
	return c
}

// serve answers requests until the connection ends, is handed over or is parked.
func (c *conn) serve() {
	left := false // it is parked
	defer func() {
		c.failed(recover())
		if !left {
			c.end()
		}
	}()
	first := c.in == nil
	if secure, ok := c.conn.(*tls.Conn); ok {
		_ = secure.SetDeadline(time.Now().Add(firstTime))
		err := secure.HandshakeContext(c.lane.life)
		_, noTLS := errors.AsType[tls.RecordHeaderError](err)
		if err != nil && !noTLS {
			return
		}
		_ = secure.SetDeadline(time.Time{})
		if noTLS || secure.ConnectionState().NegotiatedProtocol == "h2" {
			c.handed = true
			c.lane.hand(secure)
			return
		}
	}
	if first {
		c.in = make([]byte, buffer)
	}
	for ; ; first = false {
		switch c.answerNext(first) {
		case gone:
			return
		case foreign:
			c.hand()
			return
		case parked:
			left = true
			return
		}
	}
}

// end forgets the connection, and closes it unless it was handed over.
func (c *conn) end() {
	c.lane.mu.Lock()
	delete(c.lane.conns, c)
	c.lane.mu.Unlock()
	if !c.handed {
		_ = c.conn.Close()
	}
}

// hand gives the connection to net/http, with the request that was begun.
func (c *conn) hand() {
	_ = c.conn.SetDeadline(time.Time{})
	otherReplayed := &replayed{Conn: c.conn, all: io.MultiReader(bytes.NewReader(c.in[c.r:c.w]), c.conn), closed: func() {}}
	if c.lane.draining.Load() {
		// net/http, once it is shut down, takes no request that it has not read.
		c.lane.late.Add(1)
		otherReplayed.closed = sync.OnceFunc(c.lane.late.Done)
	}
	c.handed = true
	c.lane.hand(otherReplayed)
}

// failed tells of a panic; nil = there was none.
func (c *conn) failed(fault any) {
	if fault != nil {
		c.lane.Log.Error("a request failed inside the server", "path", c.lane.Path, "panic", fmt.Sprint(fault), "stack",
			string(debug.Stack()))
	}
}

func (c *conn) asks(isNow bool) {
	if c.watched != nil {
		c.watched.Asks(isNow)
	}
}

// The states of what was read.
type state int

const (
	plain   state = iota // a whole plain request is there
	foreign              // it is not plain, or not there in time: net/http's
	gone                 // nothing more comes, or is to come
	parked               // a loop has the connection
	waiting              // more of it is to come
)

// one answers the next request, and says what the connection is then.
func (c *conn) answerNext(first bool) state {
	h, state := c.await(first)
	if state == parked {
		return state
	}
	select {
	case <-c.free: // the answer before has left
	default:
		select { // Done is every connection's: most requests do not touch it
		case <-c.free:
		case <-c.lane.life.Done():
			return gone
		}
	}
	if state != plain {
		return state
	}
	l := c.lane
	a := c.begin(&h, l.Begin)
	if a == nil {
		return foreign
	}
	c.answered = true
	closing := h.last || l.draining.Load()
	if !closing && c.sendLater(a) {
		return plain
	}
	err := c.reply(a, closing)
	c.left()
	if err != nil || closing {
		return gone
	}
	return plain
}

// begin begins the answer to the request that was read; nil where net/http is to judge it, or nothing began.
func (c *conn) begin(h *head, begin func(ctx context.Context, actor string, body []byte) Response) Response {
	l, actor := c.lane, ""
	if l.KnownHost != nil && !l.KnownHost(string(h.host)) {
		return nil
	}
	if l.Key != nil {
		if string(h.key) != c.key {
			c.key = string(h.key)
		}
		var ok bool
		if actor, ok = l.Key(l.life, c.key); !ok || len(h.key) == 0 {
			return nil
		}
		if !c.proven && c.watched != nil {
			c.watched.Proven()
		}
		c.proven = true
	}
	c.asks(true)
	a := begin(l.life, actor, c.in[c.r+h.size:c.r+h.size+h.length])
	if a == nil {
		return nil
	}
	c.r += h.size + h.length
	if l.Answered != nil {
		l.Answered()
	}
	return a
}

// A wait is for one request.
type wait struct {
	first bool // of its connection
	begun bool // and its time runs
	last  bool // nothing more is waited for
	blank int  // bytes of empty lines that were skipped
}

// await reads until a whole request is there.
func (c *conn) await(first bool) (h head, s state) {
	w := wait{first: first}
	if len(c.in) > 4*buffer && c.r == c.w {
		c.in, c.r, c.w = make([]byte, buffer), 0, 0
	}
	for {
		c.skip(&w)
		if c.r < c.w {
			h, s = c.look(&w)
		} else {
			h, s = head{}, c.idles(&w)
		}
		if s != waiting {
			return h, s
		}
		c.room(h.size + h.length)
		if s = c.readOnce(&w); s != waiting {
			return h, s
		}
	}
}

// skip passes over empty lines. As net/http: some old clients send one behind a body.
func (c *conn) skip(w *wait) {
	for !w.first && c.r < c.w && w.blank < maxBlank && (c.in[c.r] == '\r' || c.in[c.r] == '\n') {
		c.r++
		w.blank++
	}
}

// look judges what was read of a request.
func (c *conn) look(w *wait) (head, state) {
	current := c.w - c.r
	h, ok := c.lane.readHead(c.in[c.r:c.w])
	switch {
	case !ok && !w.first && w.blank+current < maxBlank:
		// Fewer bytes before the end of a connection are no request, as in net/http.
	case !ok || h.size == 0 && current > maxHead:
		return h, foreign
	case h.size > 0 && current >= h.size+h.length:
		return h, plain
	}
	if !w.begun {
		w.begun = true
		c.readBy(cmp.Or(c.lane.ReadTimeout, patience), 0)
	}
	return h, waiting
}

// idles prepares for a wait of which nothing is there, or leaves it to a loop.
func (c *conn) idles(w *wait) state {
	c.r, c.w = 0, 0
	if c.answered && w.blank == 0 {
		if len(c.free) > 0 {
			c.asks(false)
		}
		if c.park() {
			return parked
		}
	}
	if w.first {
		c.readBy(firstTime, coarse)
	} else {
		c.readBy(c.lane.IdleTime, coarse)
	}
	c.idle.Store(true)
	if len(c.free) > 0 {
		c.asks(false)
	}
	if c.lane.draining.Load() {
		// A request that arrived already is still answered.
		c.readBy(grace, 0)
		w.last = true
	}
	return waiting
}

// readOnce reads once.
func (c *conn) readOnce(w *wait) state {
	n, err := c.read(c.in[c.w:])
	c.idle.Store(false)
	c.w += n
	isLate := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case n > 0 || err == nil:
		return waiting
	case !w.first && err == io.EOF && w.blank+c.w-c.r < maxBlank:
		return gone
	case c.r < c.w && (err == io.EOF || isLate):
		return foreign
	case c.r == c.w && !w.last && c.lane.draining.Load() && isLate: // Drain woke it
		return waiting
	}
	return gone
}

func (c *conn) read(b []byte) (int, error) {
	if c.direct != nil {
		return c.direct.read(b)
	}
	return c.conn.Read(b)
}

// readBy sets the time by which the next bytes must be there, unless what is set
// is within exact of it.
func (c *conn) readBy(limit, exact time.Duration) {
	until := time.Now().Add(limit)
	if leadingWait := until.Sub(c.readUntil); leadingWait > exact || leadingWait < 0 || exact == 0 {
		c.readUntil = until
		_ = c.conn.SetReadDeadline(until)
	}
}

// room makes place for more of a request, of which so much is needed in all.
func (c *conn) room(need int) {
	if c.w < len(c.in) && c.r+need <= len(c.in) {
		return
	}
	if c.r > 0 {
		c.r, c.w = 0, copy(c.in, c.in[c.r:c.w])
	}
	if need = max(need, c.w+1); need > len(c.in) {
		grown := make([]byte, max(need, 2*len(c.in)))
		copy(grown, c.in[:c.w])
		c.in = grown
	}
}
