package server

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/digitallink"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/edge/consent"
	"github.com/qrjump/qrjump/internal/edge/landing"
	"github.com/qrjump/qrjump/internal/infra/ratelimit"
)

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
		seen[firstSegment(path)] = true
	}
	scans := s.scanAPI()
	var followed ratelimit.FixedWindow[any]
	return &digitallink.Resolver{Service: s.domain.products, Scheme: s.access().scheme,
		Reserved: func(path string) bool { return seen[firstSegment(path)] || slices.Contains(consent.Paths, path) },
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

func firstSegment(path string) string {
	segment, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return segment
}
