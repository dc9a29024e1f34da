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
)

// historyOf notes changes of rules, each at a time of its own.
func historyOf(t *testing.T, s *Store, keys []string, times []int64) {
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

// The walk from the newest change of a key finds what all of them told, also under clocks that were set back and forth.
func TestRulesAsOf_MatchesFullReplay(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
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
		historyOf(t, s, keys, times)
		bySeq := func(a, b rules.Change) int { return int(a.Seq - b.Seq) }
		found := 0
		for range 300 {
			asked := append(slices.Clone(keys[:1+r.IntN(len(keys))]), "https://nobody.example/")
			at := time.UnixMilli(times[r.IntN(len(times))] + r.Int64N(3) - 1)
			got, err := s.RulesAsOf(t.Context(), asked, at)
			require.NoError(t, err)
			var wanted []rules.Change
			view(t, s, func(ctx context.Context, tx *Tx) (err error) {
				// RulesAsOf returns for each key the last of all its changes up to the moment.
				args := []any{millis(at)}
				for _, key := range asked {
					args = append(args, key)
				}
				wanted, err = list(ctx, tx, scanRuleChange, `SELECT `+ruleChangeColumns+` FROM changes WHERE seq IN (
					SELECT MAX(seq) FROM changes WHERE kind = 'rule' AND key IN (`+placeholders(2, len(asked))+`)
					AND occurred_at <= $1 GROUP BY key)`, args...)
				return err
			})
			slices.SortFunc(got, bySeq)
			slices.SortFunc(wanted, bySeq)
			wantSame(t, fmt.Sprint(asked, " at ", at), got, wanted)
			found += len(got)
		}
		assert.True(t, found >= 300, "%d changes found", found)
	})
}

// Issue 14: what a text opened a moment ago costs no more for a rule that was changed often.
func TestRulesAsOf_RowsScannedBounded(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		// PostgreSQL goes by how many different keys there are.
		var others []string
		for i := range 1000 {
			others = append(others, fmt.Sprintf("https://%d.example/", i))
		}
		historyOf(t, s, others, make([]int64, len(others)))
		const often = 3_000
		times := make([]int64, often)
		for i := range times {
			times[i] = int64(1000 + i)
		}
		historyOf(t, s, []string{"https://h.example/a/", "https://h.example/"}, times)
		query, args := rulesAsOf(3), []any{"https://h.example/a/", "https://h.example/", "https://nobody.example/", 1000 + often - 4}
		if s.Engine() == "postgres" {
			settled(t, s, "changes")
			// Two or three of each key are newer or what is sought, which is read again.
			looked := rowsLooked(t, s.read, query, args)
			assert.True(t, !(looked > 10), "it looks at %v rows", looked)
			return
		}
		walks := false
		for _, step := range stepsOf(t, s.read, query, args) {
			assert.True(t, !strings.Contains(step, "SCAN c") && !strings.Contains(step, "TEMP B-TREE"), "%v", step)
			walks = walks || strings.Contains(step, "SEARCH c USING INDEX idx_changes_kind_key_seq (kind=? AND key=?)")
		}
		assert.True(t, walks, "no index leads to the changes of a key, newest first")
	})
}
