// Package settings knows what an operator may choose while the server runs.
// It knows neither where the choices are kept nor who reads them.
package settings

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
)

// Verification says how control of a rule's directory is proven.
type Verification struct {
	Mode  Mode     // Fetch, Trust or TrustHosts
	Hosts []string // TrustHosts: the hosts that the operator vouches for; others are fetched
}

// Mode is the word of a verification.
type Mode string

const (
	// Fetch asks the host for the verification file.
	Fetch Mode = "fetch"
	// Trust: the operator vouches for every host.
	Trust Mode = "trust"
	// TrustHosts: the operator vouches for the hosts that are listed.
	TrustHosts Mode = "hosts"
)

// unsaid reports whether a value is null, which changes nothing: encoding/json
// takes it so for every type that has no UnmarshalJSON.
func unsaid(b []byte) bool { return string(b) == "null" }

// renew reads JSON into a new value, because the one before may be in use, and puts it in its place. null changes nothing. want
// is the error for other JSON.
func renew[T any](b []byte, dst *T, want string) error {
	if unsaid(b) {
		return nil
	}
	var fresh T
	if err := json.Unmarshal(b, &fresh); err != nil {
		return errors.New(want)
	}
	*dst = fresh
	return nil
}

// UnmarshalJSON takes "fetch", "trust" or a list of hosts.
func (v *Verification) UnmarshalJSON(b []byte) error {
	if unsaid(b) {
		return nil
	}
	var word string
	if json.Unmarshal(b, &word) == nil {
		switch Mode(word) {
		case Fetch, Trust:
			*v = Verification{Mode: Mode(word)}
			return nil
		}
		return fmt.Errorf("verification is %q: want fetch, trust or a list of hosts", word)
	}
	var hosts []string
	if err := json.Unmarshal(b, &hosts); err != nil {
		return fmt.Errorf("verification: want fetch, trust or a list of hosts")
	}
	for i, h := range hosts {
		hosts[i] = strings.ToLower(h)
	}
	*v = Verification{Mode: TrustHosts, Hosts: hosts}
	return nil
}

// MarshalJSON returns the inverse of UnmarshalJSON.
func (v Verification) MarshalJSON() ([]byte, error) {
	if v.Mode == TrustHosts {
		return json.Marshal(append([]string{}, v.Hosts...))
	}
	return json.Marshal(string(v.Mode))
}

// Settings are the values in force; Table says what each means.
type Settings struct {
	Strict                    bool         `json:"strict"`
	Behaviours                Overrides    `json:"behaviours"`
	Verification              Verification `json:"verification"`
	RuleRateLimit             int          `json:"rule_rate_limit"`
	DefaultRateLimit          int          `json:"default_rate_limit"`
	RateLimitPerNode          bool         `json:"rate_limit_per_node"`
	ServiceRateLimitPerMinute int          `json:"service_rate_limit_per_minute"`
	AllowPrivateHosts         bool         `json:"allow_private_hosts"`
	PublishQuota              int          `json:"publish_quota"`
	ServicePublishQuota       int          `json:"service_publish_quota"`
	RuleLimit                 int          `json:"rule_limit"`
	ServiceRuleLimit          int          `json:"service_rule_limit"`
	TokenDailyLimit           int          `json:"token_daily_limit"`
	UTCOffsetHours            int          `json:"utc_offset_hours"`

	DailyLimits       Limits     `json:"daily_limits"`
	ScanRetentionDays int        `json:"scan_retention_days"`
	ScanCommit        CommitMode `json:"scan_commit"`

	HourlyStatsRetentionDays int `json:"hourly_stats_retention_days"`
	DailyStatsRetentionDays  int `json:"daily_stats_retention_days"`
	AlarmThreshold           int `json:"alarm_threshold"`

	CallLogMaxRows int       `json:"call_log_max_rows"`
	APIIPs         Addresses `json:"api_ips"`
	CallbackIPs    Addresses `json:"callback_ips"`

	LinkApprovalRequired      bool `json:"link_approval_required"`
	MaxLinksPerServiceAccount int  `json:"max_links_per_service_account"`
	MaxLinksPerMiniProgram    int  `json:"max_links_per_mini_program"`
	QRCodeLimit               int  `json:"qrcode_limit"`
	QRCodeImageRateLimit      int  `json:"qrcode_image_rate_limit"`

	OrderApprovalRequired    bool  `json:"order_approval_required"`
	AllowUnapprovedApplycode bool  `json:"allow_unapproved_applycode"`
	MaxCodesPerApplication   int64 `json:"max_codes_per_application"`
	CodeSegmentSize          int64 `json:"code_segment_size"`
	CodeFinishDelaySeconds   int   `json:"code_finish_delay_seconds"`
	TicketTTLMinutes         int   `json:"ticket_ttl_minutes"`
	MaxPackagesPerCode       int   `json:"max_packages_per_code"`

	APIHosts             Hosts       `json:"api_hosts"`
	GS1Hosts             Hosts       `json:"gs1_hosts"`
	GS1Prefixes          Prefixes    `json:"gs1_prefixes"`
	LandingPageRateLimit int         `json:"landing_page_rate_limit"`
	AppleAppIDs          AppleAppIDs `json:"apple_app_ids"`
	AndroidApps          AndroidApps `json:"android_apps"`

	WebhookRetryDays int  `json:"webhook_retry_days"`
	ReverifyDomains  bool `json:"reverify_domains"`

	SecondFactor Demand `json:"second_factor"`

	// StrictFrom is the least sure mark that Strict refuses, by a flag of each process; "" = inferred.
	StrictFrom behaviour.Evidence `json:"-"`
	// AsOf is the day as of which the platform is what it was, by a flag of each process; "" = today.
	AsOf string `json:"-"`
}

// Demand says for which people the console requires a second factor at sign-in.
type Demand string

const (
	Optional       Demand = "optional"
	Admins         Demand = "admins"
	DemandEveryone Demand = "everyone"
)

// CommitMode tells when a scan is answered.
type CommitMode string

const (
	// Sync: once the scan is on the disk.
	Sync CommitMode = "sync"
	// Async: a scan that fell on no code is answered first; a power cut costs at
	// most the last second of them. Codes always wait.
	Async CommitMode = "async"
)

// Platform has the limits of the platform itself.
var Platform = Defaults()

// Exceeds returns the row by which the nth of something is refused: row above the operator's limit, WireLimitAbove above the
// platform's where the operator refuses that; None = it is not refused.
func (s *Settings) Exceeds(ctx context.Context, n, limit, platform int, row behaviour.Row) behaviour.Row {
	switch {
	case n > limit:
		return row
	case n > platform:
		behaviour.Note(ctx, behaviour.WireLimitAbove)
		if s.Refuses(behaviour.WireLimitAbove) {
			return behaviour.WireLimitAbove
		}
	}
	return behaviour.NoRow
}

// Defaults returns the values of the platform. Contract: rules 1, 3.1.
func Defaults() Settings {
	return Settings{
		Behaviours:       Overrides{},
		Verification:     Verification{Mode: Fetch},
		RuleRateLimit:    5,
		PublishQuota:     100,
		RuleLimit:        100,
		ServiceRuleLimit: 100_000,
		TokenDailyLimit:  2000,
		// China has had no summer time since 1991, so an hour is exact and no
		// table of time zones is needed.
		UTCOffsetHours: 8,

		QRCodeLimit:          100_000, // Contract: rules 3.5
		QRCodeImageRateLimit: 20,

		AlarmThreshold:    100, // docs/alarms.md: at most one honest code in a thousand gets there
		ScanCommit:        Sync,
		SecondFactor:      Optional,
		ScanRetentionDays: 400, // a year and a month: this month beside the same one of last year

		DailyLimits:    Limits{},
		CallLogMaxRows: 1_000_000,
		APIIPs:         Addresses{},
		CallbackIPs:    Addresses{},

		// Contract: marketcode 3.1, 3.2, 3.4, 3.6.
		MaxCodesPerApplication: 20_000_000,
		CodeSegmentSize:        50_000,
		TicketTTLMinutes:       30,
		MaxPackagesPerCode:     3,

		APIHosts:             Hosts{},
		GS1Hosts:             Hosts{},
		GS1Prefixes:          Prefixes{},
		LandingPageRateLimit: 30,
		AppleAppIDs:          AppleAppIDs{},
		AndroidApps:          AndroidApps{},

		WebhookRetryDays: 3,
		ReverifyDomains:  true,
	}
}

// Merge returns s with the fields that a JSON object names; null keeps one as it
// is. A field that does not exist or a value that cannot be is an error that names it.
func Merge(s Settings, object []byte) (Settings, error) {
	if err := unknown(object); err != nil {
		return s, err
	}
	d := json.NewDecoder(bytes.NewReader(object))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("settings: %w", inWords(err))
	}
	return s, s.Validate()
}

// Typed returns a value as a person types it, as JSON: a word is a text, also one that looks like a number where the
// setting, whose value is now, is a text.
func Typed(typed string, currentRaw json.RawMessage) json.RawMessage {
	isText := len(currentRaw) > 0 && currentRaw[0] == '"'
	if json.Valid([]byte(typed)) && (!isText || strings.HasPrefix(typed, `"`) || strings.HasPrefix(typed, "[")) {
		return json.RawMessage(typed)
	}
	text, _ := json.Marshal(typed) // a string always can be
	return text
}

// Zone returns the time zone in which days and months begin.
func (s Settings) Zone() *time.Location {
	return time.FixedZone("", s.UTCOffsetHours*3600)
}

// MonthStart returns the first instant of the calendar month that holds t.
func (s Settings) MonthStart(t time.Time) time.Time {
	y, m, _ := t.In(s.Zone()).Date()
	return time.Date(y, m, 1, 0, 0, 0, 0, s.Zone())
}

// Day returns the calendar day that holds t, as days since 1970-01-01 in the zone.
func (s Settings) Day(t time.Time) int64 {
	return (t.Unix() + int64(s.UTCOffsetHours)*3600) / 86400
}

// Refuses reports whether the operator wants refused what a row lets pass: strict
// refuses what the platform is as surely known to mind as StrictFrom. Decision 37.
func (s *Settings) Refuses(row behaviour.Row) bool {
	if !row.Turns() {
		return false
	}
	if decision, overridden := s.Behaviours[row.String()]; overridden {
		return decision == Reject
	}
	if _, exclusive := row.Rejection(); exclusive {
		return false
	}
	d, _ := row.Deviation()
	return d.Closed() || s.Strict && d.Minds.Surer(cmp.Or(s.StrictFrom, behaviour.Inferred))
}

// Live holds the settings in force; readers never wait for a change.
type Live struct{ p atomic.Pointer[Settings] }

// NewLive starts with the given values.
func NewLive(s Settings) *Live {
	l := &Live{}
	l.Set(s)
	return l
}

// Get returns the values in force.
func (l *Live) Get() Settings { return *l.p.Load() }

// Refuses asks the settings in force; a nil Live refuses nothing.
func (l *Live) Refuses(row behaviour.Row) bool { return l != nil && l.p.Load().Refuses(row) }

// Set puts new values in force.
func (l *Live) Set(s Settings) { l.p.Store(&s) }
