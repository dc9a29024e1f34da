// Package settings knows what an operator may choose while the server runs.
// It knows neither where the choices are kept nor who reads them.
package settings

import (
	"bytes"
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

// UnmarshalJSON takes "fetch", "trust" or a list of hosts.
func (v *Verification) UnmarshalJSON(b []byte) error {
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
	RateLimit           int          `json:"rate_limit"`            // calls a second per account and interface; 0 = off
	AllowPrivateHosts   bool         `json:"allow_private_hosts"`   // ports, IP addresses and private addresses in rules
	PublishQuota        int          `json:"publish_quota"`         // publishes a calendar month for each Mini Program
	ServicePublishQuota int          `json:"service_publish_quota"` // the same for service-account rules; 0 = not limited
	RuleLimit           int          `json:"rule_limit"`            // living rules of a Mini Program
	ServiceRuleLimit    int          `json:"service_rule_limit"`    // living service-account rules of a target Mini Program
	TokenDailyLimit     int          `json:"token_daily_limit"`     // /cgi-bin/token calls a day and account
	UTCOffsetHours      int          `json:"utc_offset_hours"`      // where days and months begin
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
	}
}

// Validate returns what is wrong with the values, naming the field.
func (s Settings) Validate() error {
	for _, f := range []struct {
		name     string
		value    int
		min, max int
	}{
		{"rate_limit", s.RateLimit, 0, 1_000_000},
		{"publish_quota", s.PublishQuota, 0, 1_000_000},
		{"service_publish_quota", s.ServicePublishQuota, 0, 1_000_000},
		{"rule_limit", s.RuleLimit, 0, 10_000_000},
		{"service_rule_limit", s.ServiceRuleLimit, 0, 10_000_000},
		{"token_daily_limit", s.TokenDailyLimit, 1, 1_000_000},
		{"utc_offset_hours", s.UTCOffsetHours, -12, 14},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("settings: %s is %d: want %d to %d", f.name, f.value, f.min, f.max)
		}
	}
	return nil
}

// Merge returns s with the fields that a JSON object names; a field that does
// not exist or a value that cannot be is an error that names it.
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
