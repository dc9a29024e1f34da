package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// Domain is what the operator says of a host.
type Domain struct {
	Host   string `json:"host"`
	Status string `json:"status"` // trusted, denied or no_icp
}

// Domains lists the hosts that the operator said something of.
func (c *Client) Domains(ctx context.Context) ([]Domain, error) {
	var reply struct {
		Domains []Domain `json:"domains"`
	}
	err := c.admin(ctx, http.MethodGet, "domains", nil, &reply)
	return reply.Domains, err
}

// SetDomain says something of a host: trusted, denied or no_icp.
func (c *Client) SetDomain(ctx context.Context, host, status string) error {
	return c.admin(ctx, http.MethodPut, "domains/"+url.PathEscape(host), map[string]any{"status": status}, nil)
}

// ForgetDomain takes back what was said of a host.
func (c *Client) ForgetDomain(ctx context.Context, host string) error {
	return c.admin(ctx, http.MethodDelete, "domains/"+url.PathEscape(host), nil, nil)
}

// Settings are what an operator may choose while the server runs, by name.
// The values are JSON: the names and types are those of the seed file.
type Settings map[string]json.RawMessage

// Settings returns the values in force.
func (c *Client) Settings(ctx context.Context) (Settings, error) {
	var s Settings
	err := c.admin(ctx, http.MethodGet, "settings", nil, &s)
	return s, err
}

// SetSettings changes the settings that are named and no others.
func (c *Client) SetSettings(ctx context.Context, values map[string]any) error {
	return c.admin(ctx, http.MethodPut, "settings", values, nil)
}

// ScanKey lets an app scan. User ids of two namespaces never meet.
type ScanKey struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// ScanKeys lists the scan keys without the keys themselves.
func (c *Client) ScanKeys(ctx context.Context) ([]ScanKey, error) {
	var reply struct {
		Keys []ScanKey `json:"keys"`
	}
	err := c.admin(ctx, http.MethodGet, "scan-keys", nil, &reply)
	return reply.Keys, err
}

// AddScanKey makes a scan key. It is shown this once.
func (c *Client) AddScanKey(ctx context.Context, k ScanKey) (key string, err error) {
	var reply struct {
		Key string `json:"key"`
	}
	err = c.admin(ctx, http.MethodPost, "scan-keys", k, &reply)
	return reply.Key, err
}

// DeleteScanKey ends a scan key.
func (c *Client) DeleteScanKey(ctx context.Context, name string) error {
	return c.admin(ctx, http.MethodDelete, "scan-keys/"+url.PathEscape(name), nil, nil)
}
