package sdnotify_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/sdnotify"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// listenNotify listens on a notify socket as systemd does; receive returns the next message.
func listenNotify(t *testing.T) (receive func() string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Skip(err) // a system without such sockets
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return func() string {
		b := make([]byte, 4096)
		n := require.Value(c.Read(b))(t)
		return string(b[:n])
	}
}

func TestSDNotify_StateNotifications(t *testing.T) {
	receive := listenNotify(t)
	t.Setenv("WATCHDOG_USEC", "2000")
	t.Setenv("WATCHDOG_PID", "")
	s := sdnotify.Find()
	require.NoError(t, s.Ready("at\nhome"))
	assert.Equal(t, receive(), "READY=1\nSTATUS=at home", "message of Ready")
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan bool)
	failures := make(chan error, 1)
	go func() {
		defer close(stopped)
		s.Watch(ctx, func(context.Context) error {
			select {
			case err := <-failures:
				return err
			default:
				return nil
			}
		})
	}()
	assert.Equal(t, receive(), "WATCHDOG=1", "message of Watch")
	failures <- errors.New("no answer")
	got := receive()
	for got == "WATCHDOG=1" { // sent before the failure
		got = receive()
	}
	assert.Equal(t, got, "STATUS=not alive: no answer", "message of a failed check")
	stop()
	<-stopped
}

func TestSDNotify_WithoutSocket(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "1000")
	s := sdnotify.Find()
	assert.NoError(t, s.Stopping("x"))
	s.Watch(t.Context(), nil) // returns
	listenNotify(t)
	t.Setenv("WATCHDOG_PID", "1") // of another process
	sdnotify.Find().Watch(t.Context(), nil)
}
