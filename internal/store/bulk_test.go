package store

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// asked counts what a transaction says to its database.
type asked struct {
	statements
	read, prepared int // texts that the database had to read
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

func (a *asked) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	a.prepared++
	return a.statements.PrepareContext(ctx, query)
}

func TestBulk_StatementsPreparedOnce(t *testing.T) {
	s := open(t, newEmbedded(t))
	list := someRules(t, 800)
	said := func(of string, ofRules, ofAccounts int) int {
		t.Helper()
		var a *asked
		update(t, s, func(ctx context.Context, tx *Tx) error {
			a = &asked{statements: tx.sql}
			tx.sql = a
			if err := tx.LockRules(ctx); err != nil {
				return err
			}
			for range ofRules / 80 {
				keys := make([]string, 80)
				for i := range keys {
					keys[i] = list[i].Prefix.Key
				}
				if _, err := tx.rules().RulesAt(ctx, keys); err != nil {
					return err
				}
				if err := tx.rules().AddRules(ctx, list[:80], someone); err != nil {
					return err
				}
				list = list[80:]
			}
			for i := range ofAccounts {
				account := filled[accounts.Account](t)
				account.AppID = fmt.Sprint(of, i)
				if err := tx.accounts().AddAccounts(ctx, []accounts.Account{account}); err != nil {
					return err
				}
				if err := tx.accounts().PutLinks(ctx, []accounts.Link{{Service: "wxs", MiniProgram: account.AppID,
					CreatedAt: at}}); err != nil {
					return err
				}
			}
			return nil
		})
		want(t, of+": statements that were not prepared", a.read, 0)
		return a.prepared
	}
	few := said("few", 160, 10)
	many := said("many", 1440, 100)
	assert.True(t, many <= few, "%d statements prepared for 160 rules and 10 accounts, %d for 1,440 and 100", few, many)
	var pages int
	require.NoError(t, s.write.QueryRowContext(t.Context(), `PRAGMA cache_size`).Scan(&pages))
	want(t, "the cache after bulk work, in KiB", pages, -2000)
}
