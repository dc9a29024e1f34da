package accounts_test

import (
	"context"
	"fmt"
	"iter"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// lockCounter counts locks of single accounts and of all accounts.
type lockCounter struct {
	accounts.Store
	single, all int
}

func (l *lockCounter) UpdateAccounts(ctx context.Context, f func(accounts.Tx) error) error {
	return l.Store.UpdateAccounts(ctx, func(tx accounts.Tx) error { return f(&lockCounterTx{tx, l}) })
}

type lockCounterTx struct {
	accounts.Tx
	l *lockCounter
}

func (t *lockCounterTx) LockAccount(ctx context.Context, appid string) error {
	t.l.single++
	return t.Tx.LockAccount(ctx, appid)
}

func (t *lockCounterTx) LockAccounts(ctx context.Context) error {
	t.l.all++
	return t.Tx.LockAccounts(ctx)
}

// newPlan returns a plan of n rows.
func newPlan(n int, row func(i int) accounts.Registration) func() iter.Seq2[accounts.ImportRow, error] {
	return func() iter.Seq2[accounts.ImportRow, error] {
		return func(yield func(accounts.ImportRow, error) bool) {
			for i := range n {
				if !yield(accounts.ImportRow{Line: i + 1, Registration: row(i)}, nil) {
					return
				}
			}
		}
	}
}

// TestAccountImport_SingleLockAboveThreshold verifies that a large import takes one lock for all accounts: the lock table of PostgreSQL has
// no room for one lock per account.
func TestAccountImport_SingleLockAboveThreshold(t *testing.T) {
	for n, want := range map[int][2]int{1000: {1000, 0}, 1001: {0, 1}} {
		w := newFixture(t)
		l := &lockCounter{Store: w.Store}
		w.Store = l
		plan := newPlan(n, func(i int) accounts.Registration {
			return accounts.Registration{Account: accounts.Account{AppID: fmt.Sprint("wx", i), Kind: accounts.MiniProgram}}
		})
		for _, dry := range []bool{true, false} {
			done, err := w.Import(t.Context(), plan, dry)
			require.True(t, err == nil && done.Added == n, "Import = %v, %v, want %d added", done, err, n)
		}
		assertEqual(t, fmt.Sprintf("locks of %d lines", n), [2]int{l.single, l.all}, want)
	}
}

// TestAccountImport_SinglePass verifies that each line is read once, including its links to later lines.
func TestAccountImport_SinglePass(t *testing.T) {
	const n = 3000
	w, read := newFixture(t), 0
	plan := newPlan(n, func(i int) accounts.Registration {
		read++
		r := accounts.Registration{Account: accounts.Account{AppID: fmt.Sprint("wx", i), Kind: accounts.ServiceAccount}}
		r.Linked = []string{fmt.Sprint("wx", i+1)} // a later line
		if i%2 == 1 {
			r.Kind, r.Linked = accounts.MiniProgram, nil
		}
		return r
	})
	done, err := w.Import(t.Context(), plan, false)
	require.True(t, err == nil && done.Added == n, "Import = %v, %v, want %d added", done, err, n)
	// Import reads up to 1,001 lines twice to choose the locks.
	assert.True(t, read <= n+1001, "%d lines were read for %d, want at most 1001 more", read, n)
	links, err := w.Links(t.Context(), "wx0")
	assert.True(t, err == nil && len(links) == 1, "links of wx0 = %v, %v, want one", links, err)
}

func TestRowErrors_SingularMessage(t *testing.T) {
	faults := accounts.RowErrors{{Line: 3, Reason: "want a JSON object"}}
	assert.Equal(t, faults.Error(), "line 3 cannot be loaded: want a JSON object", "one line")
	faults = append(faults, accounts.RowError{Line: 9, Reason: "no appid"})
	assert.Equal(t, faults.Error(), "2 lines cannot be loaded, the first is line 3: want a JSON object", "two lines")
}
