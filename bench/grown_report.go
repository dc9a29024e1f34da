package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// slope returns the exponent with which costs grow, by linear regression of the logarithms, and half of its 95 % confidence interval.
// It returns NaN for the exponent with fewer than two points, and for the interval with fewer than three.
func slope(factors, costs []float64) (exponent, half float64) {
	n := float64(len(factors))
	if n < 2 {
		return math.NaN(), math.NaN()
	}
	var mx, my float64
	for i := range factors {
		mx, my = mx+math.Log(factors[i])/n, my+math.Log(costs[i])/n
	}
	var xx, xy float64
	for i := range factors {
		x := math.Log(factors[i]) - mx
		xx, xy = xx+x*x, xy+x*(math.Log(costs[i])-my)
	}
	exponent = xy / xx
	if n < 3 {
		return exponent, math.NaN()
	}
	var rest float64
	for i := range factors {
		d := math.Log(costs[i]) - my - exponent*(math.Log(factors[i])-mx)
		rest += d * d
	}
	// Quantiles of Student's t-distribution for a two-sided 95 % interval, by degrees of freedom.
	t := []float64{12.706, 4.303, 3.182, 2.776, 2.571}[min(len(factors)-3, 4)]
	return exponent, t * math.Sqrt(rest/(n-2)/xx)
}

// growthTable writes a table for each engine with the cost of each operation at each size.
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
	rows = largestOnly(rows)
	// One table per engine; rows of the same operation are adjacent.
	engines := []string{}
	for _, r := range rows {
		if !slices.Contains(engines, r.Engine) {
			engines = append(engines, r.Engine)
		}
	}
	for _, engine := range engines {
		var engineRows []Growth
		var factors []float64
		order := map[string]int{}
		programs := false
		for _, r := range rows {
			if r.Engine != engine {
				continue
			}
			engineRows = append(engineRows, r)
			programs = programs || r.Program != ""
			if _, known := order[r.What]; !known {
				order[r.What] = len(order)
			}
			all := slices.Clone(r.Factors)
			for text := range r.Why {
				if f, err := strconv.ParseFloat(text, 64); err == nil {
					all = append(all, f)
				}
			}
			for _, f := range all {
				if !slices.Contains(factors, f) {
					factors = append(factors, f)
				}
			}
		}
		slices.Sort(factors)
		slices.SortStableFunc(engineRows, func(a, b Growth) int { return cmp.Compare(order[a.What], order[b.What]) })
		fmt.Fprintf(page, "### On %s\n\n| what |%s", engine, textIf(programs, " program |"))
		for _, f := range factors {
			fmt.Fprintf(page, " %g |", f)
		}
		fmt.Fprintf(page, " slope | is to grow with |\n| --- |%s%s --: | --- |\n", textIf(programs, " --- |"),
			strings.Repeat(" --: |", len(factors)))
		for _, r := range engineRows {
			fmt.Fprintf(page, "| %s |%s", cell(withUnit(r)), textIf(programs, " "+r.Program+" |"))
			for _, f := range factors {
				fmt.Fprintf(page, " %s |", cell(r.costAt(f)))
			}
			fmt.Fprintf(page, " %s | %s |\n", r.slopeText(), cell(r.With))
		}
		fmt.Fprintln(page)
		reasons(page, engineRows)
	}
}

// largestOnly returns for each engine and operation the row of the program that was measured at the largest size, and the last of equal
// ones. The results file has the other programs.
func largestOnly(rows []Growth) (left []Growth) {
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

// reasons lists the rows that were not measured, once for each reason.
func reasons(page *strings.Builder, rows []Growth) {
	seen := map[string]bool{}
	for _, r := range rows {
		for _, factor := range sortedKeys(asSet(r.Why)) {
			name := r.What + textIf(r.Program != "", " ("+r.Program+")")
			line := fmt.Sprintf("- The row \"%s\" was not measured at the "+
				"size %s: %s.", name, factor, strings.TrimSuffix(r.Why[factor], "."))
			if !seen[line] {
				fmt.Fprintln(page, line)
			}
			seen[line] = true
		}
	}
	if len(seen) > 0 {
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

func textIf(condition bool, text string) string {
	if condition {
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

// costAt returns the table cell of a size.
func (r Growth) costAt(factor float64) string {
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
