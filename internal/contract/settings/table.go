package settings

import (
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

// Field describes a setting for validation, schemas and documents.
type Field struct {
	Name     string
	Min, Max int64    // of a number
	Words    []string // allowed values of a text setting
	Limits   string   // translation key of a text about the allowed values; "" = Min, Max and Words describe them completely
	Effect   string   // translation key of the text that says when a change takes effect; "" = at once
	Group    string   // translation key of the group that starts with this setting; "" = no group starts here
}

//go:embed locale
var locale embed.FS

var book = i18n.Open(locale)

// Meaning returns the description of the setting.
func (f Field) Meaning() i18n.Message { return book.Text(f.Name) }

// Heading returns the name of the group that starts with the setting; the name is empty if no group starts here.
func (f Field) Heading() (name i18n.Message) {
	if f.Group != "" {
		name = book.Text("group." + f.Group)
	}
	return name
}

// Counts returns the text that says when a change of the setting takes effect.
func (f Field) Counts() i18n.Message { return book.Text(cmp.Or(f.Effect, "effect.at_once")) }

// Table lists every setting, in the order of Settings.
var Table = []Field{
	{Name: "strict", Group: "strict"},
	{Name: "behaviours", Limits: "limits.behaviours"},
	{Name: "verification", Limits: "limits.hosts.trusted"},

	{Name: "rule_rate_limit", Group: "calls", Max: 1_000_000},
	{Name: "default_rate_limit", Max: 1_000_000},
	{Name: "rate_limit_per_node"},
	{Name: "service_rate_limit_per_minute", Max: 1_000_000},

	{Name: "allow_private_hosts", Group: "rules"},
	{Name: "publish_quota", Max: 1_000_000},
	{Name: "service_publish_quota", Max: 1_000_000},
	{Name: "rule_limit", Max: 10_000_000},
	{Name: "service_rule_limit", Max: 10_000_000},

	{Name: "token_daily_limit", Group: "days", Min: 1, Max: 1_000_000},
	{Name: "utc_offset_hours", Min: -12, Max: 14},
	{Name: "daily_limits", Limits: "limits.paths"},

	{Name: "scan_retention_days", Group: "scans", Min: 1, Max: 36_500, Effect: "effect.stream"},
	{Name: "scan_commit", Words: []string{string(Sync), string(Async)}},
	{Name: "hourly_stats_retention_days", Min: 1, Max: 36_500, Effect: "effect.shed"},
	{Name: "daily_stats_retention_days", Min: 1, Max: 36_500, Effect: "effect.shed"},
	{Name: "alarm_threshold", Min: 1, Max: 100_000, Effect: "effect.alarms"},

	{Name: "call_log_max_rows", Group: "answers", Max: 100_000_000},
	{Name: "api_ips", Limits: "limits.addresses"},
	{Name: "callback_ips", Limits: "limits.addresses"},

	{Name: "link_approval_required", Group: "links"},
	{Name: "max_links_per_service_account", Max: 1_000_000},
	{Name: "max_links_per_mini_program", Max: 1_000_000},
	{Name: "qrcode_limit", Max: 10_000_000},
	{Name: "qrcode_image_rate_limit", Max: 1_000_000},

	{Name: "order_approval_required", Group: "codes"},
	{Name: "allow_unapproved_applycode"},
	{Name: "max_codes_per_application", Min: 10_000, Max: 2_000_000_000},
	{Name: "code_segment_size", Min: 10_000, Max: 50_000, Limits: "limits.step", Effect: "effect.afterwards"},
	{Name: "code_finish_delay_seconds", Max: 86_400},
	{Name: "ticket_ttl_minutes", Min: 1, Max: 7 * 24 * 60},
	{Name: "max_packages_per_code", Min: 1, Max: 1000},

	{Name: "api_hosts", Group: "pages", Limits: "limits.hosts"},
	{Name: "gs1_hosts", Limits: "limits.hosts"},
	{Name: "gs1_prefixes", Limits: "limits.prefixes"},
	{Name: "landing_page_rate_limit", Max: 1_000_000},
	{Name: "apple_app_ids", Limits: "limits.apps"},
	{Name: "android_apps", Limits: "limits.fingerprints"},

	{Name: "webhook_retry_days", Group: "webhooks", Min: 1, Max: 30},
	{Name: "reverify_domains"},

	{Name: "second_factor", Group: "sign_in", Words: []string{string(Optional), string(Admins), string(DemandEveryone)}},
}

// position maps the name of each setting to its position in Settings.
var position = func() map[string]int {
	positions := map[string]int{}
	for field := range reflect.TypeFor[Settings]().Fields() {
		positions[field.Tag.Get("json")] = field.Index[0]
	}
	return positions
}()

// Value returns the value of this setting in s.
func (f Field) Value(s Settings) any { return reflect.ValueOf(s).Field(position[f.Name]).Interface() }

// CanBeUnlimited reports whether the setting is a Limit.
func (f Field) CanBeUnlimited() bool {
	_, ok := f.Value(Settings{}).(Limit)
	return ok
}

// validate returns an error if value, a number, is out of range, or if it is a word that is not allowed.
func (f Field) validate(value reflect.Value) error {
	switch limit, isLimit := value.Interface().(Limit); {
	case isLimit && limit == Unlimited:
	case isLimit && (value.Int() < f.Min || value.Int() > f.Max):
		return fmt.Errorf("settings: %s is %d: want %d to %d, or unlimited (null)", f.Name, value.Int(), f.Min, f.Max)
	case value.CanInt() && (value.Int() < f.Min || value.Int() > f.Max):
		return fmt.Errorf("settings: %s is %d: want %d to %d", f.Name, value.Int(), f.Min, f.Max)
	case f.Words != nil && !slices.Contains(f.Words, value.String()):
		return fmt.Errorf("settings: %s is %q: want %s", f.Name, value.String(), strings.Join(f.Words, " or "))
	}
	return nil
}

// Validate returns an error that names the first invalid setting.
func (s Settings) Validate() error {
	values := reflect.ValueOf(s)
	for _, f := range Table {
		if err := f.validate(values.Field(position[f.Name])); err != nil {
			return err
		}
	}
	if s.CodeSegmentSize%10_000 != 0 {
		return fmt.Errorf("settings: code_segment_size is %d: want a multiple of 10000", s.CodeSegmentSize)
	}
	return cmp.Or(s.Behaviours.validate(), s.DailyLimits.validate("daily_limits"), s.APIIPs.validate("api_ips"),
		s.CallbackIPs.validate("callback_ips"),
		s.APIHosts.validate("api_hosts"), s.GS1Hosts.validate("gs1_hosts"),
		s.GS1Prefixes.validate("gs1_prefixes"), s.AppleAppIDs.validate(), s.AndroidApps.validate())
}

// Names returns the names of all settings.
func Names() (names []string) {
	for _, f := range Table {
		names = append(names, f.Name)
	}
	return names
}

// Allowed describes the allowed values of a setting; an empty message means a boolean.
func (f Field) Allowed() (limits i18n.Message) {
	if f.Limits != "" {
		limits = book.Text(f.Limits)
	}
	if f.CanBeUnlimited() {
		return book.Text("range.unlimited", f.Min, f.Max)
	}
	if n := reflect.ValueOf(f.Value(Defaults())); n.CanInt() {
		if limits.IsZero() {
			return book.Text("range", f.Min, f.Max)
		}
		return book.Text("range.limits", f.Min, f.Max, limits)
	}
	for i, word := range f.Words {
		if i == 0 {
			limits = i18n.Literal(word)
		} else {
			limits = book.Text("or", limits, word)
		}
	}
	return limits
}

// unknown returns an error that names an unknown setting in a JSON object and suggests a similar name.
func unknown(object []byte) error {
	var parsed map[string]json.RawMessage
	if json.Unmarshal(object, &parsed) != nil {
		return nil // the caller, which decodes the values, reports the JSON error
	}
	names := Names()
	for _, name := range slices.Sorted(maps.Keys(parsed)) {
		if !slices.ContainsFunc(names, func(known string) bool { return strings.EqualFold(known, name) }) {
			return fmt.Errorf("settings: there is no %.60q%s", name, suggest.DidYouMean(name, names...))
		}
	}
	return nil
}

// inWords converts a JSON type error to a text that names the setting and its allowed values.
func inWords(err error) error {
	kind, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return err
	}
	for _, f := range Table {
		if f.Name == kind.Field {
			return fmt.Errorf("%s is a %s: want %s", f.Name, kind.Value, cmp.Or(f.Allowed().String(), "true or false"))
		}
	}
	return err
}
