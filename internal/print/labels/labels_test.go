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

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/print/labels"
	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/readtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

const batch = 500000001

// made are n rows as a batch has them, always the same.
func made(t testing.TB, n int) []labels.Row {
	t.Helper()
	random := rand.New(rand.NewPCG(18, 45))
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ$-"
	chars := func(count, of int) string {
		b := make([]byte, count)
		for i := range b {
			b[i] = alphabet[random.IntN(of)]
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

func each(rows []labels.Row) iter.Seq2[labels.Row, error] {
	return func(yield func(labels.Row, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func design(kind labels.Kind, dpi int) labels.Design {
	return labels.Design{Kind: kind, Level: 'Q', Lines: []string{"{serial}"},
		Style: symbol.Style{Module: 400, DPI: dpi, Ink: symbol.Black, Paper: symbol.White}}
}

// sheet is how a printing stands on pages.
func sheet(t testing.TB, p labels.Printing, d labels.Design) labels.Sheet {
	t.Helper()
	s, err := p.OnSheets(d)
	require.NoError(t, err)
	return s
}

func logo() image.Image {
	m := image.NewRGBA(image.Rect(0, 0, 30, 20))
	draw.Draw(m, m.Bounds(), image.NewUniform(color.RGBA{R: 200, A: 255}), image.Point{}, draw.Src)
	return m
}

// Issue 18: sheets rendered to pictures, and every symbol on them read, at two dot densities and after a light blur. The dots
// themselves are those of TestLabels_DotsMatchGrid.
func TestLabels_SheetSymbolsReadable(t *testing.T) {
	t.Parallel()
	readtest.Need(t, "pdftoppm")
	rows := made(t, testscope.Choose(6, 2))
	for _, dpi := range testscope.Choose([]int{203, 300}, []int{203}) {
		for _, kind := range testscope.Choose([]labels.Kind{labels.QR, labels.DataMatrix, labels.Matrix, labels.QRAndMatrix},
			[]labels.Kind{labels.DataMatrix, labels.QRAndMatrix}) {
			t.Run(fmt.Sprintf("%s at %d", kind, dpi), func(t *testing.T) {
				s := sheet(t, labels.Printing{Page: "210x148mm", Columns: 3, Rows: 2, Gap: "2mm", CropMarks: true,
					Footer: "batch {batch}: {from} to {to}, page {page}"}, design(kind, dpi))
				s.Logo, s.LogoAt = logo(), 5000
				var file bytes.Buffer
				written := 0
				require.NoError(t, s.Write(&file, batch, each(rows), 1, func(n int) { written += n }))
				assert.Equal(t, written, len(rows), "labels were told as written")
				module, err := symbol.ModuleDots(400, dpi)
				require.NoError(t, err)
				page := readtest.Pages(t, file.Bytes(), dpi)[0].(interface {
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

// Issue 18: an SVG is read as another program has drawn it, with the dots of the printer.
func TestLabels_SVGReadable(t *testing.T) {
	t.Parallel()
	readtest.Need(t, "rsvg-convert")
	rows := made(t, 1)
	for _, dpi := range testscope.Choose([]int{203, 300}, []int{300}) {
		kinds := testscope.Choose([]labels.Kind{labels.QR, labels.DataMatrix, labels.Matrix, labels.QRAndMatrix},
			[]labels.Kind{labels.QRAndMatrix})
		for _, kind := range kinds {
			d := design(kind, dpi)
			d.Style.Beside = kind == labels.QRAndMatrix
			err := d.Labels(batch, each(rows), "svg", func(r labels.Row, file []byte) error {
				drawing, err := d.Draw(batch, r)
				if err != nil {
					return err
				}
				seen := readtest.Picture(t, file, dpi)
				is := seen.Bounds().Size()
				assert.True(t, is == image.Pt(drawing.Width, drawing.Height),
					"%s at %d: index %d is drawn with %v dots, and has %d by %d", kind, dpi, r.Index, is, drawing.Width, drawing.Height)
				checkLabel(t, kind, r, seen, readtest.Blur(seen, drawing.Module))
				return nil
			})
			assert.True(t, err == nil, "%v", err)
		}
	}
}

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
	s := sheet(t, labels.Printing{Columns: 8, Rows: 20}, design(labels.QR, 600))
	err := s.Write(io.Discard, batch, each(made(t, 1)), 1, func(int) {})
	size, ok := errors.AsType[*symbol.SizeError](err)
	require.True(t, ok && size.Can != 0, "%v", err)
	s.Design.Style.Module = size.Can
	if err := s.Write(io.Discard, batch, each(made(t, 1)), 1, func(int) {}); err != nil {
		t.Errorf("what was named (%v) does not fit: %v", size.Can, err)
	}
	s = sheet(t, labels.Printing{Columns: 100, Rows: 100}, design(labels.QR, 600))
	err = s.Write(io.Discard, batch, each(made(t, 1)), 1, func(int) {})
	assert.True(t, err != nil && strings.Contains(err.Error(), "fewer columns"), "a cell of two millimetres: %v", err)
}

// listed returns a list of rows whose first line has the number first.
func listed(t *testing.T, table labels.Table, first int64, rows []labels.Row) string {
	t.Helper()
	var list bytes.Buffer
	require.NoError(t, table.Write(&list, first, each(rows)))
	return list.String()
}

// A press that prints three across gets three codes a line, every second line marked, and the columns that it wants; the last line is
// filled with empty cells. A file that begins later has the marks of its lines in the whole list.
func TestLabels_TableOfPress(t *testing.T) {
	rows := made(t, 7)
	press := labels.Table{List: "csv", Columns: []string{"text", "index", "mark"}, Lanes: 3, Mark: 2}
	read := csv.NewReader(strings.NewReader(listed(t, press, 0, rows)))
	lines, err := read.ReadAll() // fails where lines differ in their columns
	require.NoError(t, err)
	assert.Equal(t, strings.Join(lines[0], " "), "text_1 index_1 mark_1 text_2 index_2 mark_2 text_3 index_3 mark_3", "header")
	require.Equal(t, len(lines), 4, "lines")
	for i, r := range rows {
		cells := lines[1+i/3][i%3*3:][:3]
		assert.True(t, cells[0] == r.Text && cells[1] == fmt.Sprint(r.Index) && (cells[2] == "1") == (i/3 == 1), "row %d: %v", i, cells)
	}
	assert.Equal(t, strings.Join(lines[3][3:], ""), "", "lanes without a code")
	all := strings.SplitAfter(listed(t, press, 0, rows), "\n")
	assert.Equal(t, listed(t, press, 1, rows[3:]), all[0]+all[2]+all[3], "a later file")
	press.List, press.Mark = "ndjson", 0
	var object map[string]any
	last := strings.SplitAfter(listed(t, press, 0, rows), "\n")[2]
	require.NoError(t, json.Unmarshal([]byte(last), &object))
	assert.True(t, len(object) == 3 && object["text_1"] == rows[6].Text && object["index_1"] == 6.0, "%v", object)
}

func TestLabels_RowsMatchList(t *testing.T) {
	rows := made(t, 50)
	lines := listed(t, labels.Table{List: "lines"}, 0, rows)
	again := require.All(t, labels.Rows(strings.NewReader(lines)))
	assert.True(t, slices.Equal(rows, again), "rows that were listed and read are others")
	one := rows[0]
	for form, want := range map[labels.List]string{
		"csv":    "index,code,text,matrix\n0," + one.Code + "," + one.Text + "," + one.Matrix + "\n",
		"ndjson": `{"index":0,"code":"` + one.Code + `","text":"` + one.Text + `","matrix":"` + one.Matrix + "\"}\n",
		"text":   one.Text + "\n",
		"lines":  one.Matrix + " " + one.Code + " 0 " + one.Text + "\n",
	} {
		table := labels.Table{List: form, Columns: []string{"index", "code", "text", "matrix"}}
		assert.Equal(t, listed(t, table, 0, rows[:1]), want, "%s", form)
	}
	matrix := one.Matrix
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
		for _, err := range labels.Rows(strings.NewReader(listed(t, labels.Table{List: "lines"}, 0, rows[:1]) + bad)) {
			if err == nil {
				continue
			}
			assert.True(t, strings.HasPrefix(err.Error(), "line 2"), "%s: %v", name, err)
			bad = ""
		}
		assert.True(t, bad == "", "%s was taken", name)
	}
}

func TestShuffle_Permutation(t *testing.T) {
	for _, count := range testscope.Choose([]uint64{1, 2, 3, 4, 5, 64, 65, 1000, 65_537}, []uint64{1, 2, 3, 4, 5, 64, 65, 1000}) {
		order, seen := labels.NewPermutation(count, "reel 1"), make([]bool, count)
		for place := range count {
			n := order.Number(place)
			require.True(t, n < count && !seen[n], "of %d: place %d has %d", count, place, n)
			seen[n] = true
		}
	}
	rows := made(t, 300)
	for i, length := range []int{255, 256, 1024} { // the longest text that a row may have is 1,024 bytes
		rows[i].Text += strings.Repeat("x", length-len(rows[i].Text))
	}
	shuffled := func(seed string, from int64) []labels.Row {
		spool, err := os.Create(filepath.Join(t.TempDir(), "spool"))
		require.NoError(t, err)
		defer spool.Close()
		return require.All(t, labels.Shuffled(spool, each(rows), int64(len(rows)), seed, from))
	}
	one, two := shuffled("a", 0), shuffled("b", 0)
	assert.True(t, !slices.Equal(one, two) && !slices.Equal(one, rows), "two seeds have one order")
	assert.True(t, slices.Equal(one, shuffled("a", 0)) && slices.Equal(one[200:], shuffled("a", 200)), "a seed has two orders")
	neighbours := 0
	for i := range one[1:] {
		if one[i+1].Index-one[i].Index == 1 {
			neighbours++
		}
	}
	if neighbours > 10 { // one is to be expected
		t.Errorf("%d neighbours stayed neighbours", neighbours)
	}
	slices.SortFunc(one, func(a, b labels.Row) int { return int(a.Index - b.Index) })
	assert.True(t, slices.Equal(one, rows), "what was shuffled is not what came")
}

func TestLabelArchive_ImagePerRow(t *testing.T) {
	rows := made(t, testscope.Choose(40, 3))
	var file bytes.Buffer
	require.NoError(t, design(labels.QR, 300).Zip(&file, batch, each(rows), "png", func(int) {}))
	z, err := zip.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()))
	require.NoError(t, err)
	require.Equal(t, len(z.File), len(rows), "files")
	var pictures []image.Image
	for i, f := range z.File {
		want := fmt.Sprintf("%012d.png", i)
		assert.Equal(t, f.Name, want, "file %d", i)
		in, err := f.Open()
		require.NoError(t, err)
		m, err := png.Decode(in)
		require.NoError(t, err)
		pictures = append(pictures, m)
	}
	for i, found := range readtest.QR(t, pictures...) {
		assert.Equal(t, found, rows[i].Text, "file %d has", i)
	}
}

// An error of what reads or of what writes ends a job, and nothing hangs.
func TestLabelJob_ReadOrWriteError(t *testing.T) {
	broken := errors.New("broken")
	after := func(n int) iter.Seq2[labels.Row, error] {
		return func(yield func(labels.Row, error) bool) {
			for _, r := range made(t, n) {
				if !yield(r, nil) {
					return
				}
			}
			yield(labels.Row{}, broken)
		}
	}
	for _, n := range []int{0, 1, 40} {
		err := design(labels.QR, 300).Labels(batch, after(n), "zpl", func(labels.Row, []byte) error { return nil })
		assert.True(t, errors.Is(err, broken), "rows that end after %d: %v", n, err)
	}
	err := design(labels.QR, 300).Labels(batch, each(made(t, 40)), "zpl", func(labels.Row, []byte) error { return broken })
	assert.True(t, errors.Is(err, broken), "a full disk: %v", err)
	bad := made(t, 3)
	bad[2].Matrix = strings.Repeat("0", 361)
	err = design(labels.Matrix, 300).Labels(batch, each(bad), "zpl", func(labels.Row, []byte) error { return nil })
	assert.True(t, err != nil && strings.HasPrefix(err.Error(), "index 2: "), "a row without a symbol: %v", err)
}
