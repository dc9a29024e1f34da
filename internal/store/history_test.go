package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestAddRule_ConflictKeepsTransaction(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		first := addRules(t, s, newRule(t, "wxa", "https://h.example"))[0]
		for name, text := range map[string]string{"the same text": "https://h.example",
			"another text of the same key": "HTTPS://H.Example/"} {
			t.Run(name, func(t *testing.T) {
				otherPrefix := fmt.Sprintf("https://%d.example/", len(text))
				update(t, s, func(ctx context.Context, tx *Tx) error {
					_, err := tx.rules().AddRule(ctx, newRule(t, "wxb", text), addMeta)
					require.ErrorIs(t, err, rules.ErrPrefixTaken, "AddRule")
					// PostgreSQL would reject statements after a failed one.
					got, err := tx.rules().Rule(ctx, first.Prefix.Key)
					check(t, "existing rule", got, first)
					if err != nil {
						return err
					}
					_, err = tx.rules().AddRule(ctx, newRule(t, "wxb", otherPrefix), addMeta)
					return err
				})
				view(t, s, func(ctx context.Context, tx *Tx) error {
					r, err := tx.rules().Rule(ctx, otherPrefix)
					check(t, "owner of the other rule of the transaction", r.Owner, "wxb")
					if err != nil {
						return err
					}
					changes, err := tx.rules().Changes(ctx, first.Prefix.Key, 10)
					check(t, "changes of the taken prefix", len(changes), 1)
					return err
				})
			})
		}
	})
}

func TestPrefixHistory_AllChanges(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		full := newFilled[rules.Rule](t)
		actor := newFilled[accounts.Actor](t)
		filled := newFilled[rules.ChangeMeta](t)
		meta := func(action string, n int) rules.ChangeMeta {
			m := filled
			m.Action, m.At = action, t0.Add(time.Duration(n)*time.Millisecond)
			return m
		}
		var wanted []rules.Change // newest first
		expect := func(seq int64, m rules.ChangeMeta, r rules.Rule) {
			wanted = append([]rules.Change{{Seq: seq, Actor: actor, ChangeMeta: m, Rule: r}}, wanted...)
		}
		step := func(f func(ctx context.Context, tx *Tx) error) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error { return f(accounts.WithActor(ctx, actor), tx) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.rules().Changes(ctx, full.Prefix.Key, 100)
				check(t, "history", got, wanted)
				return err
			})
		}
		r := full
		r.ID = 1
		step(func(ctx context.Context, tx *Tx) (err error) {
			expect(1, meta("add", 1), r)
			r, err = tx.rules().AddRule(ctx, full, meta("add", 1))
			return err
		})
		// Another prefix has its own history.
		addRules(t, s, newRule(t, "wxa", "https://other.example/"))
		step(func(ctx context.Context, tx *Tx) error {
			r.Path, r.TestLinks, r.Occupy = "other", nil, false
			expect(3, meta("edit", 2), r)
			return tx.rules().PutRule(ctx, r, meta("edit", 2))
		})
		step(func(ctx context.Context, tx *Tx) error {
			r.TestLinks, r.PublishedAt = []string{}, time.Time{}
			expect(4, meta("publish", 2), r)
			return tx.rules().PutRule(ctx, r, meta("publish", 2))
		})
		step(func(ctx context.Context, tx *Tx) error {
			expect(5, meta("delete", 0), r) // the order does not depend on the clock
			return tx.rules().DeleteRule(ctx, r, meta("delete", 0))
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			assert.ErrorIs(t, assert.ErrorOf(tx.rules().Rule(ctx, full.Prefix.Key)), rules.ErrNoRule, "a deleted rule")
			return nil
		})
		// The history of the prefix continues with the next owner.
		next := full
		next.Owner = "wxnext"
		step(func(ctx context.Context, tx *Tx) (err error) {
			next, err = tx.rules().AddRule(ctx, next, meta("add", 9))
			expect(6, meta("add", 9), next)
			return err
		})
		check(t, "ID of the next rule", next.ID, 6)
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.rules().Changes(ctx, full.Prefix.Key, 2)
			check(t, "newest two changes", got, wanted[:2])
			return err
		})
	})
}

func TestPublishCount_ByOwnerSince(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		month := time.Date(2026, 2, 1, 0, 0, 0, 0, time.FixedZone("", 8*3600))
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, p := range []struct {
				owner string
				at    time.Time
			}{{"wxa", month.Add(-time.Millisecond)}, {"wxa", month}, {"wxa", month}, {"wxa", month.Add(time.Hour)}, {"WXA", month}} {
				if err := tx.rules().AddPublish(ctx, p.owner, "https://h.example/", p.at); err != nil {
					return err
				}
			}
			return nil
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, c := range []struct {
				since time.Time
				want  int
			}{{month, 3}, {month.Add(-time.Millisecond), 4}, {month.Add(time.Millisecond), 1}, {month.AddDate(0, 1, 0), 0}} {
				n, err := tx.rules().PublishesSince(ctx, "wxa", c.since)
				if err != nil {
					return err
				}
				check(t, c.since.String(), n, c.want)
			}
			return nil
		})
	})
}
