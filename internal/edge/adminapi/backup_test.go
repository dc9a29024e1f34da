package adminapi_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/edge/adminapi"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// newHandler returns the admin API for a caller with the role Admin.
func newHandler(a *adminapi.Admin) http.Handler {
	mux := http.NewServeMux()
	adminroute.Table{Routes: a.Operations(), Problem: a.Problem, Log: a.Log}.Mount(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r.WithContext(adminroute.WithCaller(r.Context(), adminroute.Caller{Role: adminroute.Admin})))
	})
}

// TestBackupExport_DatabaseUnavailable verifies that an export returns 503 with the cause if the database is unavailable.
func TestBackupExport_DatabaseUnavailable(t *testing.T) {
	t.Parallel()
	mux := newHandler(&adminapi.Admin{Log: slog.New(slog.DiscardHandler), Export: func(context.Context, io.Writer, string, []string) error {
		return fmt.Errorf("reading: %w", &errcode.Unavailable{Condition: "does not respond"})
	}})
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/admin/v1/export", strings.NewReader(`{"passphrase":"correct horse battery"}`))
	r.Header.Set("Content-Type", "application/json")
	if mux.ServeHTTP(w, r); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "the database does not respond") {
		t.Errorf("export = %d %s, want 503 with the cause", w.Code, w.Body)
	}
}

// slowClient is a client that takes a while to read each chunk.
type slowClient struct {
	*httptest.ResponseRecorder
	delay    time.Duration // for each chunk
	deadline time.Time
	chunks   int
}

func (d *slowClient) SetReadDeadline(time.Time) error { return nil }

func (d *slowClient) SetWriteDeadline(t time.Time) error {
	d.deadline = t
	return nil
}

func (d *slowClient) Write(b []byte) (int, error) {
	time.Sleep(d.delay)
	if !d.deadline.IsZero() && time.Now().After(d.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	d.chunks++
	return len(b), nil
}

// TestBackupExport_SlowClientTimeout verifies that an export to a client below the minimum rate is aborted, and that a client above it
// receives everything, however long that takes.
func TestBackupExport_SlowClientTimeout(t *testing.T) {
	t.Parallel()
	const total, chunkSize = 10_000, 32 << 10
	for name, c := range map[string]struct {
		delay     time.Duration // for each chunk
		maxChunks int
		complete  bool
	}{
		"just below the timeout of a chunk": {delay: 59 * time.Second, maxChunks: 4},
		"half of the minimum rate":          {delay: 4 * time.Second, maxChunks: 40},
		"twice the minimum rate":            {delay: time.Second, maxChunks: total, complete: true},
		"never":                             {delay: time.Hour, maxChunks: 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var logs strings.Builder
				mux := newHandler(&adminapi.Admin{Log: slog.New(slog.NewTextHandler(&logs, nil)),
					Export: func(_ context.Context, w io.Writer, _ string, _ []string) error {
						for range total {
							time.Sleep(10 * time.Second) // time of the server does not count
							if _, err := w.Write(make([]byte, chunkSize)); err != nil {
								return err
							}
						}
						return nil
					}})
				w := &slowClient{ResponseRecorder: httptest.NewRecorder(), delay: c.delay}
				r := httptest.NewRequest("POST", "/admin/v1/export", strings.NewReader(`{"passphrase":"correct horse battery"}`))
				r.Header.Set("Content-Type", "application/json")
				aborted := false
				func() {
					defer func() { aborted = recover() == http.ErrAbortHandler }()
					mux.ServeHTTP(w, r)
				}()
				assert.True(t, w.chunks <= c.maxChunks && c.complete == (w.chunks == total) && aborted != c.complete,
					"sent %d of %d chunks, aborted %v, want at most %d; %s", w.chunks, total, aborted, c.maxChunks, logs.String())
			})
		})
	}
}
