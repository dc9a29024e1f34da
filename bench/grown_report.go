package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// slope is the exponent with which a cost grows, from a straight line through the
// logarithms, and half of its 95 % interval; NaN where there are too few points for
// one of them.
func slope(at, costs []float64) (exponent, half float64) {
	n := float64(len(at))
	if n < 2 {
		return math.NaN(), math.NaN()
	}
	var mx, my float64
	for i := range at {
		mx, my = mx+math.Log(at[i])/n, my+math.Log(costs[i])/n
	}
	var xx, xy float64
	for i := range at {
		x := math.Log(at[i]) - mx
		xx, xy = xx+x*x, xy+x*(math.Log(costs[i])-my)
	}
	exponent = xy / xx
	if n < 3 {
		return exponent, math.NaN()
	}
	var rest float64
	for i := range at {
		d := math.Log(costs[i]) - my - exponent*(math.Log(at[i])-mx)
		rest += d * d
	}
	// Student's t for a two-sided 95 % by degrees of freedom.
	t := []float64{12.706, 4.303, 3.182, 2.776, 2.571}[min(len(at)-3, 4)]
	return exponent, t * math.Sqrt(rest/(n-2)/xx)
}

// growthTable is the table of what each thing costs at each size.
func growthTable(page *strings.Builder, rows []Growth) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprint(page,
		"Costs are CPU time of the server with the elapsed time in brackets, both in milliseconds; a row with another unit names "+
			"the unit.\n"+
			"The sizes are fractions of 300 million scans over 400 days, 10 million rules of 2 million accounts, and 15 million changes.\n"+
			"*Slope* is the exponent of growth, from a straight line through the logarithms, with its 95 % confidence interval.\n"+
			"The interval is wide for three sizes (one degree of freedom), and is not given for two sizes.\n"+
			"A slope of 0 means no growth; a slope of 1 means growth in proportion to the size.\n"+
			"Where several versions of qrjump were measured (column *program*), the table shows the version that was measured at the "+
			"largest size; results.json has the others.\n\n")
	rows = furthest(rows)
	// What belongs together stands together: the engines apart, programs below each other.
	engines := []string{}
	for _, r := range rows {
		if !slices.Contains(engines, r.Engine) {
			engines = append(engines, r.Engine)
		}
	}
	for _, engine := range engines {
		var here []Growth
		var factors []float64
		place := map[string]int{}
		programs := false
		for _, r := range rows {
			if r.Engine != engine {
				continue
			}
			here = append(here, r)
			programs = programs || r.Program != ""
			if _, known := place[r.What]; !known {
				place[r.What] = len(place)
			}
			at := slices.Clone(r.Factors)
			for text := range r.Why {
				if f, err := strconv.ParseFloat(text, 64); err == nil {
					at = append(at, f)
				}
			}
			for _, f := range at {
				if !slices.Contains(factors, f) {
					factors = append(factors, f)
				}
			}
		}
		slices.Sort(factors)
		slices.SortStableFunc(here, func(a, b Growth) int { return cmp.Compare(place[a.What], place[b.What]) })
		fmt.Fprintf(page, "### On %s\n\n| what |%s", engine, orNothing(programs, " program |"))
		for _, f := range factors {
			fmt.Fprintf(page, " %g |", f)
		}
		fmt.Fprintf(page, " slope | is to grow with |\n| --- |%s%s --: | --- |\n", orNothing(programs, " --- |"),
			strings.Repeat(" --: |", len(factors)))
		for _, r := range here {
			fmt.Fprintf(page, "| %s |%s", cell(withUnit(r)), orNothing(programs, " "+r.Program+" |"))
			for _, f := range factors {
				fmt.Fprintf(page, " %s |", cell(r.at(f)))
			}
			fmt.Fprintf(page, " %s | %s |\n", r.slopeText(), cell(r.With))
		}
		fmt.Fprintln(page)
		whys(page, here)
	}
}

// furthest leaves of each thing the row of the program that was measured at the largest size, of two the later one. What other
// programs cost stands in the results.
func furthest(rows []Growth) (left []Growth) {
	size := func(r Growth) float64 { return slices.Max(append([]float64{0}, r.Factors...)) }
	for _, r := range rows {
		i := slices.IndexFunc(left, func(l Growth) bool { return l.What == r.What && l.Engine == r.Engine })
		switch {
		case i < 0:
			left = append(left, r)
		case size(r) >= size(left[i]):
			left[i] = r
		}
	}
	return left
}

// whys names what was not measured, once for each reason.
func whys(page *strings.Builder, rows []Growth) {
	said := map[string]bool{}
	for _, r := range rows {
		for _, factor := range sortedKeys(asSet(r.Why)) {
			what := r.What + orNothing(r.Program != "", " ("+r.Program+")")
			line := fmt.Sprintf("- The row \"%s\" was not measured at the "+
				"size %s: %s.", what, factor, strings.TrimSuffix(r.Why[factor], "."))
			if !said[line] {
				fmt.Fprintln(page, line)
			}
			said[line] = true
		}
	}
	if len(said) > 0 {
		fmt.Fprintln(page)
	}
}

func asSet(m map[string]string) map[string]bool {
	set := map[string]bool{}
	for k := range m {
		set[k] = true
	}
	return set
}

func orNothing(really bool, text string) string {
	if really {
		return text
	}
	return ""
}

func withUnit(r Growth) string {
	if r.Unit == "ms" {
		return r.What
	}
	return r.What + ", " + r.Unit
}

// at is the cell of a size.
func (r Growth) at(factor float64) string {
	i := slices.Index(r.Factors, factor)
	switch {
	case i < 0:
		return "–"
	case i < len(r.Walls):
		return number(r.Costs[i]) + " (" + number(r.Walls[i]) + ")"
	}
	return number(r.Costs[i])
}

func (r Growth) slopeText() string {
	if slices.ContainsFunc(r.Costs, func(v float64) bool { return v <= 0 }) {
		return "–"
	}
	exponent, half := slope(r.Factors, r.Costs)
	switch {
	case math.IsNaN(exponent):
		return "–"
	case math.IsNaN(half):
		return fmt.Sprintf("%.2f", exponent)
	}
	return fmt.Sprintf("%.2f ± %.2f", exponent, half)
}
