package pdf_test

import (
	"bytes"
	"image"
	"image/color"
	"io"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/print/pdf"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/readtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// newFile returns a file with n pages, each with a black dot at another position.
func newFile(t *testing.T, n int) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := pdf.NewWriter(&b, pdf.Info{Title: "码 (1)"})
	for i := range n {
		p := pdf.NewPage(25.4, 25.4, 72)
		p.Colour(0, 0, 0)
		p.Rect(i%72, i/72%72, 1, 1)
		p.Fill()
		require.NoError(t, w.Add(p))
	}
	require.NoError(t, w.Close())
	return &b
}

// TestPDF_PageTreeLevels verifies the page tree, which has one level per power of 64 pages, with pdfinfo.
func TestPDF_PageTreeLevels(t *testing.T) {
	readtest.RequirePrograms(t, "pdfinfo")
	for _, pages := range []int{1, 63, 64, 65, 4096, 4097, 5000} {
		cmd := exec.CommandContext(t.Context(), "pdfinfo", "-")
		cmd.Stdin = newFile(t, pages)
		out, err := cmd.CombinedOutput()
		assert.True(t, err == nil && strings.Contains(string(out), "Title:           码 (1)\n") && !strings.Contains(string(out), "rror"),
			"%d pages: %v: %s", pages, err, out)
		found := regexp.MustCompile(`(?m)^Pages: +(\d+)$`).FindSubmatch(out)
		assert.True(t, found != nil && string(found[1]) == strconv.Itoa(pages), "%d pages: %s", pages, out)
	}
}

func TestPDF_PageOrder(t *testing.T) {
	for i, page := range readtest.RenderPDF(t, newFile(t, 130).Bytes(), 72) {
		dark := image.Pt(-1, -1)
		b := page.Bounds()
		for n := range b.Dx() * b.Dy() {
			if p := image.Pt(n%b.Dx(), n/b.Dx()); color.GrayModel.Convert(page.At(p.X, p.Y)).(color.Gray).Y < 128 {
				dark = p
				break
			}
		}
		want := image.Pt(i%72, i/72)
		require.Equal(t, dark, want, "first dark dot of page %d", i)
	}
}

// TestPDF_ConstantMemory verifies that the writer keeps only a few bytes per page.
func TestPDF_ConstantMemory(t *testing.T) {
	w := pdf.NewWriter(io.Discard, pdf.Info{})
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // a pool keeps its packers until the second one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	add := func(pages int) {
		for range pages {
			p := pdf.NewPage(254, 254, 72)
			for i := range 100 {
				p.Rect(i, i, 1, 1)
			}
			p.Fill()
			require.NoError(t, w.Add(p))
		}
	}
	add(1000)
	before := heap()
	add(20_000)
	grown := int64(heap()) - int64(before)
	assert.True(t, grown <= 20_000*64, "the heap grew by %d bytes for 20000 pages, want at most 64 per page", grown)
	require.NoError(t, w.Close())
}

func TestPDF_RejectsEmptyFile(t *testing.T) {
	assert.True(t, pdf.NewWriter(io.Discard, pdf.Info{}).Close() != nil, "Close without a page succeeded, want an error")
}
