// Package settings defines the settings that an operator can change while the server runs. Package settings is independent of the
// storage of the settings and of the packages that read them.
package settings

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// Verification defines how the server checks that an account controls the directory of a rule.
type Verification struct {
	Mode  Mode     // Fetch, Trust or TrustHosts
	Hosts []string // for Mode TrustHosts: the hosts that the operator trusts; for other hosts the verification file is fetched
}

// Mode is the method of a Verification.
type Mode string

const (
	// Fetch downloads the verification file from the host.
	Fetch Mode = "fetch"
	// Trust: the operator trusts every host, without a check.
	Trust Mode = "trust"
	// TrustHosts: the operator trusts the listed hosts, without a check.
	TrustHosts Mode = "hosts"
)

// unsaid reports whether b is the JSON value null, which leaves a setting unchanged, as encoding/json does for types without UnmarshalJSON.
func unsaid(b []byte) bool { return string(b) == "null" }

// renew decodes b into a new value, because the old value may be in use, and assigns the new value to dst. JSON null changes nothing; the
// parameter want is the text of the error for JSON of a wrong type.
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

// UnmarshalJSON accepts "fetch", "trust" or a list of hosts.
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

// MarshalJSON returns the form that UnmarshalJSON reads.
func (v Verification) MarshalJSON() ([]byte, error) {
	if v.Mode == TrustHosts {
		return json.Marshal(append([]string{}, v.Hosts...))
	}
	return json.Marshal(string(v.Mode))
}

// Settings contains the current settings; Table describes each setting.
type Settings struct {
	Strict                    bool         `json:"strict"`
	Behaviours                Overrides    `json:"behaviours"`
	Verification              Verification `json:"verification"`
	RuleRateLimit             Limit        `json:"rule_rate_limit"`
	DefaultRateLimit          Limit        `json:"default_rate_limit"`
	RateLimitPerNode          bool         `json:"rate_limit_per_node"`
	ServiceRateLimitPerMinute Limit        `json:"service_rate_limit_per_minute"`
	AllowPrivateHosts         bool         `json:"allow_private_hosts"`
	PublishQuota              int          `json:"publish_quota"`
	ServicePublishQuota       Limit        `json:"service_publish_quota"`
	RuleLimit                 int          `json:"rule_limit"`
	ServiceRuleLimit          int          `json:"service_rule_limit"`
	TokenDailyLimit           int          `json:"token_daily_limit"`
	UTCOffsetHours            int          `json:"utc_offset_hours"`

	DailyLimits       Limits     `json:"daily_limits"`
	ScanRetentionDays Limit      `json:"scan_retention_days"`
	ScanCommit        CommitMode `json:"scan_commit"`

	HourlyStatsRetentionDays Limit `json:"hourly_stats_retention_days"`
	DailyStatsRetentionDays  Limit `json:"daily_stats_retention_days"`
	AlarmThreshold           Limit `json:"alarm_threshold"`

	CallLogMaxRows int       `json:"call_log_max_rows"`
	APIIPs         Addresses `json:"api_ips"`
	CallbackIPs    Addresses `json:"callback_ips"`

	LinkApprovalRequired      bool  `json:"link_approval_required"`
	MaxLinksPerServiceAccount Limit `json:"max_links_per_service_account"`
	MaxLinksPerMiniProgram    Limit `json:"max_links_per_mini_program"`
	QRCodeLimit               int   `json:"qrcode_limit"`
	QRCodeImageRateLimit      Limit `json:"qrcode_image_rate_limit"`

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
	LandingPageRateLimit Limit       `json:"landing_page_rate_limit"`
	AppleAppIDs          AppleAppIDs `json:"apple_app_ids"`
	AndroidApps          AndroidApps `json:"android_apps"`

	WebhookRetryDays int  `json:"webhook_retry_days"`
	ReverifyDomains  bool `json:"reverify_domains"`

	SecondFactor Demand `json:"second_factor"`

	// StrictFrom is the weakest evidence level at which strict mode rejects a deviation, set by a flag of each process; "" = inferred.
	StrictFrom behaviour.Evidence `json:"-"`
	// AsOf is the day whose platform behaviour the server reproduces, set by a flag of each process; "" = today.
	AsOf string `json:"-"`
}

// Limit is a number that may be Unlimited, which is null in JSON; 0 does not mean unlimited.
type Limit int

// Unlimited is above the maximum of every Limit in Table.
const Unlimited Limit = math.MaxInt32

// UnmarshalJSON accepts null and integers below Unlimited.
func (l *Limit) UnmarshalJSON(b []byte) error {
	n := int(Unlimited)
	if err := json.Unmarshal(b, &n); err != nil || unsaid(b) {
		*l = Unlimited
		return err
	}
	if n >= int(Unlimited) {
		return &json.UnmarshalTypeError{Value: "number " + string(b), Type: reflect.TypeFor[int]()}
	}
	*l = Limit(n)
	return nil
}

// MarshalJSON returns null for Unlimited.
func (l Limit) MarshalJSON() ([]byte, error) {
	if l == Unlimited {
		return []byte("null"), nil
	}
	return json.Marshal(int(l))
}

// Demand defines which users of the console need a second factor to sign in.
type Demand string

const (
	Optional       Demand = "optional"
	Admins         Demand = "admins"
	DemandEveryone Demand = "everyone"
)

// CommitMode defines when the server responds to a scan.
type CommitMode string

const (
	// Sync: the server responds after the scan is written to disk.
	Sync CommitMode = "sync"
	// Async: if a scan matches no unique code, the server responds before the scan is on disk, so a power failure may lose at most the last
	// second of such scans. For a scan of a unique code, the server always waits for the disk.
	Async CommitMode = "async"
)

// Platform contains the limits of the Weixin platform.
var Platform = Defaults()

// Exceeds returns the behaviour that rejects the nth object of a kind. Exceeds returns row if n exceeds the operator's limit,
// WireLimitAbove if n exceeds only the platform's limit and the settings reject such objects, and NoRow if the object is accepted.
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

// Defaults returns the default settings, which are the limits of the platform. Contract: rules §1, §3.1.
func Defaults() Settings {
	return Settings{
		Behaviours:                Overrides{},
		Verification:              Verification{Mode: Fetch},
		RuleRateLimit:             5,
		DefaultRateLimit:          Unlimited,
		ServiceRateLimitPerMinute: Unlimited,
		ServicePublishQuota:       Unlimited,
		PublishQuota:              100,
		RuleLimit:                 100,
		ServiceRuleLimit:          100_000,
		TokenDailyLimit:           2000,
		// China has had no daylight saving time since 1991, so a fixed offset is exact and no time zone database is needed.
		UTCOffsetHours: 8,

		QRCodeLimit:               100_000, // Contract: rules §3.5
		QRCodeImageRateLimit:      20,
		MaxLinksPerServiceAccount: Unlimited,
		MaxLinksPerMiniProgram:    Unlimited,

		AlarmThreshold:    100, // points; at most one genuine code in a thousand reaches 100 points, see docs/alarms.md
		ScanCommit:        Sync,
		SecondFactor:      Optional,
		ScanRetentionDays: 400, // a year and a month, so that a month can be compared with the same month of last year

		HourlyStatsRetentionDays: Unlimited,
		DailyStatsRetentionDays:  Unlimited,

		DailyLimits:    Limits{},
		CallLogMaxRows: 1_000_000,
		APIIPs:         Addresses{},
		CallbackIPs:    Addresses{},

		// Contract: marketcode §3.1, §3.2, §3.4, §3.6.
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

// Merge returns s with the fields that a JSON object contains; null makes a Limit unlimited, and leaves any other field unchanged.
// Merge returns an error that names the field for an unknown field or an invalid value.
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

// unlimited is the word that people type and read for null.
const unlimited = "unlimited"

// Typed converts a value that a user typed to JSON. The word "unlimited" becomes null, and text that is not JSON becomes a string. Text
// that looks like a number becomes a string too if the current value of the setting is a string.
func Typed(typed string, currentRaw json.RawMessage) json.RawMessage {
	if typed == unlimited {
		return json.RawMessage("null")
	}
	isText := len(currentRaw) > 0 && currentRaw[0] == '"'
	if json.Valid([]byte(typed)) && (!isText || strings.HasPrefix(typed, `"`) || strings.HasPrefix(typed, "[")) {
		return json.RawMessage(typed)
	}
	text, _ := json.Marshal(typed) // json.Marshal cannot fail for a string
	return text
}

// Shown returns a JSON value for people: null becomes unlimited.
func Shown(value json.RawMessage) string {
	if unsaid(value) {
		return unlimited
	}
	return string(value)
}

// Zone returns the time zone that defines the start of days and months.
func (s Settings) Zone() *time.Location {
	return time.FixedZone("", s.UTCOffsetHours*3600)
}

// MonthStart returns the first instant of the calendar month that contains t.
func (s Settings) MonthStart(t time.Time) time.Time {
	y, m, _ := t.In(s.Zone()).Date()
	return time.Date(y, m, 1, 0, 0, 0, 0, s.Zone())
}

// Day returns the calendar day that contains t, as days since 1970-01-01 in the time zone of the settings.
func (s Settings) Day(t time.Time) int64 {
	return (t.Unix() + int64(s.UTCOffsetHours)*3600) / 86400
}

// Refuses reports whether the settings reject the deviation of row: strict mode rejects a deviation if the evidence that the
// platform rejects it is at least as strong as StrictFrom. Decision 37.
func (s *Settings) Refuses(row behaviour.Row) bool {
	if !row.Changeable() {
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

// Live contains the current settings; a change never blocks readers.
type Live struct{ p atomic.Pointer[Settings] }

// NewLive returns a Live with the given settings.
func NewLive(s Settings) *Live {
	l := &Live{}
	l.Set(s)
	return l
}

// NoteOrRefuse records that the result of a call depends on a behaviour of the platform. If the operator disallows the behaviour,
// NoteOrRefuse returns an error. Decision 37.
func (s Settings) NoteOrRefuse(ctx context.Context, row behaviour.Row, format string, args ...any) error {
	behaviour.Note(ctx, row)
	if s.Refuses(row) {
		return errcode.Strict(row, format, args...)
	}
	return nil
}

// Get returns the current settings.
func (l *Live) Get() Settings { return *l.p.Load() }

// Refuses reports whether the current settings reject the deviation of row; a nil Live rejects nothing.
func (l *Live) Refuses(row behaviour.Row) bool { return l != nil && l.p.Load().Refuses(row) }

// Set replaces the current settings.
func (l *Live) Set(s Settings) { l.p.Store(&s) }
