package labels

import (
	"io"

	"github.com/qrjump/qrjump/internal/print/symbol"
)

// Plan describes the output of a print job.
type Plan struct {
	Pages   int64   // number of pages; 0 = single labels without pages
	PerPage int     // labels per page
	Width   float64 // width of a label with symbol and lines, in millimetres
	Height  float64
	Module  float64
	Label   symbol.Drawing
}

// PlanOf draws one label of a job at its position, so that a size that does not fit is found before anything is printed. sheet is
// nil for single labels.
func PlanOf(batch, count int64, r Row, d Design, sheet *Sheet) (p Plan, err error) {
	drawing, err := d.Draw(batch, r)
	if err != nil {
		return p, err
	}
	if sheet != nil {
		fn := func(yield func(Row, error) bool) { yield(r, nil) }
		if err := sheet.Write(io.Discard, batch, fn, 1, func(int) {}); err != nil {
			return p, err
		}
		p.PerPage = sheet.PerPage()
		p.Pages = (count + int64(sheet.Lead()) + int64(p.PerPage) - 1) / int64(p.PerPage)
	}
	p.Label, p.Module = drawing, drawing.ModuleLength().Millimetres()
	p.Width = symbol.LengthOf(drawing.Width, drawing.DPI).Millimetres()
	p.Height = symbol.LengthOf(drawing.Height, drawing.DPI).Millimetres()
	return p, nil
}
