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

func linkOf(t testing.TB, text string) rules.Link {
	t.Helper()
	link, ok := rules.ParseLink(text)
	require.True(t, ok, "%q is no link", text)
	return link
}

// The small world: forty prefixes and every link of their alphabet.
var (
	//go:embed testdata/prefixes.txt
	worldText     string
	worldPrefixes = strings.Fields(worldText)
	worldLinks    = func() (list []string) {
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

// TestIndex_ExhaustiveThreeRules: every set of up to three of the forty prefixes, each of two owners and published or not, against every
// link, compared with rules.Prefix.Matches and the contract's sentence on owners. In make test a thirteenth of the sets of three,
// those above every thirteenth set of two.
func TestIndex_ExhaustiveThreeRules(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	require.Equal(t, len(worldPrefixes), 40, "prefixes")
	var prefixes []rules.Prefix
	for _, text := range worldPrefixes {
		p, err := rules.ParsePrefix(text, rules.Ordinary, true)
		if err != nil {
			p, err = rules.ParsePrefix(text, rules.KindService, true)
			require.NoError(t, err)
		}
		prefixes = append(prefixes, p)
	}
	var links []rules.Link
	for _, text := range worldLinks {
		links = append(links, linkOf(t, text))
	}
	// matches[p] has the links that a prefix matches.
	matches := make([][]bool, len(prefixes))
	for p, prefix := range prefixes {
		for _, link := range links {
			matches[p] = append(matches[p], prefix.Matches(link))
		}
	}
	// chosen rules, each prefix*4 + owner*2 + published, longest key first.
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
			if ok != (want >= 0) || ok && hit.Prefix != worldPrefixes[want] {
				t.Fatalf("%+v: %q is governed by %+v, want %d", set, worldLinks[i], hit, want)
			}
			if ok {
				opened++
			}
		}
		checked += len(links)
	}
	owners := []string{"A", "B"}
	pairs, every := 0, testscope.Choose(1, 13) // no multiple of the four variants: each comes
	var grow func(from, more int)
	grow = func(from, more int) {
		check()
		if more == 0 {
			return
		}
		for p := from; p < len(prefixes); p++ {
			if slices.ContainsFunc(set, func(c chosen) bool { return prefixes[c.prefix].Key == prefixes[p].Key }) {
				continue // one identity
			}
			for variant := range 4 {
				c := chosen{p, variant >> 1, variant & 1}
				x.Set(rules.Rule{ID: int64(p), Kind: rules.Ordinary, Owner: owners[c.owner], Target: owners[c.owner], Prefix: prefixes[p],
					Path: "p", Published: c.published == 1})
				set = append(set, c)
				next := more - 1
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
		size = 2 // nothing here runs at the same time
	}
	grow(0, size)
	t.Logf("%d cases, %d open something", checked, opened)
	assert.Equal(t, x.Len(), 0, "rules are left")
}

func TestIndexLookup_NoAllocation(t *testing.T) {
	x := New()
	require.NoError(t, x.Load(each(someRules(t))))
	for _, text := range []string{"https://h.example/a/x", "https://h.example/a/b?id=12", "https://h.example/a/b/c",
		"https://h.example/zzz", "https://nobody.example/a",
		"http://weixin.qq.com/q/02AAAAAAAAAAAAAA", "http://a-host-whose-name-is-longer-than-a-line.example/x", "https://g.example/?x=1"} {
		hits := 0
		n := testing.AllocsPerRun(100, func() {
			if link, ok := rules.ParseLink(text); ok && rules.PlainText(text) {
				if _, ok := x.Governing(link.Text); ok {
					hits++
				}
			}
		})
		assert.True(t, n == 0, "%q: %v allocations, %d hits", text, n, hits)
	}
}

func TestIndexLookup_HostileLinkBounded(t *testing.T) {
	x := New()
	x.Set(aRuleOf(t, 1, "https://h.example/a/"))
	x.Set(aRuleOf(t, 3, "https://h.example/a/b?id="))
	// A host with a rule at every place that there can be.
	for i := range 900 {
		x.Set(aRuleOf(t, int64(2*i+1), "https://deep.example"+strings.Repeat("/", i+1)))
		x.Set(aRuleOf(t, int64(2*i+1), "https://deep.example/q?"+strings.Repeat("x", i)))
	}
	probes := func(text string) int {
		link := linkOf(t, text)
		_, found := x.state.Load().begin(&link, nil)
		x.Governing(link.Text)
		x.Matching(link)
		return len(found)
	}
	for name, c := range map[string]struct {
		text string
		most int
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
		assert.True(t, n <= c.most, "%s: %d places are looked at, want at most %d", name, n, c.most)
	}
	hit, ok := x.Governing(linkOf(t, "https://deep.example"+strings.Repeat("/", 4000)).Text)
	assert.True(t, ok && len(hit.Prefix) == len("https://deep.example")+900, "the longest of 900 is not found: %v %q", ok, hit.Prefix)
	hit, ok = x.Governing(linkOf(t, "https://deep.example/q?"+strings.Repeat("x", 500)).Text)
	assert.True(t, ok && len(hit.Prefix) == len("https://deep.example/q?")+500, "the longest of 500 is not found: %v %q", ok, hit.Prefix)
}

func TestIndexLookup_FortyOwnersUnpublished(t *testing.T) {
	// Unpublished rules of many owners, each above a published one of its own.
	x := New()
	for i := range 40 {
		r := aRuleOf(t, int64(i), "https://h.example/"+strings.Repeat("a/", 100+i))
		r.Owner, r.Published = fmt.Sprint("owner", i), false
		x.Set(r)
		r = aRuleOf(t, int64(i), "https://h.example/"+strings.Repeat("a/", 1+i))
		r.Owner, r.Published = fmt.Sprint("owner", i), true
		x.Set(r)
	}
	link := linkOf(t, "https://h.example/"+strings.Repeat("a/", 300))
	hit, ok := x.Governing(link.Text)
	assert.True(t, !ok, "governed by %+v", hit)
	open := aRuleOf(t, 999, "https://h.example/a/")
	open.Owner = "another"
	x.Set(open)
	hit, ok = x.Governing(link.Text)
	assert.True(t, ok && hit.ID == 999, "governed by %+v", hit)
}

func TestIndexLoad_FailureLeavesUnchanged(t *testing.T) {
	x := New()
	x.Set(aRuleOf(t, 1, "https://h.example/a/"))
	broken := errors.New("broken")
	err := x.Load(func(yield func(rules.Rule, error) bool) {
		if yield(aRuleOf(t, 3, "https://h.example/b/"), nil) {
			yield(rules.Rule{}, broken)
		}
	})
	assert.True(t, errors.Is(err, broken), "got %v", err)
	_, ok := x.Governing(linkOf(t, "https://h.example/a/").Text)
	assert.True(t, ok && x.Len() == 1, "%d rules are left of one", x.Len())
	err = x.Load(each([]rules.Rule{{ID: 7}}))
	assert.True(t, err != nil && strings.Contains(err.Error(), "rule 7"), "a rule without a prefix: %v", err)
}

func TestIndexLoad_DuplicateRuleLastWins(t *testing.T) {
	x := New()
	first := aRuleOf(t, 1, "https://h.example/a", "https://h.example/a?test")
	second := aRuleOf(t, 3, "https://h.example/a")
	require.NoError(t, x.Load(each([]rules.Rule{first, second})))
	hit, ok := x.Governing(linkOf(t, "https://h.example/a").Text)
	assert.True(t, ok && hit.ID == 3 && x.Len() == 1, "%+v of %d rules", hit, x.Len())
	got := x.Testing("https://h.example/a?test")
	assert.True(t, len(got) == 0, "a test link of the first is left: %v", got)
}

// TestIndex_ChurnMemoryBounded: rules come and go for ever; what is dead is given back.
func TestIndex_ChurnMemoryBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	x := New()
	many := testscope.Choose(20_000, 4_000)
	for i := range many {
		x.Set(aRuleOf(t, int64(i), fmt.Sprintf("https://h%d.example/t/%d/", i%50, i)))
	}
	full := x.Bytes()
	for i := range 10 * many {
		r := aRuleOf(t, int64(i), fmt.Sprintf("https://h%d.example/t/%d/", i%50, i%many))
		if i%3 == 0 {
			x.Remove(r.Prefix.Key)
		}
		x.Set(r)
	}
	if now := x.Bytes(); now > 2*full+1<<20 || x.Len() != many {
		t.Errorf("%d rules took %d bytes, after much coming and going %d take %d", many, full, x.Len(), now)
	}
	for i := range many {
		_, ok := x.Governing(linkOf(t, fmt.Sprintf("https://h%d.example/t/%d/x", i%50, i)).Text)
		list := x.Matching(linkOf(t, fmt.Sprintf("https://h%d.example/t/%d/x", i%50, i)))
		require.True(t, len(list) == 1, "rule %d is gone", i)
		require.Equal(t, ok, list[0].Published, "rule %d", i)
	}
}

// TestIndexChange_ConstantCost: nothing that is copied for a change grows with the table.
func TestIndexChange_ConstantCost(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	many := testscope.Choose(300_000, 60_000)
	x := New()
	require.NoError(t, x.Load(func(yield func(rules.Rule, error) bool) {
		for i := range many {
			if !yield(aRuleOf(t, int64(i), fmt.Sprintf("https://h%d.example/t/%d/", i%500, i)), nil) {
				return
			}
		}
	}))
	r := aRuleOf(t, 1, "https://h1.example/t/1/")
	// So many that what is allocated beside them does not matter.
	const times = 20_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range times {
		r.Published = i%2 == 0
		x.Set(r)
	}
	runtime.ReadMemStats(&after)
	n := (after.TotalAlloc - before.TotalAlloc) / times
	assert.True(t, n <= 4096, "a change copies %d bytes of %d rules", n, many)
}

// A history of the index, per host: three rules of which two can govern one link, set (published or not), removed, and looked up.

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

// indexModel is what an index may answer: it takes every rule at once.
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
		// The look-up is of "/a/b?i", which all three match.
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
	r := aRuleOf(t, int64(in.rule+1), fmt.Sprintf("https://h%d.example%s", in.host, historyRules[in.rule].tail))
	r.Owner, r.Target, r.Published = historyRules[in.rule].owner, historyRules[in.rule].owner, in.set == rulePublished
	return r
}

// play does one operation and notes it.
func (h *indexHistory) play(t testing.TB, client int, in indexInput) {
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
	h.done = append(h.done, op)
}

type indexHistory struct {
	searched bool // links are such that a glance leaves them to the search
	x        *Index
	clock    atomic.Int64
	mu       sync.Mutex
	done     []porcupine.Operation
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
					h.play(t, client, in)
				}
			})
		}
		clients.Wait()
		require.True(t, porcupine.CheckOperations(indexModel, h.done), "round %d: the history is illegal", round)
	}
}

// TestIndexLookup_ConsistentBetweenChanges: between two steps of a look-up the longer rule is published and the shorter one taken back. One
// of them governs at every moment. Without the check of the version the look-up finds neither, and the checker of histories says so: of the
// search, and of the glance in front of it.
func TestIndexLookup_ConsistentBetweenChanges(t *testing.T) {
	for _, of := range []struct {
		searched, careless bool
		legal              bool
	}{
		{true, false, true}, {true, true, false},
		{false, false, true}, {false, true, false},
	} {
		h := &indexHistory{x: New(), searched: of.searched}
		h.play(t, 0, indexInput{rule: 0, set: rulePublished})
		h.play(t, 0, indexInput{rule: 1, set: ruleUnpublished}) // there is something to look for at every place
		h.play(t, 0, indexInput{rule: 2, set: ruleUnpublished})
		h.play(t, 0, indexInput{rule: 1, set: ruleAbsent})
		h.play(t, 0, indexInput{rule: 2, set: ruleAbsent})
		h.x.careless = of.careless
		takenBack, reusers := ruleUnpublished, 0
		if !of.searched {
			// A glance leaves unpublished rules to the search. A slot that
			// is free keeps what it had until another rule takes it: one of these does.
			takenBack, reusers = ruleAbsent, 20_000
		}
		steps := 0
		h.x.midway = func(string) {
			if steps++; steps == 3 { // the longer ones were looked for, the shortest is next
				h.x.midway = nil
				h.play(t, 1, indexInput{rule: 2, set: rulePublished})
				h.play(t, 1, indexInput{rule: 0, set: takenBack})
				for i := range reusers {
					h.x.Set(aRuleOf(t, int64(i), fmt.Sprintf("https://other.example/%d", i)))
				}
			}
		}
		h.play(t, 0, indexInput{rule: -1})
		require.True(t, h.x.midway == nil, "the look-up had no third step")
		if legal := porcupine.CheckOperations(indexModel, h.done); legal != of.legal {
			t.Errorf("%+v: the history is legal: %v\n%+v", of, legal, h.done)
		}
	}
}

// TestIndexLookup_ConcurrentChanges runs look-ups against single changes, chunks that are given back, segments that grow, loads and
// snapshots. One of two rules governs at every moment.
func TestIndexLookup_ConcurrentChanges(t *testing.T) {
	x := New()
	short, long := aRuleOf(t, 1, "https://h.example/a/"), aRuleOf(t, 3, "https://h.example/a/b")
	long.Owner = short.Owner
	x.Set(short)
	x.Set(long)
	link, none := linkOf(t, "https://h.example/a/b"), linkOf(t, "https://h.example/b")
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for !stop.Load() {
				if hit, ok := x.Governing(link.Text); !ok || hit.ID != 1 && hit.ID != 3 || hit.Page != fmt.Sprintf("pages/p%d", hit.ID%5) {
					t.Errorf("governed by %+v", hit)
					return
				}
				if hit, ok := x.Governing(none.Text); ok {
					t.Errorf("nothing is governed by %+v", hit)
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
		x.Set(aRuleOf(t, int64(i), fmt.Sprintf("https://h%d.example/%d/%d", i%30, i%7, i)))
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
