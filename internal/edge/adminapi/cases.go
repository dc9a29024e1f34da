package adminapi

import (
	"context"
	"strconv"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// CasePath identifies a case.
type CasePath struct {
	ID int64 `path:"id" minimum:"1"`
}

// ofCase returns the account that owns the case named in a request.
func (a scanAPI) ofCase(ctx context.Context, parameter func(string) string) (string, error) {
	id, err := strconv.ParseInt(parameter("id"), 10, 64)
	if err != nil {
		return "", alarms.ErrNoCase
	}
	c, _, err := a.Alarms.Case(ctx, id)
	return c.Account, err
}

func showCase(c alarms.Case) client.Case {
	shown := client.Case{ID: c.ID, Account: c.Account, Title: c.Title, State: c.State, Assignee: c.Assignee, Note: c.Note,
		CreatedAt: c.CreatedAt, CreatedBy: c.CreatedBy}
	shown.HasRevision = revisionOf(shown, c.Alarms)
	return shown
}

func (a scanAPI) listCases(ctx context.Context, in *client.CaseQuery) (client.CaseList, error) {
	accountIDs, err := owners(ctx, in.Owner)
	if err != nil {
		return client.CaseList{}, err
	}
	list, err := a.Alarms.Cases(ctx, alarms.CaseQuery{Owners: accountIDs, Before: in.Before, State: in.State, Assignee: in.Assignee,
		Limit: in.Limit})
	return client.CaseList{Cases: mapped(list, showCase)}, err
}

func (a scanAPI) getCase(ctx context.Context, in *CasePath) (client.Case, error) {
	c, list, err := a.Alarms.Case(ctx, in.ID)
	shown := showCase(c)
	shown.Alarms = []client.Alarm{}
	for i := 0; i < len(list) && err == nil; i++ {
		var item client.Alarm
		item, err = a.showAlarm(ctx, list[i])
		shown.Alarms = append(shown.Alarms, item)
	}
	return shown, err
}

func (a scanAPI) createCase(ctx context.Context, in *struct{ Body client.NewCase }) (client.Case, error) {
	caller, account := adminroute.CallerFromContext(ctx), in.Body.Account
	switch ids := in.Body.Alarms; {
	case account != "" || !caller.Scoped():
	case len(ids) > 0:
		var err error
		if account, err = a.ofAlarm(ctx, func(string) string { return strconv.FormatInt(ids[0], 10) }); err != nil {
			return client.Case{}, err
		}
	case len(caller.Accounts) == 1:
		account = caller.Accounts[0]
	}
	if !caller.CanAccess(account) {
		return client.Case{}, notTheirs(caller)
	}
	return a.saveCase(ctx, alarms.Case{Account: account}, in.Body.CasePut)
}

func (a scanAPI) putCase(ctx context.Context, in *struct {
	CasePath
	Body client.CasePut
}) (client.Case, error) {
	return a.saveCase(ctx, alarms.Case{ID: in.ID}, in.Body)
}

func (a scanAPI) saveCase(ctx context.Context, c alarms.Case, put client.CasePut) (client.Case, error) {
	ctx = acting(ctx, "")
	c.Title, c.State, c.Assignee, c.Note = put.Title, put.State, put.Assignee, put.Note
	c, err := a.Alarms.SaveCase(ctx, c, put.Alarms, accounts.ActorFromContext(ctx).ActorID, adminroute.CallerFromContext(ctx).Accounts)
	return readAfter(ctx, err, a.getCase, &CasePath{c.ID})
}
