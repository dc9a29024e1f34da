package rules

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// MaxPrefix is the maximum length of a prefix in bytes. Assumed(rules.prefix.long): the platform documents no limit.
const MaxPrefix = 1024

// MaxLink is the maximum length in bytes of a scanned text that is parsed as a link.
const MaxLink = 4096

// serviceStart is the prefix of every service-account rule. Contract: rules §1.
const serviceStart = "http://weixin.qq.com/q/"

// Link is a scanned text or a prefix, split into the parts that matching compares.
type Link struct {
	// Text is the original text of the link.
	Text string
	// Key is the normalized text for comparison: scheme and host in lower case, an empty path replaced by "/", the rest unchanged.
	// Contract: rules §2.5, §2.10.
	Key string
	// Scheme and Host are in lower case. Host is the whole authority, with its port and user information.
	Scheme, Host string
	// path is the index of the path in Key; query is the index of the first "?" (the length of Key if it has no "?").
	path, query int
}

// ParseLink parses an http or https link; ok is false for any other text. A link that is already normalized (scheme and host in
// lower case, a path) needs no allocation: its Key is the text itself.
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

// special marks the bytes that end the authority of a link, and the capital letters, which must be converted to lower case.
var special = func() (is [256]bool) {
	for _, c := range "/?#ABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		is[c] = true
	}
	return is
}()

// parseFolded implements ParseLink for a text whose scheme or host contains capital letters.
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

// lower converts only ASCII letters to lower case: no rule has a host with other letters, and converting them could make two
// different texts equal.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// Origin returns the scheme and host of the link.
func (l Link) Origin() string { return l.Key[:l.path] }

// Path returns everything between the host and the first "?". The path begins with "/", or with "#" if a fragment follows the host.
func (l Link) Path() string { return l.Key[l.path:l.query] }

// HasQuery reports whether the link contains a "?".
func (l Link) HasQuery() bool { return l.query < len(l.Key) }

// Query returns the part after the first "?".
func (l Link) Query() string {
	if !l.HasQuery() {
		return ""
	}
	return l.Key[l.query+1:]
}

// Segment returns the path up to its second "/". An explanation of a link considers the rules with the same segment to be near the link.
func (l Link) Segment() string {
	path := l.Path()
	if i := strings.IndexByte(path[min(1, len(path)):], '/'); i >= 0 {
		return path[:i+1]
	}
	return path
}

// IsService reports whether the link is a service account's code. An ordinary rule never matches a service account's code.
// Contract: rules §2.9, §2.10.
func (l Link) IsService() bool { return strings.HasPrefix(l.Key, serviceStart) }

// Ends lists the keys that a rule matching the link can have, longest first: the link cut off at each character of its query, the link
// without its query, and the link cut off after each "/" of its path.
func (l Link) Ends() []string {
	var ends []string
	for i := len(l.Key); i > l.query; i-- {
		ends = append(ends, l.Key[:i])
	}
	if !l.HasQuery() {
		// A link without "?" also matches a rule that ends with a bare "?".
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

// Cuts returns the index of the path in Key and the index of the first "?" (the length of Key if it has no "?").
func (l Link) Cuts() (path, query int) { return l.path, l.query }

// PlainText reports whether a scanned text may be treated as a link: valid UTF-8, no control character, at most MaxLink bytes.
func PlainText(text string) bool {
	if len(text) > MaxLink {
		return false
	}
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f {
			// Non-ASCII bytes are rare in a link, so only the text from the first such byte on is checked character by character.
			return utf8.ValidString(text[i:]) && !strings.ContainsFunc(text[i:], unicode.IsControl)
		}
	}
	return true
}

// Prefix is a validated prefix of a rule.
type Prefix struct {
	Link
	// Sub reports whether links below the path match, which requires that the prefix ends with "/" and has no "?".
	Sub bool
}

// publicHost matches a host of the public internet: at least two labels, no final dot. The expression is compiled at its first use:
// because of its large repeat counts, compiling at program start would slow down every command.
var publicHost = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
})

// localHost matches a host that is valid if private hosts are allowed: it may also be a single label (localhost), and may have a port.
var localHost = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(:[0-9]{1,5})?$`)
})

// ParsePrefix validates the prefix of a rule; for an invalid prefix it returns error 85066 with the reason. allowPrivate permits ports, IP
// addresses and one-label hosts. Contract: rules §2.5.
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
	// "https://h" has the key "https://h/" but is not a sub-path rule, because the original text has no final slash.
	p := Prefix{Link: link, Sub: strings.HasSuffix(text, "/") && !link.HasQuery()}
	if kind == KindService {
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

// StoredPrefix returns the prefix of a stored rule. The prefix was validated when the rule was added: the rule stays valid even if
// private hosts are no longer allowed. ok is false for a text that ParsePrefix could not have accepted.
func StoredPrefix(text string) (p Prefix, ok bool) {
	link, ok := ParseLink(text)
	if !ok || len(text) > MaxPrefix {
		return Prefix{}, false
	}
	return Prefix{Link: link, Sub: text[len(text)-1] == '/' && !link.HasQuery()}, true
}

// hostFault returns the reason why a rule may not have the host of the prefix; "" = allowed.
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

// newerDomains lists the top-level domains that the platform's API rejected while the platform's console accepted them. Contract:
// rules 2.5. The platform does not publish the complete list of top-level domains that its API rejects.
var newerDomains = map[string]bool{"ink": true, "media": true, "plus": true, "run": true}

// underNewerDomain reports whether the host is under one of the newerDomains.
func (p Prefix) underNewerDomain() bool {
	name, _, _ := strings.Cut(p.Host, ":")
	return newerDomains[name[strings.LastIndexByte(name, '.')+1:]]
}

// isAddress reports whether a host is an IP address, with or without a port, or a number that some resolvers interpret as an address.
func isAddress(host string) bool {
	if strings.HasPrefix(host, "[") {
		return true
	}
	name, _, _ := strings.Cut(host, ":")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	digits, isHex := strings.CutPrefix(last, "0x")
	return last != "" && strings.Trim(last, "0123456789") == "" || isHex && strings.Trim(digits, "0123456789abcdef") == ""
}

// notURL reports whether a character is not allowed in a URL by RFC 3986, or is "*", which people write in the hope of a wildcard.
func notURL(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune("*\"<>\\^`{|}", r)
}

// Matches is the reference definition of matching; all faster implementations are tested against it. Contract: rules §2.1, §2.10.
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

// sameLinks reports whether two prefixes match the same links, even if one key ends with a bare "?", which requires no parameters.
func (p Prefix) sameLinks(o Prefix) bool {
	return !p.Sub && !o.Sub && p.Query() == "" && o.Query() == "" && p.Key[:p.query] == o.Key[:o.query]
}

// ConfirmAddress returns the URL of the verification file: the file lies in the last directory of the prefix. Contract: rules §2.7.
func (p Prefix) ConfirmAddress(fileName string) string {
	dir := p.Path()
	dir = dir[:strings.LastIndexByte(dir, '/')+1]
	if !strings.HasPrefix(dir, "/") { // "https://h#x", "https://h#/x"
		dir = "/" + dir
	}
	// Assumed(rules.confirm.fragment): "#" is ordinary text, so it is escaped to reach the server.
	return p.Origin() + strings.ReplaceAll(dir, "#", "%23") + fileName
}

// RuleInfo describes the rule behind a scan decision.
type RuleInfo struct {
	ID            int64
	Kind          Kind
	Owner, Target string
	Prefix        string // as written when the rule was added
}

// Match is the rule that governs a link, with the page that it opens.
type Match struct {
	RuleInfo
	Page string
}

// Hit returns the fields of the rule that a scan decision needs.
func (r Rule) Hit() Match {
	return Match{RuleInfo: RuleInfo{ID: r.ID, Kind: r.Kind, Owner: r.Owner, Target: r.Target, Prefix: r.Prefix.Text}, Page: r.Path}
}

// SortTesting sorts rules that list the same test link: longest prefix first, then oldest first.
func SortTesting(list []Rule) {
	slices.SortFunc(list, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(len(b.Prefix.Key), len(a.Prefix.Key)), cmp.Compare(a.ID, b.ID))
	})
}
