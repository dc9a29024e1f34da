package console

import (
	"cmp"
	"context"
	"encoding/base64"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/qrjump/qrjump/client"
)

// listed splits the text of a form field at white space, commas and semicolons.
func listed(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(",;，；、", r) })
}

// The allowed values of an account's fields, in the order in which forms show them.
var (
	accountKinds    = []string{"mini_program", "service_account", "subscription_account"}
	accountSubjects = []string{"company", "personal", "media", "government", "other"}
	accountVersions = []string{"release", "trial", "development"}
	features        = []string{"marketcode"}
)

func (pages accountPages) accounts(v *request) error {
	q := v.r.URL.Query()
	if q.Has("make") {
		kind := q.Get("make")
		if !slices.Contains(accountKinds, kind) {
			kind = accountKinds[0]
		}
		return v.show(http.StatusOK, "account-form", accountForm{New: true, AccountPut: client.AccountPut{Kind: kind, JumpOpen: true}})
	}
	data := accountsView{AccountQuery: client.AccountQuery{Limit: pageRows, Scans: true}}
	err := v.query(&data.AccountQuery, "text kind state order reverse offset")
	if err == nil {
		data.AccountList, err = v.api.Accounts.ListPage(v.ctx(), data.AccountQuery)
	}
	data.Pager = v.pages(int64(data.Offset), len(data.Accounts), data.Total)
	return v.page("accounts", data, err)
}

type accountsView struct {
	client.AccountQuery
	client.AccountList
	Pager pager
}

func accountPage(appid string) string { return Root + "/accounts/" + url.PathEscape(appid) }

// accountForm contains the account form with the submitted values.
type accountForm struct {
	New   bool
	AppID string `json:"appid"`
	client.AccountPut
	Revision string // revision of the account that the form shows
}

// read copies the submitted values into the form, and returns the error messages of decode. Fields that the form does not show keep their
// values.
func (f *accountForm) read(v *request) map[string]string {
	unknown := slices.DeleteFunc(f.Features, func(name string) bool { return slices.Contains(features, name) })
	faults := v.decode(f, "name subject certified secret_frozen message_url url_scheme ip_allowlist pages secret marketcode_key features"+
		wordIf(f.New, " appid kind versions"))
	f.Features = append(f.Features, unknown...) // a feature unknown to this form is preserved
	return faults
}

// put stores the account with the values of the form.
func (pages accountPages) put(v *request, f accountForm) error {
	v.fresh = f.New
	err := v.api.Accounts.Set(v.ctx(), f.AppID, f.AccountPut)
	if f.New && client.PreconditionFailed(err) != nil {
		return v.refuse(http.StatusConflict, "appid", v.say("accounts.exists", f.AppID))
	}
	return v.done(accountPage(f.AppID)+"?done=account", err)
}

// makeAccount creates a new account.
func (pages accountPages) makeAccount(v *request) error {
	f := accountForm{New: true, AccountPut: client.AccountPut{JumpOpen: true}}
	faults := f.read(v)
	if f.AppID == "" {
		faults["appid"] = v.say("accounts.appid.wanted")
	}
	return afterwards(v.showInvalid(faults), func() error { return pages.put(v, f) })
}

func (pages accountPages) editAccount(v *request) error {
	a, err := v.api.Accounts.Get(v.ctx(), v.r.PathValue("appid"))
	return v.page("account-form", accountForm{AppID: a.AppID, AccountPut: a.Put(), Revision: a.Revision}, err)
}

func (pages accountPages) replaceAccount(v *request) error {
	a, err := v.api.Accounts.Get(v.ctx(), v.r.PathValue("appid"))
	if err != nil {
		return err
	}
	f := accountForm{AppID: a.AppID, AccountPut: a.Put()}
	f.Linked = nil // nil leaves existing links unchanged
	return afterwards(v.showInvalid(f.read(v)), func() error { return pages.put(v, f) })
}

// accountView contains the data of an account's page.
type accountView struct {
	client.Account
	Abilities     []client.Ability
	Links         []client.AccountLink
	Holders       []client.ComponentGrant
	Notices       []client.Notification
	PublishesLeft *int // remaining publishes of this month
	Users         []string
	Published     *time.Time // hour of the last publish; nil = none
	Activated     string     // the share of the account's ordered codes that are active; "" = no orders
}

// Mend returns the address of the page on which an unmet requirement of the account can be fixed.
func (a accountView) Mend(need string) string {
	switch current := accountPage(a.AppID); need {
	case "released":
		return current + "#releases"
	case "rules_enabled":
		return current + "#jump"
	case "linked":
		return current + "#links"
	case "publishes_left":
		return Root + "/operate/settings#publish_quota"
	case "prefix":
		return "" // a command-line flag of the server sets the prefix, so no page can change it
	default:
		field := map[string]string{"secret_not_frozen": "secret_frozen", "not_personal": "subject", "feature": "features",
			"key": "marketcode_key"}
		return current + "/edit#" + cmp.Or(field[need], need)
	}
}

func (pages accountPages) account(v *request) error {
	a, err := v.api.Accounts.Get(v.ctx(), v.r.PathValue("appid"))
	data, ctx := accountView{Account: a}, v.ctx()
	if err == nil && a.Kind == "service_account" {
		data.Links, err = v.api.Links.List(ctx, a.AppID)
	}
	if err != nil {
		return err
	}
	if err := cmp.Or(storeResult(&data.Abilities)(v.api.Accounts.ListAbilities(ctx, a.AppID)),
		storeResult(&data.Holders)(v.api.Accounts.ListAuthorizations(ctx, a.AppID)),
		storeResult(&data.Notices)(v.api.Accounts.ListNotifications(ctx, a.AppID, 10))); err != nil {
		return err
	}
	quota, err := v.api.Accounts.GetQuota(ctx, a.AppID)
	data.Published = quota.PublishedAt
	if a.Kind == "mini_program" {
		data.PublishesLeft = &quota.PublishesLeft
	}
	orders, failed := v.api.Orders.List(ctx, a.AppID, 0, pageRows)
	if err := cmp.Or(err, failed); err != nil {
		return err
	}
	active, count := int64(0), int64(0)
	for _, o := range orders.Orders {
		active, count = active+o.Active, count+o.Count*int64(b2i(o.State == "generated"))
	}
	if count > 0 {
		data.Activated = v.say("orders.of", active, count) + " (" + (view{request: v}).Percent(active, count) + "%)"
	}
	data.Users = slices.Sorted(maps.Keys(a.Members))
	return v.show(http.StatusOK, "account", data)
}

// changeAccount performs one action on an account. Before a destructive action, changeAccount asks the visitor to type the name of
// the affected object.
func (pages accountPages) changeAccount(v *request) error {
	appid, form, ctx := v.r.PathValue("appid"), v.r.FormValue, v.ctx()
	user, mini, component := strings.TrimSpace(form("user")), strings.TrimSpace(form("mini_program")), form("component")
	decide := func() error {
		return onlyError(v.api.Links.Confirm(ctx, appid, mini, form("side"), form("did") == "approve"))
	}
	return v.perform(accountPage(appid)+"?done=account", map[string]action{
		"versions":   {call: func() error { return v.api.Accounts.SetVersions(ctx, appid, v.r.Form["versions"]) }},
		"jump-on":    {call: func() error { return v.api.Accounts.SetRulesEnabled(ctx, appid, true) }},
		"jump-off":   {"sure.jump-off", appid, func() error { return v.api.Accounts.SetRulesEnabled(ctx, appid, false) }},
		"member":     {call: func() error { return v.api.Accounts.SetMember(ctx, appid, user, form("role")) }},
		"member-off": {"sure.member", user, func() error { return v.api.Accounts.DeleteMember(ctx, appid, user) }},
		"link":       {call: func() error { return v.api.Links.Create(ctx, appid, mini) }},
		"unlink":     {"sure.unlink", mini, func() error { return v.api.Links.Delete(ctx, appid, mini) }},
		"approve":    {call: decide},
		"refuse":     {call: decide},
		"withdraw":   {"sure.withdraw", component, func() error { return v.api.Accounts.RevokeAuthorization(ctx, appid, component) }},
		"delete":     {call: func() error { return v.deletion(v.api.Accounts.Delete, appid, "/accounts") }},
		"tokens":     {"sure.tokens", appid, func() error { return v.api.Accounts.RevokeTokens(ctx, appid) }},
	})
}

// deletion deletes an account or a platform, and then redirects to its list. Before the deletion, the page shows all data that will be
// deleted, and the visitor must type the AppID. If other objects prevent the deletion, an error page lists these objects.
func (v *request) deletion(remove func(context.Context, string, bool) (client.Deletion, error), appid, list string) error {
	asked, err := remove(v.ctx(), appid, true)
	if err != nil {
		return err
	}
	if len(asked.BlockedBy) > 0 {
		return v.fail(http.StatusConflict, v.say("delete.kept", appid, v.amounts(asked.BlockedBy)))
	}
	err = v.confirmed(v.say("sure.delete", appid, cmp.Or(v.amounts(asked.Deletes), v.say("delete.alone"))), appid, nil)
	if err == nil {
		_, err = remove(v.ctx(), appid, false)
	}
	return v.done(Root+list+"?done=deleted", err)
}

func (v *request) amounts(list []client.DeletionCount) string {
	words := mapped(list, func(amount client.DeletionCount) string { return v.say("delete."+amount.Kind, amount.Count) })
	return strings.Join(words, v.say("delete.and"))
}

// maxAppearance is the maximum size in bytes of a submitted appearance form. Most of the bytes of a form are the logo, whose length the
// admin API limits.
const maxAppearance = 800 << 10

type appearanceView struct {
	AppID string
	Look  client.Appearance
	Logo  template.URL // safe, because the server generated this URL
}

// appearance shows the form for how an account appears to buyers.
func (pages accountPages) appearance(v *request) error {
	data := appearanceView{AppID: v.r.PathValue("appid")}
	err := storeResult(&data.Look)(v.api.Accounts.GetAppearance(v.ctx(), data.AppID))
	if data.Look.Logo != nil {
		data.Logo = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(data.Look.Logo.PNG))
	}
	return v.page("appearance", data, err)
}

// changeAppearance stores the submitted appearance. If the API rejects the values, the form is shown again with the typed values
// but without the file, because a page cannot preset a file input.
func (pages accountPages) changeAppearance(v *request) error {
	appid := v.r.PathValue("appid")
	logo, err := v.upload("logo", "", maxAppearance, v.say("appearance.large"))
	if err != nil {
		return err
	}
	want := client.AppearancePut{Accent: v.r.PostFormValue("accent"), Help: v.r.PostFormValue("help"),
		OpenAtOnce: v.r.PostFormValue("open_at_once") != "", NoLogo: v.r.PostFormValue("no_logo") != "",
		Texts: map[string]client.BuyerTexts{}, Logo: []byte(logo)}
	if v.r.PostFormValue("own_accent") == "" {
		want.Accent = ""
	}
	for _, language := range enums["language"] {
		texts := client.BuyerTexts{App: v.r.PostFormValue("app_" + language), Landing: v.r.PostFormValue("landing_" + language),
			Code: v.r.PostFormValue("code_" + language)}
		if texts != (client.BuyerTexts{}) {
			want.Texts[language] = texts
		}
	}
	// After an edit conflict, a hidden field of the next form contains the uploaded logo, because a page cannot preset a file input.
	if kept := v.r.PostFormValue("logo_kept"); kept != "" && len(want.Logo) == 0 {
		want.Logo, _ = base64.RawURLEncoding.DecodeString(kept) // the admin API rejects bytes that are not an image
	} else if v.r.PostForm != nil && len(want.Logo) > 0 {
		v.r.PostForm.Set("logo_kept", base64.RawURLEncoding.EncodeToString(want.Logo))
	}
	_, err = v.api.Accounts.SetAppearance(v.ctx(), appid, want)
	return v.done(accountPage(appid)+"/appearance?done=appearance", err)
}
