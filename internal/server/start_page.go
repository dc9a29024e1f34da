package server

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/qrjump/qrjump/internal/edge/assets"
	"github.com/qrjump/qrjump/internal/edge/console"
	"github.com/qrjump/qrjump/internal/edge/guide"
	"github.com/qrjump/qrjump/internal/edge/welcome"
)

// mountFirstPage serves a welcome page to a browser at the path / of a listener; pastHandler serves other requests for this path.
func (s *Server) mountFirstPage(mux *http.ServeMux, role listenerRole, pastHandler http.Handler) {
	for _, asset := range []*assets.Asset{assets.Sheet, assets.Script} {
		mux.Handle("GET "+asset.Path(), asset)
	}
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		if !welcome.AcceptsPage(r) {
			pastHandler.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), readyTime)
		defer cancel()
		page := s.firstPage(ctx, s.base(r), role, s.config.Dev || s.access().clientIP(r).IsLoopback() && !s.access().behindProxy(r))
		page.Serve(w, r)
	})
}

var plainHost = regexp.MustCompile(`^(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?$`)

// base returns the base URL that the browser used; "" if the host is not safe to show.
func (s *Server) base(r *http.Request) string {
	if !plainHost.MatchString(r.Host) {
		return ""
	}
	return s.access().scheme(r) + "://" + r.Host
}

// firstPage returns the data of a listener's welcome page; base is the base URL that the browser used. If isNear is true, the page may show
// the addresses of the other listeners.
func (s *Server) firstPage(ctx context.Context, base string, role listenerRole, isNear bool) welcome.Server {
	fault, _ := s.readiness().unready(ctx, "") // the error is ignored here, because GET /readyz logs it
	page := welcome.Server{Fault: fault, AdminFlag: s.flagOf(admin), Curl: s.curl()}
	for _, entry := range []struct {
		surface listenerRole
		name    string
		url     string
	}{{wire, "wire", s.URL}, {scans, "scan", s.ScanURL}, {admin, "admin", s.AdminURL}} {
		a := welcome.Address{Name: entry.name, Flag: s.flagOf(entry.surface)}
		switch {
		case role&entry.surface != 0 && base != "":
			a.URL = base
		case role&entry.surface != 0, isNear:
			a.URL = entry.url
		}
		page.Addresses = append(page.Addresses, a)
	}
	switch {
	case role&admin != 0:
		page.Console, page.Docs = console.Root, strings.TrimSuffix(guide.Root, "/")
	case isNear:
		page.ConsoleAt = s.AdminURL + console.Root
	}
	page.Wire, page.Scan = page.Addresses[0].URL, page.Addresses[1].URL
	if s.config.Dev {
		page.Demo = s.demoAccounts(ctx)
	}
	return page
}

// flagOf returns the flag that sets the listen address of a role (wire API, scan API or admin API).
func (s *Server) flagOf(role listenerRole) string {
	if role == scans && s.config.ScanListen == "" || role == admin && s.config.AdminListen == "" {
		role = wire
	}
	return surfaceFlags[role][1]
}

// demoShown is the maximum number of accounts of the seed file that the welcome page shows.
const demoShown = 20

// plainText matches texts that are safe inside a line that people paste into a shell.
var plainText = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)
})

// demoAccounts returns the seed file's accounts and platforms whose secrets were not changed since.
func (s *Server) demoAccounts(ctx context.Context) (list []welcome.Account) {
	if s.chosen.seed == nil {
		return nil
	}
	for _, a := range s.chosen.seed.Accounts {
		if len(list) == demoShown || !plainText().MatchString(a.AppID) || !plainText().MatchString(a.Secret) {
			continue
		}
		if currentAccount, err := s.domain.accounts.Get(ctx, a.AppID); err == nil &&
			s.domain.accounts.HasSecret(currentAccount.AppID, a.Secret, currentAccount.SecretHash) {
			list = append(list, welcome.Account{AppID: a.AppID, Name: currentAccount.Name,
				Kind: string(currentAccount.Kind), Secret: a.Secret})
		}
	}
	for _, c := range s.chosen.seed.Components {
		if len(list) == demoShown || !plainText().MatchString(c.AppID) || !plainText().MatchString(c.Secret) {
			continue
		}
		currentComponent, err := s.domain.accounts.GetComponent(ctx, c.AppID)
		if err == nil && s.domain.accounts.HasSecret(currentComponent.AppID, c.Secret, currentComponent.SecretHash) {
			list = append(list, welcome.Account{AppID: c.AppID, Kind: "component", Secret: c.Secret})
		}
	}
	return list
}

// DemoAccount returns the credentials of an account with which programs can call the server: the first account of a kind in the seed file,
// or the first third-party platform (kind "component"); "" if the seed file has none.
func (s *Server) DemoAccount(ctx context.Context, kind string) (appid, secret string) {
	for _, a := range s.demoAccounts(ctx) {
		if a.Kind == kind {
			return a.AppID, a.Secret
		}
	}
	return "", ""
}
