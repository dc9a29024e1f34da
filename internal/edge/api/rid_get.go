package api

import "context"

type ridReply struct {
	envelope
	Request ridRequest `json:"request"`
}

type ridRequest struct {
	At       int64  `json:"invoke_time"`
	Took     int64  `json:"cost_in_ms"`
	Query    string `json:"request_url"` // only the query string without "?", as in the documented sample
	Request  string `json:"request_body"`
	Response string `json:"response_body"`
	IP       string `json:"client_ip"`
}

// getRID returns the record of a call, without credentials, to the account that made the call. Contract: rules §3.1.
func (a *API) getRID(ctx context.Context, c *call, f *fields) (any, error) {
	rid := f.text("rid")
	if f.err != nil {
		return nil, f.err
	}
	found, err := a.Calls.Find(ctx, c.account(), rid)
	return ridReply{envelope: success, Request: ridRequest{At: found.OccurredAt.Unix(), Took: found.Duration.Milliseconds(),
		Query: found.Query, Request: found.Request, Response: found.Response, IP: found.ClientIP}}, err
}
