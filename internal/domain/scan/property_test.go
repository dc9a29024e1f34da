package scan_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
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
)

// generator generates rules and links from few parts, so that they match often.
type generator struct{ *rand.Rand }

func (g generator) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g generator) origin() string {
	return g.pick("http", "https", "https", "https", "HTTPS") + "://" +
		g.pick("h.example", "h.example", "h.example", "H.Example", "g.example")
}

func (g generator) path() string {
	var b strings.Builder
	for range g.IntN(4) {
		b.WriteString("/" + g.pick("", "a", "a", "b", "ab", "%61", "a#", "#"))
	}
	if g.IntN(3) == 0 {
		b.WriteString("/")
	}
	if g.IntN(20) == 0 {
		b.WriteString("#x/")
	}
	return b.String()
}

func (g generator) query() string {
	switch g.IntN(3) {
	case 0:
		return "?" + g.pick("", "i", "id=", "id=1", "id=1", "id=12", "id=1&", "id=1&x=/", "x=2&id=1", "id=1?x")
	}
	return ""
}

func (g generator) link() string { return g.origin() + g.path() + g.query() }

// eligibleAccounts is a scan.Accounts in which every account satisfies all conditions to open a link.
type eligibleAccounts struct{}

func (eligibleAccounts) Account(appid string) (accounts.Account, bool) {
	return accounts.Account{AppID: appid, Kind: accounts.MiniProgram, JumpOpen: true, Versions: []accounts.Version{accounts.Release}}, true
}
func (eligibleAccounts) Linked(string, string) bool { return true }

func load(t testing.TB, set []slowRule) *index.Index {
	t.Helper()
	x := index.New()
	for i, r := range set {
		p, err := rules.ParsePrefix(r.prefix, rules.Ordinary, false)
		require.NoErrorf(t, err, "generated prefix %s", r.prefix)
		x.Set(rules.Rule{ID: int64(i), Kind: rules.Ordinary, Owner: r.owner, Target: r.owner, Prefix: p, Path: "p", Published: r.published})
	}
	return x
}

func TestScan_EqualsSlowMatcher(t *testing.T) {
	sets, links := 12_000, 20 // 240,000 cases
	if testing.Short() {
		sets = 600
	}
	const seed = 20171
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	opened := 0
	for n := range sets {
		var set []slowRule
		keys := map[string]bool{}
		for range 1 + g.IntN(7) {
			r := slowRule{prefix: g.link(), owner: g.pick("A", "B", "C"), published: g.IntN(3) > 0}
			if keys[slowKey(r.prefix)] {
				continue // a prefix has one owner
			}
			keys[slowKey(r.prefix)] = true
			set = append(set, r)
		}
		resolver := scan.Resolver{Finder: load(t, set), Accounts: eligibleAccounts{}}
		for i := range links {
			link := g.link()
			if i%3 == 0 { // near a rule
				link = set[g.IntN(len(set))].prefix + g.pick("", "/", "a", "?", "?id=1", "&x", "#")
			}
			want, opens := slowOpens(set, link)
			got := resolver.Resolve(scan.Request{Text: link, At: time.Unix(0, 0)})
			require.True(t, opens == (got.Action == scan.OpenMiniProgram) && (!opens || got.Matched.Prefix == want.prefix),
				"seed %d, set %d: link %q\n rules %+v\n opens %q (%s), want %v %q", seed, n, link, set,
				got.Matched.Prefix, got.Action, opens, want.prefix)
			if opens {
				opened++
			}
			// The explanation has the same decision.
			e := resolver.Explain(scan.Request{Text: link, At: time.Unix(0, 0)}, nil)
			unopened := slices.DeleteFunc(slices.Clone(e.Steps), func(s scan.Step) bool { return s.Verdict == scan.Opens })
			require.True(t, e.Action == got.Action && (!opens || len(unopened) == len(e.Steps)-1),
				"seed %d, set %d: link %q: explained as %+v", seed, n, link, e)
		}
	}
	require.True(t, opened >= sets, "%d of %d cases opened a Mini Program, want at least %d", opened, sets*links, sets)
	t.Logf("%d cases, %d opened", sets*links, opened)
}

// TestScan_EqualsSlowMatcherUnderChanges adds, changes and removes rules one by one, loads all rules, and reads them from a snapshot. After
// each step it compares links with the slow matcher.
func TestScan_EqualsSlowMatcherUnderChanges(t *testing.T) {
	rounds, steps, links := 60, 60, 8
	if testing.Short() {
		rounds = 6
	}
	const seed = 20172
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	path := filepath.Join(t.TempDir(), "rules.snapshot")
	for n := range rounds {
		x := index.New()
		stored := map[string]slowRule{} // by key
		rule := func(r slowRule) rules.Rule {
			p := require.Value(rules.ParsePrefix(r.prefix, rules.Ordinary, false))(t)
			return rules.Rule{ID: 1, Kind: rules.Ordinary, Owner: r.owner, Target: r.owner, Prefix: p, Path: "p", Published: r.published}
		}
		for step := range steps {
			action := ""
			switch g.IntN(12) {
			case 0:
				action = "load"
				require.NoError(t, x.Load(func(yield func(rules.Rule, error) bool) {
					for _, r := range stored {
						if !yield(rule(r), nil) {
							return
						}
					}
				}))
			case 1:
				action = "snapshot"
				require.NoError(t, x.WriteSnapshot(path, index.Checkpoint{Seq: int64(n)}, nil))
				s := require.Value(index.ReadSnapshot(path))(t)
				x = s.Rules
			case 2, 3, 4:
				action = "remove"
				for key := range stored {
					x.Remove(key)
					delete(stored, key)
					break
				}
			default:
				action = "set"
				r := slowRule{prefix: g.link(), owner: g.pick("A", "B", "C"), published: g.IntN(3) > 0}
				stored[slowKey(r.prefix)] = r
				x.Set(rule(r))
			}
			require.Equal(t, x.Len(), len(stored), "seed %d, round %d, step %d (%s): rules", seed, n, step, action)
			set := slices.Collect(maps.Values(stored))
			for range links {
				text := g.link()
				want, opens := slowOpens(set, text)
				if got, ok := x.Governing(text); ok != opens || ok && (got.Prefix != want.prefix || got.Owner != want.owner) {
					t.Fatalf("seed %d, round %d, step %d (%s): link %q\n rules %+v\n governed by %+v, want %v %+v", seed,
						n, step, action, text, set, got, opens, want)
				}
			}
		}
	}
}

// TestScanOverlay_EqualsRealRules verifies that an Overlay, which explanations, plans and point-in-time queries use, has the results of an
// index that contains its rules, including test links.
func TestScanOverlay_EqualsRealRules(t *testing.T) {
	const seed, rounds, links = 20173, 400, 30
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	testers := members{eligibleAccounts{}}
	tested := 0
	for n := range rounds {
		stored, want := index.New(), map[string]rules.Rule{}
		changed := map[string]*rules.Rule{}
		var texts []string
		for i := range 3 + g.IntN(6) {
			p, err := rules.ParsePrefix(g.link(), rules.Ordinary, false)
			if err != nil {
				continue
			}
			owner := g.pick("A", "B", "C")
			r := rules.Rule{ID: int64(i + 1), Kind: rules.Ordinary, Owner: owner, Target: owner, Prefix: p, Path: fmt.Sprint("p", i),
				OpenVersion: 1 + g.IntN(3), Published: g.IntN(3) > 0}
			if g.IntN(2) == 0 {
				r.TestLinks = []string{p.Key + g.pick("", "/", "x")}
				texts = append(texts, r.TestLinks...)
			}
			_, exists := want[p.Key]
			switch {
			case !exists && g.IntN(2) == 0:
				stored.Set(r)
			case exists && g.IntN(4) == 0:
				changed[p.Key] = nil
				delete(want, p.Key)
				continue
			default:
				changed[p.Key] = &r
			}
			want[p.Key] = r
		}
		complete, wanted := index.New(), map[string]*rules.Rule{}
		for key, r := range want {
			complete.Set(r)
			wanted[key] = &r
		}
		for name, overlay := range map[string]scan.Overlay{"over an index": {Base: stored, Rules: changed},
			"without an index": {Rules: wanted}} {
			for range links {
				text := g.link()
				if len(texts) > 0 && g.IntN(3) == 0 {
					text = g.pick(texts...)
				}
				for _, user := range []string{"", "dev"} {
					req := scan.Request{Text: text, User: user, At: time.Unix(0, 0)}
					want := scan.Resolver{Finder: complete, Accounts: testers}.Resolve(req)
					r := scan.Resolver{Finder: overlay, Accounts: testers}
					got, explained := r.Resolve(req), r.Explain(req, nil)
					require.True(t, got == want && explained.Decision == want,
						"seed %d, round %d, %s: %q by %q\nResolve %+v\nExplain %+v\nwant    %+v", seed, n, name, text, user, got,
						explained.Decision, want)
					if want.Kind == scan.ByTestLink {
						tested++
					}
				}
			}
		}
	}
	require.True(t, tested >= rounds, "%d scans of test links, want at least %d", tested, rounds)
}

// members is eligibleAccounts with the developer dev.
type members struct{ eligibleAccounts }

func (m members) Account(appid string) (accounts.Account, bool) {
	a, ok := m.eligibleAccounts.Account(appid)
	a.Members = map[string]accounts.Role{"dev": accounts.Developer}
	return a, ok
}

// Behaviour(scan.plain).
func TestScan_OverlongTextAsPlain(t *testing.T) {
	x := load(t, []slowRule{{prefix: "https://h.example/a/", owner: "wx1", published: true}})
	d := scan.Resolver{Finder: x, Accounts: eligibleAccounts{}}.Resolve(scan.Request{Text: "https://h.example/a/" + strings.Repeat("b/",
		32<<10)})
	assert.Equal(t, d.Action, scan.ShowText, "action of an overlong text")
}

// FuzzMatch compares Prefix.Matches and the index with the slow matcher.
func FuzzMatch(f *testing.F) {
	for _, pair := range [][2]string{
		{"https://www.qq.com/a/", "https://www.qq.com/a/b"}, {"https://h.example", "https://h.example?x"},
		{"https://h.example/?", "https://h.example"},
		{"http://weixin.qq.com/q/AB", "HTTP://WEIXIN.QQ.COM/q/AB"}, {"https://h.example#x", "https://h.example"},
		{"https://h.example/a?b?c", "https://h.example/a?b?cd"},
	} {
		f.Add(pair[0], pair[1], "https://h.example/a/")
	}
	f.Fuzz(func(t *testing.T, prefix, link, other string) {
		p, err := rules.ParsePrefix(prefix, rules.Ordinary, true)
		if err != nil {
			if p, err = rules.ParsePrefix(prefix, rules.KindService, true); err != nil {
				return
			}
		}
		l, ok := rules.ParseLink(link)
		if !ok {
			require.True(t, !slowMatches(prefix, link), "ParseLink rejects %q, which the slow matcher matches with %q", link, prefix)
			return
		}
		require.Equal(t, p.Matches(l), slowMatches(prefix, link), "rule %q, link %q", prefix, link)
		// The index finds exactly the rules that match.
		x := index.New()
		x.Set(rules.Rule{ID: 1, Owner: "A", Target: "A", Prefix: p, Published: true})
		if q, err := rules.ParsePrefix(other, rules.Ordinary, true); err == nil {
			x.Set(rules.Rule{ID: 2, Owner: "B", Target: "B", Prefix: q, Published: true})
		}
		found := false
		for _, r := range x.Matching(l) {
			found = found || r.Prefix.Key == p.Key
			require.True(t, r.Prefix.Matches(l), "the index found %q for %q, which does not match", r.Prefix.Text, link)
		}
		if q, err := rules.ParsePrefix(other, rules.Ordinary, true); (err != nil || q.Key != p.Key) && found != p.Matches(l) {
			t.Fatalf("rule %q, link %q: found %v, matches %v", prefix, link, found, p.Matches(l))
		}
	})
}

// FuzzResolve verifies the invariants of decisions for arbitrary texts.
func FuzzResolve(f *testing.F) {
	for _, s := range []string{"", "hello", "https://h.example/a/1?q=2", "https://", "http://weixin.qq.com/q/AB", "\x00",
		"https://h.example/\xff", strings.Repeat("https://h.example/", 300)} {
		f.Add(s)
	}
	set := []slowRule{{"https://h.example/a/", "A", true}, {"https://h.example/a/b", "A", false}, {"https://h.example", "B", true}}
	f.Fuzz(func(t *testing.T, text string) {
		r := scan.Resolver{Finder: load(t, set), Accounts: eligibleAccounts{}}
		d := r.Resolve(scan.Request{Text: text, User: "u", At: time.Unix(1_600_000_000, 0)})
		switch d.Action {
		case scan.OpenMiniProgram:
			_, opens := slowOpens(set, text)
			require.True(t, opens, "%q opens %+v", text, d)
			require.True(t, strings.Contains(d.Path, "q=") && !strings.ContainsAny(d.Path, " \n\"<>"), "path %q", d.Path)
		case scan.OpenURL:
			require.True(t, d.URL == text && rules.PlainText(text), "%q opens the URL %q", text, d.URL)
		case scan.ShowText:
			require.True(t, d.Text == text, "%q shows %q", text, d.Text)
		default:
			t.Fatalf("%q: action %q", text, d.Action)
		}
		_ = fmt.Sprint(r.Explain(scan.Request{Text: text, At: time.Unix(0, 0)}, nil))
	})
}
