package fastpath

import (
	"runtime"
	"time"
)

// A connection that has sent a plain request is parked while idle: it has no goroutine, and a loop polls it. The loop answers
// requests that need no waiting: one complete plain request that arrived in one read, for which Try has a response that the client
// accepts at once. In all other cases the connection gets a goroutine that starts from the bytes read so far, so that only conn.go
// handles errors of requests.

// maxMisses is the number of consecutive requests that needed a goroutine after which a connection keeps its goroutine, because its
// client sends requests in pieces or its responses need waiting.
const maxMisses = 8

// park hands an idle connection to a loop. If park returns true, the caller must not touch the connection any more.
func (c *conn) park() bool {
	l := c.lane
	if c.direct == nil || l.Try == nil || c.misses > maxMisses || l.draining.Load() {
		return false
	}
	if c.loop == nil {
		if c.loop = l.aLoop(); c.loop == nil {
			return false
		}
	}
	c.r, c.w = 0, 0
	c.quiet.Store(0)
	c.parked.Store(true)
	if !c.loop.add(c) {
		return !c.parked.CompareAndSwap(true, false)
	}
	return !c.missed()
}

// aLoop returns the loops in round-robin order; nil = there are no loops.
func (l *Listener) aLoop() *loop {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.looping && !l.draining.Load() {
		l.looping = true
		if l.startLoops(); len(l.loops) > 0 {
			go l.sweep()
		} else if runtime.GOOS == "linux" {
			l.Log.Warn("idle connections of the scan listener keep their goroutines: the system gave no epoll", "path", l.Path)
		}
	}
	if len(l.loops) == 0 {
		return nil
	}
	l.turn++
	return l.loops[l.turn%len(l.loops)]
}

// missed takes back a connection that was parked after Drain had already visited the parked connections.
func (c *conn) missed() bool {
	if !c.lane.draining.Load() || !c.parked.CompareAndSwap(true, false) {
		return false
	}
	c.loop.remove(c)
	return true
}

// unpark starts a goroutine for a parked connection.
func (c *conn) unpark() {
	if c.parked.CompareAndSwap(true, false) {
		c.resume(nil)
	}
}

// resume starts a goroutine for the connection, which first writes the rest of a response.
func (c *conn) resume(rest []byte) {
	c.loop.remove(c)
	c.answered = false
	c.lane.running.Go(func() {
		if len(rest) > 0 {
			_, err := c.conn.Write(rest)
			c.left()
			if err != nil {
				c.end()
				return
			}
		}
		c.serve()
	})
}

// ready is called by the loop when the connection is readable.
func (c *conn) ready() {
	defer func() {
		if fault := recover(); fault != nil {
			c.failed(fault)
			c.loop.remove(c)
			c.end()
		}
	}()
	n, repeat := c.direct.try(c.in)
	if !repeat {
		c.quiet.Store(0)
		c.r, c.w = 0, n
		if rest, ok := c.quick(); !ok {
			c.misses++
			c.resume(rest)
			return
		}
		c.misses = 0
	}
	c.parked.Store(true)
	if c.missed() {
		c.resume(nil)
	}
}

// quick answers the request that was read. If ok is false, either quick had no effect, or the client did not accept the remaining
// bytes of the response, which are returned in rest.
func (c *conn) quick() (rest []byte, ok bool) {
	l := c.lane
	h, ok := l.readHead(c.in[:c.w])
	if !ok || h.size == 0 || h.last || c.w != h.size+h.length || c.w == len(c.in) || l.draining.Load() {
		return nil, false
	}
	select {
	case <-c.free:
	default: // the previous response is still being sent
		return nil, false
	}
	a := c.begin(&h, l.Try)
	if a == nil {
		c.free <- struct{}{}
		return nil, false
	}
	if c.sendLater(a) {
		return nil, true
	}
	doc, kind, status := a.Wait(l.life, c.doc[:0])
	c.doc = doc
	c.compose(status, kind, false)
	if n := c.direct.write(c.out); n < len(c.out) {
		return c.out[n:], false
	}
	c.asks(false)
	c.left()
	return nil, true
}

// sweep closes parked connections that were idle for too long, and removes closed connections.
func (l *Listener) sweep() {
	interval := max(min(coarse, l.IdleTime/4), time.Millisecond)
	limit := int32(l.IdleTime/interval) + 1
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-l.life.Done():
			return
		case <-tick.C:
		}
		var overConns []*conn
		l.visit(func(c *conn) {
			if !c.parked.Load() {
				return
			}
			if (c.quiet.Add(1) > limit || c.direct.closed()) && c.parked.CompareAndSwap(true, false) {
				overConns = append(overConns, c)
			}
		})
		for _, c := range overConns {
			if c.quiet.Load() <= limit && !c.direct.closed() { // a request arrived in the meantime
				c.resume(nil)
				continue
			}
			c.loop.remove(c)
			c.end()
		}
	}
}
