package api

import (
	"context"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/errcode"
	"github.com/qrjump/qrjump/internal/settings"
)

// SharedMost is the greatest limit that is counted over all nodes: above it,
// each node counts for itself.
const SharedMost = 1000

// limit returns 44990 for a call above the limit of calls a second of an
// account and an interface. Contract: rules 4.
func (a *API) limit(ctx context.Context, account, path string, s settings.Settings) error {
	allowed, key := true, account+" "+path
	if a.Shared != nil && s.RateLimit > 0 && s.RateLimit <= SharedMost && !s.RateLimitPerNode {
		var err error
		if allowed, err = a.Shared(ctx, key, s.RateLimit); err != nil {
			return err
		}
	} else {
		allowed = a.limiter.allow(key, s.RateLimit, a.RealNow())
	}
	if !allowed {
		return errcode.TooFrequent.With("%s called %s more than %d times within a second", account, path, s.RateLimit)
	}
	return nil
}

// limiter allows at most n calls of a key within any second. It remembers the
// last n times, so no window of one second, wherever it begins, has more.
type limiter struct {
	mu    sync.Mutex
	calls map[string]*recent
	swept time.Time
}

// recent are the times of the latest allowed calls, a ring of limit times that
// grows as they come: a limit may be a million.
type recent struct {
	limit int
	times []time.Time
	next  int
}

// allow notes a call at a time and reports whether it is within the limit. A
// limit of 0 is none. A refused call counts for nothing.
func (l *limiter) allow(key string, limit int, now time.Time) bool {
	if limit <= 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		l.calls = map[string]*recent{}
	}
	l.sweep(now)
	r := l.calls[key]
	if r == nil || r.limit != limit {
		r = &recent{limit: limit}
		l.calls[key] = r
	}
	if len(r.times) < limit {
		r.times = append(r.times, now)
		return true
	}
	if now.Sub(r.times[r.next]) < time.Second {
		return false
	}
	r.times[r.next] = now
	r.next = (r.next + 1) % limit
	return true
}

// sweep forgets keys that have been quiet, so that memory is bounded by the
// accounts of the last minute.
func (l *limiter) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Minute {
		return
	}
	l.swept = now
	for key, r := range l.calls {
		latest := r.times[(r.next+len(r.times)-1)%len(r.times)]
		if now.Sub(latest) > time.Second {
			delete(l.calls, key)
		}
	}
}
