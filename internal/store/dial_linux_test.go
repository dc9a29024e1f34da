package store

import (
	"net"
	"syscall"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// What a server does not take is given up after half a minute, also where a commit waits behind it: the kernel was told so, for
// each connection.
func TestPostgresDial_TCPUserTimeout(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	dial, _ := (&deadlines{}).listening()
	for name, connect := range map[string]func() (net.Conn, error){
		"a connection of the pool":    func() (net.Conn, error) { return dial(t.Context(), "tcp", listener.Addr().String()) },
		"one on which a node listens": func() (net.Conn, error) { return dialer.DialContext(t.Context(), "tcp", listener.Addr().String()) },
	} {
		conn, err := connect()
		require.NoError(t, err)
		defer conn.Close()
		if line, is := conn.(*deadlineConn); is {
			conn = line.Conn
		}
		raw, err := conn.(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		got := 0
		failed := raw.Control(func(fd uintptr) { got, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout) })
		require.True(t, failed == nil && err == nil, "%v %v", failed, err)
		assert.Equal(t, got, int(unacknowledgedTimeout.Milliseconds()), "%s", name)
	}
}
