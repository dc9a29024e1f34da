// Package adminapi is the operator's API under /admin/v1. It translates JSON
// and problem documents (RFC 9457); what a call means is decided in the domain
// packages. Who may call is decided by the server before it gets here.
package adminapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/errcode"
	"github.com/qrjump/qrjump/internal/rules"
	"github.com/qrjump/qrjump/internal/scan"
	"github.com/qrjump/qrjump/internal/settings"
)

// Admin is what the operator's API works on.
type Admin struct {
	Accounts *accounts.Directory
	Rules    *rules.Book
	Keys     *scan.Keys
	Settings *settings.Live
	// SaveSettings keeps the fields that a JSON object names over a restart.
	SaveSettings func(ctx context.Context, object []byte) error
	Log          *slog.Logger
}

// Register adds every operation to the API and its document.
func (a *Admin) Register(api huma.API) {
	a.registerAccounts(api)
	a.registerRules(api)
	a.registerDomains(api)
	a.registerSettings(api)
	a.registerKeys(api)
}

// problem turns an error of the domain into a problem document. What nobody
// foresaw is logged whole and told as an internal error.
func (a *Admin) problem(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, accounts.ErrNoAccount):
		return huma.Error404NotFound("there is no account with this appid")
	case errors.Is(err, rules.ErrNotLink), errors.Is(err, errcode.IllegalPrefix):
		return huma.Error422UnprocessableEntity(err.Error())
	}
	if invalid, ok := errors.AsType[accounts.Invalid](err); ok {
		return huma.Error422UnprocessableEntity(string(invalid))
	}
	a.Log.ErrorContext(ctx, "admin call failed", "error", err)
	return huma.Error500InternalServerError("the call failed inside the server: its log says why")
}

// answer is a JSON body.
type answer[T any] struct{ Body T }

// operation describes one call for the API document.
func operation(method, path, id, summary string) huma.Operation {
	op := huma.Operation{Method: method, Path: "/admin/v1" + path, OperationID: id, Summary: summary, Tags: []string{"admin"},
		Security: []map[string][]string{{"admin": {}}}, MaxBodyBytes: 1 << 20, BodyReadTimeout: 10 * time.Second}
	if method == http.MethodPut || method == http.MethodDelete {
		op.DefaultStatus = http.StatusOK
	}
	return op
}
