package console

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// Account returns the AppID that filters all pages: the AppID in the URL, else the only account that the visitor may see. An empty
// result means all accounts that the visitor may see.
func (v *request) Account() string {
	if asked := strings.TrimSpace(v.r.URL.Query().Get("account")); asked != "" || len(v.caller.Accounts) != 1 {
		return asked
	}
	return v.caller.Accounts[0]
}

// hitView is a search result with the address of its page.
type hitView struct {
	client.SearchHit
	To string
}

type searchView struct {
	Text    string
	Groups  [][]hitView // by kind
	Partial []string
	Rest    string // the address that repeats the search over all rules; "" = all rules were already searched
}

// search shows the search results for a text. If the only result matches exactly, search redirects to its page. Older rules are searched by
// a second request after the page is shown.
func (pages homePages) search(v *request) error {
	data := searchView{Text: strings.TrimSpace(v.r.URL.Query().Get("q"))}
	if data.Text == "" {
		return v.show(http.StatusOK, "search", data)
	}
	quick := !v.r.URL.Query().Has("all")
	found, err := v.api.Search(v.ctx(), client.SearchQuery{Text: data.Text, Account: v.Account(), Quick: quick})
	if err != nil {
		return err
	}
	if hits := found.Hits; len(hits) == 1 && strings.EqualFold(cmp.Or(map[string]string{"serial": hits[0].Name}[hits[0].Kind],
		hits[0].Key), data.Text) {
		return v.redirect(pages.pageOf(hits[0]))
	}
	rules := 0
	for i, hit := range found.Hits {
		rules += b2i(hit.Kind == "rule")
		if i == 0 || hit.Kind != found.Hits[i-1].Kind {
			data.Groups = append(data.Groups, nil)
		}
		last := &data.Groups[len(data.Groups)-1]
		*last = append(*last, hitView{hit, pages.pageOf(hit)})
	}
	if quick && slices.Contains(found.Partial, "rule") && rules < 10 {
		data.Rest = Root + "/search?" + url.Values{"q": {data.Text}, "all": {"1"}}.Encode()
		found.Partial = slices.DeleteFunc(found.Partial, func(kind string) bool { return kind == "rule" })
	}
	data.Partial = found.Partial
	return v.show(http.StatusOK, "search", data)
}

// pageOf returns the address of the page of a search result.
func (pages homePages) pageOf(hit client.SearchHit) string {
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

// switchAccount sets the account filter of all pages, given an AppID or an unambiguous account name.
func (pages homePages) switchAccount(v *request) error {
	q := v.r.URL.Query()
	to, err := url.Parse(localPath(q.Get("to")))
	text := strings.TrimSpace(q.Get("account"))
	if err != nil {
		return err
	}
	if text != "" {
		list, err := v.api.Accounts.ListPage(v.ctx(), client.AccountQuery{Text: text, Limit: 2})
		if err != nil {
			return err
		}
		if n := len(list.Accounts); n == 0 || n > 1 && !strings.EqualFold(list.Accounts[0].AppID, text) {
			http.Redirect(v.w, v.r, Root+"/search?"+url.Values{"q": {text}}.Encode(), http.StatusSeeOther)
			return nil
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
	return nil
}

const maxSuggested = 20

// suggestAccounts returns suggestions for a field in which a person types an AppID.
func (pages homePages) suggestAccounts(v *request) error {
	list, err := v.api.Accounts.ListPage(v.ctx(), client.AccountQuery{Text: strings.TrimSpace(v.r.URL.Query().Get("q")), Order: "name",
		Limit: maxSuggested})
	if err != nil {
		return err
	}
	choices := mapped(list.Accounts, func(account client.Account) [2]string { return [2]string{account.Name, account.AppID} })
	v.w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(v.w).Encode(choices) // an error means that the browser has disconnected
	return nil
}

// Chosen reports whether the URL contains an account filter.
func (v view) Chosen() bool { return v.Q("account") != "" }

// OwnAccounts returns the accounts that a person with limited access can choose from; empty = all accounts, or too many to list.
func (v view) OwnAccounts() []string {
	if n := len(v.caller.Accounts); n < 2 || n > maxSuggested {
		return nil
	}
	return slices.Sorted(slices.Values(v.caller.Accounts))
}

// Unfiltered returns the address of this page without the account filter; for a page of a single object, the address of its
// navigation entry.
func (v view) Unfiltered() string {
	for _, s := range v.Sections() {
		for _, p := range s.Places {
			single := v.r.URL.Query().Has("prefix") || v.r.URL.Query().Has("code") // the page shows a single object
			switch {
			case p.Current && p.Path == v.r.URL.Path && v.r.Method == http.MethodGet && !single:
				return v.r.URL.RequestURI()
			case p.Current:
				return p.Path
			}
		}
	}
	return Root + "/home"
}

// namePlace is a place of a page that shows the name of an account.
type namePlace struct{ appid, otherwise string }

// nameMark begins the comment that marks a namePlace in a page: texts of users cannot contain it, because pages escape them.
const nameMark = "<!--name "

// Named marks the place of the name of an account; withNames replaces the mark with the name. Without a name, the page shows otherwise.
func (v view) Named(appid string, otherwise ...string) template.HTML {
	v.namePlaces = append(v.namePlaces, namePlace{appid, strings.Join(otherwise, "")})
	return template.HTML(fmt.Sprint(nameMark, len(v.namePlaces)-1, "-->"))
}

// AccountLink links to the page of an account, with its name beside its AppID.
func (v view) AccountLink(appid string) template.HTML {
	if appid == "" {
		return "–"
	}
	return template.HTML(`<a class="account" href="` + template.HTMLEscapeString(v.Keep(accountPage(appid))) + `">` +
		string(v.Named(appid)) + `<code>` + template.HTMLEscapeString(appid) + `</code></a>`)
}

const maxNamed = 200

// withNames returns a page with names of accounts at their places. One API call loads the first maxNamed names.
func (v *request) withNames(page string) string {
	parts, wanted := strings.Split(page, nameMark), map[string]bool{}
	for _, place := range v.namePlaces {
		if len(wanted) < maxNamed && place.appid != "" {
			wanted[place.appid] = true
		}
	}
	var names map[string]string
	if len(wanted) > 0 {
		var err error
		names, err = v.api.Accounts.ListNames(v.ctx(), slices.Sorted(maps.Keys(wanted)))
		if _, said := errors.AsType[*client.Problem](err); err != nil && !said { // the page is shown without names
			v.c.Log.ErrorContext(v.r.Context(), "account names not readable", "error", err)
		}
	}
	for i, part := range parts[1:] {
		index, rest, _ := strings.Cut(part, "-->")
		n, _ := strconv.Atoi(index)
		place := v.namePlaces[n]
		text := template.HTMLEscapeString(place.otherwise)
		if name := names[place.appid]; name != "" {
			text = "<bdi>" + template.HTMLEscapeString(name) + "</bdi>" + wordIf(place.otherwise == "", " ")
		}
		parts[i+1] = text + rest
	}
	return strings.Join(parts, "")
}

// Filter returns the account filter as a query parameter, preceded by suffix ("?" or "&"); "" without a filter.
func (v view) Filter(suffix string) template.URL {
	if !v.SignedIn || !v.Chosen() {
		return ""
	}
	return template.URL(suffix + "account=" + url.QueryEscape(v.Account()))
}

// Keep adds the account filter of this page to an address.
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

// AccountFilter returns the account filter for a GET form; "" without a filter.
func (v view) AccountFilter() string {
	if !v.SignedIn || !v.Chosen() {
		return ""
	}
	return v.Account()
}
