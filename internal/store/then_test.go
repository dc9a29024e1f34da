package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// addRuleHistory adds audit log entries of rules with the given times.
func addRuleHistory(t *testing.T, s *Store, keys []string, times []int64) {
	t.Helper()
	update(t, s, func(ctx context.Context, tx *Tx) error {
		for i, moment := range times {
			key := keys[i%len(keys)]
			record := ruleRecord{Kind: rules.Ordinary, Owner: "wxa", Target: "wxa", Prefix: key, Path: fmt.Sprint(i), OpenVersion: 3}
			if err := tx.noteAt(ctx, time.UnixMilli(moment), ofRule, key, "change", record); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestRulesAsOf_MatchesFullReplay compares RulesAsOf with a query of all changes, whose times are not always in order.
func TestRulesAsOf_MatchesFullReplay(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		r := rand.New(rand.NewPCG(14, 5))
		keys := []string{"https://h.example/", "https://h.example/a/", "https://h.example/a/b", "https://i.example/"}
		var times []int64
		clock := int64(1_000_000)
		for range 400 {
			times = append(times, clock)
			if clock += r.Int64N(50); r.IntN(20) == 0 {
				clock += r.Int64N(10_000) - 5_000
			}
		}
		addRuleHistory(t, s, keys, times)
		bySeq := func(a, b rules.Change) int { return int(a.Seq - b.Seq) }
		found := 0
		for range testscope.Select(300, 60) {
			queried := append(slices.Clone(keys[:1+r.IntN(len(keys))]), "https://nobody.example/")
			asOf := time.UnixMilli(times[r.IntN(len(times))] + r.Int64N(3) - 1)
			got := require.Value(s.RulesAsOf(t.Context(), queried, asOf))(t)
			var wanted []rules.Change
			view(t, s, func(ctx context.Context, tx *Tx) (err error) {
				// RulesAsOf returns for each key its last change up to the time.
				args := []any{millis(asOf)}
				for _, key := range queried {
					args = append(args, key)
				}
				wanted, err = list(ctx, tx, scanRuleChange, `SELECT `+ruleChangeColumns+` FROM changes WHERE seq IN (
					SELECT MAX(seq) FROM changes WHERE kind = 'rule' AND key IN (`+placeholders(2, len(queried))+`)
					AND occurred_at <= $1 GROUP BY key)`, args...)
				return err
			})
			slices.SortFunc(got, bySeq)
			slices.SortFunc(wanted, bySeq)
			checkList(t, fmt.Sprint(queried, " as of ", asOf), got, wanted)
			found += len(got)
		}
		assert.True(t, found >= testscope.Select(300, 60), "only %d changes found", found)
	})
}

// TestRulesAsOf_RowsScannedBounded verifies that the cost of RulesAsOf for a recent time does not depend on the number of changes of a
// rule.
func TestRulesAsOf_RowsScannedBounded(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		// The plan of PostgreSQL depends on the number of different keys.
		var others []string
		for i := range 1000 {
			others = append(others, fmt.Sprintf("https://%d.example/", i))
		}
		addRuleHistory(t, s, others, make([]int64, len(others)))
		const often = 3_000
		times := make([]int64, often)
		for i := range times {
			times[i] = int64(1000 + i)
		}
		addRuleHistory(t, s, []string{"https://h.example/a/", "https://h.example/"}, times)
		query, args := rulesAsOf(3), []any{"https://h.example/a/", "https://h.example/", "https://nobody.example/", 1000 + often - 4}
		if s.Engine() == "postgres" {
			analyzeTables(t, s, "changes")
			// For each key, two or three newer changes and the result, which is read twice.
			scanned := countRowsScanned(t, s, query, args...)
			assert.True(t, !(scanned > 10), "%v rows are read, want at most 10", scanned)
			return
		}
		indexed := false
		for _, step := range queryPlan(t, s, query, args...) {
			assert.True(t, !strings.Contains(step, "SCAN c") && !strings.Contains(step, "TEMP B-TREE"), "plan step %q scans or sorts", step)
			indexed = indexed || strings.Contains(step, "SEARCH c USING INDEX idx_changes_kind_key_seq (kind=? AND key=?)")
		}
		assert.True(t, indexed, "no plan step searches the changes of a key, newest first, by an index")
	})
}
