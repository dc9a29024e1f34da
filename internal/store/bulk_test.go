package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// countingConn counts the statements that a connection parses.
type countingConn struct {
	sqliteConn
	prepared, unprepared int
}

func (c *countingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.prepared++
	return c.sqliteConn.PrepareContext(ctx, query)
}

func (c *countingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.unprepared++
	return c.sqliteConn.ExecContext(ctx, query, args)
}

// countPrepared makes the write connection count the statements that it parses.
func countPrepared(t *testing.T, s *Store) (conn *preparedConn, counts *countingConn) {
	c := require.Value(s.write.Conn(t.Context()))(t)
	defer c.Close()
	require.NoError(t, c.Raw(func(c any) error {
		conn = c.(*preparedConn)
		counts = &countingConn{sqliteConn: conn.sqliteConn}
		conn.sqliteConn = counts
		return nil
	}))
	return conn, counts
}

func TestBulk_StatementsPreparedOnce(t *testing.T) {
	s := open(t, newEmbedded(t))
	_, counts := countPrepared(t, s)
	list := newRules(t, 800)
	write := func(name string, ruleCount, accountCount int) int {
		t.Helper()
		*counts = countingConn{sqliteConn: counts.sqliteConn}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			if err := tx.LockRules(ctx); err != nil {
				return err
			}
			for range ruleCount / 80 {
				keys := make([]string, 80)
				for i := range keys {
					keys[i] = list[i].Prefix.Key
				}
				if _, err := tx.rules().RulesAt(ctx, keys); err != nil {
					return err
				}
				if err := tx.rules().AddRules(ctx, list[:80], addMeta); err != nil {
					return err
				}
				list = list[80:]
			}
			for i := range accountCount {
				account := newFilled[accounts.Account](t)
				account.AppID = fmt.Sprint(name, i)
				if err := tx.accounts().AddAccounts(ctx, []accounts.Account{account}); err != nil {
					return err
				}
				if err := tx.accounts().PutLinks(ctx, []accounts.Link{{Service: "wxs", MiniProgram: account.AppID,
					CreatedAt: t0}}); err != nil {
					return err
				}
			}
			return nil
		})
		check(t, name+": unprepared statements, which set the cache size", counts.unprepared, 2)
		return counts.prepared
	}
	forFew := write("few", 160, 10)
	forMany := write("many", 1440, 100)
	assert.True(t, forMany <= forFew, "%d statements prepared for 160 rules and 10 accounts, %d for 1,440 and 100", forFew, forMany)
	var pages int
	require.NoError(t, s.write.QueryRowContext(t.Context(), `PRAGMA cache_size`).Scan(&pages))
	check(t, "cache_size after the transaction", pages, -2000)
}

// TestSQLite_PreparedStatements verifies that a statement can run again while its rows are open, and that a connection keeps at most
// maxPrepared statements.
func TestSQLite_PreparedStatements(t *testing.T) {
	s := open(t, newEmbedded(t))
	conn, counts := countPrepared(t, s)
	const query = `SELECT value FROM (SELECT 1 AS value UNION SELECT 2 UNION SELECT 3) WHERE value > $1`
	update(t, s, func(ctx context.Context, tx *Tx) error {
		var pairs []int
		rows := require.Value(tx.sql.QueryContext(ctx, query, 1))(t)
		defer rows.Close()
		for rows.Next() {
			var outer, inner int
			require.NoError(t, rows.Scan(&outer))
			require.NoError(t, tx.sql.QueryRowContext(ctx, query, outer-1).Scan(&inner))
			pairs = append(pairs, outer, inner)
		}
		require.Equal(t, fmt.Sprint(pairs), "[2 2 3 3]", "values of the outer and the inner query")
		return rows.Err()
	})
	idle := len(conn.idle)
	for i := range 3 * maxPrepared {
		var got int
		require.NoError(t, s.write.QueryRowContext(t.Context(), fmt.Sprintf(`SELECT %d`, i)).Scan(&got))
		require.Equal(t, got, i, "result of statement %d", i)
	}
	assert.True(t, idle > 0 && len(conn.idle) == maxPrepared, "idle statements: %d, then %d of %d", idle, len(conn.idle), maxPrepared)
	prepared := counts.prepared
	_, err := s.write.ExecContext(t.Context(), `SELECT nothing`)
	require.True(t, err != nil && counts.prepared == prepared+1, "an invalid statement: %v", err)
	// SQLite runs this pragma when it parses it, so that a prepared one would have no effect.
	for _, size := range []int{-3000, -2000, -3000} {
		var got int
		require.NoError(t, assert.ErrorOf(s.write.ExecContext(t.Context(), fmt.Sprintf(`PRAGMA cache_size = %d`, size))))
		require.NoError(t, s.write.QueryRowContext(t.Context(), `PRAGMA cache_size`).Scan(&got))
		require.Equal(t, got, size, "cache_size")
	}
}
