package landing

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/domain/branding"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// view is the data of a page in any language.
type view struct {
	Kind string // landing, code or notice
	// Key is the verdict on a code (active, not_active, frozen, void, copied, redeemed,
	// unsure) or what a notice says (missing, gone, wrong, limited, away, refused).
	Key string

	App  string
	Link string
	Open template.URL // opens the app; "" = the app has no address
	QR   template.URL // "" = the link is too long for one

	Ends    string // the last characters of the code
	Brand   string
	Product string
	Checked checked

	Look  branding.Appearance
	Maker string // the account whose look it is, where the page does not name it already

	// First is the reader's preferred language; Second is the other one.
	First, Second side
	Style         template.CSS
	Script        template.JS
}

// side is a page in one language.
type side struct {
	*view
	i18n.Localizer
	Class string // first or second
}

// Sides are both languages, the preferred one first.
func (v *view) Sides() []side { return []side{v.First, v.Second} }

// LogoWidth and LogoHeight are in dots of the page: the picture has two pixels for one.
func (v *view) LogoWidth() int  { return (v.Look.Logo.Width + 1) / 2 }
func (v *view) LogoHeight() int { return (v.Look.Logo.Height + 1) / 2 }

// Title returns the title of the window, which stays the same in both languages.
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

// Heading says what a page is about.
func (s side) Heading() (string, error) { return s.Say("title." + s.Key) }

// Lang returns the language as HTML names it.
func (s side) Lang() string { return string(s.Language) }

// ID returns the anchor of this language.
func (s side) ID() string {
	if s.Chinese() {
		return string(branding.Chinese)
	}
	return string(branding.English)
}

// Own returns the account's own texts.
func (s side) Own() branding.Texts { return s.Look.Texts[branding.Language(s.ID())] }

// Scanner returns the users' name for the app that scans.
func (s side) Scanner() (string, error) {
	if name := s.Own().App; name != "" {
		return name, nil
	}
	return s.Say("landing.app")
}

// Moment returns a time as a person reads it.
func (s side) Moment(t time.Time) (string, error) {
	year, month, day := t.Date()
	name, err := s.Say("month." + strconv.Itoa(int(month)))
	if err != nil {
		return "", err
	}
	return s.Say("moment", day, name, year, t.Format("15:04"), t.Format("-07:00"))
}

// Machine returns a time as a program reads it.
func (s side) Machine(t time.Time) string { return t.Format(time.RFC3339) }

// TimesChecked says how often the code was checked.
func (s side) TimesChecked() (string, error) { return s.Count("code.times", int(s.Checked.Times)) }

func notice(key string) view { return view{Kind: "notice", Key: key} }

// serveUnavailable is the answer where the store would have to be asked and does not
// answer.
func (g *Gateway) serveUnavailable(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", seconds(linksFresh))
	g.show(w, r, AwayPage, http.StatusServiceUnavailable, notice("away"))
}

// refused is the answer to a method or a length that no page has.
func (g *Gateway) refused(w http.ResponseWriter, r *http.Request, status int) {
	g.show(w, r, RefusedPage, status, notice("refused"))
}

// NoLink shows why a GS1 key leads nowhere: 404 for one that is not known, 410 for one out of use, 400 for none at all.
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
	style  = file("page.css")
	script = file("page.js")
	page   = template.Must(template.New("page").Parse(file("page.html")))
	book   = i18n.Open(files)
)

// source returns the source of an inline text for a policy: its hash, so that no other text is allowed.
func source(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// styled returns the style of a page in an account's colour.
func styled(accent branding.Colour) string {
	if accent == "" {
		return style
	}
	return style + ":root{--accent:" + string(accent) + ";--on-accent:" + string(accent.On()) + "}\n"
}

// policy allows a page its own style, its own script, the picture in it and the account's logo. A
// browser runs and fetches nothing else.
func policy(style, script string) string {
	text := "default-src 'none'; style-src " + source(style)
	if script != "" {
		text += "; script-src " + source(script)
	}
	return text + "; img-src data: 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
}

// guardHeaders are on every answer.
func guardHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// show writes a page in both languages, because a printed link has no place for a language. The one
// that the browser prefers is seen, and a link shows the other.
func (g *Gateway) show(w http.ResponseWriter, r *http.Request, kind Page, status int, v view) {
	g.observe(kind)
	first, second := i18n.English, i18n.Chinese
	if i18n.ParseAcceptLanguage(r.Header.Get("Accept-Language")) == i18n.Chinese {
		first, second = second, first
	}
	v.First, v.Second = side{&v, book.In(first), "first"}, side{&v, book.In(second), "second"}
	v.Style = template.CSS(styled(v.Look.Accent)) // safe: our own text, and a colour is six digits
	if v.Kind == "landing" {
		v.Script = template.JS(script)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, &v); err != nil {
		g.Log.ErrorContext(r.Context(), "a page could not be made", "page", string(kind), "error", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	guardHeaders(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(first))
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Content-Security-Policy", policy(string(v.Style), string(v.Script)))
	h.Add("Vary", "Accept-Language")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(b.Bytes())
	}
}
