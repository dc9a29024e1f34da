package fastpath

import (
	"runtime"
	"time"
)

// A connection that has shown a plain request is parked while it is idle: it has no goroutine then, and a loop waits for it.
// The loop answers what needs no waiting: one whole plain request that came in one piece, whose answer Try has and the client
// takes at once. With everything else the connection gets a goroutine again, which begins from what was read: so conn.go alone
// knows what can go wrong with a request.

// maxMisses is the number of consecutive requests for which a parked connection may need its goroutine before it keeps it: its
// client writes a request in pieces, or its answers have to be waited for.
const maxMisses = 8

// park leaves an idle connection to a loop. When it did, the caller must not touch it any more.
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

// aLoop is one of the loops, in turn; nil = there are none.
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

// missed takes a connection back that was parked when Drain had passed it by.
func (c *conn) missed() bool {
	if !c.lane.draining.Load() || !c.parked.CompareAndSwap(true, false) {
		return false
	}
	c.loop.remove(c)
	return true
}

// unpark gives a parked connection its goroutine again.
func (c *conn) unpark() {
	if c.parked.CompareAndSwap(true, false) {
		c.resume(nil)
	}
}

// resume gives it one that first writes the rest of an answer.
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

// ready is called by the loop when there is something to read.
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

// quick answers the request that was read. If it cannot it has done nothing, or the client did not take the rest of the answer.
func (c *conn) quick() (rest []byte, ok bool) {
	l := c.lane
	h, ok := l.readHead(c.in[:c.w])
	if !ok || h.size == 0 || h.last || c.w != h.size+h.length || c.w == len(c.in) || l.draining.Load() {
		return nil, false
	}
	select {
	case <-c.free:
	default: // the answer before is still on its way
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

// sweep closes parked connections that were idle for too long, and drops closed ones.
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
			if c.quiet.Load() <= limit && !c.direct.closed() { // a request came just now
				c.resume(nil)
				continue
			}
			c.loop.remove(c)
			c.end()
		}
	}
}
