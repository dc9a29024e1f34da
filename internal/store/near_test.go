package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// referenceNearestRules returns the rules near a link with simple queries, which read every rule of the segment and of the path.
func referenceNearestRules(ctx context.Context, t *Tx, link rules.Link, limit int) ([]rules.Rule, error) {
	var near []rules.Rule
	tail := link.Key[len(link.Scheme):]
	for _, scheme := range []string{"http", "https"} {
		for _, side := range []string{`key >= $3 AND key < $4 ORDER BY key`, `key < $3 AND key >= $4 ORDER BY key DESC`} {
			end := scheme + "://"
			if strings.HasPrefix(side, "key >=") {
				end = scheme + ":/0"
			}
			part, err := list(ctx, t, scanRule, `SELECT `+ruleColumns+` FROM rules WHERE host = $1 AND segment = $2 AND `+side+` LIMIT $5`,
				link.Host, link.Segment(), scheme+tail, end, limit)
			if err != nil {
				return nil, err
			}
			near = append(near, part...)
		}
	}
	otherHosts, err := list(ctx, t, scanRule, `SELECT `+ruleColumns+` FROM rules WHERE link_path = $1 AND host <> $2 ORDER BY id LIMIT $3`,
		link.Path(), link.Host, limit)
	return append(near, otherHosts...), err
}

// TestNear_MatchesReferenceOnRandomRules compares NearestRules with referenceNearestRules on random rules and links.
func TestNear_MatchesReferenceOnRandomRules(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	forEachBackend(t, func(t *testing.T, s *Store) {
		r := rand.New(rand.NewPCG(12, 6))
		pick := func(texts ...string) string { return texts[r.IntN(len(texts))] }
		// Bytes before and after "#", "/" and "?", which end a segment.
		text := func() string {
			var link strings.Builder
			link.WriteString(pick("http", "https") + "://" + pick("h.example", "h.example", "h.example", "i.example", "h.example-") +
				pick("/", "/a", "/a", "/a", "/a", "/ab", "/a-", "/a.", "/a0", "/a@", "/a!", "/A", "//a"))
			for range r.IntN(3) {
				link.WriteString(pick("/", "/b", "/b/", "/c", "/a", "/b-"))
			}
			return link.String() + pick("", "", "", "?", "?x=1", "?x=2", "?y", "?/a", "?x=1/2")
		}
		seen := map[string]bool{}
		var all []rules.Rule
		for len(all) < testscope.Select(1500, 600) {
			p, err := rules.ParsePrefix(text()+fmt.Sprint(r.IntN(30)), rules.Ordinary, false)
			if r.IntN(2) == 0 {
				p, err = rules.ParsePrefix(text(), rules.Ordinary, false)
			}
			if err != nil || seen[p.Key] {
				if len(seen) > 0 && r.IntN(5000) == 0 {
					break
				}
				continue
			}
			seen[p.Key] = true
			all = append(all, newRule(t, "wxa", p.Text))
		}
		addRules(t, s, all...)
		links := 0
		for range testscope.Select(250, 70) {
			link, ok := rules.ParseLink(text() + pick("", "", "z", "#f", "%"))
			if !ok {
				continue
			}
			links++
			for _, limit := range []int{1, 3, 100} {
				view(t, s, func(ctx context.Context, tx *Tx) error {
					wanted, err := referenceNearestRules(ctx, tx, link, limit)
					if err != nil {
						return err
					}
					got, err := tx.rules().NearestRules(ctx, link, limit)
					check(t, fmt.Sprintf("NearestRules(%s, %d)", link.Text, limit), mapSlice(got, ruleID), mapSlice(wanted, ruleID))
					return err
				})
			}
		}
		require.True(t, len(all) >= 500 && links >= testscope.Select(200, 50), "%d random rules and %d links are too few", len(all), links)
	})
}

// TestNear_RowsScannedBounded verifies that the queries of NearestRules read rows in proportion to their result when a segment or a path
// has many rules: on PostgreSQL by the number of rows read, on SQLite by the index in the query plan.
func TestNear_RowsScannedBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	forEachBackend(t, func(t *testing.T, s *Store) {
		count := testscope.Select(12_000, 3_000)
		var all []rules.Rule
		for i := range count / 3 {
			all = append(all, newRule(t, "wxa", fmt.Sprintf("https://h.example/a/%05d/", i)), // the same segment
				newRule(t, "wxa", fmt.Sprintf("https://h.example/a?n=%05d", i)),   // the same path and host
				newRule(t, "wxa", fmt.Sprintf("https://%05d.example/a", count-i))) // the same path on other hosts
		}
		addRules(t, s, all...)
		postgres := s.Engine() == "postgres"
		analyzeTables(t, s, "rules")
		if !postgres {
			mustExec(t, s, `ANALYZE rules`)
		}
		const limit, prefix = 100, "https://h.example/a"
		for query, args := range map[string][]any{
			nearbyAbove:        {prefix + "/", prefix + "0", limit},
			nearbyBelow:        {prefix + "?", prefix + "@", limit},
			nearbyOnOtherHosts: {"/a", "h.example", limit, maxNearbyRules},
		} {
			bound := float64(limit)
			if query == nearbyOnOtherHosts {
				bound = maxNearbyRules
			}
			if postgres {
				scanned := countRowsScanned(t, s, query, args...)
				assert.True(t, !(scanned > bound), "%v rows are read, want at most %v: %s", scanned, bound, query)
				continue
			}
			for _, step := range queryPlan(t, s, query, args...) {
				sorted := strings.Contains(step, "TEMP B-TREE") && query != nearbyOnOtherHosts // which sorts at most maxNearbyRules
				assert.True(t, !sorted && !strings.HasPrefix(step, "SCAN rules") && (!strings.HasPrefix(step, "SEARCH rules") ||
					strings.Contains(step, "(key>? AND key<?)") || strings.Contains(step, "idx_rules_link_path_id (link_path=?)")),
					"plan step %q without a bounded index search: %s", step, query)
			}
		}
		link, _ := rules.ParseLink(fmt.Sprintf("https://h.example/a?n=%05dx", count/6))
		view(t, s, func(ctx context.Context, tx *Tx) error {
			near, err := tx.rules().NearestRules(ctx, link, limit)
			assert.Equal(t, len(near), 3*limit, "rules above and below the link, and on other hosts")
			return err
		})
	})
}
