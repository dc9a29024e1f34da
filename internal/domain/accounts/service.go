package accounts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/infra/sealer"
)

// Service implements the operations on accounts, links and tokens.
type Service struct {
	Store    Store
	Key      *sealer.Key
	Settings *settings.Live
	Now      func() time.Time
	Random   io.Reader
	// Changed is called after accounts or their links have changed, before the operation returns to its caller. An import calls
	// Changed once for all its accounts.
	Changed func(ctx context.Context, appids ...string)
	// Wake is called when a push to a component is queued.
	Wake func()
	// Queued is called when an event for an account is queued.
	Queued func()

	// ActiveCodes counts, in a transaction, the active codes that open an account. Delete requires ActiveCodes.
	ActiveCodes func(ctx context.Context, tx Tx, appid string) (int, error)

	// Spend counts a call with a correct secret and returns 45009 above the daily limit of the API path. nil = calls are not counted.
	Spend func(ctx context.Context, appid, path string) error
	// Minutes counts a call for key in the current minute and reports whether the count is within limit. nil = calls are not counted.
	Minutes func(ctx context.Context, key string, limit int, now time.Time) (bool, error)

	// Epochs holds the change counters that the Store increments with each commit. The owner of a valid token is cached until Epochs shows
	// a possible change. nil = every call reads the Store.
	Epochs *Epochs

	// ClockBelieved reports whether Now is reliable enough to delete long-expired rows; nil = always.
	ClockBelieved func() bool
	// CountNow returns the time used for the daily limits of calls; nil = Now.
	CountNow func() time.Time
	// RealNow returns the real time even if Now is emulated; it is used to count wrong secrets and to sign messages. nil = Now.
	RealNow func() time.Time

	// MinSecret is the minimum length in bytes of a new AppSecret of an account or a component; 0 = any length. A stored secret
	// that is shorter than MinSecret stays valid and may be set again.
	MinSecret int

	// Guesses counts the wrong secrets.
	Guesses Throttle
	// Guessed, if it is not nil, is called for every wrong secret; refused reports that the limit of wrong secrets was already exceeded.
	Guessed func(appid string, ip netip.Addr, refused bool)

	identities      identities
	stableTokens    cache[string, stable]
	countedTokens   cache[[sha256.Size]byte, string] // by hash of a token: the account's AppID, if the last call with the token was counted
	verifiedSecrets cache[string, string]            // by AppID: hash of the AppSecret at the last valid call; may be outdated
	hasherOnce      sync.Once
	hasher          *sealer.Hasher // of tokens
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

// canDeleteExpired reports whether long-expired rows may be deleted.
func (d *Service) canDeleteExpired() bool { return d.ClockBelieved == nil || d.ClockBelieved() }

// Registration is a new or changed account with its secrets in plain text.
type Registration struct {
	Account
	Secret        string // "" keeps the stored secret
	MarketcodeKey string // 16 characters; "" keeps the stored key
	Linked        []string
}

// AccountInput contains the fields of an account that an operator may set, in the format of the admin API, of imports and of seed files.
// AccountInput differs from client.AccountPut, in which jump_open cannot be omitted.
type AccountInput struct {
	Kind          Kind              `json:"kind" enum:"mini_program,service_account,subscription_account"`
	Name          string            `json:"name,omitempty"`
	Subject       Subject           `json:"subject,omitempty" enum:"company,personal,media,government,other"`
	Secret        string            `json:"secret,omitempty" doc:"AppSecret; omit to keep the stored one"`
	Certified     bool              `json:"certified,omitempty"`
	Versions      []Version         `json:"versions,omitempty"`
	JumpOpen      *bool             `json:"jump_open,omitempty" doc:"if false, disables all rules of the account; default: true"`
	Members       map[string]Role   `json:"members,omitempty"`
	Features      []string          `json:"features,omitempty"`
	MarketcodeKey string            `json:"marketcode_key,omitempty" doc:"package key, 16 characters; omit to keep the stored one"`
	Linked        []string          `json:"linked,omitempty" doc:"AppIDs of Mini Programs to link"`
	MessageURL    string            `json:"message_url,omitempty"`
	URLScheme     string            `json:"url_scheme,omitempty" doc:"URL that the button on the page of a link opens, with the app's scheme and {appid}, {path} and {query}"`
	Pages         []string          `json:"pages,omitempty" doc:"pages of the Mini Program, such as pages/index/index; rules and activations that open other pages are deviations and rejected in strict mode; empty = no check"`
	Options       map[string]string `json:"options,omitempty" doc:"options as set by api_set_authorizer_option: location_report, voice_recognize, customer_service; omit to keep the stored ones"`
	OpenPlatform  string            `json:"open_platform,omitempty" doc:"open-platform account to which this account is bound; users have one unionid in all its accounts"`
	IPAllowlist   []string          `json:"ip_allowlist,omitempty"`
	SecretFrozen  bool              `json:"secret_frozen,omitempty"`
}

// Registration returns the account with the AppID.
func (in AccountInput) Registration(appid string) Registration {
	return Registration{Secret: in.Secret, MarketcodeKey: in.MarketcodeKey, Linked: in.Linked, Account: Account{
		AppID: appid, Kind: in.Kind, Name: in.Name, Subject: in.Subject, Certified: in.Certified, Versions: in.Versions,
		JumpOpen: in.JumpOpen == nil || *in.JumpOpen, Members: in.Members, Features: in.Features, MessageURL: in.MessageURL,
		URLScheme: in.URLScheme, Pages: in.Pages, Options: in.Options, OpenPlatform: in.OpenPlatform, IPAllowlist: in.IPAllowlist,
		SecretFrozen: in.SecretFrozen}}
}

// SeedAccount is an account in the format of imports and of seed files. Secrets can be imported but are never exported.
type SeedAccount struct {
	AppID        string `json:"appid"`
	AccountInput `yaml:",inline"`
}

// Put creates or replaces an account. Put does not change the verification file, the creation date, or secrets that the registration does
// not contain. The errors of Put are one-line texts, never error codes of the platform API.
func (d *Service) Put(ctx context.Context, r Registration) error {
	r, err := d.registration(r)
	if err != nil {
		return err
	}
	return d.change(ctx, r.AppID, func(tx Tx) error {
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
			if err := d.revokeOnSecretChange(ctx, tx, old, a); err != nil {
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
}

// inAccount runs f in a transaction that holds the lock of an account.
func (d *Service) inAccount(ctx context.Context, appid string, f func(Tx) error) error {
	return d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		if err := tx.LockAccount(ctx, appid); err != nil {
			return err
		}
		return f(tx)
	})
}

// change is like inAccount, and calls Changed afterwards: the transaction may have committed even if change returns an error.
func (d *Service) change(ctx context.Context, appid string, f func(Tx) error) error {
	err := d.inAccount(ctx, appid, f)
	d.changed(ctx, appid)
	return err
}

// Check returns the errors of Put that can be detected without the store.
func (d *Service) Check(r Registration) error {
	r.Subject = cmp.Or(r.Subject, Company)
	if err := r.Account.Validate(); err != nil {
		return err
	}
	if r.MarketcodeKey != "" && len(r.MarketcodeKey) != 16 {
		return Invalidf("account %s: marketcode_key must be 16 characters", r.AppID)
	}
	if err := checkSecret("account", r.AppID, r.Secret); err != nil {
		return err
	}
	if len(r.Linked) > 0 && r.Kind != ServiceAccount {
		return Invalidf("account %s: linked: only a service account is linked with Mini Programs", r.AppID)
	}
	return nil
}

// registration validates a registration and generates a new verification file for it.
func (d *Service) registration(r Registration) (Registration, error) {
	if err := d.Check(r); err != nil {
		return r, err
	}
	r.Subject = cmp.Or(r.Subject, Company)
	var err error
	r.Confirm, err = newConfirmFile(d.Random)
	return r, err
}

// checkSecret returns an error for an invalid AppSecret.
func checkSecret(subject, appid, secret string) error {
	if len(secret) > 256 {
		return Invalidf("%s %s: secret is longer than 256 bytes", subject, appid)
	}
	return nil
}

// newSecret returns the hash of the new AppSecret of an account or a component. If the secret is empty or is the stored secret, newSecret
// returns the stored hash, even if the secret is shorter than MinSecret.
func (d *Service) newSecret(subject, appid, secret, stored string) (hash string, err error) {
	n := len(secret)
	if n == 0 {
		return stored, nil
	}
	if hash = d.Key.Hash(secretPurpose(appid), secret); hash == stored || n >= d.MinSecret {
		return hash, nil
	}
	return "", Invalidf("%s %s: secret has %d characters: without --dev it needs at least %d; openssl rand -hex 16 generates one",
		subject, appid, n, d.MinSecret)
}

// merged returns the account that results from a registration. If existed is true, the fields that a registration cannot change are copied
// from old. If a component has the AppID, merged returns Invalid.
func (d *Service) merged(r Registration, old Account, existed, component bool) (a Account, err error) {
	a = r.Account
	switch {
	case component:
		return a, Invalidf("appid %s is a component's", a.AppID)
	case !existed:
		a.CreatedAt = d.Now()
	case old.Kind != a.Kind:
		return a, Invalidf("account %s is a %s: the kind of an account cannot be changed", a.AppID, old.Kind)
	default:
		a.Confirm, a.CreatedAt = old.Confirm, old.CreatedAt
		if a.Options == nil { // if the registration has no options, the options that components set stay
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

// Change loads an account, lets f change it and saves it. Change returns ErrNoAccount if the account does not exist.
func (d *Service) Change(ctx context.Context, appid string, f func(*Account) error) (Account, error) {
	var a Account
	err := d.change(ctx, appid, func(tx Tx) (err error) {
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
	return a, err
}

// revokeOnSecretChange revokes the tokens of an account that gets a new AppSecret, because the old AppSecret may have leaked. Tokens of
// components stay valid, because they were issued without the AppSecret of the account.
func (d *Service) revokeOnSecretChange(ctx context.Context, tx Tx, old, a Account) error {
	if old.SecretHash == a.SecretHash {
		return nil
	}
	for _, series := range []TokenKind{Plain, Stable} {
		if err := tx.ShortenTokens(ctx, Token{AppID: a.AppID, Kind: series, IssuedAt: d.Now()}, d.Now()); err != nil {
			return err
		}
	}
	return nil
}

// ExpireTokens ends all tokens of an account at once, including the tokens with which components call on behalf of the account.
// ExpireTokens returns ErrNoAccount if the account does not exist.
func (d *Service) ExpireTokens(ctx context.Context, appid string) error {
	return d.inAccount(ctx, appid, func(tx Tx) error {
		if _, err := tx.Account(ctx, appid); err != nil {
			return err
		}
		return tx.ExpireTokens(ctx, appid, d.Now())
	})
}

// Get returns an account, or ErrNoAccount.
func (d *Service) Get(ctx context.Context, appid string) (Account, error) {
	return Transact(ctx, d.Store.ViewAccounts, func(tx Tx) (Account, error) { return tx.Account(ctx, appid) })
}

// List returns at most limit accounts, sorted by AppID, starting after cursor.
func (d *Service) List(ctx context.Context, cursor string, limit int) ([]Account, error) {
	return Transact(ctx, d.Store.ViewAccounts, func(tx Tx) ([]Account, error) { return tx.Accounts(ctx, cursor, limit) })
}

// Link links a service account with a Mini Program at once.
func (d *Service) Link(ctx context.Context, service, miniProgram string) error {
	// A concurrent call for the same link waits for the lock, so the two calls do not overwrite each other's change.
	return d.change(ctx, service, func(tx Tx) error { return d.link(ctx, tx, service, miniProgram) })
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
			return Invalidf("link %s with %s: there is no account %s", service, miniProgram, appid)
		}
		if a.Kind != kind {
			return Invalidf("link %s with %s: %s is a %s, not a %s", service, miniProgram, appid, a.Kind, kind)
		}
	}
	return tx.PutLink(ctx, service, miniProgram, d.Now())
}

// Unlink deletes a link; deleting an absent link changes nothing.
func (d *Service) Unlink(ctx context.Context, service, miniProgram string) error {
	return d.change(ctx, service, func(tx Tx) error { return tx.DeleteLink(ctx, service, miniProgram) })
}

// Links lists the Mini Programs that are linked with a service account.
func (d *Service) Links(ctx context.Context, service string) ([]string, error) {
	return Transact(ctx, d.Store.ViewAccounts, func(tx Tx) ([]string, error) { return tx.Links(ctx, service) })
}

// LinksOf lists the linked Mini Programs of many service accounts; the map has no entry for accounts without links.
func (d *Service) LinksOf(ctx context.Context, services []string) (map[string][]string, error) {
	return Transact(ctx, d.Store.ViewAccounts, func(tx Tx) (map[string][]string, error) { return tx.LinksAt(ctx, services) })
}

// ListOf returns the existing accounts among appids, sorted by AppID.
func (d *Service) ListOf(ctx context.Context, appids []string) (list []Account, err error) {
	list, err = Transact(ctx, d.Store.ViewAccounts, func(tx Tx) ([]Account, error) { return tx.AccountsAt(ctx, appids) })
	slices.SortFunc(list, func(a, b Account) int { return strings.Compare(a.AppID, b.AppID) })
	return list, err
}

// Credentials are the parameters of a token request.
type Credentials struct {
	GrantType string
	AppID     string
	Secret    string
	IP        netip.Addr // the caller's
}

// Issued is an access token and its lifetime in seconds.
type Issued struct {
	Text      string
	ExpiresIn int
}

// CheckSecret checks the AppSecret in calls that do not issue a token.
func (d *Service) CheckSecret(ctx context.Context, c Credentials, grant string) error {
	return d.Store.ViewAccounts(ctx, func(tx Tx) error { return d.checkGrant(ctx, tx, c, grant) })
}

// tokenGrant is the grant_type of the two calls that issue a token, /cgi-bin/token and /cgi-bin/stable_token.
const tokenGrant = "client_credential"

// check validates the credentials for /cgi-bin/token and /cgi-bin/stable_token, in the order of the Weixin platform. Contract: rules §3.1.
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

// loginGrant is the grant_type of jscode2session, which ignores the IP allowlist of a Mini Program.
const loginGrant = "authorization_code"

// checkWith validates the credentials against the account a.
func (d *Service) checkWith(ctx context.Context, a Account, c Credentials, grant string) error {
	switch {
	case c.GrantType != grant:
		return errcode.InvalidGrantType.WithDetail(behaviour.TokenGrant, "grant_type is %q, not %s", c.GrantType, grant)
	case c.Secret == "":
		return errcode.SecretMissing.WithRow(behaviour.TokenSecretMissing)
	}
	// Error 40001 for a wrong secret would make clients fetch new tokens in an endless loop. Contract: rules §3.1.
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
	return d.checkAllowlist(ctx, allowlist{c.AppID, a.IPAllowlist, errcode.InvalidIP, behaviour.TokenAddress}, c.IP)
}

func allowed(ip netip.Addr, list []string) bool {
	for _, text := range list {
		if p, err := netip.ParsePrefix(text); err == nil && p.Contains(ip.Unmap()) {
			return true
		}
	}
	return len(list) == 0
}

// knownAccount is a Tx whose method Account returns an account that was already read, or the error of reading it.
type knownAccount struct {
	Tx
	account Account
	err     error
}

// Account implements Tx.
func (k knownAccount) Account(context.Context, string) (Account, error) { return k.account, k.err }

// IssueToken implements /cgi-bin/token: it issues a new token on each call. The previous token stays valid for five more minutes.
// IssueToken returns 45009 above the daily limit. Contract: rules §3.1.
func (d *Service) IssueToken(ctx context.Context, c Credentials) (Issued, error) {
	var issued Issued
	// This read-only transaction rejects a wrong secret without locks, and does not wait for the single writer of SQLite. On a shared store
	// this transaction is skipped if the same secret was right in the last call, because the transaction costs round trips.
	if hash, ok := d.verifiedSecrets.get(c.AppID); d.Epochs != nil || !ok || !d.HasSecret(c.AppID, c.Secret, hash) {
		if err := d.Store.ViewAccounts(ctx, func(tx Tx) error { return d.check(ctx, tx, c) }); err != nil {
			return Issued{}, err
		}
	}
	err := d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		tx.MarkIdempotent()
		now, s := d.Now(), d.Settings.Get()
		a, used, err := tx.LockAndCount(ctx, c.AppID, "/cgi-bin/token", s.Day(d.countNow()))
		if err != nil && !errors.Is(err, ErrNoAccount) {
			return err
		}
		if err := d.check(ctx, knownAccount{tx, a, err}, c); err != nil {
			return err
		}
		d.verifiedSecrets.put(c.AppID, a.SecretHash)
		if row := s.Exceeds(ctx, used, s.TokenDailyLimit, settings.Platform.TokenDailyLimit, behaviour.TokenDay); row != behaviour.NoRow {
			return errcode.DailyLimit.WithDetail(row, "%s fetched %d tokens today", c.AppID, used-1)
		}
		issued, err = d.issue(ctx, tx, Token{AppID: c.AppID, Kind: Plain}, now, now.Add(TokenOverlap))
		return err
	})
	return issued, err
}

// issue creates a token, makes the tokens that it replaces end at the time "cut", and deletes long-expired tokens.
func (d *Service) issue(ctx context.Context, tx Tx, t Token, now, cut time.Time) (Issued, error) {
	text, err := newTokenText(d.Random, t.AppID, now)
	if err != nil {
		return Issued{}, err
	}
	t.Hash = d.Key.Hash(tokenPurpose, text)
	t.IssuedAt, t.ExpiresAt = now, now.Add(TokenLife)
	if t.Kind == Stable {
		t.Sealed = d.Key.Seal("access_tokens/"+t.Hash, []byte(text))
	}
	if err := tx.ShortenTokens(ctx, t, cut); err != nil {
		return Issued{}, err
	}
	if d.canDeleteExpired() {
		if err := tx.ForgetTokens(ctx, t.AppID, now.Add(-tokenMemory)); err != nil {
			return Issued{}, err
		}
	}
	return Issued{Text: text, ExpiresIn: t.Remaining(now)}, tx.PutToken(ctx, t)
}

// changed calls Changed. Callers call changed even after a failed transaction, because its commit may have succeeded and only the response
// may have been lost.
func (d *Service) changed(ctx context.Context, appids ...string) {
	if d.Changed != nil && len(appids) > 0 {
		// The change must become visible even if the client has closed the connection.
		d.Changed(context.WithoutCancel(ctx), appids...)
	}
}

const tokenPurpose = "access_token"

func secretPurpose(appid string) string { return "appsecret/" + appid }

const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func newConfirmFile(random io.Reader) (ConfirmFile, error) {
	raw := make([]byte, 26)
	if _, err := io.ReadFull(random, raw); err != nil {
		return ConfirmFile{}, fmt.Errorf("generating a verification file: %w", err)
	}
	name := make([]byte, 10)
	for i := range name {
		// The slight bias of 256 modulo 62 does not matter, because the name is not secret.
		name[i] = alphanumeric[int(raw[i])%len(alphanumeric)]
	}
	return ConfirmFile{Name: string(name) + ".txt", Content: hex.EncodeToString(raw[10:])}, nil
}
