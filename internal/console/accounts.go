package console

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/qrjump/qrjump/client"
)

// accountPages are the pages of accounts.
func (c *Console) accountPages() map[string]func(*visit) {
	return map[string]func(*visit){
		"GET /console/accounts":               c.accounts,
		"POST /console/accounts":              c.makeAccount,
		"GET /console/accounts/{appid}":       c.account,
		"POST /console/accounts/{appid}":      c.changeAccount,
		"GET /console/accounts/{appid}/edit":  c.editAccount,
		"POST /console/accounts/{appid}/edit": c.replaceAccount,
	}
}

// listed are the words of a field that holds several.
func listed(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(",;，；、", r) })
}

// The words of an account, in the order in which forms show them.
var (
	accountKinds    = []string{"mini_program", "service_account", "subscription_account"}
	accountSubjects = []string{"company", "personal", "media", "government", "other"}
	accountVersions = []string{"release", "trial", "development"}
	memberRoles     = []string{"admin", "developer", "trial"}
	features        = []string{"marketcode"}
)

func (c *Console) accounts(v *visit) {
	q := v.r.URL.Query()
	if appid := strings.TrimSpace(q.Get("open")); appid != "" {
		v.redirect(accountPage(appid))
		return
	}
	if q.Has("make") {
		kind := q.Get("make")
		if !slices.Contains(accountKinds, kind) {
			kind = accountKinds[0]
		}
		v.show(http.StatusOK, "account-form", accountForm{New: true, AccountPut: client.AccountPut{Kind: kind, JumpOpen: true}})
		return
	}
	var list client.AccountList
	if v.failed(v.ask("GET", fmt.Sprintf("/accounts?limit=%d&after=%s", pageRows, url.QueryEscape(q.Get("after"))), nil, &list)) {
		return
	}
	more := ""
	if len(list.Accounts) == pageRows {
		more = list.Accounts[pageRows-1].AppID
	}
	v.show(http.StatusOK, "accounts", map[string]any{"Accounts": list.Accounts, "More": more})
}

func accountPage(appid string) string { return Root + "/accounts/" + url.PathEscape(appid) }

// accountForm is an account as somebody fills it in.
type accountForm struct {
	New   bool
	AppID string
	client.AccountPut
	Revision string // of the account that the form shows
	Fault    string // why the server did not take it
}

func (accountForm) Kinds() []string       { return accountKinds }
func (accountForm) Subjects() []string    { return accountSubjects }
func (accountForm) AllVersions() []string { return accountVersions }
func (accountForm) AllFeatures() []string { return features }

// read puts what the form says; what it does not show stays.
func (f *accountForm) read(r *http.Request) {
	f.Name, f.Subject = strings.TrimSpace(r.FormValue("name")), r.FormValue("subject")
	f.Certified, f.SecretFrozen = r.FormValue("certified") != "", r.FormValue("secret_frozen") != ""
	f.MessageURL, f.URLScheme = strings.TrimSpace(r.FormValue("message_url")), strings.TrimSpace(r.FormValue("url_scheme"))
	f.IPAllowlist, f.Pages = listed(r.FormValue("ip_allowlist")), strings.Fields(r.FormValue("pages"))
	f.Secret, f.MarketcodeKey = r.FormValue("secret"), r.FormValue("marketcode_key")
	f.Revision = r.FormValue(revisionField)
	if f.New {
		f.AppID, f.Kind, f.Versions = strings.TrimSpace(r.FormValue("appid")), r.FormValue("kind"), r.Form["versions"]
	}
	// A feature that this form does not know stays.
	f.Features = slices.DeleteFunc(f.Features, func(one string) bool { return slices.Contains(features, one) })
	for _, one := range r.Form["features"] {
		if slices.Contains(features, one) && !slices.Contains(f.Features, one) {
			f.Features = append(f.Features, one)
		}
	}
}

// put makes the account so, or shows the form again with what was typed and why not.
func (v *visit) put(f accountForm, done string) {
	v.fresh = f.New
	err := v.ask("PUT", "/accounts/"+url.PathEscape(f.AppID), f.AccountPut, nil)
	if said, ok := errors.AsType[refusal](err); ok && said.overtaken() && f.New {
		f.again(v, http.StatusConflict, v.say("accounts.exists", f.AppID))
		return
	} else if ok && said.Status/100 == 4 && said.Status != http.StatusForbidden && !said.overtaken() {
		f.again(v, said.Status, said.Detail)
		return
	}
	if !v.failed(err) {
		v.redirect(accountPage(f.AppID) + "?done=" + done)
	}
}

// again shows the form as it was filled in. Secrets are typed again.
func (f accountForm) again(v *visit, status int, fault string) {
	f.Fault, f.Secret, f.MarketcodeKey = fault, "", ""
	v.show(status, "account-form", f)
}

// makeAccount makes an account that is not there yet.
func (c *Console) makeAccount(v *visit) {
	f := accountForm{New: true, AccountPut: client.AccountPut{JumpOpen: true}}
	f.read(v.r)
	if f.AppID == "" {
		f.again(v, http.StatusUnprocessableEntity, v.say("accounts.appid.wanted"))
		return
	}
	// An account that is there would be replaced.
	err := v.ask("GET", "/accounts/"+url.PathEscape(f.AppID), nil, nil)
	if said, ok := errors.AsType[refusal](err); ok && said.Status == http.StatusNotFound {
		v.put(f, "account")
		return
	}
	if err == nil {
		f.again(v, http.StatusConflict, v.say("accounts.exists", f.AppID))
		return
	}
	v.failed(err)
}

// theAccount is the account that the address names; false after a page said why not.
func (v *visit) theAccount() (a client.Account, ok bool) {
	return a, !v.failed(v.ask("GET", "/accounts/"+url.PathEscape(v.r.PathValue("appid")), nil, &a))
}

func (c *Console) editAccount(v *visit) {
	if a, ok := v.theAccount(); ok {
		v.show(http.StatusOK, "account-form", accountForm{AppID: a.AppID, AccountPut: a.Put(), Revision: a.Revision})
	}
}

func (c *Console) replaceAccount(v *visit) {
	if a, ok := v.theAccount(); ok {
		f := accountForm{AppID: a.AppID, AccountPut: a.Put()}
		f.Linked = nil // those that are there stay
		f.read(v.r)
		v.put(f, "account")
	}
}

// accountView is the page of an account.
type accountView struct {
	client.Account
	Abilities []client.Ability
	Links     []client.AccountLink
	Holders   []client.Holding
	Notices   []client.Notice
	Left      *int // publishes of this month
	Users     []string
	More      string // the user after whom the members go on; "" = these are all
}

func (accountView) AllVersions() []string { return accountVersions }
func (accountView) Roles() []string       { return memberRoles }

// Mend is where a need of the account is met.
func (a accountView) Mend(need string) string {
	switch here := accountPage(a.AppID); need {
	case "released":
		return here + "#releases"
	case "switched_on":
		return here + "#jump"
	case "linked":
		return here + "#links"
	case "publishes_left":
		return Root + "/operate/settings#publish_quota"
	case "prefix":
		return "" // a flag of the server
	default:
		field := map[string]string{"secret_active": "secret_frozen", "organisation": "subject", "feature": "features",
			"key": "marketcode_key"}
		return here + "/edit#" + cmp.Or(field[need], need)
	}
}

func (c *Console) account(v *visit) {
	a, ok := v.theAccount()
	if !ok {
		return
	}
	data, below := accountView{Account: a}, "/accounts/"+url.PathEscape(a.AppID)
	var may client.AbilityList
	var links client.AccountLinkList
	var holders client.HoldingList
	var notices client.NoticeList
	var left client.Quota
	if a.Kind == "service_account" && v.failed(v.ask("GET", below+"/links", nil, &links)) {
		return
	}
	if v.failed(v.ask("GET", below+"/abilities", nil, &may)) || v.failed(v.ask("GET", below+"/authorizations", nil, &holders)) ||
		v.failed(v.ask("GET", below+"/notices?limit=10", nil, &notices)) {
		return
	}
	if a.Kind == "mini_program" {
		if v.failed(v.ask("GET", below+"/quota", nil, &left)) {
			return
		}
		data.Left = &left.PublishesLeft
	}
	after := v.r.URL.Query().Get("members")
	for _, user := range slices.Sorted(maps.Keys(a.Members)) {
		if user <= after {
			continue
		}
		if len(data.Users) == pageRows {
			data.More = data.Users[pageRows-1]
			break
		}
		data.Users = append(data.Users, user)
	}
	data.Abilities, data.Links, data.Holders, data.Notices = may.Abilities, links.Links, holders.Authorizations, notices.Notices
	v.show(http.StatusOK, "account", data)
}

// changeAccount does one thing to an account. What ends something asks for its name
// first.
func (c *Console) changeAccount(v *visit) {
	appid, form := v.r.PathValue("appid"), v.r.FormValue
	below := "/accounts/" + url.PathEscape(appid)
	user, mini, component := strings.TrimSpace(form("user")), strings.TrimSpace(form("mini_program")), form("component")
	var err error
	switch form("did") {
	case "versions":
		_ = v.r.ParseForm()
		err = v.ask("PUT", below+"/versions", map[string]any{"versions": append([]string{}, v.r.Form["versions"]...)}, nil)
	case "jump-on":
		err = v.ask("PUT", below+"/jump", map[string]bool{"open": true}, nil)
	case "jump-off":
		if !v.sure("sure.jump-off", appid) {
			return
		}
		err = v.ask("PUT", below+"/jump", map[string]bool{"open": false}, nil)
	case "member":
		err = v.ask("PUT", below+"/members/"+url.PathEscape(user), map[string]string{"role": form("role")}, nil)
	case "member-off":
		if !v.sure("sure.member", user) {
			return
		}
		err = v.ask("DELETE", below+"/members/"+url.PathEscape(user), nil, nil)
	case "link":
		err = v.ask("PUT", below+"/links/"+url.PathEscape(mini), nil, nil)
	case "unlink":
		if !v.sure("sure.unlink", mini) {
			return
		}
		err = v.ask("DELETE", below+"/links/"+url.PathEscape(mini), nil, nil)
	case "agree", "refuse":
		err = v.ask("POST", below+"/links/"+url.PathEscape(mini)+"/confirm",
			map[string]any{"side": form("side"), "agree": form("did") == "agree"}, nil)
	case "withdraw":
		if !v.sure("sure.withdraw", component) {
			return
		}
		err = v.ask("DELETE", below+"/authorizations/"+url.PathEscape(component), nil, nil)
	case "tokens":
		if !v.sure("sure.tokens", appid) {
			return
		}
		err = v.ask("DELETE", below+"/tokens", nil, nil)
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.failed(err) {
		v.redirect(accountPage(appid) + "?done=account")
	}
}
