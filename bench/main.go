// Command bench measures qrjump and comparable programs. Each figure is a ratio to an anchor program measured in the same run,
// in interleaved rounds, and every section compares answers before it measures.
//
//	go run . [-sections index,http,…] [-scale 1] [-rounds 7] [-dir DIR]
//
// The results are merged into ../docs/benchmarks/results.json; ../docs/benchmarks.md and its plots are rewritten.
// A section whose subject is missing is reported as "not measured".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// section is one group of benchmarks.
type section struct {
	name, title string
	run         func(*bench, context.Context) error
}

var sections = []section{
	{"index", "The index in memory", (*bench).index},
	{"http", "HTTP resolve", (*bench).http},
	{"floor", "Scans compared with a bare event loop", (*bench).floor},
	{"gs1", "GS1 links compared with jump rules", (*bench).resolver},
	{"start", "Startup with many rules", (*bench).start},
	{"codes", "One item, one code", (*bench).codes},
	{"sheets", "Label PDFs", (*bench).sheets},
	{"ledger", "Durable scans", (*bench).ledger},
	{"tickets", "Ticket exchange", (*bench).tickets},
	{"bulk", "Imports, exports and restores", (*bench).bulk},
	{"wire", "API calls of the platform", (*bench).wire},
	{"analysis", "Analysis of scans", (*bench).analysis},
	{"propagation", "Propagation between nodes", (*bench).propagation},
	{"cluster", "Concurrent changes through several nodes", (*bench).cluster},
	{"console", "Console pages", (*bench).console},
	{"grown", "Data of one year of a large brand", (*bench).grown},
}

// byName reports whether "all" leaves the section out, because filling its data folders takes hours.
func (s section) byName() bool { return s.name == "grown" || s.name == "console" }

// bench is one run.
type bench struct {
	rounds int
	scale  float64
	dir    string // kept between runs: databases that take long to fill
	work   string // temporary folder of this run
	repo   string
	server string // path of the qrjump binary
	out    *Section
	last   *Section // result of an earlier run; nil = none

	grownPart grownPart
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 {
		if worker, ok := workers[os.Args[1]]; ok {
			if err := worker(ctx, os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
				os.Exit(1)
			}
			return
		}
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// workers are the subcommands that a benchmark runs in a separate process.
var workers = map[string]func(context.Context, []string) error{}

// errMissing is returned by a section whose subject does not exist.
var errMissing = errors.New("not measured")

func run(ctx context.Context) error {
	b := &bench{}
	var which, out, results string
	flag.StringVar(&which, "sections", "all", "comma-separated: "+names())
	flag.Float64Var(&b.scale, "scale", 1, "factor for all sizes; with a factor below 1 the page is not written to ../docs")
	flag.IntVar(&b.rounds, "rounds", 7, "interleaved rounds")
	flag.StringVar(&b.dir, "dir", filepath.Join(os.TempDir(), "qrjump-bench"), "folder for databases that are kept between runs")
	flag.StringVar(&out, "out", "", "folder for benchmarks.md and benchmarks/ (default ../docs, with -scale below 1 the kept folder)")
	flag.StringVar(&b.server, "server", "", "path of a qrjump binary (default: build one)")
	flag.Float64Var(&b.grownPart.factor, "grown", 1,
		"section grown: the fraction of a year of a large brand; below 1 the page is written to the kept folder unless -out is set")
	flag.StringVar(&b.grownPart.before, "before", "", "section grown: path of another qrjump binary, measured on a copy of the same folder")
	flag.StringVar(&b.grownPart.program, "program", "", "section grown: the name of this qrjump in the table; rows of other names stay")
	flag.Func("rows", "section grown: only rows whose name matches this expression; the others stay", func(text string) (err error) {
		b.grownPart.rows, err = regexp.Compile(text)
		return err
	})
	flag.BoolVar(&b.grownPart.fillOnly, "fill", false, "section grown: only fill the data folders, which are kept")
	flag.BoolVar(&b.grownPart.postgres, "postgres", false, "section grown: on PostgreSQL, at a tenth of the size")
	flag.DurationVar(&b.grownPart.longest, "longest", time.Hour,
		"section grown: skip a row at a size if the previous size predicts a longer time")
	report := flag.Bool("report", false, "only rewrite the page from the results")
	flag.Parse()
	var err error
	if b.repo, err = filepath.Abs(".."); err != nil {
		return err
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	if out == "" {
		out = filepath.Join(b.repo, "docs")
		if b.scale != 1 || which == "grown" && b.grownPart.factor < 1 {
			out = b.dir
		}
	}
	results = filepath.Join(out, "benchmarks", "results.json")
	all, err := loadResults(results)
	if err != nil {
		return err
	}
	if *report {
		return errors.Join(saveResults(results, all), writeReport(out, all))
	}
	if b.work, err = os.MkdirTemp(b.dir, "run"); err != nil {
		return err
	}
	// PostgreSQL and nginx workers run as other users.
	if err := os.Chmod(b.work, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(b.work)
	if b.server == "" {
		b.server = filepath.Join(b.work, "qrjump")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.server, "./cmd/qrjump")
		build.Dir, build.Env = b.repo, append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building qrjump: %w\n%s", err, text)
		}
	}
	wanted := strings.Split(which, ",")
	for _, name := range wanted {
		if name != "all" && !slices.ContainsFunc(sections, func(s section) bool { return s.name == name }) {
			return fmt.Errorf("-sections %q: want all or some of %s", name, names())
		}
	}
	var failed error
	for _, s := range sections {
		if which == "all" && s.byName() || which != "all" && !slices.Contains(wanted, s.name) {
			continue
		}
		fmt.Printf("\n== %s: %s\n", s.name, s.title)
		began := time.Now()
		b.out = &Section{Machine: machine(), Scale: b.scale, Rounds: b.rounds, Date: began.UTC().Format(time.DateOnly)}
		b.last = all[s.name]
		err := s.run(b, ctx)
		switch {
		case errors.Is(err, errMissing):
			fmt.Println("  ", err)
			b.out.Missing = append(b.out.Missing, err.Error())
		case err != nil:
			// Rows measured before the error stay; the page shows the error.
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", s.name, err)
			b.out.Missing = append(b.out.Missing, "failed: "+oneLine(err.Error()))
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
		}
		b.out.Seconds = time.Since(began).Seconds()
		fmt.Printf("   %.0f s\n", b.out.Seconds)
		all[s.name] = b.out
		if err := saveResults(results, all); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := writeReport(out, all); err != nil {
		return err
	}
	fmt.Printf("\n%s\n", filepath.Join(out, "benchmarks.md"))
	return failed
}

func names() string {
	var list []string
	for _, s := range sections {
		list = append(list, s.name)
	}
	return strings.Join(list, ",")
}

func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// scaled returns n multiplied by the scale of the run, but at least minimum (or n if that is smaller).
func (b *bench) scaled(n, least int) int { return max(int(float64(n)*b.scale), min(least, n)) }
