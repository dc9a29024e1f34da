package api

import (
	"cmp"
	"context"
	"maps"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// MaxSharedLimit is the highest limit that is counted across all nodes; above this limit each node counts separately.
const MaxSharedLimit = 1000

// limit returns error 44990 if the account exceeds its limit of calls per second to the interface. Contract: rules §0.
func (a *API) limit(ctx context.Context, c *call, e endpoint, s settings.Settings) error {
	perSecond, account := e.perSecond(s), c.account()
	rate := cmp.Or(c.rate, &accounts.Rate{Path: e.path})
	allowed, key := rate.Allowed, rate.Key(account)
	switch {
	case rate.Counted:
	case a.countsAcrossNodes(e, s):
		var err error
		if allowed, err = a.Shared(ctx, key, int(perSecond)); err != nil {
			return err
		}
		a.Accounts.SetPassing(c.bearer, c.caller.AppID)
	default:
		allowed = a.limiter.allow(key, perSecond, a.RealNow())
	}
	if !allowed {
		row := behaviour.WireRateOther
		if e.permissionSets == ruleSets {
			row = behaviour.WireRateRules
		}
		return errcode.TooFrequent.WithDetail(row, "%s called %s more than %d times within a second", account, e.path, perSecond)
	}
	return nil
}

// countsAcrossNodes reports whether the calls per second to an endpoint are counted over all nodes.
func (a *API) countsAcrossNodes(e endpoint, s settings.Settings) bool {
	perSecond := e.perSecond(s)
	return a.Shared != nil && perSecond > 0 && perSecond <= MaxSharedLimit && !s.RateLimitPerNode
}

// perSecond returns the number of calls per second that an account may make to an interface that requires a token.
// Assumed(wire.rate.other): the documentation states a limit for jump rules only, and a call that is made for each scan must keep
// up with a busy shop.
func (e endpoint) perSecond(s settings.Settings) settings.Limit {
	if e.permissionSets == ruleSets {
		return s.RuleRateLimit
	}
	return s.DefaultRateLimit
}

// limitMinute returns error 45011 if a service account exceeds its limit of calls per minute to the interface; a setting can define such a
// limit. Contract: rules §1.9, marketcode §1. Assumed(wire.rate.minute): the limit is a quota, so the server's clock applies, not real
// time.
func (a *API) limitMinute(ctx context.Context, caller accounts.Account, path string, s settings.Settings) error {
	if s.ServiceRateLimitPerMinute == settings.Unlimited || caller.Kind != accounts.ServiceAccount {
		return nil
	}
	allowed, err := a.Calls.Minutes.Allow(ctx, caller.AppID+" "+path, int(s.ServiceRateLimitPerMinute), a.Now())
	if err == nil && !allowed {
		err = errcode.MinuteLimit.WithDetail(behaviour.WireRateMinute, "%s called %s more than %d times this minute", caller.AppID, path,
			s.ServiceRateLimitPerMinute)
	}
	return err
}

// limiter allows at most n calls per key within any second. limiter stores the times of the last n calls, so every one-second window,
// wherever it begins, contains at most n calls.
type limiter struct {
	mu          sync.Mutex
	calls       map[string]*callTimes
	lastSweep   time.Time
	clockOffset time.Duration // how far an emulated clock was moved forward
}

// advance makes all recorded calls older by d.
func (l *limiter) advance(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clockOffset += d
}

// removeMatching deletes the recorded calls of the keys for which match returns true.
func (l *limiter) removeMatching(match func(key string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.calls, func(key string, _ *callTimes) bool { return match(key) })
}

// callTimes contains the times of the latest allowed calls in a ring buffer that grows on demand up to limit, which may be a million.
type callTimes struct {
	limit settings.Limit
	times []time.Time
	next  int
}

// allow records a call at time now and reports whether the call is within the limit. A rejected call is not counted.
func (l *limiter) allow(key string, limit settings.Limit, now time.Time) bool {
	if limit == settings.Unlimited || limit <= 0 {
		return limit > 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now = now.Add(l.clockOffset)
	if l.calls == nil {
		l.calls = map[string]*callTimes{}
	}
	l.sweep(now)
	r := l.calls[key]
	if r == nil || r.limit != limit {
		if r == nil && len(l.calls) >= maxKeys {
			for evicted := range l.calls { // evicts an arbitrary key, whose count starts again at 0
				delete(l.calls, evicted)
				break
			}
		}
		r = &callTimes{limit: limit}
		l.calls[key] = r
	}
	if len(r.times) < int(limit) {
		r.times = append(r.times, now)
		return true
	}
	if now.Sub(r.times[r.next]) < time.Second {
		return false
	}
	r.times[r.next] = now
	r.next = (r.next + 1) % int(limit)
	return true
}

// maxKeys is the maximum number of keys in memory. The limit protects memory from a client with very many addresses.
const maxKeys = 100_000

// sweep deletes idle keys once per minute, or once per second if there are many keys, so that memory is needed only for accounts and
// addresses with recent calls.
func (l *limiter) sweep(now time.Time) {
	if elapsed := now.Sub(l.lastSweep); elapsed < time.Second || elapsed < time.Minute && len(l.calls) < maxKeys {
		return
	}
	l.lastSweep = now
	for key, r := range l.calls {
		latest := r.times[(r.next+len(r.times)-1)%len(r.times)]
		if now.Sub(latest) > time.Second {
			delete(l.calls, key)
		}
	}
}
