package client

import (
	"context"
	"encoding/json"
	"time"
)

// Change is one entry of a server's audit log.
type Change struct {
	Seq        int64           `json:"seq"`
	OccurredAt time.Time       `json:"occurred_at"`
	Kind       string          `json:"kind" doc:"kind of object: rule, account, appearance, link, tokens, component, grant, domain, qrcode, batch, codes, serials, package, gs1 (links of a GS1 key), scan_key, webhook, alarm, scans (an erasure), person, admin_key, meta (settings and clock), seed, export, drill, keys, reset, emptied (an account that was reset), chain, numbers (IDs reserved for an import), import (shows the rules that were stored with smaller IDs), or a kind added by a later version"`
	Key        string          `json:"key" doc:"key of the object: a key, an AppID, two AppIDs or a number"`
	Actor      string          `json:"actor" doc:"AppID, admin, seed, server, person:NAME or key:NAME"`
	Via        string          `json:"via,omitempty" answer:"optional" doc:"AppID of the third-party platform that called on behalf of the actor"`
	RID        string          `json:"rid,omitempty" answer:"optional" doc:"request ID of the call"`
	Action     string          `json:"action"`
	Detail     json.RawMessage `json:"detail" doc:"content after the change, without secrets"`
	Hash       string          `json:"hash" doc:"keyed hash of this change and the previous hash"`
}

// ChangeList is a page of changes.
type ChangeList struct {
	Changes []Change `json:"changes"`
}

// ChangesQuery selects changes; the zero value selects the oldest changes.
type ChangesQuery struct {
	After  int64  `query:"after" doc:"only changes with a greater number" minimum:"0"`
	Before int64  `query:"before" doc:"only changes with a smaller number; with newest, pages backwards" minimum:"0"`
	Newest bool   `query:"newest" doc:"newest first"`
	Kind   string `query:"kind" maxLength:"32" doc:"only changes of this kind of object, for example rule"`
	Key    string `query:"key" maxLength:"4096" doc:"only changes of the object with this key; requires kind"`
	Actor  string `query:"actor" maxLength:"64" doc:"only changes by this AppID, admin, seed, person:NAME or key:NAME"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// List lists entries of the audit log.
func (c AuditLogService) List(ctx context.Context, q ChangesQuery) ([]Change, error) {
	reply, err := OpListChanges.call(ctx, c.transport, q)
	return reply.Changes, err
}

// Verified is the result of verifying the audit log.
type Verified struct {
	Changes  int64  `json:"changes"`
	FirstSeq int64  `json:"first_seq"`
	Seq      int64  `json:"seq"`
	Hash     string `json:"hash"` // Hash of the last change; a copy of this hash, stored elsewhere, reveals later alterations of the log.
	// FirstError is the first inconsistency in the log; nil means that the log is consistent.
	FirstError *struct {
		Seq   int64  `json:"seq" answer:"optional"`
		Error string `json:"error"`
	} `json:"first_error"`
	// Orphans lists objects whose account does not exist, at most 1000.
	Orphans []Orphan `json:"orphans"`
}

// Orphan counts the objects of one kind whose account does not exist. Orphans still reserve prefixes and codes.
type Orphan struct {
	Account string `json:"account"`
	Kind    string `json:"kind" doc:"rules, rules_that_open_it, links, gs1_keys, applications or active_codes"`
	Count   int    `json:"count"`
}

// Verify verifies the whole audit log of a server. The duration grows with the size of the log; limit the duration with ctx.
func (c AuditLogService) Verify(ctx context.Context) (Verified, error) {
	return OpVerifyAudit.call(ctx, c.patient(), Empty{})
}

// UndoChange restores a rule to its state before a change. A *Problem with status 409 names a later change that prevents the restoration.
func (c RulesService) UndoChange(ctx context.Context, seq int64) (RuleChange, error) {
	return OpUndoRuleChange.call(ctx, c.transport, Empty{}, seq)
}

// ResolveAsOfQuery is a query for the page that a text opened at a past time.
type ResolveAsOfQuery struct {
	Text   string    `query:"text" required:"true" maxLength:"4096" doc:"text read by the camera"`
	At     time.Time `query:"at" required:"true" doc:"time in RFC 3339"`
	Owner  string    `query:"owner" maxLength:"128" doc:"AppID: only scans of the account's rules and codes; default: all visible accounts"`
	User   string    `query:"user" maxLength:"128" doc:"ID of the scanning user; default: an anonymous user"`
	Source string    `query:"source" enum:"scan,press,album" default:"scan"`
}

// StateAsOf compares the page that a text opened at a past time with the page that the text opens now.
type StateAsOf struct {
	AsOf    time.Time      `json:"as_of"`
	Past    PastDecision   `json:"past" doc:"result at the past time"`
	Current PastDecision   `json:"current" doc:"result now"`
	Changes []ChangedSince `json:"changes" doc:"later changes on which the result depends, oldest first, at most 100"`
	// Raw is the complete response.
	Raw json.RawMessage `json:"-"`
}

// PastDecision is a scan decision at a past time, without a scan ID or a ticket.
type PastDecision struct {
	Action  string     `json:"action"`
	AppID   string     `json:"appid,omitempty"`
	Version string     `json:"version,omitempty"`
	Path    string     `json:"path,omitempty"`
	Scene   int        `json:"scene,omitempty"`
	URL     string     `json:"url,omitempty"`
	Text    string     `json:"text,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Matched *PastMatch `json:"matched,omitempty"`
}

// PastMatch is the rule, code or key that a scan matched at a past time.
type PastMatch struct {
	Kind          string `json:"kind"`
	Prefix        string `json:"prefix,omitempty"`
	Owner         string `json:"owner,omitempty"`
	ApplicationID int64  `json:"application_id,omitempty"`
	CodeIndex     *int64 `json:"code_index,omitempty"`
}

// ChangedSince is a change between a past time and now.
type ChangedSince struct {
	OccurredAt time.Time `json:"occurred_at"`
	Kind       string    `json:"kind"`
	Key        string    `json:"key"`
	Actor      string    `json:"actor"`
	Via        string    `json:"via,omitempty"`
	RID        string    `json:"rid,omitempty"`
	Action     string    `json:"action"`
	Seq        int64     `json:"seq,omitempty" doc:"number of the change in the audit log; a change of a rule can be undone with it"`
}

// ResolveAsOf returns the page that a text opened at a past time, and the changes since then. If a rule or code of another account than
// Owner matched, the call returns an error.
func (c ScansService) ResolveAsOf(ctx context.Context, q ResolveAsOfQuery) (state StateAsOf, err error) {
	state.Raw, err = OpResolveAsOf.raw(ctx, c.transport, q, &state)
	return state, err
}
