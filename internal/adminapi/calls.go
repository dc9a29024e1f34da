package adminapi

import (
	"context"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/behaviour"
)

func (a *Admin) getCall(ctx context.Context, in *struct {
	RID string `path:"rid" maxLength:"64" doc:"as it stands in the errmsg, in the log line or in X-Qrjump-Why"`
}) (client.Call, error) {
	c, err := a.Call(ctx, in.RID)
	if err != nil {
		return client.Call{}, err
	}
	shown := client.Call{RID: c.RID, At: c.At, Account: c.Account, Endpoint: c.Path, Query: c.Query, Request: c.Request,
		Answer: c.Response, IP: c.ClientIP, ErrCode: c.ErrCode, Detail: c.Detail, Took: c.Took,
		Behaviours: append([]string{}, c.Behaviours...), Deviations: []string{}}
	for _, id := range c.Behaviours {
		if row, ok := behaviour.ByID(id); ok { // else of a node of another version
			shown.Rows = append(shown.Rows, showBehaviour(row.Get(), a.Now()))
			if _, deviates := row.Deviation(); deviates {
				shown.Deviations = append(shown.Deviations, id)
			}
		}
	}
	return shown, nil
}

// ofCall is the account that made a call.
func (a *Admin) ofCall(ctx context.Context, parameter func(string) string) (string, error) {
	c, err := a.Call(ctx, parameter("rid"))
	return c.Account, err
}
