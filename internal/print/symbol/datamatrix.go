package symbol

import (
	"fmt"
	"slices"
	"strings"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/datamatrix/encoder"
)

// dmLongest is the number of characters in the longest text, which has only digits: the largest symbol encodes two digits per codeword.
const dmLongest = 2608

// dmLargest is the side length, in modules, of the largest symbol that is drawn. The standard also defines a symbol of 144 modules,
// but readers disagree on the order of its blocks.
const dmLargest = 132

// smallest returns the smallest square or rectangular symbol for a number of codewords; nil if no symbol is large enough.
func smallest(codewords int, rectangular bool) *encoder.SymbolInfo {
	shape := encoder.SymbolShapeHint(encoder.SymbolShapeHint_FORCE_SQUARE)
	if rectangular {
		shape = encoder.SymbolShapeHint_FORCE_RECTANGLE
	}
	largest, err := gozxing.NewDimension(dmLargest, dmLargest)
	if err != nil {
		return nil
	}
	size, err := encoder.SymbolInfo_Lookup(codewords, shape, nil, largest, true)
	if err != nil {
		return nil
	}
	return size
}

// Data Matrix codewords that do not encode a character. ISO/IEC 16022, 5.2.
const (
	dmPad     = 129
	dmFNC1    = 232
	dmBase256 = 231
	dmC40     = 230
	dmText    = 239
	dmASCII   = 254 // ends C40 and Text encodation
)

// DataMatrix returns the smallest square or rectangular ECC 200 Data Matrix for a text. The text may contain the characters of
// ISO/IEC 8859-1, which is the default encoding of bytes. Readers of Data Matrix disagree on characters outside ISO/IEC 8859-1.
func DataMatrix(text string, rectangular bool) (Grid, error) {
	if err := checkText(text); err != nil {
		return Grid{}, err
	}
	var bytes []byte
	for _, r := range text {
		if r < ' ' || r > '~' && r < 0xa0 || r > 0xff {
			return Grid{}, fmt.Errorf("a Data Matrix holds printable ASCII and the letters of Western Europe, not %q: use a QR code", r)
		}
		bytes = append(bytes, byte(r))
	}
	return dataMatrixOf(bytes, rectangular)
}

// dataMatrixOf returns the symbol for validated characters; the character fnc1 becomes the function character FNC1.
func dataMatrixOf(bytes []byte, rectangular bool) (Grid, error) {
	var codewords []byte
	var size *encoder.SymbolInfo
	if len(bytes) <= dmLongest {
		codewords, size = encodeDataMatrix(bytes, rectangular)
	}
	switch {
	case size == nil && rectangular:
		return Grid{}, fmt.Errorf("a text of %d characters is too long for a rectangular Data Matrix: use a square one", len(bytes))
	case size == nil:
		return Grid{}, fmt.Errorf("a text of %d characters is too long for a Data Matrix: shorten it", len(bytes))
	}
	all, err := encoder.ErrorCorrection_EncodeECC200(codewords, size)
	if err != nil {
		return Grid{}, fmt.Errorf("error correction of a Data Matrix: %w", err)
	}
	placed := encoder.NewDefaultPlacement(all, size.GetSymbolDataWidth(), size.GetSymbolDataHeight())
	placed.Place()
	g := Grid{Width: size.GetSymbolWidth(), Height: size.GetSymbolHeight(), family: dataMatrix, quiet: dataMatrixQuiet}
	g.dark = make([]bool, g.Width*g.Height)
	// Each region has a solid border on its left and bottom side, and an alternating border on its top and right side.
	wide, high := size.GetMatrixWidth(), size.GetMatrixHeight()
	for i := range g.dark {
		x, y := i%g.Width, i/g.Width
		column, row := x%(wide+2), y%(high+2)
		switch {
		case column == 0 || row == high+1:
			g.dark[i] = true
		case row == 0:
			g.dark[i] = column%2 == 0
		case column == wide+1:
			g.dark[i] = row%2 == 1
		default:
			g.dark[i] = placed.GetBit(x-2*(x/(wide+2))-1, y-2*(y/(high+2))-1)
		}
	}
	return g, nil
}

// dmStep is a part of a text that is written in one encodation; ASCII encodation applies again after the step.
type dmStep struct {
	from, cost int // cost: number of codewords up to the end of the step
	mode       byte
}

// encodeDataMatrix returns the codewords of a text, padded to the smallest symbol that has room for them; nil if the text is too long.
// Of all encodings of the text in ASCII, C40, Text and base 256, encodeDataMatrix chooses the one with the fewest codewords. Characters
// above ASCII are always in base 256, because gozxing decodes Upper Shift to a byte that is no UTF-8.
func encodeDataMatrix(text []byte, rectangular bool) ([]byte, *encoder.SymbolInfo) {
	best := make([]dmStep, len(text)+1) // the best encodings so far, indexed by the offset of the next character
	open := dmStep{cost: -1}            // the best encoding that ends in C40 or Text, without the codeword for the return to ASCII
	for i := 1; i < len(best); i++ {
		best[i].cost = -1
	}
	var counts [2][]int // number of values of each character in C40 and in Text
	for i, mode := range []byte{dmC40, dmText} {
		for _, b := range text {
			counts[i] = append(counts[i], len(dmValues(mode, b)))
		}
	}
	better := func(to int, s dmStep) {
		if best[to].cost < 0 || s.cost < best[to].cost {
			best[to] = s
		}
	}
	for from := range text {
		cost := best[from].cost
		if text[from] < 128 {
			better(from+1, dmStep{from, cost + 1, dmASCII})
		}
		if from+1 < len(text) && isDigit(text[from]) && isDigit(text[from+1]) {
			better(from+2, dmStep{from, cost + 1, dmASCII})
		}
		for i, mode := range []byte{dmC40, dmText} {
			values := 0
			for to := from + 1; to <= len(text); to++ {
				if text[to-1] == fnc1[0] || text[to-1] >= 128 {
					break // readers disagree on FNC1 in C40 and Text
				}
				if values += counts[i][to-1]; values%3 > 0 {
					continue
				}
				s := dmStep{from, cost + 1 + values/3*2 + 1, mode}
				better(to, s)
				if to == len(text) && (open.cost < 0 || s.cost-1 < open.cost) {
					open = dmStep{from, s.cost - 1, mode}
				}
			}
		}
		for to := from + 1; text[from] >= 128 && to <= len(text); to++ {
			better(to, dmStep{from, cost + 1 + len(dmLength(to-from)) + to - from, dmBase256})
		}
	}
	size := smallest(best[len(text)].cost, rectangular)
	if exact := smallest(max(open.cost, 0), rectangular); open.cost > 0 && exact != nil && exact.GetDataCapacity() == open.cost &&
		(size == nil || open.cost < size.GetDataCapacity()) {
		// C40 and Text need no codeword for the return to ASCII if the symbol is full.
		best[len(text)], size = open, exact
	}
	if size == nil {
		return nil, nil
	}
	var steps []int // the end offsets of the steps in the text
	for to := len(text); to > 0; to = best[to].from {
		steps = append(steps, to)
	}
	var out []byte
	for _, to := range slices.Backward(steps) {
		out = appendDataMatrix(out, best[to].mode, text[best[to].from:to])
	}
	out = out[:min(len(out), size.GetDataCapacity())] // if the symbol is full, removes the codeword that ends C40 or Text
	for pad := false; len(out) < size.GetDataCapacity(); pad = true {
		if pad {
			out = append(out, dm253(len(out)+1))
		} else {
			out = append(out, dmPad)
		}
	}
	return out, size
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

// appendDataMatrix appends a part of a text in one encodation, including the switch from ASCII and back.
func appendDataMatrix(out []byte, mode byte, part []byte) []byte {
	switch mode {
	case dmASCII:
		switch {
		case len(part) == 2:
			return append(out, 130+10*(part[0]-'0')+part[1]-'0')
		case part[0] == fnc1[0]:
			return append(out, dmFNC1)
		}
		return append(out, part[0]+1)
	case dmBase256:
		out = append(out, dmBase256)
		for _, b := range slices.Concat(dmLength(len(part)), part) {
			pos := len(out) + 1 // positions of codewords start at 1
			out = append(out, byte(int(b)+149*pos%255+1))
		}
		return out
	}
	out = append(out, mode)
	var values []int
	for _, b := range part {
		values = append(values, dmValues(mode, b)...)
	}
	for three := range slices.Chunk(values, 3) {
		v := 1600*three[0] + 40*three[1] + three[2] + 1
		out = append(out, byte(v>>8), byte(v))
	}
	return append(out, dmASCII)
}

// dmLength returns the codewords that encode the number of base 256 bytes.
func dmLength(n int) []byte {
	if n < 250 {
		return []byte{byte(n)}
	}
	return []byte{byte(n/250 + 249), byte(n % 250)}
}

// dm253 returns the padding codeword for a position, counted from 1. The padding differs between positions, to avoid visible patterns.
func dm253(place int) byte {
	v := dmPad + 149*place%253 + 1
	if v > 254 {
		v -= 254
	}
	return byte(v)
}

// dmShift2 lists the characters of the shift 2 set of C40 and Text.
const dmShift2 = `!"#$%&'()*+,-./:;<=>?@[\]^_`

// dmValues returns the values of an ASCII character in C40 or Text: one value in the basic set, two with a shift.
func dmValues(mode, b byte) []int {
	basic, second := byte('A'), byte('a')
	if mode == dmText {
		basic, second = second, basic
	}
	switch {
	case b == ' ':
		return []int{3}
	case isDigit(b):
		return []int{int(b-'0') + 4}
	case basic <= b && b < basic+26:
		return []int{int(b-basic) + 14}
	case b < ' ':
		return []int{0, int(b)}
	case second <= b && b < second+26:
		return []int{2, int(b-second) + 1}
	}
	if i := strings.IndexByte(dmShift2, b); i >= 0 {
		return []int{1, i}
	}
	// The shift 3 set: ` and the characters from { on.
	if b == '`' {
		return []int{2, 0}
	}
	return []int{2, int(b-'{') + 27}
}
