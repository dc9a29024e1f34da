package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestAddRule_ConflictKeepsTransaction(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		first := addRules(t, s, aRule(t, "wxa", "https://h.example"))[0]
		for name, text := range map[string]string{"the same text": "https://h.example",
			"another text of the same key": "HTTPS://H.Example/"} {
			t.Run(name, func(t *testing.T) {
				other := fmt.Sprintf("https://%d.example/", len(text))
				update(t, s, func(ctx context.Context, tx *Tx) error {
					_, err := tx.rules().AddRule(ctx, aRule(t, "wxb", text), someone)
					require.True(t, errors.Is(err, rules.ErrPrefixTaken), "AddRule: %v", err)
					// PostgreSQL would refuse what follows a failed statement.
					got, err := tx.rules().Rule(ctx, first.Prefix.Key)
					want(t, "the rule that was there", got, first)
					if err != nil {
						return err
					}
					_, err = tx.rules().AddRule(ctx, aRule(t, "wxb", other), someone)
					return err
				})
				view(t, s, func(ctx context.Context, tx *Tx) error {
					r, err := tx.rules().Rule(ctx, other)
					want(t, "owner of what the transaction also added", r.Owner, "wxb")
					if err != nil {
						return err
					}
					changes, err := tx.rules().Changes(ctx, first.Prefix.Key, 10)
					want(t, "changes of the taken prefix", len(changes), 1)
					return err
				})
			})
		}
	})
}

func TestPrefixHistory_AllChanges(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		full := filled[rules.Rule](t)
		by := filled[accounts.Actor](t)
		deed := filled[rules.ChangeMeta](t)
		did := func(what string, n int) rules.ChangeMeta {
			deed := deed
			deed.Action, deed.At = what, at.Add(time.Duration(n)*time.Millisecond)
			return deed
		}
		var wanted []rules.Change // newest first
		note := func(seq int64, d rules.ChangeMeta, r rules.Rule) {
			wanted = append([]rules.Change{{Seq: seq, Actor: by, ChangeMeta: d, Rule: r}}, wanted...)
		}
		step := func(f func(ctx context.Context, tx *Tx) error) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error { return f(accounts.WithActor(ctx, by), tx) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.rules().Changes(ctx, full.Prefix.Key, 100)
				want(t, "history", got, wanted)
				return err
			})
		}
		r := full
		r.ID = 1
		step(func(ctx context.Context, tx *Tx) (err error) {
			note(1, did("add", 1), r)
			r, err = tx.rules().AddRule(ctx, full, did("add", 1))
			return err
		})
		// Another prefix has its own history.
		addRules(t, s, aRule(t, "wxa", "https://other.example/"))
		step(func(ctx context.Context, tx *Tx) error {
			r.Path, r.TestLinks, r.Occupy = "other", nil, false
			note(3, did("edit", 2), r)
			return tx.rules().PutRule(ctx, r, did("edit", 2))
		})
		step(func(ctx context.Context, tx *Tx) error {
			r.TestLinks, r.PublishedAt = []string{}, time.Time{}
			note(4, did("publish", 2), r)
			return tx.rules().PutRule(ctx, r, did("publish", 2))
		})
		step(func(ctx context.Context, tx *Tx) error {
			note(5, did("delete", 0), r) // the clock may go back, the order stays
			return tx.rules().DeleteRule(ctx, r, did("delete", 0))
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			assert.ErrorIs(t, assert.ErrorOf(tx.rules().Rule(ctx, full.Prefix.Key)), rules.ErrNoRule, "the deleted rule")
			return nil
		})
		// The prefix is free, and its history goes on with the next owner.
		next := full
		next.Owner = "wxnext"
		step(func(ctx context.Context, tx *Tx) (err error) {
			next, err = tx.rules().AddRule(ctx, next, did("add", 9))
			note(6, did("add", 9), next)
			return err
		})
		want(t, "a number is not used twice", next.ID, 6)
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.rules().Changes(ctx, full.Prefix.Key, 2)
			want(t, "the newest two", got, wanted[:2])
			return err
		})
	})
}

func TestPublishCount_ByOwnerSince(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
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
				want(t, c.since.String(), n, c.want)
			}
			return nil
		})
	})
}
