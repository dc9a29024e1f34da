package symbol

import (
	"fmt"
	"strings"

	"github.com/makiuchi-d/gozxing"
	qrdecoder "github.com/makiuchi-d/gozxing/qrcode/decoder"
	qrencoder "github.com/makiuchi-d/gozxing/qrcode/encoder"
)

// fnc1 is the character of an element string for the function character of a symbol: readers send it so.
const fnc1 = "\x1d"

// What readers send before the text of a symbol that begins with FNC1: ISO/IEC 15424.
const (
	GS1QRIdentifier         = "]Q3"
	GS1DataMatrixIdentifier = "]d2"
)

// gs1Levels are the levels of error correction of the library that writes QR codes with FNC1.
var gs1Levels = map[Level]qrdecoder.ErrorCorrectionLevel{'L': qrdecoder.ErrorCorrectionLevel_L, 'M': qrdecoder.ErrorCorrectionLevel_M,
	'Q': qrdecoder.ErrorCorrectionLevel_Q, 'H': qrdecoder.ErrorCorrectionLevel_H}

// qrSet are the characters of which two need eleven bits. ISO/IEC 18004, 7.4.4.
const qrSet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"

// GS1QR returns the QR code of an element string: one that begins with FNC1.
func GS1QR(elements string, level Level) (Grid, error) {
	if err := checkText(elements); err != nil {
		return Grid{}, err
	}
	l, ok := gs1Levels[level]
	if !ok {
		return Grid{}, fmt.Errorf("error correction %q: want L, M, Q or H", string(level))
	}
	if strings.Trim(elements, qrSet+fnc1) == "" {
		// In this set % stands for FNC1, and twice for itself: 7.4.8.2. Other texts are bytes, where FNC1 is the separator's byte.
		elements = strings.NewReplacer("%", "%%", fnc1, "%").Replace(elements)
	}
	code, err := qrencoder.Encoder_encode(elements, l, map[gozxing.EncodeHintType]any{gozxing.EncodeHintType_GS1_FORMAT: true})
	if err != nil {
		return Grid{}, fmt.Errorf("%d characters are too many for a GS1 QR code of level %c: take fewer, or a lower error correction",
			len(elements), level)
	}
	m := code.GetMatrix()
	g := Grid{Width: m.GetWidth(), Height: m.GetHeight(), family: qrCode, quiet: qrQuiet}
	for y := range g.Height {
		for x := range g.Width {
			g.dark = append(g.dark, m.Get(x, y) == 1)
		}
	}
	return g, nil
}

// GS1DataMatrix returns the Data Matrix of an element string: one that begins with FNC1.
func GS1DataMatrix(elements string) (Grid, error) {
	if err := checkText(elements); err != nil {
		return Grid{}, err
	}
	return dataMatrixOf([]byte(fnc1 + elements))
}
