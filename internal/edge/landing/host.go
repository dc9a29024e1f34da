package landing

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Hosts are the rules by host.
type Hosts interface {
	// RulesOfHost returns the ordinary rules under a host, for http and https, longest prefix
	// first; where there are more than limit, any limit of them.
	RulesOfHost(ctx context.Context, host string, limit int) ([]rules.Rule, error)
	// HasRules reports whether there is any.
	HasRules(ctx context.Context, host string) (bool, error)
}

// PlatformNames are the names under which client libraries know the platform,
// those of its other sites included: a library that is redirected below HTTP
// keeps them. They are never a brand's.
var PlatformNames = []string{"api.weixin.qq.com", "api2.weixin.qq.com", "sh.api.weixin.qq.com", "sz.api.weixin.qq.com",
	"hk.api.weixin.qq.com",
	"mp.weixin.qq.com", "open.weixin.qq.com"}

// pageHost returns the Host of a request as rules write it. ok is false for a host that no rule can
// have, or that is always the API's: addresses, this machine, and the names under which client
// libraries know the platform.
func pageHost(header, scheme string) (host string, ok bool) {
	if header == "" || len(header) > 253+6 {
		return "", false
	}
	host = strings.ToLower(header)
	for i := range len(host) {
		c := host[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_' || c == ':') {
			return "", false
		}
	}
	name := host
	if h, port, err := net.SplitHostPort(host); err == nil {
		name = h
		if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
			host = h
		}
	}
	switch {
	case name == "", name == "localhost", strings.HasSuffix(name, ".localhost"), slices.Contains(PlatformNames, name):
		return "", false
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", false
	}
	return host, true
}

// hostCache remembers for a moment whether hosts have rules. Hosts with rules and hosts without are
// kept apart, so that made-up names displace no real one.
type hostCache struct {
	mu      sync.Mutex
	yes, no map[string]time.Time // until when the answer is used
}

const (
	// hostFresh is the time for which an answer about a host is cached. It delays only the page that says "nothing here": a link
	// that a rule opens is shown at once.
	hostFresh = 5 * time.Second
	// maxHosts is the number of hosts of each kind that are remembered.
	maxHosts = 4096
)

// look returns what is remembered of a host, and whether it still counts.
func (c *hostCache) look(host string, now time.Time) (known, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, known := c.yes[host]
	if !known {
		until = c.no[host]
	}
	return known, now.Before(until) && !now.Before(until.Add(-hostFresh))
}

func (c *hostCache) remember(host string, known bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	is, otherTs := &c.no, c.yes
	if known {
		is, otherTs = &c.yes, c.no
	}
	delete(otherTs, host)
	if *is == nil || len(*is) >= maxHosts {
		*is = map[string]time.Time{}
	}
	(*is)[host] = now.Add(hostFresh)
}

// known reports whether a host is one of printed codes or has rules. It charges the caller for a
// host that is not remembered, because the store has to be asked. answered is true where the caller
// asked too often and was told so.
func (g *Gateway) known(w http.ResponseWriter, r *http.Request, host string) (known, answered bool) {
	if slices.Contains(g.prefixHosts(), host) {
		return true, false
	}
	now := g.RealNow()
	had, fresh := g.hosts.look(host, now)
	if fresh {
		return had, false
	}
	if !had && !g.withinLimit(w, r, "host", 1, g.Settings.Get().LandingPageRateLimit) {
		return false, true
	}
	known, err := g.Rules.HasRules(r.Context(), host)
	if err != nil {
		g.Log.WarnContext(r.Context(), "whether a host has rules could not be read; the API answers instead of a page", "host", host,
			"error", err)
		if file := r.URL.Path; !had && (file == applePath || file == androidPath) {
			g.serveUnavailable(w, r) // a telephone that asks for such a file would keep the API's answer
			return false, true
		}
		return had, false
	}
	g.hosts.remember(host, known, now)
	return known, false
}
