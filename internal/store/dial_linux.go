package store

import (
	"strings"
	"syscall"
	"time"
)

// userTimeout is the socket option TCP_USER_TIMEOUT: how long sent bytes may stay unacknowledged by the peer, in milliseconds.
// Without TCP_USER_TIMEOUT, Linux retransmits unacknowledged data for a quarter of an hour before a write fails. TCP_USER_TIMEOUT does not
// affect a commit that waits for a replica, because the database server's TCP stack has acknowledged the bytes of the COMMIT.
const (
	userTimeout           = 0x12
	unacknowledgedTimeout = 30 * time.Second
)

func limitUnacknowledged(network, _ string, c syscall.RawConn) (err error) {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	if failed := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout, int(unacknowledgedTimeout.Milliseconds()))
	}); failed != nil {
		return failed
	}
	return err
}
