package labels_test

import (
	"bytes"
	"fmt"
	"image"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/print/labels"
	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/readtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// TestLabelSheet_NoCumulativeRounding verifies that each symbol is within 0.1 mm of the center of its label, with the measures of
// commercial sheets. If cells were placed at rounded distances from their predecessors, the tenth row would drift.
func TestLabelSheet_NoCumulativeRounding(t *testing.T) {
	t.Parallel()
	readtest.RequirePrograms(t, "pdftoppm")
	for _, c := range []struct {
		p             labels.Printing
		left, top     float64 // millimetres, of the first label
		width, height float64
		across, down  float64
		columns, rows int
	}{
		{labels.Printing{Sheet: "5160"}, 4.7625, 12.7, 66.675, 25.4, 69.85, 25.4, 3, 10},
		{labels.Printing{Sheet: "Avery L7651"}, 4.75, 10.7, 38.1, 21.2, 40.6, 21.2, 5, 13},
		{labels.Printing{Label: "63.5x25.1mm", Pitch: "66.04x25.7mm", Margin: "15.1mm,7.2mm,10mm,7.3mm", Offset: "-0.3mm,0.4mm"},
			7.0, 15.5, 63.5, 25.1, 66.04, 25.7, 3, 10},
	} {
		for _, dpi := range testscope.Select([]int{300, 600}, []int{300}) {
			d := newDesign(labels.Matrix, dpi)
			d.Lines = nil
			s := require.Value(c.p.OnSheets(d))(t)
			if s.Columns != c.columns || s.Rows != c.rows {
				t.Errorf("%+v: %d by %d labels, want %d by %d", c.p, s.Columns, s.Rows, c.columns, c.rows)
				continue
			}
			rows := newRows(t, 1)
			for len(rows) < s.PerPage() {
				rows = append(rows, rows[0])
			}
			var file bytes.Buffer
			require.NoError(t, s.Write(&file, batch, rowSeq(rows), 1, func(int) {}))
			assert.True(t, strings.Contains(file.String(), "/ViewerPreferences << /PrintScaling /None >>"),
				"sheet without /PrintScaling /None: a viewer would scale it")
			page := readtest.RenderPDF(t, file.Bytes(), dpi)[0]
			mm := func(dots float64) float64 { return dots * 25.4 / float64(dpi) }
			for i := range rows {
				middleX := c.left + float64(i%c.columns)*c.across + c.width/2
				middleY := c.top + float64(i/c.columns)*c.down + c.height/2
				ink := findInk(page, mm, middleX, middleY, min(c.width, c.height)/2)
				centerX, centerY := mm(float64(ink.Min.X+ink.Max.X)/2), mm(float64(ink.Min.Y+ink.Max.Y)/2)
				offset := max(math.Abs(centerX-middleX), math.Abs(centerY-middleY))
				assert.True(t, !(offset >= 0.1), "%+v at %d: label %d is off by %.3f mm, want less than 0.1 mm", c.p, dpi, i, offset)
			}
			first, tenth := s.Cells()[0], s.Cells()[9*c.columns]
			drift := math.Abs(mm(float64(tenth.Min.Y-first.Min.Y)) - 9*c.down)
			assert.True(t, !(drift >= 0.1), "%+v at %d: the tenth row drifts by %.3f mm, want less than 0.1 mm", c.p, dpi, drift)
		}
	}
}

// findInk returns the bounds of the dark dots within a distance of x, y, in millimetres.
func findInk(page image.Image, mm func(float64) float64, x, y, distance float64) (ink image.Rectangle) {
	dots := func(v float64) int { return int(v / mm(1)) }
	for py := dots(y - distance); py < dots(y+distance); py++ {
		for px := dots(x - distance); px < dots(x+distance); px++ {
			if isDark(page, px, py) {
				ink = ink.Union(image.Rect(px, py, px+1, py+1))
			}
		}
	}
	return ink
}

// TestLabelSheet_KnownSheetsFitPaper verifies that the labels of each known sheet are on its paper and do not overlap.
func TestLabelSheet_KnownSheetsFitPaper(t *testing.T) {
	t.Parallel()
	for _, name := range labels.SheetNames() {
		s := require.Value(labels.Printing{Sheet: strings.ToUpper(name)}.OnSheets(newDesign(labels.QR, 300)))(t)
		assert.NoErrorf(t, s.Check(), "%s", name)
		n := strings.TrimPrefix(name, "a4-")
		assert.True(t, n == name || fmt.Sprint(s.PerPage()) == n, "%s has %d labels", name, s.PerPage())
		// The labels are horizontally centered.
		right := s.Paper.Width - s.Left - (s.PitchX*symbol.Length(s.Columns-1) + s.Width)
		assert.True(t, !(math.Abs(float64(right-s.Left)) > 50), "%s: margins of %v at the left and %v at the right, want equal margins",
			name, s.Left, right)
	}
}

func TestLabelSheet_RejectsInvalid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p    labels.Printing
		want string
	}{
		{labels.Printing{Sheet: "L9999"}, `sheet: "L9999" is not a known label sheet: want one of 5160, `},
		{labels.Printing{Label: "63.5mm"}, "label: "},
		{labels.Printing{Label: "0x38mm"}, "label: "},
		{labels.Printing{Margin: "1mm,2mm,3mm"}, "margin: "},
		{labels.Printing{Margin: "-1mm"}, "margin: -1mm is negative"},
		{labels.Printing{Gap: "1mm,2mm,3mm"}, "gap: "},
		{labels.Printing{Offset: "one"}, "offset: "},
		{labels.Printing{StartAt: 41}, "start_at: 41: the labels of a page have the numbers 1 to 40"},
		{labels.Printing{Sheet: "l7160", StartAt: 22}, "start_at: 22: the labels of a page have the numbers 1 to 21"},
		{labels.Printing{Label: "60x30mm", Pitch: "61x30mm", Gap: "2mm,0mm"}, "with a gap of 2mm have a pitch of 62mm, not 61mm"},
		{labels.Printing{Label: "60x30mm", Pitch: "50x30mm", Columns: 2, Rows: 2}, "overlap with a pitch"},
		{labels.Printing{Label: "60x30mm", Columns: 4, Rows: 2},
			"4 by 2 labels of 60mm by 30mm end 250mm by 70mm from the top left corner"},
		{labels.Printing{Sheet: "a4-24", CropMarks: true}, "crop marks are printed in the margin, and 0mm is too narrow"},
		{labels.Printing{Sheet: "a4-24", Footer: "page {page}"}, "the footer is printed in the margin, and 0.5mm is too narrow"},
		{labels.Printing{CropMarks: true, Offset: "0,-6mm"}, "crop marks are printed in the margin, and 4mm is too narrow"},
		{labels.Printing{Footer: "page {page}", Offset: "0,6mm"}, "the footer is printed in the margin, and 4mm is too narrow"},
		{labels.Printing{Offset: "30mm,0"}, "an offset of 30mm,0mm moves label 40 of a page beyond the paper: use a smaller offset"},
		{labels.Printing{Offset: "0,-20mm"}, "an offset of 0mm,-20mm moves label 1 of a page beyond the paper"},
		{labels.Printing{Footer: strings.Repeat("sheet {page} ", 20)}, "the footer of page 1 extends from 10mm to "},
		{labels.Printing{Footer: "page {page}", Offset: "-11mm,0"}, "the footer of page 1 extends from -1mm to "},
	} {
		s, err := c.p.OnSheets(newDesign(labels.QR, 300))
		if err == nil {
			err = s.Write(io.Discard, batch, rowSeq(newRows(t, 1)), 1, func(int) {})
		}
		assert.True(t, err != nil && strings.Contains(err.Error(), c.want), "%+v: %v, want %s", c.p, err, c.want)
	}
}

// TestLabelSheet_StartAtLabel verifies that StartAt skips labels on the first page only.
func TestLabelSheet_StartAtLabel(t *testing.T) {
	t.Parallel()
	readtest.RequirePrograms(t, "pdftoppm")
	d := newDesign(labels.Matrix, 203)
	d.Lines = nil
	s := require.Value(labels.Printing{Page: "100x60mm", Columns: 3, Rows: 2, Margin: "0", StartAt: 5}.OnSheets(d))(t)
	row := newRows(t, 1)[0]
	for _, c := range []struct {
		first, rows int
		want        string // of each page, X for a printed label
	}{{1, 1, "    X "}, {1, 4, "    XX XX    "}, {2, 2, "XX    "}} {
		var rows []labels.Row
		for range c.rows {
			rows = append(rows, row)
		}
		var file bytes.Buffer
		require.NoError(t, s.Write(&file, batch, rowSeq(rows), c.first, func(int) {}))
		var seen []string
		for _, page := range readtest.RenderPDF(t, file.Bytes(), 203) {
			var cells strings.Builder
			for _, cell := range s.Cells() {
				mark := " "
				for y := cell.Min.Y; y < cell.Max.Y; y++ {
					for x := cell.Min.X; x < cell.Max.X; x++ {
						if isDark(page, x, y) {
							mark = "X"
						}
					}
				}
				cells.WriteString(mark)
			}
			seen = append(seen, cells.String())
		}
		assert.Equal(t, strings.Join(seen, " "), c.want, "labels of %d rows from page %d", c.rows, c.first)
	}
}
