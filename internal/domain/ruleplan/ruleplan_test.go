package ruleplan

import (
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const owner = "wxshop"

func newDesired(t *testing.T, w Desired) Desired {
	t.Helper()
	require.NoError(t, w.check(owner))
	return w
}

func newStored(t *testing.T, r client.Rule, target string) Stored {
	t.Helper()
	p := require.Value(rules.ParsePrefix(r.Prefix, KindOf(r), true))(t)
	return Stored{Rule: r, Target: target, Parsed: p}
}

func TestRulePlan_Actions(t *testing.T) {
	const prefix, code = "https://tea.example/t/", "http://weixin.qq.com/q/02B"
	want := Desired{Prefix: prefix, Path: "pages/a/a"}
	have := client.Rule{Prefix: prefix, Path: "pages/a/a", OpenVersion: client.OpenRelease, TestLinks: []string{prefix + "x"}}
	live := have
	live.Published = true
	serviceWant := Desired{Prefix: code, Path: "pages/a/a", AppID: "wxmini"}
	serviceLive := client.Rule{Prefix: code, Path: "pages/a/a", Published: true}

	with := func(w Desired, change func(*Desired)) *Desired {
		change(&w)
		return &w
	}
	for name, test := range map[string]struct {
		want    *Desired // nil: the file has no rule
		have    *client.Rule
		target  string
		prune   bool
		actions []string
	}{
		"a new rule is added": {want: &want, actions: []string{"add"}},
		"a new rule is published if the file sets it": {want: with(want, func(w *Desired) { w.Published = new(true) }),
			actions: []string{"add", "publish"}},
		"a rule that matches the file is unchanged":      {want: &want, have: &have},
		"a published rule stays so if the file omits it": {want: &want, have: &live},
		"an unpublished rule is published": {want: with(want, func(w *Desired) { w.Published = new(true) }),
			have: &have, actions: []string{"publish"}},
		"the page of an unpublished rule is edited": {want: with(want, func(w *Desired) { w.Path = "pages/b/b" }), have: &have,
			actions: []string{"edit"}},
		"the page of a published rule needs all three": {want: with(want, func(w *Desired) { w.Path = "pages/b/b" }), have: &live,
			actions: []string{"delete", "add", "publish"}},
		"test settings of a published rule are edited": {want: with(want,
			func(w *Desired) { w.Occupy = true; w.OpenVersion = new(2) }), have: &live, actions: []string{"edit"}},
		"an empty list clears the test links": {want: with(want, func(w *Desired) { w.TestLinks = &[]string{} }),
			have: &live, actions: []string{"edit"}},
		"a published rule is unpublished by adding it again": {want: with(want, func(w *Desired) { w.Published = new(false) }),
			have: &live, actions: []string{"delete", "add"}},
		"a prefix that differs in letter case is the same": {want: with(want,
			func(w *Desired) { w.Prefix = "https://TEA.example/t/" }), have: &have},
		"without prune other rules stay":      {have: &live},
		"with prune other rules are deleted":  {have: &live, prune: true, actions: []string{"delete"}},
		"with prune a rule of the file stays": {want: &want, have: &live, prune: true},
		"a published service rule is replaced": {want: with(serviceWant, func(w *Desired) { w.Path = "pages/b/b" }),
			have: &serviceLive, target: "wxmini", actions: []string{"delete", "add", "publish"}},
		"a service rule that opens another is replaced": {want: &serviceWant, have: &serviceLive, target: "wxold",
			actions: []string{"delete", "add", "publish"}},
		"a service rule that matches the file is unchanged": {want: &serviceWant, have: &serviceLive, target: "wxmini"},
		"an unpublished service rule is edited": {want: with(serviceWant, func(w *Desired) { w.Path = "pages/b/b" }),
			have: &client.Rule{Prefix: code, Path: "pages/a/a"}, target: "wxmini", actions: []string{"edit"}},
		"a host and the paths below it are different prefixes": {want: &Desired{Prefix: "https://tea.example/", Path: "p"},
			have: &client.Rule{Prefix: "https://tea.example", Path: "p", OpenVersion: 3}, actions: []string{"delete", "add"}},
	} {
		t.Run(name, func(t *testing.T) {
			var file []Desired
			var account []Stored
			if test.want != nil {
				file = append(file, newDesired(t, *test.want))
			}
			if test.have != nil {
				account = append(account, newStored(t, *test.have, test.target))
			}
			var actions []string
			for _, step := range Decide(file, account, test.prune) {
				actions = append(actions, step.Action)
				assert.True(t, step.Reason != "", "%s of %s has no reason, want one", step.Action, step.Prefix)
				assert.True(t, step.Action != "delete" || step.Target == test.target, "target of delete = %q, want %q", step.Target,
					test.target)
			}
			assert.True(t, slices.Equal(actions, test.actions), "Decide() = %v, want %v", actions, test.actions)
		})
	}
}

func TestRulePlan_ReplaceKeepsTestLinks(t *testing.T) {
	links := []string{"https://tea.example/t/x"}
	have := newStored(t, client.Rule{Prefix: "https://tea.example/t/", Path: "old", Published: true, OpenVersion: 3, TestLinks: links}, "")
	steps := Decide([]Desired{newDesired(t, Desired{Prefix: "https://tea.example/t/", Path: "new"})}, []Stored{have}, false)
	assert.True(t, len(steps) == 3 && slices.Equal(steps[1].Draft.TestLinks, links), "Decide() = %+v, want the test links in the add",
		steps)
}

// TestRulePlan_ReplaceDropsTestLinks verifies that a prefix that loses its final slash keeps only the test links that it still matches.
func TestRulePlan_ReplaceDropsTestLinks(t *testing.T) {
	have := newStored(t, client.Rule{Prefix: "https://tea.example/", Path: "p", Published: true, OpenVersion: 3,
		TestLinks: []string{"https://tea.example/x", "https://tea.example/?a"}}, "")
	steps := Decide([]Desired{newDesired(t, Desired{Prefix: "https://tea.example", Path: "p"})}, []Stored{have}, false)
	require.Equal(t, len(steps), 3, "number of steps")
	assert.Equal(t, strings.Join(steps[1].Draft.TestLinks, " "), "https://tea.example/?a", "test links of the add")
	assert.Contains(t, steps[0].Reason, "; test links that do not match the new prefix are lost: https://tea.example/x", "reason")
	assert.Equal(t, steps[0].Lost, "published: true, test_links: [https://tea.example/?a]", "lost fields")
	assert.Equal(t, steps[0].Key(), steps[1].Key(), "keys of delete and add")
}
