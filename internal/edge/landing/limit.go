package landing

import (
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/infra/ratelimit"
)

// limits contains token buckets by address; a bucket contains at most the tokens of one minute and is refilled evenly. The zero value of
// limits is ready to use.
type limits struct {
	mu sync.Mutex
	// Two generations bound the memory: when the young generation is full, the old generation is discarded. A bucket in use moves
	// to the young generation.
	young, old map[bucketKey]bucket
}

type bucketKey struct {
	kind    string
	network netip.Prefix
}

type bucket struct {
	tokens float64
	at     time.Time
}

// maxBuckets is the maximum number of addresses per generation, about 20 MiB in total.
const maxBuckets = 100_000

// draw takes tokens and returns 0, or takes none and returns the time until the tokens are available. A request for more than one minute's
// tokens is reduced to one minute's tokens. If perMinute is 0, no request gets tokens.
func (l *limits) draw(kind string, ip netip.Addr, tokens, perMinute int, now time.Time) (wait time.Duration) {
	if perMinute <= 0 {
		return time.Minute
	}
	key := bucketKey{kind, ratelimit.KeyForIP(ip)}
	l.mu.Lock()
	defer l.mu.Unlock()
	full := float64(perMinute)
	b, ok := l.young[key]
	if !ok {
		if b, ok = l.old[key]; !ok {
			b = bucket{full, now}
		}
	}
	// If the clock went backwards, nothing is refilled.
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens = min(full, b.tokens+full*passed.Minutes())
	}
	b.tokens, b.at = min(b.tokens, full), now
	if want := min(float64(tokens), full); b.tokens < want {
		wait = max(time.Duration((want-b.tokens)/full*float64(time.Minute)), time.Millisecond)
	} else {
		b.tokens -= want
	}
	if l.young == nil || len(l.young) >= maxBuckets {
		l.old, l.young = l.young, map[bucketKey]bucket{}
	}
	l.young[key] = b
	return wait
}

// refill refills all buckets completely; advance refills them as if d had passed.
func (l *limits) refill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.young, l.old = nil, nil
}

func (l *limits) advance(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, buckets := range []map[bucketKey]bucket{l.young, l.old} {
		for key, b := range buckets {
			b.at = b.at.Add(-d)
			buckets[key] = b
		}
	}
}

// ForgetVisitors resets the rate limits of all networks.
func (g *Gateway) ForgetVisitors() { g.limits.refill() }

// Advance makes all page views counted by the rate limits older by d.
func (g *Gateway) Advance(d time.Duration) { g.limits.advance(d) }

// seconds returns a duration in whole seconds, rounded up, for the Retry-After header.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
