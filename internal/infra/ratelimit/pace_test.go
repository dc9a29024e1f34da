package ratelimit

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestFixedWindow_LimitPerMinute(t *testing.T) {
	t.Parallel()
	var m FixedWindow[string]
	at := time.Unix(600, 0)
	for n := range 5 {
		full, allowed := m.Exceeded("a", 3, at), m.Allow("a", 3, at.Add(time.Duration(n)*time.Second))
		assert.True(t, allowed == (n < 3) && full != allowed, "call %d: allowed %v, full %v", n+1, allowed, full)
	}
	assert.True(t, m.Allow("b", 3, at) && m.Allow("a", 4, at) && m.Allow("a", 3, at.Add(time.Minute)),
		"another key, a larger limit or the next minute is refused")
	m.Forget()
	assert.True(t, m.Allow("a", 1, at.Add(time.Minute)), "what was forgotten counts")
	for n := range maxTrackedKeys + 10 {
		m.Allow(string(rune(n+70_000)), 1, at)
	}
	assert.True(t, len(m.counts) <= maxTrackedKeys, "%d keys are remembered", len(m.counts))
}

func TestRateLimit_NetworkOfIP(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]string{"203.0.113.9": "203.0.113.9/32", "::ffff:203.0.113.9": "203.0.113.9/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64"} {
		assert.Equal(t, KeyForIP(netip.MustParseAddr(ip)).String(), want, "%s counts as", ip)
	}
	assert.True(t, !KeyForIP(netip.Addr{}).IsValid(), "no address has a network")
}
