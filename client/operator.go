package client

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Domain is the operator's decision about a host.
type Domain struct {
	Host      string    `json:"host"`
	Status    string    `json:"status"`     // Status is trusted, denied or no_icp.
	UpdatedAt time.Time `json:"updated_at"` // Time of the operator's decision.
}

// DomainList is the list of hosts with a decision of the operator.
type DomainList struct {
	Domains []Domain `json:"domains"`
}

// List lists the hosts that the operator trusts or denies.
func (c DomainsService) List(ctx context.Context) ([]Domain, error) {
	return c.domains(ctx, http.MethodGet, "domains", nil)
}

// ListPage is like List, but returns at most limit hosts whose name follows cursor, sorted by name.
func (c DomainsService) ListPage(ctx context.Context, cursor string, limit int) ([]Domain, error) {
	return c.domains(ctx, http.MethodGet, withQuery("domains", params{"after": cursor, "limit": limit}), nil)
}

// domains makes a call whose response contains hosts.
func (c *transport) domains(ctx context.Context, method, path string, body any) ([]Domain, error) {
	reply, err := send[DomainList](ctx, c, method, path, body)
	return reply.Domains, err
}

// Set sets the operator's decision about a host: trusted, denied or no_icp.
func (c DomainsService) Set(ctx context.Context, host, status string) error {
	_, err := c.domains(ctx, http.MethodPut, "domains/"+url.PathEscape(host), map[string]any{"status": status})
	return err
}

// Delete deletes the operator's decision about a host.
func (c DomainsService) Delete(ctx context.Context, host string) error {
	_, err := c.domains(ctx, http.MethodDelete, "domains/"+url.PathEscape(host), nil)
	return err
}

// Settings maps names to values of the settings that an operator can change while the server runs. The values are JSON; names and
// types are the same as in the seed file.
type Settings map[string]json.RawMessage

// Get returns the current settings.
func (c SettingsService) Get(ctx context.Context) (Settings, error) {
	return c.settings(ctx, http.MethodGet, "", nil)
}

// settings makes a call whose response contains all settings.
func (c *transport) settings(ctx context.Context, method, rest string, body any) (Settings, error) {
	// The names of the settings depend on the server; reply checks only for "verification", which every server has.
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

// Update changes the given settings and leaves all other settings unchanged.
func (c SettingsService) Update(ctx context.Context, values map[string]any) error {
	_, err := c.settings(ctx, http.MethodPut, "", values)
	return err
}

// Setting is a setting with its value, its default and its description.
type Setting struct {
	Name    string          `json:"name"`
	Value   json.RawMessage `json:"value" doc:"value in effect"`
	Default json.RawMessage `json:"default" doc:"default on this server"`
	Meaning string          `json:"meaning"`
	Allowed string          `json:"allowed" doc:"allowed values; empty = true and false"`
	Effect  string          `json:"effect" doc:"time from which a change takes effect"`
	HasRevision
}

// Changed reports whether the value differs from the default.
func (s Setting) Changed() bool { return !bytes.Equal(s.Value, s.Default) }

// SettingList is the list of all settings.
type SettingList struct {
	Settings []Setting `json:"settings"`
}

// List returns all settings with their values, defaults and descriptions; related settings are adjacent.
func (c SettingsService) List(ctx context.Context) ([]Setting, error) {
	reply, err := get[SettingList](ctx, c.transport, "settings/described")
	return reply.Settings, err
}

// Reset removes the operator's value of a setting. From then on, the default applies, including a changed default of a later
// version. If the setting does not exist, the result is a *Problem with status 404.
func (c SettingsService) Reset(ctx context.Context, name string) error {
	_, err := c.settings(ctx, http.MethodDelete, "/"+url.PathEscape(name), nil)
	return err
}

// ScanKey is a credential with which an app scans. The same user ID in two namespaces means two different users.
type ScanKey struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	// CreatedAt is the creation time of the key; nil in a request for a new key.
	CreatedAt *time.Time `json:"created_at,omitempty"`
}

// List lists the names and namespaces of the scan keys, but not the secret keys.
func (c ScanKeysService) List(ctx context.Context) ([]ScanKey, error) {
	return c.scanKeys(ctx, http.MethodGet, "scan-keys")
}

// scanKeys makes a call whose response contains all scan keys.
func (c *transport) scanKeys(ctx context.Context, method, path string) ([]ScanKey, error) {
	reply, err := send[struct {
		Keys []ScanKey `json:"keys"`
	}](ctx, c, method, path, nil)
	return reply.Keys, err
}

// Create creates a scan key. The key is shown only in this response.
func (c ScanKeysService) Create(ctx context.Context, k ScanKey) (key string, err error) {
	k.CreatedAt = nil // The server sets the creation time.
	reply, err := post[struct {
		Key string `json:"key"`
	}](ctx, c.transport, "scan-keys", k)
	return reply.Key, err
}

// Delete revokes a scan key.
func (c ScanKeysService) Delete(ctx context.Context, name string) error {
	_, err := c.scanKeys(ctx, http.MethodDelete, "scan-keys/"+url.PathEscape(name))
	return err
}

// OperationRequest is a request for an operation that is known from the document /openapi.json and has no method in Client.
type OperationRequest struct {
	Method, Path string // Path is already escaped.
	Query        url.Values
	ContentType  string // of Body
	Body         io.Reader
}

// Do sends a request with the operator's token and returns the response, whose body the caller closes. An unsuccessful response is
// returned as a *Problem or a *WrongServer. Limit the duration of the request with ctx.
func (c *Client) Do(ctx context.Context, call OperationRequest) (*http.Response, error) {
	resp, err := c.open(ctx, request{method: call.Method, path: call.Path, query: call.Query, bearer: c.options.AdminToken,
		contentType: call.ContentType, body: call.Body})
	if err != nil || resp.StatusCode/100 == 2 {
		return resp, err
	}
	defer resp.Body.Close()
	// A read error is ignored, because the partial body is all that can be shown.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return nil, c.refused(call.Method, call.Path, answer{status: resp.StatusCode, header: resp.Header, body: body})
}

// SearchHit is an object that a search text identifies completely or in part.
type SearchHit struct {
	Kind    string `json:"kind" enum:"account,rule,batch,code,serial,activity,call"`
	Key     string `json:"key" doc:"AppID, prefix, application_id, APPLICATION:INDEX of a code, name of an activity, or request ID"`
	Name    string `json:"name,omitempty" doc:"name of an account, page of a rule, isv_application_id of a batch, serial number of a code, or endpoint of a call"`
	Account string `json:"account,omitempty" doc:"AppID of the account that owns the object"`
}

// SearchResult is the result of a search.
type SearchResult struct {
	Hits    []SearchHit `json:"hits" doc:"matches grouped by kind, at most ten of each"`
	Partial []string    `json:"partial" doc:"kinds with more matches, or that were searched only in part"`
}

// SearchQuery is the input of a search.
type SearchQuery struct {
	Text    string `query:"q" maxLength:"1024" doc:"name or AppID, part of a prefix, link, code text, nine characters or APPLICATION:INDEX, serial number, isv_application_id, activity or request ID"`
	Account string `query:"account" maxLength:"128" doc:"only objects of this account; default: all accounts visible to the caller"`
	Quick   bool   `query:"quick" doc:"if true, searches rules only by the start of the link and among the newest 2,000; default: all rules, for at most two seconds"`
}

// Search finds the objects that a text identifies completely or in part: accounts, rules, batches, codes, serial numbers,
// activities and calls. The server searches the rules for at most two seconds.
func (c *Client) Search(ctx context.Context, q SearchQuery) (SearchResult, error) {
	return get[SearchResult](ctx, c.transport, withQuery("search", paramsOf(q)))
}
