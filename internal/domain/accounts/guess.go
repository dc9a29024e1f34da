package accounts

import (
	"errors"
	"net/netip"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/infra/ratelimit"
)

// GuessesPerMinute is the number of wrong secrets that an address may send for an account within a minute. Wrong ones after them
// are answered 45011 until the minute is over; the right one is never refused, and another address is never hindered.
const GuessesPerMinute = 20

// Throttle counts wrong secrets by address and by whose they should be. The zero
// value is ready. Assumed(token.secret.guessing): each node counts its own.
type Throttle struct {
	wrong ratelimit.FixedWindow[guesser]
}

type guesser struct {
	from netip.Prefix
	whom string
}

// Blocked reports whether an address has sent too many wrong secrets for a name in the current minute. Only where a comparison
// costs much, as of a password, is this asked before it.
func (g *Throttle) Blocked(ip netip.Addr, text string, now time.Time) bool {
	return g.wrong.Exceeded(guesser{ratelimit.KeyForIP(ip), text}, GuessesPerMinute, now)
}

// RecordFailure notes a secret that was compared and is wrong, and reports whether there
// were too many before it.
func (g *Throttle) RecordFailure(ip netip.Addr, text string, now time.Time) (tooMany bool) {
	return !g.wrong.Allow(guesser{ratelimit.KeyForIP(ip), text}, GuessesPerMinute, now)
}

// Clear forgets everything.
func (g *Throttle) Clear() { g.wrong.Forget() }

// ClearOf resets the count of a name.
func (g *Throttle) ClearOf(text string) {
	g.wrong.DeleteFunc(func(item guesser) bool { return item.whom == text })
}

// Guessing is the error for a caller that sent too many wrong secrets: 45011. The caller is not
// taken for the account that it named.
type Guessing struct{ error }

// Unwrap is for errors.As.
func (g Guessing) Unwrap() error { return g.error }

// secretOf compares a secret with an account's or a platform's: 40125 for
// another one, Guessing for another one after too many of them.
func (d *Service) secretOf(appid, secret, hash string, ip netip.Addr) error {
	fault := errcode.InvalidSecret.WithDetail(behaviour.TokenSecretWrong, "the secret is not that of %s", appid)
	switch {
	case len(secret) > 256:
		fault = errcode.InvalidSecret.WithDetail(behaviour.TokenSecretWrong, "the secret is longer than 256 bytes")
	case hash != "" && d.Key.Matches(secretPurpose(appid), secret, hash):
		return nil
	}
	tooMany := d.guesses.RecordFailure(ip, appid, d.realNow())
	if d.Guessed != nil {
		d.Guessed(appid, ip, tooMany)
	}
	if tooMany {
		return Guessing{errcode.MinuteLimit.WithDetail(behaviour.TokenSecretGuessing,
			"%d wrong secrets for %s came from this address within a minute, and this one is wrong too", GuessesPerMinute, appid)}
	}
	return fault
}

// IsGuessing reports whether an error is Guessing.
func IsGuessing(err error) bool {
	_, ok := errors.AsType[Guessing](err)
	return ok
}

// HasSecret reports whether a hash was made of a secret. It is for secrets that this process was
// started with, so a wrong one does not count as a guess.
func (d *Service) HasSecret(appid, secret, hash string) bool {
	return hash != "" && d.Key.Matches(secretPurpose(appid), secret, hash)
}
