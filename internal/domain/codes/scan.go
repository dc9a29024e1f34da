package codes

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Reason says why a code text opens nothing.
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

// Scanned is the result of a scanned code text: a page, or nothing for a reason.
type Scanned struct {
	Found
	// Err is ErrUnread if the store cannot say now whether the text is a code.
	Err     error
	Reason  Reason // "" = it opens
	AppID   string
	Version accounts.Version
	Path    string // of the page, without a leading slash
}

// Scan decides what a text opens as a code; ok is false for a text that is no
// code text, whole and by itself. It has no effect and makes no ticket.
// account returns what is known of an account. Contract: marketcode 6.
func (p *Service) Scan(text, user string, account func(appid string) (accounts.Account, bool)) (s Scanned, ok bool) {
	prefixes := p.prefixes()
	if len(prefixes) == 0 && p.Memory.written.Load() == 0 {
		return s, false // this server has no codes at all
	}
	f, found, err := p.recognise(context.Background(), text)
	if err != nil {
		return Scanned{Err: err}, true
	}
	if !found {
		return p.unknown(context.Background(), text, prefixes)
	}
	s.Found = f
	s.State = p.Memory.State(f.Batch.ID, f.Index, p.Now())
	p.decide(&s, user, account)
	return s, true
}

// MayBeCode reports whether a text may be a code, or hold one that was made elsewhere. Where it may not, Scan and Withhold ask the
// memory alone.
func (p *Service) MayBeCode(text string) bool {
	if len(text) <= 4*CodeLength && utf8.RuneCountInString(text) <= CodeLength {
		return true
	}
	if p.likeTemplate(text) || p.mayHoldElsewhere(text) {
		return true
	}
	return mayHold(p.Memory.ImportedPrefixes(), text) ||
		slices.ContainsFunc(p.prefixes(), func(prefix string) bool { return HasPrefix(text, prefix) })
}

// decide says what a code opens in its state. Assumed(scan.code.state): a message, not a page.
func (p *Service) decide(s *Scanned, user string, account func(appid string) (accounts.Account, bool)) {
	switch {
	case s.State.Void:
		s.Reason = IsVoid
	case s.State.Frozen:
		s.Reason = IsFrozen
	case s.State.Activation == nil:
		s.Reason = NotActive
	default:
		p.target(s, user, account)
	}
}

// unknown tells a well-formed code text that was never made from another text. Assumed(scan.code.unknown).
func (p *Service) unknown(ctx context.Context, text string, prefixes []string) (s Scanned, ok bool) {
	if _, err := ParseText(text, prefixes); err == nil || errors.Is(err, errNoText) && platformText(text, prefixes) ||
		p.likeTemplate(text) {
		return Scanned{Reason: UnknownCode}, true
	}
	// Assumed(scan.code.serial): the bare nine characters are no secret, so they prove nothing.
	switch all, err := p.byCodes(ctx, text); {
	case err != nil:
		return Scanned{Err: err}, true
	case len(all) > 0:
		return Scanned{Found: all[0], Reason: SerialOnly}, true
	}
	return s, false
}

// platformSymbols are those of the platform's own texts; ours use fewer.
// Contract: marketcode 5.2.
const platformSymbols = Alphabet + "%*+./:"

// platformText reports whether a text has the form of the platform's own under
// one of the prefixes: the symbols as they are, or as percent-escapes.
func platformText(text string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if !HasPrefix(text, prefix) {
			continue
		}
		tails := []string{cutScheme(text)[len(cutScheme(prefix)):]}
		if plain, err := url.PathUnescape(tails[0]); err == nil {
			tails = append(tails, plain)
		}
		for _, tail := range tails {
			otherCallback := func(c byte) bool { return strings.IndexByte(platformSymbols, upperByte(c)) < 0 }
			if len(tail) == TailLength && !slices.ContainsFunc([]byte(tail), otherCallback) {
				return true
			}
		}
	}
	return false
}

// target decides whether the bound Mini Program can be opened by the user.
// Inferred(scan.code.version).
func (p *Service) target(s *Scanned, user string, account func(string) (accounts.Account, bool)) {
	bind := s.State.Activation.Binding
	app, known := account(bind.WxaAppID)
	var role accounts.Role
	if user != "" {
		role = app.Members[user]
	}
	version, allowed := bind.Version(role)
	if !known || !allowed || !app.Has(version) {
		s.Reason = NoRelease
		return
	}
	s.AppID, s.Version, s.Path = bind.WxaAppID, version, strings.TrimPrefix(bind.WxaPath, "/")
}
