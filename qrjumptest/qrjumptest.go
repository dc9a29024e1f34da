// Package qrjumptest starts a qrjump server inside a Go test. The server is that of the qrjump program, with the emulator's controls.
//
//	srv := qrjumptest.Start(t, qrjumptest.Seed(`
//	accounts:
//	  - {appid: shop, kind: mini_program, secret: s3cret, versions: [release]}
//	`))
//	// point the SDK under test at srv.URL
//
// The server listens on a loopback port, stores its data in the test's temporary folder, and stops at the end of the test.
package qrjumptest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
)

// Server is a running server.
type Server struct {
	// URL is the base URL of the server, which an SDK uses instead of the platform's URL.
	URL string

	t testing.TB
}

// Option configures the start of the server.
type Option func(*options)

type options struct {
	seed     string
	database string
	strict   bool
}

// Seed starts the server with the accounts, rules and settings from the text of a seed file. Without Seed, the server starts with
// the demo accounts of "qrjump serve --dev".
func Seed(yaml string) Option { return func(o *options) { o.seed = yaml } }

// Database stores the state in PostgreSQL (a postgres:// URL) instead of the embedded database.
func Database(url string) Option { return func(o *options) { o.database = url } }

// Strict makes the test fail at its end for each deviation with the evidence level "observed", "documented" or "inferred". A deviation
// whose level is "assumed" does not fail the test, but Server.Deviations lists it too.
func Strict() Option { return func(o *options) { o.strict = true } }

// Start starts a server that stops at the end of the test. Rules may use private hosts, and neither a scan key nor an admin token
// is needed; adding a rule requires a verification file unless the seed file disables the check.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	var o options
	for _, set := range opts {
		set(&o)
	}
	dir := t.TempDir()
	c := server.Default()
	c.Data, c.Listen, c.Dev, c.Database = filepath.Join(dir, "data"), "127.0.0.1:0", true, o.database
	c.SeedAllow = server.Loopback
	if o.seed != "" {
		c.Seed = filepath.Join(dir, "seed.yaml")
		if err := os.WriteFile(c.Seed, []byte(o.seed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := server.Start(t.Context(), c, t.Output(), server.TestHooks{})
	if err != nil {
		t.Fatalf("starting qrjump: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("stopping qrjump: %v", err)
		}
	})
	started := &Server{URL: s.URL, t: t}
	if o.strict {
		t.Cleanup(started.failDeviations)
	}
	return started
}

// Deviation is a caller's action that this server accepted but the platform may reject.
type Deviation = client.Deviation

// Deviations lists the deviations of all callers since the start or the last Reset.
func (s *Server) Deviations() (list []Deviation) {
	s.t.Helper()
	s.operate("reading the deviations", func(ctx context.Context, c *client.Client) (err error) {
		list, err = c.Deviations.List(ctx, "")
		return err
	})
	return list
}

func (s *Server) failDeviations() {
	for _, d := range s.Deviations() {
		if d.EvidenceLevel != "assumed" {
			s.t.Errorf("%s deviates from the platform at %s (%s, %s, %d times, first in %s): %s", d.Account, d.Endpoint, d.Behaviour,
				d.EvidenceLevel,
				d.Count, d.FirstRID, d.Advice)
		}
	}
}

// Advance moves the server's clock forward. Tokens, quotas and calendar months follow the server's clock.
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	s.operate("advancing the clock", func(ctx context.Context, c *client.Client) error { return c.Emulator.Advance(ctx, d) })
}

// Now returns the server's time.
func (s *Server) Now() (now time.Time) {
	s.t.Helper()
	s.operate("reading the clock", func(ctx context.Context, c *client.Client) error {
		clock, err := c.Emulator.GetClock(ctx)
		now = clock.Now
		return err
	})
	return now
}

// Fault is an injected fault in the calls of an endpoint, or a fixed response to calls of a path.
type Fault = client.Fault

// Fail activates a fault. Earlier faults stay.
func (s *Server) Fail(f Fault) {
	s.t.Helper()
	s.operate("a fault of "+f.Path, func(ctx context.Context, c *client.Client) error { return c.Emulator.CreateFault(ctx, f) })
}

// Faults returns the active faults with the number of their occurrences.
func (s *Server) Faults() (list []client.ActiveFault) {
	s.t.Helper()
	s.operate("reading the faults", func(ctx context.Context, c *client.Client) (err error) {
		list, err = c.Emulator.ListFaults(ctx)
		return err
	})
	return list
}

// Reset restores the server to its seed file and to real time.
func (s *Server) Reset() {
	s.t.Helper()
	s.operate("resetting the server", func(ctx context.Context, c *client.Client) error { return c.Emulator.Reset(ctx) })
}

// ResetAccounts restores accounts, with their rules, codes, tokens, quotas and calls, to the state of the seed file. Other accounts remain
// unchanged, so that tests that share a server do not interfere with each other.
func (s *Server) ResetAccounts(appids ...string) {
	s.t.Helper()
	s.operate("resetting accounts", func(ctx context.Context, c *client.Client) error { return c.Emulator.ResetAccounts(ctx, appids) })
}

// Decision is the result of a scan.
type Decision struct {
	client.Decision
	Matched client.Matched // zero = nothing matched
}

// Scan scans a text as an anonymous user.
func (s *Server) Scan(text string) Decision {
	s.t.Helper()
	return s.ScanAs("", text)
}

// ScanAs scans a text as a user of the scanning app.
func (s *Server) ScanAs(user, text string) (d Decision) {
	s.t.Helper()
	s.operate("scanning "+text, func(ctx context.Context, c *client.Client) (err error) {
		if d.Decision, err = c.Scans.Resolve(ctx, client.ScanRequest{Text: text, User: user}); d.Decision.Matched != nil {
			d.Matched = *d.Decision.Matched
		}
		return err
	})
	return d
}
