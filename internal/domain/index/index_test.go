package index

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

func mustParseLink(t testing.TB, text string) rules.Link {
	t.Helper()
	link, ok := rules.ParseLink(text)
	require.True(t, ok, "%q is not a link", text)
	return link
}

// The exhaustive test compares forty prefixes with every link of their alphabet.
var (
	//go:embed testdata/prefixes.txt
	modelText     string
	modelPrefixes = strings.Fields(modelText)
	modelLinks    = func() (list []string) {
		for _, path := range []string{"", "/", "/a", "/a/", "/ab", "/ab/a", "/a/a", "/a/a/", "/a/a/a", "/a/a/a/b", "/a/b", "/a/b/a", "/a//",
			"/a//b", "//", "//a", "//a/b", "/a#", "/a#/a", "#/", "#/a", "#a", "/b"} {
			for _, query := range []string{"", "?", "?a", "?a=b", "?ab", "?a?", "?a/", "?b"} {
				list = append(list, "https://h.example"+path+query)
			}
		}
		for _, origin := range []string{"http://h.example", "https://g.example", "http://weixin.qq.com"} {
			for _, tail := range []string{"", "/a", "/a/b", "/q/a", "/q/a?a", "/q/"} {
				list = append(list, origin+tail)
			}
		}
		return list
	}()
)

// TestIndex_ExhaustiveThreeRules compares the index with rules.Prefix.Matches and the contract's sentence on owners, for every set of up to
// three of the forty prefixes, each of two owners and published or not, and every link. make test extends only every thirteenth set of two
// rules.
func TestIndex_ExhaustiveThreeRules(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	require.Equal(t, len(modelPrefixes), 40, "prefixes")
	var prefixes []rules.Prefix
	for _, text := range modelPrefixes {
		p, err := rules.ParsePrefix(text, rules.Ordinary, true)
		if err != nil {
			p = require.Value(rules.ParsePrefix(text, rules.KindService, true))(t)
		}
		prefixes = append(prefixes, p)
	}
	var links []rules.Link
	for _, text := range modelLinks {
		links = append(links, mustParseLink(t, text))
	}
	// matches[p] has the links that a prefix matches.
	matches := make([][]bool, len(prefixes))
	for p, prefix := range prefixes {
		for _, link := range links {
			matches[p] = append(matches[p], prefix.Matches(link))
		}
	}
	type chosen struct{ prefix, owner, published int }
	x := New()
	var set []chosen
	checked, opened := 0, 0
	check := func() {
		sorted := slices.Clone(set)
		slices.SortFunc(sorted, func(a, b chosen) int { return cmp.Compare(len(prefixes[b.prefix].Key), len(prefixes[a.prefix].Key)) })
		for i := range links {
			want := -1
			hidden := 0
			for _, c := range sorted {
				if !matches[c.prefix][i] {
					continue
				}
				if c.published == 1 && hidden>>c.owner&1 == 0 {
					want = c.prefix
					break
				}
				hidden |= 1 << c.owner
			}
			hit, ok := x.Governing(links[i].Text)
			if ok != (want >= 0) || ok && hit.Prefix != modelPrefixes[want] {
				t.Fatalf("%+v: Governing(%q) = %+v, want rule %d", set, modelLinks[i], hit, want)
			}
			if ok {
				opened++
			}
		}
		checked += len(links)
	}
	owners := []string{"A", "B"}
	pairs, every := 0, testscope.Select(1, 13) // not a multiple of the four variants, so that each occurs
	var grow func(from, depth int)
	grow = func(from, depth int) {
		check()
		if depth == 0 {
			return
		}
		for p := from; p < len(prefixes); p++ {
			if slices.ContainsFunc(set, func(c chosen) bool { return prefixes[c.prefix].Key == prefixes[p].Key }) {
				continue // equal keys
			}
			for variant := range 4 {
				c := chosen{p, variant >> 1, variant & 1}
				x.Set(rules.Rule{ID: int64(p), Kind: rules.Ordinary, Owner: owners[c.owner], Target: owners[c.owner], Prefix: prefixes[p],
					Path: "p", Published: c.published == 1})
				set = append(set, c)
				next := depth - 1
				if len(set) == 2 {
					if pairs++; pairs%every != 0 {
						next = 0
					}
				}
				grow(p+1, next)
				set = set[:len(set)-1]
			}
			x.Remove(prefixes[p].Key)
		}
	}
	size := 3
	if raceDetector {
		size = 2 // the test has no concurrency
	}
	grow(0, size)
	t.Logf("%d cases, %d open something", checked, opened)
	assert.Equal(t, x.Len(), 0, "rules at the end")
}

func TestIndexLookup_NoAllocation(t *testing.T) {
	x := New()
	require.NoError(t, x.Load(ruleSeq(sampleRules(t))))
	for _, text := range []string{"https://h.example/a/x", "https://h.example/a/b?id=12", "https://h.example/a/b/c",
		"https://h.example/zzz", "https://unknown.example/a",
		"http://weixin.qq.com/q/02AAAAAAAAAAAAAA", "http://a-host-whose-name-is-longer-than-a-line.example/x", "https://g.example/?x=1"} {
		hits := 0
		n := testing.AllocsPerRun(100, func() {
			if link, ok := rules.ParseLink(text); ok && rules.PlainText(text) {
				if _, ok := x.Governing(link.Text); ok {
					hits++
				}
			}
		})
		assert.True(t, n == 0, "%q: %v allocations, want 0; %d hits", text, n, hits)
	}
}

func TestIndexLookup_HostileLinkBounded(t *testing.T) {
	x := New()
	x.Set(newRule(t, 1, "https://h.example/a/"))
	x.Set(newRule(t, 3, "https://h.example/a/b?id="))
	// A host with a rule at every possible prefix end.
	for i := range 900 {
		x.Set(newRule(t, int64(2*i+1), "https://deep.example"+strings.Repeat("/", i+1)))
		x.Set(newRule(t, int64(2*i+1), "https://deep.example/q?"+strings.Repeat("x", i)))
	}
	probes := func(text string) int {
		link := mustParseLink(t, text)
		_, found := x.state.Load().begin(&link, nil)
		x.Governing(link.Text)
		x.Matching(link)
		return len(found)
	}
	for name, c := range map[string]struct {
		text string
		max  int
	}{
		"thousands of slashes":               {"https://h.example" + strings.Repeat("/", 4000), 1},
		"thousands of parameters":            {"https://h.example/a/b?" + strings.Repeat("id=", 1300), 2},
		"64 KiB":                             {"https://h.example/a/" + strings.Repeat("b/", 32<<10), 1},
		"invalid UTF-8":                      {"https://h.example/a/\xff\xfe/\x00", 1},
		"every depth has a rule":             {"https://deep.example" + strings.Repeat("/", 4000), rules.MaxPrefix},
		"every length of parameters has one": {"https://deep.example/q?" + strings.Repeat("x", 4000), rules.MaxPrefix},
		"an unknown host":                    {"https://" + strings.Repeat("h", 4000) + strings.Repeat("/", 4000), 0},
	} {
		n := probes(c.text)
		assert.True(t, n <= c.max, "%s: %d probes, want at most %d", name, n, c.max)
	}
	hit, ok := x.Governing(mustParseLink(t, "https://deep.example"+strings.Repeat("/", 4000)).Text)
	assert.True(t, ok && len(hit.Prefix) == len("https://deep.example")+900, "longest of 900 rules: %v %q", ok, hit.Prefix)
	hit, ok = x.Governing(mustParseLink(t, "https://deep.example/q?"+strings.Repeat("x", 500)).Text)
	assert.True(t, ok && len(hit.Prefix) == len("https://deep.example/q?")+500, "longest of 500 rules: %v %q", ok, hit.Prefix)
}

func TestIndexLookup_FortyOwnersUnpublished(t *testing.T) {
	// Each of 40 owners has an unpublished rule that hides its shorter published rule.
	x := New()
	for i := range 40 {
		r := newRule(t, int64(i), "https://h.example/"+strings.Repeat("a/", 100+i))
		r.Owner, r.Published = fmt.Sprint("owner", i), false
		x.Set(r)
		r = newRule(t, int64(i), "https://h.example/"+strings.Repeat("a/", 1+i))
		r.Owner, r.Published = fmt.Sprint("owner", i), true
		x.Set(r)
	}
	link := mustParseLink(t, "https://h.example/"+strings.Repeat("a/", 300))
	hit, ok := x.Governing(link.Text)
	assert.True(t, !ok, "Governing() = %+v, want none", hit)
	open := newRule(t, 999, "https://h.example/a/")
	open.Owner = "another"
	x.Set(open)
	hit, ok = x.Governing(link.Text)
	assert.True(t, ok && hit.ID == 999, "Governing() = %+v, want rule 999", hit)
}

func TestIndexLoad_FailureLeavesUnchanged(t *testing.T) {
	x := New()
	x.Set(newRule(t, 1, "https://h.example/a/"))
	broken := errors.New("broken")
	err := x.Load(func(yield func(rules.Rule, error) bool) {
		if yield(newRule(t, 3, "https://h.example/b/"), nil) {
			yield(rules.Rule{}, broken)
		}
	})
	assert.ErrorIs(t, err, broken, "Load with a failing iterator")
	_, ok := x.Governing(mustParseLink(t, "https://h.example/a/").Text)
	assert.True(t, ok && x.Len() == 1, "%d rules after a failed Load, want the one before", x.Len())
	err = x.Load(ruleSeq([]rules.Rule{{ID: 7}}))
	assert.True(t, err != nil && strings.Contains(err.Error(), "rule 7"),
		"Load of a rule without a prefix: %v, want an error with its number", err)
}

func TestIndexLoad_DuplicateRuleLastWins(t *testing.T) {
	x := New()
	first := newRule(t, 1, "https://h.example/a", "https://h.example/a?test")
	second := newRule(t, 3, "https://h.example/a")
	require.NoError(t, x.Load(ruleSeq([]rules.Rule{first, second})))
	hit, ok := x.Governing(mustParseLink(t, "https://h.example/a").Text)
	assert.True(t, ok && hit.ID == 3 && x.Len() == 1, "Governing() = %+v of %d rules, want rule 3 of 1", hit, x.Len())
	got := x.Testing("https://h.example/a?test")
	assert.True(t, len(got) == 0, "test links of the replaced rule = %v, want none", got)
}

// TestIndex_ChurnMemoryBounded verifies that the memory of replaced and removed rules is reclaimed.
func TestIndex_ChurnMemoryBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	x := New()
	many := testscope.Select(20_000, 4_000)
	for i := range many {
		x.Set(newRule(t, int64(i), fmt.Sprintf("https://h%d.example/t/%d/", i%50, i)))
	}
	full := x.Bytes()
	for i := range 10 * many {
		r := newRule(t, int64(i), fmt.Sprintf("https://h%d.example/t/%d/", i%50, i%many))
		if i%3 == 0 {
			x.Remove(r.Prefix.Key)
		}
		x.Set(r)
	}
	if now := x.Bytes(); now > 2*full+1<<20 || x.Len() != many {
		t.Errorf("%d rules take %d bytes; after replacements %d rules take %d", many, full, x.Len(), now)
	}
	for i := range many {
		_, ok := x.Governing(mustParseLink(t, fmt.Sprintf("https://h%d.example/t/%d/x", i%50, i)).Text)
		list := x.Matching(mustParseLink(t, fmt.Sprintf("https://h%d.example/t/%d/x", i%50, i)))
		require.True(t, len(list) == 1, "%d rules match link %d, want one", len(list), i)
		require.Equal(t, ok, list[0].Published, "rule %d governs", i)
	}
}

// TestIndexChange_ConstantCost verifies that the number of bytes that a change copies is independent of the number of rules.
func TestIndexChange_ConstantCost(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	many := testscope.Select(300_000, 60_000)
	x := New()
	require.NoError(t, x.Load(func(yield func(rules.Rule, error) bool) {
		for i := range many {
			if !yield(newRule(t, int64(i), fmt.Sprintf("https://h%d.example/t/%d/", i%500, i)), nil) {
				return
			}
		}
	}))
	r := newRule(t, 1, "https://h1.example/t/1/")
	const times = 20_000 // makes other allocations negligible
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range times {
		r.Published = i%2 == 0
		x.Set(r)
	}
	runtime.ReadMemStats(&after)
	n := (after.TotalAlloc - before.TotalAlloc) / times
	assert.True(t, n <= 4096, "a change of %d rules copies %d bytes, want at most 4096", many, n)
}

// indexInput is an operation in a history of the index, which is checked per host: a rule is set (published or not) or removed, or a link
// that three rules match is looked up.
type indexInput struct {
	host int
	rule int // -1 = a look-up
	set  int // ruleAbsent, ruleUnpublished, rulePublished
}

const (
	ruleAbsent = iota
	ruleUnpublished
	rulePublished
)

var historyRules = []struct{ tail, owner string }{{"/a/", "A"}, {"/a/b", "A"}, {"/a/b?i", "B"}}

// indexModel is the sequential specification of an index.
var indexModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		byHost := map[int][]porcupine.Operation{}
		for _, op := range history {
			host := op.Input.(indexInput).host
			byHost[host] = append(byHost[host], op)
		}
		for _, part := range byHost {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return [3]int{} },
	Step: func(state, input, output any) (bool, any) {
		s, in := state.([3]int), input.(indexInput)
		if in.rule >= 0 {
			s[in.rule] = in.set
			return true, s
		}
		// All three rules match the link of the look-up, "/a/b?i".
		want, hidden := 0, ""
		for i := len(s) - 1; i >= 0 && want == 0; i-- {
			switch {
			case s[i] == rulePublished && !strings.Contains(hidden, historyRules[i].owner):
				want = i + 1
			case s[i] == ruleUnpublished:
				hidden += historyRules[i].owner
			}
		}
		return output.(int) == want, s
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %v", input, output) },
}

func historyRule(t testing.TB, in indexInput) rules.Rule {
	r := newRule(t, int64(in.rule+1), fmt.Sprintf("https://h%d.example%s", in.host, historyRules[in.rule].tail))
	r.Owner, r.Target, r.Published = historyRules[in.rule].owner, historyRules[in.rule].owner, in.set == rulePublished
	return r
}

// run executes one operation and records it.
func (h *indexHistory) run(t testing.TB, client int, in indexInput) {
	op := porcupine.Operation{ClientId: client, Input: in, Output: 0, Call: h.clock.Add(1)}
	switch {
	case in.rule < 0:
		link := fmt.Sprintf("https://h%d.example/a/b?i", in.host)
		if h.searched {
			link = "HTTPS" + link[len("https"):]
		}
		hit, _ := h.x.Governing(link)
		op.Output = int(hit.ID)
	case in.set == ruleAbsent:
		h.x.Remove(historyRule(t, in).Prefix.Key)
	default:
		h.x.Set(historyRule(t, in))
	}
	op.Return = h.clock.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations = append(h.operations, op)
}

type indexHistory struct {
	searched   bool // uses links that a glance leaves to the search
	x          *Index
	clock      atomic.Int64
	mu         sync.Mutex
	operations []porcupine.Operation
}

func TestIndex_Linearizable(t *testing.T) {
	rounds := 30
	if raceDetector {
		rounds = 8
	}
	for round := range rounds {
		h := &indexHistory{x: New()}
		var clients sync.WaitGroup
		for client := range 6 {
			clients.Go(func() {
				g := rand.New(rand.NewPCG(uint64(round), uint64(client)))
				for range 150 {
					in := indexInput{host: g.IntN(4), rule: -1}
					if client < 2 {
						in.rule, in.set = g.IntN(3), g.IntN(3)
					}
					h.run(t, client, in)
				}
			})
		}
		clients.Wait()
		require.True(t, porcupine.CheckOperations(indexModel, h.operations), "round %d: the history is not linearizable", round)
	}
}

// TestIndexLookup_ConsistentBetweenChanges publishes a longer rule and unpublishes a shorter one between two steps of a look-up, so that
// one of them governs at every moment. Without the version check (careless) the look-up finds neither, and the linearizability checker
// reports it, both for the search and for the glance that precedes it.
func TestIndexLookup_ConsistentBetweenChanges(t *testing.T) {
	for _, c := range []struct {
		searched, careless bool
		legal              bool
	}{
		{true, false, true}, {true, true, false},
		{false, false, true}, {false, true, false},
	} {
		h := &indexHistory{x: New(), searched: c.searched}
		h.run(t, 0, indexInput{rule: 0, set: rulePublished})
		h.run(t, 0, indexInput{rule: 1, set: ruleUnpublished}) // every prefix end has an entry
		h.run(t, 0, indexInput{rule: 2, set: ruleUnpublished})
		h.run(t, 0, indexInput{rule: 1, set: ruleAbsent})
		h.run(t, 0, indexInput{rule: 2, set: ruleAbsent})
		h.x.careless = c.careless
		withdrawn, reusers := ruleUnpublished, 0
		if !c.searched {
			// A glance leaves unpublished rules to the search, so the rule is removed. A free slot keeps its content until another rule
			// uses it: one of the reusers does.
			withdrawn, reusers = ruleAbsent, 20_000
		}
		steps := 0
		h.x.midway = func(string) {
			if steps++; steps == 3 { // before the look-up of the shortest prefix
				h.x.midway = nil
				h.run(t, 1, indexInput{rule: 2, set: rulePublished})
				h.run(t, 1, indexInput{rule: 0, set: withdrawn})
				for i := range reusers {
					h.x.Set(newRule(t, int64(i), fmt.Sprintf("https://other.example/%d", i)))
				}
			}
		}
		h.run(t, 0, indexInput{rule: -1})
		require.True(t, h.x.midway == nil, "the look-up has fewer than three steps")
		if legal := porcupine.CheckOperations(indexModel, h.operations); legal != c.legal {
			t.Errorf("%+v: the history is linearizable: %v\n%+v", c, legal, h.operations)
		}
	}
}

// TestIndexLookup_ConcurrentChanges runs look-ups during single changes, reclaimed chunks, growing segments, loads and snapshots. One of
// two rules governs at every moment.
func TestIndexLookup_ConcurrentChanges(t *testing.T) {
	x := New()
	short, long := newRule(t, 1, "https://h.example/a/"), newRule(t, 3, "https://h.example/a/b")
	long.Owner = short.Owner
	x.Set(short)
	x.Set(long)
	link, none := mustParseLink(t, "https://h.example/a/b"), mustParseLink(t, "https://h.example/b")
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for !stop.Load() {
				if hit, ok := x.Governing(link.Text); !ok || hit.ID != 1 && hit.ID != 3 || hit.Page != fmt.Sprintf("pages/p%d", hit.ID%5) {
					t.Errorf("Governing() = %+v, %v, want rule 1 or 3", hit, ok)
					return
				}
				if hit, ok := x.Governing(none.Text); ok {
					t.Errorf("Governing() of an unmatched link = %+v, want none", hit)
					return
				}
				x.Matching(link)
				x.Testing("https://h.example/a/b?test")
			}
		})
	}
	changes := 6_000
	if raceDetector {
		changes = 1_500
	}
	path := t.TempDir() + "/rules.snapshot"
	for i := range changes {
		x.Remove(long.Prefix.Key)
		long.TestLinks = [][]string{nil, {"https://h.example/a/b?test"}}[i%2]
		x.Set(long)
		x.Remove(short.Prefix.Key)
		x.Set(short)
		x.Set(newRule(t, int64(i), fmt.Sprintf("https://h%d.example/%d/%d", i%30, i%7, i)))
		switch i % 1000 {
		case 500:
			assert.NoError(t, x.Load(x.state.Load().all()))
		case 900:
			assert.NoError(t, x.WriteSnapshot(path, Checkpoint{}, nil))
		}
	}
	stop.Store(true)
	readers.Wait()
}
