// Package welcome serves the first page that a person sees of this server: a description, the addresses of its parts, and commands to try.
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
	catalog = i18n.Open(files)
	page    = template.Must(template.ParseFS(files, "page.html"))
)

// Policy is a Content-Security-Policy that allows only styles and scripts of this server.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; form-action 'none'; " +
	"base-uri 'none'; frame-ancestors 'none'"

// Address is the address of a part of the server.
type Address struct {
	Name string // name of the part: wire, scan or admin
	URL  string // "" = the address is hidden, and the page only names the flag that sets the address
	Flag string
}

// Account is a demo account that a reader may try.
type Account struct{ AppID, Name, Kind, Secret string }

// Server contains the data of the welcome page.
type Server struct {
	Fault     string // the reason why the server is not ready; "" = ready
	Addresses []Address
	Console   string // path of the console on this listener; "" = no console here
	ConsoleAt string // address of the console on another listener; "" = not shown to the reader
	AdminFlag string // the command-line flag that sets the address of the admin listener
	Docs      string // path of the documentation; "" = none on this listener
	// Wire and Scan are the base URLs in the example commands, and Curl is the curl command line.
	Wire, Scan, Curl string
	// Demo lists the demo accounts of a development server; nil = not a development server.
	Demo []Account
}

type view struct {
	Server
	i18n.Localizer
	Look, Script string
	Lines        []string
	SDKs         []SDK
}

// AcceptsPage reports whether a request comes from a browser that expects the page, because programs do not request HTML.
func AcceptsPage(r *http.Request) bool {
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

// FaultText returns the fault of the server in the reader's language.
func (v view) FaultText() string { return errortext.In(v.Language, v.Server.Fault) }

// Serve writes the welcome page.
func (s Server) Serve(w http.ResponseWriter, r *http.Request) {
	v := view{Server: s, Localizer: catalog.In(i18n.Preferred(r)), Look: assets.Sheet.Path(), Script: assets.Script.Path()}
	if a := s.miniProgram(); a.Secret != "" {
		v.Lines, v.SDKs = s.CommandLines(a), s.Libraries(a)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		http.Error(w, "the page could not be rendered", http.StatusInternalServerError)
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

// miniProgram returns the first Mini Program, which owns the rules in the example commands.
func (s Server) miniProgram() Account {
	for _, a := range s.Demo {
		if a.Kind == "mini_program" {
			return a
		}
	}
	return Account{}
}
