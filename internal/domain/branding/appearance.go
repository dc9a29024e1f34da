// Package branding stores the appearance of an account on public pages: logo, colour, help link and texts.
package branding

import (
	"context"
	"errors"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Appearance is the branding of one account; the zero value means no branding.
type Appearance struct {
	AppID  string
	Accent Colour // background of the button on the page
	Help   string // https URL of the help page; "" = none
	// If OpenAtOnce is true, a browser is redirected to the account's url_scheme at once. If OpenAtOnce is false, the landing page of a
	// link shows a button that opens the url_scheme.
	OpenAtOnce bool
	Texts      map[Language]Texts
	Logo       Logo
}

// Language is a language of the public pages.
type Language string

// The languages.
const (
	English Language = "en"
	Chinese Language = "zh"
)

// Texts holds an account's texts in one language. An account may leave any text empty ("").
type Texts struct {
	App     string `json:"app,omitempty"`     // the name of the scanning app, as the account's users know it
	Landing string `json:"landing,omitempty"` // shown on the landing page of a link
	Code    string `json:"code,omitempty"`    // shown below the result for a code
}

// Logo is a validated and stored picture; Hash "" = none.
type Logo struct {
	Hash          string // hash of the PNG: 64 hexadecimal digits
	Width, Height int    // in pixels
	Bytes         int
}

const (
	// MaxApp and MaxText are the maximum lengths of texts in characters.
	MaxApp  = 40
	MaxText = 300
	// MaxHelp is the maximum length in bytes of the help URL.
	MaxHelp = 512
)

// ErrNone is returned by the store if the account has no appearance.
var ErrNone = errors.New("branding: the account has none")

// Validate returns a one-line error that names the first invalid field.
func (a Appearance) Validate() error {
	if err := a.Accent.validate(); err != nil {
		return err
	}
	if err := validHelp(a.Help); err != nil {
		return err
	}
	for language, texts := range a.Texts {
		if language != English && language != Chinese {
			return accounts.Invalidf("texts has the language %.20q: want en or zh", string(language))
		}
		for _, entry := range []struct {
			name, text string
			maxLength  int
		}{{"app", texts.App, MaxApp}, {"landing", texts.Landing, MaxText}, {"code", texts.Code, MaxText}} {
			if !accounts.IsVisible(entry.text, entry.maxLength) {
				return accounts.Invalidf("texts.%s.%s: want %d characters at most, without line breaks and other control characters",
					language, entry.name, entry.maxLength)
			}
		}
	}
	return nil
}

// validHelp accepts only https URLs: a page that warns of forgeries must not link to a page that can be tampered with, or to a script.
func validHelp(address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || len(address) > MaxHelp ||
		!accounts.IsVisible(address, MaxHelp) || strings.ContainsAny(address, " \"<>\\^`{|}") {
		return accounts.Invalidf("help %.80q: want https:// and a host, %d bytes at most, without a user name", address, MaxHelp)
	}
	return nil
}

var hash = regexp.MustCompile(`^[0-9a-f]{64}$`)

// LogoPath is the URL path prefix of logos on every host with public pages.
const LogoPath = "/qrjump/logo/"

// Path returns the URL path of the logo; "" = no logo.
func (l Logo) Path() string {
	if l.Hash == "" {
		return ""
	}
	return LogoPath + l.Hash + ".png"
}

// HashOfPath returns the hash in the URL path of a logo; ok is false for any other path.
func HashOfPath(path string) (string, bool) {
	rest, is := strings.CutPrefix(path, LogoPath)
	name, png := strings.CutSuffix(rest, ".png")
	return name, is && png && hash.MatchString(name)
}

// Tx is one transaction on appearances.
type Tx interface {
	// LockAccount blocks other transactions that lock the same AppID.
	LockAccount(ctx context.Context, appid string) error
	// Account returns the account, or accounts.ErrNoAccount.
	Account(ctx context.Context, appid string) (accounts.Account, error)
	// Appearance returns the appearance of an account, or ErrNone.
	Appearance(ctx context.Context, appid string) (Appearance, error)
	// Logo returns the PNG with the given hash, or ErrNone if no account uses it.
	Logo(ctx context.Context, hash string) ([]byte, error)
	// PutAppearance stores an appearance with the PNG of its logo; png is nil if Logo is empty.
	PutAppearance(ctx context.Context, a Appearance, png []byte) error
}

// Colour is a colour #rrggbb in lower case; "" = the default of the pages.
type Colour string

var colour = regexp.MustCompile(`^#[0-9a-f]{6}$`)

func (c Colour) validate() error {
	if c != "" && !colour.MatchString(string(c)) {
		return accounts.Invalidf("accent %.20q: want a colour such as #0b6b45, in lower case", string(c))
	}
	return nil
}

// On returns the colour of text on background c: white or black, whichever has the higher contrast. The contrast is at least 4.58
// on any background; WCAG 2.2 AA requires 4.5.
func (c Colour) On() Colour {
	if c.luminance() > math.Sqrt(1.05*0.05)-0.05 {
		return "#000000"
	}
	return "#ffffff"
}

// luminance returns the relative luminance as defined by WCAG 2.2.
func (c Colour) luminance() (sum float64) {
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(string(c[1+2*i:3+2*i]), 16, 8)
		if err != nil {
			return 0 // unreachable after Validate
		}
		v := float64(n) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		sum += weight * v
	}
	return sum
}
