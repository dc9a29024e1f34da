// Package scan decides what opens when a user scans a text.
package scan

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/digitallink"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Action is the action that the scanning app takes.
type Action string

// The actions.
const (
	OpenMiniProgram Action = "open_mini_program"
	OpenURL         Action = "open_url"
	ShowText        Action = "show_text"
	ShowMessage     Action = "show_message"
)

// Source is the way in which the app obtained the text, such as the camera.
type Source string

// The sources of a scanned text, with their scene numbers.
const (
	Scan  Source = "scan"
	Press Source = "press"
	Album Source = "album"
)

// CodeScene returns the scene number of a code: 1124, 1125 or 1126. Observed(scan.code.scene). Contract: marketcode §6.1.
func (s Source) CodeScene() int {
	scene, _ := s.Scene()
	return scene - 1011 + 1124
}

// Scene returns the scene number (1011, 1012 or 1013) from which a Mini Program knows how it was opened; ok is false for an unknown source.
// Documented(scan.scene). Contract: rules §2.8.
func (s Source) Scene() (scene int, ok bool) {
	switch s {
	case Scan, "":
		return 1011, true
	case Press:
		return 1012, true
	case Album:
		return 1013, true
	}
	return 0, false
}

// MatchKind is the kind of object that a scan matched.
type MatchKind string

// The kinds of objects that a scan can match.
const (
	ByRule     MatchKind = MatchKind(rules.Ordinary)
	ByTestLink MatchKind = "test_link"
	ByService  MatchKind = MatchKind(rules.KindService)
	ByCode     MatchKind = "code"
	ByGS1      MatchKind = "gs1"
)

// Request is one scan.
type Request struct {
	Text   string
	User   string // "" = an anonymous scan
	Source Source
	At     time.Time
}

// Decision is the result of a scan.
type Decision struct {
	Action  Action
	AppID   string
	Version accounts.Version
	Path    string // with its query
	Scene   int
	Kind    MatchKind
	Matched rules.RuleInfo // the rule or GS1 key that matched; zero if nothing opens
	Code    codes.Scanned  // the code; set only for the Kind ByCode
	Reason  codes.Reason   // reason why a code opens nothing
	URL     string
	Text    string
	Link    string // for Kind ByGS1: the link under which the scan is recorded
}

// Finder finds the rules that match a scan. Finder hides how the rules are stored in memory.
type Finder interface {
	// Governing returns the rule that governs a scanned text. Only the longest matching rule of each owner counts; of these rules, the
	// longest published one governs. Contract: rules §2.9.
	Governing(text string) (hit rules.Match, ok bool)
	// Matching returns the rules that match a link, longest prefix first; for a link of a service account's QR code, at most one rule.
	Matching(link rules.Link) []rules.Rule
	// Testing returns the rules that list a text as a test link, longest prefix first, then oldest first.
	Testing(text string) []rules.Rule
}

// Accounts is the subset of the account methods that a Resolver needs.
type Accounts interface {
	// Account returns an account; ok is false if the account does not exist.
	Account(appid string) (a accounts.Account, ok bool)
	// Linked reports whether a service account is linked to a Mini Program.
	Linked(service, miniProgram string) bool
}

// Codes resolves texts that are codes.
type Codes interface {
	// Scan returns the target of a code text; ok is false if the text is not a code.
	Scan(text, user string, account func(string) (accounts.Account, bool)) (s codes.Scanned, ok bool)
}

// Products resolves texts that contain a GS1 key.
type Products interface {
	// Scan returns the target of the GS1 key in a text: a Mini Program for which opens returns true, or a link. ok is false if the text has
	// no key, or the key has no entry.
	Scan(text string, at time.Time, opens func(appid string) bool) (found digitallink.Found, ok bool)
}

// Resolver decides scans using data in memory.
type Resolver struct {
	Finder   Finder
	Accounts Accounts
	Codes    Codes    // nil = this server has no codes
	Products Products // nil = this server has no GS1 links
}

// Resolve returns the decision for a scan. Resolve has no side effects. Contract: rules §2.9.
func (r Resolver) Resolve(req Request) Decision {
	if !rules.PlainText(req.Text) { // Assumed(scan.plain)
		// A code text may have several lines, and a GS1 element string contains separators, so such texts are not plain links.
		if r.Codes != nil && strings.ContainsAny(req.Text, "\n\x1d") {
			if s, ok := r.Codes.Scan(req.Text, req.User, r.Accounts.Account); ok {
				return openCode(req, s)
			}
		}
		if d, ok := r.product(req); ok {
			return d
		}
		return Decision{Action: ShowText, Text: req.Text}
	}
	// Assumed(scan.code.first): a complete code text takes precedence over a rule, even if the code is invalid. Contract: rules §2.10.
	if r.Codes != nil {
		if s, ok := r.Codes.Scan(req.Text, req.User, r.Accounts.Account); ok {
			return openCode(req, s)
		}
	}
	if d, ok := r.product(req); ok {
		return d
	}
	if req.User != "" {
		if link, ok := rules.ParseLink(req.Text); ok && !link.IsService() {
			if d, ok := r.testLink(req); ok {
				return d
			}
		}
	}
	if hit, ok := r.Finder.Governing(req.Text); ok {
		if r.blocked(hit.RuleInfo) == "" {
			return r.open(req, hit, MatchKind(hit.Kind), accounts.Release)
		}
	} else if _, ok := rules.ParseLink(req.Text); !ok {
		return Decision{Action: ShowText, Text: req.Text}
	}
	return Decision{Action: OpenURL, URL: req.Text}
}

// product resolves a text by its GS1 key. The decision opens the key's Mini Program or, if this cannot be opened, the key's default link.
func (r Resolver) product(req Request) (Decision, bool) {
	if r.Products == nil {
		return Decision{}, false
	}
	all := r.Accounts
	found, ok := r.Products.Scan(req.Text, req.At, func(appid string) bool {
		app, known := all.Account(appid)
		return known && app.JumpOpen && app.Has(accounts.Release)
	})
	if !ok {
		return Decision{}, false
	}
	d := Decision{Action: OpenURL, URL: found.URL, Kind: ByGS1, Link: found.Address,
		Matched: rules.RuleInfo{ID: found.Number, Owner: found.Owner, Prefix: found.Key}}
	if found.App != "" {
		d.Action, d.AppID, d.Version = OpenMiniProgram, found.App, accounts.Release
		d.Path = launchPath(found.Page, found.Address, req.At)
		d.Scene, _ = req.Source.Scene()
	}
	return d, true
}

// openCode returns the decision for a code; the ticket is issued later, by the codes package.
func openCode(req Request, s codes.Scanned) Decision {
	if s.Err != nil || s.Reason != "" {
		return Decision{Action: ShowMessage, Reason: s.Reason, Code: s}
	}
	return Decision{Action: OpenMiniProgram, AppID: s.AppID, Version: s.Version, Path: s.Path, Scene: req.Source.CodeScene(), Kind: ByCode,
		Code: s}
}

// WithTicket adds a ticket to the page path of a code. Contract: marketcode §6.1.
func (d Decision) WithTicket(ticket string) Decision {
	join := "?"
	if strings.Contains(d.Path, "?") {
		join = "&"
	}
	d.Path += join + "code_ticket=" + ticket
	return d
}

// testLink resolves a link that a rule lists as a test link; the rule need not be published. The user must be a member of the owner, with a
// role that the rule's OpenVersion includes. If several rules list the link, the longest prefix wins, then the oldest rule. If the version
// to open does not exist, the link is matched like any other link. Contract: rules §2.6 (test links and roles) and §2.10 (a test link in
// several rules).
func (r Resolver) testLink(req Request) (Decision, bool) {
	if req.User == "" { // Assumed(scan.test.anonymous)
		return Decision{}, false
	}
	for _, rule := range r.Finder.Testing(req.Text) {
		owner, ok := r.Accounts.Account(rule.Owner)
		if !ok || !owner.JumpOpen {
			continue
		}
		role, member := owner.Members[req.User]
		if !member {
			continue
		}
		version, ok := rule.TestVersion(role)
		if !ok { // Assumed(scan.test.role)
			continue
		}
		if !owner.Has(version) {
			return Decision{}, false
		}
		return r.open(req, rule.Hit(), ByTestLink, version), true
	}
	return Decision{}, false
}

// governing selects from the matching rules (longest first) the rule that governs: only the longest rule of each owner counts, and of these
// rules the longest published one governs. Contract: rules §2.9.
func governing(matching []rules.Rule) (rules.Rule, bool) {
	for i, rule := range matching {
		// Documented(scan.order): a longer unpublished rule of the same owner hides this rule. Assumed(scan.order.others): a longer
		// unpublished rule of another owner does not hide this rule.
		if rule.Published && !slices.ContainsFunc(matching[:i], func(longer rules.Rule) bool { return longer.Owner == rule.Owner }) {
			return rule, true
		}
	}
	return rules.Rule{}, false
}

// blocked returns the reason why the rule that governs a link opens nothing; "" = the rule opens a page. Assumed(scan.blocked): a
// shorter rule of another owner does not open in place of a blocked rule. Assumed(qrcode.outlived): the expiry of temporary codes is
// not checked here. Contract: rules §2.10.
func (r Resolver) blocked(rule rules.RuleInfo) Verdict {
	target, ok := r.Accounts.Account(rule.Target)
	if !ok || !target.JumpOpen {
		return OwnerSwitchedOff
	}
	if rule.Owner != rule.Target {
		if owner, ok := r.Accounts.Account(rule.Owner); !ok || !owner.JumpOpen {
			return OwnerSwitchedOff
		}
	}
	if !target.Has(accounts.Release) {
		return NoRelease
	}
	if rule.Kind == rules.KindService && !r.Accounts.Linked(rule.Owner, rule.Target) {
		return OwnerSwitchedOff
	}
	return ""
}

func (r Resolver) open(req Request, hit rules.Match, kind MatchKind, version accounts.Version) Decision {
	scene, _ := req.Source.Scene()
	return Decision{
		Action:  OpenMiniProgram,
		AppID:   hit.Target,
		Version: version,
		Path:    launchPath(hit.Page, req.Text, req.At),
		Scene:   scene,
		Kind:    kind,
		Matched: hit.RuleInfo,
	}
}

// launchPath appends two parameters to a page path: q, the scanned text, percent-encoded once, and scancode_time, the scan time in seconds.
// Contract: rules §2.8.
func launchPath(page, text string, t time.Time) string {
	var b strings.Builder
	b.Grow(len(page) + 3*len(text) + 32)
	// Assumed(scan.page): a leading slash, which no documented sample has, is dropped; a page with its own query keeps the query.
	page = strings.TrimPrefix(page, "/")
	b.WriteString(page)
	if strings.Contains(page, "?") {
		b.WriteByte('&')
	} else {
		b.WriteByte('?')
	}
	b.WriteString("q=")
	encodeComponent(&b, text)
	b.WriteString("&scancode_time=")
	var digits [20]byte
	b.Write(strconv.AppendInt(digits[:0], t.Unix(), 10))
	return b.String()
}

// encodeComponent encodes like ECMAScript's encodeURIComponent (Observed(scan.encoding)), which leaves more characters unescaped
// than url.QueryEscape.
func encodeComponent(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.!~*'()", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
}
