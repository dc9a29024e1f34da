package adminapi

import (
	"context"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// OwnedBy contains the query parameter that selects the owner of the scans.
type OwnedBy struct {
	Owner string `query:"owner" maxLength:"128" doc:"AppID: only scans of this account's rules and codes; default: all visible accounts"`
}

// owners returns the accounts whose scans a request may read: the given owner, or all accounts of the caller if owner is empty; an
// empty list means all accounts.
func owners(ctx context.Context, owner string) ([]string, error) {
	if owner == "-" && !adminroute.CallerFromContext(ctx).Scoped() {
		return []string{""}, nil
	}
	return accountsOf(ctx, owner)
}

// accountsOf returns the accounts whose data a request may read: the given account, or all accounts of the caller if appid is
// empty; an empty list means all accounts.
func accountsOf(ctx context.Context, appid string) ([]string, error) {
	caller := adminroute.CallerFromContext(ctx)
	switch {
	case appid == "":
		return caller.Accounts, nil
	case !caller.CanAccess(appid):
		return nil, notTheirs(caller)
	}
	return []string{appid}, nil
}

// notTheirs returns the 403 error for a caller that requested data of another account.
func notTheirs(caller adminroute.Caller) error {
	return huma.Error403Forbidden("you have access to " + strings.Join(caller.Accounts, ", ") + " only")
}

// ofScan returns the account that owns the scan named in a request.
func (a scanAPI) ofScan(ctx context.Context, parameter func(string) string) (string, error) {
	id, err := scanlog.ParseScanID(parameter("scan_id"))
	if err != nil {
		return "", refused(noScanID)
	}
	e, err := a.Scans.Scan(ctx, id)
	return e.Owner, err
}

// ofAlarm returns the account that owns the alarm named in a request.
func (a scanAPI) ofAlarm(ctx context.Context, parameter func(string) string) (string, error) {
	id, err := strconv.ParseInt(parameter("id"), 10, 64)
	if err != nil {
		return "", alarms.ErrNoAlarm
	}
	list, err := a.Alarms.Alarms(ctx, alarms.Query{After: id - 1, Limit: 1})
	if err != nil {
		return "", err
	}
	if len(list) == 0 || list[0].ID != id {
		return "", alarms.ErrNoAlarm
	}
	return a.accountOf(ctx, list[0])
}
