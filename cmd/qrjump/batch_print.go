package main

import (
	"cmp"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/qrjump/qrjump/internal/labels"
	"github.com/qrjump/qrjump/internal/symbol"
)

// readBack is what the labels of a job were read back to say: Draw refuses one that does not say what it should.
type readBack struct {
	mu     sync.Mutex
	Labels int64    `json:"labels"`
	Unread int64    `json:"unread"` // whose dot matrix came from elsewhere, and is of no kind that is known here
	Index  int64    `json:"index"`  // of the label with the lowest one
	Says   []string `json:"says"`   // by its symbols
}

// note is told each label that was drawn.
func (b *readBack) note(r labels.Row, d symbol.Drawing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(d.Says, "") {
		b.Unread++
	}
	if b.Labels++; b.Labels == 1 || r.Index < b.Index {
		b.Index, b.Says = r.Index, d.Says
	}
}

// said tells what a job wrote, and of labels what they say.
func (f *rangeFlags) said(s *session, total int64, files []printedFile, read *readBack) error {
	if f.Out == "-" {
		return nil
	}
	answer := map[string]any{"application_id": f.ID, "codes": total, "files": files}
	if read != nil {
		answer["read_back"] = read
	}
	return f.print(s, answer, func(w io.Writer) {
		var size int64
		for _, one := range files {
			size += one.Bytes
		}
		where := plain(f.Out)
		if len(files) > 1 {
			where = plain(files[0].File) + " to " + plain(files[len(files)-1].File)
		}
		tell(w, "batch_download.wrote_of_to", countedCodes(total), f.ID, where, counted(int(size), "byte"))
		if read == nil || read.Labels == 0 {
			return
		}
		if read.Unread == 0 {
			tell(w, "batch_print.read_back_as_drawn_each", counted(int(read.Labels), "label"))
		} else {
			tell(w, "batch_print.read_back_as_drawn_the",
				counted(int(read.Labels), "label"), read.Unread)
		}
		for _, text := range read.Says {
			tell(w, "batch_print.index", read.Index, saysText(text))
		}
	})
}

type batchListCodes struct {
	rangeFlags
	Format string `enum:"csv,ndjson,text,lines" default:"csv" placeholder:"csv|ndjson|text|lines"`
}

// Run lists codes.
func (c *batchListCodes) Run(s *session) error {
	src, err := c.source(s)
	if err == nil && c.Format == "lines" {
		err = src.needMatrix("--format lines")
	}
	if err != nil {
		return err
	}
	job, err := beginJob(&c.rangeFlags, map[string]any{"list": c.Format})
	if err != nil {
		return err
	}
	list, progress := labels.List(c.Format), newBar(s, src.count(), "listing")
	defer progress.end()
	size, err := job.stream(s, list.Header(src.operator == nil), func(from int64, put func([]byte) error) error {
		rows, clean, err := c.ordered(s.ctx, &src, from)
		if err != nil {
			return err
		}
		defer clean()
		progress.add(int(from))
		var line []byte
		for r, err := range rows {
			if err != nil {
				return err
			}
			line = list.Append(line[:0], r)
			if err := put(line); err != nil {
				return err
			}
			progress.add(1)
		}
		return s.ctx.Err()
	})
	progress.end()
	if err != nil {
		return err
	}
	return c.said(s, src.count(), []printedFile{{c.Out, src.count(), size}}, nil)
}

// labelFlags say what stands on each label of a job.
type labelFlags struct {
	printFlags
	Kind string `enum:"qr,datamatrix,matrix,both,gs1-qr,gs1-datamatrix,gs1-digital-link" default:"qr" placeholder:"KIND"`
}

type batchSheet struct {
	rangeFlags
	labelFlags
	pageFlags
	Logo      string `placeholder:"FILE" file:"in"`
	LogoWidth string `default:"10mm" placeholder:"LENGTH"`
	PerFile   int64  `placeholder:"PAGES"`
}

// Run writes pages of labels.
func (c *batchSheet) Run(s *session) error {
	design, err := c.design(c.Kind)
	if err != nil {
		return err
	}
	var read readBack
	design.Drawn = read.note
	sheet, err := c.sheet(design)
	if err != nil {
		return err
	}
	src, err := c.source(s)
	if err == nil {
		err = src.needKind(c.Kind)
	}
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
	return c.parts(s, &src, job, c.PerFile*perPage, lead, &read, write)
}

// sheet is what the flags say of pages.
func (c *batchSheet) sheet(design labels.Design) (sheet labels.Sheet, err error) {
	if c.PerFile < 0 {
		return sheet, misused("batch_print.per_file_want_1_or", c.PerFile)
	}
	if err := c.check(); err != nil {
		return sheet, err
	}
	if sheet, err = c.printing(c.Kind, c.pageFlags).OnSheets(design); err != nil {
		return sheet, misprinted(err)
	}
	if c.Logo != "" {
		if sheet.LogoAt, err = length("logo-width", c.LogoWidth); err != nil {
			return sheet, err
		}
		if sheet.Logo, err = readLogo(c.Logo); err != nil {
			return sheet, err
		}
	}
	if err := sheet.Check(); err != nil {
		return sheet, misuse(err.Error())
	}
	return sheet, nil
}

// parts writes a job of several files, with a bar on the terminal.
func (f *rangeFlags) parts(s *session, src *rowSource, job *printJob, each, lead int64, read *readBack,
	write func(w io.Writer, rows iter.Seq2[labels.Row, error], first int64, done func(int)) error) error {
	progress := newBar(s, src.count(), "drawing")
	defer progress.end()
	progress.add(int(job.Labels))
	files, err := job.parts(s, src.count(), each, lead, func(from int64) (iter.Seq2[labels.Row, error], func(), error) {
		return f.ordered(s.ctx, src, from)
	}, func(w io.Writer, rows iter.Seq2[labels.Row, error], first int64) error {
		return write(w, rows, first, progress.add)
	})
	progress.end()
	if err != nil {
		return unprintable(err)
	}
	return f.said(s, src.count(), files, read)
}

type batchPictures struct {
	rangeFlags
	labelFlags
	Format  string `enum:"svg,png,pdf,zpl,epl" default:"png" placeholder:"svg|png|pdf|zpl|epl"`
	PerFile int64  `default:"50000" placeholder:"N"`
}

// Run writes each label by itself: into an archive, or as a stream for a label printer.
func (c *batchPictures) Run(s *session) error {
	design, err := c.design(c.Kind)
	if err != nil {
		return err
	}
	var read readBack
	design.Drawn = read.note
	if c.PerFile < 1 {
		return misused("batch_print.per_file_want_1_or", c.PerFile)
	}
	format, zipped := labels.Format(c.Format), strings.HasSuffix(c.Out, ".zip")
	if !zipped && !format.ForPrinters() {
		return misused("batch_print.out_pictures_go_into_an",
			c.Out)
	}
	src, err := c.source(s)
	if err == nil {
		err = src.needKind(c.Kind)
	}
	if err != nil {
		return err
	}
	job, err := beginJob(&c.rangeFlags, map[string]any{"pictures": c.labelFlags, "format": c.Format, "each": c.PerFile})
	if err != nil {
		return err
	}
	if zipped {
		type rows = iter.Seq2[labels.Row, error]
		return c.parts(s, &src, job, c.PerFile, 0, &read, func(w io.Writer, of rows, _ int64, done func(int)) error {
			return design.Zip(w, c.ID, of, format, done)
		})
	}
	progress := newBar(s, src.count(), "drawing")
	defer progress.end()
	size, err := job.stream(s, "", func(from int64, put func([]byte) error) error {
		rows, clean, err := c.ordered(s.ctx, &src, from)
		if err != nil {
			return err
		}
		defer clean()
		progress.add(int(from))
		return design.Labels(c.ID, rows, format, func(_ labels.Row, label []byte) error {
			progress.add(1)
			return cmp.Or(s.ctx.Err(), put(label))
		})
	})
	progress.end()
	if err != nil {
		return unprintable(err)
	}
	return c.said(s, src.count(), []printedFile{{c.Out, src.count(), size}}, &read)
}
