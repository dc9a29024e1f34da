package main

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/internal/infra/suggest"
	"github.com/qrjump/qrjump/internal/print/labels"
)

// labelCommand prints labels for the codes of a batch, or runs a job file. The keys of a job file are flags of this command; a job file can
// be kept in git, and each run with it writes the same bytes. Decision 72.
type labelCommand struct {
	labelPrint
	DryRun     bool
	ProofsOnly bool
	What       string   `arg:"" name:"batch|file" file:"in" absent:""`
	Codes      []string `arg:"" optional:"" name:"range"`
}

// Run prints the labels, or with --dry-run only the plan of the job. For a job from a file or with proofs, the plan is printed first.
func (c *labelCommand) Run(s *session) error {
	var err error
	if c.Secret, err = secret(s, c.Secret); err != nil { // The secret is read once for the plan, the proofs and the job.
		return err
	}
	if c.ID, err = strconv.ParseInt(c.What, 10, 64); err == nil {
		c.Range = c.Codes
	} else if err = c.readFile(s); err != nil {
		return err
	}
	switch {
	case c.Proofs < 0:
		return misused("label.proofs", c.What, c.Proofs)
	case c.ProofsOnly && c.Proofs == 0:
		return misused("label.no_proofs", c.What)
	case c.DryRun || c.Proofs > 0 || len(c.Codes) == 0:
		plan, err := c.plan(s)
		if err != nil {
			return err
		}
		if c.DryRun {
			return c.outputFlags.print(s, plan, nil, plan.printMsg)
		}
		if c.isTable() {
			plan.printMsg(s.err)
		}
	}
	if c.Proofs > 0 && (c.ProofsOnly || !c.Resume) {
		if err := c.firstLabels(c.Proofs).printLabels(s); err != nil {
			return err
		}
	}
	if c.ProofsOnly {
		return nil
	}
	return c.printLabels(s)
}

// firstLabels returns a job that prints only the first n labels, as proofs, into a separate file.
func (c *labelPrint) firstLabels(n int64) *labelPrint {
	first := *c
	extension := filepath.Ext(first.Out)
	first.Out, first.most, first.Format = strings.TrimSuffix(first.Out, extension)+"-proofs"+extension, n, c.format()
	return &first
}

// jobWords lists the keys of a job file that are not flags; jobFiles lists the keys whose values are paths relative to the job file.
var (
	jobWords = []string{"batch", "range"}
	jobFiles = []string{"out", "font", "logo", "from-file"}
)

// readFile reads the job file: its keys become arguments of this command, which validates them in the same way as typed arguments.
func (c *labelCommand) readFile(s *session) error {
	text, err := os.ReadFile(c.What)
	if err != nil {
		return misused("label.job_file", err)
	}
	words, err := labels.ReadJob(c.What, text)
	if empty, is := errors.AsType[*labels.EmptyWordError](err); is {
		return misused("label.no_value", empty.Location, empty.Name)
	}
	switch {
	case errors.Is(err, labels.ErrNoWords):
		return misused("label.not_a_job", c.What)
	case err != nil:
		return usageError(err.Error())
	}
	var job struct {
		Label labelCommand `cmd:""`
	}
	parser, err := newParser(*s, &job)
	if err != nil {
		return err
	}
	if _, err := parser.Parse([]string{"label", c.What}); err != nil {
		return err
	}
	given, emptyPrint := c.labelPrint, job.Label.labelPrint
	given.member, given.adminFlags, given.packageKeyFlags, given.Resume = emptyPrint.member, emptyPrint.adminFlags,
		emptyPrint.packageKeyFlags, emptyPrint.Resume
	given.ID, given.Range = emptyPrint.ID, emptyPrint.Range
	if !reflect.DeepEqual(given, emptyPrint) || len(c.Codes) > 0 {
		return misused("label.file_and_flags", c.What)
	}
	flags, values := jobFlags(parser.Model), map[string][]string{}
	for _, w := range words {
		if flags[w.Name] == nil && !slices.Contains(jobWords, w.Name) {
			known := append(slices.Sorted(maps.Keys(flags)), jobWords...)
			return misused("label.unknown_word", w.Location, w.Name, suggest.DidYouMean(w.Name, known...))
		}
		values[w.Name] = w.Values
	}
	for _, word := range []string{"batch", "out"} {
		if len(values[word]) != 1 {
			return misused("label.missing", c.What, word)
		}
	}
	args := []string{"label"}
	for _, word := range slices.Sorted(maps.Keys(flags)) {
		for _, value := range values[word] {
			if slices.Contains(jobFiles, word) && !filepath.IsAbs(value) {
				value = filepath.Join(filepath.Dir(c.What), value)
			}
			if value == "false" && flags[word].IsBool() {
				continue
			}
			args = append(args, "--"+word+"="+value)
		}
	}
	ranges := values["range"]
	if len(ranges) == 0 {
		ranges = []string{"all"}
	}
	chosen, err := parser.Parse(append(append(args, "--", values["batch"][0]), ranges...))
	if err == nil {
		err = checkNames(chosen)
	}
	if err == nil {
		job.Label.ID, err = strconv.ParseInt(job.Label.What, 10, 64)
	}
	if err != nil {
		return misused("label.wrong", c.What, err)
	}
	access := c.labelPrint
	c.labelPrint = job.Label.labelPrint
	c.member, c.adminFlags, c.packageKeyFlags, c.Resume = access.member, access.adminFlags, access.packageKeyFlags, access.Resume
	c.Range = job.Label.Codes
	return nil
}

// jobFlags returns the flags that a job file may set: all flags of label except those for access, --resume, --dry-run and --proofs-only.
func jobFlags(model *kong.Application) map[string]*kong.Flag {
	skipped := map[string]bool{"resume": true, "help": true, "dry-run": true, "proofs-only": true}
	access, err := kong.New(&struct {
		member
		adminFlags
		packageKeyFlags
	}{}, usualOutput)
	if err != nil {
		panic(err) // Only an invalid struct tag above causes this error.
	}
	for _, f := range access.Model.Flags {
		skipped[f.Name] = true
	}
	flags := map[string]*kong.Flag{}
	for _, f := range model.Children[0].Flags {
		if !skipped[f.Name] {
			flags[f.Name] = f
		}
	}
	return flags
}

// labelPlan describes the output of a job.
type labelPlan struct {
	Batch   int64    `json:"application_id"`
	Range   string   `json:"range"`
	Codes   int64    `json:"codes"`
	Pages   int64    `json:"pages,omitempty"`
	Page    int      `json:"labels_per_page,omitempty"`
	Out     string   `json:"out"`
	Width   float64  `json:"width_mm"` // Width of a label's symbol including its text lines.
	Height  float64  `json:"height_mm"`
	Module  float64  `json:"module_mm"`
	Content []string `json:"content"` // The data that the symbols of the first label encode.
	Proofs  int64    `json:"proofs,omitempty"`
}

// plan computes the size of the job's output. plan draws the first label in its place on the page, because this shows whether the labels
// fit.
func (c *labelPrint) plan(s *session) (*labelPlan, error) {
	design, err := c.labelDesign()
	if err != nil {
		return nil, err
	}
	var sheet *labels.Sheet
	if c.onPages() {
		pages, err := c.sheet(design)
		if err != nil {
			return nil, err
		}
		sheet = &pages
	}
	src, err := c.labelSource(s)
	if err != nil {
		return nil, err
	}
	p := &labelPlan{Batch: c.ID, Range: rangeText(src.fullRange()), Codes: src.count(), Out: c.Out, Proofs: min(c.Proofs, src.count())}
	for row, err := range src.rows(s.ctx, src.fullRange().From) {
		if err != nil {
			return nil, err
		}
		item, err := labels.PlanOf(c.ID, p.Codes, row, design, sheet)
		if err != nil {
			return nil, unprintable(err)
		}
		if !c.onPages() {
			if err := labels.Formats[labels.Format(c.format())](&bytes.Buffer{}, item.Label); err != nil {
				return nil, err
			}
		}
		p.Pages, p.Page, p.Content = item.Pages, item.PerPage, item.Label.Content
		p.Width, p.Height, p.Module = item.Width, item.Height, item.Module
		break
	}
	if c.Out == dash && c.PerFile > 0 && p.Pages > c.PerFile {
		return nil, misused("print_job.several_files_do_not_go")
	}
	return p, nil
}

// printMsg prints the plan.
func (p *labelPlan) printMsg(w io.Writer) {
	printMsg(w, "label.plan", countedCodes(p.Codes), p.Batch, p.Range, plain(p.Out))
	p.tellLook(w)
	for _, text := range p.Content {
		printMsg(w, "label.plan_first_label", saysText(text))
	}
	if p.Proofs > 0 {
		printMsg(w, "label.plan_proofs", counted(int(p.Proofs), "label"))
	}
}

// tellLook prints the number of pages and the size of a label; it omits values that the plan does not contain.
func (p *labelPlan) tellLook(w io.Writer) {
	if p.Pages > 0 {
		printMsg(w, "label.plan_pages", counted(int(p.Pages), "page"), p.Page)
	}
	if p.Module > 0 {
		printMsg(w, "label.plan_size", p.Width, p.Height, p.Module)
	}
}
