package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

var race = dbtest.Race

// newRuleServices returns the rule services of two nodes. All hosts are trusted.
func newRuleServices(nodes [2]*Store, change func(*settings.Settings)) (b [2]*rules.Service) {
	values := settings.Defaults()
	values.Verification.Mode = settings.Trust
	values.RuleLimit = 1 << 30
	if change != nil {
		change(&values)
	}
	for i, s := range nodes {
		b[i] = &rules.Service{Store: s, Settings: settings.NewLive(values), Now: func() time.Time { return t0 }}
	}
	return b
}

// failingRuleUpdates is a store whose UpdateRules fails.
type failingRuleUpdates struct{ rules.Store }

func (failingRuleUpdates) UpdateRules(context.Context, func(rules.Tx) error) error {
	return errors.New("old checks cannot be removed")
}

// TestAddRule_StaleFileChecksIgnored verifies that a rule is added even if old checks of verification files cannot be removed.
func TestAddRule_StaleFileChecksIgnored(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		b := newRuleServices([2]*Store{s, s}, nil)[0]
		b.Store = failingRuleUpdates{s}
		assert.NoError(t, addRule(t.Context(), b, addMiniProgram(t, s, "wxa"), "r", "https://old.example/", false))
	})
}

func addMiniProgram(t *testing.T, s *Store, appid string) accounts.Account {
	t.Helper()
	a := accounts.Account{AppID: appid, Kind: accounts.MiniProgram, Subject: accounts.Company, JumpOpen: true,
		Versions: []accounts.Version{accounts.Release}, CreatedAt: t0}
	update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().PutAccount(ctx, a) })
	return a
}

func addRule(ctx context.Context, b *rules.Service, owner accounts.Account, rid, prefix string, occupy bool) error {
	return b.Add(accounts.WithActor(ctx, accounts.Actor{ActorID: owner.AppID, RID: rid}), owner,
		rules.Draft{Prefix: prefix, Path: "p", Occupy: occupy, OpenVersion: rules.OpenRelease})
}

// raceRounds is the number of races between two calls.
var raceRounds = testscope.Select(250, 25)

func TestAddRule_TwoOwnersRace(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := newRuleServices(nodes, nil)
		owners := [2]accounts.Account{addMiniProgram(t, nodes[0], "wxa"), addMiniProgram(t, nodes[0], "wxb")}
		won := [2]int{}
		for round := range raceRounds {
			// Two texts with the same key.
			prefix := [2]string{fmt.Sprintf("https://h%d.example", round), fmt.Sprintf("https://H%d.example/", round)}
			errs := race(2, func(i int) error {
				return addRule(t.Context(), b[i], owners[i], fmt.Sprint(round, i), prefix[i], false)
			})
			loser := slices.IndexFunc(errs, func(err error) bool { return err != nil })
			require.True(t, loser >= 0 && errs[1-loser] == nil && errors.Is(errs[loser], errcode.PrefixOwned),
				"round %d: errors = %v, want one %v", round, errs, errcode.PrefixOwned)
			won[1-loser]++
		}
		check(t, "rules", queryInt(t, nodes[0], `SELECT COUNT(*) FROM rules`), int64(raceRounds))
		check(t, "changes", queryInt(t, nodes[0], `SELECT COUNT(*) FROM changes WHERE kind = 'rule'`), int64(raceRounds))
		t.Log("won", won)
	})
}

func TestAddRule_ManyTransactionsRace(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		for round := range 20 {
			// Without the lock of a Service, the store alone keeps the prefix unique.
			r := newRule(t, "wx", fmt.Sprintf("https://h%d.example/", round))
			errs := race(16, func(i int) error {
				r := r
				r.Owner = fmt.Sprint("wx", i)
				return nodes[i%2].update(t.Context(), func(tx *Tx) error {
					_, err := tx.rules().AddRule(t.Context(), r, addMeta)
					return err
				})
			})
			check(t, "rules added", countSuccesses(t, errs, rules.ErrPrefixTaken), 1)
		}
		check(t, "last seq", queryInt(t, nodes[0], `SELECT seq FROM audit_log_head`), 20)
	})
}

// Contract: rules 2.10: occupation is never bypassed by a race. IDs are in commit order, so a rule of another owner that is added after the
// occupier has a higher ID.
func TestAddRule_BelowConcurrentOccupier(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := newRuleServices(nodes, nil)
		owners := [2]accounts.Account{addMiniProgram(t, nodes[0], "wxa"), addMiniProgram(t, nodes[0], "wxb")}
		rejected := 0
		for round := range raceRounds {
			parent, child := fmt.Sprintf("https://h.example/%d/", round), fmt.Sprintf("https://h.example/%d/child", round)
			errs := race(2, func(i int) error {
				// The order alternates.
				if (i+round)%2 == 0 {
					return addRule(t.Context(), b[i], owners[0], fmt.Sprint("p", round), parent, true)
				}
				return addRule(t.Context(), b[i], owners[1], fmt.Sprint("c", round), child, false)
			})
			above, below := errs[round%2], errs[1-round%2]
			switch {
			case above != nil:
				t.Fatalf("round %d: error of the occupier = %v, want nil", round, above)
			case errors.Is(below, errcode.PrefixOwned):
				rejected++
			case below != nil:
				t.Fatalf("round %d: error of the rule below = %v, want nil or %v", round, below, errcode.PrefixOwned)
			default:
				view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
					p, err := tx.rules().Rule(ctx, parent)
					if err != nil {
						return err
					}
					c, err := tx.rules().Rule(ctx, child)
					require.True(t, c.ID <= p.ID,
						"round %d: rule %d of another owner is below rule %d, which occupied first", round, c.ID, p.ID)
					return err
				})
			}
		}
		t.Logf("rejected in %d of %d rounds", rejected, raceRounds)
	})
}

func TestAddRule_BelowRuleTurningOccupier(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := newRuleServices(nodes, nil)
		owners := [2]accounts.Account{addMiniProgram(t, nodes[0], "wxa"), addMiniProgram(t, nodes[0], "wxb")}
		for round := range 50 {
			parent, child := fmt.Sprintf("https://h.example/%d/", round), fmt.Sprintf("https://h.example/%d/child", round)
			require.NoError(t, addRule(t.Context(), b[0], owners[0], fmt.Sprint("p", round), parent, false))
			errs := race(2, func(i int) error {
				if i == 0 {
					return b[0].Edit(t.Context(), owners[0],
						rules.Draft{Prefix: parent, Path: "p", Occupy: true, OpenVersion: rules.OpenRelease})
				}
				return addRule(t.Context(), b[1], owners[1], fmt.Sprint("c", round), child, false)
			})
			require.True(t, errs[0] == nil && (errs[1] == nil || errors.Is(errs[1], errcode.PrefixOwned)),
				"round %d: errors = %v", round, errs)
			edited := queryInt(t, nodes[0], `SELECT seq FROM changes WHERE key = $1 AND action = 'edit'`, parent)
			n := queryInt(t, nodes[0], `SELECT COUNT(*) FROM rules WHERE key = $1 AND id > $2`, child, edited)
			require.True(t, n == 0, "round %d: a rule of another owner was added below after change %d", round, edited)
		}
	})
}

func TestAddRule_LimitUnderConcurrency(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := newRuleServices(nodes, func(s *settings.Settings) { s.RuleLimit = 7 })
		owner := addMiniProgram(t, nodes[0], "wxa")
		errs := race(32, func(i int) error {
			return addRule(t.Context(), b[i%2], owner, fmt.Sprint(i), fmt.Sprintf("https://h%d.example/", i), false)
		})
		check(t, "added", countSuccesses(t, errs, errcode.PrefixLimit), 7)
		check(t, "rules", queryInt(t, nodes[0], `SELECT COUNT(*) FROM rules`), 7)
	})
}

// countSuccesses returns the number of nil errors. The other errors must match expected.
func countSuccesses(t *testing.T, errs []error, expected error) (n int) {
	t.Helper()
	for _, err := range errs {
		if err == nil {
			n++
		} else if !errors.Is(err, expected) {
			t.Fatalf("error = %v, want %v", err, expected)
		}
	}
	return n
}

func TestPublish_QuotaUnderConcurrency(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		const quota = 10
		b := newRuleServices(nodes, func(s *settings.Settings) { s.PublishQuota = quota })
		first, second := addMiniProgram(t, nodes[0], "wxa"), addMiniProgram(t, nodes[0], "wxb")
		prefix := func(i int) string { return fmt.Sprintf("https://h%d.example/", i) }
		var list []rules.Rule
		for i := range 32 {
			list = append(list, newRule(t, first.AppID, prefix(i)))
		}
		addRules(t, nodes[0], append(list, newRule(t, second.AppID, prefix(99)))...)

		errs := race(32, func(i int) error { return b[i%2].Publish(t.Context(), first, prefix(i)) })
		check(t, "published", countSuccesses(t, errs, errcode.PublishQuota), quota)
		check(t, "published rules", queryInt(t, nodes[0], `SELECT COUNT(*) FROM rules WHERE published = 1`), quota)
		check(t, "counted publishes", queryInt(t, nodes[0], `SELECT COUNT(*) FROM publishes`), quota)
		n := require.Value(b[1].PublishesLeft(t.Context(), first))(t)
		check(t, "remaining publishes", n, 0)
		assert.NoErrorf(t, b[0].Publish(t.Context(), second, prefix(99)), "a publish of another account")
	})
}

func TestPublish_SameRuleSpendsOneQuota(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := newRuleServices(nodes, nil)
		owner := addMiniProgram(t, nodes[0], "wxa")
		addRules(t, nodes[0], newRule(t, owner.AppID, "https://h.example/"))
		errs := race(16, func(i int) error { return b[i%2].Publish(t.Context(), owner, "https://h.example/") })
		check(t, "published", countSuccesses(t, errs, nil), 16)
		check(t, "counted publishes", queryInt(t, nodes[0], `SELECT COUNT(*) FROM publishes`), 1)
		check(t, "changes", queryInt(t, nodes[0], `SELECT COUNT(*) FROM changes WHERE action = 'publish'`), 1)
	})
}

func TestPublish_ConcurrentDeleteAtomic(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := newRuleServices(nodes, func(s *settings.Settings) { s.PublishQuota = 1 << 20 })
		owner := addMiniProgram(t, nodes[0], "wxa")
		for round := range 50 {
			prefix := fmt.Sprintf("https://h%d.example/", round)
			addRules(t, nodes[0], newRule(t, owner.AppID, prefix))
			errs := race(2, func(i int) error {
				if i == 0 {
					return b[0].Publish(t.Context(), owner, prefix)
				}
				return b[1].Delete(t.Context(), owner, prefix, "")
			})
			require.True(t, errs[1] == nil && (errs[0] == nil || errors.Is(errs[0], errcode.InvalidArgs)),
				"round %d: errors = %v", round, errs)
			spent := queryInt(t, nodes[0], `SELECT COUNT(*) FROM publishes WHERE key = $1`, prefix)
			check(t, "the publish is counted, as it succeeded", spent == 1, errs[0] == nil)
		}
		check(t, "rules", queryInt(t, nodes[0], `SELECT COUNT(*) FROM rules`), 0)
	})
}

func TestCounters_ConcurrentIncrements(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		const callers, each = 32, 10
		got := make([][]int, callers)
		errs := race(callers, func(i int) error {
			for range each {
				var n int
				if err := nodes[i%2].update(t.Context(), func(tx *Tx) (err error) {
					n, err = tx.accounts().AddCount(t.Context(), "wxa", "x", 1)
					return err
				}); err != nil {
					return err
				}
				got[i] = append(got[i], n)
			}
			return nil
		})
		countSuccesses(t, errs, nil)
		var wanted []int
		for n := range callers * each {
			wanted = append(wanted, n+1)
		}
		check(t, "results", slices.Sorted(slices.Values(slices.Concat(got...))), wanted)
	})
}

func TestFirstSealedKey_ConcurrentCreation(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		got := make([]string, 16)
		errs := race(len(got), func(i int) (err error) {
			got[i], err = nodes[i%2].FirstSealedKey(t.Context(), "data", fmt.Sprint("key ", i))
			return err
		})
		countSuccesses(t, errs, nil)
		check(t, "keys", len(slices.Compact(slices.Sorted(slices.Values(got)))), 1)
	})
}

// TestChangeLog_NumbersInCommitOrder verifies that seqs are in commit order, so that a reader misses no change below the last seq it has
// read, and that a rollback leaves no gap.
func TestChangeLog_NumbersInCommitOrder(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		const writers, each = 8, 25
		ctx := t.Context()
		done := make(chan struct{})
		seen := make(chan error, 1)
		go func() {
			seen <- func() error {
				for {
					var count, highest int64
					err := nodes[1].view(ctx, func(tx *Tx) error {
						return tx.row(ctx, `SELECT COUNT(*), COALESCE(MAX(seq), 0) FROM changes`).Scan(&count, &highest)
					})
					if err != nil {
						return err
					}
					if count != highest {
						return fmt.Errorf("%d changes are visible, the last seq is %d", count, highest)
					}
					select {
					case <-done:
						return nil
					default:
					}
				}
			}()
		}()
		rollback := errors.New("rollback")
		errs := race(writers, func(i int) error {
			for n := range each {
				r := newRule(t, "wxa", fmt.Sprintf("https://h%d.example/%d", i, n))
				err := nodes[i%2].update(ctx, func(tx *Tx) (err error) {
					if r, err = tx.rules().AddRule(ctx, r, addMeta); err == nil && n%3 == 0 {
						return rollback
					}
					return err
				})
				switch {
				case n%3 == 0 && errors.Is(err, rollback):
					continue
				case err != nil:
					return err
				case n%3 == 1:
					if err := nodes[i%2].update(ctx, func(tx *Tx) error { return tx.rules().DeleteRule(ctx, r, addMeta) }); err != nil {
						return err
					}
				}
			}
			return nil
		})
		close(done)
		assert.NoError(t, (<-seen))
		countSuccesses(t, errs, nil)
		check(t, "changes", queryInt(t, nodes[0], `SELECT MAX(seq) FROM changes`), writers*(16+8))
		check(t, "gaps", queryInt(t, nodes[0], `SELECT MAX(seq) - COUNT(*) FROM changes`), 0)
	})
}
