// Package iam manages the people and programs that may administer this server: their names and their means of authentication.
package iam

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/infra/semaphore"
)

// Person is a user of the console and of the admin API.
type Person struct {
	Name       string
	Role       string   // a role that package operations defines
	Accounts   []string // AppIDs that the role is limited to; empty = all
	Password   string   // argon2id hash in PHC string format; "" = no sign-in by password
	TOTP       string   // encrypted secret; "" = no second factor
	TOTPStep   int64    // time step of the last accepted code, because each code works once
	Recovery   []string // hashes of the unused recovery codes
	Issuer     string   // issuer URL of the identity provider that manages the person; "" = managed by this server
	Subject    string   // identifies the person at the identity provider
	CreatedAt  time.Time
	LastSeenAt time.Time // the last sign-in
}

// Key is an admin key, which lets a program use the admin API.
type Key struct {
	ID         string
	Hash       string
	Name       string
	Role       string
	Accounts   []string
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero = never
	LastSeenAt time.Time // to a minute
}

func (k Key) expired(now time.Time) bool { return !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt) }

// Link is a login link that signs a person in once.
type Link struct {
	Hash      string
	Person    string // name of the person; "" = the session gets all rights of the admin token
	ExpiresAt time.Time
}

// Caller is the authenticated author of a request: the name for the audit log, and the permissions.
type Caller struct {
	Actor    string // one of admin, person:NAME and key:NAME
	Name     string // name of the person or key; "" = the admin token
	Role     string
	Accounts []string // none = all
	Session  string   // ID of the session; "" = none
	Issuer   string   // issuer URL of the identity provider that manages the person; "" = none
	Factor   bool     // true = this server requires a second factor when the person signs in
}

var (
	ErrNoPerson = errors.New("person not found")
	// ErrNoKey reports that an admin key with this ID or text does not exist or has expired.
	ErrNoKey = errors.New("admin key not found")
	// ErrNoSession reports that a session does not exist or has ended.
	ErrNoSession = errors.New("session not found")
	ErrNoLink    = errors.New("this link was already used or has expired: request a new one")
	// ErrRefused reports that the name, the password or the code is wrong. The message does not tell which one.
	ErrRefused = errors.New("wrong name, password or code")
	// ErrSecondFactor reports that name and password are correct and that a code of the second factor is required.
	ErrSecondFactor = errors.New("a code of the second factor is required")
	// ErrTooMany reports that an address made too many failed attempts within a minute.
	ErrTooMany = errors.New("too many failed attempts from this address: try again in a minute")
	// ErrBusy reports that too many passwords are already waiting to be checked.
	ErrBusy   = errors.New("too many passwords are being checked: try again in a few seconds")
	ErrExists = errors.New("a person with this name already exists")
	// ErrKeyExists reports that another unexpired admin key has the name, by which the audit log and shared charts identify their author.
	ErrKeyExists = errors.New("name: another unexpired admin key has this name: choose a different one")
)

const (
	// Idle is the time after which an unused session ends; Longest is the maximum duration of a session.
	Idle    = 12 * time.Hour
	Longest = 7 * 24 * time.Hour
	// LinkTime is the lifetime of a login link.
	LinkTime = 10 * time.Minute
	// maxInviteTime is the maximum lifetime of an invitation.
	maxInviteTime = 30 * 24 * time.Hour
	// MaxSessions is the maximum number of sessions of one person; beyond it, the oldest session ends.
	MaxSessions = 20
	// lastSeenInterval is the minimum interval between two records of the last use of a session or key, because each record is a database
	// write.
	lastSeenInterval = time.Minute
)

// Tx is one database transaction on people, keys, sessions and links. The methods of Tx return ErrNoPerson, ErrNoKey, ErrNoSession
// or ErrNoLink for rows that do not exist.
type Tx interface {
	// LockPeople serializes changes of people until the transaction ends. Without LockPeople, two people could take the same name, or a
	// change could restore a right that a concurrent change has removed.
	LockPeople(ctx context.Context) error
	Person(ctx context.Context, name string) (Person, error)
	// PersonOf returns the person with this issuer and subject at an identity provider.
	PersonOf(ctx context.Context, issuer, subject string) (Person, error)
	People(ctx context.Context) ([]Person, error)
	// PutPerson stores a person and writes action to the audit log; if action is "", it writes no audit entry.
	PutPerson(ctx context.Context, p Person, action string) error
	// UseCode stores the step and the recovery codes of p if the stored values still equal those of the argument before, which the caller
	// has read. If another request has used a code of the person meanwhile, UseCode returns ErrRefused.
	UseCode(ctx context.Context, before, p Person) error
	DeletePerson(ctx context.Context, name string) error
	AdminKeyByHash(ctx context.Context, hash string) (Key, error)
	AdminKeys(ctx context.Context) ([]Key, error)
	// PutAdminKey stores a new key, and records it in the audit log.
	PutAdminKey(ctx context.Context, k Key) error
	// UseAdminKey sets the time of a key's last use; ErrNoKey if the key was deleted, also by a transaction that has not committed yet.
	UseAdminKey(ctx context.Context, hash string, now time.Time) error
	DeleteAdminKey(ctx context.Context, id string) error
	Session(ctx context.Context, hash string) (Session, error)
	SessionsOf(ctx context.Context, person string) ([]Session, error)
	PutSession(ctx context.Context, s Session) error
	// UseSession sets the time of a session's last use; ErrNoSession if the session ended, also by a transaction that is not committed yet.
	UseSession(ctx context.Context, hash string, now time.Time) error
	DeleteSession(ctx context.Context, id string) error
	DeleteSessionsOf(ctx context.Context, person, exceptID string) error
	// DropEnded deletes the sessions and login links that expired before expiredBefore, and the sessions last used before usedBefore.
	DropEnded(ctx context.Context, expiredBefore, usedBefore time.Time) error
	// TakeLoginLink deletes a login link and returns it.
	TakeLoginLink(ctx context.Context, hash string) (Link, error)
	// PutLoginLink stores a new login link and writes action to the audit log: "login_link" or "invite".
	PutLoginLink(ctx context.Context, l Link, action string) error
	// DeleteLoginLinksOf deletes the unused login links of a person.
	DeleteLoginLinksOf(ctx context.Context, person string) error
}

// Service manages the people who may administer the server, with their sessions and keys.
type Service struct {
	Store  accounts.Transactions[Tx]
	Vault  *sealer.Key
	Now    func() time.Time
	Random io.Reader
	// ClockBelieved reports whether Now is reliable enough to delete expired rows; nil = always.
	ClockBelieved func() bool
	// Guesses counts failed attempts by address and name, so that a client cannot lock out another person.
	Guesses accounts.Throttle
	// Guessed is called for each failed attempt; nil = no callback. tooMany is true if the limit of attempts was already exceeded.
	Guessed func(at LoginMethod, name string, ip netip.Addr, tooMany bool)

	hashing semaphore.Semaphore
}

// LoginMethod is a method of signing in.
type LoginMethod string

// The available methods of signing in.
const (
	ByPassword  LoginMethod = "person"
	ByLoginLink LoginMethod = "login_link"
	ByProvider  LoginMethod = "provider"
)

// fail records a failed attempt and calls Guessed; tooMany reports that the limit of failed attempts was already exceeded.
func (d *Service) fail(method LoginMethod, name string, b Browser) (tooMany bool) {
	tooMany = d.Guesses.RecordFailure(b.IP, string(method), d.Now())
	d.reportGuess(method, name, b, tooMany)
	return tooMany
}

func (d *Service) reportGuess(method LoginMethod, name string, b Browser, tooMany bool) {
	if d.Guessed != nil {
		d.Guessed(method, name, b.IP, tooMany)
	}
}

// newSecret generates a random secret of 256 bits.
func (d *Service) newSecret(begin string) (string, error) {
	var raw [32]byte
	if _, err := io.ReadFull(d.Random, raw[:]); err != nil {
		return "", fmt.Errorf("generating a secret: %w", err)
	}
	return begin + base64.RawURLEncoding.EncodeToString(raw[:]), nil
}

func (d *Service) newID() (string, error) {
	var raw [8]byte
	_, err := io.ReadFull(d.Random, raw[:])
	return hex.EncodeToString(raw[:]), err
}

const (
	keyPurpose      = "admin_key"
	sessionPurpose  = "session"
	linkPurpose     = "login_link"
	recoveryPurpose = "recovery/"
)

// namePattern does not limit the length of a name (CheckName does), because a pattern with a limit takes 27 ms to compile at each start.
var namePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{N}._@-]*$`) })

// CheckName returns accounts.Invalid for an invalid name.
func CheckName(name string) error {
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > 40 || !namePattern().MatchString(name) || name == "admin" {
		return accounts.Invalid("name: want 1 to 40 letters, digits and . _ @ -, beginning with a letter or a digit; admin is the admin token's")
	}
	return nil
}

// Change is an update of a person; nil fields keep their value.
type Change struct {
	Role     *string
	Accounts *[]string
	Password *string // "" = remove the password
	// SecondFactor is "new" to create a new secret, or "off" to remove the second factor.
	SecondFactor *string
	// Invite is the number of days in which a new one-time link lets the person sign in and choose a password; 0 = no link.
	Invite int
}

// Created contains the new secrets of a change: the otpauth URI of a second factor, its recovery codes, and the text of an invitation with
// its expiry. The secrets are shown only once.
type Created struct {
	Factor
	Invitation string
	Ends       time.Time
}

// Factor is a newly created second factor.
type Factor struct {
	URI      string
	Recovery []string
}

// Add creates a person. Add returns ErrExists, or accounts.Invalid for an invalid name or password.
func (d *Service) Add(ctx context.Context, name string, c Change) (Person, Created, error) {
	if err := CheckName(name); err != nil {
		return Person{}, Created{}, err
	}
	return d.put(ctx, name, c, true, nil)
}

// Change updates a person. Change returns ErrNoPerson, or accounts.Invalid for a person managed by an identity provider. A person
// who loses a right, or whose password changes, is signed out of all sessions.
func (d *Service) Change(ctx context.Context, name string, c Change) (Person, Created, error) {
	return d.put(ctx, name, c, false, nil)
}

// put adds or updates a person. If proved is not nil, put returns ErrRefused if the credentials of the person differ from those of proved.
func (d *Service) put(ctx context.Context, name string, c Change, add bool, proved *Person) (p Person, f Created, err error) {
	hash := ""
	if c.Password != nil && *c.Password != "" {
		if err := CheckPassword(*c.Password, name); err != nil {
			return p, f, err
		}
		if hash, err = d.hashPassword(ctx, *c.Password); err != nil {
			return p, f, err
		}
	}
	var secret, sealed string
	var recovery []string
	if c.SecondFactor != nil {
		switch *c.SecondFactor {
		case "off":
		case "new":
			if f.Factor, secret, recovery, err = d.newFactor(name); err != nil {
				return p, f, err
			}
			sealed = d.Vault.Seal("people/totp/"+name, []byte(secret))
		default:
			return p, f, accounts.Invalid(`second_factor: want "new" or "off"`)
		}
	}
	if c.Invite > 0 {
		if f.Invitation, err = d.newSecret(""); err != nil {
			return p, f, err
		}
		f.Ends = d.Now().Add(time.Duration(c.Invite) * 24 * time.Hour)
	}
	err = d.update(ctx, func(tx Tx) (err error) {
		if proved != nil {
			if err := verifyUnchanged(ctx, tx, *proved); err != nil {
				return err
			}
		}
		p, err = tx.Person(ctx, name)
		switch {
		case add && err == nil:
			return ErrExists
		case add && errors.Is(err, ErrNoPerson):
			p = Person{Name: name, CreatedAt: d.Now().UTC().Truncate(time.Millisecond)} // as it is stored
		case err != nil:
			return err
		case p.Issuer != "":
			return errFederated(p)
		}
		if c.Role != nil {
			p.Role = *c.Role
		}
		if c.Accounts != nil {
			p.Accounts = slices.Compact(slices.Sorted(slices.Values(*c.Accounts)))
		}
		if c.Password != nil {
			p.Password = hash
		}
		if c.SecondFactor != nil {
			p.TOTP, p.TOTPStep, p.Recovery = sealed, 0, recovery
		}
		action := "edit"
		if add {
			action = "add"
		}
		if err := tx.PutPerson(ctx, p, action); err != nil {
			return err
		}
		if err := signOut(ctx, tx, name); err != nil || f.Invitation == "" {
			return err
		}
		return tx.PutLoginLink(ctx, Link{Hash: d.Vault.Hash(linkPurpose, f.Invitation), Person: name, ExpiresAt: f.Ends}, "invite")
	})
	return p, f, err
}

// update runs f in a transaction that holds the lock of all people.
func (d *Service) update(ctx context.Context, f func(Tx) error) error {
	return d.Store.Update(ctx, func(tx Tx) error {
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
		return f(tx)
	})
}

// Delete deletes a person and ends all sessions of the person. ErrNoPerson.
func (d *Service) Delete(ctx context.Context, name string) error {
	return d.update(ctx, func(tx Tx) error {
		if err := tx.DeletePerson(ctx, name); err != nil {
			return err
		}
		return signOut(ctx, tx, name)
	})
}

// SignOut ends all sessions of a person and deletes the person's unused login links. ErrNoPerson.
func (d *Service) SignOut(ctx context.Context, name string) (p Person, err error) {
	err = d.update(ctx, func(tx Tx) (err error) {
		if p, err = tx.Person(ctx, name); err != nil {
			return err
		}
		if err := tx.PutPerson(ctx, p, "sign_out"); err != nil {
			return err
		}
		return signOut(ctx, tx, name)
	})
	return p, err
}

// signOut ends all sessions of a person and deletes the person's unused login links.
func signOut(ctx context.Context, tx Tx, name string) error {
	if err := tx.DeleteLoginLinksOf(ctx, name); err != nil {
		return err
	}
	return tx.DeleteSessionsOf(ctx, name, "")
}

// People lists all people by name.
func (d *Service) People(ctx context.Context) ([]Person, error) {
	return accounts.Transact(ctx, d.Store.View, func(tx Tx) ([]Person, error) { return tx.People(ctx) })
}

// Keys lists the admin keys, oldest first.
func (d *Service) Keys(ctx context.Context) ([]Key, error) {
	return accounts.Transact(ctx, d.Store.View, func(tx Tx) ([]Key, error) { return tx.AdminKeys(ctx) })
}

// KeyPrefix is the prefix of the text of every admin key.
const KeyPrefix = "qrk_"

// AddKey creates an admin key and returns its text, which the server does not store. It returns ErrKeyExists, or accounts.Invalid for an
// invalid name or expiry.
func (d *Service) AddKey(ctx context.Context, k Key) (Key, string, error) {
	if err := CheckName(k.Name); err != nil {
		return k, "", err
	}
	if k.expired(d.Now()) {
		return k, "", accounts.Invalid("expires_at: want a time in the future")
	}
	text, err := d.newSecret(KeyPrefix)
	if err != nil {
		return k, "", err
	}
	if k.ID, err = d.newID(); err != nil {
		return k, "", err
	}
	k.Hash, k.CreatedAt = d.Vault.Hash(keyPurpose, text), d.Now()
	k.Accounts = slices.Compact(slices.Sorted(slices.Values(k.Accounts)))
	return k, text, d.update(ctx, func(tx Tx) error {
		keys, err := tx.AdminKeys(ctx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(keys, func(other Key) bool { return other.Name == k.Name && !other.expired(d.Now()) }) {
			return ErrKeyExists
		}
		return tx.PutAdminKey(ctx, k)
	})
}

// DeleteKey deletes an admin key; the key stops working at once. ErrNoKey.
func (d *Service) DeleteKey(ctx context.Context, id string) error {
	return d.Store.Update(ctx, func(tx Tx) error { return tx.DeleteAdminKey(ctx, id) })
}

// ByKey returns the caller behind an admin key, or ErrNoKey if the key does not exist or has expired.
func (d *Service) ByKey(ctx context.Context, text string) (Caller, error) {
	if !strings.HasPrefix(text, KeyPrefix) || len(text) > 100 {
		return Caller{}, ErrNoKey
	}
	now, hash := d.Now(), d.Vault.Hash(keyPurpose, text)
	k, err := accounts.Transact(ctx, d.Store.View, func(tx Tx) (Key, error) { return tx.AdminKeyByHash(ctx, hash) })
	if err != nil {
		return Caller{}, err
	}
	if k.expired(now) {
		return Caller{Name: k.Name}, ErrNoKey
	}
	if now.Sub(k.LastSeenAt) >= lastSeenInterval {
		err = d.Store.Update(ctx, func(tx Tx) error { return tx.UseAdminKey(ctx, hash, now) })
	}
	return Caller{Actor: "key:" + k.Name, Name: k.Name, Role: k.Role, Accounts: k.Accounts}, sessionEndError(err)
}

// Credentials holds the input of a sign-in.
type Credentials struct {
	Name, Password string
	Code           string // code of the second factor, or a recovery code; "" = not entered yet
}

// SignIn begins a session by name and password and returns its token; the errors are ErrRefused, ErrSecondFactor, ErrTooMany and ErrBusy.
// previous is the token of a session that the new session replaces; "" = none.
func (d *Service) SignIn(ctx context.Context, a Credentials, b Browser, previous string) (string, error) {
	p, err := d.authenticate(ctx, a, b)
	if err != nil {
		return "", err
	}
	return d.startSession(ctx, b, previous, func(tx Tx) (string, error) { return p.Name, verifyUnchanged(ctx, tx, p) })
}

// authenticate verifies the credentials and returns the person; the errors are the same as those of SignIn.
func (d *Service) authenticate(ctx context.Context, a Credentials, b Browser) (p Person, err error) {
	now := d.Now()
	text := "person/" + a.Name[:min(len(a.Name), 64)]
	tooMany := func() bool {
		multiple := d.Guesses.Blocked(b.IP, text, now) || d.Guesses.Blocked(b.IP, string(ByPassword), now)
		if multiple {
			d.reportGuess(ByPassword, a.Name, b, true)
		}
		return multiple
	}
	if tooMany() { // the number of failed attempts is checked before the password, because hashing is expensive
		return p, ErrTooMany
	}
	err = d.Store.View(ctx, func(tx Tx) (err error) {
		if CheckName(a.Name) != nil {
			return ErrNoPerson // not looked up: an invalid name may contain bytes that the database rejects
		}
		p, err = tx.Person(ctx, a.Name)
		return err
	})
	if err != nil && !errors.Is(err, ErrNoPerson) {
		return p, err
	}
	right, err := d.checkPassword(ctx, p.Password, a.Password)
	if err != nil {
		return p, err
	}
	// The limit is checked again: concurrent attempts wait for each other while passwords are checked, and may have failed since.
	if tooMany() {
		return p, ErrTooMany
	}
	refuse := func() (Person, error) {
		d.Guesses.RecordFailure(b.IP, text, now)
		d.fail(ByPassword, a.Name, b)
		return p, ErrRefused
	}
	switch {
	case !right:
		return refuse()
	case p.TOTP != "" && a.Code == "":
		return p, ErrSecondFactor
	case p.TOTP != "":
		if err := d.consumeCode(ctx, p.Name, a.Code); errors.Is(err, ErrRefused) {
			return refuse()
		} else if err != nil {
			return p, err
		}
	}
	return p, nil
}

// normalizeCode removes the spaces and dashes that people type in a code.
func normalizeCode(code string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(code))
}

// consumeCode checks a code of the second factor or a recovery code, and marks it as used.
func (d *Service) consumeCode(ctx context.Context, name, code string) error {
	return d.update(ctx, func(tx Tx) error {
		p, err := tx.Person(ctx, name)
		if err != nil {
			return err
		}
		secret, err := d.Vault.Open("people/totp/"+name, p.TOTP)
		if err != nil {
			return fmt.Errorf("decrypting the second factor of %s: %w", name, err)
		}
		code = normalizeCode(code)
		oldPerson := p
		if step, ok := matchCode(string(secret), code, d.Now(), p.TOTPStep); ok {
			p.TOTPStep = step
			return tx.UseCode(ctx, oldPerson, p)
		}
		for i, hash := range p.Recovery {
			if d.Vault.Matches(recoveryPurpose+name, code, hash) {
				p.Recovery = slices.Delete(slices.Clone(p.Recovery), i, i+1)
				return tx.UseCode(ctx, oldPerson, p)
			}
		}
		return ErrRefused
	})
}

// NewLink returns the text of a new link that signs a person in once, within ten minutes; if person is "", the session gets all
// rights of the admin token. NewLink returns ErrNoPerson, or accounts.Invalid for a person managed by an identity provider.
func (d *Service) NewLink(ctx context.Context, person string) (text string, ends time.Time, err error) {
	if text, err = d.newSecret(""); err != nil {
		return "", ends, err
	}
	l := Link{Hash: d.Vault.Hash(linkPurpose, text), Person: person, ExpiresAt: d.Now().Add(LinkTime)}
	err = d.update(ctx, func(tx Tx) error {
		if person != "" {
			p, err := tx.Person(ctx, person)
			if err != nil {
				return err
			}
			if p.Issuer != "" {
				return errFederated(p)
			}
		}
		return tx.PutLoginLink(ctx, l, "login_link")
	})
	return text, l.ExpiresAt, err
}

// RedeemLoginLink consumes a login link and begins a session. RedeemLoginLink returns ErrNoLink, or ErrTooMany if the address sent
// too many invalid links.
func (d *Service) RedeemLoginLink(ctx context.Context, text string, b Browser, previous string) (string, error) {
	var l Link
	token, err := d.startSession(ctx, b, previous, func(tx Tx) (string, error) {
		var err error
		l, err = tx.TakeLoginLink(ctx, d.Vault.Hash(linkPurpose, text))
		if now := d.Now(); err == nil && (!now.Before(l.ExpiresAt) || accounts.IssuedInFuture(l.ExpiresAt.Add(-maxInviteTime), now)) {
			err = ErrNoLink
		}
		return l.Person, err
	})
	if errors.Is(err, ErrNoLink) && d.fail(ByLoginLink, l.Person, b) {
		err = ErrTooMany
	}
	return token, err
}
