package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/internal/labels"
	"github.com/qrjump/qrjump/internal/spelling"
)

// labelCommand prints what a file says: it has the flags of batch sheet or batch pictures, so that a job stands in git and
// gives the same bytes again. Decision 72.
type labelCommand struct {
	labelAccess
	DryRun     bool
	ProofsOnly bool
	Resume     bool
	File       string `arg:"" file:"in"`
}

// labelAccess says from where codes come and with which key, which no file of a job says.
type labelAccess struct {
	member
	adminFlags
	packageKeyFlags
}

// labelVerbs are the two verbs that print what a file says.
type labelVerbs struct {
	Sheet    batchSheet    `cmd:""`
	Pictures batchPictures `cmd:""`
}

// labelJob is what a file says.
type labelJob struct {
	labelVerbs
	pages  bool // on pages, and not label by label
	proofs int64
}

// Run plans what the file says, and prints it.
func (c *labelCommand) Run(s *session) error {
	var err error
	if c.Secret, err = secret(s, c.Secret); err != nil { // once for the plan, the proofs and the job
		return err
	}
	job, err := c.read(s)
	if err != nil {
		return err
	}
	plan, err := job.plan(s)
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.print(s, plan, plan.tell)
	}
	if c.isTable() {
		plan.tell(s.err)
	}
	if job.proofs > 0 && !job.flags().Resume {
		if err := job.only(job.proofs).Run(s); err != nil {
			return err
		}
	}
	if c.ProofsOnly {
		if job.proofs == 0 {
			return misused("label.no_proofs", c.File)
		}
		return nil
	}
	return job.Run(s)
}

// flags are those of the range, of either verb.
func (j *labelJob) flags() *rangeFlags {
	if j.pages {
		return &j.Sheet.rangeFlags
	}
	return &j.Pictures.rangeFlags
}

// Run prints.
func (j *labelJob) Run(s *session) error {
	if j.pages {
		return j.Sheet.Run(s)
	}
	return j.Pictures.Run(s)
}

// only is the job for its first n labels, in a file of their own.
func (j *labelJob) only(n int64) *labelJob {
	first := *j
	f := first.flags()
	ending := filepath.Ext(f.Out)
	f.Out, f.most = strings.TrimSuffix(f.Out, ending)+"-proofs"+ending, n
	return &first
}

// jobWords are the words of a file that are no flags.
var jobWords = []string{"batch", "range", "format", "proofs"}

// jobFiles are the words whose values are files beside the file of the job.
var jobFiles = []string{"out", "font", "logo", "from-file"}

// read reads the file: its words become the arguments of a verb, which checks them as if they had been typed.
func (c *labelCommand) read(s *session) (*labelJob, error) {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return nil, misused("label.unread", err)
	}
	words, err := labels.ReadJob(c.File, text)
	if empty, is := errors.AsType[*labels.EmptyWordError](err); is {
		return nil, misused("label.no_value", empty.At, empty.Name)
	}
	switch {
	case errors.Is(err, labels.ErrNoWords):
		return nil, misused("label.no_map", c.File)
	case err != nil:
		return nil, misuse(err.Error())
	}
	job := &labelJob{pages: true}
	parser, err := newParser(*s, &job.labelVerbs)
	if err != nil {
		return nil, err
	}
	values := map[string][]string{}
	for _, w := range words {
		values[w.Name] = w.Values
	}
	format := first(values["format"])
	job.pages = format == "" || format == "pages"
	known := jobFlags(parser.Model, job.pages)
	for _, w := range words {
		if !slices.Contains(known, w.Name) && !slices.Contains(jobWords, w.Name) {
			return nil, misused("label.unknown_word", w.At, w.Name, spelling.DidYouMean(w.Name, append(known, jobWords...)...))
		}
	}
	return job, c.fill(parser, job, values, known)
}

// fill gives the words to the verb.
func (c *labelCommand) fill(parser *kong.Kong, job *labelJob, values map[string][]string, known []string) error {
	for _, word := range []string{"batch", "out"} {
		if len(values[word]) != 1 {
			return misused("label.missing", c.File, word)
		}
	}
	if n := first(values["proofs"]); n != "" {
		if _, err := fmt.Sscan(n, &job.proofs); err != nil || job.proofs < 1 {
			return misused("label.proofs", c.File, n)
		}
	}
	args := []string{"sheet"}
	if !job.pages {
		args = []string{"pictures", "--format=" + first(values["format"])}
	}
	for _, word := range known {
		for _, value := range values[word] {
			if slices.Contains(jobFiles, word) && !filepath.IsAbs(value) {
				value = filepath.Join(filepath.Dir(c.File), value)
			}
			if value == "false" && isSwitch(parser.Model, word) {
				continue
			}
			args = append(args, "--"+word+"="+value)
		}
	}
	args = append(args, "--", first(values["batch"]))
	if ranges := values["range"]; len(ranges) > 0 {
		args = append(args, ranges...)
	} else {
		args = append(args, "all")
	}
	chosen, err := parser.Parse(args)
	if err == nil {
		err = checkNames(chosen)
	}
	if err != nil {
		return misused("label.wrong", c.File, err)
	}
	f := job.flags()
	f.member, f.adminFlags, f.packageKeyFlags, f.Resume = c.member, c.adminFlags, c.packageKeyFlags, c.Resume
	return nil
}

// first is the first value of a word, "" where it has none.
func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// jobFlags are the words that a file may have: the flags of its verb, without those that are given to label itself.
func jobFlags(model *kong.Application, pages bool) (names []string) {
	own := map[string]bool{"resume": true, "help": true, "format": true}
	access, err := kong.New(&labelAccess{})
	if err != nil {
		panic(err) // a fault of the struct above
	}
	for _, f := range access.Model.Flags {
		own[f.Name] = true
	}
	for _, verb := range model.Children {
		if (verb.Name == "sheet") != pages {
			continue
		}
		for _, f := range verb.Flags {
			if !own[f.Name] {
				names = append(names, f.Name)
			}
		}
	}
	return names
}

// isSwitch reports whether a word is a flag without a value.
func isSwitch(model *kong.Application, word string) bool {
	for _, verb := range model.Children {
		for _, f := range verb.Flags {
			if f.Name == word {
				return f.IsBool()
			}
		}
	}
	return false
}

// labelPlan is what a job would print.
type labelPlan struct {
	Batch  int64    `json:"application_id"`
	Range  string   `json:"range"`
	Codes  int64    `json:"codes"`
	Pages  int64    `json:"pages,omitempty"`
	Page   int      `json:"labels_per_page,omitempty"`
	Out    string   `json:"out"`
	Width  float64  `json:"width_mm"` // of a label's symbol with its lines
	Height float64  `json:"height_mm"`
	Module float64  `json:"module_mm"`
	Says   []string `json:"says"` // by the symbols of the first
	Proofs int64    `json:"proofs,omitempty"`
}

// plan looks what would be printed. It draws the first label where it would stand: a size that does not fit is found before paper is.
func (j *labelJob) plan(s *session) (*labelPlan, error) {
	f := j.flags()
	flags := &j.Pictures.labelFlags
	if j.pages {
		flags = &j.Sheet.labelFlags
	}
	design, err := flags.design(flags.Kind)
	if err != nil {
		return nil, err
	}
	var sheet *labels.Sheet
	if j.pages {
		pages, err := j.Sheet.sheet(design)
		if err != nil {
			return nil, err
		}
		sheet = &pages
	}
	src, err := f.source(s)
	if err == nil {
		err = src.needKind(flags.Kind)
	}
	if err != nil {
		return nil, err
	}
	p := &labelPlan{Batch: f.ID, Range: rangeText(src.fullRange()), Codes: src.count(), Out: f.Out, Proofs: min(j.proofs, src.count())}
	for row, err := range src.rows(s.ctx, src.fullRange().From) {
		if err != nil {
			return nil, err
		}
		one, err := labels.PlanOf(f.ID, p.Codes, row, design, sheet)
		if err != nil {
			return nil, unprintable(err)
		}
		if !j.pages {
			if err := labels.Formats[labels.Format(j.Pictures.Format)](&bytes.Buffer{}, one.Label); err != nil {
				return nil, err
			}
		}
		p.Pages, p.Page, p.Says = one.Pages, one.PerPage, one.Label.Says
		p.Width, p.Height, p.Module = one.Width, one.Height, one.Module
		break
	}
	return p, nil
}

// tell says the plan.
func (p *labelPlan) tell(w io.Writer) {
	tell(w, "label.plan", countedCodes(p.Codes), p.Batch, p.Range, plain(p.Out))
	p.tellLook(w)
	for _, text := range p.Says {
		tell(w, "label.plan_says", saysText(text))
	}
	if p.Proofs > 0 {
		tell(w, "label.plan_proofs", counted(int(p.Proofs), "label"))
	}
}

// tellLook says how large the labels are, and how many pages they fill; nothing where none are drawn.
func (p *labelPlan) tellLook(w io.Writer) {
	if p.Pages > 0 {
		tell(w, "label.plan_pages", counted(int(p.Pages), "page"), p.Page)
	}
	if p.Module > 0 {
		tell(w, "label.plan_size", p.Width, p.Height, p.Module)
	}
}
