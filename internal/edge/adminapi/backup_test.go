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

// served is the API for a caller who may do everything.
func served(a *adminapi.Admin) http.Handler {
	mux := http.NewServeMux()
	adminroute.Table{Routes: a.Operations(), Problem: a.Problem, Log: a.Log}.Mount(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r.WithContext(adminroute.WithCaller(r.Context(), adminroute.Caller{Role: adminroute.Admin})))
	})
}

// An export that cannot begin because the database is away says so, as every other call does.
func TestBackupExport_DatabaseUnavailable(t *testing.T) {
	t.Parallel()
	mux := served(&adminapi.Admin{Log: slog.New(slog.DiscardHandler), Export: func(context.Context, io.Writer, string, []string) error {
		return fmt.Errorf("reading: %w", &errcode.Unavailable{Condition: "does not respond"})
	}})
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/admin/v1/export", strings.NewReader(`{"passphrase":"correct horse battery"}`))
	r.Header.Set("Content-Type", "application/json")
	if mux.ServeHTTP(w, r); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "the database does not respond") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// dripping is a client that takes a piece every so often.
type dripping struct {
	*httptest.ResponseRecorder
	each     time.Duration
	deadline time.Time
	pieces   int
}

func (d *dripping) SetReadDeadline(time.Time) error { return nil }

func (d *dripping) SetWriteDeadline(t time.Time) error {
	d.deadline = t
	return nil
}

func (d *dripping) Write(b []byte) (int, error) {
	time.Sleep(d.each)
	if !d.deadline.IsZero() && time.Now().After(d.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	d.pieces++
	return len(b), nil
}

// Issue 12, 10: an export has an end whatever its client does, and a client that
// reads at a fair pace gets all of it, however long that takes.
func TestBackupExport_SlowClientTimeout(t *testing.T) {
	t.Parallel()
	const all, piece = 10_000, 32 << 10
	for name, c := range map[string]struct {
		each time.Duration
		most int // pieces that it gets
		all  bool
	}{
		"just in time for each piece": {each: 59 * time.Second, most: 4},
		"half of the pace":            {each: 4 * time.Second, most: 40},
		"twice the pace":              {each: time.Second, most: all, all: true},
		"never":                       {each: time.Hour, most: 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var logs strings.Builder
				mux := served(&adminapi.Admin{Log: slog.New(slog.NewTextHandler(&logs, nil)),
					Export: func(_ context.Context, w io.Writer, _ string, _ []string) error {
						for range all {
							time.Sleep(10 * time.Second) // what the server itself takes is no fault of the client
							if _, err := w.Write(make([]byte, piece)); err != nil {
								return err
							}
						}
						return nil
					}})
				w := &dripping{ResponseRecorder: httptest.NewRecorder(), each: c.each}
				r := httptest.NewRequest("POST", "/admin/v1/export", strings.NewReader(`{"passphrase":"correct horse battery"}`))
				r.Header.Set("Content-Type", "application/json")
				aborted := false
				func() {
					defer func() { aborted = recover() == http.ErrAbortHandler }()
					mux.ServeHTTP(w, r)
				}()
				assert.True(t, w.pieces <= c.most && c.all == (w.pieces == all) && aborted != c.all,
					"it got %d pieces of %d, cut off: %v; %s", w.pieces, all, aborted, logs.String())
			})
		})
	}
}
