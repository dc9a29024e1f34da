package adminapi

import (
	"context"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
)

func searchOf(s client.CallSearch) apiusage.Search {
	return apiusage.Search{Account: s.Account, Path: s.Path, ErrCode: s.ErrCode, Before: s.Before, After: s.After}
}

func showSearched(s apiusage.Searched) client.SearchRange {
	shown := client.SearchRange{Examined: s.Calls, Next: s.Next, Newest: s.Newest}
	if s.Calls > 0 {
		shown.Since, shown.Until = &s.Since, &s.Until
	}
	return shown
}

func (a serverAPI) listCalls(ctx context.Context, in *client.CallLogQuery) (client.CallLogPage, error) {
	search := searchOf(in.CallSearch)
	search.RID, search.Failed = in.RID, in.Failed
	list, looked, err := a.Calls.List(ctx, search, in.Limit)
	return client.CallLogPage{Calls: mapped(list, showCall), SearchRange: showSearched(looked)}, err
}

func (a serverAPI) listCallErrors(ctx context.Context, in *client.CallSearch) (client.CallErrorList, error) {
	list, looked, err := a.Calls.Failures(ctx, searchOf(*in))
	return client.CallErrorList{Errors: mapped(list, func(f apiusage.Failure) client.CallError {
		return client.CallError{Endpoint: f.Path, ErrCode: f.ErrCode, Count: f.Times, LastRID: f.Last.RID, LastAt: f.Last.OccurredAt,
			Detail: f.Last.Detail}
	}), SearchRange: showSearched(looked)}, err
}

// showCall converts a call for a response, with the IDs of its behaviours but without their texts.
func showCall(c apiusage.Call) client.Call {
	shown := client.Call{RID: c.RID, OccurredAt: c.OccurredAt, Account: c.Account, Endpoint: c.Path, Query: c.Query, Request: c.Request,
		Response: c.Response, IP: c.ClientIP, ErrCode: c.ErrCode, Detail: c.Detail, Duration: c.Duration,
		Behaviours: append([]string{}, c.Behaviours...), Deviations: []string{}}
	for _, id := range c.Behaviours {
		if row, ok := behaviour.ByID(id); ok { // a node of another version may have recorded an unknown id
			if _, deviates := row.Deviation(); deviates {
				shown.Deviations = append(shown.Deviations, id)
			}
		}
	}
	return shown
}

func (a serverAPI) getCall(ctx context.Context, in *struct {
	RID string `path:"rid" maxLength:"64" doc:"request ID from the errmsg, the log or X-Qrjump-Trace"`
}) (client.Call, error) {
	c, err := a.Call(ctx, in.RID)
	if err != nil {
		return client.Call{}, err
	}
	shown := showCall(c)
	for _, id := range c.Behaviours {
		if row, ok := behaviour.ByID(id); ok {
			shown.Rows = append(shown.Rows, showBehaviour(row.Get(), a.Now()))
		}
	}
	return shown, nil
}

// ofCall returns the account that made a call.
func (a serverAPI) ofCall(ctx context.Context, parameter func(string) string) (string, error) {
	c, err := a.Call(ctx, parameter("rid"))
	return c.Account, err
}
