package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// wantCounted holds what is counted against the rows.
func wantCounted(t *testing.T, s *Store, when string) {
	t.Helper()
	assert.NoErrorf(t, s.Snapshot(t.Context(), func(p *Snapshot) error { return p.CheckCounts(t.Context()) }), "%s", when)
}

// aServiceRule is a rule of a service account that says little.
func aServiceRule(t *testing.T, owner, target, prefix string) rules.Rule {
	t.Helper()
	return rules.Rule{Kind: rules.KindService, Owner: owner, Target: target, Prefix: prefixOf(t, prefix, rules.KindService), Path: "p",
		CreatedAt: at, UpdatedAt: at}
}

// someRules are n rules of an ordinary owner, and as many of a service account for every third Mini Program.
func someRules(t *testing.T, n int) (list []rules.Rule) {
	t.Helper()
	for i := range n {
		list = append(list, aRule(t, "wxa", fmt.Sprintf("https://a.example/%06d", i)),
			aServiceRule(t, "wxs", fmt.Sprintf("wxm%d", i%3), fmt.Sprintf("http://weixin.qq.com/q/%06d", i)))
	}
	return list
}

// importMany stores many rules at once.
func importMany(t *testing.T, s *Store, list []rules.Rule) {
	t.Helper()
	update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().AddRules(ctx, slices.Clone(list), someone) })
}

// allPages are an owner's rules page by page, and their total.
func allPages(t *testing.T, s *Store, q rules.Query, size int) (ids []int64) {
	t.Helper()
	for q.Limit, q.Offset = size, 0; ; q.Offset += size {
		var page []rules.Rule
		var total int
		view(t, s, func(ctx context.Context, tx *Tx) (err error) {
			page, total, err = tx.rules().List(ctx, q)
			return err
		})
		for _, r := range page {
			ids = append(ids, r.ID)
		}
		if len(page) < size {
			want(t, "total", total, len(ids))
			return ids
		}
	}
}

func TestRuleCounts_MatchRows(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		wantCounted(t, s, "empty")
		importMany(t, s, someRules(t, 2500))
		wantCounted(t, s, "after an import")
		list := addRules(t, s, aRule(t, "wxb", "https://b.example/"), aRule(t, "wxa", "https://a.example/x"),
			aServiceRule(t, "wxs", "wxm0", "http://weixin.qq.com/q/x"))
		wantCounted(t, s, "after adds")
		first := list[0].ID - 5000
		update(t, s, func(ctx context.Context, tx *Tx) error {
			// The whole of a piece, and some of all others.
			rows, err := scanAll(ctx, tx, `WHERE id < $1 OR id % 7 = 0`, first+2100)
			for _, r := range rows {
				if err := tx.rules().DeleteRule(ctx, r, someone); err != nil {
					return err
				}
			}
			return err
		})
		wantCounted(t, s, "after deletes")
		update(t, s, func(ctx context.Context, tx *Tx) error {
			rows, err := scanAll(ctx, tx, `WHERE owner = $1 AND id % 5 = 0`, "wxs")
			for _, r := range rows {
				r.Target = "wxm1"
				if err := tx.rules().PutRule(ctx, r, someone); err != nil {
					return err
				}
			}
			return err
		})
		wantCounted(t, s, "after edits")
		addRules(t, s, aRule(t, "wxa", "https://a.example/y"), aServiceRule(t, "wxs", "wxm0", "http://weixin.qq.com/q/y"))
		wantCounted(t, s, "after another add")
		for _, q := range []rules.Query{{Owner: "wxa"}, {Owner: "wxa", Target: "wxa"}, {Owner: "wxs"}, {Owner: "wxs", Target: "wxm0"},
			{Owner: "wxs", Target: "wxm1"}, {Owner: "wxb"}, {Owner: "wxnobody"}} {
			ids := numbers(t, s, fmt.Sprintf(`SELECT id FROM rules WHERE owner = '%s' AND ('%s' = '' OR target = '%[2]s') ORDER BY id`,
				q.Owner, q.Target))
			want(t, fmt.Sprintf("pages of %+v", q), allPages(t, s, q, 199), ids)
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			owned, err := tx.rules().CountOwned(ctx, "wxs")
			want(t, "owned", int64(owned), number(t, s, `SELECT COUNT(*) FROM rules WHERE owner = 'wxs'`))
			if err != nil {
				return err
			}
			targeted, err := tx.rules().CountTargeted(ctx, "wxm1")
			want(t, "targeted", int64(targeted), number(t, s, `SELECT COUNT(*) FROM rules WHERE target = 'wxm1'`))
			return err
		})
		require.NoError(t, s.Reset(t.Context()))
		wantCounted(t, s, "after a reset")
		want(t, "rows that count", number(t, s, `SELECT (SELECT COUNT(*) FROM rule_counts) + (SELECT COUNT(*) FROM rule_page_buckets)`), 0)
	})
}

// scanAll reads the rules that where finds.
func scanAll(ctx context.Context, t *Tx, where string, args ...any) ([]rules.Rule, error) {
	return list(ctx, t, scanRule, `SELECT `+ruleColumns+` FROM rules `+where, args...)
}

// A wrong count is believed: nobody looks at the rules.
func TestRuleCounts_ReadFromCounter(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		importMany(t, s, someRules(t, 1500))
		update(t, s, func(ctx context.Context, tx *Tx) error {
			if err := tx.rules().AddPublish(ctx, "wxa", "k", at); err != nil {
				return err
			}
			for _, query := range []string{`UPDATE rule_counts SET rules = rules + 1000000`,
				`UPDATE publish_counts SET publishes = publishes + 1000000`,
				`UPDATE rule_page_buckets SET rules = rules + 1000000 WHERE first_id = (SELECT MIN(first_id) FROM rule_page_buckets)`} {
				if _, err := tx.exec(ctx, query); err != nil {
					return err
				}
			}
			return nil
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			owned, err := tx.rules().CountOwned(ctx, "wxa")
			if want(t, "owned", owned, 1_001_500); err != nil {
				return err
			}
			targeted, err := tx.rules().CountTargeted(ctx, "wxm0")
			if want(t, "targeted", targeted, 1_000_500); err != nil {
				return err
			}
			_, total, err := tx.rules().List(ctx, rules.Query{Owner: "wxs", Target: "wxm0", Limit: 1})
			if want(t, "total", total, 1_000_500); err != nil {
				return err
			}
			spent, err := tx.rules().PublishesSince(ctx, "wxa", at.Truncate(time.Hour))
			if want(t, "publishes", spent, 1_000_001); err != nil {
				return err
			}
			found, err := tx.rules().Publishing(ctx, "wxa", prefixOf(t, "https://a.example/000001", rules.Ordinary).Link,
				at.Truncate(time.Hour))
			if want(t, "publishes beside a rule", found.Spent, 1_000_001); err != nil && !errors.Is(err, rules.ErrNoRule) {
				return err
			}
			// The second piece begins at a million and some.
			page, _, err := tx.rules().List(ctx, rules.Query{Owner: "wxa", Offset: 1_001_024, Limit: 1, NoTotal: true})
			assert.True(t, len(page) == 1 && page[0].Prefix.Text == "https://a.example/001024",
				"a page after a million rules that are said to be in the first piece: %+v", page)
			return err
		})
	})
}

func TestRuleList_PageCostConstant(t *testing.T) {
	if testing.Short() {
		t.Skip("reads plans, which are the same in every run")
	}
	s := open(t, newPostgres(t))
	looked := func(of string) (rows int64) {
		t.Helper()
		// What the connection read in the last second, in other transactions too, is counted in.
		rowsRead := func(ctx context.Context, tx *Tx) (rows int64, err error) {
			err = tx.row(ctx, `SELECT COALESCE(SUM(seq_tup_read + COALESCE(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_xact_user_tables
				WHERE schemaname = current_schema()`).Scan(&rows)
			return rows, err
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			before, err := rowsRead(ctx, tx)
			if err != nil {
				return err
			}
			for _, q := range []rules.Query{{Owner: "wxs", Limit: 200}, {Owner: "wxs", Target: "wxm0", Limit: 200},
				{Owner: "wxs", Limit: 200, Offset: 200}} {
				if _, _, err := tx.rules().List(ctx, q); err != nil {
					return err
				}
			}
			if _, err := tx.rules().CountOwned(ctx, "wxs"); err != nil {
				return err
			}
			if _, err := tx.rules().CountTargeted(ctx, "wxm0"); err != nil {
				return err
			}
			if _, err := tx.rules().PublishesSince(ctx, "wxs", at.Add(-time.Hour)); err != nil {
				return err
			}
			rows, err = rowsRead(ctx, tx)
			rows -= before
			return err
		})
		t.Log(of, rows)
		return rows
	}
	list := someRules(t, 6000)
	fill := func(some []rules.Rule) {
		importMany(t, s, some)
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for i := range some {
				if err := tx.rules().AddPublish(ctx, "wxs", "k", at.Add(-time.Duration(i)*time.Millisecond)); err != nil {
					return err
				}
			}
			return nil
		})
		settled(t, s)
	}
	fill(list[:1200])
	looked("of 600 rules")
	fill(list[1200:])
	// Three pages, each after at most a piece of the rules, and the rows that count.
	const most = 3*(200+1024) + 100
	many := looked("of 6,000 rules")
	assert.True(t, many <= most, "%d rows of 6,000 rules, want at most %d", many, most)
}

// A database that was filled past the product has ids far from those of its changes.
func TestRuleCounts_SparseIDs(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		importMany(t, s, someRules(t, 2000))
		update(t, s, func(ctx context.Context, tx *Tx) error {
			_, err := tx.exec(ctx, `UPDATE rule_page_buckets SET first_id = first_id + 1000000`)
			if err == nil {
				_, err = tx.exec(ctx, `UPDATE rules SET id = id + 1000000`)
			}
			return err
		})
		wantCounted(t, s, "moved")
		for i := range 5 {
			addRules(t, s, aRule(t, "wxa", fmt.Sprint("https://c.example/", i)),
				aServiceRule(t, "wxs", "wxm0", fmt.Sprint("http://weixin.qq.com/q/c", i)))
		}
		wantCounted(t, s, "after adds")
		ids := numbers(t, s, `SELECT id FROM rules WHERE owner = 'wxa' ORDER BY id`)
		want(t, "pages", allPages(t, s, rules.Query{Owner: "wxa"}, 100), ids)
	})
}

func TestRuleCounts_ConcurrentChanges(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := books(nodes, nil)
		owner := miniProgram(t, nodes[0], "wxa")
		errs := race(8, func(i int) error {
			for n := range 12 {
				prefix := fmt.Sprintf("https://h%d.example/%d", i, n)
				if err := add(t.Context(), b[i%2], owner, "r", prefix, false); err != nil {
					return err
				}
				if n%3 == 0 {
					if err := b[(i+1)%2].Delete(t.Context(), owner, prefix, ""); err != nil {
						return err
					}
				} else if err := b[i%2].Publish(t.Context(), owner, prefix); err != nil && !errors.Is(err, errcode.PublishQuota) {
					return err
				}
			}
			return nil
		})
		require.NoError(t, errors.Join(errs...))
		wantCounted(t, nodes[1], "after all")
		want(t, "rules", number(t, nodes[0], `SELECT rules FROM rule_counts WHERE owner = 'wxa' AND target = ''`), 8*8)
	})
}

// Service accounts that share a Mini Program lock different things.
func TestRuleCounts_ConcurrentServiceAccounts(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		errs := race(8, func(i int) error {
			for n := range 10 {
				rule := aServiceRule(t, fmt.Sprintf("wxs%d", i%2), fmt.Sprintf("wxm%d", i/4),
					fmt.Sprintf("http://weixin.qq.com/q/%d-%d", i, n))
				err := nodes[i%2].update(t.Context(), func(tx *Tx) (err error) {
					rule, err = tx.rules().AddRule(t.Context(), rule, someone)
					return err
				})
				if err != nil {
					return err
				}
				err = nodes[(i+1)%2].update(t.Context(), func(tx *Tx) error {
					if n%2 == 0 {
						return tx.rules().DeleteRule(t.Context(), rule, someone)
					}
					other := rule
					other.Target = "wxm" + strings.Repeat("x", n%4)
					return tx.rules().PutRule(t.Context(), other, someone)
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		require.NoError(t, errors.Join(errs...))
		wantCounted(t, nodes[0], "after all")
	})
}

func TestRuleCounts_AfterLoad(t *testing.T) {
	eachCopy(t, func(t *testing.T, target Target) {
		s := open(t, newEmbedded(t))
		importMany(t, s, someRules(t, 1100))
		into := open(t, target)
		require.NoError(t, load(t, into, rowsOf(t, s)))
		wantCounted(t, into, "after an archive was loaded")
		want(t, "rules", number(t, into, `SELECT COALESCE(SUM(rules), 0) FROM rule_counts WHERE target = ''`), 2200)
	})
}

func TestRuleCounts_MismatchDetected(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		for _, wrong := range []string{`UPDATE rule_counts SET rules = rules + 1 WHERE owner = 'wxa'`, `DELETE FROM rule_counts WHERE owner = ''`,
			`UPDATE rule_page_buckets SET rules = rules + 1 WHERE target = 'wxm1'`, `UPDATE publish_counts SET publishes = 5`,
			`INSERT INTO rule_counts (owner, target, rules) VALUES ('wxnobody', '', 1)`,
			`INSERT INTO publish_counts (owner, hour, publishes) VALUES ('wxnobody', 1, 1)`, `DELETE FROM rule_page_buckets WHERE target = ''`,
			`UPDATE rule_page_buckets SET first_id = first_id + 3 WHERE target = ''`} {
			require.NoError(t, s.Reset(t.Context()))
			importMany(t, s, someRules(t, 10))
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().AddPublish(ctx, "wxa", "k", at) })
			wantCounted(t, s, "before")
			update(t, s, func(ctx context.Context, tx *Tx) error {
				_, err := tx.exec(ctx, wrong)
				return err
			})
			err := s.Snapshot(t.Context(), func(p *Snapshot) error { return p.CheckCounts(t.Context()) })
			assert.True(t, err != nil, "not found: %s", wrong)
		}
	})
}
