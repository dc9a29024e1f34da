package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// StoredRule is a rule of any owner, as the operator sees it.
type StoredRule struct {
	ID          int64      `json:"id"`
	Kind        string     `json:"kind"` // rule or service_rule
	Owner       string     `json:"owner"`
	Target      string     `json:"target"` // Mini Program that opens
	Prefix      string     `json:"prefix"`
	Path        string     `json:"path"`
	Occupy      bool       `json:"occupy"`
	OpenVersion int        `json:"open_version" answer:"optional"`
	TestLinks   []string   `json:"test_links"`
	Published   bool       `json:"published"`
	CreatedAt   time.Time  `json:"created_at"`
	ChangedAt   time.Time  `json:"changed_at"`
	PublishedAt *time.Time `json:"published_at"` // nil = never
}

// StoredRuleQuery says which rules the operator wants to see.
type StoredRuleQuery struct {
	Owner, Target string // "" = any
	After         int64  // id of the last rule that was seen
	Limit         int    // 0 = as many as the server likes to give
}

// StoredRules lists rules of all owners by id.
func (c *Client) StoredRules(ctx context.Context, q StoredRuleQuery) ([]StoredRule, error) {
	var after string
	if q.After > 0 {
		after = strconv.FormatInt(q.After, 10)
	}
	return c.storedRules(ctx, with("rules", map[string]string{"owner": q.Owner, "target": q.Target, "after": after, "limit": limitText(q.Limit)}))
}

// Occupiers lists the rules that forbid other accounts a prefix.
func (c *Client) Occupiers(ctx context.Context, prefix string) ([]StoredRule, error) {
	return c.storedRules(ctx, with("rules/occupiers", map[string]string{"prefix": prefix}))
}

func (c *Client) storedRules(ctx context.Context, path string) ([]StoredRule, error) {
	var reply struct {
		Rules []StoredRule `json:"rules"`
	}
	err := c.admin(ctx, http.MethodGet, path, nil, &reply)
	return reply.Rules, err
}

// RuleChange is one change of a rule.
type RuleChange struct {
	Seq   int64      `json:"seq"`
	At    time.Time  `json:"at"`
	Actor string     `json:"actor"`                 // AppID, or "seed"
	RID   string     `json:"rid" answer:"optional"` // request id of the call; "" where no call did it
	Did   string     `json:"did"`                   // add, edit, publish, delete, release
	Rule  StoredRule `json:"rule"`                  // as it was after the change, or before a delete or release
	// Reason is why an operator released it.
	Reason string `json:"reason" answer:"optional"`
}

// RuleHistory lists what happened to a prefix, whoever had it.
func (c *Client) RuleHistory(ctx context.Context, prefix string) ([]RuleChange, error) {
	var reply struct {
		Changes []RuleChange `json:"changes"`
	}
	err := c.admin(ctx, http.MethodGet, with("rules/history", map[string]string{"prefix": prefix}), nil, &reply)
	return reply.Changes, err
}

// Release is a prefix that an operator takes away from its owners, because its
// domain changed hands.
type Release struct {
	Prefix string `json:"prefix"`
	Below  bool   `json:"below,omitempty"`          // also every rule that begins with it; it ends in / then
	Reason string `json:"reason" answer:"optional"` // for the audit log and the old owners
}

// ReleasePrefix deletes rules without their owners and returns them. more says
// that there are others left: call it again.
func (c *Client) ReleasePrefix(ctx context.Context, r Release) (released []StoredRule, more bool, err error) {
	var reply struct {
		Released []StoredRule `json:"released"`
		More     bool         `json:"more"`
	}
	err = c.long(ctx, http.MethodPost, "prefixes/release", r, &reply)
	return reply.Released, reply.More, err
}

// Notice is what an account was told of a thing that an operator did to it.
type Notice struct {
	ID     int64     `json:"id"`
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"` // prefix_released
	Prefix string    `json:"prefix"`
	Reason string    `json:"reason"`
}

// Notices lists what an account was told, newest first.
func (c *Client) Notices(ctx context.Context, appid string) ([]Notice, error) {
	var reply struct {
		Notices []Notice `json:"notices"`
	}
	err := c.admin(ctx, http.MethodGet, "accounts/"+url.PathEscape(appid)+"/notices", nil, &reply)
	return reply.Notices, err
}

// Confirmation is one check of a verification file.
type Confirmation struct {
	RID    string             `json:"rid"`
	At     time.Time          `json:"at"`
	Owner  string             `json:"owner"`
	Prefix string             `json:"prefix"`
	URL    string             `json:"url"` // where the file was looked for
	OK     bool               `json:"ok"`
	Reason string             `json:"reason"`
	Steps  []ConfirmationStep `json:"steps"`
}

// ConfirmationStep is one thing that happened while a file was fetched.
type ConfirmationStep struct {
	At     time.Time `json:"at"`
	Did    string    `json:"did"`
	Detail string    `json:"detail"`
	Failed bool      `json:"failed" answer:"optional"`
}

// ConfirmationQuery says which checks to list, the newest first.
type ConfirmationQuery struct {
	RID, Owner string // "" = any
	Limit      int    // 0 = as many as the server likes to give
}

// Confirmations lists checks of verification files: why an add answered 85069.
func (c *Client) Confirmations(ctx context.Context, q ConfirmationQuery) ([]Confirmation, error) {
	var reply struct {
		Confirmations []Confirmation `json:"confirmations"`
	}
	err := c.admin(ctx, http.MethodGet, with("confirmations", map[string]string{"rid": q.RID, "owner": q.Owner, "limit": limitText(q.Limit)}), nil, &reply)
	return reply.Confirmations, err
}
