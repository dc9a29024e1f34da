package fastpath

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// loop polls many parked connections at once.
type loop struct {
	file *os.File // an epoll descriptor that the Go runtime polls like a connection
	raw  syscall.RawConn

	mu    sync.Mutex
	conns map[int32]*conn // the polled connections by file descriptor
}

// maxEvents is the maximum number of connections that a loop handles per poll.
const maxEvents = 128

// startLoops starts one loop per processor, or as many as the system allows, possibly none. The caller must hold l.mu.
func (l *Listener) startLoops() {
	for range runtime.GOMAXPROCS(0) {
		fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
		if err != nil {
			return
		}
		_ = syscall.SetNonblock(fd, true)
		p := &loop{file: os.NewFile(uintptr(fd), "epoll"), conns: map[int32]*conn{}}
		if p.raw, err = p.file.SyscallConn(); err != nil || p.file.SetReadDeadline(time.Time{}) != nil {
			_ = p.file.Close() // the runtime cannot poll this descriptor
			return
		}
		l.loops = append(l.loops, p)
		l.running.Go(p.run)
	}
}

// stop ends a loop once it has handled the connections of its current poll.
func (p *loop) stop() { _ = p.file.Close() }

// add starts polling a connection; bytes that arrived before the call are reported too.
func (p *loop) add(c *conn) (ok bool) {
	p.withDescriptors(c, func(poll, fd int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		c.fd = int32(fd)
		p.conns[c.fd] = c
		// Events are edge-triggered: a read that does not fill the buffer has consumed everything except an end of stream or urgent
		// data, which the same event reports.
		const edges = 1 << 31 // EPOLLET
		e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLPRI | edges, Fd: c.fd}
		if ok = syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &e) == nil; !ok {
			delete(p.conns, c.fd)
		}
	})
	return ok
}

// remove stops polling a connection. If the connection is already closed, its descriptor may belong to another connection, whose entry in
// p.conns stays unchanged.
func (p *loop) remove(c *conn) {
	p.withDescriptors(c, func(poll, fd int) { _ = syscall.EpollCtl(poll, syscall.EPOLL_CTL_DEL, fd, nil) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns[c.fd] == c {
		delete(p.conns, c.fd)
	}
}

// withDescriptors calls f with the file descriptors of the loop and of the connection, unless one of the two is closed.
func (p *loop) withDescriptors(c *conn, f func(poll, fd int)) {
	_ = p.raw.Control(func(poll uintptr) {
		_ = c.direct.raw.Control(func(fd uintptr) { f(int(poll), int(fd)) })
	})
}

func (p *loop) run() {
	type readyConn struct {
		*conn
		plain bool // the event reports only readable bytes
	}
	events, ready, n := make([]syscall.EpollEvent, maxEvents), make([]readyConn, 0, maxEvents), 0
	poll := func(poll uintptr) bool {
		// The system call does not wait: the Go runtime has already waited for an event.
		got, _, fault := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, poll, uintptr(unsafe.Pointer(unsafe.SliceData(events))), maxEvents,
			0, 0, 0)
		n = int(got)
		if fault != 0 {
			n = 0
		}
		return n > 0
	}
	for p.raw.Read(poll) == nil {
		p.mu.Lock()
		for _, e := range events[:n] {
			if c := p.conns[e.Fd]; c != nil {
				ready = append(ready, readyConn{c, e.Events == syscall.EPOLLIN})
			}
		}
		p.mu.Unlock()
		for _, c := range ready {
			switch {
			case !c.plain:
				c.unpark()
			case c.parked.CompareAndSwap(true, false):
				c.handleReadable()
			}
		}
		clear(ready)
		ready = ready[:0]
	}
}
