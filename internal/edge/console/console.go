// Package console serves the web pages for developers and operators of this server. All data and actions of the pages go through
// the admin API.
package console

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/edge/assets"
	"github.com/qrjump/qrjump/internal/edge/oidc"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/errortext"
	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/infra/semaphore"
)

// Root is the path prefix of all console pages.
const Root = "/console"

//go:embed templates locale static
var files embed.FS

func asset(name string) *assets.Asset {
	content, err := files.ReadFile("static/" + name)
	if err != nil {
		panic(err)
	}
	if !strings.HasPrefix(name, "uplot") {
		content = unread.ReplaceAll(content, nil)
	}
	return assets.NewAsset(Root+"/"+name, content)
}

// pathOf returns the path of a file that pages load.
func pathOf(name string) string { return static()[name].Path() }

// unread matches the parts of a style sheet or script that browsers skip: comments and indentation.
var unread = regexp.MustCompile(`(?m)^[ \t]*//[^\n]*\n|^[ \t]+|(?s:/\*.*?\*/)\n?`)

var (
	catalog = sync.OnceValue(func() *i18n.Catalog { return i18n.Open(files) })
	static  = sync.OnceValue(func() map[string]*assets.Asset {
		list := map[string]*assets.Asset{}
		for _, name := range append(chartFiles, "console.css", "console.js", "camera.js") {
			list[name] = asset(name)
		}
		return list
	})
	chartFiles = []string{"uplot.css", "uplot.js", "chart.js"}
	// templates contains the parsed pages. Each file fills the content area of the shared layout. The title of a page is the text with the
	// page's name as key, unless the file defines another title. Like the translations, the templates are parsed on first use, so that
	// commands that serve no pages do not wait for parsing.
	templates = sync.OnceValue(func() map[string]*template.Template {
		layout := template.Must(template.New("layout.html").Funcs(functions).ParseFS(files, "templates/layout.html",
			"templates/parts/*.html"))
		names, err := fs.Glob(files, "templates/*.html")
		if err != nil {
			panic(err)
		}
		list := map[string]*template.Template{}
		for _, name := range names {
			if short := strings.TrimSuffix(path.Base(name), ".html"); short != "layout" {
				text, err := files.ReadFile(name)
				if err != nil {
					panic(err)
				}
				list[short] = template.Must(template.Must(layout.Clone()).New("content").Parse(string(text)))
			}
		}
		return list
	})
)

// policy allows a page styles and scripts of this server, and pictures embedded in the page. Nothing is inline.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'; trusted-types qrjump"

// permitting returns a Permissions-Policy. camera is "(self)" on the page that scans codes, else "()"; all other features are disabled.
func permitting(camera string) string {
	return "camera=" + camera + ", microphone=(), geolocation=(), display-capture=(), usb=()"
}

// Console contains the pages and their dependencies.
type Console struct {
	// API handles requests to the admin API, and Scan handles requests to the scan API; As adds the caller to a request.
	API, Scan http.Handler
	As        func(*http.Request, iam.Caller) *http.Request
	People    *iam.Service
	Provider  *oidc.Provider // signs in people without a local password; nil = no provider
	// Open is set with --dev: every visitor then acts as this caller, without signing in; nil = people must sign in.
	Open *iam.Caller
	// AdminToken reports whether text is the admin token, or returns iam.ErrTooMany after too many wrong tokens.
	AdminToken func(r *http.Request, text string) (bool, error)
	// Demanded reports whether people with a role must use a second factor.
	Demanded func(role string) bool
	// Emulates reports whether the server is an emulator, which holds calls in memory and can move its clock.
	Emulates bool
	// Again repeats a wire API call in the name of an account and returns the request id of the new call; nil = unsupported by this server.
	Again func(ctx context.Context, account, endpoint, query, body string) (rid string, err error)
	// Secure reports whether a request arrived over TLS. TLSOnly reports whether to send an HSTS header, which makes browsers use
	// only TLS for this host, all its ports and its subdomains for a year.
	Secure, TLSOnly func(*http.Request) bool
	ClientIP        func(*http.Request) netip.Addr
	// Stopping reports whether the server is shutting down, so that streams end.
	Stopping func() bool
	// Shared returns the chart behind a link and the caller whose permissions apply, or iam.ErrNoShared.
	Shared func(ctx context.Context, text string) (iam.SharedLink, iam.Caller, error)
	// CertificateEnds returns the expiry time of the server's TLS certificate, and false without a certificate.
	CertificateEnds func() (time.Time, bool)
	Health          func(context.Context) Health
	Now             func() time.Time // the server's clock, which the emulator moves; nil = the system clock
	Wire            func() string    // base URL of the wire API
	Docs            string           // path of the documentation; "" = none on this server
	Version         string
	Log             *slog.Logger

	client   *client.Client
	pages    http.Handler
	decoding sync.Map            // sessions whose uploaded picture is being decoded
	reading  semaphore.Semaphore // limits concurrent decoding of pictures
	streams  atomic.Int64        // open streams
}

// Handler returns the handler for all paths below Root.
func (c *Console) Handler() http.Handler {
	c.client = newClient()
	mux := http.NewServeMux()
	for _, a := range static() {
		mux.Handle("GET "+a.Path(), a)
	}
	for pattern, serve := range c.waysIn() {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { c.visit(w, r, iam.Caller{}).run(serve) })
	}
	for pattern, serve := range routes() {
		mux.HandleFunc(pattern, c.signedIn(serve))
	}
	mux.HandleFunc("GET /console", c.signedIn((homePages{}).landing))
	mux.HandleFunc("/console/", c.signedIn((*request).nowhere))
	c.pages = mux
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.visit(w, r, iam.Caller{}).run(func(v *request) error { return v.fail(http.StatusForbidden, v.say("fault.origin")) })
	}))
	return c.guard(sameOrigin.Handler(mux))
}

// Routes returns the patterns of all pages and forms, including the sign-in pages.
func Routes() []string {
	return append(slices.Sorted(maps.Keys(routes())), slices.Sorted(maps.Keys((&Console{}).waysIn()))...)
}

// waysIn returns the handlers of the pages that need no session, by pattern: sign-in pages and shared charts.
func (c *Console) waysIn() map[string]handler {
	return map[string]handler{"GET /console/login": c.loginPage, "POST /console/login": c.login, "POST /console/logout": c.logout,
		"GET /console/login/provider": c.atProvider(c.toProvider), "GET /console/login/callback": c.atProvider(c.callbackPage),
		"POST /console/login/callback": c.atProvider(c.callback), "GET /console/shared/{text}": c.sharedPage}
}

// guard adds security headers against attacks from other sites to every response.
func (c *Console) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Permissions-Policy", permitting("()"))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if c.TLSOnly(r) {
			h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
		}
		// The language that a visitor selects is stored in a cookie.
		if l, ok := i18n.Parse(r.URL.Query().Get("lang")); ok {
			c.setCookie(w, r, i18n.Cookie, string(l), "/", year)
		}
		next.ServeHTTP(w, r)
	})
}

// handler writes the response to a request. A handler that returns another error than errAnswered has written no response; run then shows
// the page for the error.
type handler func(*request) error

// maxBody is the maximum size in bytes of a request body: that of the largest upload, of which upload accepts twice the size in a form.
const maxBody = 2 * maxBulk

// run calls serve.
func (v *request) run(serve handler) {
	if v.r.ContentLength > maxBody {
		v.fail(http.StatusRequestEntityTooLarge, v.say("bulk.large"))
		return
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxBody)
	if err := serve(v); err != nil && err != errAnswered {
		v.failed(err)
	}
}

// request is one request for a console page.
type request struct {
	c      *Console
	w      http.ResponseWriter
	r      *http.Request
	caller iam.Caller
	api    *client.Client // client of the admin API and the scan API
	i18n.Localizer
	fresh bool   // the visitor wants to create an object, so a call must not replace an existing object
	saw   string // the revision of the object that a call changes; "" = the revision in the form
	// impersonating reports whether an admin views the console as another role, which forbids changes.
	impersonating bool
	rejected      *rejectedForm // the rejected form to show again; nil = none
	namePlaces    []namePlace
	shared        bool              // the page is a shared chart without links to other pages
	known         map[string]string // display names in statistics, by dimension and value
	// sections is the navigation; nil = not built yet.
	sections    []section
	parsed      url.Values // the parameters in parsedQuery; see params
	parsedQuery string
	now         time.Time      // see clock
	zone        *time.Location // time zone of the reader; nil = not determined yet; see pageTime
}

func (c *Console) visit(w http.ResponseWriter, r *http.Request, caller iam.Caller) *request {
	form, _ := r.Context().Value(rejectedKey{}).(*rejectedForm)
	return &request{c: c, w: w, r: r, caller: caller, api: c.client, Localizer: catalog().In(i18n.Preferred(r)), rejected: form}
}

// say returns a localised text.
func (v *request) say(key string, values ...any) string {
	text, err := v.Say(key, values...)
	if err != nil {
		panic(err)
	}
	return text
}

// signedIn returns a handler that calls the function serve for signed-in people and redirects other visitors to the sign-in page.
func (c *Console) signedIn(serve handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		stream := r.Header.Get("Accept") == "text/event-stream"
		validate := c.People.BySession
		if stream { // a browser would reconnect a redirected stream again and again
			validate = c.People.ValidateSession
		}
		caller, err := c.callerOf(r, validate)
		if err == nil {
			v := c.visit(w, r, caller)
			if v.lacksFactor() {
				v.setUp(stream)
				return
			}
			if v.caller, v.impersonating = seenAs(r, caller); !v.rejectImpersonated() {
				v.run(serve)
			}
			return
		}
		v := c.visit(w, r, iam.Caller{})
		if err != iam.ErrNoSession {
			c.Log.ErrorContext(r.Context(), "session lookup failed", "error", err)
			v.fail(http.StatusServiceUnavailable, v.say("fault.store"))
			return
		}
		if stream {
			http.Error(w, "the session ended", http.StatusUnauthorized)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			c.expired(w, r)
			return
		}
		if c.arrives(w, r) {
			return
		}
		http.Redirect(w, r, Root+"/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
	}
}

// callerOf returns the signed-in caller, or iam.ErrNoSession. validate is BySession, which extends the session, or ValidateSession, which
// does not: the page of a stream may be unattended.
func (c *Console) callerOf(r *http.Request, validate func(context.Context, string) (iam.Caller, error)) (iam.Caller, error) {
	if cookie, err := r.Cookie(c.cookieName(r, sessionCookie)); err == nil {
		caller, err := validate(r.Context(), cookie.Value)
		if err != iam.ErrNoSession || c.Open == nil {
			return caller, err
		}
	}
	if c.Open != nil {
		return *c.Open, nil
	}
	return iam.Caller{}, iam.ErrNoSession
}

// redirect redirects to another page and preserves the account filter.
func (v *request) redirect(to string) error {
	account := v.params().Get("account")
	if u, err := url.Parse(to); err == nil && account != "" && v.caller.Role != "" && isBelowPage(u.Path, Root) &&
		!u.Query().Has("account") {
		q := u.Query()
		q.Set("account", account)
		u.RawQuery = q.Encode()
		to = u.String()
	}
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return errAnswered
}

// done redirects to another page after an action, or returns the error of the action.
func (v *request) done(to string, err error) error {
	if err != nil {
		return err
	}
	return v.redirect(to)
}

// view is the data passed to a template.
type view struct {
	*request
	Name string // of the page
	Data any
	Page any    // the data of the whole page, while Data may be that of a part
	Note string // a message about the action that just succeeded
	Look, Style, Script, Copies,
	Docs, Version, Self, Theme string
	SignedIn, Emulates bool
}

// page shows a page, or returns the error of the calls for its data.
func (v *request) page(name string, data any, err error) error {
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, name, data)
}

func (v *request) show(status int, name string, data any) error {
	s := &view{request: v, Name: name, Data: data, Page: data, Look: assets.Sheet.Path(), Style: pathOf("console.css"),
		Script: pathOf("console.js"), Copies: assets.Script.Path(), Docs: v.c.Docs, Version: v.c.Version,
		Self: v.r.URL.RequestURI(), SignedIn: v.caller.Role != "", Emulates: v.c.Emulates}
	for _, theme := range []string{cookieOf(v.r, "qrjump_theme"), v.params().Get("theme")} {
		if theme == "light" || theme == "dark" {
			s.Theme = theme
		}
	}
	if done := v.params().Get("done"); done != "" && v.Has("done."+done) {
		s.Note = v.say("done." + done)
	}
	var b bytes.Buffer
	execute := func() error {
		b.Reset()
		v.namePlaces = nil
		if v.rejected != nil {
			v.rejected.begin()
		}
		return templates()[name].ExecuteTemplate(&b, "layout.html", s)
	}
	err := execute()
	if err == nil && v.rejected != nil { // after the first pass, the location of the rejected form is known
		err = execute()
	}
	if err != nil {
		v.c.Log.ErrorContext(v.r.Context(), "page not rendered", "page", name, "error", err)
		http.Error(v.w, "the page could not be rendered: see the server's log", http.StatusInternalServerError)
		return errAnswered
	}
	v.write(status, v.withNames(b.String()))
	return errAnswered
}

// write sends a rendered page.
func (v *request) write(status int, page string) {
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(v.Language))
	h.Set("Vary", "Accept-Encoding, Accept-Language, Cookie")
	// The length of a compressed page leaks nothing to other sites, because the session cookie is not sent with their requests.
	if assets.TakesGzip(v.r.Header.Get("Accept-Encoding")) {
		page = string(assets.Gzip([]byte(page), gzip.BestSpeed))
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(page)))
	v.w.WriteHeader(status)
	if v.r.Method != http.MethodHead {
		_, _ = io.WriteString(v.w, page)
	}
}

// fail shows an error message: on the page of the form if a form was submitted, else on an error page.
func (v *request) fail(status int, text string) error { return v.refuse(status, "", text) }

// nowhere shows the error page of an address without a page.
func (v *request) nowhere() error { return v.fail(http.StatusNotFound, v.say("fault.nowhere")) }

// refuse shows an error message for a field of the submitted form.
func (v *request) refuse(status int, field, text string) error {
	if !v.showForm(status, map[string]string{field: text}) {
		return v.show(status, "error", text)
	}
	return errAnswered
}

// showInvalid shows the submitted form again if there are faults, else it returns nil.
func (v *request) showInvalid(faults map[string]string) error {
	if len(faults) == 0 {
		return nil
	}
	if !v.showForm(http.StatusUnprocessableEntity, faults) {
		return v.show(http.StatusUnprocessableEntity, "error", strings.Join(slices.Sorted(maps.Values(faults)), " "))
	}
	return errAnswered
}

// failed shows the page for an API error.
func (v *request) failed(err error) {
	said, refused := errors.AsType[*client.Problem](err)
	otherServer, wrong := errors.AsType[*client.WrongServer](err)
	switch {
	case refused && said.Status == http.StatusServiceUnavailable && v.caller.Role == "":
		v.fail(said.Status, v.say("fault.store"))
	case client.PreconditionFailed(err) != nil:
		v.changed(said)
	case refused:
		if !v.showForm(said.Status, v.faultsOf(said)) {
			v.show(said.Status, "error", v.problemText(said))
		}
	case wrong && otherServer.NoSuchCall: // an empty name in the API path reached another route
		v.nowhere()
	default:
		v.c.Log.ErrorContext(v.r.Context(), "page failed", "path", v.r.URL.Path, "error", err)
		v.fail(http.StatusInternalServerError, v.say("fault.inside"))
	}
}

// problemText returns the reason of an API error in the reader's language.
func (v *request) problemText(problemText *client.Problem) string {
	return v.Reason(cmp.Or(problemText.Detail, problemText.Title, http.StatusText(problemText.Status)))
}

// Reason translates an API error text to the reader's language.
func (v *request) Reason(text string) string { return errortext.In(v.Language, text) }

// PagePath returns the path of this page.
func (v view) PagePath() string { return v.r.URL.EscapedPath() }

// WithQuery returns the address of this page with one query parameter changed.
func (v view) WithQuery(name, value string) string { return v.address(v.r.URL.Path, name, value) }

// params returns the query parameters of the page's address, which callers must not change.
func (v *request) params() url.Values {
	if v.parsed == nil || v.parsedQuery != v.r.URL.RawQuery {
		v.parsed, v.parsedQuery = v.r.URL.Query(), v.r.URL.RawQuery
	}
	return v.parsed
}

// address returns the address of a page with the query of this page, changed by pairs of a name and a value; "" removes the parameter.
func (v *request) address(path string, pairs ...string) string {
	q := maps.Clone(v.params())
	q.Del("done")
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "" {
			q.Del(pairs[i])
		}
	}
	return path + "?" + q.Encode()
}

// Query returns the query string of the page's address.
func (v view) Query() template.URL { return template.URL(v.r.URL.Query().Encode()) }

// WithData returns a copy of this view with other data, for a template of a part of the page.
func (v *view) WithData(data any) *view {
	part := *v
	part.Data = data
	return &part
}

// ChartFile returns the path of a file that draws charts in the browser: its style sheet, uPlot, or the script that calls uPlot.
func (view) ChartFile(i int) string { return pathOf(chartFiles[i]) }

// Q returns a query parameter of the request.
func (v view) Q(name string) string { return v.params().Get(name) }

// HasRole reports whether the visitor's role includes another role; pages hide actions that the server would reject.
func (v view) HasRole(role string) bool {
	return adminroute.Role(v.caller.Role).AtLeast(adminroute.Role(role))
}

// All reports whether the visitor may see all accounts.
func (v view) All() bool { return len(v.caller.Accounts) == 0 }

// UserName returns the name of the signed-in person.
func (v view) UserName() string {
	if v.caller.Name == "" {
		return v.say("who.admin")
	}
	return v.caller.Name
}

// In returns the English or the Chinese text, depending on the reader's language.
func (v view) In(english, chinese string) string {
	if v.Chinese() && chinese != "" {
		return chinese
	}
	return english
}

var functions = template.FuncMap{
	"path":    endpointOf,
	"when":    func(t time.Time) string { return t.Format("2006-01-02 15:04:05 -07:00") },
	"rfc3339": rfc3339,
	"ms":      func(d time.Duration) string { return strconv.FormatFloat(float64(d)/1e6, 'f', 1, 64) },
	"join":    strings.Join,
	"seg":     url.PathEscape,
	"has":     func(list []string, name string) bool { return slices.Contains(list, name) },
	"nice":    nice,
	"keyed":   keyed,
	"texts":   texts,
	"only":    wordIf,
	"enum":    func(name string) []string { return enums[name] },
	// platformFields returns the fields of a platform that can be changed.
	"platformFields": func() string {
		return "event_url,max=2048,mode=url,plain ip_allowlist,max=4096,plain redirect_hosts,max=4096,plain secret,max=256 " +
			"message_token,max=64 encoding_aes_key,max=43,hint=platform.secrets.hint"
	},

	"separated": func(n any) string { return fmt.Sprint(figureOf(n)) },
	"spark":     spark,
	"sum":       sum,
}

func sum(list []int64) (all int64) {
	for _, n := range list {
		all += n
	}
	return all
}

// nice indents a JSON text for reading; other texts are returned unchanged.
func nice(text string) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(text), "", "  ") != nil {
		return text
	}
	return b.String()
}

// prefer stores the preferences of a reader in cookies; the server does not store the preferences.
func (c *Console) prefer(v *request) error {
	if v.r.PathValue("of") == "theme" {
		c.setCookie(v.w, v.r, "qrjump_theme", v.r.FormValue("theme"), Root, year)
	}
	if zone := v.r.FormValue("zone"); v.r.Form.Has("zone") && (zone == "" || slices.Contains(zones(), zone)) {
		c.setCookie(v.w, v.r, zoneCookie, zone, Root, year)
	}
	return v.redirect(localPath(v.r.FormValue("back")))
}

// localPath returns the path in its argument if this is the path of a console page, else the path of the first page: a redirect must never
// lead to another site.
func localPath(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(to, Root+"/") || strings.ContainsAny(to, "\\\r\n") ||
		strings.HasPrefix(u.Path, Root+"/login") {
		return Root + "/"
	}
	return u.RequestURI()
}
