package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"html/template"
	"image"
	"image/color"
	"image/png"
	"sync"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"
)

const (
	// maxDrawn is how long a link may be whose code is drawn, in bytes: the work
	// grows with the square of the side, and phones do not read much denser codes
	// from a screen.
	maxDrawn = 500
	// maxDrawing is how many codes are drawn at once: scans must not wait for
	// pictures.
	maxDrawing = 2
)

// hands bounds how many pictures are drawn at once. The zero value works.
type hands struct {
	once sync.Once
	free chan struct{}
}

// acquire waits for a free hand; false where the caller went away meanwhile.
func (h *hands) acquire(ctx context.Context) bool {
	h.once.Do(func() { h.free = make(chan struct{}, maxDrawing) })
	select {
	case h.free <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// release frees a hand that was acquired.
func (h *hands) release() { <-h.free }

// quiet is how many modules stay white around a QR code.
const quiet = 4

// drawLink is the QR code of a link as an address that holds the picture
// itself: two colours, whole pixels. ok is false for a link that no code
// holds (some 2,900 bytes; see maxDrawn).
func drawLink(text string) (address template.URL, ok bool) {
	var code barcode.Barcode
	var err error
	for _, level := range []qr.ErrorCorrectionLevel{qr.M, qr.L} {
		if code, err = qr.Encode(text, level, qr.Unicode); err == nil {
			break
		}
	}
	if err != nil {
		return "", false
	}
	side := code.Bounds().Dx()
	// Some browsers smooth pictures that they enlarge: several pixels a module keep them sharp.
	scale := max(2, 300/(side+2*quiet))
	m := image.NewPaletted(image.Rect(0, 0, scale*(side+2*quiet), scale*(side+2*quiet)), color.Palette{color.White, color.Black})
	for y := range side {
		for x := range side {
			if r, _, _, _ := code.At(x, y).RGBA(); r != 0 {
				continue
			}
			for dy := range scale {
				row := m.PixOffset(scale*(x+quiet), scale*(y+quiet)+dy)
				for dx := range scale {
					m.Pix[row+dx] = 1
				}
			}
		}
	}
	var b bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&b, m); err != nil {
		return "", false
	}
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())), true
}
