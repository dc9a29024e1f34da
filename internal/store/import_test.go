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

// planOf is n lines of two owners, each with a prefix of its own.
func planOf(n int, change func(*rules.Planned)) rules.Plan {
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

func at7(p *rules.Planned) bool { return p.Line == 1007 }

func TestImportRules_DryRunFaultsAndCommit(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		const n = 1200
		s, b := nodes[0], books(nodes, nil)
		miniProgram(t, s, "wxa")
		miniProgram(t, s, "wxb")
		ctx := accounts.WithActor(t.Context(), accounts.Actor{ActorID: "admin"})
		start := number(t, s, `SELECT seq FROM audit_log_head`)
		empty := func(when string) {
			t.Helper()
			want(t, "rules "+when, number(t, s, `SELECT COUNT(*) FROM rules`), 0)
			want(t, "changes "+when, number(t, s, `SELECT COUNT(*) FROM changes`), start)
		}
		done, err := b[0].Import(ctx, planOf(n, nil), true)
		want(t, "dry", done, accounts.Imported{Lines: n, Added: n})
		require.NoError(t, err)
		empty("after a dry run")
		for name, change := range map[string]func(*rules.Planned){
			"there is no account \"nobody\"": func(p *rules.Planned) {
				if at7(p) {
					p.Owner = "nobody"
				}
			},
			"the same prefix is on line 2": func(p *rules.Planned) {
				if at7(p) {
					p.Draft.Prefix = "HTTPS://h1.example/1/"
				}
			},
			"not JSON": func(p *rules.Planned) {
				if at7(p) {
					p.Err = errors.New("not JSON")
				}
			},
		} {
			_, err := b[0].Import(ctx, planOf(n, change), false)
			faults, _ := errors.AsType[accounts.RowErrors](err)
			want(t, name, faults, accounts.RowErrors{{Line: 1007, Reason: name}})
			empty(name)
		}
		// A plan that cannot be read to its end, once the writing has begun.
		reads := 0
		_, err = b[0].Import(ctx, func() iter.Seq2[rules.Planned, error] {
			reads++
			broken := reads == 3
			return func(yield func(rules.Planned, error) bool) {
				for p := range planOf(n, nil)() {
					if broken && at7(&p) {
						yield(p, os.ErrClosed)
						return
					}
					if !yield(p, nil) {
						return
					}
				}
			}
		}, false)
		assert.True(t, reads >= 3 && errors.Is(err, os.ErrClosed), "read %d times: %v", reads, err)
		want(t, "rules after a plan that broke off", number(t, s, `SELECT COUNT(*) FROM rules`), 0)
		start = number(t, s, `SELECT COUNT(*) FROM changes`) // the numbers that it was given

		done, err = b[0].Import(ctx, planOf(n, nil), false)
		want(t, "import", done, accounts.Imported{Lines: n, Added: n})
		require.NoError(t, err)
		want(t, "rules", number(t, s, `SELECT COUNT(*) FROM rules`), n)
		want(t, "rules whose number is that of the change that made them", number(t, s, `SELECT COUNT(*) FROM rules r JOIN changes c
			ON c.seq = r.id AND c.kind = 'rule' AND c.key = r.key AND c.action = 'add' AND c.actor = 'admin'`), n)
		want(t, "publishes", number(t, s, `SELECT COUNT(*) FROM publishes`), 0)
		done, err = b[1].Import(ctx, planOf(n, nil), false)
		want(t, "again", done, accounts.Imported{Lines: n, Unchanged: n})
		require.NoError(t, err)
		if s.Shared() {
			start += 2 // numbers are given out, and their rules shown
		}
		want(t, "changes after the same again", number(t, s, `SELECT COUNT(*) FROM changes`), start+n)
		done, err = b[1].Import(ctx, planOf(n, func(p *rules.Planned) {
			if p.Line%2 == 0 {
				p.Draft.Path = "other"
			}
		}), false)
		want(t, "changed", done, accounts.Imported{Lines: n, Changed: n / 2, Unchanged: n / 2})
		require.NoError(t, err)
		want(t, "changed rules", number(t, s, `SELECT COUNT(*) FROM rules WHERE path = 'other'`), n/2)
		want(t, "changes", number(t, s, `SELECT COUNT(*) FROM changes`), start+n+n/2)
	})
}

// An import that only changes rules keeps no more of them in memory than one that adds them, and the log is whole.
func TestImportRules_ChangesLoggedPerBatch(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		list := addRules(t, s, aRule(t, "wxa", "https://h.example/1"), aRule(t, "wxa", "https://h.example/2"),
			aRule(t, "wxa", "https://h.example/3"))
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for n := range 4 {
				for _, r := range list {
					r.Path = fmt.Sprint("p", n)
					if err := tx.rules().PutRule(ctx, r, someone); err != nil {
						return err
					}
				}
				if err := tx.rules().AddRules(ctx, nil, someone); err != nil {
					return err
				}
				want(t, "changes in memory", len(tx.queued), 0)
			}
			return nil
		})
		want(t, "changes", number(t, s, `SELECT COUNT(*) FROM changes`), 3+12)
		done, err := s.VerifyChanges(t.Context())
		assert.True(t, err == nil && done.FirstError == nil, "%+v, %v", done.FirstError, err)
	})
}

// An import and single adds of other owners exclude each other: nothing is added
// below what an import occupies at the same time, unless it came first.
func TestImportRules_ExcludesConcurrentAdds(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := books(nodes, nil)
		miniProgram(t, nodes[0], "wxa")
		other := miniProgram(t, nodes[0], "wxc")
		for round := range 40 {
			host := fmt.Sprintf("https://r%d.example/", round)
			errs := race(2, func(i int) error {
				if i == 0 {
					return add(t.Context(), b[1], other, "r", host+"below/", false)
				}
				_, err := b[0].Import(t.Context(), planOf(1, func(p *rules.Planned) { p.Draft.Prefix, p.Draft.Occupy = host, true }), false)
				return err
			})
			require.NoError(t, errs[1])
			var above, below int64
			query := func(key string) int64 {
				return int64(number(t, nodes[0], `SELECT COALESCE(MAX(id), 0) FROM rules WHERE key = '`+key+`'`))
			}
			above, below = query(host), query(host+"below/")
			require.True(t, (errs[0] == nil) == (below > 0) && below <= above,
				"round %d: %v, the rule below is %d, the one that occupies %d", round, errs[0], below, above)
		}
	})
}

// TestImportRules_MeasureDuration says how long an import of IMPORT_RULES rules takes.
func TestImportRules_MeasureDuration(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("IMPORT_RULES"))
	if n == 0 {
		t.Skip("IMPORT_RULES says how many")
	}
	eachBackend(t, func(t *testing.T, s *Store) {
		b := books([2]*Store{s, s}, nil)[0]
		miniProgram(t, s, "wxa")
		miniProgram(t, s, "wxb")
		for _, what := range []string{"dry", "new", "again"} {
			began := time.Now()
			done, err := b.Import(context.Background(), planOf(n, nil), what == "dry")
			require.NoError(t, err)
			t.Logf("%s: %+v in %s", what, done, time.Since(began).Round(time.Millisecond))
		}
	})
}
