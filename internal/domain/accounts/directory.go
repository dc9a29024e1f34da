package accounts

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/infra/sealer"
)

// Service holds the transactions on accounts, links and tokens.
type Service struct {
	Store    Store
	Key      *sealer.Key
	Settings *settings.Live
	Now      func() time.Time
	Random   io.Reader
	// Changed is called after accounts or their links changed, and before the caller is told that
	// they did. An import calls it once.
	Changed func(ctx context.Context, appids ...string)
	// Wake is called when something waits to be pushed to a platform.
	Wake func()
	// Queued is called when an event waits to be sent to an account.
	Queued func()

	// Spend counts a call whose secret was right: 45009 above the day's limit of the interface. nil = not counted.
	Spend func(ctx context.Context, appid, path string) error
	// Minutes counts a call of a key in the minute of now and reports whether the calls so far are within limit. nil = not counted.
	Minutes func(ctx context.Context, key string, limit int, now time.Time) (bool, error)

	// Epochs are those of the Store. Whose a working token is, is remembered until they say that it
	// may have changed. nil = every call asks the Store.
	Epochs *Epochs

	// ClockBelieved reports whether Now may remove what expired long ago; nil = always.
	ClockBelieved func() bool
	// CountNow is the time whose day a call counts for; nil = Now.
	CountNow func() time.Time
	// RealNow is the time by which wrong secrets are counted. An emulated clock neither moves nor
	// stops it. nil = Now.
	RealNow func() time.Time

	// LeastSecret is the minimum length in bytes of an AppSecret, of an account or a platform, when it is set; 0 = any. A shorter
	// one that is stored already keeps working, and may be given again.
	LeastSecret int

	// Guessed is called for every wrong secret; refused says that there were too many before it. May be nil.
	Guessed func(appid string, ip netip.Addr, refused bool)

	guesses    Throttle
	identities identities
	stables    memory[string, stable]
	hasherOnce sync.Once
	hasher     *sealer.Hasher // of tokens
}

func (d *Service) countNow() time.Time {
	if d.CountNow == nil {
		return d.Now()
	}
	return d.CountNow()
}

func (d *Service) realNow() time.Time {
	if d.RealNow == nil {
		return d.Now()
	}
	return d.RealNow()
}

// mayForget reports whether what expired long ago may be removed.
func (d *Service) mayForget() bool { return d.ClockBelieved == nil || d.ClockBelieved() }

// Registration is a new or changed account with its secrets in the clear.
type Registration struct {
	Account
	Secret        string // "" keeps the one that is stored
	MarketcodeKey string // 16 characters; "" keeps the one that is stored
	Linked        []string
}

// Put creates or replaces an account. The permanent fields (verification file, day of creation)
// stay, and so do secrets that are not given. Its errors are texts of one line, never numbers of
// the wire.
func (d *Service) Put(ctx context.Context, r Registration) error {
	r, err := d.registration(r)
	if err != nil {
		return err
	}
	err = d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		if err := tx.LockAccount(ctx, r.AppID); err != nil {
			return err
		}
		_, err := tx.Component(ctx, r.AppID)
		component := err == nil
		if err != nil && !errors.Is(err, ErrNoComponent) {
			return err
		}
		old, err := tx.Account(ctx, r.AppID)
		existed := err == nil
		if err != nil && !errors.Is(err, ErrNoAccount) {
			return err
		}
		a, err := d.merged(r, old, existed, component)
		if err != nil {
			return err
		}
		if existed {
			if err := d.endBySecret(ctx, tx, old, a); err != nil {
				return err
			}
		}
		if err := tx.PutAccount(ctx, a); err != nil {
			return err
		}
		for _, mini := range r.Linked {
			if err := d.link(ctx, tx, a.AppID, mini); err != nil {
				return err
			}
		}
		return nil
	})
	d.changed(ctx, r.AppID)
	return err
}

// Check returns an error for what Put would refuse without a look at the store.
func (d *Service) Check(r Registration) error {
	if r.Subject == "" {
		r.Subject = Company
	}
	if err := r.Account.Validate(); err != nil {
		return err
	}
	if r.MarketcodeKey != "" && len(r.MarketcodeKey) != 16 {
		return invalidf("account %s: marketcode_key must be 16 characters", r.AppID)
	}
	if err := checkSecret("account", r.AppID, r.Secret); err != nil {
		return err
	}
	if len(r.Linked) > 0 && r.Kind != ServiceAccount {
		return invalidf("account %s: linked: only a service account is linked with Mini Programs", r.AppID)
	}
	return nil
}

// registration checks a registration and gives it a new verification file.
func (d *Service) registration(r Registration) (Registration, error) {
	if err := d.Check(r); err != nil {
		return r, err
	}
	if r.Subject == "" {
		r.Subject = Company
	}
	var err error
	r.Confirm, err = newConfirmFile(d.Random)
	return r, err
}

// checkSecret returns an error for an AppSecret that no account may have.
func checkSecret(subject, appid, secret string) error {
	if len(secret) > 256 {
		return invalidf("%s %s: secret is longer than 256 bytes", subject, appid)
	}
	return nil
}

// newSecret returns the hash of the AppSecret that an account or a platform has from now on. An empty
// secret, and the one that is stored, keep the stored hash, however short the secret is.
func (d *Service) newSecret(subject, appid, secret, stored string) (hash string, err error) {
	n := len(secret)
	if n == 0 {
		return stored, nil
	}
	if hash = d.Key.Hash(secretPurpose(appid), secret); hash == stored || n >= d.LeastSecret {
		return hash, nil
	}
	return "", invalidf("%s %s: secret has %d characters: without --dev it needs %d at least; openssl rand -hex 16 makes one", subject, appid, n,
		d.LeastSecret)
}

// merged returns the account that a registration makes. What a registration cannot change is taken from
// old, if existed. component says that a platform has the AppID.
func (d *Service) merged(r Registration, old Account, existed, component bool) (a Account, err error) {
	a = r.Account
	switch {
	case component:
		return a, invalidf("appid %s is a component's", a.AppID)
	case !existed:
		a.CreatedAt = d.Now()
	case old.Kind != a.Kind:
		return a, invalidf("account %s is a %s: its kind cannot change", a.AppID, old.Kind)
	default:
		a.Confirm, a.CreatedAt = old.Confirm, old.CreatedAt
		if a.Options == nil { // not said: what platforms set stays
			a.Options = old.Options
		}
		a.SecretHash, a.MarketcodeKey = old.SecretHash, old.MarketcodeKey
	}
	if a.SecretHash, err = d.newSecret("account", a.AppID, r.Secret, a.SecretHash); err != nil {
		return a, err
	}
	if r.MarketcodeKey != "" {
		a.MarketcodeKey = d.Key.Seal("accounts/marketcode_key/"+a.AppID, []byte(r.MarketcodeKey))
	}
	return a, nil
}

// Change loads an account, lets f change it and saves it. ErrNoAccount if
// there is none.
func (d *Service) Change(ctx context.Context, appid string, f func(*Account) error) (Account, error) {
	var a Account
	err := d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		if err := tx.LockAccount(ctx, appid); err != nil {
			return err
		}
		var err error
		if a, err = tx.Account(ctx, appid); err != nil {
			return err
		}
		if err := f(&a); err != nil {
			return err
		}
		if err := a.Validate(); err != nil {
			return err
		}
		return tx.PutAccount(ctx, a)
	})
	d.changed(ctx, appid)
	return a, err
}

// endBySecret revokes the tokens of an account that gets a new AppSecret, because the old one may have leaked. Tokens of platforms
// work on: no AppSecret of the account was needed for them.
func (d *Service) endBySecret(ctx context.Context, tx Tx, old, a Account) error {
	if old.SecretHash == a.SecretHash {
		return nil
	}
	for _, series := range []TokenKind{Plain, Stable} {
		if err := tx.CutTokens(ctx, a.AppID, series, d.Now()); err != nil {
			return err
		}
	}
	return nil
}

// EndTokens ends all tokens of an account at once, also those with which
// platforms call for it. ErrNoAccount if there is none.
func (d *Service) EndTokens(ctx context.Context, appid string) error {
	return d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		if err := tx.LockAccount(ctx, appid); err != nil {
			return err
		}
		if _, err := tx.Account(ctx, appid); err != nil {
			return err
		}
		return tx.EndTokens(ctx, appid, d.Now())
	})
}

// Get returns an account, or ErrNoAccount.
func (d *Service) Get(ctx context.Context, appid string) (Account, error) {
	var a Account
	err := d.Store.ViewAccounts(ctx, func(tx Tx) (err error) {
		a, err = tx.Account(ctx, appid)
		return err
	})
	return a, err
}

// List returns at most limit accounts by AppID, the first after the given one.
func (d *Service) List(ctx context.Context, cursor string, limit int) ([]Account, error) {
	var list []Account
	err := d.Store.ViewAccounts(ctx, func(tx Tx) (err error) {
		list, err = tx.Accounts(ctx, cursor, limit)
		return err
	})
	return list, err
}

// Link links a service account with a Mini Program at once.
func (d *Service) Link(ctx context.Context, service, miniProgram string) error {
	err := d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		// A call that asks for this link or ends it waits for the lock, and so overwrites nothing.
		if err := tx.LockAccount(ctx, service); err != nil {
			return err
		}
		return d.link(ctx, tx, service, miniProgram)
	})
	d.changed(ctx, service)
	return err
}

func (d *Service) link(ctx context.Context, tx Tx, service, miniProgram string) error {
	for _, side := range []struct {
		appid string
		kind  Kind
	}{{service, ServiceAccount}, {miniProgram, MiniProgram}} {
		appid, kind := side.appid, side.kind
		a, err := tx.KeepAccount(ctx, appid)
		if err != nil && !errors.Is(err, ErrNoAccount) {
			return err
		}
		if err != nil {
			return invalidf("link %s with %s: there is no account %s", service, miniProgram, appid)
		}
		if a.Kind != kind {
			return invalidf("link %s with %s: %s is a %s, not a %s", service, miniProgram, appid, a.Kind, kind)
		}
	}
	return tx.PutLink(ctx, service, miniProgram, d.Now())
}

// Unlink ends a link; ending one that is not there changes nothing.
func (d *Service) Unlink(ctx context.Context, service, miniProgram string) error {
	err := d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		if err := tx.LockAccount(ctx, service); err != nil {
			return err
		}
		return tx.DeleteLink(ctx, service, miniProgram)
	})
	d.changed(ctx, service)
	return err
}

// Links lists the Mini Programs that a service account is linked with.
func (d *Service) Links(ctx context.Context, service string) ([]string, error) {
	var list []string
	err := d.Store.ViewAccounts(ctx, func(tx Tx) (err error) {
		list, err = tx.Links(ctx, service)
		return err
	})
	return list, err
}

// Credentials are the parameters of a request for a token.
type Credentials struct {
	GrantType string
	AppID     string
	Secret    string
	IP        netip.Addr // the caller's
}

// Issued is an access token and how long it works, in seconds.
type Issued struct {
	Text      string
	ExpiresIn int
}

// CheckSecret checks an AppSecret for calls that do not fetch a token.
func (d *Service) CheckSecret(ctx context.Context, c Credentials, grant string) error {
	return d.Store.ViewAccounts(ctx, func(tx Tx) error { return d.checkGrant(ctx, tx, c, grant) })
}

// tokenGrant is the grant_type of both token calls.
const tokenGrant = "client_credential"

// check looks for the faults of both token calls, in the platform's order. Contract: rules 3.1.
func (d *Service) check(ctx context.Context, tx Tx, c Credentials) error {
	if c.AppID == "" && behaviour.TokenAppIDFormer.IsFormer(d.Settings.Get().AsOf) {
		return errcode.InvalidGrantType.WithRow(behaviour.TokenAppIDFormer)
	}
	return d.checkGrant(ctx, tx, c, tokenGrant)
}

func (d *Service) checkGrant(ctx context.Context, tx Tx, c Credentials, grant string) error {
	if c.AppID == "" {
		return errcode.AppIDMissing.WithRow(behaviour.TokenAppIDMissing)
	}
	a, err := tx.Account(ctx, c.AppID)
	if errors.Is(err, ErrNoAccount) {
		if _, err := tx.Component(ctx, c.AppID); err == nil {
			return errcode.ComponentToken.WithRow(behaviour.TokenAppIDPlatform)
		} else if !errors.Is(err, ErrNoComponent) {
			return err
		}
		return errcode.InvalidAppID.WithDetail(behaviour.TokenAppIDUnknown, "no account has the AppID %q", c.AppID)
	}
	if err != nil {
		return err
	}
	return d.checkWith(ctx, a, c, grant)
}

// loginGrant is the grant_type of jscode2session, for which the list of a Mini Program does not hold.
const loginGrant = "authorization_code"

// checkWith returns the part of check for an account that exists.
func (d *Service) checkWith(ctx context.Context, a Account, c Credentials, grant string) error {
	switch {
	case c.GrantType != grant:
		return errcode.InvalidGrantType.WithDetail(behaviour.TokenGrant, "grant_type is %q, not %s", c.GrantType, grant)
	case c.Secret == "":
		return errcode.SecretMissing.WithRow(behaviour.TokenSecretMissing)
	}
	// 40001 would make callers fetch tokens for ever. Contract: rules 3.1.
	if err := d.secretOf(c.AppID, c.Secret, a.SecretHash, c.IP); err != nil {
		return err
	}
	switch {
	case a.SecretFrozen:
		return errcode.SecretFrozen.WithDetail(behaviour.TokenSecretFrozen, "the secret of %s is frozen", c.AppID)
	case a.Kind == MiniProgram && grant == loginGrant:
		if !allowed(c.IP, a.IPAllowlist) {
			behaviour.Note(ctx, behaviour.LoginAddressAccount)
		}
		return nil
	case a.Kind != ServiceAccount && len(a.IPAllowlist) == 0:
		return nil
	}
	return d.listed(ctx, list{c.AppID, a.IPAllowlist, errcode.InvalidIP, behaviour.TokenAddress}, c.IP)
}

func allowed(ip netip.Addr, list []string) bool {
	for _, text := range list {
		if p, err := netip.ParsePrefix(text); err == nil && p.Contains(ip.Unmap()) {
			return true
		}
	}
	return len(list) == 0
}

// IssueToken is /cgi-bin/token: a new token each time. The one before works five minutes more.
// 45009 above the day's limit. Contract: rules 3.1.
func (d *Service) IssueToken(ctx context.Context, c Credentials) (Issued, error) {
	var issued Issued
	// A call with a wrong secret must not wait for the one writer of SQLite.
	if err := d.Store.ViewAccounts(ctx, func(tx Tx) error { return d.check(ctx, tx, c) }); err != nil {
		return Issued{}, err
	}
	err := d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		if err := tx.LockAccount(ctx, c.AppID); err != nil {
			return err
		}
		if err := d.check(ctx, tx, c); err != nil {
			return err
		}
		now, s := d.Now(), d.Settings.Get()
		used, err := tx.AddCount(ctx, c.AppID, "/cgi-bin/token", s.Day(d.countNow()))
		if err != nil {
			return err
		}
		if row := s.Exceeds(ctx, used, s.TokenDailyLimit, settings.Platform.TokenDailyLimit, behaviour.TokenDay); row != behaviour.NoRow {
			return errcode.DailyLimit.WithDetail(row, "%s fetched %d tokens today", c.AppID, used-1)
		}
		issued, err = d.issue(ctx, tx, Token{AppID: c.AppID, Series: Plain}, now, now.Add(TokenOverlap))
		return err
	})
	return issued, err
}

// issue makes a token, gives the earlier ones of its series until cut, and
// forgets what expired long ago.
func (d *Service) issue(ctx context.Context, tx Tx, t Token, now, cut time.Time) (Issued, error) {
	text, err := newTokenText(d.Random, now)
	if err != nil {
		return Issued{}, err
	}
	t.Hash = d.Key.Hash(tokenPurpose, text)
	t.IssuedAt, t.ExpiresAt = now, now.Add(TokenLife)
	if t.Series == Stable {
		t.Sealed = d.Key.Seal("access_tokens/"+t.Hash, []byte(text))
	}
	if err := cutEarlier(ctx, tx, t, cut); err != nil {
		return Issued{}, err
	}
	if d.mayForget() {
		if err := tx.ForgetTokens(ctx, t.AppID, now.Add(-tokenMemory)); err != nil {
			return Issued{}, err
		}
	}
	return Issued{Text: text, ExpiresIn: t.Left(now)}, tx.PutToken(ctx, t)
}

// ForgetGuesses starts the counts of wrong secrets again (the emulator's reset).
func (d *Service) ForgetGuesses() { d.guesses.Clear() }

// ForgetGuessesOf is ForgetGuesses for one account.
func (d *Service) ForgetGuessesOf(appid string) { d.guesses.ClearOf(appid) }

// changed is called after an error of the transaction too: the commit may have succeeded although
// its answer was lost. To read again what did not change is harmless.
func (d *Service) changed(ctx context.Context, appids ...string) {
	if d.Changed != nil && len(appids) > 0 {
		// The change must show even if the caller closed early.
		d.Changed(context.WithoutCancel(ctx), appids...)
	}
}

const tokenPurpose = "access_token"

func secretPurpose(appid string) string { return "appsecret/" + appid }

const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func newConfirmFile(random io.Reader) (ConfirmFile, error) {
	raw := make([]byte, 26)
	if _, err := io.ReadFull(random, raw); err != nil {
		return ConfirmFile{}, fmt.Errorf("drawing a verification file: %w", err)
	}
	name := make([]byte, 10)
	for i := range name {
		// The slight bias of 256 mod 62 does not matter: the name is no secret.
		name[i] = alphanumeric[int(raw[i])%len(alphanumeric)]
	}
	return ConfirmFile{Name: string(name) + ".txt", Content: hex.EncodeToString(raw[10:])}, nil
}
