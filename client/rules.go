package client

import (
	"context"
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
	UpdatedAt   time.Time  `json:"updated_at"`
	PublishedAt *time.Time `json:"published_at,omitempty" answer:"optional"` // nil = never
	// Scans is nil where they were not asked for.
	Scans *RecentScans `json:"scans,omitempty" answer:"optional"`
	Revised
}

// StoredRuleList is a page of rules.
type StoredRuleList struct {
	Rules []StoredRule `json:"rules"`
	Next  int64        `json:"next,omitempty" answer:"optional" doc:"the id to go on after, or before where the newest come first; left out: these are all. Of 2,000 rules that were looked at few may match, or none"`
	Total *int         `json:"total,omitempty" answer:"optional" doc:"on all pages, where neither text nor state is asked for"`
}

// StoredRuleQuery says which rules the operator wants to see.
type StoredRuleQuery struct {
	Owner  string `query:"owner" doc:"left out: all accounts that the caller may see"`
	Target string `query:"target"`
	Prefix string `query:"prefix" doc:"only the rule with this prefix"`
	After  int64  `query:"after" doc:"only rules after this id" minimum:"0"`
	Before int64  `query:"before" doc:"only rules before this id, the newest first" minimum:"0"`
	Newest bool   `query:"newest" doc:"the newest first"`
	Text   string `query:"text" maxLength:"1024" doc:"only rules with this in their prefix, whatever the case of its letters"`
	State  string `query:"state" enum:"published,draft"`
	Scans  bool   `query:"scans" doc:"with the scans of the last seven days, for whoever may read statistics"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// RuleNames are rules by their numbers.
type RuleNames struct {
	Rules []RuleName `json:"rules" doc:"those that are known and that the caller may see, in no order"`
}

// RuleName is the display name of a rule that counts and scans identify by its number.
type RuleName struct {
	ID      int64  `json:"rule_id"`
	Owner   string `json:"owner"`
	Prefix  string `json:"prefix"`
	Deleted bool   `json:"deleted,omitempty" doc:"it was deleted"`
}

// ListNames says what people call some rules, at most 1,000 of them.
func (c RulesService) ListNames(ctx context.Context, ids []int64) ([]RuleName, error) {
	reply, err := get[RuleNames](ctx, c.transport, withQuery("rules/names", params{"of": ids}))
	return reply.Rules, err
}

// ListPage finds rules, and says how many there are, and where to go on.
func (c RulesService) ListPage(ctx context.Context, q StoredRuleQuery) (StoredRuleList, error) {
	return get[StoredRuleList](ctx, c.transport, withQuery("rules", paramsOf(q)))
}

// List lists rules of all owners by id.
func (c RulesService) List(ctx context.Context, q StoredRuleQuery) ([]StoredRule, error) {
	reply, err := c.ListPage(ctx, q)
	return reply.Rules, err
}

// ListConflicts lists the rules that forbid other accounts a prefix.
func (c RulesService) ListConflicts(ctx context.Context, prefix string) ([]StoredRule, error) {
	reply, err := get[StoredRuleList](ctx, c.transport, withQuery("rules/occupiers", params{"prefix": prefix}))
	return reply.Rules, err
}

// RuleChange is one change of a rule.
type RuleChange struct {
	Seq        int64      `json:"seq"`
	OccurredAt time.Time  `json:"occurred_at"`
	Actor      string     `json:"actor" doc:"an AppID, seed, admin, person:NAME or key:NAME"`
	RID        string     `json:"rid,omitempty" answer:"optional"` // request id of the call; "" where no call did it
	Action     string     `json:"action" doc:"add, edit, publish, delete or release"`
	Rule       StoredRule `json:"rule" doc:"after the change; for a delete or release, before it"`
	// Reason is an operator's reason for its release.
	Reason string `json:"reason,omitempty" answer:"optional" doc:"of a release"`
}

// RuleChanges are changes of rules.
type RuleChanges struct {
	Changes []RuleChange `json:"changes"`
}

// ListChanges lists the changes of a prefix, of any owner.
func (c RulesService) ListChanges(ctx context.Context, prefix string) ([]RuleChange, error) {
	reply, err := get[RuleChanges](ctx, c.transport, withQuery("rules/history", params{"prefix": prefix}))
	return reply.Changes, err
}

// Release is a prefix that an operator takes away from its owners, because its
// domain changed hands.
type Release struct {
	Prefix string `json:"prefix"`
	Below  bool   `json:"below,omitempty" doc:"also every rule that begins with the prefix, which ends in / then"`
	Reason string `json:"reason" answer:"optional" doc:"for the audit log and the old owners; at most 500 bytes"`
	DryRun bool   `json:"dry_run,omitempty" doc:"only say which rules these are; more then says that there are others"`
}

// Released lists the rules that were taken away.
type Released struct {
	Released []StoredRule `json:"released" doc:"as they were"`
	More     bool         `json:"more" doc:"there are others left: call again"`
}

// ForceDelete deletes rules without asking their owners, and returns them. hasMore says that others
// are left: call it again.
func (c RulesService) ForceDelete(ctx context.Context, r Release) (released []StoredRule, hasMore bool, err error) {
	reply, err := post[Released](ctx, c.patient(), "prefixes/release", r)
	return reply.Released, reply.More, err
}

// Notice tells an account what an operator did to one of its things.
type Notification struct {
	ID        int64     `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	Kind      string    `json:"kind" doc:"prefix_released: a rule was taken away"`
	Prefix    string    `json:"prefix"`
	Reason    string    `json:"reason"`
}

// NoticeList are the notices of an account.
type NotificationList struct {
	Notices []Notification `json:"notices"`
}

// ListNotifications lists at most limit notices of an account, newest first; 0 = as many as the server likes
// to give.
func (c AccountsService) ListNotifications(ctx context.Context, appid string, limit int) ([]Notification, error) {
	reply, err := get[NotificationList](ctx, c.transport, withQuery(accountPath(appid, "notices"), params{"limit": limit}))
	return reply.Notices, err
}

// Confirmation is one check of a verification file.
type Confirmation struct {
	RID        string             `json:"rid"`
	OccurredAt time.Time          `json:"occurred_at"`
	Owner      string             `json:"owner"`
	Prefix     string             `json:"prefix"`
	URL        string             `json:"url"` // where the file was looked for
	OK         bool               `json:"ok"`
	Reason     string             `json:"reason"`
	Steps      []ConfirmationStep `json:"steps"`
}

// ConfirmationStep is one step of fetching a file.
type ConfirmationStep struct {
	OccurredAt time.Time `json:"occurred_at"`
	Action     string    `json:"action"`
	Detail     string    `json:"detail"`
	Failed     bool      `json:"failed,omitempty" answer:"optional"`
}

// ConfirmationList are checks of verification files.
type ConfirmationList struct {
	Confirmations []Confirmation `json:"confirmations"`
}

// ConfirmationQuery says which checks to list, the newest first.
type ConfirmationQuery struct {
	RID, Owner string // "" = any
	Prefix     string // of the rule, as it was sent; "" = any
	Failed     bool   // only checks that did not find the file
	Limit      int    // 0 = as many as the server likes to give
}

// ListChecks lists checks of verification files: why an add answered 85069.
func (c VerificationsService) ListChecks(ctx context.Context, q ConfirmationQuery) ([]Confirmation, error) {
	query := params{"rid": q.RID, "owner": q.Owner, "prefix": q.Prefix, "limit": q.Limit}
	if q.Failed {
		query["ok"] = "false"
	}
	reply, err := get[ConfirmationList](ctx, c.transport, withQuery("confirmations", query))
	return reply.Confirmations, err
}

// Recheck is the latest check of a verification file.
type Recheck struct {
	Owner     string     `json:"owner"`
	Directory string     `json:"directory"`
	Prefix    string     `json:"prefix" doc:"of one of the rules there"`
	CheckedAt time.Time  `json:"checked_at"`
	OK        bool       `json:"ok"`
	Reason    string     `json:"reason"`
	Since     *time.Time `json:"failing_since,omitempty"`
	NextAt    time.Time  `json:"next_at"`
}

// RecheckList is a page of checks of verification files.
type RecheckList struct {
	Rechecks []Recheck `json:"rechecks"`
}

// RecheckQuery selects checks, by owner and directory; the zero value selects the first of all.
type RecheckQuery struct {
	Owner          string `query:"owner"`
	Failing        bool   `query:"failing" doc:"only files that are not in place"`
	AfterOwner     string `query:"after_owner" doc:"with after_directory: the last one of the page before"`
	AfterDirectory string `query:"after_directory"`
	Limit          int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// List lists the daily checks of verification files.
func (c VerificationsService) List(ctx context.Context, q RecheckQuery) ([]Recheck, error) {
	reply, err := get[RecheckList](ctx, c.transport, withQuery("rechecks", paramsOf(q)))
	return reply.Rechecks, err
}

// RechecksDone is the result of a check of all verification files.
type RechecksDone struct {
	Files   int   `json:"files" doc:"how many were looked at in this call; the rest follows in the background"`
	Failing int64 `json:"failing" doc:"how many of all are not in place"`
}

// Run makes the server check all verification files now, the first of them before it
// returns. With slow hosts that takes long: bound it with ctx.
func (c VerificationsService) Run(ctx context.Context) (RechecksDone, error) {
	return post[RechecksDone](ctx, c.patient(), "rechecks", nil)
}

// The values of a PlannedRule's Do.
const (
	PlanAdd     = "add"
	PlanEdit    = "edit" // also where it takes a delete and an add
	PlanPublish = "publish"
	PlanDelete  = "delete"
)

// PlannedRule is a change of a rule that is not made yet.
type PlannedRule struct {
	Do          string `json:"do"`
	Owner       string `json:"owner"`
	Prefix      string `json:"prefix"`
	Path        string `json:"path,omitempty"`
	AppID       string `json:"appid,omitempty"` // of a service account's rule: the Mini Program to open
	Occupy      bool   `json:"occupy,omitempty"`
	OpenVersion int    `json:"open_version,omitempty"` // 0 = 3
	Published   *bool  `json:"published,omitempty"`    // nil = true for an add, as it is for an edit
}

// Replayed says what planned changes would have done to the scans of the last days.
type Replayed struct {
	Since    time.Time       `json:"since"`
	Scans    int64           `json:"scans"`    // of links, in that time
	Examined int64           `json:"examined"` // of them, scans that a planned rule could have to do with
	Changed  int64           `json:"changed"`  // of them, scans that would open something else
	Changes  []OutcomeChange `json:"changes"`  // the most frequent first, at most 100
	// Cut says that there were more scans than are replayed at once: these are the
	// oldest.
	Truncated bool `json:"truncated,omitempty" answer:"optional"`
	// Anonymous says that all are replayed as scans without a user.
	Anonymous bool `json:"anonymous"`
}

// Turn says what some scans would have opened in place of what they opened.
type OutcomeChange struct {
	Before   string   `json:"before"` // the action, the Mini Program and the rule
	After    string   `json:"after"`
	Scans    int64    `json:"scans"`
	Examples []string `json:"examples"` // links of them
}

// PreviewPlan is ReplayPlan, bounded: at most so many scans are read, the oldest first.
func (c RulesService) PreviewPlan(ctx context.Context, changes []PlannedRule, days int, limit int64) (Replayed, error) {
	return post[Replayed](ctx, c.transport, "rules/plan/replay", map[string]any{"changes": changes, "days": days, "most": limit})
}

// ReplayPlan says what changes of rules, at most 1,000, would have done to the scans of the last
// days; nothing is changed. A *Problem with status 422 names a change that is impossible. The time
// that it takes grows with the number of scans: bound it with ctx.
func (c RulesService) ReplayPlan(ctx context.Context, changes []PlannedRule, days int) (Replayed, error) {
	return post[Replayed](ctx, c.patient(), "rules/plan/replay", map[string]any{"changes": changes, "days": days})
}
