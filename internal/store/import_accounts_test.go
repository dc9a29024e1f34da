package store

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// statementCounter counts the statements of transactions.
type statementCounter struct {
	statements
	count int
}

func (a *statementCounter) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	a.count++
	return a.statements.ExecContext(ctx, query, args...)
}

func (a *statementCounter) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	a.count++
	return a.statements.QueryContext(ctx, query, args...)
}

func (a *statementCounter) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	a.count++
	return a.statements.QueryRowContext(ctx, query, args...)
}

// countingStore counts the transactions on accounts and their statements.
type countingStore struct {
	*Store
	transactions int
	sql          statementCounter
}

func (c *countingStore) counting(f func(accounts.Tx) error) func(accounts.Tx) error {
	return func(tx accounts.Tx) error {
		c.transactions++
		t := tx.(accountQueries).Tx
		c.sql.statements = t.sql
		t.sql = &c.sql
		return f(tx)
	}
}

func (c *countingStore) UpdateAccounts(ctx context.Context, f func(accounts.Tx) error) error {
	return c.Store.UpdateAccounts(ctx, c.counting(f))
}

func (c *countingStore) ViewAccounts(ctx context.Context, f func(accounts.Tx) error) error {
	return c.Store.ViewAccounts(ctx, c.counting(f))
}

// TestImportAccounts_StatementsPerAccount verifies that an import of accounts, and its replication, use few statements and transactions.
func TestImportAccounts_StatementsPerAccount(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		const n = 1000
		c := &countingStore{Store: s}
		memory := &replica.Replica{Rules: index.New(), Accounts: replica.NewAccounts(), RuleStore: s, AccountStore: c, History: s,
			Log: slog.New(slog.DiscardHandler)}
		require.NoError(t, memory.Load(t.Context()))
		d := newAccountService(t, c)
		d.Changed = memory.RefreshAccounts
		c.transactions, c.sql.count = 0, 0
		done, err := d.Import(t.Context(), newAccountRows(n), false)
		check(t, "import", done, accounts.Imported{Lines: n, Added: n})
		require.NoError(t, err)
		check(t, "transactions", c.transactions <= 3, true)
		// Without the locks: for an import of this size PostgreSQL takes one for each account.
		locks := 0
		if s.Engine() == "postgres" {
			locks = n
		}
		statements := c.sql.count - locks
		assert.True(t, statements <= n/2, "%d statements for %d accounts with %d links, want at most %d", statements, n, n/2, n/2)
		for i := range n {
			appid := fmt.Sprintf("im%d", i)
			_, found := memory.Accounts.Account(appid)
			require.True(t, found, "account %s is not in the replica", appid)
			require.True(t, i%2 != 1 || memory.Accounts.Linked(appid, fmt.Sprintf("im%d", i-1)),
				"the link of %s is not in the replica", appid)
		}
		c.transactions = 0
		done, err = d.Import(t.Context(), newAccountRows(n), false)
		check(t, "repeated import", done, accounts.Imported{Lines: n, Unchanged: n})
		require.NoError(t, err)
		check(t, "transactions of the repeated import", c.transactions, 1)
	})
}
