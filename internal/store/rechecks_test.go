package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestRecheck_ClaimedOnce(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		ctx, s := t.Context(), nodes[0]
		full := rules.Reverification{Owner: "shop", Directory: "https://h.example/" + special, Prefix: "p" + special, CheckedAt: t0,
			OK:     true,
			Reason: special, FailingSince: t0.Add(time.Hour), NextAt: t0.Add(2 * time.Hour)}
		list := []rules.Reverification{{NextAt: t0}, full, {Owner: "a", Directory: "z", NextAt: t0, CheckedAt: t0}}
		require.NoError(t, errors.Join(Rechecks{s}.Add(ctx, list), Rechecks{s}.Add(ctx, list)))
		later := full
		later.Prefix = "of a later plan"
		require.NoError(t, Rechecks{nodes[1]}.Add(ctx, []rules.Reverification{later}))
		found, err := Rechecks{s}.List(ctx, rules.ReverificationQuery{Owner: "shop", Failing: true, Limit: 10})
		require.NoError(t, err)
		check(t, "recheck", found, []rules.Reverification{full})
		found, err = Rechecks{s}.List(ctx, rules.ReverificationQuery{AfterOwner: "a", AfterDirectory: "z", Limit: 10})
		assert.True(t, err == nil && len(found) == 1, "List after a/z = %v, %v, want 1", found, err)
		n, err := Rechecks{s}.CountFailing(ctx)
		assert.True(t, err == nil && n == 1, "CountFailing() = %d, %v, want 1", n, err)
		claimed, err := Rechecks{s}.Claim(ctx, t0, t0.Add(time.Hour), 10)
		require.True(t, err == nil && len(claimed) == 2, "Claim() = %v, %v, want 2", claimed, err)
		repeated, err := Rechecks{nodes[1]}.Claim(ctx, t0, t0.Add(time.Hour), 10)
		assert.True(t, err == nil && len(repeated) == 0, "Claim by another node = %v, %v, want none", repeated, err)
		require.NoError(t, Rechecks{s}.MakeDue(ctx, t0))
		claimed, err = Rechecks{s}.Claim(ctx, t0, t0.Add(time.Hour), 10)
		assert.True(t, err == nil && len(claimed) == 2 && claimed[0].Owner == "a" && claimed[1].Owner == "shop",
			"Claim() after MakeDue = %v, %v, want 2", claimed, err)
		changed := full
		changed.Prefix, changed.CheckedAt, changed.OK, changed.Reason, changed.FailingSince, changed.NextAt = "q",
			t0.Add(time.Minute), false, "r", time.Time{}, t0.Add(time.Minute)
		require.NoError(t, Rechecks{s}.Save(ctx, changed))
		found = require.Value(Rechecks{nodes[1]}.List(ctx, rules.ReverificationQuery{Owner: "shop", Limit: 10}))(t)
		check(t, "saved", found, []rules.Reverification{changed})
		require.NoError(t, Rechecks{s}.Delete(ctx, changed.Owner, changed.Directory))
		found, err = Rechecks{s}.List(ctx, rules.ReverificationQuery{Owner: "shop", Limit: 10})
		assert.True(t, err == nil && len(found) == 0, "List after Delete = %v, %v, want none", found, err)
	})
}

// TestRecheck_ManyDirectories adds more directories than a statement has arguments. Directories that exist are not changed.
func TestRecheck_ManyDirectories(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		ctx, now := t.Context(), time.UnixMilli(1_800_000_000_000)
		newRechecks := func(from, to int, next time.Time) (list []rules.Reverification) {
			for i := from; i < to; i++ {
				list = append(list, rules.Reverification{Owner: fmt.Sprint("owner", i%7),
					Directory: fmt.Sprintf("https://h.example/%d/", i),
					OK:        true, NextAt: next})
			}
			return list
		}
		require.NoError(t, Rechecks{s}.Add(ctx, newRechecks(0, 1500, now)))
		require.NoError(t, Rechecks{s}.Add(ctx, newRechecks(500, 2500, now.Add(time.Hour))))
		for _, due := range []struct {
			at   time.Time
			want int
		}{{now, 1500}, {now.Add(time.Hour), 1000}} {
			claimed, err := Rechecks{s}.Claim(ctx, due.at, now.Add(2*time.Hour), 5000)
			assert.True(t, err == nil && len(claimed) == due.want,
				"Claim() at %v = %d directories, %v, want %d", due.at, len(claimed), err, due.want)
		}
	})
}

// TestRuleIn_FileDirectory verifies that RuleIn finds a rule of the owner whose verification file is in the directory, and no other rule.
func TestRuleIn_FileDirectory(t *testing.T) {
	var all []rules.Rule
	for _, scheme := range []string{"http", "https"} {
		for _, host := range []string{"h.example", "i.example:81"} {
			for n, path := range []string{"", "/", "/x", "?/a", "#x", "#/x", "/#/x", "/%23/x", "/%#23/x", "/a/x", "/a/?y=/b/", "/a/b/x",
				"//x",
				"/a//", "/ab/", "/A/x"} {
				all = append(all, newRule(t, []string{"wxa", "wxb"}[n%2], scheme+"://"+host+path))
			}
		}
	}
	seen := map[string]bool{}
	all = slices.DeleteFunc(all, func(r rules.Rule) bool {
		duplicate := seen[r.Prefix.Key]
		seen[r.Prefix.Key] = true
		return duplicate
	})
	forEachBackend(t, func(t *testing.T, s *Store) {
		addRules(t, s, all...)
		for _, owner := range []string{"wxa", "wxb", "wxc"} {
			for _, r := range append(slices.Clone(all), newRule(t, "wxa", "https://h.example/a/b/c/"),
				newRule(t, "wxa", "https://j.example/x")) {
				directory := r.Prefix.ConfirmAddress("")
				matches := func(r rules.Rule) bool { return r.Owner == owner && r.Prefix.ConfirmAddress("") == directory }
				view(t, s, func(ctx context.Context, tx *Tx) error {
					found, err := tx.rules().RuleIn(ctx, owner, directory)
					exists := slices.ContainsFunc(all, matches)
					assert.True(t, exists == (err == nil) && (!exists || matches(found)) && (exists || err == rules.ErrNoRule),
						"RuleIn(%s, %s) = %q, %v, want a rule: %v", owner, directory, found.Prefix.Text, err, exists)
					return nil
				})
			}
		}
	})
}
