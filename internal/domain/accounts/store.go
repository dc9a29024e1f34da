package accounts

import (
	"context"
	"errors"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/outbox"
)

// Store is the persistence interface of Service.
type Store interface {
	// UpdateAccounts runs f in one transaction. UpdateAccounts may run f again after a conflict, so f must not keep state between runs.
	UpdateAccounts(ctx context.Context, f func(Tx) error) error
	// ViewAccounts runs f on a consistent snapshot; f must not write.
	ViewAccounts(ctx context.Context, f func(Tx) error) error
	// Reserve reserves n change numbers for changes that a bulk import writes as hidden rows. Reserve returns the zero SeqRange if
	// the store has a single writer. ErrImporting.
	Reserve(ctx context.Context, n int) (SeqRange, error)
}

// SeqRange is a range of change log numbers that is reserved for a bulk import. The imported rows stay hidden until ShowHidden, and readers
// do not wait for them. Decision 55.
type SeqRange struct {
	First, Last int64  // 0 = none
	Hash        string // hash of the change log entry before number First
}

// ChangeRef identifies the rule or account that a change concerned, so that an import can detect changes of data that it depends on.
type ChangeRef struct {
	Seq      int64
	Rule     string // key of the rule; "" = the change concerned no rule
	Occupies bool
	Account  string // AppID of an account, a component or a linked service account
	All      bool   // the change may concern any object
}

// Tx is one transaction on accounts.
type Tx interface {
	// LockAccount blocks other transactions that lock the same AppID.
	LockAccount(ctx context.Context, appid string) error
	// LockAccounts locks all accounts at once. LockAccounts must be the first call in its transaction.
	LockAccounts(ctx context.Context) error
	// DisableTimeout must be the first call of a transaction that streams rows to a reader: such a transaction may pause for
	// minutes and is never retried.
	DisableTimeout(ctx context.Context) error
	// Account returns the account with the AppID, or ErrNoAccount.
	Account(ctx context.Context, appid string) (Account, error)
	// KeepAccount returns an account like Account, and also blocks a deletion of the account until the transaction ends. A transaction must
	// call KeepAccount after it locked the owners of rules and before it calls NextChange.
	KeepAccount(ctx context.Context, appid string) (Account, error)
	// Accounts lists at most limit accounts, sorted by AppID, starting after the given AppID.
	Accounts(ctx context.Context, after string, limit int) ([]Account, error)
	// AccountsAt returns the existing accounts among appids, in any order.
	AccountsAt(ctx context.Context, appids []string) ([]Account, error)
	PutAccount(ctx context.Context, a Account) error
	// AddAccounts stores new accounts; it returns ErrConflict if any of the accounts exists.
	AddAccounts(ctx context.Context, all []Account) error
	// RecordHidden writes the changes collected so far as hidden rows, with numbers from Reserve. ShowHidden makes the hidden rows
	// visible when the transaction commits; all reserved numbers must be used by then. LockAccountsForShow must be called before
	// ShowHidden. LockAccountsForShow locks all accounts like LockAccounts, but polls for the lock instead of waiting in the lock
	// queue. ErrMoved, ErrImporting.
	RecordHidden(ctx context.Context, under SeqRange) error
	LockAccountsForShow(ctx context.Context) error
	ShowHidden(ctx context.Context) error
	// NextChange returns the number of the next change; other transactions cannot append changes until this transaction ends.
	// LastChange and ChangedSince have the same meaning as in rules.Tx.
	NextChange(ctx context.Context) (int64, error)
	LastChange(ctx context.Context) (int64, error)
	ChangedSince(ctx context.Context, after int64, limit int) ([]ChangeRef, error)
	// DeleteAccount deletes the account with its members, links and tokens.
	DeleteAccount(ctx context.Context, appid string) error
	// LockOwnedObjects blocks changes of the account's rules, changes of all GS1 keys and calls of KeepAccount. OwnedObjects returns the
	// objects of the account; it must be called after LockOwnedObjects.
	LockOwnedObjects(ctx context.Context, appid string) error
	OwnedObjects(ctx context.Context, appid string, now time.Time) (Dependencies, error)

	LinkTx
	QRCodeTx
	MessageTx
	NoticeTx
	ComponentTx
	outbox.Tx // pushes and messages

	// Component returns the component with the AppID, or ErrNoComponent.
	Component(ctx context.Context, appid string) (Component, error)
	PutComponent(ctx context.Context, c Component) error

	// Token returns the token with the hash, or ErrNoToken.
	Token(ctx context.Context, hash string) (Token, error)
	// Bearer returns a token and its account in one query; it returns ErrNoToken for tokens of components too. Bearer may see a later state
	// than other calls of its transaction. If appid is not "", Bearer also counts a call of the account in the same round trip. To count a
	// call, Bearer needs a shared store (PostgreSQL) and must be the first call in its transaction.
	Bearer(ctx context.Context, hash, appid string, rate *Rate) (Token, Account, error)
	// LatestToken returns the newest of an account's tokens of one kind, or ErrNoToken.
	LatestToken(ctx context.Context, appid string, series TokenKind) (Token, error)
	PutToken(ctx context.Context, t Token) error
	// ShortenTokens makes the tokens that t replaces end at the time "at": the tokens of the same account, kind and component. A token that
	// has expired when t is issued, or ends earlier, stays unchanged.
	ShortenTokens(ctx context.Context, t Token, at time.Time) error
	// ExpireTokens makes every valid token of an account end at the time "at", including those with which components call on its behalf.
	ExpireTokens(ctx context.Context, appid string, at time.Time) error
	// ForgetTokens deletes the tokens of an account that expired before the given time.
	ForgetTokens(ctx context.Context, appid string, before time.Time) error

	// Count returns the value of a daily counter of an account.
	Count(ctx context.Context, appid, what string, day int64) (int, error)
	// AddCount increments a daily counter of an account and returns the new value.
	AddCount(ctx context.Context, appid, what string, day int64) (int, error)
	// LockAndCount does the same as LockAccount, Account and AddCount, in one round trip.
	LockAndCount(ctx context.Context, appid, what string, day int64) (Account, int, error)
	// Prefetch is described in rules.Tx.
	Prefetch(ctx context.Context, f func()) error
	// MarkIdempotent declares that the transaction may run again, even if its first commit may have succeeded.
	MarkIdempotent()
}

// Transactions begins transactions with the queries Tx of a domain.
type Transactions[Tx any] interface {
	// Update runs f in one transaction. Update may run f again after a conflict, so f must not keep state between runs.
	Update(ctx context.Context, f func(Tx) error) error
	// View runs f on a consistent snapshot; f must not write.
	View(ctx context.Context, f func(Tx) error) error
}

// Transact returns the result of f, which it runs in a transaction; begin is the method of a store that begins the transaction.
func Transact[Tx, T any](ctx context.Context, begin func(context.Context, func(Tx) error) error, f func(Tx) (T, error)) (T, error) {
	var result T
	err := begin(ctx, func(tx Tx) (err error) {
		result, err = f(tx)
		return err
	})
	return result, err
}

// Errors that the store returns to this package; clients of the platform API never see their text.
var (
	ErrNoGrant  = errors.New("accounts: no such authorisation")
	ErrNoTicket = errors.New("accounts: no such verify ticket")
	ErrNoCode   = errors.New("accounts: no such code")
)

// ComponentTx is the part of a transaction that stores components (third-party platforms).
type ComponentTx interface {
	// ComponentWithoutGrants returns a component without its grants, because a component can have very many grants.
	ComponentWithoutGrants(ctx context.Context, appid string) (Component, error)
	// PutComponentWithoutGrants stores a component and leaves its grants unchanged.
	PutComponentWithoutGrants(ctx context.Context, c Component) error
	// DeleteComponent deletes a component with its grants, tokens, tickets, codes and pushes.
	DeleteComponent(ctx context.Context, appid string) error
	// ComponentsAt returns the subset of appids that belong to components.
	ComponentsAt(ctx context.Context, appids []string) ([]string, error)
	// Components lists components without grants, sorted by AppID, starting after the given AppID.
	Components(ctx context.Context, after string, limit int) ([]Component, error)

	// Grant returns the grant of an account to a component, or ErrNoGrant.
	Grant(ctx context.Context, component, appid string) (Grant, error)
	// Grants lists the grants of a component in the order in which they were granted.
	Grants(ctx context.Context, component string, offset, limit int) ([]Grant, error)
	CountGrants(ctx context.Context, component string) (int, error)
	// Holders lists the components to which an account has granted permissions.
	Holders(ctx context.Context, appid string) ([]GrantedComponent, error)
	PutGrant(ctx context.Context, component string, g Grant) error
	DeleteGrant(ctx context.Context, component, appid string) error

	// VerifyTicket returns the verify ticket with the given hash, or ErrNoTicket.
	VerifyTicket(ctx context.Context, component, hash string) (VerifyTicket, error)
	PutVerifyTicket(ctx context.Context, t VerifyTicket) error
	// LatestVerifyTicket returns the issue time of the component's newest verify ticket; zero = the component has none.
	LatestVerifyTicket(ctx context.Context, component string) (time.Time, error)
	ForgetVerifyTickets(ctx context.Context, component string, before time.Time) error
	// TicketsDue lists components that have an event URL but no verify ticket issued in the period from "after" (exclusive) to "until".
	TicketsDue(ctx context.Context, after, until time.Time, limit int) ([]string, error)

	// GrantCode returns the code with the given hash, or ErrNoCode.
	GrantCode(ctx context.Context, hash string) (GrantCode, error)
	PutGrantCode(ctx context.Context, c GrantCode) error
	// ForgetGrantCodes deletes codes that expired before the given time.
	ForgetGrantCodes(ctx context.Context, before time.Time) error

	// ForgetPushes deletes the finished pushes of a component except the newest; the parameter "keep" is the number that stays.
	ForgetPushes(ctx context.Context, component string, keep int) error
}
