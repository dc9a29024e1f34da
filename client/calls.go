package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Call is why a call of the wire was answered as it was. Secrets in it are masked.
type Call struct {
	RID      string        `json:"rid"`
	At       time.Time     `json:"at"`
	Account  string        `json:"account,omitempty"` // "" where the caller showed no token and no secret
	Endpoint string        `json:"endpoint"`
	Query    string        `json:"query,omitempty"`
	Request  string        `json:"request"`
	Answer   string        `json:"answer"`
	IP       string        `json:"ip"`
	ErrCode  int           `json:"errcode"`
	Detail   string        `json:"detail,omitempty"` // what exactly was wrong, and in which field
	Took     time.Duration `json:"took_ns"`
	// Behaviours are the ids of the rows of the table of behaviours that decided: the one
	// that refused, and those that the server was lenient by.
	Behaviours []string    `json:"behaviours"`
	Rows       []Behaviour `json:"rows,omitempty"` // the same with their texts and marks
	// Deviations are those of them that the server was lenient by, see Client.Deviations.
	Deviations []string `json:"deviations"`
}

// RecordedCall is a call of the wire as the emulator remembers it. Secrets in it
// are masked.
type RecordedCall struct {
	RID        string        `json:"rid"`
	At         time.Time     `json:"at"`
	Account    string        `json:"account,omitempty" answer:"optional"`
	IP         string        `json:"ip"`
	Method     string        `json:"method"`
	URL        string        `json:"url"` // path and query
	Request    string        `json:"request"`
	Answer     string        `json:"answer"`
	ErrCode    int           `json:"errcode"`
	Detail     string        `json:"detail,omitempty" answer:"optional"` // what exactly was wrong
	Behaviours []string      `json:"behaviours,omitempty" answer:"optional"`
	Took       time.Duration `json:"took_ns"`
}

// CallQuery selects calls; the zero value is the newest of all.
type CallQuery struct {
	RID, Account, Path string // "" = any
	ErrCode            int    // 0 = any
	Failed             bool   // only calls that were answered with another number than 0
	// After is the Next of a page before: only what came since then, oldest first.
	// "": the newest, newest first.
	After string
	Limit int // 0 = 100
}

// CallPage are calls, and where to go on.
type CallPage struct {
	Calls  []RecordedCall `json:"calls"`
	Next   string         `json:"next"`
	Missed int64          `json:"missed"` // came after After and are forgotten
}

// Calls lists the last calls of the wire, of the 1,000 that a server remembers. Only
// a server with --dev or --emulator does; each node has its own.
func (c *Client) Calls(ctx context.Context, q CallQuery) (CallPage, error) {
	query := map[string]string{"rid": q.RID, "account": q.Account, "path": q.Path, "after": q.After, "limit": limitText(q.Limit)}
	if q.ErrCode != 0 {
		query["errcode"] = strconv.Itoa(q.ErrCode)
	}
	if q.Failed {
		query["failed"] = "true"
	}
	var page CallPage
	err := c.admin(ctx, http.MethodGet, with("emulator/calls", query), nil, &page)
	return page, err
}

// Call returns a call of the wire by its request id, as it stands in an errmsg. A
// Problem with status 404: no such call is kept.
func (c *Client) Call(ctx context.Context, rid string) (Call, error) {
	var one Call
	err := c.admin(ctx, http.MethodGet, "calls/"+url.PathEscape(rid), nil, &one)
	return one, err
}
