// Package guide serves the documentation of this version.
//
// The pages are the Markdown files of package docs. A page is rendered to HTML on the first request and cached. Reading the pages
// needs no credentials, and the pages contain no account data.
package guide

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/qrjump/qrjump/internal/edge/assets"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// Root is the URL path of the guide.
const Root = "/docs/"

// Policy is the Content-Security-Policy of the guide, which allows only its own styles and scripts.
const Policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; " +
	"frame-ancestors 'none'"

// Example is the placeholder server address in the source of the pages.
const Example = "http://127.0.0.1:8080"

//go:embed guide.css guide.js page.html
var files embed.FS

var (
	style  = asset("guide.css")
	script = asset("guide.js")
	layout = sync.OnceValue(func() *template.Template { return template.Must(template.ParseFS(files, "page.html")) })
)

func asset(name string) *assets.Asset {
	content, err := files.ReadFile(name)
	if err != nil {
		panic(err) // embedded: cannot happen
	}
	return assets.NewAsset("/qrjump/"+name, content)
}

// Assets lists the files that the pages load in addition to assets.Sheet.
var Assets = []*assets.Asset{style, script}

// Language is a language of the guide.
type Language struct {
	Code string // the language in URL paths
	Tag  i18n.Language
}

// Languages lists all languages; the first language is for readers without a preference.
var Languages = []Language{{"en", i18n.English}, {"zh", i18n.Chinese}}

//go:embed locale
var locale embed.FS

var catalog = i18n.Open(locale)

// Say returns a text of the guide's layout in this language.
func (l Language) Say(key string, values ...any) string {
	return catalog.Text(key, values...).In(l.Tag)
}

// Word returns the name of the language in the language itself.
func (l Language) Word() string { return l.Say("language") }

// Guide serves the documentation pages. New creates a Guide.
type Guide struct {
	files    fs.FS
	pages    map[string]*page // pages by language and name: "en/start"
	order    map[string][]*page
	sections map[string][]section
	version  string
	index    map[string]func() *index
}

type page struct {
	language Language
	name     string // name without the language: "start", "calls/qrcodejumpadd", "" for the first page
	title    string
	source   []byte
	rendered func() rendered
}

type section struct {
	title string
	pages []*page
}

type rendered struct {
	tag           string
	plain, zipped []byte
}

// New loads the pages in both languages. If url is not "", New replaces Example in the pages with url. New returns an error if a
// language lacks a page, or a page belongs to no section of the contents.
func New(pages fs.FS, url, version string) (*Guide, error) {
	g := &Guide{files: pages, pages: map[string]*page{}, order: map[string][]*page{}, sections: map[string][]section{}, version: version,
		index: map[string]func() *index{}}
	for _, language := range Languages {
		err := fs.WalkDir(pages, language.Code, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".md") {
				return err
			}
			source, err := fs.ReadFile(pages, path)
			if err != nil {
				return err
			}
			name := strings.TrimSuffix(strings.TrimPrefix(path, language.Code+"/"), ".md")
			if url != "" {
				source = bytes.ReplaceAll(source, []byte(Example), []byte(url))
			}
			p := &page{language: language, name: strings.TrimSuffix(name, "README"), source: Body(source)}
			p.title = title(p.source)
			if p.title == "" {
				return fmt.Errorf("%s does not begin with a title", path)
			}
			g.pages[language.Code+"/"+p.name] = p
			p.rendered = sync.OnceValue(func() rendered { return g.render(p) })
			return nil
		})
		if err != nil {
			return nil, err
		}
		if err := g.arrange(language); err != nil {
			return nil, err
		}
		g.index[language.Code] = sync.OnceValue(func() *index { return newIndex(g.order[language.Code], g.order[Languages[0].Code]) })
	}
	if n := len(g.order["en"]); n != len(g.order["zh"]) {
		return nil, fmt.Errorf("%d pages in English, %d in Chinese", n, len(g.order["zh"]))
	}
	return g, nil
}

// arrange sorts the pages of a language in the order of the contents.
func (g *Guide) arrange(l Language) error {
	language := l.Code
	used := map[*page]bool{}
	for _, content := range contents {
		s := section{title: l.Say(content.title)}
		names := content.names
		for _, c := range content.calls {
			names = append(names, "calls/"+c.Page)
		}
		for _, name := range names {
			p := g.pages[language+"/"+name]
			if p == nil {
				return fmt.Errorf("the contents list %q, which is not a page in %q", name, language)
			}
			used[p] = true
			s.pages = append(s.pages, p)
			g.order[language] = append(g.order[language], p)
		}
		g.sections[language] = append(g.sections[language], s)
	}
	for key, p := range g.pages {
		if p.language.Code == language && !used[p] {
			return fmt.Errorf("%s.md is missing in the contents: add it in internal/edge/guide/guide.go", key)
		}
	}
	return nil
}

// translates matches the first line of a translation, which contains the hash of the English page.
var translates = regexp.MustCompile(`\A<!-- translates [0-9a-f]{16} -->\n\n?`)

// Body returns a page without the line that contains the hash of the English page.
func Body(source []byte) []byte { return translates.ReplaceAll(source, nil) }

// Hash returns the hash of an English page; a translation contains the hash of the English version from which it was made.
func Hash(source []byte) string {
	sum := sha256.Sum256(source)
	return hex.EncodeToString(sum[:8])
}

func title(source []byte) string {
	first, _, _ := strings.Cut(string(source), "\n")
	text, is := strings.CutPrefix(first, "# ")
	if !is {
		return ""
	}
	return strings.ReplaceAll(text, "`", "")
}

func (p *page) path() string { return Root + p.language.Code + "/" + p.name }

// ServeHTTP responds with a page, with a picture, with search results, or with a redirect to a page.
func (g *Guide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", Policy)
	h.Set("Cache-Control", "no-cache")
	rest := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, strings.TrimSuffix(Root, "/")), "/")
	if strings.HasSuffix(rest, ".svg") {
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		http.ServeFileFS(w, r, g.files, rest)
		return
	}
	code, name, isInside := strings.Cut(rest, "/")
	language := slices.IndexFunc(Languages, func(l Language) bool { return l.Code == code })
	if language < 0 || !isInside {
		h.Set("Vary", "Accept-Language")
		if rest != "" && language < 0 {
			g.missing(w, preferredLanguage(r))
			return
		}
		to := preferredLanguage(r)
		if language >= 0 {
			to = Languages[language]
		}
		http.Redirect(w, r, Root+to.Code+"/", http.StatusFound)
		return
	}
	if name == "search" {
		g.search(w, r, Languages[language])
		return
	}
	name, text := strings.CutSuffix(name, ".md")
	p := g.pages[code+"/"+strings.TrimSuffix(name, "README")]
	if p != nil && text {
		h.Set("Content-Type", "text/markdown; charset=utf-8")
		w.Write(p.source)
		return
	}
	if p == nil {
		g.missing(w, Languages[language])
		return
	}
	made := p.rendered()
	h.Set("Content-Type", "text/html; charset=utf-8")
	assets.ServePrecompressed(w, r, made.tag, made.plain, made.zipped)
}

// preferredLanguage returns the language that the browser prefers.
func preferredLanguage(r *http.Request) Language {
	tag := i18n.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	return Languages[slices.IndexFunc(Languages, func(l Language) bool { return l.Tag == tag })]
}

// view contains the data of the page layout.
type view struct {
	Language
	Title, Name, Path, Home, Query string
	Look, Style, Script, Version   string
	OtherLanguage                  link
	Sections                       []menuSection
	Before, After                  *link
	Body                           template.HTML
	Results                        *results
}

type link struct {
	Language
	Title, Path string
	Here        bool
}

type menuSection struct {
	Title string
	Open  bool
	Pages []link
}

// view returns the layout data for a page in a language; p is nil for a page outside the contents.
func (g *Guide) view(l Language, p *page) view {
	v := view{Language: l, Home: Root + l.Code + "/", Version: g.version,
		Look: assets.Sheet.Path(), Style: style.Path(), Script: script.Path()}
	otherLanguage := Languages[0]
	if l == otherLanguage {
		otherLanguage = Languages[1]
	}
	v.OtherLanguage = link{Language: otherLanguage, Path: Root + otherLanguage.Code + "/"}
	for i, s := range g.sections[l.Code] {
		item := menuSection{Title: s.title, Open: p == nil && i == 0}
		for _, thisPage := range s.pages {
			item.Open = item.Open || thisPage == p
			item.Pages = append(item.Pages, link{Title: thisPage.title, Path: thisPage.path(), Here: thisPage == p})
		}
		v.Sections = append(v.Sections, item)
	}
	if p == nil {
		return v
	}
	v.Title, v.Name, v.Path = p.title, p.name, p.path()
	if p.name == "" {
		v.Name, v.Path = "README", v.Path+"README"
		v.Sections[0].Open = true
	}
	v.OtherLanguage.Path += p.name
	list := g.order[l.Code]
	pos := slices.Index(list, p)
	if pos > 0 {
		v.Before = &link{Title: list[pos-1].title, Path: list[pos-1].path()}
	}
	if pos+1 < len(list) {
		v.After = &link{Title: list[pos+1].title, Path: list[pos+1].path()}
	}
	return v
}

// render renders the HTML of a page, plain and compressed.
func (g *Guide) render(p *page) rendered {
	v := g.view(p.language, p)
	english := g.pages["en/"+p.name]
	v.Body = template.HTML(toHTML(p, english)) // safe: the source is part of this program, and raw HTML in the source is dropped
	var plain bytes.Buffer
	if err := layout().Execute(&plain, v); err != nil {
		panic(err) // the template is part of this program, and a test renders every page
	}
	return rendered{tag: `"` + Hash(plain.Bytes()) + `"`, plain: plain.Bytes(), zipped: assets.Gzip(plain.Bytes(), gzip.BestCompression)}
}

func (g *Guide) missing(w http.ResponseWriter, l Language) {
	v := g.view(l, nil)
	v.Title = v.Say("missing")
	v.Body = template.HTML("<h1>" + v.Title + "</h1>\n<p>" + v.Say("missing.next") + "</p>")
	g.write(w, http.StatusNotFound, v)
}

func (g *Guide) write(w http.ResponseWriter, status int, v view) {
	var b bytes.Buffer
	if err := layout().Execute(&b, v); err != nil {
		http.Error(w, "the page cannot be rendered", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// contents lists the sections with their pages in order. Every page belongs to one section.
var contents = []struct {
	title string // text key of the section's title
	names []string
	calls []Call // the calls whose pages the section lists after the pages in names
}{
	{"contents.start", []string{"", "tour", "how/install", "matching", "questions"}, nil},
	{"contents.how", []string{"how/sdk", "how/clients", "how/ci", "how/rules-in-git", "how/gs1", "how/platform", "how/production",
		"how/sign-in", "how/postgresql", "how/nodes", "how/patroni", "how/cells", "how/capacity", "handbook", "how/app", "how/webhooks",
		"how/print", "how/texts", "how/copied-codes", "how/pages-for-buyers", "how/statistics"}, nil},
	{"contents.tokens", []string{"calls/every-call", "calls/sdks", "calls/not-offered"}, tokenCalls},
	{"contents.rules", nil, ruleCalls},
	{"contents.codes", nil, codeCalls},
	{"contents.platforms", nil, platformCalls},
	{"contents.tables", []string{"errors", "settings", "commands", "metrics", "behaviours"}, nil},
}
