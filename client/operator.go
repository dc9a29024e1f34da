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
	return c.ListPage(ctx, "", 0)
}

// DomainQuery selects a page of hosts.
type DomainQuery struct {
	After string `query:"after" maxLength:"300" doc:"last host of the previous page"`
	Limit int    `query:"limit" minimum:"0" maximum:"1000" doc:"maximum number of hosts; default: all"`
}

// ListPage is like List, but returns at most limit hosts whose name follows cursor, sorted by name.
func (c DomainsService) ListPage(ctx context.Context, cursor string, limit int) ([]Domain, error) {
	reply, err := OpListDomains.call(ctx, c.transport, DomainQuery{cursor, limit})
	return reply.Domains, err
}

// DomainPut is the operator's decision about a host.
type DomainPut struct {
	Status string `json:"status" enum:"trusted,denied,no_icp"`
}

// Set sets the operator's decision about a host: trusted, denied or no_icp.
func (c DomainsService) Set(ctx context.Context, host, status string) error {
	return OpPutDomain.do(ctx, c.transport, DomainPut{status}, host)
}

// Delete deletes the operator's decision about a host.
func (c DomainsService) Delete(ctx context.Context, host string) error {
	return OpDeleteDomain.do(ctx, c.transport, Empty{}, host)
}

// Settings maps names to values of the settings that an operator can change while the server runs. The values are JSON; names and
// types are the same as in the seed file.
type Settings map[string]json.RawMessage

// Get returns the current settings.
func (c SettingsService) Get(ctx context.Context) (Settings, error) {
	var s Settings
	raw, err := OpGetSettings.raw(ctx, c.transport, Empty{}, &SettingsResponse{})
	if err != nil {
		return nil, err
	}
	return s, json.Unmarshal(raw, &s)
}

// SettingsResponse is a response with all settings. The names of the settings depend on the server; SettingsResponse has only the one
// that every server has.
type SettingsResponse struct {
	Verification json.RawMessage `json:"verification"`
}

// Update changes the given settings and leaves all other settings unchanged.
func (c SettingsService) Update(ctx context.Context, values map[string]any) error {
	return OpPutSettings.do(ctx, c.transport, values)
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
	reply, err := OpDescribeSettings.call(ctx, c.transport, Empty{})
	return reply.Settings, err
}

// Reset removes the operator's value of a setting. From then on, the default applies, including a changed default of a later
// version. If the setting does not exist, the result is a *Problem with status 404.
func (c SettingsService) Reset(ctx context.Context, name string) error {
	return OpResetSetting.do(ctx, c.transport, Empty{}, name)
}

// ScanKey is a credential with which an app scans. The same user ID in two namespaces means two different users.
type ScanKey struct {
	Name      string     `json:"name"`
	Namespace string     `json:"namespace" doc:"namespace of user IDs; equal IDs in two namespaces are different users"`
	CreatedAt *time.Time `json:"created_at" nullable:"false"`
}

// ScanKeyList is the list of all scan keys.
type ScanKeyList struct {
	Keys []ScanKey `json:"keys"`
}

// ScanKeyPut is a request for a new scan key.
type ScanKeyPut struct {
	Name      string `json:"name" minLength:"1" maxLength:"64" pattern:"^[0-9A-Za-z._-]+$"`
	Namespace string `json:"namespace,omitempty" maxLength:"64" pattern:"^[0-9A-Za-z._-]*$"`
}

// CreatedScanKey is a new scan key. Key is shown only in this response.
type CreatedScanKey struct {
	Name string `json:"name"`
	Key  string `json:"key" doc:"secret key; returned only once"`
}

// List lists the names and namespaces of the scan keys, but not the secret keys.
func (c ScanKeysService) List(ctx context.Context) ([]ScanKey, error) {
	reply, err := OpListScanKeys.call(ctx, c.transport, Empty{})
	return reply.Keys, err
}

// Create creates a scan key. The key is shown only in this response.
func (c ScanKeysService) Create(ctx context.Context, k ScanKey) (key string, err error) {
	reply, err := OpCreateScanKey.call(ctx, c.transport, ScanKeyPut{k.Name, k.Namespace})
	return reply.Key, err
}

// Delete revokes a scan key.
func (c ScanKeysService) Delete(ctx context.Context, name string) error {
	return OpDeleteScanKey.do(ctx, c.transport, Empty{}, name)
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
	return nil, c.refusedUnread(call.Method, call.Path, resp)
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
	return OpSearch.call(ctx, c.transport, q)
}
