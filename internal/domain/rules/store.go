package rules

import (
	"context"
	"iter"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
)

// Store is the persistence interface of Book.
type Store interface {
	// UpdateRules runs f in one transaction. It may run f again after a
	// conflict, so f must not keep state between runs.
	UpdateRules(ctx context.Context, f func(Tx) error) error
	// ChangeRules is UpdateRules for an f that locks this owner and this origin. Changes that wait
	// share one transaction where they can; a change that fails does not fail the others.
	ChangeRules(ctx context.Context, owner, origin string, f func(Tx) error) error
	// ViewRules runs f on a consistent state that f does not change.
	ViewRules(ctx context.Context, f func(Tx) error) error
	// AllRules streams every rule, oldest first.
	AllRules(ctx context.Context) iter.Seq2[Rule, error]
	// Reserve is as in accounts.Store.
	Reserve(ctx context.Context, n int) (accounts.SeqRange, error)
}

// Tx is one transaction on rules.
type Tx interface {
	// LockOwner makes other writers of the same owner's rules wait, LockOrigin
	// those of the same scheme and host. Lock the owner first.
	LockOwner(ctx context.Context, appid string) error
	LockOrigin(ctx context.Context, origin string) error
	// LockRules makes every other writer of rules wait, and waits for those that write now. It
	// comes before any other lock.
	LockRules(ctx context.Context) error

	// Account and KeepAccount are as in accounts.Tx.
	Account(ctx context.Context, appid string) (accounts.Account, error)
	KeepAccount(ctx context.Context, appid string) (accounts.Account, error)
	// Link returns accounts.ErrNoLink where there is none.
	Link(ctx context.Context, service, miniProgram string) (accounts.Link, error)
	// QRCode is as in accounts.QRCodeTx.
	QRCode(ctx context.Context, code string) (accounts.QRCode, error)

	// Rule returns the rule with a key, or ErrNoRule.
	Rule(ctx context.Context, key string) (Rule, error)
	// RulesAt returns the rules that have one of the keys, in any order.
	RulesAt(ctx context.Context, keys []string) ([]Rule, error)
	// RulesBelow returns the rules whose keys begin with a text, which ends in
	// "/", in the order of the keys.
	RulesBelow(ctx context.Context, key string, limit int) ([]Rule, error)
	// RuleIn returns an ordinary rule of an owner whose verification file must be in a
	// directory, or ErrNoRule.
	RuleIn(ctx context.Context, owner, directory string) (Rule, error)
	// List returns rules and how many there are in all.
	List(ctx context.Context, q Query) (list []Rule, total int, err error)
	// Walk looks at most at look rules of an owner ("" = of anybody) in the order of a search; next is the id to go on from, 0 = that
	// is all. Beginning returns rules whose link, with or without its scheme, or whose path begins with the part.
	Walk(ctx context.Context, s Search, owner string, look int) (list []Rule, next int64, err error)
	Beginning(ctx context.Context, s Search) ([]Rule, error)
	// Named returns the owner and the prefix of rules by their numbers, also of deleted ones.
	Named(ctx context.Context, ids []int64) ([]Named, error)
	// CountOwned counts an owner's rules, CountTargeted the service-account
	// rules that open a Mini Program.
	CountOwned(ctx context.Context, owner string) (int, error)
	CountTargeted(ctx context.Context, target string) (int, error)
	// Neighbours returns the rules under the same host and first path segment whose keys have most in
	// common with the link's under either scheme, and rules with the same path on another host: at
	// most each of them before the link and each after it in either scheme, and each on other
	// hosts.
	Neighbours(ctx context.Context, link Link, each int) ([]Rule, error)

	// AddRule stores a new rule and gives it its ID; ErrPrefixTaken if the key
	// has an owner already. The author of every change is the context's.
	AddRule(ctx context.Context, r Rule, d ChangeMeta) (Rule, error)
	// AddRules stores many new rules at once; ErrPrefixTaken if one of the keys is taken. NextChange returns the number of the next
	// change; until the commit no other transaction writes one.
	AddRules(ctx context.Context, list []Rule, d ChangeMeta) error
	NextChange(ctx context.Context) (int64, error)
	// AddApart stores many new rules as hidden rows, under numbers of Reserve; EditApart writes new versions of stored rules in the
	// same way. ShowApart shows all with the commit; LockToShow comes before it, and every number has its change by then.
	// LockToShow stores the hidden edits, and then is LockRules that waits for a second at a time and yields between its attempts,
	// so that no transaction waits long behind it. ErrPrefixTaken, also where there are more rules than numbers; accounts.ErrMoved,
	// also where there are fewer; accounts.ErrImporting.
	AddApart(ctx context.Context, list []Rule, d ChangeMeta, under accounts.SeqRange) error
	EditApart(ctx context.Context, list []Edit, d ChangeMeta, under accounts.SeqRange) error
	LockToShow(ctx context.Context) error
	ShowApart(ctx context.Context) error
	// LastChange returns the number of the last change that the transaction sees. ChangedSince lists at
	// most limit changes after a number, without those that the transaction itself stored apart.
	LastChange(ctx context.Context) (int64, error)
	ChangedSince(ctx context.Context, after int64, limit int) ([]accounts.ChangeRef, error)
	PutRule(ctx context.Context, r Rule, d ChangeMeta) error
	DeleteRule(ctx context.Context, r Rule, d ChangeMeta) error
	// Changes lists what happened to a key, newest first.
	Changes(ctx context.Context, key string, limit int) ([]Change, error)
	// RuleChange returns a change of a rule and the one of the same key before it
	// (Seq 0 = none), or ErrNoChange.
	RuleChange(ctx context.Context, seq int64) (change, before Change, err error)

	// Publishing locks an owner and the origin of a link, as LockOwner and LockOrigin do, and then
	// returns what a publish of the owner's rule at the link depends on, or ErrNoRule. Spent counts
	// the owner's publishes since a time.
	Publishing(ctx context.Context, owner string, link Link, since time.Time) (Publishing, error)
	PublishesSince(ctx context.Context, owner string, since time.Time) (int, error)
	AddPublish(ctx context.Context, owner, prefix string, at time.Time) error

	// Domain returns what the operator says of a host, or of a host above it if that status covers
	// the hosts below; "" = nothing.
	Domain(ctx context.Context, host string) (DomainStatus, error)
	Domains(ctx context.Context) ([]Domain, error)
	// DomainsAfter lists at most limit of them, those whose host comes after the given one.
	DomainsAfter(ctx context.Context, after string, limit int) ([]Domain, error)
	PutDomain(ctx context.Context, d Domain) error
	DeleteDomain(ctx context.Context, host string) error

	// AddNotice is as in accounts.NoticeTx.
	AddNotice(ctx context.Context, n accounts.Notice) error
	outbox.Adder

	PutConfirmation(ctx context.Context, c Confirmation) error
	// ForgetConfirmations removes those from before a moment.
	ForgetConfirmations(ctx context.Context, before time.Time) error
	Confirmations(ctx context.Context, q ConfirmationQuery) ([]Confirmation, error)
}

// Publishing is a rule that may be published.
type Publishing struct {
	Rule   Rule
	Target accounts.Account // zero = it is gone
	Spent  int              // publishes of the owner
}

// ChangeMeta describes a change of a rule.
type ChangeMeta struct {
	At  time.Time
	Did string // add, edit, publish, delete, release
	// Reason is the operator's reason for a release; "" for everything else.
	Reason string
}

// Change is one entry of a rule's history.
type Change struct {
	Seq int64
	accounts.Actor
	ChangeMeta
	Rule Rule // after the change; for a delete or release, before it
}

// Named is the display name of a rule that the counts identify by its number.
type Named struct {
	ID            int64
	Owner, Prefix string
	Gone          bool
}

// Query selects rules for a list.
type Query struct {
	Owner   string   // "" = all owners
	Target  string   // "" = any
	Keys    []string // nil = any
	Newest  bool     // newest first, else oldest first
	AfterID int64    // oldest first: only later rules
	Offset  int
	Limit   int
	NoTotal bool // the total is not wanted
}

// DomainStatus is the operator's decision about a host.
type DomainStatus string

const (
	// Trusted: rules on this very host need no verification file.
	Trusted DomainStatus = "trusted"
	// Denied: no rules on this host and those below it (85070).
	Denied DomainStatus = "denied"
	// NoICP: as Denied, answered as a failed ICP check (85076).
	NoICP DomainStatus = "no_icp"
)

// Domain is one entry of the operator's list of hosts.
type Domain struct {
	Host   string
	Status DomainStatus
	At     time.Time
}

// Confirmation is one check of a verification file, kept for the operator.
type Confirmation struct {
	RID    string
	At     time.Time
	Owner  string
	Prefix string
	URL    string
	OK     bool
	Reason string // one line: why it passed or failed
	Steps  []FetchStep
}

// ConfirmationQuery selects confirmations, newest first.
type ConfirmationQuery struct {
	RID           string // "" = any
	Owner         string // "" = any
	Prefix        string // as it was sent; "" = any. Without an owner every stored check is read
	Failed, Found bool   // Failed: only checks that did not find the file; Found: only those that did
	Limit         int
}
