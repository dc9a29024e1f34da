//go:build unix

package fastpath

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// direct reads and writes a connection's file descriptor without notifying the Go scheduler. The scheduler must be notified only of calls
// that may block, but these calls never block; notifying it would cost as much as all other work for a small request.
type direct struct {
	raw syscall.RawConn

	in         []byte
	readBytes  int
	errno      syscall.Errno
	wouldBlock bool                  // no data is available yet
	readFunc   func(fd uintptr) bool // reads; returns false if no data is available yet
	tryFunc    func(fd uintptr)

	out       []byte
	written   int
	writeFunc func(fd uintptr) bool
}

// newDirect returns nil if a connection has no file descriptor.
func newDirect(conn net.Conn) *direct {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{raw: raw}
	d.readFunc = func(fd uintptr) bool {
		for {
			var n uintptr
			n, d.errno = rawSyscall(syscall.SYS_READ, fd, d.in)
			switch d.errno {
			case syscall.EINTR:
				continue
			case syscall.EAGAIN:
				return false
			}
			d.readBytes = int(n)
			return true
		}
	}
	d.tryFunc = func(fd uintptr) { d.wouldBlock = !d.readFunc(fd) }
	d.writeFunc = func(fd uintptr) bool {
		n, errno := rawSyscall(syscall.SYS_WRITE, fd, d.out)
		d.written = int(n)
		if errno != 0 {
			d.written = 0 // the caller then writes all bytes through package net, which blocks and reports errors
		}
		return true
	}
	return d
}

func rawSyscall(number, fd uintptr, b []byte) (uintptr, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return n, errno
}

// read returns available bytes, and blocks while none are available.
func (d *direct) read(b []byte) (int, error) {
	d.in, d.readBytes, d.errno = b, 0, 0
	err := d.raw.Read(d.readFunc)
	d.in = nil // without this assignment an idle connection would keep the buffer in memory
	switch {
	case err != nil:
		return 0, err
	case d.errno != 0:
		return 0, d.errno
	case d.readBytes == 0:
		return 0, io.EOF
	}
	return d.readBytes, nil
}

// try is a non-blocking read: wouldBlock reports that no data is available; n is 0 at the end of the stream and after an error.
func (d *direct) try(b []byte) (n int, wouldBlock bool) {
	d.in, d.readBytes, d.errno, d.wouldBlock = b, 0, 0, false
	err := d.raw.Control(d.tryFunc)
	if d.in = nil; err != nil || d.errno != 0 {
		return 0, d.wouldBlock
	}
	return d.readBytes, false
}

// closed reports whether the connection is closed.
func (d *direct) closed() bool { return d.raw.Control(func(uintptr) {}) != nil }

// write is a non-blocking write that returns the number of bytes that the system accepted at once.
func (d *direct) write(b []byte) int {
	d.out, d.written = b, 0
	_ = d.raw.Write(d.writeFunc)
	d.out = nil
	return d.written
}
