// Package seedfile defines the format of a seed file: the accounts, platforms, rules, GS1 links and settings that a server starts with.
package seedfile

import (
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Seed is the content of a seed file.
type Seed struct {
	Accounts   []accounts.SeedAccount `json:"accounts,omitempty"`
	Components []Component            `json:"components,omitempty"`
	Rules      []rules.SeedRule       `json:"rules,omitempty"`
	Settings   map[string]any         `json:"settings,omitempty"`
	GS1        []any                  `json:"gs1,omitempty"` // GS1 links in the format of the admin API
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
