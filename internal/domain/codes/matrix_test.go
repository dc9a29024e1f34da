package codes

import (
	"image"
	"image/color"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/boombuler/barcode/datamatrix"
	"github.com/makiuchi-d/gozxing"
	reader "github.com/makiuchi-d/gozxing/datamatrix"
	"github.com/makiuchi-d/gozxing/datamatrix/decoder"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// sampleCodes returns n codes, the same in every run: shapes that encoders treat in different ways, then random codes.
func sampleCodes(n int) [][CodeLength]byte {
	var codes [][CodeLength]byte
	for _, s := range []string{"000000000", "999999999", "123456789", "AAAAAAAAA", "ZZZZZZZZZ", "ABCDEFGHI", "A1B2C3D4E", "1A2B3C4D5",
		"12ABCDE34", "ABCD00000", "00000ABCD", "0A00A000A"} {
		codes = append(codes, [CodeLength]byte([]byte(s)))
	}
	random := rand.New(rand.NewPCG(3, 4))
	for len(codes) < n {
		var code [CodeLength]byte
		letters := 36
		if len(codes)%10 == 0 {
			letters = 10 // digits only
		}
		for i := range code {
			code[i] = Alphabet[random.IntN(letters)]
		}
		codes = append(codes, code)
	}
	return codes
}

func TestMatrix_ExternalDecoder(t *testing.T) {
	n := 20_000
	if testing.Short() {
		n = 1_000
	}
	read := decoder.NewDecoder()
	for _, code := range sampleCodes(n) {
		field := Matrix(code)
		bits := require.Value(gozxing.NewBitMatrix(symbolSide, symbolSide))(t)
		for i, char := range field {
			x, y := i%fieldSide-symbolTop, i/fieldSide-symbolTop
			isInside := x >= 0 && y >= 0 && x < symbolSide && y < symbolSide
			switch {
			case char == '1' && isInside:
				bits.Set(x, y)
			case char != '0' && !(char == '1' && isInside):
				t.Fatalf("%s: module %d is %q", code, i, char)
			}
		}
		got, err := read.Decode(bits)
		require.True(t, err == nil && got.GetText() == string(code[:]), "%s is read as %v %v", code, got, err)
	}
}

// TestMatrix_DecodedFromImage draws the field as a camera image and verifies that a reader locates and decodes the symbol.
func TestMatrix_DecodedFromImage(t *testing.T) {
	const scale = 8
	for _, code := range sampleCodes(100) {
		field := Matrix(code)
		picture := image.NewGray(image.Rect(0, 0, fieldSide*scale, fieldSide*scale))
		for y := range fieldSide * scale {
			for x := range fieldSide * scale {
				picture.SetGray(x, y, color.Gray{Y: 255 * ('1' - field[y/scale*fieldSide+x/scale])})
			}
		}
		bitmap := require.Value(gozxing.NewBinaryBitmapFromImage(picture))(t)
		got, err := reader.NewDataMatrixReader().Decode(bitmap, nil)
		require.True(t, err == nil && got.GetText() == string(code[:]), "image of %s is decoded as %v, %v", code, got, err)
	}
}

// TestMatrix_EqualsLibrary compares Matrix with the library for codes without adjacent digits, which the library would encode in pairs.
func TestMatrix_EqualsLibrary(t *testing.T) {
	compared := 0
	for _, code := range sampleCodes(20_000) {
		digit := func(i int) bool { return code[i] <= '9' }
		paired := false
		for i := range CodeLength - 1 {
			paired = paired || digit(i) && digit(i+1)
		}
		if paired {
			continue
		}
		compared++
		want := require.Value(datamatrix.Encode(string(code[:])))(t)
		field := Matrix(code)
		for y := range symbolSide {
			for x := range symbolSide {
				r, _, _, _ := want.At(x, y).RGBA()
				require.Equal(t, field[(y+1)*fieldSide+x+1] == '1', r == 0, "%s: module %d, %d", code, x, y)
			}
		}
	}
	assert.True(t, compared >= 2_000, "%d codes compared, want at least 2000", compared)
}

// TestMatrix_SymbolOffset verifies the position of the symbol in the field. With one module more or less, every row that a factory cuts to
// 19 modules would be shifted.
func TestMatrix_SymbolOffset(t *testing.T) {
	field := Matrix([CodeLength]byte([]byte("044GZ0J10")))
	rows := make([]string, fieldSide)
	for i := range rows {
		rows[i] = string(field[i*fieldSide : (i+1)*fieldSide])
	}
	white := strings.Repeat("0", fieldSide)
	for _, i := range []int{0, 17, 18} {
		assert.Equal(t, rows[i], white, "row %d", i)
	}
	// ECC 200: the left and the lower edge solid, the upper and the right one dotted.
	want := "0" + strings.Repeat("10", 8) + "00"
	assert.Equal(t, rows[1], want, "the upper edge")
	want = "0" + strings.Repeat("1", 16) + "00"
	assert.Equal(t, rows[16], want, "the lower edge")
	for i := 1; i <= 16; i++ {
		want := byte('0' + (i+1)%2)
		assert.True(t, rows[i][0] == '0' && rows[i][1] == '1' && rows[i][16] == want && rows[i][17:] == "00",
			"row %d = %s, want the dotted right edge %c", i, rows[i], want)
	}
}

func BenchmarkMatrix(b *testing.B) {
	code := [CodeLength]byte([]byte("044GZ0J10"))
	b.Run("field", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Matrix(code)
		}
	})
	b.Run("library", func(b *testing.B) {
		for b.Loop() {
			datamatrix.Encode("A44GZAJAA")
		}
	})
}
