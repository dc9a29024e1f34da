package adminapi

import (
	"cmp"
	"context"
	"errors"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

// maxCounted limits the counts of an order: at most this many ranges of codes and this many packages are counted.
const maxCounted = 1000

// showOrder returns an order together with the progress of its codes.
func (a codeAPI) showOrder(ctx context.Context, order codes.Order) (client.Order, error) {
	shown := client.Order{Account: order.Account, ISV: order.ISV, Count: order.Count, Text: order.Template,
		TextBits: codes.TextBits(order.Template, order.Count), Guessable: codes.Batch{Template: order.Template, Count: order.Count}.Weak(),
		RequestedBy: order.RequestedBy, CreatedAt: order.CreatedAt,
		DecidedBy: order.DecidedBy, DecidedAt: optional(order.DecidedAt), ApplicationID: order.Batch,
		HasRevision: client.HasRevision{Revision: order.Revision()}}
	switch {
	case order.IsUndecided():
		shown.State = "pending_approval"
	case order.Refused:
		shown.State = "rejected"
	case order.Interrupted():
		shown.State = "generating"
	default:
		shown.State = "generated"
		return shown, a.countOrder(ctx, &shown)
	}
	return shown, nil
}

func (a codeAPI) countOrder(ctx context.Context, shown *client.Order) error {
	b, err := a.Codes.Memory.BatchOrLoad(ctx, shown.ApplicationID)
	if err != nil {
		return err
	}
	runs, _ := a.Codes.Memory.StateRuns(b.ID, codes.Range{To: b.Count - 1}, a.Codes.Now(), maxCounted)
	for _, run := range runs {
		if run.State.Activation != nil {
			shown.Active += run.To - run.From + 1
		}
	}
	packages, err := a.Codes.PrintPackages(ctx, codes.PackageQuery{Batch: b.ID, Limit: maxCounted})
	shown.Packages = int64(len(packages))
	for _, p := range packages {
		if p.Sent > 0 {
			shown.Downloaded++
		}
	}
	return err
}

func (a codeAPI) listOrders(ctx context.Context, in *client.OrderQuery) (client.OrderList, error) {
	shown := client.OrderList{Orders: []client.Order{}}
	accountIDs, err := accountsOf(ctx, in.Account)
	if err != nil {
		return shown, err
	}
	var list []codes.Order
	if in.Making {
		list, err = a.Orders.Interrupted(ctx, accountIDs)
		shown.Total = len(list)
		list = list[:min(len(list), 1000)]
	} else {
		list, shown.Total, err = a.Orders.Newest(ctx, accountIDs, in.Offset, in.Limit)
	}
	if err != nil {
		return shown, err
	}
	for _, item := range list {
		order, err := a.showOrder(ctx, item)
		if err != nil {
			return shown, err
		}
		shown.Orders = append(shown.Orders, order)
	}
	return shown, nil
}

func (a codeAPI) createOrder(ctx context.Context, in *appIDInput[client.OrderPut]) (client.Order, error) {
	account, err := a.Accounts.Get(ctx, in.AppID)
	if err != nil {
		return client.Order{}, err
	}
	template, err := a.Codes.FillTemplate(codes.TemplateOrder{Text: in.Body.Text, GTIN: in.Body.GTIN, Digits: in.Body.FixedDigits,
		Weak: in.Body.AllowGuessable, Count: in.Body.Count})
	if err != nil {
		return client.Order{}, err
	}
	if in.Body.DryRun {
		tried, err := a.showOrder(ctx, codes.Order{Account: in.AppID, ISV: in.Body.ISV, Count: in.Body.Count, Template: template})
		tried.State, tried.Sample = "dry_run", a.Codes.SampleText(template)
		return tried, cmp.Or(codes.CheckPermission(account), err)
	}
	order, err := a.Orders.Create(ctx, account, codes.Application{Count: in.Body.Count, ISV: in.Body.ISV, Template: template},
		a.Settings.Get().OrderApprovalRequired)
	return readAfter(ctx, err, a.showOrder, order)
}

func (a codeAPI) decideOrder(ctx context.Context, in *appIDInput[client.OrderDecision]) (client.Order, error) {
	account, err := a.Accounts.Get(ctx, in.AppID)
	if err != nil {
		return client.Order{}, err
	}
	order, err := a.Orders.Decide(ctx, account, codes.OrderDecision{ISV: in.Body.ISV, Approve: in.Body.Approve,
		Revision: in.Body.Revision}, a.Settings.Get().OrderApprovalRequired)
	if errors.Is(err, codes.ErrNoBatch) {
		return client.Order{}, huma.Error404NotFound("there is no order with this number")
	}
	return readAfter(ctx, err, a.showOrder, order)
}
