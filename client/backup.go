package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"
)

// ExportAllRequest is a request for an archive.
type ExportAllRequest struct {
	// The schema sets no length limits, because an error about a violated limit would quote the passphrase.
	Passphrase string   `json:"passphrase" doc:"at least 12 characters; with it, the archive reveals every secret of the server"`
	Accounts   []string `json:"accounts,omitempty" maxItems:"1000" doc:"AppIDs: only their data, for importAccounts"`
}

// Export writes an archive of the entire server state to w; the keys in the archive are encrypted with a passphrase of at least 12
// characters. The duration grows with the size of the state; limit the duration with ctx. After an error, the written data is not a
// valid archive. With AppIDs of accounts and platforms, the archive contains only their data, for AccountsService.ImportArchive.
func (c ArchiveService) Export(ctx context.Context, passphrase string, appids []string, w io.Writer) error {
	in := ExportAllRequest{passphrase, appids}
	body, err := encode(in)
	if err != nil {
		return err
	}
	r := OpExportAll.request(c.transport, in)
	r.contentType, r.body = "application/json", bytes.NewReader(body)
	return c.pour(ctx, r, "application/gzip", w)
}

// pour makes a call and copies the response to w; the response must have the content type kind.
func (c *transport) pour(ctx context.Context, r request, kind string, w io.Writer) error {
	r.accept = kind + ", application/problem+json"
	resp, err := c.open(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.refusedUnread(r.method, r.path, resp)
	}
	if got, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); got != kind {
		return c.invalidResponse(r.method, r.path, "Content-Type %q, want %s", excerpt([]byte(resp.Header.Get("Content-Type"))), kind)
	}
	from := &received{r: resp.Body}
	if _, err := io.Copy(w, from); err != nil {
		if broken := from.failed(); broken != nil {
			return &Unreachable{URL: c.baseOf(r.path), Err: fmt.Errorf("the export ended early: %w", withoutAddress(broken))}
		}
		return fmt.Errorf("writing the export: %w", err)
	}
	return nil
}

// received is a reader that stores its read error. mu guards err, because the transport may still read after the response has arrived.
type received struct {
	r io.Reader

	mu  sync.Mutex
	err error
}

func (r *received) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *received) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	if err != nil && err != io.EOF {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
	}
	return n, err
}

// Drill is the result of a restore drill of an archive.
type Drill struct {
	OK      bool       `json:"ok"`
	Problem string     `json:"problem,omitempty" answer:"optional" maxLength:"1000"` // The error; "" if the drill succeeded.
	Archive *time.Time `json:"archive,omitempty" answer:"optional"`                  // Creation time of the archive; nil if unknown.
	Rows    int64      `json:"rows,omitempty" answer:"optional" minimum:"0"`         // restored
	Rules   int64      `json:"rules,omitempty" answer:"optional" minimum:"0"`
	// Number of codes that were generated, read and looked up again.
	Codes int64 `json:"codes,omitempty" answer:"optional" minimum:"0"`
}

// RecordDrill records the result of a drill in the audit log, so that the console and the command doctor can show the last drill.
func (c ArchiveService) RecordDrill(ctx context.Context, d Drill) error {
	return OpRecordDrill.do(ctx, c.transport, d)
}

const ndjson = "application/x-ndjson"

// Export writes all rules to w as JSON lines, from one consistent snapshot. The duration grows with the number of rules; limit the
// duration with ctx. After an error, the written lines are incomplete.
func (c RulesService) Export(ctx context.Context, w io.Writer) error {
	return c.pour(ctx, OpExportRules.request(c.transport, Empty{}), ndjson, w)
}

// Export writes all accounts like RulesService.Export; the lines contain no account secrets.
func (c AccountsService) Export(ctx context.Context, w io.Writer) error {
	return c.pour(ctx, OpExportAccounts.request(c.transport, Empty{}), ndjson, w)
}

// ImportQuery contains the options of an import.
type ImportQuery struct {
	DryRun bool `query:"dry_run" doc:"if true, only checks the lines"`
}

// Imported is the result of an import, or the expected result with a dry run.
type Imported struct {
	Lines     int  `json:"lines" doc:"number of non-empty lines"`
	Added     int  `json:"added"`
	Changed   int  `json:"changed"`
	Unchanged int  `json:"unchanged" doc:"number of entries that were already stored with equal content"`
	DryRun    bool `json:"dry_run" doc:"whether nothing was stored because the request was a dry run"`
}

// Import imports JSON lines in the format of Export, each at most 1 MiB, either all of them or none. A *Problem with status 422
// names the first invalid lines, at most 20. The duration grows with the number of lines; limit the duration with ctx.
func (c RulesService) Import(ctx context.Context, lines io.Reader, dryRun bool) (Imported, error) {
	return c.importLines(ctx, OpImportRules, lines, dryRun)
}

// Import imports accounts like RulesService.Import. An existing account keeps its secret if the line contains no secret.
func (c AccountsService) Import(ctx context.Context, lines io.Reader, dryRun bool) (Imported, error) {
	return c.importLines(ctx, OpImportAccounts, lines, dryRun)
}

// ImportArchive adds the accounts of an archive, with their rules, codes and tokens, to another cell of the server that exported it.
func (c AccountsService) ImportArchive(ctx context.Context, passphrase string, archive io.Reader) (done Imported, err error) {
	r := OpImportAccounts.request(c.transport, ImportQuery{})
	r.contentType, r.passphrase = "application/gzip", base64.StdEncoding.EncodeToString([]byte(passphrase))
	err = c.sendLines(ctx, r, archive, &done)
	return done, err
}

func (c *transport) importLines(ctx context.Context, op Op[ImportQuery, Imported], lines io.Reader, dryRun bool) (done Imported, _ error) {
	r := op.request(c, ImportQuery{dryRun})
	r.contentType = ndjson
	err := c.sendLines(ctx, r, lines, &done)
	return done, err
}

// sendLines streams lines to the server, and decodes the response.
func (c *transport) sendLines(ctx context.Context, r request, lines io.Reader, done any) error {
	from := &received{r: lines}
	r.body = from
	_, err := c.patient().sendAdmin(ctx, r, done)
	if broken := from.failed(); broken != nil {
		return fmt.Errorf("reading the lines: %w", broken)
	}
	return err
}
