package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/edge/landing"
	"github.com/qrjump/qrjump/internal/edge/scanapi"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/connlimit"
)

// guarded wraps a handler in the middleware that all listeners share.
func (s access) guarded(h http.Handler) http.Handler {
	return s.logPanics(s.limitBodyTime(cleanPath(s.knownHost(h))))
}

// logPanics logs a panic of a handler; net/http would write it to standard error only. The connection is closed after a panic.
func (s access) logPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			if fault != http.ErrAbortHandler { // ErrAbortHandler closes a connection on purpose
				s.log.ErrorContext(r.Context(), "request handler panicked", "path", api.LoggedPath(r.URL.Path),
					"panic", fmt.Sprint(fault), "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler)
		}()
		next.ServeHTTP(w, r)
	})
}

// answerTime is the maximum time from the request headers to the last byte of the response. The time includes a delay that the emulator
// injects (at most one minute).
const answerTime = 2 * time.Minute

// idleTime is the maximum time that a connection may stay open without a request.
const idleTime = 2 * time.Minute

// cleanPath rewrites a path such as "//cgi-bin/x" to the intended path before routing. net/http would redirect the client with 307, and
// some client libraries then omit the body. An escaped slash stays as it is, because it belongs to a name: "x/" and "x" are different
// users.
func cleanPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		if strings.Contains(path, "//") {
			for strings.Contains(path, "//") {
				path = strings.ReplaceAll(path, "//", "/")
			}
			// URL.Path must be the unescaped form of the new path.
			if plain, err := url.PathUnescape(path); err == nil {
				r.URL.Path, r.URL.RawPath = plain, path
			}
		}
		// No valid call has a path with dot segments, and net/http would redirect such a path too.
		if strings.Contains(path+"/", "/./") || strings.Contains(path+"/", "/../") {
			family, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
			r.URL.Path, r.URL.RawPath = "/"+cmp.Or(strings.Trim(family, "."), "-")+"/-", ""
		}
		next.ServeHTTP(w, r)
	})
}

// knownHost rejects requests for unknown host names with --dev, which needs no credentials. Without this check, a web page could make its
// own domain resolve to this machine and read the responses (DNS rebinding).
func (s access) knownHost(next http.Handler) http.Handler {
	if !s.config.Dev {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.knownName(r.Host) {
			next.ServeHTTP(w, r)
			return
		}
		numbers := "loopback addresses"
		if s.config.DevPublic {
			numbers = "addresses"
		}
		scanapi.WriteProblem(w, http.StatusMisdirectedRequest, "with --dev only localhost, "+numbers+
			", host.docker.internal and the platform's names ("+strings.Join(landing.PlatformNames, ", ")+
			") are known hosts; serve --dev-host NAME adds one")
	})
}

// knownName reports whether a Host header has a name of this machine, of the platform, or from the operator (--dev-host, GS1 hosts).
func (s access) knownName(text string) bool {
	host := strings.ToLower(strings.Trim(hostOf(text), "[]"))
	// A container reaches its host machine by the name host.docker.internal.
	if slices.Contains(landing.PlatformNames, host) || host == "host.docker.internal" || loopback(host) ||
		strings.HasSuffix(host, ".localhost") {
		return true
	}
	if s.config.DevPublic {
		// A web page cannot redirect an IP address to another machine.
		if _, err := netip.ParseAddr(host); err == nil {
			return true
		}
	}
	if hosts := s.chosen.settings.Get().GS1Hosts; hosts.Has(host) || hosts.Has(strings.ToLower(text)) {
		return true
	}
	return slices.ContainsFunc(s.config.DevHost, func(name string) bool { return strings.EqualFold(name, host) })
}

// ownOrigin rejects requests that a browser sends from a page of another origin: with --dev, such a page knows the public secrets of the
// demo accounts. Following a link and loading a QR code image are allowed.
func (s access) ownOrigin(next http.Handler) http.Handler {
	if !s.config.Dev {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isCrossOrigin(r) {
			refuseOrigin(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isCrossOrigin reports whether a request comes from a page of another origin.
func isCrossOrigin(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" {
		from, err := url.Parse(origin)
		return err != nil || from.Host == "" || !strings.EqualFold(from.Host, r.Host)
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
	default:
		return false
	}
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	return !read || r.Header.Get("Sec-Fetch-Mode") != "navigate" && r.URL.Path != "/cgi-bin/showqrcode"
}

// refuseOrigin writes the response to a request from a page of another origin.
func refuseOrigin(w http.ResponseWriter, _ *http.Request) {
	scanapi.WriteProblem(w, http.StatusForbidden,
		"a browser sends this from a page of another origin: calls come from programs, or from a page of this server")
}

// asCaller returns a copy of the request with the caller's role and accounts, which the operations check, and with the caller's name for
// the audit log.
func asCaller(r *http.Request, c iam.Caller) *http.Request {
	ctx := adminroute.WithCaller(r.Context(), adminroute.Caller{Role: adminroute.Role(c.Role), Accounts: c.Accounts})
	return r.WithContext(accounts.WithActor(ctx, accounts.Actor{ActorID: c.Actor}))
}

// rootCaller is the caller with the admin token. With --dev, a caller without a credential is rootCaller too.
var rootCaller = iam.Caller{Actor: "admin", Role: string(adminroute.Admin)}

// adminOnly allows only requests with the admin token or an admin key. With --dev no credential is needed, but a wrong credential is still
// rejected. Session cookies are not accepted here, because a page of another origin could make the browser send the cookie.
func (s access) adminOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Get("Authorization")
		if header == "" && s.config.Dev {
			next.ServeHTTP(w, asCaller(r, rootCaller))
			return
		}
		token, given := strings.CutPrefix(header, "Bearer ")
		if !given {
			token = ""
		}
		caller, err := s.callerOf(r.Context(), token)
		switch {
		case err == nil:
			connlimit.Authenticated(r.Context())
			next.ServeHTTP(w, asCaller(r, caller))
			return
		case !errors.Is(err, iam.ErrNoKey):
			s.log.ErrorContext(r.Context(), "admin key lookup failed", "error", err)
			scanapi.WriteProblem(w, http.StatusServiceUnavailable, "the key cannot be checked now: try again later; the server's log says more")
			return
		}
		connlimit.Rejected(r.Context())
		wrong := ""
		if given {
			wrong = "this is neither the admin token nor a valid admin key; "
			if caller.Name != "" {
				wrong = "the admin key " + caller.Name + " expired; "
			}
			if s.refuseAt(r, adminTokenKind, cmp.Or(caller.Name, keyMark(token, "qra_", iam.KeyPrefix))) {
				w.Header().Set("Retry-After", "60")
				scanapi.WriteProblem(w, http.StatusTooManyRequests,
					"too many wrong admin tokens from this address: correct the token in the client; a valid token is accepted immediately")
				return
			}
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		scanapi.WriteProblem(w, http.StatusUnauthorized,
			wrong+"send the admin token or an admin key: Authorization: Bearer …; the token is in the file admin-token of the data directory "+
				"unless --admin-token sets another token")
	})
}

// callerOf returns the caller that a token identifies. For an unknown or expired admin key, callerOf returns iam.ErrNoKey; for an expired
// key, the caller still contains the name of the key.
func (s access) callerOf(ctx context.Context, token string) (iam.Caller, error) {
	if sameSecret(token, s.secrets.adminToken) {
		return rootCaller, nil
	}
	return s.domain.people.ByKey(ctx, token)
}

// mayExplain returns the accounts whose rules the caller with a token may see (empty = all), or accounts.ErrNoScanKey for a wrong token.
func (s access) mayExplain(ctx context.Context, token string) (appids []string, err error) {
	caller, err := s.callerOf(ctx, token)
	switch {
	case errors.Is(err, iam.ErrNoKey):
		return nil, accounts.ErrNoScanKey
	case err != nil:
		return nil, err
	case !adminroute.Role(caller.Role).AtLeast(adminroute.Viewer):
		return nil, accounts.ErrNoScanKey
	}
	return caller.Accounts, nil
}

// guessed records a failed attempt with a wrong AppSecret.
func (s access) guessed(appid string, ip netip.Addr, tooMany bool) {
	s.refuse(context.Background(), secretKind, appid, ip, tooMany)
}

// guessedPerson records a person's failed attempt to sign in.
func (s access) guessedPerson(method iam.LoginMethod, name string, ip netip.Addr, tooMany bool) {
	for _, d := range credentialKinds {
		if d.name == string(method) {
			s.refuse(context.Background(), d, name[:min(len(name), 64)], ip, tooMany)
		}
	}
}

// clientIP returns the client's address: the address of the connection, or the address that a trusted proxy reports.
func (s access) clientIP(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	ip := ap.Addr().Unmap()
	if !s.trusted(ip) {
		return ip
	}
	// The rightmost address that belongs to no trusted proxy is the client's; the client can forge the addresses to its left. If an entry
	// is no address, the address of the proxy that sent the entry counts as the client's.
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		text := strings.TrimSpace(hops[i])
		hop, err := netip.ParseAddr(text)
		if err != nil { // some proxies append the port to the address
			var storedPort netip.AddrPort
			if storedPort, err = netip.ParseAddrPort(text); err != nil {
				break
			}
			hop = storedPort.Addr()
		}
		if hop.Zone() != "" { // an address with a zone is valid only on the proxy's own machine
			break
		}
		if ip = hop.Unmap(); !s.trusted(ip) {
			break
		}
	}
	return ip
}

// behindProxy reports whether a trusted proxy forwarded the request.
func (s access) behindProxy(r *http.Request) bool {
	if len(s.serving.proxies) == 0 {
		return false
	}
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && s.trusted(ap.Addr().Unmap())
}

func (s access) trusted(ip netip.Addr) bool {
	return slices.ContainsFunc(s.serving.proxies, func(p netip.Prefix) bool { return p.Contains(ip) })
}
