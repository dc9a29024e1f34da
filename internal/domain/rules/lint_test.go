package rules_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// parseLintRule parses a rule: "A+ https://h.example/a/ page" is a published rule of A, "A- …" an unpublished one.
func parseLintRule(t testing.TB, text string) rules.Rule {
	t.Helper()
	words := strings.Fields(text)
	p := require.Value(rules.ParsePrefix(words[1], rules.Ordinary, false))(t)
	r := rules.Rule{Kind: rules.Ordinary, Owner: words[0][:1], Target: words[0][:1], Prefix: p, Published: words[0][1] == '+', Path: "p"}
	if len(words) > 2 {
		r.Path = words[2]
	}
	if len(words) > 3 {
		r.TestLinks = words[3:]
	}
	return r
}

func TestLint_SuspiciousRules(t *testing.T) {
	for _, c := range testtable.Rows(t, "testdata/lint.txt", 3) {
		t.Run(c[0], func(t *testing.T) {
			var set []rules.Rule
			for _, text := range testtable.List(c[1]) {
				set = append(set, parseLintRule(t, text))
			}
			var got []string
			for _, f := range rules.Lint(set) {
				got = append(got, fmt.Sprintf("%s %d %d %s %d", f.Kind, f.Rule, f.OtherIndex, f.Link, len(f.Prefixes)))
			}
			want := testtable.List(c[2])
			assert.True(t, slices.Equal(got, want), "Lint() = %q\nwant     %q", got, want)
		})
	}
}

// newMatcher returns a function that scans a link with the product's matcher over a set of rules.
func newMatcher(set []rules.Rule) func(link string) (rule int, opens bool) {
	x := index.New()
	for i, r := range set {
		r.ID = int64(i)
		x.Set(r)
	}
	resolver := scan.Resolver{Finder: x, Accounts: eligibleAccounts{}}
	return func(link string) (int, bool) {
		d := resolver.Resolve(scan.Request{Text: link, At: time.Unix(0, 0)})
		return int(d.Matched.ID), d.Action == scan.OpenMiniProgram
	}
}

// eligibleAccounts is a scan.Accounts in which every account satisfies all conditions to open a link.
type eligibleAccounts struct{}

func (eligibleAccounts) Account(appid string) (accounts.Account, bool) {
	return accounts.Account{AppID: appid, Kind: accounts.MiniProgram, JumpOpen: true, Versions: []accounts.Version{accounts.Release}}, true
}
func (eligibleAccounts) Linked(string, string) bool { return true }

// TestLint_EqualsMatcher verifies the findings of Lint for random sets of rules with the matcher.
func TestLint_EqualsMatcher(t *testing.T) {
	g := rand.New(rand.NewPCG(16, 0))
	pick := func(list ...string) string { return list[g.IntN(len(list))] }
	prefix := func() string {
		text := "https://h.example" + pick("/", "/a", "/a/", "/a/b", "/a/b/", "/a/1")
		return text + pick("", "", "?",
			"?id=1", "?id=1", "?id=10", "?id=12", "?id=105", "?id=1&", "?x=2&id=1", "?id=1"+pick("0", "1", "2", "3"))
	}
	kinds := map[rules.FindingKind]int{}
	for n := range 400 {
		var set []rules.Rule
		keys := map[string]bool{}
		for range 1 + g.IntN(9) {
			r := parseLintRule(t, pick("A+", "A+", "A-", "B+", "B-")+" "+prefix()+" "+pick("p", "q"))
			if !keys[r.Prefix.Key] { // one identity has one owner
				keys[r.Prefix.Key] = true
				set = append(set, r)
			}
		}
		opens := newMatcher(set)
		links := []string{}
		for _, r := range set {
			for _, suffix := range []string{"", "0", "3", "12", "a", "&", "&x=1", "/", "/z", "?id=1", "?id=12&y", "?"} {
				links = append(links, r.Prefix.Text+suffix)
			}
		}
		fail := func(f rules.Finding, reason string) {
			t.Helper()
			t.Fatalf("set %d: %s\n%+v\n%s", n, reason, f, describe(set))
		}
		caught := map[int]bool{}
		for _, f := range rules.Lint(set) {
			kinds[f.Kind]++
			rule, opened := opens(f.Link)
			switch f.Kind {
			case rules.AlsoCatches:
				caught[f.Rule] = true
				checkAlsoCatches(t, set, f, func(reason string) { fail(f, reason) })
			case rules.HidesPublished:
				without := slices.Clone(set)
				without[f.Rule].Prefix = parseLintRule(t, "A+ https://elsewhere.example/").Prefix
				if _, opensWithout := newMatcher(without)(f.Link); opened && rule == f.OtherIndex || !opensWithout {
					fail(f, "the rule hides no published rule")
				}
			case rules.OthersOpen:
				if !opened || rule != f.OtherIndex || set[rule].Owner == set[f.Rule].Owner {
					fail(f, fmt.Sprintf("%v %d opens", opened, rule))
				}
			case rules.OthersTake:
				if !opened || rule != f.OtherIndex {
					fail(f, fmt.Sprintf("%v %d opens", opened, rule))
				}
			case rules.Shadowed:
				for _, link := range links {
					if rule, opened := opens(link); opened && rule == f.Rule {
						fail(f, "the shadowed rule opens "+link)
					}
				}
			case rules.Redundant:
				without := newMatcher(slices.Delete(slices.Clone(set), f.Rule, f.Rule+1))
				for _, link := range links {
					before, opened := opens(link)
					after, openedAfter := without(link)
					if after >= f.Rule {
						after++
					}
					if opened != openedAfter || opened && (set[before].Path != set[after].Path || set[before].Owner != set[after].Owner) {
						fail(f, "the redundant rule changes the result of "+link)
					}
				}
			case rules.NoFinalSlash:
				if opened && rule == f.Rule {
					fail(f, "the rule opens links below its prefix")
				}
			}
		}
		// Every rule that opens a longer number has a finding.
		for i, r := range set {
			if _, value, ok := strings.Cut(r.Prefix.Text, "id="); ok && value != "" && !strings.HasSuffix(value, "&") {
				for _, d := range "0123456789" {
					if rule, opened := opens(r.Prefix.Text + string(d)); opened && rule == i && !caught[i] {
						t.Fatalf("set %d: no finding for rule %d, which catches %s%c\n%s", n, i, r.Prefix.Text, d, describe(set))
					}
				}
			}
		}
	}
	for _, kind := range rules.FindingKinds {
		assert.True(t, kinds[kind] != 0 || kind == rules.Duplicate || kind == rules.LostTestLink,
			"no set has a finding %s, want at least one", kind)
	}
}

// checkAlsoCatches verifies an AlsoCatches finding with the matcher: the rule catches the prefixes of the finding, rules on these prefixes
// exclude the longer numbers and no other links, and each of the prefixes is necessary.
func checkAlsoCatches(t *testing.T, set []rules.Rule, f rules.Finding, fail func(reason string)) {
	t.Helper()
	opens := newMatcher(set)
	fixed := slices.Clone(set)
	for _, p := range f.Prefixes {
		if rule, opened := opens(p); !opened || rule != f.Rule {
			fail("the rule does not catch " + p)
		}
		fixed = append(fixed, parseLintRule(t, set[f.Rule].Owner+"- "+p))
	}
	after := newMatcher(fixed)
	text := set[f.Rule].Prefix.Text
	for _, suffix := range []string{"", "&", "&x=1", "a", "-1"} {
		before, opened := opens(text + suffix)
		if rule, openedAfter := after(text + suffix); openedAfter != opened || rule != before {
			fail("with the prefixes another rule opens " + text + suffix)
		}
	}
	for n := range 130 {
		longer := fmt.Sprintf("%s%d", text, n)
		if rule, opened := after(longer); opened && rule == f.Rule {
			fail("with the prefixes the rule still catches " + longer)
		}
	}
	for i, p := range f.Prefixes {
		n := len(set) + i
		if rule, opened := newMatcher(slices.Delete(slices.Clone(fixed), n, n+1))(p); !opened || rule != f.Rule {
			fail("the prefix " + p + " is unnecessary")
		}
	}
}

func describe(set []rules.Rule) string {
	var b strings.Builder
	for i, r := range set {
		fmt.Fprintf(&b, "%d %s published=%v %s %s\n", i, r.Owner, r.Published, r.Prefix.Text, r.Path)
	}
	return b.String()
}
