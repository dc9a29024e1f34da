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
	now := time.Unix(600, 0)
	for n := range 5 {
		exceeded, allowed := m.Exceeded("a", 3, now), m.Allow("a", 3, now.Add(time.Duration(n)*time.Second))
		assert.True(t, allowed == (n < 3) && exceeded != allowed, "call %d: Allow = %v, Exceeded = %v", n+1, allowed, exceeded)
	}
	assert.True(t, m.Allow("b", 3, now) && m.Allow("a", 4, now) && m.Allow("a", 3, now.Add(time.Minute)),
		"Allow of another key, a larger limit or the next minute = false, want true")
	m.Forget()
	assert.True(t, m.Allow("a", 1, now.Add(time.Minute)), "Allow after Forget = false, want true")
	for n := range maxTrackedKeys + 10 {
		m.Allow(string(rune(n+70_000)), 1, now)
	}
	assert.True(t, len(m.counts) <= maxTrackedKeys, "%d keys are tracked, want at most %d", len(m.counts), maxTrackedKeys)
}

func TestRateLimit_NetworkOfIP(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]string{"203.0.113.9": "203.0.113.9/32", "::ffff:203.0.113.9": "203.0.113.9/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64"} {
		assert.Equal(t, KeyForIP(netip.MustParseAddr(ip)).String(), want, "KeyForIP(%s)", ip)
	}
	assert.True(t, !KeyForIP(netip.Addr{}).IsValid(), "KeyForIP of the zero address is valid")
}
