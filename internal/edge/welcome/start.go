// Package welcome knows the first page that a person sees of this server: what it is,
// where its parts are, and lines that try it.
package welcome

import (
	"bytes"
	"embed"
	"html/template"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/edge/assets"
	"github.com/qrjump/qrjump/internal/infra/errortext"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

//go:embed page.html locale
var files embed.FS

var (
	book = i18n.Open(files)
	page = template.Must(template.ParseFS(files, "page.html"))
)

// Policy lets a page have styles and scripts of this server and nothing else.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; form-action 'none'; " +
	"base-uri 'none'; frame-ancestors 'none'"

// Address is the address of a part of the server.
type Address struct {
	Name string // wire, scan or admin
	URL  string // "" = the reader is not told, only which flag moves it
	Flag string
}

// Account is one that a reader may try.
type Account struct{ AppID, Name, Kind, Secret string }

// Server is the data of the page.
type Server struct {
	Fault     string // why the server is not ready; "" = it is
	Addresses []Address
	Console   string // path of the console on this listener; "" = it has none
	ConsoleAt string // where it is then; "" = the reader is not told
	AdminFlag string // that moves it
	Docs      string // path of the documents; "" = this listener has none
	// Wire and Scan are the base URLs of the lines, Curl the command of them.
	Wire, Scan, Curl string
	// Demo are the accounts of a server for developers; nil = it is none.
	Demo []Account
}

type view struct {
	Server
	i18n.Localizer
	Look, Script string
	Lines        []string
	SDKs         []SDK
}

// Wanted reports whether a request is a browser's for the page: programs do not
// ask for HTML.
func Wanted(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	for name := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		kind, names, err := mime.ParseMediaType(name)
		if err != nil || kind != "text/html" {
			continue
		}
		q, err := strconv.ParseFloat(names["q"], 64)
		return names["q"] == "" || err == nil && q > 0
	}
	return false
}

// Why returns the fault in the reader's language.
func (v view) Why() string { return errortext.In(v.Language, v.Server.Fault) }

// Serve writes the page.
func (s Server) Serve(w http.ResponseWriter, r *http.Request) {
	v := view{Server: s, Localizer: book.In(i18n.Preferred(r)), Look: assets.Sheet.Path(), Script: assets.Script.Path()}
	if a := s.miniProgram(); a.Secret != "" {
		v.Lines, v.SDKs = s.Try(a), s.Libraries(a)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(v.Language))
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept, Accept-Language, Cookie")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	if r.Method != http.MethodHead {
		w.Write(b.Bytes())
	}
}

// miniProgram returns the first Mini Program; rules of the lines are its own.
func (s Server) miniProgram() Account {
	for _, a := range s.Demo {
		if a.Kind == "mini_program" {
			return a
		}
	}
	return Account{}
}
