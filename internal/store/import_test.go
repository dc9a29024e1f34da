package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// newPlan returns a plan of n rules of two owners with different prefixes. If change is not nil, it changes each row.
func newPlan(n int, change func(*rules.Planned)) rules.Plan {
	return func() iter.Seq2[rules.Planned, error] {
		return func(yield func(rules.Planned, error) bool) {
			for i := range n {
				p := rules.Planned{Line: i + 1, Owner: "wx" + string("ab"[i%2]), Published: true,
					Draft: rules.Draft{Prefix: fmt.Sprintf("https://h%d.example/%d/", i%100, i), Path: "p", OpenVersion: rules.OpenRelease}}
				if change != nil {
					change(&p)
				}
				if !yield(p, nil) {
					return
				}
			}
		}
	}
}

func isLine1007(p *rules.Planned) bool { return p.Line == 1007 }

func TestImportRules_DryRunFaultsAndCommit(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		const n = 1200
		s, b := nodes[0], newRuleServices(nodes, nil)
		addMiniProgram(t, s, "wxa")
		addMiniProgram(t, s, "wxb")
		ctx := accounts.WithActor(t.Context(), accounts.Actor{ActorID: "admin"})
		start := queryInt(t, s, `SELECT seq FROM audit_log_head`)
		checkNothingStored := func(when string) {
			t.Helper()
			check(t, "rules "+when, queryInt(t, s, `SELECT COUNT(*) FROM rules`), 0)
			check(t, "changes "+when, queryInt(t, s, `SELECT COUNT(*) FROM changes`), start)
		}
		done, err := b[0].Import(ctx, newPlan(n, nil), true)
		check(t, "dry run", done, accounts.Imported{Lines: n, Added: n})
		require.NoError(t, err)
		checkNothingStored("after a dry run")
		for name, change := range map[string]func(*rules.Planned){
			"there is no account \"nobody\"": func(p *rules.Planned) {
				if isLine1007(p) {
					p.Owner = "nobody"
				}
			},
			"the same prefix is on line 2": func(p *rules.Planned) {
				if isLine1007(p) {
					p.Draft.Prefix = "HTTPS://h1.example/1/"
				}
			},
			"the prefix of another account on line 1006 matches the same links": func(p *rules.Planned) {
				switch p.Line {
				case 1006:
					p.Draft.Prefix = "https://h.example/k?"
				case 1007:
					p.Draft.Prefix = "https://h.example/k"
				}
			},
			"not JSON": func(p *rules.Planned) {
				if isLine1007(p) {
					p.Err = errors.New("not JSON")
				}
			},
		} {
			_, err := b[0].Import(ctx, newPlan(n, change), false)
			rowErrors, _ := errors.AsType[accounts.RowErrors](err)
			check(t, name, rowErrors, accounts.RowErrors{{Line: 1007, Reason: name}})
			checkNothingStored(name)
		}
		// A plan that fails while the rules are written.
		reads := 0
		_, err = b[0].Import(ctx, func() iter.Seq2[rules.Planned, error] {
			reads++
			broken := reads == 3
			return func(yield func(rules.Planned, error) bool) {
				for p := range newPlan(n, nil)() {
					if broken && isLine1007(&p) {
						yield(p, os.ErrClosed)
						return
					}
					if !yield(p, nil) {
						return
					}
				}
			}
		}, false)
		assert.True(t, reads >= 3 && errors.Is(err, os.ErrClosed), "Import() = %v after %d reads, want %v", err, reads, os.ErrClosed)
		check(t, "rules after a plan that fails", queryInt(t, s, `SELECT COUNT(*) FROM rules`), 0)
		start = queryInt(t, s, `SELECT COUNT(*) FROM changes`) // with the reserved seq range

		done, err = b[0].Import(ctx, newPlan(n, nil), false)
		check(t, "import", done, accounts.Imported{Lines: n, Added: n})
		require.NoError(t, err)
		check(t, "rules", queryInt(t, s, `SELECT COUNT(*) FROM rules`), n)
		check(t, "rules whose ID is the seq of their change", queryInt(t, s, `SELECT COUNT(*) FROM rules r JOIN changes c
			ON c.seq = r.id AND c.kind = 'rule' AND c.key = r.key AND c.action = 'add' AND c.actor = 'admin'`), n)
		check(t, "publishes", queryInt(t, s, `SELECT COUNT(*) FROM publishes`), 0)
		done, err = b[1].Import(ctx, newPlan(n, nil), false)
		check(t, "repeated import", done, accounts.Imported{Lines: n, Unchanged: n})
		require.NoError(t, err)
		if s.Shared() {
			start += 2 // the reservation and the end of the import
		}
		check(t, "changes after the repeated import", queryInt(t, s, `SELECT COUNT(*) FROM changes`), start+n)
		done, err = b[1].Import(ctx, newPlan(n, func(p *rules.Planned) {
			if p.Line%2 == 0 {
				p.Draft.Path = "other"
			}
		}), false)
		check(t, "import of changes", done, accounts.Imported{Lines: n, Changed: n / 2, Unchanged: n / 2})
		require.NoError(t, err)
		check(t, "changed rules", queryInt(t, s, `SELECT COUNT(*) FROM rules WHERE path = 'other'`), n/2)
		check(t, "changes", queryInt(t, s, `SELECT COUNT(*) FROM changes`), start+n+n/2)
	})
}

// TestImportRules_ChangesLoggedPerBatch verifies that the audit log entries of changed rules are written with each batch of an import, so
// that they do not accumulate in memory.
func TestImportRules_ChangesLoggedPerBatch(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		list := addRules(t, s, newRule(t, "wxa", "https://h.example/1"), newRule(t, "wxa", "https://h.example/2"),
			newRule(t, "wxa", "https://h.example/3"))
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for n := range 4 {
				for _, r := range list {
					r.Path = fmt.Sprint("p", n)
					if err := tx.rules().PutRule(ctx, r, addMeta); err != nil {
						return err
					}
				}
				if err := tx.rules().AddRules(ctx, nil, addMeta); err != nil {
					return err
				}
				check(t, "changes in memory", len(tx.queued), 0)
			}
			return nil
		})
		check(t, "changes", queryInt(t, s, `SELECT COUNT(*) FROM changes`), 3+12)
		checkAuditLog(t, s)
	})
}

// TestImportRules_ExcludesConcurrentAdds races an import that occupies a host with an add below it by another owner. The add succeeds only
// if it is committed first.
func TestImportRules_ExcludesConcurrentAdds(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := newRuleServices(nodes, nil)
		addMiniProgram(t, nodes[0], "wxa")
		owner := addMiniProgram(t, nodes[0], "wxc")
		for round := range 40 {
			host := fmt.Sprintf("https://r%d.example/", round)
			errs := race(2, func(i int) error {
				if i == 0 {
					return addRule(t.Context(), b[1], owner, "r", host+"below/", false)
				}
				plan := newPlan(1, func(p *rules.Planned) { p.Draft.Prefix, p.Draft.Occupy = host, true })
				return assert.ErrorOf(b[0].Import(t.Context(), plan, false))
			})
			require.NoError(t, errs[1])
			ruleID := func(key string) int64 {
				return queryInt(t, nodes[0], `SELECT COALESCE(MAX(id), 0) FROM rules WHERE key = '`+key+`'`)
			}
			above, below := ruleID(host), ruleID(host+"below/")
			require.True(t, (errs[0] == nil) == (below > 0) && below <= above,
				"round %d: error of the add = %v, ID of the rule below = %d, of the occupier = %d", round, errs[0], below, above)
		}
	})
}

// TestImportRules_BareQuestionMark imports prefixes that differ only in a bare "?" at the end, and adds such a prefix for another owner
// after the check of an import.
func TestImportRules_BareQuestionMark(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := newRuleServices(nodes, nil)
		addMiniProgram(t, nodes[0], "wxa")
		account := addMiniProgram(t, nodes[0], "wxb")
		planOf := func(prefixes ...string) rules.Plan {
			return newPlan(len(prefixes), func(p *rules.Planned) { p.Draft.Prefix = prefixes[p.Line-1] })
		}
		// The lines are of wxa and wxb in turn, so that b/ and b/? have different owners.
		done, err := b[0].Import(t.Context(), planOf("https://h.example/a", "https://h.example/b/", "https://h.example/a?",
			"https://h.example/c", "https://h.example/b/?"), false)
		check(t, "prefixes of one owner, or with links below", done, accounts.Imported{Lines: 5, Added: 5})
		require.NoError(t, err)
		reads := 0
		_, err = b[0].Import(t.Context(), func() iter.Seq2[rules.Planned, error] {
			if reads++; reads == 2 { // the check
				require.NoError(t, addRule(t.Context(), b[1], account, "r", "https://h.example/k?", false))
			}
			return planOf("https://h.example/k")()
		}, false)
		rowErrors, _ := errors.AsType[accounts.RowErrors](err)
		check(t, "errors after an add by another owner", len(rowErrors), 1)
		check(t, "rules", queryInt(t, nodes[0], `SELECT COUNT(*) FROM rules WHERE key LIKE '%/k%'`), 1)
	})
}

// TestImportRules_MeasureDuration logs the duration of an import of IMPORT_RULES rules.
func TestImportRules_MeasureDuration(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("IMPORT_RULES"))
	if n == 0 {
		t.Skip("IMPORT_RULES says how many")
	}
	forEachBackend(t, func(t *testing.T, s *Store) {
		b := newRuleServices([2]*Store{s, s}, nil)[0]
		addMiniProgram(t, s, "wxa")
		addMiniProgram(t, s, "wxb")
		for _, name := range []string{"dry run", "import", "repeated import"} {
			began := time.Now()
			done := require.Value(b.Import(context.Background(), newPlan(n, nil), name == "dry run"))(t)
			t.Logf("%s: %+v in %s", name, done, time.Since(began).Round(time.Millisecond))
		}
	})
}
