package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// newMove exports accounts of a store. It returns their move into a second cell, which calls loaded after each table.
func newMove(t *testing.T, s *Store, loaded func(pass int, table string), appids ...string) Move {
	t.Helper()
	var tables []string
	rows := map[string][]byte{}
	require.NoError(t, s.Snapshot(t.Context(), func(p *Snapshot) error {
		if err := p.Select(t.Context(), appids); err != nil {
			return err
		}
		tables = p.Tables()
		for _, table := range tables {
			var b bytes.Buffer
			if _, err := p.WriteRows(t.Context(), table, &b); err != nil {
				return err
			}
			rows[table] = b.Bytes()
		}
		return nil
	}))
	pass := 0
	return Move{AppIDs: appids, FirstCounter: 10_000_000_000_000, EndCounter: 20_000_000_000_000,
		Reseal: func(from, to, sealed string) (string, error) { return sealed + " from " + from + " to " + to, nil },
		Tables: func(f func(string, io.Reader) error) error {
			pass++
			for _, table := range tables {
				if err := f(table, bytes.NewReader(rows[table])); err != nil {
					return err
				}
				loaded(pass, table)
			}
			return nil
		}}
}

func ignoreLoaded(int, string) {}

// TestMove_PendingPushes verifies that the pending pushes of a platform move, because the platform is deleted in the old cell afterwards,
// and that the pending messages to an account stay, because the old cell sends them.
func TestMove_PendingPushes(t *testing.T) {
	forEachBackend(t, func(t *testing.T, cell *Store) {
		source := open(t, newEmbedded(t))
		addMiniProgram(t, source, "wxm")
		update(t, source, func(ctx context.Context, tx *Tx) error {
			return tx.accounts().PutComponentWithoutGrants(ctx, accounts.Component{AppID: "isv", EventURL: "https://isv.example/"})
		})
		const push = `INSERT INTO pushes (id, component, info_type, appid, url, sealed, masked_body, created_at, attempts, next_attempt_at,
			delivered, sent_at, status, response, error) VALUES (1, $1, 'unauthorized', 'wx', '', 'secret', '', 1, 3, 99, 0, 0, 0, '', '')`
		mustExec(t, source, push, "isv")
		mustExec(t, source, `INSERT INTO messages (id, account, body, created_at, attempts, next_attempt_at)
			VALUES (1, 'wxm', 'body', 1, 3, 99)`)
		mustExec(t, cell, push, "another")
		mustExec(t, cell, `UPDATE sequences SET value = 1 WHERE name = 'push'`)
		require.NoError(t, newMove(t, source, ignoreLoaded, "isv", "wxm").Load(t.Context(), cell))
		check(t, "pushes", queryColumn[string](t, cell, `SELECT id || ' ' || sealed FROM pushes WHERE component = 'isv'`),
			[]string{"2 secret from pushes/1 to pushes/2"})
		check(t, "last number of a push", queryInt(t, cell, `SELECT value FROM sequences WHERE name = 'push'`), 2)
		check(t, "messages", queryInt(t, cell, `SELECT COUNT(*) FROM messages`), 0)
		require.NoError(t, source.EmptyAccount(t.Context(), "wxm"))
		check(t, "messages after the account is emptied", queryInt(t, source, `SELECT COUNT(*) FROM messages`), 0)
	})
}

// TestMove_ScanKeys verifies that a scan key that both cells have is no obstacle, and another one with the same name is refused, because
// otherwise the new cell would reject scans with the key of the old cell.
func TestMove_ScanKeys(t *testing.T) {
	forEachBackend(t, func(t *testing.T, cell *Store) {
		source := open(t, newEmbedded(t))
		addMiniProgram(t, source, "wxm")
		add := func(s *Store, hash, name string) {
			t.Helper()
			mustExec(t, s, `INSERT INTO scan_keys (hash, name, namespace, created_at) VALUES ($1, $2, '', 1)`, hash, name)
		}
		add(source, "same", "app")
		add(source, "old", "till")
		add(cell, "same", "app")
		add(cell, "new", "till")
		err := newMove(t, source, ignoreLoaded, "wxm").Load(t.Context(), cell)
		_, refused := errors.AsType[accounts.Invalid](err)
		assert.True(t, refused && strings.Contains(err.Error(), "another scan key with the name till:"), "Load() = %v, want the name", err)
		check(t, "accounts after a refused import", queryInt(t, cell, `SELECT COUNT(*) FROM accounts`), 0)
		mustExec(t, cell, `DELETE FROM scan_keys WHERE hash = 'new'`)
		require.NoError(t, newMove(t, source, ignoreLoaded, "wxm").Load(t.Context(), cell))
		check(t, "scan keys", queryColumn[string](t, cell, `SELECT hash FROM scan_keys ORDER BY hash`), []string{"old", "same"})
	})
}

// TestMove_OccupiedPrefixRace adds a rule of another account below an occupied prefix while the rules of a moved account are written.
func TestMove_OccupiedPrefixRace(t *testing.T) {
	_, nodes, b, _, other := openTwoNodes(t)
	source := open(t, newEmbedded(t))
	moved := addMiniProgram(t, source, "wxm")
	require.NoError(t, addRule(t.Context(), newRuleServices([2]*Store{source, source}, nil)[0], moved, "moved", "https://h.example/", true))
	mustAddRule(t, b[1], other, "https://other.example/") // deletes expired confirmations, which happens once a minute
	added := make(chan error, 1)
	m := newMove(t, source, func(pass int, table string) {
		if pass == 2 && table == "rules" {
			go func() { // with If-Match, a change waits for no group
				ctx := auditlog.WithPrecondition(context.Background(), 1<<40, auditlog.Name{Kind: "account", Key: "wxz"})
				added <- addRule(ctx, b[1], other, "below", "https://h.example/x/", false)
			}()
			waitFor(t, "the change to wait, or to end", func() bool { return countLockWaiters(t, nodes[0]) > 0 || len(added) > 0 })
		}
	}, "wxm")
	require.NoError(t, m.Load(t.Context(), nodes[0]))
	assert.ErrorIs(t, <-added, errcode.PrefixOwned, "Add() below an occupied prefix")
	check(t, "rules on the host", queryInt(t, nodes[0], `SELECT COUNT(*) FROM rules WHERE host = 'h.example'`), 1)
}
