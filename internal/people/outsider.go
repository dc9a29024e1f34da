package people

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
)

// Outsider is somebody as an OpenID Connect provider says: known by issuer and subject,
// which nobody else gets, and never by a name or a mail address, which somebody may.
type Outsider struct {
	Issuer, Subject string
	Names           []string // what somebody may be called, the best first
	Role            string
	Accounts        []string // AppIDs that the role is limited to; none = all
}

// OutsideTime is how long a session that a provider began lasts at most: what somebody
// may do is read from the provider at each sign-in, so that a role that was taken away
// there is gone here as soon.
const OutsideTime = time.Hour

// elsewhere is the answer to a change of somebody whom a provider answers for.
func elsewhere(p Person) error {
	return accounts.Invalid(p.Name + " signs in at " + p.Issuer + ", which says what they may do: change it there")
}

// Enter begins a session for somebody whom a provider knows, with the role that it says
// now. Where that is another than before, their other sessions end.
func (d *Directory) Enter(ctx context.Context, who Outsider, b Browser, was string) (string, error) {
	slices.Sort(who.Accounts)
	session, text, err := d.newSession(OutsideTime, b)
	if err != nil {
		return "", err
	}
	return text, d.Store.UpdatePeople(ctx, func(tx Tx) error {
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
		p, err := tx.PersonOf(ctx, who.Issuer, who.Subject)
		did := ""
		switch {
		case errors.Is(err, ErrNoPerson):
			did, p = "add", Person{Issuer: who.Issuer, Subject: who.Subject, CreatedAt: d.Now()}
			if p.Name, err = freeName(ctx, tx, who); err != nil {
				return err
			}
		case err != nil:
			return err
		case p.Role != who.Role || !slices.Equal(p.Accounts, who.Accounts):
			did = "edit"
		}
		session.Person, p.Role, p.Accounts = p.Name, who.Role, who.Accounts
		if did != "" {
			if err := tx.PutPerson(ctx, p, did); err != nil {
				return err
			}
			if err := signOut(ctx, tx, p.Name); err != nil {
				return err
			}
		}
		return d.putSession(ctx, tx, session, was)
	})
}

// freeName is what a person who is new is called: a name that nobody has, since the
// provider's alice is not ours.
func freeName(ctx context.Context, tx Tx, who Outsider) (string, error) {
	sum := sha256.Sum256([]byte(who.Issuer + "\x00" + who.Subject))
	mark := hex.EncodeToString(sum[:8])
	names := []string{}
	for _, name := range who.Names {
		if CheckName(name) == "" {
			names = append(names, name)
		}
	}
	for _, name := range who.Names {
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

// Misled notes an answer of a provider that let nobody in, and reports whether too many
// came from there before it.
func (d *Directory) Misled(b Browser) (tooMany bool) { return d.wrong(ByProvider, "", b) }

// Leave removes somebody whom a provider gives no role any more, and ends all their
// sessions. Nobody to remove is no error.
func (d *Directory) Leave(ctx context.Context, issuer, subject string) error {
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
