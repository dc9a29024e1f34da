// Package seedfile defines the format of a seed file: the accounts, platforms, rules, GS1 links and settings that a server starts with.
package seedfile

import "github.com/qrjump/qrjump/internal/domain/accounts"

// Seed is the content of a seed file.
type Seed struct {
	Accounts   []Account      `json:"accounts,omitempty"`
	Components []Component    `json:"components,omitempty"`
	Rules      []Rule         `json:"rules,omitempty"`
	Settings   map[string]any `json:"settings,omitempty"`
	GS1        []any          `json:"gs1,omitempty"` // GS1 links in the format of the admin API
}

// Account is an account in a seed file.
type Account struct {
	AppID         string                   `json:"appid"`
	Kind          accounts.Kind            `json:"kind"`
	Name          string                   `json:"name,omitempty"`
	Subject       accounts.Subject         `json:"subject,omitempty"`
	Secret        string                   `json:"secret"`
	Certified     bool                     `json:"certified,omitempty"`
	Versions      []accounts.Version       `json:"versions,omitempty"`
	JumpOpen      *bool                    `json:"jump_open,omitempty"` // nil = true
	Members       map[string]accounts.Role `json:"members,omitempty"`
	Features      []string                 `json:"features,omitempty"`
	MarketcodeKey string                   `json:"marketcode_key,omitempty"`
	Linked        []string                 `json:"linked,omitempty"`
	MessageURL    string                   `json:"message_url,omitempty"`
	URLScheme     string                   `json:"url_scheme,omitempty"`
	Pages         []string                 `json:"pages,omitempty"`
	Options       map[string]string        `json:"options,omitempty"`
	OpenPlatform  string                   `json:"open_platform,omitempty"`
	IPAllowlist   []string                 `json:"ip_allowlist,omitempty"`
}

// Component is a third-party platform in a seed file.
type Component struct {
	AppID          string          `json:"appid"`
	Secret         string          `json:"secret"`
	MessageToken   string          `json:"message_token"`
	EncodingAESKey string          `json:"encoding_aes_key"`
	EventURL       string          `json:"event_url,omitempty"`
	IPAllowlist    []string        `json:"ip_allowlist,omitempty"`
	RedirectHosts  []string        `json:"redirect_hosts,omitempty"`
	Authorizations []Authorization `json:"authorizations,omitempty"` // empty = none; nil = unchanged
}

// Authorization is the set of permissions that an account grants to a platform.
type Authorization struct {
	AppID          string `json:"appid"`
	PermissionSets []int  `json:"permission_sets"`
}

// Rule is a jump rule in a seed file.
type Rule struct {
	Owner       string   `json:"owner"`
	Prefix      string   `json:"prefix"`
	Path        string   `json:"path"`
	AppID       string   `json:"appid,omitempty"`
	Published   bool     `json:"published"`
	Occupy      bool     `json:"occupy,omitempty"`
	OpenVersion *int     `json:"open_version,omitempty"` // nil = the released version
	TestLinks   []string `json:"test_links,omitempty"`
}
