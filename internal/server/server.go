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
	"sync"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/api"
	"github.com/qrjump/qrjump/internal/calls"
	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/live"
	"github.com/qrjump/qrjump/internal/outbound"
	"github.com/qrjump/qrjump/internal/rules"
	"github.com/qrjump/qrjump/internal/scanapi"
	"github.com/qrjump/qrjump/internal/settings"
	"github.com/qrjump/qrjump/internal/stats"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/vault"
	"github.com/qrjump/qrjump/internal/webhooks"
)

// DrainTimeout is how long running requests may take after the signal to stop.
const DrainTimeout = 10 * time.Second

// Version is the version of the program.
const Version = "0.1.0-dev"

// Seams are what a test replaces; the zero value is the real world.
type Seams struct {
	RealNow  func() time.Time
	Random   io.Reader
	Outbound *outbound.Client
	// BodyTimeout is how long the body of a request may take; 0 = 10 seconds.
	BodyTimeout time.Duration
	// LanePatience is how long the rest of a scan's request may take before net/http
	// gets it; 0 = the lane's own.
	LanePatience time.Duration
	// Connections is how many connections all listeners but the admin's may have;
	// 0 = as many as the process may open files for.
	Connections int
	// RefusedTime is how long a connection may be idle after a refused key; 0 = ten seconds.
	RefusedTime time.Duration
	// NoLane leaves a scan listener of its own to net/http alone.
	NoLane bool
	// ExportWork makes the passphrase of an export cheap; 0 = as dear as it is.
	ExportWork int
	// Demo lets a database with the demo accounts start without --dev: nobody
	// else reaches this server.
	Demo bool
}

// Server is a running server.
type Server struct {
	config       Config
	log          *slog.Logger
	now          func() time.Time
	realNow      func() time.Time
	bodyTime     time.Duration
	lanePatience time.Duration
	noLane       bool
	connections  int
	refusedTime  time.Duration
	rooms        map[bool]*room // true = the admin listener's
	random       io.Reader
	store        *store.Store
	ring         *keyring
	exportWork   int
	demo         bool
	vault        *vault.Key
	settings     *settings.Live
	seed         *seedFile  // nil = none
	loading      sync.Mutex // one reader of the stored settings at a time
	accounts     *accounts.Directory
	rules        *rules.Book
	press        *codes.Press
	desk         *codes.Desk
	users        *vault.Hasher // of the ledger
	ledger       *scanLedger
	regions      *stats.Regions
	counter      *stats.Counter
	lanes        map[*http.Server]*scanapi.Lane
	contact      contact
	openIDs      *accounts.OpenIDs
	keys         *accounts.ScanKeys
	current      *live.Current
	clock        *emulator.Clock
	wall         *wallClock
	plan         *emulator.Plan
	calls        *emulator.Calls[api.Record]
	metrics      *metrics
	outbound     outbound.Client
	adminToken   string
	guesses      accounts.Guesses // of the admin token
	newToken     bool
	certificate  certificate
	proxies      []netip.Prefix
	draining     atomic.Bool
	drainTime    time.Duration
	servers      []*http.Server
	accepting    sync.WaitGroup     // the servers
	requests     sync.RWMutex       // read-locked by each; locked for good when there are to be no more
	cutRequests  context.CancelFunc // ends what those that run wait for
	failed       chan error
	webhooks     *webhooks.Book
	rechecks     *rules.Rechecker
	book         *calls.Book

	// URL is where the wire is served.
	URL string
	// ScanURL is where the scan API is served.
	ScanURL string
	// AdminURL is where the admin API and metrics are served.
	AdminURL string

	addresses Addresses // as they stand in the data folder; zero: they do not

	parts runner
}

// Start opens the store, loads the rules and listens. The server runs until
// Close. logs is where log lines go.
func Start(ctx context.Context, c Config, logs io.Writer, seams Seams) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := newServer(c, logs, seams)
	if err := s.parts.start(ctx, s.order()); err != nil {
		return nil, err
	}
	return s, nil
}

func newServer(c Config, logs io.Writer, seams Seams) *Server {
	s := &Server{config: c, log: newLogger(logs, c.LogFormat), realNow: seams.RealNow, random: seams.Random, drainTime: DrainTimeout,
		settings: settings.NewLive(settings.Defaults()), outbound: outboundClient(seams.Outbound), lanes: map[*http.Server]*scanapi.Lane{}, failed: make(chan error, 8)}
	if s.realNow == nil {
		s.realNow = time.Now
	}
	s.now = s.realNow // until openClock has chosen
	s.bodyTime = cmp.Or(seams.BodyTimeout, 10*time.Second)
	s.connections, s.refusedTime = seams.Connections, seams.RefusedTime
	s.lanePatience, s.noLane, s.exportWork, s.demo = seams.LanePatience, seams.NoLane, seams.ExportWork, seams.Demo
	if s.random == nil {
		s.random = rand.Reader
	}
	for _, text := range c.TrustedProxy {
		s.proxies = append(s.proxies, netip.MustParsePrefix(text)) // checked by Validate
	}
	return s
}

// order is the parts of a server as they start. They end in reverse, so that each
// finds what it uses: requests before all that answers them, those that tell of
// scans before the counter, the shipper before the counter, the counter before the
// ledger, and everything before the store.
func (s *Server) order() []part {
	return []part{
		s.regionsPart(), s.storePart(), s.keysPart(), s.wallClockPart(), s.domainPart(), s.settingsPart(), s.countsPart(),
		s.memoryPart(), s.snapshotsPart(), s.followPart(), s.limitsPart(), s.contactPart(),
		s.ledgerPart(), s.counterPart(), s.shipperPart(), s.nodesPart(), s.forgetPart(),
		s.webhooksPart(), s.rechecksPart(), s.messagesPart(), s.pushesPart(),
		s.listenersPart(),
	}
}

// Failed delivers the error of a listener that broke.
func (s *Server) Failed() <-chan error { return s.failed }

// Close drains: no new connections, running requests get DrainTimeout, less what
// Run took of it, then everything ends that they used. A second call does nothing.
func (s *Server) Close() error { return s.parts.stop() }
