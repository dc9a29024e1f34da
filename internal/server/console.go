package server

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/edge/console"
	"github.com/qrjump/qrjump/internal/edge/guide"
	"github.com/qrjump/qrjump/internal/edge/oidc"
	"github.com/qrjump/qrjump/internal/edge/scanapi"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/version"
)

// console returns the web console, which uses the operations of the admin API.
func (s *Server) console(operationsOf http.Handler) *console.Console {
	scanMux := http.NewServeMux()
	explain := s.scanAPI()
	explain.Key = nil // needs no scan key, because the console checks the role of its user
	explain.Register(scanMux)
	// Callers that are restricted to certain accounts get results for these accounts only.
	scans := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scanMux.ServeHTTP(w, r.WithContext(scanapi.WithAccounts(r.Context(), adminroute.CallerFromContext(r.Context()).Accounts)))
	})
	c := &console.Console{API: operationsOf, Scan: scans, As: asCaller, People: s.domain.people, Now: s.now,
		AdminToken: s.access().isAdminToken, Demanded: s.access().demandsFactor, Emulates: s.config.emulates(),
		Secure:  func(r *http.Request) bool { return s.access().scheme(r) == "https" },
		TLSOnly: s.access().tlsOnly, ClientIP: s.access().clientIP, Stopping: s.serving.draining.Load, Wire: func() string { return s.URL },
		Docs: strings.TrimSuffix(guide.Root, "/"), Version: version.Number(), Log: s.log}
	if o := s.config.OIDC; o.Issuer != "" {
		c.Provider = &oidc.Provider{Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: s.secrets.oidcSecret,
			RolesClaim: cmp.Or(o.RolesClaim, "roles"), Vault: s.secrets.vault, Now: s.realNow, Random: s.random}
	}
	if s.config.TLSCert != "" {
		c.CertificateEnds = func() (time.Time, bool) {
			currentCertificate, err := s.serving.certificate.Get(nil)
			if err != nil || currentCertificate == nil || currentCertificate.Leaf == nil {
				return time.Time{}, false
			}
			return currentCertificate.Leaf.NotAfter, true
		}
	}
	started := s.realNow()
	c.Health = func(ctx context.Context) console.Health { return s.readiness().health(ctx, started) }
	c.Shared = s.sharedCharts().Open
	if s.config.Dev {
		c.Open, c.Again = &rootCaller, s.callAgain
	}
	return c
}

// health returns the state of this node for the console.
func (s health) health(ctx context.Context, started time.Time) console.Health {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	h := console.Health{DiskFree: -1, Memory: int64(memory.Sys - memory.HeapReleased), StartedAt: started}
	h.NotReady, _ = s.unready(ctx, "") // the error is ignored here, because GET /readyz logs it
	if free, known := scanlog.FreeSpace(s.config.Data); known {
		h.DiskFree = free
		if free < scanlog.MinFreeSpace {
			h.DiskKind = "bad"
		} else if free < enoughDisk {
			h.DiskKind = "warn"
		}
	}
	return h
}

// tlsOnly reports whether the console may send the HSTS header, which makes a browser use only TLS for a host. Only the console sends HSTS:
// API clients ignore HSTS, and customers' browsers may use the host for other services. With --dev or --tls-dev, HSTS is not sent, because
// all programs on the machine have the host name "localhost".
func (s access) tlsOnly(r *http.Request) bool {
	return s.scheme(r) == "https" && !s.config.Dev && !s.config.TLSDev
}

// isAdminToken reports whether a text that a person typed is the admin token. After too many wrong texts, isAdminToken returns
// iam.ErrTooMany for each further wrong text.
func (s access) isAdminToken(r *http.Request, text string) (bool, error) {
	if sameSecret(text, s.secrets.adminToken) {
		return true, nil
	}
	if s.refuseAt(r, adminTokenKind, keyMark(text, "qra_", iam.KeyPrefix)) {
		return false, iam.ErrTooMany
	}
	return false, nil
}

// callAgain repeats an account's wire call and returns the request id; it uses an operator token, which the account never receives.
func (s *Server) callAgain(ctx context.Context, account, path, query, body string) (rid string, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", err
	}
	token, err := s.domain.accounts.OperatorToken(ctx, account)
	if err != nil {
		return "", err
	}
	values.Set("access_token", token.Text)
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(ctx, method, path+"?"+values.Encode(), strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.RemoteAddr = "127.0.0.1:1"
	if s.serving.wireCalls == nil {
		return "", errors.New("this server does not serve the platform API")
	}
	w := &discarded{header: http.Header{}}
	s.serving.wireCalls.ServeHTTP(w, r)
	rid = strings.TrimPrefix(w.header.Get("X-Qrjump-Trace"), s.tracePathPrefix())
	if rid == "" {
		return "", errors.New("the call was not recorded")
	}
	return rid, nil
}

// discarded is a response writer that keeps only the headers and the status.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d *discarded) WriteHeader(status int)      { d.status = status }

// demandsFactor reports whether people with a role must use a second factor.
func (s access) demandsFactor(role string) bool {
	demand := s.chosen.settings.Get().SecondFactor
	return demand == settings.DemandEveryone || demand == settings.Admins && adminroute.Role(role).AtLeast(adminroute.Admin)
}
