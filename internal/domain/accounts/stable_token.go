package accounts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// stable is an account and its valid stable token, as they were stored at the given epoch of the account.
type stable struct {
	epoch   uint64
	account Account
	token   Token
	text    string
}

// StableToken implements /cgi-bin/stable_token. Without force, StableToken returns the same token until five minutes before its expiry.
// With force, StableToken ends this token at once and issues a new token, at most ForcedPerDay times a day. StableToken returns 45009 above
// the daily limits of calls and of forced refreshes, and 45011 above the limit per minute. Contract: rules §3.1.
func (d *Service) StableToken(ctx context.Context, c Credentials, force bool) (Issued, error) {
	check := func(tx Tx) error { return d.check(ctx, tx, c) }
	retry := func(a Account) error { return d.checkWith(ctx, a, c, tokenGrant) }
	return d.stableToken(ctx, c.AppID, force, check, retry, func(now time.Time) error {
		if d.Minutes != nil {
			allowed, err := d.Minutes(ctx, c.AppID+" /cgi-bin/stable_token", StablePerMinute, now)
			if err != nil {
				return err
			}
			if !allowed {
				return errcode.MinuteLimit.WithDetail(behaviour.TokenStableMinute, "%s made %d stable_token calls this minute", c.AppID,
					StablePerMinute)
			}
		}
		if d.Spend == nil {
			return nil
		}
		return d.Spend(ctx, c.AppID, "/cgi-bin/stable_token")
	})
}

// OperatorToken returns an account's stable token to the operator, without a check of the AppSecret.
func (d *Service) OperatorToken(ctx context.Context, appid string) (Issued, error) {
	check := func(tx Tx) error {
		_, err := tx.Account(ctx, appid)
		return err
	}
	// A request by the operator does not count as a call of the account.
	return d.stableToken(ctx, appid, false, check, func(Account) error { return nil }, func(time.Time) error { return nil })
}

func (d *Service) stableToken(ctx context.Context, appid string, force bool, check func(Tx) error, retry func(Account) error,
	spend func(now time.Time) error) (Issued, error) {
	var issued Issued
	found := false
	keep := func(s stable, now time.Time) {
		if s.token.Check(now) == nil && d.mayKeepStable(s.token, now, force) {
			issued, found = Issued{Text: s.text, ExpiresIn: s.token.Remaining(now)}, true
		}
	}
	read := func(tx Tx, now time.Time) (s stable, err error) {
		found = false // the closure may run more than once
		if err = check(tx); err == nil {
			s, err = d.readStable(ctx, tx, appid, force, now)
			keep(s, now)
		}
		return s, err
	}
	now := d.Now()
	if s, ok := d.rememberedStable(appid); ok {
		if err := retry(s.account); err != nil {
			return Issued{}, err
		}
		keep(s, now)
	} else if err := d.rememberStable(ctx, appid, func(tx Tx) (stable, error) { return read(tx, now) }); err != nil {
		return Issued{}, err
	}
	if err := spend(now); err != nil {
		return Issued{}, err
	}
	if found {
		if force {
			behaviour.Note(ctx, behaviour.TokenStableSoon)
		}
		return issued, nil
	}
	err := d.inAccount(ctx, appid, func(tx Tx) error {
		// A concurrent call may have issued the new token before this transaction locked the account.
		now := d.Now()
		if _, err := read(tx, now); err != nil || found {
			if force && err == nil {
				behaviour.Note(ctx, behaviour.TokenStableSoon)
			}
			return err
		}
		cut := now.Add(TokenOverlap)
		if force {
			cut = now
			used, err := tx.AddCount(ctx, appid, "/cgi-bin/stable_token force", d.Settings.Get().Day(d.countNow()))
			if err != nil {
				return err
			}
			if used > ForcedPerDay {
				return errcode.DailyLimit.WithDetail(behaviour.TokenStableDay, "%s forced %d refreshes today", appid, ForcedPerDay)
			}
		}
		var err error
		issued, err = d.issue(ctx, tx, Token{AppID: appid, Kind: Stable, ForceRefreshed: force}, now, cut)
		return err
	})
	return issued, err
}

// readStable reads an account's stable token. It returns the zero value of the type stable if the call must issue a new token.
func (d *Service) readStable(ctx context.Context, tx Tx, appid string, force bool, now time.Time) (stable, error) {
	t, err := tx.LatestToken(ctx, appid, Stable)
	if errors.Is(err, ErrNoToken) || err == nil && (t.Check(now) != nil || !d.mayKeepStable(t, now, force)) {
		return stable{}, nil
	}
	if err != nil {
		return stable{}, err
	}
	text, err := d.Key.Open("access_tokens/"+t.Hash, t.Sealed)
	if err != nil {
		return stable{}, fmt.Errorf("the stable token of %s: %w", appid, err)
	}
	return stable{token: t, text: string(text)}, nil
}

// rememberedStable returns the cached stable token of an account; the second result is false if none is cached or if it may have changed.
func (d *Service) rememberedStable(appid string) (stable, bool) {
	s, known := d.stableTokens.get(appid)
	if !known {
		return stable{}, false
	}
	epoch, _ := d.Epochs.Lookup(appid)
	return s, epoch == s.epoch
}

// rememberStable reads an account's stable token. If Epochs is set and no commit is in progress, the token and the account are cached.
func (d *Service) rememberStable(ctx context.Context, appid string, read func(Tx) (stable, error)) error {
	var s stable
	var epoch uint64
	quiet := false
	if d.Epochs != nil {
		epoch, quiet = d.Epochs.Lookup(appid)
	}
	err := d.Store.ViewAccounts(ctx, func(tx Tx) (err error) {
		if s, err = read(tx); err == nil && quiet {
			s.account, err = tx.Account(ctx, appid)
		}
		return err
	})
	if err == nil && quiet && s.text != "" {
		s.epoch = epoch
		d.stableTokens.put(appid, s)
	}
	return err
}

// mayKeepStable reports whether the call may return the valid stable token t again instead of a new token.
func (d *Service) mayKeepStable(t Token, now time.Time, force bool) bool {
	if force {
		return t.ForceRefreshed && now.Sub(t.IssuedAt) < ForceInterval && !d.Settings.Refuses(behaviour.TokenStableSoon)
	}
	// Assumed(token.stable.border): a new token is issued at exactly five minutes, so that expires_in is always above 300 (one
	// client subtracts 300 and keeps a token with 0 for ever).
	return t.Remaining(now) > int(TokenOverlap/time.Second)
}
