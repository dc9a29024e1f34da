package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// Issue 31, 3: a part of a prefix finds rules, of one owner, of several and of all, in both orders and page by page: the same ones as
// looking at each does.
func TestRuleSearch_BySubstring(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		var all []rules.Rule
		for i := range 60 {
			r := aRule(t, "wx"+string("abc"[i%3]), fmt.Sprintf("https://%s.example/Tea/r%02d/", []string{"shop", "club"}[i%2], i))
			r.Published = i%4 == 0
			all = append(all, r)
		}
		all = addRules(t, s, all...)
		service := rules.Service{Store: s}
		for _, owners := range [][]string{nil, {"wxa"}, {"wxa", "wxc"}, {"nobody"}} {
			for _, part := range []string{"", "CLUB", "tea/R1", "r05", "r_5", "%", "none"} {
				for _, published := range []*bool{nil, new(true), new(false)} {
					for _, newest := range []bool{false, true} {
						var want, got []int64
						for _, r := range all {
							if (owners == nil || slices.Contains(owners, r.Owner)) && (published == nil || r.Published == *published) &&
								strings.Contains(strings.ToLower(r.Prefix.Text), strings.ToLower(part)) {
								want = append(want, r.ID)
							}
						}
						if newest {
							slices.Reverse(want)
						}
						q := rules.Search{Owners: owners, Substring: part, Published: published, Newest: newest, Limit: 4}
						for {
							page, next, err := service.Walk(t.Context(), q)
							require.True(t, err == nil && len(page) <= q.Limit, "%v %v", len(page), err)
							for _, r := range page {
								got = append(got, r.ID)
							}
							if q.From = next; next == 0 {
								break
							}
						}
						assert.True(t, slices.Equal(got, want),
							"owners %q, part %q, newest %v: got %v, want %v", owners, part, newest, got, want)
					}
				}
			}
		}
		for part, want := range map[string]int{"https://SHOP.example/Tea/r0": 5, "shop.example/Tea/r0": 5, "Tea/r07": 1,
			"/Tea/r07/": 1, "ea/r07": 1} {
			list, whole, err := service.Search(t.Context(), rules.Search{Substring: part, Limit: 10})
			assert.True(t, err == nil && len(list) == want && whole, "%q: %d rules, %v, %v", part, len(list), whole, err)
			for _, r := range list {
				assert.True(t, r.Owner != "", "%q: %+v", part, r)
			}
			theirs, _, err := service.Search(t.Context(), rules.Search{Substring: part, Limit: 10, Owners: []string{"wxb"}})
			assert.True(t, err == nil && !slices.ContainsFunc(theirs, func(r rules.Rule) bool { return r.Owner != "wxb" }),
				"%q of one owner: %v %v", part, theirs, err)
		}
	})
}

// What a walk looks at does not grow with the rules: where it ends before the end of them, it says where to go on.
func TestRuleSearch_BoundedWalk(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		var all []rules.Rule
		for i := range 20 {
			all = append(all, aRule(t, "wxa", fmt.Sprintf("https://h.example/%d/", i)))
		}
		all = addRules(t, s, all...)
		view(t, s, func(ctx context.Context, tx *Tx) error {
			list, next, err := tx.rules().Walk(ctx, rules.Search{Substring: "/19/", Limit: 3}, "wxa", 8)
			assert.True(t, err != nil || len(list) == 0 && next == all[7].ID,
				"%d rules, and on after %d, want %d", len(list), next, all[7].ID)
			return err
		})
	})
}

// Issue 31, 3: a part of a prefix finds also one of the oldest of many rules. A search looks at 2,000 rules first and then at 20,000 at a
// time: with TEST_WHOLE the oldest of 45,000 are in its fourth step. A search ends early only after 2 s.
func TestRuleSearch_OldestOfMany(t *testing.T) {
	const step = 5_000
	many := testscope.Choose(9*step, step)
	eachBackend(t, func(t *testing.T, s *Store) {
		for had := 0; had < many; had += step {
			_, err := s.write.ExecContext(t.Context(), `INSERT INTO rules (id, key, kind, owner, target, prefix, path, occupy,
					open_version, test_links, published, created_at, updated_at, published_at, host, segment, link_path) `+series+`
				SELECT n + $2, 'https://h.example/d/' || CAST(n + $2 AS TEXT) || '/x', 'rule', 'wxa', 'wxa',
					'https://h.example/d/' || CAST(n + $2 AS TEXT) || '/x', 'p', 0, 1, 'null', 1, 1, 1, 1, 'h.example', '/d',
					'/d/' || CAST(n + $2 AS TEXT) || '/x' FROM g`, step, had)
			require.NoError(t, err)
		}
		settled(t, s, "rules")
		service := rules.Service{Store: s}
		for _, part := range []string{"D/7/X", "none"} {
			began := time.Now()
			list, all, err := service.Search(t.Context(), rules.Search{Substring: part, Limit: 10})
			t.Logf("%q among %d rules: %d, of all %v, %v", part, many, len(list), all, time.Since(began))
			slow := time.Since(began) >= 2*time.Second // the bound of a search
			assert.True(t, err == nil && (!all || (len(list) == 1) == (part == "D/7/X")) && (all || slow && many != step),
				"%q: %+v, of all %v: %v", part, list, all, err)
		}
	})
}

func TestRecentScans_PerKey(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			if err := tx.statistics().AddScanCounts(ctx, []stats.CountRow{
				{Granularity: stats.PerDay, Bucket: 100, Rule: 7, Tuple: 1, Count: stats.Count{Scans: 2}},
				{Granularity: stats.PerDay, Bucket: 100, Rule: 7, Tuple: 2, Count: stats.Count{Scans: 3}},
				{Granularity: stats.PerDay, Bucket: 101, Rule: 8, Tuple: 1, Count: stats.Count{Scans: 9}}}); err != nil {
				return err
			}
			if err := tx.statistics().NameOwners(ctx, []string{"wxa"}); err != nil {
				return err
			}
			return tx.statistics().AddSums(ctx, []stats.SumRow{
				{Granularity: stats.PerDay, Dimension: stats.Owner, Bucket: 100, Value: "wxa", Count: stats.Count{Scans: 5}}})
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.statistics().DaysOfRules(ctx, []int64{99, 100, 101}, []int64{7, 9})
			distant, errDistant := tx.statistics().DaysOfRules(ctx, []int64{99, 100, 101}, []int64{7, 9_000})
			if err == nil && errDistant == nil {
				want(t, "rules", got, []stats.DayCount[int64]{{Key: 7, Bucket: 100, Scans: 5}})
				want(t, "rules with distant IDs", distant, got)
			}
			of, errOf := tx.statistics().DaysOfOwners(ctx, []int64{100}, []string{"wxa", "wxb"})
			want(t, "owners", of, []stats.DayCount[string]{{Key: "wxa", Bucket: 100, Scans: 5}})
			if err == nil {
				err = cmp.Or(errDistant, errOf)
			}
			return err
		})
	})
}
