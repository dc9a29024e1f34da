// Package auditlog stores and verifies the audit log and reconstructs past states, such as the page that a link opened at a past
// time.
package auditlog

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Kinds lists the kinds of changed objects, in display order. The names of kinds are stored and must never change.
var Kinds = []string{"rule", "account", "appearance", "link", "tokens", "component", "grant", "domain", "qrcode", "batch", "codes",
	"serials", "package", "gs1", "scan_key", "webhook", "alarm", "scans", "person", "admin_key", "meta", "seed", "export", "drill", "keys",
	"reset", "emptied", "chain", "numbers", "import"}

// Entry is one entry of the audit log.
type Entry struct {
	Seq        int64           `json:"seq"`
	OccurredAt time.Time       `json:"occurred_at"`
	Kind       string          `json:"kind" doc:"what changed: rule, account, appearance, link, tokens, component, grant, domain, qrcode, batch, codes, serials, package, gs1 (links of a GS1 key), scan_key, webhook, alarm, scans (an erasure), person, admin_key, meta (settings and clock), seed, export, drill, keys, reset, emptied (an account that was reset), chain, numbers (given out for an import), import (shows the rules that were written under numbers before its own), or what a later version adds"`
	Key        string          `json:"key" doc:"which one: a key, an AppID, two of them, a number"`
	Actor      string          `json:"actor" doc:"an AppID, admin, seed, server, person:NAME or key:NAME"`
	Via        string          `json:"via,omitempty" doc:"the third-party platform that called for the actor"`
	RID        string          `json:"rid,omitempty" doc:"the request id of the call"`
	Action     string          `json:"action"`
	Detail     json.RawMessage `json:"detail" doc:"what it was changed to, never with a secret"`
	Hash       string          `json:"hash" doc:"keyed, of this change and the hash before it"`
}

// Query selects entries.
type Query struct {
	After  int64  // only later entries, oldest first
	Before int64  // only earlier entries, newest first; 0 = all
	Newest bool   // newest first
	Kind   string // "" = any
	Key    string // "" = any; requires Kind
	Actor  string // "" = any
	Limit  int
}

// Checked is the result of verifying the audit log.
type Checked struct {
	Changes int64  `json:"changes" doc:"how many were verified"`
	First   int64  `json:"first" doc:"number of the first; 0 = there is none"`
	Seq     int64  `json:"seq" doc:"number of the last"`
	Hash    string `json:"hash" doc:"of the last: noted elsewhere, it proves later that nothing before it was altered"`
	Fault   *Fault `json:"fault,omitempty" doc:"left out: everything fits"`
	// Orphans are not part of the audit log: they belong to the currently stored state.
	Orphans []Orphan `json:"orphans" doc:"what belongs to accounts that do not exist, at most 1000; empty: nothing does"`
}

// Orphan is a group of objects whose account does not exist; orphans still reserve the account's prefixes and codes.
type Orphan struct {
	Account string `json:"account"`
	Kind    string `json:"kind" doc:"rules, rules_that_open_it, links, gs1_keys, applications or active_codes"`
	Count   int    `json:"count"`
}

// Fault is the first inconsistency that the verification found.
type Fault struct {
	Seq  int64  `json:"seq,omitempty" doc:"the change that does not fit; left out: see what"`
	Text string `json:"error"`
}

func (f Fault) Error() string {
	if f.Seq == 0 {
		return f.Text
	}
	return fmt.Sprintf("change %d: %s", f.Seq, f.Text)
}

// Name identifies an object whose changes are logged.
type Name struct{ Kind, Key string }

// AsOf is the state of an account at a past time.
type AsOf struct {
	Account accounts.Account // without its secrets
	Known   bool             // it existed
	Seq     int64            // number of the change that led to this state; 0 = no change is logged
}

// Store is the persistence interface of the audit log.
type Store interface {
	Entries(ctx context.Context, q Query) ([]Entry, error)
	// Note adds an entry for an action that changes no stored object, such as an export. The detail must not contain secrets.
	Note(ctx context.Context, kind, key, did string, detail any) error
	// VerifyChanges reads the whole audit log; a Fault is part of the result, not an error.
	VerifyChanges(ctx context.Context) (Checked, error)
	// Orphans lists rules, links, GS1 keys and applications whose account does not exist, and the active codes (given in active by
	// the Mini Program that they open) whose Mini Program does not exist.
	Orphans(ctx context.Context, active map[string]int) ([]Orphan, error)
	// RulesThen returns the last change of each key up to a point in time.
	RulesThen(ctx context.Context, keys []string, at time.Time) ([]rules.Change, error)
	// AccountThen returns an account at a point in time; LinkedThen does the same for a link.
	AccountThen(ctx context.Context, appid string, at time.Time) (AsOf, error)
	LinkedThen(ctx context.Context, service, miniProgram string, at time.Time) (bool, error)
	// ChangesAfter lists at most limit changes of the named objects after a point in time, oldest first.
	ChangesAfter(ctx context.Context, of []Name, at time.Time, limit int) ([]Entry, error)
}
