// Package consent serves the page on which a person authorises a third-party platform to act for an account; the page shows the
// platform, the requested permissions and the account. The package handles HTML and redirects; package accounts interprets the link
// and records the consent.
package consent

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/edge/assets"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// Paths lists the paths of the authorisation page, which are those of the platform: one path for computers, and the two paths that client
// libraries use for phones. Contract: rules §3.2.
var Paths = []string{"/cgi-bin/componentloginpage", "/safe/bindcomponent", "/wxaopen/safe/bindcomponent"}

// Page serves the authorisation page.
type Page struct {
	Accounts *accounts.Service
	Log      *slog.Logger
	// Admin reports whether token is the admin token, which a person must enter to agree; an error means that the client sent too many
	// wrong tokens. If Admin is nil, no token is required, and the page shows the names of all accounts.
	Admin func(r *http.Request, token string) (bool, error)
	// HandOver returns the address at which a signed-in person agrees to the request with this reference.
	HandOver func(reference string) string
}

const (
	maxForm  = 64 << 10
	maxShown = 50 // number of accounts offered at once
	// searchFrom is the number of accounts from which the page offers a search field.
	searchFrom = 10
)

//go:embed page.html
var pageText string

//go:embed locale
var locale embed.FS

var catalog = i18n.Open(locale)

var page = sync.OnceValue(func() *template.Template { return template.Must(template.New("page").Parse(pageText)) })

// policy returns a Content-Security-Policy that allows only the styles of this server. Browsers apply form-action also to the
// redirect after a form submission, so the policy includes the redirect target.
func policy(back string) string {
	return "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'" + back + "; base-uri 'none'; frame-ancestors 'none'"
}

// Handler returns the page, protected against cross-origin form submissions.
func (p *Page) Handler() http.Handler {
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		show(w, r, http.StatusForbidden, "", view{Fault: catalog.Text("other_page")})
	}))
	return guard.Handler(http.HandlerFunc(p.serve))
}

type set struct {
	ID      int
	Name    i18n.Message
	Checked bool
	// Exclusive reports whether only one platform at a time can hold the permission set.
	Exclusive bool
}

type choice struct {
	AppID, Name string
	Kind        i18n.Message
	Checked     bool
}

// view contains the data of the page; a view with only a Fault renders an error page.
type view struct {
	i18n.Localizer
	Look, OtherURL string // Look is the address of the style sheet, OtherURL that of this page in the other language
	Fault          i18n.Message
	Done           i18n.Message
	Platform       string
	Back           string // the host to which the person is redirected
	Sets           []set
	Choices        []choice
	Substring      string // the search text that filters the offered accounts
	Search, More   bool
	Guarded        bool // the page lists no accounts: the holder of the admin token types the AppID
	HandOver       string
	AppID          string
	Notice         i18n.Message
	InvalidField   string // the name of the field to which the notice refers
	Status         int    // the HTTP status of a page with a notice; 0 = 422
	Conflict       *accounts.ExclusiveConflict
}

// Text returns a localised text in the reader's language.
func (v view) Text(t i18n.Message) string { return t.In(v.Language) }

// Named returns a localised text in which the inserted names are formatted as code.
func (v view) Named(key string, values ...any) template.HTML {
	for i, value := range values {
		if name, is := value.(string); is {
			values[i] = "<code>" + template.HTMLEscapeString(name) + "</code>"
		}
	}
	return template.HTML(catalog.Text(key, values...).In(v.Language)) // our words
}

func show(w http.ResponseWriter, r *http.Request, status int, back string, v view) {
	v.Localizer, v.Look = catalog.In(i18n.Preferred(r)), assets.Sheet.Path()
	q := r.URL.Query()
	q.Set("lang", "zh")
	if v.Chinese() {
		q.Set("lang", "en")
	}
	v.OtherURL = "?" + q.Encode()
	var b bytes.Buffer
	if err := page().Execute(&b, v); err != nil {
		http.Error(w, "the page could not be rendered", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(v.Language))
	h.Set("Vary", "Accept-Language, Cookie")
	h.Set("Content-Security-Policy", policy(back))
	h.Set("X-Content-Type-Options", "nosniff")
	// The value same-origin hides the pre_auth_code from other sites and keeps the Origin header, which the cross-origin protection needs.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

func (p *Page) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, POST")
		show(w, r, http.StatusMethodNotAllowed, "", view{Fault: catalog.Text("method")})
		return
	}
	asked, err := p.Accounts.ReadRequest(r.Context(), r.URL.Query())
	if err != nil {
		p.fail(w, r, err)
		return
	}
	if r.Method == http.MethodPost {
		p.decide(w, r, asked)
		return
	}
	p.showForm(w, r, asked, view{}, asked.Sets)
}

// fail shows an error page; it never redirects.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, err error) {
	fault, status := catalog.Text("inside"), http.StatusInternalServerError
	if bad, ok := errors.AsType[accounts.BadRequest](err); ok {
		fault, status = bad.Message, http.StatusBadRequest
	} else if invalid, ok := errors.AsType[accounts.Invalid](err); ok {
		fault, status = catalog.Text("invalid", string(invalid)), http.StatusBadRequest
	} else {
		p.Log.ErrorContext(r.Context(), "the authorisation page failed", "error", err)
	}
	show(w, r, status, "", view{Fault: fault})
}

// showForm shows the consent form.
func (p *Page) showForm(w http.ResponseWriter, r *http.Request, asked accounts.Request, v view, checked []int) {
	v.Platform, v.Back = asked.Component.AppID, asked.Back.Host
	for _, id := range asked.Sets {
		v.Sets = append(v.Sets, set{ID: id, Name: accounts.SetName(id), Checked: slices.Contains(checked, id),
			Exclusive: accounts.Exclusive(id)})
	}
	if v.Guarded = p.Admin != nil; v.Guarded {
		v.AppID = cmp.Or(asked.Only, v.AppID)
		if reference := p.Accounts.SealRequest(r.URL.Query()); reference != "" {
			v.HandOver = p.HandOver(reference)
		}
	} else if err := p.choose(r, asked, &v); err != nil {
		p.fail(w, r, err)
		return
	} else if len(v.Choices) == 0 && v.Substring == "" {
		show(w, r, http.StatusBadRequest, "", view{Fault: catalog.Text("no_account")})
		return
	}
	status := http.StatusOK
	if !v.Notice.IsZero() || v.Conflict != nil {
		status = cmp.Or(v.Status, http.StatusUnprocessableEntity)
	}
	show(w, r, status, " "+asked.Origin(), v)
}

// choose fills in the accounts that a person may choose from. An account that was already chosen stays in the list while the person
// searches for others.
func (p *Page) choose(r *http.Request, asked accounts.Request, v *view) error {
	list, hasMore, err := p.Accounts.Candidates(r.Context(), asked, v.Substring, maxShown, func(string) bool { return true })
	if err != nil {
		return err
	}
	if chosen, err := p.Accounts.Get(r.Context(), v.AppID); err == nil && asked.Suits(chosen) &&
		!slices.ContainsFunc(list, func(a accounts.Account) bool { return a.AppID == chosen.AppID }) {
		list = append([]accounts.Account{chosen}, list...)
	}
	v.More, v.Search = hasMore, hasMore || v.Substring != "" || len(list) > searchFrom
	for _, a := range list {
		v.Choices = append(v.Choices, choice{AppID: a.AppID, Name: a.Name, Kind: catalog.Text("kind." + string(a.Kind)),
			Checked: a.AppID == v.AppID || asked.Only == a.AppID})
	}
	return nil
}

// decide executes the decision that the person submitted.
func (p *Page) decide(w http.ResponseWriter, r *http.Request, asked accounts.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		show(w, r, http.StatusBadRequest, "", view{Fault: catalog.Text("form")})
		return
	}
	form := r.PostForm
	agreed := accounts.Agreement{Component: asked.Component.AppID, PreAuthCode: asked.PreAuthCode,
		AppID: strings.TrimSpace(form.Get("appid")), ForceExclusive: form.Get("move") == "1"}
	for _, text := range form["set"] {
		// Only permission sets that the platform requested are accepted.
		if id, err := strconv.Atoi(text); err == nil && slices.Contains(asked.Sets, id) {
			agreed.Sets = append(agreed.Sets, id)
		}
	}
	secondView := view{AppID: agreed.AppID, Substring: strings.TrimSpace(form.Get("part"))}
	switch form.Get("decision") {
	case "approve":
	case "find":
		p.showForm(w, r, asked, secondView, agreed.Sets)
		return
	default:
		show(w, r, http.StatusOK, "", view{Done: catalog.Text("refused")})
		return
	}
	if p.Admin != nil {
		if !p.admin(w, r, form.Get("admin_token"), &secondView) {
			p.showForm(w, r, asked, secondView, agreed.Sets)
			return
		}
		r = r.WithContext(accounts.WithActor(r.Context(), accounts.Actor{ActorID: "admin"}))
	}
	account, err := p.Accounts.Get(r.Context(), agreed.AppID)
	if errors.Is(err, accounts.ErrNoAccount) || err == nil && !asked.Suits(account) {
		secondView.Notice, secondView.InvalidField = catalog.Text("choose.account"), "appid"
		p.showForm(w, r, asked, secondView, agreed.Sets)
		return
	}
	if err != nil {
		p.fail(w, r, err)
		return
	}
	if len(agreed.Sets) == 0 {
		secondView.Notice, secondView.InvalidField = catalog.Text("choose.set"), "set"
		p.showForm(w, r, asked, secondView, nil)
		return
	}
	code, err := p.Accounts.Agree(r.Context(), agreed)
	if taken, ok := errors.AsType[accounts.ExclusiveConflict](err); ok {
		secondView.Conflict = &taken
		p.showForm(w, r, asked, secondView, agreed.Sets)
		return
	}
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.Log.InfoContext(r.Context(), "an account authorised a platform", "account", agreed.AppID, "component", agreed.Component,
		"permission_sets", agreed.Sets)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Location", asked.Return(code))
	w.WriteHeader(http.StatusSeeOther)
}

// admin reports whether token is the admin token, and otherwise adds an error notice to the next page.
func (p *Page) admin(w http.ResponseWriter, r *http.Request, token string, v *view) bool {
	v.Notice, v.InvalidField = catalog.Text("token.missing"), "admin_token"
	if token == "" {
		return false
	}
	right, err := p.Admin(r, token)
	v.Notice = catalog.Text("token.wrong")
	if err != nil {
		w.Header().Set("Retry-After", "60")
		v.Status = http.StatusTooManyRequests
		v.Notice = catalog.Text("token.too_many")
	}
	if right {
		v.Notice, v.InvalidField = i18n.Message{}, ""
	}
	return right
}
