package client

import (
	"context"
	"net/http"
	"net/url"
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

// Call returns a call of the wire by its request id, as it stands in an errmsg. A
// Problem with status 404: no such call is kept.
func (c *Client) Call(ctx context.Context, rid string) (Call, error) {
	var one Call
	err := c.admin(ctx, http.MethodGet, "calls/"+url.PathEscape(rid), nil, &one)
	return one, err
}
