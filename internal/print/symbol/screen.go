package symbol

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"sync"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/datamatrix"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// MaxScreenPixels is the maximum length in bytes of a text whose QR code a phone can read from a screen. The limit also bounds CPU
// time: the work of drawing a code grows with the square of its side.
const MaxScreenPixels = 500

// Picture returns a black-on-white image of a symbol with its quiet zone. The side of each module is the given number of pixels.
func (g Grid) Picture(pixels int) *image.Paletted {
	size := image.Rect(0, 0, pixels*(g.Width+2*g.quiet), pixels*(g.Height+2*g.quiet))
	m := image.NewPaletted(size, color.Palette{color.White, color.Black})
	for y := range size.Dy() {
		row := m.Pix[y*m.Stride:][:m.Stride]
		if y%pixels > 0 {
			copy(row, m.Pix[(y-1)*m.Stride:])
			continue
		}
		for x := range row {
			if g.Dark(x/pixels-g.quiet, y/pixels-g.quiet) {
				row[x] = 1
			}
		}
	}
	return m
}

// ForScreen returns a data URL that contains the QR code of a text as a picture. ForScreen returns an error if the text is empty,
// invalid UTF-8, or too long for a QR code.
func ForScreen(text string) (address string, err error) {
	g, err := Readable(text)
	if err != nil {
		return "", err
	}
	return g.Address()
}

// Readable returns the QR code of a text with error correction M, or L if the text is too long for M.
func Readable(text string) (Grid, error) {
	g, err := QR(text, 'M')
	if err != nil {
		g, err = QR(text, 'L')
	}
	return g, err
}

// bufferPool reuses the buffers of png.Encoder, which are much larger than a picture.
type bufferPool struct{ sync.Pool }

var buffers bufferPool

// Get implements png.EncoderBufferPool; the encoder allocates a buffer if the result is nil.
func (p *bufferPool) Get() *png.EncoderBuffer {
	b, _ := p.Pool.Get().(*png.EncoderBuffer)
	return b
}

// Put implements png.EncoderBufferPool.
func (p *bufferPool) Put(b *png.EncoderBuffer) { p.Pool.Put(b) }

// Address returns a data URL that contains the picture of the symbol.
func (g Grid) Address() (string, error) {
	// Some browsers smooth enlarged pictures; several pixels per module keep the edges sharp.
	var b bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestSpeed, BufferPool: &buffers}
	if err := encoder.Encode(&b, g.Picture(max(2, 300/(g.Width+2*g.quiet)))); err != nil {
		return "", err
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// FindQR returns the text of the QR code in a picture that shows little besides the code.
func FindQR(m image.Image) (string, error) { return find(m, qrcode.NewQRCodeReader(), nil) }

// thorough makes readers search longer, for pictures that show more than the code.
var thorough = map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true}

// Find returns the text of the QR code or the Data Matrix in any picture.
func Find(m image.Image) (string, error) {
	text, err := find(m, qrcode.NewQRCodeReader(), thorough)
	if err != nil {
		text, err = find(m, datamatrix.NewDataMatrixReader(), thorough)
	}
	return text, err
}

// find returns an error if a reader panics on an untrusted picture.
func find(m image.Image, reader gozxing.Reader, hints map[gozxing.DecodeHintType]any) (text string, err error) {
	defer recovered(&err)
	bitmap, err := gozxing.NewBinaryBitmapFromImage(m)
	if err != nil {
		return "", err
	}
	found, err := reader.Decode(bitmap, hints)
	if err != nil {
		return "", err
	}
	return found.GetText(), nil
}

// recovered is deferred around a reader, and turns a panic of the reader into an error.
func recovered(err *error) {
	if fault := recover(); fault != nil {
		*err = fmt.Errorf("the picture cannot be read: %v", fault)
	}
}
