package rulegen_test

import (
	"math"
	"testing"

	"github.com/qrjump/qrjump/bench/rulegen"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

func TestRulegen_RuleDistribution(t *testing.T) {
	const n = 100_000
	set := rulegen.New(n, 1)
	kinds := map[rulegen.Kind]int{}
	hosts := map[string]int{}
	keys := map[string]bool{}
	var nested, foreign, unpublished, length int
	for r := range set.All() {
		p, err := rules.ParsePrefix(r.Prefix, rules.Ordinary, false)
		if err != nil {
			t.Fatal(err)
		}
		if keys[p.Key] {
			t.Fatalf("duplicate prefix %s", r.Prefix)
		}
		keys[p.Key] = true
		kinds[r.Kind]++
		hosts[p.Host]++
		length += len(r.Prefix)
		if p.Sub != (r.Kind == rulegen.Sub) || p.HasQuery() != (r.Kind == rulegen.Query) {
			t.Fatalf("%s is not of kind %d", r.Prefix, r.Kind)
		}
		if !r.Published {
			unpublished++
		}
		if r.Parent < 0 {
			continue
		}
		nested++
		parent := set.At(r.Parent)
		if parent.Owner != r.Owner {
			foreign++
		}
		above, err := rules.ParsePrefix(parent.Prefix, rules.Ordinary, false)
		if err != nil {
			t.Fatal(err)
		}
		if !above.Matches(p.Link) {
			t.Fatalf("%s is not below %s", r.Prefix, parent.Prefix)
		}
	}
	share := func(name string, got int, want, tolerance float64) {
		t.Helper()
		if s := float64(got) / n; math.Abs(s-want) > tolerance {
			t.Errorf("%s: %.3f, want about %.3f", name, s, want)
		}
	}
	share("exact", kinds[rulegen.Exact], 0.70, 0.001)
	share("sub-path", kinds[rulegen.Sub], 0.20, 0.001)
	share("query", kinds[rulegen.Query], 0.10, 0.001)
	share("nested", nested, 0.33, 0.01)
	share("nested below another owner's", foreign, 0.033, 0.01)
	share("unpublished", unpublished, 0.05, 0.01)
	if average := float64(length) / n; math.Abs(average-42) > 1 {
		t.Errorf("average prefix length %.1f bytes, want about 42", average)
	}
	if len(hosts) < 1000 {
		t.Errorf("%d hosts, want at least 1000", len(hosts))
	}
	t.Logf("%d hosts, %.1f bytes", len(hosts), float64(length)/n)
}

// A link must match a rule by the definition of matching alone unless it is a near miss.
func TestRulegenLinks_HitAndMiss(t *testing.T) {
	set := rulegen.New(10_000, 1)
	byHost := map[string][]rulegen.Rule{}
	for r := range set.All() {
		p, _ := rules.ParsePrefix(r.Prefix, rules.Ordinary, false)
		byHost[p.Host] = append(byHost[p.Host], r)
	}
	for _, zipf := range []bool{false, true} {
		hits, total := 0, 0
		for l := range set.Links(zipf, 7) {
			link, ok := rules.ParseLink(l.Text)
			if !ok {
				t.Fatalf("ParseLink(%q) failed", l.Text)
			}
			matched := false
			for _, r := range byHost[link.Host] {
				p, _ := rules.ParsePrefix(r.Prefix, rules.Ordinary, false)
				matched = matched || p.Matches(link)
			}
			if matched == l.Near {
				t.Errorf("%s: near %v, matched %v", l.Text, l.Near, matched)
			}
			if matched {
				hits++
			}
			if total++; total == 2000 {
				break
			}
		}
		if hits < 1500 || hits > 1700 {
			t.Errorf("%d hits of %d links, want 1500 to 1700", hits, total)
		}
	}
}

func TestRulegen_SameSeedSameOutput(t *testing.T) {
	a, b, other := rulegen.New(10_000, 3), rulegen.New(10_000, 3), rulegen.New(10_000, 4)
	if a.At(4711).Prefix != b.At(4711).Prefix || a.At(4711).Prefix == other.At(4711).Prefix {
		t.Error("At(4711): the prefix does not depend on the seed and the number alone")
	}
	x, y := rulegen.Take(a.Links(true, 5), 100), rulegen.Take(b.Links(true, 5), 100)
	for i := range x {
		if x[i] != y[i] {
			t.Fatalf("link %d: %s and %s, want the same link for the same seed", i, x[i], y[i])
		}
	}
}
