package landing

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Hosts provides the rules by host.
type Hosts interface {
	// RulesOfHost returns the ordinary rules of a host for http and https, longest prefix first; if there are more than limit, an
	// arbitrary selection of limit rules.
	RulesOfHost(ctx context.Context, host string, limit int) ([]rules.Rule, error)
	// HasRules reports whether the host has any rule.
	HasRules(ctx context.Context, host string) (bool, error)
}

// PlatformNames lists the host names that client libraries use for the platform and its other sites; a library whose connections
// are redirected below the HTTP level keeps using these names. No account can use the platform's host names for its own pages.
var PlatformNames = []string{"api.weixin.qq.com", "api2.weixin.qq.com", "sh.api.weixin.qq.com", "sz.api.weixin.qq.com",
	"hk.api.weixin.qq.com",
	"mp.weixin.qq.com", "open.weixin.qq.com"}

// pageHost returns the Host of a request in the spelling of rules; ok is false for a host that no rule can have or that always
// belongs to the API: IP addresses, localhost, and the platform names used by client libraries.
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
	if h, port, found := strings.Cut(host, ":"); found && !strings.Contains(port, ":") {
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

// hostCache briefly caches whether hosts have rules. Hosts with and without rules are cached separately, so that invented names do
// not evict real hosts.
type hostCache struct {
	mu                      sync.Mutex
	withRules, withoutRules map[string]time.Time // expiry time of each cached result
}

const (
	// hostFresh is the lifetime of a cached result. Links that match a rule do not need the cache, so the first rule of a host is effective
	// at once.
	hostFresh = 5 * time.Second
	// maxHosts is the maximum number of cached hosts with rules, and of cached hosts without rules.
	maxHosts = 4096
)

// get returns the cached result for a host, and whether it is still fresh.
func (c *hostCache) get(host string, now time.Time) (known, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, known := c.withRules[host]
	if !known {
		until = c.withoutRules[host]
	}
	return known, now.Before(until) && !now.Before(until.Add(-hostFresh))
}

func (c *hostCache) put(host string, known bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	target, other := &c.withoutRules, c.withRules
	if known {
		target, other = &c.withRules, c.withoutRules
	}
	delete(other, host)
	if *target == nil || len(*target) >= maxHosts {
		*target = map[string]time.Time{}
	}
	(*target)[host] = now.Add(hostFresh)
}

// known reports whether a host belongs to printed codes or GS1 links, or has rules. A host that is not cached counts against the client's
// rate limit, because it needs a database query; answered reports that known has sent a response, because the limit is exceeded.
func (g *Gateway) known(w http.ResponseWriter, r *http.Request, host string) (known, answered bool) {
	if slices.Contains(g.prefixHosts(), host) || g.LinkHost(host, g.Scheme(r)) {
		return true, false
	}
	now := g.RealNow()
	cached, fresh := g.hosts.get(host, now)
	if fresh {
		return cached, false
	}
	if !cached && !g.withinLimit(w, r, "host", 1, 1) {
		return false, true
	}
	known, err := g.Rules.HasRules(r.Context(), host)
	if err != nil {
		g.Log.WarnContext(r.Context(), "lookup of the rules of a host failed; request passed to the API", "host", host,
			"error", err)
		if file := r.URL.Path; !cached && IsLinksFile(file) {
			g.serveUnavailable(w, r) // a phone that requests an app link file would cache the API's response
			return false, true
		}
		return cached, false
	}
	g.hosts.put(host, known, now)
	return known, false
}
