package main

import (
	"cmp"
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/qrjump/qrjump/internal/print/labels"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

// readBack counts the labels of a job that were drawn and read back, and holds the texts of the label with the lowest index.
type readBack struct {
	mu      sync.Mutex
	Labels  int64    `json:"labels"`
	Unread  int64    `json:"unread"`  // number of labels with an imported dot matrix that cannot be read
	Index   int64    `json:"index"`   // lowest code index of the labels
	Content []string `json:"content"` // the texts of the label with the index in Index, one per symbol
}

// note records a label that was drawn.
func (b *readBack) note(r labels.Row, d symbol.Drawing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(d.Content, "") {
		b.Unread++
	}
	b.Labels++
	if b.Labels == 1 || r.Index < b.Index {
		b.Index, b.Content = r.Index, d.Content
	}
}

// tr prints the files that a job wrote and, for labels, the texts that were read back.
func (f *rangeFlags) tr(s *session, total int64, files []printedFile, read *readBack) error {
	if f.Out == "-" {
		return nil
	}
	answer := map[string]any{"application_id": f.ID, "codes": total, "files": files}
	if read != nil {
		answer["read_back"] = read
	}
	return f.print(s, answer, nil, func(w io.Writer) {
		var size int64
		for _, file := range files {
			size += file.Bytes
		}
		location := plain(f.Out)
		if len(files) > 1 {
			location = plain(files[0].File) + " to " + plain(files[len(files)-1].File)
		}
		printMsg(w, "batch_download.wrote_of_to", countedCodes(total), f.ID, location, counted(int(size), "byte"))
		if read == nil || read.Labels == 0 {
			return
		}
		if read.Unread == 0 {
			printMsg(w, "batch_print.read_back_as_drawn_each", counted(int(read.Labels), "label"))
		} else {
			printMsg(w, "batch_print.read_back_as_drawn_the", counted(int(read.Labels), "label"), read.Unread)
		}
		for _, text := range read.Content {
			printMsg(w, "batch_print.index", read.Index, saysText(text))
		}
	})
}

type batchListCodes struct {
	rangeFlags
	Batch     int64    `arg:"" name:"id"`
	Codes     []string `arg:"" name:"range"`
	Columns   []string `enum:"index,code,text,matrix,mark,pin" placeholder:"index|code|text|matrix|mark|pin"`
	Lanes     int64    `placeholder:"N"`
	PerFile   int64    `placeholder:"N"`
	MarkEvery int64    `placeholder:"N"`
}

// matrixColumn is the name of the column with the dot matrix.
const matrixColumn = "matrix"

// maxLanes is the maximum number of codes in one line of a list (--lanes).
const maxLanes = 1000

// table returns the layout of the list: its columns, and the number of codes per line (lanes).
func (c *batchListCodes) table() (labels.Table, error) {
	t := labels.Table{List: labels.List(c.Output), Columns: c.Columns, Lanes: int(c.Lanes), Mark: c.MarkEvery}
	switch isTable := c.Output == "csv" || c.Output == "ndjson"; {
	case c.Lanes < 0 || c.Lanes > maxLanes || c.PerFile < 0 || c.MarkEvery < 0:
		return t, misused("batch_print.lanes", maxLanes)
	case !isTable && (len(c.Columns) > 0 || c.Lanes > 0 || c.MarkEvery > 0):
		return t, misused("batch_print.columns", c.Output)
	case len(c.Columns) == 0:
		t.Columns = labels.UsualColumns
	}
	if c.MarkEvery > 0 && !slices.Contains(t.Columns, "mark") {
		t.Columns = append(slices.Clip(t.Columns), "mark")
	}
	return t, nil
}

// Run lists codes.
func (c *batchListCodes) Run(s *session) error {
	c.ID, c.Range = c.Batch, c.Codes
	list, err := c.table()
	if err != nil {
		return err
	}
	src, err := c.source(s)
	switch {
	case err != nil:
	case c.Output == "lines":
		err = src.needMatrix("--output lines")
	case slices.Contains(list.Columns, matrixColumn):
		err = src.needMatrix("--columns " + matrixColumn)
	case slices.Contains(list.Columns, "pin") && !src.pins:
		err = misused("batch_print.no_pin", c.ID)
	case src.pins && len(c.Columns) == 0:
		list.Columns = labels.WithPIN(list.Columns)
	}
	if err != nil {
		return err
	}
	settings := map[string]any{"list": c.Output}
	if c.Output == "csv" || c.Output == "ndjson" {
		settings["table"] = list
	}
	if c.PerFile > 0 {
		settings["each"] = c.PerFile
	}
	job, err := beginJob(&c.rangeFlags, settings)
	if err != nil {
		return err
	}
	lanes := max(c.Lanes, 1)
	if c.PerFile > 0 {
		return c.parts(s, &src, job, c.PerFile*lanes, 0, nil,
			func(w io.Writer, rows iter.Seq2[labels.Row, error], first int64, _ func(int)) error {
				return list.Write(w, first/lanes, rows)
			})
	}
	return c.stream(s, &src, job, list.Header(), "listing", lanes, nil, list.Lines)
}

// stream writes the rows to one stream and shows a progress bar on the terminal; write calls put for each line, beginning with the line
// number first. lanes is the number of rows per line.
func (f *rangeFlags) stream(s *session, src *rowSource, job *printJob, header, doing string, lanes int64, read *readBack,
	write func(first int64, rows iter.Seq2[labels.Row, error], put func(line []byte, rows int) error) error) error {
	progress := newBar(s, src.count(), doing)
	defer progress.end()
	size, err := job.stream(s, header, func(from int64, put func([]byte) error) error {
		rows, clean, err := f.ordered(s.ctx, src, from*lanes)
		if err != nil {
			return err
		}
		defer clean()
		progress.add(int(from * lanes))
		return write(from, rows, func(line []byte, n int) error {
			progress.add(n)
			return cmp.Or(s.ctx.Err(), put(line))
		})
	})
	progress.end()
	if err != nil {
		return unprintable(err)
	}
	return f.tr(s, src.count(), []printedFile{{f.Out, src.count(), size}}, read)
}

// labelFlags define the content of each label of a job.
type labelFlags struct {
	printFlags
	kindFlags
}

// labelPrint holds the flags for the labels to print: the codes, the content, and the layout or file format.
type labelPrint struct {
	rangeFlags
	labelFlags
	pageFlags
	Format    string `enum:",pages,svg,png,pdf,eps,zpl,tspl" default:"" placeholder:"pages|svg|png|pdf|eps|zpl|tspl"`
	Logo      string `placeholder:"FILE" file:"in"`
	LogoWidth string `default:"10mm" placeholder:"LENGTH"`
	PerFile   int64  `placeholder:"N"`
	Proofs    int64  `placeholder:"N"`
}

// format returns the output format: pages, or a format of single labels; without --format, the extension of the output file decides.
func (c *labelPrint) format() string {
	extension := strings.TrimPrefix(strings.ToLower(filepath.Ext(c.Out)), ".")
	return cmp.Or(c.Format, map[string]string{"": "pages", "pdf": "pages", "zip": "png"}[extension], extension)
}

// labelDesign returns the appearance of the labels, or an error for flags that do not fit the format or the name of the output file.
func (c *labelPrint) labelDesign() (labels.Design, error) {
	if err := c.check(); err != nil {
		return labels.Design{}, err
	}
	format := labels.Format(c.format())
	switch {
	case !c.onPages() && labels.Formats[format] == nil:
		return labels.Design{}, misused("label.no_format", plain(c.Out), plain(c.format()))
	case c.PerFile < 0:
		return labels.Design{}, misused("batch_print.per_file_want_1_or", c.PerFile)
	case c.onPages() && c.Copies != nil:
		return labels.Design{}, misused("label.for_printers")
	case !c.onPages() && (c.unsupported(c.format()) != pageFlags{} || c.Logo != ""):
		return labels.Design{}, misused("label.for_pages", c.format())
	case !c.onPages() && !c.zipped() && !format.ForPrinters():
		return labels.Design{}, misused("batch_print.out_pictures_go_into_an", c.Out)
	case !c.onPages() && !c.zipped() && c.PerFile > 0:
		return labels.Design{}, misused("batch_print.per_file_of_stream", c.PerFile, c.Out)
	}
	return c.design(c.kindFlags, c.pageFlags)
}

func (c *labelPrint) onPages() bool { return c.format() == "pages" }

func (c *labelPrint) zipped() bool { return strings.HasSuffix(strings.ToLower(c.Out), ".zip") }

// printLabels writes the labels, and prints a summary.
func (c *labelPrint) printLabels(s *session) error {
	design, err := c.labelDesign()
	if err != nil {
		return err
	}
	var read readBack
	design.Drawn = read.note
	if c.onPages() {
		return c.pages(s, design, &read)
	}
	return c.pictures(s, design, &read)
}

// labelSource returns the source of the rows, or an error if this kind of label needs a dot matrix that the rows lack.
func (c *labelPrint) labelSource(s *session) (rowSource, error) {
	src, err := c.source(s)
	if err == nil {
		err = src.needKind(c.Kind)
	}
	return src, err
}

// pages writes the labels as pages.
func (c *labelPrint) pages(s *session, design labels.Design, read *readBack) error {
	sheet, err := c.sheet(design)
	if err != nil {
		return err
	}
	src, err := c.labelSource(s)
	if err != nil {
		return err
	}
	job, err := beginJob(&c.rangeFlags, map[string]any{"sheet": c.labelFlags, "page": c.pageFlags, "logo": c.Logo,
		"logo_width": c.LogoWidth, "pages": c.PerFile})
	if err != nil {
		return err
	}
	perPage, lead := int64(sheet.PerPage()), int64(sheet.Lead())
	write := func(w io.Writer, rows iter.Seq2[labels.Row, error], first int64, done func(int)) error {
		page := 1
		if first > 0 {
			page += int((first + lead) / perPage)
		}
		return sheet.Write(w, c.ID, rows, page, done)
	}
	return c.parts(s, &src, job, c.PerFile*perPage, lead, read, write)
}

// sheet returns the page layout that the flags define.
func (c *labelPrint) sheet(design labels.Design) (sheet labels.Sheet, err error) {
	if sheet, err = c.printing(c.kindFlags, c.pageFlags).OnSheets(design); err != nil {
		return sheet, withFlagName(err)
	}
	if c.Logo != "" {
		if sheet.LogoAt, err = length("logo-width", c.LogoWidth); err != nil {
			return sheet, err
		}
		if sheet.Logo, err = readPicture("--logo "+c.Logo, c.Logo, largestLogo, labels.MaxLogo); err != nil {
			return sheet, err
		}
	}
	if err := sheet.Check(); err != nil {
		return sheet, usageError(err.Error())
	}
	return sheet, nil
}

// parts writes the files of a job and shows a progress bar on the terminal.
func (f *rangeFlags) parts(s *session, src *rowSource, job *printJob, size, lead int64, read *readBack,
	write func(w io.Writer, rows iter.Seq2[labels.Row, error], first int64, done func(int)) error) error {
	progress := newBar(s, src.count(), "drawing")
	defer progress.end()
	progress.add(int(job.Labels))
	files, err := job.parts(s, src.count(), size, lead, func(from int64) (iter.Seq2[labels.Row, error], func(), error) {
		return f.ordered(s.ctx, src, from)
	}, func(w io.Writer, rows iter.Seq2[labels.Row, error], first int64) error {
		return write(w, rows, first, progress.add)
	})
	progress.end()
	if err != nil {
		return unprintable(err)
	}
	return f.tr(s, src.count(), files, read)
}

// labelsPerFile is the number of labels per archive without --per-file.
const labelsPerFile = 50_000

// pictures writes each label separately: into an archive, or as a stream for a label printer.
func (c *labelPrint) pictures(s *session, design labels.Design, read *readBack) error {
	n := cmp.Or(c.PerFile, labelsPerFile)
	format := labels.Format(c.format())
	src, err := c.labelSource(s)
	if err != nil {
		return err
	}
	job, err := beginJob(&c.rangeFlags, map[string]any{"pictures": c.labelFlags, "format": format, "each": n, "media": design.Style.Media})
	if err != nil {
		return err
	}
	if c.zipped() {
		type rows = iter.Seq2[labels.Row, error]
		return c.parts(s, &src, job, n, 0, read, func(w io.Writer, seq rows, _ int64, done func(int)) error {
			return design.Zip(w, c.ID, seq, format, done)
		})
	}
	return c.stream(s, &src, job, "", "drawing", 1, read,
		func(_ int64, rows iter.Seq2[labels.Row, error], put func([]byte, int) error) error {
			return design.Labels(c.ID, rows, format, func(_ labels.Row, label []byte) error { return put(label, 1) })
		})
}
