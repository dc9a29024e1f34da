package accounts

import (
	"encoding/base64"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Component is a third-party platform that acts on behalf of accounts.
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

// Grant holds the permission sets that one account granted a component.
type Grant struct {
	AppID          string
	PermissionSets []int
	RefreshToken   string // sealed
	GrantedAt      time.Time
}

// GrantedComponent is a component with the grant of one account.
type GrantedComponent struct {
	Component string
	Grant     Grant
}

// Validate returns an error that names the first invalid field. aesKey is the EncodingAESKey in plain text; "" = the stored key is kept.
func (c Component) Validate(aesKey string) error {
	if err := ValidAppID(c.AppID); err != nil {
		return err
	}
	// Contract: rules §3.2: an EncodingAESKey has 43 characters, the Base64 of 32 bytes without the final "=". In the sample keys of the
	// Weixin platform, the unused last bits are not zero, so strict Base64 decoding would reject these keys.
	if raw, err := base64.StdEncoding.DecodeString(aesKey + "="); aesKey != "" && (err != nil || len(aesKey) != 43 || len(raw) != 32) {
		return Invalidf("component %s: encoding_aes_key must be 43 characters of Base64", c.AppID)
	}
	for _, p := range c.IPAllowlist {
		if _, err := netip.ParsePrefix(p); err != nil {
			return Invalidf("component %s: ip_allowlist has %q: want a range such as 10.0.0.0/8", c.AppID, p)
		}
	}
	for _, h := range c.RedirectHosts {
		if u, err := url.Parse("https://" + h); h == "" || err != nil || u.Host != h || strings.ContainsAny(h, "/@ \\") {
			return Invalidf("component %s: redirect_hosts has %q: want a host name, with a port unless it is 80 or 443", c.AppID, h)
		}
	}
	seen := map[string]bool{}
	for _, g := range c.Grants {
		if err := ValidSets(g.PermissionSets); err != nil {
			return Invalidf("component %s: permission_sets of %s: %v", c.AppID, g.AppID, err)
		}
		if seen[g.AppID] {
			return Invalidf("component %s: authorizations names %s twice", c.AppID, g.AppID)
		}
		seen[g.AppID] = true
	}
	if err := ValidCallback(c.EventURL); err != nil {
		return Invalidf("component %s: event_url: %v", c.AppID, err)
	}
	return nil
}
