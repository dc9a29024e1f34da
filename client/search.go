package client

import (
	"context"
)

// SearchHit is an object that a search text names or is a part of.
type SearchHit struct {
	Kind    string `json:"kind" enum:"account,rule,batch,code,serial,activity,call"`
	Key     string `json:"key" doc:"an AppID, a prefix, an application_id, APPLICATION:INDEX of a code, the name of an activity, or a request id"`
	Name    string `json:"name,omitempty" doc:"of an account its name, of a rule its page, of a batch its isv_application_id, of a code its serial number, of a call its endpoint"`
	Account string `json:"account,omitempty" doc:"whose it is"`
}

// SearchResult is the result of a search.
type SearchResult struct {
	Hits    []SearchHit `json:"hits" doc:"at most ten of a kind, kind after kind"`
	Partial []string    `json:"partial" doc:"kinds of which there are more, or of which not everything was looked at"`
}

// SearchQuery is the input of a search.
type SearchQuery struct {
	Text    string `query:"q" maxLength:"1024" doc:"a name or AppID, a part of a prefix, a link, a code text, nine characters or APPLICATION:INDEX, a serial number, an isv_application_id, an activity, a request id"`
	Account string `query:"account" maxLength:"128" doc:"only what is this account's; left out: of all accounts that the caller may see"`
	Quick   bool   `query:"quick" doc:"of rules, only those whose link begins with the text and the newest 2,000; left out: all of them, for two seconds at most"`
}

// Search finds the objects that a text names or is a part of: accounts, rules, batches, codes, serial numbers, activities and
// calls. The search of rules ends after two seconds.
func (c *Client) Search(ctx context.Context, q SearchQuery) (SearchResult, error) {
	return get[SearchResult](ctx, c.transport, withQuery("search", paramsOf(q)))
}
