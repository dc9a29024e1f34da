package client

import (
	"context"
	"net/url"
	"time"
)

// Call is a call of the wire, with the reason of its answer. Secrets in it are masked.
type Call struct {
	RID        string        `json:"rid"`
	OccurredAt time.Time     `json:"occurred_at"`
	Account    string        `json:"account,omitempty"` // "" where the caller showed no token and no secret
	Endpoint   string        `json:"endpoint"`
	Query      string        `json:"query,omitempty"`
	Request    string        `json:"request"`
	Response   string        `json:"response"`
	IP         string        `json:"ip"`
	ErrCode    int           `json:"errcode"`
	Detail     string        `json:"detail,omitempty"` // what exactly was wrong, and in which field
	Took       time.Duration `json:"took_ns"`
	// Behaviours are the ids of the rows of the table of behaviours that decided: the one
	// that refused, and those that the server was lenient by.
	Behaviours []string    `json:"behaviours"`
	Rows       []Behaviour `json:"rows,omitempty"` // the same with their texts and marks
	// Deviations are those of them by which the server was lenient, see Client.Deviations.
	Deviations []string `json:"deviations"`
}

// RecordedCall is a call of the wire as the emulator remembers it. Secrets in it
// are masked.
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
	Detail     string        `json:"detail,omitempty" answer:"optional"` // what exactly was wrong
	Behaviours []string      `json:"behaviours,omitempty" answer:"optional"`
	Took       time.Duration `json:"took_ns"`
}

// CallQuery selects calls; the zero value is the newest of all.
type CallQuery struct {
	RID     string `query:"rid"` // "" = any, as below
	Account string `query:"account"`
	Path    string `query:"path"`
	ErrCode int    `query:"errcode"` // 0 = any
	Failed  bool   `query:"failed"`  // only calls that were answered with another number than 0
	// After is the Next of an earlier page: only calls that came since then, oldest first. "" = the
	// newest calls, newest first.
	After string `query:"after"`
	Limit int    `query:"limit"` // 0 = 100
}

// CallPage is a page of calls. Next is the After of the page that follows.
type CallPage struct {
	Calls  []RecordedCall `json:"calls"`
	Next   string         `json:"next"`
	Missed int64          `json:"missed"` // came after After and are forgotten
}

// List lists the last calls of the wire, of the 1,000 that a server remembers. Only
// a server with --dev or --emulator does; each node has its own.
func (c CallsService) List(ctx context.Context, q CallQuery) (CallPage, error) {
	return get[CallPage](ctx, c.transport, withQuery("emulator/calls", paramsOf(q)))
}

// Get returns a call of the wire by its request id, as it stands in an errmsg. A
// Problem with status 404: no such call is kept.
func (c CallsService) Get(ctx context.Context, rid string) (Call, error) {
	return get[Call](ctx, c.transport, "calls/"+url.PathEscape(rid))
}

// Searched says which part of the log of calls was searched for an answer.
type Searched struct {
	Examined int        `json:"examined"`                          // how many calls
	Since    *time.Time `json:"since,omitempty" answer:"optional"` // the second of the oldest; nil where there was none
	Until    *time.Time `json:"until,omitempty" answer:"optional"` // likewise the newest
	Next     int64      `json:"next"`                              // the Before that goes on with older ones; 0 = there are none
	Newest   int64      `json:"newest"`                            // the After of later ones; 0 = none was looked at
}

// KeptCallQuery selects calls of the log; the zero value is the newest of all.
type KeptCallQuery struct {
	CallSearch
	RID    string `query:"rid" maxLength:"64" doc:"only the call with this request id"`
	Failed bool   `query:"failed" doc:"only calls that were answered with another number than 0"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"100"`
}

// CallSearch selects calls of the log by what they called and when.
type CallSearch struct {
	Account string `query:"account" maxLength:"64" doc:"only calls of this account"`
	Path    string `query:"path" maxLength:"256" doc:"only calls of this endpoint"`
	ErrCode int    `query:"errcode" doc:"only calls that were answered with this number; left out or 0: with any"`
	Before  int64  `query:"before" minimum:"0" doc:"go on with older ones: the next of another answer"`
	After   int64  `query:"after" minimum:"0" doc:"only those that came later: the newest of another answer"`
}

// KeptCallPage are calls of the log, newest first, without the texts of their behaviours.
type KeptCallPage struct {
	Calls []Call `json:"calls"`
	Searched
}

// ListPersisted lists the calls of the last seven days on all nodes that showed a token or a secret of
// an account, newest first. A page may have few or none although its Next says that there are older
// ones.
func (c CallsService) ListPersisted(ctx context.Context, q KeptCallQuery) (KeptCallPage, error) {
	return get[KeptCallPage](ctx, c.transport, withQuery("calls", paramsOf(q)))
}

// CallError is a number with which calls of an endpoint were answered.
type CallError struct {
	Endpoint string    `json:"endpoint"`
	ErrCode  int       `json:"errcode"`
	Count    int       `json:"count"`
	LastRID  string    `json:"last_rid"` // request id of the newest of them
	LastAt   time.Time `json:"last_at"`
	Detail   string    `json:"detail,omitempty" answer:"optional"` // what was wrong with that one
}

// CallErrorList are failed calls by endpoint and number, the most frequent first.
type CallErrorList struct {
	Errors []CallError `json:"errors"`
	Searched
}

// ListErrors groups failed calls of the log by endpoint and number. One answer searches a part of
// the log: see Searched. "" and 0 mean any.
func (c CallsService) ListErrors(ctx context.Context, account, path string, errcode int, prev int64) (CallErrorList, error) {
	return get[CallErrorList](ctx, c.transport, withQuery("call-errors",
		params{"account": account, "path": path, "errcode": errcode, "before": prev}))
}
