package client

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Domain is the operator's decision about a host.
type Domain struct {
	Host      string    `json:"host"`
	Status    string    `json:"status"`     // trusted, denied or no_icp
	UpdatedAt time.Time `json:"updated_at"` // when it was said
}

// DomainList are the hosts that the operator said something of.
type DomainList struct {
	Domains []Domain `json:"domains"`
}

// List lists the hosts that the operator said something of.
func (c DomainsService) List(ctx context.Context) ([]Domain, error) {
	return c.domains(ctx, http.MethodGet, "domains", nil)
}

// ListPage lists at most limit of these hosts by name, the first after the given one.
func (c DomainsService) ListPage(ctx context.Context, cursor string, limit int) ([]Domain, error) {
	return c.domains(ctx, http.MethodGet, withQuery("domains", params{"after": cursor, "limit": limit}), nil)
}

// domains makes a call that answers hosts.
func (c *transport) domains(ctx context.Context, method, path string, body any) ([]Domain, error) {
	reply, err := ask[DomainList](ctx, c, method, path, body)
	return reply.Domains, err
}

// Set sets what the operator says of a host: trusted, denied or no_icp.
func (c DomainsService) Set(ctx context.Context, host, status string) error {
	_, err := c.domains(ctx, http.MethodPut, "domains/"+url.PathEscape(host), map[string]any{"status": status})
	return err
}

// Delete takes back what was said of a host.
func (c DomainsService) Delete(ctx context.Context, host string) error {
	_, err := c.domains(ctx, http.MethodDelete, "domains/"+url.PathEscape(host), nil)
	return err
}

// Settings are the values that an operator may set while the server runs, by name. The values are JSON: the names and types are
// those of the seed file.
type Settings map[string]json.RawMessage

// Get returns the values in force.
func (c SettingsService) Get(ctx context.Context) (Settings, error) {
	return c.settings(ctx, http.MethodGet, "", nil)
}

// settings makes a call that answers all settings.
func (c *transport) settings(ctx context.Context, method, rest string, body any) (Settings, error) {
	// The names are the server's; this is one that every server has.
	var reply struct {
		Verification json.RawMessage `json:"verification"`
	}
	raw, err := c.adminCall(ctx, call{method: method, path: "/admin/v1/settings" + rest, bearer: c.options.AdminToken, body: body}, &reply)
	if err != nil {
		return nil, err
	}
	var s Settings
	return s, json.Unmarshal(raw, &s)
}

// Update changes the settings that are named and no others.
func (c SettingsService) Update(ctx context.Context, values map[string]any) error {
	_, err := c.settings(ctx, http.MethodPut, "", values)
	return err
}

// Setting is a setting with all that is known of it.
type Setting struct {
	Name    string          `json:"name"`
	Value   json.RawMessage `json:"value" doc:"in force"`
	Default json.RawMessage `json:"default" doc:"what counts on this server where nobody chose"`
	Meaning string          `json:"meaning"`
	Allowed string          `json:"allowed" doc:"which values there can be; empty = true and false"`
	Effect  string          `json:"effect" doc:"since when a change counts"`
	Revised
}

// Changed reports whether the value differs from the default.
func (s Setting) Changed() bool { return !bytes.Equal(s.Value, s.Default) }

// SettingList are all settings.
type SettingList struct {
	Settings []Setting `json:"settings"`
}

// List returns every setting with its value, its default on this server
// and what it means, in an order that keeps together what belongs together.
func (c SettingsService) List(ctx context.Context) ([]Setting, error) {
	reply, err := get[SettingList](ctx, c.transport, "settings/described")
	return reply.Settings, err
}

// Reset takes back what was chosen for a setting, so that its default applies, even where a
// later version changes that. A *Problem with status 404: there is no such setting.
func (c SettingsService) Reset(ctx context.Context, name string) error {
	_, err := c.settings(ctx, http.MethodDelete, "/"+url.PathEscape(name), nil)
	return err
}

// ScanKey lets an app scan. The same user id in two namespaces means two users.
type ScanKey struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	// CreatedAt is its creation time; nil in a request for a new one.
	CreatedAt *time.Time `json:"created_at,omitempty"`
}

// List lists the scan keys without the keys themselves.
func (c ScanKeysService) List(ctx context.Context) ([]ScanKey, error) {
	return c.scanKeys(ctx, http.MethodGet, "scan-keys")
}

// scanKeys makes a call that answers all scan keys.
func (c *transport) scanKeys(ctx context.Context, method, path string) ([]ScanKey, error) {
	reply, err := ask[struct {
		Keys []ScanKey `json:"keys"`
	}](ctx, c, method, path, nil)
	return reply.Keys, err
}

// Create makes a scan key. It is shown only in this answer.
func (c ScanKeysService) Create(ctx context.Context, k ScanKey) (key string, err error) {
	k.CreatedAt = nil // the server sets it
	reply, err := post[struct {
		Key string `json:"key"`
	}](ctx, c.transport, "scan-keys", k)
	return reply.Key, err
}

// Delete ends a scan key.
func (c ScanKeysService) Delete(ctx context.Context, name string) error {
	_, err := c.scanKeys(ctx, http.MethodDelete, "scan-keys/"+url.PathEscape(name))
	return err
}
