package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	text "text/template"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/phrase"
	"github.com/qrjump/qrjump/internal/rules"
)

// mostStatic is how many rules a folder of pages may have.
const mostStatic = 50_000

//go:embed static.html
var staticText string

// staticPages say everything in both languages: whoever writes the folder does not know who will read it.
var staticPages = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("static").
		Funcs(template.FuncMap{"zh": book.In(phrase.Chinese).Say, "en": book.In(phrase.English).Say}).Parse(staticText))
})

//go:embed static.txt
var staticReadmeText string

// staticReadme is what the folder says of itself.
func staticReadme() (string, error) {
	var b strings.Builder
	for _, language := range []phrase.Language{phrase.English, phrase.Chinese} {
		t, err := text.New("readme").Funcs(text.FuncMap{"say": book.In(language).Say}).Parse(staticReadmeText)
		if err == nil && b.Len() > 0 {
			b.WriteString("\n\n")
		}
		if err == nil {
			err = t.Execute(&b, nil)
		}
		if err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// staticRule is a published rule as its page shows it.
type staticRule struct {
	Prefix, App, AppID, Path string
	Open                     template.URL // opens the Mini Program from a browser; "" = the app has none
	File                     string       // of the page, from the top of the folder
	Site                     string       // the same in a folder for its host; "" = no file can stand there
	Below                    bool         // links below it open as well
	Asks                     bool         // its parameters decide
	Look                     client.Appearance
}

// staticFolder is everything that the folder is made from.
type staticFolder struct {
	dir   string
	set   []rules.Rule
	pages map[int]*staticRule // of published rules, by their place in the set
	hosts []string
}

// writeStatic writes what any web server can serve in place of this one: into
// a folder that is not there yet, as a whole or not at all.
func (c *exportCommand) writeStatic(s *session) error {
	if _, err := os.Lstat(c.Static); err == nil {
		return misused("export_static.static_it_is_there_already", c.Static)
	}
	operator, err := c.asOperator(c.adminFlags)
	if err != nil {
		return err
	}
	set, err := everyStoredRule(s, operator)
	if err != nil {
		return err
	}
	apps, err := operator.Accounts.List(s.ctx, "", 0)
	for err == nil {
		var more []client.Account
		if len(apps) > 0 {
			more, err = operator.Accounts.List(s.ctx, apps[len(apps)-1].AppID, 0)
		}
		if len(more) == 0 {
			break
		}
		apps = append(apps, more...)
	}
	if err != nil {
		return fault("component.list_accounts", err)
	}
	f := newStatic(set, apps)
	if err := f.dress(s, operator); err != nil {
		return err
	}
	if len(f.pages) > mostStatic {
		return fault("export_static.rules_are_published_a_folder", len(f.pages), mostStatic)
	}
	final, err := filepath.Abs(c.Static)
	if err != nil {
		return err
	}
	if strings.ContainsAny(final, "\"\\$\r\n") {
		return misused("export_static.static_nginx_cannot_read_this", final)
	}
	if f.dir, err = os.MkdirTemp(filepath.Dir(final), "."+filepath.Base(final)+".*"); err != nil {
		return failed(said("backup.export_to"), c.Static, err)
	}
	defer os.RemoveAll(f.dir) // nothing, once it is renamed
	if err := f.write(final); err != nil {
		return failed(said("backup.export_to"), c.Static, err)
	}
	if err := os.Chmod(f.dir, 0o755); err != nil { // a web server reads it
		return failed(said("backup.export_to"), c.Static, err)
	}
	if err := os.Rename(f.dir, final); err != nil {
		return failed(said("backup.export_to"), c.Static, err)
	}
	_, err = tell(s.out, "export_static.exported_of_to_read_first", counted(len(f.pages), "page"), counted(len(f.hosts), "host"),
		c.Static, filepath.Join(c.Static, "README.txt"))
	return err
}

func newStatic(set []rules.Rule, apps []client.Account) *staticFolder {
	named := map[string]client.Account{}
	for _, a := range apps {
		named[a.AppID] = a
	}
	f := &staticFolder{set: set, pages: map[int]*staticRule{}}
	sites := map[string]bool{}
	// A rule for links below comes before one for the page itself: both are one file of a host.
	order := make([]int, len(set))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(btoi(set[b].Prefix.Sub), btoi(set[a].Prefix.Sub))
	})
	for _, i := range order {
		r := set[i]
		app := named[r.Target]
		if !r.Published || !app.JumpOpen || r.Kind == rules.Service || strings.Contains(r.Prefix.Key, "#") {
			continue // nothing opens, the host is another's, or no browser sends it
		}
		page := &staticRule{Prefix: r.Prefix.Text, App: cmp.Or(app.Name, r.Target), AppID: r.Target, Path: r.Path,
			File: fmt.Sprintf("r/%d.html", r.ID), Below: r.Prefix.Sub, Asks: r.Prefix.HasQuery()}
		page.Open = opensBy(app.URLScheme, r)
		path, err := url.PathUnescape(r.Prefix.Path())
		site := filepath.Join("sites", r.Prefix.Host, filepath.FromSlash(strings.Trim(path, "/")), "index.html")
		if err == nil && !strings.Contains(r.Prefix.Host, ":") && !page.Asks && standsAlone(path) &&
			filepath.IsLocal(site) && !sites[site] {
			sites[site], page.Site = true, site
		}
		f.pages[i] = page
		if !slices.Contains(f.hosts, r.Prefix.Host) {
			f.hosts = append(f.hosts, r.Prefix.Host)
		}
	}
	slices.Sort(f.hosts)
	return f
}

// dress asks how the accounts of the pages look, each once.
func (f *staticFolder) dress(s *session, operator *client.Client) error {
	looks := map[string]client.Appearance{}
	for _, page := range f.pages {
		look, known := looks[page.AppID]
		if !known {
			var err error
			look, err = operator.Accounts.GetAppearance(s.ctx, page.AppID)
			if err != nil && !isNotFound(err) { // a server of before has no such thing
				return failed(said("account_appearance.show_how_buyers_see"), page.AppID, err)
			}
			looks[page.AppID] = look
		}
		page.Look = look
	}
	return nil
}

// logos are where the pictures of a page stand: on the top of the folder and of each host.
func (f *staticFolder) logos(page *staticRule, host string) error {
	if page.Look.Logo == nil {
		return nil
	}
	name := filepath.FromSlash(strings.TrimPrefix(page.Look.Logo.Path, "/"))
	if !filepath.IsLocal(name) {
		return fault("export_static.the_logo_of_has_the", page.AppID, page.Look.Logo.Path)
	}
	if !strings.Contains(host, ":") {
		if err := f.file(filepath.Join("sites", host, name), string(page.Look.Logo.PNG)); err != nil {
			return err
		}
	}
	return f.file(name, string(page.Look.Logo.PNG))
}

// standsAlone reports whether a path can be a folder of its host: none that leads to the
// pages of another host, that a file of the host has, or that no file system takes.
func standsAlone(path string) bool {
	path = strings.Trim(path, "/")
	if path == "" {
		return true
	}
	if !fs.ValidPath(path) || strings.ContainsRune(path, 0) {
		return false
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "index.html" || part == "404.html" || len(part) > 200 {
			return false
		}
	}
	return true
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// opensBy is the address by which a browser opens a Mini Program, from the
// template that the operator set for it; "" = there is none. What a server of
// elsewhere says is looked at as if it were new: the scheme is an app's.
func opensBy(scheme string, r rules.Rule) template.URL {
	page, mark := strings.TrimPrefix(r.Path, "/"), "?"
	if strings.Contains(page, "?") {
		mark = "&"
	}
	address, _ := accounts.Account{AppID: r.Target, URLScheme: scheme}.LaunchAddress(page + mark + "q=" + url.QueryEscape(r.Prefix.Text))
	return template.URL(address)
}

// write fills the folder, which will be at final.
func (f *staticFolder) write(final string) error {
	for _, dir := range []string{"r", "sites"} {
		if err := os.MkdirAll(filepath.Join(f.dir, dir), 0o755); err != nil {
			return err
		}
	}
	type listed struct {
		Host  string
		Pages []*staticRule
	}
	var hosts []listed
	for _, host := range f.hosts {
		one := listed{Host: host}
		for i := range f.set {
			if page := f.pages[i]; page != nil && f.set[i].Prefix.Host == host {
				one.Pages = append(one.Pages, page)
			}
		}
		hosts = append(hosts, one)
		// A host that knows no map answers this to a link without a file.
		if !strings.Contains(host, ":") {
			if err := f.page(filepath.Join("sites", host, "404.html"), "list", []listed{one}); err != nil {
				return err
			}
		}
	}
	for i, page := range f.pages {
		if err := f.logos(page, f.set[i].Prefix.Host); err != nil {
			return err
		}
		for _, file := range []string{page.File, page.Site} {
			if file == "" {
				continue
			}
			if err := f.page(file, "rule", page); err != nil {
				return err
			}
		}
	}
	readme, err := staticReadme()
	return cmp.Or(err, f.page("index.html", "list", hosts), f.page("404.html", "list", hosts), f.file("nginx.conf", f.nginx(final)),
		f.file("README.txt", readme))
}

func (f *staticFolder) page(name, kind string, data any) error {
	var said strings.Builder
	if err := staticPages().ExecuteTemplate(&said, kind, data); err != nil {
		return err
	}
	return f.file(name, said.String())
}

func (f *staticFolder) file(name, text string) error {
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// nginx is a configuration that decides links as the rules do: a map of all
// prefixes, the longest first, to the page of the rule that opens them.
func (f *staticFolder) nginx(final string) string {
	type line struct{ key, pattern, file string }
	var lines []line
	opens := rules.Openers(f.set)
	for i, r := range f.set {
		file := "" // the rule of its own text opens nothing
		if opens[i] >= 0 && f.pages[opens[i]] != nil {
			file = "/" + f.pages[opens[i]].File
		}
		key := r.Prefix.Key
		if r.Kind == rules.Service || strings.ContainsAny(key, "#\"\\") ||
			strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			continue // no browser sends it
		}
		pattern := "^" + regexp.QuoteMeta(key)
		switch {
		case r.Prefix.HasQuery() && r.Prefix.Query() == "":
			pattern = "^" + regexp.QuoteMeta(strings.TrimSuffix(key, "?")) + `(\?|$)`
		case !r.Prefix.HasQuery() && !r.Prefix.Sub:
			pattern += `(\?|$)`
		}
		lines = append(lines, line{key, pattern, file})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(len(b.key), len(a.key)) })
	var names []string
	for _, host := range f.hosts {
		name, _, _ := strings.Cut(host, ":")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var b strings.Builder
	b.WriteString("# Inside http { } of nginx: include " + final + "/nginx.conf;\n" +
		"# Behind a proxy that speaks TLS for nginx, write https in place of $scheme.\n" +
		"map \"$scheme://$host$request_uri\" $qrjump_page {\n    default \"\";\n")
	for _, one := range lines {
		fmt.Fprintf(&b, "    \"~%s\" \"%s\";\n", one.pattern, one.file)
	}
	fmt.Fprintf(&b, "}\n\nserver {\n    listen 80;\n    # listen 443 ssl;\n    # ssl_certificate FILE;\n    # ssl_certificate_key FILE;\n"+
		"    server_name %s;\n    root \"%s\";\n    charset utf-8;\n"+
		"    add_header X-Content-Type-Options nosniff;\n    error_page 404 /404.html;\n\n"+
		"    location / {\n        if ($qrjump_page = \"\") {\n            return 404;\n        }\n"+
		"        rewrite ^ $qrjump_page break;\n    }\n\n"+
		"    location /qrjump/logo/ {\n    }\n\n"+
		"    location = /404.html {\n        internal;\n    }\n}\n", strings.Join(names, " "), final)
	return b.String()
}
