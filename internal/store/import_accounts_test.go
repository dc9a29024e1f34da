package store

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// asked counts the statements of a transaction.
type asked struct {
	statements
	read int
}

func (a *asked) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	a.read++
	return a.statements.ExecContext(ctx, query, args...)
}

func (a *asked) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	a.read++
	return a.statements.QueryContext(ctx, query, args...)
}

func (a *asked) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	a.read++
	return a.statements.QueryRowContext(ctx, query, args...)
}

// counted counts the transactions on accounts, and what they say to the database.
type counted struct {
	*Store
	transactions int
	said         asked
}

func (c *counted) counting(f func(accounts.Tx) error) func(accounts.Tx) error {
	return func(tx accounts.Tx) error {
		c.transactions++
		t := tx.(accountsTx).Tx
		c.said.statements = t.sql
		t.sql = &c.said
		return f(tx)
	}
}

func (c *counted) UpdateAccounts(ctx context.Context, f func(accounts.Tx) error) error {
	return c.Store.UpdateAccounts(ctx, c.counting(f))
}

func (c *counted) ViewAccounts(ctx context.Context, f func(accounts.Tx) error) error {
	return c.Store.ViewAccounts(ctx, c.counting(f))
}

// An import cost several statements for each account, and then a transaction for each to read it into the memory.
func TestImportAccounts_StatementsPerAccount(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		const n = 1000
		key, err := sealer.NewKey([]byte("0123456789abcdef0123456789abcdef"))
		require.NoError(t, err)
		c := &counted{Store: s}
		memory := &replica.Replica{Rules: index.New(), Accounts: replica.NewAccounts(), RuleStore: s, AccountStore: c, History: s,
			Log: slog.New(slog.DiscardHandler)}
		require.NoError(t, memory.Load(t.Context()))
		d := &accounts.Service{Store: c, Key: key, Settings: settings.NewLive(settings.Defaults()), Now: time.Now,
			Random: io.Reader(rand.NewChaCha8([32]byte{})), Changed: memory.RefreshAccounts}
		name := func(i int) string { return fmt.Sprintf("wx%016d", i) }
		plan := func() iter.Seq2[accounts.ImportRow, error] {
			return func(yield func(accounts.ImportRow, error) bool) {
				for i := range n {
					r := accounts.Registration{Account: accounts.Account{AppID: name(i), Kind: accounts.MiniProgram}}
					if i%2 == 1 {
						r.Kind, r.Linked = accounts.ServiceAccount, []string{name(i - 1)}
					}
					if !yield(accounts.ImportRow{Line: i + 1, Registration: r}, nil) {
						return
					}
				}
			}
		}
		c.transactions, c.said.read = 0, 0
		done, err := d.Import(t.Context(), plan, false)
		want(t, "import", done, accounts.Imported{Lines: n, Added: n})
		require.NoError(t, err)
		want(t, "transactions", c.transactions <= 3, true)
		// Locks apart, of which PostgreSQL takes one for each of so few: eight rows at once into three tables are the most.
		locks := 0
		if s.Engine() == "postgres" {
			locks = n
		}
		said := c.said.read - locks
		assert.True(t, said <= n/2, "%d statements for %d accounts with %d links", said, n, n/2)
		for i := range n {
			_, found := memory.Accounts.Account(name(i))
			require.True(t, found, "not in the memory:  %v", name(i))
			require.True(t, i%2 != 1 || memory.Accounts.Linked(name(i), name(i-1)), "not linked in the memory:  %v", name(i))
		}
		c.transactions = 0
		done, err = d.Import(t.Context(), plan, false)
		want(t, "again", done, accounts.Imported{Lines: n, Unchanged: n})
		require.NoError(t, err)
		want(t, "transactions where nothing changed", c.transactions, 1)
	})
}
