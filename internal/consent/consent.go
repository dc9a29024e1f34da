// Package consent is the page on which a person lets a third-party platform
// act for an account: who asks, for what, for which account. It knows HTML and
// redirects; what an agreement does is decided in accounts.
package consent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/phrase"
)

// Paths are where the platform has the page: for a computer, and for a phone in
// the two forms that client libraries build. Contract: rules 3.2.
var Paths = []string{"/cgi-bin/componentloginpage", "/safe/bindcomponent", "/wxaopen/safe/bindcomponent"}

// Page serves the page.
type Page struct {
	Accounts *accounts.Directory
	Log      *slog.Logger
	// Admin reports whether a text is the admin token, without which nobody may
	// agree, and of one that is not whether too many came from there before it; nil =
	// anybody may agree, and sees the names of all accounts.
	Admin func(r *http.Request, token string) (right, tooMany bool)
}

const (
	maxForm  = 64 << 10
	maxShown = 200 // accounts to choose from
)

//go:embed page.html
var pageText string

//go:embed page.css
var style string

//go:embed locale
var locale embed.FS

var book = phrase.Open(locale)

var page = template.Must(template.New("page").Parse(pageText))

// policy lets the page have its own style and nothing else. A browser holds
// form-action against the redirect after the form too, so it names where the
// person is sent back.
func policy(back string) string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'" + back + "; base-uri 'none'; frame-ancestors 'none'"
}

// Handler returns the page behind a guard against forms of other origins.
func (p *Page) Handler() http.Handler {
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		show(w, http.StatusForbidden, "", view{Fault: book.Text("other_page")})
	}))
	return guard.Handler(http.HandlerFunc(p.serve))
}

type set struct {
	ID      int
	Name    phrase.Text
	Checked bool
	// Exclusive: one platform at a time.
	Exclusive bool
}

type choice struct {
	AppID, Name string
	Kind        phrase.Text
	Checked     bool
}

// view is what the page shows; a Fault alone is an error page.
type view struct {
	Style     template.CSS
	Fault     phrase.Text
	Done      phrase.Text
	Platform  string
	Back      string // the host that the person returns to
	Sets      []set
	Choices   []choice
	TypeAppID bool // nobody may see the accounts: the person types the AppID
	AppID     string
	AskToken  bool
	Notice    phrase.Text
	Status    int // of a page with a notice; 0 = 422
	Taken     *accounts.Taken
}

// Both is a text in both languages.
func (view) Both(key string) string {
	return book.Text(key).Chinese() + " · " + book.Text(key).English()
}

// In is a text in one language, with the names of it as code.
func (view) In(language phrase.Language, key string, with ...any) template.HTML {
	for i, one := range with {
		if name, is := one.(string); is {
			with[i] = "<code>" + template.HTMLEscapeString(name) + "</code>"
		}
	}
	return template.HTML(book.Text(key, with...).In(language)) // our words
}

func show(w http.ResponseWriter, status int, back string, v view) {
	v.Style = template.CSS(style) // ours, see policy
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy(back))
	h.Set("X-Content-Type-Options", "nosniff")
	// Of other sites none may learn the pre_auth_code; the guard needs the Origin.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// request is what the address of the page asks for.
type request struct {
	component   accounts.Component
	preAuthCode string
	back        *url.URL
	kinds       []accounts.Kind
	only        string // biz_appid
	sets        []int
}

// refused is a fault of the address, for the person to read.
type refused struct{ phrase.Text }

func (r refused) Error() string { return r.String() }

func (p *Page) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, POST")
		show(w, http.StatusMethodNotAllowed, "", view{Fault: book.Text("method")})
		return
	}
	asked, err := p.check(r.Context(), r.URL.Query())
	if err != nil {
		p.fail(w, r, err)
		return
	}
	if r.Method == http.MethodPost {
		p.decide(w, r, asked)
		return
	}
	p.ask(w, r, asked, view{}, asked.sets)
}

// fail answers an error page, never a redirect.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, err error) {
	fault, status := book.Text("inside"), http.StatusInternalServerError
	if bad, ok := errors.AsType[refused](err); ok {
		fault, status = bad.Text, http.StatusBadRequest
	} else if invalid, ok := errors.AsType[accounts.Invalid](err); ok {
		fault, status = book.Text("invalid", string(invalid)), http.StatusBadRequest
	} else {
		p.Log.ErrorContext(r.Context(), "the authorisation page failed", "error", err)
	}
	show(w, status, "", view{Fault: fault})
}

// check judges everything that the address says.
func (p *Page) check(ctx context.Context, q url.Values) (request, error) {
	var asked request
	var err error
	asked.component, err = p.Accounts.GetComponent(ctx, q.Get("component_appid"))
	if errors.Is(err, accounts.ErrNoComponent) {
		return asked, refused{book.Text("no_component")}
	}
	if err != nil {
		return asked, err
	}
	// Before the code: a wrong address must not tell whether a code is good.
	var ok bool
	if asked.back, ok = backTo(asked.component.RedirectHosts, q.Get("redirect_uri")); !ok {
		return asked, refused{book.Text("redirect_uri")}
	}
	asked.preAuthCode = q.Get("pre_auth_code")
	if err := p.Accounts.CheckPreAuthCode(ctx, asked.component.AppID, asked.preAuthCode); err != nil {
		return asked, err
	}
	official := []accounts.Kind{accounts.ServiceAccount, accounts.SubscriptionAccount}
	switch q.Get("auth_type") {
	case "1":
		asked.kinds = official
	case "2":
		asked.kinds = []accounts.Kind{accounts.MiniProgram}
	// Choice(consent.kinds): what 4, 5 and 8 tell apart on the platform is not documented; all
	// of them may choose.
	case "", "3", "4", "5", "6", "8":
		asked.kinds = append(official, accounts.MiniProgram)
	default:
		return asked, refused{book.Text("auth_type")}
	}
	asked.only = q.Get("biz_appid")
	asked.sets = accounts.AskedByDefault
	if list := q.Get("category_id_list"); list != "" {
		asked.sets = nil
		for id := range strings.SplitSeq(list, "|") {
			n, err := strconv.Atoi(id)
			if err != nil || accounts.ValidSets([]int{n}) != nil {
				return asked, refused{book.Text("category_id_list")}
			}
			asked.sets = append(asked.sets, n)
		}
		slices.Sort(asked.sets)
		asked.sets = slices.Compact(asked.sets)
	}
	return asked, nil
}

// backTo reads where a person is sent back: an http or https address whose
// host, with its port, is exactly one of the platform's. Everything that
// readers of addresses disagree on is refused.
func backTo(hosts []string, address string) (*url.URL, bool) {
	odd := func(r rune) bool { return r <= ' ' || r == '\\' || r >= 0x7f }
	if len(address) > 2048 || strings.ContainsFunc(address, odd) {
		return nil, false
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Opaque != "" || strings.Contains(u.Host, "@") {
		return nil, false
	}
	host := strings.ToLower(u.Host)
	host = strings.TrimSuffix(host, map[string]string{"http": ":80", "https": ":443"}[u.Scheme])
	for _, h := range hosts {
		if host != "" && strings.ToLower(h) == host {
			u.Host = host
			return u, true
		}
	}
	return nil, false
}

// origin is what a policy calls the place a person returns to.
func (a request) origin() string { return " " + a.back.Scheme + "://" + a.back.Host }

// ask shows the question.
func (p *Page) ask(w http.ResponseWriter, r *http.Request, asked request, v view, checked []int) {
	v.Platform, v.Back = asked.component.AppID, asked.back.Host
	v.AskToken = p.Admin != nil
	for _, id := range asked.sets {
		v.Sets = append(v.Sets, set{ID: id, Name: accounts.SetName(id), Checked: slices.Contains(checked, id),
			Exclusive: accounts.Exclusive(id)})
	}
	if p.Admin != nil {
		v.TypeAppID = true
		if asked.only != "" {
			v.AppID = asked.only
		}
	} else {
		var err error
		if v.Choices, err = p.choices(r.Context(), asked, v.AppID); err != nil {
			p.fail(w, r, err)
			return
		}
		if len(v.Choices) == 0 {
			p.fail(w, r, refused{book.Text("no_account")})
			return
		}
	}
	status := http.StatusOK
	if !v.Notice.IsZero() || v.Taken != nil {
		status = cmp.Or(v.Status, http.StatusUnprocessableEntity)
	}
	show(w, status, asked.origin(), v)
}

// choices lists the accounts that a person may choose from.
func (p *Page) choices(ctx context.Context, asked request, chosen string) (list []choice, err error) {
	for after := ""; len(list) < maxShown; {
		accountPage, err := p.Accounts.List(ctx, after, 500)
		if err != nil || len(accountPage) == 0 {
			return list, err
		}
		for _, a := range accountPage {
			after = a.AppID
			if slices.Contains(asked.kinds, a.Kind) && (asked.only == "" || asked.only == a.AppID) && len(list) < maxShown {
				list = append(list, choice{AppID: a.AppID, Name: a.Name, Kind: book.Text("kind." + string(a.Kind)),
					Checked: a.AppID == chosen || asked.only == a.AppID})
			}
		}
	}
	return list, nil
}

// decide does what the person answered.
func (p *Page) decide(w http.ResponseWriter, r *http.Request, asked request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		p.fail(w, r, refused{book.Text("form")})
		return
	}
	form := r.PostForm
	if form.Get("decision") != "agree" {
		show(w, http.StatusOK, "", view{Done: book.Text("refused")})
		return
	}
	agreed := accounts.Agreement{Component: asked.component.AppID, PreAuthCode: asked.preAuthCode,
		AppID: strings.TrimSpace(form.Get("appid")), Move: form.Get("move") == "1"}
	for _, text := range form["set"] {
		// Only what the platform asked for.
		if id, err := strconv.Atoi(text); err == nil && slices.Contains(asked.sets, id) {
			agreed.Sets = append(agreed.Sets, id)
		}
	}
	again := view{AppID: agreed.AppID}
	if p.Admin != nil && !p.admin(w, r, form.Get("admin_token"), &again) {
		p.ask(w, r, asked, again, agreed.Sets)
		return
	}
	account, err := p.Accounts.Get(r.Context(), agreed.AppID)
	if errors.Is(err, accounts.ErrNoAccount) || err == nil &&
		(!slices.Contains(asked.kinds, account.Kind) || asked.only != "" && asked.only != account.AppID) {
		again.Notice = book.Text("choose.account")
		p.ask(w, r, asked, again, agreed.Sets)
		return
	}
	if err != nil {
		p.fail(w, r, err)
		return
	}
	if len(agreed.Sets) == 0 {
		again.Notice = book.Text("choose.set")
		p.ask(w, r, asked, again, nil)
		return
	}
	code, err := p.Accounts.Agree(r.Context(), agreed)
	if taken, ok := errors.AsType[accounts.Taken](err); ok {
		again.Taken = &taken
		p.ask(w, r, asked, again, agreed.Sets)
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
	w.Header().Set("Location", withCode(asked.back, code))
	w.WriteHeader(http.StatusSeeOther)
}

// admin reports whether a text is the admin token, and says on the page to come that it is not.
func (p *Page) admin(w http.ResponseWriter, r *http.Request, token string, v *view) bool {
	v.Notice = book.Text("token.missing")
	if token == "" {
		return false
	}
	right, tooMany := p.Admin(r, token)
	v.Notice = book.Text("token.wrong")
	if tooMany {
		w.Header().Set("Retry-After", "60")
		v.Status = http.StatusTooManyRequests
		v.Notice = book.Text("token.too_many")
	}
	if right {
		v.Notice = phrase.Text{}
	}
	return right
}

// withCode adds the code to an address, which keeps its own parameters as they
// are.
func withCode(back *url.URL, code accounts.Issued) string {
	to := *back
	added := url.Values{"auth_code": {code.Text}, "expires_in": {strconv.Itoa(code.ExpiresIn)}}.Encode()
	if q := to.Query(); q.Has("auth_code") || q.Has("expires_in") {
		q.Del("auth_code")
		q.Del("expires_in")
		to.RawQuery = q.Encode()
	}
	if to.RawQuery != "" {
		added = to.RawQuery + "&" + added
	}
	to.RawQuery, to.ForceQuery = added, false
	if to.Path == "" {
		to.Path = "/"
	}
	return to.String()
}
