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
	// firstTime is the maximum time from accepting a connection to its first byte, and to the end of its TLS handshake.
	firstTime = 10 * time.Second
	// patience is the default of Listener.ReadTimeout.
	patience = time.Second
	// grace is how long a drain waits for a request that is just arriving.
	grace = 5 * time.Millisecond
	// buffer is the initial buffer size, enough for a head and most bodies.
	buffer = 4 << 10
	// maxHead is the maximum size of a request head that the fast path handles.
	maxHead = 4 << 10
	// maxBlank is the maximum number of bytes of empty lines before a request.
	maxBlank = 4
	// coarse is the precision of long deadlines, because changing a deadline costs as much as reading a request.
	coarse = 10 * time.Second
)

// conn is one connection on the fast path.
type conn struct {
	lane    *Listener
	conn    net.Conn
	watched ConnState
	proven  bool   // a request carried an accepted key, and watched was notified
	key     string // key of the last request; most requests of a connection have the same key
	handed  bool   // it is net/http's
	// answered reports whether the connection's goroutine has answered a request, so that the connection may be parked.
	answered bool
	idle     atomic.Bool // the connection waits for the first byte of a request

	in   []byte // in[r:w] is read but not yet processed
	r, w int

	// free holds a token while no response is in progress. The goroutine that takes the token owns the fields below: the
	// connection's own goroutine, or the goroutine that sends a response later.
	free     chan struct{}
	out, doc []byte
	answer   Response    // leaves later
	holds    func(error) // c.known; made once
	direct   *direct     // nil if the connection is read and written through package net
	second   int64       // the second that date represents, for the Date header
	date     []byte

	readUntil, writeUntil time.Time // the currently set deadlines

	parked atomic.Bool // a loop polls the connection; the goroutine that sets parked to false owns the connection
	loop   *loop
	fd     int32        // in the loop
	misses int          // see maxMisses
	quiet  atomic.Int32 // number of sweeps since the last request
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

// serve answers requests until the connection ends, is handed to net/http or is parked.
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

// end removes the connection from the listener, and closes the connection unless net/http has it.
func (c *conn) end() {
	c.lane.mu.Lock()
	delete(c.lane.conns, c)
	c.lane.mu.Unlock()
	if !c.handed {
		_ = c.conn.Close()
	}
}

// hand passes the connection to net/http, including the bytes of the unfinished request.
func (c *conn) hand() {
	_ = c.conn.SetDeadline(time.Time{})
	otherReplayed := &replayed{Conn: c.conn, all: io.MultiReader(bytes.NewReader(c.in[c.r:c.w]), c.conn), closed: func() {}}
	if c.lane.draining.Load() {
		// After Shutdown, net/http serves only requests that it has already read.
		c.lane.late.Add(1)
		otherReplayed.closed = sync.OnceFunc(c.lane.late.Done)
	}
	c.handed = true
	c.lane.hand(otherReplayed)
}

// failed logs a panic; nil = no panic.
func (c *conn) failed(fault any) {
	if fault != nil {
		c.lane.Log.Error("request handler panicked", "path", c.lane.Path, "panic", fmt.Sprint(fault), "stack",
			string(debug.Stack()))
	}
}

func (c *conn) asks(isNow bool) {
	if c.watched != nil {
		c.watched.Asks(isNow)
	}
}

// The states of a connection after reading.
type state int

const (
	plain   state = iota // a complete plain request was read
	foreign              // the request is not plain or arrives too slowly: net/http takes over
	gone                 // no further request can or should be read
	parked               // a loop polls the connection
	waiting              // more bytes of the request are expected
)

// answerNext answers the next request and returns the resulting state of the connection.
func (c *conn) answerNext(first bool) state {
	h, state := c.await(first)
	if state == parked {
		return state
	}
	select {
	case <-c.free: // the previous response has been sent
	default:
		select { // all connections share this Done channel, so most requests avoid touching it
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

// begin starts the response to the request that was read; nil if net/http must handle the request or nothing was started.
func (c *conn) begin(h *head, begin func(ctx context.Context, namespace string, body []byte) Response) Response {
	l, namespace := c.lane, ""
	if l.KnownHost != nil && !l.KnownHost(string(h.host)) {
		return nil
	}
	if l.Key != nil {
		if string(h.key) != c.key {
			c.key = string(h.key)
		}
		var ok bool
		if namespace, ok = l.Key(l.life, c.key); !ok || len(h.key) == 0 {
			return nil
		}
		if !c.proven && c.watched != nil {
			c.watched.Proven()
		}
		c.proven = true
	}
	c.asks(true)
	a := begin(l.life, namespace, c.in[c.r+h.size:c.r+h.size+h.length])
	if a == nil {
		return nil
	}
	c.r += h.size + h.length
	if l.Answered != nil {
		l.Answered()
	}
	return a
}

// wait holds the state of reading one request.
type wait struct {
	first bool // of its connection
	begun bool // the timeout of the request is running
	last  bool // no further request is expected
	blank int  // number of skipped bytes of empty lines
}

// await reads until a complete request is available.
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

// skip skips empty lines before a request. net/http does the same, because some old clients send an empty line after a body.
func (c *conn) skip(w *wait) {
	for !w.first && c.r < c.w && w.blank < maxBlank && (c.in[c.r] == '\r' || c.in[c.r] == '\n') {
		c.r++
		w.blank++
	}
}

// look classifies the bytes of a request read so far.
func (c *conn) look(w *wait) (head, state) {
	current := c.w - c.r
	h, ok := c.lane.readHead(c.in[c.r:c.w])
	switch {
	case !ok && !w.first && w.blank+current < maxBlank:
		// As in net/http, fewer than maxBlank bytes before the end of a connection do not count as a request.
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

// idles prepares to wait for a request of which no byte has arrived, or parks the connection.
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
		// While the listener drains, a request that has already arrived is still answered.
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

// readBy sets the read deadline, unless the current deadline differs from the new deadline by at most exact.
func (c *conn) readBy(limit, exact time.Duration) {
	until := time.Now().Add(limit)
	if leadingWait := until.Sub(c.readUntil); leadingWait > exact || leadingWait < 0 || exact == 0 {
		c.readUntil = until
		_ = c.conn.SetReadDeadline(until)
	}
}

// room enlarges the buffer for a request that needs the given number of bytes in total.
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
