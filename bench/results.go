package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// Section is the result of one section.
type Section struct {
	Date    string
	Machine string
	Scale   float64
	Rounds  int
	Seconds float64
	// Peers are the measured programs and libraries with their versions.
	Peers []string `json:",omitempty"`
	// Checks are the comparisons that passed before the measurement.
	Checks []string `json:",omitempty"`
	Rows   []Row    `json:",omitempty"`
	Series []Series `json:",omitempty"`
	Growth []Growth `json:",omitempty"`
	Pages  []Page   `json:",omitempty"`
	Notes  []string `json:",omitempty"`
	// Missing has an entry with a reason for each figure that was not measured.
	Missing []string `json:",omitempty"`
}

// Row is one measured figure with a value for each round.
type Row struct {
	What   string
	Anchor string
	// Unit is "ratio" or the unit of an absolute figure.
	Unit string
	// Target is the bound on the median: an upper bound, or a lower bound with AtLeast. 0 without Zero
	// means no target.
	Target  float64 `json:",omitempty"`
	AtLeast bool    `json:",omitempty"`
	Zero    bool    `json:",omitempty"` // the target is 0
	Values  []float64
	// Main includes the row in the table of targets.
	Main bool   `json:",omitempty"`
	Note string `json:",omitempty"`
}

// Series is a line of a plot.
type Series struct {
	Plot, Name, XLabel, YLabel string
	X, Y                       []float64
}

func (r Row) minMedianMax() (float64, float64, float64) {
	v := slices.Clone(r.Values)
	slices.Sort(v)
	return v[0], median(v), v[len(v)-1]
}

// median returns the median of sorted values.
func median(v []float64) float64 {
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

func (r Row) hasTarget() bool { return r.Target != 0 || r.Zero }

func (r Row) met() bool {
	_, m, _ := r.minMedianMax()
	if r.AtLeast {
		return m >= r.Target
	}
	return m <= r.Target
}

func (r Row) target() string {
	switch {
	case !r.hasTarget():
		return "–"
	case r.AtLeast:
		return "≥ " + number(r.Target) + unit(r.Unit)
	case r.Zero:
		return "0" + unit(r.Unit)
	}
	return "≤ " + number(r.Target) + unit(r.Unit)
}

func unit(u string) string {
	if u == "ratio" {
		return ""
	}
	return " " + u
}

func number(v float64) string {
	switch a := max(v, -v); {
	case v == float64(int64(v)) && a < 1e7:
		return fmt.Sprintf("%d", int64(v))
	case a >= 1000:
		return fmt.Sprintf("%.0f", v)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// row adds a row to the results and prints it.
func (b *bench) row(r Row) {
	if r.Unit == "" {
		r.Unit = "ratio"
	}
	if len(r.Values) == 0 {
		return
	}
	b.out.Rows = append(b.out.Rows, r)
	low, mid, high := r.minMedianMax()
	verdict := ""
	if r.hasTarget() {
		verdict = "missed"
		if r.met() {
			verdict = "met"
		}
		verdict = fmt.Sprintf("  target %s: %s", r.target(), verdict)
	}
	fmt.Printf("   %-62s %8s %8s %8s%s%s\n", r.What, number(low), number(mid), number(high), unit(r.Unit), verdict)
}

func (b *bench) check(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.out.Checks = append(b.out.Checks, text)
	fmt.Println("   checked:", text)
}

func (b *bench) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.out.Notes = append(b.out.Notes, text)
	fmt.Println("   note:", text)
}

func (b *bench) missing(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.out.Missing = append(b.out.Missing, text)
	fmt.Println("   not measured:", text)
}

func (b *bench) peer(text string) { b.out.Peers = append(b.out.Peers, text) }

func (b *bench) point(plot, name, xLabel, yLabel string, x, y float64) {
	for i := range b.out.Series {
		if s := &b.out.Series[i]; s.Plot == plot && s.Name == name {
			s.X, s.Y = append(s.X, x), append(s.Y, y)
			return
		}
	}
	b.out.Series = append(b.out.Series, Series{Plot: plot, Name: name, XLabel: xLabel, YLabel: yLabel, X: []float64{x}, Y: []float64{y}})
}

func loadResults(path string) (map[string]*Section, error) {
	all := map[string]*Section{}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// inElement matches the line breaks within an element of a list of a section.
var inElement = regexp.MustCompile(`\n\t{4,}|\n\t{3}([}\]])`)

// saveResults writes the results as JSON. It reduces the values of a row to min, median and max, and writes each list element on one line.
func saveResults(path string, all map[string]*Section) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	for _, s := range all {
		for i := range s.Rows {
			low, mid, high := s.Rows[i].minMedianMax()
			s.Rows[i].Values = []float64{low, mid, high}
		}
		for i, p := range s.Pages {
			if p.Why == "" {
				s.Pages[i].Small, s.Pages[i].Whole = []float64{quantile(p.Small, 0.5)}, []float64{quantile(p.Whole, 0.5)}
			}
		}
	}
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(inElement.ReplaceAll(text, []byte(" $1")), '\n'), 0o644)
}

// machine returns the processor, memory, kernel and Go version, without the host name.
func machine() string {
	model, cores := "unknown processor", 0
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				cores++
			}
		}
	}
	memory := ""
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		memory = fmt.Sprintf(", %.0f GiB", float64(info.Totalram)*float64(info.Unit)/(1<<30))
	}
	kernel := ""
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		version, _, _ := strings.Cut(strings.TrimSpace(string(text)), "-")
		kernel = ", Linux " + version
	}
	return fmt.Sprintf("%s, %d cores%s%s, %s", model, cores, memory, kernel, runtime.Version())
}
