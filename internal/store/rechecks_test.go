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
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		ctx, s := t.Context(), nodes[0]
		full := rules.Reverification{Owner: "shop", Directory: "https://h.example/" + spice, Prefix: "p" + spice, CheckedAt: at, OK: true,
			Reason: spice, FailingSince: at.Add(time.Hour), NextAt: at.Add(2 * time.Hour)}
		list := []rules.Reverification{{NextAt: at}, full, {Owner: "a", Directory: "z", NextAt: at, CheckedAt: at}}
		require.NoError(t, errors.Join(Rechecks{s}.Add(ctx, list), Rechecks{s}.Add(ctx, list)))
		other := full
		other.Prefix = "of a plan that came later"
		require.NoError(t, Rechecks{nodes[1]}.Add(ctx, []rules.Reverification{other}))
		found, err := Rechecks{s}.List(ctx, rules.ReverificationQuery{Owner: "shop", Failing: true, Limit: 10})
		require.NoError(t, err)
		want(t, "recheck", found, []rules.Reverification{full})
		found, err = Rechecks{s}.List(ctx, rules.ReverificationQuery{AfterOwner: "a", AfterDirectory: "z", Limit: 10})
		assert.True(t, err == nil && len(found) == 1, "List after a/z = %v, %v, want 1", found, err)
		n, err := Rechecks{s}.CountFailing(ctx)
		assert.True(t, err == nil && n == 1, "CountFailing() = %d, %v, want 1", n, err)
		taken, err := Rechecks{s}.Claim(ctx, at, at.Add(time.Hour), 10)
		require.True(t, err == nil && len(taken) == 2, "%v %v", taken, err)
		repeated, err := Rechecks{nodes[1]}.Claim(ctx, at, at.Add(time.Hour), 10)
		assert.True(t, err == nil && len(repeated) == 0, "Claim by another node = %v, %v, want none", repeated, err)
		require.NoError(t, Rechecks{s}.MakeDue(ctx, at))
		taken, err = Rechecks{s}.Claim(ctx, at, at.Add(time.Hour), 10)
		assert.True(t, err == nil && len(taken) == 2 && taken[0].Owner == "a" && taken[1].Owner == "shop", "due now: %v %v", taken, err)
		changed := full
		changed.Prefix, changed.CheckedAt, changed.OK, changed.Reason, changed.FailingSince, changed.NextAt = "q",
			at.Add(time.Minute), false, "r", time.Time{}, at.Add(time.Minute)
		require.NoError(t, Rechecks{s}.Save(ctx, changed))
		found, err = Rechecks{nodes[1]}.List(ctx, rules.ReverificationQuery{Owner: "shop", Limit: 10})
		require.NoError(t, err)
		want(t, "saved", found, []rules.Reverification{changed})
		require.NoError(t, Rechecks{s}.Delete(ctx, changed.Owner, changed.Directory))
		found, err = Rechecks{s}.List(ctx, rules.ReverificationQuery{Owner: "shop", Limit: 10})
		assert.True(t, err == nil && len(found) == 0, "List after Delete = %v, %v, want none", found, err)
	})
}

// There may be as many directories as rules; those that are known stay as they are.
func TestRecheck_ManyDirectories(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx, now := t.Context(), time.UnixMilli(1_800_000_000_000)
		many := func(from, to int, next time.Time) (list []rules.Reverification) {
			for i := from; i < to; i++ {
				list = append(list, rules.Reverification{Owner: fmt.Sprint("owner", i%7),
					Directory: fmt.Sprintf("https://h.example/%d/", i),
					OK:        true, NextAt: next})
			}
			return list
		}
		require.NoError(t, Rechecks{s}.Add(ctx, many(0, 1500, now)))
		require.NoError(t, Rechecks{s}.Add(ctx, many(500, 2500, now.Add(time.Hour))))
		for _, due := range []struct {
			at   time.Time
			want int
		}{{now, 1500}, {now.Add(time.Hour), 1000}} {
			taken, err := Rechecks{s}.Claim(ctx, due.at, now.Add(2*time.Hour), 5000)
			assert.True(t, err == nil && len(taken) == due.want, "at %v %d are due, not %d (%v)", due.at, len(taken), due.want, err)
		}
	})
}

// Of each directory that a rule's verification file must be in, the rules of an owner there are found, and no others.
func TestRuleIn_FileDirectory(t *testing.T) {
	var all []rules.Rule
	for _, scheme := range []string{"http", "https"} {
		for _, host := range []string{"h.example", "i.example:81"} {
			for n, path := range []string{"", "/", "/x", "?/a", "#x", "#/x", "/#/x", "/%23/x", "/%#23/x", "/a/x", "/a/?y=/b/", "/a/b/x",
				"//x",
				"/a//", "/ab/", "/A/x"} {
				all = append(all, aRule(t, []string{"wxa", "wxb"}[n%2], scheme+"://"+host+path))
			}
		}
	}
	seen := map[string]bool{}
	all = slices.DeleteFunc(all, func(r rules.Rule) bool {
		again := seen[r.Prefix.Key]
		seen[r.Prefix.Key] = true
		return again
	})
	eachBackend(t, func(t *testing.T, s *Store) {
		addRules(t, s, all...)
		for _, owner := range []string{"wxa", "wxb", "wxc"} {
			for _, r := range append(slices.Clone(all), aRule(t, "wxa", "https://h.example/a/b/c/"),
				aRule(t, "wxa", "https://j.example/x")) {
				directory := r.Prefix.ConfirmAddress("")
				there := func(r rules.Rule) bool { return r.Owner == owner && r.Prefix.ConfirmAddress("") == directory }
				view(t, s, func(ctx context.Context, tx *Tx) error {
					found, err := tx.rules().RuleIn(ctx, owner, directory)
					if is := slices.ContainsFunc(all, there); is != (err == nil) || is && !there(found) || !is && err != rules.ErrNoRule {
						t.Errorf("%s in %s: %q, %v", owner, directory, found.Prefix.Text, err)
					}
					return nil
				})
			}
		}
	})
}
