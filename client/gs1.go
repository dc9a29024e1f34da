package client

import (
	"context"
	"io"
	"time"
)

// GS1Link is one link of a GS1 key.
type GS1Link struct {
	LinkType string     `json:"linktype" doc:"link type: a name of the GS1 Web Vocabulary such as gs1:pip, or a URL"`
	Href     string     `json:"href" doc:"http or https URL; {01}, {21} and so on are replaced by values from the request"`
	Title    string     `json:"title"`
	Hreflang []string   `json:"hreflang,omitempty" nullable:"false"`
	Type     string     `json:"type,omitempty" doc:"media type"`
	Context  []string   `json:"context,omitempty" nullable:"false"`
	Default  bool       `json:"default,omitempty" doc:"whether this is a default link, for requests that select no other"`
	From     *time.Time `json:"from,omitempty" doc:"time from which the link is available"`
	Until    *time.Time `json:"until,omitempty" doc:"time from which the link is no longer available"`
}

// GS1Put is the requested entry of a GS1 key.
type GS1Put struct {
	Owner    string    `json:"owner,omitempty" maxLength:"128" doc:"AppID of the account that holds the key; default: the current holder, or the operator"`
	WxaAppID string    `json:"wxa_appid,omitempty" maxLength:"128" doc:"AppID of the Mini Program that a scan in the app opens; default: the owner"`
	WxaPath  string    `json:"wxa_path,omitempty" maxLength:"1024" doc:"page of the Mini Program; {01}, {21} and so on are replaced by values from the scan"`
	Links    []GS1Link `json:"links" nullable:"false"`
	Archived bool      `json:"archived,omitempty" doc:"if true, requests for the key and keys below it are answered with 410"`
}

// GS1Entry is the entry of a GS1 key; the entry also applies to the keys below this key, unless they have entries of their own.
type GS1Entry struct {
	Key string `json:"key" doc:"key as in a Digital Link without the host: 01/09506000134352/10/LOT"`
	// ID is the number under which scans of the key are counted, like the ID of a rule; the owner of the key is the owner of these scans.
	ID int64 `json:"rule_id,omitempty" doc:"ID under which scans of the key are counted, in the sequence of rule IDs"`
	GS1Put
	UpdatedAt time.Time `json:"updated_at"`
	HasRevision
}

// GS1List is a list of GS1 entries, sorted by key.
type GS1List struct {
	Entries []GS1Entry `json:"entries" nullable:"false"`
}

// GS1Query selects entries; the zero value selects all entries.
type GS1Query struct {
	Under string `query:"under" maxLength:"1024" doc:"only this key and keys below it"`
	Owner string `query:"owner" maxLength:"128" doc:"only keys of this account; default: all accounts visible to the caller"`
	After string `query:"after" maxLength:"1024" doc:"last key of the previous page"`
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// List lists the entries of GS1 keys, sorted by key.
func (c GS1Service) List(ctx context.Context, q GS1Query) ([]GS1Entry, error) {
	list, err := OpListGS1Links.call(ctx, c.transport, q)
	return list.Entries, err
}

// Get returns the entry of one GS1 key.
func (c GS1Service) Get(ctx context.Context, key string) (GS1Entry, error) {
	return OpGetGS1Links.call(ctx, c.transport, Empty{}, key)
}

// NewGS1Entry is the request of Create.
type NewGS1Entry struct {
	Key string `json:"key"`
	GS1Put
}

// Create creates the entry of a GS1 key that has no entry yet.
func (c GS1Service) Create(ctx context.Context, key string, want GS1Put) (GS1Entry, error) {
	return OpAddGS1Links.call(ctx, c.transport, NewGS1Entry{key, want})
}

// Set creates or replaces the entry of a GS1 key.
func (c GS1Service) Set(ctx context.Context, key string, want GS1Put) (GS1Entry, error) {
	return OpPutGS1Links.call(ctx, c.transport, want, key)
}

// Delete deletes and returns the entry of a GS1 key; the entry of a more general key, if any, then applies again.
func (c GS1Service) Delete(ctx context.Context, key string) (GS1Entry, error) {
	return OpDeleteGS1Links.call(ctx, c.transport, Empty{}, key)
}

// UndoChange reverts a change of a GS1 key, if no later change of the key exists.
func (c GS1Service) UndoChange(ctx context.Context, seq int64) (GS1Entry, error) {
	return OpUndoGS1Change.call(ctx, c.transport, Empty{}, seq)
}

// GS1Transfer selects the keys to transfer and their new owner.
type GS1Transfer struct {
	Key    string `json:"key" minLength:"1" maxLength:"1024" doc:"GS1 key, of which the primary key is transferred, or digits of a GS1 Company Prefix"`
	To     string `json:"to" minLength:"1" maxLength:"128" doc:"AppID of the account that receives the key"`
	DryRun bool   `json:"dry_run,omitempty" doc:"if true, only checks the request and counts the keys"`
}

// GS1TransferResult is the result of a transfer.
type GS1TransferResult struct {
	GS1Transfer
	Keys int `json:"keys" doc:"number of keys with links that were transferred"`
}

// Transfer transfers a GS1 key with all keys below it, or a GS1 Company Prefix with its keys, to another account.
func (c GS1Service) Transfer(ctx context.Context, want GS1Transfer) (GS1TransferResult, error) {
	return OpTransferGS1.call(ctx, c.transport, want)
}

// Export writes the entries of all GS1 keys that the caller may see, as JSON lines.
func (c GS1Service) Export(ctx context.Context, w io.Writer) error {
	return c.pour(ctx, OpExportGS1Links.request(c.transport, Empty{}), ndjson, w)
}

// Import imports JSON lines in the format of Export, either all of them or none.
func (c GS1Service) Import(ctx context.Context, lines io.Reader, dryRun bool) (Imported, error) {
	return c.importLines(ctx, OpImportGS1Links, lines, dryRun)
}
