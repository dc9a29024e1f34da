package console

import (
	"cmp"
	"encoding/json"
	"errors"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// routes returns the pages that find things, and choose the account by which all pages are filtered.
func (pages findPages) routes() map[string]func(*request) {
	return map[string]func(*request){
		"GET /console/search":        pages.search,
		"GET /console/switch":        pages.switchAccount,
		"GET /console/account-names": pages.suggestAccounts,
	}
}

// account returns the AppID by which all pages are filtered: that in the address, or the only one that the visitor may see. "" = all that
// the visitor may see.
func (v *request) account() string {
	if asked := strings.TrimSpace(v.r.URL.Query().Get("account")); asked != "" || len(v.caller.Accounts) != 1 {
		return asked
	}
	return v.caller.Accounts[0]
}

// hitView is something that was found, with its page.
type hitView struct {
	client.SearchHit
	To string
}

type searchView struct {
	Text    string
	Groups  [][]hitView // by kind
	Partial []string
	Rest    string // the address of the same page after all rules were looked through; "" = they were
}

// search finds what a text names. Where that is one thing, exactly, its page is shown at once. Whether older rules have the text comes
// after the page.
func (pages findPages) search(v *request) {
	data := searchView{Text: strings.TrimSpace(v.r.URL.Query().Get("q"))}
	if data.Text == "" {
		v.show(http.StatusOK, "search", data)
		return
	}
	quick := !v.r.URL.Query().Has("all")
	found, err := v.api.Search(v.ctx(), client.SearchQuery{Text: data.Text, Account: v.account(), Quick: quick})
	if v.failed(err) {
		return
	}
	if hits := found.Hits; len(hits) == 1 && strings.EqualFold(cmp.Or(map[string]string{"serial": hits[0].Name}[hits[0].Kind],
		hits[0].Key), data.Text) {
		v.redirect(pages.pageOf(v, hits[0]))
		return
	}
	for i, hit := range found.Hits {
		if i == 0 || hit.Kind != found.Hits[i-1].Kind {
			data.Groups = append(data.Groups, nil)
		}
		last := &data.Groups[len(data.Groups)-1]
		*last = append(*last, hitView{hit, pages.pageOf(v, hit)})
	}
	if quick && slices.Contains(found.Partial, "rule") && data.hits("rule") < 10 {
		data.Rest = Root + "/search?" + url.Values{"q": {data.Text}, "all": {"1"}}.Encode()
		found.Partial = slices.DeleteFunc(found.Partial, func(kind string) bool { return kind == "rule" })
	}
	data.Partial = found.Partial
	v.show(http.StatusOK, "search", data)
}

// hits returns the number of results of a kind.
func (s searchView) hits(kind string) (n int) {
	for _, group := range s.Groups {
		if group[0].Kind == kind {
			n += len(group)
		}
	}
	return n
}

// pageOf returns the address of the page of what was found.
func (pages findPages) pageOf(v *request, hit client.SearchHit) string {
	switch hit.Kind {
	case "account":
		return accountPage(hit.Key)
	case "rule":
		return Root + "/rules?" + url.Values{"owner": {hit.Account}, "prefix": {hit.Key}}.Encode()
	case "batch":
		return Root + "/codes/" + hit.Key
	case "call":
		return Root + "/calls/" + url.PathEscape(hit.Key)
	case "activity":
		return Root + "/statistics?" + url.Values{"by": {"day"}, "activity": {hit.Key}, "account": {hit.Account}}.Encode()
	}
	return Root + "/codes?" + url.Values{"code": {hit.Key}}.Encode()
}

// switchAccount filters all pages by an account that is named by its AppID, or by a name that only one has.
func (pages findPages) switchAccount(v *request) {
	q := v.r.URL.Query()
	to, err := url.Parse(localPath(q.Get("to")))
	text := strings.TrimSpace(q.Get("account"))
	if v.failed(err) {
		return
	}
	if text != "" {
		list, err := v.api.Accounts.ListPage(v.ctx(), client.AccountQuery{Text: text, Limit: 2})
		if v.failed(err) {
			return
		}
		if n := len(list.Accounts); n == 0 || n > 1 && !strings.EqualFold(list.Accounts[0].AppID, text) {
			pages.seek(v, "", text)
			return
		}
		text = list.Accounts[0].AppID
	}
	fields := to.Query()
	for _, name := range []string{"account", "owner", "after", "before", "offset", "done", "batch", "rule"} {
		fields.Del(name)
	}
	if text != "" {
		fields.Set("account", text)
	}
	to.RawQuery = fields.Encode()
	http.Redirect(v.w, v.r, to.String(), http.StatusSeeOther)
}

// seek leads to what a text finds among the things of an account, or of all.
func (pages findPages) seek(v *request, account, text string) {
	q := url.Values{"q": {text}}
	if account != "" {
		q.Set("account", account)
	}
	http.Redirect(v.w, v.r, Root+"/search?"+q.Encode(), http.StatusSeeOther)
}

const mostSuggested = 20

// suggestAccounts answers the choices of a field in which an AppID is typed.
func (pages findPages) suggestAccounts(v *request) {
	list, err := v.api.Accounts.ListPage(v.ctx(), client.AccountQuery{Text: strings.TrimSpace(v.r.URL.Query().Get("q")), Order: "name",
		Limit: mostSuggested})
	if v.failed(err) {
		return
	}
	choices := make([][2]string, 0, len(list.Accounts))
	for _, account := range list.Accounts {
		choices = append(choices, [2]string{account.Name, account.AppID})
	}
	v.w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(v.w).Encode(choices)
}

// Account returns the AppID by which all pages are filtered.
func (v view) Account() string { return v.account() }

// Chosen reports whether the address filters all pages by an account.
func (v view) Chosen() bool { return v.Q("account") != "" }

// Mine returns the accounts that a person with limited accounts can choose from; none = all, or too many to list.
func (v view) Mine() []string {
	if n := len(v.caller.Accounts); n < 2 || n > mostSuggested {
		return nil
	}
	return slices.Sorted(slices.Values(v.caller.Accounts))
}

// Unfiltered is this page for all accounts, or the page of the navigation below which it is: what belongs to one account is left.
func (v view) Unfiltered() string {
	for _, s := range v.Sections() {
		for _, p := range s.Places {
			if p.Here && p.Path != v.r.URL.Path {
				return p.Path
			}
			if p.Here && v.r.Method == http.MethodGet && !v.r.URL.Query().Has("prefix") && !v.r.URL.Query().Has("code") {
				return v.r.URL.RequestURI()
			}
			if p.Here {
				return p.Path
			}
		}
	}
	return Root + "/home"
}

// Named returns the name of an account, "" where it has none. A page is made twice: first it says whose names it wants, which one call then
// brings.
func (v view) Named(appid string) string {
	if v.names == nil && appid != "" && len(v.wanted) < mostNamed {
		v.wanted[appid] = true
	}
	return v.names[appid]
}

const mostNamed = 200

// nameAccounts brings the names that a page wants; it reports whether there are any.
func (v *request) nameAccounts() bool {
	if len(v.wanted) == 0 {
		return false
	}
	names, err := v.api.Accounts.ListNames(v.ctx(), slices.Sorted(maps.Keys(v.wanted)))
	if err != nil { // the page goes without them
		if _, said := errors.AsType[*client.Problem](err); !said {
			v.c.Log.ErrorContext(v.r.Context(), "names of accounts could not be read", "error", err)
		}
	}
	v.names = names
	return len(names) > 0
}

// Filter returns the account by which pages are filtered as the query of an address in a page, behind "?" or "&"; "" where all are shown.
func (v view) Filter(suffix string) template.URL {
	if !v.SignedIn || !v.Chosen() {
		return ""
	}
	return template.URL(suffix + "account=" + url.QueryEscape(v.account()))
}

// Keep returns an address with the account by which pages are filtered.
func (v view) Keep(address string) string {
	suffix := "?"
	if strings.Contains(address, "?") {
		suffix = "&"
	}
	if !strings.HasPrefix(address, Root) || strings.Contains(address, "account=") {
		return address
	}
	page, fragment, has := strings.Cut(address, "#")
	page += string(v.Filter(suffix))
	if has {
		page += "#" + fragment
	}
	return page
}

// Kept returns the account by which pages are filtered, for a form that is sent by GET; "" where all are shown.
func (v view) Kept() string {
	if !v.SignedIn || !v.Chosen() {
		return ""
	}
	return v.account()
}
