package settings

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/spelling"
)

// Field is what there is to know of a setting, for those who check it, describe it
// or read about it.
type Field struct {
	Name     string
	Meaning  string
	Min, Max int64    // of a number
	Words    []string // that a text can be
	Limits   string   // of anything else
	Effect   string   // since when a change counts; "" = AtOnce
}

// AtOnce is since when a change of most settings counts.
const AtOnce = "at once; on other nodes within a second"

// shed is since when an end of old counts counts.
const shed = "within an hour; what was removed does not come back"

// Table has every setting, in the order of Settings.
var Table = []Field{
	{Name: "strict", Meaning: "refuse what the platform is known or inferred to refuse; on by default with `--strict`"},
	{Name: "behaviours",
		Meaning: "single behaviours that strict decides otherwise: `{\"wire.body.empty_accepted\": \"strict\"}` refuses, `\"loose\"` " +
			"lets pass; a list of `ID=strict` is the same", Limits: "ids of behaviours that strict can turn"},
	{Name: "verification",
		Meaning: "how control of a rule's directory is proven: fetch asks the host for the file, trust vouches for all hosts, " +
			"a list for those hosts", Limits: "fetch, trust or a list of hosts"},
	{Name: "rate_limit", Max: 1_000_000, Meaning: "calls a second per account and interface of the jump rules; 0 = off"},
	{Name: "other_rate_limit", Max: 1_000_000, Meaning: "the same for every other interface that wants an account's token; 0 = off"},
	{Name: "rate_limit_per_node",
		Meaning: "several nodes: each counts its own calls of a second and of a minute, which spares a question to the database"},
	{Name: "service_minute_limit", Max: 1_000_000,
		Meaning: "calls a minute per service account and interface, by the server's clock; 0 = off"},
	{Name: "allow_private_hosts", Meaning: "ports, IP addresses and private addresses in rules and webhooks; on by default with `--dev`"},
	{Name: "refuse_newer_domains", Meaning: "no new prefix under .ink, .media, .plus or .run"},
	{Name: "publish_quota", Max: 1_000_000, Meaning: "publishes a calendar month for each Mini Program; 0 = none, each is refused"},
	{Name: "service_publish_quota", Max: 1_000_000, Meaning: "the same for each service account; 0 = not limited, unlike publish_quota"},
	{Name: "rule_limit", Max: 10_000_000, Meaning: "living rules of a Mini Program; 0 = none, each new one is refused"},
	{Name: "service_rule_limit", Max: 10_000_000, Meaning: "living service-account rules of a target Mini Program; 0 = none, each new one is refused"},
	{Name: "token_daily_limit", Min: 1, Max: 1_000_000, Meaning: "/cgi-bin/token calls a day and account"},
	{Name: "utc_offset_hours", Min: -12, Max: 14, Meaning: "the zone in which days and months of counts and quotas begin, in hours east of UTC"},

	{Name: "daily_limits", Meaning: "calls a day and account, by path; others 500,000",
		Limits: "at most 1000 paths of the wire, each 1 to 1000000000"},
	{Name: "scan_days", Max: 36_500, Meaning: "days that the events of scans are kept; what they count stays; 0 = for ever",
		Effect: AtOnce + "; for what a node keeps beside a stream: at its next start"},
	{Name: "scan_durability", Words: []string{string(Durable), string(Soon)},
		Meaning: "durable: a scan is answered once it is on the disk; soon: one that fell on no code is answered at once, and is there a second later at most"},

	{Name: "statistics_hour_days", Max: 36_500,
		Meaning: "days that what is counted of scans is kept by hour; days, weeks and months stay; 0 = for ever", Effect: shed},
	{Name: "statistics_day_days", Max: 36_500,
		Meaning: "days that it is kept by day, in whole months; hours of these and what found nothing go too, months stay; 0 = for ever",
		Effect:  shed},
	{Name: "alarm_threshold", Max: 100_000,
		Meaning: "the score from which a code is alarmed because it looks copied, where its batch has none of its own; 0 = off",
		Effect:  AtOnce + "; an alarm that is there stays"},

	{Name: "rid_log_rows", Max: 100_000_000, Meaning: "calls that openapi/rid/get can find, beside the seven days; 0 = no log"},
	{Name: "api_ips", Meaning: "what get_api_domain_ip answers; none = where the call arrived", Limits: "at most 256 addresses and ranges"},
	{Name: "callback_ips", Meaning: "what getcallbackip answers; none = where the call arrived",
		Limits: "at most 256 addresses and ranges"},

	{Name: "rules_by_get", Meaning: "qrcodejumpget also by GET, which one client believes in"},
	{Name: "strict_empty_body", Meaning: "an empty body is 44002 also on wxamplinkget, whose page has none"},
	{Name: "empty_debug_url_keeps", Meaning: `an edit with "debug_url": [] keeps the test links, for a client that always sends it`},

	{Name: "hold_links", Meaning: "links and their ends wait for the administrators"},
	{Name: "links_by_own_token", Meaning: "the link calls also with the account's own token, not a platform's only"},
	{Name: "link_limit", Max: 1_000_000, Meaning: "Mini Programs that a service account is linked with; 0 = not limited"},
	{Name: "linked_limit", Max: 1_000_000, Meaning: "service accounts that a Mini Program is linked with; 0 = not limited"},
	{Name: "qrcode_limit", Max: 10_000_000, Meaning: "permanent parametric codes of a service account; 0 = none, each new one is refused"},
	{Name: "picture_limit", Max: 1_000_000, Meaning: "showqrcode pictures a second for one address; 0 = off"},

	{Name: "code_count_max", Min: 10_000, Max: 2_000_000_000, Meaning: "codes of one application"},
	{Name: "code_segment", Min: 10_000, Max: 50_000, Limits: "a multiple of 10000", Meaning: "codes of one download",
		Effect: "for applications that are made afterwards"},
	{Name: "code_seconds", Max: 86_400, Meaning: "seconds that an application takes until FINISH"},
	{Name: "activation_overlap", Words: []string{string(Refuse), string(Replace)},
		Meaning: "refuse a range that overlaps another one, or replace, code by code; reject is an older word for refuse"},
	{Name: "require_link", Meaning: "wxa_appid must be linked with the service account"},
	{Name: "ticket_minutes", Min: 1, Max: 7 * 24 * 60, Meaning: "minutes in which a code_ticket can be traded"},
	{Name: "package_copies", Min: 1, Max: 1000, Meaning: "how many printers' packages may have the same code; one more wants a reason"},
	{Name: "ticket_without_token", Meaning: "tickettocode without an access_token: the ticket names the account"},
	{Name: "missing_index_is_zero", Meaning: "codeactivequery: a client that drops an index of 0 means 0"},
	{Name: "inactive_code_is_an_error", Meaning: "codeactivequery of a code that is not active: 80304, or what is known of it"},

	{Name: "api_hosts", Limits: "at most 64 hosts",
		Meaning: "hosts of the API, with their port if it is not the usual one; none = the API's paths are served under every host"},
	{Name: "page_limit", Max: 1_000_000,
		Meaning: "pages of codes a minute for one address, and ten times as many of links (each 100 bytes of a link count); 0 = off"},
	{Name: "apple_app_ids", Limits: "at most 64", Meaning: "the operator's own apps in apple-app-site-association"},
	{Name: "android_apps", Limits: "at most 64, each with 1 to 16 fingerprints", Meaning: "the same in assetlinks.json"},

	{Name: "webhook_days", Min: 1, Max: 30, Meaning: "days for which an event is tried on a webhook"},
	{Name: "recheck_files", Meaning: "look at verification files again once a day"},

	{Name: "second_factor", Words: []string{string(Optional), string(Admins), string(Everyone)},
		Meaning: "who must have a second factor to use the console: who has none yet sets one up first. Those whom an OpenID Connect " +
			"provider signs in have theirs there; the admin token and keys have none"},
}

// Of is the value of a setting.
func (f Field) Of(s Settings) any {
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("json") == f.Name {
			return v.Field(i).Interface()
		}
	}
	return nil
}

// validate says what is wrong with a number or a word.
func (f Field) validate(s Settings) error {
	v := reflect.ValueOf(f.Of(s))
	switch {
	case v.CanInt() && (v.Int() < f.Min || v.Int() > f.Max):
		return fmt.Errorf("settings: %s is %d: want %d to %d", f.Name, v.Int(), f.Min, f.Max)
	case f.Words != nil && !slices.Contains(f.Words, v.String()):
		return fmt.Errorf("settings: %s is %q: want %s", f.Name, v.String(), strings.Join(f.Words, " or "))
	}
	return nil
}

// Validate returns what is wrong with the values, naming the field.
func (s Settings) Validate() error {
	for _, f := range Table {
		if err := f.validate(s); err != nil {
			return err
		}
	}
	if s.CodeSegment%10_000 != 0 {
		return fmt.Errorf("settings: code_segment is %d: want a multiple of 10000", s.CodeSegment)
	}
	return cmp.Or(s.Behaviours.validate(), s.DailyLimits.validate("daily_limits"), s.APIIPs.validate("api_ips"),
		s.CallbackIPs.validate("callback_ips"),
		s.APIHosts.validate(), s.AppleAppIDs.validate(), s.AndroidApps.validate())
}

// Names are those of all settings.
func Names() (names []string) {
	for _, f := range Table {
		names = append(names, f.Name)
	}
	return names
}

// Allowed says in words which values a setting can have, "" = either of a kind that
// has two.
func (f Field) Allowed() string {
	limits := f.Limits
	if n := reflect.ValueOf(f.Of(Defaults())); n.CanInt() {
		limits = strings.TrimSuffix(fmt.Sprintf("%d to %d, %s", f.Min, f.Max, limits), ", ")
	}
	if f.Words != nil {
		limits = strings.Join(f.Words, " or ")
	}
	return limits
}

// unknown says which name of an object is no setting, and which one may be meant.
func unknown(object []byte) error {
	var given map[string]json.RawMessage
	if json.Unmarshal(object, &given) != nil {
		return nil // told by whoever reads the values
	}
	names := Names()
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.ContainsFunc(names, func(known string) bool { return strings.EqualFold(known, name) }) {
			return fmt.Errorf("settings: there is no %.60q%s", name, spelling.DidYouMean(name, names...))
		}
	}
	return nil
}

// inWords says of a value of a wrong kind which setting it is and what it may be.
func inWords(err error) error {
	kind, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return err
	}
	for _, f := range Table {
		if f.Name == kind.Field {
			return fmt.Errorf("%s is a %s: want %s", f.Name, kind.Value, cmp.Or(f.Allowed(), "true or false"))
		}
	}
	return err
}
