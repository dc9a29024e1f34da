// Package server wires the parts into one process: configuration, keys, store,
// listeners, metrics, health, start and stop. It decides nothing about rules.
package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/adminapi"
	"github.com/qrjump/qrjump/internal/api"
	"github.com/qrjump/qrjump/internal/calls"
	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/consent"
	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/errcode"
	"github.com/qrjump/qrjump/internal/history"
	"github.com/qrjump/qrjump/internal/ledger"
	"github.com/qrjump/qrjump/internal/outbound"
	"github.com/qrjump/qrjump/internal/rules"
	"github.com/qrjump/qrjump/internal/scan"
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
	config        Config
	log           *slog.Logger
	now           func() time.Time
	realNow       func() time.Time
	bodyTime      time.Duration
	lanePatience  time.Duration
	noLane        bool
	connections   int
	refusedTime   time.Duration
	rooms         map[bool]*room // true = the admin listener's
	random        io.Reader
	store         *store.Store
	ring          *keyring
	exportWork    int
	demo          bool
	vault         *vault.Key
	settings      *settings.Live
	loading       sync.Mutex // one reader of the stored settings at a time
	accounts      *accounts.Directory
	rules         *rules.Book
	press         *codes.Press
	desk          *codes.Desk
	users         *vault.Hasher // of the ledger
	ledger        *scanLedger
	regions       *stats.Regions
	counter       *stats.Counter
	stopCounter   func()
	stopLedger    func()
	lanes         map[*http.Server]*scanapi.Lane
	contact       contact
	openIDs       *accounts.OpenIDs
	keys          *scan.Keys
	current       *scan.Current
	clock         *emulator.Clock
	wall          *wallClock
	plan          *emulator.Plan
	calls         *emulator.Calls[api.Record]
	metrics       *metrics
	outbound      outbound.Client
	adminToken    string
	guesses       accounts.Guesses // of the admin token
	newToken      bool
	certificate   certificate
	proxies       []netip.Prefix
	draining      atomic.Bool
	drainTime     time.Duration
	servers       []*http.Server
	failed        chan error
	stopRetry     context.CancelFunc
	stopFollowing func()
	stopSnapshots func()
	stopMessages  func()
	stopPushes    func()
	webhooks      *webhooks.Book
	stopWebhooks  func()
	rechecks      *rules.Rechecker
	stopRechecks  func()
	book          *calls.Book
	stopBook      func() error

	// URL is where the wire is served.
	URL string
	// ScanURL is where the scan API is served.
	ScanURL string
	// AdminURL is where the admin API and metrics are served.
	AdminURL string

	addresses Addresses // as they stand in the data folder; zero: they do not
}

// Start opens the store, loads the rules and listens. The server runs until
// Close. logs is where log lines go.
func Start(ctx context.Context, c Config, logs io.Writer, seams Seams) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{config: c, log: newLogger(logs, c.LogFormat), realNow: seams.RealNow, random: seams.Random, drainTime: DrainTimeout,
		settings: settings.NewLive(settings.Defaults()), outbound: outboundClient(seams.Outbound), lanes: map[*http.Server]*scanapi.Lane{}, failed: make(chan error, 8)}
	if s.realNow == nil {
		s.realNow = time.Now
	}
	s.bodyTime = cmp.Or(seams.BodyTimeout, 10*time.Second)
	s.connections, s.refusedTime = seams.Connections, seams.RefusedTime
	s.lanePatience, s.noLane, s.exportWork, s.demo = seams.LanePatience, seams.NoLane, seams.ExportWork, seams.Demo
	if s.random == nil {
		s.random = rand.Reader
	}
	for _, text := range c.TrustedProxy {
		s.proxies = append(s.proxies, netip.MustParsePrefix(text)) // checked by Validate
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.closeStore())
	}
	if err := s.listen(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open prepares everything that needs no listener.
func (s *Server) open(ctx context.Context) error {
	if err := os.MkdirAll(s.config.Data, 0o700); err != nil {
		return usage("making the data folder: %v", err)
	}
	var err error
	if err := refuseLost(s.config); err != nil {
		return err
	}
	seed, err := readSeed(s.config)
	if err != nil {
		return err
	}
	check := func(ctx context.Context, db *store.Store, schema int64) error { return s.check(ctx, db, schema, seed) }
	if s.store, err = store.Open(ctx, store.Target{URL: s.config.Database, Dir: s.config.Data, Check: check}); err != nil {
		return usageError{err}
	}
	ring, err := s.openKeyring(ctx, s.store)
	if err != nil {
		return err
	}
	s.ring = ring
	s.warnOfReadable("master.key", "admin-token", "qrjump.db", "qrjump.db-wal")
	if s.vault, err = ring.vault(ctx); err != nil {
		return err
	}
	if err := keepIdentity(s.config, s.vault); err != nil {
		return err
	}
	// Until openClock has chosen, time is real.
	s.now = s.realNow
	s.wall = openWallClock(s.config.Data, s.realNow, s.log)
	if err := s.keepChanges(ctx); err != nil {
		return err
	}
	if s.adminToken, s.newToken, err = adminToken(s.config, s.random); err != nil {
		return err
	}
	if err := s.openClock(ctx); err != nil {
		return err
	}
	s.openBook()
	s.current = &scan.Current{Rules: scan.NewIndex(), Accounts: scan.NewDirectory(), Codes: codes.NewMemory(s.store), RuleStore: s.store, AccountStore: s.store, Log: s.log}
	s.accounts = &accounts.Directory{Store: s.store, Key: s.vault, Settings: s.settings, Now: s.now, Random: s.random, LeastSecret: s.config.leastSecret(), Changed: s.current.AccountChanged, Spend: s.book.Spend, Epochs: s.store.Epochs(), ClockBelieved: s.wall.believed, CountNow: s.countNow, RealNow: s.realNow, Guessed: s.guessed}
	s.rules = &rules.Book{Store: s.store, Settings: s.settings, Now: s.now, CountNow: s.countNow, ClockBelieved: s.wall.believed, Fetch: s.fetch, Changed: s.current.RuleChanged, ManyChanged: s.current.ManyChanged}
	if err := s.openPress(ctx, ring); err != nil {
		return err
	}
	s.keys = &scan.Keys{Store: s.store, Vault: s.vault, Now: s.now, Random: s.random}
	s.followed()
	s.metrics = newMetrics(func() float64 { return float64(s.current.Rules.Len()) }, func() float64 {
		if s.current.Ready() != nil {
			return 1
		}
		return 0
	})
	s.metrics.watchBook(s.book)
	s.metrics.watchAge(s.age)
	s.metrics.watchFollowing(s.current)
	if err := s.loadSettings(ctx); err != nil {
		return err
	}
	if err := s.applySeed(ctx, seed, s.now); err != nil {
		return err
	}
	s.keepSnapshots()
	if err := s.current.Load(ctx); err != nil {
		return err
	}
	if err := s.keys.Load(ctx); err != nil {
		return err
	}
	if err := s.openLedger(ctx); err != nil {
		return err
	}
	if err := s.openNodes(ctx); err != nil {
		return err
	}
	s.openCounter()
	if err := s.beginCounter(ctx); err != nil {
		return err
	}
	s.openWebhooks()
	s.openRechecks()
	if err := s.accounts.CompleteGrants(ctx); err != nil {
		return err
	}
	retry, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	s.stopRetry = func() {
		stop()
		running.Wait()
	}
	running.Go(func() { s.current.Retry(retry, time.Second) })
	running.Go(func() { s.keepInTouch(retry, time.Second) })
	running.Go(func() { s.wall.watch(retry) }) // it writes into the data folder, which ends with the server
	s.stopFollowing = s.startFollowing()
	s.stopSnapshots = s.startSnapshots()
	s.stopMessages = s.startMessenger()
	s.stopPushes = s.startPushes()
	s.stopWebhooks = s.startWebhooks()
	s.stopRechecks = s.startRechecks()
	s.stopBook = s.startBook()
	s.stopCounter = s.startCounter()
	s.stopLedger = s.startLedger()
	return nil
}

// check returns an error for a database that this server cannot work with, before
// anything in it was changed: a program that could use it until now still can.
// schema is as in store.Target: tables that are asked for have not changed since.
func (s *Server) check(ctx context.Context, db *store.Store, schema int64, seed *seedFile) error {
	// Files that cannot be read, too, refuse a start before it changes anything.
	if err := s.openTLS(); err != nil {
		return err
	}
	if err := s.openRegions(); err != nil {
		return err
	}
	if err := s.tryListeners(ctx); err != nil {
		return err
	}
	if err := s.checkSeed(ctx, db, schema, seed); err != nil {
		return err
	}
	if schema == 0 {
		return refuseEmpty(s.config, true)
	}
	ring, err := s.openKeyring(ctx, db)
	if err != nil || ring.fresh {
		return err
	}
	if err := s.checkKeys(ctx, db, ring, schema); err != nil {
		return err
	}
	return s.refuseDemo(ctx, db)
}

// checkSeed returns an error for a seed that cannot be; one that was applied
// before is not judged again.
func (s *Server) checkSeed(ctx context.Context, db *store.Store, schema int64, f *seedFile) error {
	if f == nil {
		return nil
	}
	if schema > 0 {
		if done, err := db.Seeded(ctx, f.hash()); done || err != nil {
			return err
		}
	}
	return f.check()
}

// checkKeys returns an error unless the keys of a database open, and are those
// that it and its codes were made with.
func (s *Server) checkKeys(ctx context.Context, db *store.Store, ring *keyring, schema int64) error {
	key, err := ring.hashing(ctx)
	if err != nil {
		return err
	}
	if err := checkIdentity(s.config, key); err != nil || schema < codesSchema {
		return err
	}
	if batch, err := ring.anyBatch(ctx); err != nil || batch == 0 {
		return err
	}
	keys, err := ring.codes(ctx) // beside batches it draws none
	if err != nil {
		return err
	}
	return (&codes.Press{Store: db, Keys: keys, Vault: key}).CheckKeys(ctx)
}

// codesSchema is the first with codes.
const codesSchema = 2

// openKeyring opens the keys that a database has.
func (s *Server) openKeyring(ctx context.Context, db *store.Store) (*keyring, error) {
	ring, err := openKeyring(ctx, s.config, db, s.random)
	if err == nil && ring.finished {
		s.log.WarnContext(ctx, "a turn of the master key was cut off; it is finished now", "file", ring.where)
	}
	return ring, err
}

// openPress prepares the codes. Without a prefix of the operator's own none
// are given out, except with --dev, where they are the platform's in form.
func (s *Server) openPress(ctx context.Context, ring *keyring) error {
	keys, err := ring.codes(ctx)
	if err != nil {
		return err
	}
	openIDs, err := ring.openIDs(ctx)
	if err != nil {
		return err
	}
	prefix := s.config.CodePrefix
	if prefix == "" {
		prefix = codes.DefaultPrefix
	}
	s.openIDs, s.users = openIDs, s.vault.Hasher("scan_user")
	defer func() { s.desk = codes.NewDesk(s.press) }()
	s.press = &codes.Press{Store: s.store, Memory: s.current.Codes, Keys: keys, Vault: s.vault, OpenIDs: openIDs, Settings: s.settings,
		Now: s.now, CountNow: s.countNow, ClockBelieved: s.wall.believed, Random: s.random, Log: s.log, Prefix: prefix, Closed: s.config.CodePrefix == "" && !s.config.Dev,
		Floor: s.config.CodeFloor, ByTime: !s.config.Dev, Shared: s.store.Shared(), Changed: s.current.BatchChanged}
	return nil
}

const clockMeta = "emulator.clock"

// openClock chooses whose time counts.
func (s *Server) openClock(ctx context.Context) error {
	state, err := s.store.Meta(ctx, clockMeta)
	if err != nil {
		return fmt.Errorf("reading the emulator's clock: %w", err)
	}
	if !s.config.emulates() {
		s.now = s.realNow
		if state != "" {
			s.log.WarnContext(ctx, "this database was used with an emulated clock; without --emulator real time counts, and what was issued under the other time may look expired or young")
		}
		return nil
	}
	s.clock = &emulator.Clock{Real: s.realNow, Save: func(state string) error {
		return s.store.PutMeta(accounts.By(context.Background(), accounts.Author{Actor: "admin"}), clockMeta, state)
	}}
	if state != "" {
		if err := s.clock.Restore(state); err != nil {
			return fmt.Errorf("the emulator's clock as stored: %w", err)
		}
	}
	s.now = s.clock.Now
	s.plan = emulator.NewPlan(1)
	s.calls = &emulator.Calls[api.Record]{}
	return nil
}

// countNow is the time by whose days and months limits are counted: a clock that
// jumped ahead begins no new ones. An emulated clock is moved to do just that.
func (s *Server) countNow() time.Time {
	now := s.now()
	if s.config.emulates() {
		return now
	}
	return now.Add(-s.wall.lead())
}

// reset brings everything back to the seed and to real time; keys stay.
func (s *Server) reset(ctx context.Context) error {
	// A seed that cannot be read or stored any more must not cost what there is.
	seed, err := readSeed(s.config)
	if err != nil {
		return err
	}
	err = s.book.Reset(func() error {
		return s.counter.Reset(func() error {
			err := s.store.InOne(ctx, func(ctx context.Context) error {
				if err := s.store.Reset(ctx); err != nil {
					return err
				}
				if err := s.loadSettings(ctx); err != nil {
					return err
				}
				return s.applySeed(ctx, seed, s.realNow)
			})
			if err != nil {
				return err
			}
			return s.ledger.journal.Clear(ctx)
		})
	})
	if err = errors.Join(err, s.loadSettings(ctx)); err != nil {
		return err
	}
	if err := s.clock.Reset(); err != nil {
		return err
	}
	s.plan.Clear()
	s.calls.Clear()
	s.accounts.ForgetCalls()
	s.press.Forget()
	return s.current.Load(ctx)
}

// surface is what a listener serves.
type surface int

const (
	wire surface = 1 << iota
	scans
	admin
)

// listen opens every listener and begins to serve.
func (s *Server) listen(ctx context.Context) error {
	s.openRooms()
	for _, on := range s.config.listeners() {
		address, what := on.address, on.serves
		l, err := listenOn(ctx, address)
		if err != nil {
			return err
		}
		l = s.bound(l, what)
		h := &http.Server{
			Handler:           s.guarded(s.handler(what)),
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       idleTime,
			MaxHeaderBytes:    64 << 10,
			ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		watch(h)
		if s.certificate != nil {
			h.TLSConfig = tlsConfig(s.certificate)
		}
		s.servers = append(s.servers, h)
		if s.URL == "" {
			s.URL = s.urlOf(l)
		}
		s.log.InfoContext(ctx, "listening", "address", l.Addr().String(),
			"wire", what&wire != 0, "scan", what&scans != 0, "admin", what&admin != 0)
		if what&scans != 0 {
			s.ScanURL = s.urlOf(l)
		}
		if what&admin != 0 {
			s.AdminURL = s.urlOf(l)
		}
		var lane *scanapi.Lane
		if what == scans && !s.noLane {
			lane = s.lane(l)
			h.TLSConfig = lane.TLS // handshakes are the lane's, HTTP/2 is net/http's
			s.lanes[h] = lane
		}
		go func() {
			serve := h.Serve
			if lane != nil {
				serve = func(net.Listener) error { return h.Serve(lane) }
			} else if h.TLSConfig != nil {
				serve = func(l net.Listener) error { return h.ServeTLS(l, "", "") }
			}
			if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
				s.failed <- fmt.Errorf("listener %s: %w", l.Addr(), err)
			}
		}()
	}
	s.keepAddresses()
	return nil
}

// tryListeners returns an error for an address that cannot be listened on. None
// is kept: clients would wait on it for as long as a migration takes.
func (s *Server) tryListeners(ctx context.Context) error {
	for _, on := range s.config.listeners() {
		l, err := listenOn(ctx, on.address)
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func listenOn(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, usage("cannot listen on %s: %v", address, err)
	}
	return l, nil
}

// listener is an address and what is served there.
type listener struct {
	address string
	serves  surface
}

// listeners are those of the wire and of what has an address of its own. The
// same address twice is one listener, but each port 0 is another port.
func (c Config) listeners() []listener {
	list := []listener{{c.Listen, wire}}
	for _, one := range []listener{{c.ScanListen, scans}, {c.AdminListen, admin}} {
		i := slices.IndexFunc(list, func(l listener) bool { return l.address == one.address })
		switch _, port, _ := net.SplitHostPort(one.address); {
		case one.address == "":
			list[0].serves |= one.serves
		case i >= 0 && port != "0":
			list[i].serves |= one.serves
		default:
			list = append(list, one)
		}
	}
	return list
}

// handler routes what one listener serves.
func (s *Server) handler(what surface) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", s.ready)
	document := huma.DefaultConfig("qrjump", Version)
	document.DocsPath, document.SchemasPath, document.OpenAPIPath = "", "", ""
	document.CreateHooks = nil // no $schema links in answers
	document.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"admin": {Type: "http", Scheme: "bearer", Description: "the admin token"},
		"scan":  {Type: "http", Scheme: "bearer", Description: "a scan key"},
	}
	// The document describes everything, whatever this listener serves of it.
	adminMux := http.NewServeMux()
	humaAPI := humago.New(adminMux, document)
	scanMux := http.NewServeMux()
	s.scanAPI().Register(scanMux, humaAPI)
	s.adminAPI(humaAPI)
	// Anybody may ask, and writing it takes milliseconds.
	written := sync.OnceValues(humaAPI.OpenAPI().MarshalJSON)
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		b, err := written()
		if err != nil {
			scanapi.WriteProblem(w, http.StatusInternalServerError, "the document cannot be written")
			return
		}
		w.Write(b)
	})
	// A browser page of another origin must not act for the person in front of it.
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(refuseOrigin))
	if what&scans != 0 {
		mux.Handle("/scan/", sameOrigin.Handler(orProblem(scanMux)))
	}
	if what&admin != 0 {
		mux.Handle("/admin/", s.adminOnly(sameOrigin.Handler(asAdmin(orProblem(adminMux)))))
		mux.Handle("GET /metrics", s.adminOnly(s.metrics.handler()))
	}
	s.mountElsewhere(mux, what)
	if what&wire != 0 {
		agree := s.consentPage()
		for _, path := range consent.Paths {
			mux.Handle(path, agree)
		}
		mux.Handle("/", s.ownOrigin(s.wireAPI().Handler()))
		return s.pages(mux)
	}
	mux.HandleFunc("/", noSuchPath)
	return mux
}

// orProblem answers unknown paths and methods with a problem document.
func orProblem(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r) // sets the path values
			return
		}
		// The mux knows whether only the method is wrong.
		probe := &statusOnly{header: http.Header{}}
		h.ServeHTTP(probe, r)
		if probe.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", probe.header.Get("Allow"))
			scanapi.WriteProblem(w, probe.status, "this path wants "+probe.header.Get("Allow"))
			return
		}
		noSuchPath(w, r)
	})
}

type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }

func (s *Server) wireAPI() *api.API {
	a := &api.API{Accounts: s.accounts, Calls: s.book, Rules: s.rules, Codes: s.press, Settings: s.settings, Log: s.log, Now: s.now, RealNow: s.realNow,
		Random: s.random, ClientIP: s.clientIP, BodyTimeout: s.bodyTime, Observe: s.metrics.observeCall, Proven: proven, Refused: refusedKey}
	if s.store.Shared() {
		a.Shared = s.store.Allow
	}
	if s.config.emulates() {
		a.Record = s.calls.Add
		a.Faults = func(path, appid string) api.Fault {
			f, ok := s.plan.Next(path, appid)
			if !ok {
				return api.Fault{}
			}
			return wireFault(f)
		}
	}
	return a
}

// wireFault is a fault of the plan as the wire sees it.
func wireFault(f emulator.Fault) api.Fault {
	fault := api.Fault{After: f.After, Delay: f.Delay, Drop: f.Drop, DropAfter: f.DropAfter}
	if f.ErrCode == nil {
		return fault
	}
	code, known := errcode.ByNumber(*f.ErrCode)
	if !known {
		code = &errcode.Code{Number: *f.ErrCode, Text: "injected fault", Meaning: "a fault of the emulator", Evidence: errcode.Inferred}
	}
	if f.ErrMsg != "" {
		code = code.Reworded("%s", f.ErrMsg)
	}
	fault.Code = code
	return fault
}

func (s *Server) scanAPI() *scanapi.API {
	a := &scanapi.API{Resolver: scan.Resolver{Finder: s.current.Rules, Accounts: s.current.Accounts, Codes: s.press}, Near: s.rules.Near, Codes: s.press, Desk: s.desk, Record: s.ledger.record, Soon: s.soon, Late: s.ledger.late, UserHash: s.userHash, Region: s.region(), Unrecorded: s.metrics.observeUnrecorded, Accounts: s.accounts, OpenIDs: s.openIDs,
		Now: s.now, Random: s.random, Replay: s.config.emulates(), BodyTimeout: s.bodyTime, Log: s.log, Observe: s.metrics.observeScan, Proven: proven, Refused: refusedKey}
	if !s.config.Dev {
		a.Key = s.keys.Check
	}
	return a
}

func (s *Server) adminAPI(h huma.API) {
	(&adminapi.Admin{Accounts: s.accounts, Rules: s.rules, Codes: s.press, OpenIDs: s.openIDs, Keys: s.keys, Settings: s.settings, SaveSettings: s.changeSettings, Desk: s.desk, Webhooks: s.webhooks, Rechecks: s.rechecks, Export: s.export, Spool: s.config.Data, Scans: s.counter, UserHash: s.userHash, Log: s.log,
		History: s.store, Times: history.Times{Store: s.store, Codes: s.press}, Resolver: scan.Resolver{Finder: s.current.Rules, Accounts: s.current.Accounts, Codes: s.press},
		ScanLog: func() ledger.Log { return s.counter.Log }, Now: s.now}).Register(h)
	if s.config.emulates() {
		(&emulator.Control[api.Record]{Clock: s.clock, Plan: s.plan, Calls: s.calls, RID: func(r api.Record) string { return r.RID },
			Paths: api.Paths(), Reset: s.reset}).Register(h)
		s.platformControls().Register(h)
	}
}

// Failed delivers the error of a listener that broke.
func (s *Server) Failed() <-chan error { return s.failed }

// Close drains: no new connections, running requests get DrainTimeout, less what
// Run took of it, then the store is closed.
func (s *Server) Close() error {
	s.draining.Store(true)
	s.forgetAddresses()
	ctx, cancel := context.WithTimeout(context.Background(), s.drainTime)
	defer cancel()
	for _, h := range s.servers {
		h.SetKeepAlivesEnabled(false) // what a lane hands over ends with its answer
	}
	done := make(chan error, len(s.servers))
	for _, h := range s.servers {
		go func() { done <- s.drain(ctx, h) }()
	}
	var errs []error
	for range s.servers {
		errs = append(errs, <-done)
	}
	return errors.Join(append(errs, s.closeStore())...)
}

// drain lets what runs on one listener end. Each has the whole time: who is slow
// on one listener costs nobody on another anything.
func (s *Server) drain(ctx context.Context, h *http.Server) error {
	if lane := s.lanes[h]; lane != nil {
		if err := lane.Drain(ctx); err != nil {
			s.log.Warn("scans were cut at the end of the drain", "error", err)
		}
	}
	if err := h.Shutdown(ctx); err != nil {
		// What still runs is cut: its writes are committed or not at all.
		s.log.Warn("requests were cut at the end of the drain", "error", err)
		return h.Close()
	}
	return nil
}

func (s *Server) closeStore() error {
	if s.stopRetry != nil {
		s.stopRetry()
	}
	if s.stopRechecks != nil {
		s.stopRechecks()
	}
	if s.stopWebhooks != nil {
		s.stopWebhooks()
	}
	// The shipper may wait for a stream or a database that is away, and the last
	// count for the shipper.
	if s.stopLedger != nil {
		s.stopLedger()
	}
	if s.stopCounter != nil {
		s.stopCounter()
	}
	ledger := s.ledger.close()
	if s.stopFollowing != nil {
		s.stopFollowing()
	}
	if s.stopSnapshots != nil {
		s.stopSnapshots()
	}
	if s.stopPushes != nil {
		s.stopPushes()
	}
	if s.stopMessages != nil {
		s.stopMessages()
	}
	var err error
	if s.stopBook != nil {
		err = s.stopBook()
	}
	err = errors.Join(err, ledger)
	if s.store == nil {
		return err
	}
	return errors.Join(err, s.regions.Close(), s.store.Close())
}
