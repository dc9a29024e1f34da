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

// Options configure the server.
type Options struct {
	Dir      string // the folder of the streams
	Lazy     bool   // without "sync_interval: always": acknowledged messages may be lost
	Host     string // "" = 127.0.0.1
	Port     int    // 0 = any
	Monitors bool   // with the HTTP monitoring endpoint
	// PublishOnly adds a user "publisher" that can publish messages and cannot read them.
	PublishOnly bool
}

// Server is a running NATS server.
type Server struct{ *server.Server }

// URL returns the URL for --scan-stream with flush=vouched: the operator guarantees that the server flushes.
func (s Server) URL() string { return fmt.Sprintf("nats://%s?flush=vouched", s.Addr()) }

// MonitoredURL returns the URL for --scan-stream with the monitoring endpoint, from which qrjump reads whether the server flushes.
func (s Server) MonitoredURL() string {
	return fmt.Sprintf("nats://%s?monitor=http://%s", s.Addr(), s.MonitorAddr())
}

// PublishOnlyURL is URL with the user "publisher".
func (s Server) PublishOnlyURL() string {
	return fmt.Sprintf("nats://publisher:publisher@%s?flush=vouched", s.Addr())
}

// Stop stops the server and waits until it has stopped.
func (s Server) Stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

// Start starts a server and stops it when the test ends. An empty Dir is a temporary folder.
func Start(t testing.TB, o Options) Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s := require.Value(Run(o))(t)
	t.Cleanup(s.Stop)
	return s
}

// Run starts a server for a separate process. The caller must stop it.
func Run(o Options) (Server, error) {
	options := server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: o.Dir, SyncAlways: !o.Lazy, NoSigs: true, NoLog: true}
	if o.PublishOnly {
		options.Users = []*server.User{{Username: "all", Password: "all"}, {Username: "publisher", Password: "publisher",
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
		return Server{}, errors.New("the NATS server is not ready after 3 minutes")
	}
	return Server{s}, nil
}
