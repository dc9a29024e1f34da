// Package adminapi implements the operator's API under /admin/v1: each operation is a function that connects the JSON types of
// package client with the domain packages.
package adminapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/branding"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/digitallink"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/verification"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/lake"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/semaphore"
	"github.com/qrjump/qrjump/internal/print/printpackage"
)

// Admin is the operator's API, with its dependencies.
type Admin struct {
	Accounts *accounts.Service
	// Known returns an account from memory; InMemory iterates over the accounts in memory and their SearchText.
	Known    func(appid string) (accounts.Account, bool)
	InMemory func() iter.Seq2[*accounts.Account, string]
	Rules    *rules.Service
	// RuleCount returns the number of rules.
	RuleCount func() int
	Codes     *codes.Service
	Desk      *codes.TicketWriter
	Orders    *codes.Orders
	// PackageSigner signs printers' packages.
	PackageSigner *printpackage.Signer
	// PassphraseWork is age's work factor for a package's passphrase; 0 = the default.
	PassphraseWork int
	OpenIDs        *accounts.OpenIDs
	Keys           *accounts.ScanKeys
	People         *iam.Service
	Shared         *iam.SharedCharts
	// Appearances provides the branding of accounts for buyers.
	Appearances *branding.Service
	// Products provides the links of GS1 keys.
	Products *digitallink.Service
	// ConsoleURL returns the URL of the console.
	ConsoleURL func() string
	Settings   *settings.Live
	Scans      *stats.Aggregator
	Alarms     *alarms.Service
	// Lake is the export of scans for other query engines; nil = none.
	Lake *lake.Lake
	// Following reports how far the memory of this node is behind the change log.
	Following interface {
		Lag(ctx context.Context) (changes int64, err error)
		Staleness() time.Duration
		Loaded() bool
	}
	Webhooks *webhooks.Service
	Rechecks *rules.Verifier
	// LookAtFile fetches a verification file and returns the result of every step of the request.
	LookAtFile func(ctx context.Context, url, content string) ([]verification.Step, error)
	// UserHash returns the hash that identifies a user of a namespace in the scan log.
	UserHash func(namespace, user string) scanlog.UserHash
	// Refused returns the credentials that this node rejected in the last 24 hours.
	Refused func() []client.FailedAuthentication
	// SaveSettings applies the settings in a JSON object and stores them permanently.
	SaveSettings func(ctx context.Context, object []byte) error
	// AssignGS1Prefix assigns a GS1 Company Prefix to an account in the setting gs1_prefixes; other prefixes, which other nodes may assign
	// at the same time, do not change.
	AssignGS1Prefix func(ctx context.Context, prefix, appid string) error
	// ResetSetting removes the stored value of a setting, so that the value in DefaultSettings applies.
	ResetSetting    func(ctx context.Context, name string) error
	DefaultSettings func() settings.Settings
	// StoredSettings returns the settings from the store, which every node follows; this node may not have applied them yet.
	StoredSettings func(ctx context.Context) (settings.Settings, error)
	// Export writes an archive of all data, or of some accounts; if an error occurs before the first byte, nothing is written to w.
	Export func(ctx context.Context, w io.Writer, passphrase string, appids []string) error
	// ImportAccounts adds the accounts of an archive, and returns their number.
	ImportAccounts func(ctx context.Context, file io.ReaderAt, size int64, passphrase string) (int, error)
	// Spool is the directory for temporary files of imports and recounts.
	Spool string
	Log   *slog.Logger
	Calls *apiusage.Service
	// Call returns a call by its request ID, or apiusage.ErrNoCall.
	Call func(ctx context.Context, rid string) (apiusage.Call, error)

	// ChangeHead returns the number of the last change in the change log.
	ChangeHead func(ctx context.Context) (int64, error)
	// History is the audit log, Times answers queries about a past moment, and Resolver returns the decision for a scanned text.
	History  auditlog.Store
	Times    auditlog.PointInTime
	Resolver scan.Resolver
	// ScanLog returns the scan log; if ScanLog is nil or returns nil, there is no scan log.
	ScanLog func() scanlog.Log
	Now     func() time.Time

	changing sync.Mutex          // locked while settings change
	drawing  semaphore.Semaphore // limits concurrent drawing of symbols for packages
}

// explained lists the errors that a caller may see, with the status and text of the response.
var explained = []struct {
	err    error
	status int
	text   string // "" = the text of the error
}{
	{accounts.ErrNoAccount, http.StatusNotFound, "there is no account with this appid"},
	{apiusage.ErrNoCall, http.StatusNotFound, "the call log has no call with this request id: it keeps seven days of calls that had a token " +
		"or secret, and with --dev the latest 1,000 calls of any kind"},
	{accounts.ErrNoComponent, http.StatusNotFound, "there is no third-party platform with this appid"},
	{accounts.ErrNoGrant, http.StatusNotFound, "the account did not authorise this platform"},
	{digitallink.ErrNone, http.StatusNotFound, ""},
	{digitallink.ErrExists, http.StatusConflict, ""},
	{codes.ErrNoBatch, http.StatusNotFound, "there is no application with this id"},
	{codes.ErrNoPackage, http.StatusNotFound, "there is no package with this number"},
	{rules.ErrNoRule, http.StatusNotFound, "there is no rule with this prefix"},
	{rules.ErrNoDomain, http.StatusNotFound, ""},
	{rules.ErrNoChange, http.StatusNotFound, "no change of a rule has this seq; qrjump rule history PREFIX lists the changes"},
	{rules.ErrNotLink, http.StatusUnprocessableEntity, ""},
	{stats.ErrForgotten, http.StatusNotFound,
		"this scan is older than the retention of the scan log: continue without after, which begins " + "with the oldest scan"},
	{scanlog.ErrNoScan, http.StatusNotFound, "there is no scan with this id on this server"},
	{alarms.ErrNoAlarm, http.StatusNotFound, "there is no alarm with this id"},
	{alarms.ErrNoCase, http.StatusNotFound, "there is no case with this id for this caller and these alarms"},
	{alarms.ErrCaseFull, http.StatusUnprocessableEntity, "a case has at most 1,000 alarms"},
	{iam.ErrNoPerson, http.StatusNotFound, ""},
	{iam.ErrNoKey, http.StatusNotFound, ""},
	{iam.ErrNoShared, http.StatusNotFound, ""},
	{iam.ErrExists, http.StatusConflict, ""},
	{iam.ErrKeyExists, http.StatusConflict, ""},
	{accounts.ErrImporting, http.StatusConflict, ""},
	{iam.ErrBusy, http.StatusServiceUnavailable, ""},
	{webhooks.ErrNoWebhook, http.StatusNotFound, "there is no webhook with this id"},
	{webhooks.ErrNoDelivery, http.StatusNotFound, "there is no delivery with this id"},
}

// Problem converts a domain error into a problem document (RFC 9457). An unexpected error is logged in full and reported to the
// client as an internal error.
func (a *Admin) Problem(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[huma.StatusError](err); ok {
		return known
	}
	for _, t := range explained {
		if errors.Is(err, t.err) {
			return huma.NewError(t.status, cmp.Or(t.text, err.Error()))
		}
	}
	if unreached, ok := errors.AsType[scanlog.UnreachableError](err); ok {
		a.Log.WarnContext(ctx, "statistics query over all scans rejected", "error", err)
		return huma.Error503ServiceUnavailable(unreached.Error())
	}
	if invalid, ok := errors.AsType[accounts.Invalid](err); ok {
		return huma.Error422UnprocessableEntity(string(invalid))
	}
	if bad, ok := errors.AsType[stats.BadQuestion](err); ok {
		return huma.Error422UnprocessableEntity(string(bad))
	}
	if conflict, ok := errors.AsType[codes.Conflict](err); ok {
		return huma.Error409Conflict(string(conflict))
	}
	if taken, ok := errors.AsType[accounts.ExclusiveConflict](err); ok {
		return huma.Error409Conflict(taken.Error() + `: set "force_exclusive": true to revoke it there`)
	}
	if used, ok := errors.AsType[accounts.InUse](err); ok {
		return huma.Error409Conflict(used.Error())
	}
	if foreign, ok := errors.AsType[digitallink.OwnershipError](err); ok {
		return huma.Error409Conflict(foreign.Error())
	}
	if superseded, ok := errors.AsType[rules.ErrConflict](err); ok {
		return huma.Error409Conflict(superseded.Error() + ": undo that change first")
	}
	code, detail := errcode.FromError(err)
	switch code {
	case errcode.NoApplication:
		return huma.Error404NotFound(detail)
	case errcode.ActivationOverlaps:
		return huma.Error409Conflict(detail)
	}
	if code != errcode.SystemError {
		return huma.Error422UnprocessableEntity(cmp.Or(detail, code.Meaning().String()))
	}
	a.Log.ErrorContext(ctx, "admin call failed", "error", err)
	if out, ok := errors.AsType[*errcode.Unavailable](err); ok {
		return huma.Error503ServiceUnavailable("the database " + out.Condition + ": try again later; the server's log says more")
	}
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return huma.Error503ServiceUnavailable(fmt.Sprintf("the data directory is full or not writable: %s; nothing was changed: "+
			"free space there, then try again",
			file.Err))
	}
	return huma.Error500InternalServerError("internal error: see the server's log")
}

// refused returns a 422 error for an invalid input; it is used for inputs that no domain package checks.
func refused(format string, args ...any) error {
	return huma.Error422UnprocessableEntity(fmt.Sprintf(format, args...))
}

// readAfter returns read(ctx, in), or err if err is not nil: the error of the step before the read.
func readAfter[In, Out any](ctx context.Context, err error, read func(context.Context, In) (Out, error), in In) (out Out, _ error) {
	if err != nil {
		return out, err
	}
	return read(ctx, in)
}

// Page contains the limit of a list request. Page is exported, like other embedded inputs, because huma ignores unexported embedded fields.
type Page struct {
	Limit int `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// mapped converts every entry of a list with the function show; nil becomes [].
func mapped[T, U any](list []T, show func(T) U) []U {
	shown := make([]U, 0, len(list))
	for _, item := range list {
		shown = append(shown, show(item))
	}
	return shown
}

// words converts a list of strings to another string type; nil becomes an empty list.
func words[To, From ~string](list []From) []To {
	return mapped(list, func(t From) To { return To(t) })
}

// optional returns a pointer to a time; nil if the time is zero.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// The operations of each resource are methods of a separate type that embeds Admin.

type (
	accountAPI struct{ *Admin }
	ruleAPI    struct{ *Admin }
	codeAPI    struct{ *Admin }
	scanAPI    struct{ *Admin }
	webhookAPI struct{ *Admin }
	serverAPI  struct{ *Admin }
	archiveAPI struct{ *Admin }
)
