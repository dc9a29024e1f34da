package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

// aboutAccount adds the AppID to an error; if the account does not exist, the error suggests a similar AppID.
func aboutAccount(s *session, operator *client.Client, did, appid string, err error) error {
	return withSuggestion(did, appid, err, tr("account.see_qrjump_account_list"),
		func() ([]client.Account, error) { return operator.Accounts.List(s.ctx, "", 1000) },
		func(a client.Account) string { return a.AppID })
}

// nearAccount suggests an AppID similar to the first given AppID that does not exist; "" if all of them exist or no AppID is similar.
func nearAccount(s *session, operator *client.Client, given ...string) string {
	list, err := operator.Accounts.List(s.ctx, "", 1000)
	if err != nil {
		return "" // without a list of accounts, no AppID can be suggested
	}
	appids := mapped(list, func(a client.Account) string { return a.AppID })
	for _, appid := range given {
		if !slices.Contains(appids, appid) {
			return didYouMean(appid, appids...)
		}
	}
	return ""
}

// emptyFor returns err, the error of the read of an account's objects. If err is nil, emptyFor returns an error if no objects were found
// and the AppID belongs to neither an account nor a platform.
func emptyFor(s *session, operator *client.Client, did, appid string, found int, err error) error {
	if err != nil || found > 0 || appid == "" {
		return err
	}
	_, err = operator.Accounts.Get(s.ctx, appid)
	if !isNotFound(err) {
		return nil
	}
	if _, platform := operator.Components.Get(s.ctx, appid); !isNotFound(platform) {
		return nil
	}
	return aboutAccount(s, operator, did, appid, err)
}

type accountList struct {
	operator
	WaitingLinks bool
}

// Run lists all accounts, page by page.
func (c *accountList) Run(s *session, qrjump *client.Client) error {
	const page = 1000
	all, err := everyPage(page, func(lastAccount client.Account) ([]client.Account, error) {
		return qrjump.Accounts.List(s.ctx, lastAccount.AppID, page)
	})
	rest := ""
	if c.WaitingLinks && err == nil {
		all, err = withWaitingLinks(s, qrjump, all)
		rest = tr("account.see_account_show")
	}
	return listing[client.Account]{name: "accounts", none: tr("account.no_account"), more: rest,
		heads: []string{"APPID", "KIND", "SUBJECT", "CERTIFIED", "VERSIONS", "RULES", "NAME"},
		row: func(a client.Account) []string {
			return []string{a.AppID, a.Kind, a.Subject, yesNo(a.Certified), orDash(strings.Join(a.Versions, " ")),
				onOff(a.JumpOpen), a.Name}
		}}.print(s, c.outputFlags, all, failed("list", "accounts", err))
}

// withWaitingLinks returns the accounts for which an administrator must still approve or reject a link or the removal of a link.
func withWaitingLinks(s *session, qrjump *client.Client, all []client.Account) (list []client.Account, err error) {
	for _, a := range all {
		if a.Kind == "mini_program" {
			continue
		}
		links, err := qrjump.Links.List(s.ctx, a.AppID)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(links, func(l client.AccountLink) bool { return l.Waits() != "" }) {
			list = append(list, a)
		}
	}
	return list, nil
}

func orDash(s string) string { return cmp.Or(s, "-") }

func onOff(b bool) string { return textOr(b, "on", "off") }

type accountShow struct {
	operator
	AppID     string `arg:"" name:"appid"`
	User      string
	Namespace string `placeholder:"NAME"`
}

// accountSections holds an account, and the account's data from other resources of the admin API.
type accountSections struct {
	client.Account
	client.Quota
	Authorizations []client.ComponentGrant `json:"authorizations"`
	Links          []client.AccountLink    `json:"links"`
	Notifications  []client.Notification   `json:"notifications"`
	OpenID         string                  `json:"openid,omitempty"`
}

// Run shows one account with its permissions, platforms, links and notifications.
func (c *accountShow) Run(s *session, qrjump *client.Client) error {
	a := accountSections{Authorizations: []client.ComponentGrant{}, Links: []client.AccountLink{}, Notifications: []client.Notification{}}
	var err error
	if a.Account, err = qrjump.Accounts.Get(s.ctx, c.AppID); err != nil {
		return aboutAccount(s, qrjump, "show", c.AppID, err)
	}
	var errs [6]error
	abilities, err := qrjump.Accounts.ListAbilities(s.ctx, c.AppID)
	errs[0] = err
	a.Quota, errs[1] = qrjump.Accounts.GetQuota(s.ctx, c.AppID)
	a.Authorizations, errs[2] = qrjump.Accounts.ListAuthorizations(s.ctx, c.AppID)
	a.Notifications, errs[3] = qrjump.Accounts.ListNotifications(s.ctx, c.AppID, 0)
	if a.Kind != "mini_program" {
		a.Links, errs[4] = qrjump.Links.List(s.ctx, c.AppID)
	}
	if c.User != "" {
		a.OpenID, errs[5] = qrjump.Accounts.GetOpenID(s.ctx, c.AppID, c.User, c.Namespace)
	}
	return c.print(s, a, failed("show", c.AppID, cmp.Or(errs[:]...)), func(w io.Writer) {
		printAccount(w, a.Account)
		printFields(w, [2]string{"remaining publishes", number(int64(a.PublishesLeft))}, [2]string{"openid", a.OpenID})
		printAbilities(w, a.AppID, abilities)
		a.printSections(w)
	})
}

// printSections prints a table for each section that is not empty, newest entries last.
func (a *accountSections) printSections(w io.Writer) {
	section := func(title string, heads []string, rows [][]string) {
		if len(rows) > 0 {
			fmt.Fprintln(w)
			printMsg(w, title)
			printTable(w, heads, rows)
		}
	}
	var held, linked, told [][]string
	for _, h := range a.Authorizations {
		held = append(held, []string{h.Component, sets(h.PermissionSets), formatTime(h.GrantedAt)})
	}
	waiting := ""
	for _, l := range a.Links {
		linked = append(linked, []string{l.MiniProgram, l.Name, linkState(l), formatTime(l.CreatedAt)})
		if side := l.Waits(); side != "" {
			waiting = tr("account.answer_with_confirm_link", plain(a.AppID), plain(l.MiniProgram), side)
		}
	}
	for _, n := range slices.Backward(a.Notifications) {
		told = append(told, []string{formatTime(n.CreatedAt), n.Kind, n.Prefix, n.Reason})
	}
	section("account.authorizations", []string{"PLATFORM", "PERMISSION SETS", "SINCE"}, held)
	section("account.links", []string{"MINI PROGRAM", "NAME", "STATE", "SINCE"}, linked)
	if waiting != "" {
		fmt.Fprintln(w, waiting)
	}
	section("account.notifications", []string{"TIME", "KIND", "PREFIX", "REASON"}, told)
}

// printAbilities prints each ability and whether the account has it. For the missing abilities, printAbilities also prints the unfulfilled
// requirements and the commands that fulfil them.
func printAbilities(w io.Writer, appid string, list []client.Ability) {
	var rows, mends [][2]string
	for _, ability := range list {
		words := yesNo(true)
		var missing []string
		for _, n := range ability.Requirements {
			if !n.Fulfilled {
				need := localizeOr("need."+n.Requirement, n.Requirement)
				missing = append(missing, need)
				mend := [2]string{need, ""}
				if catalog.Has("need." + n.Requirement + ".mend") {
					mend[1] = tr("need."+n.Requirement+".mend", appid)
				}
				if !slices.Contains(mends, mend) {
					mends = append(mends, mend)
				}
			}
		}
		if !ability.Allowed {
			words = tr("account.no_missing") + strings.Join(missing, ", ")
		}
		rows = append(rows, [2]string{tr("account.may", ability.Ability), words})
	}
	printFields(w, rows...)
	if len(mends) > 0 {
		printMsg(w, "account.missing")
		printFields(w, mends...)
	}
}

func printAccount(w io.Writer, a client.Account) {
	users := slices.Sorted(maps.Keys(a.Members))
	members := mapped(users, func(user string) string { return user + " (" + a.Members[user] + ")" })
	printFields(w,
		[2]string{"appid", a.AppID}, [2]string{"kind", a.Kind}, [2]string{"name", a.Name}, [2]string{"subject", a.Subject},
		[2]string{"certified", yesNo(a.Certified)}, [2]string{"versions", orDash(strings.Join(a.Versions, ", "))},
		[2]string{"pages", strings.Join(a.Pages, ", ")}, [2]string{"rules", onOff(a.JumpOpen)},
		[2]string{"features", strings.Join(a.Features, ", ")},
		[2]string{"members", strings.Join(members, ", ")}, [2]string{"linked", strings.Join(a.Linked, ", ")},
		[2]string{"messages", a.MessageURL}, [2]string{"addresses", strings.Join(a.IPAllowlist, ", ")},
		[2]string{"secret", textIf(a.SecretFrozen, "frozen")},
		[2]string{"file", a.VerificationFile.Name + " with " + a.VerificationFile.Content}, [2]string{"created", formatTime(a.CreatedAt)})
}

type accountSet struct {
	operator
	AppID     string  `arg:"" name:"appid"`
	Kind      *string `enum:"mini_program,service_account,subscription_account" placeholder:"KIND"`
	Name      *string
	Subject   *string  `enum:"company,personal,media,government,other" placeholder:"SUBJECT"`
	Secret    string   `placeholder:"SECRET" file:"in,self" absent:""`
	Certified *bool    `negatable:""`
	Version   []string `enum:"release,trial,development" sep:"none" placeholder:"VERSION"`
	Page      []string `sep:"none" placeholder:"PAGE"`
	Feature   []string `sep:"none" placeholder:"±FEATURE"`
	Linked    []string `sep:"none" placeholder:"APPID"`
	Rules     *bool    `negatable:""`

	NoVersions     bool
	Member         map[string]string `placeholder:"USER=ROLE"`
	PackageKeyFile string            `placeholder:"FILE" file:"in"`
	confirmFlag
}

// features lists the features that can be granted.
var features = []string{codes.Feature}

// changedFeatures returns the features in have after the changes: "NAME" or "+NAME" adds a feature, and "-NAME" removes it. All other
// features stay, including features that this program does not know.
func changedFeatures(have, changes []string) ([]string, error) {
	have = slices.Clone(have)
	did := map[string]bool{}
	for _, change := range changes {
		name, isAway := strings.CutPrefix(change, "-")
		name = strings.TrimPrefix(name, "+")
		i := slices.Index(have, name)
		wasSet, duplicate := did[name]
		switch {
		case duplicate && wasSet != isAway:
			return nil, misused("account.feature_grants_and_takes_it", name)
		case !slices.Contains(features, name) && !(isAway && i >= 0):
			return nil, misused("account.feature_there_is_no_such", change, strings.Join(features, ", "))
		case isAway && i >= 0:
			have = slices.Delete(have, i, i+1)
		case !isAway && i < 0:
			have = append(have, name)
		}
		did[name] = isAway
	}
	return have, nil
}

// Run creates an account, or changes the fields whose flags are set; a change fails if the account changed after this command read it.
func (c *accountSet) Run(s *session, qrjump *client.Client) error {
	want := client.AccountPut{JumpOpen: true}
	did, ctx := tr("account.created", c.AppID), client.IfNoneMatch(s.ctx)
	old, err := qrjump.Accounts.Get(s.ctx, c.AppID)
	switch {
	case err == nil:
		want, did, ctx = old.Put(), tr("account.changed", c.AppID), client.IfMatch(s.ctx, old.Revision)
	case !isNotFound(err):
		return failed("set", c.AppID, err)
	case c.Kind == nil:
		return misused("account.missing_kind", c.AppID)
	}
	if want.Secret, err = secret(s, c.Secret); err != nil {
		return err
	}
	if c.PackageKeyFile != "" {
		if want.MarketcodeKey, err = keyFile("--package-key-file", c.PackageKeyFile); err != nil {
			return err
		}
	}
	assign(&want.Kind, c.Kind)
	assign(&want.Name, c.Name)
	assign(&want.Subject, c.Subject)
	assign(&want.Certified, c.Certified)
	assign(&want.JumpOpen, c.Rules)
	if c.Version != nil || c.NoVersions {
		want.Versions = c.Version
	}
	if c.Page != nil {
		want.Pages = slices.DeleteFunc(slices.Clone(c.Page), func(page string) bool { return page == "" })
	}
	if want.Features, err = changedFeatures(want.Features, c.Feature); err != nil {
		return err
	}
	if c.Linked != nil {
		want.Linked = c.Linked
	}
	if want.Members, err = changedMembers(want.Members, c.Member); err != nil {
		return err
	}
	if ends := c.ends(old, want); ends != "" && did != tr("account.created", c.AppID) {
		if err := c.confirmed(s, ends); err != nil {
			return err
		}
	}
	err = failed("set", c.AppID, describeConflict("qrjump account show "+c.AppID, qrjump.Accounts.Set(ctx, c.AppID, want)))
	if isProblem(err, http.StatusUnprocessableEntity) {
		err = fmt.Errorf("%w%s", err, nearAccount(s, qrjump, c.Linked...))
	}
	return c.showChanged(s, qrjump, c.AppID, err, did)
}

// changedMembers returns the members in have with the roles from changes; an empty role removes the member.
func changedMembers(have, changes map[string]string) (map[string]string, error) {
	have = maps.Clone(have)
	for user, role := range changes {
		switch {
		case role == "":
			delete(have, user)
			continue
		case !slices.Contains([]string{"admin", "developer", "trial"}, role):
			return nil, misused("account.missing_role", user)
		case have == nil:
			have = map[string]string{}
		}
		have[user] = role
	}
	return have, nil
}

// ends describes the loss that a change of an account causes: a removed member role, removed versions, or disabled rules; "" = none.
func (c *accountSet) ends(old client.Account, want client.AccountPut) string {
	gone := slices.DeleteFunc(slices.Clone(old.Versions), func(v string) bool { return slices.Contains(want.Versions, v) })
	for user := range old.Members {
		if want.Members[user] == "" {
			return tr("account.role_removed", plain(user), plain(c.AppID))
		}
	}
	switch {
	case len(gone) > 0:
		return tr("account.versions_removed", plain(c.AppID), strings.Join(gone, ", "))
	case old.JumpOpen && !want.JumpOpen:
		return tr("account.rules_disabled", plain(c.AppID))
	}
	return ""
}

// showChanged prints did as text, or all fields of the changed account as JSON. If the change failed, showChanged returns err.
func (o operator) showChanged(s *session, qrjump *client.Client, appid string, err error, did string) error {
	if err != nil {
		return err
	}
	if o.isTable() {
		_, err := fmt.Fprintln(s.out, plain(did))
		return err
	}
	a, err := qrjump.Accounts.Get(s.ctx, appid)
	return o.print(s, a, aboutAccount(s, qrjump, "show", appid, err), nil)
}

type accountToken struct{ member }

// Run prints the valid access token without replacing it, so that the token stays valid for other programs.
func (c *accountToken) Run(s *session, wire *client.Client) error {
	token, err := wire.Wire.GetStableToken(s.ctx, false)
	return c.outcome(s, token, failed(tr("account.token_of"), c.AppID, err), "plain", token.AccessToken)
}
