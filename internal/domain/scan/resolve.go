// Package scan answers the question of a phone: this text was scanned by this
// user, what opens?
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

// Action is the action of the scanning app.
type Action string

// The actions.
const (
	OpenMiniProgram Action = "open_mini_program"
	OpenURL         Action = "open_url"
	ShowText        Action = "show_text"
	ShowMessage     Action = "show_message"
)

// Source is the origin of a text in the app.
type Source string

// The sources and their scenes.
const (
	Scan  Source = "scan"
	Press Source = "press"
	Album Source = "album"
)

// CodeScene returns the Scene of a code: 1124, 1125, 1126. Observed(scan.code.scene). Contract: marketcode 6.1.
func (s Source) CodeScene() int {
	scene, _ := s.Scene()
	return scene - 1011 + 1124
}

// Scene returns the number by which a Mini Program learns how it was opened: 1011,
// 1012, 1013; ok is false for an unknown source. Documented(scan.scene). Contract: rules 2.8.
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

// MatchKind says on what a scan fell.
type MatchKind string

// The things that a scan can fall on.
const (
	ByRule     MatchKind = MatchKind(rules.Ordinary)
	ByTestLink MatchKind = "test_link"
	ByService  MatchKind = MatchKind(rules.Service)
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
	Matched rules.RuleInfo // the rule, or GS1 key, behind Kind; zero where none opens
	Code    codes.Scanned  // of Kind ByCode
	Reason  codes.Reason   // why a code text opens nothing
	URL     string
	Text    string
	Link    string // of Kind ByGS1: what the scan is kept as
}

// Finder finds the rules that a scan can fall on. It is all that a resolve
// needs to know of how rules are kept in memory.
type Finder interface {
	// Governing returns the rule that governs a scanned text: of those that match,
	// per owner only the longest, without the unpublished, the longest of the
	// rest. Contract: rules 2.9.
	Governing(text string) (hit rules.Match, ok bool)
	// Matching returns the rules that match a link, longest prefix first: for
	// a service account's code at most the one rule of that code.
	Matching(link rules.Link) []rules.Rule
	// Testing returns the rules that list a text as one of their test links,
	// longest prefix first, then oldest first.
	Testing(text string) []rules.Rule
}

// Accounts is the part of the accounts that a resolve needs.
type Accounts interface {
	// Account returns an account; ok is false where there is none.
	Account(appid string) (a accounts.Account, ok bool)
	// Linked reports whether a service account is linked with a Mini Program.
	Linked(service, miniProgram string) bool
}

// Codes decides texts that are codes.
type Codes interface {
	// Scan decides what a text opens as a code; ok is false for another text.
	Scan(text, user string, account func(string) (accounts.Account, bool)) (s codes.Scanned, ok bool)
}

// Products decides texts that have a GS1 key.
type Products interface {
	// Scan finds what a text opens by its key, a Mini Program that can be opened or else a link; ok is false where it has none, or
	// nothing is said of it.
	Scan(text string, at time.Time, opens func(appid string) bool) (found digitallink.Found, ok bool)
}

// Resolver decides scans from memory.
type Resolver struct {
	Finder   Finder
	Accounts Accounts
	Codes    Codes    // nil = this server has no codes
	Products Products // nil = this server has no GS1 links
}

// Resolve decides one scan. It has no effect. Contract: rules 2.9.
func (r Resolver) Resolve(req Request) Decision {
	if !rules.PlainText(req.Text) { // Assumed(scan.plain)
		// A code's text may have several lines, and an element string has separators.
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
	// Assumed(scan.code.first): a complete code text wins over a rule, even when it is invalid.
	// Contract: rules 2.10.
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

// product decides a text by its GS1 key: it opens the Mini Program of the key where that can be opened, else the default link.
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

// openCode returns the decision on a code; the desk of codes makes its ticket.
func openCode(req Request, s codes.Scanned) Decision {
	if s.Err != nil || s.Reason != "" {
		return Decision{Action: ShowMessage, Reason: s.Reason, Code: s}
	}
	return Decision{Action: OpenMiniProgram, AppID: s.AppID, Version: s.Version, Path: s.Path, Scene: req.Source.CodeScene(), Kind: ByCode,
		Code: s}
}

// WithTicket adds a ticket to the page of a code. Contract: marketcode 6.1.
func (d Decision) WithTicket(ticket string) Decision {
	join := "?"
	if strings.Contains(d.Path, "?") {
		join = "&"
	}
	d.Path += join + "code_ticket=" + ticket
	return d
}

// testLink decides a scan of a test link by a member in its range: the longest prefix, then the
// oldest rule. Where the wanted version does not exist, the link is matched as any other. Contract:
// rules 2.6, 2.10.
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

// governing is step 4 of the contract: of the matching rules (longest first)
// keep, per owner, only the longest, drop the unpublished, take the longest of
// the rest. Contract: rules 2.9.
func governing(matching []rules.Rule) (rules.Rule, bool) {
	for i, rule := range matching {
		// Documented(scan.order): the owner's own longer rule, unpublished, hides this one.
		// Assumed(scan.order.others): that of another owner does not.
		if rule.Published && !slices.ContainsFunc(matching[:i], func(longer rules.Rule) bool { return longer.Owner == rule.Owner }) {
			return rule, true
		}
	}
	return rules.Rule{}, false
}

// blocked says why the rule that governs a link opens nothing all the same;
// "" = it opens. Assumed(scan.blocked): no other owner's shorter rule opens instead.
// Assumed(qrcode.outlived): nothing here asks whether a temporary code has ended.
// Contract: rules 2.10.
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
	if rule.Kind == rules.Service && !r.Accounts.Linked(rule.Owner, rule.Target) {
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

// launchPath returns the page with the scanned text in q, encoded once, and the
// second of the scan. Contract: rules 2.8.
func launchPath(page, text string, t time.Time) string {
	var b strings.Builder
	b.Grow(len(page) + 3*len(text) + 32)
	// Assumed(scan.page): a leading slash, which no sample has, is dropped; a page with a
	// query of its own keeps it.
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

// encodeComponent encodes like encodeURIComponent of ECMAScript (Observed(scan.encoding)), which leaves
// more characters alone than url.QueryEscape.
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
