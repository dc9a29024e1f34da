package index_test

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"iter"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The layouts that were tried for the index, side by side with one probe of a Go map with the whole link. docs/decisions/0012-rule-index.md
// has the figures. LAYOUT_RULES sets how many rules there are (100,000).

// world generates any number of rules: 70 % exact paths, 20 % with sub-paths, 10 % query prefixes, a third nested, 100 for each
// Mini Program, 20,000 hosts by Zipf's law.
type world struct {
	n    int
	zipf *rand.Zipf
	rng  *rand.Rand
	host []uint32 // of each Mini Program
}

func (w *world) prefix(i int) string {
	app, role := i/100, i%100
	at := fmt.Sprintf("https://m.brand%d.example.com/", w.host[app])
	name := func(i int) string { return strconv.FormatInt(int64(i)*7919%1_000_003+int64(i)*1_000_003, 36) }
	switch {
	case role < 13:
		return at + "t/" + name(i) + "/"
	case role < 20: // nested
		return at + "t/" + name(i-role) + "/" + name(i) + "/"
	case role < 70:
		return at + "item/" + name(i)
	case role < 90: // nested
		return at + "t/" + name(i-role+role%13) + "/" + name(i)
	case role < 94:
		return at + "q/" + name(i) + "?id=" + strconv.Itoa(10+role)
	}
	return at + "item/" + name(i-role+20+role%13) + "?id=" + strconv.Itoa(i%1000) // nested
}

func (w *world) link(i int) string {
	p, more := w.prefix(i), strconv.FormatInt(int64(w.rng.IntN(1<<30)), 36)
	if w.rng.IntN(5) == 0 { // a near miss
		return strings.Replace(p, "/item/", "/items/", 1) + "-/" + more
	}
	switch {
	case strings.HasSuffix(p, "/"):
		return p + more
	case strings.Contains(p, "?"):
		return p + "&x=" + more
	case w.rng.IntN(2) == 0:
		return p + "?from=" + more
	}
	return p
}

func (w *world) links(n int, zipf bool) []string {
	ranks := rand.NewZipf(w.rng, 1.05, 1, uint64(w.n-1))
	list := make([]string, n)
	for i := range list {
		number := w.rng.IntN(w.n)
		if zipf {
			number = int(ranks.Uint64() * 2_654_435_761 % uint64(w.n))
		}
		list[i] = w.link(number)
	}
	return list
}

func (w *world) rules() iter.Seq2[rules.Rule, error] {
	return func(yield func(rules.Rule, error) bool) {
		for i := range w.n {
			p, _ := rules.StoredPrefix(w.prefix(i))
			owner := fmt.Sprintf("wx%016x", i/100)
			if !yield(rules.Rule{ID: int64(i + 1), Kind: rules.Ordinary, Owner: owner, Target: owner, Prefix: p, Path: "pages/index/p" +
				strconv.Itoa(i%20), Published: i%20 != 0}, nil) {
				return
			}
		}
	}
}

// ends calls f with each key at which a rule can end, longest first.
func ends(link string, f func(key string) bool) {
	l, ok := rules.ParseLink(link)
	if !ok {
		return
	}
	path, query := l.Cuts()
	for i := len(l.Key); i > path; i-- {
		if (i >= query || l.Key[i-1] == '/') && f(l.Key[:i]) {
			return
		}
	}
}

// packed is open addressing without pointers: one slot of eight bytes a rule,
// whole keys in one arena, a probe at each place where a rule can end.
type packed struct {
	seed  maphash.Seed
	slots []uint64 // 24 bits of hash, 40 of the place in keys
	keys  []byte   // number of the rule, length, key
}

func newPacked(w *world) *packed {
	p := &packed{seed: maphash.MakeSeed(), slots: make([]uint64, w.n*10/6), keys: make([]byte, 8, w.n*52)}
	for i := range w.n {
		key := w.prefix(i)
		at := len(p.keys)
		p.keys = binary.LittleEndian.AppendUint32(p.keys, uint32(i))
		p.keys = binary.LittleEndian.AppendUint16(p.keys, uint16(len(key)))
		p.keys = append(p.keys, key...)
		h := maphash.String(p.seed, key)
		for j := h % uint64(len(p.slots)); ; j = (j + 1) % uint64(len(p.slots)) {
			if p.slots[j] == 0 {
				p.slots[j] = h>>40<<40 | uint64(at)
				break
			}
		}
	}
	return p
}

func (p *packed) find(key string) (uint32, bool) {
	h := maphash.String(p.seed, key)
	for j := h % uint64(len(p.slots)); p.slots[j] != 0; j = (j + 1) % uint64(len(p.slots)) {
		if v := p.slots[j]; v>>40 == h>>40 {
			b := p.keys[v&(1<<40-1):]
			if n := binary.LittleEndian.Uint16(b[4:]); int(n) == len(key) && string(b[6:6+n]) == key {
				return binary.LittleEndian.Uint32(b), true
			}
		}
	}
	return 0, false
}

func BenchmarkLayouts(b *testing.B) {
	n := 100_000
	if text := os.Getenv("LAYOUT_RULES"); text != "" {
		n, _ = strconv.Atoi(text)
	}
	rng := rand.New(rand.NewPCG(5, 10))
	w := &world{n: n, rng: rng, zipf: rand.NewZipf(rng, 1.05, 1, 19_999)}
	for range n/100 + 1 {
		w.host = append(w.host, uint32(w.zipf.Uint64()))
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	grown := func(name string, make func()) {
		before, began := heap(), time.Now()
		make()
		took := time.Since(began)
		b.Logf("%-22s %6.1f bytes a rule, built in %v", name, float64(heap()-before)/float64(n), took.Round(time.Millisecond))
	}
	var text int
	for i := range n {
		text += len(w.prefix(i))
	}
	b.Logf("%d rules, prefixes of %.1f bytes", n, float64(text)/float64(n))
	var one map[string]uint32
	var flat *packed
	x := index.New()
	grown("Go map", func() {
		one = make(map[string]uint32, n)
		for i := range n {
			one[w.prefix(i)] = uint32(i)
		}
	})
	grown("packed, places", func() { flat = newPacked(w) })
	grown("index", func() { require.NoError(b, x.Load(w.rules())) })
	b.Logf("%-22s %6.1f by its own account", "index", float64(x.Bytes())/float64(n))
	var sink, hits int
	layouts := []struct {
		name string
		find func(link string)
	}{
		{"Go map, one probe", func(link string) { sink += int(one[link]) }},
		{"Go map, places", func(link string) {
			ends(link, func(key string) bool {
				i, ok := one[key]
				sink += int(i)
				return ok && i%20 != 0
			})
		}},
		{"packed, places", func(link string) {
			ends(link, func(key string) bool {
				i, ok := flat.find(key)
				sink += int(i)
				return ok && i%20 != 0
			})
		}},
		{"index", func(link string) {
			l, ok := rules.ParseLink(link)
			if !ok {
				return
			}
			if hit, ok := x.Governing(l.Text); ok {
				sink += int(hit.ID) + len(hit.Owner)
				hits++
			}
		}},
	}
	for _, zipf := range []bool{false, true} {
		b.Run(fmt.Sprintf("%d/zipf=%v", n, zipf), func(b *testing.B) {
			// Short turns, one layout after the other, and the median of them: what
			// else the machine does then spoils few turns and hits all alike.
			const turn, turns = 400, 250
			links := w.links(8*turn*turns, zipf)
			taken := make([][]float64, len(layouts)) // ns a link, by round
			next := 0
			for b.Loop() {
				round := make([][]float64, len(layouts))
				for range turns {
					part := links[next%(8*turns)*turn:][:turn]
					for i := range layouts {
						i = (i + next) % len(layouts) // not always in one order
						began := time.Now()
						for _, link := range part {
							layouts[i].find(link)
						}
						round[i] = append(round[i], float64(time.Since(began).Nanoseconds())/turn)
					}
					next++
				}
				for i := range layouts {
					slices.Sort(round[i])
					taken[i] = append(taken[i], round[i][turns/2])
				}
			}
			for i, layout := range layouts {
				var ratios []float64
				for r := range taken[i] {
					ratios = append(ratios, taken[i][r]/taken[0][r])
				}
				slices.Sort(ratios)
				slices.Sort(taken[i])
				b.Logf("%-22s min %.2f median %.2f max %.2f, %.0f ns, %d rounds", layout.name, ratios[0], ratios[len(ratios)/2],
					ratios[len(ratios)-1], taken[i][len(ratios)/2], len(ratios))
			}
		})
	}
	require.True(b, sink != 0 && hits != 0, "nothing was found")
}
