package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// plots are drawn in this order, one file each.
var plots = []struct {
	id, title, section string
	bars, logY         bool
}{
	{id: "lookup", title: "A look-up, against one probe of a Go map", section: "index"},
	{id: "memory", title: "Memory of a rule, text included", section: "index"},
	{id: "change", title: "One rule changed: until it is seen", section: "index", logY: true},
	{id: "http", title: "Processor time of a request, against HAProxy", section: "http", bars: true},
	{id: "start", title: "Ready after start, against HAProxy's load", section: "start"},
	{id: "ledger", title: "Durable scans, against a bare group commit", section: "ledger"},
}

// writeReport writes benchmarks.md and its plots from the results.
func writeReport(out string, all map[string]*Section) error {
	folder := filepath.Join(out, "benchmarks")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	var page strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&page, format+"\n", args...) }
	say("# Benchmarks\n")
	say("This page is written by `make bench`; do not edit it. The method is described in [decision " +
		"0013](decisions/0013-benchmark-method.md).")
	say("The command `make bench BENCH=index` measures one section again.\n")
	say("A ratio is the figure of qrjump divided by the figure of the anchor program, both measured in the same round.")
	say("A smaller ratio is better where the target has the sign ≤; a larger ratio is better where the target has the sign ≥.")
	say("Min, median and max are taken over the rounds; a target applies to the median.\n")

	machines := map[string]bool{}
	for _, s := range sections {
		if r := all[s.name]; r != nil {
			machines[r.Machine] = true
		}
	}
	for _, m := range sortedKeys(machines) {
		say("The benchmarks ran on this machine: %s.\n", m)
	}

	say("## The targets\n")
	say("| what | anchor in the same run | target | min | median | max | |")
	say("| --- | --- | --- | --: | --: | --: | --- |")
	for _, s := range sections {
		r := all[s.name]
		if r == nil {
			say("| %s | – | – | – | – | – | not measured |", s.title)
			continue
		}
		for _, row := range r.Rows {
			if row.Main {
				line(&page, row)
			}
		}
		for _, m := range r.Missing {
			say("| %s | – | – | – | – | – | %s |", s.title, cell(missingText(m)))
		}
	}
	say("")
	growth(&page, all["index"], all["start"])

	for _, s := range sections {
		r := all[s.name]
		if r == nil {
			continue
		}
		say("## %s\n", s.title)
		say("This section was measured on %s (rounds: %d, duration: %.0f s).%s", r.Date, r.Rounds, r.Seconds, scaleNote(r.Scale))
		if len(r.Peers) > 0 {
			say("Other programs and libraries in this measurement: %s.", strings.Join(r.Peers, "; "))
		}
		say("")
		if len(r.Checks) > 0 {
			say("The following checks passed before the measurement:\n")
			for _, c := range r.Checks {
				say("- %s", c)
			}
			say("")
		}
		if len(r.Rows) > 0 {
			say("| what | anchor | target | min | median | max | |")
			say("| --- | --- | --- | --: | --: | --: | --- |")
			for _, row := range r.Rows {
				line(&page, row)
			}
			say("")
		}
		growthTable(&page, r.Growth)
		pagesTable(&page, r.Pages)
		for _, m := range r.Missing {
			say("%s\n", missingText(m))
		}
		for _, n := range r.Notes {
			say("%s\n", n)
		}
		for _, p := range plots {
			if p.section != s.name {
				continue
			}
			file := filepath.Join(folder, p.id+".svg")
			text, drawn := drawing{title: p.title, bars: p.bars, logY: p.logY, list: seriesOf(r, p.id)}.svg()
			if !drawn {
				continue
			}
			err := os.WriteFile(file, []byte(text), 0o644)
			if err != nil {
				return fmt.Errorf("plot %s: %w", p.id, err)
			}
			say("![%s](benchmarks/%s.svg)\n", p.title, p.id)
		}
	}
	return os.WriteFile(filepath.Join(out, "benchmarks.md"), []byte(strings.TrimRight(page.String(), "\n")+"\n"), 0o644)
}

func missingText(m string) string {
	if strings.HasPrefix(m, "failed") || strings.HasPrefix(m, errMissing.Error()) {
		return m
	}
	return errMissing.Error() + ": " + m
}

func scaleNote(scale float64) string {
	if scale == 1 {
		return ""
	}
	return fmt.Sprintf(" Sizes were multiplied by %g for a quick look, so the figures should not be quoted.", scale)
}

func sortedKeys(m map[string]bool) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

func line(page *strings.Builder, r Row) {
	low, mid, high := r.minMedianMax()
	verdict := ""
	if r.hasTarget() {
		verdict = "**missed**"
		if r.met() {
			verdict = "met"
		}
	}
	u := ""
	if r.Unit != "ratio" {
		u = " " + r.Unit
	}
	if r.Note != "" {
		verdict = strings.TrimPrefix(verdict+"; "+r.Note, "; ")
	}
	fmt.Fprintf(page, "| %s | %s | %s | %s | %s%s | %s | %s |\n", cell(r.What), cell(r.Anchor), r.target(), number(low), number(mid), u, number(high), cell(verdict))
}

// growth writes the table of figures that depend on the number of rules.
func growth(page *strings.Builder, parts ...*Section) {
	type key struct{ plot, name string }
	var keys []key
	values := map[key]map[float64]float64{}
	labels := map[string]string{}
	var xs []float64
	for _, s := range parts {
		if s == nil {
			continue
		}
		for _, series := range s.Series {
			k := key{series.Plot, series.Name}
			if values[k] == nil {
				values[k] = map[float64]float64{}
				keys = append(keys, k)
			}
			labels[series.Plot] = series.YLabel
			for i, x := range series.X {
				values[k][x] = series.Y[i]
				if !slices.Contains(xs, x) {
					xs = append(xs, x)
				}
			}
		}
	}
	if len(keys) == 0 {
		return
	}
	slices.Sort(xs)
	slices.SortStableFunc(keys, func(a, b key) int { return plotOrder(a.plot) - plotOrder(b.plot) })
	fmt.Fprintf(page, "## Growth\n\nThe table shows the median of the rounds for each number of rules.\n\n| what | of |")
	for _, x := range xs {
		fmt.Fprintf(page, " %s rules |", sizeName(int(x)))
	}
	fmt.Fprintf(page, "\n| --- | --- |%s\n", strings.Repeat(" --: |", len(xs)))
	for _, k := range keys {
		fmt.Fprintf(page, "| %s | %s |", labels[k.plot], k.name)
		for _, x := range xs {
			if v, ok := values[k][x]; ok {
				fmt.Fprintf(page, " %s |", number(v))
			} else {
				fmt.Fprint(page, " – |")
			}
		}
		fmt.Fprintln(page)
	}
	fmt.Fprintln(page)
}

func plotOrder(id string) int {
	for i, p := range plots {
		if p.id == id {
			return i
		}
	}
	return len(plots)
}

func seriesOf(s *Section, plot string) []Series {
	var list []Series
	for _, series := range s.Series {
		if series.Plot == plot {
			list = append(list, series)
		}
	}
	return list
}
