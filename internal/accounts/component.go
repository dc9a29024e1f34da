package accounts

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Component is a third-party platform that acts for accounts.
type Component struct {
	AppID          string
	SecretHash     string
	MessageToken   string // sealed
	EncodingAESKey string // sealed
	EventURL       string
	IPAllowlist    []string
	RedirectHosts  []string
	Grants         []Grant
	CreatedAt      time.Time
}

// Grant is what one account granted a component.
type Grant struct {
	AppID          string
	PermissionSets []int
}

// Validate says which field cannot be. aesKey is EncodingAESKey in the clear.
func (c Component) Validate(aesKey string) error {
	if err := ValidAppID(c.AppID); err != nil {
		return err
	}
	// Contract: rules 3.2: 43 characters, the Base64 of 32 bytes without its "=".
	// The platform's own sample keys leave the last bits set, hence no strict decoding.
	if raw, err := base64.StdEncoding.DecodeString(aesKey + "="); err != nil || len(aesKey) != 43 || len(raw) != 32 {
		return invalidf("component %s: encoding_aes_key must be 43 characters of Base64", c.AppID)
	}
	for _, p := range c.IPAllowlist {
		if _, err := netip.ParsePrefix(p); err != nil {
			return invalidf("component %s: ip_allowlist has %q: want a range such as 10.0.0.0/8", c.AppID, p)
		}
	}
	for _, h := range c.RedirectHosts {
		if h == "" || strings.ContainsAny(h, "/:@ ") {
			return invalidf("component %s: redirect_hosts has %q: want a host name", c.AppID, h)
		}
	}
	for _, g := range c.Grants {
		if slices.ContainsFunc(g.PermissionSets, func(id int) bool { return id < 1 || id > 1000 }) {
			return invalidf("component %s: permission_sets of %s: want numbers from 1 to 1000", c.AppID, g.AppID)
		}
	}
	return ValidCallback(c.EventURL)
}
