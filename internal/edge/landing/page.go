package landing

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/branding"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// view contains the language-independent data of a page.
type view struct {
	Kind string // kind of page: landing, code or notice
	// Key is the verdict on a code (active, not_active, frozen, void, copied, redeemed, unsure, weak, pin, wrong_pin, no_pin) or the kind
	// of notice (missing, gone, wrong, limited, away, refused).
	Key string

	App  string
	Link string
	Open template.URL // the address that opens the app; "" = none
	QR   template.URL // "" = the link is too long for a QR code

	Ends    string // the last characters of the code text
	Brand   string
	Product string
	Checked checked
	// Uncounted reports whether the app does not count scans of the code, because its text is public.
	Uncounted bool
	PIN       int // number of digits of the PIN of the code; 0 = none

	Look  branding.Appearance
	Maker string // name of the account whose branding is shown; "" if the page already shows it

	// First is the page in the reader's preferred language; Second is the page in the other language.
	First, Second side
	Style         template.CSS
	Script        template.JS
}

// side contains a page in one language.
type side struct {
	*view
	i18n.Localizer
	Class string // first or second
}

// Sides returns the page in both languages, the preferred language first.
func (v *view) Sides() []side { return []side{v.First, v.Second} }

// LogoWidth and LogoHeight return the display size in CSS pixels; the picture has twice as many pixels.
func (v *view) LogoWidth() int  { return (v.Look.Logo.Width + 1) / 2 }
func (v *view) LogoHeight() int { return (v.Look.Logo.Height + 1) / 2 }

// Title returns the window title, which is the same in both languages.
func (v *view) Title() (string, error) {
	if v.Kind == "landing" {
		return v.App, nil
	}
	first, err := v.First.Heading()
	if err != nil {
		return "", err
	}
	second, err := v.Second.Heading()
	return first + " · " + second, err
}

// AsksPIN reports whether the page has the form for the PIN.
func (v *view) AsksPIN() bool { return v.Key == "pin" || v.Key == "wrong_pin" }

// Heading returns the heading of the page.
func (s side) Heading() (string, error) { return s.Say("title." + s.Key) }

// Lang returns the language code for the HTML lang attribute.
func (s side) Lang() string { return string(s.Language) }

// ID returns the HTML id of this language's part of the page.
func (s side) ID() string {
	if s.Chinese() {
		return string(branding.Chinese)
	}
	return string(branding.English)
}

// Texts returns the account's own texts in this language.
func (s side) Texts() branding.Texts { return s.Look.Texts[branding.Language(s.ID())] }

// Scanner returns the name by which users know the scanning app.
func (s side) Scanner() (string, error) {
	if name := s.Texts().App; name != "" {
		return name, nil
	}
	return s.Say("landing.app")
}

// Moment formats a time for readers.
func (s side) Moment(t time.Time) (string, error) {
	year, month, day := t.Date()
	name, err := s.Say("month." + strconv.Itoa(int(month)))
	if err != nil {
		return "", err
	}
	return s.Say("moment", day, name, year, t.Format("15:04"), t.Format("-07:00"))
}

// Machine formats a time for programs.
func (s side) Machine(t time.Time) string { return t.Format(time.RFC3339) }

// TimesChecked returns a sentence with the number of checks of the code.
func (s side) TimesChecked() (string, error) { return s.Say("code.times", int(s.Checked.Times)) }

func notice(key string) view { return view{Kind: "notice", Key: key} }

// serveUnavailable shows the error page for an unavailable database.
func (g *Gateway) serveUnavailable(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", seconds(linksFresh))
	g.show(w, r, AwayPage, http.StatusServiceUnavailable, notice("away"))
}

// refused shows the error page for a method or URL length that no page accepts.
func (g *Gateway) refused(w http.ResponseWriter, r *http.Request, status int) {
	g.show(w, r, RefusedPage, status, notice("refused"))
}

// NoLink shows why a GS1 key has no link: 404 for an unknown key, 410 for an archived key, 400 for a path that is not a GS1 key.
func (g *Gateway) NoLink(w http.ResponseWriter, r *http.Request, status int) {
	switch status {
	case http.StatusGone:
		g.show(w, r, MissingPage, status, notice("gone"))
	case http.StatusBadRequest:
		g.show(w, r, RefusedPage, status, notice("wrong"))
	default:
		g.show(w, r, MissingPage, status, notice("missing"))
	}
}

//go:embed page.html page.css page.js locale
var files embed.FS

func file(name string) string {
	content, err := files.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return string(content)
}

var (
	style   = file("page.css")
	script  = file("page.js")
	page    = sync.OnceValue(func() *template.Template { return template.Must(template.New("page").Parse(file("page.html"))) })
	catalog = i18n.Open(files)
)

// source returns the Content-Security-Policy source of an inline text: its hash, so that no other inline text is allowed.
func source(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// styled returns the style sheet of a page with an account's accent colour.
func styled(accent branding.Colour) string {
	if accent == "" {
		return style
	}
	return style + ":root{--accent:" + string(accent) + ";--on-accent:" + string(accent.On()) + "}\n"
}

// policy returns a Content-Security-Policy that allows a page its own style and script, its embedded picture, the account's logo and, if
// form is true, a form to its own address. The browser loads and executes nothing else.
func policy(style, script string, form bool) string {
	text := "default-src 'none'; style-src " + source(style)
	if script != "" {
		text += "; script-src " + source(script)
	}
	target := "'none'"
	if form {
		target = "'self'"
	}
	return text + "; img-src data: 'self'; form-action " + target + "; base-uri 'none'; frame-ancestors 'none'"
}

// guardHeaders sets the security headers of every response.
func guardHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// show writes a page in both languages, because a printed link has no parameter for the language. The browser's preferred language
// is visible, and a link switches to the other language.
func (g *Gateway) show(w http.ResponseWriter, r *http.Request, kind Page, status int, v view) {
	g.observe(kind)
	first, second := i18n.English, i18n.Chinese
	if i18n.ParseAcceptLanguage(r.Header.Get("Accept-Language")) == i18n.Chinese {
		first, second = second, first
	}
	v.First, v.Second = side{&v, catalog.In(first), "first"}, side{&v, catalog.In(second), "second"}
	v.Style = template.CSS(styled(v.Look.Accent)) // safe: the text is part of this program, and a colour is six hexadecimal digits
	if v.Kind == "landing" {
		v.Script = template.JS(script)
	}
	var b bytes.Buffer
	if err := page().Execute(&b, &v); err != nil {
		g.Log.ErrorContext(r.Context(), "page not rendered", "page", string(kind), "error", err)
		http.Error(w, "the page could not be rendered", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	guardHeaders(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(first))
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Content-Security-Policy", policy(string(v.Style), string(v.Script), v.AsksPIN()))
	h.Add("Vary", "Accept-Language")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(b.Bytes())
	}
}

// dress adds an account's branding to a page, and the account's name if the page lacks the name.
func (g *Gateway) dress(r *http.Request, v *view, appid string) {
	if g.Looks == nil || appid == "" {
		return
	}
	v.Look = g.Looks.Lookup(r.Context(), appid)
	if v.Look.Logo.Hash != "" && v.Kind != "landing" {
		if maker, ok := g.Account(appid); ok {
			v.Maker = maker.Name
		}
	}
}

// logo serves the logo with a given hash. The content of a logo's path never changes, so a browser may cache the logo for a year.
// The server generated the logo's picture itself, so its content type is always the same.
func (g *Gateway) logo(w http.ResponseWriter, r *http.Request, hash string) {
	file, kept := g.Looks.CachedLogo(hash)
	if !kept {
		// Clients can invent hashes, and looking up a hash takes time.
		if !g.withinLimit(w, r, "logo", 1, 1) {
			return
		}
		var err error
		if file, err = g.Looks.LoadLogo(r.Context(), hash); errors.Is(err, branding.ErrNone) {
			g.show(w, r, MissingPage, http.StatusNotFound, notice("missing"))
			return
		} else if err != nil {
			g.Log.WarnContext(r.Context(), "logo not readable", "hash", hash, "error", err)
			g.serveUnavailable(w, r)
			return
		}
	}
	g.observe(LogoFile)
	h := w.Header()
	guardHeaders(h)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Type", "image/png")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
}
