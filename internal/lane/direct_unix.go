//go:build unix

package lane

import (
	"net"
	"syscall"
	"unsafe"
)

// directly makes the writer to a connection that never waits for the client: it
// returns how many bytes the system took at once. nil where a connection has no
// descriptor.
func directly(conn net.Conn) func(b []byte) int {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var b []byte
	var n uintptr
	write := func(fd uintptr) bool {
		var fault syscall.Errno
		if n, _, fault = syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))),
			uintptr(len(b))); fault != 0 {
			n = 0 // what fails here fails again where it is waited for
		}
		return true
	}
	return func(what []byte) int {
		b, n = what, 0
		_ = raw.Write(write)
		return int(n)
	}
}
