package client

import (
	"context"
	"time"
)

// Call is a call of the wire API, with the reason for its response. Secrets in requests and responses are masked.
type Call struct {
	RID        string        `json:"rid"`
	OccurredAt time.Time     `json:"occurred_at"`
	Account    string        `json:"account,omitempty"` // Account is "" if the caller sent neither a token nor a secret.
	Endpoint   string        `json:"endpoint"`
	Query      string        `json:"query,omitempty"`
	Request    string        `json:"request"`
	Response   string        `json:"response"`
	IP         string        `json:"ip"`
	ErrCode    int           `json:"errcode"`
	Detail     string        `json:"detail,omitempty"` // Detail is the exact error and the field that caused the error.
	Duration   time.Duration `json:"duration_ns"`
	// Behaviours lists the IDs of the behaviours that determined the response: the behaviour that rejected the call, and the
	// behaviours under which the server was lenient.
	Behaviours []string `json:"behaviours"`
	// Rows contains the behaviours that determined the response, with their texts and evidence levels.
	Rows []Behaviour `json:"rows,omitempty"`
	// Deviations lists the IDs in Behaviours under which the server was lenient, see Client.Deviations.
	Deviations []string `json:"deviations"`
}

// RecordedCall is a call of the wire API in the emulator's memory. Secrets in requests and responses are masked.
type RecordedCall struct {
	RID        string        `json:"rid"`
	OccurredAt time.Time     `json:"occurred_at"`
	Account    string        `json:"account,omitempty" answer:"optional"`
	IP         string        `json:"ip"`
	Method     string        `json:"method"`
	URL        string        `json:"url"` // path and query
	Request    string        `json:"request"`
	Response   string        `json:"response"`
	ErrCode    int           `json:"errcode"`
	Detail     string        `json:"detail,omitempty" answer:"optional"` // Detail is the exact error.
	Behaviours []string      `json:"behaviours,omitempty" answer:"optional"`
	Duration   time.Duration `json:"duration_ns"`
}

// CallQuery selects calls; the zero value selects the newest calls.
type CallQuery struct {
	RID     string `query:"rid" doc:"only the call with this request ID"` // An empty RID, Account or Path matches all calls.
	Account string `query:"account" doc:"only calls of this account"`
	Path    string `query:"path" doc:"only calls of this endpoint"`
	ErrCode int    `query:"errcode" doc:"only calls with this errcode; 0 or omitted = any"`
	Failed  bool   `query:"failed" doc:"only calls whose errcode is not 0"`
	// After is the field Next of an earlier page; After selects only calls after that page, oldest first. If After is "", the newest
	// calls are returned, newest first.
	After string `query:"after" maxLength:"64" doc:"only calls after this position, oldest first"`
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// CallPage is a page of calls. Next is the value of After for the following page.
type CallPage struct {
	Calls  []RecordedCall `json:"calls"`
	Next   string         `json:"next"`
	Missed int64          `json:"missed"` // Missed counts calls that the server evicted before this page could return them.
}

// List lists the latest calls of the wire API; the server keeps the last 1,000 calls in memory. Only a server with --dev or
// --emulator keeps calls in memory; each node keeps its own calls.
func (c CallsService) List(ctx context.Context, q CallQuery) (CallPage, error) {
	return OpListRecentCalls.call(ctx, c.transport, q)
}

// Get returns a call of the wire API by its request ID, which is part of the errmsg. If no call with the request ID is kept, the
// result is a *Problem with status 404.
func (c CallsService) Get(ctx context.Context, rid string) (Call, error) {
	return OpGetCall.call(ctx, c.transport, Empty{}, rid)
}

// SearchRange describes which part of the call log the server searched to produce a response.
type SearchRange struct {
	Examined int `json:"examined"` // number of searched calls
	// Time of the oldest searched call, to the second; nil if no call was searched.
	Since *time.Time `json:"since,omitempty" answer:"optional"`
	Until *time.Time `json:"until,omitempty" answer:"optional"` // time of the newest searched call
	// The value of Before for a query that continues with older calls; 0 if there are no older calls.
	Next int64 `json:"next"`
	// The value of After for a query of later calls; 0 if no call was searched.
	Newest int64 `json:"newest"`
}

// CallLogQuery selects calls of the log; the zero value selects the newest calls.
type CallLogQuery struct {
	CallSearch
	RID    string `query:"rid" maxLength:"64" doc:"only the call with this request ID"`
	Failed bool   `query:"failed" doc:"only calls whose errcode is not 0"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"100"`
}

// CallSearch selects calls of the log by endpoint, errcode and time.
type CallSearch struct {
	Account string `query:"account" maxLength:"64" doc:"only calls of this account"`
	Path    string `query:"path" maxLength:"256" doc:"only calls of this endpoint"`
	ErrCode int    `query:"errcode" doc:"only calls with this errcode; 0 or omitted = any"`
	Before  int64  `query:"before" minimum:"0" doc:"return calls older than this; the next of a previous response"`
	After   int64  `query:"after" minimum:"0" doc:"return calls newer than this; the newest of a previous response"`
}

// CallLogPage is a page of calls from the log, newest first; the field Rows of the calls is empty.
type CallLogPage struct {
	Calls []Call `json:"calls"`
	SearchRange
}

// ListPersisted lists the calls with an account's token or secret, on all nodes in the last seven days, newest first. A page can
// contain few or no calls even though Next indicates older calls.
func (c CallsService) ListPersisted(ctx context.Context, q CallLogQuery) (CallLogPage, error) {
	return OpListCalls.call(ctx, c.transport, q)
}

// CallError counts the failed calls of one endpoint with one errcode.
type CallError struct {
	Endpoint string    `json:"endpoint"`
	ErrCode  int       `json:"errcode"`
	Count    int       `json:"count"`
	LastRID  string    `json:"last_rid"` // Request ID of the newest call.
	LastAt   time.Time `json:"last_at"`
	Detail   string    `json:"detail,omitempty" answer:"optional"` // The error of the newest call.
}

// CallErrorList is a list of failed calls by endpoint and errcode, most frequent first.
type CallErrorList struct {
	Errors []CallError `json:"errors"`
	SearchRange
}

// ListErrors groups failed calls of the log by endpoint and errcode. One response covers a part of the log: see SearchRange. An empty
// account or path, or the errcode 0, matches all calls.
func (c CallsService) ListErrors(ctx context.Context, account, path string, errcode int, prev int64) (CallErrorList, error) {
	return OpListCallErrors.call(ctx, c.transport, CallSearch{Account: account, Path: path, ErrCode: errcode, Before: prev})
}
