package iam

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// ErrPending reports that a new second factor was not confirmed within ten minutes, or that the code did not match the new second factor.
var ErrPending = errors.New(
	"this code does not match the new second factor: enter the code that the app shows now, or generate a new second factor")

// PersonOf returns the person behind a caller, or ErrNoPerson if the caller used the admin token.
func (d *Service) PersonOf(ctx context.Context, c Caller) (Person, error) {
	return accounts.Transact(ctx, d.Store.View, func(tx Tx) (Person, error) { return tx.Person(ctx, c.Name) })
}

// prove checks that a caller may change the caller's own password and second factor. The caller must repeat password and code; a caller
// without a password must have signed in within the last ten minutes. prove returns ErrRefused, ErrSecondFactor, ErrTooMany or ErrBusy, and
// accounts.Invalid for a person managed by an identity provider.
func (d *Service) prove(ctx context.Context, c Caller, a Credentials, b Browser) (Person, error) {
	p, err := d.PersonOf(ctx, c)
	switch {
	case err != nil:
		return p, err
	case p.Issuer != "":
		return p, errFederated(p)
	case p.Password != "":
		a.Name = p.Name
		return d.authenticate(ctx, a, b)
	}
	list, err := d.Sessions(ctx, p.Name)
	if err != nil {
		return p, err
	}
	for _, s := range list {
		if s.ID == c.Session && d.Now().Sub(s.CreatedAt) < LinkTime {
			return p, nil
		}
	}
	return p, ErrRefused
}

// ChangeOwn changes the caller's own password or removes the caller's second factor, after verifying the credentials. The caller's existing
// sessions end; ChangeOwn starts a new session and returns its token. The errors are those of Change and SignIn.
func (d *Service) ChangeOwn(ctx context.Context, c Caller, a Credentials, change Change, b Browser) (string, error) {
	p, err := d.prove(ctx, c, a, b)
	if err != nil {
		return "", err
	}
	changed, _, err := d.put(ctx, p.Name, Change{Password: change.Password, SecondFactor: change.SecondFactor}, false, &p)
	if err != nil {
		return "", err
	}
	return d.startSession(ctx, b, "", func(tx Tx) (string, error) { return p.Name, verifyUnchanged(ctx, tx, changed) })
}

// pending is a new second factor that waits for confirmation by its first code. The browser page carries the encrypted pending
// factor, and the server stores nothing.
type pending struct {
	Secret   string
	Recovery []string // hashes of the recovery codes
	Until    time.Time
}

func pendingPlace(name string) string { return "people/pending/" + name }

// EnrollTOTP creates a second factor for a caller, after verifying the credentials. The factor becomes active when ConfirmTOTP receives the
// returned text "waits" and a valid code of the factor. EnrollTOTP returns the same errors as SignIn.
func (d *Service) EnrollTOTP(ctx context.Context, c Caller, a Credentials, b Browser) (f Factor, waits string, err error) {
	p, err := d.prove(ctx, c, a, b)
	if err != nil {
		return f, "", err
	}
	item := pending{Until: d.Now().Add(LinkTime)}
	if f, item.Secret, item.Recovery, err = d.newFactor(p.Name); err != nil {
		return f, "", err
	}
	text, err := json.Marshal(item)
	return f, d.Vault.Seal(pendingPlace(p.Name), text), err
}

// ConfirmTOTP activates a new second factor if the code proves that the caller's app has the secret of this factor. The caller's existing
// sessions end; ConfirmTOTP starts a new session and returns its token. ErrPending.
func (d *Service) ConfirmTOTP(ctx context.Context, c Caller, waits, code string, b Browser) (string, error) {
	now, item := d.Now(), pending{}
	text, err := d.Vault.Open(pendingPlace(c.Name), waits)
	if err != nil || json.Unmarshal(text, &item) != nil || !now.Before(item.Until) {
		return "", ErrPending
	}
	step, ok := matchCode(item.Secret, normalizeCode(code), now, 0)
	if !ok {
		if d.Guesses.RecordFailure(b.IP, "factor/"+c.Name, now) {
			return "", ErrTooMany
		}
		return "", ErrPending
	}
	return d.startSession(ctx, b, "", func(tx Tx) (string, error) {
		list, err := tx.SessionsOf(ctx, c.Name)
		if err != nil {
			return "", err
		}
		if !slices.ContainsFunc(list, func(s Session) bool { return s.ID == c.Session }) {
			return "", ErrPending // the password was changed, or the person was signed out meanwhile
		}
		p, err := tx.Person(ctx, c.Name)
		if err != nil {
			return "", err
		}
		if p.Issuer != "" {
			return "", errFederated(p)
		}
		p.TOTP, p.TOTPStep, p.Recovery = d.Vault.Seal("people/totp/"+p.Name, []byte(item.Secret)), step, item.Recovery
		if err := tx.PutPerson(ctx, p, "edit"); err != nil {
			return "", err
		}
		return p.Name, signOut(ctx, tx, p.Name)
	})
}
