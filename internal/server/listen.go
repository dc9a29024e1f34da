package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/qrjump/qrjump/internal/edge/fastpath"
	"github.com/qrjump/qrjump/internal/edge/landing"
	"github.com/qrjump/qrjump/internal/infra/certificates"
	"github.com/qrjump/qrjump/internal/infra/connlimit"
)

// listenerRole is the set of APIs (wire API, scan API, admin API) that a listener serves.
type listenerRole int

const (
	wire listenerRole = 1 << iota
	scans
	admin
)

// serving holds the state that the listeners share.
type serving struct {
	certificate certificates.Certificate                // nil = plain HTTP
	platform    func() (*certificates.Authority, error) // creates the certificate for CONNECT at its first call
	arrivals    arrivals                                // counts of client requests since the start; used with --dev or --emulator
	proxies     []netip.Prefix                          // that are trusted
	rooms       map[bool]*connlimit.Limiter             // connection limits by kind of listener: true = admin, false = public
	servers     []*http.Server
	front       *http.Server // HTTP server that is a proxy for the platform's host names; nil = none
	behind      *http.Server // HTTP server that handles the proxied requests
	wireCalls   http.Handler // handler of the wire API, for calls that the console repeats
	lanes       map[*http.Server]*fastpath.Listener
	addresses   Addresses // addresses as written to the data folder; zero = not written
	failed      chan error

	draining    atomic.Bool
	drainTime   time.Duration
	accepting   sync.WaitGroup     // the servers
	requests    sync.RWMutex       // each request holds a read lock; drain takes the write lock forever, so that no request can start
	cutRequests context.CancelFunc // cancels the operations for which running requests wait
	startEnds   func() bool        // stops the AfterFunc that calls store.Abort when the start's context ends; nil = none
	endWaiting  *time.Timer        // timer by which drain calls store.Abort; nil = not started
}

// listen opens all listeners and starts to serve requests.
func (s *Server) listen(ctx context.Context) error {
	s.openConnectionLimits()
	var requests context.Context
	requests, s.serving.cutRequests = context.WithCancel(context.WithoutCancel(ctx))
	for _, on := range s.config.listeners() {
		address, role := on.address, on.serves
		l, err := listenOn(ctx, address)
		if err != nil {
			return err
		}
		l = s.bound(l, role)
		h := s.newHTTPServer(requests, s.traced(s.counted(s.access().guarded(s.handler(role)))))
		connlimit.Watch(h)
		if s.serving.certificate != nil {
			h.TLSConfig = certificates.Config(s.serving.certificate)
		}
		s.serving.servers = append(s.serving.servers, h)
		if s.URL == "" {
			s.URL = s.urlOf(l)
		}
		s.log.InfoContext(ctx, "listening", "address", l.Addr().String(),
			"wire", role&wire != 0, "scan", role&scans != 0, "admin", role&admin != 0)
		if role&scans != 0 {
			s.ScanURL = s.urlOf(l)
		}
		if role&admin != 0 {
			s.AdminURL = s.urlOf(l)
		}
		if s.config.plainAdmin(on) {
			s.metrics.adminPlain.Set(1)
			s.log.WarnContext(ctx, "admin API is reachable without TLS from other machines",
				"hint", "start with --admin-listen 127.0.0.1:8082, or with --tls-cert FILE --tls-key FILE", "address", l.Addr().String())
		}
		var lane *fastpath.Listener
		if role == scans && !s.testHooks.NoFastPath && s.config.Tracing == nil { // the fast path records no spans
			lane = s.lane(l)
			h.TLSConfig = lane.TLS // lane makes the TLS handshakes itself; net/http needs the configuration for HTTP/2
			s.serving.lanes[h] = lane
			if lane.TLS != nil {
				h.Handler = overTLS(h.Handler)
			}
		}
		if role&wire != 0 && s.config.Dev {
			s.openTunnel(l, h, requests)
		}
		switch {
		case lane != nil:
			s.serve("listener", lane, h.Serve)
		case h.TLSConfig != nil:
			s.serve("listener", l, func(l net.Listener) error { return h.ServeTLS(l, "", "") })
		default:
			s.serve("listener", l, h.Serve)
		}
	}
	s.keepAddresses()
	return nil
}

// serve runs the server of a listener until drain; its error, which names the listener, ends this process.
func (s *Server) serve(name string, l net.Listener, server func(net.Listener) error) {
	s.serving.accepting.Go(func() {
		if err := server(l); !errors.Is(err, http.ErrServerClosed) {
			s.serving.failed <- fmt.Errorf("%s %s: %w", name, l.Addr(), err)
		}
	})
}

// newHTTPServer returns an HTTP server with the limits of all listeners; requests is the context of its requests.
func (s *Server) newHTTPServer(requests context.Context, h http.Handler) *http.Server {
	return &http.Server{Handler: h, BaseContext: func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleTime, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
}

// overTLS marks each request as received over TLS: net/http cannot detect TLS on connections that the fast path hands over.
func overTLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			r.TLS = &tls.ConnectionState{HandshakeComplete: true}
		}
		next.ServeHTTP(w, r)
	})
}

// tryListeners returns an error if the server cannot listen on one of its addresses. tryListeners closes the listeners again, because
// clients that connect to them would wait until a long migration has ended.
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
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, usage("cannot listen on %s: %v: stop the program that listens there, or choose another port (0 = any free port)",
			address, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, usage("cannot listen on %s: %v: a port below 1024 needs a capability: setcap cap_net_bind_service=+ep FILE-OF-QRJUMP, "+
			"AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit, or a port from 1024 on", address, err)
	case err != nil:
		return nil, usage("cannot listen on %s: %v", address, err)
	}
	return l, nil
}

// listener is an address with the APIs that are served on this address.
type listener struct {
	address string
	serves  listenerRole
}

// listeners returns the listener of the wire API and the listeners of the other APIs that have their own address. APIs with the same
// address share one listener, unless the port is 0, which stands for any free port.
func (c Config) listeners() []listener {
	list := []listener{{c.Listen, wire}}
	for _, item := range []listener{{c.ScanListen, scans}, {c.AdminListen, admin}} {
		i := slices.IndexFunc(list, func(l listener) bool { return l.address == item.address })
		switch _, port, _ := net.SplitHostPort(item.address); {
		case item.address == "":
			list[0].serves |= item.serves
		case i >= 0 && port != "0":
			list[i].serves |= item.serves
		default:
			list = append(list, item)
		}
	}
	return list
}

// plainAdmin reports whether the operator should be warned of a listener: it serves the admin API together with a public API, over plain
// HTTP and to other machines. An admin API with its own address causes no warning, because the operator chose the address. --dev causes
// none, because other machines can reach such a server only with --dev-public.
func (c Config) plainAdmin(on listener) bool {
	host, _, _ := net.SplitHostPort(on.address)
	return on.serves&admin != 0 && on.serves != admin && !c.Dev && !c.TLSDev && c.TLSCert == "" && !loopback(host)
}

// counted is a middleware that tracks the running requests, and closes the connections of requests that come after the drain.
func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.serving.requests.TryRLock() {
			panic(http.ErrAbortHandler)
		}
		defer s.serving.requests.RUnlock()
		next.ServeHTTP(w, r)
	})
}

// lastWaits is the last part of the drain, in which calls no longer wait for the database. Without this limit, a commit that waits for an
// unreachable replica would never end, and would block all later writes.
const lastWaits = 2 * time.Second

// drain accepts no new connections and waits for running requests, then cuts them. The listeners drain in parallel, so a slow
// client of one listener delays no client of another. When drain returns, no request is running.
func (s *Server) drain(ctx context.Context) error {
	s.serving.draining.Store(true)
	s.forgetAddresses()
	if s.store != nil {
		s.serving.endWaiting = time.AfterFunc(max(s.serving.drainTime-lastWaits, s.serving.drainTime/2), s.store.Abort)
	}
	ctx, cancel := context.WithTimeout(ctx, s.serving.drainTime)
	defer cancel()
	for _, h := range s.serving.servers {
		h.SetKeepAlivesEnabled(false) // makes net/http close each connection after its response
	}
	var draining sync.WaitGroup
	errs := make([]error, len(s.serving.servers))
	for i, h := range s.serving.servers {
		draining.Go(func() { errs[i] = s.drainOne(ctx, h) })
	}
	draining.Wait()
	s.serving.accepting.Wait()
	if s.serving.cutRequests != nil {
		s.serving.cutRequests()
	}
	s.serving.requests.Lock() // waits for handlers of cut requests that are still running
	return errors.Join(errs...)
}

func (s *Server) drainOne(ctx context.Context, h *http.Server) error {
	if lane := s.serving.lanes[h]; lane != nil {
		if err := lane.Drain(ctx); err != nil {
			s.log.Warn("scan requests aborted at the end of the drain", "error", err)
		}
	}
	if err := h.Shutdown(ctx); err != nil {
		// Close cuts the requests that still run; the transaction of a cut request is either committed completely or rolled back.
		s.log.Warn("requests aborted at the end of the drain", "error", err)
		return h.Close()
	}
	return nil
}

// openConnectionLimits sets the maximum numbers of connections of the public listeners and of the admin listener.
func (s *Server) openConnectionLimits() {
	separate := slices.ContainsFunc(s.config.listeners(), func(on listener) bool { return on.serves == admin })
	files := connlimit.Files()
	public, admin := connlimit.Budget(files, separate)
	public = cmp.Or(s.testHooks.Connections, public)
	s.serving.rooms = map[bool]*connlimit.Limiter{false: connlimit.New(public), true: connlimit.New(admin)}
	if files < 1024 {
		s.log.Warn("open file limit is low", "hint", "raise ulimit -n or LimitNOFILE for more connections", "files", files,
			"connections", public+admin)
	}
	for separate, name := range map[bool]string{false: "public", true: "admin"} {
		r, labels := s.serving.rooms[separate], prometheus.Labels{"listener": name}
		s.metrics.registry.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "qrjump_connections", Help: help("qrjump_connections"), ConstLabels: labels},
				func() float64 { return float64(r.Open()) }),
			prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "qrjump_connections_evicted_total", Help: help("qrjump_connections_evicted_total"), ConstLabels: labels},
				func() float64 { return float64(r.Evicted()) }))
	}
}

// bound wraps a listener with a connection limit: the one of the admin listener, or the one that all public listeners share.
func (s *Server) bound(l net.Listener, role listenerRole) net.Listener {
	return s.serving.rooms[role == admin].Listener(l, s.testHooks.RejectedKeyIdleTime)
}

// devNames lists the host names in the certificate of --tls-dev.
var devNames = append(slices.Clone(landing.PlatformNames), "localhost")

// openTLS loads or generates the TLS certificate. The certificate's dates use real time: clients check them by their own clocks, not by the
// emulator's clock.
func (s *Server) openTLS() (err error) {
	switch {
	case s.config.TLSDev:
		s.serving.certificate, err = s.openAuthority()
	case s.config.TLSCert != "":
		if s.serving.certificate, err = certificates.OpenPair(s.config.TLSCert, s.config.TLSKey, s.realNow, s.log); err != nil {
			return usage("%v", err)
		}
	}
	return err
}

// openAuthority opens this machine's certificate authority, with a leaf certificate for the platform's names.
func (s *Server) openAuthority() (*certificates.Authority, error) {
	ca, err := certificates.OpenAuthority(s.config.Data, devNames, s.realNow)
	if err != nil {
		return nil, usage("%v", err)
	}
	_, err = ca.Get(nil) // the leaf certificate is issued now, so that a failure to write its file is reported at the start
	return ca, err
}

// checkTLS returns an error if TLS flags contradict each other.
func (c Config) checkTLS() error {
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return usage("--tls-cert and --tls-key belong together: give both or neither")
	case c.TLSDev && c.TLSCert != "":
		return usage("--tls-dev makes a certificate of its own: give it or --tls-cert, not both")
	}
	return nil
}
