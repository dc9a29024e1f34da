package accounts

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// maxURLScheme is the maximum length in bytes of a URL template.
const maxURLScheme = 512

var (
	urlScheme = regexp.MustCompile(`^([a-z][a-z0-9+.-]{1,31}):[!-~]+$`)
	// notApps lists schemes of URLs that open no app of a brand: the browser or a system app handles such a URL itself.
	notApps = []string{"http", "https", "javascript", "vbscript", "data", "file", "blob", "filesystem", "about", "view-source",
		"ftp", "ws", "wss", "intent", "content", "chrome", "jar", "mailto", "tel", "sms"}
	placeholder = regexp.MustCompile(`\{[^{}]*\}`)
)

// ValidURLScheme returns an error if the URL template that opens the Mini Program is invalid; an empty template is valid. In the
// template, {appid}, {path} and {query} are placeholders for percent-encoded values.
func (a Account) ValidURLScheme() error {
	if a.URLScheme == "" {
		return nil
	}
	fault := func(reason string) error {
		return Invalidf("account %s: url_scheme %.80q: %s", a.AppID, a.URLScheme, reason)
	}
	m := urlScheme.FindStringSubmatch(a.URLScheme)
	switch {
	case len(a.URLScheme) > maxURLScheme:
		return fault("longer than 512 bytes")
	case m == nil || strings.ContainsAny(a.URLScheme, "\"<>\\^`|"):
		return fault(
			"want the scheme of an app in lower case, such as myapp://open?appid={appid}&path={path}&query={query}, without spaces")
	case slices.Contains(notApps, m[1]):
		return fault("the scheme " + m[1] + " is not an app's")
	}
	rest := placeholder.ReplaceAllStringFunc(a.URLScheme, func(p string) string {
		if slices.Contains([]string{"{appid}", "{path}", "{query}"}, p) {
			return ""
		}
		return p
	})
	if strings.ContainsAny(rest, "{}") {
		return fault("only {appid}, {path} and {query} can stand in braces")
	}
	return nil
}

// LaunchAddress returns the URL that opens a page of the Mini Program from a browser; ok is false if the operator has set no template. A
// scanned link cannot redirect a visitor to another site: the scheme comes from the template, and LaunchAddress percent-encodes the page.
func (a Account) LaunchAddress(page string) (address string, ok bool) {
	if a.URLScheme == "" || a.ValidURLScheme() != nil {
		return "", false
	}
	path, query, _ := strings.Cut(page, "?")
	return strings.NewReplacer("{appid}", encoded(a.AppID), "{path}", encoded(path), "{query}", encoded(query)).Replace(a.URLScheme), true
}

// encoded percent-encodes s for use as a query value or a path segment.
func encoded(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
