package symbol

import (
	"errors"
	"image"
	"image/color"
	"math"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestSymbolAdvice_Readable verifies that symbols of the advised size are read from simulated camera images, flat and around bottles.
func TestSymbolAdvice_Readable(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"HTTPS://WEIXIN.QQ.COM/R/AB12CD34", "https://example.com/t?c=ABCDEFGHI123456789012"} {
		for _, level := range []Level{'L', 'Q'} {
			g := require.Value(QR(text, level))(t)
			for _, spot := range []Spot{{100_000, 203, 0}, {300_000, 203, 0}, {1_000_000, 300, 0},
				{150_000, 203, 65_000}, {300_000, 600, 90_000}} {
				a, err := g.Advise(spot)
				if err != nil {
					t.Errorf("%d modules at %+v: %v", g.Width, spot, err)
					continue
				}
				// A grey image of the symbol, slightly out of focus.
				radius := a.Pixels * float64(spot.Diameter) / 2 / float64(a.Module) // pixels; 0 = flat
				side := int(math.Ceil(a.Pixels*float64(max(g.Width, g.Height)+2*g.quiet))) + 8
				m := image.NewGray(image.Rect(0, 0, side, side))
				const samples = 4 // per side of a square of 1.5 pixels
				for i := range side * side {
					light := 0
					for s := range samples * samples {
						dx := float64(i%side) + 0.5 + ((float64(s%samples)+0.5)/samples-0.5)*1.5 - float64(side)/2
						dy := float64(i/side) + 0.5 + ((float64(s/samples)+0.5)/samples-0.5)*1.5 - float64(side)/2
						if radius != 0 && math.Abs(dx) < radius {
							dx = radius * math.Asin(dx/radius)
						}
						if !g.Dark(int(math.Floor(dx/a.Pixels+float64(g.Width)/2)), int(math.Floor(dy/a.Pixels+float64(g.Height)/2))) {
							light++
						}
					}
					m.Pix[i] = color.Gray{Y: uint8(40 + light*180/(samples*samples))}.Y
				}
				got, err := FindQR(m)
				assert.True(t, err == nil && got == text, "%d modules at %+v: FindQR of %+v = %q, %v", g.Width, spot, a, got, err)
			}
		}
	}
}

// TestSymbolAdvice_SizeGrowsWithDifficulty verifies that the advised size grows with distance, curvature, length of the text and dot size.
func TestSymbolAdvice_SizeGrowsWithDifficulty(t *testing.T) {
	t.Parallel()
	short := require.Value(QR("HTTPS://WEIXIN.QQ.COM/R/AB12CD34", 'M'))(t)
	long, err := QR("https://example.com/a/much/longer/path/of/a/product/and/its/lot?which=is&written=out&in=full&0123456789", 'M')
	require.NoError(t, err)
	advise := func(g Grid, spot Spot, cause Cause) Advice {
		t.Helper()
		a := require.Value(g.Advise(spot))(t)
		assert.True(t, a.By == cause && a.Module == LengthOf(a.Dots, spot.DPI), "Advise(%+v) = %+v, want the cause %s", spot, a, cause)
		return a
	}
	near := advise(short, Spot{Distance: 60_000, DPI: 203}, ByPrinter)
	assert.True(t, near.Dots == 2, "advice at 60 mm = %+v, want modules of 2 dots", near)
	far := advise(short, Spot{Distance: 300_000, DPI: 203}, ByDistance)
	bent := advise(short, Spot{Distance: 300_000, DPI: 1200, Diameter: 65_000}, ByCurve)
	flat := advise(short, Spot{Distance: 300_000, DPI: 1200}, ByDistance)
	assert.True(t, far.Width > near.Width && bent.Width > flat.Width && bent.Edge < 1 && bent.MaxWidth <= 65_000,
		"near %+v, far %+v, flat %+v, bent %+v", near, far, flat, bent)
	a := advise(long, Spot{Distance: 300_000, DPI: 203}, ByDistance)
	assert.True(t, a.Width > far.Width && a.Dots == far.Dots, "advice for a longer text = %+v, want a larger width and equal dots", a)
	_, err = long.Advise(Spot{Distance: 300_000, DPI: 300, Diameter: 20_000})
	_, ok := errors.AsType[*SizeError](err)
	assert.True(t, ok, "Advise with a diameter of 20 mm: %v, want a SizeError", err)
	for _, wrong := range []Spot{{Distance: 1, DPI: 300}, {Distance: 300_000, DPI: 3}, {Distance: 300_000, DPI: 300, Diameter: 1}} {
		assert.True(t, assert.ErrorOf(short.Advise(wrong)) != nil, "Advise(%+v) succeeded, want an error", wrong)
	}
}
