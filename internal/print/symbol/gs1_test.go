package symbol_test

import (
	"image"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/readtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestSymbol_GS1FNC1 verifies that this program's reader reads symbols with FNC1 as GS1 symbols, and that other readers read the same text.
func TestSymbol_GS1FNC1(t *testing.T) {
	t.Parallel()
	const separator = "\x1d"
	for _, c := range []struct{ name, elements string }{
		{"digits alone", "010950600013435217271231"},
		{"capital letters", "010950600013435210LOT1"},
		{"a separator", "010950600013435210LOT1" + separator + "21ABC"},
		{"capital letters with %", "010950600013435210A%B" + separator + "21%%"},
		{"small letters", "010950600013435210Lot-1" + separator + "21abcdefgh"},
		{"separators between digits", "01095060001343521012345" + separator + "2167890"},
		{"a separator among capitals", "8010950600013435ABCDEF" + separator + "80111"},
		{"a long text", "010950600013435298" + strings.Repeat("aB3", 30)},
	} {
		qr := require.Value(symbol.GS1QR(c.elements, 'M'))(t)
		got, err := qr.Read()
		assert.True(t, got == "]Q3"+c.elements && err == nil, "%s: Read of the QR code = %q, %v", c.name, got, err)
		dm := require.Value(symbol.GS1DataMatrix(c.elements, false))(t)
		got, err = dm.Read()
		assert.True(t, got == "]d2"+c.elements && err == nil, "%s: Read of the Data Matrix = %q, %v", c.name, got, err)
		for _, reader := range []struct {
			name string
			grid symbol.Grid
			read func(testing.TB, image.Image) string
		}{{"zbarimg", qr, readtest.Zbarimg}, {"dmtxread", dm, readtest.DmtxreadGS1}} {
			found := reader.read(t, drawPNG(t, require.Value(newStyle(203).Draw(nil, reader.grid))(t)))
			assert.Equal(t, strings.TrimPrefix(found, separator), c.elements, "%s: text of %s", c.name, reader.name)
		}
	}
	assert.True(t, assert.ErrorOf(symbol.GS1QR(strings.Repeat("a", 3000), 'H')) != nil, "GS1QR of 3000 characters succeeded, want an error")
	plain := require.Value(symbol.QR("0109506000134352", 'M'))(t)
	got, _ := plain.Read()
	assert.Equal(t, got, "0109506000134352", "text of a plain QR code")
}
