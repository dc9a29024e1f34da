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

// TestRuleSearch_BySubstring compares searches by owners, substring and state, in both orders and page by page, with a filter of all rules.
func TestRuleSearch_BySubstring(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		var all []rules.Rule
		for i := range 60 {
			r := newRule(t, "wx"+string("abc"[i%3]), fmt.Sprintf("https://%s.example/Tea/r%02d/", []string{"shop", "club"}[i%2], i))
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
							require.True(t, err == nil && len(page) <= q.Limit,
								"Walk() = %d rules, %v, want at most %d", len(page), err, q.Limit)
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
			list, complete, err := service.Search(t.Context(), rules.Search{Substring: part, Limit: 10})
			assert.True(t, err == nil && len(list) == want && complete,
				"Search(%q) = %d rules, %v, %v, want %d", part, len(list), complete, err, want)
			for _, r := range list {
				assert.True(t, r.Owner != "", "Search(%q) returns %+v without an owner", part, r)
			}
			ofOwner, _, err := service.Search(t.Context(), rules.Search{Substring: part, Limit: 10, Owners: []string{"wxb"}})
			assert.True(t, err == nil && !slices.ContainsFunc(ofOwner, func(r rules.Rule) bool { return r.Owner != "wxb" }),
				"Search(%q) of wxb = %v, %v", part, ofOwner, err)
		}
	})
}

// TestRuleSearch_BoundedWalk verifies that a walk reads a limited number of rules and returns the ID at which the next one continues.
func TestRuleSearch_BoundedWalk(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		var all []rules.Rule
		for i := range 20 {
			all = append(all, newRule(t, "wxa", fmt.Sprintf("https://h.example/%d/", i)))
		}
		all = addRules(t, s, all...)
		view(t, s, func(ctx context.Context, tx *Tx) error {
			list, next, err := tx.rules().Walk(ctx, rules.Search{Substring: "/19/", Limit: 3}, "wxa", 8)
			assert.True(t, err != nil || len(list) == 0 && next == all[7].ID,
				"Walk() = %d rules, next %d, want none, next %d", len(list), next, all[7].ID)
			return err
		})
	})
}

// TestRuleSearch_OldestOfMany searches one of the oldest of many rules. A search reads 2,000 rules, then 20,000 at a time: with TEST_WHOLE
// the oldest of 45,000 are in its fourth step. A search ends early only after 2 s.
func TestRuleSearch_OldestOfMany(t *testing.T) {
	const step = 5_000
	total := testscope.Select(9*step, step)
	forEachBackend(t, func(t *testing.T, s *Store) {
		for stored := 0; stored < total; stored += step {
			mustExec(t, s, `INSERT INTO rules (id, key, kind, owner, target, prefix, path, occupy,
					open_version, test_links, published, created_at, updated_at, published_at, host, segment, link_path) `+numberSeries+`
				SELECT n + $2, 'https://h.example/d/' || CAST(n + $2 AS TEXT) || '/x', 'rule', 'wxa', 'wxa',
					'https://h.example/d/' || CAST(n + $2 AS TEXT) || '/x', 'p', 0, 1, 'null', 1, 1, 1, 1, 'h.example', '/d',
					'/d/' || CAST(n + $2 AS TEXT) || '/x' FROM g`, step, stored)
		}
		analyzeTables(t, s, "rules")
		service := rules.Service{Store: s}
		for _, part := range []string{"D/7/X", "none"} {
			began := time.Now()
			list, complete, err := service.Search(t.Context(), rules.Search{Substring: part, Limit: 10})
			t.Logf("%q in %d rules: %d found, complete: %v, %v", part, total, len(list), complete, time.Since(began))
			timeout := time.Since(began) >= 2*time.Second
			assert.True(t, err == nil && (!complete || (len(list) == 1) == (part == "D/7/X")) && (complete || timeout && total != step),
				"Search(%q) = %+v, %v, %v", part, list, complete, err)
		}
	})
}

func TestRecentScans_PerKey(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
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
				check(t, "rules", got, []stats.DayCount[int64]{{Key: 7, Bucket: 100, Scans: 5}})
				check(t, "rules with distant IDs", distant, got)
			}
			owners, errOwners := tx.statistics().DaysOfOwners(ctx, []int64{100}, []string{"wxa", "wxb"})
			check(t, "owners", owners, []stats.DayCount[string]{{Key: "wxa", Bucket: 100, Scans: 5}})
			if err == nil {
				err = cmp.Or(errDistant, errOwners)
			}
			return err
		})
	})
}
