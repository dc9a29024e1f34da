package ruleplan

import (
	"slices"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const owner = "wxshop"

func wanted(t *testing.T, w Desired) Desired {
	t.Helper()
	require.NoError(t, w.check(owner))
	return w
}

func stored(t *testing.T, r client.Rule, target string) Stored {
	t.Helper()
	p, err := rules.ParsePrefix(r.Prefix, KindOf(r), true)
	require.NoError(t, err)
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
		want   *Desired // nil: the file has no rule
		have   *client.Rule
		target string
		prune  bool
		do     []string
	}{
		"a new rule is added": {want: &want, do: []string{"add"}},
		"a new rule is published if the file says so": {want: with(want, func(w *Desired) { w.Published = new(true) }),
			do: []string{"add", "publish"}},
		"what is as it should be is left alone":           {want: &want, have: &have},
		"a published rule stays so if the file is silent": {want: &want, have: &live},
		"an unpublished rule is published": {want: with(want, func(w *Desired) { w.Published = new(true) }),
			have: &have, do: []string{"publish"}},
		"the page of an unpublished rule is edited": {want: with(want, func(w *Desired) { w.Path = "pages/b/b" }), have: &have,
			do: []string{"edit"}},
		"the page of a published rule needs all three": {want: with(want, func(w *Desired) { w.Path = "pages/b/b" }), have: &live,
			do: []string{"delete", "add", "publish"}},
		"test settings of a published rule are edited": {want: with(want,
			func(w *Desired) { w.Occupy = true; w.OpenVersion = new(2) }), have: &live, do: []string{"edit"}},
		"an empty list clears the test links": {want: with(want, func(w *Desired) { w.TestLinks = &[]string{} }),
			have: &live, do: []string{"edit"}},
		"a published rule is taken back by adding it again": {want: with(want, func(w *Desired) { w.Published = new(false) }),
			have: &live, do: []string{"delete", "add"}},
		"a prefix that differs in letter case is the same": {want: with(want,
			func(w *Desired) { w.Prefix = "https://TEA.example/t/" }), have: &have},
		"without prune other rules stay":      {have: &live},
		"with prune they go":                  {have: &live, prune: true, do: []string{"delete"}},
		"with prune a rule of the file stays": {want: &want, have: &live, prune: true},
		"a published service rule is replaced": {want: with(serviceWant, func(w *Desired) { w.Path = "pages/b/b" }),
			have: &serviceLive, target: "wxmini", do: []string{"delete", "add", "publish"}},
		"a service rule that opens another is replaced": {want: &serviceWant, have: &serviceLive, target: "wxold",
			do: []string{"delete", "add", "publish"}},
		"a service rule as it should be is left alone": {want: &serviceWant, have: &serviceLive, target: "wxmini"},
		"an unpublished service rule is edited": {want: with(serviceWant, func(w *Desired) { w.Path = "pages/b/b" }),
			have: &client.Rule{Prefix: code, Path: "pages/a/a"}, target: "wxmini", do: []string{"edit"}},
		"a whole host and what lies below it are two things": {want: &Desired{Prefix: "https://tea.example/", Path: "p"},
			have: &client.Rule{Prefix: "https://tea.example", Path: "p", OpenVersion: 3}, do: []string{"delete", "add"}},
	} {
		t.Run(name, func(t *testing.T) {
			var file []Desired
			var account []Stored
			if test.want != nil {
				file = append(file, wanted(t, *test.want))
			}
			if test.have != nil {
				account = append(account, stored(t, *test.have, test.target))
			}
			var did []string
			for _, one := range Decide(file, account, test.prune) {
				did = append(did, one.Action)
				assert.True(t, one.Reason != "", "%s of %s says no why", one.Action, one.Prefix)
				assert.True(t, one.Action != "delete" || one.Target == test.target, "the delete names %q, want %q", one.Target, test.target)
			}
			assert.True(t, slices.Equal(did, test.do), "got %v, want %v", did, test.do)
		})
	}
}

func TestRulePlan_ReplaceKeepsTestLinks(t *testing.T) {
	links := []string{"https://tea.example/t/x"}
	have := stored(t, client.Rule{Prefix: "https://tea.example/t/", Path: "old", Published: true, OpenVersion: 3, TestLinks: links}, "")
	steps := Decide([]Desired{wanted(t, Desired{Prefix: "https://tea.example/t/", Path: "new"})}, []Stored{have}, false)
	assert.True(t, len(steps) == 3 && slices.Equal(steps[1].Draft.TestLinks, links), "got %+v, want the test links in the add", steps)
}
