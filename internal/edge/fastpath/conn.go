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
	// firstByteTimeout is the maximum time from accepting a connection to its first byte, and to the end of its TLS handshake.
	firstByteTimeout = 10 * time.Second
	// defaultReadTimeout is the default of Listener.ReadTimeout.
	defaultReadTimeout = time.Second
	// drainGrace is how long a drain waits for a request that is just arriving.
	drainGrace = 5 * time.Millisecond
	// bufferSize is the initial buffer size, enough for a head and most bodies.
	bufferSize = 4 << 10
	// maxHead is the maximum size of a request head that the fast path handles.
	maxHead = 4 << 10
	// maxBlank is the maximum number of bytes of empty lines before a request.
	maxBlank = 4
	// deadlineTolerance is the tolerated error of long deadlines. Within it, the deadline is not set again, because setting is expensive.
	deadlineTolerance = 10 * time.Second
)

// conn is one connection on the fast path.
type conn struct {
	listener      *Listener
	conn          net.Conn
	state         ConnState
	authenticated bool   // a request had an accepted key, and state.Authenticated was called
	key           string // bearer key of the last request; most requests of a connection have the same key
	handedOff     bool   // net/http owns the connection
	// answered reports whether the connection's goroutine has answered a request, so that the connection may be parked.
	answered bool
	idle     atomic.Bool // the connection waits for the first byte of a request

	in   []byte // the bytes in[r:w] were received but are not yet processed
	r, w int

	// free contains a token while no response is in progress. The goroutine that has taken the token (the connection's own goroutine, or
	// the goroutine that sends a response later) owns the fields from out to date.
	free     chan struct{}
	out, doc []byte
	pending  Response    // the response that is sent once its result is known
	sendFunc func(error) // the method value c.sendPending, created once
	direct   *direct     // nil if the connection is read and written through package net
	second   int64       // Unix time of the text in the field date, which is the Date header
	date     []byte

	readUntil, writeUntil time.Time // the currently set deadlines

	parked     atomic.Bool // a loop polls the connection; the goroutine that sets parked to false owns the connection
	loop       *loop
	fd         int32        // file descriptor that the loop polls
	misses     int          // see maxMisses
	idleSweeps atomic.Int32 // number of calls of Listener.sweep since the last request
}

func newConn(l *Listener, inner net.Conn) *conn {
	c := &conn{listener: l, conn: inner, free: make(chan struct{}, 1)}
	c.free <- struct{}{}
	c.state, _ = inner.(ConnState)
	if l.TLS != nil {
		c.conn = tls.Server(inner, l.TLS)
	} else {
		c.direct, c.sendFunc = newDirect(inner), c.sendPending
	}
	return c
}

// serve answers requests until the connection ends, is handed to net/http or is parked.
func (c *conn) serve() {
	wasParked := false // true after the connection was parked
	defer func() {
		c.logPanic(recover())
		if !wasParked {
			c.end()
		}
	}()
	first := c.in == nil
	if secure, ok := c.conn.(*tls.Conn); ok {
		_ = secure.SetDeadline(time.Now().Add(firstByteTimeout))
		err := secure.HandshakeContext(c.listener.ctx)
		_, noTLS := errors.AsType[tls.RecordHeaderError](err)
		if err != nil && !noTLS {
			return
		}
		_ = secure.SetDeadline(time.Time{})
		if noTLS || secure.ConnectionState().NegotiatedProtocol == "h2" {
			c.handedOff = true
			c.listener.handOff(secure)
			return
		}
	}
	if first {
		c.in = make([]byte, bufferSize)
	}
	for ; ; first = false {
		switch c.answerNext(first) {
		case ended:
			return
		case notPlain:
			c.handOff()
			return
		case parked:
			wasParked = true
			return
		}
	}
}

// end removes the connection from the listener, and closes the connection unless it was handed to net/http.
func (c *conn) end() {
	c.listener.mu.Lock()
	delete(c.listener.conns, c)
	c.listener.mu.Unlock()
	if !c.handedOff {
		_ = c.conn.Close()
	}
}

// handOff passes the connection to net/http, including the bytes of the unfinished request.
func (c *conn) handOff() {
	_ = c.conn.SetDeadline(time.Time{})
	replay := &replayConn{Conn: c.conn, reader: io.MultiReader(bytes.NewReader(c.in[c.r:c.w]), c.conn), closed: func() {}}
	if c.listener.draining.Load() {
		// After Shutdown, net/http does not wait for requests that arrive on this connection, so Drain waits for them.
		c.listener.lateHandoffs.Add(1)
		replay.closed = sync.OnceFunc(c.listener.lateHandoffs.Done)
	}
	c.handedOff = true
	c.listener.handOff(replay)
}

// logPanic logs a panic; nil = no panic.
func (c *conn) logPanic(fault any) {
	if fault != nil {
		c.listener.Log.Error("request handler panicked", "path", c.listener.Path, "panic", fmt.Sprint(fault), "stack",
			string(debug.Stack()))
	}
}

func (c *conn) setBusy(busy bool) {
	if c.state != nil {
		c.state.SetBusy(busy)
	}
}

// The states of a connection after reading.
type state int

const (
	plain    state = iota // a complete plain request was read
	notPlain              // the request is not plain or arrives too slowly: net/http takes over
	ended                 // no further request can or should be read
	parked                // a loop polls the connection
	waiting               // more bytes of the request are expected
)

// answerNext answers the next request and returns the resulting state of the connection.
func (c *conn) answerNext(first bool) state {
	h, state := c.readRequest(first)
	if state == parked {
		return state
	}
	select {
	case <-c.free: // the previous response has been sent
	default:
		select { // nested, because most requests need not access the Done channel, which all connections share
		case <-c.free:
		case <-c.listener.ctx.Done():
			return ended
		}
	}
	if state != plain {
		return state
	}
	l := c.listener
	a := c.begin(&h, l.Begin)
	if a == nil {
		return notPlain
	}
	c.answered = true
	last := h.last || l.draining.Load()
	if !last && c.sendLater(a) {
		return plain
	}
	err := c.reply(a, last)
	c.release()
	if err != nil || last {
		return ended
	}
	return plain
}

// begin starts the response to the request that was read; it returns nil if net/http must handle the request, or Try would have to wait.
func (c *conn) begin(h *head, begin func(ctx context.Context, namespace string, body []byte) Response) Response {
	l, namespace := c.listener, ""
	if l.KnownHost != nil && !l.KnownHost(string(h.host)) {
		return nil
	}
	if l.Key != nil {
		if string(h.key) != c.key {
			c.key = string(h.key)
		}
		var ok bool
		if namespace, ok = l.Key(l.ctx, c.key); !ok || len(h.key) == 0 {
			return nil
		}
		if !c.authenticated && c.state != nil {
			c.state.Authenticated()
		}
		c.authenticated = true
	}
	c.setBusy(true)
	a := begin(l.ctx, namespace, c.in[c.r+h.size:c.r+h.size+h.length])
	if a == nil {
		return nil
	}
	c.r += h.size + h.length
	if l.OnResponse != nil {
		l.OnResponse()
	}
	return a
}

// readProgress contains the state of reading one request.
type readProgress struct {
	first bool // the request is the first of its connection
	timed bool // the timeout of the request is running
	last  bool // no further request is expected
	blank int  // number of skipped bytes of empty lines
}

// readRequest reads until a complete request is available.
func (c *conn) readRequest(first bool) (h head, s state) {
	w := readProgress{first: first}
	if len(c.in) > 4*bufferSize && c.r == c.w {
		c.in, c.r, c.w = make([]byte, bufferSize), 0, 0
	}
	for {
		c.skip(&w)
		if c.r < c.w {
			h, s = c.classify(&w)
		} else {
			h, s = head{}, c.prepareIdle(&w)
		}
		if s != waiting {
			return h, s
		}
		c.grow(h.size + h.length)
		if s = c.readOnce(&w); s != waiting {
			return h, s
		}
	}
}

// skip skips empty lines before a request. net/http does the same, because some old clients send an empty line after a body.
func (c *conn) skip(w *readProgress) {
	for !w.first && c.r < c.w && w.blank < maxBlank && (c.in[c.r] == '\r' || c.in[c.r] == '\n') {
		c.r++
		w.blank++
	}
}

// classify classifies the bytes of a request read so far.
func (c *conn) classify(w *readProgress) (head, state) {
	current := c.w - c.r
	h, ok := c.listener.readHead(c.in[c.r:c.w])
	switch {
	case !ok && !w.first && w.blank+current < maxBlank:
		// Wait for more bytes: if the connection ends now, the fewer than maxBlank bytes do not count as a request, as in net/http.
	case !ok || h.size == 0 && current > maxHead:
		return h, notPlain
	case h.size > 0 && current >= h.size+h.length:
		return h, plain
	}
	if !w.timed {
		w.timed = true
		c.setReadDeadline(cmp.Or(c.listener.ReadTimeout, defaultReadTimeout), 0)
	}
	return h, waiting
}

// prepareIdle prepares to wait for a request of which no byte has arrived, or parks the connection.
func (c *conn) prepareIdle(w *readProgress) state {
	c.r, c.w = 0, 0
	if c.answered && w.blank == 0 {
		if len(c.free) > 0 {
			c.setBusy(false)
		}
		if c.park() {
			return parked
		}
	}
	if w.first {
		c.setReadDeadline(firstByteTimeout, deadlineTolerance)
	} else {
		c.setReadDeadline(c.listener.IdleTime, deadlineTolerance)
	}
	c.idle.Store(true)
	if len(c.free) > 0 {
		c.setBusy(false)
	}
	if c.listener.draining.Load() {
		// While the listener drains, a request that has already arrived is still answered.
		c.setReadDeadline(drainGrace, 0)
		w.last = true
	}
	return waiting
}

// readOnce makes one read call, and returns the state of the connection: waiting if more bytes may follow.
func (c *conn) readOnce(w *readProgress) state {
	n, err := c.read(c.in[c.w:])
	c.idle.Store(false)
	c.w += n
	isLate := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case n > 0 || err == nil:
		return waiting
	case !w.first && err == io.EOF && w.blank+c.w-c.r < maxBlank:
		return ended
	case c.r < c.w && (err == io.EOF || isLate):
		return notPlain
	case c.r == c.w && !w.last && c.listener.draining.Load() && isLate: // Drain woke the idle connection
		return waiting
	}
	return ended
}

func (c *conn) read(b []byte) (int, error) {
	if c.direct != nil {
		return c.direct.read(b)
	}
	return c.conn.Read(b)
}

// setReadDeadline sets the read deadline, unless the current deadline differs from the new deadline by at most tolerance.
func (c *conn) setReadDeadline(limit, tolerance time.Duration) {
	until := time.Now().Add(limit)
	if diff := until.Sub(c.readUntil); diff > tolerance || diff < 0 || tolerance == 0 {
		c.readUntil = until
		_ = c.conn.SetReadDeadline(until)
	}
}

// grow enlarges the buffer for a request that needs the given number of bytes in total.
func (c *conn) grow(need int) {
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
