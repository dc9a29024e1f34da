package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/qrjump/qrjump/bench/rulegen"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

func init() { workers["index"] = indexWorker }

// sizes are the numbers of rules in the growth table.
var sizes = []int{10_000, 100_000, 1_000_000, 10_000_000}

// radixLimit is the largest size for the radix tree: with ten million rules it takes 5 GB and minutes to build.
const radixLimit = 1_000_000

func sizeName(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return strconv.Itoa(n/1_000_000) + "M"
	case n >= 1000 && n%1000 == 0:
		return strconv.Itoa(n/1000) + "k"
	}
	return strconv.Itoa(n)
}

// index measures look-ups, memory and single changes, each size in a separate process.
func (b *bench) index(ctx context.Context) error {
	b.peer("Go map (" + runtime.Version() + ")")
	b.peer("hashicorp/go-immutable-radix " + moduleVersion("github.com/hashicorp/go-immutable-radix/v2"))
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, n := range sizes {
		if float64(n) > float64(sizes[len(sizes)-1])*b.scale {
			continue
		}
		fmt.Printf("   %s rules\n", sizeName(n))
		cmd := exec.CommandContext(ctx, self, "index", "-n", strconv.Itoa(n), "-rounds", strconv.Itoa(b.rounds))
		cmd.Stderr = os.Stderr
		text, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s rules: %w", sizeName(n), err)
		}
		var got indexResult
		if err := json.Unmarshal(text, &got); err != nil {
			return err
		}
		b.reportIndex(n, got)
	}
	return nil
}

// indexResult is the output of the worker.
type indexResult struct {
	Checked, Hits int
	Radix         bool
	Streams       map[string]map[string][]float64 // nanoseconds a look-up by stream, structure and round
	Allocations   float64                         // per look-up
	Bytes         map[string]float64              // per rule
	Build         map[string]float64              // seconds
	PrefixBytes   float64
	Change        []float64 // microseconds until visible
	ChangeBytes   float64   // allocated per change
	LoadsBulk     bool
}

func (b *bench) reportIndex(n int, got indexResult) {
	name := sizeName(n)
	main := n >= 1_000_000
	b.check("With %s rules, %s the same answers as the slow reference matcher to %d links, of which %d match a rule: 0 differences.",
		name, map[bool]string{true: "the index and the radix tree gave", false: "the index gave"}[got.Radix], got.Checked, got.Hits)
	for _, stream := range []string{"uniform", "Zipf 1.05"} {
		costs := got.Streams[stream]
		b.row(Row{What: fmt.Sprintf("resolve in memory, %s rules, %s", name, stream), Anchor: "one probe of a Go map with the whole link",
			Target: target(main, 2), Values: ratios(costs["qrjump"], costs["map"]), Main: main})
		if got.Radix {
			b.row(Row{What: fmt.Sprintf("the same, go-immutable-radix, %s rules, %s", name, stream), Anchor: "the same probe",
				Values: ratios(costs["radix"], costs["map"])})
		}
		b.row(Row{What: fmt.Sprintf("the same against a probe that finds its key, %s rules, %s", name, stream),
			Anchor: "one probe of a Go map with the key of the rule", Values: ratios(costs["qrjump"], costs["hit"])})
		for _, pair := range [][2]string{{"qrjump", "qrjump"}, {"radix", "go-immutable-radix"}} {
			if v := ratios(costs[pair[0]], costs["map"]); len(v) > 0 {
				b.point("lookup", pair[1]+", "+stream, "rules", "time of a look-up / one probe of a Go map", float64(n), quantile(v, 0.5))
			}
		}
	}
	b.row(Row{What: "allocations of a look-up, " + name + " rules", Anchor: "–", Unit: "allocations", Zero: true, Values: []float64{got.Allocations}, Main: main})
	b.row(Row{What: "memory of the index, text included, " + name + " rules", Anchor: fmt.Sprintf("a prefix has %.1f bytes", got.PrefixBytes), Unit: "bytes a rule",
		Target: target(main, 70), Values: []float64{got.Bytes["qrjump"]}, Main: main})
	for _, structure := range []string{"qrjump", "map", "radix"} {
		v, ok := got.Bytes[structure]
		if !ok {
			continue
		}
		label := map[string]string{"qrjump": "qrjump", "map": "Go map", "radix": "go-immutable-radix"}[structure]
		if structure != "qrjump" {
			b.row(Row{What: "memory of a " + label + ", " + name + " rules", Unit: "bytes a rule", Anchor: "–", Values: []float64{v}})
		}
		b.point("memory", label, "rules", "bytes a rule, text included", float64(n), v)
		b.row(Row{What: "building: " + label + ", " + name + " rules", Anchor: "building the Go map", Values: []float64{got.Build[structure] / got.Build["map"]}})
	}
	b.row(Row{What: "one rule changed: until a reader sees it, " + name + " rules, median", Anchor: "–", Unit: "µs", Target: target(n >= 10_000_000, 1000),
		Values: []float64{quantile(got.Change, 0.5)}, Main: n >= 10_000_000})
	b.row(Row{What: "one rule changed: p99, " + name + " rules", Anchor: "–", Unit: "µs", Target: target(n >= 10_000_000, 1000),
		Values: []float64{quantile(got.Change, 0.99)}, Main: n >= 10_000_000})
	b.row(Row{What: "one rule changed: slowest of " + strconv.Itoa(len(got.Change)) + ", " + name + " rules", Anchor: "–", Unit: "µs", Values: []float64{quantile(got.Change, 1)}})
	b.row(Row{What: "one rule changed: bytes allocated, " + name + " rules", Anchor: "–", Unit: "bytes", Values: []float64{got.ChangeBytes}})
	b.point("change", "qrjump, median", "rules", "µs until a changed rule is seen", float64(n), quantile(got.Change, 0.5))
	b.point("change", "qrjump, p99", "rules", "µs until a changed rule is seen", float64(n), quantile(got.Change, 0.99))
}

func target(applies bool, bound float64) float64 {
	if applies {
		return bound
	}
	return 0
}

// heap returns the size of the live heap in bytes.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// contiguous copies texts into adjacent memory, so that reading them costs the same for all structures.
func contiguous(texts []string) []string {
	var all strings.Builder
	for _, t := range texts {
		all.WriteString(t)
	}
	joined, offset := all.String(), 0
	list := make([]string, len(texts))
	for i, t := range texts {
		list[i] = joined[offset : offset+len(t)]
		offset += len(t)
	}
	return list
}

func indexWorker(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("index", flag.ExitOnError)
	n := flags.Int("n", 10_000, "")
	rounds := flags.Int("rounds", 7, "")
	flags.Parse(args)
	set := rulegen.New(*n, 1)
	got := indexResult{Streams: map[string]map[string][]float64{}, Bytes: map[string]float64{}, Build: map[string]float64{}}

	streams := []string{"uniform", "Zipf 1.05"}
	links := map[string][]string{}
	// At the large sizes, the links do not fit into the CPU caches.
	count := min(1_000_000, max(200_000, *n))
	for i, stream := range streams {
		links[stream] = contiguous(rulegen.Take(set.Links(i == 1, 11), count))
	}
	checked := 20_000
	if *n >= 1_000_000 { // the reference matcher is slow
		checked = 4_000
	}
	reference := newOracle(append(append([]string(nil), links[streams[0]][:checked/2]...), links[streams[1]][:checked/2]...))

	// Build the index first; the reference matcher reads all rules in a separate pass.
	before := heap()
	began := time.Now()
	ours, err := newIndex(set)
	if err != nil {
		return err
	}
	got.Build["qrjump"] = time.Since(began).Seconds()
	got.Bytes["qrjump"] = (heap() - before) / float64(*n)
	if err := reference.addSet(set); err != nil {
		return err
	}

	before = heap()
	began = time.Now()
	table := make(map[string]uint32)
	for r := range set.All() {
		table[r.Prefix] = uint32(r.Number)
		got.PrefixBytes += float64(len(r.Prefix)) / float64(*n)
	}
	got.Build["map"] = time.Since(began).Seconds()
	got.Bytes["map"] = (heap() - before) / float64(*n)

	var tree *iradix.Tree[int32]
	if *n <= radixLimit {
		got.Radix = true
		before = heap()
		began = time.Now()
		txn := iradix.New[int32]().Txn()
		for r := range set.All() {
			opens := int32(-1)
			if g, ok := set.Governing(r); ok {
				opens = int32(g.Number)
			}
			txn.Insert([]byte(rulegen.PlainPrefix(r.Prefix)), opens)
		}
		tree = txn.Commit()
		got.Build["radix"] = time.Since(began).Seconds()
		got.Bytes["radix"] = (heap() - before) / float64(*n)
	}

	key := make([]byte, 0, 4096)
	radix := func(text string) int {
		key = append(key[:0], text...)
		if strings.IndexByte(text, '?') < 0 {
			key = append(key, '?')
		}
		_, opens, ok := tree.Root().LongestPrefix(key)
		if !ok {
			return -1
		}
		return int(opens)
	}

	// Compare answers before measuring.
	for i, text := range reference.texts {
		want := reference.governing(i)
		if want >= 0 {
			got.Hits++
		}
		if answer := ours.governing(text); answer != want {
			return fmt.Errorf("%s: the index says rule %d, the slow matcher %d", text, answer, want)
		}
		if tree == nil {
			continue
		}
		if answer := radix(text); answer != want {
			return fmt.Errorf("%s: the radix tree says rule %d, the slow matcher %d", text, answer, want)
		}
	}
	got.Checked = len(reference.texts)

	// For the second anchor, select a key that exists in the map for each link.
	keys := map[string][]string{}
	for _, stream := range streams {
		list := make([]string, len(links[stream]))
		for i, text := range links[stream] {
			number := ours.governing(text)
			if number < 0 {
				number = i % *n
			}
			list[i] = set.At(number).Prefix
		}
		keys[stream] = contiguous(list)
	}

	probe := func(list []string) (sum uint64) {
		for _, text := range list {
			sum += uint64(table[text])
		}
		return sum
	}
	type structure struct {
		name  string
		count int
		pass  func(stream string) uint64
	}
	structures := []structure{
		{"map", count, func(stream string) uint64 { return probe(links[stream]) }},
		{"qrjump", count, func(stream string) (sum uint64) {
			for _, text := range links[stream] {
				sum += uint64(ours.governing(text))
			}
			return sum
		}},
		{"hit", count, func(stream string) uint64 { return probe(keys[stream]) }},
	}
	if tree != nil {
		fewer := count / 5 // the radix tree is slower; fewer look-ups suffice
		structures = append(structures, structure{"radix", fewer, func(stream string) (sum uint64) {
			for _, text := range links[stream][:fewer] {
				sum += uint64(radix(text))
			}
			return sum
		}})
	}
	for _, stream := range streams {
		got.Streams[stream] = map[string][]float64{}
	}
	runtime.GC()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for round := range *rounds + 1 { // the first round is a warm-up
		for _, stream := range streams {
			for i := range structures {
				s := structures[(i+round)%len(structures)]
				began := threadTime()
				sink += s.pass(stream)
				took := threadTime() - began
				if round > 0 {
					got.Streams[stream][s.name] = append(got.Streams[stream][s.name], float64(took.Nanoseconds())/float64(s.count))
				}
			}
		}
	}

	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	sink += structures[1].pass(streams[0])
	runtime.ReadMemStats(&m1)
	got.Allocations = math.Round(1000*float64(m1.Mallocs-m0.Mallocs)/float64(count)) / 1000

	if err := measureChange(ctx, set, ours, &got); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

// sink keeps the compiler from eliminating look-ups.
var sink uint64

// measureChange unpublishes and publishes rules while another goroutine polls the index, and measures the time from each change to
// the first look-up that shows it.
func measureChange(ctx context.Context, set *rulegen.Set, ours *ourIndex, got *indexResult) error {
	const changes = 400
	type change struct {
		number int
		text   string
		want   int
	}
	begin, seen := make(chan change), make(chan time.Time)
	go func() {
		for c := range begin {
			for ours.governing(c.text) != c.want {
			}
			seen <- time.Now()
		}
	}()
	defer close(begin)
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	for i := range changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		r := set.At(int(uint64(i) * 7919 * 104729 % uint64(set.N)))
		for r.Parent >= 0 || !r.Published {
			r = set.At((r.Number + 1) % set.N)
		}
		for _, published := range []bool{false, true} {
			c := change{r.Number, r.Prefix, r.Number}
			if !published {
				c.want = -1
			}
			r.Published = published
			rule, err := toRule(r)
			if err != nil {
				return err
			}
			begin <- c
			began := time.Now()
			ours.set(rule)
			got.Change = append(got.Change, float64((<-seen).Sub(began).Nanoseconds())/1000)
		}
	}
	runtime.ReadMemStats(&m1)
	got.ChangeBytes = float64(m1.TotalAlloc-m0.TotalAlloc) / float64(len(got.Change))
	return nil
}

// toRule converts a generated rule to a rule of the server.
func toRule(r rulegen.Rule) (rules.Rule, error) {
	p, err := rules.ParsePrefix(r.Prefix, rules.Ordinary, false)
	app := rulegen.AppID(r.Owner)
	return rules.Rule{ID: int64(r.Number) + 1, Kind: rules.Ordinary, Owner: app, Target: app, Prefix: p, Path: r.Page,
		OpenVersion: rules.OpenRelease, Published: r.Published}, err
}
