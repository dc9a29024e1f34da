package symbol

import (
	"fmt"
	"strings"

	"github.com/makiuchi-d/gozxing"
	qrdecoder "github.com/makiuchi-d/gozxing/qrcode/decoder"
	qrencoder "github.com/makiuchi-d/gozxing/qrcode/encoder"
)

// fnc1 is the character that stands for FNC1, the function character of a symbol, in an element string; readers send this character
// for FNC1.
const fnc1 = "\x1d"

// GS1QRIdentifier and GS1DataMatrixIdentifier precede the text that a reader sends for a symbol that begins with FNC1: ISO/IEC 15424.
const (
	GS1QRIdentifier         = "]Q3"
	GS1DataMatrixIdentifier = "]d2"
)

// gs1Levels maps error correction levels to those of the library that writes QR codes with FNC1.
var gs1Levels = map[Level]qrdecoder.ErrorCorrectionLevel{'L': qrdecoder.ErrorCorrectionLevel_L, 'M': qrdecoder.ErrorCorrectionLevel_M,
	'Q': qrdecoder.ErrorCorrectionLevel_Q, 'H': qrdecoder.ErrorCorrectionLevel_H}

// qrSet lists the alphanumeric characters of QR codes: two of these characters need eleven bits. ISO/IEC 18004, 7.4.4.
const qrSet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"

// GS1QR returns the QR code of a GS1 element string; the code begins with FNC1.
func GS1QR(elements string, level Level) (Grid, error) {
	if err := checkText(elements); err != nil {
		return Grid{}, err
	}
	l, ok := gs1Levels[level]
	if !ok {
		return Grid{}, fmt.Errorf("error correction %q: want L, M, Q or H", string(level))
	}
	if strings.Trim(elements, qrSet+fnc1) == "" {
		// In the alphanumeric set % stands for FNC1, and %% for a percent sign: ISO/IEC 18004, 7.4.8.2. Texts with other characters
		// are encoded as bytes, where FNC1 is the byte of fnc1.
		elements = strings.NewReplacer("%", "%%", fnc1, "%").Replace(elements)
	}
	code, err := qrencoder.Encoder_encode(elements, l, map[gozxing.EncodeHintType]any{gozxing.EncodeHintType_GS1_FORMAT: true})
	if err != nil {
		return Grid{}, fmt.Errorf("%d characters are too many for a GS1 QR code of level %c: use fewer, or a lower error correction",
			len(elements), level)
	}
	m := code.GetMatrix()
	return qrGrid(m.GetWidth(), func(x, y int) bool { return m.Get(x, y) == 1 }), nil
}

// GS1DataMatrix returns the square or rectangular Data Matrix of a GS1 element string; the symbol begins with FNC1.
func GS1DataMatrix(elements string, rectangular bool) (Grid, error) {
	if err := checkText(elements); err != nil {
		return Grid{}, err
	}
	return dataMatrixOf([]byte(fnc1+elements), rectangular)
}
