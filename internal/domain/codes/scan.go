package codes

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Reason is the reason why a code text opens no page.
type Reason string

// The reasons.
const (
	NotActive   Reason = "not_active"
	UnknownCode Reason = "unknown_code"
	IsFrozen    Reason = "frozen"
	IsVoid      Reason = "void"
	NoRelease   Reason = "no_release"
	SerialOnly  Reason = "serial_only"
)

// Scanned is the result of a scanned code text: a page, or the reason why no page opens.
type Scanned struct {
	Found
	// Prefix is the prefix or the template of a text that belongs to no code; set only with the Reason UnknownCode.
	Prefix string
	// Err is ErrUnread if the store currently cannot determine whether the text is a code.
	Err     error
	Reason  Reason // "" = a page opens
	AppID   string
	Version accounts.Version
	Path    string // path of the page, without a leading slash
}

// Scan resolves a scanned text as a code; ok is false if the text as a whole is neither a code text nor an original code. Scan has no side
// effects and creates no ticket. account returns the account with an AppID. Contract: marketcode §6.
func (s *Service) Scan(text, user string, account func(appid string) (accounts.Account, bool)) (scanned Scanned, ok bool) {
	prefixes := s.prefixes()
	if len(prefixes) == 0 && s.Memory.templateCount.Load() == 0 {
		return scanned, false // this server has no codes
	}
	f, found, err := s.recognise(context.Background(), text)
	if err != nil {
		return Scanned{Err: err}, true
	}
	if !found {
		return s.classifyUnknown(context.Background(), text, prefixes)
	}
	scanned.Found = f
	scanned.State = s.Memory.State(f.Batch.ID, f.Index, s.Now())
	s.decide(&scanned, user, account)
	return scanned, true
}

// MayBeCode reports whether a text may be a code or may contain an imported code. If MayBeCode returns false, Scan and Redact need
// no store query for the text.
func (s *Service) MayBeCode(text string) bool {
	return len(text) <= 4*CodeLength && utf8.RuneCountInString(text) <= CodeLength ||
		s.matchesTemplate(text) || s.mayContainImported(text) || s.mayContainToken(text) ||
		containsPrefix(s.Memory.ImportedPrefixes(), text) ||
		slices.ContainsFunc(s.prefixes(), func(prefix string) bool { return HasPrefix(text, prefix) })
}

// decide determines the page that a code opens in its state, or the reason why the code opens no page. Public texts open no page.
// Assumed(scan.code.state): a code that opens no page leads to a message instead.
func (s *Service) decide(scanned *Scanned, user string, account func(appid string) (accounts.Account, bool)) {
	switch {
	case scanned.State.Void:
		scanned.Reason = IsVoid
	case scanned.State.Frozen:
		scanned.Reason = IsFrozen
	case scanned.State.Activation == nil:
		scanned.Reason = NotActive
	case scanned.Batch.HasPublicTexts():
		scanned.Reason = SerialOnly
	default:
		s.resolveTarget(scanned, user, account)
	}
}

// classifyUnknown distinguishes a well-formed code text that was never issued from other texts. Assumed(scan.code.unknown).
func (s *Service) classifyUnknown(ctx context.Context, text string, prefixes []string) (scanned Scanned, ok bool) {
	if _, err := ParseText(text, prefixes); err == nil || errors.Is(err, errNoText) &&
		slices.ContainsFunc(prefixes, func(prefix string) bool { return len(possibleTails(prefix, text)) > 0 }) ||
		s.matchesTemplate(text) || s.unknownToken(text) {
		withToken, _, _ := s.Memory.tokenTemplate(text)
		return Scanned{Reason: UnknownCode, Prefix: cmp.Or(s.Memory.templateOf(text), withToken.text, s.PrefixOf(text))}, true
	}
	// Assumed(scan.code.serial): the nine characters of an original code alone are not secret, so they prove nothing.
	switch all, err := s.allByCode(ctx, text); {
	case err != nil:
		return Scanned{Err: err}, true
	case len(all) > 0:
		return Scanned{Found: all[0], Reason: SerialOnly}, true
	}
	return scanned, false
}

// platformSymbols lists the symbols in code texts of the Weixin platform; this server's own texts use a subset. Contract: marketcode §5.2.
const platformSymbols = Alphabet + "%*+./:"

// resolveTarget decides whether the bound Mini Program can be opened by the user. Inferred(scan.code.version).
func (s *Service) resolveTarget(scanned *Scanned, user string, account func(string) (accounts.Account, bool)) {
	bind := scanned.State.Activation.Binding
	app, known := account(bind.WxaAppID)
	var role accounts.Role
	if user != "" {
		role = app.Members[user]
	}
	version, allowed := bind.Version(role)
	if !known || !allowed || !app.Has(version) {
		scanned.Reason = NoRelease
		return
	}
	scanned.AppID, scanned.Version, scanned.Path = bind.WxaAppID, version, strings.TrimPrefix(bind.WxaPath, "/")
}
