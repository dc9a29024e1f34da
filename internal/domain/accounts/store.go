package accounts

import (
	"context"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/outbox"
)

// Store is the persistence interface of Service.
type Store interface {
	// UpdateAccounts runs f in one transaction. It may run f again after a
	// conflict, so f must not keep state between runs.
	UpdateAccounts(ctx context.Context, f func(Tx) error) error
	// ViewAccounts runs f on a consistent state that f does not change.
	ViewAccounts(ctx context.Context, f func(Tx) error) error
	// Reserve gives out n numbers for changes that are written apart. None where the store
	// has one writer. ErrImporting.
	Reserve(ctx context.Context, n int) (SeqRange, error)
}

// SeqRange is a range of reserved numbers of the log of changes, for a bulk import: its rows are hidden, and readers do not wait
// for them, until they are published. Decision 55.
type SeqRange struct {
	First, Last int64  // 0 = none
	Hash        string // of the entry before the first
}

// ChangeRef says which rule or account a change concerned, for an import that may depend on it.
type ChangeRef struct {
	Seq      int64
	Rule     string // its key; "" = it is no rule
	Occupies bool
	Account  string // the AppID, also of a platform, or of a linked service account
	All      bool   // it may be anything
}

// Tx is one transaction on accounts.
type Tx interface {
	// LockAccount makes other writers that lock the same AppID wait.
	LockAccount(ctx context.Context, appid string) error
	// LockAccounts is LockAccount of every account at once. It is the first call of its
	// transaction.
	LockAccounts(ctx context.Context) error
	// DisableTimeout returns the first call of a transaction that hands out rows while it reads: it may stand
	// still for minutes, and is never run again.
	DisableTimeout(ctx context.Context) error
	// Account returns ErrNoAccount where there is none.
	Account(ctx context.Context, appid string) (Account, error)
	// KeepAccount is Account, and makes a deletion of the account wait until the transaction ends. It comes after the locks of
	// owners and before the head of the log of changes.
	KeepAccount(ctx context.Context, appid string) (Account, error)
	// Accounts lists by AppID, the first after the given one, at most limit.
	Accounts(ctx context.Context, after string, limit int) ([]Account, error)
	// AccountsAt returns those of the AppIDs' accounts that exist, in no order.
	AccountsAt(ctx context.Context, appids []string) ([]Account, error)
	PutAccount(ctx context.Context, a Account) error
	// AddAccounts is PutAccount of accounts that did not exist; ErrMoved if one of them does.
	AddAccounts(ctx context.Context, all []Account) error
	// NotedApart writes the changes that were noted so far, under numbers of Reserve. ShowApart
	// lets everybody see them when the transaction commits: all numbers are used by then.
	// LockAccountsToShow comes before it. That is LockAccounts, but it waits in no line: it tries
	// again until it has the lock. ErrMoved, ErrImporting.
	NotedApart(ctx context.Context, under SeqRange) error
	LockAccountsToShow(ctx context.Context) error
	ShowApart(ctx context.Context) error
	// NextChange returns the number of the next change; until the commit no other transaction writes one. LastChange and
	// ChangedSince are as in rules.Tx.
	NextChange(ctx context.Context) (int64, error)
	LastChange(ctx context.Context) (int64, error)
	ChangedSince(ctx context.Context, after int64, limit int) ([]ChangeRef, error)
	// DeleteAccount removes the account with its members, links and tokens.
	DeleteAccount(ctx context.Context, appid string) error
	// LockBelongings makes changes of the account's rules, changes of all GS1 keys and calls of KeepAccount wait. Belongings are
	// then what an account has.
	LockBelongings(ctx context.Context, appid string) error
	// Join returns a context with which calls of the same store are a part of this transaction.
	Join(ctx context.Context) context.Context
	Belongings(ctx context.Context, appid string, now time.Time) (Dependencies, error)

	LinkTx
	QRCodeTx
	MessageTx
	NoticeTx
	ComponentTx
	outbox.Tx // pushes and messages

	// Component returns ErrNoComponent where there is none.
	Component(ctx context.Context, appid string) (Component, error)
	PutComponent(ctx context.Context, c Component) error

	// Token returns ErrNoToken where there is none.
	Token(ctx context.Context, hash string) (Token, error)
	// Bearer is Token with its account, in one query; ErrNoToken also for the tokens of platforms.
	// It may see a later state than other calls of the transaction do.
	Bearer(ctx context.Context, hash string) (Token, Account, error)
	// LatestToken returns the newest token of a series, or ErrNoToken.
	LatestToken(ctx context.Context, appid string, series TokenKind) (Token, error)
	PutToken(ctx context.Context, t Token) error
	// CutTokens makes every token of the series stop at the moment at, unless it stops before.
	CutTokens(ctx context.Context, appid string, series TokenKind, at time.Time) error
	// EndTokens makes every token of an account stop at the moment at, also those with which
	// platforms call for it.
	EndTokens(ctx context.Context, appid string, at time.Time) error
	// ForgetTokens removes the tokens of an account that expired before a time.
	ForgetTokens(ctx context.Context, appid string, before time.Time) error

	// Count returns how often something was counted on a day.
	Count(ctx context.Context, appid, what string, day int64) (int, error)
	// AddCount counts once more and returns the new number.
	AddCount(ctx context.Context, appid, what string, day int64) (int, error)
}
