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

// locking counts how accounts are locked.
type locking struct {
	accounts.Store
	single, all int
}

func (l *locking) UpdateAccounts(ctx context.Context, f func(accounts.Tx) error) error {
	return l.Store.UpdateAccounts(ctx, func(tx accounts.Tx) error { return f(&lockingTx{tx, l}) })
}

type lockingTx struct {
	accounts.Tx
	l *locking
}

func (t *lockingTx) LockAccount(ctx context.Context, appid string) error {
	t.l.single++
	return t.Tx.LockAccount(ctx, appid)
}

func (t *lockingTx) LockAccounts(ctx context.Context) error {
	t.l.all++
	return t.Tx.LockAccounts(ctx)
}

// A lock for each of many accounts is more than PostgreSQL has room for.
func TestAccountImport_SingleLockAboveThreshold(t *testing.T) {
	for n, wanted := range map[int][2]int{1000: {1000, 0}, 1001: {0, 1}} {
		w := newWorld(t)
		l := &locking{Store: w.Store}
		w.Store = l
		plan := func() iter.Seq2[accounts.ImportRow, error] {
			return func(yield func(accounts.ImportRow, error) bool) {
				for i := range n {
					r := accounts.Registration{Account: accounts.Account{AppID: fmt.Sprint("wx", i), Kind: accounts.MiniProgram}}
					if !yield(accounts.ImportRow{Line: i + 1, Registration: r}, nil) {
						return
					}
				}
			}
		}
		for _, dry := range []bool{true, false} {
			done, err := w.Import(t.Context(), plan, dry)
			require.True(t, err == nil && done.Added == n, "%v %v", done, err)
		}
		same(t, fmt.Sprintf("locks of %d lines", n), [2]int{l.single, l.all}, wanted)
	}
}

// Issue 14: every line was read once more for its links.
func TestAccountImport_SinglePass(t *testing.T) {
	const n = 3000
	w, read := newWorld(t), 0
	plan := func() iter.Seq2[accounts.ImportRow, error] {
		return func(yield func(accounts.ImportRow, error) bool) {
			for i := range n {
				r := accounts.Registration{Account: accounts.Account{AppID: fmt.Sprint("wx", i), Kind: accounts.ServiceAccount}}
				r.Linked = []string{fmt.Sprint("wx", i+1)} // further down
				if i%2 == 1 {
					r.Kind, r.Linked = accounts.MiniProgram, nil
				}
				read++
				if !yield(accounts.ImportRow{Line: i + 1, Registration: r}, nil) {
					return
				}
			}
		}
	}
	done, err := w.Import(t.Context(), plan, false)
	require.True(t, err == nil && done.Added == n, "%v %v", done, err)
	// A thousand lines are read before, to know whether there are as many.
	assert.True(t, read <= n+1001, "%d lines were read %d times", n, read)
	links, err := w.Links(t.Context(), "wx0")
	assert.True(t, err == nil && len(links) == 1, "%v %v", links, err)
}

func TestRowErrors_SingularMessage(t *testing.T) {
	faults := accounts.RowErrors{{Line: 3, Reason: "want a JSON object"}}
	assert.Equal(t, faults.Error(), "line 3 cannot be loaded: want a JSON object", "one line")
	faults = append(faults, accounts.RowError{Line: 9, Reason: "no appid"})
	assert.Equal(t, faults.Error(), "2 lines cannot be loaded, the first is line 3: want a JSON object", "two lines")
}
