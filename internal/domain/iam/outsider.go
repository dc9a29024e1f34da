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

// FederatedUser is a person as an OpenID Connect provider describes them. Issuer and subject say who it
// is, because no other person ever gets them. Names and mail addresses do not, because another
// person may.
type FederatedUser struct {
	Issuer, Subject string
	Names           []string // names to choose from, the best first
	Role            string
	Accounts        []string // AppIDs that the role is limited to; none = all
}

// OutsideTime is the maximum duration of a session of a federated person. The role is read from the provider at each
// sign-in, so a role that was taken away there ends here within this time.
const OutsideTime = time.Hour

// errFederated returns the error for a change of a person who is the provider's to change.
func errFederated(p Person) error {
	return accounts.Invalid(p.Name + " signs in at " + p.Issuer + ", which says what they may do: change it there")
}

// SignInFederated begins a session for a person of an identity provider, with the role that the provider asserts now. If the role
// was another before, the person's other sessions end.
func (d *Service) SignInFederated(ctx context.Context, user FederatedUser, b Browser, previous string) (string, error) {
	slices.Sort(user.Accounts)
	session, text, err := d.newSession(OutsideTime, b)
	if err != nil {
		return "", err
	}
	return text, d.Store.UpdatePeople(ctx, func(tx Tx) error {
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
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

// freeName returns an unused name for a new person of a provider, since the provider's alice need not be the alice of this server.
func freeName(ctx context.Context, tx Tx, user FederatedUser) (string, error) {
	sum := sha256.Sum256([]byte(user.Issuer + "\x00" + user.Subject))
	mark := hex.EncodeToString(sum[:8])
	names := []string{}
	for _, name := range user.Names {
		if CheckName(name) == "" {
			names = append(names, name)
		}
	}
	for _, name := range user.Names {
		if marked := name + "-" + mark[:6]; CheckName(name) == "" && CheckName(marked) == "" {
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

// RecordOIDCFailure notes a rejected answer of a provider, and reports whether too many such answers came from the same address
// before.
func (d *Service) RecordOIDCFailure(b Browser) (tooMany bool) { return d.wrong(ByProvider, "", b) }

// Deprovision removes a person who has no role at the provider any more, and ends all their sessions. It is no error if there is
// no such person.
func (d *Service) Deprovision(ctx context.Context, issuer, subject string) error {
	return d.Store.UpdatePeople(ctx, func(tx Tx) error {
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
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
