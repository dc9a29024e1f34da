package server

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/scanapi"
)

// guarded puts around a handler what every listener shares.
func (s *Server) guarded(h http.Handler) http.Handler {
	return s.logPanics(s.timelyBody(singleSlashes(s.knownHost(h))))
}

// logPanics tells of a fault of ours; net/http would tell it where nobody
// looks, and then closes the connection.
func (s *Server) logPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			if fault != http.ErrAbortHandler { // that one is a connection closed on purpose
				s.log.ErrorContext(r.Context(), "a request failed inside the server", "path", fmt.Sprintf("%.200s", r.URL.Path),
					"panic", fmt.Sprint(fault), "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler)
		}()
		next.ServeHTTP(w, r)
	})
}

// timelyBody bounds how long a body may take that no handler reads, such as
// that of a refused call: net/http waits for it before it answers, for ever.
// Handlers that do read one move the deadline.
func (s *Server) timelyBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.bodyTime))
		}
		// Nobody keeps an answer in memory by not reading it. What streams moves
		// this on with every piece.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime))
		next.ServeHTTP(w, r)
		// Of a connection that ends with its answer, net/http would leave the body
		// unread, and the system would tell the client so by a reset, in place of
		// the answer.
		if r.Close && r.ContentLength != 0 {
			_, _ = io.CopyN(io.Discard, r.Body, unread)
		}
	})
}

// unread is how much of a body that nobody wants is taken, as by net/http where
// a connection goes on.
const unread = 256 << 10

// answerTime is how long an answer may take from the request's head to its last
// byte, an injected delay (a minute at most) included.
const answerTime = 2 * time.Minute

// idleTime is how long a connection may be without a request.
const idleTime = 2 * time.Minute

// singleSlashes makes "//cgi-bin/x" the path that was meant, before a router
// sees it: net/http would answer 307, and not every client library sends its
// body again. What is escaped is part of a name: a user may be called "x/" or
// "..", and is not the user "x".
func singleSlashes(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		if strings.Contains(path, "//") {
			for strings.Contains(path, "//") {
				path = strings.ReplaceAll(path, "//", "/")
			}
			// What came unescaped once comes unescaped again.
			if plain, err := url.PathUnescape(path); err == nil {
				r.URL.Path, r.URL.RawPath = plain, path
			}
		}
		// A path with dots is nobody's, and net/http would redirect it as well.
		if strings.Contains(path+"/", "/./") || strings.Contains(path+"/", "/../") {
			family, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
			r.URL.Path, r.URL.RawPath = "/"+cmp.Or(strings.Trim(family, "."), "-")+"/-", ""
		}
		next.ServeHTTP(w, r)
	})
}

// knownHost refuses requests under a foreign name while no credential is
// asked for: a web page could otherwise point a name of its own at this
// machine and read the answers.
func (s *Server) knownHost(next http.Handler) http.Handler {
	if !s.config.Dev || s.config.DevPublic {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if knownName(r.Host) {
			next.ServeHTTP(w, r)
		} else {
			scanapi.WriteProblem(w, http.StatusMisdirectedRequest, "with --dev only localhost, loopback addresses, api.weixin.qq.com and mp.weixin.qq.com are known hosts")
		}
	})
}

// knownName reports whether a Host is this machine's own.
func knownName(text string) bool {
	host, _, err := net.SplitHostPort(text)
	if err != nil {
		host = text
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	// Client libraries that were redirected below HTTP keep the first two.
	return host == "api.weixin.qq.com" || host == "mp.weixin.qq.com" || loopback(host) || strings.HasSuffix(host, ".localhost")
}

// adminOnly lets requests with the admin token through. With --dev none is
// needed, but a wrong one is still wrong.
func (s *Server) adminOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Get("Authorization")
		if header == "" && s.config.Dev {
			next.ServeHTTP(w, r)
			return
		}
		token, ok := strings.CutPrefix(header, "Bearer ")
		if !ok || !sameSecret(token, s.adminToken) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			scanapi.WriteProblem(w, http.StatusUnauthorized, "send the admin token: Authorization: Bearer …; it is in the file admin-token of the data folder unless --admin-token named another")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// clientIP is the caller's address: the connection's, or the one that a
// trusted proxy saw.
func (s *Server) clientIP(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	ip := ap.Addr().Unmap()
	if !s.trusted(ip) {
		return ip
	}
	// The rightmost address that is not a trusted proxy's: what stands left of
	// it, a stranger may have written.
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		text := strings.TrimSpace(hops[i])
		hop, err := netip.ParseAddr(text)
		if err != nil { // some proxies write the port too
			var there netip.AddrPort
			if there, err = netip.ParseAddrPort(text); err != nil {
				break
			}
			hop = there.Addr()
		}
		if ip = hop.Unmap(); !s.trusted(ip) {
			break
		}
	}
	return ip
}

// behindProxy reports whether a trusted proxy passed the request on.
func (s *Server) behindProxy(r *http.Request) bool {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && s.trusted(ap.Addr().Unmap())
}

func (s *Server) trusted(ip netip.Addr) bool {
	for _, p := range s.proxies {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
