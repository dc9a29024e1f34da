package accounts

import (
	"net/netip"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/infra/ratelimit"
)

// GuessesPerMinute is the number of wrong secrets per minute that one IP address may send for one account. Further wrong secrets
// receive error 45011 until the minute ends; a correct secret and other addresses are never throttled.
const GuessesPerMinute = 20

// Throttle counts wrong secrets per IP address and account name. The zero value of Throttle is ready to use.
// Assumed(token.secret.guessing): each node counts separately.
type Throttle struct {
	failures ratelimit.FixedWindow[guesser]
}

type guesser struct {
	from netip.Prefix
	whom string
}

// Blocked reports whether an IP address has exceeded the limit of wrong secrets for an account name in the current minute. A caller whose
// comparison is expensive, as for a password hash, checks Blocked first; other callers compare the secret first.
func (g *Throttle) Blocked(ip netip.Addr, text string, now time.Time) bool {
	return g.failures.Exceeded(guesser{ratelimit.KeyForIP(ip), text}, GuessesPerMinute, now)
}

// RecordFailure counts a wrong secret and reports whether the limit was already exceeded before this wrong secret.
func (g *Throttle) RecordFailure(ip netip.Addr, text string, now time.Time) (tooMany bool) {
	return !g.failures.Allow(guesser{ratelimit.KeyForIP(ip), text}, GuessesPerMinute, now)
}

// Clear forgets everything.
func (g *Throttle) Clear() { g.failures.Forget() }

// ClearOf resets the counts of one account name.
func (g *Throttle) ClearOf(text string) {
	g.failures.DeleteFunc(func(item guesser) bool { return item.whom == text })
}

// Guessing is the error (45011) for a caller that sent too many wrong secrets. The call is not attributed to the account that the request
// names.
type Guessing struct{ error }

// Unwrap supports errors.As.
func (g Guessing) Unwrap() error { return g.error }

// secretOf compares a secret with the stored hash of an account or a component: it returns 40125 for a wrong secret, and Guessing
// after too many wrong secrets.
func (d *Service) secretOf(appid, secret, hash string, ip netip.Addr) error {
	fault := errcode.InvalidSecret.WithDetail(behaviour.TokenSecretWrong, "the secret is not that of %s", appid)
	switch {
	case len(secret) > 256:
		fault = errcode.InvalidSecret.WithDetail(behaviour.TokenSecretWrong, "the secret is longer than 256 bytes")
	case d.HasSecret(appid, secret, hash):
		return nil
	}
	tooMany := d.Guesses.RecordFailure(ip, appid, d.realNow())
	if d.Guessed != nil {
		d.Guessed(appid, ip, tooMany)
	}
	if tooMany {
		return Guessing{errcode.MinuteLimit.WithDetail(behaviour.TokenSecretGuessing,
			"more than %d wrong secrets for %s came from this address within a minute", GuessesPerMinute, appid)}
	}
	return fault
}

// HasSecret reports whether hash is the keyed hash of secret. A mismatch does not count as a wrong secret.
func (d *Service) HasSecret(appid, secret, hash string) bool {
	return hash != "" && d.Key.Matches(secretPurpose(appid), secret, hash)
}
