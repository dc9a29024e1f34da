package fastpath

import (
	"runtime"
	"time"
)

// A connection that has sent a plain request is parked while idle: it has no goroutine, and a loop polls it. Its loop answers requests that
// need no waiting: a plain request that arrived in one read, if Try returns a response and the client accepts all of it at once. For any
// other request, a parked connection gets a goroutine that starts from the bytes read so far, so that only conn.go handles errors of
// requests.

// maxMisses limits how often a parked connection may need a goroutine in a row. A connection above this limit keeps its goroutine, because
// its client sends requests in pieces or its responses need waiting.
const maxMisses = 8

// park hands an idle connection to a loop. If park returns true, the caller must not touch the connection any more.
func (c *conn) park() bool {
	l := c.listener
	if c.direct == nil || l.Try == nil || c.misses > maxMisses || l.draining.Load() {
		return false
	}
	if c.loop == nil {
		if c.loop = l.nextLoop(); c.loop == nil {
			return false
		}
	}
	c.r, c.w = 0, 0
	c.idleSweeps.Store(0)
	c.parked.Store(true)
	if !c.loop.add(c) {
		return !c.parked.CompareAndSwap(true, false)
	}
	return !c.reclaim()
}

// nextLoop returns, on each call, the next loop in round-robin order; nil = there are no loops.
func (l *Listener) nextLoop() *loop {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.loopsStarted && !l.draining.Load() {
		l.loopsStarted = true
		l.startLoops()
		if len(l.loops) > 0 {
			go l.sweep()
		} else if runtime.GOOS == "linux" {
			l.Log.Warn("epoll unavailable; idle connections of the scan listener keep their goroutines", "path", l.Path)
		}
	}
	if len(l.loops) == 0 {
		return nil
	}
	l.lastLoop++
	return l.loops[l.lastLoop%len(l.loops)]
}

// reclaim takes back a connection that was parked after Drain had already visited the parked connections.
func (c *conn) reclaim() bool {
	if !c.listener.draining.Load() || !c.parked.CompareAndSwap(true, false) {
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

// resume starts a goroutine for the connection; the goroutine first writes rest, the unsent end of a response.
func (c *conn) resume(rest []byte) {
	c.loop.remove(c)
	c.answered = false
	c.listener.running.Go(func() {
		if len(rest) > 0 {
			_, err := c.conn.Write(rest)
			c.release()
			if err != nil {
				c.end()
				return
			}
		}
		c.serve()
	})
}

// handleReadable is called by the loop when the connection is readable.
func (c *conn) handleReadable() {
	defer func() {
		if fault := recover(); fault != nil {
			c.logPanic(fault)
			c.loop.remove(c)
			c.end()
		}
	}()
	n, wouldBlock := c.direct.try(c.in)
	if !wouldBlock {
		c.idleSweeps.Store(0)
		c.r, c.w = 0, n
		if rest, ok := c.answerParked(); !ok {
			c.misses++
			c.resume(rest)
			return
		}
		c.misses = 0
	}
	c.parked.Store(true)
	if c.reclaim() {
		c.resume(nil)
	}
}

// answerParked answers the request that was read. If ok is false, either answerParked had no effect, or the client did not accept the
// remaining bytes of the response, which are returned in rest.
func (c *conn) answerParked() (rest []byte, ok bool) {
	l := c.listener
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
	doc, contentType, status := a.Wait(l.ctx, c.doc[:0])
	c.doc = doc
	c.compose(status, contentType, false)
	if n := c.direct.write(c.out); n < len(c.out) {
		return c.out[n:], false
	}
	c.setBusy(false)
	c.release()
	return nil, true
}

// sweep closes parked connections that were idle for too long, and removes closed connections.
func (l *Listener) sweep() {
	interval := max(min(deadlineTolerance, l.IdleTime/4), time.Millisecond)
	limit := int32(l.IdleTime/interval) + 1
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
		}
		var expired []*conn
		l.visit(func(c *conn) {
			if !c.parked.Load() {
				return
			}
			if (c.idleSweeps.Add(1) > limit || c.direct.closed()) && c.parked.CompareAndSwap(true, false) {
				expired = append(expired, c)
			}
		})
		for _, c := range expired {
			if c.idleSweeps.Load() <= limit && !c.direct.closed() { // a request arrived in the meantime
				c.resume(nil)
				continue
			}
			c.loop.remove(c)
			c.end()
		}
	}
}
