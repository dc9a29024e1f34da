// Package natstest starts a NATS server with JetStream for tests.
package natstest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Options say how the server runs.
type Options struct {
	Dir      string // where its streams are
	Lazy     bool   // without "sync_interval: always": what it acknowledges may be lost
	Host     string // "" = 127.0.0.1
	Port     int    // 0 = any
	Monitors bool   // it can be asked for its settings
	// Blind: a user "blind" can bring messages, and read none.
	Blind bool
}

// Server is a running NATS server.
type Server struct{ *server.Server }

// Events returns the server as --scan-stream takes it, with an operator who vouches for its flushes.
func (s Server) Events() string { return fmt.Sprintf("nats://%s?flush=vouched", s.Addr()) }

// Monitored returns the server as --scan-stream takes it, which is asked itself whether it flushes.
func (s Server) Monitored() string {
	return fmt.Sprintf("nats://%s?monitor=http://%s", s.Addr(), s.MonitorAddr())
}

// Unread is Events for a server that reads nothing of what it brings.
func (s Server) Unread() string { return fmt.Sprintf("nats://blind:blind@%s?flush=vouched", s.Addr()) }

// End stops the server and waits for it.
func (s Server) End() {
	s.Shutdown()
	s.WaitForShutdown()
}

// Start starts a server that ends with the test; "" = a folder that does so too.
func Start(t testing.TB, o Options) Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := Run(o)
	require.NoError(t, err)
	t.Cleanup(s.End)
	return s
}

// Run is Start for a process of its own.
func Run(o Options) (Server, error) {
	options := server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: o.Dir, SyncAlways: !o.Lazy, NoSigs: true, NoLog: true}
	if o.Blind {
		options.Users = []*server.User{{Username: "all", Password: "all"}, {Username: "blind", Password: "blind",
			Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.CONSUMER.>"}}}}}
		options.NoAuthUser = "all"
	}
	if o.Host != "" {
		options.Host, options.Port = o.Host, o.Port
	}
	if o.Monitors {
		options.HTTPHost, options.HTTPPort = "127.0.0.1", -1
	}
	s, err := server.NewServer(&options)
	if err != nil {
		return Server{}, err
	}
	s.Start()
	if !s.ReadyForConnections(3 * time.Minute) {
		s.Shutdown()
		return Server{}, errors.New("the NATS server does not start")
	}
	return Server{s}, nil
}
