package labels_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/print/labels"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/readtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// run returns the output of a program that reads a file.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	readtest.RequirePrograms(t, program)
	out := require.Value(exec.CommandContext(t.Context(), program, args...).CombinedOutput())(t)
	return string(out)
}

// assertPlate fails unless all ink of a file is on one plate, on which a reader finds the text.
func assertPlate(t *testing.T, plate string, file []byte, dpi int, text string) {
	t.Helper()
	plates := readtest.SeparatePlates(t, file, dpi)
	require.True(t, len(plates) == 1 && plates[plate] != nil, "%d plates have ink, want %s only", len(plates), plate)
	assert.Equal(t, readtest.QR(t, plates[plate])[0], text, "%s at %d", plate, dpi)
}

// TestSheet_PDFX4 verifies the requirements of PDF/X-4 with poppler and qpdf, because there is no free validator, and separates the colours
// with Ghostscript: all ink must be on the configured plate, including the ink of the logo, the crop marks and the footer.
func TestSheet_PDFX4(t *testing.T) {
	t.Parallel()
	r := newRows(t, 1)[0]
	for colour, plate := range map[string]string{"k": "Black", "spot:PANTONE 186 C": "PANTONE 186 C"} {
		p := labels.Printing{Colour: colour, Page: "120x70mm", Columns: 3, Rows: 1, Footer: "{page}", CropMarks: true,
			Lines: []string{"{serial}"}}
		d := require.Value(p.OrUsual().Design())(t)
		s := require.Value(p.OrUsual().OnSheets(d))(t)
		s.Logo, s.LogoAt = newLogo(), 5000
		var file, second bytes.Buffer
		require.NoError(t, s.Write(&file, batch, rowSeq([]labels.Row{r}), 1, func(int) {}))
		require.NoError(t, s.Write(&second, batch, rowSeq([]labels.Row{r}), 1, func(int) {}))
		assert.True(t, bytes.Equal(file.Bytes(), second.Bytes()), "two files of one sheet differ, want equal bytes")
		name := filepath.Join(t.TempDir(), "sheet.pdf")
		require.NoError(t, os.WriteFile(name, file.Bytes(), 0o600))

		info := run(t, "pdfinfo", "-box", name)
		for _, want := range []string{"PDF subtype:    PDF/X-4\n", "Title:          ", "CreationDate:   ", "ModDate:        "} {
			assert.True(t, strings.Contains(info, want), "%s: no %q in %s", colour, want, info)
		}
		for _, box := range []string{"TrimBox", "BleedBox"} {
			_, text, _ := strings.Cut(info, box+":")
			for _, mm := range []float64{10, 10, 110, 60} { // the labels, in margins of 10 mm
				var v float64
				require.NoError(t, assert.ErrorOf(fmt.Sscan(text, &v)))
				assert.True(t, math.Abs(v-mm*72/25.4) < 72.0/300, "%s: %s has %v, want %v mm", colour, box, v, mm)
				text = strings.TrimLeft(text, " ")
				text = text[strings.Index(text, " "):]
			}
		}
		for _, line := range strings.Split(strings.TrimSpace(run(t, "pdffonts", name)), "\n")[2:] {
			assert.True(t, strings.Contains(line, "Type 3 "), "%s: the font %s, want outlines only", colour, line)
		}
		meta := run(t, "pdfinfo", "-meta", name)
		for _, want := range []string{`pdfxid:GTS_PDFXVersion="PDF/X-4"`, `pdf:Trapped="False"`, `xmpMM:DocumentID="uuid:`,
			`xmpMM:VersionID="1"`, `xmpMM:RenditionClass="default"`, `xmp:CreateDate="`, `xmp:ModifyDate="`, `xmp:MetadataDate="`,
			`<dc:title>`} {
			assert.True(t, strings.Contains(meta, want), "%s: no %s in %s", colour, want, meta)
		}
		run(t, "qpdf", "--check", name)
		plain := run(t, "qpdf", "--qdf", "--object-streams=disable", name, "-")
		for _, want := range []string{"/S /GTS_PDFX\n", "/OutputConditionIdentifier (FOGRA39)", "/RegistryName (http://www.color.org)",
			"/Trapped /False", "/ID [<", "prtrCMYKLab ", "ICCHDAT FOGRA39", "%PDF-1.6\n"} {
			assert.True(t, strings.Contains(plain, want), "%s: no %s", colour, want)
		}
		assert.True(t, regexp.MustCompile(`/DestOutputProfile \d+ 0 R\n`).MatchString(plain), "%s: no embedded profile", colour)
		for _, bad := range []string{"DeviceRGB", " rg\n", " RG\n", "/SMask", "/Group", "/ExtGState", "/Encrypt"} {
			assert.True(t, !strings.Contains(plain, bad), "%s: the file contains %q", colour, bad)
		}

		assertPlate(t, plate, file.Bytes(), 300, r.Text)
		for _, dpi := range testscope.Select([]int{203, 300, 600}, []int{300}) {
			d.Style.DPI = dpi
			for _, format := range []labels.Format{"pdf", "eps"} {
				assertPlate(t, plate, writeLabel(t, d, r, format), dpi, r.Text)
			}
		}
		for _, format := range []labels.Format{"svg", "png", "zpl"} {
			err := d.Labels(batch, rowSeq([]labels.Row{r}), format, func(labels.Row, []byte) error { return nil })
			assert.True(t, err != nil, "%s was written as %s, want an error", colour, format)
		}
	}
	for _, bad := range []labels.Printing{{Colour: "spot:"}, {Colour: "spot:All"}, {Colour: "spot:a(b"},
		{Colour: "spot:" + strings.Repeat("a", 32)}, {Kind: "both", Rectangular: true}} {
		assert.True(t, assert.ErrorOf(bad.OrUsual().Design()) != nil, "%+v was accepted, want an error", bad)
	}
}
