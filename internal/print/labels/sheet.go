package labels

import (
	"fmt"
	"image"
	"io"
	"iter"
	"math"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/print/pdf"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

// Sheet is a grid of labels on pages: cells of equal size, filled row by row.
type Sheet struct {
	Paper            Paper
	Columns, Rows    int
	Left, Top        symbol.Length // position of the first cell
	Width, Height    symbol.Length // of a cell
	PitchX, PitchY   symbol.Length // distance from the start of a cell to the start of the next cell
	OffsetX, OffsetY symbol.Length // shift of all content, to correct a printer that prints off position
	StartAt          int           // the first cell to use on the first page, from 1; 0 means 1
	CropMarks        bool          // marks in the margin, aligned with the edges of the cells
	// Footer is printed in the bottom margin; {batch}, {from}, {to} and {page} in it are replaced, {from} and {to} by the first and
	// last index on the page.
	Footer string
	Logo   image.Image   // printed to the left of each symbol; nil = none
	LogoAt symbol.Length // width of the logo
	Design Design
}

const (
	// maxSheetCells limits the labels per page.
	maxSheetCells = 10_000
	// markGap is the distance between crop marks and cells, and markLength is the length of crop marks.
	markGap, markLength = symbol.Length(1000), symbol.Length(3000)
	// logoGap is the distance between a logo and the symbol next to it.
	logoGap = symbol.Length(1000)
	// MaxLogo limits the size of a logo, in pixels.
	MaxLogo = 4 << 20
)

// PerPage returns the number of labels on a page.
func (s Sheet) PerPage() int { return s.Columns * s.Rows }

// Lead returns the number of cells to skip on the first page.
func (s Sheet) Lead() int { return max(s.StartAt, 1) - 1 }

// Check returns an error if the sheet cannot be printed, regardless of the content of the labels.
func (s Sheet) Check() error {
	right, below := s.unused()
	margin := min(s.Left+s.OffsetX, s.Top+s.OffsetY, right-s.OffsetX, below-s.OffsetY)
	switch {
	case s.Columns < 1 || s.Rows < 1 || s.PerPage() > maxSheetCells:
		return fmt.Errorf("a page of %d by %d labels: want at least one column and one row, and at most %d labels a page", s.Columns,
			s.Rows, maxSheetCells)
	case s.Logo != nil && s.Logo.Bounds().Dx()*s.Logo.Bounds().Dy() > MaxLogo:
		return fmt.Errorf("a logo of %d×%d pixels is larger than needed: at most %d", s.Logo.Bounds().Dx(), s.Logo.Bounds().Dy(), MaxLogo)
	case s.Logo != nil && (s.LogoAt <= 0 || s.Logo.Bounds().Empty()):
		return fmt.Errorf("a logo needs a width and a picture")
	}
	if err := symbol.CheckDPI(s.Design.Style.DPI); err != nil {
		return err
	}
	if width, height := s.cell(); width < 1 || height < 1 {
		return fmt.Errorf("a page of %d by %d labels leaves no space for a label on paper of %v by %v: use fewer labels, "+
			"or smaller margins and gaps", s.Columns,
			s.Rows, s.Paper.Width, s.Paper.Height)
	}
	switch {
	case s.Columns > 1 && s.PitchX < s.Width || s.Rows > 1 && s.PitchY < s.Height:
		return fmt.Errorf("labels of %v by %v overlap with a pitch of %v by %v: want a pitch of at least their size", s.Width, s.Height,
			s.PitchX,
			s.PitchY)
	case right < 0 || below < 0:
		return fmt.Errorf(
			"%d by %d labels of %v by %v end %v by %v from the top left corner, and the paper is %v by %v: use fewer, or smaller "+
				"margins", s.Columns, s.Rows, s.Width, s.Height, s.Paper.Width-right, s.Paper.Height-below, s.Paper.Width, s.Paper.Height)
	case s.CropMarks && margin < markGap+markLength+markGap:
		return fmt.Errorf("crop marks are printed in the margin, and %v is too narrow: want %v or more", margin, markGap+markLength+markGap)
	case s.Footer != "" && below-s.OffsetY < s.minFooter():
		return fmt.Errorf("the footer is printed in the margin, and %v is too narrow: want %v or more", below-s.OffsetY, s.minFooter())
	}
	return s.Design.Style.Check()
}

// unused returns the width of the paper to the right of the last cell and the height below it.
func (s Sheet) unused() (right, below symbol.Length) {
	return s.Paper.Width - s.Left - symbol.Length(s.Columns-1)*s.PitchX - s.Width,
		s.Paper.Height - s.Top - symbol.Length(s.Rows-1)*s.PitchY - s.Height
}

// minFooter returns the minimum bottom margin for a footer, with or without crop marks.
func (s Sheet) minFooter() symbol.Length {
	if s.CropMarks {
		return 2*footerSize + markGap + markLength
	}
	return 2 * footerSize
}

// footerSize is the font size of the footer.
const footerSize = symbol.Length(2500)

func (s Sheet) dots(l symbol.Length) int { return l.Dots(s.Design.Style.DPI) }

// cell returns the size of a cell in whole dots, rounded down.
func (s Sheet) cell() (width, height int) {
	pixels := func(l symbol.Length) int {
		return int(math.Floor(l.Millimetres()*float64(s.Design.Style.DPI)/25.4 + 1e-6))
	}
	return pixels(s.Width), pixels(s.Height)
}

// cellOrigin returns the top left corner of a cell, in dots. Each corner is rounded separately, so that errors do not add up.
func (s Sheet) cellOrigin(i int) (x, y int) {
	return s.dots(s.Left + s.OffsetX + symbol.Length(i%s.Columns)*s.PitchX), s.dots(s.Top + s.OffsetY + symbol.Length(i/s.Columns)*s.PitchY)
}

// middle returns the top left corner, in dots, of an object of the given size centred in a cell. The position is rounded to whole
// dots only once, after all lengths were added.
func (s Sheet) middle(i, width, height int) (x, y int) {
	fn := func(begin, pitch, size symbol.Length, n, dots int) int {
		middle := (begin + symbol.Length(n)*pitch).Millimetres() + size.Millimetres()/2
		return int(math.Round(middle*float64(s.Design.Style.DPI)/25.4 - float64(dots)/2))
	}
	return fn(s.Left+s.OffsetX, s.PitchX, s.Width, i%s.Columns, width), fn(s.Top+s.OffsetY, s.PitchY, s.Height, i/s.Columns, height)
}

// Cells returns the rectangles of all cells of a page, in dots.
func (s Sheet) Cells() (cells []image.Rectangle) {
	width, height := s.cell()
	for i := range s.PerPage() {
		x, y := s.cellOrigin(i)
		cells = append(cells, image.Rect(x, y, x+width, y+height))
	}
	return cells
}

// Write writes the rows as a PDF, page by page, with only a few pages in memory. first is the number of the first page. done is
// called after each page with the number of its labels. The error comes from rows, the writer or Check, or is a *symbol.SizeError
// for the first label that does not fit into its cell.
func (s Sheet) Write(w io.Writer, batch int64, rows iter.Seq2[Row, error], first int, done func(labels int)) error {
	if err := s.Check(); err != nil {
		return err
	}
	file := pdf.NewWriter(w, pdf.Info{Title: fmt.Sprintf("Labels of batch %d", batch), Ink: s.Design.Style.Ink.Ink})
	face := s.Design.Style.Face()
	p := pages{Sheet: s, batch: batch, font: file.Use(face), face: face}
	if s.Logo != nil {
		p.logo = file.Picture(s.Logo)
	}
	if err := p.Design.Style.Face().Check(s.Footer); err != nil {
		return err
	}
	numbered := func(yield func(numberedRows, error) bool) {
		n, lead := first, 0
		if first == 1 {
			lead = s.Lead()
		}
		for group, err := range groups(rows, s.PerPage()-lead, s.PerPage()) {
			if !yield(numberedRows{group, n}, err) {
				return
			}
			n++
		}
	}
	err := inOrder(s.Design.Processors, numbered, p.draw, func(d drawnPage) error {
		if err := file.Add(d.page); err != nil {
			return err
		}
		done(d.labels)
		return nil
	})
	if err != nil {
		return err
	}
	return file.Close()
}

type numberedRows struct {
	rows   []Row
	number int
}

type drawnPage struct {
	page   *pdf.Page
	labels int
}

// pages draws the pages of one file.
type pages struct {
	Sheet
	batch int64
	font  pdf.Font
	face  *symbol.Font
	logo  pdf.Picture
}

func (p pages) draw(n numberedRows) (drawnPage, error) {
	page := pdf.NewPage(p.Paper.Width.Millimetres(), p.Paper.Height.Millimetres(), p.Design.Style.DPI)
	width, height := p.cell()
	logo, lead := 0, 0
	if n.number == 1 {
		lead = p.Lead()
	}
	if p.Logo != nil {
		logo = p.dots(p.LogoAt) + p.dots(logoGap)
	}
	for i, r := range n.rows {
		d, err := p.Design.Draw(p.batch, r)
		if err != nil {
			return drawnPage{}, fmt.Errorf("index %d: %w", r.Index, err)
		}
		if d.Width+logo > width || d.Height > height || p.logoHeight() > height {
			return drawnPage{}, p.tooLarge(d, r, width, height, logo)
		}
		if err := p.checkOffset(d.Width+logo, max(d.Height, p.logoHeight())); err != nil {
			return drawnPage{}, err
		}
		x, y := p.middle(lead+i, d.Width+logo, d.Height)
		if p.Logo != nil {
			page.Picture(p.logo, x, y+(d.Height-p.logoHeight())/2, p.dots(p.LogoAt), p.logoHeight())
			x += logo
		}
		d.On(page, p.font, x, y)
	}
	symbol.Colour{Ink: p.Design.Style.Ink.Ink}.On(page) // black, or the only ink of a press
	if p.CropMarks {
		cells := p.Cells()
		page.Trim(cells[0].Union(cells[len(cells)-1]))
		p.marks(page)
	}
	if err := p.footer(page, n); err != nil {
		return drawnPage{}, err
	}
	page.Finish()
	return drawnPage{page, len(n.rows)}, nil
}

// checkOffset returns an error if the offset moves an object of the given size, in dots, in the first or the last cell beyond the paper.
func (s Sheet) checkOffset(width, height int) error {
	for _, i := range []int{0, s.PerPage() - 1} {
		x, y := s.middle(i, width, height)
		if x < 0 || y < 0 || x+width > s.dots(s.Paper.Width) || y+height > s.dots(s.Paper.Height) {
			return fmt.Errorf("an offset of %v,%v moves label %d of a page beyond the paper: use a smaller offset", s.OffsetX, s.OffsetY,
				i+1)
		}
	}
	return nil
}

// logoHeight returns the height of the logo in dots.
func (p pages) logoHeight() int {
	if p.Logo == nil {
		return 0
	}
	b := p.Logo.Bounds()
	return p.dots(p.LogoAt) * b.Dy() / b.Dx()
}

// tooLarge returns the error for a label that is larger than its cell. The error includes the largest module size at which the label fits.
func (p pages) tooLarge(d symbol.Drawing, r Row, width, height, logo int) error {
	mm := func(dots int) string { return strconv.FormatFloat(float64(dots)*25.4/float64(d.DPI), 'f', 1, 64) }
	e := &symbol.SizeError{Reason: fmt.Sprintf("a label of %s×%smm is larger than a cell of %s×%smm", mm(d.Width+logo), mm(d.Height),
		mm(width), mm(height)), Next: "fewer columns or rows, or shorter lines"}
	for module := d.Module - 1; module > 0; module-- {
		smaller := p.Design
		smaller.Style.Module = symbol.LengthOf(module, d.DPI)
		if fits, err := smaller.Draw(p.batch, r); err != nil {
			break
		} else if fits.Width+logo <= width && max(fits.Height, p.logoHeight()) <= height {
			e.Can = smaller.Style.Module
			break
		}
	}
	if e.Can == 0 {
		e.Next = "take " + e.Next
	}
	return e
}

// marks draws crop marks in the margins, aligned with the edges of the cells.
func (p pages) marks(page *pdf.Page) {
	width, height := p.cell()
	closest, far := p.dots(markGap), p.dots(markGap+markLength)
	thin := float64(p.Design.Style.DPI) / 300
	firstX, firstY := p.cellOrigin(0)
	lastX, lastY := p.cellOrigin(p.PerPage() - 1)
	lastX, lastY = lastX+width, lastY+height
	for column := range p.Columns {
		x, _ := p.cellOrigin(column)
		for _, x := range []int{x, x + width} {
			page.Line(x, firstY-far, x, firstY-closest, thin)
			page.Line(x, lastY+closest, x, lastY+far, thin)
		}
	}
	for row := range p.Rows {
		_, y := p.cellOrigin(row * p.Columns)
		for _, y := range []int{y, y + height} {
			page.Line(firstX-far, y, firstX-closest, y, thin)
			page.Line(lastX+closest, y, lastX+far, y, thin)
		}
	}
}

func (p pages) footer(page *pdf.Page, n numberedRows) error {
	text := strings.NewReplacer("{batch}", strconv.FormatInt(p.batch, 10), "{page}", strconv.Itoa(n.number),
		"{from}", strconv.FormatInt(n.rows[0].Index, 10), "{to}", strconv.FormatInt(n.rows[len(n.rows)-1].Index, 10)).Replace(p.Footer)
	width := symbol.Length(p.font.Width(text) * float64(footerSize))
	if left := p.Left + p.OffsetX; text != "" && (left < 0 || left+width > p.Paper.Width) {
		return fmt.Errorf("the footer of page %d extends from %v to %v, and the paper is %v wide: use a shorter footer or a smaller offset",
			n.number, left, left+width, p.Paper.Width)
	}
	page.Text(p.font, float64(p.dots(footerSize)), p.dots(p.Left+p.OffsetX), p.dots(p.Paper.Height)-p.dots(footerSize), text)
	return nil
}

// Plan describes the output of a print job.
type Plan struct {
	Pages   int64   // number of pages; 0 = single labels without pages
	PerPage int     // labels per page
	Width   float64 // width of a label with symbol and lines, in millimetres
	Height  float64
	Module  float64
	Label   symbol.Drawing
}

// PlanOf draws one label of a job on the first and the last page, so that a size that does not fit is found before anything is printed.
// sheet is nil for single labels.
func PlanOf(batch, count int64, r Row, d Design, sheet *Sheet) (p Plan, err error) {
	drawing, err := d.Draw(batch, r)
	if err != nil {
		return p, err
	}
	if sheet != nil {
		fn := func(yield func(Row, error) bool) { yield(r, nil) }
		p.PerPage = sheet.PerPage()
		p.Pages = (count + int64(sheet.Lead()+p.PerPage) - 1) / int64(max(p.PerPage, 1))
		for _, page := range []int64{1, p.Pages} { // the footer of the last page has the longest number
			if err := sheet.Write(io.Discard, batch, fn, int(page), func(int) {}); err != nil {
				return p, err
			}
		}
	}
	p.Label, p.Module = drawing, drawing.ModuleLength().Millimetres()
	p.Width = symbol.LengthOf(drawing.Width, drawing.DPI).Millimetres()
	p.Height = symbol.LengthOf(drawing.Height, drawing.DPI).Millimetres()
	return p, nil
}
