// Package settings knows what an operator may choose while the server runs.
// It knows neither where the choices are kept nor who reads them.
package settings

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
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

// MarshalJSON is the inverse of UnmarshalJSON.
func (v Verification) MarshalJSON() ([]byte, error) {
	if v.Mode == TrustHosts {
		return json.Marshal(append([]string{}, v.Hosts...))
	}
	return json.Marshal(string(v.Mode))
}

// Trusts reports whether the operator vouches for a host (lower case, no port).
func (v Verification) Trusts(host string) bool {
	return v.Mode == Trust || v.Mode == TrustHosts && slices.Contains(v.Hosts, host)
}

// Settings are the values in force.
type Settings struct {
	Verification        Verification `json:"verification"`
	RateLimit           int          `json:"rate_limit"`            // calls a second per account and interface of the jump rules; 0 = off
	OtherRateLimit      int          `json:"other_rate_limit"`      // the same for every other interface that wants an account's token; 0 = off
	RateLimitPerNode    bool         `json:"rate_limit_per_node"`   // several nodes: each counts its own calls, which spares a question to the database
	ServiceMinuteLimit  int          `json:"service_minute_limit"`  // calls a minute per service account and interface, by the server's clock, on each node; 0 = off
	AllowPrivateHosts   bool         `json:"allow_private_hosts"`   // ports, IP addresses and private addresses in rules
	RefuseNewerDomains  bool         `json:"refuse_newer_domains"`  // no new prefix under .ink, .media, .plus or .run
	PublishQuota        int          `json:"publish_quota"`         // publishes a calendar month for each Mini Program
	ServicePublishQuota int          `json:"service_publish_quota"` // the same for service-account rules; 0 = not limited
	RuleLimit           int          `json:"rule_limit"`            // living rules of a Mini Program
	ServiceRuleLimit    int          `json:"service_rule_limit"`    // living service-account rules of a target Mini Program
	TokenDailyLimit     int          `json:"token_daily_limit"`     // /cgi-bin/token calls a day and account
	UTCOffsetHours      int          `json:"utc_offset_hours"`      // where days and months begin

	DailyLimits    Limits     `json:"daily_limits"`    // calls a day and account, by path; others 500,000
	ScanDays       int        `json:"scan_days"`       // days that the events of scans are kept; what they count stays; 0 = for ever
	ScanDurability Durability `json:"scan_durability"` // durable: a scan is answered once it is on the disk; soon: one that fell on no code up to a second earlier

	RIDLogRows  int       `json:"rid_log_rows"` // calls that openapi/rid/get can find, beside the seven days; 0 = no log
	APIIPs      Addresses `json:"api_ips"`      // what get_api_domain_ip answers; none = where the call arrived
	CallbackIPs Addresses `json:"callback_ips"` // what getcallbackip answers; none = where the call arrived

	RulesByGet         bool `json:"rules_by_get"`          // qrcodejumpget also by GET, which one client believes in
	StrictEmptyBody    bool `json:"strict_empty_body"`     // an empty body is 44002 on every call, as documented
	EmptyDebugURLKeeps bool `json:"empty_debug_url_keeps"` // an edit with "debug_url": [] keeps the test links, for a client that always sends it

	HoldLinks       bool `json:"hold_links"`         // links and their ends wait for the administrators
	LinksByOwnToken bool `json:"links_by_own_token"` // the link calls also with the account's own token, not a platform's only
	LinkLimit       int  `json:"link_limit"`         // Mini Programs that a service account is linked with; 0 = not limited
	LinkedLimit     int  `json:"linked_limit"`       // service accounts that a Mini Program is linked with; 0 = not limited
	QRCodeLimit     int  `json:"qrcode_limit"`       // permanent parametric codes of a service account
	PictureLimit    int  `json:"picture_limit"`      // showqrcode pictures a second for one address; 0 = off

	CodeCountMax          int64   `json:"code_count_max"`            // codes of one application
	CodeSegment           int64   `json:"code_segment"`              // codes of one download; batches keep what they began with
	CodeSeconds           int     `json:"code_seconds"`              // how long an application takes until FINISH
	ActivationOverlap     Overlap `json:"activation_overlap"`        // refuse a range that overlaps another one, or replace, code by code
	RequireLink           bool    `json:"require_link"`              // wxa_appid must be linked with the service account
	TicketMinutes         int     `json:"ticket_minutes"`            // how long a code_ticket can be traded
	TicketWithoutToken    bool    `json:"ticket_without_token"`      // tickettocode without an access_token: the ticket names the account
	MissingIndexIsZero    bool    `json:"missing_index_is_zero"`     // codeactivequery: a client that drops an index of 0 means 0
	InactiveCodeIsAnError bool    `json:"inactive_code_is_an_error"` // codeactivequery of a code that is not active: 80304, or what is known of it

	APIHosts    Hosts       `json:"api_hosts"`     // hosts of the API, with their port if it is not the usual one; none = the API's paths are served under every host
	PageLimit   int         `json:"page_limit"`    // pages of codes a minute for one address, ten times as many of Mini Programs (each 100 bytes of a link count); 0 = off
	AppleAppIDs AppleAppIDs `json:"apple_app_ids"` // the operator's own apps in apple-app-site-association
	AndroidApps AndroidApps `json:"android_apps"`  // the same in assetlinks.json

	WebhookDays  int  `json:"webhook_days"`  // how long an event is tried on a webhook, in days
	RecheckFiles bool `json:"recheck_files"` // look at verification files again once a day
}

// Durability says when a scan is answered.
type Durability string

const (
	// Durable: once the scan is on the disk.
	Durable Durability = "durable"
	// Soon: a scan that fell on no code is answered first; a power cut costs at
	// most the last second of them. Codes always wait.
	Soon Durability = "soon"
)

// Overlap says what an activation does that overlaps another one.
type Overlap string

const (
	// Replace: the last activation wins, index by index.
	Replace Overlap = "replace"
	// Refuse: 80302 for a range that overlaps another one that is active. The very
	// same range again replaces.
	Refuse Overlap = "refuse"
)

// UnmarshalJSON takes the two words, and reject, which was the name of refuse.
func (o *Overlap) UnmarshalJSON(b []byte) error {
	if unsaid(b) {
		return nil
	}
	var word string
	if err := json.Unmarshal(b, &word); err != nil {
		return fmt.Errorf("activation_overlap: want refuse or replace")
	}
	if *o = Overlap(word); word == "reject" {
		*o = Refuse
	}
	return nil
}

// Defaults are the values of the platform. Contract: rules 1, 3.1.
func Defaults() Settings {
	return Settings{
		Verification:     Verification{Mode: Fetch},
		RateLimit:        5,
		PublishQuota:     100,
		RuleLimit:        100,
		ServiceRuleLimit: 100_000,
		TokenDailyLimit:  2000,
		// China has had no summer time since 1991, so an hour is exact and no
		// table of time zones is needed.
		UTCOffsetHours: 8,

		QRCodeLimit:  100_000, // Contract: rules 3.5
		PictureLimit: 20,

		ScanDurability: Durable,
		ScanDays:       400, // a year and a month: this month beside the same one of last year

		DailyLimits: Limits{},
		RIDLogRows:  1_000_000,
		APIIPs:      Addresses{},
		CallbackIPs: Addresses{},

		// Contract: marketcode 3.1, 3.2, 3.4, 3.6.
		CodeCountMax:      20_000_000,
		CodeSegment:       50_000,
		ActivationOverlap: Refuse,
		TicketMinutes:     30,

		InactiveCodeIsAnError: true, // Contract: marketcode 3.5

		APIHosts:    Hosts{},
		PageLimit:   30,
		AppleAppIDs: AppleAppIDs{},
		AndroidApps: AndroidApps{},

		WebhookDays:  3,
		RecheckFiles: true,
	}
}

// Validate returns what is wrong with the values, naming the field.
func (s Settings) Validate() error {
	for _, f := range []struct {
		name     string
		value    int64
		min, max int64
	}{
		{"rate_limit", int64(s.RateLimit), 0, 1_000_000},
		{"other_rate_limit", int64(s.OtherRateLimit), 0, 1_000_000},
		{"service_minute_limit", int64(s.ServiceMinuteLimit), 0, 1_000_000},
		{"publish_quota", int64(s.PublishQuota), 0, 1_000_000},
		{"service_publish_quota", int64(s.ServicePublishQuota), 0, 1_000_000},
		{"rule_limit", int64(s.RuleLimit), 0, 10_000_000},
		{"service_rule_limit", int64(s.ServiceRuleLimit), 0, 10_000_000},
		{"token_daily_limit", int64(s.TokenDailyLimit), 1, 1_000_000},
		{"utc_offset_hours", int64(s.UTCOffsetHours), -12, 14},
		{"rid_log_rows", int64(s.RIDLogRows), 0, 100_000_000},
		{"link_limit", int64(s.LinkLimit), 0, 1_000_000},
		{"linked_limit", int64(s.LinkedLimit), 0, 1_000_000},
		{"qrcode_limit", int64(s.QRCodeLimit), 0, 10_000_000},
		{"picture_limit", int64(s.PictureLimit), 0, 1_000_000},
		{"code_count_max", s.CodeCountMax, 10_000, 2_000_000_000},
		{"code_segment", s.CodeSegment, 10_000, 50_000},
		{"code_seconds", int64(s.CodeSeconds), 0, 86_400},
		{"ticket_minutes", int64(s.TicketMinutes), 1, 7 * 24 * 60},
		{"scan_days", int64(s.ScanDays), 0, 36_500},
		{"page_limit", int64(s.PageLimit), 0, 1_000_000},
		{"webhook_days", int64(s.WebhookDays), 1, 30},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("settings: %s is %d: want %d to %d", f.name, f.value, f.min, f.max)
		}
	}
	if err := cmp.Or(s.DailyLimits.validate("daily_limits"), s.APIIPs.validate("api_ips"), s.CallbackIPs.validate("callback_ips"),
		s.APIHosts.validate(), s.AppleAppIDs.validate(), s.AndroidApps.validate()); err != nil {
		return err
	}
	if s.CodeSegment%10_000 != 0 {
		return fmt.Errorf("settings: code_segment is %d: want a multiple of 10000", s.CodeSegment)
	}
	if s.ScanDurability != Durable && s.ScanDurability != Soon {
		return fmt.Errorf("settings: scan_durability is %q: want durable or soon", s.ScanDurability)
	}
	if s.ActivationOverlap != Replace && s.ActivationOverlap != Refuse {
		return fmt.Errorf("settings: activation_overlap is %q: want refuse or replace", s.ActivationOverlap)
	}
	return nil
}

// Merge returns s with the fields that a JSON object names; null keeps one as it
// is. A field that does not exist or a value that cannot be is an error that names it.
func Merge(s Settings, object []byte) (Settings, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("settings: %w", err)
	}
	return s, s.Validate()
}

// Zone is where days and months begin.
func (s Settings) Zone() *time.Location {
	return time.FixedZone("", s.UTCOffsetHours*3600)
}

// MonthStart is the first instant of the calendar month that holds t.
func (s Settings) MonthStart(t time.Time) time.Time {
	y, m, _ := t.In(s.Zone()).Date()
	return time.Date(y, m, 1, 0, 0, 0, 0, s.Zone())
}

// Day is the calendar day that holds t, as days since 1970-01-01 in the zone.
func (s Settings) Day(t time.Time) int64 {
	return (t.Unix() + int64(s.UTCOffsetHours)*3600) / 86400
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

// Set puts new values in force.
func (l *Live) Set(s Settings) { l.p.Store(&s) }
