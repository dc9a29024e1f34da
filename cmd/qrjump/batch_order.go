package main

import (
	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/client"
)

// orderState describes the state of an order, and the next step.
func orderState(o client.Order) string {
	switch o.State {
	case "waits":
		return tr("batch_order.waiting_for_approval", o.ISV, o.Account, o.Account, o.Revision, shellWord(o.ISV))
	case "refused":
		return tr("batch_order.refused_order_of", o.DecidedBy, o.ISV, o.Account)
	case "making":
		return tr("batch_order.approved_without_codes", o.ISV, o.Account)
	}
	return tr("batch_order.application_next_qrjump_batch_schedule", o.ApplicationID)
}

// orderDecision holds the arguments of approve and reject, including the revision of the order that the user has read.
type orderDecision struct {
	operator
	AppID    string `arg:"" name:"appid"`
	Revision string `arg:""`
	ISV      string `name:"isv" required:"" placeholder:"ID"`
}

// Run approves the order, so that its codes are made, or rejects it, as the name of the command says.
func (c *orderDecision) Run(s *session, qrjump *client.Client, chosen *kong.Context) error {
	order, err := qrjump.Orders.Decide(s.ctx, c.AppID, client.OrderDecision{ISV: c.ISV, Revision: c.Revision,
		Approve: chosen.Selected().Name == "approve"})
	return c.outcome(s, order, failed(tr("batch_order.decide_order")+c.ISV+" of", c.AppID, err), "plain", orderState(order))
}

type batchOrders struct {
	operator
	Account string `placeholder:"APPID"`
}

// Run lists orders with their states.
func (c *batchOrders) Run(s *session, qrjump *client.Client) error {
	all := []client.Order{}
	for hasMore := true; hasMore; {
		page, err := qrjump.Orders.List(s.ctx, c.Account, len(all), 1000)
		if err != nil {
			return failed("list", "orders", err)
		}
		all = append(all, page.Orders...)
		hasMore = len(page.Orders) > 0 && len(all) < page.Total
	}
	return listing[client.Order]{name: "orders", none: tr("batch_order.none"), newestFirst: true,
		heads: []string{"ACCOUNT", "ISV", "CODES", "TEXT", "REQUESTED BY", "STATE", "REVISION", "DECIDED BY", "APPLICATION",
			"ACTIVE", "PACKAGES", "DOWNLOADED"},
		row: func(o client.Order) []string {
			return []string{o.Account, o.ISV, number(o.Count), orDash(o.Text), o.RequestedBy, o.State, o.Revision,
				orDash(o.DecidedBy), numberOrNone(o.ApplicationID), number(o.Active), number(o.Packages), number(o.Fetched)}
		}}.print(s, c.outputFlags, all, nil)
}
