// Package adminapi is the operator's API under /admin/v1. It translates JSON
// and problem documents (RFC 9457); what a call means is decided in the domain
// packages. Who may call is decided by the server before it gets here.
package adminapi

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/errcode"
	"github.com/qrjump/qrjump/internal/history"
	"github.com/qrjump/qrjump/internal/ledger"
	"github.com/qrjump/qrjump/internal/rules"
	"github.com/qrjump/qrjump/internal/scan"
	"github.com/qrjump/qrjump/internal/settings"
	"github.com/qrjump/qrjump/internal/stats"
	"github.com/qrjump/qrjump/internal/webhooks"
)

// Admin is what the operator's API works on.
type Admin struct {
	Accounts *accounts.Directory
	Rules    *rules.Book
	Codes    *codes.Press
	Desk     *codes.Desk
	OpenIDs  *accounts.OpenIDs
	Keys     *accounts.ScanKeys
	Settings *settings.Live
	Scans    *stats.Counter
	Webhooks *webhooks.Book
	Rechecks *rules.Rechecker
	// UserHash is what the ledger knows a user of a namespace by.
	UserHash func(namespace, user string) ledger.UserHash
	// SaveSettings puts the fields that a JSON object names in force, and keeps
	// them over a restart.
	SaveSettings func(ctx context.Context, object []byte) error
	// Export writes an archive of everything; an error before its first byte
	// leaves w untouched.
	Export func(ctx context.Context, w io.Writer, passphrase string) error
	// Spool is the folder for what an import sends, until it ends.
	Spool string
	Log   *slog.Logger

	// History is the log of changes, Times what was when, Resolver what is now.
	History  history.Store
	Times    history.Times
	Resolver scan.Resolver
	// ScanLog is the log of scans; nil, or one that returns nil: there is none.
	ScanLog func() ledger.Log
	Now     func() time.Time
}

// Register adds every operation to the API and its document.
func (a *Admin) Register(api huma.API) {
	a.registerAccounts(api)
	a.registerComponents(api)
	a.registerLinks(api)
	a.registerRules(api)
	a.registerChanges(api)
	a.registerHistory(api)
	a.registerRelease(api)
	a.registerDomains(api)
	a.registerSettings(api)
	a.registerKeys(api)
	a.registerCodes(api)
	a.registerUsers(api)
	a.registerBackup(api)
	a.registerLines(api)
	a.registerWebhooks(api)
	a.registerRechecks(api)
	a.registerScans(api)
	a.registerStatistics(api)
	a.registerAlarms(api)
}

// problem turns an error of the domain into a problem document. What nobody
// foresaw is logged whole and told as an internal error.
func (a *Admin) problem(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, accounts.ErrNoAccount):
		return huma.Error404NotFound("there is no account with this appid")
	case errors.Is(err, accounts.ErrNoComponent):
		return huma.Error404NotFound("there is no third-party platform with this appid")
	case errors.Is(err, accounts.ErrNoGrant):
		return huma.Error404NotFound("the account did not authorise this platform")
	case errors.Is(err, codes.ErrNoBatch):
		return huma.Error404NotFound("there is no application with this id")
	case errors.Is(err, rules.ErrNoRule):
		return huma.Error404NotFound("there is no rule with this prefix")
	case errors.Is(err, rules.ErrNotLink):
		return huma.Error422UnprocessableEntity(err.Error())
	}
	if unreached, ok := errors.AsType[ledger.Unreached](err); ok {
		a.Log.WarnContext(ctx, "a question for all scans is refused", "error", err)
		return huma.Error503ServiceUnavailable(unreached.Error())
	}
	if invalid, ok := errors.AsType[accounts.Invalid](err); ok {
		return huma.Error422UnprocessableEntity(string(invalid))
	}
	if conflict, ok := errors.AsType[codes.Conflict](err); ok {
		return huma.Error409Conflict(string(conflict))
	}
	code, detail := errcode.Of(err)
	switch code {
	case errcode.NoApplication:
		return huma.Error404NotFound(detail)
	case errcode.ActivationOverlaps:
		return huma.Error409Conflict(detail)
	}
	if code != errcode.SystemError {
		return huma.Error422UnprocessableEntity(cmp.Or(detail, code.Meaning))
	}
	a.Log.ErrorContext(ctx, "admin call failed", "error", err)
	if out, ok := errors.AsType[*errcode.Outage](err); ok {
		return huma.Error503ServiceUnavailable("the database " + out.What + ": try again later; the server's log says more")
	}
	return huma.Error500InternalServerError("the call failed inside the server: its log says why")
}

// refuse answers with the problem of a stream that has not begun.
func (a *Admin) refuse(api huma.API, hctx huma.Context, err error) {
	problem, status := a.problem(hctx.Context(), err), http.StatusInternalServerError
	if known, ok := errors.AsType[huma.StatusError](problem); ok {
		status = known.GetStatus()
	}
	_ = huma.WriteErr(api, hctx, status, problem.Error())
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
