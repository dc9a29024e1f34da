package store

import "slices"

// table describes how a table is treated in exports, imports, the emulator's reset and the erasure of a user. The operations
// handbook, docs/en/handbook.md and its Chinese version, shows the list of tables.
type table struct {
	name string
	// order lists the columns that define the order of rows in an export; "" = not exported.
	order string
	// keptOnReset reports whether a reset of the emulator keeps the rows; a reset empties all other tables.
	keptOnReset bool
	// prefilled reports whether a new database already has rows in the table; an import replaces these rows.
	prefilled bool
	// log reports whether the rows record events; snapshots of the emulator omit such tables.
	log bool
	// owned is the column with the account, the platform or the batch that a row belongs to; "" = exports of accounts omit the table.
	owned string
	// stays reports whether the rows of an account stay in their cell when the account moves.
	stays bool
	// users lists the columns that can contain data about a user.
	users []userColumn
}

// userColumn describes a column that can contain data about a user.
type userColumn struct {
	name string
	is   erasureAction
	// account is the column with the account to which the openid belongs.
	account string
}

// erasureAction is the kind of content of a column, which determines the effect of an erasure.
type erasureAction string

const (
	openID     erasureAction = "an openid: the row is removed"
	openIDText erasureAction = "a text with an openid: the row is removed"
	userHash   erasureAction = "the user's hash: emptied"
	erasedHash erasureAction = "the hash of an erased user, so that scans that come later are made anonymous"
	noUser     erasureAction = "no user data"
	testers    erasureAction = "people of the account"
	saved      erasureAction = "the saved state: delete the snapshot, or repeat the erasure after a load"
	aged       erasureAction = "texts of calls: removed after their seven days"
	received   erasureAction = "the receiver's text: kept with the row"
)

// schema lists all tables except goose's own, in export order.
var schema = []table{
	{name: "access_tokens", order: "hash", owned: "appid"},
	{name: "accounts", order: "appid", owned: "appid", users: []userColumn{{name: "members", is: testers}}},
	{name: "admin_keys", order: "id", keptOnReset: true},
	{name: "aggregation_offsets", keptOnReset: true}, // journals of the nodes of this installation
	{name: "alarm_thresholds", order: "batch", owned: "batch"},
	{name: "alarms", order: "id", owned: "batch"},
	{name: "appearances", order: "appid", owned: "appid"},
	// a reset keeps the last sequence number, so that nodes that follow the log detect that all data is new
	{name: "audit_log_head", order: "id", keptOnReset: true, prefilled: true},
	{name: "batches", order: "id", owned: "account"},
	{name: "call_blocks", order: "seq", log: true, users: []userColumn{{name: "text", is: aged}}},
	{name: "cases", order: "id", owned: "account"},
	{name: "changes", order: "seq", log: true},
	{name: "code_counts", order: "batch, idx", owned: "batch", log: true, users: []userColumn{{name: "users", is: noUser},
		{name: "state", is: noUser}, {name: "since_dismissal", is: noUser}}},
	{name: "code_events", order: "seq", owned: "batch"},
	{name: "code_scans", order: "batch, idx", owned: "batch", log: true, users: []userColumn{{name: "first_user", is: userHash}}},
	{name: "code_serials", order: "batch, idx", owned: "batch"},
	{name: "component_codes", order: "hash", owned: "component"},
	{name: "component_tickets", order: "component, hash", owned: "component"},
	{name: "components", order: "appid", owned: "appid"},
	{name: "counters", order: "appid, counter, day", owned: "appid"},
	{name: "deliveries", order: "id", users: []userColumn{{name: "body", is: noUser}, {name: "masked_body", is: noUser},
		{name: "response", is: received}}},
	{name: "deviations", order: "account, endpoint, behaviour", owned: "account"},
	{name: "domain_reverifications", order: "owner, directory", owned: "owner"},
	{name: "domain_verifications", order: "rid", owned: "owner"},
	{name: "domains", order: "host"},
	{name: "followers", order: "account, openid", owned: "account", users: []userColumn{{name: "openid", is: openID, account: "account"}}},
	{name: "grants", order: "component, appid", owned: "component"},
	{name: "gs1_links", order: "key", owned: "owner"},
	{name: "imported_codes", order: "batch, idx", owned: "batch"},
	{name: "links", order: "service, mini_program", owned: "service", users: []userColumn{{name: "notify_users", is: noUser}}},
	{name: "login_links", keptOnReset: true}, // rows expire after ten minutes
	{name: "logins", order: "hash", owned: "appid", users: []userColumn{{name: "openid", is: openID, account: "appid"}}},
	{name: "messages", order: "id", owned: "account", stays: true, users: []userColumn{{name: "body", is: openIDText, account: "account"},
		{name: "masked_body", is: noUser}, {name: "response", is: received}}},
	{name: "meta", order: "name", // order/ACCOUNT/NAME
		owned: "REPLACE(SUBSTR(RTRIM(name, REPLACE(name, '/', '')), 7), '/', '')"},
	{name: "notifications", order: "id", owned: "account"},
	{name: "packages", order: "id", owned: "batch"},
	{name: "people", order: "name", keptOnReset: true},
	{name: "publish_counts", owned: "owner"}, // recomputed by triggers
	{name: "publishes", order: "owner, key, created_at", owned: "owner"},
	{name: "pushes", order: "id", owned: "component", users: []userColumn{{name: "masked_body", is: noUser},
		{name: "response", is: received}}},
	{name: "qrcodes", order: "code", owned: "account"},
	{name: "rate_limits"},       // rows expire within a minute
	{name: "rule_counts"},       // as publish_counts
	{name: "rule_page_buckets"}, // as publish_counts
	{name: "rules", order: "id", owned: "owner"},
	// loaded before scan_events, whose rows are written to the local scan log that scan_logs names
	{name: "scan_logs", order: "id", keptOnReset: true, users: []userColumn{{name: "sketch_offset", is: noUser}}}, // as scan_log_nodes
	{name: "scan_events", order: "seq", log: true, users: []userColumn{{name: "user_hash", is: userHash}}},
	{name: "scan_keys", order: "hash", owned: "CAST($1 AS TEXT)", keptOnReset: true},
	{name: "scan_log_erasures", order: "user_hash", users: []userColumn{{name: "user_hash", is: erasedHash}}},
	{name: "scan_log_nodes", order: "node", keptOnReset: true},                                        // a reset keeps the nodes' journals
	{name: "scan_nodes", keptOnReset: true, users: []userColumn{{name: "acked_request", is: noUser}}}, // nodes of this installation
	{name: "sealing_keys", keptOnReset: true},                                                         // exported encrypted, as keys.age
	{name: "seeds", order: "hash"},
	{name: "sequences", order: "name", keptOnReset: true, prefilled: true},
	{name: "sessions", keptOnReset: true}, // login sessions are valid only on this server
	// not exported, like the rows of table sessions
	{name: "snapshots", keptOnReset: true, users: []userColumn{{name: "data", is: saved}}},
	{name: "statistics_counts", order: "granularity, bucket, rule, tuple", log: true},
	{name: "statistics_owners", order: "number", log: true},
	{name: "statistics_state", order: "id", log: true, users: []userColumn{{name: "sketch_offset", is: noUser}}},
	{name: "statistics_sums", order: "granularity, dimension, bucket, value", log: true},
	{name: "statistics_tuples", order: "id", log: true},
	{name: "statistics_unmatched", order: "granularity, bucket, location", log: true},
	{name: "statistics_user_deltas", order: "dimension, day, value, part", log: true, users: []userColumn{{name: "sketch", is: noUser}}},
	{name: "statistics_users", order: "dimension, day, value", log: true, users: []userColumn{{name: "users", is: noUser},
		{name: "sketch", is: noUser}}},
	{name: "tickets", order: "hash", owned: "batch", users: []userColumn{{name: "app_user_id", is: openID, account: "appid"}}},
	{name: "timelines", keptOnReset: true}, // timelines of this installation's PostgreSQL servers
	// which journal offsets of this installation's nodes were delivered to webhooks; the first webhook creates the rows again
	{name: "webhook_offsets"},
	{name: "webhook_readers", order: "name"},
	{name: "webhooks", order: "id"},
}

// tableOf returns the table with the given name; false = exports contain no table with this name.
func tableOf(name string) (table, bool) {
	i := slices.IndexFunc(schema, func(t table) bool { return t.name == name })
	if i < 0 || schema[i].order == "" {
		return table{}, false
	}
	return schema[i], true
}
