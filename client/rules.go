package client

import (
	"context"
	"time"
)

// StoredRule is a rule of any owner, in the operator's view.
type StoredRule struct {
	ID          int64      `json:"id" doc:"ID, in order of creation"`
	Kind        string     `json:"kind"` // rule or service_rule
	Owner       string     `json:"owner"`
	Target      string     `json:"target" doc:"AppID of the Mini Program that the rule opens"`
	Prefix      string     `json:"prefix"`
	Path        string     `json:"path"`
	Occupy      bool       `json:"occupy"`
	OpenVersion int        `json:"open_version,omitempty" answer:"optional"`
	TestLinks   []string   `json:"test_links"`
	Published   bool       `json:"published"`
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	PublishedAt *time.Time `json:"published_at,omitempty" answer:"optional"` // nil = never
	// Scans is nil if the scan numbers were not requested.
	Scans *RecentScans `json:"scans,omitempty" answer:"optional"`
	HasRevision
}

// StoredRuleList is a page of rules.
type StoredRuleList struct {
	Rules []StoredRule `json:"rules"`
	Next  int64        `json:"next,omitempty" answer:"optional" doc:"value of after, or of before with newest, for the next page; omitted on the last. With text or state a page may be empty"`
	Total *int         `json:"total,omitempty" answer:"optional" doc:"number of rules on all pages; only without text and state"`
}

// StoredRuleQuery selects rules in the operator's view.
type StoredRuleQuery struct {
	Owner  string `query:"owner" doc:"only rules of this account; default: all accounts visible to the caller"`
	Target string `query:"target"`
	Prefix string `query:"prefix" doc:"only the rule with this prefix"`
	After  int64  `query:"after" doc:"only rules with a greater ID" minimum:"0"`
	Before int64  `query:"before" doc:"only rules with a smaller ID, newest first" minimum:"0"`
	Newest bool   `query:"newest" doc:"newest first"`
	Text   string `query:"text" maxLength:"1024" doc:"text that must occur in the prefix, ignoring case"`
	State  string `query:"state" enum:"published,draft"`
	Scans  bool   `query:"scans" doc:"include the scans of the last seven days; requires the right to read statistics"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// PrefixQuery selects the rules with a prefix.
type PrefixQuery struct {
	Prefix string `query:"prefix" required:"true"`
}

// RuleNamesQuery selects rules by their IDs.
type RuleNamesQuery struct {
	IDs []int64 `query:"of" maxItems:"1000" doc:"IDs of rules, separated by commas"`
}

// RuleNames is a list of rules with their display names.
type RuleNames struct {
	Rules []RuleName `json:"rules" doc:"names of the rules that exist and are visible to the caller, unordered"`
}

// RuleName is the display name of a rule, for statistics and scans that contain only the rule's ID.
type RuleName struct {
	ID      int64  `json:"rule_id"`
	Owner   string `json:"owner"`
	Prefix  string `json:"prefix"`
	Deleted bool   `json:"deleted,omitempty" doc:"whether the rule was deleted"`
}

// ListNames returns the display names of at most 1,000 rules.
func (c RulesService) ListNames(ctx context.Context, ids []int64) ([]RuleName, error) {
	reply, err := OpCompleteRules.call(ctx, c.transport, RuleNamesQuery{ids})
	return reply.Rules, err
}

// ListPage returns a page of matching rules, their total number and the cursor for the next page.
func (c RulesService) ListPage(ctx context.Context, q StoredRuleQuery) (StoredRuleList, error) {
	return OpListRules.call(ctx, c.transport, q)
}

// List lists rules of all owners, sorted by ID.
func (c RulesService) List(ctx context.Context, q StoredRuleQuery) ([]StoredRule, error) {
	reply, err := c.ListPage(ctx, q)
	return reply.Rules, err
}

// ListConflicts lists the rules that prevent other accounts from adding a prefix.
func (c RulesService) ListConflicts(ctx context.Context, prefix string) ([]StoredRule, error) {
	reply, err := OpListRuleConflicts.call(ctx, c.transport, PrefixQuery{prefix})
	return reply.Rules, err
}

// RuleChange is one entry in the history of a rule.
type RuleChange struct {
	Seq        int64      `json:"seq"`
	OccurredAt time.Time  `json:"occurred_at"`
	Actor      string     `json:"actor" doc:"AppID, seed, admin, person:NAME or key:NAME"`
	RID        string     `json:"rid,omitempty" answer:"optional"` // Request ID of the call; "" if the change was not made by a call.
	Action     string     `json:"action" doc:"add, edit, publish, delete or force_delete"`
	Rule       StoredRule `json:"rule" doc:"rule after the change; before it, for delete and force_delete"`
	// Reason is the operator's reason for a change with the action force_delete.
	Reason string `json:"reason,omitempty" answer:"optional" doc:"reason, for force_delete"`
}

// RuleChanges is a list of changes of rules.
type RuleChanges struct {
	Changes []RuleChange `json:"changes"`
}

// ListChanges lists the changes of all owners' rules with a prefix.
func (c RulesService) ListChanges(ctx context.Context, prefix string) ([]RuleChange, error) {
	reply, err := OpGetRuleHistory.call(ctx, c.transport, PrefixQuery{prefix})
	return reply.Changes, err
}

// ForceDeleteRequest is a request to delete the rules under a prefix without their owners' consent, because the domain has a new owner.
type ForceDeleteRequest struct {
	Prefix string `json:"prefix"`
	Below  bool   `json:"below,omitempty" doc:"if true, includes all rules that start with the prefix, which must end in /"`
	Reason string `json:"reason" answer:"optional" doc:"reason for the audit log and the previous owners, at most 500 bytes"`
	DryRun bool   `json:"dry_run,omitempty" doc:"if true, only lists the rules; more in the response reports whether there are others"`
}

// ForceDeleteResult lists the rules that were deleted.
type ForceDeleteResult struct {
	Deleted []StoredRule `json:"deleted" doc:"deleted rules as they were"`
	More    bool         `json:"more" doc:"whether matching rules are left; repeat the request"`
}

// ForceDelete deletes rules without their owners' consent, and returns the deleted rules. If hasMore is true, further rules remain:
// repeat the call.
func (c RulesService) ForceDelete(ctx context.Context, r ForceDeleteRequest) (deleted []StoredRule, hasMore bool, err error) {
	reply, err := OpForceDeleteRules.call(ctx, c.patient(), r)
	return reply.Deleted, reply.More, err
}

// Notification is a message to an account about an operator's change of one of its objects.
type Notification struct {
	ID        int64     `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	Kind      string    `json:"kind" doc:"prefix_force_deleted: a rule was deleted by the operator"`
	Prefix    string    `json:"prefix"`
	Reason    string    `json:"reason"`
}

// NotificationList is a list of an account's notifications.
type NotificationList struct {
	Notifications []Notification `json:"notifications"`
}

// NotificationQuery limits the number of notifications in a list.
type NotificationQuery struct {
	Limit int `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// ListNotifications lists at most limit notifications of an account, newest first; limit 0 selects the server's default page size.
func (c AccountsService) ListNotifications(ctx context.Context, appid string, limit int) ([]Notification, error) {
	reply, err := OpListNotifications.call(ctx, c.transport, NotificationQuery{limit}, appid)
	return reply.Notifications, err
}

// DomainVerification is one check of a verification file.
type DomainVerification struct {
	RID        string             `json:"rid"`
	OccurredAt time.Time          `json:"occurred_at"`
	Owner      string             `json:"owner"`
	Prefix     string             `json:"prefix"`
	URL        string             `json:"url"` // The address from which the server tried to fetch the file.
	OK         bool               `json:"ok"`
	Reason     string             `json:"reason"`
	Steps      []VerificationStep `json:"steps"`
}

// VerificationStep is one step of fetching a file.
type VerificationStep struct {
	OccurredAt time.Time `json:"occurred_at"`
	Action     string    `json:"action"`
	Detail     string    `json:"detail"`
	Failed     bool      `json:"failed,omitempty" answer:"optional"`
}

// DomainVerificationList is a list of checks of verification files.
type DomainVerificationList struct {
	Verifications []DomainVerification `json:"verifications"`
}

// VerificationQuery selects checks of verification files, newest first.
type VerificationQuery struct {
	RID    string `query:"rid" doc:"request ID of the call"`
	Owner  string `query:"owner"`
	Prefix string `query:"prefix" doc:"prefix of the rule, as it was sent"`
	OK     string `query:"ok" enum:"true,false" doc:"only checks that succeeded, or only checks that failed"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// ListChecks lists checks of verification files. Failed checks explain the error 85069 of a call that adds a rule.
func (c VerificationsService) ListChecks(ctx context.Context, q VerificationQuery) ([]DomainVerification, error) {
	reply, err := OpListVerifications.call(ctx, c.transport, q)
	return reply.Verifications, err
}

// Reverification is the latest check of a verification file.
type Reverification struct {
	Owner     string     `json:"owner"`
	Directory string     `json:"directory"`
	Prefix    string     `json:"prefix" doc:"prefix of a rule in the directory"`
	CheckedAt time.Time  `json:"checked_at"`
	OK        bool       `json:"ok"`
	Reason    string     `json:"reason"`
	Since     *time.Time `json:"failing_since,omitempty"`
	NextAt    time.Time  `json:"next_at"`
}

// ReverificationList is a page of checks of verification files.
type ReverificationList struct {
	Reverifications []Reverification `json:"reverifications"`
}

// ReverificationQuery selects checks, sorted by owner and directory; the zero value selects the first page.
type ReverificationQuery struct {
	Owner          string `query:"owner"`
	Failing        bool   `query:"failing" doc:"only files whose check fails"`
	AfterOwner     string `query:"after_owner" doc:"with after_directory: owner of the last entry of the previous page"`
	AfterDirectory string `query:"after_directory"`
	Limit          int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// List lists the daily checks of verification files.
func (c VerificationsService) List(ctx context.Context, q ReverificationQuery) ([]Reverification, error) {
	reply, err := OpListReverifications.call(ctx, c.transport, q)
	return reply.Reverifications, err
}

// ReverificationRun is the result of a check of all verification files.
type ReverificationRun struct {
	Files   int   `json:"files" doc:"number of files checked by this request; others follow in the background"`
	Failing int64 `json:"failing" doc:"number of all files whose check fails"`
}

// Run makes the server check all verification files; the first files are checked before Run returns, the other files in the
// background. With slow hosts, Run takes a long time; limit the duration with ctx.
func (c VerificationsService) Run(ctx context.Context) (ReverificationRun, error) {
	return OpReverifyNow.call(ctx, c.patient(), Empty{})
}

// The values of PlannedRule.Action.
const (
	PlanAdd     = "add"
	PlanEdit    = "edit" // PlanEdit is also used for a rule that is deleted and then added again.
	PlanPublish = "publish"
	PlanDelete  = "delete"
)

// PlannedRule is a planned change of a rule.
type PlannedRule struct {
	Action      string `json:"action" enum:"add,edit,publish,delete" doc:"edit replaces all fields, also where the wire needs a delete"`
	Owner       string `json:"owner" doc:"AppID of the rule's account"`
	Prefix      string `json:"prefix" maxLength:"4096"`
	Path        string `json:"path,omitempty" doc:"page to open, for add and edit"`
	AppID       string `json:"appid,omitempty" doc:"AppID of the Mini Program to open, for add and edit of a service account's rule"`
	Occupy      bool   `json:"occupy,omitempty"`
	OpenVersion int    `json:"open_version,omitempty" doc:"version that test links open; default: 3"`
	Published   *bool  `json:"published,omitempty" doc:"whether the rule is published; default: true for add, unchanged for edit"`
}

// ReplayPlanRequest is a request to replay scans with planned changes.
type ReplayPlanRequest struct {
	Changes  []PlannedRule `json:"changes" minItems:"1" maxItems:"1000"`
	Days     int           `json:"days" minimum:"1" maximum:"3660" default:"7"`
	MaxScans int64         `json:"max_scans,omitempty" minimum:"1" maximum:"20000000" doc:"oldest scans; default: 20,000,000"`
}

// ReplayResult reports the effect that planned changes would have had on the scans of the last days.
type ReplayResult struct {
	Since     time.Time       `json:"since"`
	Scans     int64           `json:"scans" doc:"scans of links in the period"`
	Examined  int64           `json:"examined" doc:"scans that a planned rule could affect"`
	Changed   int64           `json:"changed" doc:"scans that would open another page"`
	Changes   []OutcomeChange `json:"changes" doc:"changed results, most frequent first, at most 100"`
	Truncated bool            `json:"truncated,omitempty" answer:"optional" doc:"whether there were more scans than the limit, so that only the oldest were replayed"`
	Anonymous bool            `json:"anonymous" doc:"always true: scans are replayed as anonymous, because the scan log has no user IDs; testers would still open test links"`
}

// OutcomeChange is the actual and the hypothetical result of a group of scans.
type OutcomeChange struct {
	Before   string   `json:"before" doc:"current result: action, Mini Program, rule and page"`
	After    string   `json:"after" doc:"planned result"`
	Scans    int64    `json:"scans"`
	Examples []string `json:"examples" doc:"examples of links"`
}

// PreviewPlan is like ReplayPlan, but reads at most limit scans, oldest first, within the timeout of a call; 0 means the server's limit.
func (c RulesService) PreviewPlan(ctx context.Context, changes []PlannedRule, days int, limit int64) (ReplayResult, error) {
	return OpReplayPlan.call(ctx, c.transport, ReplayPlanRequest{changes, days, limit})
}

// ReplayPlan reports the effect that at most 1,000 planned changes of rules would have had on the scans of the last days; the call changes
// nothing. A *Problem with status 422 names an invalid change. The duration grows with the number of scans; limit the duration with ctx.
func (c RulesService) ReplayPlan(ctx context.Context, changes []PlannedRule, days int) (ReplayResult, error) {
	return OpReplayPlan.call(ctx, c.patient(), ReplayPlanRequest{Changes: changes, Days: days})
}

// RuleInput is a rule that an operator sets for an account.
type RuleInput struct {
	Prefix string `json:"prefix"`
	Path   string `json:"path" doc:"page, for example pages/index/index"`
	AppID  string `json:"appid,omitempty" doc:"AppID of the Mini Program to open, for a service account's rule"`
	Occupy bool   `json:"occupy,omitempty" doc:"if true, other accounts cannot add rules below the prefix"`
	// An OpenVersion of 0 means OpenRelease.
	OpenVersion int `json:"open_version,omitempty" minimum:"0" maximum:"3" doc:"version that test links open: 1 development, 2 trial, 3 release; 0 or omitted = 3"`
	// A nil TestLinks leaves the test links unchanged in an edit.
	TestLinks *[]string `json:"test_links,omitempty" doc:"test links, at most five; an edit without them keeps the stored ones"`
}

// PublishRuleRequest is a request to publish the rule with a prefix.
type PublishRuleRequest struct {
	Prefix string `json:"prefix"`
}

// CheckRuleRequest is a request to check whether a rule can be added.
type CheckRuleRequest struct {
	RuleInput
	Fetch bool `json:"fetch,omitempty" doc:"if true, fetches the verification file now, with one attempt"`
}

// FileStep is one step of fetching a verification file.
type FileStep struct {
	Action  string `json:"action" doc:"address, DNS, public, connect, TLS, redirect, status, type, size, content or time"`
	OK      bool   `json:"ok"`
	Warning bool   `json:"warning" doc:"whether the check passes here and may fail on the platform"`
	Detail  string `json:"detail"`
	Hint    string `json:"hint" doc:"suggested correction"`
	Remedy  string `json:"remedy,omitempty" doc:"language-independent keyword for the suggestion in next"`
}

// RuleCheck is the expected result of adding a rule.
type RuleCheck struct {
	ErrCode          int              `json:"errcode" doc:"errcode that an add would return; 0 = only the verification file could fail"`
	Detail           string           `json:"detail" doc:"description of the error"`
	File             string           `json:"file" doc:"URL of the verification file; empty if none is required or the prefix is invalid"`
	VerificationFile VerificationFile `json:"confirm_file"`
	Trusted          bool             `json:"trusted" doc:"whether the operator trusts the host, so that an add does not check the file"`
	InPlace          bool             `json:"in_place" doc:"whether the file was fetched and is correct"`
	Steps            []FileStep       `json:"steps" doc:"steps of the check; empty if the file was not fetched"`
}

// Create adds an unpublished rule for an account, with the same checks as Wire.CreateRule, but without a token of the account. If
// the rule is invalid, the result is a *Problem with status 422 that describes the error.
func (c RulesService) Create(ctx context.Context, appid string, r RuleInput) (StoredRule, error) {
	return OpAddRule.call(ctx, c.patient(), r, appid)
}

// Update changes a rule of an account; see Wire.UpdateRule.
func (c RulesService) Update(ctx context.Context, appid string, r RuleInput) (StoredRule, error) {
	return OpEditRule.call(ctx, c.transport, r, appid)
}

// Publish publishes a rule of an account and uses up one of the account's publishes of this month; see Wire.PublishRule.
func (c RulesService) Publish(ctx context.Context, appid, prefix string) (StoredRule, error) {
	return OpPublishRule.call(ctx, c.transport, PublishRuleRequest{prefix}, appid)
}

// Delete deletes a rule of an account and returns the deleted rule.
func (c RulesService) Delete(ctx context.Context, appid, prefix string) (StoredRule, error) {
	return OpDeleteRule.call(ctx, c.transport, PrefixQuery{prefix}, appid)
}

// Check returns the expected result of Create and the required address of the verification file; if fetch is true, the server also
// fetches the file. It changes nothing.
func (c RulesService) Check(ctx context.Context, appid string, r RuleInput, fetch bool) (RuleCheck, error) {
	return OpCheckRule.call(ctx, c.patient(), CheckRuleRequest{r, fetch}, appid)
}
