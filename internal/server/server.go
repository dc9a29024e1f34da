// Package server connects the other packages to one process. Package server contains the configuration, keys, listeners, metrics, health,
// start and stop. Rules, codes and scans are in other packages.
package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/edge/fastpath"
	"github.com/qrjump/qrjump/internal/infra/clockguard"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/store"
)

// DrainTimeout is the time that running requests get to finish after the stop signal.
const DrainTimeout = 10 * time.Second

// TestHooks holds the dependencies that a test can replace; the zero value uses the real dependencies.
type TestHooks struct {
	RealNow func() time.Time
	// Elapsed returns the uptime of the server, independent of the server's clock; nil = real time.
	Elapsed  func() time.Duration
	Random   io.Reader
	Outbound *safehttp.Client
	// BodyTimeout is the timeout for reading a request body; 0 = 10 seconds.
	BodyTimeout time.Duration
	// FastPathTimeout is the time that the fast path waits for the rest of a request before net/http gets the connection; 0 = the default.
	FastPathTimeout time.Duration
	// Connections is the maximum number of connections of all listeners except the admin listener; 0 = derived from the process's
	// limit of open files.
	Connections int
	// RejectedKeyIdleTime is the idle timeout of a connection after a rejected key; 0 = ten seconds.
	RejectedKeyIdleTime time.Duration
	// NoFastPath makes net/http serve a separate scan listener without the fast path.
	NoFastPath bool
	// LakeEvery is the interval at which scans are written to the Parquet files of --lake; 0 = the default.
	LakeEvery time.Duration
	// PrimariesEvery is the interval at which the database servers are checked for accepting writes; 0 = the default.
	PrimariesEvery time.Duration
	// PassphraseWork is a lower cost for deriving a key from the passphrase of an export or a package; 0 = the normal cost.
	PassphraseWork int
	// Demo allows a server without --dev to use a database with the demo accounts; other machines must not reach the server.
	Demo bool
}

// Server is a running server. The types of the fields, such as serving, are declared in the files of the components that use them.
type Server struct {
	deps
	parts     lifecycle
	writing   atomic.Pointer[store.Servers] // state of the PostgreSQL servers at the last check; nil = not checked yet
	secrets   secrets
	emulation emulation
	domain    domain
	chosen    chosen
	scanning  scanning
	webhooks  *webhooks.Service
	rechecks  *rules.Verifier
	serving   serving

	// URL is the base URL of the wire API.
	URL string
	// ScanURL is the base URL of the scan API.
	ScanURL string
	// AdminURL is the base URL of the admin API and metrics.
	AdminURL string
}

// deps holds the dependencies that all components of a server share. Tests replace the clock, the randomness and the outbound client.
type deps struct {
	config    Config
	testHooks TestHooks
	log       *slog.Logger
	metrics   *metrics
	store     *store.Store
	wall      *clockguard.Clock
	now       func() time.Time // returns the emulated time with the emulator, else real time
	realNow   func() time.Time
	random    io.Reader
	outbound  safehttp.Client
}

// withStore returns a copy of d with another store.
func (d *deps) withStore(s *store.Store) *deps {
	changed := *d
	changed.store = s
	return &changed
}

// Start opens the store, loads the rules and opens the listeners. The server runs until Close is called; logs receives the log lines.
func Start(ctx context.Context, c Config, logs io.Writer, testHooks TestHooks) (*Server, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	s := newServer(c, logs, testHooks)
	if err := s.parts.start(ctx, s.order()); err != nil {
		return nil, err
	}
	if s.serving.startEnds != nil {
		s.serving.startEnds()
	}
	return s, nil
}

func newServer(c Config, logs io.Writer, testHooks TestHooks) *Server {
	s := &Server{deps: deps{config: c, testHooks: testHooks, log: newLogger(logs, c.LogFormat),
		realNow: testHooks.RealNow, random: testHooks.Random, outbound: outboundClient(testHooks.Outbound)}}
	if s.realNow == nil {
		s.realNow = time.Now
	}
	s.now = s.realNow // real time, until openClock selects the clock
	if s.random == nil {
		s.random = rand.Reader
	}
	s.testHooks.BodyTimeout = cmp.Or(testHooks.BodyTimeout, 10*time.Second)
	s.chosen.settings = settings.NewLive(settings.Defaults())
	s.serving.platform = sync.OnceValues(s.openAuthority)
	s.serving.drainTime, s.serving.lanes, s.serving.failed = DrainTimeout, map[*http.Server]*fastpath.Listener{}, make(chan error, 8)
	for _, text := range c.TrustedProxy {
		s.serving.proxies = append(s.serving.proxies, netip.MustParsePrefix(text)) // checked by Validate
	}
	return s
}

// order returns the components of a server in start order. Components stop in reverse order, so that a component can use the components
// before it until it has stopped. The listeners stop first. Webhooks and the shipper stop before the counter: the last count waits for a
// running shipper, which may wait for an unreachable stream or database. The counter stops before the scan log, the store after its users.
func (s *Server) order() []component {
	return []component{
		s.tracingComponent(), s.regionsComponent(), s.storeComponent(), s.primariesComponent(), s.keysComponent(), s.wallClockComponent(),
		{name: "accounts, rules and codes", start: s.openDomain}, // selects the server's clock, and creates the services
		s.settingsComponent(), s.countsComponent(), s.memoryComponent(), s.snapshotsComponent(),
		{name: "changes of other nodes", run: func(ctx context.Context) { s.domain.current.Follow(ctx) }},
		{name: "contact with the store", run: func(ctx context.Context) { s.reloadScanKeys(ctx, time.Second) }},
		s.scanLogComponent(), s.counterComponent(),
		{name: "lake", start: s.scans().openLake, run: func(ctx context.Context) { s.scanning.scanLog.lake.Run(ctx) }},
		{name: "shipper of scans", run: func(ctx context.Context) { s.scanning.scanLog.shipper.Run(ctx) }},
		{name: "answers to other nodes", run: func(ctx context.Context) { s.scanning.scanLog.nodes.Run(ctx) }},
		s.minuteComponent(), {name: "end of old scans", run: s.scans().forgetScans}, s.webhooksComponent(),
		{name: "rechecks", start: s.openRechecks, run: func(ctx context.Context) { s.rechecks.Run(ctx, recheckInterval) }},
		s.messagesComponent(), s.pushesComponent(), s.ordersComponent(),
		{name: "listeners", start: s.listen, stop: s.drain}, // stop waits for running requests, and then cuts them
	}
}

// Failed returns a channel that receives the error of a failed listener.
func (s *Server) Failed() <-chan error { return s.serving.failed }

// Close accepts no new connections, waits for running requests, and stops all components. Requests get DrainTimeout to finish, less the
// time that Run has already waited. A second call of Close does nothing.
func (s *Server) Close() error { return s.parts.stop() }
