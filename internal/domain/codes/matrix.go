package codes

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/boombuler/barcode/datamatrix"
)

const (
	// fieldSide is the side of the dot matrix field in modules.
	// Contract: marketcode §4.2.
	fieldSide = 19
	// fieldLength is the number of characters of a dot matrix.
	fieldLength = fieldSide * fieldSide

	// symbolSide is the side, without quiet zone, of the smallest ECC 200 symbol that has room for nine codewords (the symbol has
	// room for twelve).
	symbolSide = 16
	// symbolTop is the row and the column of the symbol's first module in the field.
	symbolTop = 1
)

// modules contains the modules of a symbol row by row, four rows per uint64. The first module is the highest bit; 1 = black.
type modules [symbolSide * symbolSide / 64]uint64

// placed contains, for each position in a code and each character at that position, the modules to XOR into the symbol. The Reed-Solomon
// code of ECC 200 is linear and its module placement is fixed, so every module is an affine function of the characters, provided that each
// character is one ASCII codeword. The entries of placed for the first position include the constant part of the affine function.
//
// Standard encoders pair adjacent digits to save a codeword. This package never pairs digits, so the symbols of all codes have the same
// size; readers accept both encodings.
var placed = sync.OnceValue(func() *[CodeLength][36]modules {
	base := [CodeLength]byte{'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A'}
	constant := drawn(base)
	table := new([CodeLength][36]modules)
	for place := range CodeLength {
		for v := range 36 {
			code := base
			code[place] = Alphabet[v] // a single digit among letters is not paired
			table[place][v] = drawn(code)
			if place == 0 {
				continue
			}
			for i := range constant {
				table[place][v][i] ^= constant[i]
			}
		}
	}
	return table
})

// drawn returns the symbol that the Data Matrix library draws for a code without adjacent digits.
func drawn(code [CodeLength]byte) (m modules) {
	image, err := datamatrix.Encode(string(code[:]))
	if err != nil || image.Bounds().Dx() != symbolSide || image.Bounds().Dy() != symbolSide {
		panic(fmt.Sprintf("codes: no %d×%d symbol of %s: %v", symbolSide, symbolSide, code, err))
	}
	for i := range symbolSide * symbolSide {
		if r, _, _, _ := image.At(i%symbolSide, i/symbolSide).RGBA(); r == 0 {
			m[i/64] |= 1 << (63 - i%64)
		}
	}
	return m
}

// spread maps a byte of eight modules to eight characters.
var spread = func() (t [256]uint64) {
	for v := range t {
		var chars [8]byte
		for i := range chars {
			chars[i] = '0' + byte(v>>(7-i)&1)
		}
		t[v] = binary.NativeEndian.Uint64(chars[:])
	}
	return t
}()

// Matrix returns the dot matrix of an original code, in the format of WriteRows.
func Matrix(code [CodeLength]byte) (field [fieldLength]byte) {
	blank(&field)
	draw(&field, &code)
	return field
}

// blank fills a field with white. A field is the dot matrix of an original code: 19×19 characters row by row, 0 = white, 1 = black.
func blank(field *[fieldLength]byte) {
	for i := range field {
		field[i] = '0'
	}
}

// draw writes the symbol of a code into a field: an ECC 200 Data Matrix of 16×16 modules with its top left module at row 1, column
// 1; the quiet zone is unchanged. draw panics for a text that ParseCode rejects. Contract: marketcode §4.2, §5.4; design 8, 9.
func draw(field *[fieldLength]byte, code *[CodeLength]byte) {
	table := placed()
	var m modules
	for place, char := range code {
		t := &table[place][values[char]]
		for i := range m {
			m[i] ^= t[i]
		}
	}
	pos := symbolTop*fieldSide + symbolTop
	for _, rows := range m {
		for range 4 {
			row := field[pos : pos+symbolSide]
			binary.NativeEndian.PutUint64(row[:8], spread[rows>>56])
			binary.NativeEndian.PutUint64(row[8:], spread[rows>>48&0xff])
			rows <<= 16
			pos += fieldSide
		}
	}
}
