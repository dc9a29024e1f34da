//go:build unix

package fastpath

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// direct reads and writes a connection's file descriptor without notifying the Go scheduler, which prepares for blocking calls; the
// system calls of direct never block, and the notification costs as much as the rest of a small request.
type direct struct {
	raw syscall.RawConn

	in      []byte
	got     int
	fault   syscall.Errno
	again   bool                  // no data is available yet
	reading func(fd uintptr) bool // reports whether a read result is available
	trying  func(fd uintptr)

	out     []byte
	sent    int
	writing func(fd uintptr) bool
}

// directly returns nil if a connection has no file descriptor.
func directly(conn net.Conn) *direct {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{raw: raw}
	d.reading = func(fd uintptr) bool {
		for {
			var n uintptr
			n, d.fault = call(syscall.SYS_READ, fd, d.in)
			switch d.fault {
			case syscall.EINTR:
				continue
			case syscall.EAGAIN:
				return false
			}
			d.got = int(n)
			return true
		}
	}
	d.trying = func(fd uintptr) { d.again = !d.reading(fd) }
	d.writing = func(fd uintptr) bool {
		n, fault := call(syscall.SYS_WRITE, fd, d.out)
		d.sent = int(n)
		if fault != 0 {
			d.sent = 0 // the write is repeated in the fallback, which blocks and reports the error
		}
		return true
	}
	return d
}

func call(number, fd uintptr, b []byte) (uintptr, syscall.Errno) {
	n, _, fault := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return n, fault
}

// read returns available bytes, and blocks while none are available.
func (d *direct) read(b []byte) (int, error) {
	d.in, d.got, d.fault = b, 0, 0
	err := d.raw.Read(d.reading)
	d.in = nil // without this assignment an idle connection would keep the buffer in memory
	switch {
	case err != nil:
		return 0, err
	case d.fault != 0:
		return 0, d.fault
	case d.got == 0:
		return 0, io.EOF
	}
	return d.got, nil
}

// try is a non-blocking read: repeat reports that no data is available; n is 0 at the end of the stream and after an error.
func (d *direct) try(b []byte) (n int, repeat bool) {
	d.in, d.got, d.fault, d.again = b, 0, 0, false
	err := d.raw.Control(d.trying)
	if d.in = nil; err != nil || d.fault != 0 {
		return 0, d.again
	}
	return d.got, false
}

// closed reports whether the connection is closed.
func (d *direct) closed() bool { return d.raw.Control(func(uintptr) {}) != nil }

// write is a non-blocking write that returns the number of bytes that the system accepted at once.
func (d *direct) write(b []byte) int {
	d.out, d.sent = b, 0
	_ = d.raw.Write(d.writing)
	d.out = nil
	return d.sent
}
