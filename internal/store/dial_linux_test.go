package store

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestPostgresDial_TCPUserTimeout verifies that TCP_USER_TIMEOUT is set on each connection, so that the kernel closes a connection whose
// data is not acknowledged.
func TestPostgresDial_TCPUserTimeout(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	dial, _ := (&deadlines{}).listening()
	for name, connect := range map[string]func() (net.Conn, error){
		"a connection of the pool": func() (net.Conn, error) { return dial(t.Context(), "tcp", listener.Addr().String()) },
		"a connection for notifications": func() (net.Conn, error) {
			return dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
		},
	} {
		conn, err := connect()
		require.NoError(t, err)
		defer conn.Close()
		if c, ok := conn.(*deadlineConn); ok {
			conn = c.Conn
		}
		raw, err := conn.(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		got := 0
		failed := raw.Control(func(fd uintptr) { got, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout) })
		require.NoError(t, errors.Join(failed, err))
		assert.Equal(t, got, int(unacknowledgedTimeout.Milliseconds()), "TCP_USER_TIMEOUT of %s", name)
	}
}
