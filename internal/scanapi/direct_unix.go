//go:build unix

package scanapi

import (
	"net"
	"syscall"
	"unsafe"
)

// direct writes to a connection without ever waiting for the client.
type direct struct {
	raw   syscall.RawConn
	b     []byte
	n     int
	write func(fd uintptr) bool
}

// newDirect is nil where a connection has no descriptor.
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
	d.write = func(fd uintptr) bool {
		for {
			n, _, err := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(d.b))), uintptr(len(d.b)))
			if err == syscall.EINTR {
				continue
			}
			if err == 0 {
				d.n = int(n)
			}
			return true
		}
	}
	return d
}

// send returns how many bytes the system took at once.
func (d *direct) send(b []byte) int {
	d.b, d.n = b, 0
	if d.raw.Write(d.write) != nil {
		return 0
	}
	return d.n
}
