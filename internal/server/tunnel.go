package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/qrjump/qrjump/internal/edge/landing"
	"github.com/qrjump/qrjump/internal/edge/scanapi"
	"github.com/qrjump/qrjump/internal/infra/certificates"
)

// PlatformNames lists the host names for which a server with --dev acts as a proxy.
var PlatformNames = landing.PlatformNames

// Arrived is a report of requests to a server with --dev since its start: the number of calls, and the hosts that its proxy rejected.
type Arrived struct {
	Calls    int64    // of the wire
	Rejected []string // first maxRejected hosts that clients requested from the proxy and that are not the platform's
}

// maxRejected bounds Arrived.Rejected.
const maxRejected = 20

// arrivals collects the data that Arrived reports. The zero value is ready to use.
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

// Arrived returns the number of calls and the rejected proxy hosts since the start of the server. A reset of the emulator changes neither.
func (s *Server) Arrived() Arrived {
	a := &s.serving.arrivals
	a.mu.Lock()
	defer a.mu.Unlock()
	return Arrived{Calls: a.calls.Load(), Rejected: slices.Clone(a.rejected)}
}

// tunnel is a listener that accepts the connections of CONNECT requests. A server with --dev is a proxy for the platform's names, but it
// serves the proxied requests itself; no request leaves this machine. Decision 66.
type tunnel struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
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
func (t *tunnel) Addr() net.Addr { return t.addr }

// take hands a connection to the HTTP server behind the tunnel.
func (t *tunnel) take(c net.Conn) {
	select {
	case t.conns <- c:
	case <-t.closed:
		c.Close()
	}
}

// lookahead is a connection from which some bytes were already read.
type lookahead struct {
	net.Conn
	from io.Reader
}

func (a *lookahead) Read(b []byte) (int, error) { return a.from.Read(b) }

// openTunnel makes the HTTP server h of a listener also a proxy for the platform's names; the handler of h serves the proxied requests.
func (s *Server) openTunnel(l net.Listener, h *http.Server, requests context.Context) {
	t := &tunnel{conns: make(chan net.Conn), closed: make(chan struct{}), addr: l.Addr()}
	trailingServer := s.newHTTPServer(requests, h.Handler)
	// net/http needs this configuration for HTTP/2 only; the method connect makes the TLS handshakes with another configuration.
	trailingServer.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	s.serving.servers = append(s.serving.servers, trailingServer)
	s.serving.front, s.serving.behind = h, trailingServer
	s.serve("the tunnel of", t, trailingServer.Serve)
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

// ServeAlso serves three further listeners until Close: wire is served like the wire API's listener, secure (TLS) and plain (no TLS) like
// the platform. A listener may be nil. ServeAlso works only on a server with --dev.
func (s *Server) ServeAlso(wire, secure, plain net.Listener) error {
	shown, err := s.platformCertificate()
	if err != nil {
		return err
	}
	if secure != nil {
		secure = tls.NewListener(secure, platformTLS(shown))
	}
	for l, server := range map[net.Listener]*http.Server{wire: s.serving.front, secure: s.serving.behind, plain: s.serving.behind} {
		if l != nil {
			s.serve("listener", l, server.Serve)
		}
	}
	return nil
}

// platformTLS returns the TLS configuration with the certificate for the platform's names.
func platformTLS(shown certificates.Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: shown.Get}
}

// platformName reports whether an authority (host and optional port) is one of the platform's names.
func platformName(authority string) bool {
	return slices.Contains(PlatformNames, strings.ToLower(strings.TrimSuffix(hostOf(authority), ".")))
}

// hostOf returns the host of an authority.
func hostOf(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return authority
}

// isOwnAddress reports whether the absolute URL in a request names this listener (a loopback host, with the listener's port or without a
// port); such a request is no proxy request.
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

// rejectProxy rejects a proxy request for another host: otherwise a web page could reach every host that this machine can reach.
func (s *Server) rejectProxy(w http.ResponseWriter, authority string) {
	s.serving.arrivals.reject(fmt.Sprintf("%.100s", strings.ToLower(hostOf(authority))))
	scanapi.WriteProblem(w, http.StatusForbidden, "this server is a proxy only for the platform's host names ("+
		strings.Join(PlatformNames, ", ")+"), and "+fmt.Sprintf("%.100q", authority)+" is not one of them: add it to NO_PROXY")
}

// connect serves CONNECT. Afterwards, the client uses the connection as if it led to the platform: with TLS, or without TLS on port 80.
func (s *Server) connect(t *tunnel, w http.ResponseWriter, r *http.Request) {
	if !platformName(r.Host) {
		s.rejectProxy(w, r.Host)
		return
	}
	shown, err := s.platformCertificate()
	if err != nil {
		s.log.ErrorContext(r.Context(), "no certificate for the platform's hosts", "error", err)
		scanapi.WriteProblem(w, http.StatusInternalServerError, "there is no certificate for the platform's names; the server's log says why")
		return
	}
	conn, read, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2
		scanapi.WriteProblem(w, http.StatusHTTPVersionNotSupported, "CONNECT requires HTTP/1.1")
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		conn.Close()
		return
	}
	buffered, _ := read.Reader.Peek(read.Reader.Buffered())
	var item net.Conn = &lookahead{conn, io.MultiReader(strings.NewReader(string(buffered)), conn)}
	if _, port, _ := net.SplitHostPort(r.Host); port != "80" {
		item = tls.Server(item, platformTLS(shown))
	}
	t.take(item)
}

// platformCertificate returns the certificate for the platform's names; a server without --tls-dev creates it at the first use.
func (s *Server) platformCertificate() (certificates.Certificate, error) {
	if s.config.TLSDev {
		return s.serving.certificate, nil
	}
	return s.serving.platform()
}

// Authority returns the certificate file of the local authority that signs the certificates for the platform's names.
func (s *Server) Authority() (file string, err error) {
	_, err = s.platformCertificate()
	return certificates.AuthorityFile(s.config.Data), err
}

// mountCA serves the public certificate of the local authority, which clients must trust, and no other data of the authority.
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
			s.log.ErrorContext(r.Context(), "local certificate authority not readable", "error", err)
			scanapi.WriteProblem(w, http.StatusInternalServerError, "the local CA certificate cannot be read; see the server's log")
			return
		}
		w.Header().Set("Content-Type", "application/x-pem-file")
		w.Write(text)
	})
}
