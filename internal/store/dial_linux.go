package store

import (
	"strings"
	"syscall"
	"time"
)

// userTimeout is TCP_USER_TIMEOUT: how long sent bytes may wait for the peer's system to take them, in milliseconds. Without it
// our system would try for a quarter of an hour. It does not end a commit that waits for a replica, because the server has
// taken its bytes.
const (
	userTimeout = 0x12
	untakenTime = 30 * time.Second
)

func untaken(network, _ string, c syscall.RawConn) (err error) {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	if failed := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout, int(untakenTime.Milliseconds()))
	}); failed != nil {
		return failed
	}
	return err
}
