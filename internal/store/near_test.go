package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// nearAsItWas reads the rules near a link as it was done before issue 12, 6: it looks at every rule of the segment and of the path.
func nearAsItWas(ctx context.Context, t *Tx, link rules.Link, each int) ([]rules.Rule, error) {
	var near []rules.Rule
	tail := link.Key[len(link.Scheme):]
	for _, scheme := range []string{"http", "https"} {
		for _, side := range []string{`key >= $3 AND key < $4 ORDER BY key`, `key < $3 AND key >= $4 ORDER BY key DESC`} {
			end := scheme + "://"
			if strings.HasPrefix(side, "key >=") {
				end = scheme + ":/0"
			}
			some, err := list(ctx, t, scanRule, `SELECT `+ruleColumns+` FROM rules WHERE host = $1 AND segment = $2 AND `+side+` LIMIT $5`,
				link.Host, link.Segment(), scheme+tail, end, each)
			if err != nil {
				return nil, err
			}
			near = append(near, some...)
		}
	}
	elsewhere, err := list(ctx, t, scanRule, `SELECT `+ruleColumns+` FROM rules WHERE link_path = $1 AND host <> $2 ORDER BY id LIMIT $3`,
		link.Path(), link.Host, each)
	return append(near, elsewhere...), err
}

// The rules near a link are those that they were, in their order.
func TestNear_MatchesReferenceOnRandomRules(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	eachBackend(t, func(t *testing.T, s *Store) {
		r := rand.New(rand.NewPCG(12, 6))
		pick := func(of ...string) string { return of[r.IntN(len(of))] }
		// Bytes on both sides of "#", "/" and "?", which end a segment or do not.
		text := func() string {
			var at strings.Builder
			at.WriteString(pick("http", "https") + "://" + pick("h.example", "h.example", "h.example", "i.example", "h.example-"))
			at.WriteString(pick("/", "/a", "/a", "/a", "/a", "/ab", "/a-", "/a.", "/a0", "/a@", "/a!", "/A", "//a"))
			for range r.IntN(3) {
				at.WriteString(pick("/", "/b", "/b/", "/c", "/a", "/b-"))
			}
			return at.String() + pick("", "", "", "?", "?x=1", "?x=2", "?y", "?/a", "?x=1/2")
		}
		seen := map[string]bool{}
		var all []rules.Rule
		for len(all) < testscope.Choose(1500, 600) {
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
			all = append(all, aRule(t, "wxa", p.Text))
		}
		addRules(t, s, all...)
		links := 0
		for range testscope.Choose(250, 70) {
			link, ok := rules.ParseLink(text() + pick("", "", "z", "#f", "%"))
			if !ok {
				continue
			}
			links++
			for _, each := range []int{1, 3, 100} {
				view(t, s, func(ctx context.Context, tx *Tx) error {
					wanted, err := nearAsItWas(ctx, tx, link, each)
					if err != nil {
						return err
					}
					got, err := tx.rules().NearestRules(ctx, link, each)
					want(t, fmt.Sprint(link.Text, " at most ", each), idsOf(got), idsOf(wanted))
					return err
				})
			}
		}
		require.True(t, len(all) >= 500 && links >= testscope.Choose(200, 50), "%d rules, %d links", len(all), links)
	})
}

func idsOf(list []rules.Rule) []int64 {
	ids := make([]int64, len(list))
	for i, r := range list {
		ids[i] = r.ID
	}
	return ids
}

// Near asks no more than in proportion to its answer, however many rules a segment or a path has: PostgreSQL counts the rows that it looked
// at, SQLite says that an index leads to them in their order. Issue 12, 6.
func TestNear_RowsScannedBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	eachBackend(t, func(t *testing.T, s *Store) {
		rulesThere := testscope.Choose(12_000, 3_000)
		var all []rules.Rule
		for i := range rulesThere / 3 {
			all = append(all, aRule(t, "wxa", fmt.Sprintf("https://h.example/a/%05d/", i)), // of one segment
				aRule(t, "wxa", fmt.Sprintf("https://h.example/a?n=%05d", i)),        // of one path, on the host
				aRule(t, "wxa", fmt.Sprintf("https://%05d.example/a", rulesThere-i))) // and elsewhere
		}
		addRules(t, s, all...)
		postgres := s.Engine() == "postgres"
		settled(t, s, "rules")
		if !postgres {
			require.NoError(t, assert.ErrorOf(s.write.ExecContext(t.Context(), `ANALYZE rules`)))
		}
		const each = 100
		at := "https://h.example/a"
		for query, args := range map[string][]any{
			nearbyAbove:        {at + "/", at + "0", each},
			nearbyBelow:        {at + "?", at + "@", each},
			nearbyOnOtherHosts: {"/a", "h.example", each, maxNearbyRules},
		} {
			bound := float64(each)
			if query == nearbyOnOtherHosts {
				bound = maxNearbyRules
			}
			if postgres {
				looked := rowsLooked(t, s.read, query, args)
				assert.True(t, !(looked > bound), "it looks at %v rows, at most %v are needed: %s", looked, bound, query)
				continue
			}
			for _, step := range stepsOf(t, s.read, query, args) {
				ordered := strings.Contains(step, "TEMP B-TREE") && query != nearbyOnOtherHosts // there at most maxNearbyRules are sorted
				assert.True(t, !ordered && !strings.HasPrefix(step, "SCAN rules") && (!strings.HasPrefix(step, "SEARCH rules") ||
					strings.Contains(step, "(key>? AND key<?)") || strings.Contains(step, "idx_rules_link_path_id (link_path=?)")),
					"%s: %s", step, query)
			}
		}
		// All that is asked together is bounded too.
		link, _ := rules.ParseLink(fmt.Sprintf("https://h.example/a?n=%05dx", rulesThere/6))
		view(t, s, func(ctx context.Context, tx *Tx) error {
			near, err := tx.rules().NearestRules(ctx, link, each)
			if len(near) != 3*each { // two sides of one scheme, and elsewhere
				t.Errorf("%d rules", len(near))
			}
			return err
		})
	})
}

// rowsLooked is how many rows of a table a query read on PostgreSQL.
func rowsLooked(t *testing.T, db *sql.DB, query string, args []any) (looked float64) {
	t.Helper()
	var text string
	require.NoError(t, db.QueryRowContext(t.Context(), `EXPLAIN (ANALYZE, FORMAT JSON) `+query, args...).Scan(&text))
	type node struct {
		Relation string  `json:"Relation Name"`
		Rows     float64 `json:"Actual Rows"`
		Removed  float64 `json:"Rows Removed by Filter"`
		Plans    []node
	}
	var plans []struct{ Plan node }
	require.NoError(t, json.Unmarshal([]byte(text), &plans))
	var add func(node)
	add = func(n node) {
		if n.Relation != "" {
			looked += n.Rows + n.Removed
		}
		for _, below := range n.Plans {
			add(below)
		}
	}
	add(plans[0].Plan)
	return looked
}

// stepsOf is how SQLite goes about a query.
func stepsOf(t *testing.T, db *sql.DB, query string, args []any) (steps []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+query, args...)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		require.NoError(t, rows.Scan(&id, &parent, &unused, &step))
		steps = append(steps, step)
	}
	return steps
}
