//go:build unix

package fastpath

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// direct reads and writes a connection's descriptor without telling the scheduler, which would get ready for a call that
// blocks: none of these does, and telling it costs as much as the rest of a small request.
type direct struct {
	raw syscall.RawConn

	in      []byte
	got     int
	fault   syscall.Errno
	again   bool                  // nothing is there yet
	reading func(fd uintptr) bool // reports whether it is known what to return
	trying  func(fd uintptr)

	out     []byte
	sent    int
	writing func(fd uintptr) bool
}

// directly is nil where a connection has no descriptor.
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
		if d.sent = int(n); fault != 0 {
			d.sent = 0 // what fails here fails again where it is waited for
		}
		return true
	}
	return d
}

func call(number, fd uintptr, b []byte) (uintptr, syscall.Errno) {
	n, _, fault := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return n, fault
}

// read reads what is there, and waits while nothing is.
func (d *direct) read(b []byte) (int, error) {
	d.in, d.got, d.fault = b, 0, 0
	err := d.raw.Read(d.reading)
	d.in = nil // or an idle connection would hold it
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

// try is read where nothing is waited for: repeat says that nothing is there. n is 0 at the end and after a fault.
func (d *direct) try(b []byte) (n int, repeat bool) {
	d.in, d.got, d.fault, d.again = b, 0, 0, false
	err := d.raw.Control(d.trying)
	if d.in = nil; err != nil || d.fault != 0 {
		return 0, d.again
	}
	return d.got, false
}

// closed reports whether the connection was closed.
func (d *direct) closed() bool { return d.raw.Control(func(uintptr) {}) != nil }

// write never waits for the client: it returns how many bytes the system took at once.
func (d *direct) write(b []byte) int {
	d.out, d.sent = b, 0
	_ = d.raw.Write(d.writing)
	d.out = nil
	return d.sent
}
