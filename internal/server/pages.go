package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/digitallink"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/edge/consent"
	"github.com/qrjump/qrjump/internal/edge/console"
	"github.com/qrjump/qrjump/internal/edge/landing"
	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/infra/ratelimit"
)

// pages returns a handler that serves the pages for browsers, and passes requests for the APIs to next.
func (s *Server) pages(next http.Handler) http.Handler {
	views := prometheus.NewCounterVec(prometheus.CounterOpts(metric("qrjump_page_views_total")), []string{"page"})
	s.metrics.registry.MustRegister(views)
	g := &landing.Gateway{
		Resolve: s.scanAPI().Resolver.Resolve,
		Account: s.domain.current.Accounts.Account,
		Prefixes: func() []string {
			if s.domain.codes.Closed {
				return s.domain.codes.Memory.Prefixes("")
			}
			return s.domain.codes.Memory.Prefixes(s.domain.codes.Prefix)
		},
		Links:    s.domain.codes.Memory.Links,
		LinkHost: s.domain.products.HasHost,
		Rules:    s.store,
		Looks:    s.domain.appearances,
		APIPaths: apiPaths(),
		APIPages: consent.Paths,
		Settings: s.chosen.settings, Now: s.now, RealNow: s.realNow, ClientIP: s.access().clientIP, Scheme: s.access().scheme, Log: s.log,
		First: func(ctx context.Context, batch, index int64) (time.Time, bool, error) {
			first, ok, err := s.domain.ticketWriter.FirstScan(ctx, batch, index)
			return first.At, ok, err
		},
		Checks: func(ctx context.Context, batch, index int64) (int64, error) {
			code, err := s.scanning.alarms.Code(ctx, alarms.CodeName{Batch: batch, Index: index})
			if err != nil {
				return 0, err
			}
			return code.Scans, nil
		},
		Copied: func(ctx context.Context, batch, index int64) (bool, error) {
			_, err := s.scanning.alarms.Alarm(ctx, alarms.CodeName{Batch: batch, Index: index})
			if errors.Is(err, alarms.ErrNoAlarm) {
				return false, nil
			}
			return err == nil, err
		},
		Redeemed: s.domain.codes.RedeemedAt,
		CheckPIN: codes.PINCheck{Service: s.domain.codes}.Check,
		Observe:  func(p landing.Page) { views.WithLabelValues(string(p)).Inc() },
	}
	s.emulation.pages = g
	handler := g.Middleware(next)
	if !s.config.Dev {
		return handler
	}
	// TryPath cannot hide the link of a rule: with --dev, this server accepts only requests for host names that rules cannot have.
	mux := http.NewServeMux()
	mux.Handle(landing.TryPath+"{$}", g.Preview())
	mux.Handle("/", handler)
	try := strings.TrimSuffix(landing.TryPath, "/")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, try) {
			mux.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r) // as the mux would do, but faster
	})
}

// scheme returns the scheme of the request, as reported by a trusted proxy.
func (s access) scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	if s.behindProxy(r) {
		// The first value is the scheme that the browser used.
		first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
		if strings.EqualFold(strings.TrimSpace(first), "https") {
			return "https"
		}
	}
	return "http"
}

// apiPaths returns the paths that belong to this server's APIs, whatever host name a request has.
func apiPaths() []string {
	return append(api.Paths(), "/cgi-bin/", "/scan/", "/admin/", "/qrjump/", "/metrics", "/healthz", "/readyz", "/openapi.json",
		"/openapi-wire.json")
}

// maxFollowed is the maximum number of redirects per minute and client network that are written to the scan log. Redirects beyond this
// number are not written, so that clients cannot fill the disk.
const maxFollowed = 300

// links returns the handler for GS1 Digital Link requests, which runs before all other handlers of a public listener.
func (s *Server) links() *digitallink.Resolver {
	seen := map[string]bool{}
	for _, path := range apiPaths() {
		seen[landing.FirstSegment(path)] = true
	}
	scans := s.scanAPI()
	var followed ratelimit.FixedWindow[any]
	return &digitallink.Resolver{Service: s.domain.products, Scheme: s.access().scheme,
		Reserved: func(path string) bool {
			return seen[landing.FirstSegment(path)] || slices.Contains(consent.Paths, path) || landing.IsLinksFile(path)
		},
		Opens: func(text string) bool {
			d := scans.Resolver.Resolve(scan.Request{Text: text, At: s.now()})
			return d.Kind != "" && d.Kind != scan.ByGS1 || d.Reason != "" || d.Code.Err != nil
		},
		Followed: func(q *http.Request, f digitallink.Followed) {
			ip := s.access().clientIP(q)
			if followed.Allow(ratelimit.KeyForIP(ip), maxFollowed, s.realNow()) {
				scans.RecordRedirect(f.Number, f.Address, strings.TrimSpace(f.Type+" "+f.Language), ip.String())
			}
		},
		Page:    (&landing.Gateway{Log: s.log}).NoLink,
		Observe: func(status int) { s.metrics.gs1.WithLabelValues(strconv.Itoa(status)).Inc() }}
}

// consentPage returns the page on which a person approves an authorisation; without --dev, the approval needs the admin token.
func (s *Server) consentPage() http.Handler {
	p := &consent.Page{Accounts: s.domain.accounts, Log: s.log, HandOver: func(reference string) string {
		return s.AdminURL + console.AgreePage(reference)
	}}
	if !s.config.Dev {
		p.Admin = s.access().isAdminToken
	}
	return p.Handler()
}

// platformControls returns the emulator controls for third-party platforms.
func (s *Server) platformControls() emulator.Platforms {
	return emulator.Platforms{
		Authorize: func(ctx context.Context, a client.Consent) (string, error) {
			if a.PermissionSets == nil {
				a.PermissionSets = accounts.AskedByDefault
			}
			code, err := s.domain.accounts.Agree(ctx, accounts.Agreement{Component: a.Component, PreAuthCode: a.PreAuthCode, AppID: a.AppID,
				Sets: a.PermissionSets, ForceExclusive: a.Move})
			return code.Text, err
		},
		Ticket: func(ctx context.Context, component string) (string, error) {
			return s.domain.accounts.NewTicket(ctx, component)
		},
	}
}
