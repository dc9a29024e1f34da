package store

import (
	"context"
	"crypto/rand"
	"net/netip"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// overlap runs first on one node and second on another node while the transaction of first is not committed, and returns the error of
// second. On SQLite, whose transactions cannot overlap, second runs after first.
func overlap(t *testing.T, nodes [2]*Store, first func() error, second func() error) error {
	t.Helper()
	if nodes[0].Engine() == "sqlite" {
		require.NoError(t, first())
		return second()
	}
	// A transaction that writes to the audit log waits for its head before it commits.
	head := require.Value(nodes[0].write.BeginTx(t.Context(), nil))(t)
	defer func() { _ = head.Rollback() }()
	require.NoError(t, assert.ErrorOf(head.ExecContext(t.Context(), `SELECT seq FROM audit_log_head WHERE id = 1 FOR UPDATE`)))
	results := [2]chan error{make(chan error, 1), make(chan error, 1)}
	go func() { results[0] <- first() }()
	waitFor(t, "the first transaction to wait for the head", func() bool { return countLockWaiters(t, nodes[0]) == 1 })
	go func() { results[1] <- second() }()
	waitFor(t, "the second transaction to wait", func() bool { return countLockWaiters(t, nodes[0]) == 2 || len(results[1]) == 1 })
	require.NoError(t, head.Rollback())
	require.NoError(t, <-results[0])
	return <-results[1]
}

// TestPeople_OverlappingEnds verifies that a key, a session or a sign-in does not survive a deletion or change that was not committed when
// the key, the session or the old password was used.
func TestPeople_OverlappingEnds(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		vault := require.Value(sealer.NewKey([]byte("0123456789abcdef0123456789abcdef")))(t)
		now, ctx := t0, t.Context()
		var d [2]*iam.Service
		for i, s := range nodes {
			d[i] = &iam.Service{Store: s.People(), Vault: vault, Random: rand.Reader, Now: func() time.Time { return now }}
		}
		browser, role, password := iam.Browser{IP: netip.MustParseAddr("192.0.2.1")}, "admin", "kiln-otter-vivid-81"
		key, text, err := d[0].AddKey(ctx, iam.Key{Name: "ci", Role: role})
		require.NoError(t, err)
		_, _, err = d[0].Add(ctx, "ann", iam.Change{Role: &role, Password: &password})
		require.NoError(t, err)
		signIn := func(node int) (string, error) {
			return d[node].SignIn(ctx, iam.Credentials{Name: "ann", Password: password}, browser, "")
		}
		session := require.Value(signIn(0))(t)
		now = now.Add(time.Hour / 6) // so that the next use is recorded
		useKey := func() error { return assert.ErrorOf(d[1].ByKey(ctx, text)) }
		err = overlap(t, nodes, func() error { return d[0].DeleteKey(ctx, key.ID) }, useKey)
		assert.ErrorIs(t, err, iam.ErrNoKey, "use of a key during its deletion")
		assert.ErrorIs(t, useKey(), iam.ErrNoKey, "use of the key afterwards")
		useSession := func() error { return assert.ErrorOf(d[1].BySession(ctx, session)) }
		err = overlap(t, nodes, func() error { return assert.ErrorOf(d[0].SignOut(ctx, "ann")) }, useSession)
		assert.ErrorIs(t, err, iam.ErrNoSession, "use of a session during its end")
		assert.ErrorIs(t, useSession(), iam.ErrNoSession, "use of the session afterwards")
		changed := "plum-radar-quilt-27"
		err = overlap(t, nodes, func() error {
			_, _, err := d[0].Change(ctx, "ann", iam.Change{Password: &changed})
			return err
		}, func() error { return assert.ErrorOf(signIn(1)) })
		assert.ErrorIs(t, err, iam.ErrRefused, "sign-in with the password that is changed")
		left, err := d[0].Sessions(ctx, "ann")
		assert.True(t, err == nil && len(left) == 0, "Sessions() = %v, %v, want none", left, err)
	})
}

// TestWebhook_OverlappingDelete verifies that a change of a webhook does not restore the webhook that another transaction deletes.
func TestWebhook_OverlappingDelete(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		vault := require.Value(sealer.NewKey([]byte("0123456789abcdef0123456789abcdef")))(t)
		var d [2]*webhooks.Service
		for i, s := range nodes {
			d[i] = &webhooks.Service{Store: s.Webhooks(), Vault: vault, Random: rand.Reader, Now: func() time.Time { return t0 },
				Check: func(context.Context, string) error { return nil }, Wake: func() {}}
		}
		w, _, err := d[0].Add(t.Context(), "https://receiver.example/", webhooks.Filter{Alarms: true})
		require.NoError(t, err)
		err = overlap(t, nodes, func() error { return d[0].Delete(t.Context(), w.ID) }, func() error {
			return assert.ErrorOf(d[1].Change(t.Context(), w.ID, func(w *webhooks.Webhook) error {
				w.Enabled = false
				return nil
			}))
		})
		assert.ErrorIs(t, err, webhooks.ErrNoWebhook, "change of a deleted webhook")
		list, err := d[0].List(t.Context())
		assert.True(t, err == nil && len(list) == 0, "List() = %v, %v, want none", list, err)
	})
}

// TestCase_OverlappingChange verifies that an alarm that is put into a case does not undo a change of the case that was not committed.
func TestCase_OverlappingChange(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		var d [2]*alarms.Service
		for i, s := range nodes {
			d[i] = &alarms.Service{Store: s, Settings: settings.NewLive(settings.Defaults()), Now: func() time.Time { return t0 }}
		}
		var alarm alarms.Alarm
		require.NoError(t, nodes[0].UpdateStatistics(t.Context(), func(tx stats.Tx) (err error) {
			alarm, _, err = tx.AddAlarm(t.Context(), alarms.Alarm{Kind: alarms.Copied, CodeName: alarms.CodeName{Batch: 1, Index: 2},
				CreatedAt: t0})
			return err
		}))
		c := require.Value(d[0].SaveCase(t.Context(), alarms.Case{Title: "copies"}, nil, "ann", nil))(t)
		closed := c
		closed.State, closed.Note = alarms.CaseClosed, "recalled"
		require.NoError(t, overlap(t, nodes,
			func() error { return assert.ErrorOf(d[0].SaveCase(t.Context(), closed, nil, "ann", nil)) },
			func() error {
				return assert.ErrorOf(d[1].Acknowledge(t.Context(), alarm.ID, "bob", alarms.Acknowledgement{Case: &c.ID}))
			}))
		got, list, err := d[0].Case(t.Context(), c.ID)
		assert.True(t, err == nil && got.State == alarms.CaseClosed && got.Note == "recalled" && len(list) == 1,
			"Case() = %+v with %d alarms, %v, want closed and recalled with 1", got, len(list), err)
	})
}
