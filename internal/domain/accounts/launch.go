package accounts

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// maxURLScheme is the maximum length in bytes of the template of an address.
const maxURLScheme = 512

var (
	urlScheme = regexp.MustCompile(`^([a-z][a-z0-9+.-]{1,31}):[!-~]+$`)
	// These schemes open no app: a browser runs or fetches them, shows a page of its own, or is led
	// to another address.
	notApps = []string{"http", "https", "javascript", "vbscript", "data", "file", "blob", "filesystem", "about", "view-source",
		"ftp", "ws", "wss", "intent", "content", "chrome", "jar", "mailto", "tel", "sms"}
	placeholder = regexp.MustCompile(`\{[^{}]*\}`)
)

// ValidURLScheme says why the template of the address that opens the Mini
// Program cannot be; "" is none. In it {appid}, {path} and {query} stand for
// what opens, percent-encoded.
func (a Account) ValidURLScheme() error {
	if a.URLScheme == "" {
		return nil
	}
	fault := func(reason string) error {
		return invalidf("account %s: url_scheme %.80q: %s", a.AppID, a.URLScheme, reason)
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

// LaunchAddress opens a page of the Mini Program from a browser, where the operator set a template.
// The page and the link that was scanned are percent-encoded, and the scheme is that of the
// template: so no scanned link can choose where a visitor is sent.
func (a Account) LaunchAddress(page string) (address string, ok bool) {
	if a.URLScheme == "" || a.ValidURLScheme() != nil {
		return "", false
	}
	path, query, _ := strings.Cut(page, "?")
	return strings.NewReplacer("{appid}", encoded(a.AppID), "{path}", encoded(path), "{query}", encoded(query)).Replace(a.URLScheme), true
}

// encoded returns a text as one value of a query or one segment of a path.
func encoded(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
