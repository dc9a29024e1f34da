package iam

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Session is a signed-in browser session.
type Session struct {
	Hash       string
	ID         string
	Person     string // name of the person; "" = the session belongs to the holder of the admin token
	CreatedAt  time.Time
	LastSeenAt time.Time // to a minute
	ExpiresAt  time.Time
	IP         string
	Agent      string
}

// ended reports whether the session has expired, was unused for too long, or was dated by a clock that was far ahead.
func (s Session) ended(now time.Time) bool {
	return !now.Before(s.ExpiresAt) || now.Sub(s.LastSeenAt) >= Idle || accounts.IssuedInFuture(s.LastSeenAt, now)
}

// Browser describes the browser of a session.
type Browser struct {
	IP    netip.Addr
	Agent string
}

// Begin begins a session with all rights of the admin token, for a caller that has proved possession of the token.
func (d *Service) Begin(ctx context.Context, b Browser, previous string) (string, error) {
	return d.startSession(ctx, b, previous, func(Tx) (string, error) { return "", nil })
}

// startSession begins a session of the person that decide returns, in the same transaction as decide, and returns the session's token.
func (d *Service) startSession(ctx context.Context, b Browser, previous string, decide func(Tx) (string, error)) (string, error) {
	s, text, err := d.newSession(Longest, b)
	if err != nil {
		return "", err
	}
	err = d.update(ctx, func(tx Tx) (err error) {
		if s.Person, err = decide(tx); err != nil {
			return err
		}
		return d.putSession(ctx, tx, s, previous)
	})
	if err != nil {
		return "", err
	}
	return text, nil
}

// verifyUnchanged returns ErrRefused if the password or the second factor of p has changed since p was read, or if p was deleted. The
// caller of verifyUnchanged must have called LockPeople.
func verifyUnchanged(ctx context.Context, tx Tx, p Person) error {
	current, err := tx.Person(ctx, p.Name)
	if errors.Is(err, ErrNoPerson) || err == nil && (current.Password != p.Password || current.TOTP != p.TOTP) {
		return ErrRefused
	}
	return err
}

// newSession returns a new session without a person, and the token of the session.
func (d *Service) newSession(longest time.Duration, b Browser) (s Session, text string, err error) {
	if text, err = d.newSecret(""); err != nil {
		return s, "", err
	}
	now := d.Now()
	s = Session{Hash: d.Vault.Hash(sessionPurpose, text), CreatedAt: now, LastSeenAt: now, ExpiresAt: now.Add(longest),
		IP: b.IP.String(), Agent: strings.ToValidUTF8(strings.ReplaceAll(b.Agent[:min(len(b.Agent), 200)], "\x00", ""), "")}
	s.ID, err = d.newID()
	return s, text, err
}

// putSession stores a new session; previous is the token of the session that the new session replaces. The caller of putSession must have
// called LockPeople.
func (d *Service) putSession(ctx context.Context, tx Tx, s Session, previous string) error {
	if d.ClockBelieved == nil || d.ClockBelieved() {
		if err := tx.DropEnded(ctx, s.CreatedAt, s.CreatedAt.Add(-Idle)); err != nil {
			return err
		}
	}
	if previous != "" {
		old, err := tx.Session(ctx, d.Vault.Hash(sessionPurpose, previous))
		if err == nil {
			err = tx.DeleteSession(ctx, old.ID)
		}
		if err != nil && !errors.Is(err, ErrNoSession) {
			return err
		}
	}
	if s.Person != "" {
		p, err := tx.Person(ctx, s.Person)
		if err != nil {
			return err
		}
		p.LastSeenAt = s.CreatedAt
		if err := tx.PutPerson(ctx, p, ""); err != nil {
			return err
		}
	}
	list, err := tx.SessionsOf(ctx, s.Person)
	if err != nil {
		return err
	}
	for _, old := range list[:max(0, len(list)-MaxSessions+1)] {
		if err := tx.DeleteSession(ctx, old.ID); err != nil {
			return err
		}
	}
	return tx.PutSession(ctx, s)
}

// BySession returns the caller of a session and records the use of the session, or returns ErrNoSession.
func (d *Service) BySession(ctx context.Context, text string) (Caller, error) {
	c, s, err := d.session(ctx, text)
	if now := d.Now(); err == nil && now.Sub(s.LastSeenAt) >= lastSeenInterval {
		err = sessionEndError(d.Store.Update(ctx, func(tx Tx) error { return tx.UseSession(ctx, s.Hash, now) }))
	}
	return c, err
}

// sessionEndError returns err if a session or key ended while its last use was being recorded. sessionEndError ignores other errors: if a
// use cannot be recorded, for example on a full disk, the session or key only counts as unused for longer.
func sessionEndError(err error) error {
	if errors.Is(err, ErrNoSession) || errors.Is(err, ErrNoKey) {
		return err
	}
	return nil
}

// ValidateSession is like BySession, but records no use of the session: a page that is merely open counts as unused. ErrNoSession.
func (d *Service) ValidateSession(ctx context.Context, text string) (Caller, error) {
	c, _, err := d.session(ctx, text)
	return c, err
}

// session returns an active session and its caller.
func (d *Service) session(ctx context.Context, text string) (c Caller, s Session, err error) {
	if text == "" || len(text) > 100 {
		return c, s, ErrNoSession
	}
	now, hash := d.Now(), d.Vault.Hash(sessionPurpose, text)
	err = d.Store.View(ctx, func(tx Tx) (err error) {
		if s, err = tx.Session(ctx, hash); err != nil {
			return err
		}
		if s.ended(now) {
			return ErrNoSession
		}
		c = Caller{Actor: "admin", Role: "admin", Session: s.ID}
		if s.Person == "" {
			return nil
		}
		p, err := tx.Person(ctx, s.Person)
		if errors.Is(err, ErrNoPerson) {
			return ErrNoSession
		}
		c = Caller{Actor: "person:" + p.Name, Name: p.Name, Role: p.Role, Accounts: p.Accounts, Session: s.ID,
			Issuer: p.Issuer, Factor: p.TOTP != ""}
		return err
	})
	return c, s, err
}

// Sessions returns the active sessions of a person, oldest first.
func (d *Service) Sessions(ctx context.Context, person string) ([]Session, error) {
	list, err := accounts.Transact(ctx, d.Store.View, func(tx Tx) ([]Session, error) { return tx.SessionsOf(ctx, person) })
	now := d.Now()
	return slices.DeleteFunc(list, func(s Session) bool { return s.ended(now) }), err
}

// End ends one session of a person, or returns ErrNoSession if the session belongs to another person.
func (d *Service) End(ctx context.Context, person, id string) error {
	return d.Store.Update(ctx, func(tx Tx) error {
		list, err := tx.SessionsOf(ctx, person)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list, func(s Session) bool { return s.ID == id }) {
			return ErrNoSession
		}
		return tx.DeleteSession(ctx, id)
	})
}

// EndOthers ends all sessions of a person except the session with the ID exceptID.
func (d *Service) EndOthers(ctx context.Context, person, exceptID string) error {
	return d.Store.Update(ctx, func(tx Tx) error { return tx.DeleteSessionsOf(ctx, person, exceptID) })
}
