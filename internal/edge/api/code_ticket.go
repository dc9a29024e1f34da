package api

import "context"

// tradeTicket exchanges the ticket of a scan for the code. Contract: marketcode §3.6.
func (a *API) tradeTicket(ctx context.Context, c *call, f *fields) (any, error) {
	openid, ticket := f.text("openid"), f.text("code_ticket")
	if f.err != nil {
		return nil, f.err
	}
	found, err := a.Codes.Exchange(ctx, c.caller, openid, ticket)
	if err != nil {
		return nil, err
	}
	a.noteTicketExchange(c, openid, ticket)
	return showCode(found), nil
}
