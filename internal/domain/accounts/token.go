package accounts

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// The lifetimes of access tokens. Contract: rules §3.1.
const (
	TokenLife    = 2 * time.Hour
	TokenOverlap = 5 * time.Minute // time for which a replaced token stays valid alongside the new token
	// ForceInterval is the interval within which a second forced refresh returns the same token.
	ForceInterval = 30 * time.Second
	// ForcedPerDay is the maximum number of forced refreshes per day.
	ForcedPerDay = 20
	// StablePerMinute limits /cgi-bin/stable_token.
	StablePerMinute = 10_000
	// tokenMemory is the time for which an expired token stays stored, so that calls with the token receive 42001 and not 40001.
	tokenMemory = 7 * 24 * time.Hour
)

// clockSpread limits how far in the future the issue time of a token or code may be: clocks of nodes differ, and may be set back.
const clockSpread = time.Hour

// IssuedInFuture reports whether a token or code was issued by a clock that was far ahead. Such a token or code is invalid once the clock
// is right again, because it would otherwise stay valid for too long.
func IssuedInFuture(issued, now time.Time) bool { return issued.Sub(now) > clockSpread }

// TokenKind is the call of the platform API that issues a token. A new token replaces only earlier tokens of the same kind, so a call of
// /cgi-bin/token does not affect the token of /cgi-bin/stable_token, and vice versa. Contract: rules §3.1.
type TokenKind string

// The kinds of tokens.
const (
	Plain  TokenKind = "plain"
	Stable TokenKind = "stable"
	// Platform is the kind of a component_access_token; the AppID of such a token is that of the component.
	Platform TokenKind = "component"
	// Authorizer is the kind of a token with which one component calls on behalf of an account; it replaces no other component's tokens.
	Authorizer TokenKind = "authorizer"
)

// Token is an access token as stored. The text of a token is stored as a keyed hash, and for stable tokens also in encrypted form.
type Token struct {
	Hash           string
	AppID          string
	Component      string // Authorizer only: the component that uses the token
	Kind           TokenKind
	Sealed         string // Stable only
	ForceRefreshed bool
	IssuedAt       time.Time
	ExpiresAt      time.Time
	SupersededAt   time.Time // zero = not replaced; otherwise the time at which the token stops working
}

// end returns the time at which the token stops working. A token that was replaced before it expired works until the end of the overlap,
// even beyond its two hours.
func (t Token) end() (at time.Time, replaced bool) {
	if !t.SupersededAt.IsZero() && t.SupersededAt.Add(-TokenOverlap).Before(t.ExpiresAt) {
		return t.SupersededAt, true
	}
	return t.ExpiresAt, false
}

// Check returns nil while the token is valid. Check returns 40001 if the token was replaced and the overlap has ended, and 42001 if two
// hours have passed or if the clock that issued the token was far ahead. For a token that expired before its replacement, Check keeps
// returning 42001. Contract: rules 3.1, 3.6.
func (t Token) Check(now time.Time) error {
	end, replaced := t.end()
	switch {
	case replaced && !now.Before(end):
		return errcode.InvalidCredential.WithDetail(behaviour.CallerTokenReplaced, "the token of %s was replaced", t.AppID)
	case IssuedInFuture(t.IssuedAt, now):
		return errcode.TokenExpired.WithDetail(behaviour.CallerTokenExpired, "the token of %s was issued at %s, when the clock was ahead",
			t.AppID,
			t.IssuedAt.Format(time.RFC3339))
	case !now.Before(end):
		return errcode.TokenExpired.WithDetail(behaviour.CallerTokenExpired, "the token of %s expired at %s", t.AppID,
			t.ExpiresAt.Format(time.RFC3339))
	}
	return nil
}

// Remaining returns the remaining lifetime of the token in whole seconds.
func (t Token) Remaining(now time.Time) int {
	end, _ := t.end()
	return int(end.Sub(now) / time.Second)
}

// tokenShaped reports whether a text has the form of a token: 1 to 10 digits, "_", and 64 to 500 letters, digits, "_" and "-".
// Tokens of the Weixin platform consist of a decimal number, an underscore and 100 to 150 characters.
func tokenShaped(text string) bool {
	number, rest, _ := strings.Cut(text, "_")
	return len(number) >= 1 && len(number) <= 10 && len(rest) >= 64 && len(rest) <= 500 && strings.Trim(number, alphanumeric[:10]) == "" &&
		strings.Trim(rest, alphanumeric+"_-") == ""
}

// newTokenText generates 768 random bits in the format of a token of the Weixin platform; the mark of the account replaces the first 48.
func newTokenText(random io.Reader, appid string, now time.Time) (string, error) {
	raw := make([]byte, 96)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", fmt.Errorf("generating a token: %w", err)
	}
	copy(raw, tokenMark(appid))
	// On the Weixin platform the number before the underscore grows slowly; on this server the number counts months.
	return fmt.Sprintf("%d_%s", (now.Year()-2017)*12+int(now.Month()), base64.RawURLEncoding.EncodeToString(raw)), nil
}

func tokenMark(appid string) []byte {
	sum := sha256.Sum256([]byte("token mark/" + appid))
	return sum[:6]
}

// TokenMark returns the eight characters that follow the underscore in every token of an account or a platform. They are no secret:
// a load balancer finds the cell of a call by them (decision 0089).
func TokenMark(appid string) string { return base64.RawURLEncoding.EncodeToString(tokenMark(appid)) }
