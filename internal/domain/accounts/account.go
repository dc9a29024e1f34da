// Package accounts manages Mini Programs, service accounts and third-party platforms: their identity, permissions, links and access
// tokens. Package accounts imports no package of jump rules and contains no SQL.
package accounts

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// Kind is the type of an account.
type Kind string

// The kinds of account. Contract: rules §1, §3.2.
const (
	MiniProgram         Kind = "mini_program"
	ServiceAccount      Kind = "service_account"
	SubscriptionAccount Kind = "subscription_account"
)

// Subject is the kind of legal entity behind an account.
type Subject string

// The subjects. Contract: rules §1 (accounts of a personal subject cannot have rules).
const (
	Company      Subject = "company"
	Personal     Subject = "personal"
	Media        Subject = "media"
	Government   Subject = "government"
	OtherSubject Subject = "other"
)

// Version is one of the three builds of a Mini Program.
type Version string

// The versions of a Mini Program.
const (
	Release     Version = "release"
	Trial       Version = "trial"
	Development Version = "development"
)

// Role is the role of a member in a Mini Program; each member has exactly one role.
type Role string

// The roles of a member.
const (
	Admin     Role = "admin"
	Developer Role = "developer"
	TrialUser Role = "trial"
)

// ConfirmFile is the domain verification file of an account; its name and content never change. Contract: rules §1.6.
type ConfirmFile struct {
	Name    string // ten letters or digits and ".txt"
	Content string // 32 lower-case hexadecimal digits, no newline
}

// Account is a Mini Program or a service account, identified by its AppID.
type Account struct {
	AppID         string
	Kind          Kind
	Name          string
	Subject       Subject
	Certified     bool
	Versions      []Version         // which versions exist
	JumpOpen      bool              // qrcodejump_open: false disables all rules of the account
	Features      []string          // granted features
	Members       map[string]Role   // user -> role
	MessageURL    string            // URL to which events of the account are pushed; "" = no pushes
	URLScheme     string            // template of the URL that opens the Mini Program from a browser; "" = none
	Pages         []string          // page paths of the Mini Program, for example pages/index/index; empty = the list is unknown
	Options       map[string]string // options that a component has set (see Service.SetOption)
	OpenPlatform  string            // the open-platform account to which the account is bound; "" = none
	IPAllowlist   []string          // CIDR ranges; empty = tokens can be fetched from any address
	SecretHash    string            // keyed hash of the AppSecret; "" = the account cannot fetch tokens
	SecretFrozen  bool
	MarketcodeKey string // encrypted key of the account's code packages; "" = none
	Confirm       ConfirmFile
	CreatedAt     time.Time
}

// Errors that the store returns to this package; clients of the platform API never see their text.
var (
	ErrNoAccount   = errors.New("accounts: no such account")
	ErrNoToken     = errors.New("accounts: no such token")
	ErrNoComponent = errors.New("accounts: no such component")
)

// Invalid is the error for an invalid value that the operator entered. The text of Invalid names the field and the reason, in one line.
type Invalid string

func (i Invalid) Error() string { return string(i) }

// Invalidf returns an Invalid with a formatted text.
func Invalidf(format string, args ...any) error { return Invalid(fmt.Sprintf(format, args...)) }

// Has reports whether the Mini Program has the version v.
func (a Account) Has(v Version) bool { return slices.Contains(a.Versions, v) }

// HasPage reports whether Pages contains the page of a path; the path may start with a slash and end with a query string. HasPage returns
// false if Pages is empty, that is, if the pages are unknown.
func (a Account) HasPage(path string) bool {
	page, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "?")
	return slices.Contains(a.Pages, page)
}

// maxPages is the maximum number of pages stored for a Mini Program.
const maxPages = 1000

// validPages returns an error that names the first invalid page path.
func (a Account) validPages() error {
	if len(a.Pages) > 0 && a.Kind != MiniProgram {
		return Invalidf("account %s: pages: only a Mini Program has pages", a.AppID)
	}
	if len(a.Pages) > maxPages {
		return Invalidf("account %s: pages has %d entries: at most %d", a.AppID, len(a.Pages), maxPages)
	}
	for _, p := range a.Pages {
		if !IsPlain(p, 1, 256) || strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?# ") {
			return Invalidf("account %s: pages has %.80q: want a page such as pages/index/index, without a slash in front and "+
				"without a query", a.AppID, p)
		}
	}
	return nil
}

// JumpRules returns nil if the account may have jump rules. JumpRules returns 85075 for a personal Mini Program, and 48001 for an
// uncertified service account or an account of another kind. Contract: rules §1, §1.8.
func (a Account) JumpRules() error {
	switch {
	case a.Kind != MiniProgram:
		return a.isCertifiedService("%s is a %s: only Mini Programs and service accounts have jump rules")
	case a.Subject == Personal:
		return errcode.PersonalSubject.WithDetail(behaviour.CallerPersonal, "%s is a personal Mini Program", a.AppID)
	}
	return nil
}

// MayLink returns 48001 for an account whose kind cannot link Mini Programs.
func (a Account) MayLink() error {
	return a.isCertifiedService("%s is a %s: only a service account is linked with Mini Programs")
}

// MayMakeQRCodes returns 48001 unless the account is a certified service account.
func (a Account) MayMakeQRCodes() error {
	return a.isCertifiedService("%s is a %s: codes belong to service accounts")
}

// isCertifiedService returns 48001 unless the account is a certified service account; format is the error for an account of another kind,
// with the AppID and the kind.
func (a Account) isCertifiedService(format string) error {
	switch {
	case a.Kind != ServiceAccount:
		return errcode.Unauthorized.WithDetail(behaviour.CallerKind, format, a.AppID, a.Kind)
	case !a.Certified:
		return errcode.Unauthorized.WithDetail(behaviour.CallerUncertified, "service account %s is not certified", a.AppID)
	}
	return nil
}

// Validate returns a one-line error that names the first invalid field.
func (a Account) Validate() error {
	if err := ValidAppID(a.AppID); err != nil {
		return err
	}
	fault := func(field, format string, args ...any) error {
		return Invalidf("account %s: %s %s", a.AppID, field, fmt.Sprintf(format, args...))
	}
	if !slices.Contains([]Kind{MiniProgram, ServiceAccount, SubscriptionAccount}, a.Kind) {
		return fault("kind", "is %q: want mini_program, service_account or subscription_account", a.Kind)
	}
	if !slices.Contains([]Subject{Company, Personal, Media, Government, OtherSubject}, a.Subject) {
		return fault("subject", "is %q: want company, personal, media, government or other", a.Subject)
	}
	if !IsPlain(a.Name, 0, 128) {
		return fault("name", "must be at most 128 characters without control characters")
	}
	for _, v := range a.Versions {
		if !slices.Contains([]Version{Release, Trial, Development}, v) {
			return fault("versions", "has %q: want release, trial or development", v)
		}
	}
	for user, role := range a.Members {
		if !IsPlain(user, 1, 128) {
			return fault("members", "has a user that is empty, longer than 128 characters or not plain text")
		}
		if !slices.Contains([]Role{Admin, Developer, TrialUser}, role) {
			return fault("members", "gives %s the role %q: want admin, developer or trial", user, role)
		}
	}
	for _, f := range a.Features {
		if !IsPlain(f, 1, 64) {
			return fault("features", "has %q: want 1 to 64 characters", f)
		}
	}
	if !IsPlain(a.OpenPlatform, 0, 64) {
		return fault("open_platform", "must be at most 64 characters without control characters")
	}
	for _, p := range a.IPAllowlist {
		if _, err := netip.ParsePrefix(p); err != nil {
			return fault("ip_allowlist", "has %q: want a range such as 10.0.0.0/8", p)
		}
	}
	// Bidirectional control characters can make two different names look equal.
	if strings.ContainsFunc(a.Name, func(r rune) bool { return unicode.Is(unicode.Bidi_Control, r) }) {
		return Invalidf("account %s: name: remove the control characters", a.AppID)
	}
	if err := ValidCallback(a.MessageURL); err != nil {
		return Invalidf("account %s: message_url: %v", a.AppID, err)
	}
	return cmp.Or(a.ValidURLScheme(), a.validPages(), a.validOptions())
}

// ValidAppID returns an error that explains why appid cannot be an AppID. AppIDs of the Weixin platform consist of "wx" and 16
// hexadecimal digits. This server accepts any 1 to 32 printable characters without a space.
func ValidAppID(appid string) error {
	if !IsPlain(appid, 1, 32) || slices.ContainsFunc([]rune(appid), unicode.IsSpace) {
		return Invalidf("appid %q: want 1 to 32 printable characters without spaces", appid)
	}
	return nil
}

// ValidCallback returns an error if address is not a valid push URL; "" is valid and means no pushes.
func ValidCallback(address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return Invalidf("address %q: want http:// or https:// and a host", address)
	}
	return nil
}

// IsPlain reports whether s is valid UTF-8 with minimum to maximum characters and without control characters. PostgreSQL rejects NUL in
// text, and other control characters are invisible to users.
func IsPlain(s string, minimum, maximum int) bool {
	n := utf8.RuneCountInString(s)
	return utf8.ValidString(s) && n >= minimum && n <= maximum && !strings.ContainsFunc(s, unicode.IsControl)
}

// IsVisible reports whether s is plain text of at most limit characters without line separators and without characters that change the
// text direction.
func IsVisible(s string, limit int) bool {
	return IsPlain(s, 0, limit) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
	})
}

// UserName returns the account's original ID: "gh_" and twelve hexadecimal digits, which never change. Assumed(message.user_name):
// the original ID is derived from the AppID, so it needs no column and is the same on every server.
func (a Account) UserName() string {
	sum := sha256.Sum256([]byte("user name " + a.AppID))
	return "gh_" + hex.EncodeToString(sum[:6])
}
