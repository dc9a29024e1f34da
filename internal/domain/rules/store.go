package rules

import (
	"context"
	"iter"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
)

// Store is the persistence interface of Service.
type Store interface {
	// UpdateRules runs f in one transaction. UpdateRules may run f again after a conflict, so f must not keep state between runs.
	UpdateRules(ctx context.Context, f func(Tx) error) error
	// ChangeRules is like UpdateRules, for a function f that locks only the given owner and origin. Several waiting calls may share one
	// transaction; if f of one call fails, the other calls are not affected.
	ChangeRules(ctx context.Context, owner, origin string, f func(Tx) error) error
	// ViewRules runs the read-only function f on a consistent snapshot.
	ViewRules(ctx context.Context, f func(Tx) error) error
	// AllRules streams every rule, oldest first.
	AllRules(ctx context.Context) iter.Seq2[Rule, error]
	// Reserve reserves n change numbers, as described in accounts.Store.
	Reserve(ctx context.Context, n int) (accounts.SeqRange, error)
}

// Tx is one database transaction on rules.
type Tx interface {
	// LockOwner blocks other writers of the same owner's rules; LockOrigin blocks other writers of rules with the same scheme and
	// host. The owner must be locked before the origin.
	LockOwner(ctx context.Context, appid string) error
	LockOrigin(ctx context.Context, origin string) error
	// LockRules blocks all other writers of rules, after waiting for the active writers to finish. LockRules must be called before
	// any other lock.
	LockRules(ctx context.Context) error

	// Account and KeepAccount are described in accounts.Tx.
	Account(ctx context.Context, appid string) (accounts.Account, error)
	KeepAccount(ctx context.Context, appid string) (accounts.Account, error)
	// Link returns the link between a service account and a Mini Program, or accounts.ErrNoLink if the two accounts have none.
	Link(ctx context.Context, service, miniProgram string) (accounts.Link, error)
	// QRCode is described in accounts.QRCodeTx.
	QRCode(ctx context.Context, code string) (accounts.QRCode, error)

	// Rule returns the rule with a key, or ErrNoRule.
	Rule(ctx context.Context, key string) (Rule, error)
	// Prefetch runs f, in which every call of a Tx method is a read, and fetches the results of all these reads in one round trip.
	// The calls in f return zero values; their results are returned when the same calls are made after Prefetch.
	Prefetch(ctx context.Context, f func()) error
	// RulesAt returns the rules that have one of the keys, in any order.
	RulesAt(ctx context.Context, keys []string) ([]Rule, error)
	// RulesBelow returns the rules whose keys begin with a text that ends in "/", ordered by key.
	RulesBelow(ctx context.Context, key string, limit int) ([]Rule, error)
	// RuleIn returns an ordinary rule of an owner whose verification file belongs in a directory, or ErrNoRule.
	RuleIn(ctx context.Context, owner, directory string) (Rule, error)
	// List returns rules and the total number of matching rules.
	List(ctx context.Context, q Query) (list []Rule, total int, err error)
	// Listing returns the results of List for an owner's rules and of PublishesSince, in one round trip.
	Listing(ctx context.Context, q Query, since time.Time) (found []Rule, total, spent int, err error)
	// Walk examines at most "look" rules of an owner ("" = all owners) in the order of a search; next is the ID to continue from, 0 = end
	// of the list. Beginning returns the rules whose path, or whose link with or without its scheme, begins with the searched text.
	Walk(ctx context.Context, s Search, owner string, look int) (list []Rule, next int64, err error)
	Beginning(ctx context.Context, s Search) ([]Rule, error)
	// Named returns the owners and prefixes of rules by their IDs, including deleted rules.
	Named(ctx context.Context, ids []int64) ([]Named, error)
	// CountOwned counts an owner's rules; CountTargeted counts the service-account rules that open a Mini Program.
	CountOwned(ctx context.Context, owner string) (int, error)
	CountTargeted(ctx context.Context, target string) (int, error)
	// NearestRules returns five lists of at most "each" rules, joined into one list. Four lists have the rules with the link's host and
	// first path segment whose keys are closest to the link's key: before and after it, for http and for https. The fifth list has rules
	// with the link's path on other hosts.
	NearestRules(ctx context.Context, link Link, each int) ([]Rule, error)

	// AddRule stores a new rule and assigns its ID; ErrPrefixTaken if another rule already has the key. The author of every change
	// is taken from the context.
	AddRule(ctx context.Context, r Rule, d ChangeMeta) (Rule, error)
	// AddRules stores many new rules at once; ErrPrefixTaken if another rule already has one of the keys. NextChange returns the number of
	// the next change, and blocks changes by other transactions until this transaction commits.
	AddRules(ctx context.Context, list []Rule, d ChangeMeta) error
	NextChange(ctx context.Context) (int64, error)
	// AddHidden stores many new rules as hidden rows, under reserved change numbers; EditHidden stores new versions of existing rules in
	// the same way. ShowHidden makes all hidden rows visible when the transaction commits. LockForShow must be called before ShowHidden,
	// and after a change was stored under every reserved number. LockForShow stores the hidden edits and then locks like LockRules, but
	// waits for at most a second at a time and yields between attempts, so that other transactions do not queue behind LockForShow for
	// long. The errors are ErrPrefixTaken (also if there are more rules than reserved numbers), accounts.ErrConflict (also if there are
	// fewer rules than reserved numbers) and accounts.ErrImporting.
	AddHidden(ctx context.Context, list []Rule, d ChangeMeta, under accounts.SeqRange) error
	EditHidden(ctx context.Context, list []Edit, d ChangeMeta, under accounts.SeqRange) error
	LockForShow(ctx context.Context) error
	ShowHidden(ctx context.Context) error
	// LastChange returns the number of the last change that the transaction sees. ChangedSince lists at most limit changes after a number,
	// except the transaction's own hidden changes.
	LastChange(ctx context.Context) (int64, error)
	ChangedSince(ctx context.Context, after int64, limit int) ([]accounts.ChangeRef, error)
	PutRule(ctx context.Context, r Rule, d ChangeMeta) error
	DeleteRule(ctx context.Context, r Rule, d ChangeMeta) error
	// Changes lists the changes of a key, newest first.
	Changes(ctx context.Context, key string, limit int) ([]Change, error)
	// RuleChange returns a change of a rule and the previous change of the same key (Seq 0 = none), or ErrNoChange.
	RuleChange(ctx context.Context, seq int64) (change, before Change, err error)

	// Publishing locks an owner and the origin of a link, like LockOwner and LockOrigin, and returns the data needed to publish the
	// owner's rule for the link, or ErrNoRule. Spent is the number of the owner's publishes since a time.
	Publishing(ctx context.Context, owner string, link Link, since time.Time) (Publishing, error)
	PublishesSince(ctx context.Context, owner string, since time.Time) (int, error)
	AddPublish(ctx context.Context, owner, prefix string, at time.Time) error

	// Domain returns the operator's status of a host, or of a parent domain if that status covers subdomains; "" = no status.
	Domain(ctx context.Context, host string) (DomainStatus, error)
	// Domains lists, in order, at most limit hosts with a status (0 = all), beginning after a given host.
	Domains(ctx context.Context, after string, limit int) ([]Domain, error)
	PutDomain(ctx context.Context, d Domain) error
	DeleteDomain(ctx context.Context, host string) error

	// AddNotice is described in accounts.NoticeTx.
	AddNotice(ctx context.Context, n accounts.Notice) error
	outbox.Adder

	PutConfirmation(ctx context.Context, c Confirmation) error
	// ForgetConfirmations deletes the confirmations from before a time.
	ForgetConfirmations(ctx context.Context, before time.Time) error
	Confirmations(ctx context.Context, q VerificationQuery) ([]Confirmation, error)
}

// Publishing holds a rule and the data needed to publish it.
type Publishing struct {
	Rule   Rule
	Target accounts.Account // zero = the account was deleted
	Spent  int              // number of publishes of the owner
}

// ChangeMeta describes a change of a rule.
type ChangeMeta struct {
	At     time.Time
	Action string // one of add, edit, publish, delete and release
	// Reason is the operator's reason for a release; "" for all other changes.
	Reason string
}

// Change is one entry in the history of a rule.
type Change struct {
	Seq int64
	accounts.Actor
	ChangeMeta
	Rule Rule // the rule after the change; for a delete or release, the rule before it
}

// Named is the owner and prefix of a rule. It is used to display counts, which contain only the ID of a rule.
type Named struct {
	ID            int64
	Owner, Prefix string
	Deleted       bool
}

// Query selects rules for a list.
type Query struct {
	Owner   string   // "" = all owners
	Target  string   // "" = any
	Keys    []string // nil = any
	Newest  bool     // true = newest first, false = oldest first
	AfterID int64    // only rules with an ID above AfterID; used only if Newest = false
	Offset  int
	Limit   int
	NoTotal bool // do not compute the total
}

// DomainStatus is the operator's decision about a host.
type DomainStatus string

const (
	// Trusted means that rules on exactly this host need no verification file.
	Trusted DomainStatus = "trusted"
	// Denied means that no rules are allowed on this host and its subdomains (85070).
	Denied DomainStatus = "denied"
	// NoICP is like Denied, but is reported as a failed ICP check (85076).
	NoICP DomainStatus = "no_icp"
)

// Domain is one entry of the operator's list of hosts.
type Domain struct {
	Host   string
	Status DomainStatus
	At     time.Time
}

// Confirmation is one check of a verification file, stored for the operator.
type Confirmation struct {
	RID    string
	At     time.Time
	Owner  string
	Prefix string
	URL    string
	OK     bool
	Reason string // reason for success or failure, in one line
	Steps  []FetchStep
}

// VerificationQuery selects confirmations, newest first.
type VerificationQuery struct {
	RID    string // "" = any
	Owner  string // "" = any
	Prefix string // the prefix as the client sent it; "" = any. If Owner is "", all stored checks are searched
	// Failed selects only failed checks, and Found only successful checks.
	Failed, Found bool
	Limit         int
}
