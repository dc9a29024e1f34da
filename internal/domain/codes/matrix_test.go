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

// matrixCodes are the shapes that encoders treat in different ways, and n random codes, always the same.
func matrixCodes(n int) [][CodeLength]byte {
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
	for _, code := range matrixCodes(n) {
		field := Matrix(code)
		bits, err := gozxing.NewBitMatrix(symbolSide, symbolSide)
		require.NoError(t, err)
		for i, char := range field {
			x, y := i%fieldSide-symbolTop, i/fieldSide-symbolTop
			inside := x >= 0 && y >= 0 && x < symbolSide && y < symbolSide
			switch {
			case char == '1' && inside:
				bits.Set(x, y)
			case char != '0' && !(char == '1' && inside):
				t.Fatalf("%s: module %d is %q", code, i, char)
			}
		}
		got, err := read.Decode(bits)
		require.True(t, err == nil && got.GetText() == string(code[:]), "%s is read as %v %v", code, got, err)
	}
}

// As a camera sees it: the field as an image, symbol to be found first.
func TestMatrix_DecodedFromImage(t *testing.T) {
	const scale = 8
	for _, code := range matrixCodes(100) {
		field := Matrix(code)
		picture := image.NewGray(image.Rect(0, 0, fieldSide*scale, fieldSide*scale))
		for y := range fieldSide * scale {
			for x := range fieldSide * scale {
				picture.SetGray(x, y, color.Gray{Y: 255 * ('1' - field[y/scale*fieldSide+x/scale])})
			}
		}
		bitmap, err := gozxing.NewBinaryBitmapFromImage(picture)
		require.NoError(t, err)
		got, err := reader.NewDataMatrixReader().Decode(bitmap, nil)
		require.True(t, err == nil && got.GetText() == string(code[:]), "a picture of %s is read as %v %v", code, got, err)
	}
}

// The library pairs adjacent digits, so it is asked for codes without them.
func TestMatrix_EqualsLibrary(t *testing.T) {
	compared := 0
	for _, code := range matrixCodes(20_000) {
		digit := func(i int) bool { return code[i] <= '9' }
		paired := false
		for i := range CodeLength - 1 {
			paired = paired || digit(i) && digit(i+1)
		}
		if paired {
			continue
		}
		compared++
		want, err := datamatrix.Encode(string(code[:]))
		require.NoError(t, err)
		field := Matrix(code)
		for y := range symbolSide {
			for x := range symbolSide {
				r, _, _, _ := want.At(x, y).RGBA()
				require.Equal(t, field[(y+1)*fieldSide+x+1] == '1', r == 0, "%s: module %d, %d", code, x, y)
			}
		}
	}
	assert.True(t, compared >= 2_000, "%d codes compared", compared)
}

// One module more or less would shift every row that a factory cuts into 19.
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
		assert.True(t, rows[i][0] == '0' && rows[i][1] == '1' && rows[i][16] == want && rows[i][17:] == "00", "row %d is %s", i, rows[i])
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
