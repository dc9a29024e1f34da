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

// BenchmarkLayouts compares candidate layouts of the index with one probe of a Go map with the full link. docs/decisions/0012-rule-index.md
// has the results. LAYOUT_RULES sets the number of rules (100,000).

// ruleGenerator generates n rules: 70 % exact paths, 20 % with sub-paths, 10 % query prefixes, a third nested, 100 per Mini Program,
// 20,000 hosts by Zipf's law.
type ruleGenerator struct {
	n    int
	zipf *rand.Zipf
	rng  *rand.Rand
	host []uint32 // of each Mini Program
}

func (w *ruleGenerator) prefix(i int) string {
	app, role := i/100, i%100
	origin := fmt.Sprintf("https://m.brand%d.example.com/", w.host[app])
	name := func(i int) string { return strconv.FormatInt(int64(i)*7919%1_000_003+int64(i)*1_000_003, 36) }
	switch {
	case role < 13:
		return origin + "t/" + name(i) + "/"
	case role < 20: // nested
		return origin + "t/" + name(i-role) + "/" + name(i) + "/"
	case role < 70:
		return origin + "item/" + name(i)
	case role < 90: // nested
		return origin + "t/" + name(i-role+role%13) + "/" + name(i)
	case role < 94:
		return origin + "q/" + name(i) + "?id=" + strconv.Itoa(10+role)
	}
	return origin + "item/" + name(i-role+20+role%13) + "?id=" + strconv.Itoa(i%1000) // nested
}

func (w *ruleGenerator) link(i int) string {
	p, suffix := w.prefix(i), strconv.FormatInt(int64(w.rng.IntN(1<<30)), 36)
	if w.rng.IntN(5) == 0 { // a near miss
		return strings.Replace(p, "/item/", "/items/", 1) + "-/" + suffix
	}
	switch {
	case strings.HasSuffix(p, "/"):
		return p + suffix
	case strings.Contains(p, "?"):
		return p + "&x=" + suffix
	case w.rng.IntN(2) == 0:
		return p + "?from=" + suffix
	}
	return p
}

func (w *ruleGenerator) links(n int, zipf bool) []string {
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

func (w *ruleGenerator) rules() iter.Seq2[rules.Rule, error] {
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

// packed is a hash table with open addressing and without pointers: one slot of eight bytes per rule, complete keys in one arena, one probe
// per prefix end.
type packed struct {
	seed  maphash.Seed
	slots []uint64 // 24 bits of hash, 40 bits of the offset in keys
	keys  []byte   // number of the rule, length, key
}

func newPacked(w *ruleGenerator) *packed {
	p := &packed{seed: maphash.MakeSeed(), slots: make([]uint64, w.n*10/6), keys: make([]byte, 8, w.n*52)}
	for i := range w.n {
		key := w.prefix(i)
		offset := len(p.keys)
		p.keys = binary.LittleEndian.AppendUint32(p.keys, uint32(i))
		p.keys = binary.LittleEndian.AppendUint16(p.keys, uint16(len(key)))
		p.keys = append(p.keys, key...)
		h := maphash.String(p.seed, key)
		for j := h % uint64(len(p.slots)); ; j = (j + 1) % uint64(len(p.slots)) {
			if p.slots[j] == 0 {
				p.slots[j] = h>>40<<40 | uint64(offset)
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
	w := &ruleGenerator{n: n, rng: rng, zipf: rand.NewZipf(rng, 1.05, 1, 19_999)}
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
	measure := func(name string, build func()) {
		before, start := heap(), time.Now()
		build()
		duration := time.Since(start)
		b.Logf("%-22s %6.1f bytes per rule, built in %v", name, float64(heap()-before)/float64(n), duration.Round(time.Millisecond))
	}
	var text int
	for i := range n {
		text += len(w.prefix(i))
	}
	b.Logf("%d rules, prefixes of %.1f bytes", n, float64(text)/float64(n))
	var goMap map[string]uint32
	var flat *packed
	x := index.New()
	measure("Go map", func() {
		goMap = make(map[string]uint32, n)
		for i := range n {
			goMap[w.prefix(i)] = uint32(i)
		}
	})
	measure("packed, prefix ends", func() { flat = newPacked(w) })
	measure("index", func() { require.NoError(b, x.Load(w.rules())) })
	b.Logf("%-22s %6.1f bytes per rule by Bytes", "index", float64(x.Bytes())/float64(n))
	var sink, hits int
	layouts := []struct {
		name string
		find func(link string)
	}{
		{"Go map, one probe", func(link string) { sink += int(goMap[link]) }},
		{"Go map, prefix ends", func(link string) {
			ends(link, func(key string) bool {
				i, ok := goMap[key]
				sink += int(i)
				return ok && i%20 != 0
			})
		}},
		{"packed, prefix ends", func(link string) {
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
			// Short alternating turns and their median limit the influence of other processes.
			const turn, turns = 400, 250
			links := w.links(8*turn*turns, zipf)
			medians := make([][]float64, len(layouts)) // ns per link, by round
			next := 0
			for b.Loop() {
				round := make([][]float64, len(layouts))
				for range turns {
					part := links[next%(8*turns)*turn:][:turn]
					for i := range layouts {
						i = (i + next) % len(layouts) // in rotating order
						start := time.Now()
						for _, link := range part {
							layouts[i].find(link)
						}
						round[i] = append(round[i], float64(time.Since(start).Nanoseconds())/turn)
					}
					next++
				}
				for i := range layouts {
					slices.Sort(round[i])
					medians[i] = append(medians[i], round[i][turns/2])
				}
			}
			for i, layout := range layouts {
				var ratios []float64
				for r := range medians[i] {
					ratios = append(ratios, medians[i][r]/medians[0][r])
				}
				slices.Sort(ratios)
				slices.Sort(medians[i])
				b.Logf("%-22s min %.2f median %.2f max %.2f, %.0f ns, %d rounds", layout.name, ratios[0], ratios[len(ratios)/2],
					ratios[len(ratios)-1], medians[i][len(ratios)/2], len(ratios))
			}
		})
	}
	require.True(b, sink != 0 && hits != 0, "no rule was found")
}
