package iam

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// FederatedUser is a person as described by an OpenID Connect provider. A person is identified by issuer and subject, because the provider
// never assigns this pair to another person; it may reassign names and mail addresses.
type FederatedUser struct {
	Issuer, Subject string
	Names           []string // candidate names for the person, best first
	Role            string
	Accounts        []string // AppIDs that the role is limited to; empty = all
}

// OutsideTime is the maximum duration of a session of a federated person. The role is read from the provider only at sign-in: when the
// provider revokes a role, the person loses it on this server within OutsideTime.
const OutsideTime = time.Hour

// errFederated returns the error for an attempt to change, on this server, a person managed by an identity provider.
func errFederated(p Person) error {
	return accounts.Invalid(p.Name + " signs in at " + p.Issuer + ", which assigns the role: change the role there")
}

// SignInFederated begins a session for a person of an identity provider, with the role that the provider currently asserts. If the
// role changed since the last sign-in, the person's other sessions end.
func (d *Service) SignInFederated(ctx context.Context, user FederatedUser, b Browser, previous string) (string, error) {
	slices.Sort(user.Accounts)
	session, text, err := d.newSession(OutsideTime, b)
	if err != nil {
		return "", err
	}
	return text, d.update(ctx, func(tx Tx) error {
		p, err := tx.PersonOf(ctx, user.Issuer, user.Subject)
		did := ""
		switch {
		case errors.Is(err, ErrNoPerson):
			did, p = "add", Person{Issuer: user.Issuer, Subject: user.Subject, CreatedAt: d.Now()}
			if p.Name, err = freeName(ctx, tx, user); err != nil {
				return err
			}
		case err != nil:
			return err
		case p.Role != user.Role || !slices.Equal(p.Accounts, user.Accounts):
			did = "edit"
		}
		session.Person, p.Role, p.Accounts = p.Name, user.Role, user.Accounts
		if did != "" {
			if err := tx.PutPerson(ctx, p, did); err != nil {
				return err
			}
			if err := signOut(ctx, tx, p.Name); err != nil {
				return err
			}
		}
		return d.putSession(ctx, tx, session, previous)
	})
}

// freeName returns an unused name for a new person of a provider: the names from the provider may already belong to other persons on this
// server.
func freeName(ctx context.Context, tx Tx, user FederatedUser) (string, error) {
	sum := sha256.Sum256([]byte(user.Issuer + "\x00" + user.Subject))
	mark := hex.EncodeToString(sum[:8])
	names := []string{}
	for _, name := range user.Names {
		if CheckName(name) == nil {
			names = append(names, name)
		}
	}
	for _, name := range user.Names {
		if marked := name + "-" + mark[:6]; CheckName(name) == nil && CheckName(marked) == nil {
			names = append(names, marked)
		}
	}
	for _, name := range append(names, "user-"+mark) {
		if _, err := tx.Person(ctx, name); errors.Is(err, ErrNoPerson) {
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", ErrExists
}

// RecordOIDCFailure records a rejected response of an identity provider, and reports whether the client address already had too
// many rejected responses.
func (d *Service) RecordOIDCFailure(b Browser) (tooMany bool) { return d.fail(ByProvider, "", b) }

// Deprovision deletes a person who has no role at the provider any more, and ends all sessions of the person. Deprovision returns
// no error if the person does not exist.
func (d *Service) Deprovision(ctx context.Context, issuer, subject string) error {
	return d.update(ctx, func(tx Tx) error {
		p, err := tx.PersonOf(ctx, issuer, subject)
		if errors.Is(err, ErrNoPerson) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := tx.DeletePerson(ctx, p.Name); err != nil {
			return err
		}
		return signOut(ctx, tx, p.Name)
	})
}
