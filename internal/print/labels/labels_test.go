package labels_test

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/print/labels"
	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/readtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

const batch = 500000001

// newRows returns n rows of a batch, the same in every run.
func newRows(t testing.TB, n int) []labels.Row {
	t.Helper()
	random := rand.New(rand.NewPCG(18, 45))
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ$-"
	chars := func(count, symbols int) string {
		b := make([]byte, count)
		for i := range b {
			b[i] = alphabet[random.IntN(symbols)]
		}
		return string(b)
	}
	var rows []labels.Row
	for i := range n {
		r := labels.Row{Code: "A" + chars(8, 36), Index: int64(i), Text: "P.URL.CN/0" + chars(18, 38)}
		field := codes.Matrix([codes.CodeLength]byte([]byte(r.Code)))
		r.Matrix = string(field[:])
		rows = append(rows, r)
	}
	return rows
}

// rowSeq yields rows and then errs.
func rowSeq(rows []labels.Row, errs ...error) iter.Seq2[labels.Row, error] {
	return func(yield func(labels.Row, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
		for _, err := range errs {
			yield(labels.Row{}, err)
		}
	}
}

// writeLabel returns the file of one label.
func writeLabel(t testing.TB, d labels.Design, r labels.Row, format labels.Format) (file []byte) {
	t.Helper()
	require.NoErrorf(t, d.Labels(batch, rowSeq([]labels.Row{r}), format, func(_ labels.Row, label []byte) error {
		file = label
		return nil
	}), "%s", format)
	return file
}

func newDesign(kind labels.Kind, dpi int) labels.Design {
	return labels.Design{Kind: kind, Level: 'Q', Lines: []string{"{serial}"},
		Style: symbol.Style{Module: 400, DPI: dpi, Ink: symbol.Black, Paper: symbol.White}}
}

func newLogo() image.Image {
	m := image.NewRGBA(image.Rect(0, 0, 30, 20))
	draw.Draw(m, m.Bounds(), image.NewUniform(color.RGBA{R: 200, A: 255}), image.Point{}, draw.Src)
	return m
}

// TestLabels_SheetSymbolsReadable renders sheets at two resolutions and reads every symbol, also after a light blur.
// TestLabels_DotsMatchGrid compares the dots.
func TestLabels_SheetSymbolsReadable(t *testing.T) {
	t.Parallel()
	readtest.RequirePrograms(t, "pdftoppm")
	rows := newRows(t, testscope.Select(6, 2))
	for _, dpi := range testscope.Select([]int{203, 300}, []int{203}) {
		for _, kind := range testscope.Select([]labels.Kind{labels.QR, labels.DataMatrix, labels.Matrix, labels.QRAndMatrix},
			[]labels.Kind{labels.DataMatrix, labels.QRAndMatrix}) {
			t.Run(fmt.Sprintf("%s at %d", kind, dpi), func(t *testing.T) {
				s := require.Value(labels.Printing{Page: "210x148mm", Columns: 3, Rows: 2, Gap: "2mm", CropMarks: true,
					Footer: "batch {batch}: {from} to {to}, page {page}"}.OnSheets(newDesign(kind, dpi)))(t)
				s.Logo, s.LogoAt = newLogo(), 5000
				var file bytes.Buffer
				written := 0
				require.NoError(t, s.Write(&file, batch, rowSeq(rows), 1, func(n int) { written += n }))
				assert.Equal(t, written, len(rows), "labels reported as written")
				module := require.Value(symbol.ModuleDots(400, dpi))(t)
				page := readtest.RenderPDF(t, file.Bytes(), dpi)[0].(interface {
					SubImage(image.Rectangle) image.Image
				})
				for i, r := range rows {
					cell := page.SubImage(s.Cells()[i])
					checkLabel(t, kind, r, cell, readtest.Blur(cell, module))
				}
			})
		}
	}
}

// TestLabels_SVGReadable verifies that rsvg-convert renders an SVG with the dots of the printer and that readers read it.
func TestLabels_SVGReadable(t *testing.T) {
	t.Parallel()
	readtest.RequirePrograms(t, "rsvg-convert")
	rows := newRows(t, 1)
	for _, dpi := range testscope.Select([]int{203, 300}, []int{300}) {
		kinds := testscope.Select([]labels.Kind{labels.QR, labels.DataMatrix, labels.Matrix, labels.QRAndMatrix},
			[]labels.Kind{labels.QRAndMatrix})
		for _, kind := range kinds {
			d := newDesign(kind, dpi)
			d.Style.Beside = kind == labels.QRAndMatrix
			err := d.Labels(batch, rowSeq(rows), "svg", func(r labels.Row, file []byte) error {
				drawing, err := d.Draw(batch, r)
				if err != nil {
					return err
				}
				seen := readtest.RenderSVG(t, file, dpi)
				assert.Equal(t, seen.Bounds().Size(), image.Pt(drawing.Width, drawing.Height), "%s at %d: size of index %d in dots", kind,
					dpi,
					r.Index)
				checkLabel(t, kind, r, seen, readtest.Blur(seen, drawing.Module))
				return nil
			})
			assert.NoError(t, err)
		}
	}
}

// checkLabel reads the symbols of the pictures of a label.
func checkLabel(t *testing.T, kind labels.Kind, r labels.Row, pictures ...image.Image) {
	t.Helper()
	check := func(found []string, want string) {
		for i, text := range found {
			assert.Equal(t, text, want, "index %d, picture %d", r.Index, i)
		}
	}
	if kind == labels.QR || kind == labels.QRAndMatrix {
		check(readtest.QR(t, pictures...), r.Text)
	}
	switch kind {
	case labels.DataMatrix:
		check(readtest.DataMatrix(t, pictures...), r.Text)
	case labels.Matrix, labels.QRAndMatrix:
		check(readtest.DataMatrix(t, pictures...), r.Code)
	}
}

func TestLabels_TooLargeSuggestsModuleSize(t *testing.T) {
	s := require.Value(labels.Printing{Columns: 8, Rows: 20}.OnSheets(newDesign(labels.QR, 600)))(t)
	err := s.Write(io.Discard, batch, rowSeq(newRows(t, 1)), 1, func(int) {})
	size, ok := errors.AsType[*symbol.SizeError](err)
	require.True(t, ok && size.Can != 0, "Write of too large symbols: %v, want a SizeError with a module size", err)
	s.Design.Style.Module = size.Can
	assert.NoErrorf(t, s.Write(io.Discard, batch, rowSeq(newRows(t, 1)), 1, func(int) {}), "suggested module size %v", size.Can)
	s = require.Value(labels.Printing{Columns: 100, Rows: 100}.OnSheets(newDesign(labels.QR, 600)))(t)
	err = s.Write(io.Discard, batch, rowSeq(newRows(t, 1)), 1, func(int) {})
	assert.True(t, err != nil && strings.Contains(err.Error(), "fewer columns"), "a cell of two millimetres: %v", err)
}

// writeTable returns the table of rows whose first line has the number first.
func writeTable(t *testing.T, table labels.Table, first int64, rows []labels.Row) string {
	t.Helper()
	var list bytes.Buffer
	require.NoError(t, table.Write(&list, first, rowSeq(rows)))
	return list.String()
}

// TestLabels_TableOfPress verifies the table of a press with three lanes: three codes per line with the configured columns, every second
// line marked, empty cells at the end of the last line. A file from a later line on has the marks of these lines.
func TestLabels_TableOfPress(t *testing.T) {
	rows := newRows(t, 7)
	press := labels.Table{List: "csv", Columns: []string{"text", "index", "mark"}, Lanes: 3, Mark: 2}
	read := csv.NewReader(strings.NewReader(writeTable(t, press, 0, rows)))
	lines, err := read.ReadAll() // fails where lines differ in their columns
	require.NoError(t, err)
	assert.Equal(t, strings.Join(lines[0], " "), "text_1 index_1 mark_1 text_2 index_2 mark_2 text_3 index_3 mark_3", "header")
	require.Equal(t, len(lines), 4, "lines")
	for i, r := range rows {
		cells := lines[1+i/3][i%3*3:][:3]
		assert.True(t, cells[0] == r.Text && cells[1] == fmt.Sprint(r.Index) && (cells[2] == "1") == (i/3 == 1), "row %d: %v", i, cells)
	}
	assert.Equal(t, strings.Join(lines[3][3:], ""), "", "lanes without a code")
	all := strings.SplitAfter(writeTable(t, press, 0, rows), "\n")
	assert.Equal(t, writeTable(t, press, 1, rows[3:]), all[0]+all[2]+all[3], "a later file")
	press.List, press.Mark = "ndjson", 0
	var object map[string]any
	last := strings.SplitAfter(writeTable(t, press, 0, rows), "\n")[2]
	require.NoError(t, json.Unmarshal([]byte(last), &object))
	assert.True(t, len(object) == 3 && object["text_1"] == rows[6].Text && object["index_1"] == 6.0, "last line = %v, want row 6 only",
		object)
}

func TestLabels_RowsMatchList(t *testing.T) {
	rows := newRows(t, 50)
	lines := writeTable(t, labels.Table{List: "lines"}, 0, rows)
	assert.True(t, slices.Equal(require.All(t, labels.Rows(strings.NewReader(lines))), rows), "rows read from a list differ from its rows")
	row := rows[0]
	for form, want := range map[labels.List]string{
		"csv":    "index,code,text,matrix\n0," + row.Code + "," + row.Text + "," + row.Matrix + "\n",
		"ndjson": `{"index":0,"code":"` + row.Code + `","text":"` + row.Text + `","matrix":"` + row.Matrix + "\"}\n",
		"text":   row.Text + "\n",
		"lines":  row.Matrix + " " + row.Code + " 0 " + row.Text + "\n",
	} {
		table := labels.Table{List: form, Columns: []string{"index", "code", "text", "matrix"}}
		assert.Equal(t, writeTable(t, table, 0, rows[:1]), want, "table as %s", form)
	}
	// A read error is returned after the complete lines, and the line that it cuts is no row.
	cut := errors.New("the connection was reset")
	for n := range 2 * (len(lines) / len(rows)) {
		var got []labels.Row
		for r, err := range labels.Rows(io.MultiReader(strings.NewReader(lines[:n]), iotest.ErrReader(cut))) {
			if err == nil {
				got = append(got, r)
				continue
			}
			require.ErrorIs(t, err, cut, "rows of %d bytes and a read error", n)
			require.True(t, slices.Equal(got, rows[:strings.Count(lines[:n], "\n")]), "%d bytes have other rows: %v", n, got)
			got = nil
		}
		require.True(t, got == nil, "after %d bytes the rows end without an error", n)
	}
	matrix := row.Matrix
	for name, bad := range map[string]string{
		"three columns":    matrix + " A 1",
		"a short matrix":   matrix[1:] + " A 1 T",
		"another matrix":   strings.Repeat("x", 361) + " A 1 T",
		"a long code":      matrix + " ABCDEFGHIJ 1 T",
		"no index":         matrix + " A x T",
		"an index below 0": matrix + " A -1 T",
		"a long text":      matrix + " A 1 " + strings.Repeat("T", 1025),
		"a long line":      strings.Repeat("x", 5000),
	} {
		for _, err := range labels.Rows(strings.NewReader(writeTable(t, labels.Table{List: "lines"}, 0, rows[:1]) + bad)) {
			if err == nil {
				continue
			}
			assert.True(t, strings.HasPrefix(err.Error(), "line 2"), "%s: %v", name, err)
			bad = ""
		}
		assert.True(t, bad == "", "%s was accepted, want an error", name)
	}
}

func TestReadJob_NumbersAsWritten(t *testing.T) {
	words, err := labels.ReadJob("job.yaml", []byte("range: 0042\nline: [007, 1_000, 0x1F, 1e3, +5, '08', \"a\\tb\", '{serial}']\n"+
		"module: 0.40\ncrop_marks: True\nfooter: |\n  a\n  b\nfont: !!str 7\n"))
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("%q", words), `[{"range" "job.yaml:1" ["0042"]} `+
		`{"line" "job.yaml:2" ["007" "1_000" "0x1F" "1e3" "+5" "08" "a\tb" "{serial}"]} {"module" "job.yaml:3" ["0.40"]} `+
		`{"crop-marks" "job.yaml:4" ["true"]} {"footer" "job.yaml:5" ["a\nb"]} {"font" "job.yaml:8" ["7"]}]`, "fields of a job file")
}

func TestShuffle_Permutation(t *testing.T) {
	for _, count := range testscope.Select([]uint64{1, 2, 3, 4, 5, 64, 65, 1000, 65_537}, []uint64{1, 2, 3, 4, 5, 64, 65, 1000}) {
		order, seen := labels.NewPermutation(count, "reel 1"), make([]bool, count)
		for i := range count {
			n := order.Number(i)
			require.True(t, n < count && !seen[n], "permutation of %d: Number(%d) = %d, want a new number", count, i, n)
			seen[n] = true
		}
	}
	rows := newRows(t, 300)
	for i, length := range []int{255, 256, 1024} { // the longest text that a row may have is 1,024 bytes
		rows[i].Text += strings.Repeat("x", length-len(rows[i].Text))
		rows[i].PIN = "01234567"[:4+2*i]
	}
	shuffled := func(seed string, from int64) []labels.Row {
		spool := require.Value(os.Create(filepath.Join(t.TempDir(), "spool")))(t)
		defer spool.Close()
		return require.All(t, labels.Shuffled(spool, rowSeq(rows), int64(len(rows)), seed, from))
	}
	got := shuffled("a", 0)
	assert.True(t, !slices.Equal(got, shuffled("b", 0)) && !slices.Equal(got, rows), "two seeds have one order, want two")
	assert.True(t, slices.Equal(got, shuffled("a", 0)) && slices.Equal(got[200:], shuffled("a", 200)), "a seed has two orders, want one")
	neighbours := 0
	for i := range got[1:] {
		if got[i+1].Index-got[i].Index == 1 {
			neighbours++
		}
	}
	assert.True(t, neighbours <= 10, "%d rows follow their predecessor, want about 1", neighbours)
	slices.SortFunc(got, func(a, b labels.Row) int { return int(a.Index - b.Index) })
	assert.True(t, slices.Equal(got, rows), "shuffled rows are not a permutation of the rows")
}

func TestLabelArchive_ImagePerRow(t *testing.T) {
	rows := newRows(t, testscope.Select(40, 3))
	var file bytes.Buffer
	require.NoError(t, newDesign(labels.QR, 300).Zip(&file, batch, rowSeq(rows), "png", func(int) {}))
	z := require.Value(zip.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len())))(t)
	require.Equal(t, len(z.File), len(rows), "files")
	var pictures []image.Image
	for i, f := range z.File {
		want := fmt.Sprintf("%012d.png", i)
		assert.Equal(t, f.Name, want, "file %d", i)
		in := require.Value(f.Open())(t)
		m := require.Value(png.Decode(in))(t)
		pictures = append(pictures, m)
	}
	for i, found := range readtest.QR(t, pictures...) {
		assert.Equal(t, found, rows[i].Text, "text of file %d", i)
	}
}

// TestLabelJob_ReadOrWriteError verifies that an error of the reader or the writer ends a job and that the job does not hang.
func TestLabelJob_ReadOrWriteError(t *testing.T) {
	broken := errors.New("broken")
	for _, n := range []int{0, 1, 40} {
		err := newDesign(labels.QR, 300).Labels(batch, rowSeq(newRows(t, n), broken), "zpl", func(labels.Row, []byte) error { return nil })
		assert.ErrorIs(t, err, broken, "Labels with a read error after %d rows", n)
	}
	err := newDesign(labels.QR, 300).Labels(batch, rowSeq(newRows(t, 40)), "zpl", func(labels.Row, []byte) error { return broken })
	assert.ErrorIs(t, err, broken, "Labels with a write error")
	bad := newRows(t, 3)
	bad[2].Matrix = strings.Repeat("0", 361)
	err = newDesign(labels.Matrix, 300).Labels(batch, rowSeq(bad), "zpl", func(labels.Row, []byte) error { return nil })
	assert.True(t, err != nil && strings.HasPrefix(err.Error(), "index 2: "), "a row without a symbol: %v", err)
}
