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

// books are the rules as two nodes see them; the operator trusts every host.
func books(nodes [2]*Store, change func(*settings.Settings)) (b [2]*rules.Service) {
	values := settings.Defaults()
	values.Verification.Mode = settings.Trust
	values.RuleLimit = 1 << 30
	if change != nil {
		change(&values)
	}
	for i, s := range nodes {
		b[i] = &rules.Service{Store: s, Settings: settings.NewLive(values), Now: func() time.Time { return at }}
	}
	return b
}

// hoarder is a store of rules that makes the changes of rules alone.
type hoarder struct{ rules.Store }

func (hoarder) UpdateRules(context.Context, func(rules.Tx) error) error {
	return errors.New("old checks cannot be removed")
}

// Old checks of verification files that cannot be removed are no reason to refuse a rule.
func TestAddRule_StaleFileChecksIgnored(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		b := books([2]*Store{s, s}, nil)[0]
		b.Store = hoarder{s}
		assert.NoError(t, add(t.Context(), b, miniProgram(t, s, "wxa"), "r", "https://old.example/", false))
	})
}

func miniProgram(t *testing.T, s *Store, appid string) accounts.Account {
	t.Helper()
	a := accounts.Account{AppID: appid, Kind: accounts.MiniProgram, Subject: accounts.Company, JumpOpen: true,
		Versions: []accounts.Version{accounts.Release}, CreatedAt: at}
	update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().PutAccount(ctx, a) })
	return a
}

func add(ctx context.Context, b *rules.Service, owner accounts.Account, rid, prefix string, occupy bool) error {
	return b.Add(accounts.WithActor(ctx, accounts.Actor{ActorID: owner.AppID, RID: rid}), owner,
		rules.Draft{Prefix: prefix, Path: "p", Occupy: occupy, OpenVersion: rules.OpenRelease})
}

// rounds is how often two race.
var rounds = testscope.Choose(250, 50)

func TestAddRule_TwoOwnersRace(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := books(nodes, nil)
		owners := [2]accounts.Account{miniProgram(t, nodes[0], "wxa"), miniProgram(t, nodes[0], "wxb")}
		won := [2]int{}
		for round := range rounds {
			// Two texts with one key.
			prefix := [2]string{fmt.Sprintf("https://h%d.example", round), fmt.Sprintf("https://H%d.example/", round)}
			errs := race(2, func(i int) error { return add(t.Context(), b[i], owners[i], fmt.Sprint(round, i), prefix[i], false) })
			lost := slices.IndexFunc(errs, func(err error) bool { return err != nil })
			require.True(t, lost >= 0 && errs[1-lost] == nil && errors.Is(errs[lost], errcode.PrefixOwned), "round %d: %v", round, errs)
			won[1-lost]++
		}
		want(t, "rules", number(t, nodes[0], `SELECT COUNT(*) FROM rules`), int64(rounds))
		want(t, "changes", number(t, nodes[0], `SELECT COUNT(*) FROM changes WHERE kind = 'rule'`), int64(rounds))
		t.Log("won", won)
	})
}

func TestAddRule_ManyTransactionsRace(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		for round := range 20 {
			// No lock of a Service in front: the store alone keeps the prefix single.
			r := aRule(t, "wx", fmt.Sprintf("https://h%d.example/", round))
			errs := race(16, func(i int) error {
				r := r
				r.Owner = fmt.Sprint("wx", i)
				return nodes[i%2].update(t.Context(), func(tx *Tx) error {
					_, err := tx.rules().AddRule(t.Context(), r, someone)
					return err
				})
			})
			won := 0
			for _, err := range errs {
				if err == nil {
					won++
				} else if !errors.Is(err, rules.ErrPrefixTaken) {
					t.Fatal(err)
				}
			}
			want(t, "won", won, 1)
		}
		want(t, "highest number", number(t, nodes[0], `SELECT seq FROM audit_log_head`), 20)
	})
}

// Contract: rules 2.10: occupation is never bypassed by a race. IDs are in the
// order of commits, so a rule of another owner that came after the occupier has a higher one.
func TestAddRule_BelowConcurrentOccupier(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := books(nodes, nil)
		owners := [2]accounts.Account{miniProgram(t, nodes[0], "wxa"), miniProgram(t, nodes[0], "wxb")}
		refused := 0
		for round := range rounds {
			parent, child := fmt.Sprintf("https://h.example/%d/", round), fmt.Sprintf("https://h.example/%d/child", round)
			errs := race(2, func(i int) error {
				// The first one changes with the round.
				if (i+round)%2 == 0 {
					return add(t.Context(), b[i], owners[0], fmt.Sprint("p", round), parent, true)
				}
				return add(t.Context(), b[i], owners[1], fmt.Sprint("c", round), child, false)
			})
			above, below := errs[round%2], errs[1-round%2]
			switch {
			case above != nil:
				t.Fatalf("round %d: the occupier: %v", round, above)
			case errors.Is(below, errcode.PrefixOwned):
				refused++
			case below != nil:
				t.Fatalf("round %d: below: %v", round, below)
			default:
				view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
					p, err := tx.rules().Rule(ctx, parent)
					if err != nil {
						return err
					}
					c, err := tx.rules().Rule(ctx, child)
					require.True(t, c.ID <= p.ID,
						"round %d: rule %d of another owner stands below rule %d, which occupied first", round, c.ID, p.ID)
					return err
				})
			}
		}
		t.Logf("refused in %d of %d rounds", refused, rounds)
	})
}

func TestAddRule_BelowRuleTurningOccupier(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := books(nodes, nil)
		owners := [2]accounts.Account{miniProgram(t, nodes[0], "wxa"), miniProgram(t, nodes[0], "wxb")}
		for round := range 50 {
			parent, child := fmt.Sprintf("https://h.example/%d/", round), fmt.Sprintf("https://h.example/%d/child", round)
			require.NoError(t, add(t.Context(), b[0], owners[0], fmt.Sprint("p", round), parent, false))
			errs := race(2, func(i int) error {
				if i == 0 {
					return b[0].Edit(t.Context(), owners[0],
						rules.Draft{Prefix: parent, Path: "p", Occupy: true, OpenVersion: rules.OpenRelease})
				}
				return add(t.Context(), b[1], owners[1], fmt.Sprint("c", round), child, false)
			})
			require.True(t, errs[0] == nil && (errs[1] == nil || errors.Is(errs[1], errcode.PrefixOwned)), "%v", errs)
			edited := number(t, nodes[0], `SELECT seq FROM changes WHERE key = $1 AND action = 'edit'`, parent)
			n := number(t, nodes[0], `SELECT COUNT(*) FROM rules WHERE key = $1 AND id > $2`, child, edited)
			require.True(t, n == 0, "round %d: a rule of another owner came below after change %d", round, edited)
		}
	})
}

func TestAddRule_LimitUnderConcurrency(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := books(nodes, func(s *settings.Settings) { s.RuleLimit = 7 })
		owner := miniProgram(t, nodes[0], "wxa")
		errs := race(32, func(i int) error {
			return add(t.Context(), b[i%2], owner, fmt.Sprint(i), fmt.Sprintf("https://h%d.example/", i), false)
		})
		want(t, "added", succeeded(t, errs, errcode.PrefixLimit), 7)
		want(t, "rules", number(t, nodes[0], `SELECT COUNT(*) FROM rules`), 7)
	})
}

// succeeded counts calls without an error; the others must have the code.
func succeeded(t *testing.T, errs []error, otherwise error) (n int) {
	t.Helper()
	for _, err := range errs {
		if err == nil {
			n++
		} else if !errors.Is(err, otherwise) {
			t.Fatal(err)
		}
	}
	return n
}

func TestPublish_QuotaUnderConcurrency(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		const quota = 10
		b := books(nodes, func(s *settings.Settings) { s.PublishQuota = quota })
		owner, other := miniProgram(t, nodes[0], "wxa"), miniProgram(t, nodes[0], "wxb")
		prefix := func(i int) string { return fmt.Sprintf("https://h%d.example/", i) }
		var list []rules.Rule
		for i := range 32 {
			list = append(list, aRule(t, owner.AppID, prefix(i)))
		}
		addRules(t, nodes[0], append(list, aRule(t, other.AppID, prefix(99)))...)

		errs := race(32, func(i int) error { return b[i%2].Publish(t.Context(), owner, prefix(i)) })
		want(t, "published", succeeded(t, errs, errcode.PublishQuota), quota)
		want(t, "rules that are live", number(t, nodes[0], `SELECT COUNT(*) FROM rules WHERE published = 1`), quota)
		want(t, "publishes that are counted", number(t, nodes[0], `SELECT COUNT(*) FROM publishes`), quota)
		left, err := b[1].PublishesLeft(t.Context(), owner)
		require.NoError(t, err)
		want(t, "left", left, 0)
		assert.NoErrorf(t, b[0].Publish(t.Context(), other, prefix(99)), "another account has its own quota")
	})
}

func TestPublish_SameRuleSpendsOneQuota(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := books(nodes, nil)
		owner := miniProgram(t, nodes[0], "wxa")
		addRules(t, nodes[0], aRule(t, owner.AppID, "https://h.example/"))
		errs := race(16, func(i int) error { return b[i%2].Publish(t.Context(), owner, "https://h.example/") })
		want(t, "published", succeeded(t, errs, nil), 16)
		want(t, "publishes that are counted", number(t, nodes[0], `SELECT COUNT(*) FROM publishes`), 1)
		want(t, "changes", number(t, nodes[0], `SELECT COUNT(*) FROM changes WHERE action = 'publish'`), 1)
	})
}

func TestPublish_ConcurrentDeleteAtomic(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := books(nodes, func(s *settings.Settings) { s.PublishQuota = 1 << 20 })
		owner := miniProgram(t, nodes[0], "wxa")
		for round := range 50 {
			prefix := fmt.Sprintf("https://h%d.example/", round)
			addRules(t, nodes[0], aRule(t, owner.AppID, prefix))
			errs := race(2, func(i int) error {
				if i == 0 {
					return b[0].Publish(t.Context(), owner, prefix)
				}
				return b[1].Delete(t.Context(), owner, prefix, "")
			})
			require.True(t, errs[1] == nil && (errs[0] == nil || errors.Is(errs[0], errcode.InvalidArgs)), "%v", errs)
			spent := number(t, nodes[0], `SELECT COUNT(*) FROM publishes WHERE key = $1`, prefix)
			want(t, "a publish is counted exactly if it was answered ok", spent == 1, errs[0] == nil)
		}
		want(t, "rules", number(t, nodes[0], `SELECT COUNT(*) FROM rules`), 0)
	})
}

func TestCounters_ConcurrentIncrements(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
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
		succeeded(t, errs, nil)
		var wanted []int
		for n := range callers * each {
			wanted = append(wanted, n+1)
		}
		want(t, "numbers", slices.Sorted(slices.Values(slices.Concat(got...))), wanted)
	})
}

func TestFirstSealedKey_ConcurrentCreation(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		got := make([]string, 16)
		errs := race(len(got), func(i int) (err error) {
			got[i], err = nodes[i%2].FirstSealedKey(t.Context(), "data", fmt.Sprint("key ", i))
			return err
		})
		succeeded(t, errs, nil)
		want(t, "keys", len(slices.Compact(slices.Sorted(slices.Values(got)))), 1)
	})
}

// Numbers are in the order of commits: who has read up to a number has missed nothing below it. Roll-backs leave no gap.
func TestChangeLog_NumbersInCommitOrder(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
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
						return fmt.Errorf("%d changes are visible, the highest number is %d", count, highest)
					}
					select {
					case <-done:
						return nil
					default:
					}
				}
			}()
		}()
		undone := errors.New("undone")
		errs := race(writers, func(i int) error {
			for n := range each {
				r := aRule(t, "wxa", fmt.Sprintf("https://h%d.example/%d", i, n))
				err := nodes[i%2].update(ctx, func(tx *Tx) (err error) {
					if r, err = tx.rules().AddRule(ctx, r, someone); err == nil && n%3 == 0 {
						return undone
					}
					return err
				})
				switch {
				case n%3 == 0 && errors.Is(err, undone):
					continue
				case err != nil:
					return err
				case n%3 == 1:
					if err := nodes[i%2].update(ctx, func(tx *Tx) error { return tx.rules().DeleteRule(ctx, r, someone) }); err != nil {
						return err
					}
				}
			}
			return nil
		})
		close(done)
		assert.NoError(t, (<-seen))
		succeeded(t, errs, nil)
		want(t, "changes", number(t, nodes[0], `SELECT MAX(seq) FROM changes`), writers*(16+8))
		want(t, "gaps", number(t, nodes[0], `SELECT MAX(seq) - COUNT(*) FROM changes`), 0)
	})
}
