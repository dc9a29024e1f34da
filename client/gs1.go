package client

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// GS1Link is one link of a GS1 key.
type GS1Link struct {
	LinkType string     `json:"linktype" doc:"gs1:pip or another name of the GS1 Web Vocabulary, or the address of a link type"`
	Href     string     `json:"href" doc:"http or https; {01}, {21} and the like stand for what a request says"`
	Title    string     `json:"title"`
	Hreflang []string   `json:"hreflang,omitempty" nullable:"false"`
	Type     string     `json:"type,omitempty" doc:"media type"`
	Context  []string   `json:"context,omitempty" nullable:"false"`
	Default  bool       `json:"default,omitempty" doc:"answers where a request does not say more"`
	From     *time.Time `json:"from,omitempty" doc:"before it the link is not there"`
	Until    *time.Time `json:"until,omitempty" doc:"from then on it is not there"`
}

// GS1Put is the requested entry of a GS1 key.
type GS1Put struct {
	Owner    string    `json:"owner,omitempty" maxLength:"128" doc:"the account whose key it is; left out: as it was, or the operator's"`
	WxaAppID string    `json:"wxa_appid,omitempty" maxLength:"128" doc:"the Mini Program that a scan in the app opens; left out: the owner"`
	WxaPath  string    `json:"wxa_path,omitempty" maxLength:"1024" doc:"its page, in which {01}, {21} and the like stand for what was scanned"`
	Links    []GS1Link `json:"links" nullable:"false"`
	Archived bool      `json:"archived,omitempty" doc:"requests for the key and all below it are answered 410"`
}

// GS1Entry is the entry of a GS1 key, which also applies to all keys below it that have no entry of their own.
type GS1Entry struct {
	Key string `json:"key" doc:"as in a Digital Link, without the host: 01/09506000134352/10/LOT"`
	// ID is the number under which scans of the key are counted, like the ID of a rule; the owner of the key is the owner of these
	// scans.
	ID int64 `json:"rule_id,omitempty" doc:"scans of the key are counted under this number, as those of a rule"`
	GS1Put
	UpdatedAt time.Time `json:"updated_at"`
	Revised
}

// GS1List is a list of GS1 entries, sorted by key.
type GS1List struct {
	Entries []GS1Entry `json:"entries" nullable:"false"`
}

// GS1Query selects entries; the zero value selects all entries.
type GS1Query struct {
	Under string `query:"under" maxLength:"1024" doc:"a key: only it and what is below it"`
	Owner string `query:"owner" maxLength:"128" doc:"only of this account; left out: of all that the caller may see"`
	After string `query:"after" maxLength:"1024" doc:"the last key of the page before"`
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// List lists the entries of GS1 keys, sorted by key.
func (c GS1Service) List(ctx context.Context, q GS1Query) ([]GS1Entry, error) {
	list, err := get[GS1List](ctx, c.transport, withQuery("gs1/links", paramsOf(q)))
	return list.Entries, err
}

func gs1Path(key string) string { return "gs1/links/" + strings.TrimPrefix(key, "/") }

// Get returns the entry of one GS1 key.
func (c GS1Service) Get(ctx context.Context, key string) (GS1Entry, error) {
	return get[GS1Entry](ctx, c.transport, gs1Path(key))
}

// Create creates the entry of a GS1 key that has no entry yet.
func (c GS1Service) Create(ctx context.Context, key string, want GS1Put) (GS1Entry, error) {
	return post[GS1Entry](ctx, c.transport, "gs1/links", struct {
		Key string `json:"key"`
		GS1Put
	}{key, want})
}

// Set creates or replaces the entry of a GS1 key.
func (c GS1Service) Set(ctx context.Context, key string, want GS1Put) (GS1Entry, error) {
	return put[GS1Entry](ctx, c.transport, gs1Path(key), want)
}

// Delete deletes the entry of a GS1 key; the entry of a more general key, if there is one, then applies again. Delete returns the
// deleted entry.
func (c GS1Service) Delete(ctx context.Context, key string) (GS1Entry, error) {
	return remove[GS1Entry](ctx, c.transport, gs1Path(key))
}

// UndoChange reverts a change of a GS1 key, if no later change of the key exists.
func (c GS1Service) UndoChange(ctx context.Context, seq int64) (GS1Entry, error) {
	return post[GS1Entry](ctx, c.transport, "gs1/changes/"+strconv.FormatInt(seq, 10)+"/undo", nil)
}

// GS1Transfer selects the keys to transfer and their new owner.
type GS1Transfer struct {
	Key    string `json:"key" minLength:"1" maxLength:"1024" doc:"a GS1 key, of which the primary key counts, or digits of a GS1 Company Prefix"`
	To     string `json:"to" minLength:"1" maxLength:"128" doc:"the account that holds it from now on"`
	DryRun bool   `json:"dry_run,omitempty" doc:"only check, and count"`
}

// GS1TransferResult is the result of a transfer.
type GS1TransferResult struct {
	GS1Transfer
	Keys int `json:"keys" doc:"how many keys of which something is said changed hands"`
}

// Transfer transfers a GS1 key with all keys below it, or a GS1 Company Prefix with its keys, to another account.
func (c GS1Service) Transfer(ctx context.Context, want GS1Transfer) (done GS1TransferResult, err error) {
	return done, c.admin(ctx, http.MethodPost, "gs1/transfer", want, &done)
}

// Export writes the entries of all GS1 keys that the caller may see, as JSON lines.
func (c GS1Service) Export(ctx context.Context, w io.Writer) error {
	return c.exportLines(ctx, "gs1", w)
}

// Import imports JSON lines in the format of Export, either all of them or none.
func (c GS1Service) Import(ctx context.Context, lines io.Reader, dryRun bool) (Imported, error) {
	return c.importLines(ctx, "gs1", lines, dryRun)
}
