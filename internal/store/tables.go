package store

import (
	"slices"
	"strings"
)

// table describes a table for an export, an import, the emulator's reset and the erasure of a user. The handbooks,
// docs/en/handbook.md and its Chinese, show the list.
type table struct {
	name string
	// order are columns that give its rows a definite order in an export; "" = no export has it.
	order string
	// kept says that a reset of the emulator leaves it as it is. Other tables are emptied.
	kept bool
	// begun says that a new database has rows in it, which those of an import replace.
	begun bool
	// log says that its rows tell what happened: a snapshot of the emulator leaves them out.
	log bool
	// users are the columns that can say something of a user.
	users []userColumn
}

// userColumn is a column that can say something of a user.
type userColumn struct {
	name string
	is   erasureAction
	// account is the column with the account whose openid it is.
	account string
}

// erasureAction is the kind of a column's content, and the effect of an erasure on it.
type erasureAction string

const (
	openID     erasureAction = "an openid: the row is removed"
	openIDText erasureAction = "a text with an openid: the row is removed"
	userHash   erasureAction = "the user's hash: emptied"
	erasedHash erasureAction = "the hash of an erased user, so that scans that come later are made anonymous"
	noUser     erasureAction = "no user: a number, a flag, a sketch, a scan without its user"
	testers    erasureAction = "people of the account"
	saved      erasureAction = "what was saved: delete the snapshot, or erase again after a load"
	aged       erasureAction = "texts of calls: removed after their seven days"
)

// schema is every table except goose's own, in the order of an export.
var schema = []table{
	{name: "access_tokens", order: "hash"},
	{name: "accounts", order: "appid", users: []userColumn{{name: "members", is: testers}}},
	{name: "admin_keys", order: "id", kept: true},
	{name: "alarm_thresholds", order: "batch"},
	{name: "alarms", order: "id"},
	{name: "appearances", order: "appid"},
	{name: "batches", order: "id"},
	{name: "call_blocks", order: "seq", log: true, users: []userColumn{{name: "text", is: aged}}},
	{name: "change_head", order: "id", kept: true, begun: true}, // numbers go on, so followers of the log see that all is new
	{name: "changes", order: "seq", log: true},
	{name: "code_counts", order: "batch, idx", log: true, users: []userColumn{{name: "users", is: noUser}, {name: "state", is: noUser},
		{name: "since", is: noUser}}},
	{name: "code_events", order: "seq"},
	{name: "code_scans", order: "batch, idx", log: true, users: []userColumn{{name: "first_user", is: userHash}}},
	{name: "code_serials", order: "batch, idx"},
	{name: "component_codes", order: "hash"},
	{name: "component_tickets", order: "component, hash"},
	{name: "components", order: "appid"},
	{name: "confirmations", order: "rid"},
	{name: "counters", order: "appid, what, day"},
	{name: "deliveries", order: "id", users: []userColumn{{name: "body", is: noUser}}},
	{name: "deviations", order: "account, endpoint, behaviour"},
	{name: "domains", order: "host"},
	{name: "followers", order: "account, openid", users: []userColumn{{name: "openid", is: openID, account: "account"}}},
	{name: "grants", order: "component, appid"},
	{name: "gs1_links", order: "key"},
	{name: "imported_codes", order: "batch, idx"},
	{name: "ledger_erasures", order: "user_hash", users: []userColumn{{name: "user_hash", is: erasedHash}}},
	{name: "ledger_nodes", order: "node", kept: true}, // what a journal holds of before a reset must not be counted again
	{name: "ledgers", order: "id", kept: true},        // as ledger_nodes
	{name: "limits"}, // is worth nothing after a second
	{name: "links", order: "service, mini_program", users: []userColumn{{name: "notify_users", is: noUser}}},
	{name: "login_links", kept: true}, // is worth nothing after ten minutes
	{name: "logins", order: "hash", users: []userColumn{{name: "openid", is: openID, account: "appid"}}},
	{name: "messages", order: "id", users: []userColumn{{name: "body", is: openIDText, account: "account"}}},
	{name: "meta", order: "name"},
	{name: "notices", order: "id"},
	{name: "packages", order: "id"},
	{name: "people", order: "name", kept: true},
	{name: "publish_counts"}, // made anew by what counts them
	{name: "publishes", order: "owner, key, at"},
	{name: "pushes", order: "id"},
	{name: "qrcodes", order: "code"},
	{name: "rechecks", order: "owner, directory"},
	{name: "rule_counts"}, // as publish_counts
	{name: "rule_pieces"}, // as publish_counts
	{name: "rules", order: "id"},
	{name: "scan_events", order: "seq", log: true, users: []userColumn{{name: "user_hash", is: userHash}}},
	{name: "scan_keys", order: "hash", kept: true},
	{name: "scan_nodes", kept: true},   // of these nodes alone
	{name: "scan_origins", kept: true}, // of these nodes alone
	{name: "scan_told"},                // as scan_origins, and begun anew with the first webhook
	{name: "seeds", order: "hash"},
	{name: "sequences", order: "name", kept: true, begun: true},
	{name: "sessions", kept: true}, // of this server: sessions there are not valid here
	// As sessions.
	{name: "snapshots", kept: true, users: []userColumn{{name: "data", is: saved}}},
	{name: "statistics_counts", order: "per, at, rule, tuple", log: true},
	{name: "statistics_misses", order: "hour, place", log: true},
	{name: "statistics_owners", order: "number", log: true},
	{name: "statistics_state", order: "id", log: true, users: []userColumn{{name: "users_position", is: noUser}}},
	{name: "statistics_sums", order: "per, dim, at, value", log: true},
	{name: "statistics_tuples", order: "id", log: true},
	{name: "statistics_users", order: "dim, day, value", log: true, users: []userColumn{{name: "users", is: noUser},
		{name: "sketch", is: noUser}}},
	{name: "statistics_users_since", order: "dim, day, value, part", log: true, users: []userColumn{{name: "sketch", is: noUser}}},
	{name: "tickets", order: "hash", users: []userColumn{{name: "app_user_id", is: openID, account: "appid"}}},
	{name: "timelines", kept: true},  // of this system of PostgreSQL alone
	{name: "vault_keys", kept: true}, // an export keeps them under its passphrase
	{name: "webhook_readers", order: "name"},
	{name: "webhooks", order: "id"},
}

// tableOf finds a table; false = there is none of that name in an export.
func tableOf(name string) (table, bool) {
	i, found := slices.BinarySearchFunc(schema, name, func(t table, name string) int { return strings.Compare(t.name, name) })
	if !found || schema[i].order == "" {
		return table{}, false
	}
	return schema[i], true
}
