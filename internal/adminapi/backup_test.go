package adminapi

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/qrjump/qrjump/internal/errcode"
)

// An export that cannot begin because the database is away says so, as every
// other call does.
func TestAnExportSaysThatTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	(&Admin{Log: slog.New(slog.DiscardHandler), Export: func(context.Context, io.Writer, string) error {
		return fmt.Errorf("reading: %w", &errcode.Outage{What: "does not answer"})
	}}).registerBackup(humago.New(mux, huma.DefaultConfig("", "")))
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/admin/v1/export", strings.NewReader(`{"passphrase":"correct horse battery"}`))
	r.Header.Set("Content-Type", "application/json")
	if mux.ServeHTTP(w, r); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "the database does not answer") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
