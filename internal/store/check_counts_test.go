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

// checkCounts reports an error if a stored count differs from the number of rows.
func checkCounts(t *testing.T, s *Store, when string) {
	t.Helper()
	assert.NoErrorf(t, s.Snapshot(t.Context(), func(p *Snapshot) error { return p.CheckCounts(t.Context()) }), "CheckCounts() %s", when)
}

func newServiceRule(t *testing.T, owner, target, prefix string) rules.Rule {
	t.Helper()
	return rules.Rule{Kind: rules.KindService, Owner: owner, Target: target, Prefix: parsePrefix(t, prefix, rules.KindService), Path: "p",
		CreatedAt: t0, UpdatedAt: t0}
}

// newRules returns n ordinary rules of an owner, and n rules of a service account that open one of three Mini Programs.
func newRules(t *testing.T, n int) (list []rules.Rule) {
	t.Helper()
	for i := range n {
		list = append(list, newRule(t, "wxa", fmt.Sprintf("https://a.example/%06d", i)),
			newServiceRule(t, "wxs", fmt.Sprintf("wxm%d", i%3), fmt.Sprintf("http://weixin.qq.com/q/%06d", i)))
	}
	return list
}

func bulkAddRules(t *testing.T, s *Store, list []rules.Rule) {
	t.Helper()
	update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().AddRules(ctx, slices.Clone(list), addMeta) })
}

// listAllPages returns the IDs of the rules that a query finds, page by page, and checks the total.
func listAllPages(t *testing.T, s *Store, q rules.Query, size int) (ids []int64) {
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
			check(t, "total", total, len(ids))
			return ids
		}
	}
}

func TestRuleCounts_MatchRows(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		checkCounts(t, s, "empty")
		bulkAddRules(t, s, newRules(t, 2500))
		checkCounts(t, s, "after an import")
		list := addRules(t, s, newRule(t, "wxb", "https://b.example/"), newRule(t, "wxa", "https://a.example/x"),
			newServiceRule(t, "wxs", "wxm0", "http://weixin.qq.com/q/x"))
		checkCounts(t, s, "after adds")
		first := list[0].ID - 5000
		update(t, s, func(ctx context.Context, tx *Tx) error {
			// All rules of a page bucket and some of the others.
			rows, err := queryRules(ctx, tx, `WHERE id < $1 OR id % 7 = 0`, first+2100)
			for _, r := range rows {
				if err := tx.rules().DeleteRule(ctx, r, addMeta); err != nil {
					return err
				}
			}
			return err
		})
		checkCounts(t, s, "after deletes")
		update(t, s, func(ctx context.Context, tx *Tx) error {
			rows, err := queryRules(ctx, tx, `WHERE owner = $1 AND id % 5 = 0`, "wxs")
			for _, r := range rows {
				r.Target = "wxm1"
				if err := tx.rules().PutRule(ctx, r, addMeta); err != nil {
					return err
				}
			}
			return err
		})
		checkCounts(t, s, "after edits")
		addRules(t, s, newRule(t, "wxa", "https://a.example/y"), newServiceRule(t, "wxs", "wxm0", "http://weixin.qq.com/q/y"))
		checkCounts(t, s, "after another add")
		for _, q := range []rules.Query{{Owner: "wxa"}, {Owner: "wxa", Target: "wxa"}, {Owner: "wxs"}, {Owner: "wxs", Target: "wxm0"},
			{Owner: "wxs", Target: "wxm1"}, {Owner: "wxb"}, {Owner: "wxnobody"}} {
			ids := queryColumn[int64](t, s,
				fmt.Sprintf(`SELECT id FROM rules WHERE owner = '%s' AND ('%s' = '' OR target = '%[2]s') ORDER BY id`,
					q.Owner, q.Target))
			check(t, fmt.Sprintf("pages of %+v", q), listAllPages(t, s, q, 199), ids)
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			owned, err := tx.rules().CountOwned(ctx, "wxs")
			check(t, "owned", int64(owned), queryInt(t, s, `SELECT COUNT(*) FROM rules WHERE owner = 'wxs'`))
			if err != nil {
				return err
			}
			targeted, err := tx.rules().CountTargeted(ctx, "wxm1")
			check(t, "targeted", int64(targeted), queryInt(t, s, `SELECT COUNT(*) FROM rules WHERE target = 'wxm1'`))
			return err
		})
		require.NoError(t, s.Reset(t.Context()))
		checkCounts(t, s, "after a reset")
		check(t, "counts", queryInt(t, s, `SELECT (SELECT COUNT(*) FROM rule_counts) + (SELECT COUNT(*) FROM rule_page_buckets)`), 0)
	})
}

// queryRules returns the rules of a WHERE clause.
func queryRules(ctx context.Context, t *Tx, where string, args ...any) ([]rules.Rule, error) {
	return list(ctx, t, scanRule, `SELECT `+ruleColumns+` FROM rules `+where, args...)
}

// TestRuleCounts_ReadFromCounter verifies, with wrong counts, that counts are not computed from the rules.
func TestRuleCounts_ReadFromCounter(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		bulkAddRules(t, s, newRules(t, 1500))
		update(t, s, func(ctx context.Context, tx *Tx) error {
			if err := tx.rules().AddPublish(ctx, "wxa", "k", t0); err != nil {
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
			if check(t, "owned", owned, 1_001_500); err != nil {
				return err
			}
			targeted, err := tx.rules().CountTargeted(ctx, "wxm0")
			if check(t, "targeted", targeted, 1_000_500); err != nil {
				return err
			}
			_, total, err := tx.rules().List(ctx, rules.Query{Owner: "wxs", Target: "wxm0", Limit: 1})
			if check(t, "total", total, 1_000_500); err != nil {
				return err
			}
			spent, err := tx.rules().PublishesSince(ctx, "wxa", t0.Truncate(time.Hour))
			if check(t, "publishes", spent, 1_000_001); err != nil {
				return err
			}
			found, err := tx.rules().Publishing(ctx, "wxa", parsePrefix(t, "https://a.example/000001", rules.Ordinary).Link,
				t0.Truncate(time.Hour))
			if check(t, "publishes read with a rule", found.Spent, 1_000_001); err != nil && !errors.Is(err, rules.ErrNoRule) {
				return err
			}
			// The second bucket begins after the wrong count of the first.
			page, _, err := tx.rules().List(ctx, rules.Query{Owner: "wxa", Offset: 1_001_024, Limit: 1, NoTotal: true})
			assert.True(t, len(page) == 1 && page[0].Prefix.Text == "https://a.example/001024",
				"page after the wrong count of the first bucket = %+v", page)
			return err
		})
	})
}

func TestRuleList_PageCostConstant(t *testing.T) {
	if testing.Short() {
		t.Skip("reads plans, which are the same in every run")
	}
	s := open(t, newPostgres(t))
	countRead := func(name string) (rows int64) {
		t.Helper()
		// PostgreSQL includes rows that other transactions of the connection read in the last second.
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
			if _, err := tx.rules().PublishesSince(ctx, "wxs", t0.Add(-time.Hour)); err != nil {
				return err
			}
			rows, err = rowsRead(ctx, tx)
			rows -= before
			return err
		})
		t.Log(name, rows)
		return rows
	}
	list := newRules(t, 6000)
	add := func(list []rules.Rule) {
		bulkAddRules(t, s, list)
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for i := range list {
				if err := tx.rules().AddPublish(ctx, "wxs", "k", t0.Add(-time.Duration(i)*time.Millisecond)); err != nil {
					return err
				}
			}
			return nil
		})
		analyzeTables(t, s)
	}
	add(list[:1200])
	countRead("rows read with 600 rules")
	add(list[1200:])
	// Three pages, each with at most one page bucket before it, and the counts.
	const limit = 3*(200+1024) + 100
	rows := countRead("rows read with 6,000 rules")
	assert.True(t, rows <= limit, "%d rows are read with 6,000 rules, want at most %d", rows, limit)
}

// TestRuleCounts_SparseIDs uses rule IDs that are not seqs of their changes, as in a database that another program filled.
func TestRuleCounts_SparseIDs(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		bulkAddRules(t, s, newRules(t, 2000))
		update(t, s, func(ctx context.Context, tx *Tx) error {
			_, err := tx.exec(ctx, `UPDATE rule_page_buckets SET first_id = first_id + 1000000`)
			if err == nil {
				_, err = tx.exec(ctx, `UPDATE rules SET id = id + 1000000`)
			}
			return err
		})
		checkCounts(t, s, "moved")
		for i := range 5 {
			addRules(t, s, newRule(t, "wxa", fmt.Sprint("https://c.example/", i)),
				newServiceRule(t, "wxs", "wxm0", fmt.Sprint("http://weixin.qq.com/q/c", i)))
		}
		checkCounts(t, s, "after adds")
		ids := queryColumn[int64](t, s, `SELECT id FROM rules WHERE owner = 'wxa' ORDER BY id`)
		check(t, "pages", listAllPages(t, s, rules.Query{Owner: "wxa"}, 100), ids)
	})
}

func TestRuleCounts_ConcurrentChanges(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := newRuleServices(nodes, nil)
		owner := addMiniProgram(t, nodes[0], "wxa")
		errs := race(8, func(i int) error {
			for n := range 12 {
				prefix := fmt.Sprintf("https://h%d.example/%d", i, n)
				if err := addRule(t.Context(), b[i%2], owner, "r", prefix, false); err != nil {
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
		checkCounts(t, nodes[1], "after the changes")
		check(t, "rules", queryInt(t, nodes[0], `SELECT rules FROM rule_counts WHERE owner = 'wxa' AND target = ''`), 8*8)
	})
}

// TestRuleCounts_ConcurrentServiceAccounts changes rules of service accounts that open the same Mini Programs, under different locks.
func TestRuleCounts_ConcurrentServiceAccounts(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		errs := race(8, func(i int) error {
			for n := range 10 {
				rule := newServiceRule(t, fmt.Sprintf("wxs%d", i%2), fmt.Sprintf("wxm%d", i/4),
					fmt.Sprintf("http://weixin.qq.com/q/%d-%d", i, n))
				err := nodes[i%2].update(t.Context(), func(tx *Tx) (err error) {
					rule, err = tx.rules().AddRule(t.Context(), rule, addMeta)
					return err
				})
				if err != nil {
					return err
				}
				err = nodes[(i+1)%2].update(t.Context(), func(tx *Tx) error {
					if n%2 == 0 {
						return tx.rules().DeleteRule(t.Context(), rule, addMeta)
					}
					changed := rule
					changed.Target = "wxm" + strings.Repeat("x", n%4)
					return tx.rules().PutRule(t.Context(), changed, addMeta)
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		require.NoError(t, errors.Join(errs...))
		checkCounts(t, nodes[0], "after the changes")
	})
}

func TestRuleCounts_AfterLoad(t *testing.T) {
	forEachDatabase(t, func(t *testing.T, target Target) {
		s := open(t, newEmbedded(t))
		bulkAddRules(t, s, newRules(t, 1100))
		into := open(t, target)
		require.NoError(t, loadTables(t, into, exportTables(t, s)))
		checkCounts(t, into, "after an archive was loaded")
		check(t, "rules", queryInt(t, into, `SELECT COALESCE(SUM(rules), 0) FROM rule_counts WHERE target = ''`), 2200)
	})
}

func TestRuleCounts_MismatchDetected(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		for _, wrong := range []string{`UPDATE rule_counts SET rules = rules + 1 WHERE owner = 'wxa'`,
			`DELETE FROM rule_counts WHERE owner = ''`,
			`UPDATE rule_page_buckets SET rules = rules + 1 WHERE target = 'wxm1'`, `UPDATE publish_counts SET publishes = 5`,
			`INSERT INTO rule_counts (owner, target, rules) VALUES ('wxnobody', '', 1)`,
			`INSERT INTO publish_counts (owner, hour, publishes) VALUES ('wxnobody', 1, 1)`,
			`DELETE FROM rule_page_buckets WHERE target = ''`,
			`UPDATE rule_page_buckets SET first_id = first_id + 3 WHERE target = ''`} {
			require.NoError(t, s.Reset(t.Context()))
			bulkAddRules(t, s, newRules(t, 10))
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().AddPublish(ctx, "wxa", "k", t0) })
			checkCounts(t, s, "before")
			update(t, s, func(ctx context.Context, tx *Tx) error {
				_, err := tx.exec(ctx, wrong)
				return err
			})
			err := s.Snapshot(t.Context(), func(p *Snapshot) error { return p.CheckCounts(t.Context()) })
			assert.True(t, err != nil, "CheckCounts() = nil after %s", wrong)
		}
	})
}
