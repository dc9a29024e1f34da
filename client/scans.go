package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"reflect"
	"time"
)

// RecordedScan is a scan in the scan log.
type RecordedScan struct {
	ScanID        string    `json:"scan_id"`
	OccurredAt    time.Time `json:"occurred_at"`
	User          string    `json:"user,omitempty" doc:"keyed hash of namespace and user; omitted for anonymous scans and erased users"`
	Source        string    `json:"source"`
	Client        string    `json:"client,omitempty" doc:"description of the client, as sent by the app"`
	Network       string    `json:"network,omitempty" doc:"client's network, /24 or /48"`
	Region        string    `json:"region,omitempty"`
	Action        string    `json:"action"`
	Kind          string    `json:"kind,omitempty" doc:"kind of match: rule, test_link, service_rule or code"`
	Reason        string    `json:"reason,omitempty" doc:"reason why a code did not open a page"`
	AppID         string    `json:"appid,omitempty"`
	Version       string    `json:"version,omitempty"`
	RuleID        int64     `json:"rule_id,omitempty"`
	ApplicationID int64     `json:"application_id,omitempty"`
	CodeIndex     *int64    `json:"code_index,omitempty"` // CodeIndex is nil if the scanned text was not a code.
	Serial        string    `json:"serial,omitempty" doc:"brand's serial number of the code, if assigned"`
	Activity      string    `json:"activity,omitempty"`
	Brand         string    `json:"brand,omitempty"`
	Product       string    `json:"product,omitempty"`
	Owner         string    `json:"owner,omitempty" doc:"AppID of the rule's owner, or of the account that applied for the code"`
	Text          string    `json:"text,omitempty" doc:"scanned link; never a code"`

	// Raw is the scan as JSON, as received from the server.
	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON also stores the original JSON in Raw.
func (s *RecordedScan) UnmarshalJSON(b []byte) error {
	type plain RecordedScan
	if err := json.Unmarshal(b, (*plain)(s)); err != nil {
		return err
	}
	s.Raw = append(json.RawMessage(nil), b...)
	return nil
}

// ScanPage is a page of scans.
type ScanPage struct {
	Scans    []RecordedScan `json:"scans"`
	Next     string         `json:"next" doc:"value of after for the next request"`
	More     bool           `json:"more" doc:"whether newer scans are available"`
	Older    bool           `json:"older" doc:"whether older scans are available"`
	Examined int            `json:"examined" doc:"number of scans examined, matching or not"`
}

// ScanFilter selects scans. An empty field matches all scans.
type ScanFilter struct {
	Owner string `query:"owner" maxLength:"128" doc:"AppID: only scans of this account's rules and codes; default: all visible accounts"`
	// From and To are RFC 3339 times, or days in the server's time zone.
	From string `query:"from" maxLength:"40" doc:"earliest scan: RFC 3339 time or date, today or yesterday"`
	To   string `query:"to" maxLength:"40" doc:"latest scan: RFC 3339 time or date, today or yesterday; a date includes the whole day"`
	// User is the app's user ID, or the hash from RecordedScan.User. Its Namespace "" means the default namespace.
	User      string  `query:"user" maxLength:"256" doc:"user ID as sent by the app, or the hash in a scan"`
	Namespace string  `query:"namespace" default:"default" maxLength:"64" doc:"namespace of the user"`
	Rules     []int64 `query:"rule" maxItems:"100" doc:"IDs of rules or GS1 keys, separated by commas"`
	// ApplicationID and CodeIndex identify a code.
	ApplicationID int64 `query:"application_id" minimum:"0" doc:"application_id of a code; with code_index"`
	CodeIndex     int64 `query:"code_index" minimum:"0"`
}

// ScanQuery selects a page of scans.
type ScanQuery struct {
	After  string `query:"after" maxLength:"100" doc:"last known scan ID; default: start with the oldest scan"`
	Newest int    `query:"newest" minimum:"0" maximum:"100000" doc:"start with this many scans before the end; alternative to after"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"maximum number of scans per page"`
	ScanFilter
}

// ListPage returns a page of at most Limit scans in the order of their recording; continue with Next as After. With a filter, the server
// searches at most 20,000 scans per call, so a page can be empty although More is true.
func (c ScansService) ListPage(ctx context.Context, q ScanQuery) (ScanPage, error) {
	return OpListScans.call(ctx, c.transport, q)
}

// List yields every scan after the cursor, page by page, up to the newest.
func (c ScansService) List(ctx context.Context, cursor string) iter.Seq2[RecordedScan, error] {
	return func(yield func(RecordedScan, error) bool) {
		for {
			page, err := c.ListPage(ctx, ScanQuery{After: cursor, Limit: 1000})
			if err != nil {
				yield(RecordedScan{}, err)
				return
			}
			for _, s := range page.Scans {
				if !yield(s, nil) {
					return
				}
			}
			if !page.More {
				return
			}
			cursor = page.Next
		}
	}
}

// Get returns one scan.
func (c ScansService) Get(ctx context.Context, id string) (RecordedScan, error) {
	return OpGetScan.call(ctx, c.transport, Empty{}, id)
}

// Export writes the scans that match a filter to w, as csv or parquet; an empty filter matches all. The duration grows with the
// number of scans; limit the duration with ctx. After an error, the written file is incomplete.
func (c ScansService) Export(ctx context.Context, format string, f ScanFilter, w io.Writer) error {
	return c.exportTable(ctx, OpExportScans, format, f, w)
}

// TableFormat selects the format of an exported table.
type TableFormat struct {
	Format string `query:"format" enum:"csv,parquet" default:"csv"`
}

// fileTypes maps the formats of exported files to media types.
var fileTypes = map[string]string{"csv": "text/csv", "parquet": "application/vnd.apache.parquet", "pdf": "application/pdf",
	"html": "text/html"}

// exportTable writes the table with the rows of a query to w.
func (c *transport) exportTable(ctx context.Context, op Op[TableFormat, File], format string, query any, w io.Writer) error {
	r := op.request(c, TableFormat{format})
	maps.Copy(r.query, queryOf(reflect.ValueOf(query)))
	return c.pour(ctx, r, fileTypes[format], w)
}

// ErasureQuery contains the namespace of a user whose scans become anonymous.
type ErasureQuery struct {
	Namespace string `query:"namespace" default:"default"`
}

// ErasureResult is the result of an erasure.
type ErasureResult struct {
	Scans int64 `json:"scans" doc:"number of scans anonymised"`
}

// EraseUser makes every scan of a user anonymous and returns the number of scans. Namespace "" means the default namespace.
func (c ScansService) EraseUser(ctx context.Context, namespace, user string) (scans int64, err error) {
	reply, err := OpEraseUser.call(ctx, c.patient(), ErasureQuery{namespace}, user)
	return reply.Scans, err
}

// patient returns a transport for admin API calls that may take longer than Options.Timeout; only ctx limits their duration.
func (c *transport) patient() *transport {
	patient := &transport{base: c.base, bases: c.bases, options: c.options, http: c.http}
	patient.options.Timeout = 24 * time.Hour
	return patient
}

// CodeScans is a summary of the scans of a code.
type CodeScans struct {
	Scans                 int64      `json:"scans"`
	Users                 int64      `json:"users" doc:"number of distinct users, with an error of about 1 %"`
	FirstAt               *time.Time `json:"first_at,omitempty" answer:"optional"`
	LastAt                *time.Time `json:"last_at,omitempty" answer:"optional"`
	Networks              int        `json:"networks" doc:"number of distinct networks, counted up to 64"`
	Regions               int        `json:"regions" doc:"number of distinct regions, counted up to 32"`
	ImpossibleTravelCount int        `json:"impossible_travel_count" doc:"number of scans too far from the previous one for the time between them"`
	// Places contains only scans that were counted after the server began to record places.
	Places []CodePlace `json:"places,omitempty" answer:"optional" doc:"places of scans by the region file, most scans first, at most 32"`
	Score  int         `json:"score" doc:"score for alarms: points of all scans, or of those after the last dismissal"`
	// Threshold is the score from which the code raises an alarm; 0 means no alarm.
	Threshold int64 `json:"threshold" doc:"score from which the code raises an alarm; 0 = no alarms"`
	// Stage is watch, suspicious (an alarm is open), confirmed, or "".
	Stage string `json:"stage,omitempty" answer:"optional" doc:"watch (two thirds of the threshold), suspicious (open alarm) or confirmed"`
	// DismissedAt is nil if no alarm about the code has been dismissed.
	DismissedAt *time.Time `json:"dismissed_at,omitempty" answer:"optional" doc:"time of the last dismissal of an alarm"`
}

// CodePlace is an approximate place where a code was scanned.
type CodePlace struct {
	Region   string   `json:"region,omitempty"`
	Lat      *float64 `json:"lat,omitempty" doc:"latitude to a tenth of a degree; omitted if the region file has none"`
	Lon      *float64 `json:"lon,omitempty"`
	Scans    int64    `json:"scans"`
	Networks int64    `json:"networks" doc:"networks first seen at this place"`
}

// GetScans returns a summary of the scans of a code.
func (c CodesService) GetScans(ctx context.Context, applicationID, index int64) (CodeScans, error) {
	return OpGetCodeScans.call(ctx, c.transport, Empty{}, applicationID, index)
}

// StatisticsQuery is a query for numbers of scans. The zero value counts the scans of the last 30 days.
type StatisticsQuery struct {
	From string `query:"from"` // RFC 3339 time, or day such as 2026-01-31.
	To   string `query:"to"`
	By   string `query:"by"` // By is hour, day, week (from Monday) or month; "" means the whole period.
	// Group is the dimension of the rows: activity, brand, product, batch, rule, app, source, result, region or owner.
	Group  string            `query:"group"`
	Count  string            `query:"count"`  // Count is scans, first or users; "" means scans.
	Filter map[string]string `query:"filter"` // Filter maps dimensions to required values; "-" matches scans without a value.
	Limit  int               `query:"limit"`  // Maximum number of rows, at most 1,000; 0 means 100.
	Offset int               `query:"offset"`
	Wait   bool              `query:"wait"`  // Wait makes the server first count all scans that were recorded before this call.
	Marks  bool              `query:"marks"` // Marks adds the events in the period of the query to the result.
}

// The values of ScanPosition.Kind. A newer server version may return further kinds.
const (
	MarkPublished = "published" // The Target of a mark of this kind is the prefix of the published rule.
	MarkFrozen    = "frozen"    // The Target of a mark of this kind is the application_id of the frozen codes.
	MarkAlarm     = "alarm"     // The Target of a mark of this kind is APPLICATION:INDEX of the code.
)

// ScanPosition marks the time of an event that may explain a change in the statistics, such as the publishing of a rule.
type ScanPosition struct {
	OccurredAt time.Time `json:"occurred_at"`
	Kind       string    `json:"kind" doc:"published: a rule was published; frozen: codes were frozen; alarm: an alarm was raised"`
	Target     string    `json:"target" doc:"prefix of the rule, application_id of the codes, or APPLICATION:INDEX of the code"`
}

// Statistics is the result of a StatisticsQuery.
type Statistics struct {
	From  time.Time       `json:"from"`
	To    time.Time       `json:"to"`
	Now   time.Time       `json:"now"` // the server's time, in the time zone in which the server counts days
	Rows  []StatisticsRow `json:"rows"`
	More  bool            `json:"more"`
	Marks []ScanPosition  `json:"marks" answer:"optional"` // Marks lists events in chronological order.
	// MarksSince is the time from which Marks is complete; nil means complete for the whole period.
	MarksSince *time.Time `json:"marks_since"`
	Counted    struct {
		ScanID     string     `json:"scan_id" answer:"optional"`
		OccurredAt *time.Time `json:"occurred_at"`
		Scans      int64      `json:"scans" answer:"optional"` // 0 for a caller who is restricted to some accounts.
	} `json:"counted"`
}

// StatisticsRow is one row of a statistics result.
type StatisticsRow struct {
	StartsAt   *time.Time `json:"starts_at,omitempty"` // nil without By
	Value      string     `json:"value"`               // value of the dimension Group
	Scans      int64      `json:"scans,omitempty"`
	FirstScans int64      `json:"first_scans,omitempty"`
	Users      int64      `json:"users,omitempty"`
}

// Get returns numbers of scans.
func (c StatisticsService) Get(ctx context.Context, q StatisticsQuery) (Statistics, error) {
	return OpGetStatistics.call(ctx, c.transport, q)
}

// Export writes the complete result of a query to w, as csv or parquet, and ignores Limit and Offset. After an error, the written
// file is incomplete.
func (c StatisticsService) Export(ctx context.Context, format string, q StatisticsQuery, w io.Writer) error {
	q.Limit, q.Offset, q.Marks = 0, 0, false
	return c.exportTable(ctx, OpExportStatistics, format, q, w)
}

// UnmatchedPrefix is a link prefix (host and first path segment) with the number of its scans that matched no rule.
type UnmatchedPrefix struct {
	Location string `json:"location" doc:"host and first path segment; * = all that exceeded the day's limit"`
	Scans    int64  `json:"scans"`
}

// UnmatchedList is a list of link prefixes with scans that matched no rule.
type UnmatchedList struct {
	Locations []UnmatchedPrefix `json:"locations"`
	Scans     int64             `json:"scans" doc:"unmatched scans of the period, including those of link prefixes beyond the limit"`
}

// UnmatchedQuery selects link prefixes of unmatched scans; From, To and Wait have the same meaning as in StatisticsQuery.
type UnmatchedQuery struct {
	From  string `query:"from"`
	To    string `query:"to"`
	Owner string `query:"owner"` // AppID; selects hosts on which this account has rules; "" = all accounts that the caller may see
	Below string `query:"below"` // Prefix of a rule; selects the link prefixes of links below it; "" means all.
	Limit int    `query:"limit"` // Maximum number of link prefixes, at most 1,000; 0 means 100.
	Wait  bool   `query:"wait"`
}

// ListUnmatched returns the link prefixes with scans that matched no rule, most scanned first.
func (c StatisticsService) ListUnmatched(ctx context.Context, q UnmatchedQuery) (UnmatchedList, error) {
	return OpListUnmatched.call(ctx, c.transport, q)
}

// ExportUnmatched writes all link prefixes with unmatched scans to w, as csv or parquet, and ignores Limit. After an error, the
// written file is incomplete.
func (c StatisticsService) ExportUnmatched(ctx context.Context, format string, q UnmatchedQuery, w io.Writer) error {
	q.Limit = 0
	return c.exportTable(ctx, OpExportUnmatched, format, q, w)
}

// Difference is a number in the statistics that differs from the number recounted from the scan log.
type Difference struct {
	Name      string `json:"name"`
	Counted   int64  `json:"counted"`
	Recounted int64  `json:"recounted"`
}

// Recount is the result of recounting the entire scan log.
type Recount struct {
	Scans           int64        `json:"scans" doc:"scans in the scan log"`
	Duplicates      int64        `json:"duplicates" doc:"scans that occur more than once in the scan log; expected: 0"`
	Missing         int64        `json:"missing" doc:"counted scans that are not in the scan log; more than 0 counts as one difference"`
	Compared        int64        `json:"compared" doc:"number of counts compared"`
	DifferenceCount int64        `json:"difference_count"`
	Differences     []Difference `json:"differences" doc:"differences, at most 100"`
	Since           *time.Time   `json:"since,omitempty" doc:"first day compared, if older scans or counts were removed"`
}

// Verify makes the server recount its entire scan log and compare the result with the statistics. The duration grows with the scan
// log; limit the duration with ctx.
func (c StatisticsService) Verify(ctx context.Context) (Recount, error) {
	return OpRecountStatistics.call(ctx, c.patient(), Empty{})
}

// The kinds of alarms. A newer server version may return further kinds.
const (
	CopiedCode  = "copied"  // The scans suggest that copies of the code are on several items.
	SpoiledCode = "spoiled" // A printer reported the code as spoiled, but the code was scanned.

	BeforeActivation = "before_activation" // Many users scanned the code although it was never activated.
	AfterRedemption  = "after_redemption"  // Many users scanned the code after it was redeemed.
	UnknownBurst     = "unknown_burst"     // Many texts with the prefix, but without a code, were scanned within an hour.
	ManyCodes        = "many_codes"        // One user scanned many codes of the application within an hour.
)

// AlarmReason is a reason for an alarm, in both languages.
type AlarmReason struct {
	English string `json:"english"`
	Chinese string `json:"chinese"`
}

// Alarm is a suspicion about a code, raised by its scans.
type Alarm struct {
	ID             int64         `json:"id" doc:"0 = no alarm: the code, prefix or user is in the state watch"`
	Kind           string        `json:"kind"`
	Account        string        `json:"account" answer:"optional" doc:"AppID of the code's account"`
	ApplicationID  int64         `json:"application_id" doc:"0 = several accounts share the prefix"`
	CodeIndex      int64         `json:"code_index" doc:"-1 = the alarm is about the prefix, or about the user of scan_id"`
	Prefix         string        `json:"prefix,omitempty" doc:"prefix or template of the unknown texts"`
	OccurredAt     time.Time     `json:"occurred_at" doc:"time of the scan that raised the alarm"`
	ScanID         string        `json:"scan_id"`
	Score          int64         `json:"score"`
	State          string        `json:"state" enum:"watch,suspicious,confirmed,dismissed"`
	Details        AlarmDetails  `json:"details" doc:"state of the code at that time"`
	Reasons        []AlarmReason `json:"reasons" answer:"optional" doc:"readable reasons, most points first"`
	AcknowledgedAt *time.Time    `json:"acknowledged_at,omitempty"`
	AcknowledgedBy string        `json:"acknowledged_by,omitempty"`
	ConfirmedAt    *time.Time    `json:"confirmed_at,omitempty" doc:"time at which the alarm was confirmed as justified"`
	ConfirmedBy    string        `json:"confirmed_by,omitempty"`
	DismissedAt    *time.Time    `json:"dismissed_at,omitempty" doc:"time of the dismissal"`
	DismissedBy    string        `json:"dismissed_by,omitempty"`
	Note           string        `json:"note,omitempty" doc:"note of the acknowledgement, or reason for the dismissal"`
	Case           int64         `json:"case,omitempty" doc:"ID of the case that groups the alarm with others"`
	CaseTitle      string        `json:"case_title,omitempty" doc:"title of the case"`
	Assignee       string        `json:"assignee,omitempty" doc:"person who works on the case"`
}

// AlarmDetails holds statistics of the code's scans at the time of the alarm.
type AlarmDetails struct {
	Scans                 int64 `json:"scans"`
	Users                 int64 `json:"users"`
	Networks              int   `json:"networks"`
	Regions               int   `json:"regions"`
	ImpossibleTravelCount int   `json:"impossible_travel_count"`
	Days                  int   `json:"days"`
	UsersBeforeActivation int64 `json:"users_before_activation,omitempty"`
	UsersAfterRedemption  int64 `json:"users_after_redemption,omitempty"`
	// Of an alarm about a prefix or a user, only the following fields are set: the start of the hour, and the counts within the hour.
	WindowStart  time.Time `json:"window_start,omitzero"`
	Prefix       string    `json:"prefix,omitempty"` // prefix or template of the unknown texts
	UnknownTexts int64     `json:"unknown_texts,omitempty"`
	Codes        int64     `json:"codes,omitempty"`
}

// Name returns the subject of the alarm: the code as people type it, or the prefix, or "ID:*" if a user scanned many codes.
func (a Alarm) Name() string {
	if a.CodeIndex < 0 {
		return cmp.Or(a.Prefix, fmt.Sprintf("%d:*", a.ApplicationID))
	}
	return fmt.Sprintf("%d:%d", a.ApplicationID, a.CodeIndex)
}

// Acknowledgement is a change to an alarm that an operator has seen. A nil field leaves the stored value unchanged, "" removes it.
type Acknowledgement struct {
	Confirm bool    `json:"confirm,omitempty" doc:"if true, also confirms the alarm: the page for buyers warns of the code"`
	Case    *int64  `json:"case,omitempty" minimum:"0" doc:"ID of the case that the alarm is put into; 0 = removes it from its case"`
	Note    *string `json:"note,omitempty" maxLength:"1000" pattern:"^[^\\x00]*$" doc:"note of the alarm; a dismissed alarm keeps the reason of the dismissal"`
}

// DismissAlarmRequest is the request of Dismiss.
type DismissAlarmRequest struct {
	Note string `json:"note" minLength:"1" maxLength:"1000" pattern:"^[^\\x00]*$" doc:"reason why the code is not copied"`
}

// AlarmQuery selects alarms; the zero value selects the oldest 100 alarms.
type AlarmQuery struct {
	Owner  string `query:"owner" maxLength:"128" doc:"AppID: only alarms about codes of this account; default: all visible accounts"`
	After  int64  `query:"after" minimum:"0" doc:"only alarms with a greater ID"`
	Before int64  `query:"before" minimum:"0" doc:"only alarms with a smaller ID; with newest, pages backwards"`
	Newest bool   `query:"newest" doc:"newest first"`
	// watch selects codes near an alarm instead of alarms, highest score first and without further pages; "" means all alarms.
	State         string `query:"state" enum:"open,dismissed,suspicious,confirmed,watch" doc:"open = suspicious or confirmed; watch = at least two thirds of the threshold"`
	Acknowledged  string `query:"acknowledged" enum:"true,false" doc:"only acknowledged, or only unacknowledged alarms"`
	Case          int64  `query:"case" minimum:"0" doc:"only alarms of this case"`
	Assignee      string `query:"assignee" maxLength:"128" doc:"only alarms of cases with this assignee"`
	ApplicationID int64  `query:"application_id" minimum:"0" doc:"only alarms of codes of this application"`
	Limit         int    `query:"limit" minimum:"0" maximum:"1000" doc:"maximum number of alarms; default: 100, in an export all"`
}

// AlarmExport is the query of exported alarms.
type AlarmExport struct {
	AlarmQuery
	Language string `query:"language" enum:"en,zh" default:"en" doc:"language of the reasons"`
}

// AlarmList is a page of alarms.
type AlarmList struct {
	Alarms         []Alarm `json:"alarms"`
	Unacknowledged int64   `json:"unacknowledged" doc:"open alarms of the owner, or all visible to the caller; at most 1,000"`
}

// CountUnacknowledged returns the number of alarms about an account's applications that are neither acknowledged nor dismissed;
// owner "" means all accounts that the caller may see. The server counts at most 1,000 alarms.
func (c AlarmsService) CountUnacknowledged(ctx context.Context, owner string) (int64, error) {
	reply, err := OpListAlarms.call(ctx, c.transport, AlarmQuery{Owner: owner, State: "open", Acknowledged: "false", Limit: 1})
	return reply.Unacknowledged, err
}

// List returns alarms, oldest first.
func (c AlarmsService) List(ctx context.Context, q AlarmQuery) ([]Alarm, error) {
	reply, err := OpListAlarms.call(ctx, c.transport, q)
	return reply.Alarms, err
}

// Export writes all alarms of a query to w, as csv or parquet, and ignores Limit. language is the language of the reasons, en or
// zh; "" means en. After an error, the written file is incomplete.
func (c AlarmsService) Export(ctx context.Context, format, language string, q AlarmQuery, w io.Writer) error {
	q.Limit = 0
	return c.exportTable(ctx, OpExportAlarms, format, AlarmExport{q, language}, w)
}

// Acknowledge records that the caller has seen an alarm, and makes the changes: it puts the alarm into a case, or confirms the alarm as
// justified. The page of a code with a confirmed alarm warns buyers, whatever the kind of the alarm.
func (c AlarmsService) Acknowledge(ctx context.Context, id int64, change Acknowledgement) (Alarm, error) {
	return OpAcknowledgeAlarm.call(ctx, c.transport, change, id)
}

// Dismiss dismisses an alarm, with a note that explains why the code is not a copy. After a dismissal, the code opens the same page
// as before the alarm, and only later scans can raise another alarm. A second dismissal of an alarm changes nothing.
func (c AlarmsService) Dismiss(ctx context.Context, id int64, note string) (Alarm, error) {
	return OpDismissAlarm.call(ctx, c.transport, DismissAlarmRequest{note}, id)
}

// BatchAlarm is the score at which codes of an application raise an alarm about probable copies.
type BatchAlarm struct {
	ApplicationID  int64 `json:"application_id"`
	Threshold      int64 `json:"threshold" doc:"score from which a code raises an alarm; 0 = no alarms"`
	Off            bool  `json:"off" doc:"whether alarms are turned off"`
	Overridden     bool  `json:"overridden" doc:"whether the threshold was set for this application; false = setting alarm_threshold"`
	OpenAlarmCount int64 `json:"open_alarm_count" doc:"number of codes with an open alarm, that is, not dismissed"`
	// ProposedThreshold is 0 if fewer than 3,000 codes were scanned in the first four weeks.
	ProposedThreshold int64 `json:"proposed_threshold,omitempty" answer:"optional" doc:"threshold with one false alarm in 1,000 codes"`
	ProposalCodes     int   `json:"proposal_codes,omitempty" answer:"optional" doc:"codes scanned in the first four weeks, at most 20,000"`
	HasRevision
}

// BatchAlarmPut sets the alarm threshold of an application. If Threshold is 0 and Off is false, the server's default applies.
type BatchAlarmPut struct {
	Threshold int64 `json:"threshold,omitempty" minimum:"1" maximum:"100000" doc:"score from which a code raises an alarm"`
	Off       bool  `json:"off,omitempty" doc:"if true, turns alarms off"`
}

// GetAlarmThreshold returns the score at which codes of an application raise an alarm.
func (c BatchesService) GetAlarmThreshold(ctx context.Context, id int64) (BatchAlarm, error) {
	return OpGetBatchAlarm.call(ctx, c.transport, Empty{}, id)
}

// SetAlarmThreshold sets the score at which codes of an application raise an alarm, effective from the next scan. Earlier alarms stay.
func (c BatchesService) SetAlarmThreshold(ctx context.Context, id int64, alarm BatchAlarmPut) (BatchAlarm, error) {
	return OpPutBatchAlarm.call(ctx, c.transport, alarm, id)
}

// AlarmReplay lists the alarms that a threshold would have raised in the last 90 days.
type AlarmReplay struct {
	ApplicationID  int64           `json:"application_id"`
	Threshold      int64           `json:"threshold"`
	From           time.Time       `json:"from"`
	To             time.Time       `json:"to"`
	Scanned        int64           `json:"scanned" doc:"codes scanned in the period"`
	Alarms         int64           `json:"alarms" doc:"alarms that the threshold would have raised in the period, at most one per code"`
	Raised         int64           `json:"raised" doc:"alarms about copied codes raised in the period"`
	Dismissed      int64           `json:"dismissed" doc:"number of these alarms that were dismissed"`
	StillDismissed int64           `json:"still_dismissed" doc:"codes whose alarm was dismissed and for which the threshold would have raised one too"`
	FirstAlarms    []ReplayedAlarm `json:"first_alarms" doc:"first 100 alarms that the threshold would have raised, oldest first"`
	Since          *time.Time      `json:"since,omitempty" doc:"time before which scans were removed, which may reduce scores"`
}

// ReplayedAlarm is an alarm that a threshold would have raised.
type ReplayedAlarm struct {
	CodeIndex  int64     `json:"code_index"`
	OccurredAt time.Time `json:"occurred_at" doc:"time of the scan that would have raised the alarm"`
	Score      int64     `json:"score"`
}

// AlarmReplayQuery is the query of ReplayAlarms.
type AlarmReplayQuery struct {
	Threshold int64 `query:"threshold" minimum:"1" maximum:"100000" doc:"score that raises an alarm; default: the threshold in use"`
}

// ReplayAlarms returns the alarms that a threshold would have raised for an application in the last 90 days; a threshold of 0 means
// the current threshold. It changes nothing. The server reads its scan log for this call; limit the duration with ctx.
func (c BatchesService) ReplayAlarms(ctx context.Context, id, threshold int64) (AlarmReplay, error) {
	return OpReplayAlarms.call(ctx, c.patient(), AlarmReplayQuery{threshold}, id)
}
