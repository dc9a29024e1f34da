package adminapi

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

func showPerson(p iam.Person) client.Person {
	shown := client.Person{Name: p.Name, Role: p.Role, Accounts: append([]string{}, p.Accounts...), HasPassword: p.Password != "",
		SecondFactor: p.TOTP != "", Provider: p.Issuer, CreatedAt: p.CreatedAt}
	shown.HasRevision = revisionOf(shown, p.Password, p.TOTP)
	shown.LastSeenAt = optional(p.LastSeenAt)
	return shown
}

func showKey(k iam.Key) client.AdminKey {
	return client.AdminKey{ID: k.ID, Name: k.Name, Role: k.Role, Accounts: append([]string{}, k.Accounts...), CreatedAt: k.CreatedAt,
		ExpiresAt: optional(k.ExpiresAt), LastSeenAt: optional(k.LastSeenAt)}
}

// checkRole returns an error if the role does not exist or an AppID belongs to no account.
func (a serverAPI) checkRole(ctx context.Context, role *string, appids []string) error {
	if role != nil && !adminroute.Role(*role).Known() {
		return refused("role: want one of %s", strings.Join(words[string](adminroute.Roles), ", "))
	}
	if len(appids) > 1000 {
		return refused("accounts: want 1,000 at most")
	}
	for _, appid := range appids {
		if _, err := a.Accounts.Get(ctx, appid); errors.Is(err, accounts.ErrNoAccount) {
			return refused("accounts: there is no account %.128s%s", appid, a.nearAccount(ctx, appid))
		} else if err != nil {
			return err
		}
	}
	if role != nil && *role == string(adminroute.Admin) && len(appids) > 0 {
		return refused("accounts: the role admin covers all accounts: choose another role to limit a person to some")
	}
	return nil
}

// nearAccount returns a "did you mean" question with the most similar existing AppID, for an AppID that does not exist.
func (a serverAPI) nearAccount(ctx context.Context, appid string) string {
	// If the accounts cannot be read, there is no suggestion; the caller rejects the unknown AppID in either case.
	list, err := a.Accounts.List(ctx, "", 1000)
	if err != nil {
		return ""
	}
	return suggest.DidYouMean(appid, mapped(list, func(account accounts.Account) string { return account.AppID })...)
}

func (a serverAPI) listPeople(ctx context.Context, _ *client.Empty) (client.PersonList, error) {
	list, err := a.People.People(ctx)
	return client.PersonList{People: mapped(list, showPerson)}, err
}

func (a serverAPI) createPerson(ctx context.Context, in *struct{ Body client.PersonPut }) (client.CreatedPerson, error) {
	b := in.Body
	if err := a.checkRole(ctx, &b.Role, b.Accounts); err != nil {
		return client.CreatedPerson{}, err
	}
	change := iam.Change{Role: &b.Role, Accounts: &b.Accounts, Password: &b.Password, Invite: b.InviteDays}
	if b.SecondFactor != "" {
		change.SecondFactor = &b.SecondFactor
	}
	p, made, err := a.People.Add(ctx, b.Name, change)
	return a.personMade(p, made), err
}

func (a serverAPI) personMade(p iam.Person, made iam.Created) client.CreatedPerson {
	shown := client.CreatedPerson{Person: showPerson(p), FactorURI: made.URI, RecoveryCodes: made.Recovery}
	if made.Invitation != "" {
		shown.Invitation = &client.LoginLink{URL: a.linkTo(made.Invitation) + "&next=" + url.QueryEscape("/console/self?done=invited"),
			ExpiresAt: made.Ends.Truncate(time.Second)}
	}
	return shown
}

func (a serverAPI) linkTo(single string) string {
	return a.ConsoleURL() + "/login?once=" + url.QueryEscape(single)
}

type PersonPath struct {
	Name string `path:"name"`
}

func (a serverAPI) updatePerson(ctx context.Context, in *struct {
	PersonPath
	Body client.PersonChange
}) (client.CreatedPerson, error) {
	b := in.Body
	role, appids := b.Role, b.Accounts
	if role == nil || appids == nil {
		list, err := a.People.People(ctx)
		if err != nil {
			return client.CreatedPerson{}, err
		}
		for _, p := range list {
			if p.Name == in.Name {
				role, appids = cmp.Or(role, &p.Role), cmp.Or(appids, &p.Accounts)
			}
		}
	}
	appids = cmp.Or(appids, &[]string{})
	if err := a.checkRole(ctx, role, *appids); err != nil {
		return client.CreatedPerson{}, err
	}
	p, made, err := a.People.Change(ctx, in.Name, iam.Change{Role: b.Role, Accounts: b.Accounts, Password: b.Password,
		SecondFactor: b.SecondFactor, Invite: b.InviteDays})
	return a.personMade(p, made), err
}

func (a serverAPI) deletePerson(ctx context.Context, in *PersonPath) (client.PersonList, error) {
	return readAfter(ctx, a.People.Delete(ctx, in.Name), a.listPeople, nil)
}

func (a serverAPI) deleteSessions(ctx context.Context, in *PersonPath) (client.Person, error) {
	p, err := a.People.SignOut(ctx, in.Name)
	return showPerson(p), err
}

func (a serverAPI) listFailedAuthentications(context.Context, *client.Empty) (client.FailedAuthenticationList, error) {
	return client.FailedAuthenticationList{Credentials: a.Refused()}, nil
}

func (a serverAPI) listAdminKeys(ctx context.Context, _ *client.Empty) (client.AdminKeyList, error) {
	list, err := a.People.Keys(ctx)
	return client.AdminKeyList{Keys: mapped(list, showKey)}, err
}

func (a serverAPI) createAdminKey(ctx context.Context, in *struct{ Body client.AdminKeyPut }) (client.CreatedAdminKey, error) {
	b := in.Body
	if err := a.checkRole(ctx, &b.Role, b.Accounts); err != nil {
		return client.CreatedAdminKey{}, err
	}
	k := iam.Key{Name: b.Name, Role: b.Role, Accounts: b.Accounts}
	if b.ExpiresAt != nil {
		k.ExpiresAt = *b.ExpiresAt
	}
	k, text, err := a.People.AddKey(ctx, k)
	return client.CreatedAdminKey{ID: k.ID, Key: text}, err
}

func (a serverAPI) deleteAdminKey(ctx context.Context, in *struct {
	ID string `path:"id"`
}) (client.AdminKeyList, error) {
	return readAfter(ctx, a.People.DeleteKey(ctx, in.ID), a.listAdminKeys, nil)
}

type LoginLinkInput struct{ Body client.LoginLinkRequest }

func (a serverAPI) createLoginLink(ctx context.Context, in *LoginLinkInput) (client.LoginLink, error) {
	if in.Body.Name == "" && accounts.ActorFromContext(ctx).ActorID != "admin" { // the session would survive the caller's key
		return client.LoginLink{}, huma.Error403Forbidden("name: only the admin token creates a login link without a name")
	}
	text, ends, err := a.People.NewLink(ctx, in.Body.Name)
	return client.LoginLink{URL: a.linkTo(text), ExpiresAt: ends.Truncate(time.Second)}, err
}
