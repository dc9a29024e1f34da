package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/edge/landing"
	"github.com/qrjump/qrjump/internal/edge/scanapi"
	"github.com/qrjump/qrjump/internal/infra/certificates"
)

// PlatformNames are those for which a server with --dev is a proxy.
var PlatformNames = landing.PlatformNames

// Arrived lists the hosts and paths that clients asked of a server with --dev since it started.
type Arrived struct {
	Calls    int64    // of the wire
	Rejected []string // other hosts than the platform's that they asked the proxy for, in order, at most maxRejected
}

// maxRejected bounds Arrived.Rejected.
const maxRejected = 20

// arrivals counts what is Arrived. The zero value is ready.
type arrivals struct {
	calls    atomic.Int64
	mu       sync.Mutex
	rejected []string
}

func (a *arrivals) reject(host string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.rejected) < maxRejected && !slices.Contains(a.rejected, host) {
		a.rejected = append(a.rejected, host)
	}
}

// Arrived returns what clients asked since the start. A reset does not change it.
func (s *Server) Arrived() Arrived {
	a := &s.serving.arrivals
	a.mu.Lock()
	defer a.mu.Unlock()
	return Arrived{Calls: a.calls.Load(), Rejected: slices.Clone(a.rejected)}
}

// tunnel is the end of connections that clients asked their proxy for: a server with --dev is a proxy to the platform's names, and
// it is the platform itself. No byte leaves this machine. Decision 66.
type tunnel struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	on     net.Addr
}

// Accept implements net.Listener.
func (t *tunnel) Accept() (net.Conn, error) {
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (t *tunnel) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

// Addr implements net.Listener.
func (t *tunnel) Addr() net.Addr { return t.on }

// take hands a connection to the server behind the tunnel.
func (t *tunnel) take(c net.Conn) {
	select {
	case t.conns <- c:
	case <-t.closed:
		c.Close()
	}
}

// lookahead is a connection of which some bytes were read ahead.
type lookahead struct {
	net.Conn
	from io.Reader
}

func (a *lookahead) Read(b []byte) (int, error) { return a.from.Read(b) }

// openTunnel makes h, a listener's server, a proxy to the platform's names, behind which the same handler answers.
func (s *Server) openTunnel(l net.Listener, h *http.Server, requests context.Context) {
	t := &tunnel{conns: make(chan net.Conn), closed: make(chan struct{}), on: l.Addr()}
	trailingServer := &http.Server{
		Handler:           h.Handler,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    h.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		// net/http sets up HTTP/2 by it; handshakes are those of connect.
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}},
	}
	s.serving.servers = append(s.serving.servers, trailingServer)
	s.serving.front, s.serving.behind = h, trailingServer
	s.serving.accepting.Go(func() {
		if err := trailingServer.Serve(t); !errors.Is(err, http.ErrServerClosed) {
			s.serving.failed <- fmt.Errorf("the tunnel of %s: %w", l.Addr(), err)
		}
	})
	direct := h.Handler
	h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodConnect:
			s.connect(t, w, r)
		case r.URL.Host != "" && !platformName(r.URL.Host) && !isOwnAddress(r):
			s.rejectProxy(w, r.URL.Host)
		default:
			direct.ServeHTTP(w, r)
		}
	})
}

// ServeAlso answers on further listeners until Close: as the listener of the wire on wire, as the platform over TLS on secure
// and in plain HTTP on plain; nil = not. Only a server with --dev has them.
func (s *Server) ServeAlso(wire, secure, plain net.Listener) error {
	shown, err := s.platformCertificate()
	if err != nil {
		return err
	}
	if secure != nil {
		secure = tls.NewListener(secure, platformTLS(shown))
	}
	for l, server := range map[net.Listener]*http.Server{wire: s.serving.front, secure: s.serving.behind, plain: s.serving.behind} {
		if l == nil {
			continue
		}
		s.serving.accepting.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				s.serving.failed <- fmt.Errorf("listener %s: %w", l.Addr(), err)
			}
		})
	}
	return nil
}

// platformTLS speaks for the platform's names.
func platformTLS(shown certificates.Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: shown.Get}
}

// platformName reports whether an authority is one of the platform's names, with any port.
func platformName(authority string) bool {
	host, _, err := net.SplitHostPort(authority)
	if err != nil {
		host = authority
	}
	return slices.Contains(PlatformNames, strings.ToLower(strings.TrimSuffix(host, ".")))
}

// isOwnAddress reports whether a request in absolute form names the address that it came to, which is no proxying: this machine, with the port
// of the listener or without one.
func isOwnAddress(r *http.Request) bool {
	host, port, err := net.SplitHostPort(r.URL.Host)
	if err != nil {
		return loopback(r.URL.Host)
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil {
		return false
	}
	_, listens, _ := net.SplitHostPort(local.String())
	return port == listens && loopback(host)
}

// rejectProxy rejects a request for another host: with a relaying proxy a web page could reach what this machine reaches.
func (s *Server) rejectProxy(w http.ResponseWriter, authority string) {
	host, _, err := net.SplitHostPort(authority)
	if err != nil {
		host = authority
	}
	s.serving.arrivals.reject(fmt.Sprintf("%.100s", strings.ToLower(host)))
	scanapi.WriteProblem(w, http.StatusForbidden, "this server is a proxy to the platform's names only ("+
		strings.Join(PlatformNames, ", ")+"), and "+fmt.Sprintf("%.100q", authority)+" is none: name it in NO_PROXY")
}

// connect answers CONNECT: the client speaks TLS to the platform's name from then on, or plain HTTP to its port 80.
func (s *Server) connect(t *tunnel, w http.ResponseWriter, r *http.Request) {
	if !platformName(r.Host) {
		s.rejectProxy(w, r.Host)
		return
	}
	shown, err := s.platformCertificate()
	if err != nil {
		s.log.ErrorContext(r.Context(), "there is no certificate for the platform's names", "error", err)
		scanapi.WriteProblem(w, http.StatusInternalServerError, "there is no certificate for the platform's names; the server's log says why")
		return
	}
	conn, read, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2
		scanapi.WriteProblem(w, http.StatusHTTPVersionNotSupported, "CONNECT wants HTTP/1.1")
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		conn.Close()
		return
	}
	var item net.Conn = &lookahead{conn, rest(read.Reader, conn)}
	if _, port, _ := net.SplitHostPort(r.Host); port != "80" {
		item = tls.Server(item, platformTLS(shown))
	}
	t.take(item)
}

// rest reads what was read ahead, then the connection itself.
func rest(read *bufio.Reader, conn net.Conn) io.Reader {
	earlyData, _ := read.Peek(read.Buffered())
	return io.MultiReader(strings.NewReader(string(earlyData)), conn)
}

// platformShown is the certificate for the platform's names of a server without --tls-dev.
type platformShown struct {
	once  sync.Once
	shown *certificates.Authority
	fault error
}

// platformCertificate speaks for the platform's names; it is made when it is first wanted.
func (s *Server) platformCertificate() (certificates.Certificate, error) {
	if s.config.TLSDev {
		return s.serving.certificate, nil
	}
	s.serving.platform.once.Do(func() { s.serving.platform.shown, s.serving.platform.fault = s.openAuthority() })
	return s.serving.platform.shown, s.serving.platform.fault
}

// Authority returns the file of the local authority that speaks for the platform's names.
func (s *Server) Authority() (file string, err error) {
	_, err = s.platformCertificate()
	return certificates.AuthorityFile(s.config.Data), err
}

// mountCA serves the certificate of the local authority, which clients shall trust, and nothing else of it.
func (s *Server) mountCA(mux *http.ServeMux) {
	if !s.config.Dev && !s.config.TLSDev {
		return
	}
	mux.HandleFunc("GET /qrjump/ca.pem", func(w http.ResponseWriter, r *http.Request) {
		file, err := s.Authority()
		var text []byte
		if err == nil {
			text, err = os.ReadFile(file)
		}
		if err != nil {
			s.log.ErrorContext(r.Context(), "the local authority cannot be shown", "error", err)
			scanapi.WriteProblem(w, http.StatusInternalServerError, "the local authority cannot be shown; the server's log says why")
			return
		}
		w.Header().Set("Content-Type", "application/x-pem-file")
		w.Write(text)
	})
}
