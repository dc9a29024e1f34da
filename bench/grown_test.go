package main

import (
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

func TestGrownFolder_HoldsAllRows(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	g, err := fillGrown(t.Context(), data, "", grownSizeFor(0.00001), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	b := &filling{grown: *g, data: data, logs: t.Output()}
	if err := b.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer b.close()
	get := func(path string, into any) {
		t.Helper()
		if err := b.admin(t.Context(), http.MethodGet, path, nil, into); err != nil {
			t.Fatal(err)
		}
	}
	first := g.Now.AddDate(0, 0, -g.Days).Format("2006-01-02")
	sum := func(query string) (n int64) {
		t.Helper()
		var response struct {
			Rows []struct{ Scans int64 }
			More bool
		}
		get("/statistics?limit=1000&from="+first+query, &response)
		if response.More {
			t.Fatalf("statistics%s has more than one page", query)
		}
		for _, r := range response.Rows {
			n += r.Scans
		}
		return n
	}
	for query, want := range map[string]int64{"": g.scanCount(), "&by=day": g.scanCount(), "&group=region": g.scanCount(),
		"&group=activity": g.scanCount(), "&result=open_mini_program/code": int64(g.OfCodes)} {
		if have := sum(query); have != want {
			t.Errorf("statistics%s: %d scans, want %d", query, have, want)
		}
	}
	// Days without scans mean that the clock did not advance.
	var days struct{ Rows []struct{ Scans int64 } }
	get("/statistics?limit=1000&by=day&from="+first, &days)
	if len(days.Rows) < g.Days-3 {
		t.Errorf("scans on %d days, want at least %d", len(days.Rows), g.Days-3)
	}
	rules, changed := 0, 0
	for after := int64(0); ; {
		var page struct {
			Rules []struct {
				ID   int64
				Path string
			}
		}
		get(fmt.Sprintf("/rules?limit=1000&after=%d", after), &page)
		for _, r := range page.Rules {
			after = r.ID
			rules++
			if len(r.Path) > 11 && r.Path[:11] == "pages/grown" {
				changed++
			}
		}
		if len(page.Rules) < 1000 {
			break
		}
	}
	if rules != g.Rules || changed != g.Changes {
		t.Errorf("%d rules, %d of them changed; want %d and %d", rules, changed, g.Rules, g.Changes)
	}
	var batches struct {
		Batches []struct {
			ID int64 `json:"application_id"`
		}
	}
	get("/batches?limit=1000", &batches)
	if len(batches.Batches) != g.Batches {
		t.Errorf("%d batches, want %d", len(batches.Batches), g.Batches)
	}
	did := map[string]int{}
	for _, b := range batches.Batches {
		var events struct{ Events []struct{ Action string } }
		get(fmt.Sprintf("/batches/%d/events?limit=1000", b.ID), &events)
		for _, e := range events.Events {
			did[e.Action]++
		}
	}
	if did["activate"] != g.Activations || did["deactivate"]+did["freeze"] != g.Ranges || did["freeze"] == 0 {
		t.Errorf("events %v; want %d activations and %d ranges", did, g.Activations, g.Ranges)
	}
	kinds := map[string]int{}
	for after := int64(0); ; {
		var page struct {
			Changes []struct {
				Seq  int64
				Kind string
				At   string
			}
		}
		get(fmt.Sprintf("/changes?limit=1000&after=%d", after), &page)
		for _, c := range page.Changes {
			after = c.Seq
			kinds[c.Kind]++
		}
		if len(page.Changes) < 1000 {
			break
		}
	}
	if kinds["rule"] != g.Rules+g.Changes {
		t.Errorf("changes %v; want %d of rules", kinds, g.Rules+g.Changes)
	}
	for _, user := range g.Erasable[:1] {
		var response struct{ Scans int64 }
		if err := b.admin(t.Context(), http.MethodDelete, "/users/"+user+"/scans", nil, &response); err != nil {
			t.Fatal(err)
		}
		if response.Scans != scansOfUser+1 {
			t.Errorf("erased %d scans of %s, want %d", response.Scans, user, scansOfUser+1)
		}
	}
}

func TestSlope_GrowthExponent(t *testing.T) {
	factors := []float64{0.001, 0.01, 0.1}
	for name, c := range map[string]struct {
		costs           []float64
		exponent, about float64
	}{
		"constant":  {[]float64{5, 5, 5}, 0, 0},
		"linear":    {[]float64{1, 10, 100}, 1, 0},
		"quadratic": {[]float64{1, 100, 10000}, 2, 0},
		// Exponents 0, 1 and 1: the slope is 0.5 and its standard error 0.29; multiplied by t = 12.7 this is 3.667.
		"first steep, then flat": {[]float64{1, 10, 10}, 0.5, 3.667},
	} {
		exponent, half := slope(factors, c.costs)
		if math.Abs(exponent-c.exponent) > 0.001 || math.Abs(half-c.about) > 0.01 {
			t.Errorf("%s: %.3f ± %.3f, want %.3f ± %.3f", name, exponent, half, c.exponent, c.about)
		}
	}
	if exponent, half := slope(factors[:2], []float64{1, 10}); math.Abs(exponent-1) > 0.001 || !math.IsNaN(half) {
		t.Errorf("two points: %.3f ± %.3f, want 1 and no interval", exponent, half)
	}
}

func TestBenchTable_ReasonForUnmeasured(t *testing.T) {
	var page strings.Builder
	growthTable(&page, []Growth{{What: "recount", With: withScans, Engine: "SQLite", Program: "now", Unit: "ms",
		Factors: []float64{0.001, 0.01},
		Costs:   []float64{10, 100}, Walls: []float64{20, 200}, Why: map[string]string{"0.1": "it takes a day"}}})
	for _, want := range []string{"| recount | now | 10 (20) | 100 (200) | – | 1.00 | the scans that are kept |",
		"- The row \"recount (now)\" was not measured at the size 0.1: it takes a day."} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("page does not contain %q:\n%s", want, page.String())
		}
	}
}
