package rules

import (
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// MaxPrefix is the maximum length of a prefix in bytes. Assumed(rules.prefix.long): the platform names no limit.
const MaxPrefix = 1024

// MaxLink is the maximum length in bytes of a scanned text that is parsed as a link.
const MaxLink = 4096

// serviceStart is the prefix of every service-account rule. Contract: rules 1.
const serviceStart = "http://weixin.qq.com/q/"

// Link is a scanned text or a prefix, cut into the parts that matching compares.
type Link struct {
	// Text is the link as it came.
	Text string
	// Key is the text to compare: scheme and host in lower case, an empty path
	// made "/", the rest untouched. Contract: rules 2.5, 2.10.
	Key string
	// Scheme and Host are lower case. Host is the whole authority, with its port and user
	// information.
	Scheme, Host string
	// path is the index of the path in Key, query that of the first "?" (the length of Key without one).
	path, query int
}

// ParseLink cuts an http or https link; ok is false for any other text. A link
// that is normal already (scheme and host in lower case, a path) costs no
// allocation: its Key is the text itself.
func ParseLink(text string) (link Link, ok bool) {
	scheme := 0
	switch {
	case strings.HasPrefix(text, "https://"):
		scheme = len("https")
	case strings.HasPrefix(text, "http://"):
		scheme = len("http")
	default:
		return parseFolded(text)
	}
	// The authority ends at "/", "?" or "#".
	start := scheme + len("://")
	path := start
	for path < len(text) && !special[text[path]] {
		path++
	}
	if path < len(text) && 'A' <= text[path] && text[path] <= 'Z' {
		return parseFolded(text)
	}
	if path == start {
		return Link{}, false
	}
	link = Link{Text: text, Key: text, Scheme: text[:scheme], Host: text[start:path], path: path}
	if path == len(text) || text[path] == '?' {
		link.Key = text[:path] + "/" + text[path:]
	}
	link.cutQuery()
	return link, true
}

// special are the bytes that end the authority of a link, and the capitals, which are folded.
var special = func() (is [256]bool) {
	for _, c := range "/?#ABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		is[c] = true
	}
	return is
}()

// parseFolded is ParseLink for a text whose scheme or host are to be folded.
func parseFolded(text string) (link Link, ok bool) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found || len(scheme) > len("https") {
		return Link{}, false
	}
	scheme = lower(scheme)
	if scheme != "http" && scheme != "https" {
		return Link{}, false
	}
	cut := strings.IndexAny(rest, "/?#")
	if cut < 0 {
		cut = len(rest)
	}
	host := lower(rest[:cut])
	if host == "" {
		return Link{}, false
	}
	tail := rest[cut:]
	if tail == "" || tail[0] == '?' {
		tail = "/" + tail
	}
	link = Link{Text: text, Scheme: scheme, Host: host, path: len(scheme) + 3 + len(host)}
	link.Key = scheme + "://" + host + tail
	link.cutQuery()
	return link, true
}

func (l *Link) cutQuery() {
	l.query = len(l.Key)
	if q := strings.IndexByte(l.Key[l.path:], '?'); q >= 0 {
		l.query = l.path + q
	}
}

// lower folds ASCII letters only: a host with other letters is no rule's host,
// and folding them could make two texts equal that are not.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// Origin is scheme and host.
func (l Link) Origin() string { return l.Key[:l.path] }

// Path is everything between the host and the first "?". It begins with "/",
// or with "#" where a fragment follows the host directly.
func (l Link) Path() string { return l.Key[l.path:l.query] }

// HasQuery reports whether there is a "?".
func (l Link) HasQuery() bool { return l.query < len(l.Key) }

// Query returns the part behind the first "?".
func (l Link) Query() string {
	if !l.HasQuery() {
		return ""
	}
	return l.Key[l.query+1:]
}

// Segment returns the path up to its second "/". Rules with the same segment are those that explain
// calls near.
func (l Link) Segment() string {
	path := l.Path()
	if i := strings.IndexByte(path[min(1, len(path)):], '/'); i >= 0 {
		return path[:i+1]
	}
	return path
}

// IsService reports whether the link is a service account's code. Such a link
// is never matched by an ordinary rule. Contract: rules 2.9, 2.10.
func (l Link) IsService() bool { return strings.HasPrefix(l.Key, serviceStart) }

// Ends lists the keys that a rule matching the link can have, longest first:
// inside the query, at the whole path, and after each "/".
func (l Link) Ends() []string {
	var ends []string
	for i := len(l.Key); i > l.query; i-- {
		ends = append(ends, l.Key[:i])
	}
	if !l.HasQuery() {
		// A link without "?" also satisfies a rule that ends with a bare "?".
		ends = append(ends, l.Key+"?")
	}
	ends = append(ends, l.Key[:l.query])
	for i := l.query - 1; i > l.path; i-- {
		if l.Key[i-1] == '/' {
			ends = append(ends, l.Key[:i])
		}
	}
	return ends
}

// Cuts returns the index of the path in Key and that of the first "?" (the length of Key without one).
func (l Link) Cuts() (path, query int) { return l.path, l.query }

// PlainText reports whether a scanned text may be looked at as a link at all:
// valid UTF-8, no control character, at most MaxLink bytes.
func PlainText(text string) bool {
	if len(text) > MaxLink {
		return false
	}
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f {
			// Rare in a link; only then characters must be looked at one by one.
			return utf8.ValidString(text[i:]) && !strings.ContainsFunc(text[i:], unicode.IsControl)
		}
	}
	return true
}

// Prefix is a checked prefix.
type Prefix struct {
	Link
	// Sub reports whether links below the path match: the prefix ends with "/"
	// and has no "?".
	Sub bool
}

// A host of the public internet: at least two labels, no final dot. The expression is compiled when it is first
// used: with its long counts that takes a time which every command would spend at its start.
var publicHost = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
})

// A host that rules may have where private hosts are allowed: also one label
// (localhost) and a port.
var localHost = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(:[0-9]{1,5})?$`)
})

// ParsePrefix checks the form of a prefix of either kind: 85066 with what is
// wrong. allowPrivate permits ports, IP addresses and one-label hosts.
// Contract: rules 2.5.
func ParsePrefix(text string, kind Kind, allowPrivate bool) (Prefix, error) {
	fault := func(row behaviour.Row, reason string) (Prefix, error) {
		return Prefix{}, errcode.IllegalPrefix.WithDetail(row, "prefix %.120q: %s", text, reason)
	}
	if len(text) > MaxPrefix {
		return fault(behaviour.RulesPrefixLong, "longer than 1024 bytes")
	}
	if strings.ContainsFunc(text, notURL) {
		return fault(behaviour.RulesPrefixCharacters,
			"only ASCII characters of a URL are allowed, and no *; other letters must be percent-encoded")
	}
	link, ok := ParseLink(text)
	if !ok {
		return fault(behaviour.RulesPrefixScheme, "want http:// or https:// and a host")
	}
	// "https://h" has the key "https://h/" but is no sub-path rule: the text decides.
	p := Prefix{Link: link, Sub: strings.HasSuffix(text, "/") && !link.HasQuery()}
	if kind == Service {
		code := strings.TrimPrefix(link.Key, serviceStart)
		if !link.IsService() || code == "" || strings.ContainsAny(code, "/?#") {
			return fault(behaviour.RulesPrefixService, "a service account's prefix is "+serviceStart+" and the code of one of its QR codes")
		}
		return p, nil
	}
	if link.IsService() {
		return fault(behaviour.RulesPrefixKind, "only a service account has rules under "+serviceStart)
	}
	if row, reason := p.hostFault(allowPrivate); reason != "" {
		return fault(row, reason)
	}
	return p, nil
}

// StoredPrefix returns the prefix of a stored rule. It was checked when it was added: a rule stays one
// even where private hosts are not allowed any more. ok is false for a text that ParsePrefix never
// accepted.
func StoredPrefix(text string) (p Prefix, ok bool) {
	link, ok := ParseLink(text)
	if !ok || len(text) > MaxPrefix {
		return Prefix{}, false
	}
	return Prefix{Link: link, Sub: text[len(text)-1] == '/' && !link.HasQuery()}, true
}

// hostFault says why a host cannot be a rule's; "" = it can.
func (p Prefix) hostFault(allowPrivate bool) (row behaviour.Row, reason string) {
	switch address := isAddress(p.Host); {
	case strings.Contains(p.Host, "@"):
		return behaviour.RulesPrefixHost, "user information is not allowed"
	case len(p.Host) > 253:
		return behaviour.RulesPrefixHost, "the host is longer than 253 bytes"
	case allowPrivate && (address || localHost().MatchString(p.Host)):
		return 0, ""
	case address:
		return behaviour.RulesPrefixHost, "an IP address is not allowed as host"
	case strings.Contains(p.Host, ":"):
		return behaviour.RulesPrefixPort, "a port is not allowed"
	case !publicHost().MatchString(p.Host):
		return behaviour.RulesPrefixHost, "the host is not a public name"
	}
	return 0, ""
}

// newerDomains are the top-level domains that the platform's calls refused while its console took them. Contract: rules 2.5. The
// platform does not publish the whole list.
var newerDomains = map[string]bool{"ink": true, "media": true, "plus": true, "run": true}

// underNewerDomain reports whether the host is under one of them.
func (p Prefix) underNewerDomain() bool {
	name, _, _ := strings.Cut(p.Host, ":")
	return newerDomains[name[strings.LastIndexByte(name, '.')+1:]]
}

// isAddress reports whether a host is an IP address, with or without a port,
// or a number that some resolvers take for one.
func isAddress(host string) bool {
	if strings.HasPrefix(host, "[") {
		return true
	}
	name, _, _ := strings.Cut(host, ":")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// notURL reports characters that RFC 3986 does not allow in a URL, and "*",
// which people write where they hope for a wildcard.
func notURL(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune("*\"<>\\^`{|}", r)
}

// Matches is the definition of matching; everything faster is tested against
// it. Contract: rules 2.1, 2.10.
func (p Prefix) Matches(l Link) bool {
	switch {
	case p.IsService() || l.IsService(): // Inferred(scan.match.service)
		return p.Key == l.Key
	case p.Origin() != l.Origin(): // Documented(scan.match.origin)
		return false
	case p.HasQuery(): // Documented(scan.match.query)
		return p.Path() == l.Path() && strings.HasPrefix(l.Query(), p.Query())
	case p.Path() == l.Path(): // Documented(scan.match.path)
		return true
	}
	// Documented(scan.match.below)
	return p.Sub && strings.HasPrefix(l.Path(), p.Path())
}

// ConfirmAddress returns the address of the verification file: in the last directory that the prefix names. Contract: rules 2.7.
func (p Prefix) ConfirmAddress(fileName string) string {
	dir := p.Path()
	dir = dir[:strings.LastIndexByte(dir, '/')+1]
	if !strings.HasPrefix(dir, "/") { // "https://h#x", "https://h#/x"
		dir = "/" + dir
	}
	// Assumed(rules.confirm.fragment): "#" is ordinary text, so it must reach the server.
	return p.Origin() + strings.ReplaceAll(dir, "#", "%23") + fileName
}
