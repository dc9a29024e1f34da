package settings

import (
	"reflect"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The table says what every field of Settings means, in their order.
func TestSettingsTable_CoversEveryField(t *testing.T) {
	kind := reflect.TypeFor[Settings]()
	fields := kind.NumField() - 2 // StrictFrom and AsOf are flags alone
	require.True(t, len(Table) == fields, "%d settings and %d lines of the table", fields, len(Table))
	for i, f := range Table {
		name := kind.Field(i).Tag.Get("json")
		assert.True(t, f.Name == name && !f.Meaning().IsZero(), "the setting %s is %q in the table and means %q", name, f.Name, f.Meaning())
	}
}

// TestDefaults_AreThePlatforms holds the limits that the platform's pages name. Contract: rules 0, 1, 3.1, 3.5; marketcode 3.1, 3.2, 3.6.
func TestDefaults_AreThePlatforms(t *testing.T) {
	d := Defaults()
	for _, c := range []struct {
		name      string
		got, want int64
	}{
		{"rule_rate_limit", int64(d.RuleRateLimit), 5},
		{"default_rate_limit", int64(d.DefaultRateLimit), int64(Unlimited)},
		{"service_rate_limit_per_minute", int64(d.ServiceRateLimitPerMinute), int64(Unlimited)},
		{"rule_limit", int64(d.RuleLimit), 100},
		{"service_rule_limit", int64(d.ServiceRuleLimit), 100_000},
		{"publish_quota", int64(d.PublishQuota), 100},
		{"service_publish_quota", int64(d.ServicePublishQuota), int64(Unlimited)},
		{"token_daily_limit", int64(d.TokenDailyLimit), 2000},
		{"utc_offset_hours", int64(d.UTCOffsetHours), 8},
		{"qrcode_limit", int64(d.QRCodeLimit), 100_000},
		{"max_codes_per_application", d.MaxCodesPerApplication, 20_000_000},
		{"code_segment_size", d.CodeSegmentSize, 50_000},
		{"ticket_ttl_minutes", int64(d.TicketTTLMinutes), 30},
	} {
		assert.Equal(t, c.got, c.want, "the default of %s", c.name)
	}
}
