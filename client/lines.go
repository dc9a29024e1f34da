package client

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
)

const ndjson = "application/x-ndjson"

// Export writes all rules to w as JSON lines, from one consistent snapshot. The duration grows with the number of rules; limit the
// duration with ctx. After an error, the written lines are incomplete.
func (c RulesService) Export(ctx context.Context, w io.Writer) error {
	return c.exportLines(ctx, "rules", w)
}

// Export writes all accounts like RulesService.Export; the lines contain no account secrets.
func (c AccountsService) Export(ctx context.Context, w io.Writer) error {
	return c.exportLines(ctx, "accounts", w)
}

func (c *transport) exportLines(ctx context.Context, kind string, w io.Writer) error {
	return c.pour(ctx, request{method: http.MethodGet, path: "/admin/v1/export/" + kind, bearer: c.options.AdminToken}, ndjson, w)
}

// Imported is the result of an import, or the expected result with a dry run.
type Imported struct {
	Lines     int  `json:"lines" doc:"number of non-empty lines"`
	Added     int  `json:"added"`
	Changed   int  `json:"changed"`
	Unchanged int  `json:"unchanged" doc:"number of entries that were already stored with equal content"`
	DryRun    bool `json:"dry_run" doc:"whether nothing was stored because the request was a dry run"`
}

// Import imports JSON lines in the format of Export, each at most 16 KiB, either all of them or none. A *Problem with status 422
// names the first invalid lines, at most 20. The duration grows with the number of lines; limit the duration with ctx.
func (c RulesService) Import(ctx context.Context, lines io.Reader, dryRun bool) (Imported, error) {
	return c.importLines(ctx, "rules", lines, dryRun)
}

// Import imports accounts like RulesService.Import. An existing account keeps its secret if the line contains no secret.
func (c AccountsService) Import(ctx context.Context, lines io.Reader, dryRun bool) (Imported, error) {
	return c.importLines(ctx, "accounts", lines, dryRun)
}

// ImportArchive adds the accounts of an archive, with their rules, codes and tokens, to another cell of the server that exported it.
func (c AccountsService) ImportArchive(ctx context.Context, passphrase string, archive io.Reader) (done Imported, err error) {
	r := request{method: http.MethodPost, path: "/admin/v1/import/accounts", contentType: "application/gzip",
		passphrase: base64.StdEncoding.EncodeToString([]byte(passphrase))}
	err = c.sendLines(ctx, r, archive, &done)
	return done, err
}

func (c *transport) importLines(ctx context.Context, kind string, lines io.Reader, dryRun bool) (done Imported, err error) {
	r := request{method: http.MethodPost, path: "/admin/v1/import/" + kind, contentType: ndjson, query: params{"dry_run": dryRun}.values()}
	err = c.sendLines(ctx, r, lines, &done)
	return done, err
}

// sendLines streams lines to the server, and decodes the response.
func (c *transport) sendLines(ctx context.Context, r request, lines io.Reader, done any) error {
	from := &received{r: lines}
	r.bearer, r.accept, r.body = c.options.AdminToken, "application/json, application/problem+json", from
	resp, err := c.open(ctx, r)
	if broken := from.failed(); broken != nil {
		if err == nil {
			resp.Body.Close()
		}
		return fmt.Errorf("reading the lines: %w", broken)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return &Unreachable{URL: c.baseOf(r.path), Err: fmt.Errorf("the answer broke off: %w", withoutAddress(err))}
	}
	return c.readAnswer(r.method, r.path, answer{status: resp.StatusCode, header: resp.Header, body: body}, done)
}
