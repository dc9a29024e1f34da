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

// file is a file of so many pages, each with a black square at its own place.
func file(t *testing.T, pages int) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := pdf.NewWriter(&b, pdf.Info{Title: "码 (1)"})
	for i := range pages {
		p := pdf.NewPage(25.4, 25.4, 72)
		p.Colour(0, 0, 0)
		p.Rect(i%72, i/72%72, 1, 1)
		p.Fill()
		require.NoError(t, w.Add(p))
	}
	require.NoError(t, w.Close())
	return &b
}

// A tree of pages has a level for each power of 64.
func TestPDF_PageTreeLevels(t *testing.T) {
	readtest.Need(t, "pdfinfo")
	for _, pages := range []int{1, 63, 64, 65, 4096, 4097, 5000} {
		cmd := exec.CommandContext(t.Context(), "pdfinfo", "-")
		cmd.Stdin = file(t, pages)
		said, err := cmd.CombinedOutput()
		assert.True(t, err == nil && strings.Contains(string(said), "Title:           码 (1)\n") && !strings.Contains(string(said), "rror"),
			"%d pages: %v: %s", pages, err, said)
		found := regexp.MustCompile(`(?m)^Pages: +(\d+)$`).FindSubmatch(said)
		assert.True(t, found != nil && string(found[1]) == strconv.Itoa(pages), "%d pages: %s", pages, said)
	}
}

func TestPDF_PageOrder(t *testing.T) {
	for i, page := range readtest.Pages(t, file(t, 130).Bytes(), 72) {
		dark := image.Pt(-1, -1)
		b := page.Bounds()
		for at := range b.Dx() * b.Dy() {
			if p := image.Pt(at%b.Dx(), at/b.Dx()); color.GrayModel.Convert(page.At(p.X, p.Y)).(color.Gray).Y < 128 {
				dark = p
				break
			}
		}
		want := image.Pt(i%72, i/72)
		require.True(t, dark == want, "page %d begins at %v, not at %v", i, dark, want)
	}
}

// What is kept of a page is a few bytes.
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
	assert.True(t, grown <= 20_000*64, "20000 pages left %d bytes", grown)
	require.NoError(t, w.Close())
}

func TestPDF_RejectsEmptyFile(t *testing.T) {
	assert.True(t, pdf.NewWriter(io.Discard, pdf.Info{}).Close() != nil, "a file without a page was written")
}
