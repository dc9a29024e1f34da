// Package server wires the parts into one process: configuration, keys, store,
// listeners, metrics, health, start and stop. It decides nothing about rules.
package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
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

// DrainTimeout is the time that running requests may take after the signal to stop.
const DrainTimeout = 10 * time.Second

// TestHooks are dependencies that a test replaces; the zero value uses the real ones.
type TestHooks struct {
	RealNow func() time.Time
	// Elapsed returns the uptime of the server, whatever its clock shows; nil = real time.
	Elapsed  func() time.Duration
	Random   io.Reader
	Outbound *safehttp.Client
	// BodyTimeout is the timeout of a request's body; 0 = 10 seconds.
	BodyTimeout time.Duration
	// LanePatience is the time that the rest of a scan's request may take before net/http gets it; 0 = the lane's own.
	LanePatience time.Duration
	// Connections is the maximum number of connections of all listeners but the admin's; 0 = as many as the process may open files
	// for.
	Connections int
	// RefusedTime is the time that a connection may be idle after a refused key; 0 = ten seconds.
	RefusedTime time.Duration
	// NoLane leaves a scan listener of its own to net/http alone.
	NoLane bool
	// LakeEvery is the interval at which scans are written to the lake; 0 = the default.
	LakeEvery time.Duration
	// PrimariesEvery is the interval at which servers of the database are asked whether they take writes; 0 = the default.
	PrimariesEvery time.Duration
	// PassphraseWork makes the passphrase of an export or of a package cheap; 0 = as dear as it is.
	PassphraseWork int
	// Demo lets a database with the demo accounts start without --dev: this server is not reachable by others.
	Demo bool
}

// Server is a running server. Things that its parts share stand in the files of the parts.
type Server struct {
	deps
	parts     lifecycle
	writing   atomic.Pointer[store.Servers] // of PostgreSQL, when they were last asked; nil = not yet
	secrets   secrets
	emulation emulation
	domain    domain
	chosen    chosen
	scanning  scanning
	webhooks  *webhooks.Book
	rechecks  *rules.Verifier
	serving   serving

	// URL is the address of the wire.
	URL string
	// ScanURL is the address of the scan API.
	ScanURL string
	// AdminURL is the address of the admin API and metrics.
	AdminURL string
}

// deps holds the dependencies of every component of a server. Tests put their own time, chance and other servers in place of the
// real ones.
type deps struct {
	config   Config
	seams    TestHooks
	log      *slog.Logger
	metrics  *metrics
	store    *store.Store
	wall     *clockguard.Clock
	now      func() time.Time // the emulated clock, where there is one
	realNow  func() time.Time
	random   io.Reader
	outbound safehttp.Client
}

// Start opens the store, loads the rules and listens. The server runs until
// Close. logs is where log lines go.
func Start(ctx context.Context, c Config, logs io.Writer, seams TestHooks) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := newServer(c, logs, seams)
	if err := s.parts.start(ctx, s.order()); err != nil {
		return nil, err
	}
	if s.serving.startEnds != nil {
		s.serving.startEnds()
	}
	return s, nil
}

func newServer(c Config, logs io.Writer, seams TestHooks) *Server {
	s := &Server{deps: deps{config: c, seams: seams, log: newLogger(logs, c.LogFormat),
		realNow: seams.RealNow, random: seams.Random, outbound: outboundClient(seams.Outbound)}}
	if s.realNow == nil {
		s.realNow = time.Now
	}
	s.now = s.realNow // until openClock has chosen
	if s.random == nil {
		s.random = rand.Reader
	}
	s.seams.BodyTimeout = cmp.Or(seams.BodyTimeout, 10*time.Second)
	s.chosen.settings = settings.NewLive(settings.Defaults())
	s.serving.drainTime, s.serving.lanes, s.serving.failed = DrainTimeout, map[*http.Server]*fastpath.Listener{}, make(chan error, 8)
	for _, text := range c.TrustedProxy {
		s.serving.proxies = append(s.serving.proxies, netip.MustParsePrefix(text)) // checked by Validate
	}
	return s
}

// order returns the parts of a server as they start. They end in reverse, so that each
// finds what it uses: requests before all that answers them, those that tell of
// scans before the counter, the shipper before the counter, the counter before the
// ledger, and everything before the store.
func (s *Server) order() []component {
	return []component{
		s.regionsPart(), s.storePart(), s.primariesPart(), s.keysPart(), s.wallClockPart(), s.domainPart(), s.settingsPart(),
		s.countsPart(),
		s.memoryPart(), s.snapshotsPart(), s.followPart(), s.contactPart(),
		s.ledgerPart(), s.counterPart(), s.lakePart(), s.shipperPart(), s.nodesPart(), s.minutePart(), s.forgetPart(),
		s.webhooksPart(), s.rechecksPart(), s.messagesPart(), s.pushesPart(), s.ordersPart(),
		s.listenersPart(),
	}
}

// Failed delivers the error of a listener that broke.
func (s *Server) Failed() <-chan error { return s.serving.failed }

// Close drains: no new connections, running requests get DrainTimeout, less what
// Run took of it, then everything ends that they used. A second call does nothing.
func (s *Server) Close() error { return s.parts.stop() }
