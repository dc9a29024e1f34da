package symbol_test

import (
	"image"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/readtest"
)

// Issue 34, line 4: symbols with FNC1 are read as GS1's by this program's reader, and by another maker's with the same text.
func TestSymbol_GS1FNC1(t *testing.T) {
	t.Parallel()
	const separator = "\x1d"
	for _, c := range []struct{ of, elements string }{
		{"digits alone", "010950600013435217271231"},
		{"capital letters", "010950600013435210LOT1"},
		{"a separator", "010950600013435210LOT1" + separator + "21ABC"},
		{"capital letters with %", "010950600013435210A%B" + separator + "21%%"},
		{"small letters", "010950600013435210Lot-1" + separator + "21abcdefgh"},
		{"separators between digits", "01095060001343521012345" + separator + "2167890"},
		{"a separator among capitals", "8010950600013435ABCDEF" + separator + "80111"},
		{"a long text", "010950600013435298" + strings.Repeat("aB3", 30)},
	} {
		qr := must[symbol.Grid](t)(symbol.GS1QR(c.elements, 'M'))
		says, err := qr.Read()
		assert.True(t, says == "]Q3"+c.elements && err == nil, "%s: the QR code says %q: %v", c.of, says, err)
		dm := must[symbol.Grid](t)(symbol.GS1DataMatrix(c.elements, false))
		says, err = dm.Read()
		assert.True(t, says == "]d2"+c.elements && err == nil, "%s: the Data Matrix says %q: %v", c.of, says, err)
		for _, other := range []struct {
			by   string
			grid symbol.Grid
			read func(testing.TB, image.Image) string
		}{{"zbarimg", qr, readtest.Zbarimg}, {"dmtxread", dm, readtest.DmtxreadGS1}} {
			found := other.read(t, picture(t, must[symbol.Drawing](t)(style(203).Draw(nil, other.grid))))
			found = strings.TrimPrefix(found, separator)
			assert.True(t, found == c.elements, "%s: %s finds %q, not %q", c.of, other.by, found, c.elements)
		}
	}
	assert.True(t, assert.ErrorOf(symbol.GS1QR(strings.Repeat("a", 3000), 'H')) != nil, "3000 characters make a QR code")
	plain := must[symbol.Grid](t)(symbol.QR("0109506000134352", 'M'))
	says, _ := plain.Read()
	assert.Equal(t, says, "0109506000134352", "a plain QR code says")
}
