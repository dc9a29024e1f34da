package client

import (
	"context"
	"time"
)

// Account is an account with an AppID, as an operator sees it.
type Account struct {
	AppID            string            `json:"appid"`
	Kind             string            `json:"kind"` // Kind is mini_program, service_account or subscription_account.
	Name             string            `json:"name"`
	Subject          string            `json:"subject"` // Subject is company, personal, media, government or other.
	Certified        bool              `json:"certified"`
	Versions         []string          `json:"versions"` // Versions lists the versions that exist: release, trial, development.
	JumpOpen         bool              `json:"jump_open" doc:"if false, all rules of the account are disabled"`
	Features         []string          `json:"features"`
	Members          map[string]string `json:"members" doc:"role of each member, by user ID"` // Each role is admin, developer or trial.
	MessageURL       string            `json:"message_url"`
	URLScheme        string            `json:"url_scheme" doc:"template of the URL that opens the Mini Program from a browser"`
	Pages            []string          `json:"pages" answer:"optional" doc:"pages of the Mini Program; if empty, they are not checked"`
	Options          map[string]string `json:"options,omitempty" answer:"optional" doc:"options set by api_set_authorizer_option, by name"`
	OpenPlatform     string            `json:"open_platform,omitempty" answer:"optional" doc:"open-platform account of this account"`
	IPAllowlist      []string          `json:"ip_allowlist" doc:"address ranges that may request tokens; empty = any"`
	Linked           []string          `json:"linked" doc:"AppIDs of the Mini Programs linked to a service account"`
	SecretFrozen     bool              `json:"secret_frozen"`
	CreatedAt        time.Time         `json:"created_at"`
	VerificationFile VerificationFile  `json:"confirm_file" doc:"verification file"`
	Scans            *AccountActivity  `json:"scans,omitempty" answer:"optional"` // Scans is nil if the scan numbers were not requested.
	HasRevision
}

// AccountPut is the requested state of an account. An empty secret leaves the stored secret unchanged.
type AccountPut struct {
	Kind       string            `json:"kind"`
	Name       string            `json:"name,omitempty"`
	Subject    string            `json:"subject,omitempty"` // "" = company
	Certified  bool              `json:"certified"`
	Versions   []string          `json:"versions,omitempty"`
	JumpOpen   bool              `json:"jump_open"`
	Features   []string          `json:"features,omitempty"`
	Members    map[string]string `json:"members,omitempty"`
	MessageURL string            `json:"message_url,omitempty"`
	URLScheme  string            `json:"url_scheme,omitempty"`
	Pages      []string          `json:"pages,omitempty"` // Pages of a Mini Program, such as pages/index/index.
	// Options that third-party platforms may set; nil leaves the stored options unchanged.
	Options       map[string]string `json:"options,omitempty"`
	OpenPlatform  string            `json:"open_platform,omitempty"` // open platform account; determines unionids; "" = none
	IPAllowlist   []string          `json:"ip_allowlist,omitempty"`
	Linked        []string          `json:"linked,omitempty"` // AppIDs of accounts to link; existing links remain.
	SecretFrozen  bool              `json:"secret_frozen"`
	Secret        string            `json:"secret,omitempty"`
	MarketcodeKey string            `json:"marketcode_key,omitempty"` // 16 characters
}

// Put returns an AccountPut that leaves the account unchanged.
func (a Account) Put() AccountPut {
	return AccountPut{Kind: a.Kind, Name: a.Name, Subject: a.Subject, Certified: a.Certified, Versions: a.Versions,
		JumpOpen: a.JumpOpen, Features: a.Features, Members: a.Members, MessageURL: a.MessageURL, URLScheme: a.URLScheme,
		Pages: a.Pages, Options: a.Options, OpenPlatform: a.OpenPlatform, IPAllowlist: a.IPAllowlist, Linked: a.Linked,
		SecretFrozen: a.SecretFrozen}
}

// AccountList is a page of accounts.
type AccountList struct {
	Accounts []Account `json:"accounts"`
	Total    int       `json:"total" doc:"number of matching accounts on all pages"`
}

// RecentScans contains the numbers of scans of an object in the last seven days, and the date of its last scan.
type RecentScans struct {
	Days   []int64    `json:"days" doc:"scans on each of the last seven days; the last element is today"`
	LastAt *time.Time `json:"last_at,omitempty" doc:"date of the last scan; omitted if none in 30 days"`
}

// AccountActivity contains the recent scans of an account, its unmatched scans in seven days, and the time of its last publish.
type AccountActivity struct {
	RecentScans
	Unmatched   int64      `json:"unmatched" doc:"unmatched scans in the last seven days on hosts with rules of the account"`
	PublishedAt *time.Time `json:"published_at,omitempty" doc:"hour of the last publish of a rule; omitted if none"`
}

// AccountQuery selects accounts.
type AccountQuery struct {
	After string `query:"after" doc:"only accounts with a greater AppID"`
	Text  string `query:"text" maxLength:"128" doc:"text that must occur in the AppID or name"`
	Kind  string `query:"kind" enum:"mini_program,service_account,subscription_account"`
	State string `query:"state" enum:"jump_off,not_released,secret_frozen"`
	Order string `query:"order" enum:"appid,name,newest,scans,unmatched,published" doc:"default: appid; the largest number comes first"`
	// Reverse reverses the order of the whole list.
	Reverse bool `query:"reverse" doc:"if true, reverses the order"`
	Offset  int  `query:"offset" minimum:"0" maximum:"1000000000" doc:"number of accounts to skip; alternative to after"`
	Limit   int  `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	Scans   bool `query:"scans" doc:"include the scans of the last seven days; requires the right to read statistics"`
}

// ListPage returns a page of matching accounts and their total number.
func (c AccountsService) ListPage(ctx context.Context, q AccountQuery) (AccountList, error) {
	return OpListAccounts.call(ctx, c.transport, q)
}

// AccountNames maps AppIDs to names of accounts.
type AccountNames struct {
	Names map[string]string `json:"names" doc:"names by AppID; accounts that are unknown, unnamed or not visible to the caller are omitted"`
}

// AccountNamesQuery selects accounts whose names are returned.
type AccountNamesQuery struct {
	AppIDs []string `query:"of" maxItems:"1000" doc:"AppIDs, separated by commas"`
}

// ListNames returns the names of the given accounts.
func (c AccountsService) ListNames(ctx context.Context, appids []string) (map[string]string, error) {
	reply, err := OpCompleteAccounts.call(ctx, c.transport, AccountNamesQuery{appids})
	return reply.Names, err
}

// List returns at most limit accounts whose AppID follows cursor, sorted by AppID. limit 0 selects the server's default page size.
func (c AccountsService) List(ctx context.Context, cursor string, limit int) ([]Account, error) {
	reply, err := OpListAccounts.call(ctx, c.transport, AccountQuery{After: cursor, Limit: limit})
	return reply.Accounts, err
}

// Get returns one account, or a *Problem with status 404 if the account does not exist.
func (c AccountsService) Get(ctx context.Context, appid string) (Account, error) {
	return OpGetAccount.call(ctx, c.transport, Empty{}, appid)
}

// changeAccount makes a call that changes an account, and checks that the response contains this account. path begins with its AppID.
func changeAccount[In any](ctx context.Context, c *transport, op Op[In, Account], in In, path ...any) error {
	a, err := op.call(ctx, c, in, path...)
	if err == nil && a.AppID != path[0] {
		err = c.invalidResponse(op.Method, op.url(path...), "it is about account %q", a.AppID)
	}
	return err
}

// Set creates or replaces an account.
func (c AccountsService) Set(ctx context.Context, appid string, a AccountPut) error {
	return changeAccount(ctx, c.transport, OpPutAccount, a, appid)
}

// Deletion lists the objects that are deleted with an account or a platform, and the objects that block its deletion.
type Deletion struct {
	AppID     string          `json:"appid"`
	Deleted   bool            `json:"deleted" doc:"whether the account was deleted; false for a dry run"`
	Deletes   []DeletionCount `json:"deletes" doc:"amounts deleted: links, authorizations, tokens, temporary_qrcodes, followers"`
	BlockedBy []DeletionCount `json:"blocked_by" doc:"objects that prevent deletion: rules, rules_that_open_it, applications, gs1_keys, permanent_qrcodes, active_codes; empty = none"`
}

// DeletionCount is a number of objects of one kind.
type DeletionCount struct {
	Kind  string `json:"kind"`
	Count int    `json:"count"`
}

// DeletionQuery is the query with which a deletion only lists the objects that it would delete.
type DeletionQuery struct {
	DryRun bool `query:"dry_run" doc:"if true, deletes nothing and lists what would be deleted and what prevents deletion"`
}

// Delete deletes an account. With dryRun, Delete only reports which objects would be deleted and which objects block the deletion;
// without dryRun, Delete returns a *Problem with status 409 if an object blocks the deletion.
func (c AccountsService) Delete(ctx context.Context, appid string, dryRun bool) (d Deletion, err error) {
	return c.deleteWhole(ctx, OpDeleteAccount, appid, dryRun)
}

func (c *transport) deleteWhole(ctx context.Context, op Op[DeletionQuery, Deletion], appid string, dryRun bool) (Deletion, error) {
	d, err := op.call(ctx, c, DeletionQuery{dryRun}, appid)
	if err == nil && (d.AppID != appid || d.Deleted && dryRun) {
		err = c.invalidResponse(op.Method, op.url(appid), "it is about %q, deleted: %v", d.AppID, d.Deleted)
	}
	return d, err
}

// VersionsPut is the list of the existing versions of a Mini Program.
type VersionsPut struct {
	Versions []string `json:"versions"`
}

// SetVersions sets which versions of a Mini Program exist.
func (c AccountsService) SetVersions(ctx context.Context, appid string, versions []string) error {
	return changeAccount(ctx, c.transport, OpSetVersions, VersionsPut{append([]string{}, versions...)}, appid)
}

// RulesEnabledPut enables or disables all rules of an account.
type RulesEnabledPut struct {
	Open bool `json:"open"`
}

// SetRulesEnabled switches all rules of an account on or off.
func (c AccountsService) SetRulesEnabled(ctx context.Context, appid string, open bool) error {
	return changeAccount(ctx, c.transport, OpSetRulesEnabled, RulesEnabledPut{open}, appid)
}

// RevokeTokens revokes all access tokens of an account immediately, including the tokens of third-party platforms.
func (c AccountsService) RevokeTokens(ctx context.Context, appid string) error {
	return changeAccount(ctx, c.transport, OpRevokeTokens, Empty{}, appid)
}

// MemberPut is the role of a user in an account.
type MemberPut struct {
	Role string `json:"role" enum:"admin,developer,trial"`
}

// SetMember gives a user a role: admin, developer or trial.
func (c AccountsService) SetMember(ctx context.Context, appid, user, role string) error {
	return changeAccount(ctx, c.transport, OpPutMember, MemberPut{role}, appid, user)
}

// DeleteMember removes a user's role.
func (c AccountsService) DeleteMember(ctx context.Context, appid, user string) error {
	return changeAccount(ctx, c.transport, OpDeleteMember, Empty{}, appid, user)
}

// Create links a service account with a Mini Program.
func (c LinksService) Create(ctx context.Context, service, miniProgram string) error {
	return changeAccount(ctx, c.transport, OpPutLink, Empty{}, service, miniProgram)
}

// Delete removes a link.
func (c LinksService) Delete(ctx context.Context, service, miniProgram string) error {
	return changeAccount(ctx, c.transport, OpDeleteLink, Empty{}, service, miniProgram)
}

// Quota is the remaining quota of an account.
type Quota struct {
	PublishesLeft int        `json:"publishes_left" doc:"publishes left in this calendar month"`
	PublishedAt   *time.Time `json:"published_at,omitempty" doc:"hour of the last publish of a rule; omitted if none"`
}

// GetQuota returns the number of publishes that an account has left this month, and the hour of its last publish.
func (c AccountsService) GetQuota(ctx context.Context, appid string) (Quota, error) {
	return OpGetQuota.call(ctx, c.transport, Empty{}, appid)
}

// Requirement is a precondition of an ability.
type Requirement struct {
	Requirement string `json:"requirement" enum:"secret,secret_not_frozen,not_personal,released,publishes_left,rules_enabled,certified,linked,feature,key,prefix"`
	Fulfilled   bool   `json:"fulfilled"`
}

// Ability is an action that accounts of a kind can perform: tokens (fetch access tokens), rules (have jump rules), publish (publish
// a rule), open (be opened when its rules are scanned) or codes (apply for codes and download them).
type Ability struct {
	Ability      string        `json:"ability" enum:"tokens,rules,publish,open,codes"`
	Allowed      bool          `json:"allowed" doc:"whether all requirements are met"`
	Requirements []Requirement `json:"requirements"`
}

// AbilityList is the list of an account's abilities.
type AbilityList struct {
	Abilities []Ability `json:"abilities"`
}

// ListAbilities lists the abilities of an account, with the unfulfilled requirements of each ability that is not allowed. If the
// account does not exist, the result is a *Problem with status 404.
func (c AccountsService) ListAbilities(ctx context.Context, appid string) ([]Ability, error) {
	reply, err := OpListAbilities.call(ctx, c.transport, Empty{}, appid)
	return reply.Abilities, err
}

// The values of AccountLink.Status.
const (
	LinkActive             = 1
	LinkPendingMiniProgram = 2  // The link waits for the consent of the Mini Program's administrator.
	LinkRejected           = 3  // One of the two administrators rejected the link.
	LinkPendingAccount     = 12 // The link waits for the consent of the service account's administrator.
)

// The two sides of a link.
const (
	SideAccount     = "account" // the service account
	SideMiniProgram = "mini_program"
)

// AccountLink is a link of a service account with a Mini Program.
type AccountLink struct {
	MiniProgram string    `json:"mini_program"`
	Name        string    `json:"name" doc:"name of the Mini Program"`
	Status      int       `json:"status" doc:"1 linked, 2 waiting for the Mini Program's administrator, 3 rejected, 12 waiting for the account's administrator"`
	Unlinking   bool      `json:"unlinking" doc:"whether removal of the link waits for the account's administrator"`
	NotifyUsers bool      `json:"notify_users"`
	ShowProfile bool      `json:"show_profile"`
	CreatedAt   time.Time `json:"created_at"`
}

// AccountLinkList is the list of a service account's links.
type AccountLinkList struct {
	Links []AccountLink `json:"links"`
}

// Waits returns the side whose administrator must decide, SideAccount or SideMiniProgram; "" means that no decision is pending.
func (l AccountLink) Waits() string {
	switch {
	case l.Status == LinkPendingMiniProgram:
		return SideMiniProgram
	case l.Status == LinkPendingAccount, l.Unlinking:
		return SideAccount
	}
	return ""
}

// List lists the links of a service account in all states. If the account does not exist, the result is a *Problem with status 404.
func (c LinksService) List(ctx context.Context, service string) ([]AccountLink, error) {
	reply, err := OpListLinks.call(ctx, c.transport, Empty{}, service)
	return reply.Links, err
}

// LinkDecision is the decision of the administrator of one side about a link or its removal.
type LinkDecision struct {
	Side    string `json:"side" enum:"account,mini_program"`
	Approve bool   `json:"approve"`
}

// Confirm accepts or rejects a link or its removal on behalf of the administrator of one side, SideAccount or SideMiniProgram. Confirm
// returns the links of the service account. If no decision of the given side is pending, the result is a *Problem with status 422.
func (c LinksService) Confirm(ctx context.Context, service, miniProgram, side string, agree bool) ([]AccountLink, error) {
	reply, err := OpConfirmLink.call(ctx, c.transport, LinkDecision{side, agree}, service, miniProgram)
	return reply.Links, err
}
