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
	ledger        *ledger
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
	newToken      bool
	certificate   certificate
	proxies       []netip.Prefix
	draining      atomic.Bool
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
}

// Start opens the store, loads the rules and listens. The server runs until
// Close. logs is where log lines go.
func Start(ctx context.Context, c Config, logs io.Writer, seams Seams) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{config: c, log: newLogger(logs, c.LogFormat), realNow: seams.RealNow, random: seams.Random,
		settings: settings.NewLive(settings.Defaults()), outbound: outboundClient(seams.Outbound), lanes: map[*http.Server]*scanapi.Lane{}, failed: make(chan error, 8)}
	if s.realNow == nil {
		s.realNow = time.Now
	}
	s.bodyTime = cmp.Or(seams.BodyTimeout, 10*time.Second)
	s.lanePatience, s.exportWork, s.demo = seams.LanePatience, seams.ExportWork, seams.Demo
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
	if s.store, err = store.Open(ctx, store.Target{URL: s.config.Database, Dir: s.config.Data}); err != nil {
		return usageError{err}
	}
	ring, err := openKeyring(ctx, s.config, s.store, s.random)
	if err != nil {
		return err
	}
	s.ring = ring
	if ring.finished {
		s.log.WarnContext(ctx, "a turn of the master key was cut off; it is finished now", "file", ring.where)
	}
	s.warnOfReadable("master.key", "admin-token")
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
	if err := s.openTLS(); err != nil {
		return err
	}
	if err := s.openRegions(); err != nil {
		return err
	}
	if err := s.openClock(ctx); err != nil {
		return err
	}
	s.openBook()
	s.current = &scan.Current{Rules: scan.NewIndex(), Accounts: scan.NewDirectory(), Codes: codes.NewMemory(s.store), RuleStore: s.store, AccountStore: s.store, Log: s.log}
	s.accounts = &accounts.Directory{Store: s.store, Key: s.vault, Settings: s.settings, Now: s.now, Random: s.random, Changed: s.current.AccountChanged, Spend: s.book.Spend, Epochs: s.store.Epochs(), ClockBelieved: s.wall.believed}
	s.rules = &rules.Book{Store: s.store, Settings: s.settings, Now: s.now, Fetch: s.fetch, Changed: s.current.RuleChanged, ManyChanged: s.current.ManyChanged}
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
	if err := s.refuseDemo(ctx); err != nil {
		return err
	}
	if err := s.loadSettings(ctx); err != nil {
		return err
	}
	if err := s.applySeed(ctx, s.now); err != nil {
		return err
	}
	s.keepSnapshots()
	if err := s.current.Load(ctx); err != nil {
		return err
	}
	if err := s.press.CheckKeys(); err != nil {
		return usageError{err}
	}
	if err := s.keys.Load(ctx); err != nil {
		return err
	}
	if err := s.openLedger(ctx); err != nil {
		return err
	}
	s.openCounter()
	s.openWebhooks()
	s.openRechecks()
	if err := s.accounts.CompleteGrants(ctx); err != nil {
		return err
	}
	retry, stop := context.WithCancel(context.Background())
	watched := make(chan struct{})
	s.stopRetry = func() {
		stop()
		<-watched
	}
	go s.current.Retry(retry, time.Second)
	go s.keepInTouch(retry, time.Second)
	go func() {
		defer close(watched)
		s.wall.watch(retry) // it writes into the data folder, which ends with the server
	}()
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
		Now: s.now, Random: s.random, Log: s.log, Prefix: prefix, Closed: s.config.CodePrefix == "" && !s.config.Dev,
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

// reset brings everything back to the seed and to real time; keys stay.
func (s *Server) reset(ctx context.Context) error {
	// A seed that cannot be read or stored any more must not cost what there is.
	err := s.book.Reset(func() error {
		return s.counter.Reset(func() error {
			err := s.store.InOne(ctx, func(ctx context.Context) error {
				if err := s.store.Reset(ctx); err != nil {
					return err
				}
				if err := s.loadSettings(ctx); err != nil {
					return err
				}
				return s.applySeed(ctx, s.realNow)
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
	where := map[string]surface{}
	order := []string{s.config.Listen}
	add := func(address string, what surface) {
		if address == "" {
			address = s.config.Listen
		}
		if where[address] == 0 && address != s.config.Listen {
			order = append(order, address)
		}
		where[address] |= what
	}
	add(s.config.Listen, wire)
	add(s.config.ScanListen, scans)
	add(s.config.AdminListen, admin)
	for _, address := range order {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return usage("cannot listen on %s: %v", address, err)
		}
		h := &http.Server{
			Handler:           s.guarded(s.handler(where[address])),
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       idleTime,
			MaxHeaderBytes:    64 << 10,
			ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		if s.certificate != nil {
			h.TLSConfig = tlsConfig(s.certificate)
		}
		s.servers = append(s.servers, h)
		if s.URL == "" {
			s.URL = s.urlOf(l)
		}
		s.log.InfoContext(ctx, "listening", "address", l.Addr().String(),
			"wire", where[address]&wire != 0, "scan", where[address]&scans != 0, "admin", where[address]&admin != 0)
		if where[address]&scans != 0 {
			s.ScanURL = s.urlOf(l)
		}
		var lane *scanapi.Lane
		if where[address] == scans {
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
	return nil
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
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		scanapi.WriteProblem(w, http.StatusForbidden, "a browser sends this from a page of another origin: calls come from programs, or from a page of this server")
	}))
	if what&scans != 0 {
		mux.Handle("/scan/", sameOrigin.Handler(orProblem(scanMux)))
	}
	if what&admin != 0 {
		mux.Handle("/admin/", s.adminOnly(sameOrigin.Handler(asAdmin(orProblem(adminMux)))))
		mux.Handle("GET /metrics", s.adminOnly(s.metrics.handler()))
	}
	if what&wire != 0 {
		mux.Handle(consent.Path, s.consentPage())
		mux.Handle("/", s.wireAPI().Handler())
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

func noSuchPath(w http.ResponseWriter, _ *http.Request) {
	scanapi.WriteProblem(w, http.StatusNotFound, "nothing is at this path; /openapi.json lists what there is")
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	fault := ""
	if err := s.store.Ping(ctx); err != nil {
		s.log.ErrorContext(ctx, "not ready", "error", err)
		fault = "the database does not answer"
		if out, ok := errors.AsType[*errcode.Outage](err); ok {
			fault = "the database " + out.What
		}
	} else if err := s.current.Ready(); err != nil {
		fault = err.Error()
	} else if s.draining.Load() {
		fault = "stopping"
	}
	if fault != "" {
		http.Error(w, fault, http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n")
}

func (s *Server) wireAPI() *api.API {
	a := &api.API{Accounts: s.accounts, Calls: s.book, Rules: s.rules, Codes: s.press, Settings: s.settings, Log: s.log, Now: s.now, RealNow: s.realNow,
		Random: s.random, ClientIP: s.clientIP, BodyTimeout: s.bodyTime, Observe: s.metrics.observeCall}
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
	fault := api.Fault{Delay: f.Delay, Drop: f.Drop, DropAfter: f.DropAfter}
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
		Now: s.now, Random: s.random, Replay: s.config.emulates(), BodyTimeout: s.bodyTime, Log: s.log, Observe: s.metrics.observeScan}
	if !s.config.Dev {
		a.Key = s.keys.Check
	}
	return a
}

func (s *Server) adminAPI(h huma.API) {
	(&adminapi.Admin{Accounts: s.accounts, Rules: s.rules, Codes: s.press, OpenIDs: s.openIDs, Keys: s.keys, Settings: s.settings, SaveSettings: s.changeSettings, Desk: s.desk, Webhooks: s.webhooks, Rechecks: s.rechecks, Export: s.export, Spool: s.config.Data, Scans: s.counter, UserHash: s.userHash, Log: s.log,
		History: s.store, Times: history.Times{Store: s.store, Codes: s.press}, Resolver: scan.Resolver{Finder: s.current.Rules, Accounts: s.current.Accounts, Codes: s.press},
		ScanLog: func() stats.Log { return s.counter.Log }, Now: s.now}).Register(h)
	if s.config.emulates() {
		(&emulator.Control[api.Record]{Clock: s.clock, Plan: s.plan, Calls: s.calls, RID: func(r api.Record) string { return r.RID },
			Paths: api.Paths(), Reset: s.reset}).Register(h)
		s.platformControls().Register(h)
	}
}

// Failed delivers the error of a listener that broke.
func (s *Server) Failed() <-chan error { return s.failed }

// Close drains: no new connections, running requests get DrainTimeout, then
// the store is closed.
func (s *Server) Close() error {
	s.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), DrainTimeout)
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
