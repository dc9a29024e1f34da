// Package branding knows how an account looks on the pages that buyers see: its
// logo, its colour, its link for help and what it says itself.
package branding

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Appearance is the branding of one account; the zero value has none.
type Appearance struct {
	AppID  string
	Accent Colour // ground of the page's button
	Help   string // an https address; "" = none
	// OpenAtOnce sends a browser to the account's url_scheme without a page; else the page of
	// a link has a button that opens it.
	OpenAtOnce bool
	Texts      map[Language]Texts
	Logo       Logo
}

// Language is one of those that pages speak.
type Language string

// The languages.
const (
	English Language = "en"
	Chinese Language = "zh"
)

// Texts are an account's texts in one language. Each may be "".
type Texts struct {
	App     string `json:"app,omitempty"`     // what its users call the app that scans
	Landing string `json:"landing,omitempty"` // on the page of a link
	Code    string `json:"code,omitempty"`    // below the verdict on a code
}

// Logo is a picture that was taken in; Hash "" = none.
type Logo struct {
	Hash          string // of the PNG: 64 hexadecimal digits
	Width, Height int    // in pixels
	Bytes         int
}

const (
	// MaxApp and MaxText are how long texts may be, in characters.
	MaxApp  = 40
	MaxText = 300
	// MaxHelp is the maximum length in bytes of the link for help.
	MaxHelp = 512
)

// ErrNone is the store's: the account has no appearance of its own.
var ErrNone = errors.New("appearance: the account has none")

func invalidf(format string, args ...any) error {
	return accounts.Invalid(fmt.Sprintf(format, args...))
}

// Validate says which field cannot be, in one line.
func (a Appearance) Validate() error {
	if err := a.Accent.validate(); err != nil {
		return err
	}
	if err := validHelp(a.Help); err != nil {
		return err
	}
	for language, texts := range a.Texts {
		if language != English && language != Chinese {
			return invalidf("texts has the language %.20q: want en or zh", string(language))
		}
		for _, entry := range []struct {
			name, text string
			most       int
		}{{"app", texts.App, MaxApp}, {"landing", texts.Landing, MaxText}, {"code", texts.Code, MaxText}} {
			if !plain(entry.text, entry.most) {
				return invalidf("texts.%s.%s: want %d characters at most, without line breaks and other control characters", language, entry.name,
					entry.most)
			}
		}
	}
	return nil
}

// validHelp accepts https alone: a page that warns of forgeries must not link to a page that can be tampered with, and must not run
// anything.
func validHelp(address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || len(address) > MaxHelp || !plain(address, MaxHelp) ||
		strings.ContainsAny(address, " \"<>\\^`{|}") {
		return invalidf("help %.80q: want https:// and a host, %d bytes at most, without a user name", address, MaxHelp)
	}
	return nil
}

// plain reports whether a text has at most so many characters, all of which show:
// neither controls nor marks that turn the direction of what follows them.
func plain(text string, limit int) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= limit && !slices.ContainsFunc([]rune(text), func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
	})
}

var hash = regexp.MustCompile(`^[0-9a-f]{64}$`)

// LogoPath is the path of a logo on every host that has pages.
const LogoPath = "/qrjump/logo/"

// Path returns the path at which browsers fetch the logo; "" = there is none.
func (l Logo) Path() string {
	if l.Hash == "" {
		return ""
	}
	return LogoPath + l.Hash + ".png"
}

// HashOfPath returns the hash in the path of a logo; false for a path that is none.
func HashOfPath(path string) (string, bool) {
	rest, is := strings.CutPrefix(path, LogoPath)
	name, png := strings.CutSuffix(rest, ".png")
	return name, is && png && hash.MatchString(name)
}

// Store keeps appearances.
type Store interface {
	// UpdateAppearances runs f in one transaction, and again after a conflict.
	UpdateAppearances(ctx context.Context, f func(Tx) error) error
	// ViewAppearances runs f on a consistent state that f does not change.
	ViewAppearances(ctx context.Context, f func(Tx) error) error
}

// Tx is one transaction.
type Tx interface {
	// LockAccount makes other writers that lock the same AppID wait.
	LockAccount(ctx context.Context, appid string) error
	// Account returns accounts.ErrNoAccount where there is none.
	Account(ctx context.Context, appid string) (accounts.Account, error)
	// Appearance returns ErrNone where the account has none.
	Appearance(ctx context.Context, appid string) (Appearance, error)
	// Logo returns the PNG of a hash, ErrNone where no account has it.
	Logo(ctx context.Context, hash string) ([]byte, error)
	// PutAppearance stores it with the logo's PNG, which is nil where Logo is empty.
	PutAppearance(ctx context.Context, a Appearance, png []byte) error
}
