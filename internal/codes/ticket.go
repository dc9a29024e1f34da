package codes

import (
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/qrjump/qrjump/internal/errcode"
)

// LoginLife is how long a js_code can be traded.
const LoginLife = 5 * time.Minute

// MaxTicket is how long a code_ticket may be, in bytes. Contract: marketcode 3.6.
const MaxTicket = 256

// Ticket is the proof that one user scanned one code, as stored: the text
// itself only as a keyed hash.
type Ticket struct {
	Hash      string
	Batch     int64
	Index     int64
	OwnerID   string // the user's openid under the service account
	AppID     string // the Mini Program that the scan opened
	AppUserID string // the user's openid under it
	ScannedAt time.Time
	ExpiresAt time.Time
}

// The two texts that callers have been seen to get. Contract: marketcode 1.1.
const (
	badOpenID = "openid invalid"
	badTicket = "无效的code_ticket或与openid不对应"
)

var openIDShape = regexp.MustCompile(`^[0-9A-Za-z_-]{28}$`)

// checkExchange returns 40097 for an openid or a ticket that cannot be one.
func checkExchange(openid, ticket string) error {
	switch {
	case !openIDShape.MatchString(openid):
		return errcode.InvalidArgs.With(badOpenID)
	case ticket == "" || len(ticket) > MaxTicket:
		return errcode.InvalidArgs.With(badTicket)
	}
	return nil
}

// For returns 40097 unless the ticket may be traded by a user now: the one who
// scanned, under the service account or the Mini Program, as often as he likes
// until it expires. Contract: marketcode 3.6.
func (t Ticket) For(openid string, now time.Time) error {
	if !now.Before(t.ExpiresAt) || openid != t.OwnerID && openid != t.AppUserID {
		return errcode.InvalidArgs.With(badTicket)
	}
	return nil
}

// Login is a js_code as stored.
type Login struct {
	Hash      string
	AppID     string
	OpenID    string
	ExpiresAt time.Time
	Used      bool
}

// newTicketText is 128 random bits, 32 lower-case hexadecimal digits.
func newTicketText(random io.Reader) (string, error) {
	var raw [16]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", fmt.Errorf("drawing a ticket: %w", err)
	}
	return hex.EncodeToString(raw[:]), nil
}
