package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"
)

// Export writes an archive of the entire server state to w; the keys in the archive are encrypted with a passphrase of at least 12
// characters. The duration grows with the size of the state; limit the duration with ctx. After an error, the written data is not a
// valid archive. With AppIDs of accounts and platforms, the archive contains only their data, for AccountsService.ImportArchive.
func (c ArchiveService) Export(ctx context.Context, passphrase string, appids []string, w io.Writer) error {
	body, err := encode(struct {
		Passphrase string   `json:"passphrase"`
		Accounts   []string `json:"accounts,omitempty"`
	}{passphrase, appids})
	if err != nil {
		return err
	}
	return c.pour(ctx, request{method: http.MethodPost, path: "/admin/v1/export", bearer: c.options.AdminToken,
		contentType: "application/json", body: bytes.NewReader(body)}, "application/gzip", w)
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
		// A read error is ignored, because the partial body is all that can be shown.
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		return c.refused(r.method, r.path, answer{status: resp.StatusCode, header: resp.Header, body: body})
	}
	if got, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); got != kind {
		return c.invalidResponse(r.method, r.path, "Content-Type %q, want %s", excerpt([]byte(resp.Header.Get("Content-Type"))), kind)
	}
	from := &received{r: resp.Body}
	if _, err := io.Copy(w, from); err != nil {
		if broken := from.failed(); broken != nil {
			return &Unreachable{URL: c.baseOf(r.path), Err: fmt.Errorf("the export broke off: %w", withoutAddress(broken))}
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
	return c.admin(ctx, http.MethodPost, "drills", d, &d)
}
