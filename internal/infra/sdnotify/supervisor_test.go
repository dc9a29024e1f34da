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

// listen is what systemd listens at; heard is the next that it hears.
func listen(t *testing.T) (heard func() string) {
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
		n, err := c.Read(b)
		require.NoError(t, err)
		return string(b[:n])
	}
}

func TestSDNotify_StateNotifications(t *testing.T) {
	heard := listen(t)
	t.Setenv("WATCHDOG_USEC", "2000")
	t.Setenv("WATCHDOG_PID", "")
	s := sdnotify.Find()
	require.NoError(t, s.Ready("at\nhome"))
	assert.Equal(t, heard(), "READY=1\nSTATUS=at home", "heard")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan bool)
	sick := make(chan error, 1)
	go func() {
		defer close(ended)
		s.Watch(ctx, func(context.Context) error {
			select {
			case err := <-sick:
				return err
			default:
				return nil
			}
		})
	}()
	assert.Equal(t, heard(), "WATCHDOG=1", "heard")
	sick <- errors.New("no answer")
	got := heard()
	for got == "WATCHDOG=1" { // said before
		got = heard()
	}
	assert.True(t, got == "STATUS=not alive: no answer", "got %q", got)
	stop()
	<-ended
}

func TestSDNotify_WithoutSocket(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "1000")
	s := sdnotify.Find()
	assert.NoError(t, s.Stopping("x"))
	s.Watch(t.Context(), nil) // returns
	listen(t)
	t.Setenv("WATCHDOG_PID", "1") // of another process
	sdnotify.Find().Watch(t.Context(), nil)
}
