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
	ID          int64      `json:"id" doc:"order of being added"`
	Kind        string     `json:"kind"` // rule or service_rule
	Owner       string     `json:"owner"`
	Target      string     `json:"target" doc:"the Mini Program that opens"`
	Prefix      string     `json:"prefix"`
	Path        string     `json:"path"`
	Occupy      bool       `json:"occupy"`
	OpenVersion int        `json:"open_version,omitempty" answer:"optional"`
	TestLinks   []string   `json:"test_links"`
	Published   bool       `json:"published"`
	CreatedAt   time.Time  `json:"created_at"`
	ChangedAt   time.Time  `json:"changed_at"`
	PublishedAt *time.Time `json:"published_at,omitempty" answer:"optional"` // nil = never
}

// StoredRuleList is a page of rules.
type StoredRuleList struct {
	Rules []StoredRule `json:"rules"`
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
	return c.storedRules(ctx, with("rules", map[string]string{"owner": q.Owner, "target": q.Target, "after": after,
		"limit": limitText(q.Limit)}))
}

// Occupiers lists the rules that forbid other accounts a prefix.
func (c *Client) Occupiers(ctx context.Context, prefix string) ([]StoredRule, error) {
	return c.storedRules(ctx, with("rules/occupiers", map[string]string{"prefix": prefix}))
}

func (c *Client) storedRules(ctx context.Context, path string) ([]StoredRule, error) {
	var reply StoredRuleList
	err := c.admin(ctx, http.MethodGet, path, nil, &reply)
	return reply.Rules, err
}

// RuleChange is one change of a rule.
type RuleChange struct {
	Seq   int64      `json:"seq"`
	At    time.Time  `json:"at"`
	Actor string     `json:"actor" doc:"AppID, seed or admin"`
	RID   string     `json:"rid,omitempty" answer:"optional"` // request id of the call; "" where no call did it
	Did   string     `json:"did" doc:"add, edit, publish, delete or release"`
	Rule  StoredRule `json:"rule" doc:"after the change; for a delete or release, before it"`
	// Reason is why an operator released it.
	Reason string `json:"reason,omitempty" answer:"optional" doc:"of a release"`
}

// RuleChanges are changes of rules.
type RuleChanges struct {
	Changes []RuleChange `json:"changes"`
}

// RuleHistory lists what happened to a prefix, whoever had it.
func (c *Client) RuleHistory(ctx context.Context, prefix string) ([]RuleChange, error) {
	var reply RuleChanges
	err := c.admin(ctx, http.MethodGet, with("rules/history", map[string]string{"prefix": prefix}), nil, &reply)
	return reply.Changes, err
}

// Release is a prefix that an operator takes away from its owners, because its
// domain changed hands.
type Release struct {
	Prefix string `json:"prefix"`
	Below  bool   `json:"below,omitempty" doc:"also every rule that begins with the prefix, which ends in / then"`
	Reason string `json:"reason" answer:"optional" doc:"for the audit log and the old owners; at most 500 bytes"`
}

// Released is what was taken away.
type Released struct {
	Released []StoredRule `json:"released" doc:"as they were"`
	More     bool         `json:"more" doc:"there are others left: call again"`
}

// ReleasePrefix deletes rules without their owners and returns them. more says
// that there are others left: call it again.
func (c *Client) ReleasePrefix(ctx context.Context, r Release) (released []StoredRule, more bool, err error) {
	var reply Released
	err = c.long(ctx, http.MethodPost, "prefixes/release", r, &reply)
	return reply.Released, reply.More, err
}

// Notice is what an account was told of a thing that an operator did to it.
type Notice struct {
	ID     int64     `json:"id"`
	At     time.Time `json:"at"`
	Kind   string    `json:"kind" doc:"prefix_released: a rule was taken away"`
	Prefix string    `json:"prefix"`
	Reason string    `json:"reason"`
}

// NoticeList is what an account was told.
type NoticeList struct {
	Notices []Notice `json:"notices"`
}

// Notices lists what an account was told, newest first.
func (c *Client) Notices(ctx context.Context, appid string) ([]Notice, error) {
	var reply NoticeList
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
	Failed bool      `json:"failed,omitempty" answer:"optional"`
}

// ConfirmationList are checks of verification files.
type ConfirmationList struct {
	Confirmations []Confirmation `json:"confirmations"`
}

// ConfirmationQuery says which checks to list, the newest first.
type ConfirmationQuery struct {
	RID, Owner string // "" = any
	Limit      int    // 0 = as many as the server likes to give
}

// Confirmations lists checks of verification files: why an add answered 85069.
func (c *Client) Confirmations(ctx context.Context, q ConfirmationQuery) ([]Confirmation, error) {
	var reply ConfirmationList
	err := c.admin(ctx, http.MethodGet, with("confirmations",
		map[string]string{"rid": q.RID, "owner": q.Owner, "limit": limitText(q.Limit)}), nil, &reply)
	return reply.Confirmations, err
}
