package client

import (
	"context"
	"net/http"
)

// Hit is something that a searched text names, or is a part of.
type Hit struct {
	Kind    string `json:"kind" enum:"account,rule,batch,code,serial,activity,call"`
	Key     string `json:"key" doc:"an AppID, a prefix, an application_id, APPLICATION:INDEX of a code, the name of an activity, or a request id"`
	Name    string `json:"name,omitempty" doc:"of an account its name, of a rule its page, of a batch its isv_application_id, of a code its serial number, of a call its endpoint"`
	Account string `json:"account,omitempty" doc:"whose it is"`
}

// Found is what a search found.
type Found struct {
	Hits    []Hit    `json:"hits" doc:"at most ten of a kind, kind after kind"`
	Partial []string `json:"partial" doc:"kinds of which there are more, or of which not everything was looked at"`
}

// Search finds what a text names, or is a part of: accounts, rules, batches, codes, serial numbers, activities and calls, of one account
// or of all that the caller may see ("").
func (c *Client) Search(ctx context.Context, text, account string) (found Found, err error) {
	err = c.admin(ctx, http.MethodGet, with("search", map[string]string{"q": text, "account": account}), nil, &found)
	return found, err
}
