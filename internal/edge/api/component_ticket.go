package api

import "context"

// startPushTicket pushes a verify ticket to the calling platform immediately. Contract: rules §3.2.
func (a *API) startPushTicket(ctx context.Context, c *call, f *fields) (any, error) {
	credentials := platformCredentials(c, f, "component_secret")
	if f.err != nil {
		return nil, f.err
	}
	err := a.Accounts.CheckPlatform(ctx, credentials, credentials.AppID)
	if err := a.spendBySecret(ctx, c, credentials.AppID, "/cgi-bin/component/api_start_push_ticket", err); err != nil {
		return nil, err
	}
	return success, a.Accounts.StartPushingTickets(ctx, credentials)
}
