package settings

import (
	"reflect"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestSettingsTable_CoversEveryField verifies that the table has every field of Settings in order, with a meaning.
func TestSettingsTable_CoversEveryField(t *testing.T) {
	typ := reflect.TypeFor[Settings]()
	fields := typ.NumField() - 2 // StrictFrom and AsOf are only flags
	require.True(t, len(Table) == fields, "table of %d settings, want %d", len(Table), fields)
	for i, f := range Table {
		name := typ.Field(i).Tag.Get("json")
		assert.True(t, f.Name == name && !f.Meaning().IsZero(),
			"table row %d = %q with the meaning %q, want %s with one", i, f.Name, f.Meaning(), name)
	}
}

// TestDefaults_AreThePlatforms verifies the limits that the platform documents. Contract: rules 0, 1, 3.1, 3.5; marketcode 3.1, 3.2, 3.6.
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
		assert.Equal(t, c.got, c.want, "default of %s", c.name)
	}
}
