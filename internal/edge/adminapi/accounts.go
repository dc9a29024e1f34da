package adminapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/branding"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

// AppIDPath is exported, like other embedded inputs, because huma ignores unexported embedded fields.
type AppIDPath struct {
	AppID string `path:"appid" maxLength:"128"`
}

// appIDInput is the input of an operation on an account with a JSON body.
type appIDInput[T any] struct {
	AppIDPath
	Body T
}

// showAccount returns an account for a response, without secrets or hashes of secrets.
func (a accountAPI) showAccount(ctx context.Context, account accounts.Account) (client.Account, error) {
	linked, err := a.Accounts.Links(ctx, account.AppID)
	return showLinked(ctx, account, linked), err
}

// showLinked does the same as showAccount for a caller that has already read the links.
func showLinked(ctx context.Context, account accounts.Account, linked []string) client.Account {
	members := map[string]string{}
	for user, role := range account.Members {
		members[user] = string(role)
	}
	shown := client.Account{AppID: account.AppID, Kind: string(account.Kind), Name: account.Name, Subject: string(account.Subject),
		Certified: account.Certified,
		Versions:  words[string](account.Versions), JumpOpen: account.JumpOpen, Features: words[string](account.Features), Members: members,
		MessageURL: account.MessageURL, URLScheme: account.URLScheme, IPAllowlist: words[string](account.IPAllowlist), Linked: linked,
		Pages: words[string](account.Pages), Options: account.Options, OpenPlatform: account.OpenPlatform,
		SecretFrozen: account.SecretFrozen, CreatedAt: account.CreatedAt, VerificationFile: client.VerificationFile(account.Confirm)}
	shown.HasRevision = revisionOf(shown, account.SecretHash, account.MarketcodeKey)
	shown.MessageURL = shownURL(ctx, shown.MessageURL)
	return shown
}

// changeAccount changes one account and returns it.
func (a accountAPI) changeAccount(ctx context.Context, appid string, f func(*accounts.Account) error) (client.Account, error) {
	account, err := a.Accounts.Change(ctx, appid, f)
	return readAfter(ctx, err, a.showAccount, account)
}

func (a accountAPI) listAccounts(ctx context.Context, in *client.AccountQuery) (client.AccountList, error) {
	shown := client.AccountList{Accounts: []client.Account{}}
	numbers, err := a.Scans.Measure(ctx, in.Order, nil)
	if err != nil {
		return shown, err
	}
	// An unfiltered list in AppID order is read from the store: memory may lack accounts that other nodes created just now.
	plain := in.Text+in.Kind+in.State == "" && in.Offset == 0 && !in.Reverse && (in.Order == "" || in.Order == string(accounts.ByAppID))
	limit := in.Limit
	if plain {
		limit = 0 // only the total is read from memory
	}
	found, total, err := a.findAccounts(accounts.Search{Substring: in.Text, Kind: accounts.Kind(in.Kind),
		State: accounts.SearchState(in.State), Order: accounts.Order(in.Order), Numbers: numbers, Reverse: in.Reverse, Offset: in.Offset,
		Limit: limit, Sees: adminroute.CallerFromContext(ctx).CanAccess})
	if err != nil {
		return shown, err
	}
	var page []accounts.Account
	if plain {
		page, err = a.listed(ctx, in.After, in.Limit)
	}
	for _, account := range found {
		page = append(page, *account)
	}
	var linked map[string][]string
	if err == nil {
		linked, err = a.Accounts.LinksOf(ctx, mapped(page, func(account accounts.Account) string { return account.AppID }))
	}
	if err != nil {
		return shown, err
	}
	shown.Total = max(total, len(page))
	for _, account := range page {
		shown.Accounts = append(shown.Accounts, showLinked(ctx, account, append([]string{}, linked[account.AppID]...)))
	}
	if err == nil && in.Scans {
		err = a.withScansOf(ctx, shown.Accounts)
	}
	return shown, err
}

// withScansOf adds the recent scans to each account of a list.
func (a accountAPI) withScansOf(ctx context.Context, list []client.Account) error {
	appids := mapped(list, func(account client.Account) string { return account.AppID })
	recents, err := a.Scans.RecentOfOwners(ctx, appids)
	unmatched, err2 := a.Scans.Measure(ctx, stats.ByUnmatched, appids)
	published, err3 := a.Scans.Measure(ctx, stats.ByPublished, appids)
	for i := range list {
		appid := list[i].AppID
		list[i].Scans = &client.AccountActivity{RecentScans: *showRecent(recents[appid]), Unmatched: unmatched[appid],
			PublishedAt: showHour(published[appid])}
	}
	return cmp.Or(err, err2, err3)
}

// showHour returns the time of an hour since 1970; nil = hour 0, which stands for none.
func showHour(hour int64) *time.Time {
	if hour == 0 {
		return nil
	}
	return new(time.Unix(hour*3600, 0).UTC())
}

func showRecent(r stats.Recent) *client.RecentScans {
	return &client.RecentScans{Days: r.Days[:], LastAt: optional(r.Last)}
}

func (a accountAPI) completeAccounts(ctx context.Context, in *client.AccountNamesQuery) (client.AccountNames, error) {
	caller := adminroute.CallerFromContext(ctx)
	names := client.AccountNames{Names: map[string]string{}}
	for _, appid := range in.AppIDs {
		if account, is := a.Known(appid); is && caller.CanAccess(appid) && account.Name != "" {
			names.Names[appid] = account.Name
		}
	}
	return names, nil
}

// listed returns a page of the accounts that the caller may see.
func (a accountAPI) listed(ctx context.Context, cursor string, limit int) (page []accounts.Account, err error) {
	caller := adminroute.CallerFromContext(ctx)
	if !caller.Scoped() {
		return a.Accounts.List(ctx, cursor, limit)
	}
	appids := slices.DeleteFunc(slices.Sorted(slices.Values(caller.Accounts)), func(appid string) bool { return appid <= cursor })
	page, err = a.Accounts.ListOf(ctx, appids)
	return page[:min(limit, len(page))], err
}

func (a accountAPI) getAccount(ctx context.Context, in *AppIDPath) (client.Account, error) {
	account, err := a.Accounts.Get(ctx, in.AppID)
	return readAfter(ctx, err, a.showAccount, account)
}

func (a accountAPI) putAccount(ctx context.Context, in *appIDInput[accounts.AccountInput]) (client.Account, error) {
	if err := a.knownFeatures(ctx, in.AppID, in.Body.Features); err != nil {
		return client.Account{}, err
	}
	if err := a.theirLinks(ctx, in.AppID, in.Body.Linked); err != nil {
		return client.Account{}, err
	}
	return readAfter(ctx, a.Accounts.Put(ctx, in.Body.Registration(in.AppID)), a.getAccount, &in.AppIDPath)
}

// theirLinks returns an error if a caller that is limited to some accounts adds a link to a Mini Program outside these accounts.
func (a accountAPI) theirLinks(ctx context.Context, appid string, wanted []string) error {
	caller := adminroute.CallerFromContext(ctx)
	if !slices.ContainsFunc(wanted, func(mini string) bool { return !caller.CanAccess(mini) }) {
		return nil
	}
	linked, err := a.Accounts.Links(ctx, appid)
	if err != nil {
		return err
	}
	for _, mini := range wanted {
		if !caller.CanAccess(mini) && !slices.Contains(linked, mini) {
			return huma.Error403Forbidden(fmt.Sprintf("linked: %.120q is not one of your accounts", mini))
		}
	}
	return nil
}

// knownFeatures returns an error for a feature that does not exist, unless the account already has the feature, because a newer version of
// the server may have granted it.
func (a accountAPI) knownFeatures(ctx context.Context, appid string, wanted []string) error {
	known := []string{codes.Feature}
	if account, err := a.Accounts.Get(ctx, appid); err == nil {
		known = append(known, account.Features...)
	} else if !errors.Is(err, accounts.ErrNoAccount) {
		return err
	}
	for _, name := range wanted {
		if !slices.Contains(known, name) {
			return refused("features: there is no %.60q%s", name, suggest.DidYouMean(name, known...))
		}
	}
	return nil
}

func (a accountAPI) setVersions(ctx context.Context, in *appIDInput[client.VersionsPut]) (client.Account, error) {
	return a.changeAccount(ctx, in.AppID, func(account *accounts.Account) error {
		account.Versions = words[accounts.Version](in.Body.Versions)
		return nil
	})
}

func (a accountAPI) setRulesEnabled(ctx context.Context, in *appIDInput[client.RulesEnabledPut]) (client.Account, error) {
	return a.changeAccount(ctx, in.AppID, func(account *accounts.Account) error {
		account.JumpOpen = in.Body.Open
		return nil
	})
}

func (a accountAPI) revokeTokens(ctx context.Context, in *AppIDPath) (client.Account, error) {
	return readAfter(ctx, a.Accounts.ExpireTokens(ctx, in.AppID), a.getAccount, in)
}

func showDeletion(appid string, has accounts.Dependencies, deleted bool) client.Deletion {
	shown := func(a accounts.Count) client.DeletionCount { return client.DeletionCount(a) }
	return client.Deletion{AppID: appid, Deleted: deleted, Deletes: mapped(has.Deleted, shown), BlockedBy: mapped(has.Blocking, shown)}
}

func (a accountAPI) deleteAccount(ctx context.Context, in *struct {
	AppIDPath
	client.DeletionQuery
}) (client.Deletion, error) {
	has, err := a.Accounts.Delete(ctx, in.AppID, in.DryRun)
	return showDeletion(in.AppID, has, !in.DryRun), err
}

type MemberPath struct {
	AppIDPath
	User string `path:"user" maxLength:"512"`
}

// setMember sets the role of a user in an account; "" removes the role.
func (a accountAPI) setMember(ctx context.Context, path MemberPath, role accounts.Role) (client.Account, error) {
	return a.changeAccount(ctx, path.AppID, func(account *accounts.Account) error {
		members := map[string]accounts.Role{}
		maps.Copy(members, account.Members)
		members[path.User] = role
		if role == "" {
			delete(members, path.User)
		}
		account.Members = members
		return nil
	})
}

func (a accountAPI) putMember(ctx context.Context, in *struct {
	MemberPath
	Body client.MemberPut
}) (client.Account, error) {
	return a.setMember(ctx, in.MemberPath, accounts.Role(in.Body.Role))
}

func (a accountAPI) deleteMember(ctx context.Context, in *MemberPath) (client.Account, error) {
	return a.setMember(ctx, *in, "")
}

func (a accountAPI) getQuota(ctx context.Context, in *AppIDPath) (client.Quota, error) {
	account, err := a.Accounts.Get(ctx, in.AppID)
	if err != nil {
		return client.Quota{}, err
	}
	left, err := a.Rules.PublishesLeft(ctx, account)
	published, failed := a.Scans.Measure(ctx, stats.ByPublished, []string{in.AppID})
	return client.Quota{PublishesLeft: left, PublishedAt: showHour(published[in.AppID])}, cmp.Or(err, failed)
}

func (a accountAPI) getOpenID(ctx context.Context, in *struct {
	User string `path:"user" maxLength:"512"`
	client.OpenIDQuery
}) (client.OpenID, error) {
	if _, err := a.Accounts.Get(ctx, in.AppID); err != nil {
		return client.OpenID{}, err
	}
	return client.OpenID{OpenID: a.OpenIDs.OpenID(in.Namespace, in.AppID, in.User)}, nil
}

func (a accountAPI) listNotifications(ctx context.Context, in *struct {
	AppIDPath
	client.NotificationQuery
}) (client.NotificationList, error) {
	list, err := a.Accounts.Notices(ctx, in.AppID, in.Limit)
	return client.NotificationList{Notifications: mapped(list, func(n accounts.Notice) client.Notification {
		return client.Notification{ID: n.ID, CreatedAt: n.At, Kind: string(n.Kind), Prefix: n.Prefix, Reason: n.Reason}
	})}, err
}

type LinkPath struct {
	AppIDPath
	MiniProgram string `path:"mini_program" maxLength:"128"`
}

func (a accountAPI) putLink(ctx context.Context, in *LinkPath) (client.Account, error) {
	return readAfter(ctx, a.Accounts.Link(ctx, in.AppID, in.MiniProgram), a.getAccount, &in.AppIDPath)
}

func (a accountAPI) deleteLink(ctx context.Context, in *LinkPath) (client.Account, error) {
	return readAfter(ctx, a.Accounts.Unlink(ctx, in.AppID, in.MiniProgram), a.getAccount, &in.AppIDPath)
}

func (a accountAPI) listLinks(ctx context.Context, in *AppIDPath) (client.AccountLinkList, error) {
	list, err := a.Accounts.LinkedPrograms(ctx, in.AppID)
	return client.AccountLinkList{Links: mapped(list, func(l accounts.LinkedProgram) client.AccountLink {
		return client.AccountLink{MiniProgram: l.MiniProgram, Name: l.Program.Name, Status: int(l.Status), Unlinking: l.Unlinking,
			NotifyUsers: l.NotifyUsers, ShowProfile: l.ShowProfile, CreatedAt: l.CreatedAt}
	})}, err
}

func (a accountAPI) confirmLink(ctx context.Context, in *struct {
	LinkPath
	Body client.LinkDecision
}) (client.AccountLinkList, error) {
	err := a.Accounts.ConfirmLink(ctx, in.AppID, in.MiniProgram, accounts.Side(in.Body.Side), in.Body.Approve)
	if errors.Is(err, errcode.InvalidAppID) {
		err = accounts.ErrNoAccount
	}
	return readAfter(ctx, err, a.listLinks, &in.AppIDPath)
}

func showAppearance(a branding.Appearance, png []byte) client.Appearance {
	shown := client.Appearance{AppID: a.AppID, Accent: string(a.Accent), Help: a.Help, OpenAtOnce: a.OpenAtOnce,
		Texts: map[string]client.BuyerTexts{}}
	if a.Accent != "" {
		shown.OnAccent = string(a.Accent.On())
	}
	for language, texts := range a.Texts {
		shown.Texts[string(language)] = client.BuyerTexts(texts)
	}
	if a.Logo.Hash != "" {
		shown.Logo = &client.Logo{Path: a.Logo.Path(), Width: a.Logo.Width, Height: a.Logo.Height, PNG: png}
	}
	drawn := shown
	if shown.Logo != nil {
		drawn.Logo = &client.Logo{Path: shown.Logo.Path} // the path contains the hash of the image
	}
	shown.HasRevision = revisionOf(drawn)
	return shown
}

// AppearancePath identifies the account whose appearance a call changes.
type AppearancePath struct{ AppIDPath }

func (a accountAPI) getAppearance(ctx context.Context, in *AppIDPath) (client.Appearance, error) {
	appearance, png, err := a.Appearances.Get(ctx, in.AppID)
	return showAppearance(appearance, png), err
}

func (a accountAPI) putAppearance(ctx context.Context, in *struct {
	AppearancePath
	Body client.AppearancePut
}) (client.Appearance, error) {
	b := in.Body
	wanted := branding.Appearance{AppID: in.AppID, Accent: branding.Colour(b.Accent), Help: b.Help, OpenAtOnce: b.OpenAtOnce,
		Texts: map[branding.Language]branding.Texts{}}
	for language, texts := range b.Texts {
		wanted.Texts[branding.Language(language)] = branding.Texts(texts)
	}
	err := a.Appearances.Put(ctx, wanted, branding.NewLogo{File: b.Logo, Remove: b.NoLogo})
	return readAfter(ctx, err, a.getAppearance, &in.AppIDPath)
}

// AccountState contains the state that determines the abilities of an account.
type AccountState struct {
	accounts.Account
	Linked        int // number of linked Mini Programs
	PublishesLeft int // number of publishes left this month
	Prefix        bool
}

// Abilities returns the actions that an account of the given kind can perform, with the unmet requirements of each. The domain packages
// check the requirements of abilities independently; a test verifies that both checks agree.
func (s AccountState) Abilities() []client.Ability {
	released := client.Requirement{Requirement: "released", Fulfilled: s.Has(accounts.Release)}
	switched := client.Requirement{Requirement: "rules_enabled", Fulfilled: s.JumpOpen}
	certified := client.Requirement{Requirement: "certified", Fulfilled: s.Certified}
	list := []client.Ability{{Ability: "tokens", Requirements: []client.Requirement{{Requirement: "secret", Fulfilled: s.SecretHash != ""},
		{Requirement: "secret_not_frozen", Fulfilled: !s.SecretFrozen}}}}
	switch s.Kind {
	case accounts.MiniProgram:
		list = append(list,
			client.Ability{Ability: "rules", Requirements: []client.Requirement{{Requirement: "not_personal",
				Fulfilled: s.Subject != accounts.Personal}}},
			client.Ability{Ability: "publish", Requirements: []client.Requirement{released, {Requirement: "publishes_left",
				Fulfilled: s.PublishesLeft > 0}}},
			client.Ability{Ability: "open", Requirements: []client.Requirement{released, switched}})
	case accounts.ServiceAccount:
		list = append(list,
			client.Ability{Ability: "rules", Requirements: []client.Requirement{certified, {Requirement: "linked",
				Fulfilled: s.Linked > 0}}},
			client.Ability{Ability: "open", Requirements: []client.Requirement{switched}},
			client.Ability{Ability: "codes", Requirements: []client.Requirement{certified,
				{Requirement: "feature", Fulfilled: slices.Contains(s.Features, codes.Feature)},
				{Requirement: "key", Fulfilled: s.MarketcodeKey != ""}, {Requirement: "prefix", Fulfilled: s.Prefix}}})
	}
	for i, ability := range list {
		list[i].Allowed = !slices.ContainsFunc(ability.Requirements, func(n client.Requirement) bool { return !n.Fulfilled })
	}
	return list
}

func (a accountAPI) listAbilities(ctx context.Context, in *AppIDPath) (client.AbilityList, error) {
	account, err := a.Accounts.Get(ctx, in.AppID)
	if err != nil {
		return client.AbilityList{}, err
	}
	linked, err := a.Accounts.Links(ctx, in.AppID)
	if err != nil {
		return client.AbilityList{}, err
	}
	left, err := a.Rules.PublishesLeft(ctx, account)
	return client.AbilityList{Abilities: AccountState{account, len(linked), left, !a.Codes.Closed}.Abilities()}, err
}
