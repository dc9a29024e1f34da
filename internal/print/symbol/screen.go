package symbol

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/datamatrix"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// MostOnScreen is the maximum length in bytes of a text whose QR code a phone reads from a screen. The work of drawing a code grows
// with the square of its side.
const MostOnScreen = 500

// Picture returns a symbol with its quiet zone, black on white. Each module is a square of so many pixels.
func (g Grid) Picture(pixels int) *image.Paletted {
	size := image.Rect(0, 0, pixels*(g.Width+2*g.quiet), pixels*(g.Height+2*g.quiet))
	m := image.NewPaletted(size, color.Palette{color.White, color.Black})
	for i := range m.Pix {
		if g.Dark(i%m.Stride/pixels-g.quiet, i/m.Stride/pixels-g.quiet) {
			m.Pix[i] = 1
		}
	}
	return m
}

// ForScreen returns the QR code of a text as an address that holds the picture itself. The error is that
// of QR.
func ForScreen(text string) (address string, err error) {
	g, err := Readable(text)
	if err != nil {
		return "", err
	}
	return g.Address()
}

// Readable returns the QR code of a text with error correction M, or L where it is too long for that.
func Readable(text string) (Grid, error) {
	g, err := QR(text, 'M')
	if err != nil {
		g, err = QR(text, 'L')
	}
	return g, err
}

// Address returns an address that holds the picture itself.
func (g Grid) Address() (string, error) {
	// Some browsers smooth pictures that they enlarge: several pixels a module keep them sharp.
	var b bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&b, g.Picture(max(2, 300/(g.Width+2*g.quiet)))); err != nil {
		return "", err
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// FindQR returns the text of the QR code on a picture that shows little else.
func FindQR(m image.Image) (string, error) { return find(m, qrcode.NewQRCodeReader(), nil) }

// Find returns the text of the QR code on any picture, or of the Data Matrix there.
func Find(m image.Image) (string, error) {
	thorough := map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true}
	text, err := find(m, qrcode.NewQRCodeReader(), thorough)
	if err != nil {
		text, err = find(m, datamatrix.NewDataMatrixReader(), thorough)
	}
	return text, err
}

// find returns an error where a stranger's picture makes a reader panic.
func find(m image.Image, reader gozxing.Reader, hints map[gozxing.DecodeHintType]any) (text string, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("the picture cannot be read: %v", fault)
		}
	}()
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
