package client

import (
	"context"
)

// SearchHit is an object that a search text identifies completely or in part.
type SearchHit struct {
	Kind    string `json:"kind" enum:"account,rule,batch,code,serial,activity,call"`
	Key     string `json:"key" doc:"AppID, prefix, application_id, APPLICATION:INDEX of a code, name of an activity, or request ID"`
	Name    string `json:"name,omitempty" doc:"name of an account, page of a rule, isv_application_id of a batch, serial number of a code, or endpoint of a call"`
	Account string `json:"account,omitempty" doc:"AppID of the account that owns the object"`
}

// SearchResult is the result of a search.
type SearchResult struct {
	Hits    []SearchHit `json:"hits" doc:"matches grouped by kind, at most ten of each"`
	Partial []string    `json:"partial" doc:"kinds with more matches, or that were searched only in part"`
}

// SearchQuery is the input of a search.
type SearchQuery struct {
	Text    string `query:"q" maxLength:"1024" doc:"name or AppID, part of a prefix, link, code text, nine characters or APPLICATION:INDEX, serial number, isv_application_id, activity or request ID"`
	Account string `query:"account" maxLength:"128" doc:"only objects of this account; default: all accounts visible to the caller"`
	Quick   bool   `query:"quick" doc:"if true, searches rules only by the start of the link and among the newest 2,000; default: all rules, for at most two seconds"`
}

// Search finds the objects that a text identifies completely or in part: accounts, rules, batches, codes, serial numbers,
// activities and calls. The server searches the rules for at most two seconds.
func (c *Client) Search(ctx context.Context, q SearchQuery) (SearchResult, error) {
	return get[SearchResult](ctx, c.transport, withQuery("search", paramsOf(q)))
}
