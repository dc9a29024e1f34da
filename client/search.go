package client

import (
	"context"
	"net/http"
)

// Hit is something that a searched text names, or is a part of.
type SearchHit struct {
	Kind    string `json:"kind" enum:"account,rule,batch,code,serial,activity,call"`
	Key     string `json:"key" doc:"an AppID, a prefix, an application_id, APPLICATION:INDEX of a code, the name of an activity, or a request id"`
	Name    string `json:"name,omitempty" doc:"of an account its name, of a rule its page, of a batch its isv_application_id, of a code its serial number, of a call its endpoint"`
	Account string `json:"account,omitempty" doc:"whose it is"`
}

// Found is what a search found.
type SearchResult struct {
	Hits    []SearchHit `json:"hits" doc:"at most ten of a kind, kind after kind"`
	Partial []string    `json:"partial" doc:"kinds of which there are more, or of which not everything was looked at"`
}

// SearchQuery is what somebody looks for.
type SearchQuery struct {
	Text    string
	Account string // only what is this account's; "" = of all accounts that the caller may see
	Quick   bool   // of rules, only those whose link begins with the text and the newest 2,000
}

// Search finds what a text names, or is a part of: accounts, rules, batches, codes, serial numbers, activities and calls. Rules are
// looked through for two seconds at most.
func (c *Client) Search(ctx context.Context, q SearchQuery) (found SearchResult, err error) {
	asked := map[string]string{"q": q.Text, "account": q.Account}
	if q.Quick {
		asked["quick"] = "true"
	}
	err = c.admin(ctx, http.MethodGet, with("search", asked), nil, &found)
	return found, err
}
